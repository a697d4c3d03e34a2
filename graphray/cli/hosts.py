"""Hosts for people and for programs: a table of what they are like, what is wrong with them, what became of them."""

from __future__ import annotations

import textwrap

from graphray.cli.cached import size
from graphray.cli.pretty import BOLD, PLAIN, _printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from graphray.executors.ssh import HostReport, SetupReport

_HEAD = (
    *("host", "use", "reach", "key", "python", "graphray", "cores", "memory", "accelerators"),
    *("clock", "trip", "temporary", "shm"),
)


def table(reports: Sequence[HostReport], colour: bool) -> list[str]:
    """A line per host, below a head."""
    rows = [_HEAD, *map(_row, reports)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [f"{BOLD}{lines[0]}{PLAIN}" if colour else lines[0], *lines[1:]]


def _row(report: HostReport) -> tuple[str, ...]:
    use = "no" if not report.usable else "with care" if report.problems else "yes"
    cells = (
        report.host.label,
        use,
        _yes(report.reachable),
        _yes(report.known),
        report.python,
        report.versions.get("graphray"),
        report.cores,
        _size(report.memory),
        _accelerators(report) if report.cores is not None else None,
        None if report.clock_skew is None else f"{report.clock_skew:+.2f} s",
        None if report.round_trip is None else f"{report.round_trip * 1000:.1f} ms",
        _size(report.temporary_free),
        _size(report.shared_free),
    )
    return tuple("-" if cell is None else _printable(str(cell)) for cell in cells)


def _yes(x: bool | None) -> str | None:
    return None if x is None else "yes" if x else "no"


def _size(n: int | None) -> str | None:
    return None if n is None else size(n)


def _accelerators(report: HostReport) -> str:
    names = [name for name, _ in report.accelerators]
    counted = [f"{names.count(name)} × {name}" for name in dict.fromkeys(names)]
    return ", ".join(counted) or "none"


def problems(reports: Sequence[HostReport], width: int) -> Iterator[str]:
    """What is wrong, in lines of at most that width; none if nothing is."""
    for report in reports:
        for problem in report.problems:
            yield ""
            text = _printable(problem.text) if "\n" not in problem.text else problem.text
            kind = "cannot be used: " if problem.fatal else "warning: "
            yield from wrapped(kind + text, width)


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines; those that it has itself stay as they are. What a user is to copy is not broken."""
    first, *rest = text.split("\n")
    lines = textwrap.wrap(first, max(40, width), break_long_words=False, break_on_hyphens=False, subsequent_indent="  ")
    return [*lines, *(f"  {line}" for line in rest)]


def document(report: HostReport) -> dict[str, Any]:
    """A report as data."""
    names = [
        name for name in report.__dataclass_fields__ if name not in ("host", "problems", "accelerators", "versions")
    ]
    return {
        "host": report.host.label,
        "usable": report.usable,
        "problems": [{"topic": p.topic, "fatal": p.fatal, "text": p.text} for p in report.problems],
        **{name: getattr(report, name) for name in names},
        "versions": dict(report.versions),
        "accelerators": [{"name": name, "memory": memory} for name, memory in report.accelerators],
    }


def outcome(report: SetupReport) -> str:
    """What became of a host, in a line or with what pip had to say."""
    if report.error is not None:
        return f"failed: {report.error}"
    return f"{report.host.label}: {'made' if report.made else 'was there already'}, {report.host.python}"


def to_keep(reports: Sequence[SetupReport]) -> Iterator[str]:
    """What is to be written down, so that the environments are used from then on."""
    from graphray.executors.ssh.hostfiles import cluster_file

    good = [report.host.text for report in reports if report.error is None]
    if good:
        yield ""
        yield f"To use it, name these hosts, or call them a cluster in {cluster_file()}:"
        yield ""
        yield "lab:"
        yield "  hosts:"
        yield from (f"    - {_quoted(text)}" for text in good)


def _quoted(text: str) -> str:
    """As YAML reads it: only a host that begins with a bracket looks like something else there."""
    return f'"{text}"' if text.startswith("[") else text


def setup_document(report: SetupReport) -> dict[str, Any]:
    """A report as data."""
    error = report.error
    return {
        "host": report.host.label,
        "python": report.host.python if error is None else None,
        "text": report.host.text,
        "made": report.made,
        "seconds": report.seconds,
        "error": None if error is None else {"reason": error.reason, "text": str(error)},
    }
