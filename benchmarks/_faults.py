"""Measures of work that goes on while its workers are killed."""

from __future__ import annotations

from typing import Any

import _work
from _killer import Killer
from _measures import Sample, check, timed

FULL = 10_000
"""Nodes from which on there is a kill every second; a small graph is done sooner, so its kills are closer."""


def kills(work: Any, nodes: int) -> Sample:
    """Time of a layered graph whose workers are killed, one a second, as a multiple of its undisturbed time.

    Both are measured, one after the other, in the same pool. Tasks take one to three milliseconds.
    """
    graph = _work.layers(nodes)
    expected = _work.result_of(graph, _work.ground)
    undisturbed, values = timed(work.layers, graph)
    check(list(values) == expected)
    with Killer(work.WORKERS, every=1.0 if nodes >= FULL else 0.3, seed=4) as killer:
        disturbed, values = timed(work.layers, graph)
    check(list(values) == expected)
    if not killer.kills:
        raise AssertionError("nothing was killed: the work was done too soon, or its workers were not found")
    return {
        "value": disturbed / undisturbed,
        "undisturbed": undisturbed,
        "disturbed": disturbed,
        "kills": killer.kills,
    }
