"Tables from rows, and the pages that show them."
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from symbolic_gn import tables as T
from symbolic_gn.core.errors import UserError
from symbolic_gn.models import MODELS
from symbolic_gn.report import KEYS
from symbolic_gn.sweep import read_grid
from symbolic_gn.training.config import LOSSES

RESULTS = Path(T.__file__).parents[1] / "nbs" / "results"
BOOK = RESULTS.parent / "07_tables.ipynb"
checkout = pytest.mark.skipif(not RESULTS.exists(), reason="the package is installed without its checkout")


@pytest.fixture(scope="module")
def told(): return T.all_tables(RESULTS)


@checkout
@pytest.mark.parametrize("name", ["paper", "laws", "noise"])
def test_a_grid_and_its_table_hold_the_same_cells(name):
    cells, rows = read_grid(RESULTS / f"{name}.toml"), pd.read_csv(RESULTS / f"{name}.csv")
    keys = [k for k in KEYS if k in rows and k != "hidden"]
    usual = dict(dim=2, bodies=4, model="newton", loss="mae")  # where a cell leaves it open
    settled = [c | {k: usual[k] for k in usual if c[k] is None} for c in cells]
    assert sorted(tuple(c[k] for k in keys) for c in settled) == sorted(map(tuple, rows[keys].to_numpy().tolist()))
    assert not rows.duplicated(keys).any()


@checkout
def test_the_grids_hold_what_the_paper_has():
    cells = read_grid(RESULTS / "paper.toml")
    four = {(c["system"], c["dim"] or 2, c["model"]) for c in cells if (c["bodies"] or 4) == 4}
    assert {(s, d, m) for s in T.PAPER_SYSTEMS for d in (2, 3) for m in T.PAPER_MODELS} <= four
    eight = {(c["system"], c["dim"]) for c in cells if c["bodies"] == 8}
    assert {(s, d) for s in ("spring", "r2") for d in (2, 3)} <= eight
    r2 = [c for c in cells if (c["system"], c["model"]) == ("r2", "l1") and c["dim"] != 3 and c["bodies"] != 8]
    assert {c["seed"] for c in r2} == {0, 1, 2}
    losses = {(c["model"], c["loss"]) for c in read_grid(RESULTS / "laws.toml") if c["system"] == "spring"}
    assert {(m, x) for m in ("pm", "cust", *T.PAPER_MODELS) for x in ("mae", "mse", "huber")} <= losses
    assert {m for m, _ in losses} <= set(MODELS) and {x for _, x in losses} - {None} <= set(LOSSES)


@pytest.fixture
def pages(tmp_path):
    "Copies of the README and of the notebook with the tables."
    for page in (RESULTS.parents[1] / "README.md", BOOK):
        shutil.copy(page, tmp_path)
    return tmp_path / "README.md", tmp_path / BOOK.name


@checkout
def test_readme_and_notebook_show_what_the_csv_files_hold(pages):
    assert T.write_tables(RESULTS, *pages) == []  # if this fails: symbolic-gn tables


@checkout
def test_another_result_is_another_page(pages, tmp_path):
    shutil.copytree(RESULTS, tmp_path / "results")
    rows = pd.read_csv(tmp_path / "results/paper.csv")
    rows.loc[(rows["system"] == "spring") & (rows["model"] == "newton"), "recovered"] = False
    rows.to_csv(tmp_path / "results/paper.csv", index=False)
    before = [page.read_text() for page in pages]
    assert T.write_tables(tmp_path / "results", *pages) == list(pages)
    assert all(page.read_text() != old for page, old in zip(pages, before))
    assert T.write_tables(tmp_path / "results", *pages) == []
    assert T.write_tables(RESULTS, *pages) == list(pages) and [page.read_text() for page in pages] == before


@checkout
def test_a_page_that_cannot_be_filled_is_told(pages):
    before = pages[1].read_text()
    pages[0].write_text("<!-- table: recoverd -->\n<!-- end -->")
    with pytest.raises(UserError, match="did you mean 'recovered'"):
        T.write_tables(RESULTS, *pages)
    assert pages[1].read_text() == before


@checkout
def test_a_folder_without_results_is_told_and_other_files_are_left_alone(tmp_path):
    with pytest.raises(UserError, match="holds no paper.csv"):
        T.read_results(tmp_path)
    for name in T._FILES:
        shutil.copy(RESULTS / f"{name}.csv", tmp_path)
    (tmp_path / "other.csv").write_bytes(b"\xff\x00no table at all")
    assert set(T.read_results(tmp_path)) == {*T._FILES}


@checkout
def test_every_table_has_its_cell_and_its_numbers(told):
    cells = json.loads(BOOK.read_text())["cells"]
    shown = ["".join(c["source"]).splitlines()[-1] for c in cells if c["cell_type"] == "code" and c["source"]]
    for name, text in told.items():
        assert f"Markdown(markdown({name}_table(results)))" in shown and text.count("\n") >= 2 and "nan" not in text


def test_only_cells_that_show_a_table_are_filled():
    def cell(text, kind="code"):
        return dict(cell_type=kind, source=text.splitlines(keepends=True), outputs=["kept"])

    last = "Markdown(markdown(eql_table(results)))"
    book = dict(cells=[cell(last), cell(f"assert True\n{last}\n"), cell(f"{last}\n1"), cell(last, "markdown")])
    filled = json.loads(T._in_notebook(json.dumps(book), {"eql": "| a |\n| b |"}))["cells"]
    assert [c["outputs"] == ["kept"] for c in filled] == [False, False, True, True]
    assert filled[0]["outputs"][0]["data"]["text/markdown"] == ["| a |\n", "| b |"]


def test_a_row_says_where_the_way_ended():
    base = dict(error=np.nan, model="l1", r2_force_trimmed=0.2, r2_acceleration_trimmed=0.5, faithfulness=np.nan)

    def say(**other):
        return T._reason(pd.Series({**base, **other}))

    assert "no forces (trimmed R² 0.50)" in say() and "no proposed formula" in say(r2_force_trimmed=0.99)
    assert say(error="UserError: no") == "UserError: no"
    assert "0.3 of the largest force" in say(model="eql", faithfulness=0.3)


def test_a_table_shows_models_and_worlds_in_their_order():
    told = [("charge", "newton", True, np.nan), ("spring", "newton", "True", ""), ("spring", "l1", False, ""),
            ("charge", "l1", False, "UserError: no")]
    rows = pd.DataFrame([
        dict(system=s, dim=2, bodies=4, model=m, recovered=m == "newton", proposed=p, error=e) for s, m, p, e in told])
    table = T._models_across(rows, T._outcome).to_dict("split")
    assert (table["index"], table["columns"]) == (["spring 2-D", "charge 2-D"], ["newton", "l1"])
    assert table["data"] == [["alone", "no"], ["alone", "failed"]]
    assert T._outcome(rows.assign(proposed=False).iloc[1]) == "yes"
    assert T._outcome(rows.assign(recovered=np.nan).iloc[1]) == "no"  # no truth is known
    assert T._in_words(dict(system="r2", dim=3, bodies=8)) == "r2 3-D, 8 bodies"
    assert T.markdown(pd.DataFrame({"a": [1]}, index=["x"]), "k") == "| k | a |\n| --- | --- |\n| x | 1 |"


@pytest.mark.parametrize("colours", ["viridis", "cividis", "gray"])
def test_numbers_can_be_read_on_their_squares(colours):
    figure = T.heat(pd.DataFrame(np.arange(10.0).reshape(2, 5)), "ten", colours)
    inks = [text.get_color() for text in figure.axes[0].texts]
    assert inks[0] == "white" and inks[-1] == "black" and inks == sorted(inks, reverse=True)


def test_squares_without_a_number_stay_empty():
    figure = T.heat(pd.DataFrame([[1.0, np.nan]]), "one", shown=pd.DataFrame([["a", np.nan]]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["a", ""]
