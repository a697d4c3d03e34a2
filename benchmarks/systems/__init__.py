"""The systems that are compared. Each module here has the same few methods over one system's own idiom."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol


class Work(Protocol):
    """What a started system does, building included. One that has no words for some work lacks the method."""

    def noops(self, n: int) -> Any:
        """The values of `n` independent no-ops."""

    def chain(self, n: int) -> int:
        """The end of a chain of `n` increments, each of which needs the one before."""

    def tree(self, leaves: int) -> int:
        """The root of a binary tree of additions over a power of two of leaves, which are tasks too."""

    def sleeps(self, durations: list[float]) -> Any:
        """Independent tasks that sleep for so many seconds."""

    def reads(self, array: Any, tasks: int) -> Any:
        """What so many tasks read in one array."""

    def reader(self, array: Any, tasks: int) -> Callable[[], Any]:
        """The same, to be asked for more than once: what need not be done again is not."""

    def stages(self, megabytes: int, count: int) -> tuple[Any, tuple[int, ...]]:
        """The last of so many stages of an array, and the processes that they ran in: two that alternate."""

    def layers(self, graph: list[list[Any]]) -> Any:
        """The last layer's results of a layered graph, whoever is killed: `WORKERS` matches the workers' commands."""

    def parts(self, count: int, megabytes: int) -> Any:
        """Means of chunks of arrays, by a system that is `budgeted`, once there was a mean of each array."""

    def kept(self, directory: str) -> Kept:
        """Calls whose results are kept in a directory."""


class Kept(Protocol):
    """Calls whose results a system keeps on disk, and takes from there where they are."""

    def small(self, i: int) -> int:
        """A number, one more."""

    def large(self, megabytes: int) -> Any:
        """A ramp of numbers, which may be mapped from where it lies."""

    def many(self, n: int) -> Any:
        """The first `n` numbers from 1 on, each a result of its own."""


class System(NamedTuple):
    """A system and where its code is."""

    name: str
    label: str
    package: str
    """The distribution it comes in, which has its version; and the name to import."""
    factory: str
    """`module:class` of a context manager that starts it and gives its `Work`."""
    processes: bool
    """Whether tasks run in two worker processes, or in the calling process."""

    def load(self) -> Callable[[], AbstractContextManager[Work]]:
        """Import it; what that gives starts it."""
        module, _, name = self.factory.partition(":")
        return getattr(importlib.import_module(f"systems.{module}"), name)

    def first_task(self) -> str:
        """A script that starts the workers, computes `value` there, and goes on to where they are ended by `stop()`."""
        module, _, _ = self.factory.partition(":")
        return importlib.import_module(f"systems.{module}").FIRST_TASK

    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


SYSTEMS = {
    system.name: system
    for system in (
        System("python", "Python", "sys", "", processes=False),  # the bare interpreter: `import sys` imports nothing
        System("graphray", "graphray", "graphray", "graphray_:InProcess", processes=False),
        System("dask-sync", "dask sync", "dask", "dask_:Sync", processes=False),
        System("dask-threads", "dask threads", "dask", "dask_:Threads", processes=False),
        System("dask-delayed", "dask.delayed sync", "dask", "dask_:Delayed", processes=False),
        System("joblib-memory", "joblib.Memory", "joblib", "joblib_:Memory", processes=False),
        System("diskcache", "diskcache", "diskcache", "diskcache_:Diskcache", processes=False),
        System("graphray-loky", "graphray loky:2", "graphray", "graphray_:Loky", processes=True),
        System("joblib", "joblib", "joblib", "joblib_:Joblib", processes=True),
        System("loky", "loky submit", "loky", "loky_:Loky", processes=True),
        System("ray", "Ray, 2 CPUs", "ray", "ray_:Ray", processes=True),
        System("distributed", "dask.distributed", "distributed", "distributed_:Distributed", processes=True),
    )
}
"""In the order in which they are reported."""
