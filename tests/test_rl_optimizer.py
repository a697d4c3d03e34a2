"""Optimisers whose state is a tuple of arrays do what optax does."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from graphray.rl.optimizer import apply_gradients, init_leaves


def test_it_is_the_same_optimiser():
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
    params = {"w": jnp.arange(3.0), "b": jnp.ones(())}
    plain, state = params, optimizer.init(params)
    leaves = init_leaves(optimizer, params)
    assert type(leaves) is tuple
    assert all(isinstance(leaf, jax.Array) for leaf in leaves)
    for step in range(3):
        gradients = jax.tree.map(lambda x, step=step: x + step, params)
        updates, state = optimizer.update(gradients, state, plain)
        plain = optax.apply_updates(plain, updates)
        params, leaves = apply_gradients(optimizer, gradients, leaves, params)
        jax.tree.map(np.testing.assert_array_equal, params, plain)
        jax.tree.map(np.testing.assert_array_equal, leaves, tuple(jax.tree.leaves(state)))


def test_one_step_of_gradient_descent():
    optimizer = optax.sgd(0.5)
    params, leaves = apply_gradients(optimizer, {"w": jnp.float32(2)}, (), {"w": jnp.float32(3)})
    assert (params, leaves) == ({"w": 2.0}, ())
