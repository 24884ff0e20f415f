"""What the gateway knows of every launch: a fold of the journal, kept up by reading its tail."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.lifecycle import InstanceRecord, Phase, step
from fabric.journal.base import Entry, Journal
from fabric.model.events import Event
from fabric.model.nodes import Market

CONTROLLER = "controller"


@dataclass(frozen=True, slots=True)
class Intent:
    """One ``launch.intended``: what a ticket may become.

    Attributes:
        token: the launch, or ``onprem/<site>/<node>``.
        site, node_type, labels: what the node will be.
        owned: a machine of one's own; its lease never ends it.
        market: how the machine is had, a ``Market``; ``""`` where the journal does not say.
        ticket_sha256: digest of the ticket that was made for it.
        expires_at: Unix seconds until which the ticket is good.
    """

    token: str
    site: str
    node_type: str
    owned: bool
    ticket_sha256: str
    expires_at: float
    market: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class Book:
    """Tickets, launches and their ends, as the journal tells them. Safe to use from several threads."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._seq = 0
        self._tickets: dict[str, Intent] = {}
        self._latest: dict[str, Intent] = {}
        self._nonces: dict[str, str] = {}
        self._records: dict[str, InstanceRecord] = {}
        self._controller_at: float | None = None

    def refresh(self) -> None:
        """Read what was appended since the last call.

        Raises:
            JournalUnavailableError: the journal cannot be read.
        """
        with self._lock:
            for entry in self._journal.read(after=self._seq):
                self._take(entry)
                self._seq = entry.seq

    def by_ticket(self, ticket_sha256: str) -> Intent | None:
        """Find the launch a ticket was made for."""
        return self._tickets.get(ticket_sha256)

    def by_token(self, token: str) -> Intent | None:
        """Find the newest intent of a launch token."""
        return self._latest.get(token)

    def superseded(self, intent: Intent) -> bool:
        """Whether a newer ticket was made for the same node, which makes this one worthless."""
        return self._latest[intent.token].ticket_sha256 != intent.ticket_sha256

    def nonce_of(self, ticket_sha256: str) -> str | None:
        """Digest of the nonce of whoever used the ticket; None while nobody has."""
        return self._nonces.get(ticket_sha256)

    def over(self, token: str) -> str | None:
        """Why a node with this token has to end; None while it may live."""
        record = self._records.get(token)
        if record is None or record.phase not in (Phase.ENDING, Phase.ENDED):
            return None
        return record.cause or str(record.phase)

    def joined(self, token: str) -> bool:
        """Whether the token has ever been joined with."""
        record = self._records.get(token)
        return record is not None and record.joined_at is not None

    def controller_seen_at(self) -> float | None:
        """When the controller last appended anything: it was alive then (Unix seconds)."""
        return self._controller_at

    def _take(self, entry: Entry) -> None:
        if entry.actor == CONTROLLER:
            self._controller_at = max(entry.at, self._controller_at or entry.at)
        token = entry.data.get("token")
        if not isinstance(token, str) or not token:
            return
        record = self._records.get(token) or InstanceRecord(token)
        # Only the phase counts here; a node of one's own is issued tickets for ever, and oddities would pile up.
        self._records[token] = replace(step(record, entry)[0], oddities=())
        if entry.kind == Event.LAUNCH_INTENDED:
            intent = _intent(token, entry)
            self._tickets[intent.ticket_sha256] = self._latest[token] = intent
        elif entry.kind == Event.NODE_JOINED and entry.data.get("ticket_sha256"):
            self._nonces[str(entry.data["ticket_sha256"])] = str(entry.data.get("nonce_sha256", ""))


def _intent(token: str, entry: Entry) -> Intent:
    data = entry.data
    return Intent(
        token=token,
        site=str(data.get("site", "")),
        node_type=str(data.get("node_type", "")),
        owned=data.get("market") == Market.OWNED,
        market=str(data.get("market", "")),
        ticket_sha256=str(data.get("ticket_sha256", "")),
        expires_at=float(data.get("ticket_expires_at") or 0.0),
        labels={str(key): str(value) for key, value in (data.get("labels") or {}).items()},
    )
