"""gr.iterate: a fold over steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part, needs
from graphray.testing.sameness import same
from graphray.testing.tasks import add, fail_on, identity, note, notes, scale


@gr.task
def step_noted(state: tuple[str, int]) -> tuple[str, int]:
    """A step that says that it was made."""
    path, n = state
    note(path, f"step {n}")
    return path, n + 1


@gr.task
def enough(state: tuple[str, int]) -> bool:
    """A question that says that it was asked."""
    path, n = state
    note(path, f"asked {n}")
    return n >= 3


@gr.task
def step_by_nodes(x: int) -> Any:
    """A step that returns a node."""
    return add(scale(x), 1)


@gr.task
def fan_and_sum(x: int) -> Any:
    """A step that is a map-reduce: rollouts and an update."""
    return gr.combine(sum, gr.map(add, [x] * 5, range(5)))


@gr.task
def grow(state: dict[str, Any]) -> dict[str, Any]:
    """A step on a structure."""
    return {"n": state["n"] + 1, "seen": [*state["seen"][-2:], state["n"]]}


class Iteration(Part):
    """`gr.iterate`."""

    @needs("dynamic")
    @pytest.mark.parametrize("steps", [0, 1, 2, 63, 64, 65, 200])
    def test_a_number_of_steps(self, executor: Executor, steps: int) -> None:
        """`step` is called that often."""
        assert executor.compute(gr.iterate(increment, 5, steps=steps)) == 5 + steps

    @needs("dynamic")
    def test_10_000_steps(self, executor: Executor) -> None:
        """A long iteration."""
        assert executor.compute(gr.iterate(increment, 0, steps=10_000)) == 10_000

    @needs("dynamic")
    def test_the_first_state_may_be_a_node(self, executor: Executor) -> None:
        """Or a structure that contains some; with no steps it is the result."""
        assert executor.compute(gr.iterate(increment, identity(5), steps=3)) == 8
        state = {"n": identity(1), "seen": [identity(0)]}
        assert same(executor.compute(gr.iterate(grow, state, steps=3)), {"n": 4, "seen": [1, 2, 3]})
        assert same(executor.compute(gr.iterate(grow, state, steps=0)), {"n": 1, "seen": [0]})

    @needs("dynamic")
    def test_until_is_asked_before_each_step(self, executor: Executor, tmp_path: Path) -> None:
        """So possibly no step is made."""
        path = str(tmp_path / "notes")
        assert executor.compute(gr.iterate(step_noted, (path, 1), until=enough))[1] == 3
        assert notes(path) == ["asked 1", "step 1", "asked 2", "step 2", "asked 3"]
        path = str(tmp_path / "more notes")
        assert executor.compute(gr.iterate(step_noted, (path, 7), until=enough))[1] == 7
        assert notes(path) == ["asked 7"]

    @needs("dynamic")
    def test_steps_and_until(self, executor: Executor, tmp_path: Path) -> None:
        """Whichever comes first; nothing is asked where no step is left."""
        path = str(tmp_path / "notes")
        assert executor.compute(gr.iterate(step_noted, (path, 1), steps=1, until=enough))[1] == 2
        assert notes(path) == ["asked 1", "step 1"]
        assert executor.compute(gr.iterate(increment, 0, steps=100, until=lambda x: x >= 10)) == 10
        assert executor.compute(gr.iterate(increment, 0, steps=5, until=lambda x: x >= 10)) == 5
        assert executor.compute(gr.iterate(increment, 0, steps=0, until=lambda x: False)) == 0

    @needs("dynamic")
    def test_until_for_many_steps(self, executor: Executor) -> None:
        """A condition that comes true late."""
        assert executor.compute(gr.iterate(increment, 0, until=lambda x: x >= 2000)) == 2000

    @needs("dynamic")
    def test_a_step_may_return_a_node(self, executor: Executor) -> None:
        """Or a whole fan-out."""
        assert executor.compute(gr.iterate(step_by_nodes, 1, steps=10)) == 2047
        assert executor.compute(gr.iterate(fan_and_sum, 1, steps=4)) == 2185

    @needs("dynamic")
    def test_a_question_may_return_a_node(self, executor: Executor) -> None:
        """`until` is a task like any other."""
        assert executor.compute(gr.iterate(increment, 0, until=ask_lazily)) == 5

    @needs("dynamic")
    def test_iterations_side_by_side_and_behind_one_another(self, executor: Executor) -> None:
        """Several at once, one that begins where another ends, and one inside a step."""
        sides = [gr.iterate(increment, i, steps=70) for i in range(6)]
        after = gr.iterate(increment, gr.combine(sum, sides), steps=70)
        nested = gr.iterate(inner, 0, steps=5)
        graph = gr.Graph(sides=sides, after=after, nested=nested)
        assert executor.compute(graph) == {"sides": list(range(70, 76)), "after": 505, "nested": 50}

    @needs("dynamic")
    def test_the_same_iteration_can_be_computed_again(self, executor: Executor) -> None:
        """A run changes nothing of the graph."""
        node = gr.iterate(increment, identity(0), steps=150)
        later = add(node, node)
        assert [executor.compute(later), executor.compute(node), executor.compute(later)] == [300, 150, 300]

    @needs("dynamic")
    def test_a_failing_step(self, executor: Executor) -> None:
        """Ends the iteration."""
        with pytest.raises(ValueError, match="70 is bad"):
            executor.compute(gr.iterate(until_70, 0, steps=100))


@gr.task
def increment(x: int) -> int:
    """One more."""
    return x + 1


@gr.task
def ask_lazily(x: int) -> Any:
    """A question that is answered by a node."""
    return identity(x) >= 5


@gr.task
def inner(x: int) -> Any:
    """A step that is an iteration."""
    return gr.iterate(increment, x, steps=10)


@gr.task
def until_70(x: int) -> Any:
    """A step that returns a node, which fails at 70."""
    return increment(fail_on(x, 70))
