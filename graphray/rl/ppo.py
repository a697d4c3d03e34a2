"""Proximal policy optimisation.

Schulman et al., "Proximal policy optimization algorithms", 2017 (arXiv:1707.06347): the clipped objective, and the
penalty on the divergence from the old policy whose coefficient adapts; either, or both.

Everything here is a pure function of values and can be traced. A whole update, all epochs over all minibatches, is
one XLA program.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from graphray.rl import actor_critic
from graphray.rl.actor_critic import ActorCritic, Batch
from graphray.rl.config import Config
from graphray.rl.environments import Environment
from graphray.rl.host import NetworkPolicy
from graphray.rl.learning import Signals, signals_of
from graphray.rl.optimizer import init_leaves, optimizer_at
from graphray.rl.options import ConfigError, flag, integer, number, option, optional, schedule
from graphray.rl.rollout import Trajectory, padded
from graphray.rl.schedules import scheduled
from graphray.rl.sgd import descend
from graphray.rl.trainer import Algorithm
from graphray.rl.training import Plan

__all__ = ["PPO", "PPOConfig", "PPOState", "PPOTrainer", "Setup", "init", "loss", "update"]


@dataclass(frozen=True)
class PPOConfig(Config):
    """What PPO is configured with, beside what all algorithms are."""

    OPTIMIZER: ClassVar[dict[str, Any]] = {"eps": 1e-5}

    use_critic: Any = option(True, "Subtract a value function from the returns.", flag)
    use_gae: Any = option(True, "Advantages by generalised estimation; otherwise returns less values.", flag)
    lambda_: Any = option(
        0.95,
        "Decay of generalised advantage estimation.",
        number(0, 1),
        traced=True,
        rllib=1.0,
        aliases=("lambda", "gae_lambda"),
    )
    kl_coeff: Any = option(
        0.0, "Weight of the divergence from the old policy, at first.", number(0), traced=True, rllib=0.2
    )
    kl_target: Any = option(
        0.01,
        "Divergence that this weight is adapted to; see `kl_coeff`.",
        number(0),
        traced=True,
        aliases=("target_kl",),
    )
    sgd_minibatch_size: Any = option(
        256,
        "Environment steps in a minibatch, at most.",
        integer(1),
        rllib=128,
        aliases=("minibatch_size", "mini_batch_size", "batch_size"),
    )
    num_sgd_iter: Any = option(
        10, "How often a batch is gone through.", integer(1), rllib=30, aliases=("n_epochs", "num_epochs")
    )
    shuffle_sequences: Any = option(True, "Go through it in a new order each time.", flag)
    vf_loss_coeff: Any = option(
        0.5, "Weight of the value's loss.", number(0), traced=True, rllib=1.0, aliases=("vf_coef",)
    )
    vf_clip_param: Any = option(
        None,
        "Values move by so much at most in an iteration.",
        optional(number(0, open_low=True)),
        rllib=10.0,
        aliases=("clip_range_vf",),
    )
    clip_param: Any = option(
        0.2,
        "How far the ratio of new and old probability counts, from 1.",
        number(0),
        traced=True,
        rllib=0.3,
        aliases=("clip_range",),
    )
    entropy_coeff: Any = option(0.0, "Weight of the policy's entropy.", number(), traced=True, aliases=("ent_coef",))
    entropy_coeff_schedule: Any = option(
        None, "That weight by environment step: [[step, weight], …].", optional(schedule)
    )
    grad_clip: Any = option(
        0.5,
        "Greatest global norm of a gradient.",
        optional(number(0, open_low=True)),
        rllib=None,
        aliases=("max_grad_norm",),
    )
    train_batch_size: Any = option(
        1024, "Environment steps of an iteration.", integer(1), rllib=4000, aliases=("n_steps",)
    )
    num_envs_per_worker: Any = option(
        8,
        "Environments of each worker (of the calling process, if there is none).",
        integer(1),
        rllib=1,
        aliases=("num_envs_per_env_runner", "n_envs"),
    )


class Setup(NamedTuple):
    """What shapes the program: another value is another compilation."""

    networks: ActorCritic
    signals: Signals
    epochs: int
    minibatch_size: int
    shuffle: bool
    critic: bool
    gae: bool
    value_clip: float | None
    grad_clip: float | None
    optimizer: tuple[tuple[str, Any], ...]
    lr_schedule: Any
    entropy_schedule: Any


class PPOState(NamedTuple):
    """An agent between two updates: a pytree of arrays."""

    params: dict[str, Any]
    """Of its networks: "policy" and "value"."""
    optimizer: tuple[Any, ...]
    hyper: dict[str, Any]
    """Hyperparameters that are traced, by name."""
    statistics: dict[str, Any]
    """Of observations and returns, where these are normalised."""
    kl_coeff: Any
    key: Any
    """The root key of what updates draw at random, (2,)."""
    updates: Any
    """How many updates have been made."""
    steps: Any
    """With how many environment steps."""


class Metrics(NamedTuple):
    """Means over all gradient steps of an update."""

    total_loss: Any
    policy_loss: Any
    vf_loss: Any
    vf_explained_var: Any
    entropy: Any
    kl: Any
    """Divergence from the old policy."""
    clip_fraction: Any
    """The share of transitions whose ratio is outside the clipping range."""
    grad_gnorm: Any


@functools.partial(jax.jit, static_argnums=0)
def init(setup: Setup, hyper: Any, key: Any) -> PPOState:
    """An agent that has learned nothing yet, from hyperparameters by name and a key (2,)."""
    first, later = jax.random.split(jax.random.wrap_key_data(key))
    params = actor_critic.init(setup.networks, first)
    leaves = init_leaves(optimizer_at(setup, hyper, jnp.float32(0)), params)
    statistics = setup.signals.nothing(setup.networks.policy.observation)
    data = jax.random.key_data(later)
    return PPOState(params, leaves, hyper, statistics, hyper["kl_coeff"], data, jnp.uint32(0), jnp.float32(0))


def loss(setup: Setup, hyper: Any, kl_coeff: Any, entropy_coeff: Any, params: Any, batch: Batch) -> tuple[Any, Any]:
    """The objective of one gradient step, to be minimised; advantages are normalised over the minibatch."""
    outputs, value = actor_critic.evaluate(setup.networks, params, batch.observation, batch.given)

    def mean(x: Any) -> Any:
        return jnp.sum(x * batch.weight) / jnp.maximum(jnp.sum(batch.weight), 1.0)

    distribution = setup.networks.distribution
    centred = batch.advantage - mean(batch.advantage)
    advantage = centred / (jnp.sqrt(mean(centred**2)) + 1e-8)

    log_ratio = distribution.log_prob(outputs, batch.action) - distribution.log_prob(batch.behaviour, batch.action)
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1 - hyper["clip_param"], 1 + hyper["clip_param"])
    policy_loss = -mean(jnp.minimum(ratio * advantage, clipped * advantage))

    error = (value - batch.target) ** 2
    if setup.value_clip is not None:
        near = batch.value + jnp.clip(value - batch.value, -setup.value_clip, setup.value_clip)
        error = jnp.maximum(error, (near - batch.target) ** 2)
    vf_loss = 0.5 * mean(error)

    entropy = mean(distribution.entropy(outputs))
    kl = mean(distribution.kl(batch.behaviour, outputs))
    total = policy_loss + kl_coeff * kl - entropy_coeff * entropy
    if setup.critic:
        total += hyper["vf_loss_coeff"] * vf_loss
    spread = mean((batch.target - mean(batch.target)) ** 2)
    explained = 1 - mean((value - batch.target) ** 2) / jnp.maximum(spread, 1e-8)
    fraction = mean(jnp.abs(ratio - 1) > hyper["clip_param"])
    return total, Metrics(total, policy_loss, vf_loss, explained, entropy, kl, fraction, jnp.float32(0))


@functools.partial(jax.jit, static_argnums=0)
def update(setup: Setup, agent: PPOState, trajectory: Any) -> tuple[PPOState, Metrics]:
    """Learn from a trajectory (T, B, …) that the agent's policy has produced since its last update."""
    networks, hyper = setup.networks, agent.hyper
    decay = hyper["lambda_"] if setup.gae else 1.0
    batch, statistics = actor_critic.batch_of(
        networks, setup.signals, agent.params, agent.statistics, trajectory, hyper["gamma"], decay, setup.critic
    )
    entropy_coeff = scheduled(setup.entropy_schedule, agent.steps, hyper["entropy_coeff"])
    params, leaves, metrics = descend(
        functools.partial(loss, setup, hyper, agent.kl_coeff, entropy_coeff),
        optimizer_at(setup, hyper, agent.steps),
        agent.params,
        agent.optimizer,
        batch,
        jax.random.fold_in(jax.random.wrap_key_data(agent.key), agent.updates),
        epochs=setup.epochs,
        at_most=max(1, setup.minibatch_size // max(1, networks.length)),
        shuffle=setup.shuffle,
    )
    last = metrics.kl[-1].mean()
    # As in the paper's section 4, with RLlib's thresholds.
    factor = jnp.where(last > 2 * hyper["kl_target"], 1.5, jnp.where(last < 0.5 * hyper["kl_target"], 0.5, 1.0))
    successor = agent._replace(
        params=params,
        optimizer=leaves,
        statistics=statistics,
        kl_coeff=agent.kl_coeff * factor,
        updates=agent.updates + 1,
        steps=agent.steps + jnp.sum(trajectory.valid),
    )
    return successor, jax.tree.map(jnp.mean, metrics)


class PPO(Algorithm):
    """Proximal policy optimisation, for discrete and continuous actions, with an LSTM or without."""

    Config = PPOConfig
    make = staticmethod(init)

    @classmethod
    def setup(cls, config: PPOConfig, env: Environment) -> Setup:
        """What shapes its programs."""
        return Setup(
            networks=actor_critic.actor_critic(env, config.whole_model()),
            signals=signals_of(config, env.observation),
            epochs=config.num_sgd_iter,
            minibatch_size=config.sgd_minibatch_size,
            shuffle=config.shuffle_sequences,
            critic=config.use_critic,
            gae=config.use_gae and config.use_critic,
            value_clip=config.vf_clip_param,
            grad_clip=config.grad_clip,
            optimizer=config.optimizer_items(),
            lr_schedule=config.lr_schedule,
            entropy_schedule=config.entropy_coeff_schedule,
        )

    @classmethod
    def host_policy(cls, config: PPOConfig, env: Environment, setup: Setup) -> NetworkPolicy:
        """How actions are chosen where environments are stepped."""
        networks = setup.networks
        kind = config.exploration_config.get("type", "StochasticSampling")
        if kind not in ("StochasticSampling", "Random"):
            raise ConfigError(
                f"PPO explores by StochasticSampling, not by {kind}: it learns from the probabilities of its actions"
            )
        return NetworkPolicy(networks.policy, networks.distribution, kind, sequence=networks.length)

    @classmethod
    def improve(
        cls, plan: Plan, agent: PPOState, replay: None, trajectory: Trajectory
    ) -> tuple[PPOState, None, dict[str, float]]:
        """Learn from a trajectory."""
        if plan.complete:  # its length varies, and each length is another program
            trajectory = padded(trajectory, 64, plan.setup.networks.length)
        agent, metrics = jax.device_get(update(plan.setup, agent, trajectory))
        return agent, None, {name: float(value) for name, value in metrics._asdict().items()}


PPOTrainer = PPO
