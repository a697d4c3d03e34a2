"""What the algorithms learn: the median over seeds of the return of 20 evaluation episodes, at a number of steps.

    python benchmarks/learning.py                       all tasks, 5 seeds each
    python benchmarks/learning.py ppo-cartpole --seeds 2
    python benchmarks/learning.py --json results.json   curves too, for the documentation

Each seed is a process of its own, two at a time by default.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple


class Task(NamedTuple):
    algorithm: str
    env: str
    steps: int
    goal: float
    config: dict[str, Any]


TASKS = {
    "ppo-cartpole": Task("PPO", "CartPole-v1", 100_000, 475, {}),
    "dqn-cartpole": Task("DQN", "CartPole-v1", 50_000, 475, {}),
    "sac-pendulum": Task("SAC", "Pendulum-v1", 20_000, -170, {}),
    "ppo-lstm-cartpole": Task(
        "PPO",
        "StatelessCartPole",
        1_000_000,
        350,
        {
            "gamma": 0.98,
            "lambda_": 0.8,
            "model": {"use_lstm": True, "lstm_cell_size": 64, "max_seq_len": 32},
        },
    ),
    "sac-mountaincar": Task(
        "SAC",
        "MountainCarContinuous-v0",
        50_000,
        90,
        {
            "use_sde": True,
            "gamma": 0.9999,
            "tau": 0.01,
            "lr": 3e-4,
            "train_batch_size": 512,
            "training_intensity": 512.0,
            "rollout_fragment_length": 32,
            "buffer_size": 50_000,
            "learning_starts": 0,
            "initial_alpha": 0.1,
            "target_entropy": None,
            "model": {"fcnet_hiddens": [64, 64]},
            "sde_log_std": -3.67,
        },
    ),
    "ppo-lunarlander": Task(
        "PPO",
        "LunarLander-v3",
        1_000_000,
        200,
        {
            "num_envs": 16,
            "train_batch_size": 4096,
            "sgd_minibatch_size": 256,
            "num_sgd_iter": 6,
            "gamma": 0.999,
            "lambda_": 0.98,
            "entropy_coeff": 0.005,
            "lr": 5e-4,
        },
    ),
}


def learn(name: str, seed: int) -> dict[str, Any]:
    """Train once, in this process."""
    from graphray import rl

    task = TASKS[name]
    curve = []
    begun = time.perf_counter()
    with getattr(rl, task.algorithm)(task.env, task.config, seed=seed) as algorithm:
        while algorithm.state.progress.steps < task.steps:
            result = algorithm.train()
            curve.append((result["timesteps_total"], result["episode_reward_mean"]))
        seconds = time.perf_counter() - begun
        score = algorithm.evaluate(episodes=20)["episode_reward_mean"]
    return {"name": name, "seed": seed, "score": score, "seconds": seconds, "curve": curve}


def in_process(name: str, seed: int) -> dict[str, Any]:
    command = [sys.executable, os.path.abspath(__file__), name, "--one", str(seed)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", help=f"which: {', '.join(TASKS)}")
    parser.add_argument("--seeds", type=int, default=5, help="how many, default 5")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, default 2")
    parser.add_argument("--json", metavar="FILE", help="write scores and curves there")
    parser.add_argument("--one", type=int, metavar="SEED", help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = set(args.tasks) - set(TASKS)
    if unknown:
        parser.error(f"there is no task {', '.join(unknown)}; there are {', '.join(TASKS)}")
    if args.one is not None:
        print(json.dumps(learn(args.tasks[0], args.one)))
        return

    print(f"{'task':<20} {'steps':>9} {'goal':>6} {'median':>8}  scores")
    everything = []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for name in args.tasks or TASKS:
            task = TASKS[name]
            runs = list(pool.map(lambda seed, name=name: in_process(name, seed), range(args.seeds)))
            everything += runs
            scores = [run["score"] for run in runs]
            median = statistics.median(scores)
            verdict = "met" if median >= task.goal else "MISSED"
            rate = task.steps / statistics.median(run["seconds"] for run in runs)
            print(
                f"{name:<20} {task.steps:>9,} {task.goal:>6g} {median:>8.1f}  {' '.join(f'{s:.0f}' for s in scores)}"
                f"  {verdict}, {rate:,.0f} steps/s",
                flush=True,
            )
    if args.json:
        with open(args.json, "w") as file:
            json.dump(everything, file)


if __name__ == "__main__":
    main()
