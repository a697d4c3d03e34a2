"""What there is, from what is known about it: algorithms, and the entries of their configurations.

The command `graphray rl list` and the tables in the documentation are made of this.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from graphray.rl.options import SAME, options

__all__ = ["Entry", "entries", "overview", "page"]


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

    if name == "model":
        return _entries(ModelConfig)
    common = options(Config)
    return sorted(_entries(getattr(rl, name).Config), key=lambda row: row.name in common)  # each kind keeps its order


def _entries(kind: Any) -> list[Entry]:
    defaults = kind()
    found = []
    for name, about in options(kind).items():
        default = _text(getattr(defaults, name))
        rllib = default if about.rllib is SAME else _text(about.rllib)
        found.append(Entry(name, about.doc, about.kind, default, rllib, rllib == default, about.aliases))
    return found


def page() -> str:
    """The page of the documentation with all entries, in Markdown: `docs/rl-config.md`."""
    from graphray import rl
    from graphray.rl.config import Config, ModelConfig

    parts = [_PAGE, "## Of all algorithms", _table(_entries(Config))]
    common = set(_entries(Config))
    for name in rl.ALGORITHMS:
        own = [row for row in entries(name) if row not in common]
        parts += [
            f"## {name}",
            "Its own entries, and those of all algorithms that have other defaults here.",
            _table(own),
        ]
        model = getattr(rl, name).Config.MODEL
        if model:
            different = ", ".join(f"`{entry}` is `{_text(value)}`" for entry, value in model.items())
            parts.append(f"Its networks: {different}.")
    parts += ["## Networks: `model`", _table(_entries(ModelConfig))]
    return "\n\n".join(parts) + "\n"


_PAGE = """\
# Configuration

Every entry, with its meaning, what it may be, its default here and RLlib's (– where that has no such entry). The
defaults here are chosen to learn the small tasks that people try first without any configuration.

An entry is given as `rl.PPO(env, config={"lr": 1e-3})`, as a keyword (`rl.PPO(env, lr=1e-3)`), in a YAML file, or with
`--set lr=1e-3`. A name that is not known is refused, and the nearest one suggested: also by what it is called in
Stable-Baselines3. `graphray rl list PPO` prints the same.

This page is made by `python docs/rl_config.py` from what the code says."""


def _table(rows: list[Entry]) -> str:
    lines = ["| name | meaning | default | RLlib's |", "|---|---|---|---|"]
    for row in rows:
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
