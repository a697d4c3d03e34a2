"""Machines joined over SSH: which they are (`parse_hosts`), whether they do (`check`), and how they do (`setup`)."""

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
