"""Distributions over actions: of every leaf of an action's layout, as one.

Their parameters are one flat array (…, size): n logits for a choice; for numbers the means, then the logarithms of the
standard deviations. What draws actions runs on the host and in traced code alike, on NumPy's arrays and on JAX's, with
noise that is handed in: the same numbers give the same action.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from graphray.rl import keys
from graphray.rl.spaces import ActionLayout, Choice, Numbers

__all__ = ["ActionDistribution"]

LOG_STD = (-20.0, 2.0)
"""What logarithms of standard deviations are kept within."""

_LOG_2PI = math.log(2 * math.pi)


class ActionDistribution(NamedTuple):
    """Independent distributions of the leaves: categorical for choices, normal for numbers."""

    layout: ActionLayout

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return sum(leaf.n if isinstance(leaf, Choice) else 2 * leaf.size for leaf in self.layout.leaves)

    @property
    def noise_size(self) -> int:
        """How many random numbers an action is made of."""
        return sum(leaf.n if isinstance(leaf, Choice) else leaf.size for leaf in self.layout.leaves)

    def noise(self, key: keys.Key) -> Any:
        """What actions of keys (…, 2) are drawn with, (…, noise_size): Gumbel numbers for choices, or normal."""
        leaves = self.layout.leaves
        if self.layout.discrete:
            return keys.gumbel(key, self.noise_size)
        if self.layout.continuous:
            return keys.normal(key, self.noise_size)
        drawn = [
            keys.gumbel(keys.fold_in(key, i), leaf.n)
            if isinstance(leaf, Choice)
            else keys.normal(keys.fold_in(key, i), leaf.size)
            for i, leaf in enumerate(leaves)
        ]
        return np.concatenate(drawn, axis=-1)

    def sample(self, parameters: Any, noise: Any, xp: Any = np) -> Any:
        """Actions (…, n) of distributions (…, size); those that are likeliest, where noise is None.

        The largest of logits plus Gumbel noise falls on each choice with its probability (the Gumbel-max trick;
        Yellott, 1977).
        """
        if len(self.layout.leaves) == 1 and self.layout.discrete:  # most environments
            logits = parameters if noise is None else parameters + noise
            return logits.argmax(axis=-1)[..., None].astype(np.int32)
        drawn = []
        at = 0
        for leaf, cut in self._cuts(parameters):
            width = leaf.n if isinstance(leaf, Choice) else leaf.size
            part = None if noise is None else noise[..., at : at + width]
            at += width
            if isinstance(leaf, Choice):
                drawn.append(xp.argmax(cut if part is None else cut + part, axis=-1)[..., None])
            else:
                mean, log_std = cut[..., :width], xp.clip(cut[..., width:], *LOG_STD)
                drawn.append(mean if part is None else mean + xp.exp(log_std) * part)
        return xp.concatenate(drawn, axis=-1).astype(self.layout.dtype)

    def log_prob(self, parameters: Any, action: Any) -> Any:
        """The logarithm of the probability (density) of actions (…, n), which gives (…). Traced."""
        import jax
        import jax.numpy as jnp

        total: Any = 0.0
        at = 0
        for leaf, cut in self._cuts(parameters):
            if isinstance(leaf, Choice):
                chosen = action[..., at : at + 1].astype(jnp.int32)
                total += jnp.take_along_axis(jax.nn.log_softmax(cut), chosen, axis=-1)[..., 0]
                at += 1
            else:
                mean, log_std = _normal(cut)
                z = (action[..., at : at + leaf.size] - mean) * jnp.exp(-log_std)
                total += jnp.sum(-0.5 * z**2 - log_std - 0.5 * _LOG_2PI, axis=-1)
                at += leaf.size
        return total

    def entropy(self, parameters: Any) -> Any:
        """In nats, (…). A choice of probability 0 adds nothing. Traced."""
        import jax
        import jax.numpy as jnp

        total: Any = 0.0
        for leaf, cut in self._cuts(parameters):
            if isinstance(leaf, Choice):
                log_probs = jax.nn.log_softmax(cut)
                total -= _expectation(log_probs, log_probs)
            else:
                _, log_std = _normal(cut)
                total += jnp.sum(log_std + 0.5 * (_LOG_2PI + 1), axis=-1)
        return total

    def kl(self, parameters: Any, others: Any) -> Any:
        """The Kullback-Leibler divergence from these distributions to others, in nats, (…). Traced."""
        import jax
        import jax.numpy as jnp

        total: Any = 0.0
        for (leaf, cut), (_, other) in zip(self._cuts(parameters), self._cuts(others), strict=True):
            if isinstance(leaf, Choice):
                here, there = jax.nn.log_softmax(cut), jax.nn.log_softmax(other)
                total += _expectation(here, here - there)
            else:
                mean, log_std = _normal(cut)
                mean_, log_std_ = _normal(other)
                ratio = jnp.exp(2 * (log_std - log_std_))
                moved = (mean - mean_) ** 2 * jnp.exp(-2 * log_std_)
                total += jnp.sum(log_std_ - log_std + 0.5 * (ratio + moved - 1), axis=-1)
        return total

    def _cuts(self, parameters: Any) -> Iterator[tuple[Choice | Numbers, Any]]:
        at = 0
        for leaf in self.layout.leaves:
            width = leaf.n if isinstance(leaf, Choice) else 2 * leaf.size
            yield leaf, parameters[..., at : at + width]
            at += width


def _normal(parameters: Any) -> tuple[Any, Any]:
    """Means and logarithms of deviations."""
    import jax.numpy as jnp

    mean, log_std = jnp.split(parameters, 2, axis=-1)
    return mean, jnp.clip(log_std, *LOG_STD)


def _expectation(log_probs: Any, x: Any) -> Any:
    """The mean of x over the last axis; what has probability 0 does not count, be it infinite."""
    import jax.numpy as jnp

    probs = jnp.exp(log_probs)
    return jnp.sum(probs * jnp.where(probs > 0, x, 0.0), axis=-1)
