"""Every row of the tables of ``autoscaler/providers/aws/errors.py``, as EC2 or the SDK says it."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import botocore.exceptions
import botocore.parsers
import pytest

from autoscaler.providers.aws.errors import DOCUMENTATION, ERRORS, SDK_ERRORS, error_of, sdk_error_of
from autoscaler.providers.base import (
    BadRequestError,
    CapacityError,
    CredentialsError,
    Instance,
    NetworkError,
    Provider,
    ProviderBugError,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from tests.contract.aws.cloud import AwsCloud


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_each_code_of_ec2_is_its_own_kind_of_error(steady: tuple[AwsCloud, Provider], code: str):
    cloud, provider = steady
    cloud.refuse_with(code, "as documented", 400)
    (refusal,) = provider.launch([cloud.spec(provider.offers()[0])])

    assert type(refusal) is ERRORS[code]
    assert refusal.cloud_code == code
    assert "as documented" in refusal.message


def test_a_code_that_nobody_knows_is_a_bug_unless_the_server_failed(aws: AwsCloud):
    aws.refuse_with("SomethingNew", "never heard of", 400)
    aws.refuse_with("SomethingNew", "never heard of", 500)
    first, second = (aws.provider().launch([aws.spec()])[0] for _ in range(2))

    assert type(first) is ProviderBugError
    assert type(second) is NetworkError


def test_an_answer_of_something_between_us_and_ec2_is_no_answer(aws: AwsCloud):
    aws.refuse_with("", "", 502)
    (refusal,) = aws.provider().launch([aws.spec()])

    assert type(refusal) is NetworkError


def test_codes_of_one_prefix_are_of_one_kind():
    assert type(error_of("InvalidAMIName.Malformed", "m", 400, "DescribeImages")) is BadRequestError
    assert DOCUMENTATION.startswith("https://docs.aws.amazon.com/")


def test_a_quota_refusal_names_the_family_that_shares_the_quota(aws: AwsCloud):
    offers = {(offer.node_type, offer.market): offer for offer in aws.provider().offers()}
    for market in ("spot", "on-demand"):
        aws.refuse(QuotaError)
        (refusal,) = aws.provider().launch([aws.spec(offers["aws.l4", market])])
        assert isinstance(refusal, QuotaError)
        assert refusal.family == f"aws G and VT {market}"


def test_throttling_names_the_api_that_is_throttled(aws: AwsCloud):
    aws.refuse(ThrottledError, "list")
    with pytest.raises(ThrottledError) as refusal:
        aws.provider().list()

    assert refusal.value.family == "aws DescribeInstances"


@pytest.mark.parametrize("name", sorted(SDK_ERRORS))
def test_each_error_of_the_sdk_exists_and_is_its_own_kind(name: str):
    kind = getattr(botocore.exceptions, name, None) or getattr(botocore.parsers, name)
    error = kind.__new__(kind)
    Exception.__init__(error, "as the SDK says it")

    assert type(sdk_error_of(error, "RunInstances")) is SDK_ERRORS[name]


def test_credentials_that_are_not_there_are_a_credentials_error(
    aws: AwsCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    half = tmp_path / "half"
    half.write_text("[default]\naws_access_key_id = AKIA\n")
    for more in ({"credentials": None}, {"profile": "nobody"}, {"credentials": str(half)}):
        (refusal,) = aws.provider(**more).launch([aws.spec()])
        assert type(refusal) is CredentialsError, more


def test_credentials_that_are_renewed_in_the_file_are_read_again(aws: AwsCloud, tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("[default]\naws_access_key_id = AKIAOLD\naws_secret_access_key = a\n")
    provider = aws.provider(credentials=str(keys))
    aws.refuse(CredentialsError)
    assert isinstance(provider.launch([aws.spec()])[0], CredentialsError)

    keys.write_text("[default]\naws_access_key_id = AKIANEW\naws_secret_access_key = b\n")
    assert isinstance(provider.launch([aws.spec()])[0], Instance)
    assert aws.proxy.last_key == "AKIANEW"


def test_a_clock_that_is_wrong_by_an_hour_is_said_to_be_so(aws: AwsCloud):
    aws.faults.skew_s = 3600
    provider = aws.provider()
    (refusal,) = provider.launch([aws.spec()])
    with pytest.raises(CredentialsError):
        provider.list()
    (check,) = provider.check()

    assert type(refusal) is CredentialsError
    assert not check.ok
    assert "clock" in check.remedy
    aws.clear()
    assert list(provider.list()) == []


@pytest.fixture
def mute() -> Iterator[str]:
    """A server that takes a request and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(100)
                connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_server_that_hangs_up_or_is_no_server_is_a_network_error(aws: AwsCloud, mute: str):
    for more in ({"endpoint": mute}, {"endpoint": "http://127.0.0.1:1"}, {"proxy": "http://127.0.0.1:1"}):
        (refusal,) = aws.provider(**more).launch([aws.spec()])
        assert type(refusal) is NetworkError, more


def test_a_price_that_nobody_knows_is_said_with_its_key(aws: AwsCloud):
    block = {"instance_type": "g6.12xlarge", "market": ["spot"], "max": 1, "price": {"on-demand": "1 USD/h"}}
    provider = aws.provider(node_types={"l4": block})
    with pytest.raises(BadRequestError, match=r"sites\.aws\.node_types\.l4: no spot price is known for g6\.12xlarge"):
        provider.offers()


def test_capacity_that_is_out_in_one_zone_is_there_in_another(aws: AwsCloud):
    offers = [offer for offer in aws.provider().offers() if offer.node_type == "aws.l4"]
    here, there = offers[0], next(offer for offer in offers if offer.zone != offers[0].zone)
    aws.refuse(CapacityError)
    aws.faults.refusals[-1].zone = here.zone
    results = aws.provider().launch([aws.spec(there), aws.spec(dataclasses.replace(here))])

    assert isinstance(results[0], Instance)
    assert type(results[1]) is CapacityError


def test_every_error_says_which_call_it_was(aws: AwsCloud):
    aws.refuse(CapacityError)
    (refusal,) = aws.provider().launch([aws.spec()])

    assert isinstance(refusal, ProviderError)
    assert str(refusal).startswith("RunInstances: ")
    assert str(refusal).endswith("(InsufficientInstanceCapacity)")
