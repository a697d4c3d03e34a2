"""Loky: processes that start, die, print, are interrupted, and leave nothing behind."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from leaks import Holdings
from loky.backend.context import LokyContext

import graphray as gr
from graphray.executors.events import NodeFailed, RunFinished
from graphray.testing.tasks import add, identity, nap, noted, notes, process, scale

PATIENCE = 2.0  # seconds in which processes have to be gone: what the project promises
posix = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture
def pool():
    """A pool of a test's own, which it may harm."""
    with gr.executors.Loky(2) as pool:
        yield pool


@gr.task
def die(how, *needs):
    """End the process, one way or another."""
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how) if isinstance(how, str) else how)
    time.sleep(10)


@gr.task
def die_inside(depth):
    """Return nodes of which one ends the process."""
    return add(1, die("SIGKILL") if depth == 0 else die_inside(depth - 1))


@gr.task
def die_on(i, bad):
    return os._exit(7) if i == bad else i


@gr.task
def variables(names):
    return [os.environ.get(name) for name in names]


def gone(pids, patience=PATIENCE):
    """Whether processes end in time."""
    deadline = time.monotonic() + patience
    while left := [p for p in pids if psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE]:
        if time.monotonic() > deadline:
            return f"{left} are still there"
        time.sleep(0.01)
    return True


# ---- workers that die


@posix
@pytest.mark.parametrize(
    ("how", "name", "code"), [("SIGKILL", "SIGKILL", -9), ("SIGSEGV", "SIGSEGV", -11), ("exit", None, 3)]
)
def test_a_dead_worker_ends_the_run_and_is_named_with_its_node(pool, how, name, code):
    node = die(how)
    with pytest.raises(gr.WorkerDied) as raised:
        pool.compute(gr.Graph([*gr.map(scale, range(100)), add(node, 1)]))
    error = raised.value
    assert error.node is node
    assert (error.signal, error.exitcode) == (name, code)
    assert "die(" in str(error)
    assert (name or f"exit code {code}") in str(error)
    assert pool.compute(gr.Graph(gr.map(scale, range(100)))) == tuple(range(0, 200, 2)), "the pool is usable"


@posix
@pytest.mark.parametrize("bad", [0, 1, 57, 499])
def test_the_node_that_kills_is_found_among_many_in_its_unit(pool, bad):
    assert pool.compute(gr.Graph(gr.map(die_on, range(500), [-1] * 500))) == tuple(range(500))
    nodes = gr.map(die_on, range(500), [bad] * 500)
    with pytest.raises(gr.WorkerDied) as raised:
        pool.compute(gr.Graph(gr.combine(sum, nodes)))
    assert raised.value.node is nodes[bad]


@posix
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_a_node_that_a_task_returned_kills(pool, depth):
    """The driver knows the node that returned it; or the very one, if that was handed back before it ran."""
    node = die_inside(depth)
    with pytest.raises(gr.WorkerDied) as raised:
        pool.compute(gr.Graph([add(1, 1), node, add(node, 1)]))
    assert raised.value.node is node or raised.value.node.label == "die('SIGKILL')"


@posix
def test_another_run_on_the_same_pool_goes_on(pool):
    survivor = pool.run(gr.Graph(gr.map(nap, [0.02] * 40)))
    for _ in range(2):
        with pytest.raises(gr.WorkerDied):
            pool.compute(die("SIGKILL"))
    try:
        result = survivor.result()
    except gr.WorkerDied as error:  # one of its nodes was on the same worker
        pytest.fail(f"a run died of what another did: {error}")
    assert result == (None,) * 40


@posix
def test_a_worker_that_dies_while_idle_is_replaced(pool):
    pids = set(pool.compute(gr.Graph([gr.call(slow_pid) for _ in range(2)])))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert gone(pids) is True
    assert pool.compute(gr.Graph(gr.map(scale, range(10)))) == tuple(range(0, 20, 2))
    assert pids.isdisjoint(pool.compute(gr.Graph([gr.call(slow_pid) for _ in range(2)])))


def slow_pid():
    time.sleep(0.2)
    return os.getpid()


def test_a_subscriber_may_close_the_pool():
    pool = gr.executors.Loky(2)
    run = pool.run(gr.Graph(gr.map(nap, [0.05] * 40)), progress=lambda event: pool.close())
    with pytest.raises(gr.Cancelled):
        run.result(timeout=20)
    with pytest.raises(RuntimeError, match="closed"):
        pool.compute(scale(1))


@posix
@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals")
def test_a_signal_without_a_name(pool):
    with pytest.raises(gr.WorkerDied, match=f"by signal {signal.SIGRTMIN + 6} "):
        pool.compute(die(signal.SIGRTMIN + 6))
    assert pool.compute(scale(1)) == 2


@posix
def test_workers_that_die_while_the_driver_is_at_something_else(pool):
    """Their units go to others: they had not begun them."""
    pool.compute(gr.Graph(gr.map(nap, [0.01] * 8)))
    pids = {p.pid for p in psutil.Process().children() if "loky-" in " ".join(p.cmdline())}
    pids &= set(pool.compute(gr.Graph([gr.call(slow_pid) for _ in range(4)])))
    finished = threading.Event()

    def slow(event):
        if type(event) is RunFinished:
            finished.set()
            time.sleep(0.5)

    pool.run(nap(0.01), progress=slow)
    assert finished.wait(10)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert pool.run(scale(2)).result(timeout=20) == 4
    assert pool.compute(scale(3)) == 6


@posix
def test_a_death_is_noticed_whatever_the_tasks_have_started(pool):
    """A process of theirs that lives on has none of the worker's pipes."""
    began = time.monotonic()
    with pytest.raises(gr.WorkerDied):
        pool.compute(die("SIGKILL", gr.call(os.system, "sleep 20 &")))
    assert time.monotonic() - began < 10


@posix
def test_the_worker_says_which_returned_node_killed_it(pool):
    with pytest.raises(gr.WorkerDied, match=r"it ran die(, which die_inside\(1\) returned|\('SIGKILL'\))"):
        pool.compute(gr.Graph([add(1, 1), die_inside(1)]))


@posix
def test_workers_that_cannot_start_end_the_run(tmp_path):
    """Not for ever, and with a reason; the pool tries again for the next run."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'graphray-doom' in os.environ and 'popen_loky' in ' '.join(sys.orig_argv): os._exit(5)\n"
    )
    outcome = script(
        """
        import os, sys, graphray as gr
        os.environ["PYTHONPATH"] = sys.argv[1]
        os.environ["graphray-doom"] = "1"
        with gr.executors.Loky(2) as pool:
            for _ in range(2):
                try:
                    pool.compute(gr.call(int))
                except gr.WorkerDied as error:
                    print(error.exitcode, error)
            del os.environ["graphray-doom"]
            print(pool.compute(gr.call(int)))
        """,
        str(tmp_path),
    )
    one, two, three = outcome.stdout.splitlines()
    assert one.startswith("5 ")
    assert one == two
    assert "before they are ready" in one
    assert three == "0"


# ---- a warm pool


def test_workers_stay_warm(pool):
    first = set(pool.compute(gr.Graph([gr.call(slow_pid) for _ in range(4)])))
    for _ in range(5):
        assert set(pool.compute(gr.Graph([process() for _ in range(50)]))) <= first
    assert len(first) == 2
    assert os.getpid() not in first


def test_there_are_as_many_workers_as_cores_unless_said():
    assert gr.executors.Loky().workers == len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else True
    for nonsense in (0, -1, 1.5, "two"):
        with pytest.raises(ValueError, match="workers"):
            gr.executors.Loky(nonsense)


def test_two_pools_at_once(loky):
    with gr.executors.Loky(1) as other:
        runs = [engine.run(gr.Graph(gr.map(process.fn and process_of, range(20)))) for engine in (loky, other)]
        here, there = (set(run.result()) for run in runs)
    assert here.isdisjoint(there)


@gr.task
def process_of(i):
    return os.getpid()


def test_workers_let_go_of_tasks_that_the_driver_dropped(pool):
    """Closures made in a loop would otherwise fill the workers with what they close over."""
    counts = []
    for i in range(30):
        big = np.zeros(10_000) + i
        assert pool.compute(gr.Graph(gr.map(gr.task(lambda x, big=big: float(big[0])), range(4)))) == (float(i),) * 4
        del big
        counts.append(max(pool.compute(gr.Graph([gr.call(count_tasks) for _ in range(2)]))))
    assert counts[-1] - counts[10] < 10


def count_tasks():
    import gc

    gc.collect()
    return sum([type(o).__name__ == "Task" for o in gc.get_objects()])


def test_the_driver_lets_go_of_values(pool):
    """Results, arguments and graphs are nobody's once the caller has dropped them."""
    import gc
    import weakref

    array = np.ones(200_000)
    node = identity(array)
    result = pool.compute(gr.Graph([node, scale(node)]))
    references = [weakref.ref(array), weakref.ref(node), weakref.ref(result[1])]
    del array, node, result
    pool.compute(add(1, 2))
    gc.collect()
    assert [r() for r in references] == [None] * 3


# ---- the environment of workers

LIMITS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"]


def test_one_thread_per_task_unless_said(loky):
    assert loky.compute(variables(LIMITS)) == ["1"] * 4
    with gr.executors.Loky(1, threads_per_task=2) as pool:
        assert pool.compute(variables(LIMITS)) == ["2"] * 4
        assert all(v is None for v in variables.fn(LIMITS)), "the driver's own environment is as it was"


def test_modules_that_the_driver_can_import_are_found(loky, tmp_path, monkeypatch):
    """Also where the way to them was added after the pool had started."""
    (tmp_path / "made_late.py").write_text("import graphray as gr\n@gr.task\ndef f(x):\n    return x + 1000\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import made_late

    assert loky.compute(made_late.f(1)) == 1001


def test_what_tasks_print_reaches_the_drivers_terminal(pool, capfd):
    pool.compute(gr.call(print, "to stdout"))
    pool.compute(gr.call(os.write, 2, b"to stderr\n"))
    captured = capfd.readouterr()
    assert "to stdout" in captured.out
    assert "to stderr" in captured.err


def test_lines_are_printed_whole_and_say_where_they_are_from():
    """However many workers print, and whatever PYTHONUNBUFFERED says."""
    for unbuffered in ("", "1"):
        done = script(
            """
            import graphray as gr
            gr.compute(*gr.map(print, ["some"] * 5000, range(5000), ["line"] * 5000), executor="loky:2")
            """,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
        lines = [
            re.fullmatch(r"\[print\('some', (\d+), 'line'\) loky-\d+\] some (\d+) line", line)
            for line in done.stdout.splitlines()
        ]
        assert sorted([(int(m[1]), int(m[2])) for m in lines]) == [(i, i) for i in range(5000)]


@pytest.mark.parametrize("waiting_for", ["thread", "processes"])
def test_a_close_that_is_interrupted_leaves_nothing(monkeypatch, waiting_for):
    """By a Ctrl-C, while it waits."""
    before = Holdings.now()
    pool = gr.executors.Loky(2)
    assert pool.compute(add(1, 2)) == 3
    kind = threading.Thread if waiting_for == "thread" else type(LokyContext().Process())
    join, joined = kind.join, []

    def interrupted(one, timeout=None):
        joined.append(timeout)
        if len(joined) == 1:
            raise KeyboardInterrupt
        join(one, timeout)

    monkeypatch.setattr(kind, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.close()
    assert before.left_over() == []


@gr.task
def print_in_a_fork(folder):
    """Fork a process that opens files and prints; what is in the files then."""
    paths = [Path(folder, str(i)) for i in range(8)]
    pid = os.fork()
    if not pid:
        files = [os.open(path, os.O_WRONLY | os.O_CREAT) for path in paths]
        print("from the fork", flush=True)
        os._exit(len(files) - len(paths))
    assert os.waitpid(pid, 0)[1] == 0
    return [path.read_bytes() for path in paths]


@posix
def test_what_a_forked_process_prints_does_not_get_into_its_files(pool, tmp_path, capfd):
    """One of them has got the number that the pipe to the driver had."""
    assert pool.compute(print_in_a_fork(str(tmp_path))) == [b""] * 8
    assert "from the fork" in capfd.readouterr().out


@posix
def test_a_start_that_fails_leaves_nothing_and_can_be_tried_again(monkeypatch):
    """The second process cannot be started: the machine has no more of them, say."""
    kind = type(LokyContext().Process())
    start, started = kind.start, []

    def fail(process):
        started.append(process.name)
        if len(started) % 2 == 0:
            raise OSError(errno.EAGAIN, "no more processes")
        start(process)

    with gr.executors.Loky(2) as pool:
        before = Holdings.now()
        with monkeypatch.context() as patch:
            patch.setattr(kind, "start", fail)
            for _ in range(2):
                with pytest.raises(OSError, match="no more processes"):
                    pool.compute(add(1, 2))
        assert before.left_over() == []
        assert len(started) == 4
        assert pool.compute(add(1, 2)) == 3


@posix
def test_processes_that_tasks_start_heed_ctrl_c(pool):
    ask = [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT) == signal.SIG_IGN)"]
    assert pool.compute(gr.call(subprocess.check_output, ask, text=True)) == "False\n"


# ---- what cannot be read on the other side


class Unreadable:
    """Can be sent, and not received."""

    def __reduce__(self):
        return unreadable, (os.getpid(),)


def unreadable(pid):
    if os.getpid() != pid:
        raise ImportError("not there")
    return Unreadable()


@gr.task
def make_unreadable(i, bad):
    return Unreadable() if i == bad else i


@pytest.mark.parametrize("bad", [0, 2, 39])
def test_what_cannot_be_read_fails_the_node_that_has_it_and_no_other(loky, bad):
    arguments = gr.map(identity, [Unreadable() if i == bad else i for i in range(40)])
    results = gr.map(make_unreadable, range(40), bad=bad)
    for nodes in (arguments, results):
        told = []
        values = loky.compute(gr.Graph(nodes), on_error="collect", progress=told.append)
        assert [i for i, v in enumerate(values) if type(v) is gr.Failure] == [bad]
        assert isinstance(values[bad].error, ImportError)
        assert [e.node for e in told if type(e) is NodeFailed] == [nodes[bad]]
        with pytest.raises(ImportError) as raised:
            loky.compute(gr.Graph(nodes))
        assert any(nodes[bad].label in note for note in raised.value.__notes__)
    assert loky.compute(scale(1)) == 2


# ---- much data


def test_large_values_in_both_directions_at_once(loky):
    """Each side sends what does not fit into a pipe while the other does: nobody waits for ever."""
    arrays = [np.full(2_000_000, float(i)) for i in range(6)]
    results = loky.compute(gr.Graph([[identity(scale(a, 2)), identity(a)] for a in arrays]))
    for i, (double, same) in enumerate(results):
        assert double[0] == 2 * i
        assert same[-1] == i


def test_many_large_arguments_ahead(loky):
    task = gr.task(lambda a, i: float(a[i]))
    loky.compute(gr.Graph(gr.map(task, [np.zeros(10)] * 20, [0] * 20)))
    arrays = [np.arange(100_000.0) + i for i in range(100)]
    assert loky.compute(gr.Graph(gr.map(task, arrays, range(100)))) == tuple(2.0 * i for i in range(100))


def test_returned_nodes_that_cannot_be_pickled_run_where_they_are(loky):
    """Handing them back would be a help, not a need."""

    def wide(n):
        locks = [threading.Lock() for _ in range(n)]
        return [gr.call(hold, lock, i) for i, lock in enumerate(locks)]

    graph = gr.Graph([gr.call(wide, 20), gr.call(wide, 3)])
    assert loky.compute(graph) == [list(range(20)), list(range(3))]


def hold(lock, i):
    with lock:
        time.sleep(0.005)
    return i


# ---- scripts: tasks of __main__, and how drivers end


def script(text, *args, code=0, **options):
    """Run a program of its own to its end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.py")
        path.write_text(textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, "-W", "error", str(path), *args], capture_output=True, text=True, timeout=60, **options
        )
    assert done.returncode == code, done.stderr
    return done


MAIN = """
    import dataclasses
    import graphray as gr

    print("once")
    FACTOR = 3

    @dataclasses.dataclass
    class Pair:
        a: int
        b: object = None

    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(a + b)

    def helper(x):
        return x * FACTOR

    @gr.task
    def triple(x):
        return helper(x)

    @gr.task
    def recurse(n):
        return triple(1) if n == 0 else recurse(n - 1)

    @gr.task
    def pair(x):
        return Pair(x, [x])

    @gr.task
    def raising():
        raise Odd("a", "b")

    @gr.task
    def made():
        return gr.local(Pair, 5).a

    with gr.executors.Loky(2) as pool:
        graph = gr.Graph(a=gr.combine(sum, gr.map(triple, range(100))), b=recurse(5), c=pair(Pair(1)), d=made())
        print(pool.compute(graph))
        print(type(pool.compute(pair(1))) is Pair)
        print(pool.compute(gr.call(lambda: FACTOR)))
        try:
            pool.compute(raising())
        except Odd as error:
            print("odd", error)
        print(gr.iterate(triple, 1, steps=3).compute(pool))
"""

PRINTED = """
    once
    {'a': 14850, 'b': 3, 'c': Pair(a=Pair(a=1, b=None), b=[Pair(a=1, b=None)]), 'd': 5}
    True
    3
    odd ab
    27
"""


def test_tasks_and_classes_of_a_script():
    """Without a guard against being run again by the workers: it is not."""
    assert script(MAIN).stdout == textwrap.dedent(PRINTED).lstrip()


def test_an_edited_helper_counts_in_the_next_run_of_a_warm_pool():
    """As when a cell of a notebook is run again."""
    done = script(
        """
        import graphray as gr

        def helper(x):
            return "old"

        @gr.task
        def use(x):
            return helper(x) + str(FACTOR)

        FACTOR = 1
        with gr.executors.Loky(1) as pool:
            print(pool.compute(use(1)))
            exec("def helper(x): return 'new'")
            print(pool.compute(use(1)))
            FACTOR = 2
            print(pool.compute(gr.Graph(gr.map(use, [1] * 3)))[2])
        """
    )
    assert done.stdout.split() == ["old1", "new1", "new2"]


def test_a_script_from_the_command_line_and_from_standard_input():
    code = textwrap.dedent(MAIN)
    for command, options in (([sys.executable, "-c", code], {}), ([sys.executable, "-"], {"input": code})):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, **options)
        assert done.stdout == textwrap.dedent(PRINTED).lstrip()


def test_a_fresh_interpreter_has_its_first_result_soon():
    """The benchmark measures it; here it is only to be no matter of seconds."""
    began = time.perf_counter()
    script("import graphray as gr\nassert gr.call(len, 'ab').compute('loky:2') == 2\n")
    assert time.perf_counter() - began < 5.0


def test_a_pool_that_is_not_closed_does_not_keep_the_program_alive():
    done = script(
        """
        import time
        import graphray as gr
        pool = gr.executors.Loky(2)
        print(pool.compute(gr.call(len, "ab")))
        run = pool.run(gr.Graph(gr.map(time.sleep, [30] * 4)))
        """
    )
    assert done.stdout == "2\n"
    assert done.stderr == ""


def test_leaving_a_program_inside_a_pools_block():
    began = time.perf_counter()
    script(
        """
        import sys, time
        import graphray as gr
        with gr.executors.Loky(2) as pool:
            run = pool.run(gr.Graph(gr.map(time.sleep, [30] * 4)))
            time.sleep(0.5)
            sys.exit(4)
        """,
        code=4,
    )
    assert time.perf_counter() - began < 8.0


DRIVER = """
    import os, sys, time
    import graphray as gr

    @gr.task
    def busy(i):
        print(os.getpid(), flush=True)
        if kind == "native":  # Python's lock is not let go
            sum(range(10**11))
        time.sleep({seconds})
        return i

    kind = {kind!r}
    if kind == "growing":
        with gr.executors.Loky(2) as pool, pool.open() as run:
            for i in range(4):
                run.add(busy(i))
            for done in run.as_completed():
                pass
    elif kind == "idle":
        with gr.executors.Loky(2) as pool:
            pool.compute(gr.Graph(gr.map(busy, range(2))))
            print("idle", flush=True)
            time.sleep(60)
    else:
        gr.Graph(gr.map(busy, range(4))).compute("loky:2")
"""


@contextlib.contextmanager
def driver(kind):
    """A program that computes on two workers, at the moment when both are at it (or idle again); and their ids."""
    text = textwrap.dedent(DRIVER.format(kind=kind, seconds=0.3 if kind == "idle" else 60))
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    family = []
    try:
        workers = {int(process.stdout.readline().split()[-1]) for _ in range(2)}
        if kind == "idle":
            assert process.stdout.readline() == "idle\n"
        assert len(workers) == 2
        family = [p.pid for p in psutil.Process(process.pid).children(recursive=True)]
        assert workers <= set(family)
        yield process, family
    finally:
        for pid in (process.pid, *family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


@posix
@pytest.mark.parametrize("kind", ["run", "growing", "idle"])
@pytest.mark.parametrize("to", ["group", "driver"])
def test_ctrl_c_leaves_no_process(kind, to):
    """A terminal sends the signal to the whole group; an editor or a supervisor to the driver alone."""
    with driver(kind) as (process, family):
        (os.killpg if to == "group" else os.kill)(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=10)
        assert process.returncode in (1, -signal.SIGINT, 130)
        assert err.count("Traceback") == 1
        assert err.strip().endswith("KeyboardInterrupt")
        assert gone(family) is True


@posix
@pytest.mark.parametrize("kind", ["run", "idle", "native"])
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_killed_driver_leaves_no_process_and_no_file(kind, name):
    with driver(kind) as (process, family):
        os.kill(process.pid, getattr(signal, name))
        process.wait(timeout=10)
        assert gone(family) is True
        deadline = time.monotonic() + 5
        while files(process.pid) and time.monotonic() < deadline:  # the tracker is at it
            time.sleep(0.01)
        assert not files(process.pid)


def files(pid):
    """Files that graphray has made in a process, wherever it makes some."""
    places = [d for d in ("/dev/shm", tempfile.gettempdir()) if os.path.isdir(d)]
    names = [f"{place}/{name}" for place in places for name in os.listdir(place) if "graphray" in name]
    return {name for name in names if f"-{pid}-" in name}


def test_no_file_is_left_or_needed_while_a_pool_works(pool):
    before = files(os.getpid())
    pool.compute(gr.Graph([identity(np.ones(500_000)) for _ in range(4)]))
    pool.close()
    assert files(os.getpid()) <= before


# ---- ending runs


def test_a_cancelled_run_of_a_named_engine_closes_it(tmp_path):
    path = str(tmp_path / "notes")
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    run = gr.Graph([noted(path, "began"), nap(30)]).run("loky:2")
    deadline = time.monotonic() + 10
    while not notes(path) and time.monotonic() < deadline:
        time.sleep(0.01)
    mine = {p.pid for p in psutil.Process().children(recursive=True)} - before
    run.cancel()
    with pytest.raises(gr.Cancelled):
        run.result()
    trackers = {p for p in mine if psutil.pid_exists(p) and "tracker" in " ".join(psutil.Process(p).cmdline())}
    assert gone(mine - trackers) is True


def test_a_result_that_takes_too_long_goes_on(pool):
    run = pool.run(nap(0.5, "there"))
    with pytest.raises(TimeoutError, match=r"0\.05"):
        run.result(timeout=0.05)
    assert not run.done()
    assert run.result() == "there"


@posix
def test_ctrl_c_in_a_waiting_thread_leaves_the_pool_usable(pool):
    """As in a notebook: the pool is meant to stay."""
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    pool.compute(add(1, 2))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        pool.compute(gr.Graph(gr.map(nap, [30, 30, 30])))
    timer.join()
    began = time.monotonic()
    assert pool.compute(gr.Graph(gr.map(scale, range(20)))) == tuple(range(0, 40, 2))
    assert time.monotonic() - began < 10


@gr.task
def with_a_pool_of_its_own(kind):
    if kind == "pool":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(abs, [-1])
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(abs, -1).result()


@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_a_task_that_starts_processes_with_multiprocessing_is_told_what_to_do(loky, kind):
    with pytest.raises(AssertionError, match="daemonic processes") as caught:
        loky.compute(with_a_pool_of_its_own(kind))
    assert "make their calls nodes of the graph" in "".join(caught.value.__notes__)
