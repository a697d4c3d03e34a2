"""iterate: a fold over steps, unrolled while it runs.

An iteration is rewritten in terms of nodes rather than values, so that the identity of the k-th state is that of k
calls of `step` on the first: it does not depend on how many steps were asked for.
"""

from __future__ import annotations

from graphray.graph.fan import as_node
from graphray.graph.node import CONSTANT, Node, make
from graphray.graph.task import Task, as_task, own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Steps unrolled at a time where nothing has to be asked between them: enough to hide the unrolling, few enough to
# change course soon.
CHUNK = 64


def iterate(
    step: Callable[[Any], Any],
    init: Any,
    *,
    steps: int | None = None,
    until: Callable[[Any], Any] | None = None,
    save_every: int = 1,
    keep: int = 1,
) -> Node:
    """Fold `state -> step(state)`, from `init`, for a number of steps or until a condition holds.

    Args:
        step: a task or function of the state that gives the next one; it may return a node.
        init: the first state, a value or a node.
        steps: how many steps at most; 0 gives `init`.
        until: a task or function of the state, asked before each step: true ends the iteration, so that possibly
            no step is made. With a cache, another question begins from the first state.
        save_every: with a cache, every how many steps the state is stored.
        keep: with a cache, how many stored states are kept.

    Returns:
        The node of the last state.

    Raises:
        TypeError: neither `steps` nor `until`, or no function.
        ValueError: a number that makes no sense.
    """
    if steps is None and until is None:
        raise TypeError("gr.iterate needs an end: steps=, until=, or both")
    if steps is not None and (type(steps) is not int or steps < 0):
        raise ValueError(f"steps= is a number of steps, 0 or more, not {steps!r}")
    for name, number in (("save_every", save_every), ("keep", keep)):
        if type(number) is not int or number < 1:
            raise ValueError(f"{name}= is a number, 1 or more, not {number!r}")
    question = None if until is None else as_task(until)
    return _iterate(as_task(step), question, as_node(init), 0, steps, save_every, keep, None)


def _iterate(
    step: Task,
    until: Task | None,
    state: Node,
    done: int,
    steps: int | None,
    save_every: int,
    keep: int,
    chain: str | None,
) -> Node:
    if until is None:
        return make(ITERATE, (step, until, state, done, steps, save_every, keep, chain), None)
    # The answer is a dependency: when this node is looked at, it is known.
    answer = until(state) if steps is None or done < steps else None
    return make(ITERATE, (step, until, state, done, steps, save_every, keep, chain, answer), None)


def advance(node: Node, lookup: Callable[[Node], Any], keeper: Any = None) -> Node:
    """Rewrite an iteration whose state (and answer) is known: to its state, or to further steps and the rest.

    Args:
        node: the iteration.
        lookup: gives the value of a node that it needs.
        keeper: stores and finds states, where the run has a cache: see `executors.cache.iteration`.
    """
    step, until, state, done, steps, save_every, keep, chain, *answer = node._args
    if keeper is not None:
        if chain is None:
            chain, found = keeper.begin(node)
            if found is not None:
                done, state = found
                return _iterate(step, until, state, done, steps, save_every, keep, chain)
        elif done % save_every == 0:
            keeper.reached(node, lookup(state))
    if steps is not None and done >= steps:
        return state  # type: ignore[no-any-return]
    if until is not None:
        if lookup(answer[0]):
            return state  # type: ignore[no-any-return]
        more = 1
    else:
        more = min(CHUNK, steps - done)
        if keeper is not None:  # to be asked where a state is to be stored
            more = min(more, save_every - done % save_every)
    if done:
        _cut(state, step.seed or keeper is not None)
    for i in range(more):
        state = _step(step, state, done + i)
    return _iterate(step, until, state, done + more, steps, save_every, keep, chain)


def _step(step: Task, state: Node, position: int) -> Node:
    node = step(state)
    if step.seed:
        node._index = position
    return node


def _cut(state: Node, digested: bool) -> None:
    """Let go of how a computed state came about, or a long iteration would hold a node per step.

    Only for states made here: nobody else has these nodes.
    """
    from graphray.graph.digest import digest_all, pin

    if digested:
        digest_all([state], again=False)  # the seeds of later steps stand on it, and the keys of states
    pin(state)
    state._args = ()
    state._deps = ()
    state._form = CONSTANT


ITERATE = own(__name__, "ITERATE", advance, "iterate", kind="macro")
