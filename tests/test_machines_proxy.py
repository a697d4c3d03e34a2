"""The proxy's line is as long and as narrow as it says, passes on what it is given, and can be stalled and cut.

Times are what it is for, so they are asserted here, from below, and from above with much room.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time

import pytest
from machines import Proxy, closed_port


@contextlib.contextmanager
def server(serve):
    """A port whose connections are each served by a thread."""
    threads = []

    def accept():
        with contextlib.suppress(OSError):  # it was closed
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=answer, args=[connection]))
                threads[-1].start()

    def answer(connection):
        with connection, contextlib.suppress(OSError):
            serve(connection)

    listener = socket.create_server(("127.0.0.1", 0))
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join(20)


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def gather_then_answer(connection):
    """What it says once the other side has said all."""
    received = read_all(connection)
    connection.sendall(f"{len(received)} bytes".encode())


def read_all(connection):
    parts = []
    while data := connection.recv(65536):
        parts.append(data)
    return b"".join(parts)


def connect(proxy):
    return socket.create_connection(proxy.address, timeout=20)


def exchange(connection, data):
    """Send it and read as much, both at once."""
    sender = threading.Thread(target=connection.sendall, args=[data])
    sender.start()
    received = b""
    while len(received) < len(data) and (more := connection.recv(1 << 20)):
        received += more
    sender.join(20)
    return received


def test_what_comes_out_is_what_went_in(rng):
    data = rng.randbytes(3_000_000)
    with server(echo) as target, Proxy(target) as proxy, connect(proxy) as a, connect(proxy) as b:
        assert exchange(a, data) == data
        assert exchange(b, data[:1000]) == data[:1000]
        assert proxy.connections == 2
        assert proxy.passed == 2 * (3_000_000 + 1000)


def test_one_side_can_end_and_still_hear_the_other():
    with server(gather_then_answer) as target, Proxy(target, delay=0.05) as proxy, connect(proxy) as connection:
        connection.sendall(b"x" * 100_000)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"100000 bytes"


def test_a_round_trip_takes_twice_the_delay():
    with server(echo) as target, Proxy(target, delay=0.2) as proxy, connect(proxy) as connection:
        for _ in range(2):
            start = time.monotonic()
            assert exchange(connection, b"ping") == b"ping"
            assert 0.4 <= time.monotonic() - start < 4.0


def test_a_delay_does_not_limit_how_much_is_under_way(rng):
    data = rng.randbytes(2_000_000)  # more than a hundred chunks, none of which waits for another's round trip
    with server(echo) as target, Proxy(target, delay=0.2) as proxy, connect(proxy) as connection:
        start = time.monotonic()
        assert exchange(connection, data) == data
        assert 0.4 <= time.monotonic() - start < 10.0


def test_a_rate_limits_each_direction():
    with server(gather_then_answer) as target, Proxy(target, rate=200_000) as proxy, connect(proxy) as connection:
        start = time.monotonic()
        connection.sendall(bytes(200_000))
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"200000 bytes"
        assert 1.0 <= time.monotonic() - start < 10.0


def test_a_stalled_line_holds_all_and_loses_nothing():
    with server(echo) as target, Proxy(target) as proxy, connect(proxy) as connection:
        assert exchange(connection, b"before") == b"before"
        proxy.stall()
        connection.sendall(b"during")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        with connect(proxy) as later:  # accepted
            later.sendall(b"later")
            proxy.resume()
            connection.settimeout(20)
            assert connection.recv(6, socket.MSG_WAITALL) == b"during"
            assert later.recv(5, socket.MSG_WAITALL) == b"later"


def test_a_cut_line_resets_and_refuses_until_it_resumes():
    with server(echo) as target, Proxy(target) as proxy:
        with connect(proxy) as connection:
            assert exchange(connection, b"before") == b"before"
            proxy.cut()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert proxy.connections == 0
        proxy.cut()  # which changes nothing
        proxy.resume()
        with connect(proxy) as connection:
            assert exchange(connection, b"after") == b"after"


def test_a_stalled_line_can_be_cut():
    with server(echo) as target, Proxy(target) as proxy, connect(proxy) as connection:
        proxy.stall()
        connection.sendall(bytes(1000))
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_target_that_is_not_there_is_a_reset():
    with (
        closed_port() as port,
        Proxy(("127.0.0.1", port)) as proxy,
        connect(proxy) as connection,
        pytest.raises(ConnectionResetError),
    ):
        connection.recv(1)


@pytest.mark.parametrize("way", ["port", "command"])
def test_ssh_goes_through_it(sshd, way):
    with Proxy(("127.0.0.1", sshd.port), delay=0.01) as proxy:
        ways = {"port": {"via": proxy}, "command": {"command": proxy.command}}
        client = sshd.make_client(**ways[way])
        done = client.run("n1", sys.executable, "-c", "import sys; print(len(sys.stdin.read()))", input="x" * 300_000)
        assert (done.stdout, done.stderr) == ("300000\n", "")
        assert proxy.passed > 300_000
        proxy.cut()
        assert client.run("n1", "true").returncode == 255


def test_a_proxy_for_a_machine_stalls_its_ssh_connection(machines):
    m1, *_ = machines
    with Proxy((m1.address, 22)) as proxy:
        client = m1.sshd.make_client(via=proxy)
        with client.start("m1", "cat") as process:
            process.stdin.write("one\n")
            process.stdin.flush()
            assert process.stdout.readline() == "one\n"
            proxy.cut()
            assert process.wait(timeout=20) == 255
