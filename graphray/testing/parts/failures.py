"""Failures: exceptions keep their type and say where; what depends on a failure is skipped; the engine stays usable."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.executors.events import NodeFailed
from graphray.testing.part import Part, needs
from graphray.testing.tasks import (
    Odd,
    Stubborn,
    add,
    as_graph,
    divide,
    fail,
    fail_at_first,
    fail_because,
    fail_below,
    fail_odd,
    fail_on,
    identity,
    leave,
    nap,
    noted,
    notes,
    scale,
    total,
)


@gr.task
def fail_after(seconds: float, text: str) -> Any:
    """Raise, but not at once."""
    nap.fn(seconds)
    raise ValueError(text)


@gr.task
def fail_deeper(x: int) -> Any:
    """Return nodes of which one fails and one needs it."""
    return add(add(fail(f"inside {x}"), 1), scale(x))


def fail_stubborn_on(matrix: Any) -> Any:
    """Raise an exception that pickling does not carry its notes for."""
    raise Stubborn(str(matrix.shape))


class Base(BaseException):
    """What does not derive from `Exception`."""


def fail_basely() -> Any:
    """Raise what `except Exception` lets through."""
    raise Base("base")


@gr.task
def fail_basely_below(x: int) -> Any:
    """Return a node that raises it."""
    return add(scale(x), gr.call(fail_basely))


def fail_in_a_run_inside() -> Any:
    """Compute a graph that fails."""
    return fail("inside").compute()


@gr.task
def fail_big() -> Any:
    """Raise an exception that carries an array."""
    error = ValueError("big")
    error.array = np.arange(100_000)  # type: ignore[attr-defined]
    raise error


@gr.task
def fail_in_group() -> Any:
    """Raise several exceptions at once."""
    raise ExceptionGroup("several", [ValueError("one"), KeyError("two")])


@gr.task
def fail_while_handling() -> Any:
    """Raise while another exception is handled."""
    try:
        raise KeyError("first")
    except KeyError:
        raise IndexError("second")  # noqa: B904 (the context is what is tested)


def caught(executor: Executor, node: Any, **options: Any) -> BaseException:
    """What computing a node raises."""
    with pytest.raises(BaseException) as raised:  # noqa: PT011 (the caller looks at it)
        executor.compute(node, **options)
    return raised.value


class Failures(Part):
    """Tasks that raise."""

    def test_the_original_type_and_arguments(self, executor: Executor) -> None:
        """As if the function had been called here."""
        error = caught(executor, add(1, fail("as asked")))
        assert type(error) is ValueError
        assert error.args == ("as asked",)
        assert type(caught(executor, gr.call(int, "x"))) is ValueError
        assert type(caught(executor, identity({"a": 1})["b"])) is KeyError

    def test_an_exception_with_an_odd_constructor(self, executor: Executor) -> None:
        """Keeps its type and its attributes, though it cannot be made again by calling its class with its arguments."""
        error = caught(executor, fail_odd(7))
        assert type(error) is Odd
        assert (error.code, error.hint, str(error)) == (7, "look here", "code 7: look here")

    def test_an_exception_of_a_local_class(self, executor: Executor) -> None:
        """A class that no worker can import keeps its name and text, and its type where it can be carried."""

        class Local(Exception):
            pass

        def raise_local() -> None:
            raise Local("here")

        error = caught(executor, gr.call(raise_local))
        assert "here" in str(error)
        assert any("Local" in kind.__name__ for kind in type(error).__mro__) or "Local" in str(error)

    def test_an_exception_that_carries_an_array(self, executor: Executor) -> None:
        """Attributes come along, large ones too."""
        error = caught(executor, fail_big())
        assert type(error) is ValueError
        assert np.array_equal(error.array, np.arange(100_000))  # type: ignore[attr-defined]

    def test_an_exception_group(self, executor: Executor) -> None:
        """With what is in it."""
        error = caught(executor, fail_in_group())
        assert isinstance(error, ExceptionGroup)
        assert [type(e) for e in error.exceptions] == [ValueError, KeyError]

    def test_errors_that_led_to_one_another_without_end(self, executor: Executor) -> None:
        """A loop that tries again and again may raise each from the one before."""
        error = caught(executor, gr.call(_raise_in_turn, 1500))
        assert type(error) is OSError
        assert error.args == (1499,)
        assert error.__cause__ is not None
        assert error.__cause__.args == (1498,)

    def test_the_cause_and_the_context(self, executor: Executor) -> None:
        """`raise … from …` is kept, and so is what was handled at the time."""
        error = caught(executor, fail_because("k"))
        assert type(error) is RuntimeError
        assert type(error.__cause__) is KeyError
        assert "fail_because" in "".join(traceback.format_tb(error.__cause__.__traceback__))
        error = caught(executor, fail_while_handling())
        assert type(error) is IndexError
        assert error.__cause__ is None
        assert type(error.__context__) is KeyError

    def test_notes_name_the_node(self, executor: Executor) -> None:
        """And how it leads to an output, and what is skipped for it."""
        error = caught(executor, gr.Graph(out=scale(add(1, fail("x")))))
        text = "\n".join(error.__notes__)
        assert "fail('x')" in text
        assert "fail → add → scale" in text
        assert "2 nodes" in text

    def test_notes_say_what_the_function_was_called_with(self, executor: Executor) -> None:
        """Shapes of arrays and sizes of lists, which the node itself does not know."""
        matrix, listed = gr.call(np.zeros, (3, 4)), identity([1, 2, 3])
        error = caught(executor, fail("x", matrix, listed, 7))
        assert "graphray: called with 'x', float64[3, 4], list[3], 7" in error.__notes__
        error = caught(executor, gr.call(fail_stubborn_on, matrix))
        assert "graphray: called with float64[3, 4]" in error.__notes__

    @needs("dynamic")
    def test_the_node_that_a_task_returned_is_named(self, executor: Executor) -> None:
        """It is what raised; the path says how it came about."""
        error = caught(executor, scale(fail_deeper(3)))
        text = "\n".join(error.__notes__)
        assert "graphray: in fail('inside 3')" in text
        (path,) = [n for n in error.__notes__ if "path" in n]
        assert path.startswith("graphray: path fail → ")
        assert path.endswith(" → fail_deeper → scale")
        (failure,) = executor.compute([fail_deeper(3)], on_error="collect")
        assert "graphray: in fail('inside 3')" in "\n".join(failure.error.__notes__)

    def test_a_long_path_is_shortened(self, executor: Executor) -> None:
        """Nobody reads a thousand names."""
        node = fail("x")
        for _ in range(1000):
            node = add(node, 1)
        (path,) = [n for n in caught(executor, node).__notes__ if "path" in n]
        assert len(path) < 100
        assert "…" in path

    def test_what_is_no_exception_fails_its_node_alone(self, executor: Executor) -> None:
        """`asyncio.CancelledError`, say: the others have their values, and the engine goes on."""
        values = executor.compute([scale(1), gr.call(fail_basely), scale(2)], on_error="collect")
        assert (values[0], type(values[1].error), values[2]) == (2, Base, 4)
        with pytest.raises(Base, match="base"):
            executor.compute(add(gr.call(fail_basely), 1))
        assert executor.compute(scale(1)) == 2

    @needs("dynamic")
    def test_a_returned_node_that_is_no_exception(self, executor: Executor) -> None:
        """The one that returned it has failed, and no other."""
        values = executor.compute([scale(1), fail_basely_below(2), scale(2)], on_error="collect")
        assert (values[0], type(values[1].error), values[2]) == (2, Base, 4)

    def test_attempts_are_counted_where_failures_are_collected(self, executor: Executor, tmp_path: Path) -> None:
        """As they are where they are raised."""
        node = gr.task(retries=2)(fail_odd.fn)(7)
        (failure,) = executor.compute([node], on_error="collect")
        assert any("attempt 3" in n for n in failure.error.__notes__)

    def test_each_failure_is_told_once(self, executor: Executor) -> None:
        """To the subscribers, however many nodes are skipped for it; also one that a run inside a task was told of."""
        told: list[Any] = []
        bad = [fail("a"), gr.call(fail_in_a_run_inside)]
        executor.compute([add(b, i) for b in bad for i in range(5)], on_error="collect", progress=told.append)
        assert [e.node for e in told if type(e) is NodeFailed] in (bad, bad[::-1])

    def test_the_users_frames_are_in_the_traceback(self, executor: Executor) -> None:
        """Each of them, with file and line; and a failing one is not described twice."""
        error = caught(executor, fail_below(3))
        frames = traceback.extract_tb(error.__traceback__)
        names = [f.name for f in frames]
        assert names.count("_deeper") == 4
        assert names.index("fail_below") < names.index("_deeper")
        place = next(f for f in frames if f.name == "_deeper")
        assert place.filename.endswith("tasks.py")
        assert "1 // 0" in (place.line or "")
        assert len([n for n in error.__notes__ if n.startswith("graphray: in ")]) == 1

    def test_the_traceback_begins_with_the_users_frames(self, executor: Executor) -> None:
        """Behind those of the caller: nothing of the engine stands between."""
        frames = traceback.extract_tb(caught(executor, gr.reduce(divide_both, [8, 2, 0])).__traceback__)
        engine = max([i for i, f in enumerate(frames) if "/executors/" in f.filename.replace("\\", "/")])
        assert [f.name for f in frames[engine + 1 :]] == ["divide_both"]

    def test_what_needs_a_failure_is_not_run(self, executor: Executor, tmp_path: Path) -> None:
        """At any distance."""
        path = str(tmp_path / "notes")
        graph = gr.Graph(noted(path, "far", noted(path, "near", fail("x"))))
        assert type(caught(executor, graph)) is ValueError
        assert notes(path) == []

    def test_the_engine_is_usable_afterwards(self, executor: Executor) -> None:
        """After any number of failures."""
        for i in range(10):
            assert str(caught(executor, gr.Graph([*gr.map(scale, range(50)), fail(str(i))]))) == str(i)
            assert executor.compute(add(1, i)) == 1 + i

    def test_the_same_graph_fails_again(self, executor: Executor) -> None:
        """A failure is no property of the graph; notes are those of one run."""
        node = add(fail("x"), 1)
        for _ in range(3):
            error = caught(executor, node)
            assert len([n for n in error.__notes__ if n.startswith("graphray: in ")]) == 1

    def test_asking_the_interpreter_to_end_is_a_failure(self, executor: Executor) -> None:
        """`SystemExit` in a task ends the run, and neither the worker nor the driver."""
        for status in (None, 0, 3, "message"):
            error = caught(executor, add(leave(status), 1))
            assert type(error) is RuntimeError
            assert f"sys.exit({status!r})" in str(error)
            assert type(error.__cause__) is SystemExit
        assert executor.compute(add(1, 2)) == 3

    def test_a_wrong_number_of_outputs(self, executor: Executor) -> None:
        """A task with `outputs=2` that gives three is at fault, and is named."""
        three = gr.task(outputs=2)(lambda: (1, 2, 3))
        with pytest.raises(TypeError, match="outputs=2"):
            executor.compute(gr.Graph(list(three())))

    @needs("contexts")
    def test_retries(self, executor: Executor, tmp_path: Path) -> None:
        """A failing call is made again, as often as the task says, and then its error counts."""
        path = str(tmp_path / "notes")
        assert executor.compute(fail_at_first(path, 2)) == 3
        assert notes(path) == ["called"] * 3
        path = str(tmp_path / "more notes")
        error = caught(executor, fail_at_first(path, 100))
        assert type(error) is OSError
        assert notes(path) == ["called"] * 4
        assert any("attempt 4" in n for n in error.__notes__)

    # ---- on_error="collect"

    def test_collect_puts_failures_in_the_place_of_values(self, executor: Executor) -> None:
        """Everything else has its value."""
        bad = fail("x")
        skipped = add(bad, 1)
        graph = gr.Graph(
            good=scale(2), bad=bad, skipped=skipped, far=[scale(skipped), 5], fine=gr.map(scale, range(30))
        )
        result = executor.compute(graph, on_error="collect")
        assert result["good"] == 4
        assert result["fine"] == tuple(range(0, 60, 2))
        assert result["far"][1] == 5
        for failure, node, because in ((result["bad"], bad, None), (result["skipped"], skipped, bad)):
            assert type(failure) is gr.Failure
            assert type(failure.error) is ValueError
            assert failure.error.args == ("x",)
            assert failure.node is node
            assert failure.skipped_because is because
        assert result["far"][0].skipped_because is bad
        assert result["far"][0].error is not None

    def test_collect_with_many_failures(self, executor: Executor) -> None:
        """Each keeps to itself."""
        values = gr.map(fail_on, range(200), [i - i % 7 for i in range(200)])
        sums = gr.map(add, values, values)
        results = executor.compute(gr.Graph(sums), on_error="collect")
        for i, result in enumerate(results):
            if i % 7:
                assert result == 2 * i
            else:
                assert str(result.error) == f"{i} is bad"
                assert result.skipped_because is values[i]

    def test_collect_names_the_first_of_several_failed_arguments(self, executor: Executor) -> None:
        """In the order of the arguments, not of time: so that every engine says the same."""
        for slow, quick in ((0.15, 0.0), (0.0, 0.15)):
            first, second = fail_after(slow, "first"), fail_after(quick, "second")
            result = executor.compute(total(first, second, scale(1)), on_error="collect")
            assert str(result.error) == "first"
            assert result.skipped_because is first

    def test_collect_across_a_fan_in(self, executor: Executor) -> None:
        """A tree with one failing leaf fails; one without does not."""
        good = gr.combine(sum, gr.map(fail_on, range(300), [-1] * 300))
        bad = gr.combine(sum, gr.map(fail_on, range(300), [250] * 300))
        result = executor.compute(gr.Graph(good=good, bad=bad), on_error="collect")
        assert result["good"] == 44850
        assert str(result["bad"].error) == "250 is bad"
        assert result["bad"].skipped_because.label == "fail_on(250, 250)"

    @needs("dynamic")
    def test_collect_with_a_failure_inside_a_returned_node(self, executor: Executor) -> None:
        """The node that returned it has failed; what needs it is skipped. What is inside is nobody else's business."""
        node = fail_deeper(3)
        after = add(node, 1)
        result = executor.compute(gr.Graph(node=node, after=after, fine=as_graph(2)), on_error="collect")
        assert result["fine"] == {"twice": 4, "thrice": 6}
        for failure, stands_for, because in ((result["node"], node, None), (result["after"], after, node)):
            assert str(failure.error) == "inside 3"
            assert failure.node is stands_for
            assert failure.skipped_because is because

    @needs("dynamic")
    def test_collect_with_a_failing_iteration(self, executor: Executor) -> None:
        """No further step is made."""
        node = gr.iterate(lambda x: fail_on.fn(x, 5) + 1, 0, steps=20)
        result = executor.compute(gr.Graph(node=node, fine=scale(2)), on_error="collect")
        assert str(result["node"].error) == "5 is bad"
        assert result["fine"] == 4

    def test_collect_with_system_exit(self, executor: Executor) -> None:
        """A failure like others."""
        result = executor.compute(gr.Graph(bad=leave(3), fine=scale(2)), on_error="collect")
        assert type(result["bad"].error.__cause__) is SystemExit
        assert result["fine"] == 4

    def test_collect_runs_what_does_not_depend_on_the_failure(self, executor: Executor, tmp_path: Path) -> None:
        """And nothing that does."""
        path = str(tmp_path / "notes")
        bad = fail("x")
        graph = gr.Graph(
            [noted(path, "skipped", bad), noted(path, "run", scale(1)), noted(path, "skipped", add(bad, 1))]
        )
        executor.compute(graph, on_error="collect")
        assert notes(path) == ["run"]

    def test_nothing_failed(self, executor: Executor) -> None:
        """With `on_error="collect"` a result without failures is the usual one."""
        quotient, remainder = divide(7, 2)
        assert executor.compute(gr.Graph(q=quotient, r=remainder), on_error="collect") == {"q": 3, "r": 1}


@gr.task
def divide_both(a: float, b: float) -> float:
    """A binary function that fails for some."""
    return a // b


def _raise_in_turn(times: int) -> None:
    last: OSError | None = None
    for i in range(times):
        try:
            raise OSError(i) from last
        except OSError as error:
            last = error
    if last is not None:
        raise last
