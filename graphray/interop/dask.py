"""Dask's graphs on graphray: `dask.config.set(scheduler=graphray.interop.dask.get)`.

Dask hands a scheduler a dict of tasks by key, and the keys it wants. Each key becomes a node:

    Alias                                   the node of its target
    DataNode                                a constant
    Task whose arguments are keys or plain  a call of its function, with nodes for the keys
    any other Task                          a call of the task itself, which gets the values of the keys it needs

All of them are impure (`pure=False`), and `cache=` is refused. A key of Dask's is no identity: it is a token of the
arguments where Dask finds one, a random number where it does not, and whatever the user wrote in `name=` or a plain
dict; nor does the function under it say what it reads (files, random states, clocks). Within one `get` a key is
computed once; from one to the next nothing is remembered.
"""

from __future__ import annotations

import collections
import collections.abc

from graphray.executors import context
from graphray.graph.containers import ATOMS, is_container
from graphray.graph.dataflow import Graph
from graphray.graph.node import FLAT, Node, make
from graphray.graph.opaque import Opaque, content
from graphray.graph.sources import value
from graphray.graph.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

try:
    import dask
    import numpy
    from dask import _task_spec as spec
    from dask.utils import funcname

    # Dask has no public names for these, which are what every scheduler of it is given.
    _NEEDED = spec.Alias, spec.DataNode, spec.GraphNode, spec.Task, spec.TaskRef, spec.convert_legacy_graph
except (ImportError, AttributeError) as missing:
    name = getattr(missing, "name", None)
    if isinstance(missing, ModuleNotFoundError) and name not in ("dask", "dask._task_spec"):
        raise
    raise ImportError(
        f"graphray.interop.dask needs Dask 2025.1 or later with its task specifications ({missing}): "
        "pip install 'graphray[dask]'",
        name=name,
    ) from None

__all__ = ["get"]

# What may be said in `.compute(…)`, of the options of `Graph.run`.
OPTIONS = ("capsule", "memory", "progress", "threads_per_task", "trace", "workers")


def get(dsk: Any, keys: Any, executor: Any = None, num_workers: int | None = None, **options: Any) -> Any:
    """Compute keys of a Dask graph; for `dask.config.set(scheduler=get)`, or `.compute(scheduler=get)`.

    Args:
        dsk: the graph: a mapping from keys to tasks, or an object with `__dask_graph__`.
        keys: a key, or a list of keys, nested to any depth.
        executor: as in `Graph.run`: an executor, its name, or what is the default; `.compute(executor="loky:4")`.
        num_workers: Dask's name for `workers`: how many, for an executor given by name.
        options: `workers`, `progress`, `memory`, `threads_per_task`, `trace`, `capsule`, as in `Graph.run`.

    Returns:
        The value of the key; for a list, a tuple of these, as other schedulers of Dask give it.

    Raises:
        TypeError: an option that there is not. `cache` is none of them: see the module's text.
        KeyError: a key that is asked for, or that a task needs, is not in the graph.
        ValueError: tasks need each other.
        Exception: what a task raised.
    """
    _check(options)
    if num_workers is not None:
        options.setdefault("workers", num_workers)
    graph = dsk if isinstance(dsk, collections.abc.Mapping) else dsk.__dask_graph__()
    tasks = spec.convert_legacy_graph(graph)
    wanted = list(dict.fromkeys(_flat(keys)))
    nodes = Translation(tasks).nodes(wanted)
    distinct = list(dict.fromkeys(nodes))
    if not distinct:
        return _nested(keys, {})
    run = Graph(distinct).run(executor, **options)
    copies = not run.executor.shares_memory
    values = {n: _result(x, copies) for n, x in zip(distinct, run.result(), strict=True)}
    found = {key: values[node] for key, node in zip(wanted, nodes, strict=True)}
    return _nested(keys, found)


def _check(options: Mapping[str, Any]) -> None:
    for option in options:
        if option == "cache":
            raise TypeError(
                "cache= is not for Dask's graphs: neither its keys nor its functions say for certain what a result is "
                "of. Cache the function that makes the collection and computes it: @gr.task(cache=True)"
            )
        if option not in OPTIONS:
            names = ", ".join(["executor", "num_workers", *OPTIONS])
            raise TypeError(f"graphray.interop.dask.get has no option {option!r}; there are {names}")
    from dask.callbacks import Callback

    if Callback.active:
        import warnings

        warnings.warn(
            "Dask's callbacks (ProgressBar, Profiler, …) hear nothing of a run on graphray; "
            "compute(progress=True) shows its progress, compute(trace='run.json') what ran when",
            stacklevel=4,
        )


def _flat(keys: Any) -> Iterable[Any]:
    stack = [keys]
    while stack:
        key = stack.pop()
        if isinstance(key, list):
            stack += reversed(key)
        else:
            yield key


def _nested(keys: Any, values: Mapping[Any, Any]) -> Any:
    return tuple([_nested(k, values) for k in keys]) if isinstance(keys, list) else values[keys]


class Translation:
    """Makes the nodes of a graph's keys, those that are asked for and those that they need."""

    def __init__(self, tasks: Mapping[Any, Any]) -> None:
        self._tasks = tasks
        self._place = {key: i for i, key in enumerate(tasks)}
        self._made: dict[Any, Node] = {}
        self._often = collections.Counter([id(t.func) for t in tasks.values() if isinstance(t, spec.Task)])
        self._callers: dict[int, Task] = {}  # by function
        self._runners: dict[str, Task] = {}  # by name of the function

    def nodes(self, keys: Sequence[Any]) -> list[Node]:
        """The nodes of some keys. Depth is bounded by memory only."""
        tasks, made = self._tasks, self._made
        stack = [*reversed(keys)]
        opened: set[Any] = set()
        while stack:
            key = stack[-1]
            if key in made:
                stack.pop()
                continue
            task = tasks.get(key)
            if task is None:
                raise self._missing(key)
            needed = [k for k in task.dependencies if k not in made]
            if not needed:
                stack.pop()
                made[key] = self._node(task)
                continue
            if not opened.isdisjoint(needed) or key in needed:
                raise ValueError(f"the Dask graph has a cycle: {key!r} needs the value of itself, by way of {needed!r}")
            opened.add(key)
            if len(needed) > 1:  # in the graph's order: that of a set differs from process to process
                needed.sort(key=lambda k: self._place.get(k, -1), reverse=True)
            stack += needed
        return [made[key] for key in keys]

    def _missing(self, key: Any) -> KeyError:
        by = next((k for k, t in self._tasks.items() if key in t.dependencies), None)
        needed = f", which {by!r} needs," if by is not None else ""
        return KeyError(
            f"the key {key!r}{needed} is not in the Dask graph. If it is of a future or persisted collection of "
            "dask.distributed, compute on its client"
        )

    def _node(self, task: Any) -> Node:
        kind = type(task)
        if kind is spec.Task:
            node = self._call(task)
            return node if node is not None else self._run(task)
        if kind is spec.Alias:
            return self._made[task.target]
        if kind is spec.DataNode:
            return value(_boxed(task.value))
        return self._run(task)

    def _call(self, task: Any) -> Node | None:
        """A call of the function, where the arguments are keys or plain and it is called more than once."""
        func = task.func
        if self._often[id(func)] == 1:  # a task of its own would have to travel for this one call
            return None
        made = self._made
        args: list[Any] = []
        deps: dict[Node, None] = {}
        arrays = False
        for a in task.args:
            kind = type(a)
            if kind in ATOMS:
                args.append(a)
            elif kind is spec.TaskRef or kind is spec.Alias:
                node = made[a.key if kind is spec.TaskRef else a.target]
                args.append(node)
                deps[node] = None
            elif isinstance(a, _REFERRING):
                return None
            elif isinstance(a, numpy.ndarray):  # travels by way of the store
                args.append(a)
                arrays = True
            else:
                args.append(Opaque(a))
        for a in task.kwargs.values():
            if isinstance(a, _REFERRING):
                return None
        caller = self._callers.get(id(func))
        if caller is None:
            caller = self._callers[id(func)] = Task(Caller(func), funcname(func), pure=False)
        if arrays:
            return make(caller, tuple(args), task.kwargs or None)
        return Node(caller, tuple(args), task.kwargs or None, tuple(deps), FLAT)

    def _run(self, task: Any) -> Node:
        """A call of the task itself, whatever is in it."""
        keys = sorted(task.dependencies, key=self._place.__getitem__)
        nodes = [self._made[k] for k in keys]
        name = funcname(task.func) if isinstance(task, spec.Task) else type(task).__name__
        runner = self._runners.get(name)
        if runner is None:
            runner = self._runners[name] = Task(run_task, name, pure=False)
        return Node(runner, (Opaque((task, keys)), *nodes), None, tuple(dict.fromkeys(nodes)), FLAT)


_REFERRING = spec.GraphNode, spec.TaskRef


class Caller:
    """A function of a Dask graph, as nodes call it."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if context.in_worker:
            _settle_in()
        return _boxed(self.func(*[a.value if type(a) is Opaque else a for a in args], **kwargs))


def run_task(task: Opaque, /, *values: Any) -> Any:
    """Run a Dask task with the values of the keys that it needs."""
    if context.in_worker:
        _settle_in()
    call, keys = task.value
    return _boxed(call(dict(zip(keys, map(content, values), strict=True))))


def _boxed(x: Any) -> Any:
    """Lists and the like pass as they are: nobody looks for nodes in a million records of a bag."""
    kind = type(x)
    if kind in ATOMS or not (kind is Node or kind is Graph or is_container(kind)):  # type: ignore[arg-type]
        return x
    return Opaque(x)


_settled = False


def _settle_in() -> None:
    """In a worker process, what a task computes with Dask runs in that process too: one run is one pool."""
    global _settled
    if not _settled:
        _settled = True
        dask.config.set(scheduler=get)


def _result(x: Any, copies: bool) -> Any:
    """A result as Dask's users know it: an array can be written to, where the task's own could be."""
    x = content(x)
    if not isinstance(x, numpy.ndarray) or x.flags.writeable or 0 in x.strides:
        return x
    mine = x.view()
    try:
        mine.flags.writeable = True
    except ValueError:  # it is in the store, or the task has returned it so
        return x.copy() if copies else x
    return mine
