"""Flat serialisation: nodes as columns of plain data, so that no depth of graph meets pickle's recursion limit.

References to nodes become integers: those of `outside` first, then those of the nodes themselves in the order given.
"""

from __future__ import annotations

import array
import itertools

from graphray.graph.containers import rewrite
from graphray.graph.node import CONSTANT, FLAT, NESTED, Node, find, topological
from graphray.graph.sources import QUOTE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from graphray.graph.task import Task

    # The form of each row; arguments of the rows that do not consist of nodes only; for those that do, how many nodes
    # each has, and their numbers (32 bits each); keyword arguments and places in a map, by row.
    Columns = tuple[bytes, list[Any], bytes, bytes, dict[int, dict[str, Any]], dict[int, int]]

# Forms of a row beyond those of a node.
_REFERENCES = 3  # every argument is a node, and no two are the same
_QUOTE = 4  # a quoted node: a graph of its own


class Ref:
    """The place of a node inside nested arguments."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> Any:
        return Ref, (self.index,)


def pack(
    nodes: Sequence[Node], outside: Sequence[Node], hold: Callable[[Node, Any], Any] | None = None
) -> tuple[Columns, dict[Node, int]]:
    """Columns of `nodes`, and the number of each node; those `outside` are numbered first.

    `hold` may say what goes in place of an object among a node's arguments.
    """
    index = dict(zip(outside, range(len(outside)), strict=True))
    index.update(zip(nodes, range(len(outside), len(outside) + len(nodes)), strict=True))
    return _pack(nodes, index, hold), index


def _pack(nodes: Sequence[Node], index: dict[Node, int], hold: Callable[[Node, Any], Any] | None) -> Columns:
    kwargs = {i: n._kwargs for i, n in enumerate(nodes) if n._kwargs is not None}
    places: dict[int, int] = {i: n._index for i, n in enumerate(nodes) if n._task.seed and hasattr(n, "_index")}
    forms = bytes([n._form for n in nodes])
    if forms.count(CONSTANT) == len(forms):
        return forms, [n._args for n in nodes], b"", b"", kwargs, places
    rows: list[Any] = []
    codes = bytearray(forms)
    counts = bytearray()
    referred: list[Node] = []

    def leaf(x: Any) -> Any:
        if type(x) is Node:
            return Ref(index[x])
        return x if hold is None else hold(n, x)

    for i, n in enumerate(nodes):
        args: Any = n._args
        form = n._form
        if form == FLAT:
            if len(n._deps) == len(args) < 256:
                codes[i] = _REFERENCES
                counts.append(len(args))
                referred += args
                continue
            args = rewrite(args, leaf)
        elif form != CONSTANT:
            if n._task is QUOTE and type(args[0]) is Node:
                codes[i] = _QUOTE
                args = flatten([args[0]])
            else:
                args = rewrite(args, leaf)
            if i in kwargs:
                kwargs[i] = rewrite(kwargs[i], leaf)
        rows.append(args)
    numbers = array.array("I", map(index.__getitem__, referred)).tobytes()
    return bytes(codes), rows, bytes(counts), numbers, kwargs, places


def unpack(tasks: Sequence[Task], columns: Columns, table: list[Node]) -> list[Node]:
    """The nodes again; `tasks` is the task of each row. `table` holds the nodes outside, and gets these after them."""
    codes, rows, counts, numbers, kwargs, places = columns
    if len(rows) == len(codes) and codes.count(CONSTANT) == len(codes):
        nodes = [Node(task, args, None, (), CONSTANT) for task, args in zip(tasks, rows, strict=True)]
        for i, options in kwargs.items():
            nodes[i]._kwargs = options
        table += nodes
    else:
        first = len(table)
        _unpack_rows(tasks, codes, iter(rows), iter(counts), numbers, kwargs, table)
        nodes = table[first:]
    for i, place in places.items():
        nodes[i]._index = place
    return nodes


def _unpack_rows(
    tasks: Sequence[Task],
    codes: bytes,
    rows: Iterator[Any],
    counts: Iterator[int],
    numbers: bytes,
    kwargs: dict[int, dict[str, Any]],
    table: list[Node],
) -> None:
    integers = array.array("I")
    integers.frombytes(numbers)
    referred = map(table.__getitem__, integers)  # lazily: most are made on the way

    def leaf(x: Any) -> Any:
        return table[x.index] if type(x) is Ref else x

    place = table.append
    for i, (task, code) in enumerate(zip(tasks, codes, strict=True)):
        if code == _REFERENCES:
            args = tuple(itertools.islice(referred, next(counts)))
            place(Node(task, args, kwargs.get(i), args, FLAT))
        elif code == CONSTANT:
            place(Node(task, next(rows), kwargs.get(i), (), CONSTANT))
        elif code == _QUOTE:
            place(Node(task, (restore_one(next(rows)),), None, (), NESTED))
        else:
            args = rewrite(next(rows), leaf)
            options = kwargs.get(i)
            if options:
                options = rewrite(options, leaf)
            place(Node(task, args, options, tuple(find((args, options))), code))


def flatten(roots: list[Node]) -> tuple[list[Task], list[int], Columns, list[int]]:
    """A whole graph as plain data: its tasks, the task of each node, the columns, and which rows are the roots."""
    nodes = topological(roots)
    tasks, numbers = number_tasks(nodes)
    columns, index = pack(nodes, ())
    return tasks, numbers, columns, [index[r] for r in roots]


def number_tasks(nodes: Sequence[Node]) -> tuple[list[Task], list[int]]:
    """The distinct tasks of nodes, and the number of each node's."""
    table: dict[Task, int] = {}
    numbers = [table.setdefault(n._task, len(table)) for n in nodes]
    return list(table), numbers


def restore(flat: tuple[list[Task], list[int], Columns, list[int]]) -> list[Node]:
    """The roots of a flattened graph."""
    tasks, numbers, columns, roots = flat
    nodes = unpack([tasks[i] for i in numbers], columns, [])
    return [nodes[i] for i in roots]


def restore_one(flat: Any) -> Node:
    """The one root of a flattened graph (what `pickle` calls to make a node)."""
    return restore(flat)[0]
