"""Text for pictures: made safe, measured, and cut to a width."""

from __future__ import annotations

import unicodedata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Widths of characters in a common user-interface font, in units of the font's size. Fonts differ by some percent, which
# the padding of a box takes up.
_WIDTHS = {
    **dict.fromkeys(" .,:;'|!ijl`", 0.29),
    **dict.fromkeys('ftrI()[]{}/\\-"', 0.38),
    **dict.fromkeys("mwMW@%—", 0.92),
    **dict.fromkeys("abcdeghknopqsuvxyzJ?*", 0.57),
    **dict.fromkeys("0123456789", 0.6),
}
_UPPER = 0.69
_OTHER = 0.64
_WIDE = 1.3  # ideographs are one unit wide, but emoji exceed that
_BOLD = 1.06

_ELLIPSIS = "…"


def clean(text: str) -> str:
    """One line of text that is legal in XML and shows in reading order.

    White space of any kind becomes single spaces; control characters, lone surrogates, noncharacters and the marks that
    turn the direction of what follows become U+FFFD.
    """
    return " ".join("".join([c if c.isprintable() or c == "\u200d" else _replace(c) for c in text]).split())


def _replace(c: str) -> str:
    return " " if c.isspace() else "\ufffd"


def escape(text: str) -> str:
    """Text as it stands in XML, in an element or between double quotes."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def width(text: str, size: float, bold: bool = False) -> float:
    """About how wide a line of text is, in pixels, at a font size in pixels."""
    return sum(map(_width, text)) * size * (_BOLD if bold else 1.0)


def _width(c: str) -> float:
    known = _WIDTHS.get(c)
    if known is not None:
        return known
    if c.isascii():
        return _UPPER if c.isupper() else _OTHER
    if unicodedata.combining(c) or c in "\u200d\ufe0f":
        return 0.0
    return _WIDE if unicodedata.east_asian_width(c) in "WF" else _OTHER


def cut(text: str, size: float, limit: float, bold: bool = False) -> str:
    """Text no wider than `limit` pixels: what does not fit is replaced by an ellipsis."""
    if width(text, size, bold) <= limit:
        return text
    room = limit / (size * (_BOLD if bold else 1.0)) - _width(_ELLIPSIS)
    kept = []
    for c in text:
        room -= _width(c)
        if room < 0:
            break
        kept.append(c)
    return "".join(kept).rstrip() + _ELLIPSIS


def shorten(text: str, length: int) -> str:
    """Text of at most `length` characters."""
    return text if len(text) <= length else text[: length - 1].rstrip() + _ELLIPSIS


def enumerate_some(names: Iterable[str], most: int) -> str:
    """`a, b and 3 more`: names in a line, the first few of them. Repeated names are counted: `loss ×40`."""
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    shown = [times(name, n) for name, n in counts.items()]
    if len(shown) <= most:
        return ", ".join(shown)
    return f"{', '.join(shown[:most])} and {len(shown) - most:,} more"


def times(name: str, count: int) -> str:
    """`name ×1,000`, or the bare name of a single one."""
    return name if count == 1 else f"{name} ×{count:,}"


def plural(count: int, noun: str) -> str:
    """`1 node`, `2,000 nodes`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def number(x: float) -> str:
    """A coordinate to a tenth of a pixel, as short as it can be written."""
    text = f"{x:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
