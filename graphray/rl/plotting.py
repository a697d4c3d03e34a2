"""Learning curves of runs, drawn from their records."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from graphray.rl.optional import needed
from graphray.rl.records import RESULT, read_rows
from graphray.rl.results import flat
from graphray.rl.runs import PARAMS, tag

__all__ = ["Curve", "PlotError", "curves", "draw", "find_runs"]

_POINTS = 200
"""At so many places the mean over seeds is taken."""


class PlotError(ValueError):
    """There is nothing to draw."""


class Curve(NamedTuple):
    """A line with its band: the mean of runs that differ in their seed only, and one standard deviation about it."""

    label: str
    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    runs: int


def find_runs(paths: Iterable[str]) -> list[str]:
    """The directories of runs at or below some paths, in order.

    Raises:
        PlotError: there is none at one of them.
    """
    found: list[str] = []
    for path in paths:
        path = os.path.abspath(os.path.expanduser(path))
        if not os.path.isdir(path):
            raise PlotError(f"there is no directory {path}")
        here = [folder for folder, _, names in os.walk(path) if RESULT in names]
        if not here:
            raise PlotError(f"{path} holds no run (a run has a file {RESULT})")
        found += sorted(here)
    return list(dict.fromkeys(found))


def curves(runs: Sequence[str], x: str = "timesteps_total", y: str = "episode_reward_mean") -> list[Curve]:
    """A curve for each group of runs that differ in their seed only.

    Args:
        runs: their directories.
        x, y: results, by name, such as `evaluation/episode_reward_mean`.

    Raises:
        PlotError: no run has such a result.
    """
    groups: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    names: dict[str, None] = {}
    for run in runs:
        rows = [flat(row) for row in read_rows(run)]
        names |= dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, int | float))
        points = [(row[x], row[y]) for row in rows if row.get(x) is not None and row.get(y) is not None]
        if points:
            across, up = np.array(points, np.float64).T
            groups.setdefault(_label(run), []).append((across, up))
    if not groups:
        wrong = next((name for name in (x, y) if name not in names), y)
        near = difflib.get_close_matches(wrong, names, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise PlotError(f"no run has a result {wrong!r} yet{meant}")
    return [_curve(label, lines) for label, lines in groups.items()]


def _curve(label: str, lines: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Curve:
    if len(lines) == 1:
        x, y = lines[0]
        return Curve(label, x, y, np.zeros_like(y), 1)
    # Where all of them are: a mean of those that happen to go on would leap.
    low, high = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    across = np.linspace(low, max(low, high), _POINTS)
    values = np.stack([np.interp(across, x, y) for x, y in lines])
    return Curve(label, across, values.mean(axis=0), values.std(axis=0, ddof=1), len(lines))


def _label(run: str) -> str:
    try:
        with open(os.path.join(run, PARAMS), encoding="utf-8") as file:
            params = json.load(file)
        varied = {name: value for name, value in params["varied"].items() if name != "seed"}
        name = params["experiment"] if params["experiment"] != "default" else f"{params['run']} {params['env']}"
        return " ".join(filter(None, [name, tag(varied)]))
    except (OSError, ValueError, KeyError):
        return os.path.basename(run)


def draw(found: Sequence[Curve], path: str, *, x: str, y: str, title: str = "") -> None:
    """Draw curves into a PNG file (or SVG or PDF, by the name's ending).

    Raises:
        PlotError: the file has another ending.
        OSError: it cannot be written.
    """
    needed("matplotlib", "a plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ending = os.path.splitext(path)[1].lstrip(".").lower()
    if ending not in ("png", "svg", "pdf"):
        raise PlotError(f"{path}: a plot is a .png, .svg or .pdf")
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve in found:
        label = f"{curve.label} ({curve.runs} seeds)" if curve.runs > 1 else curve.label
        (line,) = axes.plot(curve.x, curve.mean, label=label, linewidth=1.8)
        if curve.runs > 1:
            low, high = curve.mean - curve.deviation, curve.mean + curve.deviation
            axes.fill_between(curve.x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel(_axis(x))
    axes.set_ylabel(_axis(y))
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title)
    if len(found) > 10:
        axes.legend(frameon=False, fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        axes.legend(frameon=False, fontsize="small", loc="best")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    figure.savefig(path, dpi=150)


def _axis(name: str) -> str:
    known = {
        "timesteps_total": "environment steps",
        "episode_reward_mean": "mean reward of episodes",
        "evaluation/episode_reward_mean": "mean reward of evaluation episodes",
        "time_total_s": "seconds",
        "training_iteration": "iterations",
    }
    return known.get(name, name)


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
