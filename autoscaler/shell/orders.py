"""From a node type and an offer to everything one launch needs: token, ticket, intent, boot script."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from autoscaler.boot.script import BootSpec, render
from autoscaler.boot.trust import gateway_endpoint, new_ticket
from autoscaler.providers.base import TAG_NODE_TYPE, TAG_OFFER, TAG_OWNER, TAG_TOKEN, LaunchSpec
from fabric.config.resolve import node_types
from fabric.config.schema import Config
from fabric.config.sites import SandboxSite
from fabric.journal.base import Draft
from fabric.model.events import Event
from fabric.model.nodes import Offer

# Many sandbox machines share one real one: each takes the smallest object store that Ray accepts.
_SANDBOX_OBJECT_STORE = 80_000_000


@dataclass(frozen=True, slots=True)
class Order:
    """One launch, ready to be made: the intent to write first, then what to ask the cloud for.

    Attributes:
        token: names it for ever.
        join_by: Unix seconds by which the node must have joined.
        intent: the journal entry; it holds the ticket's digest, never the ticket.
        spec: what the provider is given.
    """

    token: str
    join_by: float
    intent: Draft
    spec: LaunchSpec


class OrderDesk:
    """Writes orders under the current configuration.

    Args:
        config: the configuration in force.
        clock: Unix seconds.
    """

    def __init__(self, config: Callable[[], Config], clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._python = f"{sys.version_info.major}.{sys.version_info.minor}"
        self._ray = version("ray")

    def order(self, offer: Offer, request_id: str) -> Order:
        """Make one order; a new token and a new ticket each time."""
        config, now = self._config(), self._clock()
        node_type = node_types(config)[offer.node_type]
        token, ticket = f"fab-{secrets.token_hex(10)}", new_ticket()
        labels = dict(node_type.labels)
        join_by = now + config.burst.join_deadline
        intent = {
            "token": token,
            "site": offer.site,
            "node_type": offer.node_type,
            "offer": offer.offer_id,
            "zone": offer.zone,
            "market": str(offer.market),
            "per_hour": offer.tariff.per_hour,
            "minimum_seconds": offer.tariff.minimum_seconds,
            "ticket_sha256": ticket.sha256,
            "ticket_expires_at": join_by,
            "join_by": join_by,
            "request_id": request_id,
            "labels": labels,
        }
        state = Path(config.fabric.state)
        gateway = gateway_endpoint(state, config.listen.gateway, config.ray.address)
        sandbox = isinstance(config.sites[offer.site], SandboxSite)
        script = render(
            BootSpec(
                token=token,
                site=offer.site,
                node_type=offer.node_type,
                ticket=ticket.text,
                gateway=gateway.url,
                fingerprint=gateway.fingerprint,
                python=self._python,
                ray=self._ray,
                resources=node_type.resources.to_dict(),
                labels=labels,
                lease_s=config.burst.lease,
                boot_deadline_s=config.burst.join_deadline,
                object_store_bytes=_SANDBOX_OBJECT_STORE if sandbox else None,
            )
        )
        tags = {
            TAG_OWNER: config.fabric.name,
            TAG_TOKEN: token,
            TAG_NODE_TYPE: offer.node_type,
            TAG_OFFER: offer.offer_id,
        }
        draft = Draft(Event.LAUNCH_INTENDED, intent, once=f"token:{token}")
        return Order(token, join_by, draft, LaunchSpec(token, offer, script, tags))
