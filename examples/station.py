"""A weather station's thermometers in the ground, month by month: how well does it conduct heat, when was there frost?

    graphray run examples/station.py --cache .graphray
    graphray run examples/station.py --cache .graphray --set months=6 --set days=10
    graphray run examples/station.py --cache .graphray --dry-run      after editing something here: what runs, and why

A month is recorded (made up, with gaps and spikes, but by the heat equation), cleaned, and used to find how well the
ground conducts heat: the conductivity with which the equation foretells one thermometer best from the two around it.
That search is nearly all the work. Then each month is described, and the months are compared.

`edit_a_helper.py` shows what happens when `celsius`, which only the descriptions use, is edited between two runs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import graphray as gr

MINUTES = 24 * 60
"""Readings of a day."""

UPPER, MIDDLE, LOWER = 5, 20, 50
"""Where the thermometers are, in centimetres below the surface."""

Readings = Any  # (minutes, thermometers), in kelvin


class Ground(NamedTuple):
    """What a month's readings say of the ground."""

    diffusivity: float
    """In square metres per second."""
    error: float
    """By how much the middle thermometer is foretold wrongly, as a root mean square in kelvin."""


@gr.task(seed=True)
def record(month: int, days: int, *, seed: int) -> Readings:
    """A month's readings, minute by minute, as the thermometers give them: some are missing and some are wrong."""
    rng = np.random.default_rng(seed)
    minutes = np.arange(days * MINUTES)
    season = -np.cos(2 * np.pi * (month + minutes / minutes.size) / 12)  # -1 in midwinter, 1 in midsummer
    day = -np.cos(2 * np.pi * minutes / MINUTES)
    surface = 281.0 + 10.0 * season + (3.0 + 1.5 * season) * day + weather(rng, days)
    deep = np.full(minutes.size, 281.0 + 8.0 * season[0])
    wet = 0.5 - 0.3 * season[0] + rng.uniform(-0.1, 0.1)
    start = np.linspace(surface[0], deep[0], 101)
    readings = conduct(start, surface, deep, 3.5e-7 + 2.5e-7 * wet, [UPPER, MIDDLE, LOWER])

    readings += rng.normal(0.0, 0.02, readings.shape)
    readings[rng.random(readings.shape) < 0.001] += 15.0  # a spike: a bad contact
    readings[rng.random(readings.shape) < 0.01] = np.nan  # a gap: nothing arrived
    return readings


@gr.task
def clean(readings: Readings) -> Readings:
    """The readings without gaps and spikes."""
    return np.stack([despiked(filled(readings[:, i])) for i in range(readings.shape[1])], axis=1)


@gr.task
def fit(readings: Readings) -> Ground:
    """The ground's diffusivity, by a golden-section search."""
    low, high = 1e-7, 8e-7
    ratio = (5**0.5 - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    left_error, right_error = misfit(readings, left), misfit(readings, right)
    while high - low > 1e-10:
        if left_error < right_error:
            high, right, right_error = right, left, left_error
            left = high - ratio * (high - low)
            left_error = misfit(readings, left)
        else:
            low, left, left_error = left, right, right_error
            right = low + ratio * (high - low)
            right_error = misfit(readings, right)
    return Ground((low + high) / 2, min(left_error, right_error))


@gr.task
def describe(month: int, readings: Readings, ground: Ground) -> dict[str, Any]:
    """A month in figures, temperatures in degrees Celsius at the upper thermometer."""
    temperature = celsius(readings[:, 0])
    return {
        "month": month,
        "mean": float(temperature.mean()),
        "lowest": float(temperature.min()),
        "highest": float(temperature.max()),
        "frost_minutes": int((temperature < 0).sum()),
        "diffusivity": ground.diffusivity,
        "error": ground.error,
    }


@gr.task
def compare(months: list[dict[str, Any]]) -> dict[str, Any]:
    """The months beside each other."""
    means = [month["mean"] for month in months]
    return {
        "mean": float(np.mean(means)),
        "coldest_month": int(np.argmin(means)),
        "warmest_month": int(np.argmax(means)),
        "frost_hours": sum(month["frost_minutes"] for month in months) / 60,
        "diffusivity": float(np.mean([month["diffusivity"] for month in months])),
    }


def celsius(kelvin: Any) -> Any:
    """Degrees Celsius."""
    return kelvin - 273


def weather(rng: np.random.Generator, days: int) -> Any:
    """What makes one day unlike another: deviations in kelvin that last for some hours, minute by minute."""
    hourly = np.zeros(days * 24 + 1)
    for hour, shock in enumerate(rng.normal(0.0, 0.6, days * 24), start=1):
        hourly[hour] = 0.97 * hourly[hour - 1] + shock
    return np.interp(np.arange(days * MINUTES) / 60, np.arange(hourly.size), hourly)


def conduct(start: Any, top: Any, bottom: Any, diffusivity: float, depths: list[int]) -> Any:
    """The heat equation in a column of ground: the temperatures at some depths, minute by minute.

    Args:
        start: the temperatures at first, a number per centimetre.
        top: the temperature of the upper end, minute by minute.
        bottom: that of the lower end.
        diffusivity: in square metres per second, up to 8e-7: beyond that, steps of a minute are too long.
        depths: where to look, in centimetres below the upper end.
    """
    temperature = start.copy()
    inside = temperature[1:-1]
    share = diffusivity * 60.0 / 0.01**2
    seen = np.empty((len(top), len(depths)))
    for minute in range(len(top)):
        temperature[0], temperature[-1] = top[minute], bottom[minute]
        inside += share * (temperature[2:] - 2.0 * inside + temperature[:-2])
        seen[minute] = temperature[depths]
    return seen


def misfit(readings: Readings, diffusivity: float) -> float:
    """How wrongly a diffusivity foretells the middle thermometer from the others; a day for the start to fade."""
    upper, middle, lower = readings.T
    start = np.linspace(upper[0], lower[0], LOWER - UPPER + 1)
    foretold = conduct(start, upper, lower, diffusivity, [MIDDLE - UPPER])[:, 0]
    return float(np.sqrt(np.mean((foretold - middle)[MINUTES:] ** 2)))


def filled(values: Any) -> Any:
    """A thermometer's readings with straight lines across the gaps."""
    known = ~np.isnan(values)
    minutes = np.arange(values.size)
    return np.interp(minutes, minutes[known], values[known])


def despiked(values: Any, reach: int = 15, threshold: float = 0.5) -> Any:
    """A thermometer's readings, of which those far from what is usual around them are replaced by that."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(values, reach, mode="edge"), 2 * reach + 1)
    usual = np.median(around, axis=1)
    return np.where(abs(values - usual) > threshold, usual, values)


def pipeline(months: int = 36, days: int = 30) -> gr.Graph:
    """The station's books as a graph, with the outputs `months` (each in figures) and `comparison`.

    Args:
        months: how many months; month 0 is a January.
        days: days of each month, 2 or more. The work grows with both.
    """
    if months < 1 or days < 2:
        raise ValueError(f"there must be a month or more, of two days or more, not {months} months of {days} days")
    cleaned = gr.map(clean, gr.map(record, range(months), days=days))
    described = gr.map(describe, range(months), cleaned, gr.map(fit, cleaned))
    return gr.Graph(months=list(described), comparison=compare(list(described)))
