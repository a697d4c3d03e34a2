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

    from graphray.executors.machine import Machine

MAGIC = b"graphray capsule 1\n"
SUFFIX = ".capsule"
MOST = 20  # capsules of one run and process: under `on_error="collect"` a thousand calls may fail alike


class Capsules:
    """Writes the capsules of a run.

    Args:
        directory: where they go; made when the first is written.
        seed: the run's root seed.
    """

    def __init__(self, directory: str, seed: int = 0) -> None:
        self.directory = directory
        self.seed = seed
        self._written = 0

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
        try:
            path = self._write(node, values, error, worker, attempt, seed)
        except Exception as problem:
            with contextlib.suppress(Warning):  # where warnings are errors: the task's own error is the one to raise
                warnings.warn(f"no capsule of {node.label} could be written: {problem!r}", stacklevel=2)
            return None
        self._written += 1
        error.add_note(f"graphray: to run it again: graphray replay {path}")
        return path

    def _write(
        self, node: Node, values: Mapping[Node, Any], error: BaseException, worker: str, attempt: int, seed: int | None
    ) -> str:
        import json
        import time
        import traceback

        from graphray import __version__
        from graphray.executors.wire import dumps_whole

        def leaf(x: Any) -> Any:
            return values[x] if type(x) is Node else x

        args, kwargs = rewrite((node._args, node._kwargs or {}), leaf)
        body = dumps_whole((node._task, args, kwargs, seed))
        head = {
            "node": node.label,
            "task": node._task.name,
            "module": getattr(node._task, "__module__", None),
            "error": "".join(traceback.format_exception_only(error)).strip(),
            "notes": list(getattr(error, "__notes__", ())),
            "worker": worker,
            "attempt": attempt,
            "root_seed": self.seed,
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "graphray": __version__,
            "python": sys.version.split()[0],
            "path": [p for p in sys.path if os.path.isdir(p or ".")],
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
                file.write(body)
            os.rename(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        return path


class Capsule:
    """A capsule that was written.

    Args:
        path: the file. What it says of itself is read at once, and runs no code; `load` and `run` do.

    Attributes:
        head: what it is: `node`, `task`, `error`, `notes`, `worker`, `attempt`, `time`, `python`, `graphray`.

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
                self.head: dict[str, Any] = json.loads(file.readline())
            except ValueError:
                raise ValueError(f"{self.path} is a damaged capsule: what it says of itself cannot be read") from None
            self._body = file.tell()

    def load(self) -> tuple[Any, tuple[Any, ...], dict[str, Any], int | None]:
        """The task, its arguments, its keyword arguments and its seed. Runs code from the file.

        Raises:
            Exception: it cannot be unpickled here: a module is missing, say.
        """
        for place in self.head.get("path", ()):
            if place not in sys.path:
                sys.path.append(place)
        with open(self.path, "rb") as file:
            file.seek(self._body)
            task, args, kwargs, seed = pickle.load(file)
        return task, args, kwargs, seed

    def run(self) -> Any:
        """Make the call again, here. Runs code from the file.

        Returns:
            What the task returns.

        Raises:
            Exception: what the task raises.
        """
        from graphray.executors import context
        from graphray.executors.machine import Machine
        from graphray.graph.node import make

        task, args, kwargs, seed = self.load()
        machine = Machine("replay", self.head.get("root_seed", 0))
        machine.node = make(task, args, kwargs)
        token = context.enter(machine)
        try:
            seeded = {} if seed is None else {"seed": seed}
            return task.callable(*freeze(args), **freeze(kwargs), **seeded)
        finally:
            context.leave(machine, token)


def of_machine(machine: Machine, node: Node, error: BaseException) -> None:
    """Write the capsule of a node that has failed in a machine, where its run wants some."""
    if machine.capsules is None:
        return
    seed = None
    if node._task.seed:
        with contextlib.suppress(TypeError):  # it has none
            seed = machine.seed_of(node)
    machine.capsules.write(node, machine.values, error, machine.worker, machine.attempt_of(node), seed)
