"""Interpreters that say to be of another version: the one that runs the tests, told so before anything else."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def make_python(folder: Path, version: tuple[int, int, int]) -> Path:
    """An interpreter that takes `-c CODE`."""
    code = f"import sys; sys.version_info = {(*version, 'final', 0)!r}; exec(sys.argv[1])"
    path = folder / f"python{version[0]}.{version[1]}"
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$2"\n', "utf-8")
    path.chmod(0o755)
    return path
