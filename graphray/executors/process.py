"""A worker process, as the driver of the pool sees it: how it starts, what is on its way to it, and how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time

from graphray.executors import marker
from graphray.executors.protocol import FRESH
from graphray.executors.wire import Channel
from graphray.executors.worker import main

TYPE_CHECKING = False
if TYPE_CHECKING:
    import collections
    from collections.abc import Iterator, Mapping
    from typing import Any

    from graphray.executors.core import Job, Unit
    from graphray.executors.mail import Book
    from graphray.graph.node import Node

PATIENCE = 1.0  # seconds that a process has to end by itself


class Process:
    """A worker process, its pipes, and the books of what it was sent.

    Args:
        name: the worker's.
        book: what it knows.
        context: loky's way to make processes and pipes.
        paths: the folders of the store.
        environment: what differs in its environment variables.
        safe_path: whether the user has set PYTHONSAFEPATH.
        accelerators: the names of those that it sees.
        place: what it is to join for: that of a `protocol.Refit`.

    Raises:
        OSError: it cannot be started; nothing is left.
    """

    def __init__(
        self,
        name: str,
        book: Book,
        context: Any,
        paths: tuple[str, str],
        environment: Mapping[str, str],
        safe_path: bool,
        accelerators: tuple[str, ...] = (),
        place: int | None = None,
    ) -> None:
        from collections import deque

        self.name = name
        self.accelerators = accelerators
        self.place = place
        self.worn = FRESH
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            data, data_there = context.Pipe(duplex=True)
            ours.callback(data.close)
            theirs.callback(data_there.close)
            control_there, control = context.Pipe(duplex=False)
            ours.callback(control.close)
            theirs.callback(control_there.close)
            lifeline_there, self.lifeline = os.pipe()  # nothing is ever written to it: its end is the driver's
            ours.callback(os.close, self.lifeline)
            theirs.callback(os.close, lifeline_there)
            with tempfile.TemporaryFile() as file:
                file.truncate(marker.SIZE)
                self.marker = marker.map_page(file.fileno())
                ours.callback(self.marker.release)
                descriptors = _Descriptor(lifeline_there), _Descriptor(file.fileno())
                arguments = (name, data_there, control_there, *descriptors, paths, safe_path)
                self.process = context.Process(target=_enter, args=arguments, name=name, env=dict(environment))
                self.process.daemon = True
                with _interrupts_held():
                    self.process.start()
            ours.pop_all()  # it has started: they stay until `close`
        self.pid: int = self.process.pid
        self.data, self.control = Channel(data), Channel(control)
        self.posted = 0  # messages sent on the data pipe
        self.killed_for: Job | None = None  # whose tasks we ended together with the process
        self.ready = False
        self.joined = False  # the core knows it; else it is starting, or a spare
        self.deadlines: dict[int, Deadline] = {}  # by unit
        self.drops: list[str] = []  # segments that are gone
        self.path: list[str] | None = None
        self.book = book
        self.sent: collections.deque[Letter] = deque()  # units not answered
        self.outbox: Letter | None = None  # the next unit, not sent yet

    def received(self, unit: Unit) -> bool:
        """Whether it has read the message with a unit."""
        return any([x.unit == unit.id and x.number <= self.marker[marker.RECEIVED] for x in self.sent])

    def position(self, unit: Unit) -> tuple[Node | None, str]:
        """The node that it was at when it died; and if that was one which the node returned, its task's name."""
        place, inner = marker.position(self.marker)
        return (unit.nodes[place], inner) if 0 <= place < len(unit.nodes) else (None, "")

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> tuple[int | None, int | None]:
        """Its exit code once it has ended, and the most memory that it has had, in bytes."""
        popen = self.process._popen
        deadline = time.monotonic() + PATIENCE
        memory: int | None = None
        while popen.returncode is None:
            try:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            except (AttributeError, ChildProcessError):  # Windows; or somebody else has waited for it
                self.process.join(PATIENCE)
                break
            if pid:
                memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
                popen.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                self.kill()
            else:
                time.sleep(0.001)
        self.process.join(0)  # it lets go of its descriptor; else the start of the next one does that
        return self.process.exitcode, memory

    def close(self) -> None:
        """Let go of what leads to it."""
        self.data.close()
        self.control.close()
        os.close(self.lifeline)
        self.marker.release()


class Deadline:
    """When a process is to be killed for what it is running: a call is late, or its run was cancelled."""

    def __init__(self, unit: Unit, at: float, late: bool) -> None:
        self.unit = unit
        self.at = at
        self.late = late
        self.passed = False


class Letter:
    """An encoded unit."""

    def __init__(self, unit: int, frames: list[Any], tasks: list[int], forget: list[int], free: list[str]) -> None:
        self.unit = unit
        self.frames = frames
        self.tasks = tasks  # numbers of those whose bodies travel with it
        self.forget = forget  # numbers of those that the worker need not keep
        self.free = free  # segments that go back to the worker with it
        self.number = 0  # its place among all that was sent to the worker
        self.doubtful = False  # it may count on tasks of one before it that could not be read


def signal_name(code: int | None) -> str | None:
    """The signal that an exit code tells of."""
    if code is None or code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal, say
        return f"signal {-code}"


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C goes to every process of a terminal: one just started must not meet it before it has said how it takes it.

    The mask is inherited; the worker lifts it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it would lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Descriptor:
    """A file descriptor that travels to the process being started."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> Any:
        from multiprocessing.reduction import DupFd

        return _identity, (DupFd(self.fd),)


def _identity(x: Any) -> Any:
    return x


def _enter(
    name: str, data: Any, control: Any, lifeline: Any, page: Any, paths: tuple[str, str], safe_path: bool
) -> None:
    main(name, data, control, lifeline, page, paths, safe_path)
