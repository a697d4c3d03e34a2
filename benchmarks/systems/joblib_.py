"""joblib: its loky backend, which batches independent calls; it has no words for calls that need others."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import _work
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
