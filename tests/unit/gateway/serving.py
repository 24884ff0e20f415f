"""A gateway as a real server over a real journal, whose clock and controller a test can move."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from autoscaler.boot.trust import Ticket, ensure_certificate, new_ticket
from fabric.gateway.app import build_app
from fabric.gateway.book import Book
from fabric.gateway.credentials import Credentials
from fabric.gateway.join import Cluster, Registrar
from fabric.gateway.lease import Leases
from fabric.gateway.refusals import Versions
from fabric.journal.base import Draft, Entry
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from fabric.telemetry.emit import Metrics

OURS = Versions("3.11.7", "2.60.0")
LEASE_S = 90.0


class Gateway:
    """Serves until ``close``. ``ahead_s`` moves its clock; ``controller_silent_s``: how long the controller is dead."""

    def __init__(self, folder: Path, *, tls: bool = False, journal: Any = None, ours: Versions | None = None) -> None:
        self.ahead_s = 0.0
        self.controller_silent_s: float | None = 0.0
        self.lease_s = LEASE_S
        self.state = folder / "state"
        self.journal = SqliteJournal(self.state / "journal.db", "test")
        self.credentials = Credentials(self.state)
        self.metrics = Metrics()
        store = journal or self.journal
        book = Book(store)
        leases = Leases(lambda: self.lease_s, self._seen_at)
        cluster = Cluster("127.0.0.1:6379", ours or OURS)
        registrar = Registrar(store, book, self.credentials, cluster, leases, self.now)
        app = build_app(registrar, lambda: {"ok": True, "journal_seq": store.last_seq()}, self.metrics)
        self._socket = socket.create_server(("127.0.0.1", 0))
        options = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        self.fingerprint = ""
        if tls:
            pair = ensure_certificate(self.state, "127.0.0.1")
            options.ssl_certfile, options.ssl_keyfile = str(pair.certificate), str(pair.key)
            self.fingerprint = pair.fingerprint
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(options)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        self.http = httpx.Client(base_url=self.url, verify=False, trust_env=False)

    def now(self) -> float:
        return time.time() + self.ahead_s

    def intend(self, token: str, *, market: str = "spot", life_s: float = 600.0) -> Ticket:
        """What the controller writes before it asks a cloud for a machine."""
        ticket = new_ticket()
        intent = {
            "token": token,
            "site": "sky",
            "node_type": "sky.box",
            "market": market,
            "per_hour": 1_000_000,
            "ticket_sha256": ticket.sha256,
            "ticket_expires_at": self.now() + life_s,
            "labels": {"fabric/site": "sky"},
        }
        self.journal.append([Draft(Event.LAUNCH_INTENDED, intent)])
        return ticket

    def end(self, token: str) -> None:
        self.journal.append([Draft(Event.TERMINATE_INTENDED, {"token": token, "cause": "idle", "by": "controller"})])

    def join(self, **changes: Any) -> httpx.Response:
        """Ask to join as a healthy machine would, but for ``changes``; None drops a field."""
        message = {
            "nonce": "n" * 32,
            "python": OURS.python,
            "ray": OURS.ray,
            "clock": self.now(),
            "hostname": "box",
        } | changes
        return self.http.post("/v1/join", json={key: value for key, value in message.items() if value is not None})

    def renew(self, token: str, credential: str, **more: Any) -> httpx.Response:
        return self.http.post("/v1/lease", json={"token": token, "credential": credential, **more})

    def entries(self, kind: Event) -> list[Entry]:
        return [entry for entry in self.journal.read() if entry.kind == kind]

    def close(self) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self.journal.close()

    def _seen_at(self) -> float | None:
        return None if self.controller_silent_s is None else self.now() - self.controller_silent_s
