"""The sandbox under the provider contract: a real server process, and its own scripted faults."""

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
from autoscaler.providers.sandbox import SandboxProvider
from fabric.model.money import MicroUSD
from fabric.model.nodes import Offer
from tests.contract.clouds import Cloud
from tests.sandboxes import SITE, SandboxServer, unused_port

_FAULTS = {
    CapacityError: "capacity",
    QuotaError: "quota",
    ThrottledError: "throttled",
    CredentialsError: "credentials",
}


class SandboxCloud(Cloud):
    """A hand on the sandbox server."""

    node_types = frozenset({f"{SITE}.quick", f"{SITE}.slow"})
    stranger = "i-that-never-was"

    def __init__(self, server: SandboxServer) -> None:
        super().__init__()
        self._server = server

    def provider(self, owner: str | None = None, page_size: int = 200) -> Provider:
        return self._server.provider(owner or self.owner, page_size)

    def nowhere(self) -> Provider:
        return SandboxProvider(SITE, "http://127.0.0.1:1", self.owner)

    def refuse(self, error: type[ProviderError], operation: str = "launch", times: int = 1) -> None:
        kind = _FAULTS[error]
        more = {"operation": operation} if kind in ("throttled", "credentials") else {}
        self._server.script(kind, times=times, **more)

    def lose_reply(self, operation: str = "launch", times: int = 1) -> None:
        self._server.script("lost_reply", operation=operation, times=times)

    def ignore_terminate(self, times: int) -> None:
        self._server.script("ignore_terminate", times=times)

    def hide_new(self, seconds: float) -> None:
        self._server.script("unlisted", **{"for": f"{seconds}s"})

    def clear(self) -> None:
        self._server.clear_faults()

    def offer(self, runs: bool = False) -> Offer:
        wanted = "quick" if runs else "slow"
        return next(offer for offer in self.provider().offers() if offer.node_type == f"{SITE}.{wanted}")

    def billed(self, owner: str) -> dict[str, MicroUSD]:
        """What the cloud charges for each token's instance."""
        bill = self._server.get(f"/bill?owner={owner}")
        assert bill["total_micro_usd"] == sum(line["micro_usd"] for line in bill["lines"])
        return {line["token"]: line["micro_usd"] for line in bill["lines"]}


@contextmanager
def serve(folder: Path) -> Iterator[Callable[[], SandboxCloud]]:
    """See ``tests.contract.clouds``."""
    server = SandboxServer(folder, unused_port()).start()
    yield lambda: SandboxCloud(server)
    assert server.stop() == 0
