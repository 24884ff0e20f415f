"""What is asked of Google for one launch, as it arrives there; the server judges every field of it besides."""

from __future__ import annotations

import dataclasses
import json
import re
import uuid
from typing import Any

import pytest

from autoscaler.providers.base import BadRequestError, Instance, LaunchSpec
from autoscaler.providers.gcp.request import instance, instance_name, label_value, read_description, request_id
from fabric.model.nodes import Market
from tests.contract.gcp.conftest import MakeSpec
from tests.contract.gcp.serving import SITE, GcpServer, site


def inserted(google: GcpServer, owner: str, spec: LaunchSpec, image: str = "ubuntu", **more: Any) -> dict[str, Any]:
    """The call that one launch makes."""
    provider = google.provider(owner, site=google.site(image, **more))
    (made,) = provider.launch([spec])
    assert isinstance(made, Instance), made
    assert made.tags == spec.tags
    provider.terminate([made.instance_id])
    return google.calls("compute.instances.insert")[-1]


def of(google: GcpServer, owner: str, node_type: str, market: Market = Market.ON_DEMAND) -> Any:
    return next(
        offer
        for offer in google.provider(owner).offers()
        if offer.node_type == f"{SITE}.{node_type}" and offer.market is market
    )


def test_a_plain_launch_is_private_encrypted_by_default_and_holds_no_service_account(google, owner, spec):
    call = inserted(google, owner, spec(user_data="#!/bin/sh\necho hello\n"))
    body = call["body"]

    assert body["networkInterfaces"] == [{"network": "global/networks/default"}]
    assert "serviceAccounts" not in body
    assert body["shieldedInstanceConfig"] == {
        "enableSecureBoot": True,
        "enableVtpm": True,
        "enableIntegrityMonitoring": True,
    }
    (disk,) = body["disks"]
    assert disk["boot"] and disk["autoDelete"]
    assert disk["initializeParams"]["diskSizeGb"] == "200"
    assert disk["initializeParams"]["diskType"].endswith("/diskTypes/pd-balanced")
    assert disk["initializeParams"]["labels"] == body["labels"]
    items = {item["key"]: item["value"] for item in body["metadata"]["items"]}
    assert items["user-data"] == "#!/bin/sh\necho hello\n"
    assert items["block-project-ssh-keys"] == "TRUE"
    assert body["scheduling"] == {
        "provisioningModel": "STANDARD",
        "automaticRestart": False,
        "onHostMaintenance": "MIGRATE",
    }
    assert uuid.UUID(call["query"]["requestId"])


def test_a_spot_launch_is_deleted_when_it_is_reclaimed_and_takes_no_reservation(google, owner, spec):
    body = inserted(google, owner, spec(of(google, owner, "l4x1", Market.SPOT)))["body"]

    assert body["scheduling"] == {
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",
        "automaticRestart": False,
        "onHostMaintenance": "TERMINATE",
    }
    assert body["reservationAffinity"] == {"consumeReservationType": "NO_RESERVATION"}


def test_a_family_that_brings_its_gpus_gets_none_attached_and_others_do(google, owner, spec):
    built_in = inserted(google, owner, spec(of(google, owner, "l4x1")))["body"]
    attached = inserted(google, owner, spec(of(google, owner, "t4x2")))["body"]

    assert "guestAccelerators" not in built_in
    (accelerator,) = attached["guestAccelerators"]
    assert accelerator["acceleratorType"].endswith("/acceleratorTypes/nvidia-tesla-t4")
    assert accelerator["acceleratorCount"] == 2
    for body in (built_in, attached):
        assert body["scheduling"]["onHostMaintenance"] == "TERMINATE"
        assert not body["shieldedInstanceConfig"].get("enableSecureBoot", False), "drivers built there are not signed"


@pytest.mark.parametrize(("longest_s", "seconds"), [(5400, "5400"), (7, "30"), (10**9, str(120 * 86_400))])
def test_the_longest_life_is_the_cloud_s_own_deadline(google, owner, spec, longest_s, seconds):
    scheduling = inserted(google, owner, spec(longest_s=longest_s))["body"]["scheduling"]

    assert scheduling["maxRunDuration"] == {"seconds": seconds}
    assert scheduling["instanceTerminationAction"] == "DELETE"
    assert scheduling["onHostMaintenance"] == "TERMINATE"


def test_network_service_account_address_image_and_tags_are_as_the_site_says(google, owner, spec):
    network = {"subnet": "burst", "security_groups": ["fabric-node"], "public_address": True}
    account = "fabric-node@lab-burst.iam.gserviceaccount.com"
    more = {"network": network, "service_account": account, "tags": {"cost-centre": "R-and-D"}}
    body = inserted(google, owner, spec(), image="family/fabric-node", **more)["body"]

    (interface,) = body["networkInterfaces"]
    assert interface["subnetwork"] == "projects/lab-burst/regions/europe-west4/subnetworks/burst"
    assert interface["accessConfigs"] == [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]
    assert body["tags"] == {"items": ["fabric-node"]}
    assert body["serviceAccounts"] == [{"email": account, "scopes": ["https://www.googleapis.com/auth/logging.write"]}]
    source = body["disks"][0]["initializeParams"]["sourceImage"]
    assert source == "projects/lab-burst/global/images/family/fabric-node"
    assert body["labels"]["cost-centre"].startswith("r-and-d-")


def test_a_reservation_is_for_on_demand_instances_only(google, owner, spec):
    block = site({}).node_types["l4x1"].model_copy(update={"reservation": "gpus-in-may"})
    here = site({}).model_copy(update={"node_types": {"l4x1": block}})
    offers = {offer.market: offer for offer in google.provider(owner, site=here).offers()}

    assert instance(here, block, spec(offers[Market.ON_DEMAND]))["reservation_affinity"] == {
        "consume_reservation_type": "SPECIFIC_RESERVATION",
        "key": "compute.googleapis.com/reservation-name",
        "values": ["gpus-in-may"],
    }
    assert instance(here, block, spec(offers[Market.SPOT]))["reservation_affinity"]["consume_reservation_type"] == (
        "NO_RESERVATION"
    )


@pytest.mark.parametrize(
    ("machine_type", "disk_type"),
    [
        ("n1-standard-8", "pd-balanced"),
        ("g2-standard-48", "pd-balanced"),
        ("a3-highgpu-8g", "pd-balanced"),
        ("a3-ultragpu-8g", "hyperdisk-balanced"),
        ("a4-highgpu-8g", "hyperdisk-balanced"),
        ("c4a-standard-16", "hyperdisk-balanced"),
    ],
)
def test_the_disk_is_one_that_the_machine_family_takes(spec, machine_type, disk_type):
    here = site({})
    block = here.node_types["small"].model_copy(update={"instance_type": machine_type})
    (disk,) = instance(here, block, spec())["disks"]
    assert disk["initialize_params"]["disk_type"].endswith(f"/{disk_type}")
    own = block.model_copy(update={"disk_type": "pd-ssd"})
    assert instance(here, own, spec())["disks"][0]["initialize_params"]["disk_type"].endswith("/pd-ssd")


def test_tags_that_labels_cannot_hold_are_listed_exactly(google, owner):
    strange = {"fabric-owner": owner, "fabric-token": "Token/With.Everything", "Grösse": "ü " * 9, "a.b": "c/d"}
    provider = google.provider(owner)
    offer = provider.offers()[-1]
    (made,) = provider.launch([LaunchSpec("Token/With.Everything", offer, "", strange)])

    assert isinstance(made, Instance)
    assert re.fullmatch(r"europe-west4-a/fab-[0-9a-f]{40}", made.instance_id)
    (listed,) = google.provider(owner).list()
    assert listed.tags == made.tags == strange
    assert listed == made
    provider.terminate([made.instance_id])


def test_an_owner_that_no_label_can_hold_is_found_all_the_same(google: GcpServer, owner, spec: MakeSpec):
    loud = f"{owner.upper()}/Lab"
    launch = spec()
    (made,) = google.provider(loud).launch([dataclasses.replace(launch, tags={**launch.tags, "fabric-owner": loud})])

    assert isinstance(made, Instance)
    assert [one.instance_id for one in google.provider(loud).list()] == [made.instance_id]
    assert list(google.provider(owner).list()) == []
    google.provider(loud).terminate([made.instance_id])


def test_tags_longer_than_google_keeps_are_refused_before_anything_is_made(google, owner, spec):
    long = dataclasses.replace(spec(), tags={"story": "x" * 2048})
    calls = len(google.calls("compute.instances.insert"))
    (refusal,) = google.provider(owner).launch([long])

    assert type(refusal) is BadRequestError
    assert "2048" in str(refusal)
    assert len(google.calls("compute.instances.insert")) == calls


def test_names_and_request_ids_come_from_the_token_alone(spec):
    assert instance_name("fab-0123456789abcdef0123") == "fab-0123456789abcdef0123"
    for token in ("Fab", "1st", "a" * 64, "a-", "a/b"):
        assert re.fullmatch(r"fab-[0-9a-f]{40}", instance_name(token))
    one, other = spec(token="fab-1"), spec(token="fab-2")
    assert request_id(one) == request_id(spec(token="fab-1", user_data="another script"))
    assert len({request_id(one), request_id(other), request_id(one, 1)}) == 3


def test_labels_keep_what_they_can_and_tell_values_apart():
    assert label_value("europe-west4-a_1") == "europe-west4-a_1"
    values = ["Lab", "lab/", "lab.", "l" * 64, "l" * 65, "ü"]
    labels = {label_value(value) for value in values}
    assert len(labels) == len(values)
    assert all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in labels)


@pytest.mark.parametrize("text", ["", "somebody's machine", "[]", "{}", '{"offer": 1}', '{"tags": [], "offer": ""}'])
def test_descriptions_of_others_have_no_tags(text):
    assert read_description(text) == ("", {})


def test_descriptions_are_json_for_whoever_looks_at_the_console(google, owner, spec):
    launch = spec()
    described = json.loads(inserted(google, owner, launch)["body"]["description"])
    assert described == {"offer": launch.offer.offer_id, "tags": launch.tags}
