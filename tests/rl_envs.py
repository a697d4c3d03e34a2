"""Small environments with known answers, for the tests of graphray.rl."""

from __future__ import annotations

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
        self.callback = lambda: None


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
