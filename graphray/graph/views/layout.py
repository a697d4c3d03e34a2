"""A layered drawing of a directed acyclic graph, after Sugiyama, Tagawa and Toda (1981).

Vertices get layers, long edges a dummy vertex in each layer they pass, layers an order with few crossings, and vertices
coordinates that make edges straight. Everything is iterative and deterministic: no recursion, no randomness, no sets.

Within this module the drawing runs along one axis, layer by layer, and across it within a layer; only the results are
in terms of x and y.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from graphray.graph.views.alignment import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Point = tuple[float, float]

# Distances in pixels.
BOX_GAP = 18.0  # between neighbours of a layer
DUMMY_GAP = 10.0  # between an edge that passes by and what is next to it
LAYER_GAP = 52.0  # between layers, at least
STEEPEST = 0.16  # … and more where edges climb: so much of the longest climb
WIDEST_GAP = 150.0
STUB = 9.0  # edges arrive straight, for arrowheads to be seen

# More dummy vertices than this are not made: further long edges are drawn straight through.
MOST_DUMMIES = 40_000

# The shape of a sheet that is read comfortably: a drawing is turned to fit it.
SHEET = (1200.0, 800.0)


class Layout:
    """Where everything is.

    Attributes:
        right: whether layers follow each other to the right; else downwards.
        ranks: layer of each vertex.
        centres: centre of each vertex.
        routes: for each edge its stations: a straight line leads from the first to the second, a curve from the second
            to the third, a straight line to the fourth, and so on. Curves begin and end along the drawing's direction.
        bands: extent of each layer along the drawing, as (from, to).
    """

    __slots__ = ("bands", "centres", "ranks", "right", "routes")

    def __init__(
        self,
        right: bool,
        ranks: list[int],
        centres: list[Point],
        routes: list[list[Point]],
        bands: list[tuple[float, float]],
    ) -> None:
        self.right = right
        self.ranks = ranks
        self.centres = centres
        self.routes = routes
        self.bands = bands


def layout(
    sizes: Sequence[tuple[float, float]],
    edges: Sequence[tuple[int, int]],
    *,
    ranks: Sequence[int] | None = None,
    right: bool | None = None,
    extra: Sequence[float] = (),
) -> Layout:
    """Lay out a graph.

    Args:
        sizes: width and height of each vertex, in pixels.
        edges: distinct pairs of vertices; each leads from a vertex to one with a higher number.
        ranks: the layer of each vertex, which must rise along edges; by default layers are chosen here.
        right: draw to the right (True) or downwards (False); by default what fits a sheet better.
        extra: further distance before each layer, in pixels.
    """
    if not sizes:
        return Layout(True, [], [], [], [])
    layers = _Layers(len(sizes), edges, list(ranks) if ranks is not None else assign(len(sizes), edges))
    order = layers.ordered()
    if right is None:
        right = _fits_right(sizes, order, sum(extra))
    along = [w if right else h for w, h in sizes]
    across = [h if right else w for w, h in sizes]
    positions = align(order, layers.before, layers.after, layers.chains.values(), across, BOX_GAP, DUMMY_GAP)

    bands: list[tuple[float, float]] = []
    at = 0.0
    for rank, layer in enumerate(order):
        if rank:
            climbs = [abs(positions[v] - positions[u]) for v in layer for u in layers.before[v]]
            at += min(max(LAYER_GAP, STEEPEST * max(climbs, default=0.0)), WIDEST_GAP)
            at += extra[rank] if extra else 0.0
        thickness = max([along[v] for v in layer if v < len(sizes)], default=0.0)
        bands.append((at, at + thickness))
        at += thickness

    def point(a: float, c: float) -> Point:
        return (a, c) if right else (c, a)

    middles = [(bands[r][0] + bands[r][1]) / 2 for r in layers.ranks[: len(sizes)]]
    centres = [point(middles[v], positions[v]) for v in range(len(sizes))]
    routes = []
    for u, v in edges:
        first, last = layers.ranks[u], layers.ranks[v]
        stations = [point(middles[u] + along[u] / 2, positions[u]), point(bands[first][1], positions[u])]
        for d, e in layers.between(u, v, positions):
            stations += [point(bands[layers.ranks[d]][0], positions[d]), point(bands[layers.ranks[e]][1], positions[d])]
        stations += [point(bands[last][0] - STUB, positions[v]), point(middles[v] - along[v] / 2, positions[v])]
        routes.append(stations)
    return Layout(right, layers.ranks[: len(sizes)], centres, routes, bands)


def assign(count: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """A layer for each vertex: the longest path that leads to it, then moved on where that makes edges shorter."""
    before: list[list[int]] = [[] for _ in range(count)]
    after: list[list[int]] = [[] for _ in range(count)]
    for u, v in edges:
        before[v].append(u)
        after[u].append(v)
    ranks = [0] * count
    for v in range(count):
        if before[v]:
            ranks[v] = 1 + max([ranks[u] for u in before[v]])
    for u in reversed(range(count)):
        if after[u] and len(after[u]) >= len(before[u]):
            ranks[u] = min([ranks[v] for v in after[u]]) - 1
    return ranks


class _Layers:
    """Vertices and dummies in layers, joined only between neighbouring layers.

    The long edges out of one vertex share their dummies, so that there are at most as many of these as layers a vertex.
    """

    def __init__(self, count: int, edges: Sequence[tuple[int, int]], ranks: list[int]) -> None:
        self.count = count
        self.ranks = ranks
        self.before: list[list[int]] = [[] for _ in range(count)]
        self.after: list[list[int]] = [[] for _ in range(count)]
        self.chains: dict[int, list[int]] = {}  # the dummies after a vertex
        self.bends: dict[int, list[int]] = {}  # where in its chain they change their position, once that is known
        for u, v in edges:
            passed = ranks[v] - ranks[u] - 1
            if not passed:
                self._join(u, v)
            elif self._extend(u, passed):
                self._join(self.chains[u][passed - 1], v)

    def _join(self, u: int, v: int) -> None:
        self.after[u].append(v)
        self.before[v].append(u)

    def _extend(self, u: int, length: int) -> bool:
        """Make the dummies after `u` for a number of layers; False if there are too many already."""
        chain = self.chains.setdefault(u, [])
        if len(self.ranks) - self.count + length - len(chain) > MOST_DUMMIES:
            return len(chain) >= length
        while len(chain) < length:
            dummy = len(self.ranks)
            self.ranks.append(self.ranks[u] + len(chain) + 1)
            self.before.append([])
            self.after.append([])
            self._join(chain[-1] if chain else u, dummy)
            chain.append(dummy)
        return True

    def between(self, u: int, v: int, positions: Sequence[float]) -> list[tuple[int, int]]:
        """The dummies that the edge from `u` to `v` passes, as runs at one position: the first and last of each run."""
        passed = self.ranks[v] - self.ranks[u] - 1
        chain = self.chains.get(u, ())
        if not passed or len(chain) < passed:
            return []
        if u not in self.bends:
            self.bends[u] = [i for i, d in enumerate(chain) if not i or positions[d] != positions[chain[i - 1]]]
        bends = self.bends[u][: bisect_left(self.bends[u], passed)]
        return [(chain[i], chain[j - 1]) for i, j in zip(bends, [*bends[1:], passed], strict=True)]

    def ordered(self) -> list[list[int]]:
        """The layers, each in an order with few crossings: the best that was found from two beginnings."""
        small = len(self.ranks) < 1_000
        found = []
        for vertices in (self._by_descent(), range(len(self.ranks))):
            order: list[list[int]] = [[] for _ in range(max(self.ranks) + 1)]
            for v in vertices:
                order[self.ranks[v]].append(v)
            found.append(self._improved(order, thorough=small))
            if not (found[0][0] and small):
                break
        return min(found, key=lambda pair: pair[0])[1]

    def _improved(self, order: list[list[int]], thorough: bool) -> tuple[int, list[list[int]]]:
        """Sort by the barycentres of neighbours, down and up in turn: the fewest crossings, and that order."""
        best, fewest = order, self._crossings(order)
        for turn in range(24 if thorough else 6):
            if not fewest:
                break
            order = self._sweep(order, down=turn % 2 == 0)
            if thorough:
                self._exchange(order)
            crossings = self._crossings(order)
            if crossings < fewest:
                best, fewest = order, crossings
        return fewest, best

    def _by_descent(self) -> list[int]:
        """All vertices, depth first from each source: what belongs together comes near each other."""
        seen = [False] * len(self.ranks)
        found = []
        for source in range(len(self.ranks)):
            stack = [] if self.before[source] else [source]
            while stack:
                v = stack.pop()
                if not seen[v]:
                    seen[v] = True
                    found.append(v)
                    stack += reversed(self.after[v])
        return found

    def _sweep(self, order: list[list[int]], down: bool) -> list[list[int]]:
        swept = list(order)
        place = [0.0] * len(self.ranks)
        neighbours = self.before if down else self.after
        for rank in range(len(order)) if down else reversed(range(len(order))):
            layer = order[rank]
            keys = dict(zip(layer, map(float, range(len(layer))), strict=True))
            for v in layer:
                if neighbours[v]:
                    keys[v] = sum([place[u] for u in neighbours[v]]) / len(neighbours[v])
            swept[rank] = sorted(layer, key=keys.__getitem__)
            for i, v in enumerate(swept[rank]):
                place[v] = float(i)
        return swept

    def _exchange(self, order: list[list[int]]) -> None:
        """Swap neighbours while that removes crossings, which barycentres miss where they are equal."""
        place = self._places(order)
        for layer in order:
            for _ in range(4):
                swapped = False
                for i in range(len(layer) - 1):
                    u, v = layer[i], layer[i + 1]
                    if self._cost(u, v, place) > self._cost(v, u, place):
                        layer[i], layer[i + 1] = v, u
                        place[u], place[v] = i + 1, i
                        swapped = True
                if not swapped:
                    break

    def _cost(self, u: int, v: int, place: list[int]) -> int:
        """Crossings between the edges of `u` and those of `v`, if `u` comes right before `v`."""
        crossings = 0
        for side in (self.before, self.after):
            for a in side[u]:
                crossings += sum([place[a] > place[b] for b in side[v]])
        return crossings

    def _places(self, order: list[list[int]]) -> list[int]:
        place = [0] * len(self.ranks)
        for layer in order:
            for i, v in enumerate(layer):
                place[v] = i
        return place

    def _crossings(self, order: list[list[int]]) -> int:
        place = self._places(order)
        crossings = 0
        for layer in order:
            passed: list[int] = []  # where the edges so far arrive, sorted
            for u in layer:
                arrivals = [place[v] for v in self.after[u]]
                for p in arrivals:
                    crossings += len(passed) - bisect_right(passed, p)
                for p in arrivals:
                    insort(passed, p)
        return crossings


def _fits_right(sizes: Sequence[tuple[float, float]], order: list[list[int]], extra: float) -> bool:
    """Whether the drawing has to be scaled down less, to fit a sheet, if it runs to the right."""
    real = [[sizes[v] for v in layer if v < len(sizes)] or [(0.0, 0.0)] for layer in order]

    def excess(along: int) -> float:
        length = sum([max([s[along] for s in layer]) + LAYER_GAP for layer in real]) + extra
        breadth = max([sum([s[1 - along] + BOX_GAP for s in layer]) for layer in real])
        return max(length / SHEET[along], breadth / SHEET[1 - along])

    return max(excess(0), 1.0) <= max(excess(1), 1.0)
