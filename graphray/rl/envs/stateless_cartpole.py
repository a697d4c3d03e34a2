"""CartPole, in which only positions are seen: velocities have to be remembered."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from numpy.typing import NDArray

__all__ = ["StatelessCartPole"]


class StatelessCartPole(CartPoleEnv):
    """CartPole-v1 without its velocities: it shows the cart's position and the pole's angle, (2,). 500 steps at most.

    After RLlib's environment of this name.

    Args:
        render_mode: as CartPole's.
    """

    _STEPS = 500
    _SHOWN = (0, 2)

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        assert isinstance(self.observation_space, spaces.Box)
        high = self.observation_space.high[[*self._SHOWN]]
        self.observation_space = spaces.Box(-high, high, dtype=np.float32)
        self._made = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode."""
        observation, info = super().reset(seed=seed, options=options)
        self._made = 0
        return observation[[*self._SHOWN]], info

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Push the cart to the left (0) or to the right (1)."""
        observation, reward, terminated, _, info = super().step(action)  # type: ignore[no-untyped-call]
        self._made += 1
        return observation[[*self._SHOWN]], float(reward), terminated, self._made >= self._STEPS, info
