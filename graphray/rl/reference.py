"""What there is, from what is known about it: algorithms, and the entries of their configurations.

The command `graphray rl list` and the tables in the documentation are made of this.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from graphray.rl.options import SAME, options

__all__ = ["Entry", "entries", "overview", "table"]


class Entry(NamedTuple):
    """An entry of a configuration, as text."""

    name: str
    meaning: str
    kind: str
    """What its values are."""
    default: str
    rllib: str
    """RLlib's default; "(none)" where it has no such entry."""
    same: bool
    """Whether that is ours."""
    elsewhere: tuple[str, ...]
    """What it is called in other libraries, or in later versions of RLlib."""


def overview() -> dict[str, dict[str, str]]:
    """Algorithms, environments that come along, and ways to explore: by name, what they are."""
    from graphray import rl
    from graphray.rl.config import EXPLORATIONS
    from graphray.rl.envs import SHIPPED

    return {
        "algorithms": {name: _first_sentence(getattr(rl, name)) for name in rl.ALGORITHMS},
        "environments, beside gymnasium's": {name: _first_sentence(env) for name, env in SHIPPED.items()},
        "exploration types": {
            kind: ", ".join(f"{name} = {value}" for name, value in known.items())
            for kind, known in EXPLORATIONS.items()
        },
    }


def entries(name: str) -> list[Entry]:
    """The configuration of an algorithm, or of the networks (`model`), its own entries first."""
    from graphray import rl
    from graphray.rl.config import Config, ModelConfig

    kind = ModelConfig if name == "model" else getattr(rl, name).Config
    common = {} if name == "model" else options(Config)
    defaults = kind()
    found = []
    for entry, about in options(kind).items():
        default = _text(getattr(defaults, entry))
        rllib = default if about.rllib is SAME else _text(about.rllib)
        found.append(Entry(entry, about.doc, about.kind, default, rllib, rllib == default, about.aliases))
    return sorted(found, key=lambda row: row.name in common)  # which keeps the order of each kind


def table(name: str) -> str:
    """The entries as a table in Markdown."""
    lines = ["| name | meaning | default | RLlib's |", "|---|---|---|---|"]
    for row in entries(name):
        other = "same" if row.same else "–" if row.rllib == "(none)" else f"`{row.rllib}`"
        cells = (f"`{row.name}`", f"{row.meaning} {_capital(row.kind)}.", f"`{row.default}`", other)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _first_sentence(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    return value if isinstance(value, str) else repr(value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
