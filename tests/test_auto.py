"The search in widening circles: what it finds, when it stops, what it keeps."
import numpy as np
import pytest
import sympy as sp

from symbolic_gn.core.contracts import ENGINES
from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import complexity, evaluate, parse, symbol, written
from symbolic_gn.search import auto as A
from symbolic_gn.search.front import Front, select

rng = np.random.default_rng(0)
X = rng.uniform(0.5, 3, (200, 2))
COLUMNS = {"x": X[:, 0], "z": X[:, 1]}
QUICK = [A.Circle("library", 0.5), A.Circle("operon", 0.5, ("+", "-", "*", "/"), dict(restarts=1, evaluations=2000))]


def of(text: str) -> np.ndarray: return np.asarray(evaluate(parse(text), COLUMNS))
def searched(y, **options): return A.auto(X, y, ["x", "z"], **{"time_limit": 300.0, **options})


@pytest.mark.parametrize("text", ["2*x*z - 3", "x**2*sqrt(z)", "sin(2*x) + z", "x/(x + z)", "exp(-x**2/2)*z"])
def test_exact_laws_end_the_search(text):
    front = searched(of(text))
    found = select(front, "best").sympy
    assert front.notes["stopped"] == "only rounding is left" and front.notes["circle"] in ("library", "operon")
    np.testing.assert_allclose(np.asarray(evaluate(found, COLUMNS)), of(text), rtol=1e-6, atol=1e-6)
    assert complexity(found) <= 2 * complexity(parse(text)) + 5


def test_noise_earns_no_terms():
    y = of("2*x*z") + np.random.default_rng(1).normal(0, 0.05, 200)
    assert sp.simplify(select(searched(y, circles=QUICK), "best").sympy / parse("x*z")).is_number


def test_the_same_seed_gives_the_same_front():
    fronts = [searched(of("x*z + 1/x"), circles=QUICK, seed=3) for _ in range(2)]
    assert fronts[0].table.equals(fronts[1].table)


def test_finished_circles_are_not_asked_again(tmp_path, monkeypatch):
    asked = []

    def engine(X, y, names, **settings):
        asked.append(sorted(settings))
        return Front.of([(parse("x + z"), 0.1)])

    monkeypatch.setitem(ENGINES, "counted", engine)
    circles = [A.Circle("counted", 0.5), A.Circle("counted", 0.4)]
    first = searched(of("x*z"), circles=circles, out=tmp_path / "search.csv")
    again = searched(of("x*z"), circles=circles, out=tmp_path / "search.csv")
    assert len(asked) == 2 and first.table.equals(again.table)
    assert asked[0] == ["operators", "seed", "time_limit", "weights"]


def test_a_search_that_has_ended_gives_the_same_front_again(tmp_path):
    y = rng.normal(size=len(X))  # only numbers of equal rank are left: what is fitted again may win
    first, again = [searched(y, circles=QUICK, out=tmp_path / "search.csv") for _ in range(2)]
    assert first.notes["circle"] == again.notes["circle"] and again.notes["stopped"] == "it was finished before"
    assert first.table.equals(again.table)


def test_the_time_limit_is_kept():
    front = searched(of("sin(x*z)*exp(-x)/(z + sin(3*x) + 2)"), time_limit=4.0)
    assert len(front) > 1 and front.notes["stopped"] == "time"


def test_rows_without_weight_do_not_speak():
    y, w = of("2*x*z + 1"), np.ones(200)
    w[::7] = 0
    assert searched(np.where(w > 0, y, 1e3), weights=w, circles=QUICK).notes["stopped"] == "only rounding is left"
    w[3:] = 0
    with pytest.raises(UserError, match="2 rows are too few"):
        searched(y, weights=w, circles=QUICK)


def test_operators_are_those_allowed():
    front = searched(of("exp(x)*z"), operators=("+", "-", "*"), circles=QUICK)
    assert not [e for e in front.table["sympy"] if e.has(sp.exp, sp.log, sp.sin, sp.cos)]


def test_parts_of_known_formulas_become_inputs(monkeypatch):
    names_seen = []

    def engine(X, y, names, **settings):
        names_seen.append(list(names))
        return Front.of([(symbol(names[-1]) * 2, 0.1)])

    monkeypatch.setitem(ENGINES, "builder", engine)
    circles = [A.Circle("library", 0.3), A.Circle("builder", 0.3, builds=True)]
    front = searched(of("sin(x*z)*exp(-x)/(z + sin(3*x) + 2)"), circles=circles)
    assert names_seen[0][:2] == ["x", "z"] and len(names_seen[0]) > 2
    assert all(e.free_symbols <= {symbol("x"), symbol("z")} for e in front.table["sympy"])


def test_guesses_and_bad_input():
    assert searched(of("x**z"), guesses=["x**z"], circles=QUICK).notes["circle"] == "guesses"
    with pytest.raises(UserError, match="input 'w' is unknown"):
        searched(of("x"), guesses=["w"])
    with pytest.raises(UserError, match="at least 10"):
        A.auto(X[:5], of("x")[:5], ["x", "z"])


def test_an_engine_that_is_not_there_is_left_out():
    circles = [A.Circle("nobody", 0.5), *QUICK]
    assert select(searched(of("2*x"), circles=circles), "best").sympy == 2 * symbol("x")


def test_what_looks_like_noise():
    assert A.looks_like_noise(X, np.random.default_rng(0).normal(size=200))
    assert not A.looks_like_noise(X, of("sin(2*x)"))


@pytest.mark.parametrize("times", [1, 2, 10])
@pytest.mark.parametrize("copied", [True, False])  # whole rows, or places that were measured again
def test_repeated_rows_hide_no_noise_and_no_signal(times, copied):
    again, generator = np.repeat(X, times, 0), np.random.default_rng(1)
    draw = lambda: generator.normal(size=200).repeat(times) if copied else generator.normal(size=200 * times)
    assert np.mean([A.looks_like_noise(again, draw()) for _ in range(40)]) > 0.8
    signal = np.repeat(of("sin(2*x)"), times)
    assert not any(A.looks_like_noise(again, signal + 0.3 * draw()) for _ in range(10))
    few = np.repeat(X[:5], 40, 0)  # five places, far from each other
    assert not A.looks_like_noise(few, np.repeat([1.0, -2.0, 3.0, -1.5, 0.5], 40) + 0.3 * generator.normal(size=200))


@pytest.mark.parametrize("times", [2, 10])
def test_a_search_of_repeated_rows_ends_at_the_noise(times):
    noisy = of("x*sin(z)") + 0.05 * np.random.default_rng(2).normal(size=200)
    places = np.repeat(X, times, 0)
    front = A.auto(places, np.repeat(noisy, times), ["x", "z"], time_limit=60.0)
    assert front.notes["stopped"] == "what is left looks like noise" and front.notes["seconds"] < 40
    assert select(front, "best").complexity <= 8


NESTED = ["1.1*(x + 2.25*(cos(z) - 0.31)*sin(x))*cos(z)", "0.3*(x - 0.7)/(z + 0.1234567890123457)", "x/3 + z"]


@pytest.mark.parametrize("text", NESTED)
def test_a_reopened_search_has_the_same_formulas(text, tmp_path):
    expr = parse(text)
    first, again = [searched(of(text), guesses=[expr], circles=QUICK, out=tmp_path / "search.csv") for _ in range(2)]
    assert again.notes["stopped"] == "it was finished before"
    assert first.table.equals(again.table) and list(first.table["sympy"]) == list(again.table["sympy"])
    kept = [written(e) for e in first.table["sympy"]]
    assert kept == [written(e) for e in again.table["sympy"]]
    assert [complexity(e) for e in again.table["sympy"]] == list(first.table["complexity"])


@pytest.mark.parametrize("text", ["1.3*(x - 0.8)**3", "0.7*(x + 2)**2 + 1", "(x - 1)**5"])
def test_powers_in_disguise(text):
    long = sp.expand(parse(text))
    assert any(sp.simplify(e - parse(text)).is_zero or abs(float(sp.expand(e - parse(text)).subs("x", 1.7) or 0)) < 1e-9
               for e in A._relatives(long))
