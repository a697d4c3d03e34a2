"""What tasks print in a worker: sent to the driver line by line, with the node that it is of.

So it comes out where the driver's own output goes (also into a notebook or a test), marked with where it came from, and
two workers do not write into each other's lines. What is written past Python (by a library in C, by a process that a
task started) goes to the inherited descriptors directly.
"""

from __future__ import annotations

import io
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

MOST = 64 << 10  # characters of a line without end that are sent at once


class Lines(io.TextIOBase):
    """Stands in the place of `sys.stdout` or `sys.stderr`.

    Args:
        stream: the one it stands for: its descriptor, encoding and buffer are those that others ask for.
        send: gets whole lines, as one text.
    """

    def __init__(self, stream: TextIO, send: Callable[[str], None]) -> None:
        self._stream = stream
        self._send = send
        self._begun = ""
        self._lock = threading.RLock()  # tasks have threads

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """How that treats what it cannot encode."""
        return self._stream.errors

    @property
    def buffer(self) -> object:
        """The stream's own, for bytes."""
        return self._stream.buffer

    def fileno(self) -> int:
        """The stream's descriptor."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Take a text; what ends in a line is sent."""
        if not isinstance(text, str):
            raise TypeError(f"write() takes a text, not {type(text).__name__}")
        with self._lock:
            self._begun += text
            end = self._begun.rfind("\n") + 1
            if not end and len(self._begun) > MOST:
                end = len(self._begun)
            if end:
                lines, self._begun = self._begun[:end], self._begun[end:]
                self._send(lines)
        return len(text)

    def flush(self) -> None:
        """Nothing: a line that is not ended yet may go on. See `end`."""

    def end(self) -> None:
        """A task is over: so is the line that it did not end."""
        with self._lock:
            if self._begun:
                lines, self._begun = self._begun + "\n", ""
                self._send(lines)
