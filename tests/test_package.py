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
ORDER = ["errors", "simulate", "models", "train", "analyze", "distill", "discover", "cli"]  # design 1
FORBIDDEN = {"models": {"jax", "simulate"}, "simulate": {"torch"}, "distill": {"torch", "jax", "models", "train", "simulate", "analyze"},
             "errors": {"torch", "jax", "numpy"}}
checkout = pytest.mark.skipif(not (HOUSE / "settings.ini").exists(), reason="the package is installed without its checkout")


def imports(name, inside=True) -> set[str]:
    "Every module that a room imports, ours without the package's name; with or without those inside functions."
    tree = ast.parse((ROOM / f"{name}.py").read_text())
    nodes = ast.walk(tree) if inside else tree.body
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import): found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            here = "symbolic_gn." * bool(node.level) + (node.module or "")
            found |= {here.rstrip(".")} | ({f"symbolic_gn.{a.name}" for a in node.names} if here.rstrip(".") == "symbolic_gn" else set())
    return {m.removeprefix("symbolic_gn.") if m.startswith("symbolic_gn.") else m.partition(".")[0] for m in found}


def test_every_room_has_its_place():
    assert {p.stem for p in ROOM.glob("*.py")} - {"__init__", "_modidx"} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_run_downwards_only(name):
    ours = imports(name) & {*ORDER}
    assert ours <= set(ORDER[:ORDER.index(name)]), f"{name} imports {ours}"


@pytest.mark.parametrize("name", FORBIDDEN)
def test_rooms_do_not_know_what_they_need_not(name):
    least = imports(name, inside=False) if name == "distill" else imports(name)  # a law writes itself for torch and jax when asked
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
    text = (ROOM / f"{name}.py").read_text()
    notebook = re.search(r"# AUTOGENERATED! DO NOT EDIT! File to edit: \.\./(nbs/\S+\.ipynb)", text)
    assert notebook and (HOUSE / notebook[1]).exists()
