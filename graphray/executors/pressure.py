"""How the results of an engine of processes stay within their memory: what is in the store above that goes to disk."""

from __future__ import annotations

import contextlib
import time
import warnings

from graphray.executors.memory import parse_budget
from graphray.executors.spilling import least_soon_needed
from graphray.executors.store.registry import KEPT_WARM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from graphray.executors.base import Executor
    from graphray.executors.store.registry import Registry

BEAT = 0.25  # seconds between words on how much memory the results take
LEAST_ROOM, MOST_ROOM = 1 << 20, 256 << 20  # bytes of arrays that one unit may make


class Pressure:
    """Watches over one store.

    Args:
        executor: the engine, whose runs say how much they may have.
        store: its results.
        drop: tells workers, by name, of segments that are gone.
    """

    def __init__(self, executor: Executor, store: Registry, drop: Callable[[dict[str, list[str]]], None]) -> None:
        self._executor = executor
        self._store = store
        self._drop = drop
        self._usual = parse_budget(None)
        self._told_of_disk = False
        self._told, self._told_at = 0, 0.0  # what the runs' events said last, and when

    def budget(self) -> int:
        """Bytes of results in memory, above which some go to disk: what the most modest of the runs asks for."""
        asked = [job.memory for job in list(self._executor._runs) if job.memory is not None]
        return min(asked) if asked else self._usual

    def room(self) -> int:
        """Bytes of arrays that a unit may make: a small part of what all of them may."""
        return min(max(self.budget() // (32 * self._executor.workers), LEAST_ROOM), MOST_ROOM)

    def relieve(self) -> bool:
        """Free segments go, then results move to disk, those needed last before others; whether it is still tight."""
        store, budget = self._store, self.budget()
        store.kept_warm = min(KEPT_WARM, budget // (8 * self._executor.workers))  # what a worker has back, it keeps
        # What the workers are at, and have next, comes on top of what is there; and one that is on its way to disk.
        expected = (2 * self._executor.workers + 1) * (store.largest + self.room())
        full = budget - min(max(budget // 5, expected), budget * 7 // 10)
        enough = full * 3 // 4
        if store.in_memory > enough:
            self._drop(store.trim(0))
        if store.in_memory > full:
            self._spill(enough, budget)
        now = time.monotonic()
        if store.in_memory != self._told and now - self._told_at > BEAT:
            self._told, self._told_at = store.in_memory, now
            self._executor.memory_used(store.in_memory, store.on_disk, budget)
        return store.in_memory > full

    def _spill(self, enough: int, budget: int) -> None:
        store = self._store
        for stored in least_soon_needed(list(self._executor._runs)):
            if store.in_memory <= enough:
                return
            try:
                moved, drops = store.spill(stored)
            except OSError as error:
                self._no_disk(error)
                return
            self._drop(drops)
            if moved:
                self._executor.spilled(moved, store.in_memory, store.on_disk, budget)

    def _no_disk(self, error: OSError) -> None:
        """Results cannot be moved to disk: they stay in memory, and all goes on for as long as that lasts."""
        if not self._told_of_disk:
            self._told_of_disk = True
            with contextlib.suppress(Warning):  # where warnings are errors: this is the engine's thread
                warnings.warn(
                    f"results fill more memory than they are to ({self.budget():,} bytes), and cannot be moved to "
                    f"disk ({error}); have TMPDIR point to where there is room, or give more with memory=",
                    stacklevel=2,
                )
