"""Nested containers: where nodes are found, filled in, and arrays made read-only.

Containers are exactly `list`, `tuple`, `dict`, named tuples and dataclass instances. Everything else is opaque.
A walk gives back the very object it was given when nothing in it had to change, so unchanged data is shared.
"""

from __future__ import annotations

import copy
import functools
import operator
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Values that can hold neither a node nor a buffer, and that hash by value: arguments of these need no look inside.
ATOMS = frozenset({int, float, bool, str, bytes, complex, type(None)})

_CONTAINERS = frozenset({list, tuple, dict})


@functools.lru_cache(maxsize=1024)
def is_container(kind: Any) -> bool:
    """Whether instances of `kind` are looked into."""
    return (
        kind in _CONTAINERS
        or "__dataclass_fields__" in kind.__dict__
        or (issubclass(kind, tuple) and hasattr(kind, "_fields") and hasattr(kind, "_make"))
    )


def rewrite(x: Any, leaf: Callable[[Any], Any]) -> Any:
    """`x` with `leaf` applied to everything in it that is neither an atom nor a container."""
    kind = type(x)
    if kind in ATOMS:
        return x
    if not is_container(kind):  # type: ignore[arg-type]
        return leaf(x)
    if kind is list or kind is tuple:
        items = _rewrite_items(x, leaf)
        return x if items is x else items if kind is list else tuple(items)
    if kind is dict:
        values = list(x.values())
        items = _rewrite_items(values, leaf)
        return x if items is values else dict(zip(x, items, strict=True))
    if issubclass(kind, tuple):
        items = _rewrite_items(x, leaf)
        return x if items is x else kind._make(items)  # type: ignore[attr-defined]
    return _rewrite_dataclass(x, leaf)


def _rewrite_items(x: Any, leaf: Callable[[Any], Any]) -> Any:
    """The items of a list or tuple rewritten, or `x` itself where nothing changed."""
    kinds = set(map(type, x))
    if ATOMS.issuperset(kinds):
        return x
    if any(map(is_container, kinds)):
        items = [v if type(v) in ATOMS else rewrite(v, leaf) for v in x]
    elif kinds & ATOMS:
        items = [v if type(v) in ATOMS else leaf(v) for v in x]
    else:
        items = [leaf(v) for v in x]
    return x if all(map(operator.is_, items, x)) else items


def _rewrite_dataclass(x: Any, leaf: Callable[[Any], Any]) -> Any:
    changed = {}
    for name in x.__dataclass_fields__:
        try:
            old = getattr(x, name)
        except AttributeError:  # a field that was never set
            continue
        new = rewrite(old, leaf)
        if new is not old:
            changed[name] = new
    if not changed:
        return x
    y = copy.copy(x)
    for name, new in changed.items():
        object.__setattr__(y, name, new)  # frozen dataclasses too: y is not yet anybody's
    return y


def snapshot(x: Any) -> Any:
    """`x` with its lists and dicts copied, so that changing the original later does not change a graph."""
    kind = type(x)
    if kind in ATOMS:
        return x
    if kind is list or kind is tuple:
        if any(map(is_container, set(map(type, x)))):
            return kind([v if type(v) in ATOMS else snapshot(v) for v in x])
        return list(x) if kind is list else x
    if kind is dict:
        return {k: v if type(v) in ATOMS else snapshot(v) for k, v in x.items()}
    if issubclass(kind, tuple) and is_container(kind):
        return kind._make([snapshot(v) for v in x])  # type: ignore[attr-defined]
    return x


def read_only(x: Any) -> Any:
    """A leaf as a task gets it: a numpy array becomes a read-only view of itself, anything else is passed as it is."""
    numpy = sys.modules.get("numpy")  # without numpy loaded there is no array
    if numpy is not None and isinstance(x, numpy.ndarray) and x.flags.writeable:
        view = x.view()
        view.flags.writeable = False
        return view
    return x


def freeze(x: Any) -> Any:
    """`x` with every array in it, at any depth, as a read-only view."""
    return rewrite(x, read_only)
