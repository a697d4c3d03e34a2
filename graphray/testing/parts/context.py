"""Inside a task: `gr.context()`, `gr.local`, `near=`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.executors.events import Emitted, RunFinished
from graphray.testing.part import Part, needs
from graphray.testing.tasks import (
    at_home,
    compute_inside,
    fail_at_first,
    nap,
    process,
    take_seats,
    told,
    use_tool,
    where,
)


class InsideTasks(Part):
    """What a task can ask of its engine."""

    @needs("contexts")
    def test_a_context(self, executor: Executor) -> None:
        """Worker, attempt, whether the run was cancelled, and which node."""
        worker, attempt, cancelled, node = executor.compute(where())
        assert isinstance(worker, str)
        assert worker
        assert (attempt, cancelled, node) == (1, False, "where()")

    def test_there_is_none_outside(self, executor: Executor) -> None:
        """Also after a run in the same thread."""
        executor.compute(nap(0))
        with pytest.raises(RuntimeError, match="inside a running task"):
            gr.context()

    @needs("contexts")
    def test_the_attempt(self, executor: Executor, tmp_path: Path) -> None:
        """Counts from 1."""
        assert executor.compute(fail_at_first(str(tmp_path / "notes"), 1)) == 2

    @needs("contexts")
    def test_emitted_data_reaches_the_run(self, executor: Executor) -> None:
        """All of it, before the run ends, and in order for each task."""
        seen: list[Any] = []
        run = executor.run(gr.Graph(gr.map(told, range(100))), progress=seen.append)
        assert run.result() == tuple(range(100))
        emitted = [e for e in run.events if isinstance(e, Emitted)]
        assert sorted(e.data["number"] for e in emitted if "number" in e.data) == list(range(100))
        assert sorted(e.data["again"] for e in emitted if "again" in e.data) == list(range(100))
        order = [next(iter(e.data.values())) for e in emitted]
        assert all(order.index(i) < 199 - order[::-1].index(i) for i in range(100))
        assert all(e.node == f"told({next(iter(e.data.values()))})" for e in emitted)
        assert all(e.worker for e in emitted)
        assert [e for e in seen if isinstance(e, Emitted)] == emitted
        assert isinstance(run.events[-1], RunFinished)

    @needs("contexts")
    def test_local_is_made_once_per_worker(self, executor: Executor) -> None:
        """And once for each different argument."""
        results = executor.compute(gr.Graph([use_tool(i, f"tool {i % 2}") for i in range(60)]))
        results += executor.compute(gr.Graph([use_tool(i, f"tool {i % 2}") for i in range(60)]))
        numbers = defaultdict(set)
        for worker, name, number in results:
            numbers[worker, name].add(number)
        assert all(len(n) == 1 for n in numbers.values())
        assert {name for _, name, _ in results} == {"tool 0", "tool 1"}

    @needs("contexts")
    def test_local_knows_a_function_that_travelled_by_value(self, executor: Executor) -> None:
        """It arrives as a new object with each task, and is the same factory."""

        def factory() -> list[int]:
            return []

        def ask(i: int) -> tuple[str, int]:
            made = gr.local(factory)
            made.append(i)
            return gr.context().worker, id(made)

        seen = defaultdict(set)
        for _ in range(3):
            for worker, number in executor.compute(gr.Graph(gr.map(gr.task(ask), range(20)))):
                seen[worker].add(number)
        assert all(len(numbers) == 1 for numbers in seen.values())

    @needs("contexts")
    def test_local_keeps_64_per_worker_and_what_the_task_uses(self, executor: Executor) -> None:
        """However many it asks for, none is closed under its hands; those of earlier tasks are."""
        for before, open_, same in executor.compute(gr.Graph([take_seats(i, 70) for i in range(20)])):
            assert before <= 64
            assert (open_, same) == (True, True)

    @needs("contexts")
    def test_near_changes_no_value(self, executor: Executor) -> None:
        """It is a wish, and everything is run all the same."""
        assert executor.compute(gr.Graph(gr.map(at_home, range(200)))) == tuple(range(200))

    def test_a_run_inside_a_task_runs_right_there(self, executor: Executor) -> None:
        """One run is one pool: no pool inside a pool."""
        for here, there, result in executor.compute(gr.Graph(gr.map(compute_inside, range(2, 6)))):
            assert here == there
            assert result in (2, 6, 12, 20)

    @needs("processes")
    def test_tasks_run_elsewhere(self, executor: Executor) -> None:
        """Not in the driver's process."""
        import os

        assert executor.compute(process()) != os.getpid()
