"""How much memory a run may fill with results, and how much there is."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHARE = 0.5  # of the machine's memory, where nobody says how much

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def parse_size(x: Any, option: str) -> int:
    """Bytes, from a number or a text such as "4GB" or "512 MiB".

    Args:
        x: the number or text.
        option: what it is called in the error.

    Raises:
        ValueError: it is neither, or not above 0.
    """
    size = 0.0
    if type(x) is int:
        size = x
    elif isinstance(x, str) and (match := _SIZE.fullmatch(x)):
        size = float(match[1]) * _UNITS[(match[2] or "").lower()]
    if size < 1:
        raise ValueError(f'{option}= is a number of bytes or a text such as "4GB" or "512MiB", not {x!r}')
    return int(size)


def parse_budget(x: Any) -> int:
    """Bytes of the option `memory=`: a size, or a share of the machine's memory (0.25, "25%"); None: half of it.

    Raises:
        ValueError: it is none of these.
    """
    if x is None:
        return int(SHARE * machine_memory())
    share = x if type(x) is float else None
    if isinstance(x, str) and (match := _PERCENT.fullmatch(x)):
        share = float(match[1]) / 100
    if share is not None:
        if not 0 < share <= 1:
            raise ValueError(f"memory= is a share of the machine above 0 and up to 1, or a size, not {x!r}")
        return int(share * machine_memory())
    try:
        return parse_size(x, "memory")
    except ValueError:
        raise ValueError(
            f'memory= is a size such as "4GB", a number of bytes, or a share such as 0.25 or "25%", not {x!r}'
        ) from None


def machine_memory() -> int:
    """Bytes of memory that this process may use: those of the machine, or of its container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                limit = int(file.read())
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
        if 0 < limit < total:
            total = limit
    return total
