"""Why a machine could not be joined, from what ssh and the other side said: one sentence, and what to do."""

from __future__ import annotations

import re

from graphray.errors import NodeError

# What ssh says (OpenSSH's words have been the same for many years), what that means, and what to do about it.
CAUSES = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|host key .* has changed",
        "its host key has changed: it was installed anew, or somebody is in between",
        "ask who runs it; if the new key is right, remove the old one with `ssh-keygen -R {host}`",
    ),
    (
        r"Host key verification failed|No .* host key is known",
        "its host key is not known",
        "connect once by hand, `ssh {host}`, and compare the fingerprint that it shows",
    ),
    (
        r"Permission denied|Too many authentication failures",
        "permission denied: it takes none of your keys for this user",
        "see that `ssh {host}` works without a password (`ssh-copy-id {host}`, or start ssh-agent)",
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        "its name cannot be resolved",
        "see that it is spelled as in DNS or ~/.ssh/config",
    ),
    (r"Connection refused", "connection refused: no ssh server listens there", "see that sshd runs, and on which port"),
    (
        r"Operation timed out|Connection timed out|timed out|No route to host|Network is unreachable",
        "it does not answer",
        "see that it is on, and that no firewall is in between",
    ),
    (
        r"No module named '?graphray",
        "graphray is not installed for its Python",
        "`graphray nodes setup {host}` makes an environment there; python= says which interpreter to use",
    ),
    (
        r"No module named '?(\w+)",
        r"its Python has no {0}",
        "`graphray nodes setup {host}` makes an environment there; python= says which interpreter to use",
    ),
    (
        r"sh.*?: (?:line \d+: )?(\S+): (?:No such file or directory|command not found|not found)",
        "there is no {0} on it",
        "python= says which interpreter to use there; by default it is the path of the one here",
    ),
)


def refusal(host: str, status: int | None, said: str) -> NodeError:
    """The error for a connection that ended before a machine had joined, or during a run.

    Args:
        host: the machine.
        status: with which exit status.
        said: what was written to standard error.
    """
    for pattern, what, advice in CAUSES:
        found = re.search(pattern, said, re.IGNORECASE)
        if found:
            text = what.format(*found.groups())
            return NodeError(f"{host}: {text}; {advice.format(host=host)}", host)
    last = "\n".join(said.strip().splitlines()[-5:])
    how = f"status {status}" if status is None or status >= 0 else f"signal {-status}"
    return NodeError(f"{host}: the connection ended ({how})" + (f"; it said:\n{last}" if last else ""), host)
