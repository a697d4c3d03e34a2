"""A choice among offers that are never the same: actions that are described, not numbered."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

__all__ = ["ParametricActions"]


class ParametricActions(gymnasium.Env[Any, Any]):
    """Choose, among a few offers, the one that is nearest to what is wished.

    Observations are {"action_mask", "avail_actions", "observations"}: which offers there are, (max_actions,); what each
    of them is, unit vectors (max_actions, size), zeros where there is none; and the wish, a unit vector, (size,). The
    reward is the cosine of wish and offer; an offer that is not there raises. Each step has a new wish and new offers,
    at least two; an episode has 10 steps (a time limit). What is to be learned is to compare, by a custom model that
    gives each offer a logit; the offers' numbers mean nothing. After RLlib's ParametricActionsCartPole.

    Args:
        max_actions: the most offers.
        size: numbers that describe one.
    """

    _STEPS = 10

    def __init__(self, max_actions: int = 8, size: int = 4) -> None:
        if max_actions < 2 or size < 2:
            raise ValueError(f"max_actions and size are at least 2, not {max_actions} and {size}")
        self.max_actions, self.size = max_actions, size
        self.observation_space = spaces.Dict(
            {
                "action_mask": spaces.MultiBinary(max_actions),
                "avail_actions": spaces.Box(-1, 1, (max_actions, size), np.float32),
                "observations": spaces.Box(-1, 1, (size,), np.float32),
            }
        )
        self.action_space = spaces.Discrete(max_actions)
        self._made = 0
        self._wish = np.zeros(size, np.float32)
        self._offers = np.zeros((0, size), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._made = 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an offer.

        Raises:
            ValueError: it is not there.
        """
        if not 0 <= int(action) < len(self._offers):
            raise ValueError(f"action {action} is not allowed: there are {len(self._offers)} offers")
        reward = float(self._offers[int(action)] @ self._wish)
        self._made += 1
        return self._show(), reward, False, self._made >= self._STEPS, {}

    def _show(self) -> Any:
        count = int(self.np_random.integers(2, self.max_actions + 1))
        self._wish, self._offers = self._directions(1)[0], self._directions(count)
        offers = np.zeros((self.max_actions, self.size), np.float32)
        offers[:count] = self._offers
        mask = (np.arange(self.max_actions) < count).astype(np.int8)
        return {"action_mask": mask, "avail_actions": offers, "observations": self._wish}

    def _directions(self, count: int) -> NDArray[np.float32]:
        drawn = self.np_random.normal(size=(count, self.size))
        unit: NDArray[Any] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return unit.astype(np.float32).clip(-1, 1)
