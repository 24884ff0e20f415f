"""Preflight: what is wrong is named, with what to do about it; and the policy that we ship is what is needed."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from autoscaler.providers.base import Check, Instance, Provider
from tests.contract.aws.cloud import NODE_TYPES, REGION, AwsCloud
from tests.contract.aws.proxy import Proxy

ROOT = Path(__file__).resolve().parents[3]
POLICY = ROOT / "configs/iam/aws.json"
WHOLE = {
    "instance_profile": "fabric-node",
    "node_types": {"l4": {**NODE_TYPES["l4"], "fleet": True}, "t4": NODE_TYPES["t4"]},
}


@pytest.fixture(scope="module")
def whole(steady: tuple[AwsCloud, Provider]) -> Provider:
    """A provider that makes every call there is."""
    cloud, _ = steady
    return cloud.provider(network=network(cloud), **WHOLE)


def failed(provider: Provider) -> dict[str, Check]:
    return {check.name: check for check in provider.check() if not check.ok}


def network(aws: AwsCloud) -> dict[str, Any]:
    subnets = aws.behind.describe_subnets()["Subnets"]
    group = aws.behind.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    return {"subnet": subnets[0]["SubnetId"], "security_groups": [group]}


def actions() -> set[str]:
    statements = json.loads(POLICY.read_text())["Statement"]
    return {action for statement in statements for action in statement["Action"]}


def test_a_site_that_is_well_has_no_complaint(aws: AwsCloud):
    assert failed(aws.provider(network=network(aws), **WHOLE)) == {}


@pytest.mark.parametrize("action", sorted(actions()))
def test_each_permission_that_is_missing_is_named(aws: AwsCloud, whole: Provider, action: str):
    aws.faults.denied = {action}
    complaints = [check for check in whole.check() if not check.ok]

    assert complaints
    assert any(
        action in f"{check.name} {check.remedy}" and "configs/iam/aws.json" in check.remedy for check in complaints
    )


def test_the_policy_allows_what_the_provider_calls_and_nothing_else(aws: AwsCloud):
    """All of the provider's life: fleets and instances, a preflight with a network, an end, and an old template."""
    aws.proxy.needed.clear()
    provider = aws.provider(network=network(aws), **WHOLE)
    specs = [aws.spec(offer) for offer in provider.offers()]
    results = provider.launch(specs)
    assert all(isinstance(result, Instance) for result in results), results
    provider.terminate([instance.instance_id for instance in provider.list()])
    provider.check()

    assert aws.proxy.needed == actions()


def test_every_statement_of_the_policy_says_what_it_is_for():
    policy = json.loads(POLICY.read_text())
    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        assert statement["Sid"]
        assert "*" not in statement["Action"]


def test_what_ends_or_changes_machines_is_allowed_only_on_our_own():
    by_action = {
        action: statement for statement in json.loads(POLICY.read_text())["Statement"] for action in statement["Action"]
    }
    for action in ("ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"):
        assert by_action[action]["Condition"]["Null"] == {"aws:ResourceTag/fabric-owner": "false"}


@pytest.mark.parametrize(
    ("more", "name", "words"),
    [
        ({"image": "ami-00000000000000000"}, "image", "ami-00000000000000000"),
        ({"image": "no-such-name"}, "image", "there is no such image"),
        ({"network": {"subnet": "subnet-00000000000000000"}}, "subnets", "subnet-00000000000000000"),
        ({"network": {"security_groups": ["sg-00000000000000000"]}}, "security groups", "sg-00000000000000000"),
        ({"node_types": {"l4": {**NODE_TYPES["l4"], "zones": ["eu-central-1z"]}}}, "instance types", "eu-central-1z"),
        ({"node_types": {"l4": {**NODE_TYPES["l4"], "price": {"spot": "1 USD/h"}}}}, "prices", "no on-demand price"),
        ({"endpoint": "http://127.0.0.1:1"}, "reachable", "127.0.0.1:1"),
        ({"profile": "nobody"}, "credentials", "nobody"),
    ],
)
def test_what_the_site_names_and_is_not_there_is_said(aws: AwsCloud, more: dict[str, Any], name: str, words: str):
    complaints = failed(aws.provider(**more))

    assert words in complaints[name].detail
    assert complaints[name].remedy


def test_a_subnet_of_another_zone_is_said(aws: AwsCloud):
    subnets = {one["AvailabilityZone"]: one["SubnetId"] for one in aws.behind.describe_subnets()["Subnets"]}
    complaints = failed(aws.provider(network={"subnets": {f"{REGION}a": subnets[f"{REGION}b"]}}))

    assert f"is in {REGION}b, not in {REGION}a" in complaints["subnets"].detail


def test_a_quota_that_is_too_small_is_said_with_its_code(aws: AwsCloud):
    aws.faults.quotas["L-3819A6DF"] = 64.0
    (complaint,) = failed(aws.provider()).values()

    assert complaint.detail == "64 vCPUs; the node types may take 384"
    assert "L-3819A6DF" in complaint.remedy


def test_a_preflight_makes_nothing(aws: AwsCloud):
    provider = aws.provider(network=network(aws), **WHOLE)
    provider.check()

    assert list(provider.list()) == []
    assert aws.leftovers() == []


def test_an_endpoint_with_a_certificate_of_your_own_needs_its_bundle(aws: AwsCloud, tmp_path: Path):
    bundle, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle, key)
    proxy = Proxy(aws.proxy.moto_port, context)
    try:
        assert list(aws.provider(endpoint=proxy.url, ca=str(bundle)).list()) == []
        complaints = failed(aws.provider(endpoint=proxy.url))
        assert "ca:" in complaints["reachable"].detail
    finally:
        proxy.close()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    bundle, secret = folder / "ca.pem", folder / "key.pem"
    bundle.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    secret.write_bytes(key.private_bytes(*form))
    return bundle, secret
