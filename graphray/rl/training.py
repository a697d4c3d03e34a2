"""Training as a value: everything between two iterations, and the stages that lead from one to the next.

An iteration is a small graph: each shard of environments is rolled out (`collect`), and from all of that something is
learned (`learn`). Off-policy, this is repeated until the iteration has its environment steps. The stages are the same
for all algorithms; what an algorithm is, its `Plan` says.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

import graphray as gr
from graphray.rl import cursor, keys
from graphray.rl.compilation import keep_programs
from graphray.rl.environments import Environment
from graphray.rl.evaluation import NO_EPISODES, Episodes, joined
from graphray.rl.host import NetworkPolicy
from graphray.rl.rollout import Trajectory, concatenate, rollout

__all__ = ["Plan", "Progress", "Step", "Training", "begin", "iteration", "no_step"]

# What the numbers of a run are for: each use has a key of its own.
ROLLOUTS, AGENT, REPLAY = 0, 1, 3

RECENT = 100
"""Of so many of the latest episodes the means are reported."""


class Progress(NamedTuple):
    """How far a training has come."""

    steps: int = 0
    episodes: int = 0
    iterations: int = 0
    recent: Episodes = NO_EPISODES
    """The latest episodes."""


class Training(NamedTuple):
    """A training between two iterations."""

    agent: Any
    """The algorithm's own state, a pytree of arrays."""
    cursors: tuple[cursor.Cursor, ...]
    """Where the environments stand, shard by shard."""
    replay: Any
    """What is kept of past transitions; None on-policy."""
    progress: Progress


class Step(NamedTuple):
    """A training after an iteration, and what there is to say about that."""

    training: Training
    metrics: dict[str, float]
    episodes: Episodes
    """That ended in it."""
    cycle: int
    """How many of its rollouts have been learned from."""


def no_step(training: Training) -> Step:
    """A training before an iteration, of which there is nothing to say."""
    return Step(training, {}, NO_EPISODES, 0)


class Plan(NamedTuple):
    """An algorithm with its configuration, as far as the stages need to know: a small value that travels with tasks."""

    algorithm: str
    """The name of its class in `graphray.rl`."""
    setup: Any
    """Its static configuration."""
    env: Environment
    policy: NetworkPolicy
    shards: tuple[tuple[int, ...], ...]
    """The numbers of the environments of each shard."""
    fragment: int
    """Steps of each environment in a rollout."""
    cycles: int
    """Rollouts, each with the updates after it, in an iteration."""
    explore: bool = True
    complete: bool = False
    recreate: bool = False
    timeout: float | None = None
    gpus: float = 0
    task_fn: Any = None
    """Chooses the environments' tasks after each iteration."""


def begin(plan: Plan, hyper: dict[str, float], seed: int, tasks: Any = None) -> Training:
    """A training before its first iteration, made in this process."""
    root = keys.root(seed)
    algorithm = algorithm_of(plan)
    agent = algorithm.init_agent(plan.setup, hyper, keys.fold_in(root, AGENT))
    where = keys.fold_in(root, ROLLOUTS)
    cursors = tuple(
        cursor.start(plan.env, where, np.asarray(shard), plan.policy.memory, tasks and tuple(tasks[i] for i in shard))
        for shard in plan.shards
    )
    replay = algorithm.init_replay(plan, keys.fold_in(root, REPLAY))
    return Training(agent, cursors, replay, Progress())


def iteration(plan: Plan, training: Any) -> gr.Node:
    """One iteration as a node, whose value is a `Step`: of a training, or of a node that gives one or a step."""
    if isinstance(training, gr.Node):
        return gr.call(iteration, plan, training)
    if isinstance(training, Step):
        training = training.training
    step = no_step(training)
    if plan.cycles == 1:
        return _cycle(plan, step)
    return gr.iterate(functools.partial(_cycle, plan), step, steps=plan.cycles)


def _cycle(plan: Plan, step: Step) -> gr.Node:
    """One rollout of all shards, and what is learned from it."""
    stages = _stages(plan)
    training = step.training
    weights = algorithm_of(plan).weights(plan, training)
    node: gr.Node = stages.learn(
        stages.plan, step, gr.map(stages.collect, training.cursors, plan=stages.plan, weights=weights)
    )
    return node


class _Stages(NamedTuple):
    """The stages as tasks, and the plan as a node: it is looked through once, and sent to each process once."""

    plan: gr.Node
    collect: Any
    learn: Any


@functools.lru_cache(maxsize=64)
def _stages(plan: Plan) -> _Stages:
    limited: dict[str, Any] = {"timeout": plan.timeout, "retries": 2} if plan.timeout else {}
    wanted: dict[str, Any] = {"resources": {"gpu": plan.gpus}} if plan.gpus else {}
    return _Stages(gr.value(plan), gr.task(**limited)(collect), gr.task(near="learner", **wanted)(learn))


def collect(at: cursor.Cursor, plan: Plan, weights: Any) -> tuple[Trajectory, cursor.Cursor]:
    """Some steps of one shard, and where it stands then."""
    return rollout(
        plan.env,
        plan.policy,
        weights,
        at,
        plan.fragment,
        explore=plan.explore,
        complete=plan.complete,
        recreate=plan.recreate,
    )


def learn(plan: Plan, step: Step, fragments: list[Any]) -> Step:
    """What has been learned from what all shards have collected."""
    keep_programs()
    algorithm = algorithm_of(plan)
    trajectories, cursors = zip(*fragments, strict=True)
    trajectory = concatenate(trajectories)
    training = step.training
    agent, replay, metrics = algorithm.improve(plan, training.agent, training.replay, trajectory)
    done = trajectory.terminated | trajectory.truncated
    ended = Episodes(trajectory.episode_return[done], trajectory.episode_length[done])
    before = training.progress
    progress = Progress(
        before.steps + int(trajectory.valid.sum()),
        before.episodes + len(ended.total),
        before.iterations + (step.cycle + 1 == plan.cycles),
        joined(before.recent, ended).latest(RECENT),
    )
    training = Training(agent, tuple(cursors), replay, progress)
    after = Step(training, {**step.metrics, **metrics}, joined(step.episodes, ended), step.cycle + 1)
    if after.cycle < plan.cycles:
        return after
    from graphray.rl.results import summary

    result = summary(after)
    told = ("training_iteration", "timesteps_total", "episodes_total", "episode_reward_mean")
    gr.context().emit(**{name: result[name] for name in told})
    if plan.task_fn is None:
        return after
    from graphray.rl.curriculum import advance

    cursors = advance(plan.task_fn, result, plan.env, training.cursors)
    return after._replace(training=training._replace(cursors=cursors))


def algorithm_of(plan: Plan) -> Any:
    """The algorithm's class."""
    from graphray import rl

    return getattr(rl, plan.algorithm)
