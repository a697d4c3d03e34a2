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
import weakref

from loky.backend.context import LokyContext

from graphray.errors import Failure, WorkerDied
from graphray.executors import marker
from graphray.executors.base import Executor
from graphray.executors.core import (
    Again,
    Core,
    Event,
    Job,
    JobAdded,
    JobClosed,
    MemoryTight,
    UnitDelayed,
    UnitDone,
    UnitRecalled,
    WorkerJoined,
    WorkerLost,
)
from graphray.executors.frames import size_of
from graphray.executors.letters import Settings, UnitAnswer, UnitLetter
from graphray.executors.pressure import Pressure
from graphray.executors.process import PATIENCE, Deadline, Letter, Process, signal_name
from graphray.executors.store.registry import Registry, Stored, loaded
from graphray.executors.store.segments import LEAST, Written
from graphray.executors.wire import Failed, Names, dumps, dumps_whole, loads, pack_error, unpack_error
from graphray.executors.worker import SAFE_PATH
from graphray.graph.containers import ATOMS, freeze, rewrite
from graphray.graph.flat import number_tasks, pack, unpack
from graphray.graph.node import CONSTANT, Node
from graphray.graph.sources import VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray.executors.cache import Entry
    from graphray.executors.cache.nodes import NodeCache
    from graphray.executors.core import Unit
    from graphray.executors.run import BaseRun
    from graphray.graph.task import Task

AHEAD_BYTES = 16_384 if sys.platform == "linux" else 4_096  # a message that fits into a pipe whose reader is busy
STARTS = 3  # times in a row that a worker may end before it says hello
KILLED_STARTS = 20  # the same where somebody kills them: that need not go on
START_AGAIN = 10.0  # seconds after which that is tried again, where others do the work meanwhile
LOOK = 0.5  # seconds between two looks at what is not needed any more, while nothing else happens
GRACE = 1.0  # seconds that a task has to notice that its run was cancelled, before its process is killed


_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NPROC",  # XLA on CPU
)


class Loky(Executor):
    """Runs graphs on a pool of worker processes on this machine.

    Args:
        workers: how many; one per core by default.
        threads_per_task: threads of BLAS, OpenMP and XLA in each worker, 1 by default.

    Raises:
        ValueError: a number below 1.
    """

    name = "loky"
    shares_memory = False
    has_store = True

    def __init__(self, workers: int | None = None, *, threads_per_task: int | None = None) -> None:
        super().__init__()
        for option, number in (("workers", workers), ("threads_per_task", threads_per_task)):
            if number is not None and (type(number) is not int or number < 1):
                raise ValueError(f"{option}= is a number, 1 or more, not {number!r}")
        self.workers = workers or cores()
        self._core = Core(ahead=True, expected=self.workers)
        self.threads_per_task = threads_per_task or 1
        self._threads_given = threads_per_task is not None  # else the user's own variables stand
        self._context = LokyContext()  # by name it may be that of the loky that joblib brings along
        self._selector = selectors.DefaultSelector()
        self._wake_in = self._wake_out = -1  # a pipe, once started
        self._processes: dict[str, Process] = {}
        self._numbered = 0
        self._false_starts = 0
        self._start_again = 0.0  # when it is tried again to start processes in place of those that would not
        self._names = Names()
        self._bodies: weakref.WeakKeyDictionary[Task, bytes] = weakref.WeakKeyDictionary()
        # The run for which a task that travels by value was last looked at: a helper of it may be edited between two.
        self._looked_at: weakref.WeakKeyDictionary[Task, weakref.ref[Job]] = weakref.WeakKeyDictionary()
        self._known: weakref.WeakValueDictionary[int, Task] = weakref.WeakValueDictionary()
        self._units: dict[int, Unit] = {}
        self._store: Registry | None = None
        self._pressure: Pressure | None = None
        self._spares_wanted = 0

    # ---- processes

    def start(self) -> list[str]:
        """Start the processes; each says when it is ready."""
        self._store = Registry()  # first: there may be no place for it
        self._pressure = Pressure(self, self._store, self._drop)
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        for _ in range(self.workers):
            self._spawn()
        return []

    def _spawn(self) -> None:
        assert self._store is not None
        self._numbered += 1
        name = f"loky-{self._numbered}"
        p = Process(name, self._context, self._store.paths, self._environment(), SAFE_PATH in os.environ)
        self._processes[name] = p
        self._selector.register(p.data.fileno(), selectors.EVENT_READ, name)

    def _environment(self) -> dict[str, str]:
        """What differs in a worker's environment.

        Its threads; and a module beside the user may not be taken for one of Python's own while it starts.
        """
        given = self._threads_given
        threads = {v: str(self.threads_per_task) for v in _THREAD_VARIABLES if given or v not in os.environ}
        return {**threads, SAFE_PATH: "1"}

    def stop(self, wait: bool) -> None:
        """End the processes: idle ones by closing their pipes, busy ones (or all, not to wait) by SIGKILL."""
        for p in self._processes.values():
            if not wait or p.name in self._core.units:
                p.kill()
            else:
                p.control.close()
                p.data.close()
        deadline = time.monotonic() + PATIENCE
        for p in self._processes.values():
            p.process.join(max(0.0, deadline - time.monotonic()))
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
        if unit.nodes[0]._task.alone:  # it has a timeout; it was idle, so it begins at once
            timeout = unit.nodes[0]._task._options["timeout"]
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
            self._refuse(unit, error)
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
            p.known.difference_update(letter.tasks)
            p.forget += letter.forget
            self._store.give_back(p.name, letter.free)

    def _encode(self, p: Process, unit: Unit) -> Letter:
        nodes, job, store = unit.nodes, unit.job, self._store
        assert store is not None
        assert self._pressure is not None
        outside = list(unit.inputs)
        table = outside + nodes
        tasks, numbers = number_tasks(nodes)
        columns, index = pack(nodes, outside, functools.partial(store.hold, job))
        used = [self._number(t, job) for t in tasks]
        new = []
        for i, task in zip(used, tasks, strict=True):
            if i not in p.known:
                new.append((i, self._body(task)))
                if i not in self._known:
                    self._known[i] = task
                    weakref.finalize(task, _forget, weakref.ref(self), i).atexit = False
        forget, p.forget = p.forget, []
        attempts = {index[n]: job.attempts[n] for n in nodes if n in job.attempts} if job.attempts else {}
        self._collect()
        store.begin_letter()
        letter = UnitLetter(
            unit=unit.id,
            settings=_settings(job),
            hungry=unit.hungry,
            budget=unit.budget,
            new_tasks=new,
            forget=forget,
            tasks=used,
            numbers=numbers if len(used) > 1 else None,
            columns=columns,
            inputs=[self._travelling(unit, n, v) for n, v in list(unit.inputs.items())],
            digests=self._digests(unit, outside),
            marks={i: job.marks[n] for n, i in index.items() if n in job.marks} if job.marks else {},
            exports=None if unit.exports is nodes else [index[n] for n in unit.exports],
            attempts=attempts,
            free=(free := store.free_for(p.name)),
            room=self._pressure.room(),
        )
        try:
            frames = dumps(letter)
        except BaseException:
            store.give_back(p.name, free)
            raise
        store.end_letter(p.name)
        with_it = [i for i, _ in new]
        p.known.update(with_it)
        p.tables[unit.id] = table
        return Letter(unit.id, frames, with_it, forget, free)

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

    def _number(self, task: Task, job: Job) -> int:
        """The number of a task; another one where what travels by value is not what it was at the last run."""
        if task.importable:
            return self._names.number(task)
        looked_at = self._looked_at.get(task)
        if looked_at is None or looked_at() is not job:
            self._looked_at[task] = weakref.ref(job)
            before = self._bodies.pop(task, None)
            if before is not None and self._body(task) != before:
                return self._names.renew(task)
        return self._names.number(task)

    def _body(self, task: Task) -> bytes:
        body = self._bodies.get(task)
        if body is None:
            body = self._bodies[task] = dumps_whole(task)
        return body

    def _digests(self, unit: Unit, outside: list[Node]) -> list[bytes | str]:
        """Digests of what comes from outside, where a node of the unit derives a seed from them."""
        from graphray.graph.digest import tell, wanted

        if unit.job.cache is not None:
            return tell([*outside, *unit.nodes])
        if not outside or not any([n._task.seed or n._task.kind == "macro" for n in unit.nodes]):
            return []
        return tell(outside) if any(map(wanted, unit.nodes)) else []

    def _refuse(self, unit: Unit, error: Exception) -> None:
        """A unit that cannot be pickled: the first node that cannot, fails."""
        for node in unit.nodes:
            try:
                self._body(node._task)
                dumps((_plain(node), [unit.inputs[d] for d in node._deps if d in unit.inputs]))
            except Exception as reason:
                reason = reason.with_traceback(None)  # its frames hold this engine
                problem = TypeError(
                    f"an argument or the function of {node.label} cannot be sent to a worker "
                    f"(it cannot be pickled): {reason}"
                )
                self.failed(unit.job, node, problem)
                self._units.pop(unit.id)
                self.post(UnitDone(unit.worker, unit, {}, failed=(node, problem)))
                return
        self._units.pop(unit.id)
        self.post(UnitDone(unit.worker, unit, {}, failed=(unit.nodes[0], error.with_traceback(None))))

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
        if len(self._processes) < self.workers and (self._runs or events):
            # Some would not start. A new run tries again at once, one that goes on without them now and then.
            new = any([type(event) is JobAdded for event in events])
            if new:
                self._false_starts = 0
            if new or time.monotonic() >= self._start_again:
                while len(self._processes) < self.workers:
                    self._spawn()
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
            return self._join(p)
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
            if kind == "broken":
                p.known.difference_update(letter.tasks)  # it may have failed before it had read them
                p.forget += letter.forget
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
                del self._units[unit.id], p.tables[unit.id]
                return UnitRecalled(unit, unit.nodes)
            return UnitRecalled(unit, [p.tables[unit.id][i] for i in message[2]])
        del self._units[unit.id]
        table = p.tables.pop(unit.id)
        if kind == "broken" and letter.doubtful:
            return UnitDone(p.name, unit, {}, unit.nodes)
        if kind == "broken":
            return self._broken(p, unit, unpack_error(message[2]))
        return self._done(p, unit, table, message[2])

    def _join(self, p: Process) -> WorkerJoined | None:
        """A process is ready: for the core, or as a spare."""
        if sum([other.joined for other in self._processes.values()]) >= self.workers:
            return None
        p.joined = True
        assert self._store is not None
        self._store.worker_joined(p.name)
        self.joined(p.name, p.pid)
        return WorkerJoined(p.name)

    def _value(self, p: Process, value: Any) -> Any:
        """A value as it came, or its handle if it is in the store."""
        kind = type(value)
        if kind in ATOMS:
            return value
        if kind is Written:
            assert self._store is not None
            return self._store.adopt(p.name, value)
        return freeze(value)

    def _done(self, p: Process, unit: Unit, table: list[Node], answer: UnitAnswer) -> UnitDone:
        tallies = {}
        others: dict[str, tuple[float, float]] = {}  # of tasks that exist in the worker only
        for number, calls, seconds in answer.spent:
            task = self._known.get(number) if number > 0 else p.tasks.get(number)
            if task is not None:
                tallies[task] = (calls, seconds)
            elif number in answer.names:
                before = others.get(answer.names[number], (0, 0.0))
                others[answer.names[number]] = before[0] + calls, before[1] + seconds
        for place, packed in answer.raised:
            self.failed(unit.job, unit.nodes[place], unpack_error(packed))
        report = {
            "began": answer.began,
            "ended": answer.ended,
            "received": answer.read,
            "sent": answer.written,
            "spans": answer.spans,
            "others": others,
            "cached": (answer.hits, answer.stored, answer.stored_bytes),
        }
        done = UnitDone(p.name, unit, {}, spent=tallies, report=report, grown=answer.grown)
        if answer.failed is not None:
            position, packed, trail = answer.failed
            error = unpack_error(packed)
            node = unit.nodes[position]
            self.failed(unit.job, node, error, trail)
            done.failed = (node, error)
            return done
        if answer.rest is None:
            unit.job.marks.update({table[i]: mark for i, mark in answer.marks.items()})
            values = [v if type(v) in ATOMS else self._value(p, v) for v in answer.values]
            done.values = dict(zip(unit.exports, values, strict=True))
            return done
        rest = answer.rest
        stand_ins = [Node(VALUE, (), None, (), CONSTANT) for _ in range(rest.stand_ins)]
        table += stand_ins
        import pickle

        for number, task_body in rest.new_tasks:
            task = p.tasks[number] = pickle.loads(task_body)
        if rest.tasks:
            new = unpack([self._known[i] if i > 0 else p.tasks[i] for i in rest.tasks], rest.columns, table)
        else:
            new = []
        if rest.digests:
            from graphray.graph.digest import pin

            for node, digest in zip([*stand_ins, *new], rest.digests, strict=False):  # with a cache, of all
                pin(node, digest)
        known = {table[i]: self._value(p, v) for i, v in answer.values.items()}
        for i, packed, cause in answer.failures:
            node = table[i]
            origin = table[cause] if cause is not None else None
            elsewhere = unit.inputs.get(origin) if origin is not None else None
            if type(elsewhere) is Failure:
                known[node] = elsewhere.skipping(node)
            else:
                known[node] = Failure(unpack_error(packed), node, origin)
        done.values = known
        done.left = [table[i] for i in rest.left]
        unit.job.marks.update({table[i]: mark for i, mark in answer.marks.items()})
        done.awaiting = [(table[t], table[r]) for t, r in rest.awaiting]
        if answer.again is not None:
            place, times, delay, packed = answer.again
            done.again = Again(table[place], times, delay, unpack_error(packed))
        return done

    def _broken(self, p: Process, unit: Unit, error: BaseException) -> UnitDone:
        """A unit could not be read there, or its answer here: by whose fault shows when each node is alone."""
        if len(unit.nodes) > 1:
            return UnitDone(p.name, unit, {}, unit.nodes, apart=True)
        node = unit.nodes[0]
        error.add_note(f"graphray: an argument or the result of {node.label} could not be read by the other process")
        self.failed(unit.job, node, error)
        return UnitDone(p.name, unit, {}, failed=(node, error))

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
                if not any([other.ready for other in self._processes.values()]):
                    self._give_up(code)
                return None  # those that are there go on without it
        while len(self._processes) < self.workers + self._spares_wanted:
            self._spawn()
        if not p.joined:
            return None
        spare = next((other for other in self._processes.values() if other.ready and not other.joined), None)
        if spare is not None:
            joined = self._join(spare)
            if joined is not None:
                self.post(joined)
        return WorkerLost(p.name, code, signal_name(code), unit, running, inner, memory, late)

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
            self._selector.unregister(p.data.fileno())
            del self._processes[p.name]
            p.kill()
            p.process.join()
            p.close()


def _forget(executor: weakref.ref[Loky], number: int) -> None:
    """A task is gone: its workers need not keep it either."""
    loky = executor()
    for p in list(loky._processes.values()) if loky is not None else ():
        if number in p.known:
            p.known.discard(number)
            p.forget.append(number)


def _settings(job: Job) -> Settings:
    return Settings(
        seed=job.seed,
        collect=job.collect,
        spans=job.spans,
        cache=job.cache.settings if job.cache is not None else None,
        capsules=job.capsules,
        audit=job.audit,
    )


def _plain(node: Node) -> Any:
    """The arguments of a node without the nodes in them."""
    from graphray.graph.containers import rewrite

    return rewrite((node._args, node._kwargs), lambda x: None if type(x) is Node else x)


def cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1
