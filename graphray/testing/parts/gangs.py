"""Gangs: calls that several workers make together."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part, needs
from graphray.testing.tasks import add, identity, note, notes

PATIENCE = 30.0  # seconds for another member to be there


def meet(gang: gr.Gang, text: str) -> list[str]:
    """All members' texts, by way of the first's socket."""
    host, _, port = gang.address.rpartition(":")
    place = host.strip("[]"), int(port)
    family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
    if gang.rank == 0:
        texts = {0: text}
        with socket.create_server(place, family=family) as server:
            server.settimeout(PATIENCE)
            others = [server.accept()[0] for _ in range(gang.size - 1)]
        for other in others:
            rank, _, said = other.recv(1000).decode().partition(" ")
            texts[int(rank)] = said
        for other in others:
            other.sendall("\n".join([texts[i] for i in range(gang.size)]).encode())
            other.close()
        return [texts[i] for i in range(gang.size)]
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with socket.create_connection(place, timeout=PATIENCE) as connection:
                connection.sendall(f"{gang.rank} {text}".encode())
                return connection.recv(10_000).decode().split("\n")
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def together(gang: gr.Gang, text: str) -> tuple[int, int, list[str], int]:
    """Rank, size, what all members said, and the process."""
    return gang.rank, gang.size, meet(gang, f"{text}{gang.rank}"), os.getpid()


def alone(gang: gr.Gang, x: int, *, more: int = 0) -> tuple[int, int, int]:
    """A member that asks nobody."""
    with socket.create_server(("127.0.0.1", int(gang.address.rpartition(":")[2]))):
        return gang.rank, gang.size, x + more


def arrays(gang: gr.Gang, x: Any) -> Any:
    """A large array."""
    return x + gang.rank


@gr.task(retries=2, backoff=0.01)
def fail_twice(gang: gr.Gang, path: str) -> int:
    """One of the members fails, two times."""
    meet(gang, "")
    note(path, str(gang.rank))
    if gang.rank == 1 and len([line for line in notes(path) if line == "1"]) <= 2:
        raise OSError("not yet")
    return gang.rank


def fail_or_wait(gang: gr.Gang, path: str) -> None:
    """One fails; the other would wait for ever."""
    if gang.rank == 1:
        raise ValueError("this one fails")
    time.sleep(600)
    note(path, "it went on")


@gr.task(timeout=0.5)
def hang(gang: gr.Gang) -> None:
    """Takes too long."""
    if gang.rank == 0:
        time.sleep(600)


class Gangs(Part):
    """`gr.gang`."""

    def test_a_gang_of_one(self, executor: Executor) -> None:
        """Runs everywhere; it can listen at its address."""
        assert executor.compute(gr.gang(alone, identity(3), more=4, size=1)) == ((0, 1, 7),)

    def test_a_gang_that_nobody_can_hold_fails_at_once(self, executor: Executor) -> None:
        """And says what to do."""
        with pytest.raises(gr.ResourceError, match=r"1000.*worker"):
            executor.compute(gr.gang(alone, 1, size=1000))
        assert executor.compute(add(1, 2)) == 3

    @needs("gangs")
    def test_members_run_at_the_same_time(self, executor: Executor) -> None:
        """They meet, in processes of their own; the value is in the order of their ranks."""
        found = executor.compute(gr.gang(together, gr.call(str.upper, "a"), size=2))
        assert [x[:3] for x in found] == [(0, 2, ["A0", "A1"]), (1, 2, ["A0", "A1"])]
        assert found[0][3] != found[1][3]

    @needs("gangs")
    def test_gangs_take_turns(self, executor: Executor) -> None:
        """Several that want the same workers, and other work between."""
        gangs = [gr.gang(together, str(i), size=2) for i in range(4)]
        *found, rest = executor.compute([*gangs, gr.map(identity, range(200))])
        assert [[x[2] for x in one] for one in found] == [[[f"{i}0", f"{i}1"]] * 2 for i in range(4)]
        assert rest == tuple(range(200))

    @needs("gangs")
    def test_its_value_unpacks_and_may_be_large(self, executor: Executor) -> None:
        """A tuple of as many values as members."""
        x = np.arange(100_000.0)
        first, second = gr.gang(arrays, gr.value(x), size=2)
        found = executor.compute([first, add(second, 1.0)])
        assert np.array_equal(found[0], x)
        assert np.array_equal(found[1], x + 2)

    @needs("gangs")
    def test_they_are_retried_together(self, executor: Executor, tmp_path: Path) -> None:
        """All of them."""
        path = str(tmp_path / "notes")
        assert executor.compute(gr.gang(fail_twice, path, size=2)) == (0, 1)
        assert notes(path).count("1") == 3

    @needs("gangs")
    def test_one_that_fails_ends_the_others(self, executor: Executor, tmp_path: Path) -> None:
        """The error says which it was, and the workers can be used again."""
        path = str(tmp_path / "notes")
        with pytest.raises(ValueError, match="this one fails") as caught:
            executor.compute(gr.gang(fail_or_wait, path, size=2))
        assert any("rank 1 of a gang of 2" in line for line in caught.value.__notes__)
        assert [x[:2] for x in executor.compute(gr.gang(together, "", size=2))] == [(0, 2), (1, 2)]
        assert notes(path) == []

    @needs("gangs")
    def test_the_time_is_that_of_the_whole(self, executor: Executor) -> None:
        """One is late: so are all."""
        with pytest.raises(gr.TaskTimeout, match=r"hang.*0\.5"):
            executor.compute(gr.gang(hang, size=2))
        late = gr.gang(hang, size=2)
        first, second = executor.compute([late, add(1, 2)], on_error="collect")
        assert isinstance(first.error, gr.TaskTimeout)
        assert second == 3

    @needs("gangs")
    def test_its_value_is_cached_as_a_whole(self, executor: Executor, tmp_path: Path) -> None:
        """And found again."""
        node = gr.gang(together, "a", size=2)
        found = executor.compute(node, cache=tmp_path)
        assert executor.compute(gr.gang(together, "a", size=2), cache=tmp_path) == found
        assert executor.compute(gr.gang(together, "b", size=2), cache=tmp_path) != found
