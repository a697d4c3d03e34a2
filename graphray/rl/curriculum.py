"""Curricula: environments with tasks, and what sets the next ones.

A task is a value that an environment is given before an episode is reset; it becomes part of the episode's log, so that
replaying stays exact. Which task comes next, a function says between two iterations. It is shown an environment that
nobody steps: no environment changes under an episode.
"""

from __future__ import annotations

import contextlib
import copy
import pickle
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphray.rl import keys
from graphray.rl.cursor import Cursor
from graphray.rl.environments import Environment, make, name_of, with_tasks
from graphray.rl.registry import imported

__all__ = ["EnvContext", "TaskSettableEnv", "advance"]

_TASKS = 0xFFFFFFFF  # folded into the key of episodes, none of which has this number


class TaskSettableEnv(ABC):  # noqa: B024, its methods are for others to override, or to have anyway
    """A mixin for environments with tasks: `class Maze(TaskSettableEnv, gymnasium.Env)`.

    Whatever class has `get_task` and `set_task` counts as one; `isinstance` and `issubclass` say so.
    """

    def get_task(self) -> Any:
        """The task that the environment is set to."""
        raise NotImplementedError(f"{type(self).__name__} has no get_task()")

    def set_task(self, task: Any) -> None:
        """Set another one, which holds from the next `reset` on."""
        raise NotImplementedError(f"{type(self).__name__} has no set_task(task)")

    def sample_tasks(self, n_tasks: int) -> Sequence[Any]:
        """Some tasks, drawn at random from `self.np_random`."""
        raise NotImplementedError(f"{type(self).__name__} has no sample_tasks(n_tasks)")

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        if cls is not TaskSettableEnv:
            return NotImplemented
        has = all(callable(getattr(other, name, None)) for name in ("get_task", "set_task"))
        return True if has else NotImplemented


class EnvContext(dict[str, Any]):
    """An environment's `env_config`, and which one it is: what RLlib calls by this name.

    Here any process may step a shard, the group of environments that are always stepped together; so that a training
    does not depend on how many processes there are, what RLlib says of a worker is said of a shard.

    Args:
        env_config: the entries.
        worker_index: the shard's number, counted from 1.
        shard: the shard's number, counted from 0.
        env_index: its place in the shard.
        num_workers: how many shards there are.
    """

    def __init__(
        self,
        env_config: Mapping[str, Any] | None = None,
        worker_index: int = 0,
        shard: int = 0,
        env_index: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(env_config or {})
        self.worker_index = worker_index
        self.shard = shard
        self.env_index = env_index
        self.num_workers = num_workers

    @property
    def vector_index(self) -> int:
        """RLlib's name for `env_index`."""
        return self.env_index


def advance(
    task_fn: str | Callable[[Any, Any, EnvContext], Any],
    train_results: Any,
    env: Environment,
    cursors: Sequence[Cursor],
) -> tuple[Cursor, ...]:
    """Ask for the next task of each environment; it is set before that environment's next episode.

    Args:
        task_fn: `task_fn(train_results, task_settable_env, env_ctx)` gives the next task, or None for the one that the
            environment it is shown is then set to. Or its `module.function` path. The environment is set to the present
            task, and reset with a seed of its own, so that drawing tasks at random is repeated when the run is.
        train_results: what the iteration gave.
        env: the registered environment.
        cursors: where its shards stand.

    Returns:
        The cursors, with their `task` set.

    Raises:
        TypeError: the environment has no tasks, or the function is none.
    """
    asked = imported(task_fn, "env_task_fn") if isinstance(task_fn, str) else task_fn
    if not callable(asked):
        raise TypeError(f"env_task_fn is a function or its `module.function` path, not {task_fn!r}")
    with contextlib.closing(make(env)) as live:
        settable = with_tasks(live)
        if settable is None:
            raise TypeError(
                f"env_task_fn needs an environment with get_task() and set_task(task), which {name_of(env)} has not: "
                "derive it from rl.TaskSettableEnv as well"
            )
        own = copy.deepcopy(settable.get_task())
        moved = []
        for shard, cursor in enumerate(cursors):
            tasks = []
            for index, present in enumerate(cursor.task):
                settable.set_task(copy.deepcopy(own if present is None else present))
                live.reset(seed=_seed(cursor, index))
                context = EnvContext(_config(env), shard + 1, shard, index, len(cursors))
                task = asked(train_results, settable, context)
                tasks.append(copy.deepcopy(settable.get_task() if task is None else task))
            moved.append(cursor._replace(task=tuple(tasks)))
    return tuple(moved)


def _seed(cursor: Cursor, index: int) -> int:
    key = keys.fold_in(keys.fold_in(cursor.episode_key[index], _TASKS), cursor.step[index])
    return int(key[0] >> np.uint32(1))


def _config(env: Environment) -> dict[str, Any]:
    args, kwargs = pickle.loads(env.arguments)
    return args[0] if args else kwargs  # type: ignore[no-any-return]
