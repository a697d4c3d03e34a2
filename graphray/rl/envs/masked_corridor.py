"""A corridor with doors, in which not every action is allowed everywhere."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

__all__ = ["MaskedCorridor"]

LEFT, RIGHT, OPEN, KNOCK = range(4)


class MaskedCorridor(gymnasium.Env[Any, Any]):
    """Walk to the right end of a corridor, through doors that have to be opened. An action that is not allowed raises.

    Observations are {"action_mask", "observations"}: which of the actions left, right, open and knock are allowed,
    (4,); and the place, one-hot, then 1 for each place behind which a door is closed, (2 × length,). There is no way
    to the left at the left end, and none to the right through a closed door; where there is no closed door, none can be
    opened or knocked at. Each step costs 0.1; the end gives 1 and ends the episode, which is cut off after 4 × length
    steps.

    Args:
        length: places of the corridor.
    """

    def __init__(self, length: int = 8) -> None:
        if length < 2:
            raise ValueError(f"length is at least 2, not {length}")
        self.length = length
        self.observation_space = spaces.Dict(
            {"action_mask": spaces.MultiBinary(4), "observations": spaces.Box(0, 1, (2 * length,), np.float32)}
        )
        self.action_space = spaces.Discrete(4)
        self._at = self._made = 0
        self._closed = np.zeros(length, np.bool_)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode: at the left end, with each door there or not."""
        super().reset(seed=seed)
        self._at = self._made = 0
        self._closed = self.np_random.random(self.length) < 0.5
        self._closed[-1] = False
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Do something.

        Raises:
            ValueError: it is not allowed.
        """
        allowed = self._mask()
        if not (0 <= int(action) < 4 and allowed[int(action)]):
            raise ValueError(f"action {action} is not allowed here; action_mask is {allowed.tolist()}")
        if action == OPEN:
            self._closed[self._at] = False
        elif action != KNOCK:
            self._at += 1 if action == RIGHT else -1
        self._made += 1
        there = self._at == self.length - 1
        return self._show(), 0.9 if there else -0.1, there, self._made >= 4 * self.length, {}

    def _mask(self) -> Any:
        closed = self._closed[self._at]
        return np.array([self._at > 0, not closed, closed, closed], np.int8)

    def _show(self) -> Any:
        shown = np.zeros(2 * self.length, np.float32)
        shown[self._at] = 1
        shown[self.length :] = self._closed
        return {"action_mask": self._mask(), "observations": shown}
