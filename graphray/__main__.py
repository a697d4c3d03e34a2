"""`python -m graphray`: the command line."""

from __future__ import annotations

import sys

from graphray.cli import main

if __name__ == "__main__":  # a process pool may import this module again, under another name
    sys.exit(main())
