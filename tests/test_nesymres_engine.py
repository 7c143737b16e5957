"The engine nesymres: columns, scales, views, its front, the exam, and the paper's search."
import numpy as np
import pandas as pd
import pytest
import sympy as sp
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from sklearn.utils.estimator_checks import check_estimator

from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import evaluate, parse
from symbolic_gn.nesymres.engine import (
    NESYMRES_OPERATORS,
    NeSymReSRegressor,
    Scale,
    as_law,
    column_importance,
    column_sets,
    nesymres,
    nesymres_operon,
    scale_of,
    shipped_network,
    views_of,
)
from symbolic_gn.nesymres.evaluation import accurate, exam_problems, exam_table, judge_formula, main, paired_difference
from symbolic_gn.nesymres.expressions import spelled
from symbolic_gn.nesymres.fitting import FittedRow
from symbolic_gn.nesymres.paper_network import PaperNetwork, PaperShape
from symbolic_gn.nesymres.paper_search import paper_search
from symbolic_gn.nesymres.training import write_proposer
from symbolic_gn.nesymres.transformer import NetworkShape, Proposer
from symbolic_gn.search.engines import require_engine

rng = np.random.default_rng(0)
X = rng.uniform(-3, 3, (100, 2))
y = 3 * X[:, 0] * X[:, 1] - 2
some = settings(max_examples=30, deadline=None)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    "A network that has learned nothing: what does not depend on its wisdom."
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"
    shape = NetworkShape(width=32, heads=2, encoder_layers=1, inducing=8, seeds=4, decoder_layers=1)
    write_proposer(Proposer(shape), path, {})
    return str(path)


def asked(weights, X=X, y=y, names=("x", "u"), **more):
    return nesymres(X, y, list(names), network=weights, **{"samples": 16, "rounds": 1, **more})


def test_the_same_seed_gives_the_same_front_and_guesses_enter_it(weights):
    one, two = (asked(weights, guesses=["x*u + 1"]) for _ in range(2))
    assert one.table["equation"].tolist() == two.table["equation"].tolist()
    assert one.table["loss"].iloc[-1] < 1e-8


def test_a_finished_search_is_not_made_again(weights, tmp_path, monkeypatch):
    first = asked(weights, out=tmp_path / "s.csv")
    monkeypatch.setattr("symbolic_gn.nesymres.engine._rounds", None)
    again = asked(weights, out=tmp_path / "s.csv")
    assert first.table["equation"].tolist() == again.table["equation"].tolist()


def test_who_is_content_is_not_kept_waiting(weights, monkeypatch):
    monkeypatch.setattr("symbolic_gn.nesymres.engine._rounds", None)  # the network is not asked any more
    seen = []
    noise = np.random.default_rng(5).normal(size=len(X))  # no short formula
    front = asked(weights, y=noise, enough=lambda front: seen.append(len(front)) or True)
    assert seen == [len(front)]


@pytest.mark.parametrize("values", [np.zeros(100), np.full(100, 7.0)])
def test_values_that_do_not_change_are_a_constant(weights, values):
    assert asked(weights, y=values).table["sympy"].iloc[-1] == pytest.approx(values[0])


def test_many_columns_and_those_that_say_nothing(weights):
    wide = np.column_stack([rng.uniform(-1, 1, (100, 10)), X[:, 0], np.ones(100)])
    front = asked(weights, wide, 2 * X[:, 0], [f"a{k}" for k in range(12)], guesses=["a10"])
    assert front.table["equation"].iloc[-1] == "2*a10"
    importance = column_importance(wide, np.sin(X[:, 0]))
    assert importance[11] == 0 and column_sets(importance)[0][0] == 10 and len(column_sets(importance)[0]) == 3


@pytest.mark.parametrize("bad, words", [
    (dict(y=np.where(X[:, 0] > 0, np.nan, y)), "must be finite"), (dict(X=X[:2], y=y[:2]), "too few"),
    (dict(operators=("+", "floor")), "no operator 'floor'"), (dict(network="nowhere.safetensors"), "is not there"),
])
def test_bad_input_is_told_in_one_line(weights, bad, words):
    with pytest.raises(UserError, match=words) as caught:
        asked(**{"weights": bad.pop("network", weights), **bad})
    assert "\n" not in str(caught.value)


def test_only_operators_that_are_allowed(weights):
    front = asked(weights, operators=("+", "*"), samples=32)
    assert not any(e.has(sp.sin, sp.cos, sp.exp, sp.log, sp.tan, sp.asin) for e in front.table["sympy"])
    assert "sqrt" in NESYMRES_OPERATORS


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
@some
def test_scales_are_undone_exactly(middle, wide):
    assume(wide > 1e-3 * abs(middle))  # else digits are lost
    x = middle + wide * np.linspace(-1, 1, 50)
    scale = scale_of(x)
    seen = scale(x)
    assert np.abs(seen).max() <= 26 and np.isfinite(seen).all()
    law = as_law(FittedRow(spelled("pow2 x_1"), (), 2.0, 1.0, 0.0), ["t"], [scale])
    np.testing.assert_allclose(evaluate(law, {"t": x}), 2 * seen**2 + 1, rtol=1e-6, atol=1e-6 * (seen**2).max())


def test_numbers_of_a_usual_size_are_left_as_they_are():
    assert scale_of(X[:, 0]) == Scale() and scale_of(1e-4 * X[:, 0]) != Scale()


def test_views_show_every_order_of_the_columns():
    views = views_of([(0, 1, 2), (0, 1)], 50, 12, 20, np.random.default_rng(0))
    assert {v.columns for v in views} >= {(0, 1, 2), (2, 1, 0), (0, 1), (1, 0)}
    assert all(len({*v.rows.tolist()}) == 20 for v in views)


def test_what_is_missing_is_told_before_any_work():
    try:
        shipped_network()
    except UserError as error:
        assert "weights are missing" in str(error)
    assert callable(nesymres_operon.check) and callable(nesymres.check)
    with pytest.raises(UserError, match="nowhere.safetensors is not there"):
        require_engine("nesymres", dict(network="nowhere.safetensors"))
    assert NeSymReSRegressor(time_limit=3).get_params()["time_limit"] == 3


# the exam


def test_the_exam_is_two_hundred_formulas_with_values_each():
    for kind in ("none", "few", "many"):
        problems = [*exam_problems(kind).values()]
        assert len(problems) == 200
        for p in problems[::20]:
            table, values, names = exam_table(p, distractors=1)
            assert len(values) >= 460 and table.shape == (len(values), len(names)) and names[-1] == "nothing_0"
            assert judge_formula(p.law, p)["numeric"]


def test_accuracy_is_the_papers():
    truth = np.linspace(-10, 10, 100)
    assert accurate(truth * 1.04, truth) and not accurate(truth * 1.06, truth)
    assert accurate(np.full(3, np.nan), np.full(3, np.nan)) and not accurate(np.full(3, np.nan), np.zeros(3))


def test_one_engine_is_compared_with_another_on_the_same_problems():
    every = dict(noise=0.0, distractors=0, settings='{"rounds": 2}')
    rows = pd.DataFrame([dict(every, problem=k, engine=e, numeric=e == "a") for k in range(9) for e in "ab"])
    assert paired_difference(rows, "a rounds=2", "b rounds=2") == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("arguments", [["--kind", "nun"], ["--engine", "nun"], ["--set", "x"], ["--jobs", "0"]])
def test_the_command_names_mistakes(arguments, tmp_path, capsys):
    assert main(["--out", str(tmp_path / "t.csv"), *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# the paper's search


def test_the_papers_search_gives_a_front_in_the_users_names():
    torch.manual_seed(0)
    little = PaperNetwork(PaperShape(width=32, heads=2, readers=1, writers=1, inducing=6, seeds=3)).eval()
    front = paper_search(X, y, ["x", "u"], network=little, beam=4, restarts=1)
    assert {s.name for e in front.table["sympy"] for s in e.free_symbols} <= {"x", "u"}
    assert front.table["loss"].iloc[-1] <= np.var(y) + 1e-9 and parse("x*u").free_symbols


def test_the_engine_searches_as_the_paper_does_with_its_weights(tmp_path):
    torch.manual_seed(0)
    little = PaperNetwork(PaperShape(width=32, heads=8, readers=1, writers=1, inducing=6, seeds=3)).eval()
    (tmp_path / "10M.safetensors").write_bytes(save(little.state_dict()))
    (tmp_path / "cut.safetensors").write_bytes(save(little.state_dict())[:99])
    ask = lambda file: nesymres(X, y, ["x", "u"], paper=True, network=str(tmp_path / file), samples=2)
    assert ask("10M.safetensors").table["loss"].iloc[-1] <= np.var(y) + 1e-9
    for file in ("none.ckpt", "none.safetensors", "cut.safetensors"):
        with pytest.raises(UserError, match="not there|no weights"):
            ask(file)


def test_scikit_learn_is_content():
    model = NeSymReSRegressor(operators=["*"], settings=dict(samples=1, rounds=1, short=False))
    other = {"check_sample_weight_equivalence_on_dense_data": "a fit sees some rows; ten at least have weight"}
    told = check_estimator(model, expected_failed_checks=other)  # raises at the first other that fails
    counted = pd.Series([check["status"] for check in told]).value_counts()
    assert counted["passed"] > 50 and counted.get("xfail", 0) <= 1 and counted["passed"] >= len(told) - 3
