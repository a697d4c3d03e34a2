"""The Dask engine, on a real cluster of Dask's on this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

import graphray as gr
from graphray.testing import Capabilities, ExecutorSuite

CLUSTER = """
import sys
from distributed import LocalCluster

if __name__ == "__main__":
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
    capabilities = Capabilities(processes=True, pickles=True)

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls, cluster):
        cls.cluster = cluster
        with gr.executors.Dask(cluster) as executor:
            executor.compute(gr.call(int))
            yield executor

    def other(self):
        return gr.executors.Dask(self.cluster)
