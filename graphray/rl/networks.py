"""Networks of agents, as flax modules; `graphray.rl.host` evaluates the plain ones in NumPy, too."""

from __future__ import annotations

import functools
import inspect
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from graphray.rl.architecture import FORBIDDEN, Architecture, masked
from graphray.rl.distributions import ActionDistribution
from graphray.rl.spaces import ObservationLayout, Part, structure

__all__ = ["Network", "apply_on_host", "forward", "init", "mask_logits", "unroll"]

# Initial weights are orthogonal, scaled by the gain of tanh or ReLU; a policy's last layer is small, so that at first
# all actions are about equally likely (Andrychowicz et al., "What matters in on-policy reinforcement learning?", 2021).
_HIDDEN = math.sqrt(2)

_ACTIVATIONS: dict[str, Any] = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "swish": nn.swish,
    "elu": nn.elu,
    "gelu": functools.partial(nn.gelu, approximate=True),
    "linear": lambda x: x,
}

# By the image's smaller side; the first that fits (after Mnih et al., "Human-level control through deep reinforcement
# learning", 2015, for those of about 84).
_CONVOLUTIONS = (
    (64, ((32, (8, 8), (4, 4)), (64, (4, 4), (2, 2)), (64, (3, 3), (1, 1)))),
    (32, ((16, (4, 4), (2, 2)), (32, (4, 4), (2, 2)), (64, (3, 3), (2, 2)))),
    (8, ((16, (3, 3), (2, 2)), (32, (3, 3), (2, 2)))),
    (1, ((16, (3, 3), (1, 1)),)),
)


def _dense(features: int, scale: float, name: str | None = None) -> nn.Dense:
    return nn.Dense(features, kernel_init=nn.initializers.orthogonal(scale), name=name)


class Network(nn.Module):
    """A network: observations (B, …) and what it remembers (B, m), to outputs, features and what it remembers then."""

    spec: Architecture

    def setup(self) -> None:
        """Make its layers: "encoder", "hidden_0", "hidden_1", …, "lstm", "head", "value", "log_std", or "custom"."""
        spec = self.spec
        if spec.custom is not None:
            self.custom = _custom(spec)
            return
        if not spec.plain:
            self.encoder = Encoder(spec)
        self.hidden = [_dense(size, _HIDDEN) for size in spec.hidden]
        if spec.lstm:
            self.lstm = LSTM(spec.lstm)
        self.head = _dense(spec.outputs, spec.head_scale)
        if spec.dueling:
            self.value = _dense(1, 1.0)
        if spec.free:
            self.log_std = self.param("log_std", nn.initializers.constant(spec.free_start), (spec.free,))

    def __call__(self, observation: jax.Array, memory: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """One step."""
        spec = self.spec
        if spec.custom is not None:
            return self._from_custom(observation), jnp.zeros((len(observation), 0)), memory
        x = self._torso(observation)
        if spec.lstm:
            x, memory = self.lstm(x, memory)
        return self.outputs(x), x, memory

    def unroll(
        self, observation: jax.Array, memory: jax.Array, previous: jax.Array, fresh: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Several steps of an LSTM.

        Args:
            observation: (T, B, …).
            memory: before the first step, (B, m).
            previous: what it is shown of the step before each, (T, B, p).
            fresh: where it remembers nothing, and is shown nothing, (T, B).

        Returns:
            Features (T, B, f), and the memory after each step (T, B, m).
        """
        size = self.spec.lstm
        x = self._torso(observation.reshape(-1, *observation.shape[2:])).reshape(*observation.shape[:2], -1)

        def step(lstm: LSTM, memory: jax.Array, now: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            x, seen, begins = now
            memory = jnp.concatenate([memory[:, : 2 * size], seen], axis=-1)
            out, memory = lstm(x, jnp.where(begins[:, None], 0.0, memory))
            return memory, (out, memory)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        _, (features, memories) = scan(self.lstm, memory, (x, previous, fresh))
        return features, memories

    def outputs(self, features: jax.Array) -> jax.Array:
        """What the last layer makes of features (…, f)."""
        outputs = self.head(features)
        if self.spec.dueling:
            outputs = self.value(features) + outputs - outputs.mean(-1, keepdims=True)
        if self.spec.free:
            log_std = jnp.broadcast_to(self.log_std, (*outputs.shape[:-1], self.spec.free))
            outputs = jnp.concatenate([outputs, log_std], axis=-1)
        return outputs

    def _torso(self, observation: jax.Array) -> jax.Array:
        spec = self.spec
        x = _without_mask(spec.observation, observation) if spec.plain else self.encoder(observation)
        for layer in self.hidden:
            x = _ACTIVATIONS[spec.activation](layer(x))
        return x

    def _from_custom(self, observation: jax.Array) -> jax.Array:
        out = self.custom(structure(self.spec.observation, observation))
        if out.shape != (len(observation), self.spec.outputs):
            raise ValueError(
                f"custom_model {type(self.custom).__name__} gave an array {out.shape} where ({len(observation)}, "
                f"{self.spec.outputs}) is needed; a model that is a class gets the number of outputs as num_outputs"
            )
        return out  # type: ignore[no-any-return]


def _custom(spec: Architecture) -> nn.Module:
    """The user's model, for these outputs."""
    made = spec.custom
    if isinstance(made, nn.Module):
        return made.clone()
    given = dict(spec.custom_config)
    takes = inspect.signature(made).parameters
    if "num_outputs" in takes or any(one.kind is one.VAR_KEYWORD for one in takes.values()):
        given["num_outputs"] = spec.outputs
    return made(**given)  # type: ignore[no-any-return]


class LSTM(nn.Module):
    """An LSTM cell whose memory is one array: cell, output, then what it is shown of the previous step."""

    size: int

    @nn.compact
    def __call__(self, x: jax.Array, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step: (B, n) and (B, m) to the output (B, size) and the memory after it."""
        n = self.size
        cell, output, previous = memory[:, :n], memory[:, n : 2 * n], memory[:, 2 * n :]
        seen = jnp.concatenate([x, previous, output], axis=-1)
        kernel = self.param("kernel", nn.initializers.orthogonal(1.0), (seen.shape[-1], 4 * n))
        bias = self.param("bias", nn.initializers.zeros, (4 * n,))
        i, f, g, o = jnp.split(seen @ kernel + bias, 4, axis=-1)
        cell = nn.sigmoid(f + 1.0) * cell + nn.sigmoid(i) * nn.tanh(g)
        output = nn.sigmoid(o) * nn.tanh(cell)
        return output, jnp.concatenate([cell, output, previous], axis=-1)


class Encoder(nn.Module):
    """Observations with images or sequences in them, as one vector."""

    spec: Architecture

    @nn.compact
    def __call__(self, observation: jax.Array) -> jax.Array:
        layout = self.spec.observation
        if len(layout.shape) > 1:
            return self._image(observation, "image")
        columns = []
        for number, part in enumerate(layout.parts):
            cut = observation[..., part.start : part.stop]
            if part.kind == "image":
                columns.append(self._image(cut.reshape(-1, *part.shape), f"image_{number}"))
            elif part.kind == "sequence":
                columns.append(self._sequence(cut, part, f"sequence_{number}"))
            elif part.kind != "mask":
                columns.append(cut)
        return jnp.concatenate(columns, axis=-1)

    def _image(self, pixels: jax.Array, name: str) -> jax.Array:
        x = pixels.astype(jnp.float32) / 255.0
        filters = self.spec.conv
        if filters is None:
            filters = next(layers for least, layers in _CONVOLUTIONS if min(x.shape[1:3]) >= least)
        for number, (features, kernel, stride) in enumerate(filters):
            init = nn.initializers.orthogonal(_HIDDEN)
            convolution = nn.Conv(
                features, kernel, stride, padding="SAME", kernel_init=init, name=f"{name}_conv_{number}"
            )
            x = _ACTIVATIONS[self.spec.conv_activation](convolution(x))
        return x.reshape(len(x), -1)

    def _sequence(self, flat: jax.Array, part: Part, name: str) -> jax.Array:
        """Each entry through a dense layer, then mean and maximum (Zaheer et al., "Deep sets", 2017)."""
        longest, size = part.shape
        entries = flat[..., : longest * size].reshape(-1, longest, size)
        there = flat[..., longest * size :, None].reshape(-1, longest, 1)
        x = nn.relu(_dense(64, _HIDDEN, name)(entries)) * there
        count = there.sum(1)
        return jnp.concatenate([x.sum(1) / jnp.maximum(count, 1.0), x.max(1), count / longest], axis=-1)


def _without_mask(layout: ObservationLayout, observation: jax.Array) -> jax.Array:
    mask = layout.mask
    if mask is None:
        return observation
    return jnp.concatenate([observation[..., : mask.start], observation[..., mask.stop :]], axis=-1)


def mask_logits(layout: ObservationLayout, distribution: ActionDistribution, outputs: Any, observation: Any) -> Any:
    """Outputs (…, n) where actions that the observations (…, m) do not allow cannot be chosen."""
    if not masked(layout, distribution):
        return outputs
    part = layout.mask
    assert part is not None
    return jnp.where(observation[..., part.start : part.stop] > 0, outputs, FORBIDDEN)


# ---- as functions of parameters


def init(spec: Architecture, key: Any) -> Any:
    """Parameters of a network, from a typed key."""
    observation = jnp.zeros((1, *spec.observation.shape), spec.observation.dtype)
    return Network(spec).init(key, observation, jnp.zeros((1, spec.memory)))["params"]


def forward(spec: Architecture, params: Any, observation: Any) -> tuple[Any, Any]:
    """Outputs and features of a network without memory, for observations (B, …)."""
    made: Any = Network(spec).apply({"params": params}, observation, jnp.zeros((len(observation), 0)))
    return made[0], made[1]


def unroll(
    spec: Architecture, params: Any, observation: Any, memory: Any, previous: Any, fresh: Any
) -> tuple[Any, Any]:
    """Features and memories of an LSTM over (T, B) steps; see `Network.unroll`."""
    made: Any = Network(spec).apply({"params": params}, observation, memory, previous, fresh, method="unroll")
    return made[0], made[1]


def forward_step(spec: Architecture, params: Any, observation: Any, memory: Any) -> Any:
    """Features (B, f) of observations (B, …), with what is remembered (B, m)."""
    made: Any = Network(spec).apply({"params": params}, observation, memory)
    return made[1]


def outputs_of(spec: Architecture, params: Any, features: Any) -> Any:
    """What the last layer makes of features."""
    return Network(spec).apply({"params": params}, features, method="outputs")


@functools.partial(jax.jit, static_argnums=0)
def _apply(spec: Architecture, params: Any, observation: Any, memory: Any) -> Any:
    if "filter" in params:
        observation = normalised(params["filter"], observation)
    return Network(spec).apply({"params": params["policy"]}, observation, memory)


def normalised(filter_: Any, observation: Any) -> Any:
    """Observations with mean 0 and deviation 1, within ±10."""
    return jnp.clip((observation - filter_["mean"]) / filter_["deviation"], -10.0, 10.0)


def apply_on_host(spec: Architecture, params: Any, observation: Any, memory: Any) -> tuple[Any, Any, Any]:
    """Outputs, features and memory as NumPy's arrays, of a network that NumPy does not evaluate."""
    used = {name: params[name] for name in ("policy", "filter") if name in params}
    outputs, features, memory = _apply(spec, used, observation, memory)
    return np.asarray(outputs), np.asarray(features), np.array(memory)
