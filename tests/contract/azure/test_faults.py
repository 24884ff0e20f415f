"""What goes wrong at Azure, and that nothing is orphaned and nothing launched twice for it."""

from __future__ import annotations

import time

import pytest

from autoscaler.providers.base import (
    BadRequestError,
    CapacityError,
    CredentialsError,
    Instance,
    InstanceState,
    NetworkError,
    NotFoundError,
    Provider,
    ThrottledError,
)
from tests.conftest import wait_until
from tests.contract.azure.catalog import SUBNET
from tests.contract.azure.serving import AzureServer

PUT, GET, DELETE, OPERATION = "machines.put", "machines.get", "machines.delete", "operations.get"
NO_ROOM = "Allocation failed. We do not have sufficient capacity for the requested VM size in this region."


def made(results) -> list[Instance]:
    assert all(isinstance(result, Instance) for result in results), results
    return list(results)


def machines(azure: AzureServer, owner: str) -> list[str]:
    return [one.removeprefix("machines ") for one in azure.of_owner(owner) if one.startswith("machines ")]


def end_all(azure: AzureServer, provider: Provider, owner: str) -> None:
    def gone() -> bool:
        provider.terminate(machines(azure, owner))
        return not azure.of_owner(owner)

    wait_until(gone, what="the end of everything")


def test_a_machine_is_one_call_with_its_disk_and_interface_and_its_end_is_theirs(azure, owner, spec):
    provider = azure.provider(owner, site=azure.site(network={"subnet": SUBNET, "public_address": True}))
    (instance,) = made(provider.launch([spec()]))
    kinds = sorted(one.split()[0] for one in azure.of_owner(owner))
    assert kinds == ["addresses", "disks", "machines", "nics"]

    provider.terminate([instance.instance_id])
    wait_until(lambda: not azure.of_owner(owner), what="the end of everything")


def test_no_room_comes_inside_the_operation_and_leaves_nothing(azure, owner, spec):
    azure.fault("operation", methods=[PUT], code="AllocationFailed", message=NO_ROOM)
    provider = azure.provider(owner)
    results = provider.launch([spec(), spec()])

    refusals = [result for result in results if not isinstance(result, Instance)]
    assert [type(refusal) for refusal in refusals] == [CapacityError]
    assert refusals[0].cloud_code == "AllocationFailed"
    wait_until(lambda: len(azure.of_owner(owner)) == 3, what="the disk and the interface of the other to go")
    end_all(azure, provider, owner)


def test_what_a_failed_launch_left_is_deleted_with_a_later_listing_of_any_process(azure, owner, spec):
    azure.fault("operation", methods=[PUT], code="ZonalAllocationFailed", message=NO_ROOM)
    azure.fault("refuse", methods=[DELETE], status=503, code="ServiceUnavailable")
    assert type(azure.provider(owner).launch([spec()])[0]) is CapacityError
    assert len(azure.of_owner(owner)) == 3, "a machine that failed, with its disk and interface"

    later = azure.provider(owner)
    (left,) = later.list()
    assert (left.state, left.reason) == (InstanceState.ENDING, "failed to provision")
    wait_until(lambda: not azure.of_owner(owner), what="all of it to go")


def test_the_token_of_a_launch_that_failed_may_be_tried_again(azure, owner, spec):
    azure.fault("operation", methods=[PUT], code="TooManyRequests")
    provider, launch = azure.provider(owner), spec()
    assert type(provider.launch([launch])[0]) is ThrottledError

    def again() -> bool:
        (result,) = provider.launch([launch])
        assert isinstance(result, Instance | NetworkError), result
        return isinstance(result, Instance)

    wait_until(again, what="the name to be free again")
    assert len(machines(azure, owner)) == 1
    end_all(azure, provider, owner)


def test_a_failed_machine_that_is_met_by_the_same_token_is_cleared_away(azure, owner, spec):
    azure.fault("operation", methods=[PUT], code="AllocationFailed", message=NO_ROOM)
    azure.fault("refuse", methods=[DELETE], status=503, code="ServiceUnavailable")
    launch = spec()
    azure.provider(owner).launch([launch])

    (refusal,) = azure.provider(owner).launch([launch])
    assert type(refusal) is CapacityError
    wait_until(lambda: not azure.of_owner(owner), what="all of it to go")


def test_a_reply_lost_after_the_put_is_doubt_and_the_same_token_finds_the_machine(azure, owner, spec):
    azure.fault("lose_reply", methods=[PUT])
    provider, launch = azure.provider(owner), spec()
    (lost,) = provider.launch([launch])
    assert type(lost) is NetworkError

    (found,) = made(azure.provider(owner).launch([launch]))
    assert machines(azure, owner) == [found.instance_id]
    end_all(azure, provider, owner)


@pytest.mark.parametrize(
    "fault", [{"kind": "lose_reply"}, {"kind": "refuse", "status": 403, "code": "AuthorizationFailed"}]
)
def test_an_operation_that_cannot_be_read_is_no_verdict_on_the_machine(azure, owner, spec, fault):
    azure.fault(**fault, methods=[OPERATION])
    provider = azure.provider(owner)
    (instance,) = made(provider.launch([spec()]))
    assert machines(azure, owner) == [instance.instance_id]
    end_all(azure, provider, owner)


def test_an_operation_and_a_machine_that_cannot_be_read_are_doubt_not_a_refusal(azure, owner, spec):
    azure.fault("refuse", methods=[OPERATION], status=403, code="AuthorizationFailed")
    azure.fault("refuse", methods=[GET], status=403, code="AuthorizationFailed")
    provider = azure.provider(owner)
    (doubt,) = provider.launch([spec()])

    assert type(doubt) is NetworkError, "it was accepted: there may be a machine"
    assert "AuthorizationFailed" in str(doubt)
    assert len(machines(azure, owner)) == 1
    end_all(azure, provider, owner)


def test_an_operation_that_takes_long_is_waited_for_so_long_and_its_machine_counts_as_made(azure, owner, spec):
    azure.fault("slow_operation", seconds=20)
    provider, launch = azure.provider(owner, wait_s=0.3), spec()
    began = time.monotonic()
    (slow,) = made(provider.launch([launch]))

    assert time.monotonic() - began < 5
    assert slow.state is InstanceState.PENDING
    assert [one.instance_id for one in made(provider.launch([launch]))] == [slow.instance_id]
    end_all(azure, provider, owner)


def test_many_launches_are_not_as_many_serial_calls(azure, owner, spec):
    azure.fault("slow_operation", seconds=1.0)
    provider = azure.provider(owner, poll_every_s=0.5)
    began = time.monotonic()
    assert len({one.instance_id for one in made(provider.launch([spec() for _ in range(20)]))}) == 20
    assert time.monotonic() - began < 12, "one after another their operations alone would take 20 s"
    end_all(azure, provider, owner)


def test_azure_says_how_often_an_operation_is_looked_at(azure, owner, spec):
    azure.fault("retry_after", seconds=1)
    before = len(azure.calls(OPERATION))
    provider = azure.provider(owner)
    made(provider.launch([spec()]))
    assert len(azure.calls(OPERATION)) - before <= 2
    end_all(azure, provider, owner)


def test_a_name_that_somebody_else_s_machine_has_is_left_alone(azure, owner, spec):
    launch = spec()
    (theirs,) = made(azure.provider(owner).launch([launch]))
    provider = azure.provider(owner)
    other = next(offer for offer in provider.offers() if offer.offer_id != launch.offer.offer_id)
    (refusal,) = provider.launch([spec(other, token=launch.token)])

    assert type(refusal) is BadRequestError
    assert machines(azure, owner) == [theirs.instance_id]
    end_all(azure, provider, owner)


def test_a_spot_machine_that_is_evicted_is_listed_with_its_end_and_nothing_is_left(azure, owner, spec):
    provider = azure.provider(owner)
    spot = next(offer for offer in provider.offers() if offer.market == "spot")
    (instance,) = made(provider.launch([spec(spot)]))
    azure.ask("end", name=instance.instance_id, how="evicted")

    for _ in range(2):
        (ended,) = provider.list()
        assert (ended.instance_id, ended.state, ended.reason) == (
            instance.instance_id,
            InstanceState.ENDED,
            "spot reclaim",
        )
        assert ended.tags == instance.tags
        assert ended.ended_at_ms is not None and ended.ended_at_ms >= instance.launched_at_ms
    assert not azure.of_owner(owner)


@pytest.mark.parametrize("how", ["stopped", "deallocated"])
def test_a_machine_that_shut_itself_down_is_deleted_with_its_disk(azure, owner, spec, how):
    provider = azure.provider(owner, view_every_s=0.0)
    (instance,) = made(provider.launch([spec()]))
    azure.ask("end", name=instance.instance_id, how=how)
    assert len(azure.of_owner(owner)) == 3, "a stopped machine is still charged"

    (ending,) = provider.list()
    assert (ending.state, ending.reason) == (InstanceState.ENDING, "shutdown from inside")
    wait_until(lambda: provider.list()[0].state is InstanceState.ENDED, what="its end")
    assert provider.list()[0].reason == "shutdown from inside"
    assert not azure.of_owner(owner)


def test_a_machine_that_runs_is_not_asked_about_with_every_listing(azure, owner, spec):
    provider = azure.provider(owner)
    made(provider.launch([spec()]))
    provider.list()
    before = len(azure.calls(GET))
    for _ in range(5):
        (one,) = provider.list()
        assert one.state is InstanceState.RUNNING
    assert len(azure.calls(GET)) == before
    end_all(azure, provider, owner)


def test_a_delete_that_says_yes_and_does_nothing_is_asked_again_in_earnest(azure, owner, spec):
    provider = azure.provider(owner)
    (instance,) = made(provider.launch([spec()]))
    azure.fault("ignore_delete", times=2)
    for _ in range(2):
        assert provider.terminate([instance.instance_id]) == {instance.instance_id: None}
        assert machines(azure, owner)
    end_all(azure, provider, owner)


def test_a_machine_that_no_listing_shows_has_not_ended(azure, owner, spec):
    azure.fault("hide_new", seconds=60)
    provider = azure.provider(owner)
    (instance,) = made(provider.launch([spec()]))
    assert [one.instance_id for one in provider.list()] == [instance.instance_id], "it is asked for by its name"
    end_all(azure, provider, owner)


def test_a_page_that_cannot_be_read_is_no_listing(azure, owner, spec):
    provider = azure.provider(owner)
    made(provider.launch([spec() for _ in range(3)]))
    azure.ask("page_size", size=2)
    assert len(provider.list()) == 3
    # The second page is refused after the first has come.
    azure.fault("lose_reply", methods=["machines.list"], times=1)
    with pytest.raises(NetworkError):
        provider.list()
    end_all(azure, provider, owner)


@pytest.mark.parametrize("skew", [-7200.0, 7200.0])
def test_a_clock_far_from_azure_s_is_told_of(azure, owner, skew):
    azure.ask("skew", seconds=skew)
    failing = {check.name: check for check in azure.provider(owner).check() if not check.ok}
    assert failing.keys() == {"clock"}
    assert "NTP" in failing["clock"].remedy


def test_times_are_azure_s_own_whatever_its_clock_says(azure, owner, spec):
    provider = azure.provider(owner)
    azure.ask("skew", seconds=-1800.0)
    (instance,) = made(provider.launch([spec()]))
    provider.terminate([instance.instance_id])
    wait_until(lambda: isinstance(provider.terminate([instance.instance_id])[instance.instance_id], NotFoundError))
    (ended,) = provider.list()

    assert ended.ended_at_ms is not None
    assert 0 <= ended.ended_at_ms - ended.launched_at_ms < 60_000
    assert abs(time.time() - 1800 - ended.launched_at_ms / 1000) < 60


def test_a_token_that_has_expired_by_azure_s_clock_is_a_matter_of_credentials(azure, owner, spec):
    provider = azure.provider(owner)
    provider.list()
    azure.ask("expire")
    (refusal,) = provider.launch([spec()])
    assert type(refusal) is CredentialsError
    assert refusal.cloud_code == "ExpiredAuthenticationToken"
    with pytest.raises(CredentialsError):
        provider.list()

    azure.ask("clear")
    made(azure.provider(owner).launch([spec()]))
    end_all(azure, azure.provider(owner), owner)


def test_a_killed_server_is_doubt_and_nothing_is_lost_when_it_is_back(tmp_path, owner, spec):
    server = AzureServer(tmp_path).start()
    provider, launch = server.provider(owner), spec()
    made(provider.launch([launch]))
    server.kill()
    assert type(provider.launch([spec()])[0]) is NetworkError
    with pytest.raises(NetworkError):
        provider.list()

    server.start()
    (found,) = made(server.provider(owner).launch([launch]))
    assert machines(server, owner) == [found.instance_id]
    end_all(server, server.provider(owner), owner)
    server.stop()
