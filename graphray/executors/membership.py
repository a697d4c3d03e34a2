"""Members of a gang where they run: who the running task is, and where the members find each other."""

from __future__ import annotations

import errno

from graphray.executors import context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphray.graph.gang import Gang

LOOPBACK = "127.0.0.1"
# Below the ports that systems give to outgoing connections: none of these takes one before rank 0 has bound it.
PORTS = range(20_000, 32_000)


def membership() -> Gang | None:
    """The gang that the running task is a member of, or None."""
    machine = context.current.get()
    return machine.gang if machine is not None else None


def free_address(host: str = LOOPBACK) -> str:
    """A "host:port" on this machine that nobody listens on: for rank 0 to bind.

    Drawn at random, so that it is another for each gang; nothing holds it.

    Raises:
        OSError: the host is not one of this machine's addresses, or no port is free.
    """
    import random
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    continue
                raise OSError(error.errno, f"a gang cannot meet at {host}: {error.strerror}") from None
            return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
    raise OSError(errno.EADDRINUSE, f"a gang cannot meet at {host}: no port from {PORTS[0]} to {PORTS[-1]} is free")
