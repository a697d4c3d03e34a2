"""Spaces: what environments show and accept, as flat arrays.

Every observation is one flat array and every action another, whatever spaces an environment has; so that rollouts,
replay, cursors and checkpoints hold plain arrays, and copy nothing but numbers. The layouts say what is where in them.
They are values: small, hashable, and known before anything is traced.

- Box, MultiBinary: their numbers. Discrete, MultiDiscrete: one-hot. Tuple, Dict: their entries one behind the other, a
  Dict's in the space's order. Sequence: the last `sequence_length` entries, zeros behind them, then 1 for each that is
  there.
- A space that is an image and nothing else (uint8, height × width × channels) stays one, in bytes.
- In a Dict, `action_mask` holds 1 for each action that is allowed.
- Actions: an integer for each discrete choice; numbers that are proportional to the bounded entries of a Box, -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from gymnasium import Space, spaces
from gymnasium.vector.utils import iterate
from numpy.typing import NDArray

__all__ = [
    "MASK",
    "ActionLayout",
    "Choice",
    "Numbers",
    "ObservationLayout",
    "Part",
    "action_layout",
    "decoder",
    "encoder",
    "observation_layout",
    "structure",
]

MASK = "action_mask"

Path: TypeAlias = tuple[str | int, ...]


class Part(NamedTuple):
    """A simple space within an observation."""

    path: Path
    """Where it is: keys of Dicts and positions in Tuples, from the outermost."""
    kind: Literal["numbers", "one_hot", "binary", "image", "sequence", "mask"]
    shape: tuple[int, ...]
    """As the network sees it; of a sequence, its greatest length and the size of an entry."""
    start: int
    stop: int


class ObservationLayout(NamedTuple):
    """How observations are laid out in a flat array."""

    shape: tuple[int, ...]
    """Of one observation: (n,), or (height, width, channels) for an image alone."""
    dtype: Literal["float32", "uint8"]
    parts: tuple[Part, ...]

    @property
    def mask(self) -> Part | None:
        """The part that says which actions are allowed."""
        return next((part for part in self.parts if part.kind == "mask"), None)

    @property
    def plain(self) -> bool:
        """Whether it is one vector, that dense layers can take as it is; a mask does not count."""
        return all(part.kind not in ("image", "sequence") for part in self.parts)


class Choice(NamedTuple):
    """One of n."""

    path: Path
    n: int
    start: int
    """The number of the first; policies count from 0."""


class Numbers(NamedTuple):
    """Real numbers."""

    path: Path
    shape: tuple[int, ...]
    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        """How many."""
        return len(self.low)


class ActionLayout(NamedTuple):
    """How actions are laid out in a flat array, (size,)."""

    leaves: tuple[Choice | Numbers, ...]
    form: Any
    """How the leaves make up the action: see `decoder`."""

    @property
    def size(self) -> int:
        """Length of the flat action."""
        return sum(leaf.size if isinstance(leaf, Numbers) else 1 for leaf in self.leaves)

    @property
    def dtype(self) -> Any:
        """Of the flat action: integers, if all are choices."""
        return np.int32 if self.discrete else np.float32

    @property
    def discrete(self) -> bool:
        """Whether all of it is choices."""
        return all(isinstance(leaf, Choice) for leaf in self.leaves)

    @property
    def continuous(self) -> bool:
        """Whether all of it is numbers."""
        return all(isinstance(leaf, Numbers) for leaf in self.leaves)


# ---- observations


def observation_layout(space: Space[Any], sequence_length: int = 16) -> ObservationLayout:
    """The layout of a space.

    Raises:
        TypeError: a kind of space that has none (Text, Graph).
    """
    if _is_image(space):
        assert isinstance(space, spaces.Box)
        part = Part((), "image", space.shape, 0, int(np.prod(space.shape)))
        return ObservationLayout(space.shape, "uint8", (part,))
    parts = tuple(_parts(space, (), 0, sequence_length))
    return ObservationLayout((parts[-1].stop if parts else 0,), "float32", parts)


def _is_image(space: Any) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _parts(space: Any, path: Path, start: int, longest: int) -> Iterator[Part]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for key, inner in _entries(space):
            for part in _parts(inner, (*path, key), start, longest):
                yield part
                start = part.stop
        return
    kind, shape = _simple(space, longest)
    if path and path[-1] == MASK:
        kind = "mask"
    size = int(np.prod(shape)) + (shape[0] if kind == "sequence" else 0)
    yield Part(path, kind, shape, start, start + size)


def _entries(space: Any) -> list[tuple[Any, Any]]:
    return list(space.spaces.items()) if isinstance(space, spaces.Dict) else list(enumerate(space.spaces))


def _simple(space: Any, longest: int) -> tuple[Any, tuple[int, ...]]:
    match space:
        case spaces.Box():
            return ("image" if _is_image(space) else "numbers"), space.shape
        case spaces.Discrete():
            return "one_hot", (int(space.n),)
        case spaces.MultiDiscrete():
            return "one_hot", (int(np.sum(space.nvec)),)
        case spaces.MultiBinary():
            return "binary", tuple(space.shape)
        case spaces.Sequence():
            return "sequence", (longest, _feature_parts(space, longest)[-1].stop)
    raise TypeError(
        "an observation may be made of Box, Discrete, MultiDiscrete, MultiBinary, Sequence, Tuple and Dict, "
        f"not {space}"
    )


def _feature_parts(space: spaces.Sequence, longest: int) -> tuple[Part, ...]:
    return tuple(_parts(space.feature_space, (), 0, longest))


def encoder(space: Space[Any], layout: ObservationLayout) -> Callable[[Any, NDArray[Any]], None]:
    """A function that writes an observation into a flat array: `write(observation, out)`."""
    if isinstance(space, spaces.Box):
        shape, out_shape = space.shape, layout.shape
        if shape == out_shape:
            return _write_same

        def reshaped(observation: Any, out: NDArray[Any]) -> None:
            out[...] = np.reshape(observation, out_shape)

        return reshaped
    return _each_part(space, layout.parts)


def _each_part(space: Any, parts: tuple[Part, ...]) -> Callable[[Any, NDArray[Any]], None]:
    writers = [(part, _writer(_inner(space, part.path), part)) for part in parts]

    def write(observation: Any, out: NDArray[Any]) -> None:
        for part, writer in writers:
            inner = observation
            for key in part.path:
                inner = inner[key]
            writer(inner, out[part.start : part.stop])

    return write


def _write_same(observation: Any, out: NDArray[Any]) -> None:
    out[...] = observation


def _inner(space: Any, path: Path) -> Any:
    for key in path:
        space = space[key]
    return space


def _writer(space: Any, part: Part) -> Callable[[Any, NDArray[Any]], None]:
    match space:
        case spaces.Discrete():
            first = int(space.start)

            def one_hot(value: Any, out: NDArray[Any]) -> None:
                out[...] = 0
                out[int(value) - first] = 1

            return one_hot
        case spaces.MultiDiscrete():
            starts = np.concatenate([[0], np.cumsum(np.ravel(space.nvec))[:-1]]) - np.ravel(space.start)

            def one_hots(value: Any, out: NDArray[Any]) -> None:
                out[...] = 0
                out[starts + np.ravel(value)] = 1

            return one_hots
        case spaces.Sequence():
            longest, size = part.shape
            one = _each_part(space.feature_space, _feature_parts(space, longest))

            def sequence(value: Any, out: NDArray[Any]) -> None:
                out[...] = 0
                entries = _items(space, value)[-longest:]
                rows = out[: longest * size].reshape(longest, size)
                for row, entry in zip(rows, entries, strict=False):
                    one(entry, row)
                out[longest * size : longest * size + len(entries)] = 1

            return sequence

    def numbers(value: Any, out: NDArray[Any]) -> None:
        out[...] = np.ravel(value)

    return numbers


def _items(space: Any, value: Any) -> list[Any]:
    """The entries of a Sequence's value, which may be stacked: arrays with the length first, in dicts and tuples."""
    return list(iterate(space.stacked_feature_space, value) if space.stack else value)


def structure(layout: ObservationLayout, flat: Any) -> Any:
    """The observations (…) that flat arrays (…, n) stand for, as nested dicts and tuples of arrays.

    Discrete entries stay one-hot; of a sequence it gives the entries (…, length, size) and which of them are there (…,
    length).
    """
    if len(layout.shape) > 1:
        return flat
    lead = flat.shape[:-1]
    if len(layout.parts) == 1 and not layout.parts[0].path:
        return _part(layout.parts[0], flat, lead)
    root: dict[Any, Any] = {}
    for part in layout.parts:
        at = root
        for key in part.path[:-1]:
            at = at.setdefault(key, {})
        at[part.path[-1]] = _part(part, flat, lead)
    return _tuples(root)


def _part(part: Part, flat: Any, lead: tuple[int, ...]) -> Any:
    cut = flat[..., part.start : part.stop]
    if part.kind != "sequence":
        return cut.reshape((*lead, *part.shape))
    longest, size = part.shape
    return cut[..., : longest * size].reshape((*lead, longest, size)), cut[..., longest * size :]


def _tuples(at: Any) -> Any:
    if not isinstance(at, dict):
        return at
    inner = {key: _tuples(value) for key, value in at.items()}
    return tuple(inner.values()) if all(isinstance(key, int) for key in inner) else inner


# ---- actions


def action_layout(space: Space[Any]) -> ActionLayout:
    """The layout of a space.

    Raises:
        TypeError: a kind of space that has none.
    """
    leaves: list[Choice | Numbers] = []
    form = _form(space, (), leaves)
    return ActionLayout(tuple(leaves), form)


def _form(space: Any, path: Path, leaves: list[Choice | Numbers]) -> Any:
    """What the leaves make up: ("choice", at), ("choices", at, stop, shape, dtype), ("numbers", at), or containers."""
    at = len(leaves)
    match space:
        case spaces.Discrete():
            leaves.append(Choice(path, int(space.n), int(space.start)))
            return ("choice", at)
        case spaces.MultiDiscrete():
            sizes, starts = np.ravel(space.nvec).tolist(), np.ravel(space.start).tolist()
            leaves += [Choice((*path, i), n, start) for i, (n, start) in enumerate(zip(sizes, starts, strict=True))]
            return ("choices", at, len(leaves), tuple(space.shape), np.dtype(space.dtype).str)
        case spaces.MultiBinary():
            leaves += [Choice((*path, i), 2, 0) for i in range(int(np.prod(space.shape)))]
            return ("choices", at, len(leaves), tuple(space.shape), np.dtype(space.dtype).str)
        case spaces.Box():
            low, high = (tuple(np.ravel(bound).astype(float).tolist()) for bound in (space.low, space.high))
            leaves.append(Numbers(path, tuple(space.shape), np.dtype(space.dtype).str, low, high))
            return ("numbers", at)
        case spaces.Tuple():
            return ("tuple", tuple(_form(inner, (*path, i), leaves) for i, inner in enumerate(space.spaces)))
        case spaces.Dict():
            inner = tuple((key, _form(one, (*path, key), leaves)) for key, one in space.spaces.items())
            return ("dict", inner)
    raise TypeError(f"an action may be made of Discrete, MultiDiscrete, MultiBinary, Box, Tuple and Dict, not {space}")


def decoder(layout: ActionLayout) -> Callable[[NDArray[Any]], Any]:
    """A function from a flat action to what the environment takes."""
    if layout.form[0] == "choice":
        (leaf,) = layout.leaves
        assert isinstance(leaf, Choice)
        first = leaf.start
        # CartPole and others take any integer; those that index with it are content, too.
        return (lambda flat: flat[0] + first) if first else (lambda flat: flat[0])
    widths = [leaf.size if isinstance(leaf, Numbers) else 1 for leaf in layout.leaves]
    offsets = np.concatenate([[0], np.cumsum(widths)]).tolist()
    return _decoder(layout.form, layout.leaves, offsets)


def _decoder(form: Any, leaves: Any, offsets: list[int]) -> Callable[[NDArray[Any]], Any]:
    match form:
        case ("choice", at):
            column, first = offsets[at], leaves[at].start
            return lambda flat: np.int64(flat[column]) + first
        case ("choices", at, stop, shape, dtype):
            begin, end = offsets[at], offsets[stop]
            starts = np.array([leaf.start for leaf in leaves[at:stop]])
            return lambda flat: (flat[begin:end] + starts).astype(dtype).reshape(shape)
        case ("numbers", at):
            return _numbers(leaves[at], offsets[at])
        case ("tuple", inner):
            each = [_decoder(one, leaves, offsets) for one in inner]
            return lambda flat: tuple(decode(flat) for decode in each)
        case ("dict", inner):
            named = [(key, _decoder(one, leaves, offsets)) for key, one in inner]
            return lambda flat: {key: decode(flat) for key, decode in named}
    raise AssertionError(form)


def _numbers(leaf: Numbers, begin: int) -> Callable[[NDArray[Any]], Any]:
    """Bounded entries are stretched from [-1, 1] to their bounds; none leaves them."""
    low, high = np.array(leaf.low, np.float64), np.array(leaf.high, np.float64)
    bounded = np.isfinite(low) & np.isfinite(high)
    scale, middle = np.ones(leaf.size), np.zeros(leaf.size)
    scale[bounded] = high[bounded] / 2 - low[bounded] / 2
    middle[bounded] = high[bounded] / 2 + low[bounded] / 2
    end, shape, dtype = begin + leaf.size, leaf.shape, np.dtype(leaf.dtype)
    if np.all(scale == 1) and np.all(middle == 0) and dtype == np.float32 and shape == (leaf.size,):
        low, high = low.astype(dtype), high.astype(dtype)
        return lambda flat: np.minimum(np.maximum(flat[begin:end], low), high)
    whole = dtype.kind in "iu"
    if whole and dtype.itemsize == 8:  # as a float64 the greatest is rounded up, to one that is none
        high = np.minimum(high, np.nextafter(float(np.iinfo(dtype).max), 0))

    def decode(flat: NDArray[Any]) -> Any:
        stretched = flat[begin:end] * scale + middle
        within = np.clip(np.rint(stretched) if whole else stretched, low, high)
        return within.astype(dtype).reshape(shape)

    return decode
