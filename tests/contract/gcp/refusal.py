"""A refusal in Google's form."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """What Google answers instead of what was asked for.

    Attributes:
        status: the HTTP status.
        body: https://cloud.google.com/apis/design/errors#http_mapping
        headers: more headers.
    """

    def __init__(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        domain = "usageLimits" if status in (403, 429) and "xceeded" in reason else "global"
        item = {"message": message, "domain": domain, "reason": reason}
        self.status = status
        self.body: dict[str, Any] = {"error": {"code": status, "message": message, "errors": [item]}}
        self.headers = headers or {}
