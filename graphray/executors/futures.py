"""Futures: an engine as a `concurrent.futures.Executor`, for code and libraries that want one.

    submitting threads ── waiting ──▶ desk's thread ══ nodes ══▶ growing run
                                                   ◀═ done ═════

A desk takes what is submitted and hands it on in batches: all that came while it was at the last one. What it has
handed on counts as running. It hands on no more than the workers need to stay busy, so the rest can be cancelled.
"""

from __future__ import annotations

import atexit
import collections
import concurrent.futures
import contextlib
import functools
import itertools
import threading
import time
import weakref
from concurrent.futures import Future
from types import BuiltinFunctionType, FunctionType

from graphray.errors import Failure
from graphray.executors.core import Job, cancelled
from graphray.executors.run import GrowingRun
from graphray.graph.containers import ATOMS
from graphray.graph.node import CONSTANT, NESTED, Node, make
from graphray.graph.opaque import Opaque, content, opaque
from graphray.graph.task import Task, _by_value, _lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from graphray.executors.base import Executor

KEPT = 256  # functions whose tasks are kept: a worker that has seen one need not be sent it again
SOON = 0.05  # seconds; where half of what may be handed on is done sooner, that is doubled
LATE = 0.2  # seconds; twice what was done in these may be handed on, and no more
MOST = 16_384  # calls that are handed on at most


class Futures(concurrent.futures.Executor):
    """Calls functions on an engine's workers; made by `executor.futures()`.

    A context manager with `submit`, `map` and `shutdown`, as in `concurrent.futures`. Calls begin in the order in which
    they were submitted. Each is made, even if there was an equal one; nothing is cached. If a worker dies, the call
    that it was at is made again on another, up to three times in all.

    Arguments and results arrive as they are: in-process the very objects, on engines of processes private copies. What
    is to be sent to a worker once, however many calls use it, is passed as a node: `submit(fn, gr.value(table))`; nodes
    among the arguments stand for their values.
    """

    def __init__(self, executor: Executor, max_workers: int | None = None) -> None:
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise ValueError(f"max_workers= is a number of calls at a time, 1 or more, not {max_workers!r}")
        self._max_workers = min(executor.workers, max_workers or executor.workers)  # the name that others look for
        self._tasks: collections.OrderedDict[Any, Task] = collections.OrderedDict()
        self._desk = Desk(executor, max_workers)
        weakref.finalize(self, self._desk.close).atexit = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have `fn(*args, **kwargs)` called; the future has its value, or what it raised.

        Raises:
            RuntimeError: it is shut down, or its engine closed.
            TypeError: not a function.
        """
        if not callable(fn):
            raise TypeError(f"submit needs a function, not {type(fn).__name__}")
        future: Future[Any] = Future()
        self._desk.put(future, self._node(fn, args, kwargs))
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **options: Any,
    ) -> Iterator[Any]:
        """An iterator over `fn` of each element (or of each from several iterables at once), in order.

        Args:
            fn: the function.
            iterables: its arguments; they are gone through at once.
            timeout: seconds from now in which all results are to be there; the iterator raises `TimeoutError` then.
            chunksize: calls that travel and fail together. Not needed for speed: calls are sent in batches anyway; but
                a future for each costs a few microseconds.
            options: `buffersize=`, where this Python's `concurrent.futures` has it.

        Raises:
            ValueError: `chunksize` is not a number from 1 on.
            RuntimeError: as in `submit`.
        """
        if type(chunksize) is not int or chunksize < 1:
            raise ValueError(f"chunksize= is a number of calls, 1 or more, not {chunksize!r}")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout, **options)
        rows = zip(*iterables, strict=False)
        chunks = iter(lambda: tuple(itertools.islice(rows, chunksize)), ())
        results = super().map(functools.partial(_call_each, fn), chunks, timeout=timeout, **options)
        return itertools.chain.from_iterable(results)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. The engine stays open.

        Args:
            wait: until all calls are done.
            cancel_futures: cancel those that have not been handed to a worker.
        """
        self._desk.close(cancel_futures)
        if wait:
            self._desk.join()

    def abort(self) -> None:
        """Take no more calls, and cancel all there are: those that run may notice, and on a pool are ended if not."""
        self._desk.abort()

    def _node(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Node:
        if isinstance(fn, Task):  # what it calls is graphray's already, options and all
            return fn(*args, **kwargs)
        task = self._task(fn)
        kinds = {*map(type, args), *map(type, kwargs.values())} if kwargs else set(map(type, args))
        if task is not None and kinds <= ATOMS:
            return Node(task, args, kwargs or None, (), CONSTANT)
        if Node in kinds:
            args = tuple([a if type(a) is Node else opaque(a) for a in args])
            kwargs = {k: a if type(a) is Node else opaque(a) for k, a in kwargs.items()}
            return make(self._named(fn, _call), (opaque(fn), *args), kwargs or None)
        return Node(self._named(fn, _make_call), (Opaque((fn, args, kwargs)),), None, (), NESTED)

    def _task(self, fn: Callable[..., Any]) -> Task | None:
        """The task of a function that other processes find under its name; others travel with their calls.

        So a function of the main module, a lambda or a method is what it is when it is called, variables included.
        """
        if type(fn) is not FunctionType and type(fn) is not BuiltinFunctionType:
            return None
        task = self._tasks.get(fn)
        if task is None and _importable(fn):
            task = self._keep(fn, Task(_Returning(fn), fn.__name__, pure=False))
        return task

    def _named(self, fn: Callable[..., Any], how: Callable[..., Any]) -> Task:
        """A task under a function's name, so that it is known how long its calls take."""
        name = getattr(fn, "__name__", None) or type(getattr(fn, "func", fn)).__name__
        return self._tasks.get((how, name)) or self._keep((how, name), Task(how, name, pure=False))

    def _keep(self, key: Any, task: Task) -> Task:
        self._tasks[key] = task
        if len(self._tasks) > KEPT:
            with contextlib.suppress(KeyError):  # other threads let the last ones go
                self._tasks.popitem(last=False)
        return task


class FuturesRun(GrowingRun):
    """A growing run whose nodes nobody builds on: they need no digests."""

    def node_done(self, node: Node) -> None:
        """A node has its value; called by the engine."""
        with self._changed:
            self._done.append(node)
            self._changed.notify_all()


class Desk:
    """Takes calls from any thread, hands them on to a run, and sets the futures; see the module's text."""

    def __init__(self, executor: Executor, at_once: int | None) -> None:
        self.executor = executor
        self.run = executor._open(FuturesRun, Job((), collect=True, growing=True, in_order=True))
        self.changed = self.run._changed
        self.least = at_once or 2 * executor.workers
        self.most = at_once or MOST
        self.limit = self.least  # calls that may be with the run at a time
        self.waiting: collections.deque[tuple[Future[Any], Node]] = collections.deque()
        self.running: dict[Node, Future[Any]] = {}  # with the run
        self.closed = False
        self._counted = 0  # calls done since `_since`
        self._since = time.perf_counter()
        self.thread = threading.Thread(target=self._serve, name="graphray-futures", daemon=True)
        self.thread.start()
        atexit.register(self.finish)  # after the engine's own: what was submitted is done before that closes

    # ---- for any thread

    def put(self, future: Future[Any], node: Node) -> None:
        """Take a call.

        Raises:
            RuntimeError: it takes no more.
        """
        with self.changed:
            if self.closed:
                raise RuntimeError("cannot submit: these futures are shut down; make new ones with executor.futures()")
            if self.run.done():
                raise RuntimeError(f"cannot submit: the {self.executor.name} executor is closed")
            self.waiting.append((future, node))
            self.changed.notify_all()

    def close(self, cancel: bool = False) -> None:
        """Take no more calls; with `cancel`, those that wait are cancelled."""
        with self.changed:
            self.closed = True
            dropped = [self.waiting.popleft() for _ in range(len(self.waiting))] if cancel else []
            self.changed.notify_all()
        for future, _ in dropped:  # whose callbacks are the user's: not under the lock
            _cancel(future)

    def abort(self) -> None:
        """Take no more calls, and end those there are."""
        self.close(cancel=True)
        self.run.cancel()

    def join(self) -> None:
        """Wait until all is done; in a callback, which is called by the thread itself, there is no waiting."""
        if self.thread is not threading.current_thread():
            self.thread.join()

    def finish(self) -> None:
        """At the interpreter's exit."""
        self.close()
        self.join()

    # ---- the desk's own thread

    def _serve(self) -> None:
        try:
            while True:
                handed_on, settled = self._hand_on(), self._settle()
                if handed_on or settled or (self.running and self.executor._help(self.run)):
                    continue
                with self.changed:
                    self.changed.wait_for(self._news)
                    if self.run.done() or (self.closed and not self.waiting and not self.running):
                        break
        finally:
            self._end()

    def _news(self) -> bool:
        if self.run._done or self.run.done() or self._room():
            return True
        return self.closed and not self.waiting and not self.running

    def _room(self) -> int:
        """How many calls may be handed on now; where they are many, once half of the last are done."""
        there = len(self.running)
        if self.limit > 2 * self.least and there > self.limit // 2:
            return 0
        return min(len(self.waiting), self.limit - there)

    def _hand_on(self) -> bool:
        if not self.running:
            self._since, self._counted = time.perf_counter(), 0
        nodes = []
        for _ in range(max(self._room(), 0)):
            try:
                future, node = self.waiting.popleft()
            except IndexError:  # they were cancelled meanwhile
                break
            if future.set_running_or_notify_cancel():
                self.running[node] = future
                nodes.append(node)
        if nodes:
            self.executor._grow(self.run, nodes)
        return bool(nodes)

    def _settle(self) -> bool:
        """Set the futures of what is done."""
        done, job, load = self.run._done, self.run.job, self.executor.load
        count = len(done)
        for _ in range(count):
            node = done.popleft()
            future = self.running.pop(node)
            value = job.held.get(node, _LOST)
            del node  # and with it, what the run keeps of it
            try:
                if type(value) is Failure:
                    future.set_exception(value.error)
                elif value is _LOST:
                    future.set_exception(RuntimeError("the value of a call was lost; this is a defect of graphray"))
                else:
                    future.set_result(value if type(value) in ATOMS else content(load(value)))
            except Exception as error:  # it cannot be read here
                if not future.done():
                    future.set_exception(error)
            del future, value
        if count:
            self._adapt(count)
        return count > 0

    def _adapt(self, count: int) -> None:
        """Hand on more at a time where calls are short: then it is trips that cost, and there is little to cancel."""
        self._counted += count
        now = time.perf_counter()
        seconds = now - self._since
        if seconds > LATE:
            self.limit = max(min(self.limit, 2 * self._counted), self.least)
        elif seconds < SOON and 2 * self._counted >= self.limit and self.waiting:
            self.limit = min(2 * self.limit, self.most)
        else:
            return
        self._since, self._counted = now, 0

    def _end(self) -> None:
        """All is done, or the run is over before that."""
        atexit.unregister(self.finish)
        self.close(cancel=True)
        self.run.__exit__(None, None, None)
        self._settle()
        error = self.run.job.error or cancelled()
        for future in self.running.values():
            future.set_exception(error)
        self.running.clear()


def _cancel(future: Future[Any]) -> None:
    """Cancel a call that was not handed on, also for those who wait for several."""
    if future.cancel():
        future.set_running_or_notify_cancel()


_LOST = object()


class _Returning:
    """A function whose result is not looked into."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        value = self.fn(*args, **kwargs)
        return value if type(value) in ATOMS else Opaque(value)


def _make_call(call: Opaque) -> Any:
    fn, args, kwargs = call.value
    return opaque(fn(*args, **kwargs))


def _call(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    args = tuple(map(content, args))
    return opaque(content(fn)(*args, **{k: content(a) for k, a in kwargs.items()}))


def _call_each(fn: Callable[..., Any], rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [fn(*row) for row in rows]


def _importable(fn: Any) -> bool:
    module, name = getattr(fn, "__module__", None) or "", getattr(fn, "__qualname__", "")
    return bool(module) and not _by_value(module) and _lookup(module, name) is fn
