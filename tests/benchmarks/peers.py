"""The twenty public problems with our engines beside gplearn and pyoperon as they come, in one run.

    pip install gplearn
    python tests/benchmarks/peers.py --out nbs/results/peers.csv --jobs 2

Everyone has the same tables, the same operators and the defaults of its makers (pyoperon: 200,000 formulas, once more
with its constants fitted); everyone's answer is judged by the same rule. gplearn proposes one formula, the others a
front.
"""
import argparse
from collections.abc import Sequence

import numpy as np
import sympy as sp

from symbolic_gn.laws.formula import symbol
from symbolic_gn.search import benchmark
from symbolic_gn.search.engine import front_of
from symbolic_gn.search.front import Front
from symbolic_gn.search.problems import TWENTY

WORDS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}


def pyoperon(X: np.ndarray, y: np.ndarray, names: Sequence[str], *, operators=(), seed=0, fit: int = 0, **_) -> Front:
    "Operon's own estimator; as it comes it does not fit constants."
    from pyoperon.sklearn import SymbolicRegressor
    words = ",".join([*(WORDS.get(o, o) for o in operators), "constant", "variable"])
    how = dict(objectives=["r2", "length"], max_evaluations=200_000, generations=10_000, n_threads=1, random_state=seed)
    how |= dict(optimizer_iterations=fit) if fit else {}
    found = SymbolicRegressor(allowed_symbols=words, model_selection_criterion="mean_squared_error", **how).fit(X, y)
    return front_of([found.get_model_string(row["tree"], 12, [*names]) for row in found.pareto_front_], X, y, names)


def pyoperon_fitted(X: np.ndarray, y: np.ndarray, names: Sequence[str], **told) -> Front:
    "The same with three steps of its own fit for each formula."
    return pyoperon(X, y, names, fit=3, **told)


def _exp(x: np.ndarray) -> np.ndarray:
    "An exponential that stays finite, as gplearn wants its functions."
    return np.exp(np.clip(x, -50, 50))


MEANINGS = {
    "add": sp.Add, "sub": lambda a, b: a - b, "mul": sp.Mul, "div": lambda a, b: a / b, "sin": sp.sin, "cos": sp.cos,
    "exp": sp.exp, "log": lambda a: sp.log(sp.Abs(a)), "sqrt": lambda a: sp.sqrt(sp.Abs(a)),
}


def formula(program: list, names: Sequence[str]) -> sp.Basic:
    "A program of gplearn, which stands in prefix order, as a formula."
    node = program.pop(0)
    if hasattr(node, "arity"):
        return MEANINGS[node.name](*[formula(program, names) for _ in range(node.arity)])
    return symbol(names[node]) if isinstance(node, (int, np.integer)) else sp.Float(float(node))


def gplearn(X: np.ndarray, y: np.ndarray, names: Sequence[str], *, operators=(), seed=0, **_) -> Front:
    "gplearn's own estimator; it has no exponential, so it is given one."
    from gplearn.functions import make_function
    from gplearn.genetic import SymbolicRegressor
    known = {"exp": make_function(function=_exp, name="exp", arity=1, wrap=False)}
    functions = [known.get(WORDS.get(o, o), WORDS.get(o, o)) for o in operators]
    found = SymbolicRegressor(function_set=functions, random_state=seed).fit(X, y)
    return front_of([formula(list(found._program.program), names)], X, y, names)


def main() -> None:
    "Run what the table does not hold yet, and print the counts."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True)
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--problem", nargs="*", default=TWENTY)
    a = p.parse_args()
    engines = ["auto", "operon", pyoperon, pyoperon_fitted, gplearn]
    table = benchmark.run(a.out, a.problem, engines, (0.0, 0.01), seconds=None, jobs=a.jobs)
    print(benchmark.summary(table.assign(group="twenty")).to_string(index=False))


if __name__ == "__main__":
    main()
