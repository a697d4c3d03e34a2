"""Digests of nodes: a Merkle DAG over the code of the functions and the values of the arguments.

They are computed only when someone asks, and remembered on the node. What a remembered digest depends on outside the
node (the code of functions, the content of files) is checked again at every top-level question: an edited helper is
seen, also in a notebook.
"""

from __future__ import annotations

import hashlib
import os

from graphray.graph.hashing import Unhashable, hash_value, register
from graphray.graph.node import NESTED, Node, find, topological
from graphray.graph.sources import FILE, GATHER, VALUE
from graphray.graph.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

# All remembered digests are of this epoch; it moves on when a function or file is found changed.
_epoch = 0
_NONE = "no digest"
_PINNED = -1  # of every epoch
_files: dict[str, tuple[tuple[int, ...], bytes]] = {}


def digest_of(node: Node) -> bytes:
    """The digest of one node.

    Raises:
        Unhashable: it has none, or one of those it needs has none; the message names which and why.
    """
    digest_all([node])
    return remembered(node)


def digest_of_outputs(outputs: Mapping[Any, Any]) -> bytes:
    """The digest of named outputs."""
    digest_all(n for x in outputs.values() for n in find(x))
    return hash_value(("graph", dict(outputs)))


def digest_all(roots: Iterable[Node], again: bool = True) -> None:
    """Make the digests of `roots` and all they need known.

    With `again`, functions and files seen before are looked at again; within a run, they are taken as they were.
    """
    global _epoch
    order = topological(roots)
    if _changed(order, again):
        _epoch += 1
    for node in order:
        known = getattr(node, "_digest", None)
        if known is None or (known[0] != _epoch and known[0] != _PINNED):
            node._digest = (_epoch, _compute(node))


def remembered(node: Node) -> bytes:
    """The digest of a node that `digest_all` has been asked for.

    Raises:
        Unhashable: it has none.
    """
    digest: bytes | Unhashable = node._digest[1]
    if isinstance(digest, Unhashable):
        raise Unhashable(digest.reason) from None
    return digest


def wanted(node: Node) -> bool:
    """Whether running a node takes its digest: it derives a seed, or makes nodes that do."""
    task = node._task
    # An iteration: its step, or the question whether it is done.
    return task.seed or (task.kind == "macro" and any(type(a) is Task and a.seed for a in node._args))


def tell(nodes: Iterable[Node]) -> list[bytes | str]:
    """The digests of nodes as plain data, to be pinned to stand-ins elsewhere; a text says why one has none."""
    nodes = list(nodes)
    digest_all([n for n in nodes if not hasattr(n, "_digest")], again=False)
    digests = [n._digest[1] for n in nodes]
    return [str(d) if isinstance(d, Unhashable) else d for d in digests]


def pin(node: Node, digest: bytes | str | None = None) -> None:
    """Fix what a node's digest is, where it cannot be computed from the node any more (a stand-in, a passed state).

    Without a digest given, the one remembered stays; where none is, the node has none from here on. A text says why
    there is none.
    """
    if type(digest) is str:
        node._digest = (_PINNED, Unhashable(digest))
        return
    if digest is None and hasattr(node, "_digest"):
        node._digest = (_PINNED, node._digest[1])
    else:
        nothing = Unhashable(f"no digest for {node.label}: it was not asked for in time")
        node._digest = (_PINNED, nothing if digest is None else digest)


def derive_seed(digest: bytes, root: int, index: int | None) -> int:
    """The seed of a node: an integer in [0, 2**63) from the run's root seed, the node's digest and its place."""
    text = b"seed\0" + digest + b"\0" + str(root).encode() + b"\0" + str(index).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def _changed(order: list[Node], again: bool) -> bool:
    changed = False
    tasks: dict[Task, None] = {}
    for node in order:
        tasks[node._task] = None
        if node._form == NESTED:
            tasks.update((a, None) for a in node._args if type(a) is Task)  # as in map, reduce, iterate
        if node._task is FILE and (again or node._args[0] not in _files):
            changed |= _refresh_file(node._args[0])
    for task in tasks:
        if again or "_code" not in task.__dict__:
            changed |= _refresh_task(task)
    return changed


def _refresh_task(task: Task) -> bool:
    try:
        new: Any = _task_digest(task)
    except Unhashable as error:
        new = error.reason if not error.path else f"{error.path}: {error.reason}"
    old = task.__dict__.get("_code")
    task.__dict__["_code"] = new
    return old is not None and old != new


def _task_digest(task: Task) -> bytes:
    from graphray.graph.code import function_digest

    parts = _task_parts(task)
    return hash_value(tuple([function_digest(p) if p is task.fn else p for p in parts]))


def _task_parts(task: Task) -> tuple[Any, ...]:
    """What makes a task what it is: its function and the options that change results; or the version it is given."""
    if not task.pure:
        raise Unhashable(f"{task.name} is declared impure (pure=False)")
    version = task.options["version"]
    if version is not None:
        module = getattr(task, "__module__", None)
        return ("task version", module, getattr(task, "__qualname__", task.name), version)
    return ("task", task.fn, task.outputs, task.seed)


def _refresh_file(path: str) -> bool:
    """Hash a file's content again if its size, time or inode moved; true if the content did."""
    stat = os.stat(path)
    stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    known = _files.get(path)
    if known is not None and known[0] == stamp:
        return False
    with open(path, "rb") as stream:
        content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=20)).digest()
    _files[path] = (stamp, content)
    return known is not None and known[1] != content


def _compute(node: Node) -> bytes | Unhashable:
    task = node._task
    try:
        if task is FILE:
            return hash_value(("file", _files[node._args[0]][1]))
        if task is VALUE:
            if not node._args:
                raise Unhashable("it stands for a value of another process, and was not told its digest")
            return hash_value(("value", node._args[0]))
        if task is GATHER and type(node._args[0]) is Node:
            return remembered(node._args[0])  # a growing run's handle stands for its node
        index = getattr(node, "_index", None) if task.seed else None
        return hash_value(("node", _code_of(task), node._args, node._kwargs, index))
    except Unhashable as error:
        if error.reason.startswith(_NONE):
            return Unhashable(error.reason)  # that of a node it needs
        place = error.path.replace("[1]", "", 1).replace("[2]", "args", 1).replace("[3]", "kwargs", 1)
        return Unhashable(f"{_NONE} for {node.label}: {place}{': ' if place else ''}{error.reason}")


def _node_digest(node: Node) -> bytes:
    known = getattr(node, "_digest", None)
    if known is None:  # data, not an argument: a quoted node
        digest_all([node])
    return remembered(node)


def _code_of(task: Task) -> bytes:
    code = task.__dict__.get("_code")
    if code is None:
        _refresh_task(task)
        code = task.__dict__["_code"]
    if isinstance(code, str):
        raise Unhashable(code)
    return code  # type: ignore[no-any-return]


register(Node, _node_digest)
# A task's own function may refer to it: then the task stands for what it is made of.
register(Task, _code_of, _task_parts)
