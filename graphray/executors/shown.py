"""What tasks printed elsewhere, on the driver's own output, marked with where it came from."""

from __future__ import annotations

import contextlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphray.executors.events import Printed


def marked(event: Printed) -> str:
    """The lines, each with its node and worker before it."""
    place = f"[{event.node} {event.worker}]" if event.node else f"[{event.worker}]"
    return "".join([f"{place} {line}\n" for line in event.text.splitlines()])


def show(event: Printed) -> None:
    """Write them to the stream of the same name here."""
    stream = sys.stderr if event.stream == "stderr" else sys.stdout
    if stream is None:  # a program without a console
        return
    text = marked(event)
    with contextlib.suppress(OSError, ValueError):  # closed, or a broken pipe: what is printed may not harm a run
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
