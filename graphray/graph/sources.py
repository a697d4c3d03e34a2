"""Where values enter a graph: constants, symbolic inputs, files, and nodes that are themselves data."""

from __future__ import annotations

import os

from graphray.graph.containers import snapshot
from graphray.graph.node import NESTED, Node, find
from graphray.graph.task import own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _identity(x: Any) -> Any:
    return x


def _gather(*structure: Any) -> Any:
    if not structure:
        raise LookupError("the value of this handle is not there any more: it was released, or its run has ended")
    return structure[0]


def _unbound(name: str, *default: Any) -> Any:
    if default:  # an input that a task returned: nobody could bind it
        return default[0]
    raise TypeError(f"the input {name!r} was not bound")


VALUE = own(__name__, "VALUE", _identity, "value", kind="inline")
INPUT = own(__name__, "INPUT", _unbound, "input", kind="inline")
FILE = own(__name__, "FILE", _identity, "file", kind="inline")
QUOTE = own(__name__, "QUOTE", _identity, "quote", kind="inline")
QUOTE.direct = None  # its argument is not looked into: the engines know it
GATHER = own(__name__, "GATHER", _gather, "gather", kind="inline")


def value(x: Any) -> Node:
    """A constant as a node. Useful where one large object is given to many nodes: it is then shipped once.

    The object is held, not copied (lists and dicts are): changing an array afterwards would change the graph. Where it
    is a structure that contains nodes, their values take their places.
    """
    deps = find(x)
    return gather(x, tuple(deps)) if deps else Node(VALUE, (snapshot(x),), None, (), NESTED)


def input(name: str, *, default: Any = ...) -> Node:
    """A symbolic input: its value comes from `graph.bind(name=…)`, `compute(inputs={name: …})`, or the default.

    Inputs of one graph with the same name are the same input and must have the same default.

    Raises:
        TypeError: the name is not a text.
    """
    if type(name) is not str or not name:
        raise TypeError(f"an input needs a name, a text, not {name!r}")
    return Node(INPUT, (name,) if default is ... else (name, snapshot(default)), None, (), NESTED)


def file(path: str | os.PathLike[str]) -> Node:
    """A file: the task it is given to gets its absolute path; its identity is its content, so a changed file is new.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a directory.
    """
    name = os.path.abspath(os.fspath(path))
    if os.path.isdir(name):
        raise IsADirectoryError(f"gr.file is for one file, and {os.fspath(path)!r} is a directory; see gr.glob")
    if not os.path.exists(name):
        raise FileNotFoundError(f"gr.file: no such file: {os.fspath(path)!r} (looked for {name!r})")
    return Node(FILE, (name,), None, (), NESTED)


def glob(pattern: str | os.PathLike[str]) -> tuple[Node, ...]:
    """The files that match a pattern (`*`, `?`, `[…]`, `**` for any depth), sorted by path, each as `gr.file` gives it.

    Raises:
        FileNotFoundError: no file matches; an empty fan-out is hardly ever meant.
    """
    import glob as _glob

    names = sorted(n for n in _glob.glob(os.fspath(pattern), recursive=True) if not os.path.isdir(n))
    if not names:
        raise FileNotFoundError(f"gr.glob: no file matches {os.fspath(pattern)!r} (from {os.getcwd()!r})")
    return tuple([file(n) for n in names])


def quote(node: Any) -> Node:
    """A node or graph as data: a task it is given to gets the node itself; returned by a task, it is not evaluated.

    Raises:
        TypeError: neither a node nor a graph; other values are data already.
    """
    from graphray.graph.dataflow import Graph

    if type(node) is not Node and type(node) is not Graph:
        raise TypeError(f"gr.quote is for a Node or Graph; {type(node).__name__} is data already")
    return Node(QUOTE, (node,), None, (), NESTED)


def gather(structure: Any, deps: tuple[Node, ...]) -> Node:
    """A node whose value is the structure with its nodes replaced by their values."""
    return Node(GATHER, (snapshot(structure),), None, deps, NESTED)
