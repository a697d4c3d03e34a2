"""A Python program on a host, over ssh: source and messages go over standard input, never on a command line."""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import queue
import secrets
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from graphray.errors import HostError
from graphray.executors.ssh import openssh
from graphray.executors.ssh.hosts import Host

BEAT = 5.0  # seconds between signs of life to the host
PATIENCE = 60.0  # seconds without one after which the program there ends
LARGEST = 1 << 30  # bytes of a message from a host
TAIL = 1 << 16  # bytes that are kept of what it says otherwise

# Nothing in it that any login shell would read in its own way (quotes of csh and fish, and csh's !).
_FIRST = "import sys; exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"


class Program:
    """A Python on a host, and the program that `start` gives it; with messages to and from that.

    Both output streams are read for as long as it lives; what it and its children print goes to standard error. It ends
    with the connection, whatever ends that: the program, `close`, this process being killed, or the network.

    Args:
        host: where to.
        forwards: see `openssh.command`.
        options: see there.
        on_stderr: called with what comes on standard error, in a thread of its own.
        grace: seconds that it has, once the connection is gone, before it is killed.

    Raises:
        HostError: there is no ssh on this machine.
    """

    def __init__(
        self,
        host: Host,
        *,
        forwards: Iterable[tuple[str, str]] = (),
        options: Iterable[str] = (),
        on_stderr: Callable[[bytes], None] | None = None,
        grace: float = 0.0,
    ) -> None:
        self.host = host
        self.hello: dict[str, Any] = {}  # `version`, `executable` and `pid` of the Python, once it has started
        self._on_stderr = on_stderr
        self._grace = grace
        self._marker = secrets.token_hex(16).encode()
        self._messages: queue.Queue[bytes | None] = queue.Queue()
        self._before = b""  # what came ahead of the marker: from the login shell, not from Python
        self._began = False
        self._errors = b""
        self._broken = ""
        self._writing = threading.Lock()
        argv = openssh.command(host, [host.interpreter, "-c", _FIRST], forwards=forwards, options=options)
        pipe = subprocess.PIPE
        try:
            # In a session of its own: ssh asks nothing on the terminal, and Ctrl-C there is for this process to handle.
            self._process = subprocess.Popen(
                argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
            )
        except OSError as error:
            raise openssh.missing() from error
        self._pump = threading.Thread(target=self._pump_streams, name=f"graphray-ssh-{host.name}", daemon=True)
        self._pump.start()

    def start(
        self,
        source: str,
        header: bytes = b"",
        *,
        name: str = "program",
        timeout: float = 30.0,
        same_python: bool = True,
    ) -> None:
        """Wait for Python, and have it run a program.

        Args:
            source: its text, which the Python there must be able to read. In its globals are `line`, with
                `.send(bytes)` and `.receive() -> bytes`, and `header`.
            header: what it is given at the start.
            name: what tracebacks call it.
            timeout: seconds until Python has to answer.
            same_python: refuse a Python of another major or minor version than this one's.

        Raises:
            HostError: it could not be started: why, and what to do.
        """
        self._write(_prelude(self._marker.decode(), self._grace))
        self.hello = json.loads(self._receive(timeout, f"does not answer within {timeout:.0f} s"))
        if same_python and tuple(self.hello["version"][:2]) != sys.version_info[:2]:
            raise other_python(self.host, self.hello["version"])
        for message in (name.encode(), source.encode(), b"=" + header):  # none may be empty
            self.send(message)

    def send(self, message: bytes) -> None:
        """Send a message, which is not empty.

        Raises:
            HostError: the program or the connection has ended.
        """
        self._write(struct.pack(">Q", len(message)) + message)

    def receive(self, timeout: float | None = None) -> bytes:
        """The next message from it; waits for it, `timeout` seconds at most.

        Raises:
            HostError: none came in time, or the program or the connection has ended; then with what it said.
        """
        return self._receive(timeout, f"has not answered for {timeout:.0f} s" if timeout is not None else "")

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit status of ssh once it has ended, which is that of the program; None after `timeout` seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    @property
    def said(self) -> str:
        """The end of what it has printed, with nothing that a terminal would obey."""
        return openssh.printable(self._errors)

    def close(self, timeout: float = 5.0) -> None:
        """End it: the line closes, and it has its grace and `timeout` seconds more before the connection is cut.

        It has no time where no Python has answered yet: of a host that is silent, ssh would wait for longer.
        """
        self._end(self._grace + timeout if self._began else 0.0)

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- underneath

    def _receive(self, timeout: float | None, late: str) -> bytes:
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            said = openssh.printable(self._errors or self._before).strip().splitlines()
            last = f"; it last said: {said[-1]}" if said else ""
            text = f"{self.host.label} {late}{last}. Try by hand: {openssh.by_hand(self.host)}"
            raise HostError(text, host=self.host, reason="timeout") from None
        if message is None:
            self._messages.put(None)
            raise self._failure()
        return message

    def _failure(self) -> HostError:
        if self._broken:
            return HostError(f"{self.host.label} {self._broken}", host=self.host, reason="failed")
        status = self.wait(10)
        if self._began and status == 255:
            return openssh.lost(self.host, self._errors)
        if self._began or status is None or status < 0 or status in (126, 127, 255):
            return openssh.explain(self.host, status, self._errors)
        return openssh.no_python(self.host, status, self._before + b"\n" + self._errors)

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        view = memoryview(data)
        try:
            with self._writing:
                while view:
                    view = view[self._process.stdin.write(view) or 0 :]
        except (OSError, ValueError):  # it has ended, or was closed; what it said comes with the end of its streams
            self._pump.join(10)
            raise self._failure() from None

    def _pump_streams(self) -> None:
        """Read both streams to their ends, and say now and then that somebody is there."""
        out, err = self._process.stdout, self._process.stderr
        assert out is not None
        assert err is not None
        data = bytearray()
        last = time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            selector.register(err, selectors.EVENT_READ)
            ended = None
            while selector.get_map():
                for key, _ in selector.select(0.2 if ended is not None else BEAT):
                    part = os.read(key.fd, TAIL)
                    if not part:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is err:
                        self._errors = (self._errors + part)[-TAIL:]
                        if self._on_stderr is not None:
                            with contextlib.suppress(Exception):  # a listener's error must not stop the streams
                                self._on_stderr(part)
                    else:
                        data += part
                        self._take(data)
                now = time.monotonic()
                if now - last >= BEAT:
                    last = now
                    self._beat()
                if ended is None and self._process.poll() is not None:
                    ended = now
                if ended is not None and now - ended > 1.0:  # a helper of ssh's holds the streams open
                    break
        self._process.wait()
        self._messages.put(None)

    def _take(self, data: bytearray) -> None:
        """Take the messages out of what has come; what is left belongs to the next one."""
        if not self._began:
            before, found, rest = data.partition(self._marker + b"\n")
            self._before = bytes(before[-TAIL:])
            if not found:
                del data[:-TAIL]
                return
            self._began = True
            data[:] = rest
        start = 0
        while len(data) - start >= 8:
            (length,) = struct.unpack_from(">Q", data, start)
            if length > LARGEST:
                self._broken = "has sent what is no message: does something else write to the connection?"
                self._process.kill()
                break
            if len(data) - start - 8 < length:
                break
            self._messages.put(bytes(data[start + 8 : start + 8 + length]))
            start += 8 + length
        del data[:start]

    def _beat(self) -> None:
        into = self._process.stdin
        assert into is not None
        if not self._began or not self._writing.acquire(blocking=False):
            return  # data is going there, which is a sign of life too
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(into, selectors.EVENT_WRITE)
                if selector.select(0):
                    into.write(struct.pack(">Q", 0))
        except (OSError, ValueError):
            pass  # it has ended, which the streams will say, or was closed
        finally:
            self._writing.release()

    def _end(self, timeout: float = 0.0) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if not self._writing.acquire(timeout=timeout):
            process.terminate()  # somebody is writing to it, and it does not read
            self._writing.acquire()
        try:
            with contextlib.suppress(OSError):
                process.stdin.close()
        finally:
            self._writing.release()
        for cut in (process.terminate, process.kill):
            if self.wait(timeout) is None:
                cut()
            timeout = 2.0
        process.wait()
        self._pump.join()
        process.stdout.close()
        process.stderr.close()


def _prelude(marker: str, grace: float) -> bytes:
    text = pkgutil.get_data("graphray.executors.ssh", "remote.py")
    assert text is not None
    values = f"MARKER = {marker!r}; PATIENCE = {PATIENCE!r}; GRACE = {grace!r}\n"
    source = values.encode() + text
    return b"%d\n" % len(source) + source


def other_python(host: Host, version: Iterable[int]) -> HostError:
    """The error for a host whose Python is of another version."""
    there, here = ".".join(map(str, version)), f"{sys.version_info[0]}.{sys.version_info[1]}"
    text = (
        f"{host.interpreter} on {host.label} is Python {there}, and this is {here}: they do not understand what the "
        f"other one sends. Name a Python {here} there with the option python, or make one: "
        f"graphray nodes setup {host.label}"
    )
    return HostError(text, host=host, reason="python-version")
