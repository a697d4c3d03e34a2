"""What all algorithms are configured with, under RLlib's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from graphray.rl.options import (
    anything,
    build,
    choice,
    flag,
    integer,
    mapping,
    number,
    option,
    optional,
    options,
    schedule,
    sizes,
    text,
)

__all__ = ["COMMON_CONFIG", "EXPLORATIONS", "MODEL_DEFAULTS", "Config", "ModelConfig", "UnlikelyConfig"]

ACTIVATIONS = ("tanh", "relu", "swish", "elu", "gelu", "linear")

EXPLORATIONS = {
    "StochasticSampling": {},
    "EpsilonGreedy": {"initial_epsilon": 1.0, "final_epsilon": 0.04, "epsilon_timesteps": 8000},
    "GaussianNoise": {"stddev": 0.1, "initial_scale": 1.0, "final_scale": 1.0, "scale_timesteps": 10_000},
    "OrnsteinUhlenbeckNoise": {
        "ou_theta": 0.15,
        "ou_sigma": 0.2,
        "ou_base_scale": 1.0,
        "initial_scale": 1.0,
        "final_scale": 1.0,
        "scale_timesteps": 10_000,
    },
    "Random": {},
}
"""Ways to explore, with what each is configured with and the defaults of that."""


class UnlikelyConfig(UserWarning):
    """A configuration that can be used, but hardly does what was meant."""


def _filters(value: Any) -> Any:
    return tuple((int(f), _pair(k), _pair(s)) for f, k, s in value)


_filters.kind = "a list of [filters, kernel, stride]"  # type: ignore[attr-defined]


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


@dataclass(frozen=True)
class ModelConfig:
    """The networks of an agent (the entry `model` of a configuration)."""

    fcnet_hiddens: Any = option(
        (64, 64), "Sizes of the dense layers.", sizes, rllib=[256, 256], aliases=("net_arch", "hidden", "hiddens")
    )
    fcnet_activation: Any = option(
        "tanh", "What follows each dense layer.", choice(*ACTIVATIONS), aliases=("activation_fn", "activation")
    )
    conv_filters: Any = option(
        None,
        "Convolutions for images: a list of [filters, kernel, stride]; None chooses them by the image's size.",
        optional(_filters),
    )
    conv_activation: Any = option("relu", "What follows each convolution.", choice(*ACTIVATIONS))
    use_lstm: Any = option(False, "Put an LSTM behind the dense layers.", flag, aliases=("lstm", "recurrent"))
    lstm_cell_size: Any = option(64, "Size of the LSTM.", integer(1), rllib=256, aliases=("lstm_hidden_size",))
    max_seq_len: Any = option(
        32, "Steps through which the LSTM is trained at a time.", integer(1), rllib=20, aliases=("seq_len",)
    )
    lstm_use_prev_action: Any = option(False, "The LSTM sees the previous action.", flag)
    lstm_use_prev_reward: Any = option(False, "The LSTM sees the previous reward.", flag)
    vf_share_layers: Any = option(False, "Policy and value are heads of one network.", flag)
    free_log_std: Any = option(
        True,
        "The standard deviations of continuous actions are parameters of their own, not outputs of the network (PPO).",
        flag,
        rllib=False,
    )
    framestack: Any = option(
        1,
        "How many of the latest observations are shown, one behind the other.",
        integer(1),
        aliases=("num_framestacks",),
    )
    sequence_length: Any = option(
        16,
        "Longest observation of variable length (Sequence) that is looked at; of longer ones the end.",
        integer(1),
        rllib="(none)",
    )
    custom_model: Any = option(
        None,
        "A flax module, its class, or `module.Class`; made with `num_outputs`, called with observations as they are.",
        anything,
    )
    custom_model_config: Any = option({}, "Further arguments of the custom model.", mapping)


def _model(value: Any) -> dict[str, Any]:
    given: dict[str, Any] = mapping(value)
    build(ModelConfig, given, "model")
    return given


_model.kind = "a dict of the names in MODEL_DEFAULTS"  # type: ignore[attr-defined]


def _exploration(value: Any) -> dict[str, Any]:
    given: dict[str, Any] = mapping(value)
    kind = given.get("type")
    if kind is not None and kind not in EXPLORATIONS:
        raise ValueError(f"type is one of {', '.join(EXPLORATIONS)}")
    known = EXPLORATIONS[kind] if kind else {name: 0 for each in EXPLORATIONS.values() for name in each}
    for name in given:
        if name not in known and name not in ("type", "random_timesteps"):
            raise ValueError(f"{kind or 'exploration'} has no {name!r}, but {', '.join(known) or 'nothing'}")
        if name != "type":
            check_number(given[name])
    return given


_exploration.kind = "a dict with `type` and what that takes"  # type: ignore[attr-defined]
check_number = number(0)


@dataclass(frozen=True)
class Config:
    """What every algorithm is configured with."""

    MODEL: ClassVar[dict[str, Any]] = {}
    """Where its networks differ from MODEL_DEFAULTS."""
    OPTIMIZER: ClassVar[dict[str, Any]] = {}
    """What its optimiser is given beside the learning rate."""

    env: Any = option(
        None, "Environment: a gymnasium id, a class, a function, `module.Class`, a registered name.", anything
    )
    env_config: Any = option(
        {},
        "Arguments of the environment: keywords, or one dict for a constructor that takes `config`.",
        mapping,
        aliases=("env_kwargs",),
    )
    gamma: Any = option(0.99, "Discount factor.", number(0, 1), traced=True)
    lr: Any = option(1e-3, "Learning rate.", number(0), traced=True, rllib=5e-5, aliases=("learning_rate",))
    lr_schedule: Any = option(
        None,
        "Learning rate by environment step: [[step, rate], …], linear between; overrides `lr`.",
        optional(schedule),
    )
    train_batch_size: Any = option(
        256,
        "On-policy: environment steps of an iteration. Off-policy: transitions in a minibatch.",
        integer(1),
        aliases=("batch_size", "n_steps"),
    )
    num_workers: Any = option(
        0,
        "Processes that step environments; 0: the calling one.",
        integer(0),
        aliases=("num_env_runners", "num_rollout_workers"),
    )
    num_envs_per_worker: Any = option(
        1,
        "Environments of each worker (of the calling process, if there is none).",
        integer(1),
        aliases=("num_envs_per_env_runner", "n_envs"),
    )
    num_envs: Any = option(
        None,
        "Environments in all, in place of `num_workers` × `num_envs_per_worker`.",
        optional(integer(1)),
        rllib="(none)",
    )
    num_shards: Any = option(
        None,
        "Groups of environments that are stepped together; with equal `num_envs` and `num_shards` any number of "
        "workers trains the same agent.",
        optional(integer(1)),
        rllib="(none)",
    )
    rollout_fragment_length: Any = option(
        None, "Steps of each environment in a rollout; None: what the batch needs.", optional(integer(1)), rllib=200
    )
    batch_mode: Any = option(
        "truncate_episodes",
        "What an iteration collects: a number of steps, or episodes to their end.",
        choice("truncate_episodes", "complete_episodes"),
    )
    horizon: Any = option(
        None, "Cut episodes off after so many steps.", optional(integer(1)), aliases=("max_episode_steps",)
    )
    observation_filter: Any = option(
        "NoFilter",
        "Whether observations are brought to mean 0 and deviation 1, by running statistics.",
        choice("NoFilter", "MeanStdFilter"),
        aliases=("normalize_observations", "normalize"),
    )
    reward_filter: Any = option(
        False,
        "Whether rewards are divided by the deviation of the discounted return.",
        flag,
        rllib="(none)",
        aliases=("normalize_rewards", "norm_reward"),
    )
    clip_rewards: Any = option(
        None,
        "Learn from the sign of rewards (True), or from rewards within ± a number.",
        lambda v: v if v is None or isinstance(v, bool) else number(0, open_low=True)(v),
        kind="True, False, None or a number",
    )
    optimizer: Any = option(
        {}, "The optimiser: `type` (adam, adamw, sgd, rmsprop) and its arguments, such as `eps`.", mapping
    )
    framework: Any = option("jax", "What networks are made with.", choice("jax"), rllib="tf")
    explore: Any = option(True, "Whether actions in training are drawn, or the best ones.", flag)
    exploration_config: Any = option({}, "How: `type` and its arguments.", _exploration)
    evaluation_interval: Any = option(
        None, "Evaluate after every so many iterations.", optional(integer(1)), aliases=("eval_freq",)
    )
    evaluation_duration: Any = option(
        10, "How long an evaluation is.", integer(1), aliases=("n_eval_episodes", "evaluation_num_episodes")
    )
    evaluation_duration_unit: Any = option("episodes", "What that counts.", choice("episodes", "timesteps"))
    evaluation_num_workers: Any = option(
        0, "Processes that an evaluation is divided among; 0: all there are.", integer(0)
    )
    evaluation_config: Any = option(
        {}, "What is different in evaluations: `explore`, `env_config`, `horizon`.", mapping, rllib={}
    )
    env_task_fn: Any = option(
        None,
        "Curriculum: `f(train_results, task_settable_env, env_ctx)` gives the next task; or its `module.function`.",
        anything,
    )
    render_env: Any = option(False, "Not here: `record_env` and `evaluate(video_dir=…)` write videos.", flag)
    record_env: Any = option(
        None,
        "Write a video of the first episode of each evaluation into this directory.",
        optional(text),
        kind="a directory, or None",
        rllib=False,
    )
    recreate_failed_env: Any = option(
        False,
        "Go on with a new episode where an environment raises, instead of ending the training.",
        flag,
        aliases=("recreate_failed_workers", "restart_failed_sub_environments"),
    )
    env_timeout: Any = option(
        None,
        "Seconds that a rollout may take before its process is ended and it is tried again (with workers).",
        optional(number(0, open_low=True)),
        rllib="(none)",
    )
    seed: Any = option(0, "What all random numbers derive from.", integer(0, 2**63), rllib=None)
    model: Any = option({}, "The networks; see the table of the model.", _model, aliases=("policy_kwargs",))
    log_level: Any = option(
        "WARN", "What is said while training.", choice("DEBUG", "INFO", "WARN", "ERROR"), aliases=("verbose",)
    )
    num_gpus: Any = option(0, "Graphics cards that updates ask for.", number(0), aliases=("device",))
    num_cpus_per_worker: Any = option(1, "Threads of each worker.", integer(1))
    callbacks: Any = option(None, "An object, or a class, with methods such as `on_train_result`.", anything)

    def with_entries(self, entries: Mapping[str, Any], where: str) -> Config:
        """Another configuration, with some entries changed."""
        known = options(self)
        made = build(type(self), entries, where)
        changed = {name: getattr(made, name) for name in entries if name in known}
        return type(self)(**{name: changed.get(name, getattr(self, name)) for name in known})

    def whole_model(self) -> dict[str, Any]:
        """The entries of the model, with the defaults of this algorithm."""
        return {**MODEL_DEFAULTS, **self.MODEL, **self.model}

    def optimizer_items(self) -> tuple[tuple[str, Any], ...]:
        """The optimiser's type and arguments, in order."""
        return tuple(sorted({"type": "adam", **self.OPTIMIZER, **self.optimizer}.items()))

    def to_dict(self) -> dict[str, Any]:
        """The entries by name; `model` with its defaults."""
        return {name: getattr(self, name) for name in options(self)}


def entries_of(config: Any) -> dict[str, Any]:
    """The entries of a configuration or of its class, by name, with defaults."""
    return {name: getattr(config() if isinstance(config, type) else config, name) for name in options(config)}


def to_json(config: Config) -> dict[str, Any]:
    """The entries that differ from their defaults, as JSON has it: classes and functions by where they are found."""
    defaults = type(config)()
    return {
        name: _json(name, value)
        for name, value in config.to_dict().items()
        if value != getattr(defaults, name) or name == "env"
    }


def from_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that `to_json` has written."""
    return dict(document)


def _json(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json(f"{name}.{key}", inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json(name, inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    from graphray.rl.registry import registered

    for known, source in registered().items():
        if source is value:
            return known
    found = f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return found


MODEL_DEFAULTS: dict[str, Any] = entries_of(ModelConfig)
"""What the networks are unless `model` says otherwise."""

COMMON_CONFIG: dict[str, Any] = entries_of(Config)
"""What all algorithms are configured with, and the defaults that they share."""
