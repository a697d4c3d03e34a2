"""The categorical distribution against known values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphray.rl.distributions import Categorical

THIRDS = Categorical(jnp.log(jnp.array([0.5, 0.25, 0.25])))


def test_known_values():
    np.testing.assert_allclose(jnp.exp(jax.vmap(THIRDS.log_prob)(jnp.arange(3))), [0.5, 0.25, 0.25], rtol=1e-6)
    assert THIRDS.entropy() == pytest.approx(1.5 * np.log(2))
    assert THIRDS.mode() == 0
    uniform = Categorical(jnp.zeros(3))
    assert uniform.entropy() == pytest.approx(np.log(3))
    assert THIRDS.kl(uniform) == pytest.approx(np.log(3) - 1.5 * np.log(2))
    assert THIRDS.kl(THIRDS) == pytest.approx(0, abs=1e-7)


def test_logits_may_be_shifted():
    shifted = Categorical(THIRDS.logits + 100.0)
    np.testing.assert_allclose(shifted.log_prob(jnp.array(1)), np.log(0.25), rtol=1e-5)
    assert shifted.entropy() == pytest.approx(float(THIRDS.entropy()), rel=1e-5)


def test_samples_are_as_frequent_as_they_should_be():
    batch = Categorical(jnp.broadcast_to(THIRDS.logits, (20_000, 3)))
    actions = batch.sample(jax.random.key(0))
    assert actions.shape == (20_000,)
    np.testing.assert_allclose(np.bincount(actions) / 20_000, [0.5, 0.25, 0.25], atol=0.02)


def test_an_impossible_action_is_never_taken_and_leaves_no_nan():
    masked = Categorical(jnp.array([0.0, -jnp.inf, 0.0]))
    assert masked.entropy() == pytest.approx(np.log(2))
    assert masked.kl(Categorical(jnp.zeros(3))) == pytest.approx(np.log(3) - np.log(2))
    assert masked.log_prob(jnp.array(1)) == -jnp.inf
    actions = Categorical(jnp.broadcast_to(masked.logits, (1_000, 3))).sample(jax.random.key(1))
    assert set(np.unique(actions)) == {0, 2}
    slope = jax.grad(lambda logits: Categorical(logits).entropy())(masked.logits)
    assert np.isfinite(slope).all()


def test_it_is_a_pytree():
    doubled = jax.jit(lambda d: jax.tree.map(lambda x: 2 * x, d))(THIRDS)
    assert isinstance(doubled, Categorical)
    np.testing.assert_allclose(doubled.logits, 2 * THIRDS.logits)
