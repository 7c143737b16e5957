"The transformer that proposes laws: networks, training, files, decoding and fits."
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from symbolic_gn.cli import main
from symbolic_gn.core.errors import UserError
from symbolic_gn.nesymres.checkpoint import convert_checkpoint, load_paper_network, read_checkpoint
from symbolic_gn.nesymres.dataset import Bank
from symbolic_gn.nesymres.decoding import decode, shaken
from symbolic_gn.nesymres.examples import draw_batch
from symbolic_gn.nesymres.expressions import NUMBER, WORD_IDS, is_formula, packed, said, spelled, values_of
from symbolic_gn.nesymres.fitting import fit_rows
from symbolic_gn.nesymres.paper_network import PaperNetwork, PaperShape, bit_features, half_bits
from symbolic_gn.nesymres.prior import Prior, skeletons
from symbolic_gn.nesymres.training import (
    TrainingSettings,
    TrainingState,
    as_tensors,
    parted,
    read_proposer,
    ship,
    train_proposer,
    write_proposer,
)
from symbolic_gn.nesymres.transformer import NetworkShape, Proposer

TINY = NetworkShape(width=32, heads=2, encoder_layers=1, inducing=8, seeds=4, decoder_layers=2)
SHORT = TrainingSettings(steps=12, batch=16, points=(8, 20), warmup=4, check_every=4, keep_every=8, kept=50, rate=3e-3)
LITTLE = PaperShape(width=32, heads=2, readers=1, writers=2, inducing=6, seeds=3)
ALIEN = {"a": torch.zeros(2)}
some = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module")
def bank(): return Bank(packed(list(skeletons(400, Prior(most=4))), 30).astype(np.uint8), {"seed": 0, "prior": {}})


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Proposer(TINY).eval()


@pytest.fixture(scope="module")
def vectors(network, bank):
    X, y, known, _ = as_tensors(draw_batch(bank, 4, np.random.default_rng(0), 30))
    with torch.no_grad():
        return network.encoder(X, y, known)


# networks


def test_points_have_no_order_and_unknown_ones_do_not_count(network, bank):
    X, y, known, words = as_tensors(draw_batch(bank, 6, np.random.default_rng(1), 40))
    known = known.clone()
    known[:, :5] = False
    order = torch.randperm(40)
    with torch.no_grad():
        scores = network(X, y, known, words)
        turned = network(X[..., order], y[:, order], known[:, order], words)
        cut = network(X[..., 5:], y[:, 5:], known[:, 5:], words)
    torch.testing.assert_close(scores, turned, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(scores, cut, atol=1e-4, rtol=1e-3)


def test_a_word_does_not_see_those_after_it(network, vectors):
    words = torch.randint(3, 20, (4, 8))
    other = words.clone()
    other[:, 5:] = 3
    with torch.no_grad():
        torch.testing.assert_close(network.decoder(words, vectors)[:, :5], network.decoder(other, vectors)[:, :5])


@pytest.mark.parametrize("sizes", [dict(width=30, heads=4), dict(heads=0), dict(decoder_layers=0), dict(seeds=-1)])
def test_sizes_that_cannot_be_are_told(sizes):
    with pytest.raises(UserError, match="at least 1"):
        NetworkShape(**sizes)


@given(st.floats(2.0**-14, 6e4) | st.floats(-6e4, -0.002))
@some
def test_bits_are_those_of_a_number_cut_to_ten_digits(value):
    sign, *rest = half_bits(torch.tensor(value, dtype=torch.float32)).tolist()
    number = lambda bits: int("".join(map(str, bits)), 2)
    size = 2.0 ** (number(rest[:5]) - 15) * (1 + number(rest[5:]) / 1024)
    assert sign == (value < 0) and size <= abs(np.float32(value)) < size * (1 + 2**-9)


def test_the_papers_network_is_as_large_as_theirs():
    with torch.device("meta"):
        large, middle = PaperNetwork(), PaperNetwork(PaperShape(readers=2, writers=2))
    assert [sum(p.numel() for p in n.parameters()) for n in (large, middle)] == [26_395_708, 12_113_980]
    assert len(large.state_dict()) == 259 and large.enc.selfatt1.mab1.fc_q.weight.shape == (512, 64)
    assert set(bit_features(torch.randn(1, 3, 4)).unique().tolist()) == {-1.0, 1.0}


# decoding


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("longest", [1, 3, 12])
def test_every_formula_is_one_and_none_comes_twice(network, vectors, seed, longest):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for view in decode(network, vectors, 10, generator, longest=longest):
        assert all(is_formula(row) and len(row) <= longest for row, _ in view)
        assert len({row for row, _ in view}) == len(view) > 0


def test_only_words_that_are_allowed(network, vectors):
    drawn = decode(network, vectors, 20, torch.Generator().manual_seed(0), [WORD_IDS["add"], WORD_IDS["mul"]])
    used = {w for view in drawn for row, _ in view for w in said(row).split()}
    assert used <= {"add", "mul", "c", "x_1", "x_2", "x_3"}


def test_a_shaken_beam_draws_by_probability(network, vectors):
    likely = {row for row, _ in decode(network, vectors[:1], 4)[0]}
    drawn = [decode(network, vectors[:1], 4, torch.Generator().manual_seed(k), longest=6)[0] for k in range(5)]
    assert len({row for view in drawn for row, _ in view}) > 5 and likely
    scores = shaken(torch.full((1, 3), -torch.inf), torch.zeros(1), torch.Generator())
    assert torch.isinf(scores).all()


# fits


@pytest.mark.parametrize("seed", range(12))
def test_numbers_factor_and_offset_come_back(seed):
    rng = np.random.default_rng(seed)
    X, c = rng.uniform(0.5, 3, (3, 60)), rng.uniform(0.5, 2)
    row = spelled("mul x_2 exp mul c x_1")
    y = 3 * np.asarray(values_of(packed([row]), X, np.array([[-c]])))[0] - 4
    (found,) = fit_rows([row], X, y, rng)
    assert found.left < 1e-15
    np.testing.assert_allclose([*found.numbers, found.factor, found.offset], [-c, 3, -4], rtol=1e-5)


def test_rows_without_weight_do_not_decide():
    X = np.random.default_rng(0).uniform(0.5, 3, (3, 60))
    y, w = X[0] ** 2.2, np.ones(60)
    y[::6], w[::6] = 1e3, 0
    (found,) = fit_rows([spelled("pow c x_1")], X, y, np.random.default_rng(0), w)
    assert abs(found.numbers[0] - 2.2) < 1e-6


@pytest.mark.parametrize("size", [0, 1e-300, 1e300])
@pytest.mark.parametrize("shape", [np.ones(20), np.linspace(-1, 1, 20)])
def test_values_of_any_size_are_no_fault(size, shape):
    y = size * shape
    X = np.random.default_rng(0).uniform(0.5, 3, (3, 20))
    found = fit_rows([spelled("pow c x_1"), spelled("x_2")], X, y, np.random.default_rng(0))
    assert len(found) == 2 and NUMBER in found[0].row


# training and files


def test_stopped_and_resumed_is_the_same_file(bank, tmp_path):
    train_proposer(bank, tmp_path / "whole", TINY, SHORT, progress=False)
    for _ in range(3):
        train_proposer(bank, tmp_path / "parts", TINY, SHORT, minutes=1e-6, progress=False)  # a step each
    train_proposer(bank, tmp_path / "parts", TINY, SHORT, progress=False)
    for name in ("network", "network-8"):
        whole, parts = ((tmp_path / f / f"{name}.safetensors").read_bytes() for f in ("whole", "parts"))
        assert whole == parts
    longer = replace(SHORT, steps=20)
    with pytest.raises(UserError, match="begun to cool down"):
        train_proposer(bank, tmp_path / "whole", TINY, longer, progress=False)
    other = Bank(bank.words[::-1].copy(), bank.facts)
    with pytest.raises(UserError, match="another bank"):
        train_proposer(other, tmp_path / "whole", TINY, SHORT, progress=False)


def test_compiled_steps_are_the_same_steps(bank, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("torch.compile", lambda network, **how: asked.append(how) or network)
    for compiled in (False, True):
        train_proposer(bank, tmp_path / str(compiled), TINY, SHORT, compiled=compiled, progress=False)
    plain, fast = ((tmp_path / str(c) / "network.safetensors").read_bytes() for c in (False, True))
    assert asked == [{"dynamic": True}] and plain == fast


def cli(arguments: list[str]) -> int:
    "The exit code of a command."
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code


def test_the_commands_hand_on_what_is_asked(tmp_path, monkeypatch, capsys):
    told = {}
    monkeypatch.setattr("symbolic_gn.nesymres.dataset.make_bank", lambda *a: told.update(data=a) or [0] * 7)
    monkeypatch.setattr("symbolic_gn.nesymres.dataset.read_bank", lambda path: path)
    monkeypatch.setattr("symbolic_gn.nesymres.training.train_proposer", lambda *a, **how: told.update(train=how))
    assert cli(["nesymres", "data", "--number", "2K", "--constants", "5", "--out", str(tmp_path)]) == 0
    assert told["data"] == ("2K", tmp_path, Prior(numbers=5), 0, 1) and "7 formulas" in capsys.readouterr().out
    assert cli(["nesymres", "train", str(tmp_path), "--out", str(tmp_path), "--steps", "9", "--compile"]) == 0
    assert told["train"]["compiled"] and told["train"]["settings"].steps == 9
    assert cli(["nesymres", "data", "--number", "2K", "--constants", "-1", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("constants is -1") == 1


def test_a_card_tells_the_command(bank, tmp_path):
    train_proposer(bank, tmp_path, TINY, SHORT, progress=False)
    command = ship(tmp_path, bank, tmp_path / "out")["command"]
    assert f"--number {len(bank)}" in command and f"--steps {SHORT.steps}" in command and "--set kept=" in command


def test_level_training_may_become_longer(bank, tmp_path):
    train_proposer(bank, tmp_path, TINY, SHORT, minutes=1e-6, progress=False)
    train_proposer(bank, tmp_path, TINY, replace(SHORT, steps=8), progress=False)
    assert read_proposer(tmp_path / "network.safetensors")[1]["step"] == 8


@pytest.mark.parametrize("wrong", [dict(steps=0), dict(batch=0), dict(points=(5, 2)), dict(cooling=2.0)])
def test_settings_that_cannot_be_are_told(wrong):
    with pytest.raises(UserError, match="must be|at least 1|the fewest"):
        TrainingSettings(**wrong)


def test_a_device_that_is_not_there_is_told(bank, tmp_path):
    with pytest.raises(UserError, match="'moon' is not here"):
        train_proposer(bank, tmp_path, TINY, SHORT, device="moon", progress=False)


def test_what_is_learned_and_what_is_kept_out_are_the_whole_bank(bank):
    counts = np.arange(1, len(bank) + 1, dtype=np.uint16)
    counted = Bank(bank.words, bank.facts, counts)
    learned, kept = parted(counted, SHORT)
    count_of = {bank[k]: int(counts[k]) for k in range(len(bank))}
    for part in (learned, kept):
        assert all(part.counts[k] == count_of[part[k]] for k in range(len(part)))
    short = {row for row in count_of if len(row) <= SHORT.longest}
    rows = [part[k] for part in (learned, kept) for k in range(len(part))]
    assert len(kept) == SHORT.kept and len(rows) == len(short) and set(rows) == short


def test_a_bank_that_is_too_small_is_told(bank):
    with pytest.raises(UserError, match="too few"):
        parted(bank, replace(SHORT, kept=1000))


@pytest.mark.parametrize("spoil, words", [
    (lambda p: p.write_bytes(p.read_bytes()[:900]), "damaged"), (lambda p: p.unlink(), "is not there"),
    (lambda p: p.write_bytes(b"no network"), "damaged"), (lambda p: p.write_bytes(save(ALIEN)), "damaged"),
    (lambda p: p.write_bytes(save(ALIEN, {"symbolic_gn.network": "{}"})), "hash"),
    (lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\x01"), "hash"),
])
def test_a_file_of_weights_with_a_fault_is_told(network, tmp_path, spoil, words):
    sha = write_proposer(network, tmp_path / "network.safetensors", {"step": 1})
    again, facts = read_proposer(tmp_path / "network.safetensors", sha)
    assert facts["step"] == 1 and again.shape == network.shape
    spoil(tmp_path / "network.safetensors")
    with pytest.raises(UserError, match=words) as caught:
        read_proposer(tmp_path / "network.safetensors", sha)
    assert "\n" not in str(caught.value)


def test_weights_of_something_else_are_told(tmp_path):
    (tmp_path / "n").write_bytes(save(ALIEN, {"symbolic_gn.network": "{}"}))
    with pytest.raises(UserError, match="does not fit"):
        read_proposer(tmp_path / "n")


def test_shipping_nothing_is_told(bank, tmp_path):
    with pytest.raises(UserError, match="is not there"):
        ship(tmp_path, bank, tmp_path / "out")


def test_a_new_state_has_nothing_to_remember(bank):
    state = TrainingState(TINY, SHORT, bank)
    assert state.facts["step"] == 0 and not [n for n in state.tensors() if n.startswith("exp_avg")]


# checkpoints


class Lightning:
    "Stands for a class of a package that is not installed."


class Evil:
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.system, (f"touch {self.path}",)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    content = {
        "epoch": 3, "pytorch-lightning_version": "1.3.3", "state_dict": PaperNetwork(LITTLE).state_dict(),
        "callbacks": {Lightning: {"best_model_score": torch.tensor(0.4)}}, "optimizer_states": [], "lr_schedulers": [],
    }
    torch.save(content, tmp_path / "10M.ckpt")
    return tmp_path / "10M.ckpt", content


def test_weights_of_a_checkpoint_are_those_that_were_saved(checkpoint, tmp_path):
    path, content = checkpoint
    network = load_paper_network(path, heads=2)
    assert network.shape == LITTLE
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, content["state_dict"][name])
    assert convert_checkpoint(path, tmp_path / "out.safetensors").stat().st_size > 0


@pytest.mark.parametrize("where", ["callbacks", "epoch", "state_dict"])
def test_a_checkpoint_that_wants_to_run_something_is_refused_and_runs_nothing(checkpoint, tmp_path, where):
    path, content = checkpoint
    torch.save(content | {where: {"x": Evil(tmp_path / "was_run")}}, path)
    with pytest.raises(UserError, match="refused|no state_dict"):
        read_checkpoint(path)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("spoil, words", [
    (lambda p: p.write_bytes(p.read_bytes()[:3000]), "damaged"), (lambda p: p.write_text("hello"), "damaged"),
    (lambda p: p.unlink(), "is not there"), (lambda p: torch.save({"state_dict": {}}, p), "no state_dict"),
    (lambda p: torch.save([1], p), "no state_dict"),
])
def test_a_checkpoint_with_a_fault_is_told(checkpoint, spoil, words):
    path, _ = checkpoint
    spoil(path)
    with pytest.raises(UserError, match=words) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
