"""What the two sides of the store say to each other: where the bytes of a value are.

A value's place is the names of segments and a table of frames. The frames are mostly in one segment that was written
for it; but where a task hands on arrays that it got, these stay where they are, and the table refers to them there.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    # Of each frame: the number of its segment, where it begins there, its length, whether its reader needs a copy.
    Places: TypeAlias = list[tuple[int, int, int, bool]]

LEAST = 64 << 10  # bytes of a value above which it goes into the store


def frames_of(memory: Sequence[memoryview], places: Places) -> list[Any]:
    """The frames of a value, for `wire.loads`: views of its segments' bytes, or copies where the reader may write."""
    return [
        bytearray(memory[i][place : place + length]) if own else memory[i][place : place + length]
        for i, place, length, own in places
    ]


class Written:
    """A value that a worker has put into the store, as it tells the driver."""

    __slots__ = ("disk", "name", "names", "places", "size")

    def __init__(self, name: str, size: int, disk: bool, names: list[str], places: Places) -> None:
        self.name = name  # of the segment that was written for it; empty if none was
        self.size = size
        self.disk = disk
        self.names = names  # of the segments that `places` refers to by number
        self.places = places

    def __reduce__(self) -> Any:
        return Written, (self.name, self.size, self.disk, self.names, self.places)


class Lost(Exception):
    """A segment is not where it should be: somebody has removed it."""
