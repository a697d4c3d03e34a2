"""Site: one machine, what it has, and what of that is free."""

from __future__ import annotations

from graphray.graph.request import GPU, amounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from graphray.executors.protocol import Supply
    from graphray.graph.request import Request


ANY = 1 << 30  # any number


class Site:
    """A machine's resources, which are looked for when somebody first asks.

    Attributes:
        name: the machine's; "" is this one.
        announced: how many workers there will be, where that was said.
    """

    def __init__(self, name: str, supply: Supply | None) -> None:
        self.name = name
        self.announced = 0
        self._supply: Supply = supply if supply is not None else {}
        self._total: dict[str, float] | None = None
        self._used: dict[str, float] = {}
        self._accelerators: tuple[str, ...] = ()
        self._in_use: set[str] = set()

    def says(self, supply: Supply) -> None:
        """What it has, told again: it may have come back as another."""
        if supply is not self._supply:
            self._supply = supply
            self._total = None

    @property
    def total(self) -> Mapping[str, float]:
        """What it has, by name."""
        if self._total is None:
            found: dict[str, Any] = dict(self._supply() if callable(self._supply) else self._supply)
            gpus = found.get(GPU, 0)
            self._accelerators = tuple(gpus) if not isinstance(gpus, int) else tuple(map(str, range(gpus)))
            found[GPU] = len(self._accelerators)
            self._total = found
        return self._total

    @property
    def free(self) -> Mapping[str, float]:
        """What nobody has."""
        if not self._used:
            return self.total
        return {name: n - self._used.get(name, 0) for name, n in self.total.items()}

    @property
    def free_accelerators(self) -> list[str]:
        """The accelerators that nobody has."""
        return [a for a in self._accelerators if a not in self._in_use] if self.total[GPU] else []

    def in_use(self, accelerators: tuple[str, ...]) -> bool:
        """Whether somebody has one of these."""
        return bool(accelerators) and not self._in_use.isdisjoint(accelerators)

    def take(self, request: Request, accelerators: tuple[str, ...]) -> None:
        """Somebody gets what a request asks for."""
        for name, n in request.needs:
            self._used[name] = self._used.get(name, 0) + n
        self._in_use.update(accelerators)

    def give(self, request: Request, accelerators: tuple[str, ...]) -> None:
        """Somebody gives it back."""
        for name, n in request.needs:
            left = self._used[name] - n
            if left > 1e-9:
                self._used[name] = left
            else:
                del self._used[name]
        self._in_use.difference_update(accelerators)

    def most(self, request: Request) -> int:
        """How many such calls it could hold at a time."""
        return _most(request, self.total) if request.needs else ANY

    def most_now(self, request: Request) -> int:
        """How many more it could hold now."""
        return _most(request, self.free) if request.needs else ANY

    def missing(self, request: Request) -> float:
        """How much of a request is not free, as a share of what the machine has."""
        free = self.free
        return max([(n - free.get(name, 0)) / self.total[name] for name, n in request.needs], default=0.0)

    def describe(self, workers: int) -> str:
        """For an error: what it is called and has."""
        has = {"worker" if workers == 1 else "workers": workers, GPU: 0, **self.total}
        return f"{f'the machine {self.name}' if self.name else 'this machine'} with {amounts(has)}"


def _most(request: Request, supply: Mapping[str, float]) -> int:
    return min([int(supply.get(name, 0) / n + 1e-9) for name, n in request.needs])
