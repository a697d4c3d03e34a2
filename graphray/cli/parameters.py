"""Parameters of a pipeline: what `--set` can give, of which types, and what the help says about them."""

from __future__ import annotations

import inspect
import re
import typing

from graphray.cli.errors import UsageError
from graphray.cli.values import describe, expected, kind_of, parse, typed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any


# The section of a docstring: its title, and all lines below it that are indented or empty.
_ARGS = re.compile(r"^(?:Args|Arguments|Parameters):[ \t]*\n((?:[ \t]+.*\n|[ \t]*\n)*)", re.MULTILINE)


class Parameter:
    """One parameter of a pipeline, or one symbolic input of a graph.

    Attributes:
        name: its name in `--set`.
        kind: its type, as far as it is known.
        default: its default, `...` where there is none.
        help: what the documentation says about it.
    """

    def __init__(self, name: str, kind: Any, default: Any = ..., help: str = "") -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.help = help

    def parse(self, text: str) -> Any:
        """The value that a text stands for.

        Raises:
            UsageError: it is no value of the parameter's type.
        """
        try:
            return parse(text, self.kind)
        except ValueError:
            raise UsageError(f"--set {self.name}={text}: {text!r} is not {expected(self.kind)}") from None
        except TypeError:
            raise UsageError(
                f"--set {self.name}={text}: a value of type {describe(self.kind)} cannot be given on the command line"
            ) from None


def of_function(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters of a pipeline function; none of a `**kwargs` or `*args`."""
    hints = _hints(function)
    helps = described(inspect.getdoc(function) or "")
    found = {}
    for p in inspect.signature(function).parameters.values():
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        default = ... if p.default is p.empty else p.default
        kind = hints[p.name] if p.name in hints else kind_of(default)
        if default is None and p.name in hints:
            kind = typing.Optional[kind]  # noqa: UP045  (the operator would refuse some types)
        found[p.name] = Parameter(p.name, kind, default, helps.get(p.name, ""))
    return found


def of_inputs(inputs: Mapping[str, Any]) -> dict[str, Parameter]:
    """The symbolic inputs of a graph as parameters, with types from their defaults."""
    return {name: Parameter(name, kind_of(default), default) for name, default in inputs.items()}


def assignments(texts: Iterable[str]) -> dict[str, str]:
    """`name=value` texts as a mapping.

    Raises:
        UsageError: a text without `=`, or a name given twice.
    """
    given: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"--set {text}: write it as --set NAME=VALUE")
        if name in given:
            raise UsageError(f"--set {name}= is given twice")
        given[name] = value
    return given


def table(parameters: Iterable[Parameter]) -> str:
    """The parameters for the help: name, type, default and description in columns."""
    rows = []
    for p in parameters:
        kind = describe(p.kind)
        default = "(required)" if p.default is ... else f"= {shown(p.default)}"
        rows.append((p.name + (f": {kind}" if kind else ""), default, p.help))
    if not rows:
        return ""
    import shutil
    import textwrap

    first, second = (min(36, max(len(row[i]) for row in rows)) for i in (0, 1))
    indent = 2 + first + 2 + second + 2
    width = max(24, shutil.get_terminal_size((100, 24)).columns - 1 - indent)
    lines = []
    for name, default, text in rows:
        left = f"  {name:<{first}}  {default:<{second}}  "
        wrapped = textwrap.wrap(text, width) or [""]
        if len(left) > indent and text:
            lines.append(left.rstrip())
            left = " " * indent
        lines.append((left + wrapped[0]).rstrip())
        lines += [" " * indent + line for line in wrapped[1:]]
    return "\n".join(lines)


def described(documentation: str) -> dict[str, str]:
    """Descriptions by name from the `Args:` section of a docstring in Google's style."""
    section = _ARGS.search(documentation + "\n")
    if not section:
        return {}
    lines = [line for line in inspect.cleandoc(section[1]).splitlines() if line.strip()]
    found: dict[str, str] = {}
    name = None
    for line in lines:
        entry = re.match(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)", line)
        if entry:
            name = entry[1]
            found[name] = entry[2]
        elif name is not None:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations as types; where one cannot be resolved, those that can."""
    inner = inspect.unwrap(function)
    inner = getattr(inner, "func", inner)  # functools.partial
    try:
        return typing.get_type_hints(inner, include_extras=True)
    except Exception:  # a name that exists for type checkers only, for instance
        pass
    hints = {}
    for name, annotation in getattr(inner, "__annotations__", {}).items():
        try:
            scope = getattr(inner, "__globals__", {})
            hints[name] = eval(annotation, scope) if isinstance(annotation, str) else annotation
        except Exception:
            hints[name] = typing.Any
    return hints


def shown(value: Any) -> str:
    """A default or given value, in a few characters."""
    text = " ".join(typed(value).splitlines())
    if text != text.strip() or text == "":
        text = repr(value)
    return text if len(text) <= 40 else text[:38].rstrip() + " …"
