"""What a task can ask of the engine that runs it: `gr.context()` and `gr.local`."""

from __future__ import annotations

import collections
import contextlib
import contextvars
import functools
import threading
import types
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeAlias

    from graphray.executors.machine import Machine
    from graphray.graph.node import Node

    _Task: TypeAlias = tuple[weakref.ref[Machine], weakref.ref[Node]]

# The machine that runs in this thread, while it runs.
current: contextvars.ContextVar[Machine | None] = contextvars.ContextVar("graphray_machine", default=None)

# Whether this process is a worker; then it is one also where the variable above is not known, as in a task's threads.
in_worker = False


class Context:
    """The running task's view of its engine."""

    __slots__ = ("_machine",)

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @property
    def worker(self) -> str:
        """Name of the worker this task runs on."""
        return self._machine.worker

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        node = self._machine.node
        return self._machine.attempt_of(node) if node is not None else 1

    @property
    def node(self) -> str:
        """Label of the node that is running."""
        node = self._machine.node
        return node.label if node is not None else ""

    def emit(self, **data: Any) -> None:
        """Send data to the run's events, as `Emitted`; asynchronous, and lost if the worker dies before it is sent.

        Raises:
            TypeError: the data cannot be pickled (on engines of processes).
        """
        machine = self._machine
        if machine.emit is not None and machine.node is not None:
            machine.emit(machine.node, data)

    def cancelled(self) -> bool:
        """Whether the run was cancelled: a long task may ask now and then, and return early."""
        return self._machine.cancelled


def context() -> Context:
    """The context of the task that is running in this thread.

    Raises:
        RuntimeError: no task is running here.
    """
    machine = current.get()
    if machine is None:
        raise RuntimeError("gr.context() is for use inside a running task; none is running in this thread")
    return Context(machine)


# The machines that are running nodes, in any thread.
_running: set[Machine] = set()


def enter(machine: Machine) -> contextvars.Token[Machine | None]:
    """A machine begins to run nodes in this thread."""
    _running.add(machine)
    return current.set(machine)


def leave(machine: Machine, token: contextvars.Token[Machine | None]) -> None:
    """It has stopped, between two nodes: what its tasks asked `local` for is not in use any more."""
    worker = _worker()
    current.reset(token)
    _running.remove(machine)
    _trim(worker)


# ---- local

_LIMIT = 64  # objects per worker


class _Slot:
    """The place of one object of `local`; its lock is held while the object is made."""

    __slots__ = ("busy", "lock", "made", "tasks", "value")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.busy = False
        self.made = False
        self.tasks: set[_Task] = set()  # that asked for it
        self.value: Any = None

    def in_use(self) -> bool:
        """Whether a task that asked for it is still running."""
        return any(map(_goes_on, self.tasks))


_kept: dict[str | None, collections.OrderedDict[Any, _Slot]] = {}  # by worker; what was used last comes last
_lock = threading.Lock()  # of these dictionaries; held for moments only


def local(factory: Callable[..., Any], /, *args: Any) -> Any:
    """`factory(*args)`, made once per worker and kept: a loaded model, a connection, a live environment.

    The same factory with equal arguments of the same types gives the same object on the same worker: a process, or a
    thread of `InProcess(threads=…)`. Functions are the same if their names, code, defaults and what they close over
    are; classes and other callables if they are equal. What cannot be hashed in a closure counts as the object it is.
    A factory that raises leaves nothing behind.

    Each worker keeps the 64 used last, and all that the running task asked for. One that goes, or whose thread of
    `InProcess(threads=…)` ends, has its `close()` called if it has one; an error of that is a warning. Outside a task
    nobody knows who still uses an object: there it is only let go of.

    Args:
        factory: a function or class.
        args: hashable arguments.

    Raises:
        TypeError: an argument is not hashable.
        RuntimeError: the factory asks for the very object that it is making.
    """
    hash(args)
    worker = _worker()
    key = (_identity(factory, ()), tuple(map(_typed, args)))
    while True:
        with _lock:
            slots = _kept.setdefault(worker, collections.OrderedDict())
            slot = slots.get(key)
            if slot is None:
                slot = slots[key] = _Slot()
            slots.move_to_end(key)
            tasks = _tasks()
            if not slot.tasks.issuperset(tasks):
                slot.tasks = {*filter(_goes_on, slot.tasks), *tasks}
        with slot.lock:
            if slot.made:
                return slot.value
            if slot.busy:
                raise RuntimeError(f"gr.local: making {factory!r} needs the object itself, which is not there yet")
            with _lock:
                if slots.get(key) is not slot:  # another thread tried to make it, and failed
                    continue
            slot.busy = True
            try:
                slot.value = factory(*args)
            except BaseException:
                with _lock:
                    del slots[key]
                raise
            finally:
                slot.busy = False
            slot.made = True
        _trim(worker)
        return slot.value


def _tasks() -> list[_Task]:
    """The task that is asking; in a thread that a worker process's task has started, all that run there."""
    machine = _outermost() or current.get()
    machines = [machine] if machine is not None else list(_running) if in_worker else []
    return [(weakref.ref(m), weakref.ref(m.node)) for m in machines if m.node is not None]


def _goes_on(task: _Task) -> bool:
    machine, node = task[0](), task[1]()
    return machine in _running and node is not None and machine.node is node


def _trim(worker: str | None) -> None:
    """Let a worker's oldest objects go that are too many, and that no running task uses."""
    slots = _kept.get(worker)
    if slots is None or len(slots) <= _LIMIT:
        return
    with _lock:
        old = [key for key, slot in slots.items() if slot.made and not slot.in_use()]
        gone = [slots.pop(key) for key in old[: max(0, len(slots) - _LIMIT)]]
    if worker is not None or in_worker:
        _close(gone)


def end_worker(worker: str) -> None:
    """A worker is no more, and runs no task: close what it has kept."""
    with _lock:
        slots = _kept.pop(worker, None)
    _close(slots.values() if slots is not None else ())


def _close(slots: Iterable[_Slot]) -> None:
    for slot in slots:
        close = getattr(slot.value, "close", None)
        if callable(close):
            try:
                close()
            except Exception as error:  # the task that runs now has nothing to do with it
                import warnings

                with contextlib.suppress(Warning):  # where warnings are errors: this may be the engine's thread
                    warnings.warn(f"gr.local: closing a {type(slot.value).__name__} failed: {error!r}", stacklevel=2)


# The machine whose task a run in this thread was started by, for as long as that task runs.
_home: contextvars.ContextVar[weakref.ref[Machine] | None] = contextvars.ContextVar("graphray_home", default=None)


def nest() -> None:
    """A run begins, inside a task or not: what it makes with `local` belongs to the worker of the outermost task."""
    machine = current.get()
    if machine is not None and _outermost() is None:
        _home.set(weakref.ref(machine))


def _outermost() -> Machine | None:
    home = _home.get()
    machine = home() if home is not None else None
    return machine if machine is not None and machine in _running else None  # else that task is over


def _worker() -> str | None:
    """What stands for the worker: its name, as any thread may do its work; nothing in a process that is a worker."""
    machine = None if in_worker else _outermost() or current.get()
    return machine.worker if machine is not None else None


class _Same:
    """Equal for the same object only; for what has no hash."""

    __slots__ = ("it",)

    def __init__(self, it: Any) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.it is self.it

    def __hash__(self) -> int:
        return id(self.it)


def _typed(x: Any) -> Any:
    """A key for a value that tells 1 from True and 1.0, also in tuples."""
    kind = type(x)
    if kind is tuple:
        return kind, tuple(map(_typed, x))
    if kind is frozenset:
        return kind, frozenset(map(_typed, x))
    try:
        hash(x)
    except TypeError:
        return kind, _Same(x)
    return kind, x


def _identity(f: Any, outer: tuple[Any, ...]) -> Any:
    """A key for a factory. A function that travelled by value is a new object in each task: what it does counts."""
    if any(f is g for g in outer):
        return "itself", [f is g for g in outer].index(True)  # a function may close over itself
    outer = (*outer, f)
    kind = type(f)
    if kind is types.MethodType:
        return kind, _identity(f.__func__, outer), _typed(f.__self__)
    if kind is functools.partial:
        keywords = tuple((k, _part(v, outer)) for k, v in sorted(f.keywords.items()))
        return kind, _identity(f.func, outer), tuple(_part(v, outer) for v in f.args), keywords
    if kind is not types.FunctionType:
        return _typed(f)
    cells = tuple(_cell(c, outer) for c in f.__closure__ or ())
    defaults = tuple(_part(v, outer) for v in f.__defaults__ or ())
    keywords = tuple((k, _part(v, outer)) for k, v in sorted((f.__kwdefaults__ or {}).items()))
    return kind, f.__module__, f.__qualname__, f.__code__, defaults, keywords, cells


def _part(x: Any, outer: tuple[Any, ...]) -> Any:
    return _identity(x, outer) if type(x) in (types.FunctionType, types.MethodType, functools.partial) else _typed(x)


def _cell(cell: types.CellType, outer: tuple[Any, ...]) -> Any:
    try:
        return _part(cell.cell_contents, outer)
    except ValueError:  # not filled yet
        return None
