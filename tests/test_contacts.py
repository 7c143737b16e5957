"Formulas that end at a place: where the target is silent, which power, and the whole way to a law of contact."
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.laws.formula import evaluate, parametrise, parse, symbol
from symbolic_gn.laws.law import Law
from symbolic_gn.laws.potential import potential
from symbolic_gn.search.auto import CIRCLES, auto
from symbolic_gn.search.contacts import POWERS, after_silence, beyond, contacts, silences
from symbolic_gn.search.engines import search
from symbolic_gn.search.front import select

rng = np.random.default_rng(0)
r = rng.uniform(0.3, 4, 300)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(POWERS), st.floats(1.0, 3.0), st.floats(0.5, 20), st.sampled_from([-1, 1]))
def test_place_and_power_are_seen(power, place, strength, sign):
    y = sign * strength * np.maximum(place - r, 0) ** float(power)
    found = contacts(r[:, None], y, ["r"])
    error = min(np.abs(evaluate(e, {"r": r}) - y).mean() for e in found)
    assert found and error < 0.1 * np.abs(y).mean() and all(e.has(sp.Max) for e in found)


def test_the_other_side_a_second_input_and_weights():
    X = np.column_stack([rng.normal(size=300), r])
    y = 0.7 * np.maximum(r - 1.5, 0) ** 2
    (first, *_), w = contacts(X, y, ["x", "r"]), (r < 3).astype(float)
    assert first.free_symbols == {symbol("r")}
    assert contacts(X, np.where(r < 3, y, 1e3), ["x", "r"], w)
    ends = np.where(r < 3, 0.7 * np.maximum(1.5 - r, 0) ** 2, 1e3)
    assert contacts(X, ends, ["x", "r"], w) == contacts(X[r < 3], ends[r < 3], ["x", "r"]) != []


@pytest.mark.parametrize("y", [1 / r, np.sin(r), 0 * r, 2 + 0 * r, rng.normal(size=300), np.exp(-r)])
def test_what_does_not_end_gives_nothing(y):
    assert contacts(r[:, None], y, ["r"]) == []


def test_silence_needs_rows_on_both_sides():
    assert beyond(r, r, 0.0) == np.inf and beyond(r, np.where(r > 2, 0.0, 1.0), 2.0) == 0


def test_zero_stays_the_end():
    form, start = parametrise(parse("5*Max(0, 2 - r)**(3/2)"))
    assert set(start.values()) == {5.0, 2.0} and form.has(sp.Max)


@pytest.mark.parametrize("text", ["3.3*Max(1.7 - r, 0)**(5/2)", "0.4*Max(r - 2.2, 0)"])
def test_auto_finds_it_and_only_when_it_may(text):
    y = np.asarray(evaluate(parse(text), {"r": r}))
    found = select(search(r[:, None], y, ["r"], "auto", time_limit=20), "best").sympy
    np.testing.assert_allclose(evaluate(found, {"r": r}), y, atol=1e-7)
    assert found.has(sp.Max)
    other = search(r[:, None], y, ["r"], "auto", time_limit=2, operators=("+", "*"))
    assert not any(e.has(sp.Max) for e in other.table["sympy"])


def test_a_law_of_contact_in_every_form():
    law = Law.of(parse("-5*Max(0, 2 - r)**(3/2)"))
    assert Law.from_json(law.to_json()).sympy == law.sympy and "max" in law.latex()
    np.testing.assert_allclose(law.numpy()(r=np.array([1.0, 2.5])), [-5, 0])
    V = sp.lambdify(symbol("r"), potential(law), "numpy")
    near, far = V(np.array([1.0, 1.5])), V(np.array([2.5, 3.5]))
    assert far[0] == far[1] and np.diff(near) / 0.5 == pytest.approx(-3.3, rel=0.1)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("place", [1.3, 2.6])
def test_a_jump_is_seen_where_it_is(sign, place):
    rng = np.random.default_rng(1)
    x, m = sign * rng.uniform(0.5, 4, 500), rng.uniform(0.5, 2, 500)
    y = np.where(np.abs(x) < place, 0.0, (3 * np.abs(x) + 1) / m) + rng.normal(0, 0.02, 500)
    found, = silences(np.column_stack([m, x]), y, ["m", "x"])
    silent, speaks, edge = found.where, found.clear, float(found.where.rhs)
    assert not found.climb.any()
    assert abs(edge - sign * place) < 0.02 and silent.lts.is_Symbol == (sign > 0)
    assert np.abs(x[speaks]).min() > place and speaks.sum() > 0.7 * (np.abs(x) > place).sum()
    values = evaluate(after_silence(silent, symbol("x")), {"x": x})
    assert np.array_equal(values == 0, x < edge if sign > 0 else x > edge)


@pytest.mark.parametrize("width", [0.05, 0.1])
@pytest.mark.parametrize("law", ["2*x - 2", "3/x", "x**2"])
def test_a_climb_with_ripples_is_a_jump(width, law):
    rng = np.random.default_rng(5)
    x = rng.uniform(0.5, 4, 2000)
    y = np.asarray(evaluate(parse(law), {"x": x})) * np.clip((x - 2) / (2 * width) + 0.5, 0, 1)
    y = y + 0.1 * np.exp(-(((x - 2) / width) ** 2)) * np.sin(x / width) + rng.normal(0, 0.01, 2000)
    found, = silences(x[:, None], y, ["x"])
    assert abs(float(found.where.rhs) - 2) < 0.03 and found.climb[np.abs(x - 2) < width].mean() > 0.95
    front = auto(x[:, None], y, ["x"], time_limit=15, circles=CIRCLES[:1])
    best, far = select(front, "best").sympy, np.abs(x - 2) > 3 * width
    wanted = np.where(x < 2, 0, evaluate(parse(law), {"x": x}))
    assert np.abs(evaluate(best, {"x": x}) - wanted)[far].mean() < 0.03 * np.abs(wanted).mean()


@pytest.mark.parametrize("y", [
    lambda x: x**3, lambda x: np.exp(-x), lambda x: np.maximum(2 - x, 0), np.sin, lambda x: 0 * x,
    lambda x: x**-4, lambda x: np.exp(-4 * x), lambda x: np.maximum(x - 2, 0) ** 1.5,
])
def test_no_jump_where_there_is_none(y):
    x = np.random.default_rng(2).uniform(0.3, 4, 400)
    assert silences(x[:, None], y(x), ["x"]) == []


def test_auto_finds_a_law_that_begins_with_a_jump():
    rng = np.random.default_rng(3)
    r, m = rng.uniform(0.3, 4, 300), rng.uniform(0.5, 2, 300)
    y = np.where(r < 1.5, 0, m / r**2)
    front = auto(np.column_stack([r, m]), y, ["r", "m"], time_limit=20, circles=CIRCLES[:1])
    np.testing.assert_allclose(evaluate(front.table["sympy"].iloc[-1], {"r": r, "m": m}), y, atol=1e-6)


@pytest.mark.parametrize("rows", [12, 24, 40])
def test_a_jump_with_few_rows_is_no_fault(rows):
    x = np.sort(np.random.default_rng(4).uniform(0, 1, rows))
    front = auto(x[:, None], np.where(x < 0.5, 0, 3 * x + 1), ["x"], time_limit=3, circles=CIRCLES[:1])
    assert len(front.table)
