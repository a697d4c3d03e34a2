"""The runner: runs units in the process that they have come to, and says what is needed of them elsewhere.

A worker of a pool has one, which it feeds from a pipe (`worker.py`), and so has a seat on a cluster (`dask/seat.py`).
"""

from __future__ import annotations

import sys
import threading
import time
import weakref

from graphray.errors import Failure, RemoteError
from graphray.executors import marker
from graphray.executors.failures import describe_call
from graphray.executors.frames import size_of
from graphray.executors.letters import Rest, UnitAnswer
from graphray.executors.local import become_member
from graphray.executors.machine import Machine
from graphray.executors.protocol import FRESH, USED_UP, WORN
from graphray.executors.store.segments import LEAST
from graphray.executors.wire import Failed, Names, dumps, dumps_whole, pack_error
from graphray.graph.containers import ATOMS, freeze
from graphray.graph.flat import pack, unpack
from graphray.graph.node import CONSTANT, Node
from graphray.graph.sources import VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from graphray.executors.cache.nodes import CacheSettings, NodeCache
    from graphray.executors.letters import UnitLetter
    from graphray.graph.task import Task

    class Store(Protocol):
        """Where a runner puts large results; `read` and `written` are bytes so far."""

        read: int
        written: int

        def take_back(self, names: Iterable[str]) -> None:
            """What it has put there under these names is not needed any more."""

        def put_values(self, values: list[Any]) -> list[Any]:
            """Values with something that stands for them in place of the large ones."""


class Runner:
    """Runs units, one at a time.

    Args:
        name: the worker's, as the core knows it.
        store: where large results go.
        page: the marker, see `marker.py`.
        emit: called with a node and the data that its task sends while it runs.

    Attributes:
        unit: the number of the unit in work, or of the last one.
        machine: what runs it; None while nothing does.
        taken: all that the letter in work speaks of is there.
    """

    def __init__(self, name: str, store: Store, page: memoryview, emit: Callable[[Node, dict[str, Any]], None]) -> None:
        self.name = name
        self.store = store
        self.marker = page
        self.unit = 0
        self.machine: Machine | None = None
        self.taken = False
        self.cache: NodeCache | None = None
        self._emit = emit
        self._tasks: dict[int, Task] = {}
        self._names = Names(step=-1)
        self._means: weakref.WeakKeyDictionary[Task, float] = weakref.WeakKeyDictionary()
        self._read = 0  # bytes that had been read from the store before the letter in work
        self._void: set[int] = set()  # units not to be begun (any more)
        self._claim = threading.Lock()  # a unit is either begun or void

    @property
    def label(self) -> str:
        """What the node in work is called; empty if there is none."""
        machine = self.machine
        node = machine.node if machine is not None else None
        return node.label if node is not None else ""

    def expect(self) -> None:
        """A letter is about to be read."""
        self._read = self.store.read
        self.taken = False

    def recall(self, unit: int, cancelled: bool) -> list[int] | bool | None:
        """Begin no further node of a unit; called by another thread than that which runs it.

        Returns:
            The nodes that are not begun, by number. None: none is, nor will be. True: there is nothing to be told, as
            its answer will tell it, or has.
        """
        with self._claim:
            machine = self.machine if unit == self.unit else None
            if machine is None:
                self._void.add(unit)
                return None if unit > self.unit else True
            machine.cancelled |= cancelled
            machine.halt = True
            if cancelled:
                return True
            # The task that is running may take long: what has not begun goes back at once.
            machine.recalled = machine.not_begun()
            index = {n: i for i, n in enumerate(machine.table)}
            return [index[n] for n in machine.recalled if n in index]

    def run(self, letter: UnitLetter) -> list[Any]:
        """Run a unit; the frames of the answer.

        Raises:
            BaseException: it, or its answer, cannot be read or written.
        """
        unit = letter.unit
        with self._claim:
            begin = unit not in self._void
            if begin:
                self.unit = unit
        self.store.take_back(letter.free)
        for number in letter.forget:
            self._tasks.pop(number, None)
        import pickle

        for number, body in letter.new_tasks:
            task = self._tasks[number] = pickle.loads(body)
            self._names.learn(task, number)
        if not begin:
            return dumps(("void", unit))
        machine, nodes, exported = self._machine(letter)
        self.taken = True
        began = time.time()
        with self._claim:
            self.machine = machine
            machine.halt = unit in self._void
            self._void = {u for u in self._void if u > unit}
        machine.run_unit(letter.budget)
        with self._claim:
            self.machine = None
        for task, (calls, seconds) in machine.spent.items():
            self._means[task] = seconds / calls
        return self._answer(machine, nodes, letter.exports, exported, began)

    def _machine(self, letter: UnitLetter) -> tuple[Machine, list[Node], list[Node]]:
        """What is to run a unit; the unit's nodes, and those whose values are to go back."""
        tasks, inputs, settings = self._tasks, letter.inputs, letter.settings
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
        machine.means = self._means
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
        spent = [(self._names.number(t), c, s) for t, (c, s) in machine.spent.items()]
        names = {self._names.number(t): t.name for t in machine.spent if self._names.number(t) < 0}
        answer = UnitAnswer(
            self.unit, spent=spent, names=names, began=began, ended=ended, read=self.store.read - self._read,
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
                with self._claim:
                    machine.go_on()
                    self.machine = machine
                machine.run()
                with self._claim:
                    self.machine = None
                return self._answer(machine, nodes, exports, exported, began)
            return self._unpicklable(machine, nodes, exported, error, answer)

    def _dump(self, answer: UnitAnswer) -> list[Any]:
        """An answer to be sent, the large ones among its values in the store."""
        frames = dumps(("done", self.unit, answer))
        if max(map(size_of, frames)) < LEAST:
            return frames
        values, store = answer.values, self.store
        before = store.written
        if type(values) is dict:
            values = dict(zip(values, store.put_values(list(values.values())), strict=True))
        else:
            values = store.put_values(values)
        return dumps(("done", self.unit, answer._replace(values=values, written=store.written - before)))

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
            number = self._names.number(n._task)
            if number not in self._tasks:
                self._tasks[number] = n._task
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


def _worn() -> int:
    """What this process is still fit for, now that it has run something."""
    distributed = sys.modules.get("jax.distributed")
    if distributed is None:
        return FRESH
    # Once JAX has joined others its devices are not its own any more, and it ends the process when they do.
    return USED_UP if distributed.is_initialized() else WORN
