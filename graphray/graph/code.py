"""Identity of code: what a function does, by content, with everything it uses.

A function counts by its bytecode, constants, defaults and closure and, transitively, by the functions, classes, modules
and global values it uses. Names of files and modules, line numbers, comments, docstrings and annotations do not count.
A class counts by its names, bases and attributes. Code of the standard library and of installed packages goes by
its name and version; that of editable installs is the user's.

Code refers to code in circles. So everything that is reached is first collected as a graph of `Pending` parts, which
then get their digests from the leaves up (`_resolve`). Parts on a circle get the coarsest colouring that tells apart
what differs: the result depends neither on where one begins nor on addresses, and copies count as the same.

Not seen: what is found by `globals()`, `eval` or `getattr` with a computed name, and patches to installed packages.
A module that is imported inside a function is imported here too, if it is the user's, and counts by those of its
names that the function mentions. Seen without need, now and then: a line break inside a condition, which CPython
3.12 compiles to other jumps.
"""

from __future__ import annotations

import builtins
import os
import sys
import weakref
from functools import cache
from types import CodeType, FunctionType, ModuleType

from graphray.graph.hashing import SIZE, Pending, Unhashable, Walk, digest, mix, text_token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeAlias

    from graphray.graph.hashing import Token

    Instruction: TypeAlias = tuple[int, int, int, int]

_PYTHON = f"python {sys.version_info.major}.{sys.version_info.minor}"
_MISSING = object()


def function_digest(fn: Callable[..., Any], seen: Walk | None = None) -> bytes:
    """The digest of a function, class, or anything callable: 20 bytes, the same in every process.

    It changes when the function does, or anything of the user's that it uses, at any distance. It is computed anew in
    each call, so an edit in a notebook is seen. Of a class the name of its module counts too: `isinstance` tells equal
    classes of two modules apart.

    Args:
        fn: the function.
        seen: a `Walk` to share with other calls, as in `hash_value`.

    Raises:
        Unhashable: something it uses has no digest; the message says what, and what uses it.
    """
    return (Walk() if seen is None else seen).explorer.digest(fn)


def function_parts(fn: Any) -> dict[str, str]:
    """What a function's digest is made of: for each thing it reaches, by qualified name, a digest of that thing alone.

    There are functions and classes (`helpers.clean`) and global values (`helpers.RATE`), each with a digest in hex;
    packages (`numpy`) and `python` have their version there (`numpy==2.1.0`). Those whose entry differs between two
    versions are what was changed. Where several things have one name, such as functions made by the same factory, they
    are numbered: `make.<locals>.f (2)`.

    Raises:
        Unhashable: as in `function_digest`.
    """
    explorer = Walk().explorer
    explorer.digest(fn)
    return explorer.outline()


# ---- exploring


class Item(Pending):
    """A function, class or module of the user's: what it is made of is collected before its digest is known."""

    __slots__ = ("kind", "name", "object", "user", "uses")

    def __init__(self, x: Any, user: Item | None) -> None:
        super().__init__(b"", ())
        self.object = x
        self.user = user  # what was found to use it, for messages
        self.kind = "function" if type(x) is FunctionType else "class" if isinstance(x, type) else "module"
        self.name = x.__name__ if self.kind == "module" else f"{x.__module__}.{x.__qualname__}"
        self.uses: list[tuple[str, Token]] = []

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def close(self, tag: bytes) -> None:
        """All it uses is known."""
        self.tag = tag
        self.parts = [part for use, token in self.uses for part in (text_token(use), token)]


class Explorer(Walk):
    """A walk that follows what code uses."""

    explores = True

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        super().__init__()
        self.items: dict[int, Item] = {}  # by address; an item keeps its object
        self.todo: list[Item] = []
        self.current: Item | None = None
        self.origins: dict[str, str | None] = {}  # by name of a module
        self.nodes: set[Any] = set()  # those of graphs that code refers to
        self.used: set[str] = set()  # packages
        self.circles: dict[bytes, bytes] = {}

    @property
    def explorer(self) -> Explorer:
        """Itself."""
        return self

    def _digest(self, x: Any) -> bytes:
        try:
            token = self.token(x)
            while self.todo:
                self._explore(self.todo.pop())
        except BaseException:
            self.forget()  # items that were not explored must not be met again
            raise
        if isinstance(token, Pending):
            return token.digest or _resolve(token, self.circles)
        return token[1:] if token[0] == 35 else digest(token)

    def code(self, x: Any) -> Token:
        """The token of a function, class or module: pending, until all that it uses has been explored."""
        item = self.items.get(id(x))
        if item is None:
            item = self.items[id(x)] = Item(x, self.current)
            token = self.named(x)
            if token is not None:
                item.digest = token[1:]
            else:
                self.todo.append(item)
        return item if item.digest is None else b"#" + item.digest

    def _explore(self, item: Item) -> None:
        self.current = item
        try:
            if item.kind == "function":
                _explore_function(self, item, item.object)
            elif item.kind == "class":
                _explore_class(self, item, item.object)
            else:
                _explore_module(self, item, item.object)
        except Unhashable as error:
            cause = error.__cause__
            user: Item | None = item
            while user is not None:
                error = error.within(f"{user} uses ")
                user = user.user
            raise error from cause
        finally:
            self.current = None

    def use(self, item: Item, how: str, x: Any) -> None:
        """Note that an item uses a value."""
        try:
            item.uses.append((how, self.token(x)))
        except Unhashable as error:
            raise error.within(how) from error.__cause__

    # -- what goes by name

    def named(self, x: Any) -> bytes | None:
        """The token of what an installed package, the standard library or Python has under a name; else None."""
        if isinstance(x, ModuleType):
            origin = self.origin(x.__name__)
            return None if origin is None else self.by_name(origin, x.__name__, "")
        module: Any = getattr(x, "__module__", None)
        name: Any = getattr(x, "__qualname__", None)
        if type(module) is not str or type(name) is not str:
            return None
        origin = self.origin(module)
        if origin is None or _look_up(module, name) is not x:
            return None
        return self.by_name(origin, module, name)

    def by_name(self, origin: str, module: str, name: str) -> bytes:
        """The token of what has this name in a package of this name and version."""
        self.used.add(origin)
        return b"#" + digest(b"<named>" + b"".join(map(text_token, (origin, module, name))))

    def origin(self, module: str | None) -> str | None:
        """What stands for the content of a module: a package and its version. None for Python code of the user's."""
        if module is None:
            return None
        if module not in self.origins:
            self.origins[module] = _origin(module, sys.modules.get(module))
        return self.origins[module]

    # -- for people

    def outline(self) -> dict[str, str]:
        """What was met, by name."""
        found: dict[str, set[bytes]] = {}
        for item in self.items.values():
            if item.tag:  # not one that goes by its name
                own = [(use, token) for use, token in item.uses if not use.startswith("global ")]
                found.setdefault(item.name, set()).add(digest(b"".join(text_token(u) + _outline(t) for u, t in own)))
                module = item.name if item.kind == "module" else item.object.__module__
                for use, token in item.uses:
                    name = f"{module}.{use[7:]}"
                    if use.startswith("global ") and not (isinstance(token, Item) and token.name == name):
                        found.setdefault(name, set()).add(digest(_outline(token)))
        numbered = {"python": _PYTHON}
        for origin in sorted(self.used - {_PYTHON, "builtins"}):
            numbered[origin.partition("==")[0]] = origin
        for name, digests in sorted(found.items()):
            for i, one in enumerate(sorted(digests), 1):
                numbered[name if i == 1 else f"{name} ({i})"] = one.hex()
        return numbered


def _outline(token: Token) -> bytes:
    """A token in which functions and classes go by their names."""
    if not isinstance(token, Pending):
        return token
    if isinstance(token, Item):
        return b"#" + digest(str(token).encode())
    parts = map(_outline, token.parts)
    return b"#" + digest(token.tag + b"".join(sorted(parts) if token.unordered else parts))


def _explore_function(explorer: Explorer, item: Item, fn: FunctionType) -> None:
    home = fn.__globals__.get("__name__")
    origin = explorer.origin(home) if type(home) is str else None
    code = fn.__code__
    scan = scan_code(code)
    item.uses.append(("code", b"#" + scan.digest))
    if origin is not None:  # made by a function of a package, such as a decorator: the rest is in the version
        item.uses.append(("name", explorer.by_name(origin, str(home), code.co_qualname)))
    if home == "functools" and code.co_qualname == "singledispatch.<locals>.wrapper":
        explorer.use(item, "registry", fn.registry)  # type: ignore[attr-defined]  # the rest is a cache
        item.close(b"<function>")
        return
    arguments = code.co_varnames[: code.co_argcount]
    for name, value in zip(arguments[::-1], (fn.__defaults__ or ())[::-1], strict=False):
        explorer.use(item, f"default of {name}", value)
    for name, value in sorted((fn.__kwdefaults__ or {}).items()):
        explorer.use(item, f"default of {name}", value)
    for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            item.uses.append((f"empty closure variable {name}", b""))
            continue
        if origin is None and _is_module(explorer, value):
            _use_mentioned(explorer, item, value, scan.attributes, f"closure variable {name}")
        else:
            explorer.use(item, f"closure variable {name}", value)
    if "__wrapped__" in fn.__dict__:
        explorer.use(item, "__wrapped__", fn.__dict__["__wrapped__"])
    if origin is None:
        _use_globals(explorer, item, fn, scan)
    item.close(b"<function>")


# Attributes of a class that say nothing, or that say again what others do.
_OF_NO_ACCOUNT = frozenset(
    """__dict__ __weakref__ __doc__ __module__ __qualname__ __annotations__ __annotate__ __annotate_func__
    __annotations_cache__ __conditional_annotations__ __firstlineno__ __static_attributes__ __orig_bases__
    __parameters__ __type_params__ __abstractmethods__ _abc_impl __slotnames__ __dataclass_params__ __signature__
    __pydantic_core_schema__ __pydantic_validator__ __pydantic_serializer__ __pydantic_setattr_handlers__
    __pydantic_parent_namespace__""".split()
)

# What an enumeration keeps about its members.
_OF_ENUMERATIONS = frozenset(
    """_member_names_ _member_map_ _value2member_map_ _hashable_values_ _unhashable_values_
    _unhashable_values_map_""".split()
)


def _explore_class(explorer: Explorer, item: Item, cls: type) -> None:
    item.uses.append(("name", text_token(item.name)))
    if type(cls) is not type:
        explorer.use(item, "metaclass", type(cls))
    for i, base in enumerate(cls.__bases__):
        explorer.use(item, f"base {i}", base)
    attributes = {name: value for name, value in cls.__dict__.items() if name not in _OF_NO_ACCOUNT}
    members = getattr(cls, "__members__", None)
    if members is not None and "_member_map_" in attributes:  # an enumeration
        for name, member in members.items():
            explorer.use(item, f"member {name}", member._value_)
        attributes = {k: v for k, v in attributes.items() if k not in members and k not in _OF_ENUMERATIONS}
    for name in sorted(attributes):
        explorer.use(item, f"attribute {name}", attributes[name])
    item.close(b"<class>")


def _explore_module(explorer: Explorer, item: Item, module: ModuleType) -> None:
    """All of a module, where it is handed around as a value."""
    for name, value in sorted(vars(module).items()):
        # Submodules are attributes from when they are first imported, by whomsoever: they cannot count.
        if not name.startswith("__") and not (
            isinstance(value, ModuleType) and value.__name__ == f"{module.__name__}.{name}"
        ):
            explorer.use(item, f"global {name}", value)
    item.close(b"<module>")


# ---- globals

# Of a module's own, these say where its file is, or nothing.
_WHEREABOUTS = frozenset("__file__ __cached__ __loader__ __spec__ __path__ __doc__ __builtins__".split())


def _use_globals(explorer: Explorer, item: Item, fn: FunctionType, scan: Scan) -> None:
    done: set[str] = set()
    for chain in sorted(scan.chains):
        name = chain[0]
        if name in _WHEREABOUTS:
            continue
        value = fn.__globals__.get(name, _MISSING)
        how = "global"
        if value is _MISSING:
            value, how = _builtin(fn, name), "builtin"
        for attribute in chain[1:]:
            if isinstance(value, FunctionType) and attribute in vars(value):  # which are no part of its own digest
                _use_once(explorer, item, f"{how} {name}", value, done)
                name, value = f"{name}.{attribute}", vars(value)[attribute]
            elif _is_module(explorer, value):
                name, value = f"{name}.{attribute}", _attribute(value, attribute)
            else:
                break
        _use_once(explorer, item, f"{how} {name}", value, done)
    for level, name, members in sorted(scan.imports):
        _use_import(explorer, item, _absolute(fn, level, name), members, scan.attributes)


def _use_once(explorer: Explorer, item: Item, how: str, value: Any, done: set[str]) -> None:
    if how not in done:
        done.add(how)
        _use_global(explorer, item, how, value)


def _use_global(explorer: Explorer, item: Item, how: str, value: Any) -> None:
    if value is _MISSING:
        item.uses.append((f"missing {how}", b""))
    else:
        explorer.use(item, how, value)


def _builtin(fn: Any, name: str) -> Any:
    found = fn.__builtins__
    found = found.get(name, _MISSING) if isinstance(found, dict) else getattr(found, name, _MISSING)
    # A function that was pickled by value may come without them.
    return getattr(builtins, name, _MISSING) if found is _MISSING else found


def _is_module(explorer: Explorer, value: Any) -> bool:
    return isinstance(value, ModuleType) and explorer.origin(value.__name__) is None


def _attribute(module: ModuleType, name: str) -> Any:
    found = vars(module).get(name, _MISSING)
    if found is _MISSING and "__getattr__" in vars(module):
        found = getattr(module, name, _MISSING)
    return found


def _use_mentioned(explorer: Explorer, item: Item, module: ModuleType, names: Iterable[str], how: str) -> None:
    """Those attributes of a module whose names a function mentions."""
    todo, done = [(how, module)], set()
    while todo:
        path, module = todo.pop()
        done.add(module.__name__)
        for name in sorted(names):
            value = _attribute(module, name)
            if value is not _MISSING and not _is_module(explorer, value):
                explorer.use(item, f"{path}.{name}", value)
            elif value is not _MISSING and value.__name__ not in done:
                todo.append((f"{path}.{name}", value))


def _absolute(fn: FunctionType, level: int, name: str) -> str:
    if not level:
        return name
    package = fn.__globals__.get("__package__") or str(fn.__globals__.get("__name__", "")).rpartition(".")[0]
    base = package.rsplit(".", level - 1)[0]
    return f"{base}.{name}" if name else base


def _use_import(explorer: Explorer, item: Item, name: str, members: tuple[str, ...], mentioned: set[str]) -> None:
    """What an import inside a function brings."""
    import importlib
    import importlib.util

    top = name.partition(".")[0]
    try:
        spec = None if top in sys.modules else importlib.util.find_spec(top)
        origin = explorer.origin(top) if top in sys.modules else _origin(top, spec)
        if origin is not None:
            item.uses.append((f"import {name}", explorer.by_name(origin, name, "")))
            return
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        item.uses.append((f"missing import {name}", b""))
        return
    except Exception as error:
        raise Unhashable(f"it cannot be imported: {type(error).__name__}: {error}", f"module {name}") from error
    for member in members:
        value = _attribute(module, member)
        if value is _MISSING:
            try:
                value = importlib.import_module(f"{name}.{member}")
            except ModuleNotFoundError:
                value = _MISSING
        if value is not _MISSING and _is_module(explorer, value):
            _use_mentioned(explorer, item, value, mentioned, f"global {name}.{member}")
        else:
            _use_global(explorer, item, f"global {name}.{member}", value)
    if not members:  # `import a.b` binds a, `import a.b as c` binds a.b
        for bound in sorted({top, name}):
            _use_mentioned(explorer, item, sys.modules[bound], mentioned, f"global {bound}")


# ---- code objects

# The flags of a function that count: *args, **kwargs, generator, coroutine and their kin; not that it has a docstring.
_FLAGS = 0x04 | 0x08 | 0x20 | 0x80 | 0x100 | 0x200

# What the body of a class stores about itself.
_STORED = frozenset("__doc__ __firstlineno__ __static_attributes__ __qualname__".split())


class Scan:
    """What a code object does (`digest`) and what it refers to, code inside it included.

    The digest is of the instructions in a normal form, in which constants and names stand in the instructions that use
    them, and jumps lead to the n-th instruction. So docstrings, which are constants too, constants that were folded
    away, and what the compiler adds or joins depending on line breaks do not count. `co_code` is free of what the
    interpreter notes there while it runs.

    Attributes:
        chains: global names with the attributes read from them at once: `helpers.clean` is `("helpers", "clean")`.
        imports: level, name and members of each import statement.
        attributes: names of all attributes that are read.
    """

    def __init__(self, code: CodeType) -> None:
        walk = Walk()
        self.chains: set[tuple[str, ...]] = set()
        self.imports: set[tuple[int, str, tuple[str, ...]]] = set()
        self.attributes: set[str] = set()
        instructions = _instructions(code)
        number = _numbers(code, instructions)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS)
        parts = [
            *walk.tokens([*counts, code.co_varnames, code.co_freevars, code.co_cellvars], str),
            *self._body(code, instructions, number, walk),
            *_handlers(code, number),
        ]
        self._references(code, instructions)
        token = mix(f"<code {_PYTHON}>".encode(), parts)
        assert type(token) is bytes
        self.digest = token[1:]

    def _body(
        self, code: CodeType, instructions: list[Instruction], number: dict[int, int], walk: Walk
    ) -> Iterator[Token]:
        ops, names = _opcodes(), code.co_names
        constants: dict[int, Token] = {}
        for _, op, arg, after in instructions:
            if op in ops.pairs:
                first, second = ops.pairs[op]
                yield b"%c%d;%c%d;" % (first, arg >> 4, second, arg & 15)
                continue
            if op in ops.constants:
                if arg not in constants:
                    constants[arg] = self._constant(code.co_consts[arg], walk)
                yield b"%c" % op
                yield constants[arg]
            elif op in ops.names:
                shift = ops.names[op]
                yield b"%c%d;%b" % (op, arg & ((1 << shift) - 1), text_token(names[arg >> shift]))
            elif op in ops.jumps:
                yield b"%c%d;" % (op, number[after + 2 * ops.jumps[op] * arg])
            else:
                yield b"%c%d;" % (op, arg)

    def _constant(self, x: Any, walk: Walk) -> Token:
        if not isinstance(x, CodeType):
            return walk.token(x)
        inner = scan_code(x)
        self.chains |= inner.chains
        self.imports |= inner.imports
        self.attributes |= inner.attributes
        return b"#" + inner.digest

    def _references(self, code: CodeType, instructions: list[Instruction]) -> None:
        ops, names, consts = _opcodes(), code.co_names, code.co_consts
        chain: tuple[str, ...] = ()
        loaded: list[Any] = [None, None]  # an import loads its level and its members first
        for _, op, arg, _ in [*instructions, (0, ops.nop, 0, 0)]:
            if op in ops.attributes:
                name = names[arg >> ops.names[op]]
                self.attributes.add(name)
                if chain:
                    chain = (*chain, name)
                continue
            if chain:
                self.chains.add(chain)
                chain = ()
            if op in ops.globals:
                chain = (names[arg >> ops.names[op]],)
            elif op in ops.constants:
                loaded.append(consts[arg])
            elif op == ops.small_int:
                loaded.append(arg)
            elif op == ops.import_name:
                self.imports.add((loaded[-2], names[arg], loaded[-1] or ()))


# By address of the code object: they do not change, so this is never out of date.
_scans: dict[int, tuple[weakref.ref[CodeType], Scan]] = {}


def scan_code(code: CodeType) -> Scan:
    """What is to be known of a code object."""
    key = id(code)
    known = _scans.get(key)
    if known is not None and known[0]() is code:
        return known[1]
    scan = Scan(code)
    _scans[key] = (weakref.ref(code, lambda _: _scans.pop(key, None)), scan)
    return scan


def _instructions(code: CodeType) -> list[Instruction]:
    """The instructions of a code object: where each begins, its number and operand, and where the next begins.

    Without those that do nothing, and those in which the body of a class stores what it is called, where it is, and its
    docstring.
    """
    ops, raw, names = _opcodes(), code.co_code, code.co_names
    found: list[Instruction] = []
    start = i = operand = 0
    while i < len(raw):
        op, operand = raw[i], operand << 8 | raw[i + 1]
        i += 2
        if op == ops.extended_arg:
            continue
        while i < len(raw) and not raw[i]:  # caches, which belong to the instruction before
            i += 2
        if (
            op == ops.store_name
            and names[operand] in _STORED
            and found
            and found[-1][1] in (*ops.constants, ops.small_int)
        ):
            found.pop()
        elif op != ops.nop:
            found.append((start, op, operand, i))
        start, operand = i, 0
    return found


def _numbers(code: CodeType, instructions: list[Instruction]) -> dict[int, int]:
    """For each place where an instruction may begin, the number of the first instruction from there on."""
    pairs = _opcodes().pairs
    numbers: dict[int, int] = {}
    place = count = 0
    for start, op, _, _ in instructions:
        while place <= start:
            numbers[place] = count
            place += 2
        count += 2 if op in pairs else 1
    while place <= len(code.co_code):
        numbers[place] = count
        place += 2
    return numbers


def _handlers(code: CodeType, number: dict[int, int]) -> Iterator[bytes]:
    """Which exception handler is for which instructions (`Objects/exception_handling_notes.txt` in CPython)."""
    values: list[int] = []
    value = 0
    for byte in code.co_exceptiontable:
        value = value << 6 | byte & 63
        if not byte & 64:
            values.append(value)
            value = 0
    merged: list[tuple[int, int, int, int]] = []
    for start, length, target, depth in zip(*[iter(values)] * 4, strict=True):
        one = (number[2 * start], number[2 * (start + length)], number[2 * target], depth)
        if merged and merged[-1][1:] == (one[0], *one[2:]):
            one = (merged.pop()[0], *one[1:])
        if one[0] < one[1]:
            merged.append(one)
    for one in merged:
        yield b"%d-%d:%d,%d;" % one


class _Opcodes:
    """The instructions that need a closer look, by number, in this version of Python."""

    def __init__(self) -> None:
        import opcode
        import re

        of = opcode.opmap
        later = sys.version_info >= (3, 12)
        self.nop = of["NOP"]
        self.extended_arg = of["EXTENDED_ARG"]
        self.import_name = of["IMPORT_NAME"]
        self.store_name = of["STORE_NAME"]
        self.small_int = of.get("LOAD_SMALL_INT")  # 3.14
        self.constants = frozenset(opcode.hasconst)
        # By how many bits an operand is shifted: the lower ones are flags.
        shifts = {"LOAD_GLOBAL": 1, "LOAD_ATTR": 1 if later else 0, "LOAD_SUPER_ATTR": 2}
        self.names = {op: shifts.get(opcode.opname[op], 0) for op in opcode.hasname}
        self.jumps = {op: -1 if "BACKWARD" in opcode.opname[op] else 1 for op in opcode.hasjrel}
        self.globals = {of[name] for name in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS") if name in of}
        self.attributes = {of["LOAD_ATTR"], of["LOAD_ATTR"] if later else of["LOAD_METHOD"]}
        # Two in one, which the compiler makes of those on one line.
        pair = re.compile("((?:LOAD|STORE)_FAST(?:_BORROW)?)_((?:LOAD|STORE)_FAST(?:_BORROW)?)")
        found = ((op, pair.fullmatch(name)) for name, op in of.items())
        self.pairs = {op: (of[match[1]], of[match[2]]) for op, match in found if match}


@cache
def _opcodes() -> _Opcodes:
    return _Opcodes()


# ---- where code comes from


def _look_up(module: str, qualname: str) -> Any:
    first, *rest = qualname.split(".")
    namespace: dict[str, Any] = getattr(sys.modules.get(module), "__dict__", {})
    found = namespace.get(first)  # not by getattr, which a module may answer with a warning
    for part in rest:
        found = getattr(found, part, None)
    return found


def _origin(name: str, source: Any) -> str | None:
    """What stands for the content of a module, which is given itself or by its spec."""
    top = name.partition(".")[0]
    if name == "builtins":
        return name
    if top == __name__.partition(".")[0]:
        import graphray

        return f"{top}=={graphray.__version__}"
    if name == "__main__" or source is None:
        return None
    file = _file_of(source)
    if file is None:
        return _PYTHON if top in sys.stdlib_module_names and not hasattr(source, "__path__") else None
    directories = file.split(os.sep)
    if "site-packages" in directories or "dist-packages" in directories:
        return _distribution(top)
    if file.startswith(os.path.dirname(os.__file__) + os.sep) or top in sys.builtin_module_names:
        return _PYTHON
    if not file.endswith((".py", ".pyc")) and os.path.isfile(file):  # compiled by the user: by its content
        with open(file, "rb") as stream:
            return f"{top}=={digest(stream.read()).hex()}"
    return None


def _file_of(source: Any) -> str | None:
    """Where a module, or its spec, comes from; for a package without a file, its directory."""
    spec = getattr(source, "__spec__", None) or source
    for file in (
        getattr(source, "__file__", None),
        getattr(spec, "origin", None) if getattr(spec, "has_location", False) else None,
    ):
        if type(file) is str:
            return file
    for directory in getattr(source, "__path__", None) or getattr(spec, "submodule_search_locations", None) or ():
        return os.path.join(directory, "__init__.py")
    return None


_distributions: dict[str, str | None] = {}


def _distribution(top: str) -> str | None:
    """The distribution that installed a package, and its version; None if nothing says so."""
    if top not in _distributions:
        from importlib import metadata

        try:
            _distributions[top] = f"{top}=={metadata.version(top)}"
        except metadata.PackageNotFoundError:
            names = sorted(set(metadata.packages_distributions().get(top, ())))
            _distributions[top] = " ".join(f"{name}=={metadata.version(name)}" for name in names) or None
    return _distributions[top]


# ---- from a graph of parts to digests


def _resolve(root: Pending, circles: dict[bytes, bytes]) -> bytes:
    """Give a digest to `root` and everything it leads to.

    Args:
        root: it has none yet.
        circles: by what the digest would be outside any circle, the digests of parts on circles. A part that is made
            of the same as one on a circle is the same, and gets the same.
    """
    for component in _components(root):
        if len(component) == 1 and component[0] not in component[0].parts:
            one = _colour(component[0], {})
            component[0].digest = circles.get(one, one)
            continue
        colours = dict.fromkeys(component, bytes(SIZE))
        count = 1
        while True:  # refine, until nothing more can be told apart
            finer = {part: _colour(part, colours) for part in component}
            refined = len(set(finer.values()))
            if refined == count:
                break
            colours, count = finer, refined
        # Each colour is defined by the one before it of what it leads to: together that is the circle's content.
        circle = b"".join(sorted({colours[part] + finer[part] for part in component}))
        for part in component:
            part.digest = digest(b"<circle>" + finer[part] + circle)
        for part in component:
            circles[_colour(part, {})] = part.digest  # type: ignore[assignment]
    assert root.digest is not None
    return root.digest


def _colour(pending: Pending, colours: dict[Pending, bytes]) -> bytes:
    parts = [p if type(p) is bytes else b"#" + (p.digest or colours[p]) for p in pending.parts]  # type: ignore[union-attr, index]
    return digest(pending.tag + b"".join(sorted(parts) if pending.unordered else parts))


def _components(root: Pending) -> Iterator[list[Pending]]:
    """The strongly connected components without digests, each after those it leads to.

    Source: R. Tarjan, "Depth-first search and linear graph algorithms", SIAM J. Comput. 1 (1972); without recursion.
    """
    number: dict[Pending, int] = {root: 0}  # in order of discovery
    low: dict[Pending, int] = {root: 0}
    open_parts = [root]
    is_open = {root}
    path = [(root, iter(root.parts))]
    while path:
        pending, rest = path[-1]
        for part in rest:
            if not isinstance(part, Pending) or part.digest is not None:
                continue
            if part not in number:
                number[part] = low[part] = len(number)
                open_parts.append(part)
                is_open.add(part)
                path.append((part, iter(part.parts)))
                break
            if part in is_open:
                low[pending] = min(low[pending], number[part])
        else:
            path.pop()
            if path:
                low[path[-1][0]] = min(low[path[-1][0]], low[pending])
            if low[pending] == number[pending]:
                component: list[Pending] = []
                while not component or component[-1] is not pending:
                    component.append(open_parts.pop())
                    is_open.discard(component[-1])
                yield component
