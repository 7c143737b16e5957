"Curves of the force from trajectories: factors, splines, two forces, and the law that comes of them."
import numpy as np
import pytest
import sympy as sp

from symbolic_gn.core.contracts import Objective
from symbolic_gn.core.errors import UserError
from symbolic_gn.distill import _EXACT, _forms, _from_curves, _Judged
from symbolic_gn.fit.objective import Accelerations
from symbolic_gn.fit.sharpen import Curve, factors, sharpen
from symbolic_gn.laws.evidence import evidence
from symbolic_gn.laws.formula import symbol
from symbolic_gn.laws.law import Law
from symbolic_gn.search.front import Front
from symbolic_gn.simulate import simulate
from symbolic_gn.studies import forces

NAMES = ["r", "m_i", "m_j", "q_i", "q_j"]
r, m_i, m_j, q_i, q_j = map(symbol, NAMES)
JUDGE = dict(rule="mdl", polish=4, seed=0, provenance={})


@pytest.fixture(scope="module")
def charges(): return simulate("charge", simulations=60, frames=10, every=5)


def test_splines_are_shares_of_one_and_end_with_the_data():
    curve = Curve(np.geomspace(0.1, 5, 300), pieces=15)
    inside, outside = np.geomspace(0.1, 5, 50), np.array([1e-3, 100.0])
    np.testing.assert_allclose(curve(inside).sum(-1), 1)
    np.testing.assert_allclose(curve(outside), curve(np.array([0.1, 5.0])))
    assert curve(inside.reshape(5, 10)).shape[:2] == (5, 10)


def test_factors_are_made_of_whatever_bodies_have():
    assert factors(["r"]) == [1] and factors(["r", "spin_i"]) == [1, symbol("spin_i")]
    spin = [symbol("spin_i"), symbol("spin_j")]
    both = spin[0] + spin[1]
    assert factors(["spin_i", "spin_j"]) == [1, spin[0] * spin[1], *spin, both, both**2]


@pytest.mark.parametrize("system, factor", [("spring", 1), ("r2", m_i * m_j), ("charge", q_i * q_j)])
def test_the_right_factor_and_force(system, factor):
    data = simulate(system, simulations=60, frames=10, every=5)
    sharp = sharpen(evidence(data), NAMES)
    truth = sp.lambdify(r, forces.SYSTEMS[system].true_law / factor)(sharp.r)
    assert sharp.factors[0] == factor and sharp.loss < 0.02
    found, truth = sharp.curves[0][100:300], truth[100:300]
    np.testing.assert_allclose(found, truth, rtol=0.05, atol=0.05 * np.abs(truth).mean())


def test_two_forces_are_told_apart():
    data = simulate("superposition", simulations=100, frames=20, every=5)
    assert set(sharpen(evidence(data), NAMES).factors) == {q_i * q_j, m_i * m_j}


def test_a_drag_is_set_aside():
    sharp = sharpen(evidence(simulate("damped", simulations=60, frames=10, every=5)), NAMES)
    assert sharp.factors == (1,) and sharp.loss < 1e-3


def test_the_law_of_a_curve_is_exact(charges):
    coarse = Law.of(q_i * q_j / (r + 1), provenance=dict(relative_error=0.3))
    options = dict(engine="library", time_limit=20, seed=0)
    law, front, fronts = _from_curves(_Judged(False, Accelerations(charges), JUDGE, names=NAMES), coarse, options)
    assert law.provenance["relative_error"] < _EXACT and len(fronts) == 1 and len(front)
    assert law.equivalent(forces.SYSTEMS["charge"].true_law, data=charges)


def test_an_exact_law_or_an_objective_without_curves_asks_for_none(charges):
    exact = Law.of(q_i * q_j / r**2, provenance=dict(relative_error=1e-7))
    assert _from_curves(_Judged(False, Accelerations(charges), JUDGE, names=NAMES), exact, {}) is None
    assert Objective.sharpened(Accelerations(charges), NAMES) is None


def test_sums_of_two_curves_begin_with_the_best():
    fronts = [Front.of([(r, 1.0), (1 / r, 0.5)]), Front.of([(r**2, 0.1)])]
    assert _forms([m_i, q_i], fronts)[0] == m_i / r + q_i * r**2


def test_ten_worlds_know_their_law_and_a_wrong_name_is_told(tmp_path, capsys):
    for name in forces.FORCES:
        assert forces.world(name) is forces.world(name) and forces.world(name).true_law is not None
    assert forces.main(["--force", "cubik"]) == 2 and "did you mean 'cubic'" in capsys.readouterr().err
    with pytest.raises(UserError, match="did you mean 'morse'"):
        forces.world("morsel")
