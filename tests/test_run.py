"""Handles of runs: subscribers and events, ends, growing runs. `graphray.testing` has what all engines do."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import graphray as gr
from graphray.executors import InProcess, ahead
from graphray.executors.cache import history
from graphray.executors.cache.history import History
from graphray.executors.events import CacheHit, NodeFailed, Progressed, RunFinished


@gr.task
def double(x: int) -> int:
    return 2 * x


class _Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), _Stop()])
@pytest.mark.parametrize("engine", ["inprocess", "inprocess:2"])
def test_a_subscriber_that_fails_hangs_nothing(engine: str, error: BaseException) -> None:
    """Also where warnings are errors."""

    def fail(event: Any) -> None:
        raise error

    assert double(1).compute(engine, progress=fail) == 2


@pytest.mark.parametrize("engine", [1, 2])
def test_a_run_that_is_interrupted_as_it_begins_is_over(engine: int, tmp_path: Path) -> None:
    """While the cache is looked into, that is: nobody has a handle yet by which it could be ended."""
    graph = gr.Graph(gr.map(double, range(3)))
    graph.compute(cache=tmp_path / "cache")
    seen: list[Any] = []

    def interrupt(event: Any) -> None:
        seen.append(event)
        if type(event) is CacheHit:
            raise KeyboardInterrupt

    with InProcess(engine) as executor:
        with pytest.raises(KeyboardInterrupt):
            graph.run(executor, cache=tmp_path / "cache", progress=interrupt)
        assert type(seen[-1]) is RunFinished
        assert type(seen[-1].error) is KeyboardInterrupt
        assert graph.compute(executor, cache=tmp_path / "cache") == (0, 2, 4)


@pytest.mark.parametrize("engine", ["inprocess", "inprocess:2"])
def test_what_fails_as_a_run_ends_leaves_nobody_waiting(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of the cache's records, or a Ctrl-C while they wait for another process."""

    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(History, "note", fail)
    run = gr.Graph(double(1)).run(engine, cache=tmp_path / "cache")
    with contextlib.suppress(KeyboardInterrupt):
        run.result(timeout=10)
    assert run.done()


def test_a_history_that_another_process_has_keeps_no_other_run_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written once it can be, and before the run's result is given."""
    monkeypatch.setattr(history, "PATIENCE", 60.0)
    graph, cache = gr.Graph(double(1)), tmp_path / "cache"
    with InProcess(2) as engine:
        engine.compute(double(5), cache=cache)
        with contextlib.closing(sqlite3.connect(cache / history.NAME, isolation_level=None)) as db:
            db.execute("BEGIN EXCLUSIVE")
            run = engine.run(graph, cache=cache)
            assert engine.compute(double(2)) == 4
            with engine.open(cache=cache) as growing:
                growing.add(double(3))
                assert [done.result() for done in growing.as_completed()] == [6]
                over = run._over.wait(10)
                db.execute("ROLLBACK")
        assert over
        assert run.result() == 2
    seen = {record.label for record in History(cache).latest(history.name_of(double), limit=9)}
    assert seen == {"double(5)", "double(1)", "double(3)"}


def test_a_failing_subscriber_is_told_of_once() -> None:
    def fail(event: Any) -> None:
        raise ValueError("no")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert double(1).compute(progress=fail) == 2
    assert ["no" in str(w.message) for w in caught] == [True]


def test_a_run_that_is_left_without_exception_has_no_error() -> None:
    for engine in (InProcess(), InProcess(2)):
        with engine, engine.open() as run:
            run.add(double(1))
            assert [done.result() for done in run.as_completed()] == [2]
        last = run.events[-1]
        assert isinstance(last, RunFinished)
        assert last.error is None


def test_a_growing_run_that_is_cancelled_says_so() -> None:
    with InProcess(2) as engine:
        with engine.open() as run:
            run.cancel()
        last = run.events[-1]
        assert isinstance(last, RunFinished)
        assert isinstance(last.error, gr.Cancelled)


def test_a_released_value_is_not_none() -> None:
    with InProcess(2) as engine, engine.open() as run:
        node = run.add(double(1))
        deadline = time.monotonic() + 10
        while not run.summary()["nodes"] and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        run.release(node)
        time.sleep(0.1)
        (done,) = run.as_completed()
        with pytest.raises(RuntimeError, match="let go"):
            done.result()


def test_events_of_a_growing_run_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphray.executors.run.KEPT", 50)
    with InProcess() as engine, engine.open() as run:
        for i in range(500):
            run.publish(Progressed(float(i), i, i))
        assert 50 <= len(run.events) <= 100
        assert run.events[-1].time == 499.0


@pytest.mark.parametrize("ask", [True, False])
def test_an_engine_made_for_a_run_ends_with_it(ask: bool) -> None:
    """Also if nobody asks for the result; the fixture of the suite looks for processes."""
    run = gr.Graph(double(4)).run("loky:1")
    assert run._over.wait(30)
    if ask:
        assert run.result() == 8
        assert run.result() == 8


def test_an_engine_made_for_a_run_ends_with_its_cancelling() -> None:
    run = gr.Graph(gr.call(time.sleep, 30)).run("loky:1")
    time.sleep(0.2)
    run.cancel()
    assert run._over.wait(10)
    with pytest.raises(gr.Cancelled):
        run.result()


def test_what_many_failures_have_ahead_of_them_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand calls that fail before a chain of a thousand others would take a million steps else."""
    asked = []
    look = ahead._following
    monkeypatch.setattr(ahead, "_following", lambda job, node: asked.append(node) or look(job, node))
    node = gr.call(list, list(gr.map(int, ["no"] * 100)))
    for _ in range(99):
        node = gr.call(list, node)
    seen: list[Any] = []
    gr.Graph(node).compute(on_error="collect", progress=seen.append)
    failed = [event for event in seen if type(event) is NodeFailed]
    assert [event.skipped for event in failed] == [100] * 100
    assert all("path int → list → list → list → … → list" in "".join(e.error.__notes__) for e in failed)
    assert len(asked) < 1000


@pytest.mark.parametrize("side", [0, 1, 2])
def test_failures_all_along_a_chain_cost_no_walk_to_its_end_each(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    """Also where some of it is an output of its own, or has a loose end."""
    asked = []
    look = ahead._following
    monkeypatch.setattr(ahead, "_following", lambda job, node: asked.append(node) or look(job, node))
    node, ends = gr.call(list, []), []
    for i in range(300):
        node = gr.call(max, node, gr.call(int, f"no {i}"))
        ends += [gr.call(list, node) for _ in range(side)]
    seen: list[Any] = []
    gr.Graph([node, *ends]).compute(on_error="collect", progress=seen.append)
    found = {event.node._args[0]: event for event in seen if type(event) is NodeFailed}
    assert [found[f"no {i}"].skipped for i in range(300)] == [(300 - i) * (1 + side) for i in range(300)]
    last = "list" if side else "max"
    assert f"path int → max → max → max → … → max → max → max → {last}" in "".join(found["no 7"].error.__notes__)
    if not side:
        assert "path int → max → max → max → max → max" in found["no 295"].error.__notes__[-2]
    assert len(asked) < 300 * (20 + 10 * side)


def test_what_is_skipped_is_counted_right(rng: random.Random) -> None:
    """In graphs of any shape."""
    for _ in range(30):
        nodes: list[gr.Node] = []
        for i in range(60):
            needs = rng.sample(nodes[-rng.choice([3, 10, 60]) :], min(len(nodes), rng.choice([0, 1, 1, 2, 3])))
            nodes.append(gr.call(sorted, [i, *needs]) if rng.random() < 0.8 else gr.call(int, f"no {i}", *needs))
        wanted = rng.sample(nodes, rng.choice([3, 20, 60]))
        seen: list[Any] = []
        graph = gr.Graph(wanted)
        graph.compute(on_error="collect", progress=seen.append)
        for event in [event for event in seen if type(event) is NodeFailed]:
            reached = {event.node}
            for node in graph.nodes:  # each after what it needs
                if reached.intersection(node._deps):
                    reached.add(node)
            assert event.skipped == len(reached) - 1
