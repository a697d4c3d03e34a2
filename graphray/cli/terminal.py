"""The moving line of a run on a terminal (or its lines), kept below whatever tasks print meanwhile."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

CLEAR = "\r\x1b[K"
MARGIN = 3  # columns kept free: a line that wraps could not be taken away, and Ctrl-C shows as ^C behind it
LONGEST = 65536  # bytes without an end of line that are shown all the same


class Screen:
    """The stream a progress display writes its line to, and through which everything else on the terminal goes.

    What is printed takes the line away; the display draws it again, below. It may be a block of several lines.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._line = ""  # what stands in the last line of the terminal, if that is ours
        self._midline = False  # someone else's text ends without an end of line

    def isatty(self) -> bool:
        """It is a terminal."""
        return True

    def write(self, text: str) -> None:
        """Draw the display's line, which begins with a return, or end it."""
        with self._lock:
            if text == "\n":
                text = "\n" if self._line else ""
                self._line = ""
            else:
                before, room = self._line, self._columns() - MARGIN
                self._line = "\n".join([_cut(line, room) for line in text.removeprefix(CLEAR).split("\n")])
                text = ("\n" if self._midline else "") + _taking_away(before) + self._line
            self._midline = False
            _write(self._fd, text.encode("utf-8", "replace"))

    def flush(self) -> None:
        """Nothing is held back."""

    def fileno(self) -> int:
        """The terminal, for those who ask how large it is."""
        return self._fd

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._fd).columns or 80
        except OSError:
            return 80

    def clear(self) -> None:
        """Take the line away."""
        self.above(lambda: None, ended=not self._midline, again=False)

    def end(self) -> None:
        """Leave the terminal at the beginning of a line."""
        self.clear()
        if self._midline:
            _write(self._fd, b"\n")

    def above(self, write: Callable[[], Any], ended: bool, again: bool) -> None:
        """Have something of others printed where the line was.

        Args:
            write: prints it.
            ended: it ends with an end of line.
            again: draw the line again below, rather than leave that to the display.
        """
        with self._lock:
            line, self._line = self._line, ""
            if line:
                _write(self._fd, _taking_away(line).encode())
            write()
            self._midline = not ended
            if again and line and ended:
                self._line = line
                _write(self._fd, line.encode("utf-8", "replace"))


@contextlib.contextmanager
def screen(processes: bool) -> Iterator[Screen | None]:
    """A screen for the time of a run; None where stderr is no terminal.

    Args:
        processes: tasks run in other processes, which write to the descriptors they inherit: these are led through
            here. Else only this process's `sys.stdout` and `sys.stderr` are, and a debugger still finds its terminal.
    """
    if not _is_terminal(2) or not hasattr(os, "openpty"):
        yield None
        return
    terminal = os.dup(2)
    shown = Screen(terminal)
    try:
        if processes:
            with contextlib.ExitStack() as stack:
                for fd in (1, 2):
                    if _is_terminal(fd):
                        stack.enter_context(_led_through(shown, fd))
                yield shown
        else:
            out, err = _Above(shown, sys.stdout), _Above(shown, sys.stderr)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield shown
    finally:
        shown.end()
        os.close(terminal)


@contextlib.contextmanager
def _led_through(shown: Screen, fd: int) -> Iterator[None]:
    """What this process and those it starts write to a descriptor comes out above the line.

    They write to a terminal still, a pseudo one, so that lines come as they are printed, and in colours.
    """
    terminal = os.dup(fd)
    source, sink = _pseudo_terminal(terminal)
    stopping, stop = os.pipe()

    def show(data: bytes) -> None:
        shown.above(lambda: _write(terminal, data), ended=data.endswith(b"\n"), again=True)

    relay = threading.Thread(target=_relay, args=(source, stopping, show), name="graphray-screen", daemon=True)
    _flush()
    os.dup2(sink, fd)
    relay.start()
    try:
        yield
    finally:
        _flush()
        os.dup2(terminal, fd)
        os.close(stop)  # there is no end of `source` to wait for: a process that outlives us may hold it open
        relay.join()
        for descriptor in (source, sink, stopping, terminal):
            os.close(descriptor)


def _pseudo_terminal(like: int) -> tuple[int, int]:
    """The two ends of a pseudo terminal as wide as another one, which hands on what is written as it is."""
    import termios

    source, sink = os.openpty()
    attributes = termios.tcgetattr(sink)
    attributes[1] &= ~termios.OPOST  # the real one sees to returns
    termios.tcsetattr(sink, termios.TCSANOW, attributes)
    with contextlib.suppress(termios.error):
        termios.tcsetwinsize(sink, termios.tcgetwinsize(like))
    return source, sink


def _relay(source: int, stopping: int, show: Callable[[bytes], None]) -> None:
    """Show whole lines as they come until told to stop, then what is left."""
    import selectors

    os.set_blocking(source, False)
    held = b""
    patience = 64  # reads after the end: someone who outlives the run may go on printing
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        selector.register(stopping, selectors.EVENT_READ)
        while patience:
            stopped = any(key.fd == stopping for key, _ in selector.select())
            patience -= stopped
            try:
                held += os.read(source, LONGEST)
            except BlockingIOError:
                if stopped:
                    break
            end = held.rfind(b"\n") + 1 or (len(held) if len(held) >= LONGEST else 0)
            if end:
                show(held[:end])
                held = held[end:]
    if held:
        show(held)


class _Above:
    """A text stream of this process whose writing goes above the line; all else is the stream's own."""

    def __init__(self, shown: Screen, stream: Any) -> None:
        self._shown = shown
        self._stream = stream

    def write(self, text: str) -> int:
        if text:
            self._shown.above(lambda: self._print(text), ended=text.endswith("\n"), again=False)
        return len(text)

    def _print(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _taking_away(line: str) -> str:
    """What takes a line, or a block of lines, off the terminal when the cursor is in its last one."""
    return CLEAR + "\x1b[A\x1b[K" * line.count("\n")


def _cut(line: str, room: int) -> str:
    """A line of at most so many columns; a colour takes none."""
    if "\x1b" not in line:
        return line[:room]
    import re

    parts, left = [], room
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b"):
            parts.append(part)
        else:
            parts.append(part[:left])
            left -= len(parts[-1])
    return "".join(parts)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    with contextlib.suppress(OSError):  # the terminal is gone: a display may not harm the run
        while view:
            view = view[os.write(fd, view) :]
