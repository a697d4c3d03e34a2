"""Watches the memory of a process and all below it, from a process of its own that looks every 5 ms.

What counts is what would be gone if the processes were: private (anonymous) memory of each, and what lies in shared
memory, once. Both as growth since watching began. Pages that several processes map are not counted for each.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

EVERY = 0.005
"""Seconds between two looks."""
FAMILY_EVERY = 0.1
"""Seconds after which it looks again which processes there are: that takes longer."""
SHARED_MEMORY = Path("/dev/shm")


class Watch:
    """Watches this process from entering to leaving; then `peaks` are there.

    Attributes:
        peaks: in bytes, `all` (private and shared together, at the worst moment), and for each by itself `private`,
            `shared` (the use of /dev/shm as a whole, by whatever name or by none, and whoever's), `named` (the
            files there of this process's graphray stores), and `store` (these and the ones that were put on disk); and
            `looks`, how often it looked.
    """

    peaks: dict[str, int]

    def __enter__(self) -> Self:
        command = [sys.executable, str(Path(__file__)), str(os.getpid())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it has seen how things are before
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        printed, _ = self._process.communicate()
        if error is None:
            self.peaks = json.loads(printed)


def watch(pid: int, until: Any) -> dict[str, int]:
    """Look until there is something to read; say so on standard output once the first look is done."""
    first = None
    peaks = {"looks": 0}
    processes: list[int] = []
    looked_for_them = 0.0
    while True:
        if time.monotonic() - looked_for_them >= FAMILY_EVERY:
            processes = family(pid)
            looked_for_them = time.monotonic()
        private, store = sum(map(private_bytes, processes)), store_bytes(pid)
        # Where there is no shared memory, graphray's files are the only ones that are known about.
        shared = shared_bytes() if SHARED_MEMORY.is_dir() else store
        named = store_bytes(pid, memory_only=True)
        now = {"all": private + shared, "private": private, "shared": shared, "named": named, "store": store}
        if first is None:
            first = now
            print("watching", flush=True)
        for name, size in now.items():
            peaks[name] = max(peaks.get(name, 0), size - first[name])
        peaks["looks"] += 1
        if select.select([until], [], [], EVERY)[0]:
            return peaks


def family(pid: int) -> list[int]:
    """A process and all below it, this one not."""
    import psutil

    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [pid, *(p.pid for p in below if p.pid != os.getpid())]


def private_bytes(pid: int) -> int:
    """Memory that only this process has; without /proc all that it has, which counts shared memory once more."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    if sys.platform != "linux":
        import psutil

        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(pid).memory_info().rss)
    return 0


def shared_bytes() -> int:
    """What shared memory holds, removed but mapped files included. Other programs' too: only its growth says much."""
    with contextlib.suppress(OSError):
        state = os.statvfs(SHARED_MEMORY)
        return (state.f_blocks - state.f_bfree) * state.f_frsize
    return 0


def store_bytes(driver: int, memory_only: bool = False) -> int:
    """What the files of a driver's graphray stores take, in shared memory and where they are put on disk."""
    size = 0
    prefix = f"graphray-store-{driver}-"
    for place in {str(SHARED_MEMORY)} if memory_only else {str(SHARED_MEMORY), tempfile.gettempdir()}:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith(prefix):
                    size += _bytes_in(entry.path)
    return size


def _bytes_in(folder: str) -> int:
    size = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it has gone meanwhile
                size += 512 * entry.stat(follow_symlinks=False).st_blocks
    return size


if __name__ == "__main__":
    print(json.dumps(watch(int(sys.argv[1]), sys.stdin)))
