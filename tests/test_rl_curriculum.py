"""Curricula: what counts as an environment with tasks, and when a task that is set takes effect."""

from __future__ import annotations

import pickle
import warnings

import gymnasium
import numpy as np
import pytest
import rl_envs
from test_rl_rollout import begin, elsewhere, joined, roll, same

from graphray import rl
from graphray.rl.curriculum import EnvContext, TaskSettableEnv, advance
from graphray.rl.environments import register

LEVELS = register(rl_envs.Levels, {"ends": 4})


def levels(trajectory):
    """The task of each episode: at its beginning the environment shows 1000 times that."""
    first = trajectory.observation[..., 0] == 0
    return [(trajectory.observation[first[:, i], i, 1] / 1000).tolist() for i in range(first.shape[1])]


# -- what has tasks ----------------------------------------------------------------------------------------------------


def test_a_class_that_has_the_methods_counts():
    assert isinstance(rl_envs.Levels(), TaskSettableEnv)
    assert issubclass(rl_envs.Levels, rl.TaskSettableEnv)
    assert not isinstance(rl_envs.Walk(), TaskSettableEnv)
    assert not issubclass(dict, TaskSettableEnv)

    class Half(rl_envs.Walk):
        def get_task(self):
            return 1

    assert not isinstance(Half(), TaskSettableEnv)


def test_it_is_a_mixin_on_either_side():
    class Before(TaskSettableEnv, gymnasium.Env):
        pass

    class After(gymnasium.Env, TaskSettableEnv):
        pass

    for env in (Before(), After()):
        assert isinstance(env, gymnasium.Env)
        assert isinstance(env, TaskSettableEnv)
        for call in (env.get_task, lambda env=env: env.set_task(1), lambda env=env: env.sample_tasks(2)):
            with pytest.raises(NotImplementedError, match=f"{type(env).__name__} has no"):
                call()


def test_it_alone_is_enough():
    class Lone(TaskSettableEnv):  # as RLlib's, which is an environment
        def __init__(self, config):
            self.inner = rl_envs.Levels(**config)
            self.observation_space, self.action_space = self.inner.observation_space, self.inner.action_space
            self.reset, self.step = self.inner.reset, self.inner.step
            self.get_task, self.set_task = self.inner.get_task, self.inner.set_task

    env = register(Lone, {"ends": 3})
    assert env.settable
    (at,) = advance(lambda *_: 7, {}, env, [begin(env)])
    assert levels(roll(env, at, 7)[0]) == [[1, 7, 7]] * 3


# -- when tasks take effect --------------------------------------------------------------------------------------------


def test_a_task_holds_from_the_next_episode_on():
    _, at = roll(LEVELS, begin(LEVELS, [0, 1]), 2)
    (moved,) = advance(lambda results, env, ctx: 5, {}, LEVELS, [at])
    assert at.task == (None, None)
    assert moved.task == (5, 5)
    assert same(moved._replace(task=None), at._replace(task=None))
    t, after = roll(LEVELS, moved, 7)
    assert t.observation[0].tolist() == at.observation.tolist()  # the running episodes go on
    assert levels(t) == [[5, 5], [5, 5]]
    assert [state.task for state in after.state] == [5, 5]


def test_replaying_sets_the_task_that_the_episode_had():
    _, at = roll(LEVELS, begin(LEVELS, [0, 1], task=(2, 3)), 2)
    assert [state.task for state in at.state] == [2, 3]
    (moved,) = advance(lambda results, env, ctx: 9, {}, LEVELS, [at])
    whole, end = roll(LEVELS, moved, 9)
    left, middle = roll(LEVELS, elsewhere(moved), 1)
    assert [state.task for state in middle.state] == [2, 3]
    right, end_in_two = roll(LEVELS, elsewhere(middle), 8)
    assert same(whole, joined(left, right))
    assert same(end, end_in_two)
    assert levels(whole) == [[9, 9], [9, 9]]


def test_the_first_episode_may_have_a_task():
    t, _ = roll(LEVELS, begin(LEVELS, [0, 1], task=(2, 3)), 5)
    assert levels(t) == [[2, 2], [3, 3]]


# -- what the function is shown ----------------------------------------------------------------------------------------


def test_the_function_is_called_for_each_environment_of_each_shard():
    shards = [begin(LEVELS, [0, 1], task=(2, 3)), begin(LEVELS, [2], task=(4,))]
    seen = []

    def task_fn(train_results, task_settable_env, env_ctx):
        assert isinstance(task_settable_env, rl.TaskSettableEnv)
        assert isinstance(env_ctx, rl.EnvContext)
        place = (env_ctx.worker_index, env_ctx.num_workers, env_ctx.shard, env_ctx.env_index, env_ctx.vector_index)
        seen.append((train_results, task_settable_env.get_task(), dict(env_ctx), place))
        return task_settable_env.get_task() + 10

    moved = advance(task_fn, {"episode_reward_mean": 1.5}, LEVELS, shards)
    assert [cursor.task for cursor in moved] == [(12, 13), (14,)]
    result, config = {"episode_reward_mean": 1.5}, {"ends": 4}
    assert seen == [
        (result, 2, config, (1, 2, 0, 0, 0)),
        (result, 3, config, (1, 2, 0, 1, 1)),
        (result, 4, config, (2, 2, 1, 0, 0)),
    ]


def test_the_first_time_it_is_shown_the_environments_own_task():
    env = register(rl_envs.Levels, {"level": 6})
    (moved,) = advance(lambda results, env, ctx: env.get_task() + 1, {}, env, [begin(env, [0, 1])])
    assert moved.task == (7, 7)


def test_no_environment_changes_under_an_episode():
    _, at = roll(LEVELS, begin(LEVELS), 2)
    expected = roll(LEVELS, elsewhere(at), 2)[0]
    _, at = roll(LEVELS, elsewhere(begin(LEVELS)), 2)
    advance(lambda results, env, ctx: env.step(0) and env.set_task(50), {}, LEVELS, [at])
    assert same(roll(LEVELS, at, 2)[0], expected)


def test_a_function_may_set_the_task_itself():
    def task_fn(train_results, task_settable_env, env_ctx):
        task_settable_env.set_task(30 + env_ctx.env_index)

    (moved,) = advance(task_fn, {}, LEVELS, [begin(LEVELS, [0, 1])])
    assert moved.task == (30, 31)


def test_tasks_that_are_drawn_are_drawn_again_when_the_run_is():
    def drawn(at):
        (moved,) = advance(lambda results, env, ctx: env.sample_tasks(1)[0], {}, LEVELS, [at])
        return moved.task

    first = begin(LEVELS, range(4))
    _, later = roll(LEVELS, first, 2)
    assert drawn(first) == drawn(elsewhere(first))
    assert len(set(drawn(first))) > 1
    assert drawn(first) != drawn(later)


def test_tasks_are_values():
    task = {"size": [1]}

    class Kept(rl_envs.Levels):
        def reset(self, *, seed=None, options=None):
            return rl_envs.Walk.reset(self, seed=seed)

    env = register(Kept, probe=False)
    (moved,) = advance(lambda *_: task, {}, env, [begin(env, [0, 1])])
    task["size"].append(2)
    assert moved.task == ({"size": [1]}, {"size": [1]})


def test_the_function_may_be_named():
    env = register("MazeEnv")
    (moved,) = advance("graphray.rl.envs.maze.next_task", {"episode_reward_mean": 0.95}, env, [begin(env)])
    assert moved.task == (2, 2, 2)
    (moved,) = advance("graphray.rl.envs.maze.next_task", {"episode_reward_mean": 0.5}, env, [moved])
    assert moved.task == (2, 2, 2)


def test_environments_of_the_old_interface_have_tasks_too():
    class Old(rl_envs.Old):
        level = 1

        def get_task(self):
            return self.level

        def set_task(self, task):
            self.level = task

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = register(Old)
    assert env.settable
    (moved,) = advance(lambda results, env, ctx: env.get_task() + 1, {}, env, [begin(env, [0])])
    assert moved.task == (2,)


def test_a_wrapper_may_have_the_tasks():
    class Harder(gymnasium.Wrapper):
        scale = 1.0

        def get_task(self):
            return self.scale

        def set_task(self, task):
            self.scale = task

        def reset(self, **kwargs):
            shown, info = self.env.reset(**kwargs)
            return shown + 1000 * self.scale, info

    env = register(lambda: Harder(rl_envs.Walk(ends=3)))
    (moved,) = advance(lambda *_: 8.0, {}, env, [begin(env, [0])])
    t, _ = roll(env, moved, 4)
    assert t.observation[3, 0, 0] == 8000


# -- errors ------------------------------------------------------------------------------------------------------------


def test_an_environment_without_tasks_is_named():
    env = register(rl_envs.Walk)
    with pytest.raises(TypeError, match=r"Walk has not: derive it from rl\.TaskSettableEnv"):
        advance(lambda *_: 1, {}, env, [begin(env)])


def test_what_is_no_function_is_said():
    for wrong in (3, "rl_envs.__name__"):
        with pytest.raises(TypeError, match=r"env_task_fn is a function or its `module.function` path"):
            advance(wrong, {}, LEVELS, [begin(LEVELS)])
    with pytest.raises(ValueError, match=r"env_task_fn .rl_envs\.nothing.*has no .nothing"):
        advance("rl_envs.nothing", {}, LEVELS, [begin(LEVELS)])


def test_a_task_that_an_environment_does_not_take_is_reported_with_it():
    env = register("MazeEnv")
    at = begin(env)._replace(task=(99, 99, 99))
    with pytest.raises(rl.EnvironmentFailed, match=r"MazeEnv raised ValueError in reset\(seed=\d+\) with the task 99"):
        roll(env, at, 200)


def test_the_live_environment_is_closed(monkeypatch):
    closed = []
    at = begin(LEVELS)
    monkeypatch.setattr(rl_envs.Walk, "close", lambda self: closed.append(self))
    with pytest.raises(ZeroDivisionError):
        advance(lambda *_: 1 / 0, {}, LEVELS, [at])
    assert len(closed) == 1


def test_a_context_is_a_dict():
    context = EnvContext({"size": 3}, worker_index=2, shard=1, env_index=4, num_workers=2)
    assert context["size"] == 3
    assert context == {"size": 3}
    copy = pickle.loads(pickle.dumps(context))
    assert (copy, copy.worker_index, copy.vector_index) == ({"size": 3}, 2, 4)
    assert EnvContext() == {}
    np.testing.assert_equal(EnvContext(None, shard=1).shard, 1)
