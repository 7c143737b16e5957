"Trajectories: parts, files, your own arrays, further properties, hidden ones, and every mistake a user can make."
import os

import matplotlib
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.core.graph import edge_inputs
from symbolic_gn.data.checks import TAKEN, check_positive
from symbolic_gn.data.files import read_dataset, replaced, write_dataset
from symbolic_gn.data.orbits import angular_momentum, animate, drift, momentum, plot
from symbolic_gn.data.properties import PROPERTIES, balance, numbers, with_property
from symbolic_gn.data.trajectories import (
    Trajectories,
    draw_snapshots,
    from_arrays,
    node_features,
    split_simulations,
)
from symbolic_gn.simulate import energy, simulate

matplotlib.use("Agg")
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
x = np.random.default_rng(0).normal(size=(3, 10, 4, 2))


@pytest.fixture(scope="module")
def data():
    return simulate("spring", simulations=20, frames=30)


def with_parts(data, part):
    return Trajectories(data.data.assign(part=("simulation", np.asarray(part))))


def assert_refused(call, *words):
    "The one line with which a call is refused."
    with pytest.raises(UserError) as caught:
        call()
    said = str(caught.value)
    assert said and "\n" not in said and all(word in said for word in words), said


# parts


@few
@given(count=st.integers(3, 400), seed=st.integers(0, 2**31 - 1))
def test_parts_share_no_simulation(count, seed):
    parts = split_simulations(count, seed)
    assert all(len(part) for part in parts)
    assert sorted(np.concatenate(parts)) == list(range(count))
    again = split_simulations(count, seed)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again))


def test_parts_are_those_of_always():
    "Runs that were made before must go on with the same simulations."
    train, validation, test = split_simulations(20, 0)
    np.testing.assert_array_equal(validation, [4, 6, 19])
    np.testing.assert_array_equal(test, [2, 13, 16])
    np.testing.assert_array_equal(train, np.setdiff1d(np.arange(20), [2, 4, 6, 13, 16, 19]))
    assert [len(part) for part in split_simulations(100, fractions=(0.3, 0.1))] == [60, 30, 10]


def test_too_few_to_split(data):
    assert_refused(lambda: split_simulations(2), "has 2 simulation(s)", "at least 3")
    assert_refused(lambda: data.select(slice(2)).split(), "at least 3")
    assert_refused(lambda: data.split(fractions=(0.9, 0.9)), "fractions are (0.9, 0.9)")
    assert_refused(lambda: data.parts(fractions=(0.2, -0.1)), "fractions are (0.2, -0.1)")


def test_split_and_select(data):
    parts = data.split(seed=1)
    assert [len(p) for p in parts] == [14, 3, 3]
    starts = np.concatenate([p.position[:, 0, 0, 0] for p in parts])
    assert len(np.unique(starts)) == 20
    for k, part in zip(data.parts(seed=1), parts):
        np.testing.assert_array_equal(part.position, data.position[k])
    np.testing.assert_array_equal(parts[0].position, data.split(seed=1)[0].position)
    assert not np.array_equal(parts[0].position, data.split(seed=2)[0].position)
    assert np.shares_memory(data.select(slice(3)).position, data.position) and len(data.select(4)) == 1
    np.testing.assert_array_equal(data.select(np.arange(20) < 2).position, data.position[:2])
    assert (data.simulations, data.frames, data.bodies, data.dim, data.system) == (20, 30, 4, 2, "spring")
    assert np.shares_memory(data.position, data.data["position"].values)


def test_data_may_know_its_parts(data, tmp_path):
    part = np.arange(20) % 3
    ordered = with_parts(data, part)
    for seed in (0, 1):
        for k, found in enumerate(ordered.parts(seed)):
            np.testing.assert_array_equal(found, np.flatnonzero(part == k))
    test = ordered.split()[2]
    np.testing.assert_array_equal(test.position, data.position[2::3])
    assert [len(p) for p in test.parts()] == [4, 1, 1]  # within one part: shuffled again
    ordered.save(tmp_path / "ordered.nc")
    np.testing.assert_array_equal(Trajectories.load(tmp_path / "ordered.nc").parts()[1], np.arange(1, 20, 3))
    assert_refused(lambda: with_parts(data, part % 2).parts(), "no simulation for test")
    assert_refused(lambda: with_parts(data, part + 1).parts(), "must be 0 (training), 1 (validation) or 2 (test)")


# files


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
        assert_refused(lambda: Trajectories.load(tmp_path / f"{name}.nc"), message, f"{name}.nc")
    assert_refused(lambda: data.save(tmp_path / "no folder" / "a.nc"), "cannot be written")


def test_a_failed_save_leaves_the_old_file(data, tmp_path, monkeypatch):
    data.save(file := tmp_path / "a.nc")
    before = file.read_bytes()

    def fail(*_): raise OSError("disk full")
    monkeypatch.setattr(os, "replace", fail)
    assert_refused(lambda: data.save(file), "disk full")
    assert file.read_bytes() == before and os.listdir(tmp_path) == ["a.nc"]


def test_what_is_written_meanwhile_is_seen_whole_or_not_at_all(tmp_path):
    file = tmp_path / "a.txt"
    with replaced(file) as part:
        part.write_text("new")
        assert part.parent == tmp_path and not file.exists()
    assert file.read_text() == "new"
    with pytest.raises(KeyboardInterrupt), replaced(file) as part:
        part.write_text("half")
        raise KeyboardInterrupt
    assert file.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_any_dataset_can_be_kept(tmp_path):
    weather = xr.Dataset({"temperature": ("time", np.arange(3.0))}, attrs=dict(place="here"))
    write_dataset(weather, tmp_path / "weather.nc")
    assert read_dataset(tmp_path / "weather.nc").identical(weather)
    assert_refused(lambda: Trajectories.load(tmp_path / "weather.nc"), "weather.nc", "position")
    assert_refused(lambda: Trajectories.load(tmp_path), str(tmp_path))


@few
@given(draws=st.data())
def test_a_truncated_or_foreign_nc_is_refused(draws, springs, tmp_path):
    springs.save(tmp_path / "good.nc")
    good, path = (tmp_path / "good.nc").read_bytes(), tmp_path / "bad.nc"
    for content in (good[: draws.draw(st.integers(0, len(good) - 1))], draws.draw(st.binary(max_size=200))):
        path.write_bytes(content)
        assert_refused(lambda: Trajectories.load(path), "bad.nc")


def test_saved_trajectories_are_whole_or_absent(springs, tmp_path):
    (tmp_path / "file").write_text("")
    assert_refused(lambda: springs.save(tmp_path / "file" / "data.nc"), "data.nc cannot be written")
    assert_refused(lambda: springs.save(tmp_path / "nowhere" / "data.nc"), "data.nc cannot be written")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# your own arrays


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
    np.testing.assert_allclose(energy(mine, "spring"), energy(run), rtol=1e-2)
    if given_ != "all":
        assert "off by about" in repr(mine)


def test_noise_shows_in_the_estimate():
    run, rng = simulate("spring", simulations=10, frames=60, dtype="float64"), np.random.default_rng(0)
    mine = from_arrays(run.position + 1e-4 * rng.normal(size=run.position.shape), dt=run.dt)
    error = np.linalg.norm(mine.acceleration - run.acceleration, axis=-1) / np.linalg.norm(run.acceleration, axis=-1)
    assert 0.3 < mine.data.attrs["acceleration_error"] / np.median(error) < 3


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
    "topology": (dict(position=x, topology="ring"), "topology 'ring' is unknown"),
    "property shape": (dict(position=x, radius=[1, 2]), "radius has shape"),
    "property nan": (dict(position=x, radius=[1, 2, np.nan, 3]), "radius holds NaN"),
    "property text": (dict(position=x, colour=["red"] * 4), "colour holds"),
    "property word": (dict(position=x) | {"my radius": np.ones(4)}, "'my radius' is no plain word"),
    "property keyword": (dict(position=x) | {"lambda": np.ones(4)}, "'lambda' is no plain word"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_from_arrays_refuses(fault):
    given_, message = FAULTS[fault]
    assert_refused(lambda: from_arrays(**dict(dt=0.1) | given_), message)


@pytest.mark.parametrize("value", ["fast", None, np.nan, np.inf, 0, -1.0])
def test_what_is_no_positive_number(value):
    assert_refused(lambda: check_positive("dt", value), f"dt is {value!r}; give a positive number")


# further properties


@pytest.mark.parametrize("name", sorted(TAKEN - {"position", "velocity", "acceleration", "mass", "charge"}))
def test_taken_names_are_refused(name):
    assert_refused(lambda: from_arrays(x, dt=0.1, **{name: np.ones(4)}), f"property {name!r}", "choose another")


def test_every_input_of_an_edge_is_taken():
    inputs, _ = edge_inputs(np.ones((4, 3)), np.ones((4, 3)), None, None, np.array([[0], [1]]))
    assert set(inputs) <= TAKEN


def test_others_keep_their_order_and_are_kept(tmp_path):
    mine = from_arrays(x, x, x, dt=0.1, zeal=[4, 3, 2, 1], age=np.arange(12).reshape(3, 4), mass=[1, 2, 3, 4])
    assert list(mine.others) == ["zeal", "age"]
    np.testing.assert_array_equal(mine.others["zeal"], np.tile([4, 3, 2, 1], (3, 1)))
    mine.save(tmp_path / "mine.nc")
    again = Trajectories.load(tmp_path / "mine.nc")
    assert list(again.others) == ["zeal", "age"] and "with zeal, age" in repr(again)
    np.testing.assert_array_equal(again.select([2]).others["age"], [[8, 9, 10, 11]])
    assert from_arrays(x, dt=0.1).others == {}


def test_node_features_end_in_charge_and_mass():
    mine = from_arrays(x, -x, x, dt=0.1, radius=[4, 3, 2, 1], mass=[1, 2, 3, 4], charge=[5, 6, 7, 8])
    features = node_features(mine, np.array([0, 2]), np.array([9, 1]))
    assert features.shape == (2, 4, 7)
    np.testing.assert_array_equal(features[1, :, :2], x[2, 1])
    np.testing.assert_array_equal(features[1, :, 2:4], -x[2, 1])
    np.testing.assert_array_equal(features[0, :, 4:].T, [[4, 3, 2, 1], [5, 6, 7, 8], [1, 2, 3, 4]])


def test_simulated_worlds_have_no_others(data):
    assert data.others == {}
    assert node_features(data, *draw_snapshots(data, 5)).shape == (5, 4, 6)


def test_snapshots_are_distinct_and_bounded(springs):
    s, t = draw_snapshots(springs, 10**6)
    assert len(s) == len(set(zip(s.tolist(), t.tolist()))) == springs.simulations * springs.frames
    assert_refused(lambda: draw_snapshots(springs, 0), "snapshots is 0")


# what must not change, and pictures


def test_drift_and_momenta():
    time = np.linspace(0, 1, 5)[None, :, None, None]
    free = from_arrays(x[:, :1] + x[:, 1:2] * time, np.repeat(x[:, 1:2], 5, 1), np.zeros((3, 5, 4, 2)), dt=0.25)
    np.testing.assert_allclose(momentum(free), np.repeat(x[:, 1:2].sum(2), 5, 1))
    assert drift(momentum(free)).max() < 1e-12 and drift(angular_momentum(free)).max() < 1e-9
    np.testing.assert_allclose(drift(np.array([[2.0, 3, 1], [1, 1, 1]])), [0.5, 0])
    flat = np.concatenate([free.position, 0 * free.position[..., :1]], -1)
    still = np.concatenate([free.velocity, 0 * free.velocity[..., :1]], -1)
    in_space = angular_momentum(from_arrays(flat, still, 0 * flat, dt=0.25))
    np.testing.assert_allclose(in_space[..., 2], angular_momentum(free))
    np.testing.assert_array_equal(in_space[..., :2], 0)


def test_pictures(data):
    import matplotlib.pyplot as plt

    assert plot(data).get_title() == "spring"
    assert len(plot(simulate("r1", simulations=1, dim=3)).lines) == 4
    assert "img" in animate(data, frames=2).to_jshtml()
    plt.close("all")


# hidden properties


@pytest.mark.parametrize("hidden", PROPERTIES)
def test_nothing_of_the_hidden_property_is_left(hidden, data):
    blind = with_property(data, hidden, 1.0)
    assert (getattr(blind, hidden) == 1).all() and hidden in blind.system
    assert not (getattr(data, hidden) == 1).any(), "the original is not touched"
    other = "mass" if hidden == "charge" else "charge"
    assert (getattr(blind, other) == getattr(data, other)).all()
    np.testing.assert_array_equal(getattr(with_property(data, hidden, np.arange(1, 5)), hidden)[7], [1, 2, 3, 4])
    column = node_features(blind, np.array([3]), np.array([2]))[0, :, PROPERTIES[hidden].column]
    np.testing.assert_array_equal(column, 1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=6), st.integers(0, 99))
def test_balance_finds_masses_whatever_the_law(masses, seed):
    m, rng = np.array(masses), np.random.default_rng(seed)
    force = rng.normal(size=(4, 30, len(m), len(m), 2))
    force = force - force.swapaxes(2, 3)  # what i feels, j feels with the other sign
    a, at = force.sum(3) / m[:, None], rng.normal(size=(4, 30, len(m), 2))
    found, imbalance = balance(from_arrays(at, at, a, mass=m, dt=0.1))
    np.testing.assert_allclose(found, m / m.max(), rtol=1e-6)
    assert imbalance < 1e-6


def test_numbers_of_bodies(data):
    np.testing.assert_array_equal(numbers(None, data), np.tile(np.arange(4), (20, 1)))
    np.testing.assert_array_equal(numbers(np.array([3, 1, 0, 2]), data)[11], [3, 1, 0, 2])
    assert_refused(lambda: numbers(np.array([0.0, 1, 2, 3]), data), "whole numbers")
    assert_refused(lambda: numbers(np.array([0, 1, 2]), data), "of shape")
    assert_refused(lambda: numbers(np.array([0, 1, 2, 4]), data), "with gaps")
    assert_refused(lambda: numbers(np.array([0, 1, 2, 2]), data), "the same body twice")
