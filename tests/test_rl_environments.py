"""Looking at an environment: spaces, and how its state can be written down."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import rl_envs

from graphray.rl.environments import NotReproducible, make, register


def test_cartpole():
    env = register("CartPole-v1")
    assert (env.source, env.observation_shape, env.num_actions, env.action_start) == ("CartPole-v1", (4,), 2, 0)
    assert env.state == "snapshot"
    live = make(env)
    assert isinstance(live, gymnasium.Env)
    assert live.spec.max_episode_steps == 500
    live.close()


def test_keyword_arguments_reach_the_environment():
    env = register(rl_envs.Walk, ends=3, start=7)
    assert (env.num_actions, env.action_start) == (3, 7)
    assert make(env).ends == 3
    assert register("CartPole-v1", max_episode_steps=9).kwargs == (("max_episode_steps", 9),)
    with pytest.raises(TypeError, match="hash"):
        register(rl_envs.Walk, ends=[3])


@pytest.mark.parametrize(
    ("source", "state"),
    [(rl_envs.Walk, "snapshot"), (rl_envs.Forgetful, "replay"), (rl_envs.Locked, "replay")],
)
def test_how_state_is_written_down_is_found_by_trying(source, state):
    assert register(source).state == state


def test_an_environment_that_cannot_be_repeated_is_refused():
    with pytest.raises(NotReproducible, match="Unseeded: equal seeds"):
        register(rl_envs.Unseeded)
    with pytest.raises(NotReproducible, match=r"Haunted.*earlier episodes"):
        register(rl_envs.Haunted)


@pytest.mark.parametrize("which", ["observation_space", "action_space"])
def test_spaces_that_are_not_handled_are_named(which):
    class Odd(rl_envs.Walk):
        def __init__(self):
            super().__init__()
            setattr(self, which, gymnasium.spaces.MultiBinary(3))

    with pytest.raises(TypeError, match=r"Odd.*MultiBinary\(3\)"):
        register(Odd)


def test_an_unknown_id_is_gymnasiums_error():
    with pytest.raises(gymnasium.error.Error, match="NoSuchThing"):
        register("NoSuchThing-v0")


def test_looking_does_not_draw_from_the_global_generator():
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    register(rl_envs.Walk)
    assert np.random.get_state()[1].tolist() == before
