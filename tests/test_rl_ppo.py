"""PPO: its loss against numbers worked out by hand, its minibatches, its updates."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rl_envs

from graphray import rl
from graphray.rl import actor_critic, ppo, sequences
from graphray.rl.sgd import divided


@functools.cache
def setup(**more):
    with rl.PPO(rl_envs.Parity, train_batch_size=20, sgd_minibatch_size=6, num_sgd_iter=3, num_envs=2, **more) as made:
        return made.plan.setup


def hyper(**more):
    defaults = {"lr": 1e-3, "gamma": 0.9, "lambda_": 0.8, "clip_param": 0.2, "vf_loss_coeff": 0.0, "kl_target": 0.01}
    return {**defaults, "kl_coeff": 0.0, "entropy_coeff": 0.0, **more}


# -- the loss ----------------------------------------------------------------------------------------------------------


def loss_of(monkeypatch, probability, old, advantage, *, value=0.0, target=0.0, weight=None, before=0.0, **more):
    """The loss where the action taken had probability `old` and has `probability` now."""
    # In place of the network: its parameters are the logits and values themselves.
    monkeypatch.setattr(actor_critic, "evaluate", lambda _, params, __, ___: (params["logits"], params["value"]))
    probability, old, advantage = (jnp.asarray(x, jnp.float32) for x in (probability, old, advantage))
    count = len(probability)

    def logits(p):
        return jnp.log(jnp.stack([p, 1 - p], axis=-1))

    params = {"logits": logits(probability), "value": jnp.broadcast_to(jnp.float32(value), count)}
    batch = actor_critic.Batch(
        observation=jnp.zeros((count, 1)),
        action=jnp.zeros((count, 1), int),
        behaviour=logits(old),
        advantage=advantage,
        target=jnp.broadcast_to(jnp.float32(target), count),
        value=jnp.broadcast_to(jnp.float32(before), count),
        weight=jnp.ones(count) if weight is None else jnp.asarray(weight, jnp.float32),
        given=None,
    )
    used = setup()._replace(value_clip=more.pop("value_clip", None))
    numbers = hyper(**more)
    return ppo.loss(used, numbers, numbers["kl_coeff"], numbers["entropy_coeff"], params, batch)


def test_an_unchanged_policy_has_the_mean_advantage_which_is_normalised_to_zero(monkeypatch):
    total, metrics = loss_of(monkeypatch, [0.3, 0.6], [0.3, 0.6], [5.0, 1.0])
    assert total == pytest.approx(0, abs=1e-6)
    assert metrics.clip_fraction == 0
    assert metrics.kl == pytest.approx(0, abs=1e-6)


def test_the_ratio_is_clipped_where_that_is_worse(monkeypatch):
    # Normalised advantages are +1 and -1. Ratios 1.5 and 1.5: the gain is clipped to 1.2, the loss counts in full.
    _, metrics = loss_of(monkeypatch, [0.75, 0.75], [0.5, 0.5], [3.0, 1.0])
    assert metrics.policy_loss == pytest.approx(-(1.2 - 1.5) / 2, rel=1e-4)
    assert metrics.clip_fraction == 1
    # Ratios 0.5 and 0.5: the other way round.
    _, metrics = loss_of(monkeypatch, [0.25, 0.25], [0.5, 0.5], [3.0, 1.0])
    assert metrics.policy_loss == pytest.approx(-(0.5 - 0.8) / 2, rel=1e-4)
    # Ratio 1.1 is within reach of the clip, 1.5 is not.
    _, metrics = loss_of(monkeypatch, [0.55, 0.75], [0.5, 0.5], [3.0, 1.0])
    assert metrics.clip_fraction == 0.5


def test_the_divergence_from_the_old_policy_is_weighted(monkeypatch):
    total, metrics = loss_of(monkeypatch, [0.75, 0.75], [0.5, 0.5], [1.0, 1.0], kl_coeff=2.0)
    kl = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    assert metrics.kl == pytest.approx(kl, rel=1e-4)
    assert total - metrics.policy_loss == pytest.approx(2 * kl, rel=1e-4)


def test_value_loss_and_entropy_are_weighted_into_the_total(monkeypatch):
    total, metrics = loss_of(
        monkeypatch, [0.5, 0.5], [0.5, 0.5], [1.0, 2.0], value=1, target=4, vf_loss_coeff=0.5, entropy_coeff=0.1
    )
    assert metrics.vf_loss == pytest.approx(4.5)
    assert metrics.entropy == pytest.approx(np.log(2))
    assert total == pytest.approx(0.5 * 4.5 - 0.1 * np.log(2), rel=1e-5)


def test_a_value_is_kept_near_what_it_was(monkeypatch):
    _, metrics = loss_of(monkeypatch, [0.5], [0.5], [1.0], value=3, before=0, target=4, value_clip=0.5)
    assert metrics.vf_loss == pytest.approx(0.5 * 3.5**2)
    _, metrics = loss_of(monkeypatch, [0.5], [0.5], [1.0], value=3, before=2.8, target=4, value_clip=0.5)
    assert metrics.vf_loss == pytest.approx(0.5)


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
    index, weight = divided(order, 6)
    sizes = weight.sum(axis=1)
    assert len(sizes) == -(-count // 6)
    assert sizes.max() <= 6
    assert sizes.max() - sizes.min() <= 1
    assert sorted(np.asarray(index)[np.asarray(weight) == 1].tolist()) == list(range(count))


def test_the_weight_of_the_divergence_adapts():
    with rl.PPO(rl_envs.Parity, train_batch_size=64, kl_coeff=0.2, lr=0.0) as still:
        still.train()
        assert still.state.agent.kl_coeff == pytest.approx(0.1)  # nothing moved: halved
    with rl.PPO(rl_envs.Parity, train_batch_size=64, kl_coeff=0.2, lr=0.1, grad_clip=None) as moving:
        moving.train()
        assert moving.state.agent.kl_coeff == pytest.approx(0.3)


def test_schedules_follow_the_environments_steps():
    points = [[0, 1e-3], [128, 0.0]]
    with rl.PPO(rl_envs.Parity, train_batch_size=64, lr_schedule=points) as algorithm:
        algorithm.train()
        algorithm.train()
        before = jax.tree.map(np.copy, algorithm.get_policy().get_weights())
        algorithm.train()  # from step 128 on the rate is 0
        after = algorithm.get_policy().get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


def test_hyperparameters_that_are_traced_compile_nothing_anew():
    with rl.PPO(rl_envs.Parity, train_batch_size=32, lr=1e-3) as one:
        one.train()
        compiled = ppo.update._cache_size()
    with rl.PPO(rl_envs.Parity, train_batch_size=32, lr=2e-3, gamma=0.5, clip_param=0.1) as other:
        other.train()
    assert ppo.update._cache_size() == compiled


@pytest.mark.parametrize(
    "more",
    [
        {"use_critic": False},
        {"use_gae": False},
        {"shuffle_sequences": False},
        {"model": {"vf_share_layers": True}},
        {"vf_clip_param": 1.0},
        {"observation_filter": "MeanStdFilter", "reward_filter": True},
        {"clip_rewards": True},
        {"batch_mode": "complete_episodes"},
        {"optimizer": {"type": "rmsprop"}},
        {"entropy_coeff_schedule": [[0, 0.1], [1000, 0.0]]},
        {"batch_mode": "complete_episodes", "model": {"use_lstm": True, "lstm_cell_size": 8, "max_seq_len": 5}},
    ],
)
def test_every_way_to_learn_learns(more):
    with rl.PPO(rl_envs.Parity, train_batch_size=256, lr=1e-2, num_envs=4, **more) as algorithm:
        for _ in range(10):
            result = algorithm.train()
        assert algorithm.evaluate(episodes=5)["episode_reward_mean"] == 8
        assert np.isfinite(list(result["info"]["learner"].values())).all()


# -- sequences ---------------------------------------------------------------------------------------------------------


def lstm(**more):
    model = {"use_lstm": True, "lstm_cell_size": 6, "max_seq_len": 4, "fcnet_hiddens": [5], **more}
    return rl.PPO(rl_envs.Walk, train_batch_size=44, num_envs=4, num_shards=2, model=model)


@pytest.mark.parametrize("previous", [False, True])
def test_the_learner_sees_what_the_policy_has_seen(previous):
    """The distributions that a rollout recorded are those that the unrolled network gives, across ends of episodes."""
    from graphray.rl.rollout import concatenate
    from graphray.rl.training import collect

    with lstm(lstm_use_prev_action=previous, lstm_use_prev_reward=previous) as algorithm:
        plan, state = algorithm.plan, algorithm.state
        cursors = state.cursors
        weights = algorithm.weights(plan, state)
        for _ in range(2):  # the second rollout begins within episodes
            parts, cursors = zip(*(collect(at, plan, weights) for at in cursors), strict=True)
            trajectory = concatenate(parts)
            networks = plan.setup.networks
            policy = networks.policy
            given = sequences.sequences(policy, networks.distribution.layout, trajectory, 4)
            observation = sequences.cut(jnp.asarray(trajectory.observation), 4)
            outputs, _ = actor_critic.evaluate(networks, state.agent.params, observation, given)
            expected = sequences.cut(jnp.asarray(trajectory.behaviour), 4)
            there = np.asarray(sequences.cut(jnp.asarray(trajectory.valid), 4))
            assert np.allclose(np.asarray(outputs)[there], np.asarray(expected)[there], atol=1e-5)
            assert trajectory.terminated.any()


def test_pieces_are_put_together_again():
    steps = np.arange(11 * 3).reshape(11, 3)
    pieces = sequences.cut(jnp.asarray(steps), 4)
    assert pieces.shape == (9, 4)
    assert np.array_equal(sequences.uncut(pieces, steps, 4), steps)
