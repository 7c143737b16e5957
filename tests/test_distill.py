"From messages to a law: parsing, alignment, engines, fronts, laws, refits and equivalence."

import ast
import importlib.util
import json
import math
import os
import re
import textwrap
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn import distill as D
from symbolic_gn.distill import (
    Front,
    Law,
    align,
    all_pairs,
    complexity,
    distill,
    edge_inputs,
    equivalent,
    evaluate,
    evidence,
    pair_force,
    parametrise,
    parse,
    refine,
    refit,
    select,
    snap,
    symbol,
    tidy,
    trim,
)
from symbolic_gn.errors import UserError

TRUTH = {
    "spring": "2*r - 1.98",
    "r1": "m_i*m_j/(r + 0.01)",
    "r2": "m_i*m_j/(r + 0.01)^2",
    "charge": "-q_i*q_j/(r + 0.01)^2",
}
NAMES = ["r", "m_i", "m_j", "q_i", "q_j"]
r, m_i, m_j, q_i, q_j, dx, dy = map(symbol, [*NAMES, "dx", "dy"])
few = settings(max_examples=25, deadline=None)


class Toy:
    "Bodies at random places with the accelerations of a law."

    def __init__(self, law, simulations=20, frames=25, bodies=4, dim=2, seed=0, charges="normal", noise=0.0):
        rng, self.edge_index = np.random.default_rng(seed), all_pairs(bodies)
        self.position, self.velocity = rng.normal(size=(2, simulations, frames, bodies, dim))
        self.mass, self.charge = np.exp(rng.normal(size=(simulations, bodies))), rng.normal(size=(simulations, bodies))
        if charges == "sign":
            self.charge = np.sign(self.charge)
        a = law.accelerations(self.position, None, self.mass[:, None], self.charge[:, None], self.edge_index)
        self.acceleration = (a * (1 + noise * rng.normal(size=a.shape))).astype(np.float32)


def toy(name, **kwargs):
    return Toy(Law.of(TRUTH[name]), charges="sign" if name == "charge" else "normal", **kwargs)


def said(t, law, kind="linear", noise=0.01, seed=0):
    "Noisy messages about a law, blended if they are linear."
    rng, (j, i), dim = np.random.default_rng(seed), t.edge_index, t.position.shape[-1]
    inputs, direction = edge_inputs(t.position, None, t.mass[:, None], t.charge[:, None], t.edge_index)
    force = pair_force(law, inputs, direction).reshape(-1, dim)
    m = force + noise * force.std() * rng.normal(size=force.shape)
    if kind == "linear":
        m = m @ rng.normal(size=(dim, dim)) + rng.normal(size=dim)
    d = (t.position[..., j, :] - t.position[..., i, :]).reshape(force.shape)
    return SimpleNamespace(
        components=m, displacement=d, invariants={n: inputs[n].ravel() for n in NAMES}, messages_are=kind
    )


# ------------------------------------------------------------------------------------------------ formulas


@pytest.mark.parametrize(
    "evil",
    [
        "__import__('os').system('true')",
        "r.__class__",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "open('x')",
        "r if r else m_i",
        "r; m_i",
        "exec('1')",
        "'text'",
        "f'{r}'",
        "r[0]",
        "{1: 2}",
        "sqrt(r, x=1)",
        "r := 2",
        "__builtins__",
        "r @ m_i",
        "~r",
        "9**9**9",
        "2**1000",
        "1/0",
        "1j*r",
        "1" * 20_000,
        "(" * 300 + "r" + ")" * 300,
        "-" * 500 + "r",
        "",
        "r +",
        "sqrt()",
        "1e999",
        "square(r, r)",
        "9" * 30,
        "True and r",
        "log(0)",
        "sqrt(-1)",
        "r < m_i < 2",
        "Piecewise(r)",
        None,
        3,
    ],
)
def test_parse_refuses_code_and_nonsense(evil, tmp_path):
    with pytest.raises(UserError) as caught:
        parse(evil)
    assert "\n" not in str(caught.value)


def test_parse_knows_names_and_functions():
    assert parse("m_i*m_j / square(r + 0.01)") == m_i * m_j / (r + sp.Float(0.01)) ** 2
    assert parse("inv(r) + cube(q_i) - neg(q_j) + pow(r, 2) + +r") == 1 / r + q_i**3 + q_j + r**2 + r
    assert parse("IF(r > 2, r, 0)") == parse("Piecewise((r, r > 2), (0, True))")
    with pytest.raises(UserError, match="'mass' is unknown; known are r, m_i"):
        parse("mass", ["r", "m_i"])


LEAVES = st.sampled_from([*NAMES, "0.5", "2", "1.3"])
FORMULAS = st.recursive(
    LEAVES,
    lambda e: st.one_of(
        st.tuples(e, st.sampled_from("+-*/"), e).map(lambda t: f"({t[0]} {t[1]} ({t[2]} + 3.7))"),
        e.map(lambda t: f"exp(-square({t}))"),
        e.map(lambda t: f"({t})^2"),
    ),
    max_leaves=6,
)


@few
@given(FORMULAS, st.integers(0, 99))
def test_text_tidy_and_templates_keep_the_values(text, seed):
    rng = np.random.default_rng(seed)
    inputs = {n: rng.uniform(0.5, 2, 20) for n in NAMES}
    expr = parse(text)
    values = evaluate(expr, inputs)
    assert np.allclose(evaluate(parse(str(expr)), inputs), values, rtol=1e-9, atol=1e-9)
    assert np.allclose(evaluate(tidy(expr), inputs), values, rtol=1e-6, atol=1e-6)
    template, constants = parametrise(expr)
    back = template.xreplace({symbol(n): sp.Float(v) for n, v in constants.items()})
    assert np.allclose(evaluate(back, inputs), values, rtol=1e-6, atol=1e-6)
    law = Law.of(expr)
    copy = Law.from_json(law.to_json())
    assert np.allclose(evaluate(copy.sympy, inputs), values, rtol=1e-6, atol=1e-6)


def test_complexity_counts_as_the_paper_says():
    cases = {
        "r": 1,
        "2*r": 3,
        "2*r - 1.98": 5,
        "m_i*m_j/r": 5,
        "r*r": 3,
        "exp(r)": 4,
        "log(r) + 1": 6,
        "-r": 2,
        "1/r": 3,
        "IF(r > 2, r, 0)": 8,
        "sin(r)": 2,
        "r^0.3": 5,
        "-2*r": 3,
    }
    assert {t: complexity(parse(t)) for t in cases} == cases
    assert complexity(parse("(4.59*m_j*dy - 15.5*m_j*dx)/r^2"), D.WEIGHTS | {"/": 2}) == 16
    assert complexity(sp.Tuple(r, 2 * r)) == 4


def test_tidy_writes_products_of_unit_charges():
    assert tidy(q_i / q_j / r, ["q_i", "q_j"]) == q_i * q_j / r
    assert tidy(q_i / q_j / r) == q_i / q_j / r
    assert str(tidy(parse("2.2*m_i/(4.4*r + 0.044)"))) == "0.5*m_i/(r + 0.01)"


def test_inputs_must_be_there_and_names_of_constants_are_taken():
    with pytest.raises(UserError, match="m_i missing"):
        evaluate(m_i * r, {"r": np.ones(3)})
    with pytest.raises(UserError, match="'c0' is the name of a constant"):
        Law.of("c0*r")


# ------------------------------------------------------------------------------------------------ fronts and rules

TABLE_4 = {
    "1/r": (
        [1, 2, 3, 5, 6, 8, 10, 12, 14, 16, 18, 20, 22],
        [
            103.29053,
            96.708906,
            93.052677,
            85.743106,
            68.345174,
            31.17,
            7.93,
            6.96,
            2.48,
            0.46575519,
            0.42,
            0.38,
            0.37839388,
        ],
    ),
    "1/r^2": (
        [1, 3, 5, 6, 8, 12, 14, 16, 18, 20, 22],
        [
            1570.0905,
            1558.9756,
            1551.3437,
            1520.9493,
            913.83751,
            160.31243,
            131.42547,
            69.447467,
            42.323236,
            18.400224,
            17.954713,
        ],
    ),
}


@pytest.mark.parametrize("law, chosen, score", [("1/r", 16, 0.836), ("1/r^2", 12, 0.435)])
def test_score_rule_on_the_papers_table(law, chosen, score):
    c, loss = TABLE_4[law]
    front = Front(pd.DataFrame(dict(complexity=c, loss=loss, sympy=[r] * len(c))))
    row = select(front, "score")
    assert row.complexity == chosen and row.score == pytest.approx(score, abs=1e-3)
    assert select(front, "best").loss <= 1.5 * min(loss)
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
    for rule in D.RULES:
        assert select(front, rule).complexity in c


def test_stored_pysr_hall_of_fame_becomes_a_front(tmp_path):
    front = Front.from_csv(Path(__file__).parent / "data" / "hall_of_fame.csv", NAMES)
    assert list(front.table.columns) == ["complexity", "loss", "score", "equation", "sympy"] and len(front) == 8
    law = select(front, "best").sympy
    assert law == m_i * m_j / (r + sp.Float("0.010031")) ** 2
    assert front.table["sympy"].iloc[4] == m_i * m_j / r**2 and front.table["sympy"].iloc[-1].has(q_i**3)
    front.to_csv(tmp_path / "lower.csv")
    again = Front.from_csv(tmp_path / "lower.csv", NAMES)
    assert np.allclose(again.table["loss"], front.table["loss"]) and (tmp_path / "lower.csv").read_text().startswith(
        "complexity"
    )
    assert [f.name for f in tmp_path.iterdir()] == ["lower.csv"]


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
    assert "hall.csv" in str(caught.value)
    with pytest.raises(UserError, match="nowhere.csv"):
        Front.from_csv(tmp_path / "nowhere.csv")


def test_fronts_show_and_plot_themselves():
    import matplotlib

    matplotlib.use("Agg")
    front = Front.of([(1.23456789 * r, 2.0), (m_i / r**2, 0.1), (parse("IF(r > 2, r, 0)"), 0.01)])
    assert "1.235 r" in front._repr_html_() and "m_{i}" in front._repr_html_()
    assert "complexity" in repr(front) and [row.complexity for row in front] == [3, 5, 8]
    ax = front.plot("score")
    assert ax.get_yscale() == "log" and len(ax.texts) == 3


# ------------------------------------------------------------------------------------------------ engines


def data(name, n=600, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.uniform(0.3, 4, n), np.exp(rng.normal(size=(n, 2))), np.sign(rng.normal(size=(n, 2)))])
    y = evaluate(parse(TRUTH[name]), dict(zip(NAMES, X.T)))
    return X, y + noise * y.std() * rng.normal(size=n)


@pytest.mark.parametrize("name", TRUTH)
def test_operon_finds_the_form(name):
    X, y = data(name)
    front = D.search(X, y, NAMES, "operon", restarts=2, evaluations=15_000)
    assert select(front, "best").sympy.free_symbols == parse(TRUTH[name]).free_symbols
    assert (np.diff(front.table["loss"]) < 0).all()


def test_operon_is_deterministic_by_seed():
    X, y = data("r1")
    runs = [D.operon(X, y, NAMES, seed=s, restarts=1, evaluations=2000) for s in (5, 5, 6)]
    assert runs[0].table.equals(runs[1].table)
    assert not runs[0].table["equation"].equals(runs[2].table["equation"])
    assert len(D.operon(X, y, NAMES, restarts=1, evaluations=2000, threads=2))


def test_a_search_resumes_from_its_file(tmp_path, monkeypatch):
    X, y = data("spring")
    options = dict(seed=1, evaluations=1500, out=tmp_path / "deep" / "search.csv")
    D.operon(X, y, NAMES, restarts=2, **options)
    before = (tmp_path / "deep" / "search.csv").read_text()
    calls, real = [], D._evolve
    monkeypatch.setattr(D, "_evolve", lambda *a, **k: calls.append(k["random_state"]) or real(*a, **k))
    resumed = D.operon(X, y, NAMES, restarts=3, **options)
    assert calls == [1002] and (tmp_path / "deep" / "search.csv").read_text().startswith(before)
    whole = D.operon(X, y, NAMES, restarts=3, **(options | {"out": None}))
    assert whole.table["equation"].equals(resumed.table["equation"])
    calls.clear()
    D.operon(X, y + 1, NAMES, restarts=1, **options)  # other data: nothing is reused
    assert calls == [1000] and [p.name for p in (tmp_path / "deep").iterdir()] == ["search.csv"]


def test_a_foreign_results_file_is_refused_and_left_alone(tmp_path):
    X, y = data("spring")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="notes.csv: is no file of search results"):
        D.operon(X, y, NAMES, out=tmp_path / "notes.csv")
    assert (tmp_path / "notes.csv").read_text() == "a,b\n1,2\n"
    with pytest.raises(UserError, match="cannot be written"):
        D.write_atomic("/proc/nowhere/x.csv", "")


def test_an_interrupted_search_keeps_what_it_found(monkeypatch):
    X, y = data("spring")
    real, calls = D._evolve, []

    def evolve(*a, **k):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*a, **k)

    monkeypatch.setattr(D, "_evolve", evolve)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        front = D.operon(X, y, NAMES, evaluations=1000)
    assert len(front) and "1 of 4 runs kept" in str(seen[-1].message)
    calls[:] = [1]
    with pytest.raises(KeyboardInterrupt):
        D.operon(X, y, NAMES)


def test_time_limit_weights_and_operators(tmp_path):
    X, y = data("spring", n=300)
    y = np.where(np.arange(300) < 150, y, 5.0)  # the second half is wrong and gets no weight
    weights = (np.arange(300) < 150).astype(float)
    front = D.operon(
        X, y, NAMES, weights=weights, time_limit=1.0, restarts=50, evaluations=3000, out=tmp_path / "s.csv"
    )
    assert equivalent(select(front).sympy, "2*r - 1.98", tolerance=0.03)
    assert pd.read_csv(tmp_path / "s.csv")["restart"].nunique() < 50
    curve = D.operon(X, np.exp(-X[:, 0]), NAMES, operators=("*", "+", "exp"), restarts=1, evaluations=5000)
    assert any(e.has(sp.exp) for e in curve.table["sympy"])


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
        D.operon(*change(*data("r1"), NAMES))
    with pytest.raises(UserError, match="weights"):
        D.operon(*data("r1"), NAMES, weights=-np.ones(600))


def test_engines_unknown_missing_announced_and_callable(monkeypatch):
    X, y = data("spring")
    with pytest.raises(UserError, match="engine 'opron' is unknown, did you mean 'operon'.*choose from operon, pysr"):
        D.search(X, y, NAMES, "opron")
    guess = lambda X, y, names, **_: Front.of([(2 * r - 2, 0.1)])
    assert select(D.search(X, y, NAMES, guess)).sympy == 2 * r - 2
    monkeypatch.setattr(D, "entry_points", lambda group: [SimpleNamespace(name="guess", load=lambda: guess)])
    monkeypatch.setattr(D, "ENGINES", dict(D.ENGINES))
    assert D.engines() == ["operon", "pysr", "eql", "guess"]
    assert select(D.search(X, y, NAMES, "guess")).sympy == 2 * r - 2
    monkeypatch.setattr(D.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="'operon' needs pyoperon.*engines: operon, pysr, eql, guess"):
        D.operon(X, y, NAMES)


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
    for arguments in (D.pysr_arguments(), D.pysr_arguments(threads=2, operators=("+", "^", "exp"), time_limit=3.0)):
        assert set(arguments) <= known["__init__"], set(arguments) - known["__init__"]
    passed = set(re.findall(r"(\w+)=", D._CHILD.split(".fit(")[1]))
    assert {"variable_names", "weights", "X_units"} == passed and passed <= known["fit"]
    assert D.pysr_arguments(operators=("+", "exp"))["complexity_of_operators"] == {"exp": 3}
    assert D.pysr_arguments(seed=4)["deterministic"] and D.pysr_arguments(options={"maxdepth": 5})["maxdepth"] == 5


FAKE = """
    import os, sys, time
    class PySRRegressor:
        def __init__(self, **arguments): self.a = arguments
        def fit(self, X, y, variable_names, weights, X_units):
            if os.environ.get("FAKE") == "fail": raise RuntimeError("Julia said no")
            folder = os.path.join(self.a["output_directory"], self.a["run_id"])
            os.makedirs(folder)
            assert X.shape[1] == len(variable_names) and self.a["deterministic"]
            with open(os.path.join(folder, "hall_of_fame.csv"), "w") as f:
                f.write('Complexity,Loss,Equation\\n1,3.0,"0.5"\\n5,0.01,"(2.0 * r) - 1.98"\\n')
            if os.environ.get("FAKE") == "slow": time.sleep(60)
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
    front = D.pysr(X, y, NAMES, units={"r": "m"}, weights=np.ones(len(y)), out=tmp_path / "s.csv")
    assert str(select(front).sympy) == "2.0*r - 1.98" and select(front).loss < 1e-12
    fake_pysr.setenv("FAKE", "fail")  # a second call does not start the child
    again = D.pysr(X, y, NAMES, units={"r": "m"}, weights=np.ones(len(y)), out=tmp_path / "s.csv")
    assert again.table["equation"].equals(front.table["equation"])
    with pytest.raises(UserError, match="without a result: RuntimeError: Julia said no"):
        D.pysr(X, y, NAMES)


def test_a_pysr_that_does_not_stop_is_stopped_and_its_result_kept(fake_pysr):
    fake_pysr.setenv("FAKE", "slow")
    front = D.pysr(*data("spring", noise=0), NAMES, time_limit=1.0, start_limit=2.0)
    assert str(select(front).sympy) == "2.0*r - 1.98"


def test_without_julia_one_line_says_how_to_get_it(monkeypatch, tmp_path):
    for name in ("PYTHON_JULIAPKG_EXE", "PYTHON_JULIACALL_EXE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PYTHON_JULIAPKG_PROJECT", "JULIA_DEPOT_PATH", "HOME", "PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    assert D.find_julia() is None
    with pytest.raises(UserError, match="needs Julia.*python -c 'import pysr'.*'operon'"):
        D.pysr(*data("spring"), NAMES)
    (tmp_path / "julia").write_text("#!/bin/sh\n")
    (tmp_path / "julia").chmod(0o755)
    assert D.find_julia() == str(tmp_path / "julia")


@pytest.mark.julia
@pytest.mark.skipif(D.find_julia() is None, reason="no Julia on this machine: the real PySR search is not run")
def test_real_pysr_finds_the_spring():
    front = D.pysr(*data("spring", n=200), NAMES, iterations=5)
    assert equivalent(select(front).sympy, TRUTH["spring"], tolerance=0.05)


# ------------------------------------------------------------------ alignment and trimming


def edges(name, dim, n=2000, seed=0, noise=0.01):
    rng = np.random.default_rng(seed)
    d = np.sqrt(2) * rng.normal(size=(n, dim))
    inputs = dict(
        r=np.linalg.norm(d, axis=1),
        m_i=np.exp(rng.normal(size=n)),
        m_j=np.exp(rng.normal(size=n)),
        q_i=np.sign(rng.normal(size=n)),
        q_j=np.sign(rng.normal(size=n)),
    )
    s = evaluate(parse(TRUTH[name]), inputs)
    force = s[:, None] * d / inputs["r"][:, None]
    return d, s, force + noise * np.abs(force).mean() * rng.normal(size=force.shape)


@few
@given(st.sampled_from(list(TRUTH)), st.sampled_from([2, 3]), st.integers(0, 10**6))
def test_alignment_recovers_a_planted_map_blind(name, dim, seed):
    rng = np.random.default_rng(seed)
    A = (
        np.linalg.qr(rng.normal(size=(dim, dim)))[0]
        * rng.uniform(0.3, 3, dim)
        @ np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    )
    d, s, force = edges(name, dim, seed=seed)
    found = align(force @ A + rng.normal(size=dim), d)
    inner = np.abs(s) <= np.quantile(np.abs(s), 0.99)
    assert abs(np.corrcoef(found.scalar[inner], s[inner])[0, 1]) > 0.98
    M = found.B @ A.T  # the map and its inverse: a multiple of one
    assert np.abs(M / M[0, 0] - np.eye(dim)).max() < 0.15
    assert found.confidence > 0.5 and found.across < 0.2
    again = align(force @ A + rng.normal(size=dim), d)
    assert np.allclose(again.B, found.B, rtol=1e-6)


@pytest.mark.parametrize("dim", [2, 3])
def test_alignment_listens_only_to_components_that_speak(dim):
    d, s, force = edges("r1", dim)
    rng = np.random.default_rng(1)
    m = 1e-5 * rng.normal(size=(len(d), 50))
    m[:, 5 : 5 + dim] += force @ rng.normal(size=(dim, dim))
    found = align(m, d, weights=np.ones(len(d)))
    assert list(D.speaking(m)) == list(range(5, 5 + dim)) and found.B.shape == (dim, 50)
    assert np.corrcoef(found.scalar, s)[0, 1] > 0.99 and "confidence" in repr(found)
    twice = np.column_stack(
        [force @ rng.normal(size=(dim, dim)), force @ rng.normal(size=(dim, dim))]
    )  # more than needed
    assert np.corrcoef(align(twice, d).scalar, s)[0, 1] > 0.97


def test_alignment_of_nothing_has_no_confidence_and_bad_shapes_are_named():
    d, s, force = edges("r1", 3)
    assert align(np.random.default_rng(9).normal(size=(len(d), 3)), d).confidence < 0.2
    for m, message in [
        (force[:, :2], "cannot hold a force"),
        (force[:-1], "do not match"),
        (force * np.nan, "finite"),
        (np.column_stack([force[:, 0], 0 * force, 0 * force]), "only 1 message components vary"),
    ]:
        with pytest.raises(UserError, match=message):
            align(m, d)


def test_trim_leaves_out_close_pairs_only_where_they_rule():
    d, s, _ = edges("r2", 2, n=5000)
    distance = np.linalg.norm(d, axis=1)
    kept, note = trim(distance, s)
    assert 0 < note["left_out"] < 0.1 and distance[kept].min() == note["closest_kept"] > 0.1
    assert len(trim(distance, 2 * distance - 1.98)[0]) == 5000
    s = s.copy()
    s[7], distance[9] = np.nan, 0
    assert not {7, 9} & set(trim(distance, s)[0])
    with pytest.raises(UserError, match="no edge"):
        trim(np.zeros(5), np.ones(5))


# ------------------------------------------------------------------------------------------------ laws


@few
@given(
    st.sampled_from(
        [*TRUTH.values(), "IF(r > 2, 2*r - 1.98, 0)", "exp(-r)*sqrt(m_i) + log(m_j)", "0.3*abs(q_i)*r^1.5"]
    ),
    st.integers(0, 10**6),
)
def test_the_four_numeric_forms_agree(text, seed):
    import jax.numpy as jnp
    import torch

    law, rng = Law.of(text), np.random.default_rng(seed)
    inputs = {n: rng.uniform(0.2, 4, 6) * (np.sign(rng.normal(size=6)) if n[0] == "q" else 1) for n in NAMES}
    wanted = [float(law.sympy.subs({symbol(n): v[k] for n, v in inputs.items()})) for k in range(6)]
    assert np.allclose(law.numpy()(**inputs), wanted, rtol=1e-12)
    assert np.allclose(law.torch()(**{n: torch.tensor(v) for n, v in inputs.items()}).numpy(), wanted, rtol=1e-12)
    assert np.allclose(law.jax()(**{n: jnp.asarray(v) for n, v in inputs.items()}), wanted, rtol=3e-5, atol=1e-5)
    assert np.allclose(law.numpy()(*(inputs[n] for n in law.inputs)), wanted, rtol=1e-12)


def test_a_law_shows_itself_and_asks_for_its_inputs():
    law = Law.of("m_i*m_j/(r + 0.01)^2", provenance={"seed": 3})
    assert law.inputs == ("r", "m_i", "m_j") and law.latex() == r"\frac{m_{i} m_{j}}{\left(r + 0.01\right)^{2}}"
    assert law._repr_latex_().startswith("$") and repr(law) == "Law(force = m_i*m_j/(r + 0.01)**2)"
    with pytest.raises(UserError, match="input 'm_i' is missing; needed are r, m_i, m_j"):
        law.numpy()(r=1.0)
    with pytest.raises(UserError, match="target 'forc'.*did you mean 'force'"):
        Law.of("r", target="forc")
    assert Law.of("m_j/r", target="acceleration").force().sympy == m_i * m_j / r and law.force() is law


def test_accelerations_are_sums_over_senders():
    x = np.random.default_rng(0).normal(size=(3, 5, 4, 3))
    m = np.random.default_rng(1).uniform(1, 2, size=(3, 1, 4))
    a = Law.of("m_i*m_j/(r + 0.01)^2").accelerations(x, mass=m)
    assert a.shape == x.shape and np.allclose((m[..., None] * a).sum(-2), 0, atol=1e-10)  # Newton's third law
    d = x[..., None, :, :] - x[..., :, None, :]
    distance = np.linalg.norm(d, axis=-1) + np.eye(4)
    by_hand = (m[..., None, :, None] * d / (distance * (distance + 0.01) ** 2)[..., None]).sum(-2)
    assert np.allclose(a, by_hand)
    assert np.allclose(Law.of("m_j/(r + 0.01)^2", target="acceleration").accelerations(x, mass=m), a)
    chain = np.array([[1, 0], [0, 1]])
    assert np.allclose(Law.of("2*r").accelerations(x, edge_index=chain)[..., 2:, :], 0)
    with pytest.raises(UserError, match="no two bodies"):
        Law.of("r").accelerations(np.zeros((1, 2)))


def test_json_keeps_everything_and_refuses_code(tmp_path):
    law = refit(Law.of("m_i*m_j/(r + 0.02)^2", units={"r": "m"}, provenance={"seed": 1}), toy("r2"))
    law.to_json(tmp_path / "law.json")
    for source in (tmp_path / "law.json", law.to_json(), json.loads(law.to_json())):
        copy = Law.from_json(source)
        assert (
            copy.expr == law.expr
            and copy.constants == law.constants
            and copy.units == law.units
            and copy.sympy == law.sympy
        )
    assert math.isnan(Law.from_json(Law.of("2*r").to_json()).constants["c0"][1])
    mixed = Law.of(sp.Tuple(2 * dx, dy), mixing=((1.0, 0.0, 0.5), (0.0, 1.0, 0.0)))
    assert Law.from_json(mixed.to_json()) == mixed


@pytest.mark.parametrize(
    "change, message",
    [
        ({"expr": "__import__('os').system('touch owned')"}, "no known function"),
        ({"expr": "r.__class__"}, "not arithmetic"),
        ({"format": "other"}, "'format' is 'other'"),
        ({"constants": {"c0": ["1+1", 0]}}, "missing or wrong"),
        ({"constants": {"c0": [float("inf"), 0]}}, "not finite"),
        ({"target": "energy"}, "target 'energy' is unknown"),
        ({"constants": 3}, "missing or wrong"),
        ({"expr": None}, "text of at most"),
    ],
)
def test_a_law_with_code_or_faults_is_refused(tmp_path, change, message):
    path = tmp_path / "law.json"
    path.write_text(json.dumps(json.loads(Law.of("2*r").to_json()) | change))
    with pytest.raises(UserError, match=message) as caught:
        Law.from_json(path)
    assert "law.json" in str(caught.value) and not os.path.exists("owned")


def test_what_is_no_law_at_all_is_refused(tmp_path):
    (tmp_path / "list.json").write_text("[1]")
    for source in ("{broken", tmp_path / "nowhere.json", tmp_path / "list.json", {}):
        with pytest.raises(UserError):
            Law.from_json(source)


# ------------------------------------------------------------------------------------------------ refit, refine, snap


@pytest.mark.parametrize(
    "name, start",
    [
        ("spring", "1.2*r - 0.3"),
        ("r1", "m_i*m_j/(r + 0.3)"),
        ("r2", "-m_j/(r + 0.1)^2"),
        ("charge", "q_i*q_j/(r + 0.1)^2"),
    ],
)
def test_refit_finds_the_constants_and_the_target(name, start):
    law = refit(Law.of(start), toy(name))
    assert law.target == "force" and equivalent(law, TRUTH[name], tolerance=1e-4).by == "symbolic"
    assert law.provenance["relative_error"] < 1e-6
    if name == "r2":
        assert law.provenance["fitted_as"] == "acceleration"


def test_standard_errors_cover_the_truth():
    hits = []
    for seed in range(12):
        law = refit(Law.of("2.5*r - 1"), toy("spring", noise=0.05, seed=seed, frames=10))
        hits += [abs(v - t) < 2.5 * e for (v, e), t in zip(law.constants.values(), (2, -1.98))]
        assert all(0 < e < 0.05 for _, e in law.constants.values())
    assert np.mean(hits) > 0.8


def test_refine_repairs_proposals_that_are_all_a_little_wrong():
    for name, proposals in {
        "r2": [m_i * m_j / r, m_j / r**3 + 0.1],
        "charge": [q_i / q_j / r, 1.3 * q_j / q_i / r**2 + 0.01],
        "r1": [m_j / r, 0.02 + 1.1 * m_i * m_j / r],
        "spring": [2 * r, 1.9 * r - 1.8 + 0.01 * m_i],
    }.items():
        law, front = refine(proposals, toy(name))
        assert equivalent(law, TRUTH[name], data=toy(name)).by == "symbolic", (name, law)
        assert (np.diff(front.table["loss"]) < 0).all() and law.provenance["rule"] == "mdl"
    with pytest.raises(UserError, match="none of the proposed"):
        refine([sp.Integer(3)], toy("r1"))


@pytest.mark.parametrize("name", TRUTH)
def test_snap_gives_the_written_constants(name):
    law = refit(Law.of(TRUTH[name].replace("1.98", "1.9").replace("0.01", "0.02")), toy(name))
    assert snap(law, toy(name)).sympy == parse(TRUTH[name])
    assert law.snap(toy(name)).sympy == parse(TRUTH[name])


def test_snap_leaves_numbers_that_matter_alone():
    odd = "1.2345*r - 0.98765"
    t = Toy(Law.of(odd))
    law = snap(refit(Law.of("r - 1"), t), t)
    assert equivalent(law, odd, tolerance=1e-5)
    loose = Law(*parametrise(parse("2.003*r - 1.98"))[:1], {"c0": (2.003, 0.01), "c1": (-1.98, 1e-6)})
    assert snap(loose).sympy == parse("2*r - 1.98")
    assert D.simple_numbers(0.333, 0.01)[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize("name", TRUTH)
def test_noisy_accelerations_still_give_the_law(name):
    t = toy(name, noise=0.1, simulations=40)
    law, _ = refine([parse(TRUTH[name].replace(" + 0.01", "")), m_j / r, q_i * q_j / r], t)
    law = snap(law, t)
    assert equivalent(law, TRUTH[name], data=t, tolerance=0.015), law
    assert all(e > 1e-4 for _, e in law.constants.values())


def test_evidence_refuses_what_cannot_be_explained():
    t = toy("r1", simulations=2, frames=3)
    t.acceleration[:] = np.nan
    with pytest.raises(UserError, match="no snapshot"):
        evidence(t)
    data = evidence(toy("r1"), snapshots=40)
    assert evidence(data) is data and len(data.first(10).mass) == 10


# ------------------------------------------------------------------------------------------------ equivalence


@pytest.mark.parametrize(
    "found, true, freedom, by, needed",
    [
        ("q_i/q_j/(r + 0.01)^2", "q_i*q_j/(r + 0.01)^2", "none", "symbolic", "none"),
        ("1/(q_i*q_j*r^2)", "q_i*q_j/r^2", "none", "symbolic", "none"),
        ("2*(r - 0.992)", "2*r - 1.98", "none", "symbolic", "none"),
        ("m_i*m_j/(r^2 + 0.02*r + 0.0001)", "m_i*m_j/(r + 0.01)^2", "none", "symbolic", "none"),
        ("-3*m_i*m_j/(r + 0.01)", "m_i*m_j/(r + 0.01)", "overall factor", "symbolic", "overall factor"),
        ("0.5*m_j/(r + 0.01)", "m_i*m_j/(r + 0.01)", "receiver-only factor", "symbolic", "receiver-only factor"),
        ("m_i*m_j/(r + 0.0104)^2", "m_i*m_j/(r + 0.01)^2", "none", "numeric", "none"),
        (
            "m_j*exp(-0.5*log(m_i))/(r + 0.01)",
            "m_i*m_j/(r + 0.01)",
            "receiver-only factor",
            "numeric",
            "receiver-only factor",
        ),
        ("2*sqrt(r^2 + 1e-9) - 1.98", "2*r - 1.98", "none", "numeric", "none"),
        ("q_i*sqrt(r^2 + 1e-9)", "2*r", "receiver-only factor", "numeric", "receiver-only factor"),
    ],
)
def test_equivalence_accepts(found, true, freedom, by, needed):
    answer = equivalent(found, true, freedom=freedom)
    assert answer and (answer.by, answer.freedom) == (by, needed)


@pytest.mark.parametrize(
    "found, true, freedom",
    [
        ("1/r^1.1", "1/r", "overall factor"),
        ("2*r - 2.08", "2*r - 1.98", "overall factor"),
        ("2*r - 2.08", "2*r - 1.98", "none"),
        ("1.03*m_i*m_j/(r + 0.01)^2", "m_i*m_j/(r + 0.01)^2", "none"),
        ("m_i*m_j/r^2", "m_i*m_j/(r + 0.01)^2", "none"),
        ("m_i*m_j/(r + 0.04)^2", "m_i*m_j/(r + 0.01)^2", "overall factor"),
        ("m_j/r", "m_i*m_j/r", "overall factor"),
        ("m_i/r", "m_j/r", "receiver-only factor"),
        ("q_i/r^2", "q_i*q_j/r^2", "receiver-only factor"),
        ("r", "m_j", "receiver-only factor"),
        ("m_i*m_j/(r + 0.01)", "m_i*m_j/(r + 0.01)^2", "receiver-only factor"),
        ("0*r + 3", "2*r - 1.98", "overall factor"),
    ],
)
def test_equivalence_refuses_near_misses(found, true, freedom):
    answer = equivalent(found, true, freedom=freedom)
    assert not answer and answer.by is None and answer.freedom is None and answer.error > 0.01


def test_equivalence_knows_the_data():
    assert not equivalent("q_i/q_j/r", "q_i*q_j/r", charges="normal")
    t = toy("charge")
    for data in (t, said(t, Law.of(TRUTH["charge"])), {n: v.ravel() for n, v in evidence(t).inputs.items()}):
        assert equivalent("q_i/q_j/r", "q_i*q_j/r", data=data).by == "symbolic"
    far = {"r": np.linspace(50, 60, 100)}
    assert equivalent("1/r^2", "1/(r + 0.01)^2", data=far).by == "numeric"
    assert Law.of("m_j/r", target="acceleration").equivalent("m_i*m_j/r")
    with pytest.raises(UserError, match="freedom 'all' is unknown"):
        equivalent("r", "r", freedom="all")


# ------------------------------------------------------------------------------------------------ the whole way


@pytest.mark.parametrize(
    "name, kind, dim", [("spring", "linear", 2), ("r1", "force", 3), ("r2", "linear", 2), ("charge", "linear", 3)]
)
def test_distill_recovers_the_law_from_noisy_messages(name, kind, dim):
    t = toy(name, dim=dim, simulations=40)
    found = distill(said(t, Law.of(TRUTH[name]), kind), t, restarts=2, evaluations=15_000)
    assert equivalent(found.law, TRUTH[name], data=t).by == "symbolic", found.law
    assert (found.alignment is None) == (kind == "force") and not found.component_wise
    assert found.law.provenance["engine"] == "operon" and found.seconds > 0 and found._repr_latex_().startswith("$")
    assert 0 <= found.trimmed["left_out"] < 0.1 and len(found.front) and len(found.proposals) == 1


def test_distill_without_trajectories_and_from_energies(tmp_path):
    t = toy("r1")
    m = said(t, Law.of(TRUTH["r1"]), "force", noise=0.001)
    options = dict(restarts=2, evaluations=10_000, out=tmp_path / "search.csv")
    alone = distill(m, rule="score", **options)
    assert equivalent(alone.law, TRUTH["r1"], tolerance=0.1) and "relative_error" not in alone.law.provenance
    assert distill(m, rule="score", **options).law == alone.law
    energy = -m.invariants["m_i"] * m.invariants["m_j"] / (m.invariants["r"] + 0.01) + 0.2 * m.invariants["m_i"]
    m.components, m.messages_are = energy[:, None], "energy"
    found = distill(m, toy("r2"), restarts=2, evaluations=8000)
    assert equivalent(found.law, TRUTH["r2"], data=t)


def test_distill_falls_back_to_components():
    law = Law.of(sp.Tuple(2 * dx * m_j, dy * m_j), mixing=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
    t = Toy(law, simulations=10)
    m = said(t, law)
    found = distill(m, t, restarts=3, evaluations=10_000)
    inputs = m.invariants | {"dx": m.displacement[:, 0], "dy": m.displacement[:, 1]}
    assert found.component_wise and len(found.proposals) == 2 and found.law.equivalent(law, data=inputs)
    assert not found.law.equivalent("2*r", data=inputs) and snap(found.law) is found.law
    assert np.allclose(found.law.accelerations(t.position, None, t.mass[:, None]), t.acceleration, rtol=0.05, atol=0.2)
    as_force = Law.of(sp.Tuple(dx, dy), mixing=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), target="acceleration").force()
    assert as_force.target == "force" and as_force.equivalent("m_i*r", data=inputs)
    alone = distill(m, component_wise=True, restarts=1, evaluations=2000)
    assert alone.component_wise and np.allclose(np.array(alone.law.mixing), np.eye(2, 3))
    as_acceleration = refit(Law.of(sp.Tuple(dx, dy), mixing=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))), Toy(Law.of("m_i*r")))
    assert as_acceleration.target == "acceleration"


def test_distill_names_bad_messages():
    m = said(toy("r1"), Law.of(TRUTH["r1"]))
    for change, message in [
        (dict(messages_are="spoken"), "messages_are 'spoken'"),
        (dict(components=m.components[:-1]), "do not match"),
        (dict(components=m.components * np.nan), "must be finite"),
    ]:
        with pytest.raises(UserError, match=message):
            distill(SimpleNamespace(**(vars(m) | change)))
