"""Views: pictures of graphs and their export. Everything here only reads nodes; nothing runs."""

from __future__ import annotations

from graphray.graph.views.dot import to_dot
from graphray.graph.views.file import visualize
from graphray.graph.views.html import to_html
from graphray.graph.views.mermaid import to_mermaid
from graphray.graph.views.nx import to_networkx
from graphray.graph.views.svg import to_svg

__all__ = ["to_dot", "to_html", "to_mermaid", "to_networkx", "to_svg", "visualize"]
