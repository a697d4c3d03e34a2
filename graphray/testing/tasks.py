"""The tasks that the suite runs: in a module of their own, so that workers can import them."""

from __future__ import annotations

import os
import time
from typing import Any, ClassVar, NamedTuple

import graphray as gr


@gr.task
def add(a: Any, b: Any) -> Any:
    """The sum."""
    return a + b


@gr.task
def scale(x: Any, by: Any = 2, plus: Any = 0) -> Any:
    """A multiple, and something more."""
    return x * by + plus


@gr.task
def total(*xs: Any) -> Any:
    """The sum of all arguments."""
    return sum(xs)


@gr.task
def echo(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """What it was called with."""
    return args, kwargs


@gr.task
def identity(x: Any) -> Any:
    """Its argument."""
    return x


@gr.task
def bracket(a: str, b: str) -> str:
    """A text that shows how a tree of calls was made."""
    return f"({a} {b})"


@gr.task
def join(texts: list[str]) -> str:
    """The same for a function of a list."""
    return f"[{' '.join(texts)}]"


@gr.task(outputs=2)
def divide(a: int, b: int) -> tuple[int, int]:
    """Quotient and remainder."""
    return divmod(a, b)


def note(path: str, text: str) -> None:
    """Append a line to a file, in one piece: the way in which tasks of any process say that they were called."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


def notes(path: Any) -> list[str]:
    """The lines that tasks have noted."""
    try:
        with open(path) as stream:
            return stream.read().splitlines()
    except FileNotFoundError:
        return []


@gr.task
def noted(path: str, text: str, *needs: Any) -> str:
    """Note that it was called."""
    note(path, text)
    return text


@gr.task
def process() -> int:
    """The process that the task runs in."""
    return os.getpid()


@gr.task
def timed_nap(seconds: float, i: int) -> tuple[float, float]:
    """Sleep; when that began and ended, on the machine's clock."""
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


@gr.task
def nap(seconds: float, value: Any = None) -> Any:
    """Sleep, then give a value."""
    time.sleep(seconds)
    return value


# ---- failing


class Odd(Exception):
    """An exception whose constructor does not take what it passes on, as many have."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}: {hint}")
        self.code = code
        self.hint = hint


class Stubborn(Exception):
    """An exception that no pickle can carry."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = __import__("threading").Lock()


@gr.task
def fail(text: str = "as asked", *needs: Any) -> Any:
    """Raise."""
    raise ValueError(text)


@gr.task
def fail_odd(code: int) -> Any:
    """Raise an exception with an odd constructor."""
    raise Odd(code, hint="look here")


@gr.task
def fail_stubborn() -> Any:
    """Raise an exception that cannot travel."""
    raise Stubborn("has a lock")


@gr.task
def fail_below(depth: int) -> Any:
    """Raise from some calls down."""
    return _deeper(depth)


def _deeper(depth: int) -> Any:
    return 1 // 0 if depth == 0 else _deeper(depth - 1)


@gr.task
def fail_because(key: str) -> Any:
    """Raise with a cause."""
    try:
        things: dict[str, Any] = {}
        return things[key]
    except KeyError as error:
        raise RuntimeError("no such thing") from error


@gr.task
def fail_on(x: int, bad: int) -> int:
    """Raise for one value."""
    if x == bad:
        raise ValueError(f"{x} is bad")
    return x


@gr.task
def leave(status: Any) -> Any:
    """Ask the interpreter to end."""
    raise SystemExit(status)


@gr.task(retries=3)
def fail_at_first(path: str, times: int) -> int:
    """Fail some times, then say which attempt this is."""
    note(path, "called")
    if len(notes(path)) <= times:
        raise OSError("not yet")
    return gr.context().attempt


# ---- returning nodes


@gr.task
def factorial(n: int) -> Any:
    """Recursion."""
    return 1 if n <= 1 else n * factorial(n - 1)


@gr.task
def fibonacci(n: int) -> Any:
    """Recursion with two branches."""
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@gr.task
def depth(n: int) -> Any:
    """As many calls inside one another as asked, each waiting for the next."""
    return 0 if n == 0 else add(depth(n - 1), 1)


@gr.task
def countdown(n: int) -> Any:
    """A loop: each call ends in the next."""
    return "lift-off" if n == 0 else countdown(n - 1)


@gr.task
def choose(condition: Any, yes: Any, no: Any) -> Any:
    """A conditional: of two quoted nodes, the one that is chosen is computed."""
    return yes if condition else no


@gr.task
def squares_of(n: int) -> Any:
    """A fan-out of a width that is known only then."""
    return gr.map(scale, range(n), range(n))


@gr.task
def nested_sum(tree: Any) -> Any:
    """Recursion over a nested list."""
    return gr.reduce(add, [nested_sum(x) for x in tree], initial=0) if isinstance(tree, list) else tree


@gr.task
def as_graph(x: int) -> gr.Graph:
    """A graph with named outputs."""
    return gr.Graph(twice=scale(x), thrice=scale(x, 3))


@gr.task
def mixed(x: int) -> Any:
    """A structure of values, nodes and graphs."""
    return [x, scale(x), {"deep": (scale(x, 3), "text")}, gr.Graph(scale(x, 4)), [gr.Graph(five=scale(x, 5))]]


class Weighty:
    """Something of which the process counts how many there are."""

    living = 0
    most = 0

    def __init__(self, n: int) -> None:
        self.n = n
        self._came()

    def _came(self) -> None:
        Weighty.living += 1
        Weighty.most = max(Weighty.most, Weighty.living)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._came()

    def __del__(self) -> None:
        Weighty.living -= 1


@gr.task
def weigh_down(weight: Weighty) -> Any:
    """A loop that carries something weighty; in the end, the most of it that lived at once in this process."""
    if weight.n == 0:
        return Weighty.most
    if weight.n % 100 == 0:
        Weighty.most = Weighty.living
    return weigh_down(Weighty(weight.n - 1))


# ---- seeds and contexts


@gr.task(seed=True)
def draw(what: Any = None, *, seed: int) -> int:
    """The seed."""
    return seed


@gr.task(seed=True)
def walk(position: int, *, seed: int) -> int:
    """A step of a random walk."""
    return position + (1 if seed % 2 else -1) * (seed % 1000)


@gr.task(seed=True, retries=2)
def draw_late(path: str, *, seed: int) -> int:
    """The seed, at the second attempt."""
    note(path, str(seed))
    if len(notes(path)) < 2:
        raise OSError("not yet")
    return seed


@gr.task
def draws(n: int) -> Any:
    """A fan-out of draws that is made while the run goes on."""
    return gr.map(draw, [0] * n)


@gr.task
def told(number: int) -> int:
    """Emit a number, and a second time."""
    gr.context().emit(number=number)
    gr.context().emit(again=number)
    return number


@gr.task
def where() -> tuple[str, int, bool, str]:
    """What the context says."""
    context = gr.context()
    return context.worker, context.attempt, context.cancelled(), context.node


class Tool:
    """Something that is expensive to make."""

    made = 0

    def __init__(self, name: str) -> None:
        Tool.made += 1
        self.name = name
        self.number = Tool.made


@gr.task
def use_tool(i: int, name: str) -> tuple[str, str, int]:
    """The tool of this worker, and its number."""
    return gr.context().worker, name, gr.local(Tool, name).number


class Seat:
    """Something of which a worker may hold only so many; it belongs to the worker that made it."""

    open: ClassVar[dict[str, int]] = {}  # by worker

    def __init__(self, number: tuple[int, int]) -> None:
        self.worker = gr.context().worker
        self.closed = False
        self.open[self.worker] = self.open.get(self.worker, 0) + 1

    def close(self) -> None:
        """Give it back."""
        self.closed = True
        self.open[self.worker] -= 1


@gr.task
def take_seats(i: int, number: int) -> tuple[int, bool, bool]:
    """Ask for many local things: how many there are with the first; whether all stay open, and the same."""
    first = gr.local(Seat, (i, 0))
    before = Seat.open[gr.context().worker]
    seats = [gr.local(Seat, (i, n)) for n in range(number)]
    return before, not any(seat.closed for seat in seats), seats[0] is first is gr.local(Seat, (i, 0))


@gr.task(near="home")
def at_home(i: int) -> int:
    """Something that had better run where it ran before."""
    return i


@gr.task
def wait_for_cancel(path: str, seconds: float) -> str:
    """Wait until the run is cancelled; note how it ended."""
    note(path, "began")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if gr.context().cancelled():
            note(path, "cancelled")
            return "cancelled"
        time.sleep(0.005)
    note(path, "late")
    return "late"


@gr.task
def compute_inside(n: int) -> tuple[int, int, int]:
    """A run inside a task: where it ran, and what it gave."""
    graph = gr.Graph(sum=gr.combine(sum, gr.map(scale, range(n))), process=process())
    result = graph.compute("loky:2")  # asked for or not, it runs right here
    return os.getpid(), result["process"], result["sum"]


# ---- structures


class Point(NamedTuple):
    """A named tuple."""

    x: Any
    y: Any
