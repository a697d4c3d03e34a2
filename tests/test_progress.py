"""The progress display: what it says, where it says it, and that what tasks print stays whole beside it."""

from __future__ import annotations

import io
import pathlib
import re
import sys
import textwrap
from typing import Any

import pytest
from terminals import on_a_terminal, screen_after

import graphray as gr
from graphray.executors import Loky, events
from graphray.executors import progress as progress_module
from graphray.executors.progress import Display, subscribers


class Clock:
    """Stands in the place of the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal, of 80 columns as it does not know better."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> list[str]:
        return screen_after(self.getvalue().replace("\n", "\r\n"))  # as a terminal does


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def started(display: Display, total: int = 100, workers: int = 2) -> None:
    display(events.RunStarted(0.0, total, workers))


def at(display: Display, clock: Clock, seconds: float, done: int, total: int = 100) -> None:
    clock.now = 1000.0 + seconds
    display(events.Progressed(0.0, done, total))


def error_of(text: str) -> events.NodeFailed:
    return events.NodeFailed(0.0, gr.call(pow, 1, 1), ValueError(text), 0)


# ---- what it says


def test_a_run_without_progress_yet_says_so_and_no_rate(clock: Clock) -> None:
    out = io.StringIO()
    display = Display(out)
    started(display, 5)
    at(display, clock, 0.9, 0, 5)
    assert out.getvalue() == ""  # what ends within a second needs no lines
    at(display, clock, 1.9, 0, 5)
    assert out.getvalue() == "0/5 nodes done, on 2 workers  1.9 s\n"


def test_elsewhere_than_on_a_terminal_lines_come_now_and_then(clock: Clock) -> None:
    out = io.StringIO()
    display = Display(out)
    started(display)
    for tenth in range(301):
        at(display, clock, tenth / 10, tenth // 10)
    lines = out.getvalue().splitlines()
    assert 5 <= len(lines) <= 8
    assert lines[1].startswith("6/100 nodes  1.0/s  6.0 s  ~1:34 left")
    assert "\r" not in out.getvalue()


def test_the_rate_is_that_of_the_last_seconds(clock: Clock) -> None:
    out = Terminal()
    display = Display(out)
    started(display, 1100)
    for tenth in range(1, 101):  # ten seconds at 100 a second
        at(display, clock, tenth / 10, 10 * tenth, 1100)
    assert " 100/s " in out.shown()[-1]
    for second in range(1, 41):  # then two a second
        at(display, clock, 10 + second, 1000 + 2 * second, 1100)
    line = out.shown()[-1]
    assert " 2.0/s " in line
    assert "~10.0 s left" in line


def test_the_rate_of_slow_tasks_is_taken_over_several_of_them(clock: Clock) -> None:
    out = Terminal()
    display = Display(out)
    started(display, 20)
    for i in range(1, 11):
        at(display, clock, 30 * i, i, 20)
        at(display, clock, 30 * i + 29, i, 20)
    assert re.search(r" (1\.[6-9]|2)/min ", out.shown()[-1])


def test_what_went_wrong_is_told(clock: Clock) -> None:
    out = Terminal()
    display = Display(out)
    started(display)
    display(error_of("no"))
    display(events.NodeRetried(0.0, "f(1)", "ValueError()", 2, 0.1))
    display(events.NodeRetried(0.0, "f(2)", "ValueError()", 2, 0.1))
    display(events.WorkerLost(0.0, "loky-1", signal="SIGKILL"))
    at(display, clock, 1, 10)
    line = out.shown()[-1]
    assert line.endswith("1 failed  2 retries  1 worker lost")
    display(events.RunFinished(0.0, None))
    assert out.shown()[-2:] == ["10 nodes in 1.0 s  1 failed  2 retries  1 worker lost", ""]


def test_memory_on_disk_and_what_tasks_emit_are_told(clock: Clock) -> None:
    out = io.StringIO()
    display = Display(out)
    started(display)
    display(events.MemoryUsed(0.0, 4_000_000, 12_300_000, 5_000_000))
    display(events.Emitted(0.0, "loky-1", "f", {"loss": 0.123456, "epoch": 3}))
    at(display, clock, 2, 10)
    assert out.getvalue().endswith("left  4 MB + 12.3 MB on disk  loss 0.1235, epoch 3\n")


def test_the_end_tells_of_what_the_cache_had(clock: Clock) -> None:
    out = io.StringIO()
    display = Display(out)
    started(display, 0)
    for _ in range(1200):
        display(events.CacheHit(0.0, "f", 10))
    display(events.RunFinished(0.0, None))
    assert out.getvalue() == "0 nodes in 0.0 s  1,200 from the cache\n"


def test_the_end_of_a_failed_run_tells_how_far_it_came(clock: Clock) -> None:
    out = io.StringIO()
    display = Display(out)
    started(display)
    at(display, clock, 0.5, 7)
    display(events.RunFinished(0.0, ValueError("no")))
    assert out.getvalue() == "ValueError after 7 of 100 nodes, 0.5 s\n"


def test_a_line_is_never_wider_than_the_terminal(clock: Clock) -> None:
    out = Terminal()
    display = Display(out)
    started(display)
    display(events.Emitted(0.0, "loky-1", "f", {f"a_long_name_{i}": "x" * 30 for i in range(9)}))
    at(display, clock, 2, 10)
    assert max(map(len, out.shown())) == 79


# ---- what it costs


@pytest.mark.parametrize("terminal", [True, False])
def test_many_events_make_few_lines(clock: Clock, terminal: bool) -> None:
    """A hundred thousand events in a second: on a terminal the line is drawn ten times, elsewhere not at all."""
    writes = 0

    class Counted(Terminal):
        def isatty(self) -> bool:
            return terminal

        def write(self, text: str) -> int:
            nonlocal writes
            writes += 1
            return super().write(text)

    display = Display(Counted())
    started(display, 100_000)
    for i in range(100_000):
        clock.now += 0.99e-5
        display(events.Progressed(0.0, i, 100_000))
    assert writes == (pytest.approx(10, abs=1) if terminal else 0)


# ---- streams


def test_a_stream_that_is_closed_or_broken_harms_nobody(clock: Clock) -> None:
    class Broken(Terminal):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    closed = io.StringIO()
    for display in (Display(Broken()), Display(closed)):
        started(display)
        closed.close()
        at(display, clock, 3, 5)
        display(events.Printed(0.0, "loky-1", "f", "stdout", "hello\n"))
        display(events.RunFinished(0.0, None))


def test_a_stream_without_bars_gets_what_it_can_show(clock: Clock) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    stream.isatty = lambda: True  # type: ignore[method-assign]
    display = Display(stream)
    started(display)
    at(display, clock, 3, 5)
    stream.flush()
    assert b" 5/100  1.7/s" in raw.getvalue()


# ---- what tasks print


def test_printed_lines_stand_above_the_moving_line(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    display = Display()
    started(display)
    for i in range(5):
        at(display, clock, i + 1, i)
        display(events.Printed(0.0, "loky-1", f"f({i})", ["stdout", "stderr"][i % 2], f"one {i}\ntwo {i}\n"))
    *lines, last = out.shown()
    assert lines == [f"[f({i}) loky-1] {number} {i}" for i in range(5) for number in ("one", "two")]
    assert "━" in last
    assert " 4/100 " in last
    display(events.RunFinished(0.0, None))
    assert out.shown()[-2:] == ["4 nodes in 5.0 s", ""]


def test_what_is_printed_without_a_node_or_an_encoding_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    display = Display(io.StringIO())
    display(events.Printed(0.0, "loky-1", "", "stdout", "caf\u00e9 \ud800\n"))
    assert raw.getvalue() == b"[loky-1] caf\\xe9 \\ud800\n"


@gr.task
def say(i: int) -> int:
    print("said", i)
    return i


def test_printed_lines_are_shown_once(capfd: pytest.CaptureFixture[str]) -> None:
    """By the display where there is one, else by the engine; whoever else listens."""
    told: list[events.RunEvent] = []
    graph = gr.Graph(gr.map(say, range(4)))
    with Loky(1) as pool:
        for wanted in (None, told.append, True, [told.append, True], [[True], None]):
            capfd.readouterr()
            pool.compute(graph, progress=wanted)
            lines = capfd.readouterr().out.splitlines()
            assert sorted(lines) == [f"[say({i}) loky-1] said {i}" for i in range(4)], wanted
    assert len([event for event in told if isinstance(event, events.Printed)]) == 8


SCRIPT = """
    import sys, time
    import graphray as gr

    @gr.task
    def step(i):
        time.sleep(0.12)
        print("line", i)
        print("warning", i, file=sys.stderr)
        return i

    if __name__ == "__main__":
        print(gr.Graph(gr.combine(sum, gr.map(step, range(8)))).compute("loky:1", progress=True))
"""


def test_a_script_on_a_real_terminal(tmp_path: pathlib.Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT), "utf-8")
    status, text = on_a_terminal([sys.executable, script], columns=90)
    assert status == 0
    assert len(re.findall(r"━ *\d/9|─ \d/9", text)) >= 3  # the line was there, and moved
    *lines, end, result, last = screen_after(text)
    expected = [f"[step({i}) loky-1] {kind} {i}" for i in range(8) for kind in ("line", "warning")]
    assert sorted(lines) == sorted(expected)
    assert re.fullmatch(r"9 nodes in \d+\.\d s", end)
    assert (result, last) == ("28", "")


# ---- what progress= takes


def test_progress_takes_a_display_functions_and_lists_of_these() -> None:
    def listen(event: Any) -> None: ...

    assert subscribers(None) == subscribers(False) == subscribers([]) == subscribers([None, False]) == []
    assert subscribers(listen) == subscribers((listen,)) == [listen]
    assert [type(s) for s in subscribers([True, listen, [listen]])] == [Display, type(listen), type(listen)]


def test_progress_refuses_what_is_none_of_these() -> None:
    for wrong in (3, "yes", {True}, [3]):
        with pytest.raises(TypeError, match="progress="):
            subscribers(wrong)
    with pytest.raises(ValueError, match="more than one display"):
        say(1).compute(progress=[True, True])
