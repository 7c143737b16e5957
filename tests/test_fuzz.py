"""Options, arrays, files and stored objects as they should not be: each is taken, or refused in one line, and soon.

200 cases are drawn, always the same ones; `FUZZ=2000 pytest tests/test_fuzz.py` draws 2,000, `FUZZ_SEED=1` others.
"""
import contextlib
import io
import json
import os
import re
import shutil
import signal
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from symbolic_gn import cli
from symbolic_gn.core.errors import UserError
from symbolic_gn.core.folders import digest_of, read_object
from symbolic_gn.data.trajectories import Trajectories, from_arrays
from symbolic_gn.laws.law import Law
from symbolic_gn.search.engines import search
from symbolic_gn.search.estimator import SymbolicRegressor
from symbolic_gn.search.front import Front
from symbolic_gn.sweep import read_grid, read_ledger
from symbolic_gn.train import fit
from symbolic_gn.training.checkpoints import checked_parts
from symbolic_gn.training.runs import Run

CASES = int(os.environ.get("FUZZ", 200))
SEED = os.environ.get("FUZZ_SEED")
LONGEST = 10  # seconds of the processor for one case
SHARES = {"commands": 0.4, "files": 0.4, "arrays": 0.12, "tables": 0.08}


def fuzzed(share: str, *strategies):
    "A test of so many cases, none of which takes too long."
    def wrap(test):
        number = max(5, round(CASES * SHARES[share]))
        some = settings(max_examples=number, derandomize=SEED is None, deadline=None, database=None,
                        suppress_health_check=list(HealthCheck))
        return some(seed(int(SEED))(given(*strategies)(test)) if SEED else given(*strategies)(test))
    return wrap


@contextlib.contextmanager
def soon():
    "An alarm, where there is one: so long on the processor, and six times as long with waiting."
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(number, frame):
        raise AssertionError(f"more than {LONGEST} s")

    clocks = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
    before = {number: signal.signal(number, ring) for number in clocks}
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    signal.setitimer(signal.ITIMER_REAL, 6 * LONGEST)
    try:
        yield
    finally:
        for number, clock in clocks.items():
            signal.setitimer(clock, 0)
            signal.signal(number, before[number])


def asked(words) -> tuple[int, list[str]]:
    "Exit code of a command, and what it says on standard error."
    said = io.StringIO()
    with soon(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stderr(said), pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
    return ended.value.code, [line for line in said.getvalue().splitlines() if line.startswith("symbolic-gn:")]


def taken(call, *words, allowed=UserError, **options):
    "What a call gives; None where it is refused with one line."
    try:
        with soon(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(*words, **options)
    except allowed as error:
        assert str(error) and (not isinstance(error, UserError) or "\n" not in str(error))
        return None


# what is stored


SMALL = dict(steps=8, batch=16, architecture=dict(hidden=8, layers=1), device="cpu", precision="32-true")
TOLD = [word for name, value in SMALL.items() for word in ("--set", f"{name}={json.dumps(value)}")]
GRID = '[[grid]]\nsystem = ["spring", "r1"]\nseed = [0, 1]\nnoise = 0.01\nbudget = "tiny"\n[grid.settings]\nlr = 1e-3\n'
LAW = "2*m_i*m_j/(r + 0.01)**2 - 0.5*log(r) + q_i*q_j"


@pytest.fixture(scope="module")
def home(springs, tmp_path_factory):
    "Files of every kind that is read, whole."
    home = tmp_path_factory.mktemp("whole")
    springs.save(home / "data.nc")
    x = springs.position[:3]
    places = np.indices(x.shape[:3]).reshape(3, -1)
    table = pd.DataFrame(dict(zip(("simulation", "time", "body"), places)) | dict(zip("xy", x.reshape(-1, 2).T)))
    table.assign(time=0.05 * table["time"], mass=1.0 + table["body"]).round(5).to_csv(home / "data.csv", index=False)
    np.savez(home / "data.npz", position=x.astype(float), mass=springs.mass[:3].astype(float), dt=springs.dt)
    fit(Trajectories.load(home / "data.nc"), "newton", out=home / "run", looks=4, progress=False, **SMALL)
    (home / "law.json").write_text(Law.of(LAW).to_json())
    (home / "grid.toml").write_text(GRID)
    Front.of([(Law.of("2*r").sympy, 0.5), (Law.of(LAW).sympy, 0.1)]).to_csv(home / "front.csv")
    cells = [dict(system="spring", seed=k, settings={}) for k in range(3)]
    records = [dict(key=f"{k:016x}", cell=cell, row={}, error="") for k, cell in enumerate(cells)]
    (home / "results.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return home


@pytest.fixture(scope="module")
def whole(home):
    "What is read from the files while they are whole."
    return {name: read(home / name) for name, read in READERS.items()}


def read_run(path: Path):
    "Digest of all that a run is."
    run = Run.load(path.parent)
    return digest_of([run.model.state_dict(), run.history.to_dict("list"), run.data, run.finished, run.source])


def read_data(path: Path):
    "Digest of trajectories."
    data = Trajectories.load(path).data
    arrays = {str(name): array.values for name, array in data.variables.items()}
    return digest_of([arrays, {str(name): str(value) for name, value in data.attrs.items()}])


def read_law(path: Path) -> str:
    "A law that can be written, drawn in LaTeX and read again."
    law = Law.from_json(path)
    assert law.latex() and Law.from_json(law.to_json()).expr == law.expr
    return law.to_json()


READERS = {
    "data.nc": read_data, "run/config.json": read_run, "run/history.csv": read_run, "run/model.safetensors": read_run,
    "run/checkpoint.pt": lambda path: digest_of(checked_parts(path)), "law.json": read_law, "grid.toml": read_grid,
    "results.jsonl": read_ledger, "front.csv": Front.from_csv, "data.csv": lambda path: asked(["look", path]),
    "data.npz": lambda path: asked(["look", path]),
}
SEALED = ("data.nc", "run/history.csv", "run/model.safetensors", "run/checkpoint.pt")  # what is changed is refused


# files


WORDS = ["nan", "inf", "-1", "0", "1e999", "", "x", "[]", "null", "true", "1e308", '"a"', "{}", "0.5", "'", "\x00", "é"]
SHARE = st.floats(0, 1, exclude_max=True)
CHANGES = st.one_of(
    st.tuples(st.just("flip"), SHARE, st.integers(0, 7)),
    st.tuples(st.just("cut"), SHARE, st.just(0)),
    st.tuples(st.just("drop"), SHARE, st.integers(1, 40)),
    st.tuples(st.just("put"), SHARE, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("word"), SHARE, st.sampled_from(WORDS)),
    st.tuples(st.just("line"), SHARE, st.integers(0, 3)),
)


def changed(content: bytes, how: str, share: float, what) -> bytes:
    "Content with a bit flipped, its end cut off, bytes dropped or put in, a word or number replaced, a line repeated."
    k = int(share * len(content))
    if how == "flip":
        return content[:k] + bytes([content[k] ^ 1 << what]) + content[k + 1 :] if content else content
    if how == "cut":
        return content[:k]
    if how == "drop":
        return content[:k] + content[k + what :]
    if how == "put":
        return content[:k] + what + content[k:]
    if how == "line":
        lines = content.splitlines(keepends=True)
        place = int(share * len(lines))
        return b"".join(lines[:place] + lines[place : place + 1] * what + lines[place + 1 :])
    words = list(re.finditer(rb"[\w.+-]+", content))
    if not words:
        return content
    one = words[int(share * len(words))]
    return content[: one.start()] + what.encode() + content[one.end() :]


@fuzzed("files", st.sampled_from(list(READERS)), st.lists(CHANGES, min_size=1, max_size=2))
def test_a_changed_file_is_read_or_refused(home, whole, name, changes):
    before = (home / name).read_bytes()
    content = before
    for change in changes:
        content = changed(content, *change)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, name)
        shutil.copytree(home / "run", copy.parent) if copy.parent.name == "run" else None
        copy.write_bytes(content)
        found = taken(READERS[name], copy)
        if name.endswith(".json"):
            taken(read_object, copy, "")
    if name in SEALED and found is not None:
        assert found == whole[name]
    if isinstance(found, tuple):
        code, said = found
        assert (code, len(said)) in ((0, 0), (2, 1)), said


# the command line: options with what is good for them and what is not; (): any word is good


NUMBERS = ["x", "nan", "", "1e400", "--", "½"]
WHOLE = [*NUMBERS, "1.5", "1e3"]
DATA = {
    "--columns": (["time=time"], ["time", "time=", "time=nowhere", "=", "time=x,time=y", "planet=x"]),
    "--dt": ([], ["0", "-1", "7", *NUMBERS]),
    "--mass": (["1,2,3,4"], ["1", "0,0,0,0", "1,2,x,4", "no.csv", "a=1", "-1,1,1,1"]),
    "--charge": (["1,2,3,4"], ["1", "nan,1,1,1", "", "1,,2,3"]),
    "--box": (["1000,1000"], ["0.001", "-5", "x", "1,2,3,4"]),
    "--units": (["length=m,time=s,mass=kg"], [
        "length=m", "length=parsnip,time=s,mass=kg", "length", "=", "length=s,time=s,mass=kg"]),
}
TRAINING = {
    "--model": (["newton"], ["newtn", "", "NEWTON2", "eql,newton"]), "--loss": (["mae"], ["may", "", "0"]),
    "--steps": ([], ["0", "-5", *WHOLE]), "--seed": (["0", "3"], WHOLE), "--device": (["cpu"], ["tpu", "", "cuda:99"]),
    "--set": (["augment=1", "clip=1"], [
        "lr", "=3", "lr=0", "lr=x", "lr=-1", "batch=0", "batch=1.5", "nonsense=1", "architecture=3", "schedule=x",
        'architecture={"hidden":"x"}', 'architecture={"nothing":1}', "precision=3", "lr=[1]", "batch=null"]),
}
COMMANDS = {
    "systems": ([], {}), "models": ([], {}),
    "simulate": (["{spring}"], {
        "--out": (["{folder}/x.nc"], ["{folder}/x.csv", "{folder}/no/x.nc", "{folder}", "{folder}/x", "/dev/null", ""]),
        "--sims": (["2"], ["0", "-1", *WHOLE]), "--bodies": (["2", "3"], ["1", "0", "-3", *WHOLE]),
        "--dim": (["2"], ["1", "4", "0", *WHOLE]), "--steps": (["4"], ["0", "-1", *WHOLE]),
        "--every": (["1"], ["0", "-5", *WHOLE]), "--seed": (["0", "3"], WHOLE),
    }),
    "look": (["{csv}"], DATA | {"--out": (["{folder}/x.nc"], ["{folder}/x.csv", "{folder}", "{folder}/no/x.nc"])}),
    "train": (["{data}"], TRAINING | {"--out": (["{folder}/run"], ["{home}/run", "{home}", "{home}/data.nc/run"])}),
    "discover": (["{spring}", "{data}"], TRAINING | {
        "--engine": (["library"], ["libary", "", "operon,library"]), "--budget": (["tiny"], ["tinny", "", "0"]),
        "--noise": (["0.01"], ["-1", "2", *NUMBERS]), "--hidden": ([], ["spin", "position"]),
        "--operators": (["+,*"], ["+,power", "", ",", "sinn"]), "--dim": ([], ["0", "7", *WHOLE]),
        "--engine-set": (["time_limit=1"], ["time_limit=x", "nonsense=1", "time_limit", "seed=x"]),
        "--units": DATA["--units"], "--out": (["{folder}/found"], ["{home}/run", "{home}", "{home}/data.nc/run"]),
    }),
    "analyze": (["{folder}/none"], {"--data": (["{data}"], ["{home}", "{folder}/none.nc"])}),
    "distill": (["{folder}/none", "{home}"], {"--engine": (["library"], ["libary"]), "--seed": (["0"], WHOLE)}),
    "sweep": (["{home}/law.json", "{home}", "{folder}/no.toml"], {
        "--out": (["{folder}/s"], []), "--jobs": (["1"], WHOLE)}),
    "tables": (["{folder}", "{home}/law.json", "{folder}/none"], {}),
    "{nonsense}": ([""], {"--out": (["x"], [])}),
}
REFUSED = ("train", "discover", "analyze", "distill", "sweep", "tables", "{nonsense}")  # never all good: no long work


@st.composite
def commands(draw):
    "A command with options, and whether it can be done."
    name = draw(st.sampled_from(list(COMMANDS)))
    where, options = COMMANDS[name]
    words, good = [name, *([draw(st.sampled_from(where))] if where else [])], True
    bad = [option for option, (_, wrong) in options.items() if wrong]
    spoiled = draw(st.lists(st.sampled_from(bad), max_size=2)) if bad else []
    needed = ["--out"] if name in ("simulate", "train", "sweep") else []
    kept = draw(st.lists(st.sampled_from(sorted(options)), unique=True)) if options else []
    for option in dict.fromkeys([*needed, *kept, *spoiled]):
        right, wrong = options[option]
        if option in spoiled or not right:
            good = False
        choices = wrong if option in spoiled or not right else right
        words += [option, draw(st.sampled_from(choices))]
    if name in ("train", "discover") and good:  # nothing long
        words += ["--nonsense"]
    extra = draw(st.sampled_from([[]] * 8 + [["--nonsense"], ["more", "words"], ["--out"], ["--seed"]]))
    return [*words, *extra], good and not extra and name not in REFUSED


@fuzzed("commands", commands())
def test_a_command_is_done_or_refused(home, command):
    words, good = command
    with tempfile.TemporaryDirectory() as folder:
        places = dict(folder=folder, home=home, data=home / "data.nc", csv=home / "data.csv", spring="spring")
        spoken = [word.format_map(places | dict(nonsense="explode")) if "{" in word and '"' not in word else word
                  for word in words]
        times = lambda: {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
        before = times()
        code, said = asked(spoken)
    assert (code, len(said)) == ((0, 0) if good else (2, 1)), (spoken, code, said)
    assert times() == before


# arrays and tables


ODD = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e308, 1e-308, 1e30]


@st.composite
def arrays(draw):
    "Positions, masses, charges and a time step; something is wrong with most of them."
    shape = draw(st.sampled_from([(2, 6, 3, 2), (6, 3, 2), (2, 6, 3, 3), (1, 1, 2, 2), (2, 6, 1, 2), (0, 6, 3, 2),
                                  (2, 6, 3, 4), (2, 6, 3, 1), (6, 3), (6,), (), (1, 2, 2, 2), (2, 6, 0, 2)]))
    made = np.random.default_rng(draw(st.integers(0, 9))).normal(size=shape).cumsum(0) if shape else np.array(1.0)
    for place, value in draw(st.lists(st.tuples(SHARE, st.sampled_from(ODD)), max_size=2)):
        if made.size:
            made.reshape(-1)[int(place * made.size)] = value
    kind = draw(st.sampled_from(["f8", "f8", "f8", "f4", "i8", "c16", "O", "U9", "?"]))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = made.astype(kind)
    bodies = made.shape[-2] if made.ndim > 2 else 3
    values = st.lists(st.sampled_from([1.0, 2.0, *ODD]), min_size=max(0, bodies - 1), max_size=bodies + 1)
    dt = st.sampled_from([0.1, 1, 0, -1, np.nan, np.inf, "x", None, [1]])
    options = draw(st.fixed_dictionaries({"dt": dt}, optional={
        "mass": values, "charge": values, "box": st.sampled_from([10, 0, -1, "x", [1, 2, 3, 4], np.nan]),
        "topology": st.sampled_from(["all", "star", "ring", "", 3]), "spin": values, "axis": values,
        "velocity": st.sampled_from([made, made[..., :1] if made.ndim else made, "x"]),
    }))
    return made, options


@fuzzed("arrays", arrays())
def test_arrays_become_trajectories_or_are_refused(drawn):
    position, options = drawn
    data = taken(from_arrays, position, **options)
    if data is not None:
        assert all(np.isfinite(getattr(data, name)).all() for name in ("position", "velocity", "mass", "charge"))
        assert (data.mass > 0).all() and np.isfinite(data.dt) and data.dt > 0 and data.bodies > 1 and data.frames > 1


@st.composite
def tables(draw):
    "Inputs, a target and settings of a search; something is wrong with most of them."
    rows, columns = draw(st.sampled_from([(20, 2), (20, 1), (3, 2), (1, 1), (0, 2), (20, 0)]))
    X = np.random.default_rng(draw(st.integers(0, 9))).uniform(0.5, 2, (rows, columns))
    y = X.sum(1) ** 2
    for place, value in draw(st.lists(st.tuples(SHARE, st.sampled_from(ODD)), max_size=1)):
        target = draw(st.sampled_from([X, y]))
        if target.size:
            target.reshape(-1)[int(place * target.size)] = value
    names = draw(st.sampled_from([["a", "b"][:columns], ["a"], ["a", "a"], ["x y", "b"], ["", "b"], ["r", "log"]]))
    more = draw(st.fixed_dictionaries({}, optional=dict(
        operators=st.sampled_from([("+", "*"), (), ("+", "sinn"), ("",)]),
        weights=st.sampled_from([np.full(rows, w) for w in (1.0, 0.0, -1.0, np.nan)] + [np.ones(rows + 1)]),
        engine=st.sampled_from(["library", "libary", ""]), seed=st.sampled_from([0, 1]), nonsense=st.just(1))))
    return X, y, names, more


@fuzzed("tables", tables())
def test_a_table_is_searched_or_refused(drawn):
    X, y, names, more = drawn
    options = dict(engine="library", time_limit=0.2) | more
    front = taken(search, X, y, names, **options)
    if front is not None:
        assert len(front.table) and np.isfinite(y).all() and np.isfinite(X).all() and "nonsense" not in more
    told = dict(engine=options["engine"], time_limit=0.2, operators=more.get("operators"))
    weights = more.get("weights")
    taken(lambda: SymbolicRegressor(**told).fit(X, y, weights), allowed=ValueError)  # as scikit-learn refuses
