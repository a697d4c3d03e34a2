"""Commands that have actions, such as `graphray cache ls`: how these are described, and what is said when one fails."""

from __future__ import annotations

import argparse
import sys

from graphray.cli.arguments import Formatter
from graphray.cli.errors import USAGE, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def add_command_with_actions(commands: Any, name: str, summary: str, *, description: str, epilog: str) -> Any:
    """Add a command; what is given back takes its actions. Without one, the command prints its help."""
    parser = commands.add_parser(
        name, help=summary, description=description, epilog=epilog, formatter_class=Formatter, allow_abbrev=False
    )
    parser.set_defaults(parser=parser, run=_no_action)
    return parser.add_subparsers(dest="action", metavar="ACTION", title="actions")


def add_action(
    actions: Any,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    description: str = "",
    refusals: tuple[type[BaseException], ...] = (OSError,),
) -> argparse.ArgumentParser:
    """Add an action.

    Args:
        actions: of the command.
        name: what it is called.
        run: does it, and gives the exit status.
        summary: what it does, without a capital and a full stop.
        description: what else there is to say.
        refusals: exceptions whose text is all that the user is told.
    """
    sentence = f"{summary[0].upper()}{summary[1:]}."
    text = f"{sentence}\n\n{description}" if description else sentence
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=summary, description=text, formatter_class=Formatter, allow_abbrev=False
    )
    parser.set_defaults(run=_guarded(run, refusals), parser=parser)
    return parser


def _guarded(
    run: Callable[[argparse.Namespace], int], refusals: tuple[type[BaseException], ...]
) -> Callable[[argparse.Namespace], int]:
    def guarded(args: argparse.Namespace) -> int:
        try:
            return int(run(args))
        except BrokenPipeError:
            raise
        except refusals as error:
            raise UsageError(error.args[0] if isinstance(error, KeyError) else str(error)) from error

    return guarded


def _no_action(args: argparse.Namespace) -> int:
    args.parser.print_help(sys.stderr)
    return USAGE
