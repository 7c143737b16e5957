"The command line: the whole chain, one line for each mistake, Ctrl-C, and the real command in processes of their own."
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import symbolic_gn
from symbolic_gn import cli
from symbolic_gn.core.contracts import ENGINES, SOURCES
from symbolic_gn.data.trajectories import Trajectories
from symbolic_gn.distill import Distillation
from symbolic_gn.laws.law import Law
from symbolic_gn.models import MODELS
from symbolic_gn.search.front import Front
from symbolic_gn.training.runs import Run
from symbolic_gn.worlds.systems import SYSTEMS

WALK = importlib.import_module("symbolic_gn.discover")  # `symbolic_gn.discover` is the function
STAGES = ["load", "train", "analyze", "distill", "check"]
COMMAND = [sys.executable, "-c", "from symbolic_gn.cli import main; main()"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore"}
SMALL = ["--set", 'architecture={"hidden": 8, "layers": 1}', "--set", "batch=8", "--device", "cpu"]


def assert_mistake(answer, *words):
    "A command ended with one line and code 2."
    code, _, err = answer
    assert code == 2 and err.startswith("symbolic-gn: ") and err.count("\n") == 1 and "Traceback" not in err, answer
    assert all(word in err for word in words), err


@pytest.fixture(scope="module")
def data(springs, tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "springs.nc"
    springs.save(path)
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "run"
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", str(data), "--out", str(folder), "--steps", "20", "--model", "newton", *SMALL])
    assert ended.value.code == 0
    return folder


# the chain


def test_help_names_every_command(run):
    code, out, _ = run("--help")
    commands = "systems models engines simulate train analyze distill discover sweep tables"
    assert code == 0 and all(word in out for word in commands.split())
    options = dict(discover="--budget", train="--resume", simulate="--sims", distill="--operators", sweep="--dask")
    for command, option in options.items():
        code, out, _ = run(command, "--help")
        assert code == 0 and option in out


def test_systems_are_listed_with_their_laws(run):
    code, out, _ = run("systems")
    assert code == 0 and len(out.splitlines()) == len(SYSTEMS) + len(SOURCES)
    assert re.search(r"spring .*: 2\*r - 1\.98", out)


def test_models_and_engines_are_listed(run, brief, monkeypatch):
    code, out, _ = run("models")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == list(MODELS) and MODELS["l1"].idea in out
    monkeypatch.setattr("symbolic_gn.search.pysr.find_julia", lambda: None)
    code, out, _ = run("engines")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == list(ENGINES) and brief in out
    assert re.search(r"pysr +not here: .*Julia", out)


def test_what_cannot_be_loaded_is_listed_with_the_reason(run, monkeypatch):
    for registry, command in ((SOURCES, "systems"), (ENGINES, "engines")):
        monkeypatch.setattr(registry, "entries", registry.entries | {"broken": "symbolic_gn.nowhere:thing"})
        code, out, _ = run(command)
        assert code == 0 and re.search(r"broken +not here: .*symbolic_gn.nowhere:thing", out)


def test_from_simulation_to_law(run, tmp_path, brief):
    path, folder = tmp_path / "data.nc", tmp_path / "run"
    code, out, _ = run("simulate", "spring", "--out", path, "--sims", 12, "--steps", 10, "--seed", 3)
    assert code == 0 and str(path) in out and "12 simulations x 10 frames x 4 bodies in 2-D" in out
    assert Trajectories.load(path).dt == pytest.approx(0.05)  # every fifth step, as in the original
    code, out, err = run(
        "train", path, "--out", folder, "--steps", 12, "--loss", "mse", "--seed", 2, "--set", "lr=1e-3", *SMALL
    )
    config = Run.load(folder).config
    assert code == 0 and "Run(newton on spring, mse: step 12" in out and "12/12" in err
    found = (config.steps, config.loss, config.seed, config.lr, config.batch, config.device)
    assert found == (12, "mse", 2, 1e-3, 8, "cpu")
    assert config.architecture == dict(hidden=8, layers=1) and "message_r2" in Run.load(folder).history
    code, out, _ = run("analyze", folder)
    assert code == 0 and json.loads((folder / "analysis.json").read_text())["messages_are"] == "force"
    assert {"sparsity.png", "rotation.png"} <= {p.name for p in (folder / "figures").iterdir()}
    assert "sparsity.png" in out
    code, out, _ = run("distill", folder, "--engine", brief, "--seed", 1, "--time-limit", 60)
    assert code == 0 and "true   force = 2*r - 1.98" in out and "recovered" in out and "complexity" in out
    assert Law.from_json(folder / "law.json").target == "force" and len(Front.from_csv(folder / "front.csv").table)
    assert (folder / "search.csv").exists()


def test_resume_goes_on(run, data, trained, tmp_path):
    options = ["train", data, "--out", tmp_path / "run", "--steps", 20, *SMALL]
    assert run(*options, "--time-limit", 1e-9)[0] == 0
    code, out, _ = run(*options, "--resume")
    assert code == 0 and "step 20" in out and "unfinished" not in out
    columns = ["step", "mae", "r2"]
    last = [Run.load(folder).history[columns].iloc[-1].tolist() for folder in (tmp_path / "run", trained)]
    assert last[0] == last[1]


def test_a_run_that_was_cut_short_says_so(run, data, tmp_path):
    code, out, _ = run("train", data, "--out", tmp_path / "run", "--steps", 100000, "--time-limit", 0.3, *SMALL)
    assert (
        code == 0 and "unfinished" in out and "go on with --resume" in out and not Run.load(tmp_path / "run").finished
    )


def test_other_data_can_be_named(run, trained, tmp_path, springs3, springs):
    springs.select(simulations=slice(6)).save(tmp_path / "other.nc")
    assert run("analyze", trained, "--data", tmp_path / "other.nc")[0] == 0
    springs3.save(tmp_path / "flat.nc")
    assert_mistake(run("analyze", trained, "--data", tmp_path / "flat.nc"), "2-D")


def test_a_run_without_a_source_asks_for_data(run, trained, tmp_path, monkeypatch):
    config = json.loads((trained / "config.json").read_text())
    for source, words in ((None, ["--data"]), (str(tmp_path / "gone.nc"), ["gone.nc does not exist"])):
        changed = {name: value for name, value in config.items() if name != "sha256"}
        (trained / "config.json").write_text(json.dumps({**changed, "source": source}))
        assert_mistake(run("analyze", trained), *words)
    (trained / "config.json").write_text(json.dumps(config))


def test_discover_tells_law_truth_and_where_the_rest_is(run, data, brief, tmp_path):
    code, out, err = run(
        "discover", data, "--budget", "tiny", "--engine", brief, "--out", tmp_path / "out", "--set", "lr=1e-3"
    )
    assert code == 0 and out.startswith("found  ") and "true   force = 2*r - 1.98" in out and "report.md" in out
    assert [line.split()[0].rstrip(":") for line in err.splitlines()][::2] == STAGES
    code, out, _ = run("discover", data, "--budget", "tiny", "--engine", brief)
    assert code == 0 and "--out DIR keeps" in out


def test_tables_are_written_into_a_checkout(run, tmp_path):
    house = Path(symbolic_gn.__file__).parents[1]
    if not (house / "nbs/results").exists():
        pytest.skip("the package is installed without its checkout")
    shutil.copytree(house / "nbs/results", tmp_path / "nbs/results")
    shutil.copy(house / "nbs/07_tables.ipynb", tmp_path / "nbs")
    (tmp_path / "README.md").write_text("# mine\n\n<!-- table: summary -->\n<!-- end -->\n")
    code, out, _ = run("tables", tmp_path)
    assert code == 0 and out.strip() == f"{tmp_path / 'README.md'}: written"
    assert "| measured |" in (tmp_path / "README.md").read_text()
    assert run("tables", tmp_path)[1].strip() == "nothing changed"
    code, _, err = run("tables", tmp_path / "nbs")
    assert code == 2 and "is no checkout" in err and err.count("\n") == 1


# mistakes


WORDS = [
    (["nope"], ["nope"]), (["simulate", "spring"], ["--out"]), (["train"], ["argument", "data"]),
    (["discover", "spring", "--nope"], ["--nope"]), (["simulate", "sprng", "--out", "x.nc"], ["'sprng'", "spring"]),
    (["simulate", "spring", "--out", "OUT/x.txt"], ["x.txt", ".nc"]),
    (["simulate", "spring", "--out", "x.nc", "--sims", "some"], ["--sims", "integer"]),
    (["simulate", "spring", "--out", "x.nc", "--sims", "0"], ["simulations is 0"]),
    (["simulate", "spring", "--out", "x.nc", "--bodies", "1"], ["bodies is 1"]),
    (["simulate", "spring", "--out", "x.nc", "--dim", "4"], ["dim is 4"]),
    (["discover", "spring", "--noise", "2", "--out", "OUT"], ["noise is 2.0"]),
    (["discover", "spring", "--hidden", "colour", "--out", "OUT"], ["'colour'", "charge, mass"]),
    (["discover", "planets", "--budget", "huge", "--out", "OUT"], ["budget 'huge' is unknown"]),
    (["simulate", "spring", "--out", "x.nc", "--sims", "2000000000"], ["GB of memory", "are free"]),
    (["train", "DATA", "--out", "OUT", "--model", "netwon"], ["model 'netwon'", "newton"]),
    (["train", "DATA", "--out", "OUT", "--loss", "rad"], ["loss 'rad'", "mae, mse, huber"]),
    (["train", "DATA", "--out", "OUT", "--set", "lr"], ["--set lr", "NAME=VALUE"]),
    (["train", "DATA", "--out", "OUT", "--set", "speed=3"], ["'speed'", "lr"]),
    (["train", "DATA", "--out", "OUT", "--set", "lr=0"], ["lr is 0"]),
    (["train", "DATA", "--out", "OUT", "--steps", "-3"], ["steps is -3"]),
    (["train", "DATA", "--out", "OUT", "--seed", "-3"], ["seed is -3"]),
    (["train", "OUT/nowhere.nc", "--out", "OUT/run"], ["nowhere.nc does not exist"]),
    (["train", "TEXT", "--out", "OUT/run"], ["text.nc is no readable NetCDF file"]),
    (["analyze", "OUT"], ["config.json is missing"]), (["distill", "OUT"], ["config.json is missing"]),
    (["discover", "sprng", "--out", "OUT"], ["'sprng'", "spring"]),
    (["discover", "spring", "--out", "OUT", "--model", "netwon"], ["newton"]),
    (["discover", "spring", "--out", "OUT", "--engine", "eureqa"], ["'eureqa'", "operon"]),
    (["discover", "spring", "--out", "OUT", "--loss", "rad"], ["'rad'"]),
    (["discover", "spring", "--out", "OUT", "--budget", "huge"], ["quick"]),
    (["discover", "spring", "--resume"], ["--resume needs --out"]),
    (["discover", "spring", "--set", "lr=-1"], ["lr is -1"])
]


@pytest.mark.parametrize("arguments, words", WORDS, ids=lambda v: " ".join(v))
def test_a_mistake_gets_one_line_and_writes_nothing(arguments, words, run, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.nc").write_text("no trajectories")
    places = {"DATA": str(data), "TEXT": str(tmp_path / "text.nc")}
    assert_mistake(run(*(places.get(a, a.replace("OUT", str(tmp_path / "out"))) for a in arguments)), *words)
    assert [p.name for p in tmp_path.rglob("*")] == ["text.nc"]


LATE = [
    ["discover", "TEXT"], ["discover", "OUT/nowhere.nc"], ["discover", "spring", "--bodies", "1"],
    ["discover", "spring", "--dim", "4"]
]


@pytest.mark.parametrize("arguments", LATE, ids=" ".join)
def test_a_mistake_in_the_data_is_told_before_anything_begins(arguments, run, tmp_path):
    (tmp_path / "text.nc").write_text("no trajectories")
    arguments = [a.replace("OUT", str(tmp_path)).replace("TEXT", str(tmp_path / "text.nc")) for a in arguments]
    assert_mistake(run(*arguments, "--budget", "tiny", "--out", tmp_path / "out"))
    assert [p.name for p in tmp_path.rglob("*")] == ["text.nc"]


def test_a_mistake_in_the_data_gets_one_last_line(run, tmp_path):
    (tmp_path / "text.nc").write_text("no trajectories")
    for source in ("text.nc", "nowhere.nc"):
        code, _, err = run("discover", tmp_path / source, "--budget", "tiny", "--out", tmp_path / "out")
        assert (
            code == 2
            and err.splitlines()[-1].startswith("symbolic-gn: ")
            and source in err.splitlines()[-1]
            and "Traceback" not in err
        )


TYPES = [
    "lr=fast", "steps=1.5", "batch=2.5", "architecture=3", 'architecture={"hiden": 3}', 'architecture={"hidden": "a"}',
    "device=nosuch", "device=cuda", "batch=100000000000", "seed=1e99"
]


@pytest.mark.parametrize("setting", TYPES)
def test_a_setting_that_cannot_work_gets_one_line(setting, run, data, tmp_path):
    import torch
    if setting == "device=cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert_mistake(
        run("train", data, "--out", tmp_path / "out", "--steps", 3, "--set", setting), setting.partition("=")[0]
    )
    assert not list(tmp_path.iterdir())


def test_an_output_below_a_file_is_named(run, data, trained, tmp_path):
    (tmp_path / "file").write_text("")
    assert_mistake(run("train", data, "--out", tmp_path / "file" / "run", *SMALL), "file/run", "cannot be written")
    assert_mistake(
        run("discover", data, "--budget", "tiny", "--out", tmp_path / "file" / "out"), "file/out", "cannot be written"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_simulation_below_a_file_is_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    assert_mistake(
        run("simulate", "spring", "--out", tmp_path / "file" / "x.nc", "--sims", 3, "--steps", 3), "x.nc",
        "cannot be written",
    )
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_engine_without_its_runtime_says_how_to_get_it(run, trained, monkeypatch):
    monkeypatch.setattr("symbolic_gn.search.pysr.find_julia", lambda: None)
    assert_mistake(run("distill", trained, "--engine", "pysr"), "needs Julia", "operon")
    assert not (trained / "law.json").exists()


def test_other_settings_do_not_resume(run, data, trained):
    assert_mistake(
        run("train", data, "--out", trained, "--steps", 20, "--resume", "--loss", "mse", *SMALL), "loss = 'mae'",
        "'mse'",
    )


def test_an_error_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr(WALK, "discover", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["discover", "spring"])


@pytest.fixture
def asked(monkeypatch):
    "What `discover` is asked for; nothing is done."
    found = {}

    def record(source, **options):
        found.update(options, source=source)
        raise KeyboardInterrupt

    monkeypatch.setattr(WALK, "discover", record)
    return found


def test_options_reach_the_walk(run, asked):
    run("discover", "spring", "--noise", 0.02, "--hidden", "mass", "--dim", 3, "--bodies", 5, "--loss", "mse",
        "--operators", "+, -,exp", "--steps", 7, "--seed", 4, "--budget", "tiny", "--set", "lr=1e-3")
    source = asked["source"]
    assert (source.noise, source.hidden, source.bodies) == (0.02, "mass", 5) and source.default_model == "lookup"
    wanted = dict(loss="mse", operators=["+", "-", "exp"], steps=7, seed=4, budget="tiny", lr=1e-3, model=None)
    assert {key: asked[key] for key in wanted} == wanted


def test_a_setting_may_be_an_option(run, asked):
    run("discover", "spring", "--set", "seed=3", "--set", "loss=huber")
    assert (asked["seed"], asked["loss"], asked["operators"]) == (3, "huber", None)


def test_planets_are_a_source_like_any_other(run, asked):
    run("discover", "planets", "--model", "newton")
    assert asked["source"].name == "planets" and asked["model"] == "newton"


def test_a_network_that_is_a_formula_is_read(run, data, trained, monkeypatch):
    law = Law.of("2.31*r - 2.07")
    front = Front.of([(law.sympy, 0.1)])
    said = Distillation(law, front, [front], None, {}, False, 0.0)
    monkeypatch.setattr("symbolic_gn.models.NewtonNetwork.read", lambda self, heard, objective: said)
    monkeypatch.setattr(importlib.import_module("symbolic_gn.distill"), "search", lambda *a, **k: 1 / 0)
    code, out, _ = run("distill", trained, "--data", data)
    assert code == 0 and "found  force = 2.31*r - 2.07" in out and "not recovered" in out


def test_settings_are_read_as_json_or_text():
    assert cli.given(steps=3, loss=None, pairs=["lr=1e-3", "schedule=cosine", "legacy=true", "name=a=b"]) == dict(
        steps=3, lr=1e-3, schedule="cosine", legacy=True, name="a=b")
    assert cli.given(pairs=None) == {}


def test_complaints_are_one_line(capsys):
    assert cli.complain("a\nb\n  c", 3) == 3
    assert capsys.readouterr().err == "symbolic-gn: a b c\n"


def test_an_interruption_is_told(run, monkeypatch):
    def stopped(*args, **options):
        raise KeyboardInterrupt("training stopped at step 3; go on with --resume")
    monkeypatch.setattr(WALK, "discover", stopped)
    code, _, err = run("discover", "spring")
    assert code == 130 and "step 3; go on with --resume" in err


def test_an_interruption_has_its_code(run, monkeypatch):
    def stopped(*args, **options):
        raise KeyboardInterrupt
    monkeypatch.setattr(WALK, "discover", stopped)
    assert run("discover", "spring")[0] == 130


# the real command


def press_when(process, stream, sign) -> str:
    "Read a stream until a sign comes, press Ctrl-C, and read the rest."
    said = b""
    while part := read(stream):
        said += part
        if sign and re.search(sign, said):
            process.send_signal(signal.SIGINT)
            sign = None
    return said.decode()


def read(stream) -> bytes:
    try:
        return os.read(stream, 4096)
    except OSError:
        return b""  # the other end of a terminal was closed


@pytest.fixture(scope="module")
def processes(data, tmp_path_factory):
    "Three commands at once: one ends, two are interrupted in training."
    home = tmp_path_factory.mktemp("real")
    installed = Path(sys.executable).with_name("symbolic-gn")
    command = [str(installed)] if installed.exists() else COMMAND
    options = dict(env=ENVIRONMENT, cwd=home, stdout=subprocess.PIPE)
    import pty
    import termios
    mine, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 200))  # tqdm shows no bar where there is no width
    small = ["--steps", "2500", *SMALL]
    with open(home / "err.txt", "w") as log:
        whole = subprocess.Popen(
            [*command, "discover", "spring", "--budget", "tiny", "--out", "whole"], stderr=log, **options
        )
    train = subprocess.Popen(
        [*command, "train", str(data), "--out", "train", *small], stderr=subprocess.PIPE, **options
    )
    stop = subprocess.Popen(
        [*command, "discover", str(data), "--budget", "tiny", "--out", "stop", *small], stderr=theirs, **options
    )
    os.close(theirs)
    watched = {"train": (train, train.stderr.fileno()), "stop": (stop, mine)}
    with ThreadPoolExecutor() as pool:  # both at once: neither may end while the other is waited for
        begun = {name: pool.submit(press_when, *one, rb" [1-9]\d*/2500") for name, one in watched.items()}
        err = {name: one.result() for name, one in begun.items()}
    os.close(mine)
    found = {name: (p.wait(60), p.stdout.read().decode(), err[name]) for name, p in (("train", train), ("stop", stop))}
    found["whole"] = whole.wait(120), whole.stdout.read().decode(), (home / "err.txt").read_text()
    for process in (train, stop, whole):
        process.stdout.close()
    train.stderr.close()
    return home, found


def test_the_real_command_discovers_the_spring(processes):
    home, found = processes
    code, out, err = found["whole"]
    assert code == 0, err
    assert out.splitlines()[:3] == ["found  force = 2*r - 1.98", "true   force = 2*r - 1.98", "recovered (symbolic)"]
    stored = json.loads((home / "whole" / "discovery.json").read_text())
    keys = {
        "system", "dim", "bodies", "model", "loss", "engine", "operators", "seed", "budget", "units", "law", "true_law",
        "recovered", "recovered_by", "verdict", "r2", "alignment", "from_messages", "error", "energy_drift", "seconds",
        "versions", "device",
    }
    assert keys <= set(stored) and stored["recovered"] is True
    assert (stored["system"], stored["budget"], stored["verdict"]["grade"]) == ("spring", "tiny", "found")
    assert stored["law"]["constants"]["c0"][0] == pytest.approx(2, rel=0.01)
    assert (home / "whole" / "report.md").exists() and len(list((home / "whole" / "figures").glob("*.png"))) >= 4
    files = {"data.nc", "discovery.json", "figures", "front.csv", "law.json", "report.md", "run", "search.csv"}
    files |= {"recipe.json"}
    assert {p.name for p in (home / "whole").iterdir()} == files
    assert "Traceback" not in err and [line.split()[0] for line in err.splitlines()][::2] == STAGES


def test_resuming_the_real_command_gives_the_same_law(processes, run):
    home, found = processes
    before = json.loads((home / "whole" / "discovery.json").read_text())
    code, out, _ = run("discover", "spring", "--budget", "tiny", "--out", home / "whole", "--resume")
    after = json.loads((home / "whole" / "discovery.json").read_text())
    assert code == 0 and out.splitlines()[:3] == found["whole"][1].splitlines()[:3]
    assert {k: v for k, v in after.items() if k != "seconds"} == {k: v for k, v in before.items() if k != "seconds"}


def test_control_c_in_training_keeps_the_run(processes, run, data):
    home, found = processes
    code, out, err = found["train"]
    assert code == 130 and not out and "unfinished" in err and "go on with --resume" in err and "Traceback" not in err
    kept = Run.load(home / "train")
    assert not kept.finished and 0 < kept.history["step"].iloc[-1] < 2500
    code, out, _ = run("train", data, "--out", home / "train", "--resume", "--steps", 2500, *SMALL)
    assert code == 0 and "step 2500" in out and Run.load(home / "train").finished


def test_control_c_in_training_has_its_code(processes):
    assert processes[1]["train"][0] == 130


def test_control_c_in_discover_keeps_the_run(processes):
    home, found = processes
    code, _, err = found["stop"]
    assert code == 130 and "Traceback" not in err and "distill" not in err
    kept = Run.load(home / "stop" / "run")
    assert not kept.finished and 0 < kept.history["step"].iloc[-1] < 2500
    assert not (home / "stop" / "discovery.json").exists()


def test_control_c_in_discover_says_what_was_kept(processes):
    said = processes[1]["stop"][2]
    assert "training stopped at step" in said and "--resume" in said


def test_an_interrupted_discover_goes_on(processes, run, brief, data):
    home, _ = processes
    reached = int(Run.load(home / "stop" / "run").history["step"].iloc[-1])
    code, out, _ = run(
        "discover", data, "--budget", "tiny", "--engine", brief, "--out", home / "stop", "--resume", "--steps", 2500,
        *SMALL
    )
    history = Run.load(home / "stop" / "run").history
    assert code == 0 and "found" in out and reached in set(history["step"]) and history["step"].iloc[-1] == 2500


# an engine of another package

ENGINE = """
    "An engine that knows the answer."
    from symbolic_gn.laws.formula import parse
    from symbolic_gn.search.front import Front

    def guess(X, y, names, **settings):
        "Knows the answer."
        return Front.of([(parse("2*r - 2", ["r"]), 0.1)])
"""
USE = """
    import sys
    from symbolic_gn.cli import main
    from symbolic_gn.discover import discover

    def shell(*words):
        try:
            main([*words])
        except SystemExit as stop:
            assert stop.code == 0, words

    data, grid = sys.argv[1:]
    found = discover(data, engine="guess", budget="tiny", steps=5, progress=False)
    assert found.summary["engine"] == "guess" and found.recovered
    shell("engines")
    shell("discover", data, "--engine", "guess", "--budget", "tiny", "--steps", "5", "--out", "found")
    shell("sweep", grid, "--out", "swept")
"""


def test_an_engine_of_another_package_is_known_everywhere(data, tmp_path):
    "In Python, on the command line and in sweeps, by an entry point alone."
    about = tmp_path / "site" / "guessing-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: guessing\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[symbolic_gn.engines]\nguess = guessing:guess\n")
    (about.parent / "guessing.py").write_text(textwrap.dedent(ENGINE))
    grid = f"[[grid]]\nsystem = {json.dumps(str(data))}\nengine = 'guess'\nbudget = 'tiny'\nsettings = {{steps = 5}}"
    (tmp_path / "grid.toml").write_text(grid)
    path = os.pathsep.join(filter(None, [str(about.parent), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", textwrap.dedent(USE), str(data), str(tmp_path / "grid.toml")]
    environment = {**ENVIRONMENT, "PYTHONPATH": path}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"guess +Knows the answer", ran.stdout)
    assert json.loads((tmp_path / "found" / "discovery.json").read_text())["engine"] == "guess"
    row = json.loads((tmp_path / "swept" / "results.jsonl").read_text())
    assert row["error"] == "" and row["row"]["engine"] == "guess" and row["row"]["recovered"] is True
