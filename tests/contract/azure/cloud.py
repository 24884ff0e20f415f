"""Azure under the provider contract: the real SDK over HTTPS against a server that Microsoft's own types judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autoscaler.providers.azure import AzureProvider
from autoscaler.providers.base import (
    CapacityError,
    CredentialsError,
    Provider,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from fabric.model.nodes import Offer
from tests.contract.azure.serving import SITE, AzureServer
from tests.contract.clouds import Cloud
from tests.sandboxes import unused_port

ROUTES = {"launch": ["machines.put"], "list": ["machines.list"], "terminate": ["machines.get", "machines.delete"]}
QUOTA = (
    "Operation could not be completed as it results in exceeding approved standardNCADSA100v4Family Cores quota. "
    "Additional details - Deployment Model: Resource Manager, Location: westeurope, Current Limit: 24, Current Usage: "
    "24, Additional Required: 24, (Minimum) New Limit Required: 48."
)
SOLD_OUT = (
    "The requested VM size for resource 'Following SKUs have failed for Capacity Restrictions: "
    "Standard_NC24ads_A100_v4' is currently not available in location 'westeurope'. Please try another size."
)
NO_ROOM = {
    CapacityError: {"status": 409, "code": "SkuNotAvailable", "message": SOLD_OUT},
    QuotaError: {"status": 409, "code": "OperationNotAllowed", "message": QUOTA},
}
REFUSALS = {
    ThrottledError: {"status": 429, "code": "TooManyRequests", "headers": {"Retry-After": "3"}},
    CredentialsError: {"status": 403, "code": "AuthorizationFailed", "message": "The client has no authorization."},
}


class AzureCloud(Cloud):
    """A hand on the test server."""

    node_types = frozenset({f"{SITE}.a100x1", f"{SITE}.t4x1", f"{SITE}.small"})
    stranger = "a-machine-that-never-was"

    def __init__(self, server: AzureServer) -> None:
        super().__init__()
        self._server = server
        self._complaints = len(server.ask("complaints"))

    def provider(self, owner: str | None = None, page_size: int = 200) -> Provider:
        # How long a page is, is for Azure alone to say.
        if page_size != 200:
            self._server.ask("page_size", size=page_size)
        return self._server.provider(owner or self.owner)

    def nowhere(self) -> Provider:
        url = f"https://127.0.0.1:{unused_port()}"
        return AzureProvider(SITE, self._server.site(endpoint=url, authority=url), self.owner)

    def refuse(self, error: type[ProviderError], operation: str = "launch", times: int = 1) -> None:
        if error in NO_ROOM:
            self._server.fault("no_room", methods=ROUTES["launch"], times=times, **NO_ROOM[error])
        else:
            self._server.fault("refuse", methods=ROUTES[operation], times=times, **REFUSALS[error])

    def lose_reply(self, operation: str = "launch", times: int = 1) -> None:
        self._server.fault("lose_reply", methods=ROUTES[operation][-1:], times=times)

    def ignore_terminate(self, times: int) -> None:
        self._server.fault("ignore_delete", times=times)

    def hide_new(self, seconds: float) -> None:
        self._server.fault("hide_new", seconds=seconds)

    def clear(self) -> None:
        self._server.ask("clear")
        complaints = self._server.ask("complaints")[self._complaints :]
        assert not complaints, complaints

    def offer(self, runs: bool = False) -> Offer:
        # All of them come up at once.
        return self.provider().offers()[0 if runs else -1]

    def leftovers(self) -> list[str]:
        return self._server.of_owner(self.owner)


@contextmanager
def serve(folder: Path) -> Iterator[Callable[[], Cloud]]:
    """See ``clouds.py``."""
    server = AzureServer(folder).start()
    try:
        yield lambda: AzureCloud(server)
    finally:
        server.stop()
