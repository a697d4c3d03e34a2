"""dask.distributed: a local cluster of two processes with one thread each, given its tasks as futures.

On small sizes and a busy machine `client.get` was slower for no-ops and chains; between these, `client.get` and
`dask.delayed` there was no clear winner for trees.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import _work
from distributed import Client, LocalCluster

FIRST_TASK = """
from distributed import Client, LocalCluster
cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
client = Client(cluster)
value = client.submit(pow, 2, 3).result()
def stop():
    client.close()
    cluster.close()
"""


class Distributed:
    def __enter__(self) -> Self:
        self.cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
        self.client = Client(self.cluster)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.cluster.close()

    def noops(self, n: int) -> Any:
        return self.client.gather(self.client.map(_work.noop, range(n), pure=False))

    def chain(self, n: int) -> int:
        x: Any = 0
        for _ in range(n):
            x = self.client.submit(_work.inc, x, pure=False)
        return x.result()

    def tree(self, leaves: int) -> int:
        level = self.client.map(_work.noop, range(leaves), pure=False)
        while len(level) > 1:
            level = self.client.map(_work.add, level[::2], level[1::2], pure=False)
        return level[0].result()

    def sleeps(self, durations: list[float]) -> Any:
        return self.client.gather(self.client.map(_work.sleep, durations, pure=False))

    def reads(self, array: Any, tasks: int) -> Any:
        return self.reader(array, tasks)()

    def reader(self, array: Any, tasks: int) -> Callable[[], Any]:
        stored = self.client.scatter(array, hash=False)
        return lambda: self.client.gather([self.client.submit(_work.read, stored, i, pure=False) for i in range(tasks)])

    def stages(self, megabytes: int, count: int) -> tuple[Any, tuple[int, ...]]:
        this, that = self.client.scheduler_info()["workers"]
        stage = self.client.submit(_work.first_stage, megabytes, pure=False, workers=[that])
        for i in range(count):
            stage = self.client.submit(_work.next_stage, stage, pure=False, workers=[that if i % 2 else this])
        return stage.result()
