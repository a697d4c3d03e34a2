"""`graphray cache`: what it lists, shows and removes, and what it says where it cannot."""

from __future__ import annotations

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest
from terminals import on_a_terminal

from graphray.cli import main
from graphray.executors import wire
from graphray.executors.cache import Cache
from graphray.graph.containers import freeze


class Done(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The default directory of this test, which is not there yet."""
    monkeypatch.setenv("GRAPHRAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def run(capsys):
    """Run `graphray cache …` in this process."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        status = main(["cache", *arguments])
        return Done(status, *capsys.readouterr())

    return run


# What is kept: name, task, value, seconds that it took, and how many hours ago it was used.
KEPT = {
    "a": ("flow.clean", "short", 2.0, 5),
    "b": ("flow.clean", "x" * 5000, 0.25, 3),
    "c": ("flow.train", freeze(np.arange(100_000)), 7000.0, 100),
    "d": ("train", {"mean": 0.5}, None, 1),
}


def key_of(name: str) -> str:
    return name * 2 + random.Random(name).randbytes(19).hex()


@pytest.fixture
def cache(place):
    """A cache with some results."""
    cache = Cache()
    for name, (task, value, seconds, hours) in KEPT.items():
        info = {"task": task, "label": f"{task.split('.')[-1]}({name!r})", "seconds": seconds}
        cache.store(bytes.fromhex(key_of(name)), wire.dumps(value), info)
        then = time.time() - 3600 * hours - 60
        os.utime(file_of(name), (then, then))
    yield cache
    cache.close()


def file_of(name: str) -> pathlib.Path:
    return pathlib.Path("cache", "objects", key_of(name)[:2], key_of(name))


def left() -> str:
    return "".join(sorted(name for name in KEPT if file_of(name).exists()))


def labels(text: str) -> str:
    """The names in the table's last column, in its order."""
    return "".join(re.findall(r"\('(.)'\)$", text, re.MULTILINE))


# ---- listing


def test_ls_lists_what_is_kept_last_used_first(run, cache):
    done = run("ls")
    assert (done.status, done.err) == (0, "")
    head, *rows, empty, total = done.out.splitlines()
    assert head.split() == ["used", "size", "took", "key", "what"]
    assert labels(done.out) == "dbac"
    assert rows[1].split() == ["3", "h", "5.2", "kB", "0.25", "s", key_of("b")[:12], "clean('b')"]
    assert rows[0].split() == ["1", "h", str(file_of("d").stat().st_size), "B", key_of("d")[:12], "train('d')"]
    assert rows[3].split()[:6] == ["4", "d", "800", "kB", "1.9", "h"]
    assert empty == ""
    assert re.fullmatch(rf"4 results, 806 kB of [\d.]+ GB, in {cache.directory}", total)


@pytest.mark.parametrize(("by", "order"), [("used", "dbac"), ("made", "dbac"), ("size", "cbda"), ("time", "cabd")])
def test_ls_sorts(run, cache, by, order):
    assert labels(run("ls", "--sort", by).out) == order


def test_ls_sorts_by_task(run, cache):
    assert labels(run("ls", "--sort", "task").out) == "abcd"


def test_ls_of_a_task(run, cache):
    assert labels(run("ls", "--task", "train").out) == "dc"
    done = run("ls", "--task", "flow.clean")
    assert labels(done.out) == "ba"
    assert done.out.endswith("\n2 results of flow.clean, 5.4 kB\n")
    assert run("ls", "--task", "rain").out == "0 results of rain, 0 B\n"


def test_ls_as_json(run, cache):
    document = json.loads(run("ls", "--json").out)
    assert document["cache"] == cache.directory
    assert document["bytes"] == cache.size()
    assert document["limit"] == cache.limit
    first = document["entries"][0]
    assert first["key"] == key_of("d")
    assert (first["task"], first["label"], first["seconds"]) == ("train", "train('d')", None)
    assert first["bytes"] == file_of("d").stat().st_size
    assert abs(first["used"] - file_of("d").stat().st_atime) < 1e-3
    assert {e["key"] for e in document["entries"]} == {key_of(name) for name in KEPT}


def test_labels_that_would_do_something_to_the_terminal_do_not(run, cache):
    cache.store(b"\xee" * 20, wire.dumps(1), {"task": "t", "label": "t(\x1b]0;evil\x07\n)"})
    for done in (run("ls"), run("show", "ee")):
        assert "evil" in done.out
        assert "\x1b" not in done.out
        assert "\x07" not in done.out


def test_looking_makes_no_cache_and_uses_nothing(run, cache, place):
    before = file_of("a").stat().st_atime_ns
    run("ls")
    run("show", key_of("a"))
    run("verify")
    assert file_of("a").stat().st_atime_ns == before or not hasattr(os, "O_NOATIME")
    for action in ("ls", "prune", "verify"):
        done = run(action, "--cache", "elsewhere")
        assert done == Done(0, "", f"there is no cache in {place.parent}/elsewhere yet\n")
    pathlib.Path("empty").mkdir()
    assert run("ls", "--cache", "empty").status == 0
    assert os.listdir("empty") == []
    assert not os.path.exists("elsewhere")
    document = {"cache": f"{place.parent}/elsewhere", "bytes": 0, "limit": None, "entries": []}
    assert json.loads(run("ls", "--cache", "elsewhere", "--json").out) == document
    for arguments in (("show", "a"), ("rm", "a"), ("rm", "--all", "--yes")):
        done = run(*arguments, "--cache", "elsewhere")
        assert done.status == 2
        assert "there is no cache in" in done.err


# ---- one result


def test_show_tells_what_is_known(run, cache):
    done = run("show", key_of("c")[:5])
    assert (done.status, done.err) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert facts["what"] == "train('c')"
    assert facts["task"] == "flow.train"
    assert facts["key"] == key_of("c")
    assert facts["size"] == f"800 kB ({file_of('c').stat().st_size:,} bytes)"
    assert facts["took"] == "1.9 h"
    assert facts["used"].endswith("(4 d ago)")
    assert facts["file"] == str(file_of("c").absolute())


def test_show_with_the_value(run, cache):
    assert run("show", "dd", "--value").out.endswith("\n\n{mean: 0.5}\n")
    assert run("show", "cc", "--value").out.splitlines()[-1].startswith("int64[100000]  0, 1, 2")
    document = json.loads(run("show", "dd", "--value", "--json").out)
    assert document["value"] == {"mean": 0.5}
    assert document["key"] == key_of("d")
    assert "value" not in json.loads(run("show", "dd", "--json").out)


class Bomb:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("exploded"),)


def test_only_value_runs_what_is_in_the_cache_and_the_help_says_so(run, cache):
    cache.store(b"\xee" * 20, wire.dumps(Bomb()), {"task": "t", "label": "bomb"})
    for arguments in (("ls",), ("show", "ee"), ("show", "ee", "--json"), ("verify",), ("prune",)):
        assert run(*arguments).status == 0
    assert not os.path.exists("exploded")
    assert run("show", "ee", "--value").status == 0
    assert os.path.exists("exploded")
    assert "runs code out of the cache" in " ".join(run("show", "--help").out.split())


def test_a_value_that_cannot_be_loaded_here(run, cache):
    pathlib.Path("gone_module.py").write_text("class Thing: pass\n")
    sys.path.insert(0, os.getcwd())
    try:
        import gone_module  # type: ignore[import-not-found]

        cache.store(b"\xee" * 20, wire.dumps(gone_module.Thing()), {"task": "t", "label": "thing"})
    finally:
        sys.path.remove(os.getcwd())
        del sys.modules["gone_module"]
    before = list(sys.path)
    assert "Thing object" in run("show", "ee", "--value").out  # modules beside which one stands are found
    del sys.modules["gone_module"]
    os.rename("gone_module.py", "other_module.py")
    done = run("show", "ee", "--value")
    assert done.status == 2
    assert "cannot be loaded here: ModuleNotFoundError: No module named 'gone_module'" in done.err
    assert done.err.count("\n") == 1
    assert sys.path == before


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("f", "no key begins with f "),
        ("xyz", "'xyz' is no key"),
        ("", "'' is no key"),
        ("a" * 41, "is no key"),
        ("../../etc", "is no key"),
        ("a", "2 keys begin with a: "),
    ],
)
def test_keys_that_name_nothing_or_too_much(run, cache, start, message):
    cache.store(b"\xaf" * 20, wire.dumps(1), {})
    before = left()
    for action in ("show", "rm"):
        done = run(action, start)
        assert done.status == 2
        assert message in done.err
        assert done.err.startswith("graphray cache: ")
    assert left() == before
    assert run("show", key_of("a").upper()).status == 0


# ---- removing


def test_rm_by_key(run, cache):
    done = run("rm", "aa", key_of("c"), "aa")
    assert done == Done(0, "removed 2 results, 801 kB\n", "")
    assert left() == "bd"


def test_rm_by_task(run, cache):
    assert run("rm", "--task", "train", "--yes").out == "removed 2 results, 801 kB\n"
    assert left() == "ab"
    done = run("rm", "--task", "nobody")
    assert done.status == 2
    assert "no result of a task 'nobody'" in done.err


def test_rm_all_removes_what_cannot_be_read_too(run, cache):
    file_of("a").write_bytes(b"")
    assert run("rm", "--all", "--yes").status == 0
    assert list(cache.keys()) == []
    assert run("rm", "--all").out == "removed 0 results, 0 B\n"


@pytest.mark.parametrize("arguments", [("--all",), ("--task", "train")])
def test_rm_of_many_wants_a_yes_where_nobody_can_be_asked(run, cache, arguments):
    done = run("rm", *arguments)
    assert (done.status, done.out) == (2, "")
    assert "--yes" in done.err
    assert len(done.err.splitlines()) == 1
    assert left() == "abcd"


@pytest.mark.parametrize("arguments", [(), ("--all", "aa"), ("--task", "train", "--all"), ("--task", "train", "aa")])
def test_rm_wants_to_know_what(run, cache, arguments):
    done = run("rm", *arguments)
    assert done.status == 2
    assert "what is to be removed?" in done.err
    assert left() == "abcd"


def test_prune(run, cache):
    done = run("prune", "--older-than", "4d")
    assert done.status == 0
    assert done.out.splitlines()[0] == "removed 1 result, 800 kB"
    assert re.match(r"left: 3 results, 5.\d kB of [\d.]+ GB, in ", done.out.splitlines()[1])
    assert left() == "abd"
    assert run("prune", "--older-than", "4.5h").out.startswith("removed 1 result,")
    assert left() == "bd"
    assert run("prune", "--size", "1 kB").out.startswith("removed 1 result,")
    assert left() == "d"
    assert run("prune").out.startswith("removed 0 results, 0 B")
    assert run("prune", "--size", "0").out.startswith("removed 1 result,")
    assert left() == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "much"), "--size much: a size is a number of bytes, or such as 5GB"),
        (("--size", "-1"), "--size"),
        (("--older-than", "30"), "--older-than 30: a time is a number with s, m, h, d or w"),
        (("--older-than", "yesterday"), "--older-than yesterday"),
    ],
)
def test_prune_refuses_what_is_no_size_or_time(run, cache, arguments, message):
    done = run("prune", *arguments)
    assert done.status == 2
    assert message in done.err
    assert left() == "abcd"


# ---- checking


def test_verify(run, cache):
    assert run("verify") == Done(0, "4 results are whole\n", "")
    with open(file_of("b"), "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0")
    file_of("c").write_bytes(b"")
    done = run("verify")
    assert (done.status, done.err) == (1, "")
    assert sorted(done.out.splitlines()[:-1]) == [
        f"removed {key_of('b')}: its content has changed",
        f"removed {key_of('c')}: it does not begin as an entry does",
    ]
    assert done.out.splitlines()[-1] == "2 results are whole, 2 damaged"
    assert left() == "ad"
    assert run("verify").status == 0


def test_what_is_damaged_is_not_shown(run, cache):
    with open(file_of("b"), "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0")
    file_of("a").write_bytes(b"")
    assert labels(run("ls", "--sort", "size").out) == "cbd"
    for name, more in (("b", ("--value",)), ("a", ())):
        done = run("show", name * 2, *more)
        assert (done.status, done.out) == (2, "")
        assert "is damaged" in done.err
        assert "graphray cache verify" in done.err


# ---- where, and whose


def test_path(run, place, monkeypatch):
    assert run("path") == Done(0, f"{place}\n", "")
    assert run("path", "--cache", "x/../y") == Done(0, f"{place.parent}/y\n", "")
    monkeypatch.delenv("GRAPHRAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert run("path").out == "/xdg/graphray\n"
    assert not place.exists()


@pytest.mark.parametrize("action", [("ls",), ("show", "a"), ("rm", "--all"), ("prune",), ("verify",)])
def test_what_is_no_cache_is_left_alone(run, cache, action, place):
    pathlib.Path("mine").mkdir()
    pathlib.Path("mine", "thesis.tex").write_text("long work")
    done = run(*action, "--cache", "mine")
    assert done.status == 2
    assert "is no cache of graphray, and has other files in it (thesis.tex)" in done.err
    assert os.listdir("mine") == ["thesis.tex"]
    assert "is a file" in run(*action, "--cache", "mine/thesis.tex").err
    place.chmod(0o777)
    done = run(*action)
    assert done.status == 2
    assert "others can write to the cache" in done.err
    assert "chmod go-w" in done.err
    place.chmod(0o700)
    assert left() == "abcd"


def test_without_an_action_there_is_the_help(run):
    done = run()
    assert done.status == 2
    assert done.out == ""
    for action in ("ls", "show", "rm", "prune", "verify", "path"):
        assert re.search(rf"^    {action} ", done.err, re.MULTILINE)
        told = run(action, "--help")
        assert told.status == 0
        assert "--cache DIR" in told.out
    assert run("--help").status == 0
    assert "did you mean '--cache'" in run("ls", "--cach", "x").err


def test_the_results_of_a_run_are_listed_and_loaded(run, place):
    pathlib.Path("flow.py").write_text(
        "import graphray as gr\n"
        "class Model:\n    def __init__(self, x): self.x = x\n    def __repr__(self): return f'Model of {self.x}'\n"
        "@gr.task\ndef fit(x): return Model(x)\n"
        "graph = gr.Graph(model=fit(3))\n"
    )
    command = [sys.executable, "-m", "graphray"]
    subprocess.run(
        [*command, "run", "flow.py", "--cache", place, "--quiet"], check=True, capture_output=True, timeout=60
    )
    (entry,) = json.loads(run("ls", "--json", "--task", "fit").out)["entries"]
    assert entry["label"] == "fit(3)"
    assert entry["seconds"] >= 0
    shown = subprocess.run(
        [*command, "cache", "show", entry["key"], "--value"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.endswith("\n\nModel of 3\n")


# ---- on a terminal


def asked(answer: str | signal.Signals, *arguments: str) -> tuple[int, str]:
    """The exit status, and what was shown, with an answer or a signal given as soon as there is a question."""
    command = [sys.executable, "-m", "graphray", "cache", *arguments]
    return on_a_terminal(command, question=b"[y/N]", answer=answer)


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04", "what\n"])
def test_who_can_be_asked_is_asked_before_many_go(cache, answer):
    status, text = asked(answer, "rm", "--all")
    assert f"Remove 4 results from {cache.directory}? [y/N]" in text
    assert "nothing was removed" in text
    assert status == 1
    assert left() == "abcd"


def test_who_says_yes_is_obeyed(cache):
    status, text = asked("y\n", "rm", "--task", "clean")
    assert "Remove 2 results" in text
    assert "removed 2 results" in text
    assert (status, left()) == (0, "cd")
    status, text = asked("", "rm", "--all", "--yes")
    assert "[y/N]" not in text
    assert (status, left()) == (0, "")


def test_an_interrupted_question_removes_nothing(cache):
    status, text = asked(signal.SIGINT, "rm", "--all")
    assert status == 130
    assert "interrupted" in text
    assert left() == "abcd"


def test_colours_are_for_terminals(run, cache):
    assert "\x1b[1m" in asked("", "ls")[1]
    assert "\x1b" not in run("ls").out


def test_nobody_reads_on(cache):
    for i in range(3000):
        cache.store(random.Random(i).randbytes(20), wire.dumps(i), {"task": "many", "label": f"many({i})"})
    command = f"{sys.executable} -m graphray cache ls | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 141
    assert done.stderr == ""
    assert done.stdout.split() == ["used", "size", "took", "key", "what"]
