"What bodies feel alone, boxes, crowds, fields at rest, unknown masses, and the units of constants."
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusing import refused

from symbolic_gn.cli import main
from symbolic_gn.core.boxes import box_sides, nearest_image, unwrapped
from symbolic_gn.core.errors import UserError
from symbolic_gn.core.fields import FIELDS, felt, felt_together, fields_of
from symbolic_gn.data.neighbours import stars
from symbolic_gn.data.properties import weighed
from symbolic_gn.data.scales import Scales, dimensionless
from symbolic_gn.data.trajectories import Trajectories, from_arrays
from symbolic_gn.discover import discover
from symbolic_gn.fit.accelerations import refit
from symbolic_gn.fit.crowds import as_stars
from symbolic_gn.fit.left_over import left_over
from symbolic_gn.fit.objective import Accelerations
from symbolic_gn.fit.snap import snap
from symbolic_gn.fit.sorted import alone_terms
from symbolic_gn.laws.evidence import belief, evidence
from symbolic_gn.laws.law import Law
from symbolic_gn.laws.scales import law_in_units, unit_of_field
from symbolic_gn.laws.units import law_with_units, units_of_motion
from symbolic_gn.models import make_model
from symbolic_gn.report import PRINTERS, snippet
from symbolic_gn.simulate import Given, prepared
from symbolic_gn.studies.answers import ask
from symbolic_gn.studies.strangers import STRANGERS, numbered_form, orbits
from symbolic_gn.studies.unknown import FORMS, NO_LAW, unknown_world, world_without_law

few = settings(max_examples=20, deadline=None)


def world(law, simulations=20, frames=10, bodies=4, dim=2, seed=0, **told):
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(2, simulations, frames, bodies, dim))
    mass, charge = np.exp(0.4 * rng.normal(size=(simulations, bodies))), rng.normal(size=(simulations, bodies))
    a = law.accelerations(x, v, mass[:, None], charge[:, None])
    return from_arrays(x, v, a, mass=mass, charge=charge, dt=0.1, **told)


@few
@given(st.sampled_from(sorted(FIELDS)), st.integers(0, 99), st.floats(0.1, 10))
def test_a_field_is_linear_and_its_unit_undoes_its_scale(name, seed, strength):
    rng, dim = np.random.default_rng(seed), 3
    x, v = rng.normal(size=(2, 5, dim))
    m, q = rng.uniform(0.5, 2, 5), rng.normal(size=5)
    one = felt([name], x, v, m, q)[name]
    np.testing.assert_allclose(felt_together({name: strength}, x, v, m, q), strength * one)
    s = Scales(3.0, 0.5, 7.0, 2.0)
    state = x / s.length, v * s.time / s.length, m / s.mass, q / s.charge
    scaled = felt_together({name: 1 / unit_of_field(name, s)}, *state)
    np.testing.assert_allclose(scaled * s.acceleration, one, atol=1e-12)


def test_laws_carry_fields_through_files_units_and_fits(tmp_path):
    law = Law.of("-0.9*q_i*q_j/r", fields=dict(trap=2.0, push_x=0.5, q_turn_z=1.5))
    assert Law.from_json(law.to_json(tmp_path / "law.json")).fields == law.fields
    assert "trap 2" in repr(law)
    data = world(law)
    fitted = snap(refit(Law.of("-0.5*q_i*q_j/r", fields=dict(trap=1.0, push_x=0.1, q_turn_z=1.0)), data), data)
    assert fitted.fields == pytest.approx(law.fields, rel=1e-6)
    s = Scales(10.0, 2.0, 3.0, 0.5)
    there = law_in_units(law, s)
    x, v = np.random.default_rng(0).normal(size=(2, 4, 2))
    m, q = np.ones(4), np.array([1.0, -1.0, 0.5, 2.0])
    far = there.accelerations(x * s.length, v * s.length / s.time, m * s.mass, q * s.charge)
    np.testing.assert_allclose(far, law.accelerations(x, v, m, q) * s.acceleration)
    with pytest.raises(UserError, match="velocity: is missing"):
        law.accelerations(x, None, m, q)


@pytest.mark.parametrize("fields", [{}, dict(trap=2.0), dict(drag_per_mass=0.3), dict(push_y_per_mass=-0.7, drag2=0.2)])
def test_fields_are_found_and_none_is_invented(fields):
    found = alone_terms(world(Law.of("1.4*m_i*m_j*(r - 0.8)", fields=fields)))
    assert found == pytest.approx(fields, rel=1e-3)
    assert {*found} <= {*fields_of(2)}


def test_a_network_learns_what_fields_leave():
    data = prepared(world(Law.of("1.4*(r - 0.8)", fields=dict(trap=2.0))))
    assert data.fields == pytest.approx(dict(trap=2.0), rel=1e-3)
    rest = Law.of("1.4*(r - 0.8)").accelerations(data.position, data.velocity, data.mass[:, None], data.charge[:, None])
    np.testing.assert_allclose(data.pair_acceleration(), rest, atol=1e-2)
    model = make_model("newton", fields=dict(data.fields))
    plain = make_model("newton")
    plain.load_state_dict(model.state_dict())
    state = [a[0] for a in (data.position, data.velocity)] + [np.broadcast_to(data.mass[:1], (10, 4))] * 2
    alone = felt_together(data.fields, *state)
    both = model.accelerations(*state, data.edge_index) - plain.accelerations(*state, data.edge_index)
    np.testing.assert_allclose(both, alone, atol=1e-4)


def test_moments_count_by_what_is_known_of_their_error():
    np.testing.assert_allclose(belief(np.zeros(4), np.ones(4)), 1)
    time = 0.1 * np.arange(60)
    x = np.stack([np.stack([np.cos(time), np.sin(time)], -1), -np.stack([np.cos(time), np.sin(time)], -1)], 1)
    data = from_arrays(np.stack([x, 2 * x, 3 * x]), dt=0.1)
    assert data.doubts.shape == (3, 60, 2) and data.doubt.shape == (3, 60)
    assert data.doubt[:, 0].max() > 3 * np.median(data.doubt) and 0 < evidence(data).floor < 1e-3


# boxes and crowds


@few
@given(st.integers(0, 999), st.floats(0.5, 5))
def test_tracks_are_laid_end_to_end_and_images_are_near(seed, side):
    rng, sides = np.random.default_rng(seed), box_sides(side, 2)
    path = np.cumsum(0.3 * side * rng.uniform(-1, 1, (30, 3, 2)), axis=0)
    again = unwrapped(np.mod(path, side), sides)
    np.testing.assert_allclose(again - again[0], path - path[0], atol=1e-9)
    d = nearest_image(10 * rng.normal(size=(50, 2)), sides)
    assert (np.abs(d) <= side / 2 + 1e-9).all()


@pytest.mark.parametrize("box", [0, -1, [1, 2, 3], float("nan")])
def test_boxes_that_are_none_are_told(box):
    with pytest.raises(UserError, match="box is"):
        box_sides(box, 2)


def crowd(bodies=60, law="Piecewise((-(0.15 - r), r < 0.15), (0, True))"):
    x = np.random.default_rng(0).random((3, 8, bodies, 2))
    a = np.stack([Law.of(law).accelerations(some, box=1) for some in x])
    data = from_arrays(x, 0 * x, a, dt=0.1)
    data.data.attrs["box"] = json.dumps([1.0, 1.0])
    return data


def test_stars_know_what_acts_on_their_middle():
    data = crowd()
    some = stars(data, 10, np.ones(2), number=100)
    law = Law.of("Piecewise((-(0.15 - r), r < 0.15), (0, True))")
    found = law.accelerations(some.position, edge_index=some.edge_index)
    assert np.abs(found[:, 0, 0] - some.acceleration[:, 0, 0]).mean() < 0.05 * np.abs(some.acceleration[:, 0, 0]).mean()
    assert evidence(some).weighted.shape[1] == 1 and not some.acceleration[:, 0, 1:].any()
    near = as_stars(data)
    assert near.data.attrs["neighbours"] == near.bodies - 1 < 59
    assert dimensionless(near, Scales(2.0)).box == [0.5, 0.5]


def test_a_crowd_goes_through_the_door():
    data = prepared(crowd())
    model = make_model(Given(data).default_model)
    a = model.accelerations(data.position[:5, 0], data.velocity[:5, 0], data.mass[:5], data.charge[:5], data.edge_index)
    assert a.shape == (5, data.bodies, 2) and not a[:, 1:].any() and a[:, 0].any()


# what else a stranger brings


def test_masses_come_from_the_balance_of_forces():
    rng, mass = np.random.default_rng(0), np.array([1.0, 0.4, 0.7])
    x = rng.normal(size=(20, 10, 3, 2))
    a = Law.of("m_i*m_j/r").accelerations(x, mass=np.broadcast_to(mass, (20, 10, 3)))
    data = weighed(from_arrays(x, 0 * x, a, dt=0.1))
    np.testing.assert_allclose(data.mass, np.broadcast_to(mass, (20, 3)), rtol=1e-6)
    assert Accelerations(data).findings(Law.of("r"))["mass"]["value"] == pytest.approx(list(mass))
    outside = from_arrays(x, 0 * x, a + [0.0, -1.0], dt=0.1)
    assert weighed(outside) is outside


def test_a_field_at_rest_is_read(tmp_path):
    stranger = STRANGERS["field_at_rest"](np.random.default_rng(0))
    stranger.table.to_csv(tmp_path / "field.csv", index=False)
    data = Trajectories.load(tmp_path / "field.csv")
    assert (data.frames, data.bodies, data.data.attrs["topology"]) == (1, 2, "star")
    assert left_over(stranger.law, data) == []
    few_rows = stranger.table.query("simulation < 2")
    few_rows.to_csv(tmp_path / "few.csv", index=False)
    assert "accelerations at rest; give at least 3" in refused(lambda: Trajectories.load(tmp_path / "few.csv"))


def test_constants_carry_units():
    si = dict(length="m", time="s", mass="kg")
    law = law_with_units(Law.of("6.67e-11*m_i*m_j/r**2", fields=dict(drag=1.0)), si)
    assert law.units == {"c0": "m**3/kg/s**2", "drag": "kg/s"}
    assert units_of_motion(si, ["r", "m_i", "vx_j", "q_i"]) == {"r": "m", "m_i": "kg", "vx_j": "(m)/(s)"}
    assert "mass is missing" in refused(lambda: units_of_motion(dict(length="m", time="s"), []))


@pytest.mark.parametrize("words, said", [
    (["--units", "length=m"], "time is missing"), (["--units", "length=furlongz,time=s,mass=kg"], "is no unit"),
    (["--units", "length"], "write NAME=WORD"), (["--box", "0"], "box is"), (["--box", "1,2"], "box is"),
    (["--box", "wide"], "--box"),
])
def test_bad_words_are_one_line(words, said, tmp_path, capsys):
    path = tmp_path / "orbit.csv"
    STRANGERS["orbit_au"](np.random.default_rng(0)).table.iloc[:200].to_csv(path, index=False)
    with pytest.raises(SystemExit) as end:
        main(["discover", str(path), "--budget", "tiny", *words])
    told = capsys.readouterr().err
    assert end.value.code == 2 and said in told and "Traceback" not in told


def test_the_law_is_code():
    law = Law.of("0.5*m_i*m_j/(r + 0.1)**2", fields=dict(trap=2.0))
    scope = {}
    exec(snippet(law), scope)
    assert scope["pair_force"](2.0, 1.0, 3.0) == pytest.approx(1.5 / 2.1**2)
    assert "trap" not in scope and "2 * (-x)" in snippet(law)
    assert set(PRINTERS) == {"numpy", "torch", "jax"}


# strangers and unknown worlds


def test_strangers_are_the_same_for_a_seed_and_others_for_another():
    one, same, other = (STRANGERS["two_stars"](np.random.default_rng(k)) for k in (0, 0, 1))
    assert one.table.equals(same.table) and not one.table.equals(other.table)
    assert isinstance(one.table, pd.DataFrame) and one.law is not None
    with pytest.raises(UserError, match="too steep"):
        start = np.array([[0.0, 0.0], [1.0, 0.0]])
        orbits(Law.of("1/r**5"), start, 0 * start, np.ones(2), np.zeros(2), np.linspace(0, 3, 7), calls=2000)


def test_an_orbit_of_two_stars_is_told_with_its_constant(tmp_path):
    row = ask("orbit_au", tmp_path, budget="tiny")
    assert row["right"] and not row["wrongly_found"] and row["command"].startswith("symbolic-gn discover orbit_au.csv")


@few
@given(st.sampled_from(FORMS), st.integers(0, 999))
def test_every_form_is_a_formula(form, seed):
    text = numbered_form(form, np.random.default_rng(seed))
    assert np.isfinite(Law.of(text).numpy()(r=1.3, m_i=1.0, m_j=2.0, q_i=1.0, q_j=-1.0)) and "{" not in text


def test_unknown_worlds_are_made_of_their_seed():
    assert unknown_world(7).table.equals(unknown_world(7).table)
    notes = {world_without_law(k).note for k in (0, 6, 7)}
    assert len(notes) == 3 and "bessel" in notes & set(NO_LAW)


def test_units_of_inputs_that_do_not_vary_are_no_burden():
    found = discover("spring", budget="tiny", units=dict(length="m", time="s", mass="kg"), progress=False)
    assert found.summary["units"] == dict(length="m", time="s", mass="kg")
    assert all(len(entry) == 3 for entry in found.summary["law"]["constants"].values())
