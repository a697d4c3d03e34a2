"""Machine: runs nodes one after another in the thread that calls it.

Every engine runs its nodes here: in-process the whole graph at once, a worker process one unit at a time. The machine
knows nothing of processes or other workers. It stops where it is told to (a deadline, `halt`, a failure), and then says
what is done and what is left.

A node whose task returned another node waits in a *frame* for that one's value. Frames are a list, not Python's stack,
so the depth of such chains is bounded by memory only; a frame that has nothing left to do but hand on its result is
replaced by the next one, so that a loop written this way runs in constant memory.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from operator import length_hint

from graphray.errors import Failure, TaskTimeout
from graphray.executors import context
from graphray.executors.context import enter, leave
from graphray.executors.failures import describe_call
from graphray.executors.marker import APART, DONE, OUTER, write_name
from graphray.executors.protocol import Again
from graphray.executors.retry import backoff
from graphray.graph.containers import ATOMS, read_only, rewrite, weight
from graphray.graph.dataflow import Graph
from graphray.graph.fan import as_node
from graphray.graph.node import CONSTANT, FLAT, Node
from graphray.graph.sources import QUOTE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
    from typing import Any, NoReturn, TypeAlias

    from graphray.executors.audit import Audit
    from graphray.executors.cache.nodes import NodeCache
    from graphray.executors.capsule import Capsules
    from graphray.graph.gang import Gang
    from graphray.graph.task import Task

    # Of a node that ran: its task's name and its label, when it began (`time.perf_counter`), its seconds, the attempt.
    Span: TypeAlias = tuple[str, str, float, float, int]

FOREVER = float("inf")
_LATER = object()  # in place of a value: it will be that of a node that the task returned
WORTH_SHARING = 2e-3  # seconds of work for which a trip to another worker pays


class _Apart(Exception):
    """A node is to be a unit of its own, and is in one with others."""


class Machine:
    """Values of nodes, and the loop that makes them.

    Attributes:
        values: known values by node; given ones and those made here.
        uses: how many uses each node's value still has; it is dropped with the last one. A value that is to stay has
            one more.
        halt: set (also by another thread) to begin no further node.
        failed: the node and exception that ended the last `run`, if one did; of the nodes that the machine was given.
        trail: where a returned node raised: names of tasks from that one up to those that the failed node returned.
        spent: per task, how many calls were made and how many seconds they took.
    """

    def __init__(
        self,
        worker: str,
        seed: int = 0,
        collect: bool = False,
        emit: Callable[[Node, dict[str, Any]], None] | None = None,
    ) -> None:
        self.worker = worker
        self.seed = seed
        self.collect = collect
        self.emit = emit
        self.values: dict[Node, Any] = {}
        self.uses: dict[Node, int] = {}
        self.halt = False
        self.cancelled = False
        self.recalled: list[Node] = []  # given back while others of their unit were running
        self.hungry = False  # somebody would take work: hand a wide expansion back rather than run it alone
        self.means: MutableMapping[Task, float] = {}  # what one call of each task is known to take, in seconds
        self.failed: tuple[Node, BaseException] | None = None
        self.trail: list[str] = []
        self.raised: list[tuple[Node, BaseException]] = []  # all failures, under collect; as `failed`
        self.failures = 0
        self.spent: dict[Task, list[float]] = {}
        self.count = 0
        self.grown = 0  # nodes that tasks returned
        self.given: dict[Node, Any] = {}
        self.node: Node | None = None
        self.table: list[Node] = []  # what numbers in messages about these nodes mean
        self.attempts: Mapping[Node, tuple[int, int]] = {}  # how often a node's call has failed, and its worker died
        self.delegates = False  # somebody else sees to what is to be called again, or alone
        self.again: Again | None = None  # what ended the last `run`: a node that is left and was called in vain
        self.audit: Audit | None = None
        self.capsules: Capsules | None = None
        self.same: dict[Node, Node] = {}  # nodes that take the value of another, of equal digest
        self.cache: NodeCache | None = None
        self.spans: list[Span] | None = None  # of the nodes that ran, where somebody wants to know
        self.room = FOREVER  # bytes of arrays that may be made before the rest is handed back
        self.made = 0
        self.transient: set[Node] = set()  # nodes inside iterations, whose values are not kept
        self.seeded: weakref.WeakSet[Node] = weakref.WeakSet()  # depend on the root seed, unbeknown to their digests
        self.began = 0.0  # seconds since the epoch
        self.apart = False  # the next node is to be a unit of its own
        self.tell: Callable[[Again], None] | None = None  # where this machine waits itself
        self.late: set[Task] = set()  # tasks that were warned of
        self.gang: Gang | None = None  # that the node is called in
        self.admit: Callable[[Node], None] | None = None  # refuses a call that asks for too much, where it is made here
        # Frames from the outermost: what is still to run, who waits for the result, which node gives it,
        # and all the nodes it began with.
        self._frames: list[tuple[Iterator[Node], Node | None, Node | None, list[Node]]] = []
        self._found: list[Any] = []
        self._dynamic = False
        self.marker: Any = None  # of the worker process, see `marker`
        self._length = 0
        self._wanted: Iterable[Node] = ()
        self._known: set[Node] = set()  # nodes planned and not done; kept once a task has returned a node
        self._waiting: set[Node] = set()  # nodes that returned one, and wait for its value

    # ---- setting up

    def load(self, order: Iterable[Node], wanted: Iterable[Node], given: dict[Node, Any]) -> None:
        """Give the nodes to run, each after what it needs, those whose values are to stay, and values from outside."""
        order = list(order)
        self._length = len(order)
        self.given = given
        self.values.update(given)
        self.uses.update(dict.fromkeys(given, 1))  # they stay: they are not ours
        if self.collect:
            self.failures = sum([type(v) is Failure for v in given.values()])
        self._count_uses(order)
        self._wanted = wanted
        if self.uses:  # else nothing is dropped, unless a task returns nodes: see _expand
            self._keep_wanted()
        self._frames.append((iter(order), None, None, order))

    def _keep_wanted(self) -> None:
        uses = self.uses
        for node in self._wanted:
            uses[node] = uses.get(node, 0) + 1
        self._wanted = ()

    def _count_uses(self, order: Iterable[Node]) -> None:
        uses, same = self.uses, self.same
        for node in order:
            for d in (same[node],) if same and node in same else node._deps:
                uses[d] = uses.get(d, 0) + 1

    # ---- running

    def run(self, deadline: float = FOREVER) -> bool:
        """Run until all is done (True), or until the deadline (of `time.perf_counter`), `halt`, or a failure (False).

        Begins at least one node. Nodes begun are finished.
        """
        token = enter(self)
        self.node = None
        try:
            return self._run(deadline)
        finally:
            leave(self, token)

    def _run(self, deadline: float) -> bool:
        # One pass per node: everything here is paid for each of a million nodes.
        values, uses, spent, frames = self.values, self.uses, self.spent, self._frames
        get, clock, marker = values.get, time.perf_counter, self.marker
        atoms, known, same, audit = ATOMS, self._known, self.same, self.audit
        node: Any = None
        tally: Any = None
        last_task: Any = None
        named: Any = None
        count = first = self.count
        now = clock()
        try:
            while frames:
                todo, target, result, _ = frames[-1]
                looked_after = self.cache is not None or self.spans is not None
                for node in todo:
                    if (now >= deadline and count > first) or self.halt:
                        _step_back(todo)
                        return False
                    if self._dynamic and node not in known:  # run already, as part of what a task returned
                        if marker is not None and len(frames) == 1:
                            marker[APART] -= 1
                        continue
                    task = node._task
                    deps = node._deps
                    if (same and node in same and self._repeat(node)) or (self.failures and deps and self._skip(node)):
                        known.discard(node)
                        count += 1
                        continue
                    self.node = node
                    if marker is not None:
                        marker[DONE] = count
                        if task is not named and len(frames) > 1:
                            named = task
                            write_name(marker, task.name)
                    form = node._form
                    args = node._args
                    fn = task.direct if audit is None else None
                    try:
                        if fn is not None:
                            if form == CONSTANT:
                                pass
                            elif form == FLAT:
                                args = map(get, args, args)
                            else:
                                args = rewrite(args, self._argument, True)
                            kwargs = node._kwargs
                            if kwargs is None:
                                value = fn(*args)
                            else:
                                value = fn(*args, **(rewrite(kwargs, self._argument, True) if form > FLAT else kwargs))
                        elif task is QUOTE:
                            values[node] = args[0]
                            known.discard(node)
                            count += 1
                            continue
                        elif task.kind == "macro":
                            value = task.fn(node, values.__getitem__, self._keeper())
                        else:
                            value = self._call(node)
                        if type(value) not in atoms:
                            value = rewrite(value, self._result)
                            if self._found:
                                value = self._expand(node, value)
                                if value is _LATER:
                                    then, now = now, clock()
                                    self._tally(task, now - then)
                                    last_task = None
                                    break
                    except BaseException as error:
                        if self._call_again(node, error):
                            _step_back(todo)
                            if self.apart or self.again is not None:
                                return False
                            now = clock()
                            continue
                        if not self._fail(node, error):
                            return False
                        value = get(node)
                    values[node] = value
                    if known:
                        known.discard(node)
                    for d in deps:
                        n = uses[d] - 1
                        if n:
                            uses[d] = n
                        else:
                            del uses[d]
                            values.pop(d, None)
                    count += 1
                    then = now
                    now = clock()
                    if task is not last_task:
                        last_task = task
                        tally = spent.get(task)
                        if tally is None:
                            tally = spent[task] = [0, 0.0]
                    tally[0] += 1
                    tally[1] += now - then
                    if looked_after:
                        self._note(node, value, then, now)
                        now = clock()  # what that took is not the next one's time
                else:
                    frames.pop()
                    if target is not None:
                        known.discard(target)
                        self._waiting.discard(target)
                        self._hand_on(target, result)
                        count += 1
                        if marker is not None and len(frames) == 1:
                            marker[OUTER] = 0
                            marker[APART] = count - (self._length - length_hint(frames[0][0]))
                    continue
                if now >= deadline or self.halt or (self.hungry and self._wide()):
                    return False
            return True
        finally:
            self.count = count

    def _tally(self, task: Task, seconds: float) -> None:
        tally = self.spent.setdefault(task, [0, 0.0])
        tally[0] += 1
        tally[1] += seconds

    def _argument(self, x: Any) -> Any:
        return self.values[x] if type(x) is Node else read_only(x)

    def _result(self, x: Any) -> Any:
        if type(x) is Node or type(x) is Graph:
            self._found.append(x)
            return x
        self.made += weight(x)
        if self.made > self.room:
            self.halt = True
        return read_only(x)

    def _call(self, node: Node) -> Any:
        """A call that needs looking after: a seed, several outputs, jit, retries, a timeout."""
        task = node._task
        # Its time is kept, and its resources are given, by others; but only for the node that a unit is for.
        if task.alone and self.delegates and self._frames[0][3] != [node]:
            raise _Apart
        if task.request is not None and self.admit is not None:
            self.admit(node)
        seed = {"seed": self.seed_of(node)} if task.seed else {}
        began = time.perf_counter()
        if self.audit is not None and self.audit.samples(task):
            value = self.audit.call(node, lambda: self._arguments(node, seed), task.callable)
            began = time.perf_counter()
        else:
            args, kwargs = self._arguments(node, seed)
            value = task.callable(*args, **kwargs)
        timeout = task._options["timeout"]
        if timeout is not None and time.perf_counter() - began > timeout:
            self._too_late(node, timeout, time.perf_counter() - began)
        if task.outputs is not None and type(value) is not Node:
            got = f"{len(value)} of them" if isinstance(value, (tuple, list)) else type(value).__name__
            if got != f"{task.outputs} of them" and type(value) is not Graph and self.gang is None:
                raise TypeError(f"{task.name} is declared with outputs={task.outputs}, and returned {got}")
        return value

    def _arguments(self, node: Node, more: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args = rewrite(node._args, self._argument, True)
        return args, {**(rewrite(node._kwargs, self._argument, True) if node._kwargs else {}), **more}

    def _too_late(self, node: Node, timeout: float, seconds: float) -> NoReturn:
        """A call came back after its time.

        Raises:
            TaskTimeout: says so.
        """
        if not context.in_worker and node._task not in self.late:
            import warnings

            self.late.add(node._task)
            with contextlib.suppress(Warning):  # where warnings are errors: the task fails anyway
                warnings.warn(
                    f"{node._task.name} took longer than its timeout; in this process a call cannot be cut off, "
                    'only fail when it returns (executor="loky" ends it in time)',
                    stacklevel=2,
                )
        raise TaskTimeout(f"{node.label} took {seconds:.3g} s, longer than its timeout of {timeout} s")

    def seed_of(self, node: Node) -> int:
        """The seed that a node's task gets.

        Raises:
            Unhashable: the node has no digest, from which it derives.
        """
        from graphray.graph.digest import derive_seed, digest_all, remembered

        if not hasattr(node, "_digest"):
            digest_all([node, *[n for n in self._frames[-1][3] if n._task.seed]], again=False)
        return derive_seed(remembered(node), self.seed, getattr(node, "_index", None))

    # ---- nodes that return nodes

    def _expand(self, node: Node, value: Any) -> Any:
        """`node` returned nodes: plan them and wait in a frame for their result; `_LATER` says so."""
        self._found.clear()
        inner = as_node(rewrite(value, _graphs_as_structures))
        order = self._plan(inner, node)
        if inner in self.values:
            known = self.values[inner]
            self._inherit(node, inner)
            return known.skipping(node) if type(known) is Failure else known
        if self.marker is not None:
            self.marker[OUTER] = self._length - length_hint(self._frames[0][0])
        if not self._dynamic:
            self._dynamic = True
            self._known.update(_remaining(self._frames[0][0]), (node,))
            self._keep_wanted()
        order_new = [n for n in order if n not in self._known]  # others are counted: they are to run later anyway
        if self.cache is not None and (node in self.transient or node._task.kind == "macro"):
            self.transient.update(order_new)
        self.grown += len(order_new)
        self._count_uses(order_new)
        self._known.update(order_new)
        self.uses[inner] = self.uses.get(inner, 0) + 1
        self._release(node)
        todo, target, result, _ = self._frames[-1]
        if target is not None and node is result and self.uses[node] == 1 and not length_hint(todo):
            # All the last frame still had to do was to hand on this node's value: the new one does that itself.
            del self.uses[node]
            self._known.discard(node)
            self._frames[-1] = (iter(order), target, inner, order_new)
        else:
            self._waiting.add(node)
            self._frames.append((iter(order), node, inner, order_new))
        return _LATER

    def _plan(self, root: Node, node: Node) -> list[Node]:
        """What has to run for `root`, stopping at values that are known."""
        values = self.values
        waiting = self._waiting
        cache = self.cache
        passing = cache is not None and (node in self.transient or node._task.kind == "macro")
        if cache is not None and not passing:
            cache.learn([root])
        order: list[Node] = []
        opened: set[Node] = set()
        stack: list[Any] = [root]
        while stack:
            n = stack.pop()
            if n is None:
                order.append(stack.pop())
            elif n not in opened and n not in values:
                if n is node or n in waiting:
                    raise RecursionError(f"{node.label} returned a node that needs the value of {n.label} itself")
                opened.add(n)
                if cache is not None and cache.wants(n, passing) and self._find(cache, n):
                    continue
                if n._deps:
                    stack += (n, None, *n._deps[::-1])
                else:
                    order.append(n)
        return order

    # ---- what is kept

    def _keeper(self) -> Any:
        """What stores and finds the states of iterations, where there is a cache."""
        if self.cache is None:
            return None
        from graphray.executors.cache.iteration import Keeper

        return Keeper(self.cache, self.seeded)

    def _find(self, cache: NodeCache, node: Node) -> bool:
        """Whether the value of a node that a task returned is in the cache; it is at hand then."""
        found = cache.find(node)
        if found is None:
            return False
        entry, seeded = found
        try:
            self.values[node] = cache.load(entry, node)
        except LookupError:
            return False
        cache.hits += 1
        if seeded:
            self.seeded.add(node)
        return True

    def _note(self, node: Node, value: Any, began: float, ended: float) -> None:
        """A node is done, and somebody wants to know."""
        if self.spans is not None and node._task.kind == "call":
            self.spans.append((node._task.name, node.label, began, ended - began, self.attempt_of(node)))
        if self.cache is not None:
            self._save(node, value, ended - began)

    def attempt_of(self, node: Node) -> int:
        """Which attempt at a node this is, from 1."""
        return 1 + sum(self.attempts.get(node, (0, 0)))

    def _save(self, node: Node, value: Any, seconds: float | None, source: Node | None = None) -> None:
        """Keep a value, where it is one to be kept."""
        cache = self.cache
        if cache is None or type(value) is Failure:
            return
        seeded = self.seeded
        if seeded and node not in seeded and any([d in seeded for d in node._deps]):
            seeded.add(node)
        transient = node in self.transient
        if transient:
            self.transient.discard(node)
        if cache.wants(node, transient):
            cache.save(node, lambda: value, seconds, node in seeded, source)

    def marks(self, index: Mapping[Node, int]) -> dict[int, int]:
        """Of numbered nodes, those whose values depend on the root seed (1) or are not to be kept (2), or both."""
        if self.cache is None or not (self.seeded or self.transient):
            return {}
        found = {i: (n in self.seeded) + 2 * (n in self.transient) for n, i in index.items()}
        return {i: mark for i, mark in found.items() if mark}

    def _inherit(self, target: Node, result: Node) -> None:
        """What a node is replaced by may depend on the root seed where its own digest does not say so, or be stored."""
        cache = self.cache
        if cache is None:
            return
        if result in self.seeded or cache.depends_on_seed(result):
            self.seeded.add(target)
        if result in cache.states:
            cache.states[target] = cache.states[result]

    def _repeat(self, node: Node) -> bool:
        """A node takes the value of another that is the same."""
        twin = self.same[node]
        value = self.values[twin]
        self.values[node] = Failure(value.error, node) if type(value) is Failure else value
        if twin in self.seeded:
            self.seeded.add(node)
        self._use(twin)
        return True

    def _release(self, node: Node) -> None:
        for d in node._deps:
            self._use(d)

    def _use(self, node: Node) -> None:
        """One use of a node's value is over."""
        left = self.uses[node] - 1
        if left:
            self.uses[node] = left
        else:
            del self.uses[node]
            self.values.pop(node, None)

    def _hand_on(self, target: Node, result: Node | None) -> None:
        """The value that `target` waited for is there."""
        assert result is not None
        value = self.values[result]
        # To the graph, it is the target that failed: nobody outside knows what it returned.
        self.values[target] = value if type(value) is not Failure else Failure(value.error, target)
        if self.cache is not None:
            self._inherit(target, result)
            self._save(target, value, None, result)
        self._use(result)

    def _wide(self) -> bool:
        """Whether the newest frame has several nodes that could run now, and enough work to be worth sharing."""
        todo = _remaining(self._frames[-1][0])
        if len(todo) < 2 or sum([self.means.get(n._task, WORTH_SHARING) for n in todo[:64]]) < WORTH_SHARING:
            return False
        values = self.values
        free = 0
        for n in todo:
            if all([d in values for d in n._deps]):
                free += 1
                if free > 1:
                    return True
        return False

    def shareable(self) -> bool:
        """Whether at least two of the nodes left could run now: else nobody could help with them."""
        values = self.values
        free = 0
        for todo, *_ in reversed(self._frames):
            for n in _remaining(todo):
                if (not self._dynamic or n in self._known) and all([d in values for d in n._deps]):
                    free += 1
                    if free > 1:
                        return True
        return False

    def run_unit(self, budget: float) -> None:
        """Run until the budget of seconds is spent, and on if what is left is a chain that nobody could help with."""
        while not self.run(time.perf_counter() + budget):
            stopped = self.failed is not None or self.again is not None or self.apart
            if stopped or self.halt or self.shareable():
                return

    # ---- failing

    def _call_again(self, node: Node, error: BaseException) -> bool:
        """Whether a call that failed is to be made again: by this machine, after a while, or (`again`) by another."""
        if type(error) is _Apart:
            self.apart = True
            return True
        options = node._task._options
        if not options["retries"] or not isinstance(error, options["retry_on"]):
            return False
        if self.cancelled:  # not `halt`: what is only taken back is called again elsewhere
            return False
        failures, deaths = self.attempts.get(node, (0, 0))
        if failures >= options["retries"]:
            return False
        self._found.clear()
        delay = backoff(node, failures + 1)
        if self.delegates:
            self.again = Again(node, failures + 1, delay, error)
            return True
        self.attempts = {**self.attempts, node: (failures + 1, deaths)}
        if self.tell is not None:
            self.tell(Again(node, failures + 1, delay, error))
        end = time.perf_counter() + delay
        while (left := end - time.perf_counter()) > 0 and not self.halt:
            time.sleep(min(left, 0.05))
        return True

    def _fail(self, node: Node, error: BaseException) -> bool:
        """Note a failure; whether to go on.

        Raises:
            KeyboardInterrupt: it is the user's, and no task's.
        """
        if isinstance(error, KeyboardInterrupt) and _is_the_users():
            raise error
        if isinstance(error, SystemExit):
            error = _exit_as_error(error)
        self._found.clear()
        describe_call(error, node, self.values, self.worker, self.attempt_of(node))
        if self.capsules is not None:
            self._bottle(node, error)
        if not self.collect:
            self.failed = (self.outermost(node), error)
            self.trail = [node._task.name, *[t._task.name for _, t, *_ in reversed(self._frames) if t is not None]][:-1]
            return False
        self.failures += 1
        self.raised.append((self.outermost(node), error))
        self.values[node] = Failure(error, node)
        return True

    def _bottle(self, node: Node, error: BaseException) -> None:
        """Write the capsule of a failure."""
        seed = None
        if node._task.seed:
            with contextlib.suppress(TypeError):  # it has none
                seed = self.seed_of(node)
        assert self.capsules is not None
        self.capsules.write(node, self.values, error, self.worker, self.attempt_of(node), seed)

    def outermost(self, node: Node) -> Node:
        """The node that the machine was given and that led to this one: itself, or one that returned others."""
        return next((target for _, target, *_ in self._frames if target is not None), node)

    def _skip(self, node: Node) -> bool:
        """Whether `node` needs a value that failed; if so it fails with it, uncalled."""
        for d in node._deps:
            cause = self.values.get(d)
            if type(cause) is Failure:
                self.values[node] = cause.skipping(node)
                self._release(node)
                return True
        return False

    # ---- what is left

    def left(self) -> list[Node]:
        """The nodes not begun, each after what it needs."""
        nodes: dict[Node, None] = {}
        for todo, *_ in reversed(self._frames):
            nodes.update(dict.fromkeys(_remaining(todo)))
        left = [n for n in nodes if n in self._known] if self._dynamic else list(nodes)
        return left + [n for n in self.recalled if n not in nodes]

    def go_on(self) -> None:
        """Begin no node that was recalled, and all the others: to be run on to the end, though it was stopped."""
        self.halt = self.hungry = self.delegates = self.apart = False
        self.again = None
        self._known.difference_update(self.recalled)

    def exported(self, exports: Iterable[Node], left: Iterable[Node]) -> dict[Node, Any]:
        """Values made here that are needed outside: the exports that are done, and what nodes left over need."""
        values = self.values
        out = {n: values[n] for n in exports if n in values}
        for node in left:
            for d in node._deps:
                if d in values and d not in self.given:
                    out[d] = values[d]
        return out

    def awaiting(self) -> list[tuple[Node, Node]]:
        """Nodes that ran and returned another: each with the one whose value it will have."""
        return [(target, result) for _, target, result, _ in self._frames if target is not None and result is not None]

    def grown_and_done(self, known: Iterable[Node], left: Iterable[Node]) -> int:
        """How many of the nodes that tasks returned are done: neither left, nor waiting for another."""
        if not self.grown:
            return 0
        open_ = {*left, *[target for target, _ in self.awaiting()]}
        return self.grown - len(open_.difference(known))

    def not_begun(self) -> list[Node]:
        """What the outermost frame has not begun; may be called from another thread once `halt` is set."""
        todo = [n for frame in self._frames[:1] for n in _remaining(frame[0])]
        return [n for n in todo if n in self._known] if self._dynamic else todo


def _is_the_users() -> bool:
    """Whether Ctrl-C, here, is meant for the whole program."""
    return not context.in_worker and threading.current_thread() is threading.main_thread()


def _exit_as_error(error: SystemExit) -> RuntimeError:
    """A task that calls `sys.exit` fails; it does not end the driver's program."""
    made = RuntimeError(f"the task called sys.exit({error.code!r})")
    made.__cause__ = error
    return made.with_traceback(error.__traceback__)


def _remaining(todo: Any) -> list[Node]:
    """What a list's iterator still holds, without moving it."""
    _, state, *position = todo.__reduce__()
    items = state[0]
    return items[position[0] :] if position else list(items)


def _step_back(todo: Any) -> None:
    """A list's iterator gives the item again that it gave last."""
    *_, position = todo.__reduce__()
    todo.__setstate__(position - 1)


def _graphs_as_structures(x: Any) -> Any:
    if type(x) is Graph:
        outputs = x._outputs
        return as_node(outputs[None] if None in outputs else dict(outputs))
    return x
