"""Rollouts: stepping a shard of host environments, as a pure function of a cursor.

Environments are stepped one by one and reset here, not by a vector wrapper. Gymnasium's vector environments by default
spend the step after an episode's end on the reset (`AutoresetMode.NEXT_STEP`): it ignores the action, and a learner
that takes its row for a transition learns from something that never happened. Here every row is a transition, and the
observation that an episode ended with is in it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from graphray.rl import keys
from graphray.rl.cursor import SNAPSHOT_EVERY, Cursor, State, begin, episode_seeds, keep, step_keys, take
from graphray.rl.environments import Environment, EnvironmentFailed, LiveEnv, make, name_of, snapshot
from graphray.rl.spaces import decoder, encoder

__all__ = ["HostPolicy", "Trajectory", "concatenate", "padded", "rollout"]

_NOISE_STEPS = 256
"""Steps whose noise is drawn at a time, where it is not known how many there will be."""
_TRIES = 3
"""How often in a row an environment may fail at its reset before that is an error, whatever was asked for."""


class HostPolicy(Protocol):
    """How actions are chosen on the host. Policies are small values that travel with tasks."""

    @property
    def memory(self) -> int:
        """How many numbers it remembers of an episode; they begin as zeros."""

    @property
    def sequence(self) -> int:
        """After how many steps each what it remembers is recorded; 0: never."""

    @property
    def sees_reward(self) -> bool:
        """Whether the last number that it remembers is the latest reward."""

    def noise(self, key: keys.Key) -> NDArray[Any]:
        """All the randomness of actions whose keys are (…, 2), as an array (…, n)."""

    def acting(self, params: Any) -> Callable[..., tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """A function from observations (B, …), what it remembers (B, m) and noise to what it does.

        That is flat actions (B, n), the parameters of the distributions they come from (B, …), and what it remembers
        then. Without noise (None), the best actions.
        """


class Trajectory(NamedTuple):
    """Transitions of T steps of B environments: every array has the leading axes (T, B)."""

    observation: NDArray[Any]
    action: NDArray[Any]
    """Flat actions, (T, B, n)."""
    reward: NDArray[np.float32]
    next_observation: NDArray[Any]
    """What the action led to; where the episode ended, its last observation, not the next episode's first."""
    terminated: NDArray[np.bool_]
    """The environment ended the episode: nothing follows, and its value is 0."""
    truncated: NDArray[np.bool_]
    """The episode was cut off, by a time limit for example: more would have followed."""
    behaviour: NDArray[np.float32]
    """Parameters of the distribution that the action was drawn from, (T, B, …)."""
    memory: NDArray[np.float32]
    """What the policy remembered before every so many steps, (ceil(T / sequence), B, m); (0, B, 0): not recorded."""
    valid: NDArray[np.bool_]
    """Whether it happened: environments that wait until others have ended their episodes make no steps."""
    episode_return: NDArray[np.float64]
    """The sum of rewards of the episode up to this step, this one included."""
    episode_length: NDArray[np.int64]
    """The number of steps of the episode up to this one, included."""


def rollout(
    env: Environment,
    policy: HostPolicy,
    params: Any,
    cursor: Cursor,
    steps: int,
    *,
    explore: bool = True,
    complete: bool = False,
    recreate: bool = False,
) -> tuple[Trajectory, Cursor]:
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
        explore: whether actions are drawn; otherwise the best ones are taken.
        complete: whether each environment goes on to the end of its episode. T is then what the longest needs.
        recreate: whether to go on with a new episode of a new environment where one raises.

    Returns:
        What happened, (T, B, …), and where the shard stands then.

    Raises:
        EnvironmentFailed: an environment raised an exception, or showed or rewarded with something that is not a
            number; it says with which seed, after how many steps.
    """
    live, cursor = take(env, cursor)
    shard = _Shard(env, cursor, live, recreate)
    count = len(live)
    noise: NDArray[Any] | None = None
    ahead = _NOISE_STEPS if complete else steps
    block, memory = _padded(cursor.observation), _padded(cursor.memory)
    recorded: list[NDArray[Any]] = []
    behaviour: list[NDArray[Any]] = []
    running: Any = range(count)
    act = policy.acting(params)

    for t in itertools.count():
        if t >= steps and complete:
            running = [i for i in running if t == 0 or shard.began[i] != t]
            shard.waiting.update(set(range(count)) - set(running))
        if t >= steps and not (complete and running):
            break
        if explore and t % ahead == 0:
            noise = _padded(policy.noise(step_keys(cursor._replace(step=cursor.step + t), ahead)), axis=1)
        if policy.sequence and t % policy.sequence == 0:
            recorded.append(memory[:count].copy())
        action, distribution, memory = act(block, memory, None if noise is None else noise[t % ahead])
        behaviour.append(distribution[:count])
        ended = shard.step(t, action[:count], running, block)
        if ended:
            memory[ended] = 0
        if shard.waiting:
            memory[list(shard.waiting)] = 0  # of their next episodes they have seen nothing yet
        if policy.sees_reward:
            memory[:count, -1] = [0 if i in ended else reward for i, reward in enumerate(shard.reward[-count:])]

    return shard.finish(block[:count].copy(), memory[:count].copy(), np.stack(behaviour), recorded)


def concatenate(parts: Sequence[Trajectory]) -> Trajectory:
    """The trajectories of several shards as one: side by side along the axis of environments.

    Shorter ones are filled up with steps that are not valid.
    """
    if len(parts) == 1:
        return parts[0]
    longest = max(len(part.reward) for part in parts)
    most = max(len(part.memory) for part in parts)
    parts = [part if len(part.reward) == longest else extended(part, longest, most) for part in parts]
    return Trajectory(*(np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True)))


def extended(part: Trajectory, steps: int, memories: int) -> Trajectory:
    """A trajectory with more steps, which are not valid."""
    return Trajectory(
        *(
            np.concatenate([array, np.zeros((length - len(array), *array.shape[1:]), array.dtype)])
            for name, array in part._asdict().items()
            for length in [memories if name == "memory" else steps]
        )
    )


def padded(trajectory: Trajectory, multiple: int, sequence: int = 0) -> Trajectory:
    """A trajectory whose length is a multiple, with steps that are not valid behind; `sequence` as its policy's."""
    steps = -(-len(trajectory.reward) // multiple) * multiple
    return extended(trajectory, steps, -(-steps // sequence) if sequence else 0)


class _Shard:
    """The live environments of a shard during a rollout, and what happened so far."""

    def __init__(self, env: Environment, cursor: Cursor, live: list[LiveEnv], recreate: bool) -> None:
        self.env, self.cursor, self.live, self.recreate = env, cursor, live, recreate
        count = len(live)
        self.count = count
        self.episode = [0] * count  # how many episodes each environment has begun here
        self.began = [0] * count  # with which step of this rollout the latest of them begins
        self.made = [0] * count  # steps
        self.length = cursor.episode_length.tolist()  # of the present episode, for the time limit
        self.snapshot: dict[int, tuple[bytes, int]] = {}  # of present episodes, and after how many steps of them
        self.every = SNAPSHOT_EVERY if env.state == "snapshot" else 0
        self.waiting: set[int] = set()
        self.write = encoder(live[0].observation_space, env.observation)
        self.decode = decoder(env.action)
        self.steps = [one.step for one in live]
        self.observation: list[NDArray[Any]] = []
        self.next_observation: list[NDArray[Any]] = []
        self.action: list[NDArray[Any]] = []
        self.reward: list[float] = []
        self.terminated: list[bool] = []
        self.truncated: list[bool] = []
        self.valid: list[bool] = []

    def step(self, t: int, action: NDArray[Any], running: Any, block: NDArray[Any]) -> list[int]:
        """Step those that run; `block` is what they show, before and after. Gives those whose episodes ended."""
        count, limit, length, decode, write = self.count, self.env.limit, self.length, self.decode, self.write
        every = self.every
        self.observation.append(block[:count].copy())
        self.action.append(action)
        after = block[:count].copy() if self.waiting else np.empty_like(block[:count])
        ended = []
        for i in range(count) if self.waiting else running:
            if i in self.waiting:
                self._record(0.0, False, False, False)
                continue
            try:
                shown, reward, end, cut, _ = self.steps[i](decode(action[i]))
                write(shown, after[i])
            except Exception as error:
                self._failed(i, action[i], f"raised {type(error).__name__}", error)
                after[i] = block[i]
                reward, end, cut = 0.0, False, True
            length[i] += 1
            self.made[i] += 1
            if every and length[i] % every == 0:
                self.snapshot[i] = snapshot(self.live[i]), length[i]
            if length[i] == limit and not end:
                cut = True
            self._record(reward, end, cut, True)
            if end or cut:
                ended.append(i)
        for i, what in self._no_numbers(after):
            length[i] -= 1
            self._failed(i, action[i], f"gave {what}")
            after[i] = block[i]
            at = i - count
            self.reward[at], self.terminated[at], self.truncated[at] = 0.0, False, True
            ended = sorted({*ended, i})
        self.next_observation.append(after)
        block[:count] = after
        for i in ended:
            self.episode[i] += 1
            self.began[i] = t + 1
            length[i] = 0
            self.snapshot.pop(i, None)
            write(self._reset(i), block[i])
        return ended

    def _record(self, reward: Any, terminated: Any, truncated: Any, valid: bool) -> None:
        self.reward.append(reward)
        self.terminated.append(terminated)
        self.truncated.append(truncated)
        self.valid.append(valid)

    def _reset(self, i: int) -> Any:
        for attempt in itertools.count(1):
            try:
                return begin(self.env, self.live[i], self._seed(i), self.cursor.task[i])
            except EnvironmentFailed as error:
                if not self.recreate or attempt == _TRIES:
                    raise
                logging.getLogger("graphray.rl").warning("%s; it goes on with another episode", error)
                self._replace(i)
                self.episode[i] += 1

    def _seed(self, i: int) -> int:
        return int(episode_seeds(self.cursor.episode_key[i], self.cursor.episode[i] + self.episode[i]))

    def _failed(self, i: int, action: NDArray[Any], what: str, error: Exception | None = None) -> None:
        """Go on with another environment, if that is wanted."""
        said = (
            f"{name_of(self.env)} {what} in step {self.length[i] + 1} of the episode with seed {self._episode_seed(i)} "
            f"(action {action.tolist()})" + (f": {error}" if error else "")
        )
        if not self.recreate:
            raise EnvironmentFailed(f"{said}. With recreate_failed_env=True the training goes on without it") from error
        logging.getLogger("graphray.rl").warning("%s; it goes on with a new episode", said)
        self._replace(i)

    def _replace(self, i: int) -> None:
        with contextlib.suppress(Exception):  # it is broken as it is
            self.live[i].close()
        self.live[i] = make(self.env)
        self.steps[i] = self.live[i].step

    def _episode_seed(self, i: int) -> int:
        return self._seed(i) if self.episode[i] else self.cursor.state[i].seed

    def _no_numbers(self, after: NDArray[Any]) -> Iterator[tuple[int, str]]:
        """Which environments have just shown, or rewarded with, something that is not a number."""
        rewards = self.reward[-self.count :]
        try:
            total = np.add.reduce(after, axis=None) + sum(rewards)
            if total == total:  # only NaN differs from itself
                return
        except (TypeError, ValueError):
            pass
        for i, (row, reward) in enumerate(zip(after, rewards, strict=True)):
            if np.isnan(row).any():
                yield i, "an observation that is not a number (NaN)"
            elif _is_no_number(reward):
                yield i, f"a reward that is not a number ({reward})"

    def finish(
        self, observation: NDArray[Any], memory: NDArray[Any], behaviour: NDArray[Any], recorded: list[NDArray[Any]]
    ) -> tuple[Trajectory, Cursor]:
        """What happened, and where the shard stands."""
        cursor, env = self.cursor, self.env
        shape = (-1, self.count)
        reward = np.asarray(self.reward, np.float64).reshape(shape)
        terminated = np.asarray(self.terminated, np.bool_).reshape(shape)
        truncated = np.asarray(self.truncated, np.bool_).reshape(shape)
        valid = np.asarray(self.valid, np.bool_).reshape(shape)
        action = np.stack(self.action).astype(env.action.dtype, copy=False)
        done = terminated | truncated
        episode_return, return_so_far = _running(cursor.episode_return, reward, done)
        episode_length, length_so_far = _running(cursor.episode_length, valid.astype(np.int64), done)
        trajectory = Trajectory(
            observation=np.stack(self.observation),
            action=action,
            reward=reward.astype(np.float32),
            next_observation=np.stack(self.next_observation),
            terminated=terminated,
            truncated=truncated,
            behaviour=behaviour,
            memory=np.stack(recorded) if recorded else np.zeros((0, self.count, 0), np.float32),
            valid=valid,
            episode_return=episode_return,
            episode_length=episode_length,
        )
        successor = cursor._replace(
            step=cursor.step + self.made,
            episode=cursor.episode + self.episode,
            observation=observation,
            episode_return=return_so_far,
            episode_length=length_so_far,
            memory=memory,
            state=tuple(self._states(action)),
        )
        keep(env, successor, self.live)
        return trajectory, successor

    def _states(self, action: NDArray[Any]) -> Iterator[State]:
        """What each environment's present episode can be had again by."""
        for i, state in enumerate(self.cursor.state):
            actions = np.ascontiguousarray(action[self.began[i] : self.made[i], i]).tobytes()
            if self.episode[i] == 0:
                state = state._replace(actions=state.actions + actions)
            else:
                state = State(self._seed(i), actions, self.cursor.task[i])
            pickled, taken = self.snapshot.get(i, (state.snapshot, state.taken))
            yield state._replace(snapshot=pickled, taken=taken)


def _is_no_number(reward: Any) -> bool:
    try:
        return bool(np.isnan(reward))
    except (TypeError, ValueError):
        return True


def _running(start: NDArray[Any], increment: NDArray[Any], done: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sums since the latest `done`, each step's own increment included, and what is carried on after the last."""
    total = start.copy()
    sums = np.empty_like(increment)
    for t in range(len(increment)):
        total += increment[t]
        sums[t] = total
        total[done[t]] = 0
    return sums, total


def _padded(array: NDArray[Any], axis: int = 0) -> NDArray[Any]:
    """A copy with at least two entries along an axis, zeros added."""
    missing = max(0, 2 - array.shape[axis])
    return np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])
