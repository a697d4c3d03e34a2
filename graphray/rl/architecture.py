"""Architectures: what a network is made of, as a value. Known before anything is traced, and without JAX."""

from __future__ import annotations

from typing import Any, NamedTuple

from graphray.rl.config import MODEL_DEFAULTS
from graphray.rl.distributions import ActionDistribution
from graphray.rl.spaces import ActionLayout, Choice, ObservationLayout, Part

__all__ = ["FORBIDDEN", "Architecture", "architecture", "masked", "vector", "with_action"]

FORBIDDEN = -1e9
"""The logit of an action that is not allowed: finite, so that nothing becomes infinite minus infinite."""


class Architecture(NamedTuple):
    """A network from observations to outputs; small, hashable, a static argument of traced functions."""

    observation: ObservationLayout
    outputs: int
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    conv: tuple[tuple[int, tuple[int, int], tuple[int, int]], ...] | None = None
    conv_activation: str = "relu"
    lstm: int = 0
    """Size of the LSTM behind the dense layers; 0: none."""
    previous_action: int = 0
    """How many numbers the LSTM sees of the previous action."""
    previous_reward: int = 0
    """How many of the previous reward: 1 or 0."""
    head_scale: float = 1.0
    """Gain of the last layer's initial weights."""
    dueling: bool = False
    """Outputs are advantages, beside which a value is made."""
    free: int = 0
    """How many parameters there are beside the network, as its further outputs: logarithms of standard deviations."""
    free_start: float = 0.0
    custom: Any = None
    custom_config: tuple[tuple[str, Any], ...] = ()

    @property
    def width(self) -> int:
        """How many numbers the last layer sees, of a network with a layer before it."""
        return self.lstm or (self.hidden[-1] if self.hidden else self.observation.shape[0])

    @property
    def memory(self) -> int:
        """How many numbers it remembers from step to step: cell, output, previous action, previous reward."""
        return 2 * self.lstm + self.previous_action + self.previous_reward if self.lstm else 0

    @property
    def plain(self) -> bool:
        """Whether it is dense layers, perhaps with an LSTM: what NumPy evaluates faster than a jitted call."""
        return self.custom is None and self.conv is None and self.observation.plain and len(self.observation.shape) == 1


def architecture(
    observation: ObservationLayout, outputs: int, model: dict[str, Any], action: ActionLayout | None = None, **more: Any
) -> Architecture:
    """The network that `model`, the entry of a configuration, describes.

    Args:
        observation: what it sees.
        outputs: how many numbers it gives.
        model: names of `MODEL_DEFAULTS`; what is missing is as there.
        action: of which its LSTM sees the previous one, if asked to.
        more: further fields.

    Raises:
        ValueError: an entry that does not go with the observations.
    """
    known = {**MODEL_DEFAULTS, **model}
    conv = known["conv_filters"]
    if conv is not None and not any(part.kind == "image" for part in observation.parts):
        raise ValueError(
            "model has conv_filters, but the environment shows no image (uint8, height × width × channels)"
        )
    recurrent = more.pop("recurrent", True) and known["use_lstm"]
    custom = known["custom_model"]
    if recurrent and custom is not None:
        raise ValueError("model has use_lstm and a custom_model: a custom model has no LSTM put behind it")
    fields: dict[str, Any] = {
        "hidden": tuple(known["fcnet_hiddens"]),
        "activation": known["fcnet_activation"],
        "conv": None if conv is None else tuple((f, _pair(k), _pair(s)) for f, k, s in conv),
        "conv_activation": known["conv_activation"],
        "custom": _resolved(custom),
        "custom_config": tuple(sorted(known["custom_model_config"].items())),
    }
    if recurrent:
        fields["lstm"] = known["lstm_cell_size"]
        if known["lstm_use_prev_action"] and action is not None:
            fields["previous_action"] = sum(leaf.n if isinstance(leaf, Choice) else leaf.size for leaf in action.leaves)
        fields["previous_reward"] = int(known["lstm_use_prev_reward"])
    return Architecture(observation, outputs, **{**fields, **more})


def vector(size: int) -> ObservationLayout:
    """The layout of plain numbers."""
    return ObservationLayout((size,), "float32", (Part((), "numbers", (size,), 0, size),))


def with_action(layout: ObservationLayout, size: int) -> ObservationLayout:
    """The layout of observations with flat actions behind."""
    stop = layout.parts[-1].stop
    parts = tuple(part._replace(path=part.path or ("observation",)) for part in layout.parts)
    return ObservationLayout(
        (stop + size,), "float32", (*parts, Part(("action",), "numbers", (size,), stop, stop + size))
    )


def masked(observation: ObservationLayout, distribution: ActionDistribution) -> bool:
    """Whether observations say which actions are allowed.

    Raises:
        ValueError: the mask does not fit the actions.
    """
    mask = observation.mask
    if mask is None:
        return False
    if not distribution.layout.discrete or mask.stop - mask.start != distribution.size:
        raise ValueError(
            f"the observation's action_mask has {mask.stop - mask.start} entries; a mask needs discrete actions, and "
            f"one entry for each ({distribution.size})"
        )
    return True


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _resolved(custom: Any) -> Any:
    if not isinstance(custom, str):
        return custom
    from graphray.rl.registry import imported

    return imported(custom, "custom_model")
