"""The table of runs that are trained: it changes in place on a terminal; elsewhere there are lines now and then."""

from __future__ import annotations

import os
import sys
import threading
import time

from graphray.cli.pretty import BOLD, PLAIN
from graphray.cli.streams import colour, columns, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from graphray.cli.terminal import Screen
    from graphray.rl.experiment import Trial

REFRESH = 0.1  # seconds between changes on a terminal
LINES = 10.0  # seconds between lines of a run elsewhere
HEAD = ("run", "status", "iter", "steps", "reward", "length", "steps/s", "time")


class Table:
    """What is known of each run so far.

    Args:
        trials: the runs.
        shown: the terminal; None: there is none.
        quiet: say nothing until the end.
    """

    def __init__(self, trials: Sequence[Trial], shown: Screen | None, quiet: bool) -> None:
        self._names = list(map(_name, trials))
        self._status = ["waiting"] * len(trials)
        self._rows: list[dict[str, Any]] = [{} for _ in trials]
        self._shown, self._quiet = shown, quiet
        self._lock = threading.Lock()
        self._next = 0.0
        self._said = [time.monotonic()] * len(trials)

    def report(self, number: int, said: Any) -> None:
        """Take in what a run says: a row of its records, an empty one as it begins, or its outcome."""
        with self._lock:
            ended = not isinstance(said, dict)
            self._status[number] = said.status if ended else "running"
            row = said.last if ended else said
            if row:
                self._rows[number] = row
            if self._quiet:
                return
            now = time.monotonic()
            if self._shown is None:
                if ended or (row and now - self._said[number] >= LINES):
                    self._said[number] = now
                    say(self._line(number))
            elif ended or now >= self._next:
                self._next = now + REFRESH
                self._shown.write("\n".join(self._fitting()))

    def end(self) -> None:
        """All is over: what moved on the terminal goes, as `lines` are printed now."""
        if self._shown is not None:
            self._shown.clear()

    def lines(self) -> list[str]:
        """The table, for stdout."""
        return self._table(range(len(self._names)), columns(), colour(sys.stdout))

    def _fitting(self) -> list[str]:
        """As much of the table as the terminal is high: what runs first."""
        try:
            size = os.get_terminal_size(self._shown.fileno() if self._shown else 2)
            width, height = size.columns or 80, size.lines or 24
        except OSError:
            width, height = 80, 24
        room = max(1, height - 4)
        order = {"running": 0, "failed": 1, "halted": 2, "waiting": 3, "done": 4}
        chosen = list(range(len(self._names)))
        if len(chosen) > room:
            chosen = sorted(sorted(chosen, key=lambda i: order[self._status[i]])[:room])
        lines = self._table(chosen, width - 4, not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")
        if len(self._names) > 1:
            counts = ((sum(one == status for one in self._status), status) for status in order)
            lines.append(", ".join(f"{count} {status}" for count, status in counts if count))
        return lines

    def _table(self, chosen: Sequence[int], width: int, coloured: bool) -> list[str]:
        cells = [(self._names[i], self._status[i], *self._figures(i)) for i in chosen]
        widths = [max(map(len, column)) for column in zip(HEAD, *cells, strict=True)]
        widths[0] = max(12, min(widths[0], width - sum(widths[1:]) - 2 * len(widths[1:])))
        head, *rows = (self._row(row, widths) for row in (HEAD, *cells))
        return [f"{BOLD}{head}{PLAIN}" if coloured else head, *rows]

    @staticmethod
    def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
        name, status, *figures = cells
        if len(name) > widths[0]:  # both ends tell runs apart
            half = (widths[0] - 1) // 2
            name = f"{name[: widths[0] - 1 - half]}…{name[len(name) - half :]}"
        numbers = [f"{cell:>{width}}" for cell, width in zip(figures, widths[2:], strict=True)]
        return "  ".join([f"{name:<{widths[0]}}", f"{status:<{widths[1]}}", *numbers]).rstrip()

    def _line(self, number: int) -> str:
        iteration, steps, reward, length, speed, seconds = self._figures(number)
        about = f"{self._names[number]}: {self._status[number]}"
        if not self._rows[number]:
            return about
        done = f"iteration {iteration}, {steps} steps"
        return f"{about}, {done}, reward {reward}, length {length}, {speed} steps/s, {seconds}"

    def _figures(self, number: int) -> tuple[str, ...]:
        row = self._rows[number]
        if not row:
            return ("-",) * 6
        # Of one that has ended the speed is that of the whole.
        over = "this_iter" if self._status[number] == "running" else "total"
        steps, took = row[f"timesteps_{over}"], row[f"time_{over}_s"]
        return (
            f"{row['training_iteration']:,}",
            f"{row['timesteps_total']:,}",
            _number(row["episode_reward_mean"]),
            _number(row["episode_len_mean"]),
            f"{steps / took:,.0f}" if took else "-",
            _clock(row["time_total_s"]),
        )


def _number(x: float | None) -> str:
    if x is None:
        return "-"
    return f"{x:,.0f}" if abs(x) >= 10_000 else f"{x:.1f}" if abs(x) >= 100 else f"{x:.2f}"


def _clock(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _name(trial: Trial) -> str:
    from graphray.rl.runs import tag

    name = trial.experiment if trial.experiment != "default" else f"{trial.algorithm}_{trial.env}"
    return f"{name} {trial.number:05d} {tag(trial.varied)}" if trial.varied else name
