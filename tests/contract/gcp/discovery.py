"""Google's own description of its APIs as a judge: of every request that a test makes, and of every reply it is given.

The discovery documents ship in ``google-api-python-client``. A complaint is a sentence; no complaint means that Google
itself describes the message so: https://developers.google.com/discovery/v1/reference/apis
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

_INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}
_OUTPUT_ONLY = re.compile(r"\[?output only", re.IGNORECASE)


@dataclass(frozen=True)
class Method:
    """One method of an API.

    Attributes:
        method_id: for example ``compute.instances.insert``.
        spec: its entry in the document.
        path: what its address looks like.
        document: the API it belongs to.
    """

    method_id: str
    spec: Mapping[str, Any]
    path: re.Pattern[str]
    document: Mapping[str, Any]


@cache
def document(name: str) -> Mapping[str, Any]:
    """A discovery document, for example ``compute.v1``."""
    folder = files("googleapiclient") / "discovery_cache" / "documents"
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


@cache
def methods(*names: str) -> tuple[Method, ...]:
    """Every method of these APIs."""
    return tuple(
        Method(spec["id"], spec, _pattern(f"/{api['servicePath']}{spec['path']}", spec.get("parameters", {})), api)
        for api in map(document, names)
        for spec in _methods(api)
    )


def find(verb: str, path: str, *names: str) -> tuple[Method, dict[str, str]] | None:
    """The method that an address belongs to, with its path parameters; None for an address nobody describes."""
    for method in methods(*names):
        if method.spec["httpMethod"] == verb and (match := method.path.fullmatch(path)):
            return method, match.groupdict()
    return None


def request_complaints(method: Method, given: Mapping[str, str], query: Mapping[str, str], body: Any) -> Iterator[str]:
    """What Google would not take of a request."""
    known = {**method.document.get("parameters", {}), **method.spec.get("parameters", {})}
    for name, value in {**given, **query}.items():
        if name not in known:
            yield f"{method.method_id}: there is no parameter {name!r}"
        else:
            yield from _of_parameter(f"{method.method_id}: parameter {name}", known[name], value)
    for name, spec in known.items():
        if spec.get("required") and name not in given and name not in query:
            yield f"{method.method_id}: the parameter {name!r} is missing"
    wanted = method.spec.get("request")
    if wanted is None and body is not None:
        yield f"{method.method_id}: it takes no body"
    elif wanted is not None and body is None:
        yield f"{method.method_id}: the body is missing"
    elif wanted is not None:
        yield from _Judge(method, writing=True).complaints(wanted, body, method.method_id)


def response_complaints(method: Method, body: Any) -> Iterator[str]:
    """What of a reply Google would not send."""
    yield from _Judge(method, writing=False).complaints(method.spec["response"], body, f"reply to {method.method_id}")


def error_complaints(status: int, body: Any) -> Iterator[str]:
    """What of a refusal is not in Google's form: https://cloud.google.com/apis/design/errors#http_mapping."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        yield f"a reply with status {status} has no error"
        return
    for key, kind in {"code": int, "message": str, "errors": list}.items():
        if not isinstance(error.get(key), kind):
            yield f"error.{key} is {error.get(key)!r}"
    if error.get("code") != status:
        yield f"error.code {error.get('code')} is not the status {status}"
    for item in error.get("errors") or ():
        if set(item) - {"message", "domain", "reason", "location", "locationType", "extendedHelp"}:
            yield f"error.errors has {sorted(item)}"


def mask_complaints(method: Method, mask: str) -> Iterator[str]:
    """Paths of a field mask that the reply does not have."""
    for path in mask.split(","):
        node: Mapping[str, Any] = method.spec["response"]
        for step in path.split("/"):
            node = _inside(method, node, step)
            if not node:
                yield f"{method.method_id}: the field mask names {path}, which the reply does not have"
                break


class _Judge:
    def __init__(self, method: Method, writing: bool) -> None:
        self._method = method
        self._writing = writing

    def complaints(self, spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        if self._writing and _read_only(spec):
            yield f"{where}: it is read-only"
            return
        spec = _resolve(self._method, spec)
        if spec["type"] == "any":
            return
        check = {
            "object": self._of_object,
            "array": self._of_array,
            "string": self._of_string,
            "boolean": self._of_plain,
            "integer": self._of_plain,
            "number": self._of_plain,
        }[spec["type"]]
        yield from check(spec, value, where)

    def _of_object(self, spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is not an object"
            return
        properties, rest = spec.get("properties", {}), spec.get("additionalProperties")
        for key, item in value.items():
            inner = properties.get(key, rest)
            if inner is None:
                yield f"{where}: there is no field {key!r}"
            else:
                yield from self.complaints(inner, item, f"{where}.{key}")
        if self._writing:
            for key, inner in properties.items():
                if self._method.method_id in inner.get("annotations", {}).get("required", ()) and key not in value:
                    yield f"{where}: the field {key!r} is required"

    def _of_array(self, spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where}: {value!r} is not a list"
            return
        for index, item in enumerate(value):
            yield from self.complaints(spec["items"], item, f"{where}[{index}]")
            if isinstance(item, str) and "pattern" in spec and not re.fullmatch(spec["pattern"], item):
                yield f"{where}[{index}]: {item!r} is not {spec['pattern']}"

    def _of_string(self, spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        if not isinstance(value, str):
            yield f"{where}: {value!r} is not text"
            return
        form = spec.get("format")
        if form in _INTEGERS and not _is_integer(value, form):
            yield f"{where}: {value!r} is not {form}"
        if form == "byte" and not _is_base64(value):
            yield f"{where}: {value!r} is not base64"
        if "enum" in spec and value not in spec["enum"]:
            yield f"{where}: {value!r} is none of {_few(spec['enum'])}"
        if "pattern" in spec and not re.fullmatch(spec["pattern"], value):
            yield f"{where}: {value!r} is not {spec['pattern']}"
        if spec.get("readOnly") and where.endswith(".kind") and value != spec.get("default", value):
            yield f"{where}: {value!r} is not {spec['default']!r}"

    def _of_plain(self, spec: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
        kinds = {"boolean": bool, "integer": int, "number": (int, float)}[spec["type"]]
        if not isinstance(value, kinds) or (isinstance(value, bool) and spec["type"] != "boolean"):
            yield f"{where}: {value!r} is not {spec['type']}"
        elif spec.get("format") in _INTEGERS and not _is_integer(str(value), spec["format"]):
            yield f"{where}: {value!r} is not {spec['format']}"


def _of_parameter(where: str, spec: Mapping[str, Any], text: str) -> Iterator[str]:
    kind, form = spec["type"], spec.get("format")
    if kind == "boolean" and text not in ("true", "false"):
        yield f"{where}: {text!r} is not boolean"
    if kind == "integer" and not _is_integer(text, form or "int64"):
        yield f"{where}: {text!r} is not {form}"
    if "enum" in spec and text not in spec["enum"]:
        yield f"{where}: {text!r} is none of {_few(spec['enum'])}"
    if "pattern" in spec and not re.fullmatch(spec["pattern"], text):
        yield f"{where}: {text!r} is not {spec['pattern']}"


def _few(words: list[str]) -> str:
    return ", ".join(words) if len(words) <= 10 else f"{', '.join(words[:10])}, … ({len(words)} in all)"


def _read_only(spec: Mapping[str, Any]) -> bool:
    """Many fields are marked in their description only."""
    return bool(spec.get("readOnly")) or bool(_OUTPUT_ONLY.match(spec.get("description", "")))


def _resolve(method: Method, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return method.document["schemas"][spec["$ref"]] if "$ref" in spec else spec


def _inside(method: Method, spec: Mapping[str, Any], step: str) -> Mapping[str, Any]:
    spec = _resolve(method, spec)
    while spec.get("type") == "array":
        spec = _resolve(method, spec["items"])
    if step == "*":
        return spec.get("additionalProperties") or {}
    return spec.get("properties", {}).get(step, {})


def _methods(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from node.get("methods", {}).values()
    for inner in node.get("resources", {}).values():
        yield from _methods(inner)


def _pattern(path: str, parameters: Mapping[str, Any]) -> re.Pattern[str]:
    text = re.escape(urlsplit(path).path)
    for name in re.findall(r"\\\{\\\+(\w+)\\\}", text):
        whole = parameters[name]["pattern"].strip("^$")
        text = text.replace(rf"\{{\+{name}\}}", f"(?P<{name}>{whole})")
    for name in re.findall(r"\\\{(\w+)\\\}", text):
        assert name in parameters
        text = text.replace(rf"\{{{name}\}}", f"(?P<{name}>[^/]+)")
    return re.compile(text)


def _is_integer(text: str, form: str) -> bool:
    low, high = _INTEGERS[form]
    return re.fullmatch(r"-?[0-9]+", text) is not None and low <= int(text) <= high


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, altchars=b"-_", validate=True)
    except ValueError:
        return False
    return True
