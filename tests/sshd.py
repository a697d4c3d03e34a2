"""A real OpenSSH server on loopback, with keys of its own, for the tests of what goes over SSH."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

SERVER = shutil.which("sshd") or "/usr/sbin/sshd"
MISSING = "no ssh server here, which these tests start for themselves: apt-get install openssh-server (or the like)"


class Sshd:
    """One server. `Sshd.command` is an ssh that knows it, and nothing of the user's own configuration.

    Args:
        folder: where its files are.
        names: what hosts are called that are all this server.
        options: further lines of its configuration.
        hidden: a folder that its sessions see empty, as another machine would. Needs root.
    """

    def __init__(
        self, folder: Path, names: tuple[str, ...] = ("n1", "n2"), options: str = "", hidden: Path | None = None
    ) -> None:
        assert os.path.exists(SERVER), MISSING
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.names = names
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        (folder / "authorized").write_text((folder / "user.pub").read_text())
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            f"PermitRootLogin yes\nMaxStartups 100\n{options}"
        )
        self.know(folder / "host.pub")
        (folder / "ssh_config").write_text(
            f"Host {' '.join(names)}\n  HostName 127.0.0.1\n  Port {self.port}\n  IdentityFile {folder}/user\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n  GlobalKnownHostsFile none\n"
        )
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)  # where it gives up its rights
        command = [SERVER, "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")]
        if hidden is not None:
            hide = f'mount -t tmpfs -o size=1m none {hidden} && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", hide, "sh", *command]
        self.process = subprocess.Popen(command)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                break
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.01)

    @property
    def command(self) -> str:
        """For GRAPHRAY_SSH."""
        return f"ssh -F {self.folder}/ssh_config"

    def know(self, key: Path) -> None:
        """Have clients take this key for the server's."""
        kind, body = key.read_text().split()[:2]
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {kind} {body}\n")

    def running(self, module: str) -> list[psutil.Process]:
        """The processes of graphray's that run in its sessions: those of "ssh.agent", or "ssh.node"."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                connection = process.environ().get("SSH_CONNECTION", "")
                if connection.endswith(f" {self.port}") and module in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def close(self) -> None:
        """End it, and what still goes on in its sessions."""
        if self.process.returncode is not None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
