"Graph networks: counts, formulas, symmetries, hooks, and inputs at the edge of what a network can bear."
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from symbolic_gn import models as M
from symbolic_gn.core import contracts
from symbolic_gn.core.errors import UserError
from symbolic_gn.core.graph import edges as graph_edges
from symbolic_gn.models import (
    MODELS,
    Architecture,
    Custom,
    batch_edges,
    keep_strongest,
    make_model,
    nodes,
    parameter_count,
    prune_count,
    reverse_edges,
)

SMALL = dict(hidden=12, layers=2)
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=10, deadline=None)


def all_pairs(bodies):
    return torch.as_tensor(graph_edges("all", bodies))


def world(seed, graphs=1, bodies=4, dim=2):
    "Node vectors of random bodies."
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(graphs, bodies, *shape, generator=g)
    return nodes(draw(dim), draw(dim), draw().exp(), draw())


def small(name, dim=2, **options):
    "A small model whose every layer speaks (the correction starts at nothing otherwise)."
    torch.manual_seed(5)
    model = make_model(name, dim, **{**SMALL, **options})
    for part in model.modules():
        if isinstance(part, nn.Linear) and not part.weight.any():
            nn.init.normal_(part.weight, std=0.1)
    return model.eval()


def assert_close(a, b, tolerance=1e-4):
    "Equal within float32, relative to the largest value."
    assert a.shape == b.shape
    assert float((a - b).detach().abs().max()) <= tolerance * (1 + float(b.detach().abs().max()))


# parameter counts (facts 2.1, 9)


COUNTS = {  # 2-D, 3-D; the Hamiltonian network is the original's with Softplus
    "standard": (427_902, 430_003), "l1": (427_902, 430_003), "prune": (427_902, 430_003),
    "bottleneck": (369_004, 371_706), "kl": (458_002, 460_103), "flat_hgn": (367_802, 369_602), "pm": (1_059_102, None),
    "cust": (457_902, None)
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_originals(name):
    for dim, count in zip((2, 3), COUNTS[name]):
        if count:
            assert parameter_count(make_model(name, dim, paper=True)) == count


def test_three_dimensions_of_the_fork_follow_from_its_widths():
    inputs, node = 2 * 8, 8 + 100
    tail = node * 300 + 300 + 2 * (300 * 300 + 300) + 300 * 3 + 3
    sizes = [inputs, 300, 450, 600, 450, 300, 100]
    assert parameter_count(make_model("pm", 3, paper=True)) == sum((a + 1) * b for a, b in zip(sizes, sizes[1:])) + tail
    assert parameter_count(make_model("cust", 3, paper=True)) == (inputs + 1) * 300 + 2 * 301 * 300 + 601 * 100 + tail


NAMES = [*COUNTS, "newton", "eql"]  # those that bodies need no numbers for


def test_every_model_is_counted_or_new():
    assert set(MODELS) == {*NAMES, "orrery", "lookup"}


# formulas


def test_custom_is_the_forks_formula():
    torch.manual_seed(0)
    f, v = Custom(6, 5, Architecture(hidden=4)), torch.randn(7, 6)
    h = torch.relu(v @ f.first.weight.T + f.first.bias)
    u = (1 / (1 + h)) @ f.once.weight.T + f.once.bias
    w = (1 / (1 + h) ** 2) @ f.twice.weight.T + f.twice.bias
    assert_close(f(v), torch.cat([u, w], 1) @ f.out.weight.T + f.out.bias, 1e-6)


@pytest.mark.parametrize("activation", M.ACTIVATIONS)
def test_plus_minus_is_the_forks_formula(activation):
    torch.manual_seed(0)
    f = M.plus_minus(12, 100, Architecture(hidden=300, activation=activation))
    linear = [part for part in f if isinstance(part, nn.Linear)]
    assert [part.out_features for part in linear] == [300, 450, 600, 450, 300, 100]
    v, act = torch.randn(3, 12), M.ACTIVATIONS[activation]()
    y = v
    for k, part in enumerate(linear):
        y = part(act(y) if k else y)
    assert_close(f(v), y, 1e-6)


def test_pm_messages_are_a_third_of_the_width():
    assert small("pm", hidden=12, messages=50).arch.messages == 4


def test_mlp_has_the_layers_it_is_asked_for():
    f = M.mlp(3, 2, Architecture(hidden=7, layers=4, activation="tanh"))
    assert [p.shape for p in f.parameters() if p.ndim == 2] == [(7, 3), (7, 7), (7, 7), (7, 7), (2, 7)]
    assert isinstance(f[-1], nn.Linear) and isinstance(f[1], nn.Tanh)


def test_paper_network_is_a_sum_of_messages_and_a_node_network():
    model, x, edges = (
        small("standard", coordinates="absolute", compress=False, update="free", activation="relu"), world(3),
        all_pairs(4)
    )
    with torch.no_grad():
        e = model.phi_e(torch.cat([x[edges[1]], x[edges[0]]], 1))  # receiver first
        total = torch.zeros(4, 100).index_add(0, edges[1], e)
        assert_close(model(x, edges), model.phi_v(torch.cat([x, total], 1)), 1e-5)
        assert_close(model.messages(x, edges), e, 1e-6)


def test_nodes_follow_the_originals_layout():
    x = nodes(torch.full((1, 2, 3), 1.0), torch.full((1, 2, 3), 2.0), torch.full((1, 2), 4.0), torch.full((1, 2), 3.0))
    assert x.tolist() == [[1, 1, 1, 2, 2, 2, 3, 4]] * 2  # charge -2, mass -1


def test_edges_are_sorted_by_receiver_and_batches_block_diagonal():
    edges = all_pairs(3)
    assert edges.tolist() == [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]]
    assert batch_edges(edges, 3, 2).tolist() == [
        [1, 2, 0, 2, 0, 1, 4, 5, 3, 5, 3, 4], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    ]


@few
@given(seeds, st.integers(2, 6), st.integers(1, 4))
def test_reverse_finds_each_opposite_whatever_the_order(seed, bodies, graphs):
    edges = batch_edges(all_pairs(bodies), bodies, graphs)
    edges = edges[:, torch.randperm(edges.shape[1], generator=torch.Generator().manual_seed(seed))]
    assert torch.equal(edges[:, reverse_edges(edges)], edges.flip(0))


def test_an_edge_without_its_opposite_is_named():
    with pytest.raises(UserError, match="without its opposite"):
        reverse_edges(torch.tensor([[0, 1, 2], [1, 0, 0]]))


# symmetries


@few
@given(seeds, st.sampled_from(NAMES), st.sampled_from([2, 3]))
def test_permuting_bodies_permutes_accelerations(seed, name, dim):
    model, x = small(name, dim), world(seed, dim=dim)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    a = model(x, all_pairs(4))
    assert_close(model(x[order], all_pairs(4)), a[order])


@few
@given(seeds, st.sampled_from(NAMES))
def test_the_order_of_edges_changes_only_the_order_of_messages(seed, name):
    model, x, edges = small(name), world(seed), all_pairs(4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    assert_close(model.messages(x, edges[:, order]), model.messages(x, edges)[order])
    assert_close(model(x, edges[:, order]), model(x, edges))


@few
@given(seeds, st.sampled_from(NAMES), st.booleans(), st.floats(-3, 3))
def test_relative_coordinates_do_not_see_where_the_world_is(seed, name, compress, shift):
    model, x = small(name, compress=compress), world(seed)
    moved = x.clone()
    moved[:, :2] += shift
    assert_close(model(moved, all_pairs(4)), model(x, all_pairs(4)), 1e-3)


def test_absolute_coordinates_do_see_it():
    model, x = small("standard", coordinates="absolute"), world(0)
    moved = x.clone()
    moved[:, :2] += 1
    assert not torch.allclose(model(moved, all_pairs(4)), model(x, all_pairs(4)), atol=1e-3)


@few
@given(seeds, st.sampled_from([2, 3]), st.sampled_from(["relative", "absolute"]))
def test_newton_acts_and_reacts(seed, dim, coordinates):
    model, x, edges = (
        small("newton", dim, coordinates=coordinates), world(seed, 3, dim=dim), batch_edges(all_pairs(4), 4, 3)
    )
    force = model.messages(x, edges)
    assert_close(force[reverse_edges(edges)], -force, 1e-6)
    assert_close(model.messages(x, edges, reverse_edges(edges)), force, 0)
    a = model(x, edges)
    total = torch.zeros(12, dim).index_add(0, edges[1], force)
    assert_close(a * x[:, -1:], total, 1e-5)


@few
@given(seeds, st.sampled_from(["newton", "flat_hgn"]), st.sampled_from([2, 3]))
def test_momentum_is_kept(seed, name, dim):
    model, x = small(name, dim), world(seed, dim=dim)
    push = model(x, all_pairs(4)) * x[:, -1:]
    assert torch.allclose(push.sum(0), torch.zeros(dim), atol=1e-4 * (1 + float(push.detach().abs().max())))


def test_newton_without_antisymmetry_loses_momentum():
    torch.manual_seed(0)
    model, x = M.NewtonNetwork(Architecture(**SMALL), antisymmetric=False), world(1)
    assert not torch.allclose((model(x, all_pairs(4)) * x[:, -1:]).sum(0), torch.zeros(2), atol=1e-3)


@few
@given(seeds, st.sampled_from(["absolute", "relative"]), st.booleans())
def test_hamiltonian_force_is_minus_the_gradient_of_the_pair_energies(seed, coordinates, compress):
    model, x, edges = (
        small("flat_hgn", coordinates=coordinates, compress=compress).double(), world(seed).double(), all_pairs(4)
    )
    model.scale.fill_(2.5)
    # in float64, for the differences
    decompress, M.decompress = M.decompress, lambda y, compress: torch.sinh(y) if compress else y
    try:
        push, step = model.pair_force(x, edges).detach(), 1e-6
        for k in range(12):
            j, i = edges[:, k]
            both = (edges == torch.tensor([[i], [j]])).all(0) | (edges == torch.tensor([[j], [i]])).all(0)
            for axis in range(2):
                there, back = x.clone(), x.clone()
                there[i, axis] += step
                back[i, axis] -= step
                slope = (
                    model.messages(there, edges)[both].sum() - model.messages(back, edges)[both].sum()
                ).detach() / (2 * step)
                assert float(push[k, axis]) == pytest.approx(-float(slope), rel=1e-5, abs=1e-6)
    finally:
        M.decompress = decompress


def test_hamiltonian_accelerations_sum_the_pair_forces_where_energies_of_one_body_are_flat():
    model, x, edges = small("flat_hgn"), world(2), all_pairs(4)  # relative: own energy knows no position
    total = torch.zeros(4, 2).index_add(0, edges[1], model.pair_force(x, edges))
    assert_close(model(x, edges), total / x[:, -1:], 1e-5)


def test_hamiltonian_penalty_is_the_papers():
    model, x, edges = small("flat_hgn"), world(4).requires_grad_(), all_pairs(4)
    pair = model.messages(x, edges)
    own = model.scale * M.decompress(model.h_self(model.view_node(x)), True)
    slope = torch.autograd.grad(pair.sum() + own.sum(), x)[0]
    energy = own + torch.zeros(4, 1).index_add(0, edges[1], pair)
    assert_close(model.predict(x, edges).penalty, energy.square()[:, 0] + slope[:, 4:].square().sum(1), 1e-4)


def test_relu_is_replaced_where_forces_are_slopes():
    assert make_model("flat_hgn", paper=True).arch.activation == "softplus"
    assert make_model("flat_hgn", activation="tanh", **SMALL).arch.activation == "tanh"


def test_only_formulas_promise_rotation_but_distances_turn_with_the_world():
    x = world(7)
    c, s = np.cos(1.0), np.sin(1.0)
    turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float32)
    turned = torch.cat([x[:, :2] @ turn.T, x[:, 2:4] @ turn.T, x[:, 4:]], 1)
    for name in NAMES:
        model = small(name)
        assert torch.allclose(model(turned, all_pairs(4)), model(x, all_pairs(4)) @ turn.T, atol=1e-3) == (
            name == "eql"
        ), name
    i, j = all_pairs(4)[1], all_pairs(4)[0]
    for view, column in ((M.relative_edge, 2), (M.compressed_edge, 3)):
        assert_close(view(turned[i], turned[j], 2)[:, column], view(x[i], x[j], 2)[:, column], 1e-5)  # r


# batches


@few
@given(seeds, st.sampled_from(NAMES))
def test_a_batch_is_its_graphs_one_by_one(seed, name):
    model, x, pairs = small(name), world(seed, 3), all_pairs(4)
    together = model(x, batch_edges(pairs, 4, 3))
    assert_close(together, torch.cat([model(part, pairs) for part in x.split(4)]))
    said = model.messages(x, batch_edges(pairs, 4, 3))
    assert_close(said, torch.cat([model.messages(part, pairs) for part in x.split(4)]))


@pytest.mark.parametrize("name", NAMES)
def test_accelerations_come_in_chunks_as_arrays(name, springs):
    model = small(name)
    arrays = springs.position[:5, 3], springs.velocity[:5, 3], springs.mass[:5], springs.charge[:5]
    a = M.accelerations(model, *arrays, springs.edge_index, chunk=2)
    assert a.dtype == np.float32 and a.shape == (5, 4, 2)
    np.testing.assert_allclose(a, M.accelerations(model, *arrays, springs.edge_index), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_any_edges_will_do(name):
    model, x = small(name), world(0)
    chain = torch.tensor([[1, 0, 2, 1, 3, 2], [0, 1, 1, 2, 2, 3]])
    a = model(x, chain)
    far = x.clone()
    far[3, :4] += 1
    assert torch.equal(model(far, chain)[:2], a[:2])  # the first two do not see the last
    assert not torch.equal(model(far, chain)[2:], a[2:])


# distributions


def test_kl_penalty_and_moments_are_the_originals():
    model, x, edges = small("kl", compress=False, messages=5), world(1), all_pairs(4)
    out = model.edge_updater(edges, x=x)
    mean, logvar = model.moments(x, edges)
    assert torch.equal(mean, out[:, 0::2]) and torch.equal(logvar, out[:, 1::2])  # interleaved, as in the code
    assert_close(model.predict(x, edges).penalty, 0.5 * (mean**2 + logvar.exp() - logvar).sum(1), 1e-6)
    assert torch.equal(model.messages(x, edges), mean)


def test_kl_draws_while_it_learns_and_not_after():
    model, x, edges = small("kl"), world(1), all_pairs(4)
    assert torch.equal(model(x, edges), model(x, edges))
    model.train()
    assert not torch.equal(model(x, edges), model(x, edges))
    torch.manual_seed(3)
    first = model(x, edges)
    torch.manual_seed(3)
    assert torch.equal(first, model(x, edges))


def test_kl_draws_have_the_spread_that_was_promised():
    model, x, edges = small("kl", messages=3, compress=False).train(), world(1), all_pairs(4)
    mean, logvar = model.moments(x, edges)
    drawn = []
    update, model.update_nodes = (
        model.update_nodes, lambda x, e, edges: (drawn.append(e.detach()), update(x, e, edges))[1]
    )
    for _ in range(2000):
        model.predict(x, edges)
    drawn = torch.stack(drawn)
    mean, spread = mean.detach(), (logvar / 2).exp().detach()
    assert float(((drawn.mean(0) - mean) / spread).abs().max()) < 0.15
    assert float((drawn.std(0) / spread - 1).abs().max()) < 0.15


def test_extreme_variances_are_bounded():
    model, x = small("kl", compress=False), world(1)
    with torch.no_grad():
        model.phi_e[-1].bias.fill_(1e4)
    assert float(model.moments(x, all_pairs(4))[1].detach().max()) == 10
    assert torch.isfinite(model.predict(x, all_pairs(4)).penalty).all()


# pruning


@few
@given(st.integers(3, 200), st.integers(1, 3), st.floats(0.05, 1))
def test_pruning_goes_down_from_all_to_few(first, last, end):
    counts = [prune_count(p, first, last, end) for p in np.linspace(0, 1, 101)]
    assert counts[0] == first and prune_count(end, first, last, end) == last == counts[-1]
    assert all(a >= b for a, b in zip(counts, counts[1:]))


def test_pruning_is_half_done_half_way():
    assert prune_count(0.175, 100, 2) == 51


def test_only_the_strongest_components_speak_on():
    model, x, edges = small("prune", messages=6), world(1), all_pairs(4)
    keep_strongest(model, torch.tensor([1.0, 5, 2, 4, 3, 0]), 3)
    assert model.active.tolist() == [0, 1, 0, 1, 1, 0]
    keep_strongest(model, torch.tensor([9.0, 1, 9, 3, 2, 9]), 2)  # those switched off stay off
    assert model.active.tolist() == [0, 0, 0, 1, 1, 0]
    said = model.messages(x, edges)
    assert not said[:, [0, 1, 2, 5]].any() and said[:, [3, 4]].all()


def test_pruned_components_are_part_of_the_weights():
    assert "active" in small("prune").state_dict() and "scale" in small("newton").state_dict()


# every combination


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dim", [2, 3])
def test_every_view_bears_bodies_that_almost_touch(name, dim):
    x = world(1, dim=dim)
    x[1, :dim] = x[0, :dim] + 1e-6
    for coordinates, compress, update in itertools.product(
        ["absolute", "relative"], [False, True], ["free", "residual"]
    ):
        model = small(name, dim, coordinates=coordinates, compress=compress, update=update).train()
        found = model.predict(x, all_pairs(4))
        found.acceleration.abs().sum().backward()
        trials = (model.arch.trials,) if name == "eql" else ()  # equation learners train side by side
        assert found.acceleration.shape == (*trials, 4, dim) and torch.isfinite(found.acceleration).all()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_wide_ranges_stay_finite(name):
    x = world(1)
    x[:, :4] *= 1e4
    x[0, -1], x[1, -1] = 1e-6, 1e6
    assert torch.isfinite(small(name)(x, all_pairs(4))).all()


def test_residual_update_starts_as_a_linear_decoder():
    torch.manual_seed(0)
    model, x, edges = make_model("bottleneck", **SMALL), world(2), all_pairs(4)
    found = model.predict(x, edges)
    total = torch.zeros(4, 2).index_add(0, edges[1], found.messages)
    assert not found.correction.any()
    assert_close(found.acceleration, total @ model.decoder.weight.T, 1e-5)
    assert_close(model.decoder.weight @ model.decoder.weight.T, torch.eye(2), 1e-5)


def test_scale_multiplies_what_is_predicted():
    for name in ("l1", "newton", "flat_hgn"):
        model, x = small(name), world(0)
        before = model(x, all_pairs(4))
        model.scale.fill_(3.0)
        assert_close(model(x, all_pairs(4)), 3 * before, 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_one_message_an_edge_and_what_it_means(name):
    model, x = small(name, messages=9), world(0)
    wide = {"bottleneck": 2, "newton": 2, "eql": 2, "flat_hgn": 1, "pm": 4}.get(name, 9)
    assert model.messages(x, all_pairs(4)).shape == (12, wide)
    assert model.messages_are == {"newton": "force", "eql": "force", "flat_hgn": "energy"}.get(name, "linear")
    assert model.name == name and len(MODELS[name].idea) > 5


def test_l1_penalty_is_the_sum_of_absolute_components():
    model, x = small("l1"), world(0)
    found = model.predict(x, all_pairs(4))
    assert torch.equal(found.penalty, found.messages.abs().sum(1))


# further properties of bodies


def spinning(seed, graphs=1, bodies=4, dim=2):
    "Node vectors of random bodies that carry a spin before charge and mass."
    x = world(seed, graphs, bodies, dim)
    spin = torch.randn(len(x), 1, generator=torch.Generator().manual_seed(seed + 1))
    return torch.cat([x[:, : 2 * dim], spin, x[:, 2 * dim :]], 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("coordinates, compress", [("relative", True), ("relative", False), ("absolute", False)])
def test_a_further_property_is_seen(name, coordinates, compress):
    model, x = small(name, others=("spin",), coordinates=coordinates, compress=compress), spinning(3)
    assert model.arch.features == 7
    other = x.clone()
    other[:, 4] += 1
    assert not torch.allclose(model.messages(other, all_pairs(4)), model.messages(x, all_pairs(4)))


def test_further_properties_stand_before_charge_and_mass(springs):
    "Arrays reach a network with its further properties, in the order in which it knows them."
    bodies, dim = springs.bodies, springs.dim
    spin, size = np.random.default_rng(0).normal(size=(2, 5, bodies)).astype("float32")
    seen = []

    class Listener(M.NewtonNetwork):
        def predict(self, x, edge_index, reverse=None):
            seen.append(x)
            return super().predict(x, edge_index, reverse)

    model = Listener(Architecture(**SMALL, others=("spin", "size")))
    arrays = springs.position[:5, 3], springs.velocity[:5, 3], springs.mass[:5], springs.charge[:5]
    a = M.accelerations(model, *arrays, springs.edge_index, spin=spin, size=size)
    assert a.shape == (5, bodies, dim)
    x = seen[0].reshape(5, bodies, -1).numpy()
    for column, values in zip((4, 5, 6, 7), (spin, size, springs.charge[:5], springs.mass[:5])):
        np.testing.assert_array_equal(x[..., column], values)
    np.testing.assert_array_equal(model.accelerations(*arrays, springs.edge_index, spin=spin, size=size), a)


# the contract


@pytest.mark.parametrize("name", MODELS)
def test_every_model_keeps_the_contract(name):
    model = make_model(name, bodies=4, hidden=8)
    assert model.messages_are in ("force", "linear", "energy")
    for hook in ("prepare", "on_step", "on_look", "finish", "hear", "read", "tell"):
        assert callable(getattr(model, hook)), hook


@pytest.mark.parametrize("name", sorted({*COUNTS, "newton"} - {"flat_hgn"}))
def test_hooks_that_a_model_does_not_need_do_nothing(name):
    class Anything(contracts.Objective): pass  # noqa: E701

    model = small(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert model.prepare(None) is None and model.on_step(0.5) is None and model.on_look(None) is None
    assert model.finish(None) == {} and model.tell(None, None) == {}
    assert model.hear("said", None) == "said" and model.read("said", Anything()) is None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    for hook in ("prepare", "on_step", "on_look", "finish", "hear", "read", "tell"):
        assert getattr(type(model), hook) is getattr(contracts.Model, hook)


def test_energies_are_heard_as_forces():
    @dataclasses.dataclass
    class Said:
        messages_are: str

    assert small("flat_hgn").hear(Said("energy"), None).messages_are == "force"


# errors


@pytest.mark.parametrize("call, words", [
    (lambda: make_model("netwon"), ["'netwon'", "did you mean 'newton'?", "flat_hgn"]),
    (lambda: make_model("l1", hiden=3), ["'hiden'", "did you mean 'hidden'?"]),
    (lambda: make_model("l1", activation="rellu"), ["activation", "'relu'"]),
    (lambda: make_model("l1", coordinates="polar"), ["coordinates", "relative, absolute"]),
    (lambda: make_model("l1", update="none"), ["update", "residual, free"]),
])
def test_unknown_words_are_named_with_what_there_is(call, words):
    with pytest.raises(UserError) as caught:
        call()
    said = str(caught.value)
    assert all(word in said for word in words) and "\n" not in said


def test_architecture_counts_its_features():
    assert Architecture(dim=3).features == 8 and dataclasses.replace(Architecture(), others=("spin",)).features == 7
