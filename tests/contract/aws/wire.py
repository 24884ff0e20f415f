"""Requests as they are on the wire, held to Amazon's own description of the API: botocore's service models.

The SDK checks names and types before it sends, but no enumeration and no pattern, and a provider could bypass it. Here
every request is read back from its bytes: a name that the model does not have, a value outside an enumeration, a
missing required member or a wrong type is an objection, and an objection fails the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape


@cache
def model(service: str) -> ServiceModel:
    """Amazon's description of a service."""
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


def tree(form: dict[str, str]) -> dict[str, Any]:
    """``{"Tag.1.Key": "a"}`` as ``{"Tag": {"1": {"Key": "a"}}}``."""
    root: dict[str, Any] = {}
    for key, value in form.items():
        node = root
        *path, last = key.split(".")
        for step in path:
            node = node.setdefault(step, {})
        node[last] = value
    return root


def objections(service: str, action: str, form: dict[str, str]) -> list[str]:
    """What is wrong with a request; empty if nothing is."""
    known = model(service)
    if action not in known.operation_names:
        return [f"{service} has no operation {action}"]
    operation: OperationModel = known.operation_model(action)
    members = {key: value for key, value in form.items() if key not in ("Action", "Version")}
    found = [] if form.get("Version") == known.api_version else [f"version {form.get('Version')}"]
    if operation.input_shape is not None:
        found += _structure(operation.input_shape, tree(members), action)
    elif members:
        found.append(f"{action} has no members")
    return found


def _structure(shape: StructureShape, given: Any, where: str) -> Iterator[str]:
    if not isinstance(given, dict):
        yield f"{where}: {given!r} where a structure belongs"
        return
    names = {_wire_name(name, member): (name, member) for name, member in shape.members.items()}
    for key, value in given.items():
        if key not in names:
            yield f"{where}: no member {key}"
        else:
            yield from _value(names[key][1], value, f"{where}.{names[key][0]}")
    for name in shape.required_members:
        if _wire_name(name, shape.members[name]) not in given:
            yield f"{where}: {name} is missing"


def _value(shape: Shape, given: Any, where: str) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        yield from _structure(shape, given, where)
    elif isinstance(shape, ListShape):
        if not isinstance(given, dict) or set(given) != {str(n) for n in range(1, len(given) + 1)}:
            yield f"{where}: not a list: {given!r}"
            return
        for key, item in given.items():
            yield from _value(shape.member, item, f"{where}[{key}]")
    elif not isinstance(given, str):
        yield f"{where}: a structure where a {shape.type_name} belongs"
    else:
        yield from _scalar(shape, given, where)


def _scalar(shape: Shape, given: str, where: str) -> Iterator[str]:
    kind, limits = shape.type_name, shape.metadata
    if kind in ("integer", "long"):
        if not re.fullmatch(r"-?\d+", given):
            yield f"{where}: {given!r} is no whole number"
        elif not limits.get("min", int(given)) <= int(given) <= limits.get("max", int(given)):
            yield f"{where}: {given} is out of range"
    elif kind == "boolean":
        if given not in ("true", "false"):
            yield f"{where}: {given!r} is no boolean"
    elif kind == "string":
        if limits.get("enum") and given not in limits["enum"]:
            yield f"{where}: {given!r} is none of {', '.join(limits['enum'][:8])}"
        if not limits.get("min", 0) <= len(given) <= limits.get("max", len(given)):
            yield f"{where}: {len(given)} characters"
        if limits.get("pattern") and not re.search(limits["pattern"], given):
            yield f"{where}: {given!r} is not of the form {limits['pattern']}"


def _wire_name(name: str, shape: Shape) -> str:
    """EC2's own rule: ``queryName``, else ``locationName`` with a capital, else the member's name."""
    query = shape.serialization.get("queryName")
    if query:
        return str(query)
    location = shape.serialization.get("name")
    return f"{location[0].upper()}{location[1:]}" if location else name
