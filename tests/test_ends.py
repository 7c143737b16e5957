"How commands end before their end: one line, the signal's code, nobody left behind, nothing half written."
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from symbolic_gn.core.ends import Ended, endable, in_processes, leaving
from symbolic_gn.core.errors import replaced, sweep_up, write_atomic

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
BEGIN = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's child in the background has it ignored
from importlib import import_module
from symbolic_gn import cli
"""
SWEEP = """
def slow(cell):
    Path(sys.argv[1], f"at {cell['seed']}").touch()
    time.sleep(60)
from functools import partial
sweep = import_module('symbolic_gn.sweep')
sweep.sweep = partial(sweep.sweep, work=slow)
cli.main(["sweep", sys.argv[1] + "/grid.toml", "--out", sys.argv[1] + "/sweep", "--jobs", "2"])
"""
TRAIN = """
train = import_module('symbolic_gn.train')
step = train.Trainer.step
def slow(trainer, number):
    Path(sys.argv[1], f"at {min(number, 1)}").touch()
    time.sleep(0.1)
    return step(trainer, number)
train.Trainer.step = slow
small = ["--set", 'architecture={"hidden": 8, "layers": 1}', "--set", "batch=16", "--steps", "2000"]
cli.main([sys.argv[2], *sys.argv[3:], "--out", sys.argv[1] + "/run", *small])
"""
SIMULATE = """
simulate = import_module('symbolic_gn.simulate')
def slow(*args, **options):
    Path(sys.argv[1], "at 0").touch(), Path(sys.argv[1], "at 1").touch()
    time.sleep(60)
simulate.simulate = slow
cli.main(["simulate", "spring", "--out", sys.argv[1] + "/x.nc"])
"""


def ended(folder: Path, script: str, number: int, *words: str) -> tuple[int, str, list[psutil.Process]]:
    "Exit code of a command that gets a signal while it works, its standard error, and its children."
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", BEGIN + script, str(folder), *words]
    with open(folder / "said", "w+") as said:
        process = subprocess.Popen(command, stderr=said, stdout=subprocess.DEVNULL, env=environment)
        until = time.monotonic() + 240
        while not all((folder / f"at {k}").exists() for k in (0, 1)) and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert process.poll() is None, (folder / "said").read_text()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        code = process.wait(120)
        said.seek(0)
        return code, said.read(), children


@pytest.fixture(autouse=True)
def hangups():
    "Signals as a shell has them, also where the tests run under nohup."
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def grid(tmp_path):
    (tmp_path / "grid.toml").write_text("[[grid]]\nsystem = 'spring'\nbudget = 'tiny'\nseed = [0, 1, 2]\n")
    return tmp_path


@posix
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"])
def test_workers_end_with_the_driver_of_a_sweep(name, grid):
    number = getattr(signal, name)
    code, said, children = ended(grid, SWEEP, number)
    assert len(children) >= 2
    assert psutil.wait_procs(children, 5)[1] == []
    assert code == (-number if name == "SIGKILL" else 128 + number)
    if name != "SIGKILL":
        assert said.count("symbolic-gn: ") == 1 and "the same command goes on" in said and "Traceback" not in said


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("command", [["discover", "spring", "--budget", "tiny"], ["train"]], ids=lambda c: c[0])
def test_a_signal_ends_a_training_as_control_c_does(name, command, tmp_path, springs):
    number = getattr(signal, name)
    if command == ["train"]:
        springs.save(tmp_path / "springs.nc")
        command = ["train", str(tmp_path / "springs.nc")]
    code, said, _ = ended(tmp_path, TRAIN, number, *command)
    lines = [line for line in said.splitlines() if line.startswith("symbolic-gn: ")]
    assert code == 128 + number and len(lines) == 1 and "go on with --resume" in lines[0] and "Traceback" not in said
    assert list(tmp_path.rglob("checkpoint.pt"))


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_ends_a_simulation_with_one_line(name, tmp_path):
    number = getattr(signal, name)
    code, said, _ = ended(tmp_path, SIMULATE, number)
    why = {"SIGTERM": "ended by SIGTERM", "SIGINT": "interrupted"}[name]
    assert (code, said) == (128 + number, f"symbolic-gn: {why}; nothing was written\n")


def test_a_sweep_whose_every_cell_failed_says_so(run, grid, monkeypatch):
    def failing(cell):
        raise ValueError(f"seed {cell['seed']}")

    S = importlib.import_module("symbolic_gn.sweep")
    whole = S.sweep
    monkeypatch.setattr(S, "sweep", lambda *args, **options: whole(*args, **options, work=failing, progress=False))
    code, out, err = run("sweep", grid / "grid.toml", "--out", grid / "out")
    assert code == 1 and "3 cells, 3 failed" in out and len(err.splitlines()) == 1 and "ValueError: seed 0" in err
    monkeypatch.setattr(S, "sweep", lambda *args, **options: whole(
        *args, **options, work=lambda cell: dict(x=1 / cell["seed"]), progress=False))
    assert run("sweep", grid / "grid.toml", "--out", grid / "half")[0] == 0


def test_processes_have_one_thread_and_leave_control_c_to_their_parent():
    from joblib import delayed

    def look(k):
        import os
        import signal
        return os.environ["OMP_NUM_THREADS"], signal.getsignal(signal.SIGINT) is signal.default_int_handler, os.getpid()

    found = list(in_processes((delayed(look)(k) for k in range(4)), 2))
    assert {row[:2] for row in found} == {("1", False)} and os.getpid() not in {row[2] for row in found}


@posix
def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with endable() as came:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert came == [] and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


@posix
def test_a_second_signal_does_not_disturb_the_end():
    with endable() as came, pytest.raises(Ended, match="ended by SIGTERM"):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
    assert came == [signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("stop, said", [
    (KeyboardInterrupt(), "interrupted; go on"), (KeyboardInterrupt("at step 3"), "at step 3"),
    (Ended("ended by SIGTERM"), "ended by SIGTERM; go on"),
])
def test_an_interruption_says_what_it_leaves(stop, said):
    with pytest.raises(KeyboardInterrupt) as caught, leaving("go on"):
        raise stop
    assert str(caught.value) == said


# what killed processes leave of files


KILLED = """
    import os, sys
    from symbolic_gn.core.errors import replaced
    with replaced(sys.argv[1]) as part:
        part.write_text("half")
        os.kill(os.getpid(), 9)
"""


@posix
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "[x].nc")])
    left = [p.name for p in tmp_path.iterdir()]
    assert len(left) == 1 and left[0].startswith(".[x].nc.") and left[0].endswith(".part")
    (tmp_path / ".y.nc.4194305.part").touch()  # of another file
    write_atomic(tmp_path / "[x].nc", "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".y.nc.4194305.part", "[x].nc"]


def test_what_somebody_is_writing_stays(tmp_path):
    with replaced(tmp_path / "a") as part:
        part.write_text("mine")
        sweep_up(tmp_path)
        assert part.exists()
    assert (tmp_path / "a").read_text() == "mine"


def test_a_number_that_is_anothers_by_now_protects_nothing(tmp_path):
    old = tmp_path / f".a.{os.getpid()}.part"
    old.touch()
    os.utime(old, (1e9, 1e9))  # long before this process began
    sweep_up(tmp_path)
    assert not old.exists()
