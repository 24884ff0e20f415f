"""The schema as a tree to walk: which keys a block knows, what a list holds, which values a key allows.

Pydantic knows all this, but only while it validates. Problem positions, spelling suggestions, the reference page
and the description of changes need it outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import PlainSerializer, Tag, WithJsonSchema
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from fabric.config.block import Block
from fabric.config.schema import Config

NO_SHAPES: Mapping[str, Shape] = {}


@dataclass(frozen=True)
class Shape:
    """One place in the schema.

    Attributes:
        model: the block class, for a block.
        keys: by key as written in the file, for a block.
        item: what every entry is, for a list and for a map of names to values.
        is_list: whether it is a list.
        choices: the possible shapes by tag, where the schema offers a choice.
        allowed: the allowed words, where they are a closed list.
        example: a valid value.
        wanted: what belongs here, in words, for example "a whole number".
    """

    model: type[Block] | None = None
    keys: Mapping[str, Shape] = field(default_factory=lambda: NO_SHAPES)
    item: Shape | None = None
    is_list: bool = False
    choices: Mapping[str, Shape] = field(default_factory=lambda: NO_SHAPES)
    allowed: tuple[str, ...] = ()
    example: Any = None
    wanted: str = "a value"


def key_of(name: str, info: FieldInfo) -> str:
    """The key of a field as it is written in the file."""
    return info.alias or name


def fields_of(model: type[Block]) -> dict[str, FieldInfo]:
    """Fields of a block by key, in the order of the schema."""
    return {key_of(name, info): info for name, info in model.model_fields.items()}


def default_of(info: FieldInfo) -> Any:
    """The default of a field as the file would state it, for example ``2m``; None where there is none to state."""
    if info.is_required() or isinstance(info.default, Block):
        return None
    write = next((mark.func for mark in info.metadata if isinstance(mark, PlainSerializer)), to_jsonable_python)
    return None if info.default is None else write(info.default)  # pyright: ignore[reportCallIssue]


@cache
def config_shape() -> Shape:
    """The shape of a whole file."""
    return block_shape(Config)


@cache
def block_shape(model: type[Block]) -> Shape:
    """The shape of one block."""
    keys = {key: _shape(info.annotation, list(info.metadata)) for key, info in fields_of(model).items()}
    return Shape(model=model, keys=keys, wanted="a block of keys")


_BASIC: dict[Any, Shape] = {
    str: Shape(example="text", wanted="text"),
    int: Shape(example=1, wanted="a whole number"),
    float: Shape(example=1, wanted="a number"),
    bool: Shape(example=False, allowed=("true", "false"), wanted="true or false"),
}


def _shape(annotation: Any, metadata: list[Any]) -> Shape:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _shape(arguments[0], [*arguments[1:], *metadata])
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return block_shape(annotation)
    if origin is Literal:
        words = tuple(str(word) for word in arguments)
        return Shape(allowed=words, example=words[0], wanted="one of " + ", ".join(words))
    if origin is list:
        return Shape(item=_shape(arguments[0], []), is_list=True, wanted="a list")
    if origin is dict:
        return Shape(item=_shape(arguments[1], []), wanted="a block of keys")
    if origin in (Union, UnionType):
        members = [member for member in arguments if member is not type(None)]
        if len(members) == 1:
            return _shape(members[0], metadata)
        return Shape(choices={_tag(member): _shape(member, []) for member in members}, wanted="a block of keys")
    basic = _BASIC[annotation]
    for mark in metadata:
        if isinstance(mark, WithJsonSchema) and mark.json_schema is not None:
            schema: dict[str, Any] = mark.json_schema
            return Shape(example=schema.get("anyOf", [schema])[0]["examples"][0], wanted=schema["title"])
    return basic


def _tag(member: Any) -> str:
    """The word that pydantic puts into an error's path for this member of a choice."""
    if get_origin(member) is Annotated:
        return next(str(mark.tag) for mark in get_args(member)[1:] if isinstance(mark, Tag))
    return str(get_args(member.model_fields["kind"].annotation)[0])
