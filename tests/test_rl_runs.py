"""Runs: what is in their directory, and that one that is killed at any moment goes on as if it had not been."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphray.rl import experiment, records, runs
from graphray.rl.records import CLOCKS, Records, read_rows

CONFIG = {
    "env": "CartPole-v1",
    "num_envs_per_worker": 2,
    "train_batch_size": 32,
    "sgd_minibatch_size": 32,
    "num_sgd_iter": 1,
    "evaluation_interval": 3,
    "evaluation_duration": 2,
    "model": {"fcnet_hiddens": [4]},
}


def trial(iterations=8, name="test", **more):
    entry = {"run": "PPO", "config": CONFIG, "stop": {"training_iteration": iterations}, "checkpoint_freq": 2, **more}
    (one,) = experiment.from_mapping({name: entry}, "")
    return one


def without_clocks(directory):
    """The records of a run, less what differs when it is made again."""
    rows = [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_rows(directory)]
    with open(os.path.join(directory, "progress.csv"), newline="") as file:
        table = list(csv.DictReader(file))
    return rows, [{k: v for k, v in row.items() if k not in CLOCKS} for row in table]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody interrupted: its outcome."""
    planned = trial()
    return runs.train(planned, runs.prepare(planned, str(tmp_path_factory.mktemp("whole"))))


# ---- the directory


def test_what_is_in_a_runs_directory(whole):
    assert whole.status == "done"
    names = set(os.listdir(whole.directory))
    assert {"params.json", "result.json", "progress.csv", "checkpoint_000002", "checkpoint_000008"} <= names
    assert any(name.startswith("events.out.tfevents.") for name in names)
    params = json.loads(Path(whole.directory, "params.json").read_text())
    assert (params["run"], params["env"], params["config"]["train_batch_size"]) == ("PPO", "CartPole-v1", 32)
    rows, table = without_clocks(whole.directory)
    assert [row["training_iteration"] for row in rows] == list(range(1, 9))
    assert [row["training_iteration"] for row in table] == [str(i) for i in range(1, 9)]
    assert [row["timesteps_total"] for row in rows] == [32 * i for i in range(1, 9)]
    # The first evaluation, in iteration 3, has brought new columns.
    assert [row["evaluation/episodes"] for row in table] == ["", "", *["2"] * 6]
    assert rows[2]["evaluation"]["hist_stats"]["episode_lengths"]


def test_directories_are_named_and_new_ones_do_not_collide(tmp_path):
    planned = trial()._replace(varied={"lr": 0.001, "model.fcnet_hiddens": [4, 4]})
    first, second = (runs.prepare(planned, str(tmp_path)) for _ in range(2))
    assert first != second
    assert os.path.dirname(first) == str(tmp_path / "test")
    assert os.path.basename(first).startswith("PPO_CartPole-v1_00000_lr=0.001,fcnet_hiddens=4x4_20")
    assert runs.find(planned, str(tmp_path)) == second
    assert runs.find(planned._replace(number=1), str(tmp_path)) is None


def test_a_run_with_another_configuration_is_not_gone_on_with(tmp_path):
    planned = trial()
    runs.prepare(planned, str(tmp_path))
    other = planned._replace(config={**planned.config, "gamma": 0.5})
    with pytest.raises(runs.RunError, match=r"gamma was 'not set' there, and is 0\.5 here"):
        runs.find(other, str(tmp_path))


def test_only_the_latest_checkpoints_are_kept(tmp_path):
    planned = trial(6, keep_checkpoints_num=1)
    directory = runs.prepare(planned, str(tmp_path))
    runs.train(planned, directory)
    assert [name for name in os.listdir(directory) if name.startswith("checkpoint")] == ["checkpoint_000006"]


def test_two_processes_do_not_train_in_one_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "_PATIENCE", 0.1)
    directory = runs.prepare(trial(), str(tmp_path))
    with runs._held(directory), pytest.raises(runs.RunError, match="another process is training there"):
        runs.train(trial(), directory)


# ---- going on


def test_a_run_that_is_halted_goes_on_with_the_same_records(tmp_path, whole):
    planned = trial()
    directory = runs.prepare(planned, str(tmp_path))
    seen = []
    halted = runs.train(planned, directory, report=seen.append, halt=lambda: len(seen) == 5)
    assert (halted.status, halted.last["training_iteration"]) == ("halted", 5)
    assert "checkpoint_000005" in os.listdir(directory)
    assert runs.train(planned, directory).status == "done"
    assert without_clocks(directory) == without_clocks(whole.directory)


def test_a_run_that_is_done_is_not_trained_again_but_may_be_longer(tmp_path, whole):
    planned = trial(4)
    directory = runs.prepare(planned, str(tmp_path))
    runs.train(planned, directory)
    seen = []
    assert runs.train(planned, directory, report=seen.append).status == "done"
    assert seen == []
    assert runs.train(trial(8), directory).last["training_iteration"] == 8
    assert without_clocks(directory) == without_clocks(whole.directory)


def test_without_a_checkpoint_a_run_begins_anew(tmp_path, whole):
    planned = trial(checkpoint_freq=0)
    directory = runs.prepare(planned, str(tmp_path))

    def stumble(row):
        if row["training_iteration"] == 3:
            raise RuntimeError("here")

    with pytest.raises(RuntimeError, match="here"):
        runs.train(planned, directory, report=stumble)
    runs.train(planned, directory)
    assert without_clocks(directory) == without_clocks(whole.directory)


# Where the process is killed: for each function a few of its calls, at their beginning and at their end.
KILLING = """
import os, signal, sys
from graphray.rl import checkpoint, records, runs
sys.path.insert(0, {tests!r})
from test_rl_runs import trial

calls = 0

def deadly(function):
    def wrapped(*args, **kwargs):
        global calls
        calls += 1
        if calls == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        calls += 1
        if calls == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

records.Records.add = deadly(records.Records.add)
records.Records._write_csv = deadly(records.Records._write_csv)
checkpoint.write = deadly(checkpoint.write)
os.rename = deadly(os.rename)
os.replace = deadly(os.replace)
json = records.json
json.dumps = deadly(json.dumps)
runs.train(trial(), {directory!r})
"""


def test_a_run_that_is_killed_where_it_writes_goes_on_with_the_same_records(tmp_path, whole, rng):
    planned = trial()
    directory = runs.prepare(planned, str(tmp_path))
    at = rng.randrange(6, 60)
    code = KILLING.format(tests=os.path.dirname(__file__), directory=directory, at=at)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == -9, (at, done.stderr)
    assert runs.train(planned, directory).status == "done", at
    assert without_clocks(directory) == without_clocks(whole.directory), at
    assert not [name for name in os.listdir(directory) if name.startswith(".checkpoint")]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_command_that_is_killed_at_random_moments_goes_on_with_the_same_records(tmp_path, rng):
    text = json.dumps({"killed": {"run": "PPO", "config": CONFIG, "stop": {"training_iteration": 150}}})
    (tmp_path / "killed.yml").write_text(text)
    command = [sys.executable, "-m", "graphray", "train", "-f", "killed.yml", "--checkpoint-freq", "3", "--dir"]
    subprocess.run([*command, "whole"], cwd=tmp_path, check=True, timeout=100, capture_output=True)
    kills = 0
    while True:
        process = subprocess.Popen(
            [*command, "killed", "--resume"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        begun = rows = -1
        while process.poll() is None and time.monotonic() < deadline:  # to where it trains, and then a little further
            found = list(tmp_path.glob("killed/killed/*/result.json"))
            rows = len(found[0].read_bytes().splitlines()) if found else 0
            begun = rows if begun < 0 else begun
            if rows > begun + 5 and kills < 5:
                time.sleep(rng.uniform(0, 0.3))
                process.kill()
                kills += 1
                break
            time.sleep(0.002)
        if process.wait() == 0:
            break
    assert kills
    (whole,) = tmp_path.glob("whole/killed/*/")
    (killed,) = tmp_path.glob("killed/killed/*/")
    assert without_clocks(str(killed)) == without_clocks(str(whole))


# ---- records


def row(iteration, **more):
    times = {"timesteps_total": 10 * iteration, "time_total_s": 0.5}
    return {"training_iteration": iteration, **times, "reward": float("nan"), "info": {"loss": iteration / 3}, **more}


def test_records_that_were_cut_anywhere_are_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "tensorboard_is_there", lambda: False)

    def write(directory, rows, after=0):
        kept = Records(str(directory), after)
        for one in rows:
            kept.add(one)
        kept.close()

    rows = [row(1), row(2), row(3, evaluation={"mean": 1.5, "list": [1, 2]})]
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole", rows)
    expected = without_clocks(str(tmp_path / "whole"))
    assert expected[1][1] == {
        "training_iteration": "2",
        "timesteps_total": "20",
        "reward": "nan",
        "info/loss": repr(2 / 3),
        "evaluation/mean": "",
    }
    result = (tmp_path / "whole" / "result.json").read_bytes()
    progress = (tmp_path / "whole" / "progress.csv").read_bytes()
    (tmp_path / "cut").mkdir()
    first = result.index(b"\n") + 1  # a checkpoint of iteration 1 comes after all of its row
    for cut in range(first, len(result) + 1, 3):
        (tmp_path / "cut" / "result.json").write_bytes(result[:cut])
        (tmp_path / "cut" / "progress.csv").write_bytes(progress[: cut % len(progress)])
        write(tmp_path / "cut", rows[1:], after=1)
        assert without_clocks(str(tmp_path / "cut")) == expected, cut


def test_events_can_be_read_by_tensorboards_format(whole):
    from tensorboardX.proto.event_pb2 import Event

    (path,) = (name for name in os.listdir(whole.directory) if name.startswith("events."))
    data = Path(whole.directory, path).read_bytes()
    found, at = [], 0
    while at < len(data):  # length, its checksum, the event, its checksum
        size = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        at += 16 + size
    rewards = [(step, value) for step, tag, value in found if tag == "episode_reward_mean"]
    rows = [row for row in read_rows(whole.directory) if row["episode_reward_mean"] is not None]
    assert rewards == [(row["timesteps_total"], pytest.approx(row["episode_reward_mean"])) for row in rows]
