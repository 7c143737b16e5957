"Files of others: every format gives the same motion, clocks and gaps are seen, and every fault is one line."
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from refusing import refused

from symbolic_gn.core.contracts import BUDGETS
from symbolic_gn.data.columns import long_table, named_columns, role_of
from symbolic_gn.data.files import hdf5_array, open_hdf5
from symbolic_gn.data.formats import read_recordings, recordings_of_arrays
from symbolic_gn.data.look import health, look
from symbolic_gn.data.observations import noise_level, observed
from symbolic_gn.data.recordings import Recording, cut, equal_steps, motion_of, parts_in_time
from symbolic_gn.data.scales import Scales, dimensionless, remembered_scales, scales_of
from symbolic_gn.data.trajectories import Trajectories, from_arrays, from_recordings, from_table, in_pieces
from symbolic_gn.discover import source_of
from symbolic_gn.laws.formula import as_number
from symbolic_gn.laws.law import Law
from symbolic_gn.laws.scales import law_in_units, unit_of

t = 0.05 * np.arange(60)
phase = np.random.default_rng(0).uniform(0, 6, (4, 3, 2))
x = np.cos(t[None, :, None, None] + phase[:, None])  # (simulation, time, body, axis), a = -x


def long(numbers=x, **names) -> pd.DataFrame:
    "Positions as a long table."
    s, k, b = np.meshgrid(*map(np.arange, numbers.shape[:3]), indexing="ij")
    table = dict(simulation=s, time=t[k], id=b, x=numbers[..., 0], y=numbers[..., 1], mass=1.0 + b)
    return pd.DataFrame({names.get(n, n): np.ravel(values) for n, values in table.items()})


def wide(numbers=x[0]) -> pd.DataFrame:
    table = {f"{axis}{b}": numbers[:, b, k] for b in range(3) for k, axis in enumerate("xy")}
    return pd.DataFrame({"t": t} | table)


def write_h5(path):
    with h5py.File(path, "w") as file:
        for k in range(4):
            file[f"run{k}/pos"], file[f"run{k}/t"] = x[k], t


def write_xyz(path):
    told = "Properties=species:S:1:pos:R:3 Time={}"
    frames = [["3", told.format(t[k]), *(f"A {p[0]} {p[1]} 0" for p in x[0, k])] for k in range(60)]
    path.write_text("\n".join(line for frame in frames for line in frame))


def write_lammps(path):
    box = "ITEM: BOX BOUNDS pp pp pp\n0 1\n0 1\n0 1\n"
    head = "ITEM: TIMESTEP\n{}\nITEM: NUMBER OF ATOMS\n3\n" + box + "ITEM: ATOMS id x y z\n"
    rows = lambda k: "".join(f"{b + 1} {x[0, k, b, 0]} {x[0, k, b, 1]} 0\n" for b in (2, 0, 1))
    path.write_text("".join(head.format(k) + rows(k) for k in range(60)))


WRITERS = {  # name of the file, and how it is written
    "long.csv": lambda p: long().to_csv(p, index=False),
    "names.csv": lambda p: long(time="Time (s)", id="track_id", x="pos_x").to_csv(p, sep=";", index=False),
    "wide.tsv": lambda p: wide().to_csv(p, sep="\t", index=False),
    "wide.txt": lambda p: p.write_text("# " + wide().to_csv(sep=" ", index=False)),
    "a.npz": lambda p: np.savez(p, positions=x, dt=0.05),
    "turned.npz": lambda p: np.savez(p, loc=np.tile(x, (1, 1, 2, 1)).swapaxes(2, 3), t=t),
    "a.h5": write_h5,
    "a.nc": lambda p: xr.Dataset(
        {"position": (("axis", "body", "simulation", "time"), x.transpose(3, 2, 0, 1))}, {"time": t}).to_netcdf(p),
    "a.xyz": write_xyz,
    "a.lammpstrj": write_lammps,
}


@pytest.mark.parametrize("name", WRITERS)
def test_all_formats_say_the_same(name, tmp_path):
    WRITERS[name](tmp_path / name)
    found = read_recordings(tmp_path / name, dt=0.05 if name == "a.lammpstrj" else None)
    np.testing.assert_allclose(found[0].position[:, :3, :2], x[0], atol=1e-12)
    np.testing.assert_allclose(found[0].time, t, atol=1e-12)
    assert len(found) in (1, 4) and set(found[0].properties) <= {"mass"}


def test_a_file_becomes_trajectories(tmp_path):
    long().to_csv(tmp_path / "a.csv", index=False)
    whole = Trajectories.load(tmp_path / "a.csv")
    assert (whole.simulations, whole.frames, whole.bodies) == (4, 60, 3) and whole.mass[2].tolist() == [1, 2, 3]
    good = whole.trusted
    assert np.abs(whole.acceleration + whole.position)[good].max() < 1e-3 and good.mean() > 0.9
    again = from_table(long(), mass=[3.0, 2.0, 1.0])
    assert again.mass[0].tolist() == [3, 2, 1] and np.array_equal(again.position, whole.position)
    whole.save(tmp_path / "a.nc")
    assert np.array_equal(Trajectories.load(tmp_path / "a.nc").trusted, good)
    assert source_of(long()).load(BUDGETS["tiny"], 0).simulations == 4


FAULTS = {  # of a long table: what is done to it, and what is said
    "no id": (lambda f: f.drop(columns="id"), "has no column id; name it with --columns id=NAME"),
    "no time": (lambda f: f.drop(columns="time"), "no column of times; give its name with --columns time=NAME"),
    "frames only": (lambda f: f.rename(columns={"time": "frame"}), "give --dt, the time between frames"),
    "text": (
        lambda f: f.astype({"x": object}).replace({"x": {f["x"][7]: "far"}}), "row 8, column 'x': 'far' is no number"),
    "twice": (lambda f: pd.concat([f, f.iloc[[5]]]), "row 721: 2 is there twice at time 0.05"),
    "two names": (lambda f: f.rename(columns={"time": "t"}).assign(seconds=1), "may both be time; say which"),
    "few frames": (lambda f: f[f.time < 0.2], "was seen in fewer than 6 frames"),
    "other numbers": (
        lambda f: f[(f.simulation > 0) | (f.id < 2)], "recordings of 2, 3 bodies; give those of one number"),
    "coincide": (lambda f: f.assign(x=f.time, y=0), "bodies 0 and 1 coincide"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_tables_are_one_line(fault, tmp_path):
    change, said = FAULTS[fault]
    change(long()).to_csv(tmp_path / "mine.csv", index=False)
    line = refused(Trajectories.load, tmp_path / "mine.csv")
    assert said in line and (fault == "coincide" or "mine.csv" in line)


BROKEN = {  # files that are none of what they say
    "a.csv": b"", "b.csv": bytes(range(256)), "a.npz": b"PK\x03\x04", "a.h5": b"\x89HDF", "a.nc": b"CDF",
    "a.xyz": b"three\n", "a.lammpstrj": b"nothing",
    "b.xyz": b"3\n\nA 1 2\nA 1 2\nA 1 2\n", "a.parquet": b"PAR1", "a.doc": b"",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_one_line(name, tmp_path):
    (tmp_path / name).write_bytes(BROKEN[name])
    line = refused(Trajectories.load, tmp_path / name)
    assert name in line or "'.doc' is unknown" in line
    assert "does not exist" in refused(Trajectories.load, tmp_path / f"no-{name.replace('doc', 'csv')}")


def test_no_object_of_a_file_is_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", position=np.array([{"evil": 1}], dtype=object))
    assert "no readable .npz file of numbers" in refused(read_recordings, tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("notes.npy", b"cos\nsystem\n(S'true'\ntR.")
    assert "has no positions" in refused(read_recordings, tmp_path / "b.npz")


def test_hdf5_points_nowhere(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["t"] = t
        file["pos"] = h5py.ExternalLink("/etc/hostname", "/")
        file.create_dataset("far", (3,), "f8", external=[("/etc/hostname", 0, 24)])
    with open_hdf5(tmp_path / "a.h5") as file:
        assert "is a link to elsewhere" in refused(hdf5_array, file, "pos", "a.h5")
        assert "lies in another file" in refused(hdf5_array, file, "far", "a.h5")


def test_arrays_say_what_is_missing():
    assert "has no times; give --dt" in refused(recordings_of_arrays, dict(position=x))
    assert "velocity is (4, 59, 3, 2)" in refused(recordings_of_arrays, dict(position=x, velocity=x[:, 1:], dt=0.1))
    assert "position has shape (60, 3)" in refused(recordings_of_arrays, dict(position=x[0, :, :, 0], dt=0.1))
    assert "time has shape (4,)" in refused(recordings_of_arrays, dict(position=x, time=np.arange(4.0)))
    named = recordings_of_arrays(dict(spots=x, clock=t), columns=dict(position="spots", time="clock"))
    assert len(named) == 4
    assert "no array 'dots'" in refused(recordings_of_arrays, dict(x=x), "arrays", dict(position="dots"))


def test_columns_are_told_or_guessed():
    assert [role_of(n) for n in ("T", "Velocity_X", "y [mm]", "acc_z", "colour")] == ["time", "vx", "y", "az", None]
    told = named_columns(long(time="when"), dict(time="when"))
    assert "time" in told and "simulation" in told
    assert "'speed' is no role" in refused(named_columns, told, dict(speed="x"))
    table = pd.DataFrame({"time": t, **{f"star {b}.{a}": t for b in "ab" for a in ("x", "y", "vx", "vy", "mass")}})
    found = long_table(table)
    assert set(found) == {"time", "x", "y", "vx", "vy", "mass", "id"} and len(found) == 120
    assert "do not have the same columns" in refused(long_table, table.drop(columns="star b.vy"))


# clocks, gaps, pieces


def test_uneven_clocks_and_gaps():
    rng = np.random.default_rng(1)
    clock = np.sort(rng.uniform(0, 30, 1500))
    there = np.cos(clock[:, None, None] + phase[0])
    there[rng.random((1500, 3)) < 0.05] = np.nan
    pause = (clock > 10) & (clock < 12)
    one = Recording(clock[~pause], there[~pause])
    motion = motion_of(one, 0.02)
    grid = clock[0] + 0.02 * np.arange(len(motion.there))
    assert not motion.there[(grid > 10.1) & (grid < 11.9)].any() and motion.there.mean() > 0.8
    data = from_recordings([one])
    off = np.abs(data.acceleration + data.position).max((-1, -2))
    assert np.median(off[data.trusted]) < 0.02 and off[data.trusted].max() < 0.5
    assert data.data.attrs["acceleration_from"] == "positions"
    told = look(data, [one])
    assert any("uneven" in line and "1 pause" in line and "missing" in line for line in told)


def test_one_recording_is_cut_in_time():
    one = in_pieces(from_arrays(np.cos(0.02 * np.arange(900)[:, None, None] + phase[0]), dt=0.02, size=[1.0, 2.0, 3.0]))
    train, validation, test = one.split()
    assert [len(part) for part in (train, validation, test)] == [26, 6, 6]
    assert one.others["size"][7].tolist() == [1, 2, 3]
    first = lambda part: part.position[:, 0, 0, 0]
    whole = np.cos(0.02 * np.arange(900) + phase[0, 0, 0])
    places = lambda part: [int(np.argmin(np.abs(whole - v))) for v in first(part)]
    assert len(set(places(train)) & set(places(test))) == 0
    three = from_arrays(x[:3], dt=0.05)
    assert in_pieces(three) is three


def test_pieces_of_many_recordings_stay_together():
    rng = np.random.default_rng(2)
    motions = [motion_of(Recording(t[: 40 + k], x[k % 4, : 40 + k]), 0.05) for k in rng.permutation(12)]
    pieces, of = cut(motions)
    for k in set(of.tolist()):
        assert len(set(pieces["part"][of == k].tolist())) == 1
    assert set(pieces["part"].tolist()) == {0, 1, 2}


@pytest.mark.parametrize("number", [3, 4, 11, 12, 40, 200])
def test_the_end_is_for_the_judgement(number):
    part = parts_in_time(number)
    assert len(part) == number and {0, 1, 2} <= set(part.tolist())
    assert np.flatnonzero(part == 0).max() < np.flatnonzero(part == 1).min() < np.flatnonzero(part == 2).min()


def test_velocities_that_are_given_are_used():
    rows = [Recording(t, x[k], -np.sin(t[:, None, None] + phase[k])) for k in range(3)]
    arrays = equal_steps(rows)
    np.testing.assert_allclose(arrays["velocity"], [r.velocity for r in rows], atol=1e-9)
    given = equal_steps([replace(r, acceleration=-r.position) for r in rows])
    assert not given["doubt"].any() and np.allclose(given["acceleration"], -x[:3])


# scales


def test_far_scales_are_brought_near_and_back():
    mine = from_arrays(1e12 * x, dt=5e4, mass=1e30 * np.arange(1, 4), radius=[7e8, 8e8, 9e8])
    near = dimensionless(mine)
    scales = remembered_scales(near)
    assert 0.3 < np.median(near.mass) < 3 and scales == scales_of(mine) and scales.others["radius"] == 8e8
    np.testing.assert_allclose(near.position * scales.length, mine.position, rtol=1e-12)
    np.testing.assert_allclose(near.dt * scales.time, mine.dt)
    assert dimensionless(from_arrays(x, dt=0.05)).data.attrs.get("scales") is None


@pytest.mark.parametrize("text", [
    "1.3*m_i*m_j/r**2.03", "2.0*(r - 1)", "m_i*m_j/(r + 0.02)**2", "0.7*q_i*q_j*exp(-r/0.4)/r",
    "0.3*radius_i*r**3 - 0.2*vx_j",
])
def test_laws_mean_the_same_in_other_units(text):
    rng, scales = np.random.default_rng(3), Scales(2.5e11, 3e6, 4e30, 1.6e-19, dict(radius=7e8))
    near = Law.of(text, target="force")
    far, values = law_in_units(near, scales), {n: rng.uniform(0.5, 2, 50) for n in near.inputs}
    unit = scales.mass * scales.acceleration
    found = far.numpy()(**{n: v * unit_of(n, scales) for n, v in values.items()})
    np.testing.assert_allclose(found / unit, near.numpy()(**values), rtol=1e-9)
    assert Law.from_json(far.to_json()).inputs == near.inputs


def test_errors_of_constants_go_along():
    near = Law.of("2.0*m_j/r**2", target="acceleration")
    near = replace(near, constants={n: (v, 0.01) for n, (v, _) in near.constants.items()})
    far = law_in_units(near, Scales(1e9, 1e3, 1e20))
    relative = {n: e / abs(v) for n, (v, e) in far.constants.items()}
    assert min(relative.values()) == pytest.approx(0.005, rel=1e-6)
    assert law_in_units(near, Scales()) is near


@pytest.mark.parametrize("value", [6.67e-11, 7e-33, -1e-20, 3e40])
def test_small_numbers_are_not_nothing(value):
    assert float(as_number(value)) == value and float(as_number(0.0)) == 0


# errors of measurement


def test_errors_of_positions_go_in(tmp_path, run):
    rough = x + 0.01 * np.random.default_rng(0).normal(size=x.shape)
    told = from_table(long(rough).assign(position_error=[0.009, 0.01, 0.5] * (rough[..., 0].size // 3)))
    assert told.data.attrs["position_error"] == 0.01 and not told.others
    assert in_pieces(from_table(wide(rough[0]), position_error=0.02)).data.attrs["position_error"] == 0.02
    far = dimensionless(from_arrays(1e12 * rough, dt=5e4, position_error=1e10))
    assert far.data.attrs["position_error"] == 1e10 / remembered_scales(far).length
    assert noise_level(observed(from_arrays(rough, dt=0.05, position_error=0.03))) == 0.03
    assert 0.008 < noise_level(observed(from_arrays(rough, dt=0.05))) < 0.012
    assert "the error is smaller" in "".join(look(from_arrays(rough, dt=0.05, position_error=0.1)))
    assert "the error that was told" not in "".join(look(told))
    long(rough).to_csv(tmp_path / "mine.csv", index=False)
    code, out, _ = run("look", tmp_path / "mine.csv", "--position-error", "0.01")
    assert code == 0 and "0.01 of a coordinate, as told" in out
    code, _, err = run("look", tmp_path / "mine.csv", "--position-error", "-1")
    assert code == 2 and "position_error is -1" in err and err.count("\n") == 1


# what data say of themselves


def test_data_tell_what_is_wrong_with_them():
    t = 0.02 * np.arange(200)
    start = np.random.default_rng(0).normal(size=(10, 1, 1, 2)) * [[1.0], [-1 / 3]]
    swing, speed = (start * f(t)[None, :, None, None] for f in (np.cos, lambda t: -np.sin(t)))
    sound = from_arrays(swing, speed, dt=0.02, mass=[1.0, 3.0])
    assert look(sound)[-1].endswith("nothing was noticed") and health(sound)["torque"] < 1e-6
    assert "masses are others" in "".join(look(from_arrays(swing, speed, dt=0.02, mass=[3.0, 1.0])))
    assert "check the time step" in "".join(look(from_arrays(swing, speed, dt=0.04, mass=[1.0, 3.0])))
    rough = swing + 0.01 * np.random.default_rng(1).normal(size=swing.shape)
    assert "noise of up to" in "".join(look(from_arrays(rough, dt=0.02, mass=[1.0, 3.0])))
    turned = from_arrays(swing, speed, np.stack([-swing[..., 1], swing[..., 0]], -1), dt=0.02, mass=[1.0, 3.0])
    assert "torques do not balance" in "".join(look(turned))


def test_look_and_options_from_the_command_line(tmp_path, run):
    wide().rename(columns={"t": "clock"}).to_csv(tmp_path / "mine.csv", index=False)
    options = ("--columns", "time=clock", "--mass", "1,2,3", "--out", tmp_path / "m.nc")
    code, out, _ = run("look", tmp_path / "mine.csv", *options)
    assert code == 0 and "1 recording of 3 bodies" in out and "mass 1 to 3" in out
    assert Trajectories.load(tmp_path / "m.nc").mass[0].tolist() == [1, 2, 3]
    code, out, _ = run("look", tmp_path / "m.nc")
    assert code == 0 and "3 bodies" in out
    for words, said in {
        ("--columns", "clock"): "write NAME=WORD", ("--mass", "a,b"): "give numbers",
        ("--columns", "time=when"): "no column 'when'",
        ("--columns", "time=clock", "--mass", "1,2"): "mass has 2 numbers for 3 bodies",
        ("--columns", "time=clock", "--out", "a.doc"): "ends in .nc",
    }.items():
        code, _, err = run("look", tmp_path / "mine.csv", *words)
        assert code == 2 and said in err and err.count("\n") == 1
    code, _, err = run("discover", "spring", "--dt", "0.1")
    assert code == 2 and "--dt is for files, and spring is none" in err


def test_what_was_measured_stays_as_it_is():
    moving = [Recording(t[:3], x[k, :3], -x[k, :3], 2 * x[k, :3]) for k in range(3)]
    arrays = equal_steps(moving)  # three frames are enough where nothing is differentiated
    np.testing.assert_array_equal(arrays["velocity"], -x[:3, :3])
    np.testing.assert_array_equal(arrays["acceleration"], 2 * x[:3, :3])
    assert "fewer than 6 frames" in refused(equal_steps, [replace(r, acceleration=None) for r in moving])


def test_a_clock_that_says_something_else_is_told(tmp_path):
    long().to_csv(tmp_path / "a.csv", index=False)
    assert "--dt is 0.1, but its times step by 0.05" in refused(Trajectories.load, tmp_path / "a.csv", dt=0.1)
    assert Trajectories.load(tmp_path / "a.csv", dt=0.05).dt == pytest.approx(0.05)


def test_columns_that_are_left_out_are_told(tmp_path, run):
    table = long().assign(colour="red", heat=lambda f: f["time"], size=lambda f: f["id"] + 1.0)
    table.to_csv(tmp_path / "a.csv", index=False)
    code, out, _ = run("look", tmp_path / "a.csv")
    assert code == 0 and "left out     colour is no number" in out and "size 1 to 3" in out
    assert "left out     heat changes in time" in out


def test_a_strangers_file_walks_from_command_to_command(tmp_path, run):
    long(1e11 * x).to_csv(tmp_path / "far.csv", index=False)
    small = ("--steps", 8, "--set", 'architecture={"hidden": 8, "layers": 1}', "--set", "batch=8", "--device", "cpu")
    assert run("train", tmp_path / "far.csv", "--out", tmp_path / "run", *small)[0] == 0
    assert run("analyze", tmp_path / "run")[0] == 0
    assert run("distill", tmp_path / "run", "--engine", "library", "--time-limit", 5)[0] == 0
    law = Law.from_json(tmp_path / "run" / "law.json")
    mine = Trajectories.load(tmp_path / "far.csv")
    size = np.abs(law.accelerations(mine.position[0], mine.velocity[0], mine.mass[0], mine.charge[0])).max()
    assert 1e8 < size < 1e14  # in the file's units, not in those of the search
