"""The words between an engine and the core: events (what happened) and instructions (what to do)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeAlias

    from graphray.executors.cache.nodes import Plan
    from graphray.executors.job import Job, Unit
    from graphray.graph.node import Node
    from graphray.graph.task import Task

    # What a machine has: amounts by name, of accelerators also their names; or a function that says so.
    Resources: TypeAlias = Mapping[str, float | Sequence[str]]
    Supply: TypeAlias = Resources | Callable[[], Resources]

# What a worker's process is fit for. JAX's distributed runtime wants to be the first that JAX does in a process, and
# the last: so a gang gets fresh ones.
FRESH, WORN, USED_UP = 0, 1, 2  # anything; anything but gangs; nothing more

# ---- events: what an engine tells the core


class Event:
    """Something that happened."""

    __slots__ = ()


class WorkerJoined(Event):
    """A worker is ready for its first unit.

    Attributes:
        machine: where it is.
        resources: what that machine has, by name, or a function that says so when it is first asked; `gpu` is a number
            or the names of the accelerators.
        accelerators: those that it sees, where workers see only what they were started with.
        place: that of the `Refit` that it is the answer to.
        worn: what its process is fit for, if it has run something before: see `FRESH`.
    """

    __slots__ = ("accelerators", "machine", "place", "resources", "worker", "worn")

    def __init__(
        self,
        worker: str,
        machine: str = "",
        resources: Supply | None = None,
        accelerators: tuple[str, ...] = (),
        place: int | None = None,
        worn: int = FRESH,
    ) -> None:
        self.worker = worker
        self.machine = machine
        self.resources = resources
        self.accelerators = accelerators
        self.place = place
        self.worn = worn


class MachineFound(Event):
    """A machine is there on which so many workers start; or, with none, it is gone.

    Not needed for what joins; but what no machine has is refused the sooner, the earlier all are known.

    Attributes:
        machine: its name, as in `WorkerJoined`.
        resources: what it has, as there.
        workers: how many there will be, those included that have joined.
    """

    __slots__ = ("machine", "resources", "workers")

    def __init__(self, machine: str, resources: Supply | None, workers: int) -> None:
        self.machine = machine
        self.resources = resources
        self.workers = workers


class WorkersExpected(Event):
    """How many workers there will be, where that is not what it was: a request that none of them can meet fails."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class WorkerLost(Event):
    """A worker is gone.

    Attributes:
        exitcode: the process's exit code, if it was one; negative: ended by that signal.
        signal: the name of the signal that ended it.
        unit: what it was running; None if it had not begun the unit that it was given last.
        running: the node it was at, where the engine knows.
        inner: if it was at a node that this one returned: the name of that one's task.
        memory: the most memory that it has had, in bytes, where the engine knows.
        late: the engine ended it, for it had been at that node for longer than its task's timeout.
        recalled: the engine ended it, for its unit was recalled as cancelled.
    """

    __slots__ = ("exitcode", "inner", "late", "memory", "recalled", "running", "signal", "unit", "worker")

    def __init__(
        self,
        worker: str,
        exitcode: int | None = None,
        signal: str | None = None,
        unit: Unit | None = None,
        running: Node | None = None,
        inner: str = "",
        memory: int | None = None,
        late: bool = False,
        recalled: bool = False,
    ) -> None:
        self.memory = memory
        self.late = late
        self.recalled = recalled
        self.worker = worker
        self.exitcode = exitcode
        self.signal = signal
        self.unit = unit
        self.running = running
        self.inner = inner


class WorkerLeaves(Event):
    """A worker is to get nothing more; it ends what it is at, and will be lost then."""

    __slots__ = ("worker",)

    def __init__(self, worker: str) -> None:
        self.worker = worker


class JobAdded(Event):
    """A new job; `plan` is what its cache has found, if it has one."""

    __slots__ = ("job", "plan")

    def __init__(self, job: Job, plan: Plan | None = None) -> None:
        self.job = job
        self.plan = plan


class NodesAdded(Event):
    """A job wants the values of further nodes; `plan` is what its cache has found of them, if it has one."""

    __slots__ = ("job", "plan", "roots")

    def __init__(self, job: Job, roots: Sequence[Node], plan: Plan | None = None) -> None:
        self.job = job
        self.roots = roots
        self.plan = plan


class Released(Event):
    """Nobody will ask a job for this node's value any more."""

    __slots__ = ("job", "node")

    def __init__(self, job: Job, node: Node) -> None:
        self.job = job
        self.node = node


class JobClosed(Event):
    """A job is not wanted any more: cancelled, or a growing one that has ended."""

    __slots__ = ("error", "job")

    def __init__(self, job: Job, error: BaseException | None = None) -> None:
        self.job = job
        self.error = error


class Again:
    """A node whose call has failed and is to be made again.

    Attributes:
        node: the node.
        failures: how many calls have failed so far.
        delay: seconds before the next.
        error: what the last one raised.
    """

    __slots__ = ("delay", "error", "failures", "node")

    def __init__(self, node: Node, failures: int, delay: float, error: BaseException) -> None:
        self.node = node
        self.failures = failures
        self.delay = delay
        self.error = error


class UnitDone(Event):
    """A worker has ended a unit and is idle.

    Attributes:
        values: exported values, by node; and those that nodes left over still need.
        left: nodes not begun, new ones (that a task returned) included, each after what it needs.
        awaiting: nodes that ran and returned another, with that other.
        failed: the node and exception that ended the unit early.
        spent: per task, number of calls and seconds.
        grown: how many nodes that tasks returned were done in the unit; for progress only.
        apart: one of the nodes left does harm to the others: run each in a unit of its own.
        again: one of the nodes left has failed, and is to be called again.
        report: for the run's events: when it began and ended, bytes read and written, when each node ran.
        worn: what its process is still fit for: see `FRESH`.
    """

    __slots__ = (
        "again", "apart", "awaiting", "failed", "grown", "left", "report", "spent", "unit", "values", "worker", "worn"
    )  # fmt: skip

    def __init__(
        self,
        worker: str,
        unit: Unit,
        values: dict[Node, Any],
        left: Sequence[Node] = (),
        awaiting: Sequence[tuple[Node, Node]] = (),
        failed: tuple[Node, BaseException] | None = None,
        spent: Mapping[Task, Sequence[float]] | None = None,
        grown: int = 0,
        apart: bool = False,
        again: Again | None = None,
        report: Mapping[str, Any] | None = None,
        worn: int = FRESH,
    ) -> None:
        self.worn = worn
        self.again = again
        self.report = report or {}
        self.worker = worker
        self.unit = unit
        self.values = values
        self.left = left
        self.awaiting = awaiting
        self.failed = failed
        self.spent = spent or {}
        self.grown = grown
        self.apart = apart


class UnitRecalled(Event):
    """A worker still busy with a unit gives back nodes of it that it has not begun."""

    __slots__ = ("nodes", "unit")

    def __init__(self, unit: Unit, nodes: Sequence[Node]) -> None:
        self.unit = unit
        self.nodes = nodes


class UnitDelayed(Event):
    """A unit that was recalled is still on its way, and no other is before it: a large input takes its time."""

    __slots__ = ("unit",)

    def __init__(self, unit: Unit) -> None:
        self.unit = unit


class MemoryTight(Event):
    """There is little memory left for results (or there is enough again): begin nothing that only makes more."""

    __slots__ = ("tight",)

    def __init__(self, tight: bool) -> None:
        self.tight = tight


class ValuesLost(Event):
    """Values that an engine keeps elsewhere are gone: `lost(value)` says of one whether it is among them."""

    __slots__ = ("lost",)

    def __init__(self, lost: Callable[[Any], bool]) -> None:
        self.lost = lost


class Tick(Event):
    """Nothing happened but time; wanted while `Core.watchful` says so."""

    __slots__ = ()


# ---- instructions: what the core tells an engine


class Instruction:
    """Something to do."""

    __slots__ = ()


class Run(Instruction):
    """Have a worker run a unit."""

    __slots__ = ("unit",)

    def __init__(self, unit: Unit) -> None:
        self.unit = unit


class RunTogether(Instruction):
    """Have the workers of a gang run its units, one each, in the order of their ranks.

    Before that the engine says where the members find each other: `unit.grant.party.address`.
    """

    __slots__ = ("units",)

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = units


class Refit(Instruction):
    """Have another take the place of a worker that is idle: one that sees these accelerators and no others.

    Once it is there it is posted as `WorkerJoined(…, place=place)`. Processes that see any of these accelerators beside
    it are to be gone. With `fresh` its process has run nothing yet. If the worker turns out to have died before, its
    `WorkerLost` is all the answer. Given only to engines that say so: `Core(fits=True)`.
    """

    __slots__ = ("accelerators", "fresh", "place", "worker")

    def __init__(self, worker: str, accelerators: tuple[str, ...], fresh: bool, place: int) -> None:
        self.worker = worker
        self.accelerators = accelerators
        self.fresh = fresh
        self.place = place


class Recall(Instruction):
    """Have a worker begin no further node of a unit, and give back what it has not begun."""

    __slots__ = ("cancelled", "unit")

    def __init__(self, unit: Unit, cancelled: bool = False) -> None:
        self.unit = unit
        self.cancelled = cancelled


class Retry(Instruction):
    """A node is going to be run again, its worker having `died` or its call failed: worth telling, no more."""

    __slots__ = ("again", "died", "job")

    def __init__(self, job: Job, again: Again, died: bool = False) -> None:
        self.job = job
        self.again = again
        self.died = died


class GivenUp(Instruction):
    """A node has failed without a word from its task, which has killed its workers or took too long.

    Attributes:
        inputs: the values that its unit was given.
    """

    __slots__ = ("error", "inputs", "job", "node", "worker")

    def __init__(self, job: Job, node: Node, error: BaseException, worker: str, inputs: Mapping[Node, Any]) -> None:
        self.job = job
        self.node = node
        self.error = error
        self.worker = worker
        self.inputs = inputs


class Done(Instruction):
    """A wanted node of a growing job has its value (or its failure)."""

    __slots__ = ("job", "node")

    def __init__(self, job: Job, node: Node) -> None:
        self.job = job
        self.node = node


class Finished(Instruction):
    """A job has all its values, or an error."""

    __slots__ = ("error", "job")

    def __init__(self, job: Job, error: BaseException | None = None) -> None:
        self.job = job
        self.error = error
