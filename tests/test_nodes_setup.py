"""`graphray nodes setup`: environments on hosts that match this one, made once, whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import psutil
import pytest
from pythons import make_python, make_python_without_venv
from waiting import until

import graphray as gr
from graphray.executors.ssh.packages import needed
from graphray.executors.ssh.wheel import wheel

ssh_module = gr.executors.ssh
Host = ssh_module.Host
ROOT = Path(__file__).parent.parent


@pytest.fixture
def folder(tmp_path):
    """Where environments go on the host."""
    yield tmp_path / "environments"
    shutil.rmtree(tmp_path, ignore_errors=True)  # nobody needs a gigabyte for looking at what has failed


@pytest.fixture
def bogus(tmp_path):
    """A folder of wheels that has none of those that are needed."""
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "bogus-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("bogus.py", "x" * 3_000_000)
    return tmp_path / "wheels"


def finished(folder):
    """The environments that have their names."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def at_work(folder):
    """Processes that have to do with a folder."""
    return [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())]


# ---- what is sent


def test_the_wheel_is_one_and_has_the_code_that_is_running(tmp_path):
    name, content = wheel()
    assert (name, content) == wheel()
    path = tmp_path / name
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        info = f"graphray-{gr.__version__}.dist-info"
        assert {"graphray/__init__.py", "graphray/py.typed", f"{info}/METADATA", f"{info}/RECORD"} <= set(names)
        assert not any("__pycache__" in name for name in names)
        record = dict(row.split(",", 1) for row in archive.read(f"{info}/RECORD").decode().splitlines())
        assert set(record) == set(names)
        for name in names:
            if not name.endswith("RECORD"):
                digest = base64.urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest()).rstrip(b"=").decode()
                assert record[name] == f"sha256={digest},{len(archive.read(name))}"
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(path)], check=True, timeout=60)
    here = {p.relative_to(ROOT).as_posix() for p in (ROOT / "graphray").rglob("*.py")}
    there = {p.relative_to(target).as_posix() for p in (target / "graphray").rglob("*.py")}
    assert here == there
    code = "from importlib.metadata import version; import graphray; print(version('graphray'), graphray.__file__)"
    env = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.stdout.split() == [gr.__version__, str(target / "graphray" / "__init__.py")]


def test_what_is_needed_is_what_graphray_asks_for_in_the_versions_here():
    from importlib import metadata

    found = needed()
    assert set(found) >= {"cloudpickle", "flax", "gymnasium", "jax", "jaxlib", "loky", "networkx", "numpy", "optax"}
    assert all(metadata.version(name) == version for name, version in found.items())
    assert {"graphray", "pip", "pytest", "ruff", "sphinx", "hypothesis"}.isdisjoint(found)


def test_further_packages_come_with_what_they_need():
    assert {"pytest", "pluggy", "iniconfig"} <= needed(["pytest"]).keys()
    with pytest.raises(LookupError, match="no package 'no-such-package'"):
        needed(["no-such-package"])


# ---- what goes wrong


def test_a_wheel_that_is_missing_is_named_and_nothing_is_left(nodes, folder, bogus):
    done = nodes("setup", "n1", "--dir", str(folder), "--wheels", str(bogus))
    assert done.status == 1
    assert done.out.startswith("failed: n1: pip install failed")
    assert "No matching distribution found for" in done.out
    assert "--wheels" in done.out
    assert "installing packages" in done.err
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_no_python_of_this_version(nodes, folder, tmp_path):
    other = make_python(tmp_path, (3, 9, 1))
    done = nodes("setup", f"n1?python={other}", f"n2?python={tmp_path}/none", "--dir", str(folder), "--json")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.status == 1
    for host in json.loads(done.out)["hosts"]:
        assert host["python"] is None
        assert host["error"]["reason"] == "no-python"
        assert f"no Python {version}" in host["error"]["text"]
        assert f"apt-get install python{version}" in host["error"]["text"]
    first, second = (host["error"]["text"] for host in json.loads(done.out)["hosts"])
    assert f"{other} is Python 3.9.1" in first
    assert f"{tmp_path}/none: No such file" in second
    assert not folder.exists()


def test_a_python_without_venv(nodes, folder, tmp_path):
    done = nodes("setup", f"n1?python={make_python_without_venv(tmp_path)}", "--dir", str(folder))
    assert done.status == 1
    assert "No module named ensurepip" in done.out
    assert "-venv" in done.out


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_folder_that_others_can_write_to_is_refused(nodes, folder, mode):
    folder.mkdir()
    folder.chmod(mode)
    done = nodes("setup", "n1", "--dir", str(folder))
    assert done.status == 1
    assert f"others can write to {folder}" in done.out
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made(nodes, tmp_path):
    (tmp_path / "file").write_text("")
    done = nodes("setup", "n1", "--dir", str(tmp_path / "file" / "below"))
    assert done.status == 1
    assert "--dir names another directory" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--wheels", "none"), "none"),
        (("--wheels", "."), "no wheels"),
        (("--with", "no-such-package"), "no package 'no-such-package'"),
        (("--dir", "~/x"), "whole path"),
        (("--dir", "-x"), "--dir"),
    ],
)
def test_what_cannot_be_carried_out_is_one_message(nodes, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = nodes("setup", "n1", *arguments)
    assert (done.status, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_setup_that_is_ended_leaves_nothing_at_work_and_nothing_that_looks_finished(
    nodes, folder, bogus, how, status
):
    command = [sys.executable, "-m", "graphray", "nodes", "setup", "n1", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        for line in driver.stderr:
            if "making a virtual environment" in line:
                break
        assert until(lambda: any("venv" in " ".join(p.info["cmdline"]) for p in at_work(folder)))
        driver.send_signal(how)
        driver.communicate(timeout=60)
    assert driver.returncode == status
    assert until(lambda: not at_work(folder))
    assert finished(folder) == []
    nodes("setup", "n1", "--dir", str(folder), "--wheels", str(bogus))  # which sweeps up first
    assert [path.name for path in folder.iterdir()] == [".lock"]


# ---- from the beginning to the end


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_environment_is_made_once_and_does(ssh, nodes, folder, tmp_path):
    """Two hosts with one home, no package index: one makes it, the other one waits and finds it."""
    wheels = tmp_path / "wheels"
    pins = [f"{name}=={version}" for name, version in needed().items()]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", str(wheels), *pins], check=True, timeout=600)

    done = nodes("setup", "n1", "n2?workers=2", "--dir", str(folder), "--wheels", str(wheels), "--json")
    assert done.status == 0, done.out
    hosts = json.loads(done.out)["hosts"]
    assert sorted(host["made"] for host in hosts) == [False, True]
    (environment,) = finished(folder)
    assert {host["python"] for host in hosts} == {f"{environment}/bin/python"}
    assert len([path for path in folder.iterdir() if path.name.startswith(".made-")]) == 1

    texts = [host["text"] for host in hosts]
    assert ssh_module.parse_hosts(texts)[1] == Host("n2", workers=2, python=f"{environment}/bin/python")
    for report in ssh_module.check(texts):
        assert report.usable
        assert report.problems == ()
        assert report.executable == f"{environment}/bin/python"

    # A second one sees that all is there: also by the environment's own Python, and without wheels.
    again = nodes("setup", *texts, "--dir", str(folder))
    assert again.status == 0
    assert again.out.count("was there already") == 2
    assert "installing" not in again.err
    assert f"    - n1?python={environment}/bin/python" in again.out

    # What is there runs, as what it should be.
    code = "import graphray as gr; print(gr.combine(sum, gr.map(pow, range(10), [2] * 10)).compute(executor='loky:2'))"
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    python = f"{environment}/bin/python"
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120, env=clean, cwd=tmp_path)
    assert ran.stdout == "285\n", ran.stderr
    assert subprocess.run([f"{environment}/bin/graphray", "--version"], timeout=60, env=clean).returncode == 0

    # One that is broken is made again, in the same place.
    shutil.rmtree(environment / "lib")
    mended = nodes("setup", "n1", "--dir", str(folder), "--wheels", str(wheels))
    assert mended.status == 0
    assert f"made, {python}" in mended.out
    assert subprocess.run([python, "-c", "import jax"], timeout=60, env=clean).returncode == 0
