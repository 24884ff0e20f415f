"""Launches whose zone Google chooses: a bulk insert of one, so that each boot script stays with its machine."""

from __future__ import annotations

import dataclasses

import pytest

from autoscaler.providers.base import (
    BadRequestError,
    CapacityError,
    Instance,
    InstanceState,
    NetworkError,
    NotFoundError,
    Provider,
)
from fabric.config.sites import GcpSite
from fabric.model.nodes import Offer
from tests.conftest import wait_until
from tests.contract.gcp.serving import GcpServer

BULK = "compute.regionInstances.bulkInsert"


@pytest.fixture
def where(google: GcpServer) -> GcpSite:
    here = google.site()
    return here.model_copy(update={"node_types": {"t4x2": here.node_types["t4x2"].model_copy(update={"bulk": True})}})


@pytest.fixture
def provider(google: GcpServer, owner: str, where: GcpSite) -> Provider:
    return google.provider(owner, site=where)


@pytest.fixture
def offer(provider: Provider) -> Offer:
    (offer,) = provider.offers()
    return offer


def end(provider: Provider, instance: Instance) -> None:
    def gone() -> bool:
        return isinstance(provider.terminate([instance.instance_id])[instance.instance_id], NotFoundError)

    wait_until(gone, what=f"the end of {instance.instance_id}")


def test_one_offer_stands_for_all_zones_and_google_takes_one_that_is_not_full(google, provider, offer, spec):
    assert offer.zone == ""
    assert offer.offer_id == "gcp-ams.t4x2//on-demand"
    google.fault("full", values=["europe-west4-a"])
    launch = spec(offer)
    (made,) = provider.launch([launch])

    assert isinstance(made, Instance), made
    assert made.instance_id.startswith("europe-west4-b/")
    assert made.tags == launch.tags
    assert [one.instance_id for one in provider.list()] == [made.instance_id]
    call = google.calls(BULK)[-1]["body"]
    assert call["locationPolicy"]["locations"] == {
        "zones/europe-west4-a": {"preference": "ALLOW"},
        "zones/europe-west4-b": {"preference": "ALLOW"},
        "zones/europe-west4-c": {"preference": "DENY"},
    }
    assert call["instanceProperties"]["machineType"] == "n1-standard-4"
    end(provider, made)


def test_no_room_in_any_zone_is_one_refusal(google, provider, offer, spec):
    google.fault("full", values=["europe-west4-a", "europe-west4-b"])
    (refusal,) = provider.launch([spec(offer)])
    assert type(refusal) is CapacityError
    assert list(provider.list()) == []


def test_the_same_token_finds_its_instance_in_whichever_zone_it_is(google, owner, where, provider, offer, spec):
    google.fault("lose_reply", methods=[BULK])
    google.fault("full", values=["europe-west4-a"])
    launch = spec(offer)
    (lost,) = provider.launch([launch])
    assert type(lost) is NetworkError

    google.ask("clear")
    for forgetful in (False, True):
        if forgetful:
            google.ask("forget")
        (found,) = google.provider(owner, site=where).launch([launch])
        assert isinstance(found, Instance)
        assert found.instance_id.startswith("europe-west4-b/")
    assert len(provider.list()) == 1
    end(provider, found)


def test_a_token_whose_instance_has_ended_never_makes_another_anywhere(google, owner, where, provider, offer, spec):
    launch = spec(offer)
    (made,) = provider.launch([launch])
    assert isinstance(made, Instance)
    end(provider, made)
    (again,) = google.provider(owner, site=where).launch([launch])

    assert isinstance(again, Instance), again
    assert (again.instance_id, again.state) == (made.instance_id, InstanceState.ENDED)
    assert not [key for key in google.ask("state")["instances"] if key.endswith(f"/{launch.token}")]


def test_an_offer_without_a_zone_is_refused_where_google_may_not_choose(google, owner, spec):
    plain = google.provider(owner)
    (refusal,) = plain.launch([spec(dataclasses.replace(plain.offers()[-1], zone=""))])
    assert type(refusal) is BadRequestError
