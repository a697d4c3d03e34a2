"""Looking at an environment: spaces, interfaces, and how its state can be written down."""

from __future__ import annotations

import pickle
import random
import warnings

import gymnasium
import numpy as np
import pytest
import rl_envs

from graphray.rl.environments import NotReproducible, make, register, unwrapped
from graphray.rl.spaces import Choice


def test_cartpole():
    env = register("CartPole-v1")
    assert (env.source, env.observation.shape, env.observation.dtype) == ("CartPole-v1", (4,), "float32")
    assert env.action.leaves == (Choice((), 2, 0),)
    assert (env.state, env.limit, env.old_gym, env.settable) == ("snapshot", 500, False, False)
    live = make(env)
    assert isinstance(live, gymnasium.Env)
    live.close()


def test_it_is_a_value():
    env = register(rl_envs.Walk, {"ends": 3})
    assert hash(env) == hash(register(rl_envs.Walk, {"ends": 3}))
    assert env == pickle.loads(pickle.dumps(env))
    assert env != register(rl_envs.Walk, {"ends": 4})


@pytest.mark.parametrize(
    ("source", "state"),
    [(rl_envs.Walk, "snapshot"), (rl_envs.Forgetful, "replay"), (rl_envs.Locked, "replay")],
)
def test_how_state_is_written_down_is_found_by_trying(source, state):
    assert register(source).state == state
    assert register(source, probe=False).state == "replay"


@pytest.mark.parametrize(
    ("source", "why"),
    [(rl_envs.Unseeded, "Unseeded: equal seeds and equal actions"), (rl_envs.Haunted, "Haunted.*earlier episodes")],
)
def test_an_environment_that_cannot_be_repeated_can_be_used_and_that_is_said(source, why):
    with pytest.warns(NotReproducible, match=why):
        assert register(source).state == "none"


# -- time limits -------------------------------------------------------------------------------------------------------


def test_the_shorter_limit_holds():
    assert register("CartPole-v1", horizon=9).limit == 9
    assert register("CartPole-v1", horizon=900).limit == 500
    assert register("CartPole-v1", {"max_episode_steps": 7}).limit == 7
    assert register(rl_envs.Walk).limit is None
    assert register(lambda: gymnasium.wrappers.TimeLimit(rl_envs.Walk(), 6), horizon=8).limit == 6


def test_wrappers_that_do_nothing_else_are_left_out():
    live = make(register("CartPole-v1"))
    assert live is live.unwrapped
    inner = make(register(lambda: gymnasium.wrappers.ClipReward(rl_envs.Walk(), 0, 1)))
    assert isinstance(inner, gymnasium.wrappers.ClipReward)


# -- spaces ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "space"),
    [
        ("observation_space", gymnasium.spaces.Text(3)),
        ("action_space", gymnasium.spaces.Sequence(gymnasium.spaces.Discrete(2))),
        ("action_space", None),
    ],
)
def test_spaces_that_have_no_layout_are_named(which, space):
    class Odd(rl_envs.Walk):
        def __init__(self):
            super().__init__()
            setattr(self, which, space)

    with pytest.raises(TypeError, match=r"Odd: an (observation|action) may be made of"):
        register(Odd)


def test_an_environment_with_a_mask_is_only_tried_with_actions_that_are_allowed():
    env = register("MaskedCorridor")
    assert env.state == "snapshot"
    assert env.observation.mask is not None


def test_masks_of_several_choices_are_kept_to_as_well():
    class Pairs(gymnasium.Env):
        def __init__(self):
            self.observation_space = gymnasium.spaces.Dict(
                {"action_mask": gymnasium.spaces.MultiBinary(5), "observations": gymnasium.spaces.Box(0, 1, (1,))}
            )
            self.action_space = gymnasium.spaces.MultiDiscrete([2, 3])

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.show(), {}

        def step(self, action):
            assert self.mask[action[0]], action
            assert self.mask[2 + action[1]], action
            return self.show(), 0.0, False, False, {}

        def show(self):
            self.mask = np.zeros(5, np.int8)
            self.mask[[self.np_random.integers(2), 2 + self.np_random.integers(3)]] = 1
            return {"action_mask": self.mask, "observations": np.zeros(1, np.float32)}

    assert register(Pairs).state == "snapshot"


# -- frames ------------------------------------------------------------------------------------------------------------


def test_the_latest_frames_are_shown_the_oldest_first():
    env = register(rl_envs.Walk, {"ends": 9}, framestack=3)
    assert env.observation.shape == (6,)
    live = make(env)
    shown, _ = live.reset(seed=1)
    np.testing.assert_array_equal(shown[0::2], [0, 0, 0])
    kept = shown.copy()
    for made in ([0, 0, 1], [0, 1, 2], [1, 2, 3]):
        after = live.step(0)[0]
        np.testing.assert_array_equal(after[0::2], made)
    np.testing.assert_array_equal(shown, kept)
    np.testing.assert_array_equal(live.reset(seed=1)[0], kept)


def test_frames_of_images_are_stacked_along_the_channels():
    class Camera(rl_envs.Walk):
        def __init__(self):
            super().__init__()
            self.observation_space = gymnasium.spaces.Box(0, 255, (4, 5, 3), np.uint8)

        def _show(self):
            return np.full((4, 5, 3), self.t, np.uint8)

    env = register(Camera, framestack=2)
    assert (env.observation.shape, env.observation.dtype) == ((4, 5, 6), "uint8")
    with pytest.raises(TypeError, match="frames of a Box"):
        register("RepeatAfterMeEnv", framestack=2)


# -- interfaces --------------------------------------------------------------------------------------------------------


def old(config=None):
    with pytest.warns(UserWarning, match="Old has gym's old interface.*adapted"):
        return register(rl_envs.Old, config)


def play(live, seed, steps=4):
    shown = [live.reset(seed=seed)[0]]
    return np.array(shown + [live.step(1)[0] for _ in range(steps)])


@pytest.mark.parametrize("seeds", [True, False])
def test_the_old_interface_is_adapted_and_said(seeds):
    env = old({"seeds": seeds})
    assert (env.old_gym, env.state) == (True, "snapshot")
    one, other = make(env), make(env)
    assert isinstance(unwrapped(one), rl_envs.Old)
    np.testing.assert_array_equal(play(one, 3), play(other, 3))
    assert (play(one, 3) != play(one, 4)).any()
    one.reset(seed=0)
    assert [one.step(0)[1:] for _ in range(4)][-1] == (1.0, True, False, {})
    one.close()


def test_what_the_old_interface_says_of_time_limits_counts():
    live = make(old({"cut": True}))
    live.reset(seed=0)
    assert [live.step(0)[2:4] for _ in range(4)] == [(False, False)] * 3 + [(False, True)]


def test_global_generators_are_put_back():
    live = make(old({"seeds": False}))
    np.random.seed(5)
    random.seed(5)
    expected = np.random.normal(), random.random()
    np.random.seed(5)
    random.seed(5)
    play(live, 3)
    assert (np.random.normal(), random.random()) == expected


def test_an_environment_half_way_between_the_interfaces_is_adapted():
    class FourValues(rl_envs.Walk):
        def step(self, action):
            shown, reward, terminated, _, info = super().step(action)
            return shown, reward, terminated, info

    class Bare(rl_envs.Walk):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)[0]

    for half in (FourValues, Bare):
        with pytest.warns(UserWarning, match="adapted"):
            env = register(half)
        live = make(env)
        shown, info = live.reset(seed=3)
        np.testing.assert_array_equal(shown, rl_envs.Walk().reset(seed=3)[0])
        assert info == {}
        assert len(live.step(0)) == 5


def test_what_only_looks_like_gymnasiums_interface_keeps_its_seed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = register(rl_envs.Lookalike, {"ends": 7})
    assert env.state == "snapshot"
    live = make(env)
    np.testing.assert_array_equal(live.reset(seed=3)[0], rl_envs.Walk().reset(seed=3)[0])
    live.close()


def test_what_is_no_environment_is_said():
    with pytest.raises(TypeError, match=r"gives 'dict', which is no environment: it has no observation_space.*no step"):
        register(dict)


def test_looking_does_not_draw_from_the_global_generator():
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    register(rl_envs.Walk)
    assert np.random.get_state()[1].tolist() == before


def test_environments_that_were_looked_at_are_closed(monkeypatch):
    live = []
    monkeypatch.setattr(rl_envs.Walk, "close", lambda self: live.remove(self))
    original = rl_envs.Walk.__init__

    def noted(self, **kwargs):
        original(self, **kwargs)
        live.append(self)

    monkeypatch.setattr(rl_envs.Walk, "__init__", noted)
    register(rl_envs.Walk)
    assert live == []


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_tasks_are_found_through_wrappers():
    assert register(rl_envs.Levels).settable
    assert register(lambda: gymnasium.wrappers.ClipReward(rl_envs.Levels(), 0, 1)).settable
    assert not register(rl_envs.Walk).settable

    class Harder(gymnasium.Wrapper):
        def get_task(self):
            return 1

        def set_task(self, task):
            pass

    assert register(lambda: Harder(rl_envs.Walk())).settable
