"""The sandbox has a meter, so its bill can be held to the tariff it offers."""

from __future__ import annotations

from collections.abc import Callable

from autoscaler.providers.base import Instance, InstanceState, NotFoundError
from tests.conftest import wait_until
from tests.contract.clouds import Cloud
from tests.contract.sandbox_cloud import SandboxCloud


def test_the_bill_is_the_tariff_applied_to_the_listed_times(open_cloud: Callable[[str], Cloud]):
    cloud = open_cloud("sandbox")
    assert isinstance(cloud, SandboxCloud)
    provider = cloud.provider()
    offers = [offer for offer in provider.offers() if offer.node_type == cloud.offer(runs=True).node_type]
    specs = [cloud.spec(offer) for offer in offers]
    tariffs = {spec.token: spec.offer.tariff for spec in specs}
    assert all(isinstance(result, Instance) for result in provider.launch(specs))
    wait_until(lambda: all(instance.state is InstanceState.RUNNING for instance in provider.list()), what="all running")

    ids = [instance.instance_id for instance in provider.list()]
    wait_until(
        lambda: all(isinstance(answer, NotFoundError) for answer in provider.terminate(ids).values()), what="all ended"
    )
    expected = {
        instance.token: tariffs[instance.token].cost(instance.ended_at_ms - instance.launched_at_ms)
        for instance in provider.list()
        if instance.ended_at_ms is not None
    }
    assert len(expected) == len(offers)
    assert cloud.billed(cloud.owner) == expected
