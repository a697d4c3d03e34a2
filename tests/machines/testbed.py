"""What one process owns while it tests: a folder, and servers, networks and proxies that end with it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from machines.network import Network
from machines.sshd import Sshd
from machines.sweep import born, sweep


class Testbed:
    """Sweeps up what killed runs have left, and has a guard that does so for this one, should it be killed.

    `folder` is its own, of this user's alone; all that the testbed makes is named after it. Everything that it makes is
    a context manager, and closed with the testbed if not before.
    """

    __test__ = False  # not one of pytest's

    def __init__(self) -> None:
        sweep()
        self.name = f"graphray-{os.getpid()}-{born(os.getpid())}-{secrets.token_hex(4)}-testbed"
        self.folder = Path(tempfile.gettempdir()) / self.name
        self._numbers = iter(range(1, 1_000_000))
        self._guard = self._start_guard()
        self._stack = ExitStack()
        self.folder.mkdir(mode=0o700)

    def _start_guard(self) -> subprocess.Popen[bytes]:
        """In a session of its own, so that a signal to the terminal's programs does not end it."""
        home = str(Path(__file__).parent.parent)
        return subprocess.Popen(
            [sys.executable, "-m", "machines.guard", str(os.getpid()), str(born(os.getpid()))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": home},
            start_new_session=True,
        )

    def sshd(self, **options: Any) -> Sshd:
        """A server on loopback; options as `Sshd` has them."""
        return self._stack.enter_context(Sshd(self.folder / f"sshd{next(self._numbers)}", **options))

    def network(self, count: int = 3) -> Network:
        """So many machines."""
        return self._stack.enter_context(Network(self.folder / f"net{next(self._numbers)}", count))

    def close(self) -> None:
        """End all of it, and remove the folder."""
        try:
            self._stack.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._guard.communicate(b"done")

    def __enter__(self) -> Testbed:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
