"""A link: one SSH connection to a node, with an agent at its other end."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
import time

from graphray.executors.ssh.wire import Messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

PING = 5.0  # seconds between two words to the agent, which ends when it hears none
PATIENCE = 3.0  # seconds that a connection has to end
KEPT = 16 << 10  # characters of what ssh says that are kept

# Reads the agent's mark from standard input, so that it is on no command line, and starts it.
PROGRAM = (
    "import sys; mark = sys.stdin.buffer.readline().decode(); from graphray.executors.ssh.agent import main; main(mark)"
)


class Link:
    """A connection, from its start on.

    Args:
        name: the host's, for people.
        command: what connects, and runs `PROGRAM` there.
        hear: called with each message of the agent, in a thread of the link's; with ("ended", {}) at last.
    """

    def __init__(self, name: str, command: Sequence[str], hear: Callable[[Link, str, dict[str, Any]], None]) -> None:
        self.name = name
        self._hear = hear
        self._closing = False
        self.said: list[str] = []  # what ssh and the agent wrote to standard error
        mark = f"graphray-{secrets.token_hex(16)}\n"
        self._mark = mark.encode()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is not for it
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.messages = Messages(self.process.stdout, self.process.stdin)
        with contextlib.suppress(OSError):
            self.process.stdin.write(self._mark)
            self.process.stdin.flush()
        self._threads = [
            threading.Thread(target=target, name=f"graphray-{what}-{name}", daemon=True)
            for target, what in ((self._read_errors, "stderr"), (self._ping, "ping"), (self._read, "link"))
        ]
        self._done = threading.Event()
        for thread in self._threads:
            thread.start()

    def send(self, kind: str, **content: Any) -> None:
        """Tell the agent something; nothing, if it is gone."""
        with contextlib.suppress(OSError, ValueError):
            self.messages.send(kind, **content)

    def _read(self) -> None:
        try:
            if self._skip_noise():
                while (message := self.messages.receive()) is not None:
                    self._hear(self, *message)
        except (OSError, ValueError):
            pass
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self._threads[0].join(PATIENCE)  # what ssh says about it comes first
        self._hear(self, "ended", {})

    def _skip_noise(self) -> bool:
        """Read up to the mark: a login shell may greet."""
        assert self.process.stdout is not None
        tail = b""
        while not tail.endswith(self._mark):
            part = self.process.stdout.read(1)
            if not part:
                return False
            tail = (tail + part)[-len(self._mark) :]
        return True

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self.process.stderr:
                self.said.append(line.decode(errors="replace"))
                while sum(map(len, self.said)) > KEPT:
                    del self.said[0]

    def _ping(self) -> None:
        while not self._done.wait(PING):
            self.send("ping")

    def close(self) -> None:
        """End the connection, and with it all that runs there of ours."""
        self.send("stop")
        self._done.set()
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        deadline = time.monotonic() + PATIENCE
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.1, deadline - time.monotonic()))
        for stream in (self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
