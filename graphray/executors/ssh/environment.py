"""Environments on hosts that match this one: the same Python, graphray as it is here, packages in the same versions."""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from graphray.errors import HostError
from graphray.executors.ssh import packages
from graphray.executors.ssh.hosts import Host, parse_hosts
from graphray.executors.ssh.openssh import printable
from graphray.executors.ssh.parallel import each
from graphray.executors.ssh.program import Program
from graphray.executors.ssh.wheel import wheel

CHUNK = 1 << 20  # bytes of a file in a message
TRIED = ("graphray", "cloudpickle", "numpy", "jax", "distributed")  # modules that are imported, where there are such


@dataclass(frozen=True)
class SetupReport:
    """What became of a host.

    Attributes:
        host: the host, whose option `python` is the environment's if it has one now.
        made: it was made, and not there already.
        error: why it has none.
        seconds: that it took.
    """

    host: Host
    made: bool
    error: HostError | None
    seconds: float


def setup(
    hosts: Any,
    *,
    directory: str | None = None,
    wheels: str | os.PathLike[str] | None = None,
    also: Iterable[str] = (),
    timeout: float = 1800.0,
    on_step: Callable[[Host, str], None] | None = None,
    **for_all: Any,
) -> list[SetupReport]:
    """Make an environment on each host, all at once; one that is there already is left as it is.

    It is a virtual environment of a Python of this version, the host's own option `python` or the one in its PATH, with
    the packages that graphray needs in the versions that they have here, and with the graphray that is running. What it
    is called follows from what is in it. If it is interrupted, nothing there looks finished.

    Args:
        hosts: see `parse_hosts`.
        directory: where it goes on the hosts; by default ~/.local/share/graphray/environments.
        wheels: a directory here with wheels, for hosts without a package index: they are sent, and no other is used.
        also: names of further packages of this environment, which come with what they need.
        timeout: seconds for each host.
        on_step: called with a host and what is done there next, from other threads.
        for_all: options for all hosts.

    Raises:
        ValueError: these are no hosts, or there are no wheels.
        LookupError: a further package is not installed here.
        HostError: there is no ssh on this machine. Errors of single hosts are in their reports.
    """
    listed = parse_hosts(hosts, **for_all)
    if directory is not None:
        directory = Host("any", directory=directory).directory
    order = _Order(directory, [] if wheels is None else _wheels(wheels), wheels is not None, also)
    return each(listed, lambda host, keep: _set_up(host, keep, order, timeout, on_step or _quiet))


def _quiet(host: Host, step: str) -> None:
    pass


class _Order:
    """What is to be there, and the files for it."""

    def __init__(self, directory: str | None, wheels: list[str], offline: bool, also: Iterable[str]) -> None:
        pins = packages.needed(also)
        self._name, self._graphray = wheel()
        self._wheels = wheels
        contents = {
            "packages": [f"{name}=={version}" for name, version in pins.items()],
            "graphray": hashlib.sha256(self._graphray).hexdigest(),
        }
        self.header = {
            "contents": contents,
            "digest": hashlib.sha256(json.dumps(contents).encode()).hexdigest(),
            "directory": directory,
            "modules": [name for name in TRIED if name in pins or name == "graphray"],
            "offline": offline,
            "wheel": self._name,
        }

    def files(self) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """Names, sizes and contents of what is sent."""
        view = self._graphray
        yield self._name, len(view), (view[i : i + CHUNK] for i in range(0, len(view), CHUNK))
        for path in self._wheels:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                yield os.path.basename(path), size, iter(lambda file=file: file.read(CHUNK), b"")  # type: ignore[misc]


def _wheels(directory: str | os.PathLike[str]) -> list[str]:
    names = sorted(name for name in os.listdir(directory) if name.endswith(".whl") and not name.startswith("graphray-"))
    if not names:
        raise ValueError(
            f"there are no wheels (*.whl) in {os.fspath(directory)}; pip download or pip wheel puts some there"
        )
    return [os.path.join(directory, name) for name in names]


def _set_up(
    host: Host,
    keep: Callable[[Program], Program],
    order: _Order,
    timeout: float,
    on_step: Callable[[Host, str], None],
) -> SetupReport:
    begin = time.monotonic()
    try:
        on_step(host, "connecting")
        with _base(host, keep, min(60.0, timeout), json.dumps(order.header).encode()) as program:
            found = _follow(program, order, begin + timeout, on_step)
    except HostError as error:
        if error.reason == "no-ssh":
            raise
        return SetupReport(host, False, error, time.monotonic() - begin)
    return SetupReport(replace(host, python=found["python"]), found["made"], None, time.monotonic() - begin)


def _base(host: Host, keep: Callable[[Program], Program], timeout: float, header: bytes) -> Program:
    """A running `install.py`, on the first Python of the right version that there is."""
    source = pkgutil.get_data("graphray.executors.ssh", "install.py")
    assert source is not None
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    names = [host.python] if host.python is not None else [f"python{version}", host.interpreter, "python3"]
    tried = []
    for name in dict.fromkeys(names):
        program = keep(Program(replace(host, python=name)))
        try:
            program.start(source.decode(), header, name="graphray setup", timeout=timeout)
            return program
        except BaseException as error:
            program.close(0)
            if not isinstance(error, HostError) or error.reason not in ("no-python", "python-version"):
                raise
            tried.append(_what(name, program))
    text = (
        f"{host.label} has no Python {version} ({'; '.join(tried)}). Install one (Debian, Ubuntu: apt-get install "
        f"python{version} python{version}-venv; without root: uv python install {version}), or name it with the option "
        f"python, such as {host.label}?python=/opt/python{version}/bin/python3"
    )
    raise HostError(text, host=host, reason="no-python")


def _what(name: str, program: Program) -> str:
    """What an interpreter is that is not the right one."""
    if program.hello:
        return f"{name} is Python {'.'.join(map(str, program.hello['version']))}"
    said = program.said.strip().splitlines()
    return said[-1] if said and name in said[-1] else f"{name} does not start" + (f": {said[-1]}" if said else "")


def _follow(program: Program, order: _Order, deadline: float, on_step: Callable[[Host, str], None]) -> dict[str, Any]:
    """Send what is asked for until it is done."""
    while True:
        message = _message(program, deadline)
        if "step" in message:
            on_step(program.host, str(message["step"]))
        elif "want" in message:
            for name, size, chunks in order.files():
                program.send(json.dumps({"name": name, "size": size}).encode())
                for chunk in chunks:
                    program.send(chunk)
                    _message(program, deadline)
            program.send(b"null")
        elif "error" in message:
            text = f"{program.host.label}: {printable(str(message['error']))}"
            raise HostError(text, host=program.host, reason="setup")
        else:
            return message


def _message(program: Program, deadline: float) -> dict[str, Any]:
    message = json.loads(program.receive(max(0.1, deadline - time.monotonic())))
    if not isinstance(message, dict):
        raise HostError(f"{program.host.label} has answered with nonsense", host=program.host)
    return message
