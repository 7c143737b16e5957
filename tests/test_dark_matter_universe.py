"A universe of our own: theory on its side, the same bytes however it was made, and one line for what cannot be."
import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from symbolic_gn.core.errors import UserError
from symbolic_gn.dark_matter.cosmology import (
    Cosmology,
    as_cosmology,
    growth,
    growth_rate,
    halos_above,
    linear_power,
    mass_function,
    mass_of_rank,
    spread,
)
from symbolic_gn.dark_matter.groups import (
    LABEL,
    OTHER,
    RADIUS,
    SHIPPED,
    ball_mesh,
    calibrated_mass,
    centres,
    find_halos,
    friends_of_friends,
    make_catalog,
    overdensity_around,
    shipped,
)
from symbolic_gn.dark_matter.halos import HaloCatalog
from symbolic_gn.dark_matter.mesh import BACKENDS, deposit, from_waves, interpolate, pulls, to_waves
from symbolic_gn.dark_matter.universe import (
    UniverseRecipe,
    evolve,
    first_state,
    linear_density,
    memory_needed,
    read_universe,
    run_universe,
    save_universe,
    state_path,
    white_noise,
    wrap_positions,
)

FIDUCIAL = dict(Om=0.3175, Ob=0.049, h=0.6711, ns=0.9624, s8=0.834)
TINY = dict(particles=16, box=31.25)


@pytest.fixture(scope="module")
def fixture():
    "64^3 particles in 125 Mpc/h, and how long they took."
    start = time.process_time()
    universe = run_universe(UniverseRecipe(particles=64, box=125), workers=1, progress=False)
    return universe, find_halos(universe), time.process_time() - start


# theory


@pytest.mark.parametrize("numbers", [{}, FIDUCIAL], ids=["latin hypercube 0", "fiducial"])
def test_theory_agrees_with_an_independent_package(numbers):
    theirs = pytest.importorskip("colossus.cosmology.cosmology")
    from colossus.lss import mass_function as theirs_too

    c = as_cosmology(numbers)
    other = theirs.setCosmology("ours", params=dict(
        flat=True, H0=100 * c.h, Om0=c.Om, Ob0=c.Ob, sigma8=c.s8, ns=c.ns, relspecies=False, Tcmb0=2.7255,
    ))
    k, radius, mass = np.geomspace(1e-3, 10, 100), np.array([2.0, 4, 8, 20]), np.array([1e13, 1e14, 5e14])
    assert np.allclose(linear_power(c, k), other.matterPowerSpectrum(k), rtol=5e-3)
    assert np.allclose(spread(c, radius), other.sigma(radius), rtol=2e-3)
    z = np.array([0, 1, 3, 9])
    assert np.allclose([growth(c, float(a)) for a in 1 / (1 + z)], other.growthFactor(z), rtol=1e-4)
    words = dict(q_in="M", q_out="dndlnM", mdef="fof", model="warren06")
    assert np.allclose(mass_function(c, mass), theirs_too.massFunction(mass, 0, **words), rtol=5e-3)


@pytest.mark.parametrize("matter", [0.1, 0.1755, 0.5, 1.0])
def test_growth_solves_its_equation(matter):
    "Heath's integral, and the rate as the slope of the logarithm."
    c = Cosmology(Om=matter)
    x = np.linspace(1e-4, 1, 200_001)
    integral = lambda a: np.sqrt(matter / a**3 + 1 - matter) * np.trapezoid(
        np.where(x <= a, (x / (matter + (1 - matter) * x**3)) ** 1.5, 0), x
    )
    assert np.isclose(growth(c, 0.4), integral(0.4) / integral(1.0), rtol=1e-3)
    slope = (np.log(growth(c, 0.5 + 1e-5)) - np.log(growth(c, 0.5 - 1e-5))) / 2e-5 * 0.5
    assert np.isclose(growth_rate(c, 0.5), slope, rtol=1e-6)


def test_the_papers_halos_are_those_of_its_cosmology():
    least = lambda c: np.array([20 * 2.77536627e11 * c.Om * (1000 / 512) ** 3])
    assert 0.9 < halos_above(Cosmology(), least(Cosmology()))[0] * 1e9 / 215_854 < 1.1
    assert halos_above(as_cosmology(FIDUCIAL), least(as_cosmology(FIDUCIAL)))[0] * 1e9 > 1.5 * 215_854


def test_mass_and_rank_are_each_others_inverse():
    mass = np.geomspace(3e12, 1e15, 50)
    assert np.allclose(mass_of_rank(Cosmology(), halos_above(Cosmology(), mass)), mass, rtol=1e-6)


# the mesh


def test_matter_arrives_and_is_read_back():
    rng = np.random.default_rng(0)
    place = (50 * rng.random((3000, 3))).astype(np.float32)
    density = deposit(place, 50.0, 16)
    assert abs(density.mean()) < 1e-5 and density.min() >= -1
    assert np.allclose(interpolate(np.full((16, 16, 16), 3.0), place, 50.0), 3, rtol=1e-5)
    assert np.allclose(from_waves(to_waves(density)), density, atol=1e-4)
    assert np.allclose(to_waves(density), np.fft.rfftn(density), atol=0.05)


def test_threads_change_no_bit():
    place = (30 * np.random.default_rng(1).random((40_000, 3))).astype(np.float32)
    for one, four in zip(pulls(place, 30.0, 32, 1), pulls(place, 30.0, 32, 4)):
        assert np.array_equal(one, four)


def test_pulls_cancel_and_move_with_the_matter():
    place = (30 * np.random.default_rng(2).random((20_000, 3)) ** 2).astype(np.float32)
    here = np.stack([*pulls(place, 30.0, 32)], 1)
    assert np.abs(here.sum(0)).max() < 1e-5 * np.abs(here).sum()
    moved = place + np.float32(30 / 32 * 5)
    wrap_positions(moved, 30.0)
    there = np.stack([*pulls(moved, 30.0, 32)], 1)
    assert np.allclose(there, here, atol=2e-3 * here.std())
    turned = np.stack([*pulls(np.ascontiguousarray(place[:, [2, 0, 1]]), 30.0, 32)], 1)
    assert np.allclose(turned, here[:, [2, 0, 1]], atol=1e-3 * here.std())


def test_jax_pulls_as_scipy_does():
    place = (30 * np.random.default_rng(3).random((20_000, 3))).astype(np.float32)
    ours, theirs = (np.stack([*BACKENDS[name](place, 30.0, 32)], 1) for name in ("scipy", "jax"))
    assert np.allclose(ours, theirs, atol=1e-3 * ours.std())


# a universe


def test_a_finer_lattice_has_the_same_long_waves():
    coarse, fine = white_noise(12, 5), white_noise(20, 5)
    assert np.array_equal(coarse[:6, :6, :6], fine[:6, :6, :6])
    assert np.array_equal(coarse[-5:, -5:, :6], fine[-5:, -5:, :6])
    assert np.isclose((np.abs(fine[fine != 0]) ** 2).mean(), 1, atol=0.05)


def test_long_waves_grow_as_linear_theory_says():
    "Within 3 %, and in more and shorter steps as well as in ten."
    recipe = UniverseRecipe(seed=11, particles=32, box=750)
    expected = linear_density(recipe)[:3, :3, :3]
    for steps in (10, 20):
        grown = evolve(first_state(recipe), replace(recipe, steps=steps))
        fine = deposit(grown.position - np.float32(0.25 * recipe.spacing), 750.0, 128)  # hardly blurs long waves
        final = to_waves(fine)[:3, :3, :3] / 4**3
        ratio = np.vdot(expected, final).real / np.vdot(expected, expected).real
        assert abs(ratio - 1) < 0.03


def test_the_whole_stands_still(fixture):
    universe, _, _ = fixture
    assert np.abs(universe.velocity.mean(0, dtype=float)).max() < 1e-3 * universe.velocity.std()


def test_a_moved_universe_is_the_same_universe_moved():
    recipe = UniverseRecipe(seed=4, particles=32, box=62.5)
    here, moved, by = evolve(first_state(recipe), recipe), first_state(recipe), np.float32(11 * 62.5 / 64)
    moved.position[...] += by
    wrap_positions(moved.position, recipe.box)
    there = evolve(moved, recipe)
    apart = (there.position - here.position - by + 31.25) % 62.5 - 31.25
    assert np.median(np.abs(apart)) < 1e-3 and np.quantile(np.abs(apart), 0.95) < 0.2
    assert abs(len(find_halos(there)) - len(find_halos(here))) <= 1


def test_the_fixture_is_quick_and_has_the_halos_that_it_should(fixture):
    universe, catalog, seconds = fixture
    expected = halos_above(Cosmology(), np.array([20 * universe.recipe.particle_mass]))[0] * 125**3
    assert seconds < 10 and 0.75 < len(catalog) / expected < 1.15
    assert catalog.particles.min() >= 20 and (np.diff(catalog.particles) <= 0).all()
    assert 0 <= catalog.position.min() and catalog.position.max() < 125
    assert catalog.about["label"] == LABEL and "not Quijote" in LABEL


def test_the_seed_fixes_the_universe(tmp_path):
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for seed, workers, path in zip((1, 1, 2), (1, 3, 1), paths):
        make_catalog(UniverseRecipe(seed, 32, 62.5), path, workers, progress=False)
    one, same, other = (path.read_bytes() for path in paths)
    assert one == same != other
    assert sorted(p.name for p in tmp_path.iterdir()) == [p.name for p in paths]


# halos


def test_slabs_change_no_group(monkeypatch, fixture):
    "In slabs, at once, and turned around the box: the same groups as a plain search finds."
    place = fixture[0].position[::7].copy()
    whole = friends_of_friends(place, 125.0, 1.0, 5)
    monkeypatch.setattr("symbolic_gn.dark_matter.groups.SLAB", 3000)
    cut = friends_of_friends(place, 125.0, 1.0, 5)
    assert np.array_equal(np.sort(np.bincount(cut + 1)), np.sort(np.bincount(whole + 1)))
    assert len(np.unique(np.stack([cut, whole]), axis=1).T) == len(np.unique(whole))
    moved = ((place + np.float32(77.7)) % np.float32(125)).astype(np.float32)
    moved[moved >= 125] = 0
    again = friends_of_friends(moved, 125.0, 1.0, 5)
    assert abs(np.bincount(again + 1)[1:].sum() - np.bincount(whole + 1)[1:].sum()) <= 10


def test_a_group_through_all_faces():
    rng = np.random.default_rng(0)
    clump = (0.2 * rng.normal(size=(60, 3)) + [10.0, 0.0, 10.0]) % 10
    group = friends_of_friends(clump, 10.0, 0.5)
    assert (np.bincount(group[group >= 0]) >= 50).all() and group.max() == 0
    place, velocity, count = centres(clump, np.ones((60, 3)), group, 10.0)
    assert (np.minimum(place, 10 - place) < 0.15).all() and np.allclose(velocity, 1) and count[0] == (group == 0).sum()
    assert (friends_of_friends(10 * rng.random((50, 3)), 10.0, 0.1) == -1).all()


def test_masses_follow_the_mass_function(fixture):
    _, catalog, _ = fixture
    order = np.sort(catalog.mass)[::-1]
    for mass in (1e13, 3e13, 1e14):
        expected = halos_above(Cosmology(), np.array([mass]))[0] * 125**3
        assert abs((order > mass).sum() - expected) <= max(1, 0.08 * expected)
    assert len(np.unique(catalog.mass)) == len(np.unique(catalog.particles))
    counts = np.array([50, 20, 20, 300])
    assert np.argsort(calibrated_mass(counts, 100.0))[-1] == 3


def test_overdensity_is_an_exact_count_of_particles(fixture):
    universe, catalog, _ = fixture
    tree = cKDTree(universe.position.astype(float), boxsize=125.0)
    inside = tree.query_ball_point(catalog.position, RADIUS, return_length=True)
    exact = inside / (64**3 * 4 / 3 * np.pi * RADIUS**3 / 125.0**3) - 1
    assert np.abs(catalog.overdensity - exact).mean() < 0.01
    turned = [1, 2, 0]
    place, where = (np.ascontiguousarray(p[:, turned]) for p in (universe.position, catalog.position))
    assert np.allclose(overdensity_around(place, where, 125.0), catalog.overdensity, atol=1e-3)


def test_the_ball_has_cells_of_two_at_most():
    for particles, box in ((64, 125.0), (128, 250.0), (256, 500.0), (64, 1000.0), (512, 333.0)):
        mesh = ball_mesh(particles**3, box)
        assert box / mesh <= 2 and mesh % 2 == 0
    assert ball_mesh(256**3, 500.0) == 500


# interrupted


def test_killed_and_gone_on_with(tmp_path):
    "SIGKILL in the middle of a step; what was there by then is used, and the bytes are those of an undisturbed run."
    plain, killed = tmp_path / "plain.safetensors", tmp_path / "killed.safetensors"
    recipe = UniverseRecipe(3, 32, 62.5)
    make_catalog(recipe, plain, progress=False)
    script = f"""
        from symbolic_gn.dark_matter.groups import make_catalog
        from symbolic_gn.dark_matter.universe import UniverseRecipe
        make_catalog(UniverseRecipe(3, 32, 62.5), {str(killed)!r}, progress=False)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    until = time.monotonic() + 120
    while not state_path(killed).exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    (tmp_path / f".{state_path(killed).name}.123.part").write_bytes(b"what a kill in the middle of a write leaves")
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not killed.exists()
    with pytest.raises(UserError, match="is a run with another seed;"):
        make_catalog(replace(recipe, seed=4), killed, resume=True, progress=False)
    with pytest.raises(UserError, match="is a run that was stopped; go on with --resume, or"):
        make_catalog(recipe, killed, progress=False)
    make_catalog(recipe, killed, resume=True, progress=False)
    assert killed.read_bytes() == plain.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.safetensors", "plain.safetensors"]


class Stopped(Exception):
    "Instead of a kill."


@pytest.mark.parametrize("kicks", [1, 6, 11])
def test_every_step_can_be_gone_on_from(tmp_path, kicks):
    recipe, out = UniverseRecipe(7, **TINY), tmp_path / "universe.safetensors"
    whole = run_universe(recipe, progress=False)

    def stop(state):
        if state.kicks == kicks:
            raise Stopped

    with pytest.raises(Stopped):
        run_universe(recipe, out, progress=False, watch=stop)
    rest = run_universe(recipe, out, resume=True, progress=False)
    assert rest.position.tobytes() == whole.position.tobytes()
    assert rest.velocity.tobytes() == whole.velocity.tobytes()


def test_a_damaged_state_is_refused_and_left_alone(tmp_path):
    out = tmp_path / "universe.safetensors"
    recipe = UniverseRecipe(7, **TINY)
    run_universe(recipe, out, progress=False)
    path = state_path(out)
    good = path.read_bytes()
    for bad, line in ((good[:-9] + b"corrupted", "has been changed"), (good[:1000], "damaged"), (b"x", "damaged")):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=line):
            run_universe(recipe, out, resume=True, progress=False)
        assert path.read_bytes() == bad and not out.exists()


def test_a_file_is_not_overwritten(tmp_path):
    out = tmp_path / "universe.safetensors"
    recipe = UniverseRecipe(1, **TINY)
    made = run_universe(recipe, out, progress=False)
    assert save_universe(made, out) == out
    before = out.read_bytes()
    assert np.array_equal(read_universe(out).velocity, made.velocity)
    for make in (run_universe, make_catalog):
        with pytest.raises(UserError, match="is there already; choose another name, or replace it with --overwrite"):
            make(recipe, out, progress=False)
    assert out.read_bytes() == before and len([*tmp_path.iterdir()]) == 1
    save_universe(run_universe(replace(recipe, seed=2), out, overwrite=True, progress=False), out)
    assert out.read_bytes() != before


# what cannot be


WRONG = [
    (dict(particles=64.0), "particles 64.0: give a whole number from 8 to 4096"),
    (dict(particles="64"), "particles '64': give a whole number"),
    (dict(particles=True), "particles True: give a whole number"),
    (dict(particles=33), "particles 33: give an even number along a side"),
    (dict(particles=2), "particles 2: give a whole number from 8"),
    (dict(box=0), "box 0: give a number from 1"),
    (dict(box=-100.0), "box -100.0: give a number"),
    (dict(box=float("nan")), "box nan: give a number"),
    (dict(box=float("inf")), "box inf: give a number"),
    (dict(seed=0.5), "seed 0.5: give a whole number"),
    (dict(seed=-1), "seed -1: give a whole number"),
    (dict(seed=None), "seed None: give a whole number"),
    (dict(steps=0), "steps 0: give a whole number"),
    (dict(workers=0), "workers 0: give a whole number"),
    (dict(backend="cupy"), "backend 'cupy' is unknown"),
    (dict(cosmology={"Omega_m": 0.3}), "cosmology 'Omega_m' is unknown"),
    (dict(cosmology={"h": 70}), "cosmology h 70: give a number from 0.2 to 2"),
    (dict(particles=4096, box=8000.0), r"need \d+\.\d GB of memory, "),
    (dict(particles=64, box=90_000.0), r"need \d+\.\d GB of memory, "),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    "What a user hears, whose annotations nobody checks: for each mistake the words, and the seconds until they came."
    folder = tmp_path_factory.mktemp("wrong")
    script = f"""
        import json, time
        from math import inf, nan
        from symbolic_gn.core.errors import UserError
        from symbolic_gn.dark_matter.cosmology import as_cosmology
        from symbolic_gn.dark_matter.groups import make_catalog
        from symbolic_gn.dark_matter.universe import UniverseRecipe
        heard = []
        for wrong in {[wrong for wrong, _ in WRONG]!r}:
            start = time.process_time()
            try:
                threads, given = wrong.pop("workers", None), {{**{TINY!r}, **wrong}}
                recipe = UniverseRecipe(**{{**given, "cosmology": as_cosmology(given.get("cosmology"))}})
                make_catalog(recipe, {str(folder / "catalog.safetensors")!r}, threads, progress=False)
                heard.append(("nothing", 0))
            except UserError as error:
                heard.append((str(error), time.process_time() - start))
        print(json.dumps(heard))
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert not [*folder.iterdir()]
    return json.loads(ran.stdout)


@pytest.mark.parametrize("k", range(len(WRONG)), ids=[line[:24] for _, line in WRONG])
def test_what_cannot_be_is_refused_before_any_work(answers, k):
    words, seconds = answers[k]
    assert re.search(WRONG[k][1], words) and "\n" not in words and seconds < 0.5


def test_places_that_are_no_file(tmp_path):
    with pytest.raises(UserError, match="it is a folder"):
        make_catalog(UniverseRecipe(**TINY), tmp_path, progress=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        make_catalog(UniverseRecipe(**TINY), tmp_path / "file" / "catalog.safetensors", progress=False)
    with pytest.raises(UserError, match="cannot be written"):
        save_universe(run_universe(UniverseRecipe(**TINY), progress=False), tmp_path / "file" / "universe.safetensors")
    with pytest.raises(UserError, match="is not there"):
        read_universe(tmp_path / "none")


def test_memory_is_that_of_three_meshes_and_the_particles():
    assert memory_needed(256) < 3.5 and 12 * 512**3 + 24 * 256**3 < memory_needed(256) * 1e9
    assert memory_needed(64, 5000.0) > 12 * 2500**3 / 1e9


# what comes along


@pytest.mark.parametrize("seed", SHIPPED)
def test_shipped_catalogues_say_what_they_are(seed):
    catalog = shipped(seed)
    recipe = catalog.about["recipe"]
    assert catalog.about["label"] == LABEL != OTHER and catalog.about["seed"] == seed == recipe["seed"]
    assert (recipe["particles"], recipe["box"], catalog.box, catalog.redshift) == (256, 500.0, 500.0, 0.0)
    assert {"numpy", "scipy", "symbolic_gn"} <= set(catalog.about["versions"])
    assert catalog.about["took"]["peak_gb"] < 3.5
    assert 22_000 < len(catalog) < 28_000 and catalog.particles.min() == 20
    expected = halos_above(Cosmology(), np.array([50 * catalog.about["particle_mass"]]))[0] * 500**3
    assert 0.9 < (catalog.particles >= 50).sum() / expected < 1.1
    constant = np.abs(catalog.overdensity - np.median(catalog.overdensity)).mean()
    assert 0.38 < constant < 0.46


def test_shipped_catalogues_differ_and_others_are_named():
    assert len({len(shipped(seed)) for seed in SHIPPED}) == 3
    with pytest.raises(UserError, match="seed of a shipped catalogue '3' is unknown; choose from 0, 1, 2"):
        shipped(3)


def test_a_catalogue_comes_back_from_its_file(tmp_path, fixture):
    _, catalog, _ = fixture
    again = HaloCatalog.load(catalog.save(tmp_path / "catalog.safetensors"))
    assert np.allclose(again.position, catalog.position, atol=1e-4) and again.about == catalog.about
    assert np.allclose(again.overdensity, catalog.overdensity) and np.array_equal(again.particles, catalog.particles)
