"""Adapters: what stands between an environment and its rollouts."""

from __future__ import annotations

import contextlib
import inspect
import random
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

__all__ = ["FrameStack", "OldGym", "bare", "speaks_old_gym", "takes_seed"]

_TRANSPARENT = (
    gymnasium.wrappers.TimeLimit,
    gymnasium.wrappers.OrderEnforcing,
    gymnasium.wrappers.PassiveEnvChecker,
)


def bare(env: Any) -> tuple[Any, int | None]:
    """The environment without gymnasium's outermost wrappers, and the time limit that these have enforced.

    They cost a third of a CartPole step, and rollouts count steps anyway.
    """
    limit: int | None = None
    while type(env) in _TRANSPARENT:
        if type(env) is gymnasium.wrappers.TimeLimit:
            steps = int(env._max_episode_steps)
            limit = steps if limit is None else min(limit, steps)
        env = env.env
    return env, limit


class FrameStack(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows the latest observations, the oldest first, along the last axis; at the beginning the first one repeated."""

    def __init__(self, env: Any, frames: int) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or not space.shape:
            raise TypeError(f"frames of a Box can be stacked, not of {space}")
        low, high = (np.concatenate([bound] * frames, axis=-1) for bound in (space.low, space.high))
        self.observation_space = spaces.Box(low, high, dtype=space.dtype)
        self._frames = frames
        self._latest: list[Any] = []

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(**kwargs)
        self._latest = [np.array(observation)] * self._frames
        return np.concatenate(self._latest, axis=-1), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._latest = [*self._latest[1:], np.array(observation)]
        return np.concatenate(self._latest, axis=-1), reward, terminated, truncated, info


class OldGym(gymnasium.Env[Any, Any]):
    """An environment of the interface before gymnasium, or one that only looks like gymnasium's.

    There `reset()` gives an observation and `step` four values, and some environments are half-way. Randomness comes
    from `seed(…)`, where there is that, and from NumPy's and Python's global generators: each environment has these in
    a state of its own, so that it is a function of its seed, and others do not notice.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.observation_space = _space(env.observation_space)
        self.action_space = _space(env.action_space)
        self._random = None if takes_seed(env) else _GlobalRandom()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        if self._random is None:
            shown = self.env.reset(seed=seed)
        else:
            with self._random:
                if seed is not None:
                    np.random.seed(seed)
                    random.seed(seed)
                    if callable(getattr(self.env, "seed", None)):
                        self.env.seed(seed)
                shown = self.env.reset()
        return shown if _with_info(shown) else (shown, {})

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Make a step."""
        with self._random or contextlib.nullcontext():
            made = self.env.step(action)
        if len(made) == 5:
            return made  # type: ignore[no-any-return]
        observation, reward, done, info = made
        cut = bool(done and info.get("TimeLimit.truncated", False))
        return observation, reward, bool(done and not cut), cut, info

    def close(self) -> None:
        """Close it, if it can be."""
        if callable(getattr(self.env, "close", None)):
            self.env.close()

    def render(self) -> Any:
        """What it draws."""
        return self.env.render()

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # not there yet, while it is unpickled
            raise AttributeError(name)
        return getattr(self.env, name)


class _GlobalRandom:
    """NumPy's and Python's global generators as one environment has them: put in their place while it runs."""

    def __init__(self) -> None:
        self._own = self._outer = self._present()

    def __enter__(self) -> None:
        self._outer = self._present()
        self._set(self._own)

    def __exit__(self, *_: object) -> None:
        self._own = self._present()
        self._set(self._outer)

    @staticmethod
    def _present() -> Any:
        return np.random.get_state(), random.getstate()

    @staticmethod
    def _set(state: Any) -> None:
        np.random.set_state(state[0])
        random.setstate(state[1])


def speaks_old_gym(env: Any) -> bool:
    """Whether an environment has the old interface, or half of it. It is reset, and a step is made."""
    if not takes_seed(env):
        return True
    shown = env.reset(seed=0)
    if not _with_info(shown):
        return True
    if isinstance(shown[0], dict):  # it may have a mask, and take not every action
        return False
    try:
        return len(env.step(env.action_space.sample())) == 4
    except Exception:  # whoever uses it will see
        return False


def takes_seed(env: Any) -> bool:
    """Whether an environment's `reset` takes a seed."""
    reset = getattr(env, "unwrapped", env).reset
    try:
        parameters = inspect.signature(reset).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(one.name == "seed" or one.kind is one.VAR_KEYWORD for one in parameters)


def _with_info(shown: Any) -> bool:
    return isinstance(shown, tuple) and len(shown) == 2 and isinstance(shown[1], dict)


def _space(space: Any) -> Any:
    """A space of the package gym, as one of gymnasium."""
    if isinstance(space, gymnasium.Space):
        return space
    match type(space).__name__:
        case "Box":
            return spaces.Box(space.low, space.high, dtype=space.dtype)
        case "Discrete":
            return spaces.Discrete(int(space.n), start=int(getattr(space, "start", 0)))
        case "MultiDiscrete":
            return spaces.MultiDiscrete(space.nvec)
        case "MultiBinary":
            return spaces.MultiBinary(space.n)
        case "Tuple":
            return spaces.Tuple([_space(inner) for inner in space.spaces])
        case "Dict":
            return spaces.Dict({key: _space(inner) for key, inner in space.spaces.items()})
    raise TypeError(f"unknown space {space!r}: gymnasium's spaces are wanted")
