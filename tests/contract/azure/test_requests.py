"""What a launch asks of Azure, as it came in and as Microsoft's types describe it."""

from __future__ import annotations

import base64
import gzip
from typing import Any

import pytest

from autoscaler.providers.azure.request import machine, machine_name
from autoscaler.providers.base import BadRequestError
from fabric.model.nodes import Market, Offer
from tests.contract.azure import schema
from tests.contract.azure.catalog import GALLERY, NSG, RESERVATION, SUBNET
from tests.contract.azure.serving import SITE, site


@pytest.fixture
def asked(spec):
    """The properties of a PUT for a node type and a market."""

    def ask(key: str, market: str = "on-demand", image: str = "ubuntu", **more: Any) -> dict[str, Any]:
        here = site(more.pop("site", {}), image)
        block = here.node_types[key].model_copy(update=more.pop("block", {}))
        node_type = f"{SITE}.{key}"
        offer = Offer(f"{node_type}/1/{market}", node_type, SITE, "1", Market(market), spec().offer.tariff)
        body = machine(here, block, spec(offer, **more))
        assert list(schema.request_complaints(body)) == []
        return body["properties"]

    return ask


def test_spot_machines_are_deleted_when_they_are_evicted_and_never_for_their_price(asked):
    properties = asked("a100x1", "spot")
    assert (properties["priority"], properties["evictionPolicy"]) == ("Spot", "Delete")
    assert properties["billingProfile"] == {"maxPrice": -1}
    assert "scheduledEventsProfile" not in properties, (
        "a notice before our own deletes would delay them, and cost money"
    )
    assert "priority" not in asked("a100x1")


def test_trusted_launch_always_and_secure_boot_where_no_driver_is_built(asked):
    assert asked("a100x1")["securityProfile"]["securityType"] == "TrustedLaunch"
    assert asked("a100x1")["securityProfile"]["uefiSettings"] == {"secureBootEnabled": False, "vTpmEnabled": True}
    assert asked("small")["securityProfile"]["uefiSettings"] == {"secureBootEnabled": True, "vTpmEnabled": True}


def test_everything_made_with_a_machine_goes_with_it(asked):
    properties = asked("small", site={"network": {"subnet": SUBNET, "security_groups": [NSG], "public_address": True}})
    (interface,) = properties["networkProfile"]["networkInterfaceConfigurations"]
    (address,) = interface["properties"]["ipConfigurations"]
    public = address["properties"]["publicIPAddressConfiguration"]["properties"]
    disk = properties["storageProfile"]["osDisk"]
    assert {one["deleteOption"] for one in (disk, interface["properties"], public)} == {"Delete"}
    assert "publicIPAddressConfiguration" not in str(asked("small")), "no public address unless asked"


def test_no_password_is_ever_set_and_the_key_is_one_that_nobody_has_unless_named(asked, tmp_path):
    system = asked("small")["osProfile"]
    assert "adminPassword" not in system
    assert system["linuxConfiguration"]["disablePasswordAuthentication"] is True
    keys = {str(asked("small")["osProfile"]["linuxConfiguration"]["ssh"]) for _ in range(2)}
    assert len(keys) == 2

    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA me\n")
    own = asked("small", site={"admin_key": str(tmp_path / "key.pub")})["osProfile"]["linuxConfiguration"]["ssh"]
    assert own["publicKeys"][0]["keyData"] == "ssh-ed25519 AAAA me"


def test_a_boot_script_is_sent_as_it_is_and_compressed_when_it_is_long(asked):
    assert base64.b64decode(asked("small", user_data="#!/bin/sh\n")["osProfile"]["customData"]) == b"#!/bin/sh\n"
    long = "#!/bin/sh\n" + "# the same line again\n" * 5000
    sent = base64.b64decode(asked("small", user_data=long)["osProfile"]["customData"])
    assert gzip.decompress(sent).decode() == long


def test_images_are_published_ones_or_ids(asked):
    assert asked("small", image="Canonical:o:s:1.0")["storageProfile"]["imageReference"]["version"] == "1.0"
    assert asked("small", image=GALLERY)["storageProfile"]["imageReference"] == {"id": GALLERY}
    shared = "/sharedGalleries/lab/Images/node/Versions/1.0.0"
    assert asked("small", image=shared)["storageProfile"]["imageReference"] == {"sharedGalleryImageId": shared}
    with pytest.raises(BadRequestError, match="neither an id"):
        asked("small", image="just-a-name")


def test_a_reservation_is_used_on_demand_only(asked):
    reserved = {"reservation": RESERVATION}
    assert asked("a100x1", block=reserved)["capacityReservation"] == {"capacityReservationGroup": {"id": RESERVATION}}
    assert "capacityReservation" not in asked("a100x1", "spot", block=reserved)


@pytest.mark.parametrize("token", ["a-plain-token-1", "With_Capitals.and/more", "x" * 200, "-", "ü"])
def test_a_machine_s_name_is_one_that_azure_takes_and_the_token_s_own(token):
    name = machine_name(token)
    assert name == machine_name(token)
    assert len(name) <= 63
    assert all(char.isascii() and (char.isalnum() or char == "-") for char in name)
    assert name[0] != "-" and name[-1] != "-"
    assert name != machine_name(token + "x")
