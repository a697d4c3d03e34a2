"""Node: one call of a pure function, not yet made.

A node refers only to nodes that exist already, so graphs are acyclic by construction. Making a node and reading one are
the hot paths of the library: the slots are plain, and whatever can be derived later (label, digest) is.
"""

from __future__ import annotations

from graphray.graph.containers import ATOMS, rewrite, snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, NoReturn

    from graphray.graph.task import Task

# How a node's arguments become values (Node._form).
CONSTANT = 0  # atoms only: passed as they are
FLAT = 1  # atoms and nodes side by side: each node is looked up
NESTED = 2  # anything else: walked


class Node:
    """A lazy value: the result of calling `task` with `args` and `kwargs`, which may contain other nodes.

    Nodes are immutable; `==` and `hash` are identity, so nodes live in sets and dicts (`gr.eq(a, b)` is the lazy
    comparison). Operators make nodes: arithmetic, `n[0]`, `n["k"]`, `< <= > >=`; `gr.getattr(n, "name")` reads an
    attribute. Truth value, iteration and length are refused with `TypeError`: the value is not known yet.
    """

    # _index (position within a map or an iteration, for seeds) and _digest are set on few nodes only.
    __slots__ = ("__weakref__", "_args", "_deps", "_digest", "_form", "_index", "_kwargs", "_task")

    if TYPE_CHECKING:
        _index: int
        _digest: tuple[int, Any, tuple[Any, ...]]

        # The operators, which graphray.graph.operators puts here.
        # fmt: off
        def __add__(self, other: Any) -> Node: ...
        def __radd__(self, other: Any) -> Node: ...
        def __sub__(self, other: Any) -> Node: ...
        def __rsub__(self, other: Any) -> Node: ...
        def __mul__(self, other: Any) -> Node: ...
        def __rmul__(self, other: Any) -> Node: ...
        def __truediv__(self, other: Any) -> Node: ...
        def __rtruediv__(self, other: Any) -> Node: ...
        def __floordiv__(self, other: Any) -> Node: ...
        def __rfloordiv__(self, other: Any) -> Node: ...
        def __mod__(self, other: Any) -> Node: ...
        def __rmod__(self, other: Any) -> Node: ...
        def __pow__(self, other: Any) -> Node: ...
        def __rpow__(self, other: Any) -> Node: ...
        def __matmul__(self, other: Any) -> Node: ...
        def __rmatmul__(self, other: Any) -> Node: ...
        def __and__(self, other: Any) -> Node: ...
        def __rand__(self, other: Any) -> Node: ...
        def __or__(self, other: Any) -> Node: ...
        def __ror__(self, other: Any) -> Node: ...
        def __xor__(self, other: Any) -> Node: ...
        def __rxor__(self, other: Any) -> Node: ...
        def __lshift__(self, other: Any) -> Node: ...
        def __rlshift__(self, other: Any) -> Node: ...
        def __rshift__(self, other: Any) -> Node: ...
        def __rrshift__(self, other: Any) -> Node: ...
        def __lt__(self, other: Any) -> Node: ...
        def __le__(self, other: Any) -> Node: ...
        def __gt__(self, other: Any) -> Node: ...
        def __ge__(self, other: Any) -> Node: ...
        def __getitem__(self, other: Any) -> Node: ...
        def __neg__(self) -> Node: ...
        def __pos__(self) -> Node: ...
        def __abs__(self) -> Node: ...
        def __invert__(self) -> Node: ...
        # fmt: on

    __array_ufunc__ = None  # numpy defers to our operators, instead of making an object array of nodes

    def __init__(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any] | None, deps: tuple[Node, ...], form: int
    ) -> None:
        self._task = task
        self._args = args
        self._kwargs = kwargs
        self._deps = deps
        self._form = form

    # ---- what it is

    @property
    def task(self) -> Task:
        """The task this node calls."""
        return self._task

    @property
    def args(self) -> tuple[Any, ...]:
        """Positional arguments, nodes included. Lists, dicts and the like are copies: a node does not change."""
        return snapshot(self._args) if self._form == NESTED else self._args

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Keyword arguments, nodes included; copies, as in `args`."""
        from types import MappingProxyType

        return MappingProxyType(snapshot(self._kwargs or {}))

    @property
    def deps(self) -> tuple[Node, ...]:
        """The distinct nodes this one needs, in order of first appearance."""
        return self._deps

    @property
    def label(self) -> str:
        """A short text for people: the task's name and the plain arguments, `count('a.txt', …)`."""
        return _label(self)

    @property
    def digest(self) -> str:
        """Identity as hex text: the code of the function and the digests of its arguments.

        Raises:
            TypeError: the node has none (it is impure or an argument cannot be hashed); the message names which.
        """
        from graphray.graph.digest import digest_of

        return digest_of(self).hex()

    def __repr__(self) -> str:
        return f"<Node {self.label}>"

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: object) -> Node:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from graphray.graph.flat import flatten, restore_one

        return restore_one, (flatten([self]),)

    # ---- running it

    def compute(self, executor: Any = None, **options: Any) -> Any:
        """Compute this node's value: short for `gr.Graph(node).compute(...)`, which lists the options."""
        from graphray.graph.dataflow import Graph

        return Graph(self).compute(executor, **options)

    def visualize(self, path: str | None = None, **options: Any) -> str:
        """Draw the graph that leads to this node; see `Graph.visualize`."""
        from graphray.graph.dataflow import Graph

        return Graph(self).visualize(path, **options)

    def _repr_html_(self) -> str:
        from graphray.graph.dataflow import Graph

        return Graph(self)._repr_html_()

    # ---- what it refuses

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"the truth value of {self!r} is not known yet. Decide inside a task (a task may return another node), "
            "or call .compute() first. For a lazy comparison use gr.eq(a, b)."
        )

    def __iter__(self) -> Iterator[Node]:
        count = self._task.outputs
        if count is None:
            raise TypeError(
                f"{self!r} cannot be iterated: its value is not known yet. Use gr.map(fn, node) to fan out over it, "
                "@gr.task(outputs=n) to unpack n results, or .compute() first."
            )
        return iter([self[i] for i in range(count)])

    def __len__(self) -> int:
        raise TypeError(f"the length of {self!r} is not known yet. Use gr.call(len, node), or .compute() first.")

    def __contains__(self, item: object) -> NoReturn:
        raise TypeError(f"what {self!r} contains is not known yet. Test it inside a task, or call .compute() first.")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # protocols probe for these (copy, numpy, IPython); unset slots end here too
            raise AttributeError(name)
        raise AttributeError(
            f"{self!r} has no attribute {name!r}. To read it from the value once that is known: "
            f"gr.getattr(node, {name!r})"
        )


def make(task: Task, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Node:
    """A node for any arguments: finds the nodes in them and copies lists and dicts (the general, slower way)."""
    if not kwargs:
        # One or two nodes and nothing else: by far the most frequent, and they are what the new node depends on.
        n = len(args)
        if (n == 1 and type(args[0]) is Node) or (
            n == 2 and type(args[0]) is type(args[1]) is Node and args[0] is not args[1]
        ):
            return Node(task, args, None, args, FLAT)
    deps: dict[Node, None] = {}
    form = CONSTANT
    for a in args:
        kind = type(a)
        if kind is Node:
            deps[a] = None
            if form == CONSTANT:
                form = FLAT
        elif kind not in ATOMS:
            form = NESTED
    if kwargs:
        for a in kwargs.values():
            if type(a) not in ATOMS:
                form = NESTED
    if form == NESTED:
        deps, note = _finder()
        args = rewrite(args, note, fresh=True)
        kwargs = rewrite(kwargs, note, fresh=True)
    return Node(task, args, kwargs or None, tuple(deps), form)


def find(structure: Any) -> dict[Node, None]:
    """The distinct nodes in a structure, in order of first appearance."""
    if type(structure) in (list, tuple) and set(map(type, structure)) == {Node}:
        return dict.fromkeys(structure)
    deps, note = _finder()
    rewrite(structure, note)
    return deps


def _finder() -> tuple[dict[Node, None], Callable[[Any], Any]]:
    """An empty collection of nodes, and a function for `rewrite` that adds each it meets and changes none."""
    deps: dict[Node, None] = {}

    def note(x: Any) -> Any:
        if type(x) is Node:
            deps[x] = None
        return x

    return deps, note


def replace(node: Node, new: Mapping[Node, Any]) -> Node:
    """The same call with some of the nodes it needs replaced."""

    def leaf(x: Any) -> Any:
        return new.get(x, x) if type(x) is Node else x

    result = make(node._task, rewrite(node._args, leaf), rewrite(node._kwargs, leaf) if node._kwargs else None)
    index = getattr(node, "_index", None)
    if index is not None:
        result._index = index
    return result


def topological(roots: Any, known: Any = ()) -> list[Node]:
    """All nodes that `roots` need, themselves included, each after what it needs: a depth-first post-order.

    Nodes in `known`, and what only they need, are left out.

    Iterative, so depth is bounded by memory only. Depth-first order is what keeps few results alive at a time.
    """
    order: list[Node] = []
    opened: set[Node] = set()
    stack: list[Any] = list(roots)
    stack.reverse()
    pop, push, place, opening = stack.pop, stack.append, order.append, opened.add
    while stack:
        node = pop()
        if node is None:  # what the next one needs has been placed
            place(pop())
        elif node not in opened and node not in known:
            opening(node)
            deps = node._deps
            if deps:
                push(node)
                push(None)
                stack.extend(deps[::-1])
            else:
                place(node)
    return order


def _label(node: Node) -> str:
    shown = []
    for a in node._args:
        shown.append("…" if type(a) is Node else short(a))
    for k, a in (node._kwargs or {}).items():
        shown.append(f"{k}={'…' if type(a) is Node else short(a)}")
    text = ", ".join(shown[:4]) + (", …" if len(shown) > 4 else "")
    return f"{node._task.name}({text})"


def short(x: Any) -> str:
    """A short text for a value: itself if it is small and plain, else its type and size or shape."""
    kind = type(x)
    if kind in ATOMS:
        text = repr(x) if not isinstance(x, (str, bytes)) or len(x) <= 40 else repr(x[:36]) + "…"
        return text if len(text) <= 44 else text[:40] + "…"
    if kind in (list, tuple, dict, set, frozenset):
        return f"{kind.__name__}[{len(x)}]"
    try:
        shape = getattr(x, "shape", None)
        if isinstance(shape, tuple):
            return f"{getattr(x, 'dtype', kind.__name__)}{list(shape)}"
        return str(getattr(x, "__name__", None) or kind.__name__)
    except Exception:  # properties are the user's code: a label may not fail with them
        return kind.__name__
