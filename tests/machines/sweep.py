"""What testbeds have left whose run was killed: folders, network namespaces, and the processes in them.

A testbed's name holds the id of its process and when that was started, so that an id that was given out again is not
taken for the owner's. Folders and namespaces are named after the testbed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from machines.processes import kill_all, marked, running

NAMESPACES = Path("/run/netns")  # where `ip netns` keeps them
NAME = re.compile(r"graphray-(\d+)-(\d+)-[0-9a-f]{8}-testbed")


def born(pid: int) -> int | None:
    """When a process was started, in units of the system's own; None if it has ended."""
    try:
        if sys.platform == "linux":
            # By the clock that starts with the system, as the wall clock may be set; after the name, which may be
            # anything.
            state, *fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            return None if state in "ZX" else int(fields[18])
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 1e6)
    except (OSError, psutil.NoSuchProcess):
        return None


def stale(name: str) -> bool:
    """Whether this is the name of a testbed, or begins with one, whose process has ended."""
    found = NAME.match(name)
    return found is not None and born(int(found[1])) != int(found[2])


def sweep() -> list[str]:
    """Remove what no living run owns, as far as it is this user's, and say what that was. Two may do so at once."""
    temporary = Path(tempfile.gettempdir())
    folders = [p for p in temporary.glob("graphray-*-testbed") if stale(p.name) and _ours(p)]
    namespaces = [n for n in namespaces_of("") if stale(n)] if os.geteuid() == 0 else []
    for name in sorted({p.name for p in folders} | {NAME.match(n)[0] for n in namespaces}):  # type: ignore[index]
        kill_all(lambda name=name: marked(f"/{name}/", clients=True))  # type: ignore[misc]
    for namespace in namespaces:
        remove_namespace(namespace)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return [*map(str, folders), *namespaces]


def _ours(folder: Path) -> bool:
    try:
        return folder.lstat().st_uid == os.geteuid() and folder.is_dir() and not folder.is_symlink()
    except OSError:
        return False


def namespaces_of(prefix: str) -> list[str]:
    """The network namespaces that have a name which begins so."""
    try:
        return sorted(name for name in os.listdir(NAMESPACES) if name.startswith(prefix))
    except FileNotFoundError:  # there was never one
        return []


def processes_in(namespace: str) -> list[psutil.Process]:
    """Those whose network is this namespace."""
    found = []
    for pid in map(int, _ip("netns", "pids", namespace).split()):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return [p for p in found if running(p)]


def remove_namespace(namespace: str) -> None:
    """Kill what runs in it and take its name away, with the links that lead there. Somebody else may be at it too."""
    kill_all(lambda: processes_in(namespace))
    # The kernel would remove them a while after the namespace, and addresses would stay in use so long.
    shown = _ip("-n", namespace, "-o", "link", "show", "type", "veth")
    for link in re.findall(r"^\d+: ([^@:]+)", shown, re.MULTILINE):
        _ip("-n", namespace, "link", "delete", link)
    _ip("netns", "delete", namespace)
    if namespace in namespaces_of(namespace):
        raise OSError(f"cannot remove the network namespace {namespace}: see `ip netns delete {namespace}`")


def _ip(*arguments: str) -> str:
    """What `ip` prints, also if it finds nothing there any more."""
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30).stdout
