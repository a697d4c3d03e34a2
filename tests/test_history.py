"""The history of runs: what it remembers, that it stays small, and that nothing that happens to it harms anybody."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import pytest

import graphray as gr
from graphray.executors.cache import history as module
from graphray.executors.cache.history import NAME, History, Record
from graphray.executors.cache.rules import name_of
from graphray.graph.digest import cache_key, digest_all, digest_of
from graphray.testing.tasks import draw, echo, scale

SCALE = name_of(scale)


def note(history, nodes, seconds=None, seed=0):
    """What an engine does at the end of a run."""
    digest_all(nodes)
    spent = {}
    for node in nodes:
        tally = spent.setdefault(node.task, [0, 0.0])
        tally[0] += 1
        tally[1] += seconds or 0.0
    history.note(nodes, spent, seed)


def record(i, task="m.f", label=None):
    return Record(b"%020d" % i, task, label or f"f({i})", b"code", 0, [("0", str(i), "")], None, 1.0)


@pytest.fixture
def history(tmp_path):
    return History(tmp_path)


@pytest.fixture(autouse=True)
def unwarned():
    module._warned.clear()


# ---- what it remembers


def test_a_node_that_ran_is_remembered(history, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("1")
    file = gr.file(path)
    nodes = [scale(3, by=2), echo(scale(3, by=2), [file], k="a")]
    before = time.time()
    note(history, nodes)
    seen = history.seen(digest_of(nodes[0]))
    assert (seen.task, seen.label, seen.seed) == (SCALE, "scale(3, by=2)", 0)
    assert [(name, text) for name, text, _ in seen.arguments] == [("0", "3"), ("by", "2")]
    assert before <= seen.time <= time.time()
    seen = history.seen(digest_of(nodes[1]))
    assert [a[:2] for a in seen.arguments] == [
        ("0", "scale(3, by=2)"),
        ("1", "list[1]"),
        ("k", "'a'"),
        ("file", str(path)),
    ]
    assert len({digest for _, _, digest in seen.arguments}) == 4
    assert history.seen(digest_of(scale(4))) is None


def test_arguments_are_told_apart_by_content(history):
    import numpy as np

    nodes = [
        echo([1, 2]),
        echo([1, 3]),
        echo(np.zeros(3)),
        echo(np.ones(3)),
        echo({"a": scale(1)}),
        echo({"a": scale(2)}),
    ]
    note(history, nodes)
    digests = [history.seen(digest_of(n)).arguments[0][2] for n in nodes]
    assert len(set(digests)) == len(nodes)
    again = echo([1, 2])
    note(history, [again])
    assert history.seen(digest_of(again)).arguments[0][2] == digests[0]


def test_keys_are_those_of_the_cache(history):
    node = draw(1)
    note(history, [node], seed=5)
    assert history.seen(cache_key(digest_of(node), 5)).seed == 5
    assert history.seen(cache_key(digest_of(node), 6)) is None


def test_what_has_no_digest_or_is_graphrays_own_is_left_out(history):
    impure = gr.task(pure=False)(lambda: 1)
    node = scale(1)
    note(history, [impure(), node + 1, gr.value(1), node], seconds=1.0)
    assert [r.label for r in history.latest(SCALE, limit=9)] == ["scale(1)"]
    with contextlib.closing(sqlite3.connect(history.path)) as db:
        assert db.execute("SELECT count(*) FROM nodes").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM tasks").fetchone() == (2,), "durations of impure tasks count as well"


def test_the_latest_of_a_task_and_of_a_label(history):
    for i in range(3):
        history.note_ran([record(i, label="f(…)"), record(10 + i)])
    assert [r.key for r in history.latest("m.f", "f(…)", 2)] == [record(2).key, record(1).key]
    assert [r.label for r in history.latest("m.f", limit=2)] == ["f(12)", "f(…)"]
    history.note_ran([record(0, label="f(…)")])
    assert history.latest("m.f", "f(…)")[0].key == record(0).key, "what ran again is the latest again"
    assert history.latest("m.g") == []


def test_durations_follow_the_later_runs(history):
    assert history.seconds("m.f") is None
    history.note_ran([], {"m.f": (10, 20.0)})
    assert history.seconds("m.f") == 2.0
    history.note_ran([], {"m.f": (1, 4.0)})
    assert history.seconds("m.f") == 3.0
    for _ in range(40):
        history.note_ran([], {"m.f": (1, 7.0)})
    assert history.seconds("m.f") == pytest.approx(7.0)


def test_versions_of_code(history):
    for i in range(module.MOST_CODES + 5):
        history.note_ran([record(i)], codes={("m.f", b"%d" % i): {"m.f": str(i)}})
    codes = history.codes("m.f")
    assert len(codes) == module.MOST_CODES
    assert codes[0][:2] == (b"%d" % (module.MOST_CODES + 4), {"m.f": str(module.MOST_CODES + 4)})
    history.note_ran([record(0)], codes={("m.f", codes[-1][0]): {}})
    assert history.codes("m.f")[0][:2] == codes[-1][:2], "an older version that is used again is the latest"


# ---- its size


def test_old_rows_go(history, monkeypatch):
    monkeypatch.setattr(module, "MOST_NODES", 50)
    for i in range(0, 200, 20):
        history.note_ran([record(j) for j in range(i, i + 20)])
    kept = [i for i in range(200) if history.seen(record(i).key)]
    assert kept == list(range(150, 200))


def test_a_huge_run_leaves_a_bounded_number_of_rows_and_all_durations(history, monkeypatch):
    monkeypatch.setattr(module, "PER_RUN", 30)
    nodes = [*gr.map(scale, range(1000)), *gr.map(echo, range(10))]
    note(history, nodes, seconds=0.5)
    with contextlib.closing(sqlite3.connect(history.path)) as db:
        assert db.execute("SELECT count(*) FROM nodes").fetchone() == (30,)
        assert db.execute("SELECT sum(calls) FROM tasks").fetchone() == (1010,)
    assert history.seconds(SCALE) == 0.5


# ---- privacy, absence


def test_it_is_private(tmp_path):
    before = os.umask(0)
    try:
        History(tmp_path).note_ran([record(1)])
    finally:
        os.umask(before)
    assert {oct(os.stat(path).st_mode & 0o777) for path in tmp_path.iterdir()} == {"0o600"}


def test_asking_makes_nothing(tmp_path):
    for directory in (tmp_path, tmp_path / "missing"):
        history = History(directory)
        with history:
            assert history.seen(b"x" * 20) is None
            assert history.latest("m.f") == []
            assert history.codes("m.f") == []
            assert history.seconds("m.f") is None
    assert list(tmp_path.iterdir()) == []


def test_without_the_directory_nothing_is_written(tmp_path):
    History(tmp_path / "missing").note_ran([record(1)])
    assert list(tmp_path.iterdir()) == []


# ---- what may happen to it


def damage(path, rng, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: rng.randrange(len(content))]
    elif how == "text":
        content = bytearray(b"not a database at all\n" * 100)
    elif how == "flipped":
        for _ in range(200):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif how == "overwritten":
        start = rng.randrange(100, len(content))
        content[start:] = rng.randbytes(len(content) - start)
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "text", "flipped", "overwritten"])
def test_damage_is_no_harm(how, tmp_path, rng):
    """Whatever is in the file: no exception, and sooner or later a working history again."""
    for i in range(12):
        directory = tmp_path / str(i)
        directory.mkdir()
        history = History(directory)
        history.note_ran([record(j) for j in range(300)], {"m.f": (1, 1.0)}, {("m.f", b"code"): {"m.f": "x"}})
        damage(directory / NAME, rng, how)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with history:
                history.seconds("m.f")
                history.codes("m.f")
                history.latest("m.f", limit=400)
            for j in range(400, 700):
                history.seen(record(j).key)
            for _ in range(3):
                history.note_ran([record(j) for j in range(1000, 1300)], {"m.g": (1, 2.0)})
        if how == "text":
            assert history.seen(record(1299).key).label == "f(1299)"
            assert history.seconds("m.g") == 2.0
            assert (directory / f"{NAME}.damaged").exists()


def test_a_damaged_database_is_set_aside_with_one_warning(tmp_path):
    (tmp_path / NAME).write_bytes(b"nonsense" * 1000)
    history = History(tmp_path)
    with pytest.warns(UserWarning, match=r"history\.sqlite is damaged.*set aside"):
        history.note_ran([record(1)])
    history.note_ran([record(2)])
    assert history.seen(record(2).key)
    assert (tmp_path / f"{NAME}.damaged").read_bytes() == b"nonsense" * 1000


def test_tables_of_somebody_else_are_set_aside(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / NAME)) as db:
        db.execute("CREATE TABLE nodes (x)")
        db.execute(f"PRAGMA user_version = {module.VERSION}")
    history = History(tmp_path)
    with pytest.warns(UserWarning, match="set aside"):
        assert history.seconds("m.f") is None
    history.note_ran([record(1)])
    assert history.seen(record(1).key)


def test_a_later_format_is_left_alone(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / NAME)) as db:
        db.execute(f"PRAGMA user_version = {module.VERSION + 1}")
    before = (tmp_path / NAME).read_bytes()
    with pytest.warns(UserWarning, match="later version"):
        History(tmp_path).note_ran([record(1)])
    assert (tmp_path / NAME).read_bytes() == before


def test_an_earlier_format_is_begun_anew(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / NAME)) as db:
        db.execute("CREATE TABLE nodes (x)")
    history = History(tmp_path)
    assert history.seen(record(1).key) is None
    history.note_ran([record(1)])
    assert history.seen(record(1).key)


def test_a_locked_database_is_left_out_with_one_warning(history, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    history.note_ran([record(1)])
    with contextlib.closing(sqlite3.connect(history.path, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history.note_ran([record(2)])
            history.note_ran([record(3)])
            assert history.seen(record(1).key) is None
        assert [re.search("left out: .*locked", str(w.message)) is not None for w in caught] == [True]
        db.execute("ROLLBACK")
    history.note_ran([record(4)])
    assert [bool(history.seen(record(i).key)) for i in (1, 2, 3, 4)] == [True, False, False, True]


def test_a_full_disk_is_no_harm(tmp_path):
    code = """
        import resource, sys, warnings
        from graphray.executors.cache.history import History, Record
        import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        history = History(sys.argv[1])
        record = lambda i: Record(b"%020d" % i, "m.f", "f", b"c", 0, [("0", "x" * 1000, "")], None, 1.0)
        history.note_ran([record(i) for i in range(10)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history.note_ran([record(i) for i in range(100, 1000)])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(len(caught), history.seen(record(5).key) is not None, history.seen(record(500).key) is not None)
        history.note_ran([record(2000)])
        print(history.seen(record(2000).key) is not None)
        """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["1", "True", "False", "True"]


def test_what_may_not_be_written_is_read(history, monkeypatch):
    history.note_ran([record(1)])
    monkeypatch.setattr(os, "access", lambda *args, **options: False)  # permissions do not keep root from writing
    assert history.seen(record(1).key)
    with pytest.warns(UserWarning, match="left out.*readonly"):
        history.note_ran([record(2)])
    assert history.seen(record(2).key) is None


def test_a_directory_in_its_place_is_left_out(tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.warns(UserWarning, match="left out"):
        History(tmp_path).note_ran([record(1)])


# ---- several at once


def _write(directory, first, count):
    history = History(directory)
    for i in range(first, first + count):
        history.note_ran([record(i)], {"m.f": (1, 1.0)}, {("m.f", b"code"): {}})


def test_several_processes_write_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(tmp_path, 100 * i, 20)) for i in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    history = History(tmp_path)
    assert all(history.seen(record(100 * i + j).key) for i in range(3) for j in range(20))


def test_several_threads_share_one(history):
    errors = []

    def use(first):
        try:
            with history:
                for i in range(first, first + 20):
                    history.note_ran([record(i)])
                    assert history.seen(record(i).key)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(100 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(history.latest("m.f", limit=200)) == 80


def test_a_killed_writer_leaves_whole_batches(tmp_path, rng):
    code = """
        import sys
        from graphray.executors.cache.history import History, Record
        history = History(sys.argv[1])
        for batch in range(10_000):
            keys = [b"%020d" % (1000 * batch + i) for i in range(100)]
            history.note_ran([Record(k, "m.f", str(batch), b"c", 0, [], None, 1.0) for k in keys])
            print(batch, flush=True)
        """
    for _ in range(4):
        command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            done = -1
            for _ in range(rng.randrange(1, 12)):
                done = int(process.stdout.readline())
            time.sleep(rng.random() * 0.01)
            process.send_signal(signal.SIGKILL)
        history = History(tmp_path)
        for batch in range(done + 3):
            found = history.latest("m.f", str(batch), 200)
            assert len(found) in ((100,) if batch <= done else (0, 100))
