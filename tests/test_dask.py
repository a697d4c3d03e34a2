"""The Dask engine, on a real cluster of Dask's on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from cluster_tasks import add, big, notes
from waiting import until

import graphray as gr
from graphray.executors.dask.seat import Shelf
from graphray.testing import Capabilities, ExecutorSuite

CLUSTER = """
import sys
import dask
from distributed import LocalCluster

if __name__ == "__main__":
    # It closes the nanny of a worker that was lost some time ago, if that is just being started for the second time.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    options = {"n_workers": int(sys.argv[1]), "threads_per_worker": int(sys.argv[2])}
    with LocalCluster(dashboard_address=None, host="127.0.0.1", **options) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@contextlib.contextmanager
def started(workers, threads=1, place=None):
    """A cluster in processes of its own; its scheduler's address."""
    script = os.path.join(place, "cluster.py")
    with open(script, "w") as file:
        file.write(CLUSTER)
    command = [sys.executable, script, str(workers), str(threads)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        open(os.path.join(place, "cluster.log"), "w") as log,
        subprocess.Popen(command, stderr=log, text=True, **pipes) as process,
    ):
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(30)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with started(2, place=tmp_path_factory.mktemp("cluster")) as address:
        yield address


@pytest.mark.usefixtures("cluster")
class TestDask(ExecutorSuite):
    test_the_pause_leaves_the_users_random_numbers_alone = None  # Dask itself draws from them, in the driver

    capabilities = Capabilities(processes=True, pickles=True, gangs=True)

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls, cluster):
        cls.cluster = cluster
        with gr.executors.Dask(cluster) as executor:
            executor.compute(gr.call(int))
            yield executor

    def other(self):
        return gr.executors.Dask(self.cluster)


# ---- workers that go


@gr.task
def end_process(i):
    os._exit(3)


@gr.task
def both(i):
    return threading.current_thread().name, gr.context().worker, np.full(50_000, i)


def test_results_that_were_lost_with_a_worker_are_made_again(cluster, tmp_path):
    path = str(tmp_path / "notes")
    with gr.executors.Dask(cluster) as pool:
        run = pool.run(add(*[big(i, path) for i in range(40)], seconds=2.0))
        assert until(lambda: len(notes(path)) >= 40)
        made = {pid for _, pid in notes(path)}
        assert len(made) == 2
        time.sleep(0.3)
        os.kill(made.pop(), signal.SIGKILL)
        assert run.result(60) == 100_000 * sum(range(40))
    assert len(notes(path)) <= 80


def test_a_task_that_kills_its_workers_fails_alone(cluster):
    with gr.executors.Dask(cluster) as pool:
        found = pool.compute([add(), end_process(1), add()], on_error="collect")
        assert found[0] == found[2] == 0
        assert isinstance(found[1].error, gr.WorkerDied)


def test_a_worker_with_two_threads_runs_two_units(tmp_path):
    with started(1, 2, place=tmp_path) as address, gr.executors.Dask(address) as pool:
        assert until(lambda: pool.compute(gr.call(int)) == 0 and pool.workers == 2)
        found = pool.compute([both(i) for i in range(400)])
        assert len({worker for _, worker, _ in found}) == 2
        assert [int(array[7]) for *_, array in found] == list(range(400))


def test_a_client_stays_open_and_others_may_use_the_cluster(cluster):
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        with gr.executors.Dask(client) as pool:
            assert pool.compute(add(np.ones(3))) == 3.0
            assert client.submit(pow, 2, 3).result() == 8
        assert client.submit(pow, 2, 4).result() == 16


def test_two_executors_on_one_cluster_do_not_meet(cluster):
    with gr.executors.Dask(cluster) as one, gr.executors.Dask(cluster) as other:
        runs = [pool.run([both(i) for i in range(50)]) for pool in (one, other)]
        for run in runs:
            assert [int(array[0]) for *_, array in run.result()] == list(range(50))


def test_executors_on_one_cluster_have_tasks_of_their_own(cluster):
    """Each numbers its tasks for itself, and another is opened and closed between two runs of the first."""
    add_up, multiply = gr.task(lambda *xs: sum(xs)), gr.task(lambda x, y: x * y)
    with gr.executors.Dask(cluster) as one:
        assert one.compute([add_up(1, 2), multiply(3, 4)]) == [3, 12]
        with gr.executors.Dask(cluster) as other:
            assert other.compute([multiply(3, 4), add_up(1, 2)]) == [12, 3]
            assert one.compute([add_up(2, 2), multiply(4, 4)]) == [4, 16]
        assert one.compute([add_up(3, 2), multiply(5, 4)]) == [5, 20]


def test_a_worker_that_was_started_again_gives_its_results_other_names():
    """Its name is that of the one before, of whose results others may have copies."""
    before, after = [Shelf("worker").put_values([np.ones(50_000)])[0] for _ in range(2)]
    assert before.key != after.key


def test_a_worker_that_is_another_by_now_is_greeted_anew(cluster):
    """Its process was started again at the same address, and the unit comes before the news."""
    from distributed import Client

    def forget():
        from graphray.executors.dask import seat

        seat._seats.clear()

    with gr.executors.Dask(cluster) as pool, Client(cluster, set_as_default=False) as client:
        assert pool.compute(add()) == 0
        client.run(forget)
        found = pool.run([both(i) for i in range(100)]).result(30)
        assert [int(array[0]) for *_, array in found] == list(range(100))
        assert until(lambda: pool.workers == 2)


def test_a_gang_waits_for_a_worker_that_is_started_again(cluster):
    """Its nanny does that; until then there is one too few."""
    with gr.executors.Dask(cluster) as pool:
        assert until(lambda: pool.compute(add()) == 0 and pool.workers == 2)
        with pytest.raises(gr.WorkerDied):
            pool.compute(end_process(1))
        assert pool.run(gr.gang(lambda gang: gang.rank, size=2)).result(30) == (0, 1)


def test_results_are_gone_from_the_cluster_once_nobody_holds_them(cluster):
    from distributed import Client

    with gr.executors.Dask(cluster) as pool, Client(cluster, set_as_default=False) as client:

        def keys():
            def ours(dask_scheduler):
                return [key for key in dask_scheduler.tasks if str(key).startswith("graphray-")]

            return client.run_on_scheduler(ours)

        run = pool.run([both(i) for i in range(20)])
        run.result()
        assert len(keys()) >= 20
        del run
        assert until(lambda: not keys())


# ---- what cannot be used


def test_a_cluster_that_is_not_there(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    with gr.executors.Dask(f"tcp://127.0.0.1:{port}") as pool, pytest.raises(gr.HostError, match=str(port)):
        pool.compute(add())
    assert time.monotonic() - began < 30


def test_what_is_no_cluster():
    with pytest.raises(TypeError, match="not int"):
        gr.executors.Dask(3)
    with pytest.raises(ValueError, match="says no address"):
        gr.Graph(add()).compute(executor="dask://")
    with pytest.raises(ValueError, match="says no host"):
        gr.Graph(add()).compute(executor="ssh://")


def test_a_worker_with_another_version_is_not_used(cluster, monkeypatch):
    monkeypatch.setattr(gr, "__version__", "0.0.7")
    with gr.executors.Dask(cluster) as pool, pytest.raises(gr.HostError, match=r"here is 0\.0\.7"):
        pool.compute(add())
