"""Looking at the shards of environments of an algorithm, where RLlib has remote workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import graphray as gr
from graphray.rl.cursor import Cursor, restore
from graphray.rl.environments import unwrapped
from graphray.rl.training import Plan

if TYPE_CHECKING:
    from graphray.rl.trainer import Algorithm

__all__ = ["Worker", "Workers"]


class Worker:
    """A shard of environments as a function is shown it: copies, which can be looked at, and changed without effect."""

    def __init__(self, plan: Plan, cursor: Cursor, weights: Any, index: int) -> None:
        self.worker_index = index
        self.cursor = cursor
        self.policy_params = weights
        self.envs = [restore(plan.env, state) for state in cursor.state]

    @property
    def env(self) -> Any:
        """Its first environment."""
        return unwrapped(self.envs[0])

    def get_weights(self) -> Any:
        """Parameters of the policy that it acts by."""
        return self.policy_params


class Workers:
    """What `algo.workers` gives: functions are called with each shard, the local one first."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm

    def foreach_worker(self, function: Callable[[Worker], Any]) -> list[Any]:
        """What the function returns for each shard.

        It is called in the process that has the shard, with copies: to change weights use `set_weights`.
        """
        return self._each(_with_worker, function)

    def foreach_env(self, function: Callable[[Any], Any]) -> list[list[Any]]:
        """What the function returns for each environment of each shard."""
        return self._each(_with_envs, function)

    def _each(self, how: Any, function: Any) -> list[Any]:
        algorithm = self._algorithm
        training, plan = algorithm.state, gr.value(algorithm.plan)
        weights = algorithm.weights(algorithm.plan, training)
        look = gr.task(pure=False)(how)
        shards = training.cursors
        return list(
            algorithm.compute(gr.map(look, shards, range(len(shards)), plan=plan, weights=weights, function=function))
        )


def _with_worker(cursor: Cursor, index: int, plan: Plan, weights: Any, function: Any) -> Any:
    worker = Worker(plan, cursor, weights, index)
    try:
        return function(worker)
    finally:
        for env in worker.envs:
            env.close()


def _with_envs(cursor: Cursor, index: int, plan: Plan, weights: Any, function: Any) -> Any:
    return _with_worker(cursor, index, plan, weights, lambda worker: [function(unwrapped(env)) for env in worker.envs])
