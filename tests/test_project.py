"""The project hangs together: packaging, pins, the direction of imports and what one costs, make's targets."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# Who may import whom when a module is loaded; inside functions, `Graph.run` may of course reach for an engine.
LAYERS = {
    "errors": set(),
    "graph": {"errors"},
    "executors": {"errors", "graph"},
    "testing": {"", "errors", "graph", "executors"},
    "rl": {"", "errors", "graph", "executors"},
    "interop": {"errors", "graph", "executors"},
    "cli": {"", "errors", "graph", "executors", "rl"},
}

# What `import graphray` and `graphray --help` must do without.
HEAVY = {
    "numpy",
    "jax",
    "flax",
    "optax",
    "gymnasium",
    "networkx",
    "loky",
    "cloudpickle",
    "asyncio",
    "rich",
    "dask",
    "joblib",
}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def python(code: str, *flags: str) -> str:
    done = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


# ---- packaging


def test_constraints_are_plain_sorted_pins():
    text = (ROOT / "constraints.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.+!]+", line) for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))


@pytest.mark.parametrize("group", ["", *PROJECT["optional-dependencies"]])
def test_every_requirement_is_pinned_within_its_bounds(group):
    requirements = PROJECT["optional-dependencies"][group] if group else PROJECT["dependencies"]
    for requirement in map(Requirement, requirements):
        pin = pins()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{requirement} is pinned at {pin}"


def test_the_version_is_the_same_everywhere():
    import graphray as gr

    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert gr.__version__ == PROJECT["version"]
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == PROJECT["version"]


def test_the_wheel_has_the_package_its_types_and_its_licence(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"graphray/__init__.py", "graphray/py.typed"} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"graphray", f"graphray-{PROJECT['version']}.dist-info"}


# ---- imports


def loaded_imports(module: Path) -> set[str]:
    """The parts of graphray that are imported when a module is loaded: not inside functions, not for type checking."""
    found = set()
    todo: list[ast.AST] = list(ast.parse(module.read_text("utf-8")).body)
    while todo:
        statement = todo.pop()
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            todo += statement.orelse
        elif isinstance(statement, ast.ImportFrom) and statement.module == "graphray":
            found |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            found.add(statement.module or "")
        elif isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(statement)
    graphrays = {name for name in found if name.split(".")[0] == "graphray"}
    return {(name + ".").split(".")[1] for name in graphrays} | (found & LAYERS.keys())


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_one_way(layer):
    path = ROOT / "graphray" / layer
    modules = list(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    assert modules
    for module in modules:
        upward = loaded_imports(module) - LAYERS[layer] - {layer}
        assert not upward, f"{module.relative_to(ROOT)} imports {', '.join(sorted(upward))}"


@pytest.mark.parametrize("module", ["graphray", "graphray.executors", "graphray.interop", "graphray.cli"])
def test_an_import_pulls_in_nothing_heavy(module):
    loaded = python(f"import sys, {module}; print(*sys.modules)").split()
    assert HEAVY.isdisjoint(loaded), HEAVY.intersection(loaded)


def test_the_import_is_quick():
    # Seconds of processor time, the best of several: the machine may be busy with other things.
    code = "from time import process_time as now; t = now(); import graphray; print(now() - t)"
    assert min(float(python(code)) for _ in range(7)) <= 0.06


def test_every_exported_name_is_there_and_listed_by_dir():
    import graphray as gr

    assert len(set(gr.__all__)) == len(gr.__all__)
    assert [name for name in gr.__all__ if not hasattr(gr, name)] == []
    assert set(gr.__all__) <= set(dir(gr))


# ---- commands


def make(*arguments: str) -> str:
    # Not as a part of the `make` that may be running these tests.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=True).stdout


def test_make_help_lists_every_target():
    targets = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[0].split()
    listed = [line.split()[1] for line in make("help").splitlines() if line.startswith("  make ")]
    assert sorted(listed) == sorted(targets)


def test_make_demo_runs_the_main_job():
    assert "graphray run examples/ppo_cartpole.py" in make("--dry-run", "demo")
    assert (ROOT / "examples" / "ppo_cartpole.py").exists()


def test_make_test_ends_with_pytest():
    commands = [line for line in make("--dry-run", "test").splitlines() if line]
    assert "ruff check" in "\n".join(commands)
    assert "mypy" in "\n".join(commands)
    assert 'pytest -m "not slow"' in commands[-1]


def test_ci_runs_what_the_readme_says():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True, timeout=10)
    assert "make test" in script.read_text("utf-8")
    assert "make test" in (ROOT / "README.md").read_text("utf-8")
