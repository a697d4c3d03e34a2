"""The memory budget: what `memory=` means, and runs whose results do not fit into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import graphray as gr
from graphray.executors import memory
from graphray.executors.events import MemoryUsed, Spilled
from graphray.executors.memory import parse_budget, parse_size
from graphray.executors.spilling import least_soon_needed

MB = 1_000_000


# ---- what it may be

SIZES = {
    1: 1,
    4096: 4096,
    "1": 1,
    "4GB": 4 * 10**9,
    "4 GB": 4 * 10**9,
    " 4gb ": 4 * 10**9,
    "512MiB": 512 << 20,
    "512 Mi": 512 << 20,
    "1.5k": 1500,
    "2KiB": 2048,
    "3T": 3 * 10**12,
    "1TiB": 1 << 40,
    "100b": 100,
}
WRONG = [
    0,
    -1,
    "0",
    "0.5",
    "-4GB",
    "",
    "GB",
    "4XB",
    "4 G B",
    "4,000",
    "1e9",
    "٤%%",
    True,
    None,
    b"4GB",
    [],
    "nan",
    "inf",
]


@pytest.mark.parametrize(("given", "size"), SIZES.items(), ids=repr)
def test_sizes(given, size):
    assert parse_size(given, "max_size") == size
    assert parse_budget(given) == size


@pytest.mark.parametrize("given", WRONG, ids=repr)
def test_what_is_no_size(given):
    with pytest.raises(ValueError, match="max_size=") as raised:
        parse_size(given, "max_size")
    assert repr(given) in str(raised.value)


def test_shares_of_the_machine(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 1000)
    assert [parse_budget(x) for x in (0.25, "25%", " 25 % ", "12.5%", 1.0, "100%", None)] == [
        250, 250, 250, 125, 1000, 1000, 500
    ]  # fmt: skip
    for wrong in (0.0, 1.5, -0.25, "0%", "101%", float("nan"), float("inf")):
        with pytest.raises(ValueError, match="share of the machine"):
            parse_budget(wrong)


@pytest.mark.parametrize("executor", ["inprocess", "loky:1"])
def test_a_wrong_budget_is_refused_before_anything_runs(executor, tmp_path):
    path = tmp_path / "called"
    for wrong in ("much", -1, 2.0, "0%"):
        with pytest.raises(ValueError, match="memory="):
            gr.call(path.touch).compute(executor, memory=wrong)
    assert not path.exists()
    gr.call(path.touch).compute(executor, memory="1GB")
    assert path.exists()


def test_the_machine_has_memory_and_a_container_less():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 64 << 20 < memory.machine_memory() <= total


# ---- more than there is room for


@pytest.fixture
def shared(monkeypatch, tmp_path):
    """A folder of the test's own for segments, in shared memory where there is any; the disk has another."""
    where = "/dev/shm" if os.path.isdir("/dev/shm") else None
    place = Path(tempfile.mkdtemp(prefix="tests-of-graphrays-memory-", dir=where))
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setenv("GRAPHRAY_STORE", str(place))
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    try:
        yield place
    finally:
        shutil.rmtree(place)


class Watch:
    """Samples how many bytes of segments there are in a folder."""

    def __init__(self, place: Path) -> None:
        self.peak = 0
        self._place = place
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, self.now())

    def now(self) -> int:
        found = 0
        for folder, _, names in os.walk(self._place):
            for name in names:
                try:
                    found += os.stat(f"{folder}/{name}").st_size
                except FileNotFoundError:
                    continue
        return found

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@gr.task
def block(i: int, nbytes: int = 4 * MB):
    return np.full(nbytes // 8, float(i))


@gr.task
def add_up(x) -> float:
    return float(x.sum())


@gr.task
def after_all(x, *_needs) -> float:
    return float(x[0])


def kept_until_the_end(n: int, nbytes: int = 4 * MB) -> gr.Graph:
    """Each of n blocks is needed again when all of them have been looked at, so that all exist at once."""
    blocks = [block(i, nbytes) for i in range(n)]
    barrier = gr.combine(sum, [add_up(b) for b in blocks], arity=n)
    return gr.Graph(sums=barrier, again=[after_all(b, barrier) for b in blocks])


def expected(n: int, nbytes: int = 4 * MB) -> dict[str, object]:
    return {"sums": float(nbytes // 8 * sum(range(n))), "again": [float(i) for i in range(n)]}


@pytest.mark.parametrize("workers", [1, 2])
def test_results_five_times_the_budget(shared, workers):
    n, budget = 80 * workers, 64 * MB * workers
    with gr.executors.Loky(workers) as pool, Watch(shared) as watch:
        run = kept_until_the_end(n).run(pool, memory=budget)
        assert run.result() == expected(n)
    assert watch.peak <= budget
    spilled = [e for e in run.events if type(e) is Spilled]
    assert sum(e.nbytes for e in spilled) >= n * 4 * MB - budget
    used = [e for e in run.events if type(e) is MemoryUsed]
    assert {e.limit for e in used} == {budget}
    assert max(e.store for e in used) <= budget
    assert max(e.spilled for e in used) >= n * 4 * MB - budget
    assert not list(shared.iterdir())


def test_the_users_results_five_times_the_budget(shared):
    """Nothing but the user waits for them; those that went to disk are views of files there."""
    n, budget = 80, 64 * MB
    with gr.executors.Loky(1) as pool:
        with Watch(shared) as watch:
            found = pool.compute(gr.Graph([block(i) for i in range(n)]), memory=budget)
        assert watch.peak <= budget
        assert [set(x.tolist()) for x in found] == [{float(i)} for i in range(n)]
        assert pool.compute(gr.Graph([add_up(x) for x in found[:5]]), memory=budget) == [
            i * 500_000.0 for i in range(5)
        ]
    assert [x[-1] for x in found] == list(range(n))


def test_what_a_growing_run_holds_five_times_the_budget(shared, monkeypatch):
    """States of paused trials, say: a run that goes on for long has more of them than fit into memory."""
    n, budget = 80, 64 * MB
    monkeypatch.setattr(memory, "machine_memory", lambda: 2 * budget)
    with gr.executors.Loky(1) as pool, pool.open() as run, Watch(shared) as watch:
        handles = [run.add(block(i)) for i in range(n)]
        for done in run.as_completed():
            del done
        assert watch.peak <= budget
        later = [run.add(add_up(handle)) for handle in handles]
        found = {done.node: done.result() for done in run.as_completed()}
        assert [found[node] for node in later] == [i * 500_000.0 for i in range(n)]
    assert sum(e.nbytes for e in run.events if type(e) is Spilled) >= n * 4 * MB - budget


def test_a_share_of_the_machine_is_a_budget_too(shared):
    with gr.executors.Loky(1) as pool:
        run = gr.Graph(add_up(block(1))).run(pool, memory=0.125)
        assert run.result() == 500_000
    assert {e.limit for e in run.events if type(e) is MemoryUsed} <= {memory.machine_memory() // 8}


def test_a_long_fan_within_the_budget(shared):
    """What only makes more waits, and so most results that are used at once need no disk, however many they are."""
    with gr.executors.Loky(2) as pool:
        run = pool.run(gr.combine(sum, [add_up(block(i)) for i in range(100)], arity=100), memory=128 * MB)
        assert run.result() == 500_000.0 * sum(range(100))
    assert sum(e.nbytes for e in run.events if type(e) is Spilled) <= 200 * MB


# ---- what goes first


@gr.task(timeout=60)
def slowly(total: float, x) -> float:
    time.sleep(0.02)
    return total + float(x[0])


def test_values_that_are_needed_last_go_first(shared, monkeypatch):
    """Blocks of which one after another is used, made faster than that; and some that only the user waits for."""
    lists: list[list[int]] = []

    def noted(jobs):
        found = least_soon_needed(jobs)
        lists.append([int(s.load()[0]) for s in found])
        return found

    monkeypatch.setattr("graphray.executors.pressure.least_soon_needed", noted)
    blocks = [block(i) for i in range(1, 61)]
    total = gr.value(0.0)
    for x in blocks:
        total = slowly(total, x)
    with gr.executors.Loky(2) as pool:
        found = pool.compute(gr.Graph(total=total, users=[block(i) for i in range(1000, 1010)]), memory=80 * MB)
    assert found["total"] == sum(range(1, 61))
    assert [x[0] for x in found["users"]] == list(range(1000, 1010))
    assert lists
    for order in lists:
        users = [i for i in order if i >= 1000]
        assert order[: len(users)] == users
        others = order[len(users) :]
        assert others == sorted(others, reverse=True)
    assert any(i >= 1000 for order in lists for i in order)
    assert max(len([i for i in order if i < 1000]) for order in lists) > 3


# ---- where the disk does not help


NO_DISK = """
    import warnings, numpy as np
    import graphray as gr
    from test_memory import MB, expected, kept_until_the_end

    with gr.executors.Loky(1) as pool, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert pool.compute(kept_until_the_end(30), memory=30 * MB) == expected(30)
        about = [str(w.message) for w in caught if "cannot be moved to disk" in str(w.message)]
        print(len(about), *about)
        print(len([n for n in __import__("os").listdir(pool._store.paths[1]) if n.endswith(".part")]), "parts")
"""


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="no file system of its own can be mounted here")
def test_a_full_disk_is_a_warning_and_all_stays_in_memory(shared, tmp_path):
    """One warning, whatever many times it is tried; half-written copies are not left."""
    mount = f"mount -t tmpfs -o size=9m tmpfs '{tmp_path}/disk' && exec \"$@\""
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", textwrap.dedent(NO_DISK)],
        env={**os.environ, "TMPDIR": f"{tmp_path}/disk", "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    said, parts = done.stdout.splitlines()
    assert said.startswith("1 ")
    assert "No space left on device" in said
    assert "TMPDIR" in said
    assert parts == "0 parts"


@pytest.mark.parametrize("action", ["always", "error"])
def test_a_disk_that_cannot_be_written_to_is_a_warning(shared, tmp_path, action):
    """Also where warnings are errors, nothing fails for it."""
    with gr.executors.Loky(1) as pool, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        assert pool.compute(add_up(block(1))) == 500_000
        for folder in (tmp_path / "disk").iterdir():
            shutil.rmtree(folder)
        assert pool.compute(kept_until_the_end(30), memory=30 * MB) == expected(30)
        assert pool.compute(kept_until_the_end(30), memory=30 * MB) == expected(30)
    said = [str(w.message) for w in caught if "cannot be moved to disk" in str(w.message)]
    assert len(said) == (action == "always")


# ---- whose budget it is


def test_a_budget_ends_with_its_run(shared):
    """What runs after it has the machine's, also where what it was about is still there."""
    with gr.executors.Loky(1) as pool:
        first = kept_until_the_end(40).run(pool, memory=40 * MB)
        assert first.result() == expected(40)
        assert [e for e in first.events if type(e) is Spilled]
        for options in ({}, {"memory": "1GB"}):
            then = kept_until_the_end(40).run(pool, **options)
            assert then.result() == expected(40)
            assert not [e for e in then.events if type(e) is Spilled]
            assert {e.limit for e in then.events if type(e) is MemoryUsed} <= {parse_budget(options.get("memory"))}
        again = kept_until_the_end(40).run(pool, memory=40 * MB)
        assert again.result() == expected(40)
        assert [e for e in again.events if type(e) is Spilled]


def test_a_failed_runs_budget_ends_with_it_too(shared):
    with gr.executors.Loky(1) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.compute(gr.Graph([block(i) for i in range(20)] + [gr.call(divmod, 1, 0)]), memory=20 * MB)
        then = kept_until_the_end(40).run(pool)
        assert then.result() == expected(40)
        assert not [e for e in then.events if type(e) is Spilled]
