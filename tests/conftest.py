"What all tests share: one thread, no screen, annotations checked while they run, and tiny data made once."
import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["MPLBACKEND"] = "agg"

import checked  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

checked.install("symbolic_gn")

from symbolic_gn import cli  # noqa: E402
from symbolic_gn.data.trajectories import from_arrays  # noqa: E402
from symbolic_gn.search.engines import ENGINES  # noqa: E402
from symbolic_gn.search.operon import operon  # noqa: E402
from symbolic_gn.simulate import simulate  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def springs():
    "24 worlds of four bodies on springs."
    return simulate("spring", simulations=24, frames=10, every=5)


@pytest.fixture(scope="session")
def springs3():
    "The same in three dimensions, three bodies."
    return simulate("spring", simulations=12, bodies=3, dim=3, frames=10, every=5)


@pytest.fixture(scope="session")
def measured():
    "A user's own arrays: a law that no registry knows, accelerations differentiated."
    rng, time = np.random.default_rng(0), 0.05 * np.arange(12)[:, None, None]
    centre, phase = rng.normal(size=(20, 1, 3, 2)), rng.uniform(0, 6, (20, 1, 3, 2))
    return from_arrays(3 * centre + np.cos(time + phase), mass=rng.uniform(1, 2, (20, 3)), dt=0.05, system="lab")


@pytest.fixture
def brief(monkeypatch):
    "An engine for tests: Operon with one short run, known by name like any other."
    def search(X, y, names, **settings):
        return operon(X, y, names, **{**settings, "restarts": 1, "evaluations": 1500})

    monkeypatch.setitem(ENGINES, "brief", search)
    return "brief"


@pytest.fixture
def run(capsys):
    "Run a command in this process: exit code, standard output, standard error."
    def call(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(a) for a in arguments])
        return ended.value.code, *capsys.readouterr()
    return call
