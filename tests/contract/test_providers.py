"""What every provider promises, held against every cloud there is (``conftest.py`` lists them)."""

from __future__ import annotations

import dataclasses
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
from tests.contract.conftest import Cloud


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


def slow_spec(cloud: Cloud, token: str | None = None, owner: str | None = None):
    """A launch that stays pending: cheap to make many of."""
    offer = next(offer for offer in cloud.provider().offers() if not cloud.runs(offer))
    return cloud.spec(offer, token, owner)


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
    spec = cloud.spec()
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
    good = [slow_spec(cloud) for _ in range(3)]
    bad = dataclasses.replace(good[1], offer=dataclasses.replace(good[1].offer, zone="nowhere"))
    first, second, third = cloud.provider().launch([good[0], bad, good[2]])

    assert isinstance(first, Instance)
    assert first.token == good[0].token
    assert isinstance(second, BadRequestError)
    assert isinstance(third, Instance)
    assert third.token == good[2].token


def test_the_same_token_gives_the_same_instance(cloud: Cloud):
    provider = cloud.provider()
    spec = slow_spec(cloud)
    (first,), (second,) = launched(provider.launch([spec])), launched(provider.launch([spec]))

    assert first.instance_id == second.instance_id
    assert len(provider.list()) == 1


def test_the_same_token_at_the_same_time_gives_one_instance(cloud: Cloud):
    spec = slow_spec(cloud)
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
    spec = cloud.spec()
    (instance,) = launched(provider.launch([spec]))
    end(provider, instance)
    (again,) = launched(provider.launch([spec]))

    assert again.instance_id == instance.instance_id
    assert again.state is InstanceState.ENDED
    assert len(provider.list()) == 1


def test_a_known_token_is_answered_even_when_there_is_no_capacity(cloud: Cloud):
    provider = cloud.provider()
    spec = slow_spec(cloud)
    (instance,) = launched(provider.launch([spec]))
    cloud.refuse(CapacityError)

    (again,) = launched(provider.launch([spec]))
    assert again.instance_id == instance.instance_id


def test_a_lost_reply_and_the_same_token_again_give_one_instance(cloud: Cloud):
    provider = cloud.provider()
    spec = slow_spec(cloud)
    cloud.lose_reply("launch")
    (lost,) = provider.launch([spec])

    assert isinstance(lost, NetworkError)
    assert spec.token in by_token(provider), "the launch was carried out"
    (again,) = launched(provider.launch([spec]))
    assert again == by_token(provider)[spec.token]


def test_a_lost_reply_to_terminate_may_be_repeated(cloud: Cloud):
    provider = cloud.provider()
    (instance,) = launched(provider.launch([slow_spec(cloud)]))
    cloud.lose_reply("terminate")
    (lost,) = provider.terminate([instance.instance_id]).values()

    assert isinstance(lost, NetworkError)
    assert end(provider, instance).state is InstanceState.ENDED


def test_a_list_shows_only_what_the_owner_has(cloud: Cloud):
    other = f"{cloud.owner}-other"
    mine, theirs = slow_spec(cloud), slow_spec(cloud, token=f"{other}-1", owner=other)
    launched(cloud.provider().launch([mine, theirs]))

    assert set(by_token(cloud.provider())) == {mine.token}
    assert set(by_token(cloud.provider(owner=other))) == {theirs.token}
    end(cloud.provider(owner=other), cloud.provider(owner=other).list()[0])


def test_a_list_has_every_page_of_it_while_others_come_and_go(cloud: Cloud):
    provider = cloud.provider(page_size=3)
    settled = launched(provider.launch([slow_spec(cloud) for _ in range(11)]))
    coming = [slow_spec(cloud) for _ in range(20)]
    leaving = launched(provider.launch([slow_spec(cloud) for _ in range(10)]))
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
    (instance,) = launched(provider.launch([slow_spec(cloud)]))
    cloud.ignore_terminate(2)

    for _ in range(2):
        assert provider.terminate([instance.instance_id]) == {instance.instance_id: None}
        assert by_token(provider)[instance.token].state is InstanceState.PENDING
    assert end(provider, instance).state is InstanceState.ENDED


def test_terminate_answers_for_each_instance(cloud: Cloud):
    provider = cloud.provider()
    (instance,) = launched(provider.launch([slow_spec(cloud)]))
    answers = provider.terminate([instance.instance_id, "i-that-never-was"])

    assert answers[instance.instance_id] is None
    assert isinstance(answers["i-that-never-was"], NotFoundError)


@pytest.mark.parametrize("error", [CapacityError, QuotaError, ThrottledError, CredentialsError])
def test_a_refused_launch_is_its_own_kind_of_error_and_makes_nothing(cloud: Cloud, error: type[ProviderError]):
    provider = cloud.provider()
    cloud.refuse(error)
    spec = slow_spec(cloud) if error not in (ThrottledError, CredentialsError) else cloud.spec()
    (refusal,) = provider.launch([spec])

    assert type(refusal) is error
    assert refusal.message
    assert (refusal.retry_after_s is not None) == (error is ThrottledError)
    assert provider.list() == []


@pytest.mark.parametrize("error", [ThrottledError, CredentialsError])
def test_a_refused_list_or_terminate_is_its_own_kind_of_error(cloud: Cloud, error: type[ProviderError]):
    provider = cloud.provider()
    cloud.refuse(error, operation="list")
    with pytest.raises(error) as listing:
        provider.list()
    assert type(listing.value) is error

    cloud.refuse(error, operation="terminate")
    assert type(provider.terminate(["i-any"])["i-any"]) is error


def test_a_malformed_request_is_a_bad_request(cloud: Cloud):
    spec = slow_spec(cloud)
    too_long = dataclasses.replace(spec, user_data="#" * (16 * 1024 + 1))
    other_type = dataclasses.replace(spec, offer=dataclasses.replace(spec.offer, node_type="no-such-type"))

    for refusal in cloud.provider().launch([too_long, other_type]):
        assert type(refusal) is BadRequestError
    assert cloud.provider().list() == []


def test_a_token_cannot_buy_something_else(cloud: Cloud):
    provider = cloud.provider()
    spec = slow_spec(cloud)
    launched(provider.launch([spec]))
    (refusal,) = provider.launch([dataclasses.replace(spec, offer=cloud.spec().offer)])

    assert type(refusal) is BadRequestError


def test_no_answer_is_a_network_error(cloud: Cloud):
    provider = cloud.nowhere()
    (refusal,) = provider.launch([cloud.spec()])

    assert type(refusal) is NetworkError
    assert type(provider.terminate(["i-any"])["i-any"]) is NetworkError
    for call in (provider.list, provider.offers):
        with pytest.raises(NetworkError):
            call()


def test_check_says_what_is_well_and_what_to_do_if_not(cloud: Cloud):
    assert all(check.ok for check in cloud.provider().check())
    broken = [check for check in cloud.nowhere().check() if not check.ok]
    assert broken
    assert all(check.remedy for check in broken)


def test_the_bill_is_the_tariff_applied_to_the_listed_times(cloud: Cloud):
    provider = cloud.provider()
    offers = [offer for offer in provider.offers() if cloud.runs(offer)]
    tariffs = {}
    for offer in offers:
        spec = cloud.spec(offer)
        tariffs[spec.token] = offer.tariff
        launched(provider.launch([spec]))
    wait_until(lambda: all(instance.state is InstanceState.RUNNING for instance in provider.list()), what="all running")
    for instance in provider.list():
        end(provider, instance)

    expected = {
        token: tariffs[token].cost(instance.ended_at_ms - instance.launched_at_ms)
        for token, instance in by_token(provider).items()
        if instance.ended_at_ms is not None
    }
    assert len(expected) == len(offers)
    assert cloud.billed(cloud.owner) == expected
