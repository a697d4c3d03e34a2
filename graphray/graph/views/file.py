"""Pictures as files, in the format that the name asks for."""

from __future__ import annotations

import os

from graphray.graph.views.dot import to_dot
from graphray.graph.views.html import to_page
from graphray.graph.views.mermaid import to_mermaid
from graphray.graph.views.svg import to_svg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from graphray.graph.dataflow import Graph

_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".eps")


def visualize(graph: Graph, path: str | os.PathLike[str] | None = None, *, max_nodes: int | None = None) -> str:
    """Draw a graph to a file, in the format of its suffix: .svg, .html, .mmd or .md (Mermaid), .dot (Graphviz).

    The file appears complete or not at all; one that is there already is replaced.

    Args:
        graph: what to draw.
        path: where to; without it the drawing is returned as SVG text.
        max_nodes: graphs with more nodes are summarised by task and layer, in at most so many boxes; by default 120,
            and 60 for Mermaid.

    Returns:
        The path as text, or the SVG text.

    Raises:
        ValueError: a suffix that means no format, or `max_nodes` below 1.
        TypeError: `max_nodes` is not an integer.
        FileNotFoundError: the directory to write into is missing.
    """
    options = {} if max_nodes is None else {"max_nodes": max_nodes}
    if path is None:
        return to_svg(graph, **options)
    name = os.fspath(path)
    _write(name, _writer(name)(graph, **options))
    return name


def _writer(name: str) -> Callable[..., str]:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in FORMATS:
        return FORMATS[suffix][1]
    known = ", ".join([f"{s} ({what})" for s, (what, _) in FORMATS.items()])
    if suffix in _IMAGES:
        raise ValueError(
            f"graphray does not write {suffix} itself; there are {known}. Write a .svg and convert it (rsvg-convert, "
            f"Inkscape, a browser), or a .dot and run: dot -T{suffix[1:]} graph.dot -o graph{suffix}"
        )
    raise ValueError(f"the suffix of {name!r} names no format; there are {known}")


def _markdown(graph: Graph, **options: int) -> str:
    return f"```mermaid\n{to_mermaid(graph, **options)}```\n"


# What a suffix means, in words and in deeds.
FORMATS: dict[str, tuple[str, Callable[..., str]]] = {
    ".svg": ("a drawing", to_svg),
    ".html": ("a page with the drawing", to_page),
    ".mmd": ("Mermaid", to_mermaid),
    ".md": ("Mermaid in a fenced block", _markdown),
    ".dot": ("Graphviz", to_dot),
}


def _write(name: str, text: str) -> None:
    """Write a file by way of a temporary one beside it, so that nobody ever sees a part of it."""
    target = os.path.realpath(name)  # through a link, not in its place
    directory = os.path.dirname(target)
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"cannot write {name!r}: there is no directory {directory!r}")
    if os.path.isdir(target):
        raise IsADirectoryError(f"cannot write {name!r}: it is a directory")
    temporary = os.path.join(directory, f".graphray-{os.getpid()}-{id(text)}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
