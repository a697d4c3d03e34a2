"""Policies on the host: small networks evaluated in NumPy.

For a few environments a jitted call costs several times what such a network does, and importing JAX costs a second
that a process which only steps environments can save. The network is the one of `graphray.rl.networks`, and takes the
same parameters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphray.rl import keys

__all__ = ["CategoricalMLP", "mlp"]


class CategoricalMLP(NamedTuple):
    """A multilayer perceptron whose outputs are the logits of a categorical distribution over actions."""

    num_actions: int

    def noise(self, key: keys.Key) -> NDArray[np.float32]:
        """A standard Gumbel number for each action: keys (…, 2) give (…, num_actions)."""
        return keys.gumbel(key, self.num_actions)

    def act(
        self, params: Any, observation: NDArray[np.float32], noise: Any
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Actions (B,) and logits (B, num_actions) for observations (B, …).

        The largest of logits plus Gumbel noise falls on each action with its probability (the Gumbel-max trick;
        Yellott, 1977), as in `jax.random.categorical`, and on the likeliest one where there is no noise.
        """
        logits = mlp(params, observation.reshape(len(observation), -1))
        return np.argmax(logits + noise, axis=-1), logits


def mlp(params: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Layers "hidden_0", "hidden_1", … with tanh, then "head" without: inputs (B, n) to outputs (B, m)."""
    for number in range(len(params) - 1):
        layer = params[f"hidden_{number}"]
        x = x @ layer["kernel"]
        x += layer["bias"]
        np.tanh(x, out=x)
    x = x @ params["head"]["kernel"]
    x += params["head"]["bias"]
    return x
