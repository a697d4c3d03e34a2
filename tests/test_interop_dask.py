"""Dask's collections, and what stands on them, on graphray's engines."""

from __future__ import annotations

import operator
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from dask import _task_spec as spec
from dask.diagnostics import ProgressBar
from dask.highlevelgraph import HighLevelGraph

import graphray as gr
from graphray.executors import Executor, InProcess, Loky
from graphray.interop.dask import get


@pytest.fixture(params=["inprocess", "inprocess:2", "loky"])
def engine(request: pytest.FixtureRequest, loky: Loky) -> Iterator[Executor]:
    """An engine, on which all that Dask computes runs."""
    with InProcess(2 if request.param == "inprocess:2" else 1) as made:
        chosen = loky if request.param == "loky" else made
        with gr.use(chosen), dask.config.set(scheduler=get):
            yield chosen


def inc(x: Any) -> Any:
    return x + 1


def fail(x: Any) -> Any:
    raise KeyError("not this one")


def process(*_: Any) -> int:
    return os.getpid()


def third(record: tuple[int, str]) -> int:
    return record[0] % 3


def joined(*parts: Any, sep: str = "-", end: str = "") -> str:
    return sep.join(map(str, parts)) + end


def set_first(array: Any) -> Any:
    array[0] = 1
    return array


def inner(_: Any) -> tuple[int, int, bool]:
    """What Dask computes inside a task: where, and whether other threads came of it."""
    before = threading.active_count()
    pid = dask.delayed(process)(0).compute()
    values = da.ones(8, chunks=1).sum().compute()
    return pid, int(values), threading.active_count() == before


# ---- collections


def test_arrays(engine: Executor) -> None:
    x = da.arange(10_000, chunks=700).reshape(100, 100).rechunk((30, 40))
    numbers = np.arange(10_000).reshape(100, 100)
    assert np.array_equal(((x + x.T)[::3] * 2).compute(), (numbers + numbers.T)[::3] * 2)
    assert np.array_equal(x.sum(axis=0).compute(), numbers.sum(axis=0))
    assert np.array_equal(da.from_array(numbers, chunks=33).cumsum(axis=1).compute(), numbers.cumsum(axis=1))
    least, most = dask.compute(x.min(), x.max())
    assert (least, most) == (0, 9999)
    drawn = da.random.default_rng(5).normal(size=1000, chunks=100)
    assert np.array_equal(drawn.compute(), drawn.compute(scheduler="sync"))


def test_large_arrays_pass_through_the_store(engine: Executor) -> None:
    x = da.from_array(np.arange(1_000_000), chunks=250_000)
    y = (x * 2).compute()
    assert np.array_equal(y, np.arange(1_000_000) * 2)
    y[0] = 7  # as with Dask's own schedulers
    assert y[0] == 7


def test_results_may_be_written_to(engine: Executor) -> None:
    """A small one, one of several, a part of another, and one that is a constant of the graph."""
    one, other = dask.compute(da.ones(3, chunks=3) + 1, dask.delayed(np.arange)(5)[1:])
    one[0], other[0] = 8, 9
    assert one.tolist() == [8, 2, 2]
    assert other.tolist() == [9, 2, 3, 4]


def test_bags(engine: Executor) -> None:
    bag = db.from_sequence([(i, str(i)) for i in range(100)], npartitions=7)
    assert sorted(bag.map(third).frequencies().compute()) == [(0, 34), (1, 33), (2, 33)]
    assert bag.filter(third).map(operator.itemgetter(1)).take(3) == ("1", "2", "4")
    assert bag.pluck(0).fold(operator.add).compute() == 4950


def test_data_frames(engine: Executor) -> None:
    frame = pd.DataFrame({"a": np.arange(500) % 7, "b": np.arange(500.0), "c": ["x", "y"] * 250})
    parts = dd.from_pandas(frame, npartitions=5)
    pd.testing.assert_series_equal(parts.groupby("a").b.sum().compute().sort_index(), frame.groupby("a").b.sum())
    pd.testing.assert_frame_equal(parts[parts.b > 100].compute(), frame[frame.b > 100], check_dtype=False)
    merged = parts.merge(dd.from_pandas(frame.iloc[:7][["a"]], npartitions=2), on="a").compute()
    assert len(merged) == 500
    assert len(parts) == 500


def test_xarray(engine: Executor) -> None:
    data = xr.Dataset({"t": (("x", "y"), np.arange(12.0).reshape(3, 4))}, coords={"x": [10, 20, 30]})
    chunked = data.chunk(x=1, y=2)
    computed = (chunked.t * 2).mean("y").compute()
    xr.testing.assert_allclose(computed, (data.t * 2).mean("y"))
    loaded = chunked.compute()
    loaded.t[0, 0] = 100
    assert loaded.t.values[0, 0] == 100
    halves = xr.apply_ufunc(np.sqrt, chunked.t, dask="parallelized", output_dtypes=[float])
    xr.testing.assert_allclose(halves.compute(), np.sqrt(data.t))


def test_delayed_and_persist(engine: Executor) -> None:
    total = dask.delayed(sum)([dask.delayed(inc)(i) for i in range(20)])
    assert total.compute() == 210
    nested = dask.delayed(dict)(a=dask.delayed(inc)(1), b=[dask.delayed(inc)(2), {"c": dask.delayed(inc)(3)}])
    assert nested.compute() == {"a": 2, "b": [3, {"c": 4}]}
    kept = da.ones(10, chunks=3).persist()
    assert kept.sum().compute() == 10


def test_it_runs_on_the_engine(engine: Executor) -> None:
    pids = set(dask.compute(*[dask.delayed(process)(i) for i in range(20)]))
    assert (os.getpid() in pids) == engine.shares_memory


# ---- graphs


def test_legacy_graphs_and_nested_keys(engine: Executor) -> None:
    graph = {"x": 1, "y": (inc, "x"), ("z", 0): (sum, ["x", "y", 10]), "alias": ("z", 0), "list": ["x", ["y", 5]]}
    assert get(graph, "y") == 2
    assert get(graph, ("z", 0)) == 13
    assert get(graph, [["y", ("z", 0)], "alias", []]) == ((2, 13), 13, ())
    assert get(graph, "list") == [1, [2, 5]]
    assert get(graph, ["y", "y"]) == (2, 2)
    assert get({"f": (inc, (inc, (inc, 0)))}, "f") == 3
    assert get(graph, []) == ()


def test_task_specifications_of_all_kinds(engine: Executor) -> None:
    a, b, ref = spec.DataNode("a", 1), spec.DataNode("b", (1, [2])), spec.TaskRef
    graph = {
        "a": a,
        "b": b,
        "same": spec.Alias("same", "a"),
        "again": spec.Alias("again", "same"),
        "inc": spec.Task("inc", inc, ref("a")),
        "nested": spec.Task("nested", inc, spec.Task(None, inc, ref("again"))),
        "list": spec.Task("list", joined, spec.List(ref("a"), 5), spec.Dict({"k": ref("inc")}), sep=":"),
        "tuple": spec.Tuple(ref("a"), spec.Set(ref("inc"))),
        "keywords": spec.Task("keywords", joined, ref("a"), "b", sep="+", end="!"),
        "refers": spec.Task("refers", joined, ref("a"), ref("a"), sep=ref("keywords")),
        "plain": spec.Task("plain", joined, [1, {"a": (2,)}], slice(3), np.arange(2), ref("a")),
        "like": spec.Task("like", joined, [1], ref("inc")),
        "fused": spec.Task.fuse(
            spec.Task("p", inc, ref("inc")), spec.Task("q", joined, ref("p"), ref("a"), end="?"), key="fused"
        ),
    }
    keys = ["b", "again", "inc", "nested", "list", "tuple", "keywords", "refers", "plain", "like", "fused"]
    assert get(graph, keys) == dask.get(graph, keys)
    assert get(graph, "fused") == "3-1?"


def test_what_a_graph_is_given_as(engine: Executor) -> None:
    array = da.ones(6, chunks=2)
    graph = array.__dask_graph__()
    assert isinstance(graph, HighLevelGraph)
    assert np.array_equal(np.concatenate(get(graph, array.__dask_keys__())), np.ones(6))


def test_deep_and_wide_graphs(engine: Executor) -> None:
    chain: dict[Any, Any] = {("c", 0): 0, **{("c", i): (inc, ("c", i - 1)) for i in range(1, 5000)}}
    assert get(chain, ("c", 4999)) == 4999
    wide: dict[Any, Any] = {("w", i): (inc, i) for i in range(3000)}
    wide["sum"] = (sum, list(wide))
    assert get(wide, "sum") == 3000 * 3001 // 2


def test_random_graphs_give_what_dask_gives(engine: Executor, rng: random.Random) -> None:
    for _ in range(10):
        graph: dict[Any, Any] = {}
        for i in range(60):
            known = rng.sample(list(graph), min(len(graph), rng.randrange(4)))
            graph[f"k{i}"] = rng.choice(
                [rng.random(), known, (joined, *known, i), (joined, known, {"d": known[:1]}), known[0] if known else i]
            )
        keys = [rng.sample(list(graph), 5), rng.choice(list(graph))]
        assert get(graph, keys) == dask.get(graph, keys)


def test_graphs_that_are_wrong(engine: Executor) -> None:
    with pytest.raises(KeyError, match=r"'x'.*'y' needs"):
        get({"y": spec.Task("y", inc, spec.TaskRef("x"))}, "y")
    with pytest.raises(KeyError, match="'nothing'"):
        get({"y": 1}, ["nothing"])
    with pytest.raises(ValueError, match="cycle"):
        get({"a": (inc, "b"), "b": (inc, "c"), "c": (inc, "a")}, "c")
    with pytest.raises(ValueError, match="cycle"):
        get({"a": (inc, "a")}, "a")


# ---- errors


def test_errors_keep_their_type(engine: Executor) -> None:
    with pytest.raises(KeyError, match="not this one") as caught:
        dask.delayed(inc)(dask.delayed(fail)(1)).compute()
    assert any("fail(" in note for note in caught.value.__notes__)


def test_a_task_that_writes_to_its_input_fails(engine: Executor) -> None:
    """Rather than to change what others need."""
    array = dask.delayed(np.zeros)(3)
    with pytest.raises(ValueError, match="read-only"):
        dask.compute(dask.delayed(set_first)(array), dask.delayed(np.sum)(array))


# ---- nothing is found that is not meant


def test_nothing_is_taken_for_the_same(engine: Executor, tmp_path: Any) -> None:
    """Equal keys and equal calls in other graphs are computed anew."""
    file = tmp_path / "number"
    for number in ("1", "2"):
        file.write_text(number)
        graph = {"key": (_read, str(file)), "twice": (joined, "key", "key")}
        assert get(graph, ["key", "twice"]) == (number, f"{number}-{number}")
        assert dask.delayed(_read, pure=True)(str(file)).compute() == number


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def test_a_random_draw_is_made_each_time() -> None:
    drawn: list[float] = []
    graph = {"a": (random.random,), "b": (random.random,), "both": (joined, "a", "b")}
    for _ in range(3):
        a, b, both = get(graph, ["a", "b", "both"])
        assert both == f"{a}-{b}"
        drawn += [a, b]
    assert len(set(drawn)) == 6


def test_a_cache_is_refused(tmp_path: Any) -> None:
    with pytest.raises(TypeError, match="cache="):
        da.ones(3, chunks=1).sum().compute(scheduler=get, cache=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


# ---- options


def test_options_of_compute(loky: Loky) -> None:
    x = dask.delayed(process)(1)
    assert x.compute(scheduler=get) == os.getpid()
    assert x.compute(scheduler=get, executor=loky) != os.getpid()
    assert x.compute(scheduler=get, executor="loky", num_workers=1) != os.getpid()
    seen: list[Any] = []
    x.compute(scheduler=get, progress=seen.append)
    assert seen
    with pytest.raises(TypeError, match="no option 'chunksize'"):
        x.compute(scheduler=get, chunksize=3)
    with pytest.raises(ValueError, match="no executor"):
        x.compute(scheduler=get, executor="nowhere")


def test_callbacks_of_dask_that_hear_nothing_are_told_of() -> None:
    with ProgressBar(out=None), pytest.warns(UserWarning, match="callbacks"):
        assert dask.delayed(inc)(1).compute(scheduler=get) == 2


def test_what_a_task_computes_with_dask_stays_in_its_worker(loky: Loky) -> None:
    with gr.use(loky), dask.config.set(scheduler=get):
        found = dask.compute(*[dask.delayed(inner)(i) for i in range(4)])
    assert os.getpid() not in {pid for pid, _, _ in found}
    assert {(values, alone) for _, values, alone in found} == {(8, True)}


@pytest.mark.parametrize(
    "files",
    [
        {"dask.py": "raise ModuleNotFoundError(\"No module named 'dask'\", name='dask')"},
        {"dask/__init__.py": "", "dask/utils.py": "funcname = repr"},
        {"dask/__init__.py": "", "dask/utils.py": "funcname = repr", "dask/_task_spec.py": "class Task: pass"},
    ],
    ids=["none", "old", "changed"],
)
def test_without_a_dask_that_will_do_it_says_what_to_install(files: dict[str, str], tmp_path: Any) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import graphray.interop.dask"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "ImportError: graphray.interop.dask needs Dask" in done.stderr
    assert "pip install 'graphray[dask]'" in done.stderr
