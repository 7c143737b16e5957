"What a discovery becomes: a page, a folder of files, a row."
import copy
import json

import pandas as pd
import pytest

from symbolic_gn.discover import discover, headline
from symbolic_gn.laws.law import Law
from symbolic_gn.report import KEYS, report, row_of, save_discovery
from symbolic_gn.search.front import Front
from symbolic_gn.training.runs import Run


@pytest.fixture(scope="module")
def kept(springs, tmp_path_factory):
    "A discovery and its folder."
    folder = tmp_path_factory.mktemp("kept") / "spring"
    return discover(springs, budget="tiny", progress=False, out=folder), folder


@pytest.fixture
def summary(kept): return copy.deepcopy(kept[0].summary)


def test_the_folder_holds_everything(kept):
    found, folder = kept
    assert json.loads((folder / "discovery.json").read_text()) == found.summary
    page = (folder / "report.md").read_text()
    first = "\n![rollout](figures/rollout.png)\n"  # orbits stand below the law
    assert headline(found.summary) in page and page.startswith(report(found.summary, first))
    pictures = sorted(p.name for p in (folder / "figures").glob("*.png"))
    assert {"front.png", "rollout.png", "sparsity.png", "rotation.png"} <= set(pictures)
    assert all((folder / "figures" / name).read_bytes()[:4] == b"\x89PNG" for name in pictures)
    assert all(f"figures/{name}" in page for name in pictures)
    assert str(Law.from_json(folder / "law.json").sympy) == found.summary["law"]["sympy"]
    assert len(Front.from_csv(folder / "front.csv").table) == len(found.front.table)
    assert Run.load(folder / "run").finished
    assert not [p for p in folder.rglob("*") if p.name.startswith(".")]


def test_no_figure_is_left_open(kept, tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    save_discovery(kept[0], tmp_path)
    assert plt.get_fignums() == before and (tmp_path / "figures" / "front.png").exists()


def test_a_page_says_what_was_found(summary):
    page = report(summary)
    assert page.startswith("# spring, 4 bodies, 2-D") and "recovered (symbolic)" in page
    assert f"**{summary['verdict']['grade']}**" in page and "| c0 | 2 |" in page
    for absent in ("each component was searched", "noise 1 %", "hidden", "Pair energy", "Measured", "None"):
        assert absent not in page


def test_a_page_leaves_out_what_there_is_not(summary):
    summary |= dict(component_wise=True, recovered=False, recovered_by=None)
    summary["energy_drift"]["neural"] = None
    summary["r2"]["force"] = dict(raw=None, trimmed=None)
    summary["law"]["constants"]["c0"][1] = None
    page = report(summary)
    assert "each component was searched" in page and "not recovered" in page
    assert "| force |" not in page and "None" not in page


def test_a_page_without_a_truth_gives_the_verdict(summary):
    summary |= dict(true_law=None, recovered=None, recovered_by=None)
    summary["verdict"] |= dict(grade="partly", unexplained=0.25)
    page = report(summary)
    assert "partly: 25 % of unseen accelerations unexplained (no true law is known)" in page and "None" not in page


@pytest.fixture
def weighed(summary):
    "The same with something found of the bodies, and a measured number."
    mass = dict(body=["sun", "earth+moon"], value=[1.0, 3e-6], standard_error=[None, 1e-12], true=[1.0, 3.04e-6])
    measured = dict(exponent=[-2.0, 1e-9], mass_power=[None, None])
    return summary | dict(properties={"mass": mass}, measured=measured, hidden="mass", noise=0.01, faithfulness=1e-9)


def test_properties_and_measured_numbers_are_shown(weighed):
    page = report(weighed)
    assert "noise 1 % on the positions" in page and ", mass hidden" in page
    assert "| mass of | value | standard error | true |" in page and "| earth+moon | 3e-06 | 1e-12 | 3.04e-06 |" in page
    assert "exponent -2 ± 1e-09" in page and "mass_power" not in page and "differ by at most 1e-09" in page


def test_a_row_is_flat_and_says_all(summary):
    row = row_of(summary)
    assert all(not isinstance(v, dict | list) for v in row.values()) and set(KEYS) <= set(row)
    assert row["law"] == "force = 2*r - 1.98" and row["seconds_total"] > 0 and row["seconds_load"] >= 0
    assert "torch=" in row["versions"] and row["error"] == "" and row["grade"] == "found"
    assert {"r2_force_trimmed", "neural_mae_other_bodies", "symbolic_mae_far", "drift_symbolic", "proposed"} <= set(row)


def test_a_row_holds_properties_and_measured_numbers(weighed):
    row = row_of(weighed)
    assert all(not isinstance(v, dict | list) for v in row.values())
    assert (row["value_mass_sun"], row["error_mass_earth+moon"], row["true_mass_earth+moon"]) == (1.0, 1e-12, 3.04e-6)
    assert (row["measured_exponent"], row["measured_exponent_error"], row["hidden"]) == (-2.0, 1e-9, "mass")


def test_a_row_without_a_truth_is_empty_there(summary, tmp_path):
    summary |= dict(true_law=None, recovered=None, recovered_by=None)
    pd.DataFrame([row_of(summary)]).to_csv(tmp_path / "rows.csv", index=False)
    assert pd.read_csv(tmp_path / "rows.csv")["recovered"].isna().all()
