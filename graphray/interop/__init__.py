"""graphray as the scheduler of other libraries.

`graphray.interop.dask.get` computes Dask's graphs; importing `graphray.interop.joblib` gives joblib the backend
"graphray". For `concurrent.futures`, see `Executor.futures`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray.interop import dask, joblib

__all__ = ["dask", "joblib"]


def __getattr__(name: str) -> Any:
    import importlib

    if name in __all__:  # each brings its library along
        return importlib.import_module(f"graphray.interop.{name}")
    raise AttributeError(f"module 'graphray.interop' has no attribute {name!r}")
