"""Interpreters that are not as they should be: the one that runs the tests, told something before anything else."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def make_python(folder: Path, version: tuple[int, int, int]) -> Path:
    """One that says to be of another version."""
    return _shim(folder / f"python{version[0]}.{version[1]}", f"sys.version_info = {(*version, 'final', 0)!r}")


def make_python_without_venv(folder: Path) -> Path:
    """One that lacks what Debian has in a package of its own."""
    broken = folder / "broken"
    broken.write_text("#!/bin/sh\necho No module named ensurepip >&2\nexit 1\n", "utf-8")
    broken.chmod(0o755)
    return _shim(folder / "python-without-venv", f"sys.executable = {str(broken)!r}")


def _shim(path: Path, told: str) -> Path:
    """An interpreter that takes `-c CODE`."""
    code = f"import sys; {told}; exec(sys.argv[1])"
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$2"\n', "utf-8")
    path.chmod(0o755)
    return path
