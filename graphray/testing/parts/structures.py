"""Structures: nodes are found in nested containers, which keep their type."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from typing import Any

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part
from graphray.testing.sameness import same
from graphray.testing.tasks import Point, add, echo, identity, scale

Pair = namedtuple("Pair", "left right")


@dataclass
class Record:
    """A dataclass with a default made anew."""

    name: str
    value: Any
    more: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    """A frozen dataclass, whose constructor changes what it is given: a copy must not go through it again."""

    value: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", [self.value])


@dataclass(slots=True)
class Slotted:
    """A dataclass without a `__dict__`."""

    value: Any


class Opaque:
    """No container: what is in it stays as it is."""

    def __init__(self, x: Any) -> None:
        self.x = x


@gr.task
def kinds(x: Any) -> str:
    """The types in a structure."""
    if isinstance(x, (list, tuple)):
        return f"{type(x).__name__}({', '.join(map(kinds.fn, x))})"
    if isinstance(x, dict):
        return f"{type(x).__name__}({', '.join([f'{k}: {kinds.fn(v)}' for k, v in x.items()])})"
    if hasattr(x, "__dataclass_fields__"):
        return f"{type(x).__name__}({', '.join([kinds.fn(getattr(x, n)) for n in x.__dataclass_fields__])})"
    return type(x).__name__


@gr.task
def inside(x: Any) -> str:
    """The type of what an opaque object holds."""
    return type(x.x).__name__


@gr.task
def first_type(x: Any) -> str:
    """The type of the first item."""
    return type(next(iter(x))).__name__


class Structures(Part):
    """Nodes in lists, tuples, dicts, named tuples and dataclasses."""

    def test_nodes_are_found_at_any_depth(self, executor: Executor) -> None:
        """In arguments, by position and by keyword."""
        n = add(1, 2)
        structure = {"list": [n, 1, (n, {"x": [n]})], "tuple": ((n,), n), 3: n}
        expected = {"list": [3, 1, (3, {"x": [3]})], "tuple": ((3,), 3), 3: 3}
        assert same(executor.compute(echo(structure, k=[structure])), ((expected,), {"k": [expected]}))

    def test_every_container_keeps_its_type(self, executor: Executor) -> None:
        """Named tuples and dataclasses come back as what they are."""
        n = add(1, 2)
        structure = [Point(n, 1), Pair((n,), n), Record("r", n, [n]), Slotted(n), (n,), {"a": n}]
        types = "Point(int, int), Pair(tuple(int), int), Record(str, int, list(int)), Slotted(int), tuple(int)"
        assert executor.compute(kinds(structure)) == f"list({types}, dict(a: int))"
        values = [Point(3, 1), Pair((3,), 3), Record("r", 3, [3]), Slotted(3), (3,), {"a": 3}]
        assert same(executor.compute(gr.Graph(structure)), values)
        assert same(executor.compute(identity(structure)), values)

    def test_a_dataclass_is_copied_not_made_anew(self, executor: Executor) -> None:
        """Its constructor is not called a second time."""
        frozen = Frozen(add(1, 2))
        assert executor.compute(gr.getattr(identity(frozen), "value")) == [3]
        assert executor.compute(gr.Graph(frozen)).value == [3]

    def test_constants_in_structures_stay_as_they_are(self, executor: Executor) -> None:
        """Also where there is no node at all."""
        structure = [Point(1, "a"), Record("r", 2.0), {"k": (None, True)}, [[]], ({},)]
        assert same(executor.compute(identity(structure)), structure)

    def test_keys_and_sets_are_not_looked_into(self, executor: Executor) -> None:
        """A node in a set, in a dict's key, or in any other object is passed on as a node."""
        n = add(1, 2)
        nodes = [first_type({n}), first_type({n: 1}), first_type(OrderedDict(a=n).values()), inside(Opaque(n))]
        if not self.capabilities.pickles:
            assert executor.compute(gr.Graph(nodes)) == ["Node"] * 4
        else:
            assert executor.compute(inside(Opaque(n))) == "Node"

    def test_order_of_a_dict_is_kept(self, executor: Executor) -> None:
        """In arguments and in results."""
        assert list(executor.compute(identity({"z": add(1, 1), "a": 2, "m": add(1, 2)}))) == ["z", "a", "m"]

    def test_a_wide_structure(self, executor: Executor) -> None:
        """A list of thousands of nodes beside constants."""
        structure = [[scale(i), i] for i in range(3000)]
        assert executor.compute(gr.call(lambda rows: [a - b for a, b in rows], structure)) == list(range(3000))

    def test_a_list_is_copied_when_a_node_is_made(self, executor: Executor) -> None:
        """Changing the original later does not change the graph."""
        items: list[Any] = [1, [add(1, 1)], {"k": [3]}]
        node = echo(items, items=items)
        output = gr.Graph(items)
        items[1].append(99)
        items[2]["k"].append(99)
        items.append(99)
        expected = [1, [2], {"k": [3]}]
        assert same(executor.compute(node), ((expected,), {"items": expected}))
        assert same(executor.compute(output), expected)
