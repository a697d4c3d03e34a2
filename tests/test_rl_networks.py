"""Networks: what flax makes of them and what NumPy makes of them on the host is the same."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from gymnasium import spaces

from graphray.rl import host, networks
from graphray.rl.architecture import Architecture, architecture, vector, with_action
from graphray.rl.distributions import ActionDistribution
from graphray.rl.spaces import action_layout, observation_layout

ROWS = 5


def both(spec, observation, memory=None, seed=0):
    """What a network gives by JAX, and on the host."""
    params = jax.device_get(networks.init(spec, jax.random.key(seed)))
    params = jax.tree.map(lambda x: x + np.random.default_rng(1).normal(size=x.shape).astype(x.dtype) * 0.1, params)
    memory = np.zeros((len(observation), spec.memory), np.float32) if memory is None else memory
    traced = networks.Network(spec).apply({"params": params}, observation, memory)
    return [np.asarray(x) for x in traced], host.forwarding(spec, {"policy": params})(observation, memory)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("activation", ["tanh", "relu", "swish", "elu", "gelu", "linear"])
@pytest.mark.parametrize("hidden", [(), (7,), (8, 6, 4)])
def test_dense_networks_are_the_same_on_the_host(activation, hidden):
    spec = Architecture(vector(3), 4, hidden=hidden, activation=activation, free=2)
    traced, there = both(spec, numbers(ROWS, 3))
    assert traced[0].shape == (ROWS, 6)
    for one, other in zip(traced, there, strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_an_lstm_is_the_same_on_the_host():
    spec = Architecture(vector(3), 4, hidden=(5,), lstm=6, previous_action=2, previous_reward=1)
    assert spec.memory == 15
    traced, there = both(spec, numbers(ROWS, 3), numbers(ROWS, 15, seed=1))
    for one, other in zip(traced, there, strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_a_mask_is_not_seen_by_the_network_and_forbids_actions():
    space = spaces.Dict({"action_mask": spaces.MultiBinary(3), "observations": spaces.Box(-1, 1, (2,))})
    layout = observation_layout(space)
    distribution = ActionDistribution(action_layout(spaces.Discrete(3)))
    spec = architecture(layout, 3, {})
    observation = numbers(ROWS, 5)
    observation[:, :3] = np.eye(3)[[0, 1, 2, 0, 1]]
    traced, there = both(spec, observation)
    assert np.allclose(traced[0], there[0], atol=1e-5)
    logits = networks.mask_logits(layout, distribution, traced[0], observation)
    assert np.argmax(logits, axis=-1).tolist() == [0, 1, 2, 0, 1]
    policy = host.NetworkPolicy(spec, distribution)
    params = {"policy": jax.device_get(networks.init(spec, jax.random.key(0)))}
    for seed in range(20):
        noise = 100 * numbers(ROWS, 3, seed=seed)
        action = policy.acting(params)(observation, np.zeros((ROWS, 0), np.float32), noise)[0]
        assert action[:, 0].tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (84, 84, 4), np.uint8),
        spaces.Box(0, 255, (40, 36, 3), np.uint8),
        spaces.Box(0, 255, (10, 10, 1), np.uint8),
        spaces.Box(0, 255, (3, 3, 1), np.uint8),
        spaces.Dict({"camera": spaces.Box(0, 255, (16, 16, 3), np.uint8), "speed": spaces.Box(-1, 1, (2,))}),
        spaces.Sequence(spaces.Box(-1, 1, (3,))),
        spaces.Tuple([spaces.Sequence(spaces.Discrete(3)), spaces.Discrete(4)]),
    ],
)
def test_images_and_sequences_have_networks(space):
    layout = observation_layout(space)
    spec = architecture(layout, 3, {})
    assert not spec.plain
    observation = np.zeros((ROWS, *layout.shape), layout.dtype)
    traced, there = both(spec, observation)
    assert traced[0].shape == there[0].shape == (ROWS, 3)
    assert with_action(layout, 2).shape == (int(np.prod(layout.shape)) + 2,)


def test_dueling_outputs_have_the_values_mean():
    spec = Architecture(vector(3), 4, dueling=True)
    params = networks.init(spec, jax.random.key(0))
    x = numbers(ROWS, 3)
    outputs, features = networks.forward(spec, params, x)
    value = features @ params["value"]["kernel"] + params["value"]["bias"]
    assert np.allclose(outputs.mean(-1), value[:, 0], atol=1e-5)
    # The best action is the same with the advantages alone, which is what the host looks at.
    there, _, _ = host.forwarding(spec, {"policy": jax.device_get(params)})(x, np.zeros((ROWS, 0), np.float32))
    assert np.argmax(there, -1).tolist() == np.argmax(outputs, -1).tolist()


def test_a_custom_model_that_does_not_fit_is_said():
    import flax.linen as nn

    class Wrong(nn.Module):
        @nn.compact
        def __call__(self, observation):
            return nn.Dense(7)(observation)

    spec = architecture(vector(3), 2, {"custom_model": Wrong})
    with pytest.raises(ValueError, match="custom_model Wrong gave an array"):
        networks.init(spec, jax.random.key(0))
    with pytest.raises(ValueError, match="there is no module"):
        architecture(vector(3), 2, {"custom_model": "no_such_module.Model"})


def test_observations_are_normalised_on_the_host_as_in_traced_code():
    spec = Architecture(vector(3), 2)
    params = jax.device_get(networks.init(spec, jax.random.key(0)))
    given = {"mean": numbers(3), "deviation": np.abs(numbers(3, seed=3)) + 0.5}
    x = 5 * numbers(ROWS, 3)
    there, _, _ = host.forwarding(spec, {"policy": params, "filter": given})(x, np.zeros((ROWS, 0), np.float32))
    traced, _ = networks.forward(spec, params, networks.normalised(given, x))
    assert np.allclose(there, traced, atol=1e-5)
