"""Environments by name."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["imported", "lookup", "register_env", "registered"]

_lock = threading.Lock()
_known: dict[str, Callable[..., Any]] = {}


def register_env(name: str, source: Callable[..., Any]) -> None:
    """Give an environment a name, under which algorithms and YAML files find it in this process.

    Args:
        name: replaces what had this name.
        source: a class, or a function that returns an environment. It gets `env_config` as keyword arguments, or as
            one dict if it takes a single argument `config` (or `env_config`).

    Raises:
        TypeError: the name is not text, or the source cannot be called.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"the name of an environment is text, not {name!r}")
    if not callable(source):
        raise TypeError(f"an environment is registered with a class or a function that makes it, not {source!r}")
    with _lock:
        _known[name] = source


def registered() -> dict[str, Callable[..., Any]]:
    """What has been registered, and what graphray brings along, by name."""
    from graphray.rl import envs

    with _lock:
        return {**envs.SHIPPED, **_known}


def lookup(source: Any) -> str | Callable[..., Any]:
    """What makes the environment: a function or class, or the id of one that gymnasium knows.

    Raises:
        TypeError: neither text nor something that can be called; or a path to something that is no environment's class.
        ValueError: a path whose module or name does not exist.
    """
    if callable(source):
        return source  # type: ignore[no-any-return]
    if not isinstance(source, str):
        raise TypeError(
            f"env is a gymnasium id, a class, a function, `module.Class` or a registered name, not {source!r}"
        )
    known = registered()
    if source in known:
        return known[source]
    if "." in source and all(part.isidentifier() for part in source.split(".")):
        return _environment_class(source)
    return source


def _environment_class(path: str) -> Callable[..., Any]:
    """The class at a path. Paths come from YAML files and checkpoints too, which may not have any function called."""
    found = imported(path)
    missing = [name for name in ("reset", "step") if not callable(getattr(found, name, None))]
    if isinstance(found, type) and not missing:
        return found
    what = f"a class without {' and '.join(missing)}" if isinstance(found, type) else f"a {type(found).__name__}"
    raise TypeError(
        f"env {path!r} is {what}: a path names an environment's class, with `reset` and `step`. Pass a function "
        "that makes an environment as itself, or give it a name with rl.register_env"
    )


def imported(path: str, what: str = "env") -> Any:
    """What `module.name` names; `what` it is for begins the errors."""
    name, _, attribute = path.rpartition(".")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name + ".").startswith(error.name + "."):
            raise  # something that the module itself imports is missing
        raise ValueError(f"{what} {path!r}: there is no module {error.name!r} (looked in sys.path)") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise ValueError(f"{what} {path!r}: module {name!r} has no {attribute!r}") from None
