"""The scheduling core: a state machine, `handle(event) -> [instruction]`, without threads, processes or clocks.

    engine ── event ──▶ Core.handle ── instructions ──▶ engine

An engine tells what happened (`WorkerJoined`, `JobAdded`, `UnitDone`, …) and does what it is told (`Run`, `Recall`,
`Finished`, …). Time enters as a number in the events. All policy is here, and can be tested without an engine.

Work is handed out in *units*: a few ready nodes and what only they feed, sized so that a unit takes some tens of
milliseconds, by what calls of its tasks have taken so far. What stays inside a unit never leaves its worker. A unit has
a time budget; what it has not begun when that is spent comes back, so a wrong guess costs little.
"""

from __future__ import annotations

import heapq
import weakref
from itertools import count

from graphray.errors import Cancelled, Failure, TaskTimeout, WorkerDied
from graphray.executors import gangs
from graphray.executors.job import Job, Unit
from graphray.executors.placement import Placement
from graphray.executors.protocol import (
    FRESH,
    USED_UP,
    WORN,
    Again,
    Done,
    Event,
    Finished,
    GivenUp,
    Instruction,
    JobAdded,
    JobClosed,
    MachineFound,
    MemoryTight,
    NodesAdded,
    Recall,
    Refit,
    Released,
    Retry,
    Run,
    RunTogether,
    Tick,
    UnitDelayed,
    UnitDone,
    UnitRecalled,
    ValuesLost,
    WorkerJoined,
    WorkerLeaves,
    WorkerLost,
    WorkersExpected,
)
from graphray.executors.retry import backoff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from graphray.executors.cache.nodes import Plan
    from graphray.graph.node import Node
    from graphray.graph.task import Task

__all__ = [
    "FRESH",
    "USED_UP",
    "WORN",
    "Again",
    "Core",
    "Done",
    "Event",
    "Finished",
    "GivenUp",
    "Instruction",
    "Job",
    "JobAdded",
    "JobClosed",
    "MachineFound",
    "MemoryTight",
    "NodesAdded",
    "Recall",
    "Refit",
    "Released",
    "Retry",
    "Run",
    "RunTogether",
    "Tick",
    "Unit",
    "UnitDelayed",
    "UnitDone",
    "UnitRecalled",
    "ValuesLost",
    "WorkerJoined",
    "WorkerLeaves",
    "WorkerLost",
    "WorkersExpected",
    "cancelled",
]

BUDGET = 0.05  # seconds of work in a unit, at most
LEAST = 1e-3  # seconds of work that a unit is worth; below this the trip costs more
PROBE = 8  # nodes of a task never seen that go into one unit
PROBE_BUDGET = 5e-3  # seconds
OVERDUE = 0.02  # seconds over its budget after which what a unit has not begun is recalled, if somebody is idle
LARGEST = 20_000  # nodes in a unit
HOMES = 10_000  # `near` keys remembered
DEATHS = 3  # workers that a node may take with it before it fails; it is run alone after the first
AHEAD = 4  # units' worth of ready work per worker, above which units are given out ahead


class Core:
    """The state of an engine's scheduling; see the module's text.

    Args:
        sequential: there is one worker, in the driver's own thread, and no job grows. Then the order is all there is
            to decide, and a unit is everything that is wanted.
        ahead: give a busy worker its next unit already, while there is plenty; for engines where the way to a worker
            takes time.
        expected: how many workers there will be. What comes first leaves the others their share.
        fits: a worker sees only the accelerators that it was started with, and the engine understands `Refit`.
        gangs: the workers can run units that wait for each other.
    """

    def __init__(
        self,
        sequential: bool = False,
        ahead: bool = False,
        expected: int = 1,
        fits: bool = False,
        gangs: bool = False,
    ) -> None:
        self.sequential = sequential
        self.ahead = ahead
        self.expected = expected
        self.jobs: list[Job] = []
        self.workers: set[str] = set()
        self.idle: list[str] = []
        self.units: dict[str, Unit] = {}  # by the worker that runs it
        self.queued: dict[str, Unit] = {}  # by the worker that has it next
        self.homes: dict[Any, str] = {}  # by `near` key: the worker that ran it last; what was used last comes last
        self.costs: weakref.WeakKeyDictionary[Task, list[float]] = (
            weakref.WeakKeyDictionary()
        )  # calls and seconds so far
        # Where values are, for engines that keep them apart: bytes and place of one, and the place of each worker.
        self.locate: Callable[[Any], tuple[int, str]] | None = None
        self.seats: dict[str, str] = {}
        self.placement = Placement(self, fits, gangs)  # nodes that ask for resources
        self.tight = False  # little memory is left for results
        self.delayed: list[tuple[float, int, Job, Node]] = []  # a heap: nodes to be called again, and when
        self._ids = count(1)
        self._out: list[Instruction] = []
        self._now = 0.0

    # ---- the one way in

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """What to do about an event, at time `now` (seconds, of any clock that does not go back)."""
        self._now = now
        self._out = []
        kind = type(event)
        if kind is UnitDone:
            self._unit_done(event)  # type: ignore[arg-type]
            event.unit.inputs = {}  # type: ignore[attr-defined]  # let go of, before what comes next is begun
        elif kind is JobAdded:
            self._job_added(event)  # type: ignore[arg-type]
        elif kind is NodesAdded:
            self._add(event.job, event.roots, event.plan)  # type: ignore[attr-defined]
        elif kind is UnitRecalled:
            self._unit_recalled(event.unit, event.nodes)  # type: ignore[attr-defined]
        elif kind is UnitDelayed:
            self._unit_delayed(event.unit)  # type: ignore[attr-defined]
        elif kind is Released:
            event.job.held.drop(event.node)  # type: ignore[attr-defined]
        elif kind is JobClosed:
            self._close(event.job, event.error)  # type: ignore[attr-defined]
        elif kind is WorkerJoined:
            self.workers.add(event.worker)  # type: ignore[attr-defined]
            self.placement.joined(event)  # type: ignore[arg-type]
        elif kind is MachineFound:
            self.placement.found(event)  # type: ignore[arg-type]
        elif kind is WorkersExpected:
            self.expected = event.number  # type: ignore[attr-defined]
            self.placement.stale = True
        elif kind is MemoryTight:
            self.tight = event.tight  # type: ignore[attr-defined]
        elif kind is WorkerLost:
            self._worker_lost(event)  # type: ignore[arg-type]
        elif kind is WorkerLeaves:
            self._worker_leaves(event.worker)  # type: ignore[attr-defined]
        elif kind is ValuesLost:
            self._values_lost(event.lost)  # type: ignore[attr-defined]
        if self.delayed and self.delayed[0][0] <= now:
            self._call_again()
        placement = self.placement
        if placement.inbox or placement.waiting or placement.stale or placement.fitted or placement.held:
            placement.place()
        self._assign()
        if (self.idle or placement.held) and self.units:
            self._recall()
        elif self.ahead and not self.tight and not placement.short:
            self._assign_ahead()
        out, self._out = self._out, []  # not kept: what it tells of may be let go of
        return out

    @property
    def watchful(self) -> bool:
        """Whether time alone may call for something: somebody is idle while units may hide work."""
        return bool(self.idle or self.placement.held) and any(
            u.shared and u.recalled is None for u in self.units.values()
        )

    def wait(self, now: float) -> float | None:
        """In how many seconds, without other news, time alone calls for something; None: never."""
        at = self.placement.wait()
        if self.delayed:
            at = min(at, self.delayed[0][0]) if at is not None else self.delayed[0][0]
        return max(0.0, at - now) if at is not None else None

    # ---- jobs

    def _job_added(self, event: JobAdded) -> None:
        self.jobs.append(event.job)
        event.job.asking = self.placement.inbox
        self._add(event.job, event.job.roots, event.plan)

    def _add(self, job: Job, roots: Sequence[Node], plan: Plan | None) -> None:
        job.add(roots, self.sequential, plan)
        if job.requests:
            self.placement.stale = True
        self._check_finished(job)

    def _check_finished(self, job: Job) -> None:
        self._out += [Done(job, node) for node in job.completed]
        job.completed.clear()
        if not job.missing and not job.growing and not job.over:
            self._end(job, None)

    def _close(self, job: Job, error: BaseException | None) -> None:
        if not job.over:
            self._end(job, error)

    def _end(self, job: Job, error: BaseException | None) -> None:
        job.over = True
        job.error = error
        job.ready, job.waiting, job.consumers = [], {}, {}
        if job in self.jobs:
            self.jobs.remove(job)
        for unit in (*self.units.values(), *self.queued.values()):
            if unit.job is job:
                self._out.append(Recall(unit, cancelled=True))
        if job.requests:
            self.placement.end(job)
        self._out.append(Finished(job, error))

    def _give_up(self, job: Job, node: Node, error: BaseException) -> None:
        """A node that is ready (or, where that ends the run, any) cannot be had."""
        self._out.append(GivenUp(job, node, error, "", {}))
        if not job.collect:
            self._end(job, error)
            return
        job.fail(node, error)
        self._check_finished(job)

    # ---- handing out units

    def _assign(self) -> None:
        """Give the idle workers units, the jobs in turn."""
        while self.idle:
            job = next((j for j in self.jobs if j.ready and (not self.tight or self._frees_memory(j))), None)
            if job is None:
                return
            if len(self.jobs) > 1:
                self.jobs.remove(job)
                self.jobs.append(job)
            worker = self._idle_for(job)
            nodes = job.ready
            if self.sequential:
                job.ready = []
                unit = Unit(next(self._ids), job, worker, nodes, float("inf"), False)
                unit.exports = [n for n in job.roots if n not in job.values] if job.values else job.roots
            else:
                unit = self._take(job, worker)
            self.units[worker] = unit
            self._run(unit)

    def _frees_memory(self, job: Job) -> bool:
        """While memory is short: have a node come next that uses a result, before any that only makes one."""
        ready = job.ready
        for i in range(len(ready) - 1, -1, -1):
            if ready[i]._deps:
                ready.append(ready.pop(i))
                return True
        return not self.units

    def _idle_for(self, job: Job) -> str:
        """The idle worker that the node ready last belongs to (`near=`), or else the one that has been idle longest."""
        key = _near(job.ready[-1])
        home = self.homes.get(key) if key is not None else None
        if self.locate is not None and home is None:
            place = job.place_of(job.ready[-1], self.locate)
            home = next((w for w in self.idle if self.seats.get(w) == place), None) if place else None
        return self.idle.pop(self.idle.index(home) if home in self.idle else 0)

    def _assign_ahead(self) -> None:
        """Give busy workers their next units, so that none waits for the driver between two."""
        for worker, unit in self.units.items():
            if worker in self.queued or unit.recalled is not None or unit.grant is not None:
                continue
            for job in self.jobs:
                if self._plenty(job):
                    self.queued[worker] = unit = self._take(job, worker)
                    self._run(unit)
                    break

    def _plenty(self, job: Job) -> bool:
        """Whether so much is ready that nobody will miss what is given out ahead."""
        workers = len(self.workers)
        if len(job.ready) <= AHEAD * workers:
            return False
        tally = self.costs.get(job.ready[-1]._task)
        return tally is not None and len(job.ready) * tally[1] / tally[0] > AHEAD * workers * LEAST

    def _run(self, unit: Unit) -> None:
        unit.job.give_inputs(unit)
        unit.started = self._now
        self._out.append(Run(unit))

    def _take(self, job: Job, worker: str) -> Unit:
        """The next unit for a worker: ready nodes and what only they feed, up to a share of the work at hand."""
        ready, waiting, consumers, costs = job.ready, job.waiting, job.consumers, self.costs
        first = self._next(job, worker)
        alone = job.alone
        if first._task.alone or (alone and first in alone):
            alone.discard(first)
            return self._unit(job, worker, [first], BUDGET, False, False)
        hungry = len(ready) < len(self.idle)  # others will find nothing
        workers = max(len(self.workers), self.expected)
        share = min(PROBE, max(1, (len(ready) + 1) // workers))
        tally = costs.get(first._task)
        mean = tally[1] / tally[0] if tally is not None else None
        at_hand = (mean or BUDGET / PROBE) * (len(ready) + 1)
        limit = min(max(at_hand / (2 * workers), LEAST), BUDGET)
        if mean is not None and not consumers and first._task._options["near"] is None and not (alone or self.tight):
            alike = self._take_alike(ready, first, min(round(limit / max(mean, 1e-9)), LARGEST))
            return self._unit(job, worker, alike, BUDGET, hungry, len(alike) > 1)
        nodes: list[Node] = []
        shared = False  # whether others could have helped: not with a chain
        local = [first]
        means: dict[Task, float] = {}
        met: dict[Node, int] = {}  # how many of the values that a node waits for this unit makes
        unknown = 0
        cost = 0.0
        last_task: Task | None = None
        mean = 0.0
        while True:
            node = local.pop()
            task = node._task
            if alone and node in alone:  # it waits until this unit is done, to be one of its own
                if not local:
                    break
                continue
            if task is not last_task:
                if task.alone:  # the same
                    if not local:
                        break
                    continue
                last_task = task
                known = means.get(task)
                if known is None:
                    tally = costs.get(task)
                    known = means[task] = tally[1] / tally[0] if tally is not None else -1.0
                mean = known
            waiting.pop(node, None)
            nodes.append(node)
            if mean >= 0:
                cost += mean
            elif task.kind == "call":
                unknown += 1
                cost += limit / share
            following = consumers.get(node)
            if following:
                for c in following:
                    w = waiting.get(c)
                    if w is None:
                        continue
                    if w > 1:
                        m = met.get(c, 0) + 1
                        if m < w:
                            met[c] = m
                            continue
                    local.append(c)
            if len(nodes) >= LARGEST:
                break
            if local:
                # A chain has nobody to share it with; a fan-out has.
                if cost >= limit and (len(local) > 1 or cost >= BUDGET or unknown):
                    break
                if hungry and len(local) > 1 and self._worth(local) >= LEAST:
                    break
                shared = shared or len(local) > 1
            elif cost >= limit or not ready or self.tight or ready[-1]._task.alone or (alone and ready[-1] in alone):
                break
            else:
                local.append(ready.pop())
                shared = True
        return self._unit(job, worker, nodes, PROBE_BUDGET if unknown else BUDGET, hungry, shared)

    def _take_alike(self, ready: list[Node], first: Node, most: int) -> list[Node]:
        """`first` and further ready nodes of the same task: the quick way where nothing depends on any of them."""
        task = first._task
        nodes = [first]
        if most > 1:
            more = ready[:-most:-1]
            n = next((i for i, node in enumerate(more) if node._task is not task), len(more))
            del ready[len(ready) - n :]
            nodes += more[:n]
        return nodes

    def _unit(self, job: Job, worker: str, nodes: list[Node], budget: float, hungry: bool, shared: bool) -> Unit:
        unit = Unit(next(self._ids), job, worker, nodes, budget, hungry and len(self.workers) > 1)
        unit.shared = shared
        job.find_exports(unit)
        return unit

    def _worth(self, nodes: list[Node]) -> float:
        """Seconds that some nodes are expected to take; a task never seen counts as long."""
        total = 0.0
        for node in nodes[:PROBE]:
            tally = self.costs.get(node._task)
            total += BUDGET if tally is None else tally[1] / tally[0]
        return total * max(1, len(nodes) / PROBE)

    def _next(self, job: Job, worker: str) -> Node:
        """The node to begin a unit with: the last that became ready, unless one near the top belongs here (`near=`)."""
        ready = job.ready
        key = _near(ready[-1])
        if key is not None and self.homes.get(key, worker) != worker:
            for i in range(len(ready) - 2, max(len(ready) - 17, -1), -1):
                key = _near(ready[i])
                if key is None or self.homes.get(key, worker) == worker:
                    node = ready.pop(i)
                    self._settle(key, worker)
                    return node
            key = _near(ready[-1])
        self._settle(key, worker)
        return ready.pop()

    def _settle(self, key: Any, worker: str) -> None:
        """Note which worker has what goes by a `near` key; of too many keys the one used longest ago is forgotten."""
        if key is None:
            return
        self.homes.pop(key, None)  # so that it comes last
        self.homes[key] = worker
        if len(self.homes) > HOMES:
            del self.homes[next(iter(self.homes))]

    # ---- units that come back

    def _unit_done(self, event: UnitDone) -> None:
        unit = event.unit
        job = unit.job
        if event.worn:
            self.placement.worn[event.worker] = event.worn
        self._leave(event.worker, unit)
        for task, (calls, seconds) in event.spent.items():
            tally = self.costs.get(task)
            if tally is None:
                self.costs[task] = [calls, seconds]
            else:
                tally[0] += calls
                tally[1] += seconds
        if job.over or unit.void:
            return
        if unit.grant is not None and unit.grant.party.request.gang is not None:
            gangs.member_done(self, unit.grant, event)
            return
        if event.failed is not None:
            node, error = event.failed
            if not job.collect:
                self._end(job, error)
                return
            # It was to be sent, and could not be. The others of its unit are run again, without it.
            event.values, event.awaiting = {node: Failure(error, node)}, ()
            event.left = [n for n in unit.nodes if n is not node]
        job.total += event.grown
        job.done += event.grown
        if event.apart:
            job.alone.update(event.left)
        if event.again is not None and event.again.node not in (unit.recalled or ()):  # else it was given back already
            self._delay(job, event.again)
        if self.sequential:
            job.finish_sequence(unit, event.values)
        elif event.left or event.awaiting or unit.recalled:
            job.take_back(unit, event)
            if job.requests:
                self.placement.stale = True
        else:
            job.finish_unit(unit, event.values)
        self._check_finished(job)

    def _leave(self, worker: str, unit: Unit) -> None:
        """A worker has nothing more to do with a unit: it goes on with its next, or is idle."""
        if self.queued.get(worker) is unit:
            del self.queued[worker]
            return
        del self.units[worker]
        if unit.grant is not None:
            self.placement.left(unit.grant)
            return
        following = self.queued.pop(worker, None)
        if following is not None:
            following.started = self._now
            self.units[worker] = following
        elif worker in self.workers:
            self.idle.append(worker)

    def _unit_recalled(self, unit: Unit, nodes: Sequence[Node]) -> None:
        job = unit.job
        if self.units.get(unit.worker) is not unit and self.queued.get(unit.worker) is not unit:
            return
        if nodes is unit.nodes or self.queued.get(unit.worker) is unit:
            # It was not begun, though it may have become the worker's present one meanwhile: all of it is free, and
            # nothing more will be heard of it.
            self._leave(unit.worker, unit)
            if job.over or unit.void:
                return
            if unit.grant is not None and unit.grant.party.request.gang is not None:
                gangs.member_gone(self, unit.grant, None)
            else:
                job.wait_again(unit.nodes)
            return
        if job.over or unit.void:
            return
        # Those that need nothing of the unit itself can go elsewhere before it ends; the others wait for it.
        unit.recalled = set(nodes)
        job.wait_again(nodes)

    def _unit_delayed(self, unit: Unit) -> None:
        """A unit was recalled before its worker had begun it: it keeps all its nodes, and its time starts anew."""
        unit.recalled = None
        unit.started = self._now

    def _recall(self) -> None:
        """Somebody is idle: have those give back who hold more than they can do soon."""
        for unit in self.queued.values():
            if unit.recalled is None:
                unit.recalled = set()
                self._out.append(Recall(unit))
        for unit in self.units.values():
            if unit.recalled is None and unit.shared and self._now - unit.started > unit.budget + OVERDUE:
                unit.recalled = set()
                self._out.append(Recall(unit))

    # ---- workers that go

    def _worker_leaves(self, worker: str) -> None:
        self.workers.discard(worker)
        if worker in self.idle:
            self.idle.remove(worker)
        following = self.queued.get(worker)
        if following is not None and following.recalled is None:
            following.recalled = set()
            self._out.append(Recall(following))

    def _worker_lost(self, event: WorkerLost) -> None:
        self.workers.discard(event.worker)
        if event.worker in self.idle:
            self.idle.remove(event.worker)
        unit = self.units.pop(event.worker, None)
        following = self.queued.pop(event.worker, None)
        self.placement.lost(event.worker)
        if unit is not None and unit.grant is not None:
            self.placement.left(unit.grant)
            if unit.grant.party.request.gang is not None:
                if not unit.job.over and not unit.void:
                    gangs.member_gone(self, unit.grant, event if event.unit is unit else None)
                return
        for innocent in (following, unit if unit is not event.unit else None):
            if innocent is not None and not innocent.job.over and not innocent.void:
                innocent.job.wait_again(innocent.nodes)
        if unit is None or unit is not event.unit or unit.job.over or unit.void:
            return
        job, recalled = unit.job, unit.recalled or ()
        lost = [n for n in unit.nodes if n not in recalled]
        node = event.running if event.running is not None or len(lost) > 1 else lost[0]
        if node is None:  # any of them may be the one
            job.alone.update(lost)
            job.wait_again(lost)
            return
        self._judge(event, unit, node, lost)

    def _judge(self, event: WorkerLost, unit: Unit, node: Node, lost: list[Node]) -> None:
        """What becomes of a node whose worker has died of it, or was ended for it, and of the others of its unit."""
        job = unit.job
        failures, deaths = job.attempts.get(node, (0, 0))
        options = node._task._options
        error: Exception
        if event.late:
            failures += 1
            error = _too_late(event, node)
            over = failures > options["retries"] or not isinstance(error, options["retry_on"])
        else:
            deaths += 1
            error = _died(event, node, deaths)
            over = deaths >= max(DEATHS, options["retries"] + 1)
        job.attempts[node] = failures, deaths
        if over:
            self._out.append(GivenUp(job, node, error, event.worker, unit.inputs))
            if not job.collect:
                self._end(job, error)
                return
            # It is done, as a failure; the others of its unit, if there are any, are run again.
            job.wait_no_more(node)
            left = [n for n in lost if n is not node]
            job.take_back(unit, UnitDone(event.worker, unit, {node: Failure(error, node)}, left))
            self._check_finished(job)
            return
        if event.late:
            self._delay(job, Again(node, failures, backoff(node, failures), error))
        else:
            job.alone.add(node)
            self._out.append(Retry(job, Again(node, deaths, 0.0, error), died=True))
        job.wait_again(lost)

    def _values_lost(self, lost: Callable[[Any], bool]) -> None:
        """Values are gone: what is still needed of them is made again, from what is left."""
        from graphray.executors.rebuild import rebuild

        flying = [*self.units.values(), *self.queued.values()]
        for job in list(self.jobs):
            for unit in rebuild(job, [u for u in flying if u.job is job], lost, self.placement.withdraw):
                unit.void = True
                self._out.append(Recall(unit, cancelled=True))
            self._check_finished(job)  # what is skipped, for what it needs has failed, is done

    # ---- for placement: where a node would like to run

    def home(self, node: Node) -> str | None:
        """The worker that a node belongs to (`near=`)."""
        key = _near(node)
        return self.homes.get(key) if key is not None else None

    def note_home(self, node: Node, worker: str) -> None:
        """A worker is to run a node, and so is the one that others of its key belong to."""
        self._settle(_near(node), worker)

    # ---- calls that are made again

    def _delay(self, job: Job, again: Again) -> None:
        """A node is not ready before its time."""
        node = again.node
        job.attempts[node] = again.failures, job.attempts.get(node, (0, 0))[1]
        job.delayed.add(node)
        heapq.heappush(self.delayed, (self._now + again.delay, next(self._ids), job, node))
        self._out.append(Retry(job, again))

    def _call_again(self) -> None:
        """The time has come for some that failed."""
        while self.delayed and self.delayed[0][0] <= self._now:
            _, _, job, node = heapq.heappop(self.delayed)
            if node not in job.delayed:  # it is not needed any more
                continue
            job.delayed.discard(node)
            if not job.over:
                job.push([node])


def _died(event: WorkerLost, node: Node, deaths: int) -> WorkerDied:
    how = f"by {event.signal}" if event.signal else f"with exit code {event.exitcode}"
    what = f"{event.inner}, which {node.label} returned" if event.inner else node.label
    memory = f"; it had used up to {event.memory / 2**20:,.0f} MiB of memory" if event.memory else ""
    times = f"; so did {deaths - 1} before it" if deaths > 1 else ""
    what = gangs.describe(event.unit, what)
    text = f"the worker {event.worker} ended {how} while it ran {what}{memory}{times}"
    return WorkerDied(text, node, event.signal, event.exitcode, event.memory)


def _too_late(event: WorkerLost, node: Node) -> TaskTimeout:
    what = f"{event.inner}, which {node.label} returned," if event.inner else node.label
    return TaskTimeout(f"{what} took longer than its timeout of {node._task._options['timeout']} s; it was ended")


def _near(node: Node) -> Any:
    """Where a node would like to run: a key, or None. A wish only: a function that fails has none."""
    near = node._task._options["near"]
    if near is None:
        return None
    try:
        key = near(*node._args, **(node._kwargs or {})) if callable(near) else near
        hash(key)
    except Exception:
        return None
    return key


def cancelled() -> Cancelled:
    """The error of a run that was cancelled."""
    return Cancelled("the run was cancelled")
