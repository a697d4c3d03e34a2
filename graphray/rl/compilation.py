"""Compiled programs, kept between processes, so that the next one starts training at once.

JAX keeps them, in a directory that only its user can write to: whoever can put a program there has it run. It is
`$GRAPHRAY_XLA_CACHE`, `$XDG_CACHE_HOME/graphray-xla`, or `~/.cache/graphray-xla`. A user who has chosen a directory for
JAX (`JAX_COMPILATION_CACHE_DIR`) is left to it, and with an empty `GRAPHRAY_XLA_CACHE` nothing is kept.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import warnings
from typing import Any

__all__ = ["keep_programs"]

PLACE = "GRAPHRAY_XLA_CACHE"
MOST_BYTES = 512 << 20
"""When there are more, those used longest ago are removed."""


@functools.cache
def keep_programs() -> None:
    """Have JAX keep what it compiles from here on, once in a process."""
    import jax

    config: Any = jax.config
    directory = _directory()
    if directory is None or config.jax_compilation_cache_dir:
        return
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        status = os.stat(directory)
    except OSError as error:
        warnings.warn(f"compiled programs are not kept: {error}", stacklevel=2)
        return
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        warnings.warn(f"compiled programs are not kept: {directory} is not yours alone to write to", stacklevel=2)
        return
    _prune(directory)
    config.update("jax_compilation_cache_dir", directory)
    config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def _directory() -> str | None:
    named = os.environ.get(PLACE)
    if named is not None:
        return os.path.abspath(os.path.expanduser(named)) if named else None
    base = os.environ.get("XDG_CACHE_HOME") or ""
    return os.path.join(base if os.path.isabs(base) else os.path.expanduser("~/.cache"), "graphray-xla")


def _prune(directory: str) -> None:
    """Remove what was used longest ago. Others may do so at the same time, and a program that is gone is compiled again."""
    files = []
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    files.append((max(status.st_atime, status.st_mtime), status.st_size, entry.path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= MOST_BYTES:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size
