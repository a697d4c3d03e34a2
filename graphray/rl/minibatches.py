"""Minibatches: dividing rows evenly, whatever their number."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

__all__ = ["divided"]


def divided(order: Any, at_most: int) -> tuple[Any, Any]:
    """Divide a permutation into as few minibatches as possible, whose sizes differ by at most one.

    Returns:
        Indices and weights (count, size). Where the sizes differ, the smaller minibatches end with an entry of
        weight 0.
    """
    count = -(-len(order) // at_most)
    size = -(-len(order) // count)
    smaller = count * size - len(order)
    split = (count - smaller) * size
    larger_rows = order[:split].reshape(-1, size)
    smaller_rows = jnp.pad(order[split:].reshape(smaller, size - 1), ((0, 0), (0, 1)))
    weight = np.ones((count, size), np.float32)
    weight[count - smaller :, -1] = 0
    return jnp.concatenate([larger_rows, smaller_rows]), jnp.asarray(weight)
