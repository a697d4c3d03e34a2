"""`rl.check_env`: what it says of environments that are right, and of each thing that can be wrong."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import rl_envs
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from test_rl_spaces import observation_spaces

from graphray import rl
from graphray.rl.checking import EnvironmentProblems
from graphray.rl.envs import SHIPPED
from graphray.rl.membership import objections


def problems(env, config=None):
    with pytest.raises(EnvironmentProblems) as caught:
        rl.check_env(env, config, steps=200)
    assert isinstance(caught.value, ValueError)
    text = str(caught.value)
    assert all(line in text for line in caught.value.problems)
    return caught.value.problems


def said(env, pattern, config=None):
    """That there is this problem, and no other."""
    found = problems(env, config)
    assert len(found) == 1, found
    assert re.search(pattern, found[0]), found[0]


def noted(env, pattern):
    with pytest.warns(UserWarning, match=pattern):
        report = rl.check_env(env, steps=200)
    assert any(re.search(pattern, note) for note in report.notes)
    assert "no problems" in str(report)


class Fine(gymnasium.Env):
    """Whatever is wrong with an environment is put into one of these."""

    def __init__(self):
        self.observation_space = spaces.Box(-1, 1, (2,))
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.show(), {}

    def step(self, action):
        self.t += 1
        return self.show(), 1.0, self.t == 10, False, {}

    def show(self):
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


def but(**changes):
    """An environment that is fine but for some methods and attributes."""
    return type("Mine", (Fine,), changes)


def shows(space, value):
    def __init__(self):
        Fine.__init__(self)
        self.observation_space = space

    return but(__init__=__init__, show=lambda self: value)


def gives(*step):
    """A step that gives this, where ... stands for what it should."""

    def made(self, action):
        right = Fine.step(self, action)
        return tuple(b if a is ... else a for a, b in zip(step, right, strict=True))

    return but(step=made)


# -- nothing wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", [*SHIPPED, "CartPole-v1", "Pendulum-v1", rl_envs.Walk, rl_envs.Locked, Fine])
def test_what_is_right_is_not_complained_about(env):
    report = rl.check_env(env)
    assert report.notes == ()
    assert report.steps == 1000
    assert report.episodes > 0
    text = repr(report)
    assert "no problems found in 1000 steps" in text
    assert report.observation in text


def test_sources_and_env_config():
    assert rl.check_env(Fine()).episodes == 100
    assert rl.check_env("rl_envs.Walk", {"ends": 8}, steps=80).episodes == 10
    assert rl.check_env(lambda config: rl_envs.Walk(**config), {"ends": 8}, steps=80).episodes == 10
    assert rl.check_env(rl_envs.Lookalike, {"ends": 8}, steps=80).episodes == 10


def test_what_was_made_is_closed_and_what_was_given_is_not(monkeypatch):
    closed = []
    monkeypatch.setattr(Fine, "close", lambda self: closed.append(self), raising=False)
    rl.check_env(Fine(), steps=20)
    assert closed == []
    rl.check_env(Fine, steps=20)
    assert closed


# -- making it ---------------------------------------------------------------------------------------------------------


def test_it_cannot_be_made():
    said("NoSuchThing-v0", "no environment 'NoSuchThing-v0'")
    said("subprocess.Popen", "a path names an environment's class")
    said(3, "gymnasium id, a class")

    def broken():
        raise KeyError("size")

    said(broken, r"making it raised KeyError: 'size' \(test_rl_checking.py:\d+\).*env_config")


def test_parts_are_missing():
    assert len(problems(lambda: object())) == 4
    said(
        but(__init__=lambda self: setattr(self, "action_space", spaces.Discrete(2))), "it has no observation_space: add"
    )


def test_spaces_that_are_none():
    said(shows((2,), None), r"observation_space is \(2,\) \(tuple\): use one of gymnasium.spaces")
    said(shows(spaces.Text(3), "abc"), "observation_space: an observation may be made of .*not Text")


# -- observations ------------------------------------------------------------------------------------------------------

BOX = spaces.Box(-1, 1, (2,))
NESTED = spaces.Dict({"camera": spaces.Box(0, 1, (2, 2)), "more": spaces.Tuple([spaces.Discrete(3), BOX])})


@pytest.mark.parametrize(
    ("space", "value", "pattern"),
    [
        (
            BOX,
            np.zeros(3, np.float32),
            r"the observation of reset\(\) without a seed has shape \(3,\), its space \(2,\)",
        ),
        (BOX, np.zeros(2), r"has dtype float64, its space float32: return it as \.astype\(np\.float32\)"),
        (
            BOX,
            np.array([0, 3], np.float32),
            r"is 3\.0 at \[1\], its space from -1\.0 to 1\.0: widen the bounds, or clip it",
        ),
        (BOX, np.array([np.nan, 0], np.float32), r"has NaN at \[0\]"),
        (BOX, [0.0, 0.0], r"is \[0\.0, 0\.0\] \(list\): return a NumPy array \(shape \(2,\), dtype float32\)"),
        (BOX, np.array(["a", "b"]), r"has dtype <U1: return numbers"),
        (BOX, None, r"is None \(NoneType\): return a NumPy array"),
        (spaces.Box(-1, 1, ()), np.float32(2), r"is 2\.0, its space from -1\.0 to 1\.0"),
        (spaces.Discrete(3), 3, r"is 3, but its space Discrete\(3\) has 0 to 2"),
        (spaces.Discrete(3, start=1), 0, r"is 0, but its space Discrete\(3, start=1\) has 1 to 3"),
        (spaces.Discrete(3), 1.0, r"is 1\.0 \(float\).*return a whole number from 0 to 2"),
        (spaces.MultiDiscrete([2, 3]), np.array([0, 3]), r"is 3 at \[1\], its space from 0 to 2"),
        (spaces.MultiBinary(2), np.array([0, 2], np.int8), r"is 2 at \[1\], its space from 0\.0 to 1\.0"),
        (spaces.Tuple([BOX, BOX]), (np.zeros(2, np.float32),), "its space a Tuple: return a tuple of 2 entries"),
        (spaces.Sequence(spaces.Discrete(2)), [0, 1], "its space a Sequence: return a tuple of entries"),
        (spaces.Sequence(spaces.Discrete(2)), (0, 2), r"\[1\] is 2, but its space"),
        (spaces.Sequence(spaces.Discrete(2), stack=True), np.array([0, 2]), r"\[1\] is 2, but its space"),
        (spaces.Sequence(BOX, stack=True), None, "a stacked Sequence: return arrays with the length first"),
        (NESTED, np.zeros(2), "its space a Dict: return a dict with 'camera', 'more'"),
    ],
)
def test_an_observation_is_not_in_its_space(space, value, pattern):
    said(shows(space, value), pattern)


@given(space=observation_spaces, seed=st.integers(0, 100))
def test_nothing_is_said_against_what_is_in_a_space(space, seed):
    space.seed(seed)
    assert list(objections(space, space.sample(), "it")) == []


def test_the_part_that_is_wrong_is_named():
    right = {"camera": np.zeros((2, 2), np.float32), "more": (1, np.zeros(2, np.float32))}
    assert rl.check_env(shows(NESTED, right), steps=20).notes == ()
    wrong = {"camera": np.full((2, 2), 7, np.float32), "more": (1, np.zeros(1, np.float32))}
    first, second = problems(shows(NESTED, wrong))[:2]
    assert "['camera'] is 7.0 at [0, 0] and 3 other places, its space from 0.0 to 1.0" in first
    assert "['more'][1] has shape (1,), its space (2,)" in second
    keys = problems(shows(NESTED, {"camera": right["camera"], "mroe": 1}))
    assert "has no 'more', which its space has" in keys[0]
    assert "has 'mroe', which its space has not" in keys[1]


def test_an_observation_that_is_wrong_later_on_is_found():
    class Later(Fine):
        def show(self):
            return np.full(2, 2 if self.t == 7 else 0, np.float32)

    said(Later, r"the observation of step 7 of the episode with seed 0 is 2\.0 at \[0\] and 1 other")


# -- reset and step ----------------------------------------------------------------------------------------------------


def test_errors_are_said_with_seed_step_and_place():
    class Resets(Fine):
        def reset(self, *, seed=None, options=None):
            if seed is None:
                raise RuntimeError("no seed")
            return super().reset(seed=seed)

    class Steps(Fine):
        def step(self, action):
            if self.t == 4:
                raise IndexError("off the grid")
            return super().step(action)

    said(Resets, r"reset\(\) without a seed raised RuntimeError: no seed \(test_rl_checking.py:\d+\)")
    said(
        Steps,
        r"step 5 of the episode with seed 0 raised IndexError: off the grid \(test_rl_checking.py:\d+\); its action",
    )


@pytest.mark.parametrize(
    ("step", "pattern"),
    [
        ((..., np.array([1.0]), ..., ..., ...), r"an array of shape \(1,\) and dtype float64 as reward: return float"),
        ((..., None, ..., ..., ...), r"None \(NoneType\) as reward"),
        ((..., float("nan"), ..., ..., ...), r"the reward of step 1 of the episode with seed 0 is nan"),
        ((..., ..., 0, ..., ...), r"0 \(int\) as terminated: return bool"),
        ((..., ..., ..., None, ...), r"None \(NoneType\) as truncated: return bool"),
        ((..., ..., ..., ..., None), r"None \(NoneType\) as info: return a dict"),
    ],
)
def test_a_step_gives_what_it_should_not(step, pattern):
    said(gives(*step), pattern)


def test_a_step_gives_too_little():
    said(but(step=lambda self, action: self.show()), "step gives a ndarray: return observation, reward, terminated")
    said(but(step=lambda self, action: (self.show(), 1.0)), "step gives a tuple of 2")
    said(but(reset=lambda self, seed=None: (Fine.reset(self, seed=seed)[0], None)), r"None \(NoneType\) as its info")


def test_actions_at_the_edge():
    class Edge(Fine):
        def __init__(self):
            super().__init__()
            self.action_space = spaces.Box(np.array([0, -1], np.float32), np.array([4, 1], np.float32))

        def step(self, action):
            if action[0] == 4:
                raise ZeroDivisionError("1 / (4 - action)")
            return super().step(action)

    said(Edge, r"raised ZeroDivisionError.*its action was .*, at the upper edge of action_space")


def test_closing_fails():
    def close(self):
        raise OSError("still open")

    said(but(close=close), "close.. raised OSError: still open")


# -- the old interface -------------------------------------------------------------------------------------------------


def test_the_old_interface_is_a_note():
    noted(rl_envs.Old, r"reset takes no seed: def reset\(self, \*, seed=None, options=None\).*adapted")
    noted(but(reset=lambda self, seed=None: Fine.reset(self, seed=seed)[0]), "return observation, info")
    noted(but(step=lambda self, action: (*Fine.step(self, action)[:3], {})), "step gives four values")


# -- reproducibility ---------------------------------------------------------------------------------------------------


def test_randomness_that_has_no_seed():
    def show(self):
        return np.array([0, random.uniform(-1, 1)], np.float32)

    said(but(show=show), r"two environments with the same seed differ in reset, in the observation: .* at \[1\].*super")
    said(rl_envs.Unseeded, r"differ in step 1, in observation: .*self\.np_random")

    class Reward(Fine):
        def step(self, action):
            shown, _, *rest = super().step(action)
            return shown, random.random() if self.t == 3 else 0.0, *rest

    said(Reward, "differ in step 3, in reward")
    said(Reward(), "differ in step 3, in reward")


def test_earlier_episodes_that_are_not_forgotten():
    said(rl_envs.Haunted, "an environment that has been used and a new one.*set everything anew")


# -- masks -------------------------------------------------------------------------------------------------------------


def masked(mask, actions=None):
    class Masked(Fine):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Dict({"action_mask": spaces.MultiBinary(len(mask)), "observations": BOX})
            self.action_space = actions or spaces.Discrete(2)

        def show(self):
            return {"action_mask": np.array(mask, np.int8), "observations": super().show()}

    return Masked


def test_masks():
    assert rl.check_env(masked([0, 1]), steps=20).notes == ()
    assert rl.check_env(masked([0, 1, 0, 1, 0], spaces.MultiDiscrete([2, 3])), steps=20).notes == ()
    assert "action_mask has 3 entries, but there are 2 actions" in problems(masked([1, 1, 1]))[0]
    assert "not all of an action is discrete" in problems(masked([1], BOX))[0]
    assert "allows nothing" in problems(masked([0, 0]))[0]
    assert "allows nothing" in problems(masked([1, 1, 0, 0, 0], spaces.MultiDiscrete([2, 3])))[0]


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_tasks():
    assert rl.check_env(rl_envs.Levels, {"level": 0}, steps=20).steps == 20
    said(but(set_task=lambda self, task: None), r"it has set_task\(\), but no get_task\(\)")

    def harder(self, task):
        raise TypeError("a task is a dict")

    said(but(get_task=lambda self: 1, set_task=harder), r"raised TypeError: a task is a dict")
    changed = but(get_task=lambda self: 1, set_task=lambda self, task: None, sample_tasks=lambda self, n: [2] * n)
    said(changed, r"get_task\(\) does not give what set_task\(task\) has set: the task: 2 and 1")
    mixin = type("Mine", (rl.TaskSettableEnv, Fine), {"get_task": lambda self: 1, "set_task": lambda self, task: None})
    assert rl.check_env(mixin, steps=20).notes == ()  # without sample_tasks it can be trained in as well


# -- notes -------------------------------------------------------------------------------------------------------------


def test_notes():
    noted(rl_envs.Endless, "no episode had ended after 200 steps.*truncated=True.*horizon")
    noted(shows(spaces.Box(0, 1, (8, 8, 3)), np.zeros((8, 8, 3), np.float32)), "shape of an image, but dtype float32")
    noted(shows(spaces.Box(0, 255, (3, 8, 8), np.uint8), np.zeros((3, 8, 8), np.uint8)), "height × width × channels")
    noted(shows(spaces.Box(-1e9, 1e9, (2,)), np.full(2, 5e4, np.float32)), "numbers up to 5e\\+04.*MeanStdFilter")

    def __init__(self):
        Fine.__init__(self)
        self.action_space = spaces.Box(-np.inf, np.inf, (1,))

    noted(but(__init__=__init__), "action_space has no bounds")


def test_the_same_is_said_once():
    class Wrong(Fine):
        def show(self):
            return self.np_random.uniform(2, 9, 2).astype(np.float32)

        def step(self, action):
            return *super().step(action)[:1], self.np_random.uniform(), 0, 0, {}

    found = problems(Wrong)
    assert len(found) == 3
    assert str(EnvironmentProblems("Wrong", found)).startswith("Wrong has 3 problems:\n- the observation of reset()")


def test_the_example_of_an_own_environment_is_right(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "examples")
    report = rl.check_env("custom_env.CustomEnv", {"hours": 48}, steps=200)
    assert (report.notes, report.episodes) == ((), 4)
    sys.modules.pop("custom_env", None)
