"""Defects that a review found in starting runs, their handles, `gr.use`, `gr.local` and the options of tasks."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import graphray as gr
from graphray.executors import InProcess, Loky
from graphray.executors.events import Progressed, RunFinished


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


# ---- handles


class _Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), _Stop()])
@pytest.mark.parametrize("engine", ["inprocess", "inprocess:2"])
def test_a_subscriber_that_fails_hangs_nothing(engine: str, error: BaseException) -> None:
    """Also where warnings are errors."""

    def fail(event: Any) -> None:
        raise error

    assert double(1).compute(engine, progress=fail) == 2


def test_a_failing_subscriber_is_told_of_once() -> None:
    def fail(event: Any) -> None:
        raise ValueError("no")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert double(1).compute(progress=fail) == 2
    assert ["no" in str(w.message) for w in caught] == [True]


def test_a_run_that_is_left_without_exception_has_no_error() -> None:
    for engine in (InProcess(), InProcess(2)):
        with engine, engine.open() as run:
            run.add(double(1))
            assert [done.result() for done in run.as_completed()] == [2]
        last = run.events[-1]
        assert isinstance(last, RunFinished)
        assert last.error is None


def test_a_growing_run_that_is_cancelled_says_so() -> None:
    with InProcess(2) as engine:
        with engine.open() as run:
            run.cancel()
        last = run.events[-1]
        assert isinstance(last, RunFinished)
        assert isinstance(last.error, gr.Cancelled)


def test_a_released_value_is_not_none() -> None:
    with InProcess(2) as engine, engine.open() as run:
        node = run.add(double(1))
        deadline = time.monotonic() + 10
        while not run.summary()["nodes"] and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        run.release(node)
        time.sleep(0.1)
        (done,) = run.as_completed()
        with pytest.raises(RuntimeError, match="let go"):
            done.result()


def test_events_of_a_growing_run_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphray.executors.run.KEPT", 50)
    with InProcess() as engine, engine.open() as run:
        for i in range(500):
            run.publish(Progressed(float(i), i, i))
        assert 50 <= len(run.events) <= 100
        assert run.events[-1].time == 499.0


@pytest.mark.parametrize("ask", [True, False])
def test_an_engine_made_for_a_run_ends_with_it(ask: bool) -> None:
    """Also if nobody asks for the result; the fixture of the suite looks for processes."""
    run = gr.Graph(double(4)).run("loky:1")
    assert run._over.wait(30)
    if ask:
        assert run.result() == 8
        assert run.result() == 8


def test_an_engine_made_for_a_run_ends_with_its_cancelling() -> None:
    run = gr.Graph(gr.call(time.sleep, 30)).run("loky:1")
    time.sleep(0.2)
    run.cancel()
    assert run._over.wait(10)
    with pytest.raises(gr.Cancelled):
        run.result()


# ---- starting


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


# ---- gr.local


class Maker:
    """Makes a list that says by whom."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        self.name = name

    def make(self) -> list[str]:
        return [self.name]


def closing_over(x: Any) -> Callable[[], list[Any]]:
    return lambda: [x]


def with_default(x: Any) -> Callable[[], list[Any]]:
    def make(y: Any = x, *, z: Any = x) -> list[Any]:
        return [y]

    return make


def test_local_tells_factories_apart() -> None:
    for make in (closing_over, with_default):
        a, b, again = (gr.local(make(x)) for x in ("a", "b", "a"))
        assert (a, b) == (["a"], ["b"])
        assert again is a
    one, two = Maker("one"), Maker("two")
    assert gr.local(one.make) == ["one"]
    assert gr.local(two.make) == ["two"]
    assert gr.local(one.make) is gr.local(one.make)
    unhashable = gr.local(closing_over(["u"]))
    assert gr.local(closing_over(["u"])) is not unhashable


def test_local_tells_types_of_arguments_apart() -> None:
    def factory(x: Any) -> list[Any]:
        return [x]

    made = [gr.local(factory, x)[0] for x in (1, True, 1.0, (1,), (True,))]
    assert list(map(repr, made)) == ["1", "True", "1.0", "(1,)", "(True,)"]
    with pytest.raises(TypeError, match="unhashable"):
        gr.local(factory, [])


def test_local_sees_that_a_class_is_another() -> None:
    def define(value: int) -> type:
        class Thing:
            number = value

        return Thing

    assert [gr.local(define(i)).number for i in (1, 2)] == [1, 2]


def test_local_follows_functions_that_refer_to_themselves() -> None:
    def factory(depth: int = 1) -> list[Any]:
        return [factory(depth - 1)] if depth else []

    assert gr.local(factory) == [[]]
    assert gr.local(factory) is gr.local(factory)


def test_a_factory_that_raises_leaves_nothing_behind() -> None:
    calls = []

    def factory() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("not yet")
        return 7

    with pytest.raises(ValueError, match="not yet"):
        gr.local(factory)
    assert gr.local(factory) == 7
    assert gr.local(factory) == 7
    assert len(calls) == 2


def test_local_factories_do_not_wait_for_one_another() -> None:
    began, go = threading.Event(), threading.Event()

    def slow() -> str:
        began.set()
        assert go.wait(10)
        return "slow"

    thread = threading.Thread(target=gr.local, args=(slow,))
    thread.start()
    try:
        assert began.wait(10)
        assert gr.local(lambda: "fast") == "fast"
    finally:
        go.set()
        thread.join()


@pytest.mark.parametrize("nested", [False, True])
def test_threads_of_an_engine_are_workers(nested: bool) -> None:
    """So are they for runs inside their tasks."""
    barrier = threading.Barrier(2)

    @gr.task
    def make() -> tuple[Any, ...]:
        return gr.local(object), None

    @gr.task
    def ask(i: int) -> tuple[Any, Any]:
        barrier.wait(10)
        inside = make().compute()[0] if nested else None
        return gr.local(object), inside

    with InProcess(2) as engine:
        for _ in range(3):
            (one, one_inside), (two, two_inside) = engine.compute(gr.Graph([ask(0), ask(1)]))
            assert one is not two
            if nested:
                assert one_inside is one
                assert two_inside is two


def test_an_object_that_needs_itself_is_refused() -> None:
    def factory() -> Any:
        return gr.local(factory)

    with pytest.raises(RuntimeError, match="needs the object itself"):
        gr.local(factory)


# ---- options of tasks


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("pure", "no"),
        ("pure", None),
        ("seed", 3),
        ("jit", 1),
        ("cache", "yes"),
        ("cache", 0),
        ("near", []),
        ("timeout", "1 s"),
    ],
)
def test_wrong_options_of_tasks_are_refused(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{option}= is"):
        gr.task(**{option: value})


def test_right_options_of_tasks_are_not() -> None:
    for near in (None, "key", ("a", 1), lambda x: x):
        assert gr.task(pure=False, seed=False, jit=False, cache=None, near=near)(abs)(-1).compute() == 1
