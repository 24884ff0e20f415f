"""Decorators of providers: throttling slows one call only, and a dry run touches nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.providers.base import BadRequestError, Instance, ThrottledError
from autoscaler.providers.decorate import DryRun, RateLimited
from tests.contract.example_cloud import ExampleCloud, serve


class Clock:
    """Seconds that the test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[ExampleCloud]:
    with serve(tmp_path) as make:
        yield make()


def test_a_throttled_call_is_left_alone_and_the_others_go_on(cloud: ExampleCloud):
    clock = Clock()
    provider = RateLimited(cloud.provider(), clock)
    cloud.refuse(ThrottledError)
    spec = cloud.spec()
    assert isinstance(provider.launch([spec])[0], ThrottledError)

    (held,) = provider.launch([spec])
    assert isinstance(held, ThrottledError)
    assert held.retry_after_s == 1.0
    assert held.cloud_code == "slow down"
    assert list(provider.list()) == [], "a listing is another call"

    clock.now += 1.0
    assert isinstance(provider.launch([spec])[0], Instance)


def test_pauses_double_while_it_goes_on_and_are_forgotten_when_it_is_over(cloud: ExampleCloud):
    clock = Clock()
    provider = RateLimited(cloud.provider(), clock)
    cloud.refuse(ThrottledError, "list", times=8)
    pauses: list[float] = []
    for _ in range(8):
        with pytest.raises(ThrottledError):
            provider.list()
        with pytest.raises(ThrottledError) as held:
            provider.list()
        pauses.append(held.value.retry_after_s or 0.0)
        clock.now += pauses[-1]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]

    assert list(provider.list()) == []
    cloud.refuse(ThrottledError, "list")
    with pytest.raises(ThrottledError):
        provider.list()
    with pytest.raises(ThrottledError) as again:
        provider.list()
    assert again.value.retry_after_s == 1.0


def test_a_throttled_end_is_answered_for_each_instance(cloud: ExampleCloud):
    provider = RateLimited(cloud.provider(), Clock())
    cloud.refuse(ThrottledError, "terminate")
    provider.terminate(["a"])

    assert {type(answer) for answer in provider.terminate(["a", "b"]).values()} == {ThrottledError}


def test_a_dry_run_launches_and_ends_nothing(cloud: ExampleCloud):
    real = cloud.provider()
    (instance,) = real.launch([cloud.spec()])
    assert isinstance(instance, Instance)
    provider = DryRun("example", real)

    assert isinstance(provider.launch([cloud.spec()])[0], BadRequestError)
    assert provider.terminate([instance.instance_id]) == {instance.instance_id: None}
    assert provider.list() == [instance]
    assert provider.offers() == real.offers()
    assert all(check.ok for check in provider.check())
