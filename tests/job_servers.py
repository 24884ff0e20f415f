"""A gateway with the Jobs API as a real server over a real journal, with tokens; a test plays the controller."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from autoscaler.boot.trust import ensure_certificate
from fabric.admission.records import ray_id_of
from fabric.config.reload import read
from fabric.config.schema import Config
from fabric.gateway.app import build_app
from fabric.gateway.book import Book
from fabric.gateway.credentials import Credentials
from fabric.gateway.join import Cluster, Registrar
from fabric.gateway.lease import Leases
from fabric.gateway.main import jobs_api
from fabric.gateway.refusals import Versions
from fabric.identity.issue import create_token
from fabric.journal.base import Draft, Entry, Journal
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from fabric.model.jobs import Role
from fabric.telemetry.emit import Metrics
from tests.sandboxes import unused_port

CONFIG = """
fabric: {{name: test}}
defaults: {{data_class: inside}}
listen: {{gateway: "127.0.0.1:{gateway}", controller: "127.0.0.1:{controller}"}}
ray: {{dashboard: "127.0.0.1:{dashboard}"}}
sites:
  home: {{kind: onprem, node_types: {{box: {{nodes: [a], gpus: 8, cpus: 8}}}}}}
  sky: {{kind: sandbox, endpoint: "127.0.0.1:1", node_types: {{g: {{cpus: 1, max: 1, market: [on-demand],
        price: {{on-demand: 1 USD/h}}}}}}}}
burst: {{baseline: [{{gpus: 1, for: 0s}}]}}
data_classes: {{open: {{sites: any}}, inside: {{sites: [home]}}, away: {{sites: [sky]}}}}
teams:
  vision: {{data_class: open, max_priority: 50}}
  clinic: {{data_class: inside}}
datasets:
  slides: {{site: home, size: 1GiB, data_class: inside}}
queue: {{waiting: {waiting}}}
access: {{requests_per_second: {rate}, requests_burst: {burst}, body: 64kB, upload: 2MB, uploads: {uploads}}}
"""


class JobServer:
    """Serves until ``close``. What the controller would do is written into the journal by hand."""

    def __init__(
        self,
        folder: Path,
        *,
        waiting: int = 1000,
        rate: float = 10_000.0,
        burst: int = 10_000,
        uploads: str = "20MB",
        dashboard: int | None = None,
        controller: int | None = None,
        journal: Journal | None = None,
        tls: bool = False,
    ) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        port = self._socket.getsockname()[1]
        path = folder / "fabric.yaml"
        ports = {"gateway": port, "controller": controller or unused_port(), "dashboard": dashboard or unused_port()}
        path.write_text(CONFIG.format(waiting=waiting, rate=rate, burst=burst, uploads=uploads, **ports))
        config = read(path)
        assert isinstance(config, Config), str(config)
        self.config = config
        self.state = folder / "state"
        self.journal = journal or SqliteJournal(self.state / "journal.db", "test")
        self.tokens = {
            "ada": self.token("ada", "vision", Role.USER),
            "ben": self.token("ben", "clinic", Role.USER),
            "ops": self.token("ops", "", Role.USER, Role.OPERATOR),
            "eve": self.token("eve", "", Role.AUDITOR),
        }
        self.certificate = ensure_certificate(self.state, "127.0.0.1") if tls else None
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
        self._serve()

    def token(self, user: str, team: str, *roles: Role) -> str:
        return create_token(self.journal, user, team, frozenset(roles), None, "test")[1]

    def http(self, user: str = "ada") -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.tokens[user]}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)

    def client(self, user: str = "ada") -> Any:
        """Ray's own client."""
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(self.url, headers={"Authorization": f"Bearer {self.tokens[user]}"})

    def ray(self, *arguments: str, user: str = "ada", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Ray's own command line."""
        return subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "job", *arguments],
            env=self.environment(user),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def environment(self, user: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FABRIC_"))}
        return {
            **kept,
            "RAY_API_SERVER_ADDRESS": self.url,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.tokens[user],
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def entries(self, kind: Event) -> list[Entry]:
        return [entry for entry in self.journal.read() if entry.kind == kind]

    def admit(self, job: str, attempt: int = 1) -> None:
        data = {
            "job": job,
            "attempt": attempt,
            "ray_id": ray_id_of(job, attempt),
            "sites": ["home"],
            "selector": {},
            "reasons": [],
            "price_per_hour": 0,
            "session": "s",
        }
        self._append(Event.JOB_ADMITTED, data)

    def start(self, job: str, attempt: int = 1, driver: str = "02000000") -> None:
        self.admit(job, attempt)
        data = {"job": job, "attempt": attempt, "ray_id": ray_id_of(job, attempt), "ray_job_id": driver}
        self._append(Event.JOB_STARTED, data)

    def printed(self, job: str, text: str, attempt: int = 1) -> None:
        """What the copier of logs does."""
        path = self.state / "jobs" / job / f"attempt-{attempt}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def end_attempt(self, job: str, attempt: int = 1, end: str = "lost", message: str = "The node a was lost.") -> None:
        data = {"job": job, "attempt": attempt, "end": end, "message": message, "cause": "x", "retry_at": 0.0}
        self._append(Event.ATTEMPT_ENDED, data)

    def finish(self, job: str, phase: str = "succeeded", message: str = "Job finished successfully.") -> None:
        self._append(Event.JOB_FINISHED, {"job": job, "phase": phase, "message": message})

    def restart(self) -> None:
        """End the server and start another one over the same state."""
        self._end()
        self._socket = socket.create_server(("127.0.0.1", int(self.url.rpartition(":")[2])))
        self._serve()

    def close(self) -> None:
        self._end()
        self.journal.close()

    def _append(self, kind: Event, data: dict[str, Any]) -> None:
        seq = self.journal.append([Draft(kind, data)])[-1].seq
        self.api.register.refresh(seq)

    def _serve(self) -> None:
        store = self.journal
        credentials = Credentials(self.state)
        self.metrics = Metrics()
        book = Book(store)
        leases = Leases(lambda: 60.0, time.time)
        registrar = Registrar(
            store, book, credentials, Cluster("127.0.0.1:6379", Versions("3.11.7", "2.60.0")), leases, time.time
        )
        self.api = jobs_api(store, lambda: self.config, credentials.cluster_token, self.metrics, time.time)
        self.app = build_app(registrar, lambda: {"ok": True}, self.metrics, self.api)
        self.api.register.start()
        options = uvicorn.Config(self.app, log_config=None, access_log=False)
        if self.certificate is not None:
            options.ssl_certfile, options.ssl_keyfile = str(self.certificate.certificate), str(self.certificate.key)
        self._server = uvicorn.Server(options)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    def _end(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self.api.register.stop()


@contextlib.contextmanager
def job_server(folder: Path, **options: Any) -> Iterator[JobServer]:
    """A server for one test."""
    server = JobServer(folder, **options)
    try:
        yield server
    finally:
        server.close()
