"""Running statistics of observations and returns, as values."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from graphray.rl.spaces import ObservationLayout

__all__ = ["Moments", "deviation", "fixed_columns", "merged", "no_moments"]


class Moments(NamedTuple):
    """Count, mean and sum of squared differences from the mean of what has been seen."""

    count: Any
    mean: Any
    squares: Any


def no_moments(shape: tuple[int, ...]) -> Moments:
    """Of nothing yet."""
    return Moments(jnp.float32(0), jnp.zeros(shape), jnp.zeros(shape))


def merged(moments: Moments, rows: Any, weight: Any) -> Moments:
    """With the rows (N, …), each counted by its weight (N,), seen as well.

    Chan et al., "Algorithms for computing the sample variance", 1983.
    """
    weights = weight.reshape(-1, *(1,) * (rows.ndim - 1))
    count = jnp.sum(weight)
    mean = jnp.sum(rows * weights, axis=0) / jnp.maximum(count, 1.0)
    squares = jnp.sum((rows - mean) ** 2 * weights, axis=0)
    total = moments.count + count
    delta = mean - moments.mean
    share = count / jnp.maximum(total, 1.0)
    return Moments(total, moments.mean + delta * share, moments.squares + squares + delta**2 * moments.count * share)


def deviation(moments: Moments) -> Any:
    """Standard deviations; 1 where nothing has been seen, or nothing but one value."""
    variance = moments.squares / jnp.maximum(moments.count, 1.0)
    return jnp.where(variance > 1e-8, jnp.sqrt(variance), 1.0)


def fixed_columns(layout: ObservationLayout) -> tuple[tuple[int, int], ...]:
    """The columns of a flat observation that are no measurements, and stay as they are."""
    return tuple((part.start, part.stop) for part in layout.parts if part.kind not in ("numbers",))
