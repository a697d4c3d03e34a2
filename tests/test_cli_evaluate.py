"""`graphray evaluate`, and videos of episodes."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from PIL import Image

from graphray import rl
from graphray.cli import main
from graphray.cli.evaluate import interval
from graphray.rl import video

SMALL = {"num_envs_per_worker": 2, "train_batch_size": 64, "num_sgd_iter": 1, "model": {"fcnet_hiddens": [4]}}


class Done(NamedTuple):
    status: int
    out: str
    err: str


class Flag(gymnasium.Env):
    """Draws a picture that is red, then green, then blue; an episode has three steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, draws: bool = True) -> None:
        self.render_mode = render_mode if draws else None
        self.observation_space = gymnasium.spaces.Box(0, 3, (1,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, self.t == 3, False, {}

    def render(self) -> Any:
        picture = np.zeros((7, 9, 3), np.uint8)
        picture[:, :, self.t % 3] = 255
        return picture


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's directory, with two checkpoints of PPO on CartPole-v1."""
    directory = tmp_path_factory.mktemp("run")
    algo = rl.PPO("CartPole-v1", SMALL)
    for _ in range(2):
        algo.train()
        algo.save(str(directory / f"checkpoint_{algo.iteration:06d}"))
    return directory


@pytest.fixture
def graphray(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def graphray(*arguments: Any) -> Done:
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return graphray


def test_each_episode_is_printed_and_their_mean_with_an_interval(graphray, run):
    done = graphray("evaluate", run, "--episodes", 4, "--seed", 3)
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == ["episode", "reward", "length"]
    rewards = [float(line.split()[1]) for line in lines[1:5]]
    expected = rl.load(str(run), seed=3).evaluate(episodes=4)["hist_stats"]["episode_reward"]
    assert rewards == expected
    mean, margin = interval(rewards)
    assert lines[5].startswith(f"mean reward {mean:.6g} ± {margin:.6g} (95 %) in 4 episodes, length ")


def test_a_checkpoint_is_named_by_its_directory_a_file_in_it_or_the_run(graphray, run):
    last = run / "checkpoint_000002"
    found = [json.loads(graphray("evaluate", path, "--json").out) for path in (run, last, last / "checkpoint.json")]
    assert found[0] == found[1] == found[2]
    assert (found[0]["checkpoint"], found[0]["run"], found[0]["episodes"]) == (str(last), "PPO", 10)
    earlier = json.loads(graphray("evaluate", run / "checkpoint_000001", "--json").out)
    assert earlier["checkpoint"] != found[0]["checkpoint"]


def test_steps_and_exploration(graphray, run):
    steps = json.loads(graphray("evaluate", run, "--steps", 100, "--json").out)
    lengths = steps["hist_stats"]["episode_lengths"]
    assert sum(lengths) >= 100 > sum(lengths[:-1])
    one = graphray("evaluate", run, "--episodes", 1)
    assert "mean reward" in one.out
    assert "±" not in one.out
    assert graphray("evaluate", run, "--episodes", 8, "--explore").out != graphray("evaluate", run, "--episodes", 8).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "DQN"], "is of PPO, not of DQN"),
        (["--run", "PPPO"], "there is no algorithm 'PPPO'; did you mean 'PPO'?"),
        (["--env", "Acrobot-v1"], "is of PPO trained in CartPole-v1, not in Acrobot-v1"),
        (["--steps", "1", "--episodes", "1"], "not allowed with argument"),
    ],
)
def test_what_does_not_fit_is_refused(graphray, run, arguments, said):
    done = graphray("evaluate", run, *arguments)
    assert done.status == 2
    assert said in done.err


def test_what_is_no_checkpoint_is_refused(graphray, tmp_path):
    assert "there is no checkpoint" in graphray("evaluate", tmp_path / "nothing").err
    assert "is no checkpoint, and holds none" in graphray("evaluate", tmp_path).err


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.706), (10, 2.2622), (100, 1.9842)])
def test_the_interval_is_students(count, quantile):
    values = np.random.default_rng(count).normal(size=count)
    mean, margin = interval(values.tolist())
    assert mean == pytest.approx(values.mean())
    assert margin == pytest.approx(quantile * values.std(ddof=1) / count**0.5, rel=1e-4)


# ---- videos


def no_ffmpeg(monkeypatch):
    monkeypatch.setattr(video.shutil, "which", lambda _: None)


def test_videos_show_what_the_environment_drew(tmp_path, monkeypatch):
    no_ffmpeg(monkeypatch)
    algo = rl.PPO(Flag, SMALL)
    algo.evaluate(episodes=2, video_dir=str(tmp_path / "videos"))
    names = sorted(os.listdir(tmp_path / "videos"))
    assert names == ["episode_000_reward_3.gif", "episode_001_reward_3.gif"]
    with Image.open(tmp_path / "videos" / names[0]) as film:
        assert (film.size, film.n_frames, film.info["duration"]) == ((9, 7), 4, 250)
        colours = []
        for number in range(film.n_frames):
            film.seek(number)
            colours.append(film.convert("RGB").getpixel((4, 3)))
    assert colours == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 0)]


def test_record_env_films_the_first_episode_of_each_evaluation_and_changes_no_result(tmp_path, monkeypatch):
    no_ffmpeg(monkeypatch)
    more = {"evaluation_interval": 2, "evaluation_duration": 3}
    plain = rl.PPO(Flag, SMALL, **more)
    filmed = rl.PPO(Flag, SMALL, **more, record_env=str(tmp_path / "films"))
    for _ in range(4):
        assert plain.train()["info"] == filmed.train()["info"]
    assert plain.train()["evaluation"] == filmed.train()["evaluation"]
    expected = [f"iteration_00000{i}_episode_000_reward_3.gif" for i in (2, 4)]
    assert sorted(os.listdir(tmp_path / "films")) == expected


def test_with_ffmpeg_there_are_mp4s(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text('#!/bin/sh\necho "$@" > "$(dirname "$0")/said"\nfor last; do :; done\ncat > "$last"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    frames = np.arange(2 * 7 * 9 * 3, dtype=np.uint8).reshape(2, 7, 9, 3)
    path = video.write(str(tmp_path / "film"), iter(frames), (7, 9, 3), 4)
    assert path == str(tmp_path / "film.mp4")
    assert Path(path).read_bytes() == frames.tobytes()
    assert "-s 9x7 -r 4 " in (tmp_path / "said").read_text()
    program.write_text("#!/bin/sh\ncat > /dev/null\necho no such codec >&2\nexit 3\n")
    with pytest.raises(OSError, match="no such codec"):
        video.write(str(tmp_path / "film"), iter(frames), (7, 9, 3), 4)


def test_an_environment_that_does_not_draw_says_so(tmp_path):
    algo = rl.PPO(Flag, SMALL, env_config={"draws": False})
    with pytest.raises(ValueError, match="cannot be recorded: it does not take render_mode='rgb_array'"):
        algo.evaluate(episodes=1, video_dir=str(tmp_path))


def test_cartpole_is_filmed_from_the_command_line(graphray, run, tmp_path, monkeypatch):
    no_ffmpeg(monkeypatch)
    done = graphray("evaluate", run, "--episodes", 1, "--video-dir", "films")
    assert done.out.splitlines()[-1] == "videos in films"
    (name,) = os.listdir(tmp_path / "films")
    with Image.open(tmp_path / "films" / name) as film:
        assert film.size == (600, 400)
