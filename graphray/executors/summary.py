"""Figures of a run, added up from its events, and the table that shows them."""

from __future__ import annotations

from graphray.executors import events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from graphray.executors.job import Job

TASKS = 20  # tasks in the table; the rest are one line
BAR = 20
NAME = 12  # characters of a task's name that there is room for at least
STEPS = 6  # steps of the critical path that are named


class Figures:
    """What a run's events say of it, without keeping them."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}  # by task: calls, seconds, those of the longest call; 0 is not known
        self.received = 0
        self.sent = 0
        self.hits = 0  # in the cache, by workers in other processes; the others are in the books of the run's cache
        self.stored = 0
        self.stored_bytes = 0
        self.retries = 0
        self.failures = 0
        self.lost = 0
        self.spilled = 0
        self.memory = 0

    def note(self, event: events.RunEvent) -> None:
        """Take in an event."""
        take = _TAKES.get(type(event))
        if take is not None:
            take(self, event)

    def _unit(self, event: events.UnitFinished) -> None:
        ran: dict[str, list[float]] = {}  # seconds of each call, where that is told
        for name, _, _, seconds, _ in event.spans:
            ran.setdefault(name, []).append(seconds)
        for name, (calls, seconds) in event.spent.items():
            tally = self.spent.setdefault(name, [0, 0.0, -1.0])
            longest = seconds if calls == 1 else 0.0
            if calls > 1 and len(ran.get(name, ())) == calls:
                longest = max(ran[name])
            tally[0] += calls
            tally[1] += seconds
            # One unit of which it is not known, and it is known no more.
            tally[2] = max(tally[2], longest) if tally[2] and longest else 0.0
        self.received += event.received
        self.sent += event.sent
        self.hits += event.cached[0]
        self.stored += event.cached[1]
        self.stored_bytes += event.cached[2]

    def _retried(self, event: events.NodeRetried) -> None:
        self.retries += 1

    def _failed(self, event: events.NodeFailed) -> None:
        self.failures += 1

    def _lost(self, event: events.WorkerLost) -> None:
        self.lost += 1

    def _spilled(self, event: events.Spilled) -> None:
        self.spilled += event.nbytes
        self.memory = max(self.memory, event.nbytes + event.store)

    def _memory(self, event: events.MemoryUsed) -> None:
        self.memory = max(self.memory, event.store)

    def summary(self, job: Job, seconds: float, workers: int) -> dict[str, Any]:
        """The figures as plain data; see `Run.summary`."""
        # Of a dict that the engine's thread may be adding to, `list` gives a copy in one step.
        tasks = {name: _task(*tally) for name, tally in list(self.spent.items())}
        busy = sum([t["seconds"] for t in tasks.values()])
        kept = job.cache
        return {
            "nodes": job.done,
            "total": job.total,
            "seconds": seconds,
            "workers": workers,
            "tasks": tasks,
            "parallelism": busy / seconds if seconds else 0.0,
            "critical_path": critical_path(job, {name: t["mean"] for name, t in tasks.items()}),
            "bytes": {"received": self.received, "sent": self.sent},
            "cache": {
                "hits": self.hits + (kept.hits if kept is not None else 0),
                "stored": self.stored + (kept.stored if kept is not None else 0),
                "bytes": self.stored_bytes + (kept.bytes if kept is not None else 0),
            },
            "retries": self.retries,
            "failures": self.failures,
            "workers_lost": self.lost,
            "spilled": self.spilled,
            "memory_peak": self.memory,
        }


_TAKES: dict[type, Any] = {
    events.UnitFinished: Figures._unit,
    events.NodeRetried: Figures._retried,
    events.NodeFailed: Figures._failed,
    events.WorkerLost: Figures._lost,
    events.Spilled: Figures._spilled,
    events.MemoryUsed: Figures._memory,
}


def _task(calls: float, seconds: float, longest: float) -> dict[str, Any]:
    task = {"calls": int(calls), "seconds": seconds, "mean": seconds / calls if calls else 0.0}
    if longest > 0.0:
        task["max"] = longest
    return task


def critical_path(job: Job, means: Mapping[str, float]) -> dict[str, Any] | None:
    """The chain of nodes that takes longest, if each takes its task's mean: no number of workers is faster.

    Nodes that tasks returned are not part of it, nor are those that the cache had.

    Args:
        job: the run's books.
        means: seconds of a call, by task.

    Returns:
        `seconds`, `nodes` (how many) and `tasks`: in order, each with how many nodes of it follow one another.
        `complete` is false where tasks have returned nodes. None where the nodes are not known, as in a growing run.
    """
    nodes = job.nodes if job.cache is None else job.ordered
    if not nodes:
        return None
    lengths: dict[Any, float] = {}
    before: dict[Any, Any] = {}
    same = job.same
    best, last = -1.0, None
    known: dict[Any, float] = {}  # by task rather than by its name: it is cheaper to hash
    for node in list(nodes):
        longest, through = 0.0, None
        for d in node._deps:
            length = lengths.get(same.get(d, d) if same else d)
            if length is not None and (length > longest or through is None):
                longest, through = length, same.get(d, d) if same else d
        task = node._task
        mean = known.get(task)
        if mean is None:
            mean = known[task] = means.get(task.name, 0.0)
        lengths[node] = longest = longest + mean
        before[node] = through
        if longest > best:
            best, last = longest, node
    steps: list[list[Any]] = []
    count = 0
    while last is not None:
        name = last._task.name
        if name in means:
            count += 1
            if steps and steps[-1][0] == name:
                steps[-1][1] += 1
            else:
                steps.append([name, 1])
        last = before[last]
    tasks = [(name, times) for name, times in reversed(steps)]
    return {"seconds": best, "nodes": count, "tasks": tasks, "complete": job.total <= len(lengths)}


# ---- the table


def render(summary: Mapping[str, Any], columns: int = 100) -> str:
    """A summary as text for people: tasks by the time they took, totals, the critical path, and what limits the run.

    Args:
        summary: from `Run.summary`.
        columns: how wide it may be.
    """
    import textwrap

    lines = [*textwrap.wrap(_headline(summary), columns), ""]
    lines += _table(summary, columns)
    facts = list(_facts(summary))
    if facts:
        lines += ["", *_wrapped(facts, columns)]
    return "\n".join([line.rstrip() for line in lines])


def _headline(s: Mapping[str, Any]) -> str:
    nodes = _plural(s["nodes"], "node")
    if s["nodes"] != s["total"]:
        nodes = f"{s['nodes']:,} of {s['total']:,} nodes"
    workers = _plural(s["workers"], "worker")
    return f"{nodes} in {duration(s['seconds'])} on {workers}, {s['parallelism']:.1f} of them in tasks on average"


def _table(s: Mapping[str, Any], columns: int) -> list[str]:
    tasks = sorted(s["tasks"].items(), key=lambda item: -item[1]["seconds"])
    if not tasks:
        return ["no task was called"]
    whole = sum([t["seconds"] for _, t in tasks]) or 1.0
    shown = tasks if len(tasks) <= TASKS + 1 else tasks[:TASKS]
    rows = [("task", "calls", "time", "share", "mean", "max", "")]
    for name, t in shown:
        share = t["seconds"] / whole
        bar = "━" * round(share * BAR)
        longest = duration(t["max"]) if "max" in t else ""
        rows.append(
            (name, f"{t['calls']:,}", duration(t["seconds"]), f"{share:.0%}", duration(t["mean"]), longest, bar)
        )
    rest = tasks[len(shown) :]
    if rest:
        calls, seconds = sum([t["calls"] for _, t in rest]), sum([t["seconds"] for _, t in rest])
        share = seconds / whole
        bar = "━" * round(share * BAR)
        rows.append((f"{len(rest)} more", f"{calls:,}", duration(seconds), f"{share:.0%}", "", "", bar))
    widths = [max([len(row[i]) for row in rows]) for i in range(6)]
    if not any([row[5] for row in rows[1:]]):
        widths[5] = 0  # of no task is it known
    numbers = [i for i in range(1, 6) if widths[i]]
    room = columns - sum([widths[i] + 2 for i in numbers])
    widths[0] = min(widths[0], max(room - BAR - 2, NAME))
    lines = []
    for row in rows:
        name = row[0] if len(row[0]) <= widths[0] else row[0][: widths[0] - 1] + "…"
        cells = [name.ljust(widths[0]), *[row[i].rjust(widths[i]) for i in numbers], row[6]]
        lines.append("  ".join(cells)[:columns])
    return lines


def _facts(s: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    path = s["critical_path"]
    if path is not None and path["seconds"] > 0:
        least = "" if path["complete"] else "at least "
        yield "critical path", f"{least}{duration(path['seconds'])}: {_path(path['tasks'])}"
    moved = s["bytes"]
    if moved["received"] or moved["sent"]:
        yield "results moved", f"{size(moved['sent'])} written by workers, {size(moved['received'])} read"
    cache = s["cache"]
    if cache["hits"] or cache["stored"]:
        kept = f", {cache['stored']:,} stored ({size(cache['bytes'])})" if cache["stored"] else ""
        yield "cache", f"{_plural(cache['hits'], 'result')} found{kept}"
    if s["memory_peak"] or s["spilled"]:
        spilled = f", {size(s['spilled'])} moved to disk" if s["spilled"] else ""
        yield "memory", f"{size(s['memory_peak'])} of results at most{spilled}"
    faults = [
        _plural(s[key], word)
        for key, word in (("failures", "failed node"), ("retries", "retry"), ("workers_lost", "lost worker"))
        if s[key]
    ]
    if faults:
        yield "faults", ", ".join(faults)
    for hint in hints(s):
        yield "note", hint


def hints(s: Mapping[str, Any]) -> Iterator[str]:
    """What keeps a run from being faster, as far as its summary tells."""
    seconds, workers, path = s["seconds"], s["workers"], s["critical_path"]
    busy, calls = sum([t["seconds"] for t in s["tasks"].values()]), sum([t["calls"] for t in s["tasks"].values()])
    if seconds < 0.2 or not calls:
        return
    idle = workers > 1 and s["parallelism"] < 0.7 * workers
    reached = f"parallelism {s['parallelism']:.1f} of {workers}: "
    if idle and path is not None and path["seconds"] > 0.7 * seconds:
        share = path["seconds"] / seconds
        yield reached + f"the critical path takes {share:.0%} of the time, so more workers cannot help"
    elif idle and calls < 2 * workers:
        yield reached + f"there are only {_plural(calls, 'call')} to share out"
    elif idle and busy / calls < 50e-6:
        yield reached + f"a call takes {duration(busy / calls)}, less than it costs to hand one out"
    elif idle:
        yield reached + "workers waited; a trace shows for what (--trace FILE, trace=…)"
    elif workers == 1 and path is not None and path["complete"] and path["seconds"] < 0.5 * busy:
        yield f"one worker; on many it could take {duration(path['seconds'])}"
    if s["spilled"]:
        yield "results did not fit into memory and went by way of the disk"


def _path(steps: list[tuple[str, int]]) -> str:
    shown = [name if times == 1 else f"{times:,} × {name}" for name, times in steps]
    if len(shown) > STEPS:
        shown = [*shown[: STEPS - 2], f"… {len(shown) - STEPS + 1} more …", shown[-1]]
    return " → ".join(shown)


def _wrapped(facts: list[tuple[str, str]], columns: int) -> list[str]:
    import textwrap

    margin = max([len(name) for name, _ in facts]) + 2
    lines: list[str] = []
    for name, text in facts:
        lines += textwrap.wrap(
            f"{name:<{margin}}{text}", max(columns, margin + 20), subsequent_indent=" " * margin, break_on_hyphens=False
        )
    return lines


def _plural(count: int, word: str) -> str:
    if count != 1:
        word = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{count:,} {word}"


def duration(seconds: float) -> str:
    """A time for people, to about three digits."""
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def size(count: float) -> str:
    """A number of bytes for people, to three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
