"""The conformance suite for engines: what every executor must do, whoever wrote it.

A new engine is right if this passes:

    import pytest
    from graphray.testing import Capabilities, ExecutorSuite

    class TestMine(ExecutorSuite):
        capabilities = Capabilities(processes=True, pickles=True)

        @pytest.fixture(scope="class")
        @classmethod
        def executor(cls):
            with Mine() as executor:
                yield executor

The tests run small graphs on the executor and compare with what plain Python gives. Needs pytest, numpy and JAX, which
are imported here only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphray.testing.capabilities import RESOURCES, Capabilities
    from graphray.testing.sameness import same
    from graphray.testing.suite import ExecutorSuite

__all__ = ["RESOURCES", "Capabilities", "ExecutorSuite", "same"]


def __getattr__(name: str) -> Any:
    # Workers import the suite's tasks, and with them this module: they need nothing of what follows.
    if name not in __all__:
        raise AttributeError(f"module 'graphray.testing' has no attribute {name!r}")
    import pytest

    # Before the parts are imported, so that their failing assertions say what was compared.
    pytest.register_assert_rewrite("graphray.testing.parts")
    from graphray.testing.capabilities import RESOURCES, Capabilities
    from graphray.testing.sameness import same
    from graphray.testing.suite import ExecutorSuite

    globals().update(RESOURCES=RESOURCES, Capabilities=Capabilities, ExecutorSuite=ExecutorSuite, same=same)
    return globals()[name]
