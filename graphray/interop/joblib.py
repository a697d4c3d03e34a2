"""A backend for joblib, and with it scikit-learn: `joblib.parallel_config("graphray", executor=…)`.

Importing this module registers it. Each call of `Parallel` is a growing run of its own on the executor.
"""

from __future__ import annotations

import contextlib
import copy
import queue
import threading
import weakref
from concurrent.futures import Future

from graphray.executors.start import choose
from graphray.graph.containers import weight
from graphray.graph.sources import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from graphray.executors.base import Executor
    from graphray.executors.futures import Futures
    from graphray.graph.node import Node

try:
    from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, SequentialBackend, register_parallel_backend
except ModuleNotFoundError as missing:
    if missing.name != "joblib":
        raise
    raise ModuleNotFoundError(
        "graphray.interop.joblib needs joblib: pip install 'graphray[joblib]'", name="joblib"
    ) from None

__all__ = ["GraphrayBackend"]


class GraphrayBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Runs joblib's batches on a graphray executor.

    Args:
        executor: an executor, which stays open; or a name such as "loky:4", which makes one for each call of
            `Parallel`; by default what `gr.use` or GRAPHRAY_EXECUTOR says, else in-process.
        workers: number of workers, for an executor given by name.
        nesting_level: joblib's; how many backends this one is inside of.

    Raises:
        TypeError, ValueError: there is no such executor.
    """

    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(
        self, executor: Any = None, workers: int | None = None, nesting_level: int | None = None, **options: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, **options)
        self._choice = executor, workers
        self._engine: Executor | None = None
        self._owned = False
        self._futures: Futures | None = None
        self._shared: Shared | None = None
        self._n_jobs = 1
        self._parallels: weakref.WeakSet[Any] = weakref.WeakSet()
        self._users = 0  # how many `Parallel`s are between `configure` and `terminate`
        self._lock = threading.RLock()  # joblib submits from its own thread, and from the one that tells it of results
        engine, owned = choose(executor, workers)  # refuses here what is no executor
        self.uses_threads = self.supports_sharedmem = engine.shares_memory
        self._workers = engine.workers
        if owned:
            engine.close(wait=False)

    def __reduce__(self) -> Any:
        return GraphrayBackend, (None, None, self.nesting_level)  # elsewhere it is the executor of there

    # ---- what joblib asks

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """How many batches run at a time: `n_jobs`, as far as there are workers; -1 is all of these, -2 all but one."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs < 0:
            return max(self._workers + 1 + n_jobs, 1)
        return min(n_jobs, self._workers)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        max_nbytes: int | None = 1_000_000,
        mmap_mode: str | None = "r",
        **options: Any,
    ) -> int:
        """Get ready for a `Parallel`; the number of batches that will run at a time.

        Args:
            n_jobs: as in `effective_n_jobs`. With 1, joblib makes the calls itself, where it is.
            parallel: the `Parallel`.
            max_nbytes: arrays and data frames from this size on, among the arguments of calls, are put into shared
                memory once, for engines of processes; None: none are.
            mmap_mode: arrays are read-only there; what is to be written to ("r+", "w+", "c") travels as a copy.
            options: what concerns joblib's own backends.
        """
        with self._lock:
            self.parallel = parallel
            self._parallels.add(parallel)
            self._users += 1
            self._n_jobs = self.effective_n_jobs(n_jobs)
            if not self.supports_sharedmem and max_nbytes is not None and mmap_mode == "r" and self._shared is None:
                self._shared = Shared(max_nbytes)
            return self._n_jobs

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> Future[list[Any]]:
        """Have a batch run."""
        with self._lock:
            if not self._users:  # another thread, for a call that has been given up meanwhile
                late: Future[list[Any]] = Future()
                late.cancel()
                return late
            futures = self._open()
            calls, nodes = self._shared.take(func) if self._shared is not None else (func, [])
        future = futures.submit(Batch(calls), *nodes)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[list[Any]]) -> list[Any]:
        """The results of a batch that is done, or what it raised."""
        return out.result()

    def terminate(self) -> None:
        """A `Parallel` is over. With the last, its run ends, and an executor that was made for it."""
        with self._lock:
            self._users = max(self._users - 1, 0)
            if self._users:
                return
            futures, engine = self._futures, self._engine if self._owned else None
            self._futures = self._engine = self._shared = None
        if futures is not None:
            futures.shutdown(wait=True)
        if engine is not None:
            engine.close()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A batch failed or took too long, or nobody wants the rest: end what is there, without waiting for it."""
        with self._lock:
            futures, engine = self._futures, self._engine if self._owned else None
            self._futures = self._engine = None  # the next batch makes new ones
        if futures is not None:
            futures.abort()
        if engine is not None:
            engine.close(wait=False)
        for parallel in list(self._parallels):
            _forget_batches(parallel)

    def get_nested_backend(self) -> tuple[Any, int | None]:
        """What a `Parallel` inside a batch uses: the worker it is in, so that there are no pools in pools."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def _open(self) -> Futures:
        if self._engine is None:
            self._engine, self._owned = choose(*self._choice)
        if self._futures is None:
            # A limit costs a trip between two batches; the workers there are, are one anyway.
            self._futures = self._engine.futures(self._n_jobs if self._n_jobs < self._engine.workers else None)
        return self._futures


def _forget_batches(parallel: Any) -> None:
    """Drop what a call that is being given up has made ready.

    joblib 1.6 keeps it. Where one `Parallel` makes several calls (`with Parallel() as parallel`), the results of these
    batches would be among those of the next call; so it is with joblib's own backends.
    """
    ready = getattr(parallel, "_ready_batches", None)
    if ready is not None and getattr(parallel, "_aborting", False):
        with contextlib.suppress(queue.Empty):
            while True:
                ready.get_nowait()


class Batch:
    """Some calls of joblib's; made with the shared values among their arguments, which come apart."""

    def __init__(self, calls: Any) -> None:
        self.calls = calls
        self.__name__ = getattr(calls.items[0][0], "__name__", "joblib")  # what people see of it

    def __call__(self, *values: Any) -> list[Any]:
        if values:
            self.calls.items = [
                (fn, [_filled(a, values) for a in args], {k: _filled(a, values) for k, a in kwargs.items()})
                for fn, args, kwargs in self.calls.items
            ]
        results: list[Any] = self.calls()
        return results


class Place:
    """Of a shared value among the arguments: its number."""

    def __init__(self, number: int) -> None:
        self.number = number


def _filled(x: Any, values: tuple[Any, ...]) -> Any:
    return values[x.number] if type(x) is Place else x


class Shared:
    """The large arguments of the calls of a `Parallel`: each object is sent to a worker once."""

    def __init__(self, least: int) -> None:
        self._least = max(least, 1)
        self._nodes: dict[int, tuple[Any, Node]] = {}  # by id; the object is held, so that no other gets that

    def take(self, calls: Any) -> tuple[Any, list[Node]]:
        """A batch with places instead of its large arguments, and the nodes of these."""
        nodes: dict[Node, int] = {}

        def place(x: Any) -> Any:
            if weight(x) < self._least:
                return x
            _, node = self._nodes.setdefault(id(x), (x, value(x)))
            return Place(nodes.setdefault(node, len(nodes)))

        items = [(fn, [*map(place, args)], {k: place(a) for k, a in kw.items()}) for fn, args, kw in calls.items]
        if not nodes:
            return calls, []
        calls = copy.copy(calls)  # joblib's stays what it is
        calls.items = items
        return calls, list(nodes)


register_parallel_backend("graphray", GraphrayBackend)
