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


def rewrite(x: Any, leaf: Callable[[Any], Any], fresh: bool = False) -> Any:
    """`x` with `leaf` applied to everything in it that is neither an atom nor a container.

    With `fresh`, what could be changed in place is new, whether or not anything in it had to change: lists, dicts, and
    dataclass instances that are not frozen. So whoever gets the result may do with it what they like.
    """
    kind = type(x)
    if kind in ATOMS:
        return x
    if not is_container(kind):  # type: ignore[arg-type]
        return leaf(x)
    if kind is list or kind is tuple:
        items = _rewrite_items(x, leaf, fresh)
        if kind is list:
            return x.copy() if fresh and items is x else items
        return x if items is x else tuple(items)
    if kind is dict:
        values = list(x.values())
        items = _rewrite_items(values, leaf, fresh)
        return x if items is values and not fresh else dict(zip(x, items, strict=True))
    if issubclass(kind, tuple):
        items = _rewrite_items(x, leaf, fresh)
        return x if items is x else kind._make(items)  # type: ignore[attr-defined]
    return _rewrite_dataclass(x, leaf, fresh)


def _rewrite_items(x: Any, leaf: Callable[[Any], Any], fresh: bool) -> Any:
    """The items of a list or tuple rewritten, or `x` itself where nothing changed."""
    kinds = set(map(type, x))
    if ATOMS.issuperset(kinds):
        return x
    if any(map(is_container, kinds)):
        items = [v if type(v) in ATOMS else rewrite(v, leaf, fresh) for v in x]
    elif leaf is _itself:
        return x
    elif kinds & ATOMS:
        items = [v if type(v) in ATOMS else leaf(v) for v in x]
    else:
        items = [leaf(v) for v in x]
    return x if all(map(operator.is_, items, x)) else items


def _rewrite_dataclass(x: Any, leaf: Callable[[Any], Any], fresh: bool) -> Any:
    changed = {}
    for name in x.__dataclass_fields__:
        try:
            old = getattr(x, name)
        except AttributeError:  # a field that was never set
            continue
        new = rewrite(old, leaf, fresh)
        if new is not old:
            changed[name] = new
    if not changed and not (fresh and _is_assignable(type(x))):
        return x
    y = copy.copy(x)
    for name, new in changed.items():
        object.__setattr__(y, name, new)  # frozen dataclasses too: y is not yet anybody's
    return y


def _is_assignable(kind: type) -> bool:
    """Whether attributes can be set: frozen classes have a `__setattr__` that refuses, and so have modules of flax."""
    setter: Any = kind.__setattr__
    return setter is object.__setattr__


def snapshot(x: Any) -> Any:
    """`x` with what could be changed in place copied, so that changing the original later does not change a graph."""
    return rewrite(x, _itself, fresh=True)


def _itself(x: Any) -> Any:
    return x


def instances(x: Any, kind: type) -> list[Any]:
    """The leaves of a type in a structure."""
    if type(x) in ATOMS:
        return []
    found: list[Any] = []

    def note(leaf: Any) -> Any:
        if type(leaf) is kind:
            found.append(leaf)
        return leaf

    rewrite(x, note)
    return found


def read_only(x: Any) -> Any:
    """A leaf as a task gets it: a numpy array becomes a read-only view of itself, anything else is passed as it is.

    An array with gaps, in no order of memory, becomes a copy without: as it arrives elsewhere, and sums depend on that.
    """
    numpy = sys.modules.get("numpy")  # without numpy loaded there is no array
    if numpy is None or not isinstance(x, numpy.ndarray):
        return x
    if not x.flags.forc:
        x = numpy.array(x, order="C", subok=True)
    if x.flags.writeable:
        x = x.view()
        x.flags.writeable = False
    return x


_BUFFERED = frozenset({"numpy", "jaxlib", "pyarrow", "pandas"})  # packages whose objects hold large buffers


def weight(x: Any) -> int:
    """Bytes of the buffers of an array, table or data frame; 0 for anything else."""
    kind: type = type(x)
    if kind.__module__.partition(".")[0] not in _BUFFERED:
        return 0
    size = getattr(x, "nbytes", None)
    if size is None and hasattr(x, "memory_usage"):  # a data frame
        size = x.memory_usage().sum()
    return int(size or 0)


def freeze(x: Any) -> Any:
    """`x` with every array in it, at any depth, as a read-only view."""
    return rewrite(x, read_only)
