"""Kill a training with `kill -9` and start it again: it goes on where it was, and ends the same, bit for bit.

    python examples/resume_ppo.py
    python examples/resume_ppo.py --iterations 100 --kill-after 30 60 90

The training is the PPO of `ppo_cartpole.py` for a number of iterations, with a log. It runs in a process of its own,
with a cache. Nothing in it is about saving or restoring: its state, in which the log is one more value, is all that an
iteration gives to the next, and the cache keeps the latest. Here it is trained once undisturbed and once killed while
it trains, each with a cache of its own; weights, optimiser and log must be equal.

    python examples/resume_ppo.py --train DIR      that training alone: kill it as you like, and start it again
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

import graphray as gr
from graphray import rl
from graphray.executors.events import Emitted, RunEvent
from graphray.rl import training

SEED, NUM_ENVS, NUM_SHARDS, BATCH = 0, 8, 2, 1024


class Row(NamedTuple):
    """A line of the log."""

    iteration: int
    steps: int
    mean_return: float | None
    """Of the latest training episodes; None before the first is over."""


class Logged(NamedTuple):
    """A training and its log so far."""

    training: training.Training
    log: tuple[Row, ...] = ()


@gr.task
def logged(step: training.Step, log: tuple[Row, ...]) -> Logged:
    """A state with one more row."""
    progress = step.training.progress
    recent = progress.recent.total[-20:].tolist()
    row = Row(progress.iterations, progress.steps, sum(recent) / len(recent) if recent else None)
    gr.context().emit(**row._asdict())
    return Logged(step.training, (*log, row))


def pipeline(iterations: int = 60) -> gr.Graph:
    """The training as a graph, with the outputs `training` and `log`.

    Args:
        iterations: how many there are, each of 1024 steps. Asking for more later continues from the last.
    """
    algorithm = rl.PPO("CartPole-v1", seed=SEED, num_envs=NUM_ENVS, num_shards=NUM_SHARDS, train_batch_size=BATCH)
    plan = algorithm.plan

    def iteration(state: Logged) -> gr.Node:
        return logged(training.iteration(plan, state.training), state.log)

    state = gr.iterate(iteration, Logged(algorithm.state), steps=iterations)
    return gr.Graph(training=gr.getattr(state, "training"), log=gr.getattr(state, "log"))


def train(cache: str, iterations: int) -> None:
    """Train, in this process and its workers; a line for each iteration as it is made, and at last what came out."""

    def show(event: RunEvent) -> None:
        if isinstance(event, Emitted) and "iteration" in event.data:
            print(json.dumps(event.data), flush=True)

    result = pipeline(iterations).compute(executor="loky", cache=cache, progress=show)
    print(json.dumps({"agent": fingerprint(result["training"].agent), "log": result["log"]}), flush=True)


def fingerprint(agent: Any) -> str:
    """A hash of all arrays of an agent: its weights, and the state of its optimiser."""
    import hashlib

    import jax

    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(agent))).hexdigest()


def demonstrate(iterations: int, kills: list[int]) -> None:
    """Train twice, once with interruptions; complain unless the same comes out."""
    with tempfile.TemporaryDirectory(prefix="resume-ppo-") as directory:
        print(f"1. {iterations} iterations undisturbed.\n")
        undisturbed = started(f"{directory}/undisturbed", iterations)

        print("\n2. The same with another cache, and killed on its way.\n")
        for kill_after in kills:
            started(f"{directory}/killed", iterations, kill_after)
        resumed = started(f"{directory}/killed", iterations)

    print("\n3. What came of it.\n")
    for name in ("agent", "log"):
        if undisturbed[name] != resumed[name]:
            sys.exit(f"the {name} differs: {undisturbed[name]} undisturbed, {resumed[name]} with interruptions")
    print(f"   the agent's arrays: the same to the last bit, sha256 {resumed['agent'][:16]}…")
    print(f"   the log: the same {len(resumed['log'])} rows")


def started(cache: str, iterations: int, kill_after: int | None = None) -> dict[str, Any]:
    """Start the training in a process and tell how it goes; what came out of it, or nothing as it was killed."""
    # Shared memory of a killed process is removed by the resource tracker that survives it: no need for a warning.
    quietly = [sys.executable, "-W", "ignore:resource_tracker"]
    command = [*quietly, __file__, "--train", cache, "--iterations", str(iterations)]
    found: dict[str, Any] = {}
    killed = False
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:  # until there is nobody left to write to it
            first, found = not found, json.loads(line)
            if "agent" in found:
                continue
            done, mean_return = found["iteration"], found["mean_return"] or 0.0
            if first and done > 1:
                print(f"   goes on after iteration {done - 1}", flush=True)
            if done % 10 == 0:
                print(f"   iteration {done:3}: mean return {mean_return:5.1f}", flush=True)
            if kill_after is not None and done >= kill_after and not killed:
                child.kill()
                killed = True
                print(f"   kill -9 {child.pid}, after iteration {done}", flush=True)
    if child.returncode != (-signal.SIGKILL if killed else 0):
        sys.exit(f"the training ended with exit status {child.returncode}")
    return {} if killed else found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=60, help="how long to train, default 60")
    parser.add_argument(
        "--kill-after", type=int, nargs="+", default=[15, 40], metavar="N", help="at which iterations to kill it"
    )
    parser.add_argument("--train", metavar="DIR", help="train with this cache, and be killed by somebody else")
    args = parser.parse_args()
    if args.train:
        train(args.train, args.iterations)
    elif min(args.kill_after) > 0 and max(args.kill_after) < args.iterations:
        demonstrate(args.iterations, sorted(args.kill_after))
    else:
        parser.error(f"it can be killed after an iteration from 1 to {args.iterations - 1}, not {args.kill_after}")


if __name__ == "__main__":
    main()
