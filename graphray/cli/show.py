"""`graphray show`: draw a graph."""

from __future__ import annotations

import argparse

from graphray.cli.arguments import add_command, add_pipeline, pipeline_of, print_help, whole_number
from graphray.cli.errors import OK, UsageError
from graphray.cli.streams import put, stdout_kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DESCRIPTION = """\
Draw the graph of a pipeline. Nothing is computed.

The suffix of the file says what is written: .svg (a drawing), .html (a page
with the drawing), .mmd (Mermaid), .md (Mermaid in a fenced block) or .dot
(Graphviz). Large graphs are drawn by task and layer."""

EXAMPLES = """\
  graphray show pipeline.py                     Mermaid text on stdout
  graphray show pipeline.py -o graph.svg
  graphray show pipeline.py --set layers=3 --target score -o graph.html"""


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
    parser = add_command(commands, "show", "draw a graph", description=DESCRIPTION, examples=EXAMPLES)
    add_pipeline(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="the file to write; default: Mermaid text to stdout")
    parser.add_argument(
        "--max-nodes", type=whole_number, metavar="N", help="draw node by node up to here; default: 120, Mermaid 60"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Carry it out; the exit status."""
    if args.help:
        return print_help(args)
    from graphray.cli.parameters import assignments

    given = assignments(args.set)
    with stdout_kept(args.output is None):  # a file that prints while it is imported is no part of the text
        graph, _ = pipeline_of(args).build(given, args.target)
    options = {} if args.max_nodes is None else {"max_nodes": args.max_nodes}
    if args.output is None:
        from graphray.graph.views import to_mermaid

        put(to_mermaid(graph, **options).rstrip("\n"))
        return OK
    try:
        graph.visualize(args.output, **options)
    except ValueError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        reason = f"cannot write {args.output}: {error.strerror}" if error.strerror else str(error)
        raise UsageError(reason) from None
    return OK
