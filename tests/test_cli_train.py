"""`graphray train`: from the command line to a directory of results, what it shows, and what it says when it cannot."""

from __future__ import annotations

import csv
import json
import signal
import sys
import textwrap
from typing import Any, NamedTuple

import pytest
from terminals import on_a_terminal, screen_after

from graphray.cli import main

SMALL = [
    *("--set", "train_batch_size=64", "--set", "num_envs_per_worker=2", "--set", "sgd_minibatch_size=64"),
    *("--set", "num_sgd_iter=1", "--set", "model.fcnet_hiddens=[4]"),
]

FILE = """
    first:
        run: PPO
        env: own_env_of_training.Own
        stop: {training_iteration: 4}
        config: &small
            {train_batch_size: 64, num_envs_per_worker: 2, sgd_minibatch_size: 64, num_sgd_iter: 1,
             lr: {grid_search: [1e-3, 1e-4]}, model: {fcnet_hiddens: [4]}}
    second:
        run: PPO
        env: CartPole-v1
        stop: {training_iteration: 3}
        config: {<<: *small, lr: 1e-2}
"""

OWN = """
    import gymnasium

    class Own(gymnasium.Wrapper):
        def __init__(self, config):
            super().__init__(gymnasium.make("CartPole-v1"))
            self.episodes = 0

        def reset(self, **kwargs):
            self.episodes += 1
            if self.episodes == 3:
                print("the third episode")
            return super().reset(**kwargs)
"""


class Done(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def graphray(tmp_path, monkeypatch, capsys):
    """Run a command in this process, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def graphray(*arguments: Any) -> Done:
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return graphray


@pytest.fixture
def files(tmp_path):
    (tmp_path / "custom.yml").write_text(textwrap.dedent(FILE))
    (tmp_path / "own_env_of_training.py").write_text(textwrap.dedent(OWN))


def test_a_run_without_a_file(graphray, tmp_path):
    arguments = ["train", "PPO", "CartPole-v1", "--stop", "timesteps_total=200", *SMALL, "--set", "lr=2e-3"]
    done = graphray(*arguments, "--dir", "results", "--checkpoint-freq", 3)
    assert done.status == 0
    head, row, where = done.out.splitlines()
    assert head.split() == ["run", "status", "iter", "steps", "reward", "length", "steps/s", "time"]
    assert row.split()[:4] == ["PPO_CartPole-v1", "done", "4", "256"]
    (directory,) = (tmp_path / "results" / "default").iterdir()
    assert where == f"results in {directory}"
    assert "PPO_CartPole-v1: done, iteration 4, 256 steps, reward" in done.err
    assert {"checkpoint_000003", "checkpoint_000004"} <= {path.name for path in directory.iterdir()}
    assert json.loads((directory / "params.json").read_text())["config"]["lr"] == 0.002
    with open(directory / "progress.csv", newline="") as file:
        assert [line["training_iteration"] for line in csv.DictReader(file)] == ["1", "2", "3", "4"]

    # It is done, and what is asked for twice is; asked for more, it goes on.
    assert graphray(*arguments, "--dir", "results", "--resume").out.splitlines()[-1] == where
    longer = graphray(*arguments, "--stop", "timesteps_total=300", "--dir", "results", "--resume", "--quiet")
    assert longer.out.splitlines()[1].split()[:4] == ["PPO_CartPole-v1", "done", "5", "320"]
    assert longer.err == ""
    assert len(list((tmp_path / "results" / "default").iterdir())) == 1


def test_a_file_of_experiments_on_a_terminal(tmp_path, files):
    command = [
        sys.executable,
        "-m",
        "graphray",
        "train",
        "-f",
        "custom.yml",
        "--dir",
        "results",
        "--executor",
        "loky:2",
    ]
    command = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', tmp_path, *command]
    status, seen = on_a_terminal(command, columns=110)
    assert status == 0
    lines = screen_after(seen)
    # What an environment prints stays, with the run that it is of; of the table there is one, at the end.
    printed = [line for line in lines if "the third episode" in line]
    assert len({line.partition("()")[0] for line in printed}) == 2
    assert all(line.startswith(("[first_00000() loky-", "[first_00001() loky-")) for line in printed)
    assert sum("steps/s" in line for line in lines) == 1
    table = [line.split()[:4] for line in lines if line.startswith(("first", "second"))]
    assert table == [
        ["first", "00000", "lr=1e-3", "done"],
        ["first", "00001", "lr=1e-4", "done"],
        ["second", "done", "3", "192"],
    ]
    assert lines[-3:] == [f"results in {tmp_path}/results/first", f"results in {tmp_path}/results/second", ""]
    assert "1 running, 2 waiting" in seen
    assert max(map(len, lines)) < 110
    assert len(list((tmp_path / "results" / "first").iterdir())) == 2


@pytest.mark.parametrize("several", [False, True])
def test_interrupted_it_leaves_checkpoints_and_says_how_to_go_on(tmp_path, several):
    more = ["--num-samples", "2", "--executor", "loky:2"] if several else []
    train = ["train", "PPO", "CartPole-v1", "--stop", "training_iteration=100000", *SMALL, "--dir", "results", *more]
    command = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', tmp_path, sys.executable, "-m", "graphray", *train]
    status, seen = on_a_terminal(command, columns=160, question=b"     64  ", answer=signal.SIGINT)
    assert status == 130, seen
    assert "ending after the iteration under way" in seen
    assert "graphray train: interrupted; to go on: graphray train PPO CartPole-v1 --stop" in seen
    assert seen.rstrip().endswith("--resume")
    runs = list((tmp_path / "results" / "default").iterdir())
    assert len(runs) == 1 + several
    begun = [run for run in runs if (run / "result.json").exists() and (run / "result.json").read_text()]
    assert begun
    for run in begun:
        last = json.loads((run / "result.json").read_text().splitlines()[-1])["training_iteration"]
        assert (run / f"checkpoint_{last:06d}" / "checkpoint.json").exists()


def test_a_run_that_fails_does_not_end_the_others(graphray, tmp_path):
    (tmp_path / "custom.yml").write_text(
        textwrap.dedent(FILE).replace("own_env_of_training.Own", "breaking_env_of_training.Breaking")
    )
    (tmp_path / "breaking_env_of_training.py").write_text(
        textwrap.dedent(OWN).replace("Own", "Breaking").replace('print("the third episode")', 'raise OSError("broken")')
    )
    done = graphray("train", "-f", "custom.yml", "--dir", "results", "--executor", "inprocess", "-q")
    assert done.status == 1
    assert ["failed" in line for line in done.out.splitlines()[1:4]] == [True, True, False]
    assert "OSError: broken" in done.err
    (failed, *_) = (tmp_path / "results" / "first").iterdir()
    assert "OSError: broken" in (failed / "error.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "what is to be trained?"),
        (["train", "-f", "custom.yml", "PPO"], "-f FILE says what is run"),
        (["train", "-f", "costom.yml"], "costom.yml: No such file or directory; did you mean custom.yml?"),
        (["train", "PPO"], "default has no env"),
        (["train", "PPO", "CartPole-v1", "--set", "lr"], "'lr' is not NAME=VALUE"),
        (["train", "PPO", "CartPole-v1", "--set", "lr=[1"], "lr=[1: the value is no YAML"),
        (["train", "PPO", "CartPole-v1", "--set", "lrr=1"], "default: config has no 'lrr'; did you mean 'lr'?"),
        (["train", "PPO", "CartPole-v1", "--set", "lr.x=1", "--set", "lr=2", "--set", "lr.y=1"], "has no entries"),
        (["train", "PPO", "CartPole-v1", "--stop", "steps=1"], "stop: there is no result 'steps'"),
        (["train", "PPO", "CartPole-v1", "--lr", "1"], "a parameter of the configuration is given with: --set lr="),
        (
            ["train", "PPO", "CartPole-v1", "--stop", "training_iteration=1", "--executor", "locky"],
            "no executor 'locky'",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_said_and_nothing_begins(graphray, files, tmp_path, arguments, said):
    done = graphray(*arguments, "--dir", "results")
    assert done.status == 2
    assert said in done.err
    assert done.err.startswith("graphray train: ")
    assert not (tmp_path / "results").exists()


def test_an_environment_that_cannot_be_imported_shows_where(graphray, tmp_path):
    (tmp_path / "broken_env_of_training.py").write_text("x = 1\ny = x / 0\n")
    done = graphray("train", "PPO", "broken_env_of_training.Env", "--stop", "training_iteration=1")
    assert done.status == 2
    assert "default: ZeroDivisionError: division by zero" in done.err
    assert "y = x / 0" in done.err
