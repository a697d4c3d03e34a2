"""A file's bytes in this process: mapped, or read where it is small."""

from __future__ import annotations

import ctypes
import functools
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from typing import Any

WORTH_MAPPING = 256 << 10  # bytes below which reading takes less time, and holds no mapping
_MAP_FIXED = 0x10  # on Linux and macOS alike; the module `mmap` does not have it


def open_mapping(fd: int, size: int, writable: bool = False) -> mmap.mmap:
    """A mapping of a file's first bytes, as an object with a buffer; it ends with the last view of that.

    The module `mmap` keeps a descriptor open for each file (before Python 3.13): a program that holds a thousand
    results would have no more for anything else. So its object gets an anonymous mapping, and the file is put in the
    place of that. The object ends it as its own, without a finalizer in Python, in which a Ctrl-C would get lost.

    Raises:
        OSError: too many mappings.
    """
    import mmap

    if os.name != "posix":
        return mmap.mmap(fd, size, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
    reserved = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0))
    address = address_of(reserved)
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    if _libc().mmap(address, size, protection, mmap.MAP_SHARED | _MAP_FIXED, fd, 0) != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return reserved


def address_of(mapping: mmap.mmap) -> int:
    """Where its first byte is."""
    return ctypes.addressof(ctypes.c_char.from_buffer(mapping))


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64
    )  # fmt: skip
    return libc


def read_whole(fd: int, size: int) -> memoryview:
    """A file's bytes in memory of this process.

    Raises:
        EOFError: it is shorter.
    """
    memory = bytearray(size)
    view = memoryview(memory)
    done = 0
    while done < size:
        n = os.preadv(fd, [view[done:]], done)
        if not n:
            raise EOFError(f"a file of {size:,} bytes ended after {done:,}")
        done += n
    return view.toreadonly()


def load_bytes(path: str, size: int) -> tuple[memoryview, Any]:
    """The first `size` bytes of a file, read-only; and the mapping they are in, if they are in one.

    Raises:
        OSError: it is not there.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        if size >= WORTH_MAPPING:
            try:
                mapping = open_mapping(fd, size)
                return memoryview(mapping).toreadonly(), mapping
            except OSError:  # no more mappings: memory of our own will do
                pass
        return read_whole(fd, size), None
    finally:
        os.close(fd)
