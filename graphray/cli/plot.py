"""`graphray plot`: learning curves."""

from __future__ import annotations

import argparse

from graphray.cli.arguments import Formatter
from graphray.cli.errors import OK, UsageError
from graphray.cli.streams import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DESCRIPTION = """\
Draw learning curves of runs: those in the directories given, or below them.

Runs of an experiment that differ in their seed only are one curve, their mean,
with a band of one standard deviation. Needs matplotlib."""

EPILOG = """\
examples:
  graphray plot ~/graphray_results/default
  graphray plot runs/ppo runs/dqn -o comparison.png
  graphray plot runs/ppo --y evaluation/episode_reward_mean --x time_total_s"""


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
    parser = commands.add_parser(
        "plot",
        help="draw learning curves",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("directories", nargs="+", metavar="DIR", help="a run, or a directory with runs below it")
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="learning.png", help=".png, .svg or .pdf; default: learning.png"
    )
    parser.add_argument("--x", metavar="RESULT", default="timesteps_total", help="default: timesteps_total")
    parser.add_argument("--y", metavar="RESULT", default="episode_reward_mean", help="default: episode_reward_mean")
    parser.add_argument("--title", metavar="TEXT", default="", help="what is written above")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Carry it out; the exit status."""
    from graphray.rl import plotting

    try:
        runs = plotting.find_runs(args.directories)
        found = plotting.curves(runs, args.x, args.y)
        plotting.draw(found, args.output, x=args.x, y=args.y, title=args.title)
    except (plotting.PlotError, ImportError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{args.output}: {error.strerror or error}") from error
    for curve in found:
        seeds = f", {curve.runs} seeds" if curve.runs > 1 else ""
        put(f"{curve.label}{seeds}: {curve.mean[-1]:.6g} at {curve.x[-1]:,.6g}")
    put(f"written to {args.output}")
    return OK
