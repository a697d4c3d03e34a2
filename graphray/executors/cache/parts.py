"""Parts: where a process writes what is not whole yet, in a folder of its own, and what becomes of it at its end.

The folder is locked (`flock`) for as long as its owner lives; the system lets go of the lock at its end, however that
came. So one that can be locked has no owner. The owner's number would not say so: it may be in another container.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
import weakref

FOLDER = "parts"

_SETTLED = 60.0  # seconds after which a folder that nobody holds is swept; it may not have its lock yet
_STALE = 7 * 86400.0  # the same on a file system without locks; who lives makes another if it needs one
_TRIES = 100  # a millisecond apart: a sweeper has a lock for no longer


class Parts:
    """The folder of one `Cache`: made when it is first needed, and again if somebody has removed it.

    Args:
        directory: that of the cache.
    """

    def __init__(self, directory: str) -> None:
        # One for each process: in a common one they would wait for each other, 30 times as long.
        self.path = os.path.join(directory, FOLDER, f"{os.getpid()}.{secrets.token_hex(4)}")
        self._lock = threading.Lock()
        self._fd = -1  # of the folder, locked
        self._close: weakref.finalize[[int], Parts] | None = None

    def make(self) -> None:
        """Have the folder, and its lock where the file system has locks.

        Raises:
            OSError: it cannot be made.
        """
        with self._lock:
            if self._fd >= 0 and _is(self._fd, self.path):
                return
            self._let_go()
            for _ in range(_TRIES):
                os.makedirs(self.path, 0o700, exist_ok=True)
                if self._hold():
                    return
                time.sleep(0.001)
            # It is held by a process that this one was forked from, or the other way round: that does.

    def remove(self) -> None:
        """Let go of the folder, unless something is left in it."""
        with self._lock:
            try:
                os.rmdir(self.path)
            except FileNotFoundError:
                pass
            except OSError:
                return
            self._let_go()

    def _hold(self) -> bool:
        try:
            fd = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError:  # Windows opens no folders
            return True
        if _locked(fd) is not False and _is(fd, self.path):
            self._fd = fd
            self._close = weakref.finalize(self, os.close, fd)
            return True
        os.close(fd)
        return False

    def _let_go(self) -> None:
        if self._close is not None:
            self._close()
        self._fd, self._close = -1, None


def sweep_parts(directory: str) -> None:
    """Remove the folders of those that are gone."""
    parts = os.path.join(directory, FOLDER)
    with contextlib.suppress(OSError):
        for name in os.listdir(parts):
            with contextlib.suppress(OSError):
                _sweep(os.path.join(parts, name))


def _sweep(path: str) -> None:
    age = time.time() - os.stat(path).st_mtime
    if age < _SETTLED:
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        free = _locked(fd)
        if free or (free is None and age > _STALE):
            import shutil

            shutil.rmtree(path)  # while it is locked: nobody takes it for their own
    finally:
        os.close(fd)


def _locked(fd: int) -> bool | None:
    """Take the lock of a folder: whether it was to be had; None where there are no locks."""
    try:
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def _is(fd: int, path: str) -> bool:
    """Whether an open folder is the one that is at this path now."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False
