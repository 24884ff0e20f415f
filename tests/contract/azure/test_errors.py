"""Each row of the table of errors, as Azure says it over HTTP and as the SDK raises it."""

from __future__ import annotations

import pytest

from autoscaler.providers.azure.errors import ERRORS, SDK_ERRORS, STATUSES, sdk_error_of
from autoscaler.providers.base import (
    BadRequestError,
    CapacityError,
    CredentialsError,
    Instance,
    NetworkError,
    NotFoundError,
    Provider,
    ProviderBugError,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from tests.conftest import wait_until
from tests.contract.azure.cloud import QUOTA
from tests.contract.azure.serving import AzureServer

# The status that each kind comes with; what is decided is decided by the code.
USUAL = {
    ThrottledError: 429,
    QuotaError: 409,
    CapacityError: 409,
    CredentialsError: 403,
    BadRequestError: 400,
    NotFoundError: 404,
    NetworkError: 500,
}


def refused(azure: AzureServer, provider: Provider, **fault: object) -> ProviderError:
    azure.fault("refuse", methods=["machines.list"], **fault)
    with pytest.raises(ProviderError) as refusal:
        provider.list()
    return refusal.value


def test_every_code_of_a_refused_call_is_its_kind_of_error(azure: AzureServer, owner: str):
    provider = azure.provider(owner)
    for code, kind in ERRORS.items():
        error = refused(azure, provider, status=USUAL[kind], code=code, message="Azure's own words.")
        assert type(error) is kind, code
        assert error.cloud_code == code
        assert "Azure's own words." in error.message


def test_every_code_is_the_same_error_when_it_comes_inside_the_operation(azure, owner, spec):
    # Whose name is taken is refused at once, never later.
    codes = [code for code in ERRORS if code != "PreconditionFailed"]
    for code in codes:
        azure.fault("operation", methods=["machines.put"], code=code, message="Azure's own words.")
    provider = azure.provider(owner)
    results = provider.launch([spec() for _ in codes])

    seen = {result.cloud_code: result for result in results if isinstance(result, ProviderError)}
    assert seen.keys() == set(codes)
    for code in codes:
        assert type(seen[code]) is ERRORS[code], code
        assert "Azure's own words." in seen[code].message
    wait_until(lambda: (provider.list(), not azure.of_owner(owner))[1], what="the end of what was left behind")


def test_a_refusal_without_a_known_code_is_known_by_its_status(azure: AzureServer, owner: str):
    provider = azure.provider(owner)
    for status, kind in STATUSES.items():
        assert type(refused(azure, provider, status=status, code="NeverHeardOf")) is kind, status
    assert type(refused(azure, provider, status=418, code="NeverHeardOf")) is ProviderBugError
    assert type(refused(azure, provider, status=599, code="NeverHeardOf")) is NetworkError


def test_a_code_of_an_operation_that_is_not_in_the_table_is_a_bug_to_be_told_of(azure, owner, spec):
    azure.fault("operation", methods=["machines.put"], code="SomethingNew", message="never heard of")
    provider = azure.provider(owner)
    (error,) = provider.launch([spec()])
    assert type(error) is ProviderBugError
    assert "SomethingNew" in str(error)
    wait_until(lambda: (provider.list(), not azure.of_owner(owner))[1], what="the end of what was left behind")


LOW_PRIORITY = (
    "Operation could not be completed as it results in exceeding approved LowPriorityCores quota. Additional details - "
    "Deployment Model: Resource Manager, Location: westeurope, Current Limit: 3, Current Usage: 0."
)
REGIONAL = (
    "Operation could not be completed as it results in exceeding approved Total Regional Cores quota. Additional "
    "details - Deployment Model: Resource Manager, Location: westeurope, Current Limit: 10, Current Usage: 8."
)


@pytest.mark.parametrize(
    ("words", "family"),
    [
        (QUOTA, "azure standardNCADSA100v4Family Cores"),
        (LOW_PRIORITY, "azure LowPriorityCores"),
        (REGIONAL, "azure Total Regional Cores"),
        ("Quota exceeded.", "azure cores"),
    ],
)
def test_a_quota_refusal_is_told_by_its_sentence_and_names_the_family_that_shares_it(azure, owner, spec, words, family):
    azure.fault("refuse", methods=["machines.put"], status=409, code="OperationNotAllowed", message=words)
    (error,) = azure.provider(owner).launch([spec()])
    assert type(error) is QuotaError
    assert error.family == family


def test_the_same_code_without_a_quota_is_a_bad_request_or_throttling(azure, owner):
    provider = azure.provider(owner)
    words = "Managed disk storage account type change through Virtual Machine is not allowed."
    assert type(refused(azure, provider, status=409, code="OperationNotAllowed", message=words)) is BadRequestError
    words = "The server rejected the request because too many requests have been received for this subscription."
    assert type(refused(azure, provider, status=429, code="OperationNotAllowed", message=words)) is ThrottledError


def test_a_size_that_a_subscription_may_never_have_is_not_a_matter_of_the_hour(azure, owner, spec):
    words = "The requested size is not available: NotAvailableForSubscription"
    azure.fault("refuse", methods=["machines.put"], status=409, code="SkuNotAvailable", message=words)
    (error,) = azure.provider(owner).launch([spec()])
    assert type(error) is QuotaError


def test_throttling_says_how_long_and_of_which_call(azure, owner):
    more = {"code": "OperationNotAllowedThrottled", "headers": {"Retry-After": "17"}}
    error = refused(azure, azure.provider(owner), status=429, **more)
    assert type(error) is ThrottledError
    assert (error.retry_after_s, error.family) == (17.0, "azure Microsoft.Compute/virtualMachines/read")


def test_what_a_launch_names_and_azure_does_not_know_is_a_bad_request(azure, owner, spec):
    for more in ({"resource_group": "elsewhere"}, {"image": "/subscriptions/x/images/none"}):
        (error,) = azure.provider(owner, site=azure.site().model_copy(update=more)).launch([spec()])
        assert type(error) is BadRequestError, more
    here = azure.site(network={"subnet": "/subscriptions/x/subnets/none"})
    (error,) = azure.provider(owner, site=here).launch([spec()])
    assert type(error) is BadRequestError
    assert "subnets/none" in str(error)


def test_entra_s_own_refusals_are_about_credentials(azure, owner, spec, tmp_path):
    wrong = tmp_path / "credentials.json"
    wrong.write_text(azure.credentials.read_text().replace("not-a-secret", "a-wrong-secret"))
    (error,) = azure.provider(owner, site=azure.site(credentials=str(wrong))).launch([spec()])
    assert type(error) is CredentialsError
    assert error.cloud_code == "AADSTS7000215"


def test_every_exception_of_the_sdk_is_its_kind_of_error():
    from azure import identity
    from azure.core import exceptions

    for name, kind in SDK_ERRORS.items():
        cls = getattr(exceptions, name, None) or getattr(identity, name)
        assert type(sdk_error_of(cls("words"), "any")) is kind, name
    assert type(sdk_error_of(KeyError("x"), "any")) is ProviderBugError
    assert type(sdk_error_of(ConnectionResetError(), "any")) is NetworkError


def test_a_launch_that_was_refused_may_be_asked_again(azure, owner, spec):
    azure.fault("refuse", methods=["machines.put"], status=429, code="TooManyRequests")
    provider, launch = azure.provider(owner), spec()
    assert type(provider.launch([launch])[0]) is ThrottledError
    (made,) = provider.launch([launch])
    assert isinstance(made, Instance)
    provider.terminate([made.instance_id])
