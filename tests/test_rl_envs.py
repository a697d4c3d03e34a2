"""The environments that come along: what is right in them, and that nothing is left to chance."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest

from graphray import rl
from graphray.rl import envs
from graphray.rl.environments import make, register
from graphray.rl.envs.maze import next_task


def played(live, choose, seed):
    """An episode: what was shown, the rewards, and how it ended."""
    shown, _ = live.reset(seed=seed)
    seen, rewards = [shown], []
    for t in range(1000):
        shown, reward, terminated, truncated, _ = live.step(choose(shown, t))
        seen.append(shown)
        rewards.append(reward)
        if terminated or truncated:
            return seen, rewards, terminated, truncated
    raise AssertionError("it does not end")


def allowed(shown, rng):
    return int(rng.choice(np.flatnonzero(shown["action_mask"]))) if isinstance(shown, dict) else None


@pytest.mark.parametrize("name", envs.SHIPPED)
def test_each_is_found_by_name_right_and_a_function_of_its_seed(name):
    env = register(name)
    assert env.state == "snapshot"
    assert rl.check_env(name).notes == ()
    episodes = []
    for _ in range(2):
        rng, live = np.random.default_rng(0), make(env)
        live.action_space.seed(0)
        episodes.append(played(live, lambda shown, t: allowed(shown, rng) or live.action_space.sample() * 0, 3))  # noqa: B023
        live.close()
    assert pickle.dumps(episodes[0][1:]) == pickle.dumps(episodes[1][1:])


# -- RepeatAfterMeEnv --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 1, 2, 5])
def test_repeating_what_was_seen_some_steps_ago_is_right(delay):
    live = envs.RepeatAfterMeEnv(repeat_delay=delay)
    seen = []

    def answer(shown, t):
        seen.append(shown)
        return seen[t - delay] if t >= delay else 0

    _, rewards, terminated, truncated = played(live, answer, 5)
    assert rewards == [1.0] * 100
    assert (terminated, truncated) == (False, True)
    assert 30 < sum(seen) < 70
    _, rewards, _, _ = played(live, lambda shown, t: 1 - seen[t - delay] if t >= delay else 1, 5)
    assert rewards == [-1.0] * 100


def test_a_delay_from_the_configuration():
    assert make(register("RepeatAfterMeEnv", {"repeat_delay": 2})).repeat_delay == 2
    assert make(register("RepeatAfterMeEnv")).repeat_delay == 1
    with pytest.raises(ValueError, match="at least 0"):
        envs.RepeatAfterMeEnv(-1)


# -- StatelessCartPole -------------------------------------------------------------------------------------------------


def test_it_is_cartpole_without_velocities():
    whole, hidden = make(register("CartPole-v1")), envs.StatelessCartPole()
    a, _ = whole.reset(seed=4)
    b, _ = hidden.reset(seed=4)
    for t in range(9):
        np.testing.assert_array_equal(a[[0, 2]], b)
        assert hidden.observation_space.contains(b)
        a, *one = whole.step(t % 2)
        b, *other = hidden.step(t % 2)
        assert one[:3] == other[:3]


def test_an_episode_has_500_steps_at_most():
    live = envs.StatelessCartPole()

    def balance(shown, t):
        x, velocity, angle, turning = live.state
        return int(0.1 * x + 0.5 * velocity + 5 * angle + turning > 0)

    _, rewards, terminated, truncated = played(live, balance, 1)
    assert (sum(rewards), terminated, truncated) == (500, False, True)


# -- MaskedCorridor ----------------------------------------------------------------------------------------------------


def test_through_the_corridor():
    live = envs.MaskedCorridor(length=6)
    # Where there is a door, open it; walk on.
    seen, rewards, terminated, truncated = played(live, lambda shown, _: 2 if shown["action_mask"][2] else 1, 0)
    doors = int(seen[0]["observations"][6:].sum())
    assert len(rewards) == 5 + doors
    assert sum(rewards) == pytest.approx(1 - 0.1 * len(rewards))
    assert (terminated, truncated) == (True, False)
    assert [int(np.argmax(shown["observations"][:6])) for shown in (seen[0], seen[-1])] == [0, 5]


def test_what_is_not_allowed_raises():
    live = envs.MaskedCorridor(length=6)
    for seed in range(4):
        shown, _ = live.reset(seed=seed)
        assert shown["action_mask"][0] == 0
        for action in np.flatnonzero(shown["action_mask"] == 0):
            with pytest.raises(ValueError, match=rf"action {action} is not allowed here; action_mask is"):
                live.step(action)
    with pytest.raises(ValueError, match="not allowed"):
        live.step(7)


def test_who_stands_still_is_cut_off():
    live = envs.MaskedCorridor(length=4)
    seed = next(seed for seed in range(9) if live.reset(seed=seed)[0]["action_mask"][3])
    _, rewards, terminated, truncated = played(live, lambda shown, t: 3, seed)
    assert (len(rewards), terminated, truncated) == (16, False, True)


# -- ParametricActions -------------------------------------------------------------------------------------------------


def test_the_nearest_offer_is_the_best():
    live = envs.ParametricActions(max_actions=5, size=3)

    def nearest(shown, _):
        scores = shown["avail_actions"] @ shown["observations"]
        return int(np.argmax(np.where(shown["action_mask"], scores, -9)))

    seen, rewards, terminated, truncated = played(live, nearest, 2)
    assert (len(rewards), terminated, truncated) == (10, False, True)
    counts = {int(shown["action_mask"].sum()) for shown in seen}
    assert counts <= {2, 3, 4, 5}
    assert len(counts) > 1
    for shown, reward in zip(seen, rewards, strict=False):
        offers = shown["avail_actions"][shown["action_mask"] == 1]
        assert reward == pytest.approx(float((offers @ shown["observations"]).max()))
        np.testing.assert_allclose(np.linalg.norm(offers, axis=1), 1, rtol=1e-5)
        assert not shown["avail_actions"][shown["action_mask"] == 0].any()


def test_an_offer_that_is_not_there_raises():
    live = envs.ParametricActions(max_actions=5)
    shown, _ = live.reset(seed=next(s for s in range(9) if not live.reset(seed=s)[0]["action_mask"][4]))
    with pytest.raises(ValueError, match=f"there are {int(shown['action_mask'].sum())} offers"):
        live.step(4)


# -- MazeEnv -----------------------------------------------------------------------------------------------------------


def walks(task):
    """How far from the goal episodes of a task begin, by walking to it."""
    live = envs.MazeEnv(task=task)
    lengths = []
    for seed in range(60):
        begun, _ = live.reset(seed=seed)
        distance = {begun: 0}
        edge = [begun]
        place_of = {number: place for place, number in live._number.items()}
        found = None
        while edge and found is None:
            number = edge.pop(0)
            for action in range(4):
                live._at, live._made = place_of[number], 0
                after, reward, terminated, _, _ = live.step(action)
                assert terminated == (reward == 1)
                if terminated:
                    found = distance[number] + 1
                    break
                if after not in distance:
                    distance[after] = distance[number] + 1
                    edge.append(after)
        lengths.append(found)
    return lengths


def test_tasks_grow_in_difficulty():
    lengths = [walks(task) for task in range(1, 6)]
    for nearer, farther in itertools.pairwise(lengths):
        assert max(nearer) < min(farther)
    assert min(lengths[0]) == 1
    assert max(lengths[-1]) == 16


def test_tasks_are_set_and_drawn():
    live = envs.MazeEnv()
    assert live.get_task() == 1
    live.set_task(np.int64(3))
    assert live.get_task() == 3
    assert type(live.get_task()) is int
    for wrong in (0, 6, 1.5, "hard", None):
        with pytest.raises(ValueError, match="from 1 to 5"):
            live.set_task(wrong)
    live.reset(seed=0)
    drawn = live.sample_tasks(100)
    assert set(drawn) == {1, 2, 3, 4, 5}
    live.reset(seed=0)
    assert live.sample_tasks(100) == drawn


def test_walls_stop_and_time_runs_out():
    live = envs.MazeEnv(task=5)
    seed = next(seed for seed in range(50) if live.reset(seed=seed)[0] == 0)  # the upper left corner
    seen, rewards, terminated, truncated = played(live, lambda shown, t: 0, seed)
    assert seen == [0] * 61
    assert (sum(rewards), terminated, truncated) == (0, False, True)


def test_the_curriculum_goes_on_once_nine_of_ten_succeed():
    live = envs.MazeEnv(task=2)
    assert next_task({"episode_reward_mean": 0.89}, live, None) == 2
    assert next_task({"episode_reward_mean": 0.9}, live, None) == 3
    assert next_task({"episode_reward_mean": float("nan")}, live, None) == 2
    assert next_task({"episode_reward_mean": 1.0}, envs.MazeEnv(task=5), None) == 5


def test_the_maze_can_be_drawn():
    live = envs.MazeEnv(render_mode="rgb_array")
    live.reset(seed=0)
    picture = live.render()
    assert (picture.shape, picture.dtype) == ((176, 176, 3), np.uint8)
    before = picture.copy()
    for action in range(4):
        live.step(action)
        assert (live.render() == (220, 60, 60)).all(axis=2).sum() == 256
    assert (picture == before).all()
