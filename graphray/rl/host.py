"""Policies on the host: how actions are chosen where environments are stepped.

For a few environments a jitted call costs several times what a small network does, and importing JAX costs a second
that a process which only steps environments can save. So networks of dense layers, with an LSTM or without, are
evaluated in NumPy: the same functions as in `graphray.rl.networks`, of the same parameters. Others are called through
JAX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphray.rl import keys
from graphray.rl.architecture import FORBIDDEN, Architecture, masked
from graphray.rl.distributions import ActionDistribution
from graphray.rl.spaces import Choice, Numbers

__all__ = ["NetworkPolicy", "apply"]

_RANDOM = 1  # folded into an action's key for what is drawn beside the distribution


class NetworkPolicy(NamedTuple):
    """A network, and how actions are drawn from what it gives.

    Its parameters are a dict: "policy", the network's; "explore", numbers for the way to explore; "filter", mean and
    deviation of observations, where these are normalised.
    """

    network: Architecture
    distribution: ActionDistribution
    exploration: str = "StochasticSampling"
    """One of `graphray.rl.config.EXPLORATIONS`, "StateDependent", or "SquashedSampling" (which begins at random)."""
    squashed: bool = False
    """Whether numbers are brought into (-1, 1) by tanh."""
    sequence: int = 0
    resample: int = 1
    """State-dependent exploration draws new noise after so many steps."""

    @property
    def memory(self) -> int:
        """What the network remembers, and behind it what the exploration does."""
        return self.network.memory + self._exploration_memory

    @property
    def sees_reward(self) -> bool:
        """Whether the network sees the previous reward."""
        return bool(self.network.previous_reward)

    @property
    def _exploration_memory(self) -> int:
        layout = self.distribution.layout
        if self.exploration == "OrnsteinUhlenbeckNoise":
            return layout.size
        return 1 + self.network.width * layout.size if self.exploration == "StateDependent" else 0

    def noise(self, key: keys.Key) -> NDArray[np.float32]:
        """What actions are drawn with: the distribution's numbers, then uniform ones, one more than an action has."""
        own: NDArray[np.float32] = self.distribution.noise(key)
        if self.exploration == "StochasticSampling":
            return own
        size = self.distribution.layout.size
        also = keys.fold_in(key, _RANDOM)
        if self.exploration == "StateDependent":
            own = keys.normal(also, self.network.width * size)
        return np.concatenate([own, keys.uniform(key, size + 1)], axis=-1)

    def act(
        self, params: Any, observation: NDArray[Any], memory: NDArray[Any], noise: Any
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Actions (B, n), the distributions' parameters (B, …), and what is remembered, (B, m)."""
        network, distribution, layout = self.network, self.distribution, self.distribution.layout
        kept = network.memory
        outputs, features, recalled = apply(network, params, observation, memory[:, :kept])
        if masked(network.observation, distribution):
            mask = network.observation.mask
            assert mask is not None
            outputs = np.where(observation[:, mask.start : mask.stop] > 0, outputs, np.float32(FORBIDDEN))
        extra = memory[:, kept:]
        if noise is None:
            action = distribution.sample(outputs, None)
            if self.squashed:
                action = np.tanh(action)
        elif self.exploration == "StochasticSampling":
            action = distribution.sample(outputs, noise)
        else:
            action, extra = self._explore(params["explore"], outputs, features, extra, noise)
        if not self.memory:
            return action, outputs, memory
        if network.previous_action:
            at = 2 * network.lstm
            recalled[:, at : at + network.previous_action] = encoded(layout.leaves, action)
        return action, outputs, np.concatenate([recalled, extra], axis=1) if extra.shape[1] else recalled

    def _explore(
        self, how: Any, outputs: NDArray[Any], features: NDArray[Any], extra: NDArray[Any], noise: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        layout = self.distribution.layout
        own, uniform = noise[:, : -layout.size - 1], noise[:, -layout.size - 1 :]
        best = self.distribution.sample(outputs, None)
        if self.exploration == "EpsilonGreedy":
            allowed = np.where(outputs > FORBIDDEN / 2, np.float32(0), np.float32(FORBIDDEN))
            anything = self.distribution.sample(allowed, own)
            return np.where(uniform[:, -1:] < how["epsilon"], anything, best).astype(layout.dtype), extra
        if how.get("random") or self.exploration == "Random":
            if layout.continuous:
                return 2 * uniform[:, :-1] - 1, extra
            allowed = np.where(outputs > FORBIDDEN / 2, np.float32(0), np.float32(FORBIDDEN))
            return self.distribution.sample(allowed, own), extra
        if self.exploration == "SquashedSampling":
            return np.tanh(self.distribution.sample(outputs, own)), extra
        size = layout.size
        if self.exploration == "StateDependent":
            count, weights = extra[:, :1], extra[:, 1:]
            fresh = np.exp(np.ravel(how["log_std"])) * own
            weights = np.where(count % self.resample == 0, fresh, weights)
            drift = np.einsum("bf,bfn->bn", features, weights.reshape(len(features), -1, size))
            return np.tanh(best + drift), np.concatenate([count + 1, weights], axis=1)
        mean = np.tanh(best) if self.squashed else best
        if self.exploration == "OrnsteinUhlenbeckNoise":
            extra = extra + how["theta"] * -extra + how["sigma"] * own
            return np.clip(mean + how["scale"] * extra, -1, 1).astype(np.float32), extra
        return np.clip(mean + how["scale"] * own, -1, 1).astype(np.float32), extra


def encoded(leaves: tuple[Choice | Numbers, ...], action: Any, xp: Any = np) -> Any:
    """Flat actions (…, n) as a network sees them: choices one-hot, numbers as they are."""
    columns = []
    at = 0
    for leaf in leaves:
        if isinstance(leaf, Choice):
            columns.append((action[..., at : at + 1] == xp.arange(leaf.n)).astype(np.float32))
            at += 1
        else:
            columns.append(action[..., at : at + leaf.size])
            at += leaf.size
    return xp.concatenate(columns, axis=-1)


def apply(
    network: Architecture, params: Any, observation: NDArray[Any], memory: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Outputs (B, n), features (B, f) and what is remembered then, for observations (B, …)."""
    if not network.plain:
        from graphray.rl.networks import apply_on_host

        return apply_on_host(network, params, observation, memory)
    weights = params["policy"]
    x = observation
    if "filter" in params:
        x = np.clip((x - params["filter"]["mean"]) / params["filter"]["deviation"], -10, 10)
    mask = network.observation.mask
    if mask is not None:
        x = np.delete(x, np.s_[mask.start : mask.stop], axis=1)
    activate = _ACTIVATIONS[network.activation]
    for number in range(len(network.hidden)):
        layer = weights[f"hidden_{number}"]
        x = x @ layer["kernel"]
        x += layer["bias"]
        x = activate(x)
    if network.lstm:
        x, memory = _lstm(network.lstm, weights["lstm"], x, memory)
    head = weights["head"]
    outputs = x @ head["kernel"]
    outputs += head["bias"]
    if network.free:
        outputs = np.concatenate([outputs, np.broadcast_to(weights["log_std"], (len(outputs), network.free))], axis=1)
    return outputs, x, memory


def _lstm(
    size: int, layer: Any, x: NDArray[Any], memory: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Hochreiter and Schmidhuber, "Long short-term memory", 1997; the forget gate begins open."""
    cell, output, previous = memory[:, :size], memory[:, size : 2 * size], memory[:, 2 * size :]
    gates = np.concatenate([x, previous, output], axis=1) @ layer["kernel"] + layer["bias"]
    i, f, g, o = (gates[:, n * size : (n + 1) * size] for n in range(4))
    cell = _sigmoid(f + np.float32(1)) * cell + _sigmoid(i) * np.tanh(g)
    output = _sigmoid(o) * np.tanh(cell)
    return output, np.concatenate([cell, output, previous], axis=1)


def _sigmoid(x: Any) -> Any:
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))


def _tanh(x: Any) -> Any:
    return np.tanh(x, out=x)


def _relu(x: Any) -> Any:
    return np.maximum(x, 0, out=x)


def _swish(x: Any) -> Any:
    return x * _sigmoid(x)


def _elu(x: Any) -> Any:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _gelu(x: Any) -> Any:
    return np.float32(0.5) * x * (1 + np.tanh(np.float32(0.7978845608) * (x + np.float32(0.044715) * x**3)))


def _linear(x: Any) -> Any:
    return x


_ACTIVATIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "tanh": _tanh,
    "relu": _relu,
    "swish": _swish,
    "elu": _elu,
    "gelu": _gelu,
    "linear": _linear,
}
