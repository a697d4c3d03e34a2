"""Defaults: which engine runs a graph when none is named with the run."""

from __future__ import annotations

import os

import pytest

import graphray as gr
from graphray.executors import Executor
from graphray.testing.part import Part, needs
from graphray.testing.tasks import add, process


class Defaults(Part):
    """`gr.use` and GRAPHRAY_EXECUTOR."""

    def test_an_instance_as_the_default(self, executor: Executor) -> None:
        """Inside the block, and not after it; it stays open."""
        with gr.use(executor) as used:
            assert used is executor
            assert self.runs_as_claimed(add(1, 2), process())
        assert process().compute() == os.getpid()
        assert executor.compute(add(1, 2)) == 3

    def test_blocks_inside_one_another(self, executor: Executor) -> None:
        """The inner one counts; then the outer one again."""
        with gr.use(executor):
            with gr.use(None):
                assert process().compute() == os.getpid()
            assert self.runs_as_claimed(add(1, 2), process())

    @needs("spec")
    def test_a_name_as_the_default(self) -> None:
        """Made at its first use, warm in the block, closed behind it."""
        with gr.use(self.spec()) as used:
            assert self.runs_as_claimed(add(1, 2), process())
            assert self.runs_as_claimed(add(1, 2), process())
        assert used is not None
        with pytest.raises(RuntimeError, match="closed"):
            used.compute(add(1, 2))

    @needs("spec")
    def test_the_environment_names_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`gr.use` goes before it, and what is named with the run before both."""
        monkeypatch.setenv("GRAPHRAY_EXECUTOR", self.spec())
        assert self.runs_as_claimed(add(1, 2), process())
        assert process().compute("inprocess") == os.getpid()
        with gr.use("inprocess"):
            assert process().compute() == os.getpid()

    @needs("spec")
    def test_a_name_with_the_run(self) -> None:
        """An engine for one call."""
        assert gr.compute(add(1, 2), process(), executor=self.spec())[0] == 3

    def spec(self) -> str:
        """The engine's name."""
        assert self.capabilities.spec is not None
        return self.capabilities.spec

    def runs_as_claimed(self, sum_of_three: gr.Node, pid: gr.Node) -> bool:
        """Whether the default engine computes, and does so where the capabilities say."""
        three, where = gr.compute(sum_of_three, pid)
        return bool(three == 3 and (where != os.getpid()) == self.capabilities.processes)
