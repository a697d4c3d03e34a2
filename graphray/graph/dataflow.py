"""Graph: named outputs, and everything they need."""

from __future__ import annotations

import itertools
import os

from graphray.graph.containers import rewrite, snapshot
from graphray.graph.node import Node, find, replace, topological
from graphray.graph.sources import INPUT, value
from graphray.graph.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    import networkx

    from graphray.executors.explain import Explanation
    from graphray.executors.run import Run


class Graph:
    """An immutable set of named outputs: `Graph(best=node, total=node)`, or `Graph(node)` with one unnamed output.

    An output is a node or a structure (list, tuple, dict, dataclass, at any depth) that contains nodes. Graphs compare
    and hash by digest; by identity where there is none.

    Raises:
        TypeError: no output, several unnamed ones, or inputs of one name that disagree.
    """

    __slots__ = ("__weakref__", "_combinations", "_hash", "_nodes", "_outputs", "_roots", "_tasks")

    def __init__(self, unnamed: Any = ..., /, **outputs: Any) -> None:
        if unnamed is ...:
            if not outputs:
                raise TypeError("a Graph needs outputs: Graph(name=node, …) or Graph(node)")
            self._fill(outputs)
        elif outputs:
            raise TypeError("a Graph has named outputs or one unnamed output, not both")
        elif type(unnamed) is Graph:
            self._fill(unnamed._outputs, unnamed._combinations)
        else:
            self._fill({None: unnamed})

    def _fill(self, outputs: Mapping[Any, Any], combinations: tuple[dict[str, Any], ...] | None = None) -> None:
        for name, x in outputs.items():
            if isinstance(x, Task):
                raise TypeError(f"{name or 'the output'} is the task {x.name}, not one of its nodes: call it")
        self._outputs: dict[Any, Any] = {k: x if type(x) is Node else snapshot(x) for k, x in outputs.items()}
        self._combinations = snapshot(combinations)
        self._nodes: tuple[Node, ...] | None = None
        self._roots: tuple[Node, ...] | None = None
        self._tasks: frozenset[Task] | None = None
        self._hash: int | None = None

    # ---- what it is

    @property
    def outputs(self) -> Mapping[Any, Any]:
        """The outputs by name; the name of an unnamed one is None. Lists, dicts and the like in them are copies."""
        from types import MappingProxyType

        return MappingProxyType(snapshot(self._outputs))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, each after what it needs."""
        if self._nodes is None:
            self._nodes = tuple(topological(self.roots))
        return self._nodes

    @property
    def roots(self) -> tuple[Node, ...]:
        """The distinct nodes that the outputs are made of, in order."""
        if self._roots is None:
            outputs = list(self._outputs.values())
            self._roots = tuple(find(outputs[0] if len(outputs) == 1 else outputs))
        return self._roots

    @property
    def tasks(self) -> frozenset[Task]:
        """The distinct tasks that its nodes call."""
        if self._tasks is None:
            self._tasks = frozenset([n._task for n in self.nodes])
        return self._tasks

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The symbolic inputs by name, with their defaults (`...` where there is none)."""
        inputs: dict[str, Any] = {}
        if INPUT not in self.tasks:
            return inputs
        for node in self.nodes:
            if node._task is INPUT:
                name, default = node._args[0], (node._args[1] if len(node._args) > 1 else ...)
                known = inputs.setdefault(name, default)
                if known is not default and not _alike(known, default):
                    raise TypeError(f"the input {name!r} has two defaults: {known!r} and {default!r}")
        return snapshot(inputs)  # type: ignore[no-any-return]

    @property
    def combinations(self) -> tuple[dict[str, Any], ...]:
        """What `Graph.map` made the product of, in the order of the results; empty for other graphs."""
        return snapshot(self._combinations or ())  # type: ignore[no-any-return]

    @property
    def digest(self) -> str:
        """Identity as hex text.

        Raises:
            TypeError: a node in it has none; the message names it.
        """
        from graphray.graph.digest import digest_of_outputs

        return digest_of_outputs(self._outputs).hex()

    def __len__(self) -> int:
        return len(self.nodes)

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not Graph:
            return NotImplemented
        if hash(self) != hash(other):  # as they were when first asked for: what is equal may not differ in its hash
            return False
        try:
            return self.digest == other.digest
        except TypeError:
            return False

    def __hash__(self) -> int:
        if self._hash is None:  # kept: a hash may not change, even where a function used by the graph is edited later
            try:
                self._hash = hash(self.digest)
            except TypeError:
                self._hash = object.__hash__(self)
        return self._hash

    def __repr__(self) -> str:
        names = ", ".join(str(n) for n in self._outputs if n is not None) or self._first_label()
        return f"<Graph {names}: {len(self):,} node{'s' if len(self) != 1 else ''}>"

    def _first_label(self) -> str:
        x = self._outputs[None]
        return x.label if type(x) is Node else type(x).__name__

    def __copy__(self) -> Graph:
        return self

    def __deepcopy__(self, memo: object) -> Graph:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from graphray.graph.flat import Ref, flatten

        roots = self.roots
        index = {n: i for i, n in enumerate(roots)}
        outputs = {k: rewrite(x, lambda y: Ref(index[y]) if type(y) is Node else y) for k, x in self._outputs.items()}
        return _restore, (flatten(list(roots)), outputs, self._combinations)

    # ---- making others from it

    def bind(self, /, **inputs: Any) -> Graph:
        """The graph with some inputs given values (or nodes). Nodes that no given input reaches are the same nodes.

        Raises:
            TypeError: there is no input of that name.
        """
        self._known(inputs)
        return self._with(_replacements(self._reached(inputs), inputs))

    def map(self, /, **axes: Iterable[Any]) -> Graph:
        """Each output becomes the tuple of its values over the product of the axes, the first axis slowest.

        `graph.map(lr=[1e-3, 1e-4], seed=range(3))` has six values an output; `.combinations` lists what they are. Nodes
        that no axis reaches are computed once for all.

        Raises:
            TypeError: no axis, an unknown input, or an axis that is no iterable.
            ValueError: an axis without values.
        """
        if not axes:
            raise TypeError("Graph.map needs at least one axis: graph.map(lr=[…])")
        self._known(axes)
        columns = {}
        for name, values in axes.items():
            if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
                raise TypeError(f"the axis {name!r} is not a list of values: {values!r}")
            columns[name] = list(values)
            if not columns[name]:
                raise ValueError(f"the axis {name!r} has no values")
        combinations = tuple([dict(zip(columns, row, strict=True)) for row in itertools.product(*columns.values())])
        reached = self._reached(axes)
        graphs = [self._with(_replacements(reached, c)) for c in combinations]
        outputs = {name: tuple([g._outputs[name] for g in graphs]) for name in self._outputs}
        return _graph(outputs, combinations)

    def subgraph(self, *names: str) -> Graph:
        """The graph of some of the outputs only.

        Raises:
            TypeError: no name.
            KeyError: there is no output of that name; the message lists those there are.
        """
        if not names:
            raise TypeError(f"subgraph needs the names of outputs; there are {', '.join(map(str, self._outputs))}")
        for name in names:
            if name not in self._outputs:
                raise KeyError(f"no output {name!r}; there are {', '.join(map(str, self._outputs))}")
        return _graph({name: self._outputs[name] for name in names})

    def __or__(self, other: object) -> Graph:
        if type(other) is Node:  # whose own `|` would take it for a value
            raise TypeError(f"a graph is joined with a graph: graph | gr.Graph(name=node), not with {other!r}")
        if type(other) is not Graph:
            return NotImplemented
        if (None in self._outputs) != (None in other._outputs):
            raise ValueError("a graph with an unnamed output cannot be joined with another: name it, Graph(name=node)")
        for name in self._outputs.keys() & other._outputs.keys():
            if not _same(self._outputs[name], other._outputs[name]):
                raise ValueError(f"both graphs have an output {name!r}, and they are different nodes")
        return _graph({**self._outputs, **other._outputs})

    def _known(self, names: Iterable[str]) -> None:
        inputs = self.inputs
        for name in names:
            if name not in inputs:
                there = f"; there are {', '.join(inputs)}" if inputs else "; it has no inputs"
                raise TypeError(f"the graph has no input {name!r}{there}")

    def _reached(self, names: Iterable[str]) -> list[Node]:
        """The nodes that change when those inputs do, each after what it needs."""
        names = set(names)
        reached: dict[Node, None] = {}
        for node in self.nodes:
            if node._task is INPUT:
                if node._args[0] in names:
                    reached[node] = None
            elif any(d in reached for d in node._deps):
                reached[node] = None
        return list(reached)

    def _with(self, new: dict[Node, Any]) -> Graph:
        if not new:
            return self
        return _graph({k: _substitute(x, new) for k, x in self._outputs.items()}, self._combinations)

    # ---- running it

    def run(
        self,
        executor: Any = None,
        *,
        workers: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        cache: Any = None,
        progress: Any = None,
        seed: int = 0,
        on_error: str = "raise",
        memory: Any = None,
        trace: Any = None,
        capsule: Any = None,
        audit: bool = False,
        threads_per_task: int | None = None,
    ) -> Run:
        """Start computing, and give a handle: `.result()`, `.cancel()`, `.summary()`, `.events`.

        Args:
            executor: an executor, or its name ("loky", "loky:4", "ssh://a,b"); by default what `gr.use` or the variable
                GRAPHRAY_EXECUTOR says, else in-process.
            workers: number of workers, for an executor given by name.
            inputs: values of symbolic inputs.
            progress: True for a progress display on stderr, a function called with each event, or a list of these.
            seed: the root seed, from which tasks with `seed=True` derive theirs.
            on_error: "raise" ends the run at the first failing task and raises its exception; "collect" goes on, and
                puts a `gr.Failure` in the place of each value that could not be had.
            threads_per_task: threads of BLAS, OpenMP and XLA within one task (1 on pools, all cores in-process). An
                executor of processes that exists has to have been made with the same number; in-process it needs the
                extra `threads`, and does not reach XLA.
            cache: a directory in which results are kept, and from which those are taken that were computed before; True
                for the default one. Without it, tasks with `cache=True` are kept in the default one, and no others.
            memory: how much memory results may fill, above which some are moved to disk: "4GB", a number of bytes, or a
                share of the machine (0.25, "25%"); by default half of it. On engines of processes.
            capsule: a directory for failure capsules: files with a failing call and its inputs, for `graphray replay`.
            audit: make some of the calls twice, and fail where a task changes its arguments or gives something else.
            trace: a file for what ran when, to be opened in https://ui.perfetto.dev; it is there at the end of the run.

        Raises:
            TypeError: an input without value, or one that is not there.
            ValueError: an option or executor that does not exist.
            OSError: the trace or the cache cannot be written.
        """
        from graphray.executors.start import start

        return start(
            self, executor, workers=workers, inputs=inputs, cache=cache, progress=progress, seed=seed,
            on_error=on_error, memory=memory, trace=trace, capsule=capsule, audit=audit,
            threads_per_task=threads_per_task,
        )  # fmt: skip

    def compute(self, executor: Any = None, **options: Any) -> Any:
        """Compute the outputs: a dict by name, or the bare value of an unnamed output. `run(…).result()`; see `run`."""
        return self.run(executor, **options).result()

    # ---- looking at it

    def explain(self, cache: Any = None, *, inputs: Mapping[str, Any] | None = None, seed: int = 0) -> Explanation:
        """What a run would do: node by node whether it is cached or will run, why, and how long that takes.

        Nothing runs, and no directory is made. What tasks return as nodes is not known before.

        Args:
            cache: as in `run`: the directory of the cache, or True for the default one.
            inputs: values of symbolic inputs, as in `run`.
            seed: the root seed, as in `run`.

        Returns:
            A value that prints as a table; `.rows` has a row per node, `.to_dict()` all of it as plain data.

        Raises:
            TypeError: an input without value, or one that is not there.
            ValueError: the seed is no integer, or the directory is no cache.
            PermissionError: others may write to the cache.
        """
        from graphray.executors.explain import explain

        return explain(self, cache, inputs, seed)

    def to_networkx(self) -> networkx.DiGraph:
        """The graph as a frozen `networkx.DiGraph`, keyed by node."""
        from graphray.graph.views import to_networkx

        return to_networkx(self)

    def visualize(self, path: str | os.PathLike[str] | None = None, **options: Any) -> str:
        """Draw the graph to a file, by suffix: .svg, .html, .mmd (Mermaid), .dot. Without a path, give the SVG text."""
        from graphray.graph.views import visualize

        return visualize(self, path, **options)

    def _repr_html_(self) -> str:
        from graphray.graph.views import to_html

        return to_html(self)


def compute(*nodes: Any, executor: Any = None, **options: Any) -> Any:
    """Compute several nodes in one run: a tuple of their values; for a single one, its bare value.

    Options are those of `Graph.run`.
    """
    if len(nodes) == 1:
        return Graph(nodes[0]).compute(executor, **options)
    return _graph({None: nodes}).compute(executor, **options)


def _graph(outputs: Mapping[Any, Any], combinations: tuple[dict[str, Any], ...] | None = None) -> Graph:
    graph = Graph.__new__(Graph)
    graph._fill(outputs, combinations)
    return graph


def _restore(flat: Any, outputs: dict[Any, Any], combinations: tuple[dict[str, Any], ...] | None) -> Graph:
    from graphray.graph.flat import Ref, restore

    nodes = restore(flat)
    leaf = lambda x: nodes[x.index] if type(x) is Ref else x  # noqa: E731
    return _graph({k: rewrite(x, leaf) for k, x in outputs.items()}, combinations)


def _replacements(reached: list[Node], inputs: Mapping[str, Any]) -> dict[Node, Any]:
    given = {name: x if type(x) is Node else value(x) for name, x in inputs.items()}
    new: dict[Node, Any] = {}
    for node in reached:
        new[node] = given[node._args[0]] if node._task is INPUT else replace(node, new)
    return new


def _substitute(x: Any, new: Mapping[Node, Any]) -> Any:
    if type(x) is Node:
        return new.get(x, x)
    return rewrite(x, lambda y: new.get(y, y) if type(y) is Node else y)


def _alike(a: Any, b: Any) -> bool:
    from graphray.graph.hashing import Unhashable, hash_value

    try:
        return hash_value(a) == hash_value(b)
    except Unhashable:
        return type(a) is type(b) and bool(a == b)


def _same(a: Any, b: Any) -> bool:
    """Whether two outputs are one node, or structures of the same nodes."""
    if type(a) is Node or type(b) is Node:
        return a is b
    leaf = lambda x: ("node", id(x)) if type(x) is Node else x  # noqa: E731
    return _alike(rewrite(a, leaf), rewrite(b, leaf))
