"""A progress display on stderr: one line that moves on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
import time

from graphray.executors import events, shown
from graphray.executors.summary import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

REFRESH = 0.1  # seconds between changes of the line on a terminal
LINES = 5.0  # seconds between lines elsewhere
FIRST = 1.0  # seconds until the first of these
RECENT = 5.0  # seconds over which the rate is taken,
FEWEST = 8  # or longer, until so many steps of progress were made in them
WIDTH = 28  # of the bar, at most
SHORTEST = 8
CLEAR = "\r\x1b[K"


def subscribers(progress: Any) -> list[Callable[[events.RunEvent], None]]:
    """What `progress=` asks for: nothing, the display (True), a function of the caller's, or a list of these."""
    if progress is None or progress is False:
        return []
    if progress is True:
        return [Display()]
    if callable(progress):
        return [progress]
    if isinstance(progress, (list, tuple)):
        made = [subscriber for one in progress for subscriber in subscribers(one)]
        if sum([type(subscriber) is Display for subscriber in made]) > 1:
            raise ValueError("progress= has more than one display")
        return made
    raise TypeError(f"progress= is True, a function of an event, or a list of these, not {progress!r}")


class Display:
    """Shows how far a run is: done, total, rate, time left, what went wrong, and what tasks emitted last.

    Also shows what tasks print in other processes: on a terminal, above its own line.
    """

    prints = True

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()  # some events come from the threads of tasks
        self._began = time.monotonic()
        self._next = self._began + (0.0 if self._terminal else FIRST)  # when there is something to be drawn
        self._drawn = ""
        self._said = ""
        self._done = self._total = self._workers = 0
        self._failed = self._retried = self._lost = self._cached = 0
        self._memory = self._spilled = 0
        # Of the last seconds, when there was progress and how far it was.
        self._steps: collections.deque[tuple[float, int]] = collections.deque([(self._began, 0)])

    def __call__(self, event: events.RunEvent) -> None:
        """Take in an event."""
        take = _TAKES.get(type(event))
        with self._lock:
            if take is not None and take(self, event):
                return
            now = time.monotonic()
            if now >= self._next:
                self._draw(now)

    # ---- what events say; True where that is all there is to do

    def _start(self, event: events.RunStarted) -> None:
        self._total, self._workers = event.total, event.workers

    def _progress(self, event: events.Progressed) -> None:
        self._done, self._total = event.done, event.total

    def _emit(self, event: events.Emitted) -> None:
        self._said = ", ".join([f"{k} {_short(v)}" for k, v in event.data.items()])

    def _fail(self, event: events.NodeFailed) -> None:
        self._failed += 1

    def _retry(self, event: events.NodeRetried) -> None:
        self._retried += 1

    def _lose(self, event: events.WorkerLost) -> None:
        self._lost += 1

    def _hit(self, event: events.CacheHit) -> bool:
        self._cached += 1
        return True  # there may be very many at once

    def _use(self, event: events.MemoryUsed) -> None:
        self._memory, self._spilled = event.store, event.spilled

    def _print(self, event: events.Printed) -> bool:
        if self._terminal and self._drawn:
            self._put(CLEAR)
        shown.show(event)
        if self._terminal and self._drawn:
            self._put(self._drawn)
        return True

    def _end(self, event: events.RunFinished) -> bool:
        seconds, error = time.monotonic() - self._began, event.error
        if error is None:
            nodes = "1 node" if self._done == 1 else f"{self._done:,} nodes"
            parts = [f"{nodes} in {_clock(seconds)}", *self._troubles()]
            if self._cached:
                parts.append(f"{self._cached:,} from the cache")
            if self._said:
                parts.append(self._said)
            line = "  ".join(parts)
        else:
            line = f"{type(error).__name__} after {self._done:,} of {self._total:,} nodes, {_clock(seconds)}"
        self._write(line)
        if self._terminal:
            self._put("\n")
        self._drawn = ""
        return True

    # ---- the line

    def _draw(self, now: float) -> None:
        self._next = now + (REFRESH if self._terminal else LINES)
        steps = self._steps
        if self._done != steps[-1][1]:
            steps.append((now, self._done))
        while len(steps) > FEWEST and steps[1][0] <= now - RECENT:
            steps.popleft()
        self._write(self._line(now))

    def _line(self, now: float) -> str:
        seconds = now - self._began
        since, before = self._steps[0]
        rate = (self._done - before) / (now - since) if now > since else 0.0
        parts = [f"{self._done:,}/{self._total:,}"]
        if not self._terminal and self._done:
            parts = [f"{parts[0]} nodes"]
        elif not self._terminal:
            parts = [f"{parts[0]} nodes done, on {self._workers} worker{'' if self._workers == 1 else 's'}"]
        if rate > 0:
            parts.append(_rate(rate))
        parts.append(_clock(seconds))
        if rate > 0 and self._total > self._done:
            parts.append(f"~{_clock((self._total - self._done) / rate)} left")
        parts += self._troubles()
        if self._memory or self._spilled:
            parts.append(size(self._memory) + (f" + {size(self._spilled)} on disk" if self._spilled else ""))
        if self._said:
            parts.append(self._said)
        line = "  ".join(parts)
        return f"{self._bar(len(line))} {line}" if self._terminal else line

    def _bar(self, others: int) -> str:
        """The bar, which is the first to get shorter where there is much to say."""
        columns = self._columns()
        width = max(min(columns - others - 2, columns // 3, WIDTH), SHORTEST)
        full = int((self._done / self._total if self._total else 0.0) * width)
        return "━" * full + "─" * (width - full)

    def _troubles(self) -> list[str]:
        parts = []
        if self._failed:
            parts.append(f"{self._failed:,} failed")
        if self._retried:
            parts.append(f"{self._retried:,} {'retry' if self._retried == 1 else 'retries'}")
        if self._lost:
            parts.append(f"{self._lost:,} {'worker' if self._lost == 1 else 'workers'} lost")
        return parts

    def _columns(self) -> int:
        """Width of the display's own stream; standard output may be somewhere else."""
        import os

        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80

    def _write(self, line: str) -> None:
        if self._terminal:
            self._drawn = CLEAR + line[: self._columns() - 1]
            self._put(self._drawn)
        else:
            self._put(line + "\n")

    def _put(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except UnicodeEncodeError:  # its encoding has no bars, say
            encoding = self._stream.encoding or "ascii"
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text.encode(encoding, "replace").decode(encoding))
                self._stream.flush()
        except (OSError, ValueError):  # closed or broken pipe: a display may not harm the run
            self._terminal = False


_TAKES: dict[type, Callable[[Display, Any], bool | None]] = {
    events.RunStarted: Display._start,
    events.Progressed: Display._progress,
    events.Emitted: Display._emit,
    events.NodeFailed: Display._fail,
    events.NodeRetried: Display._retry,
    events.WorkerLost: Display._lose,
    events.CacheHit: Display._hit,
    events.MemoryUsed: Display._use,
    events.Printed: Display._print,
    events.RunFinished: Display._end,
}


def _short(x: Any) -> str:
    return f"{x:.4g}" if isinstance(x, float) else " ".join(str(x).split())[:40]


def _rate(rate: float) -> str:
    if rate >= 9.95:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 0.95 else f"{rate * 60:.2g}/min"


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
