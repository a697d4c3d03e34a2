"""What an engine says it can do."""

from __future__ import annotations

from dataclasses import dataclass

# What an executor under test is made with, if it has the capability `resources`: accelerators that need not exist.
RESOURCES = {"gpu": 2, "licence": 1}


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do: it decides which tests of the suite apply. The defaults are those of most engines.

    Attributes:
        processes: tasks run outside the driver's process.
        pickles: arguments and results are pickled on their way.
        parallel: two tasks can run at the same time.
        dynamic: a task may return nodes.
        seeds: tasks may have `seed=True`.
        contexts: `gr.context()` and `gr.local` work inside tasks.
        growing: `executor.open()` gives a run that takes further nodes.
        cancels: a run can be cancelled from another thread while a task is running.
        resources: the executor under test has what `RESOURCES` says, and two workers or more where it has processes.
        gangs: it has two workers, in processes of their own, for calls that are made together.
        spec: the name that makes such an engine, such as "loky:2", or None: for `gr.use` and GRAPHRAY_EXECUTOR.
    """

    processes: bool = False
    pickles: bool = False
    parallel: bool = True
    dynamic: bool = True
    seeds: bool = True
    contexts: bool = True
    growing: bool = True
    cancels: bool = True
    resources: bool = False
    gangs: bool = False
    spec: str | None = None
