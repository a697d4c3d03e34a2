"""The worker process: receives units, runs them, sends back what is needed of them.

Two pipes lead to the driver. On the first, units come and results go, both in the main thread. On the second come the
words that cannot wait until a task returns: a small thread listens there for a recall, and for the driver's end.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import signal
import sys
import threading
import time

from graphray.executors import context, marker
from graphray.executors.letters import UnitLetter
from graphray.executors.prints import Lines
from graphray.executors.runner import Runner
from graphray.executors.store.workshop import Workshop
from graphray.executors.wire import Channel, dumps, loads, pack_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from typing import Any

    from graphray.graph.node import Node

SAFE_PATH = "PYTHONSAFEPATH"  # the working directory is not the first place where modules are looked for
GRACE = 0.5  # seconds that a busy worker has to notice that the driver is gone


def main(
    name: str,
    data: Connection,
    control: Connection,
    lifeline: Any,
    page: Any,
    paths: tuple[str, str],
    safe_path: bool,
) -> None:
    """The process's whole life; called by loky in the new process."""
    context.in_worker = True
    # Ctrl-C is the driver's to handle. Not SIG_IGN, which the processes that tasks start would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if not safe_path:
        os.environ.pop(SAFE_PATH, None)  # it was for the start only
    _end_with_the_driver(lifeline.detach())
    worker = Worker(name, Channel(data), Channel(control), _map(page), Workshop(name, paths))
    _keep_descriptors()
    if hasattr(os, "register_at_fork"):
        # A process that a task forks must not hold the pipes: by their end the driver learns of this one's.
        os.register_at_fork(after_in_child=worker.hang_up)
        # What it prints is not a task's: it goes where this process's own output would.
        os.register_at_fork(after_in_child=functools.partial(_print_to, sys.stdout, sys.stderr))
    for name, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
        if stream is not None:
            setattr(sys, name, Lines(stream, functools.partial(worker.tell_lines, name)))
    worker.serve()


def _map(page: Any) -> memoryview:
    """The marker, in the file whose descriptor came from the driver."""
    fd = page.detach()
    try:
        return marker.map_page(fd)
    finally:
        os.close(fd)


def _print_to(stdout: Any, stderr: Any) -> None:
    """Have what is printed go to these streams, where it goes to the driver."""
    for name, stream in (("stdout", stdout), ("stderr", stderr)):
        if isinstance(getattr(sys, name), Lines):  # a task may have put another in its place
            setattr(sys, name, stream)


def _end_with_the_driver(lifeline: int) -> None:
    """Have the system end this process when the driver is gone: a thread of ours may have to wait for Python's lock.

    The driver holds the other end of this pipe and writes nothing: its end is the first thing to happen on it, of which
    the system tells by SIGIO. Where it does not (not on Linux), the listening thread does it as soon as it can.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _keep_descriptors() -> None:
    """No process that a task starts gets the pipes: by their end the driver learns of this process's end."""
    with contextlib.suppress(OSError):
        for name in os.listdir("/dev/fd"):
            with contextlib.suppress(OSError):
                if int(name) > 2:
                    os.set_inheritable(int(name), False)


class Worker:
    """One worker process: its pipes, and the runner of the units that come by them."""

    def __init__(self, name: str, data: Channel, control: Channel, page: memoryview, workshop: Workshop) -> None:
        self.data = data
        self.control = control
        self.marker = page
        self.workshop = workshop
        self.runner = Runner(name, workshop, page, self._emit)

    def hang_up(self) -> None:
        """Close the pipes, for good: their numbers will be those of other files."""
        for channel in (self.data, self.control):
            with contextlib.suppress(OSError):
                channel.close()

    def serve(self) -> None:
        """Run units until the driver closes the pipe."""
        threading.Thread(target=self._listen, daemon=True).start()
        runner = self.runner
        try:
            self.data.send(("hello", os.getpid(), sys.version_info[:3]))
            while True:
                frames = self.data.receive_frames()
                self.marker[marker.RECEIVED] += 1
                runner.expect()
                state = "unread"
                try:
                    message = loads(frames)
                    state = "read"
                    if type(message) is not UnitLetter:
                        sys.path[:] = message[1]
                        importlib.invalidate_caches()
                        continue
                    answer = runner.run(message)
                except BaseException as error:  # a module that is not here, say
                    answer = dumps(("broken", "taken" if runner.taken else state, pack_error(error)))
                del frames
                message = runner.machine = None
                kept = self.workshop.end_unit()
                if kept:
                    self.data.send(("kept", kept))
                _flush()
                self.data.send_frames(answer)
        except (EOFError, OSError):  # the driver has closed the pipe, or is gone
            if runner.cache is not None:
                runner.cache.cache.close()

    def _listen(self) -> None:
        try:
            while True:
                kind, *words = self.control.receive()
                if kind == "drop":
                    self.workshop.drop(words[0])
                    continue
                unit, cancelled = words
                back = self.runner.recall(unit, cancelled)
                if back is not True:
                    self.data.send(("recalled", unit, back))
        except (EOFError, OSError):
            time.sleep(GRACE)
            while self.runner.machine is None:  # the main thread notices by itself
                time.sleep(GRACE)
            os._exit(1)  # a task is running, and nobody waits for it any more

    def tell_lines(self, stream: str, text: str) -> None:
        """Something was printed, most likely by the task that is running."""
        with contextlib.suppress(OSError):  # the driver is gone
            self.data.send(("printed", self.runner.unit, self.runner.label, stream, text))

    def _emit(self, node: Node, data: dict[str, Any]) -> None:
        # Pickled apart: what cannot be read over there must not take the message with it.
        frames = [bytes(f) for f in dumps(data)]
        self.data.send(("emit", self.runner.unit, node.label, frames))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Lines):
            stream.end()
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
