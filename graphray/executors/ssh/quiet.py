"""Dask's scheduler and worker without their HTTP servers, which anybody could ask, and without what we do not use."""

from __future__ import annotations

import contextlib
import logging

import dask
from distributed import Scheduler, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

CONFIG = {
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.work-stealing": False,  # units are where the core wants them
    "distributed.scheduler.worker-ttl": "30s",
    "distributed.scheduler.allowed-failures": 1_000_000,  # the core says what is to be run again, and how often
    "distributed.comm.timeouts.connect": "10s",
    "distributed.comm.timeouts.tcp": "30s",
    "distributed.admin.low-level-log-length": 10,  # batches of messages; what tasks print is among them
    "distributed.admin.tick.limit": "60s",  # no warnings of a loop that waited for Python's lock
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.diagnostics.nvml": False,
    "distributed.diagnostics.cudf": False,
}


def configure() -> Any:
    """As a context: what Dask is told while a scheduler or worker is made."""
    return dask.config.set(CONFIG)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """What Dask's scheduler logs in the driver's process is not for the user: the engine says what counts."""
    levels = {
        "distributed": logging.ERROR,
        "distributed.scheduler": logging.CRITICAL,
        "distributed.client": logging.CRITICAL,
        "distributed.core": logging.CRITICAL,
        "distributed.comm": logging.CRITICAL,
        "distributed.batched": logging.CRITICAL,
        "distributed.utils": logging.CRITICAL,
    }
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


class QuietScheduler(Scheduler):
    """The scheduler of one run."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """There is none."""


class QuietWorker(Worker):
    """A worker of one run."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """There is none."""
