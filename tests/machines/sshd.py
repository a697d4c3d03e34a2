"""A real OpenSSH server with keys of its own; nothing of the system's service or the user's files is touched."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import psutil

from machines.client import Client, Server, quoted, write_client
from machines.keys import key_pair, public
from machines.processes import kill_all, marked, tree
from machines.proxy import Proxy

PATIENCE = 10.0  # seconds that a server may take to listen


class Sshd:
    """A server that lets this user in with the key `user` in its folder.

    Args:
        folder: where its files are; it marks its processes.
        names: what a client may call it: several hosts that are all this server.
        address: where it listens.
        port: and on which port; None takes a free one.
        env: variables of its sessions; HOME is a folder of its own, unless it is said here.
        forwarding: whether connections may be forwarded.
        noise: what a login prints before the command runs, on both streams, as a careless .bashrc does.
        banner: what is shown before authentication.
        options: further lines of its configuration, which go before the others and so win.
        within: the command that starts it elsewhere, such as in a namespace.
    """

    def __init__(
        self,
        folder: Path,
        *,
        names: Sequence[str] = ("server",),
        address: str = "127.0.0.1",
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        forwarding: bool = True,
        noise: bytes = b"",
        banner: str = "",
        options: Sequence[str] = (),
        within: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, mode=0o700)
        self.folder = folder
        self.names = tuple(names)
        self.address = address
        self.within = tuple(within)
        self.mark = f"{folder}/"  # sshd1 is not sshd10
        self.process: subprocess.Popen[bytes] | None = None
        self._port = port
        key_pair(folder / "host")
        key_pair(folder / "user")
        (folder / "authorized_keys").write_text(public(folder / "user") + "\n", "utf-8")
        (folder / "home").mkdir()
        variables = {"HOME": str(folder / "home"), "GRAPHRAY_TESTBED": self.mark, **(env or {})}
        self._lines = [
            *options,
            f"ListenAddress {address}",
            f"HostKey {quoted(folder / 'host')}",
            f"PidFile {quoted(folder / 'pid')}",
            f"AuthorizedKeysFile {quoted(folder / 'authorized_keys')}",
            "StrictModes no",  # the folder may be below a directory that others can write to
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "PermitUserEnvironment no",
            "PermitUserRC no",
            "PrintMotd no",
            "UseDNS no",
            "MaxStartups 100",
            f"AllowTcpForwarding {'yes' if forwarding else 'no'}",
            "SetEnv " + " ".join(f'"{k}={v}"' for k, v in variables.items()),
        ]
        if penalises():
            self._lines.append("PerSourcePenalties no")  # all of the driver's mistakes come from one address
        if banner:
            (folder / "banner").write_text(banner, "utf-8")
            self._lines.append(f"Banner {quoted(folder / 'banner')}")
        if noise:
            (folder / "noise").write_bytes(noise)
            noisy = shlex.quote(str(folder / "noise"))
            self._lines.append(f'ForceCommand cat {noisy}; cat {noisy} >&2; eval "$SSH_ORIGINAL_COMMAND"')
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Have it listen, for the first time or again."""
        if self.process is not None and self.process.poll() is None:
            raise RuntimeError(f"the server on {self.address}:{self.port} runs already")
        check_installed()
        for _ in range(5):
            self.port = self._port or free_port(self.address)
            config = self.folder / "sshd_config"
            config.write_text("".join(f"{line}\n" for line in [f"Port {self.port}", *self._lines]), "utf-8")
            server = [binary("sshd"), "-D", "-f", str(config), "-E", str(self.folder / "log")]
            with open(self.folder / "log", "ab") as log:  # what goes wrong before it has opened that itself
                self.process = subprocess.Popen(
                    [*self.within, *server], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
                )
            if self._listens():
                self._port = self.port  # it comes back where its clients look for it
                return
            self.process.wait()
            self.process = None
            if self._port or "Address already in use" not in self.log():
                break
        raise OSError(f"sshd does not listen on {self.address}:{self.port}; its log says:\n{self.log()}")

    def _listens(self) -> bool:
        """Wait until it does, or has ended. It writes its pid once it listens."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            if self._pid() == self.process.pid:
                return True
            if time.monotonic() > deadline:
                self.process.kill()
            time.sleep(0.002)
        return False

    def _pid(self) -> int | None:
        try:
            return int((self.folder / "pid").read_text("utf-8"))
        except (FileNotFoundError, ValueError):  # not yet, or half written
            return None

    def log(self) -> str:
        """What it has to say."""
        path = self.folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else "(nothing)"

    @property
    def user_key(self) -> Path:
        """The private key that is let in."""
        return self.folder / "user"

    @property
    def host_key(self) -> str:
        """The public key that it is known by."""
        return public(self.folder / "host")

    @functools.cached_property
    def client(self) -> Client:
        """A client that it lets in and that knows it."""
        return self.make_client()

    def make_client(
        self,
        *,
        known: Literal["yes", "no", "otherwise"] = "yes",
        refused: bool = False,
        port: int | None = None,
        via: Proxy | None = None,
        command: str = "",
        options: Sequence[str] = (),
    ) -> Client:
        """A client of one's own.

        Args:
            known: whether the host's key is known to it, or another key is known for this host.
            refused: whether it has a key that is not let in.
            port: where it looks for the server instead.
            via: a proxy that leads to the server, on the way to it.
            command: a ProxyCommand on the way to it.
            options: further lines for all hosts.
        """
        folder = Path(tempfile.mkdtemp(prefix="client-", dir=self.folder))
        key = self.host_key if known == "yes" else ""
        if known == "otherwise":
            key = public(key_pair(folder / "other_host"))
        identity = key_pair(folder / "other_user") if refused else self.user_key
        port = via.port if via else port or self.port
        own = (f"ProxyCommand {command}",) if command else ()
        address = "127.0.0.1" if via else self.address
        servers = {alias: Server(address, port, key, identity, own) for alias in self.names}
        return write_client(folder, servers, options)

    def processes(self) -> list[psutil.Process]:
        """What runs in its sessions, and the processes that serve them; not itself."""
        return [p for p in marked(self.mark) if self.process is None or p.pid != self.process.pid]

    def kill(self) -> None:
        """Kill it and all that its sessions have started."""
        below = tree(self.process.pid) if self.process else []
        kill_all(lambda: [*below, *marked(self.mark)])
        if self.process:
            self.process.wait(PATIENCE)
            self.process = None

    def close(self) -> None:
        """End it, with its sessions, and remove its files."""
        if self.folder.exists():
            self.kill()
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Sshd:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def binary(name: str) -> str:
    """Where a program is. Servers are often not on the path of users, and sshd must be called by its full path."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin") or f"/usr/sbin/{name}"


@functools.cache
def check_installed() -> None:
    """Say what is missing for a server, and what to do."""
    missing = [name for name in ("sshd", "ssh", "ssh-keygen") if not os.access(binary(name), os.X_OK)]
    if missing:
        raise FileNotFoundError(
            f"tests over SSH need {', '.join(missing)}, which are not on this machine; on Debian or Ubuntu: "
            "apt-get install openssh-server openssh-client (no service needs to run)"
        )
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where it gives up its rights
        locked = re.search(r"^root:!", Path("/etc/shadow").read_text("utf-8"), re.MULTILINE)
        if locked:  # it would refuse every key, and say so in its log only
            raise PermissionError("sshd lets nobody in as root, whose password is locked by `!`: usermod -p '*' root")


@functools.cache
def penalises() -> bool:
    """Whether this OpenSSH, from 9.8 on, makes those wait who failed before."""
    said = subprocess.run([binary("ssh"), "-V"], capture_output=True, text=True, timeout=30).stderr
    version = re.match(r"OpenSSH_(\d+)\.(\d+)", said)
    return version is not None and (int(version[1]), int(version[2])) >= (9, 8)


def free_port(address: str) -> int:
    """One that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
