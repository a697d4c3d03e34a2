"""The machines that tests of SSH stand on do what they are said to: servers, networks, proxies, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from machines import Proxy, Testbed, closed_port, listening, silent_port, tree
from machines.sweep import namespaces_of, sweep

HOME = Path(__file__).parent
OWN_ADDRESSES = "import subprocess; print(subprocess.check_output(['ip', '-4', '-o', 'addr'], text=True))"


def eventually(condition, patience=10.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that"
        time.sleep(0.01)


def connects(address, port, timeout=0.5):
    try:
        socket.create_connection((address, port), timeout=timeout).close()
    except OSError:
        return False
    return True


# ---- a server


def test_a_program_runs_over_ssh_with_the_drivers_interpreter(sshd):
    code = "import os, sys; print(os.environ['SSH_CONNECTION'], sys.version_info[:2], sys.stdin.read())"
    done = sshd.client.run("n2", sys.executable, "-c", code, input="told")
    assert done.stdout == f"{done.stdout.rsplit(' ', 3)[0]} {sys.version_info[:2]} told\n"
    assert f"127.0.0.1 {sshd.port} " in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_of_the_users_is_in_use(sshd):
    """Neither keys, agents and known hosts of the user's, nor its home on the other side."""
    said = subprocess.run(["ssh", "-G", "-F", sshd.client.config, "n1"], capture_output=True, text=True, timeout=10).stdout
    options = [line.partition(" ")[::2] for line in said.splitlines()]
    assert [v for k, v in options if k == "identityfile"] == [str(sshd.user_key)]
    assert [v for k, v in options if k == "userknownhostsfile"] == [str(sshd.client.config.parent / "known_hosts")]
    assert str(Path.home() / ".ssh") not in said
    assert sshd.client.run("n1", "sh", "-c", "echo $HOME").stdout.strip() == str(sshd.folder / "home")
