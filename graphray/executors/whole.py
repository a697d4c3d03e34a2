"""A file that is written whole or not at all: beside its place, and put there at the end."""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

BUFFER = 1 << 20
FRESH = 60.0  # seconds in which a new file may not have its lock yet


def check(what: str, path: str | os.PathLike[str]) -> str:
    """The absolute path of a file that can be written, where links lead.

    Args:
        what: what it is for, in errors.
        path: the file.

    Raises:
        OSError: it cannot be written.
        TypeError: not a path.
    """
    import errno

    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"{what} needs the path of a file, not {path!r}")
    real = os.path.realpath(path)
    if os.path.isdir(real):
        raise cannot(what, real, IsADirectoryError(errno.EISDIR, "it is a directory"))
    if os.path.exists(real) and not os.path.isfile(real):  # to put a file in the place of a device would be no favour
        raise cannot(what, real, OSError(errno.EINVAL, "it is not a file"))
    if not os.path.isdir(os.path.dirname(real)):
        raise cannot(what, real, FileNotFoundError(errno.ENOENT, f"there is no directory {os.path.dirname(real)}"))
    part = _part_of(real)
    with _create(what, real, part):
        os.unlink(part)
    return real


def cannot(what: str, path: str | os.PathLike[str], error: OSError) -> OSError:
    """The same error, saying what it is about."""
    return type(error)(error.errno, f"{what} cannot be written to {os.fspath(path)}: {error.strerror}")


class WholeFile:
    """A text file that takes its place once it is complete, and is gone if it never is.

    Args:
        what: what it is for, in errors.
        path: its place, from `check`.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, what: str, path: str) -> None:
        import weakref

        _sweep(path)
        self._path = path
        self._part = _part_of(path)
        file = self._file = _create(what, path, self._part)
        _locked(file.fileno())
        self.write = file.write
        self.discard = weakref.finalize(self, _remove, file, self._part)  # also where nobody comes to the end

    def complete(self) -> None:
        """Put it in its place."""
        self._file.flush()
        os.replace(self._part, self._path)
        self.discard.detach()
        self._file.close()


def _part_of(path: str) -> str:
    from secrets import token_hex

    return f"{path}.{token_hex(4)}.part"


def _create(what: str, path: str, part: str) -> TextIO:
    try:
        return open(part, "x", BUFFER, encoding="utf-8")
    except OSError as error:
        raise cannot(what, path, error) from None


def _remove(file: TextIO, part: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(part)
    with contextlib.suppress(OSError):  # a full disk, for what is still in the buffer
        file.close()


def _locked(fd: int) -> bool:
    """Take the lock that a file has for as long as its writer lives; whether it was to be had."""
    try:
        import fcntl
    except ImportError:  # Windows: what a killed process leaves stays there
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # somebody writes it, or this file system has no locks
        return False
    return True


def _sweep(path: str) -> None:
    """Remove what a writer of the same file left when it was killed."""
    import glob
    import time

    for part in glob.glob(glob.escape(path) + ".????????.part"):
        with contextlib.suppress(OSError), open(part, "rb+") as file:
            old = time.time() - os.fstat(file.fileno()).st_mtime > FRESH
            if old and _locked(file.fileno()):
                os.unlink(part)
