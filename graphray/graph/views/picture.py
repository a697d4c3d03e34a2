"""Picture: what is to be drawn, whoever draws it. Boxes and edges with their texts, but no coordinates or colours.

Boxes stand in an order in which every edge goes forward.
"""

from __future__ import annotations

import os

from graphray.graph.node import Node, find, short
from graphray.graph.task import Task
from graphray.graph.views.text import clean, enumerate_some, shorten, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from graphray.graph.dataflow import Graph

# Kinds of boxes, each with a shape of its own. SEVERAL stands for nodes of different tasks.
TASK, VALUE, INPUT, FILE, SEVERAL = "task", "value", "input", "file", "several"

# What an output without a name is called in pictures.
UNNAMED = "output"

_SOURCES = frozenset({VALUE, INPUT, FILE})


class Box:
    """One box: a node, or several nodes of one kind.

    Attributes:
        kind: its shape: TASK, VALUE, INPUT, FILE or SEVERAL.
        task: name of the task, which gives the colour.
        title: the first line.
        detail: the second line: a summary of the arguments, possibly empty.
        tip: a longer text, lines separated by newlines.
        count: how many nodes it stands for.
        outputs: names of the outputs among them; a name may come more than once.
        column: place in the order of layers, where a summary has fixed one; else None.
    """

    __slots__ = ("column", "count", "detail", "kind", "outputs", "task", "tip", "title")

    def __init__(
        self,
        kind: str,
        task: str,
        title: str,
        detail: str = "",
        tip: str = "",
        count: int = 1,
        column: int | None = None,
    ) -> None:
        self.kind = kind
        self.task = task
        self.title = title
        self.detail = detail
        self.tip = tip
        self.count = count
        self.outputs: list[str] = []
        self.column = column

    @property
    def marks(self) -> str:
        """The outputs in it, in a line; empty if there are none."""
        return f"→ {enumerate_some(self.outputs, 3)}" if self.outputs else ""

    def lines(self, longest: int) -> list[str]:
        """Its lines of text, for writers that leave the drawing to others: each of at most `longest` characters."""
        lines = [
            times(shorten(self.title, longest), self.count),
            shorten(self.detail, longest),
            shorten(self.marks, longest),
        ]
        return [line for line in lines if line]


class Frame:
    """Columns `first` to `last` stand for `repeats` rounds of the same layers."""

    __slots__ = ("first", "last", "repeats")

    def __init__(self, first: int, last: int, repeats: int) -> None:
        self.first = first
        self.last = last
        self.repeats = repeats

    @property
    def title(self) -> str:
        """What the frame is labelled with."""
        return f"repeated {self.repeats:,} times"


class Picture:
    """Boxes, and how they depend on each other.

    Attributes:
        boxes: in an order in which each comes after what it needs.
        edges: from one box to a later one (by index), with the number of dependencies it stands for.
        loops: dependencies of one round of a frame on an earlier one: they go back, or from a box to itself.
        frames: repetitions, outer ones first.
        nodes: how many nodes are shown in all.
    """

    __slots__ = ("boxes", "edges", "frames", "loops", "nodes")

    def __init__(self, boxes: list[Box], edges: dict[tuple[int, int], int], nodes: int) -> None:
        self.boxes = boxes
        self.edges = edges
        self.nodes = nodes
        self.loops: dict[tuple[int, int], int] = {}
        self.frames: list[Frame] = []

    @property
    def summarised(self) -> bool:
        """Whether some box stands for several nodes."""
        return self.nodes > len(self.boxes)

    def count(self, edge: tuple[int, int]) -> str:
        """How many dependencies an edge stands for; empty where the boxes it joins say it."""
        number = self.edges[edge]
        told = number in (1, self.boxes[edge[0]].count, self.boxes[edge[1]].count)
        return "" if told else f"{number:,}"


def exact(nodes: Sequence[Node], outputs: dict[Node, list[str | None]]) -> Picture:
    """A picture with one box a node, for `nodes` in topological order."""
    index = {node: i for i, node in enumerate(nodes)}
    edges = {(index[d], i): 1 for i, node in enumerate(nodes) for d in node.deps}
    boxes = [box_of(node) for node in nodes]
    for node, names in outputs.items():
        boxes[index[node]].outputs = list(map(name_of, names))
    return Picture(boxes, edges, len(nodes))


def kind_of(node: Node) -> str:
    """VALUE, INPUT or FILE for graphray's own sources, TASK for everything else, whatever it is called."""
    task = node.task
    return task.name if task.name in _SOURCES and task.kind == "inline" else TASK


def box_of(node: Node) -> Box:
    """The box of one node."""
    kind = kind_of(node)
    name = clean(node.task.name)
    label = clean(node.label)
    arguments = label.removeprefix(f"{name}(").removesuffix(")")
    tip = label
    title, detail = name, ""
    if kind == VALUE:
        title = arguments
    elif kind == INPUT:
        title = clean(str(node.args[0]))
        default = arguments.removeprefix(repr(node.args[0])).removeprefix(", ")
        detail = f"= {default}" if len(node.args) > 1 else ""
        tip = f"input {title}" + (f", by default {default}" if detail else "")
    elif kind == FILE:
        path = str(node.args[0])
        title = clean(os.path.basename(path)) or clean(path)
        tip = clean(path)
    else:
        detail = _detail(node)
    return Box(kind, name, title or name, detail, tip)


def _detail(node: Node) -> str:
    """The plain arguments; those that are or contain nodes are seen by their edges."""
    tasks = [clean(a.name) for a in node.args if isinstance(a, Task)]
    if tasks:  # map, reduce, combine, iterate: what matters is what they call
        return ", ".join(tasks)
    shown = [short(a) for a in node.args if not find(a)]
    shown += [f"{name}={short(a)}" for name, a in node.kwargs.items() if not find(a)]
    return clean(", ".join(shown))


def outputs_of(graph: Graph) -> dict[Node, list[str | None]]:
    """The nodes that outputs are made of, each with the names of those outputs (None for an unnamed one)."""
    found: dict[Node, list[str | None]] = {}
    for name, structure in graph.outputs.items():
        for node in find(structure):
            found.setdefault(node, []).append(name)
    return found


def name_of(output: str | None) -> str:
    """What an output is called in pictures."""
    return UNNAMED if output is None else clean(output) or UNNAMED
