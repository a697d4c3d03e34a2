"""Environments: what is known about one, and how its state can become a value.

An environment on the host is a live object. Rollouts are pure functions all the same, because the state of an
environment can be written down: as a snapshot of the object, or as the seed its episode was reset with and the actions
taken since. `register` finds out which of the two is true of an environment by trying, as no flag can be trusted:
gymnasium's `EzPickle` environments (Box2D, MuJoCo), for one, pickle their constructor's arguments only, so that what
comes back is a fresh environment, without any error.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import gymnasium
import numpy as np

__all__ = ["Environment", "LiveEnv", "NotReproducible", "make", "register"]

LiveEnv: TypeAlias = "gymnasium.Env[Any, Any]"

# Steps taken before the copy is made, and compared after it: across several episodes of a random policy.
_PROBE_BEFORE = 12
_PROBE_AFTER = 120


class NotReproducible(ValueError):
    """The environment is not a function of its seed and the actions taken, so no rollout of it can be repeated."""


class Environment(NamedTuple):
    """What a rollout has to know about an environment: a small value that travels with tasks."""

    source: str | Callable[..., Any]
    """A gymnasium id, or a function that makes the environment."""
    kwargs: tuple[tuple[str, Any], ...]
    """Keyword arguments for making it, sorted by name."""
    observation_shape: tuple[int, ...]
    num_actions: int
    action_start: int
    """The number of the first action; policies count from 0."""
    state: Literal["snapshot", "replay"]
    """How its state is written down: as its own pickle, or as seed and actions of the episode."""


def register(source: str | Callable[..., Any], **kwargs: Any) -> Environment:
    """Look at an environment once, before training: its spaces, and how its state can be written down.

    Args:
        source: a gymnasium id (`"CartPole-v1"`, `"module:Name-v0"`) or a function that returns an environment.
        kwargs: passed on when it is made; hashable, so that processes can tell environments apart.

    Raises:
        TypeError: an argument that cannot be hashed, or a kind of observation or action space that the rollouts here do
            not handle.
        NotReproducible: after equal seeds and equal actions two copies of the environment differ.
    """
    options = tuple(sorted(kwargs.items()))
    hash(options)
    with contextlib.closing(_construct(source, options)) as env:
        observations, actions = env.observation_space, env.action_space
    if not isinstance(observations, gymnasium.spaces.Box):
        raise TypeError(f"{_name(source)}: observations must be a Box (an array of numbers), not {observations}")
    if not isinstance(actions, gymnasium.spaces.Discrete):
        raise TypeError(f"{_name(source)}: actions must be Discrete, not {actions}")
    state = _how_to_write_down(source, options)
    return Environment(source, options, observations.shape, int(actions.n), int(actions.start), state)


def make(env: Environment) -> LiveEnv:
    """A new live environment. It has not been reset yet."""
    return _construct(env.source, env.kwargs)


def _construct(source: str | Callable[..., Any], kwargs: tuple[tuple[str, Any], ...]) -> LiveEnv:
    if callable(source):
        return source(**dict(kwargs))  # type: ignore[no-any-return]
    # The checker costs a third of a CartPole step, and is meant for writing environments.
    return gymnasium.make(source, disable_env_checker=True, **dict(kwargs))


def _how_to_write_down(
    source: str | Callable[..., Any], kwargs: tuple[tuple[str, Any], ...]
) -> Literal["snapshot", "replay"]:
    with contextlib.ExitStack() as stack:
        first, second, used = (stack.enter_context(contextlib.closing(_construct(source, kwargs))) for _ in range(3))
        return _probe(_name(source), first, second, used)


def _probe(name: str, first: LiveEnv, second: LiveEnv, used: LiveEnv) -> Literal["snapshot", "replay"]:
    space = first.action_space
    space.seed(0)
    before = [space.sample() for _ in range(_PROBE_BEFORE)]
    after = [space.sample() for _ in range(_PROBE_AFTER)]

    starts = [_start(env, 1) for env in (first, second)]
    if not _equal(*starts) or not _same_future(first, second, before):
        raise NotReproducible(
            f"{name}: equal seeds and equal actions do not give equal episodes, so that its rollouts could "
            "not be repeated. Draw all randomness from `self.np_random`, and reset everything in `reset(seed=…)`"
        )
    try:
        copy = pickle.loads(pickle.dumps(first, pickle.HIGHEST_PROTOCOL))
        if _same_future(first, copy, after):
            return "snapshot"
    except Exception:  # an environment may fail in any way at being copied; it just has no snapshot then
        pass

    # Replaying resets whatever environment is at hand, so a used one has to do as well as a new one.
    _start(used, 2)
    _same_future(used, second, before)
    if _equal(_start(used, 1), _start(second, 1)) and _same_future(used, second, before + after):
        return "replay"
    raise NotReproducible(
        f"{name}: it cannot be copied by pickling, and `reset(seed=…)` does not forget its earlier episodes, "
        "so that its state cannot be written down"
    )


def _start(env: LiveEnv, seed: int) -> Any:
    return env.reset(seed=seed)[0]


def _same_future(one: LiveEnv, other: LiveEnv, actions: list[Any]) -> bool:
    """Whether both answer the same to the same actions, bit for bit, across ends of episodes too."""
    same = True
    for number, action in enumerate(actions):
        *left, _ = one.step(action)
        *right, _ = other.step(action)
        same &= all(_equal(a, b) for a, b in zip(left, right, strict=True))
        if left[2] or left[3] or right[2] or right[3]:
            same &= _equal(_start(one, number), _start(other, number))
    return same


def _equal(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def _name(source: str | Callable[..., Any]) -> str:
    return source if isinstance(source, str) else getattr(source, "__qualname__", repr(source))
