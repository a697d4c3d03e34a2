"""Units that run in the driver's own process: what an engine of threads does with one, start to end.

machine = begin(executor, unit)   what is to run it; the engine keeps it, to halt it if the unit is recalled
machine.run_unit(unit.budget)
executor.post(end(executor, unit, machine))
"""

from __future__ import annotations

import time

from graphray.executors.machine import Machine
from graphray.executors.protocol import UnitDone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from graphray.executors.base import Executor
    from graphray.executors.job import Unit
    from graphray.executors.placement import Ticket
    from graphray.graph.node import Node


def begin(executor: Executor, unit: Unit, delegates: bool = True) -> Machine:
    """The machine for a unit, loaded.

    Args:
        executor: the engine.
        unit: the unit.
        delegates: calls that failed are made again by others, after a while; else this machine waits for that.
    """
    job = unit.job
    machine = Machine(unit.worker, job.seed, job.collect)
    machine.emit = lambda node, data: executor.emitted(job, unit.worker, node.label, data)
    machine.tell = lambda again: executor.retried(job, again)
    machine.hungry = unit.hungry
    machine.delegates = delegates
    machine.attempts = {n: job.attempts[n] for n in unit.nodes if n in job.attempts} if job.attempts else {}
    machine.audit, machine.capsules, machine.cache = job.audit, job.capsules, job.cache
    if unit.grant is not None and unit.grant.ticket is not None:
        become_member(machine, unit.grant.ticket)
    machine.spans = [] if job.spans else None
    if job.cache is not None:
        machine.same = job.same
        marked = [(n, job.marks[n]) for n in (*unit.nodes, *unit.inputs) if n in job.marks]
        machine.seeded.update([n for n, mark in marked if mark & 1])
        machine.transient.update([n for n, mark in marked if mark & 2])
    machine.load(unit.nodes, unit.exports, unit.inputs)
    machine.began = time.time()
    return machine


def become_member(machine: Machine, ticket: Ticket) -> None:
    """Have a machine run a node as a member of a gang: its value is a part, not to be kept or compared as the whole."""
    from graphray.graph.gang import Gang

    machine.gang = Gang(*ticket)
    machine.cache = machine.audit = None


def end(executor: Executor, unit: Unit, machine: Machine, everything: bool = False) -> UnitDone:
    """What to tell the core of a unit that a machine has run, as far as it came.

    Args:
        executor: the engine.
        unit: the unit.
        machine: what `begin` gave.
        everything: hand over all values that the machine has, not only those that are needed outside.
    """
    failed = machine.failed
    if failed is not None:
        executor.failed(unit.job, *failed, machine.trail)
    for node, error in machine.raised:
        executor.failed(unit.job, node, error)
    left = machine.left() if failed is None else []
    values = machine.values if everything else machine.exported(unit.exports, left)
    if machine.cache is not None:
        _note_marks(unit, machine, [*values, *left])
    report = {"began": machine.began, "ended": time.time(), **spans(machine)}
    grown = machine.grown_and_done(unit.nodes, left)
    return UnitDone(
        unit.worker, unit, values, left, machine.awaiting(), failed, machine.spent, grown,
        again=machine.again, report=report,
    )  # fmt: skip


def spans(machine: Machine) -> dict[str, Any]:
    """When nodes ran, since the last time that was asked."""
    if not machine.spans:
        return {}
    epoch = time.time() - time.perf_counter()
    found = [(name, label, at + epoch, seconds, n) for name, label, at, seconds, n in machine.spans]
    machine.spans.clear()
    return {"spans": found}


def _note_marks(unit: Unit, machine: Machine, nodes: Iterable[Node]) -> None:
    """What the machine has learned about nodes that others will meet."""
    for node in nodes:
        mark = (node in machine.seeded) + 2 * (node in machine.transient)
        if mark:
            unit.job.marks[node] = mark
