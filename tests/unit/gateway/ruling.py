"""A gateway that rules on workers, as a real server over a real journal; a test writes Ray's table of jobs."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import uvicorn

from autoscaler.boot.link import GatewayLink
from autoscaler.boot.trust import guard_key_file
from fabric.admission.wire import needs_data
from fabric.config.schema import Config
from fabric.gateway.app import build_app
from fabric.gateway.book import Book
from fabric.gateway.credentials import Credentials
from fabric.gateway.guard import Guard
from fabric.gateway.jobs.register import JobRegister
from fabric.gateway.join import Cluster, Registrar
from fabric.gateway.lease import Leases
from fabric.gateway.ray_table import RayJobRow, RayTableError
from fabric.gateway.refusals import Versions
from fabric.journal.base import Draft, Entry
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from fabric.model.jobs import Needs, ray_id_of
from fabric.sovereignty.badge import ATTEMPT, BADGE, JOB, badge
from fabric.telemetry.emit import Metrics

CONFIG: dict[str, Any] = {
    "sites": {
        "home": {"kind": "onprem", "node_types": {"box": {"nodes": ["a"], "cpus": 1}}},
        "annex": {"kind": "onprem", "node_types": {"box": {"nodes": ["b"], "cpus": 1}}},
        "sky": {"kind": "sandbox", "node_types": {"c": {"cpus": 1, "max": 9, "price": {"on-demand": "1 USD/h"}}}},
    },
    "burst": {"baseline": [{"cpus": 1, "for": "0s"}]},
    "defaults": {"data_class": "open"},
    "data_classes": {
        "open": {"sites": "any"},
        "steady": {"sites": "any", "spot": "never"},
        "patient": {"sites": ["home"]},
    },
}
NODES = {"fab-spot": ("sky", "spot"), "fab-steady": ("sky", "on-demand"), "onprem/home/a": ("home", "owned")}
NODES |= {"onprem/annex/b": ("annex", "owned"), "fab-unclear": ("sky", "")}
OURS = "02000000"


class Table:
    """Ray's table of jobs; the tests write it."""

    def __init__(self) -> None:
        self.rows: dict[str, RayJobRow] = {}
        self.down = False

    def find(self, ray_job_id: str) -> RayJobRow | None:
        if self.down:
            raise RayTableError("the head is away")
        return self.rows.get(ray_job_id)


class Ruling:
    """A gateway with its guard, asked as the agents ask it."""

    def __init__(self, folder: Path) -> None:
        self.config = Config.model_validate(CONFIG)
        self.journal = SqliteJournal(folder / "journal.db", "test")
        self.key = guard_key_file(folder).read_bytes()
        self.table = Table()
        self._credentials = Credentials(folder)
        book, register = Book(self.journal), JobRegister(self.journal)
        guard = Guard(
            self.journal,
            book,
            self._credentials,
            lambda: self.config,
            register,
            self.table,
            guard_key_file(folder),
        )
        leases = Leases(lambda: 60.0, time.time)
        cluster = Cluster("127.0.0.1:1", Versions("3.11.0", "2.60.0"))
        registrar = Registrar(self.journal, book, self._credentials, cluster, leases, time.time)
        app = build_app(registrar, dict, Metrics(), guard=guard)
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.link = GatewayLink(self.url, "")
        for token, (site, market) in NODES.items():
            data = {"token": token, "site": site, "node_type": f"{site}.x", "market": market, "ticket_sha256": token}
            self.journal.append([Draft(Event.LAUNCH_INTENDED, data)])

    def admit(self, job: str, data_class: str, attempt: int = 1) -> dict[str, str]:
        """A submission that was admitted; what its processes carry."""
        submitted = {"job": job, "user": "u", "team": "t", "data_class": data_class, "needs": needs_data(Needs())}
        admitted = {"job": job, "attempt": attempt, "ray_id": ray_id_of(job, attempt), "sites": ["sky"]}
        drafts = [Draft(Event.JOB_ADMITTED, {**admitted, "selector": {}, "reasons": [], "price_per_hour": 0})]
        if attempt == 1:
            drafts.insert(0, Draft(Event.JOB_SUBMITTED, {**submitted, "submission": {}, "code": {}}))
        self.journal.append(drafts)
        return {JOB: job, ATTEMPT: str(attempt), BADGE: badge(self.key, job, attempt)}

    def ray_job(self, variables: dict[str, str], submission: str = "", namespace: str = "n") -> None:
        """What Ray registered for the Ray job that is asked about."""
        self.table.rows[OURS] = RayJobRow(submission, variables, namespace)

    def ask(
        self, node: str = "fab-steady", *, quiet: bool = False, claim: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer about that Ray job on one node."""
        message = {"token": node, "credential": self._credentials.of(node)}
        asks = [{"ray_job_id": OURS, "claim": claim or {}, "quiet": quiet}]
        answer = self.link.post("/v1/guard", {**message, "asks": asks})
        assert answer.status == 200, answer
        return {**answer.body["answers"][0], "when_silent": answer.body["when_silent"]}

    def denials(self) -> list[Entry]:
        return [entry for entry in self.journal.read() if entry.kind == Event.JOB_DENIED]

    def credential(self, node: str) -> str:
        """What the agent of a node shows."""
        return self._credentials.of(node)

    def be_silent(self) -> None:
        """Stop answering."""
        self._server.should_exit = True
        self._thread.join()

    def close(self) -> None:
        self.be_silent()
        self.journal.close()
