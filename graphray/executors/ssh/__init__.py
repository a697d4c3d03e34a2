"""Machines joined over SSH: which they are (`parse_hosts`), whether they will do (`check`), and how they do (`setup`).

And graphs on them: `gr.executors.SSH`, whose engine underneath is Dask's, with a scheduler of our own.

driver                                              node
──────                                              ────
SSH ── Link ── ssh ─── stdin: configuration ─────▶  agent ──── starts, watches, restarts ───▶  worker processes
                   ◀── stdout: exits, output ─────    │         (ends with the connection)           │
Scheduler, Client ◀═════════════════ TLS, certificates of this run on both sides ════════════════════╝

certificates   the authority made for a run, and TLS contexts that touch no disk
quiet          Dask's scheduler and worker without their HTTP servers
program        a program on a node, over SSH, and messages to it           (driver; remote is its other end)
link           that to a node that has joined                              (driver)
openssh        the system's ssh: its command, and what its failures mean   (driver)
agent          the program at its other end                                (node)
node           a worker process                                            (node)
engine         the executor
"""

from __future__ import annotations

from graphray.executors.ssh.hosts import Host, parse_hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray.executors.ssh.environment import SetupReport, setup
    from graphray.executors.ssh.preflight import HostReport, Problem, check

__all__ = ["Host", "HostReport", "Problem", "SetupReport", "check", "parse_hosts", "setup"]

_LAZY = {
    "HostReport": "preflight",
    "Problem": "preflight",
    "SetupReport": "environment",
    "check": "preflight",
    "setup": "environment",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"graphray.executors.ssh.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'graphray.executors.ssh' has no attribute {name!r}")
