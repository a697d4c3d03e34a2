"""Optimisers whose state is a plain tuple of arrays.

An optax state is made of optax's own classes. A process that is handed one has to import optax, and JAX with it, if
only to pass it on; and a checkpoint would have to name those classes. Here the state is its leaves, and the structure
around them comes from the optimiser and the parameters, while the update is traced.
"""

from __future__ import annotations

from typing import Any

import jax
import optax

from graphray.rl.schedules import scheduled

__all__ = ["KINDS", "apply_gradients", "init_leaves", "make_optimizer", "optimizer_at"]

KINDS = {"adam": optax.adam, "adamw": optax.adamw, "sgd": optax.sgd, "rmsprop": optax.rmsprop}


def make_optimizer(
    spec: tuple[tuple[str, Any], ...], learning_rate: Any, max_norm: Any = None
) -> optax.GradientTransformation:
    """An optimiser.

    Args:
        spec: `type` and its arguments, as the items of a dict.
        learning_rate: may be traced.
        max_norm: gradients are scaled to this global norm, if theirs is greater.

    Raises:
        ValueError: a type that is not known, or an argument that it does not take.
    """
    given = dict(spec)
    kind = given.pop("type", "adam")
    if kind not in KINDS:
        raise ValueError(f"optimizer: type is one of {', '.join(KINDS)}, not {kind!r}")
    try:
        optimizer = KINDS[kind](learning_rate, **given)
    except TypeError as error:
        raise ValueError(f"optimizer: {error}") from None
    if max_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(max_norm), optimizer)
    return optimizer


def optimizer_at(setup: Any, hyper: Any, steps: Any) -> optax.GradientTransformation:
    """The optimiser of an algorithm after some environment steps.

    Args:
        setup: of the algorithm, with `optimizer`, `lr_schedule` and `grad_clip`.
        hyper: its hyperparameters, with `lr`.
        steps: may be traced.
    """
    return make_optimizer(setup.optimizer, scheduled(setup.lr_schedule, steps, hyper["lr"]), setup.grad_clip)


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
