"The whole way: every model with every loss, other worlds, a user's own arrays, reports, tables, and what was found judged."
import copy
import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from symbolic_gn import discover as D
from symbolic_gn.discover import BUDGETS, KEYS, discover, judge, report, row_of, verdict, write_tables
from symbolic_gn.distill import Front, Law
from symbolic_gn.errors import UserError
from symbolic_gn.models import MODELS
from symbolic_gn.simulate import Trajectories, simulate
from symbolic_gn.sweep import read_grid
from symbolic_gn.train import LOSSES, Config, Run, fit, paper_config

SUMMARY = {  # design 5
    "system": str, "dim": int, "bodies": int, "model": str, "loss": str, "engine": str, "seed": int, "budget": str, "law": dict,
    "true_law": (str, type(None)), "recovered": bool, "recovered_by": (str, type(None)), "r2": dict, "alignment": dict, "error": dict,
    "energy_drift": dict, "seconds": dict, "versions": dict, "device": str,
}


def strict(text):
    "JSON as the standard has it: no NaN, no Infinity."
    def refuse(word): raise AssertionError(f"{word} is no JSON")
    return json.loads(text, parse_constant=refuse)


def assert_complete(s):
    "A summary has every key that others rely on."
    for key, kind in SUMMARY.items(): assert isinstance(s[key], kind), key
    assert {"sympy", "latex", "constants"} <= set(s["law"])
    for value, error in s["law"]["constants"].values(): assert math.isfinite(value) and (error is None or error >= 0)
    assert set(s["r2"]) == {"force", "acceleration"} and all(set(part) == {"raw", "trimmed"} for part in s["r2"].values())
    assert "confidence" in s["alignment"]
    assert set(s["error"]) == set(s["energy_drift"]) == {"neural", "symbolic"}
    assert all("mae" in part for part in s["error"].values())
    assert {"simulate", "train", "analyze", "distill", "total"} <= set(s["seconds"]) and {"torch", "jax"} <= set(s["versions"])
    assert s["recovered_by"] in ("symbolic", "numeric", None) and s["recovered"] == (s["recovered_by"] is not None)
    assert strict(json.dumps(s)) == s


def tiny(source, **options): return discover(source, **{"budget": "tiny", "progress": False, **options})


def without_time(summary): return {k: v for k, v in summary.items() if k != "seconds"}


@pytest.fixture(scope="module")
def kept(springs, tmp_path_factory):
    "A discovery and its folder."
    folder = tmp_path_factory.mktemp("kept") / "spring"
    return tiny(springs, out=folder), folder


# every model, every loss, other worlds, noise


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_with_every_loss_goes_the_whole_way(model, loss, springs, brief):
    found = tiny(springs, model=model, loss=loss, engine=brief)
    assert_complete(found.summary)
    assert (found.summary["model"], found.summary["loss"], found.summary["steps"]) == (model, loss, 20)
    assert repr(found).startswith("found  ") and "true   force = 2*r - 1.98" in repr(found)


def test_three_dimensions(springs3, brief):
    s = tiny(springs3, engine=brief).summary
    assert_complete(s)
    assert (s["dim"], s["bodies"]) == (3, 3)


def own(bodies, turn=0.0, topology="all"):
    "Arrays of a user: forces 2 r - 1 along the displacement, or turned away from it; nothing needs to be simulated."
    rng = np.random.default_rng(bodies)
    x, v = rng.normal(size=(2, 8, 8, bodies, 2)) * 2
    d = x[:, :, None] - x[:, :, :, None]  # receiver, sender, axis
    r = np.linalg.norm(d, axis=-1, keepdims=True) + np.eye(bodies)[..., None]
    near = np.abs(np.subtract.outer(*2 * [np.arange(bodies)])) == 1 if topology == "chain" else np.ones((bodies, bodies), bool)
    c, s = np.cos(turn), np.sin(turn)
    a = ((2 * r - 1) * d / r * near[..., None]).sum(3) @ np.array([[c, s], [-s, c]])
    return Trajectories.from_arrays(x, v, a, dt=0.1, topology=topology)


def test_eight_bodies(brief):
    found = tiny(own(8), engine=brief)
    assert_complete(found.summary)
    assert found.summary["bodies"] == 8 and found.summary["error"]["symbolic"]["mae"] < 1e-3 and not found.summary["component_wise"]


def test_a_chain(brief):
    found = tiny(own(4, topology="chain"), engine=brief)
    assert_complete(found.summary)
    assert len(found.messages) % 6 == 0 and found.summary["error"]["symbolic"]["mae"] < 1e-3


def test_forces_that_are_not_central_are_searched_component_by_component(brief):
    found = tiny(own(2, turn=1.0), model="bottleneck", engine=brief, steps=300, lr=1e-2)
    assert_complete(found.summary)
    assert found.summary["component_wise"] and "each component was searched" in report(found.summary)


def test_laws_of_the_hard_worlds_are_judged_whole():
    springs = simulate("damped", simulations=5, frames=5)
    law = Law.of("2*r - 1.98", drag=0.75)
    assert judge(law, "damped", springs)["recovered"] and judge(law, "damped", springs)["true_law"] == "2*r - 1.98, drag 0.75"
    for other in (Law.of("2*r - 1.98"), Law.of("2*r - 1.98", drag=0.8), Law.of("2*r - 2.2", drag=0.75)): assert not judge(other, "damped", springs)["recovered"]
    assert not judge(law, "spring", simulate("spring", simulations=5, frames=5))["recovered"]  # a drag where there is none
    jump = simulate("discontinuous", simulations=20, frames=10)
    right, wrong = (Law.of(f"Piecewise((0, r < {c}), (2*r - 1.98, True))") for c in (1.99, 2.2))
    assert judge(right, "discontinuous", jump)["recovered"] and not judge(wrong, "discontinuous", jump)["recovered"]


def test_noise_goes_the_whole_way(brief, tmp_path):
    found = tiny("spring", noise=0.01, engine=brief, out=tmp_path)
    assert_complete(found.summary)
    assert found.summary["noise"] == 0.01 and "noise 1 % on the positions" in report(found.summary)
    assert found.summary["error"]["symbolic"]["mae"] < 0.1  # against the true accelerations
    assert Trajectories.load(tmp_path / "data.nc").frames == 500


@pytest.mark.parametrize("noise, told", [(2.0, "noise is 2.0"), (-0.1, "noise is -0.1"), ("much", "noise is 'much'"), (True, "noise is True")])
def test_noise_that_cannot_be_is_told(noise, told):
    with pytest.raises(UserError, match=told): tiny("spring", noise=noise)


def test_data_of_ones_own_are_noisy_already(springs):
    with pytest.raises(UserError, match="noise is for simulated systems"): tiny(springs, noise=0.01)


def test_a_hamiltonian_network_says_its_energy(springs, brief):
    found = tiny(springs, model="flat_hgn", engine=brief)
    energies = found.summary["energies"]
    assert {"potential", "true_potential", "potential_recovered", "gauge"} <= set(energies) and f"`{energies['true_potential']}`" in report(found.summary)
    assert row_of(found.summary)["energy_true_potential"] == energies["true_potential"]


def test_drag_is_no_pair_force_but_goes_the_whole_way(brief):
    s = tiny(simulate("damped", simulations=12, bodies=2, frames=10, every=5), engine=brief).summary
    assert_complete(s)
    assert s["true_law"].startswith("2*r - 1.98")


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    "A discovery that simulated what it was asked for."
    folder = tmp_path_factory.mktemp("asked") / "out"
    return tiny("spring", bodies=2, seed=2, out=folder).summary, folder


def test_a_system_is_simulated_as_asked(asked):
    s, folder = asked
    assert_complete(s)
    data = Trajectories.load(folder / "data.nc")
    assert (data.system, data.bodies, data.dim, data.simulations, data.frames) == ("spring", 2, 2, 24, 10)
    assert (s["system"], s["bodies"], s["dim"], s["seed"]) == ("spring", 2, 2, 2)
    assert data.data.attrs["seed"] == 2 and Run.load(folder / "run").config.seed == 2


def test_a_users_own_arrays_have_no_truth(measured, brief, tmp_path):
    measured.save(tmp_path / "mine.nc")
    found = tiny(tmp_path / "mine.nc", engine=brief, out=tmp_path / "out")
    s = found.summary
    assert_complete(s)
    assert (s["system"], s["true_law"], s["recovered"], s["recovered_by"]) == ("lab", None, False, None)
    assert "mae_other_bodies" not in s["error"]["neural"] and s["energy_drift"] == {"neural": None, "symbolic": None}
    assert "no true law is known" in repr(found) and "no true law is known" in (tmp_path / "out" / "report.md").read_text()
    assert strict((tmp_path / "out" / "discovery.json").read_text())["r2"]["force"]["raw"] is None
    assert not (tmp_path / "out" / "data.nc").exists() and (tmp_path / "out" / "figures" / "rollout.png").exists()
    assert tiny(str(tmp_path / "mine.nc"), engine=brief).summary["law"] == s["law"]


# what is written


def test_the_folder_holds_everything(kept):
    found, folder = kept
    assert_complete(strict((folder / "discovery.json").read_text()))
    assert strict((folder / "discovery.json").read_text()) == found.summary
    assert verdict(found.summary) in (folder / "report.md").read_text()
    pictures = sorted(p.name for p in (folder / "figures").glob("*.png"))
    assert {"front.png", "rollout.png", "sparsity.png", "rotation.png"} <= set(pictures)
    assert all((folder / "figures" / name).read_bytes()[:4] == b"\x89PNG" for name in pictures)
    assert all(f"figures/{name}" in (folder / "report.md").read_text() for name in pictures)
    assert str(Law.from_json(folder / "law.json").sympy) == found.summary["law"]["sympy"]
    assert len(Front.from_csv(folder / "front.csv").table) == len(found.front.table)
    assert Run.load(folder / "run").finished
    assert not [p for p in folder.rglob("*") if p.name.startswith(".")]


def test_the_spring_is_recovered_by_the_search(kept):
    found, _ = kept
    assert found.recovered and found.summary["recovered_by"] == "symbolic" and found.law is found.distillation.law
    assert found.summary["law"]["text"] == "2*r - 1.98" and found._repr_markdown_() == report(found.summary)
    assert found.summary["error"]["symbolic"]["mae"] < 1e-4 < found.summary["error"]["neural"]["mae"]
    assert found.summary["energy_drift"]["symbolic"] < 1e-3


def test_no_figure_is_left_open(kept, springs, tmp_path):
    import matplotlib.pyplot as plt
    before = plt.get_fignums()
    D.save_discovery(kept[0], springs, tmp_path)
    assert plt.get_fignums() == before and (tmp_path / "figures" / "front.png").exists()


def test_resume_gives_the_same_again(kept, springs):
    found, folder = kept
    before = {name: (folder / name).read_bytes() for name in ("search.csv", "law.json", "run/model.safetensors")}
    again = tiny(springs, out=folder, resume=True)
    assert without_time(again.summary) == without_time(found.summary)
    assert before == {name: (folder / name).read_bytes() for name in before}


def test_the_seed_fixes_the_discovery(springs, brief):
    one, two = (tiny(springs, seed=3, engine=brief).summary for _ in range(2))
    assert without_time(one) == without_time(two)


@pytest.mark.parametrize("change", [dict(source="r1"), dict(bodies=3), dict(dim=3)], ids=str)
def test_resume_with_other_data_is_refused(change, asked):
    before = (asked[1] / "discovery.json").read_bytes()
    with pytest.raises(UserError): tiny(**{"source": "spring", "bodies": 2, "seed": 2, "out": asked[1], "resume": True, **change})
    assert (asked[1] / "discovery.json").read_bytes() == before


def test_resume_with_other_settings_is_refused(kept, springs):
    _, folder = kept
    for change, word in ((dict(model="l1"), "model"), (dict(seed=4), "seed"), (dict(loss="mse"), "loss"), (dict(lr=1e-2), "lr")):
        with pytest.raises(UserError, match=word): tiny(springs, out=folder, resume=True, **change)


def test_an_interrupted_training_says_what_was_kept(springs, brief, tmp_path, monkeypatch):
    def stopped(*args, **options): return dataclasses.replace(fit(*args, **options), finished=False)
    monkeypatch.setattr(D, "fit", stopped)
    with pytest.raises(KeyboardInterrupt, match=r"step 20; what was reached is in .*out.*--resume"): tiny(springs, out=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt) as caught: tiny(springs)
    assert "resume" not in str(caught.value)
    monkeypatch.undo()
    assert Run.load(tmp_path / "out" / "run").finished


def test_stages_are_told_and_timed(springs, tmp_path):
    said, seconds = [], {}
    for _ in range(2):
        with D.stage("work", seconds, said.append): pass
    assert said[0] == "work ..." and said[1].startswith("work: ") and len(said) == 4 and seconds["work"] >= 0


# mistakes


@pytest.mark.parametrize("options, words", [
    (dict(source="sprng"), ["system 'sprng'", "spring"]), (dict(model="netwon"), ["'netwon'", "newton"]), (dict(loss="rad"), ["'rad'", "mae"]),
    (dict(engine="operan"), ["'operan'", "operon"]), (dict(budget="tinny"), ["'tinny'", "tiny"]), (dict(step=3), ["'step'", "steps"]),
    (dict(lr=-1.0), ["lr is -1.0"]), (dict(dim=4), ["dim is 4"]), (dict(bodies=1), ["bodies is 1"]), (dict(seed=-1), ["seed"]),
    (dict(source="nowhere.nc"), ["nowhere.nc does not exist"]),
])
def test_mistakes_are_named_and_nothing_is_written(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught: tiny(**{"source": "spring", "out": tmp_path / "out", **options})
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)
    assert not [p for p in (tmp_path / "out").rglob("*")]


def test_a_folder_that_cannot_be_written_stops_before_the_work(springs, tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    with pytest.raises(UserError, match="cannot be written"): tiny(springs, out=tmp_path / "file" / "out", say=said.append)
    assert said == []


def test_without_julia_pysr_stops_before_the_work(springs, tmp_path, monkeypatch):
    for room in ("distill", "discover"): monkeypatch.setattr(f"symbolic_gn.{room}.find_julia", lambda: None)
    said = []
    with pytest.raises(UserError, match="needs Julia"): tiny(springs, engine="pysr", out=tmp_path / "out", say=said.append)
    assert said == [] and not (tmp_path / "out").exists()


# judging


LAWS = [("2*r - 1.98", True), ("2.001*r - 1.979", True), ("2*r - 1.9", False), ("2*r", False), ("r - 0.99", False), ("m_i*(2*r - 1.98)", False)]


@pytest.mark.parametrize("formula, right", LAWS)
def test_only_the_true_law_is_recovered(formula, right, springs):
    answer = judge(Law.of(formula), "spring", springs)
    assert answer["recovered"] is right and answer["true_law"] == "2*r - 1.98"


def test_an_acceleration_law_is_judged_as_a_force(springs):
    assert judge(Law.of("(2*r - 1.98)/m_i", target="acceleration"), "spring", springs)["recovered"]
    assert not judge(Law.of("2*r - 1.98", target="acceleration"), "spring", springs)["recovered"]


def test_an_unknown_system_has_no_verdict(springs):
    assert judge(Law.of("r"), "lab", springs) == dict(true_law=None, recovered=False, recovered_by=None, freedom=None)


def test_errors_of_the_true_law_vanish(springs, kept):
    found = D.errors(kept[0].run.model, Law.of("2*r - 1.98"), dict(here=springs, there=springs.select(simulations=slice(3))))
    assert found["symbolic"]["here"] < 1e-4 and found["symbolic"]["there"] < 1e-4 < found["neural"]["here"]


def test_a_constant_without_error_is_told_as_null():
    s = D.law_summary(Law.of("2*r - 1.98"))
    assert s["sympy"] == "2*r - 1.98" and all(error is None for _, error in s["constants"].values())
    strict(json.dumps(s))


def test_reports_name_what_is_missing(kept):
    s = copy.deepcopy(kept[0].summary)
    assert "recovered (symbolic)" in report(s) and "each component was searched" not in report(s)
    s |= dict(component_wise=True, recovered=False, recovered_by=None)
    s["energy_drift"]["neural"] = None
    s["r2"]["force"] = dict(raw=None, trimmed=None)
    s["law"]["constants"]["c0"][1] = None
    told = report(s)
    assert "each component was searched" in told and "not recovered" in told and "| force |" not in told and "None" not in told


def test_budgets_give_their_settings():
    assert BUDGETS["quick"].steps_for("newton") != BUDGETS["quick"].steps_for("standard") == BUDGETS["quick"].steps[""]
    paper = D.training_config("l1", "paper", "mse", 8, 3, dict(steps=10))
    assert paper == dataclasses.replace(paper_config("l1", 8), loss="mse", seed=3, steps=10)
    assert D.training_config("l1", "tiny", "mae", 4, 0, {}) == Config("l1", steps=20, batch=32)
    assert BUDGETS["paper"].simulations == 10_000 and "core" in D.machine()


# tables


RESULTS = Path(D.__file__).parents[1] / "nbs" / "results"
checkout = pytest.mark.skipif(not RESULTS.exists(), reason="the package is installed without its checkout")


@checkout
@pytest.mark.parametrize("name", ["paper", "laws", "noise"])
def test_a_grid_and_its_table_hold_the_same_cells(name):
    cells, rows = read_grid(RESULTS / f"{name}.toml"), pd.read_csv(RESULTS / f"{name}.csv")
    keys = [k for k in KEYS if k in rows]
    assert sorted(tuple(c[k] for k in keys) for c in cells) == sorted(map(tuple, rows[keys].to_numpy().tolist()))
    assert not rows.duplicated(keys).any()


@checkout
def test_the_grids_hold_what_the_paper_has():
    cells = read_grid(RESULTS / "paper.toml")
    four = {(c["system"], c["dim"], c["model"]) for c in cells if c["bodies"] == 4}
    assert {(s, d, m) for s in D.PAPER_SYSTEMS for d in (2, 3) for m in D.PAPER_MODELS} <= four
    assert {(s, d) for s in ("spring", "r2") for d in (2, 3)} <= {(c["system"], c["dim"]) for c in cells if c["bodies"] == 8}
    assert {c["seed"] for c in cells if c["system"] == "r2" and c["dim"] == 2 and c["model"] == "l1" and c["bodies"] == 4} == {0, 1, 2}
    losses = {(c["model"], c["loss"]) for c in read_grid(RESULTS / "laws.toml") if c["system"] == "spring"}
    assert {(m, x) for m in MODELS for x in LOSSES} <= losses


@pytest.fixture
def pages(tmp_path):
    "Copies of the README and of the notebook with the tables."
    for name in ("README.md", "nbs/05_conclusions.ipynb"): shutil.copy(RESULTS.parents[1] / name, tmp_path)
    return tmp_path / "README.md", tmp_path / "05_conclusions.ipynb"


@checkout
def test_readme_and_notebook_show_what_the_csv_files_hold(pages):
    assert write_tables(RESULTS, *pages) == []  # if this fails: symbolic-gn tables


@checkout
def test_another_result_is_another_page(pages, tmp_path):
    shutil.copytree(RESULTS, tmp_path / "results")
    rows = pd.read_csv(tmp_path / "results/paper.csv")
    rows.loc[(rows["system"] == "spring") & (rows["model"] == "newton"), "recovered"] = False
    rows.to_csv(tmp_path / "results/paper.csv", index=False)
    before = [page.read_text() for page in pages]
    assert write_tables(tmp_path / "results", *pages) == list(pages)
    assert all(page.read_text() != old for page, old in zip(pages, before))
    assert write_tables(tmp_path / "results", *pages) == []
    assert write_tables(RESULTS, *pages) == list(pages) and [page.read_text() for page in pages] == before


@checkout
def test_pages_and_folders_that_cannot_be_filled_are_told(pages, tmp_path):
    pages[0].write_text("<!-- table: recoverd -->\n<!-- end -->")
    with pytest.raises(UserError, match="did you mean 'recovered'"): write_tables(RESULTS, *pages)
    with pytest.raises(UserError, match="no CSV files"): write_tables(tmp_path / "empty", *pages)


@checkout
def test_every_table_has_its_cell_and_its_numbers():
    shown = "".join("".join(c["source"]) for c in json.loads((RESULTS.parent / "05_conclusions.ipynb").read_text())["cells"])
    for name, text in D.written(RESULTS).items():
        assert f"Markdown(markdown({name}_table(results)))" in shown and text.count("\n") >= 2 and "nan" not in text


def test_a_row_says_where_the_way_ended():
    base = dict(error=np.nan, model="l1", r2_force_trimmed=0.2, r2_acceleration_trimmed=0.5, faithfulness=np.nan)
    say = lambda **other: D.why(pd.Series({**base, **other}))
    assert "no forces (trimmed R² 0.50)" in say() and "no proposed formula" in say(r2_force_trimmed=0.99)
    assert say(error="UserError: no") == "UserError: no" and "0.3 of the largest force" in say(model="eql", faithfulness=0.3)


def test_a_row_is_flat_and_says_all(kept):
    row = row_of(kept[0].summary)
    assert all(not isinstance(v, (dict, list)) for v in row.values())
    assert row["law"] == "force = 2*r - 1.98" and row["seconds_total"] > 0 and "torch=" in row["versions"] and row["error"] == ""
    assert {"r2_force_trimmed", "neural_mae_other_bodies", "symbolic_mae_other_bodies", "drift_symbolic"} <= set(row)


def test_a_table_shows_models_and_worlds_in_their_order():
    rows = pd.DataFrame([dict(system=s, dim=2, bodies=4, model=m, recovered=m == "newton", proposed=p, error=e) for s, m, p, e in (
        ("charge", "newton", True, np.nan), ("spring", "newton", "True", ""), ("spring", "l1", False, ""), ("charge", "l1", False, "UserError: no"))])
    table = D.spread_out(rows, D.mark)
    assert table.to_dict("split") == dict(index=["spring 2-D", "charge 2-D"], columns=["newton", "l1"], data=[["alone", "no"], ["alone", "failed"]])
    assert D.mark(rows.assign(proposed=False).iloc[1]) == "yes"
    assert D.world(dict(system="r2", dim=3, bodies=8)) == "r2 3-D, 8 bodies"
    assert D.markdown(pd.DataFrame({"a": [1]}, index=["x"]), "k") == "| k | a |\n| --- | --- |\n| x | 1 |"
