"""Mermaid: a graph as flowchart text, which GitHub, GitLab and many editors draw inside Markdown."""

from __future__ import annotations

import re

from graphray.graph.views import palette
from graphray.graph.views.picture import FILE, INPUT, SEVERAL, TASK, VALUE, Picture
from graphray.graph.views.summary import picture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphray.graph.dataflow import Graph

# Nodes written one by one; above this, a summary. Mermaid refuses texts of more than 500 edges or 50,000 characters.
MAX_NODES = 60

_LONGEST = 48  # characters of a line

_SHAPES = {
    TASK: ('["', '"]'),
    VALUE: ('(["', '"])'),
    INPUT: ('[/"', '"/]'),
    FILE: ('[("', '")]'),
    SEVERAL: ('["', '"]'),
}

# Characters that mean something to Mermaid, to Markdown or to HTML; and marks that make a list of a line.
_SPECIAL = re.compile(r"""["#&<>`\\*~|{}\[\]$;]|(?<![^\W_])_|_(?![^\W_])|^[-+]|(?<=^\d)[.)]|(?<=^\d\d)[.)]""")


def to_mermaid(graph: Graph, *, max_nodes: int = MAX_NODES) -> str:
    """Write a graph as a Mermaid flowchart, for a fenced block in Markdown.

    Constants are pills, symbolic inputs slanted, files cylinders; outputs have a strong border and their name.

    Args:
        graph: what to write.
        max_nodes: graphs with more nodes are summarised by task and layer, in at most so many boxes.

    Raises:
        TypeError: `max_nodes` is not an integer.
        ValueError: `max_nodes` is below 1.
    """
    return write(picture(graph, max_nodes))


def write(shown: Picture) -> str:
    """The Mermaid text of a picture."""
    colours = palette.assign([box.task for box in shown.boxes if box.kind == TASK])
    text = ["flowchart LR"]
    text += _nodes(shown, colours)
    for u, v in shown.edges:
        count = shown.count((u, v))
        text.append(f'  n{u} -->|"{count}"| n{v}' if count else f"  n{u} --> n{v}")
    text += [f"  n{u} -.-> n{v}" for u, v in shown.loops if u != v]
    text += [f"  style rounds{i} fill:none,stroke:#8b95a5,stroke-dasharray:6 4" for i in range(len(shown.frames))]
    for number in sorted(set(colours.values())):
        fill, border, ink = [palette.colour(palette.HUES[number], shade) for shade in palette.LIGHT]
        text.append(f"  classDef hue{number} fill:{fill},stroke:{border},color:{ink}")
        members = [f"n{i}" for i, box in enumerate(shown.boxes) if box.kind == TASK and colours[box.task] == number]
        text.append(f"  class {','.join(members)} hue{number}")
    marked = [f"n{i}" for i, box in enumerate(shown.boxes) if box.outputs]
    if marked:
        text += ["  classDef marked stroke-width:3px", f"  class {','.join(marked)} marked"]
    return "\n".join(text) + "\n"


def _nodes(shown: Picture, colours: dict[str, int]) -> list[str]:
    """The boxes, those of a frame inside a subgraph."""
    text: list[str] = []
    waiting = list(enumerate(shown.frames))  # outer ones first, and from left to right within one
    open_frames: list[int] = []
    for i, box in enumerate(shown.boxes):
        column = box.column or 0
        while open_frames and shown.frames[open_frames[-1]].last < column:
            open_frames.pop()
            text.append(f"{_indent(open_frames)}end")
        while waiting and waiting[0][1].first <= column:
            number, frame = waiting.pop(0)
            text.append(f'{_indent(open_frames)}subgraph rounds{number}["{label(frame.title)}"]')
            open_frames.append(number)
        left, right = _SHAPES[box.kind]
        text.append(f"{_indent(open_frames)}n{i}{left}{'<br/>'.join(map(label, box.lines(_LONGEST)))}{right}")
    while open_frames:
        open_frames.pop()
        text.append(f"{_indent(open_frames)}end")
    return text


def _indent(open_frames: list[int]) -> str:
    return "  " * (1 + len(open_frames))


def label(text: str) -> str:
    """Text as it stands between double quotes in Mermaid: what would be markup becomes a character number, `#35;`."""
    return _SPECIAL.sub(_numbered, text)


def _numbered(match: re.Match[str]) -> str:
    # Mermaid makes a new line of a backslash and an n, even of a numbered one: a space of no width keeps them apart.
    return f"#{ord(match[0])};" + ("#8203;" if match[0] == "\\" else "")
