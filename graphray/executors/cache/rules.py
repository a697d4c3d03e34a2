"""Whose results a run keeps in its cache: asked by the engine that stores and looks up, and by whoever explains it."""

from __future__ import annotations

from graphray.graph.fan import Fold
from graphray.graph.gang import Together
from graphray.graph.iterate import ITERATE
from graphray.graph.task import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from graphray.graph.node import Node

_OWN = "graphray.graph."
_USERS = (Fold, Together)  # which call a user's task
_NICKNAME = "pipeline_"  # what `graphray.cli.load` puts before a name that is taken


def is_cacheable(node: Node, run_has_cache: bool) -> bool:
    """Whether the result of a node goes into a cache.

    Its digest may still be missing, where an argument has no content to go by.

    Args:
        node: the node.
        run_has_cache: whether the run was given `cache=DIR`. Without one, only tasks with `cache=True` have their
            results kept, in the default directory.
    """
    return why_not(node, run_has_cache) is None


def why_not(node: Node, run_has_cache: bool) -> str | None:
    """Why the result of a node is never kept; None if it is. What to say after "not cacheable: "."""
    return task_why_not(rule_of(node), run_has_cache)


def rule_of(node: Node) -> Task:
    """The task whose options say whether the result is kept: the node's own, and of an iteration its step."""
    task = node._task
    if task is ITERATE and node._args:
        step = node._args[0]
        return step if type(step) is Task else task
    return task


def task_why_not(task: Task, run_has_cache: bool) -> str | None:
    """Why results of a task are never kept; None if they are. It can be asked once per task (see `rule_of`)."""
    if task.kind != "call" or is_own(task):
        return "one of graphray's own, cheaper to make again than to keep"
    if not task.pure:
        return "impure (pure=False)"
    option = task._options["cache"]
    if option is False:
        return "cache=False"
    if option is None and not run_has_cache:
        return "the run has no cache="  # and the task does not say cache=True
    return None


def is_own(task: Task) -> bool:
    """Whether it is one of graphray's few own tasks: operators, constants, gathering, the expansion of a fan-out.

    A node of `gr.reduce` that folds several values, and a gang, call the user's function, and are not among them.
    """
    return str(getattr(task, "__module__", None)).startswith(_OWN) and not isinstance(task.fn, _USERS)


def name_of(task: Task) -> str:
    """What a task is called in records that stay: `module.qualname` of its function.

    A pipeline's module goes by its file, so that one that is run as a script and by `graphray run` has one history.
    """
    fn = task.fn.task if isinstance(task.fn, _USERS) else task
    qualname = fn.__dict__.get("__qualname__")
    if qualname is None:
        function = getattr(fn.fn, "func", fn.fn)  # a partial goes by its function
        qualname = getattr(function, "__qualname__", None) or fn.name
        return f"{module_name(getattr(function, '__module__', None))}.{qualname}"
    return f"{module_name(getattr(fn, '__module__', None))}.{qualname}"


def module_name(module: str | None) -> str:
    """A module's name; that of its file for the main module, and where `graphray run` could not give it its own."""
    if module == "__main__" or str(module).startswith(_NICKNAME):
        import os
        import sys

        file = getattr(sys.modules.get(str(module)), "__file__", None)
        if type(file) is str and file.endswith(".py"):
            return os.path.basename(file).removesuffix(".py")
    return module or "?"
