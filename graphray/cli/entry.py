"""The entry point: finds the command, and turns whatever happens into a message and an exit status."""

from __future__ import annotations

import argparse
import sys

import graphray
from graphray.cli import cache, evaluate, nodes, plot, replay, rl, run, show, train
from graphray.cli.errors import BROKEN_PIPE, FAILED, INTERRUPTED, USAGE, TaskFailed, UsageError, listing, suggestion
from graphray.cli.streams import flush_stdout, give_up_stdout, open_standard_streams, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

# The commands by name, in the order in which the help lists them.
COMMANDS = {
    "run": run,
    "show": show,
    "cache": cache,
    "replay": replay,
    "nodes": nodes,
    "train": train,
    "evaluate": evaluate,
    "plot": plot,
    "rl": rl,
}

EXAMPLES = """\
examples:
  graphray run pipeline.py                compute what it defines, on every core
  graphray run pipeline.py --help         its parameters, types and defaults
  graphray run pipeline.py --set lr=0.01 --json | jq .results
  graphray show pipeline.py -o graph.svg  draw it
  graphray cache ls                       results that were kept
  graphray replay FILE --pdb              a call that failed, in the debugger
  graphray nodes check alice@a,b          machines to join over SSH
  graphray train PPO CartPole-v1          train an agent
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; by default those of this process.

    Returns:
        The exit status: 0 if all went well, 1 if a task failed, 2 if the command cannot be carried out, 130 if it was
        interrupted, 141 if nobody reads its output any more.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = "graphray"
    open_standard_streams()
    try:
        name = _command(arguments)
        program = f"graphray {name}" if name else program
        status = _run(arguments)
        flush_stdout()  # a pipe that nobody reads says so here, and not at exit
        return status
    except UsageError as error:
        say(f"{program}: {error}")
        return USAGE
    except TaskFailed as error:
        say(str(error))
        return FAILED
    except KeyboardInterrupt:
        say(f"{program}: interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        give_up_stdout()
        return BROKEN_PIPE


def _run(arguments: Sequence[str]) -> int:
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return USAGE
    try:
        args, unknown = parser.parse_known_args(arguments)
    except _Exit as end:
        return end.status
    if unknown:
        raise UsageError(_unknown(unknown[0], args.parser))
    args.arguments = list(arguments)
    return int(args.run(args))


class _Exit(Exception):
    """argparse is through: it has printed the help or the version."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Parser(argparse.ArgumentParser):
    """argparse, with errors and ends that `main` hears of."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise _Exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="graphray",
        description="Compose graphs of pure functions, and choose at the end where they run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"graphray {graphray.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", required=True)
    for command in COMMANDS.values():
        command.add_parser(commands)
    return parser


def _command(arguments: Sequence[str]) -> str | None:
    """The command that is asked for, if any: the first argument that is no option, as those before it take no values.

    Raises:
        UsageError: there is no command of that name.
    """
    name = next((a for a in arguments if not a.startswith("-")), None)
    if name is None or name in COMMANDS:
        return name
    if ".py" in name:
        raise UsageError(f"{name!r} is no command; to compute a pipeline: graphray run {name}")
    raise UsageError(f"there is no command {name!r}{suggestion(name, COMMANDS) or f'; there are {listing(COMMANDS)}'}")


def _unknown(argument: str, parser: argparse.ArgumentParser) -> str:
    """What to say about an argument that no parser has taken."""
    if not argument.startswith("-"):
        return f"one argument too many: {argument!r} (see {parser.prog} --help)"
    name, _, value = argument.partition("=")
    options = [option for action in parser._actions for option in action.option_strings]
    if name in options:
        return f"{name} goes after the command: {parser.prog} {argument}"
    near = suggestion(name, options, likeness=0.75)
    if near or "--set" not in options or not name.startswith("--"):
        return f"there is no option {name}{near or f' (see {parser.prog} --help)'}"
    what = parser.get_default("settable") or "the pipeline"
    return f"there is no option {name}; a parameter of {what} is given with: --set {name[2:]}={value or 'VALUE'}"
