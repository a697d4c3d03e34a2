"""Train an agent with PPO until it balances the pole: rollouts in worker processes, then an update, repeated.

    graphray run examples/ppo_cartpole.py
    graphray run examples/ppo_cartpole.py --set seed=1 --set num_shards=4 --workers 4

`rl.PPO(...).train()` is all that most need. Here its iteration is a part of a larger graph, which decides for itself
how long it goes on: once recent episodes look good, the agent's best actions are tried in 100 new episodes
(`evaluate`). It is solved when their mean return is at least 475. These episodes are not among those it learned from,
and their steps are not counted as training.

Everything between two iterations is in one value, the environments' own states included. So it does not matter which
process does what: with any number of workers the same agent comes out, bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import graphray as gr
from graphray import rl
from graphray.rl import evaluation, keys, training

EVALUATION = 2  # what a key is for; see graphray.rl.training
EVALUATION_EPISODES = 100
RECENT_EPISODES = 20
NEAR = 0.15
"""Evaluate when the mean return of recent training episodes, which explore, is within this share of the goal."""


class Scored(NamedTuple):
    """A training between two iterations."""

    training: training.Training
    score: float | None = None
    """The mean return in the evaluation of its agent, if that was evaluated."""


@gr.task
def assess(step: training.Step, plan: training.Plan, seed: int, goal: float) -> Any:
    """The training with a score, if the agent may have reached the goal: a task that decides what is computed."""
    state = step.training
    recent = _returns(state)
    if len(recent) < RECENT_EPISODES or np.mean(recent) < goal - NEAR * abs(goal):
        return Scored(state)
    weights = rl.PPO.weights(plan, state)
    episodes = np.array_split(np.arange(EVALUATION_EPISODES), len(state.cursors))
    return score(state, gr.map(evaluate, episodes, plan=plan, weights=weights, seed=seed))


@gr.task
def evaluate(episodes: Any, plan: training.Plan, weights: Any, seed: int) -> Any:
    """Returns of new episodes, with the best actions."""
    key = keys.fold_in(keys.root(seed), EVALUATION)
    return evaluation.evaluate(plan.env, plan.policy, weights, key, episodes).total


@gr.task
def score(state: training.Training, returns: list[Any]) -> Scored:
    return Scored(state, float(np.mean(np.concatenate(returns))))


@gr.task
def summarise(scored: Scored, env: str, goal: float) -> dict[str, Any]:
    progress = scored.training.progress
    recent = _returns(scored.training)
    return {
        "environment": env,
        "solved": _solved(scored, goal),
        "mean_return": scored.score,
        "training_return": float(np.mean(recent)) if recent else None,
        "steps": progress.steps,
        "iterations": progress.iterations,
    }


@gr.task
def policy(scored: Scored, plan: training.Plan) -> Any:
    """The parameters of the policy, which is all that acting needs."""
    return rl.PPO.weights(plan, scored.training)


def pipeline(
    env: str = "CartPole-v1",
    seed: int = 0,
    num_envs: int = 8,
    num_shards: int = 2,
    batch: int = 1024,
    max_steps: int = 150_000,
    goal: float = 475.0,
) -> gr.Graph:
    """The training as a graph, with the outputs `summary` and `policy` (the parameters of the trained network).

    Args:
        env: a gymnasium id, a `module.Class`, or the name of an environment that graphray brings along.
        seed: what all randomness derives from.
        num_envs: environments that are stepped.
        num_shards: groups of environments that are rolled out at the same time.
        batch: environment steps of one iteration.
        max_steps: environment steps to train with at most.
        goal: the mean return at which the environment counts as solved.
    """
    algorithm = rl.PPO(env, seed=seed, num_envs=num_envs, num_shards=num_shards, train_batch_size=batch)
    plan = algorithm.plan

    def iteration(scored: Scored) -> gr.Node:
        return assess(training.iteration(plan, scored.training), plan, seed, goal)

    def finished(scored: Scored) -> bool:
        return _solved(scored, goal) or scored.training.progress.steps + batch > max_steps

    trained = gr.iterate(iteration, Scored(algorithm.state), until=finished)
    return gr.Graph(summary=summarise(trained, env, goal), policy=policy(trained, plan))


def _solved(scored: Scored, goal: float) -> bool:
    return scored.score is not None and scored.score >= goal


def _returns(state: training.Training) -> list[float]:
    return state.progress.recent.total[-RECENT_EPISODES:].tolist()
