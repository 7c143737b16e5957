"The whole way: every model, every loss, every kind of source gives the same keys, and what was found is judged."
import dataclasses
import importlib
import json
import math

import numpy as np
import pytest

from symbolic_gn.core.contracts import BUDGETS, ENGINES, Source
from symbolic_gn.core.errors import UserError
from symbolic_gn.data.trajectories import Trajectories, from_arrays
from symbolic_gn.discover import discover
from symbolic_gn.laws.formula import parse
from symbolic_gn.laws.law import Law
from symbolic_gn.models import MODELS
from symbolic_gn.report import report
from symbolic_gn.search.front import Front
from symbolic_gn.simulate import Given, Simulated, simulate
from symbolic_gn.studies.hidden import Hidden
from symbolic_gn.studies.noise import Noisy
from symbolic_gn.train import fit
from symbolic_gn.training.config import LOSSES, Config, paper_config
from symbolic_gn.training.runs import Run
from symbolic_gn.verdict import judge

D = importlib.import_module("symbolic_gn.discover")  # `symbolic_gn.discover` is the function
V = importlib.import_module("symbolic_gn.verdict")
WORD, NUMBER, NOTHING = str, (int, float), type(None)
SUMMARY = {
    "system": WORD, "dim": int, "bodies": int, "model": WORD, "loss": WORD, "engine": WORD, "seed": int, "budget": WORD,
    "operators": (list, NOTHING), "units": (dict, NOTHING), "scales": (dict, NOTHING), "noise": NUMBER,
    "hidden": (WORD, NOTHING), "steps": int,
    "finished": bool, "law": dict, "true_law": (WORD, NOTHING), "true_target": (WORD, NOTHING),
    "recovered": (bool, NOTHING), "recovered_by": (WORD, NOTHING), "freedom": (WORD, NOTHING), "verdict": dict,
    "from_messages": dict, "r2": dict,
    "alignment": dict, "circles": list,
    "component_wise": bool, "faithfulness": (float, NOTHING), "error": dict, "energy_drift": dict,
    "energies": (dict, NOTHING), "measured": (dict, NOTHING), "properties": (dict, NOTHING), "seconds": dict,
    "versions": dict, "device": WORD, "engine_settings": dict,
}


def strict(text):
    "JSON as the standard has it: no NaN, no Infinity."
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def assert_complete(s):
    "A summary has every key that others rely on, and no other."
    assert set(s) == set(SUMMARY)
    for key, kind in SUMMARY.items():
        assert isinstance(s[key], kind), key
    assert {"sympy", "latex", "text", "target", "constants"} <= set(s["law"])
    for value, error, unit in s["law"]["constants"].values():
        assert math.isfinite(value) and (error is None or error >= 0) and isinstance(unit, str | None)
    assert set(s["r2"]) == {"force", "acceleration"}
    assert all(set(part) == {"raw", "trimmed"} for part in s["r2"].values())
    assert set(s["alignment"]) == {"confidence"} and set(s["from_messages"]) == {"text", "recovered"}
    assert set(s["error"]) == set(s["energy_drift"]) == {"neural", "symbolic"}
    assert list(s["error"]["neural"]) == list(s["error"]["symbolic"]) and "mae" in s["error"]["neural"]
    assert set(s["seconds"]) == {"load", "train", "analyze", "distill", "check", "total"}
    assert {"torch", "jax"} <= set(s["versions"])
    assert_judged(s)
    assert strict(json.dumps(s)) == s


def assert_judged(s):
    "With a truth the law is the true one or not; without one there is only the verdict."
    assert {"grade", "unexplained", "floor", "baseline", "neural"} <= set(s["verdict"])
    assert s["verdict"]["grade"] in ("found", "partly", "not found")
    assert (s["recovered"] is None) == (s["true_law"] is None)
    assert s["recovered_by"] in ("symbolic", "numeric", None)
    assert bool(s["recovered"]) == (s["recovered_by"] is not None)


def tiny(source, **options): return discover(source, **{"budget": "tiny", "progress": False, **options})
def without_time(summary): return {k: v for k, v in summary.items() if k != "seconds"}


@pytest.fixture
def knowing(monkeypatch):
    "An engine that proposes the formulas it is told, whatever the messages say."
    def know(*formulas):
        def engine(X, y, names, **_):
            return Front.of([(parse(text, ["r", "m_i", "m_j", "q_i", "q_j"]), 0.1) for text in formulas])

        monkeypatch.setitem(ENGINES, "knowing", engine)
        return "knowing"

    return know


@pytest.fixture(scope="module")
def kept(springs, tmp_path_factory):
    "A discovery and its folder."
    folder = tmp_path_factory.mktemp("kept") / "spring"
    return tiny(springs, out=folder), folder


# every model, every loss, other worlds


@pytest.mark.parametrize("model", MODELS)
def test_every_model_goes_the_whole_way(model, springs, brief):
    found = tiny(springs, model=model, engine=brief)
    assert_complete(found.summary)
    assert found.summary["model"] == model and found.summary["steps"] == round(20 * MODELS[model].effort)
    assert repr(found).startswith("found  ") and "true   force = 2*r - 1.98" in repr(found)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_goes_the_whole_way(loss, springs, brief):
    found = tiny(springs, model="bottleneck", loss=loss, engine=brief)
    assert_complete(found.summary)
    assert found.summary["loss"] == loss


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
    apart = np.abs(np.subtract.outer(*2 * [np.arange(bodies)]))
    near = apart == 1 if topology == "chain" else np.ones((bodies, bodies), bool)
    c, s = np.cos(turn), np.sin(turn)
    a = ((2 * r - 1) * d / r * near[..., None]).sum(3) @ np.array([[c, s], [-s, c]])
    return from_arrays(x, v, a, dt=0.1, topology=topology)


def test_eight_bodies(brief):
    s = tiny(own(8), engine=brief).summary
    assert_complete(s)
    assert s["bodies"] == 8 and s["error"]["symbolic"]["mae"] < 1e-3 and not s["component_wise"]


def test_a_chain(brief):
    found = tiny(own(4, topology="chain"), engine=brief)
    assert_complete(found.summary)
    assert len(found.messages) % 6 == 0 and found.summary["error"]["symbolic"]["mae"] < 1e-3


def test_forces_that_are_not_central_are_searched_component_by_component(brief):
    found = tiny(own(2, turn=1.0), model="bottleneck", engine=brief, steps=300, lr=1e-2)
    assert_complete(found.summary)
    assert found.summary["component_wise"] and "each component was searched" in report(found.summary)


def test_drag_is_no_pair_force_but_goes_the_whole_way(brief):
    s = tiny(simulate("damped", simulations=12, bodies=2, frames=10, every=5), engine=brief).summary
    assert_complete(s)
    assert s["true_law"].startswith("2*r - 1.98")


def test_a_hamiltonian_network_says_its_energy(springs, brief):
    s = tiny(springs, model="flat_hgn", engine=brief).summary
    assert {"potential", "true_potential", "potential_recovered", "gauge"} <= set(s["energies"])
    assert f"`{s['energies']['true_potential']}`" in report(s)


def test_a_network_that_is_a_formula_needs_no_engine(springs):
    def unwanted(*table, **settings):
        raise AssertionError("nothing needs to be searched")

    s = tiny(springs, model="eql", engine=unwanted).summary
    assert_complete(s)
    assert s["engine"] == MODELS["eql"].formula and s["faithfulness"] is not None


# every kind of source gives the same keys


def test_noise_goes_the_whole_way(knowing, tmp_path):
    found = tiny(Noisy("spring", 0.01), engine=knowing("2*r - 1.98"), out=tmp_path)
    s = found.summary
    assert_complete(s)
    assert s["noise"] == 0.01 and "noise 1 % on the positions" in report(s) and s["system"] == "spring"
    assert s["error"]["symbolic"]["mae"] < 0.1  # against the true accelerations
    assert s["verdict"]["floor"] >= 0 and Trajectories.load(tmp_path / "data.nc").frames == 500


def charged(simulations=12, frames=20):
    "The same five charged bodies in every simulation, at random places: nothing is integrated."
    rng, charge = np.random.default_rng(0), np.array([1.0, -0.7, 1.6, -1.2, 0.5])
    x = rng.normal(size=(simulations, frames, 5, 2))
    a = Law.of("-q_i*q_j/(r + 0.1)**2").accelerations(x, charge=np.broadcast_to(charge, (simulations, 1, 5)))
    return from_arrays(x, np.zeros_like(x), a, charge=charge, dt=0.1)


def test_hidden_charges_go_the_whole_way(knowing, tmp_path):
    engine = knowing("-q_i*q_j/(r + 0.1)**2")
    found = tiny(Hidden(charged(), "charge"), engine=engine, steps=150, out=tmp_path)
    s = found.summary
    assert_complete(s)
    assert (s["hidden"], s["model"], s["recovered"], s["engine"]) == ("charge", "lookup", None, "knowing")
    assert list(found.values["value"]) == s["properties"]["charge"]["value"] and (tmp_path / "charge.csv").exists()
    assert "| charge of |" in report(s) and "charge hidden" in (tmp_path / "report.md").read_text()
    assert s["verdict"]["grade"] == "found" and s["error"]["symbolic"]["mae"] < s["error"]["neural"]["mae"]
    assert set(found.test.charge[0]) == set(range(5)), "the network sees numbers of bodies"
    np.testing.assert_allclose(found.dressed.charge[0], found.values["value"])  # the law sees their charges


def test_planets_go_the_whole_way(brief, tmp_path):
    pytest.importorskip("de421", reason="the extra [planets] is not installed")
    pytest.importorskip("jplephem", reason="the extra [planets] is not installed")
    found = tiny("planets", out=tmp_path, engine=brief)
    s = found.summary
    assert_complete(s)
    assert s["system"] == "planets" and s["dim"] == 3 and s["model"] == "orrery" and s["true_law"] is not None
    assert list(found.masses.index) == s["properties"]["mass"]["body"] and "sun" in found.masses.index
    assert "exponent" in s["measured"] and (tmp_path / "mass.csv").exists()


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
    assert {"mae_other_bodies", "mae_2", "mae_16", "mae_far", "mae_fast"} <= set(s["error"]["symbolic"])
    assert data.data.attrs["seed"] == 2 and Run.load(folder / "run").config.seed == 2


def test_a_users_own_arrays_have_no_truth(measured, brief, tmp_path):
    measured.save(tmp_path / "mine.nc")
    found = tiny(tmp_path / "mine.nc", engine=brief, out=tmp_path / "out")
    s = found.summary
    assert_complete(s)
    assert (s["system"], s["true_law"], s["recovered"], s["recovered_by"]) == ("lab", None, None, None)
    assert list(s["error"]["neural"]) == ["mae"] and s["energy_drift"] == {"neural": None, "symbolic": None}
    assert "no true law is known" in repr(found) and s["verdict"]["grade"] in repr(found)
    assert "no true law is known" in (tmp_path / "out" / "report.md").read_text()
    assert strict((tmp_path / "out" / "discovery.json").read_text())["r2"]["force"]["raw"] is None
    assert not (tmp_path / "out" / "data.nc").exists() and (tmp_path / "out" / "figures" / "rollout.png").exists()
    again = D.source_of(str(tmp_path / "mine.nc")).load(BUDGETS["tiny"], 0)  # a path as text is the same
    assert np.array_equal(again.position, measured.position)


def test_a_source_of_ones_own_needs_a_name_and_data(springs, brief):
    class Mine(Source):
        name, default_model = "mine", "bottleneck"

        def load(self, budget, seed, *, folder=None, resume=False):
            return springs

    s = tiny(Mine(), engine=brief).summary
    assert_complete(s)
    assert (s["system"], s["model"], s["true_law"], list(s["error"]["neural"])) == ("mine", "bottleneck", None, ["mae"])


def test_sources_are_found_by_what_they_are(springs, tmp_path):
    springs.save(tmp_path / "springs.nc")
    assert isinstance(D.source_of("r1", dim=3, bodies=2), Simulated) and D.source_of("r1", bodies=2).bodies == 2
    assert isinstance(D.source_of(springs), Given) and isinstance(D.source_of(tmp_path / "springs.nc"), Given)
    wrapped = D.source_of("spring", noise=0.02, hidden=None)
    assert isinstance(wrapped, Noisy) and wrapped.noise == 0.02 and D.source_of(wrapped) is wrapped
    both = D.source_of("spring", noise=0.02, hidden="mass")
    assert (both.noise, both.hidden) == (0.02, "mass")


def test_what_the_user_asks_of_the_search_reaches_the_engine(springs):
    asked = {}

    def engine(X, y, names, **settings):
        asked.update(settings)
        return Front.of([(parse("r", ["r"]), 0.1)])

    s = tiny(springs, engine=engine, operators=["+", "exp"], seed=7).summary
    assert s["operators"] == ["+", "exp"] and s["engine"] == "engine"
    assert asked["operators"] == ("+", "exp") and asked["seed"] == 7


# resuming and interrupting


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
    with pytest.raises(UserError):
        tiny(**{"source": "spring", "bodies": 2, "seed": 2, "out": asked[1], "resume": True, **change})
    assert (asked[1] / "discovery.json").read_bytes() == before


CHANGES = [dict(model="l1"), dict(seed=4), dict(loss="mse"), dict(lr=1e-2)]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_resume_with_other_settings_is_refused(change, kept, springs):
    with pytest.raises(UserError, match=next(iter(change))):
        tiny(springs, out=kept[1], resume=True, **change)


def test_an_interrupted_training_says_what_was_kept(springs, tmp_path, monkeypatch):
    def stopped(*args, **options):
        return dataclasses.replace(fit(*args, **options), finished=False)

    monkeypatch.setattr(V, "fit", stopped)
    with pytest.raises(KeyboardInterrupt, match=r"step \d+; what was reached is in .*out.*--resume"):
        tiny(springs, out=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt) as caught:
        tiny(springs)
    assert "resume" not in str(caught.value)
    monkeypatch.undo()
    assert Run.load(tmp_path / "out" / "run").finished


def test_stages_are_told(springs, brief):
    said = []
    found = tiny(springs, engine=brief, say=said.append)
    assert [line.split()[0].rstrip(":") for line in said][::2] == ["load", "train", "analyze", "distill", "check"]
    assert found.summary["seconds"]["total"] == pytest.approx(sum(list(found.summary["seconds"].values())[:-1]))


# mistakes

MISTAKES = [
    (dict(source="sprng"), ["system 'sprng'", "spring"]),
    (dict(model="netwon"), ["'netwon'", "newton"]),
    (dict(loss="rad"), ["'rad'", "mae"]),
    (dict(engine="operan"), ["'operan'", "operon"]),
    (dict(budget="tinny"), ["'tinny'", "tiny"]),
    (dict(step=3), ["'step'", "steps"]),
    (dict(lr=-1.0), ["lr is -1.0"]),
    (dict(dim=4), ["dim is 4"]),
    (dict(bodies=1), ["bodies is 1"]),
    (dict(seed=-1), ["seed"]),
    (dict(source="nowhere.nc"), ["nowhere.nc does not exist"]),
]


@pytest.mark.parametrize("options, words", MISTAKES, ids=lambda v: " ".join(map(str, v)))
def test_mistakes_are_named_and_nothing_is_written(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        tiny(**{"source": "spring", "out": tmp_path / "out", **options})
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)
    assert not [p for p in (tmp_path / "out").rglob("*")]


@pytest.mark.parametrize("noise", [2.0, -0.1, "much", True])
def test_noise_that_cannot_be_is_told(noise):
    with pytest.raises(UserError, match=f"noise is {noise!r}"):
        D.source_of("spring", noise=noise)


def test_data_of_ones_own_are_noisy_already(springs):
    with pytest.raises(UserError, match="noise is for simulated systems"):
        tiny(Noisy(springs, 0.01))


def test_a_folder_that_cannot_be_written_stops_before_the_work(springs, tmp_path):
    (tmp_path / "file").write_text("")
    said = []
    with pytest.raises(UserError, match="cannot be written"):
        tiny(springs, out=tmp_path / "file" / "out", say=said.append)
    assert said == []


def test_without_julia_pysr_stops_before_the_work(springs, tmp_path, monkeypatch):
    monkeypatch.setattr("symbolic_gn.search.pysr.find_julia", lambda: None)
    said = []
    with pytest.raises(UserError, match="needs Julia"):
        tiny(springs, engine="pysr", out=tmp_path / "out", say=said.append)
    assert said == [] and not (tmp_path / "out").exists()


# judging

LAWS = [
    ("2*r - 1.98", True), ("2.001*r - 1.979", True), ("2*r - 1.9", False), ("2*r", False), ("r - 0.99", False),
    ("m_i*(2*r - 1.98)", False),
]


def truth_of(data): return Given(data).truth(data)


@pytest.mark.parametrize("formula, right", LAWS)
def test_only_the_true_law_is_recovered(formula, right, springs):
    answer = judge(Law.of(formula), truth_of(springs), springs)
    assert answer["recovered"] is right and answer["true_law"] == "2*r - 1.98"


def test_an_acceleration_law_is_judged_as_a_force(springs):
    truth = truth_of(springs)
    assert judge(Law.of("(2*r - 1.98)/m_i", target="acceleration"), truth, springs)["recovered"]
    assert not judge(Law.of("2*r - 1.98", target="acceleration"), truth, springs)["recovered"]


def test_a_law_that_its_network_does_not_say_counts_for_nothing(springs):
    law = Law.of("2*r - 1.98", provenance=dict(unfaithful=True))
    assert not judge(law, truth_of(springs), springs)["recovered"]


def test_laws_of_the_hard_worlds_are_judged_whole():
    damped, plain = (simulate(name, simulations=5, frames=5) for name in ("damped", "spring"))
    law = Law.of("2*r - 1.98", drag=0.75)
    answer = judge(law, truth_of(damped), damped)
    assert answer["recovered"] and answer["true_law"] == "2*r - 1.98, drag 0.75"
    for other in (Law.of("2*r - 1.98"), Law.of("2*r - 1.98", drag=0.8), Law.of("2*r - 2.2", drag=0.75)):
        assert not judge(other, truth_of(damped), damped)["recovered"]
    assert not judge(law, truth_of(plain), plain)["recovered"]  # a drag where there is none
    jump = simulate("discontinuous", simulations=20, frames=10)
    right, wrong = (Law.of(f"Piecewise((0, r < {c}), (2*r - 1.98, True))") for c in (1.99, 2.2))
    assert judge(right, truth_of(jump), jump)["recovered"] and not judge(wrong, truth_of(jump), jump)["recovered"]


def test_an_unknown_truth_is_not_judged(springs):
    assert set(judge(Law.of("r"), None, springs).values()) == {None}
    assert judge(Law.of("r"), None, springs).keys() == judge(Law.of("r"), Law.of("r"), springs).keys()


def test_the_verdict_follows_the_share_that_is_left(springs):
    right = Law.of("2*r - 1.98")
    grade = lambda text, floor=0.0: V.grade(Law.of(text), right, springs, floor)
    assert [grade(text)["grade"] for text in ("2*r - 1.98", "1.8*r - 1.8", "5*m_i")] == ["found", "partly", "not found"]
    rough = V.grade(Law.of("1.8*r - 1.8"), Law.of("1.7*r - 1.7"), springs, 0.2)
    assert rough["grade"] == "found"  # noise alone would leave as much
    assert grade("1.8*r - 1.8", floor=0.2)["grade"] == "partly"  # it does not: the network leaves less
    assert grade("5*m_i", floor=1.0)["grade"] == "not found"  # however rough the data are
    assert grade("2*r - 1.98")["neural"] == grade("2*r - 1.98")["unexplained"] < 1e-4


def test_errors_of_the_true_law_vanish(springs, kept):
    sets = dict(here=springs, there=springs.select(simulations=slice(3)))
    found = V.errors(kept[0].run.model, Law.of("2*r - 1.98"), sets)
    assert found["symbolic"]["here"] < 1e-4 and found["symbolic"]["there"] < 1e-4 < found["neural"]["here"]


def test_network_and_law_may_see_the_same_bodies_with_other_properties(springs):
    heavier = Trajectories(springs.data.assign(mass=2 * springs.data["mass"]))
    light, heavy = Law.of("2*r - 1.98"), Law.of("4*r - 3.96")
    assert max(part["mae"] for part in V.errors(light, heavy, dict(mae=springs), dict(mae=heavier)).values()) < 1e-4
    final = V.side_by_side(light, heavy, springs, heavier, simulations=3, frames=10).final
    assert list(final.index) == ["truth", "network", "law"] and final.loc["law", "error"] < 1e-3
    assert V.grade(heavy, light, springs, dressed=heavier)["grade"] == "found"


def test_a_constant_without_error_is_told_as_null():
    s = V.law_summary(Law.of("2*r - 1.98"))
    assert s["sympy"] == "2*r - 1.98" and all(error is None for _, error, _ in s["constants"].values())
    strict(json.dumps(s))


def test_the_spring_is_recovered_by_the_search(kept):
    found, _ = kept
    assert found.recovered and found.summary["recovered_by"] == "symbolic" and found.law is found.distillation.law
    assert found.summary["law"]["text"] == "2*r - 1.98" and found._repr_markdown_() == report(found.summary)
    assert found.summary["error"]["symbolic"]["mae"] < 1e-4 < found.summary["error"]["neural"]["mae"]
    assert found.summary["energy_drift"]["symbolic"] < 1e-3
    assert found.verdict["grade"] == "found" and found.values is None and found.masses is None


# budgets


def test_budgets_give_their_settings():
    paper = V.training_config("l1", BUDGETS["paper"], "mse", 3, dict(steps=10), bodies=8)
    assert paper == dataclasses.replace(paper_config("l1", 8), loss="mse", seed=3, steps=10)
    steps = round(20 * MODELS["l1"].effort)
    assert V.training_config("l1", BUDGETS["tiny"], None, 0, {}) == Config("l1", steps=steps, batch=32)
    assert BUDGETS["paper"].simulations == 10_000


def test_a_models_own_settings_come_between_the_budgets_and_the_users():
    tiny, own = BUDGETS["tiny"], MODELS["orrery"].settings
    assert V.training_config("orrery", tiny, None, 0, {}).loss == own["loss"]
    assert V.training_config("orrery", tiny, "mae", 0, dict(batch=8)).batch == 8


@pytest.mark.parametrize("name", ["seed", "loss", "model", "lrr"])
def test_settings_are_those_of_training_alone(name):
    with pytest.raises(UserError, match=f"setting {name!r} is unknown"):
        V.training_config("l1", BUDGETS["tiny"], None, 0, {name: 1})
