"""The benchmark: it runs, its report has the shape it says, and its arithmetic is right. Never how fast anything is."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
ENVIRONMENT = {
    "date": "2026-11-23T21:00:00+00:00",
    "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 23.5, "system": "Linux", "load": 0.1},
    "python": "CPython 3.11.7",
    "versions": {"graphray": "0.1.0", "ray": "2.60.0"},
    "revision": "abc1234",
    "revision_at_end": "abc1234",
    "rounds": 3,
    "repeats": 5,
}


@pytest.fixture(scope="module", autouse=True)
def modules():
    """The benchmark's modules can be imported, as they can by its script; afterwards they are gone."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.fixture
def core():
    return importlib.import_module("core")


def module(name: str):
    return importlib.import_module(name)


def bench(directory: Path, *arguments: str) -> tuple[str, dict, str]:
    """A run of the benchmark: what it prints, its JSON, and a page with its tables."""
    files = [directory / "results.json", directory / "page.md"]
    files[1].write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", BENCHMARKS / "core.py", *arguments, "--json", files[0], "--page", files[1]],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(files[0].read_text("utf-8")), files[1].read_text("utf-8")


def samples(*values: float) -> list[dict]:
    return [{"value": value} for value in values]


# ---- runs


def test_a_quick_run_measures_graphray_and_what_is_installed_of_the_peers(tmp_path):
    rows = ["noop10k", "memory1m", "array"]
    printed, report, page = bench(tmp_path, "--quick", "--peers", "dask", "--only", *rows)
    assert [row["name"] for row in report["rows"]] == rows
    assert report["quick"] is True
    assert report["machine"].keys() == {"cpu", "cores", "memory_gib", "system", "load"}
    assert report["machine"]["cores"] >= 1
    assert {"graphray", "numpy", "jax"} <= report["versions"].keys()
    assert report["date"].endswith("+00:00")
    assert report["skipped"]["Ray, 2 CPUs"] == "not asked for"
    for row in report["rows"]:
        assert row.keys() == {"name", "title", "unit", "size", "systems", "goals"}
        assert "graphray" in row["systems"]
        assert row["title"] in printed
        assert row["title"] in page
        for figures in row["systems"].values():
            values = [sample["value"] for sample in figures["samples"]]
            assert all(value > 0 for value in values)
            assert figures["best"] == min(values)
            assert figures["best"] <= figures["median"] <= max(values)
        for goal in row["goals"]:
            assert goal.keys() == {"text", "figure", "met"}
            assert goal["met"] is None  # sizes are small: there is nothing to judge
    assert page.startswith("before\n<!-- results -->\n\n")
    assert page.endswith("\n<!-- end of results -->\nafter\n")
    assert "old" not in page
    measured = {name for row in report["rows"] for name in row["systems"]}
    assert measured >= {"graphray", "graphray-loky"}
    assert ("dask-sync" in measured) == ("dask" in report["versions"])


@pytest.mark.slow
def test_every_row_runs(core, tmp_path):
    rows = module("_rows").ROWS
    _, report, _ = bench(tmp_path, "--quick", "--peers")
    assert [row["name"] for row in report["rows"]] == [name for name, row in rows.items() if not row.slow]
    for row in report["rows"]:
        expected = {name for name in rows[row["name"]].systems if name in ("python", "graphray", "graphray-loky")}
        assert row["systems"].keys() == expected


def test_large_values_are_measured_with_the_memory_that_they_take(tmp_path):
    _, report, _ = bench(tmp_path, "--quick", "--peers", "--only", "stages", "budget")
    stages, budget = (row["systems"]["graphray-loky"]["samples"] for row in report["rows"])
    for sample in stages:
        assert sample["moved"] >= 0.95
        assert sample["peak_results"] >= 1  # the last result is there at the end
        assert sample["peaks"]["all"] <= sample["peaks"]["private"] + sample["peaks"]["shared"]
    assert budget[0]["results_megabytes"] == 400
    assert budget[0]["peak_megabytes"] >= 20
    assert budget[0]["peaks"]["store"] >= 20e6


def test_kept_results_are_found_by_another_process(tmp_path):
    rows = ["cache-small", "cache-large"]
    _, report, _ = bench(tmp_path, "--quick", "--peers", "joblib", "--only", *rows)
    assert [row["name"] for row in report["rows"]] == rows
    for row in report["rows"]:
        assert "graphray" in row["systems"]  # peers are not in every environment
        assert all(figures["best"] > 0 for figures in row["systems"].values())


def test_rows_name_systems_that_can_do_them():
    systems = module("systems").SYSTEMS
    for row in module("_rows").ROWS.values():
        assert row.systems
        assert set(row.systems) <= systems.keys()
        assert row.title.format(size=row.size)
        for name in row.systems:
            assert row.label.format(**systems[name]._asdict())


# ---- who takes part


def test_what_is_not_installed_is_skipped_and_said_so(core, monkeypatch):
    monkeypatch.setattr(module("systems").System, "installed", lambda self: self.package != "ray")
    taking_part, skipped = core.chosen(None)
    assert skipped == {"Ray, 2 CPUs": "ray is not installed"}
    assert [s.name for s in taking_part] == [name for name in module("systems").SYSTEMS if name != "ray"]


def test_a_failing_system_is_reported_and_the_others_go_on(core, monkeypatch, capsys):
    asked = []

    def turn(row, system, quick):
        asked.append(system.name)
        if system.name == "joblib" and asked.count("joblib") == 2:
            raise module("_harness").TurnFailed("ended with status 1\nits traceback")
        return samples(float(len(asked)))

    monkeypatch.setattr(module("_harness"), "turn", turn)
    systems = [module("systems").SYSTEMS[name] for name in ("graphray", "graphray-loky", "joblib")]
    found, failures = core.measured(module("_rows").ROWS["noop100k"], systems, 3, False)
    assert asked == ["graphray", "graphray-loky", "joblib"] * 2 + ["graphray", "graphray-loky"]  # interleaved
    assert found == {"graphray": samples(1, 4, 7), "graphray-loky": samples(2, 5, 8)}
    assert failures == {"joblib at noop100k": "ended with status 1"}
    assert "its traceback" in capsys.readouterr().err


def test_a_turn_that_fails_says_what_the_system_wrote():
    harness, rows, systems = module("_harness"), module("_rows").ROWS, module("systems").SYSTEMS
    broken = systems["graphray"]._replace(name="no-such-system")
    with pytest.raises(harness.TurnFailed, match=r"ended with status 2\n(.|\n)*invalid choice: 'no-such-system'"):
        harness.turn(rows["noop10k"], broken, quick=True)


def test_a_turn_that_takes_too_long_is_ended(monkeypatch):
    harness, rows, systems = module("_harness"), module("_rows").ROWS, module("systems").SYSTEMS
    monkeypatch.setattr(harness, "TIMEOUT", 0.4)
    with pytest.raises(harness.TurnFailed, match="took more than 0 s"):
        harness.turn(rows["makespan"], systems["graphray-loky"], quick=False)


def test_slow_rows_are_run_when_asked_for(core):
    names = [row.name for row in core.chosen_rows([], ppo=False)]
    assert "ppo" not in names
    assert [row.name for row in core.chosen_rows([], ppo=True)] == [*names, "ppo"]
    assert [row.name for row in core.chosen_rows(["ppo", "help"], ppo=False)] == ["help", "ppo"]


# ---- what watches, and what kills


def test_a_watch_sees_memory_that_comes_and_goes(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with module("_memory").Watch() as watch:
        store = tmp_path / f"graphray-store-{os.getpid()}-0"
        store.mkdir()
        (store / "segment").write_bytes(bytes(20_000_000))
        other = tmp_path / "graphray-store-1-0"  # another driver's
        other.mkdir()
        (other / "segment").write_bytes(bytes(40_000_000))
        held = bytearray(os.urandom(1 << 10)) * (30 << 10)
        time.sleep(0.2)  # it looks every 5 ms
        del held
        (store / "segment").unlink()
        time.sleep(0.2)
    assert watch.peaks["private"] > 28_000_000
    assert watch.peaks["all"] >= watch.peaks["private"]
    assert 19_000_000 < watch.peaks["store"] < 30_000_000
    assert watch.peaks["named"] == 0  # none of it lies in shared memory
    assert watch.peaks["looks"] > 10


def sleeper(mark: str, code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", f"print(flush=True)\n{code}", mark], stdout=subprocess.PIPE)


def test_only_busy_workers_are_killed_and_nobody_else():
    killer = module("_killer")
    busy, idle, other = processes = [
        sleeper("worker-of-test", "while True: pass"),
        sleeper("worker-of-test", "import time; time.sleep(600)"),
        sleeper("not-a-worker", "while True: pass"),
    ]
    try:
        for process in processes:
            process.stdout.readline()
        time.sleep(0.2)
        found = [process.pid for process in killer.at_work(os.getpid(), re.compile("worker-of"))]
        assert busy.pid in found
        assert other.pid not in found
        with killer.Killer("worker-of", every=0.1, seed=1) as kills:
            assert busy.wait(30) == -9
            assert idle.wait(30) == -9  # the only one that was left
        assert kills.kills == 2
        assert other.poll() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def test_the_formula_gives_what_the_layered_graph_works_out():
    work = module("_work")
    graph = [[work.Step(1 + s.turns % 50, s.left, s.right) for s in layer] for layer in work.layers(300)]
    expected = work.result_of(graph, work.ground)
    assert expected == work.result_of(graph, work.grind)
    assert len(set(expected)) > 50
    assert expected != work.result_of([*graph[:-1], graph[-1][::-1]], work.grind)
    assert [len(layer) for layer in work.layers(10_000)] == [100] * 100
    assert all(work.TURNS[0] <= s.turns <= work.TURNS[1] for layer in work.layers(10_000) for s in layer)


# ---- the soak


def test_a_soak_says_how_things_are_while_graphs_are_computed_and_workers_die(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", BENCHMARKS / "soak.py", "--seconds", "3", "--json", tmp_path / "soak.json"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "soak.json").read_text("utf-8"))
    assert report["flat"] is None
    assert "not judged" in done.stdout
    lines = report["lines"]
    assert len(lines) == 10
    assert all(a["graphs"] < b["graphs"] for a, b in itertools.pairwise(lines))
    assert all(line["driver"] > 0 and line["worker"] > 0 and line["processes"] >= 2 for line in lines)
    assert [line["kills"] for line in lines] == list(range(1, 11))
    assert len(re.findall(r"graphs .* kills", done.stdout)) == 10


def test_a_soak_is_flat_if_nothing_grows_after_its_first_line():
    soak = module("soak")
    line = soak.Line(60.0, 100, 1, driver=1_000, worker=1_000, shared=10, files=20, threads=2, processes=3)

    def judged(*changed: dict) -> bool:
        return soak.flat(soak.verdicts([line, *(line._replace(**c) for c in changed)]))

    assert judged({}, {"driver": 1_019, "worker": 1_019}, {"shared": 40, "files": 26}, {})
    assert judged({"driver": 900, "worker": 500})
    assert not judged({}, {"driver": 1_021}, {})
    assert not judged({}, {"worker": 1_021}, {})
    for name in ("shared", "files", "threads"):
        assert not judged({name: 50}, {name: 51}, {name: 52})


# ---- arithmetic


def test_durations_are_log_normal_within_bounds_and_repeatable():
    work = module("_work")
    durations = work.lognormal_durations(2_000)
    assert sum(durations) == pytest.approx(60.0)
    assert min(durations) >= 0.001
    assert max(durations) <= 0.5
    assert durations == work.lognormal_durations(2_000)
    assert durations != sorted(durations)
    assert 1.8 < sum(durations) / len(durations) / sorted(durations)[1_000] < 2.2  # skewed: exp(1.2² / 2) is 2.05


def test_a_report_has_best_median_and_ratio_to_graphray_on_as_many_processes(monkeypatch):
    found = {
        "graphray": samples(2.0, 1.0, 3.0),
        "dask-sync": samples(40.0),
        "graphray-loky": samples(5.0, 4.0),
        "ray": samples(800.0, 600.0),
    }
    report = module("_report").report(ENVIRONMENT, {"noop10k": found}, {"joblib": "joblib is not installed"}, False)
    systems = report["rows"][0]["systems"]
    assert {name: (f["best"], f["median"], f["ratio"]) for name, f in systems.items()} == {
        "graphray": (1.0, 2.0, None),
        "dask-sync": (40.0, 40.0, 40.0),
        "graphray-loky": (4.0, 4.5, None),
        "ray": (600.0, 700.0, 150.0),
    }
    goals = {goal["text"]: (goal["figure"], goal["met"]) for goal in report["rows"][0]["goals"]}
    assert goals == {
        "graphray loky:2 ≤ 4 µs per task": (4.0, True),
        "graphray loky:2 ≥ 150× faster than Ray, 2 CPUs": (
            150.0,
            True,
        ),  # and none about joblib, which was not measured
    }


def test_a_system_on_processes_is_compared_with_graphray_where_that_has_no_pool():
    found = {"graphray": samples(0.05), "ray": samples(0.5)}
    report = module("_report").report(ENVIRONMENT, {"import": found}, {}, False)
    assert report["rows"][0]["systems"]["ray"]["ratio"] == pytest.approx(10)
    assert report["rows"][0]["systems"]["ray"]["label"] == "import ray"


def test_a_report_says_that_the_code_was_edited_during_the_run():
    place = module("_report").place
    assert "revision abc1234; 3 turns at most, of up to 5 repetitions" in place(ENVIRONMENT)
    assert "revision abc1234, edited during the run, which ended at def5678" in place(
        {**ENVIRONMENT, "revision_at_end": "def5678"}
    )


def test_goals_are_met_at_their_limit_and_missed_beyond():
    goals = module("_goals")
    results = {"row": {"graphray": samples(3.0, 2.0), "ray": samples(30.0, 20.0)}}
    for limit, met in ((2.0, True), (1.9, False)):
        goal = goals.at_most("graphray", limit, "s")
        assert goal.met(goal.figure("row", results)) is met
    for times, met in ((10, True), (11, False)):
        goal = goals.faster("graphray", times, "ray")
        assert goal.met(goal.figure("row", results)) is met
    with pytest.raises(KeyError):
        goals.faster("graphray", 1, "joblib").figure("row", results)


def test_the_worst_of_what_samples_say_beside_their_figure_counts():
    goal = module("_goals").detail_at_most("graphray", "peak", 3, "results")
    results = {"row": {"graphray": [{"value": 1.0, "peak": 3.1}, {"value": 2.0, "peak": 2.0}]}}
    assert goal.figure("row", results) == 3.1
    assert not goal.met(3.1)
    assert goal.met(3)


def test_the_cost_per_node_is_flat_if_no_size_costs_much_more():
    goal = module("_goals").flat("a", "b", limit=1.5)
    assert goal.figure("b", {"a": {"graphray": samples(2.0)}, "b": {"graphray": samples(3.0, 9.0)}}) == 1.5
    assert goal.met(1.5)
    assert not goal.met(1.51)


def test_trainings_count_as_solved_within_the_steps_only():
    goals = module("_goals")
    trainings = [
        {"solved": True, "steps": 100_000, "steps_per_second": 12_000.0},
        {"solved": True, "steps": 150_001, "steps_per_second": 11_000.0},
        {"solved": False, "steps": 149_000, "steps_per_second": 10_500.0},
    ]
    results = {"ppo": {"graphray-loky": [{"value": 20.0, "seeds": trainings}]}}
    assert goals.seeds_solved(2, within=150_000).figure("ppo", results) == 1
    assert goals.seeds_fast(10_000).figure("ppo", results) == 10_500


@pytest.mark.slow
def test_a_training_is_measured_from_its_second_update_on():
    training = module("_measures").training(seed=1, max_steps=3 * 1024)
    assert training["seed"] == 1
    assert training["solved"] is False
    assert training["steps"] == 3 * 1024
    assert training["iterations"] == 3
    # Two iterations took that long, which is only a part of it all.
    assert 0 < 2 * 1024 / training["steps_per_second"] < training["seconds"]


def test_tables_stand_between_the_marks_of_a_page_and_apart_by_where_tasks_run():
    found = {"graphray": samples(2.0), "dask-sync": samples(40.0), "graphray-loky": samples(4.0), "ray": samples(600.0)}
    imports = {"python": samples(0.02), "graphray": samples(0.04), "ray": samples(0.8)}
    report = module("_report").report(ENVIRONMENT, {"noop10k": found, "import": imports}, {}, False)
    tables = module("_report").markdown(report)
    assert tables.splitlines()[0].startswith(
        "2026-11-23: 2 cores (a processor), 23.5 GiB, Linux, load 0.1 when it began; CPython 3.11.7; graphray"
    )
    assert "| 10,000 independent no-ops | µs per task | 2 | 40 (20×) |\n" in tables
    assert "| 10,000 independent no-ops | µs per task | 4 | 600 (150×) |\n" in tables
    assert "| work | unit | Python | graphray | Ray |\n" in tables
    assert "| 10,000 independent no-ops | graphray loky:2 ≤ 4 µs per task | 4 | met |\n" in tables
    with pytest.raises(ValueError, match="no <!-- results -->"):
        module("_report").insert("a page", tables)


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.0, "0"), (4.0, "4"), (0.0123, "0.012"), (9.9, "9.900"), (39.24, "39.2"), (781.2, "781"), (5959.0, "5,959")],
)
def test_numbers_have_about_three_digits(x, text):
    assert module("_report").number(x) == text


def test_wrong_results_are_no_results():
    measures = module("_measures")
    with pytest.raises(AssertionError, match="wrong"):
        measures.chain(type("Broken", (), {"chain": lambda self, n: n - 1})(), 10)


def test_stages_that_stay_in_a_process_are_not_measured():
    large, np = module("_large"), importlib.import_module("numpy")

    class Broken:
        def stages(self, megabytes, count):
            return np.full(10, float(count)), (1,) * count

    with pytest.raises(AssertionError, match="only 0% of the stages ran in another process"):
        large.stages(Broken(), 10)


def test_reads_at_wrong_places_are_no_results():
    class Broken:
        def reads(self, array, tasks):
            return [float(array[:1_000].sum())] * tasks

    with pytest.raises(AssertionError, match="wrong"):
        module("_large").array(Broken(), 1)


def test_work_that_nothing_disturbs_is_not_measured_as_if_it_were():
    work = module("_work")

    class Undisturbed:
        WORKERS = "no process has this in its command line"

        def layers(self, graph):
            return work.result_of(graph, work.ground)

    with pytest.raises(AssertionError, match="nothing was killed"):
        module("_faults").kills(Undisturbed(), 100)


def test_the_script_refuses_what_makes_no_sense(core, capsys):
    wrongs = (["--rounds", "0"], ["--only", "nothing"], ["--page", str(BENCHMARKS / "core.py")], ["--row", "noop10k"])
    for wrong in wrongs:
        with pytest.raises(SystemExit) as end:
            core.main(wrong)
        assert end.value.code == 2
    assert "--row and --system go together" in capsys.readouterr().err
