"""Algorithms as people use them: an environment, a configuration, `train()`."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

import graphray as gr
from graphray.executors.start import choose
from graphray.rl import checkpoint, evaluation, keys, results
from graphray.rl import config as configuration
from graphray.rl.compilation import keep_programs
from graphray.rl.environments import Environment, make, name_of, register
from graphray.rl.options import ConfigError, build, options
from graphray.rl.policy import Policy
from graphray.rl.registry import imported
from graphray.rl.spaces import decoder, encoder
from graphray.rl.training import Plan, Step, Training, algorithm_of, begin, iteration, no_step
from graphray.rl.workers import Workers

__all__ = ["Algorithm"]

EVALUATION, ACTIONS = 2, 4  # what keys are for; see `training`
_SAME_THREADS = 1
"""Threads of XLA for updates, whatever the machine: with another number the last bits may be others."""


class Algorithm:
    """A reinforcement learning algorithm in an environment: what `PPO`, `DQN` and `SAC` have in common.

    Its state is a value, `state`: `step` is a pure function of it, and `train` replaces it.

    Args:
        env: a gymnasium id, a class, a function that makes an environment, `"module.Class"`, or a registered name.
        config: entries of the configuration, by name. RLlib's names; see `default_config()`.
        executor: an engine, or its name; None: the calling process with `num_workers=0`, else a pool of so many
            processes.
        entries: more entries, as keywords.

    Raises:
        ConfigError: an entry that is not known, or a value that it cannot have.
        TypeError, ValueError: the environment cannot be used, with this algorithm or at all.
    """

    Config: ClassVar[type[configuration.Config]] = configuration.Config
    on_policy: ClassVar[bool] = True

    def __init__(
        self,
        env: Any = None,
        config: Mapping[str, Any] | configuration.Config | None = None,
        *,
        executor: Any = None,
        **entries: Any,
    ) -> None:
        given = config.to_dict() if isinstance(config, configuration.Config) else dict(config or {})
        given |= entries
        if env is not None:
            given["env"] = env
        self.config = build(self.Config, given, type(self).__name__)
        if self.config.env is None:
            raise ConfigError(f"{type(self).__name__} needs an environment: {type(self).__name__}('CartPole-v1')")
        if self.config.render_env:
            raise ConfigError("render_env: no windows are opened; record_env and evaluate(video_dir=…) write videos")
        if "log_level" in given:
            logging.getLogger("graphray.rl").setLevel(self.config.log_level)
        self._executor = executor
        self._owned: Any = None
        self._actions = 0
        self._times = {"time_this_iter_s": 0.0, "time_total_s": 0.0}
        self._evaluation: dict[str, Any] = {}
        self.env = self._register(self.config)
        self.plan = self.make_plan(self.config, self.env)
        self.state: Training = self.init()
        self.workers = Workers(self)
        self._callbacks = _made(self.config.callbacks)

    # ---- what an algorithm defines

    @classmethod
    def setup(cls, config: Any, env: Environment) -> Any:
        """What shapes its programs, a hashable value."""
        raise NotImplementedError

    @classmethod
    def host_policy(cls, config: Any, env: Environment, setup: Any) -> Any:
        """How actions are chosen where environments are stepped."""
        raise NotImplementedError

    @staticmethod
    def make(setup: Any, hyper: dict[str, Any], key: Any) -> Any:
        """An agent that has learned nothing yet: a pytree with `params`, where "policy" is, and `statistics`."""
        raise NotImplementedError

    @classmethod
    def exploring(cls, plan: Plan, training: Training) -> dict[str, Any]:
        """The numbers that its policy explores by."""
        return {}

    @classmethod
    def init_replay(cls, plan: Plan, key: Any) -> Any:
        """What is kept of past transitions, before there are any; None: nothing."""
        return None

    @classmethod
    def improve(cls, plan: Plan, agent: Any, replay: Any, trajectory: Any) -> tuple[Any, Any, dict[str, float]]:
        """Agent, replay and metrics after learning from a trajectory."""
        raise NotImplementedError

    # ---- what follows from that

    @classmethod
    def init_agent(cls, setup: Any, hyper: dict[str, Any], key: Any) -> Any:
        """An agent that has learned nothing yet, as NumPy's arrays."""
        import jax

        return jax.device_get(cls.make(setup, hyper, key))

    @classmethod
    def weights(cls, plan: Plan, training: Training) -> dict[str, Any]:
        """The parameters of the host's policy."""
        from graphray.rl.learning import filter_of

        agent = training.agent
        made = {"policy": agent.params["policy"], "explore": cls.exploring(plan, training)}
        seen = filter_of(agent.statistics)
        return made if seen is None else {**made, "filter": seen}

    # ---- configuration

    @classmethod
    def default_config(cls) -> dict[str, Any]:
        """Every entry of the configuration, by name, with its default."""
        return cls.Config().to_dict()

    def get_config(self) -> dict[str, Any]:
        """The configuration, by name."""
        return self.config.to_dict()

    @classmethod
    def make_plan(cls, config: Any, env: Environment) -> Plan:
        """What the stages of a training need to know."""
        num_envs = config.num_envs or max(1, config.num_workers) * config.num_envs_per_worker
        num_shards = min(config.num_shards or max(1, config.num_workers), num_envs)
        shards = tuple(tuple(shard.tolist()) for shard in np.array_split(np.arange(num_envs), num_shards))
        fragment, cycles = cls.lengths(config, num_envs)
        setup = cls.setup(config, env)
        return Plan(
            algorithm=cls.__name__,
            setup=setup,
            env=env,
            policy=cls.host_policy(config, env, setup),
            shards=shards,
            fragment=fragment,
            cycles=cycles,
            explore=config.explore,
            complete=config.batch_mode == "complete_episodes",
            recreate=config.recreate_failed_env,
            timeout=config.env_timeout,
            gpus=config.num_gpus,
            task_fn=config.env_task_fn,
        )

    @classmethod
    def lengths(cls, config: Any, num_envs: int) -> tuple[int, int]:
        """Steps of each environment in a rollout, and rollouts in an iteration."""
        steps = -(-config.train_batch_size // num_envs)
        fragment = config.rollout_fragment_length or steps
        return -(-steps // fragment) * fragment, 1

    @classmethod
    def check(cls, config: configuration.Config) -> None:
        """Whether it could be made with a configuration: the environment is there, and suits the algorithm.

        Raises:
            ConfigError, TypeError, ValueError: it could not.
        """
        cls.make_plan(config, cls._register(config, probe=False))

    @classmethod
    def _register(cls, config: configuration.Config, probe: bool = True) -> Environment:
        model = config.whole_model()
        return register(
            config.env,
            config.env_config,
            horizon=config.horizon,
            framestack=model["framestack"],
            sequence_length=model["sequence_length"],
            probe=probe,
        )

    def hyper(self) -> dict[str, Any]:
        """The hyperparameters that are traced, by name."""
        return {
            name: np.float32(getattr(self.config, name)) for name, about in options(self.config).items() if about.traced
        }

    # ---- the pure form

    def init(self, seed: int | None = None) -> Training:
        """A training before its first iteration."""
        _start_jax()
        return begin(self.plan, self.hyper(), self.config.seed if seed is None else seed)

    def step(self, state: Training) -> tuple[Training, dict[str, Any]]:
        """The training after one more iteration, and its result. The algorithm itself stays as it was."""
        done: Step = self.compute(iteration(self.plan, state))
        return done.training, results.summary(done)

    def graph(self, iterations: int = 1) -> gr.Graph:
        """So many iterations from the present state as a graph, with the outputs `state`, `metrics` and `policy`.

        With a cache a run of it that is interrupted goes on where it was.
        """
        start = no_step(self.state)
        last = gr.iterate(functools.partial(_iterate, self.plan), start, steps=iterations)
        return gr.Graph(
            state=gr.call(_training, last),
            metrics=gr.call(results.summary, last),
            policy=gr.call(functools.partial(_weights, self.plan), last),
        )

    # ---- training

    def train(self) -> dict[str, Any]:
        """Train for one iteration.

        Returns:
            `episode_reward_mean` (`_min`, `_max`), `episode_len_mean`, `timesteps_total`, `episodes_total`,
            `training_iteration`, `time_total_s`, the learner's statistics under `info`, and more.
        """
        begun = time.perf_counter()
        before = self.state.progress.steps
        self.state, result = self.step(self.state)
        took = time.perf_counter() - begun
        self._times = {"time_this_iter_s": took, "time_total_s": self._times["time_total_s"] + took}
        result |= self._times
        result["timesteps_this_iter"] = result["timesteps_total"] - before
        every = self.config.evaluation_interval
        if every and result["training_iteration"] % every == 0:
            self._evaluation = self.evaluate()
        if self._evaluation:
            result["evaluation"] = self._evaluation
        self._call("on_train_result", result=result)
        return result

    def learn(
        self, steps: int, dir: str | None = None, resume: bool = False, *, checkpoint_freq: int = 10
    ) -> dict[str, Any]:
        """Train until so many environment steps have been made in all.

        Args:
            steps: since the beginning of the training.
            dir: where checkpoints are written, every `checkpoint_freq` iterations and at the end.
            resume: go on from the last checkpoint there, if there is one.
            checkpoint_freq: iterations.

        Returns:
            The last iteration's result; of no iteration, if there is nothing left to do.

        Raises:
            FileExistsError: there is a training in `dir` already, and `resume` is not asked for.
        """
        if dir is not None and os.path.isdir(dir) and any(name.startswith("checkpoint_") for name in os.listdir(dir)):
            if not resume:
                raise FileExistsError(f"there is a training in {dir} already; resume=True goes on with it")
            self.restore(dir)
        result = {**results.summary(no_step(self.state)), **self._times}
        saved = self.state.progress.iterations
        while self.state.progress.steps < steps:
            result = self.train()
            if dir is not None and result["training_iteration"] % checkpoint_freq == 0:
                saved = result["training_iteration"]
                self.save(os.path.join(dir, f"checkpoint_{saved:06d}"))
        if dir is not None and saved != self.state.progress.iterations:
            self.save(os.path.join(dir, f"checkpoint_{self.state.progress.iterations:06d}"))
        return result

    def evaluate(
        self, checkpoint: str | None = None, *, episodes: int | None = None, video_dir: str | None = None
    ) -> dict[str, Any]:
        """Play episodes of the policy's best actions, in environments of their own.

        Args:
            checkpoint: play its policy; the algorithm stays as it was.
            episodes: how many; None: what the configuration's `evaluation_duration` says.
            video_dir: write a video of each episode there; None: of the first one where `record_env` says.

        Returns:
            `episode_reward_mean` (`_min`, `_max`), `episode_len_mean`, `episodes`, and `hist_stats` with each episode's
            reward and length.
        """
        state = self.state if checkpoint is None else self._read(checkpoint)
        config = self.config
        special = config.evaluation_config
        changed = {name: value for name, value in special.items() if name in ("env", "env_config", "horizon")}
        env = self._register(config.with_entries(changed, "evaluation_config")) if changed else self.env
        explore = bool(special.get("explore", False))
        number = episodes or (config.evaluation_duration if config.evaluation_duration_unit == "episodes" else 0)
        parts = config.evaluation_num_workers or max(1, config.num_workers)
        weights = self.weights(self.plan, state)
        key = keys.fold_in(keys.root(config.seed), EVALUATION)
        policy_node = gr.value(self.plan.policy)
        recorded = self._recorded(state, video_dir)
        task = gr.task(pure=recorded is None)(_play)
        more = {"key": key, "explore": explore, "recorded": recorded}
        played: list[tuple[float, int]] = []
        steps = 0
        while True:
            count = number or parts
            index = np.array_split(np.arange(len(played), len(played) + count), min(parts, count))
            chunks = self.compute(gr.map(task, index, env=gr.value(env), policy=policy_node, params=weights, **more))
            for chunk in chunks:
                played += zip(chunk.total.tolist(), chunk.length.tolist(), strict=True)
                steps += int(chunk.length.sum())
            if number or steps >= config.evaluation_duration:
                return _evaluated(played)

    def _recorded(self, state: Training, video_dir: str | None) -> tuple[str, str, int | None] | None:
        """Of what videos are made: their directory, what their names begin with, and how many at most."""
        if video_dir is not None:
            return os.path.abspath(video_dir), "", None
        if self.config.record_env:
            return os.path.abspath(self.config.record_env), f"iteration_{state.progress.iterations:06d}_", 1
        return None

    def compute_single_action(
        self, observation: Any, state: Any = None, *, explore: bool | None = None, **_: Any
    ) -> Any:
        """The action for one observation.

        Args:
            observation: as the environment shows it.
            state: what a recurrent policy remembers; `get_initial_state()` at the beginning of an episode.
            explore: whether it is drawn; None: what the configuration says. Otherwise the best one is taken.

        Returns:
            The action; for a policy that remembers (or where `state` is given) action, next state and a dict.
        """
        actions, states = self._act([observation], [state], explore)
        if state is None and not self.plan.policy.memory:
            return actions[0]
        return actions[0], states[0], {}

    def compute_actions(
        self, observations: Mapping[Any, Any], state: Mapping[Any, Any] | None = None, *, explore: bool | None = None
    ) -> Any:
        """Actions for observations, each under its key; with `state` (or a policy that remembers) next states too."""
        names = list(observations)
        given = [None if state is None else state.get(name) for name in names]
        actions, states = self._act([observations[name] for name in names], given, explore)
        made = dict(zip(names, actions, strict=True))
        if state is None and not self.plan.policy.memory:
            return made
        return made, dict(zip(names, states, strict=True)), {}

    def get_initial_state(self) -> list[Any]:
        """What a recurrent policy remembers before an episode; an empty list for others."""
        memory = self.plan.policy.memory
        return [np.zeros(memory, np.float32)] if memory else []

    def _act(self, observations: list[Any], states: list[Any], explore: bool | None) -> tuple[list[Any], list[Any]]:
        policy, layout = self.plan.policy, self.env.observation
        explore = self.config.explore if explore is None else explore
        rows = max(2, len(observations))  # a batch of one takes another code path, and gives other bits
        block = np.zeros((rows, *layout.shape), layout.dtype)
        memory = np.zeros((rows, policy.memory), np.float32)
        write, decode = encoder(self.observation_space, layout), decoder(self.env.action)
        for i, (observation, state) in enumerate(zip(observations, states, strict=True)):
            try:
                write(observation, block[i])
            except (TypeError, ValueError, KeyError, IndexError) as error:
                raise ValueError(f"an observation does not fit {self.observation_space}: {error}") from error
            if state is not None and len(state):
                memory[i] = state[0]
        noise = None
        if explore:
            key = keys.fold_in(keys.fold_in(keys.root(self.config.seed), ACTIONS), self._actions + np.arange(rows))
            self._actions += len(observations)
            noise = policy.noise(key)
        action, _, memory = policy.acting(self.weights(self.plan, self.state))(block, memory, noise)
        states = [[memory[i].copy()] if policy.memory else [] for i in range(len(observations))]
        return [_plain(decode(action[i])) for i in range(len(observations))], states

    # ---- looking at it

    def get_policy(self) -> Policy:
        """Its policy: weights, network, actions."""
        return Policy(self)

    @functools.cached_property
    def _spaces(self) -> tuple[Any, Any]:
        with contextlib.closing(make(self.env)) as live:
            return live.observation_space, live.action_space

    @property
    def observation_space(self) -> Any:
        """What the environment shows."""
        return self._spaces[0]

    @property
    def action_space(self) -> Any:
        """What it accepts."""
        return self._spaces[1]

    @property
    def iteration(self) -> int:
        """How many iterations have been made."""
        return self.state.progress.iterations

    def __repr__(self) -> str:
        progress = self.state.progress
        done = f"{progress.iterations} iterations, {progress.steps:,} steps"
        return f"<{type(self).__name__} on {name_of(self.env)}: {done}>"

    # ---- checkpoints

    def save(self, dir: str | None = None) -> str:
        """Write a checkpoint, and give its path.

        Args:
            dir: where; None: `checkpoint_000010` and so on in a new directory under `~/graphray_results`.
        """
        if dir is None:
            dir = os.path.join(self._results(), f"checkpoint_{self.state.progress.iterations:06d}")
        about = {
            "algorithm": type(self).__name__,
            "config": configuration.to_json(self.config),
            "time_total_s": self._times["time_total_s"],
            "evaluation": self._evaluation,
            "graphray": gr.__version__,
        }
        return checkpoint.write(dir, about, self.state)

    def restore(self, path: str) -> None:
        """Go on from a checkpoint: of this algorithm, in an environment with the same spaces.

        Raises:
            CheckpointError: there is none, it is damaged, or does not fit. The algorithm is as it was, then.
        """
        self.state = self._read(path)
        about = checkpoint.read_about(path)
        self._times["time_total_s"] = float(about.get("time_total_s", 0.0))
        self._evaluation = about.get("evaluation", {})  # results go on telling the latest

    def _read(self, path: str) -> Training:
        about, state = checkpoint.read(path)
        if about.get("algorithm") != type(self).__name__:
            raise checkpoint.CheckpointError(
                f"{about['directory']} is of {about.get('algorithm')}, and cannot be restored by {type(self).__name__}"
            )
        differences = checkpoint.differences(self.state, state)
        if differences:
            raise checkpoint.CheckpointError(
                f"{about['directory']} does not fit {type(self).__name__} on {name_of(self.env)}: {differences}"
            )
        return state  # type: ignore[no-any-return]

    @classmethod
    def from_checkpoint(cls, about: Mapping[str, Any], *, executor: Any = None, **entries: Any) -> Self:
        """An algorithm configured as the one that a checkpoint is of."""
        return cls(config={**configuration.from_json(about["config"]), **entries}, executor=executor)

    def _results(self) -> str:
        if not hasattr(self, "_directory"):
            when = time.strftime("%Y-%m-%d_%H-%M-%S")
            name = f"{type(self).__name__}_{name_of(self.env).replace('/', '-')}_{when}_{os.getpid():x}"
            self._directory = os.path.expanduser(os.path.join("~", "graphray_results", name))
        return self._directory

    # ---- engines

    def compute(self, graph: Any) -> Any:
        """The value of a graph or node, on this algorithm's engine, which is kept warm until `stop`."""
        if not isinstance(graph, gr.Graph):
            graph = gr.Graph(graph) if isinstance(graph, gr.Node) else gr.Graph(gr.call(list, list(graph)))
        return graph.compute(executor=self._engine())

    def _engine(self) -> Any:
        wanted = self._executor
        if wanted is not None and not isinstance(wanted, str):
            return wanted
        if self._owned is None:
            workers = self.config.num_workers
            name = wanted or ("loky" if workers else "inprocess")
            number = workers if name == "loky" and workers else None
            self._owned, _ = choose(name, number, self.config.num_cpus_per_worker if name != "inprocess" else None)
        return self._owned

    def stop(self) -> None:
        """End the processes that it started. It can still be used: they are started again then."""
        owned, self._owned = self._owned, None
        if owned is not None:
            owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def _call(self, name: str, **given: Any) -> None:
        method = getattr(self._callbacks, name, None)
        if method is not None:
            method(algorithm=self, **given)


def _iterate(plan: Plan, step: Step) -> gr.Node:
    return iteration(plan, step)


def _training(step: Step) -> Training:
    return step.training


def _weights(plan: Plan, step: Step) -> Any:
    return algorithm_of(plan).weights(plan, step.training)


def _play(
    index: Any, env: Environment, policy: Any, params: Any, key: Any, explore: bool, recorded: Any
) -> evaluation.Episodes:
    recorder = None
    if recorded is not None:
        from graphray.rl.video import Recorder

        recorder = Recorder(*recorded)
    return evaluation.evaluate(env, policy, params, key, index, explore=explore, recorder=recorder)


def _evaluated(played: list[tuple[float, int]]) -> dict[str, Any]:
    totals, lengths = zip(*played, strict=True)
    return {
        "episode_reward_mean": float(np.mean(totals)),
        "episode_reward_min": min(totals),
        "episode_reward_max": max(totals),
        "episode_len_mean": float(np.mean(lengths)),
        "episodes": len(played),
        "hist_stats": {"episode_reward": list(totals), "episode_lengths": list(lengths)},
    }


def _plain(action: Any) -> Any:
    return int(action) if isinstance(action, np.integer) else action


def _made(callbacks: Any) -> Any:
    if isinstance(callbacks, str):
        callbacks = imported(callbacks, "callbacks")
        if not any(name.startswith("on_") for name in dir(callbacks)):
            raise ConfigError(f"callbacks: {callbacks!r} has no methods such as on_train_result")
    return callbacks() if isinstance(callbacks, type) else callbacks


def _start_jax() -> None:
    """Have XLA use one thread, if it has not started, and keep what it compiles.

    With one thread for each core, the last bits of results would depend on the machine.
    """
    keep_programs()
    if _has_started():
        return
    before = os.environ.get("NPROC")
    os.environ["NPROC"] = str(_SAME_THREADS)
    try:
        import jax

        jax.devices()
    finally:
        if before is None:
            del os.environ["NPROC"]
        else:
            os.environ["NPROC"] = before


def _has_started() -> bool:
    import jax

    bridge: Any = jax._src.xla_bridge  # there is no public way to ask without starting it
    return bool(getattr(bridge, "backends_are_initialized", lambda: True)())
