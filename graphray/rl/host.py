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

__all__ = ["NetworkPolicy", "encoded", "forwarding"]

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
        """What actions are drawn with: numbers of the distribution or of the way to explore, then uniform ones.

        Of these there is one more than numbers in an action.
        """
        own: NDArray[np.float32] = self.distribution.noise(key)
        if self.exploration == "StochasticSampling":
            return own
        size = self.distribution.layout.size
        also = keys.fold_in(key, _RANDOM)
        if self.exploration == "StateDependent":
            own = keys.normal(also, self.network.width * size)
        elif self._any_action:
            own = self.distribution.sample(np.zeros((), np.float32), own).astype(np.float32)
        return np.concatenate([own, keys.uniform(key, size + 1)], axis=-1)

    @property
    def _any_action(self) -> bool:
        """Whether actions at random can be drawn before anything is seen: all at once, as noise."""
        return self.exploration in ("EpsilonGreedy", "Random") and self.network.observation.mask is None

    def acting(self, params: Any) -> Callable[..., tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """A function from observations (B, …), memory (B, m) and noise to actions, distributions and memory.

        Actions are (B, n), the distributions' parameters (B, …). Without noise (None), they are the best ones.
        """
        network, distribution, layout = self.network, self.distribution, self.distribution.layout
        forward = forwarding(network, params)
        explore = self._exploring(params.get("explore", {}))
        mask = network.observation.mask if masked(network.observation, distribution) else None
        kept, remembers, squashed, sample = network.memory, self.memory > 0, self.squashed, distribution.sample

        def act(observation: Any, memory: Any, noise: Any) -> tuple[Any, Any, Any]:
            outputs, features, recalled = forward(observation, memory[:, :kept] if remembers else memory)
            if mask is not None:
                allowed = observation[:, mask.start : mask.stop] > 0
                outputs = np.where(allowed, outputs, np.float32(FORBIDDEN))
            extra = memory[:, kept:]
            if noise is None:
                action = sample(outputs, None)
                if squashed:
                    action = np.tanh(action)
            else:
                action, extra = explore(outputs, features, extra, noise)
            if not remembers:
                return action, outputs, memory
            if network.previous_action:
                at = 2 * network.lstm
                recalled[:, at : at + network.previous_action] = encoded(layout.leaves, action)
            return action, outputs, np.concatenate([recalled, extra], axis=1) if extra.shape[1] else recalled

        return act

    def _exploring(self, how: Any) -> Callable[..., tuple[NDArray[Any], NDArray[Any]]]:
        """A function from outputs, features, what the exploration remembers, and noise, to actions and memory."""
        sample, size, squashed = self.distribution.sample, self.distribution.layout.size, self.squashed
        discrete = self.distribution.layout.discrete

        def sampled(outputs: Any, features: Any, extra: Any, noise: Any) -> tuple[Any, Any]:
            return sample(outputs, noise), extra

        def anything(outputs: Any, noise: Any) -> Any:
            if not discrete:
                return 2 * noise[:, -size - 1 : -1] - 1
            if any_action:
                return noise[:, :size].astype(np.int32)
            allowed = np.where(outputs > FORBIDDEN / 2, np.float32(0), np.float32(FORBIDDEN))
            return sample(allowed, noise[:, : -size - 1])

        def at_random(outputs: Any, features: Any, extra: Any, noise: Any) -> tuple[Any, Any]:
            return anything(outputs, noise), extra

        def epsilon_greedy(outputs: Any, features: Any, extra: Any, noise: Any) -> tuple[Any, Any]:
            best = sample(outputs, None)
            wander = noise[:, -1:] < epsilon
            return (np.where(wander, anything(outputs, noise), best) if wander.any() else best), extra

        def squashed_sampling(outputs: Any, features: Any, extra: Any, noise: Any) -> tuple[Any, Any]:
            return np.tanh(sample(outputs, noise[:, : -size - 1])), extra

        def state_dependent(outputs: Any, features: Any, extra: Any, noise: Any) -> tuple[Any, Any]:
            count, weights = extra[:, :1], extra[:, 1:]
            weights = np.where(count % resample == 0, deviation * noise[:, : -size - 1], weights)
            drift = np.einsum("bf,bfn->bn", features, weights.reshape(len(features), -1, size))
            return np.tanh(sample(outputs, None) + drift), np.concatenate([count + 1, weights], axis=1)

        def around(outputs: Any, features: Any, extra: Any, noise: Any) -> tuple[Any, Any]:
            mean = sample(outputs, None)
            mean = np.tanh(mean) if squashed else mean
            drift = noise[:, : -size - 1]
            if theta is not None:
                extra = drift = extra - theta * extra + how["sigma"] * drift
            return np.clip(mean + how["scale"] * drift, -1, 1).astype(np.float32), extra

        any_action = self._any_action
        if self.exploration == "StochasticSampling":
            return sampled
        if self.exploration == "Random" or how.get("random"):
            return at_random
        if self.exploration == "EpsilonGreedy":
            epsilon = how["epsilon"]
            return epsilon_greedy
        if self.exploration == "SquashedSampling":
            return squashed_sampling
        if self.exploration == "StateDependent":
            resample, deviation = self.resample, np.exp(np.ravel(how["log_std"]))
            return state_dependent
        theta = how.get("theta")
        return around


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


def forwarding(
    network: Architecture, params: Any
) -> Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """A function from observations (B, …) and memory (B, m) to outputs (B, n), features (B, f) and memory."""
    if not network.plain:
        from graphray.rl.networks import apply_on_host

        return lambda observation, memory: apply_on_host(network, params, observation, memory)
    weights, filter_ = params["policy"], params.get("filter")
    layers = [(weights[f"hidden_{n}"]["kernel"], weights[f"hidden_{n}"]["bias"]) for n in range(len(network.hidden))]
    kernel, bias = weights["head"]["kernel"], weights["head"]["bias"]
    activate, mask, size, free = _ACTIVATIONS[network.activation], network.observation.mask, network.lstm, network.free

    def forward(x: Any, memory: Any) -> tuple[Any, Any, Any]:
        if filter_ is not None:
            x = np.clip((x - filter_["mean"]) / filter_["deviation"], -10, 10)
        if mask is not None:
            x = np.delete(x, np.s_[mask.start : mask.stop], axis=1)
        for layer_kernel, layer_bias in layers:
            x = x @ layer_kernel
            x += layer_bias
            x = activate(x)
        if size:
            x, memory = _lstm(size, weights["lstm"], x, memory)
        outputs = x @ kernel
        outputs += bias
        if free:
            outputs = np.concatenate([outputs, np.broadcast_to(weights["log_std"], (len(outputs), free))], axis=1)
        return outputs, x, memory

    return forward


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
