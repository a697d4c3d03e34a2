"""Results for people: names aligned, numbers short, long lists and texts cut with a count."""

from __future__ import annotations

import math

from graphray.cli.plain import as_array, fields_of, in_order, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

ENTRIES = 24  # lines of one dict, or of one text
DEPTH = 4  # levels that get lines of their own
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"


def pretty(results: Mapping[str, Any], width: int, colour: bool = False) -> list[str]:
    """Results by name, as lines of about `width` characters at most."""
    return _columns(list(results.items()), width, 0, colour, len(results))


def pretty_one(result: Any, width: int) -> list[str]:
    """A result without a name, as lines."""
    return _lines(result, width, 0)


def _lines(x: Any, width: int, depth: int) -> list[str]:
    """A value in one line if it fits, else in several."""
    if type(x) is str:
        return _text(x, width, depth)
    line = _brief(x, width, 0)
    if "\n" in line:
        return _text(line, width, depth)
    entries = list(x.items()) if isinstance(x, dict) else fields_of(x)
    if entries is None or (len(line) <= width and "…" not in line) or depth >= DEPTH or width < 20:
        return [_cut(line, width)]
    entries = [(_key(k), v) for k, v in entries]
    if not entries:
        return [line]
    return _columns(entries, width, depth + 1, False, ENTRIES)


def _columns(entries: list[tuple[str, Any]], width: int, depth: int, colour: bool, most: int) -> list[str]:
    """Names in one column, values in the next."""
    shown = entries[:most]
    column = min(max(len(name) for name, _ in shown), max(8, width // 3))
    lines = []
    for name, x in shown:
        name = _cut(name, column)
        left = f"{BOLD}{name}{PLAIN}{' ' * (column - len(name))}" if colour else name.ljust(column)
        first, *others = _lines(x, max(12, width - column - 2), depth)
        lines.append(f"{left}  {first}".rstrip())
        lines += [(" " * (column + 2) + line).rstrip() for line in others]
    if len(entries) > most:
        lines.append(f"… {len(entries) - most:,} more")
    return lines


def _text(x: str, width: int, depth: int) -> list[str]:
    """A text as its lines: the result of a report is one."""
    lines = x.splitlines() or [""]
    if len(lines) == 1:
        return [_cut(_printable(lines[0]), 4 * width if depth == 0 else width, f"… {len(x):,} characters")]
    shown = [_cut(_printable(line), width) for line in lines[:ENTRIES]]
    more = len(lines) - len(shown)
    return shown + ([f"… {more:,} more line{'s' if more > 1 else ''}"] if more else [])


def _brief(x: Any, width: int, depth: int) -> str:
    if x is None or isinstance(x, bool):
        return repr(x)
    if hasattr(type(x), "__members__"):  # a member of an Enum
        return f"{type(x).__name__}.{x.name}"
    if isinstance(x, int):
        return str(x) if x.bit_length() <= 4096 else f"an integer of {x.bit_length():,} bits"
    if isinstance(x, float):
        return _number(x)
    if isinstance(x, str):
        return _cut(_printable(x), width) if depth == 0 else _cut(repr(x), width)
    if isinstance(x, dict):
        return _enclosed("{", [(f"{_key(k)}: ", v) for k, v in _some(x.items(), width)], "}", len(x), width, depth)
    fields = fields_of(x)
    if fields is not None:
        entries = [(f"{k}=", v) for k, v in fields]
        return _enclosed(f"{type(x).__name__}(", entries, ")", len(entries), width, depth)
    if type(x) in (list, tuple):
        start, end = "[]" if type(x) is list else "()"
        end = ",)" if end == ")" and len(x) == 1 else end
        return _enclosed(start, [("", v) for v in x[:width]], end, len(x), width, depth)
    if type(x) in (set, frozenset):
        return _enclosed("{", [("", v) for v in in_order(x)[:width]], "}", len(x), width, depth) if x else "{}"
    array = as_array(x)
    if array is not None and array.dtype.char not in "OV":
        return _array(array, width)
    return text_of(x, repr)


def _enclosed(start: str, entries: list[tuple[str, Any]], end: str, count: int, width: int, depth: int) -> str:
    """`[1, 2, … 998 more]`: the elements that fit."""
    if depth > DEPTH:
        return f"{start}…{end}"
    room = width - len(start) - len(end)
    parts: list[str] = []
    used = 0
    for prefix, x in entries:
        part = prefix + _brief(x, max(8, room), depth + 1)
        reserve = 0 if len(parts) + 1 == count else 12  # for the count of those left out
        if parts and used + len(part) + reserve > room:
            break
        parts.append(part)
        used += len(part) + 2
    left = count - len(parts)
    return start + ", ".join(parts) + (f", … {left:,} more" if left else "") + end


def _array(array: Any, width: int) -> str:
    """`float32[64, 64]  0.1, 0.2, …`; a scalar is a number."""
    if array.ndim == 0:
        return _brief(array.item(), width, 1)
    head = f"{array.dtype}{list(array.shape)}"
    values = [_brief(v, width, 1) for v in array.reshape(-1)[:12].tolist()]
    text = ", ".join(values) + (", …" if array.size > len(values) else "")
    while len(values) > 1 and len(head) + 2 + len(text) > width:
        values.pop()
        text = ", ".join(values) + ", …"
    return f"{head}  {text}" if values else head


def _number(x: float) -> str:
    text = format(x, ".6g")
    return f"{text}.0" if math.isfinite(x) and text.lstrip("-").isdecimal() else text


def _key(key: Any) -> str:
    return _printable(key) if isinstance(key, str) else _cut(_brief(key, 40, 1), 40)


def _some(items: Iterable[tuple[Any, Any]], most: int) -> list[tuple[Any, Any]]:
    import itertools

    return list(itertools.islice(items, most))


def _printable(text: str) -> str:
    """One line without control characters, which a terminal might obey."""
    return "".join([c if c.isprintable() else " " if c in "\t\n\r" else "\ufffd" for c in text])


def _cut(text: str, width: int, ending: str = "…") -> str:
    return text if len(text) <= width else text[: max(0, width - len(ending) - 1)].rstrip() + f" {ending}"
