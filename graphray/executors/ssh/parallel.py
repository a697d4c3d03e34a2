"""The same for many hosts at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from graphray.executors.ssh.hosts import Host
from graphray.executors.ssh.program import Program

T = TypeVar("T")

MOST = 64  # connections at a time


def each(hosts: Sequence[Host], work: Callable[[Host, Callable[[Program], Program]], T]) -> list[T]:
    """What `work` gives for each host, in their order.

    It is called with a host and a function for each `Program` that it opens: if this is interrupted, or one call
    raises, they are all closed, and what runs on the hosts ends.
    """
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    opened: list[Program] = []
    lock, end = threading.Lock(), threading.Event()
    turns = iter(range(len(hosts)))

    def keep(program: Program) -> Program:
        with lock:
            opened.append(program)
        if end.is_set():
            program.close(0)
        return program

    def run() -> None:
        while not end.is_set():
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            try:
                results[turn] = work(hosts[turn], keep)
            except BaseException as error:
                errors.append(error)
                end.set()

    threads = [
        threading.Thread(target=run, name=f"graphray-host-{i}", daemon=True) for i in range(min(MOST, len(hosts)))
    ]
    try:
        for thread in threads:
            thread.start()
        _wait(threads, end)
    finally:
        end.set()
        with lock:
            left = list(opened)
        for program in left:
            program.close(0)
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if errors:
        raise errors[0]
    return [results[i] for i in range(len(hosts))]


def _wait(threads: Iterable[threading.Thread], end: threading.Event) -> None:
    for thread in threads:
        while thread.is_alive() and not end.is_set():
            thread.join(0.1)
