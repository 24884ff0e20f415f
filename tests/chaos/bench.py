"""What the fast chaos tests share: one sandbox cloud, and around it a controller that is restarted when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from autoscaler.core.lifecycle import InstanceRecord, Phase, fold_instances
from autoscaler.providers.base import TAG_OWNER, TAG_TOKEN
from fabric.journal.base import Draft, Entry
from fabric.journal.sqlite import SqliteJournal
from fabric.model.events import Event
from fabric.money.ledger import fold
from tests.conftest import wait_until
from tests.sandboxes import unused_port

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
fabric: {{name: {owner}}}
defaults: {{data_class: open}}
data_classes: {{open: {{sites: any}}}}
listen: {{gateway: "127.0.0.1:{gateway}", controller: "127.0.0.1:{controller}", reaper: "127.0.0.1:{reaper}"}}
sites:
  home:
    kind: onprem
    node_types: {{box: {{nodes: [a], cpus: 1}}}}
  sky:
    kind: sandbox
    endpoint: 127.0.0.1:{sandbox}
    node_types:
      g1: {{gpus: 1, cpus: 1, boot: 0s, max: 8, zones: [a, b], market: [on-demand],
           price: {{on-demand: 3.61 USD/h, minimum: 2s}}}}
burst:
  baseline: [{{gpus: 1, for: 0s}}]
  close_for: 0s
  hold: 0s
  pending_idle: 500ms
  join_deadline: {join}
  lease: 5s
  grace: {grace}
  refusal_backoff: 1s
"""


class Bench:
    """One owner's fabric: the sandbox is given, the controller and the reaper are processes of this object.

    Args:
        directory: for configuration, journal and logs.
        sandbox: port of the cloud.
        owner: name of this fabric; several share one cloud without seeing each other's machines.
    """

    def __init__(self, directory: Path, sandbox: int, owner: str, join: str = "300s", grace: str = "10s") -> None:
        self.directory = directory
        self.owner = owner
        self.sandbox = sandbox
        self.path = directory / "fabric.yaml"
        ports = {name: unused_port() for name in ("gateway", "controller", "reaper")}
        self.ports = ports
        self.path.write_text(CONFIG.format(owner=owner, sandbox=sandbox, join=join, grace=grace, **ports))
        self.wanted = directory / "wanted"
        self.want(0)
        self.starts = 0
        self._controller: subprocess.Popen[bytes] | None = None
        self._reaper: subprocess.Popen[bytes] | None = None
        self._environment: dict[str, str] = {}

    def want(self, gpus: int) -> None:
        """How many GPUs are asked for."""
        draft = self.wanted.with_suffix(".new")
        draft.write_text(str(gpus))
        draft.replace(self.wanted)

    def crash_at(self, points: Sequence[str]) -> None:
        """The controller is to die once at each of ``points``."""
        mark = str(self.directory / "crashed")
        self._environment = {"FABRIC_CRASH_AT": ",".join(points), "FABRIC_CRASH_MARK": mark}

    def crashed_at(self) -> set[str]:
        """Where it has died so far."""
        return {path.name.removeprefix("crashed.") for path in self.directory.glob("crashed.*")}

    def start(self) -> None:
        """Start the controller."""
        self.starts += 1
        self._controller = self._run("tests.chaos.rig", "controller")

    def start_reaper(self) -> None:
        """Start the reaper."""
        self._reaper = self._run("autoscaler.shell.reap_main", "reaper")

    def kill(self) -> None:
        """``kill -9`` of the controller; nobody starts it again by itself."""
        assert self._controller is not None
        self._controller.kill()
        self._controller.wait()

    def supervised(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        """Wait for ``condition``; a controller that died meanwhile is started again, as a supervisor does."""

        def look() -> object:
            if self._controller is not None and self._controller.poll() is not None:
                self.start()
            return condition()

        wait_until(look, timeout, f"{what} ({self.directory})")

    def unsupervised(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        """Wait for ``condition``; nobody restarts anything."""
        wait_until(condition, timeout, f"{what} ({self.directory})")

    def close(self) -> None:
        """End every process of this object."""
        for process in (self._controller, self._reaper):
            if process is not None:
                process.kill()
                process.wait()

    def entries(self) -> list[Entry]:
        """The journal."""
        journal = self.journal()
        try:
            return list(journal.read())
        finally:
            journal.close()

    def journal(self, clock: Callable[[], float] = time.time) -> SqliteJournal:
        """The journal, opened."""
        return SqliteJournal(self.directory / "state" / "journal.db", "test", clock)

    def records(self) -> dict[str, InstanceRecord]:
        """What the journal says of every launch."""
        return fold_instances(self.entries())

    def living(self) -> list[dict[str, Any]]:
        """What the cloud says is alive."""
        return [instance for instance in self.instances() if instance["state"] != "ended"]

    def over(self) -> bool:
        """Whether no machine lives, and the journal says so of every launch."""
        return not self.living() and all(record.phase is Phase.ENDED for record in self.records().values())

    def known(self) -> list[str]:
        """Tokens of living machines that the journal knows to be there."""
        living = {instance["token"] for instance in self.living()}
        coming = (Phase.BOOTING, Phase.RUNNING)
        return [token for token, record in self.records().items() if token in living and record.phase in coming]

    def instances(self) -> list[dict[str, Any]]:
        """Everything this owner ever had."""
        reply = self._http("GET", "/v1/instances", params={"owner": self.owner, "page": "0", "limit": "500"})
        return reply.json()["instances"]

    def launch_behind_our_back(self, token: str) -> dict[str, Any]:
        """A machine with our tag that no process of ours knows to have made."""
        body = {
            "token": token,
            "node_type": "g1",
            "zone": "a",
            "market": "on-demand",
            "user_data": "#!/bin/sh\nexec sleep 600\n",
            "tags": {TAG_OWNER: self.owner, TAG_TOKEN: token},
        }
        return self._http("POST", "/v1/instances", json=body).json()

    def intend(self, token: str, ago_s: float = 20.0) -> None:
        """An intent of a controller that died right after writing it, some time ago."""
        journal = self.journal(lambda: time.time() - ago_s)
        try:
            intent = {
                "token": token,
                "site": "sky",
                "node_type": "sky.g1",
                "offer": "sky.g1/a/on-demand",
                "zone": "a",
                "market": "on-demand",
                "per_hour": 3_610_000,
                "minimum_seconds": 2,
                "ticket_sha256": "0" * 64,
                "ticket_expires_at": time.time() + 60,
                "join_by": time.time() + 60,
                "request_id": "earlier",
                "labels": {},
            }
            journal.append([Draft(Event.LAUNCH_INTENDED, intent, once=f"token:{token}")])
        finally:
            journal.close()

    def give_up(self, token: str) -> None:
        """Somebody intends the end of a launch, and does no more about it."""
        journal = self.journal()
        try:
            journal.append([Draft(Event.TERMINATE_INTENDED, {"token": token, "cause": "test", "by": "test"})])
        finally:
            journal.close()

    def status(self) -> dict[str, Any]:
        """The controller's status."""
        url = f"http://127.0.0.1:{self.ports['controller']}/status"
        try:
            return httpx.get(url, trust_env=False).json()
        except httpx.TransportError:
            return {"sites": []}

    def fault(self, kind: str, **more: Any) -> None:
        """Script a fault of the cloud."""
        reply = self._http("POST", "/v1/faults", json={"kind": kind, **more})
        assert reply.status_code == 201, reply.text

    def check(self) -> None:
        """What must hold after everything: no machine lives, none was made twice, chain and money are right."""
        records = self.records()
        assert not self.living()
        assert all(record.phase is Phase.ENDED for record in records.values()), records
        made = [instance["token"] for instance in self.instances()]
        assert len(made) == len(set(made))
        assert set(made) <= set(records), "every machine is in the journal"
        journal = self.journal()
        try:
            assert journal.verify() is None
        finally:
            journal.close()
        bill = self._http("GET", "/bill").json()
        ours = sum(line["micro_usd"] for line in bill["lines"] if line["token"] in set(made))
        unpriced = {token for token, record in records.items() if record.intended_at is None}
        unpriced_bill = sum(line["micro_usd"] for line in bill["lines"] if line["token"] in unpriced)
        assert fold(self.entries()).statement(bill["at_ms"]).total == ours - unpriced_bill

    def log(self, name: str = "controller") -> str:
        """What a process printed."""
        return (self.directory / f"{name}.log").read_text()

    def _run(self, module: str, name: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self._environment}
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, "--config", str(self.path)],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _http(self, method: str, path: str, **more: Any) -> httpx.Response:
        return httpx.request(method, f"http://127.0.0.1:{self.sandbox}{path}", trust_env=False, timeout=10, **more)
