"""Small environments with known answers, for the tests of graphray.rl."""

from __future__ import annotations

import threading
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import EzPickle


class Walk(gymnasium.Env):
    """A random walk that tells all: it shows [steps made, noise], and the reward is the number of steps made.

    It ends by itself (terminated) after `ends` steps and is cut off (truncated) after `cut`; the noise comes from the
    seed, and is shifted by each action.
    """

    def __init__(self, ends: int = 5, cut: int = 1000, start: int = 0) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = gymnasium.spaces.Discrete(3, start=start)
        self.ends, self.cut = ends, cut

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.x = 0, self.np_random.normal()
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.t += 1
        self.x += self.np_random.normal() + int(action)
        return self._show(), float(self.t), self.t >= self.ends, self.t >= self.cut, {}

    def _show(self) -> Any:
        return np.array([self.t, self.x])


class Forgetful(Walk, EzPickle):
    """Pickles only its arguments: what comes back is a fresh environment."""

    def __init__(self, **kwargs: Any) -> None:
        Walk.__init__(self, **kwargs)
        EzPickle.__init__(self, **kwargs)
        self.t, self.x = 0, 0.0  # stepping before a reset gives no error either

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return super().step(action)


class Locked(Walk):
    """Cannot be pickled at all."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lock = threading.Lock()


class Unseeded(Walk):
    """Takes its noise from nowhere in particular."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = super().step(action)
        self.x += np.random.default_rng().normal()
        return self._show(), reward, terminated, truncated, info


class Haunted(Locked):
    """Cannot be pickled, and remembers earlier episodes."""

    ghosts = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x += self.ghosts
        self.ghosts += 1
        return self._show(), {}


class Flaky(Walk):
    """Raises in step 3, or in the reset, of the episodes whose noise begins above a number."""

    def __init__(self, above: float = 0.2, resets: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.above, self.resets = above, resets

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        shown = super().reset(seed=seed)
        self.broken = self.x > self.above
        if self.resets and self.broken:
            raise ConnectionError("no simulator")
        return shown

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.broken and self.t == 2:
            raise ConnectionError("simulator gone")
        return super().step(action)


class NaN(Walk):
    """Shows, or rewards with, what is not a number in step 4 of an episode."""

    def __init__(self, where: str = "observation", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.where = where

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        shown, reward, terminated, truncated, info = super().step(action)
        if self.t == 4 and self.where == "observation":
            shown[1] = np.nan
        return shown, np.nan if self.t == 4 and self.where == "reward" else reward, terminated, truncated, info


class Endless(Walk):
    """Does not end by itself."""

    def __init__(self) -> None:
        super().__init__(ends=10**9, cut=10**9)


class Old:
    """Gym's interface of before gymnasium, with a `seed` method or with the global generators."""

    def __init__(self, ends: int = 4, cut: bool = False, seeds: bool = True) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.ends, self.cut = ends, cut
        self.random: Any = np.random
        if seeds:
            self.seed = self._seed

    def _seed(self, seed: int | None = None) -> None:
        self.random = np.random.RandomState(seed)

    def reset(self) -> Any:
        self.t = 0
        return np.array([0.0, self.random.normal()])

    def step(self, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        self.t += 1
        done = self.t == self.ends
        info = {"TimeLimit.truncated": True} if done and self.cut else {}
        return np.array([self.t, self.random.normal() + action]), 1.0, done, info


class Lookalike:
    """Gymnasium's interface, without deriving from its class."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.inner = Walk(**config)
        self.observation_space, self.action_space = self.inner.observation_space, self.inner.action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.inner.reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.inner.step(action)


class Levels(Walk):
    """Has tasks: episodes begin at them."""

    def __init__(self, level: Any = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.level = level

    def get_task(self) -> Any:
        return self.level

    def set_task(self, task: Any) -> None:
        self.level = task

    def sample_tasks(self, n_tasks: int) -> list[int]:
        return [int(task) for task in self.np_random.integers(1, 100, n_tasks)]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = 1000.0 * float(np.sum(self.level))
        return self._show(), {}


class Parity(gymnasium.Env):
    """Solved by saying which of two lights is on; an episode is eight questions, a right answer gives 1."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._ask(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == self.light)
        self.t += 1
        return self._ask(), reward, self.t == 8, False, {}

    def _ask(self) -> Any:
        self.light = int(self.np_random.integers(2))
        return np.eye(2, dtype=np.float32)[self.light]
