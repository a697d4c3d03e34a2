"""Explain: what would run and why, told of a small pipeline that is edited between the runs of other processes."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

import graphray as gr
from graphray.executors import wire
from graphray.executors.cache import Cache
from graphray.executors.cache.history import NAME, History
from graphray.executors.cache.rules import is_cacheable
from graphray.graph.digest import cache_key, seeded_key

FLOW = {
    "flow": """
        import graphray as gr
        import text

        RATE = 2

        def scaled(n):
            return n * RATE

        @gr.task
        def load(path):
            with open(path) as file:
                return file.read()

        @gr.task
        def clean(content, sep=","):
            return [text.stripped(x) for x in content.split(sep)]

        @gr.task
        def count(words, minimum=1):
            return scaled(len(words))

        @gr.task(seed=True)
        def sample(words, *, seed):
            return words[seed % len(words)]

        words = gr.map(clean, gr.map(load, [gr.file("a.csv"), gr.file("b.csv")]))
        counts = gr.map(count, words, minimum=2)
        graph = gr.Graph(total=counts[0] + counts[1], sample=sample(words[0]))
        """,
    "text": """
        def stripped(x):
            return x.strip()
        """,
}


def keep(graph, directory, seed=0, seconds=2.0):
    """What a run leaves in the cache and in its history: of each node that had to run."""
    explanation = graph.explain(directory, seed=seed)
    cache = Cache(directory)
    spent = {}
    ran = [row.node for row in explanation.rows if row.status == "run"]
    for node in ran:
        if is_cacheable(node, run_has_cache=True) and type(node._digest[1]) is bytes:
            cache.store(
                cache_key(node._digest[1], seed), wire.dumps(None), {"task": node.task.name, "label": node.label}
            )
        tally = spent.setdefault(node.task, [0, 0.0])
        tally[0] += 1
        tally[1] += seconds
    History(directory).note(ran, spent, seed)


class Project:
    """A pipeline in files. Each question is asked by a process of its own."""

    def __init__(self, directory):
        self.directory = directory
        for name, source in FLOW.items():
            (directory / f"{name}.py").write_text(textwrap.dedent(source))
        (directory / "a.csv").write_text("x, y")
        (directory / "b.csv").write_text("z, w")

    def edit(self, name, before, after):
        path = self.directory / name
        text = path.read_text()
        assert text.count(before) == 1
        path.write_text(text.replace(before, after))

    def python(self, code, **environment):
        path = os.pathsep.join(
            [str(self.directory), str(pathlib.Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        )
        done = subprocess.run(
            [sys.executable, "-B", "-W", "error", "-c", textwrap.dedent(code)],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, seed=0):
        self.python(f"import flow; from tests.test_explain import keep; keep(flow.graph, 'cache', {seed})")

    def explain(self, seed=0):
        """By label, status and reason of each node; and the text."""
        code = f"""
            import flow, json
            e = flow.graph.explain("cache", seed={seed})
            print(json.dumps([e.to_dict(), str(e)]))
            """
        found, text = json.loads(self.python(code))
        return Found(found, text)


class Found:
    def __init__(self, document, text):
        self.document = document
        self.text = text
        self.nodes = document["nodes"]

    def of(self, task):
        return [(n["status"], n["cause"], n["reason"]) for n in self.nodes if n["task"] == task]

    def causes(self):
        """Of each task, what becomes of its nodes."""
        return {n["task"]: n["cause"] or n["status"] for n in self.nodes if n["status"] not in ("inline", "unneeded")}


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture
def ran(project):
    """One that was run."""
    project.run()
    return project


# ---- each reason


def test_what_never_ran_is_new(project):
    found = project.explain()
    assert found.causes() == dict.fromkeys(["load", "clean", "count", "sample"], "new")
    assert found.document["cache"] is None
    assert not (project.directory / "cache").exists(), "explaining makes no directory"


def test_after_a_run_all_that_is_needed_is_cached(ran):
    found = ran.explain()
    assert found.causes() == {"count": "cached", "sample": "cached"}
    assert found.document["counts"] == {"cached": 3, "run": 0, "shared": 0, "inline": 1, "unneeded": 6}
    assert found.text.splitlines()[0] == "nothing will run: 3 nodes cached"


def test_a_task_that_is_new_to_the_cache(ran):
    ran.edit("flow.py", "graph = gr.Graph(", "def best(x): return x\ngraph = gr.Graph(best=gr.call(best, words[0]), ")
    found = ran.explain()
    assert found.of("best") == [("run", "new", "new: no run of best is on record")]
    assert [status for status, _, _ in found.of("clean")] == ["cached", "unneeded"]


@pytest.mark.parametrize("on_error", ["raise", "collect"])
@pytest.mark.parametrize("engine", ["inprocess", "inprocess:2"])
def test_what_failed_last_time_is_said_to_have(tmp_path, engine, on_error):
    broken = True

    @gr.task(version="1")
    def ratio(a, b):
        if broken:
            raise ZeroDivisionError("division by zero\nand more")
        return a / b

    graph = gr.Graph(ratio(ratio(1, 4), 2))
    with contextlib.suppress(ZeroDivisionError):
        graph.compute(engine, cache=tmp_path, on_error=on_error)
    said = "failed last time: ZeroDivisionError: division by zero"
    first, second = graph.explain(tmp_path).rows
    assert (first.cause, first.reason) == ("failed", said)
    assert (second.cause, second.reason) == ("input", f"because of ratio(1, 4): {said}")
    assert gr.Graph(ratio(2, 0)).explain(tmp_path).rows[0].cause == "arguments"  # this call has not
    broken = False
    graph.compute(engine, cache=tmp_path)
    Cache(tmp_path).prune(0)
    assert {row.cause for row in graph.explain(tmp_path).rows} == {"evicted"}


def test_what_failed_and_was_edited_since_is_said_to_be_edited(project):
    project.edit("text.py", "x.strip()", "x.no_such_method()")
    project.python("import flow; flow.graph.run(cache='cache', on_error='collect').result()")
    assert {cause for _, cause, _ in project.explain().of("clean")} == {"failed"}
    project.edit("text.py", "x.no_such_method()", "x.strip()")
    assert {reason for _, _, reason in project.explain().of("clean")} == {"edited: stripped in text.py"}


@pytest.mark.parametrize(
    ("file", "before", "after", "task", "reason"),
    [
        ("text.py", "x.strip()", "x.strip().lower()", "clean", "edited: stripped in text.py"),
        ("flow.py", "n * RATE", "n * RATE + 1", "count", "edited: scaled in flow.py"),
        ("flow.py", "RATE = 2", "RATE = 3", "count", "edited: RATE in flow.py"),
        ("flow.py", "scaled(len(words))", "scaled(len(words) + 1)", "count", "edited: count in flow.py"),
        ("flow.py", "@gr.task\ndef count", '@gr.task(version="2")\ndef count', "count", "edited: version= was set"),
        ("flow.py", "minimum=1", "minimum=0", "count", "edited: count in flow.py"),
    ],
)
def test_an_edit_is_named(ran, file, before, after, task, reason):
    ran.edit(file, before, after)
    assert {(s, c, r) for s, c, r in ran.explain().of(task)} == {("run", "edited", reason)}


def test_several_edits_are_named_by_file(ran):
    ran.edit("flow.py", "RATE = 2", "RATE = 3")
    ran.edit("flow.py", "n * RATE", "n + RATE")
    assert ran.explain().of("count")[0][2] == "edited: RATE, scaled in flow.py"


def test_what_needs_the_result_of_an_edited_task_points_at_it(ran):
    ran.edit("text.py", "x.strip()", "x.strip().lower()")
    found = ran.explain()
    assert found.causes() == {"load": "cached", "clean": "edited", "count": "input", "sample": "input"}
    assert {reason for _, _, reason in found.of("count")} == {"because of clean(…): edited: stripped in text.py"}
    assert found.of("sample")[0][2] == "because of clean(…): edited: stripped in text.py"


def test_an_edit_of_ones_own_goes_before_that_of_an_input(ran):
    ran.edit("text.py", "x.strip()", "x.strip().lower()")
    ran.edit("flow.py", "RATE = 2", "RATE = 3")
    assert {reason for _, _, reason in ran.explain().of("count")} == {"edited: RATE in flow.py"}


def test_an_edit_that_changes_nothing_is_none(ran):
    ran.edit("flow.py", "def scaled(n):", 'def scaled(n):\n    """Scaled."""\n    # by a factor')
    assert ran.explain().document["counts"]["run"] == 0


def test_going_back_to_an_earlier_version_finds_its_results(ran):
    ran.edit("flow.py", "RATE = 2", "RATE = 3")
    ran.run()
    ran.edit("flow.py", "RATE = 3", "RATE = 2")
    assert ran.explain().document["counts"]["run"] == 0


def test_an_argument_that_changed_is_named_with_both_values(ran):
    ran.edit("flow.py", "minimum=2", "minimum=5")
    assert ran.explain().of("count") == [("run", "arguments", "argument minimum changed: 2 → 5")] * 2


def test_an_argument_that_was_added_or_left_out(ran):
    ran.edit("flow.py", ", minimum=2", "")
    assert ran.explain().of("count") == [("run", "arguments", "argument minimum is gone")] * 2
    ran.edit("flow.py", "sample(words[0])", "sample(clean('a;b', sep=';'))")
    assert ran.explain().of("clean")[-1][2] in (
        "not run before with content='a;b', sep=';'",
        "argument content changed: load(…) → 'a;b'; argument sep is new: ';'",
    )


def test_the_place_of_an_argument_is_named_as_the_function_names_it(ran):
    ran.edit("flow.py", "gr.map(count, words, minimum=2)", "[count(words[0], 2), count(words[1], 2)]")
    ran.run()
    ran.edit("flow.py", "count(words[0], 2)", "count(words[0], 7)")
    assert [reason for _, _, reason in ran.explain().of("count")] == ["argument minimum changed: 2 → 7", None]


def test_a_large_argument_that_changed(project):
    project.edit("flow.py", "sample(words[0])", "sample([1, 2, 3])")
    project.run()
    project.edit("flow.py", "sample([1, 2, 3])", "sample([1, 2, 4])")
    assert project.explain().of("sample") == [
        ("run", "arguments", "argument words changed: list[3] is not what it was")
    ]


def test_a_function_given_as_an_argument_that_was_edited(project):
    project.edit("flow.py", "sample(words[0])", "sample([1], key=scaled)")
    project.edit("flow.py", "def sample(words, *, seed)", "def sample(words, key, *, seed)")
    project.run()
    project.edit("flow.py", "RATE = 2", "RATE = 3")
    assert project.explain().of("sample") == [("run", "arguments", "argument key changed: scaled was edited")]


def test_a_new_member_of_a_fan_out_is_no_change_of_another(ran):
    (ran.directory / "c.csv").write_text("new")
    ran.edit("flow.py", 'gr.file("b.csv")]', 'gr.file("b.csv"), gr.file("c.csv")]')
    ran.edit("flow.py", "counts[0] + counts[1]", "counts[0] + counts[1] + counts[2]")
    found = ran.explain()
    status, cause, reason = found.of("load")[-1]
    assert (status, cause) == ("run", "arguments")
    assert reason.startswith("not run before with path=file(")
    assert [status for status, _, _ in found.of("count")] == ["cached", "cached", "run"]
    assert found.of("count")[-1][1:] == ("input", f"because of load(…): {reason}")


def test_a_file_that_changed_is_named(ran):
    (ran.directory / "b.csv").write_text("other, words")
    found = ran.explain()
    assert found.of("load") == [("unneeded", None, None), ("run", "file", "file changed: b.csv")]
    assert [reason for _, _, reason in found.of("count")] == [None, "because of load(…): file changed: b.csv"]
    os.utime(ran.directory / "a.csv", (0, 0))
    assert ran.explain().of("load")[0][0] == "unneeded", "a time is not content"


def test_files_in_a_list_are_named_too(project):
    project.edit("flow.py", "sample(words[0])", "sample([gr.file(f'{i}.txt') for i in range(9)])")
    for i in range(9):
        (project.directory / f"{i}.txt").write_text("a")
    project.run()
    (project.directory / "7.txt").write_text("b")
    assert project.explain().of("sample") == [("run", "file", "file changed: 7.txt")]
    for i in range(9):
        (project.directory / f"{i}.txt").write_text("c")
    assert re.fullmatch(r"files changed: (\d\.txt, ){3}and 6 more", project.explain().of("sample")[0][2])


def test_another_root_seed_counts_where_a_seed_is_drawn(ran):
    found = ran.explain(seed=4)
    assert found.of("sample") == [("run", "seed", "the run's seed changed: 0 → 4")]
    assert {status for status, _, _ in found.of("count")} == {"cached"}


def test_what_was_evicted_says_when_it_ran(ran):
    code = """
        import flow
        from graphray.executors.cache import Cache
        cache = Cache("cache")
        for node in flow.graph.nodes:
            if node.task.name in ("load", "count"):
                assert cache.remove(bytes.fromhex(node.digest))
        """
    ran.python(code)
    found = ran.explain()
    for status, cause, reason in found.of("count"):
        assert (status, cause) == ("run", "evicted")
        assert re.fullmatch(r"evicted: it ran \d{4}-\d\d-\d\d \d\d:\d\d, and is not in the cache any more", reason)
    assert {status for status, _, _ in found.of("clean")} == {"cached"}
    assert {status for status, _, _ in found.of("load")} == {"unneeded"}, "it is gone, and nobody needs it"


def test_a_lost_history_is_no_harm(ran):
    ran.edit("flow.py", "RATE = 2", "RATE = 3")
    (ran.directory / "cache" / NAME).unlink()
    found = ran.explain()
    assert found.causes() == {"clean": "cached", "count": "new", "sample": "cached"}
    (ran.directory / "cache" / NAME).write_bytes(b"")
    assert ran.explain().causes() == found.causes()


# ---- what is not kept


def fn(x):
    return x


def other(x):
    return [x]


def rows(explanation, task):
    return [(r.status, r.cause, r.reason) for r in explanation.rows if r.task == task]


def test_what_is_not_cacheable_says_why(tmp_path):
    impure = gr.task(pure=False, name="clock")(fn)
    refuses = gr.task(cache=False, name="refuses")(fn)
    after = gr.task(name="after")(fn)
    odd = gr.task(name="odd")(fn)
    graph = gr.Graph(a=after(impure(1)), b=refuses(2), c=odd(iter("abc")))
    for _ in range(2):
        explanation = graph.explain(tmp_path / "cache")
        assert rows(explanation, "clock") == [("run", "uncached", "not cacheable: impure (pure=False)")]
        assert rows(explanation, "refuses") == [("run", "uncached", "not cacheable: cache=False")]
        ((status, cause, reason),) = rows(explanation, "after")
        assert (status, cause) == ("run", "uncached")
        assert re.match(r"not cacheable: no digest for clock\(1\).*impure", reason)
        ((status, cause, reason),) = rows(explanation, "odd")
        assert re.match(r"not cacheable: no digest for odd\(.*str_.*iterator", reason)
        keep(graph, tmp_path / "cache")


def test_what_needs_something_uncached_is_cached_all_the_same(tmp_path):
    refuses = gr.task(cache=False, name="refuses")(fn)
    after = gr.task(other)
    keep(gr.Graph(after(refuses(1))), tmp_path / "cache")
    assert [r.status for r in gr.Graph(after(refuses(1))).explain(tmp_path / "cache").rows] == ["unneeded", "cached"]
    explanation = gr.Graph(after(refuses(2))).explain(tmp_path / "cache")
    assert [r.status for r in explanation.rows] == ["run", "run"]
    assert explanation.rows[1].reason == "because of refuses(2): argument x changed: 1 → 2"


def test_without_a_cache_all_runs():
    explanation = gr.Graph(gr.call(fn, gr.call(fn, 1)) + 1).explain()
    assert [r.status for r in explanation.rows] == ["run", "run", "inline"]
    assert explanation.cache is None
    assert explanation.rows[0].reason == "not cacheable: the run has no cache="


def test_tasks_that_ask_are_cached_in_the_default_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHRAY_CACHE", str(tmp_path / "default"))
    asks = gr.task(cache=True, name="asks")(fn)
    graph = gr.Graph(gr.call(fn, asks(1)))
    explanation = graph.explain()
    assert rows(explanation, "asks") == [("run", "new", "nothing is in the cache yet")]
    assert list(tmp_path.iterdir()) == []
    keep(gr.Graph(asks(1)), tmp_path / "default")
    explanation = graph.explain()
    assert rows(explanation, "asks") == [("cached", "", "")]
    assert rows(explanation, "fn") == [("run", "uncached", "not cacheable: the run has no cache=")]
    assert rows(graph.explain(cache=True), "fn")[0][0] == "run"
    assert rows(graph.explain(cache=True), "fn")[0][1] != "uncached"


def test_a_result_that_turned_out_to_depend_on_the_seed_is_found(tmp_path):
    node = gr.call(fn, 1)
    key = seeded_key(bytes.fromhex(node.digest), 3)
    Cache(tmp_path / "cache").store(key, wire.dumps(1), {"task": "fn", "label": node.label})
    graph = gr.Graph(node)
    assert graph.explain(tmp_path / "cache", seed=3).rows[0].status == "cached"
    assert graph.explain(tmp_path / "cache", seed=4).rows[0].status == "run"


def test_what_a_fan_out_becomes_is_not_known_before(tmp_path):
    explanation = gr.Graph(gr.map(fn, gr.call(fn, [1, 2]))).explain(tmp_path / "cache")
    assert explanation.rows[-1].status == "run"
    assert explanation.rows[-1].reason.startswith("becomes calls of fn as it runs")
    assert explanation.unknown == 2


def test_nodes_of_one_digest_run_once(tmp_path):
    a, b = gr.call(fn, gr.call(fn, 1)), gr.call(fn, gr.call(fn, 1))
    explanation = gr.Graph([a, b]).explain(tmp_path / "cache")
    assert sorted(r.status for r in explanation.rows) == ["run", "run", "shared", "unneeded"]
    without = gr.Graph([a, b]).explain()
    assert {r.status for r in without.rows} == {"run"}


# ---- iterations


def test_an_iteration_that_is_there_or_not(tmp_path):
    def step(x):
        return x + 1

    graph = gr.Graph(gr.iterate(step, 0, steps=3))
    assert graph.explain(tmp_path / "cache").rows[-1].cause == "new"
    keep(graph, tmp_path / "cache")
    assert graph.explain(tmp_path / "cache").rows[-1].status == "cached"
    further = gr.Graph(gr.iterate(step, 0, steps=5)).explain(tmp_path / "cache").rows[-1]
    assert (further.status, further.reason) == ("run", "argument steps changed: 3 → 5")


def test_an_iteration_continues_from_its_last_stored_state(tmp_path):
    def step(x):
        return x + 1

    gr.iterate(step, 0, steps=4, save_every=2).compute(cache=tmp_path / "cache")
    row = gr.Graph(gr.iterate(step, 0, steps=9, save_every=2)).explain(tmp_path / "cache").rows[-1]
    assert row.status == "run"
    assert row.reason.startswith("continues from step 4; ")
    row = gr.Graph(gr.iterate(step, 1, steps=9, save_every=2)).explain(tmp_path / "cache").rows[-1]
    assert "continues" not in row.reason


# ---- what is explained is what happens


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_said_to_run_is_what_runs(tmp_path, rng, seed):
    """On random graphs of which parts are in the cache."""
    calls = []

    @gr.task
    def plain(*xs):
        calls.append("plain")
        return len(xs)

    @gr.task(seed=True)
    def drawn(*xs, seed):
        calls.append("drawn")
        return seed

    @gr.task(cache=False)
    def fresh(*xs):
        calls.append("fresh")
        return len(xs)

    plain, drawn, fresh = (gr.task(version="1")(t) for t in (plain, drawn, fresh))  # `calls` is none of their code
    for round in range(10):
        nodes = [plain(round)]
        for i in range(rng.randrange(1, 25)):
            inputs = rng.sample(nodes, min(len(nodes), rng.randrange(4)))
            nodes.append(rng.choice([plain, plain, drawn, fresh])(i % 7, *inputs))
        part = gr.Graph(rng.sample(nodes, rng.randrange(1, len(nodes) + 1)))
        part.compute(cache=tmp_path / "cache", seed=seed)
        graph = gr.Graph(rng.sample(nodes, rng.randrange(1, len(nodes) + 1)))
        said = sorted(row.task for row in graph.explain(tmp_path / "cache", seed=seed).rows if row.status == "run")
        calls.clear()
        graph.compute(cache=tmp_path / "cache", seed=seed)
        assert sorted(calls) == said


# ---- how long


def test_recorded_durations_give_the_expected_time(ran):
    ran.edit("text.py", "x.strip()", "x.strip().lower()")
    document = ran.explain().document
    assert document["seconds"] == 2.0 * 5
    assert document["critical_path"] == 2.0 * 2
    assert document["unknown"] == 0
    ran.edit("flow.py", "graph = gr.Graph(", "def best(x): return x\ngraph = gr.Graph(best=gr.call(best, words[0]), ")
    found = ran.explain()
    assert (found.document["seconds"], found.document["unknown"]) == (10.0, 1)
    assert "at least 10 s on one worker" in found.text.splitlines()[0]


def test_more_workers_take_less_time_but_no_less_than_the_longest_chain(tmp_path):
    keep(gr.Graph([gr.map(fn, range(6))]), tmp_path / "cache", seconds=3.0)
    node = gr.call(fn, 10)
    for _ in range(3):
        node = gr.call(fn, node)
    explanation = gr.Graph([node, gr.map(fn, range(100, 104))]).explain(tmp_path / "cache")
    assert explanation.seconds == pytest.approx(24)
    assert explanation.critical_path == pytest.approx(12)
    assert [explanation.seconds_on(n) for n in (1, 2, 4, 100)] == pytest.approx([24, 12, 12, 12])


# ---- how it is told


def test_nodes_that_are_alike_are_one_line(tmp_path):
    graph = gr.Graph([gr.map(fn, range(1000))])
    text = str(graph.explain(tmp_path / "cache"))
    assert re.search(r"^run +1,000 +\? +fn +nothing is in the cache yet$", text, re.MULTILINE)
    keep(graph, tmp_path / "cache", seconds=0.5)
    more = gr.Graph([gr.map(fn, range(1003))]).explain(tmp_path / "cache")
    lines = str(more).splitlines()
    assert lines[0] == "3 nodes will run, 1,000 are cached; about 1.5 s on one worker, no less than 0.5 s on any number"
    assert [re.sub(" +", " ", line) for line in lines[2:]] == [
        " nodes time what why",
        "cached 1,000 fn",
        "run 3 1.5 s fn not run before with x=1000 (and 2 more like that)",
    ]
    assert len(more.rows) == 1003


def test_it_does_not_change(tmp_path):
    explanation = gr.Graph(gr.call(fn, 1)).explain()
    with pytest.raises(AttributeError):
        explanation.rows = ()
    with pytest.raises(AttributeError):
        del explanation.seconds
    assert repr(explanation) == "<Explanation: 1 of 1 nodes will run, 0 are cached>"


def test_in_a_notebook_it_is_a_table_that_is_escaped(tmp_path):
    page = gr.Graph(gr.call(fn, "<script>")).explain(tmp_path / "cache")._repr_html_()
    assert "<table>" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_inputs_are_bound_and_wrong_options_refused(tmp_path):
    graph = gr.Graph(gr.call(fn, gr.input("x")))
    keep(graph.bind(x=3), tmp_path / "cache")
    assert graph.explain(tmp_path / "cache", inputs={"x": 3}).counts["cached"] == 1
    assert graph.explain(tmp_path / "cache", inputs={"x": 4}).counts["run"] == 1
    with pytest.raises(TypeError, match="input x"):
        graph.explain()
    with pytest.raises(ValueError, match="seed="):
        graph.explain(inputs={"x": 3}, seed="1")
    with pytest.raises(TypeError, match="cache="):
        graph.explain(7, inputs={"x": 3})
    (tmp_path / "file").write_text("")
    with pytest.raises((ValueError, OSError)):
        graph.explain(tmp_path / "file", inputs={"x": 3})


def test_a_deep_graph_is_explained(tmp_path):
    node = gr.call(fn, 0)
    for _ in range(5_000):
        node = gr.call(fn, node)
    explanation = gr.Graph(node).explain(tmp_path / "cache")
    assert explanation.counts["run"] == 5_001
    keep(gr.Graph(node), tmp_path / "cache", seconds=1.0)
    assert gr.Graph(node).explain(tmp_path / "cache").counts["unneeded"] == 5_000


# ---- the command


def command(project, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "graphray", "run", "flow.py", "--executor", "loky:2", "--dry-run", *arguments],
        cwd=project.directory,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_dry_run_explains(ran):
    ran.edit("text.py", "x.strip()", "x.strip().lower()")
    lines = command(ran, "--cache", "cache").splitlines()
    assert lines[0] == "flow.py: 10 nodes, nothing was computed"
    assert lines[1] == "5 nodes will run, 2 are cached; about 10 s on one worker, no less than 4 s on any number"
    assert any(re.search(r"^run +2 +4 s +clean +edited: stripped in text\.py$", line) for line in lines)
    assert "time        5 s with these workers, at best" in lines
    document = json.loads(command(ran, "--cache", "cache", "--json"))
    assert document["explanation"]["counts"]["run"] == 5
    assert {n["reason"] for n in document["explanation"]["nodes"] if n["task"] == "clean"} == {
        "edited: stripped in text.py"
    }
    assert command(ran, "--cache", "cache", "--seed", "3").count("the run's seed changed: 0 → 3") == 0
    assert "the run has no cache=" in command(ran)


def test_a_script_and_the_command_have_one_history(ran):
    """`python flow.py` calls its module `__main__`."""
    (ran.directory / "flow.py").write_text(
        (ran.directory / "flow.py").read_text()
        + "\nif __name__ == '__main__':\n    import sys\n    print(graph.explain('cache'))\n"
    )
    ran.edit("flow.py", "RATE = 2", "RATE = 3")
    text = ran.python("import runpy; runpy.run_path('flow.py', run_name='__main__')")
    done = subprocess.run([sys.executable, "flow.py"], cwd=ran.directory, capture_output=True, text=True, timeout=60)
    assert "edited: RATE in flow.py" in done.stdout, (done.stdout, done.stderr, text)
