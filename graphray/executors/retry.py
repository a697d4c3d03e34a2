"""How long a call that failed waits for its next attempt."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphray.graph.node import Node

LONGEST = 60.0  # seconds between two attempts, at most


def backoff(node: Node, failures: int) -> float:
    """Seconds between a call's failure and the next attempt: doubled each time, and not the same for all.

    Exponential back-off with jitter, so that calls that failed together do not meet again.
    """
    from random import SystemRandom  # the state of the others is the user's

    delay = node._task._options["backoff"] * 2 ** min(failures - 1, 30)
    return float(min(delay * SystemRandom().uniform(0.75, 1.25), LONGEST))
