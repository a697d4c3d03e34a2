"""A machine: a network namespace with an SSH server in it, and with a host name, TMPDIR and /dev/shm of its own."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from machines.client import Client
from machines.iproute import ip
from machines.listeners import Listener, listening
from machines.processes import kill_all
from machines.proxy import PIPE
from machines.sshd import Sshd
from machines.sweep import processes_in, remove_namespace

# In a mount and a UTS namespace of its own, whose mounts go with its last process.
BOOT = """
set -e
echo "$1" > /proc/sys/kernel/hostname
mount --bind "$2" /etc/hosts
mount -t tmpfs -o "$4,mode=1777" tmpfs "$3"
mount -t tmpfs -o "$5,mode=1777" tmpfs /dev/shm
shift 5
exec "$@"
"""


class Machine:
    """One machine of a network; `Network.add` makes it. All else of the file system is the driver's.

    `disturbed` says whether it was cut, killed, frozen or isolated since the network was last mended.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        folder: Path,
        namespace: str,
        switch: str,
        hosts: Path,
        tmp: str | None = None,
        shm: str | None = None,
        options: Sequence[str] = (),
        forwarding: bool = True,
        noise: bytes = b"",
    ) -> None:
        self.name = name
        self.address = address
        self.namespace = namespace
        self.switch = switch
        self.tmp = folder / "tmp"
        self.disturbed = False
        size = [f"size={size}" if size else "size=50%" for size in (tmp, shm)]
        boot = ["ip", "netns", "exec", namespace, "unshare", "--uts", "sh", "-c", BOOT, "boot"]
        self.tmp.mkdir(parents=True)
        self.sshd = Sshd(
            folder / "sshd",
            names=[name],
            address=address,
            port=22,
            env={"TMPDIR": str(self.tmp)},
            options=options,
            forwarding=forwarding,
            noise=noise,
            within=[*boot, name, str(hosts), str(self.tmp), *size],
        )

    def __repr__(self) -> str:
        return f"<machine {self.name} at {self.address}>"

    # ---- what may happen to it

    def cut(self) -> None:
        """Pull its cable: nothing goes to it or comes from it, and nobody is told."""
        self.disturbed = True
        ip("-n", self.switch, "link", "set", self.name, "down")

    def join(self) -> None:
        """Put the cable back."""
        ip("-n", self.switch, "link", "set", self.name, "up")

    def isolate(self) -> None:
        """Let it reach the driver only: two isolated machines do not see each other."""
        self.disturbed = True
        ip("-n", self.switch, "link", "set", self.name, "type", "bridge_slave", "isolated", "on")

    def unite(self) -> None:
        """End the isolation."""
        ip("-n", self.switch, "link", "set", self.name, "type", "bridge_slave", "isolated", "off")

    def freeze(self) -> None:
        """Stop every process there: connections are accepted and stay, and nobody answers."""
        self.disturbed = True
        stopped: set[int] = set()
        while fresh := [p for p in self.processes(server=True) if p.pid not in stopped]:  # some are just being made
            _signal(fresh, signal.SIGSTOP)
            stopped |= {p.pid for p in fresh}

    def thaw(self) -> None:
        """Have them go on."""
        _signal(self.processes(server=True), signal.SIGCONT)

    def kill(self) -> None:
        """Kill every process there; its files in TMPDIR and /dev/shm go too. The kernel still closes its connections:
        cut it first, and it is as if the power had gone.
        """
        self.disturbed = True
        kill_all(lambda: self.processes(server=True))
        self.sshd.kill()

    def boot(self) -> None:
        """Start its server again, after `kill`; its keys are the same."""
        self.sshd.start()

    def remove(self) -> None:
        """End it for good."""
        try:
            kill_all(lambda: self.processes(server=True))
        finally:
            self.sshd.close()
            remove_namespace(self.namespace)

    # ---- what is there

    @property
    def running(self) -> bool:
        """Whether its server is."""
        return self.sshd.process is not None and self.sshd.process.poll() is None

    def processes(self, *, server: bool = False) -> list[psutil.Process]:
        """Every process there, apart from the server that listens, unless that is wanted too."""
        own = self.sshd.process.pid if self.sshd.process else None
        return [p for p in processes_in(self.namespace) if server or p.pid != own]

    def listening(self) -> list[Listener]:
        """Every TCP socket on which something listens there, that of its SSH server included."""
        return listening(self.processes(server=True))

    def files(self) -> list[Path]:
        """What lies in its TMPDIR and its /dev/shm, as paths that can be read from here."""
        if not self.running:
            return []
        assert self.sshd.process is not None
        root = Path(f"/proc/{self.sshd.process.pid}/root")
        return sorted(p for folder in (self.tmp, Path("/dev/shm")) for p in (root / folder.relative_to("/")).iterdir())

    def bastion(self) -> Client:
        """A client that gets there without the network, so that nothing but its SSH connection leads there once the
        machine is cut: as when all others have to go through a bastion.
        """
        inside = ["ip", "netns", "exec", self.namespace, sys.executable, str(PIPE), self.address, "22"]
        return self.sshd.make_client(command=shlex.join(inside))

    def python(self, code: str, *arguments: str, timeout: float = 30) -> str:
        """What a program prints there, run over SSH with the driver's interpreter; raises if it fails."""
        done = self.sshd.client.run(self.name, sys.executable, "-c", code, *arguments, timeout=timeout)
        if done.returncode:
            raise RuntimeError(f"on {self.name}: exit status {done.returncode}\n{done.stderr}")
        return done.stdout


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
