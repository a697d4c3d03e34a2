"""Networks of agents, as flax modules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax

from graphray.rl.distributions import Categorical

__all__ = ["MLP", "ActorCritic", "dense"]

# Initial weights are orthogonal, scaled by the gain of tanh; a policy's last layer is small, so that at first all
# actions are about equally likely (Andrychowicz et al., "What matters in on-policy reinforcement learning?", 2021).
_HIDDEN, _POLICY, _VALUE = math.sqrt(2), 0.01, 1.0


def dense(features: int, scale: float, name: str) -> nn.Dense:
    """A dense layer with orthogonal weights times `scale` and no bias at first."""
    return nn.Dense(features, kernel_init=nn.initializers.orthogonal(scale), name=name)


class MLP(nn.Module):
    """A multilayer perceptron with tanh between its layers: observations (B, …) to outputs (B, outputs).

    Its parameters are "hidden_0", "hidden_1", …, "head"; `graphray.rl.host.mlp` is the same function in NumPy.
    """

    hidden: Sequence[int]
    outputs: int
    output_scale: float

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        """The outputs (B, outputs)."""
        x = observation.reshape(observation.shape[0], -1)
        for number, features in enumerate(self.hidden):
            x = nn.tanh(dense(features, _HIDDEN, f"hidden_{number}")(x))
        return dense(self.outputs, self.output_scale, "head")(x)


class ActorCritic(nn.Module):
    """A policy over discrete actions and a value function, as two networks that share nothing."""

    num_actions: int
    hidden: Sequence[int] = (64, 64)

    def setup(self) -> None:
        """Make the two networks, whose parameters are "actor" and "critic"."""
        self.actor = MLP(self.hidden, self.num_actions, _POLICY)
        self.critic = MLP(self.hidden, 1, _VALUE)

    def __call__(self, observation: jax.Array) -> tuple[Categorical, jax.Array]:
        """The distribution of actions and the values (B,), for observations (B, …)."""
        return self.policy(observation), self.value(observation)

    def policy(self, observation: jax.Array) -> Categorical:
        """The distribution of actions alone."""
        return Categorical(self.actor(observation))

    def value(self, observation: jax.Array) -> jax.Array:
        """The values alone, (B,)."""
        return self.critic(observation)[:, 0]
