"Laws that are none: what hangs, overflows or is nonsense is refused in one line, and what is accepted comes back."

import contextlib
import json
import math
import signal
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from symbolic_gn.core.errors import UserError
from symbolic_gn.laws.formula import evaluate, parse, symbol, tidy, written
from symbolic_gn.laws.law import Law

r, m_i, q_i, dx, dy = map(symbol, ["r", "m_i", "q_i", "dx", "dy"])
NAMES = ["r", "m_i", "m_j", "q_i", "q_j"]


@contextlib.contextmanager
def no_hang(seconds: int = 60):
    "What would never end is ended."
    if not hasattr(signal, "setitimer"):
        yield
        return

    def too_long(*_):
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def refused(make, *words) -> str:
    "The one line with which something is refused."
    with no_hang(), pytest.raises(UserError) as caught:
        make()
    line = str(caught.value)
    assert "\n" not in line and len(line) < 600
    assert all(word in line for word in words), line
    return line


def towers(name: str, inner: str, high: int = 30) -> str:
    return f"{name}(" * high + inner + ")" * high


# formulas


ENDLESS = [
    "pow(9,99999999)",
    towers("square", "2"),
    towers("square", "r"),
    towers("cube", "3"),
    towers("exp", "9", 4),
    "Max(" + ",".join(f"sin({k}*r)" for k in range(100)) + ")",
    "Min(" + ",".join(f"r**{k}*q_i" for k in range(90)) + ")",
    "((9**64)**64)**64",
    "2**2**2**2**2",
    "((r + 1)**64)**64",
    "((sqrt(2)*r)**99)**99",
    "exp(1000*r/r)",
    "r**101",
    "1e200*r*1e200",
    "1e-308*1e-308",
    "1e-320*r",
    "exp(99999)",
    "sinh(1e9)*r",
    towers("sin", "r", 90),
    "9**0.5**-9",
]
UNREAL = [
    "asin(2)*r",
    "acos(5)*r",
    "acosh(0)*r",
    "sqrt(-r)",
    "(-8)**(1/3)",
    "r/(0*r)",
    "0**-1",
    "tan(pi/2)",
    "r<1",
    "True",
    "r == 1",
    "Eq(r, 1)",
    "(r > 1) & (r < 2)",
    "()",
    "((r,),)",
    "(r, r > 1)",
    "Max()",
    "IF(r,r,r)",
    "IF(r > 1, r > 2, r)",
    "pow(r,r,r)",
    "sqrt(r,2)",
    "abs(r, r)",
    "atan2(r)",
    "Piecewise((r, r))",
    "~r",
    "r & q_i",
    "(r > 1) & q_i",
    "sin(r > 1)",
    "r + True",
    "erf(r)",
    "besselj(1, r)",
    "gamma(r)",
    "lambda*r",
    "a b",
]


@pytest.mark.parametrize("text", ENDLESS + UNREAL)
def test_formulas_without_end_or_sense_are_refused_at_once(text):
    told = lambda text: Law.from_json(stored(text))
    for ask, said in ((parse, "formula: "), (Law.of, "formula: "), (told, "law: formula: ")):
        assert said in refused(lambda ask=ask: ask(text))


@pytest.mark.parametrize(
    "text", ["log(-r)", "sqrt(-1 - q_i**2)", "asin(2 + r)", "exp(900 + r)", "acos(1.5 + q_i**2)/r"]
)
def test_a_law_is_a_finite_number_somewhere(text):
    assert "no finite real number" in refused(lambda: Law.of(text))


@pytest.mark.parametrize(
    "text", ["sqrt(r - 1e9)", "log(r - 3)", "asin(q_i)", "1/(r - 1)", "sqrt(q_i - q_j)", "r**-100"]
)
def test_a_law_may_be_undefined_in_most_places(text):
    assert Law.from_json(Law.of(text).to_json()).sympy == Law.of(text).sympy


def test_long_sums_are_no_deep_ones():
    terms = [f"{k + 0.5}*r**{k % 60}*m_i**{k // 60}" for k in range(130)]
    law = Law.of("+".join(terms))
    assert len(law.expr.args) == 130 and Law.from_json(law.to_json()).expr == law.expr
    assert parse("*".join(["r"] * 90)) == r**90 and parse("-".join(["r"] * 400)) == -398 * r


def test_expansion_of_steep_sums_is_not_tried():
    steep = parse("(1 + r + m_i + q_i + q_j)**64*(r - q_i)**60")
    with no_hang():
        assert tidy(steep) == steep


# what SymPy has, and text can say


HAVE = [
    r**100,
    sp.Piecewise((r, (r > 1) & (r < 2)), (2 * r, True)),
    sp.Piecewise((r, (r < 1) | (q_i > 2)), (0, True)),
    sp.Piecewise((r, sp.Ne(r, 1)), (0, True)),
    sp.Piecewise((r, sp.Eq(q_i, 1)), (0, True)),
    sp.Heaviside(r - 1),
    sp.floor(r),
    sp.ceiling(r),
    sp.sec(r),
    sp.csc(r),
    sp.cot(r),
    sp.coth(r),
    sp.sech(r),
    sp.csch(r),
    sp.asinh(r),
    sp.acosh(r),
    sp.atanh(q_i),
    sp.atan2(q_i, r),
    sp.exp(1) * r,
    sp.pi * r,
    sp.exp(r) ** sp.Rational(1, 3),
    10**20 * r,
    sp.Integer(10) ** 40 * r,
    sp.Rational(10**18 + 1, 7) * r,
    r ** sp.Rational(1, 7),
    sp.Abs(q_i),
    sp.sign(q_i),
    sp.Float("0.1234567890123456789", 30) * r,
    sp.Mul(2, r + 1, evaluate=False),
    sp.Symbol("r") + sp.Symbol("spin_i"),
    sp.Max(r, 1, q_i),
    sp.Not(r > 1, evaluate=False) and sp.Piecewise((q_i, ~(r > 1)), (r, True)),
    sp.log(r, 2),
]
HAVE_NOT = [
    sp.besselj(1, r),
    sp.erf(r),
    sp.gamma(r),
    sp.Symbol("lambda") * r,
    sp.Symbol("two words") * r,
    sp.Symbol("_x"),
    sp.zoo,
    sp.oo,
    sp.nan,
    sp.I * r,
    sp.Symbol("E") * r,
    sp.Symbol("pi") + r,
    r > 1,
    sp.true,
    sp.Function("f")(r),
    sp.Integral(r, r),
    r**1000,
    sp.Matrix([1, 2]),
    sp.Derivative(sp.Function("f")(r), r),
    None,
    [1],
    np.ones(3),
    True,
    {"r": 1},
    b"r",
    1j,
]


@pytest.mark.parametrize("expr", HAVE, ids=str)
def test_what_a_law_is_made_of_is_written_and_read(expr):
    law = Law.of(expr)
    copy = Law.from_json(law.to_json())
    assert copy.expr == law.expr and copy.sympy == law.sympy and copy.to_json() == law.to_json()
    wanted = [complex(expr.subs({s: 0.3 + 0.21 * k for s in expr.free_symbols}).evalf()) for k in range(1, 4)]
    found = evaluate(copy.sympy, {n: np.array([0.51, 0.72, 0.93]) for n in law.inputs})
    real = [abs(w.imag) < 1e-12 for w in wanted]
    np.testing.assert_allclose(found[real], np.real(wanted)[real], rtol=1e-9)


@pytest.mark.parametrize("name", "sec csc cot sech csch asinh atanh floor ceiling Heaviside".split())
def test_every_library_knows_the_functions(name):
    import jax.numpy as jnp
    import torch

    law, values = Law.of(getattr(sp, name)(q_i)), np.linspace(0.2, 0.9, 9)
    for form, array in ((law.torch(), torch.tensor), (law.jax(), jnp.asarray)):
        np.testing.assert_allclose(np.asarray(form(array(values))), law.numpy()(values), rtol=1e-5)


@pytest.mark.parametrize("expr", HAVE_NOT, ids=str)
def test_what_cannot_be_written_is_no_law(expr):
    assert "formula: " in refused(lambda: Law.of(expr))


def test_the_same_holds_for_a_law_that_is_put_together():
    for wrong in (sp.zoo, r > 1, sp.besselj(1, r), sp.Tuple(), r**200):
        assert "formula: " in refused(lambda wrong=wrong: Law(wrong))
    assert "'c0' has no value" in refused(lambda: replace(Law.of("2*r"), constants={}))


# random laws


number = st.floats(-1e6, 1e6, allow_subnormal=False).filter(lambda v: abs(v) > 1e-9)
LEAVES = st.one_of(st.sampled_from(NAMES), number.map(repr), st.integers(-20, 20).map(str))
CONDITIONS = st.tuples(st.sampled_from(NAMES), st.sampled_from(["<", "<=", ">", ">="]), number).map(
    lambda t: f"{t[0]} {t[1]} {t[2]!r}"
)
RANDOM = st.recursive(
    LEAVES,
    lambda e: st.one_of(
        st.tuples(e, st.sampled_from("+-*/"), e).map(lambda t: f"({t[0]} {t[1]} ({t[2]}))"),
        st.tuples(e, e, e).map(lambda t: f"(({t[0]})*({t[1]})*({t[2]}))"),
        st.tuples(st.sampled_from("sqrt exp log sin cos tanh abs sign inv neg square floor asinh sec".split()), e).map(
            lambda t: f"{t[0]}({t[1]})"
        ),
        st.tuples(e, st.sampled_from(["2", "3", "-1", "-2", "0.5", "1.7", "1/3"])).map(
            lambda t: f"(({t[0]})**({t[1]}))"
        ),
        st.tuples(CONDITIONS, e, e).map(lambda t: f"IF({t[0]}, {t[1]}, {t[2]})"),
        st.tuples(CONDITIONS, CONDITIONS, e).map(lambda t: f"Piecewise(({t[2]}, ({t[0]}) & ({t[1]})), (0, True))"),
        st.tuples(st.sampled_from(["Max", "Min"]), e, e).map(lambda t: f"{t[0]}({t[1]}, {t[2]})"),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(RANDOM, st.integers(0, 99))
def test_random_laws_are_written_and_read_again(text, seed):
    try:
        law = Law.of(text)
    except UserError as e:
        assert "\n" not in str(e)
        return
    copy = Law.from_json(law.to_json())
    assert copy == replace(law, constants=copy.constants) and copy.to_json() == law.to_json()
    assert [v for v, _ in copy.constants.values()] == [v for v, _ in law.constants.values()]
    assert written(copy.sympy) == written(law.sympy)
    rng = np.random.default_rng(seed)
    inputs = {n: rng.uniform(0.5, 2, 20) for n in NAMES}
    np.testing.assert_array_equal(evaluate(copy.sympy, inputs), evaluate(law.sympy, inputs))
    again = parse(written(law.sympy), as_written=True)
    np.testing.assert_allclose(evaluate(again, inputs), evaluate(law.sympy, inputs), rtol=1e-9)


# files


def stored(expr: str = "c0*r", **changes) -> dict:
    "A law as a file holds it, with changes."
    constants = {"c0": [2.0, None]} if "c0" in expr else {}
    law = dict(
        format="symbolic_gn law 1", expr=expr, target="force", mixing=None, units={}, constants=constants, provenance={}
    )
    return law | changes


MIXED = dict(expr="(dx, dy)", constants={}, mixing=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
FAULTS = {
    "constants: 'c0' has no value": [dict(constants={}), dict(expr="c0*c9*r", constants={"c9": [1, None]})],
    "unknown; choose from push_x": [
        dict(constants={"c0": [1, None], "r": [2, None]}),
        dict(constants={"c0": [1, None], "m_i": [2, None]}),
    ],
    "is unknown": [
        dict(constants={"c0": [1, None], name: [1, None]}) for name in ("", "c0 + 1", "wind", "c", "C0", "c0x", "c-1")
    ],
    "is not in the formula": [dict(constants={"c0": [1, None], "c1": [1, None]})],
    "is a field": [dict(expr="c0*r*drag", constants={"c0": [1, None], "drag": [1, None]})],
    "expected a finite number": [
        dict(constants={"c0": pair})
        for pair in (
            ["1", None],
            [True, None],
            [1],
            [1, 2, 3],
            1,
            None,
            "12",
            [1, "x"],
            [math.inf, None],
            [1, math.inf],
            [10**400, 0],
        )
    ],
    "not finite, or its error negative": [
        dict(constants={"c0": pair}) for pair in ([math.nan, None], [1, -1], [None, 1])
    ],
    "no finite real number": [dict(expr="c0*r*1e10", constants={"c0": [1e308, None]})],
    "not finite or too large": [
        dict(expr=e, constants={"c0": [1e9, None]}) for e in ("r**c0", "r + exp(c0)", "IF(r < 1, r, exp(c0))")
    ],
    "no dictionary": [dict(constants=[1]), dict(provenance=3), dict(provenance=[1])],
    "mixing: ": [
        dict(mixing=[[1.0, 0.0]]),
        *(
            MIXED | dict(mixing=m)
            for m in (
                None,
                [],
                [[]],
                3,
                "text",
                {},
                {"a": 1},
                [[1, 0], [0, 1]],
                [[1, 0, 0], [1]],
                [[1, 0, math.nan]],
                [[1, 0, math.inf]],
                [["1", 0, 0]],
                [[1, 0, 0]] * 5,
                [None],
                [[1, 0, None]],
                [[True, 0, 0]],
            )
        ),
    ],
    "units": [
        dict(units=u) for u in ({"r": "metr"}, {"r": 3}, {"wind": "m"}, {"c7": "m"}, [1], "m", {"r": "m^9^9^9"}, None)
    ],
    "target": [dict(target=t) for t in ("energy", None, 3, ["force"], {})],
    "formula": [dict(expr=e) for e in (None, 3, [], {}, "", "c0*r)", "c0*\x00r")],
    "format": [dict(format=f) for f in (None, "symbolic_gn law 2", 1)],
}


@pytest.mark.parametrize("words, change", [(words, change) for words, changes in FAULTS.items() for change in changes])
def test_faults_in_files_are_named_with_the_file(tmp_path, words, change):
    path = tmp_path / "fault.json"
    path.write_text(json.dumps(stored() | change))
    line = refused(lambda: Law.from_json(path), words)
    assert line.startswith(f"{path}: ")


@pytest.mark.parametrize(
    "content", ["", "[]", "5", "null", "{", "{'a': 1}", "[" * 100_000, '{"a":' * 100_000, '{"format": NaN}']
)
def test_what_is_no_json_is_named_with_the_file(tmp_path, content):
    path = tmp_path / "fault.json"
    path.write_text(content)
    assert refused(lambda: Law.from_json(path)).startswith(f"{path}: ")


def test_files_that_are_not_there_are_named(tmp_path):
    assert refused(lambda: Law.from_json("nowhere.json")).startswith("nowhere.json: is no law in JSON (No such file")
    (tmp_path / "latin.json").write_bytes(b'{"format": "\xff"}')
    for source in (tmp_path, tmp_path / "latin.json", "a\0b", "x" * 5000):
        refused(lambda source=source: Law.from_json(source), "is no law in JSON")


def test_units_of_inputs_constants_fields_and_target_are_kept():
    units = {"r": "m", "c0": "kg/s^2", "drag": "kg/s", "target": "N", "m_i": "kg"}
    law = Law.of("2*r", drag=0.1, units=units)
    assert Law.from_json(law.to_json()).units == units
    assert Law.of("2*r", target="acceleration", units={"r": "m", "c0": "1/s^2"}).force().units == {"r": "m"}


def test_drags_and_fields_are_numbers_with_a_name():
    for options in (
        dict(drag="x"),
        dict(drag=math.nan),
        dict(drag=[1]),
        dict(fields="x"),
        dict(fields={"wind": 1.0}),
        dict(fields={"trap": "x"}),
    ):
        refused(lambda options=options: Law.of("r", **options))
    assert Law.of("r", fields={"trap": 2}).fields == {"trap": 2}


# accelerations


X = np.random.default_rng(0).normal(size=(3, 4, 2))
GIVEN = {
    "position: shape (2,) has no two bodies": dict(position=X[0, 0]),
    "position: shape () has no two bodies": dict(position=1.0),
    "position: shape (3, 4, 4) has no two bodies in 1 to 3 axes": dict(position=np.ones((3, 4, 4))),
    "position: shape (1, 2)": dict(position=np.zeros((1, 2))),
    "position: is of type object; expected real numbers": dict(position=None),
    "position: is of type <U1": dict(position="a"),
    "position: is of type complex128": dict(position=X * 1j),
    "position: is no array": dict(position=[[1, 2], [3]]),
    "velocity has shape (3, 3, 2); expected (3, 4, 2)": dict(velocity=X[:, :3]),
    "velocity has shape (2,)": dict(velocity=X[0, 0]),
    "velocity: is of type": dict(velocity="x"),
    "mass has shape (3,); expected (3, 4)": dict(mass=np.ones(3)),
    "mass: reaches down to 0; expected more than 0": dict(mass=[1.0, 2, 3, 0]),
    "mass: reaches down to -1": dict(mass=-1),
    "mass: is not finite everywhere": dict(mass=[1.0, 2, 3, np.nan]),
    "mass: is of type <U5": dict(mass="heavy"),
    "mass: is no array": dict(mass=[[1], [1, 2]]),
    "charge has shape (2, 4)": dict(charge=np.ones((2, 4))),
    "charge: is not finite everywhere": dict(charge=np.inf),
    "spin has shape (5,)": dict(spin=np.ones(5)),
    "spin: is of type bool": dict(spin=[True] * 4),
    "edge_index: reaches from 0 to 4; there are bodies 0 to 3": dict(edge_index=[[4], [0]]),
    "edge_index: reaches from -1 to 0": dict(edge_index=[[-1], [0]]),
    "edge_index: is of type float64; expected whole numbers": dict(edge_index=[[0.0], [1.0]]),
    "edge_index has shape (3,); expected (2, edges)": dict(edge_index=[0, 1, 2]),
    "edge_index has shape (3, 2)": dict(edge_index=[[0, 1], [1, 2], [2, 3]]),
    "edge_index: is of type <U3": dict(edge_index="all"),
    "edge_index: is no array": dict(edge_index=[[0, 1], [1]]),
    "box: is of type <U1": dict(box="x"),
    "box is": dict(box=[1.0, 2.0, 3.0]),
    "box: is no array": dict(box=[[1], [1, 2]]),
}


@pytest.mark.parametrize("words", GIVEN)
def test_accelerations_say_what_is_wrong_with_what_they_are_given(words):
    law = Law.of("m_i*m_j/(r + 0.1)^2")
    assert words in refused(lambda: law.accelerations(**dict(position=X) | GIVEN[words]))


def test_accelerations_take_what_they_took():
    import jax.numpy as jnp
    import torch

    law = Law.of("m_i*m_j/(r + 0.1)^2", drag=0.1)
    wanted = law.accelerations(X, np.ones_like(X), 2.0, edge_index=[[1, 0], [0, 1]])
    for of in (torch.tensor, jnp.asarray, np.ndarray.tolist):
        found = law.accelerations(
            of(X), of(np.ones_like(X)), of(np.full((3, 1), 2.0)), edge_index=of(np.array([[1, 0], [0, 1]]))
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert np.allclose(
        law.accelerations(np.ones((2, 1), int) * [[0], [3]], [[0], [0]], [1, 2])[:, 0], [2 / 3.1**2, -1 / 3.1**2]
    )
    broken = np.where(np.arange(3)[:, None, None] == 1, np.nan, X)  # one orbit of three has broken down
    alive = np.isfinite(law.accelerations(broken, np.ones_like(X))).all((1, 2))
    assert alive.tolist() == [True, False, True]
    free = Law.of("m_j/(r + 0.1)^2", target="acceleration")
    assert np.isfinite(free.accelerations(X, mass=[1.0, 0, 0, 0])).all()  # what has no mass is moved, too
