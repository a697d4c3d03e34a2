"""What a command says when it cannot be carried out, and what it ends with."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Exit statuses. The last two are what a shell reports for a process that a signal has ended (128 + its number).
OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


class UsageError(Exception):
    """The command cannot be carried out as given: its text is all that the user is told, and the exit status is 2."""


class TaskFailed(Exception):
    """A task failed: its text is the traceback that the user is shown, and the exit status is 1."""


def suggestion(name: str, names: Iterable[str], likeness: float = 0.6) -> str:
    """`; did you mean 'x'?` for the name nearest to a mistyped one; empty if none is as alike as that (1: equal)."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(names), 1, likeness)
    return f"; did you mean {near[0]!r}?" if near else ""


def a(kind: str) -> str:
    """The name of a type with its article: `a float`, `an int`."""
    return f"{'an' if kind[:1] in 'aeiouAEIOU' else 'a'} {kind}"


def listing(names: Iterable[str]) -> str:
    """Names in a line, the first twenty of them."""
    all_names = list(names)
    more = f" and {len(all_names) - 20:,} more" if len(all_names) > 20 else ""
    return ", ".join(all_names[:20]) + more
