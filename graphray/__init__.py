"""graphray: compose immutable graphs of pure functions, and choose at the end where they run.

For example:

    import graphray as gr

    @gr.task
    def square(x):
        return x * x

    gr.reduce(max, gr.map(square, range(10))).compute()  # 81
"""

from __future__ import annotations

from graphray.errors import (
    Cancelled,
    Failure,
    GraphrayError,
    HostError,
    ImpureTask,
    RemoteError,
    ResourceError,
    TaskTimeout,
    WorkerDied,
)
from graphray.graph.dataflow import Graph, compute
from graphray.graph.fan import combine, map, reduce
from graphray.graph.gang import Gang, gang
from graphray.graph.iterate import iterate
from graphray.graph.node import Node
from graphray.graph.operators import eq, getattr
from graphray.graph.sources import file, glob, input, quote, value
from graphray.graph.task import Task, call, task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray import executors, interop, rl, testing
    from graphray.executors.context import Context, context, local
    from graphray.executors.start import use

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "Context",
    "Failure",
    "Gang",
    "Graph",
    "GraphrayError",
    "HostError",
    "ImpureTask",
    "Node",
    "RemoteError",
    "ResourceError",
    "Task",
    "TaskTimeout",
    "WorkerDied",
    "call",
    "combine",
    "compute",
    "context",
    "eq",
    "executors",
    "file",
    "gang",
    "getattr",
    "glob",
    "input",
    "interop",
    "iterate",
    "local",
    "map",
    "quote",
    "reduce",
    "rl",
    "task",
    "testing",
    "use",
    "value",
]

# Imported when first used, so that `import graphray` stays light.
_LAZY = {
    "Context": "graphray.executors.context",
    "context": "graphray.executors.context",
    "local": "graphray.executors.context",
    "use": "graphray.executors.start",
}
_MODULES = ("executors", "interop", "rl", "testing")


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        return importlib.import_module(_LAZY[name]).__dict__[name]
    if name in _MODULES:
        return importlib.import_module(f"graphray.{name}")
    raise AttributeError(f"module 'graphray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
