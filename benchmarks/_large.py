"""Measures of large values on their way between processes: how long it takes, and how much memory."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from typing import Any

import _work
from _measures import Sample, check, timed
from _memory import Watch
from systems import System, Work

TASKS = 16
STAGE, PART = 50, 20
"""Megabytes of a stage's result, and of one of the parts that do not fit into the budget."""
BUDGET = 200
"""Megabytes of the memory budget."""
MOVES = 0.95
"""Share of the stages that must run elsewhere than the one before: a wish that a system may not grant once."""

_numbered = itertools.count()


def array(work: Work, megabytes: int) -> Sample:
    """Seconds for tasks that each read a thousand numbers all over one array, new and in the caller's own memory."""
    # Another one each time: joblib finds what it had before by its content.
    numbers = _work.ramp(megabytes, next(_numbered))
    seconds, values = timed(work.reads, numbers, TASKS)
    check(list(values) == _read_here(numbers))
    return {"value": seconds}


def array_again(work: Any, megabytes: int) -> Sample:
    """Seconds for the same tasks on the same array a second time: it is where it is needed already."""
    numbers = _work.ramp(megabytes, next(_numbered))
    reads = work.reader(numbers, TASKS)
    first, values = timed(reads)
    seconds, again = timed(reads)
    check(list(values) == list(again) == _read_here(numbers))
    return {"value": seconds, "first": first}


def _read_here(numbers: Any) -> list[float]:
    return [_work.read(numbers, i) for i in range(TASKS)]


def stages(work: Any, count: int) -> Sample:
    """Milliseconds per stage of a chain of 50 MB arrays, each stage in another process than the one before.

    A stage reads all of an array and makes another. The chain is run twice: for its time, and with its memory watched.
    """
    work.stages(STAGE, 4)  # whatever has to be started for that, has been
    seconds, moved = _stages(work, count)
    (_, again), peaks = watched(lambda: _stages(work, count))
    return {
        "value": 1e3 * seconds / count,
        "gigabytes_per_second": count * STAGE / 1e3 / seconds,
        "moved": min(moved, again),
        "peak_results": round(peaks["all"] / (STAGE * 1e6), 1),  # processes grow a little, whatever they do
        "peaks": peaks,
    }


def _stages(work: Any, count: int) -> tuple[float, float]:
    """Seconds, and the share of stages that ran in another process than the one before."""
    began = time.perf_counter()
    end, processes = work.stages(STAGE, count)
    seconds = time.perf_counter() - began
    check(len(processes) == count and end[0] == end[-1] == count and float(end.sum()) == count * end.size)
    moves = [a != b for a, b in itertools.pairwise(processes)]
    moved = sum(moves) / len(moves)
    if moved < MOVES:
        raise AssertionError(f"only {moved:.0%} of the stages ran in another process than the one before")
    return seconds, moved


def budget(system: System, parts: int) -> Sample:
    """Seconds for results of 20 MB which all must be kept for later, on a budget of 200 MB; start not included.

    Every part is averaged, and once this is done for all of them, every part is needed again, by fives.
    """
    with system.load().budgeted(BUDGET * 1_000_000)() as work:
        work.noops(100)
        (seconds, values), peaks = watched(lambda: timed(work.parts, parts, PART))
    middle = (parts - 1) / 2
    check(sum(values) / len(values) == middle)
    return {
        "value": seconds,
        "peak_megabytes": round(peaks["shared"] / 1e6),  # files are of whole pages
        "results_megabytes": parts * PART,
        "peaks": peaks,
    }


def watched(work: Callable[[], Any]) -> tuple[Any, dict[str, int]]:
    """What a call returns, and the peaks of memory meanwhile."""
    gc.collect()
    with Watch() as watch:
        value = work()
    return value, watch.peaks
