"""What testbeds make goes with them: when they close, when their run is killed, and when its guard is killed too."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from machines import Testbed
from machines.processes import marked
from machines.sweep import NAMESPACES, namespaces_of, stale, sweep

HERE = Path(__file__).parent

# A run with all there is to leave behind: it says what it has, and waits.
RUN = """if True:
    import json, sys
    from machines import Testbed
    with Testbed() as testbed:
        server = testbed.sshd()
        network = testbed.network(2)
        detach = ["sh", "-c", "setsid sleep 300 < /dev/null > /dev/null 2>&1 &"]
        server.client.run("server", *detach)
        network.client.run("m2", *detach)
        open_session = network.client.start("m1", "cat")
        print(json.dumps([testbed.name, network.link, testbed._guard.pid]), flush=True)
        sys.stdin.read()
        open_session.kill()
        open_session.communicate()
"""


class Belongings:
    """What a run has, by its testbed's name."""

    def __init__(self, name, link, guard):
        self.name = name
        self.link = link
        self.guard = guard

    def left(self):
        """All that is there of it now."""
        return {
            "folders": [p for p in os.listdir(tempfile.gettempdir()) if p == self.name],
            "namespaces": namespaces_of(self.name),
            "links": [p for p in os.listdir("/sys/class/net") if p == self.link],
            "processes": marked(f"/{self.name}/", clients=True),
        }


@contextlib.contextmanager
def run():
    """The run above, in a process of its own."""
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    process = subprocess.Popen([sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    with process:
        try:
            belongings = Belongings(*json.loads(process.stdout.readline()))
            assert all(belongings.left().values())
            assert sum(p.name() == "sleep" for p in belongings.left()["processes"]) == 2
            yield process, belongings
        finally:
            process.kill()


def eventually_gone(belongings, patience=20.0):
    deadline = time.monotonic() + patience
    while any(belongings.left().values()) or psutil.pid_exists(belongings.guard):
        assert time.monotonic() < deadline, belongings.left()
        time.sleep(0.02)


@pytest.mark.netns
def test_nothing_is_left_of_a_run_that_ends():
    with run() as (process, belongings):
        process.stdin.close()
        assert process.wait(timeout=30) == 0
        assert not any(belongings.left().values()), belongings.left()
        assert not psutil.pid_exists(belongings.guard)


@pytest.mark.netns
def test_nothing_is_left_of_a_run_that_fails():
    with run() as (process, belongings):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) != 0
        assert not any(belongings.left().values()), belongings.left()


@pytest.mark.netns
def test_a_guard_clears_up_after_a_killed_run():
    with run() as (process, belongings):
        process.kill()
        process.wait()
        eventually_gone(belongings)


@pytest.mark.netns
def test_the_next_run_clears_up_if_the_guard_was_killed_as_well():
    with run() as (process, belongings):
        os.kill(belongings.guard, signal.SIGKILL)
        process.kill()
        process.wait()
        assert all(belongings.left().values())
        with Testbed():
            assert not any(belongings.left().values()), belongings.left()


@pytest.mark.netns
def test_two_runs_that_clear_up_at_once_do_not_mind_each_other():
    with run() as (process, belongings):
        os.kill(belongings.guard, signal.SIGKILL)
        process.kill()
        process.wait()
        env = {**os.environ, "PYTHONPATH": str(HERE)}
        command = [sys.executable, "-W", "error", "-c", "from machines.sweep import sweep; sweep()"]
        sweeps = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE) for _ in range(3)]
        said = [sweep.communicate(timeout=60)[1] for sweep in sweeps]
        assert ([sweep.returncode for sweep in sweeps], said) == ([0] * 3, [b""] * 3)
        assert not any(belongings.left().values()), belongings.left()


def test_a_namespace_that_was_only_half_made_is_swept(machines):
    """`ip netns add` makes a file first, and mounts the namespace on it then."""
    name = f"graphray-{2**22 + 1}-1-00000000-testbed-net1-m1"
    (NAMESPACES / name).touch()
    sweep()  # or another run's, just before
    assert name not in namespaces_of("")


@pytest.mark.netns
def test_a_living_runs_things_are_left_alone():
    with run() as (process, belongings):
        before = belongings.left()
        assert not [what for what in sweep() if belongings.name in what]
        after = belongings.left()
        assert set(before.pop("processes")) <= set(after.pop("processes"))  # a session may just be beginning
        assert after == before
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_names_say_whose_they_are(testbed):
    _, pid, born, token, _ = testbed.name.split("-")
    assert not stale(testbed.name)
    assert not stale(f"{testbed.name}-net1-m1")
    assert stale(f"graphray-{pid}-{int(born) + 1}-{token}-testbed")  # the id was given out again
    assert stale(f"graphray-{2**22 + 1}-{born}-{token}-testbed-net1-switch")  # larger than an id can be
    assert not stale(f"graphray-{2**22 + 1}-node")  # not a testbed's


def test_a_strangers_folder_is_not_swept(tmp_path, monkeypatch):
    """A link is not followed, whatever it is called."""
    target = tmp_path / "kept"
    target.mkdir()
    (target / "file").touch()
    name = f"graphray-{2**22 + 1}-1-00000000-testbed"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / name).symlink_to(target)
    assert sweep() == []
    assert (target / "file").exists()
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert sweep() == [str(tmp_path / name)]
    assert not (tmp_path / name).exists()


# ---- between tests

TESTS = """
import subprocess

DETACH = "import subprocess; subprocess.Popen(['sleep', '300'], start_new_session=True, stdout=-3, stderr=-3)"

def test_that_leaves_a_process(machines):
    machines["m1"].python(DETACH)

def test_that_is_after_that(machines):
    assert machines["m1"].processes() == []
    machines["m1"].kill()
    machines["m1"].boot()
    machines["m2"].python(DETACH)
    machines["m2"].cut()
    machines["m3"].freeze()

def test_that_is_after_all(machines):
    assert [m.python("print('fine')") for m in machines] == ["fine\\n"] * 3

left = []

def test_that_leaves_a_client(sshd):
    left.append(sshd.client.start("n1", "cat"))

def test_that_ends_it():
    left.pop().communicate()
"""


@pytest.mark.slow
@pytest.mark.netns
def test_a_test_that_leaves_something_on_a_machine_fails_alone(tmp_path):
    """Machines that start again, because a test did that or because they were mended, are nothing left behind."""
    (tmp_path / "test_inner.py").write_text(TESTS)
    env = {**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    options = ["-c", os.devnull, "-q", "-rA", "-p", "conftest", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    bad = sorted(re.findall(r"^(?:ERROR|FAILED) \S*::(\w+) - (.*)", done.stdout, re.MULTILINE))
    assert [name for name, _ in bad] == ["test_that_leaves_a_client", "test_that_leaves_a_process"], done.stdout
    assert re.search(r"left behind:\s+m1: \d+ sleep 300", done.stdout)
    assert "5 passed" in done.stdout


# ---- where something is missing


def pytest_without_rights(*arguments):
    """The tests on themselves, as root that may not make networks."""
    lost = "-sys_admin,-net_admin"
    command = ["setpriv", f"--bounding-set={lost}", sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    tests = ["test_machines.py", "-k", "names_and_files or address_a_name or counted_where or closed_port"]
    return subprocess.run([*command, *tests, *arguments], cwd=HERE, capture_output=True, text=True, timeout=90)


@pytest.mark.slow
@pytest.mark.netns
def test_missing_rights_fail_with_what_is_needed_and_can_be_left_out():
    done = pytest_without_rights()
    assert done.returncode == 1
    assert re.search(r"^1 passed, .*2 errors", done.stdout, re.MULTILINE), done.stdout
    assert "need root with CAP_NET_ADMIN" in done.stdout
    assert "pytest -m 'not netns'" in done.stdout
    done = pytest_without_rights("-m", "not netns")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert "skipped" not in done.stdout


def test_a_missing_server_fails_with_what_to_install(tmp_path):
    code = "import machines.sshd as s; s.binary = lambda name: '/nowhere/' + name; s.check_installed()"
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "sshd, ssh, ssh-keygen" in done.stderr
    assert "apt-get install openssh-server openssh-client" in done.stderr


def test_who_may_not_install_is_told_what(tmp_path):
    """`.ci/system` asks nobody for a password."""
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    with open(HERE.parent / ".ci" / "system", "rb") as script:
        unprivileged = ["setpriv", "--reuid=65534", "--clear-groups", "bash", "-s", "a-package"]
        done = subprocess.run(unprivileged, stdin=script, env=env, cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == "missing here: a-package; on Debian or Ubuntu: sudo apt-get install a-package\n"
