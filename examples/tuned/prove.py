"""Prove the tuned examples: each has to reach its stopping reward within its budget of steps.

    python examples/tuned/prove.py                       all of them, with one seed
    python examples/tuned/prove.py cartpole --seeds 5    those of that name; half of the seeds have to reach it

Runs share a pool of processes; results go to `~/graphray_results`, where `--resume` finds those that are done.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from graphray.rl import experiment, fleet, runs
from graphray.rl.results import flat

HERE = Path(__file__).parent
BUDGET = "timesteps_total"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of names of files; default: all")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each")
    parser.add_argument("--workers", type=int, help="processes; default: one per core")
    parser.add_argument("--dir", help="where results go", default=runs.default_root())
    parser.add_argument("--resume", action="store_true", help="go on with the latest runs")
    args = parser.parse_args()

    files = [path for path in sorted(HERE.glob("*.yaml")) if any(name in path.stem for name in args.names or [""])]
    if not files:
        parser.error(f"there is no file with {' or '.join(args.names)} in its name")
    trials = []
    for path in files:
        document = {name: {**entry, "num_samples": args.seeds} for name, entry in experiment.read(str(path)).items()}
        trials += experiment.from_mapping(document, str(path), [str(HERE)])
    found = [runs.find(trial, args.dir) if args.resume else None for trial in trials]
    directories = [path or runs.prepare(trial, args.dir) for trial, path in zip(trials, found, strict=True)]

    def report(number: int, said: Any) -> None:
        if isinstance(said, runs.Outcome):
            name = " ".join(filter(None, [trials[number].experiment, runs.tag(trials[number].varied)]))
            print(f"{name}: {said.status}{said.error and f'; {said.error}'}", file=sys.stderr)

    halt = runs.Halt(f"{directories[0]}/.halt")
    outcomes = fleet.train_all(trials, directories, executor="loky", workers=args.workers, halt=halt, report=report)
    return told(trials, outcomes)


def told(trials: list[experiment.Trial], outcomes: list[runs.Outcome]) -> int:
    """Print what became of each experiment; 1 if one has not reached its reward."""
    print(f"{'experiment':<30} {'wanted':>8} {'reached':>8}  {'by':>5}  {'steps':>9} {'of':>9}  {'seconds':>7}")
    missed = 0
    for name in dict.fromkeys(trial.experiment for trial in trials):
        pairs = [(t, o) for t, o in zip(trials, outcomes, strict=True) if t.experiment == name]
        stop = pairs[0][0].stop
        criterion, wanted = next((key, value) for key, value in stop.items() if key != BUDGET)
        rows = [flat(outcome.last) for _, outcome in pairs]
        values = [row.get(criterion) if row.get(criterion) is not None else float("-inf") for row in rows]
        reached = sum(
            outcome.status == "done" and value >= wanted for (_, outcome), value in zip(pairs, values, strict=True)
        )
        steps = statistics.median(row.get(BUDGET, 0) for row in rows)
        seconds = statistics.median(row.get("time_total_s", 0.0) for row in rows)
        print(
            f"{name:<30} {wanted:>8g} {statistics.median(values):>8.4g}  {reached}/{len(pairs):<3}  "
            f"{steps:>9,.0f} {stop[BUDGET]:>9,.0f}  {seconds:>7.0f}"
        )
        missed += 2 * reached < len(pairs)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
