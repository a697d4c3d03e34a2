"""What `run.summary()` says, and the table that is made of it."""

from __future__ import annotations

import os
import pathlib
import signal
import time
from typing import Any

import numpy as np
import pytest

import graphray as gr
from graphray.executors import InProcess, Loky, events
from graphray.executors.summary import Figures, duration, render, size


@gr.task
def nap(seconds: float, after: Any = None) -> float:
    time.sleep(seconds)
    return seconds


@gr.task
def add(a: float, b: float) -> float:
    return a + b


@gr.task
def ones(n: int) -> np.ndarray:
    return np.ones(n)


@gr.task
def total(x: np.ndarray) -> float:
    return float(x.sum())


@gr.task(retries=1)
def second_time(x: int) -> int:
    if gr.context().attempt == 1:
        raise ValueError("not yet")
    return x


@gr.task
def fail() -> None:
    raise ValueError("no")


@gr.task
def killed_once(path: str) -> int:
    if not os.path.exists(path):
        pathlib.Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


@gr.task
def grow(n: int) -> Any:
    return gr.combine(sum, gr.map(add, range(n), [1] * n))


def summary_of(graph: Any, engine: Any, **options: Any) -> dict[str, Any]:
    run = gr.Graph(graph).run(engine, **options)
    run.result()
    return run.summary()


@pytest.mark.parametrize("engine", ["inprocess", "inprocess:2", "loky"])
def test_calls_and_seconds_by_task(engine: str, loky: Loky) -> None:
    naps = gr.map(nap, [0.01] * 6)
    summary = summary_of(gr.combine(sum, naps), loky if engine == "loky" else engine)
    assert (summary["nodes"], summary["total"]) == (7, 7)
    assert summary["workers"] == (1 if engine == "inprocess" else 2)
    assert set(summary["tasks"]) == {"nap", "sum"}
    slept = summary["tasks"]["nap"]
    assert slept["calls"] == 6
    assert slept["seconds"] >= 0.06
    assert slept["mean"] == pytest.approx(slept["seconds"] / 6)
    busy = sum(task["seconds"] for task in summary["tasks"].values())
    assert summary["parallelism"] == pytest.approx(busy / summary["seconds"])


@pytest.mark.parametrize("engine", ["inprocess", "loky"])
def test_the_critical_path_is_the_longest_chain(engine: str, loky: Loky) -> None:
    """Of two chains of the same length, that of the slower tasks; its time is that of its tasks' means."""
    slow: Any = nap(0.03)
    for _ in range(3):
        slow = nap(0.03, slow)
    quick: Any = 1.0
    for _ in range(6):
        quick = add(quick, 1.0)
    summary = summary_of(add(slow, quick), loky if engine == "loky" else engine)
    path = summary["critical_path"]
    assert path["tasks"] == [("nap", 4), ("add", 1)]
    assert path["nodes"] == 5
    assert path["complete"]
    means = {name: task["mean"] for name, task in summary["tasks"].items()}
    assert path["seconds"] == pytest.approx(4 * means["nap"] + means["add"])
    assert path["seconds"] <= summary["seconds"]


def test_a_path_that_lacks_returned_nodes_says_so() -> None:
    summary = summary_of([grow(4)], InProcess())
    assert not summary["critical_path"]["complete"]
    assert "at least" in render(summary)
    assert "at least" not in render(summary_of(add(1, 2), InProcess()))


def test_a_growing_run_has_no_critical_path() -> None:
    with InProcess() as engine, engine.open() as run:
        run.add(add(1, 2))
        assert [done.result() for done in run.as_completed()] == [3]
        summary = run.summary()
    assert summary["critical_path"] is None
    assert summary["tasks"]["add"]["calls"] == 1
    assert "critical path" not in render(summary)


def test_bytes_through_the_store_are_counted(loky: Loky) -> None:
    n = 50_000  # 400 kB, which no message carries
    arrays = gr.map(ones, [n] * 4)
    summary = summary_of([*arrays, *gr.map(total, arrays)], loky)
    assert summary["bytes"]["sent"] >= 4 * 8 * n
    assert summary_of(gr.map(add, range(4), [1] * 4), loky)["bytes"] == {"received": 0, "sent": 0}


@pytest.mark.parametrize("engine", ["inprocess", "inprocess:2", "loky"])
def test_hits_and_stores_of_the_cache_are_counted_once(engine: str, loky: Loky, tmp_path: pathlib.Path) -> None:
    used = loky if engine == "loky" else engine
    first = summary_of([nap(0.001), add(1, 2)], used, cache=tmp_path)["cache"]
    assert (first["hits"], first["stored"]) == (0, 2)
    assert first["bytes"] > 0
    again = summary_of([nap(0.001), add(1, 2)], used, cache=tmp_path)
    assert again["cache"] == {"hits": 2, "stored": 0, "bytes": 0}
    assert again["nodes"] == 0
    assert "2 results found" in render(again)


@pytest.mark.parametrize("engine", ["inprocess", "loky"])
def test_retries_and_failures_are_counted(engine: str, loky: Loky) -> None:
    graph = [*gr.map(second_time, range(3)), fail()]
    summary = summary_of(graph, loky if engine == "loky" else engine, on_error="collect")
    assert (summary["retries"], summary["failures"], summary["workers_lost"]) == (3, 1, 0)
    text = render(summary)
    assert "1 failed node, 3 retries" in text


def test_lost_workers_are_counted(tmp_path: pathlib.Path) -> None:
    with Loky(1) as pool:
        summary = summary_of(killed_once(str(tmp_path / "mark")), pool)
    assert summary["workers_lost"] == 1
    assert "1 lost worker" in render(summary)


def test_what_went_to_disk_is_counted(loky: Loky) -> None:
    arrays = gr.map(ones, [500_000] * 8)
    sums = [add(total(x), total(arrays[i - 1])) for i, x in enumerate(arrays)]
    summary = summary_of(gr.combine(sum, sums), loky, memory=12_000_000)
    assert summary["spilled"] > 0
    assert summary["memory_peak"] > 4_000_000
    assert "moved to disk" in render(summary)


def test_a_finished_summary_stays_as_it_is() -> None:
    run = gr.Graph(add(1, 2)).run()
    assert run.summary()["nodes"] == 0
    run.result()
    first = run.summary()
    first["tasks"]["add"]["calls"] = 77
    first["bytes"].clear()
    second = run.summary()
    assert second["tasks"]["add"]["calls"] == 1
    assert second["seconds"] == first["seconds"]


def test_a_run_keeps_no_spans_of_its_nodes(tmp_path: pathlib.Path) -> None:
    """They may be millions: who asks for them gets them, and nobody else."""
    told: list[events.RunEvent] = []
    run = gr.Graph(gr.map(add, range(20), [1] * 20)).run(trace=tmp_path / "run.json", progress=told.append)
    run.result()
    assert sum(len(e.spans) for e in told if isinstance(e, events.UnitFinished)) == 20
    kept = [e for e in run.events if isinstance(e, events.UnitFinished)]
    assert kept
    assert not any(e.spans for e in kept)
    assert [type(e) for e in told] == [type(e) for e in run.events]


def test_what_is_stored_in_the_cache_is_told_once(tmp_path: pathlib.Path) -> None:
    run = gr.Graph(gr.map(add, range(5), [1] * 5)).run("loky:1", cache=tmp_path)
    run.result()
    told = [e for e in run.events if isinstance(e, events.CacheStored)]
    assert sum(e.results for e in told) == 5
    assert sum(e.nbytes for e in told) == run.summary()["cache"]["bytes"] > 0


# ---- the table


PATH = {"seconds": 0.1, "nodes": 1, "tasks": [("work", 1)], "complete": True}


def figures(**more: Any) -> dict[str, Any]:
    """A summary with little in it, and what a test wants to see."""
    task = {"calls": 10, "seconds": 1.0, "mean": 0.1}
    return {
        "nodes": 10,
        "total": 10,
        "seconds": 1.0,
        "workers": 4,
        "tasks": {"work": task},
        "parallelism": 1.0,
        "critical_path": PATH,
        "bytes": {"received": 0, "sent": 0},
        "cache": {"hits": 0, "stored": 0, "bytes": 0},
        "retries": 0,
        "failures": 0,
        "workers_lost": 0,
        "spilled": 0,
        "memory_peak": 0,
    } | more


def test_tasks_are_listed_by_their_time_and_the_rest_together() -> None:
    tasks = {f"task_{i}": {"calls": 1, "seconds": float(i), "mean": float(i)} for i in range(1, 41)}
    lines = render(figures(tasks=tasks)).splitlines()
    names = [line.split()[0] for line in lines if line.startswith("task_")]
    assert names == [f"task_{i}" for i in range(40, 20, -1)]
    rest = next(line.split() for line in lines if line.startswith("20 more"))
    assert rest[2] == "20"  # calls
    assert "26%" in rest  # 210 of 820 seconds


def test_lines_are_no_wider_than_they_may_be() -> None:
    long = {f"{'long_' * 30}{i}": {"calls": 10**7, "seconds": 1e5, "mean": 1e-2, "max": 3.0} for i in range(4)}
    path = {"seconds": 0.9, "nodes": 12, "tasks": [(name, 3) for name in long] * 4, "complete": True}
    for columns in (60, 80, 120):
        lines = render(figures(tasks=long, critical_path=path), columns).splitlines()
        assert max(map(len, lines)) <= columns, columns


@pytest.mark.parametrize(
    ("said", "more"),
    [
        ("critical path takes 90% of the time", {"critical_path": PATH | {"seconds": 0.9}}),
        ("there are only 3 calls", {"tasks": {"work": {"calls": 3, "seconds": 1.0, "mean": 0.3}}}),
        ("less than it costs to hand one out", {"tasks": {"work": {"calls": 10**6, "seconds": 1.0, "mean": 1e-6}}}),
        ("a trace shows for what", {}),
        ("by way of the disk", {"parallelism": 4.0, "spilled": 10}),
    ],
)  # fmt: skip
def test_what_limits_a_run_is_said(said: str, more: dict[str, Any]) -> None:
    text = " ".join(render(figures(**more)).split())
    assert said in text


def test_a_run_that_used_its_workers_needs_no_advice() -> None:
    assert "note" not in render(figures(parallelism=3.9))


def test_a_run_without_calls_can_be_rendered() -> None:
    assert "0 nodes" in render(figures(nodes=0, total=0, tasks={}, critical_path=None, parallelism=0.0, seconds=0.0))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 µs"),
        (9.996e-4, "1 ms"),
        (0.0123, "12.3 ms"),
        (0.9996, "1 s"),
        (59.94, "59.9 s"),
        (61, "1 min 01 s"),
        (7260, "2 h 01 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (999.6, "1 kB"), (1_234_567, "1.23 MB"), (5e12, "5 TB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


def test_the_longest_call_is_said_only_where_it_is_known() -> None:
    figures = Figures()
    figures.note(events.UnitFinished(0.0, "w", {"f": (1, 0.5)}))
    figures.note(
        events.UnitFinished(0.0, "w", {"f": (2, 1.1)}, spans=[("f", "f", 0.0, 0.8, 1), ("f", "f", 1.0, 0.3, 1)])
    )
    assert figures.spent["f"] == [3, pytest.approx(1.6), 0.8]
    figures.note(events.UnitFinished(0.0, "w", {"f": (2, 0.2)}))
    figures.note(events.UnitFinished(0.0, "w", {"f": (1, 0.1)}))
    assert figures.spent["f"][2] == 0.0
