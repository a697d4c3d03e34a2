"""HTML: a drawing with a heading, for notebooks and for a page of its own."""

from __future__ import annotations

from graphray.graph.views.picture import INPUT, kind_of, name_of
from graphray.graph.views.svg import MAX_NODES, to_svg
from graphray.graph.views.text import clean, escape, plural, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphray.graph.dataflow import Graph

# Names listed in the heading; of more, the number is told.
MOST_NAMES = 8

_LONGEST = 40  # characters of a name

_FONT = "font-family:system-ui,-apple-system,&quot;Segoe UI&quot;,Roboto,&quot;Noto Sans&quot;,sans-serif"


def to_html(graph: Graph, *, max_nodes: int = MAX_NODES) -> str:
    """A fragment of HTML that shows a graph: how many nodes, which inputs and outputs, and the drawing to scroll in.

    It has no scripts, loads nothing, and brings no styles but those of its own elements.

    Args:
        graph: what to show.
        max_nodes: graphs with more nodes are summarised by task and layer, in at most so many boxes.

    Raises:
        TypeError: `max_nodes` is not an integer.
        ValueError: `max_nodes` is below 1.
    """
    svg = to_svg(graph, max_nodes=max_nodes)
    inputs = dict.fromkeys([clean(node.args[0]) for node in graph.nodes if kind_of(node) == INPUT])
    facts = [plural(len(graph), "node")]
    facts += [_names("input", list(inputs))] if inputs else []
    facts += [_names("output", list(map(name_of, graph.outputs)))] if set(graph.outputs) != {None} else []
    return (
        f'<div style="{_FONT};max-width:100%">\n'
        f'<div style="margin:0 0 6px;font-size:13px"><b>Graph</b> · {" · ".join(facts)}</div>\n'
        f'<div style="overflow:auto;max-width:100%;max-height:720px">\n{svg}</div>\n</div>\n'
    )


def to_page(graph: Graph, *, max_nodes: int = MAX_NODES) -> str:
    """The same as `to_html` as a document of its own."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Graph of {plural(len(graph), 'node')}</title>\n</head>\n<body>\n"
        f"{to_html(graph, max_nodes=max_nodes)}</body>\n</html>\n"
    )


def _names(noun: str, names: Sequence[str]) -> str:
    shown = ", ".join([f"<code>{escape(shorten(name, _LONGEST))}</code>" for name in names[:MOST_NAMES]])
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return f"{plural(len(names), noun)}: {shown}{more}"
