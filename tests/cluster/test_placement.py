"""Placement on a real Ray cluster: everything a job does with Ray stays where the job was admitted to."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from fabric.config.schema import Config
from fabric.model.jobs import JobRequest
from fabric.sovereignty.dress import ray_submission
from tests.conftest import wait_until
from tests.sandboxes import unused_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

MARK = "ELASTIC_TEST_PLACEMENT"
WORKING_DIR = Path(__file__).parent / "placement_job"
CONFIG = Config.model_validate(
    {
        "sites": {
            "home": {"kind": "onprem", "node_types": {"box": {"nodes": ["a"], "cpus": 1}}},
            "burst": {
                "kind": "sandbox",
                "node_types": {"c1": {"cpus": 1, "max": 1, "price": {"on-demand": "1 USD/h"}}},
            },
        },
        "burst": {"baseline": [{"cpus": 1, "for": "0s"}]},
        "data_classes": {"patient": {"sites": ["home"], "spot": "never"}, "open": {"sites": "any"}},
    }
)
EVERYWHERE = frozenset({"home", "burst"})
# What a job can only get elsewhere it never gets.
NEVER = {
    "selector_that_contradicts",
    "fallback_strategy_that_contradicts",
    "node_affinity_hard",
    "node_label_strategy",
    "actor_pinned_to_the_burst_node",
    "placement_group_that_contradicts",
    "placement_group_across_strictly",
}


class Cluster:
    """A head at home and a burst node with more room, both plain Ray."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="plc-", dir="/tmp"))
        self.gcs, self.dashboard = unused_port(), unused_port()
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.url = f"http://127.0.0.1:{self.dashboard}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "FABRIC_"))},
            MARK: str(self.directory),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def start(self) -> None:
        """Both nodes, side by side, until the head lists both."""
        ports = {"dashboard-agent-listen-port": 0, "dashboard-agent-grpc-port": 0, "runtime-env-agent-port": 0}
        common = {**ports, "metrics-export-port": 0, "object-store-memory": 100_000_000, "num-gpus": 0}
        self._node(
            "head",
            {
                **common,
                "port": self.gcs,
                "node-ip-address": "127.0.0.1",
                "dashboard-host": "127.0.0.1",
                "dashboard-port": self.dashboard,
                "ray-client-server-port": unused_port(),
                "temp-dir": self.directory / "r",
                "num-cpus": 3,
                "labels": "fabric/site=home,fabric/market=owned",
            },
            "--head",
            "--no-monitor",
        )
        wait_until(lambda: self._answers("/api/version"), 60, "the head to answer")
        burst = {"address": f"127.0.0.1:{self.gcs}", "num-cpus": 6, "labels": "fabric/site=burst,fabric/market=spot"}
        # Of its own, or both nodes would share the folder into which Ray unpacks the code of jobs.
        burst["temp-dir"] = self.directory / "b"
        self._node("burst", {**common, **burst})
        wait_until(lambda: len(self.get("/nodes?view=summary")["data"]["summary"]) == 2, 60, "the burst node to join")

    def upload(self) -> str:
        """The user's working directory as Ray's own client would upload it."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path in WORKING_DIR.rglob("*.py"):
                archive.write(path, path.relative_to(WORKING_DIR))
        name = "_ray_pkg_0123456789abcdef.zip"
        reply = httpx.put(f"{self.url}/api/packages/gcs/{name}", content=packed.getvalue(), trust_env=False)
        assert reply.status_code == 200, reply.text
        return f"gcs://{name}"

    def submit(self, body: dict[str, Any]) -> str:
        """Ray's own submit request; the submission id."""
        reply = httpx.post(f"{self.url}/api/jobs/", json=body, trust_env=False, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply.json()["submission_id"]

    def finish(self, job: str, timeout: float = 200.0) -> tuple[str, str]:
        """Wait for the end of a job: its status and what its driver printed."""
        deadline = time.monotonic() + timeout
        while self.get(f"/api/jobs/{job}")["status"] not in ("SUCCEEDED", "FAILED"):
            if time.monotonic() > deadline:
                pytest.fail(f"{job} did not end; it is {self.get(f'/api/jobs/{job}')}, {self.logs(job)[-3000:]}")
            time.sleep(0.2)
        return self.get(f"/api/jobs/{job}")["status"], self.logs(job)

    def logs(self, job: str) -> str:
        """What the driver of a job has printed so far."""
        return self.get(f"/api/jobs/{job}/logs").get("logs", "")

    def get(self, path: str) -> Any:
        """The JSON at a path of the dashboard."""
        return httpx.get(f"{self.url}{path}", trust_env=False, timeout=30).json()

    def close(self) -> None:
        """End everything that carries this cluster's mark."""
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.directory):
                    process.send_signal(signal.SIGKILL)
            except psutil.Error:
                continue
        for node in self.nodes:
            node.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _node(self, name: str, options: dict[str, object], *flags: str) -> None:
        arguments = [f"--{option}={value}" for option, value in options.items()]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *flags, *arguments]
        with (self.directory / f"{name}.log").open("wb") as log:
            started = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.nodes.append(started)

    def _answers(self, path: str) -> bool:
        try:
            return httpx.get(f"{self.url}{path}", trust_env=False, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def code(cluster: Cluster) -> str:
    return cluster.upload()


def dressed(job: str, data_class: str, entrypoint: str, runtime_env: dict[str, Any], **more: Any) -> dict[str, Any]:
    submission = {"entrypoint": entrypoint, "runtime_env": runtime_env, **more}
    request = JobRequest(job=job, user="ada", team="clinic", data_class=data_class, at=0.0, submission=submission)
    return ray_submission(request, 1, EVERYWHERE, CONFIG, "badge")


@pytest.fixture(scope="module")
def sovereign(cluster: Cluster, code: str) -> dict[str, Any]:
    """What the whole job of a class that stays home printed."""
    hook = {"worker_process_setup_hook": "hooks.of_the_submission"}
    body = dressed("sovereign", "patient", f"{sys.executable} job.py", {"working_dir": code, **hook})
    return result(*cluster.finish(cluster.submit(body)))


def result(status: str, printed: str) -> dict[str, Any]:
    assert status == "SUCCEEDED", printed[-4000:]
    print(printed)
    return json.loads(next(line for line in printed.splitlines() if line.startswith("RESULT ")).removeprefix("RESULT "))


def kinds() -> list[str]:
    lines = (WORKING_DIR / "job.py").read_text().splitlines()
    return [lines[n + 1].removeprefix("def ").removesuffix("():") for n, line in enumerate(lines) if line == "@kind"]


@pytest.mark.parametrize("kind", kinds())
def test_what_a_sovereign_job_runs_stays_home_while_the_burst_node_is_free(
    sovereign: dict[str, Any], kind: str
) -> None:
    ran = sovereign["ran"][kind]
    assert set(ran) == ({"never"} if kind in NEVER else {"home"}), "\n".join(map(str, ran))


def test_the_users_own_hook_sitecustomize_and_modules_are_what_they_would_be(sovereign: dict[str, Any]) -> None:
    assert sovereign["driver"] == {
        "driver": "home",
        "fabric": "the user's",
        "ray_tools": "the user's",
        "sitecustomize": "ran",
        "argv": ["job.py"],
    }
    assert sovereign["worker"] == {
        "SITECUSTOMIZE_OF_THE_USER": "ran",
        "HOOK_OF_THE_SUBMISSION": "ran",
        "HOOK_OF_RAY_INIT": None,
        "fabric": "the user's",
        "ray_tools": "the user's",
    }


def test_an_open_job_runs_on_both_sides_and_a_hook_given_to_ray_init_runs_as_well(cluster: Cluster, code: str) -> None:
    env = {"working_dir": code, "env_vars": {"WITH_A_HOOK_IN_RAY_INIT": "1"}}
    body = dressed("open", "open", f"{sys.executable} job.py spread", env)
    told = result(*cluster.finish(cluster.submit(body)))
    assert set(told["ran"]["spread"]) == {"home", "burst"}
    assert told["worker"]["HOOK_OF_RAY_INIT"] == "ran"


GANG = """
import ray
from fabric.placement import GangTimeoutError, WrongClassError, data_class, gang, selector, sites
ray.init(log_to_driver=False)
print(data_class(), sites(), selector()["fabric/site"])
whole = gang([{"CPU": 1}] * 2, timeout_s=30)
labels = {node["NodeID"]: node["Labels"] for node in ray.nodes()}
placed = ray.util.placement_group_table(whole)["bundles_to_node_id"].values()
print("GANG", *sorted({labels[node]["fabric/site"] for node in placed}))
for wrong in ({"data_class": "patient"}, {"timeout_s": 1}):
    try:
        gang([{"CPU": 3}] * 3, **wrong)
    except (WrongClassError, GangTimeoutError) as error:
        print(type(error).__name__, error)
"""


def test_code_that_asks_for_a_gang_gets_it_whole_in_one_site(cluster: Cluster) -> None:
    body = dressed("gang", "open", f"{sys.executable} -c {shlex.quote(GANG)}", {})
    status, printed = cluster.finish(cluster.submit(body))
    assert status == "SUCCEEDED", printed
    assert "open ('burst', 'home') in(burst,home)" in printed
    assert "GANG home\n" in printed or "GANG burst\n" in printed
    assert "This code is for data of class patient, and the job was admitted with open." in printed
    assert "3 bundles were not all placed within 1 s" in printed
