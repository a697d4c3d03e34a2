"""Rollouts: what a trajectory says, and that rolling out m + n steps is m steps and then n, bit for bit."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import rl_envs
from hypothesis import given, settings
from hypothesis import strategies as st

import graphray as gr
from graphray.rl import cursor, host, keys
from graphray.rl.environments import register
from graphray.rl.evaluation import evaluate
from graphray.rl.rollout import Trajectory, concatenate, rollout

ENVS = {
    "cartpole": register("CartPole-v1"),
    "cut short": register("CartPole-v1", max_episode_steps=9),
    "snapshot": register(rl_envs.Walk, ends=5, cut=1000),
    "replay": register(rl_envs.Forgetful, ends=7, cut=7, start=2),
}
ROOT = keys.root(11)


def network(env, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [int(np.prod(env.observation_shape)), 8, env.num_actions]
    return {
        name: {
            "kernel": rng.normal(size=shape).astype(np.float32),
            "bias": rng.normal(size=shape[1]).astype(np.float32),
        }
        for name, shape in zip(("hidden_0", "head"), itertools.pairwise(sizes), strict=True)
    }


def roll(env, at, steps, params=None):
    return rollout(env, host.CategoricalMLP(env.num_actions), network(env) if params is None else params, at, steps)


def begin(env, index=(0, 1, 2), root=ROOT):
    return cursor.start(env, root, np.array(index))


def leaves(value):
    if isinstance(value, tuple):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def same(a, b):
    """Equal in every bit, in type and in structure."""
    one, other = leaves(a), leaves(b)
    return len(one) == len(other) and all(
        type(x) is type(y)
        and (
            x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
            if isinstance(x, np.ndarray)
            else x == y
        )
        for x, y in zip(one, other, strict=True)
    )


FRESH = itertools.count()


def elsewhere(at):
    """The same cursor in a process that has kept no environments: of what `gr.local` makes, 64 are kept."""
    for number in itertools.islice(FRESH, 64):
        gr.local(str, number)
    return pickle.loads(pickle.dumps(at))


def joined(one, other):
    return Trajectory(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


# -- law 4 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENVS)
@settings(max_examples=15)
@given(m=st.integers(1, 40), n=st.integers(1, 40), count=st.integers(1, 4), stay=st.booleans())
def test_m_plus_n_steps_are_m_steps_and_then_n(name, m, n, count, stay):
    env = ENVS[name]
    first = begin(env, range(count))
    whole, end = roll(env, first, m + n)
    left, middle = roll(env, elsewhere(first), m)
    right, end_in_two = roll(env, middle if stay else elsewhere(middle), n)
    assert same(whole, joined(left, right))
    assert same(end, end_in_two)


@pytest.mark.parametrize("name", ENVS)
def test_a_cursor_can_be_continued_any_number_of_times_and_in_any_way(name):
    env = ENVS[name]
    _, at = roll(env, begin(env), 6)
    kept = pickle.dumps(at)
    expected = roll(env, elsewhere(at), 10)
    roll(env, at, 3)
    roll(env, at, 4, network(env, seed=1))  # another policy: as many steps, other actions
    assert same(roll(env, at, 10), expected)
    assert pickle.dumps(at) == kept


def test_two_policies_from_one_cursor_do_not_meet_in_the_cache():
    # After as many steps the environments stand elsewhere, although everything that is counted is equal.
    env = ENVS["replay"]
    first = begin(env)
    _, one = roll(env, first, 3, network(env, seed=1))
    _, other = roll(env, first, 3, network(env, seed=2))
    assert one.state != other.state
    expected = roll(env, elsewhere(one), 5)
    roll(env, elsewhere(first), 3, network(env, seed=2))
    assert same(roll(env, one, 5), expected)


def test_rollouts_from_one_cursor_in_several_threads_share_nothing():
    env = ENVS["snapshot"]
    _, at = roll(env, begin(env), 4)
    expected = roll(env, elsewhere(at), 200)
    results = []
    threads = [threading.Thread(target=lambda: results.append(roll(env, at, 200))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert all(same(result, expected) for result in results)


def test_environments_are_kept_between_rollouts_in_one_process(monkeypatch):
    env = ENVS["cartpole"]
    _, at = roll(env, begin(env), 3)
    monkeypatch.setattr(cursor, "_restore", None)
    roll(env, at, 3)


def test_environments_that_are_no_longer_kept_are_closed(monkeypatch):
    closed = []
    elsewhere(None)  # not those of other tests
    monkeypatch.setattr(rl_envs.Walk, "close", lambda self: closed.append(self))
    env = ENVS["snapshot"]
    first = begin(env, root=keys.root(99))
    roll(env, first, 3)
    assert not closed
    roll(env, first, 3)  # those that have moved on do not fit: others are built
    assert len(closed) == 3
    elsewhere(first)
    assert len(closed) == 6


def test_a_rollout_that_fails_leaves_nothing_behind(monkeypatch):
    env = ENVS["snapshot"]
    _, at = roll(env, begin(env), 4)
    expected = roll(env, elsewhere(at), 10)
    _, at = roll(env, elsewhere(begin(env)), 4)

    def fail_later(self, action, steps=[0], step=rl_envs.Walk.step):  # noqa: B006
        steps[0] += 1
        if steps[0] == 8:
            raise RuntimeError("out of order")
        return step(self, action)

    with monkeypatch.context() as patch:
        patch.setattr(rl_envs.Walk, "step", fail_later)
        with pytest.raises(RuntimeError, match="out of order"):
            roll(env, at, 10)
    assert same(roll(env, at, 10), expected)


def test_another_process_gives_the_same_bits():
    env = ENVS["cartpole"]
    _, at = roll(env, begin(env), 17)
    program = """
import pickle, sys
from graphray.rl import host
from graphray.rl.rollout import rollout
env, params, at = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps(rollout(env, host.CategoricalMLP(env.num_actions), params, at, 50)))
assert "jax" not in sys.modules, "a process that only steps environments has imported JAX"
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps((env, network(env), at)),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert same(pickle.loads(done.stdout), roll(env, at, 50))


# -- what a trajectory says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ends", "cut"), [(4, 1000), (1000, 4)])
def test_the_end_of_an_episode(ends, cut):
    env = register(rl_envs.Walk, ends=ends, cut=cut)
    t, end = roll(env, begin(env, [0, 1]), 10)
    made = np.array([1, 2, 3, 4, 1, 2, 3, 4, 1, 2])
    for column in range(2):
        # The observation that the episode ended with is kept, and the next row begins the next episode.
        assert np.array_equal(t.next_observation[:, column, 0], made)
        assert np.array_equal(t.observation[:, column, 0], made - 1)
        assert np.array_equal(t.reward[:, column], made)
        assert np.array_equal(t.terminated[:, column], (made == 4) & (ends == 4))
        assert np.array_equal(t.truncated[:, column], (made == 4) & (cut == 4))
        assert np.array_equal(t.episode_length[:, column], made)
        assert np.array_equal(t.episode_return[:, column], made * (made + 1) / 2)
    going_on = ~(t.terminated | t.truncated)[:-1]
    assert np.array_equal(t.next_observation[:-1][going_on], t.observation[1:][going_on])
    assert end.episode.tolist() == [2, 2]
    assert end.step.tolist() == [10, 10]
    assert end.episode_length.tolist() == [2, 2]
    assert end.episode_return.tolist() == [3, 3]
    assert np.array_equal(end.observation[:, 0], [2, 2])


def test_each_transition_is_what_the_environment_does():
    env = ENVS["replay"]
    t, _ = roll(env, begin(env, [5]), 30)
    live = rl_envs.Forgetful(ends=7, cut=7, start=2)
    _, episode_key = (keys.fold_in(keys.fold_in(ROOT, use), 5) for use in (0, 1))
    episode = 0
    observation, _ = live.reset(seed=int(cursor.episode_seeds(episode_key, 0)))
    for step in range(30):
        assert np.array_equal(t.observation[step, 0], observation.astype(np.float32))
        observation, reward, terminated, truncated, _ = live.step(t.action[step, 0] + 2)
        assert np.array_equal(t.next_observation[step, 0], observation.astype(np.float32))
        assert (t.reward[step, 0], t.terminated[step, 0], t.truncated[step, 0]) == (reward, terminated, truncated)
        if terminated or truncated:
            episode += 1
            observation, _ = live.reset(seed=int(cursor.episode_seeds(episode_key, episode)))
    assert episode == 4


def test_actions_are_drawn_from_the_behaviour_with_the_key_of_environment_and_step():
    env = ENVS["cartpole"]
    _, at = roll(env, begin(env, [3, 4]), 5)
    t, _ = roll(env, at, 6)
    policy = host.CategoricalMLP(2)
    for column, index in enumerate([3, 4]):
        base = keys.fold_in(keys.fold_in(ROOT, 0), index)
        for step in range(6):
            noise = policy.noise(keys.fold_in(base, 5 + step))
            assert t.action[step, column] == np.argmax(t.behaviour[step, column] + noise)
    logits = host.mlp(network(env), t.observation.reshape(-1, 4)).reshape(6, 2, 2)
    np.testing.assert_allclose(t.behaviour, logits, rtol=1e-4, atol=1e-5)


def test_environments_differ_from_each_other_and_between_runs_and_episodes():
    env = ENVS["snapshot"]
    t, _ = roll(env, begin(env), 11)
    first = t.observation[0, :, 1].tolist()
    assert len({*first, *t.observation[5, :, 1].tolist(), *t.observation[10, :, 1].tolist()}) == 9
    other = begin(env, root=keys.root(12)).observation[:, 1].tolist()
    assert not set(first) & set(other)


def test_an_environment_is_the_same_one_in_any_shard():
    env = ENVS["snapshot"]
    together = begin(env, [0, 1, 2, 3])
    apart = [begin(env, [0, 1]), begin(env, [2, 3])]
    assert np.array_equal(together.observation, np.concatenate([c.observation for c in apart]))
    assert together.state == apart[0].state + apart[1].state
    parts = concatenate([roll(env, c, 12)[0] for c in apart])
    assert parts.observation.shape == (12, 4, 2)
    assert parts.reward.shape == (12, 4)
    assert np.array_equal(parts.episode_length, roll(env, together, 12)[0].episode_length)


def test_no_argument_is_changed():
    env = ENVS["cartpole"]
    at, params = begin(env), network(env)
    for array in leaves(at):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    before = pickle.dumps((at, params))
    roll(env, at, 30, params)
    assert pickle.dumps((at, params)) == before


# -- evaluation --------------------------------------------------------------------------------------------------------


def test_evaluation_gives_the_return_of_each_episode():
    env = register(rl_envs.Walk, ends=1000, cut=6)
    returns = evaluate(env, host.CategoricalMLP(3), network(env), ROOT, np.arange(5))
    assert returns.tolist() == [21.0] * 5


def test_evaluation_takes_the_best_action_and_draws_each_episode_by_its_number():
    env = ENVS["cartpole"]
    push = {"head": {"kernel": np.zeros((4, 2), np.float32), "bias": np.array([0, 1], np.float32)}}
    returns = evaluate(env, host.CategoricalMLP(2), push, ROOT, np.arange(10))
    assert returns.min() >= 8  # always to the right: the pole falls at once
    assert returns.max() <= 11
    again = [evaluate(env, host.CategoricalMLP(2), push, ROOT, part) for part in (np.arange(4), np.arange(4, 10))]
    assert np.array_equal(np.concatenate(again), returns)
    assert evaluate(env, host.CategoricalMLP(2), push, ROOT, [9]).tolist() == [returns[9]]
