"""The store as a worker process sees it: opens the values it is sent, and writes those it returns.

What it has mapped stays mapped until the driver says that the segment is gone, so that what is read often is mapped
once. A segment of its own that nobody needs any more comes back from the driver and is written again, through a mapping
that is still there: memory that was used before costs a tenth of what new memory costs.
"""

from __future__ import annotations

import contextlib
import os
import sys

from graphray.executors import wire
from graphray.executors.frames import copy_in, lay_out, size_of
from graphray.executors.store.mapping import address_of, load_bytes, open_mapping
from graphray.executors.store.registry import write_file
from graphray.executors.store.segments import LEAST, Lost, Written, frames_of
from graphray.graph.containers import ATOMS, freeze

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from graphray.executors.store.segments import Places

LARGE = 1 << 20  # bytes of a frame for which it is worth asking where they are

_workshop: Workshop | None = None  # of this process, if it is a worker


class Workshop:
    """The store's end in a worker.

    Args:
        name: the worker's.
        paths: the folders of the store, in memory and on disk.
    """

    def __init__(self, name: str, paths: tuple[str, str]) -> None:
        global _workshop
        self.name = name
        self.paths = paths
        self.read = 0  # bytes of values opened
        self.written = 0
        self._numbered = 0
        self._mapped: dict[str, Any] = {}  # segments of others, for reading
        self._in_use: dict[str, None] = {}  # those of the unit in work
        self._own: dict[str, tuple[int, Any]] = {}  # segments of ours that can be written again: size, and a mapping
        self._writing: dict[str, Any] = {}  # mappings of those that are in use elsewhere
        self._sizes: dict[str, int] = {}
        _workshop = self

    # ---- reading

    def open(self, segments: Sequence[tuple[str, int]], places: Places) -> Any:
        """A value that the driver has sent.

        Raises:
            Lost: a file is gone.
            Exception: it cannot be unpickled here.
        """
        memory = [self._bytes_of(name, size) for name, size in segments]
        self.read += sum([length for _, _, length, _ in places])
        return freeze(wire.loads(frames_of(memory, places)))

    def _bytes_of(self, name: str, size: int) -> memoryview:
        self._in_use[name] = None
        mapping = self._mapped.get(name)
        if mapping is not None and len(mapping) >= size:
            return memoryview(mapping).toreadonly()
        for folder in self.paths:  # in this order: a file is moved to disk, and never back
            with contextlib.suppress(FileNotFoundError):
                view, mapping = load_bytes(os.path.join(folder, name), size)
                if mapping is not None:
                    self._mapped[name] = mapping
                return view
        raise Lost(f"the segment {name} of the store in {self.paths[0]} is gone: somebody has removed it")

    def end_unit(self) -> list[str]:
        """The unit that was in work is over: of which segments are there still views?"""
        kept = []
        for name in self._in_use:
            mapping = self._mapped.get(name)
            if mapping is not None and sys.getrefcount(mapping) > _ALONE:
                kept.append(name)
        self._in_use.clear()
        return kept

    def drop(self, names: Iterable[str]) -> None:
        """These segments are gone; may be called from the listening thread."""
        for name in names:
            self._mapped.pop(name, None)
            self._own.pop(name, None)
            self._writing.pop(name, None)
            self._sizes.pop(name, None)

    # ---- writing

    def take_back(self, names: Iterable[str]) -> None:
        """Segments of ours that nobody needs any more."""
        for name in names:
            size = self._sizes.get(name)
            if size is not None:
                self._own[name] = size, self._writing.pop(name, None)

    def put_values(self, values: list[Any]) -> list[Any]:
        """Values with the large ones in the store, as `Written`; one that is there several times, once.

        Raises:
            Exception: one cannot be pickled.
            OSError: there is no room for one, neither in memory nor on disk.
        """
        put: list[Any] = []
        known: dict[int, Written] = {}
        try:
            for v in values:
                first = known.get(id(v))
                if first is not None:
                    put.append(Written("", 0, first.disk, first.names, first.places))
                    continue
                put.append(v if type(v) in ATOMS and not _is_large(v) else self._put(v))
                if type(put[-1]) is Written:
                    known[id(v)] = put[-1]
        except BaseException:
            for written in known.values():  # nobody will hear of these
                self._unwrite(written)
            raise
        return put

    def _put(self, value: Any) -> Any:
        frames = wire.dumps(value)
        if sum(map(size_of, frames)) < LEAST:
            return value
        names: list[str] = []
        elsewhere = [self._find(f) if i else None for i, f in enumerate(frames)]
        fresh = [f for f, found in zip(frames, elsewhere, strict=True) if found is None]
        table, size = lay_out(fresh)
        name, disk = self._write(fresh, table, size)
        self.written += size
        names.append(name)
        rows = iter(table)
        places: Places = []
        for frame, found in zip(frames, elsewhere, strict=True):
            if found is None:
                places.append((0, *next(rows)))
            else:
                segment, place = found
                if segment not in names:
                    names.append(segment)
                places.append((names.index(segment), place, size_of(frame), False))
        return Written(name, size, disk, names, places)

    def _unwrite(self, written: Written) -> None:
        """Undo a `_put`: a new file goes, one that was written again can be so once more."""
        name = written.name
        mapping = self._writing.pop(name, None)
        if mapping is not None:
            self._own[name] = self._sizes[name], mapping
            return
        self._sizes.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.paths[written.disk], name))

    def _find(self, frame: Any) -> tuple[str, int] | None:
        """Where the bytes of a frame are already: those of an array that the task got and handed on."""
        if not isinstance(frame, memoryview) or not frame.readonly or frame.nbytes < LARGE or not self._in_use:
            return None
        address = _address(frame)
        for name in self._in_use:
            mapping = self._mapped.get(name)
            if mapping is not None:
                start = address_of(mapping)
                if start <= address and address + frame.nbytes <= start + len(mapping):
                    return name, address - start
        return None

    def _write(self, frames: list[Any], table: Any, size: int) -> tuple[str, bool]:
        fitting = [(s, name) for name, (s, _) in self._own.items() if size <= s <= 4 * size]
        if fitting:
            room, name = min(fitting)
            _, mapping = self._own.pop(name)
            try:
                if mapping is None:
                    fd = os.open(os.path.join(self.paths[0], name), os.O_RDWR)
                    try:
                        mapping = open_mapping(fd, room, writable=True)
                    finally:
                        os.close(fd)
                copy_in(memoryview(mapping), frames, table)
                self._writing[name] = mapping
                return name, False
            except OSError:  # the file has gone, or no more can be mapped: a new one will do
                pass
        self._numbered += 1
        name = f"{self.name}-{self._numbered}"
        disk = write_file(self.paths, name, frames, table)
        if not disk:
            self._sizes[name] = size
        return name, disk


def open_value(segments: Sequence[tuple[str, int]], places: Places) -> Any:
    """What a `Stored` value becomes in a worker."""
    if _workshop is None:
        raise RuntimeError("a stored value can be opened in a worker of its executor only")
    return _workshop.open(segments, places)


def _is_large(x: Any) -> bool:
    return isinstance(x, (bytes, str)) and len(x) >= LEAST


def _address(view: memoryview) -> int:
    import numpy

    return int(numpy.frombuffer(view, numpy.uint8).__array_interface__["data"][0])


def _count_alone() -> int:
    """References to a mapping that has no views, as seen by `end_unit`."""
    mapped = {"": object()}
    mapping = mapped.get("")
    return sys.getrefcount(mapping)


_ALONE = _count_alone()
