"""The worker process: receives units, runs them, sends back what is needed of them.

Two pipes lead to the driver. On the first, units come and results go, both in the main thread. On the second come the
words that cannot wait until a task returns: a small thread listens there for a recall, and for the driver's end.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import sys
import threading
import time
import weakref

from graphray.errors import Failure, RemoteError
from graphray.executors import context, marker
from graphray.executors.failures import describe_call
from graphray.executors.frames import size_of
from graphray.executors.letters import Rest, UnitAnswer, UnitLetter
from graphray.executors.local import become_member
from graphray.executors.machine import Machine
from graphray.executors.prints import Lines
from graphray.executors.protocol import FRESH, USED_UP, WORN
from graphray.executors.store.segments import LEAST
from graphray.executors.store.workshop import Workshop
from graphray.executors.wire import Channel, Failed, Names, dumps, dumps_whole, loads, pack_error
from graphray.graph.containers import ATOMS, freeze
from graphray.graph.flat import pack, unpack
from graphray.graph.node import CONSTANT, Node
from graphray.graph.sources import VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from typing import Any

    from graphray.executors.cache.nodes import CacheSettings, NodeCache
    from graphray.graph.task import Task

SAFE_PATH = "PYTHONSAFEPATH"  # the working directory is not the first place where modules are looked for
GRACE = 0.5  # seconds that a busy worker has to notice that the driver is gone


def main(
    name: str,
    data: Connection,
    control: Connection,
    lifeline: Any,
    page: Any,
    paths: tuple[str, str],
    safe_path: bool,
) -> None:
    """The process's whole life; called by loky in the new process."""
    context.in_worker = True
    # Ctrl-C is the driver's to handle. Not SIG_IGN, which the processes that tasks start would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if not safe_path:
        os.environ.pop(SAFE_PATH, None)  # it was for the start only
    _end_with_the_driver(lifeline.detach())
    worker = Worker(name, Channel(data), Channel(control), _map(page), Workshop(name, paths))
    _keep_descriptors()
    if hasattr(os, "register_at_fork"):
        # A process that a task forks must not hold the pipes: by their end the driver learns of this one's.
        os.register_at_fork(after_in_child=worker.hang_up)
        # What it prints is not a task's: it goes where this process's own output would.
        os.register_at_fork(after_in_child=functools.partial(_print_to, sys.stdout, sys.stderr))
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        if stream is not None:
            setattr(sys, name, Lines(stream, functools.partial(worker.tell_lines, name)))
    worker.serve()


def _map(page: Any) -> memoryview:
    """The marker, in the file whose descriptor came from the driver."""
    fd = page.detach()
    try:
        return marker.map_page(fd)
    finally:
        os.close(fd)


def _print_to(stdout: Any, stderr: Any) -> None:
    """Have what is printed go to these streams, where it goes to the driver."""
    for name, stream in (("stdout", stdout), ("stderr", stderr)):
        if isinstance(getattr(sys, name), Lines):  # a task may have put another in its place
            setattr(sys, name, stream)


def _end_with_the_driver(lifeline: int) -> None:
    """Have the system end this process when the driver is gone: a thread of ours may have to wait for Python's lock.

    The driver holds the other end of this pipe and writes nothing: its end is the first thing to happen on it, of which
    the system tells by SIGIO. Where it does not (not on Linux), the listening thread does it as soon as it can.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _keep_descriptors() -> None:
    """No process that a task starts gets the pipes: by their end the driver learns of this process's end."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError):
                if int(name) > 2:
                    os.set_inheritable(int(name), False)


class Worker:
    """One worker process."""

    def __init__(self, name: str, data: Channel, control: Channel, page: memoryview, workshop: Workshop) -> None:
        self.name = name
        self.data = data
        self.control = control
        self.marker = page
        self.workshop = workshop
        self.tasks: dict[int, Task] = {}
        self.names = Names(step=-1)
        self.means: weakref.WeakKeyDictionary[Task, float] = weakref.WeakKeyDictionary()
        self.machine: Machine | None = None
        self.cache: NodeCache | None = None
        self.read = 0  # bytes that had been read from the store before the message in work
        self.taken = False  # all that the message in work speaks of is there
        self.unit = 0
        self.void: set[int] = set()  # units not to be begun (any more)
        self.claim = threading.Lock()  # a unit is either begun or void

    def hang_up(self) -> None:
        """Close the pipes, for good: their numbers will be those of other files."""
        for channel in (self.data, self.control):
            with contextlib.suppress(OSError):
                channel.close()

    def serve(self) -> None:
        """Run units until the driver closes the pipe."""
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self.data.send(("hello", os.getpid(), sys.version_info[:3]))
            while True:
                frames = self.data.receive_frames()
                self.marker[marker.RECEIVED] += 1
                self.read = self.workshop.read
                state = "unread"
                self.taken = False
                try:
                    message = loads(frames)
                    state = "read"
                    if type(message) is not UnitLetter:
                        sys.path[:] = message[1]
                        importlib.invalidate_caches()
                        continue
                    answer = self._run(message)
                except BaseException as error:  # a module that is not here, say
                    answer = dumps(("broken", "taken" if self.taken else state, pack_error(error)))
                del frames
                message = self.machine = None
                kept = self.workshop.end_unit()
                if kept:
                    self.data.send(("kept", kept))
                _flush()
                self.data.send_frames(answer)
        except (EOFError, OSError):  # the driver has closed the pipe, or is gone
            if self.cache is not None:
                self.cache.cache.close()

    def _listen(self) -> None:
        try:
            while True:
                kind, *words = self.control.receive()
                if kind == "drop":
                    self.workshop.drop(words[0])
                    continue
                unit, cancelled = words
                answer: Any = None
                with self.claim:
                    machine = self.machine if unit == self.unit else None
                    if machine is None:
                        self.void.add(unit)
                        if unit > self.unit:  # not begun
                            answer = ("recalled", unit, None)
                    else:
                        machine.cancelled |= cancelled
                        machine.halt = True
                        if not cancelled:
                            # The task that is running may take long: what has not begun goes back at once.
                            machine.recalled = machine.not_begun()
                            index = {n: i for i, n in enumerate(machine.table)}
                            answer = ("recalled", unit, [index[n] for n in machine.recalled if n in index])
                if answer is not None:
                    self.data.send(answer)
        except (EOFError, OSError):
            time.sleep(GRACE)
            while self.machine is None:  # the main thread notices by itself
                time.sleep(GRACE)
            os._exit(1)  # a task is running, and nobody waits for it any more

    def _run(self, letter: UnitLetter) -> list[Any]:
        unit = letter.unit
        with self.claim:
            begin = unit not in self.void
            if begin:
                self.unit = unit
        self.workshop.take_back(letter.free)
        for number in letter.forget:
            self.tasks.pop(number, None)
        import pickle

        for number, body in letter.new_tasks:
            task = self.tasks[number] = pickle.loads(body)
            self.names.learn(task, number)
        if not begin:
            return dumps(("void", unit))
        machine, nodes, exported = self._machine(letter)
        self.taken = True
        began = time.time()
        with self.claim:
            self.machine = machine
            machine.halt = unit in self.void
            self.void = {u for u in self.void if u > unit}
        machine.run_unit(letter.budget)
        with self.claim:
            self.machine = None
        for task, (calls, seconds) in machine.spent.items():
            self.means[task] = seconds / calls
        return self._answer(machine, nodes, letter.exports, exported, began)

    def _machine(self, letter: UnitLetter) -> tuple[Machine, list[Node], list[Node]]:
        """What is to run a unit; the unit's nodes, and those whose values are to go back."""
        tasks, inputs, settings = self.tasks, letter.inputs, letter.settings
        table: list[Node] = [Node(VALUE, (), None, (), CONSTANT) for _ in inputs]
        given = {n: v if type(v) in ATOMS else freeze(v) for n, v in zip(table, inputs, strict=True)}
        if settings.collect:
            elsewhere = RemoteError("it failed elsewhere")
            given.update([(n, Failure(elsewhere, n)) for n, v in given.items() if type(v) is Failed])
        used = [tasks[i] for i in letter.tasks]
        numbers, columns = letter.numbers, letter.columns
        nodes = unpack([used[i] for i in numbers] if numbers else used * len(columns[0]), columns, table)
        if letter.digests:
            from graphray.graph.digest import pin

            for node, digest in zip(table, letter.digests, strict=False):  # of the inputs, or of all
                pin(node, digest)
        exported = nodes if letter.exports is None else [table[i] for i in letter.exports]
        machine = Machine(self.name, settings.seed, settings.collect)
        machine.delegates = True
        machine.emit = self._emit
        machine.means = self.means
        machine.hungry = letter.hungry
        machine.marker = self.marker
        machine.table = table
        if settings.cache is not None:
            machine.cache = self._cache(settings.cache, settings.seed)
            machine.seeded.update([table[i] for i, mark in letter.marks.items() if mark & 1])
            machine.transient.update([table[i] for i, mark in letter.marks.items() if mark & 2])
        if letter.attempts:
            machine.attempts = {table[i]: times for i, times in letter.attempts.items()}
        machine.audit = settings.audit
        machine.capsules = settings.capsules
        machine.room = letter.room
        machine.spans = [] if settings.spans else None
        if letter.ticket is not None:
            become_member(machine, letter.ticket)
        machine.load(nodes, exported, given)
        marker.begin(self.marker, letter.unit)
        return machine, nodes, exported

    def _cache(self, settings: CacheSettings, seed: int) -> NodeCache:
        """A run's cache; the last one is kept, as runs come in many units."""
        if self.cache is None or (self.cache.settings, self.cache.seed) != (settings, seed):
            from graphray.executors.cache.nodes import NodeCache

            self.cache = NodeCache.of(settings, seed)
        self.cache.hits = self.cache.stored = self.cache.bytes = 0
        return self.cache

    def _answer(
        self, machine: Machine, nodes: list[Node], exports: Any, exported: list[Node], began: float
    ) -> list[Any]:
        table = machine.table
        ended = time.time()
        left = machine.left() if machine.failed is None else []
        spent = [(self.names.number(t), c, s) for t, (c, s) in machine.spent.items()]
        names = {self.names.number(t): t.name for t in machine.spent if self.names.number(t) < 0}
        answer = UnitAnswer(
            self.unit, spent=spent, names=names, began=began, ended=ended, read=self.workshop.read - self.read,
            worn=_worn(),
        )  # fmt: skip
        if machine.raised:
            place = {n: i for i, n in enumerate(nodes)}
            raised = [(place[n], pack_error(e)) for n, e in machine.raised if n in place and n not in machine.values]
            answer = answer._replace(raised=raised)
        if machine.spans:
            epoch = ended - time.perf_counter()
            answer = answer._replace(spans=[(name, label, at + epoch, s, n) for name, label, at, s, n in machine.spans])
        if machine.failed is not None:
            node, error = machine.failed
            answer = answer._replace(failed=(nodes.index(node), pack_error(error), machine.trail))
            return dumps(("done", self.unit, answer))
        values = machine.values
        try:
            if left or machine.failures:
                body, rest, index = self._rest(machine, table, exported, left)
                answer = answer._replace(values=body, rest=rest, failures=self._failures(machine, index))
                answer = answer._replace(marks=machine.marks(index))
                if machine.again is not None:
                    again = machine.again
                    packed = index[again.node], again.failures, again.delay, pack_error(again.error)
                    answer = answer._replace(again=packed)
            else:
                answer = answer._replace(values=[values[n] for n in exported])
                if machine.cache is not None:
                    answer = answer._replace(marks=machine.marks({n: i for i, n in enumerate(table)}))
            if machine.cache is not None:
                kept = machine.cache
                answer = answer._replace(hits=kept.hits, stored=kept.stored, stored_bytes=kept.bytes)
            answer = answer._replace(grown=machine.grown_and_done(table, left))
            return self._dump(answer)
        except Exception as error:
            if machine.grown and not machine.cancelled and not set(left).issubset(machine.recalled):
                # What a task returned may be of this process only: then it is run here.
                with self.claim:
                    machine.go_on()
                    self.machine = machine
                machine.run()
                with self.claim:
                    self.machine = None
                return self._answer(machine, nodes, exports, exported, began)
            return self._unpicklable(machine, nodes, exported, error, answer)

    def _dump(self, answer: UnitAnswer) -> list[Any]:
        """An answer to be sent, the large ones among its values in the store."""
        frames = dumps(("done", self.unit, answer))
        if max(map(size_of, frames)) < LEAST:
            return frames
        values, workshop = answer.values, self.workshop
        before = workshop.written
        if type(values) is dict:
            values = dict(zip(values, workshop.put_values(list(values.values())), strict=True))
        else:
            values = workshop.put_values(values)
        return dumps(("done", self.unit, answer._replace(values=values, written=workshop.written - before)))

    def _rest(
        self, machine: Machine, table: list[Node], exported: list[Node], left: list[Node]
    ) -> tuple[Any, Any, dict[Node, int]]:
        """A unit that is not done: values by number, the nodes that are left (new ones as columns), and the numbers."""
        awaiting = machine.awaiting()
        values = machine.exported(exported, left)
        # After the driver's numbers come those of nodes it does not know: done ones whose value is needed and ones that
        # wait for another (as stand-ins), then ones not begun (as columns).
        known = set(table)
        stand_ins = [n for n in [*values, *[t for t, _ in awaiting]] if n not in known]
        known.update(stand_ins)
        new = [n for n in left if n not in known]
        digests: list[bytes | str] = []
        if machine.cache is not None:
            from graphray.graph.digest import tell

            digests = tell([*stand_ins, *new])
        elif stand_ins and any([n._task.seed or n._task.kind == "macro" for n in new]):
            from graphray.graph.digest import tell, wanted

            if any(map(wanted, new)):
                digests = tell(stand_ins)
        columns, index = pack(new, table + stand_ins)
        numbers, bodies = self._name_tasks(new)
        body = {index[n]: v for n, v in values.items() if type(v) is not Failure}
        rest = Rest(
            len(stand_ins),
            digests,
            bodies,
            numbers,
            columns,
            [index[n] for n in left],
            [(index[t], index[r]) for t, r in awaiting],
        )
        return body, rest, index

    def _name_tasks(self, nodes: list[Node]) -> tuple[list[int], list[tuple[int, bytes]]]:
        numbers = []
        bodies = []
        for n in nodes:
            number = self.names.number(n._task)
            if number not in self.tasks:
                self.tasks[number] = n._task
                bodies.append((number, dumps_whole(n._task)))
            numbers.append(number)
        return numbers, bodies

    def _failures(self, machine: Machine, index: dict[Node, int]) -> list[Any]:
        """Failures under `on_error="collect"`: which node, the error, and the node that is the cause."""
        return [
            (
                index[n],
                pack_error(v.error),
                index.get(v.skipped_because) if v.skipped_because is not None else None,
            )
            for n, v in machine.values.items()
            if type(v) is Failure and n in index and n not in machine.given
        ]

    def _unpicklable(
        self, machine: Machine, nodes: list[Node], exported: list[Node], error: Exception, answer: UnitAnswer
    ) -> list[Any]:
        """Some value cannot be sent: find which, and let that node fail."""
        index = {n: i for i, n in enumerate(nodes)}
        for node, value in machine.values.items():
            if node in machine.given:
                continue
            try:
                dumps(value)
            except Exception as reason:
                kind = type(value)
                problem = TypeError(
                    f"the result of {node.label}, a {kind.__module__}.{kind.__qualname__}, cannot be sent from the "
                    f"worker (it cannot be pickled): {reason}"
                )
                describe_call(problem, node, None, self.name)
                failed: Any = index.get(machine.outermost(node), 0), pack_error(problem), ()
                return dumps(("done", self.unit, UnitAnswer(self.unit, spent=answer.spent, failed=failed)))
        raise error

    def tell_lines(self, stream: str, text: str) -> None:
        """Something was printed, most likely by the task that is running."""
        machine = self.machine
        node = machine.node if machine is not None else None
        with contextlib.suppress(OSError):  # the driver is gone
            self.data.send(("printed", self.unit, node.label if node is not None else "", stream, text))

    def _emit(self, node: Node, data: dict[str, Any]) -> None:
        # Pickled apart: what cannot be read over there must not take the message with it.
        frames = [bytes(f) for f in dumps(data)]
        self.data.send(("emit", self.unit, node.label, frames))


def _worn() -> int:
    """What this process is still fit for, now that it has run something."""
    distributed = sys.modules.get("jax.distributed")
    if distributed is None:
        return FRESH
    # Once JAX has joined others its devices are not its own any more, and it ends the process when they do.
    return USED_UP if distributed.is_initialized() else WORN


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Lines):
            stream.end()
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
