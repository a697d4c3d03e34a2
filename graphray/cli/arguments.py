"""Arguments that several commands share."""

from __future__ import annotations

import argparse

from graphray.cli.errors import UsageError
from graphray.cli.streams import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray.cli.pipeline import Pipeline


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they are written, and room for the options beside what they do."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=28, **options)


def add_command(commands: Any, name: str, summary: str, *, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser for a command. Its `--help` is the command's own matter, as it may tell of a pipeline too."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        usage=f"graphray {name} pipeline.py[:name] [options]",
        help=summary,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.set_defaults(parser=parser)
    return parser


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    """The pipeline and what is chosen of it."""
    parser.add_argument(
        "pipeline",
        nargs="?",
        metavar="pipeline.py[:name]",
        help="a Python file that defines graph, or a function pipeline(...) that returns one; :name picks another",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the pipeline, or an input of the graph; may be repeated",
    )
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="OUTPUT",
        help="this output only; may be repeated",
    )
    parser.add_argument("-h", "--help", action="store_true", help="this text; with a pipeline, its parameters too")


def whole_number(text: str) -> int:
    """A number of 1 or more, for argparse."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return number


def integer(text: str) -> int:
    """Any integer, for argparse."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None


def pipeline_of(args: argparse.Namespace) -> Pipeline:
    """The pipeline that the arguments name.

    Raises:
        UsageError: none is named, or it cannot be had.
    """
    if args.pipeline is None:
        raise UsageError(f"which pipeline? {args.parser.prog} pipeline.py (see {args.parser.prog} --help)")
    from graphray.cli.pipeline import open_pipeline

    return open_pipeline(args.pipeline)


def print_help(args: argparse.Namespace) -> int:
    """The command's help, and what there is to say about the pipeline if one is named."""
    from graphray.cli.parameters import table

    put(args.parser.format_help().rstrip())
    if args.pipeline is not None:
        pipeline = pipeline_of(args)
        put(f"\n{pipeline.name}: {pipeline.documentation.partition(chr(10))[0]}".rstrip(": "))
        rows = table(pipeline.parameters.values())
        put(f"\nparameters, given with --set NAME=VALUE:\n{rows}" if rows else "\nIt has no parameters.")
    return 0
