"""Texts to values and values to texts: what `--set` gives, what `--json` prints and what people read."""

from __future__ import annotations

import dataclasses
import enum
import fractions
import json
import os
import pathlib
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional

import numpy as np
import pytest

import graphray as gr
from graphray.cli.errors import UsageError
from graphray.cli.parameters import described
from graphray.cli.plain import plain, to_json
from graphray.cli.pretty import pretty, pretty_one
from graphray.cli.values import describe, parse, typed

# ---- texts to values


class Colour(enum.Enum):
    red = "r"
    Blue = 2


Celsius = NewType("Celsius", float)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, "3", 3),
        (int, "-1_000", -1000),
        (int, "1e6", 1_000_000),
        (float, "1e-3", 1e-3),
        (float, "2", 2.0),
        (float, "inf", float("inf")),
        (bool, "true", True),
        (bool, "No", False),
        (bool, "0", False),
        (str, "3", "3"),
        (str, "", ""),
        (bytes, "a", b"a"),
        (pathlib.Path, "a/b", pathlib.Path("a/b")),
        (os.PathLike, "a", pathlib.Path("a")),
        (type(None), "none", None),
        (int | None, "none", None),
        (int | None, "4", 4),
        (int | None, "Null", None),
        (Optional["int"], "4", 4),
        (str | None, "none", None),
        (str | int, "4", 4),
        (int | float, "4", 4),
        (int | float, "4.5", 4.5),
        (float | str, "x", "x"),
        (Literal["adam", "sgd"], "sgd", "sgd"),
        (Literal[1, 2], "2", 2),
        (Literal["auto", 3, True], "3", 3),
        (Colour, "red", Colour.red),
        (Colour, "BLUE", Colour.Blue),
        (Colour, "2", Colour.Blue),
        (list[int], "1,2, 3", [1, 2, 3]),
        (list[int], "[1, 2]", [1, 2]),
        (list[int], "", []),
        (list[str], "a,b", ["a", "b"]),
        (list[str], "['a,b', 'c']", ["a,b", "c"]),
        (list[int | None], "1,none", [1, None]),
        (list, "1,a", [1, "a"]),
        (tuple[int, str], "1,a", (1, "a")),
        (tuple[float, ...], "1,2,3", (1.0, 2.0, 3.0)),
        (tuple, "1,2", (1, 2)),
        (set[int], "1,1,2", {1, 2}),
        (dict[str, int], "{'a': 1}", {"a": 1}),
        (Annotated[int, "of things"], "3", 3),
        (Celsius, "3", 3.0),
        (fractions.Fraction, "1/3", fractions.Fraction(1, 3)),
        (dict, "{1: 2}", {1: 2}),
        (Any, "1e-3", 1e-3),
        (Any, "plain text", "plain text"),
        (Any, "__import__('os')", "__import__('os')"),
    ],
)
def test_texts_become_values_of_the_annotated_type(kind, text, value):
    parsed = parse(text, kind)
    assert parsed == value
    assert type(parsed) is type(value)
    if kind not in (bytes, list[str]):
        assert parse(typed(parsed), kind) == parsed


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "1.5"),
        (int, "x"),
        (int, "1e-1"),
        (float, "fast"),
        (bool, "maybe"),
        (bool, "2"),
        (int | None, "x"),
        (Literal["adam", "sgd"], "sdg"),
        (Colour, "green"),
        (list[int], "1,x"),
        (list[int], "{1: 2}"),
        (list[int], "[1, 2"),
        (tuple[int, str], "1"),
        (dict[str, int], "a"),
        (fractions.Fraction, "1/0"),
    ],
)
def test_texts_of_another_type_are_refused(kind, text):
    with pytest.raises(ValueError):  # noqa: PT011  (what is said to the user is tested below)
        parse(text, kind)


def test_what_is_not_annotated_or_cannot_be_resolved_is_a_literal_or_a_text():
    assert parse("[1, 2]", Any) == [1, 2]
    assert parse("3", "Missing") == 3


def test_types_that_no_text_stands_for_are_refused():
    for kind in (np.ndarray, type[int], Colour | np.ndarray):
        with pytest.raises((TypeError, ValueError)):
            parse("x", kind)


def test_types_are_described_for_people():
    assert describe(int | None) == "int | none"
    assert describe(Literal["adam", 3]) == "adam | 3"
    assert describe(Colour) == "red | Blue"
    assert describe(list[int]) == "list[int]"
    assert describe(tuple[float, ...]) == "tuple[float, …]"
    assert describe(pathlib.Path) == "Path"
    assert describe(Any) == ""


def test_the_args_section_of_a_docstring():
    entries = "    a: one\n        two\n    *b (int, optional): three: four\n\n    c: five\n"
    text = f"What.\n\nArgs:\n{entries}\nReturns:\n    d: no\n"
    assert described(text) == {"a": "one two", "b": "three: four", "c": "five"}
    assert described("Nothing.") == {}


# ---- results as JSON


class Point(NamedTuple):
    x: float
    y: Any


@dataclasses.dataclass
class Thing:
    name: str
    at: Point


class Level(enum.IntEnum):
    low = 1


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (-float("inf"), "-Infinity"),
        (np.float32(1.5), 1.5),
        (np.float64("nan"), "NaN"),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.array([1.0, np.inf]), [1.0, "Infinity"]),
        (np.array([Point(1, 2), None], object), [[1, 2], None]),
        (np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]), [[1, 2.5]]),
        (np.array([b"ab"], "V2"), "[b'\\x61\\x62']"),
        (np.array(["2020-01-01"], "datetime64[D]"), ["2020-01-01"]),
        (Thing("a", Point(1.0, (2, None))), {"name": "a", "at": {"x": 1.0, "y": [2, None]}}),
        ({1: "a", "b": 2}, {"1": "a", "b": 2}),
        ({1: "a", "1": "b"}, [[1, "a"], ["1", "b"]]),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        ({None: 1, True: 2, 1.5: 3}, {"null": 1, "true": 2, "1.5": 3}),
        ({3, 1, 2}, [1, 2, 3]),
        ({"a", 1}, ["a", 1]),
        (Colour.red, "red"),
        (Level.low, 1),
        (pathlib.Path("a/b"), "a/b"),
        (1 + 2j, "(1+2j)"),
        (b"ab", "b'ab'"),
        (2**70, 2**70),
        ("\ud800", "\\ud800"),
        (Unspeakable(), "<Unspeakable, which cannot be shown: RuntimeError>"),
        (Thing, "<class 'test_cli_values.Thing'>"),
    ],
)
def test_values_become_plain_data(value, expected):
    got = plain(value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        got = [list(got[0].values()), got[1]]
    assert got == expected
    assert json.loads(to_json(plain(value))) == plain(value)


def test_integers_that_python_does_not_write_in_decimal_are_shown_all_the_same():
    assert plain(1 << 20_000) == hex(1 << 20_000)
    assert pretty_one(1 << 20_000, 50) == ["an integer of 20,001 bits"]


def test_jax_arrays_are_lists_and_keys_of_randomness_are_texts():
    import jax

    assert plain({"w": jax.numpy.ones((2, 2)), "b": jax.numpy.bfloat16(2)}) == {"w": [[1.0, 1.0], [1.0, 1.0]], "b": 2.0}
    assert isinstance(plain(jax.random.key(0)), str)


def test_what_contains_itself_is_refused():
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UsageError, match="nested too deeply"):
        to_json(endless)


# ---- results for people


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (3.14159265358979, "3.14159"),
        (500.0, "500.0"),
        (1e-8, "1e-08"),
        (1e300, "1e+300"),
        (float("nan"), "nan"),
        (-0.0, "-0.0"),
        (123456789, "123456789"),
        (True, "True"),
        (None, "None"),
        ("text", "text"),
        ("", ""),
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        ([1, 2.0, "a"], "[1, 2.0, 'a']"),
        ((1,), "(1,)"),
        ([], "[]"),
        (set(), "{}"),
        ({3, 1}, "{1, 3}"),
        ({"a": 1, 2: None}, "{a: 1, 2: None}"),
        (Point(0.1, [1]), "Point(x=0.1, y=[1])"),
        (Thing("a", Point(1.0, 2)), "Thing(name='a', at=Point(x=1.0, y=2))"),
        (Colour.red, "Colour.red"),
        (np.float32(0.1), "0.1"),
        (np.array(2.5), "2.5"),
        (np.zeros((0, 3)), "float64[0, 3]"),
        (np.arange(3), "int64[3]  0, 1, 2"),
        (np.arange(1000.0).reshape(10, 100), "float64[10, 100]  0.0, 1.0, 2.0, 3.0, 4.0, 5.0, …"),
        (list(range(1000)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … 988 more]"),
        ("x" * 1000, "x" * 181 + " … 1,000 characters"),
        (Unspeakable(), "<Unspeakable, which cannot be shown: RuntimeError>"),
        (gr.value(3), "<Node value(3)>"),
    ],
)
def test_a_value_in_a_line(value, line):
    (shown,) = pretty_one(value, 50)
    assert shown == line
    assert len(shown) <= 50 or isinstance(value, str)


def test_what_does_not_fit_in_a_line_gets_several():
    wide = {"alpha": 1.0, "nested": {f"key{i}": list(range(40)) for i in range(3)}, "last": "x" * 70}
    assert pretty({"result": wide}, 60) == [
        "result  alpha   1.0",
        "        nested  key0  [0, 1, 2, 3, 4, 5, 6, 7, … 32 more]",
        "                key1  [0, 1, 2, 3, 4, 5, 6, 7, … 32 more]",
        "                key2  [0, 1, 2, 3, 4, 5, 6, 7, … 32 more]",
        "        last    xxxxxxxxxxxxxxxxxxxxxxxxxxxx … 70 characters",
    ]
    assert pretty_one("one\ntwo\n", 60) == ["one", "two"]
    assert pretty_one("\n".join("abc" * 10), 60)[-1] == "… 6 more lines"
    assert pretty_one(dict.fromkeys(range(100), "x" * 80), 60)[-1] == "… 76 more"


@pytest.mark.parametrize("width", [20, 33, 60, 200])
def test_lines_are_no_wider_than_the_terminal(width):
    values = {
        "array": np.random.default_rng(0).normal(size=(100, 100)),
        "a name that is rather long": {"deep": {"deeper": {"deepest": {"bottom": [["x" * 100] * 100] * 100}}}},
        "points": [Point(i, i) for i in range(100)],
        "text": "many words " * 20 + "\n" + "more " * 100,
    }
    assert max(map(len, pretty(values, width))) <= width + 8
