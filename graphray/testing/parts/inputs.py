"""Inputs: symbolic values that are given later."""

from __future__ import annotations

from pathlib import Path

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part
from graphray.testing.tasks import add, echo, noted, notes, scale


class Inputs(Part):
    """`gr.input`, `bind`, and `Graph.map` over axes."""

    def test_an_input_is_given_with_the_run(self, executor: Executor) -> None:
        """By name; what is not given has its default."""
        graph = gr.Graph(add(gr.input("a"), scale(gr.input("b", default=10))))
        assert executor.compute(graph, inputs={"a": 1}) == 21
        assert executor.compute(graph, inputs={"a": 1, "b": 2}) == 5

    def test_a_missing_input_is_named(self, executor: Executor) -> None:
        """And the run does not start."""
        with pytest.raises(TypeError, match=r"'?a'?"):
            executor.compute(add(gr.input("a"), 1))
        with pytest.raises(TypeError, match="nonsense"):
            executor.compute(gr.Graph(add(gr.input("a"), 1)), inputs={"a": 1, "nonsense": 2})

    def test_bind(self, executor: Executor) -> None:
        """A bound input has that value, which may be a node or a structure."""
        graph = gr.Graph(echo(gr.input("a"), b=[gr.input("b", default=None)]))
        assert executor.compute(graph.bind(a=1)) == ((1,), {"b": [None]})
        assert executor.compute(graph.bind(a=add(1, 2)).bind(b={"k": (4,)})) == ((3,), {"b": [{"k": (4,)}]})
        assert executor.compute(graph.bind(a=gr.input("c")), inputs={"c": 5}) == ((5,), {"b": [None]})

    def test_an_input_may_be_an_output(self, executor: Executor) -> None:
        """Bare, or in a structure."""
        graph = gr.Graph(x=gr.input("x", default=3), deep=[gr.input("x", default=3)])
        assert executor.compute(graph) == {"x": 3, "deep": [3]}
        assert executor.compute(graph.bind(x=4)) == {"x": 4, "deep": [4]}

    def test_a_map_over_axes(self, executor: Executor) -> None:
        """Each output is the tuple of its values over the product, the first axis slowest."""
        graph = gr.Graph(value=add(gr.input("x"), scale(gr.input("y"), by=gr.input("z", default=10))))
        mapped = graph.map(x=[1, 2], y=range(3))
        assert mapped.combinations == tuple({"x": x, "y": y} for x in (1, 2) for y in range(3))
        assert executor.compute(mapped) == {"value": (1, 11, 21, 2, 12, 22)}
        assert executor.compute(mapped, inputs={"z": 100}) == {"value": (1, 101, 201, 2, 102, 202)}

    def test_what_no_axis_reaches_is_computed_once(self, executor: Executor, tmp_path: Path) -> None:
        """Points that share a prefix share its value."""
        path = str(tmp_path / "notes")
        prefix = noted(path, "prefix", noted(path, "before"))
        graph = gr.Graph(a=echo(prefix, gr.input("x")), prefix=prefix)
        result = executor.compute(graph.map(x=range(20)))
        assert result == {"a": tuple((("prefix", x), {}) for x in range(20)), "prefix": ("prefix",) * 20}
        assert notes(path) == ["before", "prefix"]
