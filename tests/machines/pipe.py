"""Standard input and output joined to a TCP port, as ProxyCommand wants it: `python pipe.py ADDRESS PORT`."""

from __future__ import annotations

import os
import socket
import sys
import threading


def main() -> None:
    """Connect, and copy both ways until the other end is done."""
    try:
        connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
    except OSError as error:
        sys.exit(f"pipe: cannot connect to {sys.argv[1]} port {sys.argv[2]}: {error}")
    connection.settimeout(None)
    threading.Thread(target=send, args=[connection], daemon=True).start()
    try:
        while data := connection.recv(65536):
            while data:
                data = data[os.write(1, data) :]
    except OSError as error:
        print(f"pipe: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)  # the other thread is still reading


def send(connection: socket.socket) -> None:
    """Standard input goes there, and so does its end."""
    try:
        while data := os.read(0, 65536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:  # the other thread sees it too
        pass


if __name__ == "__main__":
    main()
