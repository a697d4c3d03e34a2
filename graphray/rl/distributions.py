"""Distributions over actions, as pytrees."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["Categorical"]


class Categorical(NamedTuple):
    """One of n actions, numbered from 0, with probabilities softmax(logits); logits (…, n) are a batch."""

    logits: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """One action for each entry of the batch, (…), all from a single key."""
        return jax.random.categorical(key, self.logits)

    def mode(self) -> jax.Array:
        """The likeliest action, (…); the first of several."""
        return jnp.argmax(self.logits, axis=-1)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """The logarithm of the probability of actions (…), which gives (…)."""
        log_probs = jax.nn.log_softmax(self.logits)
        return jnp.take_along_axis(log_probs, action[..., None], axis=-1)[..., 0]

    def entropy(self) -> jax.Array:
        """In nats, (…). An action of probability 0 (a logit of minus infinity) adds nothing."""
        log_probs = jax.nn.log_softmax(self.logits)
        return -_expectation(log_probs, log_probs)

    def kl(self, other: Categorical) -> jax.Array:
        """The Kullback-Leibler divergence from this distribution to the other one, in nats, (…)."""
        here, there = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        return _expectation(here, here) - _expectation(here, there)


def _expectation(log_probs: jax.Array, x: jax.Array) -> jax.Array:
    """The mean of x over the last axis; what has probability 0 does not count, be it infinite."""
    probs = jnp.exp(log_probs)
    return jnp.sum(probs * jnp.where(probs > 0, x, 0.0), axis=-1)
