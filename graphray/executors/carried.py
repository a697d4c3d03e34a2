"""Carried modules: the user's own, which are installed nowhere, travel to machines that do not have them.

What counts as the user's own is what was imported from a Python file outside the places where packages are installed.
The driver sends the sources; a worker finds them before it looks at its own path, so that it runs the driver's code
also where another file of that name lies about. Files beside the modules do not travel, nor do compiled extensions.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import CodeType, ModuleType
    from typing import Any, TypeAlias

    # Name, file, whether it is a package, source.
    Module: TypeAlias = tuple[str, str, bool, bytes]

LARGEST = 4 << 20  # bytes of a source that is sent


# ---- the driver's side


class Luggage:
    """What is to be sent, looked at again when further modules have been imported."""

    def __init__(self) -> None:
        self._seen = 0
        self.modules: dict[str, Module] = {}

    def missing(self, sent: set[str]) -> list[Module]:
        """The modules that a worker does not have yet.

        Args:
            sent: names of those that it has.
        """
        if len(sys.modules) != self._seen:
            self._seen = len(sys.modules)
            for name, module in list(sys.modules.items()):
                if name not in self.modules and (found := _own(name, module)) is not None:
                    self.modules[name] = found
        if len(sent) == len(self.modules):
            return []
        return [m for name, m in self.modules.items() if name not in sent]


def _own(name: str, module: ModuleType) -> Module | None:
    spec = getattr(module, "__spec__", None)
    if name == "__main__" or name.partition(".")[0] == "graphray" or spec is None or spec.name != name:
        return None
    file, locations = spec.origin, spec.submodule_search_locations
    if file is None or not spec.has_location:
        if locations is None:
            return None
        places = [p for p in locations if not _is_installed(p)]  # a package without a file
        return (name, os.path.join(places[0], "__init__.py"), True, b"") if places else None
    if not file.endswith(".py") or _is_installed(file):
        return None
    try:
        if os.path.getsize(file) > LARGEST:
            return None
        with open(file, "rb") as source:
            return name, file, locations is not None, source.read()
    except OSError:  # it is in an archive, or gone
        return None


def _is_installed(path: str) -> bool:
    return os.path.realpath(path).startswith(_places())


@functools.cache
def _places() -> tuple[str, ...]:
    import site
    import sysconfig

    found = [p for name, p in sysconfig.get_paths().items() if "lib" in name]
    found += [*getattr(site, "getsitepackages", list)(), site.getusersitepackages()]
    return tuple({os.path.realpath(p) + os.sep for p in found})


# ---- the worker's side


class _Carried(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads what has been sent."""

    def __init__(self) -> None:
        self.modules: dict[str, Module] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """What importing asks."""
        if name not in self.modules:
            return None
        _, file, package, _ = self.modules[name]
        spec = importlib.machinery.ModuleSpec(name, self, origin=file, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(file)]
        return spec

    def get_source(self, name: str) -> str:
        """Its text; also for tracebacks."""
        from importlib.util import decode_source

        return decode_source(self.modules[name][3])

    def get_code(self, name: str) -> CodeType:
        """Compiled, under the name of its file."""
        code: Any = compile(self.modules[name][3], self.modules[name][1], "exec", dont_inherit=True)
        return code  # type: ignore[no-any-return]

    def is_package(self, name: str) -> bool:
        """Whether it is one."""
        return self.modules[name][2]


_carried = _Carried()


def unpack(modules: Iterable[Module]) -> None:
    """Have modules of the driver's found here."""
    for module in modules:
        _carried.modules[module[0]] = module
    if _carried not in sys.meta_path:
        frozen = sys.meta_path.index(importlib.machinery.FrozenImporter)
        sys.meta_path.insert(frozen + 1, _carried)
