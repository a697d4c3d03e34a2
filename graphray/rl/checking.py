"""Checking an environment that somebody has written: what is wrong with it, in words."""

from __future__ import annotations

import contextlib
import copy
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from graphray.rl.adapters import bare
from graphray.rl.environments import Environment, construct, described, name_of, with_tasks
from graphray.rl.membership import difference
from graphray.rl.spaces import Numbers
from graphray.rl.trying import Findings, Hopeless, Made, Tried, raised

__all__ = ["EnvironmentProblems", "Report", "check_env"]

_SECONDS = 10.0  # for stepping, in all
_REPEATED = 50  # steps that are compared


class EnvironmentProblems(ValueError):
    """What is wrong with an environment; `problems` has a line for each."""

    def __init__(self, name: str, problems: tuple[str, ...], notes: tuple[str, ...] = ()) -> None:
        super().__init__(name, problems, notes)
        self.name, self.problems, self.notes = name, problems, notes

    def __str__(self) -> str:
        count = len(self.problems)
        lines = [f"{self.name} has {count} problem{'s' * (count > 1)}:", *(f"- {line}" for line in self.problems)]
        if self.notes:
            lines += ["and there is to say:", *(f"- {line}" for line in self.notes)]
        return "\n".join(lines)


class Report(NamedTuple):
    """What was found out about an environment in which no problem was found."""

    name: str
    observation: str
    action: str
    steps: int
    """How many were made."""
    episodes: int
    """How many of them ended one."""
    notes: tuple[str, ...]
    """What is no problem, but might be better."""

    def __repr__(self) -> str:
        lines = [
            f"{self.name}: no problems found in {self.steps} steps and {self.episodes} whole episodes",
            f"observations: {self.observation}",
            f"actions: {self.action}",
            *(f"note: {line}" for line in self.notes),
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return repr(self)


def check_env(env: Any, env_config: Mapping[str, Any] | None = None, *, steps: int = 1000) -> Report:
    """Try an environment out, and say what is wrong with it.

    It is made, reset and stepped with random actions that are allowed. Checked are its spaces and whether what it shows
    lies in them, what `reset` and `step` take and give, masks, tasks, actions at the edge of their space, and whether
    it is a function of its seed and the actions.

    Args:
        env: a class, a function, an id, `"module.Class"`, a registered name; or an environment, which is then compared
            with itself, and not closed.
        env_config: what it is made with.
        steps: how many to make at most.

    Returns:
        What was found, to be printed; where it is shown, it says that there are no problems.

    Raises:
        EnvironmentProblems: a ValueError that lists all problems, and for each what to do.

    Warns:
        UserWarning: what is no problem, but hardly what was meant.
    """
    check = _Check(steps)
    if not callable(env) and not isinstance(env, str) and hasattr(env, "step"):
        name = type(env).__name__
        found = check.all(name, lambda: env)
    else:
        try:
            source = described(env, env_config)
        except (TypeError, ValueError, ImportError) as error:
            raise EnvironmentProblems(str(env), (str(error),)) from error
        name = name_of(source)
        with contextlib.ExitStack() as stack:
            found = check.all(name, lambda: _closed_later(source, stack, check))
    if check.problems:
        raise EnvironmentProblems(name, tuple(check.problems), tuple(check.notes))
    for note in check.notes:
        warnings.warn(f"{name}: {note}", stacklevel=2)
    return found


def _closed_later(source: Environment, stack: contextlib.ExitStack, check: _Check) -> Any:
    made = construct(source)

    def close() -> None:
        try:
            getattr(made, "close", lambda: None)()
        except Exception as error:
            check.problem(f"close() raised {raised(error)}")

    stack.callback(close)
    return made


class _Check(Findings):
    """The checks, in order, and what they have found so far."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.deadline = time.monotonic() + _SECONDS
        self.made = self.ended = 0

    def all(self, name: str, make: Callable[[], Any]) -> Report:
        """Everything, in the order in which one thing needs the other."""
        spaces = ("?", "?")
        with contextlib.suppress(Hopeless):
            made = self.construct(make)
            spaces = (str(made.observation_space), str(made.action_space))
            one = Tried(self, made)
            self.episodes(one, bare(made)[1])
            self.edges(one)
            self.repeats(one, lambda: Tried(self, self.construct(make)))
            self.tasks(one)
        return Report(name, *spaces, self.made, self.ended, tuple(self.notes))

    def construct(self, make: Callable[[], Any]) -> Any:
        """One of them."""
        try:
            made = make()
        except Exception as error:
            self.problem(f"making it raised {raised(error)}: see what env_config became")
            raise Hopeless from error
        missing = {
            "observation_space": "self.observation_space = gymnasium.spaces.Box(…) in __init__",
            "action_space": "self.action_space = gymnasium.spaces.Discrete(…) in __init__",
            "reset": "def reset(self, *, seed=None, options=None), which returns observation, info",
            "step": "def step(self, action), which returns observation, reward, terminated, truncated, info",
        }
        lacks = [part for part in missing if getattr(made, part, None) is None]
        for part in lacks:
            self.problem(f"it has no {part}: add {missing[part]}")
        if lacks:
            raise Hopeless
        return made

    def episodes(self, one: Tried, limit: int | None) -> None:
        """Steps by random actions, over several episodes."""
        one.reset(None, "reset() without a seed")
        seed = 0
        while self.made < self.steps and time.monotonic() < self.deadline:
            one.reset(seed)
            seed += 1
            over, length = False, 0
            while not over and self.made < self.steps and time.monotonic() < self.deadline:
                over = one.step(one.random_action()).over
                length += 1
                self.made += 1
                over |= length == limit
            self.ended += over
        if not self.ended and self.made >= self.steps:
            self.note(
                f"no episode had ended after {self.made} steps: let `step` return truncated=True after some number of "
                "steps, or give the algorithm a `horizon`"
            )
        if one.greatest > 1000:
            self.note(
                f"observations have numbers up to {one.greatest:.3g}: networks learn from small ones; scale them, or "
                'use observation_filter="MeanStdFilter"'
            )

    def edges(self, one: Tried) -> None:
        """Actions at the edges of their space."""
        if one.observation.mask is not None:
            return  # they may not be allowed, and others have been tried
        for edge, number in (("lower", -1.0), ("upper", 1.0)):
            flat: list[float] = []
            for leaf in one.action.leaves:
                if isinstance(leaf, Numbers):
                    flat += [number] * leaf.size
                else:
                    flat.append(0 if number < 0 else leaf.n - 1)
            one.reset(0)
            one.step(np.array(flat, one.action.dtype), f", at the {edge} edge of action_space")

    def repeats(self, one: Tried, another: Callable[[], Tried]) -> None:
        """Whether equal seeds and equal actions give equal episodes."""
        advice = "call super().reset(seed=seed) in reset, and draw all randomness from self.np_random"
        for seed in (11, 12):
            begun, actions, happened = self._recorded(another(), seed)
            for who, tried, why in (
                ("two environments", another(), advice),
                ("an environment that has been used and a new one", one, "set everything anew in reset(seed=…)"),
            ):
                said = difference(begun, tried.reset(seed), "the observation")
                at = "reset"
                for number, (action, before) in enumerate(zip(actions, happened, strict=True), 1):
                    if said:
                        break
                    at = f"step {number}"
                    after = tried.step(action)
                    said = next(filter(None, map(difference, before, after, before._fields)), "")
                if said:
                    self.problem(f"{who} with the same seed differ in {at}, in {said}: {why}")
                    return

    def _recorded(self, one: Tried, seed: int) -> tuple[Any, list[Any], list[Made]]:
        begun = copy.deepcopy(one.reset(seed))
        actions: list[Any] = []
        happened: list[Made] = []
        while len(actions) < _REPEATED and not (happened and happened[-1].over):
            actions.append(one.random_action())
            happened.append(copy.deepcopy(one.step(actions[-1])))
        return begun, actions, happened

    def tasks(self, one: Tried) -> None:
        """What a curriculum needs, if there is any of it."""
        has = {name for name in ("get_task", "set_task") if callable(getattr(one.live, name, None))}
        if len(has) == 1:
            other = ({"get_task", "set_task"} - has).pop()
            self.problem(f"it has {has.pop()}(), but no {other}(): an environment with tasks has both")
        settable = with_tasks(one.live)
        if settable is None:
            return
        try:
            tasks = [settable.get_task()]
            if callable(getattr(settable, "sample_tasks", None)):
                with contextlib.suppress(NotImplementedError):
                    tasks += list(settable.sample_tasks(2))
            for task in tasks:
                settable.set_task(task)
                said = difference(task, settable.get_task(), "the task")
                if said:
                    self.problem(f"get_task() does not give what set_task(task) has set: {said}")
        except Exception as error:
            self.problem(f"get_task(), set_task(get_task()) or sample_tasks(2) raised {raised(error)}")
            return
        one.reset(0, "reset(seed=0) after set_task")
