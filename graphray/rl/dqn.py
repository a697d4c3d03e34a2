"""Deep Q-networks.

Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015; double Q-learning (van Hasselt et
al., AAAI 2016), dueling networks (Wang et al., ICML 2016), sums over n steps, and prioritised replay (Schaul et al.,
ICLR 2016).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from graphray.rl.architecture import Architecture, architecture, masked
from graphray.rl.distributions import ActionDistribution
from graphray.rl.environments import Environment
from graphray.rl.exploration import exploration_of, numbers
from graphray.rl.host import NetworkPolicy
from graphray.rl.learning import Signals, normalised_observations, scaled_rewards, signals_of
from graphray.rl.networks import forward, mask_logits
from graphray.rl.networks import init as init_network
from graphray.rl.offpolicy import OffPolicy, OffPolicyConfig, Schedule
from graphray.rl.optimizer import apply_gradients, init_leaves, optimizer_at
from graphray.rl.options import flag, integer, number, option, optional
from graphray.rl.replay import Transitions
from graphray.rl.training import Plan, Training

__all__ = ["DQN", "DQNConfig", "DQNState", "DQNTrainer", "Setup", "init", "loss", "update"]


@dataclass(frozen=True)
class DQNConfig(OffPolicyConfig):
    """What DQN is configured with, beside what all algorithms with replay are."""

    MODEL: ClassVar[dict[str, Any]] = {"fcnet_hiddens": (256, 256), "fcnet_activation": "relu"}

    double_q: Any = option(True, "The network chooses the next action, the target network values it.", flag)
    dueling: Any = option(True, "Separate outputs for the value and the actions' advantages.", flag)
    prioritized_replay: Any = option(False, "Draw transitions with greater errors more often.", flag, rllib=True)
    prioritized_replay_alpha: Any = option(0.6, "How much more often.", number(0))
    prioritized_replay_beta: Any = option(0.4, "How far weights make up for that, at first.", number(0, 1))
    final_prioritized_replay_beta: Any = option(1.0, "And at last.", number(0, 1), rllib=0.4)
    prioritized_replay_beta_annealing_timesteps: Any = option(50_000, "After so many steps.", integer(1), rllib=20_000)
    target_network_update_freq: Any = option(
        1,
        "Environment steps between moves of the target network, by `tau`; at most one for each update.",
        integer(1),
        rllib=500,
        aliases=("target_update_interval",),
    )
    tau: Any = option(
        5e-3,
        "How far the target network moves to the network, each time.",
        number(0, 1),
        traced=True,
        rllib=1.0,
        aliases=("polyak",),
    )
    n_step: Any = option(3, "Steps over which rewards are summed.", integer(1), rllib=1, aliases=("n_steps",))
    lr: Any = option(1e-3, "Learning rate.", number(0), traced=True, rllib=5e-4, aliases=("learning_rate",))
    train_batch_size: Any = option(64, "Transitions in a minibatch.", integer(1), rllib=32, aliases=("batch_size",))
    rollout_fragment_length: Any = option(
        64, "Steps of each environment between updates.", optional(integer(1)), rllib=4, aliases=("train_freq",)
    )
    training_intensity: Any = option(
        32.0,
        "Transitions that are learned from for each environment step; None: one batch for each rollout.",
        optional(number(0, open_low=True)),
        rllib=None,
        aliases=("gradient_steps",),
    )
    grad_clip: Any = option(
        10.0,
        "Greatest global norm of a gradient.",
        optional(number(0, open_low=True)),
        rllib=40.0,
        aliases=("max_grad_norm",),
    )


class Setup(NamedTuple):
    """What shapes the program: another value is another compilation."""

    network: Architecture
    distribution: ActionDistribution
    signals: Signals
    schedule: Schedule
    double: bool
    target_every: int
    grad_clip: float | None
    optimizer: tuple[tuple[str, Any], ...]
    lr_schedule: Any
    exploration: tuple[tuple[str, Any], ...]
    buffer_size: int
    prioritized: bool
    alpha: float
    betas: tuple[float, float, int]
    """Of the weights, at first and at last, and after how many steps."""


class DQNState(NamedTuple):
    """An agent between two updates: a pytree of arrays."""

    params: dict[str, Any]
    """Of its network, "policy"."""
    target: Any
    """Earlier ones of it."""
    optimizer: tuple[Any, ...]
    hyper: dict[str, Any]
    statistics: dict[str, Any]
    steps: Any
    """Environment steps so far."""


class Metrics(NamedTuple):
    """Means over all gradient steps of an update."""

    loss: Any
    mean_q: Any
    mean_td_error: Any
    grad_gnorm: Any


@functools.partial(jax.jit, static_argnums=0)
def init(setup: Setup, hyper: Any, key: Any) -> DQNState:
    """An agent that has learned nothing yet, from hyperparameters by name and a key (2,)."""
    params = {"policy": init_network(setup.network, jax.random.wrap_key_data(key))}
    leaves = init_leaves(optimizer_at(setup, hyper, jnp.float32(0)), params)
    statistics = setup.signals.nothing(setup.network.observation)
    return DQNState(params, params["policy"], leaves, hyper, statistics, jnp.float32(0))


def loss(setup: Setup, target: Any, params: Any, batch: Transitions) -> tuple[Any, tuple[Any, Any]]:
    """The objective of one gradient step (Huber's, of the errors), each error, and each value."""

    def q(weights: Any, observation: Any) -> Any:
        values, _ = forward(setup.network, weights, observation)
        return mask_logits(setup.network.observation, setup.distribution, values, observation)

    if setup.double:  # one pass for both: twice the rows cost little more
        both = q(params["policy"], jnp.concatenate([batch.observation, batch.next_observation]))
        values, choosing = jnp.split(both, 2)
        following = q(target, batch.next_observation)
    else:
        values = q(params["policy"], batch.observation)
        choosing = following = q(target, batch.next_observation)
    chosen = jnp.take_along_axis(values, batch.action.astype(jnp.int32), axis=-1)[:, 0]
    best = jnp.argmax(jax.lax.stop_gradient(choosing), axis=-1)
    next_value = jnp.take_along_axis(following, best[:, None], axis=-1)[:, 0]
    goal = batch.reward + batch.discount * next_value
    error = chosen - jax.lax.stop_gradient(goal)
    size = jnp.abs(error)
    huber = jnp.where(size < 1.0, 0.5 * error**2, size - 0.5)
    return jnp.mean(batch.weight * huber), (error, chosen)


@functools.partial(jax.jit, static_argnums=0)
def update(setup: Setup, agent: DQNState, drawn: Transitions) -> tuple[DQNState, Metrics, Any]:
    """Updates from transitions (U, B, …), and the errors of these (U, B)."""
    schedule = setup.schedule
    drawn = drawn._replace(
        observation=normalised_observations(agent.statistics, drawn.observation),
        next_observation=normalised_observations(agent.statistics, drawn.next_observation),
        reward=scaled_rewards(setup.signals, agent.statistics, drawn.reward),
    )
    optimizer = optimizer_at(setup, agent.hyper, agent.steps)
    begun = agent.steps - schedule.steps * schedule.updates

    def step(carry: Any, now: Any) -> tuple[Any, Any]:
        params, target, leaves = carry
        number, batch = now
        gradients, (error, chosen) = jax.grad(functools.partial(loss, setup, target), has_aux=True)(params, batch)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradients)))
        params, leaves = apply_gradients(optimizer, gradients, leaves, params)
        before, after = begun + number * schedule.steps, begun + (number + 1) * schedule.steps
        due = jnp.floor(after / setup.target_every) > jnp.floor(before / setup.target_every)
        target = jax.lax.cond(due, lambda: _moved(target, params["policy"], agent.hyper["tau"]), lambda: target)
        metrics = Metrics(jnp.mean(error**2), jnp.mean(chosen), jnp.mean(jnp.abs(error)), norm)
        return (params, target, leaves), (metrics, error)

    carry = (agent.params, agent.target, agent.optimizer)
    (params, target, leaves), (metrics, errors) = jax.lax.scan(step, carry, (jnp.arange(schedule.updates), drawn))
    agent = agent._replace(params=params, target=target, optimizer=leaves)
    return agent, jax.tree.map(jnp.mean, metrics), errors


def _moved(target: Any, params: Any, tau: Any) -> Any:
    return jax.tree.map(lambda old, new: old + tau * (new - old), target, params)


class DQN(OffPolicy):
    """Deep Q-networks, for one discrete action."""

    Config = DQNConfig
    make = staticmethod(init)
    update = staticmethod(update)

    @classmethod
    def setup(cls, config: DQNConfig, env: Environment) -> Setup:
        """What shapes its programs."""
        if not env.action.discrete or len(env.action.leaves) != 1:
            raise TypeError(f"DQN chooses one discrete action; SAC and PPO can do with {env.action.form}")
        distribution = ActionDistribution(env.action)
        masked(env.observation, distribution)
        network = architecture(
            env.observation, distribution.size, config.whole_model(), env.action, dueling=config.dueling
        )
        if network.lstm:
            raise ValueError("DQN has feed-forward networks: model.use_lstm is for PPO")
        return Setup(
            network=network,
            distribution=distribution,
            signals=signals_of(config, env.observation),
            schedule=cls.schedule(config),
            double=config.double_q,
            target_every=config.target_network_update_freq,
            grad_clip=config.grad_clip,
            optimizer=config.optimizer_items(),
            lr_schedule=config.lr_schedule,
            exploration=exploration_of(config, ("EpsilonGreedy", "Random")),
            buffer_size=config.buffer_size,
            prioritized=config.prioritized_replay,
            alpha=config.prioritized_replay_alpha,
            betas=(
                config.prioritized_replay_beta,
                config.final_prioritized_replay_beta,
                config.prioritized_replay_beta_annealing_timesteps,
            ),
        )

    @classmethod
    def host_policy(cls, config: DQNConfig, env: Environment, setup: Setup) -> NetworkPolicy:
        """How actions are chosen where environments are stepped."""
        return NetworkPolicy(setup.network, setup.distribution, dict(setup.exploration)["type"])

    @classmethod
    def exploring(cls, plan: Plan, training: Training) -> dict[str, Any]:
        """The numbers that its policy explores by."""
        return numbers(plan.setup.exploration, training.progress.steps)

    @classmethod
    def beta(cls, setup: Setup, steps: float) -> float:
        """How far weights make up for unequal priorities."""
        first, last, after = setup.betas
        return float(np.interp(steps, [0, after], [first, last]))


DQNTrainer = DQN
