"The transformer that proposes laws: words, canonical forms, random formulas, the paper's language."
import itertools
import random
from collections import Counter

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import parse, symbol
from symbolic_gn.nesymres import dataset
from symbolic_gn.nesymres.canonical import Vanished, canonical, renamed, skeleton
from symbolic_gn.nesymres.dataset import (
    Bank,
    draw_shard,
    exam,
    fingerprints,
    leaks,
    make_bank,
    read_bank,
    write_bank,
)
from symbolic_gn.nesymres.examples import draw_batch, standardised
from symbolic_gn.nesymres.expressions import (
    ARITY,
    END,
    LEAVES,
    NUMBER,
    PAD,
    START,
    VARIABLES,
    WORD_IDS,
    WORDS,
    as_formula,
    as_words,
    is_formula,
    next_words,
    packed,
    said,
    spelled,
    values_and_slopes,
    values_of,
)
from symbolic_gn.nesymres.original import (
    PAPER_IDS,
    fill_slots,
    number_slots,
    paper_expression,
    paper_formula,
    paper_ids,
    paper_words,
)
from symbolic_gn.nesymres.prior import (
    Prior,
    draw_row,
    draw_skeleton,
    number_places,
    skeletons,
    tree_count,
    with_numbers,
)

X = np.random.default_rng(0).uniform(0.5, 1.5, (VARIABLES, 30))
some = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10**6)


@st.composite
def rows(draw, depth=4, numbers=True):
    "A random whole formula."
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return bytes([draw(st.sampled_from(LEAVES if numbers else LEAVES[1:]))])
    word = draw(st.sampled_from([k for k in range(len(WORDS)) if ARITY[k] and k != WORD_IDS["pow"]]))
    return bytes([word]) + b"".join(draw(rows(depth - 1, numbers)) for _ in range(ARITY[word]))


def numbers_for(row, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2, list(row).count(NUMBER)).round(3)


def by_sympy(row, numbers):
    inputs, formula = [symbol(f"x_{k + 1}") for k in range(VARIABLES)], as_formula(row, numbers)
    assume(not formula.has(sp.zoo, sp.nan, sp.oo))
    with np.errstate(all="ignore"):
        values = sp.lambdify(inputs, formula, "numpy")(*X.astype(complex))
    values = np.broadcast_to(np.asarray(values, complex), X.shape[1])
    return np.where(values.imag == 0, values.real, np.nan)


# words


@given(rows(), seeds)
@some
def test_numpy_torch_and_sympy_agree(row, seed):
    numbers = numbers_for(row, seed)
    mine = values_of(packed([row]), X, numbers[None])[0]
    theirs = values_of(packed([row]), torch.tensor(X), torch.tensor(numbers[None]))[0].numpy()
    np.testing.assert_allclose(mine, theirs, rtol=1e-7)
    moved = values_of(packed([row]), X * (1 + 1e-12), numbers[None] * (1 + 1e-12))[0]  # the sine of 1e13 is chance
    steady = np.isfinite(mine) & (np.abs(mine) < 1e4) & (np.abs(mine - moved) < 1e-7)
    np.testing.assert_allclose(mine[steady], by_sympy(row, numbers)[steady], rtol=1e-4, atol=1e-5)


@given(rows(), seeds)
@some
def test_words_to_sympy_and_back(row, seed):
    formula = as_formula(row, numbers_for(row, seed))
    assume(not formula.has(sp.zoo, sp.nan, sp.oo, sp.I, sp.Abs))
    again, numbers = as_words(formula)
    assert is_formula(again) and len(numbers) == list(again).count(NUMBER)
    both = ((row, numbers_for(row, seed)), (again, numbers))
    one, two = (values_of(packed([r]), X, np.array([c]))[0] for r, c in both)
    steady = np.isfinite(one) & np.isfinite(two) & (np.abs(one) < 1e4)
    np.testing.assert_allclose(one[steady], two[steady], rtol=1e-4, atol=1e-5)


@given(st.lists(rows(), min_size=1, max_size=6), seeds)
@some
def test_slopes_are_those_of_differences(batch, seed):
    most = max(list(r).count(NUMBER) for r in batch)
    numbers = np.random.default_rng(seed).uniform(0.5, 2, (len(batch), most + 1))
    values, slopes = values_and_slopes(packed(batch), X, numbers)
    assert slopes.shape == (len(batch), most + 1, X.shape[1])
    for k in range(most + 1):
        step = np.zeros_like(numbers)
        step[:, k] = 1e-6
        up, down = (values_of(packed(batch), X, numbers + s) for s in (step, -step))
        up, down = (np.where(np.isfinite(v), v, np.nan) for v in (up, down))
        steady = np.isfinite(up) & np.isfinite(down) & (np.abs(slopes[:, k]) < 1e3) & (np.abs(values) < 1e3)
        np.testing.assert_allclose(slopes[:, k][steady], ((up - down) / 2e-6)[steady], rtol=1e-2, atol=1e-2)


def test_points_may_differ_from_formula_to_formula():
    batch, own = [spelled("sin x_1"), spelled("mul c x_2")], np.stack([X, 2 * X])
    values = values_of(packed(batch), own, np.array([[0.0], [3.0]]))
    np.testing.assert_allclose(values, [np.sin(X[0]), 6 * X[1]])
    single = values_of(packed(batch), torch.tensor(own, dtype=torch.float32), torch.tensor([[0.0], [3.0]]))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, values, rtol=1e-5)


@pytest.mark.parametrize("act, words", [
    (lambda: spelled("add x_1 y"), "'y' is unknown"), (lambda: spelled("x_4"), "'x_4' is unknown"),
    (lambda: as_formula(spelled("add x_1")), "'add x_1': is not one whole formula"),
    (lambda: as_formula(spelled("x_1 x_2")), "not one whole formula"), (lambda: as_formula(b""), "not one whole"),
    (lambda: as_formula(spelled("mul c x_1"), []), "wants 1 numbers, has 0"),
    (lambda: as_words(parse("c*x_1")), "'c' is unknown"), (lambda: as_words(sp.zoo), "no word for"),
    (lambda: as_words(parse("tanh(x_1)")), "no word for tanh"), (lambda: as_words(parse("r + x_1")), "'r' is unknown"),
    (lambda: values_of(packed([spelled("add c c")]), X, np.ones((1, 1))), "a formula has 2, 1 are given"),
    (lambda: canonical(spelled("mul x_1")), "not one whole formula"), (lambda: Prior(least=0), "from 1 on"),
    (lambda: paper_expression("__import__('os')"), ""), (lambda: paper_expression("x_4 + 1"), "'x_4' is unknown"),
    (lambda: paper_ids(sp.Symbol("x_1") ** 7), "7: is no word"), (lambda: paper_formula([1, 99, 2]), "not one whole"),
])
def test_mistakes_are_told_in_one_line(act, words):
    with pytest.raises(UserError, match=words) as caught:
        act()
    assert "\n" not in str(caught.value)


@given(seeds, st.integers(1, 20))
@some
def test_what_the_grammar_offers_is_always_a_formula(seed, longest):
    rng, row, open_ = np.random.default_rng(seed), [PAD, START], 1
    while row[-1] != END:
        fits = next_words(np.array([row[-2:]]), np.array([open_]), np.array([longest + 2 - len(row)]))[0]
        assert fits.any()
        row.append(int(rng.choice(np.flatnonzero(fits))))
        open_ += int(ARITY[row[-1]]) - 1
    inside = bytes(row[2:-1])
    assert is_formula(inside) and len(inside) <= longest and set(inside) & set(LEAVES[1:])
    pairs = list(zip(inside, inside[1:]))
    assert all(b != NUMBER or ARITY[a] != 1 for a, b in pairs)
    assert all(b == NUMBER for a, b in pairs if a == WORD_IDS["pow"])


# canonical form


@given(rows(numbers=False))
@some
def test_the_canonical_form_is_stable_and_changes_no_value(row):
    try:
        form = canonical(row)
    except Vanished:
        return
    assert canonical(form) == form and is_formula(form)
    if NUMBER in form:
        return
    before, after = (values_of(packed([r]), X)[0] for r in (row, form))
    steady = np.isfinite(before) & (np.abs(before) < 100)
    assert np.isfinite(after[steady]).all()
    off = np.abs(before[steady] - after[steady]) / (1 + np.abs(before[steady]))
    assert not len(off) or np.median(off) < 1e-6


@given(rows(depth=3))
@some
def test_the_canonical_form_with_numbers_is_stable(row):
    try:
        form = canonical(row)
        bare = skeleton(row)
    except Vanished:
        return
    assert canonical(form) == form and skeleton(bare) == bare


@given(seeds)
@some
def test_order_and_signs_do_not_matter(seed):
    rng = random.Random(seed)

    def turned(row):
        "The same formula with operands in another order."
        k, rest, operands = row[0], row[1:], []
        for _ in range(ARITY[k]):
            end = next(n for n in range(1, len(rest) + 1) if is_formula(rest[:n]))
            operands.append(turned(rest[:end]))
            rest = rest[end:]
        if k in (WORD_IDS["add"], WORD_IDS["mul"]) and rng.random() < 0.5:
            operands.reverse()
        return bytes([k]) + b"".join(operands)

    row = draw_row(rng)
    try:
        assert canonical(turned(row)) == canonical(row)
        assert skeleton(bytes([WORD_IDS["neg"]]) + row) == skeleton(row)
        assert skeleton(spelled("add c mul c") + row) == skeleton(row)
    except Vanished:
        with pytest.raises(Vanished):
            skeleton(row)


@pytest.mark.parametrize("row, form", [
    ("mul sqrt x_1 sqrt x_1", "x_1"), ("sqrt pow2 x_1", "sqrt pow2 x_1"), ("exp ln x_1", "x_1"), ("ln exp x_1", "x_1"),
    ("div exp x_1 exp x_2", "exp sub x_1 x_2"), ("cos sub x_2 x_1", "cos sub x_1 x_2"), ("inv inv x_1", "x_1"),
    ("sin sub x_2 x_1", "neg sin sub x_1 x_2"), ("pow2 neg x_1", "pow2 x_1"), ("pow c mul c x_1", "mul c pow c x_1"),
    ("sin asin x_1", "x_1"), ("sub x_1 neg x_2", "add x_1 x_2"), ("add mul c x_1 x_1", "mul c x_1"),
])
def test_rules(row, form):
    assert said(canonical(spelled(row))) == form


# random formulas


def test_trees_of_every_shape_are_drawn_alike():
    rng = random.Random(0)
    shapes = Counter("".join(str(ARITY[k]) for k in draw_row(rng, Prior(2, 2))) for _ in range(6000))
    assert len(shapes) == tree_count(1, 2) == 6
    assert max(shapes.values()) < 1.25 * min(shapes.values())


def test_the_same_seed_gives_the_same_formulas_and_none_twice():
    one, two, other = list(skeletons(200)), list(skeletons(200)), list(skeletons(200, seed=1))
    assert one == two and len(set(one)) == 200 and one != other


@given(seeds)
@some
def test_what_is_drawn_is_canonical_and_its_variables_come_in_order(seed):
    rng, prior = random.Random(seed), Prior(numbers=2, longest=20)
    row = draw_skeleton(rng, prior)
    used = {k for k in row if k in LEAVES[1:]}
    assert canonical(row) == row == skeleton(row) and len(row) <= 20
    assert used == set(LEAVES[1 : 1 + len(used)])


def test_numbers_stand_where_the_paper_puts_them():
    row = spelled("mul x_2 sin pow2 x_1")
    every = with_numbers(row, number_places(row))
    assert list(every).count(NUMBER) == len(number_places(row)) == 7
    assert is_formula(every) and said(with_numbers(row, [])) == said(row)


def test_full_formulas_have_more_numbers():
    drawn = lambda filled: [draw_skeleton(random.Random(k), filled=filled).count(NUMBER) for k in range(60)]
    assert np.mean(drawn(True)) > np.mean(drawn(False)) + 1


# the paper's language


@given(seeds)
@some
def test_paper_words_come_back(seed):
    row = draw_skeleton(random.Random(seed), Prior(numbers=0, most=4))
    names = {symbol(f"x_{k}"): paper_expression(f"x_{k}") for k in (1, 2, 3)}
    formula = as_formula(row, numbers_for(row)).xreplace(names)
    try:
        ids = paper_ids(formula)
    except UserError:
        return  # a power that the vocabulary does not have
    assert paper_ids(paper_formula(ids)) == ids and max(ids) < len(PAPER_IDS)


def test_slots_that_stay_neutral_change_nothing_and_filled_ones_are_numbers():
    wave = paper_expression("x_1*exp(x_2) - x_1**2")
    slots = number_slots(wave)
    assert sp.expand(fill_slots(slots, random.Random(0), most=0) - wave) == 0
    filled = [fill_slots(slots, random.Random(k)) for k in range(30)]
    assert {paper_words(e).count("c") for e in filled} <= {0, 1, 2, 3, 4, 5} and len(set(filled)) > 15
    assert fill_slots(slots, random.Random(5)) == fill_slots(slots, random.Random(5))


# a bank of formulas


def test_formulas_of_the_exam_are_the_same_everywhere_and_not_in_the_bank():
    kept = [e for kind in ("none", "few", "many") for e in exam(kind)]
    assert len(kept) == 600 and kept[:200] == list(exam("none", seed=2021))
    assert not any(NUMBER in e.row and e.row == e.bare for e in exam("few"))
    assert leaks([(e.bare, e.row) for e in kept]).all()
    rows, refused = draw_shard(3, 0, 1500)
    assert refused > 0 and len(set(rows)) == 1500
    assert not {e.row for e in kept} & set(rows) and not {e.bare for e in kept} & set(rows)


def test_no_order_of_the_variables_leaks():
    turned = [renamed(e.bare, order) for e in exam("few") for order in itertools.permutations(range(VARIABLES))]
    assert leaks([(row, row) for row in turned]).all()
    learned = {renamed(row, order) for row in draw_shard(5, 0, 1500)[0] for order in itertools.permutations(range(3))}
    assert not learned & {row for e in exam("none") for row in (e.bare, e.row)}


@given(seeds)
@some
def test_a_factor_an_offset_and_a_sign_have_no_fingerprint(seed):
    row = draw_skeleton(random.Random(seed), Prior(numbers=0))
    assume(NUMBER not in row)
    one, two = fingerprints([row, spelled("sub c") + row])
    size = np.abs(values_of(packed([row]), X))
    assert one == two or not one or not np.nanmax(size, initial=0) < 1e3


def test_shards_are_the_same_whoever_makes_them_and_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "SHARD", 400)
    whole = make_bank(1000, tmp_path / "a", progress=False)
    make_bank(300, tmp_path / "b", progress=False)
    (tmp_path / "b" / "bank.safetensors").unlink()
    again = make_bank("1K", tmp_path / "b", progress=False)
    np.testing.assert_array_equal(whole.words, again.words)
    files = ["bank.safetensors", "shard-00000.safetensors", "shard-00002.safetensors"]
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    (tmp_path / "b" / "shard-00001.safetensors").unlink()  # as if two processes had been interrupted
    (tmp_path / "b" / "shard-copy.safetensors").write_bytes(b"of somebody else")
    again = make_bank(1000, tmp_path / "b", progress=False)
    assert whole.words.tobytes() == again.words.tobytes() and whole.counts.tobytes() == again.counts.tobytes()
    assert whole.counts.max() > 1 and len(whole) == 1000
    assert all(canonical(whole[k]) == whole[k] for k in range(0, 1000, 50))


@pytest.mark.parametrize("spoil, words", [
    (lambda p: p.write_bytes(p.read_bytes()[:100]), "damaged one"), (lambda p: p.write_bytes(b"{}"), "damaged one"),
    (lambda p: p.unlink(), "is not there"), (lambda p: p.write_bytes(save({"words": np.zeros((2, 3))})), "damaged one"),
    (lambda p: write_bank(Bank(np.full((2, 3), 7, np.uint8), {}), p), "rows in it that are none"),
    (lambda p: write_bank(Bank(np.full((2, 3), 77, np.uint8), {}), p), "rows in it that are none"),
    (lambda p: p.write_bytes(save({"words": np.ones((2, 3))}, {"symbolic_gn.bank": "{}"})), "damaged one"),
    (lambda p: write_bank(Bank(read_bank(p).words, {}, np.zeros(1, np.uint16)), p), "rows in it that are none"),
])
def test_a_file_that_is_no_bank_is_told(tmp_path, spoil, words):
    path = write_bank(Bank(packed([spelled("sin x_1")], 4).astype(np.uint8), {}), tmp_path / "bank.safetensors")
    assert read_bank(path)[0] == spelled("sin x_1")
    spoil(path)
    with pytest.raises(UserError, match=words) as caught:
        read_bank(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["0", "-5", "1.5", "ten", "1G", "", 0])
def test_numbers_that_are_none_are_told(number, tmp_path):
    with pytest.raises(UserError, match="such as 100000, 100K or 1M"):
        make_bank(number, tmp_path)


# examples


@pytest.fixture(scope="module")
def bank():
    return Bank(packed(list(skeletons(300)), 30).astype(np.uint8), {})


def test_examples_are_clean_and_repeatable(bank):
    one, two = (draw_batch(bank, 50, np.random.default_rng(4), points=40) for _ in range(2))
    for name in ("X", "y", "known", "words"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert np.isfinite(one.X).all() and np.isfinite(one.y).all() and (one.known.mean(1) >= 0.5).all()
    assert (one.y[~one.known] == 0).all() and one.X.shape == (50, VARIABLES, 40)
    inside = [bytes(w for w in row if w > END) for row in one.words]
    assert all(is_formula(row) and canonical(row) == row for row in inside)


def test_values_are_those_of_the_formula_but_for_a_factor_and_an_offset():
    bank = Bank(packed([spelled("mul x_1 sin x_2")], 30).astype(np.uint8), {})
    b = draw_batch(bank, 20, np.random.default_rng(0), noise=0.0)
    for X, y, words in zip(b.X, b.y, b.words):
        values = values_of(packed([bytes(w for w in words if w > END)]), X)[0]
        assert abs(np.corrcoef(values, y)[0, 1]) > 1 - 1e-9


def test_columns_that_are_not_used_are_empty_unless_they_are_there_to_confuse():
    bank = Bank(packed([spelled("sin x_1")], 30).astype(np.uint8), {})
    filled = lambda spare: (draw_batch(bank, 60, np.random.default_rng(0), spare=spare).X != 0).any(2).sum(1)
    assert (filled(0.0) == 1).all() and (filled(1.0) == VARIABLES).all() and 1 < filled(0.5).mean() < VARIABLES


@given(seeds, st.floats(-50, 50), st.floats(0.01, 100))
@some
def test_standardised_values_can_be_put_back(seed, offset, scale):
    y = offset + scale * np.random.default_rng(seed).standard_cauchy((3, 41))
    z, a, b = standardised(y, np.ones_like(y, bool))
    np.testing.assert_allclose(z * b[:, None] + a[:, None], y, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(np.median(z, 1), 0, atol=1e-9)
    np.testing.assert_allclose(np.median(np.abs(z), 1), 1, rtol=1e-9)
