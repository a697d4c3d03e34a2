"""Programs on a terminal: a pseudo one, of which everything that comes to it is kept."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence

PATIENCE = 60.0  # seconds


def on_a_terminal(
    command: Sequence[object],
    *,
    columns: int = 80,
    question: bytes = b"",
    answer: str | signal.Signals = "",
    **environment: str,
) -> tuple[int, str]:
    """The exit status of a program, and everything that came to its terminal.

    Args:
        command: the program and its arguments.
        columns: the terminal's width.
        question: once that is seen, `answer` is typed, or given if it is a signal.
        answer: see there.
        environment: variables beside those of this process; TERM is xterm, and nothing speaks against colours.
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")} | {"TERM": "xterm", **environment}
    process = subprocess.Popen([str(x) for x in command], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and select.select([ours], [], [], PATIENCE)[0]:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            data = b""
        if not data:
            break
        if question and question not in seen and question in seen + data:
            if isinstance(answer, str):
                os.write(ours, answer.encode())
            else:
                process.send_signal(answer)
        seen += data
    status = process.wait(timeout=PATIENCE)
    os.close(ours)
    return status, seen.decode("utf-8")


def screen_after(text: str) -> list[str]:
    """The lines that a terminal shows in the end: returns, ends of line, erasing a line's end, going up."""
    lines = [""]
    row = column = 0
    for part in re.split(r"(\r|\n|\x1b\[[KA]|\x1b\[[0-9]*m)", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif part == "\x1b[A":
            row -= 1
        elif part == "\x1b[K":
            lines[row] = lines[row][:column]
        elif not part.startswith("\x1b"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return lines[: row + 1]
