"""joblib: its loky backend, which batches independent calls; it has no words for calls that need others.

And `joblib.Memory`, which keeps results, in the calling process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Self

import _work
import joblib
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

FIRST_TASK = """
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
value, = Parallel(n_jobs=2)([delayed(pow)(2, 3)])
stop = get_reusable_executor().shutdown
"""


class Joblib:
    def __enter__(self) -> Self:
        self.parallel = Parallel(n_jobs=2).__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.parallel.__exit__(kind, error, trace)
        get_reusable_executor().shutdown(wait=True)

    def noops(self, n: int) -> Any:
        return self.parallel(delayed(_work.noop)(i) for i in range(n))

    def sleeps(self, durations: list[float]) -> Any:
        return self.parallel(delayed(_work.sleep)(seconds) for seconds in durations)

    def reads(self, array: Any, tasks: int) -> Any:
        return self.parallel(delayed(_work.read)(array, i) for i in range(tasks))

    def reader(self, array: Any, tasks: int) -> Callable[[], Any]:
        """The array is put into a file for the first call, and found there by its hash for later ones."""
        return lambda: self.reads(array, tasks)


class Memory(nullcontext):
    """Nothing needs to be started. Only here large arrays are mapped: small results are faster without."""

    def __init__(self) -> None:
        super().__init__(self)

    def kept(self, directory: str) -> Kept:
        return Kept(directory)


class Kept:
    def __init__(self, directory: str) -> None:
        self.small = joblib.Memory(directory, verbose=0).cache(_work.inc)
        self.large = joblib.Memory(directory, verbose=0, mmap_mode="r").cache(_work.ramp)

    def many(self, n: int) -> Any:
        return [self.small(i) for i in range(n)]
