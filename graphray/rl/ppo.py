"""Proximal policy optimisation with a clipped objective.

Schulman et al., "Proximal policy optimization algorithms", 2017 (arXiv:1707.06347).

Everything here is a pure function of values and can be traced. A whole update, all epochs over all minibatches, is
one XLA program.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from graphray.rl.agent import Agent
from graphray.rl.distributions import Categorical
from graphray.rl.gae import gae
from graphray.rl.networks import ActorCritic
from graphray.rl.optimizer import apply_gradients, init_leaves
from graphray.rl.rollout import Trajectory

__all__ = ["Config", "Hyperparameters", "Metrics", "Minibatch", "act", "init", "loss", "update"]


class Hyperparameters(NamedTuple):
    """Numbers that can be traced: they are leaves of the agent, and changing one compiles nothing anew."""

    learning_rate: Any = 1e-3
    decay_updates: Any = np.inf
    """The learning rate falls linearly from the first update on, and would be 0 at this one."""
    gamma: Any = 0.98
    lambda_: Any = 0.9
    clip: Any = 0.2
    """How far the ratio of new and old probability counts, as a distance from 1."""
    value_coefficient: Any = 0.5
    entropy_coefficient: Any = 0.0
    max_gradient_norm: Any = 0.5


@dataclass(frozen=True)
class Config:
    """What shapes the program: another value is another compilation."""

    num_actions: int
    hidden: tuple[int, ...] = (64, 64)
    epochs: int = 10
    minibatch_size: int = 256
    """At most so many transitions in a minibatch; they are divided evenly, and each is used once in every epoch."""


class Minibatch(NamedTuple):
    """Transitions to learn from; every array has the leading axis of the minibatch."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    """Of the action, under the policy that chose it."""
    advantage: jax.Array
    target: jax.Array
    """What the value should be."""
    weight: jax.Array
    """1, or 0 for an entry that only fills up the minibatch."""


class Metrics(NamedTuple):
    """Means over all gradient steps of an update."""

    policy_loss: Any
    value_loss: Any
    entropy: Any
    approximate_kl: Any
    """Of old and new policy, by the estimator (ratio - 1) - log(ratio), which is unbiased and never negative."""
    clip_fraction: Any
    """The share of transitions whose ratio is outside the clipping range."""


def network(config: Config, params: Any, observation: jax.Array, method: str = "__call__") -> Any:
    """The agent's distribution of actions and values (B,) at observations (B, …), or one of them alone."""
    return _module(config).apply({"params": params}, observation, method=method)


def _module(config: Config) -> ActorCritic:
    return ActorCritic(config.num_actions, config.hidden)


@functools.partial(jax.jit, static_argnames=("config", "observation_shape"))
def init(config: Config, hyper: Hyperparameters, observation_shape: tuple[int, ...], key: jax.Array) -> Agent:
    """An agent that has learned nothing yet, from a key (2,)."""
    weights, shuffling = jax.random.split(jax.random.wrap_key_data(key))
    params = _module(config).init(weights, jnp.zeros((1, *observation_shape)))["params"]
    leaves = init_leaves(_optimizer(hyper, jnp.uint32(0)), params)
    numbers = {name: jnp.float32(number) for name, number in hyper._asdict().items()}
    return Agent(params, leaves, numbers, jax.random.key_data(shuffling), jnp.uint32(0))


def act(config: Config, params: Any, observation: jax.Array, key: jax.Array) -> tuple[jax.Array, Categorical]:
    """Actions (B,) for observations (B, …), drawn with keys (B, 2), and the distributions they come from."""
    distribution = network(config, params, observation, "policy")
    keys = jax.random.wrap_key_data(key)
    return jax.vmap(lambda logits, key: Categorical(logits).sample(key))(distribution.logits, keys), distribution


def loss(config: Config, hyper: Hyperparameters, params: Any, batch: Minibatch) -> tuple[jax.Array, Metrics]:
    """The objective of one gradient step, to be minimised; advantages are normalised over the minibatch."""
    distribution, value = network(config, params, batch.observation)

    def mean(x: jax.Array) -> jax.Array:
        return jnp.sum(x * batch.weight) / jnp.sum(batch.weight)

    centred = batch.advantage - mean(batch.advantage)
    advantage = centred / (jnp.sqrt(mean(centred**2)) + 1e-8)

    log_ratio = distribution.log_prob(batch.action) - batch.log_prob
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1 - hyper.clip, 1 + hyper.clip)
    policy_loss = -mean(jnp.minimum(ratio * advantage, clipped * advantage))
    value_loss = 0.5 * mean((value - batch.target) ** 2)
    entropy = mean(distribution.entropy())
    metrics = Metrics(
        policy_loss,
        value_loss,
        entropy,
        approximate_kl=mean(ratio - 1 - log_ratio),
        clip_fraction=mean(jnp.abs(ratio - 1) > hyper.clip),
    )
    return policy_loss + hyper.value_coefficient * value_loss - hyper.entropy_coefficient * entropy, metrics


@functools.partial(jax.jit, static_argnames="config")
def update(config: Config, agent: Agent, trajectory: Trajectory) -> tuple[Agent, Metrics]:
    """Learn from a trajectory (T, B, …) that the agent's policy has produced since its last update."""
    hyper = Hyperparameters(**agent.hyper)
    batch = _batch(config, hyper, agent.params, trajectory)
    optimizer = _optimizer(hyper, agent.updates)
    gradient = jax.grad(functools.partial(loss, config, hyper), has_aux=True)
    size = batch.weight.size

    def step(carry: tuple[Any, Any], rows: tuple[jax.Array, jax.Array]) -> tuple[tuple[Any, Any], Metrics]:
        params, leaves = carry
        index, weight = rows
        minibatch = jax.tree.map(lambda x: x[index], batch)._replace(weight=weight)
        gradients, metrics = gradient(params, minibatch)
        return apply_gradients(optimizer, gradients, leaves, params), metrics

    def epoch(carry: tuple[Any, Any], key: jax.Array) -> tuple[tuple[Any, Any], Metrics]:
        return jax.lax.scan(step, carry, _minibatches(jax.random.permutation(key, size), config.minibatch_size))

    key = jax.random.fold_in(jax.random.wrap_key_data(agent.key), agent.updates)
    carry, metrics = jax.lax.scan(epoch, (agent.params, agent.optimizer), jax.random.split(key, config.epochs))
    params, leaves = carry
    successor = agent._replace(params=params, optimizer=leaves, updates=agent.updates + 1)
    return successor, jax.tree.map(jnp.mean, metrics)


def _batch(config: Config, hyper: Hyperparameters, params: Any, trajectory: Trajectory) -> Minibatch:
    """All transitions of a trajectory in one row, with what the loss needs to know about each."""
    t: Any = trajectory  # whose arrays are traced here
    observations = jnp.stack([t.observation, t.next_observation])
    rows = observations.reshape(-1, *t.observation.shape[2:])
    value, next_value = network(config, params, rows, "value").reshape(observations.shape[:3])
    advantages = gae(t.reward, value, next_value, t.terminated, t.truncated, hyper.gamma, hyper.lambda_)
    batch = Minibatch(
        observation=t.observation,
        action=t.action,
        log_prob=Categorical(t.behaviour).log_prob(t.action),
        advantage=advantages.advantage,
        target=advantages.target,
        weight=jnp.ones_like(t.reward),
    )
    return Minibatch(*(x.reshape(-1, *x.shape[2:]) for x in batch))


def _minibatches(order: jax.Array, at_most: int) -> tuple[jax.Array, jax.Array]:
    """Divide a permutation into as few minibatches as possible, whose sizes differ by at most one.

    Returns:
        Indices and weights (count, size). Where the sizes differ, the smaller minibatches end with an entry of
        weight 0.
    """
    count = -(-len(order) // at_most)
    size = -(-len(order) // count)
    smaller = count * size - len(order)
    split = (count - smaller) * size
    larger_rows = order[:split].reshape(-1, size)
    smaller_rows = jnp.pad(order[split:].reshape(smaller, size - 1), ((0, 0), (0, 1)))
    weight = np.ones((count, size), np.float32)
    weight[count - smaller :, -1] = 0
    return jnp.concatenate([larger_rows, smaller_rows]), jnp.asarray(weight)


def _optimizer(hyper: Hyperparameters, updates: jax.Array) -> optax.GradientTransformation:
    remaining = jnp.maximum(0.0, 1.0 - updates / hyper.decay_updates)
    optimizer = optax.chain(
        optax.clip_by_global_norm(hyper.max_gradient_norm),
        optax.adam(hyper.learning_rate * remaining, eps=1e-5),
    )
    return optax.flatten(optimizer)  # one operation for all parameters, not one for each: compiles in half the time
