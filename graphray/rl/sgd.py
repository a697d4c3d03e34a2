"""Stochastic gradient descent: going through a batch several times, in minibatches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from graphray.rl.optimizer import apply_gradients

__all__ = ["descend", "divided"]


def descend(
    loss: Callable[[Any, Any], tuple[Any, Any]],
    optimizer: Any,
    params: Any,
    leaves: Any,
    batch: Any,
    key: Any,
    *,
    epochs: int,
    at_most: int,
    shuffle: bool = True,
) -> tuple[Any, Any, Any]:
    """Gradient steps on minibatches.

    Args:
        loss: of parameters and a minibatch: the objective, and metrics with a field `grad_gnorm`, which is set here.
        optimizer: of optax.
        params: at first.
        leaves: of the optimiser's state.
        batch: arrays with the leading axis of rows; its `weight` becomes 0 where a minibatch is filled up.
        key: typed; of the orders.
        epochs: how often the batch is gone through.
        at_most: rows in a minibatch.
        shuffle: whether in another order each time.

    Returns:
        Parameters, leaves, and metrics (epochs, minibatches).
    """
    rows = len(batch.weight)
    gradient = jax.grad(loss, has_aux=True)

    def step(carry: Any, chosen: Any) -> tuple[Any, Any]:
        params, leaves = carry
        index, weight = chosen
        minibatch = jax.tree.map(lambda x: x[index], batch)
        minibatch = minibatch._replace(weight=(minibatch.weight.T * weight).T)
        gradients, metrics = gradient(params, minibatch)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients)))
        return apply_gradients(optimizer, gradients, leaves, params), metrics._replace(grad_gnorm=norm)

    def epoch(carry: Any, key: Any) -> tuple[Any, Any]:
        order = jax.random.permutation(key, rows) if shuffle else jnp.arange(rows)
        return jax.lax.scan(step, carry, divided(order, at_most))

    (params, leaves), metrics = jax.lax.scan(epoch, (params, leaves), jax.random.split(key, epochs))
    return params, leaves, metrics


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
