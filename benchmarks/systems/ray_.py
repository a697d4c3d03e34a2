"""Ray: one node on this machine with two CPUs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
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


class Stages:
    """An actor for stages: it is how one says where a task runs."""

    def first(self, megabytes: int) -> Any:
        return _work.first_stage(megabytes)

    def next(self, stage: Any) -> Any:
        return _work.next_stage(stage)


class Ray:
    WORKERS = r"^ray::(IDLE|grind)\b"  # its agents have such names too, and without them it is lost

    def __init__(self, memory: int | None = None) -> None:
        self.memory = memory
        self.actors: list[Any] = []

    @classmethod
    def budgeted(cls, memory: int) -> Callable[[], Self]:
        """What starts it with an object store of so many bytes, beyond which it puts results on disk."""
        return lambda: cls(memory)

    def __enter__(self) -> Self:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            object_store_memory=self.memory,
        )
        functions = (_work.noop, _work.inc, _work.add, _work.sleep, _work.read)
        self.noop, self.inc, self.add, self.sleep, self.read = (ray.remote(fn) for fn in functions)
        self.part, self.mean, self.chunk_mean = (ray.remote(fn) for fn in (_work.part, _work.mean, _work.chunk_mean))
        self.grind = ray.remote(max_retries=-1)(_work.grind)  # by default a task may be lost three times
        self.actor = ray.remote(num_cpus=0)(Stages)
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
        return self.reader(array, tasks)()

    def reader(self, array: Any, tasks: int) -> Callable[[], Any]:
        stored = ray.put(array)
        return lambda: ray.get([self.read.remote(stored, i) for i in range(tasks)])

    def stages(self, megabytes: int, count: int) -> tuple[Any, tuple[int, ...]]:
        self.actors = self.actors or [self.actor.remote() for _ in range(2)]
        stage = self.actors[1].first.remote(megabytes)
        for i in range(count):
            stage = self.actors[i % 2].next.remote(stage)
        return ray.get(stage)

    def layers(self, graph: list[list[_work.Step]]) -> Any:
        return ray.get(_work.result_of(graph, self.grind.remote))

    def parts(self, count: int, megabytes: int) -> Any:
        parts = [self.part.remote(i, megabytes) for i in range(count)]
        seen = ray.get([self.mean.remote(p) for p in parts])
        chunks = [self.chunk_mean.remote(seen, *parts[i : i + _work.CHUNK]) for i in range(0, count, _work.CHUNK)]
        return ray.get(chunks)
