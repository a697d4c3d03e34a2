"""Faults at random moments: workers and drivers that are killed. The result has the same bits, and nothing is left.

Each run is drawn from a seed, which a failing test prints; `pytest -m slow` makes many more of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import fault_graphs
import psutil
import pytest
from leaks import Holdings

import graphray as gr
from graphray.executors.cache import Cache

FAST, SLOW = 12, 100

posix = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no signals")


class Killer:
    """Kills a random worker of a pool now and then, while its block runs: idle, busy, or still starting.

    Each time once some worker is ready: where all are killed before that, there is no progress, and the pool says so.
    """

    def __init__(self, pool: gr.executors.Loky, rng: random.Random, every: float) -> None:
        self._pool = pool
        self._rng = rng
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._kill)
        self.killed = 0

    def _kill(self) -> None:
        while not self._stop.wait(self._rng.uniform(0, 2 * self._every)):
            workers = list(self._pool._processes.values())
            if any(p.ready for p in workers):
                victim = self._rng.choice(workers)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim.pid, signal.SIGKILL)
                    self.killed += 1

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def killed_workers(rng: random.Random, rounds: int, cache: Path | None) -> None:
    killed = 0
    with gr.executors.Loky(2) as pool:
        pool.compute(gr.Graph(gr.map(abs, range(4))))
        for i in range(rounds):
            seed = rng.randrange(10**6)
            print(f"graph {seed}")
            options = {"cache": cache / str(i)} if cache is not None and i % 2 else {}
            graph = fault_graphs.graph(seed)
            expected = fault_graphs.digest(graph.compute("inprocess", seed=seed % 3))
            with Killer(pool, rng, rng.choice([0.2, 0.4, 0.8])) as killer:
                # A node may meet with three deaths that have nothing to do with it: that is a failure to report. Here
                # deaths come far more often than nodes last, so that one is bound to now and then.
                for _ in range(20):
                    try:
                        found = fault_graphs.digest(pool.compute(graph, seed=seed % 3, **options))
                        break
                    except gr.WorkerDied as error:
                        if "so did 2 before it" not in str(error):
                            raise
            assert found == expected
            killed += killer.killed
    assert killed >= rounds / 4


@posix
def test_killed_workers_change_nothing(rng, tmp_path):
    killed_workers(rng, FAST, tmp_path)


@posix
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_workers_change_nothing_in_many_runs(rng, tmp_path):
    killed_workers(rng, SLOW, tmp_path)


def run_driver(seed: int, executor: str, folder: Path, log: str) -> subprocess.Popen[bytes]:
    arguments = [str(seed), executor, str(folder / "cache"), str(folder / log), str(folder / "result")]
    return subprocess.Popen([sys.executable, fault_graphs.__file__, *arguments], start_new_session=True)


def family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kept(cache: Path) -> set[str]:
    """The nodes whose results are in a cache: looked at as the process that was killed has left it."""
    return {entry.info["label"] for entry in Cache(cache).entries()} if cache.exists() else set()


def killed_driver(rng: random.Random, folder: Path) -> int:
    """Kill drivers until one comes to the end; how many were killed."""
    seed = rng.randrange(10**6)
    executor = rng.choice(["inprocess", "loky:2", "loky:2"])
    print(f"graph {seed} on {executor}")
    folder.mkdir()
    expected = fault_graphs.digest(fault_graphs.graph(seed).compute("inprocess", seed=seed % 3))
    killed = 0
    while not (folder / "result").exists():
        before = kept(folder / "cache")
        log = f"log{killed}"
        patience = rng.uniform(0.3, 1.5) if killed < 4 else 60.0
        process = run_driver(seed, executor, folder, log)
        deadline = time.monotonic() + patience
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        left = family(process.pid)
        if process.poll() is None:
            killed += 1
            if rng.random() < 0.3:
                os.killpg(process.pid, signal.SIGKILL)  # all of them at once: what is left, a later start sweeps
            else:
                process.kill()
        process.wait()
        _, alive = psutil.wait_procs(left, timeout=5)
        assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
        called = (folder / log).read_text().splitlines() if (folder / log).exists() else []
        again = before.intersection(called)
        # (States of an iteration are kept under another name than that of a call, since a superseded one goes.)
        assert not again, f"run again, though their results were there: {again}"
    assert (folder / "result").read_text() == expected
    return killed


def killed_drivers(rng: random.Random, folder: Path, rounds: int) -> None:
    before = Holdings.now()
    killed = sum([killed_driver(rng, folder / str(i)) for i in range(rounds)])
    assert killed
    with gr.executors.Loky(1) as pool:  # sweeps what dead owners have left
        pool.compute(gr.call(abs, -1))
    assert not before.left_over()


@posix
def test_a_killed_driver_loses_no_finished_node(rng, tmp_path):
    killed_drivers(rng, tmp_path, 5)


@posix
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_killed_drivers_lose_no_finished_node(rng, tmp_path):
    killed_drivers(rng, tmp_path, SLOW)


# ---- resources and gangs


@gr.task(resources={"gpu": 1}, retries=50)
def on_one(number, *needs):
    time.sleep(number % 7 * 0.002)
    return number, os.environ["CUDA_VISIBLE_DEVICES"] in ("0", "1")


@gr.task(resources={"gpu": 2}, retries=50)
def on_two(number, *needs):
    return number, os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


@gr.task(retries=50)
def on_none(number, *needs):
    time.sleep(number % 5 * 0.002)
    return number, os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


@gr.task(retries=50)
def member(gang, number):
    time.sleep(number % 3 * 0.005)
    return number, gang.rank < gang.size


def placed_graph(rng: random.Random, size: int) -> tuple[gr.Graph, list]:
    nodes, expected = [], []
    for i in range(size):
        needs = rng.sample(nodes[-6:], min(len(nodes), rng.randint(0, 2)))
        kind = rng.random()
        if kind < 0.1:
            nodes.append(gr.gang(member, i, size=rng.randint(1, 2)))
            expected.append(((i, True),) * nodes[-1].task.outputs)
        else:
            nodes.append(rng.choice([on_none, on_none, on_one, on_one, on_two])(i, *needs))
            expected.append((i, True))
    return gr.Graph(nodes), expected


@posix
@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_whoever_dies_what_was_asked_for_is_given(rng: random.Random, rounds: int) -> None:
    """Each task sees its own accelerators, gangs are complete, and nothing is lost for the next."""
    with gr.executors.Loky(2, resources={"gpu": 2}) as pool:
        pool.compute(gr.Graph(gr.map(abs, range(4))))
        killed = 0
        for _ in range(rounds):
            graph, expected = placed_graph(rng, 30)
            with Killer(pool, rng, 0.5) as killer:
                assert pool.compute(graph) == expected
            killed += killer.killed
        graph, expected = placed_graph(rng, 10)
        assert pool.compute(graph) == expected
        assert pool.compute([on_two(1), *[gr.gang(member, i, size=2) for i in range(3)]])[0] == (1, True)
    assert killed
