"""What machines have, and processes that see the accelerators that their task asked for."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

import graphray as gr
from graphray.executors.supply import accelerators, find

VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")

needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no signals")


def told():
    """What the process is told of accelerators, and which it is."""
    return {name: os.environ.get(name) for name in (*VARIABLES, "JAX_PLATFORMS")}, os.getpid()


plain = gr.task(told)
one = gr.task(resources={"gpu": 1})(told)
two = gr.task(resources={"gpu": 2})(told)


@gr.task(resources={"gpu": 1}, retries=0)
def die_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ["CUDA_VISIBLE_DEVICES"]


@gr.task(resources={"gpu": 1}, timeout=0.3)
def hang():
    time.sleep(600)


@gr.task
def platform():
    import jax

    return jax.default_backend()


@pytest.fixture
def pool():
    with gr.executors.Loky(2, resources={"gpu": 2}) as made:
        yield made


def seen(result):
    return result[0]["CUDA_VISIBLE_DEVICES"]


# ---- what there is


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose drivers' tools are what a test makes them."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def tool(output, status=0):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{output}\nEND\nexit {status}\n")
        path.chmod(0o755)

    return tool


def test_accelerators_are_those_that_the_driver_lists(machine):
    machine("GPU 0: NVIDIA A100 (UUID: GPU-aaaa)\nGPU 1: NVIDIA A100 (UUID: GPU-bbbb)")
    assert accelerators() == ("0", "1")
    machine("No devices were found", status=6)
    assert accelerators() == ()


def test_parts_of_an_accelerator_go_by_their_names(machine):
    machine(
        "GPU 0: NVIDIA A100 (UUID: GPU-aaaa)\n"
        "  MIG 3g.20gb     Device  0: (UUID: MIG-1111-2222)\n"
        "  MIG 3g.20gb     Device  1: (UUID: MIG-3333-4444)"
    )
    assert accelerators() == ("MIG-1111-2222", "MIG-3333-4444")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ()), ("-1", ()), ("3", ("3",)), ("2, GPU-ab,0", ("2", "GPU-ab", "0")), ("1,-1,2", ("1",)), ("1,1", ("1",))],
)
@pytest.mark.parametrize("variable", VARIABLES)
def test_what_the_environment_says_goes_first(machine, monkeypatch, variable, text, expected):
    machine("GPU 0: NVIDIA A100 (UUID: GPU-aaaa)")
    monkeypatch.setenv(variable, text)
    assert accelerators() == expected


def test_memory_is_that_of_the_machine_unless_told(machine):
    assert 0 < find()["memory"] <= psutil.virtual_memory().total
    assert find({"memory": 5, "gpu": 0}) == {"memory": 5, "gpu": ()}


def test_a_number_is_taken_at_its_word(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,4,2")
    assert find({"gpu": 2})["gpu"] == ("7", "4")
    assert find({"gpu": 4})["gpu"] == ("0", "1", "2", "3")


@pytest.mark.parametrize("wrong", [3, {"gpu": -1}, {"gpu": 1.5}, {"memory": "lots"}, {1: 1}, {"gpu": ["0"]}])
@pytest.mark.parametrize("engine", [gr.executors.Loky, gr.executors.InProcess])
def test_an_engine_refuses_what_makes_no_sense(engine, wrong):
    with pytest.raises(ValueError, match=r"resources=|memory=|gpu"):
        engine(resources=wrong)


# ---- in this process


def test_in_process_a_request_is_checked_and_narrows_nothing(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    assert seen(one().compute()) == "5,6"
    with pytest.raises(gr.ResourceError, match=r"asks for 3 gpu.*this machine with 1 worker, 2 gpu"):
        gr.task(resources={"gpu": 3})(told)().compute()
    with pytest.raises(gr.ResourceError, match="1 TB of memory"):
        gr.task(resources={"memory": "1TB"})(told)().compute("inprocess:2")


# ---- on the pool


def test_tasks_see_what_they_asked_for_and_others_see_none(pool):
    found = pool.compute(gr.Graph(a=[one() for _ in range(4)], b=two(), c=[plain() for _ in range(4)]))
    assert {seen(x) for x in found["a"]} == {"0", "1"}
    assert seen(found["b"]) == found["b"][0]["HIP_VISIBLE_DEVICES"] == "0,1"
    for told_, _ in found["c"]:
        assert told_ == {**dict.fromkeys(VARIABLES, "-1"), "JAX_PLATFORMS": "cpu"}


def test_a_process_keeps_to_its_accelerator_and_others_do_the_rest(pool):
    (_, cpu), (_, gpu) = pool.compute(plain()), pool.compute(one())
    assert [pool.compute(one())[1] for _ in range(3)] == [gpu] * 3
    others = {cpu} | {x[1] for _ in range(5) for x in pool.compute([plain() for _ in range(4)])}
    assert gpu not in others
    assert len(others) <= 2, "no new process"
    assert pool.compute(one())[1] == gpu


def test_one_worker_changes_between_its_processes():
    """It takes no new process each time."""
    with gr.executors.Loky(1, resources={"gpu": 1}) as pool:
        found = [pool.compute(task()) for task in (plain, one) * 3]
    assert [seen(x) for x in found] == ["-1", "0"] * 3
    assert len({pid for _, pid in found}) == 2


def test_a_wider_request_ends_the_processes_that_see_part_of_it(pool):
    singles = {pool.compute([one(), one()])[i][1] for i in range(2)}
    assert seen(pool.compute(two())) == "0,1"
    assert not [pid for pid in singles if psutil.pid_exists(pid)], "they may hold memory there"
    assert {seen(x) for x in pool.compute([one(), one(), one()])} <= {"0", "1"}


@needs_signals
def test_a_process_that_dies_gives_its_accelerator_back(pool, tmp_path):
    assert pool.compute(die_once(str(tmp_path / "died"))) in ("0", "1")
    with pytest.raises(gr.TaskTimeout):
        pool.compute(hang())
    assert sorted(seen(x) for x in pool.compute([one() for _ in range(4)]))[0] == "0"
    assert seen(pool.compute(two())) == "0,1"


@needs_signals
def test_a_process_that_waits_aside_may_die(pool):
    """Another is made when it is asked for."""
    _, pid = pool.compute(one())
    pool.compute([plain() for _ in range(4)])
    os.kill(pid, signal.SIGKILL)
    assert seen(pool.compute(one())) == "0"
    assert [seen(x) for x in pool.compute([plain(), plain()])] == ["-1", "-1"]


def test_a_cancelled_run_leaves_its_accelerators_to_the_next(pool):
    run = pool.run(gr.task(resources={"gpu": 2})(time.sleep)(600))
    time.sleep(0.3)
    run.cancel()
    with pytest.raises(gr.Cancelled):
        run.result(30)
    assert seen(pool.compute(two())) == "0,1"


def test_jax_starts_where_a_task_sees_no_accelerator(monkeypatch):
    """Whatever the driver's own platforms are."""
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    with gr.executors.Loky(1) as pool:
        assert pool.compute(platform()) == "cpu"


def test_a_request_waits_for_workers_that_are_starting():
    with gr.executors.Loky(2, resources={"gpu": 1}) as pool:
        runs = [pool.run(one()) for _ in range(3)]
        assert [seen(run.result(60)) for run in runs] == ["0"] * 3
        with pytest.raises(gr.ResourceError, match="asks for 2 gpu"):
            pool.run(two()).result(60)


def test_a_greedy_node_ends_the_run_before_it_began(pool, tmp_path):
    path = tmp_path / "called"
    node = gr.task(resources={"gpu": 3})(len)(gr.call(path.write_text, "x"))
    with pytest.raises(gr.ResourceError):
        pool.compute(node)
    assert not path.exists()
    assert isinstance(pool.compute(node, on_error="collect").error, gr.ResourceError)
