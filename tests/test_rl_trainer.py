"""What algorithms share: surface, configuration, checkpoints; and that nothing depends on who steps what."""

from __future__ import annotations

import json
import logging
import pickle

import gymnasium
import jax
import numpy as np
import pytest

import graphray as gr
from graphray import rl

SMALL = {
    "PPO": ("CartPole-v1", {"train_batch_size": 96, "sgd_minibatch_size": 40, "num_sgd_iter": 2, "num_envs": 4}),
    "LSTM": (
        "StatelessCartPole",
        {
            "train_batch_size": 96,
            "sgd_minibatch_size": 40,
            "num_sgd_iter": 2,
            "num_envs": 4,
            "model": {
                "use_lstm": True,
                "lstm_cell_size": 8,
                "max_seq_len": 7,
                "lstm_use_prev_action": True,
                "lstm_use_prev_reward": True,
            },
        },
    ),
    "DQN": (
        "CartPole-v1",
        {
            "timesteps_per_iteration": 64,
            "rollout_fragment_length": 8,
            "learning_starts": 40,
            "num_envs": 4,
            "prioritized_replay": True,
            "n_step": 3,
            "model": {"fcnet_hiddens": [16]},
        },
    ),
    "SAC": (
        "Pendulum-v1",
        {
            "timesteps_per_iteration": 64,
            "rollout_fragment_length": 8,
            "learning_starts": 40,
            "train_batch_size": 32,
            "num_envs": 4,
            "observation_filter": "MeanStdFilter",
            "model": {"fcnet_hiddens": [16]},
        },
    ),
}


def made(name, **more):
    env, config = SMALL[name]
    return getattr(rl, "PPO" if name == "LSTM" else name)(env, {**config, **more})


def bits(tree):
    """All that a state is made of, as something that can be compared bit for bit."""
    return [
        leaf.tobytes() if hasattr(leaf, "tobytes") else leaf
        for leaf in jax.tree.leaves(tree, is_leaf=lambda x: x is None)
    ]


@pytest.fixture(params=[*SMALL])
def name(request):
    return request.param


def trained(algorithm, iterations=3):
    results = [algorithm.train() for _ in range(iterations)]
    return bits(algorithm.state), [without_clocks(result) for result in results]


def without_clocks(result):
    return json.dumps({key: value for key, value in result.items() if not key.startswith("time_")})


# ---- law 4


def test_workers_train_the_agent_that_one_process_trains(name, loky):
    with made(name, num_shards=3) as here:
        reference = trained(here)
    there = getattr(rl, type(here).__name__)(config=here.get_config(), executor=loky)
    assert trained(there) == reference


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_trains_the_same_agent(name, workers):
    with made(name, num_shards=3) as here:
        reference = trained(here)
    with made(name, num_shards=3, num_workers=workers) as there:
        assert trained(there) == reference


def test_another_seed_is_another_agent(name):
    with made(name) as one, made(name, seed=1) as other:
        assert trained(one, 1) != trained(other, 1)


def test_a_step_is_a_pure_function(name):
    with made(name) as algorithm:
        state = algorithm.init(seed=7)
        before = bits(state)
        once, first = algorithm.step(state)
        again, second = algorithm.step(state)
        assert bits(state) == before
        assert bits(once) == bits(again)
        assert without_clocks(first) == without_clocks(second)
        assert algorithm.state.progress.steps == 0


def test_a_graph_of_iterations_is_training(name):
    with made(name) as algorithm:
        result = algorithm.graph(iterations=2).compute()
        algorithm.train()
        last = algorithm.train()
        assert bits(result["state"]) == bits(algorithm.state)
        assert result["metrics"]["timesteps_total"] == last["timesteps_total"]
        assert "policy" in result["policy"]


# ---- checkpoints


def test_restoring_continues_bit_for_bit(name, tmp_path):
    with made(name) as algorithm:
        algorithm.train()
        path = algorithm.save(str(tmp_path / "checkpoint"))
        reference = trained(algorithm, 2)
    with made(name) as other:
        other.restore(path)
        assert trained(other, 2) == reference
    with rl.load(path) as loaded:
        assert trained(loaded, 2) == reference


def test_a_checkpoint_runs_no_code_and_holds_no_pickle(tmp_path):
    with made("PPO") as algorithm:
        path = algorithm.save(str(tmp_path / "checkpoint"))
    names = sorted(file.name for file in (tmp_path / "checkpoint").iterdir())
    assert names == ["arrays.safetensors", "checkpoint.json"]
    document = json.loads((tmp_path / "checkpoint" / "checkpoint.json").read_text())
    document["state"]["type"] = "Popen"
    (tmp_path / "checkpoint" / "checkpoint.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="'Popen'"):
        rl.load(path)


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "text"])
@pytest.mark.parametrize("file", ["arrays.safetensors", "checkpoint.json"])
def test_a_damaged_checkpoint_is_one_clear_error(tmp_path, file, damage):
    with made("PPO") as algorithm:
        path = algorithm.save(str(tmp_path / "checkpoint"))
        victim = tmp_path / "checkpoint" / file
        match damage:
            case "cut":
                victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
            case "empty":
                victim.write_bytes(b"")
            case "gone":
                victim.unlink()
            case "text":
                victim.write_bytes(b"hello")
        before = bits(algorithm.state)
        with pytest.raises(ValueError, match=r"damaged|no checkpoint"):
            algorithm.restore(path)
        assert bits(algorithm.state) == before


def test_checkpoints_of_others_are_refused(tmp_path):
    with made("PPO") as algorithm, made("DQN") as other, made("LSTM") as third:
        path = algorithm.save(str(tmp_path / "checkpoint"))
        with pytest.raises(ValueError, match="is of PPO, and cannot be restored by DQN"):
            other.restore(path)
        with pytest.raises(ValueError, match="does not fit PPO on StatelessCartPole"):
            third.restore(path)
        with pytest.raises(ValueError, match="there is no checkpoint"):
            algorithm.restore(str(tmp_path / "nothing"))


def test_learn_continues_where_it_was(tmp_path):
    with made("PPO") as algorithm:
        result = algorithm.learn(300, dir=str(tmp_path / "a"), checkpoint_freq=2)
        assert result["timesteps_total"] == 384
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["checkpoint_000002", "checkpoint_000004"]
        reference = trained(algorithm, 1)
    with made("PPO") as other:
        with pytest.raises(FileExistsError, match="resume=True"):
            other.learn(300, dir=str(tmp_path / "a"))
        assert other.learn(300, dir=str(tmp_path / "a"), resume=True)["timesteps_total"] == 384
        assert trained(other, 1) == reference


# ---- results, evaluation, actions


def test_a_result_has_rllibs_names(name):
    with made(name) as algorithm:
        result = algorithm.train()
        result = algorithm.train()
    for entry in (
        "episode_reward_mean",
        "episode_reward_min",
        "episode_reward_max",
        "episode_len_mean",
        "time_total_s",
    ):
        assert isinstance(result[entry], float | int), entry
    assert result["training_iteration"] == 2
    assert result["timesteps_total"] == algorithm.state.progress.steps
    assert result["info"]["learner"]
    assert "episode_reward_mean: " in rl.pretty_print(result)


def test_an_evaluation_leaves_the_trainer_as_it_was(name, tmp_path):
    with made(name) as algorithm:
        path = algorithm.save(str(tmp_path / "first"))
        first = algorithm.evaluate(episodes=3)
        algorithm.train()
        before = bits(algorithm.state)
        assert algorithm.evaluate(path, episodes=3) == first
        assert bits(algorithm.state) == before
        assert len(first["hist_stats"]["episode_reward"]) == first["episodes"] == 3


def test_an_evaluation_is_the_same_with_any_number_of_parts():
    with made("PPO", evaluation_num_workers=3) as algorithm, made("PPO") as other:
        assert algorithm.evaluate(episodes=7) == other.evaluate(episodes=7)


def test_evaluations_while_training():
    with made("PPO", evaluation_interval=2, evaluation_duration=30, evaluation_duration_unit="timesteps") as algorithm:
        assert "evaluation" not in algorithm.train()
        evaluated = algorithm.train()["evaluation"]
        assert sum(evaluated["hist_stats"]["episode_lengths"]) >= 30


def test_actions_are_members_of_the_space(name):
    with made(name) as algorithm:
        rng = np.random.default_rng(0)
        observations = {key: rng.normal(size=algorithm.observation_space.shape).astype(np.float32) for key in "abc"}
        for explore in (True, False):
            given = {key: algorithm.get_initial_state() for key in observations}
            actions, states, _ = algorithm.compute_actions(observations, given, explore=explore)
            assert all(algorithm.action_space.contains(action) for action in actions.values())
            assert actions.keys() == states.keys() == observations.keys()
        single = algorithm.compute_single_action(observations["a"], algorithm.get_initial_state(), explore=False)
        assert np.allclose(single[0], actions["a"])


def test_explored_actions_differ_and_best_ones_do_not(name):
    with made(name) as algorithm:
        observation = np.zeros(algorithm.observation_space.shape, np.float32)
        state = algorithm.get_initial_state()

        def act(explore):
            return [
                np.ravel(algorithm.compute_single_action(observation, state, explore=explore)[0]).tolist()
                for _ in range(12)
            ]

        assert len({tuple(action) for action in act(False)}) == 1
        assert len({tuple(action) for action in act(True)}) > 1


def test_an_observation_that_does_not_fit_is_said():
    with made("PPO") as algorithm, pytest.raises(ValueError, match="does not fit"):
        algorithm.compute_single_action([1.0, 2.0])


# ---- weights, networks, workers


def test_weights_are_values(name):
    with made(name) as algorithm, made(name, seed=1) as other:
        weights = algorithm.get_policy().get_weights()
        other.get_policy().set_weights(weights)
        assert bits(other.get_policy().get_weights()) == bits(weights)
        jax.tree.leaves(weights)[0][...] = 7
        assert bits(algorithm.get_policy().get_weights()) != bits(weights)
        with pytest.raises(ValueError, match="has the shape"):
            other.get_policy().set_weights({"policy": jax.tree.map(lambda x: x[..., :1], weights["policy"])})
        with pytest.raises(ValueError, match="has the names"):
            other.get_policy().set_weights({"nonsense": 1})
        other.train()


def test_a_model_can_be_looked_at(capsys):
    with made("PPO") as algorithm:
        text = algorithm.get_policy().model.base_model.summary()
    assert "hidden_0" in text
    assert "4×64" in text
    assert "4,610 parameters in all" in text
    assert capsys.readouterr().out.strip() == text


def test_workers_can_be_looked_at_and_are_not_changed(name):
    with made(name, num_shards=2) as algorithm:
        algorithm.train()
        before = bits(algorithm.state)
        lengths = algorithm.workers.foreach_env(lambda env: type(env).__name__)
        assert [len(shard) for shard in lengths] == [2, 2]

        def spoil(worker):
            jax.tree.map(lambda x: x.fill(0) if x.flags.writeable else None, worker.get_weights()["policy"])
            worker.env.reset(seed=0)
            return worker.worker_index

        assert algorithm.workers.foreach_worker(spoil) == [0, 1]
        assert bits(algorithm.state) == before
        algorithm.train()


# ---- configuration


def test_unknown_entries_suggest_the_nearest():
    with pytest.raises(rl.ConfigError, match="'lrr'; did you mean 'lr'"):
        rl.PPO("CartPole-v1", lrr=1)
    with pytest.raises(rl.ConfigError, match="'ent_coef'; it is called 'entropy_coeff' here"):
        rl.PPO("CartPole-v1", ent_coef=0.1)
    with pytest.raises(rl.ConfigError, match="'n_epochs'; it is called 'num_sgd_iter' here"):
        rl.PPO("CartPole-v1", {"n_epochs": 3})
    with pytest.raises(rl.ConfigError, match="model has no 'fcnet_hidden'; did you mean 'fcnet_hiddens'"):
        rl.PPO("CartPole-v1", model={"fcnet_hidden": [3]})
    with pytest.raises(rl.ConfigError, match="needs an environment"):
        rl.PPO()


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("gamma", 1.5, "gamma is a number from 0 to 1, not 1.5"),
        ("lr", "fast", "lr is a number of at least 0, not 'fast'"),
        ("train_batch_size", 0, "train_batch_size is a whole number of at least 1, not 0"),
        ("num_workers", 1.5, "num_workers is a whole number"),
        ("explore", 1, "explore is True or False, not 1"),
        ("framework", "torch", "framework is one of 'jax', not 'torch'"),
        ("batch_mode", "all", "batch_mode is one of"),
        ("lr_schedule", [[10, 1], [0, 2]], "lr_schedule is a list of"),
        ("exploration_config", {"type": "Nonsense"}, "type is one of"),
    ],
)
def test_wrong_values_say_what_is_allowed(entry, value, message):
    with pytest.raises(rl.ConfigError, match=message):
        rl.PPO("CartPole-v1", {entry: value})


def test_windows_are_refused_and_not_forgotten():
    with pytest.raises(rl.ConfigError, match="video_dir"):
        rl.PPO("CartPole-v1", render_env=True)


def test_how_much_is_said_can_be_chosen():
    logger = logging.getLogger("graphray.rl")
    before = logger.level
    try:
        with made("PPO", log_level="ERROR"):
            assert logger.level == logging.ERROR
    finally:
        logger.setLevel(before)


def test_what_yaml_makes_of_numbers_is_understood():
    with rl.PPO("CartPole-v1", lr="1e-3", train_batch_size="1e3") as algorithm:
        assert algorithm.get_config()["lr"] == 1e-3
        assert algorithm.get_config()["train_batch_size"] == 1000


def test_a_name_that_python_has_taken_can_be_given_without_its_underscore():
    with rl.PPO("CartPole-v1", {"lambda": 0.5}) as algorithm:
        assert algorithm.get_config()["lambda_"] == 0.5


def test_configurations_are_complete():
    for name in rl.ALGORITHMS:
        config = getattr(rl, name).default_config()
        assert config.keys() >= rl.COMMON_CONFIG.keys()
        assert getattr(rl, name + "Trainer") is getattr(rl, name)
        pickle.dumps(config)
    assert rl.MODEL_DEFAULTS["fcnet_hiddens"]


def test_algorithms_say_which_actions_they_choose():
    with pytest.raises(TypeError, match="one discrete action"):
        rl.DQN("Pendulum-v1")
    with pytest.raises(TypeError, match="numbers"):
        rl.SAC("CartPole-v1")


def test_an_algorithm_within_a_task_uses_that_process(loky):
    def train():
        with made("PPO") as algorithm:
            return algorithm.train()["timesteps_total"]

    assert gr.call(train).compute(executor=loky) == 96


TOLD = []


class Told:
    def on_train_result(self, algorithm, result):
        TOLD.append(result["training_iteration"])


def test_callbacks_are_called():
    TOLD.clear()
    with made("PPO", callbacks=Told) as algorithm:
        algorithm.train()
        algorithm.train()
    assert TOLD == [1, 2]


def test_callbacks_are_in_a_checkpoint_by_name(tmp_path):
    with made("PPO", callbacks=Told) as algorithm:
        path = algorithm.save(str(tmp_path / "checkpoint"))
    TOLD.clear()
    with rl.load(path) as loaded:
        loaded.train()
    assert TOLD == [1]


def test_an_environment_that_raises_is_told_with_its_seed(loky):
    class Broken(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.t = 0
            return np.zeros(2, np.float32), {}

        def step(self, action):
            self.t += 1
            if self.t == 200:
                raise ZeroDivisionError("on purpose")
            return np.zeros(2, np.float32), 1.0, False, False, {}

    with rl.PPO(Broken, train_batch_size=256, num_envs=1) as algorithm, pytest.raises(rl.EnvironmentFailed) as caught:
        algorithm.train()
    assert "Broken raised ZeroDivisionError in step 200 of the episode with seed" in str(caught.value)
    with rl.PPO(Broken, train_batch_size=256, num_envs=1, recreate_failed_env=True) as algorithm:
        assert algorithm.train()["episodes_total"] == 1
