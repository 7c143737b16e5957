"Worlds: forces, symmetries, conservation, files, and every mistake a user can make."
import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import matplotlib
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn import simulate as sim
from symbolic_gn.errors import UserError
from symbolic_gn.simulate import SYSTEMS, Trajectories, from_arrays, m_i, m_j, r, simulate

matplotlib.use("Agg")
NAMES = list(sim._BUILT_IN)
FREE = [n for n in NAMES if SYSTEMS[n].external is None and not SYSTEMS[n].drag]  # nothing from outside
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=3, deadline=None, derandomize=True)


def state(name, seed, bodies=4, dim=2, lanes=3):
    "A start of some simulations, as float64 with the lanes last."
    drawn = sim._draw(SYSTEMS[name], lanes, bodies, dim, seed, "float64")
    return [np.moveaxis(a, 0, -1) for a in drawn]


def near_wall(x):
    "Some bodies close to the ball of string_ball, so that it is felt."
    x = x.copy()
    x[0, :2] = np.array([5.0, -10.5])[:, None]
    return x


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds)
@few
def test_force_is_minus_the_gradient_of_all_energy(name, dim, seed):
    x, _, m, q = state(name, seed, dim=dim)
    if name == "string_ball": x = near_wall(x)
    force, potential = sim._worlds(SYSTEMS[name], 4)
    with jax.enable_x64(True):
        downhill = -jax.grad(lambda x: potential(x, m, q).sum())(jax.numpy.asarray(x))
        total = force(x, m, q)
    np.testing.assert_allclose(total, downhill, rtol=1e-9, atol=1e-9 * np.abs(downhill).max())


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_pair_force_is_the_true_law_along_the_displacement(name, dim):
    x, _, m, q = state(name, 1, bodies=2, dim=dim, lanes=50)
    d = (x[1] - x[0]).T
    length = np.linalg.norm(d, axis=1)
    law = sp.lambdify(sim.PAIR, SYSTEMS[name].true_law, "numpy")(length, m[0], m[1], q[0], q[1])
    force = SYSTEMS[name].pair_force(d, m[0], m[1], q[0], q[1])
    np.testing.assert_allclose(force, np.reshape(law / length, (-1, 1)) * d, rtol=1e-9, atol=1e-12)
    back = SYSTEMS[name].pair_force(-d, m[1], m[0], q[1], q[0])
    np.testing.assert_allclose(back, -force, rtol=1e-12)


def test_true_laws_are_those_of_the_paper():
    q_i, q_j = sim.PAIR[3:]
    s = r + 0.01
    laws = dict(r1=m_i * m_j / s, r2=m_i * m_j / s**2, charge=-q_i * q_j / s**2)
    assert str(SYSTEMS["spring"].true_law) == "2*r - 1.98"
    for name, law in laws.items(): assert sp.simplify(SYSTEMS[name].true_law - law) == 0
    jump = SYSTEMS["discontinuous"].true_law
    assert jump.subs(r, 1.5) == 0 and float(jump.subs(r, 2.5)) == pytest.approx(3.02)
    assert {n: SYSTEMS[n].dt for n in NAMES} == dict(
        spring=1e-2, r1=5e-3, r2=1e-3, charge=1e-3, damped=2e-2, discontinuous=1e-2, superposition=1e-3, string=1e-2,
        string_ball=1e-2,
    )


@pytest.mark.parametrize("bodies", [4, 16])  # 16 bodies have pairs enough for the matrix form
@given(seed=seeds)
@few
def test_symmetries_of_the_force(bodies, seed):
    rng = np.random.default_rng(seed)
    x, _, m, q = state("superposition", seed, bodies, 3)
    force, _ = sim._worlds(SYSTEMS["superposition"], bodies)
    turn, order = np.linalg.qr(rng.normal(size=(3, 3)))[0], rng.permutation(bodies)
    with jax.enable_x64(True):
        f = np.asarray(force(x, m, q))
        moved = force(x + rng.normal(size=(1, 3, 1)), m, q)
        turned = force(np.einsum("ac,bcl->bal", turn, x), m, q)
        swapped = force(x[order], m[order], q[order])
    close = dict(rtol=1e-7, atol=1e-8 * np.abs(f).max())
    np.testing.assert_allclose(moved, f, **close)
    np.testing.assert_allclose(turned, np.einsum("ac,bcl->bal", turn, f), **close)
    np.testing.assert_allclose(swapped, f[order], **close)
    np.testing.assert_allclose(f.sum(0), 0, atol=close["atol"])


@pytest.mark.parametrize("name,dim", [(name, 2) for name in NAMES] + [("r2", 3), ("string_ball", 3)])
def test_energy_and_momenta_are_kept(name, dim):
    run = simulate(name, simulations=16, dim=dim, frames=60, dtype="float64", seed=5)
    inside = run.data["energy_drift"].values
    assert np.median(inside) < 1e-5 and inside.max() < 1e-3
    if not SYSTEMS[name].drag: assert sim.drift(sim.energy(run)).max() < 1e-3
    if name in FREE:
        assert sim.drift(sim.momentum(run)).max() < 1e-10
        change = sim.angular_momentum(run) - sim.angular_momentum(run)[:, :1]
        assert np.abs(change).max() < 1e-8 * np.abs(sim.angular_momentum(run)).max()


def test_accelerations_are_forces_at_the_stored_positions():
    run = simulate("r2", simulations=3, frames=5)
    x, m = run.position.astype("f8"), run.mass
    j, i = run.edge_index
    pull = SYSTEMS["r2"].pair_force(x[:, :, j] - x[:, :, i], m[:, None, i], m[:, None, j])
    total = np.zeros_like(x)
    np.add.at(total, (slice(None), slice(None), i), pull)
    np.testing.assert_allclose(run.acceleration, total / m[:, None, :, None], rtol=1e-5, atol=1e-4)


def test_chain_and_drag():
    np.testing.assert_array_equal(sim.edges("chain", 3), [[1, 0, 2, 1], [0, 1, 1, 2]])
    np.testing.assert_array_equal(sim.edges("all", 3), [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]])
    fair, legacy = (sim._drag(SYSTEMS["damped"], 4, k).ravel() for k in (False, True))
    np.testing.assert_allclose(fair, 0.75)
    np.testing.assert_allclose(legacy, [0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize("legacy", [False, True])
def test_damped_accelerations(legacy):
    run = simulate("damped", simulations=3, frames=4, legacy=legacy, dtype="float64")
    x, v, m = run.position, run.velocity, run.mass[:, None, :, None]
    j, i = run.edge_index
    total = np.zeros_like(x)
    np.add.at(total, (slice(None), slice(None), i), SYSTEMS["damped"].pair_force(x[:, :, j] - x[:, :, i]))
    brake = (np.array([3, 2, 1, 0]) if legacy else np.full(4, 3))[:, None] / 4
    np.testing.assert_allclose(run.acceleration, (total - brake * v) / m, rtol=1e-9, atol=1e-9)
    assert (np.diff(sim.energy(run), axis=1) < 0).all()


def test_starts():
    drawn = {(n, d): sim._draw(SYSTEMS[n], 50, 4, d, 0, "float32") for n, d in
             (("spring", 2), ("charge", 2), ("string", 2), ("string", 3))}
    _, _, mass, charge = drawn["spring", 2]
    assert set(np.unique(drawn["charge", 2][3])) == {-1.0, 1.0} and len(np.unique(charge)) == 200
    assert (mass > 0).all() and abs(np.log(mass).std() - 1) < 0.2
    position, velocity, mass, _ = drawn["string", 2]
    assert (mass == 1).all() and (velocity[..., 0] == 0).all() and (drawn["string", 3][0][..., 2] == 0).all()
    assert np.abs(position[..., 0].mean(0) - np.arange(4)).max() < 0.5


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


@pytest.mark.parametrize("name", ["damped", "discontinuous"])
def test_both_solvers_agree(name):
    a, b = (simulate(name, simulations=4, frames=40, dtype="float64", solver=s) for s in ("symplectic", "diffrax"))
    np.testing.assert_allclose(a.position, b.position, atol=1e-4)
    assert b.data["energy_drift"].max() < 1e-4


@given(seed=seeds)
@few
def test_kepler(seed):
    if "bare" not in SYSTEMS: sim.register("bare", -m_i * m_j / r, dt=1e-2)
    rng = np.random.default_rng(seed)
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.3)
    d, v = np.array([1.0, 0]), speed * np.array([np.cos(angle), np.sin(angle)])
    if abs(np.sin(angle)) < 0.3: v = speed * np.array([0, 1.0])  # not nearly head-on
    x = np.stack([-0.5 * d, 0.5 * d])[None]
    run = simulate("bare", start=(x, np.stack([-0.5 * v, 0.5 * v])[None], np.ones((1, 2)), np.zeros((1, 2))),
                   frames=300, dtype="float64", tolerance=1e-10)
    exact = sim.kepler(run.data.time.values, d, v, 2.0)
    np.testing.assert_allclose(run.position[0, :, 1] - run.position[0, :, 0], exact, atol=1e-4)
    with pytest.raises(UserError, match="not bound"): sim.kepler(np.arange(3), d, 10 * v, 2.0)


def test_a_world_of_your_own():
    sim.register("yukawa", -sp.Symbol("m_i") * m_j * sp.exp(-r) / r, softening=0.1)
    sim.register("cubic", lambda r, m_i, m_j, q_i, q_j: r**3, dt=1e-2, external=lambda x, y, z, m, q: m * y)
    run = simulate("cubic", simulations=10, bodies=3, dim=3, frames=30, dtype="float64")
    assert sim.drift(sim.energy(run)).max() < 1e-3
    with np.errstate(all="ignore"): assert SYSTEMS["yukawa"].true_law.subs({r: 1e6, "m_j": 1}).is_finite is not False
    assert SYSTEMS["cubic"].true_law is None
    np.testing.assert_allclose(SYSTEMS["cubic"].pair_force([[2.0, 0]]), [[12.0, 0]])


@pytest.fixture(scope="module")
def data(): return simulate("spring", simulations=20, frames=30)


def test_split_and_select(data):
    parts = data.split(seed=1)
    assert [len(p) for p in parts] == [14, 3, 3]
    starts = np.concatenate([p.position[:, 0, 0, 0] for p in parts])
    assert len(np.unique(starts)) == 20
    np.testing.assert_array_equal(parts[0].position, data.split(seed=1)[0].position)
    assert not np.array_equal(parts[0].position, data.split(seed=2)[0].position)
    assert all(np.shares_memory(p.position, data.position) for p in data.split(seed=None))
    assert np.shares_memory(data.select(slice(3)).position, data.position) and len(data.select(4)) == 1
    np.testing.assert_array_equal(data.select(np.arange(20) < 2).position, data.position[:2])
    assert (data.simulations, data.frames, data.bodies, data.dim, data.system) == (20, 30, 4, 2, "spring")
    assert np.shares_memory(data.position, data.data["position"].values)
    with pytest.raises(UserError, match="too few"): data.select(slice(2)).split()
    with pytest.raises(UserError, match="fractions"): data.split((0.9, 0.9))


def test_save_and_load(data, tmp_path):
    data.save(tmp_path / "a.nc")
    again = Trajectories.load(tmp_path / "a.nc")
    assert again.data.identical(data.data) and repr(again) == repr(data)
    assert os.listdir(tmp_path) == ["a.nc"]
    assert "spring" in data._repr_html_() and "20 simulations" in repr(data)


def test_files_that_are_none(data, tmp_path):
    data.save(good := tmp_path / "good.nc")
    (tmp_path / "cut.nc").write_bytes(good.read_bytes()[:4000])
    (tmp_path / "text.nc").write_text("not a NetCDF file")
    data.data.drop_vars("mass").to_netcdf(tmp_path / "foreign.nc", engine="h5netcdf")
    faults = dict(cut="no readable NetCDF", text="no readable NetCDF", foreign="mass missing", absent="does not exist")
    for name, message in faults.items():
        with pytest.raises(UserError, match=message) as error: Trajectories.load(tmp_path / f"{name}.nc")
        assert "\n" not in str(error.value) and f"{name}.nc" in str(error.value)
    with pytest.raises(UserError, match="cannot be written"): data.save(tmp_path / "no folder" / "a.nc")


def test_a_failed_save_leaves_the_old_file(data, tmp_path, monkeypatch):
    data.save(file := tmp_path / "a.nc")
    before = file.read_bytes()

    def fail(*_): raise OSError("disk full")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="disk full"): data.save(file)
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["a.nc"]


@pytest.mark.parametrize("given_", ["all", "velocity", "position"])
def test_from_arrays(given_):
    run = simulate("spring", simulations=10, frames=60, dtype="float64")
    more = dict(all=(run.velocity, run.acceleration), velocity=(run.velocity,), position=())[given_]
    bodies = dict(mass=run.mass, charge=[1, 2, 3, 4], radius=np.ones(4))
    mine = Trajectories.from_arrays(run.position, *more, **bodies, dt=run.dt)
    error = np.linalg.norm(mine.acceleration - run.acceleration, axis=-1) / np.linalg.norm(run.acceleration, axis=-1)
    assert np.median(error) < dict(all=1e-12, velocity=1e-4, position=1e-4)[given_]
    assert ("acceleration_error" in mine.data.attrs) == (given_ != "all")
    assert "radius" in mine.data and (mine.charge == [1, 2, 3, 4]).all()
    np.testing.assert_allclose(mine.velocity, run.velocity, atol=1e-2)
    np.testing.assert_allclose(sim.energy(mine, "spring"), sim.energy(run), rtol=1e-2)
    if given_ != "all": assert "off by about" in repr(mine)


def test_noise_shows_in_the_estimate():
    run, rng = simulate("spring", simulations=10, frames=60, dtype="float64"), np.random.default_rng(0)
    mine = from_arrays(run.position + 1e-4 * rng.normal(size=run.position.shape), dt=run.dt)
    error = np.linalg.norm(mine.acceleration - run.acceleration, axis=-1) / np.linalg.norm(run.acceleration, axis=-1)
    assert 0.3 < mine.data.attrs["acceleration_error"] / np.median(error) < 3


x = np.random.default_rng(0).normal(size=(3, 10, 4, 2))
FAULTS = {
    "shape": (dict(position=x[0, 0]), "position has shape"),
    "axes": (dict(position=np.zeros((2, 5, 3, 4))), "position has shape"),
    "ragged": (dict(position=[[1, 2], [3]]), "ragged"),
    "text": (dict(position=np.array([["a"]])), "give real numbers"),
    "nan": (dict(position=np.where(x > 2, np.nan, x)), "NaN or infinity"),
    "infinity": (dict(position=x, velocity=np.where(x > 2, np.inf, x)), "velocity holds NaN or infinity"),
    "one body": (dict(position=x[:, :, :1]), "body axis"),
    "one frame": (dict(position=x[:, :1]), "frame axis"),
    "no simulation": (dict(position=x[:0]), "simulation axis"),
    "zero mass": (dict(position=x, mass=[1, 1, 0, 1]), "mass must be positive"),
    "negative mass": (dict(position=x, mass=[1, 1, -1, 1]), "mass must be positive"),
    "mass shape": (dict(position=x, mass=[1, 1]), "mass has shape"),
    "mass nan": (dict(position=x, mass=[1, 1, np.nan, 1]), "mass holds NaN"),
    "charge shape": (dict(position=x, charge=np.ones((2, 4))), "charge has shape"),
    "velocity shape": (dict(position=x, velocity=x[:2]), "velocity has shape"),
    "acceleration shape": (dict(position=x, acceleration=x[..., :1]), "acceleration has shape"),
    "coinciding": (dict(position=np.concatenate([x[:, :, :3], x[:, :, :1]], 2)), "bodies 0 and 3 coincide"),
    "too short": (dict(position=x[:, :5]), "too few to differentiate"),
    "dt": (dict(position=x, dt=0.0), "dt is 0.0"),
    "dt kind": (dict(position=x, dt="fast"), "dt is 'fast'"),
    "topology": (dict(position=x, topology="ring"), "topology 'ring' is unknown"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_from_arrays_refuses(fault):
    given_, message = FAULTS[fault]
    with pytest.raises(UserError, match=message) as error: from_arrays(**dict(dt=0.1) | given_)
    assert "\n" not in str(error.value)


OPTIONS = dict(
    simulations=(0, "simulations is 0"), bodies=(1, "bodies is 1"), frames=(1, "frames is 1"), every=(0, "every is 0"),
    seed=(-1, "seed is -1"), dim=(4, "dim is 4"), dt=(-0.1, "dt is -0.1"), dtype=("float16", "dtype is 'float16'"),
    solver=("euler", "solver 'euler' is unknown"), tolerance=(0, "tolerance is 0"),
)


@pytest.mark.parametrize("option", OPTIONS)
def test_simulate_refuses(option):
    value, message = OPTIONS[option]
    with pytest.raises(UserError, match=message): simulate("spring", **{option: value})


def test_unknown_systems():
    with pytest.raises(UserError, match="'sprng' is unknown, did you mean 'spring'"): simulate("sprng")
    with pytest.raises(UserError, match="'zzz' is unknown; choose from .*charge, "): simulate("zzz")
    with pytest.raises(UserError, match="not the registered one"): simulate(sim.System("r2", -1 / r))
    assert sim.get_system(SYSTEMS["r2"]) is SYSTEMS["r2"]
    with pytest.raises(UserError, match="'custom' is unknown"): sim.energy(from_arrays(x, dt=0.1))


def test_register_refuses():
    with pytest.raises(UserError, match="built in"): sim.register("spring", r**2)
    with pytest.raises(UserError, match="uses k"): sim.register("odd", sp.Symbol("k") * r)
    with pytest.raises(UserError, match="SymPy expression or a JAX function"): sim.register("odd", "r**2")
    with pytest.raises(UserError, match="topology"): sim.register("odd", r**2, topology="ring")
    assert "odd" not in SYSTEMS


def test_full_memory_is_refused_with_its_size(monkeypatch):
    with pytest.raises(UserError, match=r"need 960\d\d.\d GB of memory"):
        simulate("spring", simulations=10**6, frames=10**6)
    assert sim.footprint(10_000, 1_000) < 2e9 and sim._available() > 1e6

    def absent(*_, **__): raise OSError
    monkeypatch.setattr(sim.Path, "read_text", absent)  # neither Linux nor a container
    assert sim._available() > 1e6


def test_a_world_that_blows_up():
    start = [[[-1, 0.1], [0, 0]]], np.zeros((1, 2, 2)), np.ones((1, 2)), np.ones((1, 2))
    sim.register("steep", -1e9 / r**6)
    with pytest.warns(UserWarning, match="'steep' lost their energy"): simulate("steep", start=start, frames=3)
    sim.register("edge", 1e9 * sp.log(r - 0.5))
    with pytest.raises(UserError, match="simulation 0 of 'edge' leaves finite numbers"):
        simulate("edge", start=start, frames=9)


def test_starts_are_checked():
    good = dict(position=np.ones((1, 2, 2)), velocity=np.zeros((1, 2, 2)), mass=np.ones((1, 2)), charge=np.ones((1, 2)))
    bad = dict(position=np.ones((2, 2)), velocity=np.full((1, 2, 2), np.nan), mass=-np.ones((1, 2)), charge=np.ones(2))
    for name, a in bad.items():
        with pytest.raises(UserError, match=name): simulate("spring", start=tuple((good | {name: a}).values()))


def test_pictures(data, capsys):
    import matplotlib.pyplot as plt

    assert sim.plot(data).get_title() == "spring" and len(sim.plot(simulate("r1", simulations=1, dim=3)).lines) == 4
    assert "img" in sim.animate(data, frames=2).to_jshtml()
    plt.close("all")
    simulate("spring", simulations=3, frames=3, progress=True)
    assert "simulate" in capsys.readouterr().err
