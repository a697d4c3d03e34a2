"""`gr.local`: what is one object, who makes it, how long it is kept. `graphray.testing` has what all engines do."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from typing import Any

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
