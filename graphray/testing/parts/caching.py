"""A cache: what was computed once is not computed again."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part, needs
from graphray.testing.sameness import same
from graphray.testing.tasks import add, draw, draws, nap, note, noted, notes


@gr.task
def counted(path: str, x: Any) -> Any:
    """Its argument, and a note that it was called."""
    note(path, f"counted {x}")
    return x


@gr.task(cache=False)
def never(path: str) -> str:
    """Not to be kept."""
    note(path, "never")
    return "never"


@gr.task(pure=False)
def impure(path: str) -> int:
    """Not to be kept either."""
    note(path, "impure")
    return len(notes(path))


@gr.task(cache=True)
def always(path: str) -> str:
    """Kept without being asked for."""
    note(path, "always")
    return "always"


@gr.task
def fails_once(path: str) -> int:
    """An error is not kept."""
    note(path, "tried")
    if len(notes(path)) < 2:
        raise OSError("the first time")
    return len(notes(path))


@gr.task
def down(path: str, n: int) -> Any:
    """Returns nodes, each of which is kept."""
    note(path, f"down {n}")
    return 0 if n == 0 else add(down(path, n - 1), 1)


@gr.task
def drawn(path: str) -> Any:
    """Returns a node that depends on the root seed, which its own digest cannot tell."""
    note(path, "drawn")
    return draw("here")


@gr.task
def stepped(state: tuple[str, int]) -> tuple[str, int]:
    """A step that says that it was made."""
    path, n = state
    note(path, f"step {n}")
    return path, n + 1


@gr.task
def stepped_by_nodes(state: tuple[str, int]) -> Any:
    """The same, in two nodes."""
    return stepped(gr.call(tuple, [state[0], state[1]]))


@gr.task(seed=True)
def walked(state: tuple[str, int], *, seed: int) -> tuple[str, int]:
    """A step with randomness."""
    note(state[0], "walk")
    return state[0], state[1] + seed % 1000


@gr.task
def far_enough(state: tuple[str, int]) -> bool:
    """Ends an iteration."""
    return state[1] >= 7


@gr.task
def wide(n: int) -> Any:
    """An array, large enough for the store."""
    import numpy

    return {"rows": numpy.arange(n, dtype=float), "n": n}


def entries(cache: Path) -> int:
    """How many results a cache holds."""
    from graphray.executors.cache import Cache

    return len(list(Cache(cache).keys()))


@gr.task
def fails_late(path: str) -> None:
    """An error that takes a while."""
    note(path, "tried")
    time.sleep(0.3)
    raise ValueError("late")


class Caching(Part):
    """`cache=`, on whatever the engine."""

    def test_the_second_time_nothing_runs(self, executor: Executor, tmp_path: Path) -> None:
        """Not even for another graph object."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        for _ in range(3):
            graph = gr.Graph(sum=gr.combine(sum, gr.map(counted, [path] * 20, range(20))), one=counted(path, "one"))
            assert executor.compute(graph, cache=cache) == {"sum": 190, "one": "one"}
        assert sorted(notes(path)) == sorted(["counted one", *[f"counted {i}" for i in range(20)]])

    def test_only_what_is_new_runs(self, executor: Executor, tmp_path: Path) -> None:
        """What only cached nodes need is not looked at."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        first = counted(path, 1)
        executor.compute(add(first, 1), cache=cache)
        assert executor.compute([counted(path, i) for i in range(3)], cache=cache) == [0, 1, 2]
        assert executor.compute(add(add(counted(path, 1), 1), counted(path, 7)), cache=cache) == 9
        assert sorted(notes(path)) == ["counted 0", "counted 1", "counted 2", "counted 7"]

    def test_nodes_of_equal_digest_are_one(self, executor: Executor, tmp_path: Path) -> None:
        """Also within a run, where none is done yet."""
        path = str(tmp_path / "notes")
        nodes = [add(counted(path, i % 3), i) for i in range(30)]
        assert executor.compute(nodes, cache=tmp_path / "cache") == [i % 3 + i for i in range(30)]
        assert sorted(notes(path)) == ["counted 0", "counted 1", "counted 2"]

    def test_what_is_not_to_be_kept_is_not(self, executor: Executor, tmp_path: Path) -> None:
        """`cache=False`, `pure=False`, and what has no digest."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        for i in range(2):
            out = executor.compute([never(path), impure(path), counted(path, gr.call(type, 1))], cache=cache)
            assert out[0] == "never"
            assert out[2] is int
            assert notes(path).count("never") == i + 1
            assert notes(path).count("impure") == i + 1

    def test_a_task_may_ask_to_be_kept(
        self, executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Then its results go to the default directory, and no others."""
        path = str(tmp_path / "notes")
        monkeypatch.setenv("GRAPHRAY_CACHE", str(tmp_path / "default"))
        for _ in range(2):
            assert executor.compute([always(path), counted(path, 1)]) == ["always", 1]
        assert sorted(notes(path)) == ["always", "counted 1", "counted 1"]
        assert entries(tmp_path / "default") == 1

    @needs("dynamic")
    def test_the_step_of_an_iteration_may_ask_to_be_kept(
        self, executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Then the iteration continues, without `cache=`."""
        path = str(tmp_path / "notes")
        monkeypatch.setenv("GRAPHRAY_CACHE", str(tmp_path / "default"))
        step = gr.task(cache=True)(stepped.fn)
        assert executor.compute(gr.iterate(step, (path, 0), steps=5))[1] == 5
        assert executor.compute(gr.iterate(step, (path, 0), steps=8))[1] == 8
        assert notes(path) == [f"step {i}" for i in range(8)]

    def test_errors_are_not_kept(self, executor: Executor, tmp_path: Path) -> None:
        """The next run tries again; what had succeeded is not run again."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        tried = str(tmp_path / "tried")
        graph = gr.Graph([counted(path, 1), fails_once(tried), add(fails_once(tried), 1)])
        found = executor.compute(graph, cache=cache, on_error="collect")
        assert found[0] == 1
        assert type(found[1]) is type(found[2]) is gr.Failure
        assert executor.compute(graph, cache=cache) == [1, 2, 3]
        assert (notes(path), notes(tried)) == (["counted 1"], ["tried", "tried"])

    @needs("dynamic")
    def test_returned_nodes_are_kept(self, executor: Executor, tmp_path: Path) -> None:
        """A recursion goes on from where another has been."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        assert executor.compute(down(path, 5), cache=cache) == 5
        assert executor.compute(down(path, 8), cache=cache) == 8
        assert sorted(notes(path)) == sorted([f"down {i}" for i in range(9)])
        assert executor.compute(add(down(path, 8), down(path, 3)), cache=cache) == 11
        assert len(notes(path)) == 9

    @needs("seeds", "dynamic")
    def test_the_root_seed_counts_where_it_matters(self, executor: Executor, tmp_path: Path) -> None:
        """In the keys of seeded nodes and of what needs them, also where a task returned the seeded node."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        graph = gr.Graph(a=add(draw("there"), 0), b=add(drawn(path), 0), c=counted(path, 1), d=draws(4))
        found = {seed: executor.compute(graph, cache=cache, seed=seed) for seed in (0, 1, 0, 1)}
        plain = {seed: executor.compute(graph, seed=seed) for seed in (0, 1)}
        assert found == plain
        assert found[0]["b"] != found[1]["b"]
        assert sorted(notes(path)) == ["counted 1"] * 3 + ["drawn"] * 4  # with the cache once, and once per seed

    @needs("seeds", "dynamic")
    def test_the_root_seed_counts_for_nodes_of_equal_digest(self, executor: Executor, tmp_path: Path) -> None:
        """Each of them is as seeded as the one that runs."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        for wanted in (3, 2):  # the second time the twins themselves are cached
            for seed in (0, 1):
                sums = [add(drawn(path), i) for i in range(wanted)]
                assert executor.compute(sums, cache=cache, seed=seed) == executor.compute(sums, seed=seed)
        more = [add(drawn(path), i) for i in range(10, 13)]
        for seed in (0, 1):
            assert executor.compute(more, cache=cache, seed=seed) == executor.compute(more, seed=seed)

    @needs("dynamic")
    @pytest.mark.parametrize("step", [stepped, stepped_by_nodes])
    def test_an_iteration_continues(self, executor: Executor, tmp_path: Path, step: Any) -> None:
        """From the last stored state; superseded ones are dropped."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        assert executor.compute(gr.iterate(step, (path, 0), steps=100), cache=cache)[1] == 100
        assert entries(cache) == 2  # the last state, and the result
        assert executor.compute(gr.iterate(step, (path, 0), steps=130), cache=cache)[1] == 130
        assert executor.compute(gr.iterate(step, (path, 0), steps=100), cache=cache)[1] == 100
        assert notes(path) == [f"step {i}" for i in range(130)]
        assert entries(cache) == 3

    @needs("dynamic")
    def test_how_many_states_are_stored(self, executor: Executor, tmp_path: Path) -> None:
        """`save_every` and `keep`."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        assert executor.compute(gr.iterate(stepped, (path, 0), steps=45, save_every=10, keep=3), cache=cache)[1] == 45
        assert entries(cache) == 4  # 20, 30, 40, and the result
        assert executor.compute(gr.iterate(stepped, (path, 0), steps=35, save_every=10, keep=3), cache=cache)[1] == 35
        assert notes(path)[45:] == [f"step {i}" for i in range(30, 35)]

    @needs("dynamic")
    def test_an_iteration_drops_no_states_but_its_own(self, executor: Executor, tmp_path: Path) -> None:
        """Neither results of the same calls outside of it, nor the state that another iteration is at."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        first = gr.call(tuple, [path, 0])
        calls = gr.Graph([stepped(first), stepped(stepped(first))])
        assert executor.compute(calls, cache=cache) == [(path, 1), (path, 2)]
        executor.compute(gr.iterate(stepped, first, steps=4), cache=cache)
        executor.compute(gr.iterate(stepped, first, steps=6, until=far_enough), cache=cache)
        before = notes(path)
        assert executor.compute(calls, cache=cache) == [(path, 1), (path, 2)]
        assert executor.compute(gr.iterate(stepped, first, steps=5), cache=cache)[1] == 5
        assert notes(path) == [*before, "step 4"]

    @needs("dynamic")
    def test_an_iteration_with_an_end_continues(self, executor: Executor, tmp_path: Path) -> None:
        """`until` is asked of the stored state as well."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        first = gr.iterate(stepped, (path, 0), steps=5, until=far_enough)
        assert executor.compute(first, cache=cache)[1] == 5
        assert executor.compute(gr.iterate(stepped, (path, 0), until=far_enough), cache=cache)[1] == 7
        assert notes(path) == [f"step {i}" for i in range(7)]

    @needs("dynamic", "seeds")
    def test_a_seeded_iteration_continues_as_if_it_had_not_stopped(self, executor: Executor, tmp_path: Path) -> None:
        """The seeds of later steps are the same."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        whole = executor.compute(gr.iterate(walked, (path, 0), steps=20), seed=3)
        executor.compute(gr.iterate(walked, (path, 0), steps=12), cache=cache, seed=3)
        assert executor.compute(gr.iterate(walked, (path, 0), steps=20), cache=cache, seed=3) == whole
        assert len(notes(path)) == 40

    def test_arrays_come_back_read_only(self, executor: Executor, tmp_path: Path) -> None:
        """Large ones are views of the file."""
        for n in (10, 1_000_000):
            for _ in range(2):
                found = executor.compute(wide(n), cache=tmp_path / "cache")
                assert same(found, wide.fn(n))
                assert not found["rows"].flags.writeable
        total = executor.compute(gr.call(lambda x: float(x["rows"].sum()), wide(1_000_000)), cache=tmp_path / "cache")
        assert total == sum(range(1_000_000))

    @needs("growing")
    def test_a_growing_run_has_a_cache_too(self, executor: Executor, tmp_path: Path) -> None:
        """Nodes that are added are looked up."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        for _ in range(2):
            with executor.open(cache=cache) as run:
                handles = [run.add(counted(path, i)) for i in range(5)]
                more = [run.add(add(h, 1)) for h in handles]
                found = {done.node: done.result() for done in run.as_completed()}
                assert [found[h] for h in handles] == [0, 1, 2, 3, 4]
                assert [found[h] for h in more] == [1, 2, 3, 4, 5]
        assert len(notes(path)) == 5

    @needs("growing")
    def test_nodes_of_equal_digest_in_a_growing_run_are_one(self, executor: Executor, tmp_path: Path) -> None:
        """Also where the first still runs, and where it fails."""
        path, failed = str(tmp_path / "notes"), str(tmp_path / "failed")

        def chain() -> Any:
            return noted(path, "last", noted(path, "second", noted(path, "first", nap(0.3))))

        with executor.open(cache=tmp_path / "cache") as run:
            handles = [run.add(chain()) for _ in range(2)]
            handles += [run.add(add(chain(), "")), run.add(nap(0.01))]
            late = [run.add(fails_late(failed)) for _ in range(3)]
            found: dict[Any, Any] = {}
            for done in run.as_completed():
                if not found:
                    handles += [run.add(chain()), run.add([chain(), chain()])]
                found[done.node] = done
            assert [found[h].result() for h in handles] == ["last"] * 3 + [None, "last", ["last", "last"]]
            for handle in late:
                with pytest.raises(ValueError, match="late"):
                    found[handle].result()
        assert sorted(notes(path)) == ["first", "last", "second"]
        assert notes(failed) == ["tried"]

    def test_a_damaged_result_is_computed_again(self, executor: Executor, tmp_path: Path) -> None:
        """With a warning."""
        path, cache = str(tmp_path / "notes"), tmp_path / "cache"
        assert executor.compute(counted(path, 5), cache=cache) == 5
        (file,) = [Path(folder, name) for folder, _, names in os.walk(cache / "objects") for name in names]
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.warns(UserWarning, match="damaged"):
            assert executor.compute(counted(path, 5), cache=cache) == 5
        assert executor.compute(counted(path, 5), cache=cache) == 5
        assert len(notes(path)) == 2
