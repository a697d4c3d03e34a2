"""Digests of values: equal content gives equal bytes, in every process and under every hash seed.

What is hashed (the pre-image) names the type of everything in it, so that `1`, `1.0`, `True` and `"1"` differ, and is
built from tokens that say themselves where they end:

    i2a;   d········   s3:abc   …      an atom, as it is
    p…:    16 or more atoms of one type, as one block
    #······                            anything else: the digest of its own pre-image, `<kind>` and tokens of its parts

Shared parts are hashed once, and count as copies would. Functions, classes and modules are told apart by what
`graphray.graph.code` finds in them.
"""

from __future__ import annotations

import copyreg
import sys
from collections import OrderedDict
from functools import cached_property
from hashlib import blake2b
from struct import Struct
from types import (
    BuiltinFunctionType,
    CellType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    from graphray.graph.code import Explorer

    # A part of a pre-image. While code is explored, what refers to code is `Pending`; otherwise all is bytes.
    Token: TypeAlias = "bytes | Pending"
    Handler: TypeAlias = Callable[["Walk", Any], Token]

SIZE = 20  # bytes of a digest
_PACK = 16  # from this length on, atoms of one type go into one block
_CHUNK = 1 << 24  # bytes of an array that is not contiguous that are copied at a time


class Unhashable(TypeError):
    """A value has no digest. The message says which type and where: `args[0]["x"].lock: a '_thread.lock' …`.

    Attributes:
        reason: what cannot be hashed, without the place.
        path: the way to it from what was asked for, such as `[0]["x"].lock`; empty for the thing itself.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def within(self, place: str) -> Unhashable:
        """The same error seen from further out: `place` goes before its path."""
        if not place:
            return self
        glue = "" if not self.path or self.path[0] in "[." or place.endswith(" ") else ": "
        return Unhashable(self.reason, place + glue + self.path).with_traceback(self.__traceback__)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


def hash_value(x: Any, seen: Walk | None = None) -> bytes:
    """The digest of a value: 20 bytes (BLAKE2b), equal for equal values of equal types.

    Atoms, lists, tuples, dicts, sets and arrays (by dtype, shape and C-order content) are read directly; dicts and sets
    do not depend on order. An object may define `__graphray_digest__()`, which returns bytes or text that stand for its
    content. Any other object counts by its class and by what `pickle` would save of it, part by part. A function or
    class counts by its code and what that uses (`graphray.graph.code`).

    Args:
        x: the value. It must not be changed meanwhile.
        seen: a `Walk` to share with other calls, so that what they have in common is hashed once. Valid for as long as
            nothing that was hashed with it changes.

    Raises:
        Unhashable: there is something in it that has no content to go by (a lock, an open file, a generator), that
            contains itself, or that is nested too deeply; the message names its type and the path to it.
    """
    encode = _ATOMS.get(type(x))
    if encode is not None:
        return digest(encode(x))
    return (Walk() if seen is None else seen).digest(x)


def register(kind: type, function: Callable[[Any], Any], parts: Callable[[Any], Any] | None = None) -> None:
    """Say how instances of exactly `kind` are hashed.

    Args:
        kind: the type.
        function: `function(x)` returns the digest of `x` (bytes), or any other value: it is hashed in the place of `x`.
        parts: `parts(x)` returns a value in the same way and is asked instead while code is explored. What leads to
            functions needs it, since these may refer to it: `function` would be asked again before it has answered.
    """

    def handler(walk: Walk, x: Any) -> Token:
        result = function(x) if parts is None or not walk.explores else parts(x)
        if type(result) is not bytes:
            return walk.token(result)
        return b"#" + (result if len(result) == SIZE else digest(b"<digest>" + result))

    register_handler(kind, handler)


def register_handler(kind: type, handler: Handler) -> None:
    """Say how instances of exactly `kind` are hashed by a function of the walk that meets them, and of the instance."""
    _HANDLERS[kind] = handler


def digest(preimage: bytes) -> bytes:
    """The hash function, of a whole pre-image."""
    return blake2b(preimage, digest_size=SIZE).digest()


class Pending:
    """A part whose digest is not known yet, because it refers to functions or classes that may refer back to it."""

    __slots__ = ("digest", "parts", "tag", "unordered")

    def __init__(self, tag: bytes, parts: Sequence[Token], unordered: bool = False) -> None:
        self.tag = tag
        self.parts = parts
        self.unordered = unordered
        self.digest: bytes | None = None


def mix(tag: bytes, parts: Sequence[Token], unordered: bool = False) -> Token:
    """The token of something made of parts."""
    try:
        return b"#" + digest(tag + b"".join(sorted(parts) if unordered else parts))  # type: ignore[type-var, arg-type]
    except TypeError:  # not all of them are bytes
        return Pending(tag, parts, unordered)


class Walk:
    """One pass over values, which remembers what it has met."""

    explores = False  # whether it follows what code uses

    def __init__(self) -> None:
        # By address: the object, which keeps the address its own, and its token, or None while that is being made.
        self.memo: dict[int, tuple[Any, Token | None]] = {}
        self.handlers: dict[type, Handler] = {}
        self._explorer: Explorer | None = None

    def digest(self, x: Any) -> bytes:
        """The digest of a value.

        Raises:
            Unhashable: it has none.
        """
        try:
            return self._digest(x)
        except RecursionError:
            raise Unhashable(f"{describe(type(x))} with parts nested too deeply cannot be hashed") from None

    def _digest(self, x: Any) -> bytes:
        token = self.token(x)
        assert type(token) is bytes
        return token[1:] if token[0] == 35 else digest(token)  # 35: "#"

    def token(self, x: Any) -> Token:
        """What stands for `x` in the pre-image of what contains it."""
        kind = type(x)
        encode = _ATOMS.get(kind)
        if encode is not None:
            return encode(x)
        key = id(x)
        known = self.memo.get(key)
        if known is not None:
            token = known[1]
            if token is None:
                raise Unhashable(f"{describe(kind)} that contains itself cannot be hashed")
            return b"#" + token.digest if isinstance(token, Pending) and token.digest is not None else token
        self.memo[key] = (x, None)
        try:
            token = (_HANDLERS.get(kind) or self._handler(kind))(self, x)
        except BaseException:
            del self.memo[key]
            raise
        self.memo[key] = (x, token)
        return token

    def tokens(self, items: Iterable[Any], place: Callable[[int], str]) -> list[Token]:
        """The tokens of some items. `place` names the i-th of them in a message."""
        parts: list[Token] = []
        try:
            for item in items:
                encode = _ATOMS.get(type(item))
                parts.append(self.token(item) if encode is None else encode(item))
        except Unhashable as error:
            raise error.within(place(len(parts))) from error.__cause__
        return parts

    def parts(self, items: Sequence[Any], place: Callable[[int], str]) -> list[Token]:
        """The same, as one block where the items are many atoms of one type."""
        if len(items) >= _PACK:
            kinds = set(map(type, items))
            pack = _PACKERS.get(kinds.pop())
            block = pack(items) if pack is not None and not kinds else None
            if block is not None:
                return [block]
        return self.tokens(items, place)

    def code(self, x: Any) -> Token:
        """The token of a function, class or module."""
        return b"#" + self.explorer.digest(x)

    @property
    def explorer(self) -> Explorer:
        """The walk that follows what code uses; it has a memory of its own, in which parts may be pending."""
        if self._explorer is None:
            from graphray.graph.code import Explorer

            self._explorer = Explorer()
        return self._explorer

    def _handler(self, kind: type) -> Handler:
        handler = self.handlers.get(kind)
        if handler is None:
            handler = self.handlers[kind] = _find_handler(kind)
        return handler


def describe(kind: type) -> str:
    """A type, for messages."""
    return f"a {kind.__qualname__!r}" if kind.__module__ == "builtins" else f"a '{kind.__module__}.{kind.__qualname__}'"


# ---- atoms


def text_token(x: str) -> bytes:
    """The token of a text."""
    encoded = x.encode("utf-8", "surrogatepass")
    return b"s%d:%b" % (len(encoded), encoded)


_pack_float = Struct("<d").pack
_pack_complex = Struct("<dd").pack

_ATOMS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda x: b"N",
    bool: lambda x: b"T" if x else b"F",
    int: lambda x: b"i%x;" % x,
    float: lambda x: b"d" + _pack_float(x),  # by its bits: 0.0 and -0.0 differ, and a NaN equals itself
    complex: lambda x: b"c" + _pack_complex(x.real, x.imag),
    str: text_token,
    bytes: lambda x: b"b%d:%b" % (len(x), x),
    type(...): lambda x: b"E",
    type(NotImplemented): lambda x: b"I",
}


# ---- many atoms of one type: no Python call for each


def _pack_array(code: str, items: Sequence[Any]) -> bytes:
    from array import array

    block = array(code, items)
    if sys.byteorder == "big":
        block.byteswap()
    return block.tobytes()


def _pack_ints(items: Sequence[int]) -> bytes | None:
    try:
        return b"pi%d:%b" % (len(items), _pack_array("q", items))
    except OverflowError:  # some have more than 64 bits
        return None


def _pack_floats(items: Sequence[float]) -> bytes:
    return b"pd%d:%b" % (len(items), _pack_array("d", items))


def _pack_bools(items: Sequence[bool]) -> bytes:
    return b"po%d:%b" % (len(items), bytes(items))


def _pack_texts(items: Sequence[str]) -> bytes:
    text = "".join(items).encode("utf-8", "surrogatepass")
    return b"ps%d:%b%d:%b" % (len(items), _pack_array("q", list(map(len, items))), len(text), text)


def _pack_bytes(items: Sequence[bytes]) -> bytes:
    content = b"".join(items)
    return b"pb%d:%b%d:%b" % (len(items), _pack_array("q", list(map(len, items))), len(content), content)


_PACKERS: dict[type, Callable[[Any], bytes | None]] = {
    int: _pack_ints,
    float: _pack_floats,
    bool: _pack_bools,
    str: _pack_texts,
    bytes: _pack_bytes,
}
_SORTABLE = frozenset({int, str, bytes})  # a total order that agrees with equality


# ---- containers


def _index(i: int) -> str:
    return f"[{i}]"


def _key(key: Any) -> str:
    if type(key) is str:
        return f'["{key}"]'
    return f"[{key!r}]" if type(key) in _ATOMS else f"[a key of type {type(key).__qualname__}]"


def _list(walk: Walk, x: list[Any]) -> Token:
    return mix(b"<list>", walk.parts(x, _index))


def _tuple(walk: Walk, x: tuple[Any, ...]) -> Token:
    return mix(b"<tuple>", walk.parts(x, _index))


def _mapping(walk: Walk, tag: bytes, x: dict[Any, Any], place: Callable[[Any], str] = _key) -> Token:
    if not x:
        return mix(tag, [b"|"])
    kinds = set(map(type, x))
    if len(kinds) == 1 and kinds <= _SORTABLE:
        keys = sorted(x)
        values = walk.parts([x[k] for k in keys], lambda i: place(keys[i]))
        return mix(tag, [*walk.parts(keys, _index), b"|", *values])
    keys = list(x)
    of_keys = walk.tokens(keys, lambda i: f"key {i}: ")
    of_values = walk.tokens(x.values(), lambda i: place(keys[i]))
    return mix(tag, [mix(b"<item>", item) for item in zip(of_keys, of_values, strict=True)], unordered=True)


def _dict(walk: Walk, x: dict[Any, Any]) -> Token:
    return _mapping(walk, b"<dict>", x)


def _mapping_proxy(walk: Walk, x: MappingProxyType[Any, Any]) -> Token:
    return _mapping(walk, b"<mappingproxy>", dict(x))


def _items_of_set(walk: Walk, tag: bytes, x: Iterable[Any]) -> Token:
    items = list(x)
    kinds = set(map(type, items))
    if len(kinds) == 1 and kinds <= _SORTABLE:
        return mix(tag, walk.parts(sorted(items), _index))
    return mix(tag, walk.tokens(items, lambda i: "{…}"), unordered=True)


def _set(walk: Walk, x: set[Any]) -> Token:
    return _items_of_set(walk, b"<set>", x)


def _frozenset(walk: Walk, x: frozenset[Any]) -> Token:
    return _items_of_set(walk, b"<frozenset>", x)


def _bytearray(walk: Walk, x: bytearray) -> Token:
    return mix(b"<bytearray>", [bytes(x)])


def _memoryview(walk: Walk, x: memoryview) -> Token:
    try:
        return mix(b"<memoryview>", [text_token(x.format), *walk.tokens([x.shape], _index), x.tobytes()])
    except ValueError as error:
        raise Unhashable(f"a 'memoryview' cannot be hashed: {error}") from None


# ---- what is made of a few attributes


def _labelled(walk: Walk, tag: bytes, parts: dict[str, Any]) -> Token:
    """What is made of the values of a dict, whose keys say in messages where they are."""
    return mix(tag, walk.tokens(parts.values(), list(parts).__getitem__))


def _made_of(kind: str, *names: str) -> Handler:
    tag = f"<{kind}>".encode()

    def handler(walk: Walk, x: Any) -> Token:
        return mix(tag, walk.tokens([getattr(x, name) for name in names], lambda i: f".{names[i]}"))

    return handler


def _builtin(walk: Walk, x: Any) -> Token:
    owner = x.__self__
    if owner is None or isinstance(owner, ModuleType):
        token = walk.explorer.named(x)
        if token is None:
            raise Unhashable(f"the builtin function {x.__qualname__!r} cannot be hashed: nothing says where it is from")
        return token
    return mix(b"<builtin method>", [walk.token(owner), text_token(x.__name__)])


def _cell(walk: Walk, x: CellType) -> Token:
    try:
        return mix(b"<cell>", [walk.token(x.cell_contents)])
    except ValueError:
        return mix(b"<cell>", [])


def _partial(walk: Walk, x: Any) -> Token:
    parts = {".func": x.func, ".args": x.args, ".keywords": x.keywords, "": x.__dict__}
    return _labelled(walk, b"<partial>", parts)


def _code_object(walk: Walk, x: CodeType) -> Token:
    from graphray.graph.code import scan_code

    return b"#" + scan_code(x).digest


# ---- objects in general


def _hooked(walk: Walk, x: Any) -> Token:
    result = type(x).__graphray_digest__(x)
    if type(result) is not bytes and type(result) is not str:
        raise Unhashable(
            f"the __graphray_digest__ of {describe(type(x))} returned {describe(type(result))}, not bytes or text"
        )
    return mix(b"<hook>", [walk.token(type(x)), walk.token(result)])


def _enum(walk: Walk, x: Any) -> Token:
    return _labelled(walk, b"<enum>", {"": type(x), ".name": x._name_, ".value": x._value_})


def _named_tuple(walk: Walk, x: Any) -> Token:
    return mix(b"<named tuple>", [walk.token(type(x)), *walk.tokens(x, lambda i: f".{x._fields[i]}")])


def _subclass_of_set(walk: Walk, x: Any) -> Token:
    state = _attributes(walk, x, getattr(x, "__dict__", {}))
    return mix(b"<set object>", [walk.token(type(x)), _items_of_set(walk, b"<set>", x), state])


def _iterator(walk: Walk, x: Any) -> Token:
    raise Unhashable(f"{describe(type(x))} cannot be hashed: it can be read only once")


def _object(walk: Walk, x: Any) -> Token:
    if callable(x):  # perhaps a function of a package, of some type of its own
        token = walk.explorer.named(x)
        if token is not None:
            return token
    try:
        reduced = _reduce(x)
    except Unhashable:
        raise
    except Exception as error:  # classes say in many ways that they cannot be pickled
        raise Unhashable(f"{describe(type(x))} cannot be hashed") from error
    if isinstance(reduced, str):  # a singleton that goes by its name
        return mix(b"<global>", [walk.token(type(x)), text_token(reduced)])
    return _parts_of_object(walk, x, reduced)


def _reduce(x: Any) -> Any:
    reducer = copyreg.dispatch_table.get(type(x))
    return x.__reduce_ex__(4) if reducer is None else reducer(x)


def _parts_of_object(walk: Walk, x: Any, reduced: tuple[Any, ...]) -> Token:
    """What pickle would save: `make(*args)`, then `state` set on it, then list items and dict items added."""
    make, args, state, items, pairs, setter = (*reduced, None, None, None, None)[:6]
    if make is copyreg.__newobj__:  # type: ignore[attr-defined]
        make, args = args[0], args[1:]
    parts = [walk.token(make)]
    if args:
        parts += walk.tokens([tuple(args)], lambda i: ".args" if isinstance(x, BaseException) else ".__reduce__()[1]")
    if state is not None:
        parts += [b"=", _state(walk, x, state)]
    if items is not None:
        parts += [b"+", walk.token(list(items))]
    if pairs is not None:
        ordered = isinstance(x, OrderedDict)
        parts += [b"*", walk.token(list(pairs)) if ordered else _mapping(walk, b"<dict>", dict(pairs))]
    if setter is not None:
        parts += [b"!", walk.token(setter)]
    return mix(b"<object>", parts)


def _state(walk: Walk, x: Any, state: Any) -> Token:
    if type(state) is dict:
        return _attributes(walk, x, state)
    if type(state) is tuple and len(state) == 2 and type(state[1]) is dict and type(state[0]) in (dict, type(None)):
        return mix(b"<slots>", [_attributes(walk, x, state[0] or {}), _attributes(walk, x, state[1])])
    return walk.tokens([state], lambda i: ".__getstate__()")[0]


def _attributes(walk: Walk, x: Any, state: dict[Any, Any]) -> Token:
    """The attributes of an object, but not those that only remember what follows from the others."""
    kind = type(x)
    derived = {name for name in state if type(name) is str and type(getattr(kind, name, None)) is cached_property}
    if "_state" in state and any(base.__module__ == "flax.linen.module" for base in kind.__mro__):
        derived |= {"_id", "_state"}  # a module counts its instances and notes how far its setup is
    if derived:
        state = {name: value for name, value in state.items() if name not in derived}
    return _mapping(walk, b"<attributes>", state, lambda name: f".{name}")


# ---- arrays and tables of numpy, jax, pandas and arrow


def _array(walk: Walk, x: Any) -> Token:
    import numpy

    kind = type(x)
    if kind is not numpy.ndarray and kind is not numpy.memmap:  # a subclass may have attributes
        if any("__reduce__" in vars(base) for base in kind.__mro__[: kind.__mro__.index(numpy.ndarray)]):
            return _object(walk, x)
        state = _attributes(walk, x, getattr(x, "__dict__", {}))
        return mix(b"<array object>", [walk.token(kind), state, walk.token(x.view(numpy.ndarray))])
    x = numpy.asarray(x)
    head = [_dtype(walk, x.dtype), walk.token(x.shape)]
    if x.dtype.names is not None:  # by fields, since there may be unused bytes between them
        fields = walk.tokens([x[name] for name in x.dtype.names], lambda i: f'["{x.dtype.names[i]}"]')
        return mix(b"<record array>", [*head, *fields])
    if x.dtype.hasobject:  # what is stored are addresses
        return mix(b"<object array>", [*head, walk.token(x.ravel().tolist())])
    if x.dtype.char in "gG":  # long doubles: some of their bytes mean nothing
        return mix(b"<long array>", [*head, *_long_doubles(x)])
    if x.flags.f_contiguous and not x.flags.c_contiguous:  # a task gets it like that, and its sums may differ by a bit
        head.append(b"<F>")
    hasher = blake2b(b"<array>" + b"".join(head), digest_size=SIZE)  # type: ignore[arg-type]
    if not x.nbytes:
        pass
    elif x.flags.c_contiguous:
        hasher.update(x.reshape(-1).view(numpy.uint8))
    else:
        rows = max(1, _CHUNK * len(x) // x.nbytes)
        for i in range(0, len(x), rows):
            hasher.update(x[i : i + rows].ravel().view(numpy.uint8))
    return b"#" + hasher.digest()


def _long_doubles(x: Any) -> list[bytes]:
    """Each long double as the double nearest to it and what is missing then, likewise twice more."""
    import numpy

    rest = x.ravel().view(numpy.longdouble)
    parts = []
    with numpy.errstate(all="ignore"):
        for _ in range(3):
            nearest = rest.astype("<f8")
            parts.append(nearest.tobytes())
            rest = numpy.where(numpy.isfinite(nearest), rest - nearest, numpy.longdouble(0))
    return parts


def _scalar(walk: Walk, x: Any) -> Token:
    import numpy

    return mix(b"<scalar>", [walk.token(numpy.asarray(x))])


def _dtype(walk: Walk, x: Any) -> Token:
    if x.names is not None:
        fields = [(name, *x.fields[name]) for name in x.names]  # name, dtype, offset and perhaps a title
        return mix(b"<dtype>", [walk.token(fields), walk.token(x.itemsize)])
    if x.subdtype is not None:
        return mix(b"<dtype>", [walk.token(x.subdtype)])
    if x.kind == "T":  # texts of any length
        missing = [x.na_object] if hasattr(x, "na_object") else []
        return mix(b"<dtype>", [b"T", walk.token(missing), walk.token(x.coerce)])
    return mix(b"<dtype>", [text_token(x.str), text_token(x.name)])  # the types of ml_dtypes differ in the name only


def _frame(walk: Walk, x: Any) -> Token:
    """A table of pandas, by column: how columns are grouped in memory does not count."""
    columns = [x.iloc[:, i].array for i in range(x.shape[1])]
    return _labelled(walk, b"<frame>", {".columns": x.columns, ".iloc": columns, **_of_pandas(x)})


def _series(walk: Walk, x: Any) -> Token:
    return _labelled(walk, b"<series>", {".array": x.array, **_of_pandas(x)})


def _column(walk: Walk, x: Any) -> Token:
    fresh = x[:]  # a view: what was done with an array before leaves its mark on it
    if hasattr(fresh, "_readonly"):
        fresh._readonly = False
    return _object(walk, fresh)


def _of_pandas(x: Any) -> dict[str, Any]:
    more = {name: getattr(x, name) for name in x._metadata}  # a series' name, and attributes of subclasses
    return {".index": x.index, ".attrs": x.attrs, "": [type(x), more]}


def _arrow_array(walk: Walk, x: Any) -> Token:
    """An array of Arrow, in chunks or not: how it is cut, and what lies around it in memory, does not count."""
    import numpy

    pyarrow: Any = sys.modules["pyarrow"]
    whole = x.combine_chunks() if isinstance(x, pyarrow.ChunkedArray) else x
    fresh = whole.take(pyarrow.array(numpy.arange(len(whole))))
    return mix(b"<arrow array>", [walk.token(fresh.null_count), _object(walk, fresh)])


def _arrow_table(walk: Walk, x: Any) -> Token:
    return _labelled(walk, b"<arrow table>", {"": type(x), ".schema": x.schema, ".columns": x.columns})


def _jax_array(walk: Walk, x: Any) -> Token:
    import jax
    import numpy

    if not x.is_fully_addressable:
        raise Unhashable("a JAX array that is spread over several processes cannot be hashed")
    try:
        if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            kind = str(jax.random.key_impl(x))
            return mix(b"<jax key>", [text_token(kind), walk.token(numpy.asarray(jax.random.key_data(x)))])
        return mix(b"<jax array>", [walk.token(bool(x.weak_type)), walk.token(numpy.asarray(x))])
    except RuntimeError as error:  # deleted, or donated
        raise Unhashable(f"a JAX array cannot be hashed: {error}") from None


def _tracer(walk: Walk, x: Any) -> Token:
    raise Unhashable("a traced array of JAX cannot be hashed: it has no value yet")


# ---- who hashes what


def _code(walk: Walk, x: Any) -> Token:
    return walk.code(x)


_HANDLERS: dict[type, Handler] = {
    list: _list,
    tuple: _tuple,
    dict: _dict,
    set: _set,
    frozenset: _frozenset,
    bytearray: _bytearray,
    memoryview: _memoryview,
    MappingProxyType: _mapping_proxy,
    range: _made_of("range", "start", "stop", "step"),
    slice: _made_of("slice", "start", "stop", "step"),
    type: _code,
    FunctionType: _code,
    ModuleType: _code,
    CodeType: _code_object,
    CellType: _cell,
    BuiltinFunctionType: _builtin,
    MethodType: _made_of("method", "__func__", "__self__"),
    MethodWrapperType: _made_of("method-wrapper", "__self__", "__name__"),
    MethodDescriptorType: _made_of("descriptor", "__objclass__", "__name__"),
    WrapperDescriptorType: _made_of("descriptor", "__objclass__", "__name__"),
    ClassMethodDescriptorType: _made_of("descriptor", "__objclass__", "__name__"),
    MemberDescriptorType: _made_of("slot", "__name__"),
    GetSetDescriptorType: _made_of("slot", "__name__"),
    staticmethod: _made_of("staticmethod", "__func__"),
    classmethod: _made_of("classmethod", "__func__"),
    property: _made_of("property", "fget", "fset", "fdel"),
}

# By name, because the module need not be loaded, nor the type be public.
_BY_NAME: dict[tuple[str, str], Handler] = {
    ("functools", "partial"): _partial,
    ("functools", "cached_property"): _made_of("cached_property", "func", "attrname"),
    ("functools", "_lru_cache_wrapper"): _made_of("lru_cache", "__wrapped__"),
    ("jaxlib._jax", "PjitFunction"): _made_of("jit", "__wrapped__"),
    ("dataclasses", "Field"): _made_of(
        "field", "name", "default", "default_factory", "init", "repr", "hash", "compare", "metadata", "kw_only"
    ),
}

# Subclasses included. Without its module loaded, a type has no instances.
_BY_BASE: tuple[tuple[str, str, Handler], ...] = (
    ("enum", "Enum", _enum),
    ("numpy", "ndarray", _array),
    ("numpy", "generic", _scalar),
    ("numpy", "dtype", _dtype),
    ("pandas", "DataFrame", _frame),
    ("pandas", "Series", _series),
    ("pandas.api.extensions", "ExtensionArray", _column),
    ("pyarrow", "Array", _arrow_array),
    ("pyarrow", "ChunkedArray", _arrow_array),
    ("pyarrow", "Table", _arrow_table),
    ("pyarrow", "RecordBatch", _arrow_table),
    ("jax", "Array", _jax_array),
    ("jax.core", "Tracer", _tracer),
)


def _find_handler(kind: type) -> Handler:
    """The handler of a type that has none of its own in `_HANDLERS`."""
    module = kind.__module__
    if module.startswith("graphray.graph."):
        import graphray.graph.digest  # noqa: F401  it registers nodes, tasks and graphs

        if kind in _HANDLERS:
            return _HANDLERS[kind]
    if (module, kind.__qualname__) in _BY_NAME:
        return _BY_NAME[module, kind.__qualname__]
    if hasattr(kind, "__graphray_digest__"):
        return _hooked
    if issubclass(kind, type | ModuleType):
        return _code
    if module in ("builtins", "itertools") and hasattr(kind, "__next__"):
        return _iterator
    if issubclass(kind, set | frozenset):
        return _subclass_of_set
    if issubclass(kind, property):
        return _made_of("property", "__class__", "fget", "fset", "fdel")
    if issubclass(kind, tuple) and hasattr(kind, "_fields") and not kind.__dictoffset__:
        return _named_tuple
    for name, attribute, handler in _BY_BASE:
        base = getattr(sys.modules.get(name), attribute, None)
        if base is not None and issubclass(kind, base):
            return handler
    return _object
