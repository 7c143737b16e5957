"""Start-up times and memory, each in a process of its own."""

import json
import resource
import subprocess
import sys

import pytest

BIG = """
import json, resource, torch
from symbolic_gn.simulate import simulate
from symbolic_gn.train import fit
data = simulate("spring", simulations=10_000, frames=1000, seed=0)
run = fit(data, "newton", steps=100, progress=False)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def bench_import(benchmark):
    assert benchmark.pedantic(run, ["import symbolic_gn; print(symbolic_gn.__version__)"], rounds=5, warmup_rounds=1)


def bench_help(benchmark):
    code = "from symbolic_gn.cli import main; main(['--help'])"
    assert "discover" in benchmark.pedantic(run, [code], rounds=5, warmup_rounds=1)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
def bench_memory(benchmark):
    "Simulate 10,000 simulations of 1,000 frames and train on them."
    peak = benchmark.pedantic(lambda: json.loads(run(BIG).splitlines()[-1]), rounds=1) / 1e6
    benchmark.extra_info |= {"peak GB": round(peak, 2)}
    assert peak > 0 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
