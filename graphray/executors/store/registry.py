"""The driver's books of the store: which segments there are, who made each, what is alive.

A segment lives while something of the driver refers to it: a `Stored` value in a run's books, a result the user holds.
These are Python objects, so counting their references is Python's. What nobody refers to any more is noted when that
comes to be, in whatever thread, and dealt with by the engine's thread in `collect`: the file goes back to the worker
that made it, whose next result is then written to memory that is warm, or is removed.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import shutil
import weakref

from graphray.executors import wire
from graphray.executors.frames import lay_out, write
from graphray.executors.holding import Holding
from graphray.executors.store.directory import Directory, disk_place, memory_place, sweep
from graphray.executors.store.mapping import load_bytes
from graphray.executors.store.segments import LEAST, Lost, Written, frames_of
from graphray.graph.containers import freeze, rewrite, weight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from graphray.executors.frames import Table
    from graphray.executors.store.segments import Places
    from graphray.graph.node import Node

KEPT_WARM = 256 << 20  # bytes of free segments that a worker gets back for its next results, at most


class Tie(weakref.ref):  # type: ignore[type-arg]
    """A weak reference that knows the name of what it referred to.

    What is called at the end of that is the `append` of a deque, so that no code in Python runs there: a Ctrl-C that
    comes in a finalizer is lost.
    """

    __slots__ = ("name",)

    name: str  # of a segment; empty for a value


class Segment:
    """A file of the store, for as long as this object lives."""

    __slots__ = ("__weakref__", "name", "size")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size  # bytes in use; the file may be longer


class File:
    """What the books say about a file of the store."""

    __slots__ = ("disk", "looked_at", "owner", "size")

    def __init__(self, size: int, owner: str | None, disk: bool) -> None:
        self.size = size
        self.owner = owner  # the worker that made it; None: the driver
        self.disk = disk
        self.looked_at = False  # somebody may still have views of it: it is not to be written again


class Stored:
    """A value in the store, in place of the value itself."""

    __slots__ = ("__weakref__", "_registry", "_secured", "nbytes", "places", "segments")

    def __init__(self, registry: Registry, segments: tuple[Segment, ...], places: Places) -> None:
        self._registry = registry
        registry.values.add(registry.tie(self, ""))
        self.segments = segments
        self.places = places
        self.nbytes = sum([length for _, _, length, _ in places])
        self._secured: list[memoryview] | None = None

    def secure(self) -> None:
        """Take hold of the bytes, so that the value can be had after the store is gone.

        Raises:
            Lost: somebody has removed them.
        """
        if self._secured is None:
            self._secured = [self._registry.bytes_of(s) for s in self.segments]

    def load(self) -> Any:
        """The value: arrays are read-only views of the store.

        Raises:
            Exception: it cannot be unpickled here.
        """
        memory = self._secured or [self._registry.bytes_of(s) for s in self.segments]
        return freeze(wire.loads(frames_of(memory, self.places)))

    def __reduce__(self) -> Any:
        # To a worker. What is sent is in use until the unit comes back, which holds this object.
        from graphray.executors.store.workshop import open_value

        self._registry.sending(self)
        return open_value, ([(s.name, s.size) for s in self.segments], self.places)


class Registry:
    """The store of one executor, as its driver sees it.

    Attributes:
        in_memory: bytes of the files in memory, free ones included.
        on_disk: bytes of those on disk.
        peak: the most that `in_memory` has been.
        spilled: bytes moved to disk so far.
        largest: bytes of the largest segment so far.
        kept_warm: bytes of free segments that a worker gets back for its next results.

    Raises:
        OSError: there is no place for it.
    """

    def __init__(self) -> None:
        for place in dict.fromkeys((memory_place(), disk_place())):
            sweep(place)
        self._memory = Directory(memory_place())
        try:
            self._disk = Directory(disk_place())
        except BaseException:
            self._memory.remove()
            raise
        self.paths = self._memory.path, self._disk.path
        _remove_when_killed(self.paths)
        self.values: set[Tie] = set()
        self.in_memory = self.on_disk = self.peak = self.spilled = self.largest = 0
        self._files: dict[str, File] = {}  # all that exist
        self._segments: dict[str, Tie] = {}  # those that somebody refers to
        self._ties: collections.deque[Tie] = collections.deque()  # to what nobody refers to any more
        self._foreign: dict[str, Callable[[str], None]] = {}  # files of others: who is told that they are not needed
        self._numbered = 0
        self.kept_warm = KEPT_WARM
        self._warm: dict[str, int] = {}  # bytes of free segments, by worker
        self._free: dict[str, list[str]] = {}  # segments on their way back, by the worker that made them
        self._seen: dict[str, set[str]] = {}  # who has been told of a segment, and may have it mapped
        self._sending: set[str] = set()
        self._holding = Holding()

    def close(self) -> None:
        """Remove everything. Values that somebody still holds stay what they are; so do views that were given out."""
        for stored in [tie() for tie in list(self.values)]:
            with contextlib.suppress(Lost, OSError):
                if stored is not None:
                    stored.secure()
        for path, release in self._foreign.items():
            release(path)
        self._foreign.clear()
        self._memory.remove()
        self._disk.remove()
        _removed(self.paths)

    # ---- putting in

    def put(self, value: Any) -> Stored:
        """Write a value of the driver's own.

        Raises:
            Exception: whatever pickling it raises.
            OSError: there is no room for it, neither in memory nor on disk.
        """
        frames = wire.dumps(freeze(value))
        table, size = lay_out(frames)
        self._numbered += 1
        name = f"driver-{self._numbered}"
        disk = write_file(self.paths, name, frames, table)
        return Stored(self, (self._enter(name, size, None, disk),), [(0, *row) for row in table])

    def hold(self, job: Any, node: Node, x: Any) -> Any:
        """What travels in place of an argument of a node: a large one is written once, however often it is used."""
        if weight(x) < LEAST:
            return x
        return self._holding.hold(job, node, x, self.put)

    def put_large(self, value: Any) -> Any:
        """A result of the driver's own with what is large in it in the store; the very value if nothing is."""
        return rewrite(value, lambda x: x if type(x) is Stored or weight(x) < LEAST else self.put(x))

    def end_job(self, job: Any) -> None:
        """A run is over: what several of its nodes shared is kept by those only."""
        self._holding.end_job(job)

    def adopt(self, worker: str, written: Written) -> Stored:
        """Take over what a worker has written.

        Raises:
            Lost: it refers to segments that are gone.
        """
        mine = self._enter(written.name, written.size, worker, written.disk) if written.name else None
        segments = []
        for name in written.names:
            segment = mine if mine is not None and name == written.name else self._segment(name)
            if segment is None:
                raise Lost(f"{worker} returned a part of the segment {name}, which is gone")
            segments.append(segment)
        return Stored(self, tuple(segments), written.places)

    def foreign(self, path: str, size: int, table: Table, release: Callable[[str], None]) -> Stored:
        """A value in a file that is not the store's own, such as an entry of the cache.

        Args:
            path: the file, whose path is this value's alone.
            size: its bytes.
            table: the places of the frames.
            release: is called with the path once nobody needs it any more.
        """
        self._foreign[path] = release
        return Stored(self, (self._refer(path, size),), [(0, *row) for row in table])

    def _enter(self, name: str, size: int, owner: str | None, disk: bool) -> Segment:
        if name in self._files:  # a free one, which is written again
            assert owner is not None
            self._warm[owner] -= self._files[name].size
        else:
            self._files[name] = File(size, owner, disk)
            self._count(size, disk)
        self.largest = max(self.largest, size)
        return self._refer(name, size)

    def _refer(self, name: str, size: int) -> Segment:
        segment = Segment(name, size)
        self._segments[name] = self.tie(segment, name)
        return segment

    def tie(self, to: Stored | Segment, name: str) -> Tie:
        """Be told by `collect` when something is gone."""
        tie = Tie(to, self._ties.append)
        tie.name = name
        return tie

    def _segment(self, name: str) -> Segment | None:
        tie = self._segments.get(name)
        return tie() if tie is not None else None

    def _count(self, size: int, disk: bool) -> None:
        if disk:
            self.on_disk += size
        else:
            self.in_memory += size
            self.peak = max(self.peak, self.in_memory)

    # ---- taking out

    def bytes_of(self, segment: Segment) -> memoryview:
        """The bytes of a segment. They are looked at from here on, so they are never written again.

        Raises:
            Lost: somebody has removed the file.
        """
        self.looked_at((segment.name,))
        for folder in self.paths:  # in this order: a file is moved to disk, and never back
            with contextlib.suppress(FileNotFoundError):
                return load_bytes(os.path.join(folder, segment.name), segment.size)[0]
        raise Lost(f"the segment {segment.name} of the store in {self.paths[0]} is gone: somebody has removed it")

    # ---- what the workers know

    def begin_letter(self) -> None:
        """A message to a worker is about to be pickled."""
        self._sending.clear()

    def end_letter(self, worker: str) -> None:
        """It is: what it tells of, the worker may have mapped from now on."""
        for name in self._sending:
            self._seen.setdefault(name, set()).add(worker)

    def free_for(self, worker: str) -> list[str]:
        """The segments that go back to a worker: it can write them again."""
        return self._free.pop(worker, [])

    def sending(self, stored: Stored) -> None:
        """A value goes into the message that is being pickled."""
        self._sending.update([s.name for s in stored.segments])

    def give_back(self, worker: str, names: list[str]) -> None:
        """They were not sent after all."""
        if names:
            self._free.setdefault(worker, []).extend(names)

    def looked_at(self, names: Iterable[str]) -> None:
        """There are views of these segments that may outlive the values."""
        for name in names:
            file = self._files.get(name)
            if file is not None:
                file.looked_at = True

    @property
    def empty(self) -> bool:
        """Whether there is nothing that could be let go of."""
        return not self._segments

    def collect(self) -> dict[str, list[str]]:
        """Deal with the segments that nobody refers to any more; what each worker is to let go of."""
        drops: dict[str, list[str]] = {}
        while self._ties:
            tie = self._ties.popleft()
            name = tie.name
            if not name:
                self.values.discard(tie)
                continue
            del self._segments[name]
            file = self._files.get(name)
            if file is None:  # it went with a worker, or is not the store's
                for worker in self._seen.pop(name, ()):
                    drops.setdefault(worker, []).append(name)
                if name in self._foreign:
                    self._foreign.pop(name)(name)
                continue
            warm = self._warm.get(file.owner) if file.owner is not None else None
            if warm is not None and not (file.looked_at or file.disk) and warm + file.size <= self.kept_warm:
                assert file.owner is not None
                self._warm[file.owner] = warm + file.size
                self._free.setdefault(file.owner, []).append(name)
            else:
                self._remove(name, drops)
        return drops

    def _remove(self, name: str, drops: dict[str, list[str]]) -> None:
        file = self._files.pop(name)
        self._count(-file.size, file.disk)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.paths[file.disk], name))
        for worker in self._seen.pop(name, set()) | {file.owner}:  # who has read or written it: more than once
            if worker is not None:
                drops.setdefault(worker, []).append(name)

    def worker_joined(self, worker: str) -> None:
        """A worker may get its segments back."""
        self._warm[worker] = 0

    def worker_lost(self, worker: str) -> dict[str, list[str]]:
        """Remove what a dead worker was writing, and what it had to write to again; what others are to let go of."""
        drops: dict[str, list[str]] = {}
        self._warm.pop(worker, None)
        self._free.pop(worker, None)
        for seen in self._seen.values():
            seen.discard(worker)
        mine = f"{worker}-"
        for folder in self.paths:
            for name in _names_in(folder):
                if name.startswith(mine) and name not in self._segments:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(folder, name))
                    file = self._files.pop(name, None)
                    if file is not None:
                        self._count(-file.size, file.disk)
                    for other in self._seen.pop(name, ()):
                        drops.setdefault(other, []).append(name)
        return drops

    # ---- memory

    def trim(self, room: int) -> dict[str, list[str]]:
        """Give up free segments until no more than `room` bytes of them are left; what workers are to let go of."""
        drops: dict[str, list[str]] = {}
        for worker, names in self._free.items():
            while names and sum(self._warm.values()) > room:
                name = names.pop()
                self._warm[worker] -= self._files[name].size
                self._remove(name, drops)
        return drops

    def spill(self, stored: Stored) -> tuple[int, dict[str, list[str]]]:
        """Move a value to disk; how many bytes that were, and what workers are to let go of.

        Raises:
            OSError: there is no room on the disk either.
        """
        moved = 0
        drops: dict[str, list[str]] = {}
        for segment in stored.segments:
            name = segment.name
            file = self._files.get(name)
            if file is None or file.disk:
                continue
            there = os.path.join(self.paths[1], name)
            try:
                shutil.copyfile(os.path.join(self.paths[0], name), there + ".part")
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(there + ".part")
                raise
            os.rename(there + ".part", there)  # whole, before the other goes: who looks finds one of them
            os.unlink(os.path.join(self.paths[0], name))
            self._count(-file.size, False)
            self._count(file.size, True)
            file.disk = True
            moved += file.size
            for worker in self._seen.pop(name, set()) | {file.owner}:
                if worker is not None:
                    drops.setdefault(worker, []).append(name)
        self.spilled += moved
        return moved, drops


def write_file(paths: tuple[str, str], name: str, frames: list[Any], table: Any) -> bool:
    """Write a new segment: in memory, or where that is full, on disk (True).

    Raises:
        OSError: there is no room on disk either; nothing is left.
    """
    for disk, folder in enumerate(paths):
        try:
            _write_new(os.path.join(folder, name), frames, table)
            return bool(disk)
        except OSError as error:
            if error.errno == errno.ENOENT:
                error.add_note(f"graphray: somebody has removed {folder}, the store of an executor that is still open")
            if error.errno not in FULL:
                raise
            if disk:
                error.add_note(
                    f"graphray: a value of {table[-1][0] + table[-1][1]:,} bytes fits neither into shared memory "
                    f"({paths[0]}) nor on the disk ({paths[1]}); make room, or have TMPDIR point to where there is some"
                )
                raise
    raise AssertionError("unreachable")


def _write_new(path: str, frames: list[Any], table: Any) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        write(fd, frames, table)
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:  # somebody has removed it: who needs what was in it is told
        return []


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM})


def loaded(x: Any) -> Any:
    """A structure with the values themselves in place of stored ones."""
    return rewrite(x, lambda y: y.load() if type(y) is Stored else y)


def _remove_when_killed(paths: Iterable[str]) -> None:
    """Have loky's tracker, a process that outlives this one, remove folders if nobody does so before."""
    from loky.backend import resource_tracker

    for path in paths:
        resource_tracker.register(path, "folder")


def _removed(paths: Iterable[str]) -> None:
    from loky.backend import resource_tracker

    for path in paths:
        resource_tracker.unregister(path, "folder")
