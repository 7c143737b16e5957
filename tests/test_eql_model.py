"The graph network whose messages are an equation learner."
import dataclasses
import json
import math

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn import analyze
from symbolic_gn.core import graph
from symbolic_gn.core.errors import UserError
from symbolic_gn.discover import discover
from symbolic_gn.eql.messages import (
    EQL_MESSAGES,
    FAITHFUL,
    EQLNetwork,
    choose_trial,
    each_trial,
    finish_trials,
    formula_of,
    set_input_units,
    thrift_at,
)
from symbolic_gn.fit.objective import Accelerations
from symbolic_gn.laws.equivalence import equivalent
from symbolic_gn.laws.formula import evaluate, rounded, symbol
from symbolic_gn.models import MODELS, Architecture, accelerations, batch_edges, make_model, nodes, reverse_edges
from symbolic_gn.report import report, row_of
from symbolic_gn.simulate import SYSTEMS, simulate
from symbolic_gn.train import fit
from symbolic_gn.training.config import Config, check_config, make_config
from symbolic_gn.training.runs import Run

torch.set_num_threads(1)
SMALL = dict(architecture=dict(trials=2), progress=False)


def all_pairs(bodies):
    return torch.as_tensor(graph.edges("all", bodies))


def scene(graphs=3, bodies=4, dim=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g)
    x = nodes(draw(graphs, bodies, dim), draw(graphs, bodies, dim), draw(graphs, bodies).exp(), draw(graphs, bodies))
    return x, batch_edges(all_pairs(bodies), bodies, graphs)


def network(dim=2, seed=0, **settings):
    torch.manual_seed(seed)
    return make_model("eql", dim, **settings).eval()


def springs(x, edges, dim=2):
    j, i = edges
    d = x[j, :dim] - x[i, :dim]
    r = d.norm(dim=1, keepdim=True)
    return torch.zeros(len(x), dim).index_add(0, i, (2 * r - 1.98) * d / r) / x[:, -1:]


@pytest.fixture(scope="module")
def toy(): return simulate("spring", simulations=24, frames=10, every=5)


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory): return fit(toy, "eql", steps=60, out=tmp_path_factory.mktemp("run") / "eql", **SMALL)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), dim=st.sampled_from([2, 3]), bodies=st.integers(2, 5))
def test_symmetries_hold_for_any_weights(seed, dim, bodies):
    model, (x, edges) = network(dim, seed, trials=2), scene(1, bodies, dim, seed)
    a, F, size = model(x, edges), model.messages(x, edges), 1e-6 + float(model.messages(x, edges).detach().abs().max())
    assert torch.allclose(F, -F[reverse_edges(edges)], atol=1e-5 * size)  # action is reaction
    assert float((x[:, -1:] * a).detach().sum(0).abs().max()) < 1e-4 * size
    order = torch.randperm(bodies, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(model(x[order], edges), a[order], rtol=1e-3, atol=1e-4 * float(a.abs().max()) + 1e-9)
    moved = x + torch.cat([torch.full((dim,), 4.0), torch.zeros(dim + 2)])
    assert torch.allclose(model(moved, edges), a, rtol=1e-2, atol=1e-2 * float(a.abs().max()) + 1e-9)


def test_forces_point_along_the_displacement():
    model, (x, edges) = network(), scene()
    d = x[edges[0], :2] - x[edges[1], :2]
    F = model.messages(x, edges)
    assert float((F[:, 0] * d[:, 1] - F[:, 1] * d[:, 0]).abs().max()) < 1e-5 * float(F.abs().max())


def test_batches_are_independent_graphs():
    model, (x, edges) = network(), scene(5)
    one = batch_edges(all_pairs(4), 4, 1)
    assert torch.allclose(model(x, edges), torch.cat([model(part, one) for part in x.split(4)]), rtol=1e-5)


def test_trials_in_training_and_the_chosen_one_otherwise():
    model, (x, edges) = network(trials=5), scene()
    many = model.train().predict(x, edges)
    assert many.acceleration.shape == (5, 12, 2) and many.penalty.shape == (5,)
    model.chosen.fill_(3)
    assert torch.allclose(model.eval()(x, edges).double(), many.acceleration[3], rtol=1e-4, atol=1e-6)
    assert model.predict(x, edges).acceleration.shape == (12, 2)


def test_a_trial_that_is_not_finite_does_not_disturb_the_others():
    g = torch.stack(
        [torch.full((2, 3), torch.nan), torch.ones(2, 3) * 1e6, torch.ones(2, 3) * 1e-3, torch.full((2, 3), torch.inf)]
    )
    kept = each_trial(g)
    assert kept[0].eq(0).all() and kept[3].eq(0).all() and torch.equal(kept[2], g[2])
    assert float(kept[1].norm()) == pytest.approx(1 / 4)
    model, (x, edges) = network(trials=3), scene()
    model.net.layers[0].weight.data[1] = torch.nan
    loss = choose_trial(model, x, springs(x, edges), edges)
    assert loss[1] == torch.inf and int(model.chosen) != 1
    a = model.train().predict(x, edges)
    assert a.acceleration[1].eq(0).all() and torch.isfinite(a.acceleration).all()
    a.acceleration.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_best_trial_is_chosen():
    model, (x, edges) = network(trials=4), scene(20)
    loss = choose_trial(model, x, springs(x, edges), edges)
    assert int(model.chosen) == int(loss.argmin()) and loss.shape == (4,)


def test_units_are_typical_sizes():
    model, (x, edges) = network(), scene(50)
    x[:, -2] = 0
    set_input_units(model, x, edges)
    assert model.units[3:].tolist() == [1, 1] and 1 < float(model.units[0]) < 3 and (model.units > 0).all()


def test_the_penalty_grows_on_schedule():
    assert [thrift_at(p) for p in (0, 0.2, 0.35, 0.5, 1)] == [0, 0, pytest.approx(0.5), 1, 1]
    model, (x, edges) = network(trials=2), scene()
    free = model.train().predict(x, edges).penalty
    model.thrift.fill_(1.0)
    assert (model.predict(x, edges).penalty > free + 1).all()


@pytest.mark.parametrize("dim", [2, 3])
def test_surgery_leaves_the_law(dim):
    model, (x, edges) = network(dim, trials=2), scene(40, 4, dim)
    x[:, -2] = x[:, -2].sign()
    assert finish_trials(model, x, springs(x, edges, dim), edges) < 1e-5
    assert equivalent(formula_of(model), SYSTEMS["spring"].true_law)


def test_the_formula_is_what_the_network_computes(run, toy):
    said = analyze.messages(run.model, toy, snapshots=100)
    along = (said.components * said.displacement).sum(1) / said.r
    off = np.abs(evaluate(formula_of(run.model), said.invariants) - along).max()
    assert off <= 1e-5 * np.abs(along).max()
    untrained = network(seed=7, trials=1)
    said = analyze.messages(untrained, toy, snapshots=20)
    assert {s.name for s in formula_of(untrained).free_symbols} <= set(untrained.inputs) and np.isfinite(
        said.components
    ).all()


def test_a_few_steps_and_the_law_is_there(run, toy):
    read = run.model.read(analyze.messages(run.model, toy, snapshots=100), Accelerations(toy))
    assert read.law.sympy == 2 * symbol("r") - 1.98 or equivalent(read.law, SYSTEMS["spring"].true_law)
    assert read.law.provenance["engine"] == EQL_MESSAGES.formula and read.law.provenance["faithfulness"] <= 1e-5
    assert len(read.front) and not read.component_wise and read.alignment is None


def test_a_formula_that_is_not_the_network_is_marked(run, toy, monkeypatch):
    said = analyze.messages(run.model, toy, snapshots=20)
    assert "unfaithful" not in run.model.read(said, Accelerations(toy)).law.provenance
    said = dataclasses.replace(said, components=said.components * 1.001)
    law = run.model.read(said, Accelerations(toy)).law
    assert law.provenance["unfaithful"] and law.provenance["faithfulness"] > FAITHFUL


def test_a_long_formula_is_left_as_it_is(run, toy, monkeypatch):
    monkeypatch.setattr(EQLNetwork, "readable", 0)
    read = run.model.read(analyze.messages(run.model, toy, snapshots=20), Accelerations(toy))
    assert equivalent(read.law, formula_of(run.model)) and all(math.isnan(e) for _, e in read.law.constants.values())


def test_further_properties_are_inputs_of_the_force():
    torch.manual_seed(0)
    model, edges = EQLNetwork(Architecture(others=("spin", "size"), trials=2)).eval(), batch_edges(all_pairs(4), 4, 30)
    assert model.inputs == ("r", "m_i", "m_j", "q_i", "q_j", "spin_i", "spin_j", "size_i", "size_j")
    draw = lambda *shape: torch.randn(*shape)
    spin = draw(30, 4)
    x = nodes(draw(30, 4, 2), draw(30, 4, 2), draw(30, 4).exp(), draw(30, 4), (spin, draw(30, 4)))
    v = model.invariants(x, edges)[0]
    assert torch.equal(v[:, 5], spin.reshape(-1)[edges[1]].double()) and v.shape[1] == 10
    assert torch.equal(v[:, 1], x[edges[1], -1].double())
    j, i = edges
    d = x[j, :2] - x[i, :2]
    force = (x[i, 4:5] + x[j, 4:5] - 0.5) * d / d.norm(dim=1, keepdim=True)
    a = torch.zeros(120, 2).index_add(0, i, force) / x[:, -1:]
    assert finish_trials(model, x, a, edges) < 1e-5
    assert sp.expand(rounded(formula_of(model), 4) - symbol("spin_i") - symbol("spin_j") + 0.5) == 0


def test_run_and_folder_agree(run, toy):
    back = Run.load(run.folder)
    state = (toy.position[:3, 0], toy.velocity[:3, 0], toy.mass[:3], toy.charge[:3], toy.edge_index)
    assert np.array_equal(accelerations(back.model, *state), accelerations(run.model, *state))
    assert (
        formula_of(back.model) == formula_of(run.model)
        and back.finished
        and int(back.model.chosen) == int(run.model.chosen)
    )
    assert {v.dtype for k, v in back.model.net.state_dict().items()} == {torch.float64}
    assert run.history["step"].tolist()[-2:] == [60, 60] and run.history["mae"].iloc[-1] < run.history["mae"].iloc[-2]


def test_interrupted_and_resumed_bit_for_bit(toy, tmp_path):
    settings = dict(steps=30, seed=4, checkpoint_every=0.0, **SMALL)
    whole = fit(toy, "eql", **settings)
    part = fit(toy, "eql", out=tmp_path, time_limit=0.05, **settings)
    assert not part.finished and 0 < part.history["step"].iloc[-1] < 30
    rest = fit(toy, "eql", out=tmp_path, resume=True, **settings)
    a, b = whole.model.state_dict(), rest.model.state_dict()
    assert rest.finished and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    again = fit(toy, "eql", out=tmp_path, resume=True, **settings)  # finished already: only the surgery is done again
    assert all(torch.equal(a[k], v) for k, v in again.model.state_dict().items())


def test_the_registrys_settings_are_the_defaults_and_can_be_changed():
    assert (
        make_config("eql").lr == MODELS["eql"].settings["lr"] != Config().lr and make_config("eql", lr=1e-4).lr == 1e-4
    )
    assert make_config("newton") == Config("newton")
    with pytest.raises(UserError, match="did you mean 'eql'"):
        make_config("eqll")
    with pytest.raises(UserError, match="trials"):
        check_config(Config("eql", architecture=dict(trials="many")))
    with pytest.raises(UserError, match="trials is 0"):
        make_model("eql", trials=0)


def test_edges_without_their_opposite_are_told():
    model, (x, edges) = network(), scene(1)
    with pytest.raises(UserError, match="without its opposite"):
        model(x, edges[:, :-1])


def test_discover_reads_instead_of_searching(toy, tmp_path):
    found = discover(
        toy, model="eql", budget="tiny", engine="operon", out=tmp_path, progress=False, architecture=dict(trials=2),
        steps=60,
    )
    s = found.summary
    assert s["engine"] == EQL_MESSAGES.formula and s["faithfulness"] <= 1e-5
    assert s["recovered"] and s["from_messages"]["recovered"]
    assert "Formula and network differ by at most" in report(s) and row_of(s)["faithfulness"] == s["faithfulness"]
    stored = json.loads((tmp_path / "discovery.json").read_text())
    assert stored["law"]["text"] == s["law"]["text"] and not (tmp_path / "search.csv").exists()
