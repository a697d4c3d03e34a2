"""Makes an environment on a host: travels as text, see `program.py`; `environment.py` is its other end.

It is built in a folder with another name, and gets its own by one renaming of a link, once it has been tried. Whoever
is killed before that leaves a folder that nobody takes for an environment, and the next one removes it.
"""

import contextlib
import fcntl
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time

line = globals()["line"]
wanted = json.loads(globals()["header"].decode())

MARK = "graphray-environment.json"  # in a finished one
HIDDEN = ".made-"


class Failed(Exception):
    """It cannot be made: the text is for the user."""


def say(**message: object) -> None:
    """Send the driver a message."""
    line.send(json.dumps(message).encode())


def run(*command: str, what: str, advice: str) -> None:
    """Run a program to its end; what it prints goes to the driver, and its last lines into the error."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__")}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean
    )
    assert process.stdout is not None
    tail: list[str] = []
    for raw in process.stdout:
        text = raw.decode("utf-8", "replace").rstrip()
        print(text, file=sys.stderr, flush=True)
        tail = [*tail[-14:], text]
    if status := process.wait():
        raise Failed(f"{what} failed with exit status {status}: {advice}\n" + "\n".join(tail))


def python_of(environment: str) -> str:
    """Its interpreter."""
    return os.path.join(environment, "bin", "python")


def is_ready(environment: str) -> bool:
    """Whether it is finished, and still works."""
    try:
        with open(os.path.join(environment, MARK), encoding="utf-8") as file:
            if json.load(file) != wanted["contents"]:
                return False
        command = [python_of(environment), "-I", "-c", "import graphray"]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).returncode == 0
    except (OSError, ValueError, subprocess.SubprocessError):
        return False


@contextlib.contextmanager
def alone(folder: str):  # type: ignore[no-untyped-def]
    """With nobody else building in the folder; gives whether that is sure (some network file systems have no locks)."""
    with open(os.path.join(folder, ".lock"), "ab") as lock:
        waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    say(step="waiting for another setup there")
                waiting = True
                time.sleep(0.2)
            except OSError:
                yield False
                return
        yield True


def sweep(folder: str) -> None:
    """Remove what killed setups have left: folders that no link leads to."""
    paths = [os.path.join(folder, name) for name in os.listdir(folder)]
    used = {os.readlink(path) for path in paths if os.path.islink(path)}
    for path in paths:
        name = os.path.basename(path)
        if name.startswith(HIDDEN) and name not in used:
            if os.path.islink(path):
                os.unlink(path)
            else:
                shutil.rmtree(path, ignore_errors=True)


def fetch(folder: str) -> "list[str]":
    """The files that the driver sends, in a folder; their paths."""
    say(want="files")
    paths: list[str] = []
    while True:
        announced = json.loads(line.receive().decode())
        if announced is None:
            return paths
        name, size = os.path.basename(announced["name"]), announced["size"]
        paths.append(os.path.join(folder, name))
        with open(paths[-1], "xb") as file:
            while size:
                size -= file.write(line.receive())
                say(got=True)  # so that no more is on its way than what fits into memory


def build(folder: str, public: str) -> None:
    """Make it, try it, and give it its name."""
    place = os.path.join(folder, f"{HIDDEN}{secrets.token_hex(8)}")
    os.mkdir(place, 0o700)
    try:
        fill(place)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    link = os.path.join(folder, f"{HIDDEN}{secrets.token_hex(8)}")
    os.symlink(os.path.basename(place), link)
    os.replace(link, public)


def fill(place: str) -> None:
    """Put what is wanted into a folder, try it, and mark it as finished."""
    say(step="making a virtual environment")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    run(
        *(sys.executable, "-I", "-m", "venv", place),
        what=f"{sys.executable} -m venv",
        advice=f"is its module venv complete? On Debian or Ubuntu: apt-get install python{version}-venv",
    )
    files = os.path.join(place, "files")
    os.mkdir(files)
    say(step="sending files")
    sent = fetch(files)
    pins = os.path.join(files, "pins.txt")
    with open(pins, "w", encoding="utf-8") as file:
        file.writelines(f"{pin}\n" for pin in wanted["contents"]["packages"])
    say(step="installing packages")
    options = ["--no-index", "--find-links", files] if wanted["offline"] else []
    graphray = next(path for path in sent if os.path.basename(path) == wanted["wheel"])
    advice = (
        "put a wheel for this machine of each package that it names into the folder of --wheels"
        if wanted["offline"]
        else "pip's configuration on that host applies; without a network there, give it wheels with --wheels DIR"
    )
    run(
        *(python_of(place), "-I", "-m", "pip", "--disable-pip-version-check", "install", "--no-input", "--no-user"),
        *("--progress-bar", "off", *options, "-r", pins, graphray),
        what="pip install",
        advice=advice,
    )
    say(step="trying it")
    run(
        *(python_of(place), "-I", "-c", "import " + ", ".join(wanted["modules"])),
        what="importing what was installed",
        advice="the packages are there and do not run on that machine",
    )
    shutil.rmtree(files)
    os.sync()  # what the mark promises is on the disk before it
    with open(os.path.join(place, MARK), "w", encoding="utf-8") as file:
        json.dump(wanted["contents"], file)
        file.flush()
        os.fsync(file.fileno())


def main() -> None:
    """Make the environment that is wanted, unless it is there."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    folder = os.path.abspath(os.path.expanduser(wanted["directory"] or os.path.join(data, "graphray", "environments")))
    os.makedirs(folder, 0o700, exist_ok=True)
    if os.stat(folder).st_mode & 0o022 or os.stat(folder).st_uid != os.getuid():
        raise Failed(f"others can write to {folder}, and so to what runs in it: name another directory with --dir")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    public = os.path.join(folder, f"python{version}-{platform.machine().lower()}-{wanted['digest'][:12]}")
    made = False
    if not is_ready(public):
        with alone(folder) as sure:
            if not is_ready(public):
                if sure:
                    sweep(folder)
                build(folder, public)
                made = True
    say(python=python_of(public), made=made)


try:
    main()
except Failed as error:
    say(error=str(error))
except OSError as error:
    say(error=f"{error}: is there room, and may this user write there? --dir names another directory")
