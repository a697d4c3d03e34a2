"""Keys of cached results: the root seed counts where a seed is in the ancestry and nowhere else; what is kept."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphray as gr
from graphray.executors.cache.rules import is_cacheable, name_of, why_not
from graphray.graph.digest import cache_key, digest_of, is_seeded, pin, seeded_key, tell
from graphray.testing.tasks import add, draw, echo, identity, scale


def key(node, seed=0):
    return cache_key(digest_of(node), seed)


def depends_on_seed(node):
    """Whether the key does."""
    keys = {key(node, seed) for seed in range(3)}
    assert len(keys) in (1, 3)
    assert all(len(k) == 20 for k in keys)
    assert is_seeded(digest_of(node)) == (len(keys) == 3)
    return len(keys) == 3


# ---- the root seed


@gr.task(seed=True)
def step(x, *, seed):
    return x + seed


SEEDED = {
    "a seeded task": draw(1),
    "a place in a map": gr.map(draw, [1, 2])[1],
    "its input": scale(draw(1)),
    "far away": scale(identity(add(1, scale(draw(1))))),
    "in a list": echo([1, {"k": (draw(1),)}]),
    "by keyword": echo(k=draw(1)),
    "an operator": draw(1) + 1,
    "an item": identity([1])[draw(0)],
    "a gathered structure": identity(gr.value([1, draw(1)])),
    "one of many": gr.combine(sum, [*gr.map(scale, range(40)), draw(1)]),
    "a fold with seeds": gr.reduce(gr.task(seed=True)(lambda a, b, *, seed: a), [1, 2, 3]),
    "an iteration with a seeded step": gr.iterate(step, 0, steps=3),
    "an iteration from a seeded state": gr.iterate(scale, draw(1), steps=3),
    "an iteration whose end is drawn": gr.iterate(scale, 0, until=gr.task(seed=True)(lambda x, *, seed: seed)),
    "a map to come": gr.map(draw, identity([1])),
}  # fmt: skip

PLAIN = {
    "a call": scale(1),
    "a constant": gr.value([1]),
    "an input": gr.input("x", default=1),
    "nodes": add(scale(1), scale(2)),
    "nested": echo([1, {"k": (scale(1),)}], k=scale(2)),
    "an operator": scale(1) + 1,
    "an iteration": gr.iterate(scale, 0, steps=3, until=identity),
    "a map to come": gr.map(scale, identity([1])),
    "a quoted seeded node, which is data": identity(gr.quote(draw(1))),
    "many": gr.combine(sum, gr.map(scale, range(40))),
}


@pytest.mark.parametrize("how", SEEDED)
def test_the_root_seed_counts_where_a_seed_is_in_the_ancestry(how):
    assert depends_on_seed(SEEDED[how])


@pytest.mark.parametrize("how", PLAIN)
def test_the_root_seed_counts_nowhere_else(how):
    assert not depends_on_seed(PLAIN[how])
    assert key(PLAIN[how]) == digest_of(PLAIN[how])


def test_a_file_is_no_matter_of_seeds(tmp_path):
    for i in range(32):  # of digests of all sorts
        path = tmp_path / str(i)
        path.write_text(str(i))
        assert not depends_on_seed(gr.file(path))
        assert not depends_on_seed(scale(gr.file(path)))
        assert not depends_on_seed(gr.value(i))


@given(st.data())
def test_seeds_spread_along_the_edges_of_any_graph(data):
    """Against a table: node by node whether a seeded task is in the ancestry."""
    nodes, expected = [], []
    for i in range(data.draw(st.integers(1, 12))):
        chosen = data.draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else []
        seeded = data.draw(st.booleans()) and data.draw(st.booleans())
        args = [nodes[c] for c in chosen]
        shape = data.draw(st.sampled_from(["flat", "list", "keywords"]))
        if seeded:
            nodes.append(draw([i, *args]))
        elif shape == "flat":
            nodes.append(echo(i, *args))
        elif shape == "list":
            nodes.append(echo([i, [*args]]))
        else:
            nodes.append(echo(i, **{f"k{c}": nodes[c] for c in chosen}))
        expected.append(seeded or any(expected[c] for c in chosen))
    assert [is_seeded(digest_of(n)) for n in nodes] == expected
    copies = pickle.loads(pickle.dumps(nodes))
    assert [digest_of(n) for n in copies] == [digest_of(n) for n in nodes]


def test_it_travels_with_the_bytes_of_a_stand_in():
    for node in (draw(1), scale(1), scale(draw(1))):
        stand_in = gr.value(0)
        pin(stand_in, *tell([node]))
        assert digest_of(stand_in) == digest_of(node)
        assert is_seeded(digest_of(scale(stand_in))) == is_seeded(digest_of(node))


def test_the_key_of_a_value_that_turned_out_to_depend_on_the_seed():
    digest = digest_of(scale(1))
    keys = [digest, *[seeded_key(digest, seed) for seed in (0, 1, -1)]]
    assert len(set(keys)) == 4
    seeded = digest_of(draw(1))
    assert cache_key(seeded, 5) == seeded_key(seeded, 5)


def test_one_bit_of_a_digest_is_no_part_of_the_content():
    """Two nodes differ in more than that bit."""
    nodes = [*gr.map(scale, range(300)), *gr.map(draw, range(300))]
    rest = {digest_of(n)[:-1] for n in nodes}
    assert len(rest) == len(nodes)


# ---- what makes a difference to a key


def test_calls_are_the_same_however_their_arguments_are_put():
    n = scale(1)
    assert key(echo(n, 1)) == key(echo(*[n, 1]))
    assert key(echo(a=1, b=n)) == key(echo(b=n, a=1))
    assert key(identity({"a": n, "b": 2})) == key(identity({"b": 2, "a": n}))
    assert key(echo(n, n)) != key(echo(n))
    assert key(echo(1, k=2)) != key(echo(1, 2))
    assert (
        len({key(x) for x in (echo(), echo([]), echo(()), echo(None), echo(k=None), echo({}), echo([n]), echo(n))}) == 8
    )


def test_keys_are_the_same_in_every_process(tmp_path):
    (tmp_path / "pipeline.py").write_text(
        textwrap.dedent(
            """
            import graphray as gr
            def helper(x):
                return {x, "two"}
            @gr.task
            def load(x, *, names=frozenset("abc")):
                return helper(x)
            @gr.task(seed=True)
            def sample(x, *, seed):
                return seed
            nodes = [load(1), sample(load({"b": 1, "a": {3, "x"}})), gr.reduce(load, [1, 2, 3]), load(1) + 1]
            """
        )
    )
    code = """
        import pipeline
        from graphray.graph.digest import cache_key, digest_of
        print([cache_key(digest_of(n), 7).hex() for n in pipeline.nodes])
        """
    found = set()
    for hash_seed in ("0", "1", "random"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            env=env,
            check=True,
            timeout=60,
        )
        found.add(done.stdout)
    assert len(found) == 1


# ---- what is kept


def test_which_results_are_kept():
    def fn(x):
        return x

    kept, asks, refuses, impure = (
        gr.task(fn),
        gr.task(cache=True)(fn),
        gr.task(cache=False)(fn),
        gr.task(pure=False)(fn),
    )
    for run_has_cache in (True, False):
        assert is_cacheable(kept(1), run_has_cache) == run_has_cache
        assert is_cacheable(asks(1), run_has_cache)
        assert not is_cacheable(refuses(1), run_has_cache)
        assert not is_cacheable(impure(1), run_has_cache)
    assert "cache=False" in why_not(refuses(1), True)
    assert "pure=False" in why_not(impure(1), True)
    assert "no cache=" in why_not(kept(1), False)
    assert not is_cacheable(gr.task(cache=True, pure=False)(fn)(1), True)


def test_what_is_graphrays_own_is_not_kept(tmp_path):
    (tmp_path / "f").write_text("")
    node = scale(1)
    own = [node + 1, node[0], -node, gr.eq(node, 1), gr.getattr(node, "real"), gr.value(1), gr.input("x", default=1),
           gr.quote(node), gr.value([node]), gr.file(tmp_path / "f"), gr.map(scale, node), gr.reduce(max, node),
           gr.combine(sum, node)]  # fmt: skip
    assert [is_cacheable(n, True) for n in own] == [False] * len(own)


def test_a_fold_of_several_values_and_a_plain_function_are_the_users():
    assert is_cacheable(gr.reduce(max, [1, 2, 3]), True)
    assert is_cacheable(gr.reduce(max, [1, 2]), True)
    assert is_cacheable(gr.combine(sum, [1, 2]), True)
    assert is_cacheable(gr.call(len, [1]), True)


def test_an_iteration_is_kept_as_its_step_is():
    def fn(x):
        return x

    assert is_cacheable(gr.iterate(fn, 0, steps=1), True)
    assert not is_cacheable(gr.iterate(fn, 0, steps=1), False)
    assert is_cacheable(gr.iterate(gr.task(cache=True)(fn), 0, steps=1), False)
    assert not is_cacheable(gr.iterate(gr.task(cache=False)(fn), 0, steps=1), True)


def test_names_of_tasks():
    assert name_of(scale) == "graphray.testing.tasks.scale"
    assert name_of(gr.task(name="other")(scale.fn)) == "graphray.testing.tasks.scale"
    assert name_of(gr.reduce(scale, [1, 2, 3]).task) == name_of(scale)
    assert name_of(gr.call(functools.partial(scale.fn, by=3), 1).task) == "graphray.testing.tasks.scale"


def test_the_last_state_of_an_iteration_is_written_once(tmp_path):
    """It is the result, too: one file under two keys."""
    assert gr.Graph(gr.iterate(scale, 1.0, steps=70)).compute(cache=tmp_path) == 2.0**70
    first, second = tmp_path.glob("objects/*/*")
    assert first.samefile(second)
