"""The rows of the benchmark: the work, who does it, and what graphray must reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import _caching
import _faults
import _large
import _measures
from _goals import Goal, at_most, detail_at_most, faster, flat, seeds_fast, seeds_solved

IN_PROCESS = ("graphray", "dask-sync", "dask-threads", "dask-delayed")
PROCESSES = ("graphray-loky", "joblib", "loky", "ray", "distributed")
FUTURES = ("graphray-loky", "loky", "ray", "distributed")  # those whose tasks can depend on others, if only by waiting
GRAPHS = ("graphray-loky", "ray", "distributed")  # those whose tasks can have others as arguments
CACHES = ("graphray", "joblib-memory", "diskcache")  # those that keep results for other processes
PACKAGES = ("python", "graphray", "dask-sync", "distributed", "ray", "loky", "joblib")

USED, IMPORTED, COMMAND = "{label}", "import {package}", "{package} --help"  # what a figure is of


class Row(NamedTuple):
    """One kind of work, and one figure for each system.

    Attributes:
        name: what `--only` takes.
        title: what is done, with a place for the size.
        unit: of the figure; smaller is better.
        measure: gives a sample for a started system, or for one that it starts itself, and the size.
        systems: those that do it.
        size: how much of it.
        quick: how much with `--quick`.
        started: whether the system is started, and warm, before the clock is.
        slow: takes minutes; left out unless asked for.
        label: what a system is called in this row.
        rounds: how often at most each system has its turn.
        goals: what graphray must reach.
    """

    name: str
    title: str
    unit: str
    measure: Callable[[Any, int], _measures.Sample]
    systems: tuple[str, ...]
    size: int
    quick: int
    started: bool = True
    slow: bool = False
    label: str = USED
    rounds: int = 3
    goals: tuple[Goal, ...] = ()


ROWS = {
    row.name: row
    for row in (
        Row(
            "noop10k",
            "{size:,} independent no-ops",
            "µs per task",
            _measures.noops,
            systems=IN_PROCESS + PROCESSES,
            size=10_000,
            quick=1_000,
            goals=(
                at_most("graphray-loky", 4, "µs per task"),
                faster("graphray-loky", 1, "joblib"),
                faster("graphray-loky", 150, "ray"),
            ),
        ),
        Row(
            "noop100k",
            "{size:,} independent no-ops",
            "µs per task",
            _measures.noops,
            systems=("graphray", "dask-sync", "dask-threads", "graphray-loky", "joblib"),
            size=100_000,
            quick=2_000,
            goals=(at_most("graphray", 3, "µs per node"), faster("graphray", 20, "dask-sync")),
        ),
        Row(
            "calls100k",
            "{size:,} no-ops, each made by a call of its own",
            "µs per task",
            _measures.calls,
            systems=("graphray", "graphray-loky"),
            size=100_000,
            quick=2_000,
            goals=(at_most("graphray", 3, "µs per node"),),
        ),
        Row(
            "noop1m",
            "{size:,} independent no-ops",
            "µs per node",
            _measures.noops,
            systems=("graphray",),
            size=1_000_000,
            quick=20_000,
            goals=(at_most("graphray", 4, "µs per node, which is 4 s in all"), flat("noop10k", "noop100k", "noop1m")),
        ),
        Row(
            "memory1m",
            "{size:,} independent no-ops, memory",
            "bytes per node",
            _measures.memory,
            systems=("graphray",),
            size=1_000_000,
            quick=20_000,
            started=False,
            goals=(at_most("graphray", 1_000, "bytes per node"),),
        ),
        Row(
            "chains1m",
            "{size:,} nodes in chains of 1,000",
            "µs per node",
            _measures.chains,
            systems=("graphray",),
            size=1_000_000,
            quick=20_000,
            goals=(at_most("graphray", 4, "µs per node, which is 4 s in all"),),
        ),
        Row(
            "tree1m",
            "binary tree over {size:,} leaves",
            "µs per node",
            _measures.tree,
            systems=("graphray",),
            size=1 << 19,
            quick=1 << 13,
            goals=(at_most("graphray", 4, "µs per node, which is 4 s in all"),),
        ),
        Row(
            "chain2k",
            "chain of {size:,}",
            "µs per hop",
            _measures.chain,
            systems=IN_PROCESS + FUTURES,
            size=2_000,
            quick=200,
            goals=(at_most("graphray-loky", 6, "µs per hop"), faster("graphray-loky", 200, "ray")),
        ),
        Row(
            "tree16k",
            "binary tree over {size:,} leaves",
            "µs per node",
            _measures.tree,
            systems=IN_PROCESS + GRAPHS,
            size=1 << 14,
            quick=1 << 8,
            goals=(at_most("graphray-loky", 8, "µs per node"), faster("graphray-loky", 80, "ray")),
        ),
        Row(
            "array",
            "16 tasks that read one array of {size:,} MB",
            "s",
            _large.array,
            systems=("graphray", "dask-sync", "dask-threads", *PROCESSES),
            size=400,
            quick=1,
            rounds=2,
            goals=(at_most("graphray-loky", 0.35, "s"),),
        ),
        Row(
            "array-again",
            "the same tasks on the same array ({size:,} MB) once more",
            "s",
            _large.array_again,
            systems=("graphray-loky", "joblib", "ray", "distributed"),
            size=400,
            quick=1,
            rounds=2,
            goals=(at_most("graphray-loky", 0.02, "s"),),
        ),
        Row(
            "stages",
            f"{{size:,}} stages of {_large.STAGE} MB, each in another process than the last",
            "ms per stage",
            _large.stages,
            systems=GRAPHS,
            size=200,
            quick=10,
            rounds=2,
            goals=(
                at_most("graphray-loky", 33.3, "ms per stage, which is 1.5 GB/s"),
                detail_at_most("graphray-loky", "peak_results", 3, "results in memory at the worst moment"),
            ),
        ),
        Row(
            "budget",
            f"{{size:,}} results of {_large.PART} MB, all needed later, on a budget of {_large.BUDGET} MB",
            "s",
            _large.budget,
            systems=("graphray-loky", "ray"),
            size=50,
            quick=20,
            started=False,
            rounds=2,
            goals=(detail_at_most("graphray-loky", "peak_megabytes", _large.BUDGET, "MB of results in memory"),),
        ),
        Row(
            "kills",
            "{size:,} nodes in layers, a busy worker killed every second",
            "× undisturbed",
            _faults.kills,
            systems=("graphray-loky", "ray"),  # distributed's cluster came to have no workers left, and waited
            size=_faults.FULL,
            quick=1_000,
            rounds=1,
            goals=(at_most("graphray-loky", 1.5, "× the undisturbed time"),),
        ),
        Row(
            "cache-small",
            "a call whose small result is kept",
            "µs",
            _caching.small,
            systems=CACHES,
            size=200,
            quick=20,
            started=False,
            goals=(at_most("graphray", 100, "µs"),),
        ),
        Row(
            "cache-large-first",
            "a result of {size:,} MB that is kept, the first time in a process",
            "ms",
            _caching.large_first,
            systems=CACHES,
            size=400,
            quick=2,
            started=False,
            goals=(at_most("graphray", 200, "ms"),),
        ),
        Row(
            "cache-large",
            "a result of {size:,} MB that is kept, once more",
            "ms",
            _caching.large_again,
            systems=CACHES,
            size=400,
            quick=2,
            started=False,
            goals=(at_most("graphray", 50, "ms"),),
        ),
        Row(
            "cache10k",
            "{size:,} results that are all kept, in a fresh process",
            "s",
            _caching.many,
            systems=(*CACHES, "graphray-loky"),
            size=10_000,
            quick=200,
            started=False,
            goals=(at_most("graphray", 1, "s"), at_most("graphray-loky", 1, "s")),
        ),
        Row(
            "makespan",
            "{size:,} sleeping tasks of log-normal duration",
            "× ideal",
            _measures.makespan,
            systems=PROCESSES,
            size=2_000,
            quick=100,
            goals=(at_most("graphray-loky", 1.015, "× the ideal makespan"),),
        ),
        Row(
            "naps",
            "{size} tasks that sleep 1 s, start included",
            "s",
            _measures.naps,
            systems=PROCESSES,
            size=25,
            quick=2,
            started=False,
            goals=(at_most("graphray-loky", 13.4, "s"),),
        ),
        Row(
            "first-task",
            "fresh interpreter to the first task's value",
            "s",
            _measures.first_task,
            systems=PROCESSES,
            size=3,
            quick=1,
            started=False,
            goals=(at_most("graphray-loky", 0.45, "s"),),
        ),
        Row(
            "import",
            "interpreter that imports the package",
            "s",
            _measures.import_time,
            systems=PACKAGES,
            size=7,
            quick=2,
            started=False,
            label=IMPORTED,
            rounds=2,
            goals=(at_most("graphray", 0.06, "s"),),
        ),
        Row(
            "help",
            "the command's --help",
            "s",
            _measures.help_time,
            systems=("graphray", "dask-sync", "ray"),
            size=7,
            quick=2,
            started=False,
            label=COMMAND,
            rounds=2,
            goals=(at_most("graphray", 0.3, "s"),),
        ),
        Row(
            "ppo",
            "PPO, process start to a solved CartPole-v1, {size} seeds",
            "s (slowest)",
            _measures.ppo,
            systems=("graphray-loky",),
            size=5,
            quick=1,
            started=False,
            slow=True,
            rounds=1,
            goals=(
                seeds_solved(4, within=150_000),
                seeds_fast(10_000),
                at_most("graphray-loky", 30, "s, the slowest seed"),
            ),
        ),
    )
}
