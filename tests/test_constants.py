"Constants of a formula: fitted to tables, and said simply."
import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.constants import TableResidual, at_limits, fit_to_table, polished, simple_forms, snap_to_table
from symbolic_gn.laws.formula import evaluate, parse, symbol

few = settings(max_examples=20, deadline=None)
x = np.linspace(0.5, 3, 120)
z = np.random.default_rng(0).uniform(1, 2, 120)
TABLE = pd.DataFrame({"x": x, "z": z})


@given(st.floats(0.3, 5), st.floats(-3, 3), st.floats(0.2, 2))
@few
def test_any_constants_are_found(a, b, c):
    y = a * np.exp(-c * x) + b * z
    fitted = fit_to_table("1.0*exp(-0.9*x) + 0.5*z", TABLE, y)
    assert fitted.loss < 1e-7 * max(1, np.std(y))


@given(st.integers(0, 50))
@few
def test_slopes_are_derivatives(seed):
    rng = np.random.default_rng(seed)
    problem = TableResidual(parse("c0*sin(c1*x) + c2*x*z"), ["c0", "c1", "c2"], {"x": x, "z": z}, np.zeros(120))
    theta, step = rng.normal(size=3), 1e-6
    slope = problem(theta)[1]
    for k, e in enumerate(np.eye(3)):
        numeric = (problem(theta + step * e)[0] - problem(theta - step * e)[0]) / (2 * step)
        np.testing.assert_allclose(slope[:, k], numeric, atol=1e-6)


def test_standard_errors_cover_the_truth():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(60):
        fitted = fit_to_table("1.9*x**2 + 0.6*z", TABLE, 2 * x**2 + 0.5 * z + rng.normal(0, 0.1, 120))
        values, errors = np.array([*fitted.values.values()]), np.array([*fitted.errors.values()])
        inside += int((np.abs(np.sort(values) - [0.5, 2]) < 2 * errors[np.argsort(values)]).sum())
    assert 0.88 < inside / 120 < 1


def test_weights_say_which_rows_count():
    y = np.where(x < 2, 2 * x, 50.0)
    assert abs(fit_to_table("1.5*x", TABLE, y, (x < 2).astype(float)).values["c0"] - 2) < 1e-9


@pytest.mark.parametrize("text, start", [
    ("2*x**3 - z/2", "1.8*x**3 - 0.4*z"), ("x/3 + 1", "0.3*x + 0.9"), ("3*sin(2*pi*x)", "2.9*sin(6.2*x)"),
    ("exp(-x**2/2)/sqrt(2*pi)", "0.41*exp(-0.52*x**2)"), ("x*z", "1.1*x*z + 0.02*x"), ("7*sqrt(x)", "6.5*sqrt(x)"),
]) 
def test_simple_numbers_are_recognised_exactly(text, start):
    truth = parse(text)
    y = np.asarray(sp.lambdify([symbol("x"), symbol("z")], truth, "numpy")(x, z)) * np.ones(120)
    found = snap_to_table(fit_to_table(start, TABLE, y), TABLE, y).expr
    assert sp.simplify(found - truth) == 0 and not found.atoms(sp.Float)


def test_a_number_that_is_not_simple_stays():
    y = 1.2345678 * x**2
    found = snap_to_table(fit_to_table("x**2*1.3", TABLE, y), TABLE, y).expr
    assert abs(float(found.coeff(symbol("x"), 2)) - 1.2345678) < 1e-9


def test_multiples_of_pi_are_not_seen_everywhere():
    seen = [v for v in np.random.default_rng(0).uniform(0.1, 10, 300) if simple_forms(v, 1e-6 * v)]
    assert len(seen) <= 3


@pytest.mark.parametrize("X, y, words", [
    ({"x": x}, x, "z"), ({"x": x, "z": z[:5]}, x, "5 rows"), ({"x": ["a"] * 120, "z": z}, x, "column of numbers"),
]) 
def test_tables_that_do_not_fit_are_told(X, y, words):
    with pytest.raises(UserError, match=words):
        fit_to_table("x + 2.5*z", X, y)


def test_a_formula_without_constants_and_one_outside_its_domain():
    assert fit_to_table("x*z", TABLE, x * z).loss == 0
    assert np.isfinite(fit_to_table("log(x - 1.0)*2.0", TABLE, x).loss)


def test_names_of_numbers_are_numbers_unless_an_input_has_them():
    assert parse("2*pi*x") == 2 * sp.pi * symbol("x") and parse("E*x") == sp.E * symbol("x")
    assert parse("pi*x", ["pi", "x"]) == symbol("pi") * symbol("x")
    assert parse("ln(x) + coth(x)") == sp.log(symbol("x")) + sp.coth(symbol("x"))
    assert parse(str(sp.sin(2 * sp.pi * symbol("x"))), ["x"]) == sp.sin(2 * sp.pi * symbol("x"))


@pytest.mark.parametrize("text", [
    "sin(k*x)/k", "z*k/tanh(k*x)", "(exp(k*x) - 1)/k + z", "sqrt(z - k)*sqrt(z + k)", "z + k*x", "(x + k)/(z - k**2)",
    "(1 - cos(k*x))/k**2",
])
@given(k=st.floats(1e-5, 1e-4), sign=st.sampled_from([-1, 1]))
@settings(max_examples=5, deadline=None)
def test_what_vanishes_is_at_its_limit(text, k, sign):
    expr = parse(text).subs(symbol("k"), sp.Float(sign * k))
    limit = at_limits(expr, TABLE)
    values = lambda e: evaluate(e, {"x": x, "z": z})
    np.testing.assert_allclose(values(limit), values(expr), rtol=1e-2)
    assert not limit.atoms(sp.sin, sp.tanh, sp.exp, sp.cos)
    assert at_limits(limit, TABLE) == limit


def test_the_limit_is_taken_where_the_data_cannot_tell():
    made = polished(parse("3.1*z*sin(0.00002*x)"), TABLE, 2 * x * z)
    assert made[-1] == parse("2*x*z")
    assert polished(parse("3.1*z*sin(0.9*x)"), TABLE, 2 * z * np.sin(x))[-1] == parse("2*z*sin(x)")


def test_a_formula_without_values_stays_as_it_is():
    assert polished(sp.zoo * symbol("x"), TABLE, x) == [sp.zoo * symbol("x")]
