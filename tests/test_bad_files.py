"Files with something wrong: one line that names file, row and column; and good files that are rarely met."
import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from refusing import refused

from symbolic_gn.data.checks import some_of
from symbolic_gn.data.formats import read_recordings
from symbolic_gn.data.look import look
from symbolic_gn.data.trajectories import Trajectories, from_arrays, from_recordings, from_table
from symbolic_gn.discover import source_of
from symbolic_gn.laws.units import units_of_motion
from symbolic_gn.simulate import prepared

rng = np.random.default_rng(0)
t = 0.05 * np.arange(40)
speed, phase, size = (rng.uniform(a, b, (4, 1, 3, 2)) for a, b in ((0.7, 1.3), (0, 6.28), (0.5, 1.5)))
X = 3 * np.arange(3)[:, None] + size * np.sin(speed * t[None, :, None, None] + phase)  # (simulation, time, body, axis)


def table(x=X, **more) -> pd.DataFrame:
    "A long table of three bodies."
    s, k, b = (a.ravel() for a in np.meshgrid(*map(np.arange, x.shape[:3]), indexing="ij"))
    motion = {a: x[..., n].ravel() for n, a in enumerate("xyz"[: x.shape[3]])}
    return pd.DataFrame(dict(simulation=s, time=t[k], id=b) | motion | dict(mass=1.0 + b) | more)


def put(row, column, value, frame=None) -> pd.DataFrame:
    "The table with another value in one cell."
    frame = (table() if frame is None else frame).copy()
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


def wide(*names) -> pd.DataFrame:
    "A row for each time, columns for bodies of these names."
    return pd.DataFrame({"t": t} | {f"{n}_{a}": X[0, :, b, k] for b, n in enumerate(names) for k, a in enumerate("xy")})


G, W, V = table(), wide("star1", "star2", "star3"), table(vx=0.1, vy=0.2)
FRAMES = G.drop(columns="time").assign(frame=10 * np.round(G["time"] / 0.05).astype(int))
REST = pd.DataFrame(dict(simulation=np.repeat(np.arange(9), 3), id=np.tile([0, 1, 2], 9)) | dict(
    zip(("x", "y", "ax", "ay"), rng.random((4, 27)))))


# tables: what is in them, options, and what is said


TABLES = {
    "a body without y": (W.drop(columns="star2_y"), {}, "star2 has star2_x, but no y"),
    "names that differ in capitals": (
        W.rename(columns={"star2_x": "STAR1_x", "star2_y": "STAR1_y"}), {}, "'star1_x' and 'STAR1_x' are both x"),
    "wide: a cell of text": (put(7, "star2_y", "oops", W), {}, "row 8, column 'star2_y': 'oops' is no number"),
    "wide: a time twice": (W.assign(t=np.where(t == t[7], t[6], t)), {}, "row 8: star1 is there twice"),
    "nothing moves": (G.assign(x=G.id * 1.0, y=0.0), {}, "no body moves"),
    "straight lines": (G.assign(x=G.time * (1 + G.id), y=G.id * 1.0), {}, "no body is accelerated"),
    "a = 0 at rest": (REST.assign(ax=0.0, ay=0.0), {}, "no body is accelerated"),
    "a small box": (G, dict(box=2), "box 2 x 2 is too small: x spans"),
    "a tiny box": (G, dict(box=1e-9), "is too small"),
    "a box at rest": (REST, dict(box=5), "box is for bodies that move"),
    "no box": (REST, dict(box=-5), "box is -5"),
    "mass unknown": (put(0, "mass", np.nan, G.assign(mass=np.where(G.id == 1, np.nan, 1))), {},
        "mass is unknown for body 1"),
    "mass changes": (G.assign(mass=1 + G.time), {}, "mass changes in time; mend it, or tell it with --mass"),
    "charge infinite": (G.assign(charge=np.where(G.id == 1, np.inf, 1)), {},
        "row 2, column 'charge': 'inf' is no finite"),
    "charge in one simulation": (
        G.assign(charge=np.where(G.simulation == 0, 1.0, np.nan)), {}, "simulation 1: charge is unknown for body 0"),
    "mass of one body": (W.assign(star1_mass=2.0), {}, "do not have the same columns (mass of one is missing)"),
    "mass below 0": (G.assign(mass=np.where(G.id == 1, -1, 1)), {}, "simulation 0: mass of body 1 is -1; mass must be"),
    "dt contradicts": (G, dict(dt=7), "--dt is 7, but its times step by 0.05"),
    "units of axes": (G.rename(columns={"x": "x [m]", "y": "y [km]"}), {}, "'x [m]' is in m, 'y [km]' in km"),
    "units of velocity": (
        V.rename(columns={"x": "x (km)", "y": "y (km)", "vx": "vx (m/s)", "vy": "vy (m/s)"}), {},
        "'vx (m/s)' is in m/s"),
    "units of bodies": (
        W.rename(columns={"star1_x": "star1_x (km)", "star2_x": "star2_x (m)"}), {}, "units are not converted"),
    "vx without vy": (V.drop(columns="vy"), {}, "vx is there, vy is missing"),
    "vz without z": (V.assign(vz=0.0), {}, "vz is there, z is missing"),
    "one column, two roles": (G, dict(columns=dict(x="y", y="y")), "column 'y' cannot be x and y"),
    "time empty": (put(10, "time", np.nan), {}, "row 11: time is empty"),
    "id empty": (put(10, "id", np.nan), {}, "row 11: id is empty"),
    "simulation empty": (put(10, "simulation", np.nan), {}, "row 11: simulation is empty"),
    "frame empty": (put(4, "frame", np.nan, FRAMES), dict(dt=1), "row 5: frame is empty"),
    "x infinite": (put(10, "x", np.inf), {}, "row 11, column 'x': 'inf' is no finite number"),
    "time infinite": (put(10, "time", np.inf), {}, "row 11, column 'time'"),
    "true and false": (G.assign(x=G.x > 3), {}, "column 'x' holds true and false"),
    "no velocity": (V.assign(vx=np.where(V.id == 1, np.nan, 0.1)), {},
        "body 1 was seen with a velocity in fewer than 6"),
    "masses, too few": (G, dict(mass=[1, 2]), "mass has 2 numbers for 3 bodies"),
    "masses at rest": (REST, dict(mass=[1, 2]), "mass has 2 numbers for 3 bodies"),
    "charges at rest": (REST, dict(charge=[1, 2, 3, 4]), "charge has 4 numbers for 3 bodies"),
    "mass of a stranger": (W, dict(mass=dict(star9=1)), "body 'star9' is unknown, did you mean"),
    "no rows": (G[:0], {}, "has no rows"),
    "x empty": (G.assign(x=np.nan), {}, "column 'x' is empty"),
    "dt with frames": (FRAMES, dict(dt=-1), "dt is -1; give a positive number"),
    "one body": (G[G.id == 0], {}, "1 body; forces are between bodies"),
    "one frame": (G[G.time == 0], {}, "one frame of each simulation; give at least 18 frames, or accelerations"),
    "bodies coincide": (G.assign(x=np.sin(G.time), y=0), {}, "bodies 0 and 1 coincide at time 0"),
    "bodies alone": (G[(G.id == 0) == (G.time > 1)], {}, "at no time are all bodies seen together"),
    "decimal commas": (G.assign(x=G.x.astype(str).str.replace(".", ",")), {}, "write a point for the comma"),
    "many columns": (pd.DataFrame({f"column{k}": [1.0] for k in range(3000)}), dict(columns=dict(time="no")),
        "2990 more"),
    "large numbers": (G.assign(x=G.x * 1e200), {}, "whose square is no number"),
    "a very long name": (pd.DataFrame({"time": [1.0], "(" * 100_000: [1.0]}), {}, "has no column id"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_bad_tables_are_one_line(kind, tmp_path):
    frame, told, said = TABLES[kind]
    frame.to_csv(tmp_path / "bad.csv", index=False)
    line = refused(Trajectories.load, tmp_path / "bad.csv", **told)
    assert said in line and ("bad.csv" in line or {"dt", "box"} & set(told)) and len(line) < 500
    assert said in refused(from_table, frame, **told)


TEXTS = {  # files of text: their name, what is in them, and what is said
    "no header": ("a.csv", G.to_csv(index=False, header=False), "its first line holds numbers"),
    "a name twice": ("a.csv", "time,id,x,x\n0,1,2,3\n", "has two columns called 'x'"),
    "a long row": ("a.csv", "time,id,x,y\n0,1,2,3\n0,2,2,3,4,5\n", "row 2: 6 cells, but 4 columns"),
    "long rows": ("a.csv", "time,id,x,y\n0,1,2,3,4\n0,2,2,3,4\n", "row 1: 5 cells, but 4 columns"),
    "a short row": ("a.csv", "time,id,x,y\n0,1,2,3\n0.1\n", "row 2: id is empty"),
    "zipped": ("a.csv.gz", "", "a.csv.gz: format '.gz' is unknown"),
    "xyz: a time that is none": ("a.xyz", "1\ntime=1.2.3\nA 1 2 3\n", "line 2: its Properties, time or"),
    "xyz: some times": ("a.xyz", "1\ntime=1\nA 1 2 3\n1\n\nA 1 2 3\n", "line 5: some frames have a time"),
    "xyz: five coordinates": ("a.xyz", "1\nProperties=pos:R:5\n1 2 3 4 5\n", "line 2: its Properties"),
    "xyz: no bodies": ("a.xyz", "0\n\n", "line 1: '0' should be a number of bodies"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_bad_texts_are_one_line(kind, tmp_path):
    name, text, said = TEXTS[kind]
    (tmp_path / name).write_text(text)
    line = refused(Trajectories.load, tmp_path / name)
    assert said in line and name in line


def dump(step=lambda k: 10 * k, columns="id x y", rows=lambda x: [f"{b + 1} {p[0]} {p[1]}" for b, p in enumerate(x)],
         number=3, end="\n", bounds="0 10") -> str:
    "A LAMMPS dump."
    box = f"ITEM: BOX BOUNDS pp pp ff\n{bounds}\n{bounds}\n0 1\n"
    head = f"ITEM: TIMESTEP\n%s\nITEM: NUMBER OF ATOMS\n{number}\n{box}ITEM: ATOMS {columns}\n"
    return "\n".join(head % step(k) + "\n".join(rows(X[0, k])) for k in range(40)) + end


plain = lambda x: [f"{b + 1} {p[0]} {p[1]}" for b, p in enumerate(x)]
DUMPS = {  # what is said, and the file
    "frame 1 is not whole": dump(number=2), "its step is 'ten'": dump(step=lambda k: "ten"),
    "line 1 of its atoms has 2 cells": dump(rows=lambda x: ["1 2", *plain(x)[1:]]),
    "its last line has no end": dump(end=""),
    "positions jump across the box that the file tells; give --box 1.5,1.5": dump(
        rows=lambda x: plain(np.mod(x, 1.5)), bounds="0 1.5"),
}


@pytest.mark.parametrize("said", DUMPS)
def test_bad_dumps_are_one_line(said, tmp_path):
    (tmp_path / "a.dump").write_text(DUMPS[said])
    line = refused(Trajectories.load, tmp_path / "a.dump", dt=0.05)
    assert said in line and "a.dump" in line


A = dict(position=X, time=t)
ARRAYS = {
    "two positions": (dict(pos=X, loc=2 * X, time=t), "may both be position; say which"),
    "dt against times": (A | dict(dt=7.0), "its dt is 7, but its times step by 0.05"),
    "several dt": (dict(position=X, dt=np.full(39, 0.05)), "dt has 39 numbers"),
    "dt of text": (dict(position=X, dt=np.array("fast")), "dt holds <U4"),
    "dt of nothing": (dict(position=X, dt=np.nan), "dt is nan; give a positive number"),
    "text": (dict(position=X.astype(str), time=t), "position holds <U"),
    "times of text": (dict(position=X, time=t.astype(str)), "time holds <U"),
    "time unknown": (dict(position=X, time=np.r_[np.nan, t[1:]]), "time is nan at index (0,)"),
    "time twice": (dict(position=X, time=np.r_[t[0], t[:-1]]), "40 frames at 39 times; a time is there twice"),
    "infinite": (dict(position=np.where(X > 6, np.inf, X), time=t), "position is infinite at index"),
    "few masses": (A | dict(mass=[1.0, 2.0]), "mass has shape (2,), not one number for each of 3 bodies"),
    "masses of text": (A | dict(mass=["a", "b", "c"]), "mass is no number"),
    "constant": (dict(position=np.repeat(X[:, :1], 40, 1), time=t), "no body moves"),
    "no simulation": (dict(position=X[:0], time=t), "position is empty"),
}


@pytest.mark.parametrize("ending", ["npz", "h5"])
@pytest.mark.parametrize("kind", ARRAYS)
def test_bad_arrays_are_one_line(kind, ending, tmp_path):
    (arrays, said), path = ARRAYS[kind], tmp_path / f"bad.{ending}"
    if ending == "npz":
        np.savez(path, **arrays)
    elif any(np.asarray(a).dtype.kind == "U" for a in arrays.values()):
        pytest.skip("texts of HDF5 are of another kind")
    else:
        with h5py.File(path, "w") as file:
            file.update(arrays)
    line = refused(Trajectories.load, path)
    assert said in line and path.name in line


def test_groups_of_other_shapes(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for k, x in enumerate((X[0], np.concatenate([X[1], X[1][..., :1]], -1))):
            file[f"run{k}/position"], file[f"run{k}/time"] = x, t
    assert "recordings of 2, 3 axes" in refused(Trajectories.load, tmp_path / "a.h5")


# what is read, and how


GOOD = {  # tables, options, and what comes of it
    "frames in tens": (FRAMES, dict(dt=0.05)),
    "dates": (G.assign(time=pd.Timestamp("2020-01-01") + pd.to_timedelta(G.time, "s")), {}),
    "durations": (G.assign(time=pd.to_timedelta(G.time, "s")), {}),
    "clock": (G.assign(time=[f"00:00:{s:05.2f}" for s in G.time]), {}),
    "roles in the index": (G.set_index(["simulation", "time", "id"]), {}),
    "x told beside an x": (G.rename(columns={"x": "east"}).assign(x="pixel"), dict(columns=dict(x="east"))),
    "names that cannot be used": (G.assign(r=1.0, **{"class": 2.0, "my radius": 3.0}), {}),
    "units that agree": (V.rename(columns={"x": "x [m]", "y": "y [metre]", "vx": "vx [m/s]", "vy": "vy [m/s]"})[
        ["simulation", "time", "id", "x [m]", "y [metre]", "mass"]], {}),
}


@pytest.mark.parametrize("kind", GOOD)
def test_rare_tables_are_read(kind):
    frame, told = GOOD[kind]
    data = from_table(frame, **told)
    assert data.dt == pytest.approx(0.05) and data.mass[0].tolist() == [1, 2, 3] and data.others == {}
    np.testing.assert_allclose(data.position, X)


@pytest.mark.parametrize("names", [("sun", "earth", "moon"), ("star10", "star9", "star1"), (10, 9, 1)])
def test_masses_go_to_bodies_as_they_come(names, tmp_path, run):
    frame = G.assign(id=G.id.map(dict(enumerate(names)))).drop(columns="mass")
    frame.to_csv(tmp_path / "a.csv", index=False)
    order = sorted(names) if isinstance(names[0], int) else names
    data, place = Trajectories.load(tmp_path / "a.csv", mass=[1, 2, 3]), [names.index(n) for n in order]
    np.testing.assert_allclose(data.position[0], X[0][:, place])
    code, out, _ = run("look", tmp_path / "a.csv", "--mass", "1,2,3")
    assert code == 0 and ", ".join(f"{n} (mass {k + 1})" for k, n in enumerate(order)) in out
    by_name = Trajectories.load(tmp_path / "a.csv", mass={str(n): k for k, n in enumerate(order, 1)})
    np.testing.assert_array_equal(by_name.mass, data.mass)


def test_masses_of_wide_tables_go_by_columns():
    names = [f"star{k}" for k in range(1, 13)]
    frame = pd.DataFrame({"t": t} | {f"{n}_{a}": k + np.sin(t + k) for k, n in enumerate(names) for a in "xy"})
    data = from_table(frame, mass=range(1, 13))
    assert (np.argsort(data.position[0, 0, :, 0]) == np.argsort([k + np.sin(k) for k in range(12)])).all()


def test_masses_by_name_or_from_a_file(tmp_path, run):
    wide("sun", "earth", "moon").to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "m.txt").write_text("3\n2\n1\n")
    (tmp_path / "bad.txt").write_text("3\nzwei\n1\n")
    for told in ("sun=3,earth=2,moon=1", tmp_path / "m.txt"):
        code, out, _ = run("look", tmp_path / "a.csv", "--mass", told)
        assert code == 0 and "sun (mass 3), earth (mass 2), moon (mass 1)" in out
    for told, said in {"sun=1,sun=2": "given twice", "sun=1": "mass of earth, moon is not told",
                       "no.txt": "no such file", tmp_path / "bad.txt": "line 2:"}.items():
        code, _, err = run("look", tmp_path / "a.csv", "--mass", told)
        assert code == 2 and said in err and err.count("\n") == 1


def test_dumps_are_read(tmp_path):
    (tmp_path / "a.dump").write_text(dump())
    found = read_recordings(tmp_path / "a.dump", dt=0.05)
    np.testing.assert_allclose(found[0].time, t)
    assert found[0].box == (10, 10, 0) and found[0].stride == 10
    told = "".join(look(from_recordings(found), found))
    assert "the file tells one of 10 x 10," in told and "one frame for 10 of the file's counter" in told
    both = lambda x: [f"{b + 1} 0 0 {p[0]} {p[1]}" for b, p in enumerate(x)]
    (tmp_path / "b.dump").write_text(dump(columns="id x y xu yu", rows=both))
    np.testing.assert_allclose(read_recordings(tmp_path / "b.dump", dt=0.05)[0].position, X[0])


def test_rare_arrays_are_read(tmp_path):
    np.savez(tmp_path / "apart.npz", x=X[..., 0], y=X[..., 1], time=t[::-1])
    np.testing.assert_allclose(read_recordings(tmp_path / "apart.npz")[1].position, X[1, ::-1])
    with h5py.File(tmp_path / "shared.h5", "w") as file:
        file["mass"], file["author"] = [1.0, 2, 3], "me"
        for k in range(4):
            file[f"run{k}/position"], file[f"run{k}/time"] = X[k], t
    assert Trajectories.load(tmp_path / "shared.h5").mass[3].tolist() == [1, 2, 3]
    dims, when = ("simulation", "time", "body", "axis"), ("time", t, dict(units="seconds since 2000-01-01"))
    xr.Dataset({"position": (dims, X)}, {"time": when}).to_netcdf(tmp_path / "cf.nc", engine="h5netcdf")
    assert Trajectories.load(tmp_path / "cf.nc").dt == pytest.approx(0.05)


def test_velocities_may_be_missing_now_and_then():
    speeds = {"vx": 0, "vy": 1}
    frame = table(**{n: np.gradient(X, t, axis=1)[..., k].ravel() for n, k in speeds.items()})
    frame.loc[::50, "vx"] = np.nan
    assert np.isfinite(from_table(frame).velocity).all()


def test_a_long_pause_is_no_work():
    one = table(X[:1])
    data = from_table(one.assign(time=one.time + 1e12 * (one.time > 1)))
    assert data.dt == pytest.approx(0.05) and data.frames * data.simulations <= 40


def test_many_simulations_are_quick():
    many = pd.DataFrame(dict(time=0.0, simulation=range(500), id=1, x=1.0, y=1.0))
    assert "one frame of each simulation" in refused(from_table, many)
    assert "is id the column that says which body it is?" in refused(
        from_table, pd.DataFrame(dict(time=np.arange(20_000) // 5, id=range(20_000), x=1.0, y=1.0)))


def test_what_cannot_be_trusted_is_told():
    mixed = table(X[:1]).assign(time=np.random.default_rng(1).permutation(40).repeat(3) * 0.05)
    assert "no acceleration can be trusted" in "".join(look(from_table(mixed)))


# files of our own, and arrays


OWN = from_arrays(X, dt=0.05, mass=[1.0, 2, 3])
FULL = ("simulation", "time", "body", "axis")
CHANGES = {
    "dt is -1": lambda d: d.assign_attrs(dt=-1.0), "dt is nan": lambda d: d.assign_attrs(dt=np.nan),
    "dt is 'a'": lambda d: d.assign_attrs(dt="a"),
    "position holds NaN": lambda d: d.assign(position=d.position * np.nan),
    "mass must be positive": lambda d: d.assign(mass=-d.mass), "mass has the axes foo": lambda d: d.assign(
        mass=("foo", [1.0, 2])), "velocity has the axes a": lambda d: d.assign(velocity=("a", [1.0])),
    "box is 'big'; it must be JSON": lambda d: d.assign_attrs(box="big"), "box is [-1, 1]": lambda d: d.assign_attrs(
        box="[-1, 1]"), "fields is": lambda d: d.assign_attrs(fields='{"wind": 1}'),
    "scales is 'no'": lambda d: d.assign_attrs(scales="no"), "topology 'ring' is unknown": lambda d: d.assign_attrs(
        topology="ring"), "too few on its simulation axis": lambda d: d.isel(simulation=slice(0)),
    "too few on its body axis": lambda d: d.isel(body=slice(1)), "position has shape": lambda d: d.isel(axis=slice(1)),
    "position has the axes": lambda d: d.rename(body="star"), "part must be 0": lambda d: d.assign(
        part=("simulation", [7, 8, 9, 1])), "holds no trajectories (mass missing)": lambda d: d.drop_vars("mass"),
    "trusted marks no moment": lambda d: d.assign(trusted=(FULL[:2], np.zeros((4, 40), bool))),
    "times do not step by dt": lambda d: d.assign_coords(time=2 * t), "no body is accelerated": lambda d: d.assign(
        acceleration=0 * d.acceleration), "property 'r' has a name": lambda d: d.assign(r=d.mass),
    "acceleration_error is 'x'": lambda d: d.assign_attrs(acceleration_error="x"),
}


@pytest.mark.parametrize("said", CHANGES)
def test_our_own_files_are_checked(said, tmp_path):
    CHANGES[said](OWN.data.copy(deep=True)).to_netcdf(tmp_path / "own.nc", engine="h5netcdf")
    line = refused(Trajectories.load, tmp_path / "own.nc")
    assert said in line and "own.nc" in line


def test_our_own_axes_may_stand_in_another_order(tmp_path):
    OWN.data.transpose("axis", "body", "time", "simulation").to_netcdf(tmp_path / "own.nc", engine="h5netcdf")
    np.testing.assert_array_equal(Trajectories.load(tmp_path / "own.nc").position, OWN.position)


def test_a_file_of_ours_reads_no_other(tmp_path):
    for name, link in {"link": h5py.ExternalLink("/etc/hostname", "/"), "data": None}.items():
        OWN.save(path := tmp_path / f"{name}.nc")
        with h5py.File(path, "a") as file:
            if link:
                file["more"] = link
            else:
                file.create_dataset("more", (3,), "f8", external=[("/etc/hostname", 0, 24)])
        line = refused(Trajectories.load, path)
        assert ("is a link to elsewhere" if link else "lies in another file") in line and path.name in line
    (tmp_path / "folder.nc").mkdir()
    assert "folder.nc is no file" in refused(Trajectories.load, tmp_path / "folder.nc")


WRONG = {
    "position holds object": dict(position=None), "dt is None": dict(dt=None), "dt is True": dict(dt=True),
    "box is big": dict(box="big"), "box is 9j": dict(box=9j), "units is 5": dict(units=5),
    "system is None": dict(system=None),
    "position holds NaN": dict(position=np.ma.masked_greater(X, 6)), "no body moves": dict(position=0 * X + X[:, :1]),
    "box 0.3 x 0.3 is too small": dict(box=0.3), "property 'doubt'": dict(doubt=[1.0, 2, 3]),
    "whose square": dict(position=1e300 * X), "topology array": dict(topology=np.ones(3)),
    "species holds text": dict(species=["a", "b", "c"]), "position_error is 'x'": dict(position_error="x"),
}


@pytest.mark.parametrize("said", WRONG)
def test_bad_words_to_from_arrays(said):
    assert said in refused(from_arrays, **dict(position=X, dt=0.05) | WRONG[said])


def test_axes_with_names_are_turned():
    named = xr.DataArray(X, dims=FULL).transpose("axis", "body", "time", "simulation")
    np.testing.assert_array_equal(from_arrays(named, dt=0.05).position, X)


CALLS = {  # what is said, and the call
    "table is a dict": lambda: from_table({}), "table is a NoneType": lambda: from_table(None),
    "columns is 'a=b'": lambda: from_table(G, columns="a=b"), "dt is 'fast'": lambda: from_table(G, dt="fast"),
    "option 'masss' is unknown": lambda: from_table(G, masss=[1, 2, 3]), "box is big": lambda: from_table(G, box="big"),


    "source is a bytes": lambda: source_of(b"a.csv"), "source is a ndarray": lambda: source_of(X),
    "dim is for systems": lambda: source_of(OWN, dim=3), "bodies is for systems": lambda: source_of(OWN, bodies=9),
    "no body is accelerated": lambda: prepared(from_arrays(X, X, 0 * X, dt=0.05)),
}


@pytest.mark.parametrize("said", CALLS)
def test_bad_calls_are_one_line(said):
    assert said in refused(CALLS[said])


@pytest.mark.parametrize("units, said", [
    (dict(length="s"), "length in 's', which is s; give a unit of length"), (dict(mass="m"), "mass in 'm'"),
    (dict(length="1"), "a pure number"), (dict(speed="m"), "'speed' is unknown"),
])
def test_units_are_of_their_dimension(units, said):
    assert said in refused(units_of_motion, dict(length="m", time="s", mass="kg") | units, (), ())


def test_look_tells_units_and_refuses_empty_words(tmp_path, run):
    G.to_csv(tmp_path / "a.csv", index=False)
    code, out, _ = run("look", tmp_path / "a.csv", "--units", "length=m,time=s,mass=kg")
    assert code == 0 and "length=m,time=s,mass=kg" in out
    for option in ("--units", "--columns", "--mass"):
        code, _, err = run("look", tmp_path / "a.csv", option, "")
        assert code == 2 and option in err and err.count("\n") == 1


def test_few_of_many_names_are_told():
    assert some_of(range(12), 3) == "0, 1, 2 and 9 more" and len(some_of(["a" * 999])) < 50
