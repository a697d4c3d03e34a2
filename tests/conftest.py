"""Fixtures of the whole suite.

Each test is checked for what it leaves behind (`no_leaks`), and so is the session. `loky` is a warm pool that tests
share. Tests that draw at random take `seed` or `rng`: a failing test prints what makes it draw the same again.
"""

from __future__ import annotations

import os
import random
import secrets
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest
from leaks import Holdings
from machines.fixtures import machines, network, nodes, ssh, sshd, testbed

__all__ = ["machines", "network", "nodes", "ssh", "sshd", "testbed"]  # fixtures, which pytest finds here

if TYPE_CHECKING:
    from graphray.executors import Loky

# The suite is about one machine's processors, and says itself which executor it means.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.pop("GRAPHRAY_EXECUTOR", None)
os.environ["GRAPHRAY_XLA_CACHE"] = ""  # nothing of the user's, and nothing left there

# CI runs the same examples and seeds each time, so that a change is judged by what it changes; everywhere else every
# run looks at new ones. No deadline per example: the machine is shared. A failing example is printed, to be pasted into
# a test.
CI = bool(os.environ.get("CI"))
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=CI)
hypothesis.settings.register_profile("dev", parent=hypothesis.settings.get_profile("ci"), max_examples=25)
hypothesis.settings.register_profile("long", parent=hypothesis.settings.get_profile("ci"), max_examples=2_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

SEED = int(os.environ.get("GRAPHRAY_TEST_SEED") or (20261123 if CI else secrets.randbits(32)))


def pytest_report_header() -> str:
    """The line at the top that makes a run repeatable."""
    return f"random tests: GRAPHRAY_TEST_SEED={SEED} repeats this run's draws"


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need network namespaces."""
    for item in items:
        if "network" in getattr(item, "fixturenames", ()):
            item.add_marker("netns")


@pytest.fixture(scope="session", autouse=True)
def no_leaks_at_the_end() -> Iterator[None]:
    """The session leaves nothing behind either: this comes first and so goes last, after the shared pools."""
    before = Holdings.now()
    yield
    _fail_on(before.left_over(), "the session")


@pytest.fixture(scope="session")
def loky() -> Iterator[Loky]:
    """A warm pool of two workers, shared by the tests that only compute on one.

    A test that kills workers, cancels, or asks what a pool leaves behind makes its own: `with gr.executors.Loky(2)`.
    """
    import graphray as gr

    # Accelerators that are not there: tasks are only told of them. And one licence, for the conformance suite.
    with gr.executors.Loky(2, resources={"gpu": 2, "licence": 1}) as pool:
        assert pool.compute(gr.Graph(gr.call(os.getpid))) != os.getpid()
        yield pool


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, thread, file descriptor, or file named graphray-… behind.

    What there was before the test is allowed for, so fixtures of a wider scope may keep pools. With the shared pool a
    test is held to its threads only: the pool may start its other worker or keep shared memory for the next test, and
    is looked at when it closes. The same holds for a cluster of Dask's.
    """
    before = Holdings.now()
    yield
    shared = not {"loky", "cluster"}.isdisjoint(request.fixturenames)
    _fail_on(before.left_over(but=frozenset({"processes", "descriptors", "files"} if shared else ())), "the test")


def _fail_on(left: list[str], who: str) -> None:
    if left:
        pytest.fail(f"{who} left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number that differs from run to run and from test to test; printed when the test fails."""
    print(f"GRAPHRAY_TEST_SEED={SEED} repeats what this test drew")
    return zlib.crc32(f"{SEED} {request.node.nodeid}".encode())


@pytest.fixture
def rng(seed: int) -> random.Random:
    """A random generator with that seed."""
    return random.Random(seed)
