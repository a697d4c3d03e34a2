"""Walls: which nodes cannot connect to which others. What one of these has goes to the other through the driver.

Before the workers of a node take part, its agent tries to connect to a worker of every other node, and theirs to one of
its own. Where that does not work in one of the two directions, there is a wall in that direction.
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

    def tried(self, start: str, end: str, open: bool) -> None:
        """A way was tried."""
        self._asked.discard((start, end))
        if not open and start in self._doors and end in self._doors:
            self._closed.add((start, end))

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
