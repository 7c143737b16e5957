"Damaged, foreign and malicious files of runs; kill -9 in the middle of training and writing."
import json
import shutil

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from killing import driven, needs_fork
from safetensors.torch import load, save

from symbolic_gn.core.errors import UserError
from symbolic_gn.data.trajectories import Trajectories
from symbolic_gn.laws.law import Law
from symbolic_gn.search.front import Front
from symbolic_gn.train import fit
from symbolic_gn.training.runs import Run

ARCH = dict(hidden=16, layers=2)
QUICK = dict(steps=12, batch=16, architecture=ARCH, device="cpu", precision="32-true", progress=False)
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def finished(springs, tmp_path_factory):
    "The folder of a finished run, to be copied."
    folder = tmp_path_factory.mktemp("runs") / "run"
    fit(springs, "newton", out=folder, **QUICK)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def assert_refused(call, *words) -> str:
    "The one line with which a call is refused."
    with pytest.raises(UserError) as caught:
        call()
    said = str(caught.value)
    assert said and "\n" not in said and all(word in said for word in words), said
    return said


def resume(springs, folder): return fit(springs, "newton", out=folder, resume=True, **QUICK)


# runs


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_run_without_one_of_its_files_is_refused(name, folder):
    (folder / name).unlink()
    assert_refused(lambda: Run.load(folder), name, "is missing")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    assert_refused(lambda: Run.load(tmp_path / "nowhere"), "config.json is missing", "nowhere")
    (tmp_path / "file").write_text("")
    assert_refused(lambda: Run.load(tmp_path / "file"), "config.json")


def test_a_run_without_history_is_still_a_run(folder):
    (folder / "history.csv").unlink()
    assert len(Run.load(folder).history) == 0 and "newton" in repr(Run.load(folder))


FOREIGN = ["", "{", "[1, 2]", "null", "3", '{"a": 1}', '{"config": 3, "data": {}}', '{"config": null}', "\udcff\udcfe",
           '{"config": {"modle": "newton"}, "data": {"dim": 2}}', '{"config": {"model": "netwon"}, "data": {"dim": 2}}',
           '{"config": {"architecture": {"hiden": 3}}, "data": {"dim": 2}}']


@pytest.mark.parametrize("text", FOREIGN)
def test_a_foreign_config_is_refused(text, folder):
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert_refused(lambda: Run.load(folder))


@pytest.mark.parametrize("text", [
    '{"config": {}}', '{"config": {}, "data": {}}', '{"config": {}, "data": {"dim": "x"}}',
    '{"config": {"architecture": 3}, "data": {"dim": 2}}',
])
def test_a_config_with_a_part_missing_is_refused(text, folder):
    (folder / "config.json").write_text(text)
    assert_refused(lambda: Run.load(folder), "config.json")


@few
@given(data=st.data())
def test_damaged_weights_are_refused_or_whole(data, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run", dirs_exist_ok=True)
    good = (finished / "model.safetensors").read_bytes()
    cut = data.draw(st.integers(0, len(good) - 1))
    (folder / "model.safetensors").write_bytes(good[:cut])
    assert_refused(lambda: Run.load(folder), "model.safetensors")
    (folder / "model.safetensors").write_bytes(data.draw(st.binary(max_size=200)))
    assert_refused(lambda: Run.load(folder), "model.safetensors")


@pytest.mark.parametrize("change", ["shape", "missing", "extra"])
def test_weights_of_another_model_are_refused(change, folder):
    weights = load((folder / "model.safetensors").read_bytes())
    first = next(k for k, v in weights.items() if v.ndim)
    if change == "shape":
        weights[first] = weights[first][:1].clone()
    if change == "missing":
        del weights[first]
    if change == "extra":
        weights["other"] = torch.zeros(1)
    (folder / "model.safetensors").write_bytes(save(weights))
    assert_refused(lambda: Run.load(folder), "model.safetensors", "another configuration")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n1,2,3\n"'])
def test_a_damaged_history_is_named(content, folder):
    (folder / "history.csv").write_bytes(content)
    assert_refused(lambda: Run.load(folder), "history.csv")


# checkpoints


class Malice:
    "Makes a file when it is unpickled."

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self): return open, (self.path, "w")


def test_a_checkpoint_runs_no_code(springs, folder, tmp_path):
    for content in (Malice(tmp_path / "made"), {"config": Malice(tmp_path / "made")}):
        torch.save(content, folder / "checkpoint.pt")
        assert_refused(lambda: resume(springs, folder), "checkpoint.pt")
        assert not (tmp_path / "made").exists()
    torch.load(folder / "checkpoint.pt", weights_only=False)
    assert (tmp_path / "made").exists()  # it would have


def test_a_checkpoint_is_plain_data(folder):
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    parts = {"config", "data", "step", "model", "optimizer", "schedule", "rng", "history", "seconds", "sha256"}
    assert parts == set(state)
    assert state["step"] == 12


@few
@given(data=st.data())
def test_a_damaged_checkpoint_is_refused(data, springs, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run", dirs_exist_ok=True)
    good = (finished / "checkpoint.pt").read_bytes()
    cut = data.draw(st.integers(0, len(good) - 100))
    (folder / "checkpoint.pt").write_bytes(good[:cut])
    assert_refused(lambda: resume(springs, folder), "checkpoint.pt")
    assert (folder / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


@pytest.mark.parametrize("content", [b"", b"\x00", b"N", b"N.", b"text", b"e", b"J"])
def test_a_file_of_other_bytes_is_no_checkpoint(content, springs, folder):
    (folder / "checkpoint.pt").write_bytes(content)
    assert_refused(lambda: resume(springs, folder), "checkpoint.pt")


@pytest.mark.parametrize("content", [{}, {"step": 3}, [1, 2], torch.zeros(2)],
                         ids=["empty", "step", "list", "tensor"])
def test_a_foreign_checkpoint_is_refused(content, springs, folder):
    torch.save(content, folder / "checkpoint.pt")
    assert_refused(lambda: resume(springs, folder), "checkpoint.pt")


@pytest.mark.parametrize("part", ["step", "model", "optimizer", "schedule", "rng", "history"])
def test_a_checkpoint_with_a_part_missing_is_refused(part, springs, folder):
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    del state[part]
    torch.save(state, folder / "checkpoint.pt")
    assert_refused(lambda: resume(springs, folder), "checkpoint.pt")


# kill -9


def whole(folder) -> int | None:
    "The step of a folder's checkpoint, after every file in it was read."
    step = None
    for path in folder.rglob("*"):
        if path.is_dir() or path.name.startswith("."):
            continue
        if path.suffix == ".json":
            assert isinstance(json.loads(path.read_text()), dict)
        elif path.suffix == ".safetensors":
            assert load(path.read_bytes())
        elif path.suffix == ".pt":
            step = torch.load(path, weights_only=True)["step"]
        elif path.suffix == ".csv":
            assert len(pd.read_csv(path).columns) > 1
        elif path.suffix == ".nc":
            assert Trajectories.load(path).bodies == 4
        else:
            raise AssertionError(path)
    return step


DRIVER = """
    import torch
    torch.set_num_threads(1)
    from symbolic_gn.data.trajectories import Trajectories
    from symbolic_gn.laws.law import Law
    from symbolic_gn.search.front import Front
    from symbolic_gn.train import fit
    from symbolic_gn.training.runs import Run, save_run

    home = Path(sys.argv[1])
    data = Trajectories.load(home / "data.nc")
    run = Run.load(home / "whole")
    quick = dict(steps=60, batch=16, architecture=dict(hidden=16, layers=2), device="cpu", precision="32-true")

    def slowly(step, model):
        time.sleep(0.01)
        return {}

    def train(folder):
        options = dict(resume=True, checkpoint_every=0.0, watch=slowly, looks=60, progress=False)
        fit(data, "newton", out=folder / "run", **options, **quick)

    def write(folder):
        run.folder, law = folder, Law.of("2*r - 1.98")
        front = Front.of([(law.sympy, 0.1)])
        while True:
            save_run(run)
            data.save(folder / "data.nc")
            law.to_json(folder / "law.json")
            front.to_csv(folder / "front.csv")

    killed(home, ((train, ("run/checkpoint.pt",)), (write, ("data.nc", "front.csv"))))
"""


def same_weights(a, b):
    return all(torch.equal(v, b.model.state_dict()[k]) for k, v in a.model.state_dict().items())


@needs_fork
def test_kill_9_corrupts_nothing_and_resume_goes_on(springs, tmp_path):
    "One process forks workers that train and write, and kills each in the middle."
    full = dict(QUICK, steps=60)
    plain = fit(springs, "newton", out=tmp_path / "whole", looks=60, **full)
    springs.save(tmp_path / "data.nc")
    codes, steps = [], []
    with driven(DRIVER, tmp_path) as deaths:
        for job, by_signal in deaths:
            codes.append((job, by_signal))
            step = whole(tmp_path / job)
            if job == "train":
                steps.append(step)
    assert [job for job, _ in codes] == ["train"] * 4 + ["write"] * 4
    killed = {job: sum(by_signal for j, by_signal in codes if j == job) for job in ("train", "write")}
    assert killed["train"] and killed["write"] == 4, codes
    assert steps == sorted(steps) and 0 < steps[0] < 60  # every session goes on where the last was killed

    run = fit(springs, "newton", out=tmp_path / "train" / "run", resume=True, looks=60, **full)
    assert same_weights(run, plain)
    columns = ["step", "loss", "mae", "r2"]
    pd.testing.assert_frame_equal(run.history[columns], plain.history[columns], check_exact=True)
    assert same_weights(Run.load(tmp_path / "write"), plain)
    assert str(Law.from_json(tmp_path / "write" / "law.json").sympy) == "2*r - 1.98"
    assert len(Front.from_csv(tmp_path / "write" / "front.csv")) == 1
