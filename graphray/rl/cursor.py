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
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from graphray.rl import keys
from graphray.rl.environments import Environment, LiveEnv, make

__all__ = ["Cursor", "Replay", "Snapshot", "State", "episode_seeds", "keep", "start", "step_keys", "take", "write_down"]

# What the numbers of a run are for; folded into its root key first, so that no two uses share a number.
_ACTIONS, _EPISODES = 0, 1


class Snapshot(NamedTuple):
    """An environment's state as its pickle."""

    data: bytes


class Replay(NamedTuple):
    """An environment's state as the seed of its episode and the actions taken since, as little-endian int64."""

    seed: int
    actions: bytes


State: TypeAlias = Snapshot | Replay


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
    observation: NDArray[np.float32]
    """What each environment shows now, (B, …)."""
    episode_return: NDArray[np.float64]
    """The sum of rewards in the episode so far."""
    episode_length: NDArray[np.int64]
    """Steps made in the episode so far."""
    state: tuple[State, ...]
    """Each environment's own state."""


def start(env: Environment, key: keys.Key, index: Any) -> Cursor:
    """The cursor of a shard before its first step: each environment at the beginning of its episode 0.

    Args:
        env: the registered environment.
        key: the root key of the run.
        index: the numbers, among all environments of the run, of those in this shard.
    """
    action_key, episode_key = (keys.fold_in(keys.fold_in(key, use), index) for use in (_ACTIONS, _EPISODES))
    zeros = np.zeros(len(index), np.int64)
    seeds = episode_seeds(episode_key, zeros).tolist()
    live = [_canonical(env, make(env)) for _ in seeds]
    observation = np.empty((len(index), *env.observation_shape), np.float32)
    for row, (one, seed) in enumerate(zip(live, seeds, strict=True)):
        observation[row] = one.reset(seed=seed)[0]
    state = tuple(write_down(env, one, Replay(seed, b"")) for one, seed in zip(live, seeds, strict=True))
    cursor = Cursor(action_key, episode_key, zeros, zeros, observation, np.zeros(len(index)), zeros, state)
    keep(env, cursor, live)
    return cursor


def step_keys(cursor: Cursor, steps: int) -> keys.Key:
    """The keys of the shard's next steps, (steps, B, 2): a function of root key, environment and its own step count."""
    return keys.fold_in(cursor.action_key, cursor.step + np.arange(steps)[:, None])


def episode_seeds(episode_key: keys.Key, episode: Any) -> NDArray[np.int64]:
    """The seeds that episodes are reset with: a function of root key, environment and episode number."""
    # 31 bits: some environments hand their seed to generators that take no more.
    return (keys.fold_in(episode_key, episode)[..., 0] >> np.uint32(1)).astype(np.int64)


def take(env: Environment, cursor: Cursor) -> list[LiveEnv]:
    """Live environments that stand at the cursor: those that this process kept, else new ones.

    What is taken is no longer kept. So two rollouts from one cursor never share an environment, and one that fails
    half-way leaves none behind that stands somewhere else.
    """
    kept = _slot(env, cursor).exchange(None)
    if kept is not None and kept.state == cursor.state:
        return kept.live
    _close(kept)
    return [_restore(env, state) for state in cursor.state]


def keep(env: Environment, cursor: Cursor, live: list[LiveEnv]) -> None:
    """Keep live environments that stand at the cursor, for a rollout that continues from it in this process."""
    _close(_slot(env, cursor).exchange(_Kept(cursor.state, live)))


def write_down(env: Environment, live: LiveEnv, log: Replay) -> State:
    """The state of a live environment, whose present episode had the seed and the actions of `log`."""
    return Snapshot(_pickle(live)) if env.state == "snapshot" else log


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


def _restore(env: Environment, state: State) -> LiveEnv:
    if isinstance(state, Snapshot):
        return pickle.loads(state.data)  # type: ignore[no-any-return]
    live = make(env)
    live.reset(seed=state.seed)
    for action in np.frombuffer(state.actions, "<i8"):
        live.step(action)
    return live


def _canonical(env: Environment, live: LiveEnv) -> LiveEnv:
    """The environment as it comes back from a snapshot.

    A pickle also shows which equal strings are one object, and the first way through a pickle changes that. With it
    behind all of them, equal states have equal bytes.
    """
    return pickle.loads(_pickle(live)) if env.state == "snapshot" else live


def _pickle(live: LiveEnv) -> bytes:
    return pickle.dumps(live, pickle.HIGHEST_PROTOCOL)


def _close(kept: _Kept | None) -> None:
    if kept is not None:
        for live in kept.live:
            live.close()
