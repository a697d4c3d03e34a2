"""The SSH engine, over a real OpenSSH server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import traceback
from pathlib import Path

import psutil
import pytest
from cluster_tasks import add, big, notes
from machines import Sshd
from waiting import until

import graphray as gr
from graphray.cli import main as graphray_cli
from graphray.executors.events import Printed
from graphray.executors.ssh.certificates import Authority, context
from graphray.executors.store.directory import disk_place, sweep
from graphray.testing import RESOURCES, Capabilities, ExecutorSuite

SERVERS: list[Sshd] = []  # that tests look at


@pytest.fixture(scope="module")
def cluster(sshd):
    """A server that is two machines, `n1` and `n2`; the ssh that knows it is graphray's."""
    SERVERS.append(sshd)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAPHRAY_SSH", sshd.client.command)
        yield sshd
    sweep(disk_place())  # as the next start would: some agents were killed
    SERVERS.remove(sshd)


@pytest.mark.usefixtures("cluster")
class TestSSH(ExecutorSuite):
    test_the_pause_leaves_the_users_random_numbers_alone = None  # Dask itself draws from them, in the driver

    capabilities = Capabilities(processes=True, pickles=True, resources=True, gangs=True)

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls, cluster):
        has = "&".join([f"resources.{name}={amount}" for name, amount in RESOURCES.items()])
        with gr.executors.SSH([f"n1?{has}", "n2"], workers=2) as executor:
            executor.compute(gr.call(int))
            yield executor

    def other(self):
        return gr.executors.SSH(["n1"], workers=2)


# ---- workers and machines that go


@gr.task
def where(seconds=0.0):
    time.sleep(seconds)
    return gr.context().worker.split("/")[0], os.getpid(), time.time()


def agents() -> list[psutil.Process]:
    return running("sys.stdin.buffer")  # what comes that way is no part of its command line


def workers() -> list[psutil.Process]:
    return running("ssh.node")


def running(module: str) -> list[psutil.Process]:
    """The processes of graphray's that run in sessions of the servers."""
    found = []
    for process in [p for server in SERVERS for p in server.processes()]:
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if line[:1] == [sys.executable] and module in " ".join(line):
                found.append(process)
    return found


@pytest.mark.parametrize("whom", ["worker", "agent"])
def test_results_that_were_lost_are_made_again(cluster, tmp_path, whom):
    """A worker, or a whole machine, goes with its results when all are made and the last step is waited for."""
    path = str(tmp_path / "notes")
    with gr.executors.SSH(["n1", "n2"], workers=1) as pool:
        slow = add(*[big(i, path) for i in range(40)], seconds=2.0)
        also = add(*[big(i, path) for i in range(40, 80)], seconds=2.0)
        last = gr.call(lambda a, b: a + b, slow, also)
        run = pool.run(last)
        assert until(lambda: len(notes(path)) >= 80)
        time.sleep(0.5)
        assert len(workers()) == 2
        victim = workers()[0] if whom == "worker" else agents()[0]
        victim.kill()
        assert run.result(timeout=60) == 100_000 * sum(range(80))
    repeated = len(notes(path)) - 80
    assert 0 <= repeated <= 60, repeated


def test_what_is_left_when_one_machine_goes_does_the_rest(cluster):
    with gr.executors.SSH(["n1", "n2"], workers=1) as pool:
        assert {w for w, *_ in pool.compute([where() for _ in range(1)])} <= {"n1", "n2"}
        agents()[0].kill()
        assert until(lambda: len(workers()) == 1)
        assert pool.compute(add(*[big(i) for i in range(20)])) == 100_000 * sum(range(20))


def test_when_all_machines_are_gone_the_run_ends_with_an_error(cluster):
    with gr.executors.SSH(["n1"], workers=1) as pool:
        run = pool.run(add(big(1), seconds=60.0))
        assert until(workers)
        time.sleep(0.3)
        agents()[0].kill()
        with pytest.raises(gr.HostError, match="n1"):
            run.result(timeout=30)


def test_machines_come_and_go_during_a_run(cluster):
    with gr.executors.SSH(["n1"], workers=1) as pool, pool.open() as run:
        for _ in range(60):
            run.add(where(0.1))
        seen = {}
        for i, done in enumerate(run.as_completed()):
            name, _, at = done.result()
            seen.setdefault(name, []).append(at)
            if i == 2:
                pool.add("n2")
            if i == 30:
                pool.remove("n1")
                removed = time.time()
        assert len(seen["n1"]) + len(seen["n2"]) == 60
        assert max(seen["n1"]) < removed < max(seen["n2"])
        with pytest.raises(gr.HostError, match="last"):
            pool.remove("n2")
        with pytest.raises(gr.HostError, match="already"):
            pool.add("n2")
        assert len(workers()) == 1


def test_results_move_before_a_machine_goes(cluster, tmp_path):
    path = str(tmp_path / "notes")
    with gr.executors.SSH(["n1", "n2"], workers=1) as pool:
        last = add(*[big(i, path) for i in range(40)], seconds=3.0)
        run = pool.run(last)
        assert until(lambda: len(notes(path)) == 40)
        time.sleep(0.5)
        (busy,) = {w.split("/")[0] for w in pool._core.units}
        pool.remove("n1" if busy == "n2" else "n2")
        assert run.result(60) == 100_000 * sum(range(40))
    assert len(notes(path)) == 40


DRIVER = """
import sys, time
import graphray as gr
from cluster_tasks import add, big

with gr.executors.SSH(["n1", "n2"], workers=2) as pool:
    pool.compute(add(*[big(i) for i in range(8)]))
    print("ready", flush=True)
    pool.compute(add(big(1), seconds=600.0))
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_everything_ends_with_the_driver(cluster, name, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as driver:
        assert driver.stdout.readline() == b"ready\n"
        assert len(workers()) == 4
        driver.send_signal(getattr(signal, name))
        driver.wait(30)
    assert until(lambda: not workers() and not agents())


# ---- who may talk to it


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    return {(c.laddr.ip, c.laddr.port) for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def test_nobody_without_a_certificate_is_listened_to(cluster):
    """All sockets on which driver and nodes listen: each refuses who has no certificate of this run."""
    me = psutil.Process()
    before = listening(me)
    with gr.executors.SSH(["n1", "n2"], workers=2) as pool:
        pool.compute(add(*[big(i) for i in range(8)]))
        found = listening(me) - before
        assert len({port for _, port in found}) == 1  # the scheduler, by IPv4 and IPv6
        for process in workers():
            its = listening(process)
            assert len(its) == 1
            found |= its
        for process in agents():
            assert not listening(process)
        stranger = Authority().credentials("stranger")
        for address, port in found:
            assert is_refused(address, port, None)
            assert is_refused(address, port, context(stranger, ssl.Purpose.SERVER_AUTH))
            unverified = ssl.create_default_context()
            unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
            assert is_refused(address, port, unverified)
        mine = context(pool._authority.credentials("mine"), ssl.Purpose.SERVER_AUTH)
        assert not any(is_refused(address, port, mine) for address, port in found)  # the test can fail


def is_refused(address: str, port: int, tls: ssl.SSLContext | None) -> bool:
    """Whether a client gets no byte out of a server that speaks first after the handshake, as Dask's does."""
    address = "127.0.0.1" if address == "0.0.0.0" else "::1" if address == "::" else address
    with socket.create_connection((address, port), timeout=5) as plain:
        try:
            connection = tls.wrap_socket(plain, server_hostname="x") if tls is not None else plain
            with connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n" if tls is None else b"")
                return not connection.recv(1)
        except (ssl.SSLError, ConnectionError, TimeoutError):
            return True


def test_keys_are_in_memory_only(cluster, tmp_path, monkeypatch):
    """Not on a command line, not in an environment, not in a file."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    opened = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    with gr.executors.SSH(["n1"], workers=2) as pool:
        pool.compute(add(big(1)))
        for process in (*workers(), *agents(), psutil.Process(), *psutil.Process().children(recursive=True)):
            assert "PRIVATE KEY" not in " ".join(process.cmdline())
            assert not any("PRIVATE KEY" in v for v in process.environ().values())
        assert not any(p.endswith((".pem", ".key", ".crt")) for p in opened)
        assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"PRIVATE KEY" in p.read_bytes()]


# ---- machines that cannot be joined


@pytest.fixture
def bad(testbed, monkeypatch):
    """Makes a server, and a client of it, with something wrong."""
    with contextlib.ExitStack() as stack:

        def make(hidden: Path | None = None, server: Sshd | None = None, **client) -> Sshd:
            within = ()
            if hidden is not None:  # its sessions see this folder empty, as another machine would
                within = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh")
            made = server or stack.enter_context(testbed.sshd(names=("n1",), within=within))
            monkeypatch.setenv("GRAPHRAY_SSH", made.make_client(**client).command)
            SERVERS.append(made)
            stack.callback(SERVERS.remove, made)
            return made

        yield make


def refusal(hosts=("n1",), **options) -> gr.HostError:
    began = time.monotonic()
    with gr.executors.SSH(list(hosts), workers=1, **options) as pool, pytest.raises(gr.HostError) as raised:
        pool.compute(add(1))
    assert time.monotonic() - began < 40
    assert not agents()
    assert not workers()
    return raised.value


def test_an_unknown_host_key(bad):
    bad(known="no")
    error = refusal()
    assert error.host.label == "n1"
    assert error.reason == "host-key-unknown"


def test_a_changed_host_key(bad):
    bad(known="otherwise")
    assert refusal().reason == "host-key-changed"


def test_a_refused_key(bad):
    bad(refused=True)
    assert refusal().reason == "permission-denied"


def test_a_closed_port_and_an_unknown_name(bad):
    server = bad()
    server.kill()
    assert refusal().reason == "refused"
    assert refusal(["no-such-host.invalid"]).reason == "unknown-host"


def test_a_wrong_python(bad):
    bad()
    error = refusal(python="/no/python")
    assert error.reason == "no-python"
    assert "/no/python" in str(error)


def test_a_python_without_graphray(bad, tmp_path):
    bad()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    error = refusal(python=str(tmp_path / "bare" / "bin" / "python"))
    assert "graphray" in str(error)
    assert "nodes setup" in str(error)


def test_one_bad_machine_among_good_ones(bad):
    bad()
    assert refusal(["n1", "no-such-host.invalid"]).host.name == "no-such-host.invalid"


def test_one_machine_without_the_directory_among_good_ones(cluster):
    """It is there, and cannot start its workers: that is not to be found out from who does the work."""
    error = refusal(["n1", "n2?directory=/no/such"])
    assert error.host.name == "n2"
    assert "/no/such" in str(error)


def test_an_address_that_is_not_this_machines(cluster):
    assert "203.0.113.7" in str(refusal(listen="203.0.113.7"))


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6")
def test_the_scheduler_may_listen_by_ipv6(cluster):
    with gr.executors.SSH("n1", workers=1, listen="::1") as pool:
        assert pool.compute(add()) == 0


def test_what_no_machine_has_is_refused_before_its_workers_are_there(cluster, monkeypatch):
    async def never(self, home):
        """No worker is ready yet."""

    monkeypatch.setattr(gr.executors.SSH, "_greet", never)
    wish = gr.task(int, resources={"unicorn": 1})
    with gr.executors.SSH("n1,n2", workers=1) as pool:
        with pytest.raises(gr.ResourceError, match=r"machine n1 with 1 worker.* n2 with 1 worker"):
            pool.run(wish()).result(10)
        assert not pool._places


def test_a_worker_that_will_not_start_is_not_counted_on(cluster):
    with gr.executors.SSH("n1?env.PYTHONHOME=/no/such,n2", workers=1) as pool:
        assert pool.compute(add()) == 0
        with pytest.raises(gr.ResourceError, match="2 workers"):
            pool.run(gr.gang(lambda gang: gang.rank, size=2)).result(30)


def test_the_command_line_says_it_in_one_line(bad, capfd, tmp_path):
    bad().kill()
    (tmp_path / "pipeline.py").write_text("import graphray as gr\n\n@gr.task\ndef pipeline():\n    return 1\n")
    assert graphray_cli(["run", str(tmp_path / "pipeline.py"), "--executor", "ssh://n1"]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert line.startswith("graphray run: n1 is there, but no SSH server answers")


# ---- the user's own modules


def test_modules_that_the_machine_does_not_have_travel(bad, tmp_path, monkeypatch):
    """A module and a package beside the user, imported by tasks and in values; also in one of their functions."""
    mine = tmp_path / "mine"
    (mine / "package").mkdir(parents=True)
    (mine / "package" / "__init__.py").write_text("from .inner import Point\n")
    (mine / "package" / "inner.py").write_text("class Point:\n    def __init__(self, x):\n        self.x = x\n")
    (mine / "helpers_of_mine.py").write_text(
        "import graphray as gr\nimport package\n\n@gr.task\ndef move(p):\n    return package.Point(p.x + 1)\n\n"
        "@gr.task\ndef fail(p):\n    raise KeyError(p.x)  # for a reason\n"
    )
    monkeypatch.syspath_prepend(mine)
    import helpers_of_mine
    import package

    bad(hidden=mine)
    with gr.executors.SSH(["n1"], workers=1) as pool:
        assert pool.compute(gr.call(os.listdir, str(mine))) == []  # it really is not there
        moved = pool.compute(helpers_of_mine.move(helpers_of_mine.move(package.Point(1))))
        assert type(moved) is package.Point
        assert moved.x == 3
        with pytest.raises(KeyError) as raised:
            pool.compute(helpers_of_mine.fail(package.Point(1)))
        assert "helpers_of_mine.py" in "".join(traceback.format_exception(raised.value))
    for name in ("helpers_of_mine", "package", "package.inner"):
        del sys.modules[name]


# ---- output


@gr.task
def shout(megabytes):
    line = b"x" * 1023 + b"\n"
    for _ in range(megabytes * 1024):
        os.write(1, line)
    return megabytes


@gr.task
def fork_and_print():
    child = os.fork()
    if not child:
        print("a child's words", flush=True)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def test_what_a_forked_process_prints_comes_too(cluster, capfd):
    printed = []
    with gr.executors.SSH("n1", workers=1) as pool:
        assert pool.compute(fork_and_print()) == 0
        assert until(lambda: "a child's words" in "".join(printed) or printed.append(capfd.readouterr().out))
    assert "".join(printed).count("a child's words") == 1


@gr.task
def write_slowly(line):
    for byte in line.encode():
        os.write(1, bytes([byte]))
        time.sleep(0.002)


def test_lines_and_characters_that_come_in_pieces_are_put_together(cluster, capfd):
    printed = []
    with gr.executors.SSH("n1", workers=1) as pool:
        pool.compute([write_slowly("größer als 1 €\n")])
        assert until(lambda: "\n" in "".join(printed) or printed.append(capfd.readouterr().out))
    assert "".join(printed) == "[n1/1] größer als 1 €\n"


@gr.task
def print_lines(megabytes):
    for _ in range(megabytes * 1024):
        sys.stdout.write("x" * 1023 + "\n")
    return megabytes


@pytest.mark.parametrize("write", [shout, print_lines])
def test_much_output_stops_nobody_and_stays_nowhere(cluster, capfd, write):
    """What comes faster than it can be shown waits where it is written, and not in memory."""

    def sizes():
        return [process.memory_info().rss for process in (psutil.Process(), *workers(), *agents())]

    with gr.executors.SSH(["n1", "n2"], workers=1) as pool:
        pool.compute([write(1), write(1)])
        capfd.readouterr()
        before = sizes()
        run = pool.run([write(60), write(60)])
        assert run.result() == [60, 60]
        assert max(after - size for after, size in zip(sizes(), before, strict=True)) < 50 << 20
        assert sum(len(e.text) for e in run.events if isinstance(e, Printed)) < 20 << 20
    capfd.readouterr()
