"""Machines to test with: real SSH servers, networks of namespaces that can be cut, and slow or silent connections.

    testbed.py     what one run of the tests owns: a folder, a name, and a guard that clears up if the run is killed
    sshd.py        an OpenSSH server with keys of its own, and how it can be hard to get along with
    client.py      the configuration of an ssh client that knows a server, or does not
    network.py     machines in network namespaces, joined by a bridge that the driver is on too
    machine.py     one of them: cut, join, kill, freeze, thaw, boot; its processes, listeners and files
    proxy.py       a TCP proxy that delays, limits, stalls and cuts
    ports.py       ports where nobody answers
    processes.py   whose a process is, and its end
    listeners.py   who listens where
    sweep.py       what killed runs have left is removed
    fixtures.py    `testbed`, `sshd` and `machines` for tests

Linux is needed for networks, and root; all else runs wherever OpenSSH does.
"""

from machines.client import Client
from machines.listeners import Listener, listening
from machines.machine import Machine
from machines.network import Network
from machines.ports import closed_port, silent_port
from machines.processes import tree
from machines.proxy import Proxy
from machines.sshd import Sshd
from machines.testbed import Testbed

__all__ = [
    "Client",
    "Listener",
    "Machine",
    "Network",
    "Proxy",
    "Sshd",
    "Testbed",
    "closed_port",
    "listening",
    "silent_port",
    "tree",
]
