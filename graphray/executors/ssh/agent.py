"""The agent: the program that a driver runs on a node, over SSH. It starts worker processes and watches over them.

It is told everything over its standard input, so that nothing secret is on a command line, and ends with that: when the
driver is gone, however it went, the connection ends, and so do the agent and all that it started.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Protocol

    from graphray.executors.store.directory import Directory

    class Line(Protocol):
        """The agent's end of the connection."""

        def send(self, message: bytes) -> None:
            """Send a message."""

        def receive(self) -> bytes:
            """The next one."""


PIECE = 32 << 10  # bytes of output in one message
STARTS = 3  # times in a row that a worker may end before it is ready
PATIENCE = 2.0  # seconds that workers have to end
ROOM = 4 << 20  # characters of output that are on their way to the driver; above that, those wait that write more
CONNECTING = 3.0  # seconds that a connection may take
MUST_AGREE = ("graphray", "distributed", "cloudpickle")  # packages whose versions have to be those of the driver


class Agent:
    """What runs on one node.

    Args:
        line: to the driver; `remote.Line`.
    """

    def __init__(self, line: Line) -> None:
        self.line = line
        self.config: Mapping[str, Any] = {}
        self.folder: Directory | None = None  # of what workers spill, and the like
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.places: dict[str, tuple[Sequence[str], int | None]] = {}  # what each sees, and whose place it takes
        self.retired: set[str] = set()  # in whose place another is
        self.ready: set[str] = set()
        self.numbered = 0
        self.false_starts = 0
        self.ending = False
        self.lock = threading.RLock()
        self.unshown = 0  # characters of output that the driver has not shown yet
        self.shown = threading.Condition()

    def serve(self) -> None:
        """Do as the driver says, until it is gone."""
        try:
            self.tell("hello", **about())
            while True:
                kind, content = json.loads(self.line.receive())
                getattr(self, f"_do_{kind}")(**content)
        except (EOFError, OSError):
            pass
        finally:
            self.end()

    def tell(self, kind: str, **content: Any) -> None:
        """Tell the driver something.

        Raises:
            OSError: it is gone.
        """
        self.line.send(json.dumps([kind, content]).encode())

    def end(self) -> None:
        """End the workers: politely, then by SIGKILL."""
        with self.lock, self.shown:
            self.ending = True
            self.shown.notify_all()
            workers = list(self.workers.values())
        for process in workers:
            with contextlib.suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        deadline = time.monotonic() + PATIENCE
        for process in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _kill(process)
        if self.folder is not None:
            self.folder.remove()

    # ---- what the driver asks for

    def _do_probe(self, addresses: Sequence[str], port: int) -> None:
        """Which of the driver's addresses can be reached from here?"""
        self.tell("reached", address=next((a for a in addresses if _connects(a, port)), None))

    def _do_try(self, node: str, address: str, port: int) -> None:
        """Can workers here connect to one of another node?"""

        def attempt() -> None:
            with contextlib.suppress(OSError):
                self.tell("tried", node=node, open=_connects(address, port))

        threading.Thread(target=attempt, daemon=True).start()  # it may take a while

    def _do_start(self, count: int, **config: Any) -> None:
        """Start workers."""
        from graphray.executors.store.directory import Directory, disk_place, sweep

        if config.get("directory"):
            try:
                os.chdir(os.path.expanduser(config["directory"]))
            except OSError as error:
                self.tell("failed", text=f"the working directory cannot be used: {error}")
                return
        try:
            sweep(disk_place())  # what agents have left that were killed
            self.folder = Directory(disk_place())
        except OSError as error:
            self.tell("failed", text=f"there is no place for temporary files: {error}")
            return
        self.config = config
        from graphray.executors.supply import find

        self.tell("has", resources=find(config["resources"]))
        with self.lock:
            for _ in range(count):
                self._spawn()

    def _do_kill(self, worker: str) -> None:
        """End a worker at once; another takes its place."""
        with self.lock:
            process = self.workers.get(worker)
        if process is not None:
            _kill(process)

    def _do_refit(self, worker: str, accelerators: Sequence[str], place: int) -> None:
        """Start another worker in the place of one that will end, which sees these accelerators and no others."""
        with self.lock:
            self.retired.add(worker)
            self._spawn(accelerators, place)

    def _do_shown(self, size: int) -> None:
        """The driver has shown so much of the output."""
        with self.shown:
            self.unshown -= size
            self.shown.notify_all()

    def _do_ready(self, worker: str) -> None:
        """A worker has been heard of by the driver."""
        self.ready.add(worker)
        self.false_starts = 0

    # ---- workers

    def _spawn(self, accelerators: Sequence[str] = (), place: int | None = None) -> None:
        from graphray.executors.supply import environment

        self.numbered += 1
        name = f"{self.config['name']}/{self.numbered}"
        self.places[name] = accelerators, place
        if place is not None:
            self.tell("refitted", worker=name, place=place, accelerators=list(accelerators))
        seen = environment(tuple(accelerators))
        variables = {**os.environ, **seen, **self.config["environment"], "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", "from graphray.executors.ssh.node import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            start_new_session=True,  # what a task starts goes with it
        )
        self.workers[name] = process
        assert process.stdin is not None
        assert self.folder is not None
        settings = {**self.config["worker"], "name": name, "folder": self.folder.path}
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps(settings).encode() + b"\n")
            process.stdin.flush()
        for stream in ("stdout", "stderr"):
            threading.Thread(target=self._drain, args=(name, process, stream), daemon=True).start()
        threading.Thread(target=self._watch, args=(name, process), daemon=True).start()

    def _drain(self, name: str, process: subprocess.Popen[bytes], stream: str) -> None:
        """Hand on what a worker writes, for as long as it lives."""
        from graphray.executors.prints import Lines

        source = getattr(process, stream)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may come in two pieces, and a line
        lines = Lines(source, functools.partial(self._hand_on, name, stream))
        with contextlib.suppress(OSError, ValueError):
            while part := source.read1(PIECE):
                lines.write(decoder.decode(part))
            lines.end()

    def _hand_on(self, name: str, stream: str, text: str) -> None:
        with self.shown:
            self.shown.wait_for(lambda: self.unshown < ROOM or self.ending)
            self.unshown += len(text)
        self.tell("output", worker=name, stream=stream, text=text)

    def _watch(self, name: str, process: subprocess.Popen[bytes]) -> None:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        _kill(process)  # what it has started
        with self.lock:
            self.workers.pop(name, None)
            accelerators, place = self.places.pop(name)
            ending = self.ending or name in self.retired
            ready = name in self.ready
            if not ready:
                self.false_starts += 1
            again = self.false_starts < STARTS
        if ending:
            return
        with contextlib.suppress(OSError):
            self.tell("exited", worker=name, code=code, memory=usage.ru_maxrss * 1024, ready=ready, again=again)
            if again:
                with self.lock:
                    if not self.ending and not ready:
                        self._spawn(accelerators, place)
                    elif not self.ending:
                        self._spawn()
            elif not self.workers:
                text = f"worker processes end before they are ready (exit code {code}); what they wrote says why"
                self.tell("failed", text=text)


def _connects(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=CONNECTING):
            return True
    except OSError:
        return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def about() -> dict[str, Any]:
    """What a driver wants to know of a node."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in MUST_AGREE:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "versions": versions,
        "connection": os.environ.get("SSH_CONNECTION", ""),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def main(line: Line) -> None:
    """The agent's whole life.

    Args:
        line: to the driver; `remote.Line`.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the end of the line says as much, and lets us tidy up
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Agent(line).serve()
