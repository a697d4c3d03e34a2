"""Cache: a directory of results, each found by the key of its node.

    objects/ab/abcdef…   one file per result, see `entry`
    iterations/…         which states of an iteration are stored, see `iteration`
    parts/pid.…/…        files that are being written, a folder per process, see `parts`; renamed when they are whole
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
import time
import warnings

from graphray.executors.cache.entry import Damaged, Entry, write_entry
from graphray.executors.cache.eviction import EVICTED_TO, files, listed, look_is_due, looked, oldest, sweep
from graphray.executors.cache.parts import Parts
from graphray.executors.cache.place import check, default_directory, set_up
from graphray.executors.frames import size_of
from graphray.executors.memory import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

SIZE = "GRAPHRAY_CACHE_SIZE"  # environment variable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_BROKEN = Damaged, ValueError, KeyError, TypeError  # what reading a damaged file raises
_MARKED = 60.0  # seconds for which a result that was used counts as just used
_REMEMBERED = 100_000  # results of which this process knows that they are whole

# By path: what was whole when it was read by this process, and has not changed since; and when it was marked as used.
_verified: dict[str, tuple[tuple[int, int, int], float]] = {}


class Cache:
    """A directory of results. Cheap to make, picklable, safe to use from several threads and processes.

    Args:
        directory: where; made if it is not there, readable by the user alone. By default `default_directory()`.
        limit: bytes that it may hold, or a text such as "20GB"; what was used longest ago goes first. By default
            $GRAPHRAY_CACHE_SIZE, else 20 GB, and no more than a tenth of the file system. It may be exceeded for a
            moment, by a twentieth per process that writes.

    Raises:
        ValueError: the directory is no cache and has other files in it, or is of another version; it or the limit makes
            no sense.
        PermissionError: it belongs to somebody else, or others can write to it.
        OSError: it cannot be made.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None, limit: int | str | None = None) -> None:
        named = os.fspath(directory) if directory is not None else default_directory()
        if not named:
            raise ValueError('a cache has a directory, not an empty text; the working directory is "."')
        self.directory = os.path.abspath(named)
        asked = limit if limit is not None else os.environ.get(SIZE) or None
        given = parse_size(asked, SIZE if limit is None else "limit") if asked is not None else None
        self._objects = os.path.join(self.directory, "objects")
        self._parts = Parts(self.directory)
        self._numbered = itertools.count()
        usual = check(self.directory)
        self.limit = given if given is not None else usual
        self._writes = False

    def close(self) -> None:
        """Leave nothing but results. It may be used again."""
        if self._writes:
            self._parts.remove()

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
        except _BROKEN as problem:
            self._drop_damaged(path, problem)
            return None
        except OSError as problem:
            with contextlib.suppress(Warning):
                warnings.warn(f"the cached result {path} cannot be read: {problem}", stacklevel=2)
            return None
        now = time.time()
        if stamp != entry.stamp or now - marked > _MARKED:
            if len(_verified) >= _REMEMBERED:
                _verified.clear()
            _verified[path] = entry.stamp, now
            with contextlib.suppress(OSError):  # removed meanwhile, or the file system is read-only
                os.utime(path, ns=(int(now * 1e9), entry.stamp[2]))
        entry.cache = self
        return entry

    def contains(self, key: bytes) -> bool:
        """Whether there is an entry of a key; it is not looked into."""
        return os.path.exists(self._path(key))

    def store(self, key: bytes, frames: Sequence[Any], info: Mapping[str, Any]) -> int:
        """Keep a value, as `wire.dumps` gave it; its bytes on disk. It appears whole or not at all.

        Raises:
            OSError: there is no room, also after the oldest entries went; or it alone would fill the cache.
        """
        size = sum(map(size_of, frames))
        if size > EVICTED_TO * self.limit:  # all others would go, and then it would, too
            raise OSError(
                errno.EFBIG,
                f"it has {size:,} bytes, and the cache's limit is {self.limit:,} (a larger one: {SIZE}=100GB, say)",
            )
        try:
            return self._store(key, frames, info)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            # Room for it and some more: the next ones come soon.
            there = self.size()
            self.prune(max(0, there - max(there // 10, 2 * size)))
            return self._store(key, frames, info)

    def _store(self, key: bytes, frames: Sequence[Any], info: Mapping[str, Any]) -> int:
        path = self._path(key)
        part = self._new_part()
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
        except FileNotFoundError:
            self._begin_to_write()
            return os.open(part, flags, 0o600)

    def _new_part(self) -> str:
        # The process's id again: a child of a fork counts on from where its parent was.
        return f"{self._parts.path}/{os.getpid()}-{next(self._numbered)}"

    def _begin_to_write(self) -> None:
        """The first time; or somebody has removed the whole cache."""
        set_up(self.directory)
        if not self._writes:
            sweep(self.directory)
        self._parts.make()
        self._writes = True

    def link(self, key: bytes, existing: bytes) -> bool:
        """Have the entry of one key under another, too, without writing it again; False if that cannot be done."""
        path, source = self._path(key), self._path(existing)
        part = self._new_part()
        try:
            if not os.path.isdir(self._parts.path):
                self._begin_to_write()
            written = 0
            try:
                os.link(source, part)
            except FileNotFoundError:
                return False
            except OSError:  # a file system without hard links
                written = self._copy(source, part)
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            os.rename(part, path)
            with contextlib.suppress(FileNotFoundError):  # a rename onto the same file leaves both
                os.unlink(part)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(part)
            return False
        self._wrote(written)
        return True

    def _copy(self, source: str, part: str) -> int:
        import shutil

        with open(source, "rb") as old, open(self._open_part(part), "wb") as new:
            shutil.copyfileobj(old, new, 1 << 20)
            return new.tell()

    def hold(self, entry: Entry) -> str:
        """A path to an entry's file that stays until `release`, whatever becomes of the entry meanwhile.

        It is for those who open the file later, in another process: by then another may be under the entry's own path.
        Whoever has the entry has its content anyway.

        Raises:
            FileNotFoundError: it is gone, or another has taken its place.
            OSError: the file system has no hard links, or no room.
        """
        if not os.path.isdir(self._parts.path):
            self._begin_to_write()
        held = self._new_part()
        os.link(entry.path, held)
        if os.stat(held).st_ino != entry.stamp[0]:
            os.unlink(held)
            raise FileNotFoundError(errno.ENOENT, "another file has taken its place", entry.path)
        return held

    def release(self, held: str) -> None:
        """Nobody will open again what `hold` gave."""
        with contextlib.suppress(OSError):
            os.unlink(held)
        self._parts.remove()  # if it was the last there; who writes makes it again

    def remove(self, key: bytes) -> bool:
        """Remove an entry; whether there was one."""
        path = self._path(key)
        _verified.pop(path, None)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
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

    def keys(self, start: str = "") -> Iterator[bytes]:
        """The keys of all entries, or of those whose hexadecimal digits begin like this; in no order."""
        for folder in listed(self._objects):
            if not folder.startswith(start[:2]):
                continue
            for name in listed(os.path.join(self._objects, folder)):
                with contextlib.suppress(ValueError):
                    key = bytes.fromhex(name)
                    if name.startswith(start) and self._path(key) == f"{self._objects}/{folder}/{name}":
                        yield key

    def entries(self, keys: Iterable[bytes] | None = None) -> Iterator[Entry]:
        """All entries, or those of some keys, in no order and without checking them; damaged ones are left out."""
        for key in self.keys() if keys is None else keys:
            with contextlib.suppress(OSError, *_BROKEN):
                yield Entry(key, self._path(key), content=False)

    def verify(self) -> tuple[int, list[tuple[bytes, str]]]:
        """Check every entry and remove the damaged ones: how many are whole, and which were not, and why."""
        whole = 0
        damaged = []
        for key in self.keys():
            try:
                Entry(key, self._path(key)).check()
                whole += 1
            except FileNotFoundError:
                continue
            except (OSError, *_BROKEN) as problem:
                damaged.append((key, str(problem)))
                with contextlib.suppress(OSError):
                    self.remove(key)
        return whole, damaged

    def size(self) -> int:
        """Bytes of all entries; those of several keys count once."""
        return sum([file.size for file in files(self._objects)])

    def prune(self, limit: int | None = None, older_than: float | None = None) -> tuple[int, int]:
        """Remove what was used longest ago.

        Args:
            limit: bytes that may be left; by default the cache's own limit.
            older_than: remove also what was not used for so many seconds.

        Returns:
            How many entries and bytes went.
        """
        before = time.time() - older_than if older_than is not None else None
        found = files(self._objects)
        count = gone = 0
        for file in oldest(found, self.limit if limit is None else limit, before):
            for path in file.paths:
                _verified.pop(path, None)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                    count += 1
            gone += file.size
        looked(self.directory, self.limit, sum([file.size for file in found]) - gone)
        sweep(self.directory)
        return count, gone

    def _wrote(self, size: int) -> None:
        """Keep the whole within its limit."""
        if look_is_due(self.directory, self.limit, size):
            total = self.size()
            looked(self.directory, self.limit, total)
            if total > self.limit:
                self.prune(int(self.limit * EVICTED_TO))
