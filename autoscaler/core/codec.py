"""Frozen dataclasses as JSON and back, without loss: what a receipt keeps, ``fabric why`` recomputes from.

The types themselves say how: there is no list of fields here to forget one in. Fields that have their default
are left out, so that a receipt is small and one written before a field was added still reads.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from autoscaler.core.snapshot import Snapshot
from fabric.model.decisions import Decision

T = TypeVar("T")
Json = Any


class CodecError(ValueError):
    """The JSON is not what the type says, or the value is of no type that this codec knows. Says where."""


def encode(value: object) -> Json:
    """``value`` as JSON data: objects, arrays, strings, numbers, booleans, null.

    Raises:
        CodecError: it holds something other than dataclasses, enums, mappings by string, sequences, sets and scalars.
    """
    if value is None or isinstance(value, (bool, int)):
        return value if not isinstance(value, Enum) else value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: encode(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not _is_default(field, getattr(value, field.name))
        }
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in cast("tuple[object, ...]", value)]
    if isinstance(value, (set, frozenset)):
        return sorted(encode(item) for item in cast("frozenset[object]", value))
    raise CodecError(f"a {type(value).__name__} cannot be written as JSON")


def decode(kind: type[T], data: Json) -> T:
    """Read what ``encode`` wrote for a value of type ``kind``.

    Raises:
        CodecError: ``data`` does not describe such a value.
    """
    return cast("T", _read(kind, data, kind.__name__))


def encode_snapshot(snapshot: Snapshot) -> Json:
    """A snapshot as JSON data."""
    return encode(snapshot)


def decode_snapshot(data: Json) -> Snapshot:
    """Read a snapshot.

    Raises:
        CodecError: ``data`` is none.
    """
    return decode(Snapshot, data)


def encode_decision(decision: Decision) -> Json:
    """A decision as JSON data."""
    return encode(decision)


def decode_decision(data: Json) -> Decision:
    """Read a decision.

    Raises:
        CodecError: ``data`` is none.
    """
    return decode(Decision, data)


def _read(kind: Any, data: Json, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        return _read_union(get_args(kind), data, where)
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(data, dict), "an object", where)
        _, item_kind = get_args(kind)
        return {key: _read(item_kind, item, f"{where}.{key}") for key, item in data.items()}
    if origin is tuple:
        return _read_tuple(get_args(kind), data, where)
    if origin is frozenset:
        _expect(isinstance(data, list), "an array", where)
        (item_kind,) = get_args(kind)
        return frozenset(_read(item_kind, item, where) for item in data)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_dataclass(kind, data, where)
    if isinstance(kind, type) and issubclass(kind, Enum):
        _expect(data in {member.value for member in kind}, f"one of {[m.value for m in kind]}", where)
        return kind(data)
    return _read_scalar(kind, data, where)


def _read_dataclass(kind: type[Any], data: Json, where: str) -> Any:
    _expect(isinstance(data, dict), "an object", where)
    hints = _hints(kind)
    unknown = set(data) - set(hints)
    _expect(not unknown, f"no field {', '.join(sorted(unknown))}", where)
    missing = [
        field.name
        for field in dataclasses.fields(kind)
        if field.name not in data
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    _expect(not missing, f"a field {', '.join(missing)}", where)
    return kind(**{name: _read(hints[name], item, f"{where}.{name}") for name, item in data.items()})


def _read_union(kinds: tuple[Any, ...], data: Json, where: str) -> Any:
    if data is None:
        _expect(NoneType in kinds, "a value", where)
        return None
    for kind in sorted((kind for kind in kinds if kind is not NoneType), key=_strictness):
        try:
            return _read(kind, data, where)
        except CodecError:
            continue
    raise CodecError(f"{where}: {data!r} is none of {kinds}")


def _read_tuple(kinds: tuple[Any, ...], data: Json, where: str) -> tuple[Any, ...]:
    _expect(isinstance(data, list), "an array", where)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_read(kinds[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    _expect(len(data) == len(kinds), f"{len(kinds)} items", where)
    return tuple(_read(kind, item, where) for kind, item in zip(kinds, data, strict=True))


def _read_scalar(kind: Any, data: Json, where: str) -> Any:
    if kind is float and isinstance(data, dict):
        special = cast("dict[str, Any]", data)
        _expect(set(special) == {"float"}, "a number", where)
        return float(special["float"])
    if kind is float:
        # What was written as a whole number stays one: 5 and 5.0 are equal, but a receipt is compared as written.
        _expect(isinstance(data, (int, float)) and not isinstance(data, bool), "a number", where)
        return data
    if kind is int:
        _expect(isinstance(data, int) and not isinstance(data, bool), "a whole number", where)
        return data
    if kind is bool:
        _expect(isinstance(data, bool), "true or false", where)
        return data
    if kind is str:
        _expect(isinstance(data, str), "a string", where)
        return data
    raise CodecError(f"{where}: no JSON stands for {kind}")


def _is_default(field: dataclasses.Field[Any], value: object) -> bool:
    if field.default is not dataclasses.MISSING:
        return type(value) is type(field.default) and value == field.default
    if field.default_factory is not dataclasses.MISSING:
        return value == field.default_factory()
    return False


def _strictness(kind: Any) -> int:
    """Order in which the members of a union are tried, so that true is not read as 1, nor 1 as 1.0."""
    return {bool: 0, int: 1, float: 2, str: 3}.get(kind, 4)


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _expect(condition: bool, wanted: str, where: str) -> None:
    if not condition:
        raise CodecError(f"{where}: expected {wanted}")
