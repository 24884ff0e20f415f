"""What every provider promises, held against every cloud there is.

``clouds.py`` lists the clouds and says what a new one has to bring: one module and one line. Nothing here knows which
cloud it speaks to. What only one cloud does is tested in that cloud's own folder.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

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
    ProviderError,
    QuotaError,
    ThrottledError,
)
from tests.conftest import wait_until
from tests.contract.clouds import Cloud


def launched(result: Sequence[Instance | ProviderError]) -> list[Instance]:
    assert all(isinstance(item, Instance) for item in result), result
    return [item for item in result if isinstance(item, Instance)]


def by_token(provider: Provider) -> dict[str, Instance]:
    instances = provider.list()
    tokens = [instance.token for instance in instances]
    assert len(set(tokens)) == len(tokens), f"an instance is listed twice: {tokens}"
    return dict(zip(tokens, instances, strict=True))


def end(provider: Provider, instance: Instance) -> Instance:
    """Terminate until not found, as callers do; the instance as it is listed afterwards."""

    def gone() -> bool:
        return isinstance(provider.terminate([instance.instance_id])[instance.instance_id], NotFoundError)

    wait_until(gone, what=f"the end of {instance.instance_id}")
    return by_token(provider)[instance.token]


def test_offers_have_a_price_and_a_known_node_type(cloud: Cloud):
    offers = cloud.provider().offers()

    assert {offer.node_type for offer in offers} == cloud.node_types
    assert len({offer.offer_id for offer in offers}) == len(offers)
    for offer in offers:
        assert offer.tariff.per_hour > 0
        assert offer.offer_id == f"{offer.node_type}/{offer.zone}/{offer.market}"
        assert offer.node_type.startswith(f"{offer.site}.")


def test_an_instance_goes_from_pending_to_running_to_ended(cloud: Cloud):
    provider = cloud.provider()
    spec = cloud.spec(cloud.offer(runs=True))
    (instance,) = launched(provider.launch([spec]))

    assert instance.state in (InstanceState.PENDING, InstanceState.RUNNING)
    assert instance.tags == spec.tags
    wait_until(lambda: by_token(provider)[spec.token].state is InstanceState.RUNNING, what="running")

    ended = end(provider, instance)
    assert ended.state is InstanceState.ENDED
    assert ended.ended_at_ms is not None
    assert ended.launched_at_ms == instance.launched_at_ms <= ended.ended_at_ms
    assert ended.reason


def test_results_come_in_the_order_of_the_specs_and_errors_are_values(cloud: Cloud):
    good = [cloud.spec() for _ in range(3)]
    bad = dataclasses.replace(good[1], offer=dataclasses.replace(good[1].offer, zone="nowhere"))
    first, second, third = cloud.provider().launch([good[0], bad, good[2]])

    assert isinstance(first, Instance)
    assert first.token == good[0].token
    assert isinstance(second, BadRequestError)
    assert isinstance(third, Instance)
    assert third.token == good[2].token


def test_the_same_token_gives_the_same_instance(cloud: Cloud):
    provider = cloud.provider()
    spec = cloud.spec()
    (first,), (second,) = launched(provider.launch([spec])), launched(provider.launch([spec]))

    assert first.instance_id == second.instance_id
    assert len(provider.list()) == 1


def test_the_same_token_at_the_same_time_gives_one_instance(cloud: Cloud):
    spec = cloud.spec()
    together = threading.Barrier(12)

    def launch(provider: Provider) -> Instance:
        together.wait()
        return launched(provider.launch([spec]))[0]

    with ThreadPoolExecutor(12) as pool:
        ids = {i.instance_id for i in pool.map(launch, [cloud.provider() for _ in range(12)])}

    assert len(ids) == 1
    assert len(cloud.provider().list()) == 1


def test_a_token_whose_instance_has_ended_never_makes_another(cloud: Cloud):
    provider = cloud.provider()
    spec = cloud.spec(cloud.offer(runs=True))
    (instance,) = launched(provider.launch([spec]))
    end(provider, instance)
    (again,) = launched(provider.launch([spec]))

    assert again.instance_id == instance.instance_id
    assert again.state is InstanceState.ENDED
    assert len(provider.list()) == 1


def test_a_known_token_is_answered_even_when_there_is_no_capacity(cloud: Cloud):
    provider = cloud.provider()
    spec = cloud.spec()
    (instance,) = launched(provider.launch([spec]))
    cloud.refuse(CapacityError)

    (again,) = launched(provider.launch([spec]))
    assert again.instance_id == instance.instance_id


def test_a_lost_reply_and_the_same_token_again_give_one_instance(cloud: Cloud):
    provider = cloud.provider()
    spec = cloud.spec()
    cloud.lose_reply("launch")
    (lost,) = provider.launch([spec])

    assert type(lost) is NetworkError
    assert spec.token in by_token(provider), "the launch was carried out"
    (again,) = launched(provider.launch([spec]))
    assert again.instance_id == by_token(provider)[spec.token].instance_id


def test_a_lost_reply_to_terminate_may_be_repeated(cloud: Cloud):
    provider = cloud.provider()
    (instance,) = launched(provider.launch([cloud.spec()]))
    cloud.lose_reply("terminate")
    (lost,) = provider.terminate([instance.instance_id]).values()

    assert isinstance(lost, NetworkError)
    assert end(provider, instance).state is InstanceState.ENDED


def test_a_list_shows_only_what_the_owner_has(cloud: Cloud):
    other = f"{cloud.owner}-other"
    mine, theirs = cloud.spec(), cloud.spec(token=f"{other}-1", owner=other)
    launched(cloud.provider().launch([mine, theirs]))

    assert set(by_token(cloud.provider())) == {mine.token}
    assert set(by_token(cloud.provider(owner=other))) == {theirs.token}
    end(cloud.provider(owner=other), cloud.provider(owner=other).list()[0])


def test_a_list_has_every_page_of_it_while_others_come_and_go(cloud: Cloud):
    provider = cloud.provider(page_size=3)
    settled = launched(provider.launch([cloud.spec() for _ in range(11)]))
    coming = [cloud.spec() for _ in range(20)]
    leaving = launched(provider.launch([cloud.spec() for _ in range(10)]))
    stop = threading.Event()

    def change() -> None:
        busy = cloud.provider()
        for spec, instance in zip(coming, [*leaving, *leaving], strict=True):
            busy.launch([spec])
            busy.terminate([instance.instance_id])
        stop.set()

    changer = threading.Thread(target=change)
    changer.start()
    rounds = 0
    while not stop.is_set() or rounds == 0:
        listed = by_token(provider)
        assert {instance.token for instance in settled} <= set(listed)
        rounds += 1
    changer.join()
    assert {spec.token for spec in coming} <= set(by_token(provider))


def test_accepted_is_not_ended_so_terminate_is_repeated_until_not_found(cloud: Cloud):
    provider = cloud.provider()
    (instance,) = launched(provider.launch([cloud.spec()]))
    cloud.ignore_terminate(2)

    for _ in range(2):
        assert provider.terminate([instance.instance_id]) == {instance.instance_id: None}
        assert by_token(provider)[instance.token].state in (InstanceState.PENDING, InstanceState.RUNNING)
    assert end(provider, instance).state is InstanceState.ENDED


def test_terminate_answers_for_each_instance(cloud: Cloud):
    provider = cloud.provider()
    (instance,) = launched(provider.launch([cloud.spec()]))
    answers = provider.terminate([cloud.stranger, instance.instance_id])

    assert answers[instance.instance_id] is None
    assert isinstance(answers[cloud.stranger], NotFoundError)


@pytest.mark.parametrize("error", [CapacityError, QuotaError, ThrottledError, CredentialsError])
def test_a_refused_launch_is_its_own_kind_of_error_and_makes_nothing(cloud: Cloud, error: type[ProviderError]):
    provider = cloud.provider()
    cloud.refuse(error)
    (refusal,) = provider.launch([cloud.spec()])

    assert type(refusal) is error
    assert refusal.message
    assert refusal.cloud_code
    assert refusal.retry_after_s is None or error is ThrottledError
    assert list(provider.list()) == []


@pytest.mark.parametrize("error", [ThrottledError, CredentialsError])
def test_a_refused_list_or_terminate_is_its_own_kind_of_error(cloud: Cloud, error: type[ProviderError]):
    provider = cloud.provider()
    cloud.refuse(error, operation="list")
    with pytest.raises(error) as listing:
        provider.list()
    assert type(listing.value) is error

    cloud.refuse(error, operation="terminate")
    assert type(provider.terminate([cloud.stranger])[cloud.stranger]) is error


def test_a_malformed_request_is_a_bad_request(cloud: Cloud):
    spec = cloud.spec()
    too_long = dataclasses.replace(spec, user_data=f"# {os.urandom(300_000).hex()}")
    other_type = dataclasses.replace(spec, offer=dataclasses.replace(spec.offer, node_type="no-such-type"))

    for refusal in cloud.provider().launch([too_long, other_type]):
        assert type(refusal) is BadRequestError
    assert list(cloud.provider().list()) == []


def test_a_token_cannot_buy_something_else(cloud: Cloud):
    provider = cloud.provider()
    spec = cloud.spec()
    launched(provider.launch([spec]))
    other = next(offer for offer in provider.offers() if offer.node_type != spec.offer.node_type)
    (refusal,) = provider.launch([dataclasses.replace(spec, offer=other)])

    assert type(refusal) is BadRequestError


def test_no_answer_is_a_network_error(cloud: Cloud):
    provider = cloud.nowhere()
    (refusal,) = provider.launch([cloud.spec()])

    assert type(refusal) is NetworkError
    assert type(provider.terminate([cloud.stranger])[cloud.stranger]) is NetworkError
    with pytest.raises(NetworkError):
        provider.list()


def test_check_says_what_is_well_and_what_to_do_if_not(cloud: Cloud):
    assert all(check.ok for check in cloud.provider().check())
    broken = [check for check in cloud.nowhere().check() if not check.ok]
    assert broken
    assert all(check.remedy for check in broken)


def test_a_new_instance_that_no_listing_shows_yet_is_not_made_again(cloud: Cloud):
    provider, other = cloud.provider(), cloud.provider()
    # Whatever an SDK loads with its first call is not to be waited for while instances are hidden.
    assert [*provider.list(), *other.list()] == []
    cloud.hide_new(2)
    specs = [cloud.spec() for _ in range(2)]
    first = launched(provider.launch(specs))
    # Who made them may ask for each by its name.
    assert list(other.list()) == []

    again = launched(provider.launch(specs))
    assert [instance.instance_id for instance in again] == [instance.instance_id for instance in first]
    assert [instance.token for instance in again] == [spec.token for spec in specs]
    assert provider.terminate([first[0].instance_id])[first[0].instance_id] is None
    cloud.clear()
    wait_until(lambda: set(by_token(provider)) == {spec.token for spec in specs}, what="both are listed")


def test_a_throttling_storm_ends_with_exactly_what_was_asked_for(cloud: Cloud):
    provider = cloud.provider()
    cloud.refuse(ThrottledError, times=7)
    cloud.refuse(ThrottledError, operation="list", times=2)
    specs = [cloud.spec() for _ in range(5)]
    rounds = 0
    while any(isinstance(result, ProviderError) for result in provider.launch(specs)):
        rounds += 1
        assert rounds < 20

    for _ in range(2):
        with pytest.raises(ThrottledError):
            provider.list()
    assert set(by_token(provider)) == {spec.token for spec in specs}


def test_lost_replies_in_the_middle_of_a_batch_make_nothing_twice(cloud: Cloud):
    provider = cloud.provider()
    cloud.lose_reply("launch", times=3)
    specs = [cloud.spec() for _ in range(6)]
    assert any(isinstance(result, NetworkError) for result in provider.launch(specs))

    rounds = 0
    while any(isinstance(result, ProviderError) for result in provider.launch(specs)):
        rounds += 1
        assert rounds < 10
    assert set(by_token(provider)) == {spec.token for spec in specs}


def test_a_batch_that_lost_its_credentials_goes_on_once_it_has_them_again(cloud: Cloud):
    provider = cloud.provider()
    specs = [cloud.spec() for _ in range(2)]
    cloud.refuse(CredentialsError, times=2)
    assert {type(result) for result in provider.launch(specs)} == {CredentialsError}

    launched(provider.launch(specs))
    assert set(by_token(provider)) == {spec.token for spec in specs}


def test_nothing_is_left_of_an_instance_that_has_ended(cloud: Cloud):
    provider = cloud.provider()
    for instance in launched(provider.launch([cloud.spec() for _ in range(3)])):
        end(provider, instance)

    assert cloud.leftovers() == []
