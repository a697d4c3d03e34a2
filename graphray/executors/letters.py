"""What driver and worker write to each other about a unit, by name."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from graphray.executors.audit import Audit
    from graphray.executors.cache.nodes import CacheSettings
    from graphray.executors.capsule import Capsules
    from graphray.executors.placement import Ticket


class Settings(NamedTuple):
    """What holds for a whole run."""

    seed: int = 0
    collect: bool = False
    spans: bool = False  # tell when each node ran
    cache: CacheSettings | None = None
    capsules: Capsules | None = None
    audit: Audit | None = None


class UnitLetter(NamedTuple):
    """A unit on its way to a worker. Nodes are told by number: those of `inputs` first, then those of the columns."""

    unit: int
    settings: Settings
    hungry: bool
    budget: float
    new_tasks: Sequence[tuple[int, bytes]]  # numbers and bodies of tasks that the worker has not seen
    forget: Sequence[int]  # tasks that it need not keep
    tasks: Sequence[int]  # those of the unit
    numbers: Sequence[int] | None  # the place in `tasks` of each node's; None: there is one for all
    columns: Any
    inputs: Sequence[Any]
    digests: Sequence[bytes | str]  # of the inputs, where a node derives a seed from them; with a cache, of all
    marks: Mapping[int, int]  # what is known of nodes with a cache, see `Machine.marks`
    exports: Sequence[int] | None  # nodes whose values are to come back; None: all
    attempts: Mapping[int, tuple[int, int]]  # by node: how often its call has failed, and its worker died
    free: Sequence[str]  # segments of the worker's own that it can write again
    room: float  # bytes of arrays that the unit may make before the rest is handed back
    ticket: Ticket | None  # of a member of a gang: its rank, the size, and where they meet


class Rest(NamedTuple):
    """What is left of a unit. Nodes unknown to the driver come after its own: stand-ins of done ones, then new ones."""

    stand_ins: int
    digests: Sequence[bytes | str]  # of the stand-ins
    new_tasks: Sequence[tuple[int, bytes]]
    tasks: Sequence[int]  # of each new node
    columns: Any
    left: Sequence[int]
    awaiting: Sequence[tuple[int, int]]


class UnitAnswer(NamedTuple):
    """A unit that a worker has ended."""

    unit: int
    values: Any = None  # of the exports in their order; by number where something is left
    rest: Rest | None = None
    failed: tuple[int, Any, Sequence[str]] | None = None  # node, packed error, trail
    spent: Sequence[tuple[int, float, float]] = ()  # by task: calls and seconds
    names: Mapping[int, str] = {}
    raised: Sequence[tuple[int, Any]] = ()  # failures whose values do not come back: node, packed error
    failures: Sequence[Any] = ()
    marks: Mapping[int, int] = {}
    hits: int = 0  # found in the cache
    stored: int = 0  # put there
    stored_bytes: int = 0
    grown: int = 0
    again: tuple[int, int, float, Any] | None = None  # node to be called again: failures so far, delay, packed error
    began: float = 0.0
    ended: float = 0.0
    read: int = 0
    written: int = 0
    spans: Sequence[Any] = ()
    worn: int = 0  # what the process is still fit for: see `protocol.FRESH`
