"""What is learned from: rewards as learners see them, and observations brought to one scale."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphray.rl.networks import normalised
from graphray.rl.spaces import ObservationLayout
from graphray.rl.statistics import Moments, deviation, fixed_columns, merged, no_moments

__all__ = ["Signals", "filter_of", "learned_rewards", "normalised_observations", "seen", "signals_of"]


class Signals(NamedTuple):
    """How observations and rewards are changed before anything is learned from them."""

    observations: bool = False
    """Normalised by running statistics."""
    rewards: bool = False
    """Divided by the deviation of the discounted return."""
    clip: float | None = None
    """Rewards are kept within this; 0: their sign."""
    fixed: tuple[tuple[int, int], ...] = ()
    """Columns of observations that are not normalised."""

    def nothing(self, layout: ObservationLayout) -> dict[str, Any]:
        """Statistics of nothing yet."""
        made: dict[str, Any] = {}
        if self.observations:
            made["observations"] = no_moments(layout.shape)
        if self.rewards:
            made["returns"] = no_moments(())
        return made


def signals_of(config: Any, layout: ObservationLayout) -> Signals:
    """What a configuration asks for.

    Raises:
        ValueError: images are to be normalised.
    """
    observations = config.observation_filter != "NoFilter"
    if observations and layout.dtype != "float32":
        raise ValueError("observation_filter: images are not normalised by running statistics, but divided by 255")
    clip = {True: 0.0, False: None}.get(config.clip_rewards, config.clip_rewards)
    return Signals(observations, config.reward_filter, clip, fixed_columns(layout) if observations else ())


def learned_rewards(
    signals: Signals, statistics: dict[str, Any], trajectory: Any, gamma: Any
) -> tuple[Any, dict[str, Any]]:
    """Rewards (T, B) as they are learned from, and statistics that have seen the trajectory."""
    reward = clipped(signals, trajectory.reward)
    statistics = seen(signals, statistics, trajectory, reward, gamma)
    return scaled_rewards(signals, statistics, reward), statistics


def scaled_rewards(signals: Signals, statistics: dict[str, Any], reward: Any) -> Any:
    """Rewards divided by the deviation of the discounted return, if asked for."""
    return reward / deviation(statistics["returns"]) if signals.rewards else reward


@functools.partial(jax.jit, static_argnums=0)
def note(signals: Signals, statistics: dict[str, Any], trajectory: Any, gamma: Any) -> dict[str, Any]:
    """Statistics that have seen a trajectory (T, B) as well, where rewards are looked at later."""
    return seen(signals, statistics, trajectory, clipped(signals, trajectory.reward), gamma)


def clipped(signals: Signals, reward: Any) -> Any:
    """Rewards within the bounds that were asked for."""
    if signals.clip is None:
        return reward
    return jnp.sign(reward) if signals.clip == 0 else jnp.clip(reward, -signals.clip, signals.clip)


def seen(signals: Signals, statistics: dict[str, Any], trajectory: Any, reward: Any, gamma: Any) -> dict[str, Any]:
    """Statistics that have seen the trajectory as well."""
    made = dict(statistics)
    weight = trajectory.valid.reshape(-1).astype(jnp.float32)
    if "observations" in made:
        rows = trajectory.observation.reshape(-1, *trajectory.observation.shape[2:])
        for start, stop in signals.fixed:  # what never varies stays as it is
            rows = rows.at[:, start:stop].set(0.0)
        made["observations"] = merged(made["observations"], rows, weight)
    if "returns" in made:
        done = jnp.logical_or(trajectory.terminated, trajectory.truncated)

        def step(total: Any, now: Any) -> tuple[Any, Any]:
            reward, done = now
            total = gamma * total + reward
            return jnp.where(done, 0.0, total), total

        _, returns = jax.lax.scan(step, jnp.zeros_like(reward[0]), (reward, done))
        made["returns"] = merged(made["returns"], returns.reshape(-1), weight)
    return made


def normalised_observations(statistics: dict[str, Any], observation: Any) -> Any:
    """Observations as networks see them."""
    moments = statistics.get("observations")
    if moments is None:
        return observation
    return normalised({"mean": moments.mean, "deviation": deviation(moments)}, observation)


def filter_of(statistics: dict[str, Any]) -> dict[str, Any] | None:
    """Mean and deviation of observations, for policies on the host; None where these are not normalised."""
    moments: Moments | None = statistics.get("observations")
    if moments is None:
        return None
    return {"mean": np.asarray(moments.mean), "deviation": np.asarray(deviation(moments))}
