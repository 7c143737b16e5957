"Folders of results: one writer, nothing lost or mixed, and a flipped bit in any file is noticed or without effect."
import contextlib
import importlib
import json
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from refusing import refused

from symbolic_gn.core.errors import UserError, check_target, sweep_up, write_atomic
from symbolic_gn.core.folders import (
    MARK,
    digest_of,
    locked,
    opened,
    sealed_json,
    sealed_lines,
    state_of_folder,
)
from symbolic_gn.data.files import read_dataset, write_dataset
from symbolic_gn.data.trajectories import Trajectories
from symbolic_gn.discover import discover
from symbolic_gn.simulate import Simulated, simulate
from symbolic_gn.sweep import read_ledger, writing
from symbolic_gn.train import fit
from symbolic_gn.training.checkpoints import checked_parts
from symbolic_gn.training.runs import Run, read_config, read_history

SMALL = dict(hidden=8, layers=1)
QUICK = dict(steps=8, batch=16, architecture=SMALL, device="cpu", precision="32-true", progress=False)
BRIEF = dict(budget="tiny", engine="library", engine_settings=dict(time_limit=1), **QUICK)
ROOT = not hasattr(os, "geteuid") or os.geteuid() == 0
needs_user = pytest.mark.skipif(ROOT, reason="root may read everything")


@pytest.fixture(scope="module")
def finished(springs, tmp_path_factory):
    "The folder of a finished run, to be copied."
    folder = tmp_path_factory.mktemp("runs") / "run"
    fit(springs, "newton", out=folder, looks=4, **QUICK)
    return folder


def stopped(source, **options) -> None:
    "A discovery that is stopped when its network is trained."
    def say(line):
        if line == "analyze ...":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        discover(source, say=say, **{**BRIEF, **options})


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    "The folder of a discovery, to be copied."
    folder = tmp_path_factory.mktemp("found") / "out"
    stopped("spring", out=folder)
    for name in ("law.json", "discovery.json", "search.csv", "figures/front.png"):
        write_atomic(folder / name, "old")
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def content_of(folder) -> dict[str, bytes]:
    "All files below a folder."
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def resume(springs, folder, **other): return fit(springs, "newton", out=folder, resume=True, **{**QUICK, **other})


# files


def test_a_link_stays_a_link_and_a_file_keeps_its_mode(tmp_path):
    real, link, chain = (tmp_path / name for name in ("deep/real.txt", "link.txt", "chain.txt"))
    write_atomic(real, "old")
    real.chmod(0o640)
    link.symlink_to(Path("deep") / "real.txt")
    chain.symlink_to("link.txt")
    write_atomic(chain, "new")
    assert real.read_text() == "new" and link.is_symlink() and chain.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640 and os.listdir(real.parent) == ["real.txt"]
    (tmp_path / "dangling").symlink_to("deep/made.txt")
    assert write_atomic(tmp_path / "dangling", "x") and (real.parent / "made.txt").read_text() == "x"


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for place, said in {tmp_path / "pipe": "pipe", tmp_path: "folder", tmp_path / "loop": "link to itself"}.items():
        assert said in refused(write_atomic, place, "")
        assert said in refused(check_target, place)
    assert "device" in refused(write_atomic, "/dev/null", "") and stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_leftovers_of_the_dead_are_swept_up(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = {f".a.nc.{dead.pid}.part": False, f".a.nc.{os.getpid()}.part": True, ".mine.part": True, "a.9.part": True}
    for name in names:
        (tmp_path / name).touch()
    sweep_up(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names


# digests


def test_a_digest_tells_values_types_names_and_shapes_apart():
    different = [0, 0.0, -0.0, False, None, "0", [0], [[0]], {}, [], {"a": 0}, {"b": 0}, np.zeros(1), np.zeros((1, 1)),
                 np.zeros(1, "f4"), np.zeros(1, "i8"), np.array(["0"]), ["a", "b"], ["ab"], [["a"], "b"], float("inf")]
    assert len({digest_of(value) for value in different}) >= len(different) - 1  # words in arrays are words
    same = dict(a=torch.arange(3), b=(1, "x")), dict(b=[1, "x"], a=np.arange(3, dtype=">i8"))
    assert digest_of(same[0]) == digest_of(same[1])
    turned = np.arange(6.0).reshape(2, 3).T
    assert digest_of(turned) == digest_of(np.ascontiguousarray(turned)) != digest_of(turned.T)
    assert digest_of(float("nan")) == digest_of(float("nan")) and digest_of("\udcff")


def flips(content: bytes, places: int = 40, seed: int = 0):
    "The same content with one bit flipped, at places spread over all of it."
    rng = np.random.default_rng(seed)
    for place in np.linspace(0, len(content) - 1, places).astype(int):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        yield bytes(changed)


def weights_of(folder): return {name: w.numpy().tobytes() for name, w in Run.load(folder).model.state_dict().items()}
def rows_of(folder): return read_history(folder / "history.csv").to_dict("list")


def told_by(folder):
    "What a run's configuration says, by the names that are known."
    run = Run.load(folder)
    return run.config, run.data, run.finished, run.source


READ = {"checkpoint.pt": lambda folder: digest_of(checked_parts(folder / "checkpoint.pt")), "history.csv": rows_of,
        "model.safetensors": weights_of, "config.json": told_by}


@pytest.mark.parametrize("name", READ)
def test_a_flipped_bit_in_a_run_is_noticed_or_without_effect(name, folder):
    whole, content, noticed = READ[name](folder), (folder / name).read_bytes(), 0
    for changed in flips(content):
        (folder / name).write_bytes(changed)
        try:
            assert READ[name](folder) == whole
        except UserError as error:
            assert name in str(error) and "\n" not in str(error)
            noticed += 1
    assert noticed >= 20


def test_a_flipped_bit_in_a_data_set_is_noticed_or_without_effect(tmp_path):
    path, noticed = tmp_path / "data.nc", 0
    simulate("spring", simulations=3, frames=4).save(path)
    whole, content = read_dataset(path), path.read_bytes()
    arrays = lambda data: {name: array.values.tobytes() for name, array in data.variables.items()}
    for changed in flips(content):
        path.write_bytes(changed)
        try:
            again = read_dataset(path)
        except UserError:
            noticed += 1
            continue
        assert arrays(again) == arrays(whole) and all(again.attrs[name] == v for name, v in whole.attrs.items())
    assert noticed >= 10


def test_a_flipped_bit_in_the_ledger_is_noticed_or_without_effect(tmp_path):
    path, lost = tmp_path / "results.jsonl", 0
    with writing(path) as write:
        for key in "abcd":
            write(dict(key=key, cell=dict(system="spring", seed=1), row=dict(mae=0.25, law="2*r"), error=""))
    whole, content = read_ledger(path), path.read_bytes()
    assert set(whole) == set("abcd") and MARK not in whole["a"]
    for changed in flips(content):
        path.write_bytes(changed)
        with warnings.catch_warnings(action="ignore"):
            known = read_ledger(path)
        lost += len(known) < 4
        assert all(record.items() >= whole[key].items() for key, record in known.items())
    assert lost >= 30


def test_files_without_a_digest_are_read(springs, folder, tmp_path):
    run, name = Run.load(folder), "config.json"
    plain = json.loads((folder / name).read_text())
    del plain[MARK], plain["data"]["digest"]
    (folder / name).write_text(json.dumps(plain))
    run.history.to_csv(folder / "history.csv", index=False)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    del state[MARK], state["data"]["digest"]
    torch.save(state, folder / "checkpoint.pt")
    assert Run.load(folder).history.equals(run.history)
    assert resume(springs, folder).finished
    springs.data.drop_encoding().to_netcdf(tmp_path / "plain.nc", engine="h5netcdf")
    assert Trajectories.load(tmp_path / "plain.nc").data.identical(springs.data)
    (tmp_path / "results.jsonl").write_text('{"key": "a", "row": {}}\n')
    assert list(read_ledger(tmp_path / "results.jsonl")) == ["a"]


def test_data_sets_come_back_as_they_were(tmp_path):
    time = xr.Dataset({"t": ("x", np.array([0, 10**9], "M8[ns]")), "u": ("x", [1.0, np.nan], {"units": "seconds"})})
    words = dict(w=("x", ["a", "bcd"]), b=("x", [True, False]), n=((), 3))
    words = xr.Dataset(words, attrs=dict(l=[1], s="", v=2.5))
    for k, data in enumerate((time, words, xr.Dataset())):
        write_dataset(data, tmp_path / f"{k}.nc")
        back = read_dataset(tmp_path / f"{k}.nc")
        assert MARK not in back.attrs and set(back.variables) == set(data.variables)
        assert all(np.array_equal(back[name].values, data[name].values) for name in ("w", "b", "n") if name in data)


def test_a_table_may_hold_anything():
    for table in ("step\n", "step,a\n1,\n2,x y\n"):
        assert sealed_lines(table).count(MARK) == 1
    assert json.loads(sealed_json(dict(a=[1, float("nan")])))[MARK]


# typed contents


CONFIGS = [("dim", 10**9), ("dim", -1), ("dim", "2"), ("dim", True), ("others", 3), ("fields", []), ("hidden", 5),
           ("bodies", "x"), ("numbers", 10**30)]


@pytest.mark.parametrize("name, value", CONFIGS)
def test_data_that_cannot_be_are_refused(name, value, folder):
    stored = read_config(folder)
    (folder / "config.json").write_text(json.dumps(stored | dict(data=stored["data"] | {name: value})))
    if name != "numbers":
        assert "config.json" in refused(Run.load, folder)
    else:
        with contextlib.suppress(UserError):
            Run.load(folder)


@pytest.mark.parametrize("name, value", [("finished", "no"), ("source", 5), ("versions", 1), ("more", 1)])
def test_fields_that_cannot_be_are_refused(name, value, folder):
    (folder / "config.json").write_text(json.dumps(read_config(folder) | {name: value}))
    assert name in refused(Run.load, folder)


@pytest.mark.parametrize("name, value", [("hidden", 10**6), ("layers", 10**5), ("hidden", "8"), ("messages", -3)])
def test_a_network_that_cannot_be_is_refused_at_once(name, value, folder):
    stored = read_config(folder)
    stored["config"]["architecture"][name] = value
    (folder / "config.json").write_text(json.dumps(stored))
    assert "config.json" in refused(Run.load, folder)


def test_json_without_end_is_refused(folder):
    (folder / "config.json").write_text('{"config": ' + "[" * 10**5)
    assert "is damaged" in refused(Run.load, folder)


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "step,mae\none,2\n", "step,mae\n1,two\n", "words", "step\n1,2,3\n4\n"])
def test_a_history_that_is_none_is_refused(text, folder):
    (folder / "history.csv").write_text(text)
    with contextlib.suppress(UserError):
        assert all(kind.kind in "iuf" for kind in Run.load(folder).history.dtypes)
    if "step" not in text or "o" in text.partition("\n")[2]:
        assert "history.csv" in refused(Run.load, folder)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bool, torch.int64])
def test_weights_of_another_type_are_refused(kind, folder):
    from safetensors.torch import load, save
    weights = load((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").write_bytes(save({name: w.to(kind) for name, w in weights.items()}))
    assert "another configuration" in refused(Run.load, folder)


STATES = {
    "model": [[], {}, {"x": torch.zeros(1)}], "optimizer": [{}, [], {"state": {}, "param_groups": []}, None],
    "schedule": ["text", {}, None, {"last_epoch": "x"}],
    "rng": [torch.zeros(3, dtype=torch.uint8), torch.zeros(5056), None],
    "step": [-5, "x", float("nan"), 100, True, None],
    "history": [None, [1], [{}], [{"step": "a", "seconds": 1}], {}],
    "seconds": ["x", float("nan"), -1.0, None], "config": [[], None, {}], "data": ["x", None, {}],
}


@pytest.mark.parametrize("part", STATES)
def test_a_checkpoint_that_cannot_be_is_refused(part, springs, folder):
    whole = torch.load(folder / "checkpoint.pt", weights_only=True)
    del whole[MARK]
    before = content_of(folder)
    for value in STATES[part]:
        torch.save({**whole, part: value}, folder / "checkpoint.pt")
        assert "checkpoint.pt" in refused(resume, springs, folder)
        after = content_of(folder)
        assert {name for name in before if before[name] != after.get(name)} == {"checkpoint.pt"}


def test_parts_of_an_optimiser_that_cannot_be_are_refused(springs, folder):
    whole = torch.load(folder / "checkpoint.pt", weights_only=True)
    del whole[MARK]
    changes = [
        lambda s: s["optimizer"]["param_groups"][0].update(lr=1e9),
        lambda s: s["optimizer"]["param_groups"][0].update(lr=float("nan")),
        lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.zeros(1)),
        lambda s: s["optimizer"]["state"].update({99: {}}),
        lambda s: s["schedule"].update(last_epoch="x"),
        lambda s: s["schedule"].update(last_epoch=3),
        lambda s: s["model"].update({next(iter(s["model"])): torch.zeros(1)}),
    ]
    for change in changes:
        torch.save(whole, folder / "checkpoint.pt")
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        change(state)
        torch.save(state, folder / "checkpoint.pt")
        assert "checkpoint.pt" in refused(resume, springs, folder)


# unreadable is not damaged


@pytest.mark.parametrize("name", ["checkpoint.pt", "model.safetensors", "config.json", "history.csv"])
def test_what_cannot_be_read_is_not_called_damaged(name, springs, folder):
    (folder / name).unlink()
    (folder / name).mkdir()
    said = refused(resume, springs, folder) if name == "checkpoint.pt" else refused(Run.load, folder)
    assert name in said and "damaged" not in said and "train again" not in said


@needs_user
def test_what_may_not_be_read_is_not_called_damaged(springs, folder):
    (folder / "checkpoint.pt").chmod(0)
    said = refused(resume, springs, folder)
    assert "cannot be read (Permission denied)" in said and "damaged" not in said


def test_no_message_advises_what_deletes_a_run():
    package = Path(sys.modules["symbolic_gn"].__file__).parent
    texts = {p.name: p.read_text() for p in package.rglob("*.py")}
    assert not [name for name, text in texts.items() if "train again" in text or "without --resume" in text]


# one writer


def test_two_programs_do_not_share_a_folder(springs, tmp_path):
    def second(step, model):
        asked.append(refused(fit, springs, "newton", out=tmp_path / "run", resume=True, **QUICK))
        return {}

    asked = []
    fit(springs, "newton", out=tmp_path / "run", watch=second, looks=1, **QUICK)
    assert asked == [f"{tmp_path / 'run'} is being written by another process; wait for it, or choose another folder"]
    assert ".lock" not in os.listdir(tmp_path / "run")


def test_another_process_keeps_us_out_until_it_dies(tmp_path):
    script = """
        import sys, time
        from symbolic_gn.core.folders import locked
        from pathlib import Path
        with locked(Path(sys.argv[1])):
            print("here", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "here\n"
        assert "is being written by another process" in refused(opened(tmp_path / "out").__enter__)
        other.kill()
        other.wait()
    with opened(tmp_path / "out") as results:
        assert results.fresh


def test_a_folder_that_was_not_needed_is_gone(tmp_path):
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()


# states


def test_a_used_folder_is_refused_before_any_work(springs, folder, monkeypatch):
    before = content_of(folder)
    monkeypatch.setattr(importlib.import_module("symbolic_gn.train"), "prepare", None)  # whoever works, fails
    said = refused(fit, springs, "newton", out=folder, **QUICK, seed=1)
    assert said.endswith("holds results; go on with --resume, replace with --overwrite, or choose another folder")
    assert "give one of them" in refused(fit, springs, "newton", out=folder, resume=True, overwrite=True, **QUICK)
    assert content_of(folder) == before


def test_a_strangers_folder_is_not_mixed_with(springs, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert state_of_folder(tmp_path) == "used"
    assert "files that are no results" in refused(fit, springs, "newton", out=tmp_path, **QUICK)
    assert "nothing to go on with" in refused(resume, springs, tmp_path)
    fit(springs, "newton", out=tmp_path, overwrite=True, **QUICK)
    assert (tmp_path / "notes.txt").read_text() == "mine" and Run.load(tmp_path).finished


@pytest.mark.parametrize("fault", [dict(batch=10**9), dict(lr=-1.0), dict(device="cuda:7")], ids=str)
def test_an_old_run_survives_settings_that_cannot_work(fault, springs, folder):
    before = content_of(folder)
    refused(fit, springs, "newton", out=folder, overwrite=True, **{**QUICK, **fault})
    assert content_of(folder) == before


def test_an_old_run_survives_data_that_cannot_be_read(run, folder, tmp_path):
    before = content_of(folder)
    (tmp_path / "bad.nc").write_bytes(b"no data")
    assert run("train", tmp_path / "bad.nc", "--out", folder, "--overwrite", "--steps", 8)[0] == 2
    assert content_of(folder) == before


def test_what_replaces_a_run_leaves_nothing_of_it(springs, folder):
    for name in ("analysis.json", "law.json", "figures/messages.png", "notes.txt"):
        write_atomic(folder / name, "old")
    fit(springs, "newton", out=folder, overwrite=True, **{**QUICK, "seed": 3})
    assert Run.load(folder).config.seed == 3
    left = ["checkpoint.pt", "config.json", "history.csv", "model.safetensors", "notes.txt"]
    assert sorted(os.listdir(folder)) == left


def test_a_killed_replacement_leaves_the_old_discovery_whole(found, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(found, tmp_path / "out"))
    before = content_of(folder)

    def killed(*args):
        raise SystemError("as kill -9 in the first step")

    monkeypatch.setattr("symbolic_gn.train.Trainer.step", killed)
    with pytest.raises(SystemError):
        discover("spring", out=folder, overwrite=True, seed=5, **BRIEF)
    assert content_of(folder) == before
    monkeypatch.undo()
    (folder / ".new").mkdir()  # kill -9 leaves this
    stopped("spring", out=folder, overwrite=True, seed=5)
    assert Run.load(folder / "run").config.seed == 5 == Trajectories.load(folder / "data.nc").data.attrs["seed"]
    assert json.loads((folder / "recipe.json").read_text())["seed"] == 5
    assert sorted(os.listdir(folder)) == ["data.nc", "recipe.json", "run"]


# going on


@pytest.mark.parametrize("change, said", [
    (dict(seed=3), "seed = 0, not 3"), (dict(budget="quick"), "budget = 'tiny', not 'quick'"),
    (dict(lr=1e-2), "lr = 0.003, not 0.01"), (dict(bodies=3), "bodies = 4, not 3"),
    (dict(source="r1"), "system = 'spring', not 'r1'"), (dict(dim=3), "dim = 2, not 3"),
    (dict(noise=0.01), "noise = 0.0, not 0.01"), (dict(hidden="charge"), "hidden = None, not 'charge'"),
], ids=str)
def test_resume_says_what_differs_when_only_data_are_there(change, said, found, tmp_path):
    from symbolic_gn.discover import source_of
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("data.nc", "recipe.json"):
        shutil.copy(found / name, folder / name)
    asked = {"source": "spring", **BRIEF, **change}
    wrapped = {name: asked.pop(name) for name in ("noise", "hidden", "bodies", "dim") if name in asked}
    model = dict(model="newton") if "hidden" in wrapped else {}
    what = source_of(asked.pop("source"), **wrapped)
    refusal = refused(discover, what, out=folder, resume=True, **{**asked, **model})
    assert "was made with" in refusal and (said in refusal or "system" in refusal and "hidden" in wrapped)
    assert sorted(os.listdir(folder)) == ["data.nc", "recipe.json"]


def change_data(springs, name, value):
    "Springs with something else about them."
    data = springs.data.copy(deep=True)
    if name in data:
        data[name].values[value] *= 3
    else:
        data.attrs[name] = value
    return Trajectories(data)


@pytest.mark.parametrize("name, value", [
    ("position", slice(None)), ("velocity", -1), ("mass", slice(None)), ("charge", slice(None)),
    ("acceleration", slice(9, None)), ("topology", "star"), ("dt", 0.2),
], ids=str)
def test_resume_with_changed_data_is_refused(name, value, springs, folder):
    before = content_of(folder)
    said = refused(resume, change_data(springs, name, value), folder)
    assert "checkpoint.pt was made with" in said
    assert content_of(folder) == before


def test_resume_without_a_checkpoint_compares_what_was_begun(springs, folder):
    for name in ("checkpoint.pt", "model.safetensors", "history.csv"):
        (folder / name).unlink()
    assert "config.json was made with lr = 0.003, not 0.1" in refused(resume, springs, folder, lr=0.1)
    assert resume(springs, folder).finished


def test_weights_without_a_checkpoint_are_not_overwritten(springs, folder):
    (folder / "checkpoint.pt").unlink()
    before = content_of(folder)
    said = refused(resume, springs, folder)
    assert "checkpoint.pt is missing, so there is nothing to go on from" in said and content_of(folder) == before


def test_resume_where_nothing_is_begins(springs, tmp_path):
    assert resume(springs, tmp_path / "new").finished


def test_a_discovery_is_gone_on_with(found, tmp_path):
    folder = Path(shutil.copytree(found, tmp_path / "out"))
    names = ("data.nc", "recipe.json", "run/model.safetensors", "law.json")
    same = {name: (folder / name).read_bytes() for name in names}
    stopped("spring", out=folder, resume=True)
    assert same == {name: (folder / name).read_bytes() for name in same}


# the command line


def test_simulate_refuses_before_it_computes(run, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("symbolic_gn.simulate"), "simulate", None)
    (tmp_path / "folder.nc").mkdir()
    (tmp_path / "there.nc").write_bytes(b"kept")
    places = {"no/x.nc": "there is no folder", "folder.nc": "it is a folder", "there.nc": "is there already"}
    for place, said in places.items():
        code, _, err = run("simulate", "spring", "--out", tmp_path / place)
        assert code == 2 and said in err
    assert (tmp_path / "there.nc").read_bytes() == b"kept"


def test_simulate_overwrites_when_asked(run, tmp_path):
    small = ("--sims", 3, "--steps", 4)
    assert run("simulate", "spring", "--out", tmp_path / "a.nc", *small)[0] == 0
    assert run("simulate", "spring", "--out", tmp_path / "a.nc", *small)[0] == 2
    assert run("simulate", "spring", "--out", tmp_path / "a.nc", *small, "--seed", 4, "--overwrite")[0] == 0
    assert Trajectories.load(tmp_path / "a.nc").data.attrs["seed"] == 4


def test_look_refuses_before_it_reads(run, tmp_path):
    (tmp_path / "folder.png").mkdir()
    pd.DataFrame(dict(x=[1])).to_csv(tmp_path / "data.csv")
    for place, said in {"no/x.nc": "there is no folder", "folder.png": "it is a folder"}.items():
        code, _, err = run("look", tmp_path / "data.csv", "--out", tmp_path / place)
        assert code == 2 and said in err


def test_train_and_discover_refuse_used_folders(run, found, folder, tmp_path):
    kept = {place: content_of(place) for place in (found, folder)}
    words = ("--budget", "tiny")
    for place, command in ((folder, ("train", tmp_path / "none.nc")), (found, ("discover", "spring", *words))):
        code, out, err = run(*command, "--out", place)
        assert code == 2 and "holds results; go on with --resume, replace with --overwrite" in err and not out
        code, _, err = run(*command, "--out", place, "--resume", "--overwrite")
        assert code == 2 and "give one of them" in err and content_of(place) == kept[place]
    assert "--resume needs --out" in run("discover", "spring", "--overwrite")[2]


def test_a_world_of_its_own_is_kept_once(tmp_path):
    from symbolic_gn.core.contracts import BUDGETS
    made = Simulated("spring").load(BUDGETS["tiny"], 0, folder=tmp_path)
    assert Simulated("spring").load(BUDGETS["tiny"], 0, folder=tmp_path, resume=True).data.identical(made.data)
    assert "every = 5, not 6" in refused(
        Simulated("spring").load, BUDGETS["tiny"].__class__("tiny", 24, 10, 6, 20, 50), 0, folder=tmp_path, resume=True
    )
