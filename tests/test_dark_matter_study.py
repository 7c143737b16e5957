"By one word from halos to the law of the matter around them: the same keys, page and files as every other discovery."
import json
from dataclasses import replace

import numpy as np
import pytest

from symbolic_gn.cli import main
from symbolic_gn.core.contracts import BUDGETS, DATA_KINDS, SOURCES
from symbolic_gn.core.errors import UserError
from symbolic_gn.dark_matter.forms import HaloLaw
from symbolic_gn.dark_matter.groups import make_catalog, shipped
from symbolic_gn.dark_matter.law import form_of
from symbolic_gn.dark_matter.study import DarkMatter, HaloSets, Overdensity, StepTruth, overdensity_error
from symbolic_gn.dark_matter.universe import UniverseRecipe
from symbolic_gn.discover import discover, source_of
from symbolic_gn.laws.formula import parse
from symbolic_gn.report import KEYS, report, row_of
from symbolic_gn.search.front import Front

QUICK = dict(budget="tiny", progress=False, engine="library")


@pytest.fixture(scope="module")
def universes():
    return tuple(make_catalog(UniverseRecipe(seed, 32, 62.5), progress=False) for seed in range(3))


@pytest.fixture(scope="module")
def kept(universes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dark") / "found"
    return discover(DarkMatter(catalogs=universes), out=folder, **QUICK), folder


def test_keys_page_and_row(kept):
    found, folder = kept
    summary = json.loads((folder / "discovery.json").read_text())
    assert set(KEYS) <= set(summary) and summary["system"] == "dark_matter" and summary["dim"] == 3
    assert "mae" in summary["error"]["neural"] and set(summary["error"]["neural"]) == set(summary["error"]["symbolic"])
    assert summary["verdict"]["of"] == "overdensities" and 0 < summary["verdict"]["unexplained"] < 2
    page = report(found.summary)
    assert "of unseen overdensities" in page or "true   overdensity" in page
    assert row_of(found.summary)["true_law"].endswith("within 20 Mpc/h")
    pictures = {p.name for p in (folder / "figures").iterdir()}
    assert {"sparsity.png", "message.png", "predictions.png", "front.png"} <= pictures


def test_the_law_comes_back_from_its_file(kept, universes):
    found, folder = kept
    again = HaloLaw.from_facts(json.loads((folder / "law.json").read_text()))
    assert np.allclose(again.predict(universes[0]), found.law.predict(universes[0]), equal_nan=True)
    error = found.summary["error"]["symbolic"]["mae"]
    assert error == pytest.approx(overdensity_error(found.law.predict, found.test.graphs()), rel=1e-9)


def test_resumed_without_training_again(kept, universes):
    found, folder = kept
    again = discover(DarkMatter(catalogs=universes), out=folder, resume=True, **QUICK)
    assert again.law.values == found.law.values
    with pytest.raises(UserError, match="was made with"):
        discover(DarkMatter(catalogs=universes), out=folder, resume=True, seed=1, **QUICK)


def test_the_seed_says_which_universe_is_judged(universes):
    tiny, source = BUDGETS["tiny"], DarkMatter(catalogs=universes)
    assert [source.load(tiny, seed).unseen is universes[seed % 3] for seed in range(4)] == [True] * 4
    data = source.load(tiny, 1)
    assert data.fitted == (universes[0], universes[2]) and data.bodies == sum(map(len, universes))
    assert DarkMatter().load(BUDGETS["quick"], 2).unseen is shipped(2)


def test_tests_share_all_halos(universes):
    source = DarkMatter(catalogs=universes)
    sets = source.tests(source.load(BUDGETS["tiny"], 0).split()[2], BUDGETS["tiny"], 0)
    counts = {name: int(some.graphs()[0].mask.sum()) for name, some in sets.items()}
    assert counts["mae"] == len(universes[0]) == sum(n for name, n in counts.items() if name != "mae")


def test_a_step_and_a_line_become_the_papers_form():
    data = HaloSets((shipped(0),), shipped(1))
    front = Front.of([(parse("0.7*(0.4 + m_j)/(1 + (r/0.72)**15)"), 1e-4)])
    law, _ = Overdensity(data).choose(front, longest=25.0)
    assert law.provenance["column"] == "m_j" and abs(law.values["r0"] - 20) < 1 and law.provenance["mae"] < 0.09
    assert law.values["C3"] >= 0


def test_another_formula_is_taken_as_it_stands(universes):
    form, step = form_of(parse("m_j*exp(-r/0.3)"), 20.0)
    assert step is None and {"C1", "C2"} < set(form.start)
    law = Overdensity(DarkMatter(catalogs=universes).load(BUDGETS["tiny"], 0)).fit(form)
    assert np.isfinite(law.provenance["mae"])


@pytest.mark.parametrize("given, why", [
    (dict(dim=2), "leave dim and bodies out"), (dict(bodies=4), "leave dim and bodies out"),
])
def test_what_cannot_be_asked(given, why):
    with pytest.raises(UserError, match=why):
        source_of("dark_matter", **given)


def test_other_refusals_are_one_line(universes):
    with pytest.raises(UserError, match="to judge the law by"):
        DarkMatter(catalogs=universes[:1])
    with pytest.raises(UserError, match="nothing to explain"):
        DarkMatter(catalogs=[universes[0], replace(universes[1], overdensity=None)])
    with pytest.raises(UserError, match="noise is for trajectories"):
        source_of("dark_matter", noise=0.01)
    with pytest.raises(UserError, match="model for halos 'newton' is unknown"):
        discover("dark_matter", model="newton", budget="tiny")
    with pytest.raises(UserError, match="setting 'step' is unknown, did you mean 'steps'"):
        discover("dark_matter", budget="tiny", step=3)


def test_names_and_command(capsys):
    assert SOURCES["dark_matter"] is DarkMatter and DATA_KINDS["halos"].config
    assert str(StepTruth()).endswith("within 20 Mpc/h")
    with pytest.raises(SystemExit) as end:
        main(["discover", "dark_matter", "--bodies", "5"])
    said = capsys.readouterr().err
    assert end.value.code == 2 and len(said.strip().splitlines()) == 1 and "its own halos" in said
