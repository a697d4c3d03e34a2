"""Runs: a trial that is trained in a directory of its own, where it goes on after it was interrupted or killed.

    PPO_CartPole-v1_00000_2026-11-23_12-00-00/
        params.json                what is trained, and how
        result.json, progress.csv  a row for each iteration
        events.out.tfevents…       the same for TensorBoard
        checkpoint_000010/         after iteration 10

At any moment, the records hold every iteration up to the last checkpoint. A run that goes on forgets those behind it
and makes them again; as training is a function of its state, they come out the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from graphray.rl import checkpoint
from graphray.rl.experiment import Trial
from graphray.rl.records import Records, read_rows
from graphray.rl.results import flat

__all__ = ["Halt", "Outcome", "RunError", "default_root", "failed", "find", "is_done", "prepare", "tag", "train"]

PARAMS, ERROR, LOCK = "params.json", "error.txt", ".lock"

_PATIENCE = 10.0
"""Seconds that a run waits for a process which is at an end to let go of its directory."""


class RunError(ValueError):
    """A run that cannot be made, or cannot go on, in its directory."""


class Outcome(NamedTuple):
    """How a run ended."""

    status: str
    """"done", "halted", or "failed"."""
    directory: str
    last: dict[str, Any]
    """The last row of its records; empty if there is none."""
    error: str = ""
    """A traceback, where it failed."""


class Halt:
    """A request to end after the present iteration, which other processes see too: a file that is there or not."""

    def __init__(self, path: str) -> None:
        self.path = path

    def set(self) -> None:
        """Ask for it."""
        with open(self.path, "w"):
            pass

    def clear(self) -> None:
        """Do not ask for it any more."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.path)

    def __call__(self) -> bool:
        """Whether it is asked for."""
        return os.path.exists(self.path)


def default_root() -> str:
    """Where runs are put unless something else is said: `~/graphray_results`."""
    return os.path.expanduser(os.path.join("~", "graphray_results"))


# ---- directories


def prepare(trial: Trial, root: str) -> str:
    """Make a new directory for a run, and give its path: `root/NAME/ALGO_ENV_ID_DATE`."""
    folder = os.path.join(os.path.abspath(root), trial.experiment)
    os.makedirs(folder, exist_ok=True)
    base = f"{_stem(trial)}_{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    for attempt in range(1, 1000):
        directory = os.path.join(folder, base if attempt == 1 else f"{base}_{attempt}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory)
            break
    else:
        raise RunError(f"{directory} and many more are there already")
    text = json.dumps(_params(trial), indent=2)
    temporary = os.path.join(directory, f".{PARAMS}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    os.replace(temporary, os.path.join(directory, PARAMS))
    return directory


def find(trial: Trial, root: str) -> str | None:
    """The latest directory of a run; None: there is none.

    Raises:
        RunError: what was trained there is configured in another way.
    """
    folder = os.path.join(os.path.abspath(root), trial.experiment)
    pattern = re.compile(re.escape(_stem(trial)) + r"_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d+)?")
    try:
        names = [name for name in os.listdir(folder) if pattern.fullmatch(name)]
    except FileNotFoundError:
        return None
    # A run that was killed before it had begun has no parameters yet.
    there = [name for name in names if os.path.exists(os.path.join(folder, name, PARAMS))]
    if not there:
        return None
    latest = max(there, key=_moment)
    directory = os.path.join(folder, latest)
    with open(os.path.join(directory, PARAMS), encoding="utf-8") as file:
        before = json.load(file)
    now = _params(trial)
    for name in sorted(before["config"].keys() | now["config"].keys()):
        old, new = before["config"].get(name, "not set"), now["config"].get(name, "not set")
        if old != new:
            raise RunError(
                f"{directory} was trained with another configuration: {name} was {old!r} there, and is {new!r} here. "
                "Without --resume a new run begins"
            )
    return directory


def _moment(name: str) -> tuple[str, int]:
    found = re.search(r"_(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)(?:_(\d+))?$", name)
    assert found is not None
    return found[1], int(found[2] or 1)


def _stem(trial: Trial) -> str:
    env = trial.env.rpartition("/")[2]
    stem = f"{trial.algorithm}_{env}_{trial.number:05d}" + (f"_{tag(trial.varied)}" if trial.varied else "")
    return re.sub(r"[^\w.,=+-]", "-", stem)[:120]


def tag(varied: Mapping[str, Any]) -> str:
    """What tells a run from others of its experiment, in short: `lr=0.001,seed=1`."""
    return ",".join(f"{name.rpartition('.')[2]}={_short(value)}" for name, value in varied.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ("x".join(map(str, value)) if isinstance(value, list | tuple) else str(value).replace(" ", ""))[:24]


def _params(trial: Trial) -> dict[str, Any]:
    from graphray import rl
    from graphray.rl.config import to_json
    from graphray.rl.options import build

    kind = getattr(rl, trial.algorithm)
    config = to_json(build(kind.Config, trial.config, trial.algorithm))
    about = {"experiment": trial.experiment, "run": trial.algorithm, "env": trial.env, "number": trial.number}
    document = {**about, "varied": trial.varied, "stop": trial.stop, "config": config}
    return json.loads(json.dumps(document, default=str))  # type: ignore[no-any-return]


# ---- training


def train(
    trial: Trial,
    directory: str,
    *,
    executor: Any = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    halt: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train a run in its directory until it is done: from its last checkpoint on, if there is one.

    Args:
        trial: what to train.
        directory: as `prepare` has made it.
        executor: what the algorithm computes on.
        report: called with each row of the records.
        halt: asked after each iteration whether to end, with a checkpoint.

    Raises:
        RunError: another process is at it.
        Exception: what the training raises.
    """
    with _held(directory):
        for name in os.listdir(directory):  # of a process that was killed while it wrote one
            if name.startswith(".checkpoint-"):
                shutil.rmtree(os.path.join(directory, name), ignore_errors=True)
        rows = read_rows(directory)
        if rows and is_done(trial, directory):
            Records(directory, rows[-1]["training_iteration"]).close()  # it may have been killed at its last row
            return Outcome("done", directory, rows[-1])
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(directory, ERROR))
        return _trained(trial, directory, executor, report, halt)


def _trained(
    trial: Trial,
    directory: str,
    executor: Any,
    report: Callable[[dict[str, Any]], None] | None,
    halt: Callable[[], bool],
) -> Outcome:
    from graphray import rl

    with getattr(rl, trial.algorithm)(config=trial.config, executor=executor) as algorithm:
        saved = _restore(algorithm, directory)
        with contextlib.closing(Records(directory, saved)) as records:
            rows = read_rows(directory)
            row: dict[str, Any] = rows[-1] if rows else {}

            def save() -> int:
                records.sync()
                iteration: int = algorithm.iteration
                algorithm.save(os.path.join(directory, f"checkpoint_{iteration:06d}"))
                _prune(directory, trial.keep)
                return iteration

            status = "done"
            while not _met(trial.stop, row):
                if halt():
                    status = "halted"
                    break
                row = records.add(algorithm.train())
                if trial.checkpoint_freq and algorithm.iteration % trial.checkpoint_freq == 0:
                    saved = save()
                if report is not None:
                    report(row)
            if algorithm.iteration > saved and (status == "halted" or trial.checkpoint_at_end):
                save()
            return Outcome(status, directory, row)


def failed(directory: str, error: BaseException) -> Outcome:
    """What became of a run that raised: also in its directory, as `error.txt`."""
    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError), open(os.path.join(directory, ERROR), "w", encoding="utf-8") as file:
        file.write(text)
    rows = read_rows(directory)
    return Outcome("failed", directory, rows[-1] if rows else {}, text)


def is_done(trial: Trial, directory: str) -> bool:
    """Whether nothing is left to do: the last row is where the run ends, and its checkpoint is there if it is to be."""
    rows = read_rows(directory)
    if not rows or not _met(trial.stop, rows[-1]):
        return False
    last = os.path.join(directory, f"checkpoint_{rows[-1]['training_iteration']:06d}")
    return not trial.checkpoint_at_end or os.path.isdir(last)


def _met(stop: Mapping[str, float], row: Mapping[str, Any]) -> bool:
    results = flat(row)
    return any(results.get(name) is not None and results[name] >= limit for name, limit in stop.items())


def _restore(algorithm: Any, directory: str) -> int:
    """Go on from the last checkpoint that can be read; its iteration."""
    for path in reversed(_checkpoints(directory)):
        try:
            algorithm.restore(path)
        except checkpoint.CheckpointError:
            if path == _checkpoints(directory)[0]:
                raise
            shutil.rmtree(path)  # the machine went down while it came to the disk; the one before it is whole
            continue
        return int(algorithm.iteration)
    return 0


def _checkpoints(directory: str) -> list[str]:
    names = [name for name in os.listdir(directory) if re.fullmatch(r"checkpoint_\d{6,}", name)]
    return [os.path.join(directory, name) for name in sorted(names, key=lambda name: (len(name), name))]


def _prune(directory: str, keep: int | None) -> None:
    if keep is not None:
        for path in _checkpoints(directory)[:-keep]:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _held(directory: str) -> Iterator[None]:
    """Nobody else trains in a directory meanwhile. The lock goes with its process, however that ends."""
    with open(os.path.join(directory, LOCK), "w") as file:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunError(f"{directory}: another process is training there") from None
                time.sleep(0.1)
        yield
