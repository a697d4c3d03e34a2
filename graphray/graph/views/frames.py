"""Frames of a drawing: repetitions, with the edges that lead from one round to the next."""

from __future__ import annotations

from graphray.graph.views import boxes, paths
from graphray.graph.views.picture import Frame, Picture
from graphray.graph.views.style import DETAIL
from graphray.graph.views.text import enumerate_some, escape, number, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphray.graph.views.layout import Layout

    Extent = tuple[float, float, float, float]

# Distances, in pixels.
PADDING = 22.0
TITLE = 18.0
LANE = 14.0  # from what is in a frame to the lane of edges that go back
TURN = 12.0  # from a layer to where such edges turn


class Frames:
    """The frames of a picture.

    Attributes:
        extents: left, top, right and bottom of each.
        loops: path data of the edges that go back, with the boxes (by index) they join.
        elements: the frames and those edges as SVG elements, outer frames first.
    """

    def __init__(self, shown: Picture, placed: Layout) -> None:
        self.loops: list[tuple[tuple[int, int], str]] = []
        self.elements: list[str] = []
        found: dict[Frame, Extent] = {}
        for frame in reversed(shown.frames):  # inner ones first
            inner = [extent for f, extent in found.items() if _within(f, frame)]
            extent, lane = _surround(frame, shown, placed, inner)
            found[frame] = extent
            loops = [pair for pair in shown.loops if _innermost(shown, pair) is frame]
            self.loops += [(pair, _loop(pair, shown, placed, lane)) for pair in loops]
            self.elements.append(_element(frame, extent, shown))
        self.elements.reverse()
        self.elements += [f'<path class="graphray-edge graphray-loop" d="{path}"/>' for _, path in self.loops]
        self.extents = list(found.values())


def _within(inner: Frame, outer: Frame) -> bool:
    return outer.first <= inner.first and inner.last <= outer.last


def _holds(frame: Frame, shown: Picture, i: int) -> bool:
    return frame.first <= (shown.boxes[i].column or 0) <= frame.last


def _innermost(shown: Picture, pair: tuple[int, int]) -> Frame | None:
    around = [f for f in shown.frames if _holds(f, shown, pair[0]) and _holds(f, shown, pair[1])]
    return around[-1] if around else None


def _surround(frame: Frame, shown: Picture, placed: Layout, inner: list[Extent]) -> tuple[Extent, float]:
    """The extent of a frame, and where across it the lane of its loops is."""
    inside = [boxes.extent(b, placed.centres[i]) for i, b in enumerate(shown.boxes) if _holds(frame, shown, i)] + inner
    left, top = min([e[0] for e in inside]), min([e[1] for e in inside])
    right, bottom = max([e[2] for e in inside]), max([e[3] for e in inside])
    if placed.right:
        lane = bottom + LANE
        bottom = lane
    else:
        lane = right + LANE
        right = lane
    right = max(right, left + width(f"↻ {frame.title}", DETAIL))
    if placed.right:
        return (left - PADDING, top - PADDING / 3 - TITLE, right + PADDING, bottom + PADDING / 2), lane
    return (left - PADDING / 2, top - PADDING - TITLE, right + PADDING / 2, bottom + PADDING), lane


def room(shown: Picture) -> list[float]:
    """Further distance before each layer, for the borders of frames."""
    columns = max([box.column or 0 for box in shown.boxes], default=0) + 1
    found = [0.0] * (columns + 1)
    for frame in shown.frames:
        found[frame.first] += PADDING
        found[frame.last + 1] += PADDING
    return found[:columns]


def _loop(pair: tuple[int, int], shown: Picture, placed: Layout, lane: float) -> str:
    (x, y), (a, b) = placed.centres[pair[0]], placed.centres[pair[1]]
    (w, h), (v, u) = boxes.size(shown.boxes[pair[0]]), boxes.size(shown.boxes[pair[1]])
    source, target = ((x + w / 2, y), (a - v / 2, b)) if placed.right else ((x, y + h / 2), (a, b - u / 2))
    before = placed.bands[placed.ranks[pair[1]]][0] - TURN
    after = placed.bands[placed.ranks[pair[0]]][1] + TURN
    return paths.backward(source, target, before, after, lane, placed.right)


def _element(frame: Frame, extent: Extent, shown: Picture) -> str:
    x, y, right, bottom = extent
    back = [
        f"{shown.boxes[u].title} → {shown.boxes[v].title}"
        for u, v in shown.loops
        if _holds(frame, shown, u) and _holds(frame, shown, v)
    ]
    tip = f"{frame.title}\nfrom one round to the next: {enumerate_some(back, 8)}" if back else frame.title
    return (
        f'<g class="graphray-frame"><title>{escape(tip)}</title><rect x="{number(x)}" y="{number(y)}" '
        f'width="{number(right - x)}" height="{number(bottom - y)}" rx="12"/>'
        + boxes.text("graphray-note", x + 11, y + TITLE / 2 + 4, f"↻ {frame.title}")
        + "</g>"
    )
