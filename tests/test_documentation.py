"""The documentation is true: its Python blocks and commands run, its links lead somewhere, no public name is missing.

The Python blocks of a page become one script in which every line stands where it does in the page, so that a traceback
names the page's line. A ```text block straight after one is what it prints ("..." stands for any text). Blocks marked
```python no-run, or that begin with the comment `# not run`, are left out. ```python file=NAME is a file for the
commands in ```console blocks, lines that begin with `$ graphray`; what follows each is what that prints.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

MARK = "--- end of block ---"
FENCE = re.compile(r"^```(\w+)?(.*)$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"file=(\S+)")


@dataclass
class Block:
    """A fenced block: where its first line is (from 0), and what is in it."""

    language: str
    flags: str
    first: int
    lines: list[str]

    @property
    def last(self) -> int:
        return self.first + len(self.lines)  # the closing fence

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def file(self) -> str | None:
        found = FILE.search(self.flags)
        return found and found[1]

    @property
    def runs(self) -> bool:
        marked = "no-run" in self.flags or self.file or self.text.startswith("# not run")
        return self.language == "python" and not marked


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    block = None
    for number, line in enumerate(text.splitlines()):
        fence = FENCE.match(line)
        if block is None and fence:
            block = Block(fence[1] or "", fence[2], number + 1, [])
        elif block is not None and line == "```":
            found.append(block)
            block = None
        elif block is not None:
            block.lines.append(line)
    assert block is None, "a block without an end"
    return found


def script_of(text: str) -> tuple[str, list[str | None]]:
    """The page as a script, and what each block that runs is said to print (None: nothing is said)."""
    lines = text.splitlines()
    script = [""] * len(lines)
    expected: list[str | None] = []
    found = blocks(text)
    for block, following in zip(found, [*found[1:], None], strict=True):
        if not block.runs:
            continue
        script[block.first : block.last] = block.lines
        script[block.last] = f"print({MARK!r}, flush=True)"
        is_output = (
            following is not None
            and following.language == "text"
            and not "".join(lines[block.last + 1 : following.first - 1])
        )
        expected.append(following.text if is_output else None)
    return "\n".join(script) + "\n", expected


def commands_of(block: Block) -> list[tuple[list[str], str]]:
    """The commands of a console block, and what each prints."""
    _, *parts = re.split(r"^\$ graphray ", block.text, flags=re.MULTILINE)
    return [(shlex.split(command), output) for command, _, output in (part.partition("\n") for part in parts)]


def pages(has) -> list[Path]:
    return [page for page in PAGES if any(map(has, blocks(page.read_text("utf-8"))))]


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    # A wide terminal: help texts are not wrapped differently from machine to machine.
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=110, check=False)


def assert_prints(want: str, got: str) -> None:
    if not doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS):
        pytest.fail(f"the page says:\n{want}\nit prints:\n{got}", pytrace=False)


@pytest.mark.parametrize("page", pages(lambda block: block.runs), ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_and_print_what_it_says(page, tmp_path):
    source, expected = script_of(page.read_text("utf-8"))
    script = tmp_path / page.with_suffix(".py").name
    script.write_text(source, "utf-8")
    done = python("-W", "error", script.name, cwd=tmp_path)
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    for want, got in zip(expected, done.stdout.split(MARK + "\n")[:-1], strict=True):
        if want is not None:
            assert_prints(want, got)


@pytest.mark.parametrize("page", pages(lambda block: block.language == "console"), ids=lambda page: page.name)
def test_the_commands_of_a_page_print_what_it_says(page, tmp_path):
    for block in blocks(page.read_text("utf-8")):
        if block.file:
            (tmp_path / block.file).write_text(block.text, "utf-8")
        elif block.language == "console":
            for arguments, want in commands_of(block):
                done = python("-m", "graphray", *arguments, cwd=tmp_path)
                assert_prints(want, done.stdout + done.stderr)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_to_files_that_are_there(page):
    links = [link.partition("#")[0] for link in LINK.findall(page.read_text("utf-8"))]
    missing = [link for link in links if link and "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_every_public_name_is_in_the_reference():
    import graphray as gr

    reference = "\n".join(page.read_text("utf-8") for page in PAGES)
    names = set(re.findall(r"^\.\. auto\w+:: graphray\.(?:\w+\.)*(\w+)", reference, re.MULTILINE))
    assert set(gr.__all__) - names - {"executors"} == set()


@pytest.mark.parametrize("command", ["run", "show", "replay", "nodes check", "nodes setup"])
def test_every_option_of_a_command_is_in_its_page(command, tmp_path):
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    options = set(
        re.findall(
            r"^  (?:-\w, |-\w \w+, )?(--[\w-]+)",
            python("-m", "graphray", *command.split(), "--help", cwd=tmp_path).stdout,
            re.M,
        )
    )
    assert options
    assert {option for option in options if f"`{option}" not in page} == set()


def test_blocks_are_found_where_they_stand():
    page = "a\n```python\nx = 1\nprint(x)\n```\n\n```text\n1\n```\n```python no-run\nboom\n```\n"
    script, expected = script_of(page)
    assert script.splitlines()[2:5] == ["x = 1", "print(x)", f"print({MARK!r}, flush=True)"]
    assert expected == ["1\n"]
    assert "boom" not in script
