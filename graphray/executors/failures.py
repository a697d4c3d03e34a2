"""What a failure tells: notes on the exception of a task, and the traceback without graphray's own frames."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any

    from graphray.executors.core import Job
    from graphray.graph.node import Node

_HERE = os.path.dirname(os.path.abspath(__file__))
_CALLED = "graphray: called with "
_OURS = (_HERE, os.path.join(os.path.dirname(_HERE), "graph"))


def describe(
    error: BaseException, job: Job, node: Node, trail: Sequence[str], worker: str, attempt: int, skipped: int
) -> None:
    """Add notes: which node, where it ran, how it leads to an output, and what is skipped for it."""
    if described(error):
        return
    path = " → ".join([*_path(job, node), *trail])
    tries = f", attempt {attempt}" if attempt > 1 else ""
    error.add_note(f"graphray: in {node.label} on {worker}{tries}")
    if "→" in path:
        error.add_note(f"graphray: path {path}")
    if skipped:
        what = "1 node that needs its value is" if skipped == 1 else f"{skipped:,} nodes that need its value are"
        error.add_note(f"graphray: {what} skipped")


def describe_arguments(error: BaseException, node: Node, values: Mapping[Node, Any]) -> None:
    """Add a note of what the function was called with: shapes and sizes, where the node's label only shows `…`."""
    if not node._deps or any([n.startswith(_CALLED) for n in getattr(error, "__notes__", ())]):
        return
    shown = [_shown(a, values) for a in node._args]
    shown += [f"{name}={_shown(a, values)}" for name, a in (node._kwargs or {}).items()]
    more = ", …" if len(shown) > 8 else ""
    error.add_note(f"{_CALLED}{', '.join(shown[:8])}{more}")


def _shown(argument: Any, values: Mapping[Node, Any]) -> str:
    from graphray.graph.node import Node, short

    return short(values.get(argument)) if type(argument) is Node else short(argument)


def described(error: BaseException) -> bool:
    """Whether an exception has its notes already."""
    return any(n.startswith("graphray: in ") for n in getattr(error, "__notes__", ()))


def downstream(job: Job, node: Node) -> int:
    """How many of the nodes a job knows need this one's value."""
    from graphray.graph.node import topological

    reached = {node}
    roots = job.roots or list(job.wanted)
    for n in topological(roots):
        if any(d in reached for d in n._deps):
            reached.add(n)
    return len(reached) - 1


def _path(job: Job, node: Node) -> list[str]:
    """Names of the tasks from the failing node to an output."""
    from graphray.graph.node import topological

    names = [node._task.name]
    here = node
    for n in topological(job.roots or list(job.wanted)):
        if here in n._deps:
            here = n
            names.append(n._task.name)
    if len(names) > 9:
        names = [*names[:4], "…", *names[-4:]]
    return names


def users_traceback(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the first frame that is not graphray's own machinery."""
    first = trace
    while trace is not None:
        if os.path.dirname(os.path.abspath(trace.tb_frame.f_code.co_filename)) not in _OURS:
            return trace
        trace = trace.tb_next
    return first
