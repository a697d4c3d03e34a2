"""Results as plain data, for JSON."""

from __future__ import annotations

import json
import math
import sys

from graphray.cli.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


def to_json(document: Any) -> str:
    """A document as JSON text (strictly JSON: what is no number there is a text).

    Raises:
        UsageError: it contains itself, or is nested too deeply for JSON.
    """
    try:
        return json.dumps(plain(document), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise UsageError("the results are nested too deeply for JSON, or contain themselves") from None


def plain(x: Any) -> Any:
    """A value as texts, numbers, booleans, None, lists and dicts.

    NaN and the infinities, which JSON lacks, become the texts "NaN", "Infinity" and "-Infinity"; arrays of NumPy and
    JAX become lists, and their scalars numbers; dataclasses and named tuples dicts by field; sets lists, sorted where
    they can be; members of an Enum their names; and anything else its text. A dict whose keys would not stay apart as
    texts becomes a list of pairs.
    """
    if x is None or x is True or x is False:
        return x
    if isinstance(x, str):
        return _text(str.__str__(x)) if type(x) is str else plain(_unwrapped(x, str))
    if isinstance(x, int):
        return _integer(x) if type(x) is int else plain(_unwrapped(x, int))
    if isinstance(x, float):
        return _float(float(x))
    if isinstance(x, dict):
        return _mapping(x.items())
    fields = fields_of(x)
    if fields is not None:
        return _mapping(fields)
    if isinstance(x, (list, tuple)):
        return [plain(y) for y in x]
    if isinstance(x, (set, frozenset)):
        return [plain(y) for y in in_order(x)]
    if hasattr(type(x), "__members__"):
        return plain(x.name)
    array = as_array(x)
    if array is not None:
        return plain(array.tolist())
    return _text(text_of(x))


def fields_of(x: Any) -> Iterable[tuple[str, Any]] | None:
    """Names and values of the fields of a dataclass or named tuple; None for anything else."""
    if isinstance(x, tuple):
        names = getattr(type(x), "_fields", None)
        return zip(names, x, strict=True) if names is not None else None
    names = getattr(type(x), "__dataclass_fields__", None)
    if names is None:
        return None
    from dataclasses import fields

    return [(field.name, getattr(x, field.name, None)) for field in fields(x)]


def as_array(x: Any) -> Any:
    """A NumPy array of an array or scalar of NumPy, JAX and the like; None for anything else."""
    if "numpy" not in sys.modules or not (hasattr(x, "dtype") and hasattr(x, "shape")) or isinstance(x, type):
        return None
    import numpy

    try:
        array = numpy.asarray(x)
    except Exception:  # keys of jax.random, for one, are no numbers
        return None
    return None if array.dtype.char == "V" and not array.dtype.names else array  # raw bytes


def in_order(x: Iterable[Any]) -> list[Any]:
    """The elements of a set, in an order that does not change from run to run."""
    try:
        return sorted(x)
    except Exception:
        return sorted(x, key=repr)


def text_of(x: Any, how: Callable[[Any], str] = str) -> str:
    """The text of any object, also of one that does not give it."""
    try:
        return how(x)
    except Exception as error:
        return f"<{type(x).__name__}, which cannot be shown: {type(error).__name__}>"


def _unwrapped(x: Any, kind: type) -> Any:
    """A subclass of a plain type, such as a member of an IntEnum, as that plain type."""
    return x.value if hasattr(type(x), "__members__") and type(x.value) is kind else kind.__new__(kind, x)


def _mapping(items: Iterable[tuple[Any, Any]]) -> Any:
    pairs = [(k, plain(v)) for k, v in items]
    texts = [_key(k) for k, _ in pairs]
    if len(set(texts)) < len(texts):
        return [[plain(k), v] for k, v in pairs]
    return dict(zip(texts, [v for _, v in pairs], strict=True))


def _key(key: Any) -> str:
    value = plain(key)
    return value if isinstance(value, str) else str(key) if isinstance(value, (list, dict)) else json.dumps(value)


def _float(x: float) -> Any:
    if math.isfinite(x):
        return x
    return "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"


def _integer(x: int) -> Any:
    # Python refuses to write very long numbers in decimal.
    return x if x.bit_length() <= 4096 else hex(x)


def _text(x: str) -> str:
    """Text that can be encoded: half a surrogate pair, as in the name of a file, cannot."""
    return x.encode("utf-8", "backslashreplace").decode("utf-8")
