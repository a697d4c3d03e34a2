"""Results: what an iteration has to say, under RLlib's names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from graphray.rl.training import Step

__all__ = ["NAMES", "flat", "pretty_print", "summary"]

NAMES = (
    "episode_reward_mean",
    "episode_reward_min",
    "episode_reward_max",
    "episode_len_mean",
    "episodes_this_iter",
    "episodes_total",
    "timesteps_this_iter",
    "timesteps_total",
    "training_iteration",
    "time_this_iter_s",
    "time_total_s",
    "evaluation",
    "info",
)
"""What there is in the result of an iteration; in `evaluation` and `info` is more, such as `info/learner/kl`."""


def flat(result: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A result without levels: `evaluation/episode_reward_mean` for what was one deeper."""
    found: dict[str, Any] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}/")
        else:
            found[f"{above}{name}"] = value
    return found


def summary(step: Step) -> dict[str, Any]:
    """The result of an iteration, without clock times.

    Means are over the episodes that ended in it, or over the latest 100 where these are more; NaN before one has ended.
    """
    progress = step.training.progress
    window = step.episodes if len(step.episodes.total) > len(progress.recent.total) else progress.recent
    totals, lengths = window.total.tolist(), window.length.tolist()
    return {
        "episode_reward_mean": _mean(totals),
        "episode_reward_min": min(totals, default=math.nan),
        "episode_reward_max": max(totals, default=math.nan),
        "episode_len_mean": _mean(lengths),
        "episodes_this_iter": len(step.episodes.total),
        "episodes_total": progress.episodes,
        "timesteps_total": progress.steps,
        "training_iteration": progress.iterations,
        "info": {"learner": step.metrics},
    }


def pretty_print(result: Mapping[str, Any]) -> str:
    """A result as text for people: a name and a value on each line, what belongs together indented."""
    return "\n".join(_lines(result, ""))


def _lines(result: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for name, value in result.items():
        if isinstance(value, Mapping):
            inner = _lines(value, indent + "  ")
            lines += [f"{indent}{name}:", *inner] if inner else [f"{indent}{name}: {{}}"]
        else:
            lines.append(f"{indent}{name}: {_text(value)}")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _mean(values: list[Any]) -> float:
    return float(sum(values) / len(values)) if values else math.nan
