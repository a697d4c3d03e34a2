"""Ahead: what lies between a node and the outputs, which is what cannot be had if the node fails.

Many nodes of a large graph may fail, one after another. What was found out for one is remembered for the next, so that
failures along a chain cost no walk to its end each.
"""

from __future__ import annotations

import heapq
from itertools import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphray.executors.core import Job
    from graphray.graph.node import Node

FIRST, LAST = 9, 4  # names of a path that are kept: the others are of no interest to anybody


class Ahead:
    """The same for all nodes of a job, whose books these are.

    Attributes:
        found: by the nodes that follow: how many are ahead, and the path.
        beyond: of a node through which all must go: how many come after it.
        ends: the last names of the path that begins with a node.
    """

    def __init__(self) -> None:
        self.found: dict[tuple[Node, ...], tuple[int, list[str]]] = {}
        self.beyond: dict[Node, int] = {}
        self.ends: dict[Node, tuple[str, ...]] = {}


def look_ahead(job: Job, node: Node) -> tuple[int, list[str]]:
    """How many nodes need this one's value, at any distance; and names of the tasks after its own, to an output.

    Of a long path the names in its middle are missing: it has `FIRST` + `LAST` names then.
    """
    following = tuple(_following(job, node))
    found = job.ahead.found.get(following)
    if found is None:
        found = _count(job, following), _path(job, following)
        if node in job.followers:  # else others may come to need it
            job.ahead.found[following] = found
    return found


def _following(job: Job, node: Node) -> Sequence[Node]:
    """The nodes that need a node's value, or will have it for their own; in order."""
    job.learn_order()
    if node in job.followers:
        return job.followers[node]
    return job.consumers.get(node) or job.awaiting.get(node) or ()


def _count(job: Job, following: Sequence[Node]) -> int:
    """How many nodes can be reached.

    They are gone through in the order of the graph. So where there is only one left to go on from, none of those before
    it comes again, and what is ahead of that one alone can be remembered.
    """
    places, beyond = job.places, job.ahead.beyond
    reached = set(following)
    known = True  # the order of all that were met
    work: list[tuple[int, int, Node]] = []
    alone: list[tuple[Node, int]] = []  # nodes that were the only ones, and how many had been reached with them
    more = 0
    numbers = count()  # nodes are not to be compared

    def meet(nodes: Sequence[Node]) -> None:
        nonlocal known
        for n in nodes:
            place = places.get(n)
            if place is None:
                known, place = False, len(places)
            elif len(n._deps) == 1 and not _following(job, n):
                continue  # nobody else leads there, and it leads nowhere
            heapq.heappush(work, (place, next(numbers), n))

    meet(following)
    while work:
        *_, node = heapq.heappop(work)
        if not work and known:
            if node in beyond:
                more = beyond[node]
                break
            alone.append((node, len(reached)))
        new = [n for n in dict.fromkeys(_following(job, node)) if n not in reached]
        reached.update(new)
        meet(new)
    total = len(reached) + more
    if known:
        beyond.update([(node, total - before) for node, before in alone])
    return total


def _path(job: Job, following: Sequence[Node]) -> list[str]:
    """Names of the tasks from a node to an output, always by the first that follows."""
    names: list[str] = []
    while following and len(names) < FIRST:
        names.append(following[0]._task.name)
        following = _following(job, following[0])
    return [*names, *_end(job, following[0])] if following else names


def _end(job: Job, node: Node) -> tuple[str, ...]:
    """The last names of the path that begins with a node."""
    ends = job.ahead.ends
    passed = []
    end: tuple[str, ...] = ()
    while True:
        if node in ends:
            end = ends[node]
            break
        passed.append(node)
        following = _following(job, node)
        if not following:
            break
        node = following[0]
    for node in reversed(passed):
        if len(end) < LAST:
            end = (node._task.name, *end)
        if node in job.followers:
            ends[node] = end
    return end
