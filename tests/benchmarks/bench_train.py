"""Training speed of the paper's architecture beside the matrix rate of the same machine in the same run.

    pytest tests/benchmarks/bench_*.py --benchmark-only
"""

import time

import numpy as np
import pytest
import torch

from symbolic_gn.analyze import messages, r2
from symbolic_gn.simulate import simulate
from symbolic_gn.train import bf16_is_native, fit, prepare
from symbolic_gn.training.config import paper_config

PRECISIONS = ["32-true"] + ["bf16-mixed"] * bf16_is_native()


@pytest.fixture(scope="module")
def data():
    return simulate("spring", simulations=300, frames=50, every=10)


def matrix_rate(dtype: torch.dtype, seconds: float = 1.0) -> float:
    "Operations per second of a product as training does it: (edges of 512 graphs) x 300 x 300."
    a, b, best = torch.randn(6144, 300).to(dtype), torch.randn(300, 300).to(dtype), np.inf
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * 6144 * 300 * 300 / best


@pytest.mark.parametrize("batch", [64, 512])
@pytest.mark.parametrize("precision", PRECISIONS)
def bench_graphs_per_second(benchmark, data, precision, batch):
    "Steps of the standard model: 3 x 300 hidden units, 100 messages, 4 bodies in 2-D, with augmentation and penalty."
    torch.set_num_threads(1)
    trainer = prepare(paper_config("l1", batch=batch, precision=precision), data)
    before = matrix_rate(torch.float32)
    benchmark.pedantic(lambda: trainer.step(1), rounds=30, warmup_rounds=3)
    rate = (before + matrix_rate(torch.float32)) / 2
    weights = {
        part: sum(p.numel() for p in getattr(trainer.raw, part).parameters() if p.dim() > 1)
        for part in ("phi_e", "phi_v")
    }
    graphs = batch / benchmark.stats.stats.median
    done = 6 * graphs * (12 * weights["phi_e"] + 4 * weights["phi_v"])
    benchmark.extra_info |= {
        "graphs/s": round(graphs), "GF/s": round(done / 1e9), "float32 matrix GF/s": round(rate / 1e9),
        "share of the float32 matrix rate": round(done / rate, 2), "threads": torch.get_num_threads()
    }
    assert graphs > 0


@pytest.mark.parametrize("precision", PRECISIONS)
def bench_final_r2(benchmark, data, precision):
    "The same short training in each precision: the R² must not depend on it."
    torch.set_num_threads(1)
    run = benchmark.pedantic(
        lambda: fit(data, "newton", steps=600, batch=256, precision=precision, progress=False), rounds=1
    )
    force = r2(messages(run.model, data, snapshots=500))["force"]
    benchmark.extra_info |= {"R² raw": round(force["raw"], 5), "R² trimmed": round(force["trimmed"], 5)}
    assert force["trimmed"] > 0.9
