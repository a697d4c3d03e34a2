"""graphray beside dask, dask.distributed, Ray, loky and joblib: the same work, in one run.

    python benchmarks/core.py                        all rows but the slow ones; about half an hour
    python benchmarks/core.py --quick                small sizes: whether everything works
    python benchmarks/core.py --only chain2k tree16k --peers ray loky
    python benchmarks/core.py --ppo --json results.json --page docs/benchmarks.md

Each system has its turn at a row in a process of its own, and the rounds of turns are interleaved. A figure counts
building the work and computing it; the best and the median of all repetitions are reported.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the workers that import these modules by name

import _environment
import _harness
import _report
from _measures import Sample
from _rows import ROWS, Row
from systems import SYSTEMS, System

RELEVANT = {"cloudpickle", "jax", "loky", "numpy"}
"""Packages that graphray stands on and whose versions matter to its figures."""


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    if args.row:
        _harness.take_turn(ROWS[args.row], SYSTEMS[args.system], args.quick)
        return 0
    systems, skipped = chosen(args.peers)
    environment = _environment.describe(sorted({*RELEVANT, *(system.package for system in systems)}))
    rounds = 1 if args.quick else args.rounds
    environment |= {"rounds": rounds, "repeats": _harness.REPEATS}
    results: dict[str, dict[str, list[Sample]]] = {}
    for row in chosen_rows(args.only, args.ppo):
        results[row.name], failures = measured(row, systems, rounds, args.quick)
        skipped |= failures
        environment["revision_at_end"] = _environment.revision()  # the code may have been edited meanwhile
        report = _report.report(environment, results, skipped, args.quick)
        print("\n".join(_report.lines_of_row(report["rows"][-1])), flush=True)
        if args.json:  # after each row: a run that is broken off has not been for nothing
            args.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print("\n".join(_report.lines_of_end(report)))
    if args.page:
        args.page.write_text(_report.insert(args.page.read_text("utf-8"), _report.markdown(report)), "utf-8")
    return 1 if any("graphray" in who for who in skipped) else 0


def measured(
    row: Row, systems: Sequence[System], rounds: int, quick: bool
) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """Samples by system, and why those have none that failed.

    Systems take turns, so that a slow minute of the machine falls on all of them.
    """
    samples: dict[str, list[Sample]] = {}
    failures: dict[str, str] = {}
    for _ in range(min(rounds, row.rounds)):
        for system in systems:
            who = f"{system.label} at {row.name}"
            if system.name not in row.systems or who in failures:
                continue
            try:
                turn = _harness.turn(row, system, quick)
            except _harness.TurnFailed as error:
                print(f"{who} failed:\n{error}", file=sys.stderr)
                failures[who] = str(error).partition("\n")[0]
                samples.pop(system.name, None)
            else:
                samples.setdefault(system.name, []).extend(turn)
    return samples, failures


def chosen(peers: Sequence[str] | None) -> tuple[list[System], dict[str, str]]:
    """The systems that take part, and why others do not."""
    taking_part, skipped = [], {}
    for system in SYSTEMS.values():
        if peers is not None and system.package not in {"graphray", "sys", *peers}:
            skipped[system.label] = "not asked for"
        elif not system.installed():
            skipped[system.label] = f"{system.package} is not installed"
        else:
            taking_part.append(system)
    return taking_part, skipped


def chosen_rows(only: Sequence[str], ppo: bool) -> list[Row]:
    if only:
        return [ROWS[name] for name in ROWS if name in only]
    return [row for row in ROWS.values() if ppo or not row.slow]


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    description, _, examples = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    peers = sorted({system.package for system in SYSTEMS.values()} - {"graphray", "sys"})
    parser.add_argument("--quick", action="store_true", help="small sizes, one round; goals are not judged")
    parser.add_argument("--only", nargs="+", default=[], choices=ROWS, metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--ppo", action="store_true", help="the slow rows too: PPO, about five minutes")
    parser.add_argument(
        "--peers", nargs="*", choices=peers, metavar="PACKAGE", help=f"of {', '.join(peers)}; all by default"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each system at a row (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put tables into this page, docs/benchmarks.md")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)  # these two: one turn, for the harness
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.error("--rounds is 1 or more")
    if args.page and (not args.page.exists() or _report.BEGIN not in args.page.read_text("utf-8")):
        parser.error(f"--page: {args.page} has no {_report.BEGIN}")  # now, and not in a quarter of an hour
    if (args.row is None) != (args.system is None):
        parser.error("--row and --system go together")
    return args


if __name__ == "__main__":  # worker processes import this module too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no turn is left running
    sys.exit(main())
