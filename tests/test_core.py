"The ground floor: errors and files, names, edges, stages, figures."

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.animation import FuncAnimation

from symbolic_gn.core import registry
from symbolic_gn.core.errors import UserError, check_writable, choose, write_atomic
from symbolic_gn.core.figures import blank_figure, clipped, gif, save_figure
from symbolic_gn.core.graph import edge_inputs, edges, incidence
from symbolic_gn.core.registry import Registry, load
from symbolic_gn.core.stages import LIBRARIES, machine, one_thread, stage, versions

few = settings(max_examples=25, deadline=None)

# errors and files


def test_a_wrong_word_is_told_what_there_is():
    assert choose("loss", "mae", ["mae", "mse"]) == "mae" and choose("digit", "two", {"one": 1, "two": 2}) == 2
    with pytest.raises(UserError, match="^law 'Sprng' is unknown, did you mean 'spring'[?]; choose from r1, spring$"):
        choose("law", "Sprng", ["r1", "spring"])
    with pytest.raises(UserError, match="^loss 3 is unknown; choose from mae$"):
        choose("loss", 3, {"mae": None})


def test_a_file_is_old_or_new(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "deep" / "a.txt", "old")
    assert write_atomic(path, b"new") == path and path.read_text() == "new"

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(UserError, match="a.txt cannot be written .No space left on device.; choose a folder that can"):
        write_atomic(path, "newer")
    assert path.read_text() == "new" and [p.name for p in path.parent.iterdir()] == ["a.txt"]


@few
@given(st.one_of(st.text(), st.binary()))
def test_what_is_written_is_read(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("write") / "deep" / "file"
    assert write_atomic(path, "old") == path
    write_atomic(str(path), content)
    assert path.read_bytes() == (content.encode("utf-8") if isinstance(content, str) else content)
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_place_is_looked_at_before_the_work(tmp_path):
    check_writable(tmp_path / "not" / "yet" / "there.txt")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check_writable(tmp_path / "file" / "below" / "x.txt")
    with pytest.raises(UserError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "x.txt", "")


# names


def test_a_place_is_loaded_once_and_when_asked():
    numbers = Registry("number", {"half": "fractions:Fraction", "lost": "fractions:Nothing", "far": "no_such_module:x"})
    assert numbers.entries["half"] == "fractions:Fraction"
    assert numbers["half"](1, 2) + numbers["half"](1, 2) == 1 and numbers.entries["half"] is load("fractions:Fraction")
    for name in ("lost", "far"):
        with pytest.raises(UserError, match=f"number '{name}' cannot be loaded from"):
            numbers[name]
    with pytest.raises(UserError, match="did you mean 'half'"):
        numbers["halv"]


def test_a_registry_is_a_dictionary():
    numbers = Registry("number", {"one": 1})
    numbers["two"] = 2
    assert dict(numbers) == {"one": 1, "two": 2} and len(numbers) == 2 and "three" not in numbers
    del numbers["one"]
    assert list(numbers) == ["two"] and repr(numbers) == "Registry of 1 numbers: two"


def test_other_packages_join_by_entry_points(monkeypatch):
    found = [
        EntryPoint("guess", "fractions:Fraction", "some.group"),
        EntryPoint("one", "fractions:Nothing", "some.group"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == "some.group" else [])
    numbers = Registry("number", {"one": 1}, group="some.group")
    assert list(numbers) == ["one", "guess"] and numbers["one"] == 1  # our own comes first
    assert numbers["guess"](1, 2) == 0.5 and "guess" not in Registry("number", {"one": 1})


def test_what_a_strangers_module_raises_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "broken_stranger.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [EntryPoint("guess", "broken_stranger:guess", "some.group")]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)
    with pytest.raises(UserError, match="number 'guess' cannot be loaded from broken_stranger:guess .*no licence"):
        Registry("number", group="some.group")["guess"]


# edges


def test_edges_are_sorted_by_receiver():
    np.testing.assert_array_equal(edges("chain", 3), [[1, 0, 2, 1], [0, 1, 1, 2]])
    np.testing.assert_array_equal(edges("all", 3), [[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]])
    assert edges("all", 1).shape == edges("chain", 1).shape == (2, 0)
    with pytest.raises(UserError, match="topology 'ring' is unknown"):
        edges("ring", 3)


@few
@given(st.sampled_from(["all", "chain"]), st.integers(2, 7), st.integers(0, 99))
def test_incidence_sums_what_arrives(topology, bodies, seed):
    pairs = edges(topology, bodies)
    values = np.random.default_rng(seed).normal(size=(3, pairs.shape[1], 2))
    total = np.zeros((3, bodies, 2))
    np.add.at(total, (slice(None), pairs[1]), values)
    np.testing.assert_allclose(incidence(pairs, bodies) @ values, total, atol=1e-12)


@few
@given(st.integers(1, 3), st.integers(2, 5), st.integers(0, 99))
def test_edge_inputs_are_those_of_each_pair(dim, bodies, seed):
    rng, pairs = np.random.default_rng(seed), edges("all", bodies)
    x, v = rng.normal(size=(2, 4, 6, bodies, dim))
    mass, charge, spin = rng.uniform(1, 2, (3, 4, 1, bodies))
    inputs, direction = edge_inputs(x, v, mass, charge, pairs, others={"spin": spin})
    assert set(inputs) == {"r", "m_i", "m_j", "q_i", "q_j", "spin_i", "spin_j"} | {
        name for a in "xyz"[:dim] for name in (f"d{a}", f"v{a}_i", f"v{a}_j")
    }
    for k, (j, i) in enumerate(pairs.T):
        d = x[..., j, :] - x[..., i, :]  # from the receiver to the sender
        np.testing.assert_allclose(inputs["r"][..., k], np.linalg.norm(d, axis=-1))
        np.testing.assert_allclose(direction[..., k, :] * inputs["r"][..., k, None], d, atol=1e-12)
        np.testing.assert_allclose(inputs["dx"][..., k], d[..., 0])
        np.testing.assert_array_equal(inputs["vx_j"][..., k], v[..., j, 0])
        for name, values in dict(m=mass, q=charge, spin=spin).items():
            for end, body in dict(i=i, j=j).items():
                everywhere = np.broadcast_to(values, (4, 6, bodies))
                np.testing.assert_array_equal(inputs[f"{name}_{end}"][..., k], everywhere[..., body])


def test_edge_inputs_have_defaults_and_know_two_bodies_in_one_place():
    inputs, direction = edge_inputs(np.zeros((2, 2), int), None, None, None, edges("all", 2))
    assert (inputs["m_i"] == 1).all() and (inputs["q_j"] == 0).all() and "vx_i" not in inputs
    assert (inputs["r"] == 0).all() and (direction == 0).all()


# stages


def test_stages_add_up_and_failures_have_no_time():
    seconds, words = {}, []
    for _ in range(2):
        with stage("look", seconds, words.append):
            pass
    with pytest.raises(KeyError), stage("fail", seconds, words.append):
        raise KeyError
    assert list(seconds) == ["look"] and seconds["look"] >= 0
    assert words[0] == "look ..." and words[1].startswith("look: ") and words[-1] == "fail ..." and len(words) == 5


def test_versions_name_the_libraries():
    found = versions()
    assert {"python", "torch", "jax", "numpy", "sympy", "symbolic_gn"} <= set(found) <= {"python", *LIBRARIES}
    assert found["torch"] == torch.__version__ and sys.version.startswith(found["python"])
    assert set(versions(("nosuchlibrary",))) == {"python"}


def test_the_machine_has_a_name():
    assert machine() == torch.cuda.get_device_name() if torch.cuda.is_available() else "cores" in machine()


def test_one_thread_and_back():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError), one_thread():
            assert torch.get_num_threads() == 1
            raise ValueError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# figures


def test_a_blank_figure_is_not_kept_open():
    before = plt.get_fignums()
    figure, axes = blank_figure(3, width=2, height=1.5)
    assert plt.get_fignums() == before and list(figure.axes) == list(axes) and len(axes) == 3
    assert tuple(figure.get_size_inches()) == (6, 1.5)


def test_limits_ignore_the_tails():
    ramp = np.linspace(0, 100, 101)
    assert clipped(ramp) == pytest.approx((6, 94)) and all(type(v) is float for v in clipped(ramp.astype("f4")))
    wild = np.concatenate([ramp, [1e12, -1e12]])
    assert clipped(wild) == pytest.approx((6, 94), abs=1)


def test_a_film_is_a_gif():
    figure, (ax,) = blank_figure(1, 1, 1)
    (dot,) = ax.plot([0], [0], "o")
    film = gif(FuncAnimation(figure, lambda k: dot.set_data([k], [0]), 3, blit=False), fps=2)
    assert film[:4] == b"GIF8" and len(film) < 50_000


def test_a_figure_is_written_whole_or_not_at_all(tmp_path):
    figure, _ = blank_figure(1)
    path = save_figure(figure, tmp_path / "new" / "a.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_figure(figure, tmp_path / "taken" / "a.png")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.png", "new", "taken"]


# what an import costs


@pytest.mark.parametrize("name", ["errors", "registry", "graph", "stages", "figures"])
def test_the_ground_floor_is_light(name):
    heavy = {"torch", "jax", "sympy", "matplotlib", "pandas", "xarray", "scipy"}
    script = f"import sys, symbolic_gn.core.{name}; print(*sorted({heavy!r} & set(sys.modules)))"
    here = dict(capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert subprocess.run([sys.executable, "-c", script], **here).stdout.split() == []
