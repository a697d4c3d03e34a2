"""Values that are with the workers of a cluster: sent there, kept, fetched, and looked for when one is gone."""

from __future__ import annotations

from itertools import count

from graphray.errors import Failure, WorkerDied
from graphray.executors.dask.parcel import Parcel
from graphray.executors.dask.remote import Remote
from graphray.executors.holding import Holding
from graphray.executors.store.segments import LEAST
from graphray.executors.wire import Failed
from graphray.graph.containers import ATOMS, freeze, instances, rewrite, weight
from graphray.graph.sources import VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
    from typing import Any

    from graphray.executors.core import Job, Unit
    from graphray.graph.node import Node

ON_THE_WAY = 64 << 20  # bytes of values that are in this process at a time on their way between two workers


class Values:
    """What an engine has on its cluster.

    Args:
        prefix: of the keys that these have there.

    Attributes:
        client: Dask's, once there is one.
    """

    def __init__(self, prefix: str) -> None:
        self.client: Any = None
        self._prefix = prefix
        self._numbers = count(1)  # asked for in two threads
        self._holding = Holding()

    # ---- there

    def hold(self, job: Job, node: Node, x: Any) -> Any:
        """What travels in place of an argument of a node: a large one is sent once, however often it is used."""
        if weight(x) < LEAST:
            return x
        return self._holding.hold(job, node, x, self._put, lambda held: not held.lost)

    def end_job(self, job: Job) -> None:
        """A run is over: what several of its nodes shared is kept by those only."""
        self._holding.end_job(job)

    def travelling(self, unit: Unit, node: Node, value: Any) -> Any:
        """What is sent in place of a value from outside."""
        kind = type(value)
        if kind in ATOMS or kind is Remote:
            return value
        if kind is Failure:
            return Failed()
        if node._task is VALUE:
            return rewrite(value, lambda x: x if type(x) is Remote else self.hold(unit.job, node, x))
        put = rewrite(value, lambda x: x if type(x) is Remote or weight(x) < LEAST else self._put(x))
        if put is not value:  # from here on the books have that: it is sent once
            unit.inputs[node] = put
            if node in unit.job.values:
                unit.job.values[node] = put
        return put

    def _put(self, value: Any) -> Remote:
        """Have a value of the driver's own on a worker of the cluster, from where it goes to others."""
        parcel = Parcel.of(freeze(value))
        key = f"{self._prefix}-driver-{next(self._numbers)}"
        return Remote(self.client.scatter({key: parcel}, hash=False)[key], parcel.nbytes, "")

    async def move(self, remotes: Iterable[Remote], address: str, stay: Callable[[str], bool]) -> None:
        """Have values on a worker too, by way of this process, if no other has them that is to stay."""
        for some, parcels in self._in_parts(await self._not_at(remotes, stay)):
            data = {r.future.key: parcel for r, parcel in zip(some, await parcels, strict=True)}
            await self.client._scatter(data, workers=[address], hash=False)

    async def within_reach(self, remotes: list[Remote], address: str, reach: Callable[[str], bool]) -> list[Remote]:
        """Values for a worker, with copies there in place of those that it cannot fetch.

        The copies have keys of their own: Dask may be about to fetch the originals, and goes on with that.

        Args:
            remotes: the values.
            address: the worker's.
            reach: whether it can connect to the one at an address, as it can to itself.
        """
        away = await self._not_at(remotes, reach)
        missing = [r for r in away if address not in r.copies or r.copies[address].lost]
        for some, parcels in self._in_parts(missing):
            for r, parcel in zip(some, await parcels, strict=True):
                key = f"{self._prefix}-copy-{next(self._numbers)}"
                found = await self.client._scatter({key: parcel}, workers=[address], hash=False)
                r.copies[address] = Remote(found[key], r.nbytes, address)
        keys = {r.future.key: r.copies[address] for r in away}
        return [keys.get(r.future.key, r) for r in remotes]

    async def _not_at(self, remotes: Iterable[Remote], there: Callable[[str], bool]) -> list[Remote]:
        """Those of some values that none of these workers has, and others have."""
        found = {r.future.key: r for r in remotes}
        held = await self.client.scheduler.who_has(keys=list(found))
        return [r for key, r in found.items() if held.get(key) and not any(map(there, held[key]))]

    def _in_parts(self, remotes: list[Remote]) -> Iterator[tuple[list[Remote], Awaitable[list[Parcel]]]]:
        """Values and what they are, as many at a time as this process should have on their way between two workers."""
        while remotes:
            some: list[Remote] = []
            size = 0
            while remotes and (not some or size + remotes[-1].nbytes <= ON_THE_WAY):
                some.append(remotes.pop())
                size += some[-1].nbytes
            yield some, self.client._gather([r.future for r in some])

    # ---- back

    def adopt(self, home: str, value: Any) -> Any:
        """A value as it came from a worker, or its handle if it stayed there."""
        from graphray.executors.dask.seat import Placed

        kind = type(value)
        if kind in ATOMS:
            return value
        if kind is Placed:
            from distributed import Future

            in_memory: Any = "memory"
            return Remote(Future(value.key, self.client, state=in_memory), value.nbytes, home)
        return freeze(value)

    def fetch(self, values: Mapping[Any, Any]) -> dict[Any, Any]:
        """Values, those that are elsewhere fetched, all at once.

        Raises:
            WorkerDied: one is lost.
            RuntimeError: the executor is closed.
        """
        remotes = {r.future.key: r for v in values.values() for r in instances(v, Remote)}
        if not remotes:
            return dict(values)
        if self.client is None:
            raise RuntimeError(
                "the executor is closed, and with it the results that were still on its cluster are gone"
            )
        found = self.client.gather([r.future for r in remotes.values()], errors="skip")
        if len(found) < len(remotes):
            raise WorkerDied("a result was lost with the worker that had it")
        opened = {key: parcel.open() for key, parcel in zip(remotes, found, strict=True)}
        return {
            k: v if type(v) in ATOMS else rewrite(v, lambda x: opened[x.future.key] if type(x) is Remote else x)
            for k, v in values.items()
        }

    # ---- lost

    def known(self, jobs: Iterable[Job]) -> list[Remote]:
        """All that is on the cluster for some runs, and for nodes whose arguments were sent."""
        found = [r for job in jobs for v in list(job.values.values()) for r in instances(v, Remote)]
        return [*found, *self._holding.all()]

    async def find_lost(self, remotes: list[Remote]) -> list[Remote]:
        """Those of some values that no worker has any more; of the others it is noted where they are."""
        if self.client is None or not remotes:
            return []
        try:
            held = await self.client.scheduler.who_has(keys=list({r.future.key for r in remotes}))
        except Exception:  # the scheduler is gone
            return []
        for r in remotes:
            holders = held.get(r.future.key)
            if holders:
                r.home = holders[0]
        return [r for r in remotes if not held.get(r.future.key)]


def locate(value: Any) -> tuple[int, str]:
    """How large a value is, and the worker process that has it; for `Core.locate`."""
    return (value.nbytes, value.home) if type(value) is Remote else (0, "")


def is_lost(value: Any) -> bool:
    """Whether a value went with the worker that had it; for `ValuesLost`."""
    return type(value) is Remote and value.lost
