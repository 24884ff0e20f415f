"""Spot notices: the cloud says in the machine's metadata that it will take the machine back, and when."""

from __future__ import annotations

import datetime
import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

_TIMEOUT_S = 2.0
_EVERY_S = 1.0
_LIMIT = 64 * 1024
# The metadata service is next to the machine: never through a proxy.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def read_notice(metadata_url: str) -> float | None:
    """When the machine is taken back (Unix seconds), or None while there is no notice or no answer.

    The notice appears at ``<metadata_url>/spot``.

    Understood are ``{"reclaim_at": <Unix seconds>}`` and the form of the EC2 instance metadata service,
    ``{"action": "terminate", "time": "2026-11-21T08:22:00Z"}``; a 404 means that there is no notice
    (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html).
    """
    try:
        with _OPENER.open(f"{metadata_url.rstrip('/')}/spot", timeout=_TIMEOUT_S) as response:
            return reclaim_time(json.loads(response.read(_LIMIT)))
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return None


def reclaim_time(told: Any) -> float | None:
    """The time in a notice; None for anything that is not one."""
    if not isinstance(told, dict):
        return None
    at = told.get("reclaim_at")
    if isinstance(at, (int, float)) and not isinstance(at, bool):
        return float(at)
    text = told.get("time")
    if told.get("action") in ("terminate", "stop", "hibernate") and isinstance(text, str):
        try:
            return datetime.datetime.fromisoformat(text).timestamp()
        except ValueError:
            return None
    return None


def watch(metadata_url: str, stopped: threading.Event, on_notice: Callable[[float], None]) -> None:
    """Look every second until there is a notice, then tell it, once; runs in a thread of its own."""
    while not stopped.is_set():
        reclaim_at = read_notice(metadata_url)
        if reclaim_at is not None:
            on_notice(reclaim_at)
            return
        stopped.wait(_EVERY_S)
