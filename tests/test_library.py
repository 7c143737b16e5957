"Libraries of terms, the search for few of them, and the engine that finds short formulas in seconds."

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import evaluate, parse
from symbolic_gn.search.front import select
from symbolic_gn.search.library import library
from symbolic_gn.search.terms import (
    Terms,
    arguments,
    backward,
    beam,
    distinct,
    exponents,
    functions,
    libraries,
    monomials,
)

NAMES = ["x", "y"]
LAWS = [
    "-1.7*x*y^-2.3",  # a power law with a free exponent
    "2.5*x^(3/2)/sqrt(y) - 4.2",  # with a constant added
    "x^2 - 3*x*y + sin(x) + 2",  # a sparse sum
    "2.2*sin(3.7*x) + 0.4",  # a scale inside a function
    "sqrt(1.2*x^2 + 0.5*y)",  # the root of a sum
    "(x + y)/(1 + 0.25*x*y)",  # a quotient
    "exp(-x^2/2)/y",  # a product of functions
]


def rows(number: int = 300, inputs: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, 3, (number, inputs))


def data(law: str, X: np.ndarray, noise: float = 0.0) -> np.ndarray:
    y = evaluate(parse(law, NAMES), dict(zip(NAMES, X.T)))
    return y + noise * y.std() * np.random.default_rng(1).normal(size=len(y))


# terms


def test_texts_say_what_the_columns_are():
    X = rows(50)
    plain, sums = arguments(X, NAMES, ["+", "-", "/"])
    powers, wide = monomials(X, NAMES, exponents(2, ["/", "sqrt"])), libraries(X, NAMES, ["+", "/", "exp", "sin"])
    every = [powers, plain, sums, *wide]
    for terms in every:
        for k in range(0, len(terms.texts), 1 + len(terms.texts) // 12):
            assert np.allclose(evaluate(parse(terms.texts[k], NAMES), dict(zip(NAMES, X.T))), terms.values[:, k])


@pytest.mark.parametrize("inputs", [1, 2, 3, 5])
def test_libraries_stay_small(inputs):
    names = list("abcde")[:inputs]
    operators = ["+", "-", "*", "/", "sqrt", "exp", "sin", "cos"]
    sizes = [len(t.texts) for t in libraries(rows(100, inputs), names, operators)]
    assert len(sizes) == 3 and sum(sizes) < 6000


def test_proportional_terms_are_one():
    X = rows(40)
    both = Terms(np.column_stack([X[:, 0], -2 * X[:, 0], X[:, 1], np.full(40, np.nan)]),
                 ["x", "-2*x", "y", "nan"], np.array([1.0, 3.0, 1.0, 1.0]))
    assert distinct(both).texts == ["x", "y"]


def test_without_operators_there_are_no_functions():
    X = rows(40)
    one = monomials(X, NAMES, np.eye(2))
    assert functions(one, ["+", "-"]).texts == []
    assert not any("-" in t or "sqrt" in t for t in monomials(X, NAMES, exponents(2, ["+", "*"])).texts)


# which few columns


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_the_beam_finds_sparse_sums(seed, size):
    rng = np.random.default_rng(seed)
    V = rng.normal(size=(60, 40))
    true = rng.choice(40, size, replace=False)
    t = V[:, true] @ rng.choice([-2.0, -1.0, 1.0, 3.0], size)
    assert set(true) in [set(s) for s in beam(V, t, np.ones(40))]


def test_pairs_escape_a_trap():
    rng = np.random.default_rng(0)
    V = rng.normal(size=(100, 60))
    V[:, 7] = V[:, 3] + 0.01 * rng.normal(size=100)
    t = V[:, 7] - V[:, 3]  # neither column looks like the target
    assert {3, 7} in [set(s) for s in beam(V, t, np.ones(60), widths=(3, 3), pairs=60)]


def test_backward_keeps_what_is_needed():
    x = np.linspace(-1, 1, 80)
    V = np.column_stack([x**k for k in range(8)])
    assert (1, 4, 6) in backward(V, V[:, [1, 4, 6]] @ [1.0, -2.0, 0.5])


# the engine


@pytest.mark.parametrize("law", LAWS)
def test_a_law_of_each_kind_is_found(law):
    X = rows()
    found = select(library(X, data(law, X), NAMES), "mdl")
    assert found.loss < 1e-9 and found.complexity < 30


@pytest.mark.parametrize("law", LAWS[:3])
def test_noise_leaves_the_form(law):
    X = rows(600)
    found = select(library(X, data(law, X, 0.01), NAMES), "mdl").sympy
    error = evaluate(found, dict(zip(NAMES, X.T))) - data(law, X)
    assert np.std(error) < 0.003 * np.std(data(law, X))


def test_the_polynomial_with_six_terms():
    x = np.linspace(-1, 1, 200)[:, None]
    y = sum(x[:, 0] ** k for k in range(1, 7))
    found = select(library(x, y, ["x"]), "mdl").sympy
    assert sp.expand(found - parse("x^6+x^5+x^4+x^3+x^2+x", ["x"])) == 0


def test_twenty_rows_are_enough_for_a_clean_law():
    X = rows(20)
    assert select(library(X, data("x^2*y", X), NAMES), "mdl").sympy == parse("x^2*y", NAMES)


def test_same_seed_same_front_and_runs_are_kept(tmp_path):
    X = rows(100)
    y = data("x + 2*y", X, 0.1)
    paths = (None, tmp_path / "a.csv", tmp_path / "a.csv")
    fronts = [library(X, y, NAMES, operators="+-*", out=path) for path in paths]
    assert all(f.table.equals(fronts[0].table) for f in fronts)
    assert (tmp_path / "a.csv").read_text().startswith("key,restart,equation")


def test_operators_are_obeyed_and_unknown_ones_refused():
    X = rows(100)
    front = library(X, data("x + sin(y)", X), NAMES, operators=["+", "-", "*"])
    assert not any(e.has(sp.Function, sp.exp) for e in front.table["sympy"])
    with pytest.raises(UserError, match="engine 'library' has no operator 'floor'"):
        library(X, X[:, 0], NAMES, operators=["floor"])


def test_a_search_without_time_proposes_less_but_something():
    X, y = rows(300, 2), np.random.default_rng(0).normal(size=300)
    hasty, whole = (library(X, y, NAMES, time_limit=limit) for limit in (1e-6, None))
    assert len(hasty) and hasty.table["loss"].min() >= whole.table["loss"].min()


@pytest.mark.parametrize("y", [
    np.zeros(60), np.full(60, 3.0), np.tile([1e-300, 1.0], 30), np.linspace(-1e90, 1e90, 60),
])
def test_odd_targets_break_nothing(y):
    front = library(rows(60), y, NAMES, operators=["+", "*", "/"], time_limit=2)
    assert len(front) and np.isfinite(front.table["loss"]).all()
    assert front.table["loss"].min() <= np.abs(y - np.median(y)).mean() * (1 + 1e-9)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_targets_that_cannot_be_squared_are_refused(size):
    with pytest.raises(UserError, match="choose other units"):
        library(rows(60), np.linspace(-size, size, 60), NAMES, operators=["+", "*", "/"], time_limit=2)


def test_weights_and_guesses():
    X = rows(200)
    w = (X[:, 0] < 2).astype(float)
    y = np.where(w > 0, X[:, 0] * X[:, 1], 100.0)
    front = library(X, y, NAMES, weights=w, guesses=["x + y"])
    assert select(front, "mdl").sympy == parse("x*y", NAMES)


def test_many_inputs_need_no_more_memory_than_few():
    X = np.random.default_rng(0).uniform(1, 2, (300, 14))
    names = [f"x{k}" for k in range(14)]
    front = library(X, X[:, 3] * X[:, 9], names, time_limit=20)
    assert select(front).sympy == parse("x3*x9", names)
