"""Mail: how an engine of processes or machines writes units to its workers, and reads what they answer.

A task travels to each worker once, and is a number from then on. What a worker knows is in its `Book`; what all of them
have in common, in the engine's `Mail`. How values travel is the engine's own affair.
"""

from __future__ import annotations

import weakref

from graphray.errors import Failure
from graphray.executors.letters import Settings, UnitLetter
from graphray.executors.protocol import Again, UnitDone
from graphray.executors.wire import Names, dumps, dumps_whole, unpack_error
from graphray.graph.containers import rewrite
from graphray.graph.flat import number_tasks, pack, unpack
from graphray.graph.node import CONSTANT, Node
from graphray.graph.sources import VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from graphray.executors.base import Executor
    from graphray.executors.core import Job, Unit
    from graphray.executors.letters import UnitAnswer
    from graphray.graph.task import Task


class Book:
    """What one worker knows.

    Attributes:
        known: numbers of the tasks that it has.
        tasks: tasks that it made itself, by its numbers.
        forget: numbers of tasks that it need not keep any more, to be told with its next unit.
        tables: of each unit that it has, the nodes by number.
    """

    def __init__(self) -> None:
        self.known: set[int] = set()
        self.tasks: dict[int, Task] = {}
        self.forget: list[int] = []
        self.tables: dict[int, list[Node]] = {}


class Mail:
    """Writes and reads for one engine.

    Args:
        executor: the engine, which is told of failures.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._names = Names()
        self._bodies: weakref.WeakKeyDictionary[Task, bytes] = weakref.WeakKeyDictionary()
        # The run for which a task that travels by value was last looked at: a helper of it may be edited between two.
        self._looked_at: weakref.WeakKeyDictionary[Task, weakref.ref[Job]] = weakref.WeakKeyDictionary()
        self._known: weakref.WeakValueDictionary[int, Task] = weakref.WeakValueDictionary()
        self._books: weakref.WeakSet[Book] = weakref.WeakSet()

    def book(self) -> Book:
        """The book of a new worker."""
        book = Book()
        self._books.add(book)
        return book

    # ---- out

    def letter(
        self,
        unit: Unit,
        book: Book,
        hold: Callable[[Node, Any], Any],
        put: Callable[[Node, Any], Any],
        free: Sequence[str] = (),
        room: float = float("inf"),
    ) -> UnitLetter:
        """A unit for the worker of a book, which is to be told by `sent` once the letter is on its way.

        Args:
            unit: the unit.
            book: its worker's.
            hold: what travels in place of an argument of a node.
            put: what travels in place of a node's value.
            free: see `UnitLetter`.
            room: see `UnitLetter`.

        Raises:
            Exception: something cannot be pickled.
        """
        nodes, job = unit.nodes, unit.job
        outside = list(unit.inputs)
        tasks, numbers = number_tasks(nodes)
        columns, index = pack(nodes, outside, hold)
        used = [self._number(t, job) for t in tasks]
        new = []
        for i, task in zip(used, tasks, strict=True):
            if i not in book.known:
                new.append((i, self._body(task)))
                if i not in self._known:
                    self._known[i] = task
                    weakref.finalize(task, _forget, weakref.ref(self), i).atexit = False
        return UnitLetter(
            unit=unit.id,
            settings=_settings(job),
            hungry=unit.hungry,
            budget=unit.budget,
            new_tasks=new,
            forget=list(book.forget),
            tasks=used,
            numbers=numbers if len(used) > 1 else None,
            columns=columns,
            inputs=[put(n, v) for n, v in list(unit.inputs.items())],
            digests=_digests(unit, outside),
            marks={i: job.marks[n] for n, i in index.items() if n in job.marks} if job.marks else {},
            exports=None if unit.exports is nodes else [index[n] for n in unit.exports],
            attempts={index[n]: job.attempts[n] for n in nodes if n in job.attempts} if job.attempts else {},
            free=free,
            room=room,
            ticket=unit.grant.ticket if unit.grant is not None else None,
        )

    def sent(self, unit: Unit, book: Book, letter: UnitLetter) -> None:
        """A letter is on its way."""
        del book.forget[: len(letter.forget)]
        book.known.update([i for i, _ in letter.new_tasks])
        book.tables[unit.id] = [*unit.inputs, *unit.nodes]

    def refused(self, unit: Unit, error: Exception) -> UnitDone:
        """What to tell the core of a unit that cannot be pickled: the first node that cannot, fails."""
        for node in unit.nodes:
            try:
                self._body(node._task)
                plain = rewrite((node._args, node._kwargs), lambda x: None if type(x) is Node else x)
                dumps((plain, [unit.inputs[d] for d in node._deps if d in unit.inputs]))
            except Exception as reason:
                reason = reason.with_traceback(None)  # its frames hold the engine
                problem = TypeError(
                    f"an argument or the function of {node.label} cannot be sent to a worker "
                    f"(it cannot be pickled): {reason}"
                )
                self._executor.failed(unit.job, node, problem)
                return UnitDone(unit.worker, unit, {}, failed=(node, problem))
        return UnitDone(unit.worker, unit, {}, failed=(unit.nodes[0], error.with_traceback(None)))

    def broken(self, unit: Unit, error: BaseException) -> UnitDone:
        """A unit could not be read there, or its answer here: by whose fault shows when each node is alone."""
        if len(unit.nodes) > 1:
            return UnitDone(unit.worker, unit, {}, unit.nodes, apart=True)
        node = unit.nodes[0]
        error.add_note(f"graphray: an argument or the result of {node.label} could not be read by the other process")
        self._executor.failed(unit.job, node, error)
        return UnitDone(unit.worker, unit, {}, failed=(node, error))

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

    # ---- in

    def done(self, unit: Unit, book: Book, answer: UnitAnswer, adopt: Callable[[Any], Any]) -> UnitDone:
        """What to tell the core of a unit that has been answered.

        Args:
            unit: the unit.
            book: its worker's.
            answer: what that says.
            adopt: gives a value, as it came, the form in which the engine keeps it.
        """
        table = book.tables.pop(unit.id)
        failed, job = self._executor.failed, unit.job
        for place, packed in answer.raised:
            failed(job, unit.nodes[place], unpack_error(packed))
        done = UnitDone(unit.worker, unit, {}, grown=answer.grown, worn=answer.worn)
        done.spent, others = self._tallies(book, answer)
        done.report = {
            "began": answer.began,
            "ended": answer.ended,
            "received": answer.read,
            "sent": answer.written,
            "spans": answer.spans,
            "others": others,
            "cached": (answer.hits, answer.stored, answer.stored_bytes),
        }
        if answer.failed is not None:
            position, packed, trail = answer.failed
            error = unpack_error(packed)
            node = unit.nodes[position]
            failed(job, node, error, trail)
            done.failed = (node, error)
            return done
        if answer.rest is None:
            job.marks.update({table[i]: mark for i, mark in answer.marks.items()})
            done.values = dict(zip(unit.exports, map(adopt, answer.values), strict=True))
            return done
        rest = answer.rest
        stand_ins = [Node(VALUE, (), None, (), CONSTANT) for _ in range(rest.stand_ins)]
        table += stand_ins
        import pickle

        for number, body in rest.new_tasks:
            book.tasks[number] = pickle.loads(body)
        if rest.tasks:
            tasks = [self._known[i] if i > 0 else book.tasks[i] for i in rest.tasks]
            new = unpack(tasks, rest.columns, table)
        else:
            new = []
        if rest.digests:
            from graphray.graph.digest import pin

            for node, digest in zip([*stand_ins, *new], rest.digests, strict=False):  # with a cache, of all
                pin(node, digest)
        known = {table[i]: adopt(v) for i, v in answer.values.items()}
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
        job.marks.update({table[i]: mark for i, mark in answer.marks.items()})
        done.awaiting = [(table[t], table[r]) for t, r in rest.awaiting]
        if answer.again is not None:
            place, times, delay, packed = answer.again
            done.again = Again(table[place], times, delay, unpack_error(packed))
        return done

    def _tallies(
        self, book: Book, answer: UnitAnswer
    ) -> tuple[dict[Task, tuple[float, float]], dict[str, tuple[float, float]]]:
        """Calls and seconds by task; and by the names of those that exist in the worker only."""
        tallies: dict[Task, tuple[float, float]] = {}
        others: dict[str, tuple[float, float]] = {}
        for number, calls, seconds in answer.spent:
            task = self._known.get(number) if number > 0 else book.tasks.get(number)
            if task is not None:
                tallies[task] = (calls, seconds)
            elif number in answer.names:
                before = others.get(answer.names[number], (0, 0.0))
                others[answer.names[number]] = before[0] + calls, before[1] + seconds
        return tallies, others


def _forget(mail: weakref.ref[Mail], number: int) -> None:
    """A task is gone: the workers need not keep it either."""
    one = mail()
    for book in list(one._books) if one is not None else ():
        if number in book.known:
            book.known.discard(number)
            book.forget.append(number)


def _settings(job: Job) -> Settings:
    return Settings(
        seed=job.seed,
        collect=job.collect,
        spans=job.spans,
        cache=job.cache.settings if job.cache is not None else None,
        capsules=job.capsules,
        audit=job.audit,
    )


def _digests(unit: Unit, outside: list[Node]) -> list[bytes | str]:
    """Digests of what comes from outside, where a node of the unit derives a seed from them."""
    from graphray.graph.digest import tell, wanted

    if unit.job.cache is not None:
        return tell([*outside, *unit.nodes])
    if not outside or not any([n._task.seed or n._task.kind == "macro" for n in unit.nodes]):
        return []
    return tell(outside) if any(map(wanted, unit.nodes)) else []
