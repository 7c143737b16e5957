"""kill -9 at random moments: what is resumed is, bit for bit, what was never interrupted, and nobody is left behind.

    python tests/benchmarks/kills.py --kills 100 --seed 0

Trainings of five models, a discovery and a sweep on two processes are killed again and again until they come to their
end; a folder is killed at most `--chain` times, then it may end. The table says what differed; exit code 1 if anything.
"""
import argparse
import contextlib
import csv
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import psutil

SMALL = dict(batch=16, device="cpu", precision="32-true", progress=False)
PLAIN, TRIALS = dict(hidden=8, layers=1), dict(trials=2)
BRIEF = dict(restarts=2, evaluations=300, time_limit=600)
MODELS = {  # architecture and steps
    "newton": (PLAIN, 80), "bottleneck": (PLAIN, 80), "cust": (PLAIN, 80), "prune": (PLAIN, 80), "eql": (TRIALS, 8),
}


def train(model: str, data: Path, folder: Path) -> None:
    "Train, from where the folder is."
    from symbolic_gn.data.trajectories import Trajectories
    from symbolic_gn.train import fit
    shape, steps = MODELS[model]
    often = dict(resume=True, checkpoint_every=0.05, looks=10)
    fit(Trajectories.load(data), model, out=folder, steps=steps, architecture=shape, **often, **SMALL)


def find(data: Path, folder: Path) -> None:
    "A discovery, from where the folder is."
    from symbolic_gn.discover import discover
    how: dict = dict(budget="tiny", engine="operon", engine_settings=BRIEF)
    discover(str(data), out=folder, resume=True, steps=40, architecture=PLAIN, **how, **SMALL)


def grid(data: Path, folder: Path) -> None:
    "A sweep on two processes, from where the folder is."
    from symbolic_gn.sweep import expand, sweep
    settings = dict(steps=20, architecture=PLAIN, batch=16, device="cpu", precision="32-true")
    cells = dict(system=["spring"], seed=[0, 1, 2], budget="tiny", engine="operon", engine_settings=BRIEF)
    sweep(expand(cells | dict(settings=settings)), folder, jobs=2, progress=False)


JOBS: dict[str, Callable[[Path, Path], None]] = {name: partial(train, name) for name in MODELS}
JOBS |= dict(discover=find, sweep=grid)


# what a folder holds


def timeless(value):
    "The same without seconds, digests of them, and what the machine is."
    if isinstance(value, dict):
        gone = {"seconds", "sha256", "versions", "device", "source"}
        return {name: timeless(part) for name, part in value.items() if name not in gone and "seconds" not in name}
    return [timeless(part) for part in value] if isinstance(value, list) else value


def content(path: Path):
    "What a file says, as far as it must not depend on the time."
    if path.suffix == ".json":
        return timeless(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return sorted(json.dumps(timeless(json.loads(line)), sort_keys=True) for line in path.read_text().splitlines())
    if path.suffix == ".csv":
        return [timeless(row) for row in csv.DictReader(io.StringIO(path.read_text()))]
    return path.read_bytes()


KEPT = {".json", ".jsonl", ".csv", ".safetensors"}


def differences(folder: Path, whole: Path) -> list[str]:
    "Files that are not those of the uninterrupted run, and what half-written ones are left."
    files = [{p.relative_to(home) for p in home.rglob("*") if p.suffix in KEPT} for home in (folder, whole)]
    wrong = [str(p) for p in files[0] ^ files[1]]
    wrong += [str(p) for p in files[0] & files[1] if content(folder / p) != content(whole / p)]
    return sorted(wrong + [p.name for p in folder.rglob(".*.part")])


# children


LOADED = (
    "matplotlib.pyplot", "symbolic_gn.discover", "symbolic_gn.report", "symbolic_gn.rollout",
    "symbolic_gn.search.operon")


@contextlib.contextmanager
def child(job: Callable[[Path, Path], None], data: Path, folder: Path) -> Iterator[int]:
    "A process of its own group that does a job; its number."
    sys.stdout.flush()
    number = os.fork()
    if number == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            with open(f"{folder}.log", "a") as log:
                os.dup2(log.fileno(), 1), os.dup2(log.fileno(), 2)
            job(data, folder)
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    try:
        yield number
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(number, signal.SIGKILL)


def group(number: int) -> list[psutil.Process]:
    "The processes of a group that are alive."
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def ended(number: int, seconds: float) -> int | None:
    "The exit code of a child that ends in time."
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if (found := os.waitpid(number, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(found[1])
        time.sleep(0.005)
    return None


def whole_run(name: str, data: Path, home: Path) -> tuple[Path, float]:
    "The folder of a run that nobody disturbs, and its seconds."
    folder, start = home / f"{name}-whole", time.monotonic()
    with child(JOBS[name], data, folder) as number:
        if ended(number, 900) != 0:
            raise SystemExit(f"{name}: {Path(f'{folder}.log').read_text()[-500:]}")
    return folder, time.monotonic() - start


def chain(name: str, data: Path, folder: Path, span: float, kills: int, rng) -> tuple[int, int, list[str]]:
    "Kills of a folder until it has come to its end; how many, how many processes were left, what went wrong."
    done = left = 0
    while True:
        with child(JOBS[name], data, folder) as number:
            code = ended(number, rng.uniform(0, 1.1 * span) if done < kills else 900)
            if code is None and done < kills:
                os.kill(number, signal.SIGKILL)  # the driver alone
                os.waitpid(number, 0)
                done += 1
                until = time.monotonic() + 5
                while group(number) and time.monotonic() < until:
                    time.sleep(0.05)
                left += len(group(number))
                continue
        return done, left, [] if code == 0 else [Path(f"{folder}.log").read_text()[-300:] or f"exit code {code}"]


def killed(names: list[str], kills: int, longest: int, seed: int, home: Path) -> dict[str, tuple]:
    "For each job: kills, folders, processes left, what differed."
    for module in LOADED:  # so that children need not load them
        import_module(module)
    data, rng, found = home / "data.nc", np.random.default_rng(seed), {}
    make = "from symbolic_gn.simulate import simulate; simulate('spring', simulations=24, frames=10).save({!r})"
    os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", make.format(str(data))])
    for k, name in enumerate(names):
        whole, span = whole_run(name, data, home)
        want, rows = (kills * (k + 1)) // len(names) - (kills * k) // len(names), []
        while (done := sum(row[0] for row in rows)) < want:
            folder = home / f"{name}-{len(rows)}"
            some, left, wrong = chain(name, data, folder, span, min(longest, want - done), rng)
            rows.append((some, left, wrong or differences(folder, whole)))
        found[name] = (done, len(rows), sum(row[1] for row in rows), sorted({w for row in rows for w in row[2]}))
        print(f"{name:12s} {found[name][0]:5d} kills {found[name][1]:4d} folders of {span:5.1f} s "
              f"{found[name][2]:3d} left  {', '.join(found[name][3]) or 'equal'}", flush=True)
    return found


def main(arguments: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--kills", type=int, default=100)
    p.add_argument("--chain", type=int, default=4, help="kills of one folder, at most")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    a = p.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        found = killed(a.jobs, a.kills, a.chain, a.seed, Path(home))
    return int(any(left or wrong for _, _, left, wrong in found.values()))


if __name__ == "__main__":
    os.environ.update(OMP_NUM_THREADS="1", MPLBACKEND="agg")
    sys.exit(main())
