"Settings that mean nothing: one line that says what would be right, before any work, the same in Python and the shell."
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from refusing import refused

from symbolic_gn.core.errors import UserError
from symbolic_gn.core.folders import opened
from symbolic_gn.core.memory import free_memory
from symbolic_gn.core.settings import SEEDS, Number, Whole
from symbolic_gn.dark_matter.universe import UniverseRecipe
from symbolic_gn.discover import discover
from symbolic_gn.distill import distill
from symbolic_gn.nesymres.dataset import count_of, make_bank
from symbolic_gn.nesymres.training import training_settings
from symbolic_gn.search.benchmark import judge_one
from symbolic_gn.search.engine import finished, keep
from symbolic_gn.search.engines import require_engine, search
from symbolic_gn.search.estimator import SymbolicRegressor
from symbolic_gn.search.runs import RunKind, run_rows
from symbolic_gn.simulate import Simulated, simulate, starts
from symbolic_gn.studies.answers import ask
from symbolic_gn.studies.forces import measure
from symbolic_gn.studies.noise import Noisy
from symbolic_gn.studies.unknown import unknown_world, world_without_law
from symbolic_gn.sweep import expand, key_of, read_grid, sweep
from symbolic_gn.train import fit
from symbolic_gn.training.config import Config, check_config
from symbolic_gn.training.runs import Run

BEYOND = (-1, SEEDS.high + 1, 2**31 - 1, 2**32, 2**60, 2**63, 10**30)
GRID = dict(system="spring", budget="tiny")


def cell(**axes) -> str: return key_of(expand(GRID | axes)[0])


# seeds

SEEDED = {
    "simulate": lambda seed: simulate("spring", simulations=2, frames=2, seed=seed),
    "starts": lambda seed: starts("spring", simulations=2, seed=seed),
    "config": lambda seed: check_config(Config(seed=seed)),
    "discover": lambda seed: discover("spring", budget="tiny", seed=seed),
    "distill": lambda seed: distill(None, None, seed=seed),
    "grid": lambda seed: cell(seed=seed),
    "search": lambda seed: search(np.ones((20, 1)), np.ones(20), ["r"], "library", seed=seed),
    "estimator": lambda seed: SymbolicRegressor("library", random_state=seed).fit(np.eye(20), np.ones(20)),
    "benchmark": lambda seed: judge_one("nguyen-1", seed=seed),
    "formulas": lambda seed: make_bank(10, "nowhere", seed=seed),
    "proposer": lambda seed: training_settings(dict(seed=seed)),
    "universe": lambda seed: UniverseRecipe(seed=seed),
    "planets": lambda seed: discover("planets", budget="tiny", seed=seed),
    "strangers": lambda seed: ask("gravity_15", Path(), seed=seed),
    "unknown": unknown_world, "lawless": world_without_law,
    "forces": lambda seed: measure(["cubic"], seed=seed),
}


@pytest.mark.parametrize("seed", BEYOND)
@pytest.mark.parametrize("ask_for", SEEDED.values(), ids=SEEDED)
def test_a_seed_obeys_one_rule_everywhere(ask_for, seed):
    said = refused(ask_for, seed)
    assert "seed" in said or "random_state" in said
    assert str(seed) in said and f"a whole number from 0 to {SEEDS.high}" in said


COMMANDS = {
    "simulate": "simulate spring --out a.nc", "train": "train s.nc --out r", "discover": "discover spring --out d",
    "distill": "distill run", "nesymres": "nesymres data --out n",
    "dark-matter": "dark-matter universe --out h.safetensors",
}


@pytest.mark.parametrize("seed", [-1, SEEDS.high + 1, 2**63])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_each_command_says_it_before_anything_is_read(command, seed, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, said = run(*command.split(), "--seed", seed)
    assert code == 2 and said.count("\n") == 1 and f"seed is {seed}; it must be {SEEDS}" in said
    assert not list(tmp_path.iterdir())


def test_the_last_seed_works(springs):
    assert simulate("spring", simulations=2, frames=2, seed=SEEDS.high).data.attrs["seed"] == SEEDS.high
    made = fit(springs, steps=1, batch=8, architecture=dict(hidden=4), seed=SEEDS.high, progress=False)
    assert np.isfinite(made.history["loss"]).all()


# numbers

TRAINING = [
    *(dict(penalty=value) for value in (-1, 1e300, np.nan)), *(dict(prune_end=value) for value in (-1, 0, 5)),
    *(dict(lr=value) for value in (0, -1, 1e9, np.inf)), *(dict(batch=value) for value in (0, -3, 2.5, True, 10**9)),
    *(dict(steps=value) for value in (0, 10**12)), dict(weight_decay=1e9), dict(augment=1e30), dict(legacy=1),
    dict(device=None), *(dict(architecture=dict(hidden=value)) for value in (0, -1, 10**9, 2.0)),
    *(dict(architecture=dict(layers=value)) for value in (0, 10**5)),
    *(dict(architecture=dict(messages=value)) for value in (0, 1)),
    *(dict(architecture=dict(trials=value)) for value in (0, 10**7)),
    dict(architecture=[]), dict(architecture=dict(dim=3)),
]


@pytest.mark.parametrize("settings", TRAINING, ids=str)
def test_settings_of_training_are_judged_before_the_work(settings):
    said = refused(check_config, Config(**settings))
    assert said == refused(cell, settings=settings).removeprefix("grid: ")
    assert said == refused(discover, "spring", budget="tiny", **settings)


OTHERS = {
    "sims": (lambda: simulate("spring", simulations=0), "simulations is 0"),
    "bodies": (lambda: simulate("spring", bodies=1), "bodies is 1"),
    "dim": (lambda: Simulated("spring", dim=4), "dim is 4"),
    "dim of a discovery": (lambda: discover("spring", dim=1), "dim is 1"),
    "frames": (lambda: simulate("spring", frames=1), "frames is 1"),
    "every": (lambda: simulate("spring", every=0), "every is 0"),
    "noise": (lambda: Noisy("spring", 7), "noise is 7"),
    "noise of a cell": (lambda: cell(noise=np.nan), "noise is nan"),
    "seconds of an engine": (lambda: require_engine("operon", dict(time_limit=-1)), "must be positive"),
    "runs of an engine": (lambda: require_engine("operon", dict(restarts=10**15)), "must be positive"),
    "seconds of a search": (lambda: search(np.eye(9), np.ones(9), "abcdefghi", time_limit=np.nan), "time_limit is nan"),
    "seconds of distill": (lambda: distill(None, None, time_limit=0.0), "time_limit is 0.0"),
    "seconds of training": (lambda: fit(None, time_limit=-1.0), "time_limit is -1.0"),
    "jobs": (lambda: sweep([], "nowhere", jobs=100_000), "jobs is 100000; it must be a whole number from 1 to 1024"),
    "processes": (lambda: run_rows(RunKind(dict, dict), "nowhere.csv", {}, 0), "jobs is 0"),
    "jobs of formulas": (lambda: make_bank(10, "nowhere", jobs=0), "jobs is 0"),
    "formulas": (lambda: count_of(10**15), "from 1 to 100M"),
    "rate": (lambda: training_settings(dict(rate=-1.0)), "rate is -1.0"),
    "points": (lambda: training_settings(dict(points=[5, 2])), "points is (5, 2)"),
}


@pytest.mark.parametrize("call, said", OTHERS.values(), ids=OTHERS)
def test_other_numbers_are_judged_before_the_work(call, said):
    assert said in refused(call)


@pytest.mark.parametrize("option", ["--time-limit -1", "--time-limit 0", "--time-limit nan", "--time-limit inf"])
@pytest.mark.parametrize("command", ["train s.nc --out r", "distill run"])
def test_a_time_limit_is_above_zero(command, option, run):
    code, _, said = run(*command.split(), *option.split())
    assert code == 2 and said.count("\n") == 1 and f"time_limit is {option.split()[1]}" in said


def test_ends_are_numbers_of_any_kind_but_truth_values():
    assert np.int64(3) in Whole(3, 3) and np.float32(0.5) in Number(0, 1) and 10**400 not in Whole()
    assert not [value for value in (True, "1", None, 1j, np.nan, [1]) if value in Whole() or value in Number()]


# words that are arguments

WORDS = "out source engine engine_settings operators dim bodies units resume overwrite progress say budget".split()


@pytest.mark.parametrize("word", WORDS)
def test_a_word_of_its_own_is_no_setting(word, run):
    code, _, said = run("discover", "spring", "--budget", "tiny", "--set", f"{word}=1")
    assert code == 2 and said.count("\n") == 1 and f"'{word}' is unknown" in said


@pytest.mark.parametrize("command, word", [
    ("discover spring --loss mse", "loss=mae"), ("discover spring --seed 4", "seed=3"),
    ("discover spring --steps 3", "steps=4"), ("train s.nc --out r --device cpu", "device=cuda"),
])
def test_what_is_said_twice_is_said_once(command, word, run):
    code, _, said = run(*command.split(), "--set", word)
    assert code == 2 and said.count("\n") == 1 and "say it once" in said and f"--{word.partition('=')[0]} says" in said


# grids

GRIDS = {
    "no table": ("grid = [3]", "3 is no table"), "no system": ("[[grid]]\nsystem = []", "system is []"),
    "no seed": ("[[grid]]\nsystem = 'spring'\nseed = []", "seed is []"),
    "deep": ("[[grid]]\nsystem = " + "[" * 3000 + "]" * 3000, "is not TOML"),
    "settings": ("[[grid]]\nsystem = 'spring'\nsettings = 3", "settings is 3"),
    "an argument": ("[[grid]]\nsystem = 'spring'\nsettings = {out = 'x'}", "setting 'out' is unknown"),
    "an argument of an engine": ("[[grid]]\nsystem = 'spring'\nengine_settings = {seed = 3}", "'seed' is unknown"),
    "huge": (f"[[grid]]\nsystem = 'spring'\nseed = {[*range(4000)]}\nbodies = {[*range(2, 3002)]}",
             "12000000 cells; a sweep has at most 20000"),
}


@pytest.mark.parametrize("text, said", GRIDS.values(), ids=GRIDS)
def test_a_grid_is_judged_before_its_first_cell(text, said, tmp_path):
    (tmp_path / "grid.toml").write_text(text)
    assert said in refused(read_grid, tmp_path / "grid.toml")


# sources


@pytest.mark.parametrize("source", [None, 3, [], np.zeros((3, 4, 2, 2)), xr.Dataset()], ids=lambda s: type(s).__name__)
def test_a_source_is_named_or_given(source):
    assert type(source).__name__ in refused(discover, source, budget="tiny", progress=False)


# size and time

LARGE = {
    "bodies": (lambda: simulate("spring", bodies=50_000), "GB of memory"),
    "bodies of a discovery": (lambda: discover("spring", bodies=50_000, budget="tiny", progress=False), "GB of memory"),
    "simulations": (lambda: simulate("spring", simulations=10**8), "GB of memory"),
    "steps": (lambda: simulate("spring", every=2**31 - 1), "days, at most 7 are allowed"),
    "weights": (lambda: check_config(Config(architecture=dict(hidden=20_000, layers=100))), "need 1267.3 GB of memory"),
    "particles": (lambda: UniverseRecipe(particles=4096, box=8000.0), "GB of memory"),
}


@pytest.mark.parametrize("call, said", LARGE.values(), ids=LARGE)
def test_what_is_too_large_is_refused_with_its_number(call, said):
    assert said in refused(call)


def test_a_batch_is_refused_with_its_number(springs):
    assert "batch is 10000000" in refused(fit, springs, batch=10**7, progress=False)


@pytest.mark.parametrize("error", [
    MemoryError(), np.empty, RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"),
], ids=["Python", "NumPy", "PyTorch", "XLA"])
def test_memory_that_is_used_up_is_one_line(error, run, monkeypatch):
    def fail(*_, **__):
        if error is np.empty:
            np.empty(2**44)
        raise error
    monkeypatch.setattr(importlib.import_module("symbolic_gn.simulate"), "simulate", fail)
    code, _, said = run("simulate", "spring", "--out", "a.nc")
    assert (code, said) == (2, "symbolic-gn: memory is used up; ask for less, or allow more\n")


def test_a_limit_of_the_shell_is_known(monkeypatch):
    resource = pytest.importorskip("resource", reason="this system has no such limits")
    monkeypatch.setattr(resource, "getrlimit", lambda what: (10**6, 10**6))
    assert free_memory() == 0
    assert "0.0 GB are free" in refused(simulate, "spring")


# streams that cannot be written

TRAIN = "train s.nc --out run --steps 3 --set batch=8 --set architecture={\\\"hidden\\\":4}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("command, code", [
    (f"{TRAIN} 2>&-", 0), (f"{TRAIN} 2>/dev/full", 0), (f"{TRAIN} >/dev/full 2>&1", 1), ("systems >/dev/full", 1),
    ("simulate spring --sims 0 --out a.nc 2>&-", 2),
])
def test_what_cannot_be_said_stops_no_work(command, code, springs, tmp_path):
    springs.save(tmp_path / "s.nc")
    whole = f"{sys.executable} -c 'from symbolic_gn.cli import main; main()' {command}"
    ended = subprocess.run(whole, shell=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert ended.returncode == code
    if "train" in command:
        assert Run.load(tmp_path / "run").finished


# one folder, one writer; what is read back is what was written


@pytest.mark.parametrize("command", ["analyze", "distill"])
def test_a_run_that_is_being_written_is_left_alone(command, run, springs, tmp_path):
    springs.save(tmp_path / "s.nc")
    fit(springs, steps=1, batch=8, architecture=dict(hidden=4), out=tmp_path / "run", progress=False)
    before = sorted(p.name for p in (tmp_path / "run").iterdir())
    options = dict(analyze=[], distill=["--engine", "library", "--time-limit", 1])[command]
    with opened(tmp_path / "run", resume=True):
        code, _, said = run(command, tmp_path / "run", "--data", tmp_path / "s.nc", *options)
    assert code == 2 and "is being written by another process" in said
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == before


def test_every_flipped_bit_of_finished_searches_is_noticed(tmp_path):
    path, runs = tmp_path / "search.csv", {k: [f"{k + 1}*r", "r**2 + 0.25"] for k in range(3)}
    for k, formulas in runs.items():
        keep(path, "a1b2", k, formulas)
    whole = path.read_bytes()
    assert finished(path, "a1b2") == runs
    for place in np.random.default_rng(0).integers(8 * len(whole), size=200):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert finished(path, "a1b2") == runs
        except UserError:
            pass
