"""Executor: what every engine has in common.

An engine interprets the core's instructions. One of processes or machines subclasses `Executor` and says how a unit is
started, recalled, and how news arrives; the base class runs the core in one dispatching thread, and keeps the handles.
"""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import time

from graphray.errors import Failure
from graphray.executors import events
from graphray.executors.core import (
    Core,
    Done,
    Event,
    Finished,
    GivenUp,
    Instruction,
    Job,
    JobAdded,
    JobClosed,
    NodesAdded,
    Recall,
    Refit,
    Released,
    Retry,
    RunTogether,
    Tick,
    UnitDone,
    WorkerJoined,
    WorkerLost,
    cancelled,
)
from graphray.executors.core import Run as RunUnit
from graphray.executors.failures import describe_place, users_traceback
from graphray.executors.job import Known
from graphray.executors.run import BaseRun, GrowingRun, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any, TypeVar

    from graphray.executors.cache import Entry
    from graphray.executors.cache.nodes import NodeCache, Plan
    from graphray.executors.core import Again, Unit
    from graphray.executors.futures import Futures
    from graphray.executors.run import Subscriber
    from graphray.graph.dataflow import Graph
    from graphray.graph.node import Node

    _Growing = TypeVar("_Growing", bound=GrowingRun)

MANY = 2_000  # nodes of a growing run with a cache after which is noted which of them ran
BEAT = 1.0  # seconds between words on how far the runs are, while nothing happens
TICK = 0.02  # seconds between ticks, while the core is watchful


class Executor:
    """Runs graphs. A context manager that keeps its workers warm; safe to reuse, and to use from several threads.

    For a new engine, override `start`, `start_unit`, `recall_unit` and `stop`, and `post` what happens; see
    CONTRIBUTING.md, and `graphray.testing` for the conformance suite.
    """

    name = "executor"
    workers = 1
    shares_memory = True  # the workers see the driver's own objects
    has_store = False  # values may be kept elsewhere: see `load`

    def __init__(self) -> None:
        self._core = Core()
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._runs: dict[Job, BaseRun] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    # ---- for an engine to override

    def start(self) -> list[str]:
        """Start the workers; the names of those that are there at once. Others are posted as `WorkerJoined`."""
        raise NotImplementedError

    def start_unit(self, unit: Unit) -> None:
        """Have `unit.worker` run a unit, without waiting for it; `post` a `UnitDone` at its end."""
        raise NotImplementedError

    def recall_unit(self, unit: Unit, cancelled: bool) -> None:
        """Have a unit's worker begin no further node of it. It may `post` a `UnitRecalled` before the unit ends."""

    def stop(self, wait: bool) -> None:
        """End the workers: after the node they are at if `wait`, else at once."""

    def resources(self) -> Mapping[str, float | Sequence[str]]:
        """What the machine has, for tasks with `resources=`; asked when the first of them comes.

        By default what is found on this one. An engine whose workers are elsewhere says what they have as they join.
        """
        from graphray.executors.supply import find

        return find() if self.shares_memory else {}

    def refit_worker(self, worker: str, accelerators: tuple[str, ...], fresh: bool, place: int) -> None:
        """Have another worker take an idle one's place; see `protocol.Refit`. Only for `Core(fits=True)`."""
        raise NotImplementedError

    def meeting_place(self, unit: Unit) -> str:
        """A "host:port" where `unit.worker`, of rank 0, can listen for the others of its gang."""
        from graphray.executors.membership import free_address

        return free_address()

    def next_events(self, timeout: float | None) -> list[Any]:
        """News, waiting for it for up to `timeout` seconds; overridden by an engine with other things to wait for."""
        try:
            return [self._news.get(timeout=timeout)]
        except queue.Empty:
            return []

    def check_threads(self, threads: int) -> None:
        """Refuse a `threads_per_task=` of one run that this engine cannot give it.

        Raises:
            ValueError: its workers were started with another number.
        """
        mine = getattr(self, "threads_per_task", None)
        if mine is None:
            raise ValueError(
                f"the {self.name} executor cannot set the threads of a task; set OMP_NUM_THREADS for the process"
            )
        if threads != mine:
            raise ValueError(
                f"the workers of this {self.name} executor have {mine} threads per task, from their start on; "
                f"make an executor with threads_per_task={threads}"
            )

    def post(self, event: Event) -> None:
        """Tell the core something; from any thread."""
        self._news.put(event)

    def load(self, value: Any) -> Any:
        """A value in a job's books as the user gets it; an engine may keep it elsewhere."""
        return value

    def load_all(self, values: Mapping[Node, Any]) -> Mapping[Node, Any]:
        """The same for many."""
        return {n: self.load(v) for n, v in values.items()}

    def abandon(self, job: Job) -> None:
        """A run was interrupted: an engine that can, ends the tasks of it that are still running."""

    # ---- for users

    def compute(self, graph: Any, **options: Any) -> Any:
        """Compute a graph (or node) here; the options are those of `Graph.run`."""
        return self.run(graph, **options).result()

    def run(self, graph: Any, **options: Any) -> Run:
        """Start computing a graph (or node) here; see `Graph.run`."""
        from graphray.graph.dataflow import Graph

        return Graph(graph).run(self, **options)

    def open(self, *, seed: int = 0, progress: Any = None, cache: Any = None) -> GrowingRun:
        """A run to which nodes can be added while it goes on: `with executor.open() as run: …`.

        The options are those of `Graph.run`.
        """
        from graphray.executors.start import open_cache

        job = Job((), seed=seed, collect=True, growing=True)
        job.cache = open_cache(cache, seed)
        return self._open(GrowingRun, job, progress)

    def futures(self, max_workers: int | None = None) -> Futures:
        """This engine as a `concurrent.futures.Executor`, for code that wants one; shut down apart from the engine.

        Args:
            max_workers: how many calls may be with the workers at a time; by default as many as keep them busy.
        """
        from graphray.executors.futures import Futures

        return Futures(self, max_workers)

    def _open(self, kind: type[_Growing], job: Job, progress: Any = None) -> _Growing:
        from graphray.executors.progress import subscribers

        listeners = subscribers(progress)
        job.spans = any([getattr(s, "spans", False) for s in listeners])
        run = kind(self, job, listeners)
        self._begin(run)
        return run

    def close(self, wait: bool = True) -> None:
        """End the workers. Runs still going on are cancelled; using the executor again is an error."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        if thread is threading.current_thread():  # from a subscriber, which the thread that is to end calls
            threading.Thread(target=self._end_workers, args=(wait,), name="graphray-closing", daemon=True).start()
        else:
            self._end_workers(wait)

    def _end_workers(self, wait: bool) -> None:
        thread = self._thread
        with contextlib.ExitStack() as then:  # the last one first, and all of them also after a Ctrl-C
            then.callback(self._end_runs)
            then.callback(self.stop, wait)
            if thread is not None:
                then.callback(atexit.unregister, self._close_at_exit)
                then.callback(thread.join)
                self._news.put(None)
                self._wake()
                thread.join()

    def _end_runs(self) -> None:
        for run in list(self._runs.values()):
            self._end(run, cancelled())

    def _close_at_exit(self) -> None:
        self.close(wait=False)

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(wait=kind is None)

    def __reduce__(self) -> Any:
        raise TypeError(
            f"an executor cannot be sent to a worker: {self.name}. Inside a task, compute() runs in-process."
        )

    # ---- runs

    def launch(self, graph: Graph, job: Job, subscribers: Sequence[Subscriber], owned: bool) -> Run:
        """Start a job for a graph and give its handle."""
        run = Run(self, job, graph.outputs, subscribers, owned)
        self._begin(run)
        return run

    def _begin(self, run: BaseRun) -> None:
        self._ensure_started()
        run.job.shared = self.shares_memory
        run.publish_started()
        self._runs[run.job] = run
        try:
            plan = self._look_up(run, run.job.roots)
        except BaseException as error:  # Ctrl-C, say: nobody gets a handle by which it could be ended
            self._end(run, error)
            raise
        self._tell(JobAdded(run.job, plan))
        if self._closed and not run.done():  # meanwhile, by another thread
            self._end(run, cancelled())

    def _look_up(self, run: BaseRun, roots: Sequence[Node], known: Any = ()) -> Plan | None:
        """What a run's cache has of the nodes that lead to `roots`."""
        job = run.job
        if job.cache is None:
            return None
        from graphray.executors.cache.nodes import plan

        if job.growing:
            made = plan(job.cache, roots, self.adopt, known, job.first, job.planned)
        else:
            made = plan(job.cache, roots, self.adopt, known)
        for node, size in made.hits:
            run.publish(events.CacheHit(time.time(), node.label, size))
        job.ordered += [n for n in made.order if n not in made.same]
        if job.growing and len(job.ordered) > MANY:  # it may last for ever
            ordered, job.ordered = job.ordered, []
            run.remember(ordered, whole=False)
        return made

    def _save_settled(self, job: Job) -> None:
        """Keep the values of nodes that have got them from others, which the tasks of these had returned."""
        settled, job.settled = job.settled, []
        for target, inner in settled:
            if job.cache is not None and target in job.values:
                seeded = job.marks.get(inner, 0) & 1 == 1 or job.cache.depends_on_seed(inner)
                if seeded:
                    job.marks[target] = job.marks.get(target, 0) | 1
                self._save_one(job, target, inner, seeded)

    def _save_one(self, job: Job, target: Node, inner: Node, seeded: bool) -> None:
        cache, value = job.cache, job.values[target]
        if cache is None or type(value) is Failure or not cache.wants(target, job.marks.get(target, 0) & 2 == 2):
            return
        with contextlib.suppress(Exception):  # it cannot be read here
            cache.save(target, lambda: self.load(value), None, seeded, inner)

    def adopt(self, cache: NodeCache, entry: Entry, node: Node) -> Any:
        """The value of an entry of a run's cache, in the form in which this engine keeps values.

        Raises:
            LookupError: it cannot be read here.
        """
        return cache.load(entry, node)

    def _ensure_started(self) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError(f"the {self.name} executor is closed")
            if self._thread is None:
                for worker in self.start():
                    self._news.put(WorkerJoined(worker, resources=self.resources))
                self._thread = threading.Thread(target=self._dispatch, name=f"graphray-{self.name}", daemon=True)
                self._thread.start()
                atexit.register(self._close_at_exit)

    def _tell(self, event: Event) -> None:
        """Tell the core something of a run; of a closed executor's run there is nothing to tell."""
        with self._lock:
            if not self._closed:
                self.post(event)
                self._wake()

    def _wake(self) -> None:
        """Have `next_events` return soon; needed where it waits for other things than the queue."""

    def _dispatch(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # a defect of the engine: nobody may wait for ever because of it
            error.add_note(f"graphray: the {self.name} executor failed and is closed; this is a defect of graphray")
            self._closed = True
            for run in list(self._runs.values()):
                self._end(run, error)
            self.stop(wait=False)

    def _loop(self) -> None:
        core = self._core
        clock = time.perf_counter
        told = clock()
        event: Any
        instruction: Instruction | None
        run: BaseRun | None
        while True:
            wait = core.wait(clock())
            if core.watchful:
                wait = TICK if wait is None else min(wait, TICK)
            elif self._runs:
                wait = BEAT if wait is None else min(wait, BEAT)
            found = self.next_events(wait)
            if not found and clock() - told > BEAT:  # a long task runs: those who watch see that time goes on
                told = clock()
                for run in list(self._runs.values()):
                    run.publish_progress()
            for event in found or [Tick()]:
                if event is None:
                    return
                if type(event) is NodesAdded and event.job in self._runs and event.job.cache is not None:
                    event.plan = self._look_up(self._runs[event.job], event.roots, Known(event.job))
                if type(event) is WorkerLost:
                    self._tell_of_lost(event)
                run = self._runs.get(event.unit.job) if type(event) is UnitDone else None
                if run is not None:
                    self.report_failures(run.job, event.values)
                    run.note_spent(event.worker, event.spent, unit=event.unit.id, **event.report)
                instructions = core.handle(event, clock())
                if run is not None and run.job.settled:
                    self._save_settled(run.job)  # before its end is known: who runs it again finds them
                for instruction in instructions:
                    self._do(instruction)
                if run is not None and not run.done():
                    run.publish_progress()
            # While it waits, this thread must not hold what others have let go of.
            event = run = instruction = None
            instructions, found = [], []

    def _do(self, instruction: Instruction) -> None:
        kind = type(instruction)
        if kind is RunUnit:
            self._start(instruction.unit)  # type: ignore[attr-defined]
        elif kind is RunTogether:
            self._start_gang(instruction.units)  # type: ignore[attr-defined]
        elif kind is Refit:
            refit: Refit = instruction  # type: ignore[assignment]
            self.refit_worker(refit.worker, refit.accelerators, refit.fresh, refit.place)
        elif kind is Recall:
            self.recall_unit(instruction.unit, instruction.cancelled)  # type: ignore[attr-defined]
        elif kind is Retry:
            self.retried(instruction.job, instruction.again)  # type: ignore[attr-defined]
        elif kind is GivenUp:
            self._given_up(instruction)  # type: ignore[arg-type]
        elif kind is Done:
            run = self._runs.get(instruction.job)  # type: ignore[attr-defined]
            if isinstance(run, GrowingRun):
                run.node_done(instruction.node)  # type: ignore[attr-defined]
        elif kind is Finished:
            run = self._runs.get(instruction.job)  # type: ignore[attr-defined]
            if run is not None:
                self._end(run, instruction.error)  # type: ignore[attr-defined]

    def _start(self, unit: Unit) -> None:
        run = self._runs.get(unit.job)
        if run is not None:
            first = unit.nodes[0]._task.name
            run.publish(events.UnitStarted(time.time(), unit.worker, len(unit.nodes), first, unit.id))
        self.start_unit(unit)

    def _start_gang(self, units: Sequence[Unit]) -> None:
        party = units[0].grant.party  # type: ignore[union-attr]
        try:
            party.address = self.meeting_place(units[0])
        except OSError as error:
            for unit in units:
                self.failed(unit.job, party.node, error)
                self.post(UnitDone(unit.worker, unit, {}, failed=(party.node, error)))
            return
        for unit in units:
            self._start(unit)

    def _end(self, run: BaseRun, error: BaseException | None) -> None:
        if self._runs.pop(run.job, None) is not None:
            run.end(error)
            if error is not None:
                run.job.values = {}  # nobody will ask

    def emitted(self, job: Job, worker: str, node: str, data: dict[str, Any]) -> None:
        """A task sent data."""
        run = self._runs.get(job)
        if run is not None:
            run.publish(events.Emitted(time.time(), worker, node, data))

    def retried(self, job: Job, again: Again) -> None:
        """A node is going to be run again."""
        run = self._runs.get(job)
        if run is not None:
            run.publish(
                events.NodeRetried(time.time(), again.node.label, repr(again.error), again.failures + 1, again.delay)
            )

    def _given_up(self, instruction: GivenUp) -> None:
        """A node took its workers with it: the driver tells of it, as nobody else lives to do so."""
        job, node, error = instruction.job, instruction.node, instruction.error
        if job.capsules is not None and instruction.worker:
            with contextlib.suppress(Exception):  # an input that cannot be read here
                inputs = {n: self.load(v) for n, v in instruction.inputs.items()}
                job.capsules.write(node, inputs, error, instruction.worker, sum(job.attempts.get(node, (0, 1))))
        self.failed(job, node, error)

    def printed(self, job: Job | None, worker: str, node: str, stream: str, text: str) -> None:
        """A task printed something elsewhere; `job` is its run, where that still goes on."""
        run = self._runs.get(job) if job is not None else None
        event = events.Printed(time.time(), worker, node, stream, text)
        if run is not None:
            run.publish(event)
        if run is None or not run.shows_prints:
            from graphray.executors.shown import show

            show(event)

    def _tell_of_lost(self, event: WorkerLost) -> None:
        """A worker is gone: for all runs to know, since any of them may wait longer for it."""
        running = event.inner or (event.running.label if event.running is not None else "")
        for run in list(self._runs.values()):
            lost = events.WorkerLost(time.time(), event.worker, event.exitcode, event.signal, event.memory, running)
            run.publish(lost)

    def memory_used(self, in_memory: int, on_disk: int, budget: int) -> None:
        """How much the results take now."""
        for run in list(self._runs.values()):
            run.publish(events.MemoryUsed(time.time(), in_memory, on_disk, budget))

    def joined(self, worker: str, pid: int) -> None:
        """A worker is ready for the work of all runs."""
        for run in list(self._runs.values()):
            run.publish(events.WorkerStarted(time.time(), worker, pid))

    def spilled(self, moved: int, in_memory: int, on_disk: int, budget: int) -> None:
        """Results were moved to disk."""
        for run in list(self._runs.values()):
            run.publish(events.Spilled(time.time(), moved, in_memory))
        self.memory_used(in_memory, on_disk, budget)

    def failed(self, job: Job, node: Node, error: BaseException, trail: Sequence[str] = ()) -> None:
        """A task raised: say where, in the exception's notes and in the events; once for each node.

        Args:
            job: the run's books.
            node: the node of the graph that failed.
            error: what its task raised, or one that it returned.
            trail: `Machine.trail`.
        """
        run = self._runs.get(job)
        if run is None or node in run.reported:
            return
        run.reported.add(node)
        error.__traceback__ = users_traceback(error.__traceback__)
        run.note_failed(node, error)
        skipped = describe_place(error, job, node, trail)
        run.publish(events.NodeFailed(time.time(), node, error, skipped))

    def report_failures(self, job: Job, values: Mapping[Node, Any]) -> None:
        """Say where the tasks raised whose failures are among some collected values."""
        if not job.collect:
            return
        for value in values.values():
            if type(value) is Failure:
                self.failed(job, value.node if value.skipped_because is None else value.skipped_because, value.error)

    # ---- what handles ask for

    def _wait_for(self, run: Run, timeout: float | None) -> None:
        if not run._over.wait(timeout):
            raise TimeoutError(f"the run is not done after {timeout} s; it goes on (run.cancel() ends it)")

    def _cancel(self, run: BaseRun) -> None:
        if not run.done():
            self._tell(JobClosed(run.job, cancelled()))

    def _abandon(self, run: BaseRun) -> None:
        self.abandon(run.job)

    def _help(self, run: GrowingRun) -> bool:
        """Do some of a growing run's work in this thread, if that is how this engine works; whether it did any."""
        return False

    def _grow(self, run: GrowingRun, nodes: list[Node]) -> None:
        self._tell(NodesAdded(run.job, nodes))

    def _next_done(self, run: GrowingRun) -> Node:
        node = run.take_done(None)
        assert node is not None
        return node

    def _forget(self, run: GrowingRun, node: Node) -> None:
        self._tell(Released(run.job, node))
