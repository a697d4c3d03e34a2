"""Edges of a drawing as SVG path data."""

from __future__ import annotations

from graphray.graph.views.text import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphray.graph.views.layout import Point

ARROW = 7.0  # length of an arrowhead, in pixels
CORNER = 10.0  # radius


def forward(route: Sequence[Point], right: bool) -> str:
    """Straight lines and curves in turn through the stations of a route (see `Layout.routes`), and an arrowhead."""
    x, y = route[0]
    path = [_at("M", x, y)]
    for i in range(1, len(route)):
        a, b = route[i]
        if i % 2 or abs(b - y if right else a - x) < 0.05:
            path.append(f"H{number(a)}" if right else f"V{number(b)}")
        elif right:
            path.append(_at("C", (x + a) / 2, y, (x + a) / 2, b, a, b))
        else:
            path.append(_at("C", x, (y + b) / 2, a, (y + b) / 2, a, b))
        x, y = a, b
    return "".join(path) + _arrow(x, y, right)


def backward(source: Point, target: Point, before: float, after: float, lane: float, right: bool) -> str:
    """From the far side of a box back to the near side of an earlier one (or itself), by way of a lane beside them.

    Args:
        source: where it leaves.
        target: where it arrives.
        before: where to turn before the target, along the drawing.
        after: where to turn after the source, along the drawing.
        lane: across the drawing.
        right: whether the drawing runs to the right.
    """

    def at(command: str, *points: Point) -> str:
        return _at(command, *[c for a, b in points for c in ((a, b) if right else (b, a))])

    (start, off), (end, on) = (source, target) if right else (source[::-1], target[::-1])
    r = CORNER
    return (
        at("M", (start, off)) + at("L", (after - r, off)) + at("Q", (after, off), (after, off + r))
        + at("L", (after, lane - r)) + at("Q", (after, lane), (after - r, lane))
        + at("L", (before + r, lane)) + at("Q", (before, lane), (before, lane - r))
        + at("L", (before, on + r)) + at("Q", (before, on), (before + r, on))
        + at("L", (end, on)) + _arrow(*target, right)
    )  # fmt: skip


def _arrow(x: float, y: float, right: bool) -> str:
    long, half = number(ARROW), number(ARROW / 2)
    shape = f"m-{long}-{half}l{long} {half}-{long} {half}" if right else f"m-{half}-{long}l{half} {long} {half}-{long}"
    return _at("M", x, y) + shape


def _at(command: str, *coordinates: float) -> str:
    return command + " ".join(map(number, coordinates))
