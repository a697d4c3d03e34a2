"""The command `ip`, and whether networks can be made here."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys


def ip(*arguments: str, batch: str = "") -> str:
    """What `ip` prints; with a batch, it runs these lines.

    Raises:
        OSError: it failed; the text is what it said.
    """
    command = ["ip", *arguments, *(["-batch", "-"] if batch else [])]
    done = subprocess.run(command, input=batch, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise OSError(
            f"{' '.join(command)}: {done.stderr.strip() or done.returncode}" + (f"\nof:\n{batch}" if batch else "")
        )
    return done.stdout


@functools.cache
def check_possible() -> None:
    """Say what is missing for network namespaces, and what to do."""
    advice = "\nOr leave out the tests that need them: pytest -m 'not netns'"
    if sys.platform != "linux":
        raise OSError("the machines of these tests are network namespaces, which only Linux has." + advice)
    missing = [name for name in ("ip", "unshare", "mount") if shutil.which(name) is None]
    if missing:
        raise FileNotFoundError(
            f"the machines of these tests are network namespaces, and need {', '.join(missing)}; on Debian or Ubuntu: "
            "apt-get install iproute2 util-linux mount" + advice
        )
    probe = f"graphray-probe-{os.getpid()}"
    try:
        if os.geteuid() != 0:
            raise PermissionError(f"this is user {os.geteuid()}")
        ip("netns", "add", probe)
        try:
            inside = ["ip", "netns", "exec", probe, "unshare", "--uts", "--mount", "true"]
            done = subprocess.run(inside, capture_output=True, text=True, timeout=30)
            if done.returncode:
                raise OSError(done.stderr.strip())
            ip("-n", probe, "link", "add", "br0", "type", "bridge")
        finally:
            ip("netns", "delete", probe)
    except OSError as error:
        raise PermissionError(
            "the machines of these tests are network namespaces on a bridge, which need root with CAP_NET_ADMIN and "
            f"CAP_SYS_ADMIN (in a container: --privileged), and the kernel's bridge and veth: {error}." + advice
        ) from None
