"Noisy positions: the spline and its errors, frames that can be trusted, and the source that gives them."
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.contracts import BUDGETS
from symbolic_gn.core.errors import UserError
from symbolic_gn.data import observations as N
from symbolic_gn.data.trajectories import differentiate
from symbolic_gn.simulate import simulate
from symbolic_gn.studies.noise import Noisy

BUDGET = replace(BUDGETS["tiny"], simulations=12)


@pytest.fixture(scope="module")
def springs():
    return simulate("spring", simulations=32, frames=201, bodies=3, seed=3)


@pytest.fixture(scope="module")
def seen(springs):
    return N.observe(springs, 0.01, seed=1)


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
    assert len(some) == 2 and np.array_equal(some.mass, seen.mass[[4, 2]])
    assert np.array_equal(some.position[1], seen.position[2])


@pytest.mark.parametrize("noise", [-0.1, np.nan, np.inf])
def test_noise_must_be_a_fraction(springs, noise):
    with pytest.raises(UserError, match="noise is"):
        N.observe(springs, noise)


# the spline

@settings(max_examples=20, deadline=None)
@given(st.integers(16, 90))
def test_the_basis_is_orthonormal_and_holds_parabolas(frames):
    roughness, (values, slopes, bends) = N.rough_basis(frames)
    t = np.arange(float(frames))
    c = values.T @ t**2
    assert np.allclose(values.T @ values, np.eye(len(roughness)), atol=1e-7)
    assert (np.diff(roughness[3:]) > 0).all()
    assert np.allclose(values @ c, t**2, atol=1e-6 * frames**2)
    assert np.allclose(slopes @ c, 2 * t, atol=1e-5 * frames) and np.allclose(bends @ c, 2, atol=1e-4)


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.1])
def test_the_noise_level_is_found_without_being_told(springs, noise):
    o = replace(N.observe(springs, noise), sigma=None, noise=None)
    assert N.noise_level(o) / springs.position.std() == pytest.approx(noise, rel=0.03)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_units_of_length_and_the_origin_do_not_matter(seen, scale, shift):
    few = seen.select(slice(3))
    one, other = N.smooth(few), N.smooth(replace(few, position=scale * few.position + shift))
    tiny = 1e-6 * scale * np.abs(one.acceleration).max()
    assert np.allclose(other.acceleration, scale * one.acceleration, rtol=1e-4, atol=tiny)
    assert other.sigma == pytest.approx(scale * one.sigma, rel=1e-6)


def test_units_of_time_do_not_matter(seen):
    one, other = N.smooth(seen), N.smooth(replace(seen, dt=10 * seen.dt))
    assert np.allclose(one.velocity, 10 * other.velocity) and np.allclose(one.error, 100 * other.error)
    assert np.allclose(10 * one.width, other.width)


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
    assert np.isfinite(s.acceleration).all()
    assert np.median(np.abs(s.acceleration - springs.acceleration)) < 0.05 * np.abs(springs.acceleration).mean()


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
    with pytest.raises(UserError, match="at least 16"):
        N.estimate(replace(N.observe(springs, 0.01), position=springs.position[:, :10]))
    with pytest.raises(UserError, match="frames are wanted"):
        N.trusted(np.ones((1, 50)), 45, 0.1, 0.5)


# the source

@pytest.fixture(scope="module")
def loaded():
    source = Noisy("spring", 0.01)
    return source, source.load(BUDGET, 3)


def test_the_source_gives_what_the_budget_wants_and_keeps_what_was_seen(loaded):
    source, data = loaded
    assert (data.simulations, data.frames) == (BUDGET.simulations, BUDGET.frames)
    assert source.seen.frames == source.motion.frames == 500 and source.seen.noise == 0.01
    assert np.array_equal(source.seen.position, N.observe(source.motion, 0.01, 3).position)
    assert np.array_equal(data.position, N.estimate(source.seen, frames=BUDGET.frames, seed=3).position)
    assert source.name == "spring" and source.truth(data) is not None


def test_loading_again_gives_the_same_numbers(loaded):
    again = Noisy("spring", 0.01).load(BUDGET, 3)
    assert np.array_equal(again.acceleration, loaded[1].acceleration)


@pytest.mark.parametrize("seed", [0, 5])
def test_training_and_test_find_their_own_orbits(loaded, seed):
    source, data = loaded
    train, _, test = data.split(seed=seed)
    k = train.data["simulation"].values
    objective = source.objective(train)
    assert np.array_equal(objective.observations.position, source.seen.position[k])
    assert np.allclose(objective.observations.mass, train.mass)
    true = source.tests(test, BUDGET, 0)["mae"]
    assert np.array_equal(true.position, source.motion.position[test.data["simulation"].values])
    assert np.array_equal(true.mass, test.mass) and not set(k) & set(test.data["simulation"].values)


def test_what_was_loaded_can_be_resumed(tmp_path):
    first = Noisy("spring", 0.02).load(BUDGET, 1, folder=tmp_path)
    again = Noisy("spring", 0.02).load(BUDGET, 1, folder=tmp_path, resume=True)
    assert np.array_equal(first.position, again.position)


@pytest.mark.parametrize("noise", [-0.1, 0, 1, 1.5, np.nan])
def test_the_source_wants_a_fraction(noise):
    with pytest.raises(UserError, match="noise is"):
        Noisy("spring", noise)


def test_noise_is_for_worlds_that_can_be_made_as_dense_as_needed(measured):
    with pytest.raises(UserError, match="noise is for simulated systems"):
        Noisy(measured, 0.01).load(BUDGET, 0)
