"""What graphray must reach: figures read from the results of a run, and how large or small they may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from systems import SYSTEMS

Samples = Sequence[Mapping[str, Any]]
Results = Mapping[str, Mapping[str, Samples]]
"""Samples by row and system."""


class Goal(NamedTuple):
    """A figure and its limit.

    Attributes:
        text: the goal as a sentence.
        figure: reads it from the results, given the goal's row. Raises `KeyError` if something was not measured.
        limit: what the figure may be.
        at_least: whether it may not be smaller, instead of not larger.
    """

    text: str
    figure: Callable[[str, Results], float]
    limit: float
    at_least: bool = False

    def met(self, figure: float) -> bool:
        return figure >= self.limit if self.at_least else figure <= self.limit


def best(samples: Samples) -> float:
    """The smallest figure: of several times, the one that other work on the machine disturbed least."""
    return min(sample["value"] for sample in samples)


def at_most(system: str, limit: float, unit: str) -> Goal:
    return Goal(f"{SYSTEMS[system].label} ≤ {limit:,} {unit}", lambda row, results: best(results[row][system]), limit)


def detail_at_most(system: str, detail: str, limit: float, what: str) -> Goal:
    """Not the figure itself but something else that the samples say: the worst of them counts."""

    def worst(row: str, results: Results) -> float:
        return max(sample[detail] for sample in results[row][system])

    return Goal(f"{SYSTEMS[system].label} ≤ {limit:,} {what}", worst, limit)


def faster(system: str, times: float, than: str) -> Goal:
    def ratio(row: str, results: Results) -> float:
        return best(results[row][than]) / best(results[row][system])

    return Goal(f"{SYSTEMS[system].label} ≥ {times}× faster than {SYSTEMS[than].label}", ratio, times, at_least=True)


def flat(*rows: str, limit: float = 1.5) -> Goal:
    """The same work at several sizes costs about the same per node."""

    def spread(row: str, results: Results) -> float:
        figures = [best(results[r]["graphray"]) for r in rows]
        return max(figures) / min(figures)

    return Goal(f"cost per node flat from 10⁴ to 10⁶: largest ≤ {limit}× smallest", spread, limit)


def seeds_solved(seeds: int, within: int) -> Goal:
    def solved(row: str, results: Results) -> float:
        return sum(t["solved"] and t["steps"] <= within for t in _trainings(row, results))

    return Goal(f"solved within {within:,} steps for ≥ {seeds} of 5 seeds", solved, seeds, at_least=True)


def seeds_fast(limit: float) -> Goal:
    def slowest(row: str, results: Results) -> float:
        return min(t["steps_per_second"] for t in _trainings(row, results))

    return Goal(f"≥ {limit:,} steps/s after the first iteration, the slowest seed", slowest, limit, at_least=True)


def _trainings(row: str, results: Results) -> Sequence[Mapping[str, Any]]:
    return results[row]["graphray-loky"][0]["seeds"]
