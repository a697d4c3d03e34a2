"""Logs of runs: lines of JSON, and records of Python's `logging`."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import warnings
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import graphray as gr
from graphray.executors import InProcess, Loky, events
from graphray.executors.log import JsonLines, to_json, to_logging


@gr.task
def add(a: float, b: float) -> float:
    return a + b


@gr.task
def tell(x: int) -> int:
    print("telling", x)
    gr.context().emit(x=x)
    return x


@gr.task
def fail(x: int) -> int:
    raise KeyError("no such thing")


@gr.task(retries=1)
def second_time(x: int) -> int:
    if gr.context().attempt == 1:
        raise ValueError("not yet")
    return x


@gr.task
def killed_once(path: str) -> int:
    if not os.path.exists(path):
        pathlib.Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def strict(line: str) -> Any:
    """A line as JSON says it, without what Python allows beyond that."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    return json.loads(line, parse_constant=refuse)


def lines_of(path: pathlib.Path) -> list[dict[str, Any]]:
    text = path.read_text("ascii")
    assert text.endswith("\n")
    return [strict(line) for line in text.splitlines()]


# ---- lines of JSON


@pytest.mark.parametrize("engine", ["inprocess", "inprocess:2", "loky"])
def test_every_event_is_a_line_in_order(engine: str, loky: Loky, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run.log"
    run = gr.Graph(gr.map(tell, range(6))).run(loky if engine == "loky" else engine, progress=JsonLines(path))
    run.result()
    lines, seen = lines_of(path), list(run.events)
    if engine == "inprocess:2":  # two threads tell at the same time: which of them first is all the same
        lines.sort(key=lambda line: line["type"])
        seen.sort(key=lambda event: type(event).__name__)
    assert [line["type"] for line in lines] == [type(event).__name__ for event in seen]
    assert len({line["run"] for line in lines}) == 1
    for line, event in zip(lines, seen, strict=True):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])
        slots = {name for kind in type(event).__mro__ for name in kind.__dict__.get("__slots__", ())}
        assert line.keys() == (slots | {"type", "run"}) - {"spans"}
    assert sorted(line["data"]["x"] for line in lines if line["type"] == "Emitted") == list(range(6))


def test_failures_are_told_as_type_and_text(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run.log"
    with pytest.raises(KeyError):
        fail(3).compute(progress=[JsonLines(path)])
    lines = lines_of(path)
    error = {"type": "KeyError", "text": "'no such thing'"}
    (failed,) = [line for line in lines if line["type"] == "NodeFailed"]
    assert (failed["node"], failed["error"]) == ("fail(3)", error)
    assert lines[-1]["type"] == "RunFinished"
    assert lines[-1]["error"] == error


def test_runs_are_appended_and_told_apart(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run.log"
    log = JsonLines(path)
    for i in range(3):
        add(i, 1).compute(progress=log if i < 2 else JsonLines(path))
    lines = lines_of(path)
    assert [line["type"] for line in lines].count("RunStarted") == 3
    assert len({line["run"] for line in lines}) == 3


def test_a_log_is_for_one_run_at_a_time(tmp_path: pathlib.Path) -> None:
    """Else lines would be said to be those of another run. The other run goes on without it."""
    path = tmp_path / "run.log"
    log = JsonLines(path)
    with InProcess() as engine:
        first = engine.run(add(1, 1), progress=log)
        with pytest.warns(UserWarning, match=r"the log .*run\.log is that of another run, which goes on"):
            assert engine.compute(add(2, 2), progress=log) == 4
        assert first.result() == 2
        lines = lines_of(path)
        assert len({line["run"] for line in lines}) == 1
        assert [line["type"] for line in lines] == [type(event).__name__ for event in first.events]
        assert engine.compute(add(3, 3), progress=log) == 6
    assert len({line["run"] for line in lines_of(path)}) == 2


def test_a_line_that_was_cut_off_is_ended_first(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run.log"
    path.write_text('{"type": "RunSta')
    add(1, 1).compute(progress=JsonLines(path))
    first, *rest = path.read_text().splitlines()
    assert first == '{"type": "RunSta'
    assert [strict(line)["type"] for line in rest][-1] == "RunFinished"


def test_a_stream_gets_the_lines_and_stays_open() -> None:
    out = io.StringIO()
    add(1, 1).compute(progress=JsonLines(out))
    assert strict(out.getvalue().splitlines()[-1])["type"] == "RunFinished"
    out.write("mine")


def test_what_cannot_be_a_log_is_refused_at_once(tmp_path: pathlib.Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "run.log"):
        with pytest.raises(OSError, match=r"the log .*cannot be written"):
            JsonLines(path)
    with pytest.raises(TypeError, match="log"):
        JsonLines(3)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_costs_the_log_and_not_the_run() -> None:
    if not os.path.exists("/dev/full"):
        log = JsonLines(io.StringIO())
        log._stream.close()  # type: ignore[union-attr]
    else:
        log = JsonLines("/dev/full")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert add(1, 1).compute(progress=log) == 2
    assert ["subscriber" in str(w.message) for w in caught] == [True]


def test_a_growing_run_is_logged_as_it_goes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run.log"
    with InProcess() as engine, engine.open(progress=JsonLines(path)) as run:
        run.add(add(1, 2))
        assert [done.result() for done in run.as_completed()] == [3]
        assert lines_of(path)[0]["type"] == "RunStarted"  # nothing is held back
    assert lines_of(path)[-1]["type"] == "RunFinished"


WRITER = """
    import sys
    import graphray as gr
    from graphray.executors.log import JsonLines

    gr.Graph(gr.map(pow, range(200), [2] * 200)).compute("inprocess:2", progress=JsonLines(sys.argv[1]))
"""


def test_several_processes_may_write_to_one_log(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run.log"
    writers = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), path]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    runs: dict[str, list[str]] = {}
    for line in lines_of(path):
        runs.setdefault(line["run"], []).append(line["type"])
    assert len(runs) == 3
    assert all(kinds[0] == "RunStarted" and kinds[-1] == "RunFinished" for kinds in runs.values())


# ---- any value


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


class OddError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_values_that_json_lacks_become_texts() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for value in (Odd(), OddError(), circle, deep, {Odd(): 1}, {(1, 2): b"x"}, 10**5000, "\ud800", {1: float("nan")}):
        strict(to_json(value))
    assert strict(to_json(float("inf"))) == "inf"
    assert strict(to_json({"a": np.float32(0.5), "b": np.int64(3)})) == {"a": 0.5, "b": 3}
    assert strict(to_json(np.float64("nan"))) == "nan"
    assert strict(to_json(ValueError("no"))) == {"type": "ValueError", "text": "no"}
    assert strict(to_json([add(1, 2)])) == ["add(1, 2)"]
    assert len(to_json(Odd())) < 100


@hypothesis.given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
        max_leaves=20,
    )
)
def test_any_value_is_one_line_of_strict_json(value: Any) -> None:
    line = to_json(value)
    assert line.isascii()
    assert "\n" not in line
    read = strict(line)
    if isinstance(value, (str, bool, int)) and (not isinstance(value, int) or abs(value) < 2**63):
        assert read == value
    if isinstance(value, float):
        assert read == (value if math.isfinite(value) else str(value))


# ---- records


def test_what_an_operator_wants_to_know_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: pathlib.Path) -> None:
    with caplog.at_level(logging.DEBUG, "graphray"), Loky(1) as pool:
        pool.compute(gr.Graph([killed_once(str(tmp_path / "mark")), second_time(1)]))
        pool.compute(gr.Graph([fail(1)]), on_error="collect")
    assert {r.name for r in caplog.records} == {"graphray"}
    said = [(r.levelname, r.getMessage()) for r in caplog.records]
    assert ("DEBUG", "run started: 2 nodes on 1 workers") in said
    assert [text for level, text in said if level == "DEBUG"].count("run ended") == 2
    (lost,) = [text for level, text in said if level == "WARNING"]
    assert "loky-1" in lost
    assert "SIGKILL" in lost
    assert "killed_once" in lost
    assert any(level == "INFO" and "second_time(1)" in text and "not yet" in text for level, text in said)
    assert any("fail(1)" in text and "no such thing" in text for _, text in said)


def test_what_went_to_disk_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "graphray"):
        to_logging(events.Spilled(0.0, 5_000_000, 7))
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert "moved to disk" in record.getMessage()


def test_a_level_that_is_not_enabled_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "graphray"):
        add(1, 1).compute()
        to_logging(events.WorkerLost(0.0, "loky-1", exitcode=3))
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "exit code 3" in caplog.text


QUIET = """
    import sys
    import graphray as gr
    from graphray.executors import events, log

    print(gr.call(pow, 2, 3).compute())
    before = "logging" in sys.modules
    log.to_logging(events.WorkerLost(0.0, "loky-1", signal="SIGKILL"))
    assert ("logging" in sys.modules) == before

    import logging
    log.to_logging(events.WorkerLost(0.0, "loky-1", signal="SIGKILL"))
    assert logging.getLogger().handlers == []
    assert [type(h) for h in logging.getLogger("graphray").handlers] == [logging.NullHandler]
    assert logging.getLogger("graphray").level == logging.NOTSET
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s")
    log.to_logging(events.WorkerLost(0.0, "loky-1", signal="SIGKILL"))
"""


def test_a_program_that_set_up_no_logging_sees_none() -> None:
    """Not on stderr either, where Python prints warnings that no handler takes."""
    code = textwrap.dedent(QUIET)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\nWARNING graphray\n", "")
