"""Small graphs on one pool of two processes for half an hour: does memory, or anything else, grow?

    python benchmarks/soak.py                            30 minutes, a line each minute
    python benchmarks/soak.py --minutes 5 --json soak.json
    python benchmarks/soak.py --seconds 30               whether it works: ten lines, 3 seconds apart

The graphs are maps, chains, arrays of 1 MB that go through shared memory, and calls that fail. Once a minute a worker
is killed, but never the oldest, which is the one that is looked at. The first line is written once the first minute is
over, and all later ones are compared with it. Status 1 means that memory grew by more than 2 %, or that files, threads
or shared memory did. Of less than two minutes nothing is judged.

glibc raises the size from which it gives memory back at once as it sees large blocks freed, and then keeps one or the
other array of 1 MB, 4 % of a worker, now and not the next minute. For a soak that size is fixed where it begins.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))  # for the workers that import these modules by name

import _environment
import _memory
from _measures import check
from systems.graphray_ import Loky, add, chunk_mean, inc, mean, noop, part

import graphray as gr

GROWTH = 0.02
"""By how much memory may be above that of the first line."""
MINUTE, JUDGED, LINES = 60.0, 120.0, 10
"""Seconds between two lines, and of the shortest run that is judged; how many lines a shorter one has."""


def broken(i: int) -> None:
    raise ValueError(f"{i} is a number that fails")


failing = gr.task(broken)


class Line(NamedTuple):
    """How things are at one moment, between two graphs; in bytes, where not said otherwise."""

    seconds: float
    graphs: int
    kills: int
    driver: int
    worker: int
    """Of the oldest, which has been there from the start."""
    shared: int
    files: int
    """Open in the driver; a number."""
    threads: int
    """Of the driver; a number."""
    processes: int
    """Workers, a spare that is kept or on its way included; a number."""


class Soak:
    """The graphs, and how many there were."""

    def __init__(self, executor: gr.executors.Executor, seed: int) -> None:
        self.executor = executor
        self.rng = random.Random(seed)
        self.graphs = self.kills = 0

    def one(self) -> None:
        """Compute a graph, drawn at random, and look whether the result is right."""
        self.rng.choice((self.map, self.chain, self.arrays, self.failure))()
        self.graphs += 1

    def map(self) -> None:
        n = self.rng.randint(1, 200)
        check(list(self.compute(gr.map(noop, range(n)))) == list(range(n)))

    def chain(self) -> None:
        x: Any = 0
        for _ in range(20):
            x = inc(x)
        check(self.compute(add(x, x)) == 40)

    def arrays(self) -> None:
        parts = gr.map(part, range(4), megabytes=1)
        check(self.compute(chunk_mean(gr.combine(sum, gr.map(mean, parts)), *parts)) == 1.5)

    def failure(self) -> None:
        try:
            self.compute(gr.map(failing, [self.rng.random()]))
        except ValueError:
            return
        check(False)

    def killed(self) -> None:
        """Kill a worker, and go on. The first is spared, and the last may be a spare, which would be no loss."""
        workers()[1].kill()
        self.kills += 1

    def compute(self, nodes: Any) -> Any:
        return self.executor.compute(gr.Graph(nodes))

    def line(self, began: float) -> Line:
        """How things are now."""
        gc.collect()
        processes = workers()
        # Private memory, with shared memory by itself: pages of it that happen to be mapped would count here and there.
        return Line(
            time.monotonic() - began,
            self.graphs,
            self.kills,
            _memory.private_bytes(os.getpid()),
            _memory.private_bytes(processes[0].pid),
            _memory.store_bytes(os.getpid()),
            _open_files(),
            threading.active_count(),
            len(processes),
        )


def workers() -> list[Any]:
    """The pool's processes, the oldest first."""
    import psutil

    found = []
    for process in psutil.Process().children():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and re.search(Loky.WORKERS, " ".join(process.cmdline())):
                found.append(process)
        except psutil.Error:  # it has just gone
            continue
    return sorted(found, key=lambda process: process.create_time())


def _open_files() -> int:
    import psutil

    return int(psutil.Process().num_fds())


def soak(seconds: float, every: float, seed: int, say: Callable[[Line], None]) -> list[Line]:
    """Compute graphs for so long, and tell a line after each while. Returns all lines."""
    lines = []
    with gr.executors.Loky(2) as executor:
        work = Soak(executor, seed)
        work.map()  # the pool is up
        began = time.monotonic()
        due = began + every
        while True:
            work.killed()
            work.one()
            while time.monotonic() < due:
                work.one()
            lines.append(work.line(began))
            say(lines[-1])
            due += every
            if due > began + seconds + every / 2:
                return lines


def verdicts(lines: Sequence[Line]) -> dict[str, float]:
    """The largest growth after the first line: of memory as a share, of all else as a number.

    Shared memory does not go back to nothing: a pool that lives keeps some of it to use again.
    """
    first, later = lines[0], lines[1:] or lines
    shares = {name: max(getattr(x, name) for x in later) / getattr(first, name) - 1 for name in ("driver", "worker")}
    return shares | {
        "shared": _grown(lines, "shared"),
        "files": _grown(lines, "files"),
        "threads": _grown(lines, "threads"),
    }


def _grown(lines: Sequence[Line], name: str) -> float:
    """By how much the least of the second half is above the most of the first: these go up and down with spares."""
    half = (len(lines) + 1) // 2
    rest = lines[half:] or lines
    return float(min(getattr(x, name) for x in rest) - max(getattr(x, name) for x in lines[:half]))


def flat(grown: dict[str, float]) -> bool:
    memory = max(grown["driver"], grown["worker"]) <= GROWTH
    return memory and grown["shared"] <= 0 and grown["files"] <= 0 and grown["threads"] <= 0


def text(line: Line) -> str:
    return (
        f"{line.seconds / 60:6.1f} min  {line.graphs:>9,} graphs  {line.kills:>4} kills  "
        f"driver {line.driver / 1e6:6.1f} MB  worker {line.worker / 1e6:6.1f} MB  shared {line.shared / 1e6:5.1f} MB  "
        f"{line.files:>3} files  {line.threads:>2} threads  {line.processes} processes"
    )


def main(argv: Sequence[str] | None = None) -> int:
    description, _, examples = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=30.0, metavar="N", help="how long (30)")
    length.add_argument("--seconds", type=float, metavar="N", help="how long, for a trial")
    parser.add_argument("--seed", type=int, default=5, metavar="N", help="which graphs (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    args = parser.parse_args(argv)
    seconds = args.minutes * 60 if args.seconds is None else args.seconds
    if seconds <= 0:
        parser.error("the time is above 0")
    every = MINUTE if seconds >= JUDGED else seconds / LINES
    environment = _environment.describe(["graphray", "loky", "numpy"])
    lines = soak(seconds, every, args.seed, lambda line: print(text(line), flush=True))
    grown = verdicts(lines)
    met = flat(grown) if seconds >= JUDGED else None
    report = {**environment, "seed": args.seed, "lines": [x._asdict() for x in lines], "grown": grown, "flat": met}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    print(
        f"Since the first line: driver {grown['driver']:+.1%}, oldest worker {grown['worker']:+.1%}, "
        f"shared memory {grown['shared'] / 1e6:+.1f} MB, files {grown['files']:+.0f}, threads {grown['threads']:+.0f}: "
        f"{ {True: 'flat', False: 'NOT FLAT', None: 'not judged, for it was short'}[met] }"
    )
    return 1 if met is False else 0


if __name__ == "__main__":  # worker processes import this module too
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        fixed = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], fixed)
    sys.exit(main())
