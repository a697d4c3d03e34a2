"""Tasks of the tests of clusters. Their workers find this module, or are sent it."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

import graphray as gr


@gr.task
def big(i: int, path: str | None = None, size: int = 100_000, seconds: float = 0.0) -> Any:
    """A large array of a number; leaves a note of it, and of its process."""
    if path is not None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{i} {os.getpid()}\n")
    time.sleep(seconds)
    return np.full(size, float(i))


@gr.task
def add(*arrays: Any, seconds: float = 0.0) -> float:
    """The sum of all, after a while."""
    time.sleep(seconds)
    return sum(float(a.sum()) for a in arrays)


def notes(path: Any) -> list[tuple[int, int]]:
    """What `big` has left: numbers and processes."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [(int(i), int(pid)) for i, pid in (line.split() for line in file.read().splitlines())]
