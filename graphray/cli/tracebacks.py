"""Tracebacks for users: their own frames first, without the machinery that called them."""

from __future__ import annotations

import importlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from traceback import FrameSummary, TracebackException

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_MACHINERY = (
    *[os.path.join(_PACKAGE, part) + os.sep for part in ("cli", "executors", "graph")],
    importlib.__file__,
    "<frozen importlib",
)


def of_task(error: BaseException) -> str:
    """The traceback of a task that failed, from the user's first frame on, with its notes.

    A failure that is graphray's to tell and has no user's frame, such as a result that cannot be sent, is its message
    alone. What nobody has a word for keeps all its frames: it is a bug of graphray's.
    """
    from traceback import TracebackException

    from graphray.errors import GraphrayError

    told = isinstance(error, GraphrayError) or any(n.startswith("graphray: ") for n in getattr(error, "__notes__", ()))
    shown = TracebackException.from_exception(error)
    if told or any(not _is_machinery(frame) for frame in shown.stack):
        for part in _parts(shown):
            _strip(part, 0, _is_machinery)
    return "".join(shown.format())


def of_users(error: BaseException) -> str:
    """The traceback of user's code that graphray called (a module imported, a pipeline built): the user's frames."""
    from traceback import TracebackException

    shown = TracebackException.from_exception(error)
    for part in _parts(shown):
        if any(not _is_machinery(frame) for frame in part.stack):
            _strip(part, 0, _is_machinery)
            _strip(part, -1, _is_machinery)
        else:
            part.stack.clear()
    return "".join(shown.format())


def _strip(part: TracebackException, end: int, unwanted: Callable[[FrameSummary], bool]) -> None:
    while part.stack and unwanted(part.stack[end]):
        del part.stack[end]


def _parts(error: TracebackException) -> Iterator[TracebackException]:
    """The exception, and those that led to it or are in it."""
    todo: list[TracebackException | None] = [error]
    while todo:
        part = todo.pop()
        if part is not None:
            yield part
            todo += [part.__cause__, part.__context__, *(part.exceptions or ())]


def _is_machinery(frame: FrameSummary) -> bool:
    return frame.filename.startswith(_MACHINERY)
