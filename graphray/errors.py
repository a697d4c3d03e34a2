"""The errors graphray raises itself. An exception of the user's keeps its own type; these are for what has none."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphray.executors.ssh.hosts import Host
    from graphray.graph.node import Node


class GraphrayError(Exception):
    """Base of the errors that are graphray's own."""


class RemoteError(GraphrayError):
    """Stands for an exception that could not be rebuilt here: its text is the original type, message and traceback."""


class TaskTimeout(GraphrayError, TimeoutError):
    """A task took longer than its `timeout`."""


class WorkerDied(GraphrayError):
    """A worker process ended while it was running a task.

    Attributes:
        node: the node it was running, where that is known.
        signal: name of the signal that ended it ("SIGKILL"), or None.
        exitcode: the process's exit code (negative: ended by that signal), or None.
        memory: the most memory that the process has had, in bytes, or None.
    """

    def __init__(
        self,
        message: str,
        node: Node | None = None,
        signal: str | None = None,
        exitcode: int | None = None,
        memory: int | None = None,
    ) -> None:
        super().__init__(message)
        self.node = node
        self.signal = signal
        self.exitcode = exitcode
        self.memory = memory


class HostError(GraphrayError):
    """A machine could not be joined over SSH, does not do, or was lost. The text says which, why, and what to do.

    Attributes:
        host: the `Host`, or None where it is this machine that lacks something.
        reason: the same for programs, in a word: "unknown-host", "unreachable", "refused", "timeout", "closed",
            "host-key-unknown", "host-key-changed", "host-key-revoked", "permission-denied", "forwarding-refused",
            "no-common-algorithm", "ssh-configuration", "no-ssh", "no-python", "python-version", "packages",
            "setup", "ended", "failed".
    """

    def __init__(self, message: str, *, host: Host | None = None, reason: str = "failed") -> None:
        super().__init__(message)
        self.host = host
        self.reason = reason


class ResourceError(GraphrayError):
    """A task asks for more than any machine of the executor has, or a gang for more workers than there are."""


class ImpureTask(GraphrayError):
    """A task is no function of its arguments: it changes them, or gives something else each time (`audit=True`)."""


class Cancelled(GraphrayError):
    """The run was cancelled before it had its result."""


class Failure:
    """Stands in the place of a value that could not be had, under `on_error="collect"`.

    Attributes:
        error: the exception of the task that failed.
        node: the node whose value this would have been.
        skipped_because: the node that failed, if this one was never run because it depends on it; else None.
    """

    __slots__ = ("error", "node", "skipped_because")

    def __init__(self, error: BaseException, node: Node, skipped_because: Node | None = None) -> None:
        self.error = error
        self.node = node
        self.skipped_because = skipped_because

    def skipping(self, node: Node) -> Failure:
        """The failure of a node that needs this one's value."""
        return Failure(self.error, node, self.node if self.skipped_because is None else self.skipped_because)

    def __repr__(self) -> str:
        cause = f", skipped_because={self.skipped_because.label}" if self.skipped_because is not None else ""
        return f"Failure({self.error!r}, node={self.node.label}{cause})"
