"""What algorithms that learn from replay have in common: when they learn, how much, and from what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from graphray.rl import replay
from graphray.rl.config import Config
from graphray.rl.learning import note
from graphray.rl.options import ConfigError, integer, number, option, optional
from graphray.rl.rollout import Trajectory
from graphray.rl.trainer import Algorithm
from graphray.rl.training import Plan

__all__ = ["OffPolicy", "OffPolicyConfig", "Schedule"]


@dataclass(frozen=True)
class OffPolicyConfig(Config):
    """What algorithms with replay are configured with, beside what all are."""

    buffer_size: Any = option(
        100_000, "Transitions that are kept.", integer(1), rllib=50_000, aliases=("replay_buffer_size", "capacity")
    )
    learning_starts: Any = option(
        1000, "Environment steps before the first update.", integer(0), aliases=("replay_starts",)
    )
    timesteps_per_iteration: Any = option(
        1000,
        "Environment steps of one `train()`, at least.",
        integer(1),
        aliases=("min_sample_timesteps_per_iteration",),
    )
    training_intensity: Any = option(
        None,
        "Transitions that are learned from for each environment step; None: one batch for each rollout.",
        optional(number(0, open_low=True)),
    )
    n_step: Any = option(1, "Steps over which rewards are summed.", integer(1), aliases=("n_steps",))
    tau: Any = option(
        1.0, "How far target networks move to the networks, each time.", number(0, 1), traced=True, aliases=("polyak",)
    )
    grad_clip: Any = option(
        None, "Greatest global norm of a gradient.", optional(number(0, open_low=True)), aliases=("max_grad_norm",)
    )


class Schedule(NamedTuple):
    """When something is learned, and how much: a part of a setup."""

    starts: int
    """Environment steps before the first update."""
    updates: int
    """After each rollout."""
    batch: int
    n_step: int
    steps: float
    """Environment steps from one update to the next."""


class OffPolicy(Algorithm):
    """An algorithm that learns from replay."""

    on_policy = False
    PRIORITIZED = False

    @classmethod
    def lengths(cls, config: Any, num_envs: int) -> tuple[int, int]:
        """Steps of each environment in a rollout, and rollouts in an iteration."""
        if config.batch_mode != "truncate_episodes":
            raise ConfigError(f"{cls.__name__} learns from transitions: batch_mode is 'truncate_episodes'")
        fragment = min(config.rollout_fragment_length or 1, -(-config.timesteps_per_iteration // num_envs))
        return fragment, -(-config.timesteps_per_iteration // (fragment * num_envs))

    @classmethod
    def schedule(cls, config: Any) -> Schedule:
        """When it learns."""
        num_envs = config.num_envs or max(1, config.num_workers) * config.num_envs_per_worker
        steps = cls.lengths(config, num_envs)[0] * num_envs
        updates = 1
        if config.training_intensity is not None:
            updates = max(1, round(config.training_intensity * steps / config.train_batch_size))
        return Schedule(config.learning_starts, updates, config.train_batch_size, config.n_step, steps / updates)

    @classmethod
    def init_replay(cls, plan: Plan, key: Any) -> replay.Replay:
        """Of nothing yet."""
        return replay.empty(plan.setup.buffer_size, sum(map(len, plan.shards)), key, plan.setup.prioritized)

    @classmethod
    def improve(
        cls, plan: Plan, agent: Any, kept: replay.Replay, trajectory: Trajectory
    ) -> tuple[Any, replay.Replay, dict[str, float]]:
        """Keep a trajectory, and learn from what is kept."""
        setup = plan.setup
        schedule: Schedule = setup.schedule
        trajectory = trajectory._replace(reward=_clipped(setup.signals.clip, trajectory.reward))
        kept = replay.add(kept, trajectory)
        steps = agent.steps + np.float32(trajectory.reward.size)
        agent = cls.noted(setup, agent, trajectory)._replace(steps=steps)
        if steps < schedule.starts or kept.size < 2:
            return agent, kept, {}
        gamma = float(agent.hyper["gamma"])
        beta = cls.beta(setup, float(steps))
        drawn, kept = replay.sample(kept, schedule.updates, schedule.batch, gamma, schedule.n_step, beta)
        agent, metrics, errors = jax.device_get(cls.update(setup, agent, drawn))
        if kept.priority is not None:
            kept = replay.reprioritised(kept, drawn.rows, (np.abs(errors) + 1e-6) ** setup.alpha)
        return agent, kept, {name: float(value) for name, value in metrics._asdict().items()}

    @classmethod
    def noted(cls, setup: Any, agent: Any, trajectory: Trajectory) -> Any:
        """An agent whose statistics have seen a trajectory."""
        if not agent.statistics:
            return agent
        return agent._replace(statistics=note(setup.signals, agent.statistics, trajectory, agent.hyper["gamma"]))

    @classmethod
    def beta(cls, setup: Any, steps: float) -> float:
        """How far weights make up for unequal priorities."""
        return 0.0

    @classmethod
    def update(cls, setup: Any, agent: Any, drawn: replay.Transitions) -> tuple[Any, Any, Any]:
        """Agent, metrics, and the error of each transition (U, B), after updates from transitions (U, B, …)."""
        raise NotImplementedError


def _clipped(clip: float | None, reward: Any) -> Any:
    if clip is None:
        return reward
    return np.sign(reward) if clip == 0 else np.clip(reward, -clip, clip)
