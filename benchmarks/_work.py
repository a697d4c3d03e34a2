"""The work that every system is given: small functions, and how long the sleeping ones sleep."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

MIN_SLEEP, MAX_SLEEP, MEAN_SLEEP = 0.001, 0.5, 0.03
"""Bounds and mean of the log-normal durations, in seconds."""
SPREAD = 1.2
"""Standard deviation of their logarithm: the longest tenth of the tasks is nearly half of the work."""

CHUNK = 5
"""Parts that are needed together."""


def noop(i: int) -> int:
    return i


def inc(x: int) -> int:
    return x + 1


def add(a: int, b: int) -> int:
    return a + b


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def read(array: Any, i: int) -> float:
    """Look at a thousand numbers all over an array, others for each `i`."""
    return float(array[i :: array.size // 1_000][:1_000].sum())


def first_stage(megabytes: int) -> tuple[Any, tuple[int, ...]]:
    """An array of zeros, and no process that made a stage of it yet."""
    import numpy as np

    return np.zeros(megabytes * 1_000_000 // 8), ()


def next_stage(stage: tuple[Any, tuple[int, ...]]) -> tuple[Any, tuple[int, ...]]:
    """An array with 1 more in each place, so that all of it is read and all of it is new; and who made the stages."""
    array, processes = stage
    return array + 1, (*processes, os.getpid())


def part(i: int, megabytes: int) -> Any:
    """An array that is `i` all over."""
    import numpy as np

    return np.full(megabytes * 1_000_000 // 8, float(i))


def mean(array: Any) -> float:
    return float(array.mean())


def chunk_mean(after: Any, *arrays: Any) -> float:
    """The mean over several arrays, once something else is done."""
    return sum(map(mean, arrays)) / len(arrays)


def ramp(megabytes: int, start: int = 0) -> Any:
    """The numbers from `start` on: so that it can be told from where in it something was read."""
    import numpy as np

    return np.arange(start, start + megabytes * 1_000_000 // 8, dtype=float)


# ---- a layered graph of small tasks with exact results

LAYER = 100
"""Nodes of a layer; each needs two of the layer before."""
TURNS = 4_000, 12_000
"""Fewest and most turns of a task's loop: about one to three milliseconds."""
PRIME, FACTOR, TERM = (1 << 61) - 1, 6364136223846793005 % ((1 << 61) - 1), 1442695040888963407


class Step(NamedTuple):
    """A node of the layered graph: how long it works, and the places in the layer before of the two that it needs."""

    turns: int
    left: int
    right: int


def layers(nodes: int, seed: int = 3) -> list[list[Step]]:
    """The graph: `nodes` in layers, everything about them drawn at random."""
    rng = random.Random(seed)
    return [
        [Step(rng.randint(*TURNS), rng.randrange(LAYER), rng.randrange(LAYER)) for _ in range(LAYER)]
        for _ in range(max(1, nodes // LAYER))
    ]


def grind(turns: int, left: int, right: int) -> int:
    """Work a while, and give a number for which each turn matters."""
    x = (31 * left + right) % PRIME
    for _ in range(turns):
        x = (FACTOR * x + TERM) % PRIME
    return x


def ground(turns: int, left: int, right: int) -> int:
    """What `grind` gives, by the formula: x·fⁿ + t·(fⁿ - 1) / (f - 1)."""
    power = pow(FACTOR, turns, PRIME)
    x = (31 * left + right) % PRIME
    return (x * power + TERM * (power - 1) * pow(FACTOR - 1, -1, PRIME)) % PRIME


def result_of(graph: list[list[Step]], step: Callable[[int, Any, Any], Any]) -> list[Any]:
    """The last layer's results, where the first layer's inputs are its places; or the nodes, where `step` makes one."""
    level: list[Any] = list(range(LAYER))
    for layer in graph:
        level = [step(s.turns, level[s.left], level[s.right]) for s in layer]
    return level


def lognormal_durations(tasks: int, seed: int = 2) -> list[float]:
    """Durations in seconds, log-normal and clipped, in random order; their sum is `MEAN_SLEEP * tasks`."""
    rng = random.Random(seed)
    drawn = [rng.lognormvariate(0.0, SPREAD) for _ in range(tasks)]
    total, scale = MEAN_SLEEP * tasks, MEAN_SLEEP
    for _ in range(100):  # clipping changes the sum, so the scale is found by repetition
        durations = [min(max(scale * x, MIN_SLEEP), MAX_SLEEP) for x in drawn]
        scale *= total / sum(durations)
    return durations
