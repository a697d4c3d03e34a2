"""What travels between driver and workers: values, tasks, units, errors, and the frames they are sent in.

Values are pickled with protocol 5: buffers of a few KB and more travel beside the pickle, without being copied into it.
Functions that cannot be imported by name on the other side travel by value (cloudpickle).
"""

from __future__ import annotations

import io
import pickle
import struct
import threading
import weakref

import cloudpickle

from graphray.errors import RemoteError
from graphray.executors.failures import users_traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType
    from typing import Any

    from graphray.graph.task import Task

INLINE = 4096  # bytes of a buffer that still goes into the pickle
CAUSES = 50  # exceptions that led to one another, of which an error tells; a loop may raise each from the one before

_HEADER = struct.Struct("<Q")


class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
    """cloudpickle, with JAX arrays by way of numpy: their own pickles hold the data twice and in the stream."""

    def reducer_override(self, obj: Any) -> Any:
        """What pickle calls for anything that is not of a basic type."""
        if type(obj).__module__.startswith("jaxlib"):
            import jax
            import numpy

            if isinstance(obj, jax.Array) and not jax.numpy.issubdtype(obj.dtype, jax.dtypes.extended):
                return _jax_array, (numpy.asarray(obj),)
        return super().reducer_override(obj)


def _jax_array(array: Any) -> Any:
    import jax.numpy

    return jax.numpy.asarray(array)


def dumps(obj: Any) -> list[Any]:
    """`obj` as frames: the pickle, then its large buffers.

    Raises:
        Exception: whatever pickling raises.
    """
    frames: list[Any] = [None]

    def buffer(view: pickle.PickleBuffer) -> bool:
        raw = view.raw()
        if raw.nbytes < INLINE:
            return True
        frames.append(raw)
        return False

    stream = io.BytesIO()
    Pickler(stream, protocol=5, buffer_callback=buffer).dump(obj)
    frames[0] = stream.getbuffer()
    return frames


def dumps_whole(obj: Any) -> bytes:
    """`obj` as one pickle, large buffers included.

    Raises:
        Exception: whatever pickling raises.
    """
    stream = io.BytesIO()
    Pickler(stream, protocol=5).dump(obj)
    return stream.getvalue()


def loads(frames: Sequence[Any]) -> Any:
    """The object of some frames."""
    return pickle.loads(frames[0], buffers=frames[1:])


class Channel:
    """Sends and receives objects over a connection; sending is safe from several threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def fileno(self) -> int:
        """The file descriptor to wait on for something to receive."""
        return self._connection.fileno()

    def send_frames(self, frames: Sequence[Any]) -> None:
        """Send what `dumps` gave.

        Raises:
            OSError: the other side is gone.
        """
        send = self._connection.send_bytes
        with self._lock:
            if len(frames) == 1:
                send(frames[0])
            else:
                # An empty message says that sizes follow, then the frames.
                send(b"")
                send(b"".join([_HEADER.pack(len(f) if isinstance(f, bytes) else f.nbytes) for f in frames]))
                for frame in frames:
                    send(frame)

    def send(self, obj: Any) -> None:
        """Pickle and send."""
        self.send_frames(dumps(obj))

    def receive(self) -> Any:
        """The next object, waiting for it.

        Raises:
            EOFError: the other side has closed or is gone.
        """
        return loads(self.receive_frames())

    def receive_frames(self) -> list[Any]:
        """The next object's frames, waiting for them.

        Raises:
            EOFError: the other side has closed or is gone.
        """
        connection = self._connection
        first = connection.recv_bytes()
        if first:
            return [first]
        sizes = connection.recv_bytes()
        frames = []
        for (size,) in _HEADER.iter_unpack(sizes):
            frame = bytearray(size)  # writable: a buffer inside some object is its own copy
            connection.recv_bytes_into(frame)
            frames.append(frame)
        return frames

    def close(self) -> None:
        """Close this end."""
        self._connection.close()


class Failed:
    """In the place of an input that failed: the worker skips what needs it, and the driver knows why."""


class Names:
    """Numbers for tasks, so that each travels to each worker once. One side numbers upwards, the other downwards."""

    def __init__(self, step: int = 1) -> None:
        self._step = step
        self._next = step
        self._numbers: weakref.WeakKeyDictionary[Task, int] = weakref.WeakKeyDictionary()

    def number(self, task: Task) -> int:
        """The number of a task, the same each time."""
        number = self._numbers.get(task)
        if number is None:
            number = self._numbers[task] = self._next
            self._next += self._step
        return number

    def renew(self, task: Task) -> int:
        """Another number for a task, which is not what it was."""
        self._numbers.pop(task, None)
        return self.number(task)

    def learn(self, task: Task, number: int) -> None:
        """Note the number that the other side gave a task."""
        self._numbers[task] = number


# ---- errors


def pack_error(error: BaseException, seen: tuple[int, ...] = ()) -> Any:
    """An exception as plain data: itself where it survives pickling, its text, the user's frames, what caused it."""
    import traceback

    trace = users_traceback(error.__traceback__)
    frames = [(f.filename, f.lineno, f.name) for f in traceback.extract_tb(trace)]
    text = "".join(traceback.format_exception_only(error)).strip()
    seen = (*seen, id(error))  # exceptions can be each other's cause
    full = len(seen) >= CAUSES
    cause = error.__cause__ if not full and id(error.__cause__) not in seen else None
    context = (
        error.__context__ if not (full or error.__suppress_context__) and id(error.__context__) not in seen else None
    )
    return (
        _body(error),
        text,
        frames,
        pack_error(cause, seen) if cause is not None else None,
        pack_error(context, seen) if context is not None and cause is None else None,
        error.__suppress_context__,
        list(getattr(error, "__notes__", ())),
    )


def _body(error: BaseException) -> list[bytes] | None:
    """An exception pickled by its own rules, else by its parts; None where neither gives the same type back."""
    for obj in (error, _Parts(error)):
        try:
            body = [bytes(frame) for frame in dumps(obj)]
            if type(loads(body)) is type(error):
                return body
        except Exception:
            continue
    return None


class _Parts:
    """Pickles as an exception that is made anew without its constructor, which does not take what its `args` are."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _revive, (type(self.error), self.error.args, self.error.__dict__)


def _revive(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def unpack_error(packed: Any) -> BaseException:
    """The exception again, with a traceback of the frames it went through; `RemoteError` where it cannot be rebuilt."""
    body, text, frames, cause, context, suppressed, notes = packed
    error: BaseException | None = None
    if body is not None:
        try:
            error = loads(body)
        except Exception:  # its class is not here, or its constructor objects
            error = None
    if not isinstance(error, BaseException):
        where = "".join(f'\n  File "{file}", line {line}, in {name}' for file, line, name in frames)
        error = RemoteError(f"{text}{where}")
    error.__traceback__ = _rebuild(frames)
    if cause is not None:
        error.__cause__ = unpack_error(cause)
    elif context is not None:
        error.__context__ = unpack_error(context)
    error.__suppress_context__ = suppressed
    if notes:
        error.__notes__ = notes  # not every exception pickles its own
    return error


def _rebuild(frames: Iterable[tuple[str, int | None, str]]) -> TracebackType | None:
    """A traceback through frames of the given names and lines, so that it prints as it would have in the worker."""
    from types import CodeType, FunctionType, TracebackType

    # Frames of generators that have not begun: unlike those of calls, they do not hold the frames that they were made
    # in, and with them the engine.
    consts = compile("def made(): yield", "", "exec").co_consts
    made = next(c for c in consts if type(c) is CodeType)
    trace = None
    for filename, line, name in reversed(list(frames)):
        code = made.replace(co_filename=filename, co_name=name, co_firstlineno=line or 1)
        frame = FunctionType(code, {"__name__": name, "__file__": filename})().gi_frame
        trace = TracebackType(trace, frame, -1, line or 1)
    return trace
