"""Replay: past transitions as a persistent value.

Transitions lie in segments that are never changed and that successive values share: adding some copies at most the
last, unfinished segment, and an older value still holds what it held. So a training can be kept, sent and gone on with
from any of its states.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphray.rl import keys
from graphray.rl.rollout import Trajectory

__all__ = ["Replay", "Transitions", "add", "empty", "reprioritised", "sample"]

_SEGMENT_BYTES, _SEGMENT_ROWS = 1 << 18, (16, 4096)


class Row(NamedTuple):
    """Transitions, one behind the other: arrays with the leading axis of rows."""

    observation: NDArray[Any]
    action: NDArray[Any]
    reward: NDArray[Any]
    next_observation: NDArray[Any]
    terminated: NDArray[Any]
    ended: NDArray[Any]
    """Terminated or truncated: the next row of its environment is of another episode."""


class Replay(NamedTuple):
    """The latest transitions of a training."""

    segments: tuple[Row, ...]
    """All of equal length but the last."""
    skipped: int
    """Rows at the beginning of the first segment that do not count any more."""
    size: int
    capacity: int
    stride: int
    """From a transition to the next of the same environment: how many environments there are."""
    priority: NDArray[Any] | None
    """How likely each row is drawn, up to a factor; None: all alike."""
    greatest: float
    """The greatest priority there has been, which new rows get."""
    key: keys.Key
    """The root key of what is drawn."""
    draws: int
    """How often something was drawn."""


class Transitions(NamedTuple):
    """Some transitions, to learn from: arrays (U, B, …), for U updates of B."""

    observation: NDArray[Any]
    action: NDArray[Any]
    reward: NDArray[Any]
    """The discounted sum of rewards of up to n steps."""
    next_observation: NDArray[Any]
    """Where these led."""
    discount: NDArray[Any]
    """What the value of that counts; 0 where the episode was over."""
    weight: NDArray[Any]
    """Of each in the loss."""
    rows: NDArray[Any]
    """Which they are."""


def empty(capacity: int, stride: int, key: keys.Key, prioritized: bool = False) -> Replay:
    """Of nothing yet.

    Args:
        capacity: how many transitions are kept.
        stride: the number of environments.
        key: the root key of what is drawn.
        prioritized: whether some are drawn more often than others.
    """
    priority = np.zeros(0, np.float32) if prioritized else None
    return Replay((), 0, 0, capacity, stride, priority, 1.0, key, 0)


def add(replay: Replay, trajectory: Trajectory) -> Replay:
    """With the transitions of a trajectory (T, B), and without the oldest, if there are too many."""
    t = trajectory
    columns = (t.observation, t.action, t.reward, t.next_observation, t.terminated, t.terminated | t.truncated)
    new = Row(*(x.reshape(-1, *x.shape[2:]) for x in columns))
    count = len(new.reward)
    length = _segment_length(new)
    segments = list(replay.segments)
    if segments and len(segments[-1].reward) < length:
        new = _joined(segments.pop(), new)
    segments += [Row(*(x[at : at + length] for x in new)) for at in range(0, len(new.reward), length)]
    size = replay.size + count
    over = max(0, size - replay.capacity)
    skipped = replay.skipped + over
    gone = skipped // length
    priority = replay.priority
    if priority is not None:
        priority = np.concatenate([priority, np.full(count, replay.greatest, np.float32)])[over:]
    return replay._replace(
        segments=tuple(segments[gone:]), skipped=skipped - gone * length, size=size - over, priority=priority
    )


def sample(
    replay: Replay, updates: int, batch: int, gamma: float, n_step: int = 1, beta: float = 0.0
) -> tuple[Transitions, Replay]:
    """Draw transitions for some updates, and give the value from which others will be drawn next.

    n steps never go beyond an episode's end, and near the newest transition they are fewer.

    Args:
        replay: what is drawn from; not empty.
        updates: U.
        batch: B, for each update.
        gamma: discount factor.
        n_step: over how many steps rewards are summed, at most.
        beta: how far weights make up for unequal priorities (Schaul et al., "Prioritized experience replay", ICLR
            2016).
    """
    words = np.asarray(keys.fold_in(replay.key, replay.draws), np.uint64)
    generator = np.random.Generator(np.random.Philox(key=words))
    count = updates * batch
    weight = np.ones(count, np.float32)
    if replay.priority is None:
        index = generator.integers(0, replay.size, count)
    else:
        sums = np.cumsum(replay.priority, dtype=np.float64)
        index = np.searchsorted(sums, generator.random(count) * sums[-1], side="right")
        index = np.minimum(index, replay.size - 1)
        weight = (replay.size * replay.priority[index] / sums[-1]) ** -beta
    drawn = _n_steps(replay, index, gamma, n_step)
    made = Transitions(*drawn, weight.astype(np.float32), index)
    shaped = Transitions(*(x.reshape(updates, batch, *x.shape[1:]) for x in made))
    if replay.priority is not None:
        shaped = shaped._replace(weight=shaped.weight / shaped.weight.max(axis=1, keepdims=True))
    return shaped, replay._replace(draws=replay.draws + 1)


def reprioritised(replay: Replay, rows: NDArray[Any], priority: NDArray[Any]) -> Replay:
    """With other priorities of some rows; of several for one row, the last."""
    assert replay.priority is not None
    changed = replay.priority.copy()
    changed[np.ravel(rows)] = np.ravel(priority)
    return replay._replace(priority=changed, greatest=max(replay.greatest, float(np.max(priority))))


def _n_steps(replay: Replay, index: NDArray[Any], gamma: float, n_step: int) -> tuple[Any, Any, Any, Any, Any]:
    first = _rows(replay, index)
    reward, following = first.reward.astype(np.float32), first.next_observation
    terminated, ended = first.terminated, first.ended
    discount = np.full(len(index), gamma, np.float32)
    for step in range(1, n_step):
        at = index + step * replay.stride
        goes_on = ~ended & (at < replay.size)
        if not goes_on.any():
            break
        where = np.flatnonzero(goes_on)
        row = _rows(replay, at[where])
        reward[where] += discount[where] * row.reward
        following[where] = row.next_observation
        terminated[where], ended[where] = row.terminated, row.ended
        discount[where] *= np.float32(gamma)
        ended = ended | ~goes_on
    return first.observation, first.action, reward, following, np.where(terminated, np.float32(0), discount)


def _rows(replay: Replay, index: NDArray[Any]) -> Row:
    """Copies of some rows."""
    segments = replay.segments
    position = index + replay.skipped
    if len(segments) == 1:
        return Row(*(x[position] for x in segments[0]))
    length = len(segments[0].reward)
    which = position // length
    order = np.argsort(which, kind="stable")
    bounds = np.searchsorted(which[order], np.arange(len(segments) + 1))
    offset = position - which * length
    return Row(*(_gathered(column, offset, order, bounds) for column in zip(*segments, strict=True)))


def _gathered(column: Any, offset: NDArray[Any], order: NDArray[Any], bounds: NDArray[Any]) -> NDArray[Any]:
    out = np.empty((len(order), *column[0].shape[1:]), column[0].dtype)
    for number, part in _parts(bounds, order):
        out[part] = column[number][offset[part]]
    return out


def _parts(bounds: NDArray[Any], order: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    for number in range(len(bounds) - 1):
        if bounds[number] < bounds[number + 1]:
            yield number, order[bounds[number] : bounds[number + 1]]


def _segment_length(row: Row) -> int:
    size = sum(x[0].nbytes for x in row)
    least, most = _SEGMENT_ROWS
    return int(min(max(_SEGMENT_BYTES // size, least), most))


def _joined(one: Row, other: Row) -> Row:
    return Row(*(np.concatenate(both) for both in zip(one, other, strict=True)))
