"Least squares, surgery and the engine of the EQL room."
import math
import time

import numpy as np
import pandas as pd
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.eql import regressor
from symbolic_gn.eql.network import EQL, pick_trial
from symbolic_gn.eql.regressor import (
    eql,
    find_formulas,
    formula_front,
    operator_units,
    sparse_schedule,
    train_on_table,
    typical_size,
)
from symbolic_gn.eql.surgery import (
    FAITHFUL_FORMULA,
    Problem,
    SurgeryState,
    choose_state,
    cut_weights,
    fit_problem,
    linearise,
    merged,
    operate,
    problem_faithfulness,
    sensitivities,
    solve_problems,
    weight_worth,
)
from symbolic_gn.laws.formula import complexity, evaluate, parse, symbol
from symbolic_gn.search.engines import engines, search
from symbolic_gn.search.estimator import SymbolicRegressor
from symbolic_gn.search.front import Front, select

torch.set_num_threads(1)
OPERATIONS = {"identity": 2, "product": 2, "division": 2}
QUICK = dict(trials=4, steps=150, tries=4)


def table(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.5, 2, (rows, 3))


def problem(seed=0, target=lambda x: x[:, 0] * x[:, 1] / x[:, 2], rows=60, **more):
    x = torch.as_tensor(table(rows))
    return Problem(EQL(3, primitives=OPERATIONS, regulariser=None, seed=seed), x, target(x), **more)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), skips=st.booleans(), bent=st.booleans(), mixed=st.booleans())
def test_the_jacobian_is_the_slope_of_the_residual(seed, skips, bent, mixed):
    x = torch.as_tensor(table(20, seed % 7))
    mix = (
        torch.sparse_coo_tensor(
            [[0, 0, 1, 2], [0, 3, 1, 5]], [1.0, -2.0, 0.5, 1.0], (3, 20), dtype=torch.float64, check_invariants=False
        )
        if mixed
        else None
    )
    p = Problem(
        EQL(3, primitives={"identity": 1, "product": 2, "square": 1}, skips=skips, regulariser=None, seed=seed), x,
        torch.ones(3 if mixed else 20).double(), mix, bent
    )
    r, J = linearise(p)
    theta, step = (
        p.theta, 1e-6 * torch.randn(len(p.theta), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )
    p.put(theta + step, p.keep)
    assert torch.allclose(p.residual() - r, J @ step, atol=1e-8 * (1 + float(J.abs().max())))


def test_sensitivities_leave_the_network_as_it_was():
    p = problem()
    before, trials = p.theta, p.net.trials
    f, J = sensitivities(p.net, p.x)
    assert torch.equal(p.theta, before) and p.net.trials == trials == 1
    assert torch.allclose(f, p.net(p.x)[0, :, 0]) and J.shape == (60, len(before))


@pytest.mark.parametrize("thrift", [0.0, 0.3])
def test_a_descent_never_makes_it_worse(thrift):
    for seed in range(3):
        p = problem(seed)
        before = float(p.residual().abs().mean())
        assert fit_problem(p, 20, thrift) == p.loss and (thrift or p.loss < before) and math.isfinite(p.loss)


def test_cut_weights_are_zero_and_stay_so():
    p = problem()
    fit_problem(p, 10)
    w, inverse, cost = weight_worth(p)
    assert len(w) == len(cost) == int(p.keep.sum()) and (cost >= 0).all()
    gone = p.keep.nonzero()[cost.argsort()[:10], 0]
    assert cut_weights(p, cost.argsort()[:10], w, inverse)
    fit_problem(p, 10)
    assert not p.keep[gone].any() and (p.theta[gone] == 0).all() and (p.theta[~p.keep] == 0).all()


def test_an_exact_formula_is_cut_to_what_it_needs_and_no_further():
    x = torch.as_tensor(table())
    y = x[:, 0] * x[:, 1] / x[:, 2]
    net = train_on_table(
        x, y, torch.ones(200).double(), bent=False, seed=1, trials=4, layers=2, primitives=OPERATIONS, steps=300,
        penalty=3e-3,
    )
    best, way = solve_problems([Problem(pick_trial(net, k), x, y) for k in range(4)])[0]
    assert best.loss < 1e-6 and int(best.keep.sum()) < 12 and problem_faithfulness(best) < 1e-10
    assert [s.active for s in way] == sorted({s.active for s in way}, reverse=True)


def test_a_deadline_is_kept():
    started = time.monotonic()
    way = operate(problem(3, lambda x: torch.sin(9 * x[:, 0])), deadline=started + 0.5)
    assert way and time.monotonic() - started < 10


def test_an_unfaithful_state_is_not_chosen():
    p = problem()
    theta, keep = p.theta, p.keep
    bad = torch.zeros_like(theta)
    bad[:] = -1.0  # all denominators are below their floor
    good = SurgeryState(30, 0.5, theta * 0, keep)
    assert choose_state(p, [SurgeryState(29, 0.1, bad, keep), good]) is good


def test_schedule_and_typical_sizes():
    assert sum(s.steps for s in sparse_schedule(100)) == 100 and sum(s.steps for s in sparse_schedule(1)) == 3
    assert typical_size(np.array([[0.0, 0, 2], [0, 0, 4], [0, 8, 6]])).tolist() == [1, 8, 4]


@pytest.mark.parametrize("law", ["x*y/z", "2*x - 1.98", "x*y/(z + 0.01)**2"])
def test_laws_are_found_and_faithful(law):
    X = table()
    y = evaluate(parse(law), dict(zip("xyz", X.T)))
    found = find_formulas(X, y, list("xyz"), **QUICK)
    assert max(off for _, off in found) <= FAITHFUL_FORMULA
    best = select(formula_front([e for e, _ in found], X, y, list("xyz")), "best")
    assert best.loss < 1e-6, best


def test_the_engine_is_one_of_the_engines():
    X = table()
    y = X[:, 0] * X[:, 1] / X[:, 2]
    assert "eql" in engines()
    found = search(X, y, list("xyz"), engine="eql", **QUICK)
    assert isinstance(found, Front) and found.rows == 200 and list(found.table) == Front.columns
    assert select(found, "best").sympy.free_symbols <= {symbol(n) for n in "xyz"}


def test_the_same_seed_gives_the_same_front():
    X = table(60)
    y = X[:, 0] + X[:, 1] ** 2
    one, two = (eql(X, y, list("xyz"), seed=3, trials=2, steps=60, tries=1) for _ in range(2))
    assert one.table["equation"].tolist() == two.table["equation"].tolist()


def test_weights_are_honoured():
    X = table(100)
    y = np.where(np.arange(100) < 50, 2 * X[:, 0], 100 * X[:, 1] ** 3)
    found = eql(X, y, list("xyz"), weights=(np.arange(100) < 50).astype(float), **QUICK)
    best = select(found, "best")
    assert np.abs(evaluate(best.sympy, dict(zip("xyz", X.T))) - y)[:50].max() < 1e-3


def test_a_finished_search_is_not_done_twice(tmp_path, monkeypatch):
    X = table(60)
    search = lambda: eql(X, X[:, 0] * 2, list("xyz"), out=tmp_path / "search.csv", trials=2, steps=30, tries=1)
    first = search()
    monkeypatch.setattr(regressor, "find_formulas", None)
    assert search().table["equation"].tolist() == first.table["equation"].tolist()


def test_a_time_limit_ends_the_surgery():
    X, started = table(100), time.monotonic()
    found = eql(X, np.sin(9 * X[:, 0]), list("xyz"), time_limit=0.5, trials=2, steps=30)
    assert len(found) and time.monotonic() - started < 20


def test_operators_become_operations():
    assert operator_units(["+", "-", "*", "/"]) == {"identity": 2, "product": 3, "division": 2}
    assert operator_units(["sin", "*"]) == {"identity": 2, "sin": 1, "product": 3}
    with pytest.raises(UserError, match="no operator 'tan'"):
        operator_units(["+", "tan"])


@pytest.mark.parametrize("X, y, message", [
    (np.ones((5, 1)), np.ones(5), "5 rows are too few"), (np.full((20, 1), np.nan), np.ones(20), "must be finite"),
    (np.ones((20, 2)), np.ones(20), "names"), (np.ones((20, 1)), np.full(20, np.inf), "must be finite"),
])
def test_bad_tables_are_told(X, y, message):
    with pytest.raises(UserError, match=message):
        eql(X, y, ["x"])


def test_a_constant_target_is_a_constant():
    found = eql(table(30), np.full(30, 2.5), list("xyz"))
    assert found.table["sympy"].tolist() == [sp.Float(2.5)] and found.table["loss"].iloc[0] < 1e-8


def test_guesses_enter_the_front_and_the_search_is_not_done_again(tmp_path, monkeypatch):
    X = table(60)
    y = X[:, 0] * X[:, 1] / (X[:, 2] + 0.3) ** 2
    search = lambda **more: eql(X, y, list("xyz"), out=tmp_path / "search.csv", trials=1, steps=30, tries=1, **more)
    alone = select(search(), "best")
    monkeypatch.setattr(regressor, "find_formulas", None)
    helped = search(guesses=["x*y/(z + 0.3)^2", symbol("x")])
    assert select(helped, "best").loss < 1e-8 < alone.loss and len(helped)
    with pytest.raises(UserError, match="input 'w' is unknown"):
        search(guesses=["w"])


def test_terms_that_cancel_but_for_rounding_are_left_out():
    short = merged(parse("0.25*(x + 1.0000001*y)^2 - 0.25*(x - y)^2"))
    assert abs(evaluate(short - parse("x*y"), {"x": np.array([2.0]), "y": np.array([3.0])})[0]) < 1e-4
    assert complexity(short) <= complexity(parse("1.1*x*y")) and merged(parse("x*y")) == parse("x*y")


def test_the_estimator_finds_the_law_and_keeps_names():
    frame = pd.DataFrame(table(), columns=["x", "y", "z"])
    target = frame["x"] * frame["y"] / frame["z"]
    model = SymbolicRegressor("eql", settings=QUICK).fit(frame, target)
    assert model.score(frame, target) > 0.999999
    assert {s.name for s in model.equation_.free_symbols} == {"x", "y", "z"} and "frac" in model._repr_latex_()


def test_noise_does_not_lengthen_the_formula():
    X = table()
    y = X[:, 0] * X[:, 1] / X[:, 2]
    noisy = y * (1 + 0.01 * np.random.default_rng(1).normal(size=200))
    model = SymbolicRegressor("eql", settings=QUICK).fit(X, noisy)
    assert model.score(X, y) > 0.999 and complexity(model.equation_) < 15


@pytest.mark.parametrize("setting, message", [
    (dict(trials=0), "trials is 0; it must be a whole number"),
    (dict(steps=1.5), "steps is 1.5"),
    (dict(rows="many"), "rows is 'many'"),
    (dict(primitives={"tan": 1}), "primitive 'tan' is unknown"),
])
def test_bad_settings_are_told(setting, message):
    X = table(40)
    with pytest.raises(UserError, match=message):
        eql(X, X[:, 0], list("xyz"), **{**dict(steps=10, trials=1, tries=1), **setting})
