"""Traces: what is in the file, that viewers can show it, and that it is there whole or not at all."""

from __future__ import annotations

import collections
import gc
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from typing import Any

import pytest

import graphray as gr
from graphray.executors import InProcess, Loky, events
from graphray.executors.trace import Trace


@gr.task
def nap(x: int, seconds: float = 0.01) -> int:
    time.sleep(seconds)
    return x


@gr.task
def grow(n: int) -> Any:
    return gr.combine(sum, gr.map(nap, range(n), [0.001] * n))


@gr.task
def tell(x: int) -> int:
    print("telling", x)
    gr.context().emit(loss=float("nan"), x=x, odd=object())
    return x


@gr.task(retries=1)
def second_time(x: int) -> int:
    if gr.context().attempt == 1:
        raise ValueError("not yet")
    return x


@gr.task
def fail(x: int) -> int:
    raise ValueError("no")


@gr.task
def killed_once(path: str) -> int:
    if not os.path.exists(path):
        pathlib.Path(path).touch()
        time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


class Shown:
    """A trace as a viewer sees it: strictly JSON, lanes by name, slices in the order of their begins."""

    def __init__(self, path: pathlib.Path) -> None:
        def refuse(text: str) -> None:
            raise AssertionError(f"{text} is not JSON")

        self.document = json.loads(path.read_text("ascii"), parse_constant=refuse)
        self.events = self.document["traceEvents"]
        names = [e for e in self.events if e["ph"] == "M" and e["name"] == "thread_name"]
        self.lanes = {e["tid"]: e["args"]["name"] for e in names}
        assert len(self.lanes) == len(names)
        self.slices: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        for e in self.events:
            assert e["ph"] in "MXiC"
            assert {"name", "pid", "tid"} <= e.keys()
            assert len({x["pid"] for x in self.events}) == 1
            if e["ph"] == "X":
                assert e["ts"] >= 0 <= e["dur"]
                self.slices[self.lanes[e["tid"]]].append(e)
        for lane in self.slices.values():
            self.check(lane)

    @staticmethod
    def check(lane: list[dict[str, Any]]) -> None:
        """Each slice lies within another one, or beside it: viewers drop or misplace what overlaps."""
        around: list[float] = []
        for e in sorted(lane, key=lambda e: (e["ts"], -e["dur"])):
            end = e["ts"] + e["dur"]
            while around and around[-1] <= e["ts"]:
                around.pop()
            assert not around or end <= around[-1], e
            around.append(end)

    def named(self, name: str) -> list[dict[str, Any]]:
        """Slices of that name; those of units have the names of nodes, too."""
        return [e for e in self.events if e["ph"] == "X" and e["name"] == name and e["cat"] != "run"]

    def kind(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e.get("cat") == kind]

    def marks(self, name: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["ph"] == "i" and name in e["name"]]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "run.json"


def left_in(folder: pathlib.Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# ---- what is in it


@pytest.mark.parametrize("engine", ["inprocess", "inprocess:2", "loky"])
def test_every_node_has_a_slice_in_its_worker_s_lane(engine: str, loky: Loky, path: pathlib.Path) -> None:
    graph = gr.Graph(gr.combine(sum, gr.map(nap, range(24))))
    run = graph.run(loky if engine == "loky" else engine, trace=path)
    assert run.result() == sum(range(24))
    shown = Shown(path)
    naps = shown.named("nap")
    assert sorted(e["args"]["node"] for e in naps) == sorted(f"nap({i})" for i in range(24))
    assert min(e["dur"] for e in naps) >= 9_000  # microseconds
    assert len(shown.named("sum")) == sum(n._task.name == "sum" for n in graph.nodes)
    workers = {e.worker for e in run.events if isinstance(e, events.UnitFinished)}
    assert set(shown.slices) == workers
    if engine != "inprocess":
        assert len(workers) == 2
    whole = run.summary()["seconds"] * 1e6
    assert all(sum(e["dur"] for e in lane if e.get("cat") != "node") <= whole * 1.05 for lane in shown.slices.values())


def test_nodes_lie_within_their_units_and_what_comes_before_a_unit_is_shown(loky: Loky, path: pathlib.Path) -> None:
    loky.compute(gr.Graph(gr.map(nap, range(30))), trace=path)
    shown = Shown(path)
    for lane in shown.slices.values():
        units = [e for e in lane if e["cat"] == "run"]
        for e in lane:
            if e["cat"] == "node":
                assert any(u["ts"] <= e["ts"] and e["ts"] + e["dur"] <= u["ts"] + u["dur"] for u in units)
        assert {e["name"] for e in lane if e["cat"] not in ("run", "node")} <= {"wait", "transfer"}
    assert shown.named("transfer")


def test_nodes_that_tasks_returned_are_in_it(path: pathlib.Path) -> None:
    assert grow(10).compute("loky:1", trace=path) == 45
    assert len(Shown(path).named("nap")) == 10


def test_a_lost_worker_and_the_retry_are_marked(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with Loky(1) as pool:
        assert pool.compute(killed_once(str(tmp_path / "mark")), trace=path) == 1
    shown = Shown(path)
    (lost,) = shown.marks("lost")
    assert lost["args"]["signal"] == "SIGKILL"
    lane = shown.lanes[lost["tid"]]
    (cut,) = [e for e in shown.slices[lane] if e["name"].startswith("lost")]
    assert cut["dur"] >= 15_000
    assert len(shown.marks("retried")) == 1
    (ran,) = shown.named("killed_once")
    assert shown.lanes[ran["tid"]] != lane
    assert ran["ts"] >= lost["ts"]


@pytest.mark.parametrize("engine", ["inprocess", "loky"])
def test_retries_and_failures_are_marked(engine: str, loky: Loky, path: pathlib.Path) -> None:
    graph = gr.Graph([second_time(1), fail(2), nap(fail(2))])
    graph.compute(loky if engine == "loky" else engine, on_error="collect", trace=path)
    shown = Shown(path)
    (again,) = shown.marks("retried")
    assert "not yet" in again["args"]["error"]
    assert {"failed: fail(2)"} == {e["name"] for e in shown.marks("failed")}
    assert [e["args"].get("attempt", 1) for e in shown.named("second_time")] == [2]


def test_hits_of_the_cache_are_marked(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    graph = gr.Graph(gr.map(nap, range(5)))
    graph.compute(cache=tmp_path / "cache")
    graph.compute(cache=tmp_path / "cache", trace=path)
    shown = Shown(path)
    assert len(shown.marks("cache hit")) == 5
    assert not shown.named("nap")


def test_what_tasks_emit_and_print_is_marked_whatever_it_is(path: pathlib.Path) -> None:
    gr.Graph(gr.map(tell, range(3))).compute("loky:1", trace=path)
    shown = Shown(path)
    emitted = [e for e in shown.events if e["ph"] == "i" and "emitted" in e["name"]]
    assert sorted(e["args"]["data"]["x"] for e in emitted) == [0, 1, 2]
    assert emitted[0]["args"]["data"]["loss"] == "nan"
    assert {shown.lanes[e["tid"]] for e in emitted} == {"loky-1"}


def test_counters_end_with_what_was_reached(loky: Loky, path: pathlib.Path) -> None:
    loky.compute(gr.Graph(gr.map(nap, range(12))), trace=path)
    counts = [e for e in Shown(path).events if e["ph"] == "C" and "done" in e["args"]]
    values = [e["args"]["done"] for e in counts]
    assert values == sorted(values)
    assert values[-1] == 12
    assert [e["ts"] for e in counts] == sorted(e["ts"] for e in counts)


def test_a_growing_run_can_be_traced(path: pathlib.Path) -> None:
    with InProcess(2) as engine, engine.open(progress=Trace(path)) as run:
        for i in range(4):
            run.add(nap(i))
        assert len(list(run.as_completed())) == 4
        assert not path.exists()
    assert len(Shown(path).named("nap")) == 4


# ---- odd streams of events


def feed(path: pathlib.Path, *stream: events.RunEvent, workers: int = 1) -> Shown:
    trace = Trace(path)
    trace(events.RunStarted(100.0, 10, workers))
    for event in stream:
        trace(event)
    trace(events.RunFinished(110.0, None))
    return Shown(path)


def test_a_unit_that_was_taken_back_unbegun_leaves_nothing(path: pathlib.Path) -> None:
    shown = feed(
        path,
        events.UnitStarted(100.0, "w", 1, "a", 1),
        events.UnitStarted(100.5, "w", 1, "b", 2),  # recalled: it never ends
        events.UnitFinished(101.0, "w", {"a": (1, 0.9)}, began=100.1, ended=101.0, unit=1),
        events.UnitStarted(103.0, "w", 1, "c", 3),
        events.UnitFinished(104.0, "w", {"c": (1, 0.5)}, began=103.5, ended=104.0, unit=3),
    )
    lane = [(e["name"], e["ts"], e["dur"]) for e in shown.slices["w"]]
    assert lane == [
        ("transfer", 0, 100_000),
        ("a", 100_000, 900_000),
        ("wait", 1_000_000, 2_000_000),
        ("transfer", 3_000_000, 500_000),
        ("c", 3_500_000, 500_000),
        ("wait", 4_000_000, 6_000_000),
    ]


def test_a_unit_sent_ahead_does_not_overlap_the_one_before_it(path: pathlib.Path) -> None:
    shown = feed(
        path,
        events.UnitStarted(100.0, "w", 1, "a", 1),
        events.UnitStarted(100.1, "w", 1, "b", 2),
        events.UnitFinished(102.0, "w", {"a": (1, 2.0)}, began=100.0, ended=102.0, unit=1),
        events.UnitFinished(103.0, "w", {"b": (1, 0.9)}, began=102.0, ended=103.0, unit=2),
    )
    assert [e["name"] for e in shown.slices["w"]] == ["a", "b", "wait"]


@pytest.mark.parametrize("shift", [-5000.0, -1.0, 0.5, 5000.0])
def test_a_worker_s_clock_may_be_wrong(path: pathlib.Path, shift: float) -> None:
    stream: list[events.RunEvent] = []
    for i in range(5):
        spans = [("a", f"a({i})", 100.1 + i + shift, 0.3, 1), ("b", f"b({i})", 100.4 + i + shift, 0.4, 1)]
        stream += [
            events.UnitStarted(100.0 + i, "w", 2, "a", i),
            events.UnitFinished(
                100.9 + i,
                "w",
                {"a": (1, 0.3), "b": (1, 0.4)},
                100.1 + i + shift,
                100.8 + i + shift,
                spans=spans,
                unit=i,
            ),
        ]
    shown = feed(path, *stream)
    assert {e["dur"] for e in shown.named("b")} == {400_000}
    assert len(shown.named("a")) == 5


def test_nodes_within_nodes_and_nodes_that_seem_to_overlap(path: pathlib.Path) -> None:
    """A span in another one stays there; what overlaps since clocks are rounded is set side by side."""
    spans = [
        ("outer", "outer", 100.0, 1.0, 1),
        ("inner", "inner", 100.2, 0.3, 1),
        ("next", "next", 100.9999995, 0.5, 1),
        ("late", "late", 101.4999990, 9.0, 1),  # longer than its unit
    ]
    shown = feed(path, events.UnitFinished(102.0, "w", {"outer": (1, 1.0)}, 100.0, 102.0, spans=spans))
    (outer,), (inner,) = shown.named("outer"), shown.named("inner")
    assert outer["ts"] <= inner["ts"]
    assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
    assert len(shown.kind("node")) == 4


def test_names_may_be_anything(path: pathlib.Path) -> None:
    odd = 'a "name"\\ \n\ud800 \u2028 \x00' + "x" * 5000
    spans = [(odd, odd, 100.0, 1.0, 1)]
    shown = feed(path, events.UnitFinished(102.0, odd, {odd: (1, 1.0)}, 100.0, 102.0, spans=spans))
    (node,) = shown.kind("node")
    assert node["name"].startswith('a "name"\\ \n\ud800')


# ---- whole or not at all


@pytest.mark.parametrize("engine", ["inprocess", "inprocess:2", "loky"])
def test_a_run_that_fails_has_a_trace(engine: str, loky: Loky, path: pathlib.Path) -> None:
    graph = gr.Graph([*gr.map(nap, range(4)), fail(gr.combine(sum, gr.map(nap, range(4))))])
    with pytest.raises(ValueError, match="no"):
        graph.compute(loky if engine == "loky" else engine, trace=path)
    shown = Shown(path)
    assert shown.marks("failed: fail")
    assert shown.named("nap")
    assert left_in(path.parent) == ["run.json"]


def test_a_run_that_is_cancelled_has_a_trace(path: pathlib.Path) -> None:
    with Loky(1) as pool:
        run = gr.Graph(gr.map(nap, range(200), [0.05] * 200)).run(pool, trace=path)
        while not any(isinstance(e, events.UnitStarted) for e in run.events):
            time.sleep(0.01)
        time.sleep(0.1)
        run.cancel()
        with pytest.raises(gr.Cancelled):
            run.result()
    shown = Shown(path)
    assert any(lane for lane in shown.slices.values())


def test_the_file_is_replaced_only_at_the_end(path: pathlib.Path) -> None:
    path.write_text("old")
    seen = []
    progress = lambda event: seen.append(path.read_text())  # noqa: E731
    nap(1).compute(trace=path, progress=progress)
    assert set(seen) == {"old"}
    assert Shown(path).named("nap")


def test_the_file_may_be_read_by_others_as_any_new_file(path: pathlib.Path) -> None:
    plain = path.with_name("plain")
    plain.touch()
    nap(1).compute(trace=path)
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_link_stays_a_link(path: pathlib.Path) -> None:
    link = path.with_name("link.json")
    link.symlink_to(path)
    nap(1).compute(trace=link)
    assert link.is_symlink()
    assert Shown(path).named("nap")


@pytest.mark.parametrize("engine", ["inprocess", "loky:1"])
def test_a_path_that_cannot_be_written_is_refused_before_anything_runs(engine: str, tmp_path: pathlib.Path) -> None:
    mark = tmp_path / "mark"
    node = gr.call(pathlib.Path.touch, mark)
    (tmp_path / "file").touch()
    for wrong in (tmp_path, tmp_path / "no" / "run.json", tmp_path / "file" / "run.json", "/dev/null"):
        with pytest.raises(OSError, match="trace") as caught:
            node.compute(engine, trace=wrong)
        assert str(wrong) in str(caught.value)
    for nothing in (3, True, b"run.json"):
        with pytest.raises(TypeError, match="path"):
            node.compute(engine, trace=nothing)
    assert not mark.exists()
    assert left_in(tmp_path) == ["file"]


def test_a_run_that_cannot_start_leaves_no_file(path: pathlib.Path) -> None:
    with InProcess() as closed:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        nap(1).compute(closed, trace=path)
    assert left_in(path.parent) == []


def test_a_run_that_nobody_comes_to_the_end_of_leaves_no_file(path: pathlib.Path) -> None:
    run = nap(1)
    handle = gr.Graph(run).run("inprocess", trace=path)
    assert not path.exists()
    del handle
    gc.collect()
    assert left_in(path.parent) == []


def test_one_trace_can_be_used_for_run_after_run(path: pathlib.Path) -> None:
    trace = Trace(path)
    for i in range(3):
        nap(i).compute(progress=trace)
        assert [e["args"]["node"] for e in Shown(path).named("nap")] == [f"nap({i})"]


def test_a_full_disk_costs_the_trace_and_not_the_run(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trace, "_slice", lambda *args, **more: (_ for _ in ()).throw(OSError(28, "No space left")))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert nap(1).compute(trace=path) == 1
    assert ["No space left" in str(w.message) and "trace" in str(w.message) for w in caught] == [True]
    assert left_in(path.parent) == []


KILLED = """
    import os, signal, sys
    import graphray as gr

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    gr.call(die).compute(trace=sys.argv[1])
"""


def test_what_a_killed_process_left_is_removed_by_the_next_trace(path: pathlib.Path) -> None:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), path], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    (left,) = path.parent.iterdir()
    os.utime(left, (0, 0))  # one that is just being made is let alone
    other = Trace(path)
    other(events.RunStarted(0.0, 1, 1))
    try:
        (written,) = path.parent.iterdir()
        assert written != left
        os.utime(written, (0, 0))  # but so is one that somebody is still writing
        nap(1).compute(trace=path)
        assert left_in(path.parent) == sorted(["run.json", written.name])
    finally:
        other(events.RunFinished(1.0, None))
    assert left_in(path.parent) == ["run.json"]
