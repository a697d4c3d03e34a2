"""Distributions over actions against known values, and what is drawn against what should be."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from graphray.rl import keys
from graphray.rl.distributions import LOG_STD, ActionDistribution
from graphray.rl.spaces import action_layout


def over(space):
    return ActionDistribution(action_layout(space))


THREE = over(spaces.Discrete(3))
PLANE = over(spaces.Box(-1, 1, (2,)))
MIXED = over(spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,)), spaces.MultiDiscrete([2, 4])]))
THIRDS = np.log(np.array([0.5, 0.25, 0.25], np.float32))
MANY = keys.fold_in(keys.root(5), np.arange(20_000))


def drawn(distribution, parameters):
    noise = distribution.noise(MANY)
    return distribution.sample(np.broadcast_to(parameters, (len(MANY), distribution.size)), noise)


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_sizes():
    assert (THREE.size, THREE.noise_size) == (3, 3)
    assert (PLANE.size, PLANE.noise_size) == (4, 2)
    assert (MIXED.size, MIXED.noise_size) == (3 + 4 + 6, 3 + 2 + 6)
    for distribution in (THREE, PLANE, MIXED):
        noise = distribution.noise(MANY[:6].reshape(2, 3, 2))
        assert noise.shape == (2, 3, distribution.noise_size)
        parameters = np.zeros((2, 3, distribution.size), np.float32)
        action = distribution.sample(parameters, noise)
        assert action.shape == (2, 3, distribution.layout.size)
        assert action.dtype == distribution.layout.dtype
        for value in (
            distribution.log_prob(parameters, action),
            distribution.entropy(parameters),
            distribution.kl(parameters, parameters),
        ):
            assert value.shape == (2, 3)


# -- choices -----------------------------------------------------------------------------------------------------------


def test_known_values_of_a_choice():
    each = THREE.log_prob(jnp.broadcast_to(THIRDS, (3, 3)), jnp.arange(3)[:, None])
    np.testing.assert_allclose(jnp.exp(each), [0.5, 0.25, 0.25], rtol=1e-6)
    assert THREE.entropy(THIRDS) == pytest.approx(1.5 * np.log(2))
    uniform = np.zeros(3, np.float32)
    assert THREE.entropy(uniform) == pytest.approx(np.log(3))
    assert THREE.kl(THIRDS, uniform) == pytest.approx(np.log(3) - 1.5 * np.log(2))
    assert THREE.kl(THIRDS, THIRDS) == pytest.approx(0, abs=1e-7)
    assert THREE.sample(THIRDS, None).tolist() == [0]


def test_logits_may_be_shifted():
    assert THREE.log_prob(THIRDS + 100, np.array([1])) == pytest.approx(np.log(0.25), rel=1e-5)
    assert THREE.entropy(THIRDS + 100) == pytest.approx(1.5 * np.log(2), rel=1e-5)


def test_choices_are_as_frequent_as_they_should_be():
    actions = drawn(THREE, THIRDS)
    np.testing.assert_allclose(np.bincount(actions[:, 0]) / len(MANY), [0.5, 0.25, 0.25], atol=0.02)


@pytest.mark.parametrize("forbidden", [-np.inf, -1e9])
def test_an_impossible_choice_is_never_made_and_leaves_no_nan(forbidden):
    logits = np.array([0, forbidden, 0], np.float32)
    assert THREE.entropy(logits) == pytest.approx(np.log(2))
    assert THREE.kl(logits, np.zeros(3)) == pytest.approx(np.log(3) - np.log(2))
    assert THREE.log_prob(logits, np.array([1])) < -1e8
    assert set(np.unique(drawn(THREE, logits))) == {0, 2}
    slope = jax.grad(lambda logits: THREE.entropy(logits))(jnp.asarray(logits))
    assert np.isfinite(slope).all()


# -- numbers -----------------------------------------------------------------------------------------------------------


def parameters_of(mean, deviation):
    return np.concatenate([mean, np.log(deviation)]).astype(np.float32)


HERE = parameters_of([1.0, -2.0], [0.5, 2.0])
THERE = parameters_of([0.0, -1.0], [1.0, 1.0])


def test_known_values_of_numbers():
    # The density of each at its mean is 1 / (σ √2π); one deviation away it is √e times smaller.
    at_mean = -np.log(0.5) - np.log(2.0) - np.log(2 * np.pi)
    assert PLANE.log_prob(HERE, np.array([1.0, -2.0])) == pytest.approx(at_mean, rel=1e-6)
    assert PLANE.log_prob(HERE, np.array([1.5, -4.0])) == pytest.approx(at_mean - 1, rel=1e-6)
    assert PLANE.entropy(HERE) == pytest.approx(np.log(2 * np.pi * np.e) + np.log(0.5 * 2.0), rel=1e-6)
    # log(σ₂/σ₁) + (σ₁² + (μ₁ - μ₂)²) / 2σ₂² - 1/2, of both
    expected = (np.log(2) + (0.25 + 1) / 2 - 0.5) + (-np.log(2) + (4 + 1) / 2 - 0.5)
    assert PLANE.kl(HERE, THERE) == pytest.approx(expected, rel=1e-6)
    assert PLANE.kl(HERE, HERE) == pytest.approx(0, abs=1e-6)
    np.testing.assert_array_equal(PLANE.sample(HERE, None), [1, -2])


def test_numbers_are_spread_as_they_should_be():
    actions = drawn(PLANE, HERE)
    np.testing.assert_allclose(actions.mean(axis=0), [1, -2], atol=0.05)
    np.testing.assert_allclose(actions.std(axis=0), [0.5, 2], rtol=0.03)
    assert abs(np.corrcoef(actions.T)[0, 1]) < 0.03


def test_deviations_are_kept_within_bounds():
    for number, bound in zip((-50.0, 50.0), LOG_STD, strict=True):
        far, edge = (np.array([0, 0, x, x], np.float32) for x in (number, bound))
        assert PLANE.entropy(far) == PLANE.entropy(edge)
        assert PLANE.log_prob(far, np.zeros(2)) == PLANE.log_prob(edge, np.zeros(2))
        noise = np.ones(2, np.float32)
        np.testing.assert_array_equal(PLANE.sample(far, noise), PLANE.sample(edge, noise))


# -- of everything together --------------------------------------------------------------------------------------------

numbers = st.floats(-3, 3, width=32)
all_parameters = st.lists(numbers, min_size=MIXED.size, max_size=MIXED.size).map(lambda x: np.array(x, np.float32))


@settings(max_examples=25)
@given(one=all_parameters, other=all_parameters)
def test_of_independent_parts_it_is_the_sum(one, other):
    parts = [
        (THREE, slice(0, 3), slice(0, 1)),
        (PLANE, slice(3, 7), slice(1, 3)),
        (over(spaces.Discrete(2)), slice(7, 9), slice(3, 4)),
        (over(spaces.Discrete(4)), slice(9, 13), slice(4, 5)),
    ]
    action = np.array([2, 0.5, -1, 1, 3], np.float32)
    for name, arguments, cuts in (
        ("log_prob", (one, action), lambda p, a: (one[p], action[a])),
        ("entropy", (one,), lambda p, a: (one[p],)),
        ("kl", (one, other), lambda p, a: (one[p], other[p])),
    ):
        expected = sum(float(getattr(part, name)(*cuts(p, a))) for part, p, a in parts)
        assert getattr(MIXED, name)(*arguments) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@settings(max_examples=25)
@given(one=all_parameters, other=all_parameters)
def test_the_divergence_is_never_negative(one, other):
    assert MIXED.kl(one, other) >= -1e-4


def test_entropy_and_divergence_are_means_of_what_is_drawn():
    rng = np.random.default_rng(0)
    one, other = (rng.normal(size=MIXED.size).astype(np.float32) * 0.5 for _ in range(2))
    actions = drawn(MIXED, one)
    mine = np.asarray(MIXED.log_prob(np.broadcast_to(one, (len(MANY), MIXED.size)), actions))
    theirs = np.asarray(MIXED.log_prob(np.broadcast_to(other, (len(MANY), MIXED.size)), actions))
    assert -mine.mean() == pytest.approx(float(MIXED.entropy(one)), abs=0.06)
    assert (mine - theirs).mean() == pytest.approx(float(MIXED.kl(one, other)), abs=0.06)


@pytest.mark.parametrize("distribution", [THREE, PLANE, MIXED])
def test_actions_are_drawn_on_the_host_as_in_traced_code(distribution):
    rng = np.random.default_rng(1)
    parameters = rng.normal(size=(50, distribution.size)).astype(np.float32)
    noise = distribution.noise(MANY[:50])
    here = distribution.sample(parameters, noise)
    traced = jax.jit(lambda p, n: distribution.sample(p, n, jnp))(parameters, noise)
    np.testing.assert_allclose(here, traced, rtol=1e-6, atol=1e-6)
    assert here.dtype == traced.dtype


def test_the_noise_of_an_action_hangs_on_its_key_alone():
    for distribution in (THREE, PLANE, MIXED):
        np.testing.assert_array_equal(distribution.noise(MANY[:9])[7], distribution.noise(MANY[7]))
        assert len(np.unique(distribution.noise(MANY[7]))) == distribution.noise_size
