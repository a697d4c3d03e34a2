"""What the parts of the suite share: the executor under test, and the skipping of what it does not claim to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import pytest

from graphray.executors import Executor
from graphray.testing.capabilities import Capabilities

Test = TypeVar("Test", bound=Callable[..., None])


def needs(*capabilities: str) -> Callable[[Test], Test]:
    """Mark a test as one for engines with these capabilities only."""

    def mark(test: Test) -> Test:
        test.__dict__["needs"] = capabilities
        return test

    return mark


class Part:
    """Base of the suite's parts."""

    capabilities: ClassVar[Capabilities] = Capabilities()

    @pytest.fixture(scope="class")
    @classmethod
    def executor(cls) -> Executor:
        """The executor under test; to be overridden."""
        raise NotImplementedError("override the fixture `executor` with one that yields the engine to be tested")

    @pytest.fixture(autouse=True)
    def _capable(self, request: pytest.FixtureRequest) -> None:
        for name in getattr(request.function, "needs", ()):
            if not getattr(self.capabilities, name):
                pytest.skip(f"not among the engine's capabilities: {name}")

    def other(self) -> Executor:
        """A second engine like the one under test, which a test may close; the caller does.

        By default made from `capabilities.spec`; without one the tests that need it are skipped.
        """
        from graphray.executors.start import make

        if self.capabilities.spec is None:
            pytest.skip("needs an engine that a test may close: give capabilities.spec, or override `other`")
        return make(self.capabilities.spec)


def plainly(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What plain Python gives for a call of a task or function: the value, or the exception."""
    try:
        return getattr(fn, "fn", fn)(*args, **kwargs)
    except Exception as error:
        return error
