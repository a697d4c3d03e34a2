"""Seeds: derived from the root seed and the node, and from nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part, needs
from graphray.testing.tasks import draw, draw_late, draws, identity, notes, scale, walk


def several() -> gr.Graph:
    """Draws of all kinds."""
    return gr.Graph(
        map=gr.map(draw, [0] * 50),
        different=[draw(i) for i in range(5)],
        behind=draw(gr.combine(sum, gr.map(draw, range(20)))),
        walk=gr.iterate(walk, 0, steps=150),
        until=gr.iterate(walk, 0, steps=150, until=lambda x: abs(x) > 10_000),
        dynamic=gr.combine(sum, draws(40)),
        unknown=gr.map(draw, identity([0] * 30)),
        folded=gr.reduce(noisy, range(30)),
        within=[draw({"a": [identity(1)]}), draw(scale(1, by=3))],
    )


@gr.task(seed=True)
def noisy(a: int, b: int, *, seed: int) -> int:
    """A binary function that draws."""
    return a + b + seed % 1000


class Seeds(Part):
    """Tasks with `seed=True`."""

    @needs("seeds", "dynamic")
    def test_the_same_on_every_engine(self, executor: Executor) -> None:
        """Every draw is that of an engine with one thread, which runs in order."""
        graph = several()
        expected = graph.compute("inprocess", seed=7)
        assert executor.compute(graph, seed=7) == expected
        assert executor.compute(several(), seed=7) == expected, "the same graph, made again"

    @needs("seeds", "dynamic")
    def test_the_root_seed_counts(self, executor: Executor) -> None:
        """And is 0 unless given."""
        graph = gr.Graph(gr.map(draw, [0] * 20))
        zero = executor.compute(graph)
        assert zero == executor.compute(graph, seed=0)
        assert not set(zero) & set(executor.compute(graph, seed=1))

    @needs("seeds")
    def test_equal_calls_at_different_places_differ(self, executor: Executor) -> None:
        """Those of one map have an index; others that are equal draw the same."""
        assert len(set(executor.compute(gr.Graph(gr.map(draw, [0] * 100))))) == 100
        one, other = executor.compute(gr.Graph([draw(0), draw(0)]))
        assert one == other

    @needs("seeds", "dynamic")
    def test_steps_differ(self, executor: Executor) -> None:
        """Each step of an iteration draws anew, also where the state stays the same."""
        seen: Any = executor.compute(gr.iterate(collect, (), steps=100))
        assert len(set(seen)) == 100
        assert len({executor.compute(gr.iterate(forget, 0, steps=5), seed=s) for s in range(20)}) == 20

    @needs("seeds")
    def test_a_seed_is_an_integer_of_63_bits(self, executor: Executor) -> None:
        """In [0, 2**63), and uses most of it."""
        seeds = executor.compute(gr.Graph(gr.map(draw, [0] * 200)))
        assert all(type(s) is int and 0 <= s < 1 << 63 for s in seeds)
        assert max(seeds) > 1 << 62

    @needs("seeds")
    def test_every_attempt_has_the_same_seed(self, executor: Executor, tmp_path: Path) -> None:
        """A retry draws what the first attempt drew."""
        path = str(tmp_path / "notes")
        seed = executor.compute(draw_late(path))
        assert notes(path) == [str(seed)] * 2

    @needs("seeds")
    def test_what_else_is_computed_does_not_matter(self, executor: Executor) -> None:
        """A node draws the same alone and among others."""
        node = draw("x")
        alone = executor.compute(node)
        assert executor.compute(gr.Graph([gr.map(draw, [1] * 30), node, draw(node)]))[1] == alone


@gr.task(seed=True)
def collect(seen: tuple[int, ...], *, seed: int) -> tuple[int, ...]:
    """All draws so far."""
    return (*seen, seed)


@gr.task(seed=True)
def forget(state: int, *, seed: int) -> int:
    """The last draw only."""
    return seed
