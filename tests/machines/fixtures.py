"""Fixtures for tests: `testbed`, `sshd`, `ssh`, `nodes` and `machines`. `conftest.py` imports them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import leaks
import pytest

from machines.network import Network
from machines.sshd import Sshd
from machines.testbed import Testbed


@pytest.fixture(scope="session")
def testbed() -> Iterator[Testbed]:
    """The session's own: makes servers and networks, `with testbed.sshd(forwarding=False) as server`."""
    with Testbed() as made:
        yield made


@pytest.fixture(scope="session")
def sshd(testbed: Testbed) -> Iterator[Sshd]:
    """A server on loopback that the session shares, with two names: hosts n1 and n2 are both it.

    A test that kills it, or wants one that is hard to get along with, makes its own.
    """
    with testbed.sshd(names=("n1", "n2")) as server:
        yield server


@pytest.fixture
def ssh(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Sshd:
    """The shared server, which is what graphray's ssh knows as n1 and n2."""
    monkeypatch.setenv("GRAPHRAY_SSH", sshd.client.command)
    return sshd


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def nodes(ssh: Sshd, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `graphray nodes …` in this process, with the hosts that `ssh` knows."""
    from graphray.cli import main

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        status = main(["nodes", *arguments])
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def network(testbed: Testbed) -> Iterator[Network]:
    """For `machines`, which is what tests ask for. Fixtures of a wider scope, such as an engine that many tests share,
    stand on this one: nobody mends it between tests.
    """
    with testbed.network(3) as made:
        yield made
    leaks.SHARED.clear()


@pytest.fixture
def machines(network: Network) -> Iterator[Network]:
    """Three machines on a network that the session shares, mended after each test.

    A test that leaves a process or a file on a machine that it has not disturbed fails. Tests that use this are marked
    `netns`: they need Linux and root.
    """
    yield network
    left = network.mend()
    leaks.SHARED.clear()
    leaks.SHARED.update(m.sshd.process.pid for m in network if m.sshd.process)
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)
