"""Failure capsules, and `graphray replay`: what failed anywhere fails again here, with what it was given."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphray as gr
from graphray.cli import main
from graphray.executors.capsule import MAGIC, MOST, Capsule
from graphray.testing.tasks import add, note, notes

ENGINES = ["inprocess", "loky"]


@pytest.fixture(params=ENGINES)
def engine(request, loky):
    return "inprocess" if request.param == "inprocess" else loky


@pytest.fixture
def failures(tmp_path):
    """The directory for capsules, which is not there yet."""
    return tmp_path / "some" / "failures"


@pytest.fixture
def replay(capsys):
    """Run `graphray replay …` in this process, which keeps its `sys.path`."""
    path = list(sys.path)

    def replay(*arguments: str | os.PathLike[str]) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["replay", *map(str, arguments)])
        return status, *capsys.readouterr()

    yield replay
    sys.path[:] = path


def only(failures: pathlib.Path) -> Capsule:
    """The one capsule that was written; there is nothing else beside it."""
    (name,) = os.listdir(failures)
    assert name.endswith(".capsule")
    return Capsule(failures / name)


@dataclasses.dataclass
class Case:
    name: str
    table: np.ndarray


class Mean(NamedTuple):
    values: Any
    weight: float = 1.0


@gr.task
def table(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.float64)


@gr.task
def broken(*args: Any, **kwargs: Any) -> None:
    raise Told(args, kwargs)


class Told(Exception):
    """Says what the task was called with."""

    def __init__(self, args: Any, kwargs: Any) -> None:
        super().__init__("called")
        self.called = args, kwargs

    def __reduce__(self) -> Any:
        return Told, self.called


@gr.task(seed=True)
def draws(x: int, seed: int) -> int:
    raise ValueError(f"drew {random.Random(seed).random()} from {seed}")


@gr.task
def returns(x: int) -> gr.Node:
    return add(draws(x), 1)


@gr.task
def odd_ones(i: int) -> int:
    if i % 2:
        raise ValueError(i)
    return i


@gr.task
def kills(path: str, x: np.ndarray) -> None:
    note(path, "began")
    if not os.environ.get("HARMLESS"):
        os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError(float(x.sum()))


@gr.task(seed=True)
def kills_with_a_seed(path: str, seed: int) -> int:
    note(path, str(seed))
    if not os.environ.get("HARMLESS"):
        os.kill(os.getpid(), signal.SIGKILL)
    return seed


@gr.task
def returns_a_deadly_one(path: str) -> gr.Node:
    return add(kills_with_a_seed(path), 0)


@gr.task(timeout=0.2)
def late(path: str) -> str:
    if not os.path.exists(path):
        time.sleep(60)
    return "in time"


@gr.task
def lock(x: int) -> Any:
    return threading.Lock()


@gr.task
def mutates(x: np.ndarray) -> None:
    x[0] = 1


@gr.task
def attempts(path: str) -> None:
    note(path, "called")
    raise ValueError(gr.context().attempt)


@gr.task
def leaves(x: int) -> None:
    sys.exit(x)


@gr.task
def shows() -> str:
    print("something printed")
    raise ValueError("shown")


# ---- what is in a capsule


def test_a_call_is_replayed_with_what_it_was_given(engine, failures):
    x = table(100_000)
    arguments = [x, {"a": [x, 1]}, Case("one", x), Mean(x, 0.5), "text", None]
    with pytest.raises(Told):
        gr.Graph(broken(*arguments, key=x, other=gr.value({"b": 2}))).compute(engine, capsule=failures)
    capsule = only(failures)
    with pytest.raises(Told) as raised:
        capsule.run()
    args, kwargs = raised.value.called
    expected = np.arange(100_000, dtype=np.float64)
    found = [args[0], args[1]["a"][0], args[2].table, args[3].values, kwargs["key"]]
    assert len(found) == 5
    for array in found:
        np.testing.assert_array_equal(array, expected, strict=True)
        assert not array.flags.writeable
    assert (args[1]["a"][1], args[2].name, args[3].weight, args[4:]) == (1, "one", 0.5, ("text", None))
    assert kwargs["other"] == {"b": 2}
    assert type(args[2]) is Case
    assert type(args[3]) is Mean


def test_it_says_what_it_is_without_running_code(engine, failures):
    with pytest.raises(ValueError, match=r"^3\b"):
        gr.Graph([odd_ones(3), add(1, 2)]).compute(engine, capsule=failures, seed=7)
    head = only(failures).head
    assert head["node"] == "odd_ones(3)"
    assert head["task"] == "odd_ones"
    assert head["error"] == "ValueError: 3"
    assert any("in odd_ones(3) on" in text for text in head["notes"])
    assert (head["root_seed"], head["attempt"]) == (7, 1)
    assert head["directory"] == os.getcwd()
    assert all(os.path.isabs(p) for p in head["path"])
    assert time.strptime(head["time"], "%Y-%m-%dT%H:%M:%S%z")


def test_the_error_says_how_to_replay_it(engine, failures):
    with pytest.raises(ValueError, match=r"^3\b") as raised:
        odd_ones(3).compute(engine, capsule=failures)
    capsule = only(failures)
    assert f"graphray: to run it again: graphray replay {capsule.path}" in raised.value.__notes__


def test_it_is_the_users_alone(engine, failures):
    with pytest.raises(ValueError, match=r"^3\b"):
        odd_ones(3).compute(engine, capsule=failures)
    assert os.stat(only(failures).path).st_mode & 0o777 == 0o600
    assert failures.stat().st_mode & 0o777 == 0o700


def test_a_run_that_succeeds_writes_nothing(engine, failures):
    assert add(1, 2).compute(engine, capsule=failures) == 3
    assert not failures.exists()


@pytest.mark.parametrize("make", [draws, returns], ids=["itself", "returned by another"])
def test_a_task_gets_the_seed_that_it_got(engine, failures, make, seed):
    with pytest.raises(ValueError, match="drew") as raised:
        make(5).compute(engine, capsule=failures, seed=seed)
    capsule = only(failures)
    assert capsule.head["task"] == "draws"
    with pytest.raises(ValueError, match="drew") as again:
        capsule.run()
    assert str(again.value) == str(raised.value)


def test_every_index_of_a_map_has_its_own_seed(engine, failures):
    results = gr.Graph(gr.map(draws, [1, 1, 1])).compute(engine, capsule=failures, on_error="collect")
    drawn = set()
    for path in failures.iterdir():
        with pytest.raises(ValueError, match="drew") as again:
            Capsule(path).run()
        drawn.add(str(again.value))
    assert drawn == {str(failure.error) for failure in results}
    assert len(drawn) == 3


def test_a_closure_travels_with_it(engine, failures):
    factor = np.arange(10_000)

    @gr.task
    def inner(i):
        return factor[i]

    with pytest.raises(IndexError, match="10000"):
        inner(10_000).compute(engine, capsule=failures)
    code = "import sys, graphray.executors.capsule as c; c.Capsule(sys.argv[1]).run()"
    done = subprocess.run(
        [sys.executable, "-c", code, only(failures).path], cwd="/", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "IndexError: index 10000 is out of bounds" in done.stderr


def test_each_attempt_is_told_and_only_the_last_is_kept(engine, failures, tmp_path):
    path = str(tmp_path / "notes")
    task = gr.task(attempts.fn, retries=2, backoff=0.01)
    with pytest.raises(ValueError, match=r"^3\b"):
        task(path).compute(engine, capsule=failures)
    assert len(notes(path)) == 3
    assert only(failures).head["attempt"] == 3


@pytest.mark.parametrize("made", [True, False], ids=["made by a task", "given"])
def test_a_mutation_of_an_array_fails_here_too(engine, failures, made):
    with pytest.raises(ValueError, match="read-only"):
        mutates(table(10) if made else np.zeros(10)).compute(engine, capsule=failures)
    with pytest.raises(ValueError, match="read-only"):
        only(failures).run()


def test_of_many_failures_the_first_are_kept(failures):
    results = gr.Graph(gr.map(odd_ones, range(2000))).compute("inprocess", capsule=failures, on_error="collect")
    assert sum([type(x) is gr.Failure for x in results]) == 1000
    capsules = [Capsule(path) for path in failures.iterdir()]
    assert len(capsules) == MOST == 20
    assert {c.head["error"] for c in capsules} == {f"ValueError: {i}" for i in range(1, 40, 2)}


def test_each_process_keeps_its_first_failures(loky, failures):
    results = gr.Graph(gr.map(odd_ones, range(2000))).compute(loky, capsule=failures, on_error="collect")
    assert sum([type(x) is gr.Failure for x in results]) == 1000
    assert MOST <= len(os.listdir(failures)) <= 2 * MOST
    # Another run counts anew.
    gr.Graph(gr.map(odd_ones, range(2000))).compute(loky, capsule=failures / "b", on_error="collect")
    assert MOST <= len(os.listdir(failures / "b")) <= 2 * MOST


def test_what_is_no_directory_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("file").write_text("mine")
    with pytest.raises(ValueError, match="capsule= is a directory, and file is a file: name another"):
        add(1, 2).compute(capsule="file")
    with pytest.raises(ValueError, match="capsule= is a directory, not an empty text"):
        add(1, 2).compute(capsule="")
    assert os.listdir(tmp_path) == ["file"]


def test_skipped_nodes_have_none(engine, failures):
    gr.Graph(add(odd_ones(1), 1)).compute(engine, capsule=failures, on_error="collect")
    assert only(failures).head["task"] == "odd_ones"


# ---- workers that die


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no signals")
class TestDeadWorkers:
    """Who was killed writes nothing: the driver does."""

    @pytest.fixture
    def pool(self):
        with gr.executors.Loky(2) as pool:
            yield pool

    @pytest.fixture
    def harmless(self, monkeypatch):
        return lambda: monkeypatch.setenv("HARMLESS", "1")

    def test_a_killed_workers_call_is_replayed(self, pool, failures, tmp_path, harmless):
        with pytest.raises(gr.WorkerDied) as raised:
            kills(str(tmp_path / "notes"), table(50_000)).compute(pool, capsule=failures)
        capsule = only(failures)
        assert "WorkerDied" in capsule.head["error"]
        assert capsule.head["attempt"] == 3
        assert f"graphray replay {capsule.path}" in "\n".join(raised.value.__notes__)
        harmless()
        with pytest.raises(ValueError, match=str(float(sum(range(50_000))))):
            capsule.run()

    @pytest.mark.parametrize("make", [kills_with_a_seed, returns_a_deadly_one])
    def test_its_seed_is_known_too(self, pool, failures, tmp_path, harmless, make):
        path = str(tmp_path / "notes")
        with pytest.raises(gr.WorkerDied):
            make(path).compute(pool, capsule=failures, seed=11)
        harmless()
        (seed,) = set(map(int, notes(path)))
        assert only(failures).run() == seed

    def test_a_late_call_is_replayed_without_its_timeout(self, pool, failures, tmp_path):
        path = tmp_path / "go"
        with pytest.raises(gr.TaskTimeout):
            late(str(path)).compute(pool, capsule=failures)
        path.touch()
        assert only(failures).run() == "in time"


# ---- what cannot be written


def test_inputs_that_cannot_be_pickled_are_a_warning(failures):
    with pytest.warns(UserWarning, match=r"no capsule of broken.* could be written"), pytest.raises(Told):
        broken(lock(1)).compute("inprocess", capsule=failures)
    assert not failures.exists() or not os.listdir(failures)


def test_many_that_cannot_be_written_are_not_tried_forever(failures):
    tried = []

    class Stubborn:
        def __reduce__(self):
            tried.append(1)
            raise TypeError("no")

    stubborn = gr.value(Stubborn())
    failing = [broken(stubborn, i) for i in range(200)]
    with pytest.warns(UserWarning, match="no capsule"):
        gr.Graph(failing).compute("inprocess", capsule=failures, on_error="collect")
    assert 1 <= len(tried) <= MOST


def test_a_directory_that_cannot_be_written_is_a_warning(engine, tmp_path, recwarn):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^3\b") as raised:
        odd_ones(3).compute("inprocess", capsule=tmp_path / "file" / "x")
    assert not any("replay" in text for text in raised.value.__notes__)
    assert any("no capsule of odd_ones(3)" in str(w.message) for w in recwarn)


def test_a_full_disk_leaves_no_half_capsule(failures, monkeypatch, recwarn):
    rename = os.rename
    left = []

    def full(old: str, new: str) -> None:
        left.append(old)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(ValueError, match=r"^3\b"):
        odd_ones(3).compute("inprocess", capsule=failures)
    assert len(left) == 1
    assert os.listdir(failures) == []
    assert any("No space left" in str(w.message) for w in recwarn)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(ValueError, match=r"^3\b"):  # another run, when there is room again
        odd_ones(3).compute("inprocess", capsule=failures)
    assert only(failures).head["error"] == "ValueError: 3"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
def test_a_capsule_that_grows_too_large_leaves_no_half(tmp_path):
    """Truly: a process that may not write more than so much to a file."""
    code = """
import resource, signal, warnings
import numpy as np
import graphray as gr

def fails(x):
    raise ValueError("as it should")

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    try:
        gr.call(fails, gr.value(np.ones(50_000))).compute("inprocess", capsule="failures")
    except ValueError as error:
        print(error)
print([str(w.message) for w in said])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("as it should\n")
    assert "no capsule of fails" in done.stdout
    assert "File too large" in done.stdout
    assert os.listdir(tmp_path / "failures") == []


# ---- what is no capsule


@pytest.fixture
def capsule(failures):
    with pytest.raises(ValueError, match=r"^3\b"):
        odd_ones(3).compute("inprocess", capsule=failures)
    return pathlib.Path(only(failures).path)


HEADS = [
    b"",
    b"null\n",
    b"[1]\n",
    b"{\n",
    b"\xff\xfe{}\n",
    b"[" * 200_000 + b"\n",
    b'{"a": "' + b"x" * (5 << 20) + b'"}\n',
]


@pytest.mark.parametrize("head", HEADS, ids=["empty", "null", "list", "cut", "encoding", "deep", "long"])
def test_a_head_that_is_none_is_refused(tmp_path, replay, head):
    path = tmp_path / "x.capsule"
    path.write_bytes(MAGIC + head)
    with pytest.raises(ValueError, match="damaged capsule"):
        Capsule(path)
    status, out, err = replay(path)
    assert (status, out) == (2, "")
    assert err.startswith("graphray replay: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        (b"", "no capsule"),
        (b"PK\x03\x04", "no capsule"),
        (b"graphray capsule 2\n{}", "no capsule"),
    ],
    ids=["missing", "empty", "other", "newer"],
)
def test_what_is_no_capsule_is_refused(tmp_path, replay, content, message):
    path = tmp_path / "x.capsule"
    if content is not None:
        path.write_bytes(content)
    status, out, err = replay(path)
    assert (status, out) == (2, "")
    assert message in err
    assert str(path) in err
    assert len(err.splitlines()) == 1


def test_a_directory_is_no_capsule(tmp_path, replay):
    status, out, err = replay(tmp_path)
    assert (status, out) == (2, "")
    assert "cannot read" in err


def test_a_capsule_cut_anywhere_is_one_message(capsule, replay, rng):
    content = capsule.read_bytes()
    start = content.index(b"\n", len(MAGIC)) + 1
    for end in [
        0,
        len(MAGIC) - 1,
        len(MAGIC),
        start - 2,
        start,
        len(content) - 1,
        *rng.sample(range(len(content)), 20),
    ]:
        capsule.write_bytes(content[:end])
        status, _, err = replay(capsule)
        assert status == 2, end
        assert err.splitlines()[-1].startswith("graphray replay: "), end


def test_heads_of_any_kind_are_shown(tmp_path, replay):
    path = tmp_path / "x.capsule"
    for head in ({}, {"node": ["\x1b[2J"], "notes": 3, "path": [1, None], "python": {}}, {"error": "\x1b]0;gone\x07"}):
        path.write_bytes(MAGIC + json.dumps(head).encode() + b"\n")
        status, out, err = replay(path, "--info")
        assert (status, err) == (0, "")
        assert out
        assert "\x1b" not in out
        assert "\x07" not in out


# ---- the command


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return pathlib.Path.touch, (pathlib.Path(self.path),)


def test_replay_shows_the_users_traceback(capsule, replay):
    status, out, err = replay(capsule)
    assert status == 1
    assert "call         odd_ones(3)" in out
    assert "failed with  ValueError: 3" in out
    said, *trace = err.splitlines()
    assert said == f"running code from {capsule} …"
    assert trace[0] == "Traceback (most recent call last):"
    assert trace[-1] == "ValueError: 3"
    assert "in odd_ones" in trace[1]
    assert not any(f"graphray{os.sep}executors" in line or f"graphray{os.sep}cli" in line for line in trace)


def test_replay_says_where_it_does_not_fail(failures, replay, tmp_path):
    path = tmp_path / "notes"

    @gr.task
    def fails_once(path):
        note(path, "called")
        if len(notes(path)) < 2:
            raise ValueError("the first time")
        return [1, 2, "three"]

    with pytest.raises(ValueError, match="first"):
        fails_once(str(path)).compute("inprocess", capsule=failures)
    status, out, _ = replay(only(failures).path)
    assert status == 0
    assert out.endswith("The call did not fail this time. It gave\n  [1, 2, 'three']\n")


def test_info_runs_nothing_and_the_help_says_what_does(failures, replay, tmp_path):
    bomb = tmp_path / "exploded"
    with pytest.raises(Told):
        broken(gr.value(Bomb(str(bomb)))).compute("inprocess", capsule=failures)
    path = only(failures).path
    status, out, err = replay(path, "--info")
    assert (status, err) == (0, "")
    assert "broken(" in out
    assert not bomb.exists()
    status, _, err = replay(path)
    assert status == 1
    assert "running code from" in err
    assert bomb.exists()
    status, out, _ = replay("--help")
    assert status == 0
    assert "This runs code from the file." in out
    assert "--info" in out


def test_a_task_that_exits_does_not_end_the_command_with_its_status(failures, replay):
    with pytest.raises(RuntimeError, match=r"sys\.exit"):
        leaves(0).compute("inprocess", capsule=failures)
    status, _, err = replay(only(failures).path)
    assert status == 1
    assert err.endswith("RuntimeError: the task called sys.exit(0)\n")


def test_info_and_pdb_exclude_each_other(capsule, replay):
    status, _, err = replay(capsule, "--info", "--pdb")
    assert status == 2
    assert "not allowed with" in err


FLOW = """
import graphray as gr

@gr.task
def ratio(a, b):
    parts = [a, b]
    return parts[0] / parts[1]

graph = gr.Graph(ratio(gr.value(1), gr.value(0)))
"""


def outside(*arguments: str, cwd: os.PathLike[str], typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "graphray", *arguments]
    return subprocess.run(command, cwd=cwd, input=typed, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("executor", ["inprocess", "loky:1"])
def test_from_a_run_to_the_debugger(tmp_path, executor):
    """As a user does it, in processes of their own, and from another directory."""
    (tmp_path / "flow.py").write_text(FLOW)
    done = outside("run", "flow.py", "--executor", executor, "--capsule", "failures", "-q", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = [x for x in done.stderr.splitlines() if "graphray replay" in x]
    path = line.rpartition(" ")[2]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = outside("replay", path, "--pdb", cwd=elsewhere, typed="p 'here', parts\nw\nq\n")
    assert done.returncode == 1
    assert "('here', [1, 0])" in done.stdout
    assert "in ratio" in done.stderr
    assert os.path.join("graphray", "executors") not in done.stdout  # nor is there anything else to go up to
    assert "ZeroDivisionError: division by zero" in done.stderr
    # It is the code as it is now that runs.
    (tmp_path / "flow.py").write_text(FLOW.replace("parts[0] / parts[1]", "'mended'"))
    done = outside("replay", path, cwd=elsewhere)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "  mended")
    (tmp_path / "flow.py").unlink()
    done = outside("replay", path, cwd=elsewhere)
    assert done.returncode == 2
    assert "the call cannot be loaded here: ModuleNotFoundError: No module named 'flow'" in done.stderr


def test_what_a_task_prints_is_seen(failures, replay):
    with pytest.raises(ValueError, match="shown"):
        shows().compute("inprocess", capsule=failures)
    _, out, _ = replay(only(failures).path)
    assert "something printed\n" in out
