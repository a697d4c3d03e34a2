"""The command line on a terminal: the moving line, what tasks print meanwhile, and colours."""

from __future__ import annotations

import pathlib
import re
import sys
import textwrap
from typing import Any

import pytest
from terminals import on_a_terminal, screen_after


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a pipeline into an empty working directory; gives its name."""
    monkeypatch.chdir(tmp_path)

    def write(source: str) -> str:
        pathlib.Path("flow.py").write_text(textwrap.dedent(source), "utf-8")
        return "flow.py"

    return write


def graphray(*arguments: str, **options: Any) -> tuple[int, str]:
    """The exit status of a command, and everything that came to the terminal."""
    return on_a_terminal([sys.executable, "-m", "graphray", *arguments], **options)


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
    status, seen = graphray("run", write(TALKING), "--executor", executor, columns=columns)
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
    assert "\x1b[1mtotal\x1b[0m" in graphray("run", "flow.py", "--executor", "inprocess")[1]
    for setting in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b[1m" not in graphray("run", "flow.py", "--executor", "inprocess", "-q", **setting)[1]
