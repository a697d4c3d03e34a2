"""Measures of results that were kept: how long it takes to get them instead of computing them.

They were computed by another process, so that this one has nothing of them but what is on disk. That was written a
moment ago: the system still has it in memory, and no figure here is one of a disk.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import _work
from _measures import Sample, check, run, timed
from systems import System

FILL = """
import sys
sys.path.insert(0, {directory!r})
from systems import SYSTEMS
with SYSTEMS[{system!r}].load()() as work:
    work.kept({kept!r}).{what}({size})
"""


def small(system: System, calls: int) -> Sample:
    """Microseconds for a call whose small result is kept, all of the call; the median of many."""
    with tempfile.TemporaryDirectory() as directory:
        _fill(system, directory, "small", 7)
        with system.load()() as work:
            kept = work.kept(directory)
            first, value = timed(kept.small, 7)
            timings = [timed(kept.small, 7) for _ in range(calls)]
    check(value == 8 and all(v == 8 for _, v in timings))
    return {"value": 1e6 * statistics.median(seconds for seconds, _ in timings), "first": 1e6 * first}


def large_first(system: System, megabytes: int) -> Sample:
    """Milliseconds for a large array that is kept, a thousand numbers of it read, the first time in a process.

    That has had something small from there already: what is imported and opened for that is another row's `first`.
    """
    first, _ = _large(system, megabytes)
    return {"value": 1e3 * first}


def large_again(system: System, megabytes: int) -> Sample:
    """The same when the process has had it before, and let go of it."""
    first, times = _large(system, megabytes)
    return {"value": 1e3 * statistics.median(times), "first": 1e3 * first}


def _large(system: System, megabytes: int) -> tuple[float, list[float]]:
    """Seconds of the first time, and of five times afterwards."""

    def get() -> float:
        return _work.read(kept.large(megabytes), 3)

    with tempfile.TemporaryDirectory() as directory:
        _fill(system, directory, "small", 7)
        _fill(system, directory, "large", megabytes)
        with system.load()() as work:
            kept = work.kept(directory)
            check(kept.small(7) == 8)
            timings = [timed(get) for _ in range(6)]
    expected = _work.read(_work.ramp(megabytes), 3)
    check(all(value == expected for _, value in timings))
    return timings[0][0], [seconds for seconds, _ in timings[1:]]


def many(system: System, n: int) -> Sample:
    """Seconds for a graph of results that are all kept, built and run, in a process that did neither before."""
    with tempfile.TemporaryDirectory() as directory:
        _fill(system, directory, "many", n)
        with system.load()() as work:
            seconds, values = timed(work.kept(directory).many, n)
    check(list(values) == list(range(1, n + 1)))
    return {"value": seconds, "microseconds_per_hit": 1e6 * seconds / n}


def _fill(system: System, directory: str, what: str, size: int) -> None:
    """Have another process compute, so that its results are kept in a directory."""
    values: dict[str, Any] = {"system": system.name, "kept": directory, "what": what, "size": size}
    run([sys.executable, "-c", FILL.format(directory=str(Path(__file__).parent), **values)])
