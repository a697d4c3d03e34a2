"""Runs: handles, events, cancelling, several threads, reuse, closing."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.executors.events import NodeFailed, Progressed, RunEvent, RunFinished, RunStarted, UnitFinished
from graphray.testing.part import Part, needs
from graphray.testing.tasks import (
    add,
    fail,
    identity,
    nap,
    noted,
    notes,
    scale,
    squares_of,
    timed_nap,
    wait_for_cancel,
)

PATIENCE = 10.0  # seconds: how long a test waits for what should take much less


def until(condition: Callable[[], Any], patience: float = PATIENCE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


class Runs(Part):
    """Handles and what goes on around them."""

    def test_a_handle(self, executor: Executor) -> None:
        """`run` gives one; its result can be asked for again."""
        run = executor.run(gr.Graph(a=add(1, 2)))
        assert run.result() == {"a": 3}
        assert run.result() == {"a": 3}
        assert run.done()

    def test_a_failed_handle(self, executor: Executor) -> None:
        """Raises each time it is asked."""
        run = executor.run(add(fail("x"), 1))
        for _ in range(2):
            with pytest.raises(ValueError, match="x"):
                run.result()
        assert run.done()

    def test_an_engine_is_used_again_and_again(self, executor: Executor) -> None:
        """Graph after graph."""
        for i in range(30):
            assert executor.compute(gr.combine(sum, gr.map(scale, range(i), by=i), initial=0)) == i * i * (i - 1) // 2

    def test_a_graph_is_computed_again_and_again(self, executor: Executor) -> None:
        """A graph keeps nothing of its runs."""
        graph = gr.Graph(
            a=gr.reduce(add, gr.map(scale, range(40))), b=squares_of(5) if self.capabilities.dynamic else 0
        )
        first = executor.compute(graph)
        assert [executor.compute(graph) for _ in range(5)] == [first] * 5

    # ---- events

    def test_events_tell_a_run_from_beginning_to_end(self, executor: Executor) -> None:
        """One beginning, one end, and figures that agree with the graph in between."""
        graph = gr.Graph(gr.combine(sum, gr.map(add, gr.map(scale, range(300)), range(300))))
        seen: list[RunEvent] = []
        run = executor.run(graph, progress=seen.append)
        run.result()
        assert run.events == seen
        assert [i for i, e in enumerate(seen) if isinstance(e, RunStarted)] == [0]
        assert [i for i, e in enumerate(seen) if isinstance(e, RunFinished)] == [len(seen) - 1]
        assert seen[0].total == len(graph)  # type: ignore[attr-defined]
        assert seen[-1].error is None  # type: ignore[attr-defined]
        times = [e.time for e in seen]
        assert times == sorted(times)
        progress = [e for e in seen if isinstance(e, Progressed)]
        done = [e.done for e in progress]
        assert done == sorted(done)
        assert all(e.done <= e.total for e in progress)
        assert (progress[-1].done, progress[-1].total) == (len(graph), len(graph))
        calls = [tally for e in seen if isinstance(e, UnitFinished) for tally in e.spent.items()]
        assert sum(calls for name, (calls, _) in calls if name == "scale") == 300
        assert sum(calls for name, (calls, _) in calls if name == "add") == 300

    def test_progress_of_a_run_that_takes_its_time(self, executor: Executor) -> None:
        """Never goes back, and never beyond the total."""
        graph = gr.Graph(gr.map(nap, [0.02] * 30))
        run = executor.run(graph)
        run.result()
        progress = [(e.done, e.total) for e in run.events if isinstance(e, Progressed)]
        assert progress == sorted(progress)
        assert progress[-1] == (30, 30)
        summary = run.summary()
        assert (summary["nodes"], summary["total"], summary["tasks"]["nap"]["calls"]) == (30, 30, 30)
        assert summary["tasks"]["nap"]["seconds"] >= 0.6
        assert 0 < summary["seconds"] < 60

    @needs("dynamic")
    def test_progress_of_a_run_that_grows_by_itself(self, executor: Executor) -> None:
        """What tasks return may count, from when it is known; done and total agree in the end."""
        run = executor.run(gr.Graph(gr.map(squares_of, range(20, 30))))
        run.result()
        progress = [e for e in run.events if isinstance(e, Progressed)]
        assert [e.done for e in progress] == sorted(e.done for e in progress)
        assert all(e.done <= e.total for e in progress)
        assert progress[-1].done == progress[-1].total
        assert progress[-1].total >= 10

    def test_events_of_a_failure(self, executor: Executor) -> None:
        """Which node, which error, how many are skipped; and the run's end has the error."""
        bad = fail("x")
        run = executor.run(gr.Graph(add(add(bad, 1), 2)))
        with pytest.raises(ValueError, match="x") as raised:
            run.result()
        (failed,) = [e for e in run.events if isinstance(e, NodeFailed)]
        assert failed.node is bad
        assert failed.error is raised.value
        assert failed.skipped == 2
        assert isinstance(run.events[-1], RunFinished)
        assert run.events[-1].error is raised.value

    def test_a_subscriber_that_fails_does_no_harm(self, executor: Executor) -> None:
        """It gets no more, and a warning says so."""

        def subscriber(event: RunEvent) -> None:
            calls.append(event)
            raise RuntimeError("no thanks")

        calls: list[RunEvent] = []
        with pytest.warns(UserWarning, match="no thanks"):
            assert executor.compute(add(1, 2), progress=subscriber) == 3
        assert len(calls) == 1
        assert executor.compute(add(1, 2)) == 3

    # ---- several at once

    def test_several_threads_compute_at_once(self, executor: Executor) -> None:
        """Each gets its own results, failures too."""

        def work(i: int) -> list[Any]:
            results: list[Any] = []
            for j in range(5):
                results.append(executor.compute(gr.combine(sum, gr.map(scale, range(50), by=i * j))))
                try:
                    executor.compute(gr.Graph([nap(0.001), fail(f"{i} {j}")]))
                except ValueError as error:
                    results.append(str(error))
            return results

        with ThreadPoolExecutor(6) as pool:
            for i, results in enumerate(pool.map(work, range(6), timeout=60)):
                assert results == [x for j in range(5) for x in (i * j * 1225, f"{i} {j}")]

    def test_several_runs_of_one_thread(self, executor: Executor) -> None:
        """Started one after another, asked for in any order."""
        runs = [executor.run(gr.Graph(gr.combine(sum, gr.map(scale, range(100), by=i)))) for i in range(8)]
        assert [run.result() for run in reversed(runs)] == [i * 4950 for i in reversed(range(8))]

    @needs("parallel")
    def test_independent_tasks_run_at_the_same_time(self, executor: Executor) -> None:
        """Of two naps, each begins before the other ends."""
        executor.compute(gr.Graph(gr.map(identity, range(4))))
        one, other = executor.compute(gr.Graph([timed_nap(0.8, i) for i in range(2)]))
        assert max(one[0], other[0]) < min(one[1], other[1])

    # ---- cancelling

    def test_a_cancelled_run(self, executor: Executor) -> None:
        """Raises `gr.Cancelled`; cancelling once more, or after the end, does nothing."""
        run = executor.run(gr.Graph(gr.map(nap, [0.05] * 200)))
        run.cancel()
        with pytest.raises(gr.Cancelled):
            run.result()
        run.cancel()
        assert executor.compute(add(1, 2)) == 3
        done = executor.run(add(1, 2))
        assert done.result() == 3
        done.cancel()
        assert done.result() == 3

    @needs("cancels")
    def test_cancelling_from_another_thread(self, executor: Executor, tmp_path: Path) -> None:
        """The task that is running can notice; no other begins; the engine stays usable."""
        path = str(tmp_path / "notes")
        running = wait_for_cancel(path, 20.0)
        graph = gr.Graph([running, noted(path, "too late", running)])
        run = executor.run(graph)
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(run.result)
            until(lambda: "began" in notes(path))
            run.cancel()
            with pytest.raises(gr.Cancelled):
                result.result(timeout=PATIENCE)
        until(lambda: "cancelled" in notes(path))
        assert executor.compute(add(1, 2)) == 3
        assert notes(path) == ["began", "cancelled"]

    def test_cancelling_at_any_moment(self, executor: Executor) -> None:
        """The run ends with its result or without, and nobody waits for ever."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(2) as threads:
                for _ in range(200):
                    run = executor.run(gr.combine(sum, gr.map(scale, range(30))))
                    result = threads.submit(run.result)
                    threads.submit(run.cancel).result(timeout=PATIENCE)
                    try:
                        assert result.result(timeout=PATIENCE) == 870
                    except gr.Cancelled:
                        assert run.done()
        finally:
            sys.setswitchinterval(interval)

    @needs("cancels")
    def test_cancelling_one_of_several_runs(self, executor: Executor, tmp_path: Path) -> None:
        """The others go on."""
        path = str(tmp_path / "notes")
        one = executor.run(wait_for_cancel(path, 20.0))
        other = executor.run(gr.Graph(gr.map(nap, [0.01] * 20)))
        with ThreadPoolExecutor(2) as pool:
            results = [pool.submit(one.result), pool.submit(other.result)]
            until(lambda: "began" in notes(path))
            one.cancel()
            assert results[1].result(timeout=PATIENCE) == (None,) * 20
            with pytest.raises(gr.Cancelled):
                results[0].result(timeout=PATIENCE)

    # ---- closing

    def test_a_closed_engine(self) -> None:
        """Says so; closing it again does nothing."""
        engine = self.other()
        with engine:
            assert engine.compute(add(1, 2)) == 3
        engine.close()
        with pytest.raises(RuntimeError, match="closed"):
            engine.compute(add(1, 2))

    def test_an_engine_that_was_never_used_closes(self) -> None:
        """It may not even have started."""
        self.other().close()

    @needs("cancels")
    def test_closing_during_a_run(self, tmp_path: Path) -> None:
        """Cancels it, and comes back soon."""
        path = str(tmp_path / "notes")
        engine = self.other()
        run = engine.run(gr.Graph([wait_for_cancel(path, 20.0), *gr.map(nap, [0.01] * 50)]))
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(run.result)
            until(lambda: "began" in notes(path))
            began = time.monotonic()
            engine.close()
            with pytest.raises(gr.Cancelled):
                result.result(timeout=PATIENCE)
            assert time.monotonic() - began < 5.0

    def test_an_engine_is_not_pickled(self, executor: Executor) -> None:
        """A task that refers to one is told what to do instead."""
        import pickle

        with pytest.raises(TypeError, match="cannot be sent"):
            pickle.dumps(executor)

    # ---- options

    def test_a_node_computes_itself(self, executor: Executor) -> None:
        """`node.compute(executor)`, `gr.compute(…, executor=…)` and `graph.run(executor)` are the same."""
        node = add(1, 2)
        assert node.compute(executor) == 3
        assert gr.compute(node, executor=executor) == 3
        assert gr.compute(node, scale(4), executor=executor) == (3, 8)
        assert gr.Graph(x=node).compute(executor=executor) == {"x": 3}
        assert gr.Graph(x=node).run(executor).result() == {"x": 3}

    def test_options_are_checked(self, executor: Executor) -> None:
        """Before anything runs."""
        for options in ({"on_error": "ignore"}, {"seed": "x"}, {"seed": 1.5}, {"threads_per_task": 0}, {"workers": 3}):
            with pytest.raises(ValueError, match=next(iter(options))):
                gr.Graph(identity(1)).compute(executor, **options)
        with pytest.raises(TypeError, match="progress"):
            executor.compute(identity(1), progress="yes")

    def test_no_thread_is_left_by_a_run(self, executor: Executor) -> None:
        """Runs do not add up."""
        executor.compute(add(1, 2))
        before = threading.active_count()
        for _ in range(5):
            executor.compute(gr.Graph(gr.map(scale, range(10))))
        assert threading.active_count() <= before
