"""The purity audit: some calls are made twice, to find tasks that are no functions of their arguments.

A cache, a replay and a rerun after a worker's death all take it for granted that a call gives the same again, and that
it leaves its arguments alone. `compute(audit=True)` looks: of each task the first calls and then ever fewer are made a
second time, and digests of arguments and results are compared.
"""

from __future__ import annotations

import secrets
import weakref

from graphray.errors import ImpureTask
from graphray.graph.containers import is_container, snapshot
from graphray.graph.hashing import Unhashable, hash_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from graphray.graph.node import Node
    from graphray.graph.task import Task

FIRST = 3  # calls of a task that are all looked at; then the 4th, 8th, 16th …


class Audit:
    """Which calls to look at, and how: one for each run and process."""

    def __init__(self) -> None:
        self.run = secrets.token_hex(8)
        self._calls: weakref.WeakKeyDictionary[Task, int] = weakref.WeakKeyDictionary()

    def __reduce__(self) -> Any:
        return _of_run, (self.run,)

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
        as_given = snapshot((args, kwargs))
        value = fn(*args, **kwargs)
        changed = [where for where, digest in before.items() if digest != _digest_of(_at(args, kwargs, where))]
        if changed:
            raise ImpureTask(_told(node._task, changed, as_given, (args, kwargs)))
        args, kwargs = arguments()
        again = fn(*args, **kwargs)
        found = difference(value, again)
        if found is not None:
            opaque = [_name(node._task, where) for where in [*range(len(args)), *kwargs] if where not in before]
            if opaque:  # an iterator, say, which the first call has used up
                found += f" (argument {', '.join(opaque)} has no content to go by, and may not be what it was)"
            raise ImpureTask(
                f"{node._task.name} gives something else when it is called again with the same arguments: {found}; "
                "take randomness from seed=True, or declare the task with pure=False"
            )
        return value


_last: Audit | None = None  # of the run that this process worked for last


def _of_run(run: str) -> Audit:
    """The audit of a run in a worker: the same for all of its units, so that calls are counted."""
    global _last
    if _last is None or _last.run != run:
        _last = Audit()
        _last.run = run
    return _last


def _digests(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int | str, bytes]:
    """A digest of each argument that has one, by place or name."""
    found: dict[int | str, bytes] = {}
    for where in [*range(len(args)), *kwargs]:
        digest = _digest_of(_at(args, kwargs, where))
        if digest is not None:
            found[where] = digest
    return found


def _digest_of(x: Any) -> bytes | None:
    try:
        return hash_value(x)
    except Unhashable:
        return None


def _at(args: tuple[Any, ...], kwargs: dict[str, Any], where: int | str) -> Any:
    return args[where] if type(where) is int else kwargs[where]  # type: ignore[index]


def _told(task: Task, changed: list[int | str], before: tuple[Any, Any], after: tuple[Any, Any]) -> str:
    """What to say of a call that has changed arguments.

    Args:
        task: what was called.
        changed: which ones, by place or name.
        before: a copy of the arguments. The user's own objects are not copied, and so not as they were.
        after: the arguments that the call has changed.
    """
    names = [_name(task, where) for where in changed]
    found = difference(_at(*before, changed[0]), _at(*after, changed[0]), names[0])
    return (
        f"{task.name} changes its argument {', '.join(names)}{f': {found}' if found is not None else ''}; what it is "
        "given may be used by other tasks, too: have it work on a copy"
    )


def _name(task: Task, where: int | str) -> str:
    """The name of a parameter; its place where it has none."""
    if type(where) is str:
        return where
    import inspect

    try:
        parameters = list(inspect.signature(task.fn).parameters.values())
    except (TypeError, ValueError):  # not every callable has a signature
        return str(where)
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if where < len(named):  # type: ignore[operator]
        return named[where]  # type: ignore[index]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    return f"{rest}[{where - len(named)}]" if rest is not None else str(where)  # type: ignore[operator]


def difference(a: Any, b: Any, path: str = "the result") -> str | None:
    """Where two values differ, in words; None where they do not, or where nobody can say."""
    try:
        if hash_value(a) == hash_value(b):
            return None
    except Unhashable:
        return None
    if type(a) is not type(b):
        return f"{path} is a {type(a).__name__} and then a {type(b).__name__}"
    for place, x, y in _parts(a, b):
        inner = difference(x, y, f"{path}{place}")
        if inner is not None:
            return inner
    from graphray.graph.node import short

    first, second = short(a), short(b)
    if first == second:
        return f"{path} ({first}) has other contents{_first_of_array(a, b)}"
    return f"{path} is {first} and then {second}"


def _parts(a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
    """The parts that two containers of one type have in common."""
    kind: Any = type(a)
    if kind in (list, tuple) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield f"[{i}]", x, y
    elif kind is dict and a.keys() == b.keys():
        for key in a:
            yield f"[{key!r}]", a[key], b[key]
    elif is_container(kind):
        names: Any = getattr(kind, "__dataclass_fields__", None) or getattr(kind, "_fields", ())
        for name in names:
            yield f".{name}", getattr(a, name, None), getattr(b, name, None)


def _first_of_array(a: Any, b: Any) -> str:
    """The first elements in which two arrays of equal shape and type differ, and in how many they do."""
    import sys

    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(a, numpy.ndarray) or a.dtype.hasobject or a.shape != b.shape:
        return ""
    differ = numpy.flatnonzero(((a != b) & ~((a != a) & (b != b))).reshape(-1))  # NaN is not itself
    if not len(differ):  # such as 0.0 and -0.0
        return ""
    at = numpy.unravel_index(differ[0], a.shape)
    place = ", ".join(str(int(i)) for i in at)
    return f": [{place}] is {a[at]} and then {b[at]}; {len(differ):,} of {a.size:,} elements differ"
