"""Handles of runs: what `graph.run()` and `executor.open()` give."""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import threading
import time
import weakref

from graphray.errors import Cancelled, Failure
from graphray.executors import events
from graphray.executors.core import Job, cancelled
from graphray.executors.log import to_logging
from graphray.executors.summary import Figures
from graphray.graph.containers import rewrite
from graphray.graph.node import Node, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any

    from graphray.executors.base import Executor

    Subscriber = Callable[[events.RunEvent], None]


KEPT = 50_000  # events of a run that are kept at least; the oldest go, since it may last for ever
KEPT_PRINTS = 8 << 20  # characters of what tasks have printed that are kept at least
_RELEASED = object()  # in place of a value that was let go


class BaseRun:
    """What the two kinds of run share: a job, its events, and an end."""

    def __init__(self, executor: Executor, job: Job, subscribers: Sequence[Subscriber], owned: bool = False) -> None:
        self.executor = executor
        self.job = job
        self.events: list[events.RunEvent] = []
        self._subscribers = [*subscribers, to_logging]
        self._owned = owned  # made for this run: closed with it
        self._closer: threading.Thread | None = None
        self._writer: threading.Thread | None = None  # of the history of its cache
        self.lock = threading.RLock()  # of its books, where several threads may keep them
        self.shows_prints = any([getattr(s, "prints", False) for s in subscribers])  # what tasks print elsewhere
        self._abandoned = False
        self._over = threading.Event()
        self.reported: weakref.WeakSet[Node] = weakref.WeakSet()  # failed nodes that were told of
        self._failed: dict[Node, str] = {}  # with a cache: those of them that its history is still to be told of
        self._figures = Figures()
        self._printed = 0  # characters of that are in the events
        self._stored = 0, 0  # results that were put into the cache, and their bytes, as far as told
        self._summary: Callable[[], dict[str, Any]] | None = None  # a copy of it, once nothing changes any more
        self._began = time.perf_counter()
        self._seconds: float | None = None

    def cancel(self) -> None:
        """End the run: no further task begins, and `result()` raises `gr.Cancelled`. May be called from any thread."""
        self.executor._cancel(self)

    def done(self) -> bool:
        """Whether the run has ended, with or without a result."""
        return self._over.is_set()

    def summary(self) -> dict[str, Any]:
        """Figures of the run so far; `graphray.executors.summary.render` makes a table for people of them.

        Returns:
            `nodes` (done), `total`, `seconds`, `workers`.
            `tasks`: per task name its `calls`, `seconds` and `mean`, and `max`, the longest call, where that is known.
            `parallelism`: the seconds spent in tasks per second of the run.
            `critical_path`: the `seconds` that the run would take on any number of workers, how many `nodes` are in it,
            and its `tasks`: names in order, and how often each comes in a row; `complete` is false where tasks have
            returned nodes, which are not counted. None for a growing run.
            `bytes`: `received` and `sent` by workers through the store of results.
            `cache`: `hits`, how many results were `stored`, and their `bytes`.
            `retries`, `failures`, `workers_lost`: how many.
            `spilled`: bytes of results that were moved to disk; `memory_peak`: the most that was seen in memory.
        """
        if self._summary is not None:
            return self._summary()
        seconds = self._seconds if self._seconds is not None else time.perf_counter() - self._began
        summary = self._figures.summary(self.job, seconds, self.executor.workers)
        if self.done():
            self._summary = functools.partial(copy.deepcopy, summary)
            return self._summary()
        return summary

    def publish(self, event: events.RunEvent) -> None:
        """Give an event to every subscriber. One that fails is dropped, with a warning: it may not harm the run."""
        self._keep(event)
        self._deliver(event)

    def _deliver(self, event: events.RunEvent) -> None:
        self._figures.note(event)
        for subscriber in list(self._subscribers):
            try:
                subscriber(event)
            except KeyboardInterrupt:  # the user's, and not about the subscriber
                raise
            except BaseException as error:
                self._drop(subscriber, error)

    def _keep(self, event: events.RunEvent) -> None:
        self.events.append(event)
        if len(self.events) >= 2 * KEPT:
            del self.events[:KEPT]
        if type(event) is events.Printed:
            self._printed += len(event.text)
            if self._printed >= 2 * KEPT_PRINTS:
                self._forget_prints()

    def _forget_prints(self) -> None:
        """Let go of the oldest texts: they may be many, where other events are small."""
        kept, self._printed = [], 0
        for event in reversed(self.events):
            if type(event) is events.Printed:
                if self._printed >= KEPT_PRINTS:
                    continue
                self._printed += len(event.text)
            kept.append(event)
        self.events[:] = reversed(kept)

    def _drop(self, subscriber: Subscriber, error: BaseException) -> None:
        import warnings

        with contextlib.suppress(ValueError):  # another thread was first
            self._subscribers.remove(subscriber)
        with contextlib.suppress(Warning):  # where warnings are errors: this is the engine's thread, not the user's
            warnings.warn(f"a subscriber of the run's events failed and gets no more: {error!r}", stacklevel=3)

    def publish_started(self) -> None:
        """Say that the run begins."""
        self.publish(events.RunStarted(time.time(), len(self.job.nodes or ()), self.executor.workers))

    def publish_progress(self) -> None:
        """Say how far the run is."""
        self.publish(events.Progressed(time.time(), self.job.done, self.job.total))

    def note_spent(self, worker: str, spent: Mapping[Any, Sequence[float]], **report: Any) -> None:
        """A unit is over.

        Args:
            worker: whose it was.
            spent: per task, how many calls were made and the seconds they took.
            report: what else there is to say of it, see `UnitFinished`.
        """
        by_name: dict[str, tuple[int, float]] = report.pop("others", {})
        cache = self.job.cache
        if cache is not None:
            cache.note_spent(spent)
        for task, (calls, seconds) in spent.items():
            before = by_name.get(task.name, (0, 0.0))
            by_name[task.name] = (before[0] + int(calls), before[1] + seconds)
        event = events.UnitFinished(time.time(), worker, by_name, **report)
        if event.spans:  # those who asked get them; kept, they would fill the memory
            self._keep(events.UnitFinished(event.time, worker, by_name, **{**report, "spans": ()}))
            self._deliver(event)
        else:
            self.publish(event)
        if cache is not None:
            figures = self._figures
            stored, size = cache.stored + figures.stored, cache.bytes + figures.stored_bytes
            if stored > self._stored[0]:
                told = self._stored
                self._stored = stored, size
                self.publish(events.CacheStored(event.time, worker, stored - told[0], size - told[1]))

    def end(self, error: BaseException | None) -> None:
        """The job is over."""
        self._seconds = time.perf_counter() - self._began
        if error is not None:
            self.job.error = error
        try:
            self.remember(self.job.ordered, whole=error is None and not self.job.failures)
            self.publish_progress()
            self.publish(events.RunFinished(time.time(), error))
        finally:
            self._begin_closing()
            self._over.set()

    def note_failed(self, node: Node, error: BaseException) -> None:
        """A node has failed."""
        if self.job.cache is not None and len(self._failed) < KEPT:
            text = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
            self._failed[node] = text.removesuffix(": ")

    def remember(self, nodes: Sequence[Node], whole: bool) -> None:
        """Note in the history of the run's cache what ran; see `NodeCache.end`.

        In a thread: this one may be the engine's, and other runs would wait while another process has the history.
        """
        if self.job.cache is None:
            return
        failed, self._failed = self._failed, {}
        write = self.job.cache.end(nodes, whole, failed)
        if self.executor._thread is None:  # the caller's own
            write()
            return
        writer = threading.Thread(target=_write_after, args=(self._writer, write), name="graphray-history")
        try:
            writer.start()
        except RuntimeError:  # the interpreter is about to end
            write()
        else:
            self._writer = writer

    def _begin_closing(self) -> None:
        """End an engine of our own, also if nobody asks for the result.

        In a thread: this one is the engine's, which cannot wait for its own end.
        """
        if self._owned and self.executor._thread is not None:
            closer = threading.Thread(target=self._close_engine, name="graphray-closing", daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter is about to end, and the workers with it
                closer.start()
                self._closer = closer

    def _close_engine(self) -> None:
        self.executor.close(wait=not self._abandoned)

    def _close(self) -> None:
        """After the run's end: wait until all is written, and an engine of our own is gone.

        Or let go of what was interrupted.
        """
        if self._owned:
            self._close_engine()
            if self._closer is not None:
                self._closer.join()
        elif self._abandoned:
            self.executor._abandon(self)
        if self._writer is not None:
            self._writer.join()


def _write_after(before: threading.Thread | None, write: Callable[[], None]) -> None:
    """Write to the history, once what was begun before is written. No run fails for it."""
    if before is not None:
        before.join()
    try:
        write()
    except BaseException as error:
        import warnings

        with contextlib.suppress(Warning):
            warnings.warn(f"what ran could not be noted in the cache's history: {error!r}", stacklevel=1)


class Run(BaseRun):
    """A run of one graph; made by `graph.run()`.

    Attributes:
        events: the run's events so far, in order; of a long run, the last 50,000 at least, and of what its tasks print
            the last 8 MB.
    """

    def __init__(
        self,
        executor: Executor,
        job: Job,
        outputs: Mapping[Any, Any],
        subscribers: Sequence[Subscriber] = (),
        owned: bool = False,
    ) -> None:
        super().__init__(executor, job, subscribers, owned)
        self._outputs = outputs

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end: a dict of the outputs by name, or the bare value of an unnamed output.

        Args:
            timeout: longest time to wait, in seconds (in-process the calling thread does the work, and does not stop).

        Raises:
            TimeoutError: it takes longer; the run goes on.
            Cancelled: it was cancelled.
            Exception: what a task raised, with notes on where.
        """
        try:
            self.executor._wait_for(self, timeout)
        except BaseException as error:  # Ctrl-C among others: nothing may be left running
            if not isinstance(error, TimeoutError):
                self._abandoned = True
                self.cancel()
                self._close()
            raise
        self._close()
        if self.job.error is not None:
            raise self.job.error
        values: Mapping[Node, Any] = self.job.values
        if self.executor.has_store:
            try:
                values = self.executor.load_all(values)
            except Exception:
                values = {n: self._load(n, v) for n, v in values.items()}
        outputs = {name: _assemble(x, values) for name, x in self._outputs.items()}
        return outputs.get(None, outputs)

    def _load(self, node: Node, value: Any) -> Any:
        """One value, where some cannot be had."""
        try:
            return self.executor.load(value)
        except Exception as error:
            if self.job.collect:
                return Failure(error, node)
            error.add_note(f"graphray: the result of {node.label} could not be read in the driver")
            raise


def _assemble(x: Any, values: Mapping[Node, Any]) -> Any:
    if type(x) in (list, tuple) and set(map(type, x)) == {Node}:  # by far the most frequent large structure
        return type(x)(map(values.__getitem__, x))
    return rewrite(x, lambda y: values[y] if type(y) is Node else y)


class DoneNode:
    """A node of a growing run that is done."""

    __slots__ = ("_load", "_value", "node")

    def __init__(self, node: Node, value: Any, load: Callable[[Any], Any]) -> None:
        self.node = node
        self._value = value
        self._load = load

    @property
    def failed(self) -> bool:
        """Whether its task failed, or one that it needs."""
        return type(self._value) is Failure

    def result(self) -> Any:
        """The node's value.

        Raises:
            Exception: what its task raised, or that of a node it needs.
            RuntimeError: the value was released.
        """
        if self._value is _RELEASED:
            raise RuntimeError(f"the value of {self.node.label} was let go: run.release() came before as_completed()")
        if type(self._value) is Failure:
            raise self._value.error
        return self._load(self._value)

    def __repr__(self) -> str:
        return f"<Done {self.node.label}{' failed' if self.failed else ''}>"


class GrowingRun(BaseRun):
    """A run to which nodes are added while it goes on; made by `executor.open()`.

    Attributes:
        events: the run's latest events, in order: the last 50,000 at least, and of what its tasks print the last 8 MB.
    """

    def __init__(self, executor: Executor, job: Job, subscribers: Sequence[Subscriber] = ()) -> None:
        super().__init__(executor, job, subscribers)
        self._open = 0
        # Which handle stands for a node that was added, and for which node a handle stands.
        self._handles = job.held.handles
        self._added: weakref.WeakKeyDictionary[Node, weakref.ref[Node]] = weakref.WeakKeyDictionary()
        self._done: collections.deque[Node] = collections.deque()
        self._changed = threading.Condition()
        self._cancelled = False
        self._left = False  # its block was left in the ordinary way

    def add(self, node: Any) -> Node:
        """Add a node, or a structure of nodes, to what is to be computed.

        Returns:
            A node that stands for it, for building further nodes on its value, and which `as_completed` gives back.
            The value is kept for as long as this handle, or a node built on it that is not done, exists.

        Raises:
            RuntimeError: the run has ended.
            TypeError: there is no node in it.
        """
        if self._over.is_set():
            raise RuntimeError("this run has ended; nodes can be added inside its with block only")
        deps = {node: None} if type(node) is Node else find(node)
        if not deps:
            raise TypeError(f"run.add takes a node or a structure of nodes, not {type(node).__name__}")
        from graphray.graph.sources import gather

        known = self._handles.get(node) if type(node) is Node else None
        first = known() if known is not None else None
        if first is not None:  # the same node is computed once, however long ago that was
            handle = gather(first, (first,))
        else:
            handle = gather(node, tuple(deps))
            if type(node) is Node:
                self._handles[node] = weakref.ref(handle)
                self._added[handle] = weakref.ref(node)
        with self._changed:
            self._open += 1
        self.executor._grow(self, [handle])
        return handle

    def as_completed(self) -> Iterator[DoneNode]:
        """Give each added node when it is done, in order of completion; ends when all that was added is done.

        Nodes may be added inside the loop.
        """
        while True:
            with self._changed:
                if not self._open:
                    return
            node = self.executor._next_done(self)
            with self._changed:
                self._open -= 1
            value = self.job.held.get(node, _RELEASED)
            yield DoneNode(node, value, self.executor.load)
            del node, value

    def release(self, node: Node) -> None:
        """Let go of a node's value, though the handle still exists."""
        added = self._added.pop(node, None)
        inner = added() if added is not None else None
        if inner is not None:
            self._handles.pop(inner, None)
        self.executor._forget(self, node)

    def node_done(self, node: Node) -> None:
        """A wanted node has its value; called by the engine."""
        from graphray.graph.digest import digest_all, pin

        digest_all([node], again=False)  # seeds of nodes built on it derive from it
        pin(node)
        node._args = ()  # the handle is for the value: what led to it may go
        node._deps = ()
        with self._changed:
            self._done.append(node)
            self._changed.notify_all()

    def cancel(self) -> None:
        """End the run before its block does: no further task begins. May be called from any thread."""
        self._cancelled = True
        super().cancel()

    def end(self, error: BaseException | None) -> None:
        """The run is over."""
        if self._left and isinstance(error, Cancelled):
            error = None  # leaving the block is how such a run ends
        try:
            super().end(error)
        finally:
            with self._changed:
                self._changed.notify_all()

    def take_done(self, timeout: float | None) -> Node | None:
        """The next node that is done, waiting for it for up to `timeout` seconds; called by the engine."""
        with self._changed:
            if not self._done and timeout != 0:
                self._changed.wait_for(lambda: self._done or self._over.is_set(), timeout)
            if self._done:
                return self._done.popleft()
            if self._over.is_set():
                raise self.job.error or cancelled()
            return None

    def __enter__(self) -> GrowingRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = kind is None and not self._cancelled
        # What an ordinary exception leaves running may finish there.
        self._abandoned = kind is not None and not issubclass(kind, Exception)
        self.executor._cancel(self)
        self._over.wait()
        self._close()
