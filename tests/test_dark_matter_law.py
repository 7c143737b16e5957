"The law of halos on data made with a step and a line of our own: the machine must find them, and nothing else."
import json
import math

import numpy as np
import pytest
import torch
from refusing import refused

from symbolic_gn.analyze import Messages
from symbolic_gn.dark_matter.forms import HALO_FORMS, HaloLaw, fit_halo_law, halo_columns, published_law
from symbolic_gn.dark_matter.graph import LENGTH, HaloUnits, HaloView, halo_edges, halo_graph
from symbolic_gn.dark_matter.groups import shipped
from symbolic_gn.dark_matter.halos import HaloCatalog
from symbolic_gn.dark_matter.law import (
    ask_halos,
    compose_law,
    fit_neighbour_counts,
    judge_laws,
    law_table,
    message_front,
    message_table,
)
from symbolic_gn.dark_matter.steps import read_step, steps_and_lines
from symbolic_gn.laws.formula import parse
from symbolic_gn.search.front import Front, select

BOX, VIEW = 120.0, HaloView(cutoff=25.0)
TRUE = dict(C1=-0.2, C2=30.0, C3=0.4, C4=0.6, r0=18.0, p=14.0)


def scattered(seed: int = 0, halos: int = 900) -> HaloCatalog:
    "Halos anywhere; their overdensity is set later."
    rng = np.random.default_rng(seed)
    mass = 1e13 * rng.lognormal(0, 0.8, halos)
    return HaloCatalog(BOX * rng.random((halos, 3)), 200 * rng.normal(size=(halos, 3)), mass, BOX, overdensity=mass * 0)


def obeying(catalog: HaloCatalog, units: HaloUnits, noise: float = 0.02, **changed):
    "The graph of halos that obey a law of ours."
    law = HaloLaw(HALO_FORMS["with mass"], {n: (v, math.nan) for n, v in (TRUE | changed).items()}, units)
    graph = halo_graph(catalog, VIEW, units)
    noise = noise * np.random.default_rng(99).normal(size=len(catalog))
    graph.y = torch.as_tensor(law.predict(graph) + noise, dtype=torch.float32)
    return graph


@pytest.fixture(scope="module")
def units(): return HaloUnits.of([scattered(0), scattered(1)])


@pytest.fixture(scope="module")
def graphs(units): return [obeying(scattered(seed), units) for seed in (0, 1)]


@pytest.fixture(scope="module")
def said():
    "Messages of halos whose network has learned a step at 18 Mpc/h times a line, with some noise."
    catalog, rng = scattered(2), np.random.default_rng(3)
    units = HaloUnits.of([catalog])
    (j, i), away = halo_edges(catalog.position, BOX, 25.0)
    mass, speed = (catalog.mass / units.mass)[:, None], catalog.velocity / units.velocity
    place = catalog.position[i] / units.length
    state = lambda x, k: np.concatenate([x, speed[k], 0 * mass[k], mass[k]], 1).astype(float)
    r = np.linalg.norm(away, axis=1)
    message = 0.03 * (0.6 + mass[j, 0]) / (1 + (r / 18) ** 14) * (1 + 0.05 * rng.normal(size=len(r)))
    components = np.stack([1e-4 * rng.normal(size=len(r)), -message], 1)
    return Messages(components, state(place, i), state(place + away / units.length, j), i, j, system="dark_matter")


@pytest.fixture(scope="module")
def step(said): return read_step(select(message_front(said, rows=2000, time_limit=8), "mdl")["sympy"])


def test_the_search_finds_the_step_and_the_line(said, step):
    assert step and step.column == "m_j"
    assert abs(step.radius * said.r.max() * LENGTH - 18) < 0.2
    assert abs(step.steepness - 14) < 1 and abs(step.offset - 0.6) < 0.05


def test_a_step_is_proposed_only_where_there_is_one():
    rng = np.random.default_rng(0)
    X = rng.random((1200, 2)) + 0.1
    kinds = {
        "exponential": np.exp(-X[:, 0] / 0.4) * (0.5 + X[:, 1]), "power": (0.5 + X[:, 1]) / X[:, 0],
        "bell": np.exp(-((X[:, 0] / 0.5) ** 2)) * (0.5 + X[:, 1]),
        "step": (0.5 + X[:, 1]) / (1 + (X[:, 0] / 0.6) ** 15),
    }
    for kind, y in kinds.items():
        best, _, error = steps_and_lines(X, y, ["r", "m_j"])[0]
        assert best == kind and error < 1e-3 * y.std()


@pytest.mark.parametrize("text", [
    "m_j", "r", "exp(-r)*(m_j + 1)", "(m_j**2 + 1)/(1 + (r/0.8)**20)", "m_j/(1 + (r/0.8)**20) + r",
    "m_i*m_j/(1 + r**9)", "(m_j + r)/(1 + (r/0.8)**20)", "(1 - r**2)*m_j", "m_j/(1 + (r/0.8)**20) + exp(-9*r)",
])
def test_what_is_no_step_times_a_line(text):
    assert read_step(parse(text)) is None


@pytest.mark.parametrize("text", [
    "3*(m_j + 0.5)/(1 + (r/0.8)**20)", "(6*m_j + 3)/(2 + 2*(r/0.8)**20) - 0.01", "-3*(m_j + 0.5)/(1 + (r/0.8)**20)",
])
def test_a_step_times_a_line_however_it_is_written(text):
    found = read_step(parse(text))
    assert found and np.allclose([found.offset, found.radius, found.steepness, abs(found.factor)], [0.5, 0.8, 20, 3])


def test_constants_come_back_within_their_errors(graphs, units):
    law = fit_halo_law(graphs, HALO_FORMS["with mass"], units)
    assert all(0 < e and abs(v - TRUE[n]) < 5 * e for n, (v, e) in law.constants.items())
    assert law.constants["r0"][1] < 0.2 and law.provenance["mae"] < 0.018 and not law.provenance["at their limit"]


def test_own_mass_never_goes_below_zero(units):
    graph = obeying(scattered(0), units, C3=-1.0)
    law = fit_halo_law(graph, HALO_FORMS["with mass"], units)
    assert law.values["C3"] == 0 and math.isnan(law.constants["C3"][1]) and law.provenance["at their limit"] == ["C3"]


def test_a_law_of_messages_becomes_a_law_of_halos(said, step, graphs, units):
    begun = compose_law(step, float(said.r.max() * LENGTH), graphs[0], graphs[0].y.double().numpy(), units)
    law = fit_halo_law(graphs, begun, units)
    assert abs(law.values["r0"] - 18) < 0.1 and law.provenance["mae"] < 0.018
    again = HaloLaw.from_facts(json.loads(json.dumps(law.to_facts())))
    assert str(again) == str(law) and np.array_equal(again.predict(graphs[1]), law.predict(graphs[1]))
    assert "r_{0}" in law.latex()


def test_receivers_that_are_too_dense_are_not_fitted(graphs, units):
    above = float(graphs[0].y.median())
    spoilt = graphs[0].clone()
    spoilt.y = torch.where(spoilt.y > above, spoilt.y + 50, spoilt.y)
    form = HALO_FORMS["with mass"]
    whole, part = (fit_halo_law(g, form, units, above=above) for g in (graphs[0], spoilt))
    assert part.values == whole.values and part.provenance["halos"] == int((graphs[0].y <= above).sum())


def test_moved_and_turned_halos_have_the_same_overdensity(units):
    law, halos = published_law(units), scattered(4)
    place = (halos.position[:, [2, 0, 1]] + [50.0, 7.0, 99.0]) % BOX
    turned = HaloCatalog(place, halos.velocity[:, [2, 0, 1]], halos.mass, BOX, overdensity=halos.overdensity)
    assert np.allclose(law.predict(turned), law.predict(halos), rtol=1e-3, atol=1e-3)


def test_the_table_has_every_row(graphs, units):
    errors, laws = judge_laws(graphs[:1], graphs[1], units)
    table = law_table({"made": errors})
    assert set(HALO_FORMS) == set(laws) and set(HALO_FORMS) < set(table.index)
    assert table.loc["with mass", "made"] == table["made"].min() < 0.02
    assert table.loc["linear baseline", "made"] < table.loc["constant", "made"]
    assert table.loc["constant", "paper"] == 0.421


def test_the_baseline_is_exact_where_it_is_the_truth(graphs):
    counted = graphs[0].clone()
    columns = halo_columns(counted)
    inside = columns.edges["r"] <= columns.edges["r"].max() * 3 / 5
    counted.y = torch.as_tensor(0.1 * columns.total(inside * columns.edges["m_j"]) - 0.3, dtype=torch.float32)
    assert np.allclose(fit_neighbour_counts([counted])(counted), counted.y.numpy(), atol=1e-4)


def test_published_constants_hold_in_our_universe():
    catalog = shipped(0)
    law = published_law(HaloUnits.of([catalog]))
    assert abs(law.values["r0"] - 20.5) < 0.05
    assert np.abs(law.predict(catalog) - catalog.overdensity).mean() <= 0.10


def test_a_published_law_that_is_none_is_told(units):
    assert "did you mean 'with mass'" in refused(published_law, units, "with masses")


def test_nothing_to_fit_is_told(graphs, units):
    said = refused(fit_halo_law, graphs, HALO_FORMS["constant"], units, above=-9.0)
    assert "-9" in said and "nothing to fit" in said


@pytest.mark.parametrize("change, why", [
    (dict(format="another"), "no law of halos"), (dict(form="C1"), "no law of halos"),
    (dict(units={}), "no law of halos"),
    (dict(node="__import__('os')"), "formula"),
])
def test_facts_that_are_no_law_are_refused(units, change, why):
    facts = published_law(units).to_facts()
    node = change.pop("node", None)
    facts |= change | ({"form": facts["form"] | {"node": node}} if node else {})
    assert why in refused(HaloLaw.from_facts, facts)


def test_a_column_that_cannot_decline_is_told():
    said = refused(steps_and_lines, -np.ones((40, 1)), np.ones(40), ["q"])
    assert "no column of q is positive" in said


def test_no_messages_are_refused():
    empty = Messages(np.zeros((0, 2)), np.zeros((0, 8)), np.zeros((0, 8)), np.zeros(0, int), np.zeros(0, int))
    assert "there are none" in refused(message_table, empty)


def test_halos_choose_among_formulas(graphs, units):
    "A formula that describes the messages a little better costs more than it is worth; one that is too simple, too."
    longest = 25.0
    step = "0.5*(0.6 + m_j)/(1 + (r/0.72)**14)"
    longer = f"{step} + 0.01*r*v_j"
    front = Front.of([(parse("0.4*m_j"), 0.3), (parse("0.9 - r*m_j"), 0.2), (parse(step), 0.05), (parse(longer), 0.03)])
    asked = ask_halos(front, graphs, units, longest)
    assert asked["sympy"].iloc[0] == parse(step) and asked["nats"].iloc[0] == 0
    assert asked["nats"].is_monotonic_increasing and len(asked) == 4


def test_halos_choose_whatever_the_search_had_time_for(graphs, units):
    short = [(parse("0.4*m_j"), 0.3), (parse("0.5*(0.6 + m_j)/(1 + (r/0.72)**14)"), 0.05)]
    more = [*short, (parse("0.5*(0.6 + m_j)*(1 - r**8)**3 + 0.02*r*v_j - 0.01*dv*r"), 0.04)]
    first, second = (ask_halos(Front.of(some), graphs, units, 25.0)["sympy"].iloc[0] for some in (short, more))
    assert first == second
