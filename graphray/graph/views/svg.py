"""SVG: a drawing of a graph that needs no program to make and no script to look at."""

from __future__ import annotations

from graphray.graph.views import boxes, palette, paths
from graphray.graph.views.frames import Frames, room
from graphray.graph.views.layout import layout
from graphray.graph.views.picture import TASK, Picture
from graphray.graph.views.style import DETAIL, style
from graphray.graph.views.summary import picture
from graphray.graph.views.text import enumerate_some, escape, number, plural, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphray.graph.dataflow import Graph

# Nodes drawn one by one; above this, a summary.
MAX_NODES = 120

# Distances, in pixels.
MARGIN = 20.0
CAPTION = 26.0


def to_svg(graph: Graph, *, max_nodes: int = MAX_NODES) -> str:
    """Draw a graph as an SVG document: self-contained, without scripts, for light and dark surroundings.

    Constants are drawn as pills, symbolic inputs with a point, files with a folded corner, and calls of tasks as
    rectangles in a colour that the task's name decides. Outputs have a strong border and their name. The drawing runs
    to the right or downwards, whichever fits a screen better. Pointing at a box shows its full label and makes its
    edges stand out.

    Args:
        graph: what to draw.
        max_nodes: graphs with more nodes are summarised by task and layer, in at most so many boxes.

    Raises:
        TypeError: `max_nodes` is not an integer.
        ValueError: `max_nodes` is below 1.
    """
    return draw(picture(graph, max_nodes))


def draw(shown: Picture) -> str:
    """The SVG document of a picture."""
    placed = layout(
        [boxes.size(box) for box in shown.boxes],
        list(shown.edges),
        ranks=[box.column or 0 for box in shown.boxes] if shown.frames else None,
        extra=room(shown) if shown.frames else (),
    )
    frames = Frames(shown, placed)
    body = list(frames.elements)
    at_box: list[list[str]] = [[] for _ in shown.boxes]
    for pair, loop in frames.loops:
        for i in pair:
            at_box[i].append(loop)
    counts = []
    for pair, route in zip(shown.edges, placed.routes, strict=True):
        path = paths.forward(route, placed.right)
        body.append(f'<path class="graphray-edge" d="{path}"/>')
        for i in pair:
            at_box[i].append(path)
        if shown.count(pair):
            (ax, ay), (bx, by) = route[1:3]
            counts.append(boxes.text("graphray-count", (ax + bx) / 2, (ay + by) / 2, shown.count(pair)))
    body += counts

    colours = palette.assign([box.task for box in shown.boxes if box.kind == TASK])
    for box, centre, edges in zip(shown.boxes, placed.centres, at_box, strict=True):
        body.append(boxes.element(box, centre, boxes.hue_of(box, colours), "".join(edges)))

    extents = [*frames.extents, *map(boxes.extent, shown.boxes, placed.centres)] or [(0.0, 0.0, 0.0, 0.0)]
    left, top = min([e[0] for e in extents]), min([e[1] for e in extents])
    right, bottom = max([e[2] for e in extents]), max([e[3] for e in extents])
    if shown.summarised:
        caption = f"{plural(shown.nodes, 'node')}, summarised by task and layer"
        right = max(right, left + width(caption, DETAIL))
        body.append(boxes.text("graphray-note", left, top - CAPTION / 2, caption))
        top -= CAPTION
    view = [left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, bottom - top + 2 * MARGIN]
    x, y, w, h = map(number, view)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graphray" width="{w}" height="{h}" '
        f'viewBox="{x} {y} {w} {h}" role="img" aria-label="{escape(_description(shown))}">\n'
        f"<style>\n{style(sorted(set(colours.values())))}</style>\n"
        f'<rect class="graphray-ground" x="{x}" y="{y}" width="{w}" height="{h}" rx="8"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _description(shown: Picture) -> str:
    """For those who hear it read."""
    names = [name for box in shown.boxes for name in box.outputs]
    return f"Graph of {plural(shown.nodes, 'node')}" + (f"; outputs: {enumerate_some(names, 8)}" if names else "")
