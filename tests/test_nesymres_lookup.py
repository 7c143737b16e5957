"What is undone of a target, and formulas that are looked up."
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import evaluate
from symbolic_gn.nesymres import engine
from symbolic_gn.nesymres.engine import nesymres, usual_rows
from symbolic_gn.nesymres.expressions import ARITY, NUMBER, PAD, WORDS, is_formula, packed, said, spelled, values_of
from symbolic_gn.nesymres.lookup import cheapest, look_up, look_up_sums, looked_up, short_formulas, standard_rows
from symbolic_gn.nesymres.targets import (
    FUNCTIONS_UNDONE,
    PARTS_UNDONE,
    Target,
    columns_of,
    speaks_only,
    targets_before,
    undone,
)

ALL = [*range(len(WORDS))]


@pytest.fixture(scope="module")
def points():
    return np.random.default_rng(0).uniform(0.5, 1.5, (80, 2))


@pytest.fixture(scope="module")
def short(points):
    return short_formulas(points, ALL)


def of(row, points, numbers=None):
    X = np.vstack([points.T, np.zeros(len(points))])
    some = np.ones((1, row.count(NUMBER))) if numbers is None else np.array([numbers])
    return np.asarray(values_of(packed([row]), X, some))[0]


def correlation(a, b):
    return abs(float(np.corrcoef(a, b)[0, 1]))


@pytest.mark.parametrize("how", [*FUNCTIONS_UNDONE, *PARTS_UNDONE], ids=lambda how: f"{how.word} {how.forms[0]}")
def test_what_is_undone_gives_the_answer_back(how, points):
    answer, part = spelled("mul x_1 x_2"), spelled("x_2")
    form = b"".join(part if w == "x" else answer if w == "P" else spelled(w) for w in how.forms[0].split())
    y = of(form, points * 0.6)
    before = undone(Target(y), how, part, 0.6 * points[:, 1])
    assert before is not None and correlation(before.values, of(answer, points * 0.6)) > 1 - 1e-12
    built = before.built(answer)
    assert max(correlation(of(row, points * 0.6), y) for row in built) > 1 - 1e-12
    assert all(is_formula(row) and PAD not in row for row in built)


def test_a_second_step_goes_inside_the_first(points):
    y = np.exp(points[:, 0] * (points[:, 1] + 3))
    first = undone(Target(y), FUNCTIONS_UNDONE[0])
    second = undone(first, PARTS_UNDONE[0], spelled("x_1"), points[:, 0])
    assert correlation(second.values, points[:, 1]) > 1 - 1e-12
    assert "exp mul x_1 add c x_2" in [said(row) for row in second.built(spelled("x_2"))]


def test_nothing_is_undone_that_cannot_be(points):
    wave = Target(np.sin(9 * points[:, 0]))
    refused = [how.word for how in FUNCTIONS_UNDONE if undone(wave, how) is None]
    assert {"exp", "pow2"} <= {*refused}
    assert targets_before(Target(np.ones(80)), columns_of(points), [k for k in ALL if WORDS[k].name == "exp"]) == []
    assert undone(Target(points[:, 0]), PARTS_UNDONE[0], spelled("x_1"), points[:, 0]) is None  # only a number is left


def test_short_formulas_are_what_they_say(short, points):
    some = np.random.default_rng(1).choice(len(short.rows), 300, replace=False)
    for k in some:
        assert is_formula(short.rows[k]) and sum(ARITY[w] > 0 for w in short.rows[k]) <= 3
        np.testing.assert_allclose(of(short.rows[k], points), short.values[k], rtol=1e-9)
    assert len({*short.rows}) == len(short.rows) and short.counts[0] == 3
    assert len(short.parts(1)) == short.counts[1]
    unit = standard_rows(short.values[short.counts[2] :])
    assert np.isfinite(unit).all() and np.ptp(np.linalg.norm(unit, axis=1)) < 1e-9


def test_only_words_that_are_allowed(points):
    few = short_formulas(points, [k for k in ALL if WORDS[k].name in ("add", "mul")])
    assert {w for row in few.rows for w in row if ARITY[w]} == {*spelled("add mul")}


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 5000), st.floats(0.1, 100), st.floats(-100, 100), st.booleans())
def test_factor_and_offset_do_not_matter(short, k, factor, offset, up):
    k = k % len(short.rows)
    if k == short.rows.index(bytes([NUMBER])):
        return
    y = (factor if up else -factor) * short.values[k] + offset
    size = np.ptp(short.values[k]) * factor
    best = min(look_up(short, [Target(y)]), key=lambda hit: hit[0])
    values = short.values[short.rows.index(best[2])]
    assert size < 1e-6 * abs(offset) or correlation(values, short.values[k]) > 1 - 1e-9


def test_targets_with_gaps_are_left_out(short, points):
    gap = points[:, 0].copy()
    gap[3] = np.nan
    assert look_up(short, [Target(gap)]) == []


def test_sums_agree_with_least_squares(short, points):
    y = np.random.default_rng(2).normal(size=80)
    hits = look_up_sums(short, Target(y), 3)
    assert len(hits) == 6
    for cost, target, row in hits:
        first, second = row[1:].split(spelled("mul c"), 1)
        A = np.column_stack([of(first, points), of(second, points), np.ones(80)])
        left = np.sum((A @ np.linalg.lstsq(A, y, rcond=None)[0] - y) ** 2) / np.sum((y - y.mean()) ** 2)
        np.testing.assert_allclose(cost, left * np.exp((len(row) + 1) / 16), rtol=1e-5)
        assert len(cheapest([(cost, target, row)], 5)) == 1


def test_two_halves_meet(points):
    y = points[:, 0] * points[:, 1] / np.sqrt(points[:, 0] ** 2 + 1.0 + points[:, 1] ** 4)
    rounds = [*looked_up(points, y, ALL)]
    assert len(rounds) == 2 and all(is_formula(row) for rows in rounds for row in rows)
    assert any(correlation(of(row, points), y) > 1 - 1e-12 for rows in rounds for row in rows)


def test_poles_do_not_decide():
    x = np.linspace(-1, 1, 201)[1::2]
    far = ~usual_rows(1 / x**5)
    assert 0 < far.sum() < 50 and np.abs(x[far]).max() < np.abs(x[~far]).min()
    assert usual_rows(np.r_[np.zeros(90), np.ones(10)]).all()


def test_a_law_behind_poles_and_a_limit_that_is_kept():
    X = np.random.default_rng(0).uniform(-2, 2, (300, 2))
    y = X[:, 0] ** 3 * (X[:, 1] - 1.181) ** 3 / X[:, 1] ** 3
    front = nesymres(X, y, ["a", "b"], rounds=1)
    values = evaluate(front.table["sympy"].iloc[-1], dict(zip("ab", X.T)))
    np.testing.assert_allclose(values, y, rtol=1e-6)


def test_a_limit_ends_the_search_after_the_round_that_has_begun(monkeypatch):
    rounds, fit = [], engine._Task.fit
    monkeypatch.setattr(engine._Task, "fit", lambda *a: rounds.append(1) or fit(*a))
    X = np.random.default_rng(0).uniform(-2, 2, (100, 2))
    nesymres(X, np.random.default_rng(1).normal(size=100), ["a", "b"], rounds=50, time_limit=1e-3)
    assert len(rounds) == 1


@pytest.mark.parametrize("operators", [("*", "/"), ("+", "*"), ("sin", "*")])
def test_no_operation_that_was_not_asked_for(operators):
    X = np.random.default_rng(0).uniform(0.5, 2, (100, 2))
    y = np.sqrt(X[:, 0] + np.exp(X[:, 1]))
    task = engine._Task.of(engine.shipped_network()[0], engine.Search(X, y, ["a", "b"]), operators, 0)
    words = {*engine.words_of(operators)}
    rows = [f.row for fitted in task.look(0, np.inf) for f in fitted]
    rows += [f.row for f in task.guess([Target(task.y)], 2, 8, 0)]
    assert rows and all(speaks_only(row, words) for row in rows)


@pytest.mark.parametrize(("change", "message"), [
    (dict(samples=0), "samples is 0"), (dict(paper=True), "needs the authors' weights"),
    (dict(y=1e300), "choose other units"), (dict(y=1e-300), "choose other units"),
    (dict(names=["a", "a"]), "all different"),
])
def test_bad_input_is_one_line(change, message):
    X = np.random.default_rng(0).uniform(0.5, 2, (100, 2))
    more = {k: v for k, v in change.items() if k not in ("y", "names")}
    with pytest.raises(UserError, match=message) as told:
        nesymres(X, X[:, 0] * change.get("y", 1.0), change.get("names", ["a", "b"]), **more)
    assert "\n" not in str(told.value)
