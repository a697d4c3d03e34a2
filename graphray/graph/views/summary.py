"""Summary: a large graph by task and layer, instead of a hairball.

The layer of a node is the length of the longest path that leads to it. Nodes of one task in one layer are one box with
a count; layers that repeat (chains, unrolled loops) are folded; and if that is still too much, the rarer tasks of a
layer, and then neighbouring layers, are thrown together, so that the number of boxes has a bound for every graph.
"""

from __future__ import annotations

import math

from graphray.graph.views.folding import fold
from graphray.graph.views.picture import SEVERAL, Box, Frame, Picture, box_of, exact, kind_of, name_of, outputs_of
from graphray.graph.views.text import clean, enumerate_some, plural, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from graphray.graph.dataflow import Graph
    from graphray.graph.node import Node

    # Where nodes that are shown as one box stand, and what they are: (column, key).
    Place = tuple[int, Hashable]

# Neighbouring layers are thrown together in so many bands, if there is no better way.
BANDS = 40

# A node's key within its layer: the kind of box and the task's name.
_REST = (SEVERAL, "")


def picture(graph: Graph, max_nodes: int) -> Picture:
    """What to draw of a graph: every node, or a summary in at most `max_nodes` boxes if there are more nodes than that.

    Raises:
        TypeError: `max_nodes` is not an integer.
        ValueError: `max_nodes` is below 1.
    """
    if type(max_nodes) is not int:
        raise TypeError(f"max_nodes= is a number of boxes, not {max_nodes!r}")
    if max_nodes < 1:
        raise ValueError(f"max_nodes= is a number of boxes, 1 or more, not {max_nodes}")
    nodes = graph.nodes
    outputs = outputs_of(graph)
    return exact(nodes, outputs) if len(nodes) <= max_nodes else _summarise(nodes, outputs, max_nodes)


def _summarise(nodes: Sequence[Node], outputs: dict[Node, list[str | None]], limit: int) -> Picture:
    index = {node: i for i, node in enumerate(nodes)}
    needs = [[index[d] for d in node.deps] for node in nodes]
    layers = _layers(needs)
    keys = _keys(nodes)
    column_of, frames, heights = _columns(layers, keys, limit)
    places: list[Place] = [(column_of[layer], key) for layer, key in zip(layers, keys, strict=True)]
    places, frames, heights = _bounded(places, frames, heights, limit)
    return _draw(nodes, needs, outputs, places, frames, heights)


def _layers(needs: list[list[int]]) -> list[int]:
    layers: list[int] = []
    for deps in needs:
        layers.append(1 + max([layers[d] for d in deps]) if deps else 0)
    return layers


def _keys(nodes: Sequence[Node]) -> list[Hashable]:
    known: dict[int, Hashable] = {}  # by task, which there are far fewer of; the nodes keep their tasks alive
    keys = []
    for node in nodes:
        task = node.task
        key = known.get(id(task))
        if key is None:
            key = known[id(task)] = (kind_of(node), task.name)
        keys.append(key)
    return keys


def _columns(layers: list[int], keys: list[Hashable], limit: int) -> tuple[list[int], list[Frame], list[int]]:
    """Fold layers to columns: the column of each layer, the frames, and how many layers each column stands for."""
    contents: list[dict[Hashable, int]] = [{} for _ in range(max(layers) + 1)]
    for layer, key in zip(layers, keys, strict=True):
        contents[layer][key] = contents[layer].get(key, 0) + 1
    # Layers are alike if they have the same tasks equally often; if that folds too little, if they have the same tasks.
    folded = fold([frozenset(c.items()) for c in contents])
    if sum([len(contents[column[0]]) for column in folded.columns]) > limit:
        folded = fold([frozenset(c) for c in contents])
    column_of = [0] * len(contents)
    for i, column in enumerate(folded.columns):
        for layer in column:
            column_of[layer] = i
    # A lone box that repeats needs no frame: its count says it.
    frames = [
        Frame(first, last, repeats)
        for first, last, repeats in folded.frames
        if last > first or len(contents[folded.columns[first][0]]) > 1
    ]
    return column_of, frames, [len(column) for column in folded.columns]


def _bounded(
    places: list[Place], frames: list[Frame], heights: list[int], limit: int
) -> tuple[list[Place], list[Frame], list[int]]:
    """Throw together what is too much for `limit` boxes: the rarer tasks of a column, or whole neighbouring columns."""
    counts: dict[Place, int] = {}
    for place in places:
        counts[place] = counts.get(place, 0) + 1
    if len(counts) <= limit:
        return places, frames, heights
    columns = len(heights)
    most = limit // columns
    if most < 2:
        width = -(-columns // min(limit, BANDS))
        return [(column // width, _REST) for column, _ in places], [], []
    by_column: dict[int, list[Place]] = {}
    for place in counts:
        by_column.setdefault(place[0], []).append(place)
    moved: dict[Place, Place] = {}
    for column, there in by_column.items():
        if len(there) > most:
            there.sort(key=counts.__getitem__, reverse=True)  # stable: of equals, the first in the graph stay
            moved.update(dict.fromkeys(there[most - 1 :], (column, _REST)))
    return [moved.get(place, place) for place in places], frames, heights


def _draw(
    nodes: Sequence[Node],
    needs: list[list[int]],
    outputs: dict[Node, list[str | None]],
    places: list[Place],
    frames: list[Frame],
    heights: list[int],
) -> Picture:
    members: dict[Place, list[int]] = {}
    for i, place in enumerate(places):
        members.setdefault(place, []).append(i)
    ordered = sorted(members, key=lambda place: place[0])  # stable: within a column, as in the graph
    number = {place: i for i, place in enumerate(ordered)}
    boxes = [_box(place, [nodes[i] for i in members[place]]) for place in ordered]

    box_at = [number[place] for place in places]
    edges: dict[tuple[int, int], int] = {}
    loops: dict[tuple[int, int], int] = {}
    for i, deps in enumerate(needs):
        target = box_at[i]
        for d in deps:
            source = box_at[d]
            kept = edges if places[d][0] < places[i][0] else loops
            kept[source, target] = kept.get((source, target), 0) + 1

    for node, i in zip(nodes, box_at, strict=True):
        if node in outputs:
            boxes[i].outputs += map(name_of, outputs[node])
    rounds = [math.prod([f.repeats for f in frames if f.first <= c <= f.last]) for c in range(len(heights))]
    once = [heights[c] == rounds[c] for c in range(len(heights))]  # columns that stand for one layer of each round
    if heights:
        for (column, _), box in zip(ordered, boxes, strict=True):
            if not once[column]:
                box.detail = _repeated(box.count, heights[column], rounds[column])
    drawn = Picture(boxes, dict(sorted(edges.items())), len(nodes))
    drawn.loops = {
        (u, v): count
        for (u, v), count in sorted(loops.items())
        if u != v or (heights and once[ordered[u][0]])  # else it is within a round, and the box says so
    }
    drawn.frames = frames
    return drawn


def _repeated(count: int, layers: int, rounds: int) -> str:
    """What to say of a box that stands for several layers in each of the rounds of the frames around it."""
    if count % rounds or layers % rounds:
        return ""
    count, layers = count // rounds, layers // rounds
    each = " each time" if rounds > 1 else ""
    if count == layers:
        return f"{count:,} in a row{each}"
    return f"{layers:,} layers of {count // layers:,}{each}" if count % layers == 0 else f"{layers:,} layers{each}"


def _box(place: Place, members: list[Node]) -> Box:
    column, key = place
    box = box_of(members[0])
    box.column = column
    if len(members) == 1:
        return box
    box.count = len(members)
    if key == _REST:
        names = [clean(node.task.name) for node in members]
        tasks = len(set(names))
        if tasks > 1:
            box.kind, box.task, box.title, box.detail = SEVERAL, "", plural(tasks, "task"), ""
            box.tip = f"{plural(len(members), 'node')}\n{enumerate_some(names, 8)}"
            return box
    box.title, box.detail = box.task, ""
    box.tip = f"{times(box.title, box.count)}\nfirst: {box.tip}\nlast: {box_of(members[-1]).tip}"
    return box
