"Hidden properties: third law, gauges, slopes, standard errors, what may be renamed or rescaled, and what is said when it cannot work."
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn import properties as P
from symbolic_gn.distill import Law
from symbolic_gn.errors import UserError
from symbolic_gn.models import all_pairs
from symbolic_gn.simulate import Trajectories

CHARGES, MASSES = np.array([1.0, -0.7, 1.6, -1.2, 0.5]), np.array([1.0, 0.6, 2.0, 1.4, 0.8])
QUICK = dict(progress=False, steps=300, trials=3, snapshots=300, restarts=2, evaluations=6000, max_length=14)
TRUE = {"charge": "-q_i*q_j/(r + 0.1)**2", "mass": "m_i*m_j/(r + 0.1)**2"}


def world(law: str, simulations=16, frames=30, noise=0.0, mass=MASSES, charge=CHARGES, seed=0, dim=2) -> Trajectories:
    "Bodies at random places with the accelerations that a law gives them: nothing is integrated."
    rng = np.random.default_rng(seed)
    n = np.shape(mass)[-1]
    x = rng.normal(size=(simulations, frames, n, dim))
    m, q = (np.broadcast_to(v, (simulations, n))[:, None] for v in (mass, charge))
    a = Law.of(law).accelerations(x, mass=m, charge=q)
    a = a + noise * np.median(np.abs(a)) * rng.normal(size=a.shape)
    return Trajectories.from_arrays(x, np.zeros_like(x), a, mass=mass, charge=charge, dt=0.1)


def blind(data, hidden): return P.with_property(data, hidden, 1.0)
def truth(hidden): return {"charge": CHARGES, "mass": MASSES}[hidden]


@pytest.fixture(scope="module", params=["charge", "mass"])
def found(request):
    data = world(TRUE[request.param])
    return P.discover_properties(blind(data, request.param), request.param, **QUICK), data


# what is hidden

@pytest.mark.parametrize("hidden", P.PROPERTIES)
def test_nothing_of_the_hidden_property_is_left(hidden):
    data = world(TRUE[hidden], 3)
    hid = blind(data, hidden)
    assert (getattr(hid, hidden) == 1).all() and hidden in hid.system
    assert (getattr(data, hidden) == truth(hidden)).all(), "the original is not touched"
    other = "mass" if hidden == "charge" else "charge"
    assert (getattr(hid, other) == getattr(data, other)).all()


def test_what_the_data_says_of_the_hidden_property_is_not_looked_at():
    data = world(TRUE["charge"], 12)
    few = QUICK | dict(steps=60, trials=1, snapshots=60, restarts=1)
    lied = P.with_property(data, "charge", np.arange(5.0) ** 2)
    one, two = (P.discover_properties(d, "charge", **few) for d in (blind(data, "charge"), lied))
    np.testing.assert_array_equal(one.learned, two.learned)
    np.testing.assert_array_equal(one.values, two.values)
    assert one.law.sympy == two.law.sympy


# the third law weighs

@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=6), st.integers(0, 99))
def test_balance_finds_masses_whatever_the_law(masses, seed):
    m = np.array(masses)
    law = "3.0*(r - 1.0) + m_i*m_j/(r + 0.5)"
    found, imbalance = P.balance(world(law, 4, mass=m, charge=np.zeros(len(m)), seed=seed))
    np.testing.assert_allclose(found, m / m.max(), rtol=1e-6)
    assert imbalance < 1e-6


# the network

@pytest.mark.parametrize("hidden", P.PROPERTIES)
@pytest.mark.parametrize("dim", [2, 3])
def test_network_keeps_momentum_and_does_not_mind_the_order(hidden, dim):
    torch.manual_seed(1)
    model = P.HiddenNetwork(5, dim, hidden, width=16).double()
    model.raw.data.normal_()
    x = torch.randn(5, 2 * dim + 2, dtype=torch.float64)
    x[:, -1] = x[:, -1].exp()
    x[:, P.PROPERTIES[hidden].column] = torch.arange(5, dtype=torch.float64)
    a, mass = model(x, all_pairs(5)), model.looked_up(x)[1]
    torch.testing.assert_close(mass @ a, torch.zeros(dim, dtype=torch.float64), atol=1e-9, rtol=0)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(model(x[order], all_pairs(5)), a[order])
    moved = x.clone()
    moved[:, :dim] += 7
    torch.testing.assert_close(model(moved, all_pairs(5)), a)


def test_training_is_repeatable_and_leaves_the_generator_alone():
    data = P.with_property(world(TRUE["charge"], 4), "charge", np.arange(5))
    before = torch.get_rng_state()
    one, two = (P.learn(data, "charge", 5, steps=20, first=10, trials=2, seed=3) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one[0].raw, two[0].raw) and one[1].equals(two[1])
    assert not torch.equal(one[0].raw, P.learn(data, "charge", 5, steps=20, first=10, trials=2, seed=4)[0].raw)
    assert list(one[1].groupby("trial").size()) == [20, 10, 10]


# the gauge

@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.2, 3), min_size=4, max_size=8), st.integers(0, 999), st.sampled_from([-1, 1]))
def test_products_are_taken_apart(sizes, seed, attraction):
    rng = np.random.default_rng(seed)
    q = np.array(sizes) * rng.choice([-1, 1], len(sizes))
    pairs, r = np.stack(np.triu_indices(len(q), 1)), np.linspace(0.3, 3, 12)
    force = attraction * np.outer(q, q)[*pairs][:, None] / r**2
    u, misfit = P.product_gauge(pairs, *P.amounts(force, rng.integers(1, 9, force.shape).astype(float)), len(q))
    assert misfit < 1e-2
    np.testing.assert_allclose(u * P.common_factor(u, q), q, atol=0.05)


def test_sums_are_no_products_and_what_was_not_seen_does_not_count():
    q, pairs, r = np.array([1.0, -2.0, 0.5, 3.0, -1.0]), np.stack(np.triu_indices(5, 1)), np.linspace(0.3, 3, 12)
    sums = (q[pairs[0]] + q[pairs[1]])[:, None] / r
    assert P.product_gauge(pairs, *P.amounts(sums, np.ones_like(sums)), 5)[1] > 0.25
    force, seen = np.outer(q, q)[*pairs][:, None] / r**2, np.ones((10, 12))
    force[3], seen[3] = 100.0, 0.0
    u, misfit = P.product_gauge(pairs, *P.amounts(force, seen), 5)
    assert misfit < 1e-3
    np.testing.assert_allclose(u * P.common_factor(u, q), q, rtol=1e-2)


# the fit

@pytest.mark.parametrize("hidden", P.PROPERTIES)
def test_slopes_are_the_derivatives(hidden):
    data = world(TRUE[hidden], 3, 5)
    drawn = P.sample(data, hidden, np.tile(np.arange(5), (3, 1)), 15)
    problem = P.Misfit(P.symmetric(Law.of(TRUE[hidden].replace("0.1", "0.2"))), drawn, 5, reference=1)
    free = np.delete(truth(hidden), 1)
    theta = np.r_[-1.3 if hidden == "charge" else 1.3, 0.2, np.log(free) if hidden == "mass" else free]
    steps = 1e-6 * np.eye(len(theta))
    numeric = np.stack([(problem(theta + h)[0] - problem(theta - h)[0]) / 2e-6 for h in steps], 1)
    np.testing.assert_allclose(problem(theta)[1], numeric, atol=1e-6)


@pytest.mark.parametrize("hidden", P.PROPERTIES)
def test_fit_together_is_exact_on_exact_data(hidden):
    data = world(TRUE[hidden])
    drawn = P.sample(data, hidden, np.tile(np.arange(5), (16, 1)), 300)
    rough = truth(hidden) * np.array([1.05, 0.95, 1.0, 1.04, 0.97])
    fitted = P.fit_together(Law.of(TRUE[hidden].replace("0.1", "0.3")), drawn, rough, reference=2)
    assert fitted.loss < 1e-8 and fitted.values[2] == 1 and fitted.errors[2] == 0
    np.testing.assert_allclose(fitted.values, truth(hidden) / truth(hidden)[2], rtol=1e-7)


def test_standard_errors_are_honest():
    z = []
    for seed in range(12):
        data = world(TRUE["charge"], 24, 6, noise=0.05, seed=seed)
        drawn = P.sample(data, "charge", np.tile(np.arange(5), (24, 1)), 144, seed)
        fitted = P.fit_together(Law.of(TRUE["charge"]), drawn, CHARGES, reference=2)
        off = fitted.values - CHARGES / CHARGES[2]
        z.append(np.delete(off / np.where(fitted.errors > 0, fitted.errors, 1), 2))
    assert 0.6 < np.std(z) < 1.6


def test_a_value_that_nothing_depends_on_has_an_infinite_error():
    slope = np.random.default_rng(0).normal(size=(50, 3))
    slope[:, 1] = 0
    errors = P.clustered_errors(np.ones(50), slope, np.arange(50), 1.0)
    assert np.isinf(errors[1]) and np.isfinite(errors[[0, 2]]).all()


def test_the_third_law_forbids_shifted_masses():
    data = world(TRUE["mass"])
    drawn = P.sample(data, "mass", np.tile(np.arange(5), (16, 1)), 300)
    fitted = P.fit_together(Law.of("m_i*(m_j - 0.1)/(r + 0.1)**2"), drawn, MASSES + 0.1, reference=2)
    np.testing.assert_allclose(fitted.values, MASSES / MASSES[2], rtol=1e-6)


# the whole way

def test_values_and_law_come_out(found):
    found, data = found
    table, answer = P.judge_properties(found, truth(found.hidden), TRUE[found.hidden], data)
    assert table.off.abs().max() < 1e-3 and answer
    assert found.history.groupby("trial").size()[-1] == QUICK["steps"] and set(found.about["seconds"]) == {"train", "search", "fit"}


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 20), st.booleans())
def test_a_common_factor_changes_nothing(found, k, turned):
    found, data = found
    k = -k if turned and found.hidden == "charge" else k
    other = P.in_units(found, k)
    predict = lambda f: f.law.accelerations(data.position, **{"mass": data.mass[:, None], f.hidden: f.values})
    np.testing.assert_allclose(predict(other), predict(found), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other.values, k * found.values)


def test_saved_and_read_again(found, tmp_path):
    found, _ = found
    found.save(tmp_path / "new")
    again = P.Found.from_json(tmp_path / "new" / "properties.json")
    np.testing.assert_array_equal(again.values, found.values)
    assert again.law.sympy == found.law.sympy and again.hidden == found.hidden and again.about == found.about
    assert P.Found.from_json(found.to_json()).reference == found.reference
    assert not [p for p in (tmp_path / "new").iterdir() if p.name.startswith(".")]
    assert f"{found.hidden} of 5 bodies" in found._repr_markdown_() and f"| {found.reference} | 1 |" in found._repr_markdown_()


@pytest.mark.parametrize("change", [{"format": "other"}, {"hidden": "colour"}, {"values": ["x"]}, {"law": {}}])
def test_damaged_files_are_refused(found, change, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(json.loads(found[0].to_json()) | change))
    with pytest.raises(UserError): P.Found.from_json(path)


def test_bodies_that_are_never_met_twice_and_three_dimensions():
    rng = np.random.default_rng(1)
    crowd = np.exp(0.4 * rng.normal(size=(8, 4)))
    data = world(TRUE["mass"], 8, 60, mass=crowd, charge=np.zeros((8, 4)), dim=3)
    found = P.discover_properties(data, "mass", who=np.arange(32).reshape(8, 4), **QUICK)
    table, answer = P.judge_properties(found, crowd.ravel(), TRUE["mass"], data)
    assert table.off.abs().max() < 0.01 and answer


# what is said

@pytest.mark.parametrize("settings, words", [
    (dict(hidden="colour"), "choose from charge, mass"), (dict(reference=9), "reference is 9"), (dict(steps=0), "steps is 0"),
    (dict(who=np.zeros(5)), "whole numbers of shape"), (dict(who=np.array([0, 1, 2, 3, 7])), "with gaps"),
    (dict(who=np.array([0, 1, 2, 3, 3])), "twice in one simulation"), (dict(engine="nobody"), "nobody"),
    (dict(trials=0), "trials is 0"), (dict(snapshots=2.5), "snapshots is 2.5"),
])
def test_bad_requests_get_one_line(settings, words):
    with pytest.raises(UserError, match=words) as told: P.discover_properties(world(TRUE["charge"], 2), **settings)
    assert "\n" not in str(told.value)


def test_nothing_moves_or_nothing_is_finite():
    data = world(TRUE["charge"], 2)
    for change, words in ((0.0, "zero everywhere"), (np.nan, "NaN or infinity")):
        with pytest.raises(UserError, match=words):
            P.discover_properties(Trajectories(data.data.assign(acceleration=data.data["acceleration"] * change)), **QUICK)


def test_a_place_that_cannot_be_written_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        P.discover_properties(world(TRUE["charge"], 2), out=tmp_path / "file" / "below")


def test_a_force_without_charges_is_called_that():
    with pytest.raises(UserError, match="has no charge in it"): P.require_property(Law.of("2.0*r - 1.98"), "charge")
    assert P.require_property(Law.of("2.0*r - 1.98"), "mass") is None
