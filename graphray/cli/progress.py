"""What a command shows while it runs."""

from __future__ import annotations

import contextlib

from graphray.cli.streams import stdout_is_broken
from graphray.cli.terminal import screen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from graphray.executors.events import RunEvent


@contextlib.contextmanager
def progress(wanted: bool, processes: bool) -> Iterator[Callable[[RunEvent], None] | None]:
    """A subscriber for a run: a moving line on a terminal, a line now and then elsewhere; None if not wanted."""
    if not wanted:
        yield None
        return
    from graphray.executors.events import Printed, RunFinished
    from graphray.executors.progress import Display

    with screen(processes) as shown:
        display = Display(shown)  # type: ignore[arg-type]

        def show(event: RunEvent) -> None:
            if isinstance(event, Printed):
                return  # the engine writes it to stdout or stderr, and so above the line
            if not isinstance(event, RunFinished) or not _said_elsewhere(event.error):
                display(event)
            elif shown is not None:
                shown.clear()

        yield show


def _said_elsewhere(error: BaseException | None) -> bool:
    """Whether the command itself tells of this end (it was interrupted), or nobody does (a broken pipe)."""
    from graphray.errors import Cancelled

    return isinstance(error, Cancelled) or (isinstance(error, BrokenPipeError) and stdout_is_broken())
