"""Coordinates within layers: as straight as the order allows.

Each layer in turn moves to where its neighbours are. For one layer that is a least-squares problem, positions near the
wished ones with least distances kept, which is isotonic regression after a shift, and is solved exactly by pooling
adjacent violators (Ayer et al. 1955).
"""

from __future__ import annotations

from math import inf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# How much a straight edge counts, by how many of its ends are dummies: long edges should be straightest.
_WEIGHTS = (1.0, 2.0, 8.0)

# What has no neighbour on the side that is looked at holds its place, unless pushed.
_IDLE = 0.01


def align(
    order: Sequence[Sequence[int]],
    before: Sequence[Sequence[int]],
    after: Sequence[Sequence[int]],
    chains: Iterable[Sequence[int]],
    breadths: Sequence[float],
    box_gap: float,
    dummy_gap: float,
) -> list[float]:
    """Positions across the layers.

    Args:
        order: the layers, each a sequence of vertices in order.
        before: neighbours of each vertex in the layer before.
        after: neighbours of each vertex in the layer after.
        chains: the dummies of each long edge, in consecutive layers.
        breadths: of each vertex, in pixels; numbers beyond are dummies, which have none.
        box_gap: least distance between two neighbours of a layer, in pixels.
        dummy_gap: the same where one of the two is a dummy.

    Returns:
        The middle of each vertex, in pixels; the least border is at 0.
    """
    count = len(before)
    real = len(breadths)
    half = [breadths[v] / 2 if v < real else 0.0 for v in range(count)]
    positions = [0.0] * count
    offsets = []
    for layer in order:
        places = []
        at = 0.0
        for i, v in enumerate(layer):
            if i:
                at += half[layer[i - 1]] + half[v] + (box_gap if layer[i - 1] < real and v < real else dummy_gap)
            places.append(at)
        offsets.append(places)
        for v, place in zip(layer, places, strict=True):
            positions[v] = place - at / 2

    def settle(rank: int, sides: Sequence[Sequence[Sequence[int]]]) -> None:
        layer = order[rank]
        wishes, weights = [], []
        for v in layer:
            total, weight = _IDLE * positions[v], _IDLE
            for side in sides:
                for u in side[v]:
                    w = _WEIGHTS[(u >= real) + (v >= real)]
                    total += w * positions[u]
                    weight += w
            wishes.append(total / weight)
            weights.append(weight)
        for v, position in zip(layer, fit(wishes, weights, offsets[rank]), strict=True):
            positions[v] = position

    ranks = range(len(order))
    for _ in range(12 if count < 1_000 else 3):
        for rank in ranks:
            settle(rank, (before,))
        for rank in reversed(ranks):
            settle(rank, (after,))
    for _ in range(4 if count < 1_000 else 1):
        for rank in ranks:
            settle(rank, (before, after))
        for rank in reversed(ranks):
            settle(rank, (before, after))

    _straighten(order, offsets, chains, positions)
    least = min([positions[v] - half[v] for v in range(count)], default=0.0)
    return [p - least for p in positions]


def fit(wishes: Sequence[float], weights: Sequence[float], offsets: Sequence[float]) -> list[float]:
    """The positions nearest to `wishes` (weighted least squares) whose differences are at least those of `offsets`."""
    means: list[float] = []
    pooled: list[float] = []
    counts: list[int] = []
    for wish, weight, offset in zip(wishes, weights, offsets, strict=True):
        mean, count = wish - offset, 1
        while means and means[-1] > mean:
            heavier = pooled.pop()
            mean = (means.pop() * heavier + mean * weight) / (heavier + weight)
            weight += heavier
            count += counts.pop()
        means.append(mean)
        pooled.append(weight)
        counts.append(count)
    shifts = [mean for mean, count in zip(means, counts, strict=True) for _ in range(count)]
    return [shift + offset for shift, offset in zip(shifts, offsets, strict=True)]


def _straighten(
    order: Sequence[Sequence[int]],
    offsets: Sequence[Sequence[float]],
    chains: Iterable[Sequence[int]],
    positions: list[float],
) -> None:
    """Give as many consecutive dummies of a chain as possible one position, between what is next to each of them."""
    where = {v: (layer, i, places) for layer, places in zip(order, offsets, strict=True) for i, v in enumerate(layer)}

    def room(v: int) -> tuple[float, float]:
        layer, i, places = where[v]
        low = positions[layer[i - 1]] + places[i] - places[i - 1] if i else -inf
        high = positions[layer[i + 1]] - places[i + 1] + places[i] if i + 1 < len(layer) else inf
        return min(low, positions[v]), max(high, positions[v])  # where it is, is allowed, whatever rounding says

    def settle(run: list[int], low: float, high: float) -> None:
        middle = sorted([positions[v] for v in run])[len(run) // 2]
        for v in run:
            positions[v] = max(low, min(middle, high))

    for chain in filter(None, chains):
        run: list[int] = []
        low, high = -inf, inf
        for v in chain:
            lowest, highest = room(v)
            if max(low, lowest) > min(high, highest):
                settle(run, low, high)
                run, low, high = [], -inf, inf
            run.append(v)
            low, high = max(low, lowest), min(high, highest)
        settle(run, low, high)
