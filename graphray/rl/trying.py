"""Trying an environment out: every step is looked at, and what is wrong with it is noted."""

from __future__ import annotations

import os
import random
import re
import traceback
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from graphray.rl.adapters import OldGym, bare, takes_seed
from graphray.rl.environments import random_action
from graphray.rl.membership import objections, shown
from graphray.rl.spaces import ActionLayout, Choice, action_layout, decoder, encoder, observation_layout

__all__ = ["Findings", "Hopeless", "Made", "Tried", "raised"]


class Hopeless(Exception):
    """Nothing more can be found out."""


class Findings:
    """What has been found so far. The same is said once, whatever numbers are in it."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._said: set[str] = set()

    def problem(self, line: str, kind: str | None = None) -> None:
        """Something is wrong; of a kind, if that is not just what is said."""
        self._say(self.problems, line, kind)

    def note(self, line: str) -> None:
        """Something might be better."""
        self._say(self.notes, line)

    def _say(self, lines: list[str], line: str, kind: str | None = None) -> None:
        kind = re.sub(r"[-+.e\d]+", "0", kind or line)
        if kind not in self._said:
            self._said.add(kind)
            lines.append(line)


class Made(NamedTuple):
    """What a step gave."""

    observation: Any
    reward: Any
    terminated: Any
    truncated: Any

    @property
    def over(self) -> bool:
        """Whether it ended the episode."""
        return bool(self.terminated) or bool(self.truncated)


class Tried:
    """An environment that is tried out."""

    def __init__(self, findings: Findings, made: Any) -> None:
        self._findings = findings
        self.live = bare(made)[0]
        self.random = random.Random(0)
        self.observation_space, self.action_space = made.observation_space, made.action_space
        self.greatest = 0.0
        self.length = 0
        self.seed: int | None = None
        self._notes()
        if not takes_seed(self.live) or not isinstance(self.live, gymnasium.Env):
            self._adapt()
        self.observation = self._layout("observation_space", observation_layout)
        self.action: ActionLayout = self._layout("action_space", action_layout)
        self.write, self.decode = encoder(self.observation_space, self.observation), decoder(self.action)
        self.flat: Any = None
        self._check_mask_size()

    def reset(self, seed: int | None, call: str = "") -> Any:
        """Begin an episode, and look at what that gives."""
        call = call or f"reset(seed={seed})"
        try:
            given = self.live.reset() if seed is None else self.live.reset(seed=seed)
        except Exception as error:
            self._findings.problem(f"{call} raised {raised(error)}")
            raise Hopeless from error
        if not (isinstance(given, tuple) and len(given) == 2):
            self._old(f"reset gives {_kind(given)}: return observation, info")
            given = (given, {})
        elif not isinstance(given[1], dict):
            if any(objections(self.observation_space, given, "")):
                self._findings.problem(f"reset gives {shown(given[1])} as its info: return observation, {{}}")
            else:
                self._old(f"reset gives {_kind(given)}: return observation, info")
                given = (given, {})
        self.seed, self.length = seed, 0
        self._look(given[0], f"the observation of {call}")
        return given[0]

    def step(self, flat: Any, where: str = "") -> Made:
        """Make a step, and look at what it gives."""
        action = self.decode(flat)
        self.length += 1
        at = f"step {self.length} of the episode with seed {self.seed}"
        try:
            given = self.live.step(action)
        except Exception as error:
            self._findings.problem(f"{at} raised {raised(error)}; its action was {shown(action)}{where}")
            raise Hopeless from error
        if not isinstance(given, tuple) or len(given) not in (4, 5):
            self._findings.problem(
                f"step gives {_kind(given)}: return observation, reward, terminated, truncated, info, five values"
            )
            raise Hopeless
        if len(given) == 4:
            self._old("step gives four values: return observation, reward, terminated, truncated, info")
            observation, reward, done, info = given
            given = (observation, reward, done, False, info)
        observation, reward, terminated, truncated, info = given
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                self._findings.problem(f"step gives {shown(flag)} as {name}: return bool(…)")
        if not isinstance(info, dict):
            self._findings.problem(f"step gives {shown(info)} as info: return a dict, such as {{}}")
        if isinstance(reward, np.ndarray) or not isinstance(reward, int | float | np.number | np.bool_):
            self._findings.problem(f"step gives {shown(reward)} as reward: return float(…)")
        elif not np.isfinite(reward):
            self._findings.problem(f"the reward of {at} is {reward}: rewards are finite numbers")
        self._look(observation, f"the observation of {at}")
        return Made(observation, reward, terminated, truncated)

    def random_action(self) -> Any:
        """A flat action that is allowed."""
        return random_action(self.observation, self.action, self.flat, self.random)

    def _look(self, observation: Any, what: str) -> None:
        objected = list(objections(self.observation_space, observation, "the observation"))
        for line in objected:
            self._findings.problem(line.replace("the observation", what, 1), line)
        out = np.zeros(self.observation.shape, self.observation.dtype)
        try:
            self.write(observation, out)
        except Exception as error:
            if not objected:
                self._findings.problem(f"{what} cannot be laid out flat: {raised(error)}")
            raise Hopeless from error
        self.flat = out
        if out.dtype == np.float32 and out.size:
            self.greatest = max(self.greatest, float(np.nan_to_num(np.abs(out), nan=0.0).max()))
        mask = self.observation.mask
        if mask is not None and not objected:
            entries = iter(out[mask.start : mask.stop].tolist())
            for leaf in self.action.leaves:
                if isinstance(leaf, Choice) and not any([next(entries, 1) > 0 for _ in range(leaf.n)]):
                    self._findings.problem(f"the action_mask in {what} allows nothing: let one action be 1 at least")

    def _layout(self, name: str, layout: Any) -> Any:
        space = getattr(self, name)
        if not isinstance(space, gymnasium.Space):
            self._findings.problem(f"{name} is {shown(space)}: use one of gymnasium.spaces")
            raise Hopeless
        try:
            return layout(space)
        except TypeError as error:
            self._findings.problem(f"{name}: {error}")
            raise Hopeless from error

    def _check_mask_size(self) -> None:
        mask, leaves = self.observation.mask, self.action.leaves
        if mask is None:
            return
        size, wanted = mask.stop - mask.start, sum(leaf.n for leaf in leaves if isinstance(leaf, Choice))
        if not self.action.discrete:
            self._findings.problem(
                "the observation has an action_mask, but not all of an action is discrete: leave it out"
            )
        elif size != wanted:
            self._findings.problem(
                f"action_mask has {size} entries, but there are {wanted} actions: one entry for each, one choice after "
                "the other"
            )

    def _notes(self) -> None:
        space, actions = self.observation_space, self.action_space
        if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 3:
            if space.dtype != np.uint8 and space.shape[-1] in (1, 3, 4):
                self._findings.note(
                    f"observation_space has the shape of an image, but dtype {space.dtype}: images are uint8, 0 to "
                    "255; others are seen as so many numbers"
                )
            elif space.dtype == np.uint8 and space.shape[0] in (1, 3, 4) and space.shape[-1] not in (1, 3, 4):
                self._findings.note(f"observation_space has shape {space.shape}: images are height × width × channels")
        if isinstance(actions, gymnasium.spaces.Box) and not (
            np.isfinite(actions.low).all() and np.isfinite(actions.high).all()
        ):
            self._findings.note("action_space has no bounds: policies begin with numbers around 0, about 1 large")

    def _adapt(self) -> None:
        """From here on gym's old interface is seen through the adapter that training uses."""
        if not takes_seed(self.live):
            self._old("reset takes no seed: def reset(self, *, seed=None, options=None)")
        try:
            self.live = OldGym(self.live)
        except TypeError as error:
            self._findings.problem(str(error))
            raise Hopeless from error
        self.observation_space, self.action_space = self.live.observation_space, self.live.action_space

    def _old(self, said: str) -> None:
        self._findings.note(f"{said} (gym's old interface, which is adapted)")


def _kind(given: Any) -> str:
    return f"a tuple of {len(given)}" if isinstance(given, tuple) else f"a {type(given).__name__}"


def raised(error: Exception) -> str:
    """An error in words, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
