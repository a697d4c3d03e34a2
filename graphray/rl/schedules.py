"""Numbers that change with time."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

__all__ = ["scheduled"]


def scheduled(points: tuple[tuple[float, float], ...] | None, steps: Any, otherwise: Any) -> Any:
    """The value after some environment steps: linear between points, constant outside; without points, `otherwise`."""
    if points is None:
        return otherwise
    times, values = zip(*points, strict=True)
    return jnp.interp(steps, jnp.asarray(times), jnp.asarray(values))
