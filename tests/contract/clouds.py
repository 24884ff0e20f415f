"""The clouds that the provider contract is held against, and what a test needs of each.

A cloud joins the suite with a module of its own and one line in ``CLOUDS``. The module has

    @contextmanager
    def serve(folder: Path) -> Iterator[Callable[[], Cloud]]:

which starts the test server (once for all tests; it may take seconds) with ``folder`` for its files, yields a function
that makes a fresh ``Cloud`` with an owner of its own for one test, and stops the server at the end. After each test
``clear`` is called and everything the owner still has is terminated; what ``leftovers`` then names fails the test.
"""

from __future__ import annotations

import itertools
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from autoscaler.providers.base import (
    TAG_NODE_TYPE,
    TAG_OFFER,
    TAG_OWNER,
    TAG_TOKEN,
    LaunchSpec,
    Provider,
    ProviderError,
)
from fabric.model.nodes import Offer

SLEEP = "#!/bin/sh\nexec sleep 600\n"

# kind of cloud: the module that serves it
CLOUDS: Mapping[str, str] = MappingProxyType(
    {
        "sandbox": "tests.contract.sandbox_cloud",
        "example": "tests.contract.example_cloud",
        "aws": "tests.contract.aws.cloud",
        "gcp": "tests.contract.gcp.cloud",
        "azure": "tests.contract.azure.cloud",
    }
)


class Cloud(ABC):
    """A test's hand on one cloud: providers for it, its faults, and a look behind its API.

    ``operation`` is one of ``launch``, ``list``, ``terminate``, whatever the cloud calls it. Faults that strike a
    number of times count the calls of that operation by any provider.

    Attributes:
        owner: value of the owner tag; no other test uses it.
        node_types: what ``offers`` sells, at least two, as ``<site>.<key>``.
        stranger: an instance id of the cloud's own form that no instance has.
    """

    node_types: frozenset[str]
    stranger: str

    def __init__(self) -> None:
        self.owner = f"owner-{uuid.uuid4().hex[:8]}"
        self._numbers = itertools.count()

    @abstractmethod
    def provider(self, owner: str | None = None, page_size: int = 200) -> Provider:
        """A provider for this cloud, made as ``from_site`` makes it; its listings come in pages of about that size."""

    @abstractmethod
    def nowhere(self) -> Provider:
        """A provider whose cloud does not answer: connections to it are refused."""

    @abstractmethod
    def refuse(self, error: type[ProviderError], operation: str = "launch", times: int = 1) -> None:
        """Make the next calls fail in the cloud's own words for ``error``: capacity, quota, throttled, credentials.

        Capacity and quota refuse launches of tokens that are new; a known token is still answered with its instance.
        """

    @abstractmethod
    def lose_reply(self, operation: str = "launch", times: int = 1) -> None:
        """Carry out the next such calls and close the connection without a reply."""

    @abstractmethod
    def ignore_terminate(self, times: int) -> None:
        """Accept the next calls to terminate, and do nothing."""

    @abstractmethod
    def hide_new(self, seconds: float) -> None:
        """Leave instances made from now on out of every listing for that long, as eventual consistency does."""

    @abstractmethod
    def clear(self) -> None:
        """Take back every fault, hidden instances included."""

    @abstractmethod
    def offer(self, runs: bool = False) -> Offer:
        """Something to buy. ``runs``: its instances come up at once; else any that costs the test machine little."""

    def leftovers(self) -> list[str]:
        """What exists in the cloud for this owner beside instances that live: disks, NICs, addresses, templates, …"""
        return []

    def spec(self, offer: Offer | None = None, token: str | None = None, owner: str | None = None) -> LaunchSpec:
        """A launch of something that runs ``sleep``, with the tags that the fabric gives."""
        offer = offer or self.offer()
        token = token or f"{self.owner}-{next(self._numbers)}"
        tags = {
            TAG_OWNER: owner or self.owner,
            TAG_TOKEN: token,
            TAG_NODE_TYPE: offer.node_type,
            TAG_OFFER: offer.offer_id,
        }
        return LaunchSpec(token=token, offer=offer, user_data=SLEEP, tags=tags)


def serve(kind: str, folder: Path) -> AbstractContextManager[Callable[[], Cloud]]:
    """Start the test cloud of a kind."""
    return import_module(CLOUDS[kind]).serve(folder)
