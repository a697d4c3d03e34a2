"""The command line on a terminal: the moving line, what tasks print meanwhile, and colours."""

from __future__ import annotations

import fcntl
import os
import pathlib
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time

import pytest


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a pipeline into an empty working directory; gives its name."""
    monkeypatch.chdir(tmp_path)

    def write(source: str) -> str:
        pathlib.Path("flow.py").write_text(textwrap.dedent(source), "utf-8")
        return "flow.py"

    return write


def on_a_terminal(*arguments: str, columns: int = 80, **environment: str) -> tuple[int, str]:
    """The exit status, and everything that came to the terminal."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")} | {"TERM": "xterm", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "graphray", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    seen = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and select.select([ours], [], [], 60)[0]:
        try:
            data = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            data = b""
        if not data:
            break
        seen += data
    status = process.wait(timeout=60)
    os.close(ours)
    return status, seen.decode("utf-8")


def screen_after(text: str) -> list[str]:
    """The lines that a terminal shows in the end: returns, ends of line, and 'erase to the end of the line'."""
    lines = [""]
    column = 0
    for part in re.split(r"(\r|\n|\x1b\[K|\x1b\[[0-9]*m)", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            lines.append("")
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:column]
        elif not part.startswith("\x1b"):
            lines[-1] = lines[-1][:column].ljust(column) + part + lines[-1][column + len(part) :]
            column += len(part)
    return lines


TALKING = """
    import sys, time
    import graphray as gr

    @gr.task
    def step(i):
        print("line", i)
        print("warning", i, file=sys.stderr)
        time.sleep(0.15)
        return sys.stdout.isatty() and sys.stderr.isatty()

    graph = gr.Graph(x=gr.combine(all, gr.map(step, range(6))), y=gr.call(print, "no end", end=""))
"""


@pytest.mark.parametrize("executor", ["loky:1", "inprocess"])
@pytest.mark.parametrize("columns", [80, 36])
def test_the_moving_line_stays_below_what_tasks_print(write, executor, columns):
    status, seen = on_a_terminal("run", write(TALKING), "--executor", executor, columns=columns)
    assert status == 0
    assert "━" in seen
    drawn = [part for part in re.split(r"[\r\n]|\x1b\[K", seen) if "━" in part or "─" in part]
    assert len(drawn) >= 3
    assert max(map(len, drawn)) < columns  # one that wraps could not be taken away
    lines = screen_after(seen)
    assert not any("━" in line or "─" in line for line in lines[:-1])
    said = " ".join(lines) if columns == 36 else "\n".join(lines)  # the terminal breaks what is longer
    for i in range(6):
        assert f"line {i}" in said
        assert f"warning {i}" in said
    assert lines[-3:] == ["x  True", "y  None", ""]


def test_colours_are_for_terminals_that_want_them(write):
    write("import graphray as gr\ngraph = gr.Graph(total=gr.value(1))\n")
    assert "\x1b[1mtotal\x1b[0m" in on_a_terminal("run", "flow.py", "--executor", "inprocess")[1]
    for setting in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b[1m" not in on_a_terminal("run", "flow.py", "--executor", "inprocess", "-q", **setting)[1]
