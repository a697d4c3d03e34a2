"""`graphray train`: train what a file of experiments, or the command line, says."""

from __future__ import annotations

import argparse
import os
import shlex

from graphray.cli.arguments import Formatter, whole_number
from graphray.cli.errors import FAILED, INTERRUPTED, OK, UsageError
from graphray.cli.streams import put, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from graphray.rl.experiment import Trial
    from graphray.rl.runs import Halt, Outcome

DESCRIPTION = """\
Train reinforcement learning algorithms: one run that the command line
describes, or all runs of a YAML file of experiments, with RLlib's names:

  cartpole-ppo:
    run: PPO
    env: CartPole-v1             # or my_module.MyEnv, beside the file or here
    stop: {episode_reward_mean: 475, timesteps_total: 100000}
    checkpoint_freq: 10          # iterations; also checkpoint_at_end, default
    keep_checkpoints_num: 3      # true, and num_samples: runs that differ in
    config:                      # their seed
      lr: {grid_search: [1e-3, 3e-4]}

Each run has a directory DIR/NAME/ALGORITHM_ENV_ID_DATE with params.json,
progress.csv, result.json, TensorBoard events and checkpoints. Several runs
share a pool of processes, one in each."""

EPILOG = """\
examples:
  graphray train PPO CartPole-v1 --stop timesteps_total=100000
  graphray train DQN CartPole-v1 --stop episode_reward_mean=475 --set lr=5e-4
  graphray train -f custom.yml
  graphray train -f custom.yml --resume     go on where it was interrupted
  graphray train -f custom.yml --set num_workers=4 --num-samples 5
  graphray rl list PPO                      what --set and config can say

A file is read as data, but the modules that it names are imported.

exit status:
  0 all runs are done; 1 one failed, the others went on; 2 the command cannot
  be carried out, and nothing began; 130 interrupted, with checkpoints"""


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
    parser = commands.add_parser(
        "train",
        usage="graphray train (-f FILE | ALGORITHM ENV) [options]",
        help="train a reinforcement learning algorithm",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("algorithm", nargs="?", metavar="ALGORITHM", help="PPO, DQN or SAC")
    parser.add_argument("env", nargs="?", metavar="ENV", help="a gymnasium id, or module.Class")
    parser.add_argument("--run", metavar="ALGORITHM", dest="run_", help="the same as ALGORITHM")
    parser.add_argument("--env", metavar="ENV", dest="env_", help="the same as ENV")
    parser.add_argument("-f", "--file", metavar="FILE", help="a YAML file of experiments")
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="RESULT=VALUE",
        help="end at the first iteration with so much of it; may be repeated: the first that is met counts",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an entry of the configuration, such as lr=1e-3 or model.use_lstm=true; may be repeated",
    )
    parser.add_argument("--name", metavar="NAME", help="of the experiment, where there is no file; default: default")
    parser.add_argument("--dir", metavar="DIR", help="where results go; default: ~/graphray_results")
    parser.add_argument("--resume", action="store_true", help="go on with the latest run of each, where there is one")
    parser.add_argument("--num-samples", type=whole_number, metavar="N", help="runs of each, with different seeds")
    parser.add_argument(
        "--checkpoint-freq", type=whole_number, metavar="N", help="a checkpoint after every N iterations"
    )
    parser.add_argument("--keep-checkpoints-num", type=whole_number, metavar="N", help="keep the latest N of them")
    parser.add_argument(
        "--executor",
        metavar="NAME",
        help="inprocess, loky, loky:WORKERS, ssh://HOST,HOST, dask://SCHEDULER:PORT; default: $GRAPHRAY_EXECUTOR, else "
        "loky for several runs, and for one what num_workers says",
    )
    parser.add_argument("--workers", type=whole_number, metavar="N", help="number of processes; default: one per core")
    parser.add_argument("-q", "--quiet", action="store_true", help="show nothing until the end")
    parser.set_defaults(run=run, parser=parser, settable="the configuration")


def run(args: argparse.Namespace) -> int:
    """Carry it out; the exit status."""
    from graphray.rl.experiment import ExperimentError
    from graphray.rl.runs import RunError

    try:
        executor = _executor(args)
        trials = planned(args)
        root = os.path.expanduser(args.dir) if args.dir is not None else _default_root()
        directories = _directories(trials, root, args.resume)
    except (ExperimentError, RunError) as error:
        raise UsageError(_text(error)) from error
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    _say_first(trials)
    outcomes = _trained(trials, directories, executor, args)
    return _told(outcomes, args)


# ---- what is to be trained


def planned(args: argparse.Namespace) -> list[Trial]:
    """The runs that the arguments describe, checked."""
    from graphray.rl import experiment

    algorithm, env = args.algorithm or args.run_, args.env or args.env_
    if args.file is not None:
        if algorithm or env or args.name:
            raise UsageError("-f FILE says what is run, in which env, and what it is called")
        document, source = experiment.read(args.file), args.file
    else:
        if not algorithm:
            raise UsageError("what is to be trained? graphray train PPO CartPole-v1, or -f FILE (see --help)")
        document, source = {args.name or "default": {"run": algorithm, **({"env": env} if env else {})}}, ""
    changes = {
        "num_samples": args.num_samples,
        "checkpoint_freq": args.checkpoint_freq,
        "keep_checkpoints_num": args.keep_checkpoints_num,
    }
    stop, config = dict(map(_assignment, args.stop)), dict(map(_assignment, args.set))
    for name, entry in document.items():
        entry = {**entry, **{key: value for key, value in changes.items() if value is not None}}
        if stop:
            entry["stop"] = {**(entry.get("stop") or {}), **stop}
        for path, value in config.items():
            entry["config"] = _with(entry.get("config") or {}, path.split("."), value, path)
        document[name] = entry
    beside = [os.path.dirname(os.path.abspath(args.file))] if args.file is not None else []
    return experiment.from_mapping(document, source, [*beside, os.getcwd()])


def _assignment(text: str) -> tuple[str, Any]:
    from graphray.rl.optional import needed

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{text!r} is not NAME=VALUE")
    yaml = needed("yaml", "--set", "pyyaml")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"{text}: the value is no YAML: {getattr(error, 'problem', error)}") from None


def _with(config: Any, path: list[str], value: Any, whole: str) -> Any:
    if not isinstance(config, dict):
        raise UsageError(f"--set {whole}: what is above {path[0]!r} has no entries")
    first, rest = path[0], path[1:]
    return {**config, first: _with(config.get(first) or {}, rest, value, whole) if rest else value}


def _text(error: BaseException) -> str:
    """What is wrong; with the traceback of the user's own code, if it was that which failed."""
    cause = error.__cause__
    if cause is None or type(cause).__module__.partition(".")[0] == "graphray":
        return str(error)
    from traceback import extract_tb

    import graphray

    package = os.path.dirname(graphray.__file__)
    last = extract_tb(cause.__traceback__)[-1].filename
    if last.startswith((package, "<frozen")) or "site-packages" in last:
        return str(error)
    from graphray.cli.tracebacks import of_users

    return f"{error}\n{of_users(cause)}"


def _default_root() -> str:
    from graphray.rl.runs import default_root

    return default_root()


def _directories(trials: list[Trial], root: str, resume: bool) -> list[str]:
    from graphray.rl import runs

    # All are looked for before any is made: a run that cannot go on ends the command before it has done anything.
    found = [runs.find(trial, root) if resume else None for trial in trials]
    return [there or runs.prepare(trial, root) for trial, there in zip(trials, found, strict=True)]


def _say_first(trials: list[Trial]) -> None:
    from graphray.rl.records import tensorboard_is_there

    if not tensorboard_is_there():
        say("no events for TensorBoard are written, as tensorboardX is not there: pip install 'graphray[rl]'")
    if not trials[0].stop:
        say("there is no --stop: it goes on until Ctrl-C")


# ---- training


def _executor(args: argparse.Namespace) -> str | None:
    """The executor's name, checked: a wrong one should not leave directories behind."""
    from graphray.executors.start import make

    name = args.executor or os.environ.get("GRAPHRAY_EXECUTOR") or None
    try:
        if name is not None or args.workers is not None:
            make(name or "loky", args.workers)
    except (ValueError, ImportError) as error:
        raise UsageError(str(error)) from None
    return name


def _trained(
    trials: list[Trial], directories: list[str], executor: str | None, args: argparse.Namespace
) -> list[Outcome]:
    from graphray.cli.terminal import screen
    from graphray.cli.trials import Table
    from graphray.rl.fleet import train_all
    from graphray.rl.runs import Halt

    halt = Halt(os.path.join(directories[0], f".halt-{os.getpid()}"))
    halt.clear()  # it is there only if one was interrupted and then killed, and had this number
    try:
        with screen(processes=True) as shown, _interruptible(halt):
            table = Table(trials, shown, args.quiet)
            outcomes = train_all(
                trials, directories, executor=executor, workers=args.workers, halt=halt, report=table.report
            )
            table.end()
        for line in table.lines():
            put(line)
        return outcomes
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:  # of the executor
        raise UsageError(str(error)) from error
    finally:
        halt.clear()


class _interruptible:
    """Ctrl-C, or SIGTERM, has runs end after the present iteration, with a checkpoint; a second one at once."""

    def __init__(self, halt: Halt) -> None:
        self.halt = halt

    def __enter__(self) -> None:
        import signal

        self.before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: Any) -> None:
        import signal

        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask(self, *_: Any) -> None:
        import threading

        if self.halt():
            raise KeyboardInterrupt
        self.halt.set()
        text = "graphray train: ending after the iteration under way; Ctrl-C again ends at once"
        # In a thread: this one may be writing to the terminal just now.
        threading.Thread(target=say, args=(text,), name="graphray-interrupted").start()


def _told(outcomes: list[Outcome], args: argparse.Namespace) -> int:
    for directory in _folders(outcomes):
        put(f"results in {directory}")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        say(f"\n{os.path.basename(outcome.directory)} failed:\n{outcome.error}")
    if any(outcome.status == "halted" for outcome in outcomes):
        arguments = [one for one in args.arguments if one != "--resume"]
        say(f"graphray train: interrupted; to go on: graphray {shlex.join([*arguments, '--resume'])}")
        return INTERRUPTED
    return FAILED if failed else OK


def _folders(outcomes: list[Outcome]) -> Iterator[str]:
    if len(outcomes) == 1:
        yield outcomes[0].directory
    else:
        yield from dict.fromkeys(os.path.dirname(outcome.directory) for outcome in outcomes)
