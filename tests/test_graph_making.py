"""Making nodes: fan-out and fan-in, iteration, constants, files; and mistakes that are told where they are made."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import graphray as gr
from graphray.testing.tasks import add, bracket, draw, echo, identity, join, noted, notes, scale

# ---- map


def test_map_over_iterables_of_all_kinds():
    for items in ([1, 2], (1, 2), range(1, 3), {1: "a", 2: "b"}, iter([1, 2]), (i for i in (1, 2)), np.array([1, 2])):
        nodes = gr.map(scale, items)
        assert type(nodes) is tuple
        assert [int(n.compute()) for n in nodes] == [2, 4]
    assert [n.args for n in gr.map(identity, "ab")] == [("a",), ("b",)]


def test_map_over_structures_with_nodes():
    n = identity(3)
    assert gr.compute(*gr.map(echo, [[n], {"k": n}, n])) == (((([3]),), {}), (({"k": 3},), {}), ((3,), {}))


def test_map_gives_keywords_to_every_call():
    n = identity(100)
    nodes = gr.map(scale, [1, 2], by=10, plus=n)
    assert all(node.kwargs["plus"] is n for node in nodes)
    assert gr.compute(*nodes) == (110, 120)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: gr.map(scale), TypeError, "iterable"),
        (lambda: gr.map(scale, 5), TypeError, "int"),
        (lambda: gr.map(add, [1, 2], 5), TypeError, "int"),
        (lambda: gr.map(add, [1, 2], [1, 2, 3]), ValueError, "2, 3"),
        (lambda: gr.map(add, [1, 2], iter([1])), ValueError, "length"),
        (lambda: gr.map(5, [1]), TypeError, "function"),
    ],
)
def test_wrong_maps_are_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_value_error_of_an_iterable_is_its_own():
    def broken():
        yield 1
        raise ValueError("my own trouble")

    with pytest.raises(ValueError, match="my own trouble"):
        gr.map(add, broken(), [1, 2])
    with pytest.raises(ValueError, match="my own trouble"):
        gr.map(scale, broken())


def test_map_of_an_unknown_iterable_is_one_node():
    assert type(gr.map(scale, identity([1, 2]))) is gr.Node
    assert type(gr.map(add, [1, 2], identity([1, 2]))) is gr.Node


# ---- reduce and combine


@pytest.mark.parametrize("arity", [0, 1, -3, 2.0, "2", True, None])
def test_wrong_arities_are_refused(arity):
    for make in (lambda: gr.reduce(add, [1, 2], arity=arity), lambda: gr.combine(sum, [1, 2], arity=arity)):
        with pytest.raises(ValueError, match="arity"):
            make()


def test_no_values_need_an_initial():
    for make in (lambda: gr.reduce(add, []), lambda: gr.combine(sum, iter(()))):
        with pytest.raises(ValueError, match="initial"):
            make()


@pytest.mark.parametrize("parts", [5, None])
def test_what_cannot_be_gone_through_is_refused(parts):
    for make in (lambda: gr.reduce(add, parts), lambda: gr.combine(sum, parts)):
        with pytest.raises(TypeError):
            make()


def test_a_lone_value_is_no_call():
    n = identity(1)
    assert gr.reduce(add, [n]) is n
    assert gr.combine(sum, [n]) is n
    assert gr.reduce(bracket, ["a"]).compute() == "a"
    assert gr.combine(join, [["a", identity("b")]]).compute() == ["a", "b"]


def test_a_tree_has_the_fewest_calls():
    for arity, calls in ((2, 999), (16, 63 + 4 + 1 - 1), (1000, 1)):
        leaves = gr.map(identity, range(1000))
        tree = gr.Graph(gr.combine(sum, leaves, arity=arity))
        assert len(tree) - 1000 <= calls + 1


def test_a_seeded_reduction_draws_for_every_call():
    @gr.task(seed=True)
    def noisy(a, b, *, seed):
        return (a, b, seed)

    def seeds(x):
        return [] if isinstance(x, int) else [x[2], *seeds(x[0]), *seeds(x[1])]

    drawn = seeds(gr.reduce(noisy, range(40)).compute())
    assert len(drawn) == len(set(drawn)) == 39


def test_a_binary_function_may_return_a_node():
    @gr.task
    def lazily(a, b):
        return add(a, b)

    assert gr.reduce(lazily, range(100)).compute() == 4950
    assert gr.reduce(lazily, range(100), arity=2).compute() == 4950


# ---- iterate


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, TypeError),
        ({"steps": -1}, ValueError),
        ({"steps": 1.5}, ValueError),
        ({"steps": True}, ValueError),
        ({"steps": 3, "save_every": 0}, ValueError),
        ({"steps": 3, "keep": 0}, ValueError),
        ({"until": 5}, TypeError),
    ],
)
def test_wrong_iterations_are_refused(options, error):
    with pytest.raises(error):
        gr.iterate(scale, 1, **options)
    with pytest.raises(TypeError, match="function"):
        gr.iterate(5, 1, steps=1)


def test_an_iteration_takes_constant_memory():
    """Long before it ends, its first states are gone."""
    import weakref

    class State:
        pass

    alive: list[weakref.ref[State]] = []
    most = 0

    def step(state):
        nonlocal most
        most = max(most, sum([r() is not None for r in alive]))
        new = State()
        alive.append(weakref.ref(new))
        return new

    gr.iterate(step, State(), steps=500).compute()
    assert most <= 5


def test_what_an_iteration_begins_with_is_copied():
    state = [identity(1), [2]]
    node = gr.iterate(lambda x: x, state, steps=1)
    state[1].append(3)
    state.append(4)
    assert node.compute() == [1, [2]]


# ---- constants and inputs


def test_a_constant_holds_its_object():
    array = np.ones(3)
    assert gr.value(array).args[0] is array
    assert gr.value(5).compute() == 5
    assert gr.value([1, gr.value(2)]).compute() == [1, 2]


@pytest.mark.parametrize("name", ["", 5, None, b"x"])
def test_an_input_needs_a_name(name):
    with pytest.raises(TypeError, match="name"):
        gr.input(name)


def test_only_nodes_and_graphs_are_quoted():
    for x in (5, [identity(1)], None):
        with pytest.raises(TypeError, match="data already"):
            gr.quote(x)


# ---- files


def test_a_file_is_given_as_its_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    for path in ("a.txt", Path("a.txt"), tmp_path / "a.txt", os.fsencode(tmp_path / "a.txt")):
        assert os.fspath(gr.file(path).compute()) in (str(tmp_path / "a.txt"), os.fsencode(tmp_path / "a.txt"))
    assert gr.call(lambda p: Path(p).read_text(), gr.file("a.txt")).compute() == "text"


def test_a_missing_file_is_told_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        gr.file(tmp_path / "none.txt")
    with pytest.raises(IsADirectoryError, match=r"gr\.glob"):
        gr.file(tmp_path)
    with pytest.raises(TypeError):
        gr.file(5)


def test_glob_gives_sorted_files_without_directories(tmp_path, monkeypatch):
    for name in ("b.txt", "a.txt", "c.log", "deep/d.txt", "deep/er/e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "dir.txt").mkdir()
    monkeypatch.chdir(tmp_path)

    def names(pattern):
        return [os.path.relpath(p, tmp_path) for p in gr.compute(*gr.glob(pattern), identity(1))[:-1]]

    assert names("*.txt") == ["a.txt", "b.txt"]
    assert names(tmp_path / "*.txt") == ["a.txt", "b.txt"]
    assert names("**/*.txt") == ["a.txt", "b.txt", "deep/d.txt", "deep/er/e.txt"]
    assert names("[ac].*") == ["a.txt", "c.log"]
    with pytest.raises(FileNotFoundError, match="nothing"):
        gr.glob("nothing*")


def test_a_map_over_files(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.txt").write_text("word " * i)
    counts = gr.map(lambda path: len(Path(path).read_text().split()), gr.glob(tmp_path / "*.txt"))
    assert gr.combine(sum, counts).compute() == 10


# ---- nothing runs before it is asked for


def test_building_runs_nothing(tmp_path):
    path = str(tmp_path / "notes")
    node = noted(path, "called")
    graph = gr.Graph(
        a=gr.map(scale, node), b=gr.reduce(add, [node, node]), c=gr.iterate(scale, node, steps=3), d=node + 1
    )
    graph.bind()
    repr(graph), len(graph), graph.nodes, graph.inputs, graph == graph, hash(graph), graph.visualize()
    assert draw(node).digest
    assert notes(path) == []
