"""A refusal in Azure's form."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """What Azure answers instead of what was asked for.

    Attributes:
        status: the HTTP status.
        body: ``{"error": {"code": …, "message": …}}``.
        headers: more headers.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"error": {"code": code, "message": message}}
        self.headers = headers or {}
