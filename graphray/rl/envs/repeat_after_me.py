"""Repeating what was seen some steps ago: the least that needs a memory."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

__all__ = ["RepeatAfterMeEnv"]


class RepeatAfterMeEnv(gymnasium.Env[Any, Any]):
    """Say what was seen `repeat_delay` steps ago: 1 for a right answer, -1 for a wrong one.

    Before anything was seen, 0 is right. An episode has 100 steps (a time limit), and its best return is 100; random
    answers give 0 on average. After RLlib's environment of this name.

    Args:
        repeat_delay: 0 asks for what is seen now.
    """

    _STEPS = 100

    def __init__(self, repeat_delay: int = 1) -> None:
        if repeat_delay < 0:
            raise ValueError(f"repeat_delay is at least 0, not {repeat_delay}")
        self.observation_space = spaces.Discrete(2)
        self.action_space = spaces.Discrete(2)
        self.repeat_delay = repeat_delay
        self._seen: list[int] = []
        self._made = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self._seen = [0] * self.repeat_delay
        self._made = 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Answer."""
        reward = 1.0 if int(action) == self._seen.pop(0) else -1.0
        self._made += 1
        return self._show(), reward, False, self._made >= self._STEPS, {}

    def _show(self) -> int:
        self._seen.append(int(self.np_random.integers(2)))
        return self._seen[-1]
