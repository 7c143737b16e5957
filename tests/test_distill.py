"From messages to a law: what is searched, with which inputs, and what the trajectories make of it."
from types import SimpleNamespace

import numpy as np
import pytest
import sympy as sp
from truths import NAMES, TRUTH

from symbolic_gn.analyze import messages
from symbolic_gn.core.contracts import Objective
from symbolic_gn.core.errors import UserError
from symbolic_gn.core.graph import edge_inputs, edges
from symbolic_gn.data.trajectories import from_arrays
from symbolic_gn.discover import discover
from symbolic_gn.distill import Distillation, _in_logarithms, _spans, distill
from symbolic_gn.fit.accelerations import refit
from symbolic_gn.fit.objective import Accelerations
from symbolic_gn.fit.snap import snap
from symbolic_gn.laws.equivalence import equivalent
from symbolic_gn.laws.formula import symbol
from symbolic_gn.laws.law import Law, pair_force
from symbolic_gn.models import MODELS, Bias, NewtonNetwork, make_model
from symbolic_gn.search.front import Front, select

r, m_i, m_j, q_i, q_j, dx, dy = map(symbol, [*NAMES, "dx", "dy"])
AS_THEY_ARE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def place(law, simulations=20, frames=25, bodies=4, dim=2, seed=0, signs=False):
    "Bodies at random places with the accelerations of a law."
    rng, pairs = np.random.default_rng(seed), edges("all", bodies)
    x, v = rng.normal(size=(2, simulations, frames, bodies, dim))
    m, q = np.exp(rng.normal(size=(simulations, bodies))), rng.normal(size=(simulations, bodies))
    q = np.sign(q) if signs else q
    a = law.accelerations(x, v, m[:, None], q[:, None], pairs).astype(np.float32)
    return SimpleNamespace(position=x, velocity=v, acceleration=a, mass=m, charge=q, edge_index=pairs)


def toy(name, **kwargs):
    return place(Law.of(TRUTH[name]), signs=name == "charge", **kwargs)


def said(t, law, kind="linear", noise=0.01, seed=0):
    "Noisy messages about a law, blended if they are linear."
    rng, (j, i), dim = np.random.default_rng(seed), t.edge_index, t.position.shape[-1]
    inputs, direction = edge_inputs(t.position, None, t.mass[:, None], t.charge[:, None], t.edge_index)
    force = pair_force(law, inputs, direction).reshape(-1, dim)
    m = force + noise * force.std() * rng.normal(size=force.shape)
    if kind == "linear":
        m = m @ rng.normal(size=(dim, dim)) + rng.normal(size=dim)
    d = (t.position[..., j, :] - t.position[..., i, :]).reshape(force.shape)
    invariants = {n: inputs[n].ravel() for n in NAMES}
    return SimpleNamespace(
        components=m, displacement=d, r=invariants["r"], invariants=invariants, messages_are=kind
    )


# the whole way


@pytest.mark.parametrize(
    "name, kind, dim", [("spring", "linear", 2), ("r1", "force", 3), ("r2", "linear", 2), ("charge", "linear", 3)]
)
def test_distill_recovers_the_law_from_noisy_messages(name, kind, dim):
    t = toy(name, dim=dim, simulations=40)
    short = dict(engine="operon", restarts=2, evaluations=15_000)
    found = distill(said(t, Law.of(TRUTH[name]), kind), Accelerations(t), **short)
    assert equivalent(found.law, TRUTH[name], data=t).by == "symbolic", found.law
    assert (found.alignment is None) == (kind == "force") and not found.component_wise
    assert found.law.provenance["engine"] == "operon" and found.seconds > 0 and found._repr_latex_().startswith("$")
    assert 0 <= found.trimmed["left_out"] < 0.1 and len(found.front) and len(found.proposals) == 1


def test_distill_without_trajectories_and_from_energies(tmp_path):
    t = toy("r1")
    m = said(t, Law.of(TRUTH["r1"]), "force", noise=0.001)
    options = dict(engine="operon", restarts=2, evaluations=10_000, out=tmp_path / "search.csv")
    alone = distill(m, rule="score", **options)
    assert equivalent(alone.law, TRUTH["r1"], tolerance=0.1) and "relative_error" not in alone.law.provenance
    assert distill(m, rule="score", **options).law == alone.law
    energy = -m.invariants["m_i"] * m.invariants["m_j"] / (m.invariants["r"] + 0.01) + 0.2 * m.invariants["m_i"]
    m.components, m.messages_are = energy[:, None], "energy"
    found = distill(m, Accelerations(toy("r2")), engine="operon", restarts=2, evaluations=8000)
    assert equivalent(found.law, TRUTH["r2"], data=t)


def test_distill_falls_back_to_components():
    law = Law.of(sp.Tuple(2 * dx * m_j, dy * m_j), mixing=AS_THEY_ARE)
    t = place(law, simulations=10)
    m = said(t, law)
    found = distill(m, Accelerations(t), engine="operon", restarts=3, evaluations=10_000)
    inputs = m.invariants | {"dx": m.displacement[:, 0], "dy": m.displacement[:, 1]}
    assert found.component_wise and len(found.proposals) == 2 and found.law.equivalent(law, data=inputs)
    assert not found.law.equivalent("2*r", data=inputs) and snap(found.law) is found.law
    assert np.allclose(found.law.accelerations(t.position, None, t.mass[:, None]), t.acceleration, rtol=0.05, atol=0.2)
    as_force = Law.of(sp.Tuple(dx, dy), mixing=AS_THEY_ARE, target="acceleration").force()
    assert as_force.target == "force" and as_force.equivalent("m_i*r", data=inputs)
    alone = distill(m, component_wise=True, engine="operon", restarts=1, evaluations=2000)
    assert alone.component_wise and np.allclose(np.array(alone.law.mixing), np.eye(2, 3))
    as_acceleration = refit(Law.of(sp.Tuple(dx, dy), mixing=AS_THEY_ARE), place(Law.of("m_i*r")))
    assert as_acceleration.target == "acceleration"


def test_distill_names_bad_messages():
    m = said(toy("r1"), Law.of(TRUTH["r1"]))
    for change, message in [
        (dict(messages_are="spoken"), "messages_are 'spoken'"),
        (dict(components=m.components[:-1]), "do not match"),
        (dict(components=m.components * np.nan), "must be finite"),
    ]:
        with pytest.raises(UserError, match=message):
            distill(SimpleNamespace(**(vars(m) | change)))


# what the search is given


class Asked:
    "An engine that writes down what it was asked, and answers with the line between distance and target."

    def __init__(self):
        self.calls = []

    def __call__(self, X, y, names, **options):
        self.calls.append((X, y, list(names), options))
        return Front.of([(sp.Float(np.median(y)), 1.0), (symbol(names[0]) * 1.5, 0.5)], rows=len(y))


def test_an_engine_is_asked_with_inputs_that_vary_and_the_users_options(tmp_path):
    t, engine = toy("spring"), Asked()
    m = said(t, Law.of(TRUTH["spring"]), "force")
    m.invariants["same"] = np.ones(len(m.r))
    distill(m, engine=engine, seed=5, edges=700, time_limit=9.0, out=tmp_path / "x.csv", operators=("+",), depth=3)
    (X, y, names, options), = engine.calls
    assert X.shape == (700, 5) and y.shape == (700,) and names == NAMES
    assert options == dict(seed=5, time_limit=9.0, out=tmp_path / "x.csv", operators=("+",), depth=3)
    np.testing.assert_allclose(y, 2 * X[:, 0] - 1.98, atol=0.3)  # forces of the very rows


def test_a_template_is_filled_and_its_form_is_kept():
    t, law = toy("r1"), Law.of(TRUTH["r1"])
    how = dict(engine="operon", restarts=1, evaluations=3000, template="m_i*m_j*f(r)")
    found = distill(said(t, law), Accelerations(t), **how)
    assert equivalent(found.law, TRUTH["r1"], data=t)
    products = [e / (symbol("m_i") * symbol("m_j")) for e in found.proposals[0].table["sympy"] if e.free_symbols]
    assert products and all(sp.simplify(e).free_symbols <= {symbol("r")} for e in products)
    with pytest.raises(UserError, match="has no hole"):
        distill(said(t, law), Accelerations(t), engine="operon", template="m_i*m_j/r")


def test_features_take_the_place_of_the_messages_own():
    t, engine = toy("spring"), Asked()
    m = said(t, Law.of(TRUTH["spring"]), "force")
    distill(m, engine=engine, features={"r": m.r, "twice": 2 * m.r})
    (X, _, names, _), = engine.calls
    assert names == ["r", "twice"]
    np.testing.assert_array_equal(X[:, 1], 2 * X[:, 0])


def test_components_share_the_time_and_see_the_displacement():
    t, engine = toy("spring"), Asked()
    found = distill(said(t, Law.of(TRUTH["spring"])), engine=engine, component_wise=True, time_limit=8.0)
    assert [names for _, _, names, _ in engine.calls] == [["dx", "dy", *NAMES]] * 2
    assert [options["time_limit"] for *_, options in engine.calls] == [4.0, 4.0] and len(found.proposals) == 2


def test_the_objective_decides(monkeypatch):
    "It is given the front, and its law is the law."
    t, told = toy("spring"), {}

    class Oracle(Objective):

        def choose(self, front, **judge):
            told.update(judge, front=front)
            return Law.of("r", provenance=dict(relative_error=0.0)), front

    found = distill(said(t, Law.of(TRUTH["spring"])), Oracle(), engine=Asked(), rule="score", polish=2, seed=7)
    assert str(found.law.sympy) == "r" and found.front is told["front"] is found.proposals[0]
    assert (told["rule"], told["polish"], told["seed"]) == ("score", 2, 7)
    assert told["provenance"]["seed"] == 7 and 0 <= told["provenance"]["across"] < 0.1


# further properties of bodies


def test_distill_finds_a_property_that_the_user_gives():
    rng, law = np.random.default_rng(3), Law.of("1.5*spin_i*spin_j/r")
    x, v = rng.normal(size=(2, 30, 10, 4, 2))
    mass, spin = np.exp(0.5 * rng.normal(size=(30, 4))), rng.normal(size=(30, 4))
    a = law.accelerations(x, v, mass[:, None], None, spin=spin[:, None])
    data = from_arrays(x, v, a, mass=mass, dt=0.1, spin=spin)
    seen = messages(make_model("newton", others=("spin",), hidden=8), data, snapshots=300)
    assert {"spin_i", "spin_j"} <= set(seen.invariants)
    inputs = {"r": seen.r} | {n: seen.invariants[n] for n in ("spin_i", "spin_j")}
    force = pair_force(law, inputs, seen.displacement / seen.r[:, None])
    blended = (force + 0.01 * force.std() * rng.normal(size=force.shape)) @ rng.normal(size=(2, 3))
    spoken = SimpleNamespace(
        components=blended, displacement=seen.displacement, r=seen.r, invariants=seen.invariants, messages_are="linear"
    )
    found = distill(spoken, Accelerations(data), engine="operon", restarts=2, evaluations=15_000)
    assert {"spin_i", "spin_j"} == {str(s) for s in found.law.sympy.free_symbols} - {"r"}
    assert found.law.equivalent(law, data=seen) and not found.component_wise


# many orders of magnitude


def far_apart(rows=800, noise=0.0, seed=0):
    "Pulls of planets: distances, masses, and forces over twelve orders."
    rng = np.random.default_rng(seed)
    X = np.exp(np.column_stack([rng.uniform(-3, 3, rows), rng.uniform(-10, 0, rows), rng.uniform(-10, 0, rows)]))
    return X, 3e-4 * X[:, 1] * X[:, 2] / X[:, 0] ** 2 * np.exp(noise * rng.normal(size=rows))


def test_only_targets_of_one_sign_that_span_many_orders_are_wide():
    _, y = far_apart()
    assert _spans(y) and _spans(-y)
    y[5] *= -1
    assert not _spans(y)  # a force that changes its sign has no logarithm
    assert not _spans(np.linspace(1, 1e5, 500)) and _spans(np.geomspace(1, 1e8, 500))
    few = np.ones(1000)
    few[:4] = 1e-20
    assert not _spans(few)  # half a percent at either end does not count


@pytest.mark.parametrize("sign", [1, -1])
def test_a_search_in_logarithms_tells_the_law_without_them(sign):
    X, y = far_apart(noise=0.01)
    front = _in_logarithms(X, sign * y, ["r", "m_i", "m_j"], "operon", restarts=1, evaluations=10_000)
    found = select(front, "best").sympy
    assert {str(s) for s in found.free_symbols} == {"r", "m_i", "m_j"} and front.loss_name == "error of the logarithm"
    at = {"r": 2.0, "m_i": 0.1, "m_j": 0.01}
    assert float(found.subs({symbol(k): v for k, v in at.items()})) == pytest.approx(sign * 7.5e-8, rel=0.02)


def test_inputs_that_are_not_positive_have_no_logarithm():
    X, y = far_apart()
    X = np.column_stack([X, np.linspace(-1, 1, len(X))])
    engine = Asked()
    front = _in_logarithms(X, y, ["r", "m_i", "m_j", "q_i"], engine)
    assert engine.calls[0][2] == ["log_r", "log_m_i", "log_m_j"]
    np.testing.assert_allclose(engine.calls[0][0], np.log(X[:, :3]))
    assert str(front.table["sympy"].iloc[-1]).startswith("r**1.5")


def test_wide_messages_are_searched_in_logarithms_and_nothing_is_left_out():
    X, y = far_apart()
    angle = np.random.default_rng(1).uniform(0, 2 * np.pi, len(y))
    along = np.column_stack([np.cos(angle), np.sin(angle)])
    wide = SimpleNamespace(
        components=y[:, None] * along, displacement=X[:, :1] * along, r=X[:, 0],
        invariants=dict(r=X[:, 0], m_i=X[:, 1], m_j=X[:, 2]), messages_are="force",
    )
    found = distill(wide, engine="operon", restarts=1, evaluations=10_000)
    assert found.trimmed == {} and found.front.loss_name == "error of the logarithm"
    assert equivalent(found.law, "3e-4*m_i*m_j/r**2", data=wide.invariants)


# a model that is a formula


class Reader(NewtonNetwork):
    "Says its law itself."

    def read(self, said, objective):
        law = objective.refit(Law.of("1.5*r - 1", provenance=dict(engine="the reader")))
        front = Front.of([(law.sympy, objective.loss(law))])
        return Distillation(law, front, [front], None, {}, False, 0.0)


def test_a_model_that_reads_itself_is_not_searched(monkeypatch, springs):
    def never(X, y, names, **options):
        raise AssertionError("no search is needed")

    monkeypatch.setitem(MODELS, "reader", Bias("reads itself", Reader, formula="the reader"))
    small = dict(architecture=dict(hidden=8, layers=1), device="cpu", precision="32-true")
    found = discover(springs, model="reader", engine=never, budget="tiny", progress=False, **small)
    assert found.recovered and found.summary["engine"] == "the reader"
    assert equivalent(found.law, TRUTH["spring"], data=found.test)
    with pytest.raises(AssertionError, match="no search is needed"):
        discover(springs, model="newton", engine=never, budget="tiny", progress=False, **small)
