"""Rollouts: what a trajectory says, and that rolling out m + n steps is m steps and then n, bit for bit."""

from __future__ import annotations

import itertools
import logging
import pickle
import subprocess
import sys
import threading
import warnings

import gymnasium
import numpy as np
import pytest
import rl_envs
from hypothesis import given, settings
from hypothesis import strategies as st

import graphray as gr
from graphray import rl
from graphray.rl import cursor, host, keys
from graphray.rl.architecture import Architecture
from graphray.rl.distributions import ActionDistribution
from graphray.rl.environments import NotReproducible, register
from graphray.rl.evaluation import evaluate
from graphray.rl.rollout import Trajectory, concatenate, rollout


class Continuous(rl_envs.Walk):
    """Takes numbers."""

    def __init__(self):
        super().__init__(ends=6)
        self.action_space = gymnasium.spaces.Box(-2, 2, (2,))

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        self.x += self.np_random.normal() + float(action.sum())
        return self._show(), float(action[0]), self.t >= self.ends, False, {}


ENVS = {
    "cartpole": register("CartPole-v1"),
    "cut short": register("CartPole-v1", {"max_episode_steps": 9}),
    "horizon": register(rl_envs.Endless, horizon=7),
    "snapshot": register(rl_envs.Walk, {"ends": 5, "cut": 1000}),
    "replay": register(rl_envs.Forgetful, {"ends": 7, "cut": 7, "start": 2}),
    "frames": register(rl_envs.Walk, {"ends": 5}, framestack=3),
    "mask": register("MaskedCorridor"),
    "numbers": register(Continuous),
    "tasks": register(rl_envs.Levels),
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ENVS["old gym"] = register(rl_envs.Old, {"seeds": False})
ROOT = keys.root(11)


def policy_of(env, lstm=0, sequence=0, previous=True):
    """A network of dense layers, or an LSTM that sees its last action and reward."""
    distribution = ActionDistribution(env.action)
    more = {"lstm": lstm, "previous_action": actions_seen(env), "previous_reward": 1} if lstm and previous else {}
    network = Architecture(env.observation, distribution.size, hidden=(8,), **({"lstm": lstm} | more))
    return host.NetworkPolicy(network, distribution, sequence=sequence)


def actions_seen(env):
    return sum(getattr(leaf, "n", None) or leaf.size for leaf in env.action.leaves)


def network(env, seed=0, policy=None):
    rng = np.random.default_rng(seed)
    spec = (policy or policy_of(env)).network
    mask = env.observation.mask
    seen = env.observation.shape[0] - (mask.stop - mask.start if mask else 0)
    sizes = {"hidden_0": (seen, 8), "head": (spec.lstm or 8, spec.outputs)}
    if spec.lstm:
        sizes["lstm"] = (8 + spec.previous_action + spec.previous_reward + spec.lstm, 4 * spec.lstm)
    layers = {
        name: {
            "kernel": rng.normal(size=shape).astype(np.float32),
            "bias": rng.normal(size=shape[1]).astype(np.float32),
        }
        for name, shape in sizes.items()
    }
    return {"policy": layers}


def roll(env, at, steps, params=None, policy=None, **more):
    policy = policy or policy_of(env)
    return rollout(env, policy, network(env, 0, policy) if params is None else params, at, steps, **more)


def begin(env, index=(0, 1, 2), root=ROOT, policy=None, task=None):
    return cursor.start(env, root, np.array(index), (policy or policy_of(env)).memory, task)


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
@settings(max_examples=10)
@given(m=st.integers(1, 40), n=st.integers(1, 40), count=st.integers(1, 4), stay=st.booleans())
def test_m_plus_n_steps_are_m_steps_and_then_n(name, m, n, count, stay):
    env = ENVS[name]
    first = begin(env, range(count))
    whole, end = roll(env, first, m + n)
    left, middle = roll(env, elsewhere(first), m)
    right, end_in_two = roll(env, middle if stay else elsewhere(middle), n)
    assert same(whole, joined(left, right))
    assert same(end, end_in_two)


@pytest.mark.parametrize("name", ["cartpole", "mask", "numbers", "replay"])
@settings(max_examples=10)
@given(m=st.integers(1, 8), n=st.integers(1, 30), count=st.integers(1, 3), stay=st.booleans())
def test_and_so_they_are_with_a_memory(name, m, n, count, stay):
    env = ENVS[name]
    policy = policy_of(env, lstm=4, sequence=4)
    first = begin(env, range(count), policy=policy)
    whole, end = roll(env, first, 4 * m + n, policy=policy)
    left, middle = roll(env, elsewhere(first), 4 * m, policy=policy)
    right, end_in_two = roll(env, middle if stay else elsewhere(middle), n, policy=policy)
    assert same(whole, joined(left, right))
    assert same(end, end_in_two)
    assert whole.memory.shape == (-(-(4 * m + n) // 4), count, policy.memory)


@settings(max_examples=10)
@given(m=st.integers(1, 20), n=st.integers(1, 20), count=st.integers(1, 4), lstm=st.booleans(), stay=st.booleans())
def test_complete_episodes_are_the_same_in_two_parts(m, n, count, lstm, stay):
    env = ENVS["cut short"]
    policy = policy_of(env, lstm=4 if lstm else 0)
    first = begin(env, range(count), policy=policy)
    left, middle = roll(env, first, m, policy=policy, complete=True)
    right, end = roll(env, middle if stay else elsewhere(middle), n, policy=policy, complete=True)
    # What is waited with is no part of it: each environment by itself has made one row of steps.
    whole, _ = roll(env, elsewhere(first), int(end.step.max()), policy=policy)
    for i in range(count):
        parts = [(part, part.valid[:, i]) for part in (left, right)]
        made = int(end.step[i])
        for name in ("observation", "action", "reward", "next_observation", "terminated", "truncated", "behaviour"):
            both = np.concatenate([getattr(part, name)[valid, i] for part, valid in parts])
            assert same(both, np.ascontiguousarray(getattr(whole, name)[:made, i]))


@pytest.mark.parametrize("name", ["horizon", "replay"])
def test_long_episodes_are_the_same_in_two_parts(name):
    env = register(rl_envs.Endless) if name == "horizon" else register(rl_envs.Forgetful, {"ends": 10**9, "cut": 10**9})
    first = begin(env, [0, 1])
    whole, end = roll(env, first, 2200)
    left, middle = roll(env, elsewhere(first), 1200)
    assert [state.taken for state in middle.state] == ([1000, 1000] if name == "horizon" else [0, 0])
    right, end_in_two = roll(env, elsewhere(middle), 1000)
    assert same(whole, joined(left, right))
    assert same(end, end_in_two)


def test_a_snapshot_is_used_in_place_of_a_long_replay(monkeypatch):
    env = register(rl_envs.Endless)
    _, middle = roll(env, begin(env, [0, 1]), 1200)
    made = []
    step = rl_envs.Walk.step
    monkeypatch.setattr(rl_envs.Walk, "step", lambda self, action: made.append(1) or step(self, action))
    roll(env, elsewhere(middle), 5)
    assert len(made) == 2 * 200 + 2 * 5


def test_a_snapshot_of_a_class_from_a_script_can_be_had_again_in_another_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """
import pickle, sys
import numpy as np
import graphray as gr
import rl_envs
from graphray.rl import cursor, keys
from graphray.rl.environments import register
from graphray.rl.rollout import rollout
from test_rl_rollout import network, policy_of


class Mine(rl_envs.Endless):
    pass


if __name__ == "__main__":
    env = register(Mine)
    policy = policy_of(env)
    at = cursor.start(env, keys.root(1), np.arange(2))
    _, at = rollout(env, policy, network(env), at, 1200)
    assert at.state[0].snapshot
    again = gr.call(rollout, env, policy, network(env), at, 20)
    here, _ = rollout(env, policy, network(env), at, 20)
    there, _ = gr.Graph(again).compute(executor="loky:1")
    assert here.next_observation.tobytes() == there.next_observation.tobytes()
"""
    )
    path = [entry for entry in sys.path if entry]
    subprocess.run([sys.executable, script], check=True, env={"PYTHONPATH": ":".join(path), "JAX_PLATFORMS": "cpu"})


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
    monkeypatch.setattr(cursor, "restore", None)
    roll(env, at, 3)


def test_environments_with_arrays_as_tasks_are_kept_too(monkeypatch):
    env = ENVS["tasks"]
    at = begin(env, task=(np.array([1, 2]),) * 3)
    at = pickle.loads(pickle.dumps(at))
    monkeypatch.setattr(cursor, "restore", None)
    t, _ = roll(env, at, 3)
    np.testing.assert_array_equal(t.observation[0, :, 1], [3000.0] * 3)


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
        with pytest.raises(rl.EnvironmentFailed, match="out of order"):
            roll(env, at, 10)
    assert same(roll(env, at, 10), expected)


def test_another_process_gives_the_same_bits():
    env = ENVS["cartpole"]
    _, at = roll(env, begin(env), 17)
    program = """
import pickle, sys
from graphray.rl.rollout import rollout
env, policy, params, at = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps(rollout(env, policy, params, at, 50)))
assert "jax" not in sys.modules, "a process that only steps environments has imported JAX"
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps((env, policy_of(env), network(env), at)),
        stdout=subprocess.PIPE,
        check=True,
    )
    assert same(pickle.loads(done.stdout), roll(env, at, 50))


# -- what a trajectory says --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "env",
    [
        register(rl_envs.Walk, {"ends": 4}),
        register(rl_envs.Walk, {"ends": 1000, "cut": 4}),
        register(rl_envs.Walk, {"ends": 1000}, horizon=4),
        register(rl_envs.Walk, {"ends": 4}, horizon=4),
    ],
)
def test_the_end_of_an_episode(env):
    ends = 4 if env.arguments == register(rl_envs.Walk, {"ends": 4}, probe=False).arguments else 1000
    t, end = roll(env, begin(env, [0, 1]), 10)
    made = np.array([1, 2, 3, 4, 1, 2, 3, 4, 1, 2])
    for column in range(2):
        # The observation that the episode ended with is kept, and the next row begins the next episode.
        assert np.array_equal(t.next_observation[:, column, 0], made)
        assert np.array_equal(t.observation[:, column, 0], made - 1)
        assert np.array_equal(t.reward[:, column], made)
        assert np.array_equal(t.terminated[:, column], (made == 4) & (ends == 4))
        assert np.array_equal(t.truncated[:, column], (made == 4) & (ends != 4))
        assert np.array_equal(t.episode_length[:, column], made)
        assert np.array_equal(t.episode_return[:, column], made * (made + 1) / 2)
    going_on = ~(t.terminated | t.truncated)[:-1]
    assert np.array_equal(t.next_observation[:-1][going_on], t.observation[1:][going_on])
    assert t.valid.all()
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
        observation, reward, terminated, truncated, _ = live.step(t.action[step, 0, 0] + 2)
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
    policy = policy_of(env)
    for column, index in enumerate([3, 4]):
        base = keys.fold_in(keys.fold_in(ROOT, 0), index)
        for step in range(6):
            noise = policy.noise(keys.fold_in(base, 5 + step))
            assert t.action[step, column, 0] == np.argmax(t.behaviour[step, column] + noise)
    best, _ = roll(env, at, 6, explore=False)
    assert np.array_equal(best.action[..., 0], np.argmax(best.behaviour, axis=-1))


def test_a_mask_is_kept_to():
    env = ENVS["mask"]
    mask = env.observation.mask
    t, _ = roll(env, begin(env), 200)  # an action that is not allowed raises
    allowed = t.observation[..., mask.start : mask.stop]
    assert np.take_along_axis(allowed, t.action, axis=-1).all()
    assert (t.behaviour[allowed == 0] < -1e8).all()


def test_a_memory_begins_with_each_episode_and_holds_what_was_last_done():
    env = ENVS["snapshot"]
    policy = policy_of(env, lstm=2, sequence=1)
    t, end = roll(env, begin(env, policy=policy), 12, policy=policy)
    new = t.observation[..., 0] == 0
    assert not t.memory[new].any()
    later = t.memory[1:][~new[1:]]
    np.testing.assert_array_equal(later[:, -1], t.reward[:-1][~new[1:]])
    np.testing.assert_array_equal(np.argmax(later[:, 4:7], axis=-1), t.action[:-1][~new[1:]][:, 0])
    assert (later[:, :4] != 0).all()
    assert not end.memory[end.episode_length == 0].any()


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


# -- complete episodes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lstm", [0, 3])
def test_episodes_are_played_to_their_end(lstm):
    env = ENVS["cartpole"]
    policy = policy_of(env, lstm=lstm, sequence=4 if lstm else 0)
    t, end = roll(env, begin(env, range(4), policy=policy), 10, policy=policy, complete=True)
    done = t.terminated | t.truncated
    for i in range(4):
        valid = t.valid[:, i]
        count = int(valid.sum())
        assert valid[:count].all()
        assert done[count - 1, i]
        assert count >= 10
        # Without the last episode there would be too few.
        starts = np.flatnonzero(done[: count - 1, i]) + 1
        assert (starts[-1] if len(starts) else 0) < 10
        assert not t.reward[count:, i].any()
        assert not done[count:, i].any()
        assert end.step[i] == count
    assert len({int(t.valid[:, i].sum()) for i in range(4)}) > 1, "they should have waited for one another"
    # Each stands at the beginning of its next episode, which it shows, and remembers nothing.
    assert end.episode_length.tolist() == [0] * 4
    assert (end.observation != 0).all()
    assert not end.memory.any()
    seeds = [int(cursor.episode_seeds(end.episode_key[i], end.episode[i])) for i in range(4)]
    assert [state.seed for state in end.state] == seeds
    live = gymnasium.make("CartPole-v1")
    np.testing.assert_array_equal(end.observation, [live.reset(seed=seed)[0] for seed in seeds])
    live.close()


def test_shards_of_different_lengths_are_filled_up():
    env = ENVS["cartpole"]
    parts = [roll(env, begin(env, index), 3, complete=True)[0] for index in ([0, 1], [2, 3])]
    lengths = [len(part.reward) for part in parts]
    assert lengths[0] != lengths[1]
    both = concatenate(parts)
    assert both.valid.shape == (max(lengths), 4)
    assert both.valid.sum() == sum(part.valid.sum() for part in parts)


# -- environments that fail --------------------------------------------------------------------------------------------

FLAKY = register(rl_envs.Flaky, {"ends": 5}, probe=False)


def broken(env, count=8):
    """Numbers of environments whose first episode is, and is not, broken."""
    shown = begin(env, range(count)).observation[:, 1] > 0.2
    return np.flatnonzero(shown).tolist(), np.flatnonzero(~shown).tolist()


def test_an_error_is_reported_with_seed_and_step():
    bad, good = broken(FLAKY)
    at = begin(FLAKY, [good[0], bad[0]])
    with pytest.raises(rl.EnvironmentFailed) as caught:
        roll(FLAKY, at, 5)
    said = str(caught.value)
    assert "Flaky raised ConnectionError in step 3 of the episode" in said
    assert f"with seed {at.state[1].seed} (action [" in said
    assert "simulator gone. With recreate_failed_env=True" in said
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_an_environment_that_fails_can_be_replaced(caplog):
    bad, good = broken(FLAKY)
    first = begin(FLAKY, [good[0], bad[0]])
    with caplog.at_level(logging.WARNING, "graphray.rl"):
        t, end = roll(FLAKY, first, 20, recreate=True)
    assert "simulator gone; it goes on with a new episode" in caplog.text
    failed = t.truncated[:, 1]
    assert failed[2]
    assert not t.terminated[2, 1]
    assert t.reward[2, 1] == 0
    np.testing.assert_array_equal(t.next_observation[2, 1], t.observation[2, 1])
    assert t.observation[3, 1, 0] == 0
    assert t.terminated[4, 0]
    # Law 4 holds for them too.
    left, middle = roll(FLAKY, elsewhere(first), 7, recreate=True)
    right, end_in_two = roll(FLAKY, elsewhere(middle), 13, recreate=True)
    assert same(t, joined(left, right))
    assert same(end, end_in_two)


def test_a_reset_that_fails_is_reported_or_another_episode_begun():
    env = register(rl_envs.Flaky, {"ends": 3, "resets": True, "above": 1.0}, probe=False)
    good = next(i for i in range(50) if starts(env, i))
    at = begin(env, [good])
    with pytest.raises(rl.EnvironmentFailed, match=r"Flaky raised ConnectionError in reset\(seed=\d+\): no simulator"):
        roll(env, at, 60)
    t, end = roll(env, at, 60, recreate=True)
    assert t.valid.all()
    assert end.episode[0] > 20  # episodes that could not begin are counted


def starts(env, index):
    try:
        begin(env, [index])
    except rl.EnvironmentFailed:
        return False
    return True


def test_an_environment_that_cannot_be_reset_is_given_up(monkeypatch):
    env = register(rl_envs.Walk, {"ends": 3})
    at = begin(env, [0])
    tries = []

    def reset(self, **_):
        tries.append(1)
        raise OSError("unplugged")

    monkeypatch.setattr(rl_envs.Walk, "reset", reset)
    with pytest.raises(rl.EnvironmentFailed, match="unplugged"):
        roll(env, at, 5, recreate=True)
    assert len(tries) == 3


@pytest.mark.parametrize("where", ["observation", "reward"])
def test_what_is_not_a_number_is_reported(where):
    env = register(rl_envs.NaN, {"where": where, "ends": 6}, probe=False)
    at = begin(env, [0, 1])
    with pytest.raises(rl.EnvironmentFailed) as caught:
        roll(env, at, 10)
    said = str(caught.value)
    assert f"NaN gave {where_article(where)} that is not a number (nan" in said.replace("(NaN", "(nan")
    assert f"in step 4 of the episode with seed {at.state[0].seed}" in said
    t, _ = roll(env, at, 10, recreate=True)
    assert np.isfinite(t.next_observation).all()
    assert np.isfinite(t.reward).all()
    np.testing.assert_array_equal(t.truncated[:, 0], [False, False, False, True] * 2 + [False] * 2)


def where_article(where):
    return "an observation" if where == "observation" else "a reward"


@pytest.mark.parametrize("reward", [None, "1", [1, 2]])
def test_a_reward_that_is_none_is_reported(reward):
    class Odd(rl_envs.Walk):
        def step(self, action):
            shown, _, *rest = super().step(action)
            return shown, reward, *rest

    env = register(Odd, probe=False)
    with pytest.raises(rl.EnvironmentFailed, match="a reward that is not a number"):
        roll(env, begin(env, [0, 1]), 3)


# -- environments whose state cannot be written down -------------------------------------------------------------------


@pytest.mark.parametrize("source", [rl_envs.Unseeded, rl_envs.Haunted])
def test_an_environment_that_cannot_be_repeated_goes_on_here_and_begins_anew_elsewhere(source):
    with pytest.warns(NotReproducible):
        env = register(source, {"ends": 8})
    policy = policy_of(env, lstm=2)
    first = begin(env, [0, 1], policy=policy)
    t, middle = roll(env, first, 11, policy=policy)
    np.testing.assert_array_equal(t.episode_length[:, 0], [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3])
    here, _ = roll(env, middle, 3, policy=policy)
    np.testing.assert_array_equal(here.episode_length[:, 0], [4, 5, 6])
    np.testing.assert_array_equal(here.observation[0], middle.observation)
    there, _ = roll(env, elsewhere(middle), 3, policy=policy)
    np.testing.assert_array_equal(there.episode_length[:, 0], [1, 2, 3])
    np.testing.assert_array_equal(there.episode_return[:, 0], [1, 3, 6])
    np.testing.assert_array_equal(there.observation[:, 0, 0], [0, 1, 2])


# -- evaluation --------------------------------------------------------------------------------------------------------


def test_evaluation_gives_return_and_length_of_each_episode():
    env = register(rl_envs.Walk, {"ends": 1000, "cut": 6})
    episodes = evaluate(env, policy_of(env), network(env), ROOT, np.arange(5))
    assert episodes.total.tolist() == [21.0] * 5
    assert episodes.length.tolist() == [6] * 5
    limited = register(rl_envs.Endless, horizon=4)
    assert evaluate(limited, policy_of(limited), network(limited), ROOT, [0, 1]).length.tolist() == [4, 4]


def test_evaluation_takes_the_best_action_and_draws_each_episode_by_its_number():
    env = ENVS["cartpole"]
    push = {"policy": {"head": {"kernel": np.zeros((4, 2), np.float32), "bias": np.array([0, 1], np.float32)}}}
    policy = host.NetworkPolicy(Architecture(env.observation, 2, hidden=()), ActionDistribution(env.action))
    returns = evaluate(env, policy, push, ROOT, np.arange(10)).total
    assert returns.min() >= 8  # always to the right: the pole falls at once
    assert returns.max() <= 11
    again = [evaluate(env, policy, push, ROOT, part).total for part in (np.arange(4), np.arange(4, 10))]
    assert np.array_equal(np.concatenate(again), returns)
    assert evaluate(env, policy, push, ROOT, [9]).total.tolist() == [returns[9]]
