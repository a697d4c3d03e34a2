"""Importing a pipeline file, so that its functions are found again in worker processes."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

from graphray.cli.errors import UsageError, suggestion
from graphray.cli.tracebacks import of_users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def load(path: str) -> ModuleType:
    """Import a Python file, under its own name where it can be.

    Its directory comes first in `sys.path`, as for a script, and its name is its stem: workers, which get the same
    `sys.path`, import it again by that name, and functions travel as names. Where something else has that name already
    (`random.py`), the module gets another one and its functions travel by value; its directory then comes last in
    `sys.path`, so that everybody else's `import random` means what it did.

    Raises:
        UsageError: there is no such file, it is no Python file, or it raises when it is imported.
    """
    _check(path)
    real = os.path.realpath(path)  # as for a script, what lies beside the file itself can be imported
    directory, stem = os.path.split(real.removesuffix(".py"))
    importlib.invalidate_caches()
    try:
        if _is_taken(stem, directory, real):
            return _load_by_value(real, stem, directory)
        sys.path.insert(0, directory)
        return importlib.import_module(stem)
    except Exception as error:
        raise UsageError(f"importing {path} failed\n{of_users(error)}") from error
    except SystemExit as error:
        raise UsageError(f"importing {path} failed: it called exit({error.code!r})\n{of_users(error)}") from error


def _check(path: str) -> None:
    """Complain about what cannot be a pipeline file."""
    if os.path.isdir(path):
        raise UsageError(f"{path} is a directory; a pipeline is a Python file")
    if not os.path.exists(path):
        raise UsageError(f"no such file: {path}{_nearest(path)}")
    if not path.endswith(".py") or not os.path.realpath(path).endswith(".py"):
        raise UsageError(f"{path} is not a Python file (its name does not end in .py)")
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _nearest(path: str) -> str:
    directory, name = os.path.split(path)
    try:
        names = [n for n in os.listdir(directory or ".") if n.endswith(".py")]
    except OSError:
        return f"; there is no directory {directory}"
    near = suggestion(name, names) or suggestion(f"{name}.py", names)
    return near.replace("mean '", f"mean '{os.path.join(directory, '')}")


def _is_taken(stem: str, directory: str, real: str) -> bool:
    """Whether importing `stem` here, or in a worker, would give something else than this file."""
    if "." in stem or stem in sys.modules or stem in sys.stdlib_module_names:
        return True
    before = sys.path
    try:
        # Elsewhere: an installed package must stay what others get by that name.
        sys.path = [p for p in before if os.path.realpath(p) != directory]
        elsewhere = importlib.util.find_spec(stem)
        if elsewhere is not None and elsewhere.origin is not None:  # None: a mere directory of that name
            return True
        # Here: a package `stem/` would come before `stem.py`.
        sys.path = [directory, *before]
        here = importlib.util.find_spec(stem)
        return here is None or here.origin is None or os.path.realpath(here.origin) != real
    finally:
        sys.path = before


def _load_by_value(real: str, stem: str, directory: str) -> ModuleType:
    import cloudpickle

    sys.path.append(directory)
    # Nor may processes started from here look into the working directory first, as `python -m` does.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    name = "pipeline_" + "".join(c if c.isalnum() else "_" for c in stem)
    while name in sys.modules:
        name += "_"
    spec = importlib.util.spec_from_file_location(name, real)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    cloudpickle.register_pickle_by_value(module)
    return module
