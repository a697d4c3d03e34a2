"""Train an agent with PPO until it balances the pole: rollouts in worker processes, then an update, repeated.

    graphray run examples/ppo_cartpole.py
    graphray run examples/ppo_cartpole.py --set seed=1 --set num_shards=4 --workers 4

One iteration is a small graph: each shard of environments is rolled out (`collect`), an update learns from all of
that (`learn`), and once recent episodes look good the agent's best actions are tried in 100 new episodes (`evaluate`).
It is solved when their mean return is at least 475. These episodes are not among those it learned from, and their
steps are not counted as training.

Everything between two iterations is in one value, `Training`, the environments' own states included. So it does not
matter which process does what: with any number of workers the same agent comes out, bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import graphray as gr
from graphray.rl import cursor, environments, evaluation, host, keys, rollout
from graphray.rl.agent import Agent

# What the numbers of a run are for: each use has a key of its own.
ROLLOUTS, AGENT, EVALUATION = 0, 1, 2

EVALUATION_EPISODES = 100
RECENT_EPISODES = 20
NEAR = 0.15
"""Evaluate when the mean return of recent training episodes, which explore, is within this share of the goal."""


class Training(NamedTuple):
    """A training between two iterations."""

    agent: Agent
    cursors: tuple[cursor.Cursor, ...]
    """Where the environments stand, shard by shard."""
    recent: tuple[float, ...]
    """Returns of the latest training episodes."""
    steps: int
    iterations: int
    score: float | None = None
    """The mean return in the evaluation of this agent, if it was evaluated."""


@gr.task(near="learner")
def begin(env: environments.Environment, seed: int, num_envs: int, num_shards: int) -> Training:
    """An untrained agent, and environments at the start of their first episodes."""
    import jax

    from graphray.rl import ppo

    root = keys.root(seed)
    agent = ppo.init(
        ppo.Config(env.num_actions),
        ppo.Hyperparameters(learning_rate=2e-3),
        env.observation_shape,
        keys.fold_in(root, AGENT),
    )
    shards = np.array_split(np.arange(num_envs), num_shards)
    cursors = tuple(cursor.start(env, keys.fold_in(root, ROLLOUTS), shard) for shard in shards)
    return Training(jax.device_get(agent), cursors, recent=(), steps=0, iterations=0)


@gr.task
def collect(at: cursor.Cursor, env: environments.Environment, actor: Any, steps: int) -> Any:
    """Some steps of one shard, and where it stands then."""
    return rollout.rollout(env, host.CategoricalMLP(env.num_actions), actor, at, steps)


@gr.task(near="learner")
def learn(training: Training, fragments: list[Any], env: environments.Environment) -> Training:
    """One update of the agent from what all shards have collected."""
    import jax  # here and not above: processes that only step environments start a second sooner without it

    from graphray.rl import ppo

    trajectories, cursors = zip(*fragments, strict=True)
    batch = rollout.concatenate(trajectories)
    agent, metrics = jax.device_get(ppo.update(ppo.Config(env.num_actions), training.agent, batch))

    finished = batch.episode_return[batch.terminated | batch.truncated].tolist()
    after = Training(
        agent,
        cursors,
        recent=(*training.recent, *finished)[-RECENT_EPISODES:],
        steps=training.steps + batch.reward.size,
        iterations=training.iterations + 1,
    )
    numbers = {name: float(number) for name, number in metrics._asdict().items()}
    gr.context().emit(steps=after.steps, mean_return=_mean(after.recent), **numbers)
    return after


@gr.task
def assess(training: Training, env: environments.Environment, seed: int, goal: float) -> Any:
    """The training with a score, if the agent may have reached the goal: a task that decides what is computed."""
    recent = training.recent
    if len(recent) < RECENT_EPISODES or np.mean(recent) < goal - NEAR * abs(goal):
        return training
    episodes = np.array_split(np.arange(EVALUATION_EPISODES), len(training.cursors))
    returns = gr.map(evaluate, episodes, env=env, actor=training.agent.params["actor"], seed=seed)
    return score(training, returns)


@gr.task
def evaluate(episodes: Any, env: environments.Environment, actor: Any, seed: int) -> Any:
    """Returns of new episodes, with the best actions."""
    key = keys.fold_in(keys.root(seed), EVALUATION)
    return evaluation.evaluate(env, host.CategoricalMLP(env.num_actions), actor, key, episodes)


@gr.task
def score(training: Training, returns: list[Any]) -> Training:
    return training._replace(score=float(np.mean(np.concatenate(returns))))


@gr.task
def summarise(training: Training, env: environments.Environment, goal: float) -> dict[str, Any]:
    return {
        "environment": env.source,
        "solved": _solved(training, goal),
        "mean_return": training.score,
        "training_return": _mean(training.recent),
        "steps": training.steps,
        "iterations": training.iterations,
    }


@gr.task
def policy(training: Training) -> Any:
    """The parameters of the policy network, which is all that acting needs."""
    return training.agent.params["actor"]


def pipeline(
    env: str = "CartPole-v1",
    seed: int = 0,
    num_envs: int = 8,
    num_shards: int = 2,
    fragment: int = 128,
    max_steps: int = 150_000,
    goal: float = 475.0,
) -> gr.Graph:
    """The training as a graph, with the outputs `summary` and `policy` (the parameters of the trained network).

    Args:
        env: a gymnasium id; observations are arrays, actions are discrete.
        seed: what all randomness derives from.
        num_envs: environments that are stepped.
        num_shards: groups of environments that are rolled out at the same time.
        fragment: steps of each environment in one iteration.
        max_steps: environment steps to train with at most.
        goal: the mean return at which the environment counts as solved.
    """
    known = environments.register(env)

    def iteration(training: Training) -> gr.Node:
        actor = training.agent.params["actor"]
        fragments = gr.map(collect, training.cursors, env=known, actor=actor, steps=fragment)
        return assess(learn(training, fragments, known), known, seed, goal)

    def finished(training: Training) -> bool:
        return _solved(training, goal) or training.steps + num_envs * fragment > max_steps

    trained = gr.iterate(iteration, begin(known, seed, num_envs, num_shards), until=finished)
    return gr.Graph(summary=summarise(trained, known, goal), policy=policy(trained))


def _solved(training: Training, goal: float) -> bool:
    return training.score is not None and training.score >= goal


def _mean(returns: tuple[float, ...]) -> float | None:
    return float(np.mean(returns)) if returns else None
