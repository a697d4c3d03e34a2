"""What a run writes down after each iteration: `result.json`, `progress.csv` and events for TensorBoard.

`result.json` is the record, a line of JSON for each iteration. `progress.csv` is made from it, and made again from it
where something is wrong with it: when a run goes on after its process was killed, lines that were torn, or are of
iterations that are done again, go from the one and are then missing in the other.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, TextIO

from graphray.rl.results import flat

__all__ = ["CLOCKS", "RESULT", "Records", "read_rows", "tensorboard_is_there"]

RESULT, PROGRESS = "result.json", "progress.csv"

CLOCKS = ("time_this_iter_s", "time_total_s", "timestamp", "date", "hostname", "pid")
"""Entries that are not the same when a run is made again."""


def read_rows(directory: str, after: int | None = None) -> list[dict[str, Any]]:
    """The results of a run, in order, up to the iteration `after`; a line that was not finished is left out."""
    try:
        with open(os.path.join(directory, RESULT), encoding="utf-8") as file:
            lines = file.read().split("\n")[:-1]  # what follows the last end of line was not finished
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if after is not None and row["training_iteration"] > after:
            break
        rows.append(row)
    return rows


def tensorboard_is_there() -> bool:
    """Whether events can be written: it takes a package of the extra `rl`."""
    return importlib.util.find_spec("tensorboardX") is not None


class Records:
    """The records of a run in a directory.

    Args:
        directory: which is there.
        after: the iteration that the run goes on from; what is recorded of later ones is removed.
    """

    def __init__(self, directory: str, after: int = 0) -> None:
        self._directory = directory
        rows = read_rows(directory, after)
        _replace(os.path.join(directory, RESULT), "".join(map(_line, rows)))
        self._columns: list[str] = []
        self._write_csv(rows)
        self._results, self._progress = self._open(RESULT), self._open(PROGRESS)
        self._events: Any = None
        if tensorboard_is_there():
            from tensorboardX import SummaryWriter

            steps = rows[-1]["timesteps_total"] + 1 if rows else 0
            self._events = SummaryWriter(directory, purge_step=steps, flush_secs=10)

    def add(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Record an iteration's result, and give it as it was recorded."""
        now = time.time()
        clocks = {
            "timestamp": int(now),
            "date": time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(now)),
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
        }
        line = _line({**result, **clocks})
        self._results.write(line)
        self._results.flush()
        row: dict[str, Any] = json.loads(line)
        cells = _cells(row)
        if all(name in self._columns for name in cells):
            csv.writer(self._progress, lineterminator="\n").writerow([cells.get(name, "") for name in self._columns])
            self._progress.flush()
        else:  # the first row, or the first with an evaluation
            self._progress.close()
            self._write_csv(read_rows(self._directory))
            self._progress = self._open(PROGRESS)
        if self._events is not None:
            for name, value in flat(row).items():
                if isinstance(value, int | float) and not isinstance(value, bool) and name not in CLOCKS:
                    self._events.add_scalar(name, value, row["timesteps_total"])
        return row

    def sync(self) -> None:
        """Have everything on the disk: a checkpoint that is written next is never ahead of the records."""
        for file in (self._results, self._progress):
            os.fsync(file.fileno())

    def close(self) -> None:
        """The run is over, for now."""
        self._results.close()
        self._progress.close()
        if self._events is not None:
            self._events.close()

    def _open(self, name: str) -> TextIO:
        return open(os.path.join(self._directory, name), "a", encoding="utf-8", newline="")

    def _write_csv(self, rows: list[dict[str, Any]]) -> None:
        every = [_cells(row) for row in rows]
        self._columns = list(dict.fromkeys(name for cells in every for name in cells))
        table = [self._columns, *([cells.get(name, "") for name in self._columns] for cells in every)] if every else []
        temporary = os.path.join(self._directory, f".{PROGRESS}")
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(table)
        os.replace(temporary, os.path.join(self._directory, PROGRESS))


def _line(result: Mapping[str, Any]) -> str:
    return json.dumps(_plain(result), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it; what is no number (NaN) is null there."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # NumPy's
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: "nan" if value is None else value for name, value in flat(row).items() if not isinstance(value, list)}


def _replace(path: str, text: str) -> None:
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
