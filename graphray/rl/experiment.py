"""Experiments: what a YAML file, or a command line, says is to be trained; checked before anything of it starts.

A file holds experiments by name:

    cartpole-ppo:
        run: PPO
        env: CartPole-v1
        stop: {episode_reward_mean: 475, timesteps_total: 100000}
        checkpoint_freq: 10
        num_samples: 3
        config:
            lr: {grid_search: [1e-3, 3e-4]}

A file is read as data: no tag in it can make an object. What it names is imported, though: environments, models and
functions given as `module.name`.
"""

from __future__ import annotations

import difflib
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from graphray.rl.options import ConfigError, anything, build, flag, integer, mapping, option, optional, text
from graphray.rl.registry import imported
from graphray.rl.results import NAMES
from graphray.rl.variants import SEARCH, Variant, variants

__all__ = ["Experiment", "ExperimentError", "Trial", "from_mapping", "read", "trials_of"]


class ExperimentError(ValueError):
    """An experiment that cannot be carried out: says in which file, experiment and entry the mistake is."""


@dataclass(frozen=True)
class Experiment:
    """An entry of a file of experiments."""

    run: Any = option(None, "The algorithm.", optional(text), aliases=("algorithm", "algo", "trainable"))
    env: Any = option(None, "The environment; it can be an entry of `config` as well.", anything)
    stop: Any = option(
        {},
        "Where a run ends: at the first iteration with one of these results, or more than that.",
        mapping,
        aliases=("stopping_criteria", "stop_criteria"),
    )
    checkpoint_freq: Any = option(
        0, "Write a checkpoint after every so many iterations; 0: none.", integer(0), aliases=("checkpoint_frequency",)
    )
    checkpoint_at_end: Any = option(True, "Write one at the end of a run.", flag, rllib=False)
    keep_checkpoints_num: Any = option(
        None, "How many of the latest checkpoints are kept; None: all.", optional(integer(1)), aliases=("num_to_keep",)
    )
    num_samples: Any = option(
        1, "Runs of each configuration, each with a seed of its own.", integer(1), aliases=("repeat", "num_seeds")
    )
    config: Any = option({}, "The configuration of the algorithm.", mapping, aliases=("params", "hyperparams"))


class Trial(NamedTuple):
    """One run that is to be made: all that there is to know about it, as plain values."""

    experiment: str
    number: int
    """Of the run within its experiment, from 0."""
    algorithm: str
    config: dict[str, Any]
    """Checked; the environment is in it."""
    varied: dict[str, Any]
    """What is different from other runs of the experiment, by dotted name."""
    stop: dict[str, float]
    checkpoint_freq: int = 0
    checkpoint_at_end: bool = True
    keep: int | None = None

    @property
    def env(self) -> str:
        """What its environment is called."""
        env = self.config["env"]
        return env if isinstance(env, str) else str(getattr(env, "__qualname__", env))


def read(path: str) -> dict[str, Any]:
    """The experiments of a YAML file as they are written there, by name.

    Raises:
        ExperimentError: it cannot be read, is no YAML, or holds something else.
    """
    yaml = _yaml()
    try:
        with open(path, encoding="utf-8") as file:
            document = yaml.load(file, _loader(yaml))
    except OSError as error:
        near = _nearby(path) if isinstance(error, FileNotFoundError) else ""
        raise ExperimentError(f"{path}: {error.strerror}{near}") from None
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{path} is not text in UTF-8: {error}") from None
    except yaml.YAMLError as error:
        raise ExperimentError(f"{path}: {_said(error)}") from None
    if not isinstance(document, dict) or not document:
        raise ExperimentError(f"{path} holds no experiments; it has the form NAME: {{run: PPO, env: …, stop: {{…}}}}")
    for name, entry in document.items():
        if not isinstance(name, str) or name in (".", "..") or "/" in name or os.sep in name or not name.strip():
            raise ExperimentError(f"{path}: the name of an experiment names a folder too: {name!r} cannot")
        if not isinstance(entry, dict):
            known = name in Experiment.__dataclass_fields__
            hint = f"; put a name above {name!r}, and indent what belongs to it" if known else ""
            raise ExperimentError(
                f"{path}: {name}: an experiment has entries such as run, env, stop; not {entry!r}{hint}"
            )
    return document


def from_mapping(document: Mapping[str, Any], source: str, beside: Iterable[str] = ()) -> list[Trial]:
    """The runs of all experiments, in order, checked.

    Args:
        document: experiments by name, as `read` gives them.
        source: the file; begins the errors. Empty: there is none.
        beside: directories in which modules are looked for, too.

    Raises:
        ExperimentError: what is wrong first.
    """
    _look_in(beside)
    planned = [trial for name, entry in document.items() for trial in trials_of(name, entry, source)]
    endless = next((trial for trial in planned if not trial.stop), None)
    if endless is not None and len(planned) > 1:
        raise ExperimentError(
            f"{_where(source, endless.experiment)} has no stop, and there are {len(planned)} runs: "
            "say where they end, such as stop: {timesteps_total: 100000}"
        )
    return planned


def trials_of(name: str, entry: Mapping[str, Any], source: str = "") -> list[Trial]:
    """The runs of one experiment, checked; see `from_mapping`."""
    where = _where(source, name)
    with _refused(where):
        experiment = build(Experiment, entry, where)
    given = dict(experiment.config)
    if "lambda" in given:  # as `build` does, but its axes are looked up by name before
        given["lambda_"] = given.pop("lambda")
    if experiment.env is not None:
        if given.get("env", experiment.env) != experiment.env:
            raise ExperimentError(f"{where}: env is {experiment.env!r}, and in config {given['env']!r}: which?")
        given["env"] = experiment.env
    if given.get("env") is None:
        raise ExperimentError(f"{where} has no env; it is a gymnasium id such as CartPole-v1, or module.Class")
    algorithm = _algorithm(experiment.run, where)
    try:
        each = list(variants(given))
    except ValueError as error:
        raise ExperimentError(f"{where}: config: {error}") from None
    stop = _stop(experiment.stop, given, where)
    samples = list(_samples(each, experiment.num_samples, where))
    looked_at: set[str] = set()
    return [
        Trial(
            experiment=name,
            number=number,
            algorithm=algorithm.__name__,
            config=_checked(algorithm, variant, where, looked_at),
            varied=variant.varied,
            stop=stop,
            checkpoint_freq=experiment.checkpoint_freq,
            checkpoint_at_end=experiment.checkpoint_at_end,
            keep=experiment.keep_checkpoints_num,
        )
        for number, variant in enumerate(samples)
    ]


def _samples(each: list[Variant], count: int, where: str) -> Iterator[Variant]:
    for variant in each:
        if count > 1 and "seed" in variant.varied:
            raise ExperimentError(
                f"{where}: num_samples gives each run a seed of its own, and so does {SEARCH} of seed"
            )
        for sample in range(count):
            if count == 1:
                yield variant
                continue
            seed = variant.config.get("seed", 0)
            seed = seed + sample if isinstance(seed, int) else seed  # what is no seed is refused later
            yield Variant({**variant.config, "seed": seed}, {**variant.varied, "seed": seed})


# ---- checks


def _algorithm(name: str | None, where: str) -> Any:
    from graphray import rl

    if name is None:
        raise ExperimentError(f"{where} does not say what to run; there are {', '.join(rl.ALGORITHMS)}")
    plain = name.removesuffix("Trainer")
    if plain not in rl.ALGORITHMS:
        near = difflib.get_close_matches(plain.upper(), rl.ALGORITHMS, 1)
        meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(rl.ALGORITHMS)}"
        raise ExperimentError(f"{where}: there is no algorithm {name!r}; {meant}")
    return getattr(rl, plain)


def _checked(algorithm: Any, variant: Variant, where: str, looked_at: set[str]) -> dict[str, Any]:
    """The entries of a configuration as they are kept. Each environment is made once, and asked whether it fits."""
    given = dict(variant.config)
    with _refused(f"{where}: config"):
        if isinstance(given.get("callbacks"), str):
            given["callbacks"] = imported(given["callbacks"], "callbacks")
        config = build(algorithm.Config, given, f"{where}: config")
    env = repr([getattr(config, name) for name in ("env", "env_config", "horizon", "model", "exploration_config")])
    if env not in looked_at:
        looked_at.add(env)
        with _refused(where), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself says them
            algorithm.check(config)
    return {name: getattr(config, name) for name in variant.config}


def _stop(stop: Mapping[str, Any], config: Mapping[str, Any], where: str) -> dict[str, float]:
    found = {}
    for name, value in stop.items():
        path = name.replace(".", "/")
        first = path.partition("/")[0]
        if first not in NAMES and config.get("callbacks") is None:  # a callback may add names of its own
            raise ExperimentError(f"{where}: stop: there is no result {name!r}{_like(path)}")
        if first == "evaluation" and config.get("evaluation_interval") is None:
            raise ExperimentError(f"{where}: stop: {name} is never there, as config has no evaluation_interval")
        try:
            found[path] = float(value)
        except (TypeError, ValueError):
            raise ExperimentError(f"{where}: stop: {name} is a number, not {value!r}") from None
        if isinstance(value, bool) or found[path] != found[path]:
            raise ExperimentError(f"{where}: stop: {name} is a number, not {value!r}")
    return found


_ELSEWHERE = {
    "env_runners/episode_return_mean": "episode_reward_mean",
    "episode_return_mean": "episode_reward_mean",
    "sampler_results/episode_reward_mean": "episode_reward_mean",
    "num_env_steps_sampled_lifetime": "timesteps_total",
    "num_env_steps_sampled": "timesteps_total",
    "total_timesteps": "timesteps_total",
}
"""What results are called in later versions of RLlib, and in Stable-Baselines3."""


def _like(path: str) -> str:
    if path in _ELSEWHERE:
        return f"; it is called {_ELSEWHERE[path]!r} here"
    near = difflib.get_close_matches(path, NAMES, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(NAMES)}"


class _refused:
    """Errors of a configuration, or of the user's code, as errors of the experiment."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or isinstance(error, ExperimentError) or not isinstance(error, Exception):
            return
        text = str(error) or type(error).__name__
        if isinstance(error, ConfigError):
            raise ExperimentError(text if text.startswith(self.where) else f"{self.where}: {text}") from None
        if not isinstance(error, ValueError | TypeError | ImportError):
            text = f"{type(error).__name__}: {text}"
        raise ExperimentError(f"{self.where}: {text}") from error


def _where(source: str, name: str) -> str:
    return f"{source}: {name}" if source else name


def _look_in(directories: Iterable[str]) -> None:
    """Have modules found in directories: after Python's own, lest a `random.py` is in their way, and before others."""
    for directory in map(os.path.abspath, directories):
        if directory not in map(os.path.abspath, sys.path):
            own = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
            last = max(
                (i for i, path in enumerate(sys.path) if path.startswith(own) and "-packages" not in path), default=-1
            )
            sys.path.insert(last + 1, directory)


# ---- YAML


def _yaml() -> Any:
    from graphray.rl.optional import needed

    return needed("yaml", "a file of experiments", "pyyaml")


def _loader(yaml: Any) -> Any:
    """The safe loader, which also refuses what it would otherwise let pass: a name that is there twice."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if key.tag != "tag:yaml.org,2002:merge":
                    name = self.construct_object(key, deep=True)
                    if isinstance(name, str | int) and name in seen:
                        raise yaml.constructor.ConstructorError(None, None, f"{name!r} is there twice", key.start_mark)
                    seen.add(name if isinstance(name, str | int) else None)
            return super().construct_mapping(node, deep)

    return Loader


def _said(error: Any) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    problem = getattr(error, "problem", None) or str(error)
    if "could not determine a constructor for the tag" in problem:
        problem += "; files of experiments are plain data, and make no objects"
    return f"{place}{problem}"


def _nearby(path: str) -> str:
    folder, name = os.path.split(path)
    try:
        there = [one for one in os.listdir(folder or ".") if one.endswith((".yaml", ".yml"))]
    except OSError:
        return ""
    near = difflib.get_close_matches(name, there, 1)
    return f"; did you mean {os.path.join(folder, near[0])}?" if near else ""
