"""`grid_search`: one configuration that stands for several."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["SEARCH", "Variant", "variants"]

SEARCH = "grid_search"


class Variant(NamedTuple):
    """One of the configurations."""

    config: dict[str, Any]
    varied: dict[str, Any]
    """The values that were chosen in it, by dotted name."""


def variants(config: Mapping[str, Any]) -> Iterator[Variant]:
    """Every choice of one value from each `{"grid_search": […]}`, however deep; the last one changes fastest.

    Raises:
        ValueError: one of them is no list, is empty, or has company in its dictionary.
    """
    searched = dict(_searches(config, ()))
    for chosen in itertools.product(*searched.values()):
        choice = dict(zip(searched, chosen, strict=True))
        yield Variant(_with(config, choice, ()), {".".join(map(str, path)): value for path, value in choice.items()})


def _searches(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], list[Any]]]:
    if isinstance(value, Mapping):
        if SEARCH in value:
            name, among = ".".join(map(str, path)), value[SEARCH]
            if len(value) > 1:
                raise ValueError(f"{name}: beside {SEARCH} there is {', '.join(str(k) for k in value if k != SEARCH)}")
            if not isinstance(among, list | tuple) or not among:
                raise ValueError(f"{name}: {SEARCH} is a list of the values to be tried, not {among!r}")
            yield path, list(among)
            return
        for name, inner in value.items():
            yield from _searches(inner, (*path, name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _searches(inner, (*path, number))


def _with(value: Any, choice: Mapping[tuple[Any, ...], Any], path: tuple[Any, ...]) -> Any:
    if path in choice:
        return choice[path]
    if isinstance(value, Mapping):
        return {name: _with(inner, choice, (*path, name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with(inner, choice, (*path, number)) for number, inner in enumerate(value)]
    return value
