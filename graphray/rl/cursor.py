"""Cursors: where a shard of environments stands, as a value.

A shard is a fixed group of environments that are always stepped together, in one process at a time. Between two
rollouts it is nothing but its cursor, which can be sent, stored and continued anywhere, any number of times. What a
process keeps alive after a rollout is only a cache of the cursor: `take` hands it out if it stands exactly where the
cursor says, and otherwise builds the environments anew.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphray.rl import keys
from graphray.rl.environments import Environment, EnvironmentFailed, LiveEnv, make, name_of, with_tasks
from graphray.rl.spaces import decoder, encoder

__all__ = [
    "SNAPSHOT_EVERY",
    "Cursor",
    "State",
    "begin",
    "episode_seeds",
    "keep",
    "restore",
    "start",
    "step_keys",
    "take",
]

# What the numbers of a run are for; folded into its root key first, so that no two uses share a number.
_ACTIONS, _EPISODES = 0, 1

SNAPSHOT_EVERY = 1000
"""Steps of an episode after which a snapshot is taken: replaying fewer costs a few milliseconds at most, once."""


class State(NamedTuple):
    """An environment's own state: how it can be had again."""

    seed: int
    """What its episode was reset with."""
    actions: bytes
    """The flat actions taken since."""
    task: Any = None
    """What was set before the reset, where the environment has tasks."""
    snapshot: bytes = b""
    """The environment as its pickle, which saves taking most actions of a long episode again."""
    taken: int = 0
    """After how many of the actions the snapshot was taken."""


class Cursor(NamedTuple):
    """A shard of B environments between two steps. All arrays have the leading axis B."""

    action_key: keys.Key
    """The key of each environment's actions, (B, 2); folding in its step count gives a step's own."""
    episode_key: keys.Key
    """The key of each environment's episodes, (B, 2); folding in an episode's number gives the seed of its reset."""
    step: NDArray[np.int64]
    """Steps that each environment has made, over all its episodes."""
    episode: NDArray[np.int64]
    """The number of the episode that each one is in."""
    observation: NDArray[Any]
    """What each environment shows now, (B, …)."""
    episode_return: NDArray[np.float64]
    """The sum of rewards in the episode so far."""
    episode_length: NDArray[np.int64]
    """Steps made in the episode so far."""
    memory: NDArray[np.float32]
    """What the policy remembers of the episode, (B, m)."""
    state: tuple[State, ...]
    """Each environment's own state."""
    task: tuple[Any, ...]
    """What is set before each environment's next episode; None: nothing."""


def start(env: Environment, key: keys.Key, index: Any, memory: int = 0, task: tuple[Any, ...] | None = None) -> Cursor:
    """The cursor of a shard before its first step: each environment at the beginning of its episode 0.

    Args:
        env: the registered environment.
        key: the root key of the run.
        index: the numbers, among all environments of the run, of those in this shard.
        memory: how many numbers the policy remembers of an episode.
        task: what to set before each environment's first episode.
    """
    count = len(index)
    action_key, episode_key = (keys.fold_in(keys.fold_in(key, use), index) for use in (_ACTIONS, _EPISODES))
    zeros = np.zeros(count, np.int64)
    seeds = episode_seeds(episode_key, zeros).tolist()
    tasks = task or (None,) * count
    live = [make(env) for _ in seeds]
    observation = np.empty((count, *env.observation.shape), env.observation.dtype)
    write = encoder(live[0].observation_space, env.observation)
    for row, one in enumerate(live):
        write(begin(env, one, seeds[row], tasks[row]), observation[row])
    state = tuple(State(seed, b"", task) for seed, task in zip(seeds, tasks, strict=True))
    cursor = Cursor(
        action_key=action_key,
        episode_key=episode_key,
        step=zeros,
        episode=zeros,
        observation=observation,
        episode_return=np.zeros(count),
        episode_length=zeros,
        memory=np.zeros((count, memory), np.float32),
        state=state,
        task=tasks,
    )
    keep(env, cursor, live)
    return cursor


def step_keys(cursor: Cursor, steps: int) -> keys.Key:
    """The keys of the shard's next steps, (steps, B, 2): a function of root key, environment and its own step count."""
    return keys.fold_in(cursor.action_key, cursor.step + np.arange(steps)[:, None])


def episode_seeds(episode_key: keys.Key, episode: Any) -> NDArray[np.int64]:
    """The seeds that episodes are reset with: a function of root key, environment and episode number."""
    # 31 bits: some environments hand their seed to generators that take no more.
    return (keys.fold_in(episode_key, episode)[..., 0] >> np.uint32(1)).astype(np.int64)


def take(env: Environment, cursor: Cursor) -> tuple[list[LiveEnv], Cursor]:
    """Live environments that stand at the cursor: those that this process kept, else new ones.

    What is taken is no longer kept. So two rollouts from one cursor never share an environment, and one that fails
    half-way leaves none behind that stands somewhere else.

    Returns:
        The environments, and where they stand: at the cursor, unless the environment is one whose state cannot be
        written down; new ones of that kind begin new episodes.
    """
    kept = _slot(env, cursor).exchange(None)
    if kept is not None and _same(kept.state, cursor.state):
        return kept.live, cursor
    _close(kept)
    if env.state == "none" and any(state.actions for state in cursor.state):
        return _anew(env, cursor)
    return [restore(env, state) for state in cursor.state], cursor


def keep(env: Environment, cursor: Cursor, live: list[LiveEnv]) -> None:
    """Keep live environments that stand at the cursor, for a rollout that continues from it in this process."""
    _close(_slot(env, cursor).exchange(_Kept(cursor.state, live)))


class _Kept(NamedTuple):
    """Live environments, and the state they are in."""

    state: tuple[State, ...]
    live: list[LiveEnv]


class _Slot:
    """A process's place for the live environments of one shard of one run."""

    def __init__(self, *_: Any) -> None:
        self._lock = threading.Lock()
        self._kept: _Kept | None = None

    def exchange(self, kept: _Kept | None) -> _Kept | None:
        """Put something in and have what was there."""
        with self._lock:
            kept, self._kept = self._kept, kept
        return kept

    def close(self) -> None:
        """Called when other shards have taken the place."""
        _close(self.exchange(None))

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:  # outside a task, local closes nothing
        if not ending():
            self.close()


def _slot(env: Environment, cursor: Cursor) -> _Slot:
    from graphray import local

    return local(_Slot, env, cursor.action_key.tobytes())  # type: ignore[no-any-return]


def restore(env: Environment, state: State) -> LiveEnv:
    """A live environment in that state."""
    actions = np.frombuffer(state.actions, env.action.dtype).reshape(-1, env.action.size)
    if state.snapshot:
        live = pickle.loads(state.snapshot)
        actions = actions[state.taken :]
    else:
        live = make(env)
        begin(env, live, state.seed, state.task)
    decode = decoder(env.action)
    for action in actions:
        live.step(decode(action))
    return live  # type: ignore[no-any-return]


def begin(env: Environment, live: LiveEnv, seed: int, task: Any = None) -> Any:
    """Begin an episode, and give what it shows.

    Raises:
        EnvironmentFailed: it raised an exception.
    """
    try:
        if task is not None:
            with_tasks(live).set_task(task)
        return live.reset(seed=seed)[0]
    except Exception as error:
        what = f"reset(seed={seed})" + (f" with the task {task!r}" if task is not None else "")
        raise EnvironmentFailed(f"{name_of(env)} raised {type(error).__name__} in {what}: {error}") from error


def _anew(env: Environment, cursor: Cursor) -> tuple[list[LiveEnv], Cursor]:
    """New environments at the beginning of episodes of the same seeds."""
    live = [make(env) for _ in cursor.state]
    observation = np.empty_like(cursor.observation)
    write = encoder(live[0].observation_space, env.observation)
    for one, state, row in zip(live, cursor.state, observation, strict=True):
        write(begin(env, one, state.seed, state.task), row)
    states = tuple(state._replace(actions=b"", snapshot=b"", taken=0) for state in cursor.state)
    return live, cursor._replace(
        observation=observation,
        state=states,
        memory=np.zeros_like(cursor.memory),
        episode_return=np.zeros_like(cursor.episode_return),
        episode_length=np.zeros_like(cursor.episode_length),
    )


def _same(some: tuple[State, ...], others: tuple[State, ...]) -> bool:
    """Whether states are equal. Tasks may be anything, arrays too, for which `==` gives no answer."""
    return all(
        one is other
        or (
            one._replace(task=None) == other._replace(task=None)
            and (one.task is other.task or pickle.dumps(one.task) == pickle.dumps(other.task))
        )
        for one, other in zip(some, others, strict=True)
    )


def _close(kept: _Kept | None) -> None:
    if kept is not None:
        for live in kept.live:
            live.close()
