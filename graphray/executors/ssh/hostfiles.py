"""Hosts in files: one a line, or YAML with options for all and for each; and clusters that have names."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from typing import Any

from graphray.executors.ssh.hosts import Host, check_options, made, merged, short

LARGEST = 1 << 20  # bytes of such a file
_CLUSTER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_KINDS = (".txt", ".yaml", ".yml")

Found = list[tuple[str, Host]]  # places and hosts


def named(text: str) -> str | None:
    """The path of the file that a text names, if it names one: that can be told from the text alone."""
    text = text.strip()
    if text.startswith("@"):
        return os.path.expanduser(text[1:])
    if text.startswith("ssh://") or "," in text:
        return None
    path = text.partition("?")[0]
    return os.path.expanduser(text) if "/" in path or path.endswith(_KINDS) else None


def read(path: str, for_all: Mapping[str, Any]) -> Found:
    """The hosts in a file.

    Raises:
        ValueError: there are none in it, or they are not right; it names the line.
        OSError: it cannot be read, or others can write to it.
    """
    text = _text(path)
    if path.endswith(_KINDS[1:]):
        return _of_document(_yaml(text, path), for_all, path)
    found: Found = []
    for number, line in enumerate(text.splitlines(), 1):
        host = re.sub(r"(^|\s)#.*", "", line).strip()
        if host:
            place = f"{path}:{number}"
            found.append((place, made(host, for_all, place)))
    return _some(found, path)


def cluster_file() -> str:
    """Where clusters are: $XDG_CONFIG_HOME/graphray/cluster.yaml, or ~/.config/graphray/cluster.yaml."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    if not os.path.isabs(base):  # the specification says to ignore it then
        base = os.path.expanduser("~/.config")
    return os.path.join(base, "graphray", "cluster.yaml")


def cluster(name: str, for_all: Mapping[str, Any]) -> Found | None:
    """The hosts of a cluster, or None if there is none of that name.

    Raises:
        ValueError: what is said of it is not right.
        OSError: the file cannot be read, or others can write to it.
    """
    path = cluster_file()
    if not _CLUSTER.fullmatch(name) or not os.path.exists(path):
        return None
    clusters = _yaml(_text(path), path)
    if clusters is None:  # nothing but comments
        return None
    if not isinstance(clusters, Mapping):
        raise ValueError(f"{path}: it holds clusters by name, such as `lab: {{hosts: [a, b]}}`, not {short(clusters)}")
    if name not in clusters:
        return None
    return _of_document(clusters[name], for_all, f"{path}: {name}")


def _of_document(document: Any, for_all: Mapping[str, Any], place: str) -> Found:
    """The hosts of a list, or of a dict with `hosts` beside options for all."""
    if isinstance(document, Mapping):
        options = {key: value for key, value in document.items() if key != "hosts" and value is not None}
        check_options(options, place)
        listed = document.get("hosts")
    else:
        options, listed = {}, document
    options = merged(options, for_all)
    if isinstance(listed, Mapping):
        listed = [_by_name(name, own, place) for name, own in listed.items()]
    if not isinstance(listed, list):
        raise ValueError(f"{place}: hosts is a list of hosts, or a dict of options by host, not {short(listed)}")
    places = ((f"{place}: hosts[{i}]", x) for i, x in enumerate(listed))
    return _some([(where, made(x, options, where)) for where, x in places], place)


def _by_name(name: Any, own: Any, place: str) -> dict[str, Any]:
    if own is not None and not isinstance(own, Mapping):
        raise ValueError(f"{place}: the options of {short(name)} are a dict, not {short(own)}")
    return {**(own or {}), "name": name}


def _some(found: Found, place: str) -> Found:
    if not found:
        raise ValueError(f"{place}: there are no hosts in it")
    return found


def _text(path: str) -> str:
    """What is in a file that only its owner can write to: whoever writes there decides where code goes."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"{path} is a directory, and no file of hosts")
        if status.st_mode & 0o022:
            raise PermissionError(f"others can write to {path}, and so choose where your code goes: chmod go-w {path}")
        if hasattr(os, "getuid") and status.st_uid not in (os.getuid(), 0):
            raise PermissionError(f"{path} belongs to another user (id {status.st_uid}): copy it")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"{path} is too large to be a file of hosts")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None


def _yaml(text: str, path: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ImportError(f"to read {path} needs PyYAML: pip install 'graphray[cluster]'", name="yaml") from None

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if (twice := _key_twice(node)) is not None:
            raise ValueError(f"{path}:{twice.start_mark.line + 1}: {twice.value!r} is there twice")
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ValueError(f"{path}{line}: {getattr(error, 'problem', None) or 'this is no YAML'}") from None
    except (TypeError, RecursionError) as error:
        raise ValueError(f"{path}: this YAML cannot be read: {error}") from None
    finally:
        loader.dispose()


def _key_twice(node: Any) -> Any:
    """A key that a mapping has twice, or None: of two lines, one would be lost without a word."""
    todo, known = [node], set()
    while todo:
        node = todo.pop()
        if id(node) in known or not isinstance(getattr(node, "value", None), list):
            continue
        known.add(id(node))
        keys = set()
        for child in node.value:
            key, value = child if isinstance(child, tuple) else (None, child)
            if key is not None and isinstance(key.value, str):
                if key.value in keys:
                    return key
                keys.add(key.value)
            todo.append(value)
    return None
