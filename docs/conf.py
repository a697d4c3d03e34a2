"""Sphinx: Markdown pages (MyST), the reference from docstrings, nothing fetched from the network."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

_project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]

project = _project["name"]
release = version = _project["version"]
author = "the graphray contributors"
copyright = f"2026, {author}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = False

# In docstrings, `this` is code, as in Markdown.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"graphray {release}"
html_theme_options = {"navigation_with_keys": True}


def _read_as_written(app, what, name, obj, options, lines):
    """Docstrings are written to be read in the source, and mean what a reader there takes them to mean.

    - Types are annotations; napoleon takes text before a colon in `Returns:` or of a property for one. An empty type in
      front says that it is none.
    - An indented block after a colon is code or a formula.
    - A field of a named tuple without a text of its own has none.
    """
    first = {0} if what in ("attribute", "data", "property") else set()
    for i in first.union(i + 1 for i, line in enumerate(lines) if line.strip() == "Returns:"):
        if i < len(lines):
            text = lines[i].lstrip()
            lines[i] = lines[i].removesuffix(text) + ": " + text
    for i, (line, blank, block) in enumerate(zip(lines, lines[1:], lines[2:], strict=False)):
        if line.endswith(":") and not line.endswith("::") and not blank and block[:1].isspace():
            lines[i] += ":"
    if lines and lines[0].removeprefix(": ").startswith("Alias for field number"):
        lines.clear()


def setup(app):
    """Run before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", _read_as_written, priority=400)
