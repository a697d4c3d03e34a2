"""Whether hosts will do: can they be reached, do they have the right Python and packages, room and time."""

from __future__ import annotations

import json
import math
import pkgutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphray.errors import HostError
from graphray.executors.ssh import packages, sources
from graphray.executors.ssh.hosts import Host, parse_hosts
from graphray.executors.ssh.parallel import each
from graphray.executors.ssh.program import Program, other_python

OLDEST = (3, 6)  # that the probe runs on
PINGS = 5
SKEW = 2.0  # seconds of difference between clocks that are worth a warning
ROOM = 1 << 30  # bytes free in the temporary directory, below which there is one
SHARED = 64 << 20  # and in /dev/shm

# Packages without which nothing runs there, and those of which another version is worth a warning.
VITAL = ("graphray", "cloudpickle", "distributed")
COMPARED = (*VITAL, "dask", "flax", "gymnasium", "jax", "jaxlib", "loky", "networkx", "numpy", "optax")


@dataclass(frozen=True)
class Problem:
    """Something about a host that is not as it should be, and what to do. A fatal one makes it unusable."""

    topic: str
    text: str
    fatal: bool = False


@dataclass(frozen=True)
class HostReport:
    """What `check` has found out about a host; None where it could not be told.

    Attributes:
        host: the host.
        problems: what is not as it should be.
        reachable: an SSH server answers.
        known: its host key is known.
        python: version of its Python.
        executable: path of that.
        versions: packages there by name; None: not installed.
        cores: that a process there may use.
        load: processes that want one, on the average of the last minute.
        memory: bytes that it has.
        available: bytes of these that nobody uses.
        accelerators: their names, and bytes of memory where known.
        clock_skew: seconds by which its clock is ahead.
        round_trip: seconds for a message there and back.
        temporary: the directory for temporary files.
        temporary_free: bytes free there.
        shared_free: bytes free in /dev/shm.
    """

    host: Host
    problems: tuple[Problem, ...] = ()
    reachable: bool | None = None
    known: bool | None = None
    python: str | None = None
    executable: str | None = None
    versions: Mapping[str, str | None] = field(default_factory=dict)
    cores: int | None = None
    load: float | None = None
    memory: int | None = None
    available: int | None = None
    accelerators: tuple[tuple[str, int | None], ...] = ()
    clock_skew: float | None = None
    round_trip: float | None = None
    temporary: str | None = None
    temporary_free: int | None = None
    shared_free: int | None = None

    @property
    def usable(self) -> bool:
        """There is no fatal problem."""
        return not any(problem.fatal for problem in self.problems)


def check(hosts: Any, *, timeout: float = 30.0, **for_all: Any) -> list[HostReport]:
    """Look at hosts, all at once, and change nothing there.

    Args:
        hosts: see `parse_hosts`.
        timeout: seconds for each host.
        for_all: options for all hosts.

    Raises:
        ValueError: these are no hosts.
        HostError: there is no ssh on this machine.
    """
    listed = parse_hosts(hosts, **for_all)
    here = packages.installed(COMPARED)
    code = sources.digest()
    return each(listed, lambda host, keep: _look(host, keep, here, code, timeout))


def _look(
    host: Host, keep: Callable[[Program], Program], here: dict[str, str], code: str, timeout: float
) -> HostReport:
    deadline = time.monotonic() + timeout
    wanted = {"packages": sorted({*here, *VITAL}), "directory": host.directory, "pings": PINGS}
    source = pkgutil.get_data("graphray.executors.ssh", "probe.py")
    assert source is not None
    program = keep(Program(host))
    found: dict[str, Any] = {"host": host}
    problems: list[Problem] = []
    try:
        with program:
            program.start(
                source.decode(), json.dumps(wanted).encode(), name="graphray probe", timeout=timeout, same_python=False
            )
            found |= {"reachable": True, "known": True}
            version = tuple(program.hello["version"])
            found |= {"python": ".".join(map(str, version)), "executable": str(program.hello["executable"])}
            if version[:2] != sys.version_info[:2]:
                problems.append(Problem("python", str(other_python(host, version)), fatal=True))
            if version >= OLDEST:
                report = json.loads(program.receive(max(0.1, deadline - time.monotonic())))
                found |= _facts(report) | _clock(program, deadline)
                problems += [] if problems else _differences(host, report, here, code)
                problems += _shortcomings(host, report)
                problems += _late(host, found["clock_skew"], found["round_trip"])
    except HostError as error:
        if error.reason == "no-ssh":
            raise
        found = {"reachable": _reached(error.reason), "known": _known(error.reason)} | found
        problems.append(Problem(error.reason, str(error), fatal=True))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"{host.label} has answered with what is no report ({type(error).__name__}: {error})"
        problems.append(Problem("failed", text, fatal=True))
    return HostReport(**found, problems=tuple(problems))


def _reached(reason: str) -> bool | None:
    """Whether there is an SSH server, as far as the reason of a failure says."""
    if reason in ("unknown-host", "unreachable", "refused", "timeout"):
        return False
    return None if reason in ("failed", "closed", "ssh-configuration", "no-ssh") else True


def _known(reason: str) -> bool | None:
    if reason in ("host-key-unknown", "host-key-changed", "host-key-revoked"):
        return False
    return (
        True if reason in ("permission-denied", "forwarding-refused", "no-python", "python-version", "ended") else None
    )


def _facts(report: dict[str, Any]) -> dict[str, Any]:
    facts = {name: report[name] for name in ("versions", "cores", "load", "memory", "available")}
    facts |= {name: report[name] for name in ("temporary", "temporary_free", "shared_free")}
    return facts | {"accelerators": tuple((str(a["name"]), a["memory"]) for a in report["accelerators"])}


def _clock(program: Program, deadline: float) -> dict[str, float]:
    """The difference of the clocks, from the quickest of some messages: as in NTP, it is known to half of its way."""
    best = (math.inf, 0.0)
    for _ in range(PINGS):
        begin, now = time.monotonic(), time.time()
        program.send(b"?")
        there = float(json.loads(program.receive(max(0.1, deadline - time.monotonic()))))
        took = time.monotonic() - begin
        best = min(best, (took, there - (now + took / 2)))
    return {"round_trip": best[0], "clock_skew": best[1]}


def _differences(host: Host, report: dict[str, Any], here: dict[str, str], code: str) -> list[Problem]:
    """How its packages differ from those here."""
    label = host.label
    setup = f"graphray nodes setup {label} makes an environment like this one"
    found = []
    there = report["versions"]
    missing = [name for name in there if there[name] is None and (name in here or name in VITAL[:2])]
    if vital := [name for name in missing if name in VITAL]:
        found.append(Problem("packages", f"{label} has no {_and(vital)}: {setup}", fatal=True))
    if others := [name for name in missing if name not in VITAL]:
        found.append(Problem("packages", f"{label} has no {_and(others)}: tasks that import them will fail; {setup}"))
    both = [name for name in here if there[name] is not None and there[name] != here[name]]
    if both:
        versions = ", ".join(f"{name} {there[name]} (here {here[name]})" for name in both)
        found.append(Problem("packages", f"{label} has other versions: {versions}; {setup}"))
    elif report["code"] not in (None, code):
        text = f"the graphray on {label} differs from this one, though its version is the same: {setup}"
        found.append(Problem("packages", text))
    return found


def _shortcomings(host: Host, report: dict[str, Any]) -> list[Problem]:
    """What it has too little of, for anything or for what it is said to have."""
    label, found = host.label, []
    if not report["temporary"] or report["temporary_free"] == 0:
        text = f"{label} has no directory for temporary files that can be written to: set TMPDIR there, or make room"
        found.append(Problem("space", text, fatal=True))
    elif report["temporary_free"] is not None and report["temporary_free"] < ROOM:
        text = f"{label} has {report['temporary_free'] >> 20} MiB free in {report['temporary']}"
        found.append(Problem("space", f"{text}, where results go when memory is full: make room, or set TMPDIR there"))
    if report["shared_free"] is not None and report["shared_free"] < SHARED:
        text = (
            f"{label} has {report['shared_free'] >> 20} MiB free in /dev/shm, which NCCL and PyTorch, say, make use of"
        )
        found.append(
            Problem("space", f"{text}: make it larger (mount -o remount,size=… /dev/shm, docker run --shm-size=…)")
        )
    if report["directory"] is False:
        found.append(
            Problem("directory", f"{label} has no directory {host.directory}: make it, or name another", fatal=True)
        )
    if host.workers is not None and host.workers > report["cores"]:
        text = f"{label} is to run {host.workers} workers and has {report['cores']} cores for them: name fewer"
        found.append(Problem("cores", text))
    if host.memory is not None and host.memory > report["memory"]:
        text = f"{label} is to use {host.memory >> 20} MiB of memory and has {report['memory'] >> 20}: name less"
        found.append(Problem("memory", text))
    gpus = host.resources.get("gpu", 0)
    if gpus > len(report["accelerators"]):
        text = f"{label} is said to have {gpus:g} GPUs, and {len(report['accelerators'])} can be seen there"
        found.append(Problem("accelerators", f"{text}: is the driver installed, and nvidia-smi in PATH?"))
    return found


def _late(host: Host, skew: float, round_trip: float) -> list[Problem]:
    if abs(skew) <= SKEW + round_trip / 2:
        return []
    side = "ahead of" if skew > 0 else "behind"
    text = f"the clock of {host.label} is {abs(skew):.1f} s {side} this machine's: have both keep time (NTP)"
    return [Problem("clock", f"{text}; certificates may count as not valid yet, and traces will not fit together")]


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
