"""Options: what a configuration's entry means, what it may be, and what is said when it is something else.

A configuration is a frozen dataclass whose fields are made by `option`. From these come the defaults, the checks, the
choice of numbers that are traced, and the tables in the documentation; nothing is written twice.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

__all__ = ["SAME", "ConfigError", "Option", "build", "check", "option", "options"]

T = TypeVar("T")

SAME: Any = type("Same", (), {"__repr__": lambda _: "same"})()
"""In place of RLlib's default: it is ours as well."""


class ConfigError(ValueError):
    """A configuration that cannot be used: an unknown name, a wrong type, or a value out of its range."""


class Option(NamedTuple):
    """What is known about one entry of a configuration."""

    doc: str
    kind: str
    """What its values are, for people."""
    accepts: Callable[[Any], Any]
    """Turns what was given into the value that is kept; raises TypeError or ValueError."""
    traced: bool
    """A number that is a leaf of the agent's state: another value compiles nothing anew, and can be one of many."""
    rllib: Any
    aliases: tuple[str, ...]
    """Other names of it, in other libraries: suggested when one of them is used."""


def option(
    default: Any,
    doc: str,
    accepts: Callable[[Any], Any],
    *,
    kind: str | None = None,
    traced: bool = False,
    rllib: Any = SAME,
    aliases: tuple[str, ...] = (),
) -> Any:
    """A field of a configuration."""
    about = Option(doc, kind or str(getattr(accepts, "kind", "anything")), accepts, traced, rllib, aliases)
    if isinstance(default, dict | list):
        made = default
        return dataclasses.field(default_factory=lambda: made.copy(), metadata={"option": about})
    return dataclasses.field(default=default, metadata={"option": about})


def options(config: Any) -> dict[str, Option]:
    """What is known about each entry, by name, of a configuration or its class."""
    return {field.name: field.metadata["option"] for field in dataclasses.fields(config)}


def build(kind: type[T], entries: Mapping[str, Any], where: str) -> T:
    """A configuration from entries by name, each checked; `where` begins the errors.

    Raises:
        ConfigError: says which entry is wrong, and what it may be.
    """
    known = options(kind)
    entries = {f"{name}_" if f"{name}_" in known else name: value for name, value in entries.items()}  # lambda
    for name in entries:
        if name not in known:
            raise ConfigError(f"{where} has no {name!r}{_meant(str(name), known)}")
    return kind(**{name: check(known[name], name, value, where) for name, value in entries.items()})


def check(about: Option, name: str, value: Any, where: str) -> Any:
    """The value that is kept for what was given."""
    try:
        return about.accepts(value)
    except (TypeError, ValueError) as error:
        said = str(error)
        reason = f": {said}" if said else ""
        raise ConfigError(f"{where}: {name} is {about.kind}, not {value!r}{reason}") from None


def _meant(name: str, known: Mapping[str, Option]) -> str:
    for real, about in known.items():
        if name in about.aliases:
            return f"; it is called {real!r} here"
    every = {alias: real for real, about in known.items() for alias in (real, *about.aliases)}
    near = difflib.get_close_matches(name, every, n=1)
    return f"; did you mean {every[near[0]]!r}?" if near else f"; its names are {', '.join(sorted(known))}"


# ---- what entries accept


_F = TypeVar("_F", bound=Callable[[Any], Any])


def _kind(text: str) -> Callable[[_F], _F]:
    def named(accepts: _F) -> _F:
        accepts.kind = text  # type: ignore[attr-defined]
        return accepts

    return named


def number(low: float = -math.inf, high: float = math.inf, *, open_low: bool = False) -> Any:
    """A number between two others, both included; `open_low` leaves the lower one out."""
    if high < math.inf:
        text = f"a number {'above' if open_low else 'from'} {low:g} {'up ' if open_low else ''}to {high:g}"
    else:
        text = (
            f"a number above {low:g}"
            if open_low
            else f"a number of at least {low:g}"
            if low > -math.inf
            else "a number"
        )

    @_kind(text)
    def accepts(value: Any) -> float:
        if isinstance(value, str):  # YAML reads 1e-3 as text
            value = _from_text(value)
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or math.isnan(value):
            raise TypeError
        real = float(value)
        if not low <= real <= high or (open_low and real == low):
            raise ValueError
        return real

    return accepts


def _from_text(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise TypeError from None


def integer(low: int = 0, high: int | None = None) -> Any:
    """A whole number; 1e5 will do."""

    @_kind(f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}")
    def accepts(value: Any) -> int:
        if isinstance(value, str):
            value = _from_text(value)
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or value != int(float(value)):
            raise TypeError
        whole = int(float(value))
        if whole < low or (high is not None and whole > high):
            raise ValueError
        return whole

    return accepts


def optional(accepts: Any) -> Any:
    """That, or None."""

    @_kind(f"{accepts.kind}, or None")
    def either(value: Any) -> Any:
        return None if value is None else accepts(value)

    return either


def choice(*among: Any) -> Any:
    """One of some values."""

    @_kind("one of " + ", ".join(map(repr, among)))
    def accepts(value: Any) -> Any:
        for one in among:
            if type(one) is type(value) and one == value:
                return one
        raise ValueError

    return accepts


@_kind("True or False")
def flag(value: Any) -> bool:
    """A truth value."""
    if not isinstance(value, bool):
        raise TypeError
    return value


@_kind("a dict")
def mapping(value: Any) -> dict[str, Any]:
    """A dictionary with names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError
    return dict(value)


@_kind("a list of whole numbers above 0")
def sizes(value: Any) -> tuple[int, ...]:
    """Sizes of layers."""
    each = integer(1)
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise TypeError
    return tuple(each(one) for one in value)


@_kind("a list of [time step, value], in order of time")
def schedule(value: Any) -> tuple[tuple[float, float], ...]:
    """A piecewise linear function of time."""
    each = number()
    points = tuple((each(at), each(y)) for at, y in value)
    if not points or any(a[0] >= b[0] for a, b in itertools.pairwise(points)):
        raise ValueError("times increase")
    return points


@_kind("text")
def text(value: Any) -> str:
    """Text."""
    if not isinstance(value, str):
        raise TypeError
    return value


@_kind("anything")
def anything(value: Any) -> Any:
    """Whatever is given."""
    return value
