"""The fixture ``aws``: a hand on the AWS test cloud, for what only AWS does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from autoscaler.providers.base import Provider
from tests.contract.aws.cloud import AwsCloud
from tests.contract.clouds import Cloud


@pytest.fixture(scope="module")
def steady(open_cloud: Callable[[str], Cloud]) -> tuple[AwsCloud, Provider]:
    """A cloud and one provider for all tests of a module that make nothing."""
    cloud = open_cloud("aws")
    assert isinstance(cloud, AwsCloud)
    return cloud, cloud.provider()


@pytest.fixture
def aws(open_cloud: Callable[[str], Cloud]) -> Iterator[AwsCloud]:
    """As the fixture ``cloud`` has it, cleared and emptied after the test."""
    cloud = open_cloud("aws")
    assert isinstance(cloud, AwsCloud)
    before = len(cloud.proxy.made)
    yield cloud
    cloud.clear()
    if len(cloud.proxy.made) == before:
        return
    provider = cloud.provider()
    provider.terminate([instance.instance_id for instance in provider.list()])
    assert cloud.leftovers() == []
