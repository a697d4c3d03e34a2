"""The purity audit: tasks that are no functions of their arguments are named, with the difference."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
import random
import threading
import time
from typing import Any, NamedTuple

import numpy as np
import pytest

import graphray as gr
from graphray.testing.tasks import add, note, notes

# Gives something else each time, in each process.
counter = itertools.count()


@pytest.fixture(params=["inprocess", "loky"])
def engine(request, loky):
    return "inprocess" if request.param == "inprocess" else loky


class Box:
    """An object of the user's."""

    def __init__(self, items: list[int]) -> None:
        self.items = items


@dataclasses.dataclass
class Point:
    x: float
    y: Any = 0.0


class Pair(NamedTuple):
    first: Any
    second: Any


# ---- tasks that are not deterministic


def number() -> int:
    return next(counter)


def deep(n: int) -> dict[str, Any]:
    return {"a": [1, 2, {"b": (n, next(counter))}]}


def point(n: int) -> Point:
    return Point(n, [n, next(counter)])


def pair(n: int) -> Pair:
    return Pair(n, next(counter))


def array(n: int) -> np.ndarray:
    x = np.full((4, n), np.nan)
    x[2, 3] = x[3, 0] = next(counter)
    return x


def sometimes_a_text() -> Any:
    return str(next(counter)) if next(counter) % 2 else next(counter)


def longer() -> list[int]:
    return [0] * (1 + next(counter))


def text() -> str:
    return "x" * 100 + str(next(counter))


def clock() -> float:
    return time.perf_counter()


def drawn(n: int) -> float:
    return random.SystemRandom().random() + n


IMPURE = [
    (number, (), r"the result is \d+ and then \d+"),
    (deep, (5,), r"the result\['a'\]\[2\]\['b'\]\[1\] is \d+ and then \d+"),
    (point, (5,), r"the result\.y\[1\] is \d+ and then \d+"),
    (pair, (5,), r"the result\.second is \d+ and then \d+"),
    (array, (5,), r"float64\[4, 5\]\) has other contents: \[2, 3\] is [\d.]+ and then [\d.]+; 2 of 20 elements"),
    (longer, (), r"the result is list\[\d+\] and then list\[\d+\]"),
    (text, (), "has other contents"),
    (clock, (), r"the result is [\d.]+ and then [\d.]+"),
    (drawn, (1,), r"the result is 1\.\d+ and then 1\.\d+"),
]


@pytest.mark.parametrize(("fn", "args", "found"), IMPURE, ids=[fn.__name__ for fn, *_ in IMPURE])
def test_a_task_that_gives_something_else_is_named_with_the_difference(engine, fn, args, found):
    graph = gr.Graph([gr.call(fn, *args), add(1, 2)])
    with pytest.raises(gr.ImpureTask, match=rf"{fn.__name__} gives something else.*{found}.*seed=True.*pure=False"):
        graph.compute(engine, audit=True)
    graph.compute(engine)  # without it nobody looks


def test_another_type_is_told(engine):
    # Of four numbers in a row, those of the two calls differ in parity at once or one call later.
    with pytest.raises(gr.ImpureTask, match=r"sometimes_a_text gives something else"):
        gr.Graph([gr.call(sometimes_a_text) for _ in range(3)]).compute(engine, audit=True)


def test_unseeded_randomness_is_found_and_a_seed_is_the_cure(engine):
    @gr.task
    def unseeded():
        return np.random.default_rng().random(3)

    @gr.task(seed=True)
    def seeded(n, seed):
        return np.random.default_rng(seed).random(n)

    with pytest.raises(gr.ImpureTask, match="unseeded"):
        unseeded().compute(engine, audit=True)
    expected = seeded(3).compute(engine, seed=4)
    np.testing.assert_array_equal(seeded(3).compute(engine, audit=True, seed=4), expected)


# ---- tasks that change what they are given


def sorts(xs: list[int], by: int = 1) -> int:
    xs.sort()
    return xs[0] * by


def pops(x: int, config: dict[str, Any]) -> int:
    return x + config.pop("b", 0)


def deepens(config: dict[str, Any]) -> int:
    config["a"].append(1)
    return 1


def refills(box: Box) -> int:
    box.items.append(1)
    return 1


def moves(*points: Point) -> float:
    points[1].x += 1
    return 1.0


def empties(*, queue: collections.deque) -> int:
    queue.clear()
    return 0


CHANGING = [
    (sorts, lambda: ([3, 1, 2],), {}, r"argument xs: xs\[0\] is 3 and then 1"),
    (sorts, lambda: (gr.value([3, 1, 2]),), {}, r"argument xs: xs\[0\] is 3 and then 1"),
    (pops, lambda: (1, {"a": 1, "b": 2}), {}, r"argument config: config is dict\[2\] and then dict\[1\]"),
    (deepens, lambda: ({"a": []},), {}, r"argument config: config\['a'\] is list\[0\] and then list\[1\]"),
    (refills, lambda: (gr.value(Box([1])),), {}, "argument box;"),
    (moves, lambda: (Point(1.0), Point(2.0)), {}, r"argument points\[1\]: points\[1\]\.x is 2\.0 and then 3\.0"),
    (empties, lambda: (), {"queue": [1, 2]}, "argument queue;"),
]


@pytest.mark.parametrize(("fn", "args", "kwargs", "found"), CHANGING)
def test_a_task_that_changes_an_argument_is_named_with_the_argument(engine, fn, args, kwargs, found):
    with pytest.raises(gr.ImpureTask, match=rf"{fn.__name__} changes its {found}.*copy"):
        gr.call(fn, *args(), **{k: collections.deque(x) for k, x in kwargs.items()}).compute(engine, audit=True)


def test_what_another_task_made_is_watched_as_well(engine):
    boxes = gr.call(Box, [1, 2])
    with pytest.raises(gr.ImpureTask, match="refills changes its argument box"):
        gr.Graph([gr.call(refills, boxes), gr.getattr(boxes, "items")]).compute(engine, audit=True)


def test_a_graph_is_not_changed_by_the_audit(engine):
    given = [3, 1, 2]
    node = gr.call(sorts, given)
    with pytest.raises(gr.ImpureTask):
        node.compute(engine, audit=True)
    assert given == [3, 1, 2]
    assert node.compute(engine) == 1


# ---- what is left alone


def test_what_is_declared_impure_is_called_once(engine, tmp_path):
    path = str(tmp_path / "notes")

    @gr.task(pure=False)
    def acts(i):
        note(path, str(i))
        return time.perf_counter()

    gr.Graph([acts(i) for i in range(5)]).compute(engine, audit=True)
    assert sorted(notes(path)) == [str(i) for i in range(5)]


def test_deterministic_tasks_pass_with_the_same_results(engine, rng):
    """Of all kinds: operators, fan-out and fan-in, iterations, seeds, returned nodes, several outputs, arrays."""

    @gr.task
    def table(n):
        return {"x": np.arange(n) / 7, "name": f"table {n}", "set": {n, n + 1}}

    @gr.task
    def returns(n):
        return add(gr.call(pow, n, 2), 1)

    @gr.task(seed=True)
    def draw(n, seed):
        return random.Random(seed).sample(range(1000), n)

    @gr.task(outputs=2)
    def split(x):
        return x, -x

    numbers = [rng.randrange(1, 50) for _ in range(20)]
    one, two = split(numbers[0])
    graph = gr.Graph(
        tables=gr.map(table, numbers),
        squares=gr.combine(sum, gr.map(returns, numbers)),
        most=gr.reduce(max, numbers, arity=4),
        drawn=gr.map(draw, numbers),
        steps=gr.iterate(lambda state: state * 3 % 1001, numbers[1], steps=50),
        both=[one + two, two * 2],
    )
    plain, audited = graph.compute(engine), graph.compute(engine, audit=True)
    for a, b in zip(plain.pop("tables"), audited.pop("tables"), strict=True):
        np.testing.assert_array_equal(a.pop("x"), b.pop("x"), strict=True)
        assert a == b
    assert plain == audited
    assert plain["most"] == max(numbers)


def test_what_has_no_content_to_go_by():
    @gr.task(cache=False)
    def generator(n):
        return (i for i in range(n))

    def use(x):
        return threading.Lock() if x is None else sum(x)

    assert list(generator(3).compute("inprocess", audit=True)) == [0, 1, 2]
    assert gr.call(use, None).compute("inprocess", audit=True)
    with pytest.raises(gr.ImpureTask, match=r"the result is 3 and then 0 \(argument x has no content to go by"):
        gr.call(use, generator(3)).compute("inprocess", audit=True)


def test_arrays_that_share_memory_pass(engine):
    x = np.arange(100_000)
    graph = gr.Graph([gr.call(np.sum, gr.value(x)), gr.call(np.flip, gr.value(x))])
    total, flipped = graph.compute(engine, audit=True)
    assert total == x.sum()
    np.testing.assert_array_equal(flipped, x[::-1])


# ---- which calls are looked at


def test_the_first_calls_of_each_task_are_made_twice_and_then_ever_fewer(tmp_path):
    path = str(tmp_path / "notes")

    @gr.task
    def counted(i):
        note(path, str(i))
        return i

    for _ in range(2):  # each run counts anew
        gr.Graph([counted(i) for i in range(40)]).compute("inprocess", audit=True)
        calls = collections.Counter(notes(path))
        assert {int(i) + 1 for i, n in calls.items() if n == 2} == {1, 2, 3, 4, 8, 16, 32}
        assert len(calls) == 40
        os.unlink(path)


def test_each_run_of_a_warm_pool_is_looked_at(tmp_path):
    path = str(tmp_path / "notes")

    @gr.task
    def counted(i):
        note(path, str(i))
        return i

    with gr.executors.Loky(1) as pool:
        for _ in range(2):
            gr.Graph([counted(i) for i in range(3)]).compute(pool, audit=True)
            assert sorted(notes(path)) == ["0", "0", "1", "1", "2", "2"]
            os.unlink(path)
        gr.Graph([counted(i) for i in range(3)]).compute(pool)
        assert sorted(notes(path)) == ["0", "1", "2"]


def test_an_impure_task_deep_in_a_graph_is_found(engine, rng):
    """Whichever of many tasks it is, and whatever stands around it."""
    names = [f"task_{i}" for i in range(8)]
    bad = rng.choice(names)
    nodes = [gr.value(1)]
    for name in names:
        fn = (lambda x: x + next(counter)) if name == bad else (lambda x: x + 1)
        nodes.append(gr.task(fn, name=name)(rng.choice(nodes)))
    with pytest.raises(gr.ImpureTask, match=f"{bad} gives something else"):
        gr.Graph(nodes[1:]).compute(engine, audit=True)


def test_a_task_that_fails_does_so_as_ever(engine):
    def fails(x):
        raise KeyError(x)

    with pytest.raises(KeyError, match="5"):
        gr.call(fails, 5).compute(engine, audit=True)


def test_under_collect_an_impure_task_fails_alone(engine):
    bad = gr.call(number)
    found = gr.Graph([bad, add(bad, 1), add(1, 2)]).compute(engine, audit=True, on_error="collect")
    assert [type(x) for x in found] == [gr.Failure, gr.Failure, int]
    assert isinstance(found[0].error, gr.ImpureTask)
    assert found[1].skipped_because is bad


def test_nothing_that_failed_the_audit_is_cached(engine, tmp_path):
    node = gr.call(number)
    with pytest.raises(gr.ImpureTask):
        node.compute(engine, audit=True, cache=tmp_path / "cache")
    from graphray.executors.cache import Cache

    assert list(Cache(tmp_path / "cache").keys()) == []
