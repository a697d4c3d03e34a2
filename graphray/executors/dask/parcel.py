"""A parcel: a pickled value and its buffers, as Dask keeps, moves and spills it. Nobody but its reader unpickles it."""

from __future__ import annotations

import sys

from graphray.executors import wire
from graphray.executors.frames import size_of
from graphray.graph.containers import freeze

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Parcel:
    """The frames of a value.

    Args:
        frames: those of `wire.dumps`.
        own: of each, whether its reader needs a copy of its own.
    """

    __slots__ = ("__weakref__", "frames", "own")

    def __init__(self, frames: Sequence[Any], own: Sequence[bool]) -> None:
        self.frames = frames
        self.own = own

    @classmethod
    def of(cls, value: Any) -> Parcel:
        """The parcel of a value.

        Raises:
            Exception: it cannot be pickled.
        """
        return cls.packed(wire.dumps(value))

    @classmethod
    def packed(cls, frames: Sequence[Any]) -> Parcel:
        """The parcel of frames. Buffers that somebody may still change are copied, as they are on every other way."""
        own = [i > 0 and isinstance(f, memoryview) and not f.readonly for i, f in enumerate(frames)]
        return cls([bytes(f) if copy else f for f, copy in zip(frames, own, strict=True)], own)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return sum(map(size_of, self.frames))

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.nbytes  # by which Dask decides what is spilled

    def open(self) -> Any:
        """The value: arrays are read-only views of the parcel.

        Raises:
            Exception: it cannot be unpickled here.
        """
        return freeze(wire.loads(self._frames()))

    def _frames(self) -> list[Any]:
        return [
            bytearray(f) if own else memoryview(f).toreadonly() for f, own in zip(self.frames, self.own, strict=True)
        ]

    def __reduce__(self) -> Any:  # where Dask pickles it after all: inside something else
        return Parcel, ([bytes(f) for f in self.frames], list(self.own))


def register() -> None:
    """Tell Dask how parcels travel: as they are, without a copy."""
    from distributed.protocol.serialize import dask_deserialize, dask_serialize

    dispatches: Any = dask_serialize, dask_deserialize
    for dispatch, function in zip(dispatches, (_serialize, _deserialize), strict=True):
        dispatch.register(Parcel, function)


def _serialize(parcel: Parcel, context: Any = None) -> Any:
    return {"own": [bool(x) for x in parcel.own]}, list(parcel.frames)


def _deserialize(header: Any, frames: Any) -> Parcel:
    return Parcel(frames, header["own"])


if "distributed" in sys.modules:  # wherever a parcel can come to, this module is imported first
    register()
