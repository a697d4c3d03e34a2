"""The actor-critic network, and the same function in NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graphray.rl import host, keys
from graphray.rl.distributions import Categorical
from graphray.rl.networks import ActorCritic


@pytest.fixture(scope="module")
def params():
    return ActorCritic(3, (16, 8)).init(jax.random.key(0), jnp.zeros((1, 4)))["params"]


def test_shapes_and_heads(params):
    policy, value = ActorCritic(3, (16, 8)).apply({"params": params}, jnp.ones((5, 4)))
    assert isinstance(policy, Categorical)
    assert policy.logits.shape == (5, 3)
    assert value.shape == (5,)
    alone = ActorCritic(3, (16, 8)).apply({"params": params}, jnp.ones((5, 4)), method="policy")
    assert np.array_equal(alone.logits, policy.logits)
    assert {name: layer["kernel"].shape for name, layer in params["actor"].items()} == {
        "hidden_0": (4, 16),
        "hidden_1": (16, 8),
        "head": (8, 3),
    }


def test_weights_are_orthogonal_and_the_first_policy_is_almost_uniform(params):
    kernel = np.asarray(params["critic"]["hidden_1"]["kernel"])
    np.testing.assert_allclose(kernel.T @ kernel, 2 * np.eye(8), atol=1e-5)
    assert all(not layer["bias"].any() for net in params.values() for layer in net.values())
    policy, _ = ActorCritic(3, (16, 8)).apply({"params": params}, 10 * jax.random.normal(jax.random.key(1), (50, 4)))
    assert policy.entropy().min() > 0.999 * np.log(3)


def test_observations_of_any_shape_are_flattened():
    net = ActorCritic(2)
    params = net.init(jax.random.key(0), jnp.zeros((1, 2, 3)))
    assert net.apply(params, jnp.zeros((7, 2, 3)))[1].shape == (7,)


def test_numpy_computes_the_same_function(params):
    observation = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    actor = jax.device_get(params["actor"])
    policy, value = ActorCritic(3, (16, 8)).apply({"params": params}, observation)
    np.testing.assert_allclose(host.mlp(actor, observation), policy.logits, rtol=1e-5, atol=1e-6)
    assert host.mlp(actor, observation).dtype == np.float32
    critic = jax.device_get(params["critic"])
    np.testing.assert_allclose(host.mlp(critic, observation)[:, 0], value, rtol=1e-5, atol=1e-6)


def test_numpy_draws_the_actions_that_jax_draws():
    actor = {"head": {"kernel": np.eye(4, 3, dtype=np.float32), "bias": np.array([0.5, 0, -0.5], np.float32)}}
    policy = host.CategoricalMLP(3)
    key = keys.fold_in(keys.root(5), np.arange(200))
    observation = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    actions, logits = policy.act(actor, observation, policy.noise(key))
    expected = jax.vmap(jax.random.categorical)(jax.random.wrap_key_data(key), logits)
    assert np.array_equal(actions, expected)
    assert len(set(actions.tolist())) == 3
    best, _ = policy.act(actor, observation, 0.0)
    assert np.array_equal(best, Categorical(logits).mode())


def test_acting_changes_neither_observations_nor_parameters():
    actor = {
        name: {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)} for name in ("hidden_0", "head")
    }
    for layer in actor.values():
        for array in layer.values():
            array.flags.writeable = False
    observation = np.zeros((2, 2), np.float32)
    observation.flags.writeable = False
    _, logits = host.CategoricalMLP(2).act(actor, observation, 0.0)
    np.testing.assert_allclose(logits, 2 * np.tanh(1) + 1, rtol=1e-6)
