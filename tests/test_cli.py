"""The command line: what it prints where, what it ends with, and what it says to those who mistype."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any, NamedTuple

import cloudpickle
import psutil
import pytest

import graphray as gr
from graphray.cli import main

HELLO = """
    import graphray as gr

    @gr.task
    def square(x):
        return x * x

    squares = gr.map(square, range(10))
    graph = gr.Graph(total=gr.combine(sum, squares), largest=gr.reduce(max, squares))
"""

FUNCTION = '''
    from __future__ import annotations
    import enum, pathlib
    from typing import Literal, Optional
    import graphray as gr

    class Mode(enum.Enum):
        fast = 1
        slow = 2

    def pipeline(n: int = 3, lr: float = 0.5, mode: Mode = Mode.fast, kind: Literal["adam", "sgd"] = "adam",
                 layers: list[int] = [64, 64], path: pathlib.Path | None = None, loud: bool = False,
                 limit: Optional[int] = None) -> gr.Graph:
        """Multiply.

        More about it.

        Args:
            n: how many times,
                in two lines.
            lr (float): how fast.
        """
        return gr.Graph(product=gr.value(n * lr), said=gr.value([mode.name, kind, layers, str(path), loud, limit]))
'''


class Done(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file into an empty working directory; gives its name."""
    monkeypatch.chdir(tmp_path)

    def write(source: str, name: str = "flow.py") -> str:
        pathlib.Path(name).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(name).write_text(textwrap.dedent(source), "utf-8")
        return name

    return write


@pytest.fixture
def here(write, capsys, tmp_path):
    """Run a command in this process; the pipelines it has imported are gone after the test."""
    path, environment, names = list(sys.path), dict(os.environ), set(sys.modules)

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        status = main(arguments)
        out, err = capsys.readouterr()
        return Done(status, out, err)

    yield run
    sys.path[:] = path
    os.environ.clear()
    os.environ.update(environment)
    for name in set(sys.modules) - names:
        module = sys.modules[name]
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
            if name in cloudpickle.list_registry_pickle_by_value():
                cloudpickle.unregister_pickle_by_value(module)


def started(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen([sys.executable, "-m", "graphray", *arguments], **pipes)


def outside(*arguments: str, **options: Any) -> Done:
    """Run a command in a process of its own."""
    process = started(*arguments, **options)
    out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)


# ---- computing


def test_results_go_to_stdout_with_their_names_aligned(here, write):
    done = here("run", write(HELLO), "--executor", "inprocess")
    assert done.status == 0
    assert done.out == "total    285\nlargest  81\n"


def test_quiet_says_nothing_but_the_results(here, write):
    assert here("run", write(HELLO), "--executor", "inprocess", "-q") == (0, "total    285\nlargest  81\n", "")


def test_progress_is_told_on_stderr_in_plain_lines_where_there_is_no_terminal(here, write):
    done = here("run", write(HELLO), "--executor", "inprocess")
    assert "nodes in" in done.err
    assert "\x1b" not in done.err + done.out
    assert here("run", "flow.py", "--executor", "inprocess", "--no-progress").err == ""
    assert "nodes in" in here("run", "flow.py", "--executor", "inprocess", "-q", "--progress").err


@pytest.mark.parametrize(
    ("source", "suffix", "expected"),
    [
        ("graph = gr.Graph(gr.call(pow, 2, 5))", "", "32\n"),
        ("graph = gr.call(pow, 2, 5)", "", "32\n"),
        ("def pipeline(): return gr.call(pow, 2, 5)", "", "32\n"),
        ("def pipeline(): return gr.Graph(x=gr.call(pow, 2, 5))", "", "x  32\n"),
        ("other = gr.call(pow, 2, 6); graph = gr.value(1)", ":other", "64\n"),
        ("def other(): return gr.call(pow, 2, 6)", ":other", "64\n"),
        ("pipeline = gr.task(lambda: 7)", "", "7\n"),
        ("import graphray.graph as graph\ndef pipeline(): return gr.value(3)", "", "3\n"),
        ("def pipeline(*args, **kwargs): return gr.value(3)", "", "3\n"),
        ("def pipeline(a=1, /, *, b=2): return gr.value((a, b))", "", "(1, 2)\n"),
    ],
)
def test_a_pipeline_file_defines_a_graph_a_node_or_a_function(here, write, source, suffix, expected):
    done = here("run", write(f"import graphray as gr\n{source}\n") + suffix, "--executor", "inprocess", "-q")
    assert done == (0, expected, "")


def test_the_main_block_does_not_run_and_siblings_are_found(here, write):
    write("def answer(): return 42\n", "beside_flow.py")
    write(
        """
        import graphray as gr, beside_flow
        graph = gr.call(beside_flow.answer)
        if __name__ == "__main__":
            raise SystemExit("ran")
        """
    )
    assert here("run", "flow.py", "--executor", "inprocess", "-q").out == "42\n"


def test_json_is_one_document(here, write):
    done = here("run", write(HELLO), "--executor", "inprocess:2", "--json", "--seed", "3")
    document = json.loads(done.out)
    assert document.pop("seconds") >= 0
    assert document == {
        "results": {"total": 285, "largest": 81},
        "nodes": 12,
        "pipeline": "flow.py",
        "parameters": {},
        "executor": "inprocess",
        "workers": 2,
        "seed": 3,
    }


def test_json_of_an_output_without_a_name_is_the_bare_value(here, write):
    write("import graphray as gr\ngraph = gr.value([1.5, float('nan')])\n")
    assert json.loads(here("run", "flow.py", "--executor", "inprocess", "--json").out)["results"] == [1.5, "NaN"]


def test_targets_choose_outputs(here, write):
    write(HELLO)
    done = here("run", "flow.py", "--executor", "inprocess", "-q", "--target", "largest")
    assert done.out == "largest  81\n"
    done = here("run", "flow.py", "--executor", "inprocess", "-q", "--target", "largest", "--target", "total")
    assert done.out.splitlines() == ["largest  81", "total    285"]


def test_an_input_that_only_another_target_needs_may_stay_open(here, write):
    write("import graphray as gr\nx = gr.input('x')\ngraph = gr.Graph(a=gr.call(abs, x), b=gr.value(2))\n")
    assert here("run", "flow.py", "--executor", "inprocess", "-q", "--target", "b").out == "b  2\n"
    assert here("run", "flow.py", "--executor", "inprocess", "-q", "--set", "x=-3").out == "a  3\nb  2\n"


def test_the_seed_reaches_tasks_and_a_parameter_of_that_name(here, write):
    write(
        """
        import graphray as gr
        draw = gr.task(seed=True)(lambda seed: seed)
        def pipeline(seed: int = 5): return gr.Graph(drawn=draw(), given=gr.value(seed))
        """
    )

    def results(*options):
        return json.loads(here("run", "flow.py", "--executor", "inprocess", "--json", *options).out)["results"]

    assert results() == results()
    assert results()["given"] == 5
    assert results("--seed", "1")["given"] == 1
    assert results("--seed", "1")["drawn"] != results()["drawn"]
    assert results("--seed", "1", "--set", "seed=2")["given"] == 2
    assert results("--seed", "-1")["given"] == -1


def test_a_dry_run_says_what_would_be_computed_and_computes_nothing(here, write):
    write(HELLO.replace("return x * x", "open('ran', 'w')") + "\n    x = gr.input('x', default=1)\n")
    write(pathlib.Path("flow.py").read_text() + "graph |= gr.Graph(z=gr.call(abs, x))\n")
    done = here("run", "flow.py", "--dry-run", "--workers", "3", "--set", "x=2")
    assert done.status == 0
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[0] == "flow.py: 14 nodes, nothing was computed"
    assert re.search(r"^run +10 +\? +square +not cacheable: the run has no cache=$", done.out, re.MULTILINE)
    assert "outputs     total, largest, z" in lines
    assert "parameters  x = 2" in lines
    assert "executor    loky, 3 workers" in lines
    assert not pathlib.Path("ran").exists()
    document = json.loads(here("run", "flow.py", "--dry-run", "--json", "--executor", "inprocess").out)
    assert document["dry_run"]
    assert document["tasks"]["square"] == 10
    assert document["outputs"] == ["total", "largest", "z"]
    assert document["executor"] == "inprocess"


def test_the_environment_names_the_executor_and_an_option_another(here, write, monkeypatch):
    write(HELLO)
    monkeypatch.setenv("GRAPHRAY_EXECUTOR", "inprocess:3")
    assert json.loads(here("run", "flow.py", "--dry-run", "--json").out)["workers"] == 3
    assert json.loads(here("run", "flow.py", "--dry-run", "--json", "--executor", "loky:2").out)["executor"] == "loky"


# ---- processes


def test_workers_import_the_pipeline_by_name_and_what_anybody_prints_is_not_in_the_json(write):
    write(
        """
        import os, subprocess, sys
        print("imported by", os.getpid())
        import graphray as gr

        class Point:
            pass

        @gr.task
        def where(i):
            print("printed", i)
            os.write(1, b"written\\n")
            subprocess.run(["echo", "echoed"])
            # The class is found by reference, or it would be another one than the module's.
            return __name__, os.getpid(), sys.modules[__name__].Point is Point

        graph = gr.Graph(here=gr.value(os.getpid()), there=gr.map(where, range(4)))
        """
    )
    done = outside("run", "flow.py", "--workers", "2", "--json")
    document = json.loads(done.out)
    assert done.out.count("\n") == 1
    results = document["results"]
    assert (document["executor"], document["workers"]) == ("loky", 2)
    assert {name for name, _, _ in results["there"]} == {"flow"}
    assert results["here"] not in {pid for _, pid, _ in results["there"]}
    assert all(same for _, _, same in results["there"])
    assert f"imported by {results['here']}" in done.err
    assert done.err.count("printed") == done.err.count("written") == done.err.count("echoed") == 4


def test_without_json_what_tasks_print_goes_to_stdout_before_the_results(write):
    write("import graphray as gr\ngraph = gr.Graph(x=gr.call(print, 'from a task'))\n")
    done = outside("run", "flow.py", "--workers", "1", "-q")
    assert done == (0, "[print('from a task') loky-1] from a task\nx  None\n", "")


TAKEN = """
    import random, json
    import numpy
    import graphray as gr
    import beside
    from dataclasses import dataclass

    @dataclass
    class Point:
        x: float

    def helper(x):
        return beside.half(x) + random.Random(0).random() * 0

    @gr.task
    def point(x):
        return Point(helper(x))

    graph = gr.Graph(points=gr.map(point, [2.0, 4.0]), last=point(6.0), same=gr.value(numpy.__name__))
"""


@pytest.mark.parametrize("name", ["random.py", "numpy.py", "my-flow.py", "v1.2.py", "half/half.py"])
def test_a_name_that_is_taken_or_none_does_no_harm(write, name):
    """Also in the workers: `import random` is Python's own there, though random.py lies in the working directory."""
    write(TAKEN, f"flows/{name}")
    write("def half(x): return x / 2\n", os.path.join("flows", os.path.dirname(name), "beside.py"))
    if name == "half/half.py":
        write("", "flows/half/half/__init__.py")  # a package of that name comes before the file
    directory, file = os.path.split(f"flows/{name}")
    graphray = os.path.join(os.path.dirname(sys.executable), "graphray")
    command = [graphray] if os.path.exists(graphray) else [sys.executable, "-P", "-m", "graphray"]
    done = subprocess.run(
        [*command, "run", file, "--workers", "1", "-q", "--json"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"] == {
        "points": [{"x": 1.0}, {"x": 2.0}],
        "last": {"x": 3.0},
        "same": "numpy",
    }


def test_a_file_that_is_already_imported_is_loaded_anew(here, write):
    write("import graphray as gr\ngraph = gr.value(1)\n")
    assert here("run", "flow.py", "--executor", "inprocess", "-q").out == "1\n"
    write("import graphray as gr\ngraph = gr.value(20)\n")
    assert here("run", "flow.py", "--executor", "inprocess", "-q").out == "20\n"


def test_a_link_leads_to_what_lies_beside_the_file(here, write):
    write("value = 7\n", "real/beside_target.py")
    write("import graphray as gr, beside_target\ngraph = gr.value(beside_target.value)\n", "real/target.py")
    os.symlink("real/target.py", "link.py")
    assert here("run", "link.py", "--executor", "inprocess", "-q").out == "7\n"


# ---- parameters


def test_parameters_are_set_and_recorded(here, write):
    write(FUNCTION)
    options = [
        *("--set", "n=4", "--set", "lr=1e-1", "--set", "mode=slow", "--set", "kind=sgd", "--set", "layers=1,2,3"),
        *("--set", "path=a=b/c", "--set", "loud=yes", "--set", "limit=none"),
    ]
    document = json.loads(here("run", "flow.py", "--executor", "inprocess", "--json", *options).out)
    assert document["results"] == {"product": 0.4, "said": ["slow", "sgd", [1, 2, 3], "a=b/c", True, None]}
    expected = {"n": 4, "lr": 0.1, "mode": "slow", "kind": "sgd", "layers": [1, 2, 3], "path": "a=b/c", "loud": True}
    assert document["parameters"] == {**expected, "limit": None}


def test_annotations_that_cannot_be_resolved_spoil_only_themselves(here, write):
    write(
        """
        from __future__ import annotations
        import graphray as gr
        def pipeline(a: Missing = 1, b: float = 2): return gr.value([a, b])
        """
    )
    done = here("run", "flow.py", "--executor", "inprocess", "-q", "--set", "a=x", "--set", "b=3")
    assert done.out == "['x', 3.0]\n"


def test_inputs_of_a_graph_are_parameters_of_the_type_of_their_defaults(here, write):
    write(
        """
        import graphray as gr
        names = dict(rate=0.1, count=2, flag=False, text="a", items=[1, 2], nothing=None)
        graph = gr.Graph(x=[gr.input(k, default=v) for k, v in names.items()], y=gr.input("open"))
        """
    )

    def results(*texts):
        options = [option for text in texts for option in ("--set", text)]
        done = here("run", "flow.py", "--executor", "inprocess", "--json", "-q", *options)
        return json.loads(done.out)["results"] if done.status == 0 else done.err

    assert results("open=1") == {"x": [0.1, 2, False, "a", [1, 2], None], "y": 1}
    assert results("open=[1]", "rate=1", "count=3.5", "flag=on", "text=3", "items=4,5", "nothing=2") == {
        "x": [1.0, 3.5, True, "3", [4, 5], 2],
        "y": [1],
    }
    assert results("open=some text")["y"] == "some text"
    assert "input open: --set open=VALUE" in results()
    assert "'x' is not a float" in results("open=1", "rate=x")


def test_a_function_may_leave_inputs_open(here, write):
    write("import graphray as gr\ndef pipeline(n: int = 1): return gr.value(n) + gr.input('x', default=10)\n")
    assert here("run", "flow.py", "--executor", "inprocess", "-q", "--set", "n=2", "--set", "x=5").out == "7\n"
    assert "no parameter 'y'" in here("run", "flow.py", "--set", "y=1").err


def test_help_lists_the_parameters_of_a_pipeline(here, write):
    done = here("run", write(FUNCTION), "--help")
    assert done.status == 0
    assert "flow.py: Multiply." in done.out
    lines = [re.sub(r" {2,}", "  ", line) for line in done.out.splitlines()]
    assert "  n: int  = 3  how many times, in two lines." in lines
    assert "  lr: float  = 0.5  how fast." in lines
    assert "  mode: fast | slow  = fast" in lines
    assert "  layers: list[int]  = 64,64" in lines
    assert "  path: Path | none  = none" in lines
    write("import graphray as gr\ndef pipeline(x, y: int): return gr.value(1)\n", "needs.py")
    assert re.search(
        r"^  x +\(required\)\n  y: int +\(required\)$", here("run", "needs.py", "--help").out, re.MULTILINE
    )
    write("import graphray as gr\ngraph = gr.value(1)\n", "plain.py")
    assert "It has no parameters." in here("show", "plain.py", "-h").out


def test_help_fits_a_narrow_terminal(here, write, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    out = here("run", write(FUNCTION), "--help").out
    table = out[out.index("parameters, given with") :]
    assert max(map(len, table.splitlines())) <= 60


# ---- what goes wrong before anything runs


BAD = {
    "no such file": ("", ["flwo.py"], r"no such file: flwo.py; did you mean 'flow.py'\?"),
    "no suffix": ("", ["flow"], r"no such file: flow; did you mean 'flow.py'\?"),
    "no directory": ("", ["nowhere/flow.py"], "no such file: nowhere/flow.py; there is no directory nowhere"),
    "a directory": ("", ["."], r"\. is a directory"),
    "not Python": ("", ["notes.txt"], "notes.txt is not a Python file"),
    "no pipeline": ("", [], r"which pipeline\?"),
    "two pipelines": ("", ["flow.py", "flow.py"], "one argument too many: 'flow.py'"),
    "a syntax error": ("graph = gr.value(1", ["flow.py"], r"importing flow.py failed\n  File .*flow.py\", line 1\n"),
    "an import error": ("import nope", ["flow.py"], r"flow.py\", line 1, in <module>\n.*No module named 'nope'$"),
    "an exit": ("import sys; sys.exit(3)", ["flow.py"], r"it called exit\(3\)"),
    "null bytes": ("x = '\0'", ["flow.py"], "null bytes"),
    "nothing in it": ("", ["flow.py"], r"defines neither graph nor pipeline\(\)$"),
    "another name": (
        "import graphray as gr; training = gr.value(1)",
        ["flow.py"],
        "it has training.*flow.py:training$",
    ),
    "no such name": ("trining = 1; training = print", ["flow.py:nothing"], "flow.py defines no 'nothing'$"),
    "a mistyped name": ("def training(): 1", ["flow.py:trainig"], "defines no 'trainig'; did you mean 'training'"),
    "not a name": ("", ["flow.py:1+1"], r"'1\+1'"),
    "both": (
        "import graphray as gr; graph = gr.value(1)\ndef pipeline(): 1",
        ["flow.py"],
        "say which: flow.py:graph or",
    ),
    "no graph": ("graph = 3", ["flow.py"], "graph in flow.py is an int, not a Graph, a Node or a function"),
    "a raising pipeline": (
        "import graphray as gr\ndef pipeline(): return gr.map(max, [1], [1, 2])",
        ["flow.py"],
        r"pipeline\(\) failed\nTraceback \(most recent call last\):\n  File .*flow.py\", line 2, in pipeline\n.*"
        r"ValueError: .*lengths: 1, 2$",
    ),
    "an exiting pipeline": ("def pipeline(): raise SystemExit(1)", ["flow.py"], r"pipeline\(\) called exit\(1\)"),
    "None": ("def pipeline(): pass", ["flow.py"], r"pipeline\(\) returned None, not a Graph or a Node"),
    "a dict": ("def pipeline(): return {}", ["flow.py"], r"returned a dict.*gr\.Graph\(\*\*outputs\)"),
    "a coroutine": ("async def pipeline(): pass", ["flow.py"], "returned a coroutine"),
    "an unknown parameter": (FUNCTION, ["flow.py", "--set", "layer=1"], "no parameter 'layer'; did you mean 'layers'"),
    "no parameters": ("import graphray as gr; graph = gr.value(1)", ["flow.py", "--set", "x=1"], "'x'; it has none$"),
    "a wrong type": (FUNCTION, ["flow.py", "--set", "n=many"], "--set n=many: 'many' is not an int$"),
    "a wrong choice": (FUNCTION, ["flow.py", "--set", "kind=x"], "'x' is not one of adam, sgd$"),
    "a wrong list": (FUNCTION, ["flow.py", "--set", "layers=a"], "is not a list\\[int\\], its elements separated by"),
    "a type without texts": (
        "import numpy\ndef pipeline(x: numpy.ndarray): pass",
        ["flow.py", "--set", "x=1"],
        "a value of type ndarray cannot be given on the command line$",
    ),
    "a missing value": (
        "def pipeline(x: int, y): pass",
        ["flow.py", "--set", "y=1"],
        "needs a value for x: --set x=VALUE$",
    ),
    "a mistyped required one": ("def pipeline(rate): pass", ["flow.py", "--set", "rat=1"], "did you mean 'rate'"),
    "no assignment": (FUNCTION, ["flow.py", "--set", "n"], "--set n: write it as --set NAME=VALUE$"),
    "given twice": (FUNCTION, ["flow.py", "--set", "n=1", "--set", "n=2"], "n= is given twice$"),
    "an unknown target": (HELLO, ["flow.py", "--target", "totl"], "no output 'totl'; did you mean 'total'"),
    "another unknown target": (HELLO, ["flow.py", "--target", "x"], "no output 'x'; there are total, largest$"),
    "nothing to choose": (
        "import graphray as gr; graph = gr.value(1)",
        ["flow.py", "--target", "x"],
        "without a name$",
    ),
    "an unknown executor": (HELLO, ["flow.py", "--executor", "lokey"], "no executor 'lokey'; there are 'inprocess'"),
    "a wrong number": (HELLO, ["flow.py", "--executor", "loky:0"], "needs a number of workers"),
    "two numbers": (HELLO, ["flow.py", "--executor", "loky:2", "--workers", "2"], "says another$"),
    "no workers": (HELLO, ["flow.py", "--workers", "0"], "'0' is not a number of 1 or more"),
    "a seed that is none": (HELLO, ["flow.py", "--seed", "x"], "'x' is not an integer"),
    "an unknown option": (HELLO, ["flow.py", "--lr", "1"], r"no option --lr; .* --set lr=VALUE$"),
    "a mistyped option": (HELLO, ["flow.py", "--sed=1"], r"no option --sed; did you mean '--seed'\?$"),
    "no value": (HELLO, ["flow.py", "--target"], "expected one argument"),
    "inputs that disagree": (
        "import graphray as gr; graph = gr.input('x', default=1) + gr.input('x', default=2)",
        ["flow.py"],
        "the input 'x' has two defaults",
    ),
    "a builtin": ("import builtins; top = builtins.max", ["flow.py:top"], r"parameters of max\(\) are not known"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_message_and_status_2(here, write, case):
    source, arguments, message = BAD[case]
    write(source)
    write("", "notes.txt")
    done = here("run", *arguments)
    assert done.status == 2, done.err
    assert done.out == ""
    assert re.search(message, done.err.strip(), re.DOTALL), done.err
    assert done.err.startswith("graphray run: ")
    assert "graphray/cli" not in done.err
    assert "importlib" not in done.err
    if "\nTraceback" not in done.err and "failed\n" not in done.err:
        assert done.err.count("\n") == 1


def test_a_mistyped_command_is_told_the_right_one(here, write):
    assert here("rnu").err == "graphray: there is no command 'rnu'; did you mean 'run'?\n"
    commands = "run, show, cache, replay, nodes, train, evaluate, plot, rl"
    assert here("fly").err == f"graphray: there is no command 'fly'; there are {commands}\n"
    assert here(write(HELLO)).err.endswith("to compute a pipeline: graphray run flow.py\n")
    assert {here("rnu").status, here("fly").status, here().status, here("--verbose").status} == {2}
    assert here().out == ""
    assert (
        here("--seed=1", "run", "flow.py").err == "graphray run: --seed goes after the command: graphray run --seed=1\n"
    )


def test_an_error_in_a_helper_shows_the_way_there(here, write):
    write("def f():\n    return 1 / 0\nx = f()\n", "broken_helper.py")
    write("import broken_helper\n")
    done = here("run", "flow.py")
    assert re.findall(r'File "(?:.*/)?(\w+\.py)"', done.err) == ["flow.py", "broken_helper.py", "broken_helper.py"]
    assert done.err.endswith("ZeroDivisionError: division by zero\n")


def test_a_broken_pipeline_does_not_hide_the_help(here, write):
    write("import nope\n")
    done = here("run", "flow.py", "--help")
    assert done.status == 2
    assert "--executor" in done.out
    assert "No module named 'nope'" in done.err


# ---- failing tasks


FAILING = """
    import os, signal
    import graphray as gr

    class Odd(Exception):
        pass

    def inner(x):
        raise Odd(f"{x} is odd")

    @gr.task
    def half(x):
        try:
            return [0, 2, 4].index(x)
        except ValueError:
            inner(x)

    @gr.task
    def deep(x):
        return half(x)

    @gr.task
    def exits(): raise SystemExit(4)

    @gr.task
    def lock():
        import threading
        return threading.Lock()

    @gr.task
    def dies(): os.kill(os.getpid(), signal.SIGKILL)

    graph = gr.Graph(total=gr.combine(sum, gr.map(half, [0, 3])))
    nested = deep(3)
    ended = exits()
    stuck = lock()
    dead = dies()
"""


@pytest.mark.parametrize("executor", ["inprocess", "loky:1"])
def test_a_failing_task_shows_the_users_own_traceback(here, write, executor):
    done = here("run", write(FAILING), "--executor", executor, "-q")
    assert done.status == 1
    assert done.out == ""
    assert done.err.startswith("Traceback (most recent call last):\n  File")
    assert set(re.findall(r'File "(?:.*/)?(\w+\.py)"', done.err)) == {"flow.py"}
    assert re.findall(r", in (\w+)\n", done.err) == ["half", "half", "inner"]
    assert "During handling of the above exception" in done.err
    assert "Odd: 3 is odd\ngraphray: in half(3) on" in done.err
    assert "path half → sum" in done.err


def test_failures_of_every_kind_end_with_status_1(here, write):
    write(FAILING)
    assert "path half → deep" in here("run", "flow.py:nested", "--executor", "inprocess").err
    assert "exits()" in here("run", "flow.py:ended", "--executor", "inprocess").err
    stuck = here("run", "flow.py:stuck", "--executor", "loky:1", "-q")
    assert stuck.err.startswith("TypeError: the result of lock()")  # there is no frame of the user's
    dead = here("run", "flow.py:dead", "--executor", "loky:1", "-q", "--json")
    assert dead.err.startswith("graphray.errors.WorkerDied: ")
    assert "SIGKILL" in dead.err
    assert (stuck.status, dead.status, stuck.out, dead.out) == (1, 1, "", "")


# ---- interrupted, unread, unwritable


def processes_of(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            pass
    return found


def wait_for(condition, timeout=20.0) -> bool:
    deadline = time.monotonic() + timeout
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(met)


@pytest.mark.parametrize("executor", ["inprocess", "loky:2"])
def test_ctrl_c_ends_with_one_line_and_leaves_no_process(write, executor):
    write(
        """
        import time, pathlib
        import graphray as gr
        @gr.task
        def wait(i):
            pathlib.Path(f"begun-{i}").touch()
            time.sleep(60)
        graph = gr.Graph(x=gr.map(wait, range(8)))
        """
    )
    process = started("run", "flow.py", "--executor", executor, "-q", start_new_session=True)
    try:
        begun = 2 if executor == "loky:2" else 1
        assert wait_for(lambda: len(list(pathlib.Path().glob("begun-*"))) >= begun)
        assert len(processes_of(process.pid)) >= begun
        at = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert out == ""
        assert err == "graphray run: interrupted\n"
        assert wait_for(lambda: not processes_of(process.pid), 2.0), processes_of(process.pid)
        assert time.monotonic() - at < 3.0
    finally:
        for left in processes_of(process.pid):
            left.kill()


@pytest.mark.parametrize("executor", ["inprocess", "loky:1"])
def test_a_pipe_that_nobody_reads_is_no_drama(write, executor):
    write(
        """
        import graphray as gr
        @gr.task
        def loud(i):
            for k in range(20_000):
                print(i, k)
        graph = gr.Graph(x=gr.map(loud, range(4)))
        """
    )
    with started("run", "flow.py", "--executor", executor, "-q") as process:
        assert process.stdout.readline().endswith("0 0\n")
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == ""


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_run_whose_output_nobody_reads_any_more_ends_though_nothing_is_printed(write, more):
    write(
        """
        import pathlib, time
        import graphray as gr
        @gr.task
        def long(i):
            pathlib.Path("began").touch()
            time.sleep(100)
        graph = gr.Graph(x=gr.map(long, range(2)))
        """
    )
    with started("run", "flow.py", "--executor", "loky:1", "-q", *more) as process:
        assert wait_for(pathlib.Path("began").exists, 30.0)
        at = time.monotonic()
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert time.monotonic() - at < 10.0
        assert process.stderr.read() == ""


def test_results_that_nobody_reads_are_no_drama_either(write):
    write("import graphray as gr\ngraph = gr.value(list(range(100_000)))\n")
    with started("run", "flow.py", "--executor", "inprocess", "--json", "-q") as process:
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == ""


def test_a_full_disk_is_said(write):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    write(HELLO)
    with open("/dev/full", "w") as full:
        done = outside("run", "flow.py", "--executor", "inprocess", "-q", stdout=full)
    assert done.status == 2
    assert done.err == "graphray run: cannot write to stdout: No space left on device\n"


def test_closed_streams_are_no_trap(write):
    """What is opened next must not become stdout."""
    write(HELLO + "    print('imported')\n")
    command = f"{sys.executable} -m graphray run flow.py --workers 1"
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f"{command} {closed}"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (closed, done.stderr)
        assert ("total    285" in done.stdout) == (">&-" not in re.sub(r"2>&-", "", closed))


# ---- drawing


@pytest.mark.parametrize(
    ("name", "start"),
    [("g.svg", "<svg"), ("g.html", "<!"), ("g.mmd", "flowchart"), ("g.md", "```"), ("g.dot", "digraph")],
)
def test_show_draws_to_a_file_by_its_suffix(here, write, name, start):
    assert here("show", write(HELLO), "-o", name) == (0, "", "")
    assert pathlib.Path(name).read_text("utf-8").lower().startswith(start)


def test_show_without_a_file_prints_mermaid_and_nothing_else(here, write):
    write(HELLO + "    print('imported')\n")
    done = here("show", "flow.py")
    assert done.out.startswith("flowchart")
    assert done.out.count("square<br/>") == 10
    assert done.err == "imported\n"
    assert here("show", "flow.py", "--max-nodes", "5").out.count("square<br/>") < 10


def test_show_takes_parameters_and_targets(here, write):
    write(
        """
        import graphray as gr
        def pipeline(n: int = 2):
            return gr.Graph(a=gr.map(abs, range(n)), b=gr.call(len, "x"))
        """
    )
    assert here("show", "flow.py", "--set", "n=4", "--target", "a").out.count("abs<br/>") == 4
    assert "len" not in here("show", "flow.py", "--target", "a").out


@pytest.mark.parametrize(
    ("output", "message"),
    [("g.png", "does not write .png"), ("g", "names no format"), ("nowhere/g.svg", "nowhere"), ("d.svg", "directory")],
)
def test_a_drawing_that_cannot_be_written_is_said(here, write, output, message):
    os.mkdir("d.svg") if write(HELLO) else None
    done = here("show", "flow.py", "-o", output)
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("graphray show: ")
    assert message in done.err
    assert done.err.count("\n") == 1


# ---- the program itself


def test_help_is_quick_and_complete():
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        done = outside("--help")
        times.append(time.perf_counter() - begin)
    assert min(times) <= 0.3
    assert done.status == 0
    assert done.err == ""
    assert {"run", "show", "examples:"} <= set(done.out.split())


def test_help_and_version_go_to_stdout(here):
    assert here("--version") == (0, f"graphray {gr.__version__}\n", "")
    for command in ("run", "show"):
        done = here(command, "--help")
        assert done.status == 0
        assert f"graphray {command} pipeline.py[:name]" in done.out
        assert done.err == ""


def test_texts_of_the_help_fit_eighty_columns(here, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in (["--help"], ["run", "--help"], ["show", "--help"]):
        assert max(map(len, here(*arguments).out.splitlines())) <= 80
