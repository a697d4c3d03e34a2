"""Workers that die, and tasks that kill them, on the pool of processes."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from loky.backend.context import LokyContext

import graphray as gr
from graphray.executors.retry import LONGEST, backoff
from graphray.testing.tasks import add, note, notes

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no signals")


@pytest.fixture
def others():
    """The processes and stores that are there already: those of the pool that all tests share."""
    return {p.pid for p in psutil.Process().children()} | set(stores())


@pytest.fixture
def pool(others):
    with gr.executors.Loky(2) as made:
        yield made


def stores() -> list[Path]:
    place = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
    return [p for p in Path(place).glob(f"graphray-store-{os.getpid()}-*") if p.is_dir()]


def workers_but(others) -> list[psutil.Process]:
    children = [p for p in psutil.Process().children() if p.pid not in others]
    return [p for p in children if "tracker" not in " ".join(p.cmdline())]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(7)


WAYS = [(kill, "SIGKILL", -9), (crash, "SIGSEGV", -11), (leave, None, 7)]


@gr.task
def dies(path: str, times: int, how, value=None, *needs):
    """Ends its process so many times, then gives a value."""
    note(path, "began")
    if len(notes(path)) <= times:
        how()
    return value


@gr.task
def waste(path: str):
    """Has 300 MB when its process dies."""
    note(path, "began")
    block = np.ones(300 << 17)
    kill()
    return block


@gr.task
def returns(path: str, times: int, how):
    return add(dies(path, times, how, 1), 1)


@gr.task
def tiny(i: int) -> int:
    return i


@gr.task
def tiny_but_one(path: str, i: int, bad: int) -> int:
    if i == bad:
        note(path, "began")
        kill()
    return i


@gr.task
def where() -> tuple[str, int]:
    return gr.context().worker, os.getpid()


@gr.task
def attempts(path: str) -> int:
    note(path, "began")
    if len(notes(path)) < 3:
        kill()
    return gr.context().attempt


@gr.task(timeout=0.3)
def hangs(path: str, how: str):
    note(path, str(os.getpid()))
    if how == "sleep":
        time.sleep(60)
    elif how == "native":  # Python's lock is not let go
        sum(range(10**11))
    return "done"


@gr.task(timeout=0.3, retries=1, backoff=0.01)
def hangs_once(path: str):
    note(path, str(os.getpid()))
    if len(notes(path)) < 2:
        time.sleep(60)
    return gr.context().attempt


@gr.task
def goes_on(path: str):
    note(path, str(os.getpid()))
    time.sleep(60)


@pytest.mark.parametrize(("how", "name", "code"), WAYS, ids=["SIGKILL", "segfault", "_exit"])
def test_what_a_dead_worker_was_running_is_run_again(pool, tmp_path, how, name, code):
    path = str(tmp_path / "notes")
    graph = gr.Graph([add(dies(path, 2, how, 5), 1), *gr.map(tiny, range(300))])
    run = graph.run(pool)
    assert run.result() == [6, *range(300)]
    assert len(notes(path)) == 3
    lost = [e for e in run.events if type(e).__name__ == "WorkerLost"]
    assert [(e.exitcode, e.signal) for e in lost] == [(code, name)] * 2
    assert all("dies" in e.running for e in lost)


@pytest.mark.parametrize(("how", "name", "code"), WAYS, ids=["SIGKILL", "segfault", "_exit"])
def test_a_task_that_kills_its_workers_is_named(pool, tmp_path, how, name, code):
    path = str(tmp_path / "notes")
    node = dies(path, 10**9, how)
    with pytest.raises(gr.WorkerDied) as raised:
        pool.compute(add(node, 1))
    error = raised.value
    assert (error.signal, error.exitcode, error.node) == (name, code, node)
    assert (name or "exit code 7") in str(error)
    assert "dies" in str(error)
    assert len(notes(path)) == 3
    assert pool.compute(tiny(1)) == 1


def test_its_memory_is_told(pool, tmp_path):
    with pytest.raises(gr.WorkerDied, match="MiB") as raised:
        pool.compute(waste(str(tmp_path / "notes")))
    assert 300 << 20 < raised.value.memory < 3000 << 20


def test_it_fails_alone(pool, tmp_path):
    """All that does not need it is done, under `on_error="collect"`, whoever shared a unit with it."""
    path = str(tmp_path / "notes")
    nodes = [tiny_but_one(path, i, 700) for i in range(1000)]
    sums = [gr.combine(sum, nodes[:500]), gr.combine(sum, nodes[500:]), add(nodes[700], 1)]
    found = gr.Graph([*nodes, *sums]).compute(pool, on_error="collect")
    assert found[:700] == list(range(700))
    assert found[701:1000] == list(range(701, 1000))
    assert found[1000] == sum(range(500))
    assert [type(found[i]) for i in (700, 1001, 1002)] == [gr.Failure] * 3
    assert isinstance(found[700].error, gr.WorkerDied)
    assert found[1002].skipped_because is nodes[700]
    assert len(notes(path)) == 3


@gr.task
def deadly_for(x: int, bad: int) -> int:
    if x == bad:
        kill()
    return x + 1


def test_who_needs_the_deadly_node_is_skipped_also_where_it_shares_its_unit(pool):
    """Many short chains: units hold a node, what it needs and what needs it, and nobody asked for the node itself."""
    found = gr.Graph([add(deadly_for(tiny(i), 151), 1) for i in range(300)]).run(pool, on_error="collect").result()
    failed = found.pop(151)
    assert isinstance(failed.error, gr.WorkerDied)
    assert failed.skipped_because._task is deadly_for
    assert found == [i + 2 for i in range(300) if i != 151]


def test_a_returned_node_may_be_the_deadly_one(pool, tmp_path):
    path, other = str(tmp_path / "notes"), str(tmp_path / "other")
    assert pool.compute(returns(path, 2, kill)) == 2
    with pytest.raises(gr.WorkerDied, match="dies"):
        pool.compute(returns(other, 10**9, kill))


def test_an_attempt_knows_of_those_before(pool, tmp_path):
    assert pool.compute(attempts(str(tmp_path / "notes"))) == 3


def test_after_the_first_death_a_spare_is_ready(pool, others, tmp_path):
    assert pool.compute(dies(str(tmp_path / "notes"), 1, kill, 5)) == 5
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if len(workers_but(others)) == 3:
            break
        time.sleep(0.05)
    assert len(workers_but(others)) == 3
    assert len({pid for _, pid in pool.compute([where() for _ in range(40)])}) <= 2  # it takes no part


def test_results_outlive_the_workers_that_made_them(pool):
    """What is in the store is the driver's: only what was running is lost."""

    @gr.task
    def make(i):
        return np.full(100_000, i, dtype=float)

    @gr.task
    def use(path, *arrays):
        note(path, "began")
        if len(notes(path)) < 3:
            kill()
        return float(sum(a[0] for a in arrays))

    with tempfile.TemporaryDirectory() as folder, pool.open() as run:
        made = [run.add(make(i)) for i in range(6)]
        used = run.add(use(os.path.join(folder, "notes"), *made))
        found = {done.node: done.result() for done in run.as_completed()}
    assert found[used] == 15.0
    assert [float(found[m][7]) for m in made] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@gr.task
def brief(i: int) -> tuple[int, str]:
    time.sleep(0.1)
    return i, gr.context().worker


def test_a_pool_goes_on_with_the_workers_that_do_start(pool):
    """The others are killed while they start, again and again; the next run finds all of them."""
    pool.compute(tiny(0))
    stop = threading.Event()

    def killer() -> None:
        first = None
        while not stop.wait(0.005):
            for worker in list(pool._processes.values()):
                first = first or (worker if worker.ready else None)
                if worker is not first:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(worker.pid, signal.SIGKILL)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        assert [i for i, _ in pool.compute([brief(i) for i in range(40)])] == list(range(40))
    finally:
        stop.set()
        thread.join()
    deadline = time.monotonic() + 20
    while len({name for _, name in pool.compute([brief(i) for i in range(8)])}) < 2:
        assert time.monotonic() < deadline


@gr.task
def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@gr.task
def array() -> np.ndarray:
    return np.ones(100_000)


@gr.task
def needs_array(i: int, x=None) -> int:
    time.sleep(0.06)
    return i


def test_a_pool_goes_on_where_no_more_processes_can_be_started(monkeypatch):
    """With the workers that it has; a run that has none left fails, and the next one tries again."""

    def refuse(process):
        raise OSError(errno.EAGAIN, "no more processes")

    with gr.executors.Loky(2) as pool:
        pool.compute(gr.Graph(gr.map(brief, range(4))))
        with monkeypatch.context() as patch:
            patch.setattr(type(LokyContext().Process()), "start", refuse)
            run = gr.Graph(gr.map(brief, range(6))).run(pool)
            time.sleep(0.1)
            os.kill(next(iter(pool._processes.values())).pid, signal.SIGKILL)
            assert [i for i, _ in run.result(timeout=30)] == list(range(6))
            run = gr.Graph(gr.map(brief, range(6))).run(pool)
            time.sleep(0.1)
            for worker in list(pool._processes.values()):
                os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(OSError, match="no more processes"):
                run.result(timeout=30)
            with pytest.raises(OSError, match="no more processes"):
                pool.compute(brief(1))
        assert pool.compute(brief(1))[0] == 1


def test_a_unit_that_was_taken_back_may_name_what_is_gone_by_then(pool):
    """It lies in the pipe of a busy worker, while its array is used up elsewhere; what comes after it is unharmed.

    Though that is of the same task, whose body the worker was to get with the unit that it cannot read.
    """
    pool.compute([where() for _ in range(40)])
    with pool.open() as run:
        made = run.add(array())
        assert [done.result()[0] for done in run.as_completed()] == [1.0]
        run.add(slow(2.5))
        time.sleep(0.2)
        using = [run.add(needs_array(i, made)) for i in range(16)]
        for _, done in zip(using, run.as_completed(), strict=False):
            done.result()
        del made, using, done
        later = [run.add(needs_array(i)) for i in range(40)]
        assert len([done.result() for done in run.as_completed()]) >= len(later)


# ---- timeouts


@pytest.mark.parametrize("how", ["sleep", "native"])
def test_a_late_call_is_ended_with_its_process(pool, tmp_path, how):
    path = str(tmp_path / "notes")
    with pytest.raises(gr.TaskTimeout, match=r"hangs.*0\.3 s"):
        pool.compute(gr.Graph([hangs(path, how), *gr.map(tiny, range(100))]))
    (pid,) = map(int, notes(path))
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert pool.compute(hangs(path, "not at all")) == "done"


def test_a_late_call_harms_no_other(pool, tmp_path):
    path = str(tmp_path / "notes")
    nodes = [hangs(path, "sleep"), *gr.map(tiny, range(1000))]
    found = gr.Graph([*nodes, add(nodes[0], 1)]).compute(pool, on_error="collect")
    assert found[1:1001] == list(range(1000))
    assert isinstance(found[0].error, gr.TaskTimeout)
    assert found[1001].skipped_because is nodes[0]


def test_many_calls_with_timeouts_each_have_their_own(pool, tmp_path):
    nodes = [hangs(str(tmp_path / str(i)), "sleep" if i % 8 == 3 else "not at all") for i in range(40)]
    found = gr.Graph(nodes).compute(pool, on_error="collect")
    for i, value in enumerate(found):
        assert isinstance(value.error, gr.TaskTimeout) if i % 8 == 3 else value == "done"


def test_it_counts_as_an_attempt(pool, tmp_path):
    path = str(tmp_path / "notes")
    assert pool.compute(hangs_once(path)) == 2
    first, second = notes(path)
    assert first != second


# ---- cancelling


def test_cancelling_ends_what_is_running(pool, tmp_path):
    path = str(tmp_path / "notes")
    run = gr.Graph(goes_on(path)).run(pool)
    deadline = time.monotonic() + 10
    while not notes(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    threading.Timer(0.0, run.cancel).start()
    with pytest.raises(gr.Cancelled):
        run.result()
    (pid,) = map(int, notes(path))
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not psutil.pid_exists(pid)
    assert list(pool.compute(gr.Graph(gr.map(tiny, range(10))))) == list(range(10))


@pytest.mark.skipif(sys.platform != "linux", reason="sets the limit of address space")
def test_out_of_memory_is_an_error_of_the_task_or_its_worker(pool):
    @gr.task
    def greedy():
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        return bytearray(64 << 30)

    with pytest.raises((MemoryError, gr.WorkerDied)):
        pool.compute(greedy())
    assert pool.compute(tiny(3)) == 3


def test_a_worker_that_dies_while_it_writes_leaves_no_file(pool, others, tmp_path):
    """Killed at random moments of writing large results: nothing is left that is not in use."""
    path = str(tmp_path / "notes")

    @gr.task(retries=100)  # as many deaths are no fault of its own
    def big(i):
        note(path, str(os.getpid()))
        return np.full(2_000_000, i, dtype=float)

    stop = threading.Event()
    killed: set[str] = set()

    def killer() -> None:
        while len(killed) < 8 and not stop.wait(0.1):
            called = notes(path)
            if called and called[-1] not in killed:  # one that has come to its first call, not one that is starting
                killed.add(called[-1])
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(called[-1]), signal.SIGKILL)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        for _ in range(6):
            found = pool.compute(
                gr.combine(lambda xs: [float(x[-1]) for x in xs], [big(i) for i in range(12)], arity=12)
            )
            assert found == [float(i) for i in range(12)]
            del found
    finally:
        stop.set()
        thread.join()
    assert len(killed) > 3
    pool.compute(tiny(0))
    left = sum([f.stat().st_size for folder in set(stores()) - others for f in folder.iterdir()])
    assert left <= 2 * 256 << 20  # what the two workers keep to write again


# ---- time, for calls that are not the graph's own


@gr.task(timeout=0.5)
def without_end(state: int) -> int:
    while True:
        time.sleep(0.05)


@gr.task
def chooses(x: int):
    return without_end(x)


@pytest.mark.parametrize("node", [gr.iterate(without_end, 0, steps=2), chooses(1)], ids=["iteration", "returned"])
def test_a_timeout_ends_calls_that_tasks_have_returned(pool, node):
    with pytest.raises(gr.TaskTimeout, match="it was ended"):
        pool.run(node).result(timeout=30)
    assert pool.compute(tiny(3)) == pool.compute(tiny(3))


def test_the_pause_before_an_attempt_grows_up_to_a_limit():
    node = gr.task(retries=1000, backoff=0.5)(abs)(1)
    assert 0.75 * 0.5 <= backoff(node, 1) <= 1.25 * 0.5
    assert 0.75 * 4.0 <= backoff(node, 4) <= 1.25 * 4.0
    assert max(backoff(node, failures) for failures in range(5, 1000)) == LONGEST
