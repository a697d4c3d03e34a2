"""The purity audit: some calls are made twice, to find tasks that are no functions of their arguments.

A cache, a replay and a rerun after a worker's death all take it for granted that a call gives the same again, and that
it leaves its arguments alone. `compute(audit=True)` looks: of each task the first calls and then ever fewer are made a
second time, and digests of arguments and results are compared.
"""

from __future__ import annotations

import weakref

from graphray.errors import ImpureTask
from graphray.graph.hashing import Unhashable, hash_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from graphray.graph.node import Node
    from graphray.graph.task import Task

FIRST = 3  # calls of a task that are all looked at; then the 4th, 8th, 16th …


class Audit:
    """Which calls to look at, and how."""

    def __init__(self) -> None:
        self._calls: weakref.WeakKeyDictionary[Task, int] = weakref.WeakKeyDictionary()

    def samples(self, task: Task) -> bool:
        """Whether the next call of a task is to be looked at."""
        if not task.pure or task.kind != "call":
            return False
        count = self._calls[task] = self._calls.get(task, 0) + 1
        return count <= FIRST or count & (count - 1) == 0

    def call(self, node: Node, arguments: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]], fn: Any) -> Any:
        """Make a call twice; its first result.

        Args:
            node: the node.
            arguments: makes the arguments: fresh lists and dicts each time.
            fn: the function.

        Raises:
            ImpureTask: it changed its arguments, or gave something else the second time.
            Exception: what the function raises.
        """
        args, kwargs = arguments()
        before = _digests(args, kwargs)
        value = fn(*args, **kwargs)
        changed = [name for name, digest in _digests(args, kwargs).items() if digest != before.get(name)]
        if changed:
            raise ImpureTask(
                f"{node._task.name} changes its argument {', '.join(changed)}: what it is given may be used by other "
                "tasks, too; have it work on a copy"
            )
        args, kwargs = arguments()
        again = fn(*args, **kwargs)
        found = difference(value, again)
        if found is not None:
            raise ImpureTask(
                f"{node._task.name} gives something else when it is called again with the same arguments: {found}; "
                "take randomness from seed=True, or declare the task with pure=False"
            )
        return value


def _digests(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, bytes]:
    """A digest of each argument that has one, by place or name."""
    found = {}
    for name, x in [*((str(i), x) for i, x in enumerate(args)), *kwargs.items()]:
        try:
            found[name] = hash_value(x)
        except Unhashable:
            continue
    return found


def difference(a: Any, b: Any, path: str = "the result") -> str | None:
    """Where two values differ, in words; None where they do not, or where nobody can say."""
    try:
        if hash_value(a) == hash_value(b):
            return None
    except Unhashable:
        return None
    if type(a) is not type(b):
        return f"{path} is a {type(a).__name__} and then a {type(b).__name__}"
    if type(a) in (list, tuple) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            inner = difference(x, y, f"{path}[{i}]")
            if inner is not None:
                return inner
    if type(a) is dict and a.keys() == b.keys():
        for key in a:
            inner = difference(a[key], b[key], f"{path}[{key!r}]")
            if inner is not None:
                return inner
    from graphray.graph.node import short

    first, second = short(a), short(b)
    if first == second:
        return f"{path} ({first}) has other contents"
    return f"{path} is {first} and then {second}"
