"""Which machines: hosts as values, from texts such as "alice@a:2222?workers=4"; `hostfiles.py` has those in files.

What is accepted here goes onto a command line of ssh, so names are held to a short alphabet: none can be taken for an
option or for shell text.
"""

from __future__ import annotations

import os
import re
import reprlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, unquote

from graphray.executors.memory import parse_size

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_ADDRESS = re.compile(r"(?=.*:.*:)[0-9A-Fa-f:]+(\.\d+){0,3}(%[A-Za-z0-9_.-]+)?")  # IPv6, with a zone
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,254}\$?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESOURCE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Host:
    """A machine, how ssh gets there, and what it is for. None leaves it to the ssh configuration, or to the engine.

    Args:
        name: what ssh is given: a name of the ssh configuration, a host name or an address.
        user: whom to log in as.
        port: of the SSH server.
        python: the interpreter there, as a whole path or as a name in PATH; None: the path of this one.
        workers: worker processes there.
        threads: threads for each task there.
        memory: bytes that its workers may use together; a text such as "64GB" will do.
        env: environment variables of its workers.
        resources: what it has for tasks that ask for it, such as {"gpu": 2}.
        directory: where its workers run.

    Raises:
        ValueError: a value that none of these can have, or that could be taken for an option or for shell text.
    """

    name: str
    user: str | None = None
    port: int | None = None
    python: str | None = None
    workers: int | None = None
    threads: int | None = None
    memory: int | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    resources: Mapping[str, float] = field(default_factory=dict)
    directory: str | None = None

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            given = getattr(self, name)
            if name == "name" or given is not None:
                object.__setattr__(self, name, check(given, name))

    @property
    def label(self) -> str:
        """The host for people: "alice@a:2222"."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        user = f"{self.user}@" if self.user is not None else ""
        return f"{user}{name}" + (f":{self.port}" if self.port is not None else "")

    @property
    def interpreter(self) -> str:
        """The Python to run there."""
        return self.python or sys.executable or "python3"

    @property
    def text(self) -> str:
        """The host with its options, as `parse_hosts` reads it: "alice@a:2222?python=/opt/py"."""
        options = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name not in ("name", "user", "port")]
        pairs = [(name, value) for name, value in options if value is not None and not isinstance(value, Mapping)]
        for name in ("env", "resources"):
            pairs += [(f"{name}.{key}", value) for key, value in getattr(self, name).items()]
        query = "&".join(f"{name}={quote(str(value), safe='/:@+=')}" for name, value in pairs)
        return self.label + (f"?{query}" if query else "")

    def __str__(self) -> str:
        return self.label

    def __hash__(self) -> int:
        return hash((self.name, self.user, self.port))

    def __reduce__(self) -> Any:
        values = (getattr(self, f.name) for f in fields(self))
        return Host, tuple(dict(x) if isinstance(x, Mapping) else x for x in values)


def parse_hosts(hosts: Any, **for_all: Any) -> list[Host]:
    """The hosts that a text, a file, the name of a cluster, or a list of texts, dicts and hosts say.

    - "alice@a", "a:2222", "[::1]:22", "ssh://alice@a:22": ssh gets the rest from its configuration.
    - "a?workers=4&python=/opt/py&env.LANG=C&resources.gpu=2": with options, those of `Host`. In them, and only there,
      `%2C` is a comma.
    - "ssh://alice@a,b", "alice@a,b": several; user, port and options belong to the one host that they stand at.
    - "@hosts.txt", "./hosts.txt", a path: a file with a host a line and comments after #. A .yaml has options for all
      beside `hosts:`, a list of texts and of dicts, or a dict of options by host.
    - "lab": the cluster of that name in ~/.config/graphray/cluster.yaml, if there is one, else the host.
    - {"name": "a", "workers": 4}, Host("a", workers=4).

    Args:
        hosts: any of these, or a list of those that are one host.
        for_all: options for all hosts; a host's own go before them, and they before those that a file has for all.
            `env` and `resources` are put together name by name.

    Raises:
        ValueError: these are no hosts, one is there twice, or an option is not known; it names the place.
        OSError: the file cannot be read.
        PermissionError: others can write to the file.
        ImportError: a .yaml needs PyYAML, which is not installed.
    """
    for_all = {key: value for key, value in for_all.items() if value is not None}
    check_options(for_all, "options for all")
    if isinstance(hosts, (str, os.PathLike)):
        found = _of_text(os.fspath(hosts), for_all, path=not isinstance(hosts, str))
    elif isinstance(hosts, (Host, Mapping)):
        found = [("hosts", made(hosts, for_all, "hosts"))]
    elif isinstance(hosts, Iterable) and not isinstance(hosts, (bytes, bytearray)):
        places = ((f"hosts[{i}]", x) for i, x in enumerate(hosts))
        found = [(place, made(x, for_all, place)) for place, x in places]
    else:
        raise ValueError(f"hosts are a text, a file, or a list, not {short(hosts)}")
    if not found:
        raise ValueError("there are no hosts: name one or more, such as alice@a")
    return _apart(found)


def _of_text(text: str, for_all: Mapping[str, Any], path: bool) -> list[tuple[str, Host]]:
    from graphray.executors.ssh import hostfiles

    file = text if path else hostfiles.named(text)
    if file is not None:
        return hostfiles.read(file, for_all)
    cluster = hostfiles.cluster(text.strip(), for_all)
    if cluster is not None:
        return cluster
    parts = text.strip().removeprefix("ssh://").split(",")
    return [(short(part.strip()), made(part.strip(), for_all, f"hosts {short(text)}")) for part in parts]


def made(x: Any, for_all: Mapping[str, Any], place: str) -> Host:
    """One host, with the options for all that it has not itself.

    Raises:
        ValueError: it is none; the text begins with the place.
    """
    try:
        if isinstance(x, Host):
            own = {f.name: value for f in fields(x) if (value := getattr(x, f.name)) is not None}
        elif isinstance(x, Mapping):
            own = {key: value for key, value in x.items() if value is not None}
            if "name" not in own:
                raise ValueError(f"a host needs a name: {short(dict(x))}")
            if isinstance(own["name"], str):
                own = _split(own["name"]) | own | {"name": _split(own["name"])["name"]}
        elif isinstance(x, str):
            own = _split(x)
        else:
            raise ValueError(f"a host is a text, a dict or a Host, not {short(x)}")
        return _with_options(own, for_all)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _with_options(own: Mapping[str, Any], for_all: Mapping[str, Any]) -> Host:
    given = merged(for_all, own)
    if unknown := [key for key in given if key not in _CHECKS]:
        raise ValueError(_unknown(unknown[0]))
    return Host(**given)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Options of which those `over` go before those `under`; mappings are put together name by name."""
    both = dict(under) | dict(over)
    for key in ("env", "resources"):
        low, high = under.get(key), over.get(key)
        if isinstance(low, Mapping) and isinstance(high, Mapping):
            both[key] = {**low, **high}
    return both


def check_options(options: Mapping[str, Any], place: str) -> None:
    """See that options for all are some; each host has their values checked."""
    for key in options:
        if key == "name" or key not in _CHECKS:
            raise ValueError(f"{place}: {_unknown(key)}")
    try:
        Host("any", **options)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _unknown(key: Any) -> str:
    known = ", ".join(name for name in _CHECKS if name != "name")
    return f"there is no option {short(key)} of a host; there are {known}"


def _apart(found: list[tuple[str, Host]]) -> list[Host]:
    first: dict[tuple[Any, ...], str] = {}
    for place, host in found:
        key = host.user, host.name.lower(), host.port
        if key in first:
            raise ValueError(
                f"{place}: {host.label} is there twice (first as {first[key]}); workers= says how many it has"
            )
        first[key] = place
    return [host for _, host in found]


# ---- the parts of a text


def _split(text: str) -> dict[str, Any]:
    """The options in a text such as "ssh://alice@a:22?workers=4"."""
    body, mark, query = text.strip().removeprefix("ssh://").partition("?")
    user, at, address = body.rpartition("@")
    found: dict[str, Any] = {"user": user} if at else {}
    if at and ":" in user:
        raise ValueError(
            f"{short(text)} holds a password, and ssh takes none from others: keys and agents are for that"
        )
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", address, re.DOTALL)
    if bracketed:
        name, port = bracketed[1], bracketed[2]
        if not _ADDRESS.fullmatch(name):
            raise ValueError(f"{short(address)} is no IPv6 address in brackets")
    elif address.count(":") > 1:
        raise ValueError(f"{short(address)}: an IPv6 address stands in brackets, such as [::1] or [::1]:22")
    else:
        name, colon, port = address.partition(":")
        port = port if colon else None
    found["name"] = name
    if port is not None:
        found["port"] = port
    if mark:
        found = merged(found, _options(query))
    return found


def _options(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in query.split("&"):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise ValueError(f"options are NAME=VALUE with & between them, not {short(part)}")
        group, dot, name = key.partition(".")
        value = unquote(value, errors="strict")
        target = found.setdefault(group, {}) if dot and group in ("env", "resources") else found
        key = name if target is not found else key
        if key == "name" and target is found:
            raise ValueError("the name of a host stands before the question mark")
        if not isinstance(target, dict) or key in target:
            raise ValueError(f"the option {short(part.partition('=')[0])} is there twice")
        target[key] = value
    return found


# ---- values


def _name(x: Any, option: str) -> str:
    if isinstance(x, str) and (_NAME.fullmatch(x) or _ADDRESS.fullmatch(x)):
        return x
    if not x:
        raise ValueError("the name of a host is missing")
    hint = "" if isinstance(x, str) else " (in YAML, put it into quotes)"
    raise ValueError(f"{short(x)} is no name of a host: letters, digits, '.', '-' and '_', no '-' in front{hint}")


def _user(x: Any, option: str) -> str:
    if isinstance(x, str) and _USER.fullmatch(x):
        return x
    raise ValueError(f"{short(x)} is no name of a user: letters, digits and '._@+-', no '-' in front")


def _integer(x: Any) -> int | None:
    if isinstance(x, str) and re.fullmatch(r"[0-9]{1,9}", x):
        return int(x)
    return x if type(x) is int else None


def _port(x: Any, option: str) -> int:
    number = _integer(x)
    if number is None or not 1 <= number <= 65535:
        raise ValueError(f"{short(x)} is no port: a number from 1 to 65535")
    return number


def _count(x: Any, option: str) -> int:
    number = _integer(x)
    if number is None or number < 1:
        raise ValueError(f"{option}= is a number of 1 or more, not {short(x)}")
    return number


def _memory(x: Any, option: str) -> int:
    return parse_size(int(x) if isinstance(x, str) and x.isdecimal() else x, option)


def _path(x: Any, option: str) -> str:
    text = os.fspath(x) if isinstance(x, os.PathLike) else x
    if not isinstance(text, str) or not text or text != text.strip() or text.startswith("-") or _CONTROL.search(text):
        raise ValueError(f"{option}= is a path on the host, not {short(x)}")
    if text.startswith("~"):
        raise ValueError(f"{option}={short(text)}: no shell expands the ~, so write the whole path")
    return text


def _env(x: Any, option: str) -> Mapping[str, str]:
    found = {}
    for key, value in _mapping(x, option).items():
        if not isinstance(key, str) or not _VARIABLE.fullmatch(key):
            raise ValueError(f"{short(key)} is no name of an environment variable")
        if type(value) is int:
            value = str(value)
        if not isinstance(value, str) or "\0" in value:
            raise ValueError(f"env: the value of {key} is a text, not {short(value)} (in YAML, put it into quotes)")
        found[key] = value
    return MappingProxyType(found)


def _resources(x: Any, option: str) -> Mapping[str, float]:
    found = {}
    for key, value in _mapping(x, option).items():
        if not isinstance(key, str) or not _RESOURCE.fullmatch(key):
            raise ValueError(f"{short(key)} is no name of a resource")
        try:
            number = float(value) if not isinstance(value, bool) else 0.0
        except (TypeError, ValueError):
            number = 0.0
        if not 0 < number < float("inf"):
            raise ValueError(f"resources: {key} is a number above 0, not {short(value)}")
        found[key] = int(number) if number.is_integer() else number
    return MappingProxyType(found)


def _mapping(x: Any, option: str) -> Mapping[Any, Any]:
    if isinstance(x, Mapping):
        return x
    raise ValueError(f"{option}= is a dict, in a text {option}.NAME=VALUE, not {short(x)}")


def short(x: Any) -> str:
    """A value for an error: about a line, with nothing that a terminal would obey."""
    return _short.repr(x)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlevel = 3

_CHECKS: dict[str, Any] = {
    "name": _name,
    "user": _user,
    "port": _port,
    "python": _path,
    "workers": _count,
    "threads": _count,
    "memory": _memory,
    "env": _env,
    "resources": _resources,
    "directory": _path,
}
