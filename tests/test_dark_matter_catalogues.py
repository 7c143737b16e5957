"Halo catalogues: every layout is read back, damaged files are refused in a line, matter from cubes and particles."
import os
import pickle
import struct
import tracemalloc
from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusing import refused
from safetensors.numpy import save_file

from symbolic_gn.core.errors import UserError
from symbolic_gn.dark_matter import catalogues as C
from symbolic_gn.dark_matter import columns as N
from symbolic_gn.dark_matter import halos as H
from symbolic_gn.dark_matter import hdf5 as G
from symbolic_gn.dark_matter.halos import HaloCatalog, checked_catalog
from symbolic_gn.dark_matter.mesh import deposit

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NUMBER, BOX = 60, 1000.0


@pytest.fixture(scope="module")
def raw():
    "Halos in the units of Gadget: kpc/h, km/s, 1e10 solar masses / h."
    rng = np.random.default_rng(3)
    return dict(
        position=(1e6 * rng.random((NUMBER, 3))).astype("f4"),
        velocity=(300 * rng.normal(size=(NUMBER, 3))).astype("f4"),
        mass=(1e3 * (1 + rng.random(NUMBER))).astype("f4"),
        particles=rng.integers(20, 9999, NUMBER).astype("i4"),
    )


@pytest.fixture(scope="module")
def halos(raw):
    delta = np.linspace(-0.9, 4, NUMBER)
    arrays = raw["position"] / 1e3, raw["velocity"], raw["mass"] * 1e10
    return HaloCatalog(*arrays, BOX, 0.5, raw["particles"], delta, dict(label="some"))


def fields_of(catalog) -> dict: return {name: getattr(catalog, name) for name in vars(catalog)}


def same(a: HaloCatalog, b: HaloCatalog, rtol=1e-6):
    for name in ("position", "velocity", "mass", "particles", "overdensity"):
        one, two = getattr(a, name), getattr(b, name)
        assert (one is None) == (two is None), name
        if one is not None:
            np.testing.assert_allclose(one, two, rtol=rtol, atol=1e-6 * np.abs(two).max(), err_msg=name)
    assert (a.box, a.redshift) == pytest.approx((b.box, b.redshift))


# the catalogue

FAULTS = {
    "box": [0, -1.0, np.nan, np.inf, "1000", None, True, 10**400], "redshift": [-1.0, np.nan, "z"],
    "mass": [0.0, -1.0, np.nan, np.inf, 1e31], "velocity": [np.nan, -np.inf], "position": [np.nan, -1.0, BOX + 1, 1e6],
    "particles": [0, -3, 2**31], "overdensity": [-1.5, np.nan],
}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in FAULTS.items() for value in values])
def test_every_fault_gets_a_line(name, value, halos):
    fields = fields_of(halos)
    if name in ("box", "redshift"):
        fields[name] = value
    else:
        fields[name] = np.array(fields[name], float)
        fields[name][7] = value
    assert refused(checked_catalog, "FILE", **fields).startswith("FILE: ")


@pytest.mark.parametrize("name", ["position", "velocity", "mass", "particles", "overdensity"])
def test_shapes_are_checked(name, halos):
    fields = fields_of(halos)
    for wrong in (fields[name][:-1], fields[name][None], np.float64(3), "words", [["a"]] * NUMBER, [[1], [1, 2]], None):
        if wrong is None and name in ("particles", "overdensity"):
            continue
        refused(checked_catalog, "FILE", **fields | {name: wrong})
    one = {n: v[:1] for n, v in fields.items() if isinstance(v, np.ndarray)}
    assert "1 halos" in refused(checked_catalog, "FILE", **fields | one)
    refused(checked_catalog, "FILE", **fields | {"about": [1]})


@few
@given(box=st.floats(1, 1e5), places=st.lists(st.floats(0, 1), min_size=6, max_size=6), short=st.booleans())
def test_positions_are_in_the_box_whatever_rounding_does(box, places, short):
    position = (np.array(places) * box).astype("f4" if short else "f8").reshape(2, 3)
    made = checked_catalog("FILE", position=position, velocity=0 * position, mass=np.ones(2), box=box)
    assert (made.position >= 0).all() and (made.position.astype(float) < box).all()
    moved = np.abs(made.position.astype(float) - position)
    assert (np.minimum(moved, box - moved) <= 1e-6 * box).all()


@few
@given(shift=st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3))
def test_wrapping_is_a_translation_of_the_box(shift, halos):
    wrapped = H.wrapped(halos.position.astype(float) + shift, BOX)
    turns = (halos.position + np.array(shift) - wrapped) / BOX
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)
    assert (wrapped >= 0).all() and (wrapped < BOX).all()


def test_halos_at_the_edge_are_wrapped(halos):
    from scipy.spatial import cKDTree
    position = np.array(halos.position)
    position[0], position[1] = BOX, np.nextafter(np.float32(0), np.float32(-1))
    made = HaloCatalog(position, halos.velocity, halos.mass, BOX)
    assert (made.position[:2] == 0).all() and (position[0] == BOX).all()
    cKDTree(made.position, boxsize=BOX)


@few
@given(data=st.data())
def test_save_and_load(data, tmp_path):
    number = data.draw(st.integers(2, 20))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    box = data.draw(st.floats(1, 1e4))
    optional = dict(particles=rng.integers(1, 2**31 - 1, number), overdensity=rng.random(number) - 1)
    about = data.draw(st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5), st.none())))
    made = HaloCatalog(
        box * rng.random((number, 3)), rng.normal(size=(number, 3)), 1e13 * (1 + rng.random(number)), box,
        about=about, **{n: v for n, v in optional.items() if data.draw(st.booleans())},
    )
    again = HaloCatalog.load(made.save(tmp_path / "halos"))
    for name in ("velocity", "mass", "overdensity"):
        one, two = getattr(made, name), getattr(again, name)
        assert (one is None and two is None) or np.array_equal(one.astype("f4"), two)
    assert (again.particles is None) == (made.particles is None) and (again.box, again.about) == (box, about)
    assert again.particles is None or np.array_equal(again.particles, made.particles)
    moved = np.abs(again.position - made.position)
    assert (np.minimum(moved, box - moved) <= 1e-6 * box).all()
    assert again.save(tmp_path / "again").read_bytes() == (tmp_path / "halos").read_bytes()


@few
@given(data=st.data())
def test_a_changed_file_is_refused(data, halos, tmp_path):
    path = halos.save(tmp_path / "halos")
    good = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(good) - 1))
    changed = good[:place] + bytes([good[place] ^ data.draw(st.integers(1, 255))]) + good[place + 1 :]
    for content in (bytes(changed), bytes(good[:place]), data.draw(st.binary(max_size=99))):
        path.write_bytes(content)
        try:
            again = HaloCatalog.load(path)
        except UserError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        else:  # a space in the padding of the header
            same(again, halos)


def test_foreign_files_are_refused(halos, tmp_path):
    path = halos.save(tmp_path / "halos")
    tensors, facts = H.read_hashed(path, "halos")
    assert set(facts) == {"box", "redshift", "about"}
    lines = {
        "an unknown spin": (tensors | {"spin": tensors["mass"]}, facts),
        "no mass": ({k: tensors[k] for k in ("position", "velocity")}, facts),
        "an unknown units": (tensors, facts | {"units": "kpc"}), "no box": (tensors, {"redshift": 0, "about": {}}),
        "float64": (tensors | {"mass": tensors["mass"].astype(float)}, facts),
        "box None": (tensors, facts | {"box": None}),
        "outside the box": (tensors, facts | {"box": 10}), "about is no dict": (tensors, facts | {"about": "x"}),
        "60 positions and 59 rows": (tensors | {"mass": tensors["mass"][1:]}, facts),
    }
    for line, (arrays, said) in lines.items():
        H.write_hashed(tmp_path / "foreign", "halos", arrays, said)
        assert line in refused(HaloCatalog.load, tmp_path / "foreign")
    save_file(tensors, tmp_path / "plain", {"symbolic_gn.halos": "[" * 100_000})
    refused(HaloCatalog.load, tmp_path / "plain")
    save_file(tensors, tmp_path / "plain", {"symbolic_gn.halos": "[]"})
    refused(HaloCatalog.load, tmp_path / "plain")
    assert "not there" in refused(HaloCatalog.load, tmp_path)
    (tmp_path / "pickle").write_bytes(pickle.dumps(tensors))
    refused(HaloCatalog.load, tmp_path / "pickle")


def test_a_failing_save_leaves_the_old_file(halos, tmp_path):
    path = halos.save(tmp_path / "halos")
    good = path.read_bytes()
    assert "JSON" in refused(replace(halos, about={"a": object()}).save, path)
    assert path.read_bytes() == good and os.listdir(tmp_path) == ["halos"]
    assert "cannot be written" in refused(halos.save, tmp_path / "halos" / "inside")


def test_a_catalogue_shows_itself(halos):
    assert "60 halos" in repr(halos) and "**some**" in halos._repr_markdown_()
    assert list(halos.to_frame()) == [*"xyz", "vx", "vy", "vz", "mass", "particles", "overdensity"]
    assert "nothing to explain" in refused(H.needs_matter, replace(halos, overdensity=None))
    assert H.needs_matter(halos) is halos.overdensity


# Quijote

def group_tab(folder, raw, cuts, order="<", extra=0, snapnum=4):
    "Parts of a set as P-Gadget3 writes them; the numbers of halos in each are the steps between the cuts."
    folder.mkdir(parents=True, exist_ok=True)
    bounds = [0, *cuts, NUMBER]
    for k, (a, b) in enumerate(zip(bounds, bounds[1:])):
        content = struct.pack(f"{order}iiiQi", b - a, NUMBER, 0, 7, len(bounds) - 1)
        offset = np.arange(a, b, dtype="i4")
        for values in (raw["particles"][a:b], offset, raw["mass"][a:b], raw["position"][a:b], raw["velocity"][a:b]):
            content += values.astype(values.dtype.newbyteorder(order)).tobytes()
        types = np.full(((b - a), 12 + extra), 5, order + "i4").tobytes()
        (folder / f"group_tab_{snapnum:03d}.{k}").write_bytes(content + types)
        (folder / f"group_ids_{snapnum:03d}.{k}").write_bytes(b"ids")


@few
@given(
    cuts=st.lists(st.integers(0, NUMBER), max_size=12), order=st.sampled_from("<>"), extra=st.integers(0, 2),
    snapnum=st.integers(0, 4),
)
def test_quijote_is_read_back_whatever_its_parts(cuts, order, extra, snapnum, raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    group_tab(folder / f"groups_{snapnum:03d}", raw, sorted(cuts), order, extra, snapnum)
    found, z = C.read_quijote(folder, snapnum), {4: 0, 3: 0.5, 2: 1, 1: 2, 0: 3}[snapnum]
    assert np.array_equal(found.position, raw["position"] / np.float32(1e3)) and found.position.dtype == np.float32
    assert np.array_equal(found.velocity, raw["velocity"] * np.float32(1 + z)) and found.redshift == z
    assert np.array_equal(found.mass, raw["mass"] * np.float32(1e10))
    assert np.array_equal(found.particles, raw["particles"])
    same(found, C.read_halos(folder / f"groups_{snapnum:03d}" / f"group_tab_{snapnum:03d}.0"))


def test_parts_are_read_in_the_order_of_their_numbers(raw, tmp_path):
    group_tab(tmp_path, raw, range(5, NUMBER, 5))
    assert np.array_equal(C.read_quijote(tmp_path).particles, raw["particles"])


def test_a_snapshot_of_other_redshift(raw, tmp_path):
    group_tab(tmp_path, raw, [], snapnum=9)
    assert "snapshots there: 9" in refused(C.read_quijote, tmp_path)
    assert "none of Quijote's usual set" in refused(C.read_quijote, tmp_path, 9)
    assert C.read_quijote(tmp_path, 9, redshift=0.25).redshift == 0.25


@few
@given(data=st.data())
def test_damaged_parts_are_refused(data, raw, tmp_path):
    group_tab(tmp_path, raw, [20, 20])
    part = tmp_path / f"group_tab_004.{data.draw(st.integers(0, 2))}"
    good = part.read_bytes()
    changes = [good[: data.draw(st.integers(0, len(good) - 1))], good + b"more"]
    if data.draw(st.booleans()):
        place = data.draw(st.sampled_from([*range(8), *range(20, 24)]))  # numbers of halos and of parts
        changes.append(good[:place] + bytes([good[place] ^ data.draw(st.integers(1, 255))]) + good[place + 1 :])
    for content in changes:
        part.write_bytes(content)
        assert str(tmp_path) in refused(C.read_quijote, tmp_path)


@pytest.mark.parametrize("count", [2**31 - 1, 2**28 + 1, -1, -(2**31)])
def test_absurd_counts_are_refused_before_memory_is_asked_for(count, raw, tmp_path):
    group_tab(tmp_path, raw, [])
    part = tmp_path / "group_tab_004.0"
    part.write_bytes(struct.pack("<iiiQi", count, count, 0, 0, 1) + part.read_bytes()[24:])
    tracemalloc.start()
    said = refused(C.read_quijote, tmp_path)
    asked = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part.name in said and asked < 10 * 2**20  # bytes; the count would need at least 84 times as many


def test_sets_that_do_not_fit_are_refused(raw, tmp_path):
    group_tab(tmp_path / "gap", raw, [20, 40])
    (tmp_path / "gap/group_tab_004.1").unlink()
    assert "group_tab_004.1 is missing" in refused(C.read_quijote, tmp_path / "gap")
    group_tab(tmp_path / "more", raw, [20, 40])
    (tmp_path / "more/group_tab_004.3").write_bytes((tmp_path / "more/group_tab_004.1").read_bytes())
    assert "promises 60 halos in 3 parts" in refused(C.read_quijote, tmp_path / "more")
    group_tab(tmp_path / "less", raw, [])
    part = tmp_path / "less/group_tab_004.0"
    part.write_bytes(struct.pack("<iiiQi", 60, 99, 0, 0, 1) + part.read_bytes()[24:])
    assert "promises 99 halos" in refused(C.read_quijote, tmp_path / "less")
    (tmp_path / "bare").mkdir()
    assert "no group_tab" in refused(C.read_quijote, tmp_path / "bare")


def test_nonsense_in_the_arrays_is_refused(raw, tmp_path):
    for name, value in {"position": np.nan, "mass": 0, "velocity": np.inf, "particles": -5}.items():
        wrong = {**raw, name: raw[name].copy()}
        wrong[name][3] = value
        group_tab(tmp_path, wrong, [10])
        assert name in refused(C.read_quijote, tmp_path)
    group_tab(tmp_path, raw, [10])
    assert "outside the box" in refused(C.read_quijote, tmp_path, box=10.0)


def test_the_papers_numbers_are_known(halos):
    assert C.QUIJOTE_LH0 == {"halos": 215_854, "edges": 30_437_218}
    assert "60 halos, the paper's has 215,854" in refused(C.check_quijote_lh0, halos)
    assert round(C.QUIJOTE_LH0["edges"] / C.QUIJOTE_LH0["halos"]) == 141


# tables

ROCKSTAR = """#a = 0.500000
#Om = 0.300000; Ol = 0.700000; h = 0.680000
#FOF linking length: 0.280000
#Particle mass: 3.63000e+11 Msun/h
#Box size: 1000.000000 Mpc/h
#Units: Masses in Msun / h
#Units: Positions in Mpc / h (comoving)
"""
TREES = """#Omega_M = 0.300000; Omega_L = 0.700000; h0 = 0.680000
#Full box size = 1000.000000 Mpc/h
#Scale: Scale factor of halo.
#X/Y/Z: Halo position (Mpc/h comoving).
"""


def rockstar_table(raw) -> pd.DataFrame:
    numbers = np.hstack([raw["position"] / 1e3, raw["velocity"]])
    table = pd.DataFrame(numbers, columns=[*"XYZ", "VX", "VY", "VZ"], dtype=float)
    mass = raw["mass"].astype(float) * 1e10
    return table.assign(ID=range(NUMBER), Mvir=mass, M200b=1.2e13, Np=raw["particles"], spin=0.03)


def written(path, names, comments, table):
    path.write_text(f"{names}\n{comments}" + table.to_csv(sep=" ", header=False, index=False))
    return path


@few
@given(order=st.permutations(range(11)), pid=st.lists(st.booleans(), min_size=NUMBER, max_size=NUMBER))
def test_rockstar_is_read_by_names(order, pid, raw, halos, tmp_path):
    table = rockstar_table(raw).iloc[:, list(order)]
    found = N.read_rockstar(written(tmp_path / "out_4.list", "#" + " ".join(table), ROCKSTAR, table))
    same(found, replace(halos, overdensity=None, redshift=1.0), rtol=1e-5)
    assert found.about["cosmology"] == {"Om": 0.3, "Ol": 0.7, "h": 0.68}
    inside = np.array(pid)
    with_hosts = table.assign(PID=np.where(inside, 5, -1))
    path = written(tmp_path / "out_4_pid.list", "#" + " ".join(with_hosts), ROCKSTAR, with_hosts)
    if (~inside).sum() > 1:
        assert len(C.read_halos(path)) == (~inside).sum()
    assert len(N.read_rockstar(path, hosts=False)) == NUMBER


def test_trees_number_their_columns(raw, halos, tmp_path):
    table = rockstar_table(raw).assign(scale=2 / 3, pid=-1)[["scale", "ID", "pid", "Mvir", *"XYZ", "VX", "VY", "VZ"]]
    names = "#" + " ".join(f"{name.lower()}({k})" for k, name in enumerate(table))
    found = C.read_halos(written(tmp_path / "hlist_0.66667.list", names, TREES, table))
    assert len(found) == len(halos) and found.overdensity is None and found.particles is None
    same(found, replace(halos, overdensity=None, particles=None), rtol=1e-5)


def test_another_mass_of_rockstar(raw, tmp_path):
    path = written(tmp_path / "out", "#" + " ".join(rockstar_table(raw)), ROCKSTAR, rockstar_table(raw))
    assert (N.read_rockstar(path, "M200b").mass == 1.2e13).all()
    assert "no column for mass (it has X, Y" in refused(N.read_rockstar, path, "M500c")


def table_of(halos) -> pd.DataFrame:
    return halos.to_frame().astype(float).rename(columns={"overdensity": "delta"})


@few
@given(
    separator=st.sampled_from([",", "\t", ";", " "]), m14=st.booleans(), top=st.booleans(), mark=st.booleans(),
    order=st.permutations(range(9)),
)
def test_tables_are_read_back(separator, m14, top, mark, order, halos, tmp_path):
    table = table_of(halos).iloc[:, list(order)]
    if m14:
        table = table.assign(mass=table["mass"] / 1e14).rename(columns={"mass": "M14"})
    text = table.to_csv(sep=separator, index=False)
    comments = "# made somewhere\n# box = 1000\n# z = 0.5\n" if top else ""
    path = tmp_path / "table"
    path.write_text(comments + ("# " if mark else "") + text)
    options = {} if top else {"box": BOX, "redshift": 0.5}
    found = C.read_halos(path, **options)
    assert (found.box, found.redshift) == (BOX, 0.5)
    same(found, halos)


def test_a_table_of_other_names(halos, tmp_path):
    path, table = tmp_path / "t.csv", table_of(halos).rename(columns={"x": "Pos X", "mass": "m14"})
    table.assign(m14=0.5).to_csv(path, index=False)
    assert "no column for x" in refused(C.read_halos, path, box=BOX)
    found = C.read_halos(path, box=BOX, columns={"x": "pos x"})
    assert np.allclose(found.position, halos.position) and (found.mass == 5e13).all()
    assert "columns 'spin' is unknown" in refused(C.read_halos, path, box=BOX, columns={"spin": "x"})
    said = refused(C.read_halos, path, box=BOX, columns={"x": "pos x", "particles": "n"})
    assert "no column for particles" in said


TABLE = "x,y,z,vx,vy,vz,mass\n1,2,3,4,5,6,7e12\n2,3,4,5,6,7,8e12\n"
BAD_TABLES = {
    "": "is empty", "\n\n": "is empty", "# x y z\n": "no rows", TABLE[:20]: "no rows", TABLE[:-12]: "cut short",
    TABLE.replace("1,2,3", "1,two,3"): "'y' in row 1 is 'two'", TABLE.replace("2,3,4", "2,,4"): "'y' in row 2 is 'nan'",
    TABLE.replace("vz", "vy"): "no column for vz", TABLE.replace("mass", "vx"): "no column for mass",
    TABLE.replace("x,y", "x,x,y"): "several columns called x", TABLE.replace("mass", "mass,n"): "cut short",
    "# x y z vx vy vz mass n\n1 2 3 4 5 6 7\n1 2 3 4 5 6 7\n": "names 8 columns and has 7",
    TABLE.replace("mass", "mass,x").replace("e12", "e12,1"): "several columns called x",
    TABLE.replace("7e12", "-7e12"): "mass of halo 0", TABLE.replace("7e12", "1e999"): "not finite",
    TABLE.replace("1,2,3", "1,2,1e9"): "outside the box", TABLE.replace("1,2,3", "1,2,nan"): "no number",
    "1,2,3,4,5,6,7\n1,2,3,4,5,6,7\n": "no column for x", TABLE + "1,2,3,4,5,6,7,8,9\n": "cut short",
    "just some words\nof a letter that\nsomebody wrote": "no column for x",
    TABLE.replace("8e12", "8e12\n1,2,3,4,5,6,7e12,8,9\n2,3,4,5,6,7,8e12"): "Expected 7 fields in line 4, saw 9",
}


@pytest.mark.parametrize("text", BAD_TABLES)
def test_bad_tables_are_refused(text, tmp_path):
    (tmp_path / "table.csv").write_text(text)
    said = refused(N.read_halo_table, tmp_path / "table.csv", box=100.0)
    assert BAD_TABLES[text] in said and "table.csv" in said
    assert "table.csv" in refused(C.read_halos, tmp_path / "table.csv")


@few
@given(content=st.binary(max_size=400))
def test_bytes_are_no_table(content, tmp_path):
    (tmp_path / "table").write_bytes(content)
    for read in (N.read_halo_table, N.read_rockstar, C.read_halos):
        assert "table" in refused(read, tmp_path / "table")
    (tmp_path / "table").write_bytes(TABLE.encode() + content + b"\n1,2,3,4,5,6,7e12\n")
    try:
        N.read_halo_table(tmp_path / "table", box=1e9)
    except UserError as error:
        assert "\n" not in str(error)


def test_the_box_must_be_known(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    assert "give box=" in refused(C.read_halos, tmp_path / "t.csv")
    assert len(C.read_halos(tmp_path / "t.csv", box=100)) == 2


# HDF5

def groups_file(path, raw, i=slice(None), parts=1, **header):
    "Groups as Gadget-4 writes them."
    path.parent.mkdir(parents=True, exist_ok=True)
    names = dict(GroupPos="position", GroupVel="velocity", GroupMass="mass", GroupLen="particles")
    arrays = {name: raw[ours][i] for name, ours in names.items()}
    facts = dict(BoxSize=1e6, Redshift=0.5, NumFiles=parts, Ngroups_Total=NUMBER)
    facts["Ngroups_ThisFile"] = len(arrays["GroupMass"])
    with h5py.File(path, "w") as file:
        file.create_group("Header").attrs.update(facts | {n: v for n, v in header.items() if v is not None})
        for name in [n for n, v in header.items() if v is None]:
            del file["Header"].attrs[name]
        if facts["Ngroups_ThisFile"]:
            file.create_group("Group").update(arrays)
    return path


@settings(few, max_examples=12)
@given(cuts=st.lists(st.integers(0, NUMBER), max_size=5))
def test_groups_are_read_back_whatever_their_parts(cuts, raw, halos, tmp_path_factory):
    folder, bounds = tmp_path_factory.mktemp("run") / "groups_007", [0, *sorted(cuts), NUMBER]
    parts = len(bounds) - 1
    for k, (a, b) in enumerate(zip(bounds, bounds[1:])):
        name = f"fof_subhalo_tab_007.{k}.hdf5" if parts > 1 else "fof_subhalo_tab_007.hdf5"
        first = groups_file(folder / name, raw, slice(a, b), parts)
    expected = replace(halos, overdensity=None, velocity=raw["velocity"] * np.float32(1.5))
    for path in (folder, folder.parent, first):
        found = C.read_halos(path, length="kpc/h")
        same(found, expected)
        assert np.array_equal(found.particles, raw["particles"])


def test_the_unit_of_length(raw, tmp_path):
    path = groups_file(tmp_path / "fof_tab_001.hdf5", raw, UnitLength_in_cm=3.085678e24, BoxSize=1e6)
    assert G.read_gadget(path).box == G.read_gadget(path, "Mpc/h").box == 1e6
    assert "not in kpc/h" in refused(G.read_gadget, path, "kpc/h")
    path = groups_file(tmp_path / "fof_tab_002.hdf5", raw)
    assert "does not say its unit of length" in refused(G.read_gadget, path)
    assert "length 'kpc' is unknown" in refused(G.read_gadget, path, "kpc")
    assert "snapshots 1, 2; choose one with snapnum" in refused(G.read_gadget, tmp_path, "kpc/h")
    assert G.read_gadget(tmp_path, "kpc/h", 2).box == pytest.approx(1000)
    assert "no fof_subhalo_tab of snapshot 3" in refused(G.read_gadget, tmp_path, "kpc/h", 3)


BAD_HEADERS = {
    "Ngroups_ThisFile": [2**31, 2**62, -1, 59, 61, np.nan, 3.5, "many", None, [1, 2]],
    "Ngroups_Total": [2**40, 0, 61, None],
    "BoxSize": [0.0, -1.0, np.nan, "big", None, 1.0], "Redshift": [-1.0, np.nan, None], "NumFiles": [2, 10**9, "two"],
}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in BAD_HEADERS.items() for value in values])
def test_bad_headers_are_refused(name, value, raw, tmp_path):
    path = groups_file(tmp_path / "fof_subhalo_tab_000.hdf5", raw, **{name: value})
    assert "fof_subhalo_tab_000.hdf5" in refused(G.read_gadget, path, "kpc/h")


def test_groups_in_other_files_are_not_followed(raw, tmp_path):
    there = groups_file(tmp_path / "there_000.hdf5", raw)
    (tmp_path / "raw").write_bytes(raw["position"].tobytes())
    layout = h5py.VirtualLayout((NUMBER, 3), "f4")
    layout[:] = h5py.VirtualSource(there, "Group/GroupPos", (NUMBER, 3))
    makers = {
        "link": lambda g: g.__setitem__("GroupPos", h5py.ExternalLink(str(there), "Group/GroupPos")),
        "link to": lambda g: g.__setitem__("GroupPos", h5py.SoftLink("/Group/GroupVel")),
        "another file": lambda g: g.create_virtual_dataset("GroupPos", layout),
        "another": lambda g: g.create_dataset("GroupPos", (60, 3), "f4", external=[(str(tmp_path / "raw"), 0, 720)]),
        "not there": lambda g: g.create_dataset("GroupPos", (NUMBER, 3), "f4", chunks=(10, 3)),
        "no array": lambda g: g.create_dataset("GroupPos", data=[["a", "b", "c"]] * NUMBER, dtype=h5py.string_dtype()),
        "no array of": lambda g: g.create_group("GroupPos"),
        "has the shape (60, 2)": lambda g: g.create_dataset("GroupPos", data=raw["position"][:, :2]),
        "has the shape": lambda g: g.create_dataset("GroupPos", data=3.0),
    }
    for words, make in makers.items():
        path = groups_file(tmp_path / "here_000.hdf5", raw)
        with h5py.File(path, "a") as file:
            del file["Group/GroupPos"]
            make(file["Group"])
        assert words in refused(G.read_gadget, path, "kpc/h")
    for name in ("Group", "Header"):
        path = groups_file(tmp_path / "here_000.hdf5", raw)
        with h5py.File(path, "a") as file:
            del file[name]
            file[name] = h5py.ExternalLink(str(there), name)
        assert "link to elsewhere" in refused(G.read_gadget, path, "kpc/h")
    path = groups_file(tmp_path / "here_000.hdf5", raw)
    with h5py.File(path, "a") as file:
        del file["Group/GroupLen"]
    assert G.read_gadget(path, "kpc/h").particles is None


def test_a_promise_of_a_terabyte_is_refused(raw, tmp_path):
    path = groups_file(tmp_path / "here_000.hdf5", raw, Ngroups_ThisFile=2**28, Ngroups_Total=2**28)
    with h5py.File(path, "a") as file:
        for name, shape in {"GroupPos": (2**28, 3), "GroupVel": (2**28, 3), "GroupMass": (2**28,)}.items():
            del file["Group"][name]
            file["Group"].create_dataset(name, shape, "f8", chunks=True, compression="gzip")
    assert "not there" in refused(G.read_gadget, path, "kpc/h")


@few
@given(data=st.data())
def test_damaged_hdf5_is_refused(data, raw, tmp_path):
    good = groups_file(tmp_path / "fof_tab_000.hdf5", raw).read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    (tmp_path / "fof_tab_001.hdf5").write_bytes(good[:place])
    refused(C.read_halos, tmp_path / "fof_tab_001.hdf5")
    changed = good[:place] + bytes([good[place] ^ data.draw(st.integers(1, 255))]) + good[place + 1 :]
    (tmp_path / "fof_tab_001.hdf5").write_bytes(changed)
    try:
        C.read_halos(tmp_path / "fof_tab_001.hdf5", kind="gadget", length="kpc/h")
    except UserError as error:
        assert "\n" not in str(error)


def test_parts_of_several_sets_are_refused(raw, tmp_path):
    groups_file(tmp_path / "fof_tab_000.0.hdf5", raw, slice(0, 20), 2)
    assert "fof_tab_000.1.hdf5" in refused(G.read_gadget, tmp_path, "kpc/h")
    groups_file(tmp_path / "fof_tab_000.1.hdf5", raw, slice(20, 60), 2, BoxSize=2e6)
    assert "several sets" in refused(G.read_gadget, tmp_path, "kpc/h")
    groups_file(tmp_path / "fof_tab_000.1.hdf5", raw, slice(20, 59), 2)
    assert "promise 60 groups, its parts hold 59" in refused(G.read_gadget, tmp_path, "kpc/h")


def paper_frame(path, blocks):
    "A table as pandas writes it in fixed format."
    with h5py.File(path, "w") as file:
        frame = file.create_group("df")
        frame.attrs["pandas_type"] = np.bytes_("frame")
        for k, (names, values) in enumerate(blocks):
            frame[f"block{k}_items"], frame[f"block{k}_values"] = np.array(names, "S"), values
    return path


def test_the_table_of_the_authors(halos, tmp_path):
    table = table_of(halos).drop(columns="particles").rename(columns={"mass": "M14"})
    table["M14"] /= 1e14
    expected = replace(halos, particles=None, redshift=0.0)
    for cut in (8, 3, 1):
        blocks = [(list(part), part) for part in (table.iloc[:, :cut], table.iloc[:, cut:]) if part.size]
        same(C.read_halos(paper_frame(tmp_path / "df.h5", blocks)), expected)
    paper_frame(tmp_path / "df.h5", [(list(table)[:6], table.iloc[:, :6])])
    assert "no column for mass" in refused(C.read_halos, tmp_path / "df.h5")
    paper_frame(tmp_path / "df.h5", [(list(table), table.iloc[:, :7])])
    refused(C.read_halos, tmp_path / "df.h5")
    paper_frame(tmp_path / "df.h5", [(list(table), table.iloc[:, 0])])
    refused(C.read_halos, tmp_path / "df.h5")
    with h5py.File(tmp_path / "df.h5", "w") as file:
        file["df/table"] = np.zeros(2, [("index", "i8"), ("values_block_0", "f8", 8)])
    assert "pickled" in refused(C.read_halos, tmp_path / "df.h5")


# the door

def test_formats_are_data(halos, tmp_path, monkeypatch):
    (tmp_path / "new").write_bytes(b"\0new")
    said = refused(C.read_halos, tmp_path / "new")
    assert all(name in said for name in C.HALO_FORMATS)
    form = C.HaloFormat("a new one", lambda path: path.read_bytes().startswith(b"\0new"), lambda path: halos)
    monkeypatch.setitem(C.HALO_FORMATS, "new", form)
    assert C.read_halos(tmp_path / "new") is halos
    assert "which has no option 'box'; it has none" in refused(C.read_halos, tmp_path / "new", box=3)


def test_what_is_no_catalogue(tmp_path, halos):
    assert "is not there" in refused(C.read_halos, tmp_path / "nowhere")
    assert "no halos in a known format" in refused(C.read_halos, tmp_path)
    (tmp_path / "void").write_bytes(b"")
    assert "is empty" in refused(C.read_halos, tmp_path / "void")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    assert "known are" in refused(C.read_halos, tmp_path / "other.h5")
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["df"] = file["Header"] = h5py.ExternalLink("nowhere.h5", "/df")
    assert "link to elsewhere" in refused(C.read_halos, tmp_path / "linked.h5", length="kpc/h")
    (tmp_path / "malice").write_bytes(pickle.dumps(os.system))
    refused(C.read_halos, tmp_path / "malice")
    path = halos.save(tmp_path / "anything.csv")
    same(C.read_halos(path), halos)
    assert "kind 'rokstar' is unknown, did you mean 'rockstar'" in refused(C.read_halos, path, "rokstar")


# matter

@pytest.fixture(scope="module")
def matter():
    "Clumps of particles in a box of 80 Mpc/h, and some places in it."
    rng = np.random.default_rng(1)
    centres = 80 * rng.random((60, 1, 3))
    places = (centres + 4 * rng.normal(size=(60, 300, 3))).reshape(-1, 3) % 80
    return np.concatenate([places, 80 * rng.random((6000, 3))]), centres[:, 0]


@pytest.fixture(scope="module")
def bare(matter):
    return HaloCatalog(matter[1], 0 * matter[1], np.ones(60), 80.0)


@pytest.fixture(scope="module")
def exact(matter, bare):
    from scipy.spatial import cKDTree
    inside = cKDTree(matter[0], boxsize=80).query_ball_point(bare.position, 20.0, return_length=True)
    return inside / (len(matter[0]) * 4 / 3 * np.pi * 20**3 / 80**3) - 1


def test_matter_from_cubes_and_particles_is_what_counting_gives(matter, bare, exact, tmp_path):
    cube = deposit(matter[0], 80.0, 40)
    np.save(tmp_path / "df_m_40_CIC_z=0.npy", 1 + cube)
    file = tmp_path / "df_m_40_CIC_z=0.npy"
    ways = [matter[0], matter[0].astype("f4"), cube, 1 + cube, 7 * (1 + cube.astype(float)), file]
    for way in ways:
        found = C.with_matter(bare, way)
        assert np.abs(found.overdensity - exact).mean() < 0.01 and np.abs(exact).mean() > 0.1
        assert found.about["matter"] and bare.overdensity is None
    told = [C.with_matter(bare, way).about["matter"] for way in ways[2:]]
    assert told == [f"cube of 40^3 cells, {kind}" for kind in ("delta", "1 + delta", "counts", "1 + delta")]


@few
@given(shift=st.lists(st.integers(-50, 50), min_size=3, max_size=3), axes=st.permutations(range(3)))
def test_translation_and_permutation_leave_the_target_unchanged(shift, axes, matter, bare):
    cube = deposit(matter[0], 80.0, 32)
    found = C.overdensity_at(cube, 80.0, bare.position)
    moved = np.roll(cube, shift, (0, 1, 2)).transpose(axes)
    places = H.wrapped(bare.position + 2.5 * np.array(shift), 80.0)[:, axes]
    np.testing.assert_allclose(C.overdensity_at(moved, 80.0, places), found, atol=1e-4)


def test_a_plane_wave_is_weakened_as_the_ball_says():
    from symbolic_gn.dark_matter.cosmology import top_hat
    mesh, box = 32, 100.0
    x = np.arange(mesh) * box / mesh
    wave = np.cos(2 * np.pi * x / box)[:, None, None] + np.zeros((mesh,) * 3)
    found = C.overdensity_at(wave, box, np.array([[0.0, 3, 5], [50.0, 9, 1], [25.0, 0, 0]]), blurs=-2)
    factor = top_hat(np.array([2 * np.pi * 20 / box]))[0]
    np.testing.assert_allclose(found, [factor, -factor, 0], atol=1e-5)


@pytest.mark.parametrize("name, blurs", C.ASSIGNMENTS.items())
def test_the_scheme_is_told_by_the_name(name, blurs, matter, bare, tmp_path):
    cube = deposit(matter[0], 80.0, 24)
    np.save(tmp_path / f"df_m_24_{name}_z=0.00.npy", cube)
    found = C.with_matter(bare, tmp_path / f"df_m_24_{name}_z=0.00.npy").overdensity
    assert np.array_equal(found, C.overdensity_at(cube, 80.0, bare.position, blurs=blurs))
    assert np.array_equal(found, C.with_matter(bare, cube, name).overdensity)


def test_matter_that_cannot_be_used_is_refused(matter, bare, tmp_path):
    cube = deposit(matter[0], 80.0, 24)
    wrong = {
        "cells of 8.0 Mpc/h": cube[:10, :10, :10], "give 21^3": cube[:20, :20, :20], "expected a cube": cube[:, :, :20],
        "the same everywhere": 0 * cube, "NaN": np.where(cube == cube.max(), np.nan, cube), "complex": cube * 1j,
        "holds no density": cube - 0.5, "too few": matter[0][:50], "outside the box": matter[0] * 1000,
        "shape (24, 24)": cube[0], "holds no numbers": matter[0].astype(str),
    }
    for words, what in wrong.items():
        assert words in refused(C.with_matter, bare, what)
    assert "does not fit" in refused(C.with_matter, replace(bare, position=bare.position / 4, box=20.0), cube)
    np.save(tmp_path / "df_m_24_z=1.npy", cube)
    assert "redshift 1 by its name" in refused(C.with_matter, bare, tmp_path / "df_m_24_z=1.npy")
    good = (tmp_path / "df_m_24_z=1.npy").read_bytes()
    header = good[:128].replace(b"(24, 24, 24)", b"(2400000,2,9)")
    contents = [b"", good[:90], good[:-1], header[:128] + good[128:], pickle.dumps(os.system), b"\x93NUMPY" + bytes(99)]
    for content in contents:
        (tmp_path / "cube.npy").write_bytes(content)
        assert "cube.npy" in refused(C.with_matter, bare, tmp_path / "cube.npy")
    np.save(tmp_path / "cube.npy", np.array([os.system]), allow_pickle=True)
    assert "objects" in refused(C.with_matter, bare, tmp_path / "cube.npy")
