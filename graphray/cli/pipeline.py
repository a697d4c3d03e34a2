"""Pipelines: what a file defines, made into a graph with the parameters that the command line gives."""

from __future__ import annotations

import inspect
import os

from graphray.cli import parameters
from graphray.cli.errors import UsageError, a, listing, suggestion
from graphray.cli.load import load
from graphray.cli.tracebacks import of_users
from graphray.graph.dataflow import Graph
from graphray.graph.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType
    from typing import Any

    from graphray.cli.parameters import Parameter

# What a pipeline file is looked through for.
NAMES = ("graph", "pipeline")


class Pipeline:
    """A graph, or a function that makes one.

    Attributes:
        name: how it is called in messages: `pipeline.py`, `pipeline.py:name`.
        parameters: what can be set, by name.
        documentation: what it says about itself.
    """

    def __init__(self, name: str, module: ModuleType, made: Graph | Callable[..., Any]) -> None:
        self.name = name
        self._made = made
        if isinstance(made, Graph):
            self.documentation = inspect.getdoc(module) or ""
            self.parameters = _inputs(name, made)
        else:
            self.documentation = inspect.getdoc(made) or inspect.getdoc(module) or ""
            try:
                self.parameters = parameters.of_function(made)
            except (TypeError, ValueError):  # some builtins do not say what they take
                raise UsageError(f"{name}: the parameters of {_name_of(made)}() are not known") from None

    def build(
        self, given: Mapping[str, str], targets: Sequence[str] = (), seed: int | None = None
    ) -> tuple[Graph, dict[str, Any]]:
        """The graph of the outputs that are wanted, with parameters set; and the values of all parameters.

        Args:
            given: texts by name.
            targets: names of outputs; all of them if there are none.
            seed: also the value of a parameter called `seed`, unless that is given.

        Raises:
            UsageError: an unknown parameter or output, a value of the wrong type, one that is missing, or a function
                that raises or returns something else than a graph.
        """
        own = {name: text for name, text in given.items() if name in self.parameters}
        if isinstance(self._made, Graph):
            self._check_known(given, self.parameters)
            return _bound(chosen(self._made, targets), self.parameters, own)
        if seed is not None and "seed" in self.parameters and "seed" not in own:
            own["seed"] = str(seed)
        values = {name: self.parameters[name].parse(text) for name, text in own.items()}
        missing = [p.name for p in self.parameters.values() if p.default is ... and p.name not in values]
        if missing:
            self._check_known(given, self.parameters)  # a mistyped name is the likelier reason
            raise UsageError(f"{self.name} needs a value for {listing(missing)}: --set {missing[0]}=VALUE")
        graph = self._call(values)
        # What the function leaves open, as symbolic inputs of the graph, can be set as well.
        inputs = _inputs(self.name, graph)
        self._check_known(given, {**self.parameters, **inputs})
        rest = {name: text for name, text in given.items() if name not in own}
        graph, bound = _bound(chosen(graph, targets), inputs, rest)
        return graph, {**{p.name: values.get(p.name, p.default) for p in self.parameters.values()}, **bound}

    def _call(self, values: Mapping[str, Any]) -> Graph:
        function = self._made
        assert not isinstance(function, Graph)
        signature = inspect.signature(function)
        call = inspect.BoundArguments(signature, dict(values))
        call.apply_defaults()
        try:
            made = function(*call.args, **call.kwargs)
        except Exception as error:
            raise UsageError(f"{self.name}: {_name_of(function)}() failed\n{of_users(error)}") from error
        except SystemExit as error:
            raise UsageError(f"{self.name}: {_name_of(function)}() called exit({error.code!r})") from error
        if isinstance(made, (Graph, Node)):
            return Graph(made)
        if inspect.iscoroutine(made):
            made.close()
        advice = "; make it one: gr.Graph(**outputs)" if isinstance(made, dict) else ""
        kind = "None" if made is None else a(type(made).__name__)
        raise UsageError(f"{self.name}: {_name_of(function)}() returned {kind}, not a Graph or a Node{advice}")

    def _check_known(self, given: Mapping[str, str], known: Mapping[str, Parameter]) -> None:
        for name in given:
            if name not in known:
                there = f"; there are {listing(known)}" if known else "; it has none"
                raise UsageError(f"{self.name} has no parameter {name!r}{suggestion(name, known) or there}")


def open_pipeline(text: str) -> Pipeline:
    """The pipeline that `pipeline.py` or `pipeline.py:name` means.

    Raises:
        UsageError: no such file, an error while it is imported, or no graph in it.
    """
    path, name = _split(text)
    module = load(path)
    if name is None:
        name = _the_one(path, module)
        shown = path
    else:
        shown = text
        if not hasattr(module, name):
            there = _pipelines(module)
            near = suggestion(name, there) or (f"; it defines {listing(there)}" if there else "")
            raise UsageError(f"{path} defines no {name!r}{near}")
    made = getattr(module, name)
    if isinstance(made, (Graph, Node)):
        return Pipeline(shown, module, Graph(made))
    if callable(made):
        return Pipeline(shown, module, made)
    raise _not_a_pipeline(path, name, made)


def chosen(graph: Graph, targets: Sequence[str]) -> Graph:
    """The graph of some outputs only; all of it if none are named.

    Raises:
        UsageError: there is no output of that name.
    """
    if not targets:
        return graph
    names = list(graph.outputs)
    if names == [None]:
        raise UsageError(f"--target {targets[0]}: the graph has one output, without a name")
    for target in targets:
        if target not in names:
            near = suggestion(target, names)
            raise UsageError(f"the graph has no output {target!r}{near or f'; there are {listing(names)}'}")
    return graph.subgraph(*dict.fromkeys(targets))


def _split(text: str) -> tuple[str, str | None]:
    if os.path.exists(text):
        return text, None
    path, colon, name = text.rpartition(":")
    if colon and (name.isidentifier() or os.path.exists(path)):
        if not name.isidentifier():
            raise UsageError(f"{name!r}, after the colon of {text}, is no name")
        return path, name
    return text, None


def _the_one(path: str, module: ModuleType) -> str:
    found = [name for name in NAMES if _is_pipeline(getattr(module, name, None))]
    if len(found) > 1:
        raise UsageError(f"{path} defines both graph and pipeline; say which: {path}:graph or {path}:pipeline")
    if found:
        return found[0]
    for name in NAMES:
        if hasattr(module, name) and not inspect.ismodule(getattr(module, name)):
            raise _not_a_pipeline(path, name, getattr(module, name))
    raise UsageError(f"{path} defines neither graph nor pipeline(){_others(path, module)}")


def _not_a_pipeline(path: str, name: str, x: Any) -> UsageError:
    kind = "None" if x is None else a(type(x).__name__)
    return UsageError(f"{name} in {path} is {kind}, not a Graph, a Node or a function that returns one")


def _is_pipeline(x: Any) -> bool:
    return isinstance(x, (Graph, Node)) or callable(x)


def _pipelines(module: ModuleType) -> list[str]:
    """Names of the graphs, nodes and functions that a module defines itself."""
    own = []
    for name, x in vars(module).items():
        here = inspect.isfunction(x) and x.__module__ == module.__name__
        if not name.startswith("_") and (isinstance(x, (Graph, Node)) or here):
            own.append(name)
    return own


def _others(path: str, module: ModuleType) -> str:
    graphs = [name for name in _pipelines(module) if isinstance(getattr(module, name), (Graph, Node))]
    if not graphs:
        return ""
    return f"; it has {listing(graphs)}: name one after a colon, {path}:{graphs[0]}"


def _inputs(name: str, graph: Graph) -> dict[str, Parameter]:
    try:
        return parameters.of_inputs(graph.inputs)
    except TypeError as error:
        raise UsageError(f"{name}: {error}") from None


def _bound(graph: Graph, inputs: Mapping[str, Parameter], given: Mapping[str, str]) -> tuple[Graph, dict[str, Any]]:
    """The graph with the inputs that it has bound, and the values of these."""
    values = {name: inputs[name].parse(text) for name, text in given.items()}
    needed = graph.inputs
    missing = [name for name in needed if needed[name] is ... and name not in values]
    if missing:
        raise UsageError(f"the graph needs a value for its input {listing(missing)}: --set {missing[0]}=VALUE")
    values = {name: values[name] for name in needed if name in values}
    return graph.bind(**values) if values else graph, {**needed, **values}


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", None) or type(function).__name__
