"""The engines: `InProcess`, `Loky`, `Dask` and `SSH`, and what a new one is made of."""

from __future__ import annotations

from graphray.executors.base import Executor
from graphray.executors.inprocess import InProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray.executors import ssh
    from graphray.executors.dask.engine import Dask
    from graphray.executors.loky import Loky
    from graphray.executors.ssh.engine import SSH

__all__ = ["SSH", "Dask", "Executor", "InProcess", "Loky", "ssh"]


def __getattr__(name: str) -> Any:
    if name == "Dask":
        from graphray.executors.dask.engine import Dask

        return Dask
    if name == "Loky":  # brings loky and cloudpickle along
        from graphray.executors.loky import Loky

        return Loky
    if name == "SSH":
        from graphray.executors.ssh.engine import SSH

        return SSH
    if name == "ssh":
        import importlib

        return importlib.import_module("graphray.executors.ssh")
    raise AttributeError(f"module 'graphray.executors' has no attribute {name!r}")
