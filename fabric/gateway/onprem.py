"""Tickets for machines of one's own: the same join as a cloud machine's, without anything being bought."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from autoscaler.boot.trust import Ticket, new_ticket
from fabric.journal.base import Draft, Journal
from fabric.model.events import Event
from fabric.model.nodes import Market

TICKET_LIFE_S = 3600.0


def onprem_token(site: str, node: str) -> str:
    """Name an on-prem node for ever; also its Ray cloud instance id."""
    return f"onprem/{site}/{node}"


def issue_onprem_ticket(
    journal: Journal,
    *,
    site: str,
    node_type: str,
    node: str,
    clock: Callable[[], float],
    labels: Mapping[str, str] | None = None,
    life_s: float = TICKET_LIFE_S,
    make: Callable[[], Ticket] = new_ticket,
) -> tuple[str, Ticket]:
    """Make a join ticket for one on-prem node; the newest ticket of a node is the only one that works.

    The entry is a ``launch.intended`` with market ``owned`` and price 0: folds that look for instances that were
    bought must pass over it.

    Args:
        journal: where the intent is written before the ticket is returned.
        site: name of the on-prem site.
        node_type: its Ray node type, ``<site>.<key>``.
        node: its name or address in the configuration.
        clock: Unix seconds.
        labels: Ray labels of the node.
        life_s: seconds for which the ticket is good.
        make: source of tickets.

    Returns:
        The node's token, and the ticket.

    Raises:
        JournalUnavailableError: no ticket was made.
    """
    token, ticket, now = onprem_token(site, node), make(), clock()
    data = {
        "token": token,
        "site": site,
        "node_type": node_type,
        "offer": "",
        "zone": "",
        "market": Market.OWNED.value,
        "per_hour": 0,
        "minimum_seconds": 0,
        "ticket_sha256": ticket.sha256,
        "ticket_expires_at": now + life_s,
        "join_by": None,
        "request_id": "",
        "labels": dict(labels or {}),
    }
    journal.append([Draft(Event.LAUNCH_INTENDED, data)])
    return token, ticket
