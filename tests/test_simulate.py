"Simulations: conservation, seeds, theory, sources, and every option that cannot be."
import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import importlib
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.contracts import BUDGETS
from symbolic_gn.core.errors import UserError
from symbolic_gn.core.memory import free_memory
from symbolic_gn.data.orbits import angular_momentum, drift, momentum
from symbolic_gn.data.trajectories import from_arrays
from symbolic_gn.simulate import Given, Simulated, energy, kepler, simulate, starts
from symbolic_gn.worlds import systems
from symbolic_gn.worlds.systems import SYSTEMS, m_i, m_j, r, register

sim = importlib.import_module("symbolic_gn.simulate")  # in the package that name is the function
NAMES = sorted(systems._BUILT_IN)
FREE = [n for n in NAMES if SYSTEMS[n].external is None and not SYSTEMS[n].drag]  # nothing from outside
TINY = BUDGETS["tiny"]
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=3, deadline=None, derandomize=True)
PUBLIC = """PAIR r m_i m_j q_i q_j FIELD SYSTEMS DRIFTS KICKS HALVINGS SOLVERS gaussian signed strung System get_system
    register edges Trajectories footprint simulate starts differentiate from_arrays energy momentum angular_momentum
    drift kepler plot animate""".split()


@pytest.mark.parametrize("name", PUBLIC)
def test_names_that_others_import_are_still_here(name):
    assert getattr(sim, name) is not None


@pytest.mark.parametrize("name,dim", [(name, 2) for name in NAMES] + [("r2", 3), ("string_ball", 3)])
def test_energy_and_momenta_are_kept(name, dim):
    run = simulate(name, simulations=16, dim=dim, frames=60, dtype="float64", seed=5)
    inside = run.data["energy_drift"].values
    assert np.median(inside) < 1e-5 and inside.max() < 1e-3
    if not SYSTEMS[name].drag:
        assert drift(energy(run)).max() < 1e-3
    if name in FREE:
        assert drift(momentum(run)).max() < 1e-10
        change = angular_momentum(run) - angular_momentum(run)[:, :1]
        assert np.abs(change).max() < 1e-8 * np.abs(angular_momentum(run)).max()


def test_accelerations_are_forces_at_the_stored_positions():
    run = simulate("r2", simulations=3, frames=5)
    x, m = run.position.astype("f8"), run.mass
    j, i = run.edge_index
    pull = SYSTEMS["r2"].pair_force(x[:, :, j] - x[:, :, i], m[:, None, i], m[:, None, j])
    total = np.zeros_like(x)
    np.add.at(total, (slice(None), slice(None), i), pull)
    np.testing.assert_allclose(run.acceleration, total / m[:, None, :, None], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("legacy", [False, True])
def test_damped_accelerations(legacy):
    run = simulate("damped", simulations=3, frames=4, legacy=legacy, dtype="float64")
    x, v, m = run.position, run.velocity, run.mass[:, None, :, None]
    j, i = run.edge_index
    total = np.zeros_like(x)
    np.add.at(total, (slice(None), slice(None), i), SYSTEMS["damped"].pair_force(x[:, :, j] - x[:, :, i]))
    brake = (np.array([3, 2, 1, 0]) if legacy else np.full(4, 3))[:, None] / 4
    np.testing.assert_allclose(run.acceleration, (total - brake * v) / m, rtol=1e-9, atol=1e-9)
    assert (np.diff(energy(run), axis=1) < 0).all()


@pytest.mark.parametrize("name", ["r2", "damped"])
def test_seed_fixes_everything_whatever_else_is_asked_for(name):
    one, many, longer = (simulate(name, simulations=s, frames=f, seed=3) for s, f in ((5, 20), (150, 20), (5, 25)))
    for key in ("position", "velocity", "acceleration", "mass", "charge"):
        np.testing.assert_array_equal(getattr(one, key), getattr(many, key)[:5])
    np.testing.assert_array_equal(one.position, longer.position[:, :20])
    assert not np.array_equal(one.position, simulate(name, simulations=5, frames=20, seed=4).position)
    assert not jax.config.jax_enable_x64


def test_every_dtype_and_dt():
    fine, coarse = (simulate("spring", simulations=4, frames=f, every=e) for f, e in ((21, 1), (5, 5)))
    np.testing.assert_array_equal(fine.position[:, ::5], coarse.position)
    assert coarse.dt == pytest.approx(0.05) and coarse.data.time.values[-1] == pytest.approx(0.2)
    double = simulate("spring", simulations=4, frames=21, dtype="float64")
    np.testing.assert_allclose(double.position, fine.position, atol=1e-5)
    assert double.position.dtype == np.float64


@given(seed=seeds)
@few
def test_kepler(seed):
    if "bare" not in SYSTEMS:
        register("bare", -m_i * m_j / r, dt=1e-2)
    rng = np.random.default_rng(seed)
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.3)
    d, v = np.array([1.0, 0]), speed * np.array([np.cos(angle), np.sin(angle)])
    if abs(np.sin(angle)) < 0.3:
        v = speed * np.array([0, 1.0])  # not nearly head-on
    x = np.stack([-0.5 * d, 0.5 * d])[None]
    start = x, np.stack([-0.5 * v, 0.5 * v])[None], np.ones((1, 2)), np.zeros((1, 2))
    run = simulate("bare", start=start, frames=300, dtype="float64", tolerance=1e-10)
    exact = kepler(run.data.time.values, d, v, 2.0)
    np.testing.assert_allclose(run.position[0, :, 1] - run.position[0, :, 0], exact, atol=1e-4)
    with pytest.raises(UserError, match="not bound"):
        kepler(np.arange(3.0), d, 10 * v, 2.0)


# options


OPTIONS = dict(
    simulations=(0, "simulations is 0"), bodies=(1, "bodies is 1"), frames=(1, "frames is 1"), every=(0, "every is 0"),
    seed=(-1, "seed is -1"), dim=(4, "dim is 4"), dt=(-0.1, "dt is -0.1"), dtype=("float16", "dtype is 'float16'"),
    solver=("euler", "solver 'euler' is unknown"), tolerance=(0, "tolerance is 0"),
)


@pytest.mark.parametrize("option", OPTIONS)
def test_simulate_refuses(option):
    value, message = OPTIONS[option]
    with pytest.raises(UserError, match=message):
        simulate("spring", **{option: value})


def test_systems_that_are_not_known():
    with pytest.raises(UserError, match="'sprng' is unknown, did you mean 'spring'"):
        simulate("sprng")
    with pytest.raises(UserError, match="not the registered one"):
        simulate(sim.System("r2", -1 / r))
    x = np.random.default_rng(0).normal(size=(3, 10, 4, 2))
    with pytest.raises(UserError, match="'custom' is unknown"):
        energy(from_arrays(x, dt=0.1))


def test_full_memory_is_refused_with_its_size(monkeypatch):
    with pytest.raises(UserError, match=r"need 960\d\d.\d GB of memory"):
        simulate("spring", simulations=10**6, frames=10**6)
    assert sim.footprint(10_000, 1_000) < 2e9 and free_memory() > 1e6

    def absent(*_, **__): raise OSError
    monkeypatch.setattr(Path, "read_text", absent)  # neither Linux nor a container
    assert free_memory() > 1e6


def test_a_world_that_blows_up():
    start = [[[-1, 0.1], [0, 0]]], np.zeros((1, 2, 2)), np.ones((1, 2)), np.ones((1, 2))
    register("steep", -1e9 / r**6)
    with pytest.warns(UserWarning, match="'steep' lost their energy"):
        simulate("steep", start=start, frames=3)
    register("edge", 1e9 * sp.log(r - 0.5))
    with pytest.raises(UserError, match="simulation 0 of 'edge' leaves finite numbers"):
        simulate("edge", start=start, frames=9)


def test_starts_are_checked():
    good = dict(position=np.ones((1, 2, 2)), velocity=np.zeros((1, 2, 2)), mass=np.ones((1, 2)), charge=np.ones((1, 2)))
    bad = dict(position=np.ones((2, 2)), velocity=np.full((1, 2, 2), np.nan), mass=-np.ones((1, 2)), charge=np.ones(2))
    for name, a in bad.items():
        with pytest.raises(UserError, match=name):
            simulate("spring", start=tuple((good | {name: a}).values()))


def test_progress_is_shown_when_asked_for(capsys):
    simulate("spring", simulations=3, frames=3, progress=True)
    assert "simulate" in capsys.readouterr().err


def test_moments_elsewhere():
    near, far, fast = (starts("r2", simulations=7, seed=3, **k) for k in ({}, dict(spread=3.0), dict(speed=2)))
    np.testing.assert_array_equal(far.position, 3 * near.position)
    np.testing.assert_array_equal(fast.velocity, 2 * near.velocity)
    np.testing.assert_array_equal(fast.acceleration, near.acceleration)  # no drag: speed does not matter
    run = simulate("r2", simulations=7, frames=2, seed=3)
    np.testing.assert_allclose(near.acceleration[:, 0], run.acceleration[:, 0], rtol=1e-6)
    with pytest.raises(UserError, match="spread is 0"):
        starts("r2", spread=0)


# sources


def test_a_simulated_source_keeps_its_data(tmp_path):
    source = Simulated("spring", dim=3, bodies=3)
    data = source.load(TINY, 5, folder=tmp_path)
    assert source.name == data.system == "spring" and source.default_model and source.noise == 0
    asked = dict(simulations=TINY.simulations, frames=TINY.frames, every=TINY.every, bodies=3, dim=3, seed=5)
    np.testing.assert_array_equal(data.position, simulate("spring", **asked).position)
    written = (tmp_path / "data.nc").stat().st_mtime_ns
    again = source.load(TINY, 5, folder=tmp_path, resume=True)
    assert again.data.identical(data.data) and (tmp_path / "data.nc").stat().st_mtime_ns == written
    assert not np.array_equal(source.load(TINY, 6, folder=tmp_path).position, data.position)
    assert os.listdir(tmp_path) == ["data.nc"]


def test_what_is_kept_must_be_of_the_same_world(tmp_path):
    Simulated("spring").load(TINY, 0, folder=tmp_path)
    spring, more = Simulated("spring"), replace(TINY, frames=11, every=7)
    others = {"system = 'spring', not 'r1'": (Simulated("r1"), TINY, 0), "seed = 0, not 1": (spring, TINY, 1)}
    others |= {"dim = 2, not 3": (Simulated("spring", dim=3), TINY, 0), "frames = 10, not 11": (spring, more, 0)}
    for said, (source, budget, seed) in others.items():
        with pytest.raises(UserError, match="data.nc was made with " + said):
            source.load(budget, seed, folder=tmp_path, resume=True)
    (tmp_path / "new").mkdir()
    assert Simulated("r1").load(TINY, 0, folder=tmp_path / "new", resume=True).system == "r1"  # nothing there yet


def test_worlds_that_cannot_be_are_refused_at_once():
    axes = "dim is 4; it must be a whole number from 2 to 3"
    faults = {"did you mean 'spring'": ("sprng",), axes: ("r2", 4), "bodies is 1": ("r2", 2, 1)}
    for said, fault in faults.items():
        with pytest.raises(UserError, match=said):
            Simulated(*fault)
    assert Simulated(SYSTEMS["r2"]).name == "r2"


@pytest.mark.parametrize("name", [n for n in NAMES if SYSTEMS[n].external is None])
def test_the_truth_gives_the_accelerations(name):
    data = simulate(name, simulations=3, bodies=5, frames=3, dtype="float64")
    law = Given(data).truth(data)
    found = law.accelerations(data.position, data.velocity, data.mass[:, None], data.charge[:, None], data.edge_index)
    np.testing.assert_allclose(found, data.acceleration, rtol=1e-9, atol=1e-9 * np.abs(data.acceleration).max())
    assert law.drag == pytest.approx(SYSTEMS[name].drag * 4 / 5)


def test_the_truth_is_told_where_it_is_known():
    data = simulate("spring", simulations=3, frames=2)
    register("untold", lambda r, m_i, m_j, q_i, q_j: r**3, dt=1e-2)
    for unknown in ("custom", "untold"):
        other = from_arrays(data.position, data.velocity, data.acceleration, dt=0.1, system=unknown)
        assert Given(other).truth(other) is None
    assert Given(other).name == "untold" and Given(other).load(TINY, 0) is other


def test_further_tests_are_made_where_the_system_is_known():
    data = simulate("damped", simulations=6, bodies=3, frames=2)
    sets = Given(data).tests(data.select(slice(2)), replace(TINY, simulations=9), 4)
    assert {name: (len(t), t.bodies) for name, t in sets.items()} == dict(
        mae=(2, 3), mae_other_bodies=(9, 6), mae_2=(9, 2), mae_16=(9, 16), mae_far=(9, 3), mae_fast=(9, 3)
    )
    usual = starts("damped", simulations=9, bodies=3, seed=1004)
    np.testing.assert_array_equal(sets["mae_far"].position, 3 * usual.position)
    np.testing.assert_array_equal(sets["mae_fast"].velocity, 3 * usual.velocity)
    assert len(Given(data).tests(data, BUDGETS["quick"], 0)["mae_far"]) == 500
    stranger = from_arrays(data.position, data.velocity, data.acceleration, dt=0.1)
    assert list(Given(stranger).tests(stranger, TINY, 0)) == ["mae"]
