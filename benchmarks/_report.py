"""What a run found, as data for JSON, as text for a terminal, and as tables for the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from _goals import Results, Samples, best
from _rows import ROWS, USED, Row
from systems import SYSTEMS, System

Report = dict[str, Any]


def report(environment: Mapping[str, Any], results: Results, skipped: Mapping[str, str], quick: bool) -> Report:
    """The run as plain data."""
    rows = [_row(ROWS[name], results, quick) for name in results]
    return {**environment, "quick": quick, "skipped": dict(skipped), "rows": rows}


def _row(row: Row, results: Results, quick: bool) -> Report:
    found = results[row.name]
    size = row.quick if quick else row.size
    figures = {name: _figures(row, SYSTEMS[name], found) for name in SYSTEMS if name in found}
    return {
        "name": row.name,
        "title": row.title.format(size=size),
        "unit": row.unit,
        "size": size,
        "systems": figures,
        "goals": list(_goals(row, results, quick)),
    }


def _figures(row: Row, system: System, found: Mapping[str, Samples]) -> Report:
    reference = _reference(system, found)
    return {
        "label": row.label.format(**system._asdict()),
        "best": best(found[system.name]),
        "median": statistics.median(sample["value"] for sample in found[system.name]),
        "ratio": best(found[system.name]) / best(found[reference]) if reference not in (None, system.name) else None,
        "samples": list(found[system.name]),
    }


def _reference(system: System, found: Mapping[str, Samples]) -> str | None:
    """What a system is compared with: graphray on as many processes, else graphray."""
    candidates = ("graphray-loky", "graphray") if system.processes else ("graphray",)
    return next((name for name in candidates if name in found), None)


def _goals(row: Row, results: Results, quick: bool) -> Iterator[Report]:
    for goal in row.goals:
        try:
            figure = goal.figure(row.name, results)
        except KeyError:  # what it compares with was not measured
            continue
        yield {"text": goal.text, "figure": figure, "met": None if quick else goal.met(figure)}


# ---- for a terminal


def lines_of_row(row: Report) -> Iterator[str]:
    """A row as lines: a system each, then the goals."""
    yield f"{row['title']:<62} {row['unit']}"
    for figures in row["systems"].values():
        median = f"(median {number(figures['median'])})"
        line = f"    {figures['label']:<22} {number(figures['best']):>10}  {median:<18} {_times(figures['ratio']):>8}"
        yield line.rstrip()
    for goal in row["goals"]:
        yield f"    goal: {goal['text']}: {number(goal['figure'])} {_verdict(goal['met'])}".rstrip()
    yield ""


def lines_of_end(report: Report) -> Iterator[str]:
    """What was skipped, where it ran, and how many goals were met."""
    for label, why in report["skipped"].items():
        yield f"skipped {label}: {why}"
    yield place(report)
    goals = [goal["met"] for row in report["rows"] for goal in row["goals"]]
    if report["quick"]:
        yield "A quick run: sizes are small, times mean little, and goals are not judged."
    else:
        yield f"{goals.count(True)} of {len(goals)} goals met."


def place(report: Report) -> str:
    """Where, with what and how it ran."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    revision, at_end = report["revision"], report["revision_at_end"]
    edited = "" if revision == at_end else f", edited during the run, which ended at {at_end}"
    return (
        f"{report['date'][:10]}: {machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']} GiB, "
        f"{machine['system']}, load {machine['load']} when it began; {report['python']}; {versions}; "
        f"revision {revision}{edited}; {report['rounds']} turns at most, of up to {report['repeats']} repetitions"
    )


# ---- for the documentation

BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def insert(page: str, tables: str) -> str:
    """A page with the tables in the place of what is between its two marks.

    Raises:
        ValueError: it has no such marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page has no {BEGIN} followed by {END}")
    return f"{before}{begin}\n\n{tables}\n{end}{after}"


def markdown(report: Report) -> str:
    """Tables: the figures with ratios to graphray, by where the tasks run, and the goals."""
    rows = report["rows"]
    used = [row for row in rows if ROWS[row["name"]].label == USED]
    of_packages = [row for row in rows if row not in used]
    labels = {system.name: system.label for system in SYSTEMS.values()}
    parts = [
        [place(report) + "."],
        _figures_table("In one process", used, {n: head for n, head in labels.items() if not SYSTEMS[n].processes}),
        _figures_table("On two processes", used, {n: head for n, head in labels.items() if SYSTEMS[n].processes}),
        _figures_table(
            "Imports and commands", of_packages, labels | {"dask-sync": "dask", "loky": "loky", "ray": "Ray"}
        ),
        _goals_table(rows),
    ]
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def _figures_table(title: str, rows: Sequence[Report], heads: Mapping[str, str]) -> list[str]:
    """A line for each row and a column for each system, as far as they have figures."""
    rows = [row for row in rows if heads.keys() & row["systems"].keys()]
    names = [name for name in heads if any(name in row["systems"] for row in rows)]
    lines = [_line(row["title"], row["unit"], *[_cell(row["systems"].get(name)) for name in names]) for row in rows]
    return [f"### {title}", "", *_table("work", "unit", *[heads[n] for n in names]), *lines] if lines else []


def _goals_table(rows: Sequence[Report]) -> list[str]:
    lines = [
        _line(row["title"], goal["text"], number(goal["figure"]), _verdict(goal["met"]))
        for row in rows
        for goal in row["goals"]
    ]
    return ["### Goals", "", *_table("work", "goal", "measured", ""), *lines] if lines else []


def _table(*heads: str) -> list[str]:
    return [_line(*heads), _line(*["---"] * len(heads))]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(figures: Report | None) -> str:
    if figures is None:
        return ""
    ratio = _times(figures["ratio"])
    return number(figures["best"]) + (f" ({ratio})" if ratio else "")


# ---- figures


def number(x: float) -> str:
    """About three digits."""
    if abs(x) >= 100 or x == int(x):
        return f"{x:,.0f}"
    return f"{x:.3f}" if abs(x) < 10 else f"{x:.1f}"


def _times(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×" if ratio >= 2 else f"{ratio:.2f}×"


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "MISSED", None: ""}[met]
