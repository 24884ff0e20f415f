"""Every way the sandbox cloud says no. The code is the contract; the provider's table maps each one."""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """Codes in ``{"error": {"code": …, "message": …}}``."""

    INSUFFICIENT_CAPACITY = "insufficient_capacity"
    QUOTA_EXCEEDED = "quota_exceeded"
    RATE_EXCEEDED = "rate_exceeded"
    UNAUTHORIZED = "unauthorized"
    INVALID_REQUEST = "invalid_request"
    UNKNOWN_OFFER = "unknown_offer"
    TOKEN_MISMATCH = "token_mismatch"  # noqa: S105 - the name of an error
    INSTANCE_NOT_FOUND = "instance_not_found"
    FAULT_NOT_FOUND = "fault_not_found"
    GATEWAY_TIMEOUT = "gateway_timeout"
    INTERNAL_ERROR = "internal_error"


STATUS = {
    ErrorCode.INSUFFICIENT_CAPACITY: 503,
    ErrorCode.QUOTA_EXCEEDED: 403,
    ErrorCode.RATE_EXCEEDED: 429,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.UNKNOWN_OFFER: 400,
    ErrorCode.TOKEN_MISMATCH: 409,
    ErrorCode.INSTANCE_NOT_FOUND: 404,
    ErrorCode.FAULT_NOT_FOUND: 404,
    ErrorCode.GATEWAY_TIMEOUT: 504,
    ErrorCode.INTERNAL_ERROR: 500,
}


class CloudError(Exception):
    """The cloud refuses: a code from the list, a sentence, and for throttling when to come back."""

    def __init__(self, code: ErrorCode, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s


class LostReplyError(Exception):
    """Scripted: the call was carried out, and its answer is not to reach the caller."""
