"""Eviction: how a cache stays within its limit, and what was never finished goes.

A look at all files costs a second per some 100,000 of them, so nobody looks after each write. A process may write a
twentieth of the limit between two looks, less where the last one found the cache nearly full. It begins with a random
part of that: many short processes look as often as a long one that writes as much.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from typing import NamedTuple

from graphray.executors.cache.parts import sweep_parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BETWEEN = 0.05  # of the limit: what a process writes between two looks
EVICTED_TO = 0.9  # of the limit: what is left after an eviction

_SETTLED = 60.0  # seconds after which a record that is being written is swept

# By directory and limit: bytes that this process may write before it looks again.
_allowed: dict[tuple[str, int], int] = {}
_lock = threading.Lock()


class File(NamedTuple):
    """A file of results; under several names where several keys have it."""

    used: float
    size: int
    paths: list[str]


def files(objects: str) -> list[File]:
    """All files below a directory, in no order; one with several names comes once."""
    found: dict[int, File] = {}
    for folder in listed(objects):
        try:
            entries = os.scandir(os.path.join(objects, folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        with entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        used = max(status.st_atime, status.st_mtime)
                        found.setdefault(status.st_ino, File(used, status.st_size, [])).paths.append(entry.path)
    return list(found.values())


def look_is_due(directory: str, limit: int, written: int) -> bool:
    """Count what was written; whether it is time to look at the whole."""
    place = directory, limit
    with _lock:
        left = _allowed.get(place)
        if left is None:
            # Not by `random`: its state is the user's.
            left = int(BETWEEN * limit * int.from_bytes(os.urandom(4)) / 2**32)
        left -= written
        _allowed[place] = left
    return left < 0


def looked(directory: str, limit: int, size: int) -> None:
    """The whole has so many bytes."""
    with _lock:
        _allowed[directory, limit] = min(int(BETWEEN * limit), max(0, limit - size))


def oldest(found: Iterable[File], limit: int, before: float | None = None) -> list[File]:
    """What has to go: what was used longest ago, until the rest fits the limit, and all not used since `before`."""
    ordered = sorted(found, key=lambda file: file.used)
    left = sum([file.size for file in ordered])
    gone = []
    for file in ordered:
        if left <= limit and (before is None or file.used >= before):
            break
        gone.append(file)
        left -= file.size
    return gone


def sweep(directory: str) -> None:
    """Remove what was never finished, and whose writer is gone."""
    sweep_parts(directory)
    records = os.path.join(directory, "iterations")
    for name in listed(records):
        if "." in name:  # a record that is written, in a moment, beside the one that it will replace
            path = os.path.join(records, name)
            with contextlib.suppress(OSError):
                if time.time() - os.stat(path).st_mtime > _SETTLED:
                    os.unlink(path)


def listed(folder: str) -> list[str]:
    """The names in a folder; none where there is no such folder."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
