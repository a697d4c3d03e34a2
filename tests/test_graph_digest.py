"""Digests of nodes and graphs: the identity of a computation, whoever describes it and however."""

from __future__ import annotations

import dataclasses
import functools
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import types

import numpy as np
import pytest

import graphray as gr
from graphray.testing.tasks import add, draw, echo, identity, scale


def distinct(*nodes):
    """Whether all digests differ."""
    digests = [n.digest for n in nodes]
    return len(set(digests)) == len(digests)


def test_a_digest_is_hex_text():
    assert len(scale(1).digest) == 40
    assert int(scale(1).digest, 16)
    assert gr.Graph(scale(1)).digest != scale(1).digest


def test_equal_descriptions_have_one_digest():
    def make():
        n = identity([1, {"k": np.arange(4)}])
        return add(scale(n[0], by=2), gr.combine(sum, gr.map(scale, range(10))))

    assert make().digest == make().digest
    assert pickle.loads(pickle.dumps(make())).digest == make().digest


def test_whatever_makes_a_difference_to_the_value_makes_one_to_the_digest():
    n = identity(1)
    assert distinct(
        scale(1), scale(2), scale(1.0), scale(True), scale("1"), scale([1]), scale((1,)), scale({1: 1}), scale(None),
        scale(n), scale(identity(2)), scale(1, 2), scale(1, plus=2), identity(1), identity([n]), identity((n,)),
        identity({"k": n}), echo(1), echo(1, 2), echo(2, 1), echo(a=1), echo(b=1), add(n, 2), add(2, n), n + 2, n - 2,
        2 - n, n[0], n[1], n["0"], gr.eq(n, 1), gr.getattr(n, "real"), gr.getattr(n, "imag"),
    )  # fmt: skip


def test_containers_and_arrays_count_by_content():
    a = np.arange(9.0).reshape(3, 3)
    assert distinct(identity(a), identity(a.T), identity(a.ravel()), identity(a.astype("f4")), identity(a + 1))
    assert identity(a).digest == identity(a.copy()).digest == identity(np.repeat(a, 2, axis=1)[:, ::2]).digest
    assert identity({"a": 1, "b": 2}).digest == identity({"b": 2, "a": 1}).digest
    assert identity({1, 2, 3}).digest == identity({3, 2, 1}).digest


def test_constants():
    assert gr.value([5]).digest == gr.value([5]).digest
    assert distinct(gr.value(5), gr.value(6), gr.value(5.0), gr.value([5]), identity(5))


def test_inputs_count_by_name_and_default():
    assert distinct(gr.input("a"), gr.input("b"), gr.input("a", default=1), gr.input("a", default=2))
    assert gr.Graph(scale(gr.input("a"))).bind(a=3) == gr.Graph(scale(gr.value(3)))


def test_a_quoted_node_is_not_its_value():
    assert distinct(identity(scale(1)), identity(gr.quote(scale(1))), identity(gr.quote(scale(2))))
    assert identity(gr.quote(scale(1))).digest == identity(gr.quote(scale(1))).digest


def test_options_that_change_the_value_count_and_others_do_not():
    fn = scale.fn
    assert gr.task(fn)(1).digest == gr.task(name="other", retries=3, near="x", cache=True)(fn)(1).digest
    assert distinct(gr.task(fn)(1), gr.task(outputs=1)(fn)(1), gr.task(version="1")(fn)(1), gr.task(version="2")(fn)(1))
    assert distinct(*[gr.task(jit=jit, version=v)(fn)(1) for jit in (False, True) for v in (None, "1")])


def test_a_version_takes_the_place_of_the_code():
    def make(constant):
        @gr.task(version="1")
        def f(x):
            return x + constant

        return f

    assert make(1)(5).digest == make(2)(5).digest


def test_seeds_stand_on_the_place_in_a_map():
    one, other = gr.map(draw, [0, 0])
    assert one.digest != other.digest
    assert gr.map(draw, [0, 0])[1].digest == other.digest
    assert draw(0).digest == draw(0).digest
    one, other = gr.map(scale, [0, 0])
    assert one.digest == other.digest, "without seeds, the place does not matter"


def test_the_state_of_an_iteration_does_not_depend_on_how_many_steps_were_asked_for():
    """The k-th state is k calls of `step`: what a resumed run stands on."""
    seen = []

    @gr.task(seed=True)
    def step(x, *, seed):
        seen.append(seed)
        return x + 1

    assert gr.iterate(step, 0, steps=3).compute() == 3
    assert gr.iterate(step, 0, steps=100).compute() == 100
    assert seen[:3] == seen[3:6]


# ---- what has none


def test_what_has_no_digest_is_named():
    impure = gr.task(pure=False, name="clock")(lambda: 1)
    for node in (impure(), scale(impure()), add(1, scale([impure()]))):
        with pytest.raises(TypeError, match="clock"):
            node.digest  # noqa: B018


def test_an_argument_that_cannot_be_hashed_is_named():
    node = add(1, identity({"k": [threading.Lock()]}))
    with pytest.raises(TypeError, match=r"identity.*lock"):
        node.digest  # noqa: B018
    with pytest.raises(TypeError, match=r"identity.*lock"):
        gr.Graph(a=node).digest  # noqa: B018


def test_a_seed_behind_what_has_no_digest_is_a_failure(loky):
    impure = gr.task(pure=False, name="clock")(lambda: 1)
    for executor in ("inprocess", loky):
        with pytest.raises(TypeError, match="clock"):
            draw(impure()).compute(executor)


# ---- files and code that change


def test_a_file_counts_by_its_content(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("same")
    other.write_text("same")
    assert gr.file(one).digest == gr.file(other).digest
    node = scale(gr.file(one))
    before = node.digest
    os.utime(one, (0, 0))
    assert node.digest == before, "a time is not content"
    one.write_text("different")
    assert node.digest != before
    one.write_text("same")
    assert node.digest == before


def test_an_edited_helper_changes_the_digest_of_existing_nodes(tmp_path, monkeypatch):
    """As in a notebook, where a cell is run again."""
    scope = {"gr": gr, "__name__": "cell"}
    exec("def helper(x): return x + 1\n@gr.task\ndef f(x): return helper(x)\nnode = f(1)", scope)
    before = scope["node"].digest
    exec("def helper(x): return x + 2", scope)
    assert scope["node"].digest != before
    exec("def helper(x): return x + 1", scope)
    assert scope["node"].digest == before


@gr.task
def apply(f, x):
    return f(x)


@gr.task
def rate_times(x):
    return helper(x)


RATE = 1


def helper(x):
    return x * RATE


@dataclasses.dataclass
class Model:
    bias: int = 0

    def predict(self, x):
        return helper(x) + self.bias


QUOTED = rate_times(1)
REACH_A_HELPER = {
    "the task": rate_times(1),
    "a function": apply(helper, 1),
    "a function by keyword": apply(f=helper, x=1),
    "a method": apply(Model().predict, 1),
    "a partial": apply(functools.partial(helper, 1), 1),
    "an instance": echo({"k": [Model()]}),
    "a class": echo(Model),
    "a task": apply(rate_times, 1),
    "a task in a list": echo([rate_times], 1),
    "a task by keyword": apply(f=rate_times, x=1),
    "a constant": identity(gr.value([helper])),
    "a default": identity(gr.input("f", default=helper)),
    "a quoted node": echo(gr.quote(rate_times(1))),
    "a quoted node with a function": echo(gr.quote(apply(helper, 1))),
    "a twice quoted node": echo(gr.quote(echo(gr.quote(apply(helper, 1))))),
    "a quoted graph": echo(gr.quote(gr.Graph(a=[rate_times(1), helper]))),
    "a node in an object": echo(types.SimpleNamespace(node=rate_times(1))),
    "a node that a function uses": apply(lambda x: QUOTED, 1),
    "a map to come": gr.map(rate_times, identity([1])),
    "an iteration": gr.iterate(rate_times, 1, steps=2, until=helper),
    "a reduction": gr.reduce(lambda a, b: helper(a) + b, [1, 2, 3]),
    "far away": scale(identity([apply(helper, 1)])),
}


@pytest.mark.parametrize("how", REACH_A_HELPER)
def test_an_edit_is_seen_wherever_it_is(how, monkeypatch):
    node, graph = REACH_A_HELPER[how], gr.Graph(a=REACH_A_HELPER[how])
    before = node.digest, graph.digest
    monkeypatch.setattr(sys.modules[__name__], "RATE", 2)
    assert (node.digest, graph.digest) != before
    assert node.digest != before[0]
    monkeypatch.undo()
    assert (node.digest, graph.digest) == before


def test_an_edit_that_another_node_was_asked_for_first_is_seen(monkeypatch):
    """A change is noticed once; everything else that was remembered must not count as new thereby."""
    nodes = list(REACH_A_HELPER.values())
    before = [n.digest for n in nodes]
    monkeypatch.setattr(sys.modules[__name__], "RATE", 2)
    # Made now: the first to look at the task again, as an argument of a node without remembered digest.
    assert echo([rate_times]).digest
    assert not any(a == b.digest for a, b in zip(before, nodes, strict=True))


def test_code_that_has_no_digest_may_have_one_after_an_edit(monkeypatch):
    node, user = apply(helper, 1), scale(apply(helper, 1))
    before = node.digest, user.digest
    monkeypatch.setattr(sys.modules[__name__], "RATE", threading.Lock())
    for n in (node, user):
        with pytest.raises(TypeError, match="RATE"):
            n.digest  # noqa: B018
    monkeypatch.undo()
    assert (node.digest, user.digest) == before


def test_a_task_may_use_a_node_of_itself():
    scope = {"gr": gr, "__name__": "cell"}
    exec("@gr.task\ndef f(x): return x and START\nSTART = f(f(0))\nfs = [START, f(START)]", scope)
    exec("@gr.task\ndef g(x): return fs", scope)
    assert distinct(scope["START"], *scope["fs"][1:], scope["g"](1))


def test_a_function_counts_a_file_that_it_uses_by_content(tmp_path):
    path = tmp_path / "f"
    path.write_text("a")
    scope = {"F": gr.file(path), "__name__": "cell"}
    exec("def f(x): return F", scope)
    nodes = apply(scope["f"], 1), echo(gr.quote(gr.Graph(a=gr.file(path))))
    before = [n.digest for n in nodes]
    path.write_text("b")
    assert not any(a == b.digest for a, b in zip(before, nodes, strict=True))


def test_a_file_that_is_gone_has_no_digest(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("x")
    node = scale(gr.file(path))
    graph, other = gr.Graph(node), gr.Graph(scale(gr.file(path)))
    before = node.digest
    path.unlink()
    assert graph == graph
    assert graph != other
    assert len({graph, other}) == 2
    for asked in (node, graph, node.deps[0]):
        with pytest.raises(TypeError, match=r"No such file.*f\.txt"):
            asked.digest  # noqa: B018
    path.mkdir()
    with pytest.raises(TypeError, match=r"directory.*f\.txt"):
        node.digest  # noqa: B018
    path.rmdir()
    path.write_text("x")
    assert node.digest == before


def test_equal_graphs_have_equal_hashes_whatever_was_edited_since(tmp_path):
    path = tmp_path / "f"
    path.write_text("a")
    make = lambda: gr.Graph(scale(gr.file(path)))  # noqa: E731
    old, unasked = make(), make()
    hash(old)
    path.write_text("b")
    graphs = [old, unasked, make()]
    assert unasked == make()
    for a in graphs:
        assert a == a
        for b in graphs:
            assert (a == b) == (b == a)
            assert a != b or hash(a) == hash(b)


def test_the_hash_of_a_graph_does_not_change_under_a_set(tmp_path):
    path = tmp_path / "f"
    path.write_text("a")
    graph = gr.Graph(scale(gr.file(path)))
    known = {graph}
    path.write_text("b")
    assert graph in known


# ---- everywhere the same


def test_digests_are_the_same_in_every_process(tmp_path):
    (tmp_path / "made_here.py").write_text(
        textwrap.dedent(
            """
            import collections, dataclasses
            import graphray as gr
            @dataclasses.dataclass(frozen=True)
            class Config:
                names: object
            FACTOR = {"a": 1, "b": {2, 3, "x", None}}
            def helper(x):
                return x, FACTOR
            @gr.task
            def f(x, *, k=frozenset({1, "two"})):
                return helper(x)
            graph = gr.Graph(a=f({"p", "q", 1}), b=gr.iterate(f, f(1), steps=3), c=gr.map(f, [1, 2]),
                             d=f(Config({"p", "q", ("r", 1)})),
                             e=f(frozenset({("p", "q"), ("r", None), frozenset("st")})),
                             g=f(collections.Counter("abc")), h=f(gr.quote(gr.Graph(f({"p", ("q",)})))), i=f(Config))
            """
        )
    )
    code = "import made_here; print(made_here.graph.digest, made_here.graph.outputs['b'].digest)"
    digests = set()
    for seed in ("0", "1", "12345", "random"):
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True, timeout=60
        )
        digests.add(done.stdout)
    assert len(digests) == 1


def test_a_long_chain_has_a_digest():
    node = gr.value(0)
    for _ in range(30_000):
        node = add(node, 1)
    assert len(node.digest) == 40
