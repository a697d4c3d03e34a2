"""Evaluation: whole episodes of a policy's best actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphray.rl import keys
from graphray.rl.cursor import begin, episode_seeds
from graphray.rl.environments import Environment, make
from graphray.rl.rollout import HostPolicy
from graphray.rl.spaces import decoder, encoder

if TYPE_CHECKING:
    from graphray.rl.video import Recorder

__all__ = ["Episodes", "evaluate"]


class Episodes(NamedTuple):
    """Episodes that were played, in the order of their numbers."""

    total: NDArray[np.float64]
    """The sum of rewards of each."""
    length: NDArray[np.int64]


def evaluate(
    env: Environment,
    policy: HostPolicy,
    params: Any,
    key: keys.Key,
    index: Any,
    *,
    explore: bool = False,
    steps: int | None = None,
    task: Any = None,
    recorder: Recorder | None = None,
) -> Episodes:
    """Play one episode in each of some new environments.

    Args:
        env: the registered environment; its episodes must end.
        policy: how actions are chosen.
        params: the policy's parameters.
        key: what the seeds of the episodes derive from; not the key of the training, or its episodes are seen again.
        index: the numbers of the episodes, each with a seed of its own.
        explore: whether actions are drawn; otherwise the best ones are taken.
        steps: end episodes after so many.
        task: what to set in the environments first.
        recorder: makes videos of some of the episodes.
    """
    index = np.asarray(index)
    seeds = episode_seeds(keys.fold_in(key, index), 0).tolist()
    count = len(seeds)
    numbers: list[int] = index.tolist()
    recorded = [recorder is not None and recorder.records(number) for number in numbers]
    live = [recorder.make(env) if recorder is not None and drawn else make(env) for drawn in recorded]
    try:
        write, decode = encoder(live[0].observation_space, env.observation), decoder(env.action)
        block = np.zeros((max(2, count), *env.observation.shape), env.observation.dtype)
        memory = np.zeros((len(block), policy.memory), np.float32)
        actions = keys.fold_in(keys.fold_in(key, np.arange(len(block)) + index[0]), 1)
        for i, seed in enumerate(seeds):
            write(begin(env, live[i], seed, task), block[i])
            if recorder is not None and recorded[i]:
                recorder.see(numbers[i], live[i])
        totals, lengths = np.zeros(count), np.zeros(count, np.int64)
        limit = min((one for one in (env.limit, steps) if one is not None), default=None)
        running = list(range(count))
        act = policy.acting(params)
        while running:
            noise = policy.noise(keys.fold_in(actions, int(lengths.max()))) if explore else None
            action, _, memory = act(block, memory, noise)
            still = []
            for i in running:
                shown, reward, terminated, truncated, _ = live[i].step(decode(action[i]))
                write(shown, block[i])
                totals[i] += reward
                lengths[i] += 1
                if policy.sees_reward:
                    memory[i, -1] = reward
                if recorder is not None and recorded[i]:
                    recorder.see(numbers[i], live[i])
                if not (terminated or truncated or lengths[i] == limit):
                    still.append(i)
                elif recorder is not None and recorded[i]:
                    recorder.finish(numbers[i], live[i], totals[i])
            running = still
    finally:
        for one in live:
            one.close()
    return Episodes(totals, lengths)
