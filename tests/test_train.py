"Losses, penalties, batches, settings, and runs that can be stopped, resumed, damaged and read again."
import dataclasses
import itertools
import json
import signal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from symbolic_gn import train as T
from symbolic_gn.core.errors import UserError
from symbolic_gn.data.trajectories import from_arrays
from symbolic_gn.models import MODELS, PAPER, Bias, NewtonNetwork, Prediction, make_model
from symbolic_gn.simulate import simulate
from symbolic_gn.train import Snapshots, data_loss, fit, objective
from symbolic_gn.training.config import LOSSES, SCHEDULES, Config, check_config, make_config, paper_config, relative
from symbolic_gn.training.runs import Run

few = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31 - 1)
ARCH = dict(hidden=16, layers=2, messages=6)
QUICK = dict(steps=24, batch=16, architecture=ARCH, device="cpu", precision="32-true")


def learn(data, model="newton", **options):
    "A training of a blink."
    return fit(data, model, progress=False, **{**QUICK, **options})


def weights(run): return {k: v.clone() for k, v in run.model.state_dict().items()}


def assert_same(a, b, looks=20):
    "The same weights and history, bit for bit; only seconds differ, and looks at interruptions are left out."
    assert weights(a).keys() == weights(b).keys()
    assert all(torch.equal(v, weights(b)[k]) for k, v in weights(a).items())
    a, b = (
        run.history.drop(columns="seconds")[run.history["step"] % max(1, run.config.steps // looks) == 0]
        for run in (a, b)
    )
    pd.testing.assert_frame_equal(a.reset_index(drop=True), b.reset_index(drop=True), check_exact=True)


def one_line(error) -> str:
    said = str(error.value)
    assert said and "\n" not in said
    return said


@pytest.fixture
def clock(monkeypatch):
    "A clock that ticks once each time it is read, so that a time limit stops at the same step everywhere."
    ticks = itertools.count()
    monkeypatch.setattr(T, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))


# losses


def draw(seed, rows=12):
    g = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, 2, generator=g), 3 * torch.randn(rows, 2, generator=g)


FORMULAS = {  # of prediction and truth, a number for each row
    "mae": lambda p, y: np.abs(p - y).sum(1), "mse": lambda p, y: np.square(p - y).sum(1),
    "huber": lambda p, y: np.where(np.abs(p - y) < 1, 0.5 * (p - y)**2, np.abs(p - y) - 0.5).sum(1),  # delta 1
    "relative": lambda p, y: np.log1p(np.linalg.norm(p - y, axis=1) / np.linalg.norm(y, axis=1)),
}


@few
@given(seeds, st.sampled_from(list(FORMULAS)), st.floats(0.1, 10), st.booleans())
def test_losses_are_their_formulas(seed, loss, scale, compress):
    p, y = draw(seed)
    a, b = p.double().numpy() / scale, y.double().numpy() / scale
    expected = FORMULAS[loss](*(np.arcsinh([a, b]) if compress else (a, b))).mean()
    assert float(data_loss(p, y, loss, scale, compress)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_every_loss_is_tested():
    assert set(LOSSES) == set(FORMULAS)


def test_an_unknown_loss_is_an_error():
    with pytest.raises(UserError) as caught:
        data_loss(*draw(0), "rad")
    assert "'rad'" in one_line(caught) and "mae, mse, huber" in one_line(caught)


@few
@given(seeds, st.floats(-12, 12))
def test_a_relative_error_knows_no_units(seed, power):
    p, y = (a.double() for a in draw(seed))
    torch.testing.assert_close(relative(10**power * p, 10**power * y), relative(p, y))
    torch.testing.assert_close(relative(2 * y, y), relative(0 * y, y))  # twice as much and nothing are equally wrong


def test_a_body_without_acceleration_has_a_finite_relative_error():
    p = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    loss = relative(p, torch.zeros(2, 2))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and loss[1] == 0 and torch.isfinite(p.grad).all()


def prediction(seed, graphs=3, bodies=4, pairs=True):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(graphs * bodies, 2, generator=g)
    return Prediction(
        a, None, torch.rand(graphs * bodies * (bodies - 1 if pairs else 1), generator=g),
        torch.randn(a.shape, generator=g)
    )


def test_objective_adds_up():
    found, truth = prediction(0), torch.zeros(12, 2)
    model = make_model("l1", hidden=8, layers=1)
    plain = data_loss(found.acceleration, truth, "mae", 1.0, True)
    bare = dict(decoder=0.0, correction=0.0)
    assert float(objective(found, truth, Config("standard", **bare), model, 4)) == pytest.approx(float(plain))
    weighed = objective(found, truth, Config("l1", penalty=0.3, **bare), model, 4)
    assert float(weighed) == pytest.approx(float(plain + 0.3 * found.penalty.mean()), rel=1e-5)
    default = objective(found, truth, Config("l1", **bare), model, 4)
    assert float(default) == pytest.approx(float(plain + MODELS["l1"].penalty * found.penalty.mean()), rel=1e-5)
    both = objective(found, truth, Config("l1", penalty=0.3, decoder=0.5, correction=0.7), model, 4)
    rest = 0.5 * model.decoder.weight.square().sum() + 0.7 * found.correction.abs().mean()
    assert float(both.detach()) == pytest.approx(float((weighed + rest).detach()), rel=1e-5)


@few
@given(seeds, st.sampled_from([4, 8]), st.booleans())
def test_legacy_penalty_is_the_papers_on_average(seed, bodies, pairs):
    graphs, bare = 5, dict(decoder=0.0, correction=0.0, penalty=1.0)
    found, truth = prediction(seed, graphs, bodies, pairs), torch.zeros(5 * bodies, 2)
    model = make_model("newton", hidden=8, layers=1)
    data = float(objective(found, truth, Config("standard", decoder=0.0, correction=0.0), model, bodies))
    whole = float(objective(found, truth, Config("l1", **bare), model, bodies)) - data
    first = []
    for parts in (found.penalty.reshape(graphs, -1).roll(-k, 0) for k in range(graphs)):
        turned = found._replace(penalty=parts.reshape(-1))
        first.append(float(objective(turned, truth, Config("l1", legacy=True, **bare), model, bodies)) - data)
    share = (bodies - 1) / bodies if pairs else 1 / bodies  # facts 2.3: mean over edges, times (n - 1) / n
    assert np.mean(first) == pytest.approx(share * whole, rel=1e-3)
    assert np.std(first) > 0  # and noisy, as it sees one graph of the batch


def test_legacy_penalty_counts_the_first_graph_only():
    found, truth, model = prediction(1), torch.zeros(12, 2), make_model("newton", hidden=8, layers=1)
    found.penalty[12:] = 1e6
    bare = dict(decoder=0.0, correction=0.0)
    plain = objective(found, truth, Config("standard", **bare), model, 4)
    legacy = objective(found, truth, Config("l1", legacy=True, penalty=2.0, **bare), model, 4)
    assert float(legacy - plain) == pytest.approx(2 * float(found.penalty[:12].sum()) / 16, rel=1e-4)


# data


def test_snapshots_are_the_arrays(springs):
    chosen = np.array([3, 7, 20])
    data = Snapshots(springs, chosen)
    assert len(data) == 30 and (data.frames, data.bodies, data.dim) == (10, 4, 2)
    x, y = data.batch(torch.arange(30))
    for row, (s, t) in enumerate((s, t) for s in chosen for t in range(10)):
        mine = x[4 * row: 4 * row + 4].numpy()
        np.testing.assert_array_equal(mine[:, :2], springs.position[s, t])
        np.testing.assert_array_equal(mine[:, 2:4], springs.velocity[s, t])
        np.testing.assert_array_equal(mine[:, 4], springs.charge[s])
        np.testing.assert_array_equal(mine[:, 5], springs.mass[s])
        np.testing.assert_array_equal(y[4 * row: 4 * row + 4].numpy(), springs.acceleration[s, t])


def test_snapshots_share_memory(springs):
    data = Snapshots(springs, np.array([1, 2]))
    for name in ("position", "velocity", "acceleration", "mass", "charge"):
        assert np.shares_memory(getattr(data, name).numpy(), getattr(springs, name)), name


def test_double_precision_is_read_as_single():
    data = Snapshots(simulate("spring", simulations=3, frames=4, dtype="float64"))
    assert data.position.dtype == torch.float32 and len(data) == 12


@few
@given(seeds, st.integers(1, 5), st.sampled_from([2, 3]))
def test_augmentation_moves_each_graph_by_a_vector_of_its_own(seed, graphs, dim):
    torch.manual_seed(seed)
    x = torch.randn(graphs * 4, 2 * dim + 2)
    moved = T.translate(x, 4, dim, 3.0)
    shift = (moved - x)[:, :dim].reshape(graphs, 4, dim)
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-5)
    assert torch.equal(moved[:, dim:], x[:, dim:])
    assert len(shift[:, 0].unique(dim=0)) == graphs


def test_augmentation_has_the_width_it_is_given():
    shift = T.translate(torch.zeros(8000, 6), 4, 2, 3.0)[::4, :2]
    assert float(shift.std()) == pytest.approx(3, rel=0.1) and abs(float(shift.mean())) < 0.2


# settings


@pytest.mark.parametrize("options, words", [
    (dict(model="netwon"), "did you mean 'newton'?"), (dict(loss="rad"), "choose from mae, mse, huber"),
    (dict(schedule="onecycl"), "onecycle"),
    (dict(precision="fp8"), "bf16-mixed"), (dict(steps=0), "steps is 0; it must be a whole number from 1"),
    (dict(batch=-3), "batch is -3"), (dict(lr=0.0), "lr is 0.0"), (dict(lr=float("nan")), "lr is nan"),
    (dict(seed=-1), "seed is -1; it must be a whole number from 0"),
    (dict(clip=-1.0), "clip is -1.0"), (dict(augment=-1.0), "augment"), (dict(weight_decay=-1.0), "weight_decay"),
    (dict(decoder=-1.0), "decoder"), (dict(correction=-1.0), "correction"),
    (dict(architecture=dict(others=("spin",))), "'others' is unknown"),
    (dict(architecture=dict(activation="rellu")), "'relu'"),
    (dict(architecture=dict(coordinates="polar")), "relative, absolute"),
])
def test_settings_that_cannot_work_are_named(options, words, springs, tmp_path):
    with pytest.raises(UserError) as caught:
        check_config(Config(**options))
    assert words in one_line(caught)
    with pytest.raises(UserError):
        fit(springs, Config(**options), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


WRONG_KIND = [
    dict(lr="fast"), dict(steps=1.5), dict(batch=2.5), dict(seed=2**70), dict(penalty="much"), dict(architecture=3),
    dict(architecture=dict(hiden=3)), dict(architecture=dict(hidden="a")), dict(device="nosuch"),
    dict(prune_end=0.0, model="prune")
]


@pytest.mark.parametrize("options", WRONG_KIND, ids=str)
def test_settings_of_a_wrong_kind_are_named(options, springs, tmp_path):
    with pytest.raises(UserError) as caught:
        fit(springs, Config(**{**QUICK, **options}), out=tmp_path / "run", progress=False)
    assert next(iter(options)) in one_line(caught) or "hiden" in one_line(caught)
    assert not (tmp_path / "run").exists()


def test_good_settings_pass():
    for model in MODELS:
        assert check_config(Config(model)) == Config(model)


def test_unknown_settings_are_named(springs):
    with pytest.raises(UserError, match="did you mean 'steps'"):
        make_config("l1", step=3)
    with pytest.raises(UserError, match="'nope'"):
        fit(springs, "l1", nope=1)
    assert make_config("l1", lr=1e-2) == Config("l1", lr=1e-2)


def test_a_model_brings_settings_and_the_user_has_the_last_word(monkeypatch):
    monkeypatch.setitem(MODELS, "slow", Bias("slow", NewtonNetwork, settings=dict(lr=1e-5, batch=7)))
    assert make_config("slow") == Config("slow", lr=1e-5, batch=7)
    assert make_config("slow", batch=9) == Config("slow", lr=1e-5, batch=9)


@pytest.mark.parametrize("bodies, batch, steps", [(4, 64, 1_000_000), (8, 16, 4_000_000)])
def test_paper_settings_are_the_papers(bodies, batch, steps):
    c = paper_config("l1", bodies)
    assert (c.batch, c.steps, c.lr, c.weight_decay, c.augment, c.penalty) == (batch, steps, 1e-3, 1e-8, 3.0, 1e-2)
    assert (
        c.architecture
        == PAPER
        == dict(
            hidden=300, layers=3, messages=100, activation="relu", coordinates="absolute", compress=False, update="free"
        )
    )
    assert (c.clip, c.compress_loss, c.decoder, c.correction, c.schedule, c.precision) == (
        0.0, False, 0.0, 0.0, "onecycle", "32-true"
    )
    assert paper_config("kl").penalty == 1.0 and paper_config("bottleneck").penalty == 0.0
    assert paper_config("l1", epochs=30).steps == 150_000 and paper_config("l1", lr=1e-2).lr == 1e-2


def rates(config):
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule, lr = SCHEDULES[config.schedule](optimizer, config), []
    for _ in range(config.steps):
        lr.append(optimizer.param_groups[0]["lr"])
        optimizer.step(), schedule.step()
    return np.array(lr)


def test_onecycle_is_the_originals_with_its_settings():
    lr = rates(paper_config(epochs=1))
    assert lr[0] == pytest.approx(1e-3 / 25) and lr.max() == pytest.approx(1e-3, rel=1e-4) and lr[-1] < 1e-8
    assert np.argmax(lr) / len(lr) == pytest.approx(0.3, abs=0.01)


def test_schedules_peak_and_fade():
    lr = rates(Config(steps=500))
    assert np.argmax(lr) / 500 == pytest.approx(0.2, abs=0.01) and lr[-1] < 1e-3 * lr.max()
    lr = rates(Config(steps=500, schedule="cosine"))
    np.testing.assert_allclose(lr, 3e-3 * 0.5 * (1 + np.cos(np.pi * np.arange(500) / 500)), rtol=1e-4, atol=1e-9)


def test_bf16_is_told_for_every_device():
    assert isinstance(T.bf16_is_native(), bool) and T.bf16_is_native("nosuch") is False


# training


STRANGERS = [name for name in MODELS if name not in ("orrery", "lookup")]  # models that need no numbers of bodies


def missed(run, data):
    "What a run's model still has to lose on the validation data."
    x, y, edges = T.some(Snapshots(data, data.parts(run.config.seed)[1]), 1000)
    with torch.no_grad():
        return float(data_loss(run.model(x, edges), y, run.config.loss, run.model.scale, run.config.compress_loss))


WITH_LOSSES = [(m, loss) for m in STRANGERS for loss in LOSSES if not MODELS[m].formula or loss in ("mae", "relative")]


@pytest.mark.parametrize("model, loss", WITH_LOSSES)  # a formula's last fit knows no loss: two are enough
def test_every_model_learns_with_every_loss(model, loss, springs):
    run = learn(springs, model, loss=loss, steps=60, lr=1e-2, looks=2)
    formula = bool(MODELS[model].formula)  # fitted and cut after the last step: exact, and one more look
    if formula:
        assert run.history["mae"].iloc[-1] < 1e-6
    else:
        assert missed(run, springs) < missed(learn(springs, model, loss=loss, steps=1, lr=1e-9), springs)
    assert list(run.history["step"]) == [30, 60] + [60] * formula
    assert run.finished and not run.model.training and run.folder is None
    assert {"step", "seconds", "loss", "mae", "r2"} <= set(run.history)


@pytest.mark.parametrize("model", STRANGERS)
def test_the_papers_setting_trains(model, springs3):
    config = paper_config(model, bodies=3, steps=3, batch=8)
    run = fit(springs3, dataclasses.replace(config, architecture={**PAPER, "hidden": 12}), progress=False)
    assert np.isfinite(run.history["loss"]).all() and run.model.arch.coordinates == "absolute"


def test_longer_training_explains_the_spring(springs):
    run = learn(springs, steps=400, batch=64, lr=1e-2, architecture=dict(hidden=32, layers=2))
    assert run.history["r2"].iloc[-1] > 0.95


def test_validation_is_computed_on_what_it_says(springs):
    model, data = (
        make_model("newton", **{k: v for k, v in ARCH.items() if k != "messages"}).train(),
        Snapshots(springs, np.array([2, 5]))
    )
    found = T.validate(model, data)
    x, y = data.batch(torch.arange(20))
    a = model(x, T.batch_edges(data.edge_index, 4, 20)).detach()
    assert found["mae"] == pytest.approx(float((a - y).abs().mean()), rel=1e-5)
    assert found["r2"] == pytest.approx(float(1 - ((a - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()), rel=1e-5)
    assert model.training
    assert T.validate(model, data, graphs=3).keys() == {"mae", "r2"}


def test_pruning_ends_with_as_many_components_as_axes(springs):
    run = learn(springs, "prune", steps=300)
    assert int(run.model.active.sum()) == 2
    with pytest.raises(UserError, match="prune_end is 1000000000.0"):
        learn(springs, "prune", steps=300, prune_end=1e9)


@pytest.mark.parametrize("model", ["newton", "kl", "l1"])
def test_the_seed_fixes_every_bit(model, springs):
    options = dict(augment=1.0, schedule="cosine")
    torch.manual_seed(11)
    one = learn(springs, model, seed=3, **options)
    torch.manual_seed(12)
    assert_same(one, learn(springs, model, seed=3, **options))
    other = learn(springs, model, seed=4, **options)
    assert not all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(other).values()))


def test_training_leaves_the_users_random_numbers_alone(springs):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    learn(springs, steps=3)
    assert torch.equal(state, torch.get_rng_state())


def test_a_watcher_sees_the_model_and_disturbs_nothing(springs):
    seen = []

    def watch(step, model):
        torch.rand(7), model.eval()
        seen.append(step)
        return {"message_r2": 0.5}
    run = learn(springs, "kl", watch=watch, looks=4)
    assert seen == [6, 12, 18, 24] and (run.history["message_r2"] == 0.5).all()
    plain = learn(springs, "kl", looks=4)
    assert all(torch.equal(v, weights(plain)[k]) for k, v in weights(run).items())


def test_the_bar_tells_what_matters(springs, capsys):
    fit(springs, "l1", progress=True, watch=lambda step, model: {"message_r2": 0.25}, **QUICK)
    said = capsys.readouterr().err
    assert (
        "train l1" in said and "24/24" in said and "r2=" in said and "message_r2=0.25" in said and "<" in said
    )  # time left


@pytest.mark.parametrize("model", ["newton", "bottleneck"])
def test_half_precision_learns_as_well(model, springs):
    options = dict(steps=300, batch=64, lr=1e-2, architecture=dict(hidden=32, layers=2))
    single, half = (learn(springs, model, precision=p, **options) for p in ("32-true", "bf16-mixed"))
    assert half.history["r2"].iloc[-1] == pytest.approx(single.history["r2"].iloc[-1], abs=0.03)
    assert single.history["r2"].iloc[-1] > 0.5
    assert all(v.dtype == torch.float32 for v in half.model.state_dict().values())


def test_precision_follows_the_machine(springs):
    native = T.bf16_is_native()
    auto = T.prepare(Config(**{**QUICK, "precision": "auto"}), springs).fabric
    with auto.autocast():
        found = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype
    assert found == (torch.bfloat16 if native else torch.float32)


# further properties of bodies


@pytest.fixture(scope="module")
def spinning(springs):
    "Springs whose bodies also have a spin and a size."
    spin, size = np.random.default_rng(0).normal(size=(2, springs.simulations, springs.bodies))
    arrays = springs.position, springs.velocity, springs.acceleration
    return from_arrays(*arrays, mass=springs.mass, charge=springs.charge, dt=springs.dt, spin=spin, size=size)


def test_snapshots_hold_further_properties_before_charge_and_mass(spinning):
    x, _ = Snapshots(spinning, np.array([3, 5])).batch(torch.tensor([10]))
    for column, name in zip((4, 5, 6, 7), ("spin", "size", "charge", "mass")):
        values = spinning.others[name] if name in spinning.others else getattr(spinning, name)
        np.testing.assert_array_equal(x[:, column], values[5].astype("float32"))


def test_a_run_knows_the_properties_of_its_bodies(spinning, springs, tmp_path):
    run = learn(spinning, out=tmp_path / "run", steps=6)
    assert run.model.arch.others == ("spin", "size") and run.data["others"] == ["spin", "size"]
    assert_same(Run.load(tmp_path / "run"), run)
    with pytest.raises(UserError, match="checkpoint.pt was made with"):
        learn(springs, out=tmp_path / "run", resume=True, steps=6)


def test_what_the_data_say_of_their_bodies_reaches_the_model(springs):
    about = dict(T.describe(springs), others=["spin"], numbers=9, hidden="charge")
    arch = T.build(Config("l1", architecture=ARCH), about).arch
    assert (arch.others, arch.bodies, arch.hides, arch.dim, arch.hidden) == (("spin",), 9, "charge", 2, 16)
    assert T.build(Config(), T.describe(springs)).arch.bodies == springs.bodies


# the hooks of a model


class Recorder(NewtonNetwork):
    "Writes down when it is called; ends with a mark in its weights."

    def __init__(self, arch):
        super().__init__(arch)
        self.calls = []
        self.register_buffer("mark", torch.zeros(()))

    def prepare(self, train):
        self.calls.append(("prepare", len(train), torch.rand(())))

    def on_step(self, progress):
        self.calls.append(("on_step", progress, self.training))

    def on_look(self, validation):
        torch.rand(7)
        self.calls.append(("on_look", len(validation), self.training))

    def finish(self, train):
        self.mark.fill_(5.0)
        self.calls.append(("finish", len(train), self.training))
        return {"loss": -1.0}


@pytest.fixture
def recorder(monkeypatch):
    monkeypatch.setitem(MODELS, "recorder", Bias("writes down", Recorder))
    return "recorder"


def test_a_model_is_called_when_the_contract_says(recorder, springs, tmp_path):
    run = learn(springs, recorder, out=tmp_path / "run", looks=2)
    train, validation, _ = (len(part) * springs.frames for part in springs.parts(0))
    calls = run.model.calls
    assert calls[0][:2] == ("prepare", train)
    assert calls[-1] == ("finish", train, False)
    names = [name for name, *_ in calls]
    assert names == ["prepare"] + (["on_step"] * 12 + ["on_look"]) * 2 + ["finish"]
    assert [p for name, p, _ in calls if name == "on_step"] == [n / 24 for n in range(24)]
    assert all(training for name, _, training in calls if name == "on_step")
    assert all(call == ("on_look", validation, False) for call in calls if call[0] == "on_look")
    assert list(run.history["step"]) == [12, 24, 24] and run.history["loss"].iloc[-1] == -1
    assert Run.load(tmp_path / "run").model.mark == 5  # what finish did is kept


def test_a_model_that_was_interrupted_is_not_finished(recorder, springs, tmp_path, clock):
    run = learn(springs, recorder, out=tmp_path / "run", time_limit=10)
    assert not run.finished and run.model.mark == 0 and run.model.calls[-1][0] == "on_look"
    rest = learn(springs, recorder, out=tmp_path / "run", resume=True)
    assert rest.finished and rest.model.mark == 5
    assert_same(rest, learn(springs, recorder))


def test_hooks_disturb_nothing(recorder, springs):
    run, plain = learn(springs, recorder, looks=4), learn(springs, recorder, looks=1)
    assert all(torch.equal(v, weights(plain)[k]) for k, v in weights(run).items())


@pytest.mark.parametrize("seed", [0, 3])
def test_the_seed_fixes_what_a_model_prepares(recorder, springs, seed):
    one, two = (learn(springs, recorder, steps=1, seed=seed).model.calls[0][2] for _ in range(2))
    assert one == two


def test_snapshots_know_their_trajectories_and_come_back_to_the_cpu(springs):
    data = Snapshots(springs, np.array([4, 2]))
    again = data.on_cpu()
    assert again.trajectories is data.trajectories is springs and again.simulations.tolist() == [4, 2]
    assert all(torch.equal(a, b) for a, b in zip(again.batch(torch.arange(20)), data.batch(torch.arange(20))))


# stopping and resuming


RESUMED = [
    ("newton", "onecycle", {}), ("l1", "cosine", {}), ("kl", "onecycle", dict(augment=2.0)), ("flat_hgn", "cosine", {}),
    ("prune", "onecycle", dict(steps=120)), ("bottleneck", "cosine", dict(precision="bf16-mixed", legacy=True)),
    ("cust", "onecycle", dict(compress_loss=False)), ("pm", "onecycle", dict(clip=0.0, loss="huber"))
]


@pytest.mark.parametrize("model, schedule, more", RESUMED, ids=[case[0] for case in RESUMED])
def test_a_resumed_run_is_an_uninterrupted_one(model, schedule, more, springs, tmp_path, clock):
    options = dict(model=model, schedule=schedule, looks=4, **more)
    whole, reached = learn(springs, **options), []
    while not reached or reached[-1] < whole.config.steps:
        run = learn(springs, out=tmp_path / "run", resume=True, time_limit=whole.config.steps * 0.9, **options)
        reached.append(int(run.history["step"].iloc[-1]))
        assert run.finished == (reached[-1] == whole.config.steps)
    assert 2 < len(reached) < 10 and reached == sorted(set(reached))
    assert_same(run, whole, looks=4)
    assert_same(Run.load(tmp_path / "run"), whole, looks=4)
    assert_same(learn(springs, out=tmp_path / "run", resume=True, **options), whole, looks=4)  # nothing is left to do


def test_with_overwrite_a_run_begins_anew(springs, tmp_path):
    learn(springs, out=tmp_path / "run", steps=6)
    with pytest.raises(UserError, match="holds results; go on with --resume, replace with --overwrite"):
        learn(springs, out=tmp_path / "run", seed=5)
    run = learn(springs, out=tmp_path / "run", seed=5, overwrite=True)
    assert_same(run, learn(springs, seed=5))


def test_resume_where_nothing_is_begins(springs, tmp_path):
    assert_same(learn(springs, out=tmp_path / "new", resume=True), learn(springs))
    assert_same(learn(springs, resume=True), learn(springs))  # in memory


def test_checkpoints_come_at_intervals(springs, tmp_path, clock, monkeypatch):
    steps = []
    monkeypatch.setattr(T.Keeper, "keep", lambda keeper, trainer, step, *rest: steps.append(step))
    learn(springs, out=tmp_path / "run", checkpoint_every=12.0)
    assert len(steps) > 2 and steps[-1] == 24 and steps == sorted(steps)
    steps.clear()
    learn(springs, out=tmp_path / "again", checkpoint_every=1e9)
    assert steps == [24]


def test_an_interruption_keeps_what_was_reached(springs, tmp_path):
    "Ctrl-C while the watcher looks."
    def watch(step, model):
        if step == 12 and not (tmp_path / "pressed").exists():
            (tmp_path / "pressed").touch()
            raise KeyboardInterrupt
        return {}
    run = learn(springs, out=tmp_path / "run", watch=watch, looks=4)
    assert not run.finished and run.history["step"].iloc[-1] == 12 and "unfinished" in repr(run)
    assert not Run.load(tmp_path / "run").finished
    assert_same(learn(springs, out=tmp_path / "run", resume=True, looks=4), learn(springs, looks=4), looks=4)


@pytest.mark.parametrize("model", ["newton", "kl"])
def test_control_c_within_a_step_loses_and_repeats_nothing(model, springs, tmp_path, monkeypatch):
    calls, original = itertools.count(1), T.objective

    def press(*args):
        if next(calls) == 11:
            signal.raise_signal(signal.SIGINT)
        return original(*args)
    monkeypatch.setattr(T, "objective", press)
    run = learn(springs, model, out=tmp_path / "run", augment=1.0)
    assert not run.finished and run.history["step"].iloc[-1] in (10, 11)
    monkeypatch.setattr(T, "objective", original)
    assert_same(
        learn(springs, model, out=tmp_path / "run", resume=True, augment=1.0), learn(springs, model, augment=1.0)
    )


def test_an_interruption_before_the_first_step_is_survived(springs, monkeypatch):
    def stop(self, number):
        raise KeyboardInterrupt
    monkeypatch.setattr(T.Trainer, "step", stop)
    run = learn(springs)
    assert not run.finished and run.history["step"].tolist() == [0] and np.isnan(run.history["loss"]).all()


def test_the_time_limit_keeps_what_was_reached(springs, tmp_path, clock):
    run = learn(springs, out=tmp_path / "run", time_limit=10)
    assert 0 < run.history["step"].iloc[-1] < 24 and not run.finished
    assert json.loads((tmp_path / "run" / "config.json").read_text())["finished"] is False


def test_seconds_go_on_where_they_stopped(springs, tmp_path, clock):
    first = learn(springs, out=tmp_path / "run", time_limit=20)
    rest = learn(springs, out=tmp_path / "run", resume=True)
    assert rest.history["seconds"].is_monotonic_increasing
    assert rest.history["seconds"].iloc[-1] > first.history["seconds"].iloc[-1] > 0


# runs as folders


def test_a_run_is_what_was_saved(springs, tmp_path):
    run = learn(springs, "l1", out=tmp_path / "run")
    again = Run.load(str(tmp_path / "run"))
    assert_same(again, run)
    assert (
        again.config == run.config
        and again.data == run.data == T.describe(springs)
        and again.folder == tmp_path / "run"
    )
    assert not again.model.training and "Run(l1 on spring, mae: step 24" in repr(again)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "checkpoint.pt", "config.json", "history.csv", "model.safetensors"
    ]
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert {"config", "data", "finished", "source", "versions", "sha256"} == set(stored)
    assert stored["versions"]["torch"] == torch.__version__


def test_a_run_remembers_its_file(springs, tmp_path):
    springs.save(tmp_path / "data.nc")
    run = learn(type(springs).load(tmp_path / "data.nc"), out=tmp_path / "run", steps=2)
    assert run.source == Run.load(tmp_path / "run").source == str(tmp_path / "data.nc")


def test_a_run_in_memory_has_no_folder(springs):
    run = learn(springs, steps=2)
    assert run.folder is None and run.source is None


OTHER = [
    ("lr", dict(lr=1e-4)), ("seed", dict(seed=9)), ("loss", dict(loss="mse")), ("model", dict(model="l1")),
    ("steps", dict(steps=30)), ("architecture", dict(architecture=dict(hidden=8)))
]


@pytest.mark.parametrize("key, change", OTHER, ids=[case[0] for case in OTHER])
def test_a_checkpoint_of_other_settings_is_refused(key, change, springs, tmp_path):
    learn(springs, out=tmp_path / "run", steps=6)
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(UserError) as caught:
        learn(springs, out=tmp_path / "run", resume=True, **{"steps": 6, **change})
    assert key in one_line(caught) and "checkpoint.pt" in one_line(caught)
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}


def test_a_checkpoint_of_other_data_is_refused(springs, springs3, tmp_path):
    learn(springs, out=tmp_path / "run", steps=6)
    for data in (
        springs3,
        springs.select(simulations=slice(12)),
        simulate("spring", simulations=24, frames=10, every=5, seed=1),
    ):
        with pytest.raises(UserError, match="checkpoint.pt was made with"):
            learn(data, out=tmp_path / "run", resume=True, steps=6)


def test_a_folder_that_cannot_be_written_is_named(springs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        learn(springs, out=tmp_path / "file" / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_too_few_simulations_leave_nothing_behind(springs, tmp_path):
    with pytest.raises(UserError, match="at least 3"):
        learn(springs.select(simulations=slice(2)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_old_run_stays_whole_until_the_new_one_has_begun(springs, tmp_path, monkeypatch):
    old = learn(springs, out=tmp_path / "run", seed=1)

    def killed(*args):
        raise SystemError("as kill -9 in the first step")
    monkeypatch.setattr(T.Trainer, "step", killed)
    with pytest.raises(SystemError):
        learn(springs, out=tmp_path / "run", seed=2, overwrite=True)
    assert_same(Run.load(tmp_path / "run"), old)
