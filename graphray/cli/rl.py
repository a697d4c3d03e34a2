"""`graphray rl`: what there is to train with."""

from __future__ import annotations

import argparse
import sys
import textwrap

from graphray.cli.actions import add_action, add_command_with_actions
from graphray.cli.errors import OK, UsageError, suggestion
from graphray.cli.pretty import BOLD, PLAIN
from graphray.cli.streams import colour, columns, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DESCRIPTION = "Look at what there is for reinforcement learning: algorithms, their configuration, environments."

EPILOG = """\
examples:
  graphray rl list           algorithms, environments, ways to explore
  graphray rl list PPO       its configuration: names, meaning, defaults
  graphray rl list model     that of the networks"""


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
    actions = add_command_with_actions(
        commands, "rl", "algorithms, their configuration, environments", description=DESCRIPTION, epilog=EPILOG
    )
    parser = add_action(actions, "list", _list, "say what there is, or what an algorithm is configured with")
    parser.add_argument("what", nargs="?", metavar="ALGORITHM", help="an algorithm, or model: its configuration")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def _list(args: argparse.Namespace) -> int:
    from graphray import rl
    from graphray.cli.plain import to_json
    from graphray.rl.reference import entries, overview

    if args.what is None:
        found = overview()
        if args.json:
            put(to_json(found))
            return OK
        for title, known in found.items():
            put(_head(title))
            width = max(map(len, known))
            for name, meaning in known.items():
                for line in textwrap.wrap(meaning, columns() - width - 4) or [""]:
                    put(f"  {name:<{width}}  {line}".rstrip())
                    name = ""
        return OK
    name = args.what.removesuffix("Trainer")
    names = [*rl.ALGORITHMS, "model"]
    if name not in names:
        near = suggestion(name, names) or suggestion(name.upper(), names) or f"; there are {', '.join(names)}"
        raise UsageError(f"there is no configuration of {args.what!r}{near}")
    rows = entries(name)
    if args.json:
        put(to_json({row.name: row._asdict() for row in rows}))
        return OK
    put(_head(f"{name}: entry, default, RLlib's where it has another one"))
    for row in rows:
        other = "" if row.same else f"  (RLlib: {row.rllib})" if row.rllib != "(none)" else "  (not RLlib's)"
        put(f"{row.name} = {row.default}{other}")
        for line in textwrap.wrap(f"{row.meaning} {row.kind[:1].upper()}{row.kind[1:]}.", columns() - 4):
            put(f"    {line}")
    return OK


def _head(text: str) -> str:
    return f"{BOLD}{text}{PLAIN}" if colour(sys.stdout) else text
