"""The folder of an executor's segments: private to the user, held by a lock, and swept once nobody holds it.

Its owner has the folder itself locked (`flock`) for as long as it lives; the system lets go of the lock at its end,
however that came. So a folder that can be locked has no owner, and a later start removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile

SHARED_MEMORY = "/dev/shm"
PLACE = "GRAPHRAY_STORE"  # environment variable: where the segments go, in place of shared memory

_MARK = ".graphray-store"  # a file in each: nothing else is ever swept
_NAME = re.compile(r"graphray-store-\d+-[0-9a-f]{16}")
_NEW = re.compile(r"\.graphray-new-\d+-[0-9a-f]{16}")
_OLD = 600.0  # seconds after which a folder that was never finished is nobody's


def memory_place() -> str:
    """Where segments go: shared memory, or where there is none, temporary files, which are mapped all the same."""
    place = os.environ.get(PLACE)
    if place:
        return os.path.abspath(place)  # a task may change its process's directory
    if os.path.isdir(SHARED_MEMORY) and os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return SHARED_MEMORY
    return tempfile.gettempdir()


def disk_place() -> str:
    """Where segments go that shared memory has no room for."""
    return tempfile.gettempdir()


class Directory:
    """A folder of this process's own.

    Args:
        place: the folder to make it in.

    Raises:
        OSError: it cannot be made there.
    """

    def __init__(self, place: str) -> None:
        suffix = f"{os.getpid()}-{secrets.token_hex(8)}"
        new = os.path.join(place, f".graphray-new-{suffix}")
        self.path = os.path.join(place, f"graphray-store-{suffix}")
        try:
            os.mkdir(new, 0o700)
        except OSError as problem:
            error = problem
            if os.environ.get(PLACE) and place == memory_place():
                text = f"the environment variable {PLACE} names a place where no folder can be made: {problem.strerror}"
                error = OSError(problem.errno, text, place)
            error.add_note(
                f"graphray: large results need a folder that can be written to, and {place} is none; "
                f"the environment variables {PLACE} (for shared memory) and TMPDIR (for the disk) name others"
            )
            raise error from None
        try:
            self._fd = os.open(new, os.O_RDONLY)
            try:
                _lock(self._fd)
                with open(os.path.join(new, _MARK), "x"):
                    pass
                # Only now under the name that others look for: it is locked from its first moment.
                os.rename(new, self.path)
            except BaseException:
                os.close(self._fd)
                raise
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise

    def remove(self) -> None:
        """Remove the folder and all in it; what is mapped stays readable until it is let go."""
        if self._fd >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._fd)
            self._fd = -1


def sweep(place: str) -> list[str]:
    """Remove the folders in a place whose owners are gone, and say which these were."""
    swept = []
    try:
        names = os.listdir(place)
    except OSError:
        return []
    for name in names:
        if not _NAME.fullmatch(name) and not _NEW.fullmatch(name):
            continue
        path = os.path.join(place, name)
        with contextlib.suppress(OSError):
            if _is_abandoned(path, finished=name[0] != "."):
                shutil.rmtree(path, ignore_errors=True)
                swept.append(path)
    return swept


def _is_abandoned(path: str, finished: bool) -> bool:
    import time

    status = os.lstat(path)
    if not os.path.isdir(path) or os.path.islink(path) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        return False
    if not finished:
        return time.time() - status.st_mtime > _OLD
    if not os.path.exists(os.path.join(path, _MARK)):
        return False
    fd = os.open(path, os.O_RDONLY)
    try:
        _lock(fd)
        return True
    except OSError:  # somebody holds it
        return False
    finally:
        os.close(fd)


def _lock(fd: int) -> None:
    """Take a lock, or fail.

    Raises:
        OSError: another process has it.
    """
    import fcntl

    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
