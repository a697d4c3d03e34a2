"""Where a cache is, and whether a directory may be one: the user's alone, of this version, with nothing else in it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat

VERSION = 1
PLACE = "GRAPHRAY_CACHE"  # environment variable
MOST = 20 * 10**9  # bytes, where nobody says how many
SHARE = 0.1  # of the file system, at most

_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# A cache of graphray; see https://bford.info/cachedir/\n"
_OURS = frozenset({"objects", "parts", "iterations", "version", "CACHEDIR.TAG"})
_ADVICE = "name another directory, or remove it"

# By directory: what it was when this process set it up or found it in order, and its limit where nobody says another.
_in_order: dict[str, tuple[tuple[int, int, int], int]] = {}


def default_directory() -> str:
    """Where results go if nobody says where: $GRAPHRAY_CACHE, $XDG_CACHE_HOME/graphray, or ~/.cache/graphray."""
    named = os.environ.get(PLACE)
    if named:
        return os.path.expanduser(named)
    base = os.environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):  # the specification says to ignore it then
        base = os.path.expanduser("~/.cache")
    return os.path.join(base, "graphray")


def check(directory: str) -> int:
    """See that a directory is a cache, or make it one; the limit that it has where nobody says another.

    Raises:
        ValueError: it is no cache and has other files in it, or is of another version.
        PermissionError: it belongs to somebody else, or others can write to it.
        OSError: it cannot be made.
    """
    with contextlib.suppress(OSError):
        known = _in_order.get(directory)
        if known is not None and known[0] == _stamp(os.stat(directory)):
            return known[1]
    set_up(directory)
    limit = _default_limit(directory)
    _in_order[directory] = _stamp(os.stat(directory)), limit
    return limit


def set_up(directory: str) -> None:
    """Make a directory a cache, or see that it is one. Raises what `check` does."""
    fresh = False
    try:
        os.makedirs(directory, 0o700)
        fresh = True
    except FileExistsError:
        pass
    except NotADirectoryError:
        raise ValueError(f"the cache {directory} cannot be made below a file: name another directory") from None
    status = os.stat(directory)
    _see_that_it_is_private(directory, status)
    if not fresh and not _is_unfinished(directory):
        return
    try:
        if status.st_mode & 0o077:
            os.chmod(directory, 0o700)
        for name in ("objects", "parts"):
            os.makedirs(os.path.join(directory, name), 0o700, exist_ok=True)
        _write(os.path.join(directory, "CACHEDIR.TAG"), _TAG)
        _write(os.path.join(directory, "version"), f"{VERSION}\n".encode())  # last: what has it is set up
    except OSError as error:  # the disk is full, say
        raise OSError(error.errno, f"the cache cannot be made: {error.strerror}", directory) from error


def _see_that_it_is_private(directory: str, status: os.stat_result) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise ValueError(f"the cache {directory} is a file: {_ADVICE}")
    if hasattr(os, "getuid"):
        if status.st_uid != os.getuid():
            raise PermissionError(f"the cache {directory} belongs to another user (id {status.st_uid}): {_ADVICE}")
        if status.st_mode & 0o022:
            raise PermissionError(
                f"others can write to the cache {directory}, and so have code run here: chmod go-w {directory}"
            )


def _is_unfinished(directory: str) -> bool:
    """Whether a directory that exists is still to be set up: it is empty, or whoever began was killed.

    A power failure may leave `version` without its content.
    """
    found = b""
    with contextlib.suppress(FileNotFoundError), open(os.path.join(directory, "version"), "rb") as file:
        found = file.read(32).strip(b"\0 \r\n")
    if not found:
        others = sorted(
            name
            for name in os.listdir(directory)
            if name not in _OURS and not name.startswith(("history.sqlite", ".version-"))
        )
        if others:
            raise ValueError(f"{directory} is no cache of graphray, and has other files in it ({others[0]}): {_ADVICE}")
        return True
    if found != str(VERSION).encode():
        text = found.decode("ascii", "replace") or "?"
        raise ValueError(f"the cache {directory} is of version {text}, and not {VERSION}: {_ADVICE}")
    return not all(os.path.isdir(os.path.join(directory, name)) for name in ("objects", "parts"))


def _write(path: str, content: bytes) -> None:
    part = os.path.join(os.path.dirname(path), f".version-{secrets.token_hex(4)}")
    try:
        with open(part, "xb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power failure may leave the name without the content
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mode, status.st_uid


def _default_limit(directory: str) -> int:
    import shutil

    return min(MOST, int(SHARE * shutil.disk_usage(directory).total))
