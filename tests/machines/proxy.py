"""A TCP proxy whose line is long, narrow, stalled or cut. The kernel's own tool for that, netem, is not everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shlex
import socket
import struct
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

PIPE = Path(__file__).with_name("pipe.py")
CHUNK = 16384  # bytes that are passed on at a time, unless the line is slow
WINDOW = 1024  # chunks on their way without a rate


class Proxy:
    """Connections to `port` on loopback lead to `target`.

    Args:
        target: address and port.
        delay: seconds that a byte is under way, in either direction; a round trip takes twice as long.
        rate: bytes a second that each direction of each connection carries; None is no limit.
    """

    def __init__(self, target: tuple[str, int], *, delay: float = 0.0, rate: float | None = None) -> None:
        self.target = target
        self.delay = delay
        self.rate = rate
        self.passed = 0  # bytes, in both directions
        self._chunk = CHUNK if rate is None else min(CHUNK, max(256, int(rate / 100)))
        self._window = WINDOW if rate is None else 4 + math.ceil(delay * rate / self._chunk)
        self._listener: socket.socket | None = _bound(0)
        self.port: int = self._listener.getsockname()[1]
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy on {self.port}", daemon=True)
        self._thread.start()
        self.resume()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self.port

    @property
    def command(self) -> str:
        """For ProxyCommand: the way through this proxy over standard input and output."""
        return shlex.join([sys.executable, str(PIPE), *map(str, self.address)])

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def stall(self) -> None:
        """Pass nothing on; connections stay, and new ones are accepted."""
        self._do(self._stall())

    def cut(self) -> None:
        """Reset all connections and refuse new ones."""
        self._do(self._cut())

    def resume(self) -> None:
        """Pass on what was held back, and accept connections again."""
        self._do(self._resume())

    def close(self) -> None:
        """Cut all, for good."""
        if self._thread.is_alive():
            self._do(self._cut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    # ---- in its thread

    async def _stall(self) -> None:
        self._flowing.clear()

    async def _resume(self) -> None:
        self._flowing.set()
        if self._accepting is None:
            assert self._listener is not None
            self._listener.listen(128)
            self._accepting = asyncio.create_task(self._accept(self._listener))

    async def _cut(self) -> None:
        tasks = list(self._connections)
        if self._accepting is not None:
            tasks.append(self._accepting)
            self._accepting = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets a step after they were aborted
        assert self._listener is not None
        self._listener.close()
        self._listener = _bound(self.port)  # so that nobody else gets it; it does not listen, which refuses

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            accepted, _ = await self._loop.sock_accept(listener)
            task = asyncio.create_task(self._serve(accepted))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        ends = []
        whole = False
        try:
            ends.append(await asyncio.open_connection(sock=accepted))
            ends.append(await asyncio.open_connection(*self.target))
            (near_in, near_out), (far_in, far_out) = ends
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(near_in, far_out))
                both.create_task(self._pass_on(far_in, near_out))
            whole = True
        except* OSError:  # one end is gone or was never there: so is the other
            pass
        finally:
            for _, out in ends:
                if not whole:  # a reset, as opposed to an orderly end
                    accepted = out.get_extra_info("socket")
                    with contextlib.suppress(OSError):
                        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    out.transport.abort()
                else:
                    out.close()
            if not ends:
                accepted.close()
            else:
                await asyncio.sleep(0)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """One direction of one connection."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(self._window)
        async with asyncio.TaskGroup() as ends:
            ends.create_task(self._put_in(source, line))
            ends.create_task(self._take_out(line, sink))

    async def _put_in(self, source: asyncio.StreamReader, line: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            data = await source.read(self._chunk)
            await line.put((self._loop.time() + self.delay, data))

    async def _take_out(self, line: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        free = 0.0  # when the line has carried what went before
        while True:
            due, data = await line.get()
            free = max(free, due) + (len(data) / self.rate if self.rate else 0.0)
            await asyncio.sleep(free - self._loop.time())
            await self._flowing.wait()
            if not data:
                sink.write_eof()
                return
            self.passed += len(data)
            sink.write(data)
            await sink.drain()


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.setblocking(False)
    return listener
