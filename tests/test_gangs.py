"""Gangs on the pool of processes: JAX's distributed runtime, members that die, hang and fail."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

import psutil
import pytest

import graphray as gr
from graphray.executors.membership import free_address
from graphray.testing.tasks import add, note, notes

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no signals")


@pytest.fixture
def pool():
    with gr.executors.Loky(2) as made:
        yield made


def join(gang):
    """Join JAX's distributed runtime, on the processors."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(gang.address, gang.size, gang.rank)
    return jax


def psum(gang, x):
    """The sum over all processes, as each of them has it: the gradient step of data-parallel training."""
    jax = join(gang)
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(jax.devices()), ("batch",))
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    mine = np.full((1, 3), x * (gang.rank + 1.0), np.float32)
    shards = jax.make_array_from_process_local_data(sharding, mine, (gang.size, 3))
    f = jax.shard_map(
        lambda a: jax.lax.psum(a, "batch"), mesh=mesh, in_specs=PartitionSpec("batch"), out_specs=PartitionSpec()
    )
    total = jax.jit(f)(shards)
    return np.asarray(total.addressable_data(0))[0].tolist(), len(jax.devices()), jax.process_count()


@gr.task
def local_jax(x):
    """JAX in an ordinary task: it is not to know of any gang."""
    import jax
    import jax.numpy as jnp

    return float(jnp.sum(jnp.arange(x))), jax.process_count(), len(jax.devices()) == len(jax.local_devices())


def die(gang, path):
    note(path, f"{gang.rank} {os.getpid()}")
    if gang.rank == 1 and len([line for line in notes(path) if line[0] == "1"]) == 1:
        while not any(
            line[0] == "0" for line in notes(path)
        ):  # both have begun: else the other counts as of the second try
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    if len(notes(path)) <= 2:
        time.sleep(600)
    return gang.rank


def always_die(gang):
    if gang.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def leave_the_others_in_a_collective(gang):
    """One raises while another waits for it, in code that no exception reaches."""
    if gang.rank == 1:
        join(gang)
        raise ValueError("no more")
    psum(gang, 1.0)


@gr.task(timeout=1.0, retries=1, backoff=0.01)
def hang_at_first(gang, path):
    note(path, str(gang.rank))
    if gang.rank == 0 and notes(path).count("0") == 1:
        time.sleep(600)
    return gang.rank


def wait_for_ever(gang, path):
    note(path, str(os.getpid()))
    time.sleep(600)


def pid(gang):
    return os.getpid()


def test_jax_computes_in_all_members_together_again_and_again(pool):
    """In fresh processes each time: JAX joins others once in a process, and before anything else."""
    assert pool.compute([local_jax(5), local_jax(6)]) == [(10.0, 1, True), (15.0, 1, True)]
    for x in (1.0, 2.0):
        assert pool.compute(gr.gang(psum, x, size=2)) == (([3 * x] * 3, 2, 2),) * 2
    assert pool.compute([local_jax(5), local_jax(6)]) == [(10.0, 1, True), (15.0, 1, True)]


def test_a_gang_that_did_without_jax_leaves_its_processes_to_others(pool):
    first = pool.compute(gr.gang(pid, size=2))
    assert sorted(pool.compute(gr.gang(pid, size=2))) == sorted(first)


def test_a_member_that_is_killed_ends_the_others_and_all_begin_again(pool, tmp_path):
    path = str(tmp_path / "notes")
    seen = []
    assert pool.compute(gr.gang(die, path, size=2), progress=seen.append) == (0, 1)
    assert sorted(line[0] for line in notes(path)) == ["0", "0", "1", "1"]
    (retried,) = [e for e in seen if type(e).__name__ == "NodeRetried"]
    assert "SIGKILL while it ran die" in retried.error
    assert "rank 1 of a gang of 2" in retried.error
    first = [int(line.split()[1]) for line in notes(path)[:2]]
    assert not any(psutil.pid_exists(p) for p in first)


def test_a_member_that_always_dies_is_named(pool):
    with pytest.raises(gr.WorkerDied, match=r"SIGKILL while it ran always_die\(\) as rank 1 of a gang of 2") as caught:
        pool.compute(gr.gang(always_die, size=2))
    assert caught.value.signal == "SIGKILL"
    assert pool.compute(add(1, 2)) == 3


def test_one_that_fails_ends_those_that_wait_for_it_in_a_collective(pool):
    with pytest.raises(ValueError, match="no more") as caught:
        pool.compute(gr.gang(leave_the_others_in_a_collective, size=2))
    assert any("rank 1 of a gang of 2" in line for line in caught.value.__notes__)
    assert pool.compute(gr.gang(psum, 1.0, size=2))[0][1:] == (2, 2)


def test_late_ones_are_retried_together(pool, tmp_path):
    path = str(tmp_path / "notes")
    assert pool.compute(gr.gang(hang_at_first, path, size=2)) == (0, 1)
    assert sorted(notes(path)) == ["0", "0", "1", "1"]


def test_a_cancelled_gang_is_ended(pool, tmp_path):
    path = str(tmp_path / "notes")
    run = pool.run(gr.gang(wait_for_ever, path, size=2))
    while len(notes(path)) < 2:
        time.sleep(0.01)
    run.cancel()
    with pytest.raises(gr.Cancelled):
        run.result(30)
    assert pool.compute([add(i, i) for i in range(20)]) == [2 * i for i in range(20)]
    assert not any(psutil.pid_exists(int(p)) for p in notes(path))


def test_closing_the_pool_ends_a_gang(tmp_path):
    path = str(tmp_path / "notes")
    with gr.executors.Loky(2) as pool:
        run = pool.run(gr.gang(wait_for_ever, path, size=2))
        while len(notes(path)) < 2:
            time.sleep(0.01)
        threading.Timer(0.1, pool.close, [False]).start()
        with pytest.raises((gr.Cancelled, gr.WorkerDied)):
            run.result(30)
    assert not any(psutil.pid_exists(int(p)) for p in notes(path))


def test_a_gang_of_too_many_says_how_many_there_are(pool):
    with pytest.raises(gr.ResourceError, match=r"asks for 3 workers at the same time.*with 2 workers"):
        pool.compute(gr.gang(pid, size=3))


def test_without_a_pool_it_says_where_to_run():
    with pytest.raises(gr.ResourceError, match="loky:3"):
        gr.gang(pid, size=3).compute()
    assert gr.gang(pid, size=1).compute() == (os.getpid(),)


@pytest.mark.parametrize("size", [0, -1, 2.0, "2", True, None])
def test_a_size_that_makes_no_sense_is_refused(size):
    with pytest.raises(ValueError, match="size="):
        gr.gang(pid, size=size)


def test_a_wrong_call_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match="wait_for_ever"):
        gr.gang(wait_for_ever, size=2)
    with pytest.raises(TypeError, match="function"):
        gr.gang(3, size=2)
    with pytest.raises(ValueError, match="jit"):
        gr.gang(gr.task(jit=True)(pid), size=2)


def test_its_size_is_part_of_what_it_is():
    assert gr.gang(pid, size=2).digest == gr.gang(pid, size=2).digest
    assert gr.gang(pid, size=2).digest != gr.gang(pid, size=3).digest


def test_addresses_are_free_and_differ():
    found = {free_address() for _ in range(20)}
    assert len(found) > 15
    for address in found:
        host, port = address.split(":")
        with socket.create_server((host, int(port))):
            pass
    with pytest.raises(OSError, match=r"meet at 192\.0\.2\.1"):
        free_address("192.0.2.1")
