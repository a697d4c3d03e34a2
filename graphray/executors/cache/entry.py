"""Entry: one result on disk.

    graphray entry 1⏎ │ length and checksum of the header │ header (JSON) │ frames, as `frames.lay_out` places them

The header holds what is known of the result, the table of its frames, and a checksum (CRC-32) per 64 MiB of what is
after it. They are against accidents: half-written files, failing disks. Whoever may write to the directory can forge an
entry, and reading one runs code (it is a pickle); so the directory is the user's alone.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import zlib

from graphray.executors import wire
from graphray.executors.frames import lay_out, views, write
from graphray.executors.store.mapping import WORTH_MAPPING, open_mapping, read_whole
from graphray.graph.containers import freeze

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from graphray.executors.cache.directory import Cache
    from graphray.executors.frames import Table

MAGIC = b"graphray entry 1\n"
CHUNK = 64 << 20  # bytes under one checksum: several can be computed at a time
SMALL = 64 << 10  # bytes of a file that is read whole at once

# To read is not to use: who lists entries does not make them look as if they had just been used.
_READ = os.O_RDONLY | getattr(os, "O_NOATIME", 0)

_LENGTHS = struct.Struct("<II")
_START = len(MAGIC) + _LENGTHS.size
_LONGEST = 16 << 20  # bytes of a header; a longer one is damage


class Damaged(Exception):
    """A file that is no whole entry; the text says why."""


class Entry:
    """A result that was kept.

    Attributes:
        cache: where it was found.
        key: what it is kept under, 20 bytes.
        path: the file.
        size: its bytes.
        made: when it was written, in seconds since the epoch.
        used: when it was last used.
        info: what is known of it: `task`, `label`, `seconds`.
        table: the places of its frames in the file.
    """

    __slots__ = ("_bytes", "_sums", "cache", "info", "key", "made", "path", "size", "stamp", "table", "used")

    def __init__(self, key: bytes, path: str, content: bool = True) -> None:
        """Read the header of a file.

        Args:
            key: what it is kept under.
            path: the file.
            content: take hold of the frames, too: they stay when the file is removed, or another takes its name.

        Raises:
            Damaged: it is not one.
            OSError: it cannot be read.
        """
        self.cache: Cache | None = None
        self.key = key
        self.path = path
        fd = _open(path)
        try:
            status = os.fstat(fd)
            self.size = status.st_size
            self.made, self.used = status.st_mtime, status.st_atime
            self.stamp = status.st_ino, status.st_size, status.st_mtime_ns
            head = os.read(fd, min(self.size, SMALL))
            end = _start_of_frames(head)
            while len(head) < end:
                more = os.read(fd, end - len(head))
                if not more:
                    raise Damaged("it ends in its header")
                head += more
            length, checksum = _LENGTHS.unpack_from(head, len(MAGIC))
            header = head[_START : _START + length]
            if zlib.crc32(header) != checksum:
                raise Damaged("its header has changed")
            fields = json.loads(header)
            self.info: dict[str, Any] = fields["info"]
            self.table: Table = [(place + end, n, own) for place, n, own in fields["table"]]
            self._sums: list[int] = fields["sums"]
            if self.size != max([place + n for place, n, _ in self.table], default=end):
                raise Damaged("it has not the length that it says")
            self._bytes = memoryview(head) if len(head) == self.size else _read(fd, self.size) if content else None
        except EOFError:
            raise Damaged("it is being cut short") from None
        finally:
            os.close(fd)

    def check(self) -> None:
        """Compare the frames with their checksums.

        Raises:
            Damaged: they differ.
            OSError: they cannot be read.
        """
        start = self.table[0][0] if self.table else self.size
        if _sums(self._memory()[start:]) != self._sums:
            raise Damaged("its content has changed")

    def frames(self) -> list[Any]:
        """The frames, views of the file; they stay when it is removed."""
        return views(self._memory(), self.table)

    def load(self) -> Any:
        """The value. Arrays are read-only views of the file.

        Raises:
            Exception: it cannot be unpickled here.
        """
        return freeze(wire.loads(self.frames()))

    def hold(self) -> str:
        """A path to its file for those who will open it later, in another process; see `Cache.hold`.

        Raises:
            OSError: it is gone, or there is no such path.
        """
        if self.cache is None:
            raise FileNotFoundError(errno.ENOENT, "it was not found in a cache", self.path)
        return self.cache.hold(self)

    def _memory(self) -> memoryview:
        if self._bytes is None:
            whole = Entry(self.key, self.path)
            if whole.stamp != self.stamp:
                raise FileNotFoundError(errno.ENOENT, "another file has taken its place", self.path)
            self._bytes = whole._bytes
        assert self._bytes is not None
        return self._bytes

    def __repr__(self) -> str:
        return f"<Entry {self.key.hex()[:12]} {self.info.get('label', '')}>"


def _open(path: str) -> int:
    try:
        return os.open(path, _READ)
    except PermissionError:  # it is another user's, say root's, who may not be kept from noting that it was read
        return os.open(path, os.O_RDONLY)


def _read(fd: int, size: int) -> memoryview:
    """All bytes of a file, mapped where it is large."""
    if size >= WORTH_MAPPING:
        try:
            return memoryview(open_mapping(fd, size)).cast("B").toreadonly()
        except OSError:  # no more mappings: memory of our own will do
            pass
    return read_whole(fd, size)


def _start_of_frames(head: bytes) -> int:
    """Where the header ends and the frames begin."""
    if head[: len(MAGIC)] != MAGIC or len(head) < _START:
        raise Damaged("it does not begin as an entry does")
    length, _ = _LENGTHS.unpack_from(head, len(MAGIC))
    if length > _LONGEST:
        raise Damaged("its header has changed")
    return int(-(-(_START + length) // 64) * 64)


def write_entry(fd: int, frames: Sequence[Any], info: Mapping[str, Any]) -> int:
    """Write an entry to an empty file; its bytes.

    Raises:
        OSError: there is no room.
    """
    table, end = lay_out(frames)
    header = json.dumps({"info": dict(info), "table": table, "sums": _sums_of(frames, table)}, default=str).encode()
    start = _START + len(header)
    pad = -start % 64
    head = MAGIC + _LENGTHS.pack(len(header), zlib.crc32(header)) + header + b"\0" * pad
    if end <= SMALL:  # in one go
        content = bytearray(end)
        for frame, (place, length, _) in zip(frames, table, strict=True):
            content[place : place + length] = memoryview(frame).cast("B") if length else b""
        whole = head + content
        if os.write(fd, whole) != len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(whole)
    write(fd, [head], [(0, len(head), False)])
    write(fd, frames, [(place + len(head), length, own) for place, length, own in table])
    return len(head) + end


def _sums_of(frames: Sequence[Any], table: Table) -> list[int]:
    """The checksums of frames at their places, with the padding between them, which is zeros."""
    if len(frames) == 1:
        return _sums(memoryview(frames[0]).cast("B"))
    sums: list[int] = []
    sum_, filled, place = 0, 0, 0
    for frame, (start, length, _) in zip(frames, table, strict=True):
        pieces = [b"\0" * (start - place), memoryview(frame).cast("B") if length else b""]
        place = start + length
        for piece in pieces:
            at = 0
            while at < len(piece):
                part = piece[at : at + CHUNK - filled]
                sum_ = zlib.crc32(part, sum_)
                at += len(part)
                filled += len(part)
                if filled == CHUNK:
                    sums.append(sum_)
                    sum_, filled = 0, 0
    return [*sums, sum_] if filled else sums


def _sums(memory: memoryview) -> list[int]:
    """The checksum of each 64 MiB, several at a time where there are several: `crc32` lets go of Python's lock."""
    chunks = [memory[i : i + CHUNK] for i in range(0, len(memory), CHUNK)]
    if len(chunks) < 3:
        return [zlib.crc32(c) for c in chunks]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(zlib.crc32, chunks))
