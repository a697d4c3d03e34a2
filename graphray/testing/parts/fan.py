"""Fan-out and fan-in: order, and the shape of the tree, are the same on every engine."""

from __future__ import annotations

from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part, needs
from graphray.testing.tasks import add, bracket, draws, identity, join, scale


def tree(items: list[str], arity: int, node: Any) -> str:
    """The tree as the semantics describe it: consecutive groups, one of one passes through, until one is left."""
    while len(items) > 1:
        groups = [items[i : i + arity] for i in range(0, len(items), arity)]
        items = [node(group) if len(group) > 1 else group[0] for group in groups]
    return items[0]


def folded(group: list[str]) -> str:
    """A group of `gr.reduce`: a fold from the left."""
    text = group[0]
    for other in group[1:]:
        text = f"({text} {other})"
    return text


def joined(group: list[str]) -> str:
    """A group of `gr.combine`: one call."""
    return f"[{' '.join(group)}]"


SIZES = [1, 2, 3, 4, 5, 15, 16, 17, 33, 100, 257]


class Fan(Part):
    """`gr.map`, `gr.reduce` and `gr.combine`."""

    def test_map_keeps_order(self, executor: Executor) -> None:
        """One call for each element, in order."""
        assert executor.compute(gr.Graph(gr.map(scale, [3, 1, 2]))) == (6, 2, 4)
        assert executor.compute(gr.Graph(gr.map(scale, [3, 1, 2], by=10, plus=identity(1)))) == (31, 11, 21)

    def test_map_over_several_iterables(self, executor: Executor) -> None:
        """They are zipped; their elements may be nodes."""
        nodes = gr.map(add, gr.map(scale, range(5)), [10, identity(20), 30, 40, 50])
        assert executor.compute(gr.Graph(nodes)) == (10, 22, 34, 46, 58)

    def test_map_over_nothing(self, executor: Executor) -> None:
        """No element, no call."""
        assert executor.compute(gr.Graph(gr.map(scale, []))) == ()

    @needs("dynamic")
    def test_map_over_what_is_not_known_yet(self, executor: Executor) -> None:
        """A node that yields a list gives one node, whose value is the tuple of results."""
        unknown = identity([3, 1, 2])
        assert executor.compute(gr.map(scale, unknown)) == (6, 2, 4)
        assert executor.compute(gr.map(add, unknown, [10, 20, 30])) == (13, 21, 32)
        assert executor.compute(gr.map(scale, gr.map(scale, unknown), by=identity(10))) == (60, 20, 40)
        assert executor.compute(gr.map(scale, identity([]))) == ()
        assert executor.compute(gr.map(identity, identity({"a": 1, "b": 2}))) == ("a", "b")

    @needs("dynamic")
    def test_lengths_that_differ_fail(self, executor: Executor) -> None:
        """Also where they are known only later."""
        with pytest.raises(ValueError, match="length"):
            executor.compute(gr.map(add, identity([1, 2]), [1, 2, 3]))

    @pytest.mark.parametrize("arity", [2, 3, 16])
    @pytest.mark.parametrize("size", SIZES)
    def test_the_tree_of_a_fan_in(self, executor: Executor, size: int, arity: int) -> None:
        """Its shape depends on the number of values and the arity only, and order is kept."""
        items = [f"{i}" for i in range(size)]
        nodes = [identity(x) for x in items]
        graph = gr.Graph(reduce=gr.reduce(bracket, nodes, arity=arity), combine=gr.combine(join, nodes, arity=arity))
        assert executor.compute(graph) == {"reduce": tree(items, arity, folded), "combine": tree(items, arity, joined)}

    @needs("dynamic")
    @pytest.mark.parametrize("size", SIZES)
    def test_the_tree_of_a_fan_in_of_what_is_not_known_yet(self, executor: Executor, size: int) -> None:
        """It is the same tree."""
        items = [f"{i}" for i in range(size)]
        graph = gr.Graph(
            reduce=gr.reduce(bracket, identity(items), arity=3), combine=gr.combine(join, identity(items), arity=3)
        )
        assert executor.compute(graph) == {"reduce": tree(items, 3, folded), "combine": tree(items, 3, joined)}

    def test_initial_comes_first(self, executor: Executor) -> None:
        """And is the result where there are no values."""
        nodes = [identity(x) for x in "bc"]
        assert executor.compute(gr.reduce(bracket, nodes, initial="a")) == "((a b) c)"
        assert executor.compute(gr.combine(join, nodes, initial=identity("a"))) == "[a b c]"
        assert executor.compute(gr.reduce(bracket, [], initial="a")) == "a"
        assert executor.compute(gr.combine(join, [], initial="a")) == "a"

    def test_a_lone_value_passes_through(self, executor: Executor) -> None:
        """No call is made for it."""
        assert executor.compute(gr.reduce(bracket, [identity("a")])) == "a"
        assert executor.compute(gr.combine(join, ["a"])) == "a"

    @needs("dynamic")
    def test_no_values_and_no_initial_fails(self, executor: Executor) -> None:
        """At the node, where it is known only later."""
        with pytest.raises(ValueError, match="initial"):
            executor.compute(gr.reduce(bracket, identity([])))

    @needs("dynamic", "seeds")
    def test_map_reduce_of_what_is_not_known_yet(self, executor: Executor) -> None:
        """A whole map-reduce that is planned while the run goes on."""
        result = executor.compute(gr.combine(sorted_all, gr.map(box, draws(50))))
        assert len(result) == 50
        assert result == sorted(result)

    def test_map_reduce(self, executor: Executor) -> None:
        """The usual thing, with some thousand parts."""
        assert executor.compute(gr.reduce(add, gr.map(scale, range(5000)))) == 5000 * 4999
        assert executor.compute(gr.combine(sum, gr.map(scale, range(5000)))) == 5000 * 4999


@gr.task
def box(x: Any) -> list[Any]:
    """A list of one."""
    return [x]


@gr.task
def sorted_all(lists: list[list[Any]]) -> list[Any]:
    """All items, sorted."""
    return sorted([x for items in lists for x in items])
