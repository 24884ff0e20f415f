"""Instant fleets: several zones at once, and nothing of the fleet left behind."""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.providers.aws import fleet
from autoscaler.providers.base import (
    BadRequestError,
    CapacityError,
    Instance,
    InstanceState,
    LaunchSpec,
    NetworkError,
    Provider,
    QuotaError,
)
from fabric.model.nodes import Market
from tests.contract.aws.cloud import NODE_TYPES, REGION, AwsCloud
from tests.contract.aws.wire import tree

FLEET = {"l4": {**NODE_TYPES["l4"], "fleet": True}, "t4": NODE_TYPES["t4"]}


@pytest.fixture
def provider(aws: AwsCloud) -> Provider:
    return aws.provider(node_types=FLEET)


def spec_of(aws: AwsCloud, provider: Provider, market: Market = Market.SPOT) -> LaunchSpec:
    offer = next(o for o in provider.offers() if o.node_type == "aws.l4" and o.market is market)
    return aws.spec(offer)


def test_a_fleet_is_one_offer_for_all_of_its_zones(provider: Provider):
    offers = [offer for offer in provider.offers() if offer.node_type == "aws.l4"]
    assert {(offer.zone, offer.market) for offer in offers} == {("", Market.SPOT), ("", Market.ON_DEMAND)}


@pytest.mark.parametrize("market", [Market.SPOT, Market.ON_DEMAND])
def test_a_fleet_launch_is_tagged_and_listed_like_any_other(aws: AwsCloud, provider: Provider, market: Market):
    spec = spec_of(aws, provider, market)
    (instance,) = provider.launch([spec])

    assert isinstance(instance, Instance)
    assert instance.tags == spec.tags
    assert [listed.instance_id for listed in provider.list()] == [instance.instance_id]
    (form,) = [
        form for action, form in aws.proxy.calls if action == "CreateFleet" and form["ClientToken"] == spec.token
    ]
    request = tree(form)
    overrides = request["LaunchTemplateConfigs"]["1"]["Overrides"].values()
    assert [override["AvailabilityZone"] for override in overrides] == [f"{REGION}a", f"{REGION}b"]
    assert request["Type"] == "instant"
    assert {override.get("MaxPrice") for override in overrides} == ({"2.300000"} if market is Market.SPOT else {None})


def test_a_fleets_launch_template_is_gone_when_the_launch_has_answered(aws: AwsCloud, provider: Provider):
    provider.launch([spec_of(aws, provider)])
    aws.refuse(CapacityError)
    provider.launch([spec_of(aws, provider)])

    assert aws.leftovers() == []


def test_the_same_token_gives_the_same_instance_of_a_fleet_also_after_its_end(aws: AwsCloud, provider: Provider):
    spec = spec_of(aws, provider)
    (first,), (second,) = provider.launch([spec]), provider.launch([spec])
    assert isinstance(first, Instance)
    assert isinstance(second, Instance)
    assert first.instance_id == second.instance_id

    provider.terminate([first.instance_id])
    (third,) = provider.launch([spec])
    assert isinstance(third, Instance)
    assert (third.instance_id, third.state) == (first.instance_id, InstanceState.ENDED)
    assert len(provider.list()) == 1


def test_a_lost_reply_of_a_fleet_makes_nothing_twice(aws: AwsCloud, provider: Provider):
    spec = spec_of(aws, provider)
    aws.lose_reply("launch")
    assert type(provider.launch([spec])[0]) is NetworkError
    (again,) = provider.launch([spec])

    assert isinstance(again, Instance)
    assert [listed.instance_id for listed in provider.list()] == [again.instance_id]


def test_a_fleets_machine_that_is_not_shown_yet_is_known_all_the_same(aws: AwsCloud, provider: Provider):
    spec = spec_of(aws, provider)
    aws.hide_new(60)
    (instance,) = provider.launch([spec])

    assert isinstance(instance, Instance)
    assert instance.tags == spec.tags
    assert instance.launched_at_ms > 0


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        (["InsufficientInstanceCapacity", "UnfulfillableCapacity"], CapacityError),
        (["InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded"], QuotaError),
        (["InsufficientInstanceCapacity", "InvalidSubnetID.NotFound"], BadRequestError),
    ],
)
def test_a_fleet_that_finds_nothing_says_the_worst_of_its_reasons(
    aws: AwsCloud, provider: Provider, errors: list[str], kind: type
):
    aws.faults.fleet_errors = errors
    (refusal,) = provider.launch([spec_of(aws, provider)])

    assert type(refusal) is kind
    assert list(provider.list()) == []
    aws.faults.fleet_errors = []


def test_a_template_that_a_crash_left_is_removed_once_nobody_can_be_using_it(
    aws: AwsCloud, provider: Provider, monkeypatch: pytest.MonkeyPatch
):
    tags: Any = [{"ResourceType": "launch-template", "Tags": [{"Key": "fabric-owner", "Value": aws.owner}]}]
    data = {"InstanceType": "g6.12xlarge"}
    aws.behind.create_launch_template(
        LaunchTemplateName=f"fabric-{aws.owner}", LaunchTemplateData=data, TagSpecifications=tags
    )
    provider.list()
    assert aws.leftovers() == [f"fabric-{aws.owner}"]

    monkeypatch.setattr(fleet, "_OLD_MS", -2000)
    provider.list()
    assert aws.leftovers() == []


def test_a_site_without_fleets_never_asks_for_templates(aws: AwsCloud):
    before = len(aws.proxy.calls)
    aws.provider().list()
    assert {action for action, _ in aws.proxy.calls[before:]} == {"DescribeInstances"}


def test_a_reservation_is_never_asked_of_a_fleet(aws: AwsCloud):
    provider = aws.provider(node_types={"l4": {**FLEET["l4"], "reservation": "cr-0123456789abcdef0"}})
    assert {offer.zone for offer in provider.offers()} == {f"{REGION}a", f"{REGION}b"}
    before = len(aws.proxy.calls)
    provider.launch([aws.spec(provider.offers()[0])])
    assert "CreateFleet" not in {action for action, _ in aws.proxy.calls[before:]}
