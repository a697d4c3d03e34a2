"""Frames: a pickled value and its large buffers, side by side in one stretch of bytes (shared memory, or a file).

    pickle │ pad │ buffer │ pad │ buffer …       each begins at a multiple of 64 bytes, as XLA and SIMD code like it

The places of the frames are a *table*, plain data that is kept or sent elsewhere. Whoever has the bytes and the table
has the value: buffers that were read-only when it was pickled (the arrays a task returned) become views of the bytes,
others (the insides of objects that may change them) private copies.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    # Of each frame: where it begins, its length, and whether its reader needs a copy of its own.
    Table: TypeAlias = list[tuple[int, int, bool]]

ALIGNMENT = 64
AT_ONCE = 1 << 30  # bytes of one system call; Linux writes no more than 2 GiB


def size_of(frame: Any) -> int:
    """Length of a frame in bytes."""
    return len(frame) if isinstance(frame, (bytes, bytearray)) else int(frame.nbytes)


def lay_out(frames: Sequence[Any], start: int = 0) -> tuple[Table, int]:
    """Where each of the frames that `wire.dumps` gave goes, from `start` on; and where the last one ends."""
    table: Table = []
    place = start
    for i, frame in enumerate(frames):
        place = -(-place // ALIGNMENT) * ALIGNMENT
        length = size_of(frame)
        table.append((place, length, i > 0 and isinstance(frame, memoryview) and not frame.readonly))
        place += length
    return table, place


def write(fd: int, frames: Sequence[Any], table: Table) -> None:
    """Write frames to their places in a file.

    Not through a mapping: there a full file system is a signal that ends the process, here it is an error.

    Raises:
        OSError: there is no space left, for one.
    """
    import os

    for frame, (place, length, _) in zip(frames, table, strict=True):
        view = memoryview(frame).cast("B") if length else b""
        done = 0
        while done < length:
            done += os.pwrite(fd, view[done : done + AT_ONCE], place + done)


def copy_in(memory: memoryview, frames: Sequence[Any], table: Table) -> None:
    """Copy frames to their places in memory whose pages are there already."""
    for frame, (place, length, _) in zip(frames, table, strict=True):
        if length:
            memory[place : place + length] = memoryview(frame).cast("B")


def views(memory: memoryview, table: Table) -> list[Any]:
    """The frames again, for `wire.loads`: views of read-only memory, or copies where the reader may write to them."""
    return [
        bytearray(memory[place : place + length]) if own else memory[place : place + length]
        for place, length, own in table
    ]
