"""An explanation for people: as text, and as a page in a notebook."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray.executors.explain import Explanation, Row

_WIDEST = 36  # characters of a label


class Line:
    """Rows that are alike.

    Attributes:
        rows: the rows.
        what: the node's label, or the task's name where there are several.
        why: the reason.
    """

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        first = rows[0]
        self.status = first.status
        self.what = first.label if len(rows) == 1 else first.task
        others = len({row.reason for row in rows}) - 1
        self.why = first.reason + (f" (and {others:,} more like that)" if others else "")

    @property
    def time(self) -> str:
        """How long they take together."""
        known = [row.seconds for row in self.rows if row.seconds is not None]
        if self.status != "run":
            return ""
        return ("" if len(known) == len(self.rows) else "> ") + duration(sum(known)) if known else "?"


def lines(explanation: Explanation) -> list[Line]:
    """What is to be told, in the order of the graph; what is done in passing or not needed is not."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row, group in zip(explanation.rows, explanation.groups, strict=True):
        if row.status in ("cached", "run", "shared"):
            groups.setdefault(group, []).append(row)
    return [Line(rows) for rows in groups.values()]


def headline(explanation: Explanation) -> str:
    """How much will run, and how long that takes."""
    counts = explanation.counts
    runs, cached = counts["run"], counts["cached"]
    if not runs:
        return f"nothing will run: {_nodes(cached)} cached" if cached else "nothing will run"
    text = f"{_nodes(runs)} will run, {cached:,} {'is' if cached == 1 else 'are'} cached"
    if explanation.unknown == runs:
        return f"{text}; how long that takes is not known yet"
    least = "at least " if explanation.unknown else "about "
    return (
        f"{text}; {least}{duration(explanation.seconds)} on one worker, "
        f"no less than {duration(explanation.critical_path)} on any number"
    )


def as_text(explanation: Explanation) -> list[str]:
    """Lines of text."""
    table = lines(explanation)
    found = [headline(explanation)]
    if table:
        cells = [(x.status, f"{len(x.rows):,}", x.time, _cut(x.what), x.why) for x in table]
        cells.insert(0, ("", "nodes", "time", "what", "why" if any(c[4] for c in cells) else ""))
        wide = [max([len(row[i]) for row in cells]) for i in range(4)]
        found.append("")
        found += [
            f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:>{wide[2]}}  {d:<{wide[3]}}  {e}".rstrip() for a, b, c, d, e in cells
        ]
    rest = remainder(explanation)
    return [*found, "", rest] if rest else found


def remainder(explanation: Explanation) -> str:
    """What has no line of its own."""
    counts = explanation.counts
    inline, unneeded = counts["inline"], counts["unneeded"]
    parts = []
    if inline:
        parts.append(f"done in passing: {_nodes(inline)} (constants, files, operators)")
    if unneeded:
        parts.append(f"not needed, as what needs them is cached: {_nodes(unneeded)}")
    return "; ".join(parts)


def as_html(explanation: Explanation) -> str:
    """A table for notebooks."""
    from html import escape

    rows = [(x.status, f"{len(x.rows):,}", x.time, x.what, x.why) for x in lines(explanation)]
    head = "".join([f"<th style='text-align:left'>{name}</th>" for name in ("", "nodes", "time", "what", "why")])
    body = "".join(
        [
            "<tr>" + "".join([f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row]) + "</tr>"
            for row in rows
        ]
    )
    rest = remainder(explanation)
    return (
        f"<div><p>{escape(headline(explanation))}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{f'<p>{escape(rest)}</p>' if rest else ''}</div>"
    )


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 0.0995:
        return f"{seconds * 1e3:.2g} ms"
    if seconds < 99.5:
        return f"{seconds:.2g} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 5970:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _nodes(count: int) -> str:
    return f"{count:,} node{'' if count == 1 else 's'}"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
