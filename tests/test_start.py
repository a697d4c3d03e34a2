"""Which engine a run gets, how that starts and is closed again, and `gr.use`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import graphray as gr
from graphray.executors import InProcess, Loky


@gr.task
def double(x: int) -> int:
    return 2 * x


@gr.task
def thread_computes(x: int) -> list[Any]:
    """What a run in a thread of this task's own gives."""
    found: list[Any] = []

    def compute() -> None:
        try:
            found.append(double(x).compute())
        except Exception as error:
            found.append(repr(error))

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    return found


def test_wrong_options_leave_no_engine() -> None:
    with pytest.raises(TypeError, match="progress="):
        double(1).compute("loky", progress=3)
    with pytest.raises(ValueError, match="threads_per_task="):
        double(1).compute("loky", threads_per_task=0)


def test_an_engine_that_does_not_start_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Loky) -> list[str]:
        raise OSError("no more processes")

    monkeypatch.setattr(Loky, "start", fail)
    with pytest.raises(OSError, match="no more processes"):
        double(1).compute("loky:1")


@pytest.mark.parametrize("name", ["loky:", "inprocess:", "loky:0", "loky:x"])
def test_a_colon_without_a_number_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="number of workers"):
        double(1).compute(name)


def test_a_wrong_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHRAY_EXECUTOR", "lokky")
    with pytest.raises(ValueError, match=r"GRAPHRAY_EXECUTOR is 'lokky'.*there is no executor"):
        double(1).compute()


def test_threads_of_a_task_in_a_worker_make_no_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHRAY_EXECUTOR", "loky:1")
    assert thread_computes(3).compute() == [6]


# ---- gr.use


@pytest.fixture
def default() -> Iterator[None]:
    """Whatever a test makes the default, it is not afterwards."""
    yield
    gr.use(None)


def closed(executor: Any) -> bool:
    try:
        executor.compute(double(1))
    except RuntimeError:
        return True
    return False


@pytest.mark.parametrize(
    ("wrong", "error"),
    [((5,), TypeError), (("lokky",), ValueError), ((None, 2), ValueError), ((InProcess(), 2), ValueError)],
)
def test_use_refuses(default: None, wrong: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        gr.use(*wrong)
    assert double(1).compute() == 2


def test_the_next_use_closes_what_the_last_one_made(default: None) -> None:
    first = gr.use("inprocess:2").executor
    assert double(1).compute() == 2
    second = gr.use("inprocess").executor
    assert closed(first)
    assert not closed(second)


def test_blocks_restore_the_default(default: None) -> None:
    plain = gr.use("inprocess:2")
    with gr.use("inprocess") as outer:
        with gr.use("inprocess") as inner:
            assert not closed(outer)
        assert closed(inner)
        assert not closed(outer)
        left = gr.use("inprocess:2").executor
        assert not closed(left)
    assert closed(outer)
    assert closed(left)
    assert double(1).compute() == 2
    assert not closed(plain.executor)


def test_an_instance_that_was_used_is_the_callers(default: None) -> None:
    with InProcess() as mine:
        gr.use(mine)
        gr.use(None)
        assert not closed(mine)


def test_a_first_run_loads_no_more_than_it_needs():
    """What a cache, a trace, an audit or a pool need is loaded by those: it takes longer than a small graph does."""
    program = """
import sys
import graphray as gr
before = set(sys.modules)
gr.Graph(gr.map(abs, range(10))).compute()
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "graphray.executors.inprocess" in loaded
    assert not loaded & {"hashlib", "json", "pickle", "random", "re", "typing", "graphray.executors.cache"}
