"""Dask: runs graphs on a Dask cluster that exists.

    dispatching thread                         loop thread (Dask's)                        cluster
    core ── start_unit: letter, inputs ──▶  client.submit(run_unit, …, workers=[home])  ══▶  seat
         ◀──── news: ("done", unit, answer) ──  _follow(unit)                            ◀══
         ◀──── news: joined, gone, begun, printed …  handlers of two topics of events    ◀══

A unit is one Dask task, for a worker that the core has chosen: where its largest input is, if that is free. What Dask
does: it moves the inputs, keeps and spills the results, and watches over the workers. When results are lost with a
worker, the core makes them again from what is left (`rebuild`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import sys
import time
import uuid

from graphray.errors import HostError
from graphray.executors.base import Executor
from graphray.executors.carried import Luggage
from graphray.executors.core import (
    Core,
    Job,
    JobClosed,
    MachineFound,
    UnitDone,
    UnitRecalled,
    WorkerJoined,
    WorkerLost,
    WorkersExpected,
)
from graphray.executors.dask.homes import GRACE, PATIENCE, Home, Place, end_process, leave, unfit
from graphray.executors.dask.loop import Loop
from graphray.executors.dask.remote import Remote
from graphray.executors.dask.values import Values, is_lost, locate
from graphray.executors.mail import Mail
from graphray.executors.process import signal_name
from graphray.executors.protocol import ValuesLost
from graphray.executors.wire import dumps, loads, unpack_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from graphray.executors.carried import Module
    from graphray.executors.core import Unit
    from graphray.executors.run import BaseRun

CONNECTING = 10.0  # seconds that a scheduler has to answer
BEHIND = 0.005  # seconds after which an answer that was quicker than what the unit said is looked at again
GREETING = 30.0  # seconds that a worker has to say what it is
SHOWN = 1 << 18  # characters of what its tasks print after which a worker is told that they are shown
BETWEEN = 0.2  # seconds between the end of a worker and the news of it
RETURN = 15.0  # seconds that a nanny has to start a worker again, before what only that could do is refused


class Dask(Executor):
    """Runs graphs on a Dask cluster that exists: on Kubernetes, Slurm, in a cloud, or on this machine.

    graphray has to be installed on the workers, in the same version, with the same Python. Each thread of a worker runs
    one unit at a time. What the cluster's workers print themselves stays in their logs.

    Args:
        cluster: the scheduler's address ("tls://…", "tcp://…"), a `distributed.Client`, or a cluster of Dask's
            (`LocalCluster`, `KubeCluster`, `SLURMCluster`, …), which stay open when this executor is closed.

    Raises:
        ImportError: Dask is not installed here.
        TypeError: `cluster` is none of these.
    """

    name = "dask"
    shares_memory = False
    has_store = True
    fits = False  # whether a process can be had that sees certain accelerators

    def __init__(self, cluster: Any) -> None:
        super().__init__()
        _import_distributed()
        if not (
            isinstance(cluster, str) or hasattr(cluster, "scheduler_info") or hasattr(cluster, "scheduler_address")
        ):
            raise TypeError(f"Dask(…) takes a scheduler's address, a Client or a cluster, not {type(cluster).__name__}")
        self._cluster = cluster
        self._core = Core(ahead=True, fits=self.fits, gangs=True)
        self._core.locate = locate
        self._mail = Mail(self)
        self._luggage = Luggage()
        self._topic = uuid.uuid4().hex[:12]
        self._values = Values(f"graphray-{self._topic}")
        self._client: Any = None
        self._own_client = False
        self._loop_thread: Loop | None = None
        self._homes: dict[str, Home] = {}
        self._places: dict[str, Place] = {}
        self._units: dict[int, Unit] = {}
        self._futures: dict[int, Any] = {}
        self._deadlines: dict[int, tuple[float, bool]] = {}  # by unit: when its worker is ended, and whether it is late
        self._heard: dict[int, int] = {}  # by unit: messages of it that have come
        self._under_way: dict[int, tuple[Sequence[int], Sequence[str]]] = {}  # tasks and modules on their way, by unit
        self._refusals: dict[str, BaseException] = {}
        self._returning: dict[str, Home] = {}  # by name: those that are gone, and that their nannies start again

    @property
    def workers(self) -> int:  # type: ignore[override]
        """How many units run at the same time, now."""
        return len(self._places) or 1

    # ---- the cluster

    def start(self) -> list[str]:
        """Connect, and greet the workers that are there; each joins when it has answered."""
        from distributed import Client

        from graphray.executors.dask import parcel

        parcel.register()
        if hasattr(self._cluster, "scheduler_info") and hasattr(self._cluster, "submit"):
            self._client = self._cluster
        else:
            self._client = self._connect(Client)
            self._own_client = True
        client = self._values.client = self._client
        client.subscribe_topic("all", self._on_cluster)
        client.subscribe_topic(self._topic, self._on_message)
        for address, info in client.scheduler_info(n_workers=-1)["workers"].items():
            self._say(("appeared", address, info))
        return []

    def _connect(self, client: Any) -> Any:
        try:
            return client(self._cluster, set_as_default=False, timeout=CONNECTING, loop=self._start_loop())
        except (OSError, TimeoutError) as error:
            text = f"the scheduler {self._cluster} does not answer: {error}"
            raise HostError(text) from error

    def _start_loop(self) -> Any:
        self._loop_thread = Loop()
        return self._loop_thread.io

    def _say(self, message: Any) -> None:
        """Have the dispatching thread hear something; from any thread."""
        self._news.put(message)

    def _say_later(self, seconds: float, message: Any) -> None:
        """The same after a while."""
        loop = self._client.loop
        loop.add_callback(loop.call_later, seconds, self._say, message)  # a loop may be called from its own thread only

    def _on_cluster(self, event: Any) -> None:
        _, message = event
        action = message.get("action") if isinstance(message, dict) else None
        if action == "add-worker":
            self._say(("appeared", message["worker"], None))
        elif action == "remove-worker":
            self._say(("gone", message["worker"], bool(message.get("expected"))))

    def _on_message(self, event: Any) -> None:
        self._say(("said", event[1]))

    async def _greet(self, home: Home) -> None:
        """Have a worker make its seats."""
        from graphray.executors.dask import seat

        try:
            answers = await asyncio.wait_for(
                self._client._run(
                    seat.greet,
                    {p.seat: p.name for p in home.places},
                    self._topic,
                    self._client.id,
                    list(sys.path),
                    workers=[home.address],
                ),
                GREETING,
            )
            self._say(("greeted", home, answers[home.address]))
        except TimeoutError:
            self._say(("refused", home, HostError(f"it has not answered for {GREETING:.0f} s")))
        except Exception as error:
            self._say(("refused", home, error))

    def stop(self, wait: bool) -> None:
        """Leave the cluster; what still runs there of ours is ended."""
        client, self._client = self._client, None
        self._values.client = None
        if client is not None:
            self._leave_cluster(client)
        self._stop_loop()

    def _stop_loop(self) -> None:
        loop, self._loop_thread = self._loop_thread, None
        if loop is not None:
            loop.stop()

    def _leave_cluster(self, client: Any) -> None:
        with contextlib.suppress(Exception):
            futures = list(self._futures.values())
            if futures:
                client.cancel(futures, force=True, asynchronous=False)
        busy = {self._places[w].home: (self._places[w], u) for w, u in self._core.units.items() if w in self._places}
        with contextlib.suppress(Exception):
            client.sync(leave, client, list(self._homes.values()), busy)
        for topic in ("all", self._topic):
            with contextlib.suppress(Exception):
                client.unsubscribe_topic(topic)
        self._futures.clear()
        self._units.clear()
        if self._own_client:
            with contextlib.suppress(Exception):
                client.close(timeout=PATIENCE)

    def _end_unit(self, place: Place, unit: Unit, late: bool) -> None:
        """End a worker's process if it is still at a unit; its nanny, if it has one, makes another."""
        place.home.late, place.home.ended = late, not late
        self._client.loop.add_callback(end_process, self._client, place, unit.id)

    def abandon(self, job: Job) -> None:
        """End the workers that still run tasks of an interrupted run."""
        self._say(("abandoned", job))

    # ---- units out

    def start_unit(self, unit: Unit) -> None:
        """Submit a unit as a task of the cluster."""
        place = self._places.get(unit.worker)
        if place is None:  # it has gone meanwhile, which the core is about to be told
            return
        self._units[unit.id] = unit
        try:
            hold = functools.partial(self._values.hold, unit.job)
            letter = self._mail.letter(unit, place.book, hold, functools.partial(self._values.travelling, unit))
            inputs: list[Remote] = []
            Remote.letter = inputs
            try:
                frames = [bytes(f) for f in dumps(letter)]
            finally:
                Remote.letter = None
        except Exception as error:
            del self._units[unit.id]
            self.post(self._mail.refused(unit, error))
            return
        self._mail.sent(unit, place.book, letter)
        # It may never run, and the next one not know: others bring them too, until somebody has answered.
        new = [i for i, _ in letter.new_tasks]
        place.book.known.difference_update(new)
        modules = self._luggage.missing(place.home.modules)
        self._under_way[unit.id] = new, [m[0] for m in modules]
        self._submit(unit, place, frames, inputs, modules)

    def _submit(
        self, unit: Unit, place: Place, frames: Sequence[bytes], inputs: list[Remote], modules: Sequence[Module]
    ) -> None:
        from graphray.executors.dask import seat

        future = self._client.submit(
            seat.run_unit,
            place.seat,
            frames,
            [r.future for r in inputs],
            modules,
            key=f"graphray-{self._topic}-unit-{unit.id}",
            workers=[place.home.address],
            pure=False,
            retries=0,
        )
        self._futures[unit.id] = future
        self._client.loop.add_callback(self._follow, unit, future, inputs)

    async def _follow(self, unit: Unit, future: Any, inputs: list[Remote]) -> None:
        """Wait for a unit's answer."""
        try:
            answer, sent = await future
            self._say(("answered", unit, loads([answer.frames[0], *map(bytearray, answer.frames[1:])]), sent))
        except (Exception, asyncio.CancelledError) as error:
            lost = await self._values.find_lost(inputs)
            self._say(("unanswered", unit, error, lost))

    def recall_unit(self, unit: Unit, cancelled: bool) -> None:
        """Ask for what a worker has not begun."""
        place = self._places.get(unit.worker)
        if place is None:
            return
        if cancelled:  # a task may see that it is, and end
            self._deadlines[unit.id] = time.monotonic() + GRACE, False
        self._client.loop.add_callback(self._recall, unit, place, cancelled)

    async def _recall(self, unit: Unit, place: Place, cancelled: bool) -> None:
        from graphray.executors.dask import seat

        try:
            address = place.home.address
            answers = await self._client._run(seat.recall, place.seat, unit.id, cancelled, workers=[address])
            self._say(("recalled", unit, answers[address]))
        except Exception:  # it is gone, which we are told otherwise
            pass

    def meeting_place(self, unit: Unit) -> str:
        """An address on the machine of a gang's first worker, at which nobody listens yet."""
        from distributed import comm

        from graphray.executors.membership import free_address

        home = self._places[unit.worker].home
        host = comm.get_address_host(home.address)  # type: ignore[attr-defined]
        run = self._client.run(free_address, host, workers=[home.address])
        return str(run[home.address])

    # ---- values

    def load(self, value: Any) -> Any:
        """A value, fetched if it is elsewhere."""
        return self.load_all({None: value})[None]

    def load_all(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """Values, those that are elsewhere fetched, all at once."""
        return self._values.fetch(values)

    def _end(self, run: BaseRun, error: BaseException | None) -> None:
        super()._end(run, error)
        self._values.end_job(run.job)

    # ---- news in

    def next_events(self, timeout: float | None) -> list[Any]:
        """What the cluster says, and what other threads post."""
        soon = self._end_late()
        if soon is not None:
            timeout = soon if timeout is None else min(soon, timeout)
        events: list[Any] = []
        try:
            message = self._news.get(timeout=timeout)
            while True:
                if type(message) is tuple:
                    event = getattr(self, "_hear_" + message[0])(*message[1:])
                    if event is not None:
                        events.append(event)
                else:
                    events.append(message)
                message = self._news.get_nowait()
        except queue.Empty:
            return events

    def _hear_appeared(self, address: str, info: Mapping[str, Any] | None) -> None:
        if address in self._homes:
            return
        if info is None:
            info = self._client.scheduler_info(n_workers=-1)["workers"].get(address)
            if info is None:  # it is gone again
                return
        home = self._homes[address] = Home(address, info)
        names = [home.name if home.threads == 1 else f"{home.name}#{i}" for i in range(home.threads)]
        taken = {p.name for h in self._homes.values() for p in h.places}
        names = [n if n not in taken else f"{n}@{address}" for n in names]
        home.places = [Place(n, f"{self._topic}:{n}", home, self._mail.book()) for n in names]
        self._returning.pop(home.name, None)
        self._announce(home, home.threads)
        self._expect_workers()
        self._client.loop.add_callback(self._greet, home)

    def _hear_greeted(self, home: Home, found: Mapping[str, Any]) -> None:
        if self._homes.get(home.address) is not home:
            return
        problem = unfit(found)
        if problem:
            self._hear_refused(home, HostError(problem))
            return
        for place in home.places:
            self._places[place.name] = place
            self._core.seats[place.name] = home.address
            self.joined(place.name, found["pid"])
            self.post(self._joins(place))

    def _joins(self, place: Place) -> WorkerJoined:
        """What the core is told of a worker: each counts as a machine, with what it was started with."""
        return WorkerJoined(place.name, place.home.name, place.home.resources)

    def _expect_workers(self) -> None:
        """How many there will be, if all that have appeared can be used."""
        homes = [h for address, h in self._homes.items() if address not in self._refusals]
        self.post(WorkersExpected(max(1, sum([len(h.places) for h in (*homes, *self._returning.values())]))))

    def _announce(self, home: Home, workers: int) -> None:
        """Say what there is before it joins: what no worker can do is refused the sooner."""
        self.post(MachineFound(home.name, home.resources, workers))

    def _hear_refused(self, home: Home, error: BaseException) -> None:
        """A worker cannot be used; if none can, the runs fail."""
        if self._homes.get(home.address) is not home:
            return
        self._refusals[home.address] = error
        self._announce(home, 0)
        self._expect_workers()
        if not self._places and set(self._homes) <= set(self._refusals):
            text = f"no worker of the cluster can be used; {home.name} ({home.address}): {error}"
            failure = HostError(text)
            for job in list(self._runs):
                self.post(JobClosed(job, failure))

    def _hear_gone(self, address: str, for_good: bool) -> None:
        home = self._homes.pop(address, None)
        refused = self._refusals.pop(address, None)
        if home is None:
            return
        if home.nanny and not for_good and refused is None:
            self._returning[home.name] = home
            self._say_later(RETURN, ("missed", home))
        else:
            self._announce(home, 0)
        code, memory = self._how_it_ended(home)
        for place in home.places:
            if self._places.pop(place.name, None) is None:
                continue
            self._core.seats.pop(place.name, None)
            unit = self._core.units.get(place.name)
            for held in (unit, self._core.queued.get(place.name)):
                if held is not None:
                    self._forget_unit(held)
            if unit is not None and (place.unit != unit.id or home.ended or self._blameless(home)):
                unit = None
            late = home.late and unit is not None
            self.post(WorkerLost(place.name, code, signal_name(code), unit, None, "", memory, late))
        self._expect_workers()
        self._client.loop.add_callback(self._look_for_lost)

    def _hear_missed(self, home: Home) -> None:
        """A worker that was to be started again has not come."""
        if self._returning.get(home.name) is home:
            del self._returning[home.name]
            self._announce(home, 0)
            self._expect_workers()

    def _how_it_ended(self, home: Home) -> tuple[int | None, int | None]:
        """The exit code of a worker's process and the most memory that it has had, where that is known."""
        return None, None

    def _blameless(self, home: Home) -> bool:
        """Whether it ended for reasons that have nothing to do with what it ran."""
        return False

    async def _look_for_lost(self) -> None:
        """A worker is gone: which values went with it?"""
        lost = await self._values.find_lost(self._values.known(list(self._runs)))
        if lost:
            self._say(("lost", lost))

    def _hear_lost(self, lost: list[Remote]) -> ValuesLost:
        for r in lost:
            r.lost = True
        return ValuesLost(is_lost)

    def _hear_answered(self, unit: Unit, message: Any, sent: int, waited: float = 0.0) -> UnitDone | None:
        place = self._places.get(unit.worker)
        if self._units.get(unit.id) is not unit or place is None:
            return None
        if self._heard.get(unit.id, 0) < sent and waited < PATIENCE:  # what it said has another way, and comes first
            self._say_later(BEHIND, ("answered", unit, message, sent, waited + BEHIND))
            return None
        if message[0] == "unseated":
            self._say_later(BETWEEN, ("unseated", unit))  # what there is to hear of its worker's end comes first
            return None
        new, modules = self._under_way.pop(unit.id, ((), ()))
        if message[0] == "done":
            place.book.known.update(new)
            place.home.modules.update(modules)
        self._forget_unit(unit)
        if message[0] == "broken":
            place.book.tables.pop(unit.id, None)
            return self._mail.broken(unit, unpack_error(message[2]))
        if message[0] == "void":
            place.book.tables.pop(unit.id, None)
            return UnitDone(unit.worker, unit, {}, unit.nodes)
        return self._mail.done(unit, place.book, message[2], functools.partial(self._values.adopt, place.home.address))

    def _hear_unanswered(self, unit: Unit, error: BaseException, lost: list[Remote]) -> UnitDone | None:
        """A unit's task ended without an answer: it was cancelled, its worker died, or its inputs are lost."""
        if lost:
            self._say(("lost", lost))
        place = self._places.get(unit.worker)
        if self._units.get(unit.id) is not unit or place is None:
            return None
        if not lost and not isinstance(error, asyncio.CancelledError) and not _of_dask(error):
            self._forget_unit(unit)
            place.book.tables.pop(unit.id, None)
            return self._mail.broken(unit, error)
        if lost:
            self._say(("returned", unit))
        else:
            self._say_later(BETWEEN, ("returned", unit))  # its worker's end comes first, if it died
        return None

    def _hear_unseated(self, unit: Unit) -> None:
        """Another process is where a unit's worker was, and we were not told: it is greeted as a new one."""
        place = self._places.get(unit.worker)
        if self._units.get(unit.id) is unit and place is not None:
            self._say(("gone", place.home.address, False))
            self._say(("appeared", place.home.address, None))

    def _hear_returned(self, unit: Unit) -> UnitDone | None:
        place = self._places.get(unit.worker)
        if self._units.get(unit.id) is not unit or place is None:
            return None
        self._forget_unit(unit)
        place.book.tables.pop(unit.id, None)
        return UnitDone(unit.worker, unit, {}, unit.nodes)

    def _hear_recalled(self, unit: Unit, found: Any) -> UnitRecalled | None:
        place = self._places.get(unit.worker)
        if self._units.get(unit.id) is not unit or place is None or found is True:
            return None
        if found is None:  # it is not begun, and will not be
            future = self._futures.get(unit.id)
            self._forget_unit(unit)
            place.book.tables.pop(unit.id, None)
            if future is not None:
                self._client.loop.add_callback(quietly, self._client._cancel, [future])
            return UnitRecalled(unit, unit.nodes)
        return UnitRecalled(unit, [place.book.tables[unit.id][i] for i in found])

    def _hear_said(self, message: Any) -> None:
        kind, name, number, *words = message
        unit = self._units.get(number)
        if unit is not None:
            self._heard[number] = self._heard.get(number, 0) + 1
        if kind == "begun":
            place = self._places.get(name)
            if place is not None:
                place.unit = number
            if unit is not None and unit.nodes[0]._task.alone and unit.id not in self._deadlines:
                timeout = unit.nodes[0]._task._options["timeout"]
                if timeout is not None:
                    self._deadlines[unit.id] = time.monotonic() + timeout, True
        elif kind == "printed":
            self.printed(unit.job if unit is not None else None, name, *words)
            self._tell_shown(name, len(words[2]))
        elif kind == "emit" and unit is not None:
            try:
                data = loads(words[1])
            except Exception as error:
                data = {"unreadable": repr(error)}
            self.emitted(unit.job, name, words[0], data)

    def _tell_shown(self, name: str, size: int) -> None:
        """What a worker's tasks print is shown: now and then that is told to it, which waits for that."""
        from graphray.executors.dask import seat

        place = self._places.get(name)
        if place is None:
            return
        place.shown += size
        if place.shown >= SHOWN:
            shown, place.shown = place.shown, 0
            only = [place.home.address]
            self._client.loop.add_callback(quietly, self._client._run, seat.shown, place.seat, shown, workers=only)

    def _hear_abandoned(self, job: Job) -> None:
        for unit in self._core.units.values():
            place = self._places.get(unit.worker)
            if unit.job is job and place is not None:
                self._end_unit(place, unit, False)

    def _forget_unit(self, unit: Unit) -> None:
        self._units.pop(unit.id, None)
        self._futures.pop(unit.id, None)
        self._deadlines.pop(unit.id, None)
        self._heard.pop(unit.id, None)
        self._under_way.pop(unit.id, None)

    def _end_late(self) -> float | None:
        """End the workers whose time is up; in how many seconds the next one's is."""
        soon: float | None = None
        now = time.monotonic()
        for number, (at, late) in list(self._deadlines.items()):
            if at > now:
                soon = min(at - now, soon if soon is not None else at - now)
                continue
            del self._deadlines[number]
            unit = self._units.get(number)
            place = self._places.get(unit.worker) if unit is not None else None
            if place is None or unit is None:
                continue
            if place.unit != number:  # a cancelled one that is not begun
                continue
            self._end_unit(place, unit, late)
        return soon


async def quietly(do: Any, *args: Any, **options: Any) -> None:
    """Do something that may be too late."""
    with contextlib.suppress(Exception):
        await do(*args, **options)


def _of_dask(error: BaseException) -> bool:
    """Whether it says something about the cluster, not about the unit."""
    return type(error).__module__.startswith("distributed")


def _import_distributed() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError("executors on clusters need Dask: pip install 'graphray[cluster]'") from error
