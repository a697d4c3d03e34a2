"""The engines: `InProcess`, `Loky` and `Dask`, and what a new one is made of."""

from __future__ import annotations

from graphray.executors.base import Executor
from graphray.executors.inprocess import InProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray.executors.dask.engine import Dask
    from graphray.executors.loky import Loky

__all__ = ["Dask", "Executor", "InProcess", "Loky"]


def __getattr__(name: str) -> Any:
    if name == "Dask":
        from graphray.executors.dask.engine import Dask

        return Dask
    if name == "Loky":  # brings loky and cloudpickle along
        from graphray.executors.loky import Loky

        return Loky
    raise AttributeError(f"module 'graphray.executors' has no attribute {name!r}")
