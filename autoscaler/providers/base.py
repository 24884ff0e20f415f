"""The provider contract: five methods, and the errors that mean something.

A provider is thin. It speaks one cloud's API and nothing else: no retries across offers, no journal, no clock
of its own. Who decides, who remembers and who pays is elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from fabric.model.nodes import Offer

TAG_OWNER = "fabric-owner"
TAG_TOKEN = "fabric-token"  # noqa: S105 - the name of a tag, not a secret
TAG_NODE_TYPE = "fabric-node-type"
TAG_OFFER = "fabric-offer"


class InstanceState(StrEnum):
    """What a provider says about an instance."""

    PENDING = "pending"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Instance:
    """One machine as the provider lists it.

    Attributes:
        instance_id: the provider's id.
        site: the site the provider serves.
        state: ENDED instances are listed for a while after their end, so that their end time can be read.
        tags: every tag, ours among them.
        address: where it can be reached; ``""`` while unknown.
        launched_at_ms: Unix milliseconds from which the cloud charges.
        ended_at_ms: Unix milliseconds until which it charged; None while it still does.
        reason: the cloud's word for why it ended (``spot reclaim``, ``user``, …).
    """

    instance_id: str
    site: str
    state: InstanceState
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    address: str = ""
    launched_at_ms: int = 0
    ended_at_ms: int | None = None
    reason: str = ""

    @property
    def token(self) -> str:
        """Our launch token; ``""`` on an instance that is not ours."""
        return self.tags.get(TAG_TOKEN, "")


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One launch.

    Attributes:
        token: idempotency key and tag. The same token never makes two instances.
        offer: what to buy.
        user_data: the boot script, at most 16 KiB.
        tags: tags for everything created; the provider adds those of its site's block, and none of its own.
        longest_s: seconds after which the cloud itself should end the instance, where it knows such a deadline; None
            for none. The lease ends machines much earlier; this is for the day on which nothing of ours is alive.
    """

    token: str
    offer: Offer
    user_data: str
    tags: Mapping[str, str]
    longest_s: int | None = None


class ProviderError(Exception):
    """Base of everything a provider may raise.

    Args:
        message: the cloud's own words.
        cloud_code: the cloud's own code.
        retry_after_s: seconds after which the cloud says to come back; None where it does not say.
        family: what the refusal is about, as far as the cloud says: of a quota the family of machines that shares it
            (``aws G and VT on-demand``), of throttling the API; ``""`` where it is about the one offer or unknown.
    """

    code = "provider"

    def __init__(
        self, message: str, *, cloud_code: str = "", retry_after_s: float | None = None, family: str = ""
    ) -> None:
        super().__init__(f"{message} ({cloud_code})" if cloud_code else message)
        self.message = message
        self.cloud_code = cloud_code
        self.retry_after_s = retry_after_s
        self.family = family


class CapacityError(ProviderError):
    """The cloud has no such machine there now. Try the next offer; remember the refusal."""

    code = "capacity"


class QuotaError(ProviderError):
    """The account may not have more of this family. Other families and clouds may still serve."""

    code = "quota"


class ThrottledError(ProviderError):
    """Too many calls. Slow this API down; nothing is known about capacity."""

    code = "throttled"


class CredentialsError(ProviderError):
    """The cloud does not accept who we are or what we may do. Stop and tell a person; never fail over."""

    code = "credentials"


class BadRequestError(ProviderError):
    """The cloud refuses what we asked as malformed. A configuration mistake: stop and tell a person."""

    code = "bad_request"


class NetworkError(ProviderError):
    """No answer. The call may or may not have been carried out: only the token tells."""

    code = "network"


class NotFoundError(ProviderError):
    """No such instance: for ``terminate`` this is success."""

    code = "not_found"


class ProviderBugError(ProviderError):
    """The provider code met something it does not understand. Never retried blindly."""

    code = "provider_bug"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a preflight: what was looked at, whether it is well, and what to do if not."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


class Provider(Protocol):
    """One site's cloud. Every method may block on the network and is called from worker threads only."""

    def offers(self) -> Sequence[Offer]:
        """What can be bought now, with prices. Never a promise of capacity."""
        ...

    def launch(self, specs: Sequence[LaunchSpec]) -> Sequence[Instance | ProviderError]:
        """Ask for one instance per spec; results in the order of ``specs``, errors as values.

        Idempotent by token: a token that already has an instance returns that instance, also after its end.
        """
        ...

    def list(self) -> Sequence[Instance]:
        """Every instance with our owner tag, all pages, lately ended ones included."""
        ...

    def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, ProviderError | None]:
        """Ask for the end of each; None where the cloud accepted, ``NotFoundError`` where it is already gone.

        Accepted is not ended: callers repeat until ``list`` says ENDED or no longer has it.
        """
        ...

    def check(self) -> Sequence[Check]:
        """Preflight: credentials, permissions, reachability, quota; never raises."""
        ...
