"""`gr.local`: what is one object, who makes it, how long it is kept. `graphray.testing` has what all engines do."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import graphray as gr
from graphray.executors import InProcess


class Door:
    """Something that can be closed."""

    def __init__(self, *name: Any) -> None:
        self.open = True

    def close(self) -> None:
        self.open = False


def crowd(who: Any, number: int = 64) -> list[Door]:
    """So many others."""
    return [gr.local(Door, who, i) for i in range(number)]


# ---- which objects are one


class Maker:
    """Makes a list that says by whom."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        self.name = name

    def make(self) -> list[str]:
        return [self.name]


def closing_over(x: Any) -> Callable[[], list[Any]]:
    return lambda: [x]


def with_default(x: Any) -> Callable[[], list[Any]]:
    def make(y: Any = x, *, z: Any = x) -> list[Any]:
        return [y]

    return make


def test_local_tells_factories_apart() -> None:
    for make in (closing_over, with_default):
        a, b, again = (gr.local(make(x)) for x in ("a", "b", "a"))
        assert (a, b) == (["a"], ["b"])
        assert again is a
    one, two = Maker("one"), Maker("two")
    assert gr.local(one.make) == ["one"]
    assert gr.local(two.make) == ["two"]
    assert gr.local(one.make) is gr.local(one.make)
    unhashable = gr.local(closing_over(["u"]))
    assert gr.local(closing_over(["u"])) is not unhashable


def test_local_tells_types_of_arguments_apart() -> None:
    def factory(x: Any) -> list[Any]:
        return [x]

    made = [gr.local(factory, x)[0] for x in (1, True, 1.0, (1,), (True,))]
    assert list(map(repr, made)) == ["1", "True", "1.0", "(1,)", "(True,)"]
    with pytest.raises(TypeError, match="unhashable"):
        gr.local(factory, [])


def test_local_sees_that_a_class_is_another() -> None:
    def define(value: int) -> type:
        class Thing:
            number = value

        return Thing

    assert [gr.local(define(i)).number for i in (1, 2)] == [1, 2]


def test_local_follows_functions_that_refer_to_themselves() -> None:
    def factory(depth: int = 1) -> list[Any]:
        return [factory(depth - 1)] if depth else []

    assert gr.local(factory) == [[]]
    assert gr.local(factory) is gr.local(factory)


def test_a_factory_that_raises_leaves_nothing_behind() -> None:
    calls = []

    def factory() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("not yet")
        return 7

    with pytest.raises(ValueError, match="not yet"):
        gr.local(factory)
    assert gr.local(factory) == 7
    assert gr.local(factory) == 7
    assert len(calls) == 2


def test_local_factories_do_not_wait_for_one_another() -> None:
    began, go = threading.Event(), threading.Event()

    def slow() -> str:
        began.set()
        assert go.wait(10)
        return "slow"

    thread = threading.Thread(target=gr.local, args=(slow,))
    thread.start()
    try:
        assert began.wait(10)
        assert gr.local(lambda: "fast") == "fast"
    finally:
        go.set()
        thread.join()


@pytest.mark.parametrize("nested", [False, True])
def test_threads_of_an_engine_are_workers(nested: bool) -> None:
    """So are they for runs inside their tasks."""
    barrier = threading.Barrier(2)

    @gr.task
    def make() -> tuple[Any, ...]:
        return gr.local(object), None

    @gr.task
    def ask(i: int) -> tuple[Any, Any]:
        barrier.wait(10)
        inside = make().compute()[0] if nested else None
        return gr.local(object), inside

    with InProcess(2) as engine:
        for _ in range(3):
            (one, one_inside), (two, two_inside) = engine.compute(gr.Graph([ask(0), ask(1)]))
            assert one is not two
            if nested:
                assert one_inside is one
                assert two_inside is two


def test_an_object_that_needs_itself_is_refused() -> None:
    def factory() -> Any:
        return gr.local(factory)

    with pytest.raises(RuntimeError, match="needs the object itself"):
        gr.local(factory)


# ---- how long an object is kept


def test_the_limit_is_each_workers_own() -> None:
    """More workers than one of them may have objects, all at once, and each keeps its own."""
    barrier = threading.Barrier(80)

    @gr.task
    def use(i: int) -> tuple[str, int]:
        door = gr.local(Door, "own")
        barrier.wait(30)
        assert door.open
        return gr.context().worker, id(door)

    with InProcess(80) as engine:
        first = dict(engine.compute(gr.Graph(gr.map(use, range(80)))))
        assert len(set(first.values())) == 80
        assert dict(engine.compute(gr.Graph(gr.map(use, range(80))))) == first


def test_a_task_keeps_all_it_asked_for_and_what_is_too_much_is_closed_after_it() -> None:
    made: list[Door] = []

    @gr.task
    def use(i: int) -> int:
        mine = [gr.local(Door, i), *crowd(i, 69)]
        made.extend(mine)
        assert all(door.open for door in mine)
        assert gr.local(Door, i) is mine[0]
        assert sum(door.open for door in made) == 70  # all others are closed
        return i + 1

    assert gr.iterate(use, 0, steps=3).compute() == 3
    assert [door.open for door in made[140:]] == [True, *6 * [False], *63 * [True]]  # the first was asked for again
    assert not any(door.open for door in made[:140])


def test_what_a_run_inside_a_task_used_stays_while_the_task_runs() -> None:
    @gr.task
    def inner(i: int) -> bool:
        return all(door.open for door in crowd(("inner", i), 40))

    @gr.task
    def outer() -> bool:
        door = gr.local(Door, "outer")
        graph = gr.Graph(gr.map(inner, range(5)))
        assert all(graph.compute())
        return door.open and gr.local(Door, "outer") is door

    assert outer().compute() is True
    assert outer().compute("inprocess:2") is True


def test_a_run_in_another_thread_closes_nothing_that_is_used_here() -> None:
    """Both are on the worker "inprocess", and share its objects."""
    began, go = threading.Event(), threading.Event()

    @gr.task
    def hold() -> bool:
        door = gr.local(Door, "held")
        began.set()
        assert go.wait(10)
        return door.open

    run = gr.Graph(hold()).run()
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(run.result()))
    thread.start()
    try:
        assert began.wait(10)
        for i in range(3):
            gr.call(len, gr.call(crowd, ("other", i))).compute()
    finally:
        go.set()
        thread.join()
    assert found == [True]


def test_outside_a_task_objects_are_let_go_of_and_not_closed() -> None:
    door = gr.local(Door, "outside")
    ref = weakref.ref(gr.local(Door, "dropped"))
    crowd("outside")
    gc.collect()
    assert door.open
    assert ref() is None
    assert gr.local(Door, "outside") is not door


def test_what_the_threads_of_an_engine_kept_is_closed_with_it() -> None:
    made: list[Door] = []

    @gr.task
    def use(i: int) -> None:
        made.append(gr.local(Door, "engine's", i))

    with InProcess(2) as engine:
        engine.compute(gr.Graph(gr.map(use, range(20))))
        assert all(door.open for door in made)
    assert made
    assert not any(door.open for door in made)


def test_a_close_that_fails_is_a_warning() -> None:
    class Stuck:
        def __init__(self, i: int) -> None:
            pass

        def close(self) -> None:
            raise OSError("it is stuck")

    @gr.task
    def use(i: int) -> int:
        gr.local(Stuck, i)
        return i

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert gr.Graph(gr.map(use, range(66))).compute() == tuple(range(66))
    assert any("closing a Stuck failed: OSError('it is stuck')" in str(w.message) for w in caught)
