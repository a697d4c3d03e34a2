"""Operators on nodes: each makes a node of a function of Python's `operator` module."""

from __future__ import annotations

import builtins
import operator

from graphray.graph.containers import ATOMS
from graphray.graph.node import FLAT, Node, make
from graphray.graph.task import Task, own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_BINARY = "add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift lt le gt ge".split()
_REFLECTED = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split()
_UNARY = "neg pos abs invert".split()


class _Tasks:
    """The operators' tasks, by name: where every process finds the same ones."""


def _task(fn: Callable[..., Any], name: str) -> Task:
    made = own(__name__, f"_Tasks.{name}", fn, name)
    setattr(_Tasks, name, staticmethod(made))  # a task is a descriptor: as a method it would bind
    return made


def _install() -> None:
    for name in _BINARY:
        task = _task(builtins.getattr(operator, name), name.strip("_"))
        setattr(Node, f"__{name.strip('_')}__", _method(task))
        if name.strip("_") in _REFLECTED:
            setattr(Node, f"__r{name.strip('_')}__", _reflected(task))
    for name in _UNARY:
        setattr(Node, f"__{name}__", _method(_task(builtins.getattr(operator, name), name)))
    setattr(Node, "__getitem__", _method(_task(operator.getitem, "getitem")))  # noqa: B010 (mypy: Node has no such method)


def _method(task: Task) -> Callable[..., Node]:
    def method(self: Node, *others: Any) -> Node:
        for x in others:
            if type(x) is not Node and type(x) not in ATOMS:
                return make(task, (self, *others), None)
        deps = (self, *[x for x in others if type(x) is Node and x is not self])
        return Node(task, (self, *others), None, deps, FLAT)

    method.__name__ = method.__qualname__ = task.name
    return method


def _reflected(task: Task) -> Callable[[Node, Any], Node]:
    def method(self: Node, other: Any) -> Node:
        return make(task, (other, self), None)

    method.__name__ = method.__qualname__ = f"r{task.name}"
    return method


_EQ = _task(operator.eq, "eq")
_GETATTR = _task(builtins.getattr, "getattr")


def eq(a: Any, b: Any) -> Node:
    """The lazy `a == b` (the operator itself compares nodes by identity)."""
    return make(_EQ, (a, b), None)


def getattr(node: Any, name: str) -> Node:
    """The lazy `node.name`: an attribute of the value."""
    return make(_GETATTR, (node, name), None)


_install()
