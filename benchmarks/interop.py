"""What graphray costs inside other tools: per task, beside their own schedulers, all in one process and in turns.

python benchmarks/interop.py [--tasks 10000] [--turns 5]
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import _environment
import _work
import dask
import dask.threaded
from joblib import Parallel, delayed, parallel_config
from loky import get_reusable_executor

import graphray as gr
import graphray.interop.joblib
from graphray.interop.dask import get


def add(x: int, y: int) -> int:
    return x + y


def independent(n: int) -> tuple[dict[Any, Any], Any]:
    graph: dict[Any, Any] = {("leaf", i): (_work.noop, i) for i in range(n)}
    return {**graph, "end": (len, list(graph))}, "end"


def chain(n: int) -> tuple[dict[Any, Any], Any]:
    return {("c", 0): 0, **{("c", i): (add, ("c", i - 1), 1) for i in range(1, n)}}, ("c", n - 1)


def tree(n: int) -> tuple[dict[Any, Any], Any]:
    """A binary tree of additions; its keys are numbered as those of a heap."""
    leaves = n // 2
    graph: dict[Any, Any] = {("t", i): (add, ("t", 2 * i), ("t", 2 * i + 1)) for i in range(1, leaves)}
    return {**graph, **{("t", i): (_work.noop, i) for i in range(leaves, 2 * leaves)}}, ("t", 1)


def best(turns: int, systems: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each; the systems take turns, and the best counts."""
    seconds: dict[str, float] = {}
    for _ in range(turns):
        for name, work in systems.items():
            gc.collect()
            began = time.perf_counter()
            work()
            seconds[name] = min(time.perf_counter() - began, seconds.get(name, 1e9))
    return seconds


def show(what: str, n: int, seconds: dict[str, float]) -> None:
    mine = next(iter(seconds.values()))
    cells = [f"{name} {1e6 * s / n:.1f} µs ({s / mine:.1f}×)" for name, s in seconds.items()]
    print(f"{what}: {', '.join(cells)}", flush=True)


def schedulers_of_dask(n: int, turns: int, pool: Any) -> None:
    for make in (independent, chain, tree):
        graph, key = make(n)
        expected = dask.get(graph, key)
        for name, executor in (("in-process", None), ("on two processes", pool)):
            systems: dict[str, Callable[[], Any]] = {
                f"graphray {name}": lambda graph=graph, key=key, executor=executor: get(graph, key, executor=executor),
                "dask sync": lambda graph=graph, key=key: dask.get(graph, key),
                "dask threads": lambda graph=graph, key=key: dask.threaded.get(graph, key),
            }
            assert all(work() == expected for work in systems.values())
            show(f"dask, {make.__name__}, per task", n, best(turns, systems))


def futures(n: int, turns: int, pool: Any) -> None:
    def calls(executor: Any, count: int) -> Callable[[], Any]:
        return lambda: [f.result() for f in [executor.submit(_work.noop, i) for i in range(count)]]

    few = n // 5
    with pool.futures() as mine, ProcessPoolExecutor(2) as theirs, ThreadPoolExecutor(2) as threads:
        loky = get_reusable_executor(2)
        systems = {"graphray": calls(mine, few), "loky": calls(loky, few), "ProcessPoolExecutor": calls(theirs, few)}
        show("futures on two processes, per call", few, best(turns, systems))
        with gr.executors.InProcess(2) as engine, engine.futures() as here:
            systems = {"graphray": calls(here, few), "ThreadPoolExecutor": calls(threads, few)}
            show("futures on two threads, per call", few, best(turns, systems))
        loky.shutdown()


def backends_of_joblib(n: int, turns: int, pool: Any) -> None:
    def calls(backend: str, **options: Any) -> Callable[[], Any]:
        def run() -> None:
            with parallel_config(backend, n_jobs=2, **options):
                Parallel()(delayed(_work.noop)(i) for i in range(n))

        return run

    systems = {"graphray": calls("graphray", executor=pool), "joblib's loky": calls("loky")}
    show("joblib, per call", n, best(turns, systems))
    get_reusable_executor().shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    print(_environment.describe(["dask", "joblib", "loky", "graphray"]))
    with gr.executors.Loky(2) as pool:
        schedulers_of_dask(options.tasks, options.turns, pool)
        futures(options.tasks, options.turns, pool)
        backends_of_joblib(options.tasks, options.turns, pool)


if __name__ == "__main__":
    main()
