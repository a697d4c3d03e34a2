"""Fan-out and fan-in: map, reduce, combine."""

from __future__ import annotations

import gc

from graphray.graph.containers import ATOMS
from graphray.graph.node import CONSTANT, FLAT, Node, find, make
from graphray.graph.sources import gather, value
from graphray.graph.task import Task, as_task, own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any


def map(fn: Callable[..., Any], /, *iterables: Any, **kwargs: Any) -> Any:
    """Call `fn` for each element: `fn(a, b, **kwargs)` for `a, b` in the iterables zipped, which must be equally long.

    Args:
        fn: a task or a plain function.
        iterables: iterables known now (their elements may be nodes), or nodes that yield iterables.
        kwargs: given to every call; may be nodes.

    Returns:
        A tuple of nodes where all iterables are known now. Where one is a Node, one node: the fan-out is made when the
        iterable is known, and its value is the tuple of results.

    Raises:
        TypeError: no iterable, or something that is not one.
        ValueError: iterables of different lengths.
    """
    if not iterables:
        raise TypeError("gr.map needs at least one iterable: gr.map(fn, items)")
    task = as_task(fn)
    for it in iterables:
        if type(it) is Node:
            return make(_MAP, (task, *iterables), kwargs)
    return _map_known(task, iterables, kwargs)


def _map_known(task: Task, iterables: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Node, ...]:
    low, high = task._arity
    if len(iterables) == 1 and not kwargs and low <= 1 <= high:
        with _collector_paused():
            nodes = tuple(
                [
                    Node(task, (x,), None, (), CONSTANT) if type(x) in ATOMS
                    else Node(task, (x,), None, (x,), FLAT) if type(x) is Node
                    else make(task, (x,), None)
                    for x in _items(iterables[0])
                ]
            )  # fmt: skip
    else:
        rows = zip(*[_items(it) for it in iterables], strict=True)
        try:
            nodes = tuple([task(*row, **kwargs) for row in rows])
        except ValueError as error:
            if "zip()" not in str(error):
                raise
            lengths = ", ".join(str(len(list(_items(it)))) if hasattr(it, "__len__") else "?" for it in iterables)
            raise ValueError(f"gr.map over iterables of different lengths: {lengths}") from None
    if task.seed:
        for i, node in enumerate(nodes):
            node._index = i  # equal calls at different places get different seeds
    return nodes


class _collector_paused:
    """The garbage collector waits while many nodes are made: none of them is garbage, and it would go through all."""

    def __enter__(self) -> None:
        self.was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *error: object) -> None:
        if self.was_on:
            gc.enable()


def _items(it: Any) -> Iterable[Any]:
    if not hasattr(it, "__iter__") and not hasattr(it, "__getitem__"):
        raise TypeError(f"gr.map goes over iterables, and {type(it).__name__} is none; give fixed arguments by keyword")
    return it  # type: ignore[no-any-return]


def _expand_map(task: Task, *iterables: Any, **kwargs: Any) -> tuple[Node, ...]:
    return _map_known(task, iterables, kwargs)


_MAP = own(__name__, "_MAP", _expand_map, "map")


def reduce(fn: Callable[[Any, Any], Any], parts: Any, *, arity: int = 16, initial: Any = ...) -> Node:
    """Fold values with a binary function, as a tree whose nodes fold up to `arity` values each; order is kept.

    `fn` must be associative, since the tree groups the values; it need not be commutative. The shape of the tree
    depends on the number of values and on `arity` only.

    Args:
        fn: a binary task or function.
        parts: an iterable (of nodes or values), or a node that yields one.
        arity: the most values one node folds, 2 or more.
        initial: comes first; and is the result where there are no parts.

    Raises:
        ValueError: no parts and no `initial`, or an arity below 2.
    """
    task = as_task(fn)
    if task.seed:
        arity = 2  # one call a node, so that each call has a seed of its own
    return _fan_in(task, "reduce", parts, arity, initial)


def combine(fn: Callable[[list[Any]], Any], parts: Any, *, arity: int = 16, initial: Any = ...) -> Node:
    """Like `reduce`, for a function of one list: each node calls `fn([…])` on up to `arity` values.

    A lone value passes through uncalled.

    Raises:
        ValueError: no parts and no `initial`, or an arity below 2.
    """
    return _fan_in(as_task(fn), "combine", parts, arity, initial)


def _fan_in(task: Task, name: str, parts: Any, arity: int, initial: Any) -> Node:
    if type(arity) is not int or arity < 2:
        raise ValueError(f"arity= is how many values one node takes, 2 or more, not {arity!r}")
    start = () if initial is ... else (initial,)
    if type(parts) is Node:
        return make(_REDUCE if name == "reduce" else _COMBINE, (task, arity, parts, *start), None)
    if not hasattr(parts, "__iter__") and not hasattr(parts, "__getitem__"):
        raise TypeError(f"gr.{name} goes over an iterable of values or nodes, and {type(parts).__name__} is none")
    return _tree(task, name, [*start, *parts], arity)


def _tree(task: Task, name: str, level: Sequence[Any], arity: int) -> Node:
    if not level:
        raise ValueError(f"gr.{name} of no values: give initial= to say what that is")
    while len(level) > 1:
        groups = [level[i : i + arity] for i in range(0, len(level), arity)]
        # A group of one passes through: no call is made for a lone value.
        if name == "reduce":
            level = [_fold(task, g) if len(g) > 1 else g[0] for g in groups]
        else:
            level = [make(task, (list(g),), None) if len(g) > 1 else g[0] for g in groups]
    return as_node(level[0])


def as_node(x: Any) -> Node:
    """A structure as one node: itself if it is one, a gathering node if it contains some, else a constant."""
    if type(x) is Node:
        return x
    deps = find(x)
    return gather(x, tuple(deps)) if deps else value(x)


def _expand_reduce(task: Task, arity: int, parts: Any, *initial: Any) -> Node:
    return _tree(task, "reduce", [*initial, *parts], arity)


def _expand_combine(task: Task, arity: int, parts: Any, *initial: Any) -> Node:
    return _tree(task, "combine", [*initial, *parts], arity)


_REDUCE = own(__name__, "_REDUCE", _expand_reduce, "reduce")
_COMBINE = own(__name__, "_COMBINE", _expand_combine, "combine")


def _fold(task: Task, group: Sequence[Any]) -> Node:
    return make(task if len(group) == 2 else _fold_task(task), tuple(group), None)


def _fold_task(task: Task) -> Task:
    known = task.__dict__.get("_fold")
    if known is None:
        options = {**task.options, "jit": False, "outputs": None}
        known = task.__dict__["_fold"] = Task(Fold(task), task.name, **options)
    return known


class Fold:
    """Folds its arguments from the left with a binary task: a node of `gr.reduce` with more than two values."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self, first: Any, *rest: Any) -> Any:
        """The fold of the arguments."""
        fn = self.task.callable
        for x in rest:
            # A function that returned a node is folded on lazily.
            first = self.task(first, x) if type(first) is Node else fn(first, x)
        return first
