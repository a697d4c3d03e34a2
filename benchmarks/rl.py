"""Training speed beside Stable-Baselines3 and SBX: environment steps per second, training included; all in one run.

    python benchmarks/rl.py                              all rows, each system in a process of its own
    python benchmarks/rl.py ppo dqn --rounds 3
    python benchmarks/rl.py --peers /path/to/python      where stable-baselines3 and sbx are installed

Each measurement is a fresh process with one thread for each library (and the same for all), repeated in turn, so that
what else the machine does falls on all alike; medians and ratios are printed. Compilation is not counted in steps per
second: what is measured begins after the first iterations. The row `solve` counts everything, from the start of the
process to a mean return of 475 over 20 evaluation episodes, with no configuration at all; in it each system evaluates
after every 2,000 to 5,000 steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

STEPS = {"ppo": 50_000, "dqn": 12_000, "sac": 3_000}
GOALS = {("ppo", "sbx"): 4.0, ("ppo", "sb3"): 6.0, ("dqn", "sbx"): 2.5, ("sac", "sbx"): 1.5}
ZOO_DQN = {
    "learning_rate": 2.3e-3,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1000,
    "gamma": 0.99,
    "target_update_interval": 10,
    "train_freq": 256,
    "gradient_steps": 128,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
}


# ---- what is measured; each in a process of its own


def graphray_speed(row: str) -> float:
    from graphray import rl

    match row:
        case "ppo":
            algorithm: Any = rl.PPO(
                "CartPole-v1", num_envs=8, train_batch_size=256, sgd_minibatch_size=256, num_sgd_iter=20, lr=1e-3
            )
        case "dqn":
            algorithm = rl.DQN(
                "CartPole-v1",
                lr=2.3e-3,
                train_batch_size=64,
                rollout_fragment_length=256,
                training_intensity=32,
                target_network_update_freq=10,
                tau=1.0,
                n_step=1,
                double_q=False,
                dueling=False,
                timesteps_per_iteration=1024,
            )
        case "sac":
            algorithm = rl.SAC("Pendulum-v1", train_batch_size=256)
    with algorithm:
        while algorithm.state.progress.steps < 2 * 1024:
            algorithm.train()
        before, begun = algorithm.state.progress.steps, time.perf_counter()
        while algorithm.state.progress.steps - before < STEPS[row]:
            algorithm.train()
        return (algorithm.state.progress.steps - before) / (time.perf_counter() - begun)


def peer_speed(system: str, row: str) -> float:
    module = _peer(system)
    from stable_baselines3.common.env_util import make_vec_env

    quiet: dict[str, Any] = {"verbose": 0, **({"device": "cpu"} if system == "sb3" else {})}
    match row:
        case "ppo":
            env = make_vec_env("CartPole-v1", n_envs=8)
            model = module.PPO("MlpPolicy", env, n_steps=32, batch_size=256, n_epochs=20, learning_rate=1e-3, **quiet)
        case "dqn":
            model = module.DQN("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [256, 256]}, **ZOO_DQN, **quiet)
        case "sac":
            kwargs = {"net_arch": [256, 256]}
            model = module.SAC("MlpPolicy", "Pendulum-v1", batch_size=256, policy_kwargs=kwargs, **quiet)
    model.learn(2 * 1024)
    begun, before = time.perf_counter(), model.num_timesteps
    model.learn(STEPS[row], reset_num_timesteps=False)
    return float((model.num_timesteps - before) / (time.perf_counter() - begun))


def graphray_solve() -> float:
    from graphray import rl

    with rl.PPO("CartPole-v1") as algorithm:
        while algorithm.state.progress.steps < 150_000:
            result = algorithm.train()
            due = result["training_iteration"] % 2 == 0 and result["episode_reward_max"] > 400
            if due and algorithm.evaluate(episodes=20)["episode_reward_mean"] >= 475:
                return algorithm.state.progress.steps
    return float("nan")


def peer_solve(system: str) -> float:
    module = _peer(system)
    import gymnasium
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    quiet: dict[str, Any] = {"verbose": 0, **({"device": "cpu"} if system == "sb3" else {})}
    model = module.PPO("MlpPolicy", "CartPole-v1", **quiet)
    env = Monitor(gymnasium.make("CartPole-v1"))
    while model.num_timesteps < 150_000:
        model.learn(4096, reset_num_timesteps=False)
        if evaluate_policy(model, env, n_eval_episodes=20)[0] >= 475:
            return float(model.num_timesteps)
    return float("nan")


def graphray_workers(workers: int) -> float:
    from graphray import rl

    with rl.PPO(slow, num_envs=4, num_shards=2, num_workers=workers, train_batch_size=512) as algorithm:
        algorithm.train()
        begun = time.perf_counter()
        for _ in range(4):
            algorithm.train()
        return 4 * 512 / (time.perf_counter() - begun)


def graphray_compile(name: str) -> float:
    from graphray import rl

    env, config = {
        "PPO": ("CartPole-v1", {}),
        "DQN": ("CartPole-v1", {"learning_starts": 0}),
        "SAC": ("Pendulum-v1", {"learning_starts": 0}),
    }[name]
    with getattr(rl, name)(env, config) as algorithm:
        begun = time.perf_counter()
        algorithm.train()
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        algorithm.train()
        return first - (time.perf_counter() - begun)


def slow() -> Any:
    import gymnasium

    class Sleeping(gymnasium.Wrapper):  # type: ignore[type-arg]
        def step(self, action: Any) -> Any:
            time.sleep(1e-3)
            return self.env.step(action)

    return Sleeping(gymnasium.make("CartPole-v1"))


def _peer(system: str) -> Any:
    if system == "sb3":
        import stable_baselines3
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        return stable_baselines3
    import sbx

    return sbx


# ---- rows


def measured(python: str, function: str, *arguments: Any, threads: int) -> tuple[float, float]:
    """What a function gives in a process of its own, and the seconds that this takes from start to end."""
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
    environment = {**os.environ, **dict.fromkeys(variables, str(threads))}
    command = [python, os.path.abspath(__file__), "--call", json.dumps([function, *arguments])]
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return float(done.stdout.splitlines()[-1]), time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help="ppo, dqn, sac, solve, workers, compile; default: all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured, default 3")
    parser.add_argument("--threads", type=int, default=1, help="of each library, default 1")
    parser.add_argument("--peers", metavar="PYTHON", default=sys.executable, help="interpreter with the peers")
    parser.add_argument("--call", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.call:
        function, *arguments = json.loads(args.call)
        print(globals()[function](*arguments))
        return
    check = "import stable_baselines3, sbx"
    peers = ["sb3", "sbx"]
    if subprocess.run([args.peers, "-c", check], stderr=subprocess.DEVNULL).returncode:
        peers = []
        print("stable-baselines3 and sbx-rl are not installed there: graphray alone")
    for row in args.rows or ["ppo", "dqn", "sac", "solve", "workers", "compile"]:
        table(row, args, peers)


def table(row: str, args: argparse.Namespace, peers: list[str]) -> None:
    here, threads = sys.executable, args.threads
    found: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        if row in STEPS:
            found.setdefault("graphray", []).append(measured(here, "graphray_speed", row, threads=threads)[0])
            for peer in peers:
                found.setdefault(peer, []).append(measured(args.peers, "peer_speed", peer, row, threads=threads)[0])
        elif row == "solve":
            found.setdefault("graphray", []).append(measured(here, "graphray_solve", threads=threads)[1])
            for peer in peers:
                found.setdefault(peer, []).append(measured(args.peers, "peer_solve", peer, threads=threads)[1])
        elif row == "workers":
            for workers in (0, 2):
                rate = measured(here, "graphray_workers", workers, threads=threads)[0]
                found.setdefault(f"{workers} workers", []).append(rate)
        else:
            for name in ("PPO", "DQN", "SAC"):
                seconds = measured(here, "graphray_compile", name, threads=threads)[0]
                found.setdefault(name, []).append(seconds)
    unit = "s" if row in ("solve", "compile") else "steps/s"
    mine = statistics.median(next(iter(found.values())))
    for system, values in found.items():
        middle = statistics.median(values)
        ratio = middle / mine if row == "solve" else mine / middle
        if row == "workers":
            ratio = 1 / ratio
        goal = GOALS.get((row, system))
        verdict = "" if goal is None else f"  goal {goal:g}: {'met' if ratio >= goal else 'MISSED'}"
        spread = f"{min(values):,.6g} to {max(values):,.6g}"
        print(f"{row:<8} {system:<10} {middle:>10,.5g} {unit:<8} ({spread})  ratio {ratio:.3g}{verdict}", flush=True)


if __name__ == "__main__":
    main()
