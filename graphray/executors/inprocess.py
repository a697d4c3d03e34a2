"""InProcess: runs graphs in the calling process: real tracebacks, and it works under a debugger."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time

from graphray.executors import context
from graphray.executors.base import Executor
from graphray.executors.core import (
    Core,
    Done,
    Finished,
    GivenUp,
    JobAdded,
    JobClosed,
    NodesAdded,
    Released,
    Tick,
    UnitDone,
    UnitRecalled,
    WorkerJoined,
    cancelled,
)
from graphray.executors.core import Run as RunUnit
from graphray.executors.job import Known
from graphray.executors.local import begin, end, spans
from graphray.executors.run import BaseRun, GrowingRun
from graphray.executors.supply import find, given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from graphray.executors.core import Event, Job, Unit
    from graphray.executors.machine import Machine
    from graphray.executors.run import Run
    from graphray.graph.node import Node

BEAT = 0.1  # seconds between looks at what else goes on (progress, cancelling)


class InProcess(Executor):
    """Runs graphs in the calling process.

    With one thread the work is done by the thread that waits for the result, in the order of a depth-first walk. With
    several, units run on that many threads, which helps where tasks release Python's lock (numpy, files, sockets).
    Threads within a task are the run's to set: `compute(threads_per_task=2)`, for the engine with one thread.

    Args:
        threads: how many.
        resources: what the machine has beyond what is found (`gpu`, `memory`), for tasks that ask for it, such as
            `{"licence": 1}`.
    """

    name = "inprocess"

    def __new__(cls, threads: int = 1, *, resources: Mapping[str, Any] | None = None) -> InProcess:
        """The single-threaded engine, or the one with several threads."""
        return super().__new__(_Threads if threads != 1 and cls is InProcess else cls)

    def __init__(self, threads: int = 1, *, resources: Mapping[str, Any] | None = None) -> None:
        if type(threads) is not int or threads < 1:
            raise ValueError(f"threads= is a number of threads, 1 or more, not {threads!r}")
        super().__init__()
        self._given = given(resources)
        self._cores: dict[Job, Core] = {}
        self._machines: dict[Job, Machine] = {}
        self._units: dict[Job, Unit] = {}
        self._added: dict[Job, list[Node]] = {}  # to growing runs, and not yet planned

    def start(self) -> list[str]:
        """Nothing to start: the caller's thread does the work."""
        return []

    def resources(self) -> Mapping[str, Any]:
        """What this machine has."""
        return find(self._given)

    def stop(self, wait: bool) -> None:
        """Runs in other threads begin nothing more."""
        for machine in list(self._machines.values()):
            machine.cancelled = machine.halt = True

    def check_threads(self, threads: int) -> None:
        """Any number will do: it is set while the run's tasks run."""
        _limited_threads(threads)

    # Each run has a core of its own, driven by whoever waits for it: so runs from several threads do not meet.

    def _begin(self, run: BaseRun) -> None:
        if self._closed:
            raise RuntimeError("the inprocess executor is closed")
        # What is added to a growing run is worked off piece by piece, so that results are seen as they come.
        core = self._cores[run.job] = Core(sequential=not run.job.growing)
        run.job.shared = self.shares_memory
        self._runs[run.job] = run
        core.handle(WorkerJoined("inprocess", resources=self.resources), 0.0)
        try:
            run.publish_started()
            plan = self._look_up(run, run.job.roots)
        except BaseException as error:  # as in `Executor._begin`
            self._cores.pop(run.job, None)
            self._end(run, error)
            raise
        self._handle(run, JobAdded(run.job, plan))

    def _handle(self, run: BaseRun, event: Event) -> None:
        with run.lock:  # it may be cancelled by another thread
            core = self._cores.get(run.job)
            if core is None:
                return
            instructions = core.handle(event, time.perf_counter())
            if run.job.settled:
                self._save_settled(run.job)
            for instruction in instructions:
                kind = type(instruction)
                if kind is RunUnit:
                    unit = instruction.unit  # type: ignore[attr-defined]
                    machine = self._machines[run.job] = begin(self, unit, delegates=False)
                    machine.admit = core.placement.admit
                    self._units[run.job] = unit
                elif kind is Done:
                    run.node_done(instruction.node)  # type: ignore[attr-defined]
                elif kind is GivenUp:
                    self._given_up(instruction)  # type: ignore[arg-type]
                elif kind is Finished:
                    self._cores.pop(run.job, None)
                    self._end(run, instruction.error)  # type: ignore[attr-defined]

    def _take_unit(self, run: BaseRun) -> Unit | None:
        """The unit that is to be run next, for the one thread that is to do it."""
        with run.lock:
            return self._units.pop(run.job, None)

    def _drive(self, run: BaseRun, unit: Unit) -> None:
        """Run a unit to its end."""
        machine = self._machines[run.job]
        job = run.job
        try:
            with _limited_threads(job.threads):
                if job.growing:
                    machine.run_unit(unit.budget)
                else:
                    self._run_all(run, machine)
        except BaseException:  # Ctrl-C in a task, say: the run ends here
            self._handle(run, JobClosed(job, cancelled()))
            raise
        finally:
            self._machines.pop(job, None)
        if machine.halt:
            self._handle(run, JobClosed(job, cancelled()))
            return
        done = end(self, unit, machine, everything=not job.growing)
        self.report_failures(job, done.values)
        run.note_spent("inprocess", machine.spent, **done.report)
        self._handle(run, done)

    def _run_all(self, run: BaseRun, machine: Machine) -> None:
        job = run.job
        done, total = job.done, job.total
        while not machine.run(time.perf_counter() + BEAT):
            if machine.failed is not None or machine.halt:
                break
            job.done, job.total = done + machine.count, total + machine.grown
            run.publish_progress()
            if machine.spans:
                run.note_spent("inprocess", {}, **spans(machine))
        job.done, job.total = done, total  # the core counts for itself

    def _wait_for(self, run: Run, timeout: float | None) -> None:
        while not run.done():
            unit = self._take_unit(run)
            if unit is not None:
                self._drive(run, unit)
            elif not run._over.wait(timeout):  # another thread is at it
                raise TimeoutError(f"the run is not done after {timeout} s; it goes on (run.cancel() ends it)")

    def _cancel(self, run: BaseRun) -> None:
        with run.lock:
            machine = self._machines.get(run.job)
            if machine is not None:
                machine.cancelled = machine.halt = True
            self._added.pop(run.job, None)
            if machine is None or run.job in self._units:  # nobody is at it
                self._units.pop(run.job, None)
                self._machines.pop(run.job, None)
                self._handle(run, JobClosed(run.job, cancelled()))

    def _grow(self, run: GrowingRun, nodes: list[Node]) -> None:
        self._added.setdefault(run.job, []).extend(nodes)  # planned together, so that they share what they need

    def _forget(self, run: GrowingRun, node: Node) -> None:
        self._handle(run, Released(run.job, node))

    def _next_done(self, run: GrowingRun) -> Node:
        while (node := run.take_done(0)) is None:
            self._help(run)
        return node

    def _help(self, run: GrowingRun) -> bool:
        added = self._added.pop(run.job, None)
        if added:
            with run.lock:  # what runs when it is looked up has to run still when it is planned
                plan = self._look_up(run, added, Known(run.job))
                self._handle(run, NodesAdded(run.job, added, plan))
        unit = self._take_unit(run)
        if unit is None:
            self._handle(run, Tick())
            return bool(added) or run.job in self._units
        self._drive(run, unit)
        return True


def _limited_threads(threads: int | None) -> Any:
    """BLAS and OpenMP with so many threads, as a context; XLA's number is fixed when JAX starts.

    Raises:
        ModuleNotFoundError: threadpoolctl is not installed.
    """
    if threads is None:
        return contextlib.nullcontext()
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "threads_per_task= in-process needs threadpoolctl: pip install 'graphray[threads]'", name="threadpoolctl"
        ) from None
    return threadpool_limits(limits=threads)


_numbers = itertools.count()  # of threads: a worker's name is its own, also with several pools


class _Threads(InProcess):
    """Units on several threads that share the driver's memory."""

    def __init__(self, threads: int = 1, *, resources: Mapping[str, Any] | None = None) -> None:
        super().__init__(threads, resources=resources)
        self.workers = threads
        self._pool: dict[threading.Thread, queue.SimpleQueue[Any]] = {}  # and each one's units
        self._todo: dict[str, queue.SimpleQueue[Any]] = {}  # by the thread's name
        self._busy: dict[str, Machine] = {}

    # The engine proper: these undo what the single thread does its own way.
    _begin = Executor._begin
    _wait_for = Executor._wait_for
    _cancel = Executor._cancel
    _grow = Executor._grow
    _forget = Executor._forget
    _next_done = Executor._next_done
    _help = Executor._help
    check_threads = Executor.check_threads
    threads_per_task = None

    def start(self) -> list[str]:
        for _ in range(self.workers):
            todo: queue.SimpleQueue[Any] = queue.SimpleQueue()
            name = f"graphray-thread-{next(_numbers)}"
            thread = threading.Thread(target=self._work, args=(todo,), name=name, daemon=True)
            thread.start()
            self._pool[thread] = self._todo[thread.name] = todo
        return list(self._todo)

    def start_unit(self, unit: Unit) -> None:
        self._todo[unit.worker].put(unit)

    def recall_unit(self, unit: Unit, cancelled: bool) -> None:
        machine = self._busy.get(unit.worker)
        if machine is not None:
            machine.cancelled |= cancelled
            machine.halt = True
            if not cancelled:
                self.post(UnitRecalled(unit, machine.not_begun()))

    def stop(self, wait: bool) -> None:
        for machine in list(self._busy.values()):
            machine.cancelled = machine.halt = True
        for todo in self._pool.values():
            todo.put(None)
        for thread in self._pool if wait else ():
            thread.join()

    def _work(self, todo: queue.SimpleQueue[Any]) -> None:
        while (unit := todo.get()) is not None:
            self.post(self._run_unit(unit))
        context.end_worker(threading.current_thread().name)

    def _run_unit(self, unit: Unit) -> UnitDone:
        machine = self._busy[unit.worker] = begin(self, unit)
        if not unit.job.over:
            try:
                machine.run_unit(unit.budget)
            except BaseException as escaped:  # a defect of graphray; the thread has others to serve
                machine.failed = (unit.nodes[0] if machine.node is None else machine.outermost(machine.node), escaped)
        del self._busy[unit.worker]
        return end(self, unit, machine)
