"""Ray: one node on this machine with two CPUs."""

from __future__ import annotations

import logging
import os
from types import TracebackType
from typing import Any, Self

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when it is imported

import _work
import ray

FIRST_TASK = """
import os
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
value = ray.get(ray.remote(lambda: pow(2, 3)).remote())
stop = ray.shutdown
"""


class Ray:
    def __enter__(self) -> Self:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
        functions = (_work.noop, _work.inc, _work.add, _work.sleep, _work.read)
        self.noop, self.inc, self.add, self.sleep, self.read = (ray.remote(fn) for fn in functions)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ray.shutdown()

    def noops(self, n: int) -> Any:
        return ray.get([self.noop.remote(i) for i in range(n)])

    def chain(self, n: int) -> int:
        x: Any = 0
        for _ in range(n):
            x = self.inc.remote(x)
        return ray.get(x)

    def tree(self, leaves: int) -> int:
        level = [self.noop.remote(i) for i in range(leaves)]
        while len(level) > 1:
            level = [self.add.remote(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
        return ray.get(level[0])

    def sleeps(self, durations: list[float]) -> Any:
        return ray.get([self.sleep.remote(seconds) for seconds in durations])

    def reads(self, array: Any, tasks: int) -> Any:
        stored = ray.put(array)
        return ray.get([self.read.remote(stored, i) for i in range(tasks)])
