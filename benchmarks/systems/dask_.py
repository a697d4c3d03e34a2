"""dask in the calling process: graphs as plain dicts, which is its fastest form, and `dask.delayed`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import _work
import dask
import dask.threaded


class Graphs(nullcontext):
    """The work as dicts of tuples, given to a scheduler function. Nothing needs to be started."""

    def __init__(self, get: Callable[..., Any]) -> None:
        super().__init__(self)
        self.get = get

    def noops(self, n: int) -> Any:
        return self.get({("x", i): (_work.noop, i) for i in range(n)}, [("x", i) for i in range(n)])

    def chain(self, n: int) -> int:
        graph: dict[Any, Any] = {("x", 0): 0}
        for i in range(n):
            graph["x", i + 1] = (_work.inc, ("x", i))
        return self.get(graph, ("x", n))

    def tree(self, leaves: int) -> int:
        graph: dict[Any, Any] = {("x", leaves, i): (_work.noop, i) for i in range(leaves)}
        width = leaves
        while width > 1:
            for i in range(width // 2):
                graph["x", width // 2, i] = (_work.add, ("x", width, 2 * i), ("x", width, 2 * i + 1))
            width //= 2
        return self.get(graph, ("x", 1, 0))

    def reads(self, array: Any, tasks: int) -> Any:
        graph = {"array": array} | {("x", i): (_work.read, "array", i) for i in range(tasks)}
        return self.get(graph, [("x", i) for i in range(tasks)])


class Sync(Graphs):
    def __init__(self) -> None:
        super().__init__(dask.get)


class Threads(Graphs):
    def __init__(self) -> None:
        super().__init__(lambda graph, keys: dask.threaded.get(graph, keys, num_workers=2))


class Delayed(nullcontext):
    """The work by `dask.delayed`, on the synchronous scheduler."""

    def __init__(self) -> None:
        super().__init__(self)
        self.noop, self.inc, self.add = (dask.delayed(fn, pure=False) for fn in (_work.noop, _work.inc, _work.add))

    def noops(self, n: int) -> Any:
        return dask.compute([self.noop(i) for i in range(n)], scheduler="sync", optimize_graph=False)[0]

    def chain(self, n: int) -> int:
        x: Any = 0
        for _ in range(n):
            x = self.inc(x)
        return x.compute(scheduler="sync", optimize_graph=False)

    def tree(self, leaves: int) -> int:
        level = [self.noop(i) for i in range(leaves)]
        while len(level) > 1:
            level = [self.add(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
        return level[0].compute(scheduler="sync", optimize_graph=False)
