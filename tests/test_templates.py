"Templates: forms with holes, read, solved, and filled by any engine."

from functools import partial

import numpy as np
import pytest
import sympy as sp

from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import evaluate, parse, symbol
from symbolic_gn.search.engine import front_of
from symbolic_gn.search.engines import search
from symbolic_gn.search.estimator import SymbolicRegressor
from symbolic_gn.search.filling import fill_template
from symbolic_gn.search.front import select
from symbolic_gn.search.operon import operon
from symbolic_gn.search.templates import read_template

NAMES = ["x", "z", "m"]
rng = np.random.default_rng(0)
X = rng.uniform(0.5, 3, (200, 3))
x, z, m = X.T
short = partial(operon, restarts=1, evaluations=3000)


def textbook(X, y, names, *, weights=None, **_):
    "Products of powers of all inputs with a fitted factor, and a constant."
    n = len(names)
    powers = [np.array(p) - 2 for p in np.ndindex(*[5] * n)]
    with np.errstate(all="ignore"):
        columns = [np.prod(np.abs(X) ** p, axis=1) for p in powers]
    w = np.ones(len(y)) if weights is None else np.asarray(weights)
    texts = []
    for p, c in zip(powers, columns):
        A = np.column_stack([c, np.ones(len(y))]) * np.sqrt(w)[:, None]
        a, b = np.linalg.lstsq(A, y * np.sqrt(w), rcond=None)[0]
        texts.append(f"({a!r})*{'*'.join(f'{v}^({k})' for v, k in zip(names, p))} + ({b!r})".replace("np.float64", ""))
    return front_of(texts, X, y, names, weights)


def found(template, y, engine=textbook, **settings):
    return search(X, y, NAMES, engine, template=template, **settings)


def same(expr, text):
    "Whether two formulas have the same values."
    values = [evaluate(e, dict(zip(NAMES, X.T))) for e in (expr, parse(text))]
    return np.allclose(*values, rtol=1e-5)


# reading


def test_a_template_is_read_and_filled():
    form = read_template("m*f(x)^2 + sin(g(x, z - 1)) + pi", NAMES)
    assert [str(h) for h in form.holes] == ["f(x)", "g(x, z - 1)"]
    assert form.filled({"f": symbol("x"), "g": sp.Integer(0)}) == parse("m*x^2 + pi")


@pytest.mark.parametrize("text, why", [
    ("k*f(x)", "'k' is no input; inputs are x, z, m; an unknown constant is left out"),
    ("mm*f(x)", "did you mean 'm'?"),
    ("m*x", "has no hole"),
    ("sinn(x)", "did you mean 'sin'?"),
    ("m(x + z)", "'m' is an input and no function"),
    ("f()", "must be applied to inputs"),
    ("f(2)", "must be applied to inputs"),
    ("f(x) - f(z)", "one function at two places"),
    ("f(g(x))", "another hole inside"),
    ("m*f(x", "cannot be read"),
    ("x.y(z)", "is no known function"),
    ("__import__('os').system('true')", ""),
    ("f(x) - f(x)", "cancels out"),
    ("f(x)^2", "2 answers"),
    ("sin(f(x))", "answers"),
    ("exp(f(x)) + g(z)", "must stand in sums and products"),
    ("f(x)^2 + g(z)", "must stand in sums and products"),
])
def test_what_is_no_template_is_told_before_the_search(text, why):
    asked = []
    with pytest.raises(UserError) as told:
        found(text, x, lambda *a, **k: asked.append(1))
    assert why in str(told.value) and "\n" not in str(told.value) and not asked


# one hole


@pytest.mark.parametrize("template, truth", [
    ("m*f(x)", "3*m/x^2"),
    ("f(x) + z", "2*x + 1 + z"),
    ("m*z*f(x) + 2*z", "0.5*m*z*x^2 + 2*z"),
    ("exp(f(x))", "exp(2/x)"),
    ("m*sqrt(f(x, z))", "m*sqrt(2*x/z)"),
    ("1/(z + f(x))", "1/(z + 3*x^2)"),
    ("log(f(x) + z)", "log(x^2 + z)"),
    ("f(x/z)*m", "2*m*z^2/x^2"),
    ("f(x - z/9)/m", "(x - z/9)^2/m"),
    ("m*f(x) + z*f(x)", "(m + z)/x"),
])
def test_one_hole_is_solved_exactly(template, truth):
    front = found(template, evaluate(parse(truth), dict(zip(NAMES, X.T))))
    assert same(front.table["sympy"].iloc[-1], truth)
    assert front.notes["template"] == template and set(front.notes["holes"]) == set(front.table["equation"])


def test_rows_where_the_factor_is_zero_tell_nothing():
    seen, y = [], m * x**2
    data = X.copy()
    data[:50, 2], y[:50] = 0.0, 0.0

    def watch(X, y, names, *, weights=None, **_):
        seen.append((X, y, weights))
        return textbook(X, y, names, weights=weights)

    front = search(data, y, NAMES, watch, template="m*f(x)")
    (A, target, w), = seen
    assert A.shape == (150, 1) and np.allclose(target, A[:, 0] ** 2) and np.allclose(w / w[0], m[50:] / m[50])
    assert front.rows == 200 and front.table["loss"].min() < 1e-8
    data[:195, 2] = 0.0
    with pytest.raises(UserError, match="only 5 rows of 200"):
        search(data, data[:, 2] * x**2, NAMES, watch, template="m*f(x)")


def test_weights_of_rows_count():
    y = m * x**2
    y[:60] = 99.0
    w = np.ones(200)
    w[:60] = 0.0
    front = found("m*f(x)", y, weights=w)
    assert same(front.table["sympy"].iloc[-1], "m*x^2") and front.rows == 140


def test_noise_where_the_factor_is_small_does_no_harm():
    small = rng.uniform(0.001, 1, 200)
    y = small * 2 / x + 0.01 * rng.normal(size=200)
    front = search(np.column_stack([x, small]), y, ["x", "s"], short, template="s*f(x)")
    values = evaluate(select(front).sympy, {"x": x, "s": small})
    assert np.abs(values - small * 2 / x).mean() < 0.005


# several holes


@pytest.mark.parametrize("template, truth", [
    ("f(x) + g(z)", "2*x^2 + 3/z"),
    ("f(x)*g(z)", "2*x^2/z"),
    ("f(x)*g(z, m)", "m*z/x^2"),
    ("m*f(x) + g(z)", "m/x + z^2"),
    ("f(x) + g(z) + h(m)", "x^2 + 1/z + 2*m"),
    ("exp(f(x) + g(z))", "exp(1/x - 0.1*z^2)"),
    ("1/(f(x) + g(z))", "1/(1/x + 1/z)"),
    ("m*sqrt(f(x)*g(z))", "m*sqrt(x/z)"),
])
def test_several_holes(template, truth):
    front = found(template, evaluate(parse(truth), dict(zip(NAMES, X.T))))
    assert same(front.table["sympy"].iloc[-1], truth)
    assert len(front.notes["holes"][front.table["equation"].iloc[-1]]) == template.count("(x") + template.count(
        "(z") + template.count("(m)")


def test_a_real_engine_with_noise_and_a_time_limit():
    truth = x**2 + 2 * np.sin(z)
    y = truth + 0.02 * rng.normal(size=200)
    told = dict(operators=["+", "*", "/", "sin"], seed=1, time_limit=20, out=None)
    front = found("f(x) + g(z)", y, short, **told)
    best = evaluate(select(front).sympy, dict(zip(NAMES, X.T)))
    assert np.abs(best - truth).mean() < 0.02


def test_guesses_enter_as_whole_formulas():
    front = found("m*f(x)", np.exp(x), guesses=["exp(x)"])
    assert front.table["sympy"].iloc[-1] == sp.exp(symbol("x"))
    with pytest.raises(UserError, match="'q' is unknown"):
        found("m*f(x)", y=x, guesses=["q"])


def test_the_estimator_takes_templates_and_units():
    units = dict(x0="m", x1="kg", x2="kg", target="N")
    force = 3 * z * m / x**2
    model = SymbolicRegressor(textbook, template="x1*x2*f(x0)", units=units).fit(X, force)
    assert model.score(X, force) > 0.99999 and model.front_.notes["template"] == "x1*x2*f(x0)"
    assert str(model.equation_.as_coeff_Mul()[1]) == "x1*x2/x0**2"


def test_seeds_decide():
    fronts = [fill_template("m*f(x)", X, m / (x + 1), NAMES, short, seed=3) for _ in range(2)]
    assert fronts[0].table["equation"].equals(fronts[1].table["equation"])
