"""What an ssh client is told: a file for `ssh -F`, so that nothing of the user's own configuration or keys is used."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Server:
    """Where a server is, by which key it is known, and how to log in."""

    address: str
    port: int
    key: str
    identity: Path  # the private key to log in with
    options: tuple[str, ...] = ()  # further lines for its host


@dataclass(frozen=True)
class Client:
    """An ssh with this configuration."""

    config: Path

    @property
    def command(self) -> str:
        """For a shell, and for GRAPHRAY_SSH."""
        return shlex.join(["ssh", "-F", str(self.config)])

    def argv(self, host: str, *argv: str) -> list[str]:
        """The command that runs a program on a host."""
        return ["ssh", "-F", str(self.config), host, shlex.join(argv)]

    def run(self, host: str, *argv: str, timeout: float = 30, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program on a host, to its end."""
        options = {"stdin": subprocess.DEVNULL} | options if "input" not in options else options
        return subprocess.run(self.argv(host, *argv), capture_output=True, text=True, timeout=timeout, **options)

    def start(self, host: str, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a program on a host, with pipes to its standard streams; of text, unless `text=False`."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(self.argv(host, *argv), **{"text": True, **pipes, **options})


def write_client(folder: Path, servers: Mapping[str, Server], options: Sequence[str] = ()) -> Client:
    """A client in `folder` for servers by the names that it has for them; one without a host key is not known to it."""
    folder.mkdir(parents=True, exist_ok=True)
    known, lines = [], []
    for name, server in servers.items():
        lines += [f"Host {name}", f"  HostName {server.address}", f"  Port {server.port}"]
        lines.append(f"  IdentityFile {quoted(server.identity)}")
        lines += [f"  {option}" for option in server.options]
        if server.key:
            place = server.address if server.port == 22 else f"[{server.address}]:{server.port}"
            known.append(f"{name},{place} {server.key}")
    lines += [
        "Host *",
        f"  User {getpass.getuser()}",
        "  IdentitiesOnly yes",
        "  IdentityAgent none",
        f"  UserKnownHostsFile {quoted(folder / 'known_hosts')}",
        "  GlobalKnownHostsFile none",
        "  StrictHostKeyChecking yes",
        "  UpdateHostKeys no",
        "  BatchMode yes",
        "  ControlPath none",
        *(f"  {option}" for option in options),
    ]
    write(folder / "known_hosts", known)
    write(folder / "ssh_config", lines)
    return Client(folder / "ssh_config")


def write(path: Path, lines: list[str]) -> None:
    """Put a file there in one go: an ssh that starts meanwhile reads the old one or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text("".join(line + "\n" for line in lines), "utf-8")
    os.replace(new, path)


def quoted(path: Path | str) -> str:
    """A path as the configuration of ssh and sshd takes it: spaces are quoted, and % is no token."""
    return '"' + str(path).replace("%", "%%") + '"'
