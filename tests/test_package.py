"The package as a whole: what imports what, what an import costs, one version, and a docstring everywhere."
import ast
import configparser
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import symbolic_gn

ROOM = Path(symbolic_gn.__file__).parent
HOUSE = ROOM.parent
EQL = ["eql.network", "eql.benchmark", "eql.digits", "eql.kinematics", "eql.oscillator", "eql.regressor"]
ORDER = ["errors", "simulate", "models", "train", "analyze", "distill", *EQL, "noise", "hamiltonian", "discover", "sweep", "planets", "properties", "cli"]  # design 1
LATER = {"models": {"distill", "eql.network", "eql.regressor"}, "distill": {"eql.regressor"}}  # entered only when a function needs them
FORBIDDEN = {"models": {"jax", "simulate"}, "simulate": {"torch"}, "distill": {"torch", "jax", "models", "train", "simulate", "analyze"},
             "errors": {"torch", "jax", "numpy"}}
checkout = pytest.mark.skipif(not (HOUSE / "settings.ini").exists(), reason="the package is installed without its checkout")


def path_of(name) -> Path: return ROOM / f"{name.replace('.', '/')}.py"


def imports(name, inside=True) -> set[str]:
    "Every module that a room imports, ours without the package's name; with or without those inside functions."
    tree = ast.parse(path_of(name).read_text())
    above = ["symbolic_gn", *name.split(".")]
    found = set()
    for node in ast.walk(tree) if inside else tree.body:
        if isinstance(node, ast.Import): found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            here = ".".join([*above[:-node.level], *filter(None, [node.module])] if node.level else [node.module])
            found |= {here} | {f"{here}.{a.name}" for a in node.names if here in ("symbolic_gn", "symbolic_gn.eql")}
    return {m.removeprefix("symbolic_gn.") if m.startswith("symbolic_gn.") else m.partition(".")[0] for m in found}


def test_every_room_has_its_place():
    found = {".".join(p.relative_to(ROOM).with_suffix("").parts) for p in ROOM.rglob("*.py")}
    assert {name for name in found if name.split(".")[-1] not in ("__init__", "_modidx")} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_run_downwards_only(name):
    below, ours = set(ORDER[:ORDER.index(name)]), {*ORDER}
    assert imports(name, inside=False) & ours <= below
    assert imports(name) & ours <= below | LATER.get(name, set())


@pytest.mark.parametrize("name", FORBIDDEN)
def test_rooms_do_not_know_what_they_need_not(name):
    least = imports(name, inside=False) if name in LATER else imports(name)  # a law writes itself for torch and jax when asked
    assert not least & FORBIDDEN[name]


@pytest.mark.parametrize("name", ORDER)
def test_everything_public_has_a_docstring(name):
    module = importlib.import_module(f"symbolic_gn.{name}")
    assert module.__doc__ and module.__all__
    bare = []
    for word in module.__all__:
        thing = getattr(module, word)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)) or thing.__module__ != module.__name__: continue
        if not ast.get_docstring(_source(thing)): bare.append(word)
        if inspect.isclass(thing): bare += [f"{word}.{m}" for m, f in vars(thing).items() if _needs_docstring(m, f, thing)]
    assert not bare


def _source(thing): return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def _needs_docstring(name, member, owner) -> bool:
    "Public methods of more than one line must say what they do; one-liners, overridden and generated ones need not."
    if name.startswith("_") or not inspect.isfunction(member) or member.__module__ != owner.__module__: return False
    if any(name in vars(base) for base in owner.__mro__[1:]): return False
    return len(inspect.getsource(member).splitlines()) > 3 and not member.__doc__


def test_imports_are_light():
    "One process imports room after room; nothing heavy may have come before it is needed."
    script = """
        import contextlib, io, json, sys
        heavy = ("torch", "jax", "torch_geometric", "sympy", "pysr", "juliacall", "matplotlib", "xarray", "pandas", "symbolic_gn.simulate")
        here = lambda: [name for name in heavy if name in sys.modules]
        found = {}
        import symbolic_gn
        found["symbolic_gn"] = here()
        import symbolic_gn.errors
        found["errors"] = here()
        from symbolic_gn.cli import main
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit): main(["--help"])
        assert "discover" in said.getvalue()
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit): main(["discover", "--help"])
        assert "--budget" in said.getvalue()
        found["help"] = here()
        import symbolic_gn.distill
        found["distill"] = here()
        symbolic_gn.distill.Law.of("2*r - 1.98").latex(), symbolic_gn.distill.engines()
        found["law"] = here()
        print(json.dumps(found))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["symbolic_gn"] == found["errors"] == found["help"] == []
    assert not {"torch", "jax", "symbolic_gn.simulate", "pysr", "juliacall", "matplotlib"} & {*found["distill"], *found["law"]}


@checkout
def test_one_version_everywhere():
    settings = configparser.ConfigParser()
    settings.read(HOUSE / "settings.ini")
    version = settings["DEFAULT"]["version"]
    assert symbolic_gn.__version__ == version and re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert re.search(r"^## (\S+)", (HOUSE / "CHANGELOG.md").read_text(), re.M)[1] == version
    assert set(re.findall(r"symbolic_gn[ =]+v?(\d+\.\d+\.\d+)", (HOUSE / "README.md").read_text())) <= {version}


@checkout
def test_constraints_pin_what_was_tested():
    pins = dict(re.findall(r"^([\w.\-]+)==(\S+)$", (HOUSE / "constraints.txt").read_text(), re.M))
    assert pins["torch"] == "2.13.0" and pins["nbdev"].startswith("2.4.")
    settings = configparser.ConfigParser()
    settings.read(HOUSE / "settings.ini")
    normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
    listed = settings["DEFAULT"]["requirements"].replace('"', " ") + " " + settings["DEFAULT"]["dev_requirements"]
    wanted = {normal(m) for m in re.findall(r"(?:^|\s)([a-z][\w\-]*)(?=[>=\s]|$)", listed)} - {"and", "or", "sys-platform", "platform-machine"}
    assert len(wanted) > 20 and wanted <= set(map(normal, pins)), wanted - set(map(normal, pins))


@checkout
def test_the_top_level_is_as_agreed():
    wanted = {"nbs", "symbolic_gn", "tests", "settings.ini", "setup.py", "README.md", "constraints.txt", "LICENSE", "CHANGELOG.md", "pyproject.toml"}
    assert all((HOUSE / name).exists() for name in [*wanted, ".ci/run", ".github/workflows"])


@checkout
@pytest.mark.parametrize("name", ORDER)
def test_rooms_are_exported_by_their_notebooks(name):
    text = path_of(name).read_text()
    notebook = re.search(r"# AUTOGENERATED! DO NOT EDIT! File to edit: (?:\.\./)+(nbs/\S+\.ipynb)", text)
    assert notebook and (HOUSE / notebook[1]).exists()
