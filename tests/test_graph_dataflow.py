"""Graphs: outputs, inputs, and the operations that make others of them."""

from __future__ import annotations

import copy
import pickle
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphray as gr
from graphray.testing.tasks import add, draw, echo, identity, scale


@dataclass
class Config:
    lr: Any
    layers: Any


def test_outputs_by_name_and_unnamed():
    a, b = identity(1), identity(2)
    assert dict(gr.Graph(a=a, b=b).outputs) == {"a": a, "b": b}
    assert dict(gr.Graph(a).outputs) == {None: a}
    assert gr.Graph([a, {"k": b}]).outputs[None] == [a, {"k": b}]
    assert dict(gr.Graph(gr.Graph(a=a)).outputs) == {"a": a}


@pytest.mark.parametrize(
    "make", [lambda: gr.Graph(), lambda: gr.Graph(identity(1), a=identity(2)), lambda: gr.Graph(1, 2)]
)
def test_wrong_outputs_are_refused(make):
    with pytest.raises(TypeError):
        make()


def test_nodes_come_each_after_what_it_needs_once():
    a = identity(1)
    b, c = scale(a), scale(a)
    d = add(b, c)
    graph = gr.Graph(d=d, c=c, deep=[{"k": d}])
    assert len(graph) == 4
    assert set(graph.nodes) == {a, b, c, d}
    order = {n: i for i, n in enumerate(graph.nodes)}
    assert all(order[need] < order[n] for n in graph.nodes for need in n.deps)
    assert graph.tasks == {identity, scale, add}


def test_a_graph_cannot_be_changed():
    graph = gr.Graph(a=identity(1))
    for name in ("outputs", "inputs", "nodes", "digest", "combinations"):
        with pytest.raises(AttributeError):
            setattr(graph, name, None)
    with pytest.raises(AttributeError):
        graph.anything = 1
    with pytest.raises(TypeError):
        graph.outputs["b"] = identity(2)
    assert isinstance(graph.nodes, tuple)


def test_what_outputs_are_made_of_is_copied():
    items = [identity(1)]
    graph = gr.Graph(items)
    items.append(identity(2))
    assert len(graph) == 1


def test_what_a_graph_gives_out_is_a_copy():
    values = [[1], [2]]
    graph = gr.Graph(a=[gr.input("x", default=[0]), {"k": [1]}])
    graph.outputs["a"][1]["k"].append(9)
    graph.outputs["a"].clear()
    graph.inputs["x"].append(9)
    assert graph.compute() == {"a": [[0], {"k": [1]}]}
    mapped = graph.map(x=values)
    values[0].append(9)
    mapped.combinations[0]["x"].append(9)
    mapped.combinations[0]["x"] = 9
    assert mapped.combinations == ({"x": [1]}, {"x": [2]})


def test_a_graph_is_true_whatever_is_in_it():
    assert gr.Graph([])
    assert len(gr.Graph([])) == 0
    assert gr.Graph([]).compute() == []


def test_repr():
    assert repr(gr.Graph(a=identity(1), b=scale(identity(1)))) == "<Graph a, b: 3 nodes>"
    assert repr(gr.Graph(identity(1))) == "<Graph identity(1): 1 node>"


# ---- inputs


def test_inputs_and_their_defaults():
    graph = gr.Graph(add(gr.input("a"), scale(gr.input("b", default=[1, 2]))))
    assert dict(graph.inputs) == {"a": ..., "b": [1, 2]}
    assert dict(gr.Graph(identity(1)).inputs) == {}


def test_an_input_given_twice_is_one():
    graph = gr.Graph([gr.input("a", default=1), scale(gr.input("a", default=1))])
    assert dict(graph.inputs) == {"a": 1}
    assert graph.bind(a=5).compute() == [5, 10]


@pytest.mark.parametrize(("one", "other"), [(1, 2), (1, 1.0), (1, True), ([1], (1,)), ([1], [1.0]), (..., 1)])
def test_inputs_that_disagree_are_named(one, other):
    def make(default):
        return gr.input("lr") if default is ... else gr.input("lr", default=default)

    with pytest.raises(TypeError, match="'lr'"):
        gr.Graph([make(one), make(other)]).compute(inputs={"lr": 1})


@pytest.mark.parametrize("make", [lambda: [1, {"k": (2,)}], lambda: np.arange(3), lambda: [np.ones(2), float("nan")]])
def test_equal_defaults_are_one(make):
    graph = gr.Graph([gr.input("a", default=make()), identity(gr.input("a", default=make()))])
    assert list(graph.inputs) == ["a"]
    assert repr(graph.compute()) == repr([make(), make()])


def test_defaults_that_cannot_be_hashed_are_compared():
    lock = threading.Lock()
    assert list(gr.Graph([gr.input("a", default=[lock]), gr.input("a", default=[lock])]).inputs) == ["a"]


# ---- bind


def test_bind_substitutes_in_every_place():
    x = gr.input("x")
    graph = gr.Graph(
        bare=x,
        direct=scale(x),
        nested=echo([x, {"k": (x,)}], key=Config(x, [x])),
        fan=gr.combine(sum, gr.map(add, [1, 2], [x, x])),
        unknown=gr.map(scale, gr.call(list, [x])),
        loop=gr.iterate(scale, x, steps=2),
        quoted=gr.call(lambda n: n.label, gr.quote(identity(1))),
    )
    result = graph.bind(x=5).compute()
    assert result == {
        "bare": 5, "direct": 10, "nested": (([5, {"k": (5,)}],), {"key": Config(5, [5])}), "fan": 13, "unknown": (10,),
        "loop": 20, "quoted": "identity(1)",
    }  # fmt: skip
    assert dict(graph.bind(x=5).inputs) == {}


def test_bind_keeps_what_it_does_not_reach():
    shared = scale(identity(1))
    x, y = gr.input("x"), gr.input("y")
    graph = gr.Graph(a=add(shared, x), b=add(shared, y), c=shared)
    bound = graph.bind(x=1)
    assert bound.outputs["b"] is graph.outputs["b"]
    assert bound.outputs["c"] is shared
    assert bound.outputs["a"].deps[0] is shared
    assert set(graph.nodes) & set(bound.nodes) == {shared, shared.deps[0], y, graph.outputs["b"]}


def test_bind_step_by_step_is_bind_at_once():
    graph = gr.Graph(add(gr.input("x"), gr.input("y")))
    assert graph.bind(x=1).bind(y=2) == graph.bind(y=2, x=1)


def test_bind_to_nodes_structures_and_other_inputs():
    graph = gr.Graph(identity(gr.input("x")))
    assert graph.bind(x=scale(4)).compute() == 8
    assert graph.bind(x={"k": [scale(4)]}).compute() == {"k": [8]}
    assert dict(graph.bind(x=gr.input("z", default=3)).inputs) == {"z": 3}
    assert graph.bind(x=None).compute() is None


def test_bind_refuses_unknown_names():
    with pytest.raises(TypeError, match=r"'lr'.*there are x"):
        gr.Graph(identity(gr.input("x"))).bind(lr=1)
    with pytest.raises(TypeError, match="no inputs"):
        gr.Graph(identity(1)).bind(lr=1)


def test_names_of_parameters_are_names_of_inputs_too():
    names = ["self", "name", "executor", "inputs", "axes"]
    graph = gr.Graph([gr.input(n) for n in names])
    assert graph.bind(**{n: i for i, n in enumerate(names)}).compute() == list(range(5))
    assert graph.map(**{n: [i] for i, n in enumerate(names)}).compute() == ([0, 1, 2, 3, 4],)
    assert gr.Graph(self=identity(1), unnamed=identity(2)).compute() == {"self": 1, "unnamed": 2}


# ---- map over axes


def test_map_makes_the_product_first_axis_slowest():
    graph = gr.Graph(sum=add(gr.input("x"), gr.input("y")), x=gr.input("x")).map(x=[10, 20], y=(1, 2, 3))
    assert graph.compute() == {"sum": (11, 12, 13, 21, 22, 23), "x": (10, 10, 10, 20, 20, 20)}
    assert graph.combinations == tuple({"x": x, "y": y} for x in (10, 20) for y in (1, 2, 3))
    assert gr.Graph(identity(1)).combinations == ()


def test_map_shares_what_no_axis_reaches():
    shared = scale(identity(1))
    graph = gr.Graph(add(shared, gr.input("x"))).map(x=range(10))
    assert len(graph) == 2 + 10 + 10
    assert all(n.deps[0] is shared for n in graph.outputs[None])


def test_map_then_bind_and_bind_then_map():
    graph = gr.Graph(add(gr.input("x"), gr.input("y")))
    assert graph.map(x=[1, 2]).bind(y=10).compute() == (11, 12)
    assert graph.bind(y=10).map(x=[1, 2]).compute() == (11, 12)
    assert graph.map(x=[1, 2]).bind(y=10).combinations == ({"x": 1}, {"x": 2})


def test_map_over_seeds_gives_different_draws():
    graph = gr.Graph(draw(gr.input("trial"))).map(trial=range(20))
    assert len(set(graph.compute())) == 20


@pytest.mark.parametrize(
    ("axes", "error"),
    [
        ({}, TypeError),
        ({"z": [1]}, TypeError),
        ({"x": 5}, TypeError),
        ({"x": "abc"}, TypeError),
        ({"x": []}, ValueError),
    ],
)
def test_wrong_axes_are_refused(axes, error):
    with pytest.raises(error):
        gr.Graph(identity(gr.input("x"))).map(**axes)


# ---- subgraph and union


def test_subgraph_has_only_what_it_needs():
    a, b = scale(identity(1)), scale(identity(2))
    graph = gr.Graph(a=a, b=b, c=add(a, b))
    assert graph.subgraph("a").compute() == {"a": 2}
    assert len(graph.subgraph("a")) == 2
    assert graph.subgraph("b", "a").outputs["a"] is a
    assert list(graph.subgraph("b", "a").outputs) == ["b", "a"]
    with pytest.raises(KeyError, match=r"'d'.*a, b, c"):
        graph.subgraph("a", "d")
    with pytest.raises(TypeError, match=r"needs the names.*a, b, c"):
        graph.subgraph()


def test_union():
    a, b = identity(1), identity(2)
    assert dict((gr.Graph(a=a) | gr.Graph(b=b)).outputs) == {"a": a, "b": b}
    assert dict((gr.Graph(a=a) | gr.Graph(a=a, b=b)).outputs) == {"a": a, "b": b}
    with pytest.raises(ValueError, match="'a'"):
        gr.Graph(a=a) | gr.Graph(a=b)
    with pytest.raises(TypeError):
        gr.Graph(a=a) | {"b": b}
    graph = gr.Graph(a=[a, {"k": b}, np.ones(2)], b=b)
    assert list((graph | graph.subgraph("a")).outputs) == ["a", "b"]
    with pytest.raises(ValueError, match="'a'"):
        graph | gr.Graph(a=[a, {"k": identity(2)}, np.ones(2)])


def test_a_union_with_an_unnamed_output_is_refused():
    with pytest.raises((TypeError, ValueError), match="unnamed"):
        gr.Graph(identity(1)) | gr.Graph(b=identity(2))


# ---- equality


def test_graphs_are_equal_by_what_they_compute():
    def make(x):
        return gr.Graph(a=scale(identity(x)), b=[gr.input("x", default=1)])

    assert make(1) == make(1)
    assert hash(make(1)) == hash(make(1))
    assert make(1) != make(2)
    assert make(1) != gr.Graph(a=scale(identity(1)))
    assert len({make(1), make(1), make(2)}) == 2
    assert make(1) != "a graph"


def test_graphs_without_a_digest_are_equal_to_themselves_only():
    impure = gr.task(pure=False)(lambda: 1)
    one, other = gr.Graph(a=impure()), gr.Graph(a=impure())
    assert one == one
    assert one != other
    assert len({one, other, one}) == 2
    with pytest.raises(TypeError, match="impure"):
        one.digest  # noqa: B018


def test_the_name_of_an_output_counts():
    n = identity(1)
    assert gr.Graph(a=n) != gr.Graph(b=n)
    assert gr.Graph(n) != gr.Graph([n])


# ---- pickling


def test_a_chain_of_50_000_survives_pickling():
    node = gr.value(0)
    for _ in range(50_000):
        node = add(node, 1)
    graph = pickle.loads(pickle.dumps(gr.Graph(out=node)))
    assert len(graph) == 50_001
    assert graph.compute() == {"out": 50_000}


def test_pickling_keeps_sharing_order_names_and_combinations():
    shared = scale(identity(1))
    graph = gr.Graph(b=[shared, {"k": shared}], a=add(shared, gr.input("x", default=2))).map(x=[1, 2])
    again = pickle.loads(pickle.dumps(graph))
    assert list(again.outputs) == ["b", "a"]
    assert again.outputs["b"][0][0] is again.outputs["b"][1][1]["k"]
    assert again.combinations == graph.combinations
    assert len(again) == len(graph)
    assert again == graph
    assert again.compute() == graph.compute()


def test_pickling_keeps_quotes_seeds_and_files(tmp_path):
    (tmp_path / "f").write_text("x")
    graph = gr.Graph(
        draws=gr.map(draw, [0, 0]),
        quote=gr.quote(scale(3)),
        graph=gr.quote(gr.Graph(a=scale(4))),
        file=gr.file(tmp_path / "f"),
    )
    again = pickle.loads(pickle.dumps(graph))
    before, after = graph.compute(), again.compute()
    assert before["draws"] == after["draws"]
    assert before["file"] == after["file"]
    assert after["quote"].compute() == 6
    assert after["graph"].compute() == {"a": 8}


# ---- large graphs


def test_operations_on_a_large_graph_take_no_time():
    """A hundred thousand nodes: none of these is more than linear."""
    x = gr.input("x")
    leaves = gr.map(scale, range(50_000))
    graph = gr.Graph(out=gr.combine(sum, [add(n, x) for n in leaves[:100]] + list(leaves[100:])))
    began = time.perf_counter()
    assert len(graph) > 50_000
    assert len(graph.bind(x=1)) == len(graph)
    assert dict(graph.inputs) == {"x": ...}
    graph.subgraph("out")
    graph.map(x=[1, 2, 3])
    assert time.perf_counter() - began < 5.0


def test_a_task_is_no_output():
    with pytest.raises(TypeError, match="a is the task scale, not one of its nodes: call it"):
        gr.Graph(a=scale)
    with pytest.raises(TypeError, match="call it"):
        gr.Graph(scale)


def test_a_graph_is_not_joined_with_a_node():
    with pytest.raises(TypeError, match="a graph is joined with a graph"):
        gr.Graph(a=scale(1)) | scale(2)


def test_a_copy_is_the_thing_itself():
    node = scale(1)
    graph = gr.Graph(a=node)
    for x in (node, graph):
        assert copy.copy(x) is x
        assert copy.deepcopy([x])[0] is x


@pytest.mark.parametrize("fan_in", [gr.reduce, gr.combine])
def test_a_fan_in_needs_an_iterable(fan_in):
    with pytest.raises(TypeError, match="int is none"):
        fan_in(max, 3)
