"""Events: the one stream that progress display, logs and records of a run subscribe to."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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
    """A worker was given `nodes` nodes, of which the first is called `first`.

    It may be busy still, and begin with them later. They are the unit number `unit`, where units have numbers.
    """

    __slots__ = ("first", "nodes", "unit", "worker")

    def __init__(self, time: float, worker: str, nodes: int, first: str, unit: int | None = None) -> None:
        super().__init__(time)
        self.worker = worker
        self.nodes = nodes
        self.first = first
        self.unit = unit


class UnitFinished(RunEvent):
    """A worker ended a unit; per task name, how many calls were made and the seconds they took.

    Attributes:
        began: when the worker began to run it, in seconds since the epoch; None where that is not known.
        ended: when it was done.
        received: bytes that it read from the store.
        sent: bytes that it wrote there.
        spans: of each node, its task's name, its label, when it began, its seconds, and which attempt; only while
            somebody asks (a trace), and not in `run.events`, which would grow by it.
        cached: how many results it found in the cache, how many it put there, and the bytes of those.
        unit: the number that `UnitStarted` gave.
    """

    __slots__ = ("began", "cached", "ended", "received", "sent", "spans", "spent", "unit", "worker")

    def __init__(
        self,
        time: float,
        worker: str,
        spent: Mapping[str, tuple[int, float]],
        began: float | None = None,
        ended: float | None = None,
        received: int = 0,
        sent: int = 0,
        spans: Sequence[tuple[str, str, float, float, int]] = (),
        cached: tuple[int, int, int] = (0, 0, 0),
        unit: int | None = None,
    ) -> None:
        super().__init__(time)
        self.worker = worker
        self.spent = spent
        self.began = began
        self.ended = ended
        self.received = received
        self.sent = sent
        self.spans = spans
        self.cached = cached
        self.unit = unit


class WorkerStarted(RunEvent):
    """A worker is ready for the run's work."""

    __slots__ = ("pid", "worker")

    def __init__(self, time: float, worker: str, pid: int | None = None) -> None:
        super().__init__(time)
        self.worker = worker
        self.pid = pid


class WorkerLost(RunEvent):
    """A worker is gone: with which exit code, by which signal, the most memory it had (bytes), and at which node."""

    __slots__ = ("exitcode", "memory", "running", "signal", "worker")

    def __init__(
        self,
        time: float,
        worker: str,
        exitcode: int | None = None,
        signal: str | None = None,
        memory: int | None = None,
        running: str = "",
    ) -> None:
        super().__init__(time)
        self.worker = worker
        self.exitcode = exitcode
        self.signal = signal
        self.memory = memory
        self.running = running


class NodeRetried(RunEvent):
    """A node's call has failed, or its worker died: attempt number `attempt` is made in `delay` seconds."""

    __slots__ = ("attempt", "delay", "error", "node")

    def __init__(self, time: float, node: str, error: str, attempt: int, delay: float) -> None:
        super().__init__(time)
        self.node = node
        self.error = error
        self.attempt = attempt
        self.delay = delay


class CacheHit(RunEvent):
    """A node's result, of `nbytes` bytes, was in the cache."""

    __slots__ = ("nbytes", "node")

    def __init__(self, time: float, node: str, nbytes: int) -> None:
        super().__init__(time)
        self.node = node
        self.nbytes = nbytes


class CacheStored(RunEvent):
    """`results` results, of `nbytes` bytes together, were put into the cache by a worker."""

    __slots__ = ("nbytes", "results", "worker")

    def __init__(self, time: float, worker: str, results: int, nbytes: int) -> None:
        super().__init__(time)
        self.worker = worker
        self.results = results
        self.nbytes = nbytes


class Spilled(RunEvent):
    """Results of `nbytes` bytes were moved to disk; `store` bytes are left in memory."""

    __slots__ = ("nbytes", "store")

    def __init__(self, time: float, nbytes: int, store: int) -> None:
        super().__init__(time)
        self.nbytes = nbytes
        self.store = store


class MemoryUsed(RunEvent):
    """Bytes of results in shared memory (`store`) and on disk (`spilled`), and how many may be in memory."""

    __slots__ = ("limit", "spilled", "store")

    def __init__(self, time: float, store: int, spilled: int, limit: int) -> None:
        super().__init__(time)
        self.store = store
        self.spilled = spilled
        self.limit = limit


class Printed(RunEvent):
    """A task printed lines on a worker, to `stream` ("stdout" or "stderr").

    A subscriber with an attribute `prints` that is true shows them; where there is none, the engine does.
    """

    __slots__ = ("node", "stream", "text", "worker")

    def __init__(self, time: float, worker: str, node: str, stream: str, text: str) -> None:
        super().__init__(time)
        self.worker = worker
        self.node = node
        self.stream = stream
        self.text = text


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
