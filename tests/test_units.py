"Units: what formulas may be true in them, which units constants carry, and what a front keeps, with any engine."

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import sympy as sp

from symbolic_gn.core.contracts import ENGINES
from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import evaluate, parse, symbol
from symbolic_gn.laws.law import Law
from symbolic_gn.laws.unit_texts import check_unit_texts, unit_table
from symbolic_gn.laws.units import check_units, constants_with_units, si_units
from symbolic_gn.search.engine import front_of
from symbolic_gn.search.engines import search
from symbolic_gn.search.estimator import SymbolicRegressor
from symbolic_gn.search.front import Front, select
from symbolic_gn.search.mending import mended, rank_by_units

SPRING = dict(r="m", target="N")
EARTH = dict(m_i="kg", m_j="kg", r="m", target="N")
SWING = dict(l="m", g="m/s^2", m="kg", target="s")
MOVE = dict(x="m", t="s", v="m/s", target="m")


def said(text, units): return str(check_units(parse(text), units))


# formulas


@pytest.mark.parametrize("text, units, verdict", [
    ("2.0*r - 1.98", SPRING, "mendable: 2 N/m, -1.98 N"),
    ("2*(r - 1)", SPRING, "mendable: 2 N/m, -2 N"),  # rounded constants carry units, too
    ("2.0*r - 1.98", dict(r="cm", target="mN"), "mendable: 2 mN/cm, -1.98 mN"),
    ("6.67e-11*m_i*m_j/r^2", EARTH, "mendable: 6.67e-11 N*m**2/kg**2"),
    ("-4.9*m_i*m_j/(r + 0.01)^2", EARTH, "mendable: -4.9 N*m**2/kg**2, 0.01 m"),
    ("2*pi*sqrt(l/g)", SWING, "fits as it is"),
    ("6.28*sqrt(l/g)*sqrt(m)", SWING, "mendable: 6.28 1/kg**0.5"),
    ("x + v*t", MOVE, "fits as it is"),
    ("x + 3.0*t", MOVE, "mendable: 3 m/s"),
    ("1.5", MOVE, "mendable: 1.5 m"),
    ("x*exp(-0.5*t)", MOVE, "mendable: -0.5 1/s"),
    ("x*sin(2*t + 0.3)", MOVE, "mendable: 2 1/s"),
    ("x*2.0**(3.0*t)", MOVE, "mendable: 2.079 1/s"),
    ("x*2^(3*t)", MOVE, "mendable: 2.079 1/s"),
    ("0.3*t^1.7", MOVE, "mendable: 0.3 m/s**1.7"),
    ("Max(x, 2.0)", MOVE, "mendable: 2 m"),
    ("Piecewise((x, t > 2.0), (0, True))", MOVE, "mendable: 2 s"),
    ("sin(w)", dict(w="rad"), "fits as it is"),
    ("sin(0.01745329251994329577*w)", dict(w="deg"), "mendable: 0.01745 1/deg"),
    ("m*c^2/2", dict(m="kg", c="m/s", target="J"), "fits as it is"),
    ("4.2*q", dict(), "fits as it is"),
])
def test_what_fits_and_what_constants_mend(text, units, verdict):
    assert said(text, units) == verdict


@pytest.mark.parametrize("text, units, reason", [
    ("x + t", MOVE, "t in s is added to x in m"),
    ("2*x - x*t", dict(MOVE, target="m*s"), ""),
    ("1.5*exp(x)", MOVE, "the exp of x, which is in m"),
    ("x*log(v)", MOVE, "the log of v, which is in m/s"),
    ("x*sin(t)", MOVE, "the sin of t, which is in s"),
    ("m_i*m_j/r^2", EARTH, "all of it is in kg**2/m**2, not in N"),
    ("x^t", MOVE, "a power that varies of x, which is in m"),
    ("a + b", dict(a="m", b="cm"), "is added to"),
    ("sin(w)", dict(w="deg"), "the sin of w"),
    ("Max(x, t)", MOVE, "stands beside"),
    ("Piecewise((x, t > v), (0, True))", MOVE, "is compared with"),
    ("3.0*exp(x + t)", MOVE, "is added to"),
])
def test_what_no_constant_mends(text, units, reason):
    found = check_units(parse(text), units)
    if not reason:  # 2 carries the second that the other term has
        assert found and str(found) == "mendable: 2 s"
        return
    assert not found and reason in found.reason and "\n" not in str(found)


def test_the_verdict_does_not_depend_on_the_units_chosen():
    for text in ("2.0*r - 1.98", "exp(r)", "r + r^2", "3.0*exp(-0.1*r)/r"):
        grades = {check_units(parse(text), units).grade for units in (
            SPRING, dict(r="au", target="kg*m/s^2"), dict(r="km", target="dyn"), dict(r="m", target="J/m"))}
        assert len(grades) == 1


@pytest.mark.parametrize("text, units, others", [
    ("2.5*r - 1.98", SPRING, dict(r="au", target="dyn")),
    ("-4.9*m_i*m_j/(r + 0.01)^2", EARTH, dict(m_i="g", m_j="Msun", r="km", target="N")),
    ("x*exp(-0.5*t) + 0.3*t^1.7", MOVE, dict(x="cm", t="min", target="cm")),
    ("x*sin(2.1*t + 0.3) + v*t", MOVE, dict(x="km", t="s", v="km/s", target="km")),
    ("2.006*sqrt(l)", SWING, dict(l="ft", target="ms")),
])
def test_a_formula_says_the_same_in_other_units(text, units, others):
    "Inputs and constants are converted by Pint; then the result must be the converted result."
    table, expr = unit_table(), parse(text)
    convert = lambda value, old, new: table.Quantity(value, old).to(new).magnitude
    inputs = {s.name: 1.3 + k for k, s in enumerate(sorted(expr.free_symbols, key=str))}
    before = float(evaluate(expr, inputs))
    scales = {n: table.Quantity(1.0, units[n]).to(unit).magnitude for n, unit in others.items()}
    there = {n: v * scales[n] for n, v in inputs.items()}
    numbers = {value: unit for value, unit in check_units(expr, units).constants}
    moved = {value: unit for value, unit in check_units(expr, others).constants}
    assert len(moved) == len(numbers) and all(table.Unit(moved[v]).dimensionality == table.Unit(
        numbers[v]).dimensionality for v in numbers)
    new = expr.xreplace({v: sp.Float(convert(float(v), numbers[v], moved[v])) for v in numbers})
    assert np.isclose(float(evaluate(new, there)), before * scales["target"], rtol=1e-9)


@pytest.mark.parametrize("units, why", [
    (dict(r="metr"), "units: 'r': 'metr' is no unit"),
    (dict(r="m/"), "is no unit"),
    (dict(r="2 m"), "units: 'r'"),
    (dict(r="__import__('os')"), "is no unit"),
    (dict(r="degC"), "has a zero of its own"),
    (dict(q="m"), "units: input 'q' is unknown"),
    (dict(targt="m"), "did you mean 'target'"),
])
def test_bad_units_are_told_in_one_line_before_the_search(units, why):
    asked = []
    with pytest.raises(UserError, match="(?s)^.*$") as told:
        search(np.ones((20, 1)), np.ones(20), ["r"], lambda *a, **k: asked.append(1), units=units)
    assert why in str(told.value) and "\n" not in str(told.value) and not asked
    with pytest.raises(UserError):
        SymbolicRegressor("operon", units=units).fit(np.ones((20, 1)), np.ones(20))


def test_what_is_no_text_is_no_unit():
    with pytest.raises(UserError, match="it must be a dict"):
        check_unit_texts("m", ["r"])
    with pytest.raises(UserError, match="'r': .* is no unit"):
        check_unit_texts({"r": 3}, ["r"])
    with pytest.raises(UserError, match="the key 'target' is for y"):
        check_unit_texts({}, ["target"])


def test_constants_of_a_law_have_units():
    law = Law.of("2.0*r - 1.98", units=SPRING)
    assert {n: (v, u) for n, (v, _, u) in constants_with_units(law).items()} == {"c0": (2, "N/m"), "c1": (-1.98, "N")}
    power = Law.of("3.1*m_i*m_j*r**(-2.3)")
    assert constants_with_units(power, EARTH)["c0"][2] == "N*m**2.3/kg**2"
    with pytest.raises(UserError, match="no units of its constants make it right: the exp of"):
        constants_with_units(Law.of("exp(r)*2.0"), SPRING)
    assert si_units("dyn") == "kg*m*s^-2" and si_units("m^0.5") == "m^0.5"


def test_pint_is_loaded_only_when_a_unit_is_read():
    seen = "print('pint' in sys.modules)"
    read = "from symbolic_gn.laws.units import check_unit_texts; check_unit_texts({'r': 'm'}, ['r'])"
    script = f"import sys, symbolic_gn.search.estimator; {seen}; {read}; {seen}"
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert said.split() == ["False", "True"]


# fronts


def test_a_formula_gets_only_the_constants_that_its_units_demand():
    found = mended(parse("m_i*m_j/r^2"), EARTH)
    assert found.with_numbers(found.start) == sp.Float(1.0) * parse("m_i*m_j/r^2")
    inside = mended(parse("x*exp(-t)"), MOVE)
    assert len(inside.carry) == 1 and check_units(inside.with_numbers(inside.start), MOVE)
    assert mended(parse("x**t"), MOVE) is None and mended(parse("c1*r"), dict(c1="m", r="s", target="N")) is None


def test_what_cannot_be_leaves_the_front_and_the_notes_say_why():
    pairs = [("1.5", 0.9), ("2.0*x", 0.5), ("2.0*x + 0.1*x*exp(t)", 0.3), ("t**x", 0.4)]
    front = Front.of((parse(text), loss) for text, loss in pairs)
    front.notes["circle"] = "library"
    ranked = rank_by_units(front, MOVE)
    assert [*ranked.table["sympy"]][:2] == [parse("1.5"), parse("2.0*x")]
    assert all(check_units(e, MOVE) for e in ranked.table["sympy"])
    assert ranked.notes["circle"] == "library" and len(ranked.notes["units"]) == 2
    alone = rank_by_units(Front.of([(parse("t**x"), 0.1)]), MOVE)
    assert len(alone) == 1 and "no formula of this front" in alone.notes["units"]["all"]


WALK = dict(x="m", t="s", target="m")
rng = np.random.default_rng(0)
X = np.column_stack([rng.uniform(1, 3, 200), rng.uniform(0, 2, 200)])
Y = X[:, 0] + 0.7 * X[:, 1] + 0.001 * rng.normal(size=200)


def stub(X, y, names, *, weights=None, units=None, **_):
    "Proposes what is accurate and cannot be, and what is coarse and can."
    x, t = names
    return front_of([x, f"1.4*{x}", f"{x} + {t}", f"{x} + sin({t})", f"{x}*exp({t}/10)"], X, y, names, weights)


def test_the_relative_with_the_missing_constant_is_fitted():
    plain, ranked = search(X, Y, ["x", "t"], stub), search(X, Y, ["x", "t"], stub, units=WALK)
    assert not all(check_units(e, WALK) for e in plain.table["sympy"])
    assert all(check_units(e, WALK) for e in ranked.table["sympy"])
    best = select(ranked).sympy
    assert str(check_units(best, WALK)).startswith("mendable") and ranked.table["loss"].min() < 0.002
    assert abs(float(sp.diff(best, symbol("t")).subs({"t": 1})) - 0.7) < 0.01


@pytest.mark.parametrize("engine", ["stub", "operon", "library", "auto", "partial"])
def test_every_engine_obeys_units(engine, monkeypatch):
    monkeypatch.setitem(ENGINES, "stub", stub)
    short = dict(restarts=1, evaluations=1500)
    ways = {"operon": ("operon", short), "partial": (partial(ENGINES["operon"], **short), {}),
            "auto": ("auto", dict(time_limit=4)), "library": ("library", {}), "stub": ("stub", {})}
    how, settings = ways[engine]
    front = search(X, Y, ["x", "t"], how, units=WALK, **settings)
    assert len(front) and "units" in front.notes
    assert all(check_units(e, WALK) for e in front.table["sympy"])
    assert np.abs(evaluate(select(front).sympy, dict(x=X[:, 0], t=X[:, 1])) - Y).mean() < 0.2


def test_the_estimator_obeys_units_of_columns_whatever_they_are_called():
    import pandas as pd

    table = pd.DataFrame(X, columns=["way (m)", "t"])
    model = SymbolicRegressor(stub, units={"way (m)": "m", "t": "s", "target": "m"}).fit(table, Y)
    units = {"x0": "m", "t": "s", "target": "m"}
    assert model.names_ == ["x0", "t"] and all(check_units(e, units) for e in model.front_.table["sympy"])
    assert model.score(table, Y) > 0.999 and model.front_.notes["units"]
