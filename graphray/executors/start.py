"""Which executor a run uses, and how it starts."""

from __future__ import annotations

import os

from graphray.executors import context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Any

    from graphray.executors.base import Executor
    from graphray.executors.cache.nodes import NodeCache
    from graphray.executors.run import Run
    from graphray.graph.dataflow import Graph


def start(
    graph: Graph,
    executor: Any,
    *,
    workers: int | None,
    inputs: Mapping[str, Any] | None,
    progress: Any,
    seed: int,
    on_error: str,
    threads_per_task: int | None,
    cache: Any,
    memory: Any,
    capsule: Any,
    audit: bool,
    trace: Any,
) -> Run:
    """Start a run of a graph; see `Graph.run` for the options."""
    from graphray.executors.core import Job
    from graphray.executors.progress import subscribers

    if on_error not in ("raise", "collect"):
        raise ValueError(f'on_error= is "raise" or "collect", not {on_error!r}')
    if type(seed) is not int:
        raise ValueError(f"seed= is an integer, not {seed!r}")
    if threads_per_task is not None and (type(threads_per_task) is not int or threads_per_task < 1):
        raise ValueError(f"threads_per_task= is a number of threads, 1 or more, not {threads_per_task!r}")
    if inputs is not None and not hasattr(inputs, "keys"):
        raise TypeError(f"inputs= is a dict of values by name, not {type(inputs).__name__}")
    if capsule is not None and not isinstance(capsule, (str, os.PathLike)):
        raise TypeError(f"capsule= is a directory, not {capsule!r}")
    if capsule is not None and not os.fspath(capsule):
        raise ValueError('capsule= is a directory, not an empty text; the working directory is "."')
    if capsule is not None and os.path.exists(capsule) and not os.path.isdir(capsule):
        raise ValueError(f"capsule= is a directory, and {os.fspath(capsule)} is a file: name another")
    budget = None
    if memory is not None:
        from graphray.executors.memory import parse_budget

        budget = parse_budget(memory)
    listeners = subscribers(progress)
    graph = bound(graph, inputs or {})
    kept = open_cache(cache, seed, graph)
    if kept is None and any(task.seed for task in graph.tasks):
        from graphray.graph.digest import digest_all

        digest_all(graph.roots)  # seeds derive from digests: take edits of functions into account now, once
    engine, owned = choose(executor, workers, threads_per_task)
    try:
        if threads_per_task is not None:
            engine.check_threads(threads_per_task)
        job = Job(graph.roots, graph.nodes, seed=seed, collect=on_error == "collect")
        job.threads = threads_per_task
        job.looked_through(graph.tasks)
        job.cache = kept
        job.memory = budget
        if capsule is not None:
            from graphray.executors.capsule import Capsules

            job.capsules = Capsules(os.path.abspath(capsule), seed)
        if audit:
            from graphray.executors.audit import Audit

            job.audit = Audit()
        if trace is not None and trace is not False:
            from graphray.executors.trace import Trace

            listeners.append(Trace(trace))
        job.spans = any([getattr(s, "spans", False) for s in listeners])
        return engine.launch(graph, job, listeners, owned)
    except BaseException:
        if owned:
            engine.close(wait=False)
        raise


def open_cache(cache: Any, seed: int, graph: Graph | None = None) -> NodeCache | None:
    """The cache of a run: where `cache=` says, else the default one if a task of its graph asks to be cached.

    Raises:
        TypeError: neither a directory nor a `Cache`.
        OSError, ValueError: the directory cannot be one.
    """
    if cache is None or cache is False:
        if graph is None or not _asks(graph):
            return None
        directory, everything = None, False
    else:
        directory, everything = (None if cache is True else cache), True
    from graphray.executors.cache import Cache
    from graphray.executors.cache.nodes import NodeCache

    if directory is not None and not isinstance(directory, (str, os.PathLike, Cache)):
        raise TypeError(f"cache= is a directory, or True for the default one, not {directory!r}")
    return NodeCache(directory if isinstance(directory, Cache) else Cache(directory), everything, seed)


def _asks(graph: Graph) -> bool:
    """Whether a task asks to be cached: one that nodes call, or the step of an iteration."""
    from graphray.graph.iterate import ITERATE

    if any([task._options["cache"] for task in graph.tasks]):
        return True
    return ITERATE in graph.tasks and any([n._args[0]._options["cache"] for n in graph.nodes if n._task is ITERATE])


def bound(graph: Graph, given: Mapping[str, Any]) -> Graph:
    """A graph with values for its symbolic inputs: those given, else their defaults.

    Raises:
        TypeError: one has neither.
    """
    inputs = graph.inputs
    missing = [name for name, default in inputs.items() if default is ... and name not in given]
    if missing:
        names = ", ".join(missing)
        raise TypeError(
            f"the graph needs a value for its input {names}: compute(inputs={{{missing[0]!r}: …}}) or graph.bind"
        )
    if not inputs and not given:
        return graph
    return graph.bind(**{**inputs, **given})


def choose(executor: Any = None, workers: int | None = None, threads: int | None = None) -> tuple[Executor, bool]:
    """The executor for a run, and whether it is made for this run only.

    Raises:
        ValueError: there is no executor of that name.
        TypeError: neither an executor nor a name.
    """
    from graphray.executors.base import Executor
    from graphray.executors.inprocess import InProcess

    # Inside a task (and in a thread that a task started in a worker, where the variable is not known): one run is one
    # pool.
    if context.current.get() is not None or context.in_worker:
        context.nest()
        return InProcess(), True
    if executor is None and _active is not None:
        executor = _active.executor
    if executor is None:
        return _from_environment(workers, threads), True
    if isinstance(executor, Executor):
        if workers is not None:
            raise ValueError("workers= goes with an executor's name; this executor has its workers already")
        return executor, False
    return make(executor, workers, threads), True


def _from_environment(workers: int | None, threads: int | None) -> Executor:
    spec = os.environ.get("GRAPHRAY_EXECUTOR")
    try:
        return make(spec or "inprocess", workers, threads)
    except ValueError as error:
        if spec:
            raise ValueError(f"the environment variable GRAPHRAY_EXECUTOR is {spec!r}: {error}") from None
        raise


def make(spec: Any, workers: int | None = None, threads: int | None = None) -> Executor:
    """An executor from its name: "inprocess", "loky", "loky:4", "ssh://alice@a,b", "dask://scheduler:8786".

    Raises:
        ValueError: there is no executor of that name, or a number in it makes no sense.
        TypeError: not a text.
    """
    if not isinstance(spec, str):
        raise TypeError(f"an executor is an instance or a name such as 'loky:4', not {type(spec).__name__}")
    scheme, slashes, address = spec.partition("://")
    if slashes and scheme in ("ssh", "dask"):
        return _on_machines(spec, scheme, address, workers, threads)
    name, colon, rest = spec.partition(":")
    if name not in ("inprocess", "loky"):
        raise ValueError(
            f"there is no executor {spec!r}; there are 'inprocess', 'inprocess:THREADS', 'loky', 'loky:WORKERS', "
            "'ssh://HOST,HOST' and 'dask://SCHEDULER:PORT'"
        )
    if colon and workers is not None:
        raise ValueError(f"the executor {spec!r} says its number of workers; workers={workers} says another")
    number = workers if not colon else _number(spec, rest)
    if number is not None and (type(number) is not int or number < 1):
        raise ValueError(f"workers= is a number of workers, 1 or more, not {number!r}")
    if name == "inprocess":
        from graphray.executors.inprocess import InProcess

        return InProcess(number or 1)
    from graphray.executors.loky import Loky

    return Loky(number, threads_per_task=threads)


def _on_machines(spec: str, scheme: str, address: str, workers: int | None, threads: int | None) -> Executor:
    if not address:
        raise ValueError(f"the executor {spec!r} says no {'host' if scheme == 'ssh' else 'address'} after the slashes")
    if scheme == "ssh":
        from graphray.executors.ssh.engine import SSH

        return SSH(address, workers=workers, threads_per_task=threads)
    if workers is not None:
        raise ValueError(f"workers= is not for {spec!r}: the cluster's are used")
    from graphray.executors.dask.engine import Dask

    return Dask(address if "://" in address else f"tcp://{address}")


def _number(spec: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"the executor {spec!r} needs a number of workers, 1 or more, after the colon")
    return int(text)


class use:
    """Make an executor the default: `gr.use("loky")` from here on, or `with gr.use("loky"):` for a block.

    An executor given by name starts its workers with the first run on it, and keeps them. It is closed at the end of
    the block; without a block by the next `gr.use`, which also cancels what still runs there, or at exit. A block ends
    with what was the default before it: if that was given by name and without a block, new workers start.

    Args:
        executor: an executor, its name, or None for the default's default (GRAPHRAY_EXECUTOR, or in-process).
        workers: number of workers, for one given by name.

    Raises:
        ValueError: there is no executor of that name, or `workers` goes with something that is not a name.
        TypeError: neither an executor, nor a name, nor None.
    """

    def __init__(self, executor: Any, workers: int | None = None) -> None:
        from graphray.executors.base import Executor

        if workers is not None and (executor is None or isinstance(executor, Executor)):
            raise ValueError("workers= goes with an executor's name")
        self._name: str | None = None
        self._made: Executor | None = None
        self._workers = workers
        self._inside = False  # its own `with` block
        self.executor: Executor | None = None
        if executor is None or isinstance(executor, Executor):
            self.executor = executor
        else:
            made = make(executor, workers)  # refuses what is not a name
            self._name = executor
            self._keep(made)
        self._before: use | None = None
        self._put_on()

    def _put_on(self) -> None:
        """Become the default, in place of another."""
        global _active
        before = self._before = _active
        if before is not None and not before._inside:
            before._close()
            if before._before is not None and not before._before._inside:
                before._before = before._before._before  # nothing leads back to that one any more
        _active = self

    def _keep(self, made: Executor) -> None:
        import atexit

        self.executor = made
        self._made = made
        atexit.register(made.close)

    def _close(self, wait: bool = True) -> None:
        """Close what was made here, but not from one of its own tasks."""
        made = self._made
        if made is not None and context.current.get() is None:
            import atexit

            atexit.unregister(made.close)
            self._made = None
            made.close(wait=wait)

    def _open_again(self) -> None:
        if self._name is not None and self._made is None:
            self._keep(make(self._name, self._workers))

    def __enter__(self) -> Executor | None:
        if _active is not self:
            self._put_on()
        self._open_again()
        self._inside = True
        return self.executor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _active
        inner = _active
        while inner is not None and inner is not self:  # a plain `gr.use` inside the block ends with it
            if not inner._inside:
                inner._close(wait=kind is None)
            inner = inner._before
        self._inside = False
        if inner is self:
            _active = self._before
            if _active is not None:
                _active._open_again()
        self._close(wait=kind is None)


_active: use | None = None  # what makes the default
