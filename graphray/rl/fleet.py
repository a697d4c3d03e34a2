"""Several runs at once: each is a node of a graph, on one pool of processes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import graphray as gr
from graphray.executors.events import Emitted
from graphray.executors.start import make
from graphray.rl.experiment import Trial
from graphray.rl.records import read_rows
from graphray.rl.runs import Halt, Outcome, failed, train

__all__ = ["train_all"]


def train_all(
    trials: Sequence[Trial],
    directories: Sequence[str],
    *,
    executor: str | None = None,
    workers: int | None = None,
    halt: Halt,
    report: Callable[[int, dict[str, Any] | Outcome], None],
) -> list[Outcome]:
    """Train runs, each in its directory.

    One run computes on the executor itself. Several become nodes of one graph on a pool of processes, a run in each,
    and `num_workers` then says only how environments are grouped: one run is one pool. On an executor that is no pool
    of this machine's, they are made one after another, as their directories are here.

    Args:
        trials: what to train.
        directories: where.
        executor: its name; None: for several runs a pool with a process per core, for one what its `num_workers` says.
        workers: how many processes.
        halt: when it is set, runs end with a checkpoint, and others do not begin.
        report: called with a run's number: as it begins with the last row of its records (an empty one if there is
            none), then with each row, and with its outcome.

    Raises:
        ValueError, TypeError, ImportError: there is no such executor.
    """
    name = executor if executor is not None or (workers is None and len(trials) == 1) else "loky"
    pooled = name is not None and name.partition(":")[0] == "loky"
    if len(trials) > 1 and pooled:
        return _pooled(trials, directories, name, workers, halt, report)
    engine = make(name, workers) if name is not None else None
    outcomes: list[Outcome] = []
    try:
        for number, (trial, directory) in enumerate(zip(trials, directories, strict=True)):
            outcome = _one(trial, directory, number, halt, report, executor=engine)
            outcomes.append(outcome)
    finally:
        if engine is not None:
            engine.close()
    return outcomes


def _one(
    trial: Trial,
    directory: str,
    number: int,
    halt: Halt,
    report: Callable[[int, Any], None],
    executor: Any = None,
) -> Outcome:
    rows = read_rows(directory)
    last = rows[-1] if rows else {}
    if halt():
        return Outcome("halted", directory, last)
    report(number, last)  # it begins
    try:
        outcome = train(trial, directory, executor=executor, halt=halt, report=lambda row: report(number, row))
    except Exception as error:
        outcome = failed(directory, error)
    report(number, outcome)
    return outcome


def _pooled(
    trials: Sequence[Trial],
    directories: Sequence[str],
    name: Any,
    workers: int | None,
    halt: Halt,
    report: Callable[[int, Any], None],
) -> list[Outcome]:
    def hear(event: Any) -> None:
        if isinstance(event, Emitted) and "graphray_run" in event.data:
            number, said = event.data["graphray_run"]
            report(number, said)

    # A worker that dies is replaced, and its run goes on from its last checkpoint.
    nodes = [
        # Its name begins each line that an environment prints.
        gr.task(name=f"{trial.experiment}_{trial.number:05d}", pure=False)(
            functools.partial(_in_worker, trial, directory, number, halt)
        )()
        for number, (trial, directory) in enumerate(zip(trials, directories, strict=True))
    ]
    if workers is None and ":" not in name:
        workers = min(len(trials), gr.executors.Loky().workers)
    with make(name, workers, 1) as engine:
        found = engine.run(gr.Graph(runs=nodes), progress=[hear], on_error="collect").result()["runs"]
    outcomes = []
    for number, (directory, outcome) in enumerate(zip(directories, found, strict=True)):
        if isinstance(outcome, gr.Failure):  # its process died, and again when that was tried anew
            outcome = failed(directory, outcome.error)
            report(number, outcome)
        outcomes.append(outcome)
    return outcomes


def _in_worker(trial: Trial, directory: str, number: int, halt: Halt) -> Outcome:
    context = gr.context()

    def report(number: int, said: Any) -> None:
        context.emit(graphray_run=(number, said))

    return _one(trial, directory, number, halt, report)
