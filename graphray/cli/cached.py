"""Kept results for people and for programs: a table, the facts about one, sizes and ages."""

from __future__ import annotations

import time

from graphray.cli.pretty import BOLD, PLAIN, _cut, _printable
from graphray.executors.explained import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from graphray.executors.cache import Entry

KEY = 12  # digits of a key in a table: enough for a million results

_HEAD = ("used", "size", "took", "key", "what")


def in_order(entries: list[Entry], by: str) -> list[Entry]:
    """Entries as `ls --sort` has them."""
    if by == "task":
        return sorted(entries, key=lambda e: (str(e.info.get("task")), what(e)))
    measures = {"used": _used, "made": lambda e: e.made, "size": lambda e: e.size, "time": lambda e: _took(e) or 0.0}
    return sorted(entries, key=measures[by], reverse=True)


def table(entries: Sequence[Entry], width: int, colour: bool) -> list[str]:
    """A line per entry; none for none."""
    if not entries:
        return []
    now = time.time()
    rows = [(ago(now - _used(e)), size(e.size), _time(e), e.key.hex()[:KEY], what(e)) for e in entries]
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    room = max(20, width - sum(widths[:4]) - 8)
    head = _row(_HEAD, widths, room)
    return [f"{BOLD}{head}{PLAIN}" if colour else head, *(_row(row, widths, room) for row in rows)]


def _row(row: Sequence[str], widths: Sequence[int], room: int) -> str:
    used, bytes_, took, key, text = row
    left = f"{used:>{widths[0]}}  {bytes_:>{widths[1]}}  {took:>{widths[2]}}  {key:<{widths[3]}}"
    return f"{left}  {_cut(_printable(text), room)}".rstrip()


def what(entry: Entry) -> str:
    """The label of the node, with its task where that does not say it."""
    task, label = str(entry.info.get("task") or "?"), str(entry.info.get("label") or "")
    return label if task.rpartition(".")[2] in label else f"{task}: {label}" if label else task


def facts(entry: Entry) -> dict[str, str]:
    """What is known of an entry, by name."""
    now = time.time()
    took = _time(entry)
    known = {
        "what": _printable(what(entry)),
        "task": _printable(str(entry.info.get("task") or "?")),
        "key": entry.key.hex(),
        "size": f"{size(entry.size)} ({entry.size:,} bytes)" if entry.size >= 1000 else size(entry.size),
        "took": took or "not known",
        "made": f"{_clock(entry.made)} ({ago(now - entry.made)} ago)",
        "used": f"{_clock(_used(entry))} ({ago(now - _used(entry))} ago)",
        "file": entry.path,
    }
    others = {k: v for k, v in entry.info.items() if k not in ("task", "label", "seconds")}
    return known | {str(k): _printable(str(v)) for k, v in others.items()}


def document(entry: Entry) -> dict[str, Any]:
    """What is known of an entry, as data."""
    known = {"key": entry.key.hex(), "bytes": entry.size, "made": entry.made, "used": _used(entry), "file": entry.path}
    return {**entry.info, **known}


def total(count: int, held: int, of: str, directory: str, limit: int) -> str:
    """`12 results, 3.4 MB of 20 GB, in DIR`."""
    share = f" of {size(limit)}" if limit else ""
    place = f", in {directory}" if directory else ""
    return f"{amount(count)}{of}, {size(held)}{share}{place}"


def amount(count: int, held: int | None = None) -> str:
    """`1 result`, `12 results, 3.4 MB`."""
    text = f"{count:,} result{'' if count == 1 else 's'}"
    return text if held is None else f"{text}, {size(held)}"


def size(n: int) -> str:
    """Bytes for people: 512 B, 1.2 kB, 34 MB, 5.6 GB."""
    if n < 1000:
        return f"{n} B"
    x, units = n / 1000, ["PB", "TB", "GB", "MB", "kB"]
    while x >= 999.5 and len(units) > 1:
        x /= 1000
        units.pop()
    return f"{x:.1f} {units[-1]}" if x < 9.95 else f"{x:.0f} {units[-1]}"


def ago(seconds: float) -> str:
    """A time that has passed, for people."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 2 * 86400 else f"{seconds / 86400:.0f} d"


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _used(entry: Entry) -> float:
    return max(entry.used, entry.made)


def _took(entry: Entry) -> float | None:
    seconds = entry.info.get("seconds")
    return float(seconds) if isinstance(seconds, (int, float)) else None


def _time(entry: Entry) -> str:
    took = _took(entry)
    return duration(took) if took is not None else ""
