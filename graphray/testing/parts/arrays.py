"""Arrays: they arrive as they were, and read-only, on every engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part, needs
from graphray.testing.sameness import same
from graphray.testing.tasks import Point, add, identity, scale


@dataclass
class Batch:
    """A dataclass of arrays."""

    obs: Any
    more: Any = None


class Holder:
    """No container: an array in it belongs to whoever has the object."""

    def __init__(self, array: Any) -> None:
        self.array = array


def arrays_in(x: Any) -> list[np.ndarray]:
    """All arrays in nested containers."""
    if isinstance(x, np.ndarray):
        return [x]
    if isinstance(x, (list, tuple)):
        return [a for y in x for a in arrays_in(y)]
    if isinstance(x, dict):
        return arrays_in(list(x.values()))
    return arrays_in([x.obs, x.more]) if isinstance(x, Batch) else []


@gr.task
def writeable(*args: Any, **kwargs: Any) -> list[bool]:
    """Whether each of the arrays that it gets could be written to."""
    return [bool(a.flags.writeable) for a in arrays_in([*args, *kwargs.values()])]


@gr.task
def write(x: Any) -> Any:
    """Write to the argument, which is not allowed."""
    arrays_in(x)[0][...] = 0
    return x


@gr.task
def make(n: int, value: float = 1.0) -> np.ndarray:
    """An array."""
    return np.full(n, value)


@gr.task
def make_structure(n: int) -> Any:
    """Arrays in a structure."""
    return {"a": np.ones(n), "b": [np.zeros((n, 2)), Batch(np.arange(n), (np.ones(3),))]}


@gr.task
def write_to_what_it_holds(holder: Holder) -> float:
    """Write to an array inside an object of one's own."""
    holder.array[0] = 5.0
    return float(holder.array.sum())


@gr.task
def orders(*arrays: Any) -> list[tuple[bool, bool]]:
    """Whether arrays are in C's order, and in Fortran's."""
    return [(a.flags.c_contiguous, a.flags.f_contiguous) for a in arrays_in(arrays)]


KINDS: dict[str, Any] = {
    "float64": np.linspace(0, 1, 1000),
    "fortran": np.asfortranarray(np.arange(600.0).reshape(20, 30)),
    "transposed": np.arange(600).reshape(20, 30).T,
    "strided": np.arange(10_000)[::7],
    "backwards": np.arange(1000)[::-1],
    "empty": np.empty((0, 3)),
    "scalar": np.array(3.5),
    "bool": np.arange(100) % 3 == 0,
    "half": np.arange(100, dtype="f2"),
    "big-endian": np.arange(100, dtype=">i4"),
    "complex": np.arange(100) * 1j,
    "text": np.array(["a", "bcd", ""]),
    "dates": np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
    "structured": np.zeros(50, dtype=[("a", "i4"), ("b", "f8", (2,))]),
    "objects": np.array([1, "two", None, [3]], dtype=object),
    "broadcast": np.broadcast_to(np.arange(5.0), (200, 5)),
    "number": np.float32(1.5),
    "special": np.array([np.nan, np.inf, -0.0, 5e-324]),
}


class Arrays(Part):
    """numpy and JAX arrays as arguments and results."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_array_arrives_as_it_was(self, executor: Executor, kind: str) -> None:
        """Type, dtype, shape and bits, there and back."""
        array = KINDS[kind]
        structure = {"a": [array, (array,)], "b": Point(array, 1)}
        assert same(executor.compute(identity(array)), array)
        assert same(executor.compute(identity(gr.value(array))), array)
        assert same(executor.compute(identity(identity(structure))), structure)

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_array_arrives_in_the_same_order_of_memory(self, executor: Executor, kind: str) -> None:
        """In that of C or of Fortran, and without gaps, wherever it comes from: sums depend on it by a bit."""
        array = KINDS[kind]
        if isinstance(array, np.ndarray):
            order = array.flags.c_contiguous or not array.flags.f_contiguous, array.flags.f_contiguous
            expected = [order] * 3
            if not array.flags.forc:
                plain = np.ascontiguousarray(array)
                expected = [(plain.flags.c_contiguous, plain.flags.f_contiguous)] * 3
            assert executor.compute(orders(array, [identity(array)], gr.value(array))) == expected

    def test_large_arrays(self, executor: Executor) -> None:
        """10 MB there and back, several at once."""
        array = np.random.default_rng(0).standard_normal(1_310_720)
        assert same(executor.compute(identity(array)), array)
        sums = executor.compute(gr.Graph([gr.call(np.sum, x) for x in [gr.value(array)] * 4]))
        assert same(sums, [np.sum(array)] * 4)
        mixed = executor.compute(gr.Graph([identity([array, "x", array[:10]]), identity(array[::2])]))
        assert same(mixed, [[array, "x", array[:10]], array[::2]])

    def test_arguments_are_read_only(self, executor: Executor) -> None:
        """Directly and in containers, constants and results of other tasks, by position and by keyword."""
        a, n = np.ones(10), make(10)
        assert executor.compute(writeable(a, n, k=a, m=n)) == [False] * 4
        structure = [a, (n, [a]), {"x": n, "y": (a,)}, Point(n, a), Batch(a, [n])]
        assert executor.compute(writeable(structure, k=structure)) == [False] * 18
        assert executor.compute(writeable(make_structure(5), gr.value(a), gr.value([a, {"k": a}]))) == [False] * 7
        big = np.ones(200_000)
        assert executor.compute(writeable(big, identity(big), [big])) == [False] * 3

    @needs("dynamic")
    def test_arguments_of_dynamic_nodes_are_read_only(self, executor: Executor) -> None:
        """Arrays that a task gives to the nodes it returns, and elements of a fan-out."""
        assert executor.compute(gr.call(pass_on, 5)) == [False, False]
        assert executor.compute(gr.map(writeable, identity([np.ones(3), np.ones(200_000)]))) == ([False], [False])
        assert executor.compute(gr.iterate(step_writeable, (make(5), ()), steps=3))[1] == (False, False, False)

    def test_a_task_that_writes_to_its_argument_fails(self, executor: Executor) -> None:
        """In the same way everywhere, and the original stays as it was."""
        array = np.ones(10)
        for x in (array, [array], gr.value(array), make(10), {"k": (make(10),)}, Batch(array), Point(make(10), 1)):
            with pytest.raises(ValueError, match="read-only"):
                executor.compute(write(x))
        assert array.sum() == 10
        assert array.flags.writeable, "the caller's own array is still the caller's"

    def test_results_are_read_only(self, executor: Executor) -> None:
        """They may be shared with others."""
        result = executor.compute(gr.Graph(a=make(10), b=make_structure(5), c=[make(200_000)]))
        assert [a.flags.writeable for a in arrays_in(result)] == [False] * 6

    @needs("pickles")
    def test_what_an_object_holds_is_a_writable_copy(self, executor: Executor) -> None:
        """An array inside something that is no container belongs to the object."""
        for n in (10, 200_000):
            holder = Holder(np.zeros(n))
            assert executor.compute(write_to_what_it_holds(holder)) == 5.0
            assert holder.array.sum() == 0
            result = executor.compute(gr.call(Holder, make(n)))
            assert result.array.sum() == n

    def test_many_small_arrays(self, executor: Executor) -> None:
        """Thousands, through a fan-in."""
        result = executor.compute(gr.reduce(add, gr.map(make, [8] * 2000, range(2000))))
        assert same(result, np.full(8, 1999000))

    def test_operators_on_arrays(self, executor: Executor) -> None:
        """An array on the left of a node makes a node, not an array of nodes."""
        node = make(3, 2.0)
        both = executor.compute(
            gr.Graph([np.ones(3) + node, node @ np.ones(3), np.float64(2) * node, node[1:] < np.ones(2)])
        )
        expected = [np.full(3, 3.0), np.float64(6.0), np.full(3, 4.0), np.array([False, False])]
        assert same(both, expected)

    def test_jax_arrays(self, executor: Executor) -> None:
        """As arguments, as results, in structures, of several types and sizes."""
        for array in (
            jnp.arange(10),
            jnp.ones((300, 300)),
            jnp.float32(1.5),
            jnp.ones(4, jnp.bfloat16),
            jnp.zeros((0, 2)),
        ):
            result = executor.compute(gr.Graph([identity(array), identity({"k": [array]}), scale(array, 2)]))
            assert same(result, [array, {"k": [array]}, array * 2])


@gr.task
def pass_on(n: int) -> Any:
    """Give arrays to new nodes."""
    return [writeable(np.ones(n))[0], writeable(make(n))[0]]


@gr.task
def step_writeable(state: Any) -> Any:
    """A step that looks at its state's array, and makes the next."""
    array, seen = state
    return array + 1, (*seen, bool(array.flags.writeable))
