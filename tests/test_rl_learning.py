"""That the algorithms learn: small tasks with known answers, and every kind of space."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import rl_envs
from gymnasium import spaces

from graphray import rl


class Copy(gymnasium.Env):
    """Solved by doing what is shown: 1 for each of 8 right answers, less by the distance where these are numbers."""

    def __init__(self, action_space):
        self.action_space = action_space
        self.observation_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.ask(), {}

    def ask(self):
        self.action_space.seed(int(self.np_random.integers(2**31)))
        self.shown = self.action_space.sample()
        return self.shown

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        wanted, given = (spaces.flatten(self.action_space, x).astype(float) for x in (self.shown, action))
        return self.ask(), 1.0 - float(np.abs(wanted - given).mean()), self.t == 8, False, {}


DISCRETE = [
    spaces.Discrete(3, start=2),
    spaces.MultiDiscrete([2, 3]),
    spaces.MultiBinary(3),
    spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)]),
    spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Dict({"c": spaces.Discrete(3)})}),
]
CONTINUOUS = [
    spaces.Box(-1, 1, (1,)),
    spaces.Box(np.array([0, -5], np.float32), np.array([10, 5], np.float32)),
    spaces.Box(0, 1, (2, 2)),
]
MIXED = [spaces.Tuple([spaces.Discrete(2), spaces.Box(-1, 1, (2,))])]


def best(algorithm):
    return algorithm.evaluate(episodes=10)["episode_reward_mean"]


def learned(algorithm, goal, steps):
    """Whether the best actions reach a mean return within so many steps."""
    while algorithm.state.progress.steps < steps:
        algorithm.train()
        if best(algorithm) >= goal:
            return True
    return False


@pytest.mark.parametrize("space", DISCRETE, ids=str)
def test_ppo_copies_choices(space):
    with rl.PPO(Copy, env_config={"action_space": space}, train_batch_size=256, lr=1e-2) as algorithm:
        assert learned(algorithm, 7.9, 8000)


@pytest.mark.parametrize("space", [*CONTINUOUS[:1], *MIXED], ids=str)
def test_ppo_copies_numbers(space):
    with rl.PPO(Copy, env_config={"action_space": space}, train_batch_size=512, lr=5e-3) as algorithm:
        assert learned(algorithm, 7.0, 30_000)


@pytest.mark.parametrize("more", [{}, {"double_q": False, "dueling": False, "n_step": 1}, {"prioritized_replay": True}])
def test_dqn_copies_a_choice(more):
    config = {"learning_starts": 100, "timesteps_per_iteration": 256, "model": {"fcnet_hiddens": [64]}, "gamma": 0.5}
    exploration = {"epsilon_timesteps": 500}
    with rl.DQN(
        Copy,
        {**config, **more},
        env_config={"action_space": spaces.Discrete(3)},
        exploration_config=exploration,
        num_envs=4,
        rollout_fragment_length=8,
    ) as algorithm:
        assert learned(algorithm, 7.9, 4000)


@pytest.mark.parametrize("space", CONTINUOUS, ids=str)
@pytest.mark.parametrize("more", [{}, {"use_sde": True}, {"exploration_config": {"type": "OrnsteinUhlenbeckNoise"}}])
def test_sac_copies_numbers(space, more):
    if more and space is not CONTINUOUS[0]:
        pytest.skip("one space for each other way to explore")
    config = {"learning_starts": 100, "timesteps_per_iteration": 256, "train_batch_size": 64, "training_intensity": 64}
    model = {"fcnet_hiddens": [32, 32]}
    env = {"action_space": space}
    with rl.SAC(Copy, {**config, **more}, env_config=env, gamma=0.5, lr=3e-3, num_envs=4, model=model) as algorithm:
        reach = float(np.mean(space.high - space.low))
        assert learned(algorithm, 8 * (1 - 0.15 * reach), 6000)


def test_an_lstm_remembers():
    config = {"train_batch_size": 1024, "num_envs": 8, "sgd_minibatch_size": 256, "lr": 5e-3}
    model = {"use_lstm": True, "lstm_cell_size": 16, "fcnet_hiddens": [16], "max_seq_len": 16}
    with rl.PPO("RepeatAfterMeEnv", config, env_config={"repeat_delay": 1}, model=model) as algorithm:
        assert learned(algorithm, 85, 60_000)


def test_masks_are_obeyed_while_learning():
    """An action that is not allowed raises in this environment."""
    with rl.PPO("MaskedCorridor", train_batch_size=512, lr=5e-3) as ppo:
        assert learned(ppo, -0.2, 20_000)
    with rl.DQN("MaskedCorridor", learning_starts=64, timesteps_per_iteration=256) as dqn:
        dqn.train()
        dqn.train()
        dqn.evaluate(episodes=2)
    model = {"use_lstm": True, "lstm_cell_size": 8}
    with rl.PPO("MaskedCorridor", train_batch_size=256, model=model) as lstm:
        lstm.train()
        lstm.evaluate(episodes=2)


class Pictures(gymnasium.Env):
    """Solved by saying which half of a picture is bright."""

    action_space = spaces.Discrete(2)

    def __init__(self, kind="image"):
        image = spaces.Box(0, 255, (8, 8, 1), np.uint8)
        number = spaces.Box(-1, 1, (1,))
        self.kind = kind
        self.observation_space = {
            "image": image,
            "dict": spaces.Dict({"image": image, "number": number}),
            "sequence": spaces.Sequence(number),
        }[kind]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.ask(), {}

    def ask(self):
        self.side = int(self.np_random.integers(2))
        image = np.zeros((8, 8, 1), np.uint8)
        image[4 * self.side : 4 * self.side + 4] = 200
        number = np.zeros(1, np.float32)
        if self.kind == "sequence":
            return tuple(np.full(1, 1.0 - 2 * self.side, np.float32) for _ in range(1 + self.t))
        return image if self.kind == "image" else {"image": image, "number": number}

    def step(self, action):
        reward = float(action == self.side)
        self.t += 1
        return self.ask(), reward, self.t == 8, False, {}


@pytest.mark.parametrize("kind", ["image", "dict", "sequence"])
def test_observations_of_every_kind_are_learned_from(kind):
    with rl.PPO(Pictures, env_config={"kind": kind}, train_batch_size=256, lr=3e-3, num_sgd_iter=4) as algorithm:
        assert learned(algorithm, 7.9, 8000)


def test_images_are_stacked_and_kept_as_bytes():
    with rl.DQN(Pictures, learning_starts=32, timesteps_per_iteration=128, model={"framestack": 4}) as algorithm:
        algorithm.train()
        kept = algorithm.state.replay.segments[0].observation
        assert kept.dtype == np.uint8
        assert kept.shape[1:] == (8, 8, 4)


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_discrete_tasks_are_solved_by_default(algorithm):
    with (
        getattr(rl, algorithm)(rl_envs.Parity, timesteps_per_iteration=500)
        if algorithm == "DQN"
        else rl.PPO(rl_envs.Parity) as made
    ):
        assert learned(made, 8, 5000)


def test_cartpole_is_solved():
    with rl.PPO("CartPole-v1") as algorithm:
        assert learned(algorithm, 475, 100_000)


@pytest.mark.slow
def test_cartpole_is_solved_by_dqn():
    with rl.DQN("CartPole-v1") as algorithm:
        assert learned(algorithm, 475, 50_000)


@pytest.mark.slow
def test_pendulum_is_solved():
    with rl.SAC("Pendulum-v1") as algorithm:
        assert learned(algorithm, -170, 20_000)
