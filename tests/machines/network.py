"""A network of machines: namespaces on a bridge, and the driver, this process, with an address on it as well.

The bridge is in a namespace of its own, so that the driver's firewall rules for bridges (Docker makes some) do not
apply to it, and so that all but one link goes with the namespaces. Addresses are of 198.18.0.0/15, which RFC 2544
keeps for tests.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from machines.client import Client, Server, write_client
from machines.iproute import check_possible, ip
from machines.machine import Machine
from machines.processes import command
from machines.sshd import check_installed
from machines.sweep import remove_namespace

PATIENCE = 2.0  # seconds that a thing may take to go: what the project promises for processes


class Network:
    """Machines m1, m2, …; `network["m1"]`, or `m1, m2, m3 = network`.

    `client` is an ssh that knows them by these names, and so do they know each other. `black_hole` is an address on
    the network that takes everything and never answers; the driver's is `driver`.

    Args:
        folder: where its files are; namespaces are called after its last two parts.
        count: how many machines it has at first.
    """

    def __init__(self, folder: Path, count: int = 3) -> None:
        check_installed()
        check_possible()
        folder.mkdir()
        self.folder = folder
        self.name = f"{folder.parent.name}-{folder.name}"
        self.switch = f"{self.name}-switch"
        self.link = f"gr{secrets.token_hex(5)}"  # the driver's; names of links are at most 15 characters long
        self.machines: dict[str, Machine] = {}
        self._numbers = iter(range(1, 250))
        self._hosts = folder / "hosts"
        self._reserved, self.subnet = reserve_subnet()
        self.driver = f"{self.subnet}.254"
        self.black_hole = f"{self.subnet}.253"
        try:
            self._connect_driver()
            self._name_machines()
            for _ in range(count):
                self.add()
        except BaseException:
            self.close()
            raise

    def _connect_driver(self) -> None:
        ip("netns", "add", self.switch)
        ip("link", "add", self.link, "type", "veth", "peer", "name", "driver", "netns", self.switch)
        ip(
            "-n",
            self.switch,
            batch="link set lo up\nlink add br0 type bridge\nlink set br0 up\n"
            "link set driver master br0\nlink set driver up\n",
        )
        ip(batch=f"addr add {self.driver}/24 dev {self.link}\nlink set {self.link} up\n{self._hole(self.link)}")

    def _hole(self, link: str) -> str:
        """Its hardware address is known, so packets leave, and no one has it."""
        return f"neigh add {self.black_hole} lladdr 02:00:00:00:00:fd dev {link} nud permanent\n"

    def add(self, **options: Any) -> Machine:
        """A further machine.

        Args:
            options: `tmp` and `shm`, sizes of its TMPDIR and /dev/shm such as "4M"; and its server's `forwarding`,
                `noise` and `options`.
        """
        number = next(self._numbers)
        name, address = f"m{number}", f"{self.subnet}.{number}"
        namespace = f"{self.name}-{name}"
        ip("netns", "add", namespace)
        try:
            ip(
                "-n",
                self.switch,
                batch=f"link add {name} type veth peer name eth0 netns {namespace}\n"
                f"link set {name} master br0\nlink set {name} up\n",
            )
            ip(
                "-n",
                namespace,
                batch=f"link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n{self._hole('eth0')}"
                f"route add default via {self.driver}\n",  # which forwards nothing, but programs look for one
            )
            machine = Machine(
                name,
                address,
                folder=self.folder / name,
                namespace=namespace,
                switch=self.switch,
                hosts=self._hosts,
                **options,
            )
        except BaseException:
            remove_namespace(namespace)
            raise
        self.machines[name] = machine
        self._name_machines()
        return machine

    def remove(self, machine: Machine) -> None:
        """End a machine and forget it."""
        machine.remove()
        del self.machines[machine.name]
        self._name_machines()

    @contextmanager
    def extra(self, **options: Any) -> Iterator[Machine]:
        """A further machine for a while; options as for `add`."""
        machine = self.add(**options)
        try:
            yield machine
        finally:
            self.remove(machine)

    def _name_machines(self) -> None:
        """Write down where they are: for the machines themselves, and for ssh."""
        lines = ["127.0.0.1 localhost", f"{self.driver} driver", *(f"{m.address} {m.name}" for m in self)]
        self._hosts.write_text("".join(line + "\n" for line in lines), "utf-8")  # in place: it is mounted
        servers = {m.name: Server(m.address, 22, m.sshd.host_key, m.sshd.user_key) for m in self}
        self.client: Client = write_client(self.folder / "client", servers)

    def __iter__(self) -> Iterator[Machine]:
        return iter(list(self.machines.values()))

    def __len__(self) -> int:
        return len(self.machines)

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def mend(self) -> list[str]:
        """Have all machines as they were at first, and say what was left on those that nothing was done to.

        Processes there have a moment to end. On a machine that was disturbed, nobody can tell when they should.
        """
        left = []
        for machine in self:
            machine.unite()
            machine.join()
            machine.thaw()
            if machine.running and not machine.disturbed:
                found = _left_on(machine)
                left += [f"{machine.name}: {text}" for text in found]
                if not found:
                    continue
            machine.kill()
            machine.boot()
            machine.disturbed = False
        return left

    def close(self) -> None:
        """Remove all of it."""
        with ExitStack() as stack:
            stack.callback(self._reserved.close)
            stack.callback(remove_namespace, self.switch)
            for machine in self:
                stack.callback(self.remove, machine)

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _left_on(machine: Machine) -> list[str]:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [f"{p.pid} {command(p)}" for p in machine.processes()] + [str(p) for p in machine.files()]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def reserve_subnet() -> tuple[socket.socket, str]:
    """The first three numbers of a /24 that no other run has, and a socket to hold while it is used.

    The name of the socket is what is reserved: nobody else gets it while it is open, however this process ends.
    """
    taken = ip("-4", "-o", "addr", "show")
    numbers = list(range(512))
    secrets.SystemRandom().shuffle(numbers)
    for number in numbers:
        subnet = f"198.{18 + number // 256}.{number % 256}"
        reserved = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            reserved.bind(f"\0graphray-testbed-{subnet}")
        except OSError:  # another run's
            reserved.close()
            continue
        if f" {subnet}." not in taken:
            return reserved, subnet
        reserved.close()
    raise OSError("each subnet of 198.18.0.0/15 is taken: see `ip addr`")
