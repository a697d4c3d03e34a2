"""A policy and a value function, and what they make of a trajectory, for algorithms that learn from what they did."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphray.rl.architecture import Architecture, architecture, masked, vector
from graphray.rl.distributions import ActionDistribution
from graphray.rl.environments import Environment
from graphray.rl.gae import gae
from graphray.rl.learning import Signals, learned_rewards, normalised_observations
from graphray.rl.networks import forward, mask_logits, outputs_of
from graphray.rl.networks import init as init_network
from graphray.rl.sequences import Sequences, cut, features, next_features, sequences, uncut

__all__ = ["ActorCritic", "Batch", "actor_critic", "batch_of", "evaluate", "init"]


class ActorCritic(NamedTuple):
    """The networks: a static part of a setup."""

    policy: Architecture
    value: Architecture
    """Of observations; of the policy's features, where they share layers."""
    shared: bool
    distribution: ActionDistribution
    length: int
    """Steps of the pieces that an LSTM is trained on; 0 without one."""


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


def actor_critic(env: Environment, model: dict[str, Any]) -> ActorCritic:
    """The networks for an environment, as `model`, the entry of a configuration, describes them."""
    layout, action = env.observation, env.action
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
    return ActorCritic(policy, value, shared, distribution, model["max_seq_len"] if policy.lstm else 0)


def init(networks: ActorCritic, key: Any) -> dict[str, Any]:
    """Parameters, "policy" and "value", from a typed key."""
    policy, value = jax.random.split(key)
    return {"policy": init_network(networks.policy, policy), "value": init_network(networks.value, value)}


def evaluate(networks: ActorCritic, params: Any, observation: Any, given: Sequences | None) -> tuple[Any, Any]:
    """Parameters of distributions (rows, …, p) and values (rows, …)."""
    policy = networks.policy
    if given is None:
        outputs, seen = forward(policy, params["policy"], observation)
    else:
        seen, _ = features(policy, params["policy"], observation, given)
        outputs = outputs_of(policy, params["policy"], seen)
    outputs = mask_logits(policy.observation, networks.distribution, outputs, observation)
    return outputs, _value(networks, params, seen, observation)


def batch_of(
    networks: ActorCritic,
    signals: Signals,
    params: Any,
    statistics: dict[str, Any],
    trajectory: Any,
    gamma: Any,
    lambda_: Any,
    critic: bool = True,
) -> tuple[Batch, dict[str, Any]]:
    """All transitions of a trajectory (T, B, …), with advantages; and statistics that have seen them.

    Without `critic`, values are taken to be 0.
    """
    t = trajectory._replace(
        observation=normalised_observations(statistics, trajectory.observation),
        next_observation=normalised_observations(statistics, trajectory.next_observation),
    )
    length = networks.length
    reward, statistics = learned_rewards(signals, statistics, trajectory, gamma)
    given = sequences(networks.policy, networks.distribution.layout, t, length) if length else None
    value, next_value = _values(networks, params, t, given)
    if not critic:
        value, next_value = jnp.zeros_like(value), jnp.zeros_like(next_value)
    advantages = gae(reward, value, next_value, t.terminated, t.truncated, gamma, lambda_)
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


def _values(networks: ActorCritic, params: Any, t: Any, given: Sequences | None) -> tuple[Any, Any]:
    """Values (T, B) of the observations of a trajectory, and of what the actions led to."""
    policy, length, like = networks.policy, networks.length, t.reward
    if given is not None:
        pieces = cut(t.observation, length)
        seen, memories = features(policy, params["policy"], pieces, given)
        following = next_features(policy, networks.distribution.layout, params["policy"], t, memories, length)
        value = uncut(_value(networks, params, seen, pieces), like, length)
        return value, _value(networks, params, following, t.next_observation)
    both = jnp.stack([t.observation, t.next_observation])
    rows = both.reshape(-1, *t.observation.shape[2:])
    seen = forward(policy, params["policy"], rows)[1] if networks.shared else rows
    value, next_value = _value(networks, params, seen, rows).reshape(2, *like.shape)
    return value, next_value


def _value(networks: ActorCritic, params: Any, features: Any, observation: Any) -> Any:
    """Values of observations (rows, …) at which the policy has these features.

    Beside an LSTM that is the policy's alone, the value function has a network of its own, which is shown what the LSTM
    has made of the past, and the observation. It has no part in training the LSTM: errors of values, which may be a
    hundred times as great as the advantages, would drown out what the policy has to learn.
    """
    seen = observation
    if networks.shared:
        seen = features
    elif networks.length:
        flat = observation.reshape(*features.shape[:-1], -1).astype(jnp.float32)
        seen = jnp.concatenate([jax.lax.stop_gradient(features), flat], axis=-1)
    shape = networks.value.observation.shape
    lead = seen.shape[: seen.ndim - len(shape)]
    return forward(networks.value, params["value"], seen.reshape(-1, *shape))[0].reshape(lead)
