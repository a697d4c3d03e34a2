"""Rebuild: a job's books anew, after values that were done and still needed are gone.

What is to be done follows from what is wanted, what is known, and what is being made right now. So the books are not
mended but made again, from the outputs down: a node whose value is there needs nothing, one that is in a worker's hands
is waited for, everything else that is met is to be run, also if that has happened before.

A task that has returned other nodes is not run again as long as what these still need can be had. Where it cannot,
since part of it was a value that only the worker knew how to make, the task is run again and returns them anew.
"""

from __future__ import annotations

from graphray.errors import Failure, WorkerDied
from graphray.graph.containers import ATOMS
from graphray.graph.sources import VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from graphray.executors.job import Job, Unit
    from graphray.graph.node import Node


def rebuild(
    job: Job, units: Sequence[Unit], lost: Callable[[Any], bool], withdraw: Callable[[Job], None]
) -> list[Unit]:
    """Plan again what the lost values call for.

    Args:
        job: its books.
        units: those of its units that workers have.
        lost: says of a value whether it is gone.
        withdraw: takes back what waits for resources: it is ready once more.

    Returns:
        The units that are void: what they give does not count any more.
    """
    gone = [n for n, v in job.values.items() if type(v) not in ATOMS and _holds(v, lost)]
    _let_go_of_held(job, lost)
    if not gone:
        return []
    withdraw(job)
    for node in gone:
        del job.values[node]
    void = [u for u in units if not u.void and any(_holds(v, lost) for v in _given(u).values())]
    while True:
        walk = _Walk(job, [u for u in units if u not in void and not u.void])
        walk.from_outputs()
        if walk.short is not None:  # it makes a value that others need and keeps it to itself
            void.append(walk.short)
        elif not walk.give_up_expansions():
            break
    _plan(job, walk)
    parties = {u.grant.party for u in void if u.grant is not None}
    return [u for u in units if u in void or (u.grant is not None and u.grant.party in parties)]


def _given(unit: Unit) -> dict[Node, Any]:
    """The values that a unit has from outside; of a gang, all members have them."""
    return unit.grant.party.inputs if unit.grant is not None else unit.inputs


def _holds(value: Any, lost: Callable[[Any], bool]) -> bool:
    from graphray.graph.containers import rewrite

    found = False

    def note(x: Any) -> Any:
        nonlocal found
        found = found or lost(x)
        return x

    rewrite(value, note)
    return found


def _let_go_of_held(job: Job, lost: Callable[[Any], bool]) -> None:
    """Results of a growing run that its user holds: how they were made is not known any more."""
    if job.growing:
        for handle, value in job.held.items():
            if type(value) not in ATOMS and _holds(value, lost):
                job.held[handle] = Failure(WorkerDied("this result was lost with the worker that had it"), handle)


class _Walk:
    """From what is wanted down to what is known.

    Attributes:
        order: the nodes to be run, each after what it needs.
        waited: nodes that ran, and have their value from another that is on its way.
        short: a unit that has to be void.
    """

    def __init__(self, job: Job, units: Sequence[Unit]) -> None:
        self.job = job
        self.units = units
        self.flying = {n: u for u in units for n in u.nodes if n not in (u.recalled or ())}
        self.inner = {target: node for node, targets in job.awaiting.items() for target in targets}
        self.order: list[Node] = []
        self.waited: list[Node] = []
        self.short: Unit | None = None
        self.hopeless: set[Node] = set()  # cannot be made: only a worker knew how

    def from_outputs(self) -> None:
        """Visit all that is needed."""
        job = self.job
        seen: set[Node] = set()
        stack = [n for n in job.wanted if n not in job.values]
        while stack:
            node = stack[-1]
            if job.growing and node not in job.values and node in job.held:
                job.values[node] = job.held[node]
            if node in job.values or node in seen:
                stack.pop()
                continue
            unit = self.flying.get(node)
            if unit is not None:
                if unit.exports is not unit.nodes and node not in unit.exports:
                    self.short = unit
                    return
                seen.add(node)
                stack.pop()
                continue
            needs = (self.inner[node],) if node in self.inner else node._deps
            further = [d for d in needs if d not in job.values and d not in seen]
            if further:
                stack += further
                continue
            stack.pop()
            seen.add(node)
            if (node._task is VALUE and not node._args) or any([d in self.hopeless for d in needs]):
                self.hopeless.add(node)
            if node in self.inner:
                self.waited.append(node)
            else:
                self.order.append(node)

    def give_up_expansions(self) -> bool:
        """Have tasks run again whose returned nodes cannot be made any more; whether there were any."""
        job = self.job
        again = [t for t in self.waited if t in self.hopeless]
        # Of several, one in the other, the outermost alone is known to be of the graph; its run brings the others.
        for target in again:
            node = self.inner[target]
            job.awaiting[node].remove(target)
            if not job.awaiting[node]:
                del job.awaiting[node]
            job.ran.discard(target)
        return bool(again)


def _plan(job: Job, walk: _Walk) -> None:
    values = job.values
    job.waiting, job.consumers, job.uses, job.ready = {}, {}, {}, []
    flying = set(walk.flying)
    needed = {*walk.order, *walk.waited}
    job.delayed = {n for n in job.delayed & needed if all([d in values for d in n._deps])}  # others have to wait anyway
    job.alone = {n for n in needed if n in job.alone or job.attempts.get(n, (0, 0))[1]}  # as after a worker's death
    job.ran = {n for n in job.ran if n in needed}
    job.awaiting = {
        inner: kept
        for inner, targets in job.awaiting.items()
        if (kept := [t for t in targets if t in needed or t in flying])
    }
    for unit in walk.units:
        for node in unit.nodes:
            if node in flying and walk.flying[node] is unit:  # once for a gang
                for d in node._deps:
                    if d in _given(unit):
                        job.uses[d] = job.uses.get(d, 0) + 1
                    else:  # made in the unit; should that hand back the node, it waits for that
                        job.consumers.setdefault(d, []).append(node)
    for node in [n for n in values if n not in job.wanted]:
        job.uses.setdefault(node, 0)
    job.missing = sum([n not in values for n in job.wanted])
    total = job.total
    job.planned = {*flying, *walk.waited} if job.growing or job.shared else set()
    job.plan(walk.order)
    for node in [n for n, uses in job.uses.items() if not uses]:
        del job.uses[node]
        if node not in job.wanted:
            values.pop(node, None)
    job.total = max(total, len(walk.order) + len(walk.waited) + len(flying) + len(values))
    job.done = max(0, job.total - len(walk.order) - len(walk.waited) - len(flying))
