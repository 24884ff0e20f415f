"""What Azure's refusals mean here. Each row is one documented code; ``tests/contract/azure`` tests every one.

A refusal comes at once (``error.code`` of an HTTP answer) or later, inside the asynchronous operation of an accepted
launch; both carry the same codes and go through the same table.

Sources:
    https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors
    https://learn.microsoft.com/azure/virtual-machines/troubleshooting/troubleshoot-deployment-new-vm-linux
    https://learn.microsoft.com/azure/virtual-machines/error-codes-spot (spot)
    https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
    https://learn.microsoft.com/entra/identity-platform/reference-error-codes (AADSTS…, through azure-identity)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

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

ERRORS: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        # There is none there now.
        "AllocationFailed": CapacityError,
        "ZonalAllocationFailed": CapacityError,
        "OverconstrainedAllocationRequest": CapacityError,
        "OverconstrainedZonalAllocationRequest": CapacityError,
        "SkuNotAvailable": CapacityError,
        "AllocationTimeout": CapacityError,
        "CapacityReservationAllocationFailed": CapacityError,
        "LowPriorityEvicted": CapacityError,
        "MaxPriceLowerThanCurrentPrice": CapacityError,
        # The subscription may not have more.
        "QuotaExceeded": QuotaError,
        "ResourceQuotaExceeded": QuotaError,
        "PublicIPCountLimitReached": QuotaError,
        "NetworkInterfaceCountExceedsLimit": QuotaError,
        "SubnetIsFull": QuotaError,
        # Too many calls.
        "TooManyRequests": ThrottledError,
        "OperationNotAllowedThrottled": ThrottledError,
        "SubscriptionRequestsThrottled": ThrottledError,
        "ResourceRequestsThrottled": ThrottledError,
        # Not who we should be, or not allowed to.
        "AuthorizationFailed": CredentialsError,
        "LinkedAuthorizationFailed": CredentialsError,
        "AuthenticationFailed": CredentialsError,
        "AuthenticationFailedMissingToken": CredentialsError,
        "InvalidAuthenticationToken": CredentialsError,
        "InvalidAuthenticationTokenTenant": CredentialsError,
        "ExpiredAuthenticationToken": CredentialsError,
        "RequestDisallowedByPolicy": CredentialsError,
        "SubscriptionNotFound": CredentialsError,
        "SubscriptionNotRegistered": CredentialsError,
        "MissingSubscriptionRegistration": CredentialsError,
        "DisabledSubscription": CredentialsError,
        "ReadOnlyDisabledSubscription": CredentialsError,
        # What we asked for makes no sense there.
        "BadRequest": BadRequestError,
        "InvalidParameter": BadRequestError,
        "InvalidRequestContent": BadRequestError,
        "InvalidRequestFormat": BadRequestError,
        "InvalidResourceReference": BadRequestError,
        "InvalidImageReference": BadRequestError,
        "ImageNotFound": BadRequestError,
        "PlatformImageNotFound": BadRequestError,
        "MarketplacePurchaseEligibilityFailed": BadRequestError,
        "VMMarketplaceInvalidInput": BadRequestError,
        "LocationNotAvailableForResourceType": BadRequestError,
        "NoRegisteredProviderFound": BadRequestError,
        "AvailabilityZoneNotSupported": BadRequestError,
        "InvalidAvailabilityZone": BadRequestError,
        "InvalidTemplate": BadRequestError,
        "PropertyChangeNotAllowed": BadRequestError,
        "ResourceGroupNotFound": BadRequestError,
        "NotSupported": BadRequestError,
        "OSProvisioningClientError": BadRequestError,
        "VMSizeDoesntSupportSpot": BadRequestError,
        "ScopeLocked": BadRequestError,
        # There is a machine of that name already; launches look whose it is.
        "PreconditionFailed": BadRequestError,
        # It is not there.
        "ResourceNotFound": NotFoundError,
        "NotFound": NotFoundError,
        # It may or may not have been carried out, or has to be asked again.
        "Conflict": NetworkError,
        "AnotherOperationInProgress": NetworkError,
        "RetryableError": NetworkError,
        "ServerTimeout": NetworkError,
        "GatewayTimeout": NetworkError,
        "InternalServerError": NetworkError,
        "InternalExecutionError": NetworkError,
        "InternalOperationError": NetworkError,
        "ServiceUnavailable": NetworkError,
        "NetworkingInternalOperationError": NetworkError,
        "OperationPreempted": NetworkError,
        "OperationPreemptedByDelete": NetworkError,
    }
)

STATUSES: Mapping[int, type[ProviderError]] = MappingProxyType(
    {
        400: BadRequestError,
        401: CredentialsError,
        403: CredentialsError,
        404: NotFoundError,
        408: NetworkError,
        409: NetworkError,
        429: ThrottledError,
    }
)

# Classes of azure.core.exceptions and azure.identity, by name: this module is read where no SDK is installed.
SDK_ERRORS: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        "ClientAuthenticationError": CredentialsError,
        "CredentialUnavailableError": CredentialsError,
        "ServiceRequestError": NetworkError,
        "ServiceResponseError": NetworkError,
        "IncompleteReadError": NetworkError,
        "DecodeError": NetworkError,
        "DeserializationError": NetworkError,
        "SerializationError": ProviderBugError,
    }
)

# A quota refusal comes under a code that means other things as well; only its sentence tells.
_QUOTA = re.compile(r"quota|exceed(?:s|ed|ing)? (?:the )?(?:approved|maximum|limit)|LowPriorityCores", re.IGNORECASE)
_FAMILY = re.compile(
    r"(?:approved|exceeding\s+(?:approved\s+)?)\s*([A-Za-z0-9 ]*?(?:Family|Total Regional|LowPriority)[A-Za-z ]*?Cores)"
)
_ENTRA = re.compile(r"AADSTS\d+")
_RESTRICTED = "NotAvailableForSubscription"


def error_of(code: str, message: str, status: int, api: str, retry_after_s: float | None = None) -> ProviderError:
    """The typed error of one refusal.

    Args:
        code: Azure's error code; ``""`` where the body could not be read.
        message: its sentence.
        status: the HTTP status; 200 for one that was found inside an operation.
        api: the call, for example ``virtualMachines/write``: throttling is counted for each by itself.
        retry_after_s: what the ``Retry-After`` header says.
    """
    text = f"{api}: {' '.join(message.split())}"
    if code == "OperationNotAllowed":
        kind = QuotaError if _QUOTA.search(message) else ThrottledError if status == 429 else BadRequestError
    elif code == "SkuNotAvailable" and _RESTRICTED in message:
        # Not sold to this subscription at all: no other hour will do, another size may.
        kind = QuotaError
    elif code.startswith("AADSTS") and status != 429 and status < 500:
        # Entra gives no token, whatever status it says it with.
        kind = CredentialsError
    else:
        kind = ERRORS.get(code) or STATUSES.get(status) or (NetworkError if status >= 500 else ProviderBugError)
    family = _family(message) if kind is QuotaError else f"azure {api}" if kind is ThrottledError else ""
    return kind(text, cloud_code=code or f"http {status}", retry_after_s=retry_after_s, family=family)


def sdk_error_of(error: Exception, api: str) -> ProviderError:
    """The typed error of something that the SDK raised by itself."""
    names = [cls.__name__ for cls in type(error).__mro__]
    kind = next((SDK_ERRORS[name] for name in names if name in SDK_ERRORS), None)
    if kind is CredentialsError and _is_unanswered(error):
        kind = NetworkError
    if kind is None:
        kind = NetworkError if isinstance(error, OSError) else ProviderBugError
    text = " ".join(str(error).split())
    if "CERTIFICATE_VERIFY_FAILED" in text:
        text += "; name the CA bundle that signs the endpoint under ca: of the site"
    return kind(f"{api}: {text}", cloud_code=entra_code(text) or names[0])


def entra_code(message: str) -> str:
    """Entra's code in a message of its own; ``""`` if there is none."""
    told = _ENTRA.search(message)
    return "" if told is None else told.group()


def _is_unanswered(error: BaseException) -> bool:
    """Whether a sign-in failed because the authority could not be reached: azure-identity calls both the same."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        if SDK_ERRORS.get(type(cause).__name__) is NetworkError:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _family(message: str) -> str:
    found = _FAMILY.search(message)
    return f"azure {found.group(1).strip()}" if found else "azure cores"
