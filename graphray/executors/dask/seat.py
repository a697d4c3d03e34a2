"""A seat: where the units of one engine run in a worker process of a Dask cluster, one at a time.

What is called from outside, by Dask: `greet` when the worker joins, `run_unit` as a task, `recall` beside it.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import secrets
import sys
import threading

from distributed.utils import sync

from graphray.executors import context, marker
from graphray.executors.carried import unpack
from graphray.executors.dask.parcel import Parcel
from graphray.executors.frames import size_of
from graphray.executors.letters import UnitLetter
from graphray.executors.prints import Lines
from graphray.executors.runner import Runner
from graphray.executors.store.segments import LEAST
from graphray.executors.wire import dumps, loads, pack_error
from graphray.graph.containers import ATOMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from graphray.executors.carried import Module
    from graphray.graph.node import Node

ROOM = (
    1 << 20
)  # characters of what is printed that are on their way to the driver; above that, a task that prints waits
PATIENCE = 10.0  # seconds without a word on these after which it goes on
PIECE = 8 << 10  # characters of what is printed that travel in one message: the scheduler keeps the last thousand

_seats: dict[str, Seat] = {}  # of this process, also those of other engines
_making = threading.Lock()
_here: contextvars.ContextVar[Seat | None] = contextvars.ContextVar("graphray_seat", default=None)
_inputs: contextvars.ContextVar[Sequence[Parcel]] = contextvars.ContextVar("graphray_inputs")


class Shelf:
    """Where a seat puts large results: with the worker's data, under keys that the driver's client then holds.

    Args:
        prefix: of these keys. There is something of this process's own in them: the one before may have had its name.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}-{secrets.token_hex(4)}"
        self.read = 0
        self.written = 0
        self.put: dict[str, Parcel] = {}  # of the unit in work
        self._numbered = 0

    def take_back(self, names: Iterable[str]) -> None:
        """There is nothing to be written again."""

    def put_values(self, values: list[Any]) -> list[Any]:
        """Values with the large ones as `Placed`; one that is there several times, once.

        Raises:
            Exception: one cannot be pickled.
        """
        placed: list[Any] = []
        known: dict[int, Placed] = {}
        for v in values:
            if id(v) in known:
                placed.append(known[id(v)])
                continue
            if type(v) in ATOMS and not (isinstance(v, (bytes, str)) and len(v) >= LEAST):
                placed.append(v)
                continue
            frames = dumps(v)
            if sum(map(size_of, frames)) < LEAST:
                placed.append(v)
                continue
            parcel = Parcel.packed(frames)
            self._numbered += 1
            key = f"{self._prefix}-{self._numbered}"
            self.put[key] = parcel
            self.written += parcel.nbytes
            known[id(v)] = Placed(key, parcel.nbytes)
            placed.append(known[id(v)])
        return placed


class Placed:
    """A value that stays with a worker, as that tells the driver."""

    __slots__ = ("key", "nbytes")

    def __init__(self, key: str, nbytes: int) -> None:
        self.key = key
        self.nbytes = nbytes

    def __reduce__(self) -> Any:
        return Placed, (self.key, self.nbytes)


class Seat:
    """Runs units in this process.

    Args:
        name: the worker's, as the core knows it.
        worker: Dask's, of this process.
        topic: of the events by which it speaks to the driver.
        client: the id of the driver's client, which is to hold large results.
    """

    def __init__(self, name: str, worker: Any, topic: str, client: str) -> None:
        self.name = name
        self._worker = worker
        self._topic = topic
        self._client = client
        self._said = 0  # messages of the unit in work
        self._unshown = 0  # characters of what it has printed that the driver has not shown yet
        self._shown = threading.Condition()
        self._shelf = Shelf(f"graphray-{topic}-{name}")
        page = memoryview(bytearray(marker.SIZE)).cast("q")
        self.runner = Runner(name, self._shelf, page, self._emit)

    def run(self, frames: Sequence[Any], inputs: Sequence[Parcel]) -> tuple[Parcel, int]:
        """Run a unit; its answer, and how many messages were sent before that."""
        home = _here.set(self)
        given = _inputs.set(inputs)
        runner, shelf = self.runner, self._shelf
        runner.expect()
        shelf.read += sum([x.nbytes for x in inputs])
        unit = 0
        self._said = 0
        try:
            letter = loads([frames[0], *map(bytearray, frames[1:])])  # buffers inside objects are its own
            assert type(letter) is UnitLetter
            unit = letter.unit
            self._say("begun", unit)
            answer = runner.run(letter)
            self._publish()
        except BaseException as error:  # a module that is not here, say
            answer = dumps(("broken", unit, pack_error(error)))
        finally:
            runner.machine = None
            shelf.put = {}
            _inputs.reset(given)
            _here.reset(home)
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, Lines):
                    stream.end()
        return Parcel.packed([bytes(f) if isinstance(f, memoryview) else f for f in answer]), self._said

    def _publish(self) -> None:
        """Have large results be data of the cluster, held by the driver's client, before that hears of them."""
        if self._shelf.put:
            sync(self._worker.loop, _enter_data, self._worker, dict(self._shelf.put), self._client)

    def _say(self, kind: str, *words: Any) -> None:
        """Tell the driver something, by an event of Dask's."""
        self._said += 1
        self._worker.log_event(self._topic, [kind, self.name, *words])

    def tell_lines(self, stream: str, text: str) -> None:
        """Something was printed, most likely by the task that is running."""
        for i in range(0, len(text), PIECE):
            self._wait_for_room(len(text[i : i + PIECE]))
            self._say("printed", self.runner.unit, self.runner.label, stream, text[i : i + PIECE])

    def _wait_for_room(self, size: int) -> None:
        with self._shown:
            if threading.get_ident() != self._worker.thread_id:  # that one is needed to hear of it
                heard = self._shown.wait_for(lambda: self._unshown < ROOM, PATIENCE)
                self._unshown = self._unshown if heard else 0
            self._unshown += size

    def shown(self, size: int) -> None:
        """The driver has shown so much of what was printed."""
        with self._shown:
            self._unshown = max(0, self._unshown - size)
            self._shown.notify_all()

    def _emit(self, node: Node, data: dict[str, Any]) -> None:
        self._say("emit", self.runner.unit, node.label, [bytes(f) for f in dumps(data)])


async def _enter_data(worker: Any, data: dict[str, Parcel], client: str) -> None:
    worker.update_data(data=data)
    nbytes = {key: parcel.nbytes for key, parcel in data.items()}
    await worker.scheduler.update_data(who_has={key: [worker.address] for key in data}, nbytes=nbytes, client=client)


def open_input(number: int) -> Any:
    """What a `Remote` value becomes in a worker."""
    return _inputs.get()[number].open()


# ---- what Dask calls


def greet(
    names: Mapping[str, str], topic: str, client: str, path: Sequence[str], dask_worker: Any = None
) -> Mapping[str, Any]:
    """A worker joins: make its seats; what it is.

    Args:
        names: of the seats in this process, with those by which the core knows them.
        topic: see `Seat`.
        client: see there.
        path: where the driver finds modules.
        dask_worker: Dask's, which gives it.
    """
    import platform

    from graphray import __version__

    context.in_worker = True
    for entry in path:
        if entry not in sys.path:
            sys.path.append(entry)
    with _making:
        for seat, name in names.items():
            _seats[seat] = Seat(name, dask_worker, topic, client)
        _take_streams()
    return {
        "pid": os.getpid(),
        "python": platform.python_version_tuple(),
        "graphray": __version__,
    }


def run_unit(
    seat: str, frames: Sequence[Any], inputs: Sequence[Parcel], modules: Sequence[Module]
) -> tuple[Parcel, int]:
    """Run a unit on a seat; `modules` are those of the driver's that this process has not been sent before."""
    found = _seats.get(seat)
    if found is None:  # this process has taken the place of one that had it, of which the driver has not heard yet
        return Parcel.packed(dumps(("unseated",))), 0
    if modules:
        unpack(modules)
    return found.run(frames, inputs)


def recall(seat: str, unit: int, cancelled: bool) -> list[int] | bool | None:
    """See `Runner.recall`; None too where the seat is not there."""
    found = _seats.get(seat)
    return found.runner.recall(unit, cancelled) if found is not None else None


def shown(seat: str, size: int) -> None:
    """See `Seat.shown`."""
    found = _seats.get(seat)
    if found is not None:
        found.shown(size)


def leave(seats: Sequence[str]) -> None:
    """The engine is closed."""
    with _making:
        for seat in seats:
            _seats.pop(seat, None)
        if not _seats:
            _give_streams_back()


def end(seat: str, unit: int) -> bool:
    """End this process if it is at a unit; if it is not, say so."""
    found = _seats.get(seat)
    if found is not None and found.runner.unit == unit and found.runner.machine is not None:
        os._exit(1)
    return False


# ---- what is printed


def _take_streams() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Lines):
            setattr(sys, name, Lines(stream, functools.partial(_tell, name, stream)))


def _give_streams_back() -> None:
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, Lines):
            setattr(sys, name, stream._stream)


def _tell(name: str, stream: Any, text: str) -> None:
    """Of the seat whose task prints; from a thread of a task, of the one that is busy. Else it is the worker's own."""
    seat = _here.get()
    if seat is None:
        busy = [s for s in list(_seats.values()) if s.runner.machine is not None]
        seat = busy[0] if len(busy) == 1 else None
    if seat is not None:
        seat.tell_lines(name, text)
    else:
        with contextlib.suppress(OSError, ValueError):
            stream.write(text)
            stream.flush()


if hasattr(os, "register_at_fork"):
    # What a process prints that a task forks is not a task's: there is nobody in it who could send it.
    os.register_at_fork(after_in_child=_give_streams_back)
