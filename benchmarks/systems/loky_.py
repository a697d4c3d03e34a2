"""loky: its pool of two processes, a future a task."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import _work
from loky import ProcessPoolExecutor

FIRST_TASK = """
from loky import ProcessPoolExecutor
pool = ProcessPoolExecutor(max_workers=2)
value = pool.submit(pow, 2, 3).result()
stop = pool.shutdown
"""


class Loky:
    def __enter__(self) -> Self:
        self.pool = ProcessPoolExecutor(max_workers=2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(wait=True)

    def noops(self, n: int) -> Any:
        futures = [self.pool.submit(_work.noop, i) for i in range(n)]
        return [future.result() for future in futures]

    def chain(self, n: int) -> int:
        # A future cannot be an argument here, so each hop goes through the caller.
        x = 0
        for _ in range(n):
            x = self.pool.submit(_work.inc, x).result()
        return x

    def sleeps(self, durations: list[float]) -> Any:
        futures = [self.pool.submit(_work.sleep, seconds) for seconds in durations]
        return [future.result() for future in futures]

    def reads(self, array: Any, tasks: int) -> Any:
        futures = [self.pool.submit(_work.read, array, i) for i in range(tasks)]
        return [future.result() for future in futures]
