"""Events: the one stream that progress display, logs and records of a run subscribe to."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from graphray.graph.node import Node


class RunEvent:
    """Something a run tells its subscribers. `time` is in seconds since the epoch."""

    __slots__ = ("time",)

    def __init__(self, time: float) -> None:
        self.time = time

    def __repr__(self) -> str:
        names = [n for kind in type(self).__mro__[::-1] for n in kind.__dict__.get("__slots__", ())]
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})"


class RunStarted(RunEvent):
    """A run began, with `total` nodes known so far, on `workers` workers."""

    __slots__ = ("total", "workers")

    def __init__(self, time: float, total: int, workers: int) -> None:
        super().__init__(time)
        self.total = total
        self.workers = workers


class UnitStarted(RunEvent):
    """A worker was given `nodes` nodes, of which the first is called `first`."""

    __slots__ = ("first", "nodes", "worker")

    def __init__(self, time: float, worker: str, nodes: int, first: str) -> None:
        super().__init__(time)
        self.worker = worker
        self.nodes = nodes
        self.first = first


class UnitFinished(RunEvent):
    """A worker ended a unit; per task name, how many calls were made and the seconds they took."""

    __slots__ = ("spent", "worker")

    def __init__(self, time: float, worker: str, spent: Mapping[str, tuple[int, float]]) -> None:
        super().__init__(time)
        self.worker = worker
        self.spent = spent


class Progressed(RunEvent):
    """`done` of `total` nodes known so far are done; the total grows where tasks return nodes."""

    __slots__ = ("done", "total")

    def __init__(self, time: float, done: int, total: int) -> None:
        super().__init__(time)
        self.done = done
        self.total = total


class Emitted(RunEvent):
    """A task sent `data` with `gr.context().emit(…)`."""

    __slots__ = ("data", "node", "worker")

    def __init__(self, time: float, worker: str, node: str, data: Mapping[str, Any]) -> None:
        super().__init__(time)
        self.worker = worker
        self.node = node
        self.data = data


class NodeFailed(RunEvent):
    """A task raised; `skipped` nodes that need its value will not be run."""

    __slots__ = ("error", "node", "skipped")

    def __init__(self, time: float, node: Node, error: BaseException, skipped: int) -> None:
        super().__init__(time)
        self.node = node
        self.error = error
        self.skipped = skipped


class RunFinished(RunEvent):
    """A run ended, with an error or (None) with its result."""

    __slots__ = ("error",)

    def __init__(self, time: float, error: BaseException | None) -> None:
        super().__init__(time)
        self.error = error
