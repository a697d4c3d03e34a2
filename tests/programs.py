"""Random programs with two meanings: a graph of nodes, and what plain Python makes of the same thing.

A program is a list of operations on what came before, and an output. `interpret` runs it with a backend: `Nodes` builds
a graph, `Values` computes at once. Failures are values for `Values`: a `Bad` stands for what could not be had.
"""

from __future__ import annotations

import struct
import time
import zlib
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

import graphray as gr

PRIME = (1 << 61) - 1


class Ref:
    """What an operation refers to: so many places back among inputs and earlier operations, going round."""

    def __init__(self, back):
        self.back = back

    def __repr__(self):
        return f"Ref({self.back})"


class Op:
    """One operation: a name of `OPERATIONS`, and arguments in which references may be nested."""

    def __init__(self, name, *args, **kwargs):
        self.name = name
        self.args = args
        self.kwargs = kwargs

    def __repr__(self):
        rest = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"Op({', '.join([repr(self.name), *rest])})"


class Program:
    """Operations, and the structure of references that is the result. Opaque to graphs: it is data."""

    def __init__(self, operations, output):
        self.operations = operations
        self.output = output

    def __repr__(self):
        return f"Program({self.operations!r}, {self.output!r})"


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass
class Record:
    name: str
    value: Any


@dataclass(frozen=True)
class Frozen:
    value: Any


class Bad:
    """In place of a value that could not be had: the text of the error, and whether the node itself failed."""

    def __init__(self, text, itself):
        self.text = text
        self.itself = itself


# ---- plain functions


def fold(x):
    """A number that depends on every bit and type in a structure, the same in every process."""
    if x is None or isinstance(x, (bool, str, bytes)):
        return zlib.crc32(f"{type(x).__name__} {x!r}".encode())
    if isinstance(x, int):
        return (x * 31 + 7) % PRIME
    if isinstance(x, float):
        return zlib.crc32(struct.pack("d", x)) + 1
    if isinstance(x, np.ndarray):
        return zlib.crc32(f"{x.dtype} {x.shape}".encode() + x.tobytes())
    if isinstance(x, dict):
        return fold([f"dict {len(x)}", *x, *x.values()])
    if isinstance(x, (list, tuple)):
        total = zlib.crc32(type(x).__name__.encode())
        for item in x:
            total = (total * 1_000_003 + fold(item)) % PRIME
        return total
    return fold([type(x).__name__, *vars(x).values()])


@gr.task
def mix(*args, **kwargs):
    return fold((args, kwargs))


@gr.task
def slowly(*args):
    time.sleep(0.002)
    return fold(args)


@gr.task
def array(x, n):
    return np.random.default_rng(fold(x)).standard_normal(n)


@gr.task
def mean(x):
    return float(np.mean([float(fold(x) % 1000) / 7, *np.ravel(x)])) if isinstance(x, np.ndarray) else fold(x) / 3


@gr.task
def box(x):
    return {"x": x, "list": [x, (x,)], "point": Point(x, 1)}


@gr.task
def items(x):
    return [fold((x, i)) for i in range(fold(x) % 5)]


@gr.task
def fail_sometimes(x):
    number = fold(x)
    if number % 3 == 0:
        raise ValueError(f"failed on {number}")
    return number


@gr.task(outputs=2)
def halves(x):
    return divmod(fold(x), 2)


def binary(a, b):
    return fold((a, b))


def listed(xs):
    return fold(["listed", *xs])


@gr.task
def step(x):
    return fold((x, "step"))


def enough(x):
    return fold(x) % 7 == 0


@gr.task
def step_by_node(x):
    return mix(step(x), 1) if fold(x) % 2 else step(x)


@gr.task
def unfold(program, *inputs):
    """A whole program in the place of a node."""
    return interpret(program, inputs, Nodes)


@gr.task
def unfold_as_graph(program, *inputs):
    return gr.Graph(a=interpret(program, inputs, Nodes), b=1)


# ---- backends


class Nodes:
    """Builds a graph."""

    call = staticmethod(lambda task, *args, **kwargs: task(*args, **kwargs))
    map = staticmethod(gr.map)
    reduce = staticmethod(lambda parts, arity: gr.reduce(binary, parts, arity=arity))
    combine = staticmethod(lambda parts, arity: gr.combine(listed, parts, arity=arity))
    iterate = staticmethod(lambda task, x, steps, until: gr.iterate(task, x, steps=steps, until=until))
    unfold = staticmethod(lambda program, inputs: unfold(program, *inputs))
    unfold_as_graph = staticmethod(lambda program, inputs: unfold_as_graph(program, *inputs))
    add = staticmethod(lambda a, b: a + b)
    first = staticmethod(lambda node: node[0])
    constant = staticmethod(gr.value)


class Log(list):
    """What has happened here, which is no part of what the code around it does: it differs between processes."""

    def __graphray_digest__(self):
        return "log"


class Values:
    """Computes at once."""

    raised: ClassVar[list[str]] = Log()  # what calls have raised

    @staticmethod
    def call(task, *args, **kwargs):
        bad = first_bad((args, kwargs))
        if bad is not None:
            return Bad(bad.text, False)
        try:
            if task is step_by_node:
                (x,) = args
                return mix.fn(step.fn(x), 1) if fold(x) % 2 else step.fn(x)
            return task.fn(*args, **kwargs)
        except Exception as error:
            return Values.failed(error)

    @staticmethod
    def failed(error):
        Values.raised.append(str(error))
        return Bad(str(error), True)

    @staticmethod
    def map(task, parts):
        if isinstance(parts, Bad):
            return Bad(parts.text, False)
        return tuple([Values.call(task, x) for x in parts])

    @staticmethod
    def reduce(parts, arity):
        def group(xs):
            total = xs[0]
            for x in xs[1:]:
                total = binary(total, x)
            return total

        return Values._tree(parts, arity, group)

    @staticmethod
    def combine(parts, arity):
        return Values._tree(parts, arity, lambda xs: listed(list(xs)))

    @staticmethod
    def _tree(level, arity, group):
        if isinstance(level, Bad):
            return Bad(level.text, False)
        level = list(level)
        if not level:
            return Values.failed(ValueError("of no values"))
        while len(level) > 1:
            groups = [level[i : i + arity] for i in range(0, len(level), arity)]
            level = [
                g[0] if len(g) == 1 else Bad(first_bad(g).text, False) if first_bad(g) else group(g) for g in groups
            ]
        return level[0]

    @staticmethod
    def iterate(task, x, steps, until):
        bad = first_bad(x)
        if bad is not None:
            return Bad(bad.text, not isinstance(x, Bad))
        while steps is None or steps > 0:
            if until is not None and until(x):
                break
            x = Values.call(task, x)
            if isinstance(x, Bad):
                return Bad(x.text, True)
            steps = None if steps is None else steps - 1
        return x

    @staticmethod
    def unfold(program, inputs):
        bad = first_bad(inputs)
        if bad is not None:
            return Bad(bad.text, False)
        result = interpret(program, inputs, Values)
        bad = first_bad(result)
        return result if bad is None else Bad(bad.text, True)

    @staticmethod
    def unfold_as_graph(program, inputs):
        result = Values.unfold(program, inputs)
        return result if isinstance(result, Bad) else {"a": result, "b": 1}

    @staticmethod
    def add(a, b):
        bad = first_bad((a, b))
        if bad is not None:
            return Bad(bad.text, False)
        try:
            return a + b
        except TypeError as error:
            return Values.failed(error)

    @staticmethod
    def first(x):
        return Bad(x.text, False) if isinstance(x, Bad) else x[0]

    @staticmethod
    def constant(x):
        return x


def first_bad(x):
    """The first failure in a structure."""
    if isinstance(x, Bad):
        return x
    if isinstance(x, dict):
        x = list(x.values())
    elif isinstance(x, (Record, Frozen)):
        x = list(vars(x).values())
    if isinstance(x, (list, tuple)):
        return next((bad for bad in map(first_bad, x) if bad is not None), None)
    return None


def fill(x, known):
    """A structure with its references replaced by what they refer to."""
    if isinstance(x, Ref):
        return known[-1 - x.back % len(known)]
    if isinstance(x, Point):
        return Point(fill(x.x, known), fill(x.y, known))
    if isinstance(x, (list, tuple)):
        return type(x)([fill(y, known) for y in x])
    if isinstance(x, dict):
        return {k: fill(v, known) for k, v in x.items()}
    if isinstance(x, Record):
        return Record(x.name, fill(x.value, known))
    return Frozen(fill(x.value, known)) if isinstance(x, Frozen) else x


TASKS = {t.name: t for t in (mix, slowly, array, mean, box, items, fail_sometimes, step)}


def interpret(program, inputs, backend):
    """The program's output, on a backend."""
    known = list(inputs) or [backend.constant(7)]
    for op in program.operations:
        args = [fill(a, known) for a in op.args]
        kwargs = {k: fill(v, known) for k, v in op.kwargs.items()}
        if op.name in TASKS:
            known.append(backend.call(TASKS[op.name], *args, **kwargs))
        elif op.name == "constant":
            known.append(backend.constant(*args))
        elif op.name == "half":
            known.append(backend.first(backend.call(halves, *args)))
        elif op.name == "map":
            known.append(backend.call(mix, backend.map(mix, args[0])))
        elif op.name == "map items":
            known.append(backend.call(mix, as_one(backend.map(fail_sometimes, backend.call(items, args[0])), backend)))
        elif op.name == "reduce":
            known.append(backend.reduce(*args))
        elif op.name == "combine":
            known.append(backend.combine(*args))
        elif op.name == "reduce items":
            known.append(backend.reduce(backend.call(items, args[0]), args[1]))
        elif op.name == "iterate":
            known.append(backend.iterate([step, step_by_node, fail_sometimes][args[0]], args[1], args[2], args[3]))
        elif op.name == "unfold":
            known.append(backend.unfold(op.args[0], args[1]))
        elif op.name == "unfold as graph":
            known.append(backend.unfold_as_graph(op.args[0], args[1]))
        elif op.name == "add":
            known.append(backend.add(backend.call(mix, args[0]), backend.call(mix, args[1])))
        else:
            raise AssertionError(op.name)
    return fill(program.output, known)


def as_one(x, backend):
    """A fan-out that a node stands for fails as a whole."""
    bad = first_bad(x) if backend is Values and not isinstance(x, Bad) else None
    return x if bad is None else Bad(bad.text, True)
