"""The test server of this folder's tests, and what each of them gets of it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator

import pytest

from autoscaler.providers.base import TAG_NODE_TYPE, TAG_OFFER, TAG_OWNER, TAG_TOKEN, LaunchSpec
from fabric.model.nodes import Offer
from tests.contract.azure.serving import AzureServer

MakeSpec = Callable[..., LaunchSpec]


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """One server for all tests of this folder."""
    server = AzureServer(tmp_path_factory.mktemp("azure")).start()
    yield server
    server.stop()


@pytest.fixture
def azure(azure_server: AzureServer) -> Iterator[AzureServer]:
    """The server, well again after the test, and without complaints about either side."""
    before = len(azure_server.ask("complaints"))
    yield azure_server
    azure_server.ask("clear")
    complaints = azure_server.ask("complaints")[before:]
    assert not complaints, complaints


@pytest.fixture
def owner() -> str:
    """An owner that no other test uses."""
    return f"owner-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def spec(azure: AzureServer, owner: str) -> MakeSpec:
    """Makes launches: of the cheapest offer, or of the one given."""
    cheapest = azure.provider(owner).offers()[-1]
    numbers = itertools.count()

    def make(
        offer: Offer | None = None, token: str | None = None, user_data: str = "#!/bin/sh\n", **more: object
    ) -> LaunchSpec:
        offer, token = offer or cheapest, token or f"{owner}-{next(numbers)}"
        tags = {TAG_OWNER: owner, TAG_TOKEN: token, TAG_NODE_TYPE: offer.node_type, TAG_OFFER: offer.offer_id}
        return LaunchSpec(token, offer, user_data, tags, **more)

    return make
