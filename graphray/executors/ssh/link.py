"""A link: the connection to a node that has joined, with the agent at its other end. Messages are pairs, in JSON."""

from __future__ import annotations

import contextlib
import json
import threading

from graphray.errors import HostError
from graphray.executors.ssh.program import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from graphray.executors.ssh.hosts import Host

GRACE = 5.0  # seconds that an agent has to end its workers, once the connection is gone

# What the Python there is told first: it may have no graphray.
SOURCE = """
import json
try:
    from graphray.executors.ssh.agent import main
except ImportError as error:
    line.send(json.dumps(["lacks", {"module": str(error.name)}]).encode())
else:
    main(line)
"""


class Link:
    """A connection, from its start on.

    Args:
        host: where to.
        hear: called with the kind and the content of each message of the agent, in a thread of the link's; with
            "ended" and the error at last.
        forwards: see `openssh.command`.

    Raises:
        HostError: there is no ssh on this machine.
    """

    def __init__(
        self,
        host: Host,
        hear: Callable[[str, dict[str, Any]], None],
        forwards: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._hear = hear
        self._program = Program(host, forwards=forwards, grace=GRACE)
        self._thread = threading.Thread(target=self._listen, name=f"graphray-link-{host.name}", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            self._program.start(SOURCE, name="graphray agent")
            while True:
                self._hear(*json.loads(self._program.receive()))
        except HostError as error:
            self._hear("ended", {"error": error})

    @property
    def said(self) -> str:
        """The end of what ssh and the agent wrote to standard error."""
        return self._program.said

    def send(self, kind: str, **content: Any) -> None:
        """Tell the agent something; nothing, if it is gone."""
        with contextlib.suppress(HostError):
            self._program.send(json.dumps([kind, content]).encode())

    def close(self) -> None:
        """End the connection, and with it all that runs there of ours."""
        self._program.close()
        self._thread.join()
