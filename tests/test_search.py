"Fronts and rules, what engines share, Operon, PySR without Julia, the registry, and the scikit-learn estimator."

import ast
import importlib.util
import inspect
import json
import pickle
import re
import subprocess
import sys
import textwrap
import time
import warnings
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import driven, needs_fork
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator
from truths import NAMES, TRUTH

from symbolic_gn.core import registry
from symbolic_gn.core.contracts import Engine
from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import complexity, evaluate, parse, symbol, tidy
from symbolic_gn.search import operon as operon_module
from symbolic_gn.search import pysr as pysr_module
from symbolic_gn.search.auto import Circle
from symbolic_gn.search.engine import OPERATORS, cache_key, checked_guesses, finished, front_of, keep
from symbolic_gn.search.engines import ENGINES, engines, require_engine, search
from symbolic_gn.search.estimator import SymbolicRegressor
from symbolic_gn.search.front import RULES, Front, select
from symbolic_gn.search.operon import operon
from symbolic_gn.search.pysr import find_julia, pysr, pysr_arguments

HALL = Path(__file__).parent / "data" / "hall_of_fame.csv"
r, m_i, m_j, q_i, q_j = map(symbol, NAMES)
few = settings(max_examples=25, deadline=None)


def data(name, n=600, noise=0.01, seed=0):
    "A table whose target is one of the laws, with noise."
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.uniform(0.3, 4, n), np.exp(rng.normal(size=(n, 2))), np.sign(rng.normal(size=(n, 2)))])
    y = evaluate(parse(TRUTH[name]), dict(zip(NAMES, X.T)))
    return X, y + noise * y.std() * rng.normal(size=n)


# ------------------------------------------------------------------------------------------------ fronts and rules

TABLE_4 = {  # paper, table 4: complexities and losses
    "1/r": {
        1: 103.29053, 2: 96.708906, 3: 93.052677, 5: 85.743106, 6: 68.345174, 8: 31.17, 10: 7.93, 12: 6.96, 14: 2.48,
        16: 0.46575519, 18: 0.42, 20: 0.38, 22: 0.37839388,
    },
    "1/r^2": {
        1: 1570.0905, 3: 1558.9756, 5: 1551.3437, 6: 1520.9493, 8: 913.83751, 12: 160.31243, 14: 131.42547,
        16: 69.447467, 18: 42.323236, 20: 18.400224, 22: 17.954713,
    },
}


@pytest.mark.parametrize("law, chosen, score", [("1/r", 16, 0.836), ("1/r^2", 12, 0.435)])
def test_score_rule_on_the_papers_table(law, chosen, score):
    front = Front(pd.DataFrame(dict(complexity=list(TABLE_4[law]), loss=list(TABLE_4[law].values()), sympy=r)))
    row = select(front, "score")
    assert row.complexity == chosen and row.score == pytest.approx(score, abs=1e-3)
    assert select(front, "best").loss <= 1.5 * min(TABLE_4[law].values())
    assert select(front, "mdl").complexity >= chosen


def test_rules_and_empty_fronts():
    with pytest.raises(UserError, match="rule 'bst' is unknown, did you mean 'best'?"):
        select(Front.of([(r, 1.0)]), "bst")
    with pytest.raises(UserError, match="holds no formula"):
        select(Front.of([]))


@few
@given(st.lists(st.tuples(st.integers(1, 6), st.floats(1e-9, 1e9)), min_size=1, max_size=30))
def test_a_front_is_not_dominated(rows):
    front = Front.of([(r**k + k, loss) for k, loss in rows])
    c, loss = front.table["complexity"].to_numpy(), front.table["loss"].to_numpy()
    assert (np.diff(c) > 0).all() and (np.diff(loss) < 0).all()
    assert loss.min() == min(loss for _, loss in rows) and (front.table["score"] >= 0).all()
    for rule in RULES:
        assert select(front, rule).complexity in c


def test_stored_pysr_hall_of_fame_becomes_a_front(tmp_path):
    front = Front.from_csv(HALL, NAMES)
    assert list(front.table.columns) == ["complexity", "loss", "score", "equation", "sympy"] and len(front) == 8
    assert select(front, "best").sympy == m_i * m_j / (r + sp.Float("0.010031")) ** 2
    assert front.table["sympy"].iloc[4] == m_i * m_j / r**2 and front.table["sympy"].iloc[-1].has(q_i**3)
    front.to_csv(tmp_path / "lower.csv")
    again = Front.from_csv(tmp_path / "lower.csv", NAMES)
    assert np.allclose(again.table["loss"], front.table["loss"])
    assert (tmp_path / "lower.csv").read_text().startswith("complexity")
    assert [f.name for f in tmp_path.iterdir()] == ["lower.csv"]


def test_a_front_comes_back_from_its_file_as_it_was(tmp_path):
    texts = ["0.1234567890123456*r", "1.1*(q_i + 2.25*(cos(q_j) - 0.31)*sin(q_i))*cos(q_j)", "IF(r > 2.5, m_i/3, 0)",
             "-2*(r - 1)*m_i/(3*(r + 2))", "sqrt(2)*r**1.7/(q_i + 1)**2", "max(r - 1e-05, 0)*m_j"]
    kept = [*map(parse, texts), sp.Mul(2, r + m_i, evaluate=False), tidy(parse("3.3*m_i*(2.1*m_j)/(0.07 + 6.9*r)"))]
    front = Front.of((e, 1 / (1 + complexity(e)) + 1e-3 * k) for k, e in enumerate(kept))
    assert len(front) >= 6
    front.to_csv(tmp_path / "front.csv")
    again = Front.from_csv(tmp_path / "front.csv", NAMES)
    assert again.table.equals(front.table) and list(again.table["sympy"]) == list(front.table["sympy"])
    assert [complexity(e) for e in again.table["sympy"]] == list(front.table["complexity"])


def test_julias_numbers_are_read_and_names_are_left_alone(tmp_path):
    (tmp_path / "hall.csv").write_text("Complexity,Loss,Equation\n3,1,1.5f-2*a1f2\n5,0.5,a1f2*2.0f0 + .5f1\n")
    a = symbol("a1f2")
    assert list(Front.from_csv(tmp_path / "hall.csv", ["a1f2"]).table["sympy"]) == [0.015 * a, 2.0 * a + 5.0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("Complexity,Loss\n1,2\n", "column 'equation' is missing"),
        ("Complexity,Loss,Equation\n1,many,r\n", "must be numbers"),
        ("Complexity,Loss,Equation\n1,2,\"__import__('os')\"\n", "no known function"),
        ("Complexity,Loss,Equation\n1,2,mass\n", "'mass' is unknown"),
        ("", "no CSV file of formulas"),
        ("\x00\x01", "hall.csv"),
    ],
)
def test_foreign_csv_files_are_named(tmp_path, text, message):
    (tmp_path / "hall.csv").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Front.from_csv(tmp_path / "hall.csv", NAMES)
    assert "hall.csv" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="nowhere.csv"):
        Front.from_csv(tmp_path / "nowhere.csv")


def test_fronts_show_and_plot_themselves():
    front = Front.of([(1.23456789 * r, 2.0), (m_i / r**2, 0.1), (parse("IF(r > 2, r, 0)"), 0.01)])
    assert "1.235 r" in front._repr_html_() and "m_{i}" in front._repr_html_()
    assert "complexity" in repr(front) and [row.complexity for row in front] == [3, 5, 8]
    ax = front.plot("score")
    assert ax.get_yscale() == "log" and len(ax.texts) == 3


# ------------------------------------------------------------------------------------------------ what engines share


def test_the_key_of_a_search_is_the_one_of_older_files(tmp_path):
    "A file of finished runs from before stays valid; this key was computed when the function was still private."
    arrays = np.arange(12.0).reshape(6, 2), np.arange(6.0)
    assert cache_key(*arrays, ["r", "m_i"], ["+", "*"], {"max_length": 20}, 3) == "f65c467d1a8deba5"
    keep(tmp_path / "s.csv", "a", 0, ["r", "r**2"])
    keep(tmp_path / "s.csv", "a", 2, ["m_i"])
    keep(tmp_path / "s.csv", "b", 0, ["q_i"])
    assert finished(tmp_path / "s.csv", "a") == {0: ["r", "r**2"], 2: ["m_i"]}
    assert finished(tmp_path / "s.csv", "c") == finished(None, "a") == finished(tmp_path / "none.csv", "a") == {}


def test_a_front_of_formulas_is_tidy_weighted_and_does_not_tell_rounding_apart():
    X = np.linspace(0.5, 3, 40)[:, None]
    y = 2 * X[:, 0] + np.where(np.arange(40) < 20, 0.0, 7.0)
    weights = (np.arange(40) < 20).astype(float)
    front = front_of(["2.0*(1.0*r) + 0.3", "r"], X, y, ["r"], weights)
    assert select(front).sympy == 2.0 * r and select(front).loss < 1e-12 and front.rows == 20
    near = [r + sp.Float(1e-13), r + sp.Float(1e-14) * r**2]
    assert len(front_of([r, *near], X, X[:, 0] + 1e-14, ["r"], floor=1e-9)) == 1


def test_guesses_are_text_or_sympy_in_the_inputs_at_hand():
    assert checked_guesses(["m_i/r", sp.Symbol("r") ** 2, 3 * q_i], NAMES) == [m_i / r, r**2, 3 * q_i]
    assert checked_guesses("r^2", NAMES) == checked_guesses(r**2, NAMES) == [r**2] and checked_guesses((), NAMES) == []
    for bad in ("mass*r", sp.Symbol("mass") * r):
        with pytest.raises(UserError, match="'mass' is unknown; known are r, m_i"):
            checked_guesses([bad], NAMES)


# ------------------------------------------------------------------------------------------------ Operon


@pytest.mark.parametrize("name", TRUTH)
def test_operon_finds_the_form(name):
    X, y = data(name)
    front = search(X, y, NAMES, "operon", restarts=2, evaluations=15_000)
    assert select(front, "best").sympy.free_symbols == parse(TRUTH[name]).free_symbols
    assert (np.diff(front.table["loss"]) < 0).all()


def test_operon_is_deterministic_by_seed():
    X, y = data("r1")
    runs = [operon(X, y, NAMES, seed=s, restarts=1, evaluations=2000) for s in (5, 5, 6)]
    assert runs[0].table.equals(runs[1].table)
    assert not runs[0].table["equation"].equals(runs[2].table["equation"])
    assert len(operon(X, y, NAMES, restarts=1, evaluations=2000, threads=2))


@pytest.fixture
def calls(monkeypatch):
    "The seeds of all evolutions that are made."
    made, real = [], operon_module._evolve

    def evolve(*arguments, **options):
        made.append(options["random_state"])
        return real(*arguments, **options)

    monkeypatch.setattr(operon_module, "_evolve", evolve)
    return made


def test_a_search_resumes_from_its_file(tmp_path, calls):
    X, y = data("spring")
    options = dict(seed=1, evaluations=1500, out=tmp_path / "deep" / "search.csv")
    operon(X, y, NAMES, restarts=2, **options)
    lines = lambda: [row.rpartition(",")[0] for row in (tmp_path / "deep" / "search.csv").read_text().splitlines()]
    before = lines()
    calls.clear()
    resumed = operon(X, y, NAMES, restarts=3, **options)
    assert calls == [1002] and lines()[: len(before)] == before
    whole = operon(X, y, NAMES, restarts=3, **(options | {"out": None}))
    assert whole.table["equation"].equals(resumed.table["equation"])
    calls.clear()
    operon(X, y + 1, NAMES, restarts=1, **options)  # other data: nothing is reused
    assert calls == [1000] and [p.name for p in (tmp_path / "deep").iterdir()] == ["search.csv"]


def test_guesses_enter_operons_front_and_finished_runs_stay_valid(tmp_path, calls):
    X, y = data("r2", noise=0)
    options = dict(restarts=1, evaluations=500, out=tmp_path / "search.csv")
    alone = operon(X, y, NAMES, **options)
    guessed = operon(X, y, NAMES, guesses=[TRUTH["r2"], sp.Symbol("r") * 1e9], **options)
    assert calls == [0] and select(alone).loss > 1e-6
    assert select(guessed).sympy == parse(TRUTH["r2"]) and select(guessed).loss < 1e-12
    with pytest.raises(UserError, match="'mass' is unknown"):
        operon(X, y, NAMES, guesses=["mass"], **options)


def test_a_foreign_results_file_is_refused_and_left_alone(tmp_path):
    X, y = data("spring")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="notes.csv: is no file of search results"):
        operon(X, y, NAMES, out=tmp_path / "notes.csv")
    assert (tmp_path / "notes.csv").read_text() == "a,b\n1,2\n"


def test_an_interrupted_search_keeps_what_it_found(monkeypatch):
    X, y = data("spring")
    real, made = operon_module._evolve, []

    def evolve(*arguments, **options):
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(operon_module, "_evolve", evolve)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        front = operon(X, y, NAMES, evaluations=1000)
    assert len(front) and "1 of 4 runs kept" in str(seen[-1].message)
    made[:] = [1]
    with pytest.raises(KeyboardInterrupt):
        operon(X, y, NAMES)


def test_a_run_that_the_clock_cut_is_not_kept(tmp_path):
    X, y = data("spring", n=300)
    operon(X, y, NAMES, out=tmp_path / "s.csv", restarts=1, evaluations=10**8, time_limit=3.0)
    assert not (tmp_path / "s.csv").exists()


def test_time_limit_weights_and_operators(tmp_path):
    X, y = data("spring", n=300)
    y = np.where(np.arange(300) < 150, y, 5.0)  # the second half is wrong and gets no weight
    weights = (np.arange(300) < 150).astype(float)
    limits = dict(time_limit=1.0, restarts=50, evaluations=3000)
    front = operon(X, y, NAMES, weights=weights, out=tmp_path / "s.csv", **limits)
    found = select(front).sympy
    assert found.free_symbols == {r} and np.allclose(evaluate(found, {"r": X[:, 0]}), 2 * X[:, 0] - 1.98, atol=0.06)
    assert pd.read_csv(tmp_path / "s.csv")["restart"].nunique() < 50
    curve = operon(X, np.exp(-X[:, 0]), NAMES, operators=("*", "+", "exp"), restarts=1, evaluations=5000)
    assert any(e.has(sp.exp) for e in curve.table["sympy"])


@pytest.mark.parametrize("word", sorted(set(operon_module._WORDS) - {"-"}))
def test_what_operon_writes_with_an_operator_can_be_read_back(word):
    X, _ = data("spring", n=100)
    target = np.exp(-X[:, 0]) + np.sin(3 * X[:, 1])
    assert len(operon(X, target, NAMES, operators=["+", "*", word], restarts=1, evaluations=600))


def test_an_operator_that_operon_does_not_have_is_told():
    with pytest.raises(UserError, match="engine 'operon' has no operator 'floor'; choose from"):
        operon(*data("spring", n=50), NAMES, operators=("+", "floor"))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda X, y, n: (X, y[:-1], n), "y has 599 rows"),
        (lambda X, y, n: (X * np.nan, y, n), "found NaN"),
        (lambda X, y, n: (X[:3], y[:3], n), "3 rows are too few"),
        (lambda X, y, n: (X, y, n[:-1]), "there are 4 names"),
        (lambda X, y, n: (X, y, [*n[:-1], "q j"]), "cannot be read"),
    ],
)
def test_searches_check_their_arrays(change, message):
    with pytest.raises(UserError, match=message):
        operon(*change(*data("r1"), NAMES))


@pytest.mark.parametrize("weights", [-np.ones(600), np.zeros(600), np.ones(599), np.full(600, np.nan)])
def test_weights_that_are_none_are_told(weights):
    with pytest.raises(UserError, match="weights must be one non-negative number for each row"):
        operon(*data("r1"), NAMES, weights=weights)


DRIVER = """
    import numpy as np
    from symbolic_gn.search.front import Front
    from symbolic_gn.search.operon import operon
    from symbolic_gn.laws.formula import parse

    home = Path(sys.argv[1])

    def search(folder):
        X = np.load(home / "X.npy")
        operon(X, 2 * X[:, 0] - 1.98, ["r", "m_j"], restarts=20, evaluations=1500, out=folder / "search.csv")

    def write(folder):
        front = Front.of([(parse("2*r - 1.98"), 0.1)])
        while True:
            front.to_csv(folder / "front.csv")

    killed(home, ((search, ("search.csv",)), (write, ("front.csv",))))
"""


@needs_fork
def test_kill_9_corrupts_no_file_and_the_search_goes_on(tmp_path):
    "One process forks workers that search and write, and kills each in the middle."
    X = np.random.default_rng(0).uniform(0.5, 3, (200, 2))
    np.save(tmp_path / "X.npy", X)
    codes = []
    with driven(DRIVER, tmp_path) as deaths:
        for job, by_signal in deaths:
            codes.append((job, by_signal))
            for path in (tmp_path / job).glob("*.csv"):
                assert pd.read_csv(path).notna().all(axis=None)
    assert [job for job, _ in codes] == ["search"] * 4 + ["write"] * 4
    killed = {job: sum(by_signal for j, by_signal in codes if j == job) for job in ("search", "write")}
    assert killed["search"] and killed["write"] == 4, codes
    assert list(Front.from_csv(tmp_path / "write" / "front.csv").table["sympy"]) == [parse("2*r - 1.98")]

    options = dict(restarts=20, evaluations=1500)
    target, names = 2 * X[:, 0] - 1.98, ["r", "m_j"]
    front = operon(X, target, names, out=tmp_path / "search" / "search.csv", **options)
    assert front.table.equals(operon(X, target, names, out=tmp_path / "other.csv", **options).table)
    assert sorted(pd.read_csv(tmp_path / "search" / "search.csv")["restart"].unique()) == list(range(20))


# ------------------------------------------------------------------------------------------------ PySR without Julia


def pysr_signature():
    "Arguments of the installed PySRRegressor and of its fit, read from the source; nothing is imported."
    folder = importlib.util.find_spec("pysr").submodule_search_locations[0]
    tree = ast.parse(Path(folder, "sr.py").read_text(encoding="utf-8"))
    regressor = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "PySRRegressor")
    functions = {n.name: n.args for n in regressor.body if isinstance(n, ast.FunctionDef)}
    return {name: {a.arg for a in [*functions[name].args, *functions[name].kwonlyargs]} for name in ("__init__", "fit")}


@pytest.mark.skipif(importlib.util.find_spec("pysr") is None, reason="pysr is not installed")
def test_our_arguments_exist_in_the_installed_pysr():
    known = pysr_signature()
    more = dict(threads=2, operators=("+", "^", "exp"), time_limit=3.0, guesses=["r"])
    for arguments in (pysr_arguments(), pysr_arguments(**more)):
        assert set(arguments) <= known["__init__"], set(arguments) - known["__init__"]
    passed = set(re.findall(r"(\w+)=", pysr_module._CHILD.split(".fit(")[1]))
    units = pysr_module._units_for_julia({"r": "cm", "target": "N"}, NAMES)
    assert units == {"X_units": ["m", "", "", "", ""], "y_units": "kg*m*s^-2"}
    assert {"variable_names", "weights"} == passed and passed | set(units) <= known["fit"]
    assert pysr_arguments(operators=("+", "exp"))["complexity_of_operators"] == {"exp": 3}
    assert pysr_arguments(seed=4)["deterministic"] and pysr_arguments(options={"maxdepth": 5})["maxdepth"] == 5


FAKE = """
    import json, os, sys, time
    class PySRRegressor:
        def __init__(self, **arguments):
            self.a = arguments
        def fit(self, X, y, variable_names, weights, X_units=None):
            if os.environ.get("FAKE") == "fail":
                raise RuntimeError("Julia said no")
            if os.environ.get("FAKE_TOLD"):
                json.dump([self.a, X_units], open(os.environ["FAKE_TOLD"], "w"))
            folder = os.path.join(self.a["output_directory"], self.a["run_id"])
            os.makedirs(folder)
            assert X.shape[1] == len(variable_names) and self.a["deterministic"]
            with open(os.path.join(folder, "hall_of_fame.csv"), "w") as f:
                f.write('Complexity,Loss,Equation\\n1,3.0,"0.5"\\n5,0.01,"(2.0 * r) - 1.98"\\n')
            if os.environ.get("FAKE") == "slow":
                time.sleep(60)
"""


@pytest.fixture
def fake_pysr(tmp_path, monkeypatch):
    "A package named pysr that a child process imports in place of the real one."
    (tmp_path / "pysr").mkdir()
    (tmp_path / "pysr" / "__init__.py").write_text(textwrap.dedent(FAKE))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHON_JULIAPKG_EXE", str(tmp_path / "pysr"))
    return monkeypatch


def test_pysr_runs_in_a_child_and_its_file_is_the_front(fake_pysr, tmp_path):
    X, y = data("spring", noise=0)
    options = dict(units={"r": "m"}, weights=np.ones(len(y)), out=tmp_path / "s.csv")
    front = pysr(X, y, NAMES, **options)
    assert str(select(front).sympy) == "2.0*r - 1.98" and select(front).loss < 1e-12
    fake_pysr.setenv("FAKE", "fail")  # a second call does not start the child
    assert pysr(X, y, NAMES, **options).table["equation"].equals(front.table["equation"])
    with pytest.raises(UserError, match="without a result: RuntimeError: Julia said no"):
        pysr(X, y, NAMES)


def test_pysr_starts_from_the_guesses_that_its_operators_can_spell(fake_pysr, tmp_path):
    X, y = data("r2", noise=0)
    fake_pysr.setenv("FAKE_TOLD", str(tmp_path / "told.json"))
    options = dict(units={"r": "m"}, out=tmp_path / "s.csv")
    pysr(X, y, NAMES, **options)
    arguments, units = json.loads((tmp_path / "told.json").read_text())
    assert "guesses" not in arguments and units == ["m", "", "", "", ""]
    front = pysr(X, y, NAMES, guesses=[TRUTH["r2"], "exp(-r)", -m_i], **options)
    arguments, _ = json.loads((tmp_path / "told.json").read_text())
    said = arguments["guesses"]
    assert len(said) == 2 and said[1] == "((-1.0) * m_i)" and "^" not in said[0] and "**" not in said[0]
    assert parse(said[0]).equals(parse(TRUTH["r2"]))
    assert select(front).sympy == parse(TRUTH["r2"])  # all guesses are on the front
    assert pd.read_csv(tmp_path / "s.csv")["key"].nunique() == 2  # another start is another search


SPELLED = ["m_i*m_j/(r + 0.01)^2", "-q_i*q_j/r", "2*r - 1.98", "r^0.3 - exp(-r)/3", "sqrt(r)*log(r + 1)", "max(m_i, r)"]


@pytest.mark.parametrize("text", [*SPELLED, "r^7", "1/sqrt(r)", "m_i^q_i", "abs(q_i - q_j)"])
def test_spelled_formulas_keep_their_values_and_use_only_the_operators(text):
    X, _ = data("spring", n=30)
    inputs, expr = dict(zip(NAMES, X.T)), parse(text)
    operators = (*OPERATORS, "^", "exp", "sqrt", "log", "abs", "max")
    spelled = pysr_module._spelled(expr, operators)
    assert np.allclose(evaluate(parse(spelled), inputs), evaluate(expr, inputs))
    calls = [n for n in ast.walk(ast.parse(spelled.replace("^", "**"))) if isinstance(n, ast.Call)]
    assert {n.func.id for n in calls} <= set(operators)
    assert not any(isinstance(n, ast.UnaryOp) and not isinstance(n.operand, ast.Constant)
                   for n in ast.walk(ast.parse(spelled.replace("^", "**"))))


@pytest.mark.parametrize("text", ["exp(r)", "r^0.3", "sqrt(r)", "r^7", "IF(r > 2, r, 0)", "max(m_i, m_j, r)"])
def test_what_the_operators_cannot_spell_is_not_said(text):
    assert pysr_module._speakable([parse(text)], OPERATORS) == []
    assert pysr_module._speakable([parse("max(m_i, m_j, r)")], ["max"]) == []


def test_a_pysr_that_does_not_stop_is_stopped_and_its_result_kept(fake_pysr):
    fake_pysr.setenv("FAKE", "slow")
    front = pysr(*data("spring", noise=0), NAMES, time_limit=1.0, start_limit=2.0)
    assert str(select(front).sympy) == "2.0*r - 1.98"


@pytest.fixture
def no_julia(monkeypatch, tmp_path):
    "A machine on which Julia is nowhere."
    for name in ("PYTHON_JULIAPKG_EXE", "PYTHON_JULIACALL_EXE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PYTHON_JULIAPKG_PROJECT", "JULIA_DEPOT_PATH", "HOME", "PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def test_without_julia_one_line_says_how_to_get_it(no_julia):
    assert find_julia() is None
    for ask in (lambda: pysr(*data("spring"), NAMES), pysr.check, lambda: require_engine("pysr")):
        with pytest.raises(UserError, match="needs Julia.*python -c 'import pysr'.*'operon'"):
            ask()
    (no_julia / "julia").write_text("#!/bin/sh\n")
    (no_julia / "julia").chmod(0o755)
    assert find_julia() == str(no_julia / "julia")


@pytest.mark.julia
@pytest.mark.skipif(find_julia() is None, reason="no Julia on this machine: the real PySR search is not run")
def test_real_pysr_finds_the_spring():
    X, y = data("spring", n=200)
    for guesses in ((), [TRUTH["spring"]]):
        found = select(pysr(X, y, NAMES, iterations=5, guesses=guesses)).sympy
        assert np.allclose(evaluate(found, dict(zip(NAMES, X.T))), 2 * X[:, 0] - 1.98, atol=0.15)


# ------------------------------------------------------------------------------------------------ the registry


def guess(X, y, names, **_):
    "An engine that knows the answer."
    return Front.of([(2 * r - 2, 0.1)])


@pytest.fixture
def announced(monkeypatch):
    "Say which entry points other packages have; what is loaded is forgotten afterwards."

    def announce(**places):
        points = [EntryPoint(name, place, ENGINES.group) for name, place in places.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: points)
        monkeypatch.setattr(ENGINES, "entries", dict(ENGINES.entries))

    return announce


def test_engines_by_name_unknown_announced_broken_and_callable(announced):
    X, y = data("spring")
    with pytest.raises(UserError, match="engine 'opron' is unknown, did you mean 'operon'.*choose from auto, library"):
        search(X, y, NAMES, "opron")
    assert select(search(X, y, NAMES, guess)).sympy == 2 * r - 2
    announced(guess=f"{__name__}:guess", broken="symbolic_gn.nowhere:engine")
    assert engines() == ["auto", "library", "operon", "pysr", "eql", "nesymres", "nesymres+operon", "guess", "broken"]
    assert select(search(X, y, NAMES, "guess")).sympy == 2 * r - 2
    for ask in (lambda: search(X, y, NAMES, "broken"), lambda: require_engine("broken")):
        with pytest.raises(UserError, match="'broken' cannot be loaded from symbolic_gn.nowhere:engine") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_an_engine_is_returned_as_given_when_it_can_run(no_julia):
    quick = partial(operon, restarts=1)
    for engine in ("operon", "eql", operon, quick, guess):
        assert require_engine(engine) is engine
    for engine in (pysr, partial(pysr, iterations=3)):
        with pytest.raises(UserError, match="needs Julia"):
            require_engine(engine)


def test_an_engines_own_check_is_asked(monkeypatch):
    def poor():
        raise UserError("engine 'mine' needs a licence")

    def mine(X, y, names, **_):
        raise AssertionError("not called")

    monkeypatch.setattr(ENGINES, "entries", ENGINES.entries | {"mine": mine})
    assert require_engine("mine") == "mine"
    mine.check = poor
    with pytest.raises(UserError, match="needs a licence"):
        require_engine("mine")


def test_without_operon_one_line_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for ask in (lambda: operon(*data("spring"), NAMES), operon.check, lambda: require_engine("operon")):
        with pytest.raises(UserError, match="'operon' needs pyoperon.*take engine 'pysr'"):
            ask()


def test_names_cost_nothing():
    "Naming the engines imports none of them, and nothing heavy."
    code = """
        import sys
        from symbolic_gn.search.engines import engines
        engines()
        from symbolic_gn.search import estimator
        heavy = ["torch", "jax", "matplotlib", "pyoperon", "pysr", "juliacall"]
        print(*[m for m in [*heavy, "symbolic_gn.search.operon", "symbolic_gn.eql"] if m in sys.modules])
    """
    run = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout.split() == []


@pytest.mark.parametrize("name", ["operon", "pysr", "eql"])
def test_engines_keep_the_contract(name):
    "All engines at home accept what core.contracts.Engine promises."
    promised = set(inspect.signature(Engine.__call__).parameters) - {"self"}
    assert promised <= set(inspect.signature(ENGINES[name]).parameters)


# ------------------------------------------------------------------------------------------------ the estimator

QUICK = dict(restarts=1, evaluations=2000)


def table(rows=200, seed=0):
    "Three columns of positive numbers."
    return np.random.default_rng(seed).uniform(0.5, 2, (rows, 3))


def test_scikit_learn_is_content():
    short = Circle("operon", 0.1, OPERATORS, dict(restarts=1, evaluations=400), True)
    model = SymbolicRegressor(settings=dict(circles=(short,)))  # the default engine, with one circle of one short run
    other = {"check_sample_weight_equivalence_on_dense_data": "a search draws its rows; ten at least must have weight"}
    told = check_estimator(model, expected_failed_checks=other)  # raises at the first other that fails
    counted = pd.Series([check["status"] for check in told]).value_counts()
    assert counted["passed"] > 50 and counted.get("xfail", 0) <= 1 and counted["passed"] >= len(told) - 3


def test_the_estimator_finds_the_law_and_keeps_names():
    frame = pd.DataFrame(table(), columns=["x", "y", "z"])
    target = frame["x"] * frame["y"] / frame["z"]
    model = SymbolicRegressor("operon", settings=dict(restarts=2, evaluations=5000)).fit(frame, target)
    assert model.score(frame, target) > 0.999999 and model.n_features_in_ == 3 and model.names_ == ["x", "y", "z"]
    assert {s.name for s in model.equation_.free_symbols} == {"x", "y", "z"} and "frac" in model._repr_latex_()
    again = clone(model).fit(frame, target)
    assert again.equation_ == model.equation_ and np.array_equal(again.predict(frame), model.predict(frame))
    stored = pickle.loads(pickle.dumps(model))
    assert np.array_equal(stored.predict(frame), model.predict(frame))


def test_names_that_a_formula_cannot_hold_give_way_to_places():
    frame = pd.DataFrame(table(60), columns=["speed", "mass (kg)", "exp"])
    model = SymbolicRegressor("operon", settings=QUICK).fit(frame, frame["mass (kg)"] * frame["exp"])
    assert model.names_ == ["speed", "x1", "x2"]
    assert model.equation_.free_symbols == {symbol("x1"), symbol("x2")}
    assert SymbolicRegressor("operon", settings=QUICK).fit(frame.to_numpy(), frame["exp"]).names_ == ["x0", "x1", "x2"]


def test_noise_does_not_lengthen_the_formula():
    X = table()
    y = X[:, 0] * X[:, 1] / X[:, 2]
    noisy = y * (1 + 0.01 * np.random.default_rng(1).normal(size=200))
    model = SymbolicRegressor("operon", settings=dict(restarts=2, evaluations=5000)).fit(X, noisy)
    assert model.score(X, y) > 0.999 and complexity(model.equation_) < 15


def test_the_front_is_measured_on_rows_that_the_search_has_not_seen():
    seen = {}

    def watch(X, y, names, **told):
        seen.update(X=X, **told)
        return Front.of([(symbol("x0"), 0.0), (2 * symbol("x0"), -1.0)])

    X = np.arange(1.0, 101)[:, None]
    y = X[:, 0].copy()
    model = SymbolicRegressor(watch, operators=("+",), settings={"depth": 3}, time_limit=9, random_state=5)
    model.fit(X, y)
    held = sorted(set(X[:, 0]) - set(seen["X"][:, 0]))
    assert len(held) == 20 and model.front_.rows == 20 and model.equation_ == symbol("x0")
    assert (seen["seed"], seen["depth"], seen["time_limit"], seen["operators"]) == (5, 3, 9, ("+",))
    y[np.array(held).astype(int) - 1] *= 2  # what is held out decides
    assert clone(model).fit(X, y).equation_ == 2 * symbol("x0")
    assert clone(model).set_params(validation=0).fit(X, y).front_.rows == 100


def test_rows_without_weight_are_as_good_as_absent():
    X = table(100)
    y = np.where(np.arange(100) < 50, 2 * X[:, 0], 100 * X[:, 1] ** 3)
    weights = (np.arange(100) < 50).astype(float)
    model = SymbolicRegressor("operon", settings=QUICK).fit(X, y, sample_weight=weights)
    assert np.abs(model.predict(X) - y)[:50].max() < 1e-3 and model.front_.rows == 10
    spoilt = SymbolicRegressor("operon", settings=QUICK).fit(X, np.where(weights > 0, y, -1e6), sample_weight=weights)
    assert spoilt.equation_ == model.equation_


def test_an_engine_that_brings_nothing_leaves_the_constant():
    model = SymbolicRegressor(lambda X, y, names, **_: Front.of([])).fit(table(50), np.arange(50.0))
    assert model.equation_ == sp.Float(24.5) and set(model.predict(table(5))) == {24.5}


def test_a_constant_target_is_a_constant():
    assert SymbolicRegressor("operon", settings=QUICK).fit(table(30), np.full(30, 2.5)).equation_ == sp.Float(2.5)


def test_the_estimator_is_at_home_in_cross_validation_and_takes_other_engines():
    X = table(150)
    assert cross_val_score(SymbolicRegressor("operon", settings=QUICK), X, X[:, 0] * X[:, 1], cv=3).min() > 0.99
    model = SymbolicRegressor("eql", settings=dict(trials=4, steps=150, tries=4)).fit(X, X[:, 0] * X[:, 1] / X[:, 2])
    assert model.score(X, X[:, 0] * X[:, 1] / X[:, 2]) > 0.999


@pytest.mark.parametrize(
    "setting, message",
    [
        (dict(validation=1), "validation is 1; it must be a share"),
        (dict(validation=-0.1), "validation is -0.1"),
        (dict(rule="worst"), "rule 'worst' is unknown"),
        (dict(engine="opron"), "did you mean 'operon'"),
        (dict(settings="fast"), "settings is 'fast'; it must be a dict"),
        (dict(operators=("+", "floor")), "no operator 'floor'"),
    ],
)
def test_bad_settings_are_told(setting, message):
    with pytest.raises(UserError, match=message):
        SymbolicRegressor(**{"engine": "operon", "settings": QUICK, **setting}).fit(table(40), table(40)[:, 0])


def test_a_time_limit_ends_the_search():
    X, started = table(100), time.monotonic()
    model = SymbolicRegressor("operon", time_limit=1.0, settings=dict(restarts=500, evaluations=3000))
    assert len(model.fit(X, np.sin(9 * X[:, 0])).front_) and time.monotonic() - started < 20


def test_settings_of_a_circle_reach_its_engine(monkeypatch):
    seen = []

    def mine(X, y, names, *, population: int = 1, **told):
        seen.append(population)
        return front_of(["x"], X, y, names)

    monkeypatch.setattr(ENGINES, "entries", ENGINES.entries | {"mine": mine})
    X = np.linspace(0.5, 2, 60)[:, None]
    more = dict(mine=dict(population=7))
    search(X, X[:, 0] ** 3, ["x"], circles=[Circle("mine", 1.0)], circle_settings=more, time_limit=5)
    assert seen == [7]
