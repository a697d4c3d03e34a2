"""The system's ssh as it is called, and what is said when it fails, against real servers."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
from machines import closed_port, silent_port

import graphray as gr
from graphray.executors.ssh import Host
from graphray.executors.ssh.openssh import command, explain


def run(host, argv, **options):
    found = command(host, argv, **options)
    return subprocess.run(found, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def failure(host, argv=("true",), **options):
    done = run(host, argv, **options)
    assert done.returncode != 0
    return explain(host, done.returncode, done.stderr)


# ---- the command


def test_arguments_arrive_as_they_are(ssh):
    argv = ["it's", 'a "b"', "$HOME", "`id`", "a\nb", "*", "\\", "!x", "", "-n", "ä", "~"]
    done = run(Host("n1"), [sys.executable, "-c", "import sys; print(ascii(sys.argv[1:]))", *argv])
    assert done.stdout == f"{argv!a}\n", done.stderr


@pytest.mark.parametrize(
    "host", [Host("a"), Host("a", user="alice", port=2222), Host("::1"), Host("a", env={"A": "1"}, python="/opt/my py")]
)
def test_nothing_is_said_about_which_host_keys_are_trusted(host, monkeypatch):
    monkeypatch.delenv("GRAPHRAY_SSH", raising=False)
    found = command(host, ["true"], forwards=[("R", "0:127.0.0.1:80")])
    text = " ".join(found).lower()
    for option in ("stricthostkeychecking", "knownhosts", "hostkey", "nohostauthentication", "-a ", "identity"):
        assert option not in text
    assert found[0] == "ssh"
    assert "BatchMode=yes" in found
    assert found[-3:] == ["--", host.name, "true"]


def test_user_and_port_are_options_of_their_own(monkeypatch):
    monkeypatch.delenv("GRAPHRAY_SSH", raising=False)
    found = command(Host("a", user="alice", port=2222), ["true"])
    assert (found[found.index("-l") + 1], found[found.index("-p") + 1]) == ("alice", "2222")


def test_the_users_configuration_applies(sshd, monkeypatch):
    """What it says of keys, hosts and jumps; and its forwards do not get into the way."""
    with silent_port() as taken:
        lines = [
            f"LocalForward 127.0.0.1:{taken} 127.0.0.1:1",
            "RemoteCommand false",
            "RequestTTY force",
            "LogLevel QUIET",
        ]
        client = sshd.make_client(options=lines)
        monkeypatch.setenv("GRAPHRAY_SSH", client.command)
        done = run(Host("n1"), ["echo", "here"])
    assert (done.returncode, done.stdout) == (0, "here\n"), done.stderr


def test_the_variable_is_read_as_a_shell_would(sshd, monkeypatch):
    monkeypatch.setenv("GRAPHRAY_SSH", f"'ssh' -F '{sshd.client.config}'")
    assert run(Host("n2"), ["echo", "a"]).stdout == "a\n"
    monkeypatch.setenv("GRAPHRAY_SSH", "ssh -F 'open")
    with pytest.raises(ValueError, match="GRAPHRAY_SSH"):
        command(Host("n2"), ["true"])


def test_options_go_before_those_that_are_set(monkeypatch):
    monkeypatch.delenv("GRAPHRAY_SSH", raising=False)
    found = [x for x in command(Host("a"), ["true"], options=["ConnectTimeout=1"]) if x.startswith("ConnectTimeout")]
    assert found[0] == "ConnectTimeout=1"
    both = [word for option in found for word in ("-o", option)]
    shown = subprocess.run(["ssh", "-F", "none", "-G", *both, "a"], capture_output=True, text=True, timeout=30)
    assert "connecttimeout 1\n" in shown.stdout


@pytest.mark.parametrize("argv", [[], ["a\0b"]])
def test_what_cannot_be_run_is_refused(argv):
    with pytest.raises(ValueError, match="program"):
        command(Host("a"), argv)


def test_a_forward_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="forward"):
        command(Host("a"), ["true"], forwards=[("D", "1080")])


# ---- what its failures mean


def test_an_unknown_host_name(ssh):
    error = failure(Host("nosuch.invalid", user="alice"))
    assert isinstance(error, gr.HostError)
    assert (error.reason, error.host) == ("unknown-host", Host("nosuch.invalid", user="alice"))
    assert "alice@nosuch.invalid" in str(error)


def test_a_closed_port(sshd, monkeypatch):
    with closed_port() as port:
        monkeypatch.setenv("GRAPHRAY_SSH", sshd.make_client(port=port).command)
        error = failure(Host("n1"))
    assert error.reason == "refused"
    assert "Is sshd running" in str(error)


def test_a_silent_host(sshd, monkeypatch):
    with silent_port() as port:
        monkeypatch.setenv("GRAPHRAY_SSH", sshd.make_client(port=port).command)
        error = failure(Host("n1"), options=["ConnectTimeout=1"])
    assert error.reason == "timeout"


@pytest.mark.parametrize(
    ("options", "reason", "advice"),
    [
        ({"known": "no"}, "host-key-unknown", "compare the fingerprint: ssh -F"),
        ({"known": "otherwise"}, "host-key-changed", "ssh-keygen -R"),
        ({"refused": True}, "permission-denied", "ssh-copy-id"),
    ],
)
def test_a_client_that_does_not_get_in(sshd, monkeypatch, options, reason, advice):
    client = sshd.make_client(**options)
    monkeypatch.setenv("GRAPHRAY_SSH", client.command)
    before = (client.config.parent / "known_hosts").read_bytes()
    error = failure(Host("n1"))
    assert error.reason == reason
    assert advice in str(error)
    assert (client.config.parent / "known_hosts").read_bytes() == before


def test_an_unknown_key_is_refused_also_where_the_user_would_be_asked(sshd, monkeypatch):
    monkeypatch.setenv("GRAPHRAY_SSH", sshd.make_client(known="no").command + " -o StrictHostKeyChecking=ask")
    assert failure(Host("n1")).reason == "host-key-unknown"


def test_a_forward_that_is_refused(testbed, monkeypatch):
    with testbed.sshd(forwarding=False) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        error = failure(Host("server"), forwards=[("R", "0:127.0.0.1:1")])
    assert error.reason == "forwarding-refused"
    assert "AllowTcpForwarding" in str(error)


def test_a_forward_that_is_had(ssh):
    done = run(Host("n1"), ["echo", "a"], forwards=[("R", "127.0.0.1:0:127.0.0.1:1")])
    assert done.returncode == 0
    assert "Allocated port" in done.stderr


def test_a_broken_configuration(sshd, monkeypatch, tmp_path):
    (tmp_path / "config").write_text("NoSuchOption yes\n")
    monkeypatch.setenv("GRAPHRAY_SSH", f"ssh -F '{tmp_path}/config'")
    error = failure(Host("n1"))
    assert error.reason == "ssh-configuration"
    assert "NoSuchOption" in str(error).lower() or "nosuchoption" in str(error).lower()


def test_a_program_that_is_not_there(ssh):
    error = failure(Host("n1", python="/no/such/python"), ["/no/such/python", "-c", "pass"])
    assert error.reason == "no-python"
    assert "/no/such/python" in str(error)
    assert "graphray nodes setup n1" in str(error)


def test_a_program_that_fails_is_told_with_the_end_of_what_it_said(ssh):
    error = failure(Host("n1"), ["sh", "-c", "echo first >&2; printf 'no good\\033[2J\\a' >&2; exit 3"])
    assert error.reason == "ended"
    assert "exit status 3" in str(error)
    assert str(error).endswith("first\nno good")


def test_an_ssh_that_was_killed():
    assert "SIGTERM" in str(explain(Host("a"), -15, ""))


def test_the_error_travels_between_processes():
    error = explain(Host("a"), 255, b"ssh: Could not resolve hostname a: Name or service not known\r\n")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.host, again.reason) == (str(error), Host("a"), "unknown-host")
