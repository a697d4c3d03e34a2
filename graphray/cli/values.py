"""Text to values: what `--set name=text` means for an annotated type."""

from __future__ import annotations

import ast
import collections.abc
import enum
import os
import pathlib
import types
import typing

from graphray.cli.errors import a

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

TRUE = ("true", "yes", "on", "1")
FALSE = ("false", "no", "off", "0")
NONE = ("none", "null")

_LISTS: dict[Any, Any] = {
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.MutableSequence: list,
    collections.abc.Sequence: tuple,
    collections.abc.Set: frozenset,
    frozenset: frozenset,
    list: list,
    set: set,
}


def parse(text: str, kind: Any) -> Any:
    """The value of a text for a type: bool, int, float, str, Path, None, Literal, Enum, unions, lists, tuples, dicts.

    Elements of lists and tuples are separated by commas. Where nothing is known about the type (`Any`), the text is a
    Python literal, and itself where it is none.

    Raises:
        ValueError: the text is no such value; the message says what would be.
        TypeError: values of this type cannot be given as text.
    """
    kind = _plain(kind)
    if kind is typing.Any or kind is object:
        return literal_or_text(text)
    if kind is None or kind is type(None):
        if text.lower() not in NONE:
            raise ValueError("none")
        return None
    origin = typing.get_origin(kind)
    if origin is typing.Union or origin is types.UnionType:
        return _parse_union(text, kind)
    if origin is typing.Literal:
        return _parse_literal(text, kind)
    if (origin or kind) is tuple:
        return _parse_tuple(text, kind)
    if (origin or kind) in _LISTS:
        return _LISTS[origin or kind](_parse_elements(text, _argument(kind), kind))
    if (origin or kind) in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return _parse_literal_of(text, dict, kind)
    if isinstance(kind, type) and origin is None:
        return _parse_class(text, kind)
    raise TypeError(kind)


def literal_or_text(text: str) -> Any:
    """A Python literal, such as a number or a list; the text itself where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def describe(kind: Any) -> str:
    """A type for people: `int`, `float | none`, `adam | sgd`, `list[int]`; empty where nothing is known."""
    kind = _plain(kind)
    if kind is typing.Any or kind is object:
        return ""
    if kind is None or kind is type(None):
        return "none"
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is typing.Union or origin is types.UnionType:
        return " | ".join(describe(k) or "any" for k in arguments)
    if origin is typing.Literal:
        return " | ".join(str(v) for v in arguments)
    if arguments:
        inside = ", ".join("…" if k is ... else describe(k) or "any" for k in arguments)
        return f"{_name(origin)}[{inside}]"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return " | ".join(kind.__members__)
    return _name(kind)


def typed(value: Any) -> str:
    """A value as one would type it: the inverse of `parse`, for what people read."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join([typed(x) for x in value])
    return str(value)


def expected(kind: Any) -> str:
    """What a text should have been: `a float`, `one of adam, sgd`, `a bool (true or false)`."""
    kind = _plain(kind)
    text = describe(kind)
    choices = typing.get_origin(kind) is typing.Literal or (isinstance(kind, type) and issubclass(kind, enum.Enum))
    if choices:
        return f"one of {text.replace(' | ', ', ')}"
    if kind is bool:
        return "a bool (true or false)"
    if text.startswith(("list[", "tuple[", "set[", "frozenset[", "Sequence[")):
        return f"{a(text)}, its elements separated by commas"
    return a(text)


def kind_of(default: Any) -> Any:
    """The type to read a text with where only a default is known.

    A whole number as default does not say that others are refused: nobody annotated it.
    """
    kind = type(default)
    if kind is int:
        return int | float
    if kind in (bool, float, str) or isinstance(default, (enum.Enum, pathlib.PurePath)):
        return kind
    if kind in (list, tuple, set, frozenset):
        return list if kind is list else tuple[typing.Any, ...] if kind is tuple else kind
    return typing.Any


def _plain(kind: Any) -> Any:
    """A type without what only a type checker or a reader minds: Annotated, NewType, `type X = …`."""
    while True:
        if typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        elif hasattr(kind, "__supertype__"):
            kind = kind.__supertype__
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        elif isinstance(kind, (str, typing.TypeVar, typing.ForwardRef)):
            return typing.Any
        else:
            return kind


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", None) or str(kind).removeprefix("typing.")


def _argument(kind: Any) -> Any:
    return (typing.get_args(kind) or (typing.Any,))[0]


def _parse_class(text: str, kind: type[Any]) -> Any:
    if issubclass(kind, enum.Enum):
        return _parse_enum(text, kind)
    if kind is bool:
        return _parse_bool(text)
    if kind is int:
        return _parse_int(text)
    if kind is float:
        return float(text)
    if kind is str:
        return text
    if kind is bytes:
        return text.encode()
    if kind is os.PathLike:
        return pathlib.Path(text)
    if issubclass(kind, pathlib.PurePath):
        return kind(text)
    if hasattr(kind, "fromisoformat"):  # dates and times
        return kind.fromisoformat(text)
    if kind.__module__ in ("decimal", "fractions", "uuid", "_decimal"):
        try:
            return kind(text)
        except ArithmeticError as error:
            raise ValueError(str(error)) from None
    raise TypeError(kind)


def _parse_bool(text: str) -> bool:
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ValueError("a bool")


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        number = float(text)  # 1e6 is a whole number too
        if "e" in text.lower() and number.is_integer():
            return int(number)
        raise


def _parse_enum(text: str, kind: type[enum.Enum]) -> enum.Enum:
    members = kind.__members__
    if text in members:
        return members[text]
    for name, member in members.items():
        if name.lower() == text.lower() or str(member.value) == text:
            return member
    raise ValueError("a member")


def _parse_union(text: str, kind: Any) -> Any:
    # None first and texts last: a text is anything.
    members = sorted(typing.get_args(kind), key=lambda k: (k is not type(None), k is str))
    unusable = 0
    for member in members:
        try:
            return parse(text, member)
        except TypeError:
            unusable += 1
        except ValueError:
            pass
    if unusable == len(members):
        raise TypeError(kind)
    raise ValueError("one of them")


def _parse_literal(text: str, kind: Any) -> Any:
    choices = typing.get_args(kind)
    for choice in choices:
        if type(choice) is str and choice == text:
            return choice
    for choice in choices:
        if type(choice) is not str:
            try:
                if parse(text, type(choice)) == choice:
                    return choice
            except ValueError:
                pass
    raise ValueError("one of them")


def _parse_tuple(text: str, kind: Any) -> Any:
    arguments = typing.get_args(kind) or (typing.Any, ...)
    if len(arguments) == 2 and arguments[1] is ...:
        return tuple(_parse_elements(text, arguments[0], kind))
    parts = _split(text, kind)
    if len(parts) != len(arguments):
        raise ValueError("the number of elements")
    return tuple([parse(part, k) for part, k in zip(parts, arguments, strict=True)])


def _parse_elements(text: str, element: Any, kind: Any) -> list[Any]:
    return [parse(part, element) for part in _split(text, kind)]


def _split(text: str, kind: Any) -> Sequence[str]:
    """The elements of a list, written `1,2,3` or as Python does: `[1, 2, 3]`."""
    text = text.strip()
    if text[:1] in ("[", "(", "{") and text[-1:] in ("]", ")", "}"):
        return [x if isinstance(x, str) else repr(x) for x in _parse_literal_of(text, (list, tuple, set), kind)]
    return [part.strip() for part in text.split(",")] if text else []


def _parse_literal_of(text: str, wanted: Any, kind: Any) -> Any:
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, MemoryError, RecursionError):
        raise ValueError("a literal") from None
    if not isinstance(value, wanted):
        raise ValueError("a literal of that type")
    return value
