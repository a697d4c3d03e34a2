"""Key pairs of OpenSSH."""

from __future__ import annotations

import subprocess
from pathlib import Path


def key_pair(path: Path) -> Path:
    """Make a pair without a passphrase: the private key at `path`, the public one beside it as `.pub`."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    return path


def public(path: Path) -> str:
    """The public key of a pair, as known_hosts and authorized_keys have it, without its comment."""
    return " ".join(path.with_name(path.name + ".pub").read_text("utf-8").split()[:2])
