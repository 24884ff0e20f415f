"""Pages and filters of lists."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from tests.contract.gcp.refusal import Refusal


def page(items: list[dict[str, Any]], query: Mapping[str, str]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A page after the key in the token, so that what comes and goes moves nothing else."""
    size = int(query.get("maxResults", "500"))
    if not 0 < size <= 500:
        raise Refusal(
            400, "invalid", f"Invalid value for field 'maxResults': '{size}'. Must be less than or equal to 500"
        )
    after = base64.b64decode(query.get("pageToken", "")).decode()
    rest = sorted((one for one in items if one["selfLink"] > after), key=lambda one: one["selfLink"])
    here = rest[:size]
    if len(rest) <= size:
        return here, {}
    return here, {"nextPageToken": base64.b64encode(here[-1]["selfLink"].encode()).decode()}


def filtered(items: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The part of AIP-160 that is needed: equalities, in brackets where there are several, joined by OR."""
    if not text:
        return items
    wanted: list[tuple[list[str], str]] = []
    for term in text.split(" OR "):
        match = re.fullmatch(r'\(?([\w.-]+) = (?:"([^"]*)"|([0-9]+))\)?', term)
        if match is None:
            raise Refusal(
                400, "invalid", f"Invalid value for field 'filter': '{text}'. Invalid list filter expression."
            )
        wanted.append((match[1].split("."), match[2] if match[2] is not None else match[3]))
    return [one for one in items if any(_at(one, path) == value for path, value in wanted)]


def _at(item: Any, path: list[str]) -> Any:
    for step in path:
        item = item.get(step, {})
    return item
