"""What graphray needs, and in which versions this Python has it."""

from __future__ import annotations

import functools
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import NamedTuple

# Extras that are for working on graphray, and not for running anything.
DEVELOPMENT = frozenset({"dev", "docs", "bench"})

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")


class Project(NamedTuple):
    """What packaging has to know of graphray: requirements as in its metadata, and the names of extras."""

    requires: tuple[str, ...]
    extras: tuple[str, ...]
    requires_python: str


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def project() -> Project:
    """That of the graphray that is running: a checkout says itself what it needs, else its metadata does.

    Raises:
        LookupError: neither is there.
    """
    import graphray

    checkout = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(graphray.__file__))), "pyproject.toml")
    if os.path.exists(checkout):
        with open(checkout, "rb") as file:
            found = tomllib.load(file).get("project", {})
        if found.get("name") == "graphray":
            extras = found.get("optional-dependencies", {})
            requires = [*found.get("dependencies", ())]
            requires += [_with_extra(text, extra) for extra, texts in extras.items() for text in texts]
            return Project(tuple(requires), tuple(extras), found.get("requires-python", ""))
    try:
        known = metadata.metadata("graphray")
    except metadata.PackageNotFoundError:
        raise LookupError(
            f"graphray in {os.path.dirname(graphray.__file__)} is a copy that nobody has installed, so that "
            "nothing says what it needs: pip install it"
        ) from None
    extras = tuple(known.get_all("Provides-Extra") or ())
    return Project(tuple(metadata.requires("graphray") or ()), extras, ",".join(known.get_all("Requires-Python") or ()))


def _with_extra(requirement: str, extra: str) -> str:
    body, semicolon, marker = requirement.partition(";")
    return f"{body.strip()}; " + (f"({marker.strip()}) and " if semicolon else "") + f'extra == "{extra}"'


def needed(also: Iterable[str] = ()) -> dict[str, str]:
    """Versions by name of all packages that graphray needs in this environment, itself left out.

    Those of an extra belong to them if all that it asks for is installed, apart from the extras for development. What
    is not installed here was not for this platform.

    Args:
        also: names of further packages, which come with what they need.

    Raises:
        LookupError: one of these is not installed here.
    """
    this = project()
    todo: list[tuple[str, frozenset[str]]] = []
    for requirement in this.requires:
        name, extras, wanted = _parts(requirement)
        if not wanted or any(extra in _installed_extras(this) for extra in wanted):
            todo.append((name, extras))
    for name in also:
        if _version(name) is None:
            raise LookupError(f"there is no package {name!r} in this environment, so a host cannot have the same")
        todo.append((canonical(name), frozenset()))
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while todo:
        name, extras = todo.pop()
        version = _version(name)
        if version is None or name == "graphray":
            continue
        found[name] = version
        for part in {"", *extras}:
            if (name, part) not in seen:
                seen.add((name, part))
                todo += _required(name, part)
    return dict(sorted(found.items()))


def _installed_extras(this: Project) -> set[str]:
    found = set()
    for extra in set(this.extras) - DEVELOPMENT:
        names = [name for name, _, wanted in map(_parts, this.requires) if extra in wanted]
        if names and all(_version(name) is not None for name in names):
            found.add(extra)
    return found


def _required(name: str, part: str) -> Iterator[tuple[str, frozenset[str]]]:
    """What a package asks for itself (`part` is ""), or for one of its extras."""
    for requirement in metadata.requires(name) or ():
        other, extras, wanted = _parts(requirement)
        if (part in wanted) if part else not wanted:
            yield other, extras


def _parts(requirement: str) -> tuple[str, frozenset[str], frozenset[str]]:
    """The package that a requirement names, the extras it asks of it, and those that ask for it."""
    body, _, marker = requirement.partition(";")
    found = _REQUIREMENT.match(body)
    if found is None:
        return "", frozenset(), frozenset()
    extras = frozenset(canonical(x.strip()) for x in (found[2] or "").split(",") if x.strip())
    return canonical(found[1]), extras, frozenset(canonical(x) for x in _EXTRA.findall(marker))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        return None


def installed(names: Iterable[str]) -> dict[str, str]:
    """Versions by name, of those that are installed here."""
    return {name: version for name in names if (version := _version(name)) is not None}
