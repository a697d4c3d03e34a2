"""Calls that are made again, and calls that take too long."""

from __future__ import annotations

import random
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part, needs
from graphray.testing.tasks import add, identity, note, notes, total


def _fail_until(path: str, times: int, error: type[Exception]) -> int:
    note(path, "called")
    if len(notes(path)) <= times:
        raise error("not yet")
    return len(notes(path))


fail_twice = gr.task(retries=2, backoff=0.01)(_fail_until)
fail_picky = gr.task(retries=5, retry_on=(ConnectionError, TimeoutError), backoff=0.01)(_fail_until)


@gr.task(retries=1, backoff=0.3)
def fail_slowly(path: str) -> float:
    """Fail once, then say how long it took to be called again."""
    note(path, repr(time.time()))
    if len(notes(path)) < 2:
        raise OSError("not yet")
    first, second = map(float, notes(path))
    return second - first


@gr.task(retries=2, backoff=0.01)
def fail_late(path: str, i: int, bad: int) -> int:
    """One of several calls fails once, after a time in which the others are done."""
    if i == bad:
        note(path, "called")
        if len(notes(path)) < 2:
            time.sleep(0.4)
            raise OSError("not yet")
    return i


@gr.task(timeout=0.2)
def sleepy(path: str, seconds: float) -> float:
    """Takes its time."""
    note(path, "called")
    time.sleep(seconds)
    return seconds


@gr.task(timeout=0.2, retries=2, backoff=0.01)
def slow_at_first(path: str) -> int:
    """Too slow the first time."""
    note(path, "called")
    if len(notes(path)) < 2:
        time.sleep(0.5)
    return gr.context().attempt


@gr.task
def inner_sleepy(path: str, seconds: float) -> Any:
    """Returns a call with a timeout, and others."""
    return total(sleepy(path, seconds), identity(1), identity(2))


class Retrying(Part):
    """`retries=`, `retry_on=`, `backoff=`, `timeout=`."""

    def test_a_call_is_made_again_as_often_as_it_may(self, executor: Executor, tmp_path: Path) -> None:
        """Then its error counts."""
        good, bad = str(tmp_path / "good"), str(tmp_path / "bad")
        assert executor.compute(add(fail_twice(good, 2, OSError), 0)) == 3
        with pytest.raises(OSError, match="not yet"):
            executor.compute(fail_twice(bad, 3, OSError))
        assert len(notes(bad)) == 3

    def test_only_for_the_errors_that_are_worth_it(self, executor: Executor, tmp_path: Path) -> None:
        """Subclasses included; others count at once."""
        good, bad = str(tmp_path / "good"), str(tmp_path / "bad")
        assert executor.compute(fail_picky(good, 2, ConnectionResetError)) == 3
        with pytest.raises(ValueError, match="not yet"):
            executor.compute(fail_picky(bad, 2, ValueError))
        assert notes(bad) == ["called"]

    def test_there_is_a_pause_before(self, executor: Executor, tmp_path: Path) -> None:
        """Give or take a quarter."""
        assert executor.compute(fail_slowly(str(tmp_path / "notes"))) > 0.22

    def test_the_pause_leaves_the_users_random_numbers_alone(self, executor: Executor, tmp_path: Path) -> None:
        """It is drawn, but not from those."""
        random.seed(7)
        expected = random.random()
        random.seed(7)
        executor.compute(fail_twice(str(tmp_path / "notes"), 2, OSError))
        assert random.random() == expected

    def test_others_are_done_meanwhile(self, executor: Executor, tmp_path: Path) -> None:
        """Failing calls among many that do not."""
        flaky = [fail_twice(str(tmp_path / str(i)), i % 3, OSError) for i in range(9)]
        found = executor.compute(gr.Graph([*flaky, *gr.map(add, range(200), [1] * 200)]))
        assert found == [i % 3 + 1 for i in range(9)] + [i + 1 for i in range(200)]

    @pytest.mark.parametrize("bad", range(4))
    def test_also_where_the_rest_of_its_unit_was_taken_back(self, executor: Executor, tmp_path: Path, bad: int) -> None:
        """Idle workers have got what was to come after it."""
        path = str(tmp_path / "notes")
        found = executor.compute(gr.Graph(gr.map(fail_late, [path] * 4, range(4), [bad] * 4)))
        assert list(found) == [0, 1, 2, 3]
        assert notes(path) == ["called", "called"]

    def test_the_run_tells_of_it(self, executor: Executor, tmp_path: Path) -> None:
        """An event for each time."""
        seen: list[Any] = []
        node = fail_twice(str(tmp_path / "notes"), 2, OSError)
        executor.compute(node, progress=seen.append)
        retried = [e for e in seen if type(e).__name__ == "NodeRetried"]
        assert [(e.node, e.attempt) for e in retried] == [(node.label, 2), (node.label, 3)]
        assert all("not yet" in e.error for e in retried)

    def test_a_call_that_takes_too_long_fails(self, executor: Executor, tmp_path: Path) -> None:
        """With an error of its own."""
        path = str(tmp_path / "notes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # in the driver's process it cannot be cut off, which is said
            with pytest.raises(gr.TaskTimeout, match=r"sleepy.*0\.2"):
                executor.compute(sleepy(path, 0.4))
        assert executor.compute(sleepy(path, 0.01)) == 0.01
        assert notes(path) == ["called", "called"]

    def test_others_are_not_harmed(self, executor: Executor, tmp_path: Path) -> None:
        """Only what needs its value fails with it."""
        path = str(tmp_path / "notes")
        late = sleepy(path, 0.4)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = executor.compute([late, add(late, 1), *gr.map(add, range(50), [1] * 50)], on_error="collect")
        assert found[2:] == list(range(1, 51))
        assert isinstance(found[0].error, gr.TaskTimeout)
        assert found[1].skipped_because is late

    @needs("contexts")
    def test_being_late_is_an_attempt(self, executor: Executor, tmp_path: Path) -> None:
        """The next may be in time."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert executor.compute(slow_at_first(str(tmp_path / "notes"))) == 2

    @needs("dynamic")
    def test_a_returned_call_has_its_time_too(self, executor: Executor, tmp_path: Path) -> None:
        """A task may return calls with a timeout."""
        path = str(tmp_path / "notes")
        assert executor.compute(inner_sleepy(path, 0.01)) == 3.01
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(gr.TaskTimeout, match="sleepy"):
                executor.compute(inner_sleepy(path, 0.4))
