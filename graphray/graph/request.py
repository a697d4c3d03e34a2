"""Request: what a call needs of a machine (`resources=`), and how many workers make it at the same time (`gr.gang`)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

GPU = "gpu"  # handed out one by one: which, not only how many
MEMORY = "memory"  # in bytes


class Request:
    """What one call asks for; equal requests are interchangeable.

    Attributes:
        needs: amounts by name, in the order of the names; of a gang, what each member needs.
        gang: how many workers make the call together, or None: it is a call like any other.
    """

    __slots__ = ("_hash", "gang", "needs")

    def __init__(self, needs: Mapping[str, float], gang: int | None) -> None:
        self.needs = tuple(sorted(needs.items()))
        self.gang = gang
        self._hash = hash((self.needs, gang))

    @property
    def size(self) -> int:
        """How many workers it takes."""
        return self.gang or 1

    @property
    def gpus(self) -> int:
        """How many accelerators each worker gets."""
        return int(dict(self.needs).get(GPU, 0))

    def __eq__(self, other: object) -> bool:
        return type(other) is Request and self.needs == other.needs and self.gang == other.gang

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        what = amounts(dict(self.needs))
        if self.gang is None:
            return what
        workers = f"{self.gang} worker{'s' if self.gang > 1 else ''} at the same time"
        return f"{workers}, each with {what}" if self.needs else workers

    def __repr__(self) -> str:
        return f"<Request {self}>"


def parse_resources(x: Any) -> dict[str, float] | None:
    """The option `resources=` in one form: numbers by name, memory in bytes; None where nothing is asked for.

    Raises:
        ValueError: it is something else, or an amount makes no sense.
    """
    if x is None:
        return None
    if not hasattr(x, "items"):
        raise ValueError(f'resources= says how much by name, such as {{"gpu": 1, "memory": "4GB"}}, not {x!r}')
    found = {}
    for name, amount in x.items():
        if type(name) is not str or not name:
            raise ValueError(f"resources= goes by name, a text, not {name!r}")
        found[name] = parse_amount(name, amount)
    return {name: amount for name, amount in found.items() if amount} or None


def parse_amount(name: str, x: Any) -> float:
    """How much there is, or is needed, of a resource.

    Raises:
        ValueError: not a number, or one that makes no sense for it.
    """
    if name == MEMORY and x != 0:
        from graphray.executors.memory import parse_size

        return parse_size(x, "memory")
    if type(x) not in (int, float) or not 0 <= x < float("inf"):
        raise ValueError(f"resources= asks for {x!r} of {name!r}, which is not a number of 0 or more")
    if name == GPU and x != int(x):
        raise ValueError(f"accelerators go to one task each: gpu is a whole number, not {x!r}")
    return int(x) if x == int(x) else float(x)


def amounts(needs: Mapping[str, float]) -> str:
    """Resources as people read them: `2 gpu and 4 GB of memory`."""
    shown = [_amount(name, n) for name, n in needs.items()]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown) or "nothing"


def _amount(name: str, n: float) -> str:
    if name != MEMORY:
        return f"{n:g} {name}"
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.4g} {unit} of memory"
    return f"{n:g} bytes of memory"
