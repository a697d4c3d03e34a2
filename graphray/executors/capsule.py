"""Failure capsules: a failing call and its inputs in one file, to be run again under a debugger.

    graphray capsule 1⏎     what it is
    {…}⏎                    JSON: the node, the error, where and with which versions. Reading it runs no code.
    …                       a pickle: the task, its arguments, its seed. Reading it does.

The file is written by the process in which the call failed, or by the driver where that process did not live to do so.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import secrets
import sys
import warnings

from graphray.graph.containers import freeze, rewrite
from graphray.graph.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from graphray.graph.task import Task

MAGIC = b"graphray capsule 1\n"
SUFFIX = ".capsule"
MOST = 20  # capsules of one run and process: under `on_error="collect"` a thousand calls may fail alike
LONG = 64 << 10  # characters of an error's text, or of a note, at most
HEAD = 4 << 20  # bytes of what a capsule says of itself, at most


class Capsules:
    """Writes the capsules of a run.

    Args:
        directory: where they go; made when the first is written.
        seed: the run's root seed.
    """

    def __init__(self, directory: str, seed: int = 0) -> None:
        self.directory = directory
        self.seed = seed
        self.run = secrets.token_hex(8)
        self._written = 0

    def __reduce__(self) -> Any:
        return _of_run, (self.directory, self.seed, self.run)

    def write(
        self,
        node: Node,
        values: Mapping[Node, Any],
        error: BaseException,
        worker: str,
        attempt: int = 1,
        seed: int | None = None,
    ) -> str | None:
        """Write one; its path. What cannot be written is a warning: the failure itself is what counts.

        Args:
            node: the failing node.
            values: those of the nodes it needs.
            error: what it raised; a note on it says where the capsule is.
            worker: where it ran.
            attempt: which attempt it was.
            seed: what its task got as `seed`, if it takes one.
        """
        if self._written >= MOST:
            return None
        self._written += 1  # a call whose inputs cannot be pickled counts as well: the next ones are like it
        try:
            path = self._write(node, values, error, worker, attempt, seed)
        except Exception as problem:
            with contextlib.suppress(Warning):  # where warnings are errors: the task's own error is the one to raise
                warnings.warn(f"no capsule of {node.label} could be written: {problem!r}", stacklevel=2)
            return None
        error.add_note(f"graphray: to run it again: graphray replay {path}")
        return path

    def _write(
        self, node: Node, values: Mapping[Node, Any], error: BaseException, worker: str, attempt: int, seed: int | None
    ) -> str:
        import json
        import time
        import traceback

        from graphray import __version__
        from graphray.executors.wire import Pickler

        def leaf(x: Any) -> Any:
            return values[x] if type(x) is Node else x

        if seed is None and node._task.seed:
            seed = _seed_of(node, self.seed)
        args, kwargs = rewrite((node._args, node._kwargs or {}), leaf)
        told = traceback.TracebackException.from_exception(error, limit=0)
        told.__notes__ = []  # they are told by themselves
        head = {
            "node": node.label,
            "task": node._task.name,
            "module": getattr(node._task, "__module__", None),
            "error": "".join(told.format_exception_only()).strip()[:LONG],
            "notes": [str(note)[:LONG] for note in getattr(error, "__notes__", ())],
            "worker": worker,
            "attempt": attempt,
            "root_seed": self.seed,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "graphray": __version__,
            "python": sys.version.split()[0],
            "path": [os.path.abspath(p) for p in sys.path if os.path.exists(p or ".")],
            "directory": os.getcwd(),
        }
        os.makedirs(self.directory, 0o700, exist_ok=True)
        name = re.sub(r"\W+", "-", node._task.name).strip("-") or "task"
        path = os.path.join(self.directory, f"{name}-{secrets.token_hex(4)}{SUFFIX}")
        part = f"{path}.part"
        try:
            with open(part, "xb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
                file.write(MAGIC)
                file.write(json.dumps(head, default=str).encode() + b"\n")
                Pickler(file, protocol=5).dump((node._task, args, kwargs, seed))  # inputs may be large: no copy
            os.rename(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        return path


_last: Capsules | None = None  # of the run that this process worked for last


def _of_run(directory: str, seed: int, run: str) -> Capsules:
    """The capsules of a run in a worker: the same for all of its units, so that they are counted."""
    global _last
    if _last is None or _last.run != run:
        made = Capsules(directory, seed)
        made.run = run
        _last = made
    return _last


class Capsule:
    """A capsule that was written.

    Args:
        path: the file. What it says of itself is read at once, and runs no code; `load` and `run` do.

    Attributes:
        head: what it is: `node`, `task`, `error`, `notes`, `worker`, `attempt`, `time`, `python`, `graphray`. Whoever
            wrote the file wrote this, too.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no capsule.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import json

        self.path = os.fspath(path)
        with open(self.path, "rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError(f"{self.path} is no capsule of this version of graphray")
            try:
                head = json.loads(file.readline(HEAD))
            except (ValueError, RecursionError):
                head = None
            if type(head) is not dict:
                raise ValueError(f"{self.path} is a damaged capsule: what it says of itself cannot be read")
            self.head: dict[str, Any] = head
            self._body = file.tell()

    def load(self) -> tuple[Any, tuple[Any, ...], dict[str, Any], int | None]:
        """The task, its arguments, its keyword arguments and its seed. Runs code from the file.

        Raises:
            Exception: it cannot be unpickled here: a module is missing, say.
        """
        places = self.head.get("path")
        for place in places if type(places) is list else ():
            if type(place) is str and place not in sys.path:
                sys.path.append(place)
        with open(self.path, "rb") as file:
            file.seek(self._body)
            task, args, kwargs, seed = pickle.load(file)
        return task, args, kwargs, seed

    def run(self) -> Any:
        """Make the call again, here. Runs code from the file.

        Its timeout does not count. What the task returns as a node is computed, too: it may be that which failed.

        Returns:
            What the task returns.

        Raises:
            Exception: what the task raises.
        """
        return self.call(*self.load())

    def call(self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int | None) -> Any:
        """Make the call that `load` gave; see `run`."""
        from graphray.executors import context
        from graphray.executors.machine import Machine
        from graphray.graph.dataflow import Graph
        from graphray.graph.node import make
        from graphray.graph.task import call

        root = self.head.get("root_seed")
        root = root if type(root) is int else 0
        machine = Machine("replay", root)
        machine.node = make(task, args, kwargs)
        token = context.enter(machine)
        try:
            if task.kind == "macro":  # its own arguments are what it would look up
                value = task.fn(machine.node, _itself)
            else:
                seeded = {} if seed is None else {"seed": seed}
                value = task.callable(*freeze(args), **freeze(kwargs), **seeded)
        finally:
            context.leave(machine, token)
        return Graph(call(lambda: value)).compute("inprocess", seed=root) if _holds_nodes(value) else value


def _seed_of(node: Node, root: int) -> int | None:
    """The seed that a node's task got in a worker that did not live to say so; None where it has no digest."""
    from graphray.graph.digest import derive_seed, digest_all, remembered

    with contextlib.suppress(TypeError):
        digest_all([node], again=False)
        return derive_seed(remembered(node), root, getattr(node, "_index", None))
    return None


def _holds_nodes(value: Any) -> bool:
    from graphray.graph.dataflow import Graph

    found = False

    def note(x: Any) -> Any:
        nonlocal found
        found = found or type(x) is Node or type(x) is Graph
        return x

    rewrite(value, note)
    return found


def _itself(x: Any) -> Any:
    return x
