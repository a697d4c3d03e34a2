"""How each row's figure is obtained: a measure gives a sample, a dict with the figure as `value` and what explains it.

Time is wall-clock time, from before anything is built to when the values are there. That they are right is checked.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _work
from systems import System, Work

Sample = dict[str, Any]


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Seconds that a call took, and what it returned."""
    began = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - began, result


# ---- started systems


def noops(work: Work, n: int) -> Sample:
    """Microseconds per task of `n` independent no-ops."""
    seconds, values = timed(work.noops, n)
    check(list(values) == list(range(n)))
    return {"value": 1e6 * seconds / n, "seconds": seconds}


def calls(work: Any, n: int) -> Sample:
    """The same, each node made by a call."""
    seconds, values = timed(work.calls, n)
    check(list(values) == list(range(n)))
    return {"value": 1e6 * seconds / n, "seconds": seconds}


def chain(work: Work, n: int) -> Sample:
    """Microseconds per hop of a chain of `n`."""
    seconds, end = timed(work.chain, n)
    check(end == n)
    return {"value": 1e6 * seconds / n, "seconds": seconds}


def chains(work: Any, nodes: int, length: int = 1_000) -> Sample:
    """Microseconds per node of chains of 1,000 nodes each."""
    count = max(1, nodes // length)
    seconds, ends = timed(work.chains, count, length)
    check(list(ends) == list(range(length, length + count)))
    return {"value": 1e6 * seconds / (count * length), "seconds": seconds}


def tree(work: Work, leaves: int) -> Sample:
    """Microseconds per node of a binary tree: `leaves` leaves, and `leaves - 1` additions."""
    seconds, root = timed(work.tree, leaves)
    check(root == leaves * (leaves - 1) // 2)
    return {"value": 1e6 * seconds / (2 * leaves - 1), "seconds": seconds}


def makespan(work: Work, tasks: int) -> Sample:
    """Time for sleeping tasks of log-normal durations, as a multiple of the ideal: half of their sum."""
    durations = _work.lognormal_durations(tasks)
    seconds, values = timed(work.sleeps, durations)
    check(list(values) == durations)
    return {"value": seconds / (sum(durations) / 2), "seconds": seconds}


# ---- systems that this starts


def memory(system: System, n: int) -> Sample:
    """Bytes per node by which the process grows while it builds and computes `n` no-ops; take a fresh process."""
    import psutil

    with system.load()() as work:
        work.noops(1)
        before = psutil.Process().memory_info().rss
        values = work.noops(n)
        grown = _peak_memory() - before
    check(len(values) == n)
    return {"value": grown / n, "bytes": grown}


def _peak_memory() -> int:
    """The most memory that this process has had, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def naps(system: System, tasks: int) -> Sample:
    """Seconds for tasks that sleep for a second each, with the start of two workers."""
    start = system.load()
    began = time.perf_counter()
    with start() as work:
        values = work.sleeps([1.0] * tasks)
        seconds = time.perf_counter() - began
    check(list(values) == [1.0] * tasks)
    return {"value": seconds, "ideal": float((tasks + 1) // 2)}


# ---- fresh processes


def first_task(system: System, processes: int) -> Sample:
    """Seconds from before an interpreter starts to when a script in it has its first task's value from a worker."""
    script = system.first_task() + "import time\nprint(time.monotonic(), value, flush=True)\nstop()\n"
    times = []
    for _ in range(processes):
        began = time.monotonic()  # this clock is the machine's, the same in every process
        ended, value = run([sys.executable, "-c", script]).stdout.split()[-2:]
        check(value == "8")
        times.append(float(ended) - began)
    return {"value": min(times), "all": times}


def import_time(system: System, processes: int) -> Sample:
    """Seconds that an interpreter takes which imports a package, start and end included."""
    return _process_time([sys.executable, "-c", f"import {system.package}"], processes)


def help_time(system: System, processes: int) -> Sample:
    """Seconds that the system's command takes to print its help."""
    return _process_time([_command(system.package), "--help"], processes)


def _process_time(command: Sequence[str], processes: int) -> Sample:
    times = [timed(run, command)[0] for _ in range(processes)]
    return {"value": min(times), "all": times}


def _command(name: str) -> str:
    return str(Path(sys.executable).parent / name)


# ---- reinforcement learning

EXAMPLE = Path(__file__).parent.parent / "examples" / "ppo_cartpole.py"

TRAINING = """
import importlib, json, sys
directory, module, parameters = sys.argv[1:]
sys.path.insert(0, directory)
run = importlib.import_module(module).pipeline(**json.loads(parameters)).run("loky:2")
summary = run.result()["summary"]
told = [event for event in run.events if "timesteps_total" in getattr(event, "data", ())]
print(json.dumps({**summary, "updates": len(told) - 1, "seconds": told[-1].time - told[0].time}))
"""
"""Trains, and says how many updates there were after the first, and in which time."""


def ppo(system: System, seeds: int) -> Sample:
    """Seconds from process start to a solved CartPole-v1, for the slowest of several seeds."""
    trainings = [training(seed=seed) for seed in range(seeds)]
    return {"value": max(t["seconds"] for t in trainings), "seeds": trainings}


def training(**parameters: Any) -> Sample:
    """One training by the command line, and the same once more for its speed.

    That is counted from the end of the first update, which compiles, to the end of the last.
    """
    settings = [f"--set={name}={value}" for name, value in parameters.items()]
    command = [_command("graphray"), "run", str(EXAMPLE), "--workers=2", "--target=summary", "--json", *settings]
    seconds, done = timed(run, command)
    summary = json.loads(done.stdout)["results"]["summary"]
    arguments = [str(EXAMPLE.parent), EXAMPLE.stem, json.dumps(parameters)]
    again = json.loads(run([sys.executable, "-c", TRAINING, *arguments]).stdout)
    check(again["steps"] == summary["steps"])  # the same agent comes out
    steps = summary["steps"] // summary["iterations"] * again["updates"]
    return {**parameters, **summary, "seconds": seconds, "steps_per_second": steps / again["seconds"]}


# ----


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)[:200]} failed:\n{done.stderr}")
    return done


def check(right: bool) -> None:
    """A benchmark of wrong results is worth nothing."""
    if not right:
        raise AssertionError("the result is wrong")
