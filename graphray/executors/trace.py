"""A trace of a run: a JSON file that https://ui.perfetto.dev and chrome://tracing show, a lane per worker.

On a worker's lane: `wait` (it has nothing to do), `transfer` (a unit is on its way), and the unit's own slice with that
of each node inside. Beside them what happened to the run as a whole, and counters. The format is that of the Trace
Event Format (Google), in whole microseconds since the run began: slices that touch may not overlap by a rounding.
"""

from __future__ import annotations

import threading
import time

from graphray.executors import events
from graphray.executors.whole import WholeFile, cannot, check

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from typing import Any

PROCESS = 1  # the lanes are threads of one process, so that they stand together
DRIVER = 0  # the lane of what is about no worker
EVERY = 10_000  # microseconds between two values of a counter
SLACK = 1_000  # microseconds by which two clocks may differ

Span = tuple[str, str, float, float, int]  # task, label, start, seconds, attempt


class _Lane:
    """What a worker is at.

    Attributes:
        number: its thread's, in the trace.
        end: up to where its lane is filled, in microseconds.
        pending: units that were sent and have not come back, in order: when, how many nodes, the first one's task.
        gone: its process has ended.
    """

    __slots__ = ("end", "gone", "number", "pending")

    def __init__(self, number: int, begins: int) -> None:
        self.number = number
        self.end = begins
        self.gone = False
        self.pending: dict[int, tuple[int, int, str]] = {}

    def take(self, unit: int | None) -> tuple[int, int, str] | None:
        """What is known of a unit that came back. Those sent before it were recalled, as units keep their order."""
        if unit is not None and unit not in self.pending:
            return None
        while self.pending:
            first = next(iter(self.pending))
            known = self.pending.pop(first)
            if unit is None or first == unit:
                return known
        return None


class Trace:
    """Subscribes to a run's events and writes them to a file, which is there, whole, once the run has ended.

    A run that failed or was cancelled has a trace too. One trace is for one run at a time; the next one's replaces it.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be written.
        TypeError: not a path.
    """

    spans = True  # asks engines to tell when each node ran

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = check("the trace", path)  # rather now than at the end of a long run
        self._lock = threading.Lock()  # some engines publish from several threads
        self._file: WholeFile | None = None
        self._begin(0.0)

    def _begin(self, now: float) -> None:
        self._start = now
        self._lanes: dict[str, _Lane] = {}
        self._sent = 0  # units so far
        self._running = 0
        self._counted: dict[str, int] = {}  # when each counter was written last
        self._held: dict[str, str] = {}  # its value since
        self._texts: dict[str, str] = {}
        self._first = True

    def __call__(self, event: events.RunEvent) -> None:
        """Take in an event."""
        with self._lock:
            if type(event) is events.RunStarted:
                self._open(event)
            take = _TAKES.get(type(event))
            if take is None or self._file is None:
                return
            try:
                take(self, event)
                if type(event) is events.RunFinished:
                    self._close()
            except BaseException as error:
                self._file.discard()
                self._file = None
                if isinstance(error, OSError):
                    raise cannot("the trace", self.path, error) from error
                raise

    # ---- the file

    def _open(self, event: events.RunStarted) -> None:
        if self._file is not None:
            raise RuntimeError(
                f"the trace {self.path} is that of another run, which goes on; make a Trace for each run"
            )
        self._begin(event.time)
        self._file = WholeFile("the trace", self.path)

    def _close(self) -> None:
        assert self._file is not None
        self._file.write("\n]}\n")
        file, self._file = self._file, None
        file.complete()

    def _put(self, text: str) -> None:
        assert self._file is not None
        self._file.write(text if self._first else ",\n" + text)
        self._first = False

    def _text(self, x: str) -> str:
        """A text in JSON; names of tasks come again and again."""
        known = self._texts.get(x)
        if known is None:
            from json import dumps

            if len(self._texts) > 10_000:
                self._texts.clear()
            known = self._texts[x] = dumps(x if len(x) <= 500 else x[:499] + "…")
        return known

    # ---- what is drawn

    def _at(self, moment: float) -> int:
        return max(0, round((moment - self._start) * 1e6))

    def _lane(self, worker: str, begins: int = 0) -> _Lane:
        lane = self._lanes.get(worker)
        if lane is None:
            lane = self._lanes[worker] = _Lane(len(self._lanes) + 1, begins)
            self._name(lane.number, worker)
        return lane

    def _name(self, number: int, name: str) -> None:
        place = f'"ph":"M","pid":{PROCESS},"tid":{number}'
        self._put(f'{{"name":"thread_name",{place},"args":{{"name":{self._text(name)}}}}}')
        self._put(f'{{"name":"thread_sort_index",{place},"args":{{"sort_index":{number}}}}}')

    def _slice(self, lane: _Lane, kind: str, name: str, start: int, end: int, args: str = "") -> None:
        more = f',"args":{{{args}}}' if args else ""
        self._put(
            f'{{"name":{self._text(name)},"cat":"{kind}","ph":"X","ts":{start},"dur":{end - start},'
            f'"pid":{PROCESS},"tid":{lane.number}{more}}}'
        )

    def _instant(self, event: events.RunEvent, kind: str, name: str, worker: str = "", **args: Any) -> None:
        from graphray.executors.log import to_json

        number = self._lane(worker).number if worker else DRIVER
        scope = "t" if worker else "p"
        self._put(
            f'{{"name":{self._text(name)},"cat":"{kind}","ph":"i","s":"{scope}","ts":{self._at(event.time)},'
            f'"pid":{PROCESS},"tid":{number},"args":{to_json(args)}}}'
        )

    def _count(self, name: str, now: int, values: str) -> None:
        """A counter has new values; these are written now and then."""
        last = self._counted.get(name)
        if last is not None and now - last < EVERY:
            self._held[name] = values
            return
        self._held.pop(name, None)
        self._counted[name] = now
        self._put(f'{{"name":"{name}","ph":"C","ts":{now},"pid":{PROCESS},"tid":{DRIVER},"args":{{{values}}}}}')

    # ---- events

    def _started(self, event: events.RunStarted) -> None:
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(event.time))
        assert self._file is not None
        self._file.write(
            f'{{"displayTimeUnit":"ms","otherData":{{"program":"graphray","began":"{began}","workers":{event.workers}}},\n'
            '"traceEvents":[\n'
        )
        self._put(f'{{"name":"process_name","ph":"M","pid":{PROCESS},"tid":{DRIVER},"args":{{"name":"graphray"}}}}')
        self._name(DRIVER, "run")

    def _worker_started(self, event: events.WorkerStarted) -> None:
        lane = self._lane(event.worker, self._at(event.time))
        lane.gone = False
        lane.end = max(lane.end, self._at(event.time))
        self._instant(event, "worker", "worker started", event.worker, pid=event.pid)

    def _unit_started(self, event: events.UnitStarted) -> None:
        lane = self._lane(event.worker)
        self._sent -= 1  # numbers of our own are negative
        number = self._sent if event.unit is None else event.unit
        now = self._at(event.time)
        lane.pending[number] = (now, event.nodes, event.first)
        self._running += event.nodes
        self._count("nodes with workers", now, f'"nodes":{self._running}')

    def _unit_finished(self, event: events.UnitFinished) -> None:
        lane = self._lane(event.worker)
        before = sum([nodes for _, nodes, _ in lane.pending.values()])
        known = lane.take(event.unit)
        self._running -= before - sum([nodes for _, nodes, _ in lane.pending.values()])
        now = self._at(event.time)
        self._count("nodes with workers", now, f'"nodes":{self._running}')
        sent = min(now, max(lane.end, known[0])) if known is not None else lane.end
        shift = 0
        began, ended = sent, max(now, lane.end)
        if event.began is not None and event.ended is not None:
            said, end = [round((moment - self._start) * 1e6) for moment in (event.began, event.ended)]
            if known is None or (said >= known[0] - SLACK and end <= now + SLACK):
                began = max(lane.end, said)  # some of it may have been told already
                ended = max(began, end)
            else:
                # A clock that is not ours, or was set meanwhile, may say anything; how long it took is right anyway.
                took = max(0, end - said)
                began = max(sent, min(said, now - took))
                ended = max(began, min(began + took, now))
                shift = began - said
            sent = min(sent, began)
        self._fill(lane, sent, began)
        calls = sum([c for c, _ in event.spent.values()])
        nodes = known[1] if known is not None else calls
        first = max(event.spent, key=lambda name: event.spent[name][1]) if event.spent else known[2] if known else ""
        args = f'"nodes":{nodes},"calls":{calls}'
        for name, bytes_ in (("bytes read", event.received), ("bytes written", event.sent)):
            args += f',"{name}":{bytes_}' if bytes_ else ""
        if any(event.cached):
            args += f',"from the cache":{event.cached[0]},"to the cache":{event.cached[1]}'
        self._slice(lane, "run", f"{nodes} nodes: {first}" if nodes != 1 else first or "unit", began, ended, args)
        for task, label, attempt, start, end in nested(event.spans, self._start, shift, began, ended):
            more = f'"node":{self._text(label)}' + (f',"attempt":{attempt}' if attempt != 1 else "")
            self._slice(lane, "node", task, start, end, more)
        lane.end = max(lane.end, ended)

    def _fill(self, lane: _Lane, sent: int, began: int) -> None:
        """The time on a lane until a unit begins: nothing to do, then waiting for what is on its way."""
        if sent > lane.end:
            self._slice(lane, "wait", "wait", lane.end, sent)
        if began > sent:
            self._slice(lane, "transfer", "transfer", sent, began)

    def _cut_off(self, lane: _Lane, name: str, now: int) -> None:
        """What a lane was running when it ended has no end of its own."""
        if lane.pending:
            sent, nodes, first = next(iter(lane.pending.values()))
            start = max(lane.end, sent)
            if now > start:
                self._fill(lane, start, start)
                self._slice(lane, "lost", name, start, now, f'"nodes":{nodes},"first":{self._text(first)}')
                lane.end = now
        self._running -= sum([nodes for _, nodes, _ in lane.pending.values()])
        lane.pending.clear()

    def _worker_lost(self, event: events.WorkerLost) -> None:
        lane = self._lane(event.worker)
        name = f"lost: {event.running}" if event.running else "lost"
        self._instant(
            event, "worker", "worker lost", event.worker, exitcode=event.exitcode, signal=event.signal,
            memory=event.memory, running=event.running,
        )  # fmt: skip
        self._cut_off(lane, name, self._at(event.time))
        lane.gone = True

    def _progressed(self, event: events.Progressed) -> None:
        values = f'"done":{event.done},"left":{max(0, event.total - event.done)}'
        self._count("nodes", self._at(event.time), values)

    def _memory_used(self, event: events.MemoryUsed) -> None:
        self._count("results (bytes)", self._at(event.time), f'"memory":{event.store},"disk":{event.spilled}')

    def _spilled(self, event: events.Spilled) -> None:
        self._instant(event, "memory", "spilled", nbytes=event.nbytes, store=event.store)

    def _retried(self, event: events.NodeRetried) -> None:
        self._instant(
            event, "fault", f"retried: {event.node}", error=event.error, attempt=event.attempt, delay=event.delay
        )

    def _failed(self, event: events.NodeFailed) -> None:
        self._instant(event, "fault", f"failed: {event.node.label}", error=event.error, skipped=event.skipped)

    def _hit(self, event: events.CacheHit) -> None:
        self._instant(event, "cache", "cache hit", node=event.node, nbytes=event.nbytes)

    def _stored(self, event: events.CacheStored) -> None:
        self._instant(event, "cache", "cache stored", event.worker, results=event.results, nbytes=event.nbytes)

    def _emitted(self, event: events.Emitted) -> None:
        self._instant(event, "task", f"emitted: {event.node}", event.worker, data=event.data)

    def _printed(self, event: events.Printed) -> None:
        self._instant(event, "task", event.stream, event.worker, node=event.node, text=event.text)

    def _finished(self, event: events.RunFinished) -> None:
        now = self._at(event.time)
        for lane in self._lanes.values():
            # With a result, what is still out was recalled: a worker has not begun it.
            if event.error is not None:
                self._cut_off(lane, "not finished", now)
            if not lane.gone and now > lane.end:
                self._slice(lane, "wait", "wait", lane.end, now)
        for name, values in list(self._held.items()):
            self._counted.pop(name)
            self._count(name, now, values)
        if event.error is not None:
            self._instant(event, "fault", "the run failed", error=event.error)


_TAKES: dict[type, Any] = {
    events.RunStarted: Trace._started,
    events.WorkerStarted: Trace._worker_started,
    events.UnitStarted: Trace._unit_started,
    events.UnitFinished: Trace._unit_finished,
    events.WorkerLost: Trace._worker_lost,
    events.Progressed: Trace._progressed,
    events.MemoryUsed: Trace._memory_used,
    events.Spilled: Trace._spilled,
    events.NodeRetried: Trace._retried,
    events.NodeFailed: Trace._failed,
    events.CacheHit: Trace._hit,
    events.CacheStored: Trace._stored,
    events.Emitted: Trace._emitted,
    events.Printed: Trace._printed,
    events.RunFinished: Trace._finished,
}


def nested(
    spans: Sequence[Span], origin: float, shift: int, began: int, ended: int
) -> Iterator[tuple[str, str, int, int, int]]:
    """Spans within a unit, each either inside an earlier one or after it: viewers drop what overlaps otherwise.

    Args:
        spans: task, label, start (seconds since the epoch), seconds and attempt of each.
        origin: the run's beginning, in seconds since the epoch.
        shift: microseconds to add.
        began: when the unit began, in microseconds since `origin`.
        ended: when it ended.

    Yields:
        Task, label, attempt, start and end, in microseconds.
    """
    placed = []
    for task, label, at, seconds, attempt in spans:
        start = round((at - origin) * 1e6) + shift
        placed.append((start, -(start + round(seconds * 1e6)), task, label, attempt))
    if len(placed) == 1:  # the unit's own slice would say the same, but for the label
        placed = [(began, -ended, *placed[0][2:])]
    placed.sort(key=lambda p: p[:2])
    around = [ended]  # the ends of the slices that the next one may lie in
    last = began
    for start, minus_end, task, label, attempt in placed:
        start, end = max(start, last), -minus_end
        while len(around) > 1 and around[-1] <= start:
            around.pop()
        start = min(start, ended)
        end = max(start, min(end, around[-1]))
        around.append(end)
        last = start
        yield task, label, attempt, start, end
