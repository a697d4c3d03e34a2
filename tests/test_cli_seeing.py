"""What `graphray run` tells of a run beside its results: profile, trace, log; and what it hands on to the engine."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import pytest

FLOW = """
    import random
    import graphray as gr

    @gr.task
    def square(x):
        if x < 0:
            raise ValueError(f"negative: {x}")
        print("squared", x)
        return x * x

    @gr.task
    def drawn(x):
        return x + random.random()

    def pipeline(first: int = 0):
        squares = gr.map(square, range(first, first + 6))
        return gr.Graph(total=gr.combine(sum, squares), last=squares[-1], each=squares, drawn=drawn(1))
"""


class Done(NamedTuple):
    status: int
    out: str
    err: str


Runner = Callable[..., Done]


@pytest.fixture
def run(tmp_path: pathlib.Path) -> Runner:
    """Run a pipeline in a process of its own, in an empty directory."""
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW), "utf-8")

    def run(*arguments: str, executor: str = "inprocess") -> Done:
        env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"COLUMNS": "100"}
        done = subprocess.run(
            [sys.executable, "-m", "graphray", "run", "flow.py", "--executor", executor, *arguments],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    return run


def test_a_profile_goes_to_stderr_after_the_run(run: Runner) -> None:
    done = run("--profile", "-q", "--target", "total", executor="loky:1")
    assert done.status == 0
    assert done.out.splitlines()[-1] == "total  55"
    table = [line.split() for line in done.err.splitlines()]
    assert any(line[:3] == ["task", "calls", "time"] for line in table)
    assert [line[:2] for line in table if line[:1] == ["square"]] == [["square", "6"]]
    assert "critical path" in done.err


def test_a_profile_is_part_of_the_document(run: Runner) -> None:
    done = run("--profile", "--json", "-q")
    document = json.loads(done.out)
    assert document["profile"]["tasks"]["square"]["calls"] == 6
    assert document["profile"]["nodes"] == document["nodes"]
    assert "square" in done.err
    assert "profile" not in json.loads(run("--json", "-q").out)


def test_a_profile_of_a_run_that_failed_comes_before_the_traceback(run: Runner) -> None:
    done = run("--profile", "-q", "--set", "first=-3")
    assert done.status == 1
    assert done.out == ""
    assert 0 <= done.err.index("square") < done.err.index("ValueError: negative: -3")


@pytest.mark.parametrize("executor", ["inprocess", "loky:1"])
def test_a_trace_and_a_log_are_written(run: Runner, tmp_path: pathlib.Path, executor: str) -> None:
    done = run("--trace", "run.json", "--log", "run.log", "-q", executor=executor)
    assert done.status == 0
    trace = json.loads((tmp_path / "run.json").read_text())
    assert [e["name"] for e in trace["traceEvents"] if e["ph"] == "X"].count("square") == 6
    kinds = [json.loads(line)["type"] for line in (tmp_path / "run.log").read_text().splitlines()]
    assert (kinds[0], kinds[-1]) == ("RunStarted", "RunFinished")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["flow.py", "run.json", "run.log"]


@pytest.mark.parametrize("option", ["--trace", "--log"])
def test_a_file_that_cannot_be_written_is_refused_in_one_line_before_anything_runs(run: Runner, option: str) -> None:
    done = run(option, os.path.join("no", "such", "place"), "-q")
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("graphray run: the ")
    assert "cannot be written" in done.err
    assert len(done.err.splitlines()) == 1


def test_collected_failures_end_with_status_1_after_the_results(run: Runner) -> None:
    done = run("--on-error", "collect", "-q", "--set", "first=-4", "--target", "last", "--target", "each")
    assert done.status == 1
    assert "last  1\n" in done.out
    assert "Failure(ValueError('negative: -4')" in done.out
    assert done.err.count("Traceback") == 3
    assert done.err.rstrip().endswith("and 1 more failed")


def test_collected_failures_leave_the_document_whole(run: Runner) -> None:
    done = run("--on-error", "collect", "-q", "--set", "first=-1", "--json")
    assert done.status == 1
    results = json.loads(done.out)["results"]
    assert results["last"] == 16
    assert "ValueError" in results["total"]
    assert "ValueError: negative: -1" in done.err


def test_what_tasks_print_in_workers_is_said_once_and_marked(run: Runner) -> None:
    done = run("--progress", "--target", "total", executor="loky:1")
    said = [line for line in done.out.splitlines() if "squared" in line]
    assert sorted(said) == [f"[square({i}) loky-1] squared {i}" for i in range(6)]
    assert "squared" not in done.err


def test_audit_finds_a_task_that_is_not_deterministic(run: Runner) -> None:
    assert run("-q", "--target", "drawn").status == 0
    done = run("-q", "--target", "drawn", "--audit")
    assert done.status == 1
    assert "drawn" in done.err


def test_a_capsule_is_written_for_a_call_that_failed(run: Runner, tmp_path: pathlib.Path) -> None:
    done = run("-q", "--set", "first=-1", "--capsule", "capsules")
    assert done.status == 1
    assert [p.suffix for p in (tmp_path / "capsules").iterdir()] == [".capsule"]
    assert "graphray replay" in done.err


def test_memory_is_a_size_or_a_share(run: Runner) -> None:
    assert run("-q", "--memory", "25%", executor="loky:1").status == 0
    done = run("-q", "--memory", "lots", executor="loky:1")
    assert done.status == 2
    assert "memory=" in done.err
