"""Generalised advantage estimation against numbers worked out by hand, and a plain loop."""

from __future__ import annotations

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphray.rl.gae import gae

jitted = jax.jit(gae)


def run(reward, value, next_value, terminated, truncated, gamma, lambda_):
    floats = (np.asarray(x, np.float32) for x in (reward, value, next_value))
    flags = (np.asarray(x, bool) for x in (terminated, truncated))
    return jitted(*floats, *flags, gamma, lambda_)


def test_three_steps_by_hand():
    # deltas: 1 + 0.5*4 - 2 = 1, 2 + 0.5*6 - 4 = 1, 3 + 0.5*8 - 6 = 1; each advantage is 1 + 0.25 of the next.
    result = run([1, 2, 3], [2, 4, 6], [4, 6, 8], [0, 0, 0], [0, 0, 0], 0.5, 0.5)
    np.testing.assert_allclose(result.advantage, [1.3125, 1.25, 1.0])
    np.testing.assert_allclose(result.target, [3.3125, 5.25, 7.0])


def test_a_terminated_episode_has_no_value_after_its_end():
    # As above, but the second step ends the episode: its delta is 2 - 4 = -2, and nothing of the third comes back.
    result = run([1, 2, 3], [2, 4, 6], [4, 100, 8], [0, 1, 0], [0, 0, 0], 0.5, 0.5)
    np.testing.assert_allclose(result.advantage, [1 + 0.25 * -2, -2.0, 1.0])


def test_a_truncated_episode_keeps_the_value_of_where_it_was_cut():
    # The same step is cut off instead: its delta is 2 + 0.5*100 - 4 = 48, and the trace stops there all the same.
    result = run([1, 2, 3], [2, 4, 6], [4, 100, 8], [0, 0, 0], [0, 1, 0], 0.5, 0.5)
    np.testing.assert_allclose(result.advantage, [1 + 0.25 * 48, 48.0, 1.0])


def test_a_step_that_is_both_counts_as_terminated():
    result = run([2], [4], [100], [1], [1], 0.5, 0.5)
    np.testing.assert_allclose(result.advantage, [-2.0])


def test_lambda_one_is_the_discounted_return_and_lambda_zero_one_step():
    reward, value = np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0, 7.0])
    following = np.array([5.0, 7.0, 9.0])
    whole = run(reward, value, following, [0, 0, 0], [0, 0, 0], 0.5, 1.0)
    returns = [1 + 0.5 * (2 + 0.5 * (4 + 0.5 * 9)), 2 + 0.5 * (4 + 0.5 * 9), 4 + 0.5 * 9]
    np.testing.assert_allclose(whole.target, returns)
    np.testing.assert_allclose(whole.advantage, returns - value)
    one = run(reward, value, following, [0, 0, 0], [0, 0, 0], 0.5, 0.0)
    np.testing.assert_allclose(one.advantage, reward + 0.5 * following - value)


def by_the_book(reward, value, next_value, terminated, truncated, gamma, lambda_):
    """The sum over future deltas, written as the sum it is, for one environment."""
    advantages = []
    for t in range(len(reward)):
        total, weight = 0.0, 1.0
        for k in range(t, len(reward)):
            total += weight * (reward[k] + gamma * (not terminated[k]) * next_value[k] - value[k])
            if terminated[k] or truncated[k]:
                break
            weight *= gamma * lambda_
        advantages.append(total)
    return advantages


@given(
    seed=st.integers(0, 2**32 - 1), length=st.sampled_from([1, 2, 12]), gamma=st.floats(0, 1), lambda_=st.floats(0, 1)
)
def test_it_is_the_sum_in_the_book_for_each_environment(seed, length, gamma, lambda_):
    rng = np.random.default_rng(seed)
    floats = [rng.normal(size=(length, 2)).astype(np.float32) for _ in range(3)]
    flags = [rng.random((length, 2)) < 0.25 for _ in range(2)]
    result = jitted(*floats, *flags, gamma, lambda_)
    for column in range(2):
        expected = by_the_book(*(x[:, column] for x in (*floats, *flags)), gamma, lambda_)
        np.testing.assert_allclose(result.advantage[:, column], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.target, result.advantage + floats[1], rtol=1e-5, atol=1e-6)


def test_it_can_be_differentiated_through_and_mapped():
    shape = (3, 4)
    arrays = [np.ones((5, *shape), np.float32)] * 3 + [np.zeros((5, *shape), bool)] * 2
    mapped = jax.vmap(gae, in_axes=(0, 0, 0, 0, 0, None, None))(*arrays, 0.9, 0.9)
    assert mapped.advantage.shape == (5, *shape)
    slope = jax.grad(lambda gamma: gae(*(x[0] for x in arrays), gamma, 0.9).advantage.sum())(0.9)
    assert np.isfinite(slope)
    assert slope > 0
