"""Colours: one hue a task, the same in each picture where it is free, light and dark."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Degrees on the colour circle, at distances that are told apart.
HUES = (212, 28, 152, 330, 262, 48, 185, 4, 95, 290, 235, 124)

# Saturation and lightness of what is drawn in a hue: fill, border, text; on a light ground and on a dark one.
LIGHT = ((78, 95), (52, 58), (65, 24))
DARK = ((38, 17), (38, 48), (70, 86))


def assign(tasks: Iterable[str]) -> dict[str, int]:
    """A number of HUES for each task: from its name, or the next that is free; shared only when all are taken."""
    chosen: dict[str, int] = {}
    used = [0] * len(HUES)
    for task in tasks:
        if task not in chosen:
            start = _number(task)
            number = min(range(len(HUES)), key=lambda i, start=start: (used[i], (i - start) % len(HUES)))  # type: ignore[misc]
            used[number] += 1
            chosen[task] = number
    return chosen


def _number(name: str) -> int:
    """The FNV-1a hash of a name: the same in every process, which `hash` is not."""
    number = 0x811C9DC5
    for byte in name.encode("utf-8", "surrogatepass"):
        number = (number ^ byte) * 0x01000193 % 2**32
    return number % len(HUES)


def colour(hue: int, shade: tuple[int, int]) -> str:
    """`#rrggbb` of a hue in degrees at a (saturation, lightness) in percent."""
    saturation, lightness = shade[0] / 100, shade[1] / 100
    amplitude = saturation * min(lightness, 1 - lightness)

    def channel(n: int) -> int:  # the closed form of the CSS Color specification
        k = (n + hue / 30) % 12
        return round(255 * (lightness - amplitude * max(-1.0, min(k - 3, 9 - k, 1.0))))

    return f"#{channel(0):02x}{channel(8):02x}{channel(4):02x}"
