"""`graphray cache`: look at what is kept, and remove some of it."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys

from graphray.cli.actions import add_action, add_command_with_actions
from graphray.cli.errors import FAILED, OK, UsageError
from graphray.cli.streams import colour, columns, put, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from graphray.executors.cache import Cache, Entry

DESCRIPTION = """\
Look at the results that runs have kept, and remove some of them.

A cache is a directory. Removing from it is safe at any time, also while runs
use it: what is gone is computed again."""

EXAMPLES = """\
examples:
  graphray cache ls                         what is kept, last used first
  graphray cache ls --cache .graphray --sort size
  graphray cache show 4f2a9c                one result, by the start of its key
  graphray cache rm --task clean            all results of a task
  graphray cache prune --size 5GB --older-than 30d
  graphray cache verify                     compare all with their checksums

exit status:
  0 all went well; 1 verify has found something damaged; 2 the command cannot
  be carried out, one message on stderr says why; 130 interrupted"""

VALUE = """\
A result is a pickle: to show its value runs code out of the cache. Do that
with a cache that only you, or those you trust, have written to."""

SORTS = ("used", "made", "size", "time", "task")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
    actions = add_command_with_actions(
        commands, "cache", "look at kept results, and remove some", description=DESCRIPTION, epilog=EXAMPLES
    )

    ls = _add(actions, "ls", _ls, "list what is kept")
    ls.add_argument("--task", metavar="NAME", help="of this task only: its name, with or without the module")
    ls.add_argument(
        "--sort", choices=SORTS, default="used", help="what comes first: the most, last or slowest; task: a-z"
    )
    ls.add_argument("--json", action="store_true", help="print one JSON document")

    show = _add(actions, "show", _show, "tell about one result", description=VALUE)
    show.add_argument("key", metavar="KEY", help="its key, or the start of it")
    show.add_argument("--value", action="store_true", help="load and show the value; this runs code out of the cache")
    show.add_argument("--json", action="store_true", help="print one JSON document")

    rm = _add(actions, "rm", _rm, "remove results")
    rm.add_argument("keys", metavar="KEY", nargs="*", help="keys, or the starts of them")
    rm.add_argument("--task", metavar="NAME", help="all results of this task")
    rm.add_argument("--all", action="store_true", help="all results; what is known of past runs stays")
    rm.add_argument(
        "--yes", "-y", action="store_true", help="do not ask; needed with --task and --all where there is no terminal"
    )

    prune = _add(actions, "prune", _prune, "remove what was used longest ago")
    prune.add_argument("--size", metavar="SIZE", help="until so much is left, such as 5GB; default: the cache's limit")
    prune.add_argument("--older-than", metavar="AGE", help="and all not used for so long, such as 30d, 12h, 2w")

    _add(actions, "verify", _verify, "compare all results with their checksums; remove the damaged ones")
    _add(actions, "path", _path, "print the directory")


def _add(actions: Any, name: str, run: Any, summary: str, description: str = "") -> argparse.ArgumentParser:
    parser = add_action(actions, name, run, summary, description)
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="the cache; default: $GRAPHRAY_CACHE, else $XDG_CACHE_HOME/graphray, else ~/.cache/graphray",
    )
    return parser


# ---- what is asked for


def _directory(args: argparse.Namespace) -> str:
    from graphray.executors.cache import default_directory

    return os.path.abspath(args.cache or default_directory())


def _opened(args: argparse.Namespace) -> Cache | None:
    """The cache; None where there is none, and nothing else either. Looking does not make one.

    Raises:
        UsageError: the directory is something else, or others can write to it.
    """
    from graphray.executors.cache import Cache

    directory = _directory(args)
    try:
        if not os.listdir(directory):
            return None
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        pass  # the cache itself says it better
    try:
        return Cache(directory)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _existing(args: argparse.Namespace) -> Cache:
    cache = _opened(args)
    if cache is None:
        raise UsageError(f"there is no cache in {_directory(args)}; another one is named with --cache")
    return cache


def _key(cache: Cache, start: str) -> bytes:
    """The key that begins like this.

    Raises:
        UsageError: there is none, or there are several.
    """
    wanted = start.strip().lower()
    if not re.fullmatch("[0-9a-f]{1,40}", wanted):
        raise UsageError(f"{start!r} is no key: these are 40 digits 0-9, a-f, of which the first will do")
    found = list(cache.keys(wanted))
    if not found:
        raise UsageError(f"no key begins with {wanted} (see graphray cache ls)")
    if len(found) > 1:
        several = ", ".join(sorted(key.hex()[: len(wanted) + 4] for key in found[:5]))
        raise UsageError(f"{len(found)} keys begin with {wanted}: {several}{', …' if len(found) > 5 else ''}")
    return found[0]


def _entry(cache: Cache, key: bytes) -> Entry:
    entry = next((entry for entry in cache.entries([key])), None)
    if entry is None:
        raise UsageError(f"{key.hex()} is damaged; graphray cache verify removes what is")
    return entry


def _of_task(entries: Iterator[Entry], name: str | None) -> list[Entry]:
    if name is None:
        return list(entries)
    return [e for e in entries if (task := str(e.info.get("task"))) == name or task.endswith(f".{name}")]


def _age(text: str) -> float:
    match = _AGE.fullmatch(text.strip().lower())
    if not match:
        raise UsageError(f"--older-than {text}: a time is a number with s, m, h, d or w, such as 30d")
    return float(match[1]) * _UNITS[match[2]]


def _size(text: str) -> int:
    from graphray.executors.memory import parse_size

    if text.strip() == "0":
        return 0
    try:
        return parse_size(int(text) if text.isdecimal() else text, "size")
    except ValueError:
        raise UsageError(f"--size {text}: a size is a number of bytes, or such as 5GB or 512MiB") from None


# ---- the actions


def _ls(args: argparse.Namespace) -> int:
    from graphray.cli.cached import document, in_order, table, total
    from graphray.cli.plain import to_json

    cache = _opened(args)
    entries = in_order(_of_task(cache.entries(), args.task), args.sort) if cache is not None else []
    if args.json:
        size = cache.size() if cache is not None else 0
        found = {"cache": _directory(args), "bytes": size, "limit": cache.limit if cache is not None else None}
        put(to_json(found | {"entries": [document(entry) for entry in entries]}))
        return OK
    if cache is None:
        say(f"there is no cache in {_directory(args)} yet")
        return OK
    for line in table(entries, columns(), colour(sys.stdout)):
        put(line)
    if entries:
        put("")
    what = f" of {args.task}" if args.task else ""
    held = sum({e.stamp[0]: e.size for e in entries}.values()) if args.task else cache.size()
    put(total(len(entries), held, what, "" if args.task else cache.directory, 0 if args.task else cache.limit))
    return OK


def _show(args: argparse.Namespace) -> int:
    from graphray.cli.cached import document, facts
    from graphray.cli.plain import to_json
    from graphray.cli.pretty import pretty, pretty_one
    from graphray.cli.streams import stdout_kept

    cache = _existing(args)
    entry = _entry(cache, _key(cache, args.key))
    value = None
    if args.value:
        with stdout_kept(True):  # what is imported for it may print
            value = _value(entry)
    if args.json:
        put(to_json(document(entry) | ({"value": value} if args.value else {})))
        return OK
    for line in pretty(facts(entry), columns(), colour(sys.stdout)):
        put(line)
    if args.value:
        put("")
        for line in pretty_one(value, columns()):
            put(line)
    return OK


def _value(entry: Entry) -> Any:
    from graphray.executors.cache.entry import Damaged

    try:
        entry.check()
    except Damaged as problem:
        raise UsageError(f"{entry.path} is damaged ({problem}); graphray cache verify removes it") from None
    # As `graphray run` in this directory would: the classes of a value may be in a file of the user's.
    sys.path.append(os.getcwd())
    try:
        return entry.load()
    except Exception as error:
        hint = "; PYTHONPATH says where else modules are" if isinstance(error, ImportError) else ""
        raise UsageError(f"the value cannot be loaded here: {type(error).__name__}: {error}{hint}") from error
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(os.getcwd())


def _rm(args: argparse.Namespace) -> int:
    from graphray.cli.cached import amount

    if bool(args.keys) + bool(args.task) + args.all != 1:
        raise UsageError("what is to be removed? KEY…, --task NAME or --all, one of them (see graphray cache ls)")
    cache = _existing(args)
    before = cache.size()
    if args.all:
        keys = list(cache.keys())
    elif args.task:
        keys = [entry.key for entry in _of_task(cache.entries(), args.task)]
        if not keys:
            raise UsageError(f"there is no result of a task {args.task!r} (see graphray cache ls)")
    else:
        keys = list(dict.fromkeys([_key(cache, start) for start in args.keys]))
    if keys and not (args.keys or args.yes or _agreed(f"Remove {amount(len(keys))} from {cache.directory}?")):
        say("nothing was removed")
        return FAILED
    gone = sum([cache.remove(key) for key in keys])
    put(f"removed {amount(gone, max(0, before - cache.size()))}")
    return OK


def _agreed(question: str) -> bool:
    """Whether the user says yes.

    Raises:
        UsageError: nobody can be asked: a script says so beforehand.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{question} Without a terminal nobody can be asked: say --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        say("")
    return answer.strip().lower() in ("y", "yes")


def _prune(args: argparse.Namespace) -> int:
    from graphray.cli.cached import amount, total

    limit = _size(args.size) if args.size is not None else None
    age = _age(args.older_than) if args.older_than is not None else None
    cache = _opened(args)
    if cache is None:
        say(f"there is no cache in {_directory(args)} yet")
        return OK
    count, size = cache.prune(limit, age)
    put(f"removed {amount(count, size)}")
    put("left: " + total(len(list(cache.keys())), cache.size(), "", cache.directory, cache.limit))
    return OK


def _verify(args: argparse.Namespace) -> int:
    from graphray.cli.cached import amount

    cache = _opened(args)
    if cache is None:
        say(f"there is no cache in {_directory(args)} yet")
        return OK
    whole, damaged = cache.verify()
    for key, problem in damaged:
        put(f"removed {key.hex()}: {problem}")
    verb = "is" if whole == 1 else "are"
    put(f"{amount(whole)} {verb} whole" + (f", {len(damaged):,} damaged" if damaged else ""))
    return FAILED if damaged else OK


def _path(args: argparse.Namespace) -> int:
    put(_directory(args))
    return OK
