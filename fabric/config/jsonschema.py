"""The JSON schema of ``fabric.yaml``, for editors.

``python -m fabric.config.jsonschema > configs/fabric.schema.json``
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, cast

from fabric.config.block import Block
from fabric.config.schema import Config
from fabric.config.shape import Shape, config_shape, default_of, fields_of


def text() -> str:
    """The schema as it is written to the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """The schema as JSON: quantities as the text people write, no key that the fabric does not know."""
    raw = Config.model_json_schema(by_alias=True)
    blocks = {model.__name__: model for model in _models(config_shape())}
    for model_name, definition in [(Config.__name__, raw), *raw["$defs"].items()]:
        definition["description"] = (blocks[model_name].__doc__ or "").strip()
        for key, info in fields_of(blocks[model_name]).items():
            _state_default(definition["properties"][key], default_of(info))
    _tidy(raw)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The configuration of an elastic AI fabric",
        **raw,
    }


def _models(shape: Shape) -> Iterator[type[Block]]:
    if shape.model is not None:
        yield shape.model
    for inner in [*shape.keys.values(), *shape.choices.values(), *([shape.item] if shape.item else [])]:
        yield from _models(inner)


def _state_default(property_schema: dict[str, Any], default: Any) -> None:
    property_schema.pop("default", None)
    if default is not None:
        property_schema["default"] = default


def _tidy(node: Any) -> None:
    """Drop the titles that pydantic makes from field names; close maps whose keys have a pattern."""
    if isinstance(node, dict):
        mapping = cast("dict[str, Any]", node)
        if isinstance(mapping.get("title"), str):
            del mapping["title"]
        if "patternProperties" in mapping:
            mapping["additionalProperties"] = False
        children = list(mapping.values())
    else:
        children = cast("list[Any]", node) if isinstance(node, list) else []
    for child in children:
        _tidy(child)


if __name__ == "__main__":
    sys.stdout.write(text())
