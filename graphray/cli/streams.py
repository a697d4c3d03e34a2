"""Standard output and error: what is said where, and what happens when nobody listens."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading

from graphray.cli.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def say(text: str) -> None:
    """A message for the user, on stderr."""
    with contextlib.suppress(OSError, ValueError):  # nobody listens there either
        sys.stderr.write(text.rstrip("\n") + "\n")
        sys.stderr.flush()


def put(text: str) -> None:
    """Part of what the command was asked for, on stdout; characters that its encoding lacks are escaped.

    Raises:
        BrokenPipeError: nobody reads it any more.
        UsageError: it cannot be written, as the disk is full.
    """
    out = sys.stdout
    with _writing():
        try:
            out.write(text + "\n")
        except UnicodeEncodeError:
            encoding = out.encoding or "ascii"
            out.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def flush_stdout() -> None:
    """Have everything written; raises what `put` does."""
    with _writing():
        sys.stdout.flush()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_stdout()
        raise UsageError(f"cannot write to stdout: {error.strerror}") from None


def open_standard_streams() -> None:
    """Give descriptors 0, 1 and 2 something to be where the caller has closed them (`>&-`).

    Else the next file or pipe that is opened would take their place, and be printed into.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            if opened != fd:
                os.dup2(opened, fd)
                os.close(opened)
            os.set_inheritable(fd, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, mode, closefd=False))


def give_up_stdout() -> None:
    """Nobody reads stdout any more: what is still to be written goes nowhere, so that the end is quiet."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def stdout_is_broken() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    try:
        return any(event & select.POLLERR for _, event in _poll_of_stdout().poll(0))
    except (OSError, ValueError, AttributeError):  # no such descriptor, or no poll on this system
        return False


@contextlib.contextmanager
def stdout_watched(broken: Callable[[], None]) -> Iterator[None]:
    """Inside, call a function as soon as nobody reads stdout any more, also while nothing is written there."""
    poll = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        poll = _poll_of_stdout()
    if poll is None:
        yield
        return
    end, over = os.pipe()
    poll.register(end, select.POLLIN)

    def watch() -> None:
        found = poll.poll()
        if any(event & select.POLLERR for fd, event in found if fd != end):
            broken()

    watcher = threading.Thread(target=watch, name="graphray-stdout", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        os.close(over)
        watcher.join()
        os.close(end)


def _poll_of_stdout() -> select.poll:
    poll = select.poll()
    poll.register(sys.stdout.fileno() if _kept is None else _kept, 0)
    return poll


_kept: int | None = None  # descriptor of stdout, while something else stands in its place


@contextlib.contextmanager
def stdout_kept(keep: bool) -> Iterator[None]:
    """Inside, what anybody prints goes to stderr: also worker processes, which inherit the descriptor.

    So nothing but the command's own result is on stdout, and a program can read it.
    """
    global _kept
    if not keep:
        yield
        return
    flush_stdout()
    saved = _kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()  # what was written past the redirection
        _kept = None
        os.dup2(saved, 1)
        os.close(saved)


def columns() -> int:
    """How wide what goes to stdout may be, in characters."""
    import shutil

    return max(20, shutil.get_terminal_size((100, 24)).columns)


def colour(stream: Any) -> bool:
    """Whether a stream is a terminal that is to have colours (see no-color.org)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and bool(stream.isatty())
