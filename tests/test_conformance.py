"""Every engine passes the conformance suite, and so does the one that the contributors' guide shows."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path

import pytest

import graphray as gr
from graphray.testing import RESOURCES, Capabilities, ExecutorSuite, parts
from graphray.testing.part import Part

pytest_plugins = ["pytester"]

GUIDE = Path(__file__).parent.parent / "CONTRIBUTING.md"


class TestInProcess(ExecutorSuite):
    capabilities = Capabilities(parallel=False, resources=True, spec="inprocess")

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls):
        with gr.executors.InProcess(resources=RESOURCES) as executor:
            yield executor


class TestThreads(ExecutorSuite):
    capabilities = Capabilities(resources=True, spec="inprocess:3")

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls):
        with gr.executors.InProcess(threads=3, resources=RESOURCES) as executor:
            executor.compute(
                gr.call(int)
            )  # the threads are there before the tests are watched for what they leave behind
            yield executor


class TestLoky(ExecutorSuite):
    capabilities = Capabilities(processes=True, pickles=True, resources=True, gangs=True, spec="loky:2")

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls, loky):
        return loky


class TestTheGuidesEngine(ExecutorSuite):
    """What CONTRIBUTING.md says a new engine is made of is enough."""

    capabilities = Capabilities()

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls):
        with cls.engine() as executor:
            executor.compute(gr.Graph(gr.map(float, range(10))))
            yield executor

    def other(self):
        return self.engine()

    @classmethod
    def engine(cls):
        (code,) = [c for c in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.S) if "(Executor)" in c]
        scope = {"__name__": "guide"}
        exec(code[: code.index("\n\n\nwith ")], scope)
        (engine,) = [x for x in scope.values() if isinstance(x, type) and x.__module__ == "guide"]
        return engine()


# ---- the suite itself


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        (TestInProcess, {"parallel": 1, "pickles": 5, "processes": 5, "gangs": 7}),
        (TestThreads, {"pickles": 5, "processes": 5, "gangs": 7}),
        (TestLoky, {}),
        (TestTheGuidesEngine, {"pickles": 5, "processes": 4, "spec": 3, "resources": 6, "gangs": 7}),
    ],
)
def test_no_more_is_skipped_than_is_known(suite, expected):
    """How many tests are not for an engine, by what it lacks: a capability that got lost would take its tests along."""
    tests = [getattr(suite, name) for name in dir(suite) if name.startswith("test_")]
    lacking = [[n for n in getattr(t, "needs", ()) if not getattr(suite.capabilities, n)] for t in tests]
    assert Counter(names[0] for names in lacking if names) == expected
    assert suite.other is not Part.other or suite.capabilities.spec is not None  # else tests that need it skip, too


def test_every_part_is_in_the_suite_and_hides_no_test_of_another():
    modules = [importlib.import_module(f"{parts.__name__}.{m.name}") for m in pkgutil.iter_modules(parts.__path__)]
    found = {x for m in modules for x in vars(m).values() if isinstance(x, type) and issubclass(x, Part)} - {Part}
    assert found == set(ExecutorSuite.__bases__)
    names = Counter(name for part in found for name in vars(part) if name.startswith("test_"))
    assert names == Counter(name for name in dir(ExecutorSuite) if name.startswith("test_"))


MINE = """
import copy

import pytest

import graphray as gr
from graphray.testing import Capabilities, ExecutorSuite


class Right(ExecutorSuite):
    capabilities = Capabilities(growing=False, parallel=False)

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls):
        with gr.executors.InProcess() as executor:
            yield executor


class Copies(gr.executors.InProcess):
    def compute(self, graph, **options):
        return copy.deepcopy(super().compute(graph, **options))  # its arrays can be written to


class Wrong(Right):
    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls):
        with Copies() as executor:
            yield executor
"""


def test_a_right_engine_passes_what_it_claims_and_a_wrong_one_does_not(pytester):
    pytester.makepyfile(MINE)
    options = ["-q", "-W", "error", "-o", "python_classes=Right Wrong", "-k", "read_only or added or constants"]
    outcome = pytester.runpytest_subprocess(*options).parseoutcomes()
    assert (outcome["passed"], outcome["failed"], outcome["skipped"]) == (10, 2, 10)
