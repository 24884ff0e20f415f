"""What Google's refusals mean here. Each row is one documented code; ``tests/contract/gcp`` tests every one.

An HTTP refusal is known by its reason (``error.errors[].reason``, or ``reason`` of an ``ErrorInfo`` detail), failing
that by its status; a launch that fails later, inside its operation, by the code of ``operation.error.errors[]``.

Sources:
    https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation (operations, stock-outs, quotas)
    https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-resource-availability (resource pools)
    https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-bulk-vm-creation (HTTP reasons, bulk)
    https://cloud.google.com/compute/api-quota (rateLimitExceeded)
    https://cloud.google.com/apis/design/errors (status by HTTP code, ErrorInfo)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from autoscaler.providers.base import (
    BadRequestError,
    CapacityError,
    CredentialsError,
    NetworkError,
    NotFoundError,
    ProviderBugError,
    ProviderError,
    QuotaError,
    ThrottledError,
)

Kind = type[ProviderError]

REASONS: Mapping[str, Kind] = {
    # error.errors[].reason
    "rateLimitExceeded": ThrottledError,
    "userRateLimitExceeded": ThrottledError,
    "dailyLimitExceeded": ThrottledError,
    "resourceNotReady": ThrottledError,
    "quotaExceeded": QuotaError,
    "limitExceeded": QuotaError,
    "insufficientCapacity": CapacityError,
    "stockout": CapacityError,
    "authError": CredentialsError,
    "forbidden": CredentialsError,
    "insufficientPermissions": CredentialsError,
    "accessNotConfigured": CredentialsError,
    "accountDisabled": CredentialsError,
    "billingNotEnabled": CredentialsError,
    "invalid": BadRequestError,
    "invalidParameter": BadRequestError,
    "invalidUsage": BadRequestError,
    "badRequest": BadRequestError,
    "parseError": BadRequestError,
    "required": BadRequestError,
    "conditionNotMet": BadRequestError,
    "unsupportedOperation": BadRequestError,
    "resourceInUseByAnotherResource": BadRequestError,
    "alreadyExists": BadRequestError,
    "notFound": NotFoundError,
    "backendError": NetworkError,
    "internalError": NetworkError,
    # reason of google.rpc.ErrorInfo
    "RATE_LIMIT_EXCEEDED": ThrottledError,
    "RESOURCE_QUOTA_EXCEEDED": QuotaError,
    "SERVICE_DISABLED": CredentialsError,
    "BILLING_DISABLED": CredentialsError,
    "CONSUMER_SUSPENDED": CredentialsError,
    "CONSUMER_INVALID": CredentialsError,
    "USER_PROJECT_DENIED": CredentialsError,
    "IAM_PERMISSION_DENIED": CredentialsError,
    "ACCESS_TOKEN_EXPIRED": CredentialsError,
    "ACCESS_TOKEN_SCOPE_INSUFFICIENT": CredentialsError,
    "CREDENTIALS_MISSING": CredentialsError,
    "resource_availability": CapacityError,
}

STATUSES: Mapping[int, Kind] = {
    400: BadRequestError,
    401: CredentialsError,
    403: CredentialsError,
    404: NotFoundError,
    405: BadRequestError,
    409: BadRequestError,
    412: BadRequestError,
    413: BadRequestError,
    429: ThrottledError,
    # Whoever answered did not see the call through: it may or may not have been carried out.
    408: NetworkError,
    500: NetworkError,
    502: NetworkError,
    503: NetworkError,
    504: NetworkError,
}

OPERATION_CODES: Mapping[str, Kind] = {
    "ZONE_RESOURCE_POOL_EXHAUSTED": CapacityError,
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": CapacityError,
    "REGION_RESOURCE_POOL_EXHAUSTED": CapacityError,
    "RESOURCE_POOL_EXHAUSTED": CapacityError,
    "GPU_STOCKOUT": CapacityError,
    "VM_MIN_COUNT_NOT_REACHED": CapacityError,
    # Seen where a spot instance is reclaimed while it is being made; the table of codes does not have it.
    "UNSUPPORTED_OPERATION": CapacityError,
    # The operation has ended and made nothing: another offer may do better, the same token never will.
    "INTERNAL_ERROR": CapacityError,
    "QUOTA_EXCEEDED": QuotaError,
    "LIMIT_EXCEEDED": QuotaError,
    "RATE_LIMIT_EXCEEDED": ThrottledError,
    "RESOURCE_OPERATION_RATE_EXCEEDED": ThrottledError,
    "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED": ThrottledError,
    "RESOURCE_NOT_READY": ThrottledError,
    "PERMISSIONS_ERROR": CredentialsError,
    "SERVICE_ACCOUNT_ACCESS_DENIED": CredentialsError,
    "BILLING_DISABLED": CredentialsError,
    "INVALID_FIELD_VALUE": BadRequestError,
    "INVALID_USAGE": BadRequestError,
    "CONDITION_NOT_MET": BadRequestError,
    "RESOURCE_NOT_FOUND": BadRequestError,
    "RESOURCE_ALREADY_EXISTS": BadRequestError,
    "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE": BadRequestError,
    "IP_SPACE_EXHAUSTED": QuotaError,
    "IP_SPACE_EXHAUSTED_WITH_DETAILS": QuotaError,
}

# ``Quota 'NVIDIA_L4_GPUS' exceeded.  Limit: 1.0 in region europe-west4.``, or the metric of a newer message.
_METRIC = re.compile(r"[Qq]uota (?:metric )?'([^']+)'")
# The call is refused with 403 and one of these where a rate quota's metric is named in the message only.
_RATE = re.compile(r"per (?:minute|day|second|100 seconds)|[Rr]ate [Ll]imit")


def of_call(error: Exception, what: str) -> ProviderError:
    """The typed error of whatever a call into the SDK raised.

    Args:
        error: from ``google.api_core``, ``google.auth`` or ``requests``.
        what: the call in words, for the message.
    """
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError, TransportError
    from requests.exceptions import InvalidJSONError, InvalidProxyURL, InvalidURL, RequestException

    if isinstance(error, ProviderError):
        return error
    if isinstance(error, GoogleAPICallError):
        return _of_reply(error, what)
    if isinstance(error, TransportError | RetryError) or getattr(error, "retryable", False):
        return NetworkError(f"{what}: {_told(error)}", cloud_code="credentials not reached")
    if isinstance(error, GoogleAuthError):
        return CredentialsError(f"{what}: {_told(error)}", cloud_code=type(error).__name__)
    if isinstance(error, InvalidURL | InvalidProxyURL):
        return BadRequestError(f"{what}: {_told(error)}", cloud_code=type(error).__name__)
    if isinstance(error, RequestException) and not isinstance(error, InvalidJSONError):
        return NetworkError(f"{what}: {_told(error)}", cloud_code=type(error).__name__)
    return ProviderBugError(f"{what}: {_told(error)}", cloud_code=type(error).__name__)


def of_operation(operation: Any) -> ProviderError | None:
    """Why an operation failed; None if it did not. A code that is not in the table is a bug to be told of."""
    errors = [(str(item.code), str(item.message)) for item in operation.error.errors]
    if not errors:
        status = int(operation.http_error_status_code or 0)
        if status < 400:
            return None
        code, message = f"http {status}", str(operation.http_error_message)
        return STATUSES.get(status, ProviderBugError)(message or "the operation failed", cloud_code=code)
    # One error is the cause and others follow from it; what the table knows best comes first.
    code, message = min(errors, key=lambda pair: pair[0] not in OPERATION_CODES)
    kind = OPERATION_CODES.get(code, ProviderBugError)
    return kind(message or "the operation failed", cloud_code=code, family=_family(kind, message))


def _of_reply(error: Any, what: str) -> ProviderError:
    status = int(error.code or 0)
    message = f"{what}: {error.message}"
    for reason in _reasons(error):
        # Whoever says 401 with whatever reason does not know us.
        if status == 401:
            break
        if (kind := REASONS.get(reason)) is not None:
            if kind in (QuotaError, CredentialsError) and _RATE.search(str(error.message)):
                kind = ThrottledError
            family = _family(kind, str(error.message))
            return kind(message, cloud_code=reason, retry_after_s=_retry_after(error), family=family)
    kind = STATUSES.get(status, NetworkError if status >= 500 else ProviderBugError)
    family = _family(kind, str(error.message))
    return kind(message, cloud_code=f"http {status}", retry_after_s=_retry_after(error), family=family)


def _family(kind: Kind, message: str) -> str:
    """Of a quota the metric that all its machines share; of throttling, the API."""
    if kind is ThrottledError:
        return "gcp compute API"
    metric = _METRIC.search(message) if kind is QuotaError else None
    return f"gcp {metric[1]}" if metric else ""


def _reasons(error: Any) -> Iterable[str]:
    for item in cast(Iterable[Any], error.errors or ()):
        if isinstance(item, Mapping):
            yield str(cast(Mapping[str, Any], item).get("reason", ""))
    if reason := getattr(error, "reason", None):
        yield str(reason)


def _retry_after(error: Any) -> float | None:
    headers: Any = getattr(error.response, "headers", None)
    try:
        return float(headers["Retry-After"])
    except (KeyError, TypeError, ValueError):
        return None


def _told(error: Exception) -> str:
    """The error's own words, short: libraries nest whole requests in them."""
    return (str(error) or type(error).__name__)[:500]
