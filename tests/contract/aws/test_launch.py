"""What EC2 is really asked for, read from the wire."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from autoscaler.providers.aws.client import CALLS, beside
from autoscaler.providers.aws.images import query
from autoscaler.providers.aws.quotas import family_of
from autoscaler.providers.aws.replies import instance_of
from autoscaler.providers.aws.requests import client_token, dollars, user_data
from autoscaler.providers.base import BadRequestError, CapacityError, Instance, InstanceState, NetworkError, Provider
from fabric.model.nodes import Market
from tests.contract.aws.cloud import NODE_TYPES, REGION, AwsCloud
from tests.contract.aws.wire import tree

ROOT = Path(__file__).resolve().parents[3]
TAGGED = {"instance", "volume", "network-interface"}


def asked(
    aws: AwsCloud, provider: Provider, market: str = "on-demand", user_data: str = "#!/bin/sh\n"
) -> dict[str, Any]:
    """The members of the one RunInstances that a launch makes."""
    offer = next(o for o in provider.offers() if o.node_type == "aws.l4" and o.market == market)
    spec = dataclasses.replace(aws.spec(offer), user_data=user_data)
    before = len(aws.proxy.calls)
    (result,) = provider.launch([spec])
    assert isinstance(result, Instance), result
    (form,) = [form for action, form in aws.proxy.calls[before:] if action == "RunInstances"]
    return tree(form)


def tags(request: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {
        group["ResourceType"]: {tag["Key"]: tag["Value"] for tag in group["Tag"].values()}
        for group in request["TagSpecification"].values()
    }


def test_an_instance_is_asked_for_as_safely_as_ec2_allows(aws: AwsCloud):
    request = asked(aws, aws.provider())

    assert request["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": "1",
    }
    (disk,) = request["BlockDeviceMapping"].values()
    assert disk["DeviceName"] == "/dev/sda1"
    assert disk["Ebs"] == {
        "VolumeSize": "200",
        "VolumeType": "gp3",
        "Encrypted": "true",
        "DeleteOnTermination": "true",
    }
    (interface,) = request["NetworkInterface"].values()
    assert interface == {"DeviceIndex": "0", "AssociatePublicIpAddress": "false", "DeleteOnTermination": "true"}
    assert request["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert request["MinCount"] == request["MaxCount"] == "1"
    assert request["Placement"] == {"AvailabilityZone": f"{REGION}a"}
    assert "IamInstanceProfile" not in request
    assert "InstanceMarketOptions" not in request


def test_everything_that_is_made_carries_every_tag(aws: AwsCloud):
    on_demand, spot = asked(aws, aws.provider()), asked(aws, aws.provider(), "spot")

    assert set(tags(on_demand)) == TAGGED
    assert set(tags(spot)) == TAGGED | {"spot-instances-request"}
    for request in (on_demand, spot):
        for given in tags(request).values():
            assert set(given) == {"fabric-owner", "fabric-token", "fabric-node-type", "fabric-offer"}
            assert given["fabric-token"] == request["ClientToken"]


def test_tags_of_the_site_are_on_everything_and_never_in_the_place_of_ours(aws: AwsCloud):
    mine = {"cost-centre": "r-and-d", "fabric-owner": "somebody-else"}
    for given in tags(asked(aws, aws.provider(tags=mine))).values():
        assert given["cost-centre"] == "r-and-d"
        assert given["fabric-owner"] == aws.owner


def test_a_spot_instance_never_costs_more_than_the_budget_was_told(aws: AwsCloud):
    market = asked(aws, aws.provider(), "spot")["InstanceMarketOptions"]

    assert market["MarketType"] == "spot"
    assert market["SpotOptions"] == {
        "SpotInstanceType": "one-time",
        "InstanceInterruptionBehavior": "terminate",
        "MaxPrice": "2.300000",
    }
    assert dollars(5) == "0.000005"
    aws.refuse_with("SpotMaxPriceTooLow", "Your Spot request price is lower than the minimum", 400)
    assert isinstance(aws.provider().launch([aws.spec()])[0], CapacityError)


def test_what_the_site_says_about_network_and_profile_is_asked_for(aws: AwsCloud):
    subnets = {one["AvailabilityZone"]: one["SubnetId"] for one in aws.behind.describe_subnets()["Subnets"]}
    group = aws.behind.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    network = {
        "subnet": subnets[f"{REGION}b"],
        "subnets": {f"{REGION}a": subnets[f"{REGION}a"]},
        "security_groups": [group],
        "public_address": True,
    }
    provider = aws.provider(network=network, instance_profile="fabric-node")
    offers = {offer.zone: offer for offer in provider.offers() if offer.node_type == "aws.l4"}
    for zone, subnet in ((f"{REGION}a", subnets[f"{REGION}a"]), (f"{REGION}b", subnets[f"{REGION}b"])):
        before = len(aws.proxy.calls)
        assert isinstance(provider.launch([aws.spec(offers[zone])])[0], Instance)
        (form,) = [form for action, form in aws.proxy.calls[before:] if action == "RunInstances"]
        (interface,) = tree(form)["NetworkInterface"].values()
        assert interface["SubnetId"] == subnet
        assert interface["AssociatePublicIpAddress"] == "true"
        assert list(interface["SecurityGroupId"].values()) == [group]
        assert tree(form)["IamInstanceProfile"] == {"Name": "fabric-node"}


@pytest.mark.parametrize(
    ("more", "target", "market"),
    [
        ({"reservation": "cr-0123456789abcdef0"}, {"CapacityReservationId": "cr-0123456789abcdef0"}, None),
        (
            {"reservation": "arn:aws:resource-groups:eu-central-1:1:group/g"},
            {"CapacityReservationResourceGroupArn": "arn:aws:resource-groups:eu-central-1:1:group/g"},
            None,
        ),
        (
            {"reservation": "cr-0123456789abcdef0", "capacity_block": True},
            {"CapacityReservationId": "cr-0123456789abcdef0"},
            {"MarketType": "capacity-block"},
        ),
    ],
)
def test_a_reservation_or_capacity_block_is_used_by_its_id(
    aws: AwsCloud, more: dict[str, Any], target: dict[str, str], market: dict[str, str] | None
):
    provider = aws.provider(node_types={"l4": {**NODE_TYPES["l4"], **more}})
    before = len(aws.proxy.calls)
    specs = [aws.spec(o) for o in provider.offers() if o.zone == f"{REGION}a"]
    provider.launch(specs)
    forms = {form["ClientToken"]: tree(form) for action, form in aws.proxy.calls[before:] if action == "RunInstances"}
    for spec in specs:
        request = forms[spec.token]
        if spec.offer.market is Market.SPOT:
            assert "CapacityReservationSpecification" not in request
            assert request["InstanceMarketOptions"]["MarketType"] == "spot"
        else:
            assert request["CapacityReservationSpecification"] == {"CapacityReservationTarget": target}
            assert request.get("InstanceMarketOptions") == market


def test_a_long_boot_script_is_compressed_and_a_short_one_is_as_it_is(aws: AwsCloud):
    long = "#!/bin/sh\n" + "echo the same line again\n" * 2000
    for script, packed in (("#!/bin/sh\necho hello\n", False), (long, True)):
        sent = base64.b64decode(asked(aws, aws.provider(), user_data=script)["UserData"])
        assert len(sent) <= 16 * 1024
        assert (gzip.decompress(sent) if packed else sent).decode() == script
    assert user_data(long) == user_data(long), "a retry with the same token must be the same request"

    noise = random.Random(1).randbytes(40_000).hex()
    with pytest.raises(BadRequestError, match="EC2 takes 16384"):
        user_data(noise)


def test_the_disk_is_never_smaller_than_the_images(aws: AwsCloud):
    request = asked(aws, aws.provider(node_types={"l4": {**NODE_TYPES["l4"], "disk": "1GiB"}}))
    (image,) = aws.behind.describe_images(ImageIds=["ami-785db401"])["Images"]

    (disk,) = request["BlockDeviceMapping"].values()
    assert int(disk["Ebs"]["VolumeSize"]) == image["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] > 1


def test_a_hundred_launches_are_not_a_hundred_calls_one_after_the_other(aws: AwsCloud):
    aws.faults.delay_s = 0.02
    aws.proxy.most_at_once = 0
    provider = aws.provider()
    offer = provider.offers()[0]
    results = provider.launch([aws.spec(offer) for _ in range(100)])

    assert all(isinstance(result, Instance) for result in results)
    assert len({result.instance_id for result in results if isinstance(result, Instance)}) == 100
    assert aws.proxy.most_at_once > CALLS // 2


def test_a_configuration_that_changed_between_two_tries_gives_the_first_ones_instance(aws: AwsCloud):
    spec = aws.spec()
    aws.lose_reply("launch")
    aws.provider().launch([spec])
    (again,) = aws.provider(node_types={**NODE_TYPES, "l4": {**NODE_TYPES["l4"], "disk": "300GiB"}}).launch([spec])

    assert isinstance(again, Instance)
    assert [instance.instance_id for instance in aws.provider().list()] == [again.instance_id]


def test_a_token_that_ec2_would_not_take_is_shortened_to_one_that_it_does():
    assert client_token("fab-0123456789abcdef") == "fab-0123456789abcdef"
    assert len(client_token("x" * 200)) == 64
    assert client_token("x" * 200) != client_token("x" * 201)
    assert client_token("tök").isascii()


def test_moto_as_it_is_serves_the_provider_too(aws: AwsCloud):
    """Emulators that are not ours get no help from the proxy."""
    provider = aws.provider(endpoint=f"http://127.0.0.1:{aws.proxy.moto_port}")
    (instance,) = provider.launch([aws.spec()])
    assert isinstance(instance, Instance)
    assert provider.terminate([instance.instance_id]) == {instance.instance_id: None}
    (answer,) = provider.terminate([instance.instance_id]).values()

    assert answer is not None
    assert answer.code == "not_found"
    (listed,) = provider.list()
    assert listed.state is InstanceState.ENDED
    assert listed.ended_at_ms is not None


def test_only_the_yaml_says_where_the_api_is(aws: AwsCloud, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert list(aws.provider().list()) == []
    assert aws.proxy.last_key != "AKIAENVIRONMENT"

    # The proxy is spoken to in whole addresses, so the name of the endpoint is never looked up here.
    through = aws.provider(endpoint="http://ec2.nowhere.invalid", proxy=aws.proxy.url)
    assert list(through.list()) == []


def test_the_neighbours_of_an_endpoint_are_beside_it_unless_it_is_private():
    assert beside("https://ec2.eu-central-1.amazonaws.com", "sts") == "https://sts.eu-central-1.amazonaws.com"
    assert beside("https://ec2.eusc-de-east-1.amazonaws.eu", "sts") == "https://sts.eusc-de-east-1.amazonaws.eu"
    assert beside("https://vpce-01.ec2.eu-central-1.vpce.amazonaws.com", "sts") is None
    assert beside("http://127.0.0.1:5000", "servicequotas") == "http://127.0.0.1:5000"


def test_sovereign_and_government_regions_have_endpoints_of_their_own(aws: AwsCloud):
    hosts = {"eusc-de-east-1": "amazonaws.eu", "us-gov-west-1": "amazonaws.com", "cn-north-1": "amazonaws.com.cn"}
    for region, domain in hosts.items():
        with pytest.raises(NetworkError):
            aws.provider(region=region, endpoint=None, proxy=aws.proxy.url).list()
        assert aws.proxy.tunnels[-1] == f"ec2.{region}.{domain}:443"


def test_a_name_of_an_image_is_looked_for_only_where_it_can_be_trusted():
    assert query("ami-1") == {"ImageIds": ["ami-1"]}
    assert query("mine")["Owners"] == ["self"]
    assert query("123456789012/theirs") == {
        "Owners": ["123456789012"],
        "Filters": [{"Name": "name", "Values": ["theirs"]}],
    }
    assert "099720109477" in query("ubuntu")["Owners"]


@pytest.mark.parametrize(
    ("state_reason", "transition", "reason", "ended"),
    [
        ("Client.UserInitiatedShutdown", "User initiated (2026-11-23 20:44:03 GMT)", "user", 1795466643000),
        (
            "Server.SpotInstanceTermination",
            "Service initiated (2026-11-23 20:44:03 UTC)",
            "spot reclaim",
            1795466643000,
        ),
        ("Client.InstanceInitiatedShutdown", "", "shutdown from inside", None),
        ("Server.InsufficientInstanceCapacity", "Server.InsufficientInstanceCapacity", "no capacity", None),
        ("Something.New", "", "Something.New", None),
    ],
)
def test_the_end_of_an_instance_has_its_time_and_reason(
    state_reason: str, transition: str, reason: str, ended: int | None
):
    item = {
        "InstanceId": "i-1",
        "State": {"Name": "terminated"},
        "LaunchTime": datetime(2026, 11, 23, 20, 40, tzinfo=UTC),
        "StateReason": {"Code": state_reason},
        "StateTransitionReason": transition,
        "Tags": [{"Key": "fabric-token", "Value": "t"}, {"Key": "aws:ec2:fleet-id", "Value": "f"}],
    }
    instance = instance_of(item, "aws")

    assert (instance.state, instance.reason, instance.ended_at_ms) == (InstanceState.ENDED, reason, ended)
    assert instance.tags == {"fabric-token": "t"}


def test_each_series_of_instance_types_counts_against_its_own_quota():
    families = {
        "g6.12xlarge": "G and VT",
        "gr6.4xlarge": "G and VT",
        "vt1.3xlarge": "G and VT",
        "p4d.24xlarge": "P",
        "p5.48xlarge": "P5 and P6",
        "trn1n.32xlarge": "Trn",
        "inf2.xlarge": "Inf",
        "dl1.24xlarge": "DL",
        "c7i.large": "Standard (A, C, D, H, I, M, R, T, Z)",
        "u-6tb1.metal": "High Memory",
        "x2iedn.xlarge": "X",
    }
    assert {name: family_of(name).name for name in families} == families


def test_the_whole_request_is_one_that_json_can_hold(aws: AwsCloud):
    """Nothing of the SDK's own leaks into what is kept or logged."""
    (instance,) = aws.provider().launch([aws.spec()])
    assert isinstance(instance, Instance)
    assert json.dumps(dataclasses.asdict(instance))


def test_the_sdk_is_imported_by_the_first_call_and_not_before():
    """A broken SDK of one cloud must not stop another, and the command line stays quick."""
    look = "import sys, autoscaler.providers.aws; print([name for name in sys.modules if name.startswith('boto')])"
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
