"""The marker: a few numbers in memory shared with the driver, which says where a worker is also when that is dead.

It is a page of 64-bit integers. The worker's main thread writes it, the driver reads it; both need nothing else for it.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIZE = 4096  # bytes

DONE = 0  # nodes of the unit done before the one that is running; -1 while none has begun
OUTER = 1  # the outermost node (from 1) whose returned nodes are running, or 0
APART = 2  # how many of the done were returned nodes
UNIT = 3  # the unit
NAME_LENGTH = 4  # bytes of the name of the task of the returned node that is running
RECEIVED = 5  # messages that the worker has received
BEGAN = 6  # when it began the unit: nanoseconds of `time.monotonic`

_NAME_AT = 64  # the byte where that name begins
_LONGEST = 256


def map_page(fd: int) -> memoryview:
    """The marker in a file, which may be closed afterwards."""
    import mmap

    return memoryview(mmap.mmap(fd, SIZE)).cast("q")


def begin(marker: memoryview, unit: int) -> None:
    """Say that a worker is about to begin a unit."""
    marker[DONE], marker[OUTER], marker[APART] = -1, 0, 0
    marker[BEGAN], marker[UNIT] = time.monotonic_ns(), unit


def write_name(marker: Any, name: str) -> None:
    """Say which task the returned node that is running calls."""
    text = name.encode()[:_LONGEST]
    marker.cast("B")[_NAME_AT : _NAME_AT + len(text)] = text
    marker[NAME_LENGTH] = len(text)


def begun(marker: memoryview, unit: int) -> bool:
    """Whether the worker has begun the first node of a unit."""
    return marker[UNIT] == unit and marker[DONE] >= 0


def began(marker: memoryview, unit: int) -> float | None:
    """When a worker began a unit, in seconds of `time.monotonic`; None if it has not."""
    return marker[BEGAN] * 1e-9 if marker[UNIT] == unit else None


def position(marker: memoryview) -> tuple[int, str]:
    """The place in its unit of the node that a worker is at; if it is at one which that returned, that one's task."""
    if marker[OUTER]:
        text = bytes(marker.cast("B")[_NAME_AT : _NAME_AT + marker[NAME_LENGTH]])
        return marker[OUTER] - 1, text.decode(errors="replace")
    return max(marker[DONE], 0) - marker[APART], ""
