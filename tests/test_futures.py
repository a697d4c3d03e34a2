"""An engine as a `concurrent.futures.Executor`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import graphray as gr
from graphray.executors import Executor, InProcess, Loky

SOON = 30  # seconds in which what a test waits for is there


@pytest.fixture(params=["inprocess", "inprocess:2", "loky"])
def engine(request: pytest.FixtureRequest, loky: Loky) -> Iterator[Executor]:
    if request.param == "loky":
        yield loky
    else:
        with InProcess(2 if request.param.endswith("2") else 1) as made:
            yield made


def double(x: int) -> int:
    return 2 * x


def fail(x: int) -> int:
    raise KeyError(x)


def add(x: Any, *, y: Any = 1) -> Any:
    return x + y


def process() -> int:
    return os.getpid()


def ones(n: int) -> Any:
    return np.ones(n)


def fill(array: Any) -> float:
    array[:] = 2
    return float(array.sum())


def a_node(x: int) -> gr.Node:
    return gr.call(double, x)


def end_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, x: int) -> int:
        return self.start + x

    def method(self, x: int) -> int:
        return self.start * x


VARIABLE = 1


# ---- calls and their values


def test_calls_give_values(engine: Executor) -> None:
    with engine.futures() as pool:
        assert isinstance(pool, concurrent.futures.Executor)
        assert pool.submit(double, 4).result(SOON) == 8
        assert pool.submit(add, 1, y=2).result(SOON) == 3
        assert pool.submit(add, [1], y=[2]).result(SOON) == [1, 2]
        assert pool.submit(Counter(5), 1).result(SOON) == 6
        assert pool.submit(Counter(5).method, 2).result(SOON) == 10
        assert pool.submit(functools.partial(add, 1), y=5).result(SOON) == 6
        assert pool.submit(lambda: VARIABLE).result(SOON) == 1
        assert pool.submit(max, [3, 4]).result(SOON) == 4


def test_many_calls_from_several_threads(engine: Executor) -> None:
    found: dict[int, list[int]] = {}
    with engine.futures() as pool:

        def submit(k: int) -> None:
            futures = [pool.submit(double, 1000 * k + i) for i in range(1000)]
            found[k] = [f.result(SOON) for f in futures]

        threads = [threading.Thread(target=submit, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
    assert found == {k: [2 * (1000 * k + i) for i in range(1000)] for k in range(4)}


def test_an_exception_keeps_its_type_and_says_where(engine: Executor) -> None:
    with engine.futures() as pool:
        error = pool.submit(fail, 7).exception(SOON)
        assert type(error) is KeyError
        assert error.args == (7,)
        assert "in fail(7) on " in error.__notes__[0]
        assert pool.submit(double, 1).result(SOON) == 2  # the others do not mind


def test_values_arrive_as_they_are(engine: Executor) -> None:
    """Not read-only, and not looked into: this is no graph."""
    with engine.futures() as pool:
        for n in (10, 100_000):
            array = pool.submit(ones, n).result(SOON)
            array[0] = 5
            assert array.sum() == n + 4
            mine = np.ones(n)
            assert pool.submit(fill, mine).result(SOON) == 2 * n
            assert mine[0] == (2 if engine.shares_memory else 1)
        assert type(pool.submit(a_node, 3).result(SOON)) is gr.Node


def test_nodes_among_arguments_stand_for_their_values(engine: Executor) -> None:
    table = gr.value(np.arange(100_000))
    with engine.futures() as pool:
        assert [f.result(SOON) for f in [pool.submit(np.sum, table) for _ in range(3)]] == [4999950000] * 3
        assert pool.submit(add, gr.call(double, 4), y=gr.call(double, 1)).result(SOON) == 10
        assert type(pool.submit(add, gr.call(fail, 4)).exception(SOON)) is KeyError


def test_a_task_is_called_with_its_options(engine: Executor) -> None:
    task = gr.task(time.sleep, timeout=0.05) if not engine.shares_memory else gr.task(double)
    with engine.futures() as pool:
        if engine.shares_memory:
            assert pool.submit(task, 2).result(SOON) == 4
        else:
            assert type(pool.submit(task, 20).exception(SOON)) is gr.TaskTimeout


def test_equal_calls_are_all_made() -> None:
    calls: list[int] = []
    with InProcess(2) as engine, engine.futures() as pool:
        concurrent.futures.wait([pool.submit(calls.append, 1) for _ in range(50)], SOON)
    assert calls == [1] * 50


def test_a_function_that_is_no_module_s_is_what_it_is_when_called(loky: Loky) -> None:
    factor = 1

    def times(x: int) -> int:
        return factor * x

    with loky.futures() as pool:
        assert pool.submit(times, 3).result(SOON) == 3
        factor = 2
        assert pool.submit(times, 3).result(SOON) == 6


def test_what_cannot_be_sent_fails_its_call_only(loky: Loky) -> None:
    with loky.futures() as pool:
        futures = [pool.submit(add, threading.Lock()), pool.submit(double, 2), pool.submit(threading.Lock)]
        with pytest.raises(TypeError, match="cannot be pickled"):
            futures[0].result(SOON)
        assert futures[1].result(SOON) == 4
        with pytest.raises(TypeError, match="cannot be pickled"):
            futures[2].result(SOON)


def test_calls_are_made_by_the_workers(loky: Loky) -> None:
    with loky.futures() as pool:
        assert os.getpid() not in {pool.submit(process).result(SOON) for _ in range(3)}


# ---- map


def test_map_keeps_the_order(engine: Executor) -> None:
    with engine.futures() as pool:
        assert list(pool.map(double, range(300))) == [2 * i for i in range(300)]
        assert list(pool.map(pow, range(100), [2] * 70, chunksize=7)) == [i * i for i in range(70)]
        assert list(pool.map(double, [])) == []
        with pytest.raises(KeyError):
            list(pool.map(fail, [1, 2], chunksize=2))
        with pytest.raises(ValueError, match="chunksize="):
            pool.map(double, [1], chunksize=0)


def test_map_times_out(loky: Loky) -> None:
    with loky.futures() as pool:
        results = pool.map(time.sleep, [0.0, 1.0], timeout=0.3)
        assert next(results) is None
        with pytest.raises(TimeoutError):
            next(results)


# ---- waiting, callbacks, cancelling


def test_waiting_for_the_first_and_for_all(engine: Executor) -> None:
    with engine.futures() as pool:
        futures = [pool.submit(double, i) for i in range(20)]
        assert {f.result() for f in concurrent.futures.as_completed(futures, SOON)} == {2 * i for i in range(20)}
        slow = [pool.submit(time.sleep, t) for t in (0.01, 0.3)]
        done, _ = concurrent.futures.wait(slow, SOON, return_when=concurrent.futures.FIRST_COMPLETED)
        assert slow[0] in done


def test_a_callback_may_submit_more_and_shut_down(engine: Executor) -> None:
    pool = engine.futures()
    got: list[int] = []
    over = threading.Event()

    def more(future: concurrent.futures.Future[int]) -> None:
        got.append(future.result())
        if future.result() < 100:
            pool.submit(double, future.result()).add_done_callback(more)
        else:
            pool.shutdown(wait=True)  # from the thread that would be waited for
            over.set()

    pool.submit(double, 1).add_done_callback(more)
    assert over.wait(SOON)
    assert got == [2, 4, 8, 16, 32, 64, 128]


def test_a_callback_that_fails_harms_nobody(engine: Executor, caplog: pytest.LogCaptureFixture) -> None:
    with engine.futures() as pool:
        pool.submit(double, 1).add_done_callback(lambda future: fail(3))
        assert pool.submit(double, 2).result(SOON) == 4
    assert "exception calling callback" in caplog.text


def test_what_is_not_running_can_be_cancelled() -> None:
    begun, go = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go.wait(SOON)

    with InProcess(2) as engine, engine.futures(max_workers=1) as pool:
        first = pool.submit(hold)
        others = [pool.submit(double, i) for i in range(5)]
        assert begun.wait(SOON)
        assert first.running()
        assert not first.cancel()
        assert others[1].cancel()
        assert others[3].cancel()
        go.set()
        _, pending = concurrent.futures.wait(others, SOON)
        assert not pending
        assert [f.cancelled() for f in others] == [False, True, False, True, False]
        assert [f.result() for f in others if not f.cancelled()] == [0, 4, 8]
        assert first.result() is None


def test_most_of_a_queue_of_long_calls_can_be_cancelled(loky: Loky) -> None:
    """Also after many short ones, for which much was handed on at a time."""
    with loky.futures() as pool:
        concurrent.futures.wait([pool.submit(double, i) for i in range(5000)], SOON)
        concurrent.futures.wait([pool.submit(time.sleep, 0.02) for _ in range(40)], SOON)
        waiting = [pool.submit(time.sleep, 0.05) for _ in range(2000)]
        pool.shutdown(cancel_futures=True)
        assert all(f.done() for f in waiting)
        assert sum(f.cancelled() for f in waiting) > 1000


def test_calls_begin_in_the_order_of_submission() -> None:
    order: list[int] = []
    go = threading.Event()
    with InProcess(2) as engine, engine.futures() as pool:
        hold = [pool.submit(go.wait, SOON) for _ in range(2)]
        futures = [pool.submit(order.append, i) for i in range(40)]
        go.set()
        concurrent.futures.wait([*hold, *futures], SOON)
    assert sorted(order) == list(range(40))
    # Each of the two threads goes through units of several, beside the other.
    assert max(abs(place - i) for place, i in enumerate(order)) < 20


def test_calls_of_one_worker_begin_in_the_order_of_submission() -> None:
    order: list[int] = []

    def note(i: int) -> None:
        order.append(i)
        time.sleep(0.002)

    with InProcess() as engine, engine.futures() as pool:
        for i in range(60):
            pool.submit(note, i)
            time.sleep(0.001)
    assert order == list(range(60))


def test_no_more_calls_at_a_time_than_asked_for() -> None:
    now, most = [0], [0]
    lock = threading.Lock()

    def call() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1

    with InProcess(4) as engine:
        for limit in (1, 2):
            most[0] = 0
            with engine.futures(limit) as pool:
                concurrent.futures.wait([pool.submit(call) for _ in range(30)], SOON)
            assert most[0] == limit
        with pytest.raises(ValueError, match="max_workers="):
            engine.futures(0)


# ---- ends


def test_shut_down_futures_take_no_more_and_leave_the_engine(engine: Executor) -> None:
    pool = engine.futures()
    future = pool.submit(double, 1)
    pool.shutdown()
    assert future.done()
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(double, 1)
    pool.shutdown()
    assert engine.compute(gr.call(double, 3)) == 6
    with engine.futures() as other:
        assert other.submit(double, 2).result(SOON) == 4


def test_shutting_down_without_waiting_lets_calls_finish(engine: Executor) -> None:
    pool = engine.futures()
    futures = [pool.submit(time.sleep, 0.01) for _ in range(10)]
    pool.shutdown(wait=False)
    assert [f.result(SOON) for f in futures] == [None] * 10


@pytest.mark.parametrize("make", [InProcess, lambda: InProcess(2), lambda: Loky(1)])
def test_an_engine_that_is_closed_ends_its_futures(make: Any) -> None:
    engine = make()
    pool = engine.futures()
    assert pool.submit(double, 1).result(SOON) == 2
    futures = [pool.submit(time.sleep, 0.2) for _ in range(50)]
    time.sleep(0.05)
    engine.close(wait=False)
    _, pending = concurrent.futures.wait(futures, SOON)
    assert not pending
    ends = [None if f.cancelled() else f.exception() for f in futures]
    assert all(e is None or type(e) is gr.Cancelled for e in ends)
    assert futures[-1].cancelled()
    with pytest.raises(RuntimeError, match=r"closed|shut down"):
        pool.submit(double, 1)


def test_futures_that_nobody_holds_end(engine: Executor) -> None:
    """The suite looks for the thread."""
    future = engine.futures().submit(double, 1)
    gc.collect()
    assert future.result(SOON) == 2


def test_aborted_calls_end_with_their_processes() -> None:
    with Loky(1) as engine:
        pool = engine.futures()
        futures = [pool.submit(time.sleep, 60) for _ in range(5)]
        time.sleep(0.3)
        pool.abort()
        _, pending = concurrent.futures.wait(futures, SOON)
        assert not pending
        assert engine.compute(gr.call(double, 3)) == 6


def test_a_worker_that_dies_costs_only_what_kills_it() -> None:
    with Loky(2) as engine, engine.futures() as pool:
        futures = [pool.submit(double, i) for i in range(100)]
        dead = pool.submit(end_worker)
        more = [pool.submit(double, i) for i in range(100)]
        error = dead.exception(SOON)
        assert isinstance(error, gr.WorkerDied)
        assert error.signal == "SIGKILL"
        assert [f.result(SOON) for f in [*futures, *more]] == [2 * i for i in range(100)] * 2


def test_a_program_that_ends_finishes_what_it_submitted(tmp_path: Any) -> None:
    program = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
import pathlib
import graphray as gr
if __name__ == "__main__":
    engine = gr.executors.{{engine}}
    pool = engine.futures()
    for i in range(20):
        pool.submit(pathlib.Path({str(tmp_path)!r}, str(i)).write_text, "done")
"""
    for engine in ("InProcess()", "Loky(1)"):
        done = subprocess.run(
            [sys.executable, "-c", program.format(engine=engine)], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert len(list(tmp_path.iterdir())) == 20
        for file in tmp_path.iterdir():
            file.unlink()


# ---- inside others


def test_asyncio_runs_in_it(engine: Executor) -> None:
    async def main(pool: concurrent.futures.Executor) -> list[int]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(pool, double, i) for i in range(20)]
        with pytest.raises(KeyError):
            await loop.run_in_executor(pool, fail, 1)
        return await asyncio.gather(*calls)

    with engine.futures() as pool:
        assert asyncio.run(main(pool)) == [2 * i for i in range(20)]
