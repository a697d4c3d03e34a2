"""Compiled programs are kept, in a private directory."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import warnings
warnings.simplefilter("error")
from graphray import rl
with rl.PPO("CartPole-v1", train_batch_size=64, model={"fcnet_hiddens": [8]}) as algorithm:
    print(algorithm.train()["info"]["learner"]["total_loss"])
"""


def trained(place, **more):
    environment = {**os.environ, "GRAPHRAY_XLA_CACHE": str(place), **more}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=100)


def test_programs_are_kept_for_the_next_process_and_give_the_same(tmp_path):
    place = tmp_path / "programs"
    first = trained(place)
    assert first.returncode == 0, first.stderr
    kept = {path.name for path in place.iterdir() if not path.name.endswith("-atime")}
    assert kept
    assert place.stat().st_mode & 0o777 == 0o700
    second = trained(place)
    assert second.returncode == 0, second.stderr
    assert second.stdout == first.stdout
    assert {path.name for path in place.iterdir() if not path.name.endswith("-atime")} == kept


def test_a_directory_that_others_can_write_to_is_not_used(tmp_path):
    place = tmp_path / "programs"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    done = trained(place)
    assert "is not yours alone to write to" in done.stderr
    assert not list(place.iterdir())


def test_a_choice_of_the_users_own_is_left_alone(tmp_path):
    done = trained(tmp_path / "ours", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "theirs"))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ours").exists()
