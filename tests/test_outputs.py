"Committed outputs are what the code says today: quick chapters are run anew, in their normal mode, and compared."
import math
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "nbs"
QUICK = [  # seconds each: settings' tables, error messages, counts, signatures
    "core/00_errors", "core/01_registry", "core/02_contracts", "core/03_graph", "laws/00_formula", "laws/01_law",
    "laws/02_evidence", "laws/05_constants", "laws/06_units", "search/00_front", "search/01_engine",
    "search/03b_mending", "search/04_engines",
    "fit/00_linear", "training/00_config", "01_models",
]
NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:e[-+]?\d+)?", re.I)
CHANGING = re.compile(r" at 0x[0-9a-f]+|\d+(?:\.\d+)? ?(?:m?s|µs|seconds)\b|/\S*tmp\S*")  # addresses, times, folders


def said(cell) -> list[str]:
    "What a cell printed and returned as text."
    texts = [o.get("text", o.get("data", {}).get("text/plain", "")) for o in cell.get("outputs", [])]
    return [CHANGING.sub("", t) for t in texts if "<Figure" not in t]


def close(a: str, b: str) -> bool:
    "Whole numbers are equal; others agree to a few digits, or are both rounding."
    if a == b:
        return True
    whole = all(re.fullmatch(r"[-+]?\d+", t) for t in (a, b))
    return not whole and math.isclose(float(a), float(b), rel_tol=0.02, abs_tol=1e-6)


def alike(old: str, new: str) -> bool:
    "The same words, and numbers that agree."
    words = [re.sub(r"\s+", " ", NUMBER.sub("#", t)).strip() for t in (old, new)]
    numbers = [NUMBER.findall(t) for t in (old, new)]
    return words[0] == words[1] and all(map(close, *numbers))


def test_what_counts_as_alike():
    assert alike("loss 0.1234, 5 rows", "loss  0.1235, 5 rows") and alike("1e-17", "3e-16")
    assert not alike("5 rows", "6 rows") and not alike("loss 0.12", "error 0.12") and not alike("0.12", "0.22")


@pytest.mark.skipif(not NOTEBOOKS.exists(), reason="the package is installed without its checkout")
@pytest.mark.parametrize("name", QUICK)
def test_outputs_are_todays(name, monkeypatch):
    monkeypatch.delenv("IN_TEST", raising=False)
    path = NOTEBOOKS / f"{name}.ipynb"
    committed, fresh = (nbformat.read(path, 4) for _ in range(2))
    environment = {"metadata": {"path": str(path.parent)}}
    NotebookClient(fresh, timeout=300, kernel_name="python3", resources=environment).execute(env=dict(os.environ))
    pairs = [(o, n) for o, n in zip(committed.cells, fresh.cells) if o.cell_type == "code"]
    stale = [(o.source, said(o), said(n)) for o, n in pairs if not (
        len(said(o)) == len(said(n)) and all(map(alike, said(o), said(n)))
    )]
    assert not stale, "\n".join(f"{source}\ncommitted: {old}\ntoday: {new}" for source, old, new in stale)
