"""Growing runs: nodes are added while the run goes on."""

from __future__ import annotations

import contextlib
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.executors.events import Progressed, RunFinished, RunStarted
from graphray.testing.part import Part, needs
from graphray.testing.tasks import add, draw, factorial, fail, identity, nap, noted, notes, scale, squares_of


class Growing(Part):
    """`executor.open()`."""

    @needs("growing")
    def test_what_is_added_is_computed(self, executor: Executor) -> None:
        """Each handle comes back once, with its value."""
        with executor.open() as run:
            handles = {run.add(scale(i)): 2 * i for i in range(40)}
            results = {done.node: done.result() for done in run.as_completed()}
        assert results == handles

    @needs("growing")
    def test_nodes_are_added_inside_the_loop(self, executor: Executor) -> None:
        """It ends when all that was added is done."""
        seen = []
        with executor.open() as run:
            run.add(identity(1))
            for done in run.as_completed():
                seen.append(done.result())
                if seen[-1] < 100:
                    run.add(scale(seen[-1]))
                    run.add(identity(1000 + seen[-1]))
        assert sorted(seen) == sorted([1, 2, 4, 8, 16, 32, 64, 128, *[1000 + (1 << i) for i in range(7)]])

    @needs("growing")
    def test_results_come_as_they_are_done(self, executor: Executor, tmp_path: Path) -> None:
        """Not when everything is: a search stops early, or adds something better."""
        path = str(tmp_path / "notes")
        with executor.open() as run:
            handles = [run.add(noted(path, str(i), nap(0.1))) for i in range(20)]
            for done in run.as_completed():
                assert done.node in handles
                break
            assert len(notes(path)) < 20

    @needs("growing")
    def test_a_node_built_on_one_that_was_added(self, executor: Executor, tmp_path: Path) -> None:
        """It finds that one's value as long as its handle is there."""
        path = str(tmp_path / "notes")
        with executor.open() as run:
            node = noted(path, "once")
            handle = run.add(node)
            assert [done.node for done in run.as_completed()] == [handle]
            run.add(identity([node, node]))
            assert [done.result() for done in run.as_completed()] == [["once", "once"]]
            assert notes(path) == ["once"]
            del handle

    @needs("growing")
    def test_a_loop_over_nothing(self, executor: Executor) -> None:
        """Ends at once, before anything was added and after all is done."""
        with executor.open() as run:
            assert list(run.as_completed()) == []
            run.add(identity(1))
            assert [done.result() for done in run.as_completed()] == [1]
            assert list(run.as_completed()) == []
            run.add(identity(2))
            assert [done.result() for done in run.as_completed()] == [2]

    @needs("growing")
    def test_a_handle_is_an_input_of_later_nodes(self, executor: Executor, tmp_path: Path) -> None:
        """Before it is done and after; nothing is computed twice."""
        path = str(tmp_path / "notes")
        with executor.open() as run:
            first = run.add(noted(path, "first"))
            early = run.add(add(first, " early"))
            assert sorted(done.result() for done in run.as_completed()) == ["first", "first early"]
            late = [run.add(add(first, f" late {i}")) for i in range(5)]
            both = run.add([first, early, {"late": late}])
            results = {done.node: done.result() for done in run.as_completed()}
            assert results[both] == ["first", "first early", {"late": [f"first late {i}" for i in range(5)]}]
        assert notes(path) == ["first"]

    @needs("growing")
    def test_several_waves(self, executor: Executor) -> None:
        """Each wave built upon handles of the wave before, some added while others are on their way."""
        with executor.open() as run:
            wave = [run.add(identity(i)) for i in range(8)]
            for _ in range(20):
                values = {done.node: done.result() for done in run.as_completed()}
                wave = [run.add(add(a, b)) for a, b in zip(wave, wave[1:] + wave[:1], strict=True)]
            values = {done.node: done.result() for done in run.as_completed()}
        assert sum(values[n] for n in wave) == 28 * 2**20

    @needs("growing")
    def test_chains_that_grow_side_by_side(self, executor: Executor) -> None:
        """Like trials: each chain is extended when its last piece is done, in whatever order that is."""
        lengths = dict.fromkeys(range(6), 0)
        with executor.open() as run:
            chain_of = {run.add(nap(0.001 * i, i)): i for i in range(6)}
            for done in run.as_completed():
                i = chain_of.pop(done.node)
                assert done.result() == i + lengths[i]
                lengths[i] += 1
                if lengths[i] < 10:
                    chain_of[run.add(add(done.node, 1))] = i
        assert set(lengths.values()) == {10}

    @needs("growing")
    def test_nodes_share_what_they_need(self, executor: Executor, tmp_path: Path) -> None:
        """What is still under way is not begun a second time."""
        path = str(tmp_path / "notes")
        shared = noted(path, "shared", nap(0.1))
        with executor.open() as run:
            for i in range(10):
                run.add(add(shared, str(i)))
            assert sorted(done.result() for done in run.as_completed()) == [f"shared{i}" for i in range(10)]
        assert notes(path) == ["shared"]

    @needs("growing")
    def test_the_same_node_added_twice(self, executor: Executor, tmp_path: Path) -> None:
        """Two handles, one computation."""
        path = str(tmp_path / "notes")
        node = noted(path, "once", nap(0.1))
        with executor.open() as run:
            one, two = run.add(node), run.add(node)
            assert one is not two
            assert {done.node for done in run.as_completed()} == {one, two}
        assert notes(path) == ["once"]

    @needs("growing")
    def test_failures_are_told_one_by_one(self, executor: Executor) -> None:
        """The run goes on; what needs a failed handle fails, also when it is added later."""
        with executor.open() as run:
            bad, good = run.add(fail("x")), run.add(scale(3))
            outcome = {done.node: done for done in run.as_completed()}
            assert outcome[bad].failed
            assert not outcome[good].failed
            assert outcome[good].result() == 6
            for _ in range(2):
                with pytest.raises(ValueError, match="x"):
                    outcome[bad].result()
            after, fine = run.add(add(bad, 1)), run.add(add(good, 1))
            outcome = {done.node: done for done in run.as_completed()}
            assert outcome[fine].result() == 7
            with pytest.raises(ValueError, match="x"):
                outcome[after].result()

    @needs("growing", "dynamic")
    def test_dynamic_nodes(self, executor: Executor) -> None:
        """Nodes that return nodes, iterations, and fan-outs of handles."""
        with executor.open() as run:
            state = run.add(identity(0))
            nodes = [factorial(10), gr.combine(sum, squares_of(10)), gr.iterate(identity, 5, steps=100)]
            handles = [run.add(n) for n in nodes]
            handles += [run.add(gr.iterate(lambda x: x + 1, state, steps=100))]
            results = {done.node: done.result() for done in run.as_completed()}
            assert [results[h] for h in handles] == [3628800, 285, 5, 100]
            more = run.add(gr.map(scale, run.add(gr.call(list, [handles[1], handles[2]]))))
            assert {done.node: done.result() for done in run.as_completed()}[more] == (570, 10)

    @needs("growing")
    def test_a_result_is_kept_while_its_handle_exists(self, executor: Executor) -> None:
        """Then it goes; `release` lets go of it earlier."""
        with executor.open() as run:
            kept, dropped, released = [run.add(gr.call(Thing, i)) for i in range(3)]
            alive = {done.node: weakref.ref(done.result()) for done in run.as_completed()}
            references = [alive[kept], alive[dropped], alive[released]]
            del alive, dropped
            run.release(released)
            run.add(identity(0))
            list(run.as_completed())
            gc.collect()
            assert references[0]() is not None
            assert [r() for r in references[1:]] == [None, None]
            again = run.add(gr.getattr(kept, "number"))
            assert {done.node: done.result() for done in run.as_completed()}[again] == 0

    @needs("growing")
    def test_only_nodes_can_be_added(self, executor: Executor) -> None:
        """And only while the run is open."""
        with executor.open() as run:
            things: list[Any] = [5, "x", [1, 2], {}]
            for nonsense in things:
                with pytest.raises(TypeError, match="node"):
                    run.add(nonsense)
        with pytest.raises(RuntimeError, match="ended"):
            run.add(identity(1))

    @needs("growing")
    def test_leaving_early_ends_the_run(self, executor: Executor) -> None:
        """What is not done is cancelled; the engine stays usable."""
        with executor.open() as run:
            for _ in range(50):
                run.add(nap(0.05))
            next(iter(run.as_completed()))
        assert run.done()
        with contextlib.suppress(KeyError), executor.open() as run:
            run.add(nap(0.01))
            raise KeyError("the caller's own")
        assert run.done()
        assert executor.compute(add(1, 2)) == 3

    @needs("growing", "seeds")
    def test_seeds(self, executor: Executor) -> None:
        """Those of any other run, also behind handles."""
        with executor.open(seed=5) as run:
            one = run.add(draw("x"))
            results = {done.node: done.result() for done in run.as_completed()}
            assert results[one] == draw("x").compute("inprocess", seed=5)
            two = run.add(draw(one))
            three = run.add(gr.iterate(add_draw, one, steps=3))
            results = {done.node: done.result() for done in run.as_completed()}
            assert results[two] == draw(draw("x")).compute("inprocess", seed=5)
            assert results[three] == gr.iterate(add_draw, draw("x"), steps=3).compute("inprocess", seed=5)

    @needs("growing")
    def test_events(self, executor: Executor) -> None:
        """A beginning, an end, and progress that goes up."""
        with executor.open() as run:
            for i in range(10):
                run.add(scale(i))
            for done in run.as_completed():
                if done.result() == 4:
                    run.add(scale(100))
        assert isinstance(run.events[0], RunStarted)
        assert isinstance(run.events[-1], RunFinished)
        progress = [e for e in run.events if isinstance(e, Progressed)]
        assert [e.done for e in progress] == sorted(e.done for e in progress)
        assert all(e.done <= e.total for e in progress)


class Thing:
    """Something that can be referred to weakly."""

    def __init__(self, number: int) -> None:
        self.number = number


@gr.task(seed=True)
def add_draw(x: Any, *, seed: int) -> int:
    """A step that draws."""
    return int(x) + seed % 1000
