"""From hostile bytes to frozen dataclasses, and back. Called by both ends of every wire message.

`decode(cls, raw)` reads one JSON document and answers an instance of `cls` or raises `BadInput` whose text names the
path: `signals[3].seq: expected an integer, found text`. Nothing else is ever raised for bad bytes. The rules:

- types are exact: true is no integer, 1.0 is no integer, "1" is no number; an integer is taken where a float is asked;
- a field without a default must be there; a field with one may be missing;
- an unknown key is ignored, so that a peer of the next version may say more than this one understands;
- text is bounded (1,024 characters unless `Text` says otherwise) and free of NUL and of lone surrogates, because
  neither a database nor UTF-8 can hold them; sequences and mappings are bounded (`Items`); numbers are finite, and
  integers stay within ±2^53, which every JSON reader keeps exact;
- the document itself is bounded in bytes.

Supported field types: str, int, float, bool, `StrEnum`, a dataclass, `X | None`, `tuple[X, ...]`, `Mapping[str, X]`,
`JsonValue` (free JSON, bounded), and `Annotated[...]` of these with `Text`, `Range` or `Items`.

The plan of a class is compiled once; the happy path carries no path names, an error collects them on its way up.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeAlias, TypeVar, Union

from ostler.core.errors import BadInput

T = TypeVar("T")

JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | dict[str, JsonValue] | None"
"""Free JSON, for details whose shape belongs to their kind. Bounded: depth 5, 512 values, texts of 4,096."""

DOCUMENT_LIMIT = 1 << 20
"""Bytes of one document unless the caller says otherwise: 1 MiB."""

_TEXT_LIMIT = 1024
_ITEMS_LIMIT = 1024
_INTEGER_LIMIT = 1 << 53
_FREE_DEPTH = 5
_FREE_VALUES = 512
_FREE_TEXT = 4096
_REPLACED = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Text:
    """How long a text may be, in characters, and the pattern that the whole of it must match."""

    limit: int = _TEXT_LIMIT
    pattern: str | None = None
    least: int = 0


@dataclass(frozen=True, slots=True)
class Range:
    """The least and the greatest value of a number."""

    least: float
    greatest: float


@dataclass(frozen=True, slots=True)
class Items:
    """How many items a sequence or a mapping may have."""

    limit: int


class _Misfit(Exception):
    """What is wrong, collecting the path from the inside out."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path: list[str] = []

    def where(self) -> str:
        return "".join(reversed(self.path)).lstrip(".")


_Decode: TypeAlias = Callable[[Any], Any]


def decode(cls: type[T], raw: bytes, *, limit: int = DOCUMENT_LIMIT) -> T:
    """One JSON document of at most `limit` bytes as an instance of the dataclass `cls`.

    Raises: BadInput, whose `where` is the path of the offending value (empty: the document itself).
    """
    if len(raw) > limit:
        raise BadInput(f"a message of {len(raw)} bytes; at most {limit} are taken")
    try:
        value = json.loads(raw, parse_constant=_no_constant)
    except _Misfit as error:
        raise BadInput(error.what) from None
    except RecursionError:
        raise BadInput("the JSON is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, an integer of thousands of digits
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise BadInput(f"this is no JSON document in UTF-8 ({reason})") from None
    return decode_value(cls, value)


def decode_value(cls: type[T], value: Any) -> T:
    """`decode`, for a value that was already parsed from JSON."""
    try:
        result: T = _plan(cls)(value)
    except _Misfit as error:
        raise BadInput(error.what, where=error.where()) from None
    return result


def encode(value: Any) -> bytes:
    """A dataclass as compact JSON in ASCII. A field that holds its default is left out."""
    return json.dumps(value, default=_plain, separators=(",", ":"), allow_nan=False).encode("ascii")


def fit(text: str, limit: int = _TEXT_LIMIT) -> str:
    """`text` made acceptable to `decode`: at most `limit` characters, NUL and lone surrogates replaced by U+FFFD.

    Called where text from the outside (a log line, sysfs) becomes part of a message.
    """
    return _REPLACED.sub("\ufffd", text[:limit])


# ── decoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _no_constant(name: str) -> Any:
    raise _Misfit(f"{name} is no JSON number")


def _kind(value: Any) -> str:
    """What a JSON value is, for a message; never the value itself, which is hostile."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def _text(rule: Text) -> _Decode:
    pattern = re.compile(rule.pattern) if rule.pattern is not None else None

    def read(value: Any) -> str:
        if type(value) is not str:
            raise _Misfit(f"expected text, found {_kind(value)}")
        if len(value) > rule.limit:
            raise _Misfit(f"text of {len(value)} characters; at most {rule.limit} are taken")
        if len(value) < rule.least:
            raise _Misfit("must not be empty")
        if _REPLACED.search(value) is not None:
            raise _Misfit("text with a NUL or a lone surrogate")
        if pattern is not None and pattern.fullmatch(value) is None:
            raise _Misfit(f"text that does not match {rule.pattern}")
        return value

    return read


def _integer(rule: Range) -> _Decode:
    least, greatest = int(rule.least), int(rule.greatest)

    def read(value: Any) -> int:
        if type(value) is not int:
            raise _Misfit(f"expected an integer, found {_kind(value)}")
        if not least <= value <= greatest:
            raise _Misfit(f"must be between {least} and {greatest}")
        return value

    return read


def _number(rule: Range | None) -> _Decode:
    def read(value: Any) -> float:
        if type(value) is not float:
            if type(value) is not int:
                raise _Misfit(f"expected a number, found {_kind(value)}")
            if not -_INTEGER_LIMIT <= value <= _INTEGER_LIMIT:
                raise _Misfit("a number out of range")
            value = float(value)
        if not math.isfinite(value):
            raise _Misfit("a number out of range")
        if rule is not None and not rule.least <= value <= rule.greatest:
            raise _Misfit(f"must be between {rule.least:g} and {rule.greatest:g}")
        return float(value)

    return read


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise _Misfit(f"expected true or false, found {_kind(value)}")
    return value


def _enum(cls: type[Enum]) -> _Decode:
    members = {member.value: member for member in cls}

    def read(value: Any) -> Enum:
        if type(value) is not str:
            raise _Misfit(f"expected text, found {_kind(value)}")
        if value not in members:
            raise _Misfit(f"must be one of {', '.join(map(str, members))}")
        return members[value]

    return read


def _optional(inner: _Decode) -> _Decode:
    return lambda value: None if value is None else inner(value)


def _sequence(inner: _Decode, limit: int) -> _Decode:
    def read(value: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _Misfit(f"expected a list, found {_kind(value)}")
        if len(value) > limit:
            raise _Misfit(f"a list of {len(value)} items; at most {limit} are taken")
        out = []
        for item in value:
            try:
                out.append(inner(item))
            except _Misfit as error:
                error.path.append(f"[{len(out)}]")
                raise
        return tuple(out)

    return read


def _mapping(inner: _Decode, limit: int) -> _Decode:
    name = _text(Text(256))

    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _Misfit(f"expected an object, found {_kind(value)}")
        if len(value) > limit:
            raise _Misfit(f"an object of {len(value)} keys; at most {limit} are taken")
        out = {}
        for key, item in value.items():
            try:
                out[name(key)] = inner(item)
            except _Misfit as error:
                error.path.append(f".{key}" if re.fullmatch(r"[\w.-]{1,64}", key, re.ASCII) else "[…]")
                raise
        return out

    return read


def _free(value: Any) -> Any:
    """Checks free JSON without recursion and answers it as it is."""
    text = _text(Text(_FREE_TEXT))
    level, seen = [value], 0
    for _ in range(_FREE_DEPTH):
        below: list[Any] = []
        for item in level:
            seen += 1
            if isinstance(item, str):
                text(item)
            elif isinstance(item, int | float) and not -_INTEGER_LIMIT <= item <= _INTEGER_LIMIT:  # NaN: also not
                raise _Misfit("a number out of range")
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, dict):
                below.extend(item.keys())
                below.extend(item.values())
        if seen + len(below) > _FREE_VALUES:
            raise _Misfit(f"more than {_FREE_VALUES} values")
        if not below:
            return value
        level = below
    raise _Misfit(f"nested deeper than {_FREE_DEPTH} levels")


_PLANS: dict[type[Any], _Decode] = {}


def _plan(cls: type[Any]) -> _Decode:
    """The decoder of a dataclass; a programming mistake (an unsupported type) raises TypeError at first use."""
    plan = _PLANS.get(cls)
    if plan is None:
        plan = _PLANS[cls] = _record(cls)
    return plan


def _record(cls: type[Any]) -> _Decode:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: list[tuple[str, bool, _Decode]] = []
    for field in dataclasses.fields(cls):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        fields.append((field.name, required, _compile(hints[field.name], None)))

    def read(value: Any) -> Any:
        if type(value) is not dict:
            raise _Misfit(f"expected an object, found {_kind(value)}")
        arguments = {}
        for name, required, inner in fields:
            if name in value:
                try:
                    arguments[name] = inner(value[name])
                except _Misfit as error:
                    error.path.append(f".{name}")
                    raise
            elif required:
                misfit = _Misfit("is missing")
                misfit.path.append(f".{name}")
                raise misfit
        return cls(**arguments)

    return read


def _compile(kind: Any, rule: Any) -> _Decode:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _compile(arguments[0], arguments[1])
    if kind is JsonValue or isinstance(kind, typing.ForwardRef | str):
        return _free
    if origin is Union or origin is types.UnionType:
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) == 1:
            return _optional(_compile(inner[0], rule))
        return _free  # the only union of several is JsonValue, resolved
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _sequence(_compile(arguments[0], None), rule.limit if rule is not None else _ITEMS_LIMIT)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_compile(arguments[1], None), rule.limit if rule is not None else _ITEMS_LIMIT)
    if kind is str:
        return _text(rule if rule is not None else Text())
    if kind is bool:
        return _boolean
    if kind is int:
        return _integer(rule if rule is not None else Range(-_INTEGER_LIMIT, _INTEGER_LIMIT))
    if kind is float:
        return _number(rule)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _plan(kind)
    raise TypeError(f"{kind!r} cannot travel on the wire")


# ── encoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _defaults(cls: type[Any]) -> tuple[tuple[str, Any], ...]:
    """(field, default) of a dataclass; MISSING where there is none."""
    out: list[tuple[str, Any]] = []
    for field in dataclasses.fields(cls):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        out.append((field.name, default))
    return tuple(out)


def _plain(value: Any) -> dict[str, Any]:
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"{type(value).__name__} cannot travel on the wire")
    out = {}
    for name, default in _defaults(type(value)):
        item = getattr(value, name)
        if item is not default and (type(item) is not type(default) or item != default):
            out[name] = item
    return out
