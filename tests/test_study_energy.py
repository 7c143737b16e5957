"The Hamiltonian network: the gauge of energies that we plant ourselves, and the laws that are found in them."
import json

import numpy as np
import pytest
import sympy as sp
import torch

from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import evaluate, parse, symbol
from symbolic_gn.laws.law import Law
from symbolic_gn.laws.potential import potential, same_potential
from symbolic_gn.models import make_model
from symbolic_gn.rollout import rollout
from symbolic_gn.simulate import simulate
from symbolic_gn.studies import energy as E
from symbolic_gn.worlds.systems import SYSTEMS

INPUTS = ("r", "m_i", "m_j", "q_i", "q_j")
SOMEWHERE = dict(zip(INPUTS, np.random.default_rng(0).uniform(0.5, 3, (5, 40))))


class Planted(torch.nn.Module):
    "A network whose energies are a formula: V/2 for each order of a pair, plus a gauge."
    messages_are = "energy"

    def __init__(self, V: str, offset: str = "0*m_i", velocity: float = 0.0):
        super().__init__()
        compiled = lambda text: sp.lambdify(list(map(symbol, INPUTS)), parse(text), "torch")
        self.V, self.offset, self.velocity = compiled(V), compiled(offset), velocity
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def inputs(self, a, b):
        dim = a.shape[1] // 2 - 1
        return (b - a)[:, :dim].norm(dim=1), a[:, -1], b[:, -1], a[:, -2], b[:, -2]

    def said(self, a, b):
        u, dim = self.inputs(a, b), a.shape[1] // 2 - 1
        return 0.5 * self.V(*u) + self.offset(*u) + self.velocity * a[:, dim:2 * dim].square().sum(1)

    def messages(self, x, edge_index, reverse=None): return self.said(x[edge_index[1]], x[edge_index[0]])[:, None]

    def pair_force(self, x, edge_index):
        a, b, dim = x[edge_index[1]].clone().requires_grad_(), x[edge_index[0]], x.shape[1] // 2 - 1
        return -torch.autograd.grad((self.said(a, b) + self.said(b, a)).sum(), a)[0][:, :dim]


@pytest.mark.parametrize("name", list(SYSTEMS))
def test_the_true_potential_is_the_law_s(name):
    assert same_potential(potential(SYSTEMS[name].true_law), E.true_potential(name))


def test_quadrature_needs_no_formula():
    r, statics = np.linspace(0.3, 3, 30), {k: np.array([1.5, 2.0]) for k in INPUTS[1:]}
    by_parts = E.potential_values("2*m_i*r*exp(r**2/9)/9", r, statics)  # SymPy is not asked: V = m_i exp(r**2 / 9)
    exact = statics["m_i"][:, None] * (np.exp(r**2 / 9) - np.exp(1))
    np.testing.assert_allclose(by_parts, exact, rtol=1e-8, atol=1e-8)


def test_only_the_distance_moves(springs):
    pairs, r = E.pairs_of(springs, 4, 3), np.array([0.5, 2.0])
    a, b = E._moved(pairs, r)
    np.testing.assert_allclose(np.linalg.norm((b - a)[:, :2], axis=1), np.tile(r, len(pairs)), rtol=1e-6)
    np.testing.assert_array_equal(b[:, 2:], pairs.state_j.repeat(2, axis=0)[:, 2:])
    assert len(pairs) == 4 * 3 * 6


def test_a_planted_gauge_is_found_and_named(springs):
    model = Planted("(r - 0.99)**2", "1.5 + 0.7*m_i - 0.2*q_i")
    found = E.gauge(model, springs, "2*r - 1.98")
    assert abs(found.slope - 1) < 1e-4
    assert min(found.r2["raw"], found.static, found.named) > 1 - 1e-6
    expected = 3 + 0.7 * (SOMEWHERE["m_i"] + SOMEWHERE["m_j"]) - 0.2 * (SOMEWHERE["q_i"] + SOMEWHERE["q_j"])
    np.testing.assert_allclose(evaluate(found.formula, SOMEWHERE), expected, atol=1e-3)


def test_an_offset_of_velocities_is_not_static(springs):
    moving = E.gauge(Planted("(r - 0.99)**2", velocity=1.0), springs, "2*r - 1.98")
    assert moving.r2["raw"] > 1 - 1e-6 and moving.static < 0.9


def test_a_wrong_law_explains_less(springs):
    model = Planted("(r - 0.99)**2")
    right, wrong = (E.gauge(model, springs, law).r2["raw"] for law in ("2*r - 1.98", "1/(r + 0.01)**2"))
    assert right > 0.999 > wrong + 0.1


def test_share_of_static_properties():
    rng, couple = np.random.default_rng(1), np.arange(300).repeat(4)
    own, noise = rng.normal(size=300)[couple], rng.normal(size=1200)
    assert E.static_share(own, couple) > 0.999 and E.static_share(noise, couple) < 0.15
    assert np.isnan(E.static_share(own[::4], couple[::4]))


def test_a_constant_offset_is_a_constant():
    formula, named = E.static_formula(np.full(60, 2.5), {k: SOMEWHERE[k].repeat(2)[:60] for k in INPUTS[1:]})
    assert not formula.free_symbols and abs(float(formula) - 2.5) < 1e-12 and named == 1


WORLDS = [("spring", "(r - 0.99)**2", "2*r - 1.98"), ("r1", "m_i*m_j*log(r + 0.01)", "m_i*m_j/(r + 0.01)"),
          ("r2", "-m_i*m_j/(r + 0.01)", "m_i*m_j/(r + 0.01)**2"),
          ("charge", "q_i*q_j/(r + 0.01)", "-q_i*q_j/(r + 0.01)**2")]

@pytest.mark.parametrize("system, V, f", WORLDS)
@pytest.mark.parametrize("dim", [2, 3])
def test_the_summary_recovers_planted_potentials(system, V, f, dim):
    data = simulate(system, simulations=10, frames=6, every=5, dim=dim)
    said = E.energies(Planted(V, "0.3*m_i"), data, Law.of(f))
    assert said["potential_recovered"] and said["energy_r2"] > 0.9999 and json.loads(json.dumps(said)) == said
    assert not E.energies(Planted(V, "0.3*m_i"), data, f"1.1*({f})")["potential_recovered"]
    assert not E.energies(Planted("sin(5*r)"), data, f)["potential_recovered"]  # the energy must follow


def test_the_summary_of_strange_laws_is_none(springs, measured):
    model = make_model("flat_hgn")
    for law in ("dx", "log(r - 100)", Law.of(sp.Tuple(symbol("dx"), symbol("dy")), mixing=((1, 0, 0), (0, 1, 0)))):
        said = E.energies(model, springs, law)
        assert said["energy_r2"] is None and not said["potential_recovered"] and json.dumps(said)
    assert E.energies(model, measured, "2*r - 1.98")["true_potential"] is None


def test_forces_of_a_planted_potential_are_the_true_ones(springs):
    table = E.compare_forces(Planted("(r - 0.99)**2", "m_i"), springs, "2*r - 2.2")
    assert (table.network < 1e-3).all() and (table.law > 1e-3).all()


def test_differences_do_not_feel_the_gauge(springs):
    model = Planted("(r - 0.99)**2", "5*m_i - 3*m_i*q_i", velocity=2.0)
    found = E.distill_energy(model, springs, restarts=1, evaluations=10_000)
    assert same_potential(potential(found.law), E.true_potential("spring"), springs)


def test_a_planted_hamiltonian_keeps_its_own_energy(springs):
    model, j, i = Planted("(r - 0.99)**2", "m_i"), *springs.edge_index

    def accelerate(x, v, m, q):
        total, d = np.zeros_like(x), x[:, j] - x[:, i]
        r = np.linalg.norm(d, axis=-1, keepdims=True)
        np.add.at(total, (slice(None), i), (2 * r - 1.98) * d / r)
        return total / m[..., None]

    start = springs.position[:, 0], springs.velocity[:, 0]
    path = rollout(accelerate, *start, mass=springs.mass, charge=springs.charge, dt=0.01, frames=20)
    own = E.own_energy(model, path, springs)
    np.testing.assert_allclose(own, own[:, :1].repeat(20, axis=1), rtol=1e-4)


def test_one_line_for_what_cannot_be(springs):
    pairs = E.pairs_of(springs, 2, 2)
    with pytest.raises(UserError, match="no energies"):
        E.learned_energy(make_model("newton"), pairs.state_i, pairs.state_j)
    with pytest.raises(UserError, match="uses dx"):
        E.gauge(make_model("flat_hgn"), springs, "dx*r")
    with pytest.raises(UserError, match="did you mean 'spring'"):
        E.true_potential("sprng")


def test_the_picture_has_a_line_for_each_pair(springs):
    figure = E.gauge_plot(E.gauge(make_model("flat_hgn"), springs, "2*r - 1.98"), count=3)
    assert [len(ax.lines) for ax in figure.axes] == [6, 6]
