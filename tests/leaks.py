"""What this process holds right now: child processes, threads, file descriptors and graphray's own files.

`Holdings.now()` before and after something; what `left_over` says is still there afterwards has leaked.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, fields

import psutil

PATIENCE = 2.0  # seconds that a thing may take to go: what the project promises for processes

# Where graphray puts files of its own, and what they are called. A name holds the id of the process that made it.
DIRECTORIES = tuple(dict.fromkeys(d for d in ("/dev/shm", tempfile.gettempdir()) if os.path.isdir(d)))
PREFIX = "graphray-"

# Threads that Dask makes once for the whole process.
FOR_LIFE = ("Dask-Offload", "Dask-Callback", "Profile")

# Processes of shared fixtures that may have been started again during a test: whoever adds one looks after its end.
SHARED: set[int] = set()


@dataclass(frozen=True)
class Holdings:
    """Each field maps what is held to a text for people."""

    processes: dict[tuple[int, float], str]
    threads: dict[int, str]
    descriptors: dict[tuple[int, str], str]
    files: dict[str, str]

    @classmethod
    def now(cls) -> Holdings:
        """What is held at this moment."""
        return cls(_processes(), _threads(), _descriptors(), _files())

    def left_over(self, but: frozenset[str] = frozenset()) -> list[str]:
        """What is held now and was not then, one text a thing, after giving it time to go.

        Args:
            but: names of fields that are not compared.
        """
        deadline = time.monotonic() + PATIENCE
        wait = 0.001
        found = self._more(Holdings.now(), but)
        if found:
            gc.collect()  # what only a cycle holds was let go of
            found = self._more(Holdings.now(), but)
        while found and time.monotonic() < deadline:
            time.sleep(wait)
            wait = min(2 * wait, 0.1)
            found = self._more(Holdings.now(), but)
        return found

    def _more(self, now: Holdings, but: frozenset[str]) -> list[str]:
        found = []
        for name in (f.name for f in fields(self) if f.name not in but):
            before, after = getattr(self, name), getattr(now, name)
            found += [f"{name}: {text}" for key, text in after.items() if key not in before]
        return found


def _processes() -> dict[tuple[int, float], str]:
    found = {}
    for child in psutil.Process().children(recursive=True):
        if child.pid in SHARED:
            continue
        try:
            command = " ".join(child.cmdline())
            if "resource_tracker" not in command:  # Python's and loky's: one each, for as long as this process lives
                found[child.pid, child.create_time()] = f"{child.pid} ({child.status()}) {command[:160]}"
        except psutil.NoSuchProcess:
            pass
        except psutil.ZombieProcess:
            found[child.pid, 0.0] = f"{child.pid} (ended, never waited for)"
    return found


def _threads() -> dict[int, str]:
    return {id(t): repr(t) for t in threading.enumerate() if not t.name.startswith(FOR_LIFE)}


def _descriptors() -> dict[tuple[int, str], str]:
    listing = "/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"
    found = {}
    for name in os.listdir(listing):
        number = int(name)
        try:
            what = os.readlink(f"{listing}/{name}") if listing.startswith("/proc") else str(os.fstat(number).st_mode)
        except OSError:  # the one that the listing itself was read from
            continue
        if number not in _trackers():
            found[number, what] = f"{number} -> {what}"
    return found


def _trackers() -> set[int | None]:
    """The descriptors that lead to the resource trackers of Python and loky."""
    modules = [sys.modules.get(f"{package}.resource_tracker") for package in ("multiprocessing", "loky.backend")]
    return {getattr(getattr(m, "_resource_tracker", None), "_fd", None) for m in modules}


def _files() -> dict[str, str]:
    found = {}
    for directory in DIRECTORIES:
        for name in os.listdir(directory):
            if name.startswith(PREFIX) and not _of_a_stranger(name):
                found[f"{directory}/{name}"] = f"{directory}/{name}"
    return found


def _of_a_stranger(name: str) -> bool:
    """Whether a file belongs to a living process that this one did not start, such as another run of these tests."""
    numbers = re.findall(r"\d+", name)
    if not numbers or not psutil.pid_exists(int(numbers[0])):
        return False
    try:
        owner = psutil.Process(int(numbers[0]))
        return os.getpid() not in (owner.pid, *(p.pid for p in owner.parents()))
    except psutil.NoSuchProcess:
        return False
