"""The machines that tests of SSH stand on do what they are said to: servers and networks. See test_machines_end too."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from machines import closed_port, listening, silent_port, tree
from machines import network as machines_network
from machines.processes import running
from waiting import until

ROOT = Path(__file__).parent.parent


def connects(address, port, timeout=0.5):
    try:
        socket.create_connection((address, port), timeout=timeout).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def session(client, host, code):
    """A program at work on a host, once it has printed a line."""
    process = client.start(host, sys.executable, "-c", code)
    with process:
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            yield process
        finally:
            process.kill()


def says_more(process, seconds):
    return bool(select.select([process.stdout], [], [], seconds)[0])


# ---- a server


def test_a_program_runs_over_ssh_with_the_drivers_interpreter(sshd):
    code = "import json, os, sys; print(json.dumps([os.environ['SSH_CONNECTION'], sys.executable, sys.stdin.read()]))"
    done = sshd.client.run("n2", sys.executable, "-c", code, input="told")
    connection, executable, told = json.loads(done.stdout)
    assert connection.split()[2:] == ["127.0.0.1", str(sshd.port)]
    assert (executable, told) == (sys.executable, "told")
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_of_the_users_is_in_use(sshd):
    """Neither keys, agents and known hosts of the user's, nor its home on the other side."""
    shown = subprocess.run(["ssh", "-G", "-F", sshd.client.config, "n1"], capture_output=True, text=True, timeout=10)
    options = [line.partition(" ")[::2] for line in shown.stdout.splitlines()]
    assert [v for k, v in options if k == "identityfile"] == [str(sshd.user_key)]
    assert [v for k, v in options if k == "userknownhostsfile"] == [str(sshd.client.config.parent / "known_hosts")]
    assert [v for k, v in options if k == "identityagent"] == ["none"]
    assert [v for k, v in options if k == "globalknownhostsfile"] == ["none"]
    assert str(Path.home() / ".ssh") not in shown.stdout
    assert sshd.client.run("n1", "sh", "-c", "echo $HOME").stdout.strip() == str(sshd.folder / "home")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"known": "no"}, "host key is known for .*Host key verification failed"),
        ({"known": "otherwise"}, "REMOTE HOST IDENTIFICATION HAS CHANGED.*Host key verification failed"),
        ({"refused": True}, r"Permission denied \(publickey\)"),
    ],
)
def test_a_client_that_does_not_get_in(sshd, options, said):
    done = sshd.make_client(**options).run("n1", "true")
    assert done.returncode == 255
    assert re.search(said, done.stderr, re.DOTALL)


def test_a_closed_port_refuses(sshd):
    with closed_port() as port:
        done = sshd.make_client(port=port).run("n1", "true")
    assert done.returncode == 255
    assert "Connection refused" in done.stderr


def test_a_silent_port_accepts_and_says_nothing(sshd):
    with silent_port() as port:
        assert connects("127.0.0.1", port)
        done = sshd.make_client(port=port, options=["ConnectTimeout 1"]).run("n1", "true")
    assert done.returncode == 255
    assert "timed out during banner exchange" in done.stderr


def test_a_port_in_use_is_said_with_the_servers_own_words(testbed):
    with silent_port() as port, pytest.raises(OSError, match=f"127.0.0.1:{port}(?s:.)*Address already in use"):
        testbed.sshd(port=port)


def test_a_noisy_login_comes_before_the_programs_words(testbed):
    noise = b"Welcome!\n\x1b[31m\xff\xfe no newline"
    with testbed.sshd(noise=noise, banner="Authorised use only") as server:
        process = server.client.start("server", "echo", "it's $HOME", text=False)
        out, err = process.communicate(timeout=30)
    assert out == noise + b"it's $HOME\n"
    assert b"Authorised use only" in err
    assert noise in err


@pytest.mark.parametrize("python", ["missing/python", "folder", "not-executable"])
def test_a_wrong_path_of_python_is_the_shells_error(sshd, tmp_path, python):
    (tmp_path / "folder").mkdir()
    (tmp_path / "not-executable").write_text("")
    done = sshd.client.run("n1", str(tmp_path / python), "-c", "pass")
    assert done.returncode in (126, 127)
    assert str(tmp_path / python) in done.stderr


@pytest.mark.parametrize("forwarding", [True, False])
def test_forwarding_can_be_refused(testbed, forwarding):
    with silent_port() as here, testbed.sshd(forwarding=forwarding) as server:
        options = ["ExitOnForwardFailure yes", f"RemoteForward 127.0.0.1:0 127.0.0.1:{here}"]
        done = server.make_client(options=options).run("server", "echo", "connected")
    assert (done.returncode, done.stdout) == ((0, "connected\n") if forwarding else (255, ""))
    assert ("forwarding failed" in done.stderr) is not forwarding


def test_what_sessions_start_is_counted_and_ends_with_the_server(testbed):
    with testbed.sshd() as server, testbed.sshd() as other:
        assert server.processes() == []
        server.client.run("server", "sh", "-c", "setsid sleep 300 < /dev/null > /dev/null 2>&1 &")
        assert until(lambda: [p.name() for p in server.processes()] == ["sleep"])  # the session has ended
        (detached,) = server.processes()
        assert other.processes() == []
        other.kill()
        assert running(detached)
        server.kill()
        assert not running(detached)
        assert not connects("127.0.0.1", server.port)
        server.start()
        assert server.client.run("server", "echo", "again").stdout == "again\n"
    assert not server.folder.exists()


def test_killing_a_server_leaves_its_clients_to_see_that(testbed):
    with testbed.sshd() as server, session(server.client, "server", "print('ready', flush=True); input()") as client:
        assert len(server.processes()) >= 2
        server.kill()
        assert client.wait(timeout=20) == 255


# ---- machines


def test_each_machine_has_an_address_a_name_and_files_of_its_own(machines):
    code = """if True:
        import json, os, socket, subprocess, tempfile
        addresses = subprocess.check_output(["ip", "-4", "-o", "addr"], text=True)
        open("/dev/shm/mine", "w").close()
        seen = sorted(os.listdir("/dev/shm") + os.listdir(tempfile.gettempdir()))
        os.unlink("/dev/shm/mine")
        print(json.dumps([addresses.split("inet ")[1:], socket.gethostname(), tempfile.gettempdir(), seen]))
    """
    (Path("/dev/shm") / f"graphray-{os.getpid()}-of-the-driver").touch()
    try:
        seen = [json.loads(m.python(code)) for m in machines]
    finally:
        (Path("/dev/shm") / f"graphray-{os.getpid()}-of-the-driver").unlink()
    assert len({m.address for m in machines}) == 3
    for machine, (addresses, name, temporary, files) in zip(machines, seen, strict=True):
        assert {a.split("/")[0] for a in addresses} == {"127.0.0.1", machine.address}
        assert (name, temporary, files) == (machine.name, str(machine.tmp), ["mine"])


def test_loopback_is_each_machines_own_and_the_network_is_shared(machines):
    m1, m2, _ = machines
    connect = """if True:
        import socket, sys
        try:
            socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)
            print("open")
        except ConnectionRefusedError:
            print("refused")
    """
    serve = """if True:
        import socket
        with socket.create_server((ADDRESS, 4242)):
            print("ready", flush=True)
            input()
    """
    with session(machines.client, "m1", serve.replace("ADDRESS", "'127.0.0.1'")):
        assert m1.python(connect, "localhost", "4242") == "open\n"
        assert m2.python(connect, "localhost", "4242") == "refused\n"
        assert m2.python(connect, "m1", "4242") == "refused\n"
        assert not connects("127.0.0.1", 4242)
    with session(machines.client, "m1", serve.replace("ADDRESS", "''")):
        assert m2.python(connect, "m1", "4242") == "open\n"
        assert connects(m1.address, 4242)
    with socket.create_server((machines.driver, 0)) as here:
        assert m2.python(connect, "driver", str(here.getsockname()[1])) == "open\n"


TALK = """if True:
    import sys
    print("ready", flush=True)
    for line in sys.stdin:
        print(line, end="", flush=True)
"""


def test_a_cut_machine_is_silent_until_it_joins_again(machines):
    m1, m2, _ = machines
    with session(machines.client, "m1", TALK) as talk:
        m1.cut()
        talk.stdin.write("hello\n")
        talk.stdin.flush()
        assert not says_more(talk, 1.0)
        assert talk.poll() is None  # nobody was told
        assert not connects(m1.address, 22)
        assert connects(m2.address, 22)
        m1.join()
        assert says_more(talk, 20.0)
        assert talk.stdout.readline() == "hello\n"


def test_isolated_machines_see_the_driver_only(machines):
    m1, m2, _ = machines
    reach = """if True:
        import socket, sys
        for host in sys.argv[1:]:
            try:
                socket.create_connection((host, 22), timeout=0.5).close()
                print(host)
            except OSError:
                pass
    """
    assert m1.python(reach, "m2", "m3") == "m2\nm3\n"
    m1.isolate()
    m2.isolate()
    assert m1.python(reach, "m2", "m3") == "m3\n"
    assert m2.python(reach, "m1", "m3") == "m3\n"
    m1.unite()
    assert m1.python(reach, "m2", "m3") == "m2\nm3\n"


def test_a_killed_machine_has_nothing_left_and_boots_as_itself(machines):
    m1, *_ = machines
    code = """if True:
        import subprocess
        # An orphan without an environment: it is known by its namespace only.
        subprocess.run(["/bin/sh", "-c", "sleep 300 &"], env={}, start_new_session=True)
        print("ready", flush=True)
        input()
    """
    with session(machines.client, "m1", code) as client, session(machines.client, "m2", TALK) as other:
        assert {p.name() for p in m1.processes()} >= {"sshd", "sleep"}
        m1.python("import os, tempfile; open(os.path.join(tempfile.gettempdir(), 'f'), 'w').close()")
        assert [p.name for p in m1.files()] == ["f"]
        m1.kill()
        assert m1.processes(server=True) == m1.listening() == m1.files() == []
        assert not m1.running
        assert client.wait(timeout=20) == 255  # the kernel has closed its connections
        assert not connects(m1.address, 22)
        other.stdin.write("still here\n")
        other.stdin.flush()
        assert other.stdout.readline() == "still here\n"
    m1.boot()
    assert m1.python("print('again')") == "again\n"
    assert m1.files() == []


def test_a_machine_without_power_tells_nobody(machines):
    m1, *_ = machines
    with session(machines.client, "m1", TALK) as talk:
        m1.cut()
        m1.kill()
        assert m1.processes(server=True) == []
        talk.stdin.write("hello\n")
        talk.stdin.flush()
        assert not says_more(talk, 1.0)
        assert talk.poll() is None


def test_a_frozen_machine_accepts_and_does_not_answer(machines):
    m1, *_ = machines
    with session(machines.client, "m1", TALK) as talk:
        m1.freeze()
        assert until(lambda: {p.status() for p in m1.processes(server=True)} == {"stopped"})
        talk.stdin.write("hello\n")
        talk.stdin.flush()
        with socket.create_connection((m1.address, 22), timeout=5) as connection:
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            assert not says_more(talk, 0.5)
            m1.thaw()
            connection.settimeout(20)
            assert connection.recv(4) == b"SSH-"
        assert talk.stdout.readline() == "hello\n"


def test_processes_are_counted_where_they_are(machines):
    m1, m2, _ = machines
    code = """if True:
        import subprocess
        print("ready", flush=True)
        sleeping = [subprocess.Popen(["sleep", "300"]) for _ in range(3)]
        input()
        for process in sleeping:
            process.kill()
            process.wait()
    """
    with session(machines.client, "m1", code) as client:
        assert until(lambda: [p.name() for p in m1.processes()].count("sleep") == 3)
        assert m2.processes() == []
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.wait(timeout=20) == 0
        assert "sleep" not in [p.name() for p in m1.processes()]


LISTEN = """if True:
    import socket, sys
    made = [socket.create_server(("127.0.0.1", 4001)), socket.create_server(("::1", 4002), family=socket.AF_INET6)]
    made.append(socket.socket())
    made[-1].bind(("127.0.0.1", 4003))  # and does not listen
    made.append(socket.create_connection(("127.0.0.1", 4001)))
    print("ready", flush=True)
    input()
"""


def test_listeners_of_a_machine(machines):
    m1, m2, _ = machines
    before = m1.listening()
    assert [(found.port, found.address) for found in before] == [(22, m1.address)]
    with session(machines.client, "m1", LISTEN):
        found = [x for x in m1.listening() if x.port != 22]
        assert [(x.port, x.address) for x in found] == [(4001, "127.0.0.1"), (4002, "::1")]
        (pid,) = {x.pid for x in found}
        assert pid in {p.pid for p in m1.processes()}
        assert {x.command for x in found} == {" ".join([sys.executable, "-c", LISTEN]).strip()}
        assert [x.port for x in m2.listening()] == [22]
    assert until(lambda: m1.listening() == before)


def test_listeners_of_a_tree_of_processes():
    mine = set(listening(tree()))
    with silent_port() as port, closed_port():
        assert [(x.port, x.address, x.pid) for x in set(listening(tree())) - mine] == [(port, "127.0.0.1", os.getpid())]
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "ready\n"
        found = set(listening(tree())) - mine
        assert sorted((x.port, x.address, x.pid) for x in found) == [
            (4001, "127.0.0.1", child.pid),
            (4002, "::1", child.pid),
        ]
        assert found == set(listening(tree(child.pid)))
        child.communicate("\n", timeout=20)
    assert set(listening(tree())) == mine


def test_a_small_disk_is_full_at_its_size(machines):
    code = """if True:
        import errno, os, sys, tempfile
        for folder in (tempfile.gettempdir(), "/dev/shm"):
            path, written = os.path.join(folder, "large"), 0
            try:
                with open(path, "wb", buffering=0) as file:
                    while True:
                        written += file.write(bytes(4096))
            except OSError as error:
                print(errno.errorcode[error.errno], written)
    """
    with machines.extra(tmp="4M", shm="2M") as small:
        assert small.python(code) == f"ENOSPC {4 << 20}\nENOSPC {2 << 20}\n"
        assert [p.stat().st_size for p in small.files()] == [2 << 20, 4 << 20]
        assert machines.client.run(small.name, "true").returncode == 0
        assert (
            machines["m1"].python(f"import socket; print(socket.gethostbyname('{small.name}'))") == f"{small.address}\n"
        )
    assert not connects(small.address, 22)
    assert machines.client.run(small.name, "true").returncode == 255


def test_a_black_hole_takes_everything_and_never_answers(machines):
    code = "import socket, sys; socket.create_connection((sys.argv[1], 22), timeout=float(sys.argv[2]))"
    with pytest.raises(TimeoutError):  # also after the time in which an address that nobody has is reported
        socket.create_connection((machines.black_hole, 22), timeout=3.5)
    with pytest.raises(RuntimeError, match="TimeoutError"):
        machines["m1"].python(code, machines.black_hole, "1")


def test_a_machine_can_be_hard_to_get_along_with(machines):
    with machines.extra(noise=b"motd\n", forwarding=False) as machine:
        assert machine.python("print('reached')") == "motd\nreached\n"
        through = ["ssh", "-F", machines.client.config, "-W", "localhost:22", machine.name]
        done = subprocess.run(through, capture_output=True, timeout=30)
        assert done.returncode == 255
        assert b"administratively prohibited" in done.stderr


def test_a_machine_that_only_its_ssh_connection_reaches(machines):
    """As behind a bastion: it has no network, and ssh comes in through a command."""
    m1, *_ = machines
    m1.cut()
    assert m1.bastion().run("m1", "hostname").stdout == "m1\n"


def test_mending_says_what_was_left_and_removes_it(testbed, monkeypatch):
    monkeypatch.setattr(machines_network, "PATIENCE", 0.5)
    with testbed.network(2) as network:
        m1, m2 = network
        m1.python("import subprocess; subprocess.Popen(['sleep', '300'], start_new_session=True, stdout=-3, stderr=-3)")
        m1.python("open('/dev/shm/left', 'w').close()")
        m2.python("open('/dev/shm/left', 'w').close()")
        m2.freeze()
        left = network.mend()
        assert [re.sub(r"/proc/\d+|\d+ ", "", text) for text in left] == ["m1: sleep 300", "m1: /root/dev/shm/left"]
        assert network.mend() == []
        for machine in network:
            assert (machine.processes(), machine.files(), machine.running) == ([], [], True)
            assert machine.python("print('mended')") == "mended\n"


def test_networks_at_the_same_time_are_apart(machines, testbed):
    with testbed.network(1) as other:
        assert other.subnet != machines.subnet
        assert other.client.run("m1", "hostname").stdout == "m1\n"
        assert other["m1"].sshd.host_key != machines["m1"].sshd.host_key
        other["m1"].kill()
        assert machines["m1"].python("print('untouched')") == "untouched\n"
