"""Google Cloud under the provider contract: the real SDK over HTTP against a server that Google's own schema judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autoscaler.providers.base import (
    CapacityError,
    CredentialsError,
    Provider,
    ProviderError,
    QuotaError,
    ThrottledError,
)
from autoscaler.providers.gcp import GcpProvider
from autoscaler.providers.gcp.request import LABEL_OWNER, label_value
from fabric.model.nodes import Offer
from tests.contract.clouds import Cloud
from tests.contract.gcp.catalog import ZONES
from tests.contract.gcp.serving import SITE, GcpServer, site
from tests.sandboxes import unused_port

METHODS = {
    "launch": ["compute.instances.insert"],
    "list": ["compute.instances.aggregatedList"],
    "terminate": ["compute.instances.delete"],
}
REFUSALS = {
    ThrottledError: {"status": 403, "reason": "rateLimitExceeded", "message": "Rate Limit Exceeded"},
    CredentialsError: {"status": 403, "reason": "forbidden", "message": "Required 'compute.x.y' permission"},
}
OPERATION_CODES = {
    CapacityError: "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    QuotaError: "QUOTA_EXCEEDED",
}


class GcpCloud(Cloud):
    """A hand on the test server."""

    node_types = frozenset({f"{SITE}.l4x1", f"{SITE}.t4x2", f"{SITE}.small"})
    stranger = f"{ZONES[0]}/fab-that-never-was"

    def __init__(self, server: GcpServer) -> None:
        super().__init__()
        self._server = server
        self._complaints = len(server.ask("complaints"))

    def provider(self, owner: str | None = None, page_size: int = 200) -> Provider:
        return self._server.provider(owner or self.owner, page_size=page_size)

    def nowhere(self) -> Provider:
        return GcpProvider(SITE, site({"endpoint": f"http://127.0.0.1:{unused_port()}"}), self.owner)

    def refuse(self, error: type[ProviderError], operation: str = "launch", times: int = 1) -> None:
        if error in OPERATION_CODES:
            self._server.fault("operation", methods=METHODS["launch"], code=OPERATION_CODES[error], times=times)
        else:
            self._server.fault("refuse", methods=METHODS[operation], times=times, **REFUSALS[error])

    def lose_reply(self, operation: str = "launch", times: int = 1) -> None:
        self._server.fault("lose_reply", methods=METHODS[operation], times=times)

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
        state = self._server.ask("state")
        mine = label_value(self.owner)
        return [
            f"{kind} {key}"
            for kind in ("instances", "disks")
            for key, one in state[kind].items()
            if one["labels"].get(LABEL_OWNER) == mine
        ]


@contextmanager
def serve(folder: Path) -> Iterator[Callable[[], Cloud]]:
    """See ``clouds.py``."""
    server = GcpServer(folder).start()
    try:
        yield lambda: GcpCloud(server)
    finally:
        server.stop()
