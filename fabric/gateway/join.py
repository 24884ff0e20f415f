"""Joining and renewing: the checks, in the order they are made, and what is written to the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.boot.trust import sha256_hex
from fabric.gateway import refusals
from fabric.gateway.book import Book, Intent
from fabric.gateway.credentials import Credentials
from fabric.gateway.lease import Leases
from fabric.gateway.refusals import RefusalError, Versions
from fabric.gateway.requests import JoinRequest, LeaseRequest
from fabric.gateway.throttle import Throttle
from fabric.journal.base import AlreadyAppendedError, Draft, Journal
from fabric.model.events import Event

CLOCK_TOLERANCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a joined node is told about the cluster: the GCS address, and the versions it has to have."""

    ray_address: str
    versions: Versions


class Registrar:
    """Trades tickets for the cluster's secrets and renews leases.

    Args:
        journal: where joins, refusals and renewals are written before they are answered.
        book: the fold of the same journal.
        credentials: the gateway's secrets.
        cluster: what joiners are told and compared with.
        leases: how long machines may live.
        clock: Unix seconds.
    """

    def __init__(
        self,
        journal: Journal,
        book: Book,
        credentials: Credentials,
        cluster: Cluster,
        leases: Leases,
        clock: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._book = book
        self._credentials = credentials
        self._cluster = cluster
        self._leases = leases
        self._clock = clock
        self._throttle = Throttle(every_s=60.0, size=4096)

    def join(self, request: JoinRequest, peer: str) -> dict[str, Any]:
        """Admit a node, or say why not; a refusal is in the journal before it is answered.

        Raises:
            RefusalError: the node may not join (4xx), or not now (503).
            JournalUnavailableError: nothing was decided.
        """
        self._book.refresh()
        intent: Intent | None = None
        try:
            intent = self._who(request)
            self._check(request, intent)
            left_s = self._lease(intent)
            self._write_join(request, intent, left_s)
        except RefusalError as refusal:
            if refusal.status < 500:
                self._write_refusal(refusal, request, intent, peer)
            raise
        return {
            "token": intent.token,
            "cluster_token": self._credentials.cluster_token(),
            "ray_address": self._cluster.ray_address,
            "site": intent.site,
            "node_type": intent.node_type,
            "labels": dict(intent.labels),
            "lease_s": left_s,
            "credential": self._credentials.of(intent.token),
            "server_time": self._clock(),
        }

    def renew(self, request: LeaseRequest) -> dict[str, Any]:
        """Give a node more time, and take its spot notice.

        Raises:
            RefusalError: 401 for a foreign credential, 410 when the machine has to end, 503 when nobody would
                be there to end it.
            JournalUnavailableError: nothing was renewed.
        """
        token = request.token
        if not self._credentials.match(token, request.credential):
            raise refusals.credential_unknown()
        self._book.refresh()
        intent = self._book.by_token(token)
        if intent is None:
            raise refusals.credential_unknown()
        if request.notice is not None:
            self._write_notice(token, request.notice.reclaim_at)
        cause = self._book.over(token)
        if cause is not None:
            raise refusals.launch_ended(token, cause)
        left_s = self._lease(intent)
        until = self._clock() + left_s
        self._journal.append([Draft(Event.LEASE_RENEWED, {"token": token, "until": until})])
        return {"lease_s": left_s, "action": "continue"}

    def _who(self, request: JoinRequest) -> Intent:
        if request.ticket is not None:
            intent = self._book.by_ticket(sha256_hex(request.ticket))
            if intent is None:
                raise refusals.ticket_unknown()
            return intent
        token, credential = request.token or "", request.credential or ""
        intent = self._book.by_token(token) if self._credentials.match(token, credential) else None
        if intent is None:
            raise refusals.credential_unknown()
        return intent

    def _check(self, request: JoinRequest, intent: Intent) -> None:
        now = self._clock()
        cause = self._book.over(intent.token)
        if cause is not None:
            raise refusals.launch_ended(intent.token, cause)
        if request.ticket is not None:
            self._check_ticket(request.nonce, intent, now)
        theirs, ours = Versions(request.python, request.ray), self._cluster.versions
        if theirs.python_minor != ours.python_minor:
            raise refusals.python_version(theirs, ours)
        if theirs.ray != ours.ray:
            raise refusals.ray_version(theirs, ours)
        if abs(request.clock - now) > CLOCK_TOLERANCE_S:
            raise refusals.clock_skew(request.clock - now)
        if request.report_only:
            raise refusals.boot_checks(theirs)

    def _check_ticket(self, nonce: str, intent: Intent, now: float) -> None:
        if self._book.superseded(intent):
            raise refusals.ticket_superseded(intent.token)
        user = self._book.nonce_of(intent.ticket_sha256)
        if user is not None and user != sha256_hex(nonce):
            raise refusals.ticket_used(intent.token)
        # Whoever used it in time and lost the reply may ask again, also after it expired.
        if user is None and now > intent.expires_at:
            raise refusals.ticket_expired(intent.token, now - intent.expires_at)

    def _lease(self, intent: Intent) -> float:
        now = self._clock()
        left_s = self._leases.left_s(intent.owned, now)
        if left_s <= 0:
            raise refusals.controller_silent(self._leases.silent_s(now))
        return left_s

    def _write_join(self, request: JoinRequest, intent: Intent, left_s: float) -> None:
        """Write the join. The ``once`` key of the ticket decides between two machines that come at the same time."""
        nonce_sha256 = sha256_hex(request.nonce)
        until = self._clock() + left_s
        data: dict[str, Any] = {
            "token": intent.token,
            "site": intent.site,
            "node_type": intent.node_type,
            "python": request.python,
            "ray": request.ray,
            "hostname": request.hostname,
            "nonce_sha256": nonce_sha256,
            "lease_until": until,
        }
        once = None
        if request.ticket is not None:
            data["ticket_sha256"] = intent.ticket_sha256
            once = f"ticket:{intent.ticket_sha256}"
        try:
            self._journal.append([Draft(Event.NODE_JOINED, data, once=once)])
        except AlreadyAppendedError as taken:
            if taken.entry.data.get("nonce_sha256") != nonce_sha256:
                raise refusals.ticket_used(intent.token) from None
            self._journal.append([Draft(Event.LEASE_RENEWED, {"token": intent.token, "until": until})])

    def _write_refusal(self, refusal: RefusalError, request: JoinRequest, intent: Intent | None, peer: str) -> None:
        """Write why; a caller that knocks again and again gets one entry a minute, so nobody can flood the journal."""
        subject = peer if intent is None else intent.token
        if not self._throttle.allows((subject, refusal.code), self._clock()):
            return
        data: Mapping[str, Any] = {
            "token": None if intent is None else intent.token,
            "ticket_sha256": None if request.ticket is None else sha256_hex(request.ticket),
            "reason": refusal.code,
            "sentence": refusal.sentence,
            "peer": peer,
            "hostname": request.hostname,
        }
        self._journal.append([Draft(Event.JOIN_REFUSED, data)])

    def _write_notice(self, token: str, reclaim_at: float) -> None:
        """Write a spot notice once, however often the node repeats it."""
        draft = Draft(
            Event.SPOT_NOTICE,
            {"token": token, "reclaim_at": reclaim_at},
            once=f"notice:{token}:{reclaim_at:.0f}",
        )
        try:
            self._journal.append([draft])
        except AlreadyAppendedError:
            return
