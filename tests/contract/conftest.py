"""The clouds that the provider contract is held against.

A new provider joins the suite with one class here: it says how to reach a test cloud, how to make it refuse, and
how to read its meter.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from autoscaler.providers.base import (
    TAG_OWNER,
    TAG_TOKEN,
    CapacityError,
    CredentialsError,
    LaunchSpec,
    Provider,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from autoscaler.providers.sandbox import SandboxProvider
from fabric.model.money import MicroUSD
from fabric.model.nodes import Offer
from tests.sandboxes import SITE, SandboxServer, unused_port

SLEEP = "#!/bin/sh\nexec sleep 600\n"


class Cloud(Protocol):
    """A test's hand on one cloud; every test has an owner of its own."""

    owner: str
    node_types: set[str]

    def provider(self, owner: str | None = None, page_size: int = 200) -> Provider:
        """A provider for this cloud."""
        ...

    def nowhere(self) -> Provider:
        """A provider whose cloud does not answer."""
        ...

    def refuse(self, error: type[ProviderError], operation: str = "launch", times: int = 1) -> None:
        """Make the next calls fail this way."""
        ...

    def lose_reply(self, operation: str = "launch") -> None:
        """Carry out the next such call and lose its reply."""
        ...

    def ignore_terminate(self, times: int) -> None:
        """Accept the next calls to terminate, and do nothing."""
        ...

    def runs(self, offer: Offer) -> bool:
        """Whether an instance of this offer comes up at once (others stay pending)."""
        ...

    def billed(self, owner: str) -> dict[str, MicroUSD]:
        """What the cloud charges for each token's instance."""
        ...

    def spec(self, offer: Offer | None = None, token: str | None = None, owner: str | None = None) -> LaunchSpec:
        """A launch of something that runs ``sleep``."""
        ...


class SandboxCloud:
    """The sandbox: a real server process."""

    def __init__(self, server: SandboxServer) -> None:
        self.node_types = {f"{SITE}.quick", f"{SITE}.slow"}
        self.owner = f"owner-{uuid.uuid4().hex[:8]}"
        self._server = server
        self._numbers = itertools.count()

    def provider(self, owner: str | None = None, page_size: int = 200) -> Provider:
        return self._server.provider(owner or self.owner, page_size)

    def nowhere(self) -> Provider:
        return SandboxProvider(SITE, "http://127.0.0.1:1", self.owner)

    def refuse(self, error: type[ProviderError], operation: str = "launch", times: int = 1) -> None:
        kind = {
            CapacityError: "capacity",
            QuotaError: "quota",
            ThrottledError: "throttled",
            CredentialsError: "credentials",
        }[error]
        more = {"operation": operation} if kind in ("throttled", "credentials") else {}
        self._server.script(kind, times=times, **more)

    def lose_reply(self, operation: str = "launch") -> None:
        self._server.script("lost_reply", operation=operation, times=1)

    def ignore_terminate(self, times: int) -> None:
        self._server.script("ignore_terminate", times=times)

    def runs(self, offer: Offer) -> bool:
        return offer.node_type == f"{SITE}.quick"

    def billed(self, owner: str) -> dict[str, MicroUSD]:
        bill = self._server.get(f"/bill?owner={owner}")
        assert bill["total_micro_usd"] == sum(line["micro_usd"] for line in bill["lines"])
        return {line["token"]: line["micro_usd"] for line in bill["lines"]}

    def spec(self, offer: Offer | None = None, token: str | None = None, owner: str | None = None) -> LaunchSpec:
        offer = offer or next(o for o in self.provider().offers() if self.runs(o))
        token = token or f"{self.owner}-{next(self._numbers)}"
        tags = {TAG_OWNER: owner or self.owner, TAG_TOKEN: token}
        return LaunchSpec(token=token, offer=offer, user_data=SLEEP, tags=tags)


@pytest.fixture(scope="session")
def sandbox_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    server = SandboxServer(tmp_path_factory.mktemp("sandbox"), unused_port()).start()
    yield server
    assert server.stop() == 0


@pytest.fixture(params=["sandbox"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """Each cloud in turn; after the test its faults are cleared and the owner's instances ended."""
    clouds: dict[str, Callable[[], Cloud]] = {
        "sandbox": lambda: SandboxCloud(request.getfixturevalue("sandbox_server"))
    }
    cloud = clouds[request.param]()
    yield cloud
    if request.param == "sandbox":
        request.getfixturevalue("sandbox_server").clear_faults()
    provider = cloud.provider()
    provider.terminate([instance.instance_id for instance in provider.list()])
