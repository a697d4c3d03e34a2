"""Why a value is not one of a space, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import iterate

__all__ = ["objections"]


def objections(space: Any, value: Any, what: str) -> Iterator[str]:
    """What keeps a value from being a member of a space, a line for each part of it.

    Args:
        space: one of gymnasium's spaces.
        value: anything.
        what: what the value is called.
    """
    match space:
        case spaces.Dict():
            yield from _dict(space, value, what)
        case spaces.Tuple():
            if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
                yield f"{what} is {shown(value)}, and its space a Tuple: return a tuple of {len(space.spaces)} entries"
                return
            for number, (inner, one) in enumerate(zip(space.spaces, value, strict=True)):
                yield from objections(inner, one, f"{what}[{number}]")
        case spaces.Sequence():
            yield from _sequence(space, value, what)
        case spaces.Discrete():
            yield from _discrete(space, value, what)
        case spaces.Box() | spaces.MultiDiscrete() | spaces.MultiBinary():
            yield from _array(space, value, what)
        case _:
            if not space.contains(value):
                yield f"{what} is {shown(value)}, which is not in {space}"


def _dict(space: spaces.Dict, value: Any, what: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{what} is {shown(value)}, and its space a Dict: return a dict with {', '.join(map(repr, space))}"
        return
    missing = [key for key in space.spaces if key not in value]
    more = [key for key in value if key not in space.spaces]
    if missing:
        yield f"{what} has no {', no '.join(map(repr, missing))}, which its space has"
    if more:
        yield f"{what} has {', '.join(map(repr, more))}, which its space has not"
    for key, inner in space.spaces.items():
        if key in value:
            yield from objections(inner, value[key], f"{what}[{key!r}]")


def _sequence(space: spaces.Sequence, value: Any, what: str) -> Iterator[str]:
    if space.stack:
        try:
            entries = list(iterate(space.stacked_feature_space, value))
        except Exception:
            yield f"{what} is {shown(value)}, and its space a stacked Sequence: return arrays with the length first"
            return
    elif isinstance(value, tuple):
        entries = list(value)
    else:
        yield f"{what} is {shown(value)}, and its space a Sequence: return a tuple of entries"
        return
    for number, one in enumerate(entries):
        yield from objections(space.feature_space, one, f"{what}[{number}]")


def _discrete(space: spaces.Discrete, value: Any, what: str) -> Iterator[str]:
    low, high = int(space.start), int(space.start + space.n - 1)
    kind = np.asarray(value).dtype.kind
    if np.shape(value) != () or kind not in "iu":
        yield f"{what} is {shown(value)}, and its space {space}: return a whole number from {low} to {high}"
    elif not low <= int(value) <= high:
        yield f"{what} is {int(value)}, but its space {space} has {low} to {high}"
    elif not space.contains(value):
        yield f"{what} is {shown(value)}, which is not in {space}: return int(…)"


def _array(space: Any, value: Any, what: str) -> Iterator[str]:
    dtype = np.dtype(space.dtype)
    wanted = f"shape {tuple(space.shape)}, dtype {dtype}"
    if not isinstance(value, np.ndarray | np.generic):
        yield f"{what} is {shown(value)}: return a NumPy array ({wanted})"
        return
    if value.shape != space.shape:
        yield f"{what} has shape {value.shape}, its space {tuple(space.shape)}"
        return
    if value.dtype.kind not in "fiub":
        yield f"{what} has dtype {value.dtype}: return numbers ({wanted})"
        return
    if np.isnan(value).any():
        yield f"{what} has NaN{_where(np.isnan(value))}"
        return
    low, high = _bounds(space)
    outside = (value < low) | (value > high)
    if outside.any():
        at = tuple(int(i) for i in np.argwhere(np.atleast_1d(outside))[0])
        number, least, most = (
            np.broadcast_to(np.atleast_1d(x), np.shape(outside) or 1)[at] for x in (value, low, high)
        )
        yield f"{what} is {number}{_where(outside)}, its space from {least} to {most}: widen the bounds, or clip it"
    elif not np.can_cast(value.dtype, dtype):
        yield f"{what} has dtype {value.dtype}, its space {dtype}: return it as .astype(np.{dtype})"


def _bounds(space: Any) -> tuple[Any, Any]:
    match space:
        case spaces.Box():
            return space.low, space.high
        case spaces.MultiDiscrete():
            return space.start, space.start + space.nvec - 1
    return np.zeros(space.shape), np.ones(space.shape)


def _where(which: Any) -> str:
    places = np.argwhere(which)
    if places.shape[1] == 0:
        return ""
    first = ", ".join(map(str, places[0].tolist()))
    return f" at [{first}]" + (f" and {len(places) - 1} other places" if len(places) > 1 else "")


def shown(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = str(value) if isinstance(value, np.generic) else repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({type(value).__name__})"


def difference(one: Any, other: Any, what: str) -> str:
    """What differs between two values, if anything: a path to the first part that does, and both."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return next((said for key in one if (said := difference(one[key], other[key], f"{what}[{key!r}]"))), "")
    if isinstance(one, tuple | list) and isinstance(other, tuple | list) and len(one) == len(other):
        each = enumerate(zip(one, other, strict=True))
        return next((said for i, (a, b) in each if (said := difference(a, b, f"{what}[{i}]"))), "")
    a, b = np.asarray(one), np.asarray(other)
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{what}: {shown(one)} and {shown(other)}"
    if a.tobytes() == b.tobytes():
        return ""
    unequal = np.atleast_1d(a != b)
    if not unequal.any():
        return ""
    first = tuple(np.argwhere(unequal)[0])
    return f"{what}: {np.atleast_1d(a)[first]} and {np.atleast_1d(b)[first]}{_where(unequal) if a.shape else ''}"
