"Sums of simple terms: right terms and numbers, nothing that was not asked for, no imitations."
import numpy as np
import pytest

from symbolic_gn.laws.formula import evaluate, parse
from symbolic_gn.nesymres.engine import NESYMRES_OPERATORS, nesymres, words_of
from symbolic_gn.nesymres.expressions import WORDS, is_formula, packed, values_of
from symbolic_gn.nesymres.sums import best_sum, simple_terms, summed_up
from symbolic_gn.nesymres.targets import speaks_only

EVERY = range(len(WORDS))


@pytest.fixture
def points():
    return np.random.default_rng(3).uniform(0.4, 2.5, (300, 3))


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_terms_are_different_formulas_with_values(points, columns):
    terms = simple_terms(points[:, :columns], EVERY)
    assert len({*terms.rows}) == len(terms.rows) == len(terms.values) and all(map(is_formula, terms.rows))
    again = np.asarray(values_of(packed(terms.rows), points[:, :columns].T, np.zeros((len(terms.rows), 0))))
    np.testing.assert_allclose(again, terms.values)
    assert 2 * (1 + len(terms.rows)) < 300


def test_any_polynomial_is_found_with_its_numbers(points):
    rng = np.random.default_rng(0)
    terms = simple_terms(points[:, :2], EVERY)
    for size in (2, 4, 6):
        some = sorted(rng.choice(terms.powers, size, replace=False).tolist())
        numbers = rng.uniform(0.5, 3, size) * rng.choice([-1, 1], size)
        found = best_sum(terms, numbers @ terms.values[some] + 0.7)
        assert found is not None
        cost, row, c = found
        assert len(c) == size + 1 and all(terms.rows[k] in row for k in some)
        np.testing.assert_allclose(c, [0.7, *numbers], rtol=1e-5)


@pytest.mark.parametrize(("columns", "law"), [
    (1, "(x_1**6 - 2*x_1**3 + x_1)/3"),
    (2, "1/(2*x_1**3 - 0.3*x_1*x_2 + 4)"),
    (3, "exp(0.2*x_1*x_2 - 0.4*x_3**2 + 0.1*x_1)"),
    (2, "sqrt(x_1 + 2*cos(x_2 - 0.5) + 3.1)"),
    (2, "sin(x_1)*(x_1 - 1.7*log(x_2))"), (3, "(x_1 + x_2)*(3*x_3 + log(x_2))"),
])
def test_behind_operations_that_can_be_undone(points, columns, law):
    X, names = points[:, :columns], [f"x_{k + 1}" for k in range(columns)]
    y = evaluate(parse(law, names), dict(zip(names, X.T)))
    X = X if columns < 3 else np.vstack([X, X[::-1] * 0.9])  # three columns have many terms
    y = evaluate(parse(law, names), dict(zip(names, X.T)))
    front = nesymres(X, y, names, rounds=1)
    values = evaluate(front.table["sympy"].iloc[-1], dict(zip(names, X.T)))
    np.testing.assert_allclose(values, y, rtol=1e-6, atol=1e-8)


def test_no_imitation_of_what_is_no_sum():
    X = np.random.default_rng(0).uniform(1, 1.1, (300, 1))  # in a box so small everything is a polynomial
    y = np.sin(3 * np.log(X[:, 0]) + np.exp(-X[:, 0]))
    for f in summed_up(X, y, EVERY):
        assert len(f.numbers) <= 6 or f.left < 1e-20


@pytest.mark.parametrize("operators", [("*", "/"), ("+", "*"), ("+", "exp"), ("sin", "*"), ()])
def test_nothing_that_was_not_asked_for(points, operators):
    words = words_of(operators)
    found = summed_up(points[:, :2], points[:, 0] * points[:, 1] ** 2 + points[:, 0], words)
    assert all(speaks_only(f.row, words) for f in found)
    assert bool(found) == ({"+", "*"} <= {*operators})


def test_few_rows_constant_columns_and_weights(points):
    every = words_of(NESYMRES_OPERATORS)
    assert summed_up(points[:10], points[:10, 0], every) == []
    flat = np.column_stack([points[:, 0], np.ones(300)])
    y = 2 * flat[:, 0] ** 2 - flat[:, 0]
    assert min(f.left for f in summed_up(flat, y, every)) < 1e-20
    w = np.r_[np.ones(150), np.zeros(150)] + 1e-9
    assert min(f.left for f in summed_up(points[:, :1], points[:, 0] ** 3 - points[:, 0], every, w)) < 1e-20
