"""A progress display on stderr: one line that moves on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

from graphray.executors import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

REFRESH = 0.1  # seconds between changes of the line on a terminal
LINES = 5.0  # seconds between lines elsewhere
WIDTH = 28


def subscribers(progress: Any) -> list[Callable[[events.RunEvent], None]]:
    """What `progress=` asks for: nothing, the display (True), or a function of the caller's."""
    if progress is None or progress is False:
        return []
    if progress is True:
        return [Display()]
    if callable(progress):
        return [progress]
    raise TypeError(f"progress= is True or a function of an event, not {progress!r}")


class Display:
    """Shows how far a run is: done, total, rate, time left, and what tasks emitted last."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._began = time.monotonic()
        self._last = self._began - LINES + 1.0  # the first plain line comes after a second
        self._said = ""
        self._failed = 0
        self._done = self._total = 0

    def __call__(self, event: events.RunEvent) -> None:
        """Take in an event."""
        kind = type(event)
        if kind is events.RunStarted:
            self._total = event.total  # type: ignore[attr-defined]
        elif kind is events.Progressed:
            self._done, self._total = event.done, event.total  # type: ignore[attr-defined]
        elif kind is events.Emitted:
            self._said = ", ".join(f"{k} {_short(v)}" for k, v in event.data.items())  # type: ignore[attr-defined]
        elif kind is events.NodeFailed:
            self._failed += 1
        elif kind is events.RunFinished:
            self._end(event.error)  # type: ignore[attr-defined]
            return
        now = time.monotonic()
        if now - self._last >= (REFRESH if self._terminal else LINES):
            self._last = now
            self._write(self._line())

    def _line(self) -> str:
        seconds = time.monotonic() - self._began
        rate = self._done / seconds if seconds > 0 else 0.0
        share = self._done / self._total if self._total else 0.0
        width = min(WIDTH, self._columns() // 3) if self._terminal else 0
        bar = "━" * int(share * width) + "─" * (width - int(share * width))
        parts = [f"{bar} {self._done:,}/{self._total:,}".strip(), f"{rate:,.0f}/s", _clock(seconds)]
        if rate and self._total > self._done:
            parts.append(f"~{_clock((self._total - self._done) / rate)} left")
        if self._failed:
            parts.append(f"{self._failed} failed")
        if self._said:
            parts.append(self._said)
        return "  ".join(parts)

    def _end(self, error: BaseException | None) -> None:
        seconds = time.monotonic() - self._began
        if error is None:
            nodes = "1 node" if self._done == 1 else f"{self._done:,} nodes"
            self._write(f"{nodes} in {_clock(seconds)}" + (f"  {self._said}" if self._said else ""))
        else:
            self._write(f"{type(error).__name__} after {self._done:,} of {self._total:,} nodes, {_clock(seconds)}")
        if self._terminal:
            self._stream.write("\n")
            self._stream.flush()

    def _columns(self) -> int:
        """Width of the display's own stream; standard output may be somewhere else."""
        import os

        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _write(self, line: str) -> None:
        try:
            if self._terminal:
                self._stream.write("\r\x1b[K" + line[: self._columns() - 1])
            else:
                self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # closed or broken pipe: a display may not harm the run
            self._terminal = False


def _short(x: Any) -> str:
    return f"{x:.4g}" if isinstance(x, float) else " ".join(str(x).split())[:40]


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
