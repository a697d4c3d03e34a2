"""The work that every system is given: small functions, and how long the sleeping ones sleep."""

from __future__ import annotations

import random
import time
from typing import Any

MIN_SLEEP, MAX_SLEEP, MEAN_SLEEP = 0.001, 0.5, 0.03
"""Bounds and mean of the log-normal durations, in seconds."""
SPREAD = 1.2
"""Standard deviation of their logarithm: the longest tenth of the tasks is nearly half of the work."""


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


def lognormal_durations(tasks: int, seed: int = 2) -> list[float]:
    """Durations in seconds, log-normal and clipped, in random order; their sum is `MEAN_SLEEP * tasks`."""
    rng = random.Random(seed)
    drawn = [rng.lognormvariate(0.0, SPREAD) for _ in range(tasks)]
    total, scale = MEAN_SLEEP * tasks, MEAN_SLEEP
    for _ in range(100):  # clipping changes the sum, so the scale is found by repetition
        durations = [min(max(scale * x, MIN_SLEEP), MAX_SLEEP) for x in drawn]
        scale *= total / sum(durations)
    return durations
