"""What goes wrong at Google, and that nothing is orphaned and nothing launched twice for it."""

from __future__ import annotations

import time

import pytest

from autoscaler.providers.base import (
    CapacityError,
    CredentialsError,
    Instance,
    InstanceState,
    NetworkError,
    NotFoundError,
    Provider,
    ThrottledError,
)
from autoscaler.providers.gcp.reply import unix_ms
from tests.conftest import wait_until
from tests.contract.gcp.serving import GcpServer

INSERT, DELETE = "compute.instances.insert", "compute.instances.delete"


def made(results) -> list[Instance]:
    assert all(isinstance(result, Instance) for result in results), results
    return list(results)


def in_cloud(google: GcpServer, kind: str, owner: str) -> list[str]:
    return [key for key, one in google.ask("state")[kind].items() if one["labels"].get("fabric-owner") == owner]


def end_all(google: GcpServer, provider: Provider, owner: str) -> None:
    def gone() -> bool:
        provider.terminate(in_cloud(google, "instances", owner))
        return not in_cloud(google, "instances", owner) and not in_cloud(google, "disks", owner)

    wait_until(gone, what="the end of everything")


def test_a_stock_out_comes_inside_the_operation_and_leaves_nothing(google, owner, spec):
    google.fault("operation", methods=[INSERT], code="ZONE_RESOURCE_POOL_EXHAUSTED", message="The zone is full.")
    provider = google.provider(owner)
    first, second = provider.launch([spec(token=f"{owner}-a"), spec(token=f"{owner}-b")])

    refusals = [result for result in (first, second) if not isinstance(result, Instance)]
    assert [type(refusal) for refusal in refusals] == [CapacityError]
    assert refusals[0].cloud_code == "ZONE_RESOURCE_POOL_EXHAUSTED"
    assert len(in_cloud(google, "instances", owner)) == 1
    end_all(google, provider, owner)


def test_the_disk_of_a_launch_that_failed_is_cleared_away(google, owner, spec):
    google.fault("operation", methods=[INSERT], code="ZONE_RESOURCE_POOL_EXHAUSTED", leftover=True)
    provider = google.provider(owner)
    (refusal,) = provider.launch([spec()])

    assert type(refusal) is CapacityError
    wait_until(lambda: not in_cloud(google, "disks", owner), what="the disk to go")
    assert list(provider.list()) == []


def test_a_disk_that_cannot_be_cleared_at_once_is_cleared_with_a_later_listing(google, owner, spec):
    google.fault("operation", methods=[INSERT], code="ZONE_RESOURCE_POOL_EXHAUSTED", leftover=True)
    google.fault("refuse", methods=["compute.disks.delete"], status=503, reason="backendError", times=2)
    provider = google.provider(owner)
    assert type(provider.launch([spec()])[0]) is CapacityError
    assert in_cloud(google, "disks", owner)

    wait_until(lambda: [*provider.list()] == [] and not in_cloud(google, "disks", owner), what="the disk to go")


def test_a_disk_that_an_earlier_process_left_is_found_by_its_owner(google, owner, spec):
    google.fault("operation", methods=[INSERT], code="ZONE_RESOURCE_POOL_EXHAUSTED", leftover=True)
    google.fault("refuse", methods=["compute.disks.delete"], status=503, reason="backendError")
    google.provider(owner).launch([spec()])
    (kept,) = made(google.provider(owner).launch([spec()]))

    later = google.provider(owner, scan_every_s=0.0)
    later.list()
    assert len(in_cloud(google, "disks", owner)) == 2, "one scan may see a disk that is just about to be used"
    wait_until(lambda: later.list() and len(in_cloud(google, "disks", owner)) == 1, what="the disk to go")
    assert in_cloud(google, "disks", owner) == [kept.instance_id], "the disk of an instance stays"
    end_all(google, later, owner)


def test_a_reply_lost_after_the_insert_is_doubt_and_the_same_token_finds_the_instance(google, owner, spec):
    google.fault("lose_reply", methods=[INSERT])
    provider, launch = google.provider(owner), spec()
    (lost,) = provider.launch([launch])
    assert type(lost) is NetworkError

    other_process = google.provider(owner)
    (found,) = made(other_process.launch([launch]))
    assert in_cloud(google, "instances", owner) == [found.instance_id]
    end_all(google, provider, owner)


def test_replies_lost_while_the_operation_is_read_are_asked_for_again(google, owner, spec):
    google.fault("lose_reply", methods=["compute.zoneOperations.get"], times=2)
    provider = google.provider(owner)
    made(provider.launch([spec()]))
    end_all(google, provider, owner)


def test_an_operation_that_can_never_be_read_is_doubt_not_a_refusal(google, owner, spec):
    google.fault("refuse", methods=["compute.zoneOperations.get"], status=403, reason="forbidden", times=1000)
    google.fault("refuse", methods=["compute.instances.get"], status=403, reason="forbidden", times=1)
    provider = google.provider(owner, wait_s=0.4)
    (doubt,) = provider.launch([spec()])

    assert type(doubt) is NetworkError, "it was accepted: there may be an instance"
    assert "forbidden" in str(doubt)
    end_all(google, provider, owner)


def test_an_operation_that_takes_long_is_waited_for_so_long_and_its_instance_counts_as_made(google, owner, spec):
    google.fault("slow_operation", seconds=3600)
    provider, launch = google.provider(owner, wait_s=0.3), spec()
    began = time.monotonic()
    (slow,) = made(provider.launch([launch]))

    assert time.monotonic() - began < 5
    assert slow.state is InstanceState.PENDING
    assert [one.instance_id for one in made(provider.launch([launch]))] == [slow.instance_id]
    end_all(google, provider, owner)


def test_an_insert_whose_request_id_google_has_forgotten_meets_the_name(google, owner, spec):
    launch = spec()
    provider = google.provider(owner)
    (first,) = made(provider.launch([launch]))
    google.ask("forget")

    (again,) = made(google.provider(owner).launch([launch]))
    assert again.instance_id == first.instance_id
    assert len(in_cloud(google, "instances", owner)) == 1
    end_all(google, provider, owner)


def test_throttling_inside_an_operation_does_not_spend_the_token(google, owner, spec):
    google.fault("operation", methods=[INSERT], code="RATE_LIMIT_EXCEEDED")
    provider, launch = google.provider(owner), spec()
    assert type(provider.launch([launch])[0]) is ThrottledError

    made(provider.launch([launch]))
    assert len(in_cloud(google, "instances", owner)) == 1
    end_all(google, provider, owner)


def test_a_disk_of_an_earlier_attempt_does_not_stand_in_the_way_of_the_token_for_ever(google, owner, spec):
    google.fault("operation", methods=[INSERT], code="RATE_LIMIT_EXCEEDED", leftover=True)
    google.fault("refuse", methods=["compute.disks.delete"], status=503, reason="backendError")
    provider, launch = google.provider(owner), spec()
    assert type(provider.launch([launch])[0]) is ThrottledError
    assert type(provider.launch([launch])[0]) is NetworkError, "the name is taken, by a disk that is now deleted"

    wait_until(lambda: not in_cloud(google, "disks", owner), what="the disk to go")
    (instance,) = made(provider.launch([launch]))
    assert in_cloud(google, "disks", owner) == [instance.instance_id]
    end_all(google, provider, owner)


def test_a_zone_that_does_not_answer_is_not_a_zone_without_instances(google, owner, spec):
    provider = google.provider(owner)
    made(provider.launch([spec()]))
    google.fault("unreachable", values=["europe-west4-a"])
    with pytest.raises(NetworkError, match="europe-west4-a"):
        provider.list()

    google.ask("clear")
    google.fault("unreachable", values=["us-central1-a"])
    assert len(provider.list()) == 1, "a zone of another region is no matter"
    end_all(google, provider, owner)


def test_a_delete_that_says_yes_and_does_nothing_is_asked_again_in_earnest(google, owner, spec):
    provider = google.provider(owner)
    (instance,) = made(provider.launch([spec()]))
    google.fault("ignore_delete", times=2)
    for _ in range(2):
        assert provider.terminate([instance.instance_id]) == {instance.instance_id: None}
        time.sleep(0.05)
        assert in_cloud(google, "instances", owner)
    end_all(google, provider, owner)
    assert all("requestId" not in call["query"] for call in google.calls(DELETE))


def test_an_instance_that_is_not_listed_and_was_deleted_in_name_only_has_not_ended(google, owner, spec):
    provider = google.provider(owner)
    google.fault("hide_new", seconds=60)
    google.fault("ignore_delete")
    (instance,) = made(provider.launch([spec()]))
    assert provider.terminate([instance.instance_id]) == {instance.instance_id: None}
    time.sleep(0.05)
    assert list(provider.list()) == [], "its delete is done, but it is there"

    google.ask("clear")
    assert list(provider.list()) == [instance]
    end_all(google, provider, owner)


def test_a_second_delete_while_the_first_is_under_way_is_accepted(google, owner, spec):
    provider = google.provider(owner)
    (instance,) = made(provider.launch([spec()]))
    google.fault("refuse", methods=[DELETE], status=400, reason="resourceNotReady")
    assert provider.terminate([instance.instance_id]) == {instance.instance_id: None}
    end_all(google, provider, owner)


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
def test_a_clock_far_from_google_s_costs_nothing_but_a_word(google, owner, spec, skew):
    signed_in = google.provider(owner)
    signed_in.list()
    google.ask("skew", seconds=skew)
    # A token that has expired by Google's clock only cannot be renewed by ours: that is said at once.
    if skew > 0:
        assert type(google.provider(owner).launch([spec()])[0]) is CredentialsError
    anonymous = google.provider(owner)
    (check, clock) = anonymous.check()
    assert (check.name, check.ok, clock.name, clock.ok) == ("credentials", False, "clock", False)
    assert "NTP" in clock.remedy
    google.ask("clear")


def test_times_are_google_s_own_whatever_its_clock_says(google, owner, spec):
    provider = google.provider(owner)
    provider.list()
    google.ask("skew", seconds=-1800.0)
    (instance,) = made(provider.launch([spec()]))
    provider.terminate([instance.instance_id])
    wait_until(lambda: isinstance(provider.terminate([instance.instance_id])[instance.instance_id], NotFoundError))
    (ended,) = provider.list()

    assert ended.launched_at_ms == instance.launched_at_ms
    assert ended.ended_at_ms is not None
    assert 0 <= ended.ended_at_ms - ended.launched_at_ms < 60_000
    assert abs(time.time() - 1800 - ended.launched_at_ms / 1000) < 60


def test_expired_credentials_are_renewed_and_those_that_cannot_be_are_told_of(google, owner, spec):
    provider = google.provider(owner)
    provider.list()
    google.ask("expire")
    (refusal,) = provider.launch([spec()])
    assert type(refusal) is CredentialsError
    with pytest.raises(CredentialsError):
        provider.list()
    assert type(provider.terminate(["europe-west4-a/any"])["europe-west4-a/any"]) is CredentialsError

    google.ask("clear")
    made(provider.launch([spec()]))
    end_all(google, provider, owner)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("compute.instances.preempted", "spot reclaim"),
        ("compute.instances.hostError", "host error"),
        ("compute.instances.maxRunDurationExceeded", "max run duration"),
    ],
)
def test_an_instance_that_google_took_is_listed_with_its_time_and_the_reason(google, owner, spec, kind, reason):
    provider = google.provider(owner)
    spot = next(offer for offer in provider.offers() if offer.market == "spot")
    (instance,) = made(provider.launch([spec(spot)]))
    google.ask("end", name=instance.instance_id.partition("/")[2], kind=kind)

    for _ in range(2):
        (ended,) = provider.list()
        assert (ended.instance_id, ended.state, ended.reason) == (instance.instance_id, InstanceState.ENDED, reason)
        assert ended.tags == instance.tags
        assert ended.ended_at_ms is not None and ended.ended_at_ms >= instance.launched_at_ms
    assert not in_cloud(google, "disks", owner)


def test_a_machine_that_shut_itself_down_has_ended_and_is_deleted_with_its_disk(google, owner, spec):
    provider = google.provider(owner)
    (instance,) = made(provider.launch([spec()]))
    google.ask("end", name=instance.instance_id.partition("/")[2], kind="compute.instances.guestTerminate")
    assert in_cloud(google, "disks", owner), "a stopped machine's disk is still charged"

    (ended,) = provider.list()
    assert (ended.state, ended.reason) == (InstanceState.ENDED, "shut itself down")
    wait_until(lambda: provider.list() and not in_cloud(google, "disks", owner), what="the disk to go")
    assert [(one.instance_id, one.ended_at_ms) for one in provider.list()] == [
        (instance.instance_id, ended.ended_at_ms)
    ]
    assert not in_cloud(google, "instances", owner)


def test_a_field_mask_that_is_refused_is_done_without(google, owner, spec):
    google.fault("no_masks")
    provider = google.provider(owner)
    (instance,) = made(provider.launch([spec()]))
    assert list(provider.list()) == [instance]
    end_all(google, provider, owner)


def test_many_launches_are_not_as_many_serial_calls(google, owner, spec):
    google.fault("slow_operation", seconds=1.0)
    provider = google.provider(owner)
    began = time.monotonic()
    assert len({one.instance_id for one in made(provider.launch([spec() for _ in range(40)]))}) == 40
    assert time.monotonic() - began < 20, "one after another their operations alone would take 40 s"
    assert len(google.calls("compute.zoneOperations.get")) < 1000
    end_all(google, provider, owner)


def test_google_s_times_have_any_offset():
    assert unix_ms("2026-11-23T12:00:00.250-08:00") == unix_ms("2026-11-23T20:00:00.250Z") == 1795464000250
