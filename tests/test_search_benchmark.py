"Public problems, the rule that says what counts as found, and the command that measures engines."
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import sympy as sp

from symbolic_gn.core.contracts import ENGINES
from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import complexity, parametrise, parse, symbol
from symbolic_gn.search import benchmark as bench
from symbolic_gn.search.benchmark import exact, judge_front, judge_one, main, plot_summary, run, summary
from symbolic_gn.search.front import Front
from symbolic_gn.search.operon import operon
from symbolic_gn.search.problems import GROUPS, PROBLEMS, TWENTY, SearchProblem, draw_problem, values_at
from symbolic_gn.search.runs import read_rows

QUICK = dict(seconds=None, restarts=1, evaluations=1000)
everywhere = pytest.mark.parametrize("name", list(PROBLEMS))


def verdict(text, name):
    p = PROBLEMS[name]
    return exact(parse(text) if isinstance(text, str) else text, p, *draw_problem(p)[2:])


# problems and data


def test_the_groups_are_whole():
    sizes = dict(nguyen=12, keijzer=15, feynman=92, livermore=22, twenty=20, all=141)
    assert {name: len(group) for name, group in GROUPS.items()} == sizes
    assert len(set(TWENTY)) == 20 and {PROBLEMS[n].group for n in TWENTY} == {"nguyen", "keijzer", "feynman"}
    assert all(p.name == name and p.source and p.rows > 0 for name, p in PROBLEMS.items())
    assert max(len(p.ranges) for p in PROBLEMS.values()) == 5


@everywhere
def test_a_problem_can_be_read_and_has_values(name):
    p = PROBLEMS[name]
    assert {s.name for s in p.law.free_symbols} == set(p.ranges)
    assert all(low < high for low, high in p.ranges.values()) and not {"pi", "I", "harmonic"} & set(p.ranges)
    X, y, X_test, y_test = draw_problem(p)
    assert X.shape == (max(200, p.rows), len(p.ranges)) and X_test.shape == (1000, len(p.ranges))
    assert np.isfinite(y).all() and np.isfinite(y_test).all() and np.std(y) > 0
    low, high = np.array(list(p.ranges.values())).T
    assert (low <= X).all() and (X <= high).all() and (low <= X_test).all() and (X_test <= high).all()


@pytest.mark.parametrize("name, at, value", [
    ("nguyen-12", (2.0, 3.0), 16 - 8 + 4.5 - 3), ("nguyen-5", (1.0,), np.sin(1) * np.cos(1) - 1),
    ("keijzer-6", (4.0,), 1 + 1 / 2 + 1 / 3 + 1 / 4), ("keijzer-9", (3.0,), np.arcsinh(3)),
    ("keijzer-5", (1.0, 2.0, 1.5), 30 * 1 * 2 / (-9 * 1.5**2)),  # the order is that of the ranges: x, z, y
    ("keijzer-15", (1.76953, -7.42961), -198.28566697184982), ("I.6.2a", (0.0,), 1 / np.sqrt(2 * np.pi)),
    ("I.48.2", (2.0, 3.0, 5.0), 2 * 25 / 0.8), ("II.3.24", (1.0, 2.0), 1 / (16 * np.pi)),
    ("I.26.2", (0.5, np.pi / 2), np.pi / 6), ("II.35.21", (2.0, 3.0, 1.0, 2.0, 5.0), 6 * np.tanh(0.3)),
])
def test_values_by_hand(name, at, value):
    np.testing.assert_allclose(PROBLEMS[name](np.array([at])), [value], rtol=1e-12)


def test_data_depend_on_the_name_and_the_seed_only():
    first, again = draw_problem("nguyen-1", seed=3), draw_problem("nguyen-1", seed=3, noise=0.1)
    for a, b in zip(first[:1] + first[2:], again[:1] + again[2:]):
        np.testing.assert_array_equal(a, b)  # noise is on the target to learn from, and nowhere else
    assert 0.05 < np.std(first[1] - again[1]) / np.std(first[1]) < 0.15
    assert not np.array_equal(first[0], draw_problem("nguyen-1", seed=4)[0])
    assert not np.array_equal(first[0], draw_problem("nguyen-2", seed=3)[0])  # the same range
    assert not set(first[0].ravel()) & set(first[2].ravel())
    np.testing.assert_array_equal(draw_problem("nguyen-1", 3, rows=50)[3], first[3])
    assert draw_problem("nguyen-1", rows=50)[0].shape == (50, 1)


@pytest.mark.parametrize("wrong", [dict(rows=0), dict(noise=-1.0), dict(noise=np.nan)])
def test_senseless_data_are_refused(wrong):
    with pytest.raises(UserError, match="make no sense"):
        draw_problem("nguyen-1", **wrong)


def test_values_outside_the_reals_are_nan():
    X = np.array([[-1.0], [0.0], [4.0]])
    np.testing.assert_array_equal(values_at(X, parse("sqrt(x)"), ("x",)), [np.nan, 0, 2])
    np.testing.assert_array_equal(values_at(X, sp.Integer(2), ("x",)), [2, 2, 2])
    np.testing.assert_array_equal(values_at(X, sp.sqrt(-2) * symbol("x"), ("x",))[[0, 2]], [np.nan, np.nan])


# what counts as found


def disturbed(p, factor):
    form, start = parametrise(bench._whole_floats(sp.N(p.law)))
    return form.xreplace({symbol(n): sp.Float(factor * v) for n, v in start.items()})


@everywhere
def test_the_truth_counts_as_found(name):
    if name == "keijzer-6":
        pytest.skip("has no form that an engine could write")
    p = PROBLEMS[name]
    factor = 0.999 if name == "III.4.32" else 0.99  # close to a pole
    assert exact(disturbed(p, factor), p, *draw_problem(p, seed=1)[2:])


@pytest.mark.parametrize("name", TWENTY)
def test_a_term_too_many_does_not_count(name):
    p = PROBLEMS[name]
    *_, X, y = draw_problem(p)
    n = next(iter(p.ranges))
    assert not exact(sp.N(p.law) + sp.Float(1e-3) * symbol(n) ** 7, p, X, y)


@pytest.mark.parametrize("text, name", [
    ("x*(x*(x + 1) + 1)", "nguyen-1"), ("(x + 1)*(x**2 + 1) - 1", "nguyen-1"), ("1.3*x**2.0 + x + x**3.0", "nguyen-1"),
    ("x**3 + x**2 + x + 0.02", "nguyen-1"), ("x**0.48", "nguyen-8"), ("sqrt(abs(x))", "nguyen-8"),
    ("exp(0.49*log(x))", "nguyen-8"),
    ("log((x + 1)*(x**2 + 1))", "nguyen-7"), ("log(x**3 + x**2 + x + 1)", "nguyen-7"), ("exp(y*log(x))", "nguyen-11"),
    ("sin(x + y) + sin(x - y)", "nguyen-10"), ("1.9*sin(x)*sin(y + 1.5)", "nguyen-10"),
    ("log(sqrt(x*x + 1) + x)", "keijzer-9"),
    ("d1*d2/(d2 + n*d1)", "I.27.6"), ("c*c*(u + v)/(c*c + u*v)", "I.16.6"), ("0.08*Pwr/r/r", "II.3.24"),
    ("m*c**3/sqrt(c**2 - v**2)", "I.48.2"), ("c*omega_0/(c - v)", "I.34.1"), ("0.4*exp(-0.49*theta**2)", "I.6.2a"),
    ("q**1.02*C**(-0.98)", "I.25.13"), ("epsilon**0.99*Ef**2.01", "II.27.18"),  # free powers
    ("abs(q)/sqrt(C**2)", "I.25.13"), ("exp(log(q) - log(C))", "I.25.13"),
])
def test_other_ways_to_write_it_count(text, name):
    assert verdict(text, name)


@pytest.mark.parametrize("text, name", [
    ("x**3 + x**2", "nguyen-1"), ("x**2 + tan(x)", "nguyen-1"), ("x", "nguyen-8"), ("1.2*log(x + 1.1)", "nguyen-8"),
    ("q/C + 0.001*q", "I.25.13"), ("q/(C + 0.0001*q)", "I.25.13"), ("q/(C + 0.0001)", "I.25.13"),  # contain the truth
    ("1000*sin(0.001*q)/C", "I.25.13"), ("1000*sin(0.001*q/C)", "I.25.13"), ("500*(exp(0.002*q/C) - 1)", "I.25.13"),
    ("1000*log(1 + 0.001*q/C)", "I.25.13"), ("q*exp(0.00001*q)/C", "I.25.13"), ("q/C*cos(0.0001*q)", "I.25.13"),
    ("2000*(sqrt(1 + 0.001*q) - 1)/C", "I.25.13"), ("1000*(1.001**q - 1)/C", "I.25.13"),
    ("q*C**0.99", "I.25.13"), ("q", "I.25.13"), ("3.0", "I.25.13"), ("q/C + z", "I.25.13"), ("q/0", "I.25.13"),
    ("log(x) + 0.5772 + 1/(2*x) - 0.0833/x**2", "keijzer-6"), ("log(x + 0.5) + 0.577", "keijzer-6"),
    ("sin(x)", "keijzer-1"), ("0.3*x*sin(2*x)", "keijzer-3"),  # a frequency that is far off
    ("x - x**3/6 + x*y", "nguyen-10"),
])
def test_what_is_something_else_does_not_count(text, name):
    if text == "q/0":
        assert not verdict(sp.zoo, name)
        return
    assert not verdict(text, name)


def test_accurate_junk_does_not_count():
    "A polynomial of degree twelve for a sine of a square: right to a millionth of the spread, and too long."
    p = PROBLEMS["nguyen-5"]
    *_, X, y = draw_problem(p)
    c = np.polynomial.polynomial.polyfit(X[:, 0], y, 14)
    junk = sum(sp.Float(a) * symbol("x") ** k for k, a in enumerate(c))
    assert np.abs(values_at(X, junk, ("x",)) - y).max() < 1e-6 * np.std(y)
    assert complexity(junk) > 2 * p.size + 5 and not exact(junk, p, X, y)


def test_a_short_approximation_falls_apart_outside(monkeypatch):
    "A ratio of polynomials that is exp(-x²) to a millionth on a short range; nothing but the wider range tells."
    p = SearchProblem("bell", "mine", "exp(-x**2)", {"x": (0.0, 1.0)}, 200, "here")
    *_, X, y = draw_problem(p)
    form = parse("(1 + 0.1*x**2 + 0.1*x**4)/(1 + 1.1*x**2 + 0.6*x**4 + 0.1*x**6 + 0.01*x**8)")
    monkeypatch.setattr(SearchProblem, "size", 30)
    assert not exact(form, p, X, y)
    monkeypatch.setattr(SearchProblem, "inputs", lambda self, rows, generator, wider=0.0: X)
    assert exact(form, p, X, y)


def test_longer_polynomials_count_by_their_terms():
    expr = parse("(x + 1)*(x + 2)*(x + 3)*(x + 4) - (x**4 + 9*x**3 + 34*x**2 + 49*x + 24)")
    assert complexity(expr) > 2 * PROBLEMS["nguyen-1"].size + 5
    assert verdict(expr, "nguyen-1") and not verdict(expr + symbol("x") ** 2 / 20, "nguyen-1")


def test_a_form_with_a_few_missing_values_is_still_refitted():
    text = "sqrt(x1**2 + x2**2 - 2.01*x1*x2*cos(theta1 - theta2))"
    *_, X, _ = draw_problem("I.29.16")
    assert verdict(text, "I.29.16")
    assert verdict("1.1*x**0.5", "nguyen-8") and not verdict("sqrt(x - 2)", "nguyen-8")


# one run


def test_a_front_is_judged_with_and_without_the_rule():
    p = PROBLEMS["nguyen-1"]
    data = draw_problem(p)[2:]
    found = {"x": 0.3, "x + x**2": 0.001, "x + x**2 + 0.98*x**3": 0.0009}
    said = judge_front(Front.of([(parse(t), loss) for t, loss in found.items()]), p, *data)
    assert (said["exact"], said["on_front"], said["equation"]) == (False, True, "x**2 + x")
    assert 0 < said["r2"] < 1 and said["truth"] == p.size
    bad = judge_front(Front.of([(parse("log(x)"), 0.3)]), p, *data)
    assert bad["r2"] == -np.inf and not bad["on_front"]


def test_one_run_is_a_row_and_can_be_repeated():
    row, again = (judge_one("II.27.18", "operon", seed=2, noise=0.01, **QUICK) for _ in range(2))
    clocks = {"seconds", "cpu"}
    assert {k: v for k, v in row.items() if k not in clocks} == {k: v for k, v in again.items() if k not in clocks}
    assert row["error"] == "" and row["r2"] > 0.9 and row["group"] == "feynman" and row["noise"] == 0.01
    assert row["seconds"] > 0 and row["cpu"] > 0 and "pyoperon" in row["versions"] and "sympy" in row["versions"]


def test_an_engine_gets_the_same_as_all_others():
    asked = {}

    def spy(X, y, names, **settings):
        asked.update(settings, names=names, rows=len(y), y=y)
        return operon(X, y, names, seed=0, restarts=1, evaluations=500)

    row = judge_one("I.12.5", spy, seed=7, seconds=12.0, more=1)
    assert asked["seed"] == 7 and asked["time_limit"] == 12.0 and asked["more"] == 1 and asked["rows"] == 1000
    assert asked["operators"] == bench.BENCHMARK_OPERATORS and asked["names"] == ["q2", "Ef"]
    np.testing.assert_array_equal(asked["y"], draw_problem("I.12.5", 7)[1])
    assert row["engine"] == "spy" and row["limit"] == 12.0
    row = judge_one("livermore-12", spy, published=True)
    assert asked["rows"] == row["rows"] == 50 and row["key"] != judge_one("livermore-12", spy)["key"]


def test_time_is_used_up_and_not_exceeded():
    row = judge_one("keijzer-4", "operon", seconds=1.0, evaluations=1000)
    assert 0.9 <= row["seconds"] < 8  # the last run may be told to stop after whole seconds only


@pytest.mark.parametrize("engine", [
    lambda X, y, names, **s: 1 / 0, lambda X, y, names, **s: Front.of([]), lambda X, y, names, **s: None,
], ids=["raises", "empty", "nothing"])
def test_an_engine_that_fails_gives_a_row(engine):
    row = judge_one("I.12.5", engine)
    assert row["error"] and not row["exact"] and not row["on_front"] and row["equation"] == ""


def test_wrong_names_are_told_before_anything_runs():
    for wrong in (dict(problem="nguyen-13"), dict(problem="nguyen-1", rule="bst")):
        with pytest.raises(UserError, match="is unknown"):
            judge_one(**wrong)


# many runs


def test_what_is_finished_is_not_made_again(tmp_path, monkeypatch):
    calls = []

    def counted(X, y, names, **settings):
        calls.append(settings["seed"])
        return operon(X, y, names, **(settings | {"evaluations": 500, "restarts": 1}))

    monkeypatch.setitem(ENGINES, "counted", counted)
    out = tmp_path / "deep" / "rows.csv"
    grid = dict(problems=["I.12.5"], engines=["counted"], seconds=None, progress=False)
    run(out, **grid)
    first = out.read_bytes()
    table = run(out, **grid, seeds=[0, 1])
    assert calls == [0, 1] and out.read_bytes().startswith(first) and table["seed"].tolist() == [0, 1]
    run(out, **grid, seeds=[0, 1])
    assert calls == [0, 1]
    assert len(run(out, **grid, max_length=9)) == 3  # other settings are another run
    assert len(run(out, **{**grid, "seconds": 30.0})) == 4
    assert not list(out.parent.glob(".*"))


def test_failed_runs_are_made_again_only_when_asked(tmp_path, monkeypatch):
    out, calls = tmp_path / "rows.csv", []

    def shaky(X, y, names, **settings):
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("a bad day")
        return operon(X, y, names, restarts=1, evaluations=500)

    monkeypatch.setitem(ENGINES, "shaky", shaky)
    grid = dict(out=out, problems=["I.12.5"], engines=["shaky"], progress=False)
    assert run(**grid)["error"].tolist() == ["RuntimeError: a bad day"]
    assert len(run(**grid)) == len(calls) == 1
    run(**grid, retry=True)
    table = run(**grid, retry=True)
    assert len(calls) == 3 and len(table) == 1 and table["error"].tolist() == [""] and table["exact"].all()


def test_an_interruption_leaves_whole_rows(tmp_path, monkeypatch):
    def stop(X, y, names, **settings):
        if "Ef" in names:
            raise KeyboardInterrupt
        return operon(X, y, names, restarts=1, evaluations=500)

    monkeypatch.setitem(ENGINES, "stop", stop)
    out = tmp_path / "rows.csv"
    with pytest.raises(KeyboardInterrupt):
        run(out, ["I.25.13", "I.12.5"], ["stop"], progress=False)
    assert read_rows(out)["problem"].tolist() == ["I.25.13"]


def test_processes_give_the_same_rows(tmp_path):
    grid = dict(problems=["I.12.5", "I.25.13", "II.27.18"], noises=[0.0, 0.01], progress=False, **QUICK)
    one, two = run(tmp_path / "one.csv", **grid), run(tmp_path / "two.csv", jobs=2, **grid)
    same = ["problem", "noise", "equation", "exact", "on_front", "r2", "complexity"]
    one, two = (t.sort_values(["noise", "problem"], ignore_index=True)[same] for t in (one, two))
    pd.testing.assert_frame_equal(one, two)


def test_a_process_that_dies_costs_one_row(tmp_path, monkeypatch):
    def deadly(problem, **job):
        if problem == "I.25.13":
            os._exit(9)
        return bench._head(problem, **job) | bench._NOTHING | dict(seconds=0.0, cpu=0.0, versions="")

    monkeypatch.setattr(bench, "judge_one", deadly)
    table = run(tmp_path / "rows.csv", ["I.12.5", "I.25.13", "nguyen-1", "nguyen-2"], jobs=2, progress=False)
    assert set(table["problem"]) == {"I.12.5", "I.25.13", "nguyen-1", "nguyen-2"}
    assert table.loc[table["error"] != "", "problem"].tolist() == ["I.25.13"]
    assert "process died" in table.set_index("problem").loc["I.25.13", "error"]


@pytest.mark.parametrize("wrong", [dict(noise=-1.0), dict(noise=np.nan), dict(seconds=0.0), dict(seconds=-2.0)])
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(UserError, match="make no sense"):
        judge_one("nguyen-1", **wrong)


@pytest.mark.parametrize("wrong, told", [
    (dict(problems=["nguyen-13"]), "problem 'nguyen-13' is unknown"),
    (dict(engines=["opern"]), "engine 'opern' is unknown"),
    (dict(rule="bst"), "rule 'bst' is unknown"),
    (dict(out=f"{__file__}/rows.csv"), "cannot be written"),
])
def test_mistakes_are_told_before_anything_runs(tmp_path, wrong, told):
    with pytest.raises(UserError, match=told):
        run(**{"out": tmp_path / "rows.csv", "progress": False} | wrong)
    assert not list(tmp_path.iterdir())


def test_a_foreign_file_is_not_overwritten(tmp_path):
    path = tmp_path / "mine.csv"
    for content in ("a,b\n1,2\n", "", "\x00\x01"):
        path.write_text(content)
        with pytest.raises(UserError, match="is no table of these runs"):
            run(path, progress=False)
        assert path.read_text() == content


# counts and the command


def rows_of(*found):
    keep = dict(seconds=2.0, cpu=1.5)
    return pd.DataFrame([
        dict(key=str(k), engine=e, group=g, noise=n, exact=x, on_front=f, error=err, **keep)
        for k, (e, g, n, x, f, err) in enumerate(found)
    ])


def test_counts_add_up():
    table = rows_of(
        ("a", "nguyen", 0.0, True, True, ""), ("a", "nguyen", 0.0, False, True, ""),
        ("a", "nguyen", 0.1, False, False, "x"),
        ("b", "nguyen", 0.0, True, True, ""),
    )
    counts = summary(table).set_index(["engine", "noise"])
    assert counts.loc[("a", 0.0), ["runs", "exact", "on_front", "failed"]].tolist() == [2, 1, 2, 0]
    assert counts.loc[("a", 0.1), ["runs", "exact", "on_front", "failed"]].tolist() == [1, 0, 0, 1]
    assert counts.loc[("a", 0.0), "share"] == 0.5 and counts.loc[("b", 0.0), "seconds"] == 2.0
    heights = [bar.get_height() for bar in plot_summary(table).patches]
    assert heights == [1.0, 0.0, 0.5, 0.0, 1.0, 1.0]


def test_the_command_runs_and_resumes(tmp_path, capsys):
    words = ["--out", str(tmp_path / "rows.csv"), "--problem", "I.12.5", "--set", "restarts=1", "evaluations=1000"]
    assert main(words) == 0 and main(words) == 0
    assert "operon feynman" in " ".join(capsys.readouterr().out.split()) and len(read_rows(tmp_path / "rows.csv")) == 1


@pytest.mark.parametrize("words, told", [
    (["--group", "nguyn"], "did you mean 'nguyen'?"), (["--problem", "nguyen-13"], "is unknown"),
    (["--engine", "opern"], "did you mean 'operon'?"), (["--rule", "bst"], "rule 'bst' is unknown"),
    (["--set", "length"], "write NAME=VALUE"), (["--set", "seed=3"], "an option of its own"),
    (["--noise", "-1"], "make no sense"), (["--jobs", "0"], "jobs is 0"),
])
def test_the_command_tells_mistakes_in_one_line(tmp_path, capsys, words, told):
    assert main(["--out", str(tmp_path / "rows.csv"), *words]) == 2
    said = capsys.readouterr().err.strip()
    assert told in said and said.startswith("error: ") and "\n" not in said
    assert not list(tmp_path.iterdir())


def test_the_module_is_a_command(tmp_path):
    def ran(*words):
        command = [sys.executable, "-m", "symbolic_gn.search.benchmark", "--out", str(tmp_path / "rows.csv"), *words]
        return subprocess.run(command, capture_output=True, text=True)

    wrong = ran("--group", "none")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: group 'none' is unknown") and not wrong.stdout
    right = ran("--problem", "I.12.5", "I.25.13", "--jobs", "2", "--set", "restarts=1", "evaluations=500")
    assert right.returncode == 0 and "feynman" in right.stdout
    assert sorted(read_rows(tmp_path / "rows.csv")["problem"]) == ["I.12.5", "I.25.13"]
