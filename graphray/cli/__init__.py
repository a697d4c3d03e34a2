"""The command line: thin commands over the public API.

Each command is a module with `add_parser(commands)`, which describes its arguments, and `run(args)`, which carries it
out and gives the exit status. A new one is added to the list in `entry`.
"""

from __future__ import annotations

from graphray.cli.entry import main

__all__ = ["main"]
