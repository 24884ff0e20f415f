"""What each error of EC2, STS and the SDK means to the fabric: one table, each row tested over the wire.

Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html for the codes,
https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html for those of STS, ``botocore.exceptions`` for what
never reached a cloud.
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

DOCUMENTATION = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"

ERRORS: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        # There is none there now.
        "InsufficientInstanceCapacity": CapacityError,
        "InsufficientHostCapacity": CapacityError,
        "InsufficientCapacity": CapacityError,
        "InsufficientCapacityOnHost": CapacityError,
        "InsufficientReservedInstanceCapacity": CapacityError,
        "InsufficientVolumeCapacity": CapacityError,
        "InsufficientAddressCapacity": CapacityError,
        "InsufficientFreeAddressesInSubnet": CapacityError,
        "ReservationCapacityExceeded": CapacityError,
        "InvalidCapacityReservationState.PendingActivation": CapacityError,
        "SpotMaxPriceTooLow": CapacityError,
        "UnfulfillableCapacity": CapacityError,
        "UnavailableHostRequirements": CapacityError,
        # Of a launch it says: not this type in this zone. Another zone or type may do.
        "Unsupported": CapacityError,
        "VolumeTypeNotAvailableInZone": CapacityError,
        # The account may not have more.
        "VcpuLimitExceeded": QuotaError,
        "InstanceLimitExceeded": QuotaError,
        "MaxSpotInstanceCountExceeded": QuotaError,
        "MaxSpotFleetRequestCountExceeded": QuotaError,
        "VolumeLimitExceeded": QuotaError,
        "MaxIOPSLimitExceeded": QuotaError,
        "NetworkInterfaceLimitExceeded": QuotaError,
        "ResourceLimitExceeded": QuotaError,
        "ResourceCountExceeded": QuotaError,
        "MaxTemplateLimitExceeded": QuotaError,
        # Too many calls.
        "RequestLimitExceeded": ThrottledError,
        "Throttling": ThrottledError,
        "ThrottlingException": ThrottledError,
        "RequestThrottled": ThrottledError,
        "EC2ThrottledException": ThrottledError,
        "BandwidthLimitExceeded": ThrottledError,
        "ConcurrentTagAccess": ThrottledError,
        # Not who we should be, or not allowed to.
        "AuthFailure": CredentialsError,
        "UnauthorizedOperation": CredentialsError,
        "AccessDenied": CredentialsError,
        "AccessDeniedException": CredentialsError,
        "InvalidClientTokenId": CredentialsError,
        "UnrecognizedClientException": CredentialsError,
        "SignatureDoesNotMatch": CredentialsError,
        "InvalidSignatureException": CredentialsError,
        "IncompleteSignature": CredentialsError,
        "MissingAuthenticationToken": CredentialsError,
        "ExpiredToken": CredentialsError,
        "ExpiredTokenException": CredentialsError,
        # Also what a wrong clock on this machine looks like.
        "RequestExpired": CredentialsError,
        "OptInRequired": CredentialsError,
        "PendingVerification": CredentialsError,
        "Blocked": CredentialsError,
        "AccountDisabled": CredentialsError,
        "CustomerKeyHasBeenRevoked": CredentialsError,
        # What we asked for makes no sense there.
        "IdempotentParameterMismatch": BadRequestError,
        "InvalidClientToken": BadRequestError,
        "InvalidAMIID.NotFound": BadRequestError,
        "InvalidAMIID.Malformed": BadRequestError,
        "InvalidAMIID.Unavailable": BadRequestError,
        "InvalidSubnet": BadRequestError,
        "InvalidSubnetID.NotFound": BadRequestError,
        "InvalidSubnetID.Malformed": BadRequestError,
        "InvalidGroup.NotFound": BadRequestError,
        "InvalidGroupId.Malformed": BadRequestError,
        "InvalidSecurityGroupID.NotFound": BadRequestError,
        "InvalidZone.NotFound": BadRequestError,
        "InvalidAvailabilityZone": BadRequestError,
        "InvalidInstanceType": BadRequestError,
        "InvalidIamInstanceProfileArn.Malformed": BadRequestError,
        "NoSuchEntity": BadRequestError,
        "InvalidBlockDeviceMapping": BadRequestError,
        "InvalidCapacityReservationId.NotFound": BadRequestError,
        "InvalidCapacityReservationId.Malformed": BadRequestError,
        "InvalidParameter": BadRequestError,
        "InvalidParameterValue": BadRequestError,
        "InvalidParameterCombination": BadRequestError,
        "InvalidParameterDependency": BadRequestError,
        "InvalidUserData.Malformed": BadRequestError,
        "InvalidTagKey.Malformed": BadRequestError,
        "TagPolicyViolation": BadRequestError,
        "TagLimitExceeded": BadRequestError,
        "MissingParameter": BadRequestError,
        "UnknownParameter": BadRequestError,
        "UnsupportedOperation": BadRequestError,
        "UnsupportedTenancy": BadRequestError,
        "EncryptedVolumesNotSupported": BadRequestError,
        "SecurityGroupsPerInstanceLimitExceeded": BadRequestError,
        "SecurityGroupsPerInterfaceLimitExceeded": BadRequestError,
        "VPCIdNotSpecified": BadRequestError,
        "VPCResourceNotSpecified": BadRequestError,
        "DefaultVpcDoesNotExist": BadRequestError,
        "OperationNotPermitted": BadRequestError,
        "IncorrectInstanceState": BadRequestError,
        "ValidationError": BadRequestError,
        "InvalidAction": BadRequestError,
        "InvalidPaginationToken": NetworkError,  # its listing has to be begun again
        # No such instance.
        "InvalidInstanceID.NotFound": NotFoundError,
        "InvalidInstanceID.Malformed": NotFoundError,
        # Its interface goes with it, and some answer for the interface when they are asked to end it again.
        "InvalidNetworkInterfaceID.NotFound": NotFoundError,
        "IdempotentInstanceTerminated": NotFoundError,
        "InvalidLaunchTemplateName.NotFoundException": NotFoundError,
        # It may or may not have been carried out.
        "InternalError": NetworkError,
        "InternalFailure": NetworkError,
        "ServerInternal": NetworkError,
        "RetryableError": NetworkError,
        "Unavailable": NetworkError,
        "ServiceUnavailable": NetworkError,
        "RequestTimeout": NetworkError,
    }
)

# Prefixes of the many codes of one sense that the documentation lists one by one.
PREFIXES: Mapping[str, type[ProviderError]] = MappingProxyType(
    {"InvalidAMI": BadRequestError, "InvalidParameter": BadRequestError, "InvalidCapacityBlock": BadRequestError}
)

# Classes of botocore.exceptions, by name: this module is read where no SDK is installed.
SDK_ERRORS: Mapping[str, type[ProviderError]] = MappingProxyType(
    {
        "NoCredentialsError": CredentialsError,
        "PartialCredentialsError": CredentialsError,
        "CredentialRetrievalError": CredentialsError,
        "TokenRetrievalError": CredentialsError,
        "SSOError": CredentialsError,
        "LoginError": CredentialsError,
        "MetadataRetrievalError": CredentialsError,
        "RefreshWithMFAUnsupportedError": CredentialsError,
        "ProfileNotFound": CredentialsError,
        "ConfigParseError": CredentialsError,
        "ConfigNotFound": CredentialsError,
        "NoRegionError": BadRequestError,
        "InvalidRegionError": BadRequestError,
        "UnknownRegionError": BadRequestError,
        "UnknownEndpointError": BadRequestError,
        "EndpointProviderError": BadRequestError,
        "InvalidProxiesConfigError": BadRequestError,
        "HTTPClientError": NetworkError,
        "ConnectionError": NetworkError,
        "ResponseParserError": NetworkError,
        "ParamValidationError": ProviderBugError,
    }
)

_ACTION = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)")


def error_of(code: str, message: str, status: int, api: str) -> ProviderError:
    """The typed error of one refusal.

    Args:
        code: EC2's error code, or the HTTP status as text where the body could not be read.
        message: its sentence.
        status: the HTTP status.
        api: the operation, for example ``RunInstances``: throttling is counted for each by itself.
    """
    kind = ERRORS.get(code) or next((kind for prefix, kind in PREFIXES.items() if code.startswith(prefix)), None)
    if kind is None:
        kind = NetworkError if status >= 500 else ProviderBugError
    return kind(f"{api}: {message}", cloud_code=code, family=f"aws {api}" if kind is ThrottledError else "")


def sdk_error_of(error: Exception, api: str) -> ProviderError:
    """The typed error of something that the SDK raised by itself."""
    names = [cls.__name__ for cls in type(error).__mro__]
    kind = next((SDK_ERRORS[name] for name in names if name in SDK_ERRORS), ProviderBugError)
    text = " ".join(str(error).split())
    if "CERTIFICATE_VERIFY_FAILED" in text:
        text += "; name the CA bundle that signs the endpoint under ca: of the site"
    return kind(f"{api}: {text}", cloud_code=names[0])


def denied_action(error: ProviderError, api: str) -> str:
    """The permission that is missing: the one that the message names, else that of the call itself."""
    named = _ACTION.search(error.message)
    return named.group(1) if named else f"ec2:{api}"
