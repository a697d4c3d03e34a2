"""The two small examples: what they compute, on every engine, from the command line, and as scripts."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The examples' directory is on the path, as it is for a script in it, so that workers find the functions."""
    sys.path.insert(0, str(EXAMPLES))
    yield
    sys.path.remove(str(EXAMPLES))
    for name in ("hello", "word_count"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def hello(importable):
    return importlib.import_module("hello")


@pytest.fixture(scope="module")
def word_count(importable):
    return importlib.import_module("word_count")


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; its temporary files go to `cwd`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=cwd,
        env={**os.environ, "TMPDIR": str(cwd)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def counted(directory: Path) -> Counter[str]:
    """The words of all files in a directory, counted the plain way."""
    return Counter(re.findall("[a-z]+", "".join(f.read_text("utf-8") for f in directory.rglob("*.txt")).lower()))


# ---- hello


def test_hello_greets_everyone(hello, loky):
    expected = {"greeting": "Hello, Ada! Hello, Emmy! Hello, Grace!"}
    assert hello.graph.compute() == expected
    assert hello.graph.compute(executor=loky) == expected


def test_hello_runs_as_a_script(tmp_path):
    assert run(EXAMPLES / "hello.py", cwd=tmp_path) == "Hello, Ada! Hello, Emmy! Hello, Grace!\n"


def test_hello_runs_from_the_command_line(tmp_path):
    printed = run("-m", "graphray", "run", EXAMPLES / "hello.py", "--json", cwd=tmp_path)
    assert json.loads(printed)["results"] == {"greeting": "Hello, Ada! Hello, Emmy! Hello, Grace!"}


# ---- word count


@pytest.mark.parametrize("files", [1, 3, 40])
def test_words_are_counted_as_a_plain_counter_does(word_count, loky, tmp_path, files):
    graph = word_count.pipeline(files=files, mb=0.2, top=7, dir=str(tmp_path))
    words = counted(tmp_path)
    in_order = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    expected = {"top": in_order[:7], "total": words.total()}
    assert words.total() > 10_000
    assert graph.compute() == expected
    assert graph.compute(executor=loky) == expected


def test_equally_common_words_are_in_alphabetical_order(word_count):
    words = Counter({"b": 2, "c": 1, "a": 2, "d": 3})
    assert word_count.most_common.fn(words, 3) == [("d", 3), ("a", 2), ("b", 2)]


def test_counts_are_added_and_left_as_they_are(word_count):
    first, second = Counter("aab"), Counter("bc")
    assert word_count.together([first, second]) == Counter(a=2, b=2, c=1)
    assert (first, second) == (Counter("aab"), Counter("bc"))


def test_a_node_counts_one_file_and_counts_are_combined_in_a_tree(word_count, tmp_path):
    graph = word_count.pipeline(files=40, mb=0.01, dir=str(tmp_path))
    calls = Counter(node.task.name for node in graph.nodes)
    assert calls["count"] == 40
    assert calls["together"] == 4  # of 16, 16 and 8 files, and of these three


def test_the_texts_are_the_same_wherever_they_are_written(word_count, tmp_path):
    directories = [Path(word_count.write_texts(str(tmp_path / name), 3, 30_000)) for name in ("a", "b")]
    first, second = ({f.name: f.read_bytes() for f in d.iterdir()} for d in directories)
    assert first == second
    assert len(set(first.values())) == 3
    assert sum(map(len, first.values())) == pytest.approx(30_000, rel=0.02)


def test_texts_that_are_there_are_not_written_again(word_count, tmp_path):
    def written() -> dict[str, int]:
        return {f.name: f.stat().st_mtime_ns for f in Path(word_count.write_texts(str(tmp_path), 3, 3_000)).iterdir()}

    first = written()
    (tmp_path / "word_count-3-files-3000-bytes" / "00001.txt").unlink()
    second = written()
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] == second[name]} == {"00000.txt", "00002.txt"}


def test_other_parameters_use_other_files(word_count, tmp_path):
    few = word_count.pipeline(files=2, mb=0.01, dir=str(tmp_path)).compute()
    word_count.pipeline(files=4, mb=0.01, dir=str(tmp_path))
    assert word_count.pipeline(files=2, mb=0.01, dir=str(tmp_path)).compute() == few


@pytest.mark.parametrize("wrong", [{"files": 0}, {"mb": -1.0}])
def test_no_files_and_no_size_are_refused(word_count, tmp_path, wrong):
    with pytest.raises(ValueError, match="a file or more"):
        word_count.pipeline(dir=str(tmp_path), **wrong)


def test_word_count_runs_as_a_script_on_megabytes(tmp_path):
    lines = run(EXAMPLES / "word_count.py", cwd=tmp_path).splitlines()
    words = counted(tmp_path)
    assert sum(f.stat().st_size for f in tmp_path.rglob("*.txt")) > 7_900_000
    assert lines[-1].split() == [f"{words.total():,}", "words"]
    assert lines[0].split() == [f"{max(words.values()):,}", max(words, key=words.__getitem__)]
    assert len(lines) == 11


def test_word_count_runs_from_the_command_line(tmp_path):
    settings = [f"--set={each}" for each in ("files=5", "mb=0.1", "top=2", f"dir={tmp_path / 'texts'}")]
    printed = run("-m", "graphray", "run", EXAMPLES / "word_count.py", "--json", *settings, cwd=tmp_path)
    words = counted(tmp_path)
    top = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:2]
    assert json.loads(printed)["results"] == {"top": [list(each) for each in top], "total": words.total()}
