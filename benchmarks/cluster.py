"""Machines joined over SSH beside bare dask.distributed, on the very same scheduler and worker processes.

    python benchmarks/cluster.py                         all rows, a few minutes
    python benchmarks/cluster.py --rows noops,join       some of them
    python benchmarks/cluster.py --quick --json out.json small sizes, to see that it works

The machines are an OpenSSH server on loopback, which this starts with keys of its own. Bare Dask gets its tasks as
futures of a client of the same cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

# For the workers too, which import these by name.
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import _environment
import _measures
import psutil
from _measures import check
from machines import Sshd
from systems.distributed_ import Distributed
from systems.graphray_ import Graphray

import graphray as gr
from graphray.executors.ssh.certificates import Authority, Credentials, context


class Row(NamedTuple):
    """One line of the table."""

    name: str
    what: str
    figure: str
    peer: str
    goal: str
    met: bool


class Sizes(NamedTuple):
    """How large the work is."""

    noops: int = 10_000
    chain: int = 2_000
    leaves: int = 16_384
    megabytes: int = 400
    parts: int = 300
    output: int = 100
    repeats: int = 3


SERVERS: list[Sshd] = []  # the one that runs

QUICK = Sizes(500, 100, 256, 40, 60, 10, 1)


class Bare(Distributed):
    """Dask by itself, as a client of the cluster that graphray's executor has made."""

    def __init__(self, pool: Any) -> None:
        self.client = pool._client


@gr.task(near="one")
def make(megabytes: int) -> Any:
    import numpy as np

    return np.ones(megabytes * 1_000_000, np.uint8)


@gr.task(near="two")
def touch(array: Any) -> int:
    return int(array[::4096].sum())


@gr.task(near="one")
def settle_one() -> None:
    time.sleep(0.3)


@gr.task(near="two")
def settle_two() -> None:
    time.sleep(0.3)


@gr.task
def noted(i: int, path: str) -> Any:
    import numpy as np

    with open(path, "a") as file:
        file.write(f"{i} {gr.context().worker.split('/')[0]}\n")
    time.sleep(0.02)
    return np.full(20_000, float(i))


@gr.task
def add_up(*arrays: Any) -> float:
    return sum(float(a.sum()) for a in arrays)


@gr.task(timeout=600)
def shout(megabytes: int) -> int:
    line = b"x" * 1023 + b"\n"
    for _ in range(megabytes * 1024):
        os.write(1, line)
    return megabytes


# ---- rows


def per_task(name: str, most: float | None, times: float) -> Callable[[Sizes], Row]:
    """A kind of graph: microseconds a task, and how much slower bare Dask is."""

    def row(sizes: Sizes) -> Row:
        measure, n = {
            "noops": (_measures.noops, sizes.noops),
            "chain": (_measures.chain, sizes.chain),
            "tree": (_measures.tree, sizes.leaves),
        }[name]
        with joined(["n1", "n2"]) as pool:
            ours = [measure(Graphray(pool), n)["value"] for _ in range(sizes.repeats + 1)][1:]
            theirs = measure(Bare(pool), n)["value"]
        us = statistics.median(ours)
        goal = f"at least {times:.0f}x" + (f", at most {most:.0f} us" if most else "")
        met = theirs / us >= times and (most is None or us <= most)
        return Row(name, f"{n:,} tasks, 2 nodes", f"{us:.1f} us", f"{theirs:,.0f} us ({theirs / us:,.0f}x)", goal, met)

    return row


def transfer(sizes: Sizes) -> Row:
    """A large result from one node to the other, beside the bare TLS throughput of the same machine."""
    rates = []
    bare = []
    with joined(["n1", "n2"]) as pool:
        pool.compute([settle_one(), settle_two()])
        for _ in range(sizes.repeats + 1):
            with pool.open() as run:
                made = run.add(make(sizes.megabytes))
                check(not next(run.as_completed()).failed)
                began = time.perf_counter()
                touched = run.add(touch(made))
                done = next(run.as_completed())
                seconds = time.perf_counter() - began
                check(done.result() == len(range(0, sizes.megabytes * 1_000_000, 4096)))
                del made, touched, done
            rates.append(sizes.megabytes / seconds)
            bare.append(bare_tls(sizes.megabytes))
    ours, theirs = statistics.median(rates[1:]), statistics.median(bare[1:])
    share = ours / theirs
    peer = f"{theirs:,.0f} MB/s ({share:.0%})"
    goal = "at least 70 % of bare TLS"
    return Row("transfer", f"{sizes.megabytes} MB, node to node", f"{ours:,.0f} MB/s", peer, goal, share >= 0.7)


def bare_tls(megabytes: int) -> float:
    """MB/s between two processes, each with one thread and memory that is there already."""
    authority = Authority()
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, str(Path(__file__)), "--tls-client"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as client:
            told = json.dumps([server.getsockname()[1], megabytes, list(authority.credentials("client"))])
            assert client.stdin is not None
            client.stdin.write(told + "\n")
            client.stdin.flush()
            plain, _ = server.accept()
            secured = context(authority.credentials("server"), ssl.Purpose.CLIENT_AUTH)
            with secured.wrap_socket(plain, server_side=True) as connection:
                connection.recv(1)
                data = memoryview(bytearray(b"x") * (megabytes * 1_000_000))
                began = time.perf_counter()
                for start in range(0, len(data), 1 << 20):
                    connection.sendall(data[start : start + (1 << 20)])
                connection.recv(1)
                return megabytes / (time.perf_counter() - began)


def tls_client() -> None:
    port, megabytes, credentials = json.loads(sys.stdin.readline())
    secured = context(Credentials(*credentials), ssl.Purpose.SERVER_AUTH)
    with secured.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="x") as connection:
        memory = memoryview(bytearray(b"x") * (megabytes * 1_000_000))
        connection.sendall(b"r")
        n = 0
        while n < len(memory):
            n += connection.recv_into(memory[n : n + (1 << 20)])
        connection.sendall(b"d")


def join(sizes: Sizes) -> Row:
    """Two nodes joined, to the first result."""
    taken = []
    for _ in range(sizes.repeats):
        began = time.perf_counter()
        with joined(["n1", "n2"]) as pool:
            check(pool.compute(gr.call(pow, 2, 3)) == 8)
            taken.append(time.perf_counter() - began)
    seconds = statistics.median(taken)
    return Row("join", "2 nodes, first result", f"{seconds:.2f} s", "", "at most 4 s", seconds <= 4.0)


def killed(sizes: Sizes) -> Row:
    """One of three nodes is killed with its results, when two thirds are done."""
    with tempfile.TemporaryDirectory() as folder, joined(["n1", "n2", "n3"]) as pool:
        path = os.path.join(folder, "notes")
        run = pool.run(add_up(*[noted(i, path) for i in range(sizes.parts)]))
        while not os.path.exists(path) or len(Path(path).read_text().splitlines()) < sizes.parts * 2 // 3:
            time.sleep(0.01)
        before = Path(path).read_text().splitlines()
        agents = [p for p in SERVERS[0].processes() if "sys.stdin.buffer" in p.cmdline()[-1]]
        agents[-1].kill()
        check(run.result() == 20_000.0 * sum(range(sizes.parts)))
        names = [line.split()[1] for line in before]
        share = max(map(names.count, set(names)))
        repeated = len(Path(path).read_text().splitlines()) - sizes.parts
    what = f"{sizes.parts} tasks, 3 nodes, one killed"
    goal = "exact; no more than its share again"
    return Row("killed", what, f"{repeated} repeated", f"its share: {share}", goal, repeated <= share + 10)


def output(sizes: Sizes) -> Row:
    """Both nodes write as fast as they can."""
    sink = os.open(os.devnull, os.O_WRONLY)
    kept = [os.dup(1), os.dup(2)]
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        with joined(["n1", "n2"]) as pool:
            pool.compute([shout(1), shout(1)])
            before = psutil.Process().memory_info().rss
            began = time.perf_counter()
            run = pool.run([shout(sizes.output), shout(sizes.output)])
            most = before
            while not run.done():
                time.sleep(0.05)
                most = max(most, psutil.Process().memory_info().rss)
            check(run.result() == [sizes.output] * 2)
            seconds = time.perf_counter() - began
    finally:
        for number, fd in enumerate(kept, 1):
            os.dup2(fd, number)
            os.close(fd)
        os.close(sink)
    grown = (most - before) / 1e6
    return Row("output", f"{sizes.output} MB of output per node", f"driver +{grown:.0f} MB", f"{seconds:.1f} s",
               "no deadlock; memory flat", grown < 32)  # fmt: skip


ROWS: dict[str, Callable[[Sizes], Row]] = {
    "noops": per_task("noops", 20, 50),
    "chain": per_task("chain", None, 300),
    "tree": per_task("tree", None, 30),
    "transfer": transfer,
    "join": join,
    "killed": killed,
    "output": output,
}


@contextmanager
def joined(hosts: Sequence[str]) -> Iterator[Any]:
    with gr.executors.SSH(hosts, workers=1) as pool:
        pool.compute(gr.call(int)) if len(hosts) > 2 else None
        yield pool


def main(argv: Sequence[str] | None = None) -> int:
    description, _, examples = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default=",".join(ROWS), metavar="A,B", help=f"which: {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    args = parser.parse_args(argv)
    names = args.rows.split(",")
    if unknown := [n for n in names if n not in ROWS]:
        parser.error(f"there is no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    environment = _environment.describe(["graphray", "distributed", "numpy", "cryptography"])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        server = Sshd(Path(folder) / "sshd", names=("n1", "n2", "n3"))
        SERVERS.append(server)
        os.environ["GRAPHRAY_SSH"] = server.client.command
        try:
            for name in names:
                row = ROWS[name](QUICK if args.quick else Sizes())
                rows.append(row)
                print(f"{row.name:9} {row.what:32} {row.figure:>16} {row.peer:>24}   {row.goal}: "
                      f"{'met' if row.met else 'MISSED'}", flush=True)  # fmt: skip
        finally:
            server.close()
    if args.json:
        report = {**environment, "quick": args.quick, "rows": [r._asdict() for r in rows]}
        args.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":  # worker processes import this module too
    if "--tls-client" in sys.argv:
        tls_client()
    else:
        sys.exit(main())
