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
import numpy as np

from graphray.rl.architecture import Architecture, architecture, masked, vector
from graphray.rl.config import Config
from graphray.rl.distributions import ActionDistribution
from graphray.rl.environments import Environment
from graphray.rl.gae import gae
from graphray.rl.host import NetworkPolicy
from graphray.rl.learning import Signals, filter_of, learned_rewards, normalised_observations, signals_of
from graphray.rl.minibatches import divided
from graphray.rl.networks import forward, mask_logits, outputs_of
from graphray.rl.networks import init as init_network
from graphray.rl.optimizer import apply_gradients, init_leaves, make_optimizer
from graphray.rl.options import ConfigError, flag, integer, number, option, optional, schedule
from graphray.rl.rollout import Trajectory, padded
from graphray.rl.schedules import scheduled
from graphray.rl.sequences import Sequences, cut, features, next_features, sequences
from graphray.rl.trainer import Algorithm
from graphray.rl.training import Plan, Training

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

    policy: Architecture
    value: Architecture
    """Of observations; of the policy's features, where they share layers."""
    shared: bool
    distribution: ActionDistribution
    signals: Signals
    epochs: int
    minibatch_size: int
    length: int
    """Steps of the pieces that an LSTM is trained on; 0 without one."""
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


class Batch(NamedTuple):
    """What is learned from; every array has the leading axis of rows: transitions, or pieces of L of them."""

    observation: Any
    action: Any
    behaviour: Any
    """Parameters of the distribution that the action was drawn from."""
    advantage: Any
    target: Any
    """What the value should be."""
    value: Any
    """What it was before the update."""
    weight: Any
    """1, or 0 for what did not happen or only fills up a minibatch."""
    given: Sequences | None
    """What an LSTM is shown beside."""


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
    policy, value, later = jax.random.split(jax.random.wrap_key_data(key), 3)
    params = {"policy": init_network(setup.policy, policy), "value": init_network(setup.value, value)}
    leaves = init_leaves(_optimizer(setup, hyper, jnp.float32(0)), params)
    statistics = setup.signals.nothing(setup.policy.observation)
    zero = jnp.float32(0)
    return PPOState(
        params, leaves, hyper, statistics, hyper["kl_coeff"], jax.random.key_data(later), jnp.uint32(0), zero
    )


def loss(setup: Setup, hyper: Any, kl_coeff: Any, entropy_coeff: Any, params: Any, batch: Batch) -> tuple[Any, Any]:
    """The objective of one gradient step, to be minimised; advantages are normalised over the minibatch."""
    outputs, value = evaluate(setup, params, batch.observation, batch.given)

    def mean(x: Any) -> Any:
        return jnp.sum(x * batch.weight) / jnp.maximum(jnp.sum(batch.weight), 1.0)

    distribution = setup.distribution
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


def evaluate(setup: Setup, params: Any, observation: Any, given: Sequences | None) -> tuple[Any, Any]:
    """Parameters of distributions (rows, …, p) and values (rows, …)."""
    if given is None:
        outputs, seen = forward(setup.policy, params["policy"], observation)
    else:
        seen, _ = features(setup.policy, params["policy"], observation, given)
        outputs = outputs_of(setup.policy, params["policy"], seen)
    outputs = mask_logits(setup.policy.observation, setup.distribution, outputs, observation)
    return outputs, _value(setup, params, seen, observation)


def _value(setup: Setup, params: Any, features: Any, observation: Any) -> Any:
    """Values of observations (rows, …) at which the policy has these features.

    Beside an LSTM that is the policy's alone, the value function has a network of its own, which is shown what the LSTM
    has made of the past, and the observation. It has no part in training the LSTM: errors of values, which may be a
    hundred times as great as the advantages, would drown out what the policy has to learn.
    """
    seen = observation
    if setup.shared:
        seen = features
    elif setup.length:
        flat = observation.reshape(*features.shape[:-1], -1).astype(jnp.float32)
        seen = jnp.concatenate([jax.lax.stop_gradient(features), flat], axis=-1)
    shape = setup.value.observation.shape
    lead = seen.shape[: seen.ndim - len(shape)]
    return forward(setup.value, params["value"], seen.reshape(-1, *shape))[0].reshape(lead)


@functools.partial(jax.jit, static_argnums=0)
def update(setup: Setup, agent: PPOState, trajectory: Any) -> tuple[PPOState, Metrics]:
    """Learn from a trajectory (T, B, …) that the agent's policy has produced since its last update."""
    hyper = agent.hyper
    steps = agent.steps + jnp.sum(trajectory.valid)
    batch, statistics = _batch(setup, agent, trajectory)
    optimizer = _optimizer(setup, hyper, agent.steps)
    entropy_coeff = scheduled(setup.entropy_schedule, agent.steps, hyper["entropy_coeff"])
    gradient = jax.grad(functools.partial(loss, setup, hyper, agent.kl_coeff, entropy_coeff), has_aux=True)
    rows = len(batch.weight)
    at_most = max(1, setup.minibatch_size // max(1, setup.length))

    def step(carry: tuple[Any, Any], chosen: tuple[Any, Any]) -> tuple[tuple[Any, Any], Metrics]:
        params, leaves = carry
        index, weight = chosen
        minibatch = jax.tree.map(lambda x: x[index], batch)
        minibatch = minibatch._replace(weight=(minibatch.weight.T * weight).T)
        gradients, metrics = gradient(params, minibatch)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients)))
        return apply_gradients(optimizer, gradients, leaves, params), metrics._replace(grad_gnorm=norm)

    def epoch(carry: tuple[Any, Any], key: Any) -> tuple[tuple[Any, Any], Metrics]:
        order = jax.random.permutation(key, rows) if setup.shuffle else jnp.arange(rows)
        return jax.lax.scan(step, carry, divided(order, at_most))

    key = jax.random.fold_in(jax.random.wrap_key_data(agent.key), agent.updates)
    (params, leaves), metrics = jax.lax.scan(
        epoch, (agent.params, agent.optimizer), jax.random.split(key, setup.epochs)
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
        steps=steps,
    )
    return successor, jax.tree.map(jnp.mean, metrics)


def _batch(setup: Setup, agent: PPOState, trajectory: Any) -> tuple[Batch, dict[str, Any]]:
    """All transitions of a trajectory, with what the loss needs to know about each; and statistics with them."""
    t: Any = trajectory
    t = t._replace(
        observation=normalised_observations(agent.statistics, t.observation),
        next_observation=normalised_observations(agent.statistics, t.next_observation),
    )
    hyper, length = agent.hyper, setup.length
    reward, statistics = learned_rewards(setup.signals, agent.statistics, trajectory, hyper["gamma"])
    given = None
    if length:
        given = sequences(setup.policy, setup.distribution.layout, t, length)
        seen, memories = features(setup.policy, agent.params["policy"], cut(t.observation, length), given)
        following = next_features(setup.policy, setup.distribution.layout, agent.params["policy"], t, memories, length)
        value = _uncut(_value(setup, agent.params, seen, cut(t.observation, length)), reward, length)
        next_value = _value(setup, agent.params, following, t.next_observation)
    else:
        both = jnp.stack([t.observation, t.next_observation])
        rows = both.reshape(-1, *t.observation.shape[2:])
        seen = forward(setup.policy, agent.params["policy"], rows)[1] if setup.shared else rows
        value, next_value = _value(setup, agent.params, seen, rows).reshape(2, *reward.shape)
    if not setup.critic:
        value, next_value = jnp.zeros_like(value), jnp.zeros_like(next_value)
    decay = hyper["lambda_"] if setup.gae else 1.0
    advantages = gae(reward, value, next_value, t.terminated, t.truncated, hyper["gamma"], decay)
    arrays = Batch(
        observation=t.observation,
        action=t.action,
        behaviour=t.behaviour,
        advantage=advantages.advantage,
        target=advantages.target,
        value=value,
        weight=t.valid.astype(jnp.float32),
        given=None,
    )
    flat = (lambda x: cut(x, length)) if length else (lambda x: x.reshape(-1, *x.shape[2:]))
    return jax.tree.map(flat, arrays)._replace(given=given), statistics


def _uncut(x: Any, like: Any, length: int) -> Any:
    """Pieces (N, length) as steps (T, B) again."""
    steps, count = like.shape
    return jnp.swapaxes(x.reshape(-1, count, length), 1, 2).reshape(-1, count)[:steps]


def _optimizer(setup: Setup, hyper: Any, steps: Any) -> Any:
    rate = scheduled(setup.lr_schedule, steps, hyper["lr"])
    return make_optimizer(setup.optimizer, rate, setup.grad_clip)


class PPO(Algorithm):
    """Proximal policy optimisation, for discrete and continuous actions, with an LSTM or without."""

    Config = PPOConfig

    @classmethod
    def setup(cls, config: PPOConfig, env: Environment) -> Setup:
        """What shapes its programs."""
        layout, action, model = env.observation, env.action, config.whole_model()
        distribution = ActionDistribution(action)
        masked(layout, distribution)
        free = bool(model["free_log_std"]) and action.continuous and len(action.leaves) == 1
        outputs = action.size if free else distribution.size
        policy = architecture(layout, outputs, model, action, head_scale=0.01, free=action.size if free else 0)
        shared = bool(model["vf_share_layers"]) and policy.custom is None
        value = architecture(layout, 1, model, recurrent=False)
        if shared:
            value = Architecture(vector(policy.width), 1, hidden=())
        elif policy.lstm:
            seen = vector(policy.width + int(np.prod(layout.shape)))
            value = Architecture(seen, 1, value.hidden, value.activation)
        return Setup(
            policy=policy,
            value=value,
            shared=shared,
            distribution=distribution,
            signals=signals_of(config, layout),
            epochs=config.num_sgd_iter,
            minibatch_size=config.sgd_minibatch_size,
            length=model["max_seq_len"] if policy.lstm else 0,
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
        kind = config.exploration_config.get("type", "StochasticSampling")
        if kind not in ("StochasticSampling", "Random"):
            raise ConfigError(
                f"PPO explores by StochasticSampling, not by {kind}: it learns from the probabilities of its actions"
            )
        return NetworkPolicy(setup.policy, setup.distribution, kind, sequence=setup.length)

    @classmethod
    def init_agent(cls, setup: Setup, hyper: dict[str, Any], key: Any) -> PPOState:
        """An agent that has learned nothing yet."""
        return jax.device_get(init(setup, hyper, key))  # type: ignore[no-any-return]

    @classmethod
    def weights(cls, plan: Plan, training: Training) -> dict[str, Any]:
        """The parameters of the host's policy."""
        agent = training.agent
        seen = filter_of(agent.statistics)
        return {"policy": agent.params["policy"], "explore": {"random": False}, **({"filter": seen} if seen else {})}

    @classmethod
    def improve(
        cls, plan: Plan, agent: PPOState, replay: None, trajectory: Trajectory
    ) -> tuple[PPOState, None, dict[str, float]]:
        """Learn from a trajectory."""
        if plan.complete:  # its length varies, and each length is another program
            trajectory = padded(trajectory, 64, plan.setup.length)
        agent, metrics = jax.device_get(update(plan.setup, agent, trajectory))
        return agent, None, {name: float(value) for name, value in metrics._asdict().items()}


PPOTrainer = PPO
