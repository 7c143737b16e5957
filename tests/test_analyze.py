"Messages, the components that speak, the fixed-receiver probe and figures, against planted truths."
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from symbolic_gn import analyze as an
from symbolic_gn.core.errors import UserError
from symbolic_gn.core.figures import gif
from symbolic_gn.data.trajectories import draw_snapshots, from_arrays
from symbolic_gn.models import batch_edges, make_model
from symbolic_gn.simulate import simulate

torch.set_num_threads(1)


def spin(angle, dim=2):
    "Rotation by an angle in the first plane."
    out = np.eye(dim)
    out[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return out


class Gauge(torch.nn.Module):
    "A network with the spring law in a known gauge: m_i^power R(turn m_i) F + shift v_i in columns 5, 2 (and 7) of 8."

    def __init__(self, dim=2, power=0.0, turn=0.0, shift=0.0, messages_are="linear"):
        super().__init__()
        self.dim, self.power, self.turn, self.shift, self.messages_are = dim, power, turn, shift, messages_are
        self.weight = torch.nn.Parameter(torch.ones(1))

    def force(self, x, edge_index):
        d = (x[edge_index[0]] - x[edge_index[1]])[:, : self.dim].double()
        r = d.norm(dim=1, keepdim=True)
        return (2 * r - 1.98) * d / r

    def messages(self, x, edge_index):
        f, receiver = self.force(x, edge_index), x[edge_index[1]].double()
        m = receiver[:, -1:]
        c, s = torch.cos(self.turn * m), torch.sin(self.turn * m)
        turned = torch.cat([c * f[:, :1] - s * f[:, 1:2], s * f[:, :1] + c * f[:, 1:2], f[:, 2:]], 1)
        said = m**self.power * turned + self.shift * receiver[:, self.dim : 2 * self.dim]
        out = 1e-3 * torch.sin(torch.arange(8) + x[edge_index[1]][:, :1]).double()
        out[:, [5, 2, 7][: self.dim]] = said
        return out

    def forward(self, x, edge_index):
        total = torch.zeros(len(x), self.dim, dtype=torch.float64)
        return total.index_add(0, edge_index[1], self.force(x, edge_index)) / x[:, -1:].double()


class Hamilton(Gauge):
    "Pair energies of the spring beside their forces."

    def messages(self, x, edge_index):
        d = (x[edge_index[0]] - x[edge_index[1]])[:, : self.dim]
        return (d.norm(dim=1, keepdim=True) - 0.99) ** 2

    def pair_force(self, x, edge_index):
        return self.force(x, edge_index)


@pytest.fixture(scope="module")
def springs():
    return simulate("spring", simulations=12, bodies=4, frames=20, seed=1)


@pytest.fixture(scope="module")
def springs3():
    return simulate("spring", simulations=6, bodies=3, dim=3, frames=10, seed=2)


def nameless(t):
    return from_arrays(t.position, t.velocity, t.acceleration, mass=t.mass, charge=t.charge, dt=t.dt)


# messages


@pytest.mark.parametrize("dim", [2, 3])
def test_table_has_states_messages_and_truth(dim, springs, springs3):
    t = {2: springs, 3: springs3}[dim]
    said = an.messages(Gauge(dim), t, snapshots=7, seed=4)
    axes = "xyz"[:dim]
    ends = [f"{name}_{end}" for end in "ij" for name in [*axes, *("v" + a for a in axes)]]
    expected = ["receiver", "sender", *ends, *("d" + a for a in axes), "r", "m_i", "m_j", "q_i", "q_j",
                *(f"e{k}" for k in range(8)), *("f" + a for a in axes)]
    assert list(said.table.columns) == expected
    assert len(said) == len(said.table) == 7 * t.edge_index.shape[1]
    np.testing.assert_allclose(said.table[["dx", "dy"]], said.displacement[:, :2])
    np.testing.assert_allclose(said.table.x_j - said.table.x_i, said.table.dx)
    np.testing.assert_allclose(np.linalg.norm(said.displacement, axis=1), said.r)
    np.testing.assert_allclose(said.acceleration, said.force / said.invariants["m_i"][:, None])
    np.testing.assert_allclose(said.components[:, [5, 2, 7][:dim]], said.force, rtol=1e-4, atol=1e-4)


def test_messages_equal_direct_calls(springs):
    said, model = an.messages(Gauge(power=-1), springs, snapshots=5, seed=9, batch=2), Gauge(power=-1)
    where = zip(*draw_snapshots(springs, 5, 9))
    direct = []
    for s, t in where:
        fixed = springs.charge[s][:, None], springs.mass[s][:, None]
        x = np.concatenate([springs.position[s, t], springs.velocity[s, t], *fixed], axis=1)
        x = torch.as_tensor(x, dtype=torch.float32)
        direct.append(model.messages(x, torch.as_tensor(springs.edge_index)).numpy())
    np.testing.assert_allclose(said.components, np.concatenate(direct), rtol=1e-6)
    np.testing.assert_array_equal(said.sender, np.tile(springs.edge_index[0], 5))
    np.testing.assert_array_equal(said.receiver, np.tile(springs.edge_index[1], 5))


def test_batches_and_seeds_do_not_change_messages(springs):
    one, two = (an.messages(Gauge(), springs, snapshots=11, batch=b) for b in (3, 100))
    np.testing.assert_array_equal(one.components, two.components)
    other = an.messages(Gauge(), springs, snapshots=11, seed=1)
    assert not np.array_equal(one.state_i, other.state_i)


def test_unknown_system_has_no_force(springs):
    said = an.messages(Gauge(), nameless(springs), snapshots=3)
    assert said.force is None and said.acceleration is None
    assert said.table[["fx", "fy"]].isna().all(axis=None)
    nothing = dict(raw=None, trimmed=None)
    assert an.r2(said) == dict(force=nothing, acceleration=nothing)
    with pytest.raises(UserError, match="unknown"):
        an.message_scatter(said)
    with pytest.raises(UserError, match="choose from force, acceleration"):
        an.rotation(said, "velocity")
    with pytest.raises(UserError, match="register"):
        an.probe(Gauge(), nameless(springs), receivers=2, senders=20)


def test_further_properties_are_invariants_of_both_ends(springs):
    "They stand before charge and mass, and move neither the dimension nor the true force."
    spin, size = np.random.default_rng(0).normal(size=(2, springs.simulations, springs.bodies))
    arrays = springs.position, springs.velocity, springs.acceleration
    fixed = dict(mass=springs.mass, charge=springs.charge, dt=springs.dt, system="spring")
    carrying = from_arrays(*arrays, **fixed, spin=spin, size=size)
    said, plain = (an.messages(Gauge(), data, snapshots=6, seed=2) for data in (carrying, springs))
    assert said.others == ("spin", "size") and plain.others == () and said.dim == plain.dim == 2
    simulation, _ = draw_snapshots(carrying, 6, 2)
    for name, values in (("spin", spin), ("size", size)):
        drawn = values[np.repeat(simulation, 12)[:, None], np.stack([said.receiver, said.sender], 1)]
        np.testing.assert_allclose(said.invariants[f"{name}_i"], drawn[:, 0], rtol=1e-6)
        np.testing.assert_allclose(said.invariants[f"{name}_j"], drawn[:, 1], rtol=1e-6)
        assert f"{name}_i" in said.table and f"{name}_i" not in plain.table
    for name in plain.invariants:
        np.testing.assert_array_equal(said.invariants[name], plain.invariants[name])
    np.testing.assert_array_equal(said.force, plain.force)
    np.testing.assert_array_equal(said.components, plain.components)
    probed = an.probe(Gauge(power=-1), carrying, receivers=3, senders=60)
    assert (probed.table.r2_trimmed > 0.9999).all()
    np.testing.assert_allclose(probed.gain, 1 / probed.table.m_i, rtol=1e-3)
    with pytest.raises(UserError, match="6 numbers a body"):
        an.messages(make_model("newton", hidden=8), carrying)


def test_energy_models_speak_in_forces(springs):
    said = an.messages(Hamilton(messages_are="energy"), springs, snapshots=4)
    np.testing.assert_allclose(said.energy, (said.r - 0.99) ** 2, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(said.components, said.force, rtol=1e-3, atol=1e-4)
    assert "energy" in said.table


def test_kl_networks_also_give_divergences(springs):
    model = make_model("kl", hidden=16, layers=1, messages=5)
    said = an.messages(model, springs, snapshots=20)
    x = np.stack([*springs.charge[:1], springs.mass[0]], -1)
    x = np.concatenate([springs.position[0, 0], springs.velocity[0, 0], x], -1).astype("float32")
    mean, logvar = (a.detach().double() for a in model.moments(torch.as_tensor(x), torch.as_tensor(springs.edge_index)))
    prior = torch.distributions.Normal(0.0, 1.0)
    exact = torch.distributions.kl_divergence(torch.distributions.Normal(mean, (logvar / 2).exp()), prior).mean(0)
    np.testing.assert_allclose(an.divergence(model, x, springs.edge_index), exact, rtol=1e-4)
    assert said.kl.shape == (5,) and (said.kl >= 0).all()
    assert an.significant(said.components, 2, score=said.kl)[0] == said.kl.argmax()


@pytest.mark.parametrize("name", ["standard", "bottleneck", "prune", "newton", "flat_hgn"])
def test_every_kind_of_network_can_be_read(name, springs):
    model = make_model(name, hidden=16, layers=1, messages=6)
    said = an.messages(model, springs, snapshots=20)
    assert said.messages_are == model.messages_are and said.kl is None
    assert np.isfinite(list(an.r2(said)["force"].values())).all()
    assert an.probe(model, springs, receivers=2, senders=30).A.shape == (2, 2, 2)


def test_networks_of_other_dimensions_are_refused(springs3):
    for read in (an.messages, an.probe):
        with pytest.raises(UserError, match="6 numbers a body"):
            read(make_model("newton", hidden=8), springs3)


def test_diverged_models_are_named(springs):
    class Lost(Gauge):
        def messages(self, x, edge_index):
            return super().messages(x, edge_index) * float("nan")

    with pytest.raises(UserError, match="diverged"):
        an.messages(Lost(), springs, snapshots=2)


# which components speak


@given(st.permutations(range(6)))
def test_significance_follows_a_permutation(order):
    scale = np.array([5.0, 0.1, 3.0, 0.0, 0.7, 1.0])
    components = np.random.default_rng(0).normal(size=(500, 6)) * scale
    expected = [list(order).index(k) for k in (0, 2, 5)]
    assert an.significant(components[:, order], 3).tolist() == expected
    assert an.spread_fraction(components[:, order], 6) == pytest.approx(1)


def test_significance_by_a_given_score_and_bad_counts():
    components = np.eye(4)
    assert an.significant(components, 2, score=np.array([0.0, 3.0, 1.0, 2.0])).tolist() == [1, 3]
    for count in (0, 5):
        with pytest.raises(UserError, match=f"count is {count}"):
            an.significant(components, count)


def test_r2_tells_force_from_acceleration(springs):
    force, acceleration = (an.r2(an.messages(Gauge(power=p), springs, snapshots=100)) for p in (0, -1))
    assert force["force"]["raw"] > 0.9999 > 0.9 > force["acceleration"]["raw"]
    assert acceleration["acceleration"]["raw"] > 0.9999 > 0.9 > acceleration["force"]["raw"]


def test_probe_finds_a_gauge_that_the_global_fit_misses(springs):
    model = Gauge(power=-0.5, turn=2.0, shift=3.0)
    everywhere = an.r2(an.messages(model, springs, snapshots=100))
    probed = an.probe(model, springs, receivers=6, senders=60)
    assert max(everywhere["force"]["trimmed"], everywhere["acceleration"]["trimmed"]) < 0.9
    assert (probed.table.r2_trimmed > 0.9999).all() and (probed.table.r2_raw > 0.9999).all()
    mass = probed.table.m_i.to_numpy()
    np.testing.assert_allclose(probed.gain, mass**-0.5, rtol=1e-3)
    order = [0, 1] if abs(probed.A[0, 0, 0] - mass[0] ** -0.5 * np.cos(2 * mass[0])) < 1e-3 else [1, 0]
    turned = [m**-0.5 * spin(2 * m)[order] for m in mass]
    np.testing.assert_allclose(probed.A, turned, atol=2e-3)
    np.testing.assert_allclose(probed.b, 3 * probed.state[:, 2:4][:, order], atol=5e-3)


def test_probe_says_no_to_a_network_without_the_law(springs):
    class Noise(Gauge):
        def messages(self, x, edge_index):
            return torch.sin(50 * x[edge_index[0]] + torch.arange(6)).double()

    assert an.probe(Noise(), springs, receivers=3, senders=200).table.r2_trimmed.max() < 0.3


def test_probe_in_three_dimensions(springs3):
    probed = an.probe(Gauge(3, power=-1), springs3, receivers=3, senders=80)
    assert probed.A.shape == (3, 3, 3) and (probed.table.r2_trimmed > 0.9999).all()
    np.testing.assert_allclose(probed.gain, 1 / probed.table.m_i, rtol=1e-3)


# reports and figures


def test_history_notes_spreads_and_makes_a_film(springs):
    history = an.SpreadHistory(springs, snapshots=5)
    for step in (0, 2, 4):
        added = history(step, Gauge(power=-1))
    assert added["message_r2"] > 0.999 and added["spread_fraction"] > 0.99
    assert "message_r2" not in an.SpreadHistory(nameless(springs), snapshots=5)(0, Gauge())
    assert history.steps == [0, 2, 4] and history.spreads[0].shape == (8,)
    film = gif(an.sparsity_animation(history.spreads, history.steps))
    assert film[:4] == b"GIF8" and len(film) < 50_000
    with pytest.raises(UserError, match="empty"):
        an.sparsity_animation([])


@pytest.mark.parametrize("dim", [2, 3])
def test_figures_are_written(dim, springs, springs3, tmp_path):
    t = {2: springs, 3: springs3}[dim]
    said = an.messages(Gauge(dim, power=-1), t, snapshots=30)
    files = an.save_figures(said, tmp_path / "new" / "figures")
    assert [f.name for f in files] == ["sparsity.png", "messages_acceleration.png", "rotation.png"]
    assert sorted(f.name for f in (tmp_path / "new" / "figures").iterdir()) == sorted(f.name for f in files)
    assert all(f.read_bytes()[:4] == b"\x89PNG" for f in files)
    probed = an.probe(Gauge(dim, power=-1), t, receivers=3, senders=30)
    assert len(an.probe_plot(probed, said).axes) == 2
    silent = an.messages(Gauge(dim), nameless(t), snapshots=5)
    assert [f.name for f in an.save_figures(silent, tmp_path / "silent")] == ["sparsity.png"]


def test_figures_that_cannot_be_written_leave_nothing(springs, tmp_path):
    (tmp_path / "taken").write_text("")
    said = an.messages(Gauge(), springs, snapshots=5)
    with pytest.raises(UserError, match="cannot be written"):
        an.save_figures(said, tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_batched_edges_are_those_of_the_models(springs):
    "The probe reads every second edge: that of receiver 0 in each two-body graph."
    edges = np.asarray(batch_edges(torch.tensor([[1, 0], [0, 1]]), 2, 3))
    np.testing.assert_array_equal(edges[:, ::2], [[1, 3, 5], [0, 2, 4]])


def test_table_is_a_dataframe_without_model():
    state = np.arange(12.0).reshape(2, 6)
    said = an.Messages(np.ones((2, 3)), state, state[::-1], np.array([0, 1]), np.array([1, 0]))
    assert isinstance(said.table, pd.DataFrame) and len(said.table.columns) == 2 + 8 + 2 + 5 + 3 + 2
