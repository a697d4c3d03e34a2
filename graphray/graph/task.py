"""Task: a function whose calls are nodes."""

from __future__ import annotations

import functools
import sys
import weakref

from graphray.graph.containers import ATOMS
from graphray.graph.node import CONSTANT, Node, make
from graphray.graph.request import Request, parse_resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# Options of a task and what they are when nothing is said.
DEFAULTS: dict[str, Any] = {
    "outputs": None,
    "pure": True,
    "seed": False,
    "version": None,
    "cache": None,
    "jit": False,
    "retries": 0,
    "retry_on": (Exception,),
    "backoff": 0.1,
    "timeout": None,
    "resources": None,
    "near": None,
}


class Task:
    """A lazy function: calling it always gives a `Node`; `task.fn` is the plain function.

    Made by `gr.task`, which describes the options. Two tasks of the same function are different objects with the same
    digest.
    """

    # What the engines do with it: 'call' for user functions; the others are graphray's own few.
    #   'inline'  evaluated by the driver itself, where its inputs are (constants, gathering)
    #   'macro'   gets its node and rewrites it in terms of other nodes (iterate)
    kind = "call"

    def __init__(self, fn: Callable[..., Any], name: str | None = None, kind: str = "call", **options: Any) -> None:
        functools.update_wrapper(self, fn, updated=())
        self._set(fn, name or _name_of(fn), kind, {**DEFAULTS, **options})

    def _set(self, fn: Callable[..., Any], name: str, kind: str, options: dict[str, Any]) -> None:
        self.fn = fn
        self.name = name
        self.kind = kind
        self._options = options
        self.outputs: int | None = options["outputs"]
        self.pure: bool = options["pure"]
        self.seed: bool = options["seed"]
        self._arity = _arity(fn) if kind == "call" and not self.seed else (0, sys.maxsize)
        # The function the engine's loop may call without a second thought; None where there is something to look after.
        gang = getattr(fn, "gang_size", None)
        # What a machine has to have for a call; None for most tasks, which any worker can run.
        needs = options["resources"]
        self.request: Request | None = Request(needs or {}, gang) if needs or gang else None
        care = self.seed or self.outputs or options["jit"] or options["retries"] or options["timeout"] or self.request
        plain = kind != "macro" and not care
        self.direct: Callable[..., Any] | None = fn if plain else None
        # A call that may be cut off, or that not every worker can make, is a unit of its own.
        self.alone: bool = options["timeout"] is not None or self.request is not None
        self._jitted: Callable[..., Any] | None = None

    @property
    def options(self) -> Mapping[str, Any]:
        """The options it was made with (see `gr.task`), defaults included."""
        from types import MappingProxyType

        return MappingProxyType(self._options)

    @property
    def callable(self) -> Callable[..., Any]:
        """What an engine calls: the function, compiled with `jax.jit` if the task says so."""
        if not self._options["jit"]:
            return self.fn
        if self._jitted is None:
            import jax

            self._jitted = jax.jit(self.fn)
        return self._jitted

    def __call__(self, /, *args: Any, **kwargs: Any) -> Node:
        """The node of one call; arguments may be nodes or contain some."""
        low, high = self._arity
        if kwargs or not low <= len(args) <= high:
            self._check(args, kwargs)
        else:
            for a in args:
                if type(a) not in ATOMS:
                    break
            else:
                return Node(self, args, None, (), CONSTANT)
        return make(self, args, kwargs)

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A wrong call is refused where it is written, not later in a worker."""
        import inspect

        try:
            signature = inspect.signature(self.fn)
        except (TypeError, ValueError):  # some builtins have none
            return
        if self.seed:
            if "seed" in kwargs:
                raise TypeError(f"{self.name}() gets its seed from the run (seed=True); do not pass seed=")
            kwargs = {**kwargs, "seed": 0}
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}; its signature is {self.name}{signature}") from None

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if instance is None:
            return self
        return functools.partial(self, instance)  # a decorated method: the instance is its first argument

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    @property
    def importable(self) -> bool:
        """Whether it is pickled by reference: another process finds it under its name."""
        module: str = getattr(self, "__module__", None) or ""
        qualname: str = self.__dict__.get("__qualname__") or ""
        return module != "" and qualname != "" and _lookup(module, qualname) is self and not _by_value(module)

    # A task is pickled by reference where its name leads back to it: otherwise cloudpickle, not finding the plain
    # function under that name (the task stands there), would ship it by value with all its globals.
    def __reduce__(self) -> Any:
        if self.importable:
            return _import, (self.__module__, self.__dict__["__qualname__"])
        state = (self.fn, self.name, self.kind, {k: v for k, v in self._options.items() if v != DEFAULTS[k]})
        return _blank, (), state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        fn, name, kind, options = state
        functools.update_wrapper(self, fn, updated=())
        self._set(fn, name, kind, {**DEFAULTS, **options})


def _by_value(module: str) -> bool:
    """Whether what is in a module travels by value: the main module, and those that cloudpickle was told of."""
    if module == "__main__":
        return True
    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle is not None and module in cloudpickle.list_registry_pickle_by_value()


def own(module: str, variable: str, fn: Callable[..., Any], name: str, kind: str = "call") -> Task:
    """One of graphray's own tasks, which is found under a variable: so every process has the same one."""
    made = Task(fn, name, kind)
    made.__module__ = module
    made.__dict__["__qualname__"] = variable
    return made


def _blank() -> Task:
    return Task.__new__(Task)


def _lookup(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _import(module: str, qualname: str) -> Any:
    import importlib

    importlib.import_module(module)
    found = _lookup(module, qualname)
    if found is None:
        raise ImportError(f"the task {qualname} is not in the module {module} here; do both sides have the same code?")
    return found


def _name_of(fn: Any) -> str:
    name = getattr(fn, "__name__", None)
    if name is None and isinstance(fn, functools.partial):
        return _name_of(fn.func)
    return name or type(fn).__name__


def _arity(fn: Any) -> tuple[int, int]:
    """Fewest and most positional arguments a call without keywords may have: a check that costs nothing per call."""
    code = getattr(fn, "__code__", None)
    if code is None or hasattr(fn, "__wrapped__") or fn.__class__.__name__ != "function":
        return 0, sys.maxsize
    if code.co_kwonlyargcount > len(fn.__kwdefaults__ or ()):
        return sys.maxsize, 0  # a keyword is missing: let _check say so
    high = sys.maxsize if code.co_flags & 0x04 else code.co_argcount  # 0x04: it has *args
    return code.co_argcount - len(fn.__defaults__ or ()), high


if TYPE_CHECKING:
    from typing import overload

    @overload
    def task(fn: Callable[..., Any], /) -> Task: ...
    @overload
    def task(
        *,
        name: str | None = None,
        outputs: int | None = None,
        pure: bool = True,
        seed: bool = False,
        version: str | None = None,
        cache: bool | None = None,
        jit: bool = False,
        retries: int = 0,
        retry_on: type[Exception] | tuple[type[Exception], ...] = (Exception,),
        backoff: float = 0.1,
        timeout: float | None = None,
        resources: Mapping[str, float | str] | None = None,
        near: Any = None,
    ) -> Callable[[Callable[..., Any]], Task]: ...
    def task(fn: Any = None, /, **options: Any) -> Any:
        """Make a function lazy."""

else:

    def task(fn: Any = None, /, **options: Any) -> Any:
        """Make a function lazy: `@gr.task` or `@gr.task(option=…)`. Its calls give nodes; `task.fn` is the function.

        Args:
            fn: the function; anything callable.
            name: what it is called in graphs and messages (the function's name by default).
            outputs: the function returns a tuple of this length, and a node of it unpacks: `a, b = split(x)`.
            pure: False for a function that reads clocks, unseeded randomness or other outside state, or acts on the
                world: its nodes have no digest and are never merged or cached.
            seed: the function gets the keyword argument `seed`, an integer in [0, 2**63) derived from the run's root
                seed and the node's digest: the same on every engine, in any order and on every retry.
            version: identity of the function in place of its code: change it by hand when results change.
            cache: True to cache results in the default directory, False never to, None as the run says.
            jit: compile the function with `jax.jit`.
            retries: how many times a failing call is made again before its error counts.
            retry_on: types of errors after which it is made again; others count at once.
            backoff: seconds before it is made again; twice as many each further time, a minute at most, and up to a
                quarter more or less by chance. Meanwhile other nodes run.
            timeout: longest time for one call, in seconds. On a pool the process is killed then, and replaced;
                in-process a call that took longer fails when it returns. A failed attempt, of type `gr.TaskTimeout`.
            resources: what one call needs of the machine that it runs on, such as `{"gpu": 1, "memory": "4GB"}`, or
                anything else that the executor was told of. It begins where so much is free, and a call that no
                machine can hold fails at once, with `gr.ResourceError`.
            near: ask softly for the worker that last ran a node with this key; a hashable value, or a function that
                gives one from the call's arguments.

        Raises:
            TypeError: not a callable, or an unknown option.
            ValueError: an option has a value that makes no sense.
        """
        name = options.pop("name", None)
        unknown = sorted(set(options) - set(DEFAULTS))
        if unknown:
            raise TypeError(f"gr.task has no option {unknown[0]!r}; there are name, {', '.join(DEFAULTS)}")
        _check_options(options)
        if fn is None:
            return lambda f: task(f, name=name, **options)
        if isinstance(fn, Task):
            return Task(fn.fn, name or fn.name, **{**fn.options, **options})
        if not callable(fn):
            raise TypeError(f"gr.task needs a function, not {type(fn).__name__}")
        return Task(fn, name, **options)


def _check_options(options: dict[str, Any]) -> None:
    outputs, retries, timeout = options.get("outputs"), options.get("retries", 0), options.get("timeout")
    if outputs is not None and (type(outputs) is not int or outputs < 1):
        raise ValueError(f"outputs= is the number of results, 1 or more, not {outputs!r}")
    if type(retries) is not int or retries < 0:
        raise ValueError(f"retries= is a number of times, 0 or more, not {retries!r}")
    if timeout is not None and (type(timeout) not in (int, float) or not timeout > 0):
        raise ValueError(f"timeout= is a time in seconds above 0, not {timeout!r}")
    _check_retrying(options)
    if options.get("resources") is not None:
        options["resources"] = parse_resources(options["resources"])
    version = options.get("version")
    if version is not None and type(version) is not str:
        raise ValueError(f"version= is a text, not {version!r}")
    for name in ("pure", "seed", "jit"):
        if type(options.get(name, False)) is not bool:
            raise ValueError(f"{name}= is True or False, not {options[name]!r}")
    if type(options.get("cache")) not in (bool, type(None)):
        raise ValueError(f"cache= is True, False or None, not {options['cache']!r}")
    near = options.get("near")
    if not callable(near):
        try:
            hash(near)
        except TypeError:
            raise ValueError(
                f"near= is a hashable key, or a function that gives one from the call's arguments, not {near!r}"
            ) from None


def _check_retrying(options: dict[str, Any]) -> None:
    kinds = options.get("retry_on")
    if kinds is not None:
        kinds = kinds if type(kinds) is tuple else (kinds,)
        if not kinds or not all([isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds]):
            raise ValueError(f"retry_on= is a type of exception or a tuple of these, not {options['retry_on']!r}")
        options["retry_on"] = kinds
    backoff = options.get("backoff", 0)
    if type(backoff) not in (int, float) or not 0 <= backoff < float("inf"):
        raise ValueError(f"backoff= is a time in seconds, 0 or more, not {backoff!r}")


# By the function's address: sound, because a task that is alive keeps its function alive.
_tasks: weakref.WeakValueDictionary[int, Task] = weakref.WeakValueDictionary()


def as_task(fn: Any) -> Task:
    """The task of a function: itself if it is one already, else one task per function for as long as it is in use."""
    if isinstance(fn, Task):
        return fn
    if not callable(fn):
        raise TypeError(f"a function or task is needed here, not {type(fn).__name__}")
    known = _tasks.get(id(fn))
    if known is None or known.fn is not fn:
        known = _tasks[id(fn)] = Task(fn)
    return known


def call(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Node:
    """One node that calls `fn(*args, **kwargs)`, without a decorator.

    Raises:
        TypeError: `fn` is not callable, or the arguments do not fit its signature.
    """
    return as_task(fn)(*args, **kwargs)
