"""Rollouts: stepping a shard of host environments, as a pure function of a cursor.

Environments are stepped one by one and reset here, not by a vector wrapper. Gymnasium's vector environments by default
spend the step after an episode's end on the reset (`AutoresetMode.NEXT_STEP`): it ignores the action, and a learner
that takes its row for a transition learns from something that never happened. Here every row is a transition, and the
observation that an episode ended with is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from graphray.rl import keys
from graphray.rl.cursor import Cursor, Replay, episode_seeds, keep, step_keys, take, write_down
from graphray.rl.environments import Environment

__all__ = ["Policy", "Trajectory", "concatenate", "rollout"]


class Policy(Protocol):
    """How actions are chosen on the host, in NumPy. Policies are small values that travel with tasks."""

    def noise(self, key: keys.Key) -> NDArray[Any]:
        """All the randomness of actions whose keys are (…, 2), as an array (…, n)."""

    def act(self, params: Any, observation: NDArray[Any], noise: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Actions (B,) and the parameters of the distribution they come from (B, …), for observations (B, …).

        Noise of zero gives the distribution's mode.
        """


class Trajectory(NamedTuple):
    """Transitions of T steps of B environments: every array has the leading axes (T, B)."""

    observation: NDArray[np.float32]
    action: NDArray[np.int64]
    reward: NDArray[np.float32]
    next_observation: NDArray[np.float32]
    """What the action led to; where the episode ended, its last observation, not the next episode's first."""
    terminated: NDArray[np.bool_]
    """The environment ended the episode: nothing follows, and its value is 0."""
    truncated: NDArray[np.bool_]
    """The episode was cut off, by a time limit for example: more would have followed."""
    behaviour: NDArray[np.float32]
    """Parameters of the distribution that the action was drawn from, (T, B, …)."""
    episode_return: NDArray[np.float64]
    """The sum of rewards of the episode up to this step, this one included."""
    episode_length: NDArray[np.int64]
    """The number of steps of the episode up to this one, included."""


def rollout(env: Environment, policy: Policy, params: Any, cursor: Cursor, steps: int) -> tuple[Trajectory, Cursor]:
    """Make `steps` steps with each environment of a shard.

    A pure function: it changes none of its arguments, and m + n steps are m steps followed by n steps, bit for bit,
    wherever each of them runs. For that the policy always sees a whole shard, a block of one shape; a shard of one
    environment is padded to two rows, as linear algebra takes another path for one row and rounds differently.

    Args:
        env: the registered environment.
        policy: how actions are chosen.
        params: the policy's parameters.
        cursor: where the shard stands.
        steps: how many steps each environment makes (T).

    Returns:
        What happened, (T, B, …), and where the shard stands then.
    """
    count = len(cursor.step)
    live = take(env, cursor)
    step_functions = [one.step for one in live]
    noise = _padded(policy.noise(step_keys(cursor, steps)), axis=1)
    seeds = episode_seeds(cursor.episode_key, cursor.episode + np.arange(steps + 1)[:, None])
    episode = [0] * count  # how many episodes each environment has begun here
    began = [0] * count  # with which step of this rollout the latest of them begins

    shape = (steps, count)
    observation = np.empty((*shape, *env.observation_shape), np.float32)
    next_observation = np.empty_like(observation)
    action = np.empty(shape, np.int64)
    behaviour: list[NDArray[Any]] = []
    rewards: list[Any] = []
    terminated: list[bool] = []
    truncated: list[bool] = []

    block = _padded(cursor.observation, axis=0)
    for t in range(steps):
        observation[t] = block[:count]
        chosen, distribution = policy.act(params, block, noise[t])
        action[t] = chosen[:count]
        behaviour.append(distribution[:count])
        after = next_observation[t]
        ended = []
        for i, a in enumerate(action[t] + env.action_start):
            after[i], reward, end, cut, _ = step_functions[i](a)
            rewards.append(reward)
            terminated.append(end)
            truncated.append(cut)
            if end or cut:
                ended.append(i)
        block[:count] = after
        for i in ended:
            episode[i] += 1
            began[i] = t + 1
            block[i] = live[i].reset(seed=int(seeds[episode[i], i]))[0]

    reward = np.asarray(rewards, np.float64).reshape(shape)
    terminations, truncations = np.reshape(terminated, shape), np.reshape(truncated, shape)
    done = terminations | truncations
    episode_return, return_so_far = _running(cursor.episode_return, reward, done)
    episode_length, length_so_far = _running(cursor.episode_length, np.ones(shape, np.int64), done)

    logs = _logs(env, cursor, episode, began, seeds, action)
    trajectory = Trajectory(
        observation=observation,
        action=action,
        reward=reward.astype(np.float32),
        next_observation=next_observation,
        terminated=terminations,
        truncated=truncations,
        behaviour=np.stack(behaviour),
        episode_return=episode_return,
        episode_length=episode_length,
    )
    successor = cursor._replace(
        step=cursor.step + steps,
        episode=cursor.episode + episode,
        observation=block[:count].copy(),
        episode_return=return_so_far,
        episode_length=length_so_far,
        state=tuple(write_down(env, one, log) for one, log in zip(live, logs, strict=True)),
    )
    keep(env, successor, live)
    return trajectory, successor


def concatenate(parts: Sequence[Trajectory]) -> Trajectory:
    """The trajectories of several shards as one: side by side along the axis of environments."""
    return Trajectory(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))


def _logs(
    env: Environment, cursor: Cursor, episode: list[int], began: list[int], seeds: NDArray[Any], action: NDArray[Any]
) -> Iterator[Replay]:
    """Seed and actions of the episode that each environment is in now."""
    for i, state in enumerate(cursor.state):
        actions = (action[began[i] :, i] + env.action_start).astype("<i8").tobytes()
        if episode[i] == 0 and isinstance(state, Replay):
            actions = state.actions + actions
        yield Replay(int(seeds[episode[i], i]), actions)


def _running(start: NDArray[Any], increment: NDArray[Any], done: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sums since the latest `done`, each step's own increment included, and what is carried on after the last."""
    total = start.copy()
    sums = np.empty_like(increment)
    for t in range(len(increment)):
        total += increment[t]
        sums[t] = total
        total[done[t]] = 0
    return sums, total


def _padded(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """A copy with at least two entries along an axis, zeros added."""
    missing = max(0, 2 - array.shape[axis])
    return np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])
