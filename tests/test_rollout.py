"Rollouts, energy drift and prediction errors against closed forms and planted truths."
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.data.trajectories import from_arrays
from symbolic_gn.laws.law import Law
from symbolic_gn.models import Architecture, Model, Prediction
from symbolic_gn.rollout import (
    accelerate_with,
    analysis,
    compare,
    compare_plot,
    error_table,
    mae,
    rollout,
    rollout_error,
)
from symbolic_gn.simulate import simulate
from symbolic_gn.training.config import Config
from symbolic_gn.training.runs import Run


class Springs(Model):
    "The spring law as a network: its messages are m_i^power F in components 5 and 2 of 8, the rest is noise."
    messages_are = "linear"

    def __init__(self, power=0.0):
        super().__init__(Architecture())
        self.power, self.weight = power, torch.nn.Parameter(torch.ones(1))

    def force(self, x, edge_index):
        d = (x[edge_index[0]] - x[edge_index[1]])[:, :2]
        r = d.norm(dim=1, keepdim=True)
        return (2 * r - 1.98) * d / r

    def messages(self, x, edge_index, reverse=None):
        receiver = x[edge_index[1]]
        out = 1e-3 * torch.sin(torch.arange(8) + receiver[:, :1])
        out[:, [5, 2]] = receiver[:, -1:] ** self.power * self.force(x, edge_index)
        return out

    def predict(self, x, edge_index, reverse=None):
        force = self.force(x, edge_index)
        return Prediction(self.total(force, edge_index, len(x)) / x[:, -1:], force)


@pytest.fixture(scope="module")
def springs():
    return simulate("spring", simulations=12, bodies=4, frames=20, seed=1)


@pytest.fixture(scope="module")
def spinning():
    "Bodies whose spins attract."
    rng, law = np.random.default_rng(0), Law.of("spin_i*spin_j/(r + 0.5)")
    x, v = rng.normal(size=(2, 5, 3, 4, 2))
    mass, spin = np.exp(rng.normal(size=(2, 5, 4)))
    a = law.accelerations(x, v, mass[:, None], None, spin=spin[:, None])
    return law, from_arrays(x, v, a, mass=mass, dt=0.01, spin=spin)


# rollouts


def test_further_properties_move_bodies(spinning):
    law, data = spinning
    compared = compare(data, {"law": law, "nothing": lambda x, v, m, q, spin: 0 * x}, frames=3)
    assert compared.final.alive["law"] == 1
    start = data.position[:, 0], data.velocity[:, 0]
    fixed = dict(mass=data.mass, charge=data.charge, dt=0.01, frames=3)
    by_hand = lambda x, v, m, q: law.accelerations(x, v, m, q, data.edge_index, spin=data.others["spin"])
    path = rollout(by_hand, *start, **fixed)
    np.testing.assert_allclose(compared.rollouts["law"].position, path.position, rtol=1e-12)
    straight = start[0] + 0.02 * start[1]
    np.testing.assert_allclose(compared.rollouts["nothing"].position[:, 2], straight, rtol=1e-9, atol=1e-12)
    assert mae(law, data, snapshots=15, batch=4) < 1e-6 < 0.01 < mae("spring", data, snapshots=15)


def test_those_that_go_on_keep_their_own_properties(spinning):
    _, data = spinning
    seen = []

    def explode(x, v, m, q, spin):
        seen.append((m, spin))
        out = np.zeros_like(x)
        out[m[:, 0] == data.mass[1, 0]] = np.inf
        return out

    compared = compare(data, {"bad": explode})
    assert compared.final.alive["bad"] == 0.8
    mass, spin = seen[-1]
    alive = [0, 2, 3, 4]
    np.testing.assert_array_equal(mass, data.mass[alive])
    np.testing.assert_array_equal(spin, data.others["spin"][alive])


def test_rollout_follows_kepler():
    "A circular orbit of two masses under 1/r² comes back after one period of the closed form."
    def gravity(x, v, m, q):
        d = x[:, ::-1] - x
        return m[:, ::-1, None] * d / np.linalg.norm(d, axis=-1, keepdims=True) ** 3

    x, m = np.array([[[-0.75, 0], [0.25, 0]]]), np.array([[1.0, 3.0]])
    speed = np.sqrt(m.sum())
    v = np.array([[[0, -0.75 * speed], [0, 0.25 * speed]]])
    period = 2 * np.pi / speed
    path = rollout(gravity, x, v, mass=m, charge=0 * m, dt=period / 100, frames=101)
    np.testing.assert_allclose(path.position[0, -1], x[0], atol=1e-5)
    np.testing.assert_allclose(path.position[0, 50], -x[0], atol=1e-5)
    np.testing.assert_allclose(path.velocity[0, -1], v[0], atol=1e-5)
    fine = rollout(gravity, x, v, mass=m, charge=0 * m, dt=period / 100, frames=101, substeps=4)
    assert np.abs(fine.position[0, -1] - x[0]).max() < np.abs(path.position[0, -1] - x[0]).max() / 100


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1.5), st.floats(-1, 1))
def test_rollout_of_a_damped_swing(drag, push):
    "Forces may depend on velocity: x'' = -x - drag x' has a closed form for drag < 2."
    x, v = np.array([[[1.0, 0]]]), np.array([[[push, 0]]])
    one = np.ones((1, 1))
    path = rollout(lambda x, v, m, q: -x - drag * v, x, v, mass=one, charge=one, dt=0.05, frames=61)
    t, w = 0.05 * np.arange(61), np.sqrt(1 - drag**2 / 4)
    exact = np.exp(-drag * t / 2) * (np.cos(w * t) + (push + drag / 2) / w * np.sin(w * t))
    np.testing.assert_allclose(path.position[0, :, 0, 0], exact, atol=1e-5)


def test_rollout_of_the_true_law_repeats_the_simulation(springs):
    compared = compare(springs, {"law": "spring", "network": Springs()}, simulations=5, frames=15)
    last = compared.final
    assert last.error["law"] < 1e-3 and last.error["network"] < 1e-3 and last.error["truth"] == 0
    assert last.energy_drift["law"] < 1e-3 and last.alive["law"] == 1
    assert "<table" in compared._repr_html_()
    assert compare_plot(compared, sim=2).axes[1].get_yscale() == "log"


def test_failing_simulations_become_nan_and_others_go_on(springs):
    def explode(x, v, m, q):
        out = np.ones_like(x)
        out[m[:, 0] == springs.mass[1, 0]] = np.inf
        return out

    compared = compare(springs, {"bad": explode, "worse": lambda x, v, m, q: x / 0}, simulations=3)
    alive = compared.rollouts["bad"].alive
    assert alive[:, 0].all() and alive[[0, 2]].all() and not alive[1, 1:].any()
    assert np.isnan(rollout_error(compared.rollouts["bad"].position, springs.position[:3])[1, 1:]).all()
    assert compared.final.alive["bad"] == pytest.approx(2 / 3)
    assert compared.final.alive["worse"] == 0 and np.isnan(compared.final.error["worse"])
    assert compare_plot(compared, sim=1) is not None


def test_rollout_is_blind_to_the_order_of_bodies(springs):
    order = [2, 0, 3, 1]
    fixed = dict(dt=springs.dt, frames=10)
    law = accelerate_with("spring", springs.edge_index)
    x, v, m, q = springs.position[:, 0], springs.velocity[:, 0], springs.mass, springs.charge
    path = rollout(law, x, v, mass=m, charge=q, **fixed)
    mixed = rollout(law, x[:, order], v[:, order], mass=m[:, order], charge=q[:, order], **fixed)
    np.testing.assert_allclose(mixed.position, path.position[:, :, order], atol=1e-9)


@pytest.mark.parametrize("change, text", [
    (dict(velocity=np.ones((2, 3, 3))), "both must be"), (dict(mass=np.ones(3)), "mass has shape"),
    (dict(charge=np.ones((2, 4))), "charge has shape"), (dict(dt=0), "dt is 0"), (dict(frames=0), "frames is 0"),
])
def test_rollouts_of_nonsense_are_refused(change, text):
    x, m = np.ones((2, 3, 2)), np.ones((2, 3))
    good = dict(position=x, velocity=x, mass=m, charge=m, dt=1, frames=2)
    with pytest.raises(UserError, match=text):
        rollout(lambda x, v, m, q: 0 * x, **good | change)


def test_sources_of_acceleration(springs):
    state = springs.position[:, 3], springs.velocity[:, 3], springs.mass, springs.charge
    truth = springs.acceleration[:, 3]

    class Told:
        def accelerations(self, x, v, m, q, edge_index):
            return truth

    for source in ("spring", Springs(), Told(), Law.of("2*r - 1.98"), lambda x, v, m, q: truth):
        np.testing.assert_allclose(accelerate_with(source, springs.edge_index)(*state), truth, rtol=1e-2, atol=1e-3)
    with pytest.raises(UserError, match="int"):
        accelerate_with(3, springs.edge_index)
    with pytest.raises(UserError, match="not pair forces"):
        accelerate_with("damped", springs.edge_index)
    with pytest.raises(UserError, match="sprng"):
        accelerate_with("sprng", springs.edge_index)


def test_mae_is_per_body_and_axis(springs):
    off = lambda x, v, m, q: accelerate_with("spring", springs.edge_index)(x, v, m, q) + [0.5, -1.5]
    assert mae(off, springs, snapshots=100) == pytest.approx(1, abs=1e-3)
    assert mae("spring", springs, batch=7) == pytest.approx(0, abs=1e-4)
    crowd = simulate("spring", simulations=4, bodies=8, frames=5, seed=3)
    candidates = {"law": Springs(), "nothing": lambda x, v, m, q: 0 * x}
    table = error_table(candidates, {"4": springs, "8": crowd}, snapshots=50)
    assert list(table.columns) == ["4", "8"] and (table.loc["law"] < 1e-3).all() and (table.loc["nothing"] > 1).all()


def test_analysis_has_the_keys_of_the_design(springs):
    run = Run(Config(), Springs(power=-1), pd.DataFrame(), {})
    report = analysis(run, springs, snapshots=60)
    assert set(report["r2"]) == {"force", "acceleration"}
    assert all(set(part) == {"raw", "trimmed"} for part in report["r2"].values())
    assert sorted(report["significant"]) == [2, 5] and report["spread_fraction"] > 0.99
    more = analysis(run, springs, other_bodies=springs.select(simulations=slice(3)), snapshots=60)
    assert set(more["error"]["neural"]) == {"mae", "mae_other_bodies"} > set(report["error"]["neural"])
    assert report["error"]["neural"]["mae"] < 1e-3 and report["messages_are"] == "linear"
