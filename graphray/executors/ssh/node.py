"""A worker process on a node: a worker of Dask's, which lives for as long as the agent that started it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main() -> None:
    """Its whole life; what it needs to know is the first line of its standard input."""
    settings = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_agent, daemon=True).start()
    signal.signal(signal.SIGINT, lambda *_: None)  # the driver's to handle
    _die_with_parent()
    with_it = sys.path
    for entry in settings["path"]:
        if entry not in with_it:
            with_it.append(entry)
    asyncio.run(_serve(settings))
    os._exit(0)  # the thread that waits for the agent's end has standard input


def _end_with_the_agent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _die_with_parent() -> None:
    """Also if the agent is killed while a task holds Python's lock. On Linux; elsewhere the thread does it."""
    if sys.platform != "linux":
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(0)


async def _serve(settings: dict[str, Any]) -> None:
    import logging

    from graphray.executors.dask import parcel, seat  # noqa: F401 - so that the first unit need not load it
    from graphray.executors.ssh.certificates import Credentials, RunSecurity
    from graphray.executors.ssh.quiet import QuietWorker, configure

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # the driver says what counts
    parcel.register()
    with configure():
        worker: Any = QuietWorker(
            settings["scheduler"],
            nthreads=1,
            name=settings["name"],
            host=settings["host"],
            protocol="tls",
            security=RunSecurity(Credentials(*settings["credentials"])),
            memory_limit=settings["memory"],
            local_directory=settings["folder"],
            death_timeout=60,
        )
        await worker
        settings.clear()
        await worker.finished()
