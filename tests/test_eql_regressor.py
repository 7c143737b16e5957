"Least squares, surgery and the engine of the EQL room."
import math
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.eql import regressor
from symbolic_gn.eql.benchmark import TWELVE, extrapolates, same_form, sample_function
from symbolic_gn.eql.equations import Equation
from symbolic_gn.eql.network import EQL, PRIMITIVES, pick_trial
from symbolic_gn.eql.regressor import (
    DEFAULT_OPERATORS,
    eql,
    find_formulas,
    formula_front,
    operator_units,
    read_formulas,
    sown,
    sparse_schedule,
    train_on_table,
    trained,
)
from symbolic_gn.eql.sowing import (
    closed_places,
    column_size,
    draw_arguments,
    free_arguments,
    plant,
    sow,
    sprouts,
    typical_middle,
    typical_table,
    unit_places,
    unplanted,
)
from symbolic_gn.eql.surgery import (
    FAITHFUL_FORMULA,
    READABLE,
    Problem,
    SurgeryState,
    choose_state,
    cut_weights,
    fit_problem,
    linearise,
    merged,
    operate,
    problem_faithfulness,
    readable_states,
    sensitivities,
    solve_problems,
    weight_worth,
)
from symbolic_gn.laws.constants import polished
from symbolic_gn.laws.formula import complexity, evaluate, parse, symbol
from symbolic_gn.laws.law import Law
from symbolic_gn.search.engines import engines, search
from symbolic_gn.search.estimator import SymbolicRegressor
from symbolic_gn.search.front import Front, select

torch.set_num_threads(1)
OPERATIONS = {"identity": 2, "product": 2, "division": 2}
QUICK = dict(rounds=2)


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
    X = table()
    t = typical_table(X, X[:, 0] * X[:, 1] / X[:, 2], list("xyz"))
    net = train_on_table(t, seed=1, trials=4, layers=2, primitives=OPERATIONS, steps=300, penalty=3e-3)
    best, way = solve_problems([t.problem(pick_trial(net, k)) for k in range(4)])[0]
    assert best.loss < 1e-6 and int(best.keep.sum()) < 12 and problem_faithfulness(best) < 1e-10
    assert [s.active for s in way] == sorted({s.active for s in way}, reverse=True)


def test_a_deadline_is_kept():
    started = time.monotonic()
    p = problem(3, lambda x: torch.sin(9 * x[:, 0]), deadline=started)
    assert p.late and len(operate(p)) == 1
    t = typical_table(table(), np.sin(9 * table()[:, 0]), list("xyz"))
    how = dict(primitives=OPERATIONS, layers=2, seed=0, deadline=started)
    assert [len(way) for _, way in sown(t, **how)] == [1, 1]
    (_, way), = trained(t, **how, trials=3, tries=3, steps=10**6, penalty=3e-3)  # training ends at once, too
    assert len(way) == 1


def test_one_limit_says_what_is_readable_and_the_shortest_is_always_read():
    p = problem()
    states = [SurgeryState(n, 0.1, p.theta, p.keep) for n in (90, READABLE + 1, READABLE, 5)]
    assert readable_states(states) == states[2:] and readable_states(states[:2]) == states[1:2]


def test_an_unfaithful_state_is_not_chosen():
    p = problem()
    theta, keep = p.theta, p.keep
    bad = torch.zeros_like(theta)
    bad[:] = -1.0  # all denominators are below their floor
    good = SurgeryState(30, 0.5, theta * 0, keep)
    assert choose_state(p, [SurgeryState(29, 0.1, bad, keep), good]) is good


def test_schedule_and_typical_sizes():
    assert typical_middle(np.array([[2000.0, 5, 1], [2001, 5, 2], [2002, 5, 3]])).tolist() == [2001, 0, 0]
    assert sum(s.steps for s in sparse_schedule(100)) == 100 and sum(s.steps for s in sparse_schedule(1)) == 3
    assert column_size(np.array([[0.0, 0, 2], [0, 0, 4], [0, 8, 6]])).tolist() == [1, 8, 4]


@pytest.mark.parametrize("law", ["x*y/z", "2*x - 1.98", "x*y/(z + 0.01)**2"])
def test_laws_are_found_and_faithful(law):
    X = table()
    y = evaluate(parse(law), dict(zip("xyz", X.T)))
    found = find_formulas(X, y, list("xyz"), **QUICK)
    best = select(formula_front(found, X, y, list("xyz")), "best")
    assert best.loss < 1e-6, best


@pytest.mark.parametrize("name", [n for n in TWELVE if n not in ("gauss", "x3")])  # these two take seconds
def test_the_engine_finds_the_twelve_functions_with_its_defaults(name):
    x, y = sample_function(name)
    names = list("xyz"[: x.shape[1]])
    best = Equation(select(eql(x, y, names, rounds=1), "best").sympy, tuple(names), 0.0)
    assert extrapolates(best, name)[0] and same_form(best, name), best


@pytest.mark.parametrize(("text", "inside", "more"), [
    ("x**2 + y - 2*z", (0, 50), ()), ("0.001*(x**2 + y)", (-1, 1), ()), ("1000*(x*y + z)", (0.5, 2), ()),
    ("(x - 2000)**2 + y", (1990, 2005), ()), ("1e6 + sin(x)", (-3, 3), ()),
    ("cos(2*x)", (-3, 3), ("cos",)), ("y*tanh(x)", (-3, 3), ("tanh",)), ("Abs(x - 1) + y", (-3, 3), ("abs",)),
    ("x**1.5", (0.1, 5), ("^",)), ("sqrt(x) + y", (0.1, 5), ("sqrt",)), ("log(x) - y", (0.1, 5), ("log",)),
])
def test_scales_and_operators(text, inside, more):
    names = list("xyz")
    X = np.random.default_rng(5).uniform(*inside, (256, 3))
    y = np.asarray(evaluate(parse(text, names), dict(zip(names, X.T))))
    found = eql(X, y, names, operators=("+", "-", "*", "/", *(more or ("^2", "sin"))), rounds=1)
    wide = np.random.default_rng(6).uniform(*inside, (100, 3)) * (1.5 if inside[0] != 1990 else 1.0)
    law = lambda e: evaluate(e, dict(zip(names, wide.T)))
    assert np.abs(law(select(found, "best").sympy) - law(parse(text, names))).max() < 1e-5 * np.ptp(y)


def test_a_wave_keeps_pi_and_a_law_with_pi_comes_back_without_an_input_of_that_name():
    X = table()[:, :1]
    law = select(search(X, np.sin(np.pi * X[:, 0]), ["x"], "eql", operators=("+", "*", "sin")), "best").sympy
    assert law == sp.sin(sp.pi * symbol("x"))
    again = Law.from_json(Law.of(law).to_json())
    assert {s.name for s in again.sympy.free_symbols} == {"x"} and again.sympy.has(sp.pi)


def test_an_input_may_be_called_pi(tmp_path):
    X = table()[:, :2]
    y = X[:, 0] + np.sin(np.pi * X[:, 1])
    found = eql(X, y, ["pi", "x"], operators=("+", "*", "sin"), out=tmp_path / "search.csv", rounds=1)
    assert np.abs(evaluate(select(found, "best").sympy, {"pi": X[:, 0], "x": X[:, 1]}) - y).max() < 1e-6


def test_nothing_but_a_constant_is_said(monkeypatch):
    monkeypatch.setattr(regressor, "find_formulas", lambda *a, **k: [])
    with pytest.warns(UserWarning, match="no formula that is better than a constant"):
        found = eql(table(), table()[:, 0], list("xyz"))
    assert len(found) == 1 and not found.table["sympy"][0].free_symbols


def test_a_root_without_roots_is_no_constant():
    x = np.linspace(0.01, 4, 100)[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = eql(x, np.sqrt(x[:, 0]), ["x"], rounds=1, time_limit=25)
    best = select(found, "best")
    assert best.loss < 1e-3 and best.sympy.free_symbols == {symbol("x")}


# ---------------------------------------------------------------- sowing


def test_drawn_arguments_have_one_input_or_two_and_exponents_are_constants():
    for name in ("square", "product", "power"):
        drawn = draw_arguments(4, PRIMITIVES[name], 500, torch.Generator().manual_seed(0))
        number = (drawn[:, :-1] != 0).sum(1)
        assert (drawn != 0).any(1).all() and number.max() == 2
        assert name != "power" or (number[:, 1] == 0).all()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), layers=st.integers(1, 2))
def test_the_best_of_what_is_planted_lowers_the_error(seed, layers):
    X = table(50, seed % 5)
    t = typical_table(X, X[:, 0] ** 2 * X[:, 1], list("xyz"))
    p = t.problem(unplanted(4, layers, {"square": 1, "product": 1, "exp": 1}))
    fit_problem(p, 5)
    start, before, after = (p.theta, p.keep), float(p.residual().square().sum()), []
    for sprout in sprouts(p, torch.Generator().manual_seed(seed)):
        assert plant(p.net, sprout)
        theta, keep = p.theta, p.keep
        p.put(theta, keep)
        free = [layer.mask.clone() for layer in p.net.hidden]
        free_arguments(p.net)
        assert all((now >= old).all() for now, old in zip([layer.mask for layer in p.net.hidden], free))
        p.put(theta, keep)
        fit_problem(p, 3)
        after.append(float(p.residual().square().sum()))
        p.put(*start)
    assert min(after) < 0.97 * before


def test_places_are_those_of_the_network():
    net = unplanted(2, 1, {"square": 1, "product": 1}, each=2)
    places = unit_places(net.hidden[0])
    assert [(p.name, columns, output) for p, columns, output in places] == [
        ("square", [0], 0), ("square", [1], 1), ("product", [2, 4], 2), ("product", [3, 5], 3)]
    assert len(closed_places(net.hidden[0], PRIMITIVES["product"])) == 2
    net.hidden[0].mask[0][:, 4] = 1.0
    assert closed_places(net.hidden[0], PRIMITIVES["product"]) == [([3, 5], 3)]


def test_a_wave_is_found_whatever_its_frequency():
    x = np.random.default_rng(0).uniform(-1, 1, (200, 1))
    for frequency in (1, 4, 9):
        t = typical_table(x, np.sin(frequency * np.pi * x[:, 0] + 1), ["x"])
        assert sow(t.problem(unplanted(2, 1, {"sin": 1})), torch.Generator().manual_seed(0)).loss < 1e-9


def test_a_square_in_an_exponential_is_sown_and_read_in_the_users_inputs():
    x = np.random.default_rng(0).uniform(-20, 20, (200, 1))
    t = typical_table(x, 5 * np.exp(-0.02 * x[:, 0] ** 2), ["x"])
    grown = sown(t, primitives={"square": 1, "exp": 1}, layers=2, seed=0, deadline=math.inf)
    found = read_formulas(t, grown)
    assert max(off for _, off in found) <= FAITHFUL_FORMULA
    assert sp.simplify(polished(found[-1][0], t.inputs, t.target)[-1] - parse("5*exp(-x**2/50)")) == 0


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
    one, two = (eql(X, y, list("xyz"), seed=3, rounds=1) for _ in range(2))
    assert one.table["equation"].tolist() == two.table["equation"].tolist()


def test_weights_are_honoured():
    X = table(100)
    y = np.where(np.arange(100) < 50, 2 * X[:, 0], 100 * X[:, 1] ** 3)
    found = eql(X, y, list("xyz"), weights=(np.arange(100) < 50).astype(float), **QUICK)
    best = select(found, "best")
    assert np.abs(evaluate(best.sympy, dict(zip("xyz", X.T))) - y)[:50].max() < 1e-3


def test_a_finished_search_is_not_done_twice(tmp_path, monkeypatch):
    X = table(60)
    search = lambda: eql(X, X[:, 0] * 2, list("xyz"), out=tmp_path / "search.csv", rounds=1)
    first = search()
    monkeypatch.setattr(regressor, "find_formulas", None)
    assert search().table["equation"].tolist() == first.table["equation"].tolist()


def test_operators_become_operations():
    assert operator_units(["+", "-", "*", "/"]) == {"identity": 2, "product": 3, "division": 2}
    assert operator_units(["sin", "*"]) == {"identity": 2, "sin": 1, "product": 3}
    assert operator_units(["^", "cos", "tanh", "abs"]) == {"identity": 2, "power": 1, "cos": 1, "tanh": 1, "abs": 1}
    assert set(operator_units(DEFAULT_OPERATORS)) <= set(PRIMITIVES)
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
    how = dict(out=tmp_path / "search.csv", operators=("+", "*"), rounds=1, time_limit=10)
    search = lambda **more: eql(X, y, list("xyz"), **how, **more)
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


def test_noise_does_not_lengthen_the_formula(monkeypatch):
    monkeypatch.setattr(regressor, "WAYS", (trained,))
    X = table(120)[:, :2]
    y = X[:, 0] / X[:, 1]
    noisy = y * (1 + 0.01 * np.random.default_rng(1).normal(size=120))
    small = dict(rounds=1, trials=1, layers=1, steps=150)
    model = SymbolicRegressor("eql", operators=("+", "*", "/"), settings=small).fit(X, noisy)
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
