"""A run's cache, as the machine that runs nodes and the driver that plans them use it: by node, not by key."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from typing import NamedTuple

from graphray.executors.cache.rules import rule_of, task_why_not
from graphray.graph.digest import cache_key, digest_all, is_seeded, seeded_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, MutableMapping, Sequence
    from typing import Any

    from graphray.executors.cache import Cache, Entry
    from graphray.graph.node import Node
    from graphray.graph.task import Task


class CacheSettings(NamedTuple):
    """Which cache a run has, as plain data."""

    directory: str
    limit: int
    everything: bool  # results of all pure tasks are kept, not only of those that ask for it


class NodeCache:
    """The results of nodes, found by what the nodes are.

    Args:
        cache: the directory.
        everything: the run was given `cache=`; otherwise only tasks with `cache=True` are kept.
        seed: the run's root seed.
    """

    def __init__(self, cache: Cache, everything: bool, seed: int) -> None:
        self.cache = cache
        self.everything = everything
        self.seed = seed
        self.hits = self.stored = self.bytes = 0
        self._spent: dict[Task, list[float]] = {}
        self._wanted: weakref.WeakKeyDictionary[Task, bool] = weakref.WeakKeyDictionary()
        self._warned: set[str] = set()
        # Nodes whose value is a stored state of an iteration, and the key of that: see `iteration`.
        self.states: weakref.WeakKeyDictionary[Node, bytes] = weakref.WeakKeyDictionary()

    @property
    def settings(self) -> CacheSettings:
        """Which it is, to be sent elsewhere."""
        return CacheSettings(str(self.cache.directory), self.cache.limit, self.everything)

    @classmethod
    def of(cls, settings: CacheSettings, seed: int) -> NodeCache:
        """The same in another process."""
        from graphray.executors.cache import Cache

        return cls(Cache(settings.directory, settings.limit), settings.everything, seed)

    def wants(self, node: Node, transient: bool = False) -> bool:
        """Whether the result of a node is kept; of a transient one (a step of an iteration), only where it asks."""
        task = rule_of(node)
        if transient:
            return task._options["cache"] is True and task.pure
        known = self._wanted.get(task)
        if known is None:
            known = self._wanted[task] = task_why_not(task, self.everything) is None
        return known

    def learn(self, nodes: Iterable[Node]) -> None:
        """Make the digests of nodes and all they need known, at once."""
        digest_all(nodes, again=False)

    def key(self, node: Node) -> bytes | None:
        """What a node's result is kept under; None for one without digest."""
        if not hasattr(node, "_digest"):
            digest_all([node], again=False)
        digest = node._digest[1]
        return cache_key(digest, self.seed) if type(digest) is bytes else None

    def depends_on_seed(self, node: Node) -> bool:
        """Whether a node's digest says that its value depends on the run's root seed."""
        if not hasattr(node, "_digest"):
            digest_all([node], again=False)
        digest = node._digest[1]
        return type(digest) is bytes and is_seeded(digest)

    def find(self, node: Node) -> tuple[Entry, bool] | None:
        """A node's result, and whether it depends on the root seed in a way that the node's digest cannot tell."""
        key = self.key(node)
        if key is None:
            return None
        entry = self.cache.find(key)
        if entry is not None:
            return entry, False
        if is_seeded(node._digest[1]):
            return None
        # Its task may have returned seeded nodes, which nobody knew before.
        entry = self.cache.find(seeded_key(node._digest[1], self.seed))
        return (entry, True) if entry is not None else None

    def load(self, entry: Entry, node: Node) -> Any:
        """The value of an entry.

        Raises:
            LookupError: it cannot be unpickled here; a warning says so.
        """
        try:
            return entry.load()
        except Exception as error:
            text = f"the cached result of {node.label} cannot be read, and is made again: {error!r}"
            self._warn(node._task.name, text)
            raise LookupError(node.label) from error

    def save(
        self,
        node: Node,
        value: Callable[[], Any],
        seconds: float | None,
        seeded: bool = False,
        source: Node | None = None,
    ) -> None:
        """Keep a result. What cannot be kept is a warning: the run goes on without.

        Args:
            node: whose result it is.
            value: gives the result.
            seconds: how long it took, where that is known.
            seeded: it depends on the root seed, whatever the node's digest says.
            source: the node that the task returned, and whose value this is; if that is kept, it is not written twice.
        """
        key = self.key(node)
        if key is None:
            return
        key = self.value_key(node._digest[1], seeded)
        there = self.states.get(node)
        if there is None and source is not None and self.key(source) is not None:
            there = self.value_key(source._digest[1], seeded)
        if there is not None and self.cache.link(key, there):
            self.stored += 1
            return
        self.put(key, value(), node, seconds)

    def value_key(self, digest: bytes, seeded: bool) -> bytes:
        """The key of a value, given whether it depends on the root seed beyond what its digest says."""
        return seeded_key(digest, self.seed) if seeded and not is_seeded(digest) else cache_key(digest, self.seed)

    def put(self, key: bytes, value: Any, node: Node, seconds: float | None = None, **more: Any) -> bool:
        """Keep a value under a key; whether that was possible."""
        from graphray.executors import wire

        info = {"task": node._task.name, "label": node.label, "seconds": seconds} | more
        try:
            size = self.cache.store(key, wire.dumps(value), info)
        except Exception as error:
            self._warn(
                node._task.name, f"a result of {node._task.name} cannot be kept in {self.cache.directory}: {error}"
            )
            return False
        self.stored += 1
        self.bytes += size
        return True

    def note_spent(self, spent: Mapping[Task, Sequence[float]]) -> None:
        """Calls and seconds of tasks, for the record of what ran."""
        for task, (calls, seconds) in spent.items():
            tally = self._spent.setdefault(task, [0, 0.0])
            tally[0] += calls
            tally[1] += seconds

    def end(self, nodes: Sequence[Node], whole: bool, failed: Mapping[Node, str]) -> Callable[[], None]:
        """A run is over.

        Args:
            nodes: those that were to be run.
            whole: they all were.
            failed: those that have failed, and the errors.

        Returns:
            What has still to be done: it remembers what ran, and may have to wait for others that write to the history.
        """
        spent, self._spent = self._spent, {}
        self.cache.close()
        return lambda: self._remember(nodes, whole, spent, failed)

    def _remember(
        self, nodes: Sequence[Node], whole: bool, spent: Mapping[Task, Sequence[float]], failed: Mapping[Node, str]
    ) -> None:
        from graphray.executors.cache.history import History

        if not whole:
            keys = [(n, self.key(n)) for n in nodes if self.wants(n)]
            nodes = [n for n, key in keys if key is not None and self.cache.contains(key)]
        if nodes or spent or failed:
            History(self.cache.directory).note(nodes, spent, self.seed, failed=failed)

    def _warn(self, about: str, text: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            with contextlib.suppress(Warning):  # where warnings are errors: this is the engine's thread
                warnings.warn(text, stacklevel=3)


class Plan(NamedTuple):
    """What a run has to do, given what its cache knows."""

    order: list[Node]  # nodes to run, each after what it needs; those of `same` in their places
    known: dict[Node, Any]  # results from the cache
    same: dict[Node, Node]  # nodes of equal digest, and the one of each that runs
    seeded: set[Node]  # of the known ones, those that depend on the root seed unbeknown to their digests
    hits: list[tuple[Node, int]]  # those found, with their sizes


def plan(
    cache: NodeCache,
    roots: Sequence[Node],
    adopt: Callable[[NodeCache, Entry, Node], Any],
    known: Container[Node] = (),
    first: MutableMapping[bytes, Node] | None = None,
    running: Container[Node] = (),
) -> Plan:
    """Look from the outputs down for what is cached: what only cached nodes need is not looked at.

    Args:
        cache: the run's.
        roots: the nodes wanted.
        adopt: gives the value of an entry, or raises LookupError.
        known: nodes that need no looking up.
        first: by key, the nodes of a growing run that run or ran; what is planned now is added.
        running: those of them that are not done yet.
    """
    digest_all(roots)
    made = Plan([], {}, {}, set(), [])
    order, found, same = made.order, made.known, made.same
    first = {} if first is None else first
    opened: set[Node] = set()
    stack: list[Any] = list(roots)
    stack.reverse()
    while stack:
        node = stack.pop()
        if node is None:
            order.append(stack.pop())
            continue
        if node in opened or node in known:
            continue
        opened.add(node)
        if cache.wants(node):
            key = cache.key(node)
            if key is not None:
                twin = first.get(key)
                if twin is not None and (twin in opened or twin in running):
                    if twin in found:
                        found[node] = found[twin]
                        if twin in made.seeded:
                            made.seeded.add(node)
                    else:
                        same[node] = twin
                        order.append(node)  # after its twin: what is open is on the way to it, and needs it
                    continue
                first[key] = node
                if _take(cache, node, adopt, made):
                    continue
        deps = node._deps
        if deps:
            stack.append(node)
            stack.append(None)
            stack.extend(deps[::-1])
        else:
            order.append(node)
    return made


def _take(cache: NodeCache, node: Node, adopt: Callable[[NodeCache, Entry, Node], Any], made: Plan) -> bool:
    hit = cache.find(node)
    if hit is None:
        return False
    entry, seeded = hit
    try:
        made.known[node] = adopt(cache, entry, node)
    except LookupError:
        return False
    if seeded:
        made.seeded.add(node)
    made.hits.append((node, entry.size))
    cache.hits += 1
    return True
