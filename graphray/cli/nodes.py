"""`graphray nodes`: whether machines will do for joining over SSH, and an environment for those that do not."""

from __future__ import annotations

import argparse
import sys
import threading

from graphray.cli.actions import add_action, add_command_with_actions
from graphray.cli.errors import FAILED, OK
from graphray.cli.streams import colour, columns, put, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from graphray.executors.ssh import Host

DESCRIPTION = """\
Look at machines that are to be joined over SSH, and have them do.

Your own ssh is used, with its configuration, keys and known hosts, and never
asks anything. HOSTS are alice@a:2222 b?python=/opt/py, a file @hosts.txt or
hosts.yaml, or the name of a cluster in ~/.config/graphray/cluster.yaml."""

EXAMPLES = """\
examples:
  graphray nodes check alice@a b           what is there, and what is missing
  graphray nodes check @hosts.txt --json   the same for programs
  graphray nodes setup alice@a b           an environment like this one
  graphray nodes setup lab --wheels dir    without a package index there

exit status:
  0 all can be used; 1 one cannot; 2 the command cannot be carried out;
  130 interrupted, and nothing goes on there"""

SETUP = """\
Makes a virtual environment with a Python of this version, the packages that
graphray needs in the versions that they have here, and the graphray that is
running. What is there already is left as it is; interrupted, nothing looks
finished. pip's configuration on each host applies."""


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
    actions = add_command_with_actions(
        commands,
        "nodes",
        "look at machines to join over SSH, and set them up",
        description=DESCRIPTION,
        epilog=EXAMPLES,
    )

    check = _add(actions, "check", _check, "say what hosts are like, and whether they can be used", timeout=30)
    setup = _add(actions, "setup", _setup, "make an environment like this one on hosts", SETUP, timeout=1800)
    check.add_argument("--json", action="store_true", help="print one JSON document")
    setup.add_argument("--json", action="store_true", help="print one JSON document")
    setup.add_argument("--dir", metavar="DIR", help="where on the hosts; default: ~/.local/share/graphray/environments")
    setup.add_argument("--wheels", metavar="DIR", help="send the wheels in this folder, and use no package index")
    setup.add_argument(
        "--with",
        action="append",
        default=[],
        dest="also",
        metavar="PACKAGE",
        help="another package of this environment, with what it needs; may be repeated",
    )


def _add(actions: Any, name: str, run: Any, summary: str, more: str = "", *, timeout: float) -> argparse.ArgumentParser:
    from graphray.errors import HostError

    refusals = (ValueError, OSError, LookupError, ImportError, HostError)
    parser = add_action(actions, name, run, summary, more, refusals)
    parser.add_argument("hosts", metavar="HOSTS", nargs="+", help="hosts, a file of hosts, or the name of a cluster")
    parser.add_argument("--user", metavar="NAME", help="whom to log in as, where a host says nothing else")
    parser.add_argument("--python", metavar="PATH", help="the Python there, where a host says nothing else")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=float(timeout), help=f"for each host; default: {timeout}"
    )
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _hosts(args: argparse.Namespace) -> list[Host]:
    from graphray.executors.ssh import parse_hosts

    hosts = args.hosts[0] if len(args.hosts) == 1 else args.hosts
    return parse_hosts(hosts, user=args.user, python=args.python)


def _check(args: argparse.Namespace) -> int:
    from graphray.cli.hosts import document, problems, table
    from graphray.cli.plain import to_json
    from graphray.executors.ssh import check

    reports = check(_hosts(args), timeout=args.timeout)
    if args.json:
        put(to_json({"hosts": [document(report) for report in reports]}))
    else:
        for line in table(reports, colour(sys.stdout)):
            put(line)
        for line in problems(reports, columns()):
            put(line)
    return OK if all(report.usable for report in reports) else FAILED


def _setup(args: argparse.Namespace) -> int:
    from graphray.cli.hosts import outcome, setup_document, to_keep
    from graphray.cli.plain import to_json
    from graphray.executors.ssh import setup

    lock = threading.Lock()

    def on_step(host: Host, step: str) -> None:
        with lock:
            say(f"{host.label}: {step}")

    hosts = _hosts(args)
    options = {"directory": args.dir, "wheels": args.wheels, "also": args.also, "timeout": args.timeout}
    reports = setup(hosts, **options, on_step=on_step)
    if args.json:
        put(to_json({"hosts": [setup_document(report) for report in reports]}))
    else:
        for report in reports:
            put(outcome(report))
        for line in to_keep(reports):
            put(line)
    return OK if all(report.error is None for report in reports) else FAILED
