"""Explain: what a run would compute and what it would find in the cache, why, and how long that takes.

Seen from the outputs down, as what only a cached node needs is not needed. A node that will run has a reason of its
own, or that of an input: then the root cause is named, however far away it is.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from graphray.executors.cache.iteration import stored_step
from graphray.executors.cache.nodes import NodeCache
from graphray.executors.cache.rules import is_own, rule_of, task_why_not
from graphray.executors.past import Cause, Past
from graphray.graph.digest import cache_key, digest_all, is_seeded, seeded_key
from graphray.graph.iterate import ITERATE
from graphray.graph.node import Node
from graphray.graph.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from graphray.executors.cache import Cache
    from graphray.executors.cache.history import History
    from graphray.graph.dataflow import Graph

# What becomes of a node.
CACHED, RUN, SHARED, INLINE, UNNEEDED = "cached", "run", "shared", "inline", "unneeded"


class Row(NamedTuple):
    """One node.

    Attributes:
        node: the node.
        label: it in short.
        task: the task's name.
        status: "cached"; "run"; "shared" (it is the same as another node, and takes its result); "inline" (a constant,
            a file, or an operator: done in passing); "unneeded" (only cached nodes need it).
        cause: why it runs, in a word: "new", "failed", "edited", "arguments", "file", "seed", "input", "evicted",
            "uncached".
        reason: why it runs, for people; empty where it does not.
        seconds: how long it takes, by what was recorded; None if that is not known.
    """

    node: Node
    label: str
    task: str
    status: str
    cause: str
    reason: str
    seconds: float | None


class Explanation:
    """What a run would do, node by node. It prints as a table, in which nodes that are alike share a line.

    Attributes:
        rows: a row per node, each after what it needs.
        groups: for each row what it has in common with rows that are alike.
        seconds: how long all that will run takes on one worker, by recorded durations.
        critical_path: how long the longest chain of it takes: no number of workers is faster.
        unknown: how many nodes will run of which no duration is recorded. They count as nothing in both times, which
            are lower bounds then.
        cache: the directory that was looked into; None if there was none.
    """

    __slots__ = ("cache", "critical_path", "groups", "rows", "seconds", "unknown")

    rows: tuple[Row, ...]
    groups: tuple[tuple[Any, ...], ...]
    seconds: float
    critical_path: float
    unknown: int
    cache: str | None

    def __init__(
        self, rows: Iterable[Row], groups: Iterable[tuple[Any, ...]], cache: str | None, critical_path: float
    ) -> None:
        fill = object.__setattr__
        fill(self, "rows", tuple(rows))
        fill(self, "groups", tuple(groups))
        fill(self, "cache", cache)
        running = [row for row in self.rows if row.status == RUN]
        fill(self, "seconds", sum([row.seconds or 0.0 for row in running]))
        fill(self, "unknown", sum([row.seconds is None for row in running]))
        fill(self, "critical_path", critical_path)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an explanation does not change")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("an explanation does not change")

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes there are of each status."""
        counts = dict.fromkeys((CACHED, RUN, SHARED, INLINE, UNNEEDED), 0)
        for row in self.rows:
            counts[row.status] += 1
        return counts

    def seconds_on(self, workers: int) -> float:
        """How long it takes on a number of workers at least."""
        return max(self.critical_path, self.seconds / max(1, workers))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data, for JSON."""
        return {
            "cache": self.cache,
            "counts": self.counts,
            "seconds": round(self.seconds, 6),
            "critical_path": round(self.critical_path, 6),
            "unknown": self.unknown,
            "nodes": [
                {
                    "label": row.label,
                    "task": row.task,
                    "status": row.status,
                    "cause": row.cause or None,
                    "reason": row.reason or None,
                    "seconds": row.seconds,
                }
                for row in self.rows
            ],
        }

    def __repr__(self) -> str:
        counts = self.counts
        return f"<Explanation: {counts[RUN]:,} of {len(self.rows):,} nodes will run, {counts[CACHED]:,} are cached>"

    def __str__(self) -> str:
        from graphray.executors.explained import as_text

        return "\n".join(as_text(self))

    def _repr_html_(self) -> str:
        from graphray.executors.explained import as_html

        return as_html(self)


def explain(graph: Graph, cache: Any = None, inputs: Mapping[str, Any] | None = None, seed: int = 0) -> Explanation:
    """What running a graph would do; see `Graph.explain`."""
    from graphray.executors.start import bound

    if type(seed) is not int:
        raise ValueError(f"seed= is an integer, not {seed!r}")
    graph = bound(graph, inputs or {})
    found = _open(graph, cache)
    explainer = _Explainer(graph, found, has_cache=cache is not None and cache is not False, seed=seed)
    history = _history(found)
    if history is None:
        return explainer.explain(None)
    with history:
        return explainer.explain(history)


def _open(graph: Graph, cache: Any) -> Cache | None:
    """The cache that a run would use, if it exists: explaining makes no directory."""
    if cache is None or cache is False:
        if not any([task.options["cache"] is True and task_why_not(task, False) is None for task in _ruling(graph)]):
            return None
        cache = True
    from graphray.executors.cache import Cache, default_directory

    if isinstance(cache, Cache):
        return cache
    if cache is not True and not isinstance(cache, (str, os.PathLike)):
        raise TypeError(f"cache= is a directory, or True for the default one, not {cache!r}")
    directory = default_directory() if cache is True else os.fspath(cache)
    return Cache(directory) if os.path.exists(directory) or not directory else None  # it refuses an empty text


def _ruling(graph: Graph) -> set[Task]:
    return {rule_of(node) for node in graph.nodes}


def _history(cache: Cache | None) -> History | None:
    from graphray.executors.cache.history import History

    return None if cache is None else History(cache.directory)


def _expands(node: Node) -> bool:
    """Whether a node of graphray's own becomes calls of the user's functions once its input is known."""
    return is_own(node._task) and node._task.kind == "call" and bool(node._args) and type(node._args[0]) is Task


class _Explainer:
    """One explanation in the making."""

    def __init__(self, graph: Graph, cache: Cache | None, has_cache: bool, seed: int) -> None:
        self.graph = graph
        self.cache = cache
        self.has_cache = has_cache
        self.seed = seed
        self.history: History | None = None
        self.why: dict[Task, str | None] = {}  # why a task's results are never kept
        self.status: dict[Node, str] = {}
        self.causes: dict[Node, Cause] = {}
        self.sources: dict[Node, Node] = {}  # by node that runs because of an input: the node whose cause that is
        self.first: dict[bytes, Node] = {}  # by key: the node that runs, in whose result others share
        self.steps: dict[Node, int] = {}  # of iterations that continue: from where
        self.pasts: dict[tuple[Task, bool], Past] = {}
        self.keys: frozenset[bytes] = frozenset()

    def explain(self, history: History | None) -> Explanation:
        """All of it."""
        self.history = history
        nodes = self.graph.nodes
        digest_all(self.graph.roots)
        digests = [node._digest[1] for node in nodes]
        self.keys = frozenset([cache_key(d, self.seed) for d in digests if type(d) is bytes])
        self._mark()
        order = self._order()
        for node in order:
            if self.status[node] in (RUN, INLINE):
                self._find_cause(node)
        rows, groups = [], []
        for node in nodes:
            status = self.status.get(node, UNNEEDED)
            word, reason, group = self._reason(node, status)
            seconds = self._seconds(node) if status == RUN else None
            rows.append(Row(node, node.label, node._task.name, status, word, reason, seconds))
            groups.append((status, node._task.name, word, group))
        directory = None if self.cache is None else os.fspath(self.cache.directory)
        times = {row.node: row.seconds or 0.0 for row in rows}
        return Explanation(rows, groups, directory, self._critical_path(order, times))

    # ---- what runs

    def _mark(self) -> None:
        """Say of each node that is needed what becomes of it, from the outputs down."""
        todo = list(self.graph.roots)
        while todo:
            node = todo.pop()
            if node in self.status:
                continue
            self.status[node] = self._status(node)
            todo += self._waits_for(node)

    def _waits_for(self, node: Node) -> Iterable[Node]:
        """What has to be there first."""
        status = self.status[node]
        if status == SHARED:
            return (self.first[cache_key(node._digest[1], self.seed)],)
        return node._deps if status in (RUN, INLINE) and node not in self.steps else ()

    def _order(self) -> list[Node]:
        """The nodes that are needed, each after what it waits for."""
        order: list[Node] = []
        opened: set[Node] = set()
        stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(self.graph.roots)]
        while stack:
            node, is_ready = stack.pop()
            if is_ready:
                order.append(node)
            elif node not in opened:
                opened.add(node)
                stack.append((node, True))
                stack += [(other, False) for other in self._waits_for(node)]
        return order

    def _status(self, node: Node) -> str:
        task = node._task
        if task is not ITERATE and is_own(task) and (task.kind == "inline" or not _expands(node)):
            return INLINE
        digest = node._digest[1]
        if self._why_not(node) is not None or type(digest) is not bytes:
            return RUN
        key = cache_key(digest, self.seed)
        if self.cache is not None:
            if self.cache.contains(key) or (
                not is_seeded(digest) and self.cache.contains(seeded_key(digest, self.seed))
            ):
                return CACHED
            if task is ITERATE:
                step = stored_step(NodeCache(self.cache, self.has_cache, self.seed), node)
                if step is not None:
                    self.steps[node] = step
        return RUN if self.first.setdefault(key, node) is node else SHARED

    def _why_not(self, node: Node) -> str | None:
        task = rule_of(node)
        if task not in self.why:
            self.why[task] = task_why_not(task, self.has_cache)
        return self.why[task]

    # ---- why

    def _find_cause(self, node: Node) -> None:
        """Why a node runs, given why what it needs does."""
        source = self._source(node)
        digest = node._digest[1]
        if type(digest) is not bytes or is_own(rule_of(node)):
            cause = None
        elif self.history is None:
            cause = Cause("new", "nothing is in the cache yet")
        else:
            past, key = self._past(node), cache_key(digest, self.seed)
            cause = past.failure_of(key) or past.own_cause()  # an edit is told, whatever else there is
            if cause is None and source is None:
                cause = past.cause_of(node, key, self.seed, self.keys)
        if cause is not None:
            self.causes[node] = cause
        elif source is not None:
            self.sources[node] = source

    def _source(self, node: Node) -> Node | None:
        """The node because of which an input of this one was never there before."""
        for dep in self._waits_for(node):
            if self.status[dep] == SHARED:
                dep = self.first[cache_key(dep._digest[1], self.seed)]
            if dep in self.sources:
                return self.sources[dep]
            if dep in self.causes and self.causes[dep].fresh:
                return dep
        return None

    def _past(self, node: Node) -> Past:
        key = (rule_of(node), node._task is ITERATE)
        past = self.pasts.get(key)
        if past is None:
            assert self.history is not None
            past = self.pasts[key] = Past(node, self.history)
        return past

    def _reason(self, node: Node, status: str) -> tuple[str, str, Any]:
        """The cause in a word, the reason for people, and what the reasons of one line have in common."""
        if status == SHARED:
            return "", f"the same as {self.first[cache_key(node._digest[1], self.seed)].label}", "the same"
        if status != RUN:
            return "", "", ""
        digest = node._digest[1]
        if _expands(node):
            text = f"becomes calls of {node._args[0].name} as it runs; whether these are cached is not known before"
            return "uncached", text, text
        why = self._why_not(node)
        if why is not None:
            text = f"not cacheable: {why}"
            return "uncached", text, text
        if type(digest) is not bytes:
            return "uncached", f"not cacheable: {digest}", str(digest).rpartition(": ")[2]
        word, text, group = self._cause_in_words(node)
        if node in self.steps:
            text = f"continues from step {self.steps[node]:,}; {text}"
        return word, text, group

    def _cause_in_words(self, node: Node) -> tuple[str, str, Any]:
        source = self.sources.get(node)
        if source is not None:
            cause = self.causes[source]
            return "input", f"because of {source.label}: {cause.text}", (source._task.name, cause.word, cause.group)
        cause = self.causes[node]
        return cause.word, cause.text, cause.group

    # ---- how long

    def _seconds(self, node: Node) -> float | None:
        if self.history is None or is_own(rule_of(node)):
            return None
        one = self._past(node).seconds
        if node._task is not ITERATE or one is None:
            return one
        steps = node._args[4]
        return None if steps is None else one * max(0, steps - self.steps.get(node, 0))

    def _critical_path(self, order: list[Node], seconds: Mapping[Node, float]) -> float:
        """Seconds of the longest chain of what runs."""
        ends: dict[Node, float] = {}
        for node in order:
            begins = max([ends[other] for other in self._waits_for(node)], default=0.0)
            ends[node] = begins + seconds[node]
        return max(ends.values(), default=0.0)
