"""The result store: what large values are on the other side, how often they are written, and when their files go."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

import graphray as gr
from graphray.executors import wire
from graphray.executors.store import workshop
from graphray.executors.store.directory import Directory, sweep
from graphray.executors.store.registry import Registry, Stored
from graphray.testing.tasks import identity, note, notes

posix = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no signals")

LARGE = 100_000  # numbers of an array that goes through the store: 800 KB


class Places(NamedTuple):
    """Folders of a test's own for the store's segments, in memory and on disk."""

    memory: Path
    disk: Path

    def segments(self) -> dict[str, int]:
        """The segments that are there, of whichever executor, and the bytes of each."""
        found = {}
        for place in self:
            for folder in place.glob("graphray-store-*"):
                for name in os.listdir(folder):
                    with contextlib.suppress(FileNotFoundError):
                        if name != ".graphray-store":
                            found[f"{folder}/{name}"] = (folder / name).stat().st_size
        return found

    def left(self) -> list[str]:
        """All that is there."""
        return sorted(str(p) for place in self for p in place.rglob("*"))


@pytest.fixture
def places(tmp_path, monkeypatch):
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else str(tmp_path)
    memory = Path(tempfile.mkdtemp(prefix="tests-of-graphrays-store-", dir=shared))
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setenv("GRAPHRAY_STORE", str(memory))
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    try:
        yield Places(memory, disk)
    finally:
        shutil.rmtree(memory)


@pytest.fixture
def pool(places):
    with gr.executors.Loky(2) as made:
        yield made


def until(condition, patience: float = 10.0) -> bool:
    deadline = time.monotonic() + patience
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(condition())


# ---- what a value is on the other side


@dataclasses.dataclass(frozen=True)
class Frame:
    """A container of arrays."""

    name: str
    data: Any
    more: Any = None


class Point(NamedTuple):
    x: Any
    y: Any


class Box:
    """No container: an object that may change its insides."""

    def __init__(self, data):
        self.data = data
        self.also = [data[:10]]


def array(kind: str) -> np.ndarray:
    rng = np.random.default_rng(len(kind))
    plain = rng.standard_normal((300, 400))
    return {
        "C": plain,
        "F": np.asfortranarray(plain),
        "0-d": np.array(3.5),
        "empty": np.zeros((0, 7)),
        "strided": plain[::2, ::-3],
        "transposed": rng.standard_normal((30, 40, 50)).transpose(2, 0, 1),
        "broadcast": np.broadcast_to(np.arange(400.0), (300, 400)),
        "structured": np.rec.fromarrays([np.arange(9_000), np.arange(9_000) / 3], names="a,b").view(np.ndarray),
        "text": np.array(["a", "bcd", "ü"] * 9_000),
        "complex": plain + 1j * plain,
        "small type": (plain > 0),
        "big-endian": plain.astype(">f4"),
        "time": np.arange(20_000).astype("datetime64[s]"),
        "objects": np.array([{"i": i} for i in range(20_000)], dtype=object),
        "read-only": np.frombuffer(bytes(range(256)) * 400, np.uint8),
    }[kind]


ARRAYS = (
    "C,F,0-d,empty,strided,transposed,broadcast,structured,text,complex,small type,big-endian,time,objects,read-only"
)


@gr.task
def make(kind: str):
    return array(kind)


@gr.task
def tell(x) -> dict[str, Any]:
    """What a task sees of an array."""
    try:
        x[...] = x
        writable = True
    except ValueError:
        writable = False
    seen = {"dtype": x.dtype, "shape": x.shape, "fortran": x.flags.f_contiguous, "writable": writable}
    return {**seen, "content": x.tolist(), "type": type(x)}


@pytest.mark.parametrize("kind", ARRAYS.split(","))
def test_arrays_arrive_as_read_only_views_with_the_same_content(loky, kind):
    """As an argument, as another task's result, and as the user's."""
    expected = array(kind)
    as_argument, as_result, mine = loky.compute(gr.Graph([tell(array(kind)), tell(make(kind)), make(kind)]))
    for seen in (as_argument, as_result):
        assert seen["dtype"] == expected.dtype
        assert seen["shape"] == expected.shape
        assert seen["content"] == expected.tolist()
        assert seen["type"] is np.ndarray
        assert not seen["writable"]
        if expected.flags.c_contiguous or expected.flags.f_contiguous:
            assert seen["fortran"] == expected.flags.f_contiguous
    assert mine.dtype == expected.dtype
    assert mine.tolist() == expected.tolist()
    assert not mine.flags.writeable


def containers(x) -> dict[str, Any]:
    return {
        "list": [x, [x, 1]],
        "tuple": ((x,), "a", x),
        "dict": {"a": x, "b": {"c": [x]}},
        "named tuple": Point(x, y=(x, None)),
        "dataclass": Frame("f", x, more={"inner": Frame("g", [x])}),
    }


def arrays_in(x: Any) -> list[np.ndarray]:
    if isinstance(x, np.ndarray):
        return [x]
    if isinstance(x, Frame):
        return arrays_in([x.data, x.more])
    parts = x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple)) else ()
    return [a for part in parts for a in arrays_in(part)]


@gr.task
def contained(how: str):
    return containers(np.arange(LARGE))[how]


@gr.task
def look_inside(x) -> tuple[str, list[int], list[bool]]:
    found = arrays_in(x)
    return type(x).__name__, [int(a.sum()) for a in found], [a.flags.writeable for a in found]


@pytest.mark.parametrize("how", ["list", "tuple", "dict", "named tuple", "dataclass"])
def test_arrays_in_containers_are_read_only_views(loky, how):
    mine = containers(np.arange(LARGE))[how]
    total = int(np.arange(LARGE).sum())
    seen = loky.compute(gr.Graph([look_inside(mine), look_inside(contained(how))]))
    assert seen == [(type(mine).__name__, [total, total], [False, False])] * 2
    assert all(a.flags.writeable for a in arrays_in(mine))
    got = loky.compute(contained(how))
    assert [a.flags.writeable for a in arrays_in(got)] == [False, False]
    assert [int(a.sum()) for a in arrays_in(got)] == [total, total]


@gr.task
def box() -> Box:
    return Box(np.arange(LARGE))


@gr.task(timeout=60)
def change(x: Box) -> int:
    """Change a box's insides, in a unit of its own."""
    before = int(x.data.sum())
    x.data[:] = -1
    return before


def test_insides_of_other_objects_are_private_copies(loky):
    """What crosses to another process may be changed there: nobody else sees it, nor does the next to come there."""
    made, mine = box(), Box(np.arange(LARGE))
    total = int(np.arange(LARGE).sum())
    graph = gr.Graph([change(made), change(made), change(mine), change(mine), made])
    *seen, got = loky.compute(graph)
    assert seen == [total] * 4
    assert int(mine.data.sum()) == total
    assert int(got.data.sum()) == total
    got.data[:] = 0
    assert [x.data.flags.writeable for x in (got, mine)] == [True, True]


@gr.task
def large(what: str):
    return large_value(what)


def large_value(what: str) -> Any:
    return {
        "bytes": bytes(range(256)) * 1_000,
        "bytearray": bytearray(range(256)) * 1_000,
        "text": "grün" * 50_000,
        "list": list(range(100_000)),
        "nested": {i: [str(i), (i, {i})] for i in range(20_000)},
        "big number": 3**500_000,
    }[what]


@gr.task
def fingerprint(x: Any) -> tuple[str, str]:
    return type(x).__name__, hashlib.sha1(repr(x).encode() if not isinstance(x, int) else hex(x).encode()).hexdigest()


@pytest.mark.parametrize("what", ["bytes", "bytearray", "text", "list", "nested", "big number"])
def test_large_values_without_buffers(loky, what):
    expected = large_value(what)
    a, b, got = loky.compute(gr.Graph([fingerprint(expected), fingerprint(large(what)), large(what)]))
    assert a == b == fingerprint.fn(expected)
    assert got == expected


@gr.task
def jax_array():
    import jax.numpy as jnp

    return jnp.arange(LARGE, dtype=jnp.float32) * 2


@gr.task
def about_jax(x) -> tuple[bool, float, str]:
    import jax

    return isinstance(x, jax.Array), float(x.max()), str(x.dtype)


def test_jax_arrays(loky):
    import jax
    import jax.numpy as jnp

    mine = jnp.arange(LARGE, dtype=jnp.float32) * 2
    a, b, got = loky.compute(gr.Graph([about_jax(mine), about_jax(jax_array()), jax_array()]))
    assert a == b == (True, float(mine.max()), "float32")
    assert isinstance(got, jax.Array)
    assert bool((got == mine).all())


@gr.task
def table():
    import pyarrow

    return pyarrow.table({"n": range(LARGE), "text": [str(i) for i in range(LARGE)]})


@gr.task
def about_table(x) -> tuple[int, int, int, str]:
    return x.num_rows, sum(x["n"].to_pylist()), len("".join(x["text"].to_pylist())), str(x.schema)


def test_arrow_tables(loky):
    mine = table.fn()
    part = mine.slice(10, 50_000)
    a, b, c, got = loky.compute(gr.Graph([about_table(mine), about_table(part), about_table(table()), table()]))
    assert (a, b, c) == (about_table.fn(mine), about_table.fn(part), about_table.fn(mine))
    assert got.equals(mine)


@gr.task
def frame():
    import pandas

    data = {"n": np.arange(LARGE), "x": np.arange(LARGE) / 7, "kind": ["a", "bc"] * (LARGE // 2)}
    return pandas.DataFrame(data).astype({"kind": "category"})


@gr.task
def about_frame(x) -> tuple[float, float, list[str]]:
    return float(x["n"].sum()), float(x["x"].sum()), [str(t) for t in x.dtypes]


def test_data_frames(loky):
    mine = frame.fn()
    a, b, got = loky.compute(gr.Graph([about_frame(mine), about_frame(frame()), frame()]))
    assert a == b == about_frame.fn(mine)
    assert got.equals(mine)


# ---- written once, copied nowhere


@gr.task
def sum_up(x, i: int = 0) -> float:
    return float(x.sum()) + i


def test_an_array_is_written_once_however_many_tasks_and_runs_read_it(pool, places):
    data = np.arange(float(LARGE))
    graph = gr.Graph([sum_up(data, i) for i in range(16)])
    expected = [float(data.sum()) + i for i in range(16)]
    assert pool.compute(graph) == expected
    written = places.segments()
    assert [data.nbytes <= size < 1.1 * data.nbytes for size in written.values()] == [True]
    assert pool.compute(graph) == expected
    assert places.segments() == written
    again = pool.run(graph)
    assert again.result() == expected
    assert sum(e.sent for e in again.events if type(e).__name__ == "UnitFinished") == 0


def test_a_graph_made_anew_sees_what_an_array_is_by_then(pool):
    data = np.zeros(LARGE)
    assert pool.compute(sum_up(data)) == 0
    data[:] = 1
    assert pool.compute(sum_up(data)) == LARGE
    data[:] = 2
    assert pool.compute(gr.Graph([sum_up(data, i) for i in range(3)])) == [2 * LARGE + i for i in range(3)]


def test_a_growing_run_sees_what_an_array_is_by_then(pool):
    """Once the nodes that had it are gone, it is the user's to change."""
    data = np.zeros(LARGE)
    with pool.open() as run:
        for content in range(3):
            data[:] = content
            run.add(sum_up(data))
            run.add(sum_up(data, 1))
            assert sorted([done.result() for done in run.as_completed()]) == [content * LARGE, content * LARGE + 1]


def test_an_array_goes_when_the_last_node_that_has_it_does(pool, places):
    node = sum_up(np.ones(LARGE))
    assert pool.compute(node) == LARGE
    (its,) = places.segments()
    other = sum_up(1 + np.ones(LARGE))
    assert pool.compute(gr.Graph([node, other])) == [LARGE, 2 * LARGE]
    assert its in places.segments()
    del node
    assert pool.compute(other) == 2 * LARGE  # the engine looks after its store while it works
    assert until(lambda: its not in places.segments())
    assert len(places.segments()) == 1


def test_different_views_of_one_memory_stay_apart(pool):
    """What is written once is the same view, not just the same memory."""
    fields = np.zeros(LARGE, dtype=[("a", "f4"), ("b", "f4")])
    fields["a"] = 1.5
    others = fields.view([("c", "i4"), ("d", "i4")])
    matrix = np.lib.stride_tricks.as_strided(np.arange(float(LARGE)), (LARGE // 100, 100), (800, 8))
    special = matrix.view(np.recarray)
    views = [fields, others, matrix, matrix[::-1], matrix[:, ::2], matrix.T, special, matrix.view("i8"), matrix[:100]]
    seen = pool.compute(gr.Graph([tell(v) for v in views]))
    assert [(s["dtype"], s["shape"], s["type"]) for s in seen] == [(v.dtype, v.shape, type(v)) for v in views]
    assert [s["content"] for s in seen] == [v.tolist() for v in views]


@gr.task(pure=False)
def many_objects(n: int):
    """An array whose pickle is far smaller than what it weighs: it comes to the driver in the message."""
    x = np.empty(30_000, dtype=object)
    x[0] = n
    return x


@gr.task(timeout=60)
def first_of(x) -> int:
    """Runs in a unit of its own, because of the timeout."""
    return x[0]


@gr.task(pure=False)
def count_up(path: str) -> int:
    note(path, "again")
    return len(notes(path))


def test_each_run_sees_its_own_results(pool, tmp_path):
    """Also where one has the place in the driver's memory that one of an earlier run had."""
    made = many_objects(count_up(str(tmp_path / "count")))
    graph = gr.Graph([first_of(made) for _ in range(4)])
    for i in range(8):
        run = pool.run(graph)
        assert run.result() == [i + 1] * 4
        del run


@gr.task
def ones(n: int = LARGE, i: int = 1):
    return np.full(n, i, dtype=float)


@gr.task
def hand_on(x):
    return {"first": x, "part": x[100:-100], "rest": (1, [x])}


@gr.task
def taken(x) -> float:
    return float(x["first"].sum() + x["part"].sum() + x["rest"][1][0].sum())


def test_what_a_task_hands_on_is_not_written_again(pool, places):
    """Arrays of a megabyte and more, in part too: only the pickle around them is new."""
    n = 1_000_000
    run = pool.run(taken(hand_on(identity(ones(n)))))
    assert run.result() == 3 * n - 200
    with pool.open() as growing:
        node = growing.add(ones(n))
        for done in growing.as_completed():
            assert done.result()[0] == 1
        before = places.segments()
        other = growing.add(hand_on(node))
        for done in growing.as_completed():
            assert done.result()["part"].shape == (n - 200,)
        after = places.segments()
        assert sum(after.values()) - sum(before.values()) < 100_000
        assert other is not node


def test_a_handed_on_part_outlives_the_value_it_is_of(pool):
    n = 1_000_000
    graph = gr.Graph([gr.call(lambda d, k: d["part"][k : k + 10].copy(), hand_on(ones(n, i)), 5) for i in range(1, 9)])
    parts = [hand_on(ones(n, i)) for i in range(1, 9)]
    assert [float(x[0]) for x in pool.compute(graph)] == list(range(1, 9))
    kept = pool.compute(gr.Graph(parts))
    for _ in range(3):
        pool.compute(gr.Graph([sum_up(ones(n, 50 + i)) for i in range(6)]))
    assert [float(d["part"].min()) for d in kept] == [float(d["part"].max()) for d in kept] == list(range(1, 9))


# ---- views that somebody keeps

_stash: list[tuple[int, Any]] = []


def shelf(number: int) -> list[tuple[int, Any]]:
    return []


@gr.task(pure=False)
def stash(x, i: int) -> int:
    """Keep a view in the process beyond the call, as caches and closures do."""
    _stash.append((i, x[: len(x) // 2]))
    return i


@gr.task(pure=False)
def put_on_shelf(x, i: int) -> int:
    gr.local(shelf, i % 2).append((i, x))
    return i


@gr.task(pure=False)
def look_at_views(i: int) -> tuple[int, list[int]]:
    """How many views this process keeps, and which of them are not what they were."""
    time.sleep(0.01)  # so that the other process gets some of these calls
    views = [*_stash, *gr.local(shelf, 0), *gr.local(shelf, 1)]
    return len(views), [i for i, x in views if not (x == i).all()]


def test_a_view_that_a_task_keeps_is_never_written_over(pool, places):
    """Segments are written again and again for later results, but those of which there are views are not."""
    number = most = 0
    names = set()
    for _ in range(12):
        nodes = []
        for _ in range(8):
            number += 1
            how = (sum_up, sum_up, stash, put_on_shelf)[number % 4]
            nodes.append(how(pass_on(ones(LARGE, number)), number))
        assert pool.compute(gr.Graph(nodes))
        names |= places.segments().keys()
        found = pool.compute(gr.Graph([look_at_views(i) for i in range(8)]))
        assert [wrong for _, wrong in found] == [[]] * 8
        most = max(n for n, _ in found)
    assert most > 5
    assert len(names) < 2 * number  # some were written again: or this would show nothing


@gr.task(timeout=60)
def pass_on(x):
    """Runs in a unit of its own: its argument and its result cross a process border."""
    return x + 0


# ---- how long they stay


def test_results_stay_valid(places):
    """After the run's object is gone, the store has gone on with other results, and the executor is closed."""
    with gr.executors.Loky(2) as pool:
        run = pool.run(gr.Graph([ones(n, i) for i in range(1, 9) for n in (10_000, LARGE)]))
        kept = run.result()
        del run
        for i in range(5):
            pool.compute(gr.Graph([sum_up(pass_on(ones(LARGE, 100 + i))) for _ in range(8)]))
        never_looked_at = pool.run(gr.Graph([ones(n, i) for i in range(1, 9) for n in (10_000, LARGE)]))
        assert until(never_looked_at.done)
    for arrays in (kept, never_looked_at.result()):
        assert [set(x.tolist()) for x in arrays] == [{float(i)} for i in range(1, 9) for _ in range(2)]
    assert not places.left()


@gr.task(timeout=60)
def step(x):
    """The next of a chain, in a unit of its own."""
    return x + 1


def test_a_long_chain_needs_room_for_a_few_results(pool, places):
    """A result goes when the last node that needs it is done, not when the run ends."""
    n = 1_000_000
    node = ones(n)
    for _ in range(40):
        node = step(node)
    assert pool.compute(sum_up(node)) == 41 * n
    assert pool._store.peak <= 6 * 8 * n  # 40 were made; free ones that are to be written again count too


def test_a_wide_fan_needs_room_for_a_few_results(pool, places):
    n = 1_000_000
    nodes = [sum_up(pass_on(ones(n, i))) for i in range(40)]
    assert pool.compute(gr.combine(sum, nodes)) == n * sum(range(40))
    assert pool._store.peak <= 16 * 8 * n


def test_what_the_user_lets_go_of_goes(pool, places):
    with pool.open() as run:
        nodes = [run.add(ones(LARGE, i)) for i in range(10)]
        for done in run.as_completed():
            assert done.result() is not None
        assert sum(places.segments().values()) >= 10 * 8 * LARGE
        del nodes, done
        last = run.add(ones(10))
        for done in run.as_completed():
            assert done.node is last
        assert until(lambda: len(places.segments()) <= 1)


def test_no_worker_keeps_what_is_gone(places, monkeypatch):
    """Nor the one that has written a segment for the second time, when the user has looked at that; nor the dead one's.

    With both ends in this process: which worker a node gets to is not for a test to say.
    """
    monkeypatch.setattr(workshop, "_workshop", None)
    registry = Registry()
    ends = {name: workshop.Workshop(name, registry.paths) for name in ("a", "b")}

    def give(writer: str, content: float) -> Stored:
        ends[writer].take_back(registry.free_for(writer))
        return registry.adopt(writer, ends[writer].put_values([np.full(LARGE, content)])[0])

    def read(reader: str, stored: Stored) -> float:
        monkeypatch.setattr(workshop, "_workshop", ends[reader])
        registry.begin_letter()
        letter = wire.dumps(stored)
        registry.end_letter(reader)
        seen = float(wire.loads(letter)[7])
        ends[reader].end_unit()
        return seen

    def clear() -> None:
        drop(registry.collect())

    def drop(drops: dict[str, list[str]]) -> None:
        for name, gone in drops.items():
            if name in ends:
                ends[name].drop(gone)

    for name in ends:
        registry.worker_joined(name)
    for i in range(3):
        value = give("a", i)  # for the second time: in the same file, which b has mapped
        assert read("b", value) == i
        assert len(places.segments()) == 1
        del value
        clear()
    value = give("a", 3)
    assert float(value.load()[5]) == 3
    del value
    clear()
    assert not places.segments()
    assert not mapped_though_gone()

    value = give("a", 4)
    assert read("b", value) == 4
    del value
    clear()
    assert len(places.segments()) == 1
    del ends["a"]
    drop(registry.worker_lost("a"))
    clear()
    assert not places.segments()
    assert not mapped_though_gone()
    registry.close()


def mapped_though_gone() -> list[str]:
    """Segments whose files are gone, though this process has them mapped: memory that nobody sees or counts."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return [line for line in lines if "graphray-store" in line and "(deleted)" in line]


def test_a_value_that_several_nodes_give_is_written_once(pool, places):
    """As with the handles of a growing run, which stand for the nodes that were added."""
    with pool.open() as run:
        nodes = [run.add(ones(LARGE, i)) for i in range(10)]
        for done in run.as_completed():
            assert done.result().shape == (LARGE,)
        assert len(places.segments()) == len(nodes)
    same = ones(LARGE)
    a, b, c = pool.compute(gr.Graph([same, identity(same), identity(identity(same))]))
    assert a.sum() == b.sum() == c.sum() == LARGE


def test_thousands_of_results_can_be_held(pool, places):
    """There is no descriptor and no more than one mapping for each."""
    descriptors = psutil.Process().num_fds()
    n = 2_000
    kept = pool.compute(gr.Graph([ones(40_000, i) for i in range(n)]))
    assert psutil.Process().num_fds() - descriptors < 20
    assert [x[-1] for x in kept] == list(range(n))
    more = pool.compute(gr.Graph([sum_up(x) for x in kept[::50]]))
    assert more == [40_000 * i for i in range(0, n, 50)]


# ---- nothing is left


@gr.task
def fails_with(x):
    raise ValueError(f"{x.sum()}", x)


def test_nothing_is_left_after_an_exception(places):
    """Which holds an array, as do the frames of its traceback."""
    with gr.executors.Loky(2) as pool:
        graph = gr.Graph([sum_up(ones(LARGE, i)) for i in range(8)] + [fails_with(pass_on(ones()))])
        with pytest.raises(ValueError, match="100000") as raised:
            pool.compute(graph)
        assert raised.value.args[1].sum() == LARGE
        failure = pool.compute(graph, on_error="collect")[-1]
        assert isinstance(failure, gr.Failure)
    assert not places.left()


DRIVER = """
    import sys, time
    import numpy as np
    import graphray as gr

    @gr.task
    def make(i):
        return np.full(200_000, float(i))

    @gr.task(timeout=600)
    def use(x):
        return x + 1

    @gr.task
    def wait(seconds, x):
        print("waiting", flush=True)
        time.sleep(seconds)
        return x

    data = np.ones(200_000)
    node = use(data)  # keeps a segment
    pool = gr.executors.Loky(2)
    pool.compute(gr.Graph([use(use(make(i))) for i in range(4)] + [node]))
    print("warm", flush=True)
"""


def drive(places: Places, code: str, **environment: str) -> subprocess.Popen[str]:
    """A program of its own, in a session of its own, with its store in the same folders."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(DRIVER) + textwrap.dedent(code)],
        env={**os.environ, "TMPDIR": str(places.disk), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    assert process.stderr is not None
    pytest.fail(f"the driver has ended: {process.stderr.read()}")


@contextlib.contextmanager
def driven(places: Places, code: str, ready: str = "ready"):
    """The same, come to the line that says it is ready; killed with all its family at the end."""
    process = drive(places, code)
    try:
        read_until(process, ready)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


IDLE = 'print("ready", flush=True); time.sleep(600)'
BUSY = 'print("ready", flush=True); pool.compute(gr.Graph([wait(600, use(make(i))) for i in range(2)]))'
WRITING = """
    print("ready", flush=True)
    while True:
        pool.compute(gr.Graph([use(use(make(i))) for i in range(8)]))
"""


@posix
@pytest.mark.parametrize("doing", [IDLE, BUSY, WRITING], ids=["idle", "busy", "writing"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_of_a_driver_that_is_ended(places, name, doing):
    with driven(places, doing) as process:
        if doing is BUSY:
            read_until(process, "waiting")
        elif doing is WRITING:
            time.sleep(0.2)
        assert places.segments()
        process.send_signal(getattr(signal, name))
        process.wait(timeout=10)
        assert until(lambda: not places.left()), places.left()


@posix
def test_what_a_whole_family_leaves_when_it_is_killed_at_once_a_later_start_removes(places):
    """The process that removes what others leave is killed too. A living owner's folder is not touched."""
    with driven(places, IDLE), gr.executors.Loky(1) as mine:
        kept = mine.compute(ones(LARGE, 3))
        with driven(places, IDLE) as killed:
            os.killpg(killed.pid, signal.SIGKILL)
            killed.wait()
        left = [p.name for p in places.memory.glob(f"graphray-store-{killed.pid}-*")]
        assert len(left) == 1
        before = {p.name for p in places.memory.glob("graphray-store-*")} - set(left)
        assert len(before) == 2
        assert until(lambda: is_swept_by_a_start(killed.pid, places))
        assert before <= {p.name for p in places.memory.glob("graphray-store-*")}
        assert mine.compute(sum_up(kept)) == 3 * LARGE


def is_swept_by_a_start(pid: int, places: Places) -> bool:
    with gr.executors.Loky(1) as pool:
        pool.compute(gr.call(abs, -1))
        return not any(f"graphray-store-{pid}-" in p for p in places.left())


def test_a_start_sweeps_only_what_is_graphrays_own_and_abandoned(places, tmp_path):
    """Folders by other names, without the mark, behind links, or of living owners stay."""
    abandoned = Directory(str(places.memory))
    os.close(abandoned._fd)  # as the system does at its owner's end
    living = Directory(str(places.memory))
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / ".graphray-store").touch()
    name = "graphray-store-1-0123456789abcdef"
    (places.memory / name).symlink_to(foreign)
    for other in ("graphray-store", "graphray-store-1-x", "graphray-something", f"x{name}", f"{name}x"):
        (places.memory / other).mkdir()
        (places.memory / other / ".graphray-store").touch()
    (places.memory / f"{name[:-1]}0").mkdir()  # without the mark
    (places.memory / f"{name[:-1]}1").touch()  # a file
    unfinished = places.memory / ".graphray-new-1-0123456789abcdef"
    unfinished.mkdir()
    before = set(places.left())
    assert sweep(str(places.memory)) == [abandoned.path]
    gone = {p for p in before if p.startswith(abandoned.path)}
    assert set(places.left()) == before - gone
    os.utime(unfinished, (time.time() - 3600,) * 2)
    assert sweep(str(places.memory)) == [str(unfinished)]
    living.remove()
    assert sweep(str(places.memory / "nowhere")) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_other_users_folders_are_left_alone(places):
    abandoned = Directory(str(places.memory))
    os.close(abandoned._fd)
    os.chown(abandoned.path, 12345, 12345)
    assert sweep(str(places.memory)) == []
    os.chown(abandoned.path, 0, 0)
    assert sweep(str(places.memory)) == [abandoned.path]


def test_the_folders_are_private(pool, places):
    pool.compute(sum_up(ones()))
    folders = [*places.memory.iterdir(), *places.disk.glob("graphray-store-*")]
    assert len(folders) == 2
    assert [p.stat().st_mode & 0o777 for p in folders] == [0o700] * 2
    mine = sum_up(np.ones(LARGE))
    with pool.open() as run:
        nodes = [run.add(ones()), run.add(gr.call(pow, mine, 2))]  # written by a worker, and by the driver
        assert [done.node in nodes for done in run.as_completed()] == [True, True]
        assert len(places.segments()) == 2
        assert {os.stat(p).st_mode & 0o777 for p in places.segments()} == {0o600}


def test_what_the_user_lets_go_of_goes_while_the_executor_rests(pool, places):
    run = pool.run(gr.Graph([ones(LARGE, i) for i in range(4)]))
    run.result()
    assert len(places.segments()) == 4
    time.sleep(0.1)
    del run
    assert until(lambda: not places.segments(), 3.0)


def test_two_executors_at_once(places):
    with gr.executors.Loky(1) as one, gr.executors.Loky(1) as other:
        data = np.arange(float(LARGE))
        node = sum_up(data)
        assert one.compute(node) == other.compute(node) == data.sum()
        kept = one.compute(ones(LARGE, 2))
        assert other.compute(sum_up(kept)) == 2 * LARGE
        one.close()
        assert other.compute(node) == data.sum()
        assert other.compute(sum_up(kept)) == 2 * LARGE
        assert len(list(places.memory.iterdir())) == 1
    assert not places.left()


@gr.task
def die_writing(path: str, n: int):
    """Its process is killed, the first time, while its result is being written."""
    note(path, "began")
    if len(notes(path)) == 1:
        from graphray.executors import frames

        def write(fd: int, *_: Any) -> None:
            os.write(fd, b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)

        import graphray.executors.store.registry as module

        assert module.write is frames.write
        module.write = write
    return np.ones(n)


@posix
def test_a_worker_killed_in_the_middle_of_writing_leaves_no_file(pool, places, tmp_path):
    assert pool.compute(sum_up(pass_on(die_writing(str(tmp_path / "notes"), LARGE)))) == LARGE
    assert len(notes(tmp_path / "notes")) == 2
    known = set(pool._store._files)
    assert {os.path.basename(p) for p in places.segments()} == known
    assert all(size > 1_000 for size in places.segments().values())


@posix
def test_what_a_dead_worker_had_made_stays_for_those_who_need_it(pool, places):
    """Also as the user's: the files are the driver's."""
    with pool.open() as run:
        made = run.add(ones(LARGE, 7))
        for done in run.as_completed():
            assert done.result().sum() == 7 * LARGE
        for worker in list(pool._processes.values()):
            os.kill(worker.pid, signal.SIGKILL)
        after = run.add(sum_up(made))
        for done in run.as_completed():
            assert done.node is after
            assert done.result() == 7 * LARGE


@posix
def test_a_forked_process_that_ends_takes_nothing_with_it(places):
    """It has the executor too, and ends as a program does: the store is not its own."""
    code = """
        import os, warnings
        warnings.simplefilter("ignore")
        kept = pool.run(gr.Graph([make(i) for i in range(4)]))
        kept.result()
        pid = os.fork()
        if not pid:
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert pool.compute(gr.Graph([use(make(5)), use(data)]))[0][0] == 6
        assert [x[0] for x in kept.result()] == [0, 1, 2, 3]
        pool.close()
    """
    process = drive(places, code)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, err
    assert not places.left()


# ---- where there is no room


@pytest.fixture
def small(places):
    """Run a program whose shared memory, of 4 MB, is its own: `small(code)` gives what it prints."""

    def run(code: str, options: str = "size=4m") -> str:
        mount = f"mount -t tmpfs -o {options} tmpfs '{places.memory}' && exec \"$@\""
        command = ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", textwrap.dedent(code)]
        done = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": str(places.disk), "PYTHONPATH": os.path.dirname(__file__)},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def has_namespaces() -> bool:
    """Whether a process may have file systems of its own here."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(command, capture_output=True).returncode == 0


own_file_systems = pytest.mark.skipif(not has_namespaces(), reason="no file system of its own can be mounted here")

FULL_MEMORY = """
    import graphray as gr
    from test_store import ones, pass_on, sum_up
    import numpy as np

    with gr.executors.Loky(2) as pool:
        nodes = [pass_on(ones(100_000, i)) for i in range(20)]
        total = gr.Graph([sum_up(x) for x in nodes] + nodes)
        run = pool.run(total)  # which holds its results as long as it lives
        found = run.result()
        assert found[:20] == [100_000 * i for i in range(20)]
        assert [x[9] for x in found[20:]] == list(range(20))
        data = [np.full(100_000, i) for i in range(20)]
        sums = gr.Graph([sum_up(x) for x in data])  # which holds its arguments
        assert pool.compute(sums) == [100_000 * i for i in range(20)]
        assert pool._store.on_disk > 8_000_000
        assert pool._store.peak <= 4 << 20
        print("all is well")
"""


@own_file_systems
@pytest.mark.parametrize("options", ["size=4m", "size=40m,nr_inodes=7"], ids=["bytes", "files"])
def test_where_shared_memory_is_full_results_go_to_disk(small, places, options):
    assert "all is well" in small(FULL_MEMORY, options)
    assert not places.left()


@pytest.fixture
def small_files():
    """No file of this process or of those it starts can grow beyond a megabyte: as if everything were full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_where_there_is_no_room_at_all_the_task_fails_and_the_pool_goes_on(small_files, pool, places):
    n = 10 * LARGE
    for node in (ones(n), sum_up(pass_on(ones(n)))):
        with pytest.raises(OSError, match="File too large") as raised:
            pool.compute(gr.Graph([node, sum_up(ones(LARGE))]))
        notes = "".join(raised.value.__notes__)
        assert "fits neither into shared memory" in notes
        assert "TMPDIR" in notes
        assert str(places.memory) in notes
        assert pool.compute(sum_up(ones(LARGE))) == LARGE
    *found, failed = pool.compute(gr.Graph([sum_up(ones(LARGE, i)) for i in range(9)] + [ones(n)]), on_error="collect")
    assert found == [LARGE * i for i in range(9)]
    assert isinstance(failed, gr.Failure)


def test_where_there_is_no_room_for_many_each_fails_once(small_files, pool):
    n = 10 * LARGE
    run = pool.run(gr.Graph([ones(n, i) for i in range(30)]), on_error="collect")
    found = run.result(timeout=60)
    assert all(isinstance(x, gr.Failure) and isinstance(x.error, OSError) for x in found)
    assert len([e for e in run.events if type(e).__name__ == "NodeFailed"]) == 30


def test_where_there_is_no_room_for_an_argument_its_task_fails_and_the_pool_goes_on(small_files, pool):
    node = sum_up(np.ones(10 * LARGE))
    with pytest.raises(OSError, match="File too large") as raised:
        pool.compute(gr.Graph([node, sum_up(ones(LARGE))]))
    assert "fits neither into shared memory" in "".join(raised.value.__notes__)
    raised.value.with_traceback(None)  # whose frames are the engine's own
    assert pool.compute(sum_up(ones(LARGE))) == LARGE


def test_of_an_answer_that_there_is_no_room_for_nothing_is_left(small_files, pool, places):
    """Several results of a unit are written, then one does not fit: those that did are made again elsewhere."""
    n = 10 * LARGE
    for _ in range(3):
        nodes = [ones(LARGE, 1), ones(LARGE, 2), ones(n), ones(LARGE, 3)]
        *found, last = pool.compute(gr.Graph([*nodes[:2], nodes[3], nodes[2]]), on_error="collect")
        assert [x[0] for x in found] == [1, 2, 3]
        assert isinstance(last, gr.Failure)
        del found
    pool.compute(gr.call(abs, -1))
    known = pool._store._files
    assert {os.path.basename(p) for p in places.segments()} == set(known)


def test_an_answer_that_does_not_fit_is_undone(small_files, places):
    """Also in segments that were to be written again: they still can be."""
    registry = Registry()
    end = workshop.Workshop("a", registry.paths)
    registry.worker_joined("a")
    first = registry.adopt("a", end.put_values([np.ones(LARGE)])[0])
    before = places.segments()
    del first
    registry.collect()
    end.take_back(registry.free_for("a"))
    for _ in range(2):
        with pytest.raises(OSError, match="File too large"):
            end.put_values([np.ones(LARGE), 3, np.ones(LARGE + 9), np.ones(10 * LARGE)])
        assert places.segments() == before
    (written,) = end.put_values([np.full(LARGE, 5.0)])
    assert places.segments() == before
    assert registry.adopt("a", written).load()[-1] == 5
    registry.close()


def test_a_store_that_somebody_removes_is_an_error_that_says_so(places):
    with gr.executors.Loky(2) as pool:
        run = pool.run(gr.Graph([ones(LARGE, i) for i in range(4)]))
        assert until(run.done)
        for folder in places.memory.iterdir():
            shutil.rmtree(folder)
        with pytest.raises(Exception, match="somebody has removed it"):
            run.result()
        with pytest.raises(FileNotFoundError) as raised:
            pool.compute(gr.Graph([sum_up(pass_on(ones(LARGE, i))) for i in range(4)]))
        assert "somebody has removed" in "".join(raised.value.__notes__)
        os.kill(pool.compute(gr.call(os.getpid)), signal.SIGKILL)
        assert pool.compute(gr.Graph(gr.map(abs, range(-50, 0)))) == tuple(range(50, 0, -1))
    assert not places.left()


@pytest.mark.parametrize("which", ["memory", "disk"])
def test_a_place_that_is_none_is_an_error_that_says_so(places, monkeypatch, which):
    nowhere = str(places.memory / "nowhere")
    if which == "memory":
        monkeypatch.setenv("GRAPHRAY_STORE", nowhere)
    else:
        monkeypatch.setattr(tempfile, "tempdir", nowhere)
    with gr.executors.Loky(1) as pool:
        with pytest.raises(FileNotFoundError) as raised:
            pool.compute(gr.call(abs, -1))
        notes = "".join(raised.value.__notes__)
        assert f"{nowhere} is none" in notes
        assert "GRAPHRAY_STORE" in notes
        assert "TMPDIR" in notes
        if which == "memory":
            assert str(raised.value).endswith(
                f"the environment variable GRAPHRAY_STORE names a place where no folder can be made: "
                f"No such file or directory: '{nowhere}'"
            )
    assert not places.left()


@gr.task(pure=False)
def move_to(path: str):
    """Change the process's directory, as a careless task does."""
    before = os.getcwd()
    os.chdir(path)
    return np.full(LARGE, len(before))


def test_a_place_may_be_relative_to_where_the_program_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.setenv("GRAPHRAY_STORE", "here")
    with gr.executors.Loky(1) as pool:
        made = move_to(str(tmp_path / "there"))
        for _ in range(3):
            assert pool.compute(sum_up(pass_on(made))) > LARGE
        monkeypatch.chdir(tmp_path / "there")
        assert pool.compute(pass_on(ones(LARGE, 4)))[0] == 4
    assert not list((tmp_path / "here").iterdir())
    assert not list((tmp_path / "there").iterdir())
