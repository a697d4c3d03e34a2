"""States of iterations in the cache: an iteration continues from the last one that was stored.

Beside the states themselves, which are entries under keys of the iteration's own (a call of the step outside of it may
have the same result, and that stays), there is a small record per iteration: which steps are stored, under which keys.
It is written after the state it tells of, and before the superseded ones are removed; so at any moment what it says
last is there, or was evicted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets

from graphray.graph.digest import Question, digest_all, pin
from graphray.graph.hashing import Unhashable
from graphray.graph.node import NESTED, Node
from graphray.graph.sources import VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any, TypeAlias

    from graphray.executors.cache.nodes import NodeCache

    # A stored state: its step, its digest, and the key of its entry.
    State: TypeAlias = tuple[int, bytes, bytes]

FOLDER = "iterations"


class Keeper:
    """Stores and finds the states of iterations; what `iterate` asks while it unrolls one.

    Args:
        cache: the run's.
        seeded: nodes whose values depend on the root seed, whatever their digests say.
    """

    def __init__(self, cache: NodeCache, seeded: Container[Node]) -> None:
        self._cache = cache
        self._seeded = seeded

    def begin(self, node: Node) -> tuple[str, tuple[int, Node] | None]:
        """What an iteration's record goes by, and the last stored state that it can continue from, with its step."""
        chain = chain_of(self._cache, node)
        if chain is None:
            return "", None
        for step, digest, key in reversed(_read(self._cache, chain)):
            if node._args[4] is not None and step > node._args[4]:
                continue
            entry = self._cache.cache.find(key)
            if entry is None:
                continue
            with contextlib.suppress(LookupError):
                # Nested, so that a large one is sent as any other large argument is.
                state = Node(VALUE, (self._cache.load(entry, node),), None, (), NESTED)
                pin(state, digest)
                self._cache.states[state] = key
                self._cache.hits += 1
                return chain, (step, state)
        return chain, None

    def reached(self, node: Node, value: Any) -> None:
        """An iteration is at a step whose state is to be stored."""
        step, _, state, done, _, _, keep, chain, *_ = node._args
        if not chain:
            return
        digest_all([state], again=False)
        digest = state._digest[1]
        if type(digest) is not bytes:
            return
        key = _key(chain, self._cache.value_key(digest, state in self._seeded))
        states = _read(self._cache, chain)
        if any([k == key for _, _, k in states]):
            return  # another run is further, or this one continues here
        if not self._cache.put(key, value, node, step=done, task=step.name, label=f"{step.name}: state {done:,}"):
            return
        self._cache.states[state] = key
        states = sorted([*states, (done, digest, key)])
        superseded, states = states[:-keep], states[-keep:]
        _write(self._cache, chain, states)
        for _, _, old in superseded:
            self._cache.cache.remove(old)


def stored_step(cache: NodeCache, node: Node) -> int | None:
    """From which stored step an iteration would continue; None: from its first state."""
    chain = chain_of(cache, node)
    for step, _, key in reversed(_read(cache, chain)) if chain is not None else ():
        if (node._args[4] is None or step <= node._args[4]) and cache.cache.contains(key):
            return step
    return None


def chain_of(cache: NodeCache, node: Node) -> str | None:
    """What all iterations of a step from a state have in common, however many steps they ask for; None without digest.

    The question whether it is over belongs to it: another one might have ended the iteration before a stored state.
    """
    step, until, state, *_ = node._args
    if not cache.wants(node):
        return None
    digest_all([node], again=False)
    digest = state._digest[1]
    if type(digest) is not bytes:
        return None
    looking = Question(again=False)
    try:
        parts = [looking.look(step), b"" if until is None else looking.look(until)]
    except Unhashable:
        return None
    text = b"iteration\0%d\0" % cache.seed + b"".join([*parts, digest])
    return hashlib.blake2b(text, digest_size=20).hexdigest()


def _key(chain: str, key: bytes) -> bytes:
    """What a state is kept under, given the key of its value."""
    return hashlib.blake2b(b"state\0" + chain.encode() + key, digest_size=len(key)).digest()


def _path(cache: NodeCache, chain: str) -> str:
    return os.path.join(cache.cache.directory, FOLDER, chain)


def _read(cache: NodeCache, chain: str) -> list[State]:
    """The stored states of an iteration, by step; a record that cannot be read is as good as none."""
    try:
        with open(_path(cache, chain), "rb") as file:
            states = json.load(file)["states"]
        return sorted([(int(step), bytes.fromhex(digest), bytes.fromhex(key)) for step, digest, key in states])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write(cache: NodeCache, chain: str, states: list[State]) -> None:
    path = _path(cache, chain)
    part = f"{path}.{secrets.token_hex(4)}"
    text = json.dumps({"states": [[step, digest.hex(), key.hex()] for step, digest, key in states]})
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        with open(part, "x", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(text)
        os.replace(part, path)
    except OSError:  # the disk is full, say: then the iteration begins from an earlier state next time
        with contextlib.suppress(OSError):
            os.unlink(part)
