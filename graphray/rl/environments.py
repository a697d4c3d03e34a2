"""Environments: what is known about one, and how its state can become a value.

An environment on the host is a live object. Rollouts are pure functions all the same, because the state of an
environment can be written down: as the seed its episode was reset with and the actions taken since, and as a snapshot
of the object where that is quicker. `register` finds out by trying whether that is true of an environment, as no flag
can be trusted: gymnasium's `EzPickle` environments (Box2D, MuJoCo), for one, pickle their constructor's arguments only,
so that what comes back is a fresh environment, without any error.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import pickle
import random
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import cloudpickle
import gymnasium
import numpy as np
from numpy.typing import NDArray

from graphray.rl.adapters import FrameStack, OldGym, bare, speaks_old_gym
from graphray.rl.registry import lookup
from graphray.rl.spaces import (
    ActionLayout,
    Choice,
    ObservationLayout,
    action_layout,
    decoder,
    encoder,
    observation_layout,
)

__all__ = [
    "Environment",
    "EnvironmentFailed",
    "LiveEnv",
    "NotReproducible",
    "construct",
    "described",
    "make",
    "name_of",
    "random_action",
    "register",
    "snapshot",
    "unwrapped",
    "with_tasks",
]

LiveEnv: TypeAlias = "gymnasium.Env[Any, Any]"

_UNKNOWN = (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv)

# Steps taken before the copy is made, and compared after it: across several episodes of a random policy. Slow
# environments are given so many seconds, and at least a few steps.
_PROBE_BEFORE, _PROBE_AFTER, _PROBE_LEAST, _PROBE_SECONDS = 12, 120, 8, 1.0


class NotReproducible(UserWarning):
    """The environment is not a function of its seed and the actions taken, so no rollout of it can be repeated."""


class EnvironmentFailed(RuntimeError):
    """An environment raised an exception, or returned something that is not a number."""


class Environment(NamedTuple):
    """What a rollout has to know about an environment: a small value that travels with tasks."""

    source: str | Callable[..., Any]
    """A gymnasium id, or a function that makes the environment."""
    arguments: bytes
    """What it is made with: a pickled `(args, kwargs)`."""
    observation: ObservationLayout
    action: ActionLayout
    state: Literal["snapshot", "replay", "none"]
    """How its state is written down: with its own pickle, by seed and actions of the episode alone, or not at all."""
    limit: int | None = None
    """Steps after which rollouts cut an episode off."""
    framestack: int = 1
    old_gym: bool = False
    """Whether it is adapted, as it has gym's old interface, or gymnasium's without deriving from its class."""
    settable: bool = False
    """Whether it has tasks that can be set."""
    sequence_length: int = 16


def register(
    source: Any,
    env_config: Mapping[str, Any] | None = None,
    *,
    horizon: int | None = None,
    framestack: int = 1,
    sequence_length: int = 16,
    probe: bool = True,
) -> Environment:
    """Look at an environment once, before training: its spaces, and how its state can be written down.

    Args:
        source: a gymnasium id (`"CartPole-v1"`, `"module:Name-v0"`), a class, a function that returns an environment,
            `"module.Class"`, or a name given to `rl.register_env`.
        env_config: becomes keyword arguments for ids and for constructors that take them, the one dict argument for
            constructors like `__init__(self, config)`, nothing for those that take nothing.
        horizon: cut episodes off after so many steps.
        framestack: how many of the latest observations are shown.
        sequence_length: how much of observations of variable length is looked at.
        probe: whether to try how its state can be written down; otherwise it is taken to be a function of seed and
            actions.

    Raises:
        TypeError: a kind of observation or action space that has no layout, or arguments that do not fit.
        ValueError: there is no such environment.

    Warns:
        NotReproducible: after equal seeds and equal actions two copies differ. It can be trained in, but a training
            that goes on in another process goes on with new episodes.
    """
    env = described(source, env_config)
    first = construct(env)
    try:
        _check_parts(env, first)
        first, limit = bare(first)
        limits = [one for one in (limit, horizon) if one is not None]
        old = speaks_old_gym(first)
        if old:
            warnings.warn(
                f"{name_of(env)} has gym's old interface (reset() gives an observation, step four values) and is "
                "adapted; gymnasium's tells ends from time limits",
                stacklevel=3,
            )
        old |= not isinstance(first, gymnasium.Env)
    finally:
        getattr(first, "close", lambda: None)()
    env = env._replace(old_gym=old, framestack=framestack, sequence_length=sequence_length)
    with contextlib.closing(make(env)) as live:
        env = env._replace(
            observation=_layout(env, live.observation_space, observation_layout, sequence_length),
            action=_layout(env, live.action_space, action_layout),
            limit=min(limits, default=None),
            settable=with_tasks(live) is not None,
        )
    return env._replace(state=_how_to_write_down(env)) if probe else env


def described(source: Any, env_config: Mapping[str, Any] | None = None) -> Environment:
    """How the environment is made; nothing else is known yet.

    Raises:
        TypeError, ValueError: there is no such environment.
    """
    found = lookup(source)
    arguments = cloudpickle.dumps(_arguments(found, dict(env_config or {})))
    return Environment(found, arguments, ObservationLayout((0,), "float32", ()), ActionLayout((), ()), "replay")


def make(env: Environment, **more: Any) -> LiveEnv:
    """A new live environment. It has not been reset yet; its time limit is the rollout's to keep.

    Args:
        env: as it was registered.
        more: further keyword arguments of what makes it, such as `render_mode`.
    """
    live: Any = bare(construct(env, **more))[0]
    if env.old_gym:
        live = OldGym(live)
    return FrameStack(live, env.framestack) if env.framestack > 1 else live


def construct(env: Environment, **more: Any) -> Any:
    """What the user's code, or gymnasium, makes; with more keyword arguments.

    Raises:
        ValueError: gymnasium knows no such environment.
        ModuleNotFoundError: it needs a package that is not there.
    """
    args, kwargs = pickle.loads(env.arguments)
    kwargs |= more
    if callable(env.source):
        return env.source(*args, **kwargs)
    try:
        # The checker costs a third of a CartPole step, and is meant for writing environments.
        return gymnasium.make(env.source, disable_env_checker=True, **kwargs)
    except gymnasium.error.DependencyNotInstalled as error:
        raise ModuleNotFoundError(f"{env.source} needs a package that is not there: {error}") from error
    except gymnasium.error.Error as error:
        if not isinstance(error, _UNKNOWN) and type(error) is not gymnasium.error.Error:  # that is a malformed id
            raise
        raise ValueError(
            f"there is no environment {env.source!r}: {str(error).rstrip('.')}. Others are classes, functions, "
            "`module.Class` paths, and names given to rl.register_env"
        ) from None


def snapshot(live: LiveEnv) -> bytes:
    """A live environment as its pickle; one of a class from the user's script can be had again in other processes.

    Of the copy that its pickle gives, for which objects are one and which are only equal hangs on what the live one has
    been through, and shows in a pickle: the same state gives the same bytes.
    """
    return cloudpickle.dumps(pickle.loads(cloudpickle.dumps(live)))  # type: ignore[no-any-return]


def unwrapped(live: Any) -> Any:
    """The user's own object within what `make` gives."""
    inner = getattr(live, "unwrapped", live)
    return unwrapped(inner.env) if isinstance(inner, OldGym) else inner


def with_tasks(live: Any) -> Any:
    """The outermost of the wrappers, or the environment within, that has tasks; None if there is none."""
    while live is not None:
        if all(callable(getattr(live, name, None)) for name in ("get_task", "set_task")):
            return live
        live = getattr(live, "env", None)
    return None


def name_of(env: Environment) -> str:
    """What the environment is called in messages."""
    return env.source if isinstance(env.source, str) else getattr(env.source, "__qualname__", repr(env.source))


def _layout(env: Environment, space: Any, layout: Any, *more: Any) -> Any:
    try:
        return layout(space, *more)
    except TypeError as error:
        raise TypeError(f"{name_of(env)}: {error}") from None


def _check_parts(env: Environment, made: Any) -> None:
    missing = [part for part in ("observation_space", "action_space", "reset", "step") if not hasattr(made, part)]
    if missing:
        raise TypeError(
            f"{name_of(env)} gives {type(made).__name__!r}, which is no environment: it has no {', no '.join(missing)}"
        )


def _arguments(source: Any, config: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How `env_config` is handed to what makes the environment."""
    if isinstance(source, str):
        return (), config
    try:
        parameters = list(inspect.signature(source).parameters.values())
    except (TypeError, ValueError):  # some that are written in C do not tell
        return (), config
    if not parameters:
        return (), {}
    names = {one.name for one in parameters}
    keywords = any(one.kind is one.VAR_KEYWORD for one in parameters)
    if config and (keywords or config.keys() <= names):
        return (), config
    return ((config,), {}) if _takes_config(parameters) else ((), config)


def _takes_config(parameters: list[inspect.Parameter]) -> bool:
    """Whether it is like `__init__(self, config)`: one argument that has to be given, or one of that name."""
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    if not positional:
        return False
    first, others = positional[0], positional[1:]
    required = first.default is first.empty and all(one.default is not one.empty for one in others)
    return required or first.name in ("config", "env_config", "env_context")


# ---- how its state can be written down


def _how_to_write_down(env: Environment) -> Literal["snapshot", "replay", "none"]:
    with contextlib.ExitStack() as stack:
        first, second, used = (_Probed(env, stack.enter_context(contextlib.closing(make(env)))) for _ in range(3))
        return _probe(env, first, second, used)


class _Probed:
    """An environment that is tried out."""

    def __init__(self, env: Environment, live: Any) -> None:
        self.env, self.live = env, live
        self.encode = encoder(live.observation_space, env.observation)
        self.decode = decoder(env.action)
        self.random = random.Random(0)

    def start(self, seed: int) -> NDArray[Any]:
        return self._flat(self.live.reset(seed=seed)[0])

    def step(self, action: Any) -> tuple[NDArray[Any], Any, bool, bool]:
        observation, reward, terminated, truncated, _ = self.live.step(action)
        return self._flat(observation), reward, bool(terminated), bool(truncated)

    def _flat(self, observation: Any) -> NDArray[Any]:
        out = np.empty(self.env.observation.shape, self.env.observation.dtype)
        self.encode(observation, out)
        return out

    def sample(self, shown: NDArray[Any]) -> Any:
        """An action that is allowed."""
        return self.decode(random_action(self.env.observation, self.env.action, shown, self.random))


def random_action(
    observation: ObservationLayout, action: ActionLayout, shown: NDArray[Any] | None, random: random.Random
) -> NDArray[Any]:
    """A flat action, of those that are allowed by what is shown."""
    sizes = [leaf.n for leaf in action.leaves if isinstance(leaf, Choice)]
    mask = observation.mask if shown is not None else None
    if mask is None or shown is None or not action.discrete or mask.stop - mask.start != sum(sizes):
        entries = itertools.repeat(1.0)
    else:
        entries = iter(shown[mask.start : mask.stop].tolist())
    columns: list[float] = []
    for leaf in action.leaves:
        if isinstance(leaf, Choice):
            columns.append(random.choice([i for i in range(leaf.n) if next(entries) > 0] or [0]))
        else:
            columns += [random.uniform(-1, 1) for _ in range(leaf.size)]
    return np.array(columns, action.dtype)


def _probe(env: Environment, first: _Probed, second: _Probed, used: _Probed) -> Literal["snapshot", "replay", "none"]:
    begun = time.monotonic()
    shown = first.start(1)
    same = _equal(shown, second.start(1))
    before = _same_future(first, second, shown, _PROBE_BEFORE)
    took = (time.monotonic() - begun) / max(1, 2 * _PROBE_BEFORE)
    after = max(_PROBE_LEAST, min(_PROBE_AFTER, int(_PROBE_SECONDS / (5 * took + 1e-9))))
    if not same or not before.same:
        return _unrepeatable(env, "equal seeds and equal actions do not give equal episodes")
    try:
        copy = _Probed(env, pickle.loads(snapshot(first.live)))
        if _same_future(first, copy, before.shown, after).same:
            return "snapshot"
    except Exception:  # an environment may fail in any way at being copied; it just has no snapshot then
        pass

    # Replaying resets whatever environment is at hand, so a used one has to do as well as a new one.
    _same_future(used, second, _both_start(used, second, 2)[1], _PROBE_BEFORE)
    same, shown = _both_start(used, second, 1)
    if same and _same_future(used, second, shown, after).same:
        return "replay"
    return _unrepeatable(
        env, "it cannot be copied by pickling, and `reset(seed=…)` does not forget its earlier episodes"
    )


def _unrepeatable(env: Environment, why: str) -> Literal["none"]:
    warnings.warn(
        NotReproducible(
            f"{name_of(env)}: {why}, so that its state cannot be written down, and no run with it can be repeated. "
            "Draw all randomness from `self.np_random`, and reset everything in `reset(seed=…)`"
        ),
        stacklevel=4,
    )
    return "none"


class _Compared(NamedTuple):
    same: bool
    shown: NDArray[Any]


def _both_start(one: _Probed, other: _Probed, seed: int) -> tuple[bool, NDArray[Any]]:
    shown = one.start(seed)
    return _equal(shown, other.start(seed)), shown


def _same_future(one: _Probed, other: _Probed, shown: NDArray[Any], steps: int) -> _Compared:
    """Whether both answer the same to the same actions, bit for bit, across ends of episodes too."""
    same = True
    for number in range(steps):
        action = one.sample(shown)
        left, right = one.step(action), other.step(action)
        same &= all(_equal(a, b) for a, b in zip(left, right, strict=True))
        shown = left[0]
        if left[2] or left[3] or right[2] or right[3]:
            equal, shown = _both_start(one, other, number)
            same &= equal
    return _Compared(same, shown)


def _equal(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
