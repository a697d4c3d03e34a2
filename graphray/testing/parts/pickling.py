"""Pickling: what cannot travel is named, with its node; what can travel by value does."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part, needs
from graphray.testing.tasks import add, fail_stubborn, identity, scale

DRIVER = os.getpid()


class Unwelcome:
    """Can be pickled anywhere, and be made again only in one of driver and worker."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        return _make_unwelcome, (self.where, os.getpid())


def _make_unwelcome(where: str, origin: int) -> Unwelcome:
    if os.getpid() != origin:
        raise ArithmeticError(f"not welcome in the {where}")
    return Unwelcome(where)


@gr.task
def hand_out_a_lock(x: int) -> Any:
    """A result that cannot be pickled."""
    return [x, threading.Lock()]


@gr.task
def hand_out_unwelcome() -> Any:
    """A result that cannot be made again in the driver."""
    return Unwelcome("driver")


@gr.task
def use_lock(lock: Any) -> bool:
    """Use something that cannot be pickled."""
    return bool(lock.acquire(blocking=False))


class Pickling(Part):
    """What happens to what cannot be pickled."""

    @needs("pickles")
    def test_an_argument_that_cannot_be_pickled_is_named(self, executor: Executor) -> None:
        """With the task it was given to."""
        for node in (use_lock(threading.Lock()), use_lock(identity([threading.Lock()])), scale(2, by=threading.Lock())):
            with pytest.raises(TypeError, match="pickle") as raised:
                executor.compute(gr.Graph([*gr.map(scale, range(20)), node]))
            assert any(name in str(raised.value) for name in ("use_lock", "identity", "scale"))
            assert executor.compute(add(1, 2)) == 3

    @needs("pickles")
    def test_a_result_that_cannot_be_pickled_is_named(self, executor: Executor) -> None:
        """With the task that gave it."""
        with pytest.raises(TypeError, match=r"hand_out_a_lock.*pickle"):
            executor.compute(gr.Graph([*gr.map(scale, range(20)), hand_out_a_lock(1)]))
        assert executor.compute(add(1, 2)) == 3

    @needs("pickles")
    def test_a_function_that_cannot_be_pickled_is_named(self, executor: Executor) -> None:
        """A closure over something that cannot travel."""
        lock = threading.Lock()

        def closes_over_a_lock() -> bool:
            return lock.locked()

        with pytest.raises(TypeError, match=r"closes_over_a_lock.*pickle"):
            executor.compute(gr.Graph([*gr.map(scale, range(20)), gr.call(closes_over_a_lock)]))
        assert executor.compute(add(1, 2)) == 3

    @needs("pickles")
    def test_what_cannot_be_pickled_is_a_failure_like_others(self, executor: Executor) -> None:
        """With `on_error="collect"` the rest of the graph has its values."""
        graph = gr.Graph(
            argument=use_lock(threading.Lock()),
            result=hand_out_a_lock(1),
            fine=gr.map(scale, range(20)),
            more=add(1, 2),
        )
        result = executor.compute(graph, on_error="collect")
        assert result["fine"] == tuple(range(0, 40, 2))
        assert result["more"] == 3
        assert type(result["argument"].error) is TypeError
        assert type(result["result"].error) is TypeError

    @needs("processes")
    def test_an_argument_that_cannot_be_made_again(self, executor: Executor) -> None:
        """Its exception is raised by the run, and the worker stays."""
        with pytest.raises(Exception, match="not welcome in the worker"):
            executor.compute(identity(Unwelcome("worker")))
        assert executor.compute(add(1, 2)) == 3

    @needs("processes")
    def test_a_result_that_cannot_be_made_again(self, executor: Executor) -> None:
        """Its exception is raised by the run, and the engine stays usable."""
        with pytest.raises(Exception, match="not welcome in the driver"):
            executor.compute(hand_out_unwelcome())
        assert executor.compute(add(1, 2)) == 3

    @needs("processes")
    def test_an_exception_that_cannot_be_pickled(self, executor: Executor) -> None:
        """Becomes `gr.RemoteError` with its type, text and place."""
        with pytest.raises(gr.RemoteError, match=r"Stubborn.*has a lock") as raised:
            executor.compute(fail_stubborn())
        assert "fail_stubborn" in str(raised.value)

    def test_what_cannot_be_imported_travels_by_value(self, executor: Executor) -> None:
        """Functions, tasks and classes of the place where the graph is made."""
        factor = 3

        class Local:
            def __init__(self, x: int) -> None:
                self.x = x

            def times(self, y: int) -> int:
                return self.x * y * factor

        @gr.task
        def local_task(thing: Local, y: int) -> Any:
            return helper(thing) if y == 0 else local_task(Local(thing.times(y)), y - 1)

        def helper(thing: Local) -> int:
            return thing.x

        thing = Local(2)
        assert executor.compute(gr.call(thing.times, 5)) == 30
        assert executor.compute(local_task(thing, 2)) == 36
        assert executor.compute(gr.getattr(gr.call(Local, 7), "x")) == 7
        assert executor.compute(gr.Graph([gr.call(lambda i=i: i * factor) for i in range(20)])) == list(range(0, 60, 3))
