"""`graphray nodes check`, and `gr.executors.ssh.check`: what is found out about hosts, and which cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from machines import closed_port, silent_port
from pythons import make_python

import graphray as gr
from graphray.cli import main

check = gr.executors.ssh.check
Host = gr.executors.ssh.Host
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def server(testbed):
    """One whose Python finds the graphray of these tests, whatever is installed."""
    with testbed.sshd(names=("n1", "n2", "n3"), env={"PYTHONPATH": str(ROOT)}) as server:
        yield server


@pytest.fixture
def ssh(server, monkeypatch):
    monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
    monkeypatch.setenv("COLUMNS", "100")
    return server


def topics(report):
    return [problem.topic for problem in report.problems]


# ---- what is found out


def test_a_host_like_this_one_is_described(ssh):
    (report,) = check("n1")
    assert report.usable
    assert report.problems == ()
    assert (report.host, report.reachable, report.known) == (Host("n1"), True, True)
    assert report.python == ".".join(map(str, sys.version_info[:3]))
    assert report.executable == sys.executable
    assert report.versions["graphray"] == gr.__version__
    assert set(report.versions) >= {"cloudpickle", "jax", "loky", "numpy"}
    assert report.cores >= 1
    assert report.memory > 1 << 20
    assert report.temporary_free > 0
    assert abs(report.clock_skew) < 1.0
    assert 0 < report.round_trip < 10.0


def test_nothing_is_imported_there(testbed, monkeypatch, tmp_path):
    """A preflight takes no GPU memory and no seconds: JAX stays where it is."""
    for name in ("jax", "numpy", "graphray"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('{name} was imported')")
    with testbed.sshd(env={"PYTHONPATH": str(tmp_path)}) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        (report,) = check("server")
    assert report.python is not None
    assert topics(report) == ["packages"]  # this graphray is another one


def test_hosts_come_in_their_order_and_one_that_fails_harms_no_other(ssh):
    reports = check("n1,nosuch.invalid,n2")
    assert [report.host.name for report in reports] == ["n1", "nosuch.invalid", "n2"]
    assert [report.usable for report in reports] == [True, False, True]
    assert topics(reports[1]) == ["unknown-host"]
    assert (reports[1].reachable, reports[1].known) == (False, None)


def test_what_hosts_are_said_to_have_is_compared(ssh, tmp_path):
    (report,) = check(f"n1?workers=100000&memory=1000000GB&resources.gpu=99&directory={tmp_path}/none")
    assert topics(report) == ["directory", "cores", "memory", "accelerators"]
    assert not report.usable
    (report,) = check(f"n1?workers=1&memory=1MB&directory={tmp_path}")
    assert report.problems == ()


def test_a_graphics_card_is_found_without_jax(testbed, monkeypatch, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559'\necho 'NVIDIA H100 80GB HBM3, [N/A]'\n")
    smi.chmod(0o755)
    with testbed.sshd(options=[f'ForceCommand PATH={tmp_path}:$PATH; eval "$SSH_ORIGINAL_COMMAND"']) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        (report,) = check("server?resources.gpu=2")
    assert report.accelerators == (("NVIDIA H100 80GB HBM3", 81559 << 20), ("NVIDIA H100 80GB HBM3", None))
    assert "accelerators" not in topics(report)


def test_the_directory_for_temporary_files_is_the_hosts_own(testbed, monkeypatch, tmp_path):
    with testbed.sshd(env={"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        (report,) = check("server")
    assert report.temporary == str(tmp_path)


@pytest.mark.parametrize("ahead", [100.0, -100.0])
def test_a_clock_that_is_wrong(ssh, monkeypatch, ahead):
    import graphray.executors.ssh.preflight as preflight

    now = preflight.time.time
    monkeypatch.setattr(preflight.time, "time", lambda: now() - ahead)
    (report,) = check("n1")
    assert report.usable
    assert topics(report) == ["clock"]
    assert report.clock_skew == pytest.approx(ahead, abs=5.0)
    assert ("ahead of" if ahead > 0 else "behind") in report.problems[0].text


# ---- hosts that cannot be used


def test_another_python_is_named_with_what_to_do(ssh, tmp_path):
    (report,) = check(Host("n1", python=str(make_python(tmp_path, (3, 9, 1)))))
    assert not report.usable
    assert topics(report) == ["python"]
    assert (report.python, report.cores is None) == ("3.9.1", False)
    assert "graphray nodes setup n1" in report.problems[0].text


def test_a_python_that_is_too_old_to_tell_more(ssh, tmp_path):
    (report,) = check(Host("n1", python=str(make_python(tmp_path, (3, 3, 0)))))
    assert (report.usable, report.python, report.cores) == (False, "3.3.0", None)


def test_a_python_without_graphray(ssh, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True, timeout=60)
    (report,) = check(Host("n1", python=f"{tmp_path}/bare/bin/python"))
    assert not report.usable
    fatal = [problem.text for problem in report.problems if problem.fatal]
    assert len(fatal) == 1
    assert fatal[0].startswith("n1 has no ")
    assert "cloudpickle" in fatal[0]
    assert "numpy" in " ".join(p.text for p in report.problems if not p.fatal)


def test_another_version_of_a_package_is_a_warning(testbed, monkeypatch, tmp_path):
    info = tmp_path / "numpy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    with testbed.sshd(env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        (report,) = check("server")
    assert report.usable
    assert topics(report) == ["packages"]
    assert "numpy 1.0 (here " in report.problems[0].text


def test_other_code_under_the_same_version_is_a_warning(testbed, monkeypatch, tmp_path):
    import shutil

    shutil.copytree(ROOT / "graphray", tmp_path / "graphray", ignore=shutil.ignore_patterns("__pycache__"))
    with testbed.sshd(env={"PYTHONPATH": str(tmp_path)}) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        assert check("server")[0].problems == ()
        with open(tmp_path / "graphray" / "errors.py", "a") as file:
            file.write("# edited\n")
        (report,) = check("server")
    assert report.usable
    assert "differs from this one" in report.problems[0].text


@pytest.mark.parametrize(
    ("options", "reason", "reachable", "known"),
    [
        ({"known": "no"}, "host-key-unknown", True, False),
        ({"known": "otherwise"}, "host-key-changed", True, False),
        ({"refused": True}, "permission-denied", True, True),
    ],
)
def test_a_client_that_does_not_get_in(server, monkeypatch, options, reason, reachable, known):
    monkeypatch.setenv("GRAPHRAY_SSH", server.make_client(**options).command)
    (report,) = check("n1")
    assert not report.usable
    assert topics(report) == [reason]
    assert (report.reachable, report.known) == (reachable, known)


def test_a_closed_port_and_a_silent_one(server, monkeypatch):
    with closed_port() as port:
        monkeypatch.setenv("GRAPHRAY_SSH", server.make_client(port=port).command)
        (report,) = check("n1")
    assert (topics(report), report.reachable) == (["refused"], False)
    with silent_port() as port:
        monkeypatch.setenv("GRAPHRAY_SSH", server.make_client(port=port).command)
        (report,) = check("n1", timeout=1.0)
    assert (topics(report), report.reachable) == (["timeout"], False)


def test_a_host_that_answers_with_nonsense(testbed, monkeypatch, tmp_path):
    """One that speaks the protocol and means something else by it."""
    liar = tmp_path / "python"
    code = (
        "import re, struct, sys; source = sys.stdin.buffer.read(int(sys.stdin.buffer.readline()));"
        "marker = re.search(rb\"MARKER = '(\\w+)'\", source)[1]; out = sys.stdout.buffer;"
        'hello = b\'{"version": [3, 11, 1], "executable": "x", "pid": 1}\'.replace(b"11", b"%d" % sys.version_info[1]);'
        "out.write(marker + b'\\n');"
        "[out.write(struct.pack('>Q', len(m)) + m) for m in (hello, b'[1, 2]')]; out.flush(); sys.stdin.buffer.read()"
    )
    liar.write_text(f"#!{sys.executable}\n{code}\n")
    liar.chmod(0o755)
    with testbed.sshd() as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        (report,) = check(Host("server", python=str(liar)))
    assert not report.usable
    assert "no report" in report.problems[0].text


# ---- the command


def test_the_table_says_which_can_be_used_and_the_status_too(nodes):
    done = nodes("check", "n1", "n2")
    assert (done.status, done.err) == (0, "")
    head, *rows = done.out.splitlines()
    assert head.split()[:4] == ["host", "use", "reach", "key"]
    assert [row.split()[:4] for row in rows] == [["n1", "yes", "yes", "yes"], ["n2", "yes", "yes", "yes"]]
    assert f" {gr.__version__} " in rows[0]


def test_one_that_cannot_be_used_makes_the_status_1(nodes):
    done = nodes("check", "n1,nosuch.invalid")
    assert done.status == 1
    rows = done.out.splitlines()
    assert [row.split()[:2] for row in rows[1:3]] == [["n1", "yes"], ["nosuch.invalid", "no"]]
    assert "cannot be used: there is no host nosuch.invalid" in done.out


def test_json_is_one_document(nodes, tmp_path):
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("n1\nnosuch.invalid\n")
    hosts.chmod(0o600)
    done = nodes("check", f"@{hosts}", "--json")
    found = json.loads(done.out)["hosts"]
    assert done.status == 1
    assert [(host["host"], host["usable"]) for host in found] == [("n1", True), ("nosuch.invalid", False)]
    assert found[0]["versions"]["graphray"] == gr.__version__
    assert found[0]["accelerators"] == [] or "name" in found[0]["accelerators"][0]
    assert found[1]["problems"][0]["topic"] == "unknown-host"
    assert found[1]["problems"][0]["fatal"] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "a;reboot"), "'a;reboot' is no name"),
        (("check", "n1", "n1"), "is there twice"),
        (("check", "n1?wrkers=1"), "no option 'wrkers'"),
        (("check", "@none.txt"), "none.txt"),
        (("check",), "HOSTS"),
        (("check", "n1", "--timeout", "soon"), "'soon' is not a number of seconds"),
        (("chekc", "n1"), "chekc"),
    ],
)
def test_what_cannot_be_carried_out_is_one_message(nodes, arguments, said):
    done = nodes(*arguments)
    assert (done.status, done.out) == (2, "")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_without_ssh_the_command_says_so(nodes, monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHRAY_SSH", str(tmp_path / "no-ssh"))
    done = nodes("check", "n1")
    assert done.status == 2
    assert "install OpenSSH's client" in done.err


def test_options_are_for_hosts_that_say_nothing_else(nodes, tmp_path):
    other = make_python(tmp_path, (3, 9, 1))
    done = nodes("check", "n1", f"n2?python={sys.executable}", "--python", str(other), "--json")
    first, second = json.loads(done.out)["hosts"]
    assert (first["python"], first["usable"]) == ("3.9.1", False)
    assert (second["executable"], second["usable"]) == (sys.executable, True)


def test_a_lone_command_prints_its_help(nodes):
    done = nodes()
    assert done.status == 2
    assert "check" in done.err
    assert "setup" in done.err


def test_what_a_host_says_does_not_reach_the_terminal_as_it_is(testbed, monkeypatch, capsys):
    with testbed.sshd(options=["ForceCommand printf '\\033[2J\\033]0;title\\007evil\\n' >&2; exit 1"]) as server:
        monkeypatch.setenv("GRAPHRAY_SSH", server.client.command)
        assert main(["nodes", "check", "server"]) == 1
    out = capsys.readouterr().out
    assert "evil" in out
    assert "\x1b" not in out
    assert "\x07" not in out
