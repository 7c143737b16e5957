"Sums of two functions of one input, and what fronts and engines promise beside them."
from functools import partial

import numpy as np
import pytest
import sympy as sp

from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import symbol
from symbolic_gn.search.engine import front_of
from symbolic_gn.search.engines import ENGINES, require_engine, search
from symbolic_gn.search.front import Front, select
from symbolic_gn.search.pairs import paired

r, x = symbol("r"), np.random.default_rng(1).uniform(0.5, 3.5, 200)
ARITHMETIC = ("+", "-", "*", "/", "exp", "sin", "cos")


@pytest.mark.parametrize("text", [
    "3*exp(-0.7*r) - 8*exp(-2.2*r)", "1.5/r**9 - 4/r**4", "40*exp(-1.8*r) - 2/r**6", "exp(-r/2)/r + 3*exp(-2*r)/r**2",
    "2*sin(1.7*r) + 0.3*r**2", "0.5*tanh(2*r) - 1/(r + 0.3)",
])
def test_both_parts_are_found(text):
    y = sp.lambdify(r, sp.sympify(text, {"r": r}))(x)
    found = paired(x, y, "r", (*ARITHMETIC, "tanh"))
    assert min(np.abs(sp.lambdify(r, e)(x) - y).max() for e in found) < 1e-6 * np.abs(y).max()


def test_only_allowed_operators_and_no_roots_of_negative_numbers():
    found = paired(x - 2, np.cos(x), "r", ("+", "*"))
    assert found and not any(e.has(sp.exp, sp.sin, sp.cos, sp.I) for e in found)
    assert paired(x, np.cos(x), "r", ARITHMETIC, late=lambda: True) == []


def test_rounding_earns_no_symbols():
    y = 2 * x
    front = front_of(["2*r", "2*r + 1e-15*r**2"], x[:, None], y, ["r"])
    assert list(front.table["sympy"]) == [2 * r]


def test_a_beam_keeps_what_is_beaten_and_says_so():
    front = Front.of([(r, 1.0), (r**2, 0.9), (r**3, 0.95), (1 / r, 0.5), (r, 1.0)])
    beam = front.beam(width=2)
    assert set(front.table["sympy"]) < set(beam["sympy"]) and len(beam) == len(set(beam["sympy"]))
    assert beam["place"].max() == 2 and list(beam[beam["on_front"]]["sympy"]) == list(front.table["sympy"])


def test_settings_are_asked_for_before_the_work():
    known = dict(operon=dict(restarts=2, population=100, time_limit=3), eql=dict(trials=2, penalty=1e-3, rows=100))
    assert [require_engine(name, settings) for name, settings in known.items()] == ["operon", "eql"]
    own = lambda X, y, names, **anything: None
    assert require_engine(own, dict(whatever="x")) is own


@pytest.mark.parametrize("engine, setting, told", [
    ("operon", dict(restart=2), "did you mean 'restarts'"),
    ("operon", dict(restarts="many"), "must be int, like 4"),
    ("operon", dict(restarts=2.5), "must be int, like 4"),
    ("operon", dict(restarts=True), "must be int, like 4"),
    ("operon", dict(evaluations=-1), "must be positive"),
    ("operon", dict(seed=3), "'seed'"),
    ("eql", dict(trails=3), "did you mean 'trials'"),
    ("auto", dict(progress=True), "'progress'"),
    ("auto", dict(circles=3), "circles of the engine is 3"),
    ("auto", dict(time_limit="soon"), "time_limit of the engine is 'soon'"),
    ("auto", dict(time_limit=np.inf), "must be positive"),
    ("auto", dict(guesses=["("]), "formula"),
    ("auto", dict(guesses=[3]), "guesses of the engine is"),
    ("auto", dict(circle_settings=dict(operon=dict(populaton=3))), "did you mean 'population'"),
    ("auto", dict(circle_settings=dict(opron=dict(population=3))), "did you mean 'operon'"),
    ("operon", dict(operators="+,foo"), "no operator"),
    (partial(ENGINES["operon"], populaton=3), {}, "did you mean 'population'"),
    ("auto", dict(operators=["+", "floor"]), "engine 'auto' has no operator 'floor'"),
    ("operon", dict(operators=["+", "floor"]), "engine 'operon' has no operator 'floor'"),
    ("eql", dict(operators=["+", "floor"]), "engine 'eql' has no operator 'floor'"),
])
def test_wrong_settings_are_one_line(engine, setting, told):
    with pytest.raises(UserError, match=told):
        require_engine(engine, setting)


def test_operators_beyond_the_usual_reach_those_who_know_them():
    y = 2 * np.tanh(x) + 1
    found = select(search(x[:, None], y, ["r"], "auto", operators=("+", "*", "tanh"), time_limit=60)).sympy
    np.testing.assert_allclose(sp.lambdify(r, found)(x), y, rtol=1e-6)


def test_the_one_who_asks_may_be_content():
    asked = []
    y = 2 * x + np.sin(9 * x) * np.exp(x)
    settings = dict(enough=lambda front: bool(asked.append(front)) or True, time_limit=60)
    front = search(x[:, None], y, ["r"], "auto", **settings)
    assert front.notes["stopped"] in ("it is good enough", "only rounding is left") and len(asked) <= 1
    plain = lambda X, y, names, *, weights=None: Front.of([(r, 1.0)])
    assert select(search(x[:, None], y, ["r"], plain, enough=lambda front: True)).sympy == r
