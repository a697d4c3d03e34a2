"""The laws, on random graphs: (1) the same bits on every engine, those of plain Python; (2) nothing changes a graph."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from programs import Bad, Frozen, Nodes, Op, Point, Program, Record, Ref, Values, enough, interpret, mix

import graphray as gr
from graphray.testing import same

FEW = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

atoms = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=True), st.text(max_size=5), st.binary(max_size=5)
)
arrays = st.builds(lambda n, kind: np.arange(n).astype(kind), st.integers(0, 700), st.sampled_from(["f8", "i4", "?"]))


def structures(leaves):
    """Leaves nested in every kind of container."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.lists(inner, max_size=3).map(tuple),
            st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=3),
            st.builds(Point, inner, inner),
            st.builds(Record, st.text(max_size=3), inner),
            st.builds(Frozen, inner),
        ),
        max_leaves=5,
    )


refs = st.integers(0, 9).map(Ref)
constants = structures(atoms | arrays)
arguments = refs | structures(refs | atoms | arrays)
several = st.lists(refs, min_size=1, max_size=8)
arity = st.integers(2, 4)

OPERATIONS = [
    st.builds(lambda args, kwargs: Op("mix", *args, **kwargs), st.lists(arguments, max_size=3), st.dictionaries(
        st.sampled_from("abc"), arguments, max_size=2)),
    st.builds(lambda args: Op("slowly", *args), st.lists(refs, max_size=3)),
    st.builds(Op, st.just("array"), refs, st.sampled_from([0, 1, 10, 2000])),
    st.builds(Op, st.sampled_from(["mean", "box", "fail_sometimes", "half"]), arguments),
    st.builds(Op, st.just("constant"), constants),
    st.builds(Op, st.just("map"), st.lists(arguments, max_size=6)),
    st.builds(Op, st.just("map items"), refs),
    st.builds(Op, st.sampled_from(["reduce", "combine"]), several, arity),
    st.builds(Op, st.just("reduce items"), refs, arity),
    st.builds(Op, st.just("iterate"), st.integers(0, 2), refs, st.sampled_from([0, 1, 3, 70]), st.sampled_from(
        [None, enough])),
    st.builds(Op, st.just("add"), refs, refs),
]  # fmt: skip


def programs(depth=2, size=12):
    """Programs, with programs inside them down to a depth."""
    operations = st.one_of(OPERATIONS)
    if depth:
        inner = programs(depth - 1, 5)
        operations |= st.builds(Op, st.sampled_from(["unfold", "unfold as graph"]), inner, st.lists(refs, max_size=3))
    outputs = structures(refs).map(lambda output: [output, Ref(0)])
    return st.builds(Program, st.lists(operations, min_size=1, max_size=size), outputs)


@pytest.fixture(scope="module")
def engines(loky):
    """One thread in order, three threads, two processes."""
    with gr.executors.InProcess() as one, gr.executors.InProcess(threads=3) as three:
        three.compute(gr.call(int))
        yield [one, three, loky]


def matches(got, expected):
    """Whether a result is what plain Python gave, failures in the place of what could not be had."""
    if type(expected) is Bad:
        return (
            type(got) is gr.Failure
            and expected.text in str(got.error)
            and (got.skipped_because is None) == expected.itself
        )
    if isinstance(expected, dict):
        return type(got) is dict and list(got) == list(expected) and all(map(matches, got.values(), expected.values()))
    if isinstance(expected, (list, tuple)):
        return type(got) is type(expected) and len(got) == len(expected) and all(map(matches, got, expected))
    if isinstance(expected, (Record, Frozen)):
        return type(got) is type(expected) and matches(vars(got), vars(expected))
    return same(got, expected)


# ---- law 1


@FEW
@given(programs())
def test_every_engine_gives_what_plain_python_gives(engines, program):
    graph, expected = gr.Graph(interpret(program, (), Nodes)), interpret(program, (), Values)
    for engine in engines:
        result = engine.compute(graph, on_error="collect")
        assert matches(result, expected), (engine.name, result, expected)


@FEW
@given(programs())
def test_a_failure_is_raised_if_there_is_one(engines, program):
    Values.raised.clear()
    graph, expected = gr.Graph(interpret(program, (), Nodes)), interpret(program, (), Values)
    bad = texts(graph.compute("inprocess", on_error="collect"))
    for engine in engines:
        if not bad:
            assert matches(engine.compute(graph), expected)
            continue
        with pytest.raises((ValueError, TypeError)) as raised:
            engine.compute(graph)
        text = str(raised.value)
        assert any(known in text for known in Values.raised), (text, Values.raised)


def texts(result):
    """What the errors in a result say."""
    if type(result) is gr.Failure:
        return {str(result.error)}
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (Record, Frozen)):
        result = list(vars(result).values())
    return set().union(*map(texts, result)) if isinstance(result, (list, tuple)) else set()


@FEW
@given(st.lists(programs(size=4), min_size=1, max_size=3), st.integers(0, 2**63 - 1))
def test_seeded_programs_draw_the_same_everywhere(engines, drawn, seed):
    graphs = [gr.Graph(draw_from(interpret(p, (), Nodes), p)) for p in drawn]
    for graph in graphs:
        results = [engine.compute(graph, seed=seed, on_error="collect") for engine in engines]
        assert all(same(texts(r) or r, texts(results[0]) or results[0]) for r in results)


# ---- law 3, as far as it goes without faults: see test_faults.py for those


@FEW
@given(programs(), st.booleans())
def test_a_cache_changes_no_result(engines, tmp_path_factory, program, seeded):
    """Neither while it is filled, nor when it is read, by the same engine or by another."""
    output = interpret(program, (), Nodes)
    graph = gr.Graph(draw_from(output, program) if seeded else output)
    expected = graph.compute("inprocess", seed=5, on_error="collect")
    bad = texts(expected)
    for engine in engines:
        cache = tmp_path_factory.mktemp("cache")
        for reader in (engine, engine, engines[(engines.index(engine) + 1) % len(engines)]):
            result = reader.compute(graph, seed=5, on_error="collect", cache=cache)
            assert texts(result) == bad
            assert bad or same(result, expected), (engine.name, reader.name, result, expected)


@gr.task(seed=True)
def roll(x, *, seed):
    return seed


@gr.task
def roll_again(x):
    return [roll(0), gr.map(roll, [1, 1, 1]), gr.combine(sum, gr.map(roll, range(20)))]


def draw_from(output, program):
    """Draws that stand on a program's output, inside and outside of dynamic nodes."""
    return [roll(output), gr.map(roll, [output, output]), roll_again(output), gr.iterate(roll, roll(0), steps=3)]


# ---- law 2


def portrait(graph):
    """All that there is to see of a graph and of its nodes; lists, dicts and records are given out as copies."""

    def look(x):
        if isinstance(x, np.ndarray):
            return id(x), x.tobytes(), x.flags.writeable
        if isinstance(x, gr.Node):
            return "node", id(x)
        if isinstance(x, dict):
            return dict, [(k, look(v)) for k, v in x.items()]
        if isinstance(x, (list, tuple)):
            return type(x), [look(y) for y in x]
        return (type(x), look(vars(x))) if isinstance(x, (Record, Frozen)) else (type(x), repr(x))

    nodes = graph.nodes
    return [
        [(k, look(v)) for k, v in graph.outputs.items()],
        [(k, repr(v)) for k, v in graph.inputs.items()],
        len(graph),
        [
            (id(n), n.task, look(n.args), [(k, look(v)) for k, v in n.kwargs.items()], [id(d) for d in n.deps], n.label)
            for n in nodes
        ],
        [digest_or_reason(n) for n in nodes],
    ]


def digest_or_reason(node):
    try:
        return node.digest
    except TypeError as error:
        return str(error)


@settings(FEW, max_examples=settings().max_examples // 4)
@given(programs(size=6), programs(size=6))
def test_no_operation_changes_a_graph(engines, program, over_inputs):
    x, y = gr.input("x", default=1), gr.input("y", default=[2, 3])
    one = gr.Graph(a=interpret(program, (), Nodes), shared=mix(x))
    two = gr.Graph(b=interpret(over_inputs, (x, y), Nodes), c=[x, {"y": y}])
    graphs = [one, two]
    before = [portrait(g) for g in graphs]
    made = [
        two.bind(x=5),
        two.bind(y=mix(1)),
        two.map(x=[1, 2], y=[3, "four"]),
        one.subgraph("a"),
        one | two,
        gr.Graph(two),
    ]
    made_before = [portrait(g) for g in made]
    for engine in engines:
        for g in (one, two, *made):
            engine.compute(g, on_error="collect")
    for g in (*graphs, *made):
        pickle.loads(pickle.dumps(g))
        g.visualize()
        g.to_networkx()
        assert repr(g)
        assert g._repr_html_()
        assert g == g
        hash(g)
    assert one != two
    gr.iterate(mix, one.outputs["a"], steps=3).compute(on_error="collect")
    gr.map(mix, gr.call(list, one.outputs["a"])).compute(on_error="collect")
    assert [portrait(g) for g in graphs] == before
    assert [portrait(g) for g in made] == made_before


@FEW
@given(programs(size=8))
def test_a_graph_survives_pickling(program):
    graph = gr.Graph(out=interpret(program, (), Nodes))
    again = pickle.loads(pickle.dumps(graph))
    assert len(again) == len(graph)
    assert [n.label for n in again.nodes] == [n.label for n in graph.nodes]
    assert [digest_or_reason(n) for n in again.nodes] == [digest_or_reason(n) for n in graph.nodes]
    assert same(
        texts(again.compute(on_error="collect")) or again.compute(on_error="collect"),
        texts(graph.compute(on_error="collect")) or graph.compute(on_error="collect"),
    )
