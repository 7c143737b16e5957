"""The equation-learner network: operations, regularisers, trials, pruning, formulas, files, and mistakes."""

import copy
import math
import warnings

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.eql.equations import (
    Equation,
    EquationFit,
    fit_equations,
    load_network,
    read_equation,
    read_expressions,
    regrow,
    save_network,
    snap_equation,
)
from symbolic_gn.eql.network import (
    BETA,
    DEFAULT_PRIMITIVES,
    EQL,
    GAMMA,
    JOINT,
    PRIMITIVES,
    ZETA,
    active_weights,
    alive_weights,
    compact,
    expected_gates,
    harden,
    layer_units,
    open_probability,
    pick_trial,
    pick_trials,
    power_primitive,
    random_gates,
    register_primitive,
    smooth_root,
)
from symbolic_gn.eql.training import (
    STAGES,
    Stage,
    finite_losses,
    learners,
    minimise,
    prune_weights,
    refit_weights,
    train_trials,
    weight_effects,
)
from symbolic_gn.laws.formula import evaluate, symbol

torch.set_num_threads(1)
QUICK = (Stage(60, 1e-2), Stage(120, 1e-2, (0.0, 1.0)), Stage(40, (1e-2, 1e-3), 1.0))
SIMPLE = {"constant": 1, "identity": 2, "square": 1, "product": 1}
few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 10_000)
ALL = {
    "constant": 1, "identity": 2, "square": 1, "power3": 1, "sin": 1, "exp": 1, "sigmoid": 1, "log": 1, "sqrt": 1,
    "product": 2, "division": 1
}


def points(rows=40, columns=2, seed=0, low=-1.0, high=1.0):
    return torch.as_tensor(np.random.default_rng(seed).uniform(low, high, (rows, columns)))


def sparse(seed, **settings):
    "A hardened network of which a tenth of the weights is left."
    net = EQL(2, seed=seed, regulariser=None, **settings).double().eval()
    g = torch.Generator().manual_seed(seed)
    for layer in net.layers:
        layer.mask.copy_(torch.rand(layer.mask.shape, generator=g) < 0.15)
    return net


# ---------------------------------------------------------------- operations

POWERS = [power_primitive(p).name for p in (3, 1.5, -1)]


def test_powers_are_known_by_their_exponent():
    assert POWERS == ["power3", "power1.5", "power-1"] and {*POWERS} <= {*PRIMITIVES}
    assert power_primitive(1.5).sympy(sp.Symbol("g")) == sp.Symbol("g") ** sp.Rational(3, 2)


@pytest.mark.parametrize("name", list(PRIMITIVES))
@given(seed=seeds)
@few
def test_torch_and_sympy_agree_on_the_safe_domain(name, seed):
    p = PRIMITIVES[name]
    args = list(points(50, max(p.arity, 1), seed, -2, 2).T)[:p.arity]
    z = sp.symbols(f"a:{p.arity}") if p.arity else ()
    ok = torch.ones(50, dtype=torch.bool) if p.inside is None else p.inside(*args) >= 0
    if p.arity == 0:
        assert p.torch() == float(p.sympy())
        return
    with np.errstate(all="ignore"):
        written = sp.lambdify(z, p.sympy(*z), "numpy")(*(a.numpy() for a in args))
    np.testing.assert_allclose(
        p.torch(*args)[ok].numpy(), np.broadcast_to(written, 50)[ok.numpy()], rtol=1e-10, atol=1e-12
    )
    assert torch.isfinite(p.torch(*args)).all()  # also outside


def test_an_operation_of_ones_own_is_one_call():
    register_primitive("half", lambda g: g / 2, lambda g: g / 2)
    try:
        net = EQL(1, layers=1, primitives={"half": 2}, regulariser=None)
        assert read_expressions(net, ["x"])[0].free_symbols == {symbol("x")}
        assert [(p.name, n) for p, n in layer_units({"half": 2})] == [("half", 2)]
    finally:
        del PRIMITIVES["half"]


def test_unsafe_arguments_cost_and_safe_ones_do_not():
    net = EQL(1, layers=1, primitives={"log": 1}, regulariser=None)
    net.hidden[0].weight.data[:] = 1.0
    net.train()
    net(torch.full((5, 1), 2.0))
    assert net.domain_penalty().tolist() == [0.0]
    net(torch.full((5, 1), -2.0))
    assert net.domain_penalty().item() == pytest.approx(2.0, abs=1e-3)


# ---------------------------------------------------------------- regularisers

def test_smooth_root_is_twice_differentiable_at_its_joint():
    for a in (0.01, JOINT, 0.3):
        w = torch.tensor([a * (1 - 1e-9), a * (1 + 1e-9)], dtype=torch.float64, requires_grad=True)
        f = smooth_root(w, a)
        d1 = torch.autograd.grad(f.sum(), w, create_graph=True)[0]
        d2 = torch.autograd.grad(d1.sum(), w)[0]
        for v in (f, d1, d2):
            assert v[0].item() == pytest.approx(v[1].item(), rel=1e-5)
        assert d1[1].item() == pytest.approx(0.5 / math.sqrt(a), rel=1e-5)


@given(w=st.floats(-3, 3))
@few
def test_smooth_root_is_even_zero_at_zero_and_grows(w):
    f = lambda v: smooth_root(torch.tensor(v, dtype=torch.float64)).item()
    assert f(0.0) == pytest.approx(0.0, abs=1e-12)
    assert f(w) == f(-w) >= -1e-12
    assert f(1.1 * abs(w)) >= f(w) - 1e-12


def test_the_floor_is_subtracted_for_the_whole_network():
    net = EQL(2, trials=2, regulariser="l05").double()
    for layer in net.layers:
        layer.weight.data[0] = 0.0
    assert net.penalty()[0].item() == pytest.approx(0.0, abs=1e-9)
    assert net.penalty()[1].item() > 10


def test_gates_are_exactly_zero_and_one_where_they_are_said_to_be():
    off = math.log(-GAMMA / ZETA)  # sigmoid(log alpha) * 1.2 - 0.1 = 0
    a = torch.tensor([off - 1e-3, off + 1e-3, -off - 1e-3, -off + 1e-3])
    gates = expected_gates(a)
    assert gates[0] == 0 and gates[1] > 0 and gates[2] < 1 and gates[3] == 1


@given(log_alpha=st.floats(-4, 4), seed=seeds)
@few
def test_the_expected_number_of_gates_is_the_share_of_open_ones(log_alpha, seed):
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(seed)).clamp(1e-6, 1 - 1e-6)
    z = random_gates(torch.tensor(log_alpha), torch.logit(u))
    assert ((z >= 0) & (z <= 1)).all()
    assert (z > 0).float().mean().item() == pytest.approx(open_probability(torch.tensor(log_alpha)).item(), abs=0.02)
    full = torch.sigmoid(torch.tensor(log_alpha - BETA * math.log((1 - GAMMA) / (ZETA - 1))))
    assert (z == 1).float().mean().item() == pytest.approx(full.item(), abs=0.02)


def test_every_layer_has_gates_and_a_price_also_the_last():
    net = EQL(2, regulariser="l0")
    assert all(layer.log_alpha is not None for layer in net.layers)
    before = net.penalty()
    net.read_out.log_alpha.data -= 5
    assert net.penalty() < before - 1


def test_random_in_training_still_outside_and_held_between_draws():
    net, x = EQL(2), points().float()
    net.train()
    a, b = net(x), net(x)
    assert torch.equal(a, b)
    net.draw()
    assert not torch.equal(a, net(x))
    net.eval()
    c = net(x)
    net.draw()
    assert torch.equal(c, net(x))


# ---------------------------------------------------------------- trials

@given(seed=seeds)
@few
def test_permuting_trials_permutes_results(seed):
    order = np.random.default_rng(seed).permutation(4).tolist()
    net, x = EQL(2, trials=4, seed=seed).eval(), points(seed=seed)
    other = pick_trials(net, order)
    assert torch.allclose(other(x), net(x)[order], rtol=1e-5, atol=1e-6)
    assert torch.allclose(other.penalty(), net.penalty()[order])
    assert other.seeds == [net.seeds[k] for k in order]
    few = EQL(2, trials=2, layers=1, primitives={"square": 1, "product": 1}, seed=seed)
    assert read_expressions(pick_trials(few, [1, 0]), None, 0) == read_expressions(few, None, 1)


def test_permuting_trials_permutes_training_and_pruning():
    x = points(60)
    y = x[:, :1] * x[:, 1:]
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        net = EQL(2, trials=3, seed=order, primitives={"identity": 1, "square": 1, "product": 1}).double()
        loss = lambda: (net(x) - y).square().mean((1, 2))
        train_trials(net, loss, QUICK, penalty=1e-3)
        prune_weights(net, loss, rows=60)
        found.append((net(x).detach(), active_weights(net)))
    assert torch.allclose(found[1][0], found[0][0][[2, 0, 1]], rtol=1e-6, atol=1e-8)
    assert torch.equal(found[1][1], found[0][1][[2, 0, 1]])


def test_a_trial_is_the_same_alone_as_among_others():
    many, x = EQL(2, trials=3, seed=[4, 9, 2]), points().float()
    alone = EQL(2, trials=1, seed=9)
    many.train(), alone.train()
    for _ in range(3):
        many.draw(), alone.draw()
        assert torch.allclose(many(x)[1:2], alone(x), rtol=1e-4, atol=1e-5)


def test_a_trial_that_overflows_begins_again_and_the_others_do_not_notice():
    x = points().float()
    y = x[:, :1] ** 2
    results = []
    for broken in (False, True):
        net = EQL(2, trials=3, seed=1)
        if broken:
            net.read_out.weight.data[1] = math.inf
        train_trials(net, lambda: (net(x) - y).square().mean((1, 2)), (Stage(30, 1e-2),))
        results.append((net(x).detach(), list(net.redraws)))
    assert results[0][1] == [1, 1, 1] and results[1][1] == [1, 2, 1]
    assert torch.isfinite(results[1][0]).all()
    assert torch.allclose(results[0][0][[0, 2]], results[1][0][[0, 2]], rtol=1e-4, atol=1e-5)


def test_when_every_trial_is_nan_one_line_says_so():
    net, x = EQL(1, trials=2), points(columns=1).float()
    with pytest.raises(UserError, match="every trial turned infinite or NaN"):
        train_trials(net, lambda: net(x).mean((1, 2)) * math.nan, (Stage(50, 1e-2),), redraws=3)


# ---------------------------------------------------------------- formulas

@given(seed=seeds, skips=st.booleans(), bias=st.booleans(), layers=st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_the_formula_is_the_network(seed, skips, bias, layers):
    net, x = sparse(seed, layers=layers, skips=skips, bias=bias, outputs=2), points(seed=seed)
    values = net(x)[0]
    assume(values.abs().max() < 1e6)
    for k, e in enumerate(read_expressions(net, ["x", "y"])):
        written = evaluate(e, {"x": x[:, 0].numpy(), "y": x[:, 1].numpy()})
        np.testing.assert_allclose(written, values[:, k].detach().numpy(), rtol=1e-7, atol=1e-9)


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_printed_equations_are_faithful(seed):
    net, x = sparse(seed), points(seed=seed).numpy()
    assume(np.abs(net(torch.as_tensor(x)).detach().numpy()).max() < 1e6)
    eq = read_equation(net, x, 0, ["x", "y"])
    snapped = snap_equation(eq, x, eq.values)
    assert eq.faithfulness <= 1e-5 and snapped.faithfulness <= 1e-5
    again = np.abs(snapped(x) - eq.values).max() / max(np.abs(eq.values).max(), 1e-12)
    assert again == pytest.approx(snapped.faithfulness, abs=1e-9)


def test_inputs_may_be_formulas():
    net = sparse(3, layers=1, primitives={"identity": 2, "product": 1})
    x, y = symbol("x"), symbol("y")
    plain = read_expressions(net, ["x", "y"])[0]
    assert sp.expand(plain.subs({x: x / 2, y: 1.0}) - read_expressions(net, [x / 2, 1.0])[0]) == 0
    with pytest.raises(UserError, match="1 given, but the network has 2 inputs"):
        read_expressions(net, ["x"])


def test_snapping_moves_only_what_the_data_do_not_notice():
    x = points(100, 1).numpy()
    eq = Equation(2.0000000001 * symbol("x") + sp.Float(1e-9), ("x",), 0.0)
    assert snap_equation(eq, x, 2 * x[:, 0]).expr == 2 * symbol("x")
    kept = Equation(sp.Float(2.003) * symbol("x"), ("x",), 0.0)
    assert float(snap_equation(kept, x, 2.003 * x[:, 0]).expr.subs(symbol("x"), 1)) == pytest.approx(2.003, abs=1e-12)


def test_an_equation_shows_itself():
    eq = Equation(sp.sin(2.00001 * sp.pi * symbol("x")), ("x",), 0.0)
    assert eq._repr_latex_().startswith("$") and "sin" in str(eq)
    assert eq.complexity > 0


# ---------------------------------------------------------------- what takes part

@given(seed=seeds, skips=st.booleans(), bias=st.booleans())
@few
def test_hardening_and_leaving_out_units_change_nothing(seed, skips, bias):
    net = EQL(2, trials=3, seed=seed, skips=skips, bias=bias).double().eval()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in net.layers:
            layer.log_alpha -= 5.0 * (torch.rand(layer.log_alpha.shape, generator=g) < 0.85)
    x = points(seed=seed)
    y, count = net(x).detach(), active_weights(net)
    size = sum(layer.weight[0].numel() for layer in net.layers)
    compact(net)
    assert torch.allclose(net(x), y, rtol=1e-9, atol=1e-9 * float(y.abs().max() + 1))
    assert torch.equal(active_weights(net), count)
    assert sum(layer.weight[0].numel() for layer in net.layers) <= size and net.penalty().tolist() == [0, 0, 0]


def test_a_weight_that_leads_nowhere_takes_no_part():
    net = EQL(1, layers=1, primitives={"identity": 2}, regulariser=None).eval()
    net.read_out.weight.data[:] = torch.tensor([[[1.0], [0.0]]])
    assert active_weights(net).tolist() == [2]
    assert [int(m.sum()) for m in alive_weights(harden(net))] == [1, 1]


@given(seed=seeds, skips=st.booleans(), bias=st.booleans())
@few
def test_regrowing_keeps_what_was_found(seed, skips, bias):
    old = compact(EQL(2, trials=2, seed=seed, skips=skips, bias=bias, regulariser=None).eval())
    g = torch.Generator().manual_seed(seed)
    for layer in old.layers:
        layer.mask.copy_(torch.rand(layer.mask.shape, generator=g) < 0.1)
    compact(old)
    new = regrow(
        EQL(2, trials=2, seed=seed + 1, skips=skips, bias=bias, init=(1e-12, 1e-12, 1e-12), regulariser="l05").eval(),
        old,
    )
    x = points(seed=seed)
    assert torch.allclose(new(x), old(x), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- training, refitting, pruning

def test_a_stage_ramps():
    s = Stage(101, (1e-2, 1e-4), (0.0, 2.0))
    assert s.at(0) == (1e-2, 0.0) and s.at(100) == (pytest.approx(1e-4), 2.0)
    assert s.at(50)[0] == pytest.approx(1e-3) and s.at(50)[1] == 1.0
    assert set(STAGES) == {"l0", "l05", None}


@given(seed=seeds)
@settings(max_examples=4, deadline=None)
def test_lbfgs_solves_many_problems_at_once(seed):
    g = torch.Generator().manual_seed(seed)
    a = torch.rand(5, 6, 6, generator=g, dtype=torch.float64)
    a = a @ a.mT + 0.1 * torch.eye(6, dtype=torch.float64)
    b = torch.rand(5, 6, generator=g, dtype=torch.float64)

    def value(x):
        ax = (a @ x[:, :, None])[:, :, 0]
        return 0.5 * (x * ax).sum(1) - (b * x).sum(1), ax - b

    x, _ = minimise(value, torch.zeros(5, 6, dtype=torch.float64), 200)
    assert torch.allclose(x, torch.linalg.solve(a, b), rtol=1e-4, atol=1e-5)


def test_pruning_leaves_the_law_and_its_effects_are_right():
    x = points(80)
    y = x[:, :1] ** 2 - 0.5 * x[:, 1:]
    net = EQL(2, layers=1, trials=2, primitives={"identity": 2, "square": 2}, regulariser=None, seed=3).double()
    loss = lambda: (net(x) - y).square().mean((1, 2))
    assert (refit_weights(net, loss, 400) < 1e-12).all()
    after, places = weight_effects([net], loss)
    by_hand = copy.deepcopy(net)
    flat = torch.cat([layer.mask.reshape(2, -1) for layer in by_hand.layers], 1)
    flat[1, places[0, 1]] = 0
    for layer, part in zip(by_hand.layers, flat.split([layer.mask[0].numel() for layer in by_hand.layers], 1)):
        layer.mask.copy_(part.reshape(layer.mask.shape))
    assert after[0, 1].item() == pytest.approx((by_hand(x) - y).square().mean((1, 2))[1].item(), rel=1e-9)
    prune_weights(net, loss, rows=80)
    assert (finite_losses(loss) < 1e-10).all() and (active_weights(net) <= 4).all()
    assert read_equation(net, x.numpy(), 0, ["x", "y"]).faithfulness < 1e-9


def test_modules_around_the_network_are_trained_too():
    encoder, net, x = torch.nn.Linear(3, 1), EQL(1, layers=1), points(50, 3).float()
    y = x.sum(1, keepdim=True)
    before = encoder.weight.detach().clone()
    train_trials(net, lambda: (net(encoder(x)) - y).square().mean((1, 2)), (Stage(20, 1e-2),), extra=[encoder])
    assert not torch.equal(before, encoder.weight) and not encoder.training
    two = EQL(1, trials=2)
    with pytest.raises(UserError, match="no axis for 2 trials"):
        train_trials(two, lambda: two(encoder(x)).square().mean((1, 2)), (Stage(2, 1e-2),), extra=[encoder])


def test_learners_are_found_wherever_they_are():
    holder = torch.nn.ModuleDict({"a": EQL(1), "b": EQL(2)})
    assert len(learners(holder)) == 2 and len(learners([EQL(1), holder])) == 3
    with pytest.raises(UserError, match="holds no EQL"):
        learners(torch.nn.Linear(1, 1))
    with pytest.raises(UserError, match="differ in their number of trials"):
        learners([EQL(1), EQL(1, trials=2)])


# ---------------------------------------------------------------- the whole recipe

def test_a_table_gives_an_equation():
    x = points(100).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit_equations(
            x, x[:, 0] ** 2 + x[:, 1], symbols=["x", "y"], trials=3, stages=QUICK, rounds=2, primitives=SIMPLE
        )
    assert sp.expand(found.best.expr - symbol("x") ** 2 - symbol("y")) == 0
    assert all(e.faithfulness <= 1e-5 for e in found.equations) and len(found.front) >= 1
    assert found.trials == [0, 1, 2] and found.validation[found.order[0]] < 1e-10


def test_a_constant_target_is_a_number_and_a_warning():
    x = points(40, 1).numpy()
    with pytest.warns(UserWarning, match="the target is constant"):
        found = fit_equations(x, np.full(40, 2.5), trials=2, stages=QUICK, rounds=1, primitives=SIMPLE)
    np.testing.assert_allclose(found.best(x), 2.5, rtol=1e-5)


@pytest.mark.parametrize(("change", "says"), [
    (dict(primitives={"sqare": 1}), "primitive 'sqare' is unknown, did you mean 'square'"),
    (dict(primitives={}), "none given"),
    (dict(primitives={"square": -1}), "must be a whole number, 0 or more"),
    (dict(regulariser="l2"), "regulariser 'l2' is unknown"),
    (dict(layers=0), "layers is 0"),
    (dict(trials=0), "trials is 0"),
])
def test_wrong_settings_are_told_in_one_line(change, says):
    with pytest.raises(UserError, match=says) as error:
        fit_equations(points(30).numpy(), np.arange(30.0), **change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("x", "y", "says"), [
    ([[1.0]], [1.0], r"1 sample\(s\) are too few"),
    (np.ones((30, 2)), np.full(30, np.nan), "must be finite"),
    (np.full((30, 2), np.inf), np.ones(30), "must be finite"),
    (np.ones((30, 2)), np.ones(29), r"x has shape \(30, 2\) and y \(29,\)"),
])
def test_wrong_data_are_told_in_one_line(x, y, says):
    with pytest.raises(UserError, match=says):
        fit_equations(x, y)


def test_seeds_must_fit_the_trials():
    with pytest.raises(UserError, match="2 seeds given for 3 trials"):
        EQL(1, trials=3, seed=[1, 2])
    with pytest.raises(UserError, match="trial 5 does not exist"):
        pick_trial(EQL(1), 5)
    assert EQL(1, trials=2, seed=7).seeds == [7, 8]


def test_outside_a_safe_domain_a_warning_says_so_and_the_equation_comes_last():
    net = EQL(1, layers=1, primitives={"log": 1}, regulariser=None)
    with pytest.warns(UserWarning, match="leaves the safe domain"):
        eq = read_equation(net, [[-1.0], [1.0]])
    assert eq.faithfulness == math.inf
    good = Equation(symbol("x0"), ("x0",), 0.0)
    assert EquationFit([net, net], [eq, good], np.array([0.0, 0.5]), [1, 1], [0, 1]).best is good


def test_logarithms_and_roots_can_be_learned_with():
    x = points(60, 1).numpy()
    primitives = {"identity": 1, "constant": 1, "log": 1, "sqrt": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit_equations(x, np.log(x[:, 0] + 1.5), trials=1, stages=QUICK, rounds=1, primitives=primitives)
    assert np.isfinite(found.validation).all() and len(found.equations) == 1


# ---------------------------------------------------------------- files

@given(
    seed=seeds, regulariser=st.sampled_from(["l0", "l05", None]), skips=st.booleans(), double=st.booleans(),
    small=st.booleans(),
)
@few
def test_saved_and_loaded_networks_agree(tmp_path_factory, seed, regulariser, skips, double, small):
    net = EQL(2, 2, trials=2, regulariser=regulariser, skips=skips, seed=seed, primitives=ALL)
    if double:
        net.double()
    if small:
        compact(net)
    again, x = (
        load_network(save_network(net.eval(), tmp_path_factory.mktemp("n") / "net.safetensors")),
        points(seed=seed, low=0.1)
    )
    assert torch.allclose(net(x).nan_to_num(), again(x).nan_to_num(), rtol=1e-6, atol=1e-9)
    assert (
        again.dtype == net.dtype
        and again.regulariser == net.regulariser
        and torch.allclose(again.penalty(), net.penalty())
    )


def test_files_that_are_something_else_are_named(tmp_path):
    (tmp_path / "a").write_bytes(b"nonsense that is longer than eight bytes")
    for name in ("a", "b"):
        with pytest.raises(UserError, match=f"{name} is no saved equation learner"):
            load_network(tmp_path / name)


def test_the_default_layer_is_that_of_the_paper():
    net = EQL(1, regulariser=None)
    assert DEFAULT_PRIMITIVES == {
        "constant": 2, "identity": 4, "square": 4, "sin": 2, "exp": 2, "sigmoid": 2, "product": 2
    }
    assert net.hidden[0].outputs == 18 and JOINT == 0.05
