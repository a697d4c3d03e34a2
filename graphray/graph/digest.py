"""Digests of nodes: a Merkle DAG over the code of the functions and the values of the arguments.

They are computed only when someone asks, and remembered on the node. What a remembered digest depends on outside the
node (the content of files, the code of its task and of what its arguments lead to: functions, classes, tasks, quoted
nodes) is looked at again at every top-level question: an edited helper is seen, also in a notebook.

The root seed of a run is no part of a digest: which run a node is in does not change what it is. But where a task with
`seed=True` is in a node's ancestry its value depends on that seed, and so must the key of its result in a cache. So a
digest says itself whether that is so, in the lowest bit of its last byte; it travels with the bytes, also where a node
is only a stand-in.
"""

from __future__ import annotations

import hashlib
import os
import weakref

from graphray.graph.containers import ATOMS
from graphray.graph.dataflow import Graph
from graphray.graph.hashing import SIZE, Unhashable, Walk, hash_value, register_handler
from graphray.graph.hashing import digest as hash_bytes
from graphray.graph.node import NESTED, Node, find, topological
from graphray.graph.sources import FILE, GATHER, VALUE
from graphray.graph.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from graphray.graph.hashing import Token

    # What was looked at, and its digest then.
    Look = tuple[Any, bytes]

# All remembered digests are of this epoch; it moves on when a function or file is found changed.
_epoch = 0
_NONE = "no digest"
_PINNED = -1  # of every epoch
# By path: what says that a file was changed, and the digest of its content, or why there is none.
_files: dict[str, tuple[tuple[int, ...], bytes | str]] = {}
_MANY = 1_000  # functions and classes that a question remembers at a time
# Of calls with arguments that are neither nodes nor atoms, the ends of these arguments' digests: to say later which of
# them is another one, without reading an array twice.
_arguments: weakref.WeakKeyDictionary[Node, tuple[bytes, ...]] = weakref.WeakKeyDictionary()
_SHORT = 8  # bytes that tell one argument from another


def digest_of(node: Node) -> bytes:
    """The digest of one node.

    Raises:
        Unhashable: it has none, or one of those it needs has none; the message names which and why.
    """
    digest_all([node])
    return remembered(node)


def digest_of_outputs(outputs: Mapping[Any, Any]) -> bytes:
    """The digest of named outputs."""
    return Question().of_outputs(outputs)


def digest_all(roots: Iterable[Node], again: bool = True) -> None:
    """Make the digests of `roots` and all they need known.

    With `again`, functions and files seen before are looked at again; within a run, they are taken as they were.
    """
    Question(again).ask(roots)


def remembered(node: Node) -> bytes:
    """The digest of a node that `digest_all` has been asked for.

    Raises:
        Unhashable: it has none.
    """
    digest: bytes | Unhashable = node._digest[1]
    if isinstance(digest, Unhashable):
        raise Unhashable(digest.reason) from None
    return digest


def arguments_of(node: Node) -> list[tuple[str, Any, bytes]]:
    """What a node's digest is made of beside code: of each argument its place or keyword, itself, and a short digest.

    For nodes that `digest_all` has been asked for. The short digest is empty where there is none.
    """
    names = [*map(str, range(len(node._args))), *(node._kwargs or ())]
    values = [*node._args, *(node._kwargs or {}).values()]
    opaque = iter(_arguments.get(node, ()))
    found = []
    for name, x in zip(names, values, strict=True):
        if type(x) is Node:
            digest = getattr(x, "_digest", (0, None))[1]
            short = digest[-_SHORT:] if type(digest) is bytes else b""
        elif type(x) in ATOMS:
            short = hash_value(x)[-_SHORT:]
        else:
            short = next(opaque, b"")
        found.append((name, x, short))
    return found


def file_digest(node: Node) -> bytes:
    """The short digest of the content of a `gr.file`, as it was last looked at; empty if it cannot be read."""
    content = _files.get(node._args[0], (0, ""))[1]
    return content[-_SHORT:] if type(content) is bytes else b""


def is_seeded(digest: bytes) -> bool:
    """Whether a node of this digest has a task with `seed=True` in its ancestry, itself included."""
    return digest[-1] & 1 == 1


def cache_key(digest: bytes, root_seed: int) -> bytes:
    """What the result of a node is stored under, 20 bytes: its digest, and the run's root seed where that counts."""
    return seeded_key(digest, root_seed) if digest[-1] & 1 else digest


def seeded_key(digest: bytes, root_seed: int) -> bytes:
    """The key of a result that depends on the root seed, also where the digest could not say so.

    A task may return nodes of tasks with `seed=True`, which nobody knows before it has run.
    """
    return hash_bytes(b"key\0%b%d" % (digest, root_seed))


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
        node._digest = (_PINNED, Unhashable(digest), ())
        return
    if digest is None and hasattr(node, "_digest"):
        node._digest = (_PINNED, node._digest[1], ())
    else:
        nothing = Unhashable(f"no digest for {node.label}: it was not asked for in time")
        node._digest = (_PINNED, nothing if digest is None else digest, ())


def derive_seed(digest: bytes, root: int, index: int | None) -> int:
    """The seed of a node: an integer in [0, 2**63) from the run's root seed, the node's digest and its place."""
    text = b"seed\0" + digest + b"\0" + str(root).encode() + b"\0" + str(index).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


class Question(Walk):
    """A question for digests, for which code and files are looked at once.

    It is a walk over the arguments of one node after another. On the way it notes what may be another thing next time:
    code, tasks, and nodes that are data.
    """

    def __init__(self, again: bool = True, within: Question | None = None) -> None:
        super().__init__()
        self.again = again
        self.looks: dict[int, Look] = {}  # by address, which is kept
        self.met: dict[int, Look] = {}  # in the arguments of the node in work
        if within is not None:
            self.looks = within.looks
            self._explorer = within.explorer

    def ask(self, roots: Iterable[Node]) -> None:
        """Make the digests of `roots` and all they need known."""
        again = self.again
        order = topological(roots)
        self._look_again(order)
        for node in order:
            known = getattr(node, "_digest", None)
            if known is not None:
                epoch, found, looks = known
                if epoch == _epoch and not looks and type(found) is bytes:  # by far the most frequent
                    continue
                if epoch == _PINNED or (epoch == _epoch and (not again or self._holds(found, looks))):
                    continue
            found = self._compute(node)
            node._digest = (_epoch, found, tuple(self.met.values()) if self.met else ())

    def of_outputs(self, outputs: Mapping[Any, Any]) -> bytes:
        """The digest of named outputs."""
        nodes = list(dict.fromkeys([n for x in outputs.values() for n in find(x)]))
        self.ask(nodes)
        return self._hash(("graph", dict(outputs)), nodes)

    # ---- what may change

    def look(self, x: Any) -> bytes:
        """The digest of code, a task, a node or a graph as it is now."""
        known = self.looks.get(id(x))
        if known is None:
            known = self.looks[id(x)] = (x, self._look(x))
        self.met[id(x)] = known
        return known[1]

    def _look(self, x: Any) -> bytes:
        if type(x) is Task:
            if self.again:
                self._refresh(x)
            return self._code_of(x)
        if type(x) is Node:
            Question(self.again, self).ask([x])
            return remembered(x)
        if type(x) is Graph:
            return Question(self.again, self).of_outputs(x._outputs)
        return self._explore(x)

    def code(self, x: Any) -> Token:
        """The token of a function, class or module."""
        return b"#" + self.look(x)

    def _explore(self, x: Any) -> bytes:
        if len(self.explorer.items) > _MANY:
            self.explorer.forget()
        return self.explorer.digest(x)

    def _refresh(self, task: Task) -> None:
        """Look at a task's code again, and move on to another epoch if it was changed."""
        global _epoch
        try:
            parts = _task_parts(task)
            new: Any = hash_value(tuple([self._explore(p) if p is task.fn else p for p in parts]))
        except Unhashable as error:
            new = error.reason if not error.path else f"{error.path}: {error.reason}"
        if task.__dict__.get("_code", new) != new:
            _epoch += 1
        task.__dict__["_code"] = new

    def _look_again(self, order: list[Node]) -> None:
        """Move on to another epoch if a task or file is not as it was."""
        tasks = dict.fromkeys([node._task for node in order])
        for task in tasks:
            if self.again or "_code" not in task.__dict__:
                self._refresh(task)
        if FILE in tasks:
            for path in [node._args[0] for node in order if node._task is FILE]:
                if self.again or path not in _files:
                    _refresh_file(path)

    def _holds(self, found: bytes | Unhashable, looks: tuple[Look, ...]) -> bool:
        """Whether a remembered digest is still right, as far as it depends on what the node's arguments led to."""
        global _epoch
        if isinstance(found, Unhashable):
            return False  # the reason may be gone
        try:
            if all([self.look(x) == was for x, was in looks]):
                return True
        except Unhashable:
            pass
        _epoch += 1
        return False

    # ---- one node

    def _compute(self, node: Node) -> bytes | Unhashable:
        task = node._task
        self.met = {}
        try:
            if task is FILE:
                return _marked(_of_file(node._args[0]), False)
            if task is VALUE:
                if not node._args:
                    raise Unhashable("it stands for a value of another process, and was not told its digest")
                return _marked(self._hash(("value", node._args[0])), False)
            if task is GATHER and type(node._args[0]) is Node:
                return remembered(node._args[0])  # a growing run's handle stands for its node
            return self._of_nested_call(node) if node._form == NESTED or node._kwargs else self._of_call(node)
        except Unhashable as error:
            if error.reason.startswith(_NONE):
                return Unhashable(error.reason)  # that of a node it needs
            place = error.path.replace("[1]", "", 1) if task is VALUE else error.path
            return Unhashable(f"{_NONE} for {node.label}: {place}{': ' if place else ''}{error.reason}")

    def _of_call(self, node: Node) -> bytes:
        """The digest of a call whose arguments are nodes and atoms: most are, so this is short."""
        task = node._task
        seeded = 0
        parts = [b"<call>", self._code_of(task)]
        if task.seed:
            seeded = 1
            parts.append(b"@%d;" % getattr(node, "_index", -1))
        for a in node._args:
            if type(a) is Node:
                digest = a._digest[1]
                if type(digest) is not bytes:
                    digest = remembered(a)  # raises
                seeded |= digest[-1]
                parts.append(b"#")
                parts.append(digest)
            else:
                parts.append(self.token(a))  # type: ignore[arg-type]  # of an atom: bytes
        return _marked(hash_bytes(b"".join(parts)), seeded & 1 == 1)

    def _of_nested_call(self, node: Node) -> bytes:
        """The same of any call; arguments of which both kinds could be made give one digest."""
        task, args = node._task, node._args
        seeded = task.seed or _makes_seeded(task, args)
        self.memo.clear()
        for dep in node._deps:
            digest = remembered(dep)
            seeded = seeded or is_seeded(digest)
            self.memo[id(dep)] = (dep, b"#" + digest)
        parts = [b"<call>", self._code_of(task)]
        if task.seed:
            parts.append(b"@%d;" % getattr(node, "_index", -1))
        try:
            parts += self.tokens(args, lambda i: f"args[{i}]")  # type: ignore[arg-type]
            if node._kwargs:
                parts += (b"|", self._of_keywords(node._kwargs))
        except RecursionError:
            raise Unhashable("arguments with parts nested too deeply cannot be hashed") from None
        opaque = [a for a in (*args, *(node._kwargs or {}).values()) if type(a) not in ATOMS and type(a) is not Node]
        if opaque and task.kind == "call":
            _arguments[node] = tuple([self.token(a)[-_SHORT:] for a in opaque])  # type: ignore[index]  # all known now
        return _marked(hash_bytes(b"".join(parts)), seeded)

    def _of_keywords(self, kwargs: dict[str, Any]) -> bytes:
        try:
            return self.token(kwargs)  # type: ignore[return-value]
        except Unhashable as error:
            raise error.within("kwargs") from error.__cause__

    def _hash(self, x: Any, nodes: Iterable[Node] = ()) -> bytes:
        """The digest of a value in which some nodes stand for themselves; others are data."""
        self.memo.clear()
        for node in nodes:
            self.memo[id(node)] = (node, b"#" + remembered(node))
        return self.digest(x)

    def _code_of(self, task: Task) -> bytes:
        code = task.__dict__.get("_code")
        if code is None:
            self._refresh(task)
            code = task.__dict__["_code"]
        if isinstance(code, str):
            raise Unhashable(code)
        return code  # type: ignore[no-any-return]


def _marked(digest: bytes, seeded: bool) -> bytes:
    """A digest whose last bit says whether the root seed counts."""
    last = digest[-1]
    if last & 1 == seeded:
        return digest
    return digest[: SIZE - 1] + bytes((last ^ 1,))


def _makes_seeded(task: Task, args: tuple[Any, ...]) -> bool:
    """Whether one of graphray's own tasks was given a task with `seed=True`, of which it will make nodes."""
    module: Any = getattr(task, "__module__", None)
    return str(module).startswith("graphray.graph.") and any([type(a) is Task and a.seed for a in args])


def _task_parts(task: Task) -> tuple[Any, ...]:
    """What makes a task what it is: its function, or the version it is given, and the options that change results."""
    if not task.pure:
        raise Unhashable(f"{task.name} is declared impure (pure=False)")
    options = (task.outputs, task.seed, task.options["jit"])
    version = task.options["version"]
    if version is not None:
        module = getattr(task, "__module__", None)
        return ("task version", module, getattr(task, "__qualname__", task.name), version, *options)
    return ("task", task.fn, *options)


def _refresh_file(path: str) -> None:
    """Hash a file's content again if its size, time or inode moved, and move on to another epoch if it was changed."""
    global _epoch
    known = _files.get(path)
    stamp: tuple[int, ...] = ()
    content: bytes | str
    try:
        stat = os.stat(path)
        stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if known is not None and known[0] == stamp:
            return
        with open(path, "rb") as stream:
            content = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=20)).digest()
    except OSError as error:
        content = f"the file cannot be read: {error}"
        stamp = ()
    if known is not None and known[1] != content:
        _epoch += 1
    _files[path] = (stamp, content)


def _of_file(path: str) -> bytes:
    content = _files[path][1]
    if isinstance(content, str):
        raise Unhashable(content)
    return hash_value(("file", content))


def code_of(task: Task) -> bytes | None:
    """The digest of a task's code and options, as `digest_all` last saw it; None where there is none."""
    code = task.__dict__.get("_code")
    return code if type(code) is bytes else None


def parts_of(task: Task) -> dict[str, str]:
    """What the code of a task is made of (`graphray.graph.code.function_parts`), and its options that change results.

    Remembered for as long as the code is what `digest_all` saw. Empty for a task that has no digest.
    """
    from graphray.graph.code import function_parts

    code = code_of(task)
    known: tuple[bytes, dict[str, str]] | None = task.__dict__.get("_parts")
    if code is None:
        return {}
    if known is None or known[0] != code:
        version = task.options["version"]
        try:
            parts = {"option version=": version} if version is not None else function_parts(task.fn)
        except Unhashable:  # edited this moment
            return {}
        for name in ("outputs", "seed", "jit"):
            parts[f"option {name}="] = repr(task.options[name])
        known = task.__dict__["_parts"] = (code, parts)
    return known[1]


# ---- tasks, nodes and graphs as parts of values and of code


def _token(walk: Walk, x: Any) -> Token:
    if not walk.explores:
        return b"#" + (walk if isinstance(walk, Question) else Question()).look(x)
    # Code may refer to what refers to it. So here it is made of its parts, whose digests need not be known yet.
    if type(x) is Task:
        return walk.token(_task_parts(x))
    if type(x) is Graph:
        return walk.token(("graph", x._outputs))
    token: Token = b""
    done = walk.explorer.nodes
    for node in topological([x], done):
        token = walk.token(_node_parts(node))
        walk.memo[id(node)] = (node, token)
        done.add(node)
    return token


def _node_parts(node: Node) -> tuple[Any, ...]:
    known = getattr(node, "_digest", None)
    if known is not None and known[0] == _PINNED:
        return ("pinned", remembered(node))
    if node._task is FILE:
        _refresh_file(node._args[0])
        return ("file", _of_file(node._args[0]))
    return ("node", node._task, node._args, node._kwargs, getattr(node, "_index", None) if node._task.seed else None)


for _kind in (Task, Node, Graph):
    register_handler(_kind, _token)
