"""Each row of the table of errors, as Google says it over HTTP and as the SDK raises it."""

from __future__ import annotations

import pytest

from autoscaler.providers.base import (
    BadRequestError,
    CapacityError,
    CredentialsError,
    NetworkError,
    NotFoundError,
    Provider,
    ProviderBugError,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from autoscaler.providers.gcp.errors import OPERATION_CODES, REASONS, STATUSES
from tests.contract.gcp.serving import GcpServer

INSERT, LIST = "compute.instances.insert", "compute.instances.aggregatedList"
# The status that each kind comes with; what is decided is decided by the reason.
USUAL = {
    ThrottledError: 403,
    QuotaError: 403,
    CapacityError: 503,
    CredentialsError: 403,
    BadRequestError: 400,
    NotFoundError: 404,
    NetworkError: 500,
}


def refused(google: GcpServer, provider: Provider, **fault: object) -> ProviderError:
    # A field mask that is refused is tried without: the refusal has to hold for both.
    google.fault("refuse", methods=[LIST], times=2, **fault)
    with pytest.raises(ProviderError) as refusal:
        provider.list()
    google.ask("clear")
    return refusal.value


def test_every_reason_of_a_refused_call_is_its_kind_of_error(google: GcpServer, owner: str):
    provider = google.provider(owner)
    for reason, kind in REASONS.items():
        told = {"info": reason} if reason.isupper() else {"reason": reason}
        error = refused(google, provider, status=USUAL[kind], message="Google's own words.", **told)
        assert type(error) is kind, reason
        assert error.cloud_code == reason
        assert "Google's own words." in error.message


def test_a_refusal_without_a_reason_is_known_by_its_status(google: GcpServer, owner: str):
    provider = google.provider(owner)
    for status, kind in STATUSES.items():
        error = refused(google, provider, status=status)
        # The SDK's session signs in again after a 401, which fails in the same way.
        assert type(error) is kind, status
        assert error.cloud_code == f"http {status}"
    assert type(refused(google, provider, status=418)) is ProviderBugError
    assert type(refused(google, provider, status=599)) is NetworkError


def test_every_code_of_a_failed_operation_is_its_kind_of_error(google, owner, spec):
    for code in OPERATION_CODES:
        google.fault("operation", methods=[INSERT], code=code, message="Google's own words.")
    results = google.provider(owner).launch([spec() for _ in OPERATION_CODES])

    seen: dict[str, ProviderError] = {}
    for result in results:
        assert isinstance(result, ProviderError)
        seen[result.cloud_code] = result
    # Whose name is taken is asked who it is, and there is nobody: that is doubt.
    taken = [error for error in seen.values() if isinstance(error, NetworkError)]
    assert len(taken) == 1
    for code in OPERATION_CODES.keys() - {"RESOURCE_ALREADY_EXISTS"}:
        assert type(seen[code]) is OPERATION_CODES[code], code
        assert seen[code].message == "Google's own words."


def test_a_code_that_is_not_in_the_table_is_a_bug_to_be_told_of(google, owner, spec):
    google.fault("operation", methods=[INSERT], code="SOMETHING_NEW", message="never heard of")
    (error,) = google.provider(owner).launch([spec()])
    assert type(error) is ProviderBugError
    assert "SOMETHING_NEW" in str(error)


def test_an_accelerator_quota_names_the_family_that_shares_it(google, owner, spec):
    words = "Quota 'NVIDIA_L4_GPUS' exceeded.  Limit: 1.0 in region europe-west4."
    google.fault("operation", methods=[INSERT], code="QUOTA_EXCEEDED", message=words)
    google.fault("refuse", methods=[INSERT], status=403, reason="quotaExceeded", message=words)
    errors = google.provider(owner).launch([spec(), spec()])

    assert [type(error) for error in errors] == [QuotaError, QuotaError]
    assert {error.family for error in errors if isinstance(error, QuotaError)} == {"gcp NVIDIA_L4_GPUS"}


@pytest.mark.parametrize("status", [403, 429])
def test_a_rate_quota_is_throttling_however_it_is_worded(google, owner, status):
    words = "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute' of service 'compute'."
    more = {"reason": "quotaExceeded", "message": words, "headers": {"Retry-After": "17"}}
    error = refused(google, google.provider(owner), status=status, **more)
    assert type(error) is ThrottledError
    assert error.retry_after_s == 17.0
    assert error.family == "gcp compute API"


def test_a_401_is_about_credentials_whatever_its_reason(google: GcpServer, owner: str):
    error = refused(google, google.provider(owner), status=401, reason="required", message="Login Required.")
    assert type(error) is CredentialsError


def test_what_an_insert_names_and_google_does_not_know_is_a_bad_request(google, owner, spec):
    here = google.site(network={"subnet": "nowhere"})
    (error,) = google.provider(owner, site=here).launch([spec()])
    assert type(error) is BadRequestError
    assert "subnetworks/nowhere" in str(error)
