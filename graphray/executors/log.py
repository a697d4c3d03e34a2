"""Logs of runs: a file of JSON lines with every event, and Python's `logging` for what an operator wants to know."""

from __future__ import annotations

import os
import sys
import threading

from graphray.executors import events
from graphray.executors.whole import cannot

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any, BinaryIO, TextIO

LONGEST = 2000  # characters of a text that stands for a value which JSON does not have
DEEPEST = 20  # levels of a value that are written
NAME = "graphray"  # of the logger


class JsonLines:
    """Subscribes to a run's events and writes each as a JSON object, one a line, as it comes.

    Each has `type`, `time` (ISO 8601, UTC), `run` (a random number of the run) and what the event has of its own. An
    error is an object with `type` and `text`; a node is its label; what JSON does not have is a text. Lines are added
    to what is in the file, each with one system call: several processes may write to the same file, and so may several
    logs. One log is for one run at a time.

    Args:
        to: a file, or an open text stream.

    Raises:
        OSError: the file cannot be written.
        TypeError: neither.
    """

    def __init__(self, to: str | os.PathLike[str] | TextIO) -> None:
        self._lock = threading.Lock()  # some engines publish from several threads
        self._stream: TextIO | None = None
        self._path: str | os.PathLike[str] | None = None
        self._file: BinaryIO | None = None
        self._number = ""  # of the run
        self._goes_on = False
        if isinstance(to, (str, os.PathLike)):
            self._path = to
            self._open().close()  # rather now than in the middle of the run
        elif hasattr(to, "write"):
            self._stream = to
        else:
            raise TypeError(f"a log goes to a file or a text stream, not {to!r}")

    def __call__(self, event: events.RunEvent) -> None:
        """Write an event."""
        with self._lock:
            if type(event) is events.RunStarted:
                self._begin()
            try:
                self._write(to_json(_fields(event, self._number)) + "\n")
            except BaseException:  # the run goes on without it
                self._goes_on = False
                raise
            finally:
                if type(event) is events.RunFinished:
                    self._goes_on = False
                if not self._goes_on and self._file is not None:
                    self._file.close()
                    self._file = None

    def _begin(self) -> None:
        from secrets import token_hex

        if self._goes_on:
            place = "" if self._path is None else f" {os.fspath(self._path)}"
            raise RuntimeError(f"the log{place} is that of another run, which goes on; make a JsonLines for each run")
        self._number, self._goes_on = token_hex(4), True

    def _write(self, line: str) -> None:
        if self._stream is not None:
            self._stream.write(line)
            self._stream.flush()
            return
        try:
            if self._file is None:
                self._file = self._open()
            data = line.encode("ascii")
            while data:
                data = data[self._file.write(data) or 0 :]
        except OSError as error:
            if self._file is None or self._path is None:  # `_open` says it already
                raise
            raise cannot("the log", self._path, error) from error

    def _open(self) -> BinaryIO:
        assert self._path is not None
        try:
            file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - closed when the run ends
        except OSError as error:
            raise cannot("the log", self._path, error) from None
        try:
            if _ends_within_a_line(self._path):
                file.write(b"\n")
        except OSError as error:
            file.close()
            raise cannot("the log", self._path, error) from None
        return file


def _ends_within_a_line(path: str | os.PathLike[str]) -> bool:
    """Whether the last line of a file is not whole: its writer was killed, or the disk was full."""
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        return False
    with open(path, "rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _fields(event: events.RunEvent, run: str) -> dict[str, Any]:
    import datetime

    moment = datetime.datetime.fromtimestamp(event.time, datetime.UTC)
    fields: dict[str, Any] = {
        "type": type(event).__name__,
        "time": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "run": run,
    }
    for kind in reversed(type(event).__mro__):
        for name in kind.__dict__.get("__slots__", ()):
            if name not in ("time", "spans"):  # spans are for traces: many, and only there while somebody draws them
                fields[name] = getattr(event, name)
    return fields


# ---- any value as JSON


def to_json(value: Any) -> str:
    """A value as one line of JSON in ASCII; what JSON does not have, as a text. Never fails."""
    import json

    try:
        return json.dumps(value, allow_nan=False, default=_stand_in)
    except Exception:  # not a number, odd keys, a circle, too deep
        return json.dumps(_plain(value, DEEPEST))


def _stand_in(x: Any) -> Any:
    """For what `json` does not know: something that it does, or that it asks about again."""
    from graphray.graph.node import Node

    if isinstance(x, BaseException):
        return {"type": type(x).__name__, "text": _said(x, str)}
    if isinstance(x, Node):
        return x.label
    if isinstance(x, (bytes, bytearray, memoryview)):
        return f"{len(x)} bytes"
    if getattr(x, "shape", None) == () and hasattr(x, "item"):  # a number of numpy's or JAX's
        return x.item()
    if isinstance(x, (set, frozenset)):
        return list(x)
    return _said(x, repr)


def _said(x: Any, how: Any) -> str:
    try:
        text: str = how(x)
    except Exception:
        return f"<{type(x).__name__}>"
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _plain(x: Any, levels: int) -> Any:
    """The same value of JSON's own types, at the price of looking at each part."""
    from math import isfinite

    kind = type(x)
    if x is None or kind is bool or kind is int or kind is str:
        return x if kind is not int or abs(x) < 1 << 4000 else _said(x, hex)
    if kind is float:
        return x if isfinite(x) else str(x)
    if levels <= 0:
        return "…"
    try:
        if isinstance(x, dict) or hasattr(kind, "keys"):
            return {k if type(k) is str else _said(k, str): _plain(x[k], levels - 1) for k in list(x)}
        if isinstance(x, (list, tuple, set, frozenset)):
            return [_plain(y, levels - 1) for y in list(x)]
        made = _stand_in(x)
    except Exception:
        made = _said(x, repr)
    return _plain(made, levels - 1)


# ---- Python's logging


def to_logging(event: events.RunEvent) -> None:
    """Tell the logger "graphray" of an event, if a program that logs is to know of it.

    A program that has not imported `logging` has set up nothing that could show it.
    """
    say = _SAYS.get(type(event))
    if say is None or "logging" not in sys.modules:
        return
    import logging

    logger = logging.getLogger(NAME)
    if not any([isinstance(h, logging.NullHandler) for h in logger.handlers]):
        logger.addHandler(logging.NullHandler())  # else warnings would come out where nobody has asked for logs
    say(logger, event)


def _started(log: logging.Logger, event: events.RunStarted) -> None:
    log.debug("run started: %d nodes on %d workers", event.total, event.workers)


def _finished(log: logging.Logger, event: events.RunFinished) -> None:
    if event.error is None:
        log.debug("run ended")
    else:
        log.debug("run ended with %s: %s", type(event.error).__name__, _said(event.error, str))


def _failed(log: logging.Logger, event: events.NodeFailed) -> None:
    text = f"{type(event.error).__name__}: {_said(event.error, str)}"
    log.error("%s failed: %s; %d nodes that need it are skipped", event.node.label, text, event.skipped)


def _retried(log: logging.Logger, event: events.NodeRetried) -> None:
    log.info("%s is run again in %.3g s (attempt %d): %s", event.node, event.delay, event.attempt, event.error)


def _joined(log: logging.Logger, event: events.WorkerStarted) -> None:
    log.info("worker %s is ready (process %s)", event.worker, event.pid)


def _lost(log: logging.Logger, event: events.WorkerLost) -> None:
    how = event.signal or ("" if event.exitcode is None else f"exit code {event.exitcode}")
    memory = f", {event.memory / 1e9:.3g} GB of memory at most" if event.memory else ""
    log.warning(
        "worker %s is lost (%s%s) while running %s", event.worker, how or "unknown cause", memory,
        event.running or "nothing",
    )  # fmt: skip


def _spilled(log: logging.Logger, event: events.Spilled) -> None:
    log.info("%d bytes of results were moved to disk, %d are in memory", event.nbytes, event.store)


_SAYS: dict[type, Any] = {
    events.RunStarted: _started,
    events.RunFinished: _finished,
    events.NodeFailed: _failed,
    events.NodeRetried: _retried,
    events.WorkerStarted: _joined,
    events.WorkerLost: _lost,
    events.Spilled: _spilled,
}
