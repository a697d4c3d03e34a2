"""Edit one helper of a pipeline that takes a minute: the next run takes seconds, and says why it runs what it runs.

    python examples/edit_a_helper.py
    python examples/edit_a_helper.py --scale 0.1 --dir station

It works on a copy of `station.py`, three years of measurements in 145 tasks. In there, `celsius` takes 273 for 273.15.
None of the tasks is changed, and nobody says what depends on what: that the last two of five stages use the helper, and
which results it cannot have touched, is found out from the code.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from typing import Any

PIPELINE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "station.py")
BEFORE, AFTER = "return kelvin - 273\n", "return kelvin - 273.15\n"
STAGES = ("record", "clean", "fit", "describe", "compare")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="how much work; 1 is three years, the default")
    parser.add_argument(
        "--dir", help="where the copy and the cache are to be, and to stay; by default they are temporary"
    )
    args = parser.parse_args()
    if not args.scale > 0:
        parser.error(f"--scale is more than 0, not {args.scale:g}")
    side = args.scale**0.5  # as the work is months by days
    with tempfile.TemporaryDirectory(prefix="edit-a-helper-") as temporary:
        demonstrate(args.dir or temporary, max(2, round(36 * side)), max(2, round(30 * side)))


def demonstrate(directory: str, months: int, days: int) -> None:
    """Run the pipeline, edit a helper, ask what that means, and run it again."""
    directory = os.path.abspath(directory)
    os.makedirs(directory, exist_ok=True)
    copy = os.path.join(directory, "station.py")
    shutil.copyfile(PIPELINE, copy)
    sys.path.insert(0, directory)  # before the directory of this script, where the original is

    print(f"1. The pipeline as it is: {months} months of {days} days.\n")
    before, first = run(directory, months, days)

    print(f"\n2. The helper is edited: {BEFORE.strip()!r} becomes {AFTER.strip()!r}. What would run now?\n")
    edit(copy)
    command = f"run station.py --set months={months} --set days={days} --cache cache --dry-run"
    print(f"$ graphray {command}", flush=True)
    subprocess.run([sys.executable, "-m", "graphray", *command.split()], cwd=directory, check=True)

    print("\n3. The pipeline again.\n")
    after, second = run(directory, months, days)

    print("\n4. What came of it.\n")
    compare(before, after)
    print(f"{first:.1f} s before the edit, {second:.1f} s after it.")


def run(directory: str, months: int, days: int) -> tuple[dict[str, Any], float]:
    """Compute the pipeline as its file is now, on new worker processes; tell how long that took, and what ran."""
    sys.modules.pop("station", None)
    importlib.invalidate_caches()
    graph = importlib.import_module("station").pipeline(months, days)
    handle = graph.run(executor="loky", cache=os.path.join(directory, "cache"), progress=True)
    result = handle.result()

    summary = handle.summary()
    ran = Counter({name: task["calls"] for name, task in summary["tasks"].items()})
    kept = Counter(node.task.name for node in graph.nodes if node.task.name in STAGES) - ran
    print(f"   ran:         {counted(ran)}")
    print(f"   did not run: {counted(kept)}")
    print(f"   {summary['seconds']:.1f} s")
    return result, summary["seconds"]


def counted(calls: Counter[str]) -> str:
    return ", ".join(f"{calls[name]} × {name}" for name in STAGES if calls[name]) or "nothing"


def compare(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Complain unless the edit changed the temperatures and nothing else."""
    for old, new in zip(before["months"], after["months"], strict=True):
        same = [name for name in old if old[name] == new[name]]
        if abs(old["mean"] - new["mean"] - 0.15) > 1e-9 or not {"month", "diffusivity", "error"} <= set(same):
            sys.exit(f"month {old['month']} is not what it must be: {old} before the edit, {new} after it")
    old, new = before["comparison"], after["comparison"]
    print(f"   mean temperature   {old['mean']:8.3f} °C   → {new['mean']:8.3f} °C")
    print(f"   frost              {old['frost_hours']:8.1f} h    → {new['frost_hours']:8.1f} h")
    print(f"   diffusivity        {old['diffusivity']:.2e} m²/s, as before to the last bit")


def edit(path: str) -> None:
    """What a person does in an editor."""
    with open(path, encoding="utf-8") as file:
        source = file.read()
    assert source.count(BEFORE) == 1
    with open(path, "w", encoding="utf-8") as file:
        file.write(source.replace(BEFORE, AFTER))


if __name__ == "__main__":
    main()
