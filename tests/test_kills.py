"The quick version of tests/benchmarks/kills.py: resumed is uninterrupted, bit for bit, and nobody is left."
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from killing import needs_fork

SCRIPT = Path(__file__).with_name("benchmarks") / "kills.py"
SPEC = importlib.util.spec_from_file_location("kills", SCRIPT)
KILLS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(KILLS)


@needs_fork
@pytest.mark.parametrize("names", [["newton", "bottleneck"], ["discover"]], ids="-".join)
def test_what_was_killed_is_resumed_to_the_same(names):
    command = [sys.executable, "-W", "ignore", str(SCRIPT), "--kills", "4", "--chain", "2", "--jobs", *names]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("equal") == len(names)


def test_a_difference_is_seen(tmp_path):
    for name, loss in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "law.json").write_text(json.dumps(dict(loss=loss, seconds=hash(name), sha256=name)))
    assert KILLS.differences(tmp_path / "a", tmp_path / "b") == []
    assert KILLS.differences(tmp_path / "a", tmp_path / "c") == ["law.json"]
    (tmp_path / "b" / ".x.nc.12.part").touch(), (tmp_path / "b" / "front.csv").touch()
    assert KILLS.differences(tmp_path / "b", tmp_path / "a") == [".x.nc.12.part", "front.csv"]
