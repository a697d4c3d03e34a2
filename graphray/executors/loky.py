"""Loky: runs graphs on a pool of processes on this machine.

    user's threads ── events ──▶ dispatching thread ══ unit ══▶ worker's main thread       (data: a pipe each)
                   ◀─ handles ──  (core, selector)  ◀═ result ══
                                                    ── recall ─▶ worker's listening thread  (control: a pipe each)

The processes are loky's, which start without `fork` and without running the main module again. Each has pipes of its
own, so that one can be addressed, recalled, killed and replaced without the others noticing. A worker ends when its
pipes do: also when the driver was killed. Large values do not go through the pipes, but through the store.

A worker that dies is replaced, and from the first time on a spare is kept ready, so that nobody waits for its start.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import selectors
import sys
import time

from loky.backend.context import LokyContext

from graphray.errors import Failure, WorkerDied
from graphray.executors import marker, threads
from graphray.executors.base import Executor
from graphray.executors.core import (
    Core,
    Event,
    Job,
    JobAdded,
    JobClosed,
    MachineFound,
    MemoryTight,
    UnitDelayed,
    UnitDone,
    UnitRecalled,
    WorkerJoined,
    WorkerLost,
)
from graphray.executors.frames import size_of
from graphray.executors.mail import Mail
from graphray.executors.pressure import Pressure
from graphray.executors.process import PATIENCE, Deadline, Letter, Process, signal_name
from graphray.executors.store.registry import Registry, Stored, loaded
from graphray.executors.store.segments import LEAST, Written
from graphray.executors.supply import environment, find, given
from graphray.executors.wire import Failed, dumps, loads, pack_error, unpack_error
from graphray.executors.worker import SAFE_PATH
from graphray.graph.containers import ATOMS, freeze, rewrite
from graphray.graph.node import Node
from graphray.graph.sources import VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from graphray.executors.cache import Entry
    from graphray.executors.cache.nodes import NodeCache
    from graphray.executors.core import Unit
    from graphray.executors.run import BaseRun

AHEAD_BYTES = 16_384 if sys.platform == "linux" else 4_096  # a message that fits into a pipe whose reader is busy
STARTS = 3  # times in a row that a worker may end before it says hello
KILLED_STARTS = 20  # the same where somebody kills them: that need not go on
START_AGAIN = 10.0  # seconds after which that is tried again, where others do the work meanwhile
LOOK = 0.5  # seconds between two looks at what is not needed any more, while nothing else happens
GRACE = 1.0  # seconds that a task has to notice that its run was cancelled, before its process is killed


class Loky(Executor):
    """Runs graphs on a pool of worker processes on this machine.

    Args:
        workers: how many; one per core by default.
        threads_per_task: threads of BLAS, OpenMP and XLA in each worker, 1 by default.
        resources: what this machine has for tasks that ask for it, such as `{"gpu": 2, "licence": 1}`; `gpu` and
            `memory` are what is found, where nothing is said of them.

    Raises:
        ValueError: a number below 1, or resources that make no sense.
    """

    name = "loky"
    shares_memory = False
    has_store = True

    def __init__(
        self,
        workers: int | None = None,
        *,
        threads_per_task: int | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for option, number in (("workers", workers), ("threads_per_task", threads_per_task)):
            if number is not None and (type(number) is not int or number < 1):
                raise ValueError(f"{option}= is a number, 1 or more, not {number!r}")
        self.workers = workers or cores()
        self._given = given(resources)
        self._core = Core(ahead=True, expected=self.workers, fits=True, gangs=True)
        self.threads_per_task = threads_per_task or 1
        self._threads_given = threads_per_task is not None  # else the user's own variables stand
        self._context = LokyContext()  # by name it may be that of the loky that joblib brings along
        self._selector = selectors.DefaultSelector()
        self._wake_in = self._wake_out = -1  # a pipe, once started
        self._processes: dict[str, Process] = {}
        self._numbered = 0
        self._false_starts = 0
        self._start_again = 0.0  # when it is tried again to start processes in place of those that would not
        self._mail = Mail(self)
        self._units: dict[int, Unit] = {}
        self._store: Registry | None = None
        self._pressure: Pressure | None = None
        self._spares_wanted = 0
        # What is to see which accelerators, and to join for which place, and has no process: that would not start.
        self._vacant: list[tuple[tuple[str, ...], int]] = []

    # ---- processes

    def start(self) -> list[str]:
        """Start the processes; each says when it is ready."""
        try:
            self._store = Registry()  # first: there may be no place for it
            self._pressure = Pressure(self, self._store, self._drop)
            self._wake_in, self._wake_out = os.pipe()
            os.set_blocking(self._wake_in, False)
            os.set_blocking(self._wake_out, False)
            self._selector.register(self._wake_in, selectors.EVENT_READ)
            self._fill(self.workers)
            self.post(MachineFound("", self.resources, self.workers))
        except BaseException:
            self.stop(wait=False)
            self._selector = selectors.DefaultSelector()  # it may be tried again
            raise
        return []

    def _fill(self, number: int) -> None:
        """Have so many processes for the workers' places, starting what is missing.

        Those that wait aside with accelerators that they see are for the tasks that ask for these.
        """
        while self._missing(number):
            self._spawn(*(self._vacant[-1] if self._vacant else ()))
            del self._vacant[-1:]

    def _refill(self, number: int) -> None:
        """The same in the middle of runs, which go on with the processes that there are if no more can be started."""
        try:
            self._fill(number)
        except OSError as error:  # the system has no more processes, say
            self._start_again = time.monotonic() + START_AGAIN
            if not self._processes:
                for job in list(self._runs):
                    self.post(JobClosed(job, error))

    def _lacks_one(self) -> bool:
        """Whether one of the workers' places is nobody's, nor kept for one that is starting."""
        taken = [p.joined or p.place is not None for p in self._processes.values()]
        return sum(taken) + len(self._vacant) < self.workers

    def _missing(self, number: int = 0) -> bool:
        """Whether there are fewer processes for the workers' places than there are to be."""
        there = [p.joined or not p.accelerators or p.place is not None for p in self._processes.values()]
        return bool(self._vacant) or sum(there) < (number or self.workers)

    def _spawn(self, accelerators: tuple[str, ...] = (), place: int | None = None) -> None:
        assert self._store is not None
        self._numbered += 1
        name = f"loky-{self._numbered}"
        environment, safe_path = self._environment(accelerators), SAFE_PATH in os.environ
        p = Process(
            name, self._mail.book(), self._context, self._store.paths, environment, safe_path, accelerators, place
        )
        self._processes[name] = p
        self._selector.register(p.data.fileno(), selectors.EVENT_READ, name)

    def _environment(self, accelerators: tuple[str, ...]) -> dict[str, str]:
        """What differs in a worker's environment.

        Its threads and accelerators; and a module beside the user may not be taken for one of Python's own while it
        starts.
        """
        given = self._threads_given
        variables = {v: str(self.threads_per_task) for v in threads.VARIABLES if given or v not in os.environ}
        return {**variables, **environment(accelerators), SAFE_PATH: "1"}

    def resources(self) -> Mapping[str, Any]:
        """What this machine has."""
        return find(self._given)

    def refit_worker(self, worker: str, accelerators: tuple[str, ...], fresh: bool, place: int) -> None:
        """Have another process take an idle worker's place: one that waits aside, or a new one."""
        p = self._processes.get(worker)
        if p is None:  # it has just died, of which the core is about to be told
            return
        p.joined = False
        if fresh and p.accelerators == accelerators:
            self._end_process(p)
        aside = [q for q in self._processes.values() if q.ready and not q.joined and q.place is None]
        found = next((q for q in aside if q.accelerators == accelerators and not (fresh and q.worn)), None)
        if found is not None:
            found.place = place
            self.post(self._join(found))
        else:
            self._spawn(accelerators, place)
        seen = {a for q in self._processes.values() if q.joined or q.place is not None for a in q.accelerators}
        for q in aside:
            if not q.joined and not seen.isdisjoint(q.accelerators):
                self._end_process(q)  # what it sees is another's, and it may hold memory there

    def _end_process(self, p: Process) -> None:
        """End a process that has nothing to do, for good."""
        self._selector.unregister(p.data.fileno())
        del self._processes[p.name]
        p.kill()
        p.wait()
        assert self._store is not None
        self._drop(self._store.worker_lost(p.name))
        p.close()

    def stop(self, wait: bool) -> None:
        """End the processes: idle ones by closing their pipes, busy ones (or all, not to wait) by SIGKILL."""
        for p in self._processes.values():
            if not wait or p.name in self._core.units:
                p.kill()
            else:
                p.control.close()
                p.data.close()
        deadline = time.monotonic() + PATIENCE
        try:
            for p in self._processes.values():
                p.process.join(max(0.0, deadline - time.monotonic()))
        finally:  # also after a Ctrl-C
            for p in self._processes.values():
                if p.process.exitcode is None:
                    p.kill()
                    p.process.join()
                p.close()
            self._processes.clear()
            if self._store is not None:
                self._store.close()
                self._store = None
            self._selector.close()
            wake_in, wake_out = self._wake_in, self._wake_out
            self._wake_in = self._wake_out = -1  # a late call must not write into what gets these numbers next
            if wake_in >= 0:
                os.close(wake_in)
                os.close(wake_out)

    def abandon(self, job: Job) -> None:
        """Kill the workers that still run tasks of an interrupted run."""
        for worker, unit in list(self._core.units.items()):
            p = self._processes.get(worker)
            if unit.job is job and p is not None:
                p.killed_for = job
                p.kill()

    # ---- units out

    def start_unit(self, unit: Unit) -> None:
        """Send a unit to its worker."""
        p = self._processes.get(unit.worker)
        if p is None:  # it has ended meanwhile, which the core is about to be told
            return
        self._units[unit.id] = unit
        timeout = unit.nodes[0]._task._options["timeout"]
        if timeout is not None:  # it is a unit of its own; its worker was idle, so it begins at once
            p.deadlines[unit.id] = Deadline(unit, time.monotonic() + timeout, late=True)
        if p.path != sys.path:  # before the unit: what is in it may be found there only
            p.path = list(sys.path)
            p.posted += 1
            with contextlib.suppress(OSError):
                p.data.send(("path", p.path))
        self._drop_outbox(p)  # what was in it has been recalled
        try:
            letter = self._encode(p, unit)
        except Exception as error:
            self._units.pop(unit.id)
            self.post(self._mail.refused(unit, error))
            return
        # A busy worker does not read. One small message waits in its pipe; more would stop us until it reads again, and
        # it might be waiting for us to read what it writes.
        if len(p.sent) > 1 or (p.sent and sum([size_of(f) for f in letter.frames]) > AHEAD_BYTES):
            p.outbox = letter
        else:
            self._send(p, letter)

    def _send(self, p: Process, letter: Letter) -> None:
        self._tell_of_segments(p)
        p.sent.append(letter)
        p.posted += 1
        letter.number = p.posted
        frames, letter.frames = letter.frames, []
        with contextlib.suppress(OSError):  # it is gone: the selector will say so
            p.data.send_frames(frames)

    def load(self, value: Any) -> Any:
        """A value, out of the store if it is in there."""
        return loaded(value) if type(value) not in ATOMS else value

    def load_all(self, values: Mapping[Node, Any]) -> Mapping[Node, Any]:
        """Values, out of the store if they are in there."""
        return {n: v if type(v) in ATOMS else loaded(v) for n, v in values.items()}

    def adopt(self, cache: NodeCache, entry: Entry, node: Node) -> Any:
        """A cached value; a large one stays in its file, which the workers map."""
        if entry.size < LEAST:
            return super().adopt(cache, entry, node)
        self._ensure_started()
        assert self._store is not None
        assert entry.cache is not None
        try:
            path = entry.hold()  # its own path may be another's by the time a worker opens it, or nobody's
        except OSError:
            return super().adopt(cache, entry, node)
        return self._store.foreign(path, entry.size, entry.table, entry.cache.release)

    def _tell_of_segments(self, p: Process) -> None:
        """Which segments are gone.

        Only around a unit: a busy worker may not come to read its pipe for long.
        """
        assert self._store is not None
        if p.drops:
            drops, p.drops = p.drops, []
            with contextlib.suppress(OSError):
                p.control.send(("drop", drops))

    def _collect(self) -> None:
        """Deal with what nobody refers to any more."""
        assert self._store is not None
        self._drop(self._store.collect())

    def _drop(self, drops: dict[str, list[str]]) -> None:
        for name, segments in drops.items():
            p = self._processes.get(name)
            if p is not None:
                p.drops += segments
                if not p.sent:
                    self._tell_of_segments(p)

    def _end(self, run: BaseRun, error: BaseException | None) -> None:
        super()._end(run, error)
        if self._store is not None:
            self._store.end_job(run.job)

    def _drop_outbox(self, p: Process) -> None:
        """The unit in the outbox is not to be sent: what was to come with it is not there."""
        letter, p.outbox = p.outbox, None
        if letter is not None:
            assert self._store is not None
            p.book.known.difference_update(letter.tasks)
            p.book.forget += letter.forget
            self._store.give_back(p.name, letter.free)

    def _encode(self, p: Process, unit: Unit) -> Letter:
        store = self._store
        assert store is not None
        assert self._pressure is not None
        self._collect()
        store.begin_letter()
        free = store.free_for(p.name)
        try:
            letter = self._mail.letter(
                unit,
                p.book,
                functools.partial(store.hold, unit.job),
                functools.partial(self._travelling, unit),
                free,
                self._pressure.room() if unit.grant is None or unit.grant.ticket is None else float("inf"),
            )
            frames = dumps(letter)
        except BaseException:
            store.give_back(p.name, free)
            raise
        store.end_letter(p.name)
        self._mail.sent(unit, p.book, letter)
        return Letter(unit.id, frames, [i for i, _ in letter.new_tasks], list(letter.forget), free)

    def _travelling(self, unit: Unit, node: Node, value: Any) -> Any:
        """What is sent in place of a value from outside."""
        kind, store = type(value), self._store
        assert store is not None
        if kind in ATOMS or kind is Stored:
            return value
        if kind is Failure:
            return Failed()
        if node._task is VALUE:
            return rewrite(value, lambda x: x if type(x) is Stored else store.hold(unit.job, node, x))
        put = store.put_large(value)
        if put is not value:  # from here on the books have that: it is written once, and goes with them
            unit.inputs[node] = put
            if node in unit.job.values:
                unit.job.values[node] = put
        return put

    def recall_unit(self, unit: Unit, cancelled: bool) -> None:
        """Ask for what a worker has not begun."""
        p = self._processes.get(unit.worker)
        if p is None:
            return
        if cancelled:  # a task may see that it is, and end
            p.deadlines[unit.id] = Deadline(unit, time.monotonic() + GRACE, late=False)
        if not cancelled and p.sent and p.sent[0].unit == unit.id and not marker.begun(p.marker, unit.id):
            self.post(UnitDelayed(unit))
            return
        with contextlib.suppress(OSError):
            p.control.send(("recall", unit.id, cancelled))

    # ---- news in

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it is awake, or closed
            os.write(self._wake_out, b"x")

    def next_events(self, timeout: float | None) -> list[Any]:
        """What the workers say, and what other threads post."""
        assert self._store is not None
        assert self._pressure is not None
        self._collect()
        tight = self._pressure.relieve()
        if tight != self._core.tight:
            self.post(MemoryTight(tight))
        events: list[Any] = self._drain()
        soon = self._kill_late()
        if soon is not None:
            timeout = soon if timeout is None else min(soon, timeout)
        if not self._store.empty:  # results may be let go of at any time, in other threads
            timeout = LOOK if timeout is None else min(LOOK, timeout)
        if events:
            timeout = 0
        found = self._selector.select(timeout)
        for key, _ in found:
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_in, 4096)
                events += self._drain()
            else:
                p = self._processes.get(key.data)
                event = self._receive(p) if p is not None else None
                if event is not None:
                    events.append(event)
        events += self._drain()
        if self._missing() and (self._runs or events):
            # Some would not start. A new run tries again at once, one that goes on without them now and then.
            new = any([type(event) is JobAdded for event in events])
            if new:
                self._false_starts = 0
            if new or time.monotonic() >= self._start_again:
                self._refill(self.workers)
        return events

    def _kill_late(self) -> float | None:
        """End the workers whose time is up; in how many seconds the next one's is."""
        soon: float | None = None
        now = time.monotonic()
        for p in self._processes.values():
            unit = self._core.units.get(p.name)
            deadline = p.deadlines.get(unit.id) if unit is not None and p.deadlines else None
            if deadline is None or deadline.passed:
                continue
            if deadline.late:
                began = marker.began(p.marker, deadline.unit.id)
                timeout = deadline.unit.nodes[0]._task._options["timeout"]
                deadline.at = (began if began is not None else now) + timeout
            if deadline.at <= now:
                deadline.passed = True
                p.kill()
            else:
                soon = min(deadline.at - now, soon if soon is not None else deadline.at - now)
        return soon

    def _drain(self) -> list[Any]:
        events = []
        try:
            while True:
                events.append(self._news.get_nowait())
        except queue.Empty:
            return events

    def _receive(self, p: Process) -> Event | None:
        try:
            frames = p.data.receive_frames()
        except (EOFError, OSError):
            return self._lost(p)
        try:
            message = loads(frames)
        except Exception as error:  # a value whose class is not here, say
            message = ("broken", None, pack_error(error))
        kind = message[0]
        if kind == "hello":
            p.ready = True
            self._false_starts = 0
            return self._join(p) if p.place is not None or self._lacks_one() else None  # else it is a spare
        if kind == "printed":
            unit = self._units.get(message[1])
            self.printed(unit.job if unit is not None else None, p.name, *message[2:])
            return None
        if kind == "kept":
            assert self._store is not None
            self._store.looked_at(message[1])
            return None
        if kind in ("done", "broken", "void"):
            letter = p.sent.popleft()  # answers come in the order of the units
            p.deadlines.pop(letter.unit, None)
            unit = self._units.get(letter.unit)
            if kind == "broken" and message[1] != "taken":
                p.book.known.difference_update(letter.tasks)  # it may have failed before it had read them
                p.book.forget += letter.forget
                if message[1] == "unread":
                    assert self._store is not None
                    self._store.give_back(p.name, letter.free)
                for later in (*p.sent, p.outbox):
                    if later is not None:
                        later.doubtful = True
            if p.outbox is not None:
                following, p.outbox = p.outbox, None
                self._send(p, following)
            elif not p.sent:
                self._tell_of_segments(p)
        else:
            unit = self._units.get(message[1])
        if unit is None or kind == "void":
            return None
        if kind == "emit":
            try:
                data = loads(message[3])
            except Exception as error:
                data = {"unreadable": repr(error)}
            self.emitted(unit.job, p.name, message[2], data)
            return None
        if kind == "recalled":
            if message[2] is None:
                if p.outbox is not None and p.outbox.unit == unit.id:
                    self._drop_outbox(p)
                p.deadlines.pop(unit.id, None)
                del self._units[unit.id], p.book.tables[unit.id]
                return UnitRecalled(unit, unit.nodes)
            return UnitRecalled(unit, [p.book.tables[unit.id][i] for i in message[2]])
        del self._units[unit.id]
        if kind == "broken":
            del p.book.tables[unit.id]
            if letter.doubtful and message[1] != "taken":  # what it needed may not have come with the one before
                return UnitDone(p.name, unit, {}, unit.nodes)
            return self._mail.broken(unit, unpack_error(message[2]))
        p.worn = message[2].worn
        return self._mail.done(unit, p.book, message[2], functools.partial(self._value, p))

    def _join(self, p: Process) -> WorkerJoined:
        """A process that is ready is there for the core."""
        place, p.place = p.place, None
        p.joined = True
        assert self._store is not None
        self._store.worker_joined(p.name)
        self.joined(p.name, p.pid)
        return WorkerJoined(p.name, "", self.resources, p.accelerators, place, p.worn)

    def _value(self, p: Process, value: Any) -> Any:
        """A value as it came, or its handle if it is in the store."""
        kind = type(value)
        if kind in ATOMS:
            return value
        if kind is Written:
            assert self._store is not None
            return self._store.adopt(p.name, value)
        return freeze(value)

    def _lost(self, p: Process) -> Event | None:
        """A worker's pipe has ended: it is dead, or as good as that. Another takes its place."""
        self._selector.unregister(p.data.fileno())
        del self._processes[p.name]
        code, memory = p.wait()
        unit = self._core.units.get(p.name)
        for held in (unit, self._core.queued.get(p.name)):
            if held is not None:
                self._units.pop(held.id, None)
        if unit is not None and (p.killed_for not in (None, unit.job) or not p.received(unit)):
            unit = None  # it was killed for another run's sake, or had died before
        running, inner = p.position(unit) if unit is not None else (None, "")
        deadline = p.deadlines.get(unit.id) if unit is not None else None
        late = deadline is not None and deadline.passed and deadline.late
        assert self._store is not None
        self._drop(self._store.worker_lost(p.name))
        p.close()
        if p.ready:
            self._spares_wanted = 1
            self._false_starts = 0
        else:
            self._false_starts += 1
            if self._false_starts >= (KILLED_STARTS if code is not None and code < 0 else STARTS):
                self._start_again = time.monotonic() + START_AGAIN
                self._leave_vacant(p)
                if not any([other.ready for other in self._processes.values()]):
                    self._give_up(code)
                return None  # those that are there go on without it
        self._leave_vacant(p)
        self._refill(self.workers + self._spares_wanted)
        if not p.joined:
            return None
        aside = [other for other in self._processes.values() if other.ready and not other.joined]
        spare = next((other for other in aside if not other.accelerators and other.place is None), None)
        if spare is not None and self._lacks_one():
            self.post(self._join(spare))
        recalled = deadline is not None and deadline.passed and not deadline.late
        return WorkerLost(p.name, code, signal_name(code), unit, running, inner, memory, late, recalled)

    def _leave_vacant(self, p: Process) -> None:
        """A process that was to take a place has not come to it: another is to."""
        if p.place is not None:
            self._vacant.append((p.accelerators, p.place))

    def _give_up(self, code: int | None) -> None:
        error = WorkerDied(
            f"worker processes end before they are ready (exit code {code}, {self._false_starts} times in a row); "
            "what they printed on stderr says why",
            exitcode=code,
        )
        for job in list(self._runs):
            self.post(JobClosed(job, error))
        # The others that are still about to start are of the same kind: the next run gets new ones.
        for p in [p for p in self._processes.values() if not p.ready]:
            self._leave_vacant(p)
            self._selector.unregister(p.data.fileno())
            del self._processes[p.name]
            p.kill()
            p.process.join()
            p.close()


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
