"""What runs first on a host: its end of the line to the driver. Travels as text, see `program.py`.

Nothing of graphray is there yet, and the Python may be an old one: this is for any Python 3, so that it can tell its
version. The driver puts values for MARKER, PATIENCE and GRACE in front.
"""

import json
import linecache
import os
import queue
import select
import signal
import struct
import sys
import threading
import time

MARKER = globals().get("MARKER", "")
PATIENCE = globals().get("PATIENCE", 60.0)
GRACE = globals().get("GRACE", 0.0)


class Line:
    """Messages to and from the driver, over what were standard input and output.

    What anything here prints goes to standard error. When the driver is gone, or silent for PATIENCE seconds (it sends
    empty messages to say that it is there), `receive` raises EOFError; GRACE seconds later this process is killed, with
    all that it has started in its process group.
    """

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self._sending = threading.Lock()
        self._messages = queue.Queue()  # type: queue.Queue[object]
        if os.getpgrp() != os.getpid():
            os.setpgid(0, 0)

    def begin(self) -> None:
        """Say that Python is running; what a login shell may have printed comes before that."""
        _write(self._out, b"\n" + MARKER.encode() + b"\n")
        hello = {"version": list(sys.version_info[:3]), "executable": sys.executable, "pid": os.getpid()}
        self.send(json.dumps(hello).encode())
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, message: bytes) -> None:
        """Send a message that is not empty."""
        with self._sending:
            _write(self._out, struct.pack(">Q", len(message)) + message)

    def receive(self) -> bytes:
        """The next message; waits for it.

        Raises:
            EOFError: the driver is gone.
        """
        message = self._messages.get()
        if not isinstance(message, bytes):
            self._messages.put(None)
            raise EOFError("the driver is gone")
        return message

    def _read(self) -> None:
        try:
            while True:
                (length,) = struct.unpack(">Q", self._exactly(8))
                if length:
                    self._messages.put(self._exactly(length))
        except Exception:
            self._messages.put(None)
        time.sleep(GRACE)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            if not select.select([self._in], [], [], PATIENCE)[0]:
                raise EOFError
            part = os.read(self._in, min(count, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]


def main() -> None:
    """Run the program that the driver sends: its name, its source, and a header for it."""
    sys.path[:] = [p for p in sys.path if p]  # a file in the home directory is no module of anybody's
    line = Line()
    line.begin()
    name, source, header = line.receive().decode(), line.receive().decode(), line.receive()
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    try:
        exec(compile(source, name, "exec"), {"__name__": "__main__", "line": line, "header": header[1:]})
    finally:  # children that are left would hold the connection open, and outlive it
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(os.getpgrp(), signal.SIGTERM)


if MARKER:
    main()
