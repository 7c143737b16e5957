"""Frames of four bodies per second, ours beside the original's way, in one run.

    pytest tests/benchmarks/bench_simulate.py --benchmark-only --benchmark-json=simulate.json

The original's way, written anew: the state of all bodies in one float32 vector (position, velocity, charge, mass),
forces by autodiff of the summed potential, one adaptive `odeint` after another in a Python loop, compiled in each call.
`warm` leaves compilation out on both sides; `cold` counts it on both sides, for a call of 1,000 simulations (the
original's is extrapolated from the simulations timed). Everything is in each benchmark's `extra_info`.
"""
import importlib
from functools import partial
from time import perf_counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.ode import odeint

from symbolic_gn.worlds import integrate, systems

sim = importlib.import_module("symbolic_gn.simulate")  # the module, not the function of the same name

SIMULATIONS, FRAMES, TIMED, BODIES, DIM = 1000, 1000, 40, 4, 2
PUBLISHED = dict(spring=22_000, r1=22_000, r2=42_000, charge=42_000)  # frames per second noted for the original


def original(name: str):
    "Compiled functions: the frames of one start, and the accelerations of its frames."
    world = sim.SYSTEMS[name]
    pair, time = systems.pair_energy(world), jnp.linspace(0, world.dt * FRAMES, FRAMES)

    def potential(a, b):
        r = jnp.sqrt(((a[:DIM] - b[:DIM]) ** 2).sum())
        return pair(r, a[-1], b[-1], a[-2], b[-2])

    def total(state):
        return sum(jax.vmap(potential, (None, 0))(state[i], state[i + 1 :]).sum() for i in range(BODIES - 1))

    def acceleration(state): return -jax.grad(total)(state)[:, :DIM] / state[:, -1:]

    def rate(flat, _):
        state = flat.reshape(BODIES, -1)
        parts = state[:, DIM : 2 * DIM], acceleration(state), 0 * state[:, 2 * DIM :]
        return jnp.concatenate(parts, axis=1).reshape(-1)

    def run(state): return odeint(rate, state.reshape(-1), time, mxstep=2000).reshape(FRAMES, *state.shape)
    return jax.jit(run), jax.jit(jax.vmap(acceleration))


def time_original(name: str) -> tuple[float, float, np.ndarray]:
    "Seconds to compile, seconds per simulation, energy drift of each."
    x, v, m, q = systems.draw(sim.SYSTEMS[name], TIMED, BODIES, DIM, 0, "float32")
    starts = np.concatenate([x, v, q[..., None], m[..., None]], axis=-1)
    run, acceleration = original(name)
    begin = perf_counter()
    np.asarray(acceleration(run(starts[0])))
    compiled = perf_counter()
    states = [np.asarray(run(start)) for start in starts]
    a = [np.asarray(acceleration(state)) for state in states]
    each, frames = (perf_counter() - compiled) / TIMED, np.stack(states)
    traj = sim.from_arrays(frames[..., :DIM], frames[..., DIM : 2 * DIM], np.stack(a), mass=m, charge=q, dt=1.0)
    return compiled - begin, each, sim.drift(sim.energy(traj, name))


@pytest.mark.parametrize("name", ["spring", "r1", "r2", "charge"])
def test_frames_per_second(benchmark, name):
    compile_, each, drift = time_original(name)
    ask, total = partial(sim.simulate, name, simulations=SIMULATIONS, frames=FRAMES), SIMULATIONS * FRAMES
    integrate.compiled.cache_clear()
    begin = perf_counter()
    ask()
    cold = total / (perf_counter() - begin)
    run = benchmark.pedantic(ask, rounds=3, iterations=1)
    warm, errors = total / benchmark.stats["min"], run.data["energy_drift"].values
    original_warm, original_cold = FRAMES / each, total / (compile_ + SIMULATIONS * each)
    double = sim.drift(sim.energy(ask(dtype="float64")))
    benchmark.extra_info.update(
        frames_per_second=dict(warm=round(warm), cold=round(cold)),
        original=dict(warm=round(original_warm), cold=round(original_cold), published=PUBLISHED[name]),
        ratio=dict(warm=round(warm / original_warm, 1), cold=round(cold / original_cold, 1),
                   published=round(warm / PUBLISHED[name], 1)),
        drift=dict(median=float(np.median(errors)), largest=float(errors.max())),
        drift_read_back_in_float64=dict(median=float(np.median(double)), largest=float(double.max())),
        original_drift=dict(median=float(np.median(drift)), largest=float(drift.max())),
    )
    assert run.frames == FRAMES and np.isfinite(run.acceleration).all()
