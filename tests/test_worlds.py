"Worlds: laws, forces, symmetries, and how they are moved."
import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.core.graph import edges
from symbolic_gn.data.orbits import drift
from symbolic_gn.simulate import energy, simulate
from symbolic_gn.worlds import integrate, systems
from symbolic_gn.worlds.integrate import compiled, mechanics, of_snapshots
from symbolic_gn.worlds.systems import PAIR, SYSTEMS, System, draw, get_system, m_i, m_j, r, register

NAMES = sorted(systems._BUILT_IN)
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=3, deadline=None, derandomize=True)


def state(name, seed, bodies=4, dim=2, lanes=3):
    "A start of some simulations, as float64 with the lanes last."
    drawn = draw(SYSTEMS[name], lanes, bodies, dim, seed, "float64")
    return [np.moveaxis(a, 0, -1) for a in drawn]


def near_wall(x):
    "Some bodies close to the ball of string_ball, so that it is felt."
    x = x.copy()
    x[0, :2] = np.array([5.0, -10.5])[:, None]
    return x


# laws and forces


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds)
@few
def test_force_is_minus_the_gradient_of_all_energy(name, dim, seed):
    x, _, m, q = state(name, seed, dim=dim)
    if name == "string_ball":
        x = near_wall(x)
    force, potential = mechanics(SYSTEMS[name], 4)
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
    law = sp.lambdify(PAIR, SYSTEMS[name].true_law, "numpy")(length, m[0], m[1], q[0], q[1])
    force = SYSTEMS[name].pair_force(d, m[0], m[1], q[0], q[1])
    np.testing.assert_allclose(force, np.reshape(law / length, (-1, 1)) * d, rtol=1e-9, atol=1e-12)
    back = SYSTEMS[name].pair_force(-d, m[1], m[0], q[1], q[0])
    np.testing.assert_allclose(back, -force, rtol=1e-12)


def test_true_laws_are_those_of_the_paper():
    q_i, q_j = PAIR[3:]
    s = r + 0.01
    laws = dict(r1=m_i * m_j / s, r2=m_i * m_j / s**2, charge=-q_i * q_j / s**2)
    assert str(SYSTEMS["spring"].true_law) == "2*r - 1.98"
    for name, law in laws.items():
        assert sp.simplify(SYSTEMS[name].true_law - law) == 0
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
    force, _ = mechanics(SYSTEMS["superposition"], bodies)
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


# how worlds begin


def test_starts_are_drawn_as_the_paper_does():
    asked = (("spring", 2), ("charge", 2), ("string", 2), ("string", 3))
    drawn = {(n, d): draw(SYSTEMS[n], 50, 4, d, 0) for n, d in asked}
    _, _, mass, charge = drawn["spring", 2]
    assert set(np.unique(drawn["charge", 2][3])) == {-1.0, 1.0} and len(np.unique(charge)) == 200
    assert (mass > 0).all() and abs(np.log(mass).std() - 1) < 0.2
    position, velocity, mass, _ = drawn["string", 2]
    assert (mass == 1).all() and (velocity[..., 0] == 0).all() and (drawn["string", 3][0][..., 2] == 0).all()
    assert np.abs(position[..., 0].mean(0) - np.arange(4)).max() < 0.5


@given(seed=seeds)
@few
def test_a_start_depends_on_seed_and_number_only(seed):
    some, many = (draw(SYSTEMS["charge"], count, 3, 2, seed) for count in (2, 9))
    for a, b in zip(some, many):
        np.testing.assert_array_equal(a, b[:2])
    assert not np.array_equal(many[0], draw(SYSTEMS["charge"], 9, 3, 2, seed ^ 1)[0])


# names


def test_a_world_of_your_own():
    register("faded", -sp.Symbol("m_i") * m_j * sp.exp(-r) / r, softening=0.1)
    register("cubic", lambda r, m_i, m_j, q_i, q_j: r**3, dt=1e-2, external=lambda x, y, z, m, q: m * y)
    run = simulate("cubic", simulations=10, bodies=3, dim=3, frames=30, dtype="float64")
    assert drift(energy(run)).max() < 1e-3
    assert SYSTEMS["faded"].true_law.free_symbols == {r, m_i, m_j}  # its letters became ours
    assert SYSTEMS["cubic"].true_law is None
    np.testing.assert_allclose(SYSTEMS["cubic"].pair_force([[2.0, 0]]), [[12.0, 0]])


def test_unknown_systems():
    with pytest.raises(UserError, match="'sprng' is unknown, did you mean 'spring'"):
        get_system("sprng")
    with pytest.raises(UserError, match="'zzz' is unknown; choose from .*charge, "):
        get_system("zzz")
    with pytest.raises(UserError, match="not the registered one"):
        get_system(System("r2", -1 / r))
    assert get_system(SYSTEMS["r2"]) is SYSTEMS["r2"]


def test_register_refuses():
    with pytest.raises(UserError, match="built in"):
        register("spring", r**2)
    with pytest.raises(UserError, match="uses k"):
        register("odd", sp.Symbol("k") * r)
    with pytest.raises(UserError, match="SymPy expression or a JAX function"):
        register("odd", "r**2")
    with pytest.raises(UserError, match="topology"):
        register("odd", r**2, topology="ring")
    assert "odd" not in SYSTEMS


# moving


def test_chain_and_drag():
    np.testing.assert_array_equal(edges("chain", 3), [[1, 0, 2, 1], [0, 1, 1, 2]])
    np.testing.assert_array_equal(edges("all", 3), [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]])
    fair, legacy = (integrate._drag(SYSTEMS["damped"], 4, k).ravel() for k in (False, True))
    np.testing.assert_allclose(fair, 0.75)
    np.testing.assert_allclose(legacy, [0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize("z", [0.0, 1e-9, 9e-4, 1.1e-3, 0.5, 30.0])
def test_decay_is_right_near_zero_and_far_from_it(z):
    with jax.enable_x64(True):
        one, two = integrate._decay(jax.numpy.asarray(z))
    t = sp.Symbol("t")
    exact = (1 - sp.exp(-t)) / t, (t - 1 + sp.exp(-t)) / t**2
    wanted = [float(sp.limit(f, t, 0)) if z == 0 else float(f.subs(t, sp.Float(z, 60)).evalf(40)) for f in exact]
    np.testing.assert_allclose([one, two], wanted, rtol=1e-9)


def test_a_world_is_compiled_once():
    assert compiled(SYSTEMS["spring"], 3) is compiled(SYSTEMS["spring"], 3)


def test_snapshots_in_pieces_are_the_whole():
    calls, rng = [], np.random.default_rng(0)
    x, v = rng.normal(size=(2, 3, 7000, 2, 2))
    m, q = rng.uniform(1, 2, (2, 3, 2))

    def scaled(x, v, m, q):
        calls.append(len(x))
        return x * m[..., None] + v * q[..., None]

    found = of_snapshots(scaled, np.empty_like(x), x, v, m, q)
    np.testing.assert_array_equal(found, x * m[:, None, :, None] + v * q[:, None, :, None])
    assert len(set(calls)) == 1 < len(calls)  # one size: compiled once


@pytest.mark.parametrize("name", ["damped", "discontinuous"])
def test_both_solvers_agree(name):
    a, b = (simulate(name, simulations=4, frames=40, dtype="float64", solver=s) for s in ("symplectic", "diffrax"))
    np.testing.assert_allclose(a.position, b.position, atol=1e-4)
    assert b.data["energy_drift"].max() < 1e-4
