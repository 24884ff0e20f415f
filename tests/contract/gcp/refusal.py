"""A refusal in Google's form."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """What Google answers instead of what was asked for.

    Attributes:
        status: the HTTP status.
        body: https://cloud.google.com/apis/design/errors#http_mapping
        headers: more headers.

    Args:
        status: the HTTP status.
        reason: of ``error.errors[0]``; ``""`` for a refusal in the newer form, which has no errors.
        message: for people.
        headers: more headers.
        info: reason of an ``ErrorInfo`` in ``error.details``.
    """

    def __init__(
        self, status: int, reason: str, message: str, headers: dict[str, str] | None = None, info: str = ""
    ) -> None:
        super().__init__(message)
        domain = "usageLimits" if status in (403, 429) and "xceeded" in reason else "global"
        item = {"message": message, "domain": domain, "reason": reason}
        self.status = status
        self.body: dict[str, Any] = {"error": {"code": status, "message": message, "errors": [item] if reason else []}}
        if info:
            detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": info, "domain": "googleapis.com"}
            self.body["error"] |= {"details": [detail]}
        self.headers = headers or {}
