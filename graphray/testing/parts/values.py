"""Values: a graph gives what plain Python gives, whatever its shape."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part
from graphray.testing.sameness import same
from graphray.testing.tasks import add, divide, echo, identity, noted, notes, scale, total

# A shape is a list of rows: which of the rows before it a row sums up. It is built as a graph and with plain integers.
Shape = list[list[int]]


def chain(length: int) -> Shape:
    """One after another."""
    return [[], *[[i] for i in range(length - 1)]]


def diamonds(count: int) -> Shape:
    """Diamonds in a row: a fork, two sides, a join."""
    shape: Shape = [[]]
    for _ in range(count):
        fork = len(shape) - 1
        shape += [[fork], [fork], [fork + 1, fork + 2]]
    return shape


def butterfly(levels: int) -> Shape:
    """Each of 8 lanes takes from two of the level before: much is shared."""
    shape: Shape = [[] for _ in range(8)]
    for level in range(levels):
        below = 8 * level
        shape += [[below + lane, below + (lane ^ (1 << level % 3))] for lane in range(8)]
    return [*shape, list(range(len(shape) - 8, len(shape)))]


def tree(leaves: int) -> Shape:
    """A binary tree that folds leaves."""
    shape: Shape = [[] for _ in range(leaves)]
    level = list(range(leaves))
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = list(range(len(shape), len(shape) + len(pairs)))
        shape += pairs
    return shape


def triangle(size: int) -> Shape:
    """Each row takes all rows before it."""
    return [list(range(i)) for i in range(size)]


def at_random(size: int, seed: int) -> Shape:
    """Up to four of the rows before, some of them twice; then all that nobody took."""
    draw = random.Random(seed)
    shape: Shape = [[draw.randrange(i) for _ in range(draw.randrange(min(i, 4) + 1))] for i in range(size)]
    return [*shape, sorted(set(range(size)) - {i for row in shape for i in row})]


SHAPES: dict[str, Callable[[], Shape]] = {
    "one": lambda: [[]],
    "chain": lambda: chain(500),
    "diamonds": lambda: diamonds(100),
    "butterfly": lambda: butterfly(40),
    "tree": lambda: tree(700),
    "triangle": lambda: triangle(60),
    "wide": lambda: [*[[] for _ in range(3000)], list(range(3000))],
    "hourglass": lambda: [*[[] for _ in range(300)], list(range(300)), *[[300]] * 300, list(range(301, 601))],
    **{f"random-{i}": lambda i=i: at_random(150, i) for i in range(6)},  # type: ignore[misc]
}


class Values(Part):
    """A graph gives what plain Python gives."""

    @pytest.mark.parametrize("name", SHAPES)
    def test_a_shape_gives_what_plain_python_gives(self, executor: Executor, name: str) -> None:
        """Graphs of many shapes: each node is the sum of its number and of what it needs."""
        nodes: list[gr.Node] = []
        values: list[int] = []
        for i, row in enumerate(SHAPES[name]()):
            nodes.append(total(i, *[nodes[j] for j in row]))
            values.append((i + sum([values[j] for j in row])) % (1 << 64))
            nodes[-1] = gr.call(operator.mod, nodes[-1], 1 << 64)
        assert executor.compute(nodes[-1]) == values[-1]
        assert executor.compute(gr.Graph(tuple(nodes))) == tuple(values)

    def test_named_outputs_come_as_a_dict_in_order(self, executor: Executor) -> None:
        """`Graph(b=…, a=…)` gives a dict of that order."""
        result = executor.compute(gr.Graph(b=add(1, 2), a=add(3, 4), c=[add(5, 6), 7]))
        assert same(result, {"b": 3, "a": 7, "c": [11, 7]})

    def test_an_unnamed_output_comes_bare(self, executor: Executor) -> None:
        """`Graph(node)` gives the value itself, also where it is a structure."""
        assert executor.compute(gr.Graph(add(1, 2))) == 3
        assert same(executor.compute(gr.Graph({"x": (add(1, 2), [add(3, 4)])})), {"x": (3, [7])})

    def test_an_output_without_nodes_is_itself(self, executor: Executor) -> None:
        """There may be nothing to compute at all."""
        assert same(executor.compute(gr.Graph([1, {"a": 2.0}])), [1, {"a": 2.0}])
        assert same(executor.compute(gr.Graph(a=1, b=gr.value("x"))), {"a": 1, "b": "x"})

    def test_the_same_node_as_several_outputs(self, executor: Executor) -> None:
        """An output may also be what another output needs."""
        a = add(1, 2)
        b = scale(a)
        assert executor.compute(gr.Graph(a=a, b=b, again=a, both=[a, b, a])) == {
            "a": 3,
            "b": 6,
            "again": 3,
            "both": [3, 6, 3],
        }

    def test_arguments_arrive_as_they_were_given(self, executor: Executor) -> None:
        """By position and by keyword, constants and nodes."""
        node = echo(1, add(1, 1), *[3, "four"], five=5, six=add(3, 3))
        assert same(executor.compute(node), ((1, 2, 3, "four"), {"five": 5, "six": 6}))

    def test_one_node_given_twice_to_a_call(self, executor: Executor) -> None:
        """An argument may be used twice."""
        x = add(2, 3)
        assert executor.compute(gr.Graph([add(x, x), echo(x, x, k=x), x * x])) == [10, ((5, 5), {"k": 5}), 25]

    def test_values_of_many_types(self, executor: Executor) -> None:
        """What goes through a task comes out as it was, type included."""
        values: list[Any] = [
            None, True, 0, -1, 1 << 200, 0.0, -0.0, float("inf"), float("nan"), 1e-320, 2 + 3j, "", "ä€😀\0",
            b"", b"\0\xff", (), [], {}, set(), frozenset({1, 2}), range(3), slice(1, 2), ..., int, len, bytearray(b"x"),
            {1: "a", "b": 2, None: 3},
        ]  # fmt: skip
        assert same(executor.compute(gr.Graph([identity(v) for v in values])), values)
        assert same(executor.compute(identity(values)), values)

    def test_equal_but_different_constants_stay_apart(self, executor: Executor) -> None:
        """`1`, `1.0` and `True` are equal and hash alike, and are not the same."""
        nodes = [identity(x) for x in (1, 1.0, True, 0, 0.0, -0.0, False)]
        assert same(executor.compute(gr.Graph(nodes)), [1, 1.0, True, 0, 0.0, -0.0, False])

    def test_a_node_that_several_need_runs_once(self, executor: Executor, tmp_path: Path) -> None:
        """Within a run one object is one node."""
        path = str(tmp_path / "notes")
        shared = noted(path, "shared")
        middle = [noted(path, f"middle {i}", shared) for i in range(40)]
        graph = gr.Graph(last=noted(path, "last", *middle, shared), shared=shared, middle=middle)
        executor.compute(graph)
        assert sorted(notes(path)) == sorted(["shared", "last", *[f"middle {i}" for i in range(40)]])

    def test_only_what_the_outputs_need_is_run(self, executor: Executor, tmp_path: Path) -> None:
        """A node that exists, but leads to no output, is not called."""
        path = str(tmp_path / "notes")
        needed = noted(path, "needed")
        noted(path, "not needed", needed)
        graph = gr.Graph(a=noted(path, "a", needed), b=noted(path, "b"))
        executor.compute(graph.subgraph("a"))
        assert sorted(notes(path)) == ["a", "needed"]

    def test_needs_come_first(self, executor: Executor, tmp_path: Path) -> None:
        """A node is called after those it needs, also where these are no arguments to look at."""
        path = str(tmp_path / "notes")
        first = [noted(path, f"first {i}") for i in range(10)]
        second = noted(path, "second", {"deep": [first]})
        third = noted(path, "third", second)
        executor.compute(third)
        assert notes(path)[10:] == ["second", "third"]

    def test_operators(self, executor: Executor) -> None:
        """Each operator on a node is the operator on its value, also from the right."""
        n, m = identity(7), identity(2)
        nodes = [n + m, n - m, n * m, n / m, n // m, n % m, n**m, n & m, n | m, n ^ m, n << m, n >> m]
        assert same(executor.compute(gr.Graph(nodes)), [9, 5, 14, 3.5, 3, 1, 49, 2, 7, 5, 28, 1])
        nodes = [10 + n, 10 - n, 10 * n, 10 / m, 10 // m, 10 % n, 2**n, 6 & n, 8 | n, 1 ^ n, 1 << n, 1000 >> n]
        assert same(executor.compute(gr.Graph(nodes)), [17, 3, 70, 5.0, 5, 3, 128, 6, 15, 6, 128, 7])
        nodes = [-n, +n, ~n, abs(-n), n < m, n <= 7, n > m, n >= 8, (n > 7), gr.eq(n, 7), gr.eq(n, m)]
        assert same(executor.compute(gr.Graph(nodes)), [-7, 7, -8, 7, False, True, True, False, False, True, False])

    def test_items_and_attributes(self, executor: Executor) -> None:
        """`n[0]`, `n["k"]`, `n[1:]`, `n[m]` with a node as the index, and `gr.getattr`."""
        n = identity([10, 20, 30])
        nodes = [n[0], n[-1], n[1:], n[identity(1)], identity({"k": 5})["k"], gr.getattr(identity(3 + 4j), "imag")]
        assert same(executor.compute(gr.Graph(nodes)), [10, 30, [20, 30], 20, 5, 4.0])

    def test_a_task_with_several_outputs_unpacks(self, executor: Executor) -> None:
        """`a, b = task(…)` with `outputs=2`; the task itself runs once."""
        quotient, remainder = divide(17, 5)
        assert executor.compute(gr.Graph(q=quotient, r=remainder, both=divide(17, 5))) == {
            "q": 3,
            "r": 2,
            "both": (3, 2),
        }

    def test_functions_of_all_kinds(self, executor: Executor) -> None:
        """Lambdas, closures, builtins, methods, partial functions, classes and callable objects."""
        from functools import partial

        offset = 100
        nodes = [
            gr.call(lambda x: x + offset, 1),
            gr.call(len, "four"),
            gr.call(str.upper, "up"),
            gr.call("-".join, ["a", "b"]),
            gr.call(partial(pow, 2), 5),
            gr.call(complex, 1, 2),
            gr.call(operator.itemgetter(1), (5, 6)),
        ]
        assert same(executor.compute(gr.Graph(nodes)), [101, 4, "UP", "a-b", 32, 1 + 2j, 6])

    def test_a_chain_of_50_000(self, executor: Executor) -> None:
        """No depth of graph meets a limit."""
        node = gr.value(0)
        for _ in range(50_000):
            node = add(node, 1)
        assert executor.compute(node) == 50_000

    def test_a_fan_of_20_000(self, executor: Executor) -> None:
        """A wide graph, each node an output."""
        assert executor.compute(gr.Graph(gr.map(scale, range(20_000)))) == tuple(range(0, 40_000, 2))
