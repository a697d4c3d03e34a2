"""What a failure tells: notes on the exception of a task, and the traceback without graphray's own frames."""

from __future__ import annotations

import os

from graphray.executors.ahead import look_ahead

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any

    from graphray.executors.core import Job
    from graphray.graph.node import Node

_HERE = os.path.dirname(os.path.abspath(__file__))
_NOTES = 20  # on one exception
_OURS = (_HERE, *[os.path.join(os.path.dirname(_HERE), name) for name in ("graph", "interop")])


def describe_call(
    error: BaseException, node: Node, values: Mapping[Node, Any] | None, worker: str, attempt: int = 1
) -> None:
    """Add notes that only the one who made the call can: which node, where, and what the function was called with."""
    _note(error, f"in {node.label} on {worker}{f', attempt {attempt}' if attempt > 1 else ''}")
    if node._deps and values is not None:  # else the label says it
        shown = [_shown(a, values) for a in node._args]
        shown += [f"{name}={_shown(a, values)}" for name, a in (node._kwargs or {}).items()]
        _note(error, f"called with {', '.join(shown[:8])}{', …' if len(shown) > 8 else ''}")
    if type(error) is AssertionError and str(error).startswith("daemonic processes"):  # multiprocessing's words
        _note(
            error,
            "a task in a worker starts no processes with multiprocessing, which would outlive a killed driver: "
            "make their calls nodes of the graph (one run is one pool), or use threads",
        )


def describe_place(error: BaseException, job: Job, node: Node, trail: Sequence[str]) -> int:
    """Add notes on a node's place in its graph: how it leads to an output, and how many nodes are skipped for it.

    Args:
        error: what to add them to.
        job: the run's books.
        node: the node of the graph that failed.
        trail: names of tasks from the one that raised to those that `node` returned, if it returned any.

    Returns:
        The number of skipped nodes.
    """
    skipped, path = look_ahead(job, node)
    names = [*trail, node._task.name, *path]
    if len(names) > 9:
        names = [*names[:4], "…", *names[-4:]]
    if len(names) > 1:
        _note(error, f"path {' → '.join(names)}")
    if skipped:
        what = "1 node that needs its value is" if skipped == 1 else f"{skipped:,} nodes that need its value are"
        _note(error, f"{what} skipped")
    return skipped


def _note(error: BaseException, text: str) -> None:
    note = f"graphray: {text}"
    known = getattr(error, "__notes__", ())
    if note not in known and len(known) < _NOTES:  # one exception may be raised by many nodes
        error.add_note(note)


def _shown(argument: Any, values: Mapping[Node, Any]) -> str:
    from graphray.graph.node import Node, short

    return short(values.get(argument)) if type(argument) is Node else short(argument)


def users_traceback(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the first frame that is not graphray's own machinery."""
    first = trace
    while trace is not None:
        if os.path.dirname(os.path.abspath(trace.tb_frame.f_code.co_filename)) not in _OURS:
            return trace
        trace = trace.tb_next
    return first
