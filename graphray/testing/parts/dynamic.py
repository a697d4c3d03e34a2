"""Dynamic nodes: a task may return a node or a graph, which is evaluated in its place."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part, needs
from graphray.testing.sameness import same
from graphray.testing.tasks import (
    Weighty,
    add,
    as_graph,
    choose,
    countdown,
    depth,
    echo,
    factorial,
    fail,
    fibonacci,
    identity,
    mixed,
    nap,
    nested_sum,
    noted,
    notes,
    scale,
    squares_of,
    weigh_down,
)


@gr.task
def give_back(x: Any, node: Any) -> Any:
    """A node that it was given as data."""
    return node


@gr.task
def call_quoted(node: gr.Node) -> Any:
    """Make further calls on a node that is data."""
    return [add(node, 1), add(node, node), node]


@gr.task
def quote_again(node: Any) -> Any:
    """Return a node as data."""
    return gr.quote(node)


@gr.task
def is_node(x: Any) -> bool:
    """Whether it was given a node itself."""
    return isinstance(x, gr.Node)


@gr.task
def quoted_graph(graph: gr.Graph) -> Any:
    """Names of a graph's outputs, and what it gives."""
    return [list(graph.outputs), graph]


@gr.task
def pyramid(levels: int, width: int) -> Any:
    """Fan-outs inside fan-outs."""
    return 1 if levels == 0 else gr.combine(sum, gr.map(pyramid, [levels - 1] * width, [width] * width))


@gr.task
def collatz(n: int, steps: int = 0) -> Any:
    """A loop whose length nobody knows."""
    return steps if n == 1 else collatz(n // 2 if n % 2 == 0 else 3 * n + 1, steps + 1)


def steps_of(n: int) -> int:
    """The same in plain Python."""
    steps = 0
    while n != 1:
        n, steps = n // 2 if n % 2 == 0 else 3 * n + 1, steps + 1
    return steps


@gr.task
def ping(n: int) -> Any:
    """Two tasks that call each other."""
    return "done" if n == 0 else pong(n - 1)


@gr.task
def pong(n: int) -> Any:
    """The other one."""
    return ping(n)


@gr.task
def shared_inside(path: str) -> Any:
    """A graph in which one new node is needed by many."""
    shared = noted(path, "shared")
    return [noted(path, f"user {i}", shared) for i in range(20)]


class Dynamic(Part):
    """Tasks that return nodes."""

    @needs("dynamic")
    def test_conditionals(self, executor: Executor, tmp_path: Path) -> None:
        """Only the branch that was chosen is computed."""
        path = str(tmp_path / "notes")
        for condition, taken in ((True, "yes"), (False, "no")):
            node = choose(identity(condition), gr.quote(noted(path, "yes")), gr.quote(noted(path, "no")))
            assert executor.compute(node) == taken
        assert notes(path) == ["yes", "no"]

    @needs("dynamic")
    def test_recursion(self, executor: Executor) -> None:
        """A task that returns calls of itself."""
        graph = gr.Graph(factorial=factorial(30), fibonacci=fibonacci(12), collatz=collatz(27))
        assert executor.compute(graph) == {
            "factorial": 265252859812191058636308480000000,
            "fibonacci": 144,
            "collatz": 111,
        }

    @needs("dynamic")
    def test_tasks_that_call_each_other(self, executor: Executor) -> None:
        """Mutual recursion."""
        assert executor.compute(ping(501)) == "done"

    @needs("dynamic")
    def test_recursion_over_data(self, executor: Executor) -> None:
        """A fan-out at each level, and a fan-in behind it."""
        assert executor.compute(nested_sum([1, [2, [3, [4], 5]], [], [[6, 7], 8]])) == 36

    @needs("dynamic")
    def test_a_width_known_only_then(self, executor: Executor) -> None:
        """A fan-out that depends on data, with something behind it."""
        graph = gr.Graph(sum=gr.combine(sum, squares_of(add(500, 500))), none=squares_of(0))
        assert executor.compute(graph) == {"sum": sum(i * i for i in range(1000)), "none": ()}

    @needs("dynamic")
    def test_fan_outs_inside_fan_outs(self, executor: Executor) -> None:
        """Nested, each level planned by the one above."""
        assert executor.compute(pyramid(4, 5)) == 625

    @needs("dynamic")
    def test_10_000_levels_deep(self, executor: Executor) -> None:
        """Each level waits for the next one's value: no recursion limit is met."""
        assert executor.compute(depth(10_000)) == 10_000

    @needs("dynamic")
    def test_a_loop_of_10_000(self, executor: Executor) -> None:
        """Each call ends in the next."""
        assert executor.compute(countdown(10_000)) == "lift-off"

    @needs("dynamic")
    def test_a_loop_takes_constant_memory(self, executor: Executor) -> None:
        """What a call that ended in another was given does not stay alive."""
        assert executor.compute(weigh_down(Weighty(3000))) < 300

    @needs("dynamic")
    def test_returned_structures(self, executor: Executor) -> None:
        """Nodes and graphs in a structure are evaluated where they stand."""
        assert same(executor.compute(mixed(10)), [10, 20, {"deep": (30, "text")}, 40, [{"five": 50}]])

    @needs("dynamic")
    def test_returned_graphs(self, executor: Executor) -> None:
        """A graph stands for the dict of its outputs; one with an unnamed output for its bare value."""
        assert same(executor.compute(as_graph(identity(5))), {"twice": 10, "thrice": 15})
        assert executor.compute(as_graph(5)["thrice"] + 1) == 16

    @needs("dynamic")
    def test_returning_an_argument(self, executor: Executor) -> None:
        """A task may give back a node that exists already, and that others need too."""
        existing = scale(21)
        graph = gr.Graph(
            a=give_back(1, gr.quote(existing)), b=existing, c=add(existing, give_back(existing, gr.quote(existing)))
        )
        assert executor.compute(graph) == {"a": 42, "b": 42, "c": 84}
        assert executor.compute(give_back(existing, gr.quote(existing))) == 42

    @needs("dynamic")
    def test_a_dynamic_node_that_several_need_runs_once(self, executor: Executor, tmp_path: Path) -> None:
        """Its value is there for all of them."""
        path = str(tmp_path / "notes")
        dynamic = shared_inside(path)
        graph = gr.Graph(a=gr.call(len, dynamic), b=dynamic[3], c=[dynamic, dynamic])
        users = [f"user {i}" for i in range(20)]
        assert executor.compute(graph) == {"a": 20, "b": "user 3", "c": [users, users]}
        assert sorted(notes(path)) == sorted(["shared", *users])

    @needs("dynamic")
    def test_many_dynamic_nodes_at_once(self, executor: Executor) -> None:
        """A fan-out of them, and a fan-in of their values."""
        assert executor.compute(gr.combine(sum, gr.map(collatz, range(1, 100)))) == sum(map(steps_of, range(1, 100)))
        assert executor.compute(gr.Graph(gr.map(factorial, range(10)))) == (
            1,
            1,
            2,
            6,
            24,
            120,
            720,
            5040,
            40320,
            362880,
        )

    def test_a_quoted_node_is_data(self, executor: Executor) -> None:
        """A task gets the node itself, and nothing of it is computed."""
        assert executor.compute(is_node(gr.quote(fail()))) is True
        assert executor.compute(is_node([gr.quote(fail())][0])) is True
        assert executor.compute(is_node(add(1, 2))) is False
        result = executor.compute(gr.quote(add(1, 2)))
        assert type(result) is gr.Node
        assert result.compute() == 3

    @needs("dynamic")
    def test_a_quoted_node_can_be_built_upon(self, executor: Executor) -> None:
        """Once returned, it is evaluated."""
        assert executor.compute(call_quoted(gr.quote(add(1, 2)))) == [4, 6, 3]

    @needs("dynamic")
    def test_a_returned_quote_is_data(self, executor: Executor) -> None:
        """Returning a quoted node gives the node as the value."""
        result = executor.compute(quote_again(gr.quote(add(1, 2))))
        assert type(result) is gr.Node
        assert result.compute() == 3
        assert executor.compute(is_node(quote_again(gr.quote(add(1, 2))))) is True

    @needs("dynamic")
    def test_a_quoted_graph(self, executor: Executor) -> None:
        """A graph is data, too, when it is quoted."""
        graph = gr.Graph(a=add(1, 2), b=scale(3))
        assert executor.compute(quoted_graph(gr.quote(graph))) == [["a", "b"], {"a": 3, "b": 6}]

    @needs("dynamic")
    def test_what_is_returned_may_be_in_the_graph_already(self, executor: Executor) -> None:
        """It has one value, whether it is still to be computed, being computed, or done."""
        for seconds in (0.0, 0.003, 0.02):
            leaves = gr.map(nap, [0.002] * 8, range(8))
            chosen = gr.map(choose_later, [gr.quote(leaf) for leaf in leaves], seconds=seconds)
            assert executor.compute([chosen, leaves]) == [tuple(range(8)), tuple(range(8))]

    @needs("dynamic")
    def test_many_iterations_side_by_side(self, executor: Executor) -> None:
        """Handed back and forth between workers as they become idle."""
        for _ in range(10):
            graph = gr.Graph(
                a=gr.iterate(one_more, 1, steps=150),
                b=gr.map(scale, range(50)),
                c=gr.iterate(one_more, 1, steps=150, until=is_large),
                d=gr.combine(sum, gr.map(scale, gr.call(range, 40))),
            )
            assert executor.compute(graph) == {"a": 151, "b": tuple(range(0, 100, 2)), "c": 151, "d": 1560}

    @needs("dynamic")
    def test_a_failure_inside(self, executor: Executor) -> None:
        """What a returned node raises is raised by the run."""
        with pytest.raises(ValueError, match="inside"):
            executor.compute(add(1, give_back(1, gr.quote(add(fail("inside"), 1)))))

    @needs("dynamic")
    def test_returned_nodes_with_structures(self, executor: Executor) -> None:
        """New nodes that take structures of other new nodes, by keyword too."""
        assert same(executor.compute(nest(3)), ((([3, {"k": 6}],), {"key": (6,)}),))


@gr.task
def choose_later(node: Any, seconds: float) -> Any:
    """Return a node that was given as data."""
    time.sleep(seconds)
    return node


@gr.task
def one_more(x: int) -> int:
    """A step of an iteration."""
    return x + 1


@gr.task
def is_large(x: int) -> bool:
    """A condition that does not hold."""
    return x > 10_000


@gr.task
def nest(x: int) -> Any:
    """A new node in a structure of new nodes."""
    new = scale(x)
    return (echo([x, {"k": new}], key=(new,)),)
