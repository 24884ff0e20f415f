"""Microsoft's own description of its resources as a judge: of every machine that a test asks for or is shown.

The types are those of https://github.com/Azure/bicep-types-az. They are not part of this project: they are looked for
in ``../shared/specs`` beside it, or under ``FABRIC_SHARED``; where they are not, nothing is judged and the tests of the
judge say so. A complaint is a sentence; no complaint means that Microsoft itself describes the message so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

COMPUTE = "microsoft.compute_2026-04-01.json"
NETWORK = "microsoft.network_2025-09-01.json"
MACHINE = "Microsoft.Compute/virtualMachines"
SUBNET = "Microsoft.Network/virtualNetworks/subnets"
SECURITY_GROUP = "Microsoft.Network/networkSecurityGroups"
# https://github.com/Azure/bicep-types: what the flags of a property mean.
REQUIRED, READ_ONLY, WRITE_ONLY, DEPLOY_TIME = 1, 2, 4, 8
# Of a resource, what its address says and its body does not.
_IN_ADDRESS = "apiVersion"
# Documented as an old list, which was not kept: https://learn.microsoft.com/rest/api/compute/virtual-machines/list-sizes
_OUTDATED = ".hardwareProfile.vmSize"

Types = Sequence[Mapping[str, Any]]


def folder() -> Path:
    """Where the vendors' schemas are looked for."""
    beside = Path(__file__).resolve().parents[4] / "shared"
    return Path(os.environ.get("FABRIC_SHARED", beside)) / "specs" / "azure"


def available() -> bool:
    """Whether Microsoft's types are there."""
    return (folder() / "bicep" / COMPUTE).exists()


@cache
def types(file: str) -> Types:
    """All types of one file; they name each other by number."""
    return json.loads((folder() / "bicep" / file).read_text(encoding="utf-8"))


@cache
def _number(file: str, name: str) -> int:
    return next(
        number for number, one in enumerate(types(file)) if one["$type"] == "ObjectType" and one.get("name") == name
    )


def request_complaints(body: Any, name: str = MACHINE, file: str = COMPUTE) -> Iterator[str]:
    """What Azure would not take of the body of a PUT."""
    if available():
        yield from _Judge(types(file), writing=True).complaints(_number(file, name), body, name)


def response_complaints(body: Any, name: str = MACHINE, file: str = COMPUTE) -> Iterator[str]:
    """What of a resource Azure would not show."""
    if available():
        yield from _Judge(types(file), writing=False).complaints(_number(file, name), body, f"shown {name}")


def error_complaints(status: int, body: Any) -> Iterator[str]:
    """What of a refusal is not in Azure's form: https://learn.microsoft.com/rest/api/azure/ (error responses)."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        yield f"a reply with status {status} has no error"
        return
    for key in ("code", "message"):
        if not isinstance(error.get(key), str):
            yield f"error.{key} is {error.get(key)!r}"
    for key in set(error) - {"code", "message", "target", "details", "innererror", "additionalInfo"}:
        yield f"error has {key!r}"


class _Judge:
    def __init__(self, known: Types, writing: bool) -> None:
        self._types = known
        self._writing = writing

    def complaints(self, number: int, value: Any, where: str) -> Iterator[str]:
        spec = self._types[number]
        check = {
            "ObjectType": self._of_object,
            "ArrayType": self._of_array,
            "UnionType": self._of_union,
            "StringLiteralType": self._of_literal,
            "StringType": self._of_text,
            "BooleanType": self._of_flag,
            "IntegerType": self._of_number,
            "AnyType": self._of_anything,
        }[spec["$type"]]
        yield from check(spec, value, where)

    def _of_object(self, spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is not an object"
            return
        rest: Mapping[str, str] = spec.get("additionalProperties", {})
        for key, item in value.items():
            known = spec["properties"].get(key)
            is_resource = "type" in spec["properties"]
            if (known is None and not rest) or (key == _IN_ADDRESS and is_resource):
                yield f"{where}: there is no property {key!r}"
            elif known is None:
                yield from self.complaints(_to(rest), item, f"{where}.{key}")
            elif self._writing and known["flags"] & (READ_ONLY | DEPLOY_TIME):
                yield f"{where}.{key}: it is read-only"
            elif not self._writing and known["flags"] & WRITE_ONLY:
                yield f"{where}.{key}: it is never shown"
            else:
                yield from self.complaints(_to(known["type"]), item, f"{where}.{key}")
        # The address has what is known when a resource is deployed.
        left_out = DEPLOY_TIME if self._writing else WRITE_ONLY
        for key, known in spec["properties"].items():
            if known["flags"] & REQUIRED and not known["flags"] & left_out and key not in value:
                yield f"{where}: the property {key!r} is required"

    def _of_array(self, spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where}: {value!r} is not a list"
            return
        for index, item in enumerate(value):
            yield from self.complaints(_to(spec["itemType"]), item, f"{where}[{index}]")

    def _of_union(self, spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        """Many unions are open, so that clients may be older than Azure; here only what is listed counts."""
        inner = [self._types[_to(one)] for one in spec["elements"]]
        literals = [one["value"] for one in inner if one["$type"] == "StringLiteralType"]
        if where.endswith(_OUTDATED):
            yield from self._of_text(spec, value, where)
        elif literals and value not in literals:
            yield f"{where}: {value!r} is none of {', '.join(literals)}"
        elif not literals and all(list(self.complaints(_to(one), value, where)) for one in spec["elements"]):
            yield f"{where}: {value!r} is of none of the types it may have"

    def _of_literal(self, spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        if value != spec["value"]:
            yield f"{where}: {value!r} is not {spec['value']!r}"

    def _of_text(self, _spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield f"{where}: {value!r} is not text"

    def _of_flag(self, _spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, bool):
            yield f"{where}: {value!r} is not true or false"

    def _of_number(self, spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        """Prices are integers in these types, though any decimal value is documented."""
        price = isinstance(value, float) and where.endswith(".maxPrice")
        if isinstance(value, bool) or not (isinstance(value, int) or price):
            yield f"{where}: {value!r} is not a number"
        elif not spec.get("minValue", value) <= value <= spec.get("maxValue", value):
            yield f"{where}: {value!r} is out of range"

    def _of_anything(self, _spec: Mapping[str, Any], _value: Any, _where: str) -> Iterator[str]:
        return iter(())


def _to(reference: Mapping[str, str]) -> int:
    return int(reference["$ref"].removeprefix("#/"))
