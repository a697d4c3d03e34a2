"""Which results go to disk first, when memory is short: those that are needed last."""

from __future__ import annotations

from graphray.executors.store.registry import Stored
from graphray.graph.containers import ATOMS, instances

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from graphray.executors.job import Job
    from graphray.graph.node import Node

SOON = -1  # what comes before everything else


def least_soon_needed(jobs: Iterable[Job]) -> list[Stored]:
    """The stored values of runs, those needed last first.

    The order in which nodes are run is close to that of the graph's depth-first walk; so a value is needed when the
    first of those comes that wait for it. Results that nothing but the user waits for are needed at the very end.
    """
    when: dict[Stored, float] = {}
    for job in jobs:
        known = {**dict(job.held.items()), **job.values}  # what a growing run holds for its user, and what is in use
        held = [(n, s) for n, v in known.items() if type(v) not in ATOMS for s in instances(v, Stored)]
        if held:
            job.learn_order()
            for node, stored in held:
                when[stored] = min(_when(job, node), when.get(stored, float("inf")))
    return sorted(when, key=lambda stored: -when[stored])


def _when(job: Job, node: Node) -> float:
    if job.uses.get(node):
        waiting = [job.places.get(c, SOON) for c in job.followers.get(node, ()) if c in job.waiting]
        # Some that use it are not waiting: they are ready, or running.
        return min(waiting) if len(waiting) == job.uses[node] else SOON
    return float("inf") if node in job.wanted or node in job.held else SOON
