"""Soft actor-critic.

Haarnoja et al., "Soft actor-critic algorithms and applications", 2018 (arXiv:1812.05905), with a temperature that is
adapted to a target entropy; exploration that depends on the state, if asked for (Raffin et al., "Smooth exploration
for robotic reinforcement learning", CoRL 2021).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphray.rl.architecture import Architecture, architecture, with_action
from graphray.rl.distributions import LOG_STD, ActionDistribution
from graphray.rl.environments import Environment
from graphray.rl.exploration import exploration_of, numbers
from graphray.rl.host import NetworkPolicy
from graphray.rl.learning import Signals, normalised_observations, scaled_rewards, signals_of
from graphray.rl.networks import forward
from graphray.rl.networks import init as init_network
from graphray.rl.offpolicy import OffPolicy, OffPolicyConfig, Schedule
from graphray.rl.optimizer import apply_gradients, init_leaves, optimizer_at
from graphray.rl.options import ConfigError, flag, integer, number, option, optional
from graphray.rl.replay import Transitions
from graphray.rl.training import Plan, Training

__all__ = ["SAC", "SACConfig", "SACState", "SACTrainer", "Setup", "init", "update"]


@dataclass(frozen=True)
class SACConfig(OffPolicyConfig):
    """What SAC is configured with, beside what all algorithms with replay are."""

    MODEL: ClassVar[dict[str, Any]] = {"fcnet_hiddens": (256, 256), "fcnet_activation": "relu"}

    twin_q: Any = option(True, "Two critics, of which the lower value counts.", flag)
    tau: Any = option(
        5e-3, "How far target networks move to the networks, each time.", number(0, 1), traced=True, aliases=("polyak",)
    )
    initial_alpha: Any = option(
        1.0,
        "Temperature, the weight of the entropy, at first.",
        number(0, open_low=True),
        traced=True,
        aliases=("ent_coef",),
    )
    target_entropy: Any = option(
        "auto",
        "Entropy that the temperature is adapted to; 'auto': minus the number of action dimensions; None: it is fixed.",
        lambda v: v if v in ("auto", None) else number()(v),
        kind="'auto', None or a number",
    )
    use_sde: Any = option(False, "Explore by noise that is a function of the state.", flag, rllib="(none)")
    sde_sample_freq: Any = option(64, "Steps after which that function is drawn anew.", integer(1), rllib="(none)")
    sde_log_std: Any = option(
        -3.0, "Logarithm of its deviation at first.", number(), rllib="(none)", aliases=("log_std_init",)
    )
    lr: Any = option(
        7e-4,
        "Learning rate of actor, critics and temperature.",
        number(0),
        traced=True,
        rllib=3e-4,
        aliases=("learning_rate",),
    )
    train_batch_size: Any = option(256, "Transitions in a minibatch.", integer(1), aliases=("batch_size",))
    learning_starts: Any = option(
        500,
        "Environment steps, with random actions, before the first update.",
        integer(0),
        rllib=1500,
        aliases=("replay_starts",),
    )
    buffer_size: Any = option(
        300_000, "Transitions that are kept.", integer(1), rllib=1_000_000, aliases=("replay_buffer_size",)
    )
    rollout_fragment_length: Any = option(
        8, "Steps of each environment between updates.", optional(integer(1)), rllib=1, aliases=("train_freq",)
    )
    training_intensity: Any = option(
        256.0,
        "Transitions that are learned from for each environment step; None: one batch for each rollout.",
        optional(number(0, open_low=True)),
        rllib=None,
        aliases=("gradient_steps",),
    )


class Setup(NamedTuple):
    """What shapes the program: another value is another compilation."""

    policy: Architecture
    critic: Architecture
    """Of observations with actions behind."""
    critics: int
    distribution: ActionDistribution
    signals: Signals
    schedule: Schedule
    target_entropy: float | None
    sde: bool
    sde_log_std: float
    grad_clip: float | None
    optimizer: tuple[tuple[str, Any], ...]
    lr_schedule: Any
    exploration: tuple[tuple[str, Any], ...]
    buffer_size: int
    prioritized: bool = False


class SACState(NamedTuple):
    """An agent between two updates: a pytree of arrays."""

    params: dict[str, Any]
    """Of its networks, "policy" and "critics"; "log_alpha"; and "log_std", of exploration by state."""
    target: Any
    """Earlier ones of the critics."""
    optimizer: dict[str, Any]
    hyper: dict[str, Any]
    statistics: dict[str, Any]
    key: Any
    """The root key of what updates draw at random, (2,)."""
    updates: Any
    steps: Any
    """Environment steps so far."""


class Metrics(NamedTuple):
    """Means over all gradient steps of an update."""

    actor_loss: Any
    critic_loss: Any
    alpha_loss: Any
    alpha_value: Any
    mean_q: Any
    entropy: Any


@functools.partial(jax.jit, static_argnums=0)
def init(setup: Setup, hyper: Any, key: Any) -> SACState:
    """An agent that has learned nothing yet, from hyperparameters by name and a key (2,)."""
    policy, critics, later = jax.random.split(jax.random.wrap_key_data(key), 3)
    actor = {"policy": init_network(setup.policy, policy)}
    if setup.sde:
        actor["log_std"] = jnp.full((setup.policy.width, setup.distribution.layout.size), setup.sde_log_std)
    both = jax.vmap(functools.partial(init_network, setup.critic))(jax.random.split(critics, setup.critics))
    params = {**actor, "critics": both, "log_alpha": jnp.log(hyper["initial_alpha"])}
    optimizer = optimizer_at(setup, hyper, jnp.float32(0))
    parts = {"actor": actor, "critics": both, "alpha": params["log_alpha"]}
    leaves = {name: init_leaves(optimizer, part) for name, part in parts.items()}
    statistics = setup.signals.nothing(setup.policy.observation)
    data = jax.random.key_data(later)
    return SACState(params, both, leaves, hyper, statistics, data, jnp.uint32(0), jnp.float32(0))


def act(setup: Setup, actor: Any, observation: Any, key: Any) -> tuple[Any, Any]:
    """Actions (B, n) within ±1, and the logarithms of their densities (B,)."""
    outputs, features = forward(setup.policy, actor["policy"], observation)
    if setup.sde:
        mean = outputs
        variance = jax.lax.stop_gradient(features) ** 2 @ jnp.exp(2 * actor["log_std"])
        log_std = 0.5 * jnp.log(variance + 1e-6)
    else:
        mean, log_std = jnp.split(outputs, 2, axis=-1)
        log_std = jnp.clip(log_std, *LOG_STD)
    noise = jax.random.normal(key, mean.shape)
    raw = mean + jnp.exp(log_std) * noise
    # log(1 - tanh(x)^2) in a form that does not vanish: 2 (log 2 - x - softplus(-2 x)).
    squash = 2 * (math.log(2) - raw - jax.nn.softplus(-2 * raw))
    density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi) - squash
    return jnp.tanh(raw), jnp.sum(density, axis=-1)


def values(setup: Setup, critics: Any, observation: Any, action: Any) -> Any:
    """What each critic makes of actions (B, n) at observations (B, …): (critics, B)."""
    seen = jnp.concatenate([observation.reshape(len(observation), -1).astype(jnp.float32), action], axis=-1)
    return jax.vmap(lambda one: forward(setup.critic, one, seen)[0][:, 0])(critics)


@functools.partial(jax.jit, static_argnums=0)
def update(setup: Setup, agent: SACState, drawn: Transitions) -> tuple[SACState, Metrics, Any]:
    """Updates from transitions (U, B, …), and the errors of these (U, B)."""
    drawn = drawn._replace(
        observation=normalised_observations(agent.statistics, drawn.observation),
        next_observation=normalised_observations(agent.statistics, drawn.next_observation),
        reward=scaled_rewards(setup.signals, agent.statistics, drawn.reward),
    )
    optimizer = optimizer_at(setup, agent.hyper, agent.steps)
    step = functools.partial(_step, setup, agent.hyper, optimizer)
    key = jax.random.fold_in(jax.random.wrap_key_data(agent.key), agent.updates)
    keys = jax.random.split(key, setup.schedule.updates)
    carry = (agent.params, agent.target, agent.optimizer)
    (params, target, leaves), (metrics, errors) = jax.lax.scan(step, carry, (drawn, keys))
    agent = agent._replace(params=params, target=target, optimizer=leaves, updates=agent.updates + 1)
    return agent, jax.tree.map(jnp.mean, metrics), errors


def _step(setup: Setup, hyper: Any, optimizer: Any, carry: Any, now: tuple[Transitions, Any]) -> tuple[Any, Any]:
    """One gradient step of critics, actor and temperature."""
    params, target, leaves = carry
    batch, key = now
    first, second = jax.random.split(key)
    critics, log_alpha = params["critics"], params["log_alpha"]
    actor = {name: params[name] for name in ("policy", "log_std") if name in params}
    alpha = jnp.exp(log_alpha)

    following, density = act(setup, actor, batch.next_observation, first)
    next_value = jnp.min(values(setup, target, batch.next_observation, following), axis=0) - alpha * density
    goal = batch.reward + batch.discount * next_value

    def critic_loss(critics: Any) -> tuple[Any, Any]:
        q = values(setup, critics, batch.observation, batch.action)
        return 0.5 * jnp.sum(jnp.mean(batch.weight * (q - goal) ** 2, axis=-1)), q

    (critic, q), gradients = jax.value_and_grad(critic_loss, has_aux=True)(critics)
    critics, critic_leaves = apply_gradients(optimizer, gradients, leaves["critics"], critics)

    def actor_loss(actor: Any) -> tuple[Any, Any]:
        action, density = act(setup, actor, batch.observation, second)
        q = jnp.min(values(setup, critics, batch.observation, action), axis=0)
        return jnp.mean(alpha * density - q), density

    (actor_value, density), gradients = jax.value_and_grad(actor_loss, has_aux=True)(actor)
    actor, actor_leaves = apply_gradients(optimizer, gradients, leaves["actor"], actor)

    entropy = -jnp.mean(density)
    alpha_loss, alpha_leaves = jnp.float32(0), leaves["alpha"]
    if setup.target_entropy is not None:
        excess = entropy - setup.target_entropy
        alpha_loss, gradient = jax.value_and_grad(lambda a: a * excess)(log_alpha)
        log_alpha, alpha_leaves = apply_gradients(optimizer, gradient, leaves["alpha"], log_alpha)

    target = jax.tree.map(lambda old, new: old + hyper["tau"] * (new - old), target, critics)
    params = {**actor, "critics": critics, "log_alpha": log_alpha}
    leaves = {"actor": actor_leaves, "critics": critic_leaves, "alpha": alpha_leaves}
    metrics = Metrics(actor_value, critic, alpha_loss, alpha, jnp.mean(q), entropy)
    return (params, target, leaves), (metrics, jnp.mean(q, axis=0) - goal)


class SAC(OffPolicy):
    """Soft actor-critic, for continuous actions."""

    Config = SACConfig
    make = staticmethod(init)
    update = staticmethod(update)

    @classmethod
    def setup(cls, config: SACConfig, env: Environment) -> Setup:
        """What shapes its programs."""
        layout = env.action
        if not layout.continuous or len(layout.leaves) != 1:
            raise TypeError(f"SAC chooses numbers (a Box); PPO and DQN can do with {layout.form}")
        if not np.all(np.isfinite([*layout.leaves[0].low, *layout.leaves[0].high])):  # type: ignore[union-attr]
            raise TypeError("SAC needs actions with bounds: it chooses within them")
        distribution = ActionDistribution(layout)
        model = config.whole_model()
        if model["custom_model"] is not None or model["use_lstm"]:
            raise ConfigError("SAC has feed-forward networks of its own: no custom_model and no use_lstm")
        outputs = layout.size if config.use_sde else distribution.size
        seen = with_action(env.observation, layout.size)
        entropy = -float(layout.size) if config.target_entropy == "auto" else config.target_entropy
        return Setup(
            policy=architecture(env.observation, outputs, model, head_scale=0.01),
            critic=architecture(seen, 1, model),
            critics=2 if config.twin_q else 1,
            distribution=distribution,
            signals=signals_of(config, env.observation),
            schedule=cls.schedule(config),
            target_entropy=entropy,
            sde=config.use_sde,
            sde_log_std=config.sde_log_std,
            grad_clip=config.grad_clip,
            optimizer=config.optimizer_items(),
            lr_schedule=config.lr_schedule,
            exploration=exploration_of(
                config, ("StochasticSampling", "OrnsteinUhlenbeckNoise", "GaussianNoise", "Random")
            ),
            buffer_size=config.buffer_size,
        )

    @classmethod
    def host_policy(cls, config: SACConfig, env: Environment, setup: Setup) -> NetworkPolicy:
        """How actions are chosen where environments are stepped."""
        kind = "StateDependent" if setup.sde else dict(setup.exploration)["type"]
        # Its actions are random at first, for which there must be numbers.
        kind = "SquashedSampling" if kind == "StochasticSampling" else kind
        return NetworkPolicy(setup.policy, setup.distribution, kind, squashed=True, resample=config.sde_sample_freq)

    @classmethod
    def exploring(cls, plan: Plan, training: Training) -> dict[str, Any]:
        """The numbers that its policy explores by."""
        setup, params = plan.setup, training.agent.params
        made = numbers(setup.exploration, training.progress.steps, setup.schedule.starts)
        return {**made, "log_std": params["log_std"]} if setup.sde else made


SACTrainer = SAC
