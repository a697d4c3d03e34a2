"""An event loop in a thread of its own, for Dask to run in, which ends when we say so.

Dask's own runner counts its users, and one whose connection fails is never taken off.
"""

from __future__ import annotations

import asyncio
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Loop:
    """Runs from its making to `stop`.

    Attributes:
        io: Tornado's loop.
    """

    def __init__(self) -> None:
        self.io: Any = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name="graphray-dask", daemon=True)
        self._thread.start()
        self._begun.wait()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        from tornado.ioloop import IOLoop

        self._end = asyncio.Event()
        self.io = IOLoop.current()
        self._begun.set()
        await self._end.wait()

    def stop(self) -> None:
        """End it; what still runs in it is cancelled."""
        self.io.add_callback(self._end.set)
        self._thread.join()
