"Noisy positions: the spline and its errors, frames that can be trusted, shooting, round numbers, the choice of a form."
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn import noise as N
from symbolic_gn.distill import Law, parse
from symbolic_gn.errors import UserError
from symbolic_gn.simulate import SYSTEMS, differentiate, simulate


@pytest.fixture(scope="module")
def springs(): return simulate("spring", simulations=32, frames=201, bodies=3, seed=3)


@pytest.fixture(scope="module")
def seen(springs): return N.observe(springs, 0.01, seed=1)


@pytest.fixture(scope="module")
def shot(seen): return N.refit_orbits(Law.of("1.9*r - 1.9"), seen, simulations=32)


# what is observed

def test_noise_is_a_fraction_of_the_spread_and_depends_on_the_seed(springs, seen):
    added = seen.position - springs.position
    assert added.std() / springs.position.std() == pytest.approx(0.01, rel=0.02)
    assert seen.sigma == pytest.approx(0.01 * springs.position.std(), rel=1e-6)
    assert not np.array_equal(seen.position, N.observe(springs, 0.01, seed=2).position)
    assert np.array_equal(seen.position, N.observe(springs, 0.01, seed=1).position)


def test_observations_hold_nothing_that_a_telescope_does_not_give(seen):
    assert not hasattr(seen, "velocity") and not hasattr(seen, "acceleration")


def test_a_selection_keeps_bodies_and_positions_together(seen):
    some = seen.select(np.array([4, 2]))
    assert len(some) == 2 and np.array_equal(some.mass, seen.mass[[4, 2]]) and np.array_equal(some.position[1], seen.position[2])


@pytest.mark.parametrize("noise", [-0.1, np.nan, np.inf])
def test_noise_must_be_a_fraction(springs, noise):
    with pytest.raises(UserError, match="noise is"): N.observe(springs, noise)


# the spline

@settings(max_examples=20, deadline=None)
@given(st.integers(16, 90))
def test_the_basis_is_orthonormal_and_holds_parabolas(frames):
    roughness, (values, slopes, bends) = N.rough_basis(frames)
    t = np.arange(float(frames))
    c = values.T @ t**2
    assert np.allclose(values.T @ values, np.eye(len(roughness)), atol=1e-7) and (np.diff(roughness[3:]) > 0).all()
    assert np.allclose(values @ c, t**2, atol=1e-6 * frames**2) and np.allclose(slopes @ c, 2 * t, atol=1e-5 * frames) and np.allclose(bends @ c, 2, atol=1e-4)


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.1])
def test_the_noise_level_is_found_without_being_told(springs, noise):
    o = replace(N.observe(springs, noise), sigma=None, noise=None)
    assert N.noise_level(o) / springs.position.std() == pytest.approx(noise, rel=0.03)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_units_of_length_and_the_origin_do_not_matter(seen, scale, shift):
    few = seen.select(slice(3))
    one, other = N.smooth(few), N.smooth(replace(few, position=scale * few.position + shift))
    assert np.allclose(other.acceleration, scale * one.acceleration, rtol=1e-4, atol=1e-6 * scale * np.abs(one.acceleration).max())
    assert other.sigma == pytest.approx(scale * one.sigma, rel=1e-6)


def test_units_of_time_do_not_matter(seen):
    one, other = N.smooth(seen), N.smooth(replace(seen, dt=10 * seen.dt))
    assert np.allclose(one.velocity, 10 * other.velocity) and np.allclose(one.error, 100 * other.error) and np.allclose(10 * one.width, other.width)


def test_it_beats_a_spline_through_all_points_a_hundredfold(springs, seen):
    inner = slice(20, -20)
    wrong = lambda a: np.median(np.linalg.norm(a - springs.acceleration, axis=-1)[:, inner])
    assert wrong(N.smooth(seen).acceleration) < 0.01 * wrong(differentiate(seen.position, seen.dt, 2)[0])


def test_claimed_errors_are_of_the_right_size(springs, seen):
    s, inner = N.smooth(seen), slice(20, -20)
    pull = (np.abs(s.acceleration - springs.acceleration).mean(-1) / s.error)[:, inner]
    assert 0.2 < np.median(pull) < 1.5


def test_without_noise_nothing_breaks(springs):
    s = N.smooth(N.observe(springs, 0.0))
    assert np.isfinite(s.acceleration).all() and np.median(np.abs(s.acceleration - springs.acceleration)) < 0.05 * np.abs(springs.acceleration).mean()


# frames that can be trusted

def test_estimates_are_in_the_order_of_the_observations(springs, seen):
    made = N.estimate(seen, frames=40)
    assert made.simulations == springs.simulations and made.frames == 40 and np.array_equal(made.mass, springs.mass)
    frame = made.data["frame"].values
    assert (np.diff(frame) > 0).all() and frame.min() >= 20 and frame.max() <= 180
    true = np.take_along_axis(springs.position, frame[..., None, None], axis=1)
    assert np.median(np.abs(made.position - true)) < seen.sigma
    assert "accelerations from noisy positions" in repr(made) and 0 < made.data.attrs["acceleration_error"] < 1


def test_frames_of_close_encounters_are_avoided():
    slow = np.where(np.arange(100) % 2, 0.1, 2.0)[None]
    picked, share = N.trusted(slow, 20, 0.1, 0.5)
    assert (picked % 2 == 0).all() and share == pytest.approx(0.5)
    picked, share = N.trusted(np.linspace(0.01, 0.3, 100)[None], 20, 0.1, 0.5)
    assert share == 0 and (picked == np.arange(70, 90)).all()  # the slowest, where none can be trusted


def test_too_few_frames_are_named(springs):
    with pytest.raises(UserError, match="at least 16"): N.estimate(replace(N.observe(springs, 0.01), position=springs.position[:, :10]))
    with pytest.raises(UserError, match="frames are wanted"): N.trusted(np.ones((1, 50)), 45, 0.1, 0.5)
    few = N.observe(springs, 0.01)
    few = replace(few, position=few.position[:, :30])
    with pytest.raises(UserError, match="at least 45"): N.unrolled(few, N.smooth(few))


# shooting

def test_orbits_of_the_true_law_are_the_simulated_ones(springs):
    clean = N.observe(springs, 0.0)
    orbits, state = N.unrolled(clean, N.smooth(clean))
    middle = springs.frames // 2
    state = np.concatenate([np.moveaxis(a[:, middle].astype(float), 0, -1).reshape(-1, len(clean)) for a in (springs.position, springs.velocity)])
    law = Law.of("2.0*r - 1.98")
    path, shoot = N.shooters(N.motion(law, clean.edge_index, 3), 3, 2, 2)
    there, back = orbits.run(path, state, np.array([2, -1.98]), 8, 8, np.arange(5))[0]
    for k in range(8):
        assert np.allclose(np.moveaxis(there[k], -1, 0), springs.position[:5, middle + 5 * (k + 1)], atol=1e-4)
        assert np.allclose(np.moveaxis(back[k], -1, 0), springs.position[:5, middle - 5 * (k + 1)], atol=1e-4)


def test_blocks_are_the_derivatives_of_the_misfit(seen):
    orbits, state = N.unrolled(seen, N.smooth(seen))
    path, shoot = N.shooters(N.motion(Law.of("2.0*r - 1.98"), seen.edge_index, 3), 3, 2, 2)
    c, h = np.array([2.0, -1.98]), 1e-6
    blocks = N.equations(orbits, shoot, state, c, 10)
    for k in (0, 7):
        moved = [N.equations(orbits, shoot, state + s * h * (np.arange(12) == k)[:, None], c, 10).misfit for s in (1, -1)]
        assert np.allclose((moved[0] - moved[1]) / (4 * h), blocks.g[:, k], rtol=1e-3, atol=1e-4 * np.abs(blocks.g).max())
    moved = [N.equations(orbits, shoot, state, c + s * h * np.array([0, 1]), 10).misfit for s in (1, -1)]
    assert np.allclose((moved[0] - moved[1]) / (4 * h), blocks.g[:, 13], rtol=1e-3, atol=1e-4 * np.abs(blocks.g).max())


def test_constants_come_out_within_their_errors(shot):
    for (value, error), true in zip(shot.constants.values(), (2, -1.98)): assert abs(value - true) < 5 * error < 0.05
    assert shot.provenance["misfit"] == pytest.approx(1, abs=0.1) and shot.provenance["orbits_share"] > 0.7
    assert Law.from_json(shot.to_json()).provenance["covariance"] == shot.provenance["covariance"]


def test_round_numbers(shot): assert sp.simplify(N.settle(shot).sympy - parse("2*r - 1.98")).subs("r", 1.0) == pytest.approx(0, abs=0.01)


def test_rounding_takes_correlated_constants_along():
    covariance = [[1e-4, -0.99e-2 * 1e-2], [-0.99e-2 * 1e-2, 1e-4]]
    law = Law(parse("c0*r + c1"), {"c0": (2.005, 0.01), "c1": (-1.505, 0.01)}, provenance={"covariance": covariance})
    assert {n: v for n, (v, _) in N.settle(law).constants.items()} == {"c0": 2.0, "c1": -1.5}


def test_drag_is_found_with_the_force():
    data = simulate("damped", simulations=24, frames=101, bodies=3, seed=5)
    law = Law(parse("c0*r + c1"), {"c0": (1.9, np.nan), "c1": (-1.9, np.nan), "drag": (0.5, np.nan)})
    found = N.refit_orbits(law, N.observe(data, 0.005), simulations=24)
    value, error = found.constants["drag"]
    assert abs(value - SYSTEMS["damped"].drag * 2 / 3) < 5 * error < 0.1


@pytest.mark.parametrize("law, words", [
    (Law(parse("(c0*dx, c0*dy)"), {"c0": (1.0, np.nan)}, mixing=((1.0, 0, 0), (0, 1.0, 0))), "not central"),
    (Law(parse("c0*dx"), {"c0": (1.0, np.nan)}), "uses dx"),
    (Law(parse("m_i*r")), "no constants"),
])
def test_laws_that_have_no_orbits_are_refused(seen, law, words):
    with pytest.raises(UserError, match=words): N.refit_orbits(law, seen)


def test_rounding_needs_a_covariance():
    with pytest.raises(UserError, match="refit_orbits first"): N.settle(Law.of("2*r"))


# the choice of a form

def test_the_orbits_choose_the_right_form(seen):
    estimated = N.estimate(seen, frames=60)
    choice = N.choose_by_orbits([parse(f) for f in ("2.0*r", "1.0*r**2", "2.0*r - 2.0", "m_i*r")], seen, estimated, simulations=12)
    assert str(choice.law.expr) == "c0*r + c1" and choice.table["followed"][0] > 0.7
    assert (np.diff(choice.table["price"]) >= 0).all()


def test_nothing_to_choose_from(seen):
    with pytest.raises(UserError, match="propose others"): N.choose_by_orbits([parse("dx")], seen, N.estimate(seen, frames=60))
