"""What is on record of a task, and what has changed since: the reasons that an explanation gives."""

from __future__ import annotations

import os

from graphray.executors.cache.history import described, name_in_nodes, named_parts
from graphray.executors.cache.rules import module_name, name_of, rule_of
from graphray.graph.digest import code_of
from graphray.graph.iterate import ITERATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from graphray.executors.cache.history import Argument, History, Record
    from graphray.graph.node import Node
    from graphray.graph.task import Task

_CALLS = 300  # earlier calls of a task that a node is compared with
_ALIKE = 5  # of these, those that look the same
_NAMED = 3  # functions, files or arguments that a reason names
_OF_ITERATIONS = ("step", "until", "init", "done", "steps", "save_every", "keep", "chain", "answer")


class Cause:
    """Why a node runs that ran before in another form, or never.

    Attributes:
        word: "new", "failed", "edited", "arguments", "file", "seed", "evicted" or "uncached".
        text: the same for people.
        group: nodes of one task in which this is the same are much alike.
        fresh: what the node gives was never there before, so that no result that it goes into can have been either.
    """

    __slots__ = ("fresh", "group", "text", "word")

    def __init__(self, word: str, text: str, group: Any = None, fresh: bool = True) -> None:
        self.word = word
        self.text = text
        self.group = text if group is None else group
        self.fresh = fresh


class Past:
    """What a history knows of a node's task.

    Attributes:
        seconds: how long a call takes; None if none is on record.
    """

    def __init__(self, node: Node, history: History) -> None:
        self.history = history
        self.task = rule_of(node)
        task = name_of(self.task)
        self.name = name_in_nodes(node, task)
        self.seconds = history.seconds(task)
        self.code = code_of(self.task)
        self.versions = history.codes(task)
        self.parameters = _OF_ITERATIONS if node._task is ITERATE else _parameters(self.task)
        self._own: Cause | None = None
        self._calls: list[Record] | None = None
        self._with_argument: dict[tuple[str, str], list[int]] = {}  # of the calls, those with this argument
        self._set_own_cause()

    # ---- the task

    def own_cause(self) -> Cause | None:
        """Why all nodes of the task run, if it is the task itself that is new or was edited."""
        return self._own

    def _set_own_cause(self) -> None:
        if not self.versions:
            self._own = Cause("new", f"new: no run of {self.task.name} is on record")
        elif all([code != self.code for code, _, _ in self.versions]):
            self._own = self._edited(self.versions[0][1])

    def _edited(self, before: Mapping[str, str]) -> Cause:
        changes = what_changed(before, named_parts(self.task))
        return Cause("edited", f"edited: {changes}" if changes else "edited")

    # ---- one node

    def failure_of(self, key: bytes) -> Cause | None:
        """Why a node runs that has failed before, as it is; None if it has not."""
        error = self.history.failure(key)
        return None if error is None else Cause("failed", f"failed last time: {error}", "failed last time")

    def cause_of(self, node: Node, key: bytes, seed: int, present: frozenset[bytes]) -> Cause:
        """Why a node runs whose task is as it was, and whose inputs were there before.

        Args:
            node: the node.
            key: its key.
            seed: the run's root seed.
            present: the keys of all nodes of the graph: a call that is still in it is not what this one was before.
        """
        seen = self.history.seen(key)
        if seen is not None:
            if self.task.options["cache"] is False:
                return Cause("uncached", "it ran before", fresh=False)
            from time import localtime, strftime

            when = strftime("%Y-%m-%d %H:%M", localtime(seen.time))
            return Cause("evicted", f"evicted: it ran {when}, and is not in the cache any more", "evicted", fresh=False)
        now = described(node)
        label = node.label
        before = self._before(label, now, present)
        if before is None:
            shown = ", ".join([f"{self._parameter(n)}={text}" for n, text, _ in now if n != "file"][:_NAMED])
            return Cause("arguments", f"not run before with {shown or 'no arguments'}", "not run before")
        if before.code != self.code:
            for code, parts, _ in self.versions:
                if code == before.code:
                    return self._edited(parts)
        return self._difference(node, before, now, seed)

    def _before(self, label: str, now: list[Argument], present: frozenset[bytes]) -> Record | None:
        """The call that most likely was this one in an earlier run."""
        for record in self.history.latest(self.name, label, _ALIKE):
            if record.key not in present:
                return record
        if self._calls is None:
            self._calls = [r for r in self.history.latest(self.name, limit=_CALLS) if r.key not in present]
            for i, record in enumerate(self._calls):
                for identity in _identities(record.arguments):
                    self._with_argument.setdefault(identity, []).append(i)
        same: dict[int, int] = {}  # by call: how many arguments it has in common
        for identity in set(_identities(now)):
            for i in self._with_argument.get(identity, ()):
                same[i] = same.get(i, 0) + 1
        if same:
            return self._calls[max(same, key=lambda i: (same[i], -i))]
        # Nothing in common: there is no telling which of several it was.
        last = [r for r in self._calls if r.time == self._calls[0].time]
        return last[0] if len(last) == 1 else None

    def _difference(self, node: Node, before: Record, now: list[Argument], seed: int) -> Cause:
        files_then = {text: digest for name, text, digest in before.arguments if name == "file"}
        files = [t for n, t, d in now if n == "file" and files_then.get(t, d) != d]
        if files:
            shown = _listed([_near(path) for path in files])
            return Cause("file", f"file{'s' if len(files) > 1 else ''} changed: {shown}", "file changed")
        then = {name: (text, digest) for name, text, digest in before.arguments if name != "file"}
        given = {name: (text, digest) for name, text, digest in now if name != "file"}
        changes, names = [], []
        for name in dict.fromkeys([*given, *then]):
            if then.get(name) == given.get(name):
                continue
            if name in then and name in given and then[name][1] == given[name][1] != "":
                continue  # called otherwise, and the same
            names.append(self._parameter(name))
            changes.append(self._change(node, name, then.get(name), given.get(name)))
        if changes:
            return Cause("arguments", _listed(changes, "; "), f"argument {', '.join(names)} changed")
        if before.seed != seed:
            return Cause("seed", f"the run's seed changed: {before.seed} → {seed}")
        if hasattr(node, "_index"):
            return Cause("arguments", f"not run before at place {node._index} of its map", "not run before")
        return Cause("arguments", "not run before with these arguments", "not run before")

    def _change(self, node: Node, name: str, then: tuple[str, str] | None, now: tuple[str, str] | None) -> str:
        parameter = self._parameter(name)
        if then is None:
            return f"argument {parameter} is new: {now[0] if now else ''}"
        if now is None:
            return f"argument {parameter} is gone"
        if then[0] != now[0]:
            return f"argument {parameter} changed: {then[0]} → {now[0]}"
        value = node._args[int(name)] if name.isdigit() else (node._kwargs or {}).get(name)
        how = "was edited" if callable(value) else "is not what it was"
        return f"argument {parameter} changed: {now[0]} {how}"

    def _parameter(self, name: str) -> str:
        """What the function calls an argument that is known by its place."""
        if not name.isdigit():
            return name
        place = int(name)
        return self.parameters[place] if place < len(self.parameters) else f"number {place + 1}"


def _identities(arguments: list[Argument]) -> list[tuple[str, str]]:
    return [(name, digest or text) for name, text, digest in arguments if name != "file"]


def _parameters(task: Task) -> tuple[str, ...]:
    import inspect

    try:
        parameters = inspect.signature(task.fn).parameters.values()
    except (TypeError, ValueError):  # some builtins have none
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple([p.name for p in parameters if p.kind in kinds])


# ---- what of a task's code


def what_changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which of the things that a task's code is made of differ, in a few words: `helper in pipeline.py`."""
    changed = [name for name in now if name in before and before[name] != now[name]]
    versions = [
        f"{before[name].replace('==', ' ')} → {_version(now[name])}" for name in changed if _is_package(now[name])
    ]
    options = [f"{name} {before[name]} → {now[name]}" for name in changed if name.startswith("option ")]
    if versions or options:  # all that uses a package looks different then
        return _listed([*options, *versions])
    new = [name for name in now if name not in before]
    gone = [name for name in before if name not in now]
    if changed:
        return _located(changed)
    if any([name.startswith("option ") for name in new + gone]):
        return "version= was set" if "option version=" in new else "version= was removed"
    return " and ".join(
        [
            f"{_located(names)} {'is' if len(names) == 1 else 'are'} {what}"
            for names, what in ((new, "new"), (gone, "gone"))
            if names
        ]
    )


def _is_package(entry: str) -> bool:
    return "==" in entry or entry.startswith("python ")


def _version(entry: str) -> str:
    return entry.rpartition("==")[2].rpartition(" ")[2]


def _located(names: list[str]) -> str:
    """Names of functions and the like, by the files they are in."""
    found: dict[str, dict[str, None]] = {}
    for name in names:
        place, short = _split(name.partition(" (")[0])  # functions of one name are numbered
        found.setdefault(place, {})[short] = None
    return "; ".join([f"{_listed(list(shorts))}{f' in {place}' if place else ''}" for place, shorts in found.items()])


def _split(name: str) -> tuple[str, str]:
    """The file that a qualified name is from, and the rest of it."""
    import sys

    module = name
    while "." in module:
        module = module.rpartition(".")[0]
        for real in (module, "__main__", f"pipeline_{module}"):
            file = getattr(sys.modules.get(real), "__file__", None)
            if type(file) is str and module_name(real) == module:
                return os.path.basename(file), name[len(module) + 1 :]
    return "", name


def _near(path: str) -> str:
    """A path as seen from the working directory, if it is below that."""
    try:
        near = os.path.relpath(path)
    except (OSError, ValueError):
        return path
    return path if near.startswith(os.pardir) else near


def _listed(items: list[str], glue: str = ", ") -> str:
    more = len(items) - _NAMED
    return glue.join(items[:_NAMED]) + (f"{glue}and {more} more" if more > 0 else "")
