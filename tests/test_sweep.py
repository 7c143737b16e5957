"Sweeps: cells by the hash of their configuration, a ledger that survives anything, processes and Dask."
import contextlib
import dataclasses
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symbolic_gn import cli
from symbolic_gn.core.contracts import BUDGETS, ENGINES
from symbolic_gn.core.errors import UserError
from symbolic_gn.data.trajectories import from_arrays
from symbolic_gn.laws.formula import parse
from symbolic_gn.laws.law import Law
from symbolic_gn.search.front import Front
from symbolic_gn.sweep import expand, key_of, read_grid, read_ledger, run_cell, settle_cell, sweep

quick = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
GRID = expand(dict(system=["spring", "r1"], model=["newton", "l1"], seed=[0, 1]))


def triple(cell):
    "A cell's work that takes no time; one cell of the grid fails."
    if (cell["system"], cell["seed"]) == ("r1", 1):
        raise ZeroDivisionError("no such thing")
    return dict(answer=3 * cell["seed"], name=f"{cell['system']} {cell['model']}")


def run(folder, cells=GRID, **options):
    return sweep(cells, folder, **{"work": triple, "progress": False, **options})


def sorted_rows(table):
    return table.sort_values(["system", "model", "seed"], ignore_index=True).sort_index(axis=1)


@quick
@given(st.permutations(GRID))
def test_a_permuted_grid_gives_the_same_results(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("sweep")
    pd.testing.assert_frame_equal(sorted_rows(run(folder / "a")), sorted_rows(run(folder / "b", cells)))
    assert len(read_ledger(folder / "b" / "results.jsonl")) == len(GRID)


@quick
@given(st.integers(0, len(GRID) - 1))
def test_a_resumed_sweep_equals_an_uninterrupted_one(tmp_path_factory, stop):
    folder, calls = tmp_path_factory.mktemp("sweep"), []

    def interrupted(cell):
        calls.append(cell)
        if len(calls) == stop + 1:
            raise KeyboardInterrupt
        return triple(cell)

    with pytest.raises(KeyboardInterrupt):
        run(folder / "a", work=interrupted)
    assert len(read_ledger(folder / "a" / "results.jsonl")) == stop
    pd.testing.assert_frame_equal(run(folder / "a", work=interrupted), run(folder / "b"))
    assert len(calls) == len(GRID) + 1  # only the cell that was running began again


def test_failed_cells_are_rows_with_a_reason_and_run_again_on_request(tmp_path):
    table = run(tmp_path)
    failed = table[table["error"] != ""]
    assert set(failed["error"]) == {"ZeroDivisionError: no such thing"} and len(failed) == 2
    calls = []

    def mended(cell):
        calls.append(cell["system"])
        return dict(answer=3)

    run(tmp_path, work=mended)
    assert calls == []
    assert (run(tmp_path, work=mended, retry=True)["error"] == "").all() and calls == ["r1", "r1"]


def test_the_table_is_in_the_grids_order_and_on_disk(tmp_path):
    table = run(tmp_path)
    order = [(c["system"], c["model"], c["seed"]) for c in GRID]
    assert [(r.system, r.model, r.seed) for r in table.itertuples()] == order
    stored = pd.read_csv(tmp_path / "results.csv", keep_default_na=False)
    assert stored["error"].tolist() == table["error"].tolist()


def test_a_changed_configuration_is_another_cell(tmp_path, monkeypatch):
    run(tmp_path)
    changed = [{**c, "settings": {"lr": 1e-4}} for c in GRID]
    assert not {key_of(c) for c in GRID} & {key_of(c) for c in changed}
    before = key_of(GRID[0])
    budget = BUDGETS["quick"]
    monkeypatch.setitem(BUDGETS, "quick", dataclasses.replace(budget, simulations=budget.simulations + 1))
    assert key_of(GRID[0]) != before
    calls = []

    def counted(cell):
        calls.append(cell)
        return triple(cell)

    run(tmp_path, work=counted)
    assert len(calls) == len(GRID)


@quick
@given(st.binary(max_size=60))
def test_a_broken_last_line_is_left_out_and_its_cell_run_again(tmp_path_factory, rubbish):
    folder = tmp_path_factory.mktemp("sweep")
    run(folder)
    path = folder / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:len(lines[-1]) // 2] + rubbish.replace(b"\n", b" "))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        table = run(folder)
    assert any("broken line" in str(w.message) for w in told)
    pd.testing.assert_frame_equal(table, run(folder / "b"))


def test_a_full_disk_gets_one_line_and_the_ledger_stays_whole(tmp_path):
    resource = pytest.importorskip("resource", reason="this system has no limit on the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    run(tmp_path, GRID[:2])
    path = tmp_path / "results.jsonl"
    kept = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) + 20, before[1]))  # room for 20 bytes: a line does not fit
    try:
        with pytest.raises(UserError, match="results.jsonl cannot be written .*make room"):
            run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == kept
    assert len(run(tmp_path)) == len(GRID)


def test_two_sweeps_do_not_share_a_folder(tmp_path):
    def inner(cell):
        return run(tmp_path, work=triple).iloc[0].to_dict()

    table = run(tmp_path, GRID[:1], work=inner)
    assert "is being written by another process" in table["error"][0]


DRIVER = """
    import sys, time
    from symbolic_gn.sweep import expand, sweep
    def slow(cell):
        with open(sys.argv[1] + "/started", "a") as file:
            file.write(f"{cell['seed']}\\n")
        time.sleep(0.2)
        return dict(answer=cell["seed"])
    sweep(expand(dict(system="spring", seed=list(range(40)))), sys.argv[1], jobs=2, work=slow, progress=False)
"""


def test_kill_9_of_the_driver_loses_at_most_the_running_cells(tmp_path):
    path = tmp_path / "results.jsonl"
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(DRIVER), str(tmp_path)], start_new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not path.exists() or path.read_bytes().count(b"\n") < 5):
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    time.sleep(1)
    started = (tmp_path / "started").read_text()
    time.sleep(3)
    assert (tmp_path / "started").read_text() == started  # workers begin nothing without their driver
    done = read_ledger(path)
    assert 5 <= len(done) < 40
    calls = []

    def counted(cell):
        calls.append(cell["seed"])
        return dict(answer=cell["seed"])

    table = run(tmp_path, expand(dict(system="spring", seed=list(range(40)))), work=counted)
    assert len(calls) == 40 - len(done) and table["answer"].tolist() == list(range(40))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)  # what is left of it


def test_kill_9_of_a_worker_runs_its_cells_again(tmp_path):
    def mortal(cell, flag=tmp_path / "died"):
        if cell["seed"] == 1 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return dict(answer=cell["seed"])

    table = run(tmp_path / "sweep", expand(dict(system="spring", seed=[0, 1, 2, 3])), work=mortal, jobs=2)
    assert (tmp_path / "died").exists()
    assert table["answer"].tolist() == [0, 1, 2, 3] and (table["error"] == "").all()


def test_a_cell_that_kills_its_worker_each_time_is_given_up(tmp_path):
    def deadly(cell):
        if cell["seed"] == 1:
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGKILL)
        return dict(answer=cell["seed"])

    table = run(tmp_path, expand(dict(system="spring", seed=[0, 1, 2, 3])), work=deadly, jobs=2)
    assert table["error"].tolist() == ["", "its process died 3 times (out of memory?)", "", ""]


def test_a_dask_cluster_of_two_workers_gives_the_same_table(tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra [cluster] is not installed")

    def rested():
        time.sleep(0.1)
        return os.getpid()

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        where = run(tmp_path / "pids", work=lambda cell: dict(pid=rested()), dask=cluster.scheduler_address)
        assert os.getpid() not in set(where["pid"]) and where["pid"].nunique() == 2
        pd.testing.assert_frame_equal(run(tmp_path / "a", dask=cluster.scheduler_address), run(tmp_path / "b"))


def test_a_killed_dask_worker_loses_nothing(tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra [cluster] is not installed")

    def mortal(cell, flag=str(tmp_path / "died")):
        if cell["seed"] == 1 and not os.path.exists(flag):
            open(flag, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return dict(answer=cell["seed"])

    cells = expand(dict(system="spring", seed=[0, 1, 2, 3]))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        table = run(tmp_path / "sweep", cells, work=mortal, dask=cluster.scheduler_address)
    assert os.path.exists(tmp_path / "died") and table["answer"].tolist() == [0, 1, 2, 3]


def test_no_scheduler_gets_one_line(tmp_path):
    pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
    with pytest.raises(UserError, match="no scheduler answers"):
        run(tmp_path, dask="tcp://127.0.0.1:9")


def test_a_scheduler_that_does_not_answer_is_not_asked_again_by_others(tmp_path):
    pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
    with pytest.raises(UserError, match="no scheduler answers") as caught:
        run(tmp_path, dask="nowhere://1")
    xr.Dataset(dict(a=("x", [1.0]))).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert xr.load_dataset(tmp_path / "a.nc")["a"].item() == 1 and caught  # with all that it holds


def test_dask_is_named_when_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"symbolic_gn\[cluster\]"):
        run(tmp_path, dask="tcp://127.0.0.1:9")


# what a cell may be

MISTAKES = [
    ("system = 1", "write .*grid.* tables"),
    ("[[grid]]\nmodel = 'l1'", "system is missing"),
    ("[[grid]]\nsystem = 'sprng'", "did you mean 'spring'"),
    ("[[grid]]\nsystem = 'spring'\nmodle = 'l1'", "did you mean 'model'"),
    ("[[grid]]\nsystem = 'spring'\nmodel = 'l2'", "model 'l2' is unknown"),
    ("[[grid]]\nsystem = 'spring'\nloss = 'rad'", "loss 'rad' is unknown"),
    ("[[grid]]\nsystem = 'spring'\nseed = 'a'", "seed is 'a'; it must be a whole number"),
    ("[[grid]]\nsystem = 'spring'\ndim = 5", "dim is 5"),
    ("[[grid]]\nsystem = 'spring'\nnoise = 1.5", "noise is 1.5"),
    ("[[grid]]\nsystem = 'spring'\nhidden = 'colour'", "choose from charge, mass"),
    ("[[grid]\n", "is not TOML"),
    ("[[grid]]\nsystem = 'spring'\nsettings = {lrr = 1}", "did you mean 'lr'"),
    ("[[grid]]\nsystem = 'spring'\nsettings = {seed = 1}", "setting 'seed' is unknown"),
    ("[[grid]]\nsystem = 'spring'\nsettings = 3", "settings is 3; it must be a table"),
    ("[[grid]]\nsystem = 'spring'\nengine_settings = [1]", r"engine_settings is \[1\]; it must be a table"),
    ("[[grid]]\nsystem = 'spring'\nbudget = 'huge'", "budget 'huge' is unknown"),
    ("[[grid]]\nsystem = 'spring'\nengine = 'oberon'", "did you mean 'operon'"),
]


@pytest.mark.parametrize("text, told", MISTAKES)
def test_a_bad_grid_gets_one_line_on_the_command_line(tmp_path, capsys, text, told):
    grid = tmp_path / "grid.toml"
    grid.write_text(text)
    with pytest.raises(UserError, match=told):
        read_grid(grid)
    with pytest.raises(SystemExit) as ended:
        cli.main(["sweep", str(grid), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().err
    assert ended.value.code == 2 and shown.count("\n") == 1 and str(grid) in shown
    assert not (tmp_path / "out").exists()


def test_the_shell_runs_a_grid(tmp_path, monkeypatch, capsys):
    (tmp_path / "grid.toml").write_text("[[grid]]\nsystem = ['spring', 'r1']\nseed = [0, 1]")
    quiet = functools.partial(sweep, work=triple, progress=False)
    monkeypatch.setattr(importlib.import_module("symbolic_gn.sweep"), "sweep", quiet)
    grid, out, csv = (str(tmp_path / name) for name in ("grid.toml", "out", "table.csv"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["sweep", grid, "--out", out, "--csv", csv])
    assert ended.value.code == 0 and "4 cells" in capsys.readouterr().out
    first = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[0])
    assert len(pd.read_csv(csv)) == 4 and set(first) == {"key", "cell", "row", "error", "sha256"}


def test_a_cell_depends_on_all_that_it_names():
    cells = [dict(system="spring"), dict(system="spring", noise=0.01), dict(system="spring", hidden="mass"),
             dict(system="spring", noise=0.01, hidden="mass"), dict(system="spring", dim=3), dict(system="r1"),
             dict(system="spring", model="l1"), dict(system="spring", loss="mse"), dict(system="spring", engine="pysr")]
    assert len({key_of(expand(cell)[0]) for cell in cells[:-1]}) == len(cells) - 1
    settled = settle_cell(expand(cells[2])[0])
    assert settled["settings"]["model"] == "lookup", "the model that suits the source"


@pytest.fixture
def know(monkeypatch):
    "A cell of a system whose law an engine knows."
    def cell(law, **axes):
        def engine(X, y, names, **settings):
            return Front.of([(parse(law, ["r", "m_i", "m_j", "q_i", "q_j"]), 0.1)])

        monkeypatch.setitem(ENGINES, "know", engine)
        return expand(dict(engine="know", budget="tiny", **axes))[0]

    return cell


def row_of(cell) -> dict:
    "The row of a real discovery, in this process."
    record = run_cell("key", cell)
    assert record["error"] == "", record["error"]
    return record["row"]


def test_cells_with_noise_run(know):
    row = row_of(know("2*r - 1.98", system="spring", noise=0.01, settings=dict(steps=5)))
    assert (row["system"], row["noise"], row["hidden"], row["engine"]) == ("spring", 0.01, None, "know")
    assert row["recovered"] is True and row["measured_misfit"] > 0


def test_cells_with_a_hidden_property_run(know, tmp_path):
    rng, charge, law = np.random.default_rng(0), np.array([1.0, -0.7, 1.6, -1.2, 0.5]), "-q_i*q_j/(r + 0.1)**2"
    x = rng.normal(size=(12, 20, 5, 2))
    a = Law.of(law).accelerations(x, charge=np.broadcast_to(charge, (12, 1, 5)))
    from_arrays(x, np.zeros_like(x), a, charge=charge, dt=0.1).save(tmp_path / "charged.nc")
    row = row_of(know(law, system=str(tmp_path / "charged.nc"), hidden="charge", settings=dict(steps=150)))
    assert (row["hidden"], row["model"], row["recovered"]) == ("charge", "lookup", None)
    assert row["value_charge_0"] and row["error_charge_0"] is not None


def test_cells_of_planets_run(brief):
    pytest.importorskip("de421", reason="the extra [planets] is not installed")
    pytest.importorskip("jplephem", reason="the extra [planets] is not installed")
    row = row_of(expand(dict(system="planets", engine=brief, budget="tiny"))[0])
    assert row["system"] == "planets" and row["model"] == "orrery" and row["value_mass_sun"] == 1
