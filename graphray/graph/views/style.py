"""The style sheet of drawings, for light and for dark surroundings.

All drawings have the same rules under the same names, so that several of them can stand in one page.
"""

from __future__ import annotations

from graphray.graph.views import palette

# Font sizes, in pixels.
TITLE = 13.0
DETAIL = 11.0

_RULES = f"""\
.graphray{{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;color-scheme:light dark}}
.graphray text{{dominant-baseline:central;text-anchor:middle;pointer-events:none}}
.graphray .graphray-title{{font-size:{TITLE:g}px;font-weight:600}}
.graphray .graphray-value .graphray-title{{font-weight:500}}
.graphray .graphray-detail{{font-size:{DETAIL:g}px;opacity:.85}}
.graphray .graphray-output{{font-size:{DETAIL:g}px;font-weight:700}}
.graphray .graphray-count{{font-size:{DETAIL:g}px;stroke-width:4px;stroke-linejoin:round;paint-order:stroke}}
.graphray .graphray-note{{font-size:{DETAIL:g}px;text-anchor:start}}
.graphray .graphray-edge{{fill:none;stroke-width:1.3;stroke-linecap:round;stroke-linejoin:round;pointer-events:none}}
.graphray .graphray-loop{{stroke-dasharray:3 4}}
.graphray .graphray-near{{stroke-width:2.4;visibility:hidden}}
.graphray .graphray-frame rect{{stroke-width:1.2}}
.graphray .graphray-shape,.graphray .graphray-sheet{{stroke-width:1.2;stroke-linejoin:round}}
.graphray .graphray-corner{{fill:none;stroke-width:1.2;stroke-linejoin:round}}
.graphray .graphray-marked .graphray-shape{{stroke-width:2.6}}
.graphray .graphray-box:hover .graphray-near{{visibility:visible}}
.graphray .graphray-box:hover .graphray-shape{{stroke-width:2.6}}
"""

# Ground, text, notes, edges, frames (fill and border), what has no hue (fill and border), edges pointed at.
_LIGHT = ("#ffffff", "#1f2937", "#5f6b7a", "#8b95a5", "#f6f7f9", "#b6bec9", "#f3f4f6", "#8b95a5", "#2563eb")
_DARK = ("#11151c", "#e5e7eb", "#9aa5b4", "#6b7686", "#171c25", "#4b5563", "#1f2630", "#7b8696", "#7db2ff")


def style(hues: list[int]) -> str:
    """The rules for a drawing that uses these numbers of `palette.HUES`."""
    light = _colours(_LIGHT, palette.LIGHT, hues)
    dark = _colours(_DARK, palette.DARK, hues)
    return f"{_RULES}{light}@media (prefers-color-scheme:dark){{\n{dark}}}\n"


def _colours(basic: tuple[str, ...], shades: tuple[tuple[int, int], ...], hues: list[int]) -> str:
    ground, text, note, edge, frame, frame_border, fill, border, near = basic
    rules = [
        f".graphray .graphray-ground{{fill:{ground}}}",
        f".graphray text{{fill:{text}}}",
        f".graphray .graphray-note{{fill:{note}}}",
        f".graphray .graphray-count{{stroke:{ground}}}",
        f".graphray .graphray-edge{{stroke:{edge}}}",
        f".graphray .graphray-near{{stroke:{near}}}",
        f".graphray .graphray-frame rect{{fill:{frame};stroke:{frame_border}}}",
        f".graphray .graphray-shape,.graphray .graphray-sheet{{fill:{fill};stroke:{border}}}",
        f".graphray .graphray-corner{{stroke:{border}}}",
    ]
    for number in hues:
        filled, line, ink = [palette.colour(palette.HUES[number], shade) for shade in shades]
        hue = f".graphray .graphray-hue{number}"
        rules.append(f"{hue} .graphray-shape,{hue} .graphray-sheet{{fill:{filled};stroke:{line}}}")
        rules.append(f"{hue} text{{fill:{ink}}}")
    return "\n".join(rules) + "\n"
