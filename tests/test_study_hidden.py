"Hidden properties: third law, gauges, what may be rescaled, the source, and what is said when it cannot work."
import dataclasses
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.contracts import BUDGETS
from symbolic_gn.core.errors import UserError
from symbolic_gn.core.graph import edges
from symbolic_gn.data.properties import PROPERTIES, with_property
from symbolic_gn.data.trajectories import Trajectories
from symbolic_gn.discover import discover
from symbolic_gn.fit.hidden import common_factor
from symbolic_gn.laws.law import Law
from symbolic_gn.models import Architecture, batch_edges, make_model
from symbolic_gn.search.operon import operon
from symbolic_gn.studies import hidden as H
from symbolic_gn.train import Snapshots, data_loss, fit

CHARGES, MASSES = np.array([1.0, -0.7, 1.6, -1.2, 0.5]), np.array([1.0, 0.6, 2.0, 1.4, 0.8])
TRUE = {"charge": "-q_i*q_j/(r + 0.1)**2", "mass": "m_i*m_j/(r + 0.1)**2"}
TRUTH = {"charge": CHARGES, "mass": MASSES}
ENGINE = partial(operon, restarts=2, evaluations=6000, max_length=14)
QUICK = dict(progress=False, budget="tiny", steps=300, engine=ENGINE)
PAIRS = torch.as_tensor(edges("all", 5))


def world(law, simulations=16, frames=30, mass=MASSES, charge=CHARGES, seed=0, dim=2) -> Trajectories:
    "Bodies at random places with the accelerations that a law gives them: nothing is integrated."
    rng = np.random.default_rng(seed)
    n = np.shape(mass)[-1]
    x = rng.normal(size=(simulations, frames, n, dim))
    m, q = (np.broadcast_to(v, (simulations, n))[:, None] for v in (mass, charge))
    a = Law.of(law).accelerations(x, mass=m, charge=q)
    return Trajectories.from_arrays(x, np.zeros_like(x), a, mass=mass, charge=charge, dt=0.1)


def loaded(data, hidden, seed=0, **about): return H.Hidden(data, hidden, **about).load(BUDGETS["tiny"], seed)


# what is hidden

@pytest.mark.parametrize("hidden", PROPERTIES)
def test_nothing_of_the_hidden_property_is_left(hidden):
    data = world(TRUE[hidden], 3)
    blind = loaded(data, hidden)
    assert (getattr(blind, hidden) == np.arange(5)).all() and hidden in blind.system
    assert (getattr(data, hidden) == TRUTH[hidden]).all(), "the original is not touched"
    other = "mass" if hidden == "charge" else "charge"
    assert (getattr(blind, other) == getattr(data, other)).all()
    assert blind.data.attrs["hidden"] == hidden and blind.data.attrs["numbers"] == 5


def test_what_the_data_says_of_the_hidden_property_is_not_looked_at():
    data = world(TRUE["charge"], 12)
    lied = with_property(data, "charge", np.arange(5.0) ** 2)
    one, two = (fit(loaded(d, "charge"), "lookup", progress=False, steps=20).model for d in (data, lied))
    assert torch.equal(one.raw, two.raw)


# the network

def network(hidden, dim=2, seed=0):
    torch.manual_seed(seed)
    return H.HiddenNetwork(Architecture(dim=dim, bodies=5, hides=hidden, hidden=16, layers=2))


@pytest.mark.parametrize("hidden", ["", *PROPERTIES])
@pytest.mark.parametrize("dim", [2, 3])
def test_network_keeps_momentum_and_does_not_mind_the_order(hidden, dim):
    model = network(hidden, dim, seed=1).double()
    model.raw.data.normal_()
    x = torch.randn(5, 2 * dim + 2, dtype=torch.float64)
    x[:, -1] = x[:, -1].exp()
    if hidden:
        x[:, PROPERTIES[hidden].column] = torch.arange(5, dtype=torch.float64)
    a, mass = model(x, PAIRS), model.looked_up(x)[1]
    torch.testing.assert_close(mass @ a, torch.zeros(dim, dtype=torch.float64), atol=1e-6, rtol=0)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(model(x[order], PAIRS), a[order])
    moved = x.clone()
    moved[:, :dim] += 7
    torch.testing.assert_close(model(moved, PAIRS), a)


def test_a_property_that_there_is_not_cannot_be_hidden():
    with pytest.raises(UserError, match="choose from charge, mass"):
        make_model("lookup", bodies=5, hides="colour")


def test_training_is_repeatable_and_leaves_the_generator_alone():
    data, before = loaded(world(TRUE["charge"], 6), "charge"), torch.get_rng_state()
    one, two, other = (fit(data, "lookup", progress=False, steps=10, seed=seed).model for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.raw, two.raw) and not torch.equal(one.raw, other.raw)


def test_the_best_of_the_starts_is_kept():
    data = loaded(world(TRUE["charge"], 6), "charge")
    model, snapshots = network("charge"), Snapshots(data)
    H.set_units(model, data)
    before = model.length.clone()
    losses = H.best_start(model, snapshots, trials=3, steps=40)
    x, y = snapshots.batch(torch.arange(len(snapshots)))
    kept = data_loss(model(x, batch_edges(PAIRS, 5, len(snapshots))), y, "mae", model.scale, compress=True)
    assert len(losses) == 3 and model.length == before
    assert kept.item() == pytest.approx(min(losses), rel=0.25)


def test_scalars_are_heard_in_place_of_numbers():
    numbers, said = np.array([[0.0, 1, 4], [0, 1, 3]]), dataclasses.make_dataclass("Said", ["state_i", "state_j"])
    heard = H.with_values(said(numbers, numbers[::-1]), -1, 10 * CHARGES)
    assert heard.state_i[:, -1].tolist() == [5.0, -12.0] and heard.state_j[:, -1].tolist() == [-12.0, 5.0]
    assert numbers[0, -1] == 4, "what was said is not touched"


# the gauge

@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.2, 3), min_size=4, max_size=8), st.integers(0, 999), st.sampled_from([-1, 1]))
def test_products_are_taken_apart(sizes, seed, attraction):
    rng = np.random.default_rng(seed)
    q = np.array(sizes) * rng.choice([-1, 1], len(sizes))
    pairs, r = np.stack(np.triu_indices(len(q), 1)), np.linspace(0.3, 3, 12)
    force = attraction * np.outer(q, q)[*pairs][:, None] / r**2
    u, misfit = H.product_gauge(pairs, *H.amounts(force, rng.integers(1, 9, force.shape).astype(float)), len(q))
    assert misfit < 1e-2
    np.testing.assert_allclose(u * common_factor(u, q), q, atol=0.05)


def test_sums_are_no_products_and_what_was_not_seen_does_not_count():
    q, pairs, r = np.array([1.0, -2.0, 0.5, 3.0, -1.0]), np.stack(np.triu_indices(5, 1)), np.linspace(0.3, 3, 12)
    sums = (q[pairs[0]] + q[pairs[1]])[:, None] / r
    assert H.product_gauge(pairs, *H.amounts(sums, np.ones_like(sums)), 5)[1] > 0.25
    force, seen = np.outer(q, q)[*pairs][:, None] / r**2, np.ones((10, 12))
    force[3], seen[3] = 100.0, 0.0
    u, misfit = H.product_gauge(pairs, *H.amounts(force, seen), 5)
    assert misfit < 1e-3
    np.testing.assert_allclose(u * common_factor(u, q), q, rtol=1e-2)


# the units

def carried(hidden, law):
    zeros = np.zeros(5)
    values = pd.DataFrame(dict(value=TRUTH[hidden], standard_error=zeros, network=TRUTH[hidden]))
    return H.Carried(Law.of(law), {hidden: values.rename_axis("body")})


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([*PROPERTIES]), st.floats(0.05, 20), st.booleans())
def test_a_common_factor_changes_nothing(hidden, k, turned):
    found, data = carried(hidden, TRUE[hidden]), world(TRUE[hidden], 3, 5)
    k = -k if turned and hidden == "charge" else k
    other = H.in_units(found, k)
    known = {"mass": data.mass[:, None]}
    predict = lambda one: one.law.accelerations(data.position, **(known | {hidden: one.values.value.to_numpy()}))
    np.testing.assert_allclose(predict(other), predict(found), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other.values.value, k * found.values.value)
    table, answer = H.judge_properties(other, TRUTH[hidden], TRUE[hidden], data)
    assert answer and table.off.abs().max() < 1e-9


@pytest.mark.parametrize("hidden, factor", [("charge", 0.0), ("charge", np.nan), ("mass", -1.0)])
def test_some_factors_cannot_be(hidden, factor):
    with pytest.raises(UserError, match="factor is"):
        H.in_units(carried(hidden, TRUE[hidden]), factor)


def test_a_wrong_law_and_wrong_values_are_told():
    data, good = world(TRUE["charge"], 3, 5), carried("charge", TRUE["charge"])
    assert not H.judge_properties(dataclasses.replace(good, law=Law.of("-q_i*q_j/r")), CHARGES, TRUE["charge"], data)[1]
    values = {"charge": good.values.assign(value=good.values.value * np.array([1, 1, 1, 1.5, 1]))}
    table, _ = H.judge_properties(dataclasses.replace(good, properties=values), CHARGES, TRUE["charge"], data)
    assert table.off.abs().max() > 0.1


# the whole way

@pytest.fixture(scope="module", params=["charge", "mass"])
def found(request):
    data = world(TRUE[request.param])
    return request.param, discover(H.Hidden(data, request.param), **QUICK), data


def test_values_and_law_come_out(found):
    hidden, found, data = found
    table, answer = H.judge_properties(found, TRUTH[hidden], TRUE[hidden], data)
    assert table.off.abs().max() < 1e-3 and answer
    assert list(found.properties) == [hidden] and (found.values.value == 1).sum() == 1
    assert list(found.values.columns) == ["value", "standard_error", "network"]


def test_the_law_explains_unseen_data_with_the_values_that_were_found(found):
    error = found[1].summary["error"]
    assert error["symbolic"]["mae"] < 1e-3 * np.abs(found[2].acceleration).mean() < error["neural"]["mae"] * 100


def test_bodies_that_are_never_met_twice_and_three_dimensions():
    rng = np.random.default_rng(1)
    crowd = np.exp(0.4 * rng.normal(size=(8, 4)))
    data = world(TRUE["mass"], 8, 60, mass=crowd, charge=np.zeros((8, 4)), dim=3)
    found = discover(H.Hidden(data, "mass", who=np.arange(32).reshape(8, 4)), **QUICK)
    table, answer = H.judge_properties(found, crowd.ravel(), TRUE["mass"], data)
    assert table.off.abs().max() < 0.01 and answer


def test_strangers_are_split_in_time():
    data = world(TRUE["mass"], 8, 20)
    who = np.arange(40).reshape(8, 5)
    blind = loaded(data, "mass", who=who)
    train, validation, test = blind.split()
    assert (train.simulations, validation.simulations, test.simulations, train.frames) == (64, 8, 8, 2)
    for part in (train, validation, test):
        assert set(np.unique(part.mass)) == set(range(40))
    assert np.array_equal(test.position, data.position[:, -2:])


# what is said

@pytest.mark.parametrize("about, words", [
    (dict(hidden="colour"), "choose from charge, mass"), (dict(reference=9), "reference is 9"),
    (dict(who=np.zeros(5)), "whole numbers of shape"), (dict(who=np.array([0, 1, 2, 3, 7])), "with gaps"),
    (dict(who=np.array([0, 1, 2, 3, 3])), "twice in one simulation"),
])
def test_bad_requests_get_one_line(about, words):
    with pytest.raises(UserError, match=words) as told:
        loaded(world(TRUE["charge"], 4), **(dict(hidden="charge") | about))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("change, words", [(0.0, "no body is accelerated"), (np.nan, "NaN or infinity")])
def test_nothing_moves_or_nothing_is_finite(change, words):
    data = world(TRUE["charge"], 4)
    with pytest.raises(UserError, match=words):
        loaded(Trajectories(data.data.assign(acceleration=data.data["acceleration"] * change)), "charge")


def test_a_force_without_charges_is_called_that():
    data = world("2.0*r - 1.98", 8, charge=CHARGES)
    with pytest.raises(UserError, match="has no charge in it"):
        discover(H.Hidden(data, "charge"), **(QUICK | dict(steps=100)))
