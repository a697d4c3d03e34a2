"""Job and Unit: what is left to do of one run, and the pieces that are handed out of it.

A job keeps the books: which nodes wait for what, which values are known and still needed, what is ready. It decides
nothing; that is the core's part.
"""

from __future__ import annotations

import operator
import weakref

from graphray.errors import Failure
from graphray.executors.ahead import Ahead
from graphray.graph.containers import read_only, rewrite
from graphray.graph.node import Node, topological
from graphray.graph.sources import QUOTE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from graphray.executors.audit import Audit
    from graphray.executors.cache.nodes import NodeCache, Plan
    from graphray.executors.capsule import Capsules
    from graphray.executors.placement import Member
    from graphray.executors.protocol import UnitDone
    from graphray.graph.request import Request
    from graphray.graph.task import Task

_TASK = operator.attrgetter("_task")


class Unit:
    """Nodes for one worker, each after what it needs.

    Attributes:
        inputs: values, by node, that the unit needs from outside.
        exports: nodes whose values are needed outside.
        budget: seconds after which the worker begins nothing more.
        hungry: somebody else is idle: wide expansions should come back.
        shared: others could run part of it at the same time.
        void: what it gives does not count any more: it was begun with values that are lost.
        grant: the resources that its one node has, where it asks for some; see `placement`.
    """

    __slots__ = (
        "budget",
        "exports",
        "grant",
        "hungry",
        "id",
        "inputs",
        "job",
        "nodes",
        "recalled",
        "shared",
        "started",
        "void",
        "worker",
    )

    def __init__(self, id: int, job: Job, worker: str, nodes: list[Node], budget: float, hungry: bool) -> None:
        self.id = id
        self.job = job
        self.worker = worker
        self.nodes = nodes
        self.budget = budget
        self.hungry = hungry
        self.inputs: dict[Node, Any] = {}
        self.exports: Sequence[Node] = ()
        self.grant: Member | None = None
        self.recalled: set[Node] | None = None
        self.shared = len(nodes) > 1
        self.started = 0.0
        self.void = False


class Job:
    """One run's nodes and how far they are.

    Attributes:
        roots: the nodes wanted from the beginning.
        nodes: all they need, each after what it needs, where that is known.
        values: values that are known and still needed, by node.
        wanted: the nodes whose values are the result.
        in_order: nodes that are added later go behind those that are there; else they go first.
        shared: its workers share the driver's memory, so that a task may return nodes of this very job.
        error: what ended it.
        over: it takes no further part.
    """

    def __init__(
        self,
        roots: Sequence[Node],
        nodes: Sequence[Node] | None = None,
        seed: int = 0,
        collect: bool = False,
        growing: bool = False,
        in_order: bool = False,
    ) -> None:
        self.roots = roots
        self.nodes = nodes
        self.seed = seed
        self.threads: int | None = None  # of BLAS and OpenMP, where an engine can set that per run
        self.collect = collect
        self.growing = growing
        self.in_order = in_order
        self.shared = False
        self.values: dict[Node, Any] = {}
        self.wanted: set[Node] = set()
        self.missing = 0  # wanted nodes without a value
        self.held = Held()
        self.planned: set[Node] = set()  # nodes taken up and not done; kept where one may be asked for again
        self.waiting: dict[Node, int] = {}  # how many values a node still waits for
        self.consumers: dict[Node, list[Node]] = {}  # who waits for a node's value
        self.uses: dict[Node, int] = {}  # how many nodes have still to use a known value
        self.followers: dict[Node, list[Node]] = {}  # see `learn_order`
        self.ahead = Ahead()  # what failures tell
        self.heights: dict[Node, int] = {}  # longest path to an output
        self.ready: list[Node] = []  # last in, first out
        self.requests: dict[Request, Node] = {}  # what its nodes ask of machines, and one that does
        self.unchecked: dict[Request, Node] = {}  # those of which it is not known yet whether they can be met
        self.asking: list[tuple[Job, Node]] = []  # of the nodes that are ready, those that do; the core's own list
        self._plain = False  # none of the nodes that are added next does
        self.awaiting: dict[Node, list[Node]] = {}  # by node: who has its value, too
        self.completed: list[Node] = []  # wanted nodes of a growing job that are done, and not yet reported
        self.ran: set[Node] = set()  # nodes that ran, and wait for the value of one they returned
        self.alone: set[Node] = set()  # nodes to be run in units of their own: one of them may do harm
        self.delayed: set[Node] = set()  # nodes that are to be called again, and not yet
        self.attempts: dict[Node, tuple[int, int]] = {}  # how often a node's call has failed, and its worker died
        self.places: dict[Node, int] = {}
        self.memory: int | None = None  # bytes of results above which the run's engine moves some to disk
        self.spans = False  # somebody wants to know when each node ran
        self.capsules: Capsules | None = None
        self.audit: Audit | None = None
        self.cache: NodeCache | None = None
        self.settled: list[tuple[Node, Node]] = []  # with a cache: nodes that have got their value from another
        self.ordered: list[Node] = []  # with a cache: the nodes that were to be run
        self.same: dict[Node, Node] = {}  # nodes of equal digest, and the one of each that runs
        self.first: weakref.WeakValueDictionary[bytes, Node] = weakref.WeakValueDictionary()  # see `cache.nodes.plan`
        self.marks: weakref.WeakKeyDictionary[Node, int] = weakref.WeakKeyDictionary()  # see `Machine.marks`
        self.total = 0
        self.done = 0
        self.failures = 0
        self.error: BaseException | None = None
        self.over = False

    def learn_order(self) -> None:
        """Note who needs each node's value, and the nodes' places in the order of the graph's walk.

        That is asked only once something has failed or memory is short. Of a growing run's nodes it is not known.
        """
        if not self.places:
            for i, node in enumerate(topological(self.roots)):
                self.places[node] = i
                for d in node._deps:
                    self.followers.setdefault(d, []).append(node)

    def looked_through(self, tasks: Iterable[Task]) -> None:
        """The tasks of the nodes that are added next are known: mostly none asks for resources."""
        self._plain = all([task.request is None for task in tasks])

    def _note_requests(self, nodes: Iterable[Node]) -> None:
        """What new nodes ask of machines."""
        if self._plain:
            self._plain = False
            return
        asking = [task.request for task in set(map(_TASK, nodes)) if task.request is not None]
        if any([request not in self.requests for request in asking]):
            for node in nodes:
                request = node._task.request
                if request is not None and request not in self.requests:
                    self.requests[request] = self.unchecked[request] = node

    def add(self, roots: Sequence[Node], sequential: bool, plan: Plan | None = None) -> None:
        """Want the values of further nodes. In sequence, their order is all there is to know.

        Args:
            roots: the nodes.
            sequential: there is one worker.
            plan: what the run's cache has found, see `cache.nodes.plan`.
        """
        before = len(self.wanted)
        self.wanted.update(roots)
        self.missing += len(self.wanted) - before
        if plan is not None:
            order: Sequence[Node] = self._take_up(plan, sequential)
        elif not self.growing:
            order = self.nodes or topological(roots)
        else:
            order = topological(roots, Known(self))
        self._note_requests(order)
        if sequential:
            self.total += len(order)
            self.ready += order
            return
        if self.growing:
            for node in order:
                self.values.update([(d, self.held[d]) for d in node._deps if d in self.held])
        self.plan(order, self.in_order)
        if self.growing:
            for node in roots:
                if node in self.wanted and node in self.values and node not in self.planned:  # there for others' sake
                    self._wanted_done(node)

    def _take_up(self, plan: Plan, sequential: bool) -> Sequence[Node]:
        """Take the values that the cache has; what is still to be run."""
        order: Sequence[Node] = plan.order
        self.values.update(plan.known)
        self.marks.update(dict.fromkeys(plan.seeded, 1))
        for node in plan.known:
            if node in self.wanted:
                self._wanted_done(node)
        if sequential:
            self.same.update(plan.same)
            return order
        self.same.update(plan.same)
        for node, twin in plan.same.items():
            # It has the value of its twin once that is there, whatever it needs itself.
            self.awaiting.setdefault(twin, []).append(node)
            self.ran.add(node)
        self.total += len(plan.same)
        if self.growing or self.shared:
            self.planned.update(plan.same)
        return [n for n in order if n not in plan.same] if plan.same else order

    def plan(self, order: Sequence[Node], behind: bool = False) -> None:
        """Take up new nodes, each after what it needs; to be run first, or `behind` all others."""
        values, waiting, consumers, uses = self.values, self.waiting, self.consumers, self.uses
        following = consumers.get
        fresh: list[Node] = []
        inline: list[Node] = []
        self.total += len(order)
        if self.growing or self.shared:
            self.planned.update(order)
        for node in order:
            deps = node._deps
            if deps:
                missing = 0
                for d in deps:
                    if d in values:
                        uses[d] = uses.get(d, 0) + 1
                    else:
                        missing += 1
                        waiters = following(d)
                        if waiters is None:
                            consumers[d] = [node]
                        else:
                            waiters.append(node)
                if missing:
                    waiting[node] = missing
                elif node._task.kind == "inline" or (self.collect and self._failed_need(node) is not None):
                    inline.append(node)
                else:
                    fresh.append(node)
            elif node._task.kind == "inline":
                inline.append(node)
            else:
                fresh.append(node)
        if len(fresh) > 1 and consumers:
            heights = self.heights
            for node in reversed(order):
                height = heights.get(node, 0) + 1
                for d in node._deps:
                    if heights.get(d, 0) < height and d not in values:
                        heights[d] = height
        self.push(fresh, behind)
        for node in inline:
            self._finish([node], {node: self._settle(node)}, values)

    def push(self, fresh: list[Node], behind: bool = False) -> None:
        """Nodes became ready: they go first, in their order, those with the longest way to go ahead of others.

        Or they go behind all others, in their order.
        """
        if self.delayed:
            fresh = [n for n in fresh if n not in self.delayed]
        fresh.reverse()
        if behind:
            self.ready[:0] = fresh
            return
        if len(fresh) > 1 and self.heights:
            get = self.heights.get
            fresh.sort(key=lambda n: get(n, 0))
        if self.requests:  # those that ask for resources go another way: see `placement`
            self.asking += [(self, n) for n in reversed(fresh) if n._task.request is not None]
            fresh = [n for n in fresh if n._task.request is None]
        self.ready += fresh

    def finish_unit(self, unit: Unit, values: dict[Node, Any]) -> None:
        """All of a unit is done: only what it exports concerns others."""
        consumers = self.consumers
        exports = unit.exports
        self.done += len(unit.nodes) - len(exports)
        self._finish(exports, values, {})
        if exports is not unit.nodes:
            for node in unit.nodes:
                consumers.pop(node, None)
            if self.growing or self.shared:
                self.planned.difference_update(unit.nodes)
        if unit.inputs:
            for node in unit.nodes:
                self._release(node._deps, unit.inputs)

    def _finish(self, nodes: Iterable[Node], values: dict[Node, Any], inputs: dict[Node, Any]) -> None:
        """Nodes are done. `values` is what others may need of them, `inputs` the known values that they have used."""
        known, waiting, consumers, uses = self.values, self.waiting, self.consumers, self.uses
        known.update(values)
        if not (consumers or self.awaiting or self.growing or self.collect):
            # Nobody waits for any of these: they are all wanted.
            done = list(nodes)
            self.done += len(done)
            self.missing -= len(done)
            if self.shared:
                self.planned.difference_update(done)
            if inputs:
                for node in done:
                    self._release(node._deps, inputs)
            return
        fresh: list[Node] = []
        wanted, awaiting, ran, collect = self.wanted, self.awaiting, self.ran, self.collect
        work = list(nodes)
        inline: list[Node] = []
        here: set[Node] = set()  # nodes that the core itself settles
        for node in work:  # grows while it is gone through
            self.done += 1
            following = consumers.pop(node, None)
            outside = 0
            if following:
                for c in following:
                    left = waiting.get(c)
                    if left is None:
                        continue  # in the same unit
                    outside += 1
                    if left > 1:
                        waiting[c] = left - 1
                    else:
                        del waiting[c]
                        if c._task.kind == "inline" or (collect and self._failed_need(c) is not None):
                            inline.append(c)
                        else:
                            fresh.append(c)
            if outside:
                uses[node] = uses.get(node, 0) + outside
            if node in ran:
                ran.discard(node)
            elif node in here:
                self._release(node._deps, known)
            elif inputs and node._deps:
                self._release(node._deps, inputs)
            while inline:
                c = inline.pop()
                known[c] = self._settle(c)
                here.add(c)
                work.append(c)
            if awaiting and node in awaiting:
                value = known[node]
                for target in awaiting.pop(node):
                    known[target] = _of_target(value, target)
                    work.append(target)
                    if target in self.same:
                        self._repeated(target)
                    elif self.cache is not None:
                        self.settled.append((target, node))
            if node in wanted:
                self._wanted_done(node)
            elif node in known and node not in uses:
                del known[node]
        if self.growing or self.shared:
            self.planned.difference_update(work)
        if self.growing and self.heights:
            for node in work:
                self.heights.pop(node, None)
        if fresh:
            self.push(fresh)

    def _repeated(self, node: Node) -> None:
        """A node has the value of its twin, and is as much the root seed's."""
        twin = self.same.pop(node) if self.growing else self.same[node]  # a growing run may last for ever
        if self.marks.get(twin, 0) & 1:
            self.marks[node] = 1

    def _failed_need(self, node: Node) -> Failure | None:
        """The failure that a node is skipped for: the first among its needs, in their order, not that of time."""
        for d in node._deps:
            value = self.values[d]
            if type(value) is Failure:
                return value
        return None

    def _settle(self, node: Node) -> Any:
        """The value of a node that no worker is asked for: it is skipped, or one of graphray's own."""
        if not self.collect:
            return _inline(node, self.values)
        failure = self._failed_need(node)
        if failure is not None:
            return failure.skipping(node)
        try:
            return _inline(node, self.values)
        except Exception as error:  # an input without a value, say
            return Failure(error, node)

    def _release(self, deps: Iterable[Node], inputs: dict[Node, Any]) -> None:
        """A node has used those of its `deps` that are `inputs`."""
        uses = self.uses
        for d in deps:
            if d not in inputs:
                continue
            left = uses[d] - 1
            if left:
                uses[d] = left
            else:
                del uses[d]
                if d not in self.wanted:
                    self.values.pop(d, None)

    def _wanted_done(self, node: Node) -> None:
        self.missing -= 1
        if type(self.values.get(node)) is Failure:
            self.failures += 1
        if self.growing:
            self.held[node] = self.values[node]
            self.wanted.discard(node)
            if not self.uses.get(node):
                del self.values[node]
            self.completed.append(node)

    def find_exports(self, unit: Unit) -> None:
        """Say which values of a unit are needed outside: by nodes that are not in it, or as results."""
        consumers, wanted, awaiting = self.consumers, self.wanted, self.awaiting
        if not consumers or self.growing or self.shared:
            # All of them are wanted; or may be, by nodes that are added or returned while the unit runs.
            unit.exports = unit.nodes
            return
        inside = set(unit.nodes)
        unit.exports = [
            n
            for n in unit.nodes
            if not inside.issuperset(consumers.get(n, ())) or n in wanted or (awaiting and n in awaiting)
        ]

    def give_inputs(self, unit: Unit) -> None:
        """Put the known values into a unit that it needs from outside."""
        inputs, values = unit.inputs, self.values
        if not values:
            return
        for node in unit.nodes:
            for d in node._deps:
                if d in values:
                    inputs[d] = values[d]

    def place_of(self, node: Node, locate: Callable[[Any], tuple[int, str]]) -> str:
        """Where the largest part of what a node needs is; empty if that is nowhere in particular."""
        sizes: dict[str, int] = {}
        for d in node._deps:
            size, place = locate(self.values.get(d))
            if place:
                sizes[place] = sizes.get(place, 0) + size
        return max(sizes, key=sizes.__getitem__) if sizes else ""

    def finish_sequence(self, unit: Unit, values: dict[Node, Any]) -> None:
        """Everything that was wanted is done, by the one worker there is."""
        self.values = {**self.values, **values} if self.values else values
        self.done += len(unit.nodes)
        self.missing -= len(unit.exports)
        if self.collect:
            self.failures += sum([type(values[node]) is Failure for node in unit.exports])

    def take_back(self, unit: Unit, event: UnitDone) -> None:
        """A unit with nodes that it did not come to, or whose tasks returned nodes."""
        inside = set(unit.nodes)
        recalled = unit.recalled or ()
        not_done = set(event.left).union(recalled)
        uses, values = self.uses, self.values
        # What the unit had and what it made is not dropped before all that need it have said so.
        at_hand = {**unit.inputs, **event.values}
        values.update(at_hand)
        for d in at_hand:
            uses[d] = uses.get(d, 0) + 1
        for target, inner in event.awaiting:
            not_done.add(target)
            self.ran.add(target)
            self.awaiting.setdefault(inner, []).append(target)
            if target in inside:
                self._release(target._deps, unit.inputs)
            else:
                self.total += 1
        back = [n for n in event.left if n in inside and n not in recalled]
        for node in back:
            for d in node._deps:
                if d in event.values:
                    uses[d] += 1
        self._finish([n for n in unit.nodes if n not in not_done], {}, unit.inputs)
        self.wait_again(back)
        new = [n for n in event.left if n not in inside]
        if self.shared:  # a task may have returned nodes that are computed already, or elsewhere
            new = [n for n in new if n not in self.planned and n not in values]
        if new:
            self._note_requests(new)
            self.plan(new)
        for _, inner in event.awaiting:
            if inner in values and inner in self.awaiting:
                for target in self.awaiting.pop(inner):
                    if self.cache is not None:
                        self.settled.append((target, inner))
                    self._finish([target], {target: _of_target(values[inner], target)}, {})
        self._release(at_hand, at_hand)

    def wait_no_more(self, node: Node) -> None:
        """A node is done, whose needs may not be: it may be wanted again before they are."""
        for d in node._deps:
            following = self.consumers.get(d)
            if following is not None and node in following:
                following.remove(node)

    def fail(self, node: Node, error: BaseException) -> None:
        """A node that was ready cannot be had: it is done, as a failure."""
        self._finish([node], {node: Failure(error, node)}, self.values)

    def wait_again(self, nodes: Iterable[Node]) -> None:
        """Nodes that were handed out were not begun: they wait for what is missing, or are ready."""
        ready, inline = [], []
        for node in nodes:
            missing = sum([d not in self.values for d in node._deps])
            if missing:
                self.waiting[node] = missing
            elif node._task.kind == "inline" or (self.collect and self._failed_need(node) is not None):
                inline.append(node)
            else:
                ready.append(node)
        self.push(ready)
        for node in inline:
            self._finish([node], {node: self._settle(node)}, self.values)


class Held:
    """What a growing job has computed: by the handles that the caller holds, and by the nodes they stand for."""

    def __init__(self) -> None:
        self._values: weakref.WeakKeyDictionary[Node, Any] = weakref.WeakKeyDictionary()
        self.handles: weakref.WeakKeyDictionary[Node, weakref.ref[Node]] = weakref.WeakKeyDictionary()

    def _key(self, node: Node) -> Node | None:
        if node in self._values:
            return node
        ref = self.handles.get(node)
        handle = ref() if ref is not None else None
        return handle if handle is not None and handle in self._values else None

    def __contains__(self, node: Node) -> bool:
        return self._key(node) is not None

    def __getitem__(self, node: Node) -> Any:
        key = self._key(node)
        if key is None:
            raise KeyError(node)
        return self._values[key]

    def __setitem__(self, node: Node, value: Any) -> None:
        self._values[node] = value

    def get(self, node: Node, default: Any = None) -> Any:
        """The value of a node, or the default."""
        key = self._key(node)
        return default if key is None else self._values.get(key, default)

    def items(self) -> list[tuple[Node, Any]]:
        """The handles and their values."""
        return list(self._values.items())

    def drop(self, handle: Node) -> None:
        """Let go of a value."""
        self._values.pop(handle, None)

    def __len__(self) -> int:
        return len(self._values)


class Known:
    """The nodes a growing job has taken up, or has the values of, as a container for `topological`."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __contains__(self, node: Node) -> bool:
        return node in self.job.planned or node in self.job.values or node in self.job.held


def _of_target(value: Any, target: Node) -> Any:
    """The value of a returned node as that of the node whose task returned it."""
    return value if type(value) is not Failure else Failure(value.error, target)


def _inline(node: Node, values: dict[Node, Any]) -> Any:
    """The value of one of graphray's own nodes that the driver works out itself."""
    if node._task is QUOTE:
        return node._args[0]
    if not node._deps:
        return node._task.fn(*rewrite(node._args, read_only, True))
    return rewrite(node._args, lambda x: values[x] if type(x) is Node else x, True)[0]
