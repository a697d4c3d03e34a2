"""The guard of a testbed: a process that sees its owner killed, and clears up after it.

`python -m machines.guard PID BORN`, with a pipe as its standard input that only the owner holds.
"""

from __future__ import annotations

import sys
import time

from machines.sweep import born, sweep


def main() -> None:
    """Wait for the owner's end. One that has cleared up itself says so."""
    pid, started = map(int, sys.argv[1:])
    if sys.stdin.buffer.read():
        return
    deadline = time.monotonic() + 10
    while born(pid) == started and time.monotonic() < deadline:  # the pipe closes a moment before the process is gone
        time.sleep(0.01)
    sweep()


if __name__ == "__main__":
    main()
