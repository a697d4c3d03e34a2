"""Folding: repeated runs in a sequence of layers become one round of it and a number of repetitions."""

from __future__ import annotations

import operator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

# A repetition that takes no more columns than this is drawn out: it is short enough to be seen as it is.
DRAWN_OUT = 12

# The longest round that is looked for, in segments: bounds the time for sequences without repetition.
LONGEST_ROUND = 48


class Segment:
    """Consecutive columns, each of which stands for one or more layers.

    Attributes:
        pattern: number of its pattern; segments of one pattern look alike.
        columns: the layers (by number) of each column.
        frames: repetitions in it, as (first column, last column, repetitions), outer ones first.
    """

    __slots__ = ("columns", "frames", "pattern")

    def __init__(self, pattern: int, columns: list[list[int]], frames: list[tuple[int, int, int]]) -> None:
        self.pattern = pattern
        self.columns = columns
        self.frames = frames


def fold(patterns: Sequence[Hashable]) -> Segment:
    """Fold a sequence of layers, given what each looks like. Repetitions within repetitions are found too."""
    numbers: dict[Hashable, int] = {}
    segments = [Segment(numbers.setdefault(p, len(numbers)), [[i]], []) for i, p in enumerate(patterns)]
    names = [s.pattern for s in segments]
    length = 1
    while length <= min(LONGEST_ROUND, len(segments) // 2):
        again = list(map(operator.eq, names, names[length:]))  # whether the same comes one round later
        folded = _fold_rounds(segments, again, length, numbers) if True in again else segments
        if len(folded) == len(segments):
            length += 1
        else:
            segments = folded
            names = [s.pattern for s in segments]
            length = 1  # what is shorter now may be part of a new round
    return _join(0, segments)


def _fold_rounds(
    segments: list[Segment], again: list[bool], length: int, numbers: dict[Hashable, int]
) -> list[Segment]:
    """Fold the repetitions of rounds of one length, from the left."""
    folded = []
    at = 0
    while at < len(segments):
        alike = at
        while alike < len(again) and again[alike]:
            alike += 1
        repeats = 1 + (alike - at) // length
        end = at + repeats * length
        if repeats > 1 and sum([len(s.columns) for s in segments[at:end]]) > DRAWN_OUT:
            key = (tuple([s.pattern for s in segments[at : at + length]]), repeats)
            rounds = [_join(0, segments[i : i + length]) for i in range(at, end, length)]
            folded.append(_merge(numbers.setdefault(key, len(numbers)), rounds))
            at = end
        else:
            folded.append(segments[at])
            at += 1
    return folded


def _join(pattern: int, segments: list[Segment]) -> Segment:
    """Segments side by side."""
    columns: list[list[int]] = []
    frames = []
    for segment in segments:
        shift = len(columns)
        columns += segment.columns
        frames += [(first + shift, last + shift, repeats) for first, last, repeats in segment.frames]
    return Segment(pattern, columns, frames)


def _merge(pattern: int, rounds: list[Segment]) -> Segment:
    """Rounds on top of each other."""
    columns: list[list[int]] = [[] for _ in rounds[0].columns]
    for one in rounds:
        for merged, layers in zip(columns, one.columns, strict=True):
            merged += layers
    return Segment(pattern, columns, [(0, len(columns) - 1, len(rounds)), *rounds[0].frames])
