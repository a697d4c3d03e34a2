"""What a host is like, found out there: travels as text, see `program.py`, and runs on any Python from 3.6."""

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time

line = globals()["line"]


def versions(names: "list[str]") -> "dict[str, object]":
    """Versions of packages by name; None for those that are not there. Nothing is imported."""
    try:
        from importlib import metadata
    except ImportError:  # before 3.8
        return {}
    found = {}  # type: dict[str, object]
    for name in names:
        try:
            found[name] = metadata.version(name)
        except Exception:
            found[name] = None
    return found


def cores() -> int:
    """Cores that this process may use."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return count


def memory() -> int:
    """Bytes of memory of the machine, or of its container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                total = min(total, int(file.read()) or total)
        except (OSError, ValueError):
            continue
    return total


def available() -> object:
    """Bytes of memory that nobody uses, where the system says so."""
    try:
        with open("/proc/meminfo") as file:
            for row in file:
                if row.startswith("MemAvailable:"):
                    return int(row.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def accelerators() -> "list[dict[str, object]]":
    """Accelerators: those that nvidia-smi lists, else those that have a device file."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            query, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20
        )
        rows = done.stdout.decode("utf-8", "replace").splitlines() if done.returncode == 0 else []
    except (OSError, subprocess.SubprocessError):
        rows = []
    found = []  # type: list[dict[str, object]]
    for row in rows:
        name, _, size = row.rpartition(",")
        if name.strip():
            found.append({"name": name.strip(), "memory": int(size) * 1024**2 if size.strip().isdigit() else None})
    if not found and os.path.isdir("/dev"):
        devices = sorted(d for d in os.listdir("/dev") if d.startswith("nvidia") and d[6:].isdigit())
        found = [{"name": "/dev/" + d, "memory": None} for d in devices]
    return found


def space(path: str) -> object:
    """Free bytes of a directory that can be written to."""
    try:
        return shutil.disk_usage(path).free if os.access(path, os.W_OK | os.X_OK) else 0
    except OSError:
        return None


def code() -> object:
    """The digest of graphray's files, as `sources.digest` makes it; None where it is not installed."""
    spec = importlib.util.find_spec("graphray")
    if spec is None or not spec.origin:
        return None
    root = os.path.dirname(os.path.abspath(spec.origin))
    paths = [os.path.join(d, f) for d, _, files in os.walk(root) for f in files if f.endswith(".py")]
    named = sorted(("/".join(["graphray", *os.path.relpath(p, root).split(os.sep)]), p) for p in paths)
    found = hashlib.sha256()
    for name, path in named:
        with open(path, "rb") as file:
            content = file.read()
        found.update(f"{name} {len(content)}\n".encode() + content)
    return found.hexdigest()


wanted = json.loads(globals()["header"].decode())
try:
    temporary = tempfile.gettempdir()
except OSError:  # there is none that can be written to
    temporary = ""
report = {
    "versions": versions(wanted["packages"]),
    "code": code(),
    "system": platform.system(),
    "machine": platform.machine(),
    "node": platform.node(),
    "cores": cores(),
    "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    "memory": memory(),
    "available": available(),
    "accelerators": accelerators(),
    "temporary": temporary,
    "temporary_free": space(temporary) if temporary else None,
    "shared_free": space("/dev/shm") if os.path.isdir("/dev/shm") else None,
    "directory": None if wanted["directory"] is None else os.path.isdir(wanted["directory"]),
}
line.send(json.dumps(report).encode())
for _ in range(wanted["pings"]):  # what a message takes there and back, and what the clock says meanwhile
    line.receive()
    line.send(json.dumps(time.time()).encode())
sys.exit(0)
