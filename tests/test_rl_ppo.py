"""PPO: its loss against numbers worked out by hand, its minibatches, and that it learns."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rl_envs

from graphray.rl import cursor, host, keys, ppo
from graphray.rl.environments import register
from graphray.rl.rollout import rollout

CONFIG = ppo.Config(num_actions=2, hidden=(8,), epochs=3, minibatch_size=6)


def agent(config=CONFIG, shape=(2,), seed=0, **hyper):
    return jax.device_get(ppo.init(config, ppo.Hyperparameters(**hyper), shape, keys.root(seed)))


@functools.cache
def parity():
    return register(rl_envs.Parity)


def trajectory(state, env=None, steps=10, seed=0):
    env = env or parity()
    at = cursor.start(env, keys.root(seed), np.arange(2))
    return rollout(env, host.CategoricalMLP(env.num_actions), state.params["actor"], at, steps)[0]


# -- the loss ----------------------------------------------------------------------------------------------------------


def loss_of(monkeypatch, probability, old, advantage, *, value=0.0, target=0.0, weight=None, **hyper):
    """The loss where the action taken had probability `old` and has `probability` now."""
    # In place of the network: its parameters are the logits and values themselves.
    monkeypatch.setattr(ppo, "network", lambda _, params, __: (ppo.Categorical(params["logits"]), params["value"]))
    probability, old, advantage = (jnp.asarray(x, jnp.float32) for x in (probability, old, advantage))
    count = len(probability)
    params = {
        "logits": jnp.log(jnp.stack([probability, 1 - probability], axis=-1)),
        "value": jnp.broadcast_to(jnp.float32(value), count),
    }
    batch = ppo.Minibatch(
        observation=jnp.zeros((count, 1)),
        action=jnp.zeros(count, int),
        log_prob=jnp.log(old),
        advantage=advantage,
        target=jnp.broadcast_to(jnp.float32(target), count),
        weight=jnp.ones(count) if weight is None else jnp.asarray(weight, jnp.float32),
    )
    return ppo.loss(CONFIG, ppo.Hyperparameters(**hyper), params, batch)


def test_an_unchanged_policy_has_the_mean_advantage_which_is_normalised_to_zero(monkeypatch):
    total, metrics = loss_of(monkeypatch, [0.3, 0.6], [0.3, 0.6], [5.0, 1.0])
    assert total == pytest.approx(0, abs=1e-6)
    assert metrics.clip_fraction == 0
    assert metrics.approximate_kl == pytest.approx(0, abs=1e-6)


def test_the_ratio_is_clipped_where_that_is_worse(monkeypatch):
    # Normalised advantages are +1 and -1. Ratios 1.5 and 1.5: the gain is clipped to 1.2, the loss counts in full.
    _, metrics = loss_of(monkeypatch, [0.75, 0.75], [0.5, 0.5], [3.0, 1.0], clip=0.2)
    assert metrics.policy_loss == pytest.approx(-(1.2 - 1.5) / 2, rel=1e-4)
    assert metrics.clip_fraction == 1
    # Ratios 0.5 and 0.5: the other way round.
    _, metrics = loss_of(monkeypatch, [0.25, 0.25], [0.5, 0.5], [3.0, 1.0], clip=0.2)
    assert metrics.policy_loss == pytest.approx(-(0.5 - 0.8) / 2, rel=1e-4)
    # Ratio 1.1 is within reach of the clip, 1.5 is not.
    _, metrics = loss_of(monkeypatch, [0.55, 0.75], [0.5, 0.5], [3.0, 1.0], clip=0.2)
    assert metrics.clip_fraction == 0.5
    assert metrics.approximate_kl == pytest.approx((0.1 - np.log(1.1) + 0.5 - np.log(1.5)) / 2, rel=1e-4)


def test_value_loss_and_entropy_are_weighted_into_the_total(monkeypatch):
    total, metrics = loss_of(
        monkeypatch,
        [0.5, 0.5],
        [0.5, 0.5],
        [1.0, 2.0],
        value=1,
        target=4,
        value_coefficient=0.5,
        entropy_coefficient=0.1,
    )
    assert metrics.value_loss == pytest.approx(4.5)
    assert metrics.entropy == pytest.approx(np.log(2))
    assert total == pytest.approx(0.5 * 4.5 - 0.1 * np.log(2), rel=1e-5)


def test_entries_of_weight_zero_do_not_count(monkeypatch):
    plain = loss_of(monkeypatch, [0.75, 0.4], [0.5, 0.5], [3.0, 1.0], value=1, target=2)
    filled = loss_of(
        monkeypatch, [0.75, 0.4, 0.9], [0.5, 0.5, 0.1], [3.0, 1.0, 99.0], value=1, target=2, weight=[1, 1, 0]
    )
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(filled), strict=True):
        assert one == pytest.approx(float(other), rel=1e-5)


# -- minibatches and updates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 5, 6, 7, 12, 13, 20])
def test_minibatches_need_not_divide_the_batch_and_use_each_transition_once(count):
    order = jax.random.permutation(jax.random.key(0), count)
    index, weight = ppo._minibatches(order, 6)
    sizes = weight.sum(axis=1)
    assert len(sizes) == -(-count // 6)
    assert sizes.max() <= 6
    assert sizes.max() - sizes.min() <= 1
    assert sorted(np.asarray(index)[np.asarray(weight) == 1].tolist()) == list(range(count))


def test_an_update_is_a_function_of_its_arguments_and_changes_none():
    state = agent()
    batch = trajectory(state)
    before = pickle.dumps((state, batch))
    one = jax.device_get(ppo.update(CONFIG, state, batch))
    other = jax.device_get(ppo.update(CONFIG, *pickle.loads(before)))
    assert pickle.dumps((state, batch)) == before
    assert all(a.tobytes() == b.tobytes() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    after, metrics = one
    assert after.updates == 1
    assert np.isfinite(jax.tree.leaves(metrics)).all()
    assert not np.array_equal(after.params["actor"]["head"]["kernel"], state.params["actor"]["head"]["kernel"])


def test_each_update_shuffles_anew():
    state = agent()
    batch = trajectory(state)
    one, _ = ppo.update(CONFIG, state, batch)
    other, _ = ppo.update(CONFIG, state._replace(updates=np.uint32(1)), batch)
    assert not np.array_equal(one.params["critic"]["head"]["kernel"], other.params["critic"]["head"]["kernel"])


def test_hyperparameters_are_traced_and_compile_nothing_anew():
    state = agent()
    batch = trajectory(state)
    ppo.update(CONFIG, state, batch)
    compiled = ppo.update._cache_size()
    faster = state._replace(hyper=state.hyper | {"learning_rate": np.float32(0.1), "gamma": np.float32(0.5)})
    after, _ = ppo.update(CONFIG, faster, batch)
    slow, _ = ppo.update(CONFIG, state, batch)
    assert ppo.update._cache_size() == compiled
    moved = [
        np.abs(s.params["actor"]["head"]["kernel"] - state.params["actor"]["head"]["kernel"]).max()
        for s in (after, slow)
    ]
    assert moved[0] > 10 * moved[1]


def test_several_agents_are_one_program_with_one_more_axis():
    states = [agent(seed=seed) for seed in (0, 1)]
    batches = [trajectory(state) for state in states]
    stack = functools.partial(jax.tree.map, lambda *x: np.stack(x))
    together, _ = jax.vmap(functools.partial(ppo.update, CONFIG))(stack(*states), stack(*batches))
    for number, (state, batch) in enumerate(zip(states, batches, strict=True)):
        alone, _ = ppo.update(CONFIG, state, batch)
        for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(together.params), strict=True):
            np.testing.assert_allclose(a, b[number], rtol=1e-3, atol=1e-4)


def test_the_learning_rate_falls_to_zero():
    state = agent(decay_updates=4)
    batch = trajectory(state)
    last, _ = ppo.update(CONFIG, state._replace(updates=np.uint32(4)), batch)
    for a, b in zip(jax.tree.leaves(last.params), jax.tree.leaves(state.params), strict=True):
        assert np.array_equal(a, b)


def test_act_draws_what_the_host_draws():
    state = agent(ppo.Config(2), shape=(4,))
    observation = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    key = keys.fold_in(keys.root(3), np.arange(50))
    action, distribution = jax.jit(ppo.act, static_argnums=0)(ppo.Config(2), state.params, observation, key)
    policy = host.CategoricalMLP(2)
    on_host, logits = policy.act(state.params["actor"], observation, policy.noise(key))
    np.testing.assert_allclose(distribution.logits, logits, rtol=1e-4, atol=1e-6)
    assert np.array_equal(action, on_host)


def test_an_agent_can_be_read_by_a_process_without_jax():
    state = agent()
    program = "import pickle, sys; print(len(pickle.load(sys.stdin.buffer)), 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(state), capture_output=True, check=True)
    assert done.stdout.split() == [b"5", b"False"]


# -- learning ----------------------------------------------------------------------------------------------------------


def test_it_learns_to_tell_two_lights_apart():
    env, config = parity(), ppo.Config(2, hidden=(16,), epochs=4, minibatch_size=64)
    state = agent(config, learning_rate=1e-2)
    at = cursor.start(env, keys.root(1), np.arange(4))
    policy = host.CategoricalMLP(2)
    for _ in range(12):
        batch, at = rollout(env, policy, state.params["actor"], at, 32)
        state, _ = jax.device_get(ppo.update(config, state, batch))
    assert np.mean(rollout(env, policy, state.params["actor"], at, 64)[0].reward) > 0.95
