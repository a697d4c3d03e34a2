"""Opaque: a value that graphray does not look into, on its way through a graph.

What a task of graphray's own users returns is searched for nodes, and the arrays in it become read-only. What passes
through on behalf of other libraries is theirs: nobody searches it, and it arrives as it was.
"""

from __future__ import annotations

from graphray.graph.containers import ATOMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Opaque:
    """A box for one value; hashed and compared by identity."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    @property
    def __name__(self) -> str:
        """What labels say of it."""
        return "…"

    def __reduce__(self) -> Any:
        return Opaque, (self.value,)

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__}>"


def opaque(value: Any) -> Any:
    """A value in a box, unless it is an atom, which has nothing to look into."""
    return value if type(value) in ATOMS else Opaque(value)


def content(x: Any) -> Any:
    """What is in a box; anything else itself."""
    return x.value if type(x) is Opaque else x
