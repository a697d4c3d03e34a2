"""The worker processes of a cluster, as the driver knows them; and how one is ended."""

from __future__ import annotations

import asyncio
import contextlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from graphray.executors.core import Unit
    from graphray.executors.mail import Book

GRACE = 1.0  # seconds that a task has to notice that its run was cancelled, before its process is ended
PATIENCE = 5.0  # seconds for what is said to the cluster at the end


class Place:
    """One seat of a worker process: where a unit at a time runs.

    Args:
        name: the worker's, as the core knows it.
        seat: the same to its process, where other engines may have seats too.
        home: that process.
        book: what it knows.
    """

    def __init__(self, name: str, seat: str, home: Home, book: Book) -> None:
        self.name = name
        self.seat = seat
        self.home = home
        self.book = book
        self.unit = 0  # the last that it has begun
        self.shown = 0  # characters of what its tasks print, since it was last told


class Home:
    """A worker process of the cluster.

    Args:
        address: Dask's.
        info: what Dask's scheduler says of it.
    """

    def __init__(self, address: str, info: Mapping[str, Any]) -> None:
        self.address = address
        self.name = str(info.get("name", address))
        self.threads = int(info.get("nthreads", 1))
        self.nanny = bool(info.get("nanny"))
        # What it was started with (`dask worker --resources "gpu=1"`), and its memory.
        declared = {str(name): n for name, n in dict(info.get("resources") or {}).items()}
        self.resources: dict[str, Any] = {"gpu": int(declared.pop("GPU", 0)), **declared}
        if info.get("memory_limit"):
            self.resources["memory"] = int(info["memory_limit"])
        self.places: list[Place] = []
        self.modules: set[str] = set()  # names of the driver's modules that it was sent
        self.late = False  # we ended it, for a task of it took too long
        self.ended = False  # we ended it, for what it ran was cancelled


def unfit(found: Mapping[str, Any]) -> str:
    """Why a worker that has been greeted cannot run our units; empty if it can."""
    import platform

    from graphray import __version__

    mine = platform.python_version_tuple()
    if tuple(found["python"][:2]) != mine[:2]:
        theirs = ".".join(found["python"])
        return f"it has Python {theirs}, and here is {'.'.join(mine)}: the first two numbers have to agree"
    if found["graphray"] != __version__:
        return f"it has graphray {found['graphray']}, and here is {__version__}: they have to be the same"
    return ""


async def end_process(client: Any, place: Place, unit: int) -> None:
    """End a worker's process if it is still at a unit.

    By itself, which is quick; by its nanny, if it has one, where it is too busy even for that.
    """
    from graphray.executors.dask import seat

    home = place.home
    only = [home.address]
    with contextlib.suppress(Exception):
        run = client._run(seat.end, place.seat, unit, workers=only, on_error="ignore")
        answers = await asyncio.wait_for(run, GRACE)
        if home.address in answers:  # it was done with that
            home.late = home.ended = False
            return
    for _ in range(10):
        if home.address not in (await client.scheduler.identity(n_workers=-1))["workers"]:
            return
        await asyncio.sleep(GRACE / 10)
    if home.nanny:
        with contextlib.suppress(Exception):
            await client._restart_workers(only, timeout=PATIENCE, raise_for_error=False)


async def leave(client: Any, homes: Iterable[Home], busy: Mapping[Home, tuple[Place, Unit]]) -> None:
    """Give up the seats in all of them, and end those that are busy."""
    from graphray.executors.dask import seat

    def farewell(home: Home) -> Any:
        if home in busy:
            place, unit = busy[home]
            return end_process(client, place, unit.id)
        seats = [p.seat for p in home.places]
        return client._run(seat.leave, seats, workers=[home.address], on_error="ignore")

    await asyncio.wait_for(asyncio.gather(*map(farewell, homes), return_exceptions=True), PATIENCE)
