"""`graphray replay`: make a call again that has failed, from its capsule."""

from __future__ import annotations

import argparse
import os
import sys

from graphray.cli.errors import OK, TaskFailed, UsageError
from graphray.cli.streams import colour, columns, flush_stdout, put, say, stdout_is_broken
from graphray.cli.tracebacks import of_task
from graphray.executors.failures import users_traceback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray.executors.capsule import Capsule

DESCRIPTION = """\
Make a call again that has failed, in this process, from the capsule that a
run with --capsule DIR has written: the failing task and its arguments.

This runs code from the file. Replay only what you, or somebody you trust,
have written; --info shows what a capsule says of itself and runs nothing."""

EXAMPLES = """\
examples:
  graphray run pipeline.py --capsule failures
  graphray replay failures/clean-1f0c4a2b.capsule
  graphray replay failures/clean-1f0c4a2b.capsule --pdb    look around there
  graphray replay failures/clean-1f0c4a2b.capsule --info

exit status:
  0 the call did not fail; 1 it failed again, its traceback is on stderr; 2 the
  command cannot be carried out, one message on stderr says why; 130 interrupted"""

# What is told of a capsule, and under which name it says so itself.
_FACTS = {
    "call": "node",
    "failed with": "error",
    "on": "worker",
    "at": "time",
    "attempt": "attempt",
    "root seed": "root_seed",
    "directory": "directory",
    "python": "python",
    "graphray": "graphray",
}


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
    parser = commands.add_parser(
        "replay",
        usage="graphray replay FILE [options]",
        help="make a failed call again, from its capsule",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", help="a capsule; opening it runs code from it")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--pdb", action="store_true", help="where it fails again, open the debugger in the failing frame")
    how.add_argument("--info", action="store_true", help="show what the capsule says of itself; runs no code")
    parser.set_defaults(parser=parser, run=run)


def run(args: argparse.Namespace) -> int:
    """Carry it out; the exit status."""
    from graphray.cli.pretty import pretty

    capsule = _opened(args.file)
    for line in pretty(_facts(capsule.head), columns(), colour(sys.stdout)):
        put(line)
    if args.info:
        return OK
    put("")
    flush_stdout()
    say(f"running code from {args.file} …")
    if _failed_with(capsule, "WorkerDied"):
        say("this call has ended its worker's process: it may well end this one")
    call = _loaded(capsule)
    try:
        value = capsule.call(*call)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and stdout_is_broken():
            raise  # the task printed, and nobody reads it any more
        _show(error, args)
    except SystemExit as end:
        # In a run that is a failure of the task, and does not end the program.
        made = RuntimeError(f"the task called sys.exit({end.code!r})")
        made.__cause__ = end
        _show(made.with_traceback(end.__traceback__), args)
    _tell_of(value, capsule)
    return OK


def _opened(path: str) -> Capsule:
    from graphray.executors.capsule import Capsule

    try:
        return Capsule(path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error


def _facts(head: dict[str, Any]) -> dict[str, str]:
    """What a capsule says of itself, for people: texts, of which `pretty` cuts long ones."""
    facts = {name: _text(head[key]) for name, key in _FACTS.items() if head.get(key) not in (None, "")}
    if head.get("attempt") == 1:
        facts.pop("attempt", None)
    notes = head.get("notes")
    prefix = "graphray: "
    texts = [_text(note).removeprefix(prefix) for note in notes] if type(notes) is list else []
    if texts:
        facts["notes"] = "\n".join(texts)
    if not facts:
        facts["capsule"] = "it says nothing of itself"
    return facts


def _text(x: Any) -> str:
    return x if type(x) is str else str(x)


def _loaded(capsule: Capsule) -> tuple[Any, tuple[Any, ...], dict[str, Any], int | None]:
    """The call that a capsule holds.

    Raises:
        UsageError: it cannot be unpickled here.
    """
    # As `graphray run` in this directory would: a task may be in a file of the user's.
    sys.path.append(os.getcwd())
    try:
        return capsule.load()
    except Exception as error:
        hint = ""
        if isinstance(error, ImportError):
            hint = "; PYTHONPATH says where else modules are"
        elif capsule.head.get("python") != sys.version.split()[0]:
            hint = f"; it was written by Python {capsule.head.get('python')}, and this is {sys.version.split()[0]}"
        raise UsageError(f"the call cannot be loaded here: {type(error).__name__}: {error}{hint}") from error


def _show(error: BaseException, args: argparse.Namespace) -> None:
    """Tell of a call that has failed again.

    Raises:
        TaskFailed: always, once the debugger is left.
    """
    text = of_task(error)
    if not args.pdb:
        raise TaskFailed(text) from error
    say(text)
    here = error.__traceback__
    trace = users_traceback(here.tb_next) if here is not None else None
    if trace is not None:
        import pdb

        pdb.post_mortem(trace)
    raise TaskFailed("graphray replay: the call has failed again") from error


def _tell_of(value: Any, capsule: Capsule) -> None:
    from graphray.cli.pretty import pretty_one

    put("The call did not fail this time. It gave")
    for line in pretty_one(value, columns() - 2):
        put(f"  {line}".rstrip())
    if _failed_with(capsule, "TaskTimeout"):
        put("Its timeout was not looked at: here a call takes as long as it takes.")


def _failed_with(capsule: Capsule, kind: str) -> bool:
    """Whether the error that a capsule tells of is one of graphray's own, of this name."""
    name, _, _ = str(capsule.head.get("error", "")).partition(":")
    return name.startswith("graphray.") and name.endswith(f".{kind}")
