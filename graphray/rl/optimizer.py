"""Optimisers whose state is a plain tuple of arrays.

An optax state is made of optax's own classes. A process that is handed one has to import optax, and JAX with it, if
only to pass it on; and a checkpoint would have to name those classes. Here the state is its leaves, and the structure
around them comes from the optimiser and the parameters, while the update is traced.
"""

from __future__ import annotations

from typing import Any

import jax
import optax

__all__ = ["apply_gradients", "init_leaves"]


def init_leaves(optimizer: optax.GradientTransformation, params: Any) -> tuple[jax.Array, ...]:
    """The optimiser's first state, as its leaves."""
    return tuple(jax.tree.leaves(optimizer.init(params)))


def apply_gradients(
    optimizer: optax.GradientTransformation, gradients: Any, leaves: tuple[jax.Array, ...], params: Any
) -> tuple[Any, tuple[jax.Array, ...]]:
    """New parameters and new leaves after one step of the optimiser."""
    structure = jax.tree.structure(jax.eval_shape(optimizer.init, params))
    updates, state = optimizer.update(gradients, jax.tree.unflatten(structure, leaves), params)
    return optax.apply_updates(params, updates), tuple(jax.tree.leaves(state))
