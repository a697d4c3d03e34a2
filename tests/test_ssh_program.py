"""Programs on hosts: messages there and back, what their starts fail with, and that they end with the connection."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from machines import closed_port, silent_port
from pythons import make_python
from waiting import until

import graphray as gr
from graphray.executors.ssh import Host
from graphray.executors.ssh.program import Program

ECHO = """
while True:
    line.send(line.receive())
"""

# Tells the ids of itself and of a child of its own, and stays.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
line.send(f"{os.getpid()} {child.pid}".encode())
time.sleep(600)
"""


def gone(pids):
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def test_a_host_that_is_silent_is_not_waited_for(sshd, monkeypatch):
    """After Ctrl-C, say: there is nothing there that could tidy up."""
    with silent_port() as port:
        monkeypatch.setenv("GRAPHRAY_SSH", sshd.make_client(port=port).command)
        program = Program(Host("n1"), grace=5.0)
        time.sleep(0.3)
        began = time.monotonic()
        program.close()
        assert time.monotonic() - began < 1.0


def test_messages_of_any_size_go_there_and_back(ssh, rng):
    with Program(Host("n1")) as program:
        program.start(ECHO)
        for size in (1, 7, 8, 9, 65535, 65536, 65537, 5_000_000):
            message = rng.randbytes(size)
            program.send(message)
            assert program.receive(30) == message


def test_a_program_has_its_header_and_says_which_python_it_is(ssh):
    with Program(Host("n1")) as program:
        program.start("line.send(header)", b"\0\xffheader")
        assert program.receive(30) == b"\0\xffheader"
        assert program.hello["executable"] == sys.executable
        assert program.hello["version"] == list(sys.version_info[:3])


def test_an_empty_header_is_one(ssh):
    with Program(Host("n1")) as program:
        program.start("line.send(b'<' + header + b'>')")
        assert program.receive(30) == b"<>"


def test_nothing_of_it_is_on_a_command_line(ssh):
    with Program(Host("n1")) as program:
        program.start("secret = 'xyzzy'\n" + FAMILY, b"plugh")
        pid = int(program.receive(30).split()[0])
        lines = [" ".join(p.cmdline()) for p in [psutil.Process(pid), *psutil.Process().children()]]
        assert not any(word in text for text in lines for word in ("xyzzy", "plugh"))


def test_what_it_prints_goes_to_standard_error_and_harms_no_message(ssh):
    came = []
    source = """
    import os, subprocess
    print("printed", flush=True)
    subprocess.run(["sh", "-c", "cat; echo of a child"])  # nor does a child read what is for the program
    os.write(1, b"written\\n")
    line.send(line.receive())
    """
    with Program(Host("n1"), on_stderr=came.append) as program:
        program.start(textwrap.dedent(source))
        program.send(b"message")
        assert program.receive(30) == b"message"
        assert program.wait(30) == 0
    assert b"".join(came) == b"printed\nof a child\nwritten\n"
    assert program.said == "printed\nof a child\nwritten\n"


def test_much_output_on_both_streams_stops_nothing(ssh):
    source = """
    import sys
    for i in range(100):
        sys.stderr.write("e" * 50_000 + "\\n")
        line.send(b"m" * 50_000)
    """
    with Program(Host("n1")) as program:
        program.start(textwrap.dedent(source))
        for _ in range(100):
            assert program.receive(30) == b"m" * 50_000
    assert len(program.said) <= 65536


def test_a_noisy_login_shell_is_no_message(testbed, monkeypatch):
    noise = b"Welcome!\n\x1b[31m\xff\xfe 123\n" + b"x" * 200_000 + b" no newline"
    with testbed.sshd(noise=noise, banner="Authorised use only") as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        with Program(Host("server")) as program:
            program.start(ECHO)
            program.send(b"message")
            assert program.receive(30) == b"message"


@pytest.mark.parametrize("shell", ["sh", "bash", "bash --posix", "dash"])
def test_login_shells(testbed, monkeypatch, shell):
    with testbed.sshd(options=[f'ForceCommand exec {shell} -c "$SSH_ORIGINAL_COMMAND"']) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        with Program(Host("server")) as program:
            program.start(ECHO)
            program.send(b"message")
            assert program.receive(30) == b"message"


def test_a_path_with_spaces_and_quotes(ssh, tmp_path):
    folder = tmp_path / "it's my $HOME"
    folder.mkdir()
    (folder / "py thon").symlink_to(sys.executable)
    with Program(Host("n1", python=str(folder / "py thon"))) as program:
        program.start(ECHO)
        program.send(b"message")
        assert program.receive(30) == b"message"


def test_a_module_in_the_home_directory_is_not_in_the_way(testbed, monkeypatch):
    with testbed.sshd() as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        (server.folder / "home" / "tempfile.py").write_text("raise RuntimeError('not me')")
        with Program(Host("server")) as program:
            program.start(
                "import os, tempfile; os.chdir(os.environ['HOME']); line.send(tempfile.gettempdir().encode())"
            )
            assert program.receive(30)


# ---- starts that fail


def test_no_ssh_on_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHRAY_SSH", str(tmp_path / "ssh"))
    with pytest.raises(gr.HostError, match="install OpenSSH's client") as caught:
        Program(Host("a"))
    assert caught.value.reason == "no-ssh"


def test_no_server(sshd, monkeypatch):
    with closed_port() as port:
        monkeypatch.setenv("GRAPHRAY_SSH", sshd.make_client(port=port).command)
        with Program(Host("n1")) as program, pytest.raises(gr.HostError) as caught:
            program.start(ECHO)
    assert caught.value.reason == "refused"
    assert caught.value.host == Host("n1")


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("/no/such/python", "there is no /no/such/python"),
        ("/etc/passwd", "may not run /etc/passwd"),
        ("/bin/false", "does not start as a Python 3"),
        ("/bin/cat", r"does not start as a Python 3.*--help"),
    ],
)
def test_no_python(ssh, python, said):
    with Program(Host("n1", python=python)) as program, pytest.raises(gr.HostError, match=said) as caught:
        program.start(ECHO)
    assert caught.value.reason == "no-python"
    assert "graphray nodes setup n1" in str(caught.value)


def test_an_account_that_runs_nothing(testbed, monkeypatch):
    with testbed.sshd(options=["ForceCommand echo This account is not available.; exit 1"]) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        with Program(Host("server")) as program, pytest.raises(gr.HostError, match="This account is not available"):
            program.start(ECHO)


def test_a_host_that_lets_in_and_does_nothing(testbed, monkeypatch):
    with testbed.sshd(options=["ForceCommand echo please wait; sleep 600"]) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        with Program(Host("server")) as program, pytest.raises(gr.HostError, match="please wait") as caught:
            program.start(ECHO, timeout=1.0)
        assert caught.value.reason == "timeout"


def test_a_host_that_talks_without_end(testbed, monkeypatch):
    with testbed.sshd(options=["ForceCommand yes"]) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        with Program(Host("server")) as program, pytest.raises(gr.HostError) as caught:
            program.start(ECHO, timeout=1.0)
        assert caught.value.reason == "timeout"


def test_a_source_with_an_error_is_told_with_its_traceback(ssh):
    with Program(Host("n1")) as program:
        program.start("x = 1\nraise ValueError('no good')", name="my program")
        with pytest.raises(gr.HostError, match=r"(?s)exit status 1.*my program.*line 2.*ValueError: no good") as caught:
            program.receive(30)
        assert caught.value.reason == "ended"
        with pytest.raises(gr.HostError):  # and again
            program.receive(30)


def test_another_python_is_refused(ssh, tmp_path):
    with (
        Program(Host("n1", python=str(make_python(tmp_path, (3, 9, 1))))) as program,
        pytest.raises(gr.HostError) as caught,
    ):
        program.start(ECHO)
    assert caught.value.reason == "python-version"
    assert "is Python 3.9.1" in str(caught.value)


# ---- ends


def test_it_ends_with_the_connection_and_so_do_its_children(ssh):
    with Program(Host("n1")) as program:
        program.start(FAMILY)
        pids = [int(pid) for pid in program.receive(30).split()]
        assert not gone(pids)
    assert until(lambda: gone(pids))


def test_children_that_a_program_leaves_end_with_it(ssh):
    with Program(Host("n1")) as program:
        program.start(FAMILY.replace("time.sleep(600)\n", ""))
        child = int(program.receive(30).split()[1])
        assert program.wait(30) == 0
        assert until(lambda: gone([child]))


def test_a_program_that_is_killed_there_is_not_taken_for_a_failing_connection(ssh):
    source = """
    import os, signal, sys
    print("ConnectionRefusedError: Connection refused", "and more", "and more", sep="\\n", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    with Program(Host("n1")) as program:
        program.start(textwrap.dedent(source))
        with pytest.raises(gr.HostError, match="ended by a signal there") as caught:
            program.receive(30)
    assert caught.value.reason == "ended"


def test_a_listener_that_raises_stops_nothing(ssh):
    def listen(part):
        raise RuntimeError("not now")

    with Program(Host("n1"), on_stderr=listen) as program:
        program.start("print('a', flush=True)\n" + ECHO)
        program.send(b"message")
        assert program.receive(30) == b"message"


def test_it_has_its_grace(ssh, tmp_path):
    source = f"""
    try:
        line.receive()
    except EOFError:
        open({str(tmp_path / "cleared up")!r}, "w").close()
    """
    with Program(Host("n1"), grace=10.0) as program:
        program.start(textwrap.dedent(source))
    assert (tmp_path / "cleared up").exists()


def test_a_connection_that_is_cut_ends_both_sides(testbed, monkeypatch):
    with testbed.sshd() as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        with Program(Host("server")) as program:
            program.start(FAMILY)
            pids = [int(pid) for pid in program.receive(30).split()]
            for process in server.processes():
                if "sshd" in process.name():
                    process.kill()
            with pytest.raises(gr.HostError):
                program.receive(30)
            assert until(lambda: gone(pids))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_driver_that_is_killed_takes_it_along(ssh, how):
    source = f"""
    import sys, time
    from graphray.executors.ssh import Host
    from graphray.executors.ssh.program import Program
    program = Program(Host("n1"))
    program.start({FAMILY!r})
    print(program.receive(30).decode(), flush=True)
    time.sleep(600)
    """
    driver = subprocess.Popen([sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, text=True)
    with driver:
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        assert len(pids) == 2
        assert not gone(pids)
        driver.send_signal(how)
    assert until(lambda: gone(pids))


def test_a_silent_driver_is_given_up(ssh, monkeypatch):
    """As when a cable is cut: no end of the stream is seen there, only silence."""
    import graphray.executors.ssh.program as module

    monkeypatch.setattr(module, "PATIENCE", 1.0)
    monkeypatch.setattr(module, "BEAT", 0.2)
    with Program(Host("n1")) as program:
        program.start(FAMILY)
        pids = [int(pid) for pid in program.receive(30).split()]
        time.sleep(2.0)
        assert not gone(pids)  # it is told that somebody is there
        client = next(p for p in psutil.Process().children() if "BatchMode=yes" in p.cmdline())
        client.suspend()
        assert until(lambda: gone(pids))
        client.resume()


def test_closing_does_not_wait_for_a_client_that_hangs(ssh):
    program = Program(Host("n1"))
    program.start(ECHO)
    client = next(p for p in psutil.Process().children() if "BatchMode=yes" in p.cmdline())
    os.kill(client.pid, signal.SIGSTOP)
    program.close(0.1)
    assert not client.is_running()
    with pytest.raises(gr.HostError):
        program.send(b"message")


# ---- a network between


def test_a_cable_that_is_pulled_ends_both_sides(machines, monkeypatch):
    import graphray.executors.ssh.program as module

    monkeypatch.setattr(module, "PATIENCE", 2.0)
    monkeypatch.setattr(module, "BEAT", 0.2)
    monkeypatch.setenv("GRAPHRAY_SSH", machines.client.command)
    m1, *_ = machines
    with Program(Host("m1"), options=["ServerAliveInterval=1", "ServerAliveCountMax=2"]) as program:
        program.start(FAMILY)
        pids = [int(pid) for pid in program.receive(30).split()]
        m1.cut()
        with pytest.raises(gr.HostError) as caught:
            program.receive(60)
        assert caught.value.reason == "timeout"
        assert until(lambda: gone(pids))


def test_machines_that_are_off_or_silent(machines, monkeypatch):
    monkeypatch.setenv("GRAPHRAY_SSH", f"{machines.client.command} -o ConnectTimeout=1")
    m1, m2, m3 = machines
    m1.cut()
    m2.freeze()
    reports = gr.executors.ssh.check([m.name for m in (m1, m2, m3)], timeout=60)
    m2.thaw()
    assert [report.usable for report in reports[:2]] == [False, False]
    assert reports[0].problems[0].topic in ("timeout", "unreachable")
    assert reports[1].problems[0].topic == "timeout"
    assert reports[2].reachable


def test_a_host_behind_another_one(machines, monkeypatch, tmp_path):
    """The user's ProxyJump is all that it takes."""
    _, m2, _ = machines
    config = tmp_path / "config"
    config.write_text(f"Match host m1 exec true\n  ProxyJump m2\nMatch all\nInclude {machines.client.config}\n")
    monkeypatch.setenv("GRAPHRAY_SSH", f"ssh -F {config}")
    with Program(Host("m1")) as program:
        program.start("import os; line.send(os.environ['SSH_CONNECTION'].encode())")
        assert program.receive(30).split()[0].decode() == m2.address
    config.write_text(
        f"Match host m1 exec true\n  ProxyJump nosuch.invalid\nMatch all\nInclude {machines.client.config}\n"
    )
    with (
        Program(Host("m1")) as program,
        pytest.raises(gr.HostError, match=r"m1.*on the way.*nosuch\.invalid") as caught,
    ):
        program.start(ECHO)
    assert caught.value.reason == "unknown-host"
