"""Kills a random worker again and again, from a process of its own, as the system's out-of-memory killer would.

Only workers that are at work are killed: one that idles, or that is kept as a spare, would be no loss.
"""

from __future__ import annotations

import json
import os
import random
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import _memory

GLANCE = 0.03
"""Seconds for which it looks who is at work."""


class Killer:
    """From entering to leaving, this process's workers are killed by SIGKILL, one at a time.

    Args:
        workers: a regular expression that is found in the command line of workers, and of nothing else.
        every: seconds between two kills.
        seed: which of them it takes.

    Attributes:
        kills: how many there were, once it is over.
    """

    kills: int

    def __init__(self, workers: str, every: float, seed: int) -> None:
        self._command = [sys.executable, str(Path(__file__)), str(os.getpid()), workers, str(every), str(seed)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it is up: the first kill is that many seconds away
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        printed, _ = self._process.communicate()
        if error is None:
            self.kills = json.loads(printed)["kills"]


def kill(pid: int, workers: str, every: float, seed: int, until: Any) -> int:
    """Kill until there is something to read, and say how many were killed."""
    rng = random.Random(seed)
    kills = 0
    print("ready", flush=True)
    due = time.monotonic()
    while True:
        due += every
        if select.select([until], [], [], max(0.0, due - time.monotonic()))[0]:
            return kills
        victims = at_work(pid, re.compile(workers))
        if victims:
            kills += _killed(rng.choice(victims))


def at_work(pid: int, workers: re.Pattern[str]) -> list[Any]:
    """Those workers of a process that use the processor; where none does, all of them."""
    import psutil

    before: list[tuple[Any, float]] = []
    for number in _memory.family(pid):
        try:
            process = psutil.Process(number)
            if number != pid and workers.search(" ".join(process.cmdline())):
                before.append((process, _used(process)))
        except psutil.Error:
            continue
    time.sleep(GLANCE)
    busy = []
    for process, used in before:
        try:
            if _used(process) > used:
                busy.append(process)
        except psutil.Error:
            continue
    return busy or [process for process, _ in before]


def _used(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _killed(process: Any) -> bool:
    import psutil

    try:
        process.kill()  # psutil looks first whether this is still the same process
    except psutil.Error:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps({"kills": kill(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), sys.stdin)}))
