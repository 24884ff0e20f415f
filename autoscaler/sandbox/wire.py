"""What goes over the wire: the request and reply bodies of the sandbox cloud's API, times in Unix milliseconds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from autoscaler.providers.base import InstanceState
from autoscaler.sandbox.errors import ErrorCode
from autoscaler.sandbox.store import Record
from fabric.model.nodes import Market

USER_DATA_LIMIT = 16 * 1024
TAG_LIMIT = 50
PAGE_LIMIT = 1000

Bought = Literal[Market.SPOT, Market.ON_DEMAND]
TagText = Annotated[str, Field(max_length=256)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class Body(BaseModel):
    """A JSON object with no key that is not listed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LaunchRequest(Body):
    """Ask for one instance.

    The token makes the call idempotent: the same token with the same node type, zone and market is answered with
    the instance it made, also after that has ended; with others it is refused.
    """

    token: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    node_type: Text = Field(description="`<site>.<key>`, or the key alone")
    zone: Text
    market: Bought
    user_data: str = Field(description="a sh script, at most 16 KiB, run when the machine has booted")
    tags: dict[TagText, TagText] = Field(default={}, max_length=TAG_LIMIT)


class InstanceView(Body):
    """One instance as the cloud shows it."""

    id: str
    token: str
    site: str
    node_type: str
    zone: str
    market: Bought
    offer: str
    tags: dict[str, str]
    state: InstanceState
    address: str
    reason: str = Field(description="why it ended, or is ending")
    per_hour_micro_usd: int = Field(description="price at launch")
    minimum_seconds: int
    launched_at_ms: int = Field(description="charged from here")
    running_at_ms: int | None
    ended_at_ms: int | None = Field(description="charged until here")
    reclaim_at_ms: int | None = Field(description="a spot notice stands: the cloud takes it back then")

    @staticmethod
    def of(record: Record, site: str) -> InstanceView:
        """The public side of a record."""
        return InstanceView(
            id=record.id,
            token=record.token,
            site=site,
            node_type=record.node_type,
            zone=record.zone,
            market=record.market,  # pyright: ignore[reportArgumentType] - only sold markets are stored
            offer=record.offer_id,
            tags=dict(record.tags),
            state=record.state,
            address=record.address,
            reason=record.reason,
            per_hour_micro_usd=record.tariff.per_hour,
            minimum_seconds=record.tariff.minimum_seconds,
            launched_at_ms=record.launched_at_ms,
            running_at_ms=record.running_at_ms,
            ended_at_ms=record.ended_at_ms,
            reclaim_at_ms=record.reclaim_at_ms,
        )


class InstancePage(Body):
    """Some instances in order of launch, and where to go on; an instance there throughout is on exactly one page."""

    instances: list[InstanceView]
    next: str | None = Field(description="pass as `page` for what follows; null on the last page")


class OfferView(Body):
    """Something that can be bought now, if there is capacity."""

    id: str
    node_type: str
    zone: str
    market: Bought
    per_hour_micro_usd: int
    minimum_seconds: int
    boot_seconds: float
    gpus: int
    gpu: str | None
    cpus: int
    memory_bytes: int | None


class Offers(Body):
    """The price list as of now."""

    site: str
    offers: list[OfferView]


class PriceView(Body):
    """A new instance of this offer costs this from ``at_ms`` on."""

    at_ms: int
    node_type: str
    zone: str
    market: Bought
    per_hour_micro_usd: int
    cause: str


class BillLine(Body):
    """What one instance costs: begun seconds at the price of its launch, at least the minimum, rounded up once."""

    instance: str
    token: str
    node_type: str
    offer: str
    market: Bought
    launched_at_ms: int
    ended_at_ms: int | None
    open: bool = Field(description="still running: counted up to now")
    seconds: int = Field(description="charged seconds")
    per_hour_micro_usd: int
    micro_usd: int


class Bill(Body):
    """The meter: every instance there ever was."""

    site: str
    at_ms: int
    lines: list[BillLine]
    open_instances: int
    total_micro_usd: int


class Identity(Body):
    """What a machine can read about itself."""

    instance_id: str
    site: str
    node_type: str
    zone: str
    market: Bought
    address: str
    launched_at_ms: int


class SpotNotice(Body):
    """The cloud takes this instance back at ``reclaim_at`` (Unix seconds)."""

    reclaim_at: float
    reclaim_at_ms: int


class Health(Body):
    """The server is up."""

    ok: bool
    site: str
    live_instances: int


class ErrorDetail(Body):
    """The code is for programs, the message for people."""

    code: ErrorCode
    message: str


class ErrorBody(Body):
    """Every reply that is not a success."""

    error: ErrorDetail
