"""The files of the graphray that is running, as they are here: to be compared, and to be sent."""

from __future__ import annotations

import hashlib
import os

LEFT_OUT = ("__pycache__",)


def files() -> dict[str, bytes]:
    """Contents by path, such as graphray/errors.py; in order."""
    import graphray

    root = os.path.dirname(os.path.abspath(graphray.__file__))
    found = {}
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in LEFT_OUT)
        for name in files:
            if not name.endswith((".pyc", ".pyo")):
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    found["/".join(("graphray", *os.path.relpath(path, root).split(os.sep)))] = file.read()
    return dict(sorted(found.items()))


def digest() -> str:
    """A name for the code of graphray here, in hexadecimal; `code` in `probe.py` makes that of a host."""
    found = hashlib.sha256()
    for path, content in files().items():
        if path.endswith(".py"):
            found.update(f"{path} {len(content)}\n".encode() + content)
    return found.hexdigest()
