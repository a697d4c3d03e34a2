"""graphray: in the calling process, and on two processes."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import _work

import graphray as gr

noop = gr.task(_work.noop)
inc = gr.task(_work.inc)
add = gr.task(_work.add)
sleep = gr.task(_work.sleep)
read = gr.task(_work.read)

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
        stored = gr.value(array)
        return self.executor.compute(gr.Graph(gr.map(read, [stored] * tasks, range(tasks))))


class InProcess(Graphray):
    def __init__(self) -> None:
        super().__init__(gr.executors.InProcess())


class Loky(Graphray):
    def __init__(self) -> None:
        super().__init__(gr.executors.Loky(2))
