"""`graphray plot` and `graphray rl list`."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from graphray import rl
from graphray.cli import main
from graphray.rl.plotting import curves, find_runs


def make_run(directory, rewards, steps=100, **varied):
    directory.mkdir(parents=True)
    params = {"experiment": "name", "run": "PPO", "env": "CartPole-v1", "varied": varied}
    (directory / "params.json").write_text(json.dumps(params))
    rows = [
        {"timesteps_total": steps * (i + 1), "episode_reward_mean": reward, "evaluation": {"x": reward}}
        for i, reward in enumerate(rewards)
    ]
    (directory / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path / "runs" / "a0", [None, 1.0, 2.0, 3.0], lr=0.1, seed=0)
    make_run(tmp_path / "runs" / "a1", [1.0, 3.0, 4.0], lr=0.1, seed=1)
    make_run(tmp_path / "runs" / "b0", [5.0, 5.0], lr=0.2, seed=0)
    return str(tmp_path / "runs")


def test_runs_that_differ_in_their_seed_are_one_curve(runs):
    both, alone = curves(find_runs([runs]))
    assert (both.label, both.runs, alone.label, alone.runs) == ("name lr=0.1", 2, "name lr=0.2", 1)
    # Where both are: from 200 to 300 steps. The one is 1 and 2 there, the other 3 and 4.
    assert (both.x[0], both.x[-1]) == (200, 300)
    assert (both.mean[0], both.mean[-1]) == (2.0, 3.0)
    np.testing.assert_allclose(both.deviation, 2**0.5)
    assert alone.mean.tolist() == [5.0, 5.0]


def test_a_picture_is_drawn(runs, tmp_path):
    path = tmp_path / "new" / "curves.png"
    command = [sys.executable, "-m", "graphray", "plot", runs, "-o", path]  # matplotlib keeps its fonts open
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == [
        "name lr=0.1, 2 seeds: 3 at 300",
        "name lr=0.2: 5 at 200",
        f"written to {path}",
    ]
    with Image.open(path) as picture:
        assert picture.size == (1200, 750)
        assert len(set(picture.convert("RGB").get_flattened_data())) > 50


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no directory"),
        (["{}"], "holds no run"),
        (["{}/runs", "--y", "episode_reward_meen"], "no run has a result 'episode_reward_meen' yet; did you mean"),
        (["{}/runs", "-o", "x.txt"], "x.txt: a plot is a .png, .svg or .pdf"),
    ],
)
def test_what_cannot_be_drawn_is_said(runs, tmp_path, capsys, arguments, said):
    empty = tmp_path / "empty"
    empty.mkdir()
    places = [a.replace("{}/runs", runs).replace("{}", str(empty)) for a in arguments]
    assert main(["plot", *places]) == 2
    assert said in capsys.readouterr().err


def test_what_there_is_is_listed(capsys):
    assert main(["rl", "list"]) == 0
    text = capsys.readouterr().out
    for name in (*rl.ALGORITHMS, "StatelessCartPole", "OrnsteinUhlenbeckNoise"):
        assert name in text


@pytest.mark.parametrize("name", rl.ALGORITHMS)
def test_a_configuration_is_listed_with_its_defaults(capsys, name):
    assert main(["rl", "list", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    defaults = getattr(rl, name).default_config()
    assert found.keys() == defaults.keys()
    for entry, value in defaults.items():
        if entry != "model":
            assert found[entry]["default"] == str(list(value) if isinstance(value, tuple) else value), entry
    assert main(["rl", "list", name]) == 0
    assert "(RLlib: " in capsys.readouterr().out


def test_a_configuration_that_is_not_there_is_suggested(capsys):
    assert main(["rl", "list", "ppo"]) == 2
    assert "there is no configuration of 'ppo'; did you mean 'PPO'?" in capsys.readouterr().err
