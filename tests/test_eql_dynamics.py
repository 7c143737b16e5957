"Kinematics and oscillator: data, encoder, rollouts, calibration, rules, saving, and what bad input is told."
import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusing import refused

from symbolic_gn.eql import dynamics as D
from symbolic_gn.eql import kinematics as K
from symbolic_gn.eql import oscillator as O
from symbolic_gn.eql import steps as S
from symbolic_gn.eql.equations import read_expressions
from symbolic_gn.eql.network import harden

torch.set_num_threads(1)
few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**31 - 1)
BLINK = D.DynamicsPlan(together=10, alone=12, trials=2, polish=(2, 2, 2), price=0.01, paths=20)


@pytest.fixture(scope="module")
def pairs(): return S.kinematics_pairs(24, 30)


@pytest.fixture(scope="module", params=["l0", "l05", "relu"])
def model(request, pairs): return D.learn_dynamics(pairs, request.param, BLINK)


def exact_model(version="l0") -> D.Dynamics:
    "A model whose step is the true rule of kinematics with z = a / 3 + 1/10, made by hand."
    encoder, step = S.PathEncoder(), harden(S.FormulaStep(regulariser=None))
    with torch.no_grad():
        for layer in step.layers:
            layer.weight.zero_()
        identity = [
            k
            for k, (p, n) in enumerate(p for p in step.hidden[0].operations for _ in range(p[0].arity * p[1]))
            if p.name == "identity"
        ]
        rows = [
            k
            for k, (p, n) in enumerate(p for p in step.hidden[0].operations for _ in range(p[1]))
            if p.name == "identity"
        ]
        for k in range(4):
            step.hidden[0].weight[0, k, identity[k]] = 1.0
        for row, (d, v) in zip(rows, ((1, 0), (1, 1), (1.5, 3), (-0.15, -0.3))):
            step.read_out.weight[0, row, 0], step.read_out.weight[0, row, 1] = d, v
    return D.Dynamics(encoder, step, 1.0, version)


# data


@few
@given(seeds, st.floats(0.05, 2))
def test_kinematics_pairs_follow_the_closed_form(seed, dt):
    p = S.kinematics_pairs(5, 40, dt=dt, seed=seed)
    t, a = dt * np.arange(40), p.parameter[:, None]
    for s in (p.observed, p.predicted):
        d, v = s[..., 0], s[..., 1]
        np.testing.assert_allclose(v, v[:, :1] + a * t, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(d, d[:, :1] + v[:, :1] * t + a * t**2 / 2, rtol=1e-12, atol=1e-12)
        assert (np.abs(s[:, 0]) <= 1).all()
    assert not np.allclose(p.observed, p.predicted)


@few
@given(seeds)
def test_oscillator_pairs_keep_their_energy_and_obey_newton(seed):
    p = O.oscillator_pairs(5, 200, seed=seed)
    for s in (p.observed, p.predicted):
        d, v = s[..., 0], s[..., 1]
        energy = v**2 + p.parameter[:, None] * d**2
        np.testing.assert_allclose(energy, energy[:, :1] * np.ones(200), rtol=1e-10)
        third = (v[:, 2:] - v[:, :-2]) / (2 * p.dt) + p.parameter[:, None] * d[:, 1:-1]
        assert np.abs(third).max() < 0.01
    assert ((p.parameter > 0.1) & (p.parameter < 1)).all() and math.isclose(p.dt, 50 / 499)


@few
@given(seeds)
def test_exact_steps_are_steps_of_the_data(seed):
    for task in (K.KINEMATICS, O.OSCILLATOR):
        p = task.make(6, 40, between=task.outside, seed=seed)
        for k in (0, 17):
            np.testing.assert_allclose(
                task.exact(p.predicted[:, k], p.parameter), p.predicted[:, k + 1], rtol=1e-9, atol=1e-9
            )
        inside = np.array([any(lo <= q <= hi for lo, hi in task.outside) for q in p.parameter])
        assert inside.all()


def test_seeds_reproduce_and_differ():
    for make in (S.kinematics_pairs, O.oscillator_pairs):
        a, b, c = make(4, 20, seed=3), make(4, 20, seed=3), make(4, 20, seed=4)
        assert np.array_equal(a.observed, b.observed) and np.array_equal(a.parameter, b.parameter)
        assert not np.array_equal(a.observed, c.observed)


def test_both_swaps_the_roles(pairs):
    twice = pairs.both()
    assert (
        len(twice) == 48
        and np.array_equal(twice.observed[24:], pairs.predicted)
        and np.array_equal(twice.parameter[24:], pairs.parameter)
    )


def test_bad_paths_are_named():
    good = np.random.default_rng(0).normal(size=(8, 20, 2))
    assert "(pairs, samples, 2)" in refused(S.make_pairs, good[..., 0], good)
    assert "(pairs, samples, 2)" in refused(S.make_pairs, np.zeros((8, 20, 3)), good)
    assert "at least 16" in refused(S.make_pairs, good[:, :9], good)
    assert "at least 2" in refused(S.make_pairs, good, good[:, :1])
    assert "must agree" in refused(S.make_pairs, good, good[:5])
    assert "must agree" in refused(S.make_pairs, good, good, np.zeros(3))
    assert "dt is 0" in refused(S.make_pairs, good, good, dt=0)
    for bad in (np.nan, np.inf):
        broken = good.copy()
        broken[2, 3, 1] = bad
        assert "predicted holds NaN" in refused(S.make_pairs, good, broken)
    assert "low < high" in refused(S.kinematics_pairs, between=((1, 0),))
    assert "above 0" in refused(O.oscillator_pairs, between=((-0.5, 1),))


# encoder and rollouts


def test_trials_of_an_encoder_do_not_mix(pairs):
    x = torch.as_tensor(pairs.observed).float()
    encoder = S.calm(S.measure_channels(S.PathEncoder(trials=3, seed=5), x), x)
    z = encoder(x)
    assert z.shape == (3, 24)
    torch.testing.assert_close(z.std(1), torch.full((3,), 0.5), atol=0.02, rtol=0)
    for k in range(3):
        torch.testing.assert_close(encoder.one(k)(x)[0], z[k], atol=1e-5, rtol=1e-4)


@few
@given(seeds, st.floats(0.1, 50))
def test_an_encoder_by_size_does_not_see_size(seed, factor):
    x = torch.as_tensor(O.oscillator_pairs(6, 60, seed=seed).observed)
    encoder = S.PathEncoder(by_size=True).double().eval()
    torch.testing.assert_close(encoder(factor * x), encoder(x), rtol=1e-6, atol=1e-8)


def test_batch_statistics_are_used_until_they_are_calmed(pairs):
    x = torch.as_tensor(pairs.observed).float()
    encoder = S.measure_channels(S.PathEncoder(), x).train()
    torch.testing.assert_close(encoder(x[:10]).mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    S.calm(encoder, x)
    assert torch.equal(encoder(x)[:, :5], encoder(x[:5])) or torch.allclose(
        encoder(x)[:, :5], encoder(x[:5]), atol=1e-5
    )


def test_one_draw_of_gates_for_a_rollout():
    net = S.FormulaStep(trials=2, regulariser="l0", seed=0).train()
    z, start = torch.rand(2, 7), torch.rand(7, 2)
    net.draw()
    first = S.roll_dynamics(net, z, start, 4)
    assert torch.equal(first, S.roll_dynamics(net, z, start, 4))
    state = start.expand(2, 7, 2)
    for k in range(4):  # the same weights at every step
        state = net(torch.cat([state, z[..., None], torch.ones(2, 7, 1)], -1))
        torch.testing.assert_close(state, first[:, :, k])
    net.draw()
    assert not torch.allclose(first, S.roll_dynamics(net, z, start, 4))
    net.eval()
    assert torch.equal(S.roll_dynamics(net, z, start, 4), S.roll_dynamics(net, z, start, 4))


def test_a_relu_step_keeps_trials_and_outputs_apart():
    step = S.ReluStep(trials=3, widths=(6, 5), seed=1)
    x = torch.rand(3, 9, 4)
    y = step(x)
    assert y.shape == (3, 9, 2) and torch.equal(y, step(torch.cat([x[..., :3], 7 * x[..., 3:]], -1)))
    changed = step(torch.cat([x[:1], x[1:2] + 1, x[2:]]))
    assert torch.equal(changed[[0, 2]], y[[0, 2]]) and not torch.allclose(changed[1], y[1])
    torch.testing.assert_close(step.one(2)(x[2:]), y[2:])


def test_training_sees_nothing_after_its_horizon(pairs):
    horizon = D.Horizon(pairs, 5, 1.0)
    assert horizon.y.shape == (24, 6, 2)
    _, w = horizon.windows(2, 400)
    assert w.abs().max() <= np.abs(pairs.predicted[:, :6]).max()
    short, long = (S.make_pairs(pairs.observed, pairs.predicted[:, :n], pairs.parameter) for n in (6, 20))
    assert short.both() is short  # paths of different lengths cannot change places
    a, b = (D.learn_dynamics(p, "relu", BLINK) for p in (short, long))
    assert all(torch.equal(u, v) for u, v in zip(a.state_dict().values(), b.state_dict().values()))


def test_errors_are_in_units_of_the_change(pairs):
    horizon = D.Horizon(pairs, 3, 1.0)
    stay = harden(S.FormulaStep(regulariser=None))
    stay.forward = lambda x, weights=None: x[..., :2]
    i, w = horizon.windows(1, 4000)
    assert 0.8 < float(horizon.error(stay, torch.zeros(1, 4000).double(), w)) < 1.2


# training, saving


def test_a_model_predicts_and_is_saved(model, pairs, tmp_path):
    path = D.save_dynamics(model, tmp_path / "m.safetensors")
    back = D.load_dynamics(path)
    assert np.array_equal(back.latent(pairs.observed), model.latent(pairs.observed))
    args = pairs.observed[:4], pairs.predicted[:4, 0], 7
    assert model.predict(*args).shape == (4, 7, 2)
    np.testing.assert_allclose(back.predict(*args), model.predict(*args), rtol=1e-12)
    assert (back.version, back.scale, back.steps) == (model.version, model.scale, model.steps)


def test_training_again_gives_the_same_numbers(pairs):
    blink = dataclasses.replace(BLINK, trials=1)
    a, b, c = (D.learn_dynamics(pairs, "l0", blink, seed) for seed in (2, 2, 3))
    assert all(torch.equal(u, v) for u, v in zip(a.state_dict().values(), b.state_dict().values()))
    assert not np.allclose(a.latent(pairs.observed), c.latent(pairs.observed))


def test_damaged_and_foreign_files_are_refused(model, tmp_path):
    assert "does not exist" in refused(D.load_dynamics, tmp_path / "nothing")
    (tmp_path / "text").write_text("hello")
    assert "damaged" in refused(D.load_dynamics, tmp_path / "text")
    whole = D.save_dynamics(model, tmp_path / "whole").read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(D.load_dynamics, tmp_path / "half")


def test_training_refuses_what_it_cannot_use(pairs):
    assert "did you mean 'l05'" in refused(D.learn_dynamics, pairs, "l5", BLINK)
    assert "at least 6" in refused(D.learn_dynamics, pairs.select(slice(3)), "l0", BLINK)
    short = S.make_pairs(pairs.observed, pairs.predicted[:, :3])
    assert "5 training steps need 6" in refused(D.learn_dynamics, short, "l0", BLINK)


# reading


@few
@given(st.floats(-5, 5).filter(lambda s: abs(s) > 0.01), st.floats(-3, 3))
def test_calibration_is_invertible_and_finds_the_line(slope, intercept):
    p = np.linspace(-1, 1, 30)
    line = D.calibrate((p - intercept) / slope, p)
    assert (
        math.isclose(abs(line.correlation), 1, rel_tol=1e-9)
        and math.isclose(line.slope, slope, rel_tol=1e-6)
        and line.spread < 1e-9
    )
    np.testing.assert_allclose(line.to_parameter(line.to_latent(p)), p, atol=1e-12)


def test_calibration_refuses_what_has_no_line():
    assert "spread" in refused(D.calibrate, np.zeros(5), np.arange(5.0))
    assert "finite" in refused(D.calibrate, np.arange(5.0), np.full(5, np.nan))
    assert "one length" in refused(D.calibrate, np.arange(5.0), np.arange(4.0))


def test_a_known_rule_is_read_back():
    model, pairs = exact_model(), S.kinematics_pairs(12, 30)
    line = D.Calibration(3.0, -0.3, 1.0, 0.0)
    model.latent = lambda observed: line.to_latent(pairs.parameter)
    found = D.rules(model, pairs, line)
    assert max(e.faithfulness for e in found) < 1e-12
    for expr, wanted in zip(found, ({"d": 1, "v": 1, "a": 0.5}, {"d": 0, "v": 1, "a": 1})):
        for name, c in wanted.items():
            symbols = {s.name: s for s in expr.expr.free_symbols}
            value = float(expr.expr.coeff(symbols[name])) if name in symbols else 0.0
            assert abs(value - c) < 1e-6  # the weights were written in float32
    table = K.step_coefficients(model, line, K.KINEMATICS, pairs)
    assert (table["found"] - table["true"]).abs().max() < 1e-6


def test_printed_rules_are_what_the_network_computes(model, pairs):
    if model.version == "relu":
        assert "no formula" in refused(D.rules, model, pairs)
        return
    line = D.Calibration(-2.0, 0.4, 1.0, 0.0)
    for found in (D.rules(model, pairs), D.rules(model, pairs, line, "a")):
        assert len(found) == 2 and max(e.faithfulness for e in found) < 1e-5


def test_a_kind_that_is_gone_has_no_weights():
    step = harden(S.FormulaStep(trials=2, regulariser=None, seed=3)).double()
    D.silence(step, [{"sin", "product"}, set()], torch.Generator().manual_seed(0))
    assert not sp.Add(*read_expressions(step, trial=0)).has(sp.sin) and sp.Add(*read_expressions(step, trial=1)).has(
        sp.sin
    )
    assert D.kinds(step)[-1] != "identity" and "identity" not in D.kinds(step)


# results and the command line


def test_the_command_writes_a_table_and_names_mistakes(tmp_path, capsys, monkeypatch):
    task = dataclasses.replace(K.KINEMATICS, pairs=12, samples=24, ask=(1, 5, 30))
    out = tmp_path / "t.csv"
    assert K.dynamics_command(task, ["--out", str(out), "--seeds", "1", "--versions", "l0,relu", "--quick"]) == 0
    table = pd.read_csv(out)
    assert list(table["version"]) == ["l0", "relu"] and {
        "seed", "seconds", "torch", "inside_30", "outside_30", "correlation"
    } <= set(table)
    assert K.dynamics_command(task, ["--out", str(out), "--versions", "l1"]) == 2
    assert K.dynamics_command(task, ["--out", str(out), "--seeds", "0"]) == 2
    err = capsys.readouterr().err
    assert "version 'l1' is unknown" in err and "--seeds is 0" in err and "Traceback" not in err
    assert len(K.dynamics_summary(table, (5, 30))) == 2


def test_rollouts_that_overflow_are_infinite_not_nan():
    model = exact_model()
    with torch.no_grad():
        model.step.read_out.weight *= 1e30
    task = dataclasses.replace(K.KINEMATICS, ask=(1, 30))
    errors = K.rollout_errors(model, task, task.inside, 0, 10)
    assert errors[30] == math.inf and not any(math.isnan(e) for e in errors.values())
