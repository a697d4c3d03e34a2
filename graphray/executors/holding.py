"""Holding: large arguments are sent once, however many nodes and runs use them.

A graph may not change, so what was sent for a node stays for as long as the node lives, and its next run finds it.
Within a run, the same object in several nodes is one, for as long as any of these lives. After that it may be changed,
and is another.
"""

from __future__ import annotations

import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from graphray.graph.node import Node


class Holding:
    """What an engine has sent."""

    def __init__(self) -> None:
        self._by_node: weakref.WeakKeyDictionary[Node, dict[Any, Any]] = weakref.WeakKeyDictionary()
        self._by_job: weakref.WeakKeyDictionary[Any, dict[Any, weakref.ref[Any]]] = weakref.WeakKeyDictionary()

    def hold(
        self, job: Any, node: Node, x: Any, put: Callable[[Any], Any], valid: Callable[[Any], bool] | None = None
    ) -> Any:
        """The handle of an argument of a node, which keeps it where it was sent.

        Args:
            job: the run.
            node: the node.
            x: the argument.
            put: sends it.
            valid: says of an old handle whether it is still good.
        """
        key = _key(x)
        mine = self._by_node.setdefault(node, {})
        if key in mine and (valid is None or valid(mine[key])):
            return mine[key]
        of_job = self._by_job.setdefault(job, {})
        held = of_job[key]() if key in of_job else None
        if held is None or (valid is not None and not valid(held)):
            held = put(x)
            of_job[key] = weakref.ref(held)
        mine[key] = held
        return held

    def end_job(self, job: Any) -> None:
        """A run is over: what several of its nodes shared is kept by those only."""
        self._by_job.pop(job, None)

    def all(self) -> list[Any]:
        """All handles."""
        return [held for mine in list(self._by_node.values()) for held in list(mine.values())]


def _key(x: Any) -> Any:
    """Equal for the same object; for plain arrays, for the same view of the same memory."""
    kind = type(x)
    if kind.__name__ != "ndarray" or kind.__module__ != "numpy":
        return id(x)
    return x.__array_interface__["data"][0], x.shape, x.strides, x.dtype
