"""`graphray run`: compute a graph."""

from __future__ import annotations

import argparse
import os
import sys

from graphray.cli.arguments import add_command, add_pipeline, integer, pipeline_of, print_help, whole_number
from graphray.cli.errors import OK, TaskFailed, UsageError
from graphray.cli.plain import to_json
from graphray.cli.pretty import pretty, pretty_one
from graphray.cli.progress import progress
from graphray.cli.streams import colour, columns, put, say, stdout_is_broken, stdout_kept, stdout_watched
from graphray.cli.tracebacks import of_task
from graphray.errors import Cancelled, HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray.executors.base import Executor
    from graphray.executors.explain import Explanation
    from graphray.executors.run import Run
    from graphray.graph.dataflow import Graph

FAILURES = 3  # tracebacks that are shown, where tasks that fail do not end the run

DESCRIPTION = """\
Compute the outputs of a pipeline, by default on a pool of processes with a
worker per core.

A pipeline is a Python file that defines `graph`, a Graph or a Node, or a
function `pipeline(...)` that returns one and whose parameters can be set.
Progress goes to stderr, results go to stdout."""

EXAMPLES = """\
  graphray run pipeline.py
  graphray run pipeline.py --help               the parameters of pipeline.py
  graphray run pipeline.py --set lr=0.01 --set layers=64,64
  graphray run pipeline.py --target score --json | jq .results.score
  graphray run pipeline.py --cache .graphray    keep results, take those kept
  graphray run pipeline.py --cache .graphray --dry-run      what would run, why
  graphray run pipeline.py --executor inprocess here: breakpoint() works
  graphray run pipeline.py --profile            where the time went
  graphray run pipeline.py --trace run.json     the same, for ui.perfetto.dev

exit status:
  0 all went well; 1 a task failed, its traceback is on stderr; 2 the command
  cannot be carried out, one message on stderr says why; 130 interrupted"""


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
    parser = add_command(commands, "run", "compute a graph", description=DESCRIPTION, examples=EXAMPLES)
    add_pipeline(parser)
    parser.add_argument(
        "--executor",
        metavar="NAME",
        help="inprocess, inprocess:THREADS, loky, loky:WORKERS, ssh://HOST,HOST, dask://SCHEDULER:PORT; "
        "default: $GRAPHRAY_EXECUTOR, else loky",
    )
    parser.add_argument("--workers", type=whole_number, metavar="N", help="number of workers; default: one per core")
    parser.add_argument(
        "--seed",
        type=integer,
        metavar="N",
        help="what all randomness derives from, default 0; also given to a parameter called seed",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="keep results in this directory, and take from there what has been computed before",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would run, why, and how long it takes; compute nothing"
    )
    parser.add_argument(
        "--memory", metavar="SIZE", help="results above this go to disk: 4GB, 25%%; default: half of the machine's"
    )
    parser.add_argument(
        "--on-error",
        choices=("raise", "collect"),
        default="raise",
        help="raise: end at the first task that fails; collect: compute what does not need it; default: raise",
    )
    parser.add_argument(
        "--capsule", metavar="DIR", help="put calls that fail into files there, with their inputs, for graphray replay"
    )
    parser.add_argument(
        "--audit", action="store_true", help="make some calls twice, and fail where a task is not deterministic"
    )
    parser.add_argument("--profile", action="store_true", help="at the end, say on stderr where the time went")
    parser.add_argument("--trace", metavar="FILE", help="write what ran when, for https://ui.perfetto.dev")
    parser.add_argument("--log", metavar="FILE", help="append every event to a file, a line of JSON each")
    parser.add_argument("--json", action="store_true", help="print one JSON document; what tasks print goes to stderr")
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, help="show how far it is, on stderr; default: yes"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="the results only: short for --no-progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Carry it out; the exit status."""
    if args.help:
        return print_help(args)
    with stdout_kept(args.json):
        text, failed = _outcome(args)
    put(text)
    if failed:
        raise TaskFailed(failed)
    return OK


def _outcome(args: argparse.Namespace) -> tuple[str, str]:
    """What goes to stdout: the results, or with `--dry-run` what would be computed; and what to say of failed tasks."""
    from graphray.cli.parameters import assignments

    given = assignments(args.set)
    seed = args.seed or 0
    with _engine(args) as engine:  # first, since a wrong name should not wait for what the pipeline imports
        graph, parameters = pipeline_of(args).build(given, args.target, args.seed)
        explanation = _explained(graph, seed, args) if args.dry_run else None
        if explanation is None:
            found, failed = _computed(graph, engine, seed, args)
        else:
            found, failed = _described(graph, explanation), ""
        document = {
            **found,
            "pipeline": args.pipeline,
            "parameters": parameters,
            "executor": engine.name,
            "workers": engine.workers,
            "seed": seed,
        }
    if args.json:
        return to_json(document), failed
    if explanation is not None:
        lines = _plan(document, explanation)
    elif None in graph.outputs:
        lines = pretty_one(document["results"], columns())
    else:
        lines = pretty(document["results"], columns(), colour(sys.stdout))
    return "\n".join(lines), failed


def _engine(args: argparse.Namespace) -> Executor:
    from graphray.executors.start import make

    name = args.executor or os.environ.get("GRAPHRAY_EXECUTOR") or "loky"
    try:
        return make(name, args.workers)
    except (ValueError, ImportError) as error:
        raise UsageError(str(error)) from None


def _computed(graph: Graph, engine: Executor, seed: int, args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """What is to be told of a run; and of the tasks that failed in it, where that did not end it."""
    handle = None
    try:
        with progress(_is_shown(args), processes=engine.name != "inprocess") as display, engine:
            handle = _begun(graph, engine, seed, args, display)
            try:
                with stdout_watched(handle.cancel):
                    results = handle.result()
            except Exception as error:
                if isinstance(error, HostError):
                    raise UsageError(str(error)) from error
                if isinstance(error, (BrokenPipeError, Cancelled)) and stdout_is_broken():
                    raise BrokenPipeError from error  # a task printed, or what comes of it would be printed, for nobody
                raise TaskFailed(of_task(error)) from error
        summary = handle.summary()
    finally:
        if args.profile and handle is not None and handle.done():
            from graphray.executors.summary import render

            say(render(handle.summary()))
    found = {"results": results, "seconds": round(summary["seconds"], 6), "nodes": summary["nodes"]}
    if args.profile:
        found["profile"] = summary
    return found, _failures(handle)


def _is_shown(args: argparse.Namespace) -> bool:
    return bool(args.progress if args.progress is not None else not args.quiet)


def _begun(graph: Graph, engine: Executor, seed: int, args: argparse.Namespace, display: Any) -> Run:
    try:
        listeners = [] if display is None else [display]
        if args.log is not None:
            from graphray.executors.log import JsonLines

            listeners.append(JsonLines(args.log))
        return engine.run(
            graph, seed=seed, progress=listeners, cache=args.cache, memory=args.memory, trace=args.trace,
            capsule=args.capsule, audit=args.audit, on_error=args.on_error,
        )  # fmt: skip
    except OSError as error:
        place = f": {error.filename}" if error.filename is not None else ""
        raise UsageError(f"{error.strerror or error}{place}") from error
    # Something that this engine cannot do, what it needs is not installed, or a machine cannot be joined.
    except (TypeError, ValueError, NotImplementedError, ImportError, HostError) as error:
        raise UsageError(str(error)) from error


def _failures(run: Run) -> str:
    """Tracebacks of collected failures: of the first ones, and how many more there are."""
    from graphray.executors.events import NodeFailed

    failed = [event.error for event in run.events if isinstance(event, NodeFailed)]
    texts = [of_task(error).rstrip() for error in failed[:FAILURES]]
    if len(failed) > FAILURES:
        texts.append(f"and {len(failed) - FAILURES:,} more failed")
    return "\n\n".join(texts)


def _explained(graph: Graph, seed: int, args: argparse.Namespace) -> Explanation:
    try:
        return graph.explain(args.cache, seed=seed)
    except (TypeError, ValueError, OSError) as error:  # an input without value, a directory that is no cache
        raise UsageError(str(error)) from error


def _described(graph: Graph, explanation: Explanation) -> dict[str, Any]:
    from collections import Counter

    tasks = Counter(node.task.name for node in graph.nodes)
    return {
        "dry_run": True,
        "nodes": len(graph),
        "tasks": dict(tasks.most_common()),
        "outputs": [name for name in graph.outputs if name is not None],
        "explanation": explanation.to_dict(),
    }


def _plan(document: dict[str, Any], explanation: Explanation) -> list[str]:
    """What `--dry-run` says, for people."""
    import textwrap

    from graphray.cli.parameters import shown
    from graphray.executors.explained import duration

    nodes, workers, width = document["nodes"], document["workers"], columns()
    lines = [f"{document['pipeline']}: {nodes:,} node{'s' if nodes != 1 else ''}, nothing was computed"]
    lines += [*str(explanation).splitlines(), "", "Tasks that return nodes add to these when they run.", ""]
    facts = {"outputs": ", ".join(document["outputs"]) or "one, without a name"}
    if document["parameters"]:
        facts["parameters"] = ", ".join(f"{name} = {shown(x)}" for name, x in document["parameters"].items())
    facts["executor"] = f"{document['executor']}, {workers} worker{'s' if workers != 1 else ''}"
    if explanation.seconds:
        facts["time"] = f"{duration(explanation.seconds_on(workers))} with these workers, at best"
    if explanation.cache is not None:
        facts["cache"] = explanation.cache
    facts["seed"] = str(document["seed"])
    for name, text in facts.items():
        lines += textwrap.wrap(f"{name:<10}  {text}", width, subsequent_indent=" " * 12) or [name]
    return lines
