"""graphray: in the calling process, and on two processes."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import _work

import graphray as gr

noop = gr.task(_work.noop)
inc = gr.task(_work.inc)
add = gr.task(_work.add)
sleep = gr.task(_work.sleep)
read = gr.task(_work.read)
first_stage = gr.task(_work.first_stage)
# A task with a time limit is run by itself, and not together with the one that it needs; so `near` decides, each time.
next_stages = [gr.task(_work.next_stage, near=key, timeout=600) for key in ("this", "that")]
part = gr.task(_work.part)
mean = gr.task(_work.mean)
chunk_mean = gr.task(_work.chunk_mean)
grind = gr.task(_work.grind)
ramp = gr.task(_work.ramp)

FIRST_TASK = """
import graphray as gr
pool = gr.executors.Loky(2)
value = pool.compute(gr.call(pow, 2, 3))
stop = pool.close
"""


class Graphray:
    """The work as graphs, on an executor that is kept."""

    def __init__(self, executor: gr.executors.Executor) -> None:
        self.executor = executor

    def __enter__(self) -> Self:
        self.executor.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.executor.__exit__(kind, error, trace)

    def noops(self, n: int) -> Any:
        return self.executor.compute(gr.Graph(gr.map(noop, range(n))))

    def calls(self, n: int) -> Any:
        """The same, each node made by a call of its own."""
        return gr.compute(*[noop(i) for i in range(n)], executor=self.executor)

    def chain(self, n: int) -> int:
        x: Any = 0
        for _ in range(n):
            x = inc(x)
        return self.executor.compute(gr.Graph(x))

    def chains(self, count: int, length: int) -> Any:
        """The ends of several chains."""
        level: Any = range(count)
        for _ in range(length):
            level = gr.map(inc, level)
        return self.executor.compute(gr.Graph(level))

    def tree(self, leaves: int) -> int:
        level = gr.map(noop, range(leaves))
        while len(level) > 1:
            level = gr.map(add, level[::2], level[1::2])
        return self.executor.compute(gr.Graph(level[0]))

    def sleeps(self, durations: list[float]) -> Any:
        return self.executor.compute(gr.Graph(gr.map(sleep, durations)))

    def reads(self, array: Any, tasks: int) -> Any:
        return self.reader(array, tasks)()

    def reader(self, array: Any, tasks: int) -> Callable[[], Any]:
        graph = gr.Graph(gr.map(read, [gr.value(array)] * tasks, range(tasks)))
        return lambda: self.executor.compute(graph)

    def kept(self, directory: str) -> Kept:
        """Calls whose results are kept in a directory."""
        return Kept(self.executor, directory)


class Kept:
    def __init__(self, executor: gr.executors.Executor, directory: str) -> None:
        self.executor = executor
        self.directory = directory

    def small(self, i: int) -> int:
        return inc(i).compute(executor=self.executor, cache=self.directory)

    def large(self, megabytes: int) -> Any:
        return ramp(megabytes).compute(executor=self.executor, cache=self.directory)

    def many(self, n: int) -> Any:
        return self.executor.compute(gr.Graph(gr.map(inc, range(n))), cache=self.directory)


class InProcess(Graphray):
    def __init__(self) -> None:
        super().__init__(gr.executors.InProcess())


class Loky(Graphray):
    WORKERS = r"\bloky\.backend\.popen_loky"

    def __init__(self, memory: int | None = None) -> None:
        super().__init__(gr.executors.Loky(2))
        self.memory = memory

    @classmethod
    def budgeted(cls, memory: int) -> Callable[[], Self]:
        """What starts it with a limit on how many bytes of results are in memory."""
        return lambda: cls(memory)

    def stages(self, megabytes: int, count: int) -> tuple[Any, tuple[int, ...]]:
        """The last of so many stages, and the processes that they ran in, which alternate."""
        stage = first_stage(megabytes)
        for i in range(count):
            stage = next_stages[i % 2](stage)
        return self.executor.compute(gr.Graph(stage))

    def layers(self, graph: list[list[_work.Step]]) -> Any:
        """The results of the last layer of a layered graph."""
        return self.executor.compute(gr.Graph(_work.result_of(graph, grind)))

    def parts(self, count: int, megabytes: int) -> Any:
        """The means of chunks of parts, which are asked for when each part has been looked at by itself."""
        parts = gr.map(part, range(count), megabytes=megabytes)
        seen = gr.combine(sum, gr.map(mean, parts))
        chunks = [chunk_mean(seen, *parts[i : i + _work.CHUNK]) for i in range(0, count, _work.CHUNK)]
        return self.executor.compute(gr.Graph(chunks), memory=self.memory)
