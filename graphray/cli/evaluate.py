"""`graphray evaluate`: episodes of the policy in a checkpoint."""

from __future__ import annotations

import argparse
import math
import os
import sys

from graphray.cli.arguments import Formatter, integer, whole_number
from graphray.cli.errors import OK, UsageError, suggestion
from graphray.cli.streams import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

DESCRIPTION = """\
Play episodes of the policy in a checkpoint, and print the reward and length of
each, and the mean with its 95 % confidence interval.

CHECKPOINT is its directory, a file in it, or the directory of a run, which
means the last one there. Actions are the policy's best, unless --explore."""

EPILOG = """\
examples:
  graphray evaluate ~/graphray_results/default/PPO_CartPole-v1_00000_2026-11-23_12-00-00
  graphray evaluate runs/a/checkpoint_000010 --episodes 100 --seed 7
  graphray evaluate runs/a/checkpoint_000010 --run PPO --env CartPole-v1 --steps 1000
  graphray evaluate runs/a --video-dir videos

A checkpoint is data; but the environment that it names is made, and its module
imported, from the working directory or where Python finds it otherwise."""


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
    parser = commands.add_parser(
        "evaluate",
        help="play episodes of a trained agent",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint, a file in it, or a run")
    parser.add_argument("--run", metavar="ALGORITHM", dest="run_", help="what it has to be of; else it is refused")
    parser.add_argument("--env", metavar="ENV", help="what it has to be trained in; else it is refused")
    duration = parser.add_mutually_exclusive_group()
    duration.add_argument("--episodes", type=whole_number, metavar="N", help="how many; default: 10")
    duration.add_argument(
        "--steps", type=whole_number, metavar="N", help="whole episodes, until so many steps are made"
    )
    parser.add_argument("--video-dir", metavar="DIR", help="write a video of each episode there: GIF, MP4 with ffmpeg")
    parser.add_argument("--explore", action="store_true", help="draw actions as in training")
    parser.add_argument("--seed", type=integer, metavar="N", help="of the episodes; default: that of the training")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Carry it out; the exit status."""
    from graphray import rl
    from graphray.rl import checkpoint
    from graphray.rl.options import ConfigError

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        about = checkpoint.read_about(args.checkpoint)
        changed = _fitting(about, args)
        algorithm = rl.load(about["directory"], executor="inprocess", **changed, **_entries(about, args))
        result = algorithm.evaluate(video_dir=args.video_dir)
    except (checkpoint.CheckpointError, ConfigError, ValueError, TypeError, ImportError, OSError) as error:
        raise UsageError(str(error)) from error
    rewards, lengths = result["hist_stats"]["episode_reward"], result["hist_stats"]["episode_lengths"]
    mean, margin = interval(rewards)
    if args.json:
        from graphray.cli.plain import to_json

        interval95 = None if margin is None else [mean - margin, mean + margin]
        about = {"checkpoint": about["directory"], "run": about["algorithm"], "env": _env(about)}
        put(to_json({**about, **result, "episode_reward_mean_95": interval95}))
        return OK
    for line in _lines(rewards, lengths):
        put(line)
    spread = "" if margin is None else f" ± {margin:.6g} (95 %)"
    put(f"mean reward {mean:.6g}{spread} in {_amount(len(rewards))}, length {_mean(lengths):.6g}")
    if args.video_dir is not None:
        put(f"videos in {args.video_dir}")
    return OK


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and how far from it the true one is with a confidence of 95 % (Student's); None for a single value."""
    mean, count = _mean(values), len(values)
    if count < 2:
        return mean, None
    from scipy.special import stdtrit  # needed by JAX, and so always there

    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    return mean, float(stdtrit(count - 1, 0.975)) * deviation / math.sqrt(count)


def _fitting(about: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Refuse a checkpoint of something else than is asked for; what of it has to be changed all the same."""
    from graphray import rl

    name, env = about.get("algorithm"), _env(about)
    wanted = args.run_.removesuffix("Trainer") if args.run_ is not None else name
    if wanted not in rl.ALGORITHMS:
        raise UsageError(f"there is no algorithm {wanted!r}{suggestion(str(wanted), rl.ALGORITHMS)}")
    if wanted != name:
        raise UsageError(f"{about['directory']} is of {name}, not of {wanted}")
    if args.env is None or args.env == env:
        return {}
    if args.env.rpartition(".")[2] == env.rpartition(".")[2]:  # its module was another one when it was trained
        return {"env": args.env}
    raise UsageError(f"{about['directory']} is of {name} trained in {env}, not in {args.env}")


def _env(about: dict[str, Any]) -> str:
    return str(about["config"].get("env"))


def _entries(about: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    entries: dict[str, Any] = {"evaluation_duration": args.steps or args.episodes or 10}
    entries["evaluation_duration_unit"] = "timesteps" if args.steps else "episodes"
    entries["record_env"] = None
    if args.seed is not None:
        entries["seed"] = args.seed
    if args.explore:
        entries["evaluation_config"] = {**(about["config"].get("evaluation_config") or {}), "explore": True}
    return entries


def _lines(rewards: Sequence[float], lengths: Sequence[int]) -> Iterable[str]:
    rows = [
        (str(i), f"{reward:.6g}", f"{length:,}")
        for i, (reward, length) in enumerate(zip(rewards, lengths, strict=True))
    ]
    head = ("episode", "reward", "length")
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        yield "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _amount(count: int) -> str:
    return f"{count:,} episode{'' if count == 1 else 's'}"
