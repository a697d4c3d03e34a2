"""Waiting for what is to come about soon."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], patience: float = 20.0) -> T:
    """What a condition gives once that is true, or has not become so within `patience` seconds: `assert until(…)`."""
    deadline = time.monotonic() + patience
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found
