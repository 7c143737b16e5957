"Messages, trimmed fits, the fixed-receiver probe and rollouts against closed forms and planted truths."
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn import analyze as an
from symbolic_gn.errors import UserError
from symbolic_gn.models import batch_edges, make_model
from symbolic_gn.simulate import Trajectories, simulate

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

    def pair_force(self, x, edge_index): return self.force(x, edge_index)


@pytest.fixture(scope="module")
def springs(): return simulate("spring", simulations=12, bodies=4, frames=20, seed=1)


@pytest.fixture(scope="module")
def springs3(): return simulate("spring", simulations=6, bodies=3, dim=3, frames=10, seed=2)


def nameless(t):
    return Trajectories.from_arrays(t.position, t.velocity, t.acceleration, mass=t.mass, charge=t.charge, dt=t.dt)


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
    where = zip(*an.draw_snapshots(springs, 5, 9))
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


def test_snapshots_are_distinct_and_bounded(springs):
    s, t = an.draw_snapshots(springs, 10**6)
    assert len(s) == len(set(zip(s.tolist(), t.tolist()))) == springs.simulations * springs.frames
    with pytest.raises(UserError, match="snapshots is 0"): an.draw_snapshots(springs, 0)


def test_unknown_system_has_no_force(springs):
    said = an.messages(Gauge(), nameless(springs), snapshots=3)
    assert said.force is None and said.acceleration is None
    assert said.table[["fx", "fy"]].isna().all(axis=None)
    nothing = dict(raw=None, trimmed=None)
    assert an.r2(said) == dict(force=nothing, acceleration=nothing)
    with pytest.raises(UserError, match="unknown"): an.message_scatter(said)
    with pytest.raises(UserError, match="choose from force, acceleration"): an.rotation(said, "velocity")
    with pytest.raises(UserError, match="register"): an.probe(Gauge(), nameless(springs), receivers=2, senders=20)


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
    assert an.mae(model, springs, snapshots=20) > 0


def test_networks_of_other_dimensions_are_refused(springs3):
    for read in (an.messages, an.probe):
        with pytest.raises(UserError, match="6 numbers a body"): read(make_model("newton", hidden=8), springs3)


def test_diverged_models_are_named(springs):
    class Lost(Gauge):
        def messages(self, x, edge_index): return super().messages(x, edge_index) * float("nan")
    with pytest.raises(UserError, match="diverged"): an.messages(Lost(), springs, snapshots=2)


# significance and fits


@given(st.permutations(range(6)))
def test_significance_follows_a_permutation(order):
    scale = np.array([5.0, 0.1, 3.0, 0.0, 0.7, 1.0])
    components = np.random.default_rng(0).normal(size=(500, 6)) * scale
    expected = [list(order).index(k) for k in (0, 2, 5)]
    assert an.significant(components[:, order], 3).tolist() == expected
    assert an.spread_fraction(components[:, order], 6) == pytest.approx(1)


def test_significance_by_a_given_score_and_bad_counts():
    components = np.eye(4)
    assert an.significant(components, 2, score=[0, 3, 1, 2]).tolist() == [1, 3]
    for count in (0, 5):
        with pytest.raises(UserError, match=f"count is {count}"): an.significant(components, count)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([2, 3]), st.floats(1e-3, 1e3),
       st.sampled_from(["far", "leverage", "flat"]))
def test_trimmed_fit_recovers_a_planted_map_with_a_tenth_of_outliers(seed, dim, size, kind):
    rng = np.random.default_rng(seed)
    planted, shift = np.linalg.qr(rng.normal(size=(dim, dim)))[0] * size, rng.normal(size=dim) * size
    force = rng.standard_t(3, size=(1000, dim))
    bad = rng.permutation(1000) < 100
    if kind == "leverage": force[bad] *= 30
    said = force @ planted.T + shift
    said[bad] = size * {"far": 40 + 10 * rng.normal(size=(100, dim)), "leverage": rng.normal(size=(100, dim)),
                        "flat": np.full((100, dim), 7.0)}[kind]
    fit = an.linear_fit(said, force)
    np.testing.assert_allclose(fit.A, planted, atol=1e-6 * size)
    np.testing.assert_allclose(fit.b, shift, atol=1e-6 * size)
    assert fit.r2_trimmed == pytest.approx(1) and fit.r2_raw < 0.99
    assert (fit.kept.sum(axis=0) == 900).all()
    np.testing.assert_allclose(fit(force)[~bad], said[~bad], atol=1e-5 * size)


def test_r2_in_exact_cases():
    force = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]] * 5)
    perfect = an.linear_fit(force @ [[0, 2.0], [1, 0]] + 3, force)
    assert perfect.r2_raw == pytest.approx(1) and perfect.r2_trimmed == pytest.approx(1)
    noise = np.array([1.0, 1, -1, -1] * 5)  # no linear relation with either axis
    assert an.linear_fit(noise[:, None], force, trim=0).r2_raw == pytest.approx(0, abs=1e-12)
    half = an.linear_fit((force[:, 0] + noise * np.sqrt(0.5))[:, None], force, trim=0)
    assert [half.r2_raw, half.r2_trimmed] == pytest.approx([0.5, 0.5])  # both parts have variance 1/2
    assert an.linear_fit(np.full((20, 1), 4.0), force).r2_trimmed == 0  # a constant is no force
    still = an.linear_fit(force[:, :1], force * [1, 0])  # a force without y component
    assert still.r2_raw == pytest.approx(1)


def test_untrimmed_fit_is_least_squares():
    rng = np.random.default_rng(3)
    force, said = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    fit = an.linear_fit(said, force, trim=0)
    direct = np.linalg.lstsq(np.column_stack([force, np.ones(300)]), said)[0]
    np.testing.assert_allclose(np.column_stack([fit.A, fit.b]), direct.T)
    np.testing.assert_allclose(fit.each_raw, fit.each_trimmed)


@pytest.mark.parametrize("components, target, trim, text", [
    (np.ones((9, 2)), np.ones((8, 2)), 0.1, "a row an edge"),
    (np.ones(9), np.ones((9, 2)), 0.1, "a row an edge"),
    (np.ones((9, 2)), np.ones((9, 2)), 0.5, "trim is 0.5"),
    (np.ones((5, 2)), np.ones((5, 2)), 0.1, "too few"),
    (np.full((9, 2), np.nan), np.ones((9, 2)), 0.1, "NaN"),
])
def test_fits_of_nonsense_are_refused(components, target, trim, text):
    with pytest.raises(UserError, match=text): an.linear_fit(components, target, trim)


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
        def messages(self, x, edge_index): return torch.sin(50 * x[edge_index[0]] + torch.arange(6)).double()
    assert an.probe(Noise(), springs, receivers=3, senders=200).table.r2_trimmed.max() < 0.3


def test_probe_in_three_dimensions(springs3):
    probed = an.probe(Gauge(3, power=-1), springs3, receivers=3, senders=80)
    assert probed.A.shape == (3, 3, 3) and (probed.table.r2_trimmed > 0.9999).all()
    np.testing.assert_allclose(probed.gain, 1 / probed.table.m_i, rtol=1e-3)


# rollouts


def test_rollout_follows_kepler():
    "A circular orbit of two masses under 1/r² comes back after one period of the closed form."
    def gravity(x, v, m, q):
        d = x[:, ::-1] - x
        return m[:, ::-1, None] * d / np.linalg.norm(d, axis=-1, keepdims=True) ** 3
    x, m = np.array([[[-0.75, 0], [0.25, 0]]]), np.array([[1.0, 3.0]])
    speed = np.sqrt(m.sum())
    v = np.array([[[0, -0.75 * speed], [0, 0.25 * speed]]])
    period = 2 * np.pi / speed
    path = an.rollout(gravity, x, v, mass=m, charge=0 * m, dt=period / 100, frames=101)
    np.testing.assert_allclose(path.position[0, -1], x[0], atol=1e-5)
    np.testing.assert_allclose(path.position[0, 50], -x[0], atol=1e-5)
    np.testing.assert_allclose(path.velocity[0, -1], v[0], atol=1e-5)
    fine = an.rollout(gravity, x, v, mass=m, charge=0 * m, dt=period / 100, frames=101, substeps=4)
    assert np.abs(fine.position[0, -1] - x[0]).max() < np.abs(path.position[0, -1] - x[0]).max() / 100


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1.5), st.floats(-1, 1))
def test_rollout_of_a_damped_swing(drag, push):
    "Forces may depend on velocity: x'' = -x - drag x' has a closed form for drag < 2."
    x, v = np.array([[[1.0, 0]]]), np.array([[[push, 0]]])
    one = np.ones((1, 1))
    path = an.rollout(lambda x, v, m, q: -x - drag * v, x, v, mass=one, charge=one, dt=0.05, frames=61)
    t, w = 0.05 * np.arange(61), np.sqrt(1 - drag**2 / 4)
    exact = np.exp(-drag * t / 2) * (np.cos(w * t) + (push + drag / 2) / w * np.sin(w * t))
    np.testing.assert_allclose(path.position[0, :, 0, 0], exact, atol=1e-5)


def test_rollout_of_the_true_law_repeats_the_simulation(springs):
    compared = an.compare(springs, {"law": "spring", "network": Gauge()}, simulations=5, frames=15)
    last = compared.final
    assert last.error["law"] < 1e-3 and last.error["network"] < 1e-3 and last.error["truth"] == 0
    assert last.energy_drift["law"] < 1e-3 and last.alive["law"] == 1
    assert "<table" in compared._repr_html_()
    assert an.compare_plot(compared, sim=2).axes[1].get_yscale() == "log"


def test_failing_simulations_become_nan_and_others_go_on(springs):
    def explode(x, v, m, q):
        out = np.ones_like(x)
        out[m[:, 0] == springs.mass[1, 0]] = np.inf
        return out
    compared = an.compare(springs, {"bad": explode, "worse": lambda x, v, m, q: x / 0}, simulations=3)
    alive = compared.rollouts["bad"].alive
    assert alive[:, 0].all() and alive[[0, 2]].all() and not alive[1, 1:].any()
    assert np.isnan(an.rollout_error(compared.rollouts["bad"].position, springs.position[:3])[1, 1:]).all()
    assert compared.final.alive["bad"] == pytest.approx(2 / 3)
    assert compared.final.alive["worse"] == 0 and np.isnan(compared.final.error["worse"])
    assert an.compare_plot(compared, sim=1) is not None


def test_rollout_is_blind_to_the_order_of_bodies(springs):
    order = [2, 0, 3, 1]
    fixed = dict(dt=springs.dt, frames=10)
    law = an.accelerate_with("spring", springs.edge_index)
    x, v, m, q = springs.position[:, 0], springs.velocity[:, 0], springs.mass, springs.charge
    path = an.rollout(law, x, v, mass=m, charge=q, **fixed)
    mixed = an.rollout(law, x[:, order], v[:, order], mass=m[:, order], charge=q[:, order], **fixed)
    np.testing.assert_allclose(mixed.position, path.position[:, :, order], atol=1e-9)


@pytest.mark.parametrize("change, text", [
    (dict(velocity=np.ones((2, 3, 3))), "both must be"), (dict(mass=np.ones(3)), "mass has shape"),
    (dict(charge=np.ones((2, 4))), "charge has shape"), (dict(dt=0), "dt is 0"), (dict(frames=0), "frames is 0"),
])
def test_rollouts_of_nonsense_are_refused(change, text):
    x, m = np.ones((2, 3, 2)), np.ones((2, 3))
    good = dict(position=x, velocity=x, mass=m, charge=m, dt=1, frames=2)
    with pytest.raises(UserError, match=text): an.rollout(lambda x, v, m, q: 0 * x, **good | change)


def test_sources_of_acceleration(springs):
    state = springs.position[:, 3], springs.velocity[:, 3], springs.mass, springs.charge
    truth = springs.acceleration[:, 3]
    class Law:
        def accelerations(self, x, v, m, q, edge_index): return truth
    for source in ("spring", Gauge(), Law(), lambda x, v, m, q: truth):
        np.testing.assert_allclose(an.accelerate_with(source, springs.edge_index)(*state), truth, rtol=1e-2, atol=1e-3)
    with pytest.raises(UserError, match="int"): an.accelerate_with(3, springs.edge_index)
    with pytest.raises(UserError, match="not pair forces"): an.accelerate_with("damped", springs.edge_index)
    with pytest.raises(UserError, match="sprng"): an.accelerate_with("sprng", springs.edge_index)


def test_mae_is_per_body_and_axis(springs):
    off = lambda x, v, m, q: an.accelerate_with("spring", springs.edge_index)(x, v, m, q) + [0.5, -1.5]
    assert an.mae(off, springs, snapshots=100) == pytest.approx(1, abs=1e-3)
    assert an.mae("spring", springs, batch=7) == pytest.approx(0, abs=1e-4)
    crowd = simulate("spring", simulations=4, bodies=8, frames=5, seed=3)
    candidates = {"law": Gauge(), "nothing": lambda x, v, m, q: 0 * x}
    table = an.error_table(candidates, {"4": springs, "8": crowd}, snapshots=50)
    assert list(table.columns) == ["4", "8"] and (table.loc["law"] < 1e-3).all() and (table.loc["nothing"] > 1).all()


# reports and figures


def test_analysis_has_the_keys_of_the_design(springs):
    class Run: model = Gauge(power=-1)
    report = an.analysis(Run(), springs, snapshots=60)
    assert set(report["r2"]) == {"force", "acceleration"}
    assert all(set(part) == {"raw", "trimmed"} for part in report["r2"].values())
    assert sorted(report["significant"]) == [2, 5] and report["spread_fraction"] > 0.99
    more = an.analysis(Run(), springs, other_bodies=springs.select(simulations=slice(3)), snapshots=60)
    assert set(more["error"]["neural"]) == {"mae", "mae_other_bodies"} > set(report["error"]["neural"])
    assert report["error"]["neural"]["mae"] < 1e-3 and report["messages_are"] == "linear"


def test_history_notes_spreads_and_makes_a_film(springs):
    history = an.SpreadHistory(springs, snapshots=5)
    for step in (0, 2, 4): added = history(step, Gauge(power=-1))
    assert added["message_r2"] > 0.999 and added["spread_fraction"] > 0.99
    assert "message_r2" not in an.SpreadHistory(nameless(springs), snapshots=5)(0, Gauge())
    assert history.steps == [0, 2, 4] and history.spreads[0].shape == (8,)
    film = an.gif(an.sparsity_animation(history.spreads, history.steps))
    assert film[:4] == b"GIF8" and len(film) < 50_000
    with pytest.raises(UserError, match="empty"): an.sparsity_animation([])


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
    with pytest.raises(UserError, match="cannot be written"): an.save_figures(said, tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_batched_edges_are_those_of_the_models(springs):
    "The probe reads every second edge: that of receiver 0 in each two-body graph."
    edges = np.asarray(batch_edges(torch.tensor([[1, 0], [0, 1]]), 2, 3))
    np.testing.assert_array_equal(edges[:, ::2], [[1, 3, 5], [0, 2, 4]])


def test_table_is_a_dataframe_without_model():
    state = np.arange(12.0).reshape(2, 6)
    said = an.Messages(np.ones((2, 3)), state, state[::-1], np.array([0, 1]), np.array([1, 0]))
    assert isinstance(said.table, pd.DataFrame) and len(said.table.columns) == 2 + 8 + 2 + 5 + 3 + 2
