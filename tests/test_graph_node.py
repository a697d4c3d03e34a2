"""Nodes: what they hold, what they refuse, and that nothing changes them."""

from __future__ import annotations

import copy
import operator
import pickle
import sys
from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphray as gr
from graphray.graph.containers import rewrite
from graphray.testing.tasks import add, divide, echo, identity, scale

Pair = namedtuple("Pair", "left right")


@dataclass
class Box:
    inside: Any


# ---- what a node holds


def test_a_call_makes_a_node_and_runs_nothing():
    node = gr.call(operator.truediv, 1, 0)
    assert type(node) is gr.Node
    assert node.args == (1, 0)
    assert dict(node.kwargs) == {}
    assert node.deps == ()
    assert node.task.fn is operator.truediv


def test_deps_are_distinct_and_in_order_of_first_appearance():
    a, b, c = identity(1), identity(2), identity(3)
    node = echo(b, [a, (b, {"k": c})], a, x=Box(Pair(c, a)))
    assert node.deps == (b, a, c)
    assert [type(d) for d in node.deps] == [gr.Node] * 3


@pytest.mark.parametrize(
    "wrap",
    [
        lambda n: [n],
        lambda n: (n,),
        lambda n: {"k": n},
        lambda n: Pair(n, 1),
        lambda n: Box(n),
        lambda n: [[({"k": Pair(0, Box([n]))},)]],
    ],
)
def test_nodes_are_found_in_containers(wrap):
    n = identity(1)
    assert echo(wrap(n)).deps == (n,)
    assert echo(k=wrap(n)).deps == (n,)
    assert gr.Graph(wrap(n)).nodes == (n,)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda n: {n},
        lambda n: frozenset([n]),
        lambda n: {n: 1},
        lambda n: OrderedDict(k=n),
        lambda n: defaultdict(list, k=n),
        lambda n: type("Sub", (list,), {})([n]),
        lambda n: np.array([n], dtype=object),
        lambda n: type("Plain", (), {"n": n})(),
        lambda n: lambda: n,
    ],
)
def test_nodes_are_not_found_in_anything_else(wrap):
    assert echo(wrap(identity(1))).deps == ()


def test_lists_and_dicts_are_copied_and_other_objects_are_not():
    items, mapping, array = [1, [2]], {"k": [3]}, np.ones(3)
    node = echo(items, mapping, array, k=items)
    items[1].append(9)
    items.append(9)
    mapping["k"].append(9)
    mapping["m"] = 9
    assert node.args[:2] == ([1, [2]], {"k": [3]})
    assert node.kwargs["k"] == [1, [2]]
    assert node.args[2] is array


def test_a_node_cannot_be_changed():
    node = add(identity(1), 2)
    for name in ("task", "args", "kwargs", "deps", "label", "digest"):
        with pytest.raises(AttributeError):
            setattr(node, name, None)
    with pytest.raises(AttributeError):
        node.anything = 1
    with pytest.raises(TypeError):
        node.kwargs["x"] = 1
    with pytest.raises((AttributeError, TypeError)):
        node[0] = 1


def test_what_a_node_gives_out_is_a_copy():
    node = echo([1, {"k": [2]}], Box([3]), k=[4])
    node.args[0].append(9)
    node.args[0][1]["k"].append(9)
    node.args[1].inside.append(9)
    node.kwargs["k"].append(9)
    assert node.args == ([1, {"k": [2]}], Box([3]))
    assert dict(node.kwargs) == {"k": [4]}


@dataclass(frozen=True)
class Frozen:
    inside: object
    more: object = ()


@dataclass(slots=True)
class Slotted:
    inside: object


def test_dataclass_instances_are_copied_with_what_is_in_them():
    for kind in (Box, Frozen, Slotted):
        given = kind([1, kind({"k": [2]})])
        node, inner = echo(given, given), given.inside[1]
        given.inside.append(9)
        inner.inside["k"].append(9)
        assert node.args[0] == kind([1, kind({"k": [2]})])
        assert type(node.args[0]) is kind
    box = Box(1)
    node = echo(box)
    box.inside = 2
    assert node.args[0].inside == 1


def test_what_cannot_be_changed_is_kept():
    array, module = np.ones(3), object()
    frozen = Frozen((1, "a", Frozen(array)), module)
    given = ((1, frozen), frozen)
    assert echo(given, 2).args[0] is given
    assert echo(frozen, {}).args[0] is frozen
    node = echo(Frozen([1], frozen))
    assert node.args[0].more is frozen


def test_what_is_asked_to_be_fresh_is_new_each_time():
    """What an engine needs: a task may do with its argument what it likes."""
    frozen, n = Frozen((1, 2)), identity(1)
    x = ([1, (2, [3])], {"k": {}}, Box(4), frozen, n, (5, 6))
    leaf = lambda y: "value" if y is n else y  # noqa: E731
    one, other = rewrite(x, leaf, fresh=True), rewrite(x, leaf, fresh=True)
    assert one == other == ([1, (2, [3])], {"k": {}}, Box(4), frozen, "value", (5, 6))
    for a, b in ((one[0], x[0]), (one[0][1][1], x[0][1][1]), (one[1], x[1]), (one[1]["k"], x[1]["k"]), (one[2], x[2])):
        assert a is not b
    assert one[3] is frozen
    assert one[5] is x[5]
    assert rewrite(x, lambda y: y) is x, "unless asked for, what is unchanged is shared"


# ---- identity


def test_equality_and_hash_are_identity():
    a, b = identity(1), identity(1)
    assert a == a
    assert a != b
    assert len({a, b, a}) == 2
    assert {a: 1, b: 2}[b] == 2
    assert a in [b, a]
    assert gr.eq(a, b).compute() is True


def test_a_copy_is_the_same_node_or_a_whole_graph_of_its_own():
    node = add(identity(1), 2)
    assert pickle.loads(pickle.dumps(node)).compute() == 3
    assert copy.deepcopy(node).compute() == 3
    again = pickle.loads(pickle.dumps([node, node]))
    assert again[0] is again[1]


# ---- what a node refuses


@pytest.mark.parametrize(
    "ask", [bool, lambda n: not n, lambda n: 1 if n else 2, lambda n: n and 1, lambda n: 1 < n < 3]
)
def test_truth_is_refused_with_advice(ask):
    with pytest.raises(TypeError, match=r"not known yet.*compute\(\)") as raised:
        ask(identity(1))
    assert "gr.eq" in str(raised.value)


def test_iteration_is_refused_with_advice():
    with pytest.raises(TypeError, match=r"not known yet.*gr\.map"):
        list(identity([1]))
    with pytest.raises(TypeError, match="outputs=n"):
        _a, _b = identity((1, 2))
    with pytest.raises(TypeError, match="not known yet"):
        print(*identity([1]))


def test_length_and_membership_are_refused_with_advice():
    with pytest.raises(TypeError, match=r"gr\.call\(len"):
        len(identity([1]))
    with pytest.raises(TypeError, match="inside a task"):
        1 in identity([1])  # noqa: B015


@pytest.mark.parametrize(
    "convert", [int, float, complex, operator.index, round, lambda n: [1, 2][n], lambda n: range(n)]
)
def test_conversions_are_refused(convert):
    with pytest.raises(TypeError):
        convert(identity(1))


def test_attributes_are_refused_with_advice():
    with pytest.raises(AttributeError, match=r"gr\.getattr\(node, 'shape'\)"):
        identity(1).shape  # noqa: B018
    assert not hasattr(identity(1), "__array__")
    assert not hasattr(identity(1), "_repr_png_")


def test_calling_a_node_is_refused():
    with pytest.raises(TypeError, match="not callable"):
        identity(len)([])


# ---- operators


def test_operators_make_nodes():
    n, m = identity(7), identity(2)
    for node in (
        n + m,
        1 + n,
        n - 1,
        n @ m,
        n[0],
        n[m],
        n["k"],
        -n,
        n < 3,
        n > 3,
        n >= m,
        ~n,
        abs(n),
        n**2,
        2**n,
        n << 1,
    ):
        assert type(node) is gr.Node
        assert set(node.deps) <= {n, m}
    assert (n + n).deps == (n,)
    assert n[[1, m]].deps == (n, m)
    assert (n == n) is True
    assert (n != m) is True


def test_arrays_leave_operators_to_nodes():
    n = identity(np.ones(3))
    for node in (np.ones(3) + n, np.float32(2) * n, np.ones(3) @ n, np.ones(3) < n):
        assert type(node) is gr.Node
    with pytest.raises(TypeError):
        np.sin(n)
    with pytest.raises(TypeError):
        np.add.reduce([n, n]) and np.asarray(n, dtype=float)


def test_unpacking_several_outputs():
    node = divide(7, 2)
    quotient, remainder = node
    assert quotient.deps == remainder.deps == (node,)
    assert [n.compute() for n in (quotient, remainder)] == [3, 1]
    with pytest.raises(ValueError, match="unpack"):
        _a, _b, _c = divide(7, 2)


# ---- labels


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (lambda: add(1, "a"), "add(1, 'a')"),
        (lambda: add(identity(1), 2.5), "add(…, 2.5)"),
        (lambda: scale(None, by=identity(1)), "scale(None, by=…)"),
        (lambda: echo(np.ones((2, 3)), [1, 2], {"k": 1}), "echo(float64[2, 3], list[2], dict[1])"),
        (lambda: echo(1, 2, 3, 4, 5, 6), "echo(1, 2, 3, 4, …)"),
        (lambda: gr.call(sorted, len), "sorted(len)"),
        (lambda: gr.call(lambda: 1), "<lambda>()"),
        (lambda: gr.input("lr"), "input('lr')"),
    ],
)
def test_labels_are_for_people(make, label):
    assert make().label == label
    assert label in repr(make())


def test_labels_are_short():
    assert len(echo("x" * 10_000, b"y" * 10_000, 10**2000, ["z" * 10_000]).label) < 250


# ---- size


def test_a_node_takes_little_memory():
    node = scale(3)
    assert sys.getsizeof(node) + sys.getsizeof(node.args) <= 200


def test_a_deep_chain_is_let_go_of_without_recursion():
    node = identity(0)
    for _ in range(200_000):
        node = add(node, 1)
    del node
