"""Generalised advantage estimation."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Advantages", "gae"]


class Advantages(NamedTuple):
    """What transitions are worth, time step by time step."""

    advantage: jax.Array
    """A_t, like the rewards."""
    target: jax.Array
    """What the value function is fitted to, A_t + V(s_t): the TD(lambda) return."""


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    gamma: jax.Array | float,
    lambda_: jax.Array | float,
) -> Advantages:
    """Advantages of transitions in time order, episodes following one another along the first axis.

        delta_t = r_t + gamma * (1 - terminated_t) * V(s'_t) - V(s_t)
        A_t     = delta_t + gamma * lambda * (1 - (terminated_t or truncated_t)) * A_{t+1}

    An end that the environment made (`terminated`) has no future: its value is 0. An episode that was cut off
    (`truncated`) would have gone on: it keeps the value of the observation it was cut off at. In both cases what
    follows in the arrays is another episode, and the sum over future deltas stops.

    Schulman et al., "High-dimensional continuous control using generalized advantage estimation", ICLR 2016.

    Args:
        reward: (T, …), like all the arrays that follow.
        value: V(s_t), of the observation that the action was chosen at.
        next_value: V(s'_t), of the observation that the action led to, also where the episode ended with it. It is not
            `value` shifted by one: after an end that is the value of the next episode's first observation.
        terminated: booleans.
        truncated: booleans.
        gamma: discount factor.
        lambda_: 0 gives one-step advantages, 1 the discounted return less the value.
    """
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = gamma * lambda_ * (1.0 - jnp.logical_or(terminated, truncated))

    def step(following: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        delta, decay = now
        advantage = delta + decay * following
        return advantage, advantage

    _, advantage = jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, decay), reverse=True)
    return Advantages(advantage, advantage + value)
