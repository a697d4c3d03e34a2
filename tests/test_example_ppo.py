"""The example that trains PPO: it solves its task, and the same agent comes out wherever it is trained."""

from __future__ import annotations

import importlib.util
import pathlib
import sys

import numpy as np
import pytest

import graphray as gr

EXAMPLE = pathlib.Path(__file__).parents[1] / "examples" / "ppo_cartpole.py"


@pytest.fixture(scope="module")
def example():
    """The example as a module that workers find under its name, too."""
    sys.path.insert(0, str(EXAMPLE.parent))
    try:
        yield importlib.import_module(EXAMPLE.stem)
    finally:
        sys.path.remove(str(EXAMPLE.parent))
        del sys.modules[EXAMPLE.stem]


@pytest.fixture(scope="module")
def loky(example):
    """A pool that starts where the example can be imported, in place of the one that all tests share."""
    with gr.executors.Loky(2) as pool:
        pool.compute(gr.call(int))
        yield pool


@pytest.fixture(scope="module")
def small(example):
    """A short training of four shards of unequal size, in this process."""
    return example.pipeline(seed=3, num_envs=6, num_shards=4, batch=192, max_steps=600)


@pytest.fixture(scope="module")
def reference(small):
    return small.compute(executor="inprocess", threads_per_task=1)


def test_it_solves_cartpole(example, loky):
    run = example.pipeline(seed=0).run(executor=loky)
    result = run.result()
    summary = result["summary"]
    assert summary["solved"]
    assert summary["mean_return"] >= 475
    assert summary["steps"] <= 150_000
    reports = [event.data for event in run.events if isinstance(event, gr.executors.events.Emitted)]
    steps = [report["timesteps_total"] for report in reports]
    assert steps == [1024 * (i + 1) for i in range(summary["iterations"])]
    assert summary["training_return"] >= 0.85 * 475

    # The policy that comes out is the one that was evaluated: it does as well in episodes with other seeds.
    plan = example.rl.PPO("CartPole-v1").plan
    returns = example.evaluate.fn(np.arange(20), plan, result["policy"], seed=1234)
    assert np.mean(returns) >= 450


def test_it_stops_at_the_number_of_steps_asked_for(reference):
    summary = reference["summary"]
    assert 8 < summary["training_return"] < 100
    assert summary == {
        "environment": "CartPole-v1",
        "solved": False,
        "mean_return": None,
        "training_return": summary["training_return"],
        "steps": 576,
        "iterations": 3,
    }


def same(one, other):
    (here, there) = (result["policy"]["policy"] for result in (one, other))
    return one["summary"] == other["summary"] and all(
        here[layer][name].tobytes() == there[layer][name].tobytes() for layer in here for name in ("kernel", "bias")
    )


def test_two_workers_train_the_agent_that_one_process_trains(small, reference, loky):
    assert same(small.compute(executor=loky), reference)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_any_number_of_workers_trains_the_same_agent(small, reference, workers):
    with gr.executors.Loky(workers) as pool:
        assert same(small.compute(executor=pool), reference)


def test_another_seed_is_another_training(example, reference, small):
    other = example.pipeline(seed=4, num_envs=6, num_shards=4, batch=192, max_steps=600)
    assert not same(other.compute(executor="inprocess", threads_per_task=1), reference)


def test_an_environment_that_does_not_exist_is_told_at_once(example):
    with pytest.raises(Exception, match="NoSuchThing"):
        example.pipeline(env="NoSuchThing-v0")
