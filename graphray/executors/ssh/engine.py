"""SSH: runs graphs on machines that it joins over SSH, for as long as the driver lives."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import queue
import re
import socket
import sys
import threading
import time

from graphray.errors import HostError
from graphray.executors import threads
from graphray.executors.core import JobClosed, MachineFound, WorkerJoined, WorkerLeaves, WorkersExpected
from graphray.executors.dask.engine import Dask, quietly
from graphray.executors.ssh.hosts import Host, parse_hosts
from graphray.executors.ssh.link import Link
from graphray.executors.ssh.walls import Walls
from graphray.executors.supply import given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from graphray.executors.carried import Module
    from graphray.executors.core import Unit
    from graphray.executors.dask.homes import Home, Place
    from graphray.executors.dask.remote import Remote

HELLO = 30.0  # seconds that a node has to say that it is there
SHOWN = 1 << 18  # characters of its output after which a node is told that they are shown
STUCK = 5.0  # seconds that a unit's inputs may take before it is tried whether its node can still reach the others
LOOK = 2.0  # seconds between looks for such
REACH = 10.0  # seconds that a connection from here to a worker may take
EXIT = 2.0  # seconds to wait for the agent's word on how a worker ended


class Node:
    """A machine that was joined, or is about to be."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.name = host.label
        self.resources: dict[str, Any] = {}
        self.link: Link | None = None
        self.about: Mapping[str, Any] = {}
        self.shown = 0  # characters of its output, since it was last told
        self.exits: dict[str, tuple[int, int, bool]] = {}  # of its workers: code, memory, whether it had been ready
        self.heard: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()  # until it has joined
        self.lock = threading.Lock()  # of these two
        self.joined = False
        self.gone = False
        self.count = 0  # of workers that it was told to start
        self.fitted: dict[str, tuple[int, tuple[str, ...]]] = {}  # workers in the places of others, and what they see
        self.waiting: list[tuple[Home, Mapping[str, Any]]] = []  # greeted workers, while the ways to others are tried


class SSH(Dask):
    """Runs graphs on machines joined over SSH: those listed, no others.

    Each is reached with the system's `ssh`, by the user's own configuration, keys and known hosts, and needs graphray
    and Dask for the same version of Python (`graphray nodes setup` installs them). Everything ends when this executor
    is closed, or its process ends, however that happens.

    Args:
        hosts: a text such as "alice@a,b:2222", a file, the name of a cluster, or a list: see `ssh.parse_hosts`. Own
            options of a host, `Host(…)` or "a?workers=4", go before these here.
        workers: worker processes per machine; one per core by default.
        threads_per_task: threads of BLAS, OpenMP and XLA in each worker, 1 by default.
        python: the interpreter there; by default the path of the one here.
        memory: bytes that the workers of a machine may use together, or a text such as "64GB", before Dask spills
            results; by default what the machine has.
        env: environment variables of the workers.
        resources: what each machine has for tasks with `resources=`, such as `{"gpu": 2, "licence": 1}`; its
            accelerators and memory are found where nothing is said of them.
        directory: the working directory of the workers.
        listen: the address of this machine at which they reach its scheduler; by default all of them. With "127.0.0.1",
            or where it cannot be reached from there, a node does so through its SSH connection.

    Raises:
        ImportError: Dask is not installed here.
        ValueError: these are no hosts, or an option makes no sense.
        HostError: at the first run: a machine cannot be joined; nothing is left running on the others.
    """

    name = "ssh"
    fits = True  # the processes are ours: one can take another's place

    def __init__(
        self,
        hosts: Any,
        *,
        workers: int | None = None,
        threads_per_task: int | None = None,
        python: str | None = None,
        memory: int | str | None = None,
        env: Mapping[str, str] | None = None,
        resources: Mapping[str, Any] | None = None,
        directory: str | None = None,
        listen: str | None = None,
    ) -> None:
        super().__init__("")
        self._for_all = {
            "workers": workers,
            "threads": threads_per_task,
            "python": python,
            "memory": memory,
            "env": env,
            "resources": given(resources) or None,
            "directory": directory,
        }
        self.threads_per_task = threads_per_task or 1
        self._nodes = [Node(h) for h in parse_hosts(hosts, **self._for_all)]
        self._listen = listen
        self._walls = Walls()
        self._look_again = 0.0
        self._scheduler: Any = None
        self._authority: Any = None
        self._undo = contextlib.ExitStack()

    # ---- joining

    def start(self) -> list[str]:
        """Join the machines; their workers join one by one."""
        try:
            self._start_scheduler()
            for node in self._nodes:
                self._connect_to(node)
            for node in self._nodes:
                self._admit(node)
            for node in self._nodes:
                self._take_in(node)
            return super().start()
        except BaseException:
            self.stop(wait=False)
            raise

    def _start_scheduler(self) -> None:
        from distributed.utils import sync

        from graphray.executors.ssh.certificates import Authority, RunSecurity
        from graphray.executors.ssh.quiet import QuietScheduler, configure, silenced

        if self._listen is not None:
            _check_own(self._listen)
        self._authority = Authority()
        loop = self._io = self._start_loop()
        security = RunSecurity(self._authority.credentials("driver"))

        self._undo.enter_context(silenced())

        async def make() -> Any:
            with configure():
                host = _bracketed(self._listen) if self._listen else None
                return await QuietScheduler(protocol="tls", host=host, security=security, port=0, dashboard=False)

        self._scheduler = sync(loop, make)
        self._security = security

    def _connect(self, client: Any) -> Any:
        from graphray.executors.ssh.quiet import configure

        with configure():
            return client(
                self._scheduler.address,
                security=self._security,
                set_as_default=False,
                direct_to_workers=True,
                loop=self._io,
            )

    @property
    def _port(self) -> int:
        return int(self._scheduler.address.rpartition(":")[2])

    def _connect_to(self, node: Node, forwards: Sequence[tuple[str, str]] = ()) -> None:
        node.link = Link(node.host, functools.partial(self._hear_node, node), forwards)

    def _admit(self, node: Node) -> None:
        """See that a node can take part, and tell it to start its workers.

        Raises:
            HostError: it cannot.
        """
        deadline = time.monotonic() + HELLO
        node.about = self._expect(node, "hello", deadline)
        problem = _unfit(node.about)
        if problem:
            raise HostError(f"{node.name}: {problem}", host=node.host, reason="packages")
        there, here = _addresses(node.about)
        if self._listen is not None:
            here = [self._listen]
        assert node.link is not None
        node.link.send("probe", addresses=here, port=self._port)
        address, port = self._expect(node, "reached", deadline)["address"], self._port
        if address is None:
            address, port = self._forward(node)
        node.count = count = int(node.host.workers or node.about["cores"])
        node.link.send(
            "start",
            count=count,
            name=node.name,
            directory=node.host.directory,
            environment=_environment(node.host),
            resources=dict(node.host.resources),
            worker={
                "scheduler": f"tls://{_bracketed(address)}:{port}",
                "host": there,
                "credentials": list(self._authority.credentials(node.name)),
                "memory": node.host.memory // count if node.host.memory else "auto",
                "path": [os.path.abspath(p or ".") for p in sys.path],
            },
        )

    def _take_in(self, node: Node) -> None:
        """Wait until a node that was told to start its workers has begun to; from then on it is one of us.

        Raises:
            HostError: it cannot.
        """
        found = self._expect(node, "has", time.monotonic() + HELLO)["resources"]
        node.resources = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
        self.post(MachineFound(node.name, node.resources, node.count))
        with node.lock:
            node.joined = True
            while not node.heard.empty():
                self._take(node, *node.heard.get())
        self._expect_workers()

    def _forward(self, node: Node) -> tuple[str, int]:
        """Connect anew, with a way back to the scheduler through the connection; its address and port on the node."""
        assert node.link is not None
        node.link.close()
        node.heard = queue.SimpleQueue()
        own = self._listen or "127.0.0.1"
        self._connect_to(node, [("R", f"127.0.0.1:0:{_bracketed(own)}:{self._port}")])
        self._expect(node, "hello", time.monotonic() + HELLO)
        found = re.search(r"Allocated port (\d+) for remote forward", node.link.said)
        if found is None:
            text = f"{node.name} cannot reach this machine, and its ssh server does not say which port it forwards"
            raise HostError(text, host=node.host, reason="forwarding-refused")
        return "127.0.0.1", int(found[1])

    # ---- coming and going

    def add(self, host: Any) -> None:
        """Join another machine; during a run, too. What holds for all hosts holds for it.

        Raises:
            ValueError: that is not one host.
            HostError: it cannot be joined, or is there already.
        """
        (found,) = parse_hosts([host], **self._for_all)
        if any(n.name == found.label and not n.gone for n in self._nodes):
            raise HostError(f"{found} has joined already", host=found)
        node = Node(found)
        if self._client is not None:
            try:
                self._connect_to(node)
                self._admit(node)
                self._take_in(node)
            except BaseException:
                if node.link is not None:
                    node.link.close()
                raise
        self._nodes = [*[n for n in self._nodes if n.name != node.name], node]

    def remove(self, host: Any, timeout: float = 60.0) -> None:
        """Let a machine go: what runs there may end within `timeout` seconds, and its results move to others.

        Raises:
            HostError: it is not there, or it is the last one.
        """
        (found,) = parse_hosts([host], **self._for_all)
        node = next((n for n in self._nodes if n.name == found.label and not n.gone), None)
        if node is None or node.link is None:
            raise HostError(f"{found} has not joined", host=found)
        if all(n is node or n.gone for n in self._nodes):
            raise HostError(f"{found} is the last machine; close the executor instead", host=found)
        homes = [h for h in list(self._homes.values()) if self._node_of(h) is node]
        names = [p.name for h in homes for p in h.places]
        for name in names:
            self.post(WorkerLeaves(name))
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not self._core.units.keys().isdisjoint(names):
            time.sleep(0.02)
        with contextlib.suppress(Exception):  # what has not moved by then is made again
            self._client.sync(self._clear, homes, callback_timeout=max(1.0, deadline - time.monotonic()))
        node.link.close()

    async def _clear(self, homes: Sequence[Home]) -> None:
        """Move the results of workers to others."""
        leaving = [h.address for h in homes]
        node = self._node_of(homes[0]) if homes else None
        if node is not None and self._walls.around(node.name):
            known = self._values.known(list(self._runs))
            stays = next(address for address in list(self._homes) if address not in leaving)
            await self._values.move(known, stays, lambda address: address not in leaving)
        await self._client.scheduler.retire_workers(workers=leaving, close_workers=False)

    def _expect(self, node: Node, kind: str, deadline: float) -> dict[str, Any]:
        while True:
            try:
                said, content = node.heard.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise HostError(
                    f"{node.name} did not answer within {HELLO:.0f} s", host=node.host, reason="timeout"
                ) from None
            if said == kind:
                return content
            if said == "ended":
                raise content["error"]
            if said == "lacks":
                text = f"{node.host.interpreter} on {node.name} has no {content['module']}; graphray nodes setup "
                raise HostError(f"{text}{node.name} makes an environment that has", host=node.host, reason="packages")
            if said == "failed":
                raise HostError(f"{node.name}: {content['text']}", host=node.host)

    # ---- what nodes say

    def _hear_node(self, node: Node, kind: str, content: dict[str, Any]) -> None:
        """In a thread of the link's."""
        with node.lock:
            if not node.joined:
                node.heard.put((kind, content))
            else:
                self._take(node, kind, content)

    def _take(self, node: Node, kind: str, content: dict[str, Any]) -> None:
        if kind == "output":
            self._say(("wrote", node, content["worker"], content["stream"], content["text"]))
        elif kind == "exited":
            node.exits[content["worker"]] = content["code"], content["memory"], content["ready"]
            if not content["again"]:
                self._say(("fewer", node))
        elif kind == "tried":
            self._say(("tried", node, content["node"], content["open"]))
        elif kind == "refitted":
            node.fitted[content["worker"]] = content["place"], tuple(content["accelerators"])
        elif kind == "ended":
            self._say(("node_gone", node, content["error"]))
        elif kind == "failed":
            self._say(("node_gone", node, HostError(f"{node.name}: {content['text']}", host=node.host)))

    def _hear_wrote(self, node: Node, worker: str, stream: str, text: str) -> None:
        self.printed(None, worker, "", stream, text)
        node.shown += len(text)
        if node.shown >= SHOWN and node.link is not None:
            shown, node.shown = node.shown, 0
            node.link.send("shown", size=shown)

    def _hear_fewer(self, node: Node) -> None:
        """One of its workers would not start, again and again, and is not tried any more."""
        node.count -= 1
        if not node.gone:
            self.post(MachineFound(node.name, node.resources, node.count))
            self._expect_workers()

    def _hear_node_gone(self, node: Node, error: HostError) -> None:
        """A connection has ended: its workers are gone, or will be soon."""
        if node.gone or self._client is None:
            return
        node.gone = True
        self._walls.leave(node.name)
        self._let_in()
        self.post(MachineFound(node.name, node.resources, 0))
        self._expect_workers()
        for home in list(self._homes.values()):
            if self._node_of(home) is node:
                self._client.loop.add_callback(self._remove_worker, home.address)
        if all(n.gone for n in self._nodes):
            for job in list(self._runs):
                self.post(JobClosed(job, error))

    async def _remove_worker(self, address: str) -> None:
        with contextlib.suppress(Exception):
            await self._scheduler.remove_worker(address, stimulus_id="graphray-node-gone")

    def _node_of(self, home: Home) -> Node | None:
        host = home.name.rpartition("/")[0]
        return next((n for n in self._nodes if n.name == host), None)

    async def _greet(self, home: Home) -> None:
        """See that results can come from there, first."""
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(*_door(home.address)), REACH)
            writer.close()
        except (OSError, TimeoutError) as error:
            why = getattr(error, "strerror", None) or f"no answer for {REACH:.0f} s"
            text = f"this machine cannot connect to its workers at {home.address} ({why}): their ports have to be open"
            self._say(("refused", home, HostError(text)))
            return
        await super()._greet(home)

    def _hear_greeted(self, home: Home, found: Mapping[str, Any]) -> None:
        """A worker is ready; it joins once it is known which other nodes it can exchange results with."""
        node = self._node_of(home)
        if node is None or node.link is None or node.gone:
            return
        node.link.send("ready", worker=home.name)
        for start, end, door in self._walls.enter(node.name, _door(home.address)):
            link = next((n.link for n in self._nodes if n.name == start and not n.gone), None)
            if link is not None:
                link.send("try", node=end, address=door[0], port=door[1])
            else:
                self._walls.tried(start, end, False)
        node.waiting.append((home, found))
        self._let_in()

    def _hear_tried(self, node: Node, other: str, open: bool) -> None:
        if self._walls.tried(node.name, other, open):
            for unit in self._waiting_for_inputs(0.0):
                future = self._futures.get(unit.id)
                if future is not None and self._node_of(self._places[unit.worker].home) is node:
                    self._client.loop.add_callback(quietly, self._client._cancel, [future])  # it comes back, and anew
        self._let_in()

    def _end_late(self) -> float | None:
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + LOOK
            stuck = {self._node_of(self._places[u.worker].home) for u in self._waiting_for_inputs(STUCK)}
            for node in stuck:
                if node is not None and node.link is not None:
                    for end, door in self._walls.ways_from(node.name):
                        node.link.send("try", node=end, address=door[0], port=door[1])
        return super()._end_late()

    def _waiting_for_inputs(self, seconds: float) -> list[Unit]:
        """Units that have not begun for so long, though their workers have nothing else to do."""
        since = time.perf_counter() - seconds
        return [
            unit
            for worker, unit in self._core.units.items()
            if unit.started < since and worker in self._places and self._places[worker].unit != unit.id
        ]

    def _let_in(self) -> None:
        for node in self._nodes:
            if node.waiting and not self._walls.unknown(node.name):
                waiting, node.waiting = node.waiting, []
                for home, found in waiting:
                    super()._hear_greeted(home, found)

    def _submit(
        self, unit: Unit, place: Place, frames: Sequence[bytes], inputs: list[Remote], modules: Sequence[Module]
    ) -> None:
        def submit(inputs: list[Remote]) -> None:
            super(SSH, self)._submit(unit, place, frames, inputs, modules)

        node = self._node_of(place.home)
        if inputs and node is not None and self._walls.around(node.name):
            self._client.loop.add_callback(self._bring, node, unit, place, inputs, submit)
        else:
            submit(inputs)

    async def _bring(
        self, node: Node, unit: Unit, place: Place, inputs: list[Remote], submit: Callable[[list[Remote]], None]
    ) -> None:
        """Have what a unit needs and its worker cannot fetch go through this process first."""
        with contextlib.suppress(Exception):  # one is lost, which is found when the unit is to run
            reach = functools.partial(self._reaches, node)
            inputs = await self._values.within_reach(inputs, place.home.address, reach)
        self._say(("brought", unit, place, inputs, submit))

    def _hear_brought(
        self, unit: Unit, place: Place, inputs: list[Remote], submit: Callable[[list[Remote]], None]
    ) -> None:
        if self._units.get(unit.id) is unit and self._places.get(unit.worker) is place:  # it is still wanted there
            submit(inputs)

    def _reaches(self, node: Node, address: str) -> bool:
        """Whether the workers of a node can connect to one."""
        home = self._homes.get(address)
        other = self._node_of(home) if home is not None else None
        return other is not None and not self._walls.bar(node.name, other.name)

    def meeting_place(self, unit: Unit) -> str:
        """An address on the machine of a gang's first worker, which the others can reach."""
        assert unit.grant is not None
        members = [self._node_of(self._places[m.worker].home) for m in unit.grant.party.members]
        names = [node.name for node in members if node is not None]
        for name in names:
            if self._walls.bar(name, names[0]):
                raise OSError(f"a gang cannot meet: {name} cannot connect to {names[0]}")
        return super().meeting_place(unit)

    def _joins(self, place: Place) -> WorkerJoined:
        """What the core is told of a worker: on which machine it is, and in whose place."""
        node = self._node_of(place.home)
        assert node is not None
        number, accelerators = node.fitted.pop(place.home.name, (None, ()))
        return WorkerJoined(place.name, node.name, node.resources, accelerators, number)

    def _expect_workers(self) -> None:
        self.post(WorkersExpected(max(1, sum([n.count for n in self._nodes if n.joined and not n.gone]))))

    def refit_worker(self, worker: str, accelerators: tuple[str, ...], fresh: bool, place: int) -> None:
        """Have the agent start another process in the place of an idle one, whose results move before it ends."""
        seat = self._places.pop(worker, None)
        node = self._node_of(seat.home) if seat is not None else None
        if seat is None or node is None or node.link is None:  # it has just died, which the core is about to be told
            return
        self._core.seats.pop(worker, None)
        seat.home.places.remove(seat)
        node.link.send("refit", worker=seat.home.name, accelerators=list(accelerators), place=place)
        self._client.loop.add_callback(quietly, self._retire, seat.home.address)

    async def _retire(self, address: str) -> None:
        await self._scheduler.retire_workers(workers=[address], close_workers=True, stimulus_id="graphray-refit")

    def _announce(self, home: Home, workers: int) -> None:
        """Not of one worker: of all of a machine's, once it says what it has."""

    def _hear_gone(self, address: str, for_good: bool, waited: float = 0.0) -> None:
        """A worker is gone; how it ended, its agent says."""
        home = self._homes.get(address)
        node = self._node_of(home) if home is not None else None
        if home is not None and node is not None and not node.gone and home.name not in node.exits and waited < EXIT:
            self._say_later(0.02, ("gone", address, for_good, waited + 0.02))
            return
        super()._hear_gone(address, for_good)

    def _how_it_ended(self, home: Home) -> tuple[int | None, int | None]:
        node = self._node_of(home)
        found = node.exits.pop(home.name, None) if node is not None else None
        return (found[0], found[1]) if found is not None else (None, None)

    def _blameless(self, home: Home) -> bool:
        node = self._node_of(home)
        return node is None or node.gone

    # ---- the end

    def _stop_loop(self) -> None:
        """Not yet: the scheduler is in there."""

    def stop(self, wait: bool) -> None:
        """End all that runs on the nodes, and the connections."""
        super().stop(wait)
        closing = [threading.Thread(target=n.link.close, daemon=True) for n in self._nodes if n.link is not None]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        if self._scheduler is not None:
            from distributed.utils import sync

            with contextlib.suppress(Exception):
                sync(self._io, self._scheduler.close, callback_timeout=5)
            self._scheduler = None
        self._undo.close()
        super()._stop_loop()


def _environment(host: Host) -> dict[str, str]:
    variables = dict.fromkeys(threads.VARIABLES, str(host.threads or 1))
    return {**variables, "PYTHONSAFEPATH": "1", **host.env}


def _unfit(about: Mapping[str, Any]) -> str:
    from importlib.metadata import version

    for package, theirs in about["versions"].items():
        if theirs != version(package):
            return f"it has {package} {theirs}, and here is {version(package)}: they have to be the same"
    return ""


def _addresses(about: Mapping[str, Any]) -> tuple[str, list[str]]:
    """A node's own address, as it is reached from here; and those of this machine that it may reach."""
    from distributed import utils

    get_ip: Any = utils.get_ip
    words = about["connection"].split()
    here = [words[0]] if len(words) == 4 else []
    there = words[2] if len(words) == 4 else ""
    with contextlib.suppress(Exception):
        here.append(get_ip())
    return there, list(dict.fromkeys(here))


def _check_own(address: str) -> None:
    """See that this machine can listen at an address.

    Raises:
        HostError: it cannot.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(place)
    except OSError as error:
        why = error.strerror or error
        raise HostError(f"listen={address!r} is no address at which this machine can listen: {why}") from None


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _door(address: str) -> tuple[str, int]:
    """Host and port of a worker's address."""
    from distributed import comm

    parse: Any = comm.get_address_host_port  # type: ignore[attr-defined]
    host, port = parse(address)
    return str(host), int(port)
