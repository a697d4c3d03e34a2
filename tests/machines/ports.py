"""Ports where nobody answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def closed_port(address: str = "127.0.0.1") -> Iterator[int]:
    """A port that refuses connections, and that nobody else gets meanwhile."""
    with socket.socket() as bound:
        bound.bind((address, 0))  # and never listens
        yield bound.getsockname()[1]


@contextmanager
def silent_port(address: str = "127.0.0.1") -> Iterator[int]:
    """A port that accepts connections and says nothing. It is also a port that is in use."""
    with socket.socket() as listener:
        listener.bind((address, 0))
        listener.listen(128)  # the kernel accepts them
        yield listener.getsockname()[1]
