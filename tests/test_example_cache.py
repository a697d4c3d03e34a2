"""The two examples that show the cache: a helper is edited, a training is killed; and the pipeline they work on."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import graphray as gr
from graphray.executors import events

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """What a script of the examples prints; its temporary files go to `cwd`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=cwd,
        env={**os.environ, "TMPDIR": str(cwd)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


# ---- the station


class Station:
    """A copy of the station's file, to be edited."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.path = directory / "station.py"
        self.path.write_text((EXAMPLES / "station.py").read_text("utf-8"), "utf-8")

    def edit(self, before: str, after: str) -> None:
        text = self.path.read_text("utf-8")
        assert text.count(before) == 1
        self.path.write_text(text.replace(before, after), "utf-8")

    def module(self):
        """The file as it is now."""
        sys.modules.pop("station", None)
        importlib.invalidate_caches()
        return importlib.import_module("station")

    def graph(self, months: int = 3, days: int = 2) -> gr.Graph:
        return self.module().pipeline(months, days)

    def run(self, graph: gr.Graph, executor="inprocess"):
        """The result, how often each task ran, and how many results came from the cache."""
        handle = graph.run(executor=executor, cache=str(self.directory / "cache"), threads_per_task=1)
        result = handle.result()
        calls = Counter({name: task["calls"] for name, task in handle.summary()["tasks"].items()})
        hits = [event for event in handle.events if isinstance(event, events.CacheHit)]
        return result, +calls, len(hits)

    def reasons(self, graph: gr.Graph) -> dict[str, set[str]]:
        """Why each task would run."""
        found: dict[str, set[str]] = {}
        for row in graph.explain(str(self.directory / "cache")).rows:
            if row.status == "run":
                found.setdefault(row.task, set()).add(row.reason)
        return found


@pytest.fixture
def station(tmp_path, monkeypatch):
    directory = tmp_path / "station"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # edits come faster than a compiled file can tell them apart
    yield Station(directory)
    sys.modules.pop("station", None)


EVERYTHING = Counter(record=3, clean=3, fit=3, describe=3, compare=1)


def test_an_edited_helper_runs_what_uses_it_and_gives_what_a_run_from_nothing_gives(station):
    before, calls, hits = station.run(station.graph())
    assert (calls, hits) == (EVERYTHING, 0)
    station.edit("kelvin - 273\n", "kelvin - 273.15\n")
    graph = station.graph()
    reasons = station.reasons(graph)
    assert reasons["describe"] == {"edited: celsius in station.py"}
    assert len(reasons["compare"]) == 1
    assert "edited: celsius in station.py" in reasons["compare"].pop()
    assert reasons.keys() == {"describe", "compare"}
    after, calls, hits = station.run(graph)
    assert calls == Counter(describe=3, compare=1)
    assert hits == 6
    assert after == graph.compute(threads_per_task=1)
    for old, new in zip(before["months"], after["months"], strict=True):
        assert new["mean"] == pytest.approx(old["mean"] - 0.15, abs=1e-9)
        assert (new["diffusivity"], new["error"]) == (old["diffusivity"], old["error"])


def test_an_early_helper_runs_all_that_follows(station):
    station.run(station.graph())
    station.edit("threshold: float = 0.5", "threshold: float = 0.25")
    graph = station.graph()
    assert station.reasons(graph)["clean"] == {"edited: despiked in station.py"}
    result, calls, _ = station.run(graph)
    assert calls == EVERYTHING - Counter(record=3)
    assert result == graph.compute(threads_per_task=1)


def test_what_is_no_code_runs_nothing(station):
    before, *_ = station.run(station.graph())
    station.edit('    """Degrees Celsius."""\n', '    """Degrees Celsius, from kelvin."""  # not quite\n\n')
    assert station.reasons(station.graph()) == {}
    assert station.run(station.graph())[:2] == (before, Counter())


def test_more_months_are_a_few_more_calls(station):
    station.run(station.graph())
    result, calls, _ = station.run(station.graph(months=4))
    assert calls == Counter(record=1, clean=1, fit=1, describe=1, compare=1)
    assert result == station.graph(months=4).compute(threads_per_task=1)


def test_workers_and_this_process_measure_the_same(station):
    with gr.executors.Loky(2) as pool:
        elsewhere, calls, _ = station.run(station.graph(), pool)
    assert calls == EVERYTHING
    assert elsewhere == station.graph().compute(threads_per_task=1)
    assert station.run(station.graph())[:2] == (elsewhere, Counter())  # what the workers have kept


def test_the_diffusivity_that_was_put_in_is_found(station):
    module = station.module()
    minutes = np.arange(4 * module.MINUTES)
    surface = 280.0 + 5.0 * np.sin(2 * np.pi * minutes / module.MINUTES)
    deep = np.full(minutes.size, 280.0)
    for diffusivity in (2.5e-7, 6e-7):
        readings = module.conduct(np.full(101, 280.0), surface, deep, diffusivity, [5, 20, 50])
        assert module.fit.fn(readings).diffusivity == pytest.approx(diffusivity, rel=0.01)


def test_gaps_and_spikes_are_cleaned_away_and_little_else(station):
    module = station.module()
    readings = module.record.fn(3, 3, seed=1)
    gaps = np.isnan(readings)
    assert gaps.sum() > 50
    cleaned = module.clean.fn(readings)
    assert np.abs(np.diff(cleaned, axis=0)).max() < 1
    far = np.abs(cleaned - readings)[~gaps] > 10
    assert 1 <= far.sum() <= 50
    assert (cleaned[~gaps][~far] == readings[~gaps][~far]).mean() > 0.99


@pytest.mark.parametrize("wrong", [{"months": 0}, {"days": 1}])
def test_no_months_and_too_few_days_are_refused(station, wrong):
    with pytest.raises(ValueError, match="a month or more"):
        station.graph(**wrong)


# ---- edit_a_helper.py


def test_a_helper_is_edited_and_the_rest_is_kept(tmp_path):
    original = (EXAMPLES / "station.py").read_bytes()
    printed = run(EXAMPLES / "edit_a_helper.py", "--scale", "0.01", cwd=tmp_path)
    first, question, second, end = re.split(r"^\d\. .*$", printed, flags=re.MULTILINE)[1:]
    assert "ran:         4 × record, 4 × clean, 4 × fit, 4 × describe, 1 × compare\n" in first
    assert "did not run: nothing\n" in first
    assert re.search(r"^run +4 .* describe .* edited: celsius in station\.py$", question, re.MULTILINE)
    assert re.search(r"^cached +4 +fit$", question, re.MULTILINE)
    assert "ran:         4 × describe, 1 × compare\n" in second
    assert "did not run: 4 × record, 4 × clean, 4 × fit\n" in second
    cold, warm = map(float, re.findall(r"temperature +(\S+) °C +→ +(\S+) °C", end)[0])
    assert cold - warm == pytest.approx(0.15, abs=0.002)
    assert (EXAMPLES / "station.py").read_bytes() == original
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_named_stays_and_nothing_in_it_runs_twice(tmp_path):
    command = (EXAMPLES / "edit_a_helper.py", "--scale", "0.004", "--dir", "kept")
    run(*command, cwd=tmp_path)
    assert "273.15" in (tmp_path / "kept" / "station.py").read_text("utf-8")
    printed = run(*command, cwd=tmp_path)
    assert printed.count("ran:         nothing\n") == 2
    assert "nothing will run" in printed


def test_no_work_is_refused(tmp_path):
    assert "--scale is more than 0" in run(EXAMPLES / "edit_a_helper.py", "--scale", "0", cwd=tmp_path, status=2)


# ---- resume_ppo.py


@pytest.fixture
def resume_ppo(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module("resume_ppo")
    for name in ("resume_ppo", "ppo_cartpole"):
        sys.modules.pop(name, None)


def test_a_killed_training_ends_as_one_that_was_left_alone(tmp_path):
    printed = run(EXAMPLES / "resume_ppo.py", "--iterations", "9", "--kill-after", "4", cwd=tmp_path)
    killed, went_on = (int(n) for n in re.findall(r"after iteration (\d+)$", printed, re.MULTILINE))
    assert killed >= 4
    assert 3 <= went_on < 9
    assert "the same to the last bit" in printed
    assert "the same 9 rows" in printed
    assert not list(tmp_path.iterdir())


def test_a_training_goes_on_from_the_last_state_and_its_log_is_whole(resume_ppo, tmp_path):
    def trained(iterations, cache=None):
        handle = resume_ppo.pipeline(iterations).run(executor="inprocess", cache=cache, threads_per_task=1)
        result = handle.result()
        told = [e.data["iteration"] for e in handle.events if isinstance(e, events.Emitted) and "iteration" in e.data]
        return resume_ppo.fingerprint(result["training"].agent), result["log"], told

    cache = str(tmp_path / "cache")
    short, short_log, told = trained(2, cache)
    assert told == [1, 2]
    agent, log, told = trained(5, cache)
    assert told == [3, 4, 5]
    assert log[:2] == short_log
    assert [row.steps for row in log] == [1024 * i for i in range(1, 6)]
    assert (agent, log, [1, 2, 3, 4, 5]) == trained(5)
    assert agent != short
    assert trained(5, cache) == (agent, log, [])


def test_a_kill_after_the_end_is_refused(tmp_path):
    command = (EXAMPLES / "resume_ppo.py", "--iterations", "9", "--kill-after", "9")
    assert "from 1 to 8" in run(*command, cwd=tmp_path, status=2)
