"The graph of halos against a count by hand, what must not change it, and a network that can be stopped and read."
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from symbolic_gn.core.contracts import Model
from symbolic_gn.core.errors import UserError
from symbolic_gn.dark_matter.catalogues import QUIJOTE_LH0, check_quijote_lh0
from symbolic_gn.dark_matter.graph import (
    LENGTH,
    PAPER_VIEW,
    HaloUnits,
    HaloView,
    halo_edges,
    halo_graph,
    inner_halos,
    join_graphs,
    neighbourhood,
    without_dense,
)
from symbolic_gn.dark_matter.halos import HaloCatalog
from symbolic_gn.dark_matter.network import (
    build_halo_network,
    field_errors,
    fit_halos,
    graph_for,
    halo_config,
    halo_messages,
    live_components,
    load_halo_run,
    mass_line,
    predicted_overdensity,
    random_axes,
    seen_along,
    step_radius,
)

BOX, CUTOFF = 60.0, 14.0
QUICK = dict(steps=8, batch=16, hidden=16, messages=4, device="cpu", looks=2, progress=False)


def scattered(seed: int = 0, halos: int = 250, reach: float = 10.0) -> HaloCatalog:
    "Halos anywhere, and around them what a law says: masses within reach (Mpc/h) count, and so does each neighbour."
    rng = np.random.default_rng(seed)
    place, mass = BOX * rng.random((halos, 3)), 1e13 * rng.lognormal(0, 0.7, halos)
    (j, i), away = halo_edges(place, BOX, reach)
    delta = np.bincount(i, 0.1 * (mass[j] / 1e13 + 1), halos) - 0.2
    return HaloCatalog(place, 200 * rng.normal(size=(halos, 3)), mass, BOX, overdensity=delta)


@pytest.fixture(scope="module")
def halos(): return scattered()


@pytest.fixture(scope="module")
def graph(halos): return halo_graph(halos, HaloView(cutoff=CUTOFF))


# edges


def by_hand(position, box, cutoff, periodic=True):
    "Sender and receiver of every pair, one halo after the other."
    found = []
    for i, here in enumerate(position):
        away = position - here
        away = away - box * np.round(away / box) if periodic else away
        near = np.flatnonzero(np.sqrt((away**2).sum(1)) < cutoff)
        found += [(j, i) for j in near if j != i]
    return np.array(found).T


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("cutoff", [3.0, 14.0, 29.9])
def test_edges_are_those_of_a_count_by_hand(halos, cutoff, periodic):
    edge_index, away = halo_edges(halos.position, BOX, cutoff, periodic)
    np.testing.assert_array_equal(edge_index, by_hand(halos.position, BOX, cutoff, periodic))
    assert np.linalg.norm(away, axis=1).max() < cutoff
    j, i = edge_index
    between = (halos.position[j] - halos.position[i] - away) / BOX
    np.testing.assert_allclose(between, np.round(between), atol=1e-9)


def test_every_edge_has_its_opposite_and_none_leads_home(halos):
    (j, i), away = halo_edges(halos.position, BOX, CUTOFF)
    back = {(a, b): d for a, b, d in zip(j, i, away)}
    assert all(np.allclose(back[b, a], -d) for (a, b), d in back.items()) and (i != j).all()


@pytest.mark.parametrize("shift", [(13.0, 47.0, 59.5), (-0.001, 0.0, 1000.3)])
def test_moving_the_whole_changes_no_edge_and_no_target(halos, graph, shift):
    moved = halo_graph(replace(halos, position=(halos.position + shift) % BOX), HaloView(cutoff=CUTOFF))
    assert torch.equal(moved.edge_index, graph.edge_index) and torch.equal(moved.y, graph.y)
    torch.testing.assert_close(moved.edge_attr, graph.edge_attr, atol=1e-6, rtol=0)


def test_naming_the_axes_anew_changes_no_edge_and_no_target(halos, graph):
    order = [2, 0, 1]
    other = replace(halos, position=halos.position[:, order], velocity=halos.velocity[:, order])
    turned = halo_graph(other, HaloView(cutoff=CUTOFF))
    assert torch.equal(turned.edge_index, graph.edge_index) and torch.equal(turned.y, graph.y)
    torch.testing.assert_close(turned.edge_attr, graph.edge_attr[:, order])


def test_naming_the_halos_anew_names_the_edges_anew(halos, graph):
    order = np.random.default_rng(1).permutation(len(halos))
    fields = {n: getattr(halos, n)[order] for n in ("position", "velocity", "mass", "overdensity")}
    other = halo_graph(replace(halos, **fields), HaloView(cutoff=CUTOFF))
    renamed = {tuple(e) for e in order[other.edge_index.numpy()].T}
    assert renamed == {tuple(e) for e in graph.edge_index.numpy().T}


def test_two_halves_have_the_edges_of_the_whole_inside(halos):
    whole = halo_edges(halos.position, BOX, CUTOFF)[0]
    for left in (halos.position[:, 0] < BOX / 2, halos.position[:, 0] >= BOX / 2):
        part = np.flatnonzero(left)
        half = part[halo_edges(halos.position[part], BOX, CUTOFF)[0]]
        np.testing.assert_array_equal(half, whole[:, left[whole].all(0)])


def test_float32_places_at_the_face_are_no_trouble():
    place = np.array([[0, 0, 0], [59.99999, 0, 0], [30, 30, 30], [0, 59.999996, 0]], np.float32)
    edge_index, away = halo_edges(place, BOX, 1.0)
    assert edge_index.shape[1] == 6 and np.abs(away).max() < 1e-4


@pytest.mark.parametrize("cutoff", [0.0, -3.0, 30.0, float("nan"), float("inf")])
def test_a_cutoff_that_cannot_be_is_told(halos, cutoff):
    with pytest.raises(UserError, match="half of the box"):
        halo_graph(halos, HaloView(cutoff=cutoff))


def test_the_border_of_an_open_box_is_masked(halos, graph):
    opened = halo_graph(halos, HaloView(cutoff=CUTOFF, periodic=False))
    mask = opened.mask.numpy()
    np.testing.assert_array_equal(mask, np.minimum(halos.position, BOX - halos.position).min(1) >= CUTOFF)
    assert 0 < mask.sum() < len(halos) and graph.mask.all()
    inside = lambda g: g.edge_index[:, opened.mask[g.edge_index[1]]]
    assert torch.equal(inside(opened), inside(graph)) and opened.num_edges < graph.num_edges
    with pytest.raises(UserError, match="so far from all faces"):
        halo_graph(replace(halos, position=halos.position % 5.0), HaloView(cutoff=CUTOFF, periodic=False))


def test_the_papers_view():
    assert (PAPER_VIEW.cutoff, PAPER_VIEW.periodic, PAPER_VIEW.masses) == (50.0, False, True)
    rng = np.random.default_rng(0)
    lost = 1 - inner_halos(1000 * rng.random((50_000, 3)), 1000.0, PAPER_VIEW.cutoff).mean()
    assert abs(lost - 0.271) < 0.01


def test_quijotes_numbers_are_asked_for_exactly(halos):
    assert QUIJOTE_LH0["edges"] / QUIJOTE_LH0["halos"] == pytest.approx(141.0, abs=0.01)
    with pytest.raises(UserError, match="it has 250 halos"):
        check_quijote_lh0(halos, 1)


# features


def test_features_are_in_the_papers_units(halos, graph):
    assert pytest.approx(288.675, abs=1e-3) == LENGTH
    assert graph.x.shape[1] == 4 and graph.x[:, 3].std() == pytest.approx(1, abs=0.01)
    assert graph.x[:, :3].std() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(graph.pos * LENGTH, halos.position, atol=1e-4)
    np.testing.assert_allclose(graph.edge_attr * LENGTH, halo_edges(halos.position, BOX, CUTOFF)[1], atol=1e-4)
    heavier = halo_graph(replace(halos, mass=2 * halos.mass), HaloView(cutoff=CUTOFF), HaloUnits.of([halos]))
    torch.testing.assert_close(heavier.x[:, 3], 2 * graph.x[:, 3])


def test_without_masses_nothing_tells_a_mass(halos):
    view = HaloView(cutoff=CUTOFF, masses=False)
    units = HaloUnits.of([halos])
    one, other = halo_graph(halos, view, units), halo_graph(replace(halos, mass=halos.mass[::-1].copy()), view, units)
    assert torch.equal(one.x, other.x) and one.x.shape[1] == 3


def test_halos_without_matter_have_no_target(halos):
    with pytest.raises(UserError, match="nothing to explain"):
        halo_graph(replace(halos, overdensity=None), HaloView(cutoff=CUTOFF))


@pytest.mark.parametrize("field", ["velocity", "mass"])
def test_what_does_not_differ_has_no_spread(halos, field):
    flat = replace(halos, **{field: np.full_like(getattr(halos, field), 2.0)})
    with pytest.raises(UserError, match=f"the same {field}"):
        halo_graph(flat, HaloView(cutoff=CUTOFF))


def test_a_neighbourhood_is_what_its_receivers_hear(graph):
    receivers = torch.tensor([7, 249, 0, 100])
    part = neighbourhood(graph, receivers)
    assert part.validate() and torch.equal(part.node[: len(receivers)], receivers)
    for k, halo in enumerate(receivers):
        mine = part.edge_index[1] == k
        assert torch.equal(part.node[part.edge_index[0, mine]], graph.edge_index[0, graph.edge_index[1] == halo])
    assert part.mask.sum() == len(receivers) and part.num_edges == len(part.edge)


def test_a_lonely_halo_hears_nothing():
    place = np.array([[5.0, 5, 5], [6, 5, 5], [40, 40, 40], [5, 6, 5]])
    delta = np.array([1.0, 1, -1, 1])
    lonely = HaloCatalog(place, np.arange(12.0).reshape(4, 3), np.arange(1.0, 5), BOX, overdensity=delta)
    graph = halo_graph(lonely, HaloView(cutoff=5.0))
    assert neighbourhood(graph, torch.tensor([2])).num_edges == 0
    network = build_halo_network(halo_config(hidden=8, messages=2), {"masses": True})
    assert np.isfinite(predicted_overdensity(network, graph)).all()


def test_graphs_join_as_pytorch_geometric_joins_them(graph):
    other = halo_graph(scattered(1, 200), HaloView(cutoff=CUTOFF))
    joined = join_graphs([graph, other])
    batch = next(iter(DataLoader([graph, other], batch_size=2, exclude_keys=["first"])))
    assert torch.equal(joined.edge_index, batch.edge_index) and torch.equal(joined.x, batch.x)
    assert joined.first[-1] == joined.num_edges and len(joined.first) == 451
    late = neighbourhood(joined, torch.tensor([250 + 17]))
    assert torch.equal(late.x, neighbourhood(other, torch.tensor([17])).x)


def test_dense_halos_send_and_are_not_asked(graph):
    limit = float(graph.y.median())
    calm = without_dense(graph, limit)
    assert torch.equal(calm.edge_index, graph.edge_index) and graph.mask.all()
    assert torch.equal(calm.mask, graph.y <= limit)
    with pytest.raises(UserError, match="nothing left to fit"):
        without_dense(graph, float(graph.y.min()) - 1)


# network


def test_the_network_keeps_the_contract(graph):
    network = build_halo_network(halo_config(hidden=8, messages=2), {"masses": True})
    assert isinstance(network, Model) and network.messages_are == "linear"
    assert (network.phi_e[0].in_features, network.phi_v[0].in_features, network.phi_v[-1].out_features) == (11, 6, 1)
    assert network.finish(graph) == {}
    paper = build_halo_network(halo_config(paper=True), {"masses": False})
    widths = [m.out_features for m in paper.phi_e if hasattr(m, "out_features")]
    assert widths == [500, 500, 500, 100] and paper.phi_e[0].in_features == 9


def test_a_prediction_is_made_of_the_messages_alone(graph):
    network = build_halo_network(halo_config(hidden=16, messages=3), {"masses": True})
    network.prepare(graph)
    with torch.no_grad():
        said = network.predict(graph)
        total = torch.zeros(len(graph.x), 3).index_add(0, graph.edge_index[1], said.messages)
        again = network.phi_v(torch.cat([graph.x, total], 1))[:, 0]
    torch.testing.assert_close(said.overdensity, again)
    assert network.reach == graph.edge_attr.norm(dim=1).max()


def test_parts_say_what_the_whole_says(graph):
    network = build_halo_network(halo_config(hidden=16, messages=3), {"masses": True})
    with torch.no_grad():
        whole = network.predict(graph)
    np.testing.assert_allclose(predicted_overdensity(network, graph), whole.overdensity, atol=1e-5)
    some = np.array([3, 200, 11])
    part = predicted_overdensity(network, graph, some)
    assert set(np.flatnonzero(np.isfinite(part))) == set(some)
    said = halo_messages(network, graph)
    np.testing.assert_allclose(said.components, whole.messages, atol=1e-5)
    np.testing.assert_allclose(said.displacement, graph.edge_attr, atol=1e-5)
    np.testing.assert_allclose(said.state_j[:, -1], graph.mass[graph.edge_index[0]], rtol=1e-6)


def test_other_axes_are_another_view_of_the_same(graph):
    rng = np.random.default_rng(0)
    part = neighbourhood(graph, torch.arange(4))
    axes = random_axes(rng)
    turned = seen_along(part, axes)
    assert axes.abs().sum() == 3 and torch.equal(turned.edge_index, part.edge_index) and torch.equal(turned.y, part.y)
    torch.testing.assert_close(turned.edge_attr.norm(dim=1), part.edge_attr.norm(dim=1))
    along = lambda g: (g.edge_attr * g.x[g.edge_index[1], :3]).sum(1)
    torch.testing.assert_close(along(turned), along(part))
    assert torch.equal(turned.x[:, 3:], part.x[:, 3:])


@pytest.mark.parametrize("settings, told", [
    (dict(stepz=3), "did you mean 'steps'"), (dict(batch=0), "batch is 0"), (dict(loss="mea"), "choose from mae"),
    (dict(augment=3.0), "setting 'augment' is unknown"), (dict(steps=2.5), "steps is 2.5"),
    (dict(hidden="wide"), "hidden is 'wide'"), (dict(time_limit=0), "above 0"),
    (dict(above=-9.0), "nothing left to fit"),
])
def test_settings_that_cannot_be_are_told(halos, tmp_path, settings, told):
    with pytest.raises(UserError, match=told):
        fit_halos(halos, halos, HaloView(cutoff=CUTOFF), **{**QUICK, "out": tmp_path / "run", **settings})
    assert not (tmp_path / "run").exists()


def test_the_same_seed_the_same_weights_and_stopped_runs_go_on(halos, tmp_path):
    view, unseen = HaloView(cutoff=CUTOFF), scattered(1)
    whole = fit_halos([halos, scattered(2)], unseen, view, seed=4, **QUICK)
    part = fit_halos([halos, scattered(2)], unseen, view, seed=4, **QUICK, out=tmp_path, time_limit=1e-9)
    assert not part.finished and len(part.history) == 1
    rest = fit_halos([halos, scattered(2)], unseen, view, seed=4, **QUICK, out=tmp_path, resume=True)
    back = load_halo_run(tmp_path)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, rest.model.state_dict()[name]) and torch.equal(weight, back.model.state_dict()[name])
    assert back.finished and back.config == whole.config and back.data == whole.data
    assert whole.history["step"].tolist() == [4, 8]
    graph = graph_for(back, unseen)
    np.testing.assert_array_equal(predicted_overdensity(back.model, graph), predicted_overdensity(whole.model, graph))
    other = fit_halos([halos, scattered(2)], unseen, view, seed=5, **QUICK)
    assert not torch.equal(other.model.phi_e[0].weight, whole.model.phi_e[0].weight)
    with pytest.raises(UserError, match="was made with cutoff = 14.0, not 10.0"):
        fit_halos([halos, scattered(2)], unseen, HaloView(10.0), seed=4, **QUICK, out=tmp_path, resume=True)


def test_files_that_are_none_are_told(halos, tmp_path):
    with pytest.raises(UserError, match="is missing"):
        load_halo_run(tmp_path)
    fit_halos(halos, halos, HaloView(cutoff=CUTOFF), **{**QUICK, "steps": 1}, out=tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"none")
    with pytest.raises(UserError, match="damaged"):
        load_halo_run(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is not a run.s configuration"):
        load_halo_run(tmp_path)


def test_a_unit_learned_in_one_universe_is_kept_in_another(halos):
    run = fit_halos(halos, halos, HaloView(cutoff=CUTOFF), **{**QUICK, "steps": 1})
    other = replace(halos, mass=3 * halos.mass, velocity=2 * halos.velocity)
    torch.testing.assert_close(graph_for(run, other).x, graph_for(run, halos).x * torch.tensor([2.0, 2, 2, 3]))


def test_errors_are_told_apart():
    truth, said = np.array([0.0, 0.5, 2.0, 3.0]), np.array([0.1, 0.5, 1.0, np.nan])
    found = field_errors(said, truth)
    assert found == pytest.approx(dict(mae=1.1 / 3, inside=0.05, outside=1.0, share_outside=1 / 3))
    assert np.isnan(field_errors(said[:2], truth[:2])["outside"])


# reading


def spoken(graph, message):
    "What a network would say that sends a known message, and a faint echo of it."
    network = build_halo_network(halo_config(hidden=8, messages=2), {"masses": True})
    said = halo_messages(network, graph)
    made = message(said.r * LENGTH, said.state_j[:, -1])
    return replace(said, components=np.stack([0.001 * made, -made], 1))


@pytest.mark.parametrize("radius", [16.0, 20.0, 24.0])
def test_a_step_is_found_where_it_is(halos, radius):
    graph = halo_graph(halos, HaloView(cutoff=29.0))
    said = spoken(graph, lambda r, mass: (mass + 0.4) / (1 + np.exp(2 * (r - radius))))
    assert step_radius(said) == pytest.approx(radius, abs=0.5)
    assert live_components(said.components).tolist() == [1]
    flat = spoken(graph, lambda r, mass: mass)
    assert np.isnan(step_radius(flat))


def test_a_line_in_the_mass_is_told_from_none(graph):
    line = mass_line(spoken(graph, lambda r, mass: 0.02 * (mass + 0.4)), within=CUTOFF)
    assert line == pytest.approx(dict(offset=0.008, slope=0.02, r2=1.0), abs=1e-6)
    noise = np.random.default_rng(0)
    none = mass_line(spoken(graph, lambda r, mass: 1 + noise.normal(size=len(r))), within=CUTOFF)
    assert none["r2"] < 0.05


def test_a_network_learns_a_law_of_neighbours():
    "All that it sees counts, by its mass and a fixed amount; and one message says so more loudly than the others."
    worlds = [scattered(seed, reach=CUTOFF) for seed in range(3)]
    settings: dict = dict(steps=500, batch=100, hidden=32, messages=4, device="cpu", looks=1, progress=False)
    run = fit_halos(worlds[:2], worlds[2], HaloView(cutoff=CUTOFF), **settings)
    truth = worlds[2].overdensity
    constant = np.abs(truth - np.median(truth)).mean()
    assert run.history["mae"].iloc[-1] < 0.15 * constant
    line = mass_line(halo_messages(run.model, graph_for(run, worlds[2])), within=CUTOFF)
    assert line["r2"] > 0.8 and line["slope"] > 0 and line["offset"] > 0
    assert "dark_matter" in repr(run)
