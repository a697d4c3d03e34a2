"""Experiments: what a file, or a command line, says is to be trained, and what is said when it is wrong."""

from __future__ import annotations

import sys
import textwrap

import pytest

from graphray.rl.experiment import ExperimentError, from_mapping, read
from graphray.rl.variants import variants


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def trials(tmp_path):
    """The runs of a file with some text."""

    def trials(text):
        path = tmp_path / "custom.yml"
        path.write_text(textwrap.dedent(text), "utf-8")
        return from_mapping(read(str(path)), "custom.yml", [str(tmp_path)])

    return trials


def test_an_experiment_as_rllib_has_it(trials):
    (trial,) = trials("""
        cartpole:
            run: PPO
            env: CartPole-v1
            stop: {episode_reward_mean: 150, timesteps_total: 1e5}
            checkpoint_freq: 10
            checkpoint_at_end: false
            keep_checkpoints_num: 2
            config: {lr: 1e-3, lambda: 0.9, model: {fcnet_hiddens: [8]}, framework: jax}
    """)
    assert (trial.experiment, trial.number, trial.algorithm, trial.env) == ("cartpole", 0, "PPO", "CartPole-v1")
    assert trial.config == {
        "lr": 0.001,  # which YAML reads as text
        "lambda_": 0.9,
        "model": {"fcnet_hiddens": [8]},
        "framework": "jax",
        "env": "CartPole-v1",
    }
    assert trial.stop == {"episode_reward_mean": 150.0, "timesteps_total": 100_000.0}
    assert (trial.checkpoint_freq, trial.checkpoint_at_end, trial.keep, trial.varied) == (10, False, 2, {})


def test_values_that_are_searched_fan_out_however_deep_and_samples_have_seeds_of_their_own(trials):
    found = trials("""
        a:
            run: PPOTrainer
            env: {grid_search: [CartPole-v1, Acrobot-v1]}
            stop: {training_iteration: 1}
            num_samples: 2
            config:
                seed: 5
                model: {fcnet_hiddens: {grid_search: [[4], [8, 8]]}}
        b: {run: DQN, env: CartPole-v1, stop: {training_iteration: 1}}
    """)
    seen = [
        (t.experiment, t.number, t.env, t.config.get("model", {}).get("fcnet_hiddens"), t.config.get("seed"))
        for t in found
    ]
    assert seen == [
        ("a", 0, "CartPole-v1", [4], 5),
        ("a", 1, "CartPole-v1", [4], 6),
        ("a", 2, "Acrobot-v1", [4], 5),
        ("a", 3, "Acrobot-v1", [4], 6),
        ("a", 4, "CartPole-v1", [8, 8], 5),
        ("a", 5, "CartPole-v1", [8, 8], 6),
        ("a", 6, "Acrobot-v1", [8, 8], 5),
        ("a", 7, "Acrobot-v1", [8, 8], 6),
        ("b", 0, "CartPole-v1", None, None),
    ]
    assert found[3].varied == {"model.fcnet_hiddens": [4], "env": "Acrobot-v1", "seed": 6}


def test_variants_of_nothing_are_the_thing_itself_and_lists_are_searched_too():
    assert [v.config for v in variants({"a": 1})] == [{"a": 1}]
    found = list(variants({"a": [{"grid_search": [1, 2]}, {"b": {"grid_search": ["x"]}}]}))
    assert [v.config for v in found] == [{"a": [1, {"b": "x"}]}, {"a": [2, {"b": "x"}]}]
    assert found[1].varied == {"a.0": 2, "a.1.b": "x"}


def test_an_environment_and_callbacks_beside_the_file_are_found(trials, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "own_env_of_this_test", raising=False)
    (tmp_path / "own_env_of_this_test.py").write_text(
        "import gymnasium\n"
        "class Own(gymnasium.Wrapper):\n"
        "    def __init__(self, config):\n"
        "        super().__init__(gymnasium.make('CartPole-v1'))\n"
        "class Heard: pass\n"
    )
    (tmp_path / "random.py").write_text("raise AssertionError\n")
    (trial,) = trials(
        "a: {run: PPO, env: own_env_of_this_test.Own, stop: {training_iteration: 1},"
        " config: {callbacks: own_env_of_this_test.Heard}}"
    )
    assert trial.env == "own_env_of_this_test.Own"
    assert trial.config["callbacks"].__name__ == "Heard"
    assert sys.path.index(str(tmp_path)) > sys.path.index(next(p for p in sys.path if p.endswith("lib-dynload")))


STOP = "stop: {training_iteration: 1}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "custom.yml holds no experiments"),
        (
            "run: PPO\nenv: CartPole-v1",
            "run: an experiment has entries such as run, env, stop; not 'PPO'; put a name above",
        ),
        ("a: {run: PPO, env: CartPole-v1", "custom.yml: line 1, column 31: expected ',' or '}'"),
        ("a: {run: PPO}\na: {run: DQN}", "custom.yml: line 2, column 1: 'a' is there twice"),
        ("a: !!python/object/apply:os.getcwd []", "files of experiments are plain data"),
        ("a/b: {run: PPO}", "the name of an experiment names a folder too: 'a/b' cannot"),
        (f"a: {{env: CartPole-v1, {STOP}}}", "custom.yml: a does not say what to run; there are PPO, DQN, SAC"),
        (
            f"a: {{run: ppo, env: CartPole-v1, {STOP}}}",
            "custom.yml: a: there is no algorithm 'ppo'; did you mean 'PPO'?",
        ),
        (f"a: {{run: PPO, {STOP}}}", "custom.yml: a has no env"),
        (f"a: {{run: PPO, env: CartPole-v1, stopp: 1, {STOP}}}", "custom.yml: a has no 'stopp'; did you mean 'stop'?"),
        (
            "a: {run: PPO, env: CartPole-v1, checkpoint_freq: often}",
            "a: checkpoint_freq is a whole number of at least 0, not 'often'",
        ),
        (
            f"a: {{run: PPO, env: CartPole-v1, {STOP}, config: {{env: Acrobot-v1}}}}",
            "a: env is 'CartPole-v1', and in config 'Acrobot-v1': which?",
        ),
        ("a: {run: PPO, env: CartPole-v1, stop: {reward: 1}}", "a: stop: there is no result 'reward'"),
        (
            "a: {run: PPO, env: CartPole-v1, stop: {episode_reward_meen: 1}}",
            "there is no result 'episode_reward_meen'; did you mean 'episode_reward_mean'?",
        ),
        (
            "a: {run: PPO, env: CartPole-v1, stop: {total_timesteps: 1}}",
            "there is no result 'total_timesteps'; it is called 'timesteps_total' here",
        ),
        (
            "a: {run: PPO, env: CartPole-v1, stop: {evaluation/episode_reward_mean: 1}}",
            "a: stop: evaluation/episode_reward_mean is never there, as config has no evaluation_interval",
        ),
        ("a: {run: PPO, env: CartPole-v1, stop: {timesteps_total: lots}}", "timesteps_total is a number, not 'lots'"),
        (
            f"a: {{run: PPO, env: CartPole-v1, {STOP}, config: {{learning_rate: 1}}}}",
            "custom.yml: a: config has no 'learning_rate'; it is called 'lr' here",
        ),
        (
            f"a: {{run: PPO, env: CartPole-v1, {STOP}, config: {{lr: {{grid_search: [1, x]}}}}}}",
            "custom.yml: a: config: lr is a number of at least 0, not 'x'",
        ),
        (
            f"a: {{run: PPO, env: CartPole-v1, {STOP}, config: {{lr: {{grid_search: 1}}}}}}",
            "a: config: lr: grid_search is a list of the values to be tried, not 1",
        ),
        (
            f"a: {{run: PPO, env: CartPole-v1, {STOP}, config: {{lr: {{grid_search: [1], x: 2}}}}}}",
            "a: config: lr: beside grid_search there is x",
        ),
        (
            f"a: {{run: PPO, env: CartPole-v1, {STOP}, num_samples: 2, config: {{seed: {{grid_search: [1, 2]}}}}}}",
            "a: num_samples gives each run a seed of its own, and so does grid_search of seed",
        ),
        (f"a: {{run: PPO, env: CartPool-v1, {STOP}}}", "custom.yml: a: there is no environment 'CartPool-v1'"),
        (f"a: {{run: PPO, env: no_such_module.Env, {STOP}}}", "there is no module 'no_such_module'"),
        (f"a: {{run: DQN, env: Pendulum-v1, {STOP}}}", "custom.yml: a: "),
        ("a: {run: PPO, env: CartPole-v1, num_samples: 2}", "custom.yml: a has no stop, and there are 2 runs"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(trials, text, said):
    with pytest.raises(ExperimentError) as caught:
        trials(text)
    assert said in str(caught.value)


def test_a_mistake_in_the_last_experiment_is_found_before_anything_begins(trials):
    with pytest.raises(ExperimentError, match=r"custom\.yml: last: config has no 'x'"):
        trials(f"first: {{run: PPO, env: CartPole-v1, {STOP}}}\nlast: {{run: PPO, env: CartPole-v1, config: {{x: 1}}}}")


def test_a_file_that_is_not_there_suggests_its_neighbour(tmp_path):
    (tmp_path / "cartpole.yaml").touch()
    with pytest.raises(
        ExperimentError, match=r"cartpol\.yaml: No such file or directory; did you mean .*cartpole\.yaml\?"
    ):
        read(str(tmp_path / "cartpol.yaml"))
