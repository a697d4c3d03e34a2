"""joblib, and scikit-learn, on graphray's engines."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import joblib
import numpy as np
import psutil
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.svm import SVC

import graphray as gr
import graphray.interop.joblib
from graphray.executors import Executor, InProcess, Loky


@pytest.fixture(params=["inprocess", "inprocess:3", "loky"])
def engine(request: pytest.FixtureRequest, loky: Loky) -> Iterator[Executor]:
    """An engine that joblib runs on."""
    with InProcess(3 if request.param == "inprocess:3" else 1) as made:
        chosen = loky if request.param == "loky" else made
        with parallel_config("graphray", executor=chosen):
            yield chosen


def square(x: int) -> int:
    return x * x


def fail_at(x: int, bad: int) -> int:
    if x == bad:
        raise KeyError(f"no {bad}")
    return x


def inside(n: int, **options: Any) -> tuple[int, list[float], bool]:
    """A `Parallel` inside a task: where its calls are made, and whether in threads of their own."""
    before = threading.active_count()
    calls = Parallel(n_jobs=4, **options)(delayed(where)(i) for i in range(n))
    assert {pid for pid, _, _ in calls} == {os.getpid()}
    return os.getpid(), [root for _, root, _ in calls], max(t for *_, t in calls) <= before


def where(i: int) -> tuple[int, float, int]:
    return os.getpid(), math.sqrt(i), threading.active_count()


def facts(array: Any, scale: float = 1) -> tuple[float, bool]:
    return float(array.sum() * scale), array.flags.writeable


def ones(n: int) -> Any:
    return np.ones(n)


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


# ---- joblib


def test_calls_come_back_in_order(engine: Executor) -> None:
    assert Parallel()(delayed(square)(i) for i in range(500)) == [i * i for i in range(500)]
    assert Parallel(n_jobs=2, batch_size=7)(delayed(square)(i) for i in range(50)) == [i * i for i in range(50)]
    assert Parallel(pre_dispatch="all")(delayed(square)(i) for i in range(50)) == [i * i for i in range(50)]
    assert Parallel(pre_dispatch=1, batch_size=1)(delayed(square)(i) for i in range(20)) == [i * i for i in range(20)]
    assert Parallel()([]) == []
    factor = 3
    assert Parallel()(delayed(lambda x: factor * x)(i) for i in range(5)) == [0, 3, 6, 9, 12]


def test_calls_are_made_by_the_engine(engine: Executor) -> None:
    found = {pid for pid, _, _ in Parallel()(delayed(where)(i) for i in range(20))}
    assert (os.getpid() in found) == engine.shares_memory


def test_numbers_of_jobs(engine: Executor) -> None:
    workers = engine.workers
    assert joblib.effective_n_jobs(-1) == workers
    assert joblib.effective_n_jobs(-2) == max(workers - 1, 1)
    assert joblib.effective_n_jobs(1000) == workers
    with pytest.raises(ValueError, match="no meaning"):
        Parallel(n_jobs=0)(delayed(square)(i) for i in range(3))


def test_no_more_batches_at_a_time_than_jobs() -> None:
    now, most = [0], [0]
    lock = threading.Lock()

    def call() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.005)
        with lock:
            now[0] -= 1

    with InProcess(4) as engine, parallel_config("graphray", executor=engine):
        Parallel(n_jobs=2, batch_size=1)(delayed(call)() for _ in range(20))
    assert most[0] == 2


def test_short_calls_are_put_together(loky: Loky) -> None:
    with parallel_config("graphray", executor=loky):
        parallel = Parallel(n_jobs=2)
        parallel(delayed(square)(i) for i in range(3000))
        assert 1 < parallel.n_dispatched_batches < 1500


def test_generators(engine: Executor) -> None:
    squares = [i * i for i in range(50)]
    assert list(Parallel(return_as="generator")(delayed(square)(i) for i in range(50))) == squares
    assert sorted(Parallel(return_as="generator_unordered")(delayed(square)(i) for i in range(50))) == squares


def test_a_generator_and_another_call_at_a_time(engine: Executor) -> None:
    """Under one configuration they share a backend: the end of one is not that of the other."""
    one = Parallel(return_as="generator", batch_size=1)(delayed(nap)(0.001) for _ in range(60))
    assert next(one) == 0.001
    assert Parallel()(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]
    assert list(one) == [0.001] * 59


def test_a_generator_that_is_dropped(loky: Loky) -> None:
    with parallel_config("graphray", executor=loky):
        values = Parallel(return_as="generator", batch_size=1)(delayed(nap)(0.01) for _ in range(500))
        assert next(values) == 0.01
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib says that the rest was for nothing
            del values
            gc.collect()
        assert Parallel()(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]


def test_an_error_ends_the_call_and_not_the_engine(engine: Executor) -> None:
    with pytest.raises(KeyError, match="no 13"):
        Parallel()(delayed(fail_at)(i, 13) for i in range(100))
    assert Parallel()(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]
    with Parallel() as parallel:  # one pool for several calls
        for bad in range(3, 12):
            with pytest.raises(KeyError, match=f"no {bad}"):
                parallel(delayed(fail_at)(i, bad) for i in range(40))
            assert parallel(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]


def test_an_error_of_the_iterable(engine: Executor) -> None:
    def calls() -> Iterator[Any]:
        yield from [delayed(square)(i) for i in range(20)]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Parallel(batch_size=1)(calls())


def test_a_call_that_takes_too_long() -> None:
    with Loky(2) as engine, parallel_config("graphray", executor=engine):
        Parallel()(delayed(nap)(0.01) for _ in range(4))
        began = time.monotonic()
        with pytest.raises(multiprocessing.TimeoutError):
            Parallel(timeout=0.5)(delayed(nap)(t) for t in (0.0, 60.0))
        assert time.monotonic() - began < 30
        assert Parallel()(delayed(square)(i) for i in range(10)) == [i * i for i in range(10)]


@pytest.mark.parametrize("options", [{}, {"backend": "graphray"}], ids=str)
def test_parallel_inside_parallel_starts_no_pool(engine: Executor, options: Any) -> None:
    found = Parallel()(delayed(inside)(5, **options) for _ in range(4))
    for pid, roots, alone in found:
        assert (pid == os.getpid()) == engine.shares_memory
        assert roots == [math.sqrt(i) for i in range(5)]
        assert alone or engine.shares_memory  # other threads of this process come and go


def test_results_may_be_written_to(engine: Executor) -> None:
    for n in (10, 200_000):
        for array in Parallel()(delayed(ones)(n) for _ in range(3)):
            array[0] = 2
            assert array.sum() == n + 1


def test_large_arguments_are_sent_once(loky: Loky) -> None:
    big = np.ones(500_000)
    with parallel_config("graphray", executor=loky):
        calls = [delayed(facts)(big), delayed(facts)(array=big, scale=2), delayed(facts)(np.ones(10))] * 5
        assert Parallel()(calls) == [(500_000, False), (1_000_000, False), (10, True)] * 5
        assert Parallel(max_nbytes=None)(calls[:1] * 3) == [(500_000, True)] * 3
        assert Parallel(mmap_mode="c")(calls[:1] * 3) == [(500_000, True)] * 3
        big[:] = 2  # a later call sees it as it is then
        assert Parallel()(calls[:1] * 3) == [(1_000_000, False)] * 3


def test_an_engine_by_name_lasts_for_one_call() -> None:
    with parallel_config("graphray", executor="loky:2"):
        for _ in range(2):
            found = {pid for pid, _, _ in Parallel()(delayed(where)(i) for i in range(8))}
            assert os.getpid() not in found
            assert not any(map(psutil.pid_exists, found))
        with pytest.raises(KeyError):
            Parallel()(delayed(fail_at)(i, 1) for i in range(8))


def test_the_default_engine(loky: Loky) -> None:
    with gr.use(loky):
        found = Parallel(backend="graphray", n_jobs=2)(delayed(where)(i) for i in range(8))
    assert os.getpid() not in {pid for pid, _, _ in found}
    assert Parallel(backend="graphray")(delayed(where)(i) for i in range(2))[0][0] == os.getpid()


def test_wrong_engines_are_refused() -> None:
    with pytest.raises(ValueError, match="no executor 'nowhere'"):
        parallel_config("graphray", executor="nowhere")
    with pytest.raises(TypeError, match="executor"):
        parallel_config("graphray", executor=3)


def test_shared_memory_is_had_where_it_is(engine: Executor) -> None:
    seen: list[int] = []
    Parallel(n_jobs=2, require="sharedmem")(delayed(seen.append)(i) for i in range(10))
    assert sorted(seen) == list(range(10))


def test_the_pool_is_made_of_loky_s_processes_whatever_joblib_brings_along() -> None:
    """Both register themselves under one name, and the one that is imported last has it."""
    program = """
import graphray as gr
from graphray.executors import Loky
import graphray.interop.joblib
import sys

def where():
    return sorted(name for name in sys.modules if name.endswith("popen_loky_posix"))

if __name__ == "__main__":
    with Loky(1) as pool:
        pool.compute(gr.call(int))
        print(where())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("['loky.backend.popen_loky_posix']", "")


# ---- scikit-learn


@pytest.fixture(scope="module")
def iris() -> tuple[Any, Any]:
    return load_iris(return_X_y=True)


def test_a_grid_search(engine: Executor, iris: tuple[Any, Any]) -> None:
    grid = {"C": [0.01, 1, 10], "gamma": [0.1, 1]}
    search = GridSearchCV(SVC(), grid, cv=3).fit(*iris)
    with parallel_config("sequential"):
        alone = GridSearchCV(SVC(), grid, cv=3).fit(*iris)
    assert search.best_params_ == alone.best_params_
    assert search.cv_results_["mean_test_score"].tolist() == alone.cv_results_["mean_test_score"].tolist()


def test_cross_validation(engine: Executor, iris: tuple[Any, Any]) -> None:
    scores = cross_val_score(SVC(), *iris, n_jobs=-1)
    predicted = cross_val_predict(SVC(), *iris, n_jobs=-1)
    with parallel_config("sequential"):
        assert scores.tolist() == cross_val_score(SVC(), *iris).tolist()
        assert predicted.tolist() == cross_val_predict(SVC(), *iris).tolist()


def test_a_forest_inside_a_search(engine: Executor, iris: tuple[Any, Any]) -> None:
    """Which is parallel too, and asks for threads."""
    forest = RandomForestClassifier(5, random_state=0, n_jobs=2)
    search = GridSearchCV(forest, {"max_depth": [1, 3]}, cv=2).fit(*iris)
    assert search.best_params_ == {"max_depth": 3}


def test_an_estimator_that_fails(engine: Executor, iris: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="All the 2 fits failed"):
        cross_val_score(LogisticRegression(C=-1), *iris, cv=2)


# ---- installing


def test_without_joblib_it_says_what_to_install(tmp_path: Any) -> None:
    (tmp_path / "joblib.py").write_text("raise ModuleNotFoundError(\"No module named 'joblib'\", name='joblib')")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import graphray.interop.joblib"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "pip install 'graphray[joblib]'" in done.stderr
