"""Walls: which nodes cannot connect to which others. What one of these has goes to the other through the driver.

Before the workers of a node take part, its agent tries to connect to a worker of every other node, and theirs to one of
its own. Where that does not work in one of the two directions, there is a wall in that direction. Where work does not
begin although its worker is free, the ways from there are tried again.
"""

from __future__ import annotations


class Walls:
    """What is known of the ways between nodes, which go by their names."""

    def __init__(self) -> None:
        self._doors: dict[str, tuple[str, int]] = {}  # of each node, where one of its workers listens
        self._asked: set[tuple[str, str]] = set()  # from where to where it is being tried
        self._closed: set[tuple[str, str]] = set()  # where there is no way

    def enter(self, node: str, door: tuple[str, int]) -> list[tuple[str, str, tuple[str, int]]]:
        """A worker of a node listens; which ways are to be tried: from where, to where, and at which door."""
        if node in self._doors:
            return []
        ways = [(node, other, its) for other, its in self._doors.items()]
        ways += [(other, node, door) for other in self._doors]
        self._doors[node] = door
        self._asked.update([(start, end) for start, end, _ in ways])
        return ways

    def ways_from(self, node: str) -> list[tuple[str, tuple[str, int]]]:
        """Where there is a way to from a node, as far as is known, and at which door."""
        return [(end, door) for end, door in self._doors.items() if end != node and not self.bar(node, end)]

    def tried(self, start: str, end: str, open: bool) -> bool:
        """A way was tried; whether it is closed, and was not before."""
        self._asked.discard((start, end))
        if open or start not in self._doors or end not in self._doors or self.bar(start, end):
            return False
        self._closed.add((start, end))
        return True

    def leave(self, node: str) -> None:
        """A node is gone."""
        self._doors.pop(node, None)
        for ways in (self._asked, self._closed):
            ways.difference_update([way for way in ways if node in way])

    def unknown(self, node: str) -> bool:
        """Whether some way from or to a node is still being tried."""
        return any(node in way for way in self._asked)

    def bar(self, start: str, end: str) -> bool:
        """Whether there is no way from one node to another."""
        return (start, end) in self._closed

    def around(self, node: str) -> bool:
        """Whether there is any node that this one cannot connect to, or that cannot connect to it."""
        return any(node in way for way in self._closed)
