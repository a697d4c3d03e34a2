"""Tasks that ask for resources."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.capabilities import RESOURCES
from graphray.testing.part import Part, needs
from graphray.testing.tasks import add, identity, note, notes

PATIENCE = 30.0  # seconds for another task to begin


@gr.task(resources={"licence": 1})
def exclusive(path: str, i: int) -> int:
    """Fails if another call is going on."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    time.sleep(0.02)
    os.unlink(path)
    return i


@gr.task(resources={"licence": 1})
def fail_with_licence() -> None:
    """Fails."""
    raise OSError("it was not to be")


@gr.task(resources={"licence": 2})
def greedy(i: Any) -> Any:
    """Asks for more than there is."""
    return i


@gr.task(resources={"unicorn": 1})
def dreamer(i: Any) -> Any:
    """Asks for what nobody has."""
    return i


@gr.task
def say(path: str, i: int) -> int:
    """Leaves a note."""
    note(path, str(i))
    return i


@gr.task
def return_exclusive(path: str, i: int) -> Any:
    """Returns calls that need resources."""
    return add(exclusive(path, i), exclusive(path, i + 1))


@gr.task
def return_dreamer(i: int) -> Any:
    """Returns a call that cannot be made."""
    return dreamer(i)


def visible() -> str | None:
    """The accelerators that this process is told of."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


@gr.task(resources={"gpu": 1})
def see_one(path: str, number: int) -> str | None:
    """What it sees while `number` calls are going on."""
    note(path, "here")
    deadline = time.monotonic() + PATIENCE
    while len(notes(path)) < number:
        if time.monotonic() > deadline:
            raise TimeoutError("the others have not begun")
        time.sleep(0.01)
    return visible()


see_two = gr.task(resources={"gpu": 2})(visible)
see_none = gr.task(visible)


class Resources(Part):
    """`resources=`; the executor under test has those of `graphray.testing.RESOURCES`."""

    @needs("resources")
    def test_a_resource_is_held_by_one_call_at_a_time(self, executor: Executor, tmp_path: Path) -> None:
        """There is one licence."""
        path = str(tmp_path / "licence")
        found = executor.compute([*gr.map(exclusive, [path] * 6, range(6)), *gr.map(identity, range(50))])
        assert found == [*range(6), *range(50)]

    @needs("resources")
    def test_it_comes_back_from_a_call_that_fails(self, executor: Executor, tmp_path: Path) -> None:
        """The next may have it."""
        for _ in range(2):
            with pytest.raises(OSError, match="not to be"):
                executor.compute(fail_with_licence())
        assert executor.compute(exclusive(str(tmp_path / "licence"), 3)) == 3

    @needs("resources")
    def test_more_than_there_is_fails_at_once(self, executor: Executor, tmp_path: Path) -> None:
        """Before anything else of the run has begun."""
        path = str(tmp_path / "notes")
        with pytest.raises(gr.ResourceError, match=rf"greedy.* 2 licence.* {RESOURCES['licence']} licence"):
            executor.compute(greedy(say(path, 1)))
        assert notes(path) == []

    def test_what_nobody_has_fails(self, executor: Executor) -> None:
        """It says who asks for what, and what there is."""
        with pytest.raises(gr.ResourceError, match=r"dreamer.* 1 unicorn.*worker"):
            executor.compute(add(dreamer(1), 2))
        assert executor.compute(add(1, 2)) == 3

    def test_collected_the_others_are_done(self, executor: Executor) -> None:
        """As with any failure."""
        bad = dreamer(1)
        first, second, third = executor.compute([bad, add(bad, 1), add(1, 1)], on_error="collect")
        assert isinstance(first.error, gr.ResourceError)
        assert second.skipped_because is bad
        assert third == 2

    @needs("dynamic")
    def test_a_returned_call_that_cannot_be_made_fails(self, executor: Executor) -> None:
        """Nobody could know before."""
        with pytest.raises(gr.ResourceError, match="unicorn"):
            executor.compute(return_dreamer(1))

    @needs("resources", "dynamic")
    def test_a_returned_call_gets_what_it_needs(self, executor: Executor, tmp_path: Path) -> None:
        """Its worker was not given it."""
        path = str(tmp_path / "licence")
        assert executor.compute(gr.Graph(gr.map(return_exclusive, [path] * 3, range(3)))) == (1, 3, 5)

    @needs("resources", "growing")
    def test_nodes_that_come_later_get_what_they_need(self, executor: Executor, tmp_path: Path) -> None:
        """Or fail, one by one."""
        path = str(tmp_path / "licence")
        with executor.open() as run:
            for i in range(3):
                run.add(exclusive(path, i))
            bad = run.add(dreamer(5))
            done = {d.node: d for d in run.as_completed()}
            with pytest.raises(gr.ResourceError, match="unicorn"):
                done.pop(bad).result()
            assert sorted(d.result() for d in done.values()) == [0, 1, 2]

    @needs("resources", "processes")
    def test_each_accelerator_is_one_tasks(self, executor: Executor, tmp_path: Path) -> None:
        """And a task sees its own only."""
        ones = [see_one(str(tmp_path / "notes"), 2) for _ in range(2)]
        first, second, both, none = executor.compute([*ones, see_two(), see_none()])
        assert first != second
        assert sorted(both.split(",")) == sorted([first, second])
        assert none in ("", "-1")
        assert executor.compute([see_one(str(tmp_path / "notes"), 1), see_none()])[1] == none
