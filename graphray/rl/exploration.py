"""Exploration: the numbers that a policy on the host explores by, at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphray.rl.config import EXPLORATIONS
from graphray.rl.options import ConfigError

__all__ = ["exploration_of", "numbers"]


def exploration_of(config: Any, kinds: tuple[str, ...]) -> tuple[tuple[str, Any], ...]:
    """The way to explore, as the items of a dict: `type` and all that it takes.

    Args:
        config: of an algorithm.
        kinds: the ways that the algorithm has; the first is its default.

    Raises:
        ConfigError: another way.
    """
    given = dict(config.exploration_config)
    kind = given.setdefault("type", kinds[0])
    if kind not in kinds:
        raise ConfigError(f"exploration_config: type is one of {', '.join(kinds)} here, not {kind}")
    return tuple(sorted({"random_timesteps": 0, **EXPLORATIONS[kind], **given}.items()))


def numbers(exploration: tuple[tuple[str, Any], ...], steps: int, random_until: int = 0) -> dict[str, Any]:
    """What a policy explores by after some environment steps.

    Args:
        exploration: as `exploration_of` gives it.
        steps: environment steps so far.
        random_until: actions are drawn at random until so many.
    """
    given = dict(exploration)
    made: dict[str, Any] = {"random": steps < max(random_until, given["random_timesteps"])}
    match given["type"]:
        case "EpsilonGreedy":
            ends = [given["initial_epsilon"], given["final_epsilon"]]
            made["epsilon"] = np.float32(np.interp(steps, [0, given["epsilon_timesteps"]], ends))
        case "GaussianNoise" | "OrnsteinUhlenbeckNoise" as kind:
            ends = [given["initial_scale"], given["final_scale"]]
            scale = np.interp(steps, [0, given["scale_timesteps"]], ends)
            if kind == "GaussianNoise":
                made["scale"] = np.float32(scale * given["stddev"])
            else:
                made["scale"] = np.float32(scale * given["ou_base_scale"])
                made["theta"], made["sigma"] = np.float32(given["ou_theta"]), np.float32(given["ou_sigma"])
    return made
