"""A whole fabric on this machine for tests, its processes one by one, so that a test can kill any of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from autoscaler.boot.trust import cluster_token_file
from autoscaler.core.lifecycle import InstanceRecord, fold_instances
from fabric.admission.records import JobRecord, step
from fabric.config.reload import read
from fabric.config.schema import Config
from fabric.identity.issue import first_operator_token
from fabric.journal.base import Entry
from fabric.journal.sqlite import SqliteJournal
from tests.conftest import wait_until
from tests.sandboxes import unused_port

MARK = "ELASTIC_TEST_FABRIC"
OBJECT_STORE = "80000000"
CONFIG = """
fabric: {{name: test}}
defaults: {{data_class: open}}
data_classes: {{open: {{sites: any}}}}
listen: {{gateway: "127.0.0.1:{gateway}", controller: "127.0.0.1:{controller}", reaper: "127.0.0.1:{reaper}"}}
ray: {{address: 127.0.0.1, port: {ray}, dashboard: "127.0.0.1:{dashboard}", temp_dir: {temp}, object_store: 80MB}}
sites:
  home:
    kind: onprem
    node_types:
      box: {{nodes: [a], local: true, gpus: {home_gpus}, cpus: 1}}
  sky:
    kind: sandbox
    endpoint: 127.0.0.1:{sandbox}
    node_types:
      g1: {{gpus: 1, cpus: 1, boot: 0s, max: {maximum}, market: [spot, on-demand],
           price: {{on-demand: 3.61 USD/h, spot: 1.27 USD/h, minimum: 2s}}}}
burst:
  baseline: [{{gpus: 1, for: 0s}}]
  close_for: 1s
  hold: 1s
  idle: 3s
  pending_idle: 20s
  join_deadline: {join}
  lease: {lease}
  grace: 5s
  refusal_backoff: 2s
queue: {{backoff: 1s, retries: 2}}
{more}
"""
MODULES = {
    "sandbox": "autoscaler.sandbox.main",
    "gateway": "fabric.gateway.main",
    "controller": "autoscaler.shell.main",
    "reaper": "autoscaler.shell.reap_main",
}


class Fabric:
    """The processes of one fabric; ``close`` ends all of them and everything they started."""

    def __init__(
        self, maximum: int = 2, lease: str = "30s", join: str = "120s", home_gpus: int = 1, more: str = ""
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fab-", dir="/tmp"))
        self.path = self.directory / "fabric.yaml"
        names = ("gateway", "controller", "reaper", "ray", "dashboard", "sandbox", "client")
        self.ports = {name: unused_port() for name in names}
        self.path.write_text(
            CONFIG.format(
                temp=self.directory / "r",
                maximum=maximum,
                lease=lease,
                join=join,
                home_gpus=home_gpus,
                more=more,
                **self.ports,
            )
        )
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._user_token: Path | None = None
        self.token_path = cluster_token_file(self.directory / "state")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FABRIC_"))},
            MARK: str(self.directory),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_path),
            "RAY_enable_autoscaler_v2": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    @property
    def config(self) -> Config:
        """The configuration."""
        loaded = read(self.path)
        assert isinstance(loaded, Config), str(loaded)
        return loaded

    @property
    def ray_address(self) -> str:
        """Where the head listens."""
        return f"127.0.0.1:{self.ports['ray']}"

    def start_head(self) -> None:
        """A head with its Jobs API, as the fabric starts one, with no CPUs for tasks."""
        arguments = {
            "--port": str(self.ports["ray"]),
            "--node-ip-address": "127.0.0.1",
            "--num-cpus": "0",
            "--include-dashboard": "true",
            "--dashboard-host": "127.0.0.1",
            "--dashboard-port": str(self.ports["dashboard"]),
            "--dashboard-agent-listen-port": "0",
            "--dashboard-agent-grpc-port": "0",
            "--runtime-env-agent-port": "0",
            "--metrics-export-port": "0",
            "--ray-client-server-port": str(self.ports["client"]),
            "--labels": "fabric/site=home,fabric/market=owned,fabric/node-type=head",
            "--object-store-memory": OBJECT_STORE,
            "--temp-dir": str(self.directory / "r"),
        }
        flags = [f"{name}={value}" for name, value in arguments.items()]
        self._start(
            "head",
            ["-m", "ray.scripts.scripts", "start", "--head", "--no-monitor", "--block", *flags],
            {"RAY_CLOUD_INSTANCE_ID": "head", "RAY_NODE_TYPE_NAME": "head"},
        )

    def start_home(self) -> None:
        """The on-prem node."""
        self._start("home", ["-m", "fabric.cli.run_node", *self._where, "--site", "home", "--node", "a"])

    def start(self, *names: str, **environment: str) -> None:
        """Start some of ``sandbox``, ``gateway``, ``controller``, ``reaper`` and wait until they answer."""
        self.launch(*names, **environment)
        for name in names:
            url = f"http://127.0.0.1:{self.ports[name]}/healthz"
            wait_until(lambda url=url, name=name: self._answers(name, url), 30, f"{name} ({self.log(name)})")

    def launch(self, *names: str, **environment: str) -> None:
        """Start some of them, and wait for nothing."""
        for name in names:
            self._start(name, ["-m", MODULES[name], *self._where], environment)

    def kill(self, name: str) -> None:
        """``kill -9`` of one process, not of what it started."""
        self.processes[name].kill()
        self.processes[name].wait()

    def kill_tree(self, name: str) -> None:
        """``kill -9`` of a process and everything it started."""
        root = psutil.Process(self.processes[name].pid)
        for process in [root, *root.children(recursive=True)]:
            _kill(process)
        self.processes[name].wait()

    def kill_a_burst_raylet(self) -> bool:
        """``kill -9`` of the raylet of one burst machine; False when there is none."""
        for process in psutil.process_iter():
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                name = process.name()
            except (OSError, psutil.Error):
                continue
            burst = b"RAY_CLOUD_INSTANCE_ID=fab-" in environment
            if name == "raylet" and burst and f"{self.directory}/".encode() in environment:
                _kill(process)
                return True
        return False

    def terminate(self, name: str, timeout: float = 15.0) -> int:
        """SIGTERM; the exit code."""
        self.processes[name].terminate()
        return self.processes[name].wait(timeout)

    def alive(self, name: str) -> bool:
        """Whether a process runs."""
        return self.processes[name].poll() is None

    def log(self, name: str) -> Path:
        """What a process printed."""
        return self.directory / f"{name}.log"

    def status(self) -> dict[str, Any]:
        """The controller's status."""
        return self.get("controller", "/status")

    def get(self, name: str, path: str) -> Any:
        """The JSON at a path of one of the processes."""
        return httpx.get(f"http://127.0.0.1:{self.ports[name]}{path}", trust_env=False, timeout=10).json()

    def metrics(self, name: str) -> str:
        """The Prometheus page of a process."""
        return httpx.get(f"http://127.0.0.1:{self.ports[name]}/metrics", trust_env=False, timeout=10).text

    def fault(self, kind: str, **more: Any) -> None:
        """Script a fault of the sandbox cloud."""
        url = f"http://127.0.0.1:{self.ports['sandbox']}/v1/faults"
        reply = httpx.post(url, json={"kind": kind, **more}, trust_env=False)
        assert reply.status_code == 201, reply.text

    def bill(self) -> dict[str, Any]:
        """The sandbox cloud's meter."""
        return self.get("sandbox", "/bill")

    def entries(self) -> list[Entry]:
        """The journal."""
        with self.journal() as journal:
            return list(journal.read())

    def records(self) -> dict[str, InstanceRecord]:
        """What the journal says of every launch of the cloud."""
        records = fold_instances(self.entries())
        return {token: record for token, record in records.items() if not token.startswith("onprem/")}

    @property
    def user_token(self) -> Path:
        """File with the token of whoever runs the tests: a user and an operator, in no team."""
        if self._user_token is None:
            with self.journal() as journal:
                self._user_token = first_operator_token(self.directory / "state", journal, "tester")
        return self._user_token

    @contextlib.contextmanager
    def journal(self) -> Iterator[SqliteJournal]:
        """The journal, opened."""
        journal = SqliteJournal(self.config.fabric.journal.removeprefix("sqlite:"), "test")
        try:
            yield journal
        finally:
            journal.close()

    def jobs(self) -> dict[str, JobRecord]:
        """What the journal says of every job."""
        jobs: dict[str, JobRecord] = {}
        for entry in self.entries():
            step(jobs, entry)
        return jobs

    def submit(self, entrypoint: str, **more: Any) -> str:
        """Submit a job to the gateway, as a user does; its id."""
        reply = self.as_user("POST", "/api/jobs/", json={"entrypoint": entrypoint, **more})
        assert reply.status_code == 200, reply.text
        return reply.json()["submission_id"]

    def stop(self, job: str) -> None:
        """Ask the gateway to stop a job."""
        reply = self.as_user("POST", f"/api/jobs/{job}/stop")
        assert reply.status_code == 200, reply.text

    def over(self, *jobs: str) -> bool:
        """Whether nothing more will happen to these jobs."""
        records = self.jobs()
        return all(job in records and records[job].phase.is_over for job in jobs)

    def kept_log(self, job: str, attempt: int = 1) -> str:
        """What was copied of what an attempt printed."""
        return (self.directory / "state" / "jobs" / job / f"attempt-{attempt}.log").read_text()

    def as_user(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request to the gateway with the user's token."""
        headers = {"Authorization": f"Bearer {self.user_token.read_text()}"}
        url = f"http://127.0.0.1:{self.ports['gateway']}{path}"
        return httpx.request(method, url, headers=headers, trust_env=False, timeout=30, **more)

    def at_ray(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request straight to Ray's dashboard, past the gateway, with the cluster's own token."""
        headers = {"Authorization": f"Bearer {self.token_path.read_text().strip()}"}
        url = f"http://127.0.0.1:{self.ports['dashboard']}{path}"
        return httpx.request(method, url, headers=headers, trust_env=False, timeout=30, **more)

    def ray_job(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Ray's own job command against the gateway, as a user runs it."""
        environment = {
            **self.environment,
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.ports['gateway']}",
            "RAY_AUTH_TOKEN_PATH": str(self.user_token),
        }
        command = [sys.executable, "-m", "ray.scripts.scripts", "job", *arguments]
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
        )
        try:
            output, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            raise AssertionError(
                f"{arguments}: {output}{errors}\n{self.log('controller').read_text()[-6000:]}"
            ) from None
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def run_driver(self, source: str, *arguments: str) -> subprocess.Popen[bytes]:
        """A Ray program against this cluster; ``ADDRESS`` is in its environment."""
        return self._start("driver", ["-c", source, *arguments], {"ADDRESS": self.ray_address})

    def ray(self, *arguments: str) -> str:
        """Output of a ray command."""
        command = [sys.executable, "-m", "ray.scripts.scripts", *arguments, "--address", self.ray_address]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    def close(self) -> None:
        """End everything of this fabric, whoever started it."""
        if "sandbox" in self.processes and self.alive("sandbox"):
            self.processes["sandbox"].send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while (left := self._left()) and time.monotonic() < deadline:
            for process in left:
                if process.pid != self._pid("sandbox") or time.monotonic() > deadline - 5:
                    _kill(process)
            time.sleep(0.05)
        for process in self.processes.values():
            process.wait(5)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _left(self) -> list[psutil.Process]:
        needles = (f"{MARK}={self.directory}".encode(), f"{self.directory}/".encode())
        found = []
        for process in psutil.process_iter():
            try:
                content = Path(f"/proc/{process.pid}/environ").read_bytes()
                content += Path(f"/proc/{process.pid}/cmdline").read_bytes()
                zombie = process.status() == psutil.STATUS_ZOMBIE
            except (OSError, psutil.Error):
                continue
            if process.pid != os.getpid() and not zombie and any(needle in content for needle in needles):
                found.append(process)
        return found

    @property
    def _where(self) -> tuple[str, str]:
        return ("--config", str(self.path))

    def _pid(self, name: str) -> int:
        return self.processes[name].pid if name in self.processes else 0

    def _start(
        self, name: str, arguments: Sequence[str], environment: dict[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *arguments],
                env={**self.environment, **(environment or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.directory,
            )
        return self.processes[name]

    def _answers(self, name: str, url: str) -> bool:
        assert self.alive(name), self.log(name).read_text()[-3000:]
        try:
            return httpx.get(url, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
