"""A value that is with a worker of a Dask cluster, as the driver knows it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Remote:
    """A handle: the value is there for as long as it lives.

    Args:
        future: Dask's, of a `Parcel`.
        nbytes: how large that is.
        home: address of the worker that has it.
    """

    __slots__ = ("__weakref__", "copies", "future", "home", "lost", "nbytes")

    letter: list[Remote] | None = None  # the inputs of the unit that is being pickled (by one thread at a time)

    def __init__(self, future: Any, nbytes: int, home: str) -> None:
        self.future = future
        self.nbytes = nbytes
        self.home = home
        self.lost = False  # it went with its worker
        self.copies: dict[str, Remote] = {}  # by address: with workers that cannot connect to those that have it

    def __reduce__(self) -> Any:
        from graphray.executors.dask.seat import open_input

        letter = Remote.letter
        if letter is None:
            raise TypeError("a value on a cluster can be sent to a worker of that cluster only")
        letter.append(self)
        return open_input, (len(letter) - 1,)
