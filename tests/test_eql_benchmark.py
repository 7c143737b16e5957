"""The twelve functions: data, the rule that says what counts as found, intervals, tables, and the command line."""

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from symbolic_gn.core.errors import UserError
from symbolic_gn.eql import benchmark as bench
from symbolic_gn.eql.benchmark import (
    BENCHMARK_FUNCTIONS,
    BENCHMARK_METHODS,
    TWELVE,
    benchmark,
    benchmark_main,
    benchmark_row,
    extrapolates,
    learn_function,
    plot_rates,
    read_benchmark,
    same_form,
    sample_function,
    search_function,
    success_rates,
    wilson_interval,
)
from symbolic_gn.eql.equations import Equation
from symbolic_gn.eql.training import Stage
from symbolic_gn.laws.formula import parse

QUICK = (Stage(60, 1e-2), Stage(120, 1e-2, (0.0, 1.0)), Stage(40, (1e-2, 1e-3), 1.0))
names = pytest.mark.parametrize("name", list(BENCHMARK_FUNCTIONS))


def as_equation(expr, name):
    return Equation(parse(expr) if isinstance(expr, str) else expr, tuple(BENCHMARK_FUNCTIONS[name].inputs), 0.0)


def test_there_are_twelve_and_one():
    assert len(TWELVE) == 12 and set(BENCHMARK_FUNCTIONS) - set(TWELVE) == {"(x+yz)3"}
    assert BENCHMARK_FUNCTIONS["(x+yz)3"].layers == 3
    assert BENCHMARK_FUNCTIONS["sin"].law.has(sp.pi)


@names
def test_the_truth_counts_as_found(name):
    eq = as_equation(BENCHMARK_FUNCTIONS[name].law, name)
    assert extrapolates(eq, name)[0] and same_form(eq, name)


@names
def test_a_slightly_different_function_does_not(name):
    law = BENCHMARK_FUNCTIONS[name].law
    off = as_equation(law * sp.Float(1.02), name)
    assert not same_form(off, name)
    assert not extrapolates(as_equation(law + sp.Symbol("x", real=True) ** 5 / 3, name), name)[0]
    assert not same_form(as_equation(law + sp.Float(0.01), name), name)


@names
def test_the_data_are_the_function_and_the_seed(name):
    x, y = sample_function(name, 1.5, 50, seed=3)
    again = sample_function(name, 1.5, 50, seed=3)
    np.testing.assert_array_equal(x, again[0])
    truth = sp.lambdify(
        [sp.Symbol(c, real=True) for c in BENCHMARK_FUNCTIONS[name].inputs], BENCHMARK_FUNCTIONS[name].law, "numpy"
    )
    np.testing.assert_allclose(y, truth(*x.T), rtol=1e-12, atol=1e-12)
    assert np.abs(x).max() <= 1.5 and not np.array_equal(x, sample_function(name, 1.5, 50, seed=4)[0])


def test_an_approximation_extrapolates_but_is_not_the_law():
    assert extrapolates(as_equation("x + 0.001*sin(5*x)", "x"), "x")[0]
    assert not same_form(as_equation("x + 0.1*sin(5*x)", "x"), "x")
    assert not same_form(as_equation("log(x)", "x"), "x")  # not even finite


def test_training_data_are_not_the_test_data():
    x, _ = sample_function("x", 2.0, 100, seed=1)
    assert np.abs(x).max() > 1 and not set(x.ravel()) & set(sample_function("x")[0].ravel())


@given(n=st.integers(1, 200), data=st.data())
@settings(max_examples=60, deadline=None)
def test_wilson_agrees_with_scipy(n, data):
    k = data.draw(st.integers(0, n))
    theirs = binomtest(k, n).proportion_ci(0.95, "wilson")
    assert wilson_interval(k, n, 1.959964) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_wilson_refuses_nonsense():
    with pytest.raises(UserError, match="3 successes of 2 trials"):
        wilson_interval(3, 2)


def test_a_learner_finds_the_square_and_says_so():
    rows = pd.DataFrame(learn_function("x2", trials=2, stages=QUICK, rounds=1, primitives={"identity": 2, "square": 2}))
    assert len(rows) == 2 and rows["chosen"].sum() == 1
    assert rows["found"].any() and rows.loc[rows["chosen"], "found"].all()
    assert (rows["faithfulness"] <= 1e-5).all() and rows["versions"].str.contains("torch").all()
    assert rows["seed"].tolist() == [0, 1]


def test_a_trial_that_never_became_finite_is_a_failure(monkeypatch):
    class One:
        equations, validation, rounds, trials, order = (
            [as_equation("x**2", "x2")], np.array([0.0]), [1], [1], np.array([0])
        )

    monkeypatch.setattr(bench, "fit_equations", lambda *a, **k: One)
    rows = pd.DataFrame(learn_function("x2", trials=3))
    assert rows["found"].tolist() == [False, True, False] and rows["chosen"].tolist() == [False, True, False]


@pytest.mark.parametrize("method", ["Operon", "engine eql"])
def test_searches_are_judged_by_the_same_rule(method):
    rows = pd.DataFrame(BENCHMARK_METHODS[method]("xy", 1, 0))
    assert rows["found"].all() and rows["method"].tolist() == [method]


def test_settings_reach_the_engine():
    rows = pd.DataFrame(search_function("xy", "operon", trials=1, restarts=1, evaluations=500, operators=("+", "*")))
    assert rows["method"].tolist() == ["operon"]


def fake(name, trials, seed):
    eq = as_equation(BENCHMARK_FUNCTIONS[name].law, name)
    return [
        benchmark_row(
            eq, name, method="EQL l0", seed=seed + k, chosen=k == 0, validation=0.0, rounds=1, seconds=1.0, cpu=0.5
        )
        for k in range(trials)
    ]


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(bench, "BENCHMARK_METHODS", {"EQL l0": lambda *a: calls.append(a[0]) or fake(*a)})
    out = tmp_path / "t.csv"
    benchmark(out, ["x"], trials=2, processes=1)
    table = benchmark(out, ["x", "xy"], trials=2, processes=1)
    assert calls == ["x", "xy"] and len(table) == len(read_benchmark(out)) == 4
    s = success_rates(table)
    assert (
        s["found"].tolist() == [1.0, 1.0]
        and s["best"].all()
        and s["low"].tolist() == pytest.approx([wilson_interval(2, 2)[0]] * 2)
    )


def test_the_figure_has_a_bar_for_each_share():
    ax = plot_rates(pd.DataFrame(fake("x", 3, 0) + fake("xy", 3, 0)))
    assert [p.get_height() for p in ax.patches] == [1.0, 1.0]


@pytest.mark.parametrize(("arguments", "says"), [
    (["--functions", "x4"], "function 'x4' is unknown"),
    (["--methods", "EQL l1"], "method 'EQL l1' is unknown, did you mean 'EQL l0'"),
])
def test_mistakes_on_the_command_line_end_with_2(tmp_path, capsys, arguments, says):
    assert benchmark_main(["--out", str(tmp_path / "t.csv"), *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(UserError, match="is no table of this benchmark"):
        read_benchmark(tmp_path / "t.csv")
    (tmp_path / "u.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match="is no table of this benchmark"):
        read_benchmark(tmp_path / "u.csv")
    assert set(BENCHMARK_METHODS) == {"EQL l0", "EQL l05", "Operon", "engine eql"}
