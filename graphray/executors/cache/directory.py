"""Cache: a directory of results, each found by the key of its node.

    objects/ab/abcdef…   one file per result, see `entry`
    iterations/…         which states of an iteration are stored, see `iteration`
    parts/pid.…/…        files that are being written, a folder per process; renamed when they are whole
    history.sqlite       what ran, and how long it took, see `history`
    version              of this layout

Any number of processes may read, write and remove at the same time: a file appears whole, by a rename, and what is
removed while it is read stays readable to whoever has it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import stat
import threading
import time
import warnings

from graphray.executors.cache.entry import Damaged, Entry, write_entry
from graphray.executors.memory import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

VERSION = 1
PLACE, SIZE = "GRAPHRAY_CACHE", "GRAPHRAY_CACHE_SIZE"  # environment variables
MOST = 20 * 10**9  # bytes, where nobody says how many
SHARE = 0.1  # of the file system, at most

_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# A cache of graphray; see https://bford.info/cachedir/\n"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_STALE = 86400.0  # seconds after which a process's folder of parts is swept; it makes another if it needs one
_SETTLED = 60.0  # the same if there is no such process here; it may be in another container
_EVICTED_TO = 0.9  # of the limit: what is left after an eviction

_MARKED = 60.0  # seconds for which a result that was used counts as just used

# By path: what was whole when it was read by this process, and has not changed since; and when it was marked as used.
_verified: dict[str, tuple[tuple[int, int, int], float]] = {}
# By directory: what it was when this process set it up or found it in order, and its limit where nobody says another.
_in_order: dict[str, tuple[tuple[int, int, int], int]] = {}


def default_directory() -> str:
    """Where results go if nobody says where: $GRAPHRAY_CACHE, $XDG_CACHE_HOME/graphray, or ~/.cache/graphray."""
    named = os.environ.get(PLACE)
    if named:
        return named
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "graphray")


class Cache:
    """A directory of results. Cheap to make, picklable, safe to use from several threads and processes.

    Args:
        directory: where; made if it is not there, readable by the user alone. By default `default_directory()`.
        limit: bytes that it may hold, or a text such as "20GB"; what was used longest ago goes first. By default
            $GRAPHRAY_CACHE_SIZE, else 20 GB, and no more than a tenth of the file system.

    Raises:
        ValueError: the directory is no cache and has other files in it, or is of another version; or the limit makes no
            sense.
        PermissionError: it belongs to somebody else, or others can write to it.
        OSError: it cannot be made.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, limit: int | str | None = None) -> None:
        self.directory = os.path.abspath(os.fspath(directory) if directory is not None else default_directory())
        asked = limit if limit is not None else os.environ.get(SIZE) or None
        given = parse_size(asked, SIZE if limit is None else "limit") if asked is not None else None
        self._objects = os.path.join(self.directory, "objects")
        # A folder of its own for each process: in a common one they would wait for each other, 30 times as long.
        self._parts = os.path.join(self.directory, "parts", f"{os.getpid()}.{secrets.token_hex(4)}")
        self._numbered = itertools.count()
        usual = _check(self.directory)
        self.limit = given if given is not None else usual
        self._lock = threading.Lock()
        self._size: int | None = None  # bytes that it holds, as far as this process knows
        self._writes = False

    def close(self) -> None:
        """Leave nothing but results. It may be used again."""
        if self._writes:
            with contextlib.suppress(OSError):
                os.rmdir(self._parts)

    def __reduce__(self) -> Any:
        return Cache, (self.directory, self.limit)

    def __repr__(self) -> str:
        return f"Cache({self.directory!r})"

    # ---- results

    def find(self, key: bytes) -> Entry | None:
        """The entry of a key, or None. It is checked when this process reads it first, or it has changed since.

        A damaged one is removed, with a warning.
        """
        path = self._path(key)
        try:
            entry = Entry(key, path)
            stamp, marked = _verified.get(path, (None, 0.0))
            if stamp != entry.stamp:
                entry.check()
        except FileNotFoundError:
            return None
        except (Damaged, ValueError, KeyError, TypeError) as problem:
            self._drop_damaged(path, problem)
            return None
        except OSError as problem:
            with contextlib.suppress(Warning):
                warnings.warn(f"the cached result {path} cannot be read: {problem}", stacklevel=2)
            return None
        now = time.time()
        if stamp != entry.stamp or now - marked > _MARKED:
            _verified[path] = entry.stamp, now
            with contextlib.suppress(OSError):  # removed meanwhile, or the file system is read-only
                os.utime(path, ns=(int(now * 1e9), entry.stamp[2]))
        return entry

    def contains(self, key: bytes) -> bool:
        """Whether there is an entry of a key; it is not looked into."""
        return os.path.exists(self._path(key))

    def store(self, key: bytes, frames: Sequence[Any], info: Mapping[str, Any]) -> int:
        """Keep a value, as `wire.dumps` gave it; its bytes on disk. It appears whole or not at all.

        Raises:
            OSError: there is no room, also after the oldest entries went.
        """
        try:
            return self._store(key, frames, info)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self.prune(int(self.size() * 0.5))
            return self._store(key, frames, info)

    def _store(self, key: bytes, frames: Sequence[Any], info: Mapping[str, Any]) -> int:
        path = self._path(key)
        part = f"{self._parts}/{next(self._numbered)}"
        fd = self._open_part(part)
        try:
            try:
                size = write_entry(fd, frames, info)
            finally:
                os.close(fd)
            try:
                os.rename(part, path)
            except FileNotFoundError:  # the first with these two digits
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
                os.rename(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
        self._wrote(size)
        return size

    def _open_part(self, part: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return os.open(part, flags, 0o600)
        except FileNotFoundError:  # the first; or somebody has removed the whole cache
            _set_up(self.directory)
            os.makedirs(self._parts, 0o700, exist_ok=True)
            self._writes = True
            return os.open(part, flags, 0o600)

    def link(self, key: bytes, existing: bytes) -> bool:
        """Have the entry of one key under another, too, without writing it again; False if it is not there."""
        path, source = self._path(key), self._path(existing)
        part = f"{self._parts}/{next(self._numbered)}"
        try:
            os.makedirs(self._parts, 0o700, exist_ok=True)
            self._writes = True
            try:
                os.link(source, part)
            except FileNotFoundError:
                return False
            except OSError:  # a file system without hard links
                import shutil

                shutil.copyfile(source, part)
                os.chmod(part, 0o600)
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            os.rename(part, path)
            with contextlib.suppress(FileNotFoundError):  # a rename onto the same file leaves both
                os.unlink(part)
            return True
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(part)
            return False

    def remove(self, key: bytes) -> bool:
        """Remove an entry; whether there was one."""
        path = self._path(key)
        try:
            size = os.stat(path).st_size
            os.unlink(path)
        except FileNotFoundError:
            return False
        _verified.pop(path, None)
        with self._lock:
            if self._size is not None:
                self._size -= size
        return True

    def _path(self, key: bytes) -> str:
        name = key.hex()
        return f"{self._objects}/{name[:2]}/{name}"

    def _drop_damaged(self, path: str, problem: Exception) -> None:
        with contextlib.suppress(OSError):
            os.unlink(path)
        with contextlib.suppress(Warning):  # where warnings are errors: this may be the engine's thread
            warnings.warn(
                f"the cached result {path} is damaged ({problem}): it is removed, and will be computed again",
                stacklevel=3,
            )

    # ---- the whole

    def keys(self) -> Iterator[bytes]:
        """The keys of all entries, in no order."""
        for folder in _list(self._objects):
            for name in _list(os.path.join(self._objects, folder)):
                with contextlib.suppress(ValueError):
                    key = bytes.fromhex(name)
                    if self._path(key) == f"{self._objects}/{folder}/{name}":
                        yield key

    def entries(self) -> Iterator[Entry]:
        """All entries, in no order, without checking them; damaged ones are left out."""
        for key in self.keys():
            with contextlib.suppress(OSError, Damaged, ValueError, KeyError, TypeError):
                yield Entry(key, self._path(key))

    def verify(self) -> tuple[int, list[tuple[bytes, str]]]:
        """Check every entry and remove the damaged ones: how many are whole, and which were not, and why."""
        whole = 0
        damaged = []
        for key in self.keys():
            path = self._path(key)
            try:
                entry = Entry(key, path)
                entry.check()
                whole += 1
            except FileNotFoundError:
                continue
            except (Damaged, ValueError, KeyError, TypeError) as problem:
                damaged.append((key, str(problem)))
                self.remove(key)
        return whole, damaged

    def size(self) -> int:
        """Bytes of all entries; those of several keys count once."""
        return sum([size for _, size, _ in self._files()])

    def _files(self) -> list[tuple[float, int, list[str]]]:
        """Of each file: when it was last used, its bytes, and its names."""
        found: dict[int, tuple[float, int, list[str]]] = {}
        for folder in _list(self._objects):
            with contextlib.suppress(FileNotFoundError), os.scandir(os.path.join(self._objects, folder)) as files:
                for file in files:
                    with contextlib.suppress(FileNotFoundError):
                        status = file.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            used = max(status.st_atime, status.st_mtime)
                            found.setdefault(status.st_ino, (used, status.st_size, []))[2].append(file.path)
        return list(found.values())

    def prune(self, limit: int | None = None, older_than: float | None = None) -> tuple[int, int]:
        """Remove what was used longest ago.

        Args:
            limit: bytes that may be left; by default the cache's own limit.
            older_than: remove also what was not used for so many seconds.

        Returns:
            How many entries and bytes went.
        """
        limit = self.limit if limit is None else limit
        oldest = time.time() - older_than if older_than is not None else None
        files = sorted(self._files())
        left = sum([size for _, size, _ in files])
        count = gone = 0
        for used, size, names in files:
            if left <= limit and (oldest is None or used >= oldest):
                break
            for path in names:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                    count += 1
                _verified.pop(path, None)
            left -= size
            gone += size
        self._sweep()
        with self._lock:
            self._size = left
        return count, gone

    def _wrote(self, size: int) -> None:
        """Keep the whole within its limit. Only what this process writes is counted between two looks at all of it."""
        with self._lock:
            if self._size is None:
                self._size = self.size()
            else:
                self._size += size
            over = self._size > self.limit
        if over:
            self.prune(int(self.limit * _EVICTED_TO))

    def _sweep(self) -> None:
        """Remove what was never finished: its writer is gone, or has been at it for an hour."""
        parts = os.path.join(self.directory, "parts")
        for name in _list(parts):
            path = os.path.join(parts, name)
            with contextlib.suppress(OSError, ValueError):
                age = time.time() - os.stat(path).st_mtime
                if age > (_STALE if _is_alive(int(name.split(".")[0])) else _SETTLED):
                    import shutil

                    shutil.rmtree(path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _default_limit(directory: str) -> int:
    import shutil

    return min(MOST, int(SHARE * shutil.disk_usage(directory).total))


def _check(directory: str) -> int:
    """See that a directory is a cache, or make it one; the limit that it has where nobody says another."""
    with contextlib.suppress(OSError):
        status = os.stat(directory)
        known = _in_order.get(directory)
        if known is not None and known[0] == (status.st_ino, status.st_mode, status.st_uid):
            return known[1]
    _set_up(directory)
    status = os.stat(directory)
    limit = _default_limit(directory)
    _in_order[directory] = (status.st_ino, status.st_mode, status.st_uid), limit
    return limit


def _set_up(directory: str) -> None:
    """Make a directory a cache, or see that it is one."""
    advice = "name another directory, or remove it"
    try:
        os.makedirs(directory, 0o700)
        fresh = True
    except FileExistsError:
        fresh = False
    status = os.stat(directory)
    if not stat.S_ISDIR(status.st_mode):
        raise ValueError(f"the cache {directory} is a file: {advice}")
    if hasattr(os, "getuid"):
        if status.st_uid != os.getuid():
            raise PermissionError(f"the cache {directory} belongs to another user (id {status.st_uid}): {advice}")
        if status.st_mode & 0o022:
            raise PermissionError(
                f"others can write to the cache {directory}, and so have code run here: chmod go-w {directory}"
            )
    version = os.path.join(directory, "version")
    if not fresh:
        try:
            with open(version) as file:
                found = file.read(32).strip()
        except FileNotFoundError:
            others = sorted(set(os.listdir(directory)) - {"objects", "parts", "iterations", "CACHEDIR.TAG"})
            others = [name for name in others if not name.startswith(("history.sqlite", ".version"))]
            if others:
                raise ValueError(
                    f"{directory} is no cache of graphray, and has other files in it ({others[0]}): {advice}"
                ) from None
        else:
            if found != str(VERSION):
                raise ValueError(f"the cache {directory} is of version {found or '?'}, and not {VERSION}: {advice}")
            if os.path.isdir(os.path.join(directory, "parts")):
                return
    if status.st_mode & 0o077:
        os.chmod(directory, 0o700)
    for name in ("objects", "parts"):
        os.makedirs(os.path.join(directory, name), 0o700, exist_ok=True)
    _write(os.path.join(directory, "CACHEDIR.TAG"), _TAG)
    _write(version, f"{VERSION}\n".encode())  # last: what has it is set up


def _write(path: str, content: bytes) -> None:
    part = os.path.join(os.path.dirname(path), f".version-{secrets.token_hex(4)}")
    with open(part, "xb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
        file.write(content)
    os.replace(part, path)
