"""Runs rows: each system's turn at a row in a process of its own, so that one's threads do not disturb another.

core.py ──▶ core.py --row noop10k --system ray     starts Ray, warms it, measures, prints its samples as JSON
        ──▶ core.py --row noop10k --system joblib  …
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _measures import Sample
from _rows import Row
from systems import System, Work

REPEATS, BUDGET = 5, 2.0
"""A started system repeats the work up to so many times, as long as so many seconds have not passed."""
TIMEOUT = 900.0
"""Seconds after which a turn is given up."""
GRACE = 5.0
"""Seconds that it has for its end then."""


class TurnFailed(Exception):
    """A system could not do its work; the text says why."""


# ---- in the driver


def turn(row: Row, system: System, quick: bool) -> list[Sample]:
    """Have a system do a row's work in a process of its own.

    Raises:
        TurnFailed: it could not; the first line says how it ended, the rest is what it wrote.
    """
    command = [sys.executable, str(Path(__file__).with_name("core.py")), "--row", row.name, "--system", system.name]
    # Files, not pipes: a process that a peer leaves behind would keep a pipe open.
    with _scratch() as scratch, tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        with _group(command + ["--quick"] * quick, scratch, output, errors) as process:
            try:
                status: int | None = process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                status = None
        output.seek(0)
        errors.seek(0)
        answers = [line for line in output if line.startswith("{")]
        if status != 0 or not answers:
            why = f"took more than {TIMEOUT:.0f} s" if status is None else f"ended with status {status}"
            raise TurnFailed(f"{why}\n{errors.read()[-2_000:]}")
        return json.loads(answers[-1])["samples"]


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A directory for temporary files, removed with what peers leave there; in /tmp, because Ray needs a short path."""
    return tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp", ignore_cleanup_errors=True)


@contextlib.contextmanager
def _group(command: Sequence[str], scratch: str, output: Any, errors: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, of which nothing is left at the end."""
    environment = {**os.environ, "TMPDIR": scratch}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:  # it is given a moment to close its system: files in shared memory outlive processes
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# ---- in a system's own process


def take_turn(row: Row, system: System, quick: bool) -> None:
    """Measure, and print the samples as a line of JSON."""
    samples = list(_samples(row, system, row.quick if quick else row.size))
    print(json.dumps({"row": row.name, "system": system.name, "samples": samples}), flush=True)


def _samples(row: Row, system: System, size: int) -> Iterator[Sample]:
    if not row.started:
        yield row.measure(system, size)
        return
    with system.load()() as work:
        _warm(work)
        end = time.perf_counter() + BUDGET
        for i in range(REPEATS):
            if i and time.perf_counter() > end:
                break
            gc.collect()
            yield row.measure(work, size)


def _warm(work: Work) -> None:
    """Both workers are up and have imported what they need."""
    work.noops(100)
    if hasattr(work, "sleeps"):
        work.sleeps([0.05] * 8)
