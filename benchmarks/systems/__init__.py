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
        System("graphray-loky", "graphray loky:2", "graphray", "graphray_:Loky", processes=True),
        System("joblib", "joblib", "joblib", "joblib_:Joblib", processes=True),
        System("loky", "loky submit", "loky", "loky_:Loky", processes=True),
        System("ray", "Ray, 2 CPUs", "ray", "ray_:Ray", processes=True),
        System("distributed", "dask.distributed", "distributed", "distributed_:Distributed", processes=True),
    )
}
"""In the order in which they are reported."""
