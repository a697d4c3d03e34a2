"""Boxes of a drawing: their size and their SVG elements."""

from __future__ import annotations

from graphray.graph.views.picture import FILE, INPUT, TASK, VALUE, Box
from graphray.graph.views.style import DETAIL, TITLE
from graphray.graph.views.text import cut, enumerate_some, escape, number, shorten, width

# Distances, in pixels.
TITLE_LINE = 18.0
DETAIL_LINE = 15.0
PADDING = 12.0
WIDEST = 210.0  # the widest a line of text may be
NARROWEST = 34.0
FOLD = 9.0  # the folded corner of a file, the point of an input
SHEET = 3.5  # how far each sheet of a stack sticks out

_LONGEST_TIP = 600  # characters of a line


def size(box: Box) -> tuple[float, float]:
    """Width and height of a box, in pixels."""
    lines = _lines(box)
    text = max([_line_width(name, line) for name, line in lines])
    point = FOLD if box.kind in (FILE, INPUT) else 0.0
    return max(text + 2 * PADDING + point, NARROWEST), TITLE_LINE + DETAIL_LINE * (len(lines) - 1) + PADDING


def extent(box: Box, centre: tuple[float, float]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is drawn of a box, the sheets of a stack included."""
    (x, y), (w, h) = centre, size(box)
    out = 2 * SHEET if box.count > 1 else 0.0
    return x - w / 2, y - h / 2, x + w / 2 + out, y + h / 2 + out


def element(box: Box, centre: tuple[float, float], hue: int | None, edges: str) -> str:
    """A box as an SVG group.

    Args:
        box: what to draw.
        centre: where.
        hue: number of its task's colour, if it is of a task.
        edges: path data of all edges at it, to stand out while it is pointed at.
    """
    w, h = size(box)
    left, top = centre[0] - w / 2, centre[1] - h / 2
    classes = f"graphray-box graphray-{box.kind if hue is None else f'hue{hue}'}"
    if box.outputs:
        classes += " graphray-marked"
    parts = [f'<g class="{classes}"><title>{escape(_tip(box))}</title>']
    if edges:
        parts.append(f'<path class="graphray-edge graphray-near" d="{edges}"/>')
    if box.count > 1:
        for out in (2 * SHEET, SHEET):
            parts.append(_outline(box.kind, left + out, top + out, w, h, "graphray-sheet"))
    parts.append(_outline(box.kind, left, top, w, h, "graphray-shape"))
    if box.kind == FILE:
        corner = f"M{number(left + w - FOLD)} {number(top)}v{number(FOLD)}h{number(FOLD)}"
        parts.append(f'<path class="graphray-corner" d="{corner}"/>')
    x = centre[0] - (FOLD / 3 if box.kind == INPUT else 0.0)
    y = top + (PADDING + TITLE_LINE) / 2
    for i, (name, line) in enumerate(_lines(box)):
        if i:
            y += DETAIL_LINE if i > 1 else (TITLE_LINE + DETAIL_LINE) / 2
        parts.append(text(name, x, y, line))
    return "".join(parts) + "</g>"


def text(name: str, x: float, y: float, line: str) -> str:
    """One line of text as an SVG element of a class."""
    return f'<text class="{name}" x="{number(x)}" y="{number(y)}">{escape(line)}</text>'


def _lines(box: Box) -> list[tuple[str, str]]:
    """The lines of text in a box, with their classes, cut to the widest that is allowed."""
    count = "" if box.count == 1 else f" ×{box.count:,}"
    title = cut(box.title, TITLE, WIDEST - width(count, TITLE, bold=True), bold=True)
    lines = [("graphray-title", title + count)]
    if box.detail:
        lines.append(("graphray-detail", cut(box.detail, DETAIL, WIDEST)))
    if box.outputs:
        lines.append(("graphray-output", cut(box.marks, DETAIL, WIDEST, bold=True)))
    return lines


def _line_width(name: str, line: str) -> float:
    return width(line, TITLE if name == "graphray-title" else DETAIL, bold=name != "graphray-detail")


def _outline(kind: str, x: float, y: float, w: float, h: float, name: str) -> str:
    n = number
    if kind == INPUT:
        outline = f"M{n(x + 5)} {n(y)}h{n(w - FOLD - 5)}l{n(FOLD)} {n(h / 2)}l{n(-FOLD)} {n(h / 2)}h{n(FOLD + 5 - w)}"
        return f'<path class="{name}" d="{outline}q-5 0-5-5v{n(10 - h)}q0-5 5-5z"/>'
    if kind == FILE:
        outline = f"M{n(x)} {n(y)}h{n(w - FOLD)}l{n(FOLD)} {n(FOLD)}v{n(h - FOLD)}h{n(-w)}z"
        return f'<path class="{name}" d="{outline}"/>'
    radius = h / 2 if kind == VALUE else 6
    return f'<rect class="{name}" x="{n(x)}" y="{n(y)}" width="{n(w)}" height="{n(h)}" rx="{n(radius)}"/>'


def _tip(box: Box) -> str:
    tip = "\n".join([shorten(line, _LONGEST_TIP) for line in box.tip.split("\n")])
    return f"{tip}\noutput: {enumerate_some(box.outputs, 12)}" if box.outputs else tip


def hue_of(box: Box, colours: dict[str, int]) -> int | None:
    """The number of a box's colour; None for boxes of no task."""
    return colours[box.task] if box.kind == TASK else None
