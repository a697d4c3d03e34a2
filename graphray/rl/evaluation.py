"""Evaluation: whole episodes of a policy's best actions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphray.rl import keys
from graphray.rl.cursor import episode_seeds
from graphray.rl.environments import Environment, make
from graphray.rl.rollout import Policy

__all__ = ["evaluate"]


def evaluate(env: Environment, policy: Policy, params: Any, key: keys.Key, index: Any) -> NDArray[np.float64]:
    """Returns of one episode each in new environments, with the most likely action at every step.

    Args:
        env: the registered environment; its episodes must end.
        policy: how actions are chosen.
        params: the policy's parameters.
        key: what the seeds of the episodes derive from; not the key of the training, or its episodes are seen again.
        index: the numbers of the episodes, each with a seed of its own.

    Returns:
        The sum of rewards of each episode, (len(index),).
    """
    seeds = episode_seeds(keys.fold_in(key, index), 0).tolist()
    live = [make(env) for _ in seeds]
    block = np.zeros((max(2, len(live)), *env.observation_shape), np.float32)
    for i, seed in enumerate(seeds):
        block[i] = live[i].reset(seed=seed)[0]
    returns = np.zeros(len(live))
    running = list(range(len(live)))
    while running:
        actions = policy.act(params, block, 0.0)[0] + env.action_start
        still = []
        for i in running:
            block[i], reward, terminated, truncated, _ = live[i].step(actions[i])
            returns[i] += reward
            if terminated or truncated:
                live[i].close()
            else:
                still.append(i)
        running = still
    return returns
