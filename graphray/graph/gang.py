"""gang: one call made by several workers at the same time, which know of each other."""

from __future__ import annotations

from graphray.graph.task import Task, as_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from graphray.graph.node import Node


class Gang:
    """What a member knows of its gang.

    Attributes:
        rank: which member this is, from 0.
        size: how many there are.
        address: "host:port", which the member of rank 0 can bind and all others can reach; nobody listens there yet.
    """

    __slots__ = ("address", "rank", "size")

    def __init__(self, rank: int, size: int, address: str) -> None:
        self.rank = rank
        self.size = size
        self.address = address

    def __repr__(self) -> str:
        return f"<Gang: rank {self.rank} of {self.size}, {self.address}>"


def gang(fn: Callable[..., Any], /, *args: Any, size: int, **kwargs: Any) -> Node:
    """One node that has `size` workers call `fn(gang, *args, **kwargs)` at the same time; `gang` is a `Gang`.

    Its value is the tuple of what they give, in the order of their ranks: `first, second = gr.gang(fn, size=2)`. It
    is all or nothing: it begins when enough workers are free, one that fails or dies ends the others, and
    `@gr.task(retries=…, timeout=…)` is about all of them together. `resources=` is what each member needs. For JAX:
    `jax.distributed.initialize(gang.address, gang.size, gang.rank)`.

    Args:
        fn: a task or function; it is told its `Gang` first.
        args: the same for all members; may be nodes, as may `kwargs`.
        size: how many members.
        kwargs: given to every member.

    Raises:
        TypeError: not a function, or the arguments do not fit its signature.
        ValueError: a size below 1, or a function that is compiled (`jit=True`).
    """
    if type(size) is not int or size < 1:
        raise ValueError(f"size= is a number of workers, 1 or more, not {size!r}")
    task = as_task(fn)
    if task.options["jit"]:
        raise ValueError(
            f"{task.name} is compiled as a whole (jit=True), which a gang cannot be; use jax.jit inside it"
        )
    task._check((None, *args), kwargs)
    return _together(task, size)(*args, **kwargs)


def _together(task: Task, size: int) -> Task:
    """The task of a gang's nodes: one for each task and size."""
    known: dict[int, Task] = task.__dict__.setdefault("_gangs", {})
    if size not in known:
        known[size] = Task(Together(task, size), task.name, **{**task.options, "outputs": size})
    return known[size]


class Together:
    """What a member calls; where there is but one, all there is."""

    def __init__(self, task: Task, size: int) -> None:
        self.task = task
        self.gang_size = size

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """In a member: what its function gives. Elsewhere, for a gang of one: the tuple of that."""
        from graphray.executors.membership import free_address, membership

        me = membership()
        if me is not None:
            try:
                return self.task.fn(me, *args, **kwargs)
            except Exception as error:
                if me.size > 1:
                    error.add_note(f"graphray: raised in rank {me.rank} of a gang of {me.size}")
                raise
        if self.gang_size > 1:
            raise RuntimeError(
                f"{self.task.name} is a gang of {self.gang_size}, which takes as many worker processes at a time: "
                f'compute(executor="loky:{self.gang_size}")'
            )
        return (self.task.fn(Gang(0, 1, free_address()), *args, **kwargs),)
