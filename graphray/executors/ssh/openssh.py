"""The system's OpenSSH: the command that runs a program on a host, and what its failures mean.

The user's own configuration applies: keys, agent, jump hosts, and above all which host keys are trusted. Nothing here
says anything about that.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Iterable, Sequence

from graphray.errors import HostError
from graphray.executors.ssh.hosts import Host

VARIABLE = "GRAPHRAY_SSH"  # the command in place of "ssh", such as "ssh -F file"

_OPTIONS = (
    "BatchMode=yes",  # nobody is there to answer a question
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "LogLevel=INFO",  # the errors that `explain` reads, and the port of a forward
    "RemoteCommand=none",
    # A connection of one's own may be used, but none is left behind for others, which would outlive this one.
    "ControlMaster=no",
)


def command(
    host: Host,
    argv: Sequence[str],
    *,
    forwards: Iterable[tuple[str, str]] = (),
    options: Iterable[str] = (),
) -> list[str]:
    """The command that runs a program on a host, by way of the user's login shell there.

    Args:
        host: where.
        argv: the program and its arguments, which are quoted for the shell. They show in the lists of processes of both
            machines: what is secret goes over standard input.
        forwards: pairs such as ("R", "0:127.0.0.1:8786"), as ssh's -R and -L take them. If one cannot be had, ssh
            ends. They have a connection of their own, so that they go with it.
        options: ssh's -o options, such as "ConnectTimeout=3"; they go before those that are set here.

    Raises:
        ValueError: GRAPHRAY_SSH has an open quote, there is no program, or an argument has a NUL.
    """
    if not argv or any("\0" in argument for argument in argv):
        raise ValueError(f"a program and arguments without NUL characters are wanted, not {list(argv)!r}")
    forwards = list(forwards)
    found = [*_program(), "-T", "-x"]
    own = ("ExitOnForwardFailure=yes", "ControlPath=none") if forwards else ("ClearAllForwardings=yes",)
    for option in (*options, *_OPTIONS, *own):
        found += ["-o", option]
    for direction, forward in forwards:
        if direction not in ("L", "R"):
            raise ValueError(f"a forward is a pair of 'L' or 'R' and a text, not {(direction, forward)!r}")
        found += [f"-{direction}", forward]
    if host.user is not None:
        found += ["-l", host.user]
    if host.port is not None:
        found += ["-p", str(host.port)]
    return [*found, "--", host.name, shlex.join(argv)]


def _program() -> list[str]:
    text = os.environ.get(VARIABLE) or "ssh"
    try:
        return shlex.split(text) or ["ssh"]
    except ValueError as error:
        raise ValueError(f"{VARIABLE}={text!r} cannot be read as a command: {error}") from None


def missing() -> HostError:
    """The error for a machine without ssh."""
    program = _program()[0]
    return HostError(
        f"there is no program {program!r} on this machine: install OpenSSH's client "
        f"(Debian, Ubuntu: apt-get install openssh-client), or name one with {VARIABLE}",
        reason="no-ssh",
    )


def by_hand(host: Host) -> str:
    """What a user types to see how ssh gets on with a host."""
    options = [] if host.port is None else ["-p", str(host.port)]
    return shlex.join([*_program(), *options, host.name if host.user is None else f"{host.user}@{host.name}"])


# What ssh says, in the order in which it is looked for: several of these lines may stand in one output. Each with a
# short name for programs, and for people what it means and what to do.
_SSH_SAYS = (
    (
        "host-key-changed",
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "{host} has another host key than the one that is known: it was set up anew, or something else answers "
        "in its place. Find out which; if it is the former, remove the old key with ssh-keygen -R and connect once by "
        "hand: {ssh}",
    ),
    (
        "host-key-revoked",
        r"REVOKED HOST KEY|Host key .*revoked",
        "the host key of {host} is revoked in your known_hosts. Do not connect before it has another one",
    ),
    (
        "host-key-unknown",
        r"Host key verification failed|No \S+ host key is known|authenticity of host",
        "the host key of {host} is not known here. Connect once by hand and compare the fingerprint: {ssh}",
    ),
    (
        "unknown-host",
        r"Could not resolve hostname",
        "there is no host {host}, or one on the way to it: neither DNS nor your ssh configuration knows the name. Is "
        "it spelt right?",
    ),
    (
        "permission-denied",
        r"Permission denied \(|Too many authentication failures|Load key .*(error|denied|bad)",
        "{host} does not let you in. Put your public key there (ssh-copy-id), have the agent hold the key (ssh-add), "
        "and try by hand: {ssh}",
    ),
    (
        "forwarding-refused",
        r"forwarding failed|cannot listen to port|administratively prohibited|Could not request .*forwarding",
        "{host} does not forward a port for this connection. Its administrator allows that with AllowTcpForwarding in "
        "sshd_config; a forward of your own ssh configuration may be in use already",
    ),
    (
        "ssh-configuration",
        r"Bad configuration option|Bad owner or permissions|bad configuration options|Can't open user config",
        "your ssh configuration is not right, as ssh says. Try by hand: {ssh}",
    ),
    (
        "refused",
        r"Connection refused",
        "{host} is there, but no SSH server answers at that port. Is sshd running, and the port right?",
    ),
    (
        "unreachable",
        r"No route to host|Network is unreachable|Host is down",
        "there is no way to {host} over the network. Is it running, and this machine in the right network?",
    ),
    (
        "timeout",
        r"timed out|Timeout, server|not responding",
        "{host} does not answer. Is it running, and does a firewall let SSH through? Try by hand: {ssh}",
    ),
    (
        "no-common-algorithm",
        r"no matching .* found",
        "ssh here and the server of {host} have no algorithm in common. Update the older of the two",
    ),
    (
        "closed",
        r"Connection (to \S+ )?(closed|reset)|kex_exchange_identification|Broken pipe|banner exchange",
        "{host} has closed the connection. Its log says why (too many connections at once, an account that is locked); "
        "try by hand: {ssh}",
    ),
)  # fmt: skip
_SSH_PATTERNS = tuple((reason, re.compile(pattern, re.IGNORECASE), advice) for reason, pattern, advice in _SSH_SAYS)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def explain(host: Host, returncode: int | None, stderr: str | bytes) -> HostError:
    """What it means that ssh, or a program run over it, ended: an error with `.host`, `.reason` and what to do.

    Args:
        host: the host it was for.
        returncode: its exit status (255: ssh itself; 127: the shell there found no program), negative for a signal.
        stderr: what it said, or the end of that.
    """
    said = printable(stderr)
    lines = [line for line in said.splitlines() if line.strip()]
    if returncode == 255:
        known = _known(host, lines)
        if known is not None:
            return known
        last = lines[-1].strip() if lines else "nothing"
        text = f"the connection to {host.label} failed; ssh says: {last}. Try by hand: {by_hand(host)}"
        return HostError(text, host=host, reason="failed")
    if returncode in (126, 127):
        return no_python(host, returncode, stderr)
    tail = "\n".join(lines[-15:])
    how = _how(returncode)
    return HostError(
        f"the program on {host.label} {how}" + (f"; it said:\n{tail}" if tail else ""), host=host, reason="ended"
    )


def _known(host: Host, lines: list[str]) -> HostError | None:
    """The error that lines of ssh's tell of, if they do."""
    for reason, pattern, advice in _SSH_PATTERNS:
        line = next((line for line in lines if pattern.search(line)), None)
        if line is not None:
            text = advice.format(host=host.label, ssh=by_hand(host))
            said = line.strip(" @").removeprefix("ssh: ")
            return HostError(f"{text} (ssh: {said})", host=host, reason=reason)
    return None


def lost(host: Host, stderr: str | bytes) -> HostError:
    """The error for a program that was running, and of which ssh gives no exit status (255)."""
    lines = [line for line in printable(stderr).splitlines() if line.strip()]
    known = _known(host, lines[-2:])  # what is before that are the program's own words
    if known is not None:
        return known
    tail = "\n".join(lines[-15:])
    text = f"the program on {host.label} was ended by a signal there (is its memory full?), or its connection was cut"
    return HostError(text + (f"; it said:\n{tail}" if tail else ""), host=host, reason="ended")


def no_python(host: Host, returncode: int, said: str | bytes) -> HostError:
    """The error for a host where the interpreter does not start, or something else starts in its place."""
    states = {127: "there is no {} on {}", 126: "one may not run {} on {}"}
    state = states.get(returncode, "{} on {} does not start as a Python 3").format(host.interpreter, host.label)
    lines = [line.strip() for line in printable(said).splitlines() if line.strip()]
    last = f" (it said: {lines[-1]})" if lines else ""
    text = (
        f"{state}{last}. Name its Python {_version()} with the option python, such as "
        f"{host.label}?python=/usr/bin/python{_version()}, or make one: graphray nodes setup {host.label}"
    )
    return HostError(text, host=host, reason="no-python")


def _how(returncode: int | None) -> str:
    if returncode is None:
        return "does not end"
    if returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        return f"is cut off: ssh here was ended by {name}"
    return f"ended with exit status {returncode}"


def _version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def printable(text: str | bytes) -> str:
    """What a host has said, with nothing that a terminal would obey."""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
