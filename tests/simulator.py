"""An engine without processes, threads or clocks: the scheduling core, and workers that exist in virtual time only.

Tasks made by `Simulator.task` take as long as they are told, on the simulator's clock. Units are run by the machine
that every engine uses, one node at a time, so that whatever the core decides meets what really happens inside a unit:
nodes that return nodes, budgets, recalls, failures.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import graphray as gr
from graphray.executors import core, machine
from graphray.executors.core import Core, Job, Unit
from graphray.executors.local import become_member
from graphray.graph.fan import as_node

TICK = 0.02
GRACE = 0.1  # seconds that a member of a gang has to end, once that is not wanted any more


@dataclass(eq=False)
class Worker:
    """A worker in virtual time: the units it has, and the machine of the one it is at."""

    name: str
    machine_name: str = ""
    accelerators: tuple[str, ...] = ()
    fresh: bool = True  # has run nothing yet
    queue: list[Unit] = field(default_factory=list)
    unit: Unit | None = None
    machine: Any = None
    deadline: float = 0.0
    busy: bool = False  # a node is running
    lost: bool = False


@dataclass(frozen=True)
class Call:
    """One call of a task."""

    worker: str
    name: str
    start: float
    stop: float


class Simulator:
    """Runs graphs in virtual time.

    Args:
        workers: how many.
        trip: seconds that a message takes between driver and worker.
        ahead: the core's option of that name.
        machines: by name, how many of the workers each has (they all are on one by default), and its resources.
        fits: workers see only the accelerators that they were started with.
        start: seconds that a worker takes to start.
        expected: the core's option of that name, if it is not the number of workers.
    """

    def __init__(
        self,
        workers: int = 2,
        trip: float = 0.0,
        ahead: bool = False,
        machines: Mapping[str, tuple[int, Mapping[str, Any]]] | None = None,
        fits: bool = False,
        start: float = 0.0,
        expected: int | None = None,
    ) -> None:
        machines = machines if machines is not None else {"": (workers, {})}
        places = [name for name, (number, _) in machines.items() for _ in range(number)]
        self.core = Core(ahead=ahead, fits=fits, gangs=True, expected=len(places) if expected is None else expected)
        self.resources = {name: resources for name, (_, resources) in machines.items()}
        self.start = start
        self.trip = trip
        self.now = 0.0
        self.refits: list[core.Refit] = []
        self.workers = {f"w{i}": Worker(f"w{i}", machine) for i, machine in enumerate(places)}
        self.calls: list[Call] = []
        self.units: list[Unit] = []  # all that were handed out
        self.handed: list[int] = []  # how many nodes each had
        self.recalls: list[Unit] = []
        self.retries: list[core.Retry] = []
        self.given_up: list[tuple[gr.Node, BaseException]] = []
        self.finished: dict[Job, tuple[float, BaseException | None]] = {}
        self.done: list[gr.Node] = []  # of growing jobs, in order
        self.most_values = 0  # that the driver held at once
        self.took = 0.0  # seconds, by the last `compute`
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = count()
        self._spent = 0.0
        self._ticking = False
        self.aside: list[Worker] = []  # stepped back; they come again where they fit
        self._places: dict[int, str] = {}  # of refits that are going on, with the worker that stepped back
        self.meetings = 0  # of gangs
        for name, worker in self.workers.items():
            self.tell(core.WorkerJoined(name, worker.machine_name, self.resources[worker.machine_name]))

    # ---- for tests

    def task(self, name: str, seconds: float | Callable[..., float] = 0.0, fn: Any = None, **options: Any) -> gr.Task:
        """A task that takes `seconds` (a number, or a function of its arguments) and gives what `fn` gives."""

        def call(*args: Any, **kwargs: Any) -> Any:
            took = seconds(*args, **kwargs) if callable(seconds) else seconds
            start = self.now + self._spent
            self._spent += took
            self.calls.append(Call(gr.context().worker, name, start, start + took))
            return fn(*args, **kwargs) if fn is not None else name

        return gr.task(call, name=name, **options)

    def add(self, *roots: Any, **options: Any) -> Job:
        """Start a job that wants the values of some nodes, or of a graph's outputs."""
        nodes = [n for r in roots for n in (r.roots if isinstance(r, gr.Graph) else (as_node(r),))]
        job = Job(nodes, **options)
        self.tell(core.JobAdded(job))
        return job

    def run(self, until: float = float("inf")) -> None:
        """Let time pass, up to a moment or until nothing is left to happen."""
        real, machine.time = machine.time, self  # type: ignore[attr-defined]
        try:
            while self._agenda and self._agenda[0][0] <= until:
                self.now, _, act = heapq.heappop(self._agenda)
                act()
        finally:
            machine.time = real  # type: ignore[attr-defined]
        if until != float("inf"):
            self.now = max(self.now, until)

    def compute(self, *roots: Any, **options: Any) -> list[Any]:
        """Run a job of its own to its end; its values."""
        start = self.now
        job = self.add(*roots, **options)
        self.run()
        at, error = self.finished[job]
        self.took = at - start
        if error is not None:
            raise error
        return [job.values[n] for n in job.roots]

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do something at a moment."""
        heapq.heappush(self._agenda, (when, next(self._ids), act))

    def replace(self, name: str, new: str, **how: Any) -> None:
        """A worker dies, now, and another takes its place."""
        machine = self.workers[name].machine_name
        self.kill(name, **how)
        self.join(new, machine)

    def join(self, name: str, machine: str = "", resources: Any = None, **what: Any) -> None:
        """A worker is there, now."""
        if resources is not None:
            self.resources[machine] = resources
        self.workers[name] = Worker(name, machine, what.get("accelerators", ()))
        self.tell(core.WorkerJoined(name, machine, self.resources[machine], **what))

    def kill(self, name: str, **how: Any) -> None:
        """A worker dies, now."""
        worker = self.workers.pop(name)
        worker.lost = True
        running = worker.machine.node if worker.machine is not None else None
        self.tell(core.WorkerLost(name, unit=worker.unit, running=running, **how))

    @property
    def busy(self) -> float:
        """Seconds spent in tasks."""
        return sum([c.stop - c.start for c in self.calls])

    def names(self, worker: str | None = None) -> list[str]:
        """The names of the calls, in order of their start."""
        calls = sorted(self.calls, key=lambda c: c.start)
        return [c.name for c in calls if worker in (None, c.worker)]

    # ---- the driver's side

    def perf_counter(self) -> float:
        """What the machine sees as its clock."""
        return self.now + self._spent

    def tell(self, event: core.Event) -> None:
        """Give the core an event, and do what it says."""
        for instruction in self.core.handle(event, self.now):
            kind = type(instruction)
            if kind is core.Run:
                self.units.append(instruction.unit)
                self.handed.append(len(instruction.unit.nodes))
                self._later(self._arrive, instruction.unit)
            elif kind is core.RunTogether:
                self.meetings += 1
                for unit in instruction.units:
                    unit.grant.party.address = f"meeting:{self.meetings}"
                    self.units.append(unit)
                    self.handed.append(1)
                    self._later(self._arrive, unit)
            elif kind is core.Refit:
                self.refits.append(instruction)
                self._refit(instruction)
            elif kind is core.Recall and not instruction.cancelled and self._on_its_way(instruction.unit):
                self.at(self.now, functools.partial(self.tell, core.UnitDelayed(instruction.unit)))
            elif kind is core.Recall:
                self.recalls.append(instruction.unit)
                self._later(self._recall, instruction.unit, instruction.cancelled)
            elif kind is core.Retry:
                self.retries.append(instruction)
            elif kind is core.GivenUp:
                self.given_up.append((instruction.node, instruction.error))
            elif kind is core.Done:
                self.done.append(instruction.node)
            elif kind is core.Finished:
                assert instruction.job not in self.finished, "a job ends once"
                self.finished[instruction.job] = (self.now, instruction.error)
        self.most_values = max(self.most_values, sum([len(job.values) for job in self.core.jobs]))
        wait = self.core.wait(self.now)
        if self.core.watchful and not self._ticking:
            self._ticking = True
            self.at(self.now + TICK, self._tick)
        elif wait is not None and not self._ticking:
            self._ticking = True
            self.at(self.now + wait, self._tick)

    def _on_its_way(self, unit: Unit) -> bool:
        return self.core.units.get(unit.worker) is unit and self.workers[unit.worker].unit is not unit

    def _tick(self) -> None:
        self._ticking = False
        self.tell(core.Tick())

    def _later(self, act: Callable[..., None], *args: Any) -> None:
        self.at(self.now + self.trip, lambda: act(*args))

    def _refit(self, refit: core.Refit) -> None:
        """Another worker takes the place of one that is idle."""
        before = self.workers.pop(refit.worker)
        assert before.unit is None, "it is idle"
        assert not before.queue
        self._places[refit.place] = refit.worker
        what = {"accelerators": refit.accelerators, "place": refit.place}
        here = before.machine_name
        aside = [w for w in [before, *self.aside] if w.machine_name == here]
        fits = [w for w in aside if w.accelerators == refit.accelerators and (w.fresh or not refit.fresh)]
        found = fits[0] if fits else None
        seen = {a for w in self.workers.values() if w.machine_name == here for a in w.accelerators}
        seen.update(refit.accelerators)
        elsewhere = [w for w in self.aside if w.machine_name != here]
        self.aside = elsewhere + [w for w in aside if w is not found and seen.isdisjoint(w.accelerators)]

        def join() -> None:
            if self._places.pop(refit.place, None) is None:
                return
            if found is None:
                self.join(f"refit {refit.place}", here, **what)
            else:
                self.workers[found.name] = found
                worn = core.FRESH if found.fresh else core.WORN
                self.tell(core.WorkerJoined(found.name, found.machine_name, worn=worn, **what))

        self.at(self.now + (self.start if found is None else 0.0), join)

    def give_up_refit(self, name: str) -> None:
        """It turns out that a worker in whose place another was to come had died before."""
        (place,) = [place for place, before in self._places.items() if before == name]
        del self._places[place]
        self.aside = [w for w in self.aside if w.name != name]
        self.tell(core.WorkerLost(name))

    # ---- the workers' side

    def _arrive(self, unit: Unit) -> None:
        worker = self.workers.get(unit.worker)
        if worker is not None:
            worker.queue.append(unit)
            self._next(worker)

    def _next(self, worker: Worker) -> None:
        if worker.unit is not None or not worker.queue or worker.lost:
            return
        unit = worker.unit = worker.queue.pop(0)
        self._check_grants(worker, unit)
        m = worker.machine = machine.Machine(worker.name, unit.job.seed, unit.job.collect)
        m.hungry = unit.hungry
        m.delegates = True
        m.attempts = {n: unit.job.attempts[n] for n in unit.nodes if n in unit.job.attempts}
        m.means = {t: seconds / calls for t, (calls, seconds) in self.core.costs.items()}
        if unit.grant is not None and unit.grant.ticket is not None:
            become_member(m, unit.grant.ticket)
        m.load(unit.nodes, unit.exports, unit.inputs)
        worker.deadline = self.now + unit.budget
        self._step(worker)

    def _check_grants(self, worker: Worker, unit: Unit) -> None:
        """Nobody has what a machine does not have, or sees what is another's."""
        given = [w.unit.grant for w in self.workers.values() if w.unit is not None and w.unit.grant is not None]
        for name, resources in self.resources.items():
            there = [member for member in given if member.site.name == name]
            used: dict[str, float] = {}
            for member in there:
                for what, n in member.party.request.needs:
                    used[what] = used.get(what, 0) + n
            has = {k: n if isinstance(n, (int, float)) else len(n) for k, n in resources.items()}
            assert all(n <= has.get(what, 0) + 1e-6 for what, n in used.items()), (used, has)
            seen = [a for member in there for a in member.accelerators]
            assert len(seen) == len(set(seen)) == used.get("gpu", 0)
        mine = unit.grant.accelerators if unit.grant is not None else ()
        assert unit.grant is None or unit.grant.site.name == worker.machine_name
        if self.core.placement.fits:
            assert worker.accelerators == mine
            assert worker.fresh or unit.grant is None or unit.grant.ticket is None, "a gang gets fresh processes"
        worker.fresh = False

    def _step(self, worker: Worker) -> None:
        """Run one node; what it takes passes on the clock before the next is looked at."""
        if worker.lost:
            return
        worker.busy = False
        m, unit = worker.machine, worker.unit
        if self.now >= worker.deadline and not m.halt:
            if m.shareable():
                return self._end(worker)
            worker.deadline = self.now + unit.budget
        self._spent = 0.0
        before = m.count
        done = m.run(-1.0)  # a deadline that is past: exactly one node
        stopped = m.failed is not None or m.again is not None or m.apart or m.halt
        wide = not done and not stopped and m.hungry and m.count == before and m._wide()
        took, self._spent = self._spent, 0.0
        if done or stopped or wide:
            worker.busy = True
            self.at(self.now + took, lambda: self._end(worker))
        else:
            worker.busy = True
            self.at(self.now + took, lambda: self._step(worker))

    def _end(self, worker: Worker) -> None:
        if worker.lost:
            return
        m, unit = worker.machine, worker.unit
        worker.unit = worker.machine = None
        left = m.left() if m.failed is None else []
        values = m.exported(unit.exports, left)
        grown = m.grown_and_done(unit.nodes, left)
        worn = core.USED_UP if m.gang is not None else core.WORN
        event = core.UnitDone(
            worker.name, unit, values, left, m.awaiting(), m.failed, m.spent, grown, again=m.again, worn=worn
        )
        self._later(self.tell, event)
        self._next(worker)

    def _recall(self, unit: Unit, cancelled: bool) -> None:
        worker = self.workers.get(unit.worker)
        if worker is None:
            return
        if unit in worker.queue:
            worker.queue.remove(unit)
            self._later(self.tell, core.UnitRecalled(unit, unit.nodes))
        elif worker.unit is unit:
            worker.machine.halt = True
            worker.machine.cancelled |= cancelled
            if unit.grant is not None and unit.grant.ticket is not None:  # it may wait for ever, for others of its gang
                self.at(self.now + GRACE, functools.partial(self._end_by_force, worker, unit))
            if not cancelled:
                self._later(self.tell, core.UnitRecalled(unit, worker.machine.not_begun()))

    def _end_by_force(self, worker: Worker, unit: Unit) -> None:
        if worker.unit is unit and not worker.lost:
            self.replace(worker.name, f"{worker.name}+", recalled=True)


def makespan(durations: Iterable[float], workers: int) -> float:
    """A lower bound of the time that independent work takes."""
    times = list(durations)
    return max(sum(times) / workers, max(times))
