"""Replay: a value that keeps the latest transitions, against a list that does the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphray.rl import keys, replay
from graphray.rl.rollout import Trajectory

KEY = keys.root(3)
GAMMA = 0.9


def trajectory(steps, envs, first, seed=0):
    """Rewards count on from `first`, and observations are the rewards; some episodes end."""
    rng = np.random.default_rng(seed)
    shape = (steps, envs)
    reward = (first + np.arange(steps * envs)).reshape(shape).astype(np.float32)
    ended = rng.random(shape)
    empty = np.zeros((0, envs, 0), np.float32)
    return Trajectory(
        observation=reward[..., None],
        action=np.zeros((*shape, 1), np.int32),
        reward=reward,
        next_observation=reward[..., None] + 0.5,
        terminated=ended < 0.1,
        truncated=(ended > 0.1) & (ended < 0.2),
        behaviour=np.zeros((*shape, 1), np.float32),
        memory=empty,
        valid=np.ones(shape, bool),
        episode_return=np.zeros(shape),
        episode_length=np.zeros(shape, int),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(1, 3),
    st.integers(2, 60),
    st.integers(1, 4),
    st.booleans(),
)
def test_it_keeps_what_a_list_keeps_and_sums_what_a_loop_sums(lengths, envs, capacity, n_step, prioritized):
    small = replay._SEGMENT_ROWS
    replay._SEGMENT_ROWS = (4, 8)
    try:
        kept = replay.empty(capacity, envs, KEY, prioritized)
        rows: list = []
        before = []
        for number, steps in enumerate(lengths):
            t = trajectory(steps, envs, len(rows), number)
            rows += zip(t.reward.ravel(), t.terminated.ravel(), (t.terminated | t.truncated).ravel(), strict=True)
            before.append((kept, kept.size))
            kept = replay.add(kept, t)
        alive = rows[-capacity:]
        assert kept.size == len(alive)
        drawn, after = replay.sample(kept, 3, 7, GAMMA, n_step, 0.4)
        assert after.draws == 1
        for at, observation, reward, following, discount in zip(
            *(
                x.reshape(21, -1)[:, 0]
                for x in (drawn.rows, drawn.observation, drawn.reward, drawn.next_observation, drawn.discount)
            ),
            strict=True,
        ):
            assert observation == alive[at][0]
            total, factor, last = 0.0, 1.0, at
            for step in range(n_step):
                position = at + step * envs
                if position >= len(alive):
                    break
                last = position
                total += factor * alive[position][0]
                factor *= GAMMA
                if alive[position][2]:
                    break
            assert reward == pytest.approx(total, rel=1e-5)
            assert following == pytest.approx(alive[last][0] + 0.5)
            assert discount == pytest.approx(0.0 if alive[last][1] else factor, rel=1e-5)
        # Older values hold what they held.
        for old, size in before:
            assert old.size == size
            if size:
                assert replay.sample(old, 1, 3, GAMMA)[0].reward.max() < len(rows)
    finally:
        replay._SEGMENT_ROWS = small


def test_what_is_drawn_depends_on_the_key_and_on_how_often_something_was_drawn():
    kept = replay.add(replay.empty(100, 2, KEY), trajectory(20, 2, 0))
    one, after = replay.sample(kept, 2, 5, GAMMA)
    again, _ = replay.sample(kept, 2, 5, GAMMA)
    other, _ = replay.sample(after, 2, 5, GAMMA)
    assert np.array_equal(one.rows, again.rows)
    assert not np.array_equal(one.rows, other.rows)


def test_greater_errors_are_drawn_more_often_and_weigh_less():
    kept = replay.add(replay.empty(100, 1, KEY, prioritized=True), trajectory(4, 1, 0))
    kept = replay.reprioritised(kept, np.arange(4), np.array([1.0, 1.0, 2.0, 4.0]))
    drawn, _ = replay.sample(kept, 1, 80_000, GAMMA, beta=1.0)
    shares = np.bincount(drawn.rows.ravel(), minlength=4) / 80_000
    assert shares == pytest.approx([0.125, 0.125, 0.25, 0.5], abs=0.01)
    weights = [drawn.weight[drawn.rows == row][0] for row in range(4)]
    assert weights == pytest.approx([1, 1, 0.5, 0.25], rel=1e-5)


def test_new_transitions_have_the_greatest_priority_so_far():
    kept = replay.add(replay.empty(100, 1, KEY, prioritized=True), trajectory(4, 1, 0))
    kept = replay.reprioritised(kept, np.arange(4), np.array([1.0, 5.0, 2.0, 4.0]))
    assert replay.add(kept, trajectory(2, 1, 4)).priority.tolist() == [1, 5, 2, 4, 5, 5]


def test_all_rows_are_drawn_alike():
    kept = replay.add(replay.empty(10, 1, KEY), trajectory(30, 1, 0))
    drawn, _ = replay.sample(kept, 1, 50_000, GAMMA)
    assert np.bincount(drawn.rows.ravel()) / 50_000 == pytest.approx([0.1] * 10, abs=0.01)
    assert set(np.unique(drawn.observation)) == set(range(20, 30))
