"""Identity of code: each edit to what a function uses changes its digest, and no other edit does."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import itertools
import json
import os
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphray.graph import hashing
from graphray.graph.code import function_digest, function_parts
from graphray.graph.hashing import Unhashable, Walk, hash_value, register

NUMBERS = itertools.count()


@pytest.fixture
def project(tmp_path):
    """A function that makes a user's project out of sources and imports its module `main`, each time from scratch."""

    @contextlib.contextmanager
    def load(sources: str | dict[str, str]) -> Iterator[types.ModuleType]:
        sources = {"main": sources} if isinstance(sources, str) else sources
        directory = tmp_path / f"project{next(NUMBERS)}"
        for name, source in sources.items():
            path = directory / (name.replace(".", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source), encoding="utf-8")
        tops = {name.partition(".")[0] for name in sources}
        sys.path.insert(0, str(directory))
        importlib.invalidate_caches()
        try:
            yield importlib.import_module("main")
        finally:
            sys.path.remove(str(directory))
            for name in [name for name in sys.modules if name.partition(".")[0] in tops]:
                del sys.modules[name]

    return load


@pytest.fixture
def digest(project):
    """The digest of `f` in a project."""

    def digest(sources: str | dict[str, str], name: str = "f") -> str:
        with project(sources) as main:
            return function_digest(getattr(main, name)).hex()

    return digest


# ---- edits that count

BASE = {
    "main": """
        import functools
        import dataclasses
        import enum
        import helpers
        import pkg.deep.inner
        from helpers import scale
        from helpers import scale as renamed
        from pkg import settings

        RATE = 0.1
        TABLE = {"a": [1, 2], "b": (3, scale)}
        NAMES = {"x", "y"}

        def plain(x):
            return x + 1

        def with_default(x, y=2, *, z=3):
            return x + y + z

        def even(n):
            return True if n == 0 else odd(n - 1)

        def odd(n):
            return False if n == 0 else even(n - 1)

        def make(step):
            def inner(x):
                return x + step
            return inner

        add = make(5)

        def logged(fn):
            @functools.wraps(fn)
            def wrapper(*args):
                return fn(*args)
            return wrapper

        @logged
        def decorated(x):
            return x * 3

        @functools.lru_cache
        def remembered(x):
            return x * 4

        part = functools.partial(plain, 7)

        class Base:
            offset = 8

            def shift(self, x):
                return x + self.offset

        class Model(Base):
            names = ["m"]

            def __init__(self, k=9):
                self.k = k

            def predict(self, x):
                return super().shift(x) * self.k

            @staticmethod
            def static(x):
                return x - 10

            @classmethod
            def build(cls):
                return cls(11)

            @property
            def double(self):
                return self.k * 12

            @functools.cached_property
            def cached(self):
                return self.k * 13

        MODEL = Model(14)
        METHOD = MODEL.predict

        @dataclasses.dataclass
        class Config:
            lr: float = 0.15
            layers: list = dataclasses.field(default_factory=lambda: [16])

        class Colour(enum.Enum):
            RED = 17

        @functools.singledispatch
        def dispatch(x):
            return 18

        @dispatch.register
        def _(x: str):
            return 19

        square = lambda x: x * 20

        def numbers(n):
            for i in range(n):
                yield i + 21

        async def waiting(x):
            return x + 22

        def f(x):
            import lazy
            from lazy_from import member
            import lazy_pkg.sub as alias

            def local(y):
                return y + 23

            class Local:
                attribute = 24

                def m(self):
                    return 25

            try:
                total = plain(x) + with_default(x) + even(x) + add(x) + decorated(x) + remembered(x) + part()
            except (ValueError, KeyError):
                total = 26
            total += scale(x) + helpers.clean(x) + pkg.deep.inner.leaf(x) + settings.DEPTH + helpers.Tool().run(x)
            total += RATE + len(TABLE) + MODEL.predict(x) + METHOD(x) + Config().lr + Colour.RED.value + dispatch(x)
            total += square(x) + sum(numbers(x)) + sum(i * 27 for i in range(3)) + local(x) + Local().m()
            total += lazy.lazily(x) + member(x) + alias.deeply(x) + renamed(x)
            return [waiting(x), total, x in NAMES, x in {"a", "b"}]
        """,
    "helpers": """
        import other
        FACTOR = 30
        LIMITS = [31]
        def scale(x): return x * FACTOR
        def clean(x): return other.strip(x) + 32
        class Tool:
            def run(self, x): return x + LIMITS[0]
        def unused(x): return x + 33
        """,
    "other": "def strip(x): return x - 34",
    "pkg.__init__": "MARK = 35",
    "pkg.settings": "DEPTH = 36\nUNUSED = 37",
    "pkg.deep.__init__": "",
    "pkg.deep.inner": "from ..settings import DEPTH as D\ndef leaf(x): return x + D + 38",
    "lazy": "def lazily(x): return x + 39\ndef unused(x): return x + 40",
    "lazy_from": "def member(x): return helper(x) + 41\ndef helper(x): return x + 42",
    "lazy_pkg.__init__": "",
    "lazy_pkg.sub": "def deeply(x): return x + 43",
}

# Of what is edited: the module, the text before and the text after.
EDITS = {
    "a constant of a function": ("main", "x + 1", "x + 100"),
    "the type of a constant": ("main", "x + 1", "x + 1.0"),
    "an operator": ("main", "x + 1", "x - 1"),
    "a default": ("main", "y=2", "y=200"),
    "a default taken away": ("main", "y=2", "y"),
    "a keyword's default": ("main", "z=3", "z=300"),
    "one of two that call each other": ("main", "True if n == 0", "True if n == 1"),
    "the other of the two": ("main", "False if n == 0", "False if n == 1"),
    "the value in a closure": ("main", "make(5)", "make(500)"),
    "a function made by a factory": ("main", "x + step", "x - step"),
    "a decorator": ("main", "return fn(*args)", "return -fn(*args)"),
    "a decorated function": ("main", "x * 3", "x * 300"),
    "a function in lru_cache": ("main", "x * 4", "x * 400"),
    "an argument of a partial": ("main", "partial(plain, 7)", "partial(plain, 700)"),
    "an attribute of a base class": ("main", "offset = 8", "offset = 800"),
    "a method of a base class": ("main", "x + self.offset", "x - self.offset"),
    "an attribute of a class": ("main", 'names = ["m"]', 'names = ["n"]'),
    "a default of __init__": ("main", "k=9", "k=900"),
    "a method": ("main", "super().shift(x) * self.k", "super().shift(x) / self.k"),
    "a static method": ("main", "x - 10", "x - 1000"),
    "a class method": ("main", "cls(11)", "cls(1100)"),
    "a property": ("main", "self.k * 12", "self.k * 1200"),
    "a cached property": ("main", "self.k * 13", "self.k * 1300"),
    "the state of an object": ("main", "Model(14)", "Model(1400)"),
    "the bases of a class": ("main", "class Model(Base)", "class Model(Base, dict)"),
    "a field's default": ("main", "0.15", "0.16"),
    "a field's default factory": ("main", "lambda: [16]", "lambda: [1600]"),
    "a field more": ("main", "lr: float = 0.15", "lr: float = 0.15\n            more: int = 1"),
    "a field of another kind": ("main", "@dataclasses.dataclass", "@dataclasses.dataclass(frozen=True)"),
    "the value of a member": ("main", "RED = 17", "RED = 1700"),
    "a member more": ("main", "RED = 17", "RED = 17; BLUE = 18"),
    "a generic function": ("main", "return 18", "return 1800"),
    "what a generic function does for a type": ("main", "return 19", "return 1900"),
    "the type that a generic function is for": ("main", "_(x: str)", "_(x: bytes)"),
    "a lambda": ("main", "x * 20", "x * 2000"),
    "a generator": ("main", "yield i + 21", "yield i + 2100"),
    "a generator made a function": ("main", "yield i + 21", "return i + 21"),
    "a coroutine": ("main", "return x + 22", "return x + 2200"),
    "a coroutine made a function": ("main", "async def waiting", "def waiting"),
    "a local function": ("main", "y + 23", "y + 2300"),
    "a local class": ("main", "attribute = 24", "attribute = 2400"),
    "a method of a local class": ("main", "return 25", "return 2500"),
    "what is caught": ("main", "(ValueError, KeyError)", "(ValueError, TypeError)"),
    "a handler": ("main", "total = 26", "total = 2600"),
    "what is inside a try": ("main", "remembered(x) + part()", "remembered(x) + part(); total += 0"),
    "a comprehension": ("main", "i * 27", "i * 2700"),
    "a global number": ("main", "RATE = 0.1", "RATE = 0.2"),
    "the sign of a zero": ("main", "RATE = 0.1", "RATE = -0.0"),
    "a global dict": ("main", "[1, 2]", "[1, 3]"),
    "a global set": ("main", '{"x", "y"}', '{"x", "z"}'),
    "a set among the constants": ("main", '{"a", "b"}', '{"a", "c"}'),
    "a function in a global dict": ("main", "(3, scale)", "(3, helpers.clean)"),
    "the method that a global is": ("main", "METHOD = MODEL.predict", "METHOD = MODEL.shift"),
    "an imported name": ("main", "import scale as renamed", "import clean as renamed"),
    "the name of a parameter": ("main", "def plain(x):\n            return x", "def plain(y):\n            return y"),
    "a global of a helper": ("helpers", "FACTOR = 30", "FACTOR = 3000"),
    "a global of a helper's method": ("helpers", "LIMITS = [31]", "LIMITS = [3100]"),
    "a helper": ("helpers", "other.strip(x) + 32", "other.strip(x) + 3200"),
    "a class of a helper": ("helpers", "x + LIMITS[0]", "x - LIMITS[0]"),
    "a helper of a helper": ("other", "x - 34", "x - 3400"),
    "an attribute of a module": ("pkg.settings", "DEPTH = 36", "DEPTH = 3600"),
    "a module in a package in a package": ("pkg.deep.inner", "x + D + 38", "x + D + 3800"),
    "a module imported in the function": ("lazy", "x + 39", "x + 3900"),
    "a name imported in the function": ("lazy_from", "helper(x) + 41", "helper(x) + 4100"),
    "a helper of a name imported in the function": ("lazy_from", "x + 42", "x + 4200"),
    "a submodule imported in the function": ("lazy_pkg.sub", "x + 43", "x + 4300"),
    "a helper that is gone": ("main", "RATE = 0.1", ""),
}


def edited(module: str, before: str, after: str) -> dict[str, str]:
    assert before in BASE[module]
    return {**BASE, module: BASE[module].replace(before, after, 1)}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Digest and parts of BASE's `f`, once."""
    directory = tmp_path_factory.mktemp("original")
    with project.__wrapped__(directory)(BASE) as main:  # type: ignore[attr-defined]
        return function_digest(main.f).hex(), function_parts(main.f)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_anything_used_changes_the_digest_and_some_part(edit, project, original):
    digest, parts = original
    with project(edited(*EDITS[edit])) as main:
        assert function_digest(main.f).hex() != digest
        assert function_parts(main.f) != parts


# ---- edits that do not

HARMLESS = {
    "nothing": ("main", "x + 1", "x + 1"),
    "blank lines": ("main", "        def plain", "\n\n\n\n        def plain"),
    "a comment": ("main", "return x + 1", "return x + 1  # one more"),
    "a comment on a line of its own": ("main", "return x + 1", "# one more\n            return x + 1"),
    "spaces": ("main", "x + 1", "x   +   1"),
    "parentheses": ("main", "return x + 1", "return (x + 1)"),
    "line breaks": ("main", "return x + 1", "return (\n                x\n                + 1\n            )"),
    "line breaks in a call": (
        "main",
        "plain(x) + with_default(x)",
        f"plain(\n{' ' * 16}x\n{' ' * 16})\\\n{' ' * 12}+ with_default(x,)",
    ),
    "a docstring": ("main", "return x + 1", '"""Add one."""\n            return x + 1'),
    "a docstring of a method": ("main", "return cls(11)", '"""Make it."""\n                return cls(11)'),
    "a docstring of a class": ("main", "offset = 8", '"""Doc."""\n            offset = 8'),
    "a docstring of a local function": ("main", "return y + 23", '"""Doc."""\n                return y + 23'),
    "a docstring of a local class": ("main", "attribute = 24", '"""Doc."""\n                attribute = 24'),
    "a docstring of a module": ("helpers", "import other", '"""Doc."""\n        import other'),
    "an annotation": ("main", "def plain(x)", "def plain(x: int) -> int"),
    "the name of a function": (
        "main",
        "square = lambda x:",
        "def anything(x): return x * 20\n        square = lambda x:",
    ),
    "a lambda made a function": ("main", "square = lambda x: x * 20", "def square(x):\n            return x * 20"),
    "an unused function": ("helpers", "x + 33", "x + 3300"),
    "an unused global": ("pkg.settings", "UNUSED = 37", "UNUSED = 3700"),
    "an unused part of a package": ("pkg.__init__", "MARK = 35", "MARK = 3500"),
    "an unused name of a module imported in the function": ("lazy", "x + 40", "x + 4000"),
    "the order of definitions": ("helpers", "FACTOR = 30\n        LIMITS = [31]", "LIMITS = [31]\n        FACTOR = 30"),
    "another import": ("main", "import functools", "import functools\n        import decimal"),
    "a dict in another order": ("main", '{"a": [1, 2], "b": (3, scale)}', '{"b": (3, scale), "a": [1, 2]}'),
    "a set in another order": ("main", '{"x", "y"}', '{"y", "x"}'),
    "annotations from the future": (
        "helpers",
        "import other",
        "from __future__ import annotations\n        import other",
    ),
}


@pytest.mark.parametrize("edit", HARMLESS)
def test_an_edit_that_changes_nothing_keeps_the_digest_and_the_parts(edit, project, original):
    with project(edited(*HARMLESS[edit])) as main:
        assert function_digest(main.f).hex() == original[0]
        if edit != "a lambda made a function":  # it has a name then
            assert function_parts(main.f) == original[1]


def test_a_docstring_may_change():
    def one():
        """One."""
        return helper()

    def two():
        """Two."""
        return helper()

    def three():
        return helper()

    def helper():
        """Help."""

    assert len({function_digest(f) for f in (one, two, three)}) == 1


def test_a_docstring_that_is_also_a_constant():
    def one():
        """text"""
        return "text"

    def two():
        return "text"

    def three():
        """text"""
        return "other text"

    assert function_digest(one) == function_digest(two) != function_digest(three)


def test_functions_may_move_to_another_module(digest):
    helper = "RATE = 2\ndef scale(x): return x * RATE\n"
    inside = digest(helper + "def f(x): return scale(x)")
    assert digest({"main": "from elsewhere import scale\ndef f(x): return scale(x)", "elsewhere": helper}) == inside
    assert digest({"main": "from a.b.c import scale\ndef f(x): return scale(x)", "a.b.c": helper}) == inside


def test_equal_classes_of_two_modules_differ(digest):
    message = "class Start: pass\n"
    one = digest({"main": "from v1 import Start\ndef f(x): return isinstance(x, Start)", "v1": message})
    two = digest({"main": "from v2 import Start\ndef f(x): return isinstance(x, Start)", "v2": message})
    assert one != two


# ---- what is reached


def test_parts_say_what_changed(project, original):
    for edit, expected in {
        "a helper of a helper": {"other.strip"},
        "a global of a helper": {"helpers.FACTOR"},
        "one of two that call each other": {"main.even"},
        "a global number": {"main.RATE"},
        "a method": {"main.Model.predict"},
        "an attribute of a base class": {"main.Base"},
        "a local function": {"main.f"},
        "a name imported in the function": {"lazy_from.member"},
    }.items():
        with project(edited(*EDITS[edit])) as main:
            new = function_parts(main.f)
        changed = {name for name in new.keys() | original[1].keys() if new.get(name) != original[1].get(name)}
        assert changed == expected, edit


def test_parts_name_what_is_reached():
    import numpy as np

    def helper(x):
        return np.mean(x) + RATE

    def f(x):
        return helper(x)

    here = f"{__name__}.test_parts_name_what_is_reached.<locals>"
    parts = function_parts(f)
    assert parts.pop("numpy") == f"numpy=={np.__version__}"
    assert parts.pop("python") == f"python {sys.version_info.major}.{sys.version_info.minor}"
    assert set(parts) == {f"{here}.f", f"{here}.helper", f"{__name__}.RATE"}
    assert all(len(bytes.fromhex(digest)) == 20 for digest in parts.values())


RATE = 3


def test_functions_of_one_name_are_numbered():
    def make(n):
        return lambda x: x + n

    a, b = make(1), make(2)

    def f(x):
        return a(x) + b(x)

    names = [name.rpartition(".")[2] for name in function_parts(f)]
    assert "<lambda>" in names
    assert "<lambda> (2)" in names


# ---- functions of all kinds


def different(*functions: object) -> None:
    digests = [function_digest(f) for f in functions]
    assert len(set(digests)) == len(digests), [i for i, d in enumerate(digests) if digests.count(d) > 1]


class Caller:
    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        return x + self.n

    def method(self, x):
        return x - self.n

    @classmethod
    def build(cls, x):
        return cls(x)

    @staticmethod
    def static(x):
        return x


def plain(x):
    return x + 1


def test_callables_of_all_kinds():
    different(
        plain, lambda x: x + 2, functools.partial(plain), functools.partial(plain, 1), functools.lru_cache(plain),
        len, max, sum, Caller, Caller(1), Caller(2), Caller(1).method, Caller(2).method, Caller.method, Caller.build,
        Caller.static, str.upper, "a".upper, "b".upper, [].append, int, float, os.path.join, functools.reduce,
        functools.partialmethod(plain, 1),
    )  # fmt: skip


def test_where_a_function_is_written_does_not_count_nor_its_name():
    a = lambda x: x + 1  # noqa: E731
    assert function_digest(a) == function_digest(plain)


def test_closures():
    def make(value):
        def inner():
            return value

        return inner

    def empty(fill):
        def inner():
            return value

        if fill:
            value = 1
        return inner

    assert function_digest(make([1])) == function_digest(make([1]))
    different(
        make(1),
        make(1.0),
        make(True),
        make("1"),
        make([1]),
        make((1,)),
        make(None),
        make(make(1)),
        make(plain),
        make(len),
    )
    different(empty(True), empty(False))


def test_a_function_that_calls_itself():
    def make(constant):
        def go(n):
            return constant if n == 0 else go(n - 1)

        return go

    assert function_digest(make(1)) == function_digest(make(1))
    different(make(1), make(2))


def test_each_call_looks_again():
    namespace: dict[str, object] = {}
    exec("RATE = 1\ndef helper(x): return x * RATE\ndef f(x): return helper(x)", namespace)
    first = function_digest(namespace["f"])
    namespace["RATE"] = 2
    second = function_digest(namespace["f"])
    exec("def helper(x): return x / RATE", namespace)
    third = function_digest(namespace["f"])
    namespace["RATE"] = 1
    exec("def helper(x): return x * RATE", namespace)
    assert function_digest(namespace["f"]) == first
    assert len({first, second, third}) == 3


def test_a_cell_that_is_run_again_unchanged_changes_nothing():
    source = "def f(n): return 1 if n == 0 else n * g(n - 1)\ndef g(n): return f(n)"
    namespace: dict[str, object] = {}
    exec(source, namespace)
    old = namespace["f"]
    before = function_digest(old)
    exec(source, namespace)
    assert namespace["f"] is not old
    assert function_digest(old) == function_digest(namespace["f"]) == before


def test_attributes_of_functions_count_where_they_are_read(digest):
    source = "def g(x): return x\ng.table = {{'a': {}}}\ng.unused = {}\ndef f(x): return g(x), g.table['a']"
    one = digest(source.format(1, 1))
    assert digest(source.format(1, 2)) == one
    assert digest(source.format(2, 1)) != one
    assert digest(source.format(1, 1).replace("return x", "return -x")) != one


def test_a_name_that_is_not_there_yet():
    namespace: dict[str, object] = {}
    exec("def f(x): return later(x)", namespace)
    missing = function_digest(namespace["f"])
    exec("def later(x): return x", namespace)
    assert function_digest(namespace["f"]) != missing


def test_a_global_that_hides_a_builtin():
    namespace: dict[str, object] = {}
    exec("def f(x): return len(x)", namespace)
    before = function_digest(namespace["f"])
    exec("def len(x): return 0", namespace)
    assert function_digest(namespace["f"]) != before


def test_globals_that_refer_to_each_other():
    source = "def f(x): return TABLE['f'](x)\ndef g(x): return {n}\nTABLE = {{'f': g, 'g': [f, g]}}"

    def load(n):
        namespace: dict[str, object] = {}
        exec(source.format(n=n), namespace)
        return namespace

    one, same, two = load(1), load(1), load(2)
    assert function_digest(one["f"]) == function_digest(same["f"]) != function_digest(two["f"])
    assert hash_value(one["TABLE"]) == hash_value(same["TABLE"]) != hash_value(two["TABLE"])
    assert function_digest(one["f"]) != function_digest(one["g"])


def test_sets_of_functions_do_not_depend_on_order():
    def load(order):
        namespace: dict[str, object] = {"functools": functools}
        for n in order:
            exec(f"def f{n}(x): return CHOICE, {n}", namespace)
        exec(f"CHOICE = {{{', '.join(f'f{n}' for n in order)}}}\nKEYS = {{f: 1 for f in CHOICE}}", namespace)
        exec("def f(x): return CHOICE, KEYS", namespace)
        return function_digest(namespace["f"])

    assert load([1, 2, 3, 4]) == load([4, 2, 1, 3]) != load([1, 2, 3, 5])


def test_what_is_a_class_a_digest_of():
    def make(source, name="C"):
        namespace: dict[str, object] = {"__name__": "models"}
        exec(source, namespace)
        return function_digest(namespace[name])  # type: ignore[arg-type]

    one = make("class C:\n    x = 1\n    def m(self): return C")
    assert make("class C:\n    'doc'\n\n    def m(self): return C\n    x: int = 1") == one
    others = [
        make("class C:\n    x = 2\n    def m(self): return C"),
        make("class C:\n    x = 1\n    def m(self): return D\nD = C"),
        make("class C(Exception):\n    x = 1\n    def m(self): return C"),
        make("class M(type): pass\nclass C(metaclass=M):\n    x = 1\n    def m(self): return C"),
        make("class D:\n    x = 1\n    def m(self): return D", "D"),
        make("class C:\n    __slots__ = ('a',)"),
        make("class C:\n    __slots__ = ('b',)"),
    ]
    assert len({one, *others}) == len(others) + 1


def test_abstract_and_generic_classes_and_protocols():
    source = """
        import abc, typing
        T = typing.TypeVar("T")
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
        class Square(Shape, typing.Generic[T]):
            def area(self): return 1
        class Sized(typing.Protocol):
            def size(self) -> int: ...
        class Meta(type):
            def hello(cls): return 2
        class WithMeta(metaclass=Meta): pass
        class Row(typing.NamedTuple):
            a: int = 3
        class Keys(typing.TypedDict):
            a: int
        def f(): return Square, Sized, WithMeta, Row, Keys
        """

    def load(old="", new=""):
        namespace: dict[str, object] = {"__name__": "shapes"}
        exec(textwrap.dedent(source.replace(old, new)), namespace)
        return namespace

    namespace = load()
    before = function_digest(namespace["f"])
    assert isinstance(namespace["Square"](), namespace["Shape"])  # the abstract class remembers that it was asked
    namespace["Square"]().__reduce_ex__(4)  # and this notes the names of slots on the class
    assert function_digest(namespace["f"]) == before == function_digest(load()["f"])
    for old, new in (
        ("return 1", "return 10"),
        ("return 2", "return 20"),
        ("int = 3", "int = 30"),
        ("def size", "def length"),
    ):
        assert function_digest(load(old, new)["f"]) != before


# ---- packages


def test_installed_packages_count_by_name_and_version(monkeypatch):
    import numpy as np

    from graphray.graph import code

    def f(x):
        return np.linalg.norm(x)

    def g(x):
        import numpy

        return numpy.linalg.norm(x)

    before, lazily = function_digest(f), function_digest(g)
    monkeypatch.setitem(code._distributions, "numpy", "numpy==0.0.1")
    assert function_digest(f) != before
    assert function_digest(g) != lazily
    assert function_digest(plain) == function_digest(lambda x: x + 1)


def test_the_standard_library_counts_as_python(monkeypatch):
    from graphray.graph import code

    def f(x):
        return json.dumps(x)

    before, other = function_digest(f), function_digest(plain)
    monkeypatch.setattr(code, "_PYTHON", "python 0.0")
    assert function_digest(f) != before
    assert function_digest(plain) == other


def test_a_package_without_metadata_counts_by_its_content(digest):
    main = "import sitely\ndef f(x): return sitely.fn(x)"
    at = {"main": main, "site-packages.sitely": "def fn(x): return x"}
    loader = "import sys, os; sys.path.insert(0, os.path.join(os.path.dirname(__file__), 'site-packages'))\n"
    one = digest({**at, "main": loader + main, "sitely": ""})
    two = digest({**at, "main": loader + main, "sitely": "", "site-packages.sitely": "def fn(x): return -x"})
    assert one != two


def test_functions_made_by_packages_count_by_what_they_hold():
    @contextlib.contextmanager
    def managed():
        yield 1

    @contextlib.contextmanager
    def other():
        yield 2

    different(managed, other, managed.__wrapped__)


def test_jax():
    import jax
    import jax.numpy as jnp

    def loss(w, x):
        return jnp.sum(w * x)

    def other(w, x):
        return jnp.sum(w + x)

    @jax.custom_vjp
    def clipped(x):
        return x

    clipped.defvjp(lambda x: (x, x), lambda r, g: (g,))

    @jax.custom_vjp
    def unclipped(x):
        return x

    unclipped.defvjp(lambda x: (x, x), lambda r, g: (2 * g,))
    different(
        loss, other, jax.jit(loss), jax.jit(other), jax.grad(loss), jax.grad(loss, argnums=1),
        jax.value_and_grad(loss), jax.vmap(loss, in_axes=(None, 0)), jax.vmap(loss, in_axes=(0, 0)),
        jax.vmap(other, in_axes=(0, 0)), clipped, unclipped, jax.checkpoint(loss), jnp.sum, jnp.mean, jax.nn.relu,
        jax.nn.gelu, jax.jit(jax.vmap(loss)),
    )  # fmt: skip
    jitted = jax.jit(loss)
    before = function_digest(jitted)
    jitted(1.0, 2.0)
    assert function_digest(jitted) == before


def test_models_of_pydantic():
    import pydantic

    def make(default):
        class Config(pydantic.BaseModel):
            rate: float = default

        return Config

    assert function_digest(make(1)) == function_digest(make(1)) != function_digest(make(2))
    assert hash_value(make(1)()) == hash_value(make(1)()) != hash_value(make(1)(rate=3))


def test_flax_and_optax():
    import flax.linen as nn
    import optax

    def make(width):
        class Net(nn.Module):
            size: int = 4

            @nn.compact
            def __call__(self, x):
                return nn.Dense(self.size)(nn.relu(nn.Dense(width)(x)))

        return Net

    assert function_digest(make(3)) == function_digest(make(3)) != function_digest(make(5))
    assert hash_value(make(3)()) == hash_value(make(3)()) != hash_value(make(5)())
    adam, same, sgd = optax.adam(1e-3), optax.adam(1e-3), optax.sgd(1e-3)
    assert hash_value(adam) == hash_value(same)
    assert len({hash_value(o) for o in (adam, optax.adam(1e-2), sgd, optax.chain(adam, sgd))}) == 4


# ---- the same everywhere


def test_running_and_tracing_a_function_changes_nothing():
    def f(n):
        total = 0
        for i in range(n):
            total += i if i in {1, 2, 3} else len([i])
        return total

    before = function_digest(f)
    for _ in range(200):
        f(50)  # the interpreter specialises it
    fresh = types.FunctionType(f.__code__.replace(co_filename="elsewhere"), globals())  # nothing of it is known yet
    old = sys.gettrace()
    sys.settrace(lambda *args: None)
    try:
        f(50)
        traced = types.FunctionType(f.__code__.replace(co_firstlineno=99), globals())
        assert function_digest(traced) == before
    finally:
        sys.settrace(old)
    assert function_digest(fresh) == function_digest(f) == before


def run(code: str, *, seed: str = "0", path: Path | None = None, stdin: bytes = b"") -> str:
    env = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(path or ""), *sys.path])),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, input=stdin, capture_output=True, timeout=60, check=True
    )
    return done.stdout.decode()


def test_the_digest_is_the_same_in_every_process_and_under_every_hash_seed(project, original):
    with project(BASE) as main:
        path = Path(main.__file__).parent
        code = """
            import main, json
            from graphray.graph.code import function_digest, function_parts
            print(json.dumps([function_digest(main.f).hex(), function_parts(main.f)]))
            """
        for seed in ("0", "1", "77"):
            assert tuple(json.loads(run(textwrap.dedent(code), seed=seed, path=path))) == original


def test_the_digest_is_the_same_where_the_function_was_sent_by_value(project):
    """What cloudpickle rebuilds in a process that has none of the modules."""
    source = BASE["main"]
    for line in (
        "        @functools.lru_cache",
        "            @functools.cached_property",
        "        @functools.singledispatch",
    ):
        source = source.replace(f"{line}\n", "")  # these cannot be sent by value
    source = source.replace("@dispatch.register", "")
    with project({**BASE, "main": source}) as main:
        modules = [sys.modules[name] for name in ("main", "helpers", "other", "pkg", "pkg.settings", "pkg.deep.inner")]
        path = Path(main.__file__).parent
        for module in modules:
            cloudpickle.register_pickle_by_value(module)
        try:
            sent = cloudpickle.dumps([main.f, main.Model, main.MODEL, main.Colour, main.Config])
        finally:
            for module in modules:
                cloudpickle.unregister_pickle_by_value(module)
        expected = [hash_value(x).hex() for x in (main.f, main.Model, main.MODEL, main.Colour, main.Config)]
        for name in ("lazy.py", "lazy_from.py", "lazy_pkg"):  # what a function imports itself must be there
            (path / "only").mkdir(exist_ok=True)
            (path / name).rename(path / "only" / name)
    code = """
        import sys, pickle
        from graphray.graph.hashing import hash_value
        got = pickle.loads(sys.stdin.buffer.read())
        assert "main" not in sys.modules and "helpers" not in sys.modules
        print(*[hash_value(x).hex() for x in got])
        """
    for seed in ("0", "5"):
        assert run(textwrap.dedent(code), seed=seed, path=path / "only", stdin=sent).split() == expected


# ---- properties over random programs


@st.composite
def programs(draw):
    """Functions that call each other at random: for each, whom it calls and a constant."""
    n = draw(st.integers(1, 7))
    calls = [draw(st.lists(st.integers(0, n - 1), max_size=3)) for _ in range(n)]
    constants = [draw(st.integers(0, 2)) for _ in range(n)]
    return calls, constants


def compiled(calls: list[list[int]], constants: list[int], order: list[int] | None = None) -> list[types.FunctionType]:
    namespace: dict[str, object] = {}
    for i in order or range(len(calls)):
        exec(f"def f{i}(): return {constants[i]}, [{', '.join(f'f{j}()' for j in calls[i])}]", namespace)
    return [namespace[f"f{i}"] for i in range(len(calls))]  # type: ignore[misc]


def reached(calls: list[list[int]], start: int) -> set[int]:
    found, todo = {start}, [start]
    while todo:
        new = set(calls[todo.pop()]) - found
        found |= new
        todo += new
    return found


@given(programs(), st.data())
def test_a_digest_changes_exactly_if_something_that_is_reached_changes(program, data):
    calls, constants = program
    n = len(calls)
    before = [function_digest(f) for f in compiled(calls, constants)]
    i = data.draw(st.integers(0, n - 1))
    changed = [*constants[:i], 9, *constants[i + 1 :]]
    after = [function_digest(f) for f in compiled(calls, changed)]
    for j in range(n):
        assert (before[j] != after[j]) == (i in reached(calls, j))


@given(programs(), st.data())
def test_a_digest_depends_neither_on_order_nor_on_what_was_asked_before(program, data):
    calls, constants = program
    n = len(calls)
    alone = [function_digest(f) for f in compiled(calls, constants)]
    functions = compiled(calls, constants, data.draw(st.permutations(range(n))))
    walk = Walk()
    for i in data.draw(st.permutations(range(n))):
        assert function_digest(functions[i], walk) == alone[i]


@given(programs())
def test_functions_have_one_digest_if_and_only_if_nothing_tells_them_apart(program):
    """Compared with a plain refinement of all functions at once, by name of the callee."""
    calls, constants = program
    functions = compiled(calls, constants)
    digests = [function_digest(f) for f in functions]
    # The names of those called are part of the code, so equal functions call equal names.
    colours = [(constants[i], tuple(calls[i])) for i in range(len(calls))]
    for i, j in itertools.combinations(range(len(calls)), 2):
        assert (digests[i] == digests[j]) == (colours[i] == colours[j])


@settings(max_examples=30)
@given(st.integers(0, 3), st.integers(0, 3))
def test_copies_of_what_calls_itself_count_as_one(a, b):
    """A closure that refers to a copy of itself, however many times over, is the same function."""

    def chain(length):
        def make(cell_value):
            def f():
                return cell_value[0]

            return f

        last: list[object] = []
        f = make(last)
        last.append(f)
        # `last` contains a function that refers to `last`: it may be unrolled any number of times.
        for _ in range(length):
            f = make([f])
        return f

    assert function_digest(chain(a)) == function_digest(chain(b))


def test_a_very_long_chain_of_functions():
    namespace: dict[str, object] = {}
    exec("def f0(): return 0", namespace)
    for i in range(1, 3000):
        exec(f"def f{i}(): return f{i - 1}()", namespace)
    before = function_digest(namespace["f2999"])
    exec("def f0(): return 1", namespace)
    assert function_digest(namespace["f2999"]) != before
    namespace["f0"] = namespace["f2999"]  # one large circle
    assert len(function_digest(namespace["f2999"])) == 20


# ---- what has no digest


def test_a_global_that_cannot_be_hashed_is_named(project):
    source = """
        import threading
        LOCK = threading.Lock()
        STATE = {"locks": [LOCK]}
        class Guard:
            lock = LOCK
        def helper(): return LOCK
        def train(): return helper()
        def trail(): return STATE
        def default(lock=LOCK): return lock
        def keyword(*, lock=LOCK): return lock
        def guarded(): return Guard
        def make(lock):
            def inner(): return lock
            return inner
        closed = make(LOCK)
        def generated(): return GENERATOR
        GENERATOR = (i for i in ())
        def fine(): return 1
        """
    lock = "a '_thread.lock' cannot be hashed"
    expected = {
        "helper": f"function main.helper uses global LOCK: {lock}",
        "train": f"function main.train uses function main.helper uses global LOCK: {lock}",
        "trail": f"""function main.trail uses global STATE["locks"][0]: {lock}""",
        "default": f"function main.default uses default of lock: {lock}",
        "keyword": f"function main.keyword uses default of lock: {lock}",
        "guarded": f"function main.guarded uses class main.Guard uses attribute lock: {lock}",
        "closed": f"function main.make.<locals>.inner uses closure variable lock: {lock}",
        "generated": "function main.generated uses global GENERATOR: a 'generator' cannot be hashed: "
        "it can be read only once",
    }
    with project(source) as main:
        for name, message in expected.items():
            with pytest.raises(Unhashable) as caught:
                function_digest(getattr(main, name))
            assert str(caught.value) == message
        with pytest.raises(Unhashable) as caught:
            hash_value([1, {"f": main.train}])
        assert str(caught.value) == f"""[1]["f"]: {expected["train"]}"""
        walk = Walk()
        with pytest.raises(Unhashable):
            function_digest(main.train, walk)
        with pytest.raises(Unhashable):
            function_digest(main.train, walk)
        assert function_digest(main.fine, walk) == function_digest(main.fine)


def test_a_module_that_fails_when_it_is_imported(project):
    source = {"main": "def f():\n    import broken\n    return broken.x", "broken": "raise RuntimeError('no')"}
    with (
        project(source) as main,
        pytest.raises(Unhashable, match="module broken: it cannot be imported: RuntimeError: no"),
    ):
        function_digest(main.f)


def test_a_module_that_is_not_there(digest):
    source = (
        "def f():\n    try:\n        import not_there\n    except ImportError:\n        return 1\n    return not_there"
    )
    assert digest(source) == digest(source)
    assert digest({"main": source, "not_there": ""}) != digest(source)


# ---- modules


def test_a_module_as_a_value_counts_with_all_it_has(digest):
    main = "import helpers\ndef f(name): return getattr(helpers, name)(1)"
    one = digest({"main": main, "helpers": "def a(x): return x\ndef b(x): return x"})
    assert digest({"main": main, "helpers": "def a(x): return x\n\n# no more\ndef b(x): return x"}) == one
    assert digest({"main": main, "helpers": "def a(x): return x\ndef b(x): return -x"}) != one


def test_a_package_does_not_count_what_others_have_imported_of_it(project):
    sources = {"main": "import pkg\ndef f(): return pkg", "pkg.__init__": "x = 1", "pkg.sub": "y = 1"}
    with project(sources) as main:
        before = function_digest(main.f)
        importlib.import_module("pkg.sub")
        assert function_digest(main.f) == before


def test_a_bare_module_and_its_submodule(digest):
    main = "import pkg.sub\ndef f(): return vars(pkg), pkg.sub.fn()"
    one = digest({"main": main, "pkg.__init__": "", "pkg.sub": "def fn(): return 1"})
    assert digest({"main": main, "pkg.__init__": "", "pkg.sub": "def fn(): return 2"}) != one


def test_relative_imports_inside_functions(digest):
    sources = {
        "main": "from pkg.a.b import f",
        "pkg.__init__": "",
        "pkg.c": "def up(): return 1",
        "pkg.a.__init__": "",
        "pkg.a.d": "def side(): return 1",
        "pkg.a.b": """
            def f():
                from ..c import up
                from . import d
                from .d import side
                return up(), d.side(), side()
            """,
    }
    one = digest(sources)
    assert digest({**sources, "pkg.c": "def up(): return 2"}) != one
    assert digest({**sources, "pkg.a.d": "def side(): return 2"}) != one


def test_a_module_in_a_closure(digest):
    main = "def make():\n    import helpers\n    def f(): return helpers.a()\n    return f\nf = make()"
    one = digest({"main": main, "helpers": "def a(): return 1\ndef b(): return 1"})
    assert digest({"main": main, "helpers": "def a(): return 1\ndef b(): return 2"}) == one
    assert digest({"main": main, "helpers": "def a(): return 2\ndef b(): return 1"}) != one


def test_names_that_a_module_makes_when_asked(digest):
    main = "import helpers\ndef f(): return helpers.made"
    helpers = "def __getattr__(name):\n    if name == 'made': return {}\n    raise AttributeError(name)"
    assert digest({"main": main, "helpers": helpers.format(1)}) != digest({"main": main, "helpers": helpers.format(2)})


# ---- stand-ins, as graphray's tasks are


def test_types_that_hold_functions_can_be_registered(monkeypatch):
    class Lazy:
        def __init__(self, fn):
            self.fn = fn

    monkeypatch.setattr(hashing, "_HANDLERS", dict(hashing._HANDLERS))
    register(Lazy, lambda lazy: function_digest(lazy.fn), parts=lambda lazy: ("lazy", lazy.fn))

    def load(n):
        namespace: dict[str, object] = {"Lazy": Lazy}
        exec(f"@Lazy\ndef go(n): return {n} if n == 0 else go(n - 1)", namespace)
        return namespace["go"]

    assert hash_value(load(1)) == hash_value(load(1)) != hash_value(load(2))
    assert hash_value(load(1)) == function_digest(load(1).fn)


def test_the_public_functions_say_what_they_do():
    for function in (function_digest, function_parts, hash_value, register):
        assert inspect.getdoc(function)


def test_threads_may_ask_at_once():
    expected = function_digest(test_callables_of_all_kinds)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(function_digest(test_callables_of_all_kinds))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4
