"A drag for each body, and couplings for each pair of kinds of bodies."
import json

import numpy as np
import pandas as pd
import pytest

from symbolic_gn.core.errors import UserError
from symbolic_gn.core.fields import FIELDS, felt_together, own_fields, told_fields
from symbolic_gn.core.graph import indicators, labels_of
from symbolic_gn.data.scales import Scales
from symbolic_gn.data.trajectories import from_arrays, from_table
from symbolic_gn.fit.objective import Accelerations, per_kinds
from symbolic_gn.fit.sorted import alone_terms
from symbolic_gn.laws.evidence import evidence
from symbolic_gn.laws.formula import parse
from symbolic_gn.laws.law import Law
from symbolic_gn.laws.scales import law_in_units
from symbolic_gn.laws.units import law_with_units
from symbolic_gn.report import snippet
from symbolic_gn.simulate import prepared
from symbolic_gn.studies.strangers import dusty_plasma, motion_table
from symbolic_gn.verdict import law_summary, r2_by_axis

CHASE = "(-0.3*{0}_i*{0}_j - 2*{0}_i*{1}_j + 1.2*{1}_i*{0}_j - 0.6*{1}_i*{1}_j)/(r + 0.3)"


@pytest.fixture(scope="module")
def grains():
    return dusty_plasma(np.random.default_rng(1), grains=6, frames=1500)


def moved(law, bodies, simulations=20, same=True, seed=0, **fixed):
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(2, simulations, 20, bodies, 2))
    mass = np.exp(0.4 * rng.normal(size=(1 if same else simulations, bodies)))
    mass = np.broadcast_to(mass, (simulations, bodies))
    given = {n: np.broadcast_to(a, (simulations, bodies)) for n, a in fixed.items()}
    a = law.accelerations(x, v, mass[:, None], **{n: a[:, None] for n, a in given.items()})
    return from_arrays(x, v, a, mass=mass, dt=0.1, **given)


# a drag for each body


def test_each_grain_has_a_drag_of_its_own(grains):
    data = prepared(from_table(grains.table))
    assert data.fields == pytest.approx(grains.law.fields, rel=1e-4)
    assert set(data.fields) == {*own_fields("drag", 6), "trap_x", "trap_y", "trap_z"}


def test_the_fit_tells_each_drag_with_its_error(grains):
    data = prepared(from_table(grains.table))
    objective = Accelerations(data.split()[0], snapshots=300)
    law, _ = objective.choose([parse("-7.0*size_j*exp(-0.9*r)/r")], polish=0)
    assert law.equivalent(grains.law, data=data)
    table = pd.DataFrame(objective.findings(law)["drag"]).set_index("body")
    assert [*table.index] == [*"123456"] and (table["standard_error"] > 0).all()
    off = table["value"] - [grains.law.fields[n] for n in own_fields("drag", 6)]
    assert (off.abs() < 1e-5 + 5 * table["standard_error"]).all()
    assert min(r2_by_axis(law, data.split()[2]).values()) > 0.99
    again = Law.from_json(json.loads(law.to_json()))
    assert again.fields == law.fields and "drag of each body" in repr(again) and "on body 6 alone" in snippet(again)


@pytest.mark.parametrize("fields", [{}, dict(drag=0.4), dict(drag_per_mass=0.3), dict(trap=1.0), dict(trap_y=1.5)])
def test_no_body_gets_what_all_have_alike(fields):
    found = alone_terms(moved(Law.of("1.4*m_i*m_j*(r - 0.8)", fields=fields), 4))
    assert found == pytest.approx(fields, rel=1e-3)


def test_own_drags_are_for_the_same_bodies_only():
    own = dict(zip(own_fields("drag", 4), (0.5, 1.0, 0.7, 0.2)))
    law = Law.of("1.4*m_i*m_j*(r - 0.8)", fields=own)
    assert alone_terms(moved(law, 4)) == pytest.approx(own, rel=1e-3)
    assert not any(FIELDS[n].body for n in alone_terms(moved(law, 4, same=False)))


def test_own_drags_have_units_and_scales():
    law = Law.of("1.0/r", fields=dict(drag_of_1=0.5, drag_of_2=1.0))
    units = law_with_units(law, dict(length="m", time="s", mass="kg")).units
    assert units["drag_of_1"] == units["drag_of_2"] == "1/s"
    s, (x, v) = Scales(10.0, 2.0, 3.0), np.random.default_rng(0).normal(size=(2, 2, 2))
    far = law_in_units(law, s).accelerations(x * s.length, v * s.length / s.time, np.full(2, s.mass))
    np.testing.assert_allclose(far, law.accelerations(x, v) * s.acceleration)
    assert (felt_together(dict(drag_of_2=2.0), x, v, 1.0, 0.0)[0] == 0).all()
    assert told_fields(law.fields) == ", drag of each body 0.5 to 1"
    for name in ("drag_of_0", "drag_of_", "wind_of_1", "q_drag_of_1"):
        with pytest.raises(UserError, match="unknown"):
            Law.of("r", fields={name: 1.0})


# kinds of bodies


def test_a_label_is_a_property_for_each_kind():
    rng, time = np.random.default_rng(0), 0.1 * np.arange(20)
    x = rng.normal(size=(5, 6, 2)) + np.sin(time[:, None, None, None] + rng.uniform(0, 6, (5, 6, 2)))
    told = np.stack([rng.permutation(["prey", "prey", "prey", "prey", "predator", "predator"]) for _ in range(5)])
    table = motion_table(time, {"": x}, dict(species=told))
    data = from_table(table)
    assert [*labels_of(data.others)["species"]] == ["species_predator", "species_prey"]
    renamed = table.rename(columns={"species": "colour of it"})
    assert [*from_table(renamed, dict(species="colour of it")).others] == [*data.others]
    numbers = from_table(renamed.assign(kind=(renamed.pop("colour of it") == "prey") + 1))
    np.testing.assert_array_equal(numbers.others["kind_2"], told == "prey")
    assert indicators("species", [0, 1, 2, 3, 4, 5, 5]) == {} and indicators("radius", [1, 2, 2]) == {}


def test_couplings_come_out_as_a_table():
    kind, law = np.array([0, 0, 0, 1, 1]), Law.of(CHASE.format("kind_0", "kind_1"))
    data = moved(law, 5, kind=kind)
    objective = Accelerations(data, snapshots=200)
    sharp = objective.sharpened(["r", *(n for n in objective.evidence.inputs if n.startswith(("m_", "kind_")))])
    assert len(sharp.factors) == 1 and sharp.loss < 1e-3
    found = per_kinds(Law.of(sharp.factors[0] / Law.of("r + 0.2").sympy), evidence(data))
    assert sorted(v for v, _ in found.constants.values()) == pytest.approx([-2, -0.6, -0.3, 0.3, 1.2], rel=1e-5)
    assert found.equivalent(law, data=data)
    told = law_summary(found, labels_of(data.others))["couplings"]["kind"]
    assert told["0"] == {"0": "-0.3/(r + 0.3)", "1": "-2/(r + 0.3)"}


def test_a_law_reads_labels():
    x, law = np.random.default_rng(0).normal(size=(7, 4, 2)), Law.of(CHASE.format("species_a", "species_b"))
    labels = np.array(["a", "b", "b", "a"])
    each = {f"species_{k}": (labels == k).astype(float) for k in "ab"}
    np.testing.assert_allclose(law.accelerations(x, species=labels), law.accelerations(x, **each))
    assert Law.from_json(law.to_json()).inputs == law.inputs


def test_kinds_that_differ_by_more_than_a_number_stay_as_they_are():
    law = Law.of("kind_0_i*r + kind_1_i/r")
    data = moved(law, 5, kind=np.array([0, 0, 0, 1, 1]))
    assert per_kinds(law, evidence(data)) is law
