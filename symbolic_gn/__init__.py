"""From trajectories of moving bodies to the law that moves them. Names are loaded when they are asked for."""

__version__ = "0.1.0"

import sys
from types import ModuleType

import lazy_loader

NAMES = {  # where the public names stand
    "core.contracts": ["BUDGETS", "ENGINES", "SOURCES"],
    "core.errors": ["UserError"],
    "data.trajectories": ["Trajectories", "from_arrays", "from_table"],
    "data.look": ["look"],
    "laws.constants": ["fit_to_table", "snap_to_table"],
    "laws.formula": ["parse"],
    "search.estimator": ["SymbolicRegressor"],
    "fit.objective": ["Accelerations"],
    "worlds.systems": ["SYSTEMS", "register"],
    "simulate": ["simulate", "starts"],
    "models": ["MODELS", "make_model"],
    "training.runs": ["Run"],
    "train": ["fit"],
    "analyze": ["messages", "r2"],
    "rollout": ["rollout", "compare", "mae"],
    "align": ["align"],
    "distill": ["distill", "Law", "Front", "equivalent"],
    "discover": ["discover"],
    "studies.noise": ["Noisy"],
    "studies.hidden": ["Hidden"],
    "dark_matter.halos": ["HaloCatalog"],
    "dark_matter.catalogues": ["read_halos"],
    "dark_matter.study": ["DarkMatter"],
    "sweep": ["sweep"],
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=NAMES)


class _Package(ModuleType):
    "Some functions have the name of the module that they stand in: `sgn.discover` is the function, whoever came first."

    def __setattr__(self, name: str, value) -> None:
        same = isinstance(value, ModuleType) and name in NAMES.get(name, ())
        super().__setattr__(name, getattr(value, name) if same else value)


sys.modules[__name__].__class__ = _Package
