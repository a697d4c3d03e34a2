"""What a machine has that tasks can ask for: its accelerators and memory, and what the user says beyond that."""

from __future__ import annotations

import os

from graphray.graph.request import GPU, MEMORY, parse_amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
NONE = "-1"  # in these variables: no device; an empty text means all to some runtimes
PATIENCE = 20.0  # seconds for `nvidia-smi`, which wakes the driver up


def given(resources: Any) -> dict[str, float]:
    """The option `resources=` of an executor, checked.

    Raises:
        ValueError: it is no mapping, or an amount makes no sense.
    """
    if resources is None:
        return {}
    if not hasattr(resources, "items"):
        raise ValueError(f'resources= says how much a machine has by name, such as {{"gpu": 2}}, not {resources!r}')
    for name in resources:
        if type(name) is not str or not name:
            raise ValueError(f"resources= goes by name, a text, not {name!r}")
    return {name: parse_amount(name, amount) for name, amount in resources.items()}


def find(given: Mapping[str, float] | None = None) -> dict[str, Any]:
    """What this machine has: `gpu`, as the names of its accelerators, `memory` in bytes, and what the user gives.

    A number of accelerators that is given is taken at its word: the first of those found, or as many as it says.
    """
    from graphray.executors.memory import machine_memory

    found: dict[str, Any] = {**(given or {})}
    if MEMORY not in found:
        found[MEMORY] = machine_memory()
    number = found.get(GPU)
    if number is None:
        found[GPU] = accelerators()
    elif number:
        names = accelerators()[: int(number)]
        found[GPU] = names if len(names) == number else tuple(map(str, range(int(number))))
    else:
        found[GPU] = ()
    return found


def accelerators() -> tuple[str, ...]:
    """The names of the accelerators that this process may use, as the variables in `VISIBLE` take them.

    From these variables if one is set; else from the drivers' tools and files. No runtime is started.
    """
    for variable in VISIBLE:
        text = os.environ.get(variable)
        if text is not None:
            return _listed(text)
    return _nvidia() or _amd()


def _listed(text: str) -> tuple[str, ...]:
    """Names in a variable: as the runtimes have it, what comes after one that makes no sense does not count."""
    names: list[str] = []
    for name in [part.strip() for part in text.split(",")]:
        if not name or name.startswith("-") or name in names:
            break
        names.append(name)
    return tuple(names)


def _nvidia() -> tuple[str, ...]:
    import re
    import subprocess

    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
    except (OSError, subprocess.SubprocessError):  # there is no such tool, or it does not answer
        return _numbers(len([n for n in _names_in("/dev") if re.fullmatch(r"nvidia\d+", n)]))
    if listing.returncode:
        return ()
    parts = re.findall(r"^\s+MIG .*\(UUID: (MIG-[^)]+)\)", listing.stdout, re.MULTILINE)  # parts of a GPU, by name
    return tuple(parts) or _numbers(len(re.findall(r"^GPU \d+:", listing.stdout, re.MULTILINE)))


def _amd() -> tuple[str, ...]:
    nodes = "/sys/class/kfd/kfd/topology/nodes"
    return _numbers(len([n for n in _names_in(nodes) if _read(f"{nodes}/{n}/gpu_id") not in ("", "0")]))


def _numbers(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def environment(accelerators: tuple[str, ...]) -> dict[str, str]:
    """The variables that make a new process see these accelerators and no others.

    AMD's two apply one after the other, the second to what the first leaves: so only one says which.
    """
    if not accelerators:
        return {**dict.fromkeys(VISIBLE, NONE), "JAX_PLATFORMS": "cpu"}
    names = ",".join(accelerators)
    cuda, hip, rocr = VISIBLE
    if rocr in os.environ and cuda not in os.environ and hip not in os.environ:
        return {rocr: names}
    return {cuda: names, hip: names}
