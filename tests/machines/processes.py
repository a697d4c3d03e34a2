"""Processes: whose they are, and how they are ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

import psutil

PATIENCE = 10.0  # seconds that killed processes may take to go: the system may be busy


def command(process: psutil.Process) -> str:
    """What it was started with, or its name where that is not to be had."""
    try:
        return " ".join(process.cmdline()).strip() or process.name()
    except psutil.Error:
        return f"process {process.pid}"


def running(process: psutil.Process) -> bool:
    """Whether it is there, and not only waiting to be waited for."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def tree(pid: int | None = None) -> list[psutil.Process]:
    """A process and all that descend from it; without an id, this one's."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def marked(mark: str, *, clients: bool = False) -> list[psutil.Process]:
    """The processes of a testbed or of one of its servers: the server itself, all that runs in a session there, however
    it was detached, and what descends from these. Not this one.

    Args:
        mark: the path of a server's folder, or a part of it, ending with a slash.
        clients: whether the ssh clients count that were started with its files.
    """
    program = "ssh" if clients else "sshd"
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            # A server overwrites its environment with its title, which has the path of its configuration in it.
            ours = process.name().startswith(program) and mark in " ".join(process.cmdline())
            if ours or mark in process.environ().get("GRAPHRAY_TESTBED", ""):
                found |= {p.pid: p for p in [process, *process.children(recursive=True)]}
        except psutil.Error:  # gone, or somebody else's
            continue
    found.pop(os.getpid(), None)
    return [p for p in found.values() if running(p)]


def kill_all(find: Callable[[], list[psutil.Process]]) -> None:
    """Kill what `find` finds, again and again until it finds nothing: a process may fork while it is looked for."""
    deadline = time.monotonic() + PATIENCE
    while found := [p for p in find() if running(p)]:
        if time.monotonic() > deadline:
            raise TimeoutError("killed, and still there: " + "; ".join(f"{p.pid} {command(p)}" for p in found))
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        time.sleep(0.005)
