"""Which TCP sockets are listened on, and by whom; also in other network namespaces, where psutil sees none."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psutil

from machines.processes import command

LISTEN = "0A"  # the state, as the kernel's tables have it


@dataclass(frozen=True, order=True)
class Listener:
    """A listening TCP socket, and a process that holds it."""

    port: int
    address: str
    pid: int
    command: str


def listening(processes: Iterable[psutil.Process]) -> list[Listener]:
    """The TCP sockets on which these processes listen, by port; addresses are of each process's own namespace."""
    found = set()
    for process in processes:
        try:
            if sys.platform != "linux":
                sockets = process.net_connections("tcp")
                places = [(s.laddr.ip, s.laddr.port) for s in sockets if s.status == psutil.CONN_LISTEN]
            else:
                held = _sockets(process.pid)  # before the table, which has all of them then
                places = [place for number, place in _table(process.pid) if number in held]
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
        found |= {Listener(port, address, process.pid, command(process)) for address, port in places}
    return sorted(found)


def _sockets(pid: int) -> set[str]:
    """The numbers of the sockets that a process holds."""
    found = set()
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            what = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except FileNotFoundError:  # closed meanwhile
            continue
        if what.startswith("socket:["):
            found.add(what[8:-1])
    return found


def _table(pid: int) -> Iterator[tuple[str, tuple[str, int]]]:
    """What is listened on in the network namespace of a process: numbers of sockets, and addresses with ports."""
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{name}", encoding="ascii") as lines:
                rows = [line.split() for line in lines][1:]
        except FileNotFoundError:
            if name == "tcp":
                raise
            continue  # a kernel without IPv6
        for row in rows:
            if row[3] == LISTEN:
                yield row[9], _place(row[1])


def _place(text: str) -> tuple[str, int]:
    """`0100007F:0016` is 127.0.0.1 and 22: words of four bytes in the machine's order."""
    address, _, port = text.partition(":")
    words = [int(address[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, b"".join(words)), int(port, 16)
