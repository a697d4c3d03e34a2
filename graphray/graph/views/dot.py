"""DOT: a graph as text for Graphviz and the programs that read its language."""

from __future__ import annotations

from graphray.graph.views import palette
from graphray.graph.views.picture import FILE, INPUT, SEVERAL, TASK, VALUE, Box, Picture
from graphray.graph.views.summary import picture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphray.graph.dataflow import Graph

# Nodes written one by one; above this, a summary.
MAX_NODES = 120

_LONGEST = 60  # characters of a line

_SHAPES = {TASK: "box", VALUE: "oval", INPUT: "parallelogram", FILE: "note", SEVERAL: "box"}


def to_dot(graph: Graph, *, max_nodes: int = MAX_NODES) -> str:
    """Write a graph in Graphviz' language: `dot -Tpdf graph.dot -o graph.pdf`.

    Args:
        graph: what to write.
        max_nodes: graphs with more nodes are summarised by task and layer, in at most so many boxes.

    Raises:
        TypeError: `max_nodes` is not an integer.
        ValueError: `max_nodes` is below 1.
    """
    return write(picture(graph, max_nodes))


def write(shown: Picture) -> str:
    """The DOT text of a picture."""
    colours = palette.assign([box.task for box in shown.boxes if box.kind == TASK])
    text = [
        "digraph graphray {",
        "  rankdir=LR",
        '  node [shape=box, style="rounded,filled", fillcolor="#f3f4f6", color="#8b95a5"]',
        '  node [fontname="Helvetica", fontsize=12]',
        '  graph [fontname="Helvetica", fontsize=11, color="#8b95a5"]',
        '  edge [color="#8b95a5", fontname="Helvetica", fontsize=10, arrowsize=0.7]',
    ]
    text += [f"  n{i} [{_attributes(box, colours)}]" for i, box in enumerate(shown.boxes)]
    for number, frame in enumerate(shown.frames):
        inside = [f"n{i}" for i, box in enumerate(shown.boxes) if frame.first <= (box.column or 0) <= frame.last]
        text.append(f"  subgraph cluster_{number} {{ label={quote(frame.title)}; style=dashed; {'; '.join(inside)} }}")
    for u, v in shown.edges:
        count = shown.count((u, v))
        text.append(f"  n{u} -> n{v}" + (f' [label="{count}"]' if count else ""))
    text += [f"  n{u} -> n{v} [style=dashed, constraint=false]" for u, v in shown.loops if u != v]
    return "\n".join(text) + "\n}\n"


def _attributes(box: Box, colours: dict[str, int]) -> str:
    found = [f"label={quote(*box.lines(_LONGEST))}", f"tooltip={quote(*box.tip.splitlines())}"]
    if box.kind == TASK:
        fill, border, ink = [palette.colour(palette.HUES[colours[box.task]], shade) for shade in palette.LIGHT]
        found.append(f'fillcolor="{fill}", color="{border}", fontcolor="{ink}"')
    else:
        found.append(f"shape={_SHAPES[box.kind]}, style=filled")
    if box.outputs:
        found.append("penwidth=2.5")
    return ", ".join(found)


def quote(*lines: str) -> str:
    """Lines of text as a quoted string of DOT, in which a backslash begins an escape."""
    return '"' + "\\n".join([line.replace("\\", "\\\\").replace('"', '\\"') for line in lines]) + '"'
