"""What a link and an agent say to each other: JSON, each message after its length. On a node it starts after a mark."""

from __future__ import annotations

import json
import struct
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

_LENGTH = struct.Struct("!I")


class Messages:
    """Messages over two streams; sending is safe from several threads."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()

    def send(self, kind: str, **content: Any) -> None:
        """Send one.

        Raises:
            OSError: the other side is gone.
        """
        body = json.dumps([kind, content]).encode()
        with self._lock:
            self._sink.write(_LENGTH.pack(len(body)) + body)
            self._sink.flush()

    def receive(self) -> tuple[str, dict[str, Any]] | None:
        """The next one, waiting for it; None at the end."""
        head = self._read(_LENGTH.size)
        body = self._read(_LENGTH.unpack(head)[0]) if head is not None else None
        if body is None:
            return None
        kind, content = json.loads(body)
        return kind, content

    def _read(self, n: int) -> bytes | None:
        parts = []
        while n:
            part = self._source.read(n)
            if not part:
                return None
            parts.append(part)
            n -= len(part)
        return b"".join(parts)
