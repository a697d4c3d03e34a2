"""Environments that graphray brings along, found by name: small ones, each of which needs something of an algorithm."""

from __future__ import annotations

from typing import Any

from graphray.rl.envs.masked_corridor import MaskedCorridor
from graphray.rl.envs.maze import MazeEnv
from graphray.rl.envs.parametric_actions import ParametricActions
from graphray.rl.envs.repeat_after_me import RepeatAfterMeEnv
from graphray.rl.envs.stateless_cartpole import StatelessCartPole

__all__ = ["SHIPPED", "MaskedCorridor", "MazeEnv", "ParametricActions", "RepeatAfterMeEnv", "StatelessCartPole"]

SHIPPED: dict[str, type[Any]] = {
    each.__name__: each for each in (MaskedCorridor, MazeEnv, ParametricActions, RepeatAfterMeEnv, StatelessCartPole)
}
"""By name."""
